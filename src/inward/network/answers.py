"""What the logits of a network say: one class out of all, or of each class whether it is there."""

from __future__ import annotations

from typing import Literal, TypeAlias

from inward.errors import CallError
from inward.types import Logits

Output: TypeAlias = Literal["softmax", "sigmoid"]
"""What makes probabilities of logits: softmax over all classes, or a sigmoid of each."""


def check_output(output: Output) -> Output:
    """The output itself. Raises CallError where there is none of that name."""
    if output not in ("softmax", "sigmoid"):
        raise CallError(f"there is no output '{output}'; write softmax or sigmoid")
    return output


def probabilities(logits: Logits, output: Output) -> Logits:
    """Of logits (N, K) the probability of each class; those of softmax add up to 1."""
    return logits.softmax(1) if output == "softmax" else logits.sigmoid()
