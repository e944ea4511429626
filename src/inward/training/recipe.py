"""A recipe: every setting of a training run, as one record."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Any

from inward.errors import CallError

OUTPUTS: dict[str, dict[str, Any]] = {"softmax": {}, "sigmoid": {"optimizer": "adamw", "rate": 0.003}}
"""The outputs, and the settings that suit each.

Squared errors of sigmoids vanish where these are sure, and large steps of sgd lead there at once.
"""
OPTIMIZERS = ("sgd", "adamw")
SCHEDULES = ("onecycle", "cosine")
ADVERSARIES = ("none", "pgd", "fgsm", "trades", "free")
BALL_EPS = {"linf": "8/255", "l2": "0.5", "l1": "12"}
"""A usual radius of each ball."""
_ANY = 2**63 - 1
# The least and the most of each, and what is said of it.
_WHOLE = dict.fromkeys(("epochs", "batch", "steps", "replays"), (1, _ANY))
_WHOLE |= {"size": (8, 4096), "shift": (0, 4096), "seed": (0, 2**63 - 2)}
_SHARES = dict.fromkeys(("ema", "erase", "warm"), (1.0, "a share between 0 and 1"))
_SHARES |= dict.fromkeys(("smoothing", "momentum"), (1.0, "a share from 0 to below 1"))
_SHARES |= {"crop": (1.0, "a share of the picture's area, at most 1")}
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
        crop: the smallest share of the picture's area that a random crop has; 1: none. Its sides are as 3:4 to 4:3, as
            far as that fits.
        flip: mirror half of the pictures.
        rotation: rotate by up to so many degrees.
        erase: the share of the pictures in which a rectangle is filled with noise.
        noise: the largest standard deviation of Gaussian noise, in [0, 1] units.
        shift: move by up to so many pixels of the network's picture.
        adversarial: none; pgd; fgsm (one step from a random start); trades; free.
        eps: the radius of the ball of attacks, in training (with ``adversarial``) and where the network is measured at
            the end; in [0, 1] units: 8/255 (linf), or the norm of the whole change.
        ball: the norm of the ball: linf, l2 or l1.
        steps: of the attack in training.
        step_size: of the attack in training, as a share of eps.
        warm: over what share of the training eps grows from 0.
        beta: the weight of TRADES' second term.
        replays: how often the free method shows each batch.
        precision: mixed runs products in bfloat16, on processors that have it; auto does so where there is one; full.
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
        for name, (least, most) in _WHOLE.items():
            value = getattr(self, name)
            if not least <= value <= most:
                range_told = f"{least} or more" if most == _ANY else f"from {least} to {most}"
                raise CallError(f"{name} is {range_told}, not {value}")
        for name, (most, told) in _SHARES.items():
            value = getattr(self, name)
            if not 0 <= value <= most or (value == 1 and "below" in told):
                raise CallError(f"{name} is {told}, not {value:g}")
        for name in ("rate", "step_size", "crop"):
            if not (getattr(self, name) > 0 and math.isfinite(getattr(self, name))):
                raise CallError(f"{name} must be above 0, not {getattr(self, name):g}")
        for name in ("decay", "noise", "rotation", "eps", "beta"):
            if not (getattr(self, name) >= 0 and math.isfinite(getattr(self, name))):
                raise CallError(f"{name} must be 0 or more, not {getattr(self, name):g}")

    def _check_together(self) -> None:
        if self.adversarial != "none" and self.eps == 0:
            usual = BALL_EPS[self.ball]
            raise CallError(f"adversarial training ({self.adversarial}) needs a ball; give eps, such as {usual}")
        if self.ball == "linf" and self.eps > 1:
            raise CallError(f"eps is in [0, 1] units and at most 1 in linf, not {self.eps:g}; write 8/255 for 8 levels")
        if self.adversarial == "free" and self.ball != "linf":
            raise CallError(
                f"free adversarial training moves pictures by signs, in linf, not {self.ball}; use pgd or fgsm"
            )
        if self.norm == "batch" and self.batch < 2:
            raise CallError("batch normalization compares the pictures of a batch; give batch 2 or more, or norm group")
        if self.open_world and self.output != "sigmoid":
            raise CallError("a picture of no class is answered by zeros, which softmax cannot; give output sigmoid")
        if self.output == "sigmoid" and self.adversarial == "trades":
            raise CallError("TRADES compares softmax probabilities; use pgd, fgsm or free with the output sigmoid")

    def _check_words(self) -> None:
        words = {"output": tuple(OUTPUTS), "optimizer": OPTIMIZERS, "schedule": SCHEDULES, "adversarial": ADVERSARIES}
        words |= {"ball": tuple(BALL_EPS), "precision": PRECISIONS, "net": ("cnn", "resnet")}
        for name, able in words.items():
            if getattr(self, name) not in able:
                raise CallError(f"there is no {name} '{getattr(self, name)}'; choose {', '.join(able)}")

    def as_json(self) -> str:
        """As ``recipe.json`` has it."""
        return json.dumps(asdict(self), indent=1) + "\n"
