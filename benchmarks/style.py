"""Contests of style transfer at 512 pixels: with a loop written from the paper, as tutorials have it, and pystiche.

The loop hooks the layers of the module, runs all of it at every pass, and moves pixels by PyTorch's L-BFGS; pystiche
1.0.1 does the same through its encoders. All sides make as many passes, from the content, on the same layers and with
the same losses.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import torch
from PIL import Image
from skimage import data
from torch import Tensor, nn

from benchmarks.measure import Contest
from benchmarks.visualization import Sides
from inward import Network, style
from inward.nets.inception_v1 import inception_v1
from inward.network.devices import pick_device
from inward.network.load import import_torchvision

_SIZE, _PASSES = 512, 20
# Of VGG, all that pystiche asks for while it is imported.
_VGGS = tuple(f"vgg{depth}{kind}" for depth in (11, 13, 16, 19) for kind in ("", "_bn"))


class _Gatys:
    """The loop of the paper, by hooks."""

    def __init__(self, module: nn.Module, content_at: str, style_at: Sequence[str]) -> None:
        self.module, self.kept = module, {}
        self._content_at, self._style_at = content_at, style_at
        layers = dict(module.named_modules())
        for name in {content_at, *style_at}:
            layers[name].register_forward_hook(self._keep(name))

    def _keep(self, name: str) -> Callable[..., None]:
        def keep(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            # A module that is called again, as ReLUs of Inception are, keeps its first output.
            self.kept.setdefault(name, output)

        return keep

    def _features(self, image: Tensor) -> dict[str, Tensor]:
        self.kept.clear()
        self.module(image)
        return dict(self.kept)

    def run(self, content: Tensor, given: Tensor, passes: int) -> Tensor:
        wanted = {k: v.detach() for k, v in self._features(content).items()}
        matrices = {name: self._gram(v).detach() for name, v in self._features(given).items()}
        image = content.clone().requires_grad_(True)
        optimizer = torch.optim.LBFGS([image], max_iter=passes, max_eval=passes)

        def closure() -> Tensor:
            optimizer.zero_grad()
            found = self._features(image)
            loss = (found[self._content_at] - wanted[self._content_at]).square().mean()
            for name in self._style_at:
                gram = self._gram(found[name])
                loss = loss + 1e3 * (gram - matrices[name]).square().sum() / (4 * gram.shape[1] ** 2)
            loss.backward()
            return loss

        optimizer.step(closure)  # type: ignore[arg-type]
        return image.detach().clamp(0, 1)

    @staticmethod
    def _gram(features: Tensor) -> Tensor:
        flat = features.flatten(2)
        return flat @ flat.transpose(1, 2) / flat.shape[2]


def _photograph(name: str) -> Tensor:
    picture = Image.fromarray(getattr(data, name)()).convert("RGB").resize((_SIZE, _SIZE))
    shown = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    found = shown.view(1, _SIZE, _SIZE, 3).permute(0, 3, 1, 2).contiguous().float() / 255
    return found.to(pick_device("auto"))


def _transfer(make: Callable[[], nn.Module], content_at: str, style_at: Sequence[str]) -> Sides:
    torch.manual_seed(0)
    module = make().eval().requires_grad_(False).to(pick_device("auto"))
    net = Network.of(module, size=_SIZE)
    content, given = _photograph("astronaut"), _photograph("immunohistochemistry")
    loop = _Gatys(module, content_at, style_at)

    def ours() -> Tensor:
        points = " + ".join(style_at)
        return style(net, content, style=given, content_at=content_at, style_at=points, steps=_PASSES, scales=1).made

    def theirs() -> Tensor:
        return loop.run(content, given, _PASSES).cpu()

    return ours, theirs


def _pystiche(passes: int) -> Callable[[Tensor, Tensor, nn.Module], Tensor]:
    """Its loop on the layers of SqueezeNet. It asks torchvision for tables that are no longer there: they are empty."""
    import_torchvision()
    for name, archives in (("alexnet", ("alexnet",)), ("vgg", _VGGS)):
        sys.modules[f"torchvision.models.{name}"].model_urls = {k: f"/{k}.pth" for k in archives}  # type: ignore[attr-defined]
    from pystiche import enc, loss, optim  # type: ignore[import-not-found]

    def run(content: Tensor, given: Tensor, features: nn.Module) -> Tensor:
        layers = enc.MultiLayerEncoder(list(features.named_children()))
        kept = loss.FeatureReconstructionLoss(layers.extract_encoder("7"))
        met = loss.MultiLayerEncodingLoss(
            layers,
            [name.rpartition(".")[2] for name in _SQUEEZED],
            lambda encoder, weight: loss.GramLoss(encoder, score_weight=weight),
            score_weight=1e3,
        )
        both = loss.PerceptualLoss(kept, met)
        both.set_content_image(content)
        both.set_style_image(given)
        return optim.image_optimization(content.clone(), both, num_steps=passes, quiet=True).clamp(0, 1)

    return run


def _beside_pystiche() -> Sides:
    ours, _ = _transfer(_squeezenet, "features.7", _SQUEEZED)
    torch.manual_seed(0)
    features = _squeezenet().eval().requires_grad_(False).to(pick_device("auto")).features
    content, given, run = _photograph("astronaut"), _photograph("immunohistochemistry"), _pystiche(_PASSES)
    return ours, lambda: run(content, given, features).cpu()  # type: ignore[arg-type]


def _squeezenet() -> nn.Module:
    return import_torchvision().models.squeezenet1_1(weights=None)


_SQUEEZED = ("features.1", "features.4", "features.7", "features.9")
_MIXED = ("conv1", "conv2", "mixed3b", "mixed4a")
_HAND = "the loop of the paper: hooks, the whole network, torch.optim.LBFGS"
CONTESTS: list[Contest] = [
    Contest(
        "style-transfer",
        "a style on 512 x 512 pixels, SqueezeNet, L-BFGS, 20 passes with their targets",
        "style, channels last, cut after the last layer that is needed",
        _HAND,
        lambda: _transfer(_squeezenet, "features.7", _SQUEEZED),
        on_gpu=True,
    ),
    Contest(
        "style-transfer-inception",
        "a style on 512 x 512 pixels, Inception v1, L-BFGS, 20 passes with their targets",
        "style, channels last, cut after the last layer that is needed",
        _HAND,
        lambda: _transfer(inception_v1, "mixed3b", _MIXED),
        on_gpu=True,
    ),
    Contest(
        "style-transfer-pystiche",
        "a style on 512 x 512 pixels, SqueezeNet, L-BFGS, 20 passes with their targets",
        "style, channels last, cut after the last layer that is needed",
        "pystiche 1.0.1: encoders of all layers, torch.optim.LBFGS",
        _beside_pystiche,
        on_gpu=True,
    ),
]
