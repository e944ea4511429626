"""The pictures of each kind of result, for its folder, the notebook and the demo."""

from __future__ import annotations

from functools import singledispatch

import torch
from PIL import Image
from torch import Tensor

from inward import draw
from inward.network.address import parse
from inward.results import Attribution, Perturbation, Result, Visualization, describe

_AT_LEAST = 224


@singledispatch
def figures(result: Result) -> dict[str, Image.Image]:
    """File name -> picture, for a result of one image; the first is the one to look at."""
    raise TypeError(f"there are no pictures of {type(result).__name__}")


@figures.register
def _(result: Attribution) -> dict[str, Image.Image]:
    image, values = result.images[0], result.features()[0]
    title = titled(result)
    original = {"original.png": draw.to_picture(image)}
    if values.ndim != 3:
        return {"units.png": draw.bars(*_strongest_units(result), title), **original}
    plane, signed, told = plane_of(result)
    found = {
        "overlay.png": draw.overlay(image, plane, signed=signed, title=title),
        "map.png": draw.heat_map(plane, signed=signed, title=f"{title}{told}"),
    }
    if result.kind == "sensitivity":
        found["signed.png"] = draw.heat_map(signed_sum(values), signed=True, title=f"{title}: sum over {_axis(result)}")
    return found | original


def plane_of(result: Attribution) -> tuple[Tensor, bool, str]:
    """The one map (h, w) that is shown of an attribution, whether it is signed, and how it was made of the values.

    Of sensitivities the largest absolute value over the channels, as saliency is shown in its paper; of
    contributions and amounts their sum, so that it still adds up.
    """
    values, over = result.features()[0], _axis(result)
    if result.kind == "sensitivity":
        return strongest(values), False, f": largest |value| over {over}"
    told = f": sum over {over}" if len(values) > 1 else ""
    return signed_sum(values), result.kind == "contribution", told


def titled(result: Attribution) -> str:
    """The method, what it explains and where."""
    where = f", at {result.at}" if result.at else ""
    return f"{result.record.method} of {named(result, result.targets[0])}{where}"


def _axis(result: Attribution) -> str:
    return "the units" if result.at else "the channels"


def _strongest_units(result: Attribution, most: int = 20) -> tuple[list[str], list[float]]:
    """The units that matter most, by name, and what each adds up to; strongest first."""
    sums = result.features()[0].flatten(1).sum(1).float().cpu()
    order = sums.abs().argsort(descending=True, stable=True)[:most].tolist()
    return [f"{result.at}/{k}" for k in order], [sums[k].item() for k in order]


@figures.register
def _(result: Perturbation) -> dict[str, Image.Image]:
    before, after = result.images[0], result.adversarial[0]
    asked = named(result, result.targets[0])
    with torch.no_grad():
        logits = result.net(torch.stack([before, after]).to(result.net.device))
    first, second = (result.net.label(k) for k in logits.argmax(1).tolist())
    captions = (f"original: {first}", f"asked for {asked}, answer: {second}")
    return {
        "comparison.png": draw.side_by_side(before, after, captions),
        "adversarial.png": draw.to_picture(after),
        "original.png": draw.to_picture(before),
    }


@figures.register
def _(result: Visualization) -> dict[str, Image.Image]:
    found = {"picture.png": draw.to_picture(result.images[0])}
    if result.variants.shape[1]:
        pictures = [draw.to_picture(image) for image in (result.images[0], *result.variants[0])]
        finals = [result.final[0].item(), *result.variants_final[0].tolist()]
        found["variants.png"] = draw.grid(pictures, captions=[f"{final:.4g}" for final in finals])
    if result.snapshots.shape[1]:
        count = result.snapshots.shape[1]
        passes = [(i + 1) * int(result.record.parameters["steps"]) // (count + 1) for i in range(count)]
        captions = [*(f"pass {p}" for p in passes), f"pass {int(result.passes[0])}"]
        found["snapshots.png"] = draw.grid(
            [draw.to_picture(image) for image in (*result.snapshots[0], result.images[0])], captions=captions
        )
    if len(result.history):
        found["scores.png"] = draw.curve(result.history[:, 0], f"{result.addresses[0]}: objective by pass")
    return found


def strongest(values: Tensor) -> Tensor:
    """The largest absolute value over the channels, (H, W): how saliency is shown in its paper."""
    return values.abs().amax(0).float().cpu()


def signed_sum(values: Tensor) -> Tensor:
    """The sum over the channels, (H, W)."""
    return values.sum(0).float().cpu()


def named(result: Result, address: str) -> str:
    """A class address with the name of its class; other addresses as they are."""
    parsed = parse(address)
    if parsed.output is None or parsed.unit is None or not result.net.labels:
        return address
    return f"{result.net.label(parsed.unit)} ({address})"


def caption(result: Result) -> str:
    """What was measured, in a line."""
    return describe(result.measures())


def main_picture(result: Result) -> Image.Image:
    """The one picture to look at, large enough to be seen."""
    picture = next(iter(figures(result).values()))
    short = min(picture.size)
    factor = max(1, -(-_AT_LEAST // short))
    if factor == 1:
        return picture
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
