"""The demo: a small network trained on real handwritten digits in seconds, and a look inside it.

It needs no download: the 1,797 digits come with scikit-learn. Everything on the page is computed
by the same functions that every user calls.
"""

from __future__ import annotations

import io
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress
from safetensors.torch import save_file
from torch import Tensor, nn

from inward import architecture, draw
from inward.errors import InwardError
from inward.figures import named, signed_sum
from inward.methods.attacks import targeted_attack
from inward.methods.predict import predict
from inward.methods.saliency import saliency
from inward.methods.visualize import visualize
from inward.nets.digits import Digits, digits
from inward.network.load import load
from inward.network.network import Network
from inward.results import Perturbation
from inward.terminal import progress_bar
from inward.types import Images

_TRAINED, _EPOCHS, _BATCH = 1437, 30, 32
_AT_LEAST = 128
_EPS = 0.2


def run(out: Path, *, seed: int = 0) -> Path:
    """Trains, looks, and writes the page; gives its path.

    Raises InwardError where ``out`` cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InwardError(f"{out} cannot be written ({error.strerror}); give another --out") from error
    images, labels = _data()
    with progress_bar() as bar:
        module = train(images[:_TRAINED], labels[:_TRAINED], seed, bar)
        weights = out / "digits.safetensors"
        _save(module, weights)
        net = load("inward/digits", weights=weights)
        tests, answers = images[_TRAINED:], labels[_TRAINED:]
        task = bar.add_task("looking inside", total=4)
        sections = []
        for section in (_architecture, _units, _reasons, _attacks):
            sections.append(section(net, tests, answers, out))
            bar.advance(task)
    page = out / "index.html"
    draw.save_page(draw.page("inward: a look inside a small network", sections), page)
    return page.resolve()


def _data() -> tuple[Images, Tensor]:
    """The digits in a fixed random order: (1797, 1, 8, 8) on the 8-bit grid, and their classes."""
    from sklearn.datasets import load_digits

    pixels, classes = load_digits(return_X_y=True)
    images = torch.from_numpy(pixels).float().view(-1, 1, 8, 8) / 16
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return ((images * 255).round() / 255)[order], torch.from_numpy(classes).long()[order]


def train(images: Images, labels: Tensor, seed: int, bar: Progress) -> Digits:
    """Adam on the cross-entropy; the order of the digits and the first weights follow from the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = digits().train()
        optimizer = torch.optim.Adam(module.parameters(), lr=3e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _EPOCHS)
        for _ in bar.track(range(_EPOCHS), description="training"):
            for batch in torch.randperm(len(images)).split(_BATCH):
                optimizer.zero_grad()
                nn.functional.cross_entropy(module(images[batch]), labels[batch]).backward()
                optimizer.step()
            schedule.step()
    return module.eval()


def _save(module: nn.Module, path: Path) -> None:
    draft = path.with_suffix(".partial")
    save_file(module.state_dict(), draft)
    draft.replace(path)


def _architecture(net: Network, images: Images, labels: Tensor, _: Path) -> draw.Section:
    right = [top[0].index for top in predict(net, images, top=1)]
    accuracy = sum(a == b for a, b in zip(right, labels.tolist(), strict=True)) / len(labels)
    text = io.StringIO()
    Console(file=text, width=100, soft_wrap=True).print(architecture.tree(net))
    shown = draw.grid(
        [draw.to_picture(image, at_least=64) for image in images[:16]],
        columns=8,
        captions=[f"answer {k}" for k in right[:16]],
    )
    return draw.Section(
        "The network",
        f"Trained just now on {_TRAINED:,} handwritten digits of 8 x 8 pixels; it reads {accuracy:.1%} of the other "
        f"{len(labels)} rightly. Every line below is a point that can be named, and so computed, differentiated, "
        "visualized or attacked.",
        figures=(draw.Figure(shown, "Digits it was not trained on, and its answers.", "16 digits with answers"),),
        code=text.getvalue().rstrip(),
    )


def _units(net: Network, _images: Images, _labels: Tensor, out: Path) -> draw.Section:
    names = [f"conv2/{k}" for k in range(8)] + [f"conv3/{k}" for k in range(8)]
    found = [visualize(net, names, steps=128), visualize(net, [f"class:{k}" for k in range(10)], steps=128)]
    figures = []
    for result, text in zip(
        found, ("Sixteen units of two layers.", "The ten classes: what would be most of a digit."), strict=True
    ):
        pictures = [draw.to_picture(image, at_least=_AT_LEAST) for image in result.images]
        columns = 8 if len(pictures) == 16 else 5
        figures.append(draw.Figure(draw.grid(pictures, columns=columns, captions=list(result.addresses)), text))
    found[1][0].save(out / "class-0")
    return draw.Section(
        "What its units look for",
        "Each picture began as gray noise and was moved, pixel by pixel, in the direction that excites one unit more.",
        figures=tuple(figures),
    )


def _reasons(net: Network, images: Images, labels: Tensor, out: Path) -> draw.Section:
    chosen = [int((labels == k).nonzero()[0]) for k in (0, 3, 4, 7, 8)]
    result = saliency(net, images[chosen])
    result[0].save(out / "saliency")
    tiles = [draw.to_picture(image, at_least=_AT_LEAST) for image in result.images]
    maps = [draw.heat_map(signed_sum(v), signed=True, scale=True) for v in result.values]
    captions = [named(result, target).partition(" ")[0] for target in result.targets]
    figures = [
        draw.Figure(draw.grid([tile, heat], columns=2, captions=["digit", f"why {word}"]), alt=f"saliency of a {word}")
        for tile, heat, word in zip(tiles, maps, captions, strict=True)
    ]
    return draw.Section(
        "Why this answer",
        "Red: more ink here would speak for the answer. Blue: more ink here would speak against it. The map is the "
        "gradient of the answer's score with respect to the pixels, with its scale.",
        figures=tuple(figures),
    )


def _attacks(net: Network, images: Images, labels: Tensor, out: Path) -> draw.Section:
    chosen = [int((labels == k).nonzero()[0]) for k in (1, 3, 5, 8)]
    result = targeted_attack(net, images[chosen], target=["class:7", "class:8", "class:6", "class:3"], eps=_EPS)
    result[0].save(out / "attack")
    rows = [("digit", "asked for", "success", "steps", "largest change", "Euclidean length")]
    rows += [_row(result[i], int(labels[k])) for i, k in enumerate(chosen)]
    figures = tuple(
        draw.Figure(
            draw.side_by_side(one.images[0], one.adversarial[0], (f"a {int(labels[k])}", f"read as {_read(one)}")),
            alt=f"a {int(labels[k])}, changed to be read as {_read(one)}",
        )
        for one, k in ((result[i], k) for i, k in enumerate(chosen))
    )
    return draw.Section(
        "Where it is fragile",
        f"The fewest steps along the gradient that make it answer another digit, changing no pixel by more than "
        f"{_EPS:.0%} of the range. Success is judged on the saved 8-bit picture.",
        figures=figures,
        table=tuple(rows),
    )


def _read(one: Perturbation) -> str:
    return predict(one.net, one.adversarial, top=1)[0][0].label


def _row(one: Perturbation, digit: int) -> tuple[str, ...]:
    told = one.measures()
    asked = one.targets[0].partition(":")[2]
    success = "yes" if told["success"] else "no"
    return (str(digit), asked, success, str(told["steps"]), f"{told['linf']:.3f}", f"{told['l2']:.2f}")
