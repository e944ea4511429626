"""What the help says of options that several methods share: whose defaults are which, and what must be given."""

from __future__ import annotations

import inspect

import pytest

from inward.commands import command, usage
from inward.methods.table import by_name


def said(family: str, name: str) -> str:
    """The help of an option of a command."""
    option = inspect.signature(command(family)).parameters[name]
    return next(told for each in reversed(option.annotation.__metadata__) if (told := each.help))


def defaults(family: str, name: str) -> dict[str, list[str]]:
    """The methods that are named beside each default."""
    told = said(family, name).rpartition("[defaults: ")[2].removesuffix("]")
    return {text: methods.split(", ") for text, _, methods in (part.rpartition(" in ") for part in told.split("; "))}


def test_defaults_that_differ_are_said_with_their_methods() -> None:
    assert defaults("attack", "eps") == {
        "4/255": ["targeted-attack"],
        "8/255 (linf), 0.5 (l2), 12 (l1)": ["fgsm", "pgd", "noise", "feature-attack"],
        "8/255 (linf), 0.5 (l2)": ["momentum-fgsm", "apgd", "square", "universal-pgd and others"],
    }
    assert defaults("explain", "of")["the probability"] == ["rise", "lime"]
    assert defaults("explain", "baseline")["black gray white blur noise"] == ["expected-gradients"]
    # One default for all is left to the parser, which shows it.
    assert "default" not in said("attack", "eight_bit")


@pytest.mark.parametrize(("family", "name"), [("attack", "steps"), ("attack", "norm"), ("explain", "samples")])
def test_they_are_those_of_the_signatures(family: str, name: str) -> None:
    for text, methods in defaults(family, name).items():
        for method in methods:
            function = by_name(method.removesuffix(" and others")).function
            assert str(inspect.signature(function).parameters[name].default) == text


def test_choices_are_described_by_who_has_them_all() -> None:
    assert said("attack", "norm").startswith("linf, l2 or l1. (targeted-attack, fgsm")


def test_what_only_some_methods_need_is_said_of_these() -> None:
    assert usage("attack") == "Usage: inward attack [MODEL] IMAGE... [OPTIONS]"
    assert defaults("attack", "target")["needed"] == ["targeted-attack", "patch"]
    assert defaults("attack", "target")["any other"][:2] == ["fgsm", "pgd"]
