"""What is demanded of inversion and style on real networks and photographs; slow, half an hour on two cores."""

from __future__ import annotations

import pytest
import torch
from benchmarks.inversion import measure, photographs
from torch import Tensor

from inward import Network, load, style
from inward.columns.texture import gram
from tests.trained import data_folder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600), pytest.mark.usefixtures("shared_data")]
PAIRS = (("astronaut", "immunohistochemistry"), ("chelsea", "brick"), ("coffee", "hubble_deep_field"))
STYLE_AT = ("relu", "lrn2", "mixed3b", "mixed4e")
PASSES = 100


@pytest.fixture(scope="module")
def net() -> Network:
    return load("inward/inception_v1", weights=data_folder() / "weights" / "inception_v1.safetensors", device="cpu")


@pytest.mark.parametrize(("point", "most"), [("conv2", 0.006), ("mixed3b", 0.035)])
def test_inversion_of_ten_photographs(net: Network, point: str, most: float) -> None:
    """The squared distance as a share of the energy, 300 passes; and below what a plain loop reaches."""
    row = measure(net, photographs(), point)
    assert row["error"] <= most  # type: ignore[operator]
    assert row["error"] < row["plain_error"]  # type: ignore[operator]


def photograph(name: str, longest: int = 256) -> Tensor:
    from PIL import Image
    from skimage import data

    picture = Image.fromarray(getattr(data, name)()).convert("RGB")
    factor = longest / max(picture.size)
    picture = picture.resize((round(picture.width * factor), round(picture.height * factor)), Image.Resampling.BICUBIC)
    shown = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    return shown.view(1, picture.height, picture.width, 3).permute(0, 3, 1, 2).contiguous().float() / 255


class Loop:
    """The plain loop from the paper: pixels, PyTorch's L-BFGS without a line search, clipped at the end."""

    def __init__(self, net: Network, content: Tensor, given: Tensor, weights: dict[str, float]) -> None:
        self.net, self.weights = net, weights
        self.kept = net.trace(content, ["mixed3b"])["mixed3b"].detach()
        trace = net.trace(given, list(weights))
        self.matrices = {name: gram(trace[name].detach()) for name in weights}

    def losses(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Of the content, as a share of the energy; of the style, the weighted sum of the paper's."""
        (*found, last) = self.net.run(image, [*self.weights, "mixed3b"])
        content = (last - self.kept).square().sum() / self.kept.square().sum()
        pairs = zip(found, self.weights.items(), strict=True)
        terms = [w * (gram(f) - self.matrices[n]).square().sum() / (4 * f.shape[1] ** 2) for f, (n, w) in pairs]
        return content, torch.stack(terms).sum()

    def run(self, start: Tensor) -> Tensor:
        image = start.clone().requires_grad_(True)
        optimizer = torch.optim.LBFGS([image], max_iter=PASSES, max_eval=PASSES)

        def closure() -> Tensor:
            optimizer.zero_grad()
            content, manner = self.losses(image)
            (content + 10 * manner).backward()
            image.grad = image.grad.contiguous()  # type: ignore[union-attr]
            return content + 10 * manner

        optimizer.step(closure)  # type: ignore[arg-type]
        return image.detach().clamp(0, 1)


@pytest.mark.parametrize(("content", "manner"), PAIRS)
def test_style_beside_a_plain_loop(net: Network, content: str, manner: str) -> None:
    """The same number of passes and the same sum of losses.

    Both losses end lower than those of the paper's loop, which starts from white noise. Let the loop start from the
    content, as inward does, and its sum and its style are the higher ones, whichever of the two it does more for.
    """
    picture, given = photograph(content), photograph(manner)
    found = style(
        net, picture, style=given, content_at="mixed3b", style_at=" + ".join(STYLE_AT), scales=1, steps=PASSES
    )
    loop = Loop(net, picture, given, {name: found.weights[name][0, 0].item() for name in STYLE_AT})
    white = torch.rand(picture.shape, generator=torch.Generator().manual_seed(0))
    made = [loop.run(white), loop.run(picture)]
    with torch.no_grad():
        ours, paper, kind = (loop.losses(one) for one in (found.made[:, 0], *made))
    assert ours[0] < paper[0]
    assert ours[1] < paper[1]
    assert ours[1] < kind[1]
    assert ours[0] + 10 * ours[1] < kind[0] + 10 * kind[1]
