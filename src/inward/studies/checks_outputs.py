"""Self-checks of what a network gives: logits, the same ones each time, of the images as they should be shown."""

from __future__ import annotations

import math
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from inward.columns.objectives import CrossEntropy
from inward.network.graph import Graph
from inward.network.layout import op_name
from inward.network.modes import exchanged
from inward.network.operation import argument
from inward.studies.examined import Examined, Finding, share

# Differences of scores, as a share of their spread, that are more than rounding; of one run and the next
# (AutoAttack's), and of batches of different sizes, which add up in another order.
_AGAIN, _ALONE = 1e-4, 1e-3
# Images that are computed alone.
_SINGLE = 4
# So many images more must be right with another mean and std.
_GAIN, _GAINED = 0.1, 3
# The largest 8-bit value that images divided by 255 twice, or by 256 and 255, can have.
_TWICE = 2 / 255
_USUAL: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...] = (
    ((), ()),
    ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ((0.485, 0.456, 0.406), (1 / 255,) * 3),
    ((0.5,), (0.5,)),
    ((0.1307,), (0.3081,)),
    ((0.0,), (1 / 255,)),
)


def softmax_outputs(of: Examined) -> Finding:
    """Whether the outputs are probabilities, by their values; or end in a sigmoid, by the graph."""
    values = of.asked.logits.double()
    whole = (values.sum(1) - 1).abs() < 1e-2 if of.net.dtype.itemsize < 4 else (values.sum(1) - 1).abs() < 1e-4
    probable = share((values >= 0).all(1) & (values <= 1 + 1e-3).all(1) & whole)
    logarithms = share((values <= 1e-3).all(1) & (values.logsumexp(1).abs() < 1e-2))
    graph = of.net.graph(of.asked.size)
    sigmoid = isinstance(graph, Graph) and graph.ends_in({"sigmoid"})
    told = f"of {len(values)} rows of outputs {probable:.0%} are probabilities"
    meaning = "Logits are what losses are made of: their gradients do not vanish where the network is sure."
    if sigmoid:
        told = "the network ends in a sigmoid"
    elif probable < 1 and logarithms == 1:
        told = "the outputs are logarithms of probabilities"
        meaning = "That is harmless: the cross-entropy, the margin and dlr of a log-softmax are those of the logits."
    ok = probable < 1 and not sigmoid
    if not ok:
        meaning = (
            "Probabilities taken for logits go through a softmax twice, and their gradients vanish where the network "
            "is sure: attacks look weak. Give the network without its softmax or sigmoid."
        )
    return Finding("softmax outputs", ok, probable, told, meaning)


def randomness(of: Examined) -> Finding:
    """Whether the same images have the same scores and gradients again."""
    first, second = (of.look(CrossEntropy(of.asked.labels)) for _ in range(2))
    scores = _apart(second.logits, first.logits)
    slopes = _apart(second.gradient.flatten(1), first.gradient.flatten(1))
    worst = max(scores, slopes)
    told = f"the same images again: scores differ by {scores:.2g} of their spread, gradients by {slopes:.2g} of theirs"
    return Finding(
        "randomness",
        worst <= _limit(of, _AGAIN),
        worst,
        told,
        "A step along one draw of the gradient, and a success at one draw, say little of a random network. Average "
        "gradients over runs (expectation over transformation), --eot 20.",
    )


def train_mode(of: Examined) -> Finding:
    """Whether an image is answered otherwise alone than in a batch, or dropout is on."""
    numbers = of.everyone[:_SINGLE]
    alone = torch.cat([of.logits(of.at(one)) for one in numbers.split(1)])
    apart = _apart(alone, of.logits(of.images)[: len(alone)]) if len(of.images) > 1 else None
    again = _apart(of.logits(of.at(numbers)), of.logits(of.at(numbers)))
    active = _training(of)
    random = again > _limit(of, _AGAIN)
    mixed = apart is not None and apart > _limit(of, _ALONE)
    told = "there is one image, and no batch to put it into" if apart is None else _told_alone(apart)
    told += f"; dropout or batch statistics in {', '.join(active)}" if active else ""
    ok = False if active or (mixed and not random) else None if random or apart is None else True
    return Finding(
        "train mode",
        ok,
        apart,
        told,
        "In train mode a batch norm takes its statistics from the batch, and dropout draws at every call: images then "
        "depend on their neighbors or on chance, and attacks on them do not hold elsewhere. Call .eval(), and see "
        "that nothing in the forward pass sets training=True.",
    )


def optimization_at_inference(of: Examined) -> Finding:
    """Whether gradients are computed, or optimizers run, while the network answers."""
    calls: Counter[str] = Counter()
    with ExitStack() as stack:
        for name in ("grad", "backward"):
            stack.enter_context(exchanged(torch.autograd, name, _counted(calls, name)))
        of.logits(of.images[:1])
    count = sum(calls.values())
    return Finding(
        "optimization at inference",
        count == 0,
        float(count),
        f"{count} gradients are computed while the network answers",
        "A network that optimizes while it answers adapts to its input, and attacks that take it as it stands miss "
        "that. It needs an attack of its own.",
    )


