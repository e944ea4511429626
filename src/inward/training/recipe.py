"""A recipe: every setting of a training run, as one record."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from inward.errors import CallError, InwardError

OUTPUTS: dict[str, dict[str, Any]] = {"softmax": {}, "sigmoid": {"optimizer": "adamw", "rate": 0.003}}
"""The outputs, and the settings that suit each.

Squared errors of sigmoids vanish where these are sure, and large steps of sgd lead there at once.
"""
OPTIMIZERS = ("sgd", "adamw")
SCHEDULES = ("onecycle", "cosine")
ADVERSARIES = ("none", "pgd", "fgsm", "trades", "free")
PRECISIONS = ("auto", "full", "mixed")


@dataclass(frozen=True)
class Recipe:
    """How a network is trained. The same recipe on the same machine gives the same weights.

    Attributes:
        data: what is trained on; of a folder or file its name.
        net: cnn or resnet.
        activation: relu, relog (log10(relu(x) + 1)), relog-steep (log10(relu(x) + 0.01) + 2), log, maxout, leaky,
            softplus, gelu or sigmoid.
        norm: the normalization: batch, group or none.
        size: height and width of the pictures in pixels.
        output: softmax with cross-entropy, or sigmoid: every class its own proposition, with squared error.
        open_world: also show pictures that belong to no class, to be answered by zeros (with the output sigmoid).
        epochs: passes over the data.
        batch: pictures at once.
        optimizer: sgd (with Nesterov's momentum) or adamw.
        rate: the largest learning rate.
        schedule: onecycle (a linear rise over the first 30 %, then a cosine to 0) or cosine.
        momentum: of sgd; of adamw its first beta.
        decay: weight decay, of weights alone, neither of biases nor of normalizations.
        ema: the share of the running mean of the weights that stays at each step; 0 keeps the last weights.
        smoothing: label smoothing: the share of each label that is spread over all classes.
        crop: the smallest share of the picture's area that a random crop has; 1: none.
        flip: mirror half of the pictures.
        rotation: rotate by up to so many degrees.
        erase: the share of the pictures in which a rectangle is filled with noise.
        noise: the largest standard deviation of Gaussian noise, in [0, 1] units.
        shift: move by up to so many pixels.
        adversarial: none; pgd; fgsm (one step from a random start); trades; free.
        eps: the radius of the ball of attacks, in training (with ``adversarial``) and where the network is measured at
            the end; in [0, 1] units: 8/255 (linf), or the norm of the whole change.
        ball: the norm of the ball: linf, l2 or l1.
        steps: of the attack in training.
        step_size: of the attack in training, as a share of eps.
        warm: over what share of the training eps grows from 0.
        beta: the weight of TRADES' second term.
        replays: how often the free method shows each batch.
        precision: mixed runs products in bfloat16; auto does so where the processor has it; full.
        seed: of everything random.

    Raises:
        CallError: for a setting that makes no sense.
    """

    data: str = "mnist"
    net: str = "cnn"
    activation: str = "relu"
    norm: str = "none"
    size: int = 28
    output: str = "softmax"
    open_world: bool = False
    epochs: int = 10
    batch: int = 128
    optimizer: str = "sgd"
    rate: float = 0.1
    schedule: str = "onecycle"
    momentum: float = 0.9
    decay: float = 5e-4
    ema: float = 0.998
    smoothing: float = 0.0
    crop: float = 1.0
    flip: bool = False
    rotation: float = 0.0
    erase: float = 0.0
    noise: float = 0.0
    shift: int = 0
    adversarial: str = "none"
    eps: float = 0.0
    ball: str = "linf"
    steps: int = 10
    step_size: float = 0.25
    warm: float = 0.0
    beta: float = 6.0
    replays: int = 4
    precision: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        self._check_words()
        self._check_numbers()
        self._check_together()

    def _check_numbers(self) -> None:
        for name, least in (("epochs", 1), ("batch", 1), ("steps", 1), ("replays", 1), ("size", 8), ("shift", 0)):
            if getattr(self, name) < least:
                raise CallError(f"{name} is {least} or more, not {getattr(self, name)}")
        for name in ("ema", "smoothing", "erase", "warm", "momentum"):
            if not 0 <= getattr(self, name) <= 1:
                raise CallError(f"{name} is a share between 0 and 1, not {getattr(self, name):g}")
        for name in ("rate", "step_size", "crop"):
            if not (getattr(self, name) > 0 and math.isfinite(getattr(self, name))):
                raise CallError(f"{name} must be above 0, not {getattr(self, name):g}")
        for name in ("decay", "noise", "rotation", "eps", "beta"):
            if not (getattr(self, name) >= 0 and math.isfinite(getattr(self, name))):
                raise CallError(f"{name} must be 0 or more, not {getattr(self, name):g}")
        if self.crop > 1:
            raise CallError(f"crop is a share of the picture's area, at most 1, not {self.crop:g}")

    def _check_together(self) -> None:
        if self.adversarial != "none" and self.eps == 0:
            usual = {"l2": "0.5", "l1": "12"}.get(self.ball, "8/255")
            raise CallError(f"adversarial training ({self.adversarial}) needs a ball; give eps, such as {usual}")
        if self.ball == "linf" and self.eps > 1:
            raise CallError(f"eps is in [0, 1] units and at most 1 in linf, not {self.eps:g}; write 8/255 for 8 levels")
        if self.adversarial == "free" and self.ball != "linf":
            raise CallError(
                f"free adversarial training moves pictures by signs, in linf, not {self.ball}; use pgd or fgsm"
            )
        if self.open_world and self.output != "sigmoid":
            raise CallError("a picture of no class is answered by zeros, which softmax cannot; give output sigmoid")
        if self.output == "sigmoid" and self.adversarial == "trades":
            raise CallError("TRADES compares softmax probabilities; use pgd, fgsm or free with the output sigmoid")

    def _check_words(self) -> None:
        words = {"output": tuple(OUTPUTS), "optimizer": OPTIMIZERS, "schedule": SCHEDULES, "adversarial": ADVERSARIES}
        words |= {"ball": ("linf", "l2", "l1"), "precision": PRECISIONS, "net": ("cnn", "resnet")}
        for name, able in words.items():
            if getattr(self, name) not in able:
                raise CallError(f"there is no {name} '{getattr(self, name)}'; choose {', '.join(able)}")

    def as_json(self) -> str:
        """As ``recipe.json`` has it."""
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> Recipe:
        """From what :meth:`as_json` gave. Raises InwardError where it is none."""
        kinds = {f.name: type(f.default) for f in fields(cls)}
        for name, value in told.items():
            kind = kinds.get(name)
            if kind is None or not (type(value) is kind or (kind is float and type(value) is int)):
                raise InwardError(
                    f"the recipe has no setting {name} = {value!r:.40}; it is of another version or damaged"
                )
        return cls(**told)
