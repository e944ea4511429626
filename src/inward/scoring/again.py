"""Asking again: the score that an attribution explains, and its method on other images or another network."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from inward.columns.objectives import Objective
from inward.errors import CallError
from inward.methods.explained import Explained, Of, explained
from inward.methods.table import by_name
from inward.network.network import Network
from inward.results import Attribution
from inward.types import Images

NOTHING: Mapping[str, Any] = MappingProxyType({})


def asked_again(attribution: Attribution, target: Objective | None = None, of: Of | None = None) -> Explained:
    """What was asked of an attribution's images.

    Args:
        target: the objective, where the attribution's was made in Python.
        of: of a class, something else than the attribution is of.

    Raises:
        CallError: where the objective was made in Python and is not given.
    """
    if target is not None:
        return explained(attribution.net, attribution.images, target)
    kept: Of = attribution.record.parameters.get("of", "score")
    try:
        return explained(attribution.net, attribution.images, _addresses(attribution), of or kept)
    except CallError as error:
        raise CallError(
            f"what the map explains, {attribution.targets[0]}, cannot be asked again ({error}); give it as target="
        ) from error


def made_again(
    attribution: Attribution,
    net: Network | None = None,
    images: Images | None = None,
    given: Mapping[str, Any] = NOTHING,
) -> Attribution:
    """The attribution by the same method with the same options and targets, of other images or another network.

    Args:
        given: options in the place of those of the record: what it cannot hold, because it was made
            in Python (an objective, a baseline that is an image).

    Raises:
        CallError: where the record holds no more than a word for such an option, and it is not given.
    """
    kept = attribution.record.parameters
    options = {name: value for name, value in kept.items() if name != "target"} | dict(given)
    for name, value in kept.items():
        words = value if isinstance(value, (list, tuple)) else [value]
        if name not in given and any(isinstance(word, str) and word == "given" for word in words):
            raise CallError(f"the {name} of this map was made in Python; give it again in given={{'{name}': ...}}")
    if "target" not in given:
        asked_again(attribution)
        options["target"] = _addresses(attribution)
    shown = attribution.images if images is None else images
    found = by_name(attribution.record.method).function(net or attribution.net, shown, **options)
    if not isinstance(found, Attribution):
        raise TypeError(f"{attribution.record.method} gives no attribution")
    return found


def _addresses(attribution: Attribution) -> str | list[str]:
    """Where all images have the same, it need not be a class of the first output."""
    targets = attribution.targets
    return targets[0] if len(set(targets)) == 1 else list(targets)
