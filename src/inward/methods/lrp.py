"""Layer-wise relevance propagation: the score, handed back layer by layer to the pixels."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from inward.columns.objectives import Objective
from inward.errors import CallError
from inward.gradient import constant, keys_of, no_path
from inward.methods.draws import own_draws
from inward.methods.explained import Target, explained, inside, of_point
from inward.network.modes import ordinary
from inward.network.network import Network
from inward.network.relevance import RuleName, Rules, propagating
from inward.network.room import images_at_once, in_chunks
from inward.network.trace import Trace
from inward.results import Attribution
from inward.types import Images, Scores, Size

# Above this share of the score, what biases kept is worth a sentence.
_LOST = 0.05


@own_draws
def lrp(
    net: Network,
    images: Images,
    *,
    target: Target = None,
    at: str | None = None,
    rule: RuleName = "composite",
    epsilon: float = 1e-6,
    gamma: float = 0.25,
) -> Attribution:
    """The score, divided among the pixels by handing it back layer by layer.

    Layer-wise relevance propagation: Bach, Binder, Montavon, Klauschen, Müller and Samek, "On
    pixel-wise explanations for non-linear classifier decisions by layer-wise relevance propagation",
    2015; the rules and their composite as in Montavon, Binder, Lapuschkin, Samek and Müller,
    "Layer-wise relevance propagation: an overview", 2019. Relevance begins at the target as
    activation times gradient, which is the score where the target is a class, a unit or a sum of
    them. A value is a pixel's share of the score, signed, of what the network is shown: after mean
    and standard deviation, not of the value in [0, 1].

    A batch normalization behind a convolution is one layer with it, and any other a linear map
    (epsilon). Activations, constants and local response normalization hand relevance on as it is;
    max-pooling hands it to the winner, a mean or a sum of branches to all in proportion. Of two
    factors a gate, as of squeeze-and-excitation, gets nothing: the signal takes all.

    Args:
        net: the network.
        images: (N, C, H, W) in [0, 1].
        target: the address that is explained, for example class:281 or mixed4a/97; one, or one an
            image (classes only). By default each image's own answer.
        at: the point whose activations are attributed to, for example mixed4a; by default the image.
        rule: of the layers with weights. epsilon: in proportion to what each input adds; gamma: the
            same, with more for what speaks for the output; z-plus: only what speaks for it (alpha 1,
            beta 0); composite, Zennit's EpsilonGammaBox: z-box where a convolution reads the image,
            with the bounds of images in [0, 1], gamma for the other convolutions, epsilon for
            fully connected layers.
        epsilon: what is added to the denominators of the epsilon rule, above 0; larger values leave less noise.
        gamma: how much more counts what speaks for the output, 0 or more; 0 is the epsilon rule.

    Raises:
        CallError: for images that are not in [0, 1], an address that the network does not have, a
            point from which there is no path to the target, a network without a graph, or an
            operation on the way that has no rule (softmax, layer normalization, attention).
    """
    rules = _checked(rule, epsilon, gamma)
    asked = explained(net, images, target)
    key = None if at is None else inside(net, at, asked.size)
    keys = list(dict.fromkeys(keys_of(net, asked.objective, asked.size)))
    if not keys:
        raise CallError("relevance begins at points of the network, and the target is of none; give an address")
    changed, gates = propagating(net, asked.size, keys, key, rules)

    def run(indices: list[int]) -> tuple[Scores, Tensor, Tensor]:
        own = asked.objective.select(indices)
        return _relevance(changed, asked.images[indices], own, keys, key)

    chunk = images_at_once(net, [*keys, *([] if key is None else [key])], asked.size)
    made = list(in_chunks(range(len(asked.images)), chunk, run))
    scores, begun, values = (torch.cat(parts) for parts in zip(*made, strict=True))
    total = values.double().flatten(1).sum(1)
    # Of a class, what relevance began with is the score; a dead target has none to lose.
    error = (total - scores).abs() / begun.double()
    told = zip(scores.tolist(), total.tolist(), error.tolist(), strict=True)
    return asked.attribution(
        "lrp",
        {"at": at, "rule": rule, "epsilon": epsilon, "gamma": gamma},
        values,
        scores,
        kind="contribution",
        at=key or "",
        measured={"error": error},
        remarks=[_remarks(*each, key) for each in told],
        notes=_notes(gates),
    )


def _checked(rule: RuleName, epsilon: float, gamma: float) -> Rules:
    if rule not in ("epsilon", "gamma", "z-plus", "composite"):
        raise CallError(f"there is no rule '{rule}'; write epsilon, gamma, z-plus or composite")
    if not 0 < epsilon < math.inf:
        raise CallError(f"epsilon keeps denominators away from 0, and {epsilon:g} does not; give a number above 0")
    if not 0 <= gamma < math.inf:
        raise CallError(f"gamma is a number from 0 up, not {gamma:g}; the usual one is 0.25")
    return Rules(rule, float(epsilon), float(gamma))


def _relevance(
    net: Network, images: Images, objective: Objective, keys: list[str], key: str | None
) -> tuple[Scores, Tensor, Tensor]:
    """Of each image its score, what relevance began with (the sum of its absolute values), and the relevance."""
    size = (images.shape[2], images.shape[3])
    with ordinary(net.device):
        shown = net.shown(constant(images)).detach().requires_grad_(True)
        values = net.run_shown(shown, [*keys, *([] if key is None else [key])])
        ends = [value.detach().requires_grad_(True) for value in values[: len(keys)]]
        scores = objective(Trace(net, images, dict(zip(keys, ends, strict=True))))
        slopes = torch.autograd.grad(scores.sum(), ends, materialize_grads=True)
        begun = [end.detach() * slope for end, slope in zip(ends, slopes, strict=True)]
        source = shown if key is None else values[-1]
        pairs = [(value, own) for value, own in zip(values, begun, strict=False) if value.requires_grad]
        found = None
        if pairs:
            (found,) = torch.autograd.grad([v for v, _ in pairs], source, [b for _, b in pairs], allow_unused=True)
    total = torch.stack([_by_image(net, k, own, size).abs().sum(1) for k, own in zip(keys, begun, strict=True)]).sum(0)
    if key is None:
        return scores.detach(), total, _of_pixels(net, images, found)
    if found is None:
        raise no_path(key)
    return scores.detach(), total, of_point(net, key, found, size)


def _by_image(net: Network, key: str, value: Tensor, size: Size) -> Tensor:
    axes = net.layout_of(net.resolve(key, size), size).axes
    return value.movedim(axes.index("n") if "n" in axes else 0, 0).flatten(1)


def _of_pixels(net: Network, images: Images, found: Tensor | None) -> Tensor:
    """Relevance of what the network is shown, in the order that the images have their channels in."""
    if found is None:
        return torch.zeros_like(images)
    return (found.flip(1) if net.preprocess.order == "bgr" else found).to(images.dtype)


def _remarks(score: float, total: float, error: float, at: str | None) -> tuple[str, ...]:
    if not error > _LOST:
        return ()
    where = "biases and epsilon" if at is None else f"biases, epsilon or ways around '{at}'"
    return (f"the map adds up to {total:.4g}, the score is {score:.4g}: {where} keep the rest",)


def _notes(gates: list[str]) -> list[str]:
    if not gates:
        return []
    more = f" and {len(gates) - 3} more" if len(gates) > 3 else ""
    return [f"relevance went past the gates at {', '.join(gates[:3])}{more}, as if they were constants"]
