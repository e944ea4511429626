"""What ``inward attack`` has beside the options of its methods: looking for the smallest eps."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

from cyclopts import Group, Parameter

from inward.errors import CallError
from inward.methods.course import counted
from inward.methods.method import Method
from inward.methods.smallest import Smallest, smallest_eps
from inward.network.network import Network
from inward.results import Perturbation
from inward.types import Images

_HOW_FAR = Group("How far", sort_key=12)


def attack_options() -> list[inspect.Parameter]:
    """The options that are not the method's."""
    helps = "Look for the smallest eps that works, by bisection; --eps is then the largest that is tried."
    kind = inspect.Parameter
    smallest = Annotated[bool, Parameter(group=_HOW_FAR, negative="", help=helps)]
    return [kind("smallest", kind.KEYWORD_ONLY, default=False, annotation=smallest)]


def check_steps(options: Mapping[str, Any]) -> None:
    """Raises CallError for no steps: some searches give the picture back as it is then, which is no attack."""
    if options.get("steps") is not None:
        counted("steps", options["steps"])


def searching(row: Method) -> Method:
    """The method, looking for the smallest eps. Raises CallError for one without an eps or a success of each."""
    if "eps" not in inspect.signature(row.function).parameters:
        raise CallError(f"{row.name} has no eps of which there could be a smallest; leave out --smallest")
    if row.shared or not issubclass(row.returns, Perturbation):
        raise CallError(f"{row.name} does not succeed or fail with each picture by itself; leave out --smallest")

    @functools.wraps(row.function)
    def search(
        net: Network, images: Images, *, eps: float | None = None, label: Any = None, target: Any = None, **options: Any
    ) -> Smallest:
        attack: Any = functools.partial(row.function, **options)
        return smallest_eps(net, images, attack, label=label, target=target, most=eps)

    return replace(row, function=search)
