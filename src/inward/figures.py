"""The pictures of each kind of result, for its folder, the notebook and the demo."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import singledispatch
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from inward import draw
from inward.draw import lettering, scalebar
from inward.network.address import parse
from inward.network.modes import drawing
from inward.results import (
    Attribution,
    Driven,
    Patched,
    Perturbation,
    Redrawn,
    Result,
    Universal,
    Visualization,
    describe,
)

_AT_LEAST = 224
# Beside a map stand a margin, the colors of its scale and numbers of three letters at the least.
_BESIDE = 60
_MOST_UNITS = 20
# Measures that are classes, and what a line calls them.
_ANSWERS = {"answer": "now", "answer_before": "was"}
# Measures that are shares of a difference of scores.
_SHARES = {"error", "signed_error", "distance_left", "content", "style_left", "loss_left", "overlap_error"}


@singledispatch
def figures(result: Result) -> dict[str, Image.Image]:
    """File name -> picture, for a result of one image; the first is the one to look at."""
    raise TypeError(f"there are no pictures of {type(result).__name__}")


@figures.register
def _(result: Attribution) -> dict[str, Image.Image]:
    image, values = result.images[0], result.features()[0]
    original = {"original.png": draw.to_picture(image)}
    if not has_map(result):
        return {"units.png": _units(result), **original}
    plane, signed, told = plane_of(result)
    below = caption(result)
    found = {"map.png": draw.heat_map(plane, signed=signed, title=titled(result, told), caption=below)}
    if _is_coarser(plane, image):
        over = draw.overlay(image, plane, signed=signed, title=titled(result), caption=below)
        found = {"overlay.png": over, **found}
    if result.kind == "sensitivity":
        title = titled(result, f": sum over {_axis(result)}")
        found["signed.png"] = draw.heat_map(signed_sum(values), signed=True, title=title, caption=below)
    return found | original


def has_map(result: Attribution) -> bool:
    """Whether the values lie on a grid of more than one place; others are drawn as bars, one a unit."""
    if not result.at:
        return True
    values, address = result.features()[0], result.net.resolve(result.at, result.size)
    return values.ndim == 3 and values[0].numel() > 1 and result.net.layout_of(address, result.size).has_grid


def _is_coarser(plane: Tensor, image: Tensor) -> bool:
    """Inside networks that enlarge, a grid can be finer than the image, and does not lie over it."""
    return plane.shape[0] <= image.shape[1] and plane.shape[1] <= image.shape[2]


def plane_of(result: Attribution) -> tuple[Tensor, bool, str]:
    """The one map (h, w) that is shown of an attribution, whether it is signed, and how it was made of the values.

    Of sensitivities the largest absolute value over the channels, as saliency is shown in its paper; of
    contributions and amounts their sum, so that it still adds up.
    """
    values, over = result.features()[0], _axis(result)
    several = len(values) > 1
    if result.kind == "sensitivity":
        return strongest(values), False, f": largest |value| over {over}" if several else ": |value|"
    told = f": sum over {over}" if several else ""
    return signed_sum(values), result.kind == "contribution", told


def titled(result: Attribution, told: str = "") -> str:
    """The method, what it explains, where, and how it is shown: as much as fits into two lines above a map."""
    method, where = result.record.method, f", at {result.at}" if result.at else ""
    address = result.targets[0]
    label = named(result, address)
    # What is left out stands in the caption.
    wishes = (label + where, label.removesuffix(f" ({address})") + where, address + where, address)
    room = max(_AT_LEAST, result.images.shape[3]) + _BESIDE
    texts = [f"{method} of {wish}{told}" for wish in wishes]
    return next((text for text in texts if len(lettering.wrap(text, scalebar.LETTERS, room)) <= 2), texts[-1])


def _axis(result: Attribution) -> str:
    return "the units" if result.at else "the channels"


def _units(result: Attribution) -> Image.Image:
    """The units that matter most, strongest first."""
    names, sums = _strongest_units(result)
    count = result.features().shape[1]
    told = f": strongest units, {len(names)} of {count}" if len(names) < count else ""
    return draw.bars(names, sums, titled(result, told), caption(result))


def _strongest_units(result: Attribution, most: int = _MOST_UNITS) -> tuple[list[str], list[float]]:
    """The units that matter most, by name, and what each adds up to; strongest first, and those at 0 left out."""
    sums = result.features()[0].float().cpu()
    sums = sums.reshape(len(sums), -1).sum(1)
    order = sums.abs().argsort(descending=True, stable=True)[:most].tolist()
    order = [k for k in order if sums[k]] or order[:1]
    return [f"{result.at}/{k}" for k in order], [sums[k].item() for k in order]


def cell(result: Attribution) -> draw.Cell:
    """An attribution of one image in a gallery of methods: its map with its numbers below it, or why it has none."""
    own = {name: value for name, value in result.measures().items() if name not in ("target", "score", "score_kind")}
    numbers = {name: str(_rounded(value)) for name, value in readable(own).items()}
    method = result.record.method
    if not has_map(result):
        names, sums = _strongest_units(result, most=3)
        strong = f"the strongest are {', '.join(names)}" if any(sums) else "all values are 0"
        return draw.Cell(method, numbers=numbers, refused=f"{result.at} has no grid to draw; {strong}")
    plane, signed, _ = plane_of(result)
    if not _is_coarser(plane, result.images[0]):
        return draw.Cell(method, numbers=numbers, refused=f"the grid of {result.at} is finer than the image")
    return draw.Cell(method, plane, signed, numbers)


def _rounded(value: Any) -> Any:
    return f"{value:.3g}" if isinstance(value, float) else value


@figures.register
def _(result: Perturbation) -> dict[str, Image.Image]:
    return _compared(result)


def _compared(result: Perturbation) -> dict[str, Image.Image]:
    before, after = result.images[0], result.adversarial[0]
    asked = named(result, result.targets[0]) if result.targets[0] else ""
    with torch.no_grad(), drawing(result.record.parameters.get("seed", 0), result.net.device):
        logits = result.net(torch.stack([before, after]).to(result.net.device))
    first, second = (result.net.label(k) for k in logits.argmax(1).tolist())
    captions = (f"original: {first}", f"asked for {asked}, answer: {second}" if asked else f"answer: {second}")
    return {
        "comparison.png": draw.side_by_side(before, after, captions),
        "adversarial.png": draw.to_picture(after),
        "original.png": draw.to_picture(before),
    }


@figures.register
def _(result: Universal) -> dict[str, Image.Image]:
    change = result.change[0]
    # Gray where nothing is added; the largest change is black or white.
    seen = (0.5 + change / (2 * change.abs().max().clamp_min(1e-12))).clamp(0, 1)
    return {**_compared(result), "change.png": draw.to_picture(seen)}


@figures.register
def _(result: Patched) -> dict[str, Image.Image]:
    return {**_compared(result), "patch.png": draw.to_picture(result.patch[0])}


@figures.register
def _(result: Driven) -> dict[str, Image.Image]:
    before, after, guided = result.images[0], result.adversarial[0], result.guide.shape[1] > 0
    told, left = result.record.parameters, percent(result.distance_left[0].item()) if guided else ""
    was = "" if guided else f": {told['objective']} is {result.before[0].item():.4g}"
    now = f": {left} of the distance at {told['at']} left" if guided else f": it is {result.final[0].item():.4g}"
    pairs = ((result.answers_before[0], f"original{was}"), (result.answers[0], f"changed{now}"))
    first, second = (f"{text}; answer: {named(result, answer)}" if answer else text for answer, text in pairs)
    captions = (first, second)
    return {
        "comparison.png": draw.side_by_side(before, after, captions),
        "adversarial.png": draw.to_picture(after),
        "original.png": draw.to_picture(before),
        **({"guide.png": draw.to_picture(result.guide[0])} if guided else {}),
    }


@figures.register
def _(result: Visualization) -> dict[str, Image.Image]:
    found = {"picture.png": draw.to_picture(result.images[0])}
    if result.variants.shape[1]:
        pictures = [draw.to_picture(image) for image in (result.images[0], *result.variants[0])]
        finals = [result.final[0].item(), *result.variants_final[0].tolist()]
        columns = 2 if len(pictures) == 4 else None
        found["variants.png"] = draw.grid(pictures, columns=columns, captions=[f"{final:.4g}" for final in finals])
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


@figures.register
def _(result: Redrawn) -> dict[str, Image.Image]:
    original, made = draw.to_picture(result.images[0]), [draw.to_picture(one) for one in result.made[0]]
    found = {"row.png": draw.grid([original, *made], columns=1 + len(made), captions=["picture", *_below(result)])}
    if len(made) == 1:
        found["picture.png"] = made[0]
    if result.snapshots.shape[1]:
        count = result.snapshots.shape[1]
        shown = [draw.to_picture(one) for one in result.snapshots[0]]
        captions = [_moment(result, (i + 1) / (count + 1)) for i in range(count + 1)]
        found["snapshots.png"] = draw.grid([*shown, made[0]], captions=captions)
    return found | {"original.png": original}


def _moment(result: Redrawn, share: float) -> str:
    """After which pass a snapshot was taken: where the way ended early, after its last."""
    scores = result.history[:, 0, 0]
    known = scores[: int(share * len(scores) + 1e-9)].isfinite().nonzero()
    number = int(known[-1]) + 1 if len(known) else 0
    return f"{'frame' if result.record.parameters.get('zoom') else 'pass'} {number}"


def _below(result: Redrawn) -> list[str]:
    """What stands below each of the pictures."""
    told = []
    for index, name in enumerate(result.names):
        own = {key: value[0, index].item() for key, value in result.measured.items()}
        told.append(f"{name}: {describe(readable(own))}")
    return told


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
    """What was measured, in a line; answers with the names of their classes, and what a score is."""
    measures = result.measures()
    # Too many for a line; the manifest has them.
    measures.pop("weights", None)
    said = {key: _with_name(result, measures[key]) for key in _ANSWERS if key in measures}
    if kind := measures.pop("score_kind", ""):
        said["score"] = f"{measures['score']:.4g} ({kind})"
    return describe(readable({_ANSWERS.get(key, key): value for key, value in (measures | said).items()}))


def _with_name(result: Result, address: str) -> str:
    """A class address before the name of its class, where that is more than the number."""
    unit = parse(address).unit
    return address if unit is None or result.net.label(unit) == str(unit) else f"{address} {result.net.label(unit)}"


def readable(measures: Mapping[str, Any]) -> dict[str, Any]:
    """Measures as captions have them: names in words, and errors that are shares as percent."""
    return {k.replace("_", " "): _shares(v) if k in _SHARES else v for k, v in measures.items()}


def _shares(value: Any) -> Any:
    return [percent(each) for each in value] if isinstance(value, list) else percent(value)


def percent(share: float) -> str:
    """A share in two digits: 0.0083 is "0.83 %"."""
    number = 100 * share
    if 0 < abs(number) < 1e-3:
        return "< 0.001 %"
    return f"{number:.0f} %" if not math.isfinite(number) or abs(number) >= 10 else f"{number:.2g} %"


def main_picture(result: Result) -> Image.Image:
    """The one picture to look at, large enough to be seen."""
    picture = next(iter(figures(result).values()))
    # Others are large enough, and enlarged letters are no pleasure.
    short = min(picture.size) if isinstance(result, Visualization) else _AT_LEAST
    factor = max(1, -(-_AT_LEAST // short))
    if factor == 1:
        return picture
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
