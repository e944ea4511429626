"""Whether an accuracy under attack can be trusted: what goes wrong in evaluations, looked for by name.

After the checks of AutoAttack's authors (Croce and Hein, 2020, and their notes on flags); Carlini et al., "On
evaluating adversarial robustness", 2019; and Athalye, Carlini and Wagner, "Obfuscated gradients give a false sense of
security", 2018.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from inward.errors import CallError, InwardError
from inward.methods.attacked import EPS, Norm, attacked
from inward.methods.course import OnProgress
from inward.network.modes import drawing
from inward.network.network import Network
from inward.studies import checks_attacks, checks_gradients, checks_outputs
from inward.studies.accuracy import Judged, Robustness
from inward.studies.checks_attacks import Attacks
from inward.studies.checks_gradients import Gradients
from inward.studies.evaluation import Kept
from inward.studies.examined import Examined, Finding
from inward.studies.in_memory import Data, examples
from inward.types import Images

IMAGES = 64
"""The most images that are looked at, so that checks are a small part of an evaluation."""


def self_checks(
    net: Network,
    images: Images,
    labels: Sequence[int] | Tensor,
    *,
    eps: float | None = None,
    norm: Norm = "linf",
    transfer: Network | None = None,
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> tuple[Finding, ...]:
    """What makes an accuracy under attack doubtful, each by name, with a number and what it means.

    Of the images the first 64 are looked at, and the first 32 of those that are answered rightly are attacked.

    Args:
        net: the network.
        images: (N, C, H, W) in [0, 1].
        labels: their classes, one an image.
        eps: of the attacks that are evaluated: of any value (linf), or the norm of the whole change (l2, l1). By
            default 8/255, 0.5 and 12.
        norm: linf, l2 or l1.
        transfer: another network of the same classes, whose adversarial images are tried on this one.
        seed: of all that is random.
        on_progress: called with (checks done, checks in all).

    Raises:
        CallError: for an eps outside (0, 1] (linf), images not in [0, 1], another number of labels than of images,
            classes that the network does not have, a network of one output, or other classes of ``transfer``.
    """
    if len(labels) != len(images):
        raise CallError(f"there are {len(labels)} labels for {len(images)} images; give one an image")
    some, own = images[:IMAGES], [int(one) for one in labels[:IMAGES]]
    with drawing(seed, net.device):
        eps = EPS.get(norm, 0.0) if eps is None else eps
        asked = attacked(net, some, own, None, eight_bit_judge=False, eps=eps, norm=norm)
        checks = _checks(Examined(asked, eps, norm, seed), transfer)
        found = []
        for name, check in checks.items():
            found.append(_judged(name, check))
            if on_progress is not None:
                on_progress(len(found), len(checks))
    return tuple(found)


def checked(
    net: Network,
    data: Data,
    found: Robustness,
    *,
    eps: float,
    folder: str | Path | None = None,
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> tuple[Finding, ...]:
    """Self-checks of an evaluation, on images from all over its data.

    Args:
        net: the network.
        data: what was evaluated on.
        found: what was found; of an AutoAttack the black box is read off it.
        eps: of the attacks, as for :func:`self_checks`.
        folder: of the evaluation, whose ``report.json`` gets the findings as ``self_checks``.
        seed: of all that is random.
        on_progress: called with (checks done, checks in all).

    Raises:
        CallError: as :func:`self_checks`.
        InwardError: for a file that is no picture.
    """
    of = examples(data, net)
    some = min(len(of.labels), IMAGES)
    numbers = [i * len(of.labels) // some for i in range(some)]
    images, labels = of.images(numbers).to(net.device, net.dtype), [of.labels[i] for i in numbers]
    norm = cast("Norm", found.norm)
    findings = self_checks(net, images, labels, eps=eps, norm=norm, seed=seed, on_progress=on_progress)
    if found.by(eps):
        known = checks_attacks.of_autoattack([_by(one, eps) for one in found.images])
        findings = tuple(known if one.name == known.name else one for one in findings)
    if folder is not None:
        Kept(Path(folder), {}).add("self_checks", report(findings))
    return findings


def _by(one: Judged, eps: float) -> str:
    """Which attack of a sequence fooled an image within eps, as the sequence's result tells it."""
    if one.fell == 0:
        return "clean"
    return one.by if one.fell is not None and one.fell <= eps else ""


def _checks(of: Examined, transfer: Network | None) -> dict[str, Callable[[], Finding]]:
    """Every check by its name, in the order of the report."""
    gradients = Gradients(of)
    checks: dict[str, Callable[[], Finding]] = {
        "range of input": lambda: checks_outputs.range_of_input(of),
        "normalization": lambda: checks_outputs.normalization(of),
        "softmax outputs": lambda: checks_outputs.softmax_outputs(of),
        "few classes": lambda: checks_outputs.few_classes(of),
        "randomness": lambda: checks_outputs.randomness(of),
        "train mode": lambda: checks_outputs.train_mode(of),
        "optimization at inference": lambda: checks_outputs.optimization_at_inference(of),
        "zero gradients": lambda: checks_gradients.zero_gradients(gradients),
        "saturated loss": lambda: checks_gradients.saturated_loss(gradients),
        "rounding layer": lambda: checks_gradients.rounding_layer(gradients),
        "saturating activation": lambda: checks_gradients.saturating_activation(gradients),
    }
    return checks | _by_attacks(of, transfer)


def _by_attacks(of: Examined, transfer: Network | None) -> dict[str, Callable[[], Finding]]:
    by = Attacks(of)
    checks = {
        "loss rises with steps": lambda: checks_attacks.loss_rises_with_steps(by),
        "large eps": lambda: checks_attacks.large_eps(by),
        "black box": lambda: checks_attacks.black_box(by),
    }
    if transfer is not None:
        checks_attacks.check_other(of, transfer)
        checks["transfer"] = lambda: checks_attacks.transfer_attack(by, transfer)
    if len(of.attacked) == 0:
        return {name: lambda name=name: _untold(name, "no image is answered rightly") for name in checks}
    if of.norm == "l1":
        checks["black box"] = lambda: _untold("black box", "the Square attack has no norm l1 here")
    return checks


def _judged(name: str, check: Callable[[], Finding]) -> Finding:
    """The finding; where the check itself cannot be made, for example for gradients that are not finite, why."""
    try:
        return check()
    except CallError:
        raise
    except InwardError as error:
        return _untold(name, str(error))


def _untold(name: str, why: str) -> Finding:
    return Finding(name, None, None, f"not told: {why}", "This says neither that all is well nor that it is not.")


def report(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """The findings as ``report.json`` has them."""
    return [asdict(one) for one in findings]


def lines(findings: Sequence[Finding]) -> list[str]:
    """A line of each: what was found, and where it is doubtful what that means."""
    marks = {True: "ok   ", False: "DOUBT", None: "?    "}
    return [
        f"{marks[one.ok]} {one.name}: {one.told}" + (f". {one.meaning}" if one.ok is False else "") for one in findings
    ]