def few_classes(of: Examined) -> Finding:
    """Whether there are enough classes for each loss."""
    count = of.asked.logits.shape[1]
    missing = "" if count > 3 else "; targeted dlr needs 4" if count == 3 else "; dlr needs 3 and targeted dlr 4"
    return Finding(
        "few classes",
        True,
        float(count),
        f"there are {count} classes{missing}",
        "dlr divides by the third largest logit, targeted dlr by the third and fourth. With fewer classes autoattack "
        "climbs the margin instead; for apgd and pgd choose it with --loss margin.",
    )


def range_of_input(of: Examined) -> Finding:
    """Whether the images fill [0, 1] as pictures do."""
    low, high = (float(bound) for bound in torch.aminmax(of.images))
    return Finding(
        "range of input",
        high > _TWICE and low < high,
        high,
        f"the images go from {low:.3g} to {high:.3g}",
        "Images are in [0, 1], and so is eps. Values that end near 1/255 have been divided by 255 twice: any eps is "
        "then large, and the network sees black pictures.",
    )


def normalization(of: Examined) -> Finding:
    """Whether the network guesses, or does better with another mean and std."""
    labels = torch.tensor(of.asked.labels)
    count, right = len(labels), len(of.right)
    best, how = right, ""
    for mean, std in _USUAL:
        if len(mean) in (0, 1, of.net.preprocess.channels):
            other = _right_with(of, mean, std, labels)
            best, how = (other, _options(mean, std)) if other > best else (best, how)
    better = best - right >= max(_GAINED, _GAIN * count)
    told = f"{right} of {count} images are answered rightly" + (f", with {how} {best}" if better else "")
    return Finding(
        "normalization",
        not better and not _guesses(right, count, of.asked.logits.shape[1]),
        right / count,
        told,
        "A network that is shown images in another normalization than it was trained with guesses, or nearly so, and "
        "its accuracy under attack means nothing. Give its mean and std, and see that the labels are its own.",
    )


def _limit(of: Examined, usual: float) -> float:
    """What rounding explains; in short dtypes the order of sums alone makes a difference."""
    return max(usual, 8 * torch.finfo(of.net.dtype).eps)


def _apart(values: Tensor, others: Tensor) -> float:
    """The largest difference of two (N, K), as a share of the spread of a row; infinite where one alone is finite."""
    if not torch.equal(values.isfinite(), others.isfinite()):
        return math.inf
    rows, known = others.double().nan_to_num(0, 0, 0), values.double().nan_to_num(0, 0, 0)
    gap = float((known - rows).abs().max())
    spread = float((rows - rows.mean(1, keepdim=True)).square().mean().sqrt())
    return gap / spread if spread > 0 else math.inf if gap > 0 else 0.0


def _told_alone(apart: float) -> str:
    return f"an image alone and in the batch: scores differ by {apart:.2g} of their spread"


def _training(of: Examined) -> list[str]:
    """Operations of the graph that are in train mode."""
    graph = of.net.graph(of.asked.size)
    if not isinstance(graph, Graph):
        return []
    nodes = [node for node in graph.needed(graph.outputs[:1]) if node.op == "call_function"]
    on = [n for n in nodes if "dropout" in op_name(n) and argument(n, "train", argument(n, "training", False))]
    return sorted(node.name for node in on)


def _counted(calls: Counter[str], name: str) -> Any:
    before = getattr(torch.autograd, name)

    def run(*args: Any, **options: Any) -> Any:
        calls[name] += 1
        return before(*args, **options)

    return run


@torch.no_grad()
def _right_with(of: Examined, mean: tuple[float, ...], std: tuple[float, ...], labels: Tensor) -> int:
    other, right = replace(of.net.preprocess, mean=mean, std=std), 0
    for some in of.batches(of.everyone):
        (logits,) = of.net.run_shown(other(of.at(some), of.net.dtype), ["class"])
        right += int((logits.argmax(1).cpu() == labels[some]).sum())
    return right


def _options(mean: tuple[float, ...], std: tuple[float, ...]) -> str:
    if not mean:
        return "no mean and std"
    return f"--mean {' '.join(f'{m:.4g}' for m in mean)} --std {' '.join(f'{s:.4g}' for s in std)}"


def _guesses(right: int, count: int, classes: int) -> bool:
    """Whether so many right answers are not clearly (by two standard deviations of guessing) more than by chance."""
    chance = count / classes
    return right <= chance + 2 * (chance * (1 - 1 / classes)) ** 0.5 and right < 0.75 * count
