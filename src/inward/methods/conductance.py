"""Conductance: how much of a score comes through a part inside.

The straight line from a baseline to the image moves every hidden unit, and the units move the score.
A unit's conductance is the change of the score that its own movement makes; those of a layer that
everything passes add up to the whole change.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from inward.columns.objectives import Objective
from inward.columns.paths import Line
from inward.errors import CallError
from inward.gradient import Sample, Total, gradients, keys_of, mean_gradient, no_path, scores
from inward.methods.baselines import Baseline, baselines
from inward.methods.draws import own_draws
from inward.methods.explained import Explained, Of, Target, explained, inside
from inward.methods.places import map_for
from inward.network.address import parse
from inward.network.graph import Graph, ancestors
from inward.network.network import Network, node_of
from inward.network.trace import Trace, point_key
from inward.results import Attribution
from inward.types import Images, Scores, Size

OnProgress: TypeAlias = Callable[[int, int], None] | None
Rule: TypeAlias = Literal["middle", "start"]
"""Where in each interval of the line the gradient is taken."""
_WHERE: dict[str, float] = {"middle": 0.5, "start": 0.0}


@own_draws
def conductance(
    net: Network,
    images: Images,
    *,
    at: str | None = None,
    target: Target = None,
    of: Of = "score",
    baseline: Baseline | Sequence[Baseline] = "black",
    steps: int = 50,
    nodes: Rule = "middle",
    seed: int = 0,
    on_progress: OnProgress = None,
) -> Attribution:
    """The share of the score that each hidden unit brings, on the way from a baseline to the image.

    Dhamdhere, Sundararajan and Yan, "How important is a neuron?", 2018: the integral of dF/dy dy/da
    over the straight line b + a (x - b), for every activation y of a layer. It is taken over equal
    intervals of a: in each, what y really changes by, times dF/dy in its middle; so there is no error
    where F is linear behind the layer, and elsewhere it falls with the square of the steps. A value
    is in units of the score, signed; together they are F(x) - F(b), if every way to the target leads
    through the layer, and a remark says where one does not.

    Args:
        net: the network.
        images: (N, C, H, W) in [0, 1].
        at: the layer whose units are judged, for example mixed4a; by default the last map that the target sees
            the image through, as for class activation maps.
        target: the address that is explained, for example class:281 or mixed4a/97; one, or one an
            image (classes only). By default each image's own answer.
        of: what of a class: its logit before softmax (score), its probability, or minus its cross-entropy.
        baseline: what the image is compared with: black, gray, white, mean, blur, noise, or a picture;
            of several, the mean.
        steps: intervals of the line.
        nodes: where in an interval dF/dy is taken: in its middle, or at its start, as Captum does.
        seed: of the baseline noise.
        on_progress: called with the points done and the points in all.

    Raises:
        CallError: for images that are not in [0, 1], an address that the network does not have, a point
            from which there is no path to the target, a baseline that does not fit, less than 1 step.
    """
    _check(steps, nodes)
    asked = explained(net, images, target, of)
    key = layer_of(asked, at)
    grounds = baselines(net, asked.images, baseline, seed)
    total, share = Total(len(asked.images)), torch.ones(1, dtype=torch.float64) / len(grounds)
    for number, (_, ground) in enumerate(grounds):
        told = counted(on_progress, number, len(grounds))
        for owners, values in _conductances(asked, key, ground, steps, nodes, told):
            total.add(owners, share.expand(len(owners)), values.new_zeros(len(owners)), values)
    final = asked.scores()
    difference = _difference(asked, final, [ground for _, ground in grounds])
    missing = (difference - total.values.flatten(1).sum(1)).abs()
    options = {"of": of, "baseline": [name for name, _ in grounds], "steps": steps, "nodes": nodes, "seed": seed}
    return asked.attribution(
        "conductance",
        {"at": key, **options},
        total.values.to(final.device, asked.images.dtype),
        final,
        kind="contribution",
        at=key,
        measured={**asked.completeness(difference, error=missing), "points": _points(asked, steps, grounds)},
        remarks=[_remarks(asked, key)] * len(asked.images),
    )


@own_draws
def neuron_conductance(
    net: Network,
    images: Images,
    *,
    through: str,
    target: Target = None,
    of: Of = "score",
    baseline: Baseline | Sequence[Baseline] = "black",
    steps: int = 50,
    seed: int = 0,
    on_progress: OnProgress = None,
) -> Attribution:
    """The share of the score that each pixel brings through one hidden unit.

    Dhamdhere, Sundararajan and Yan, "How important is a neuron?", 2018: (x - b) times the mean of
    dF/dy dy/dx over the straight line from the baseline b to the image x, at Gauss-Legendre points.
    The values are in units of the score, signed; their sum is the unit's conductance, ``total``. Of a
    channel on a grid, the conductances of all its places are added.

    Args:
        net: the network.
        images: (N, C, H, W) in [0, 1].
        through: the unit that is passed: POINT/UNIT, for example mixed4a/97, or POINT/UNIT@Y,X.
        target: the address that is explained, for example class:281; one, or one an image (classes
            only). By default each image's own answer.
        of: what of a class: its logit before softmax (score), its probability, or minus its cross-entropy.
        baseline: what the image is compared with: black, gray, white, mean, blur, noise, or a picture;
            of several, the mean.
        steps: Gauss-Legendre points on the line.
        seed: of the baseline noise.
        on_progress: called with the points done and the points in all.

    Raises:
        CallError: for images that are not in [0, 1], an address that the network does not have, a unit
            from which there is no path to the target, a baseline that does not fit, less than 1 step.
    """
    _check(steps)
    asked = explained(net, images, target, of)
    passed = Through(asked.objective, _unit(net, through, asked.size))
    grounds = baselines(net, asked.images, baseline, seed)
    values = torch.zeros_like(asked.images)
    for number, (_, ground) in enumerate(grounds):
        told = counted(on_progress, number, len(grounds))
        _, mean = mean_gradient(net, asked.images, passed, Line(ground, steps), on_point=told)
        values += mean * (asked.images - ground) / len(grounds)
    options = {"of": of, "baseline": [name for name, _ in grounds], "steps": steps, "seed": seed}
    return asked.attribution(
        "neuron-conductance",
        {"through": passed.unit, **options},
        values,
        asked.scores(),
        kind="contribution",
        measured={"total": values.double().flatten(1).sum(1), "points": _points(asked, steps, grounds)},
    )


@dataclass(frozen=True)
class Through(Objective):
    """The sum over a unit's places of dF/dy (held) times y: its gradient is that of F, by way of the unit alone.

    It differentiates while it is computed, so that it has no value without gradients.
    """

    objective: Objective
    unit: str

    @property
    def addresses(self) -> tuple[str, ...]:
        return (*self.objective.addresses, self.unit)

    def select(self, images: Sequence[int]) -> Objective:
        return Through(self.objective.select(images), self.unit)

    def __call__(self, trace: Trace) -> Scores:
        parsed, score = parse(self.unit), self.objective(trace).sum()
        key, slopes = point_key(parsed), None
        if score.requires_grad and trace[key].requires_grad:
            (slopes,) = torch.autograd.grad(score, trace[key], retain_graph=True, allow_unused=True)
        if slopes is None:
            raise no_path(key)
        held = trace.layout(key).features(slopes)[:, parsed.unit]
        if parsed.place is not None:
            held = held[:, parsed.place[0], parsed.place[1]]
        return (held * trace[self.unit]).reshape(len(held), -1).sum(1)


@dataclass(frozen=True)
class Activations(Objective):
    """All that a point holds, the batch first: for :func:`~inward.gradient.scores`, which only computes."""

    point: str

    @property
    def addresses(self) -> tuple[str, ...]:
        return (self.point,)

    def __call__(self, trace: Trace) -> Tensor:
        value = trace[self.point]
        return value.movedim(trace.layout(self.point).axes.index("n"), 0)


def _conductances(
    asked: Explained, key: str, ground: Images, steps: int, nodes: Rule, on_progress: OnProgress
) -> Iterator[tuple[list[int], Tensor]]:
    """The shares (B, ...) of the intervals, as many as were computed together, and the image that each is of.

    One stream of activations feeds one of gradients, each a chunk ahead: memory does not grow with the steps.
    """
    count, size = len(asked.images), asked.size
    moved: deque[Tensor] = deque()

    def line(places: Iterable[float]) -> Iterator[Sample]:
        return (Sample(i, ground[i] + a * (asked.images[i] - ground[i])) for a in places for i in range(count))

    ends = line(k / steps for k in range(steps + 1))
    values = (value for batch in scores(asked.net, ends, Activations(key), size) for value in batch.scores)

    def inner() -> Iterator[Sample]:
        before = [next(values) for _ in range(count)]
        for sample in line((k + _WHERE[nodes]) / steps for k in range(steps)):
            old, new = before[sample.owner], next(values)
            before[sample.owner] = new
            moved.append(new.cpu().double() - old.cpu().double())
            yield sample

    done = 0
    for batch in gradients(asked.net, inner(), asked.objective, size, at=key):
        changes = torch.stack([moved.popleft() for _ in batch.samples])
        yield batch.owners, batch.gradients.cpu().double() * changes
        done += len(batch.samples)
        if on_progress is not None:
            on_progress(done, steps * count)


def _check(steps: int, nodes: str = "middle") -> None:
    if steps < 1:
        raise CallError(f"a line has 1 step or more, not {steps}; write --steps 50")
    if nodes not in _WHERE:
        raise CallError(f"there are no nodes at '{nodes}'; write middle or start")


def layer_of(asked: Explained, at: str | None) -> str:
    """The layer whose units are judged. Raises CallError for a unit, no such point, or none that can be the default."""
    if at is not None:
        return inside(asked.net, at, asked.size)
    return map_for(asked.net, keys_of(asked.net, asked.objective, asked.size), asked.size)


def _unit(net: Network, address: str, size: Size) -> str:
    """The unit that is passed, by its full address."""
    parsed = net.resolve(address, size)
    if parsed.unit is None:
        raise CallError(f"'{address}' is a whole point; name a unit of it, for example {address}/0")
    return str(parsed)


def _difference(asked: Explained, final: Scores, grounds: Sequence[Images]) -> Tensor:
    """What the score rises by, from the baselines on the mean, in float64."""
    lowest = torch.stack([asked.scores(ground).double() for ground in grounds]).mean(0)
    return (final.double() - lowest).cpu()


def _points(asked: Explained, steps: int, grounds: Sequence[object]) -> Tensor:
    return torch.full((len(asked.images),), steps * len(grounds))


def _remarks(asked: Explained, key: str) -> tuple[str, ...]:
    """Says where a way to the target leads past the layer, so that its units do not add up."""
    graph = asked.net.graph(asked.size)
    if not isinstance(graph, Graph):
        return (f"without a graph it is not known whether every way to the target leads through {key}",)
    nodes = {node.name: node for node in graph.module.graph.nodes}
    # The number of images is read off them everywhere; that is no way for a score.
    known = [node for node in nodes.values() if isinstance(node.meta.get("val"), (int, torch.SymInt))]
    ends = [nodes[node_of(graph, parse(end))] for end in keys_of(asked.net, asked.objective, asked.size)]
    needed = ancestors(ends, [*known, nodes[node_of(graph, parse(key))]])
    if not any(node.op == "placeholder" for node in needed):
        return ()
    return (f"some ways to the target lead past {key}: the error is also what they carry",)


def counted(on_progress: OnProgress, number: int, count: int) -> OnProgress:
    """Points counted over all baselines."""
    if on_progress is None:
        return None
    return lambda done, total: on_progress(number * total + done, count * total)
