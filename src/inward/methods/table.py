"""The one explicit table of methods.

The command line, the table in the README and the tests that every method gets follow from it; a
function's signature is the only source of its options.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from inward.errors import CallError
from inward.methods.attacks import targeted_attack
from inward.methods.class_visualization import class_visualization
from inward.methods.saliency import saliency
from inward.methods.visualize import visualize
from inward.results import Attribution, Perturbation, Result, Visualization


@dataclass(frozen=True)
class Method:
    """A row: the name in manifests, the command that runs it, what it takes and gives."""

    name: str
    command: str
    function: Callable[..., Result]
    takes: str
    returns: type[Result]
    question: str
    paper: str


TABLE: tuple[Method, ...] = (
    Method(
        name="saliency",
        command="explain",
        function=saliency,
        takes="images",
        returns=Attribution,
        question="Which pixels does the answer hang on?",
        paper="Simonyan, Vedaldi and Zisserman 2013, arXiv:1312.6034",
    ),
    Method(
        name="targeted-attack",
        command="attack",
        function=targeted_attack,
        takes="images",
        returns=Perturbation,
        question="Which small change makes it answer something else?",
        paper="Szegedy et al. 2013, arXiv:1312.6199; Kurakin et al. 2016, arXiv:1607.02533",
    ),
    Method(
        name="feature-visualization",
        command="visualize",
        function=visualize,
        takes="addresses",
        returns=Visualization,
        question="What does this unit look for?",
        paper="Olah, Mordvintsev and Schubert 2017, doi:10.23915/distill.00007",
    ),
    Method(
        name="class-visualization",
        command="visualize",
        function=class_visualization,
        takes="addresses",
        returns=Visualization,
        question="What does this class look like, by the classic recipe?",
        paper="Simonyan, Vedaldi and Zisserman 2013, arXiv:1312.6034; Yosinski et al. 2015, arXiv:1506.06579",
    ),
)


def by_name(name: str) -> Method:
    """The row of a method. Raises CallError naming those there are."""
    for row in TABLE:
        if row.name == name:
            return row
    raise CallError(f"there is no method '{name}'; there are {', '.join(row.name for row in TABLE)}")
