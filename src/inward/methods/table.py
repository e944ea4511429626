"""The one explicit table of methods, in a file of rows for each command.

The command line, the table in the README and the tests that every method gets follow from it; a
function's signature is the only source of its options.
"""

from __future__ import annotations

from inward.errors import CallError
from inward.methods.method import Method
from inward.methods.table_attack import ATTACK
from inward.methods.table_explain import EXPLAIN
from inward.methods.table_redraw import REDRAW
from inward.methods.table_visualize import VISUALIZE

TABLE: tuple[Method, ...] = (*EXPLAIN, *ATTACK, *VISUALIZE, *REDRAW)


def by_name(name: str) -> Method:
    """The row of a method. Raises CallError naming those there are."""
    for row in TABLE:
        if row.name == name:
            return row
    raise CallError(f"there is no method '{name}'; there are {', '.join(row.name for row in TABLE)}")
