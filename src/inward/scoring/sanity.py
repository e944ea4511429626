"""Sanity checks: whether a method looks at the network at all, and at what it has learned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from inward.columns.objectives import Objective
from inward.errors import CallError
from inward.gradient import keys_of
from inward.network.network import Network
from inward.results import Attribution
from inward.scoring.again import NOTHING, asked_again, made_again
from inward.scoring.randomizing import Layer, drawn, exchanged, layers_of
from inward.scoring.similarity import Similarity, similarity, stacked
from inward.types import Size


@dataclass(frozen=True, eq=False)
class Randomization:
    """How alike the maps are while the weights become random.

    Attributes:
        layers: the layer down to which (or the one whose) weights are random, from the output to the input.
        similarity: to the original map, (layers, N) each.
    """

    layers: tuple[str, ...]
    similarity: Similarity


def model_randomization(
    attribution: Attribution,
    *,
    cascade: bool = True,
    stages: int | None = None,
    given: Mapping[str, Any] = NOTHING,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> Randomization:
    """How alike a map stays while the network's layers lose what they learned, from the output to the input.

    Adebayo, Gilmer, Muelly, Goodfellow, Hardt and Kim, "Sanity checks for saliency maps", 2018. A
    method whose map hardly changes does not show what the network has learned. Weights are
    exchanged in the graph alone, for normal ones of the same root mean square; biases and gains are
    shuffled. The target stays that of the original.

    There is no verdict: the paper sets no threshold, and what remains of a map that shows edges of the
    image depends on the image. Compare methods on the same network and images.

    Args:
        attribution: the map.
        cascade: whether all layers down to each are random, or (independent) that one alone.
        stages: at how many layers the map is made again, spread evenly, the last and the first among
            them; by default at all. (A cascade goes through the layers between as well.)
        given: options of the method that its record cannot hold: an objective or a baseline made in Python.
        seed: of the weights.
        on_progress: called with (maps done, maps in all).

    Raises:
        CallError: for a network without a graph or without parameters on the way to the target, fewer than
            1 stage, or a record that cannot be followed.
    """
    if stages is not None and stages < 1:
        raise CallError(f"the map is made again at 1 layer or more, not {stages}; leave out stages for all")
    net, size = attribution.net, attribution.size
    layers = layers_of(net, _keys(attribution, given), size)[::-1]
    weights = drawn(net, layers, size, seed)
    places = _spread(len(layers), stages)
    found = []
    for k, place in enumerate(places):
        changed = layers[: place + 1] if cascade else layers[place : place + 1]
        random = net.edit(exchanged({name: weights[name] for layer in changed for name in layer.weights}))
        found.append(similarity(made_again(attribution, net=random, given=given), attribution))
        if on_progress is not None:
            on_progress(k + 1, len(places))
    return Randomization(_named(layers, places), stacked(found))


def _keys(attribution: Attribution, given: Mapping[str, Any]) -> list[str]:
    target = given.get("target")
    asked = asked_again(attribution, target if isinstance(target, Objective) else None)
    return keys_of(asked.net, asked.objective, asked.size)


def _spread(count: int, stages: int | None) -> list[int]:
    """Which of the layers, evenly spread; of one stage, the last."""
    most = min(stages or count, count)
    return [count - 1] if most == 1 else [round(k * (count - 1) / (most - 1)) for k in range(most)]


def _named(layers: tuple[Layer, ...], places: list[int]) -> tuple[str, ...]:
    return tuple(layers[place].name for place in places)


def label_randomization(
    attribution: Attribution, other_network: Network, *, given: Mapping[str, Any] = NOTHING
) -> Similarity:
    """How alike the map is to that of a network of the same build that was trained on permuted labels.

    The second check of Adebayo, Gilmer, Muelly, Goodfellow, Hardt and Kim, "Sanity checks for saliency
    maps", 2018: such a network has learned its training pictures by heart, and nothing of what the
    labels mean. A method whose maps are alike for both shows the image and not the answer.

    Args:
        attribution: the map.
        other_network: the network that was trained on permuted labels.
        given: options of the method that its record cannot hold: an objective or a baseline made in Python.

    Raises:
        CallError: for a network of another build, or a record that cannot be followed.
    """
    gap = _first_difference(attribution.net, other_network, attribution.size)
    if gap is not None:
        raise CallError(
            f"{other_network.name} is not of the build of {attribution.net.name} ({gap}); give one that is and "
            "was trained on permuted labels"
        )
    return similarity(made_again(attribution, net=other_network, given=given), attribution)


def _first_difference(first: Network, second: Network, size: Size) -> str | None:
    if first.preprocess.channels != second.preprocess.channels:
        return f"it takes {second.preprocess.channels} channels, not {first.preprocess.channels}"
    ours, theirs = (net.graph(size).points for net in (first, second))
    for name, point in ours.items():
        if name not in theirs:
            return f"it has no point {name}"
        if theirs[name].shape != point.shape:
            return f"its {name} has the shape {theirs[name].shape}, not {point.shape}"
    more = [name for name in theirs if name not in ours]
    return f"it has a point {more[0]} besides" if more else None
