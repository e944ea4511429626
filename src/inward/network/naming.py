"""The names of points: module paths, calls of re-used modules, operations inside a module.

``layer1.0.relu:2`` is the second call of a re-used module, ``seq:2.1`` a module inside the second
call of ``seq`` (the index belongs to the outermost repeated module), ``layer1.0.add`` an operation.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from torch import fx

Stack = tuple[tuple[str, str], ...]


class Calls:
    """Gives every module call a name, in the order in which the calls are first seen."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._names: dict[Stack, str] = {}
        self._counts: Counter[str] = Counter()
        self.kinds: dict[str, str] = {}

    def name(self, node: fx.Node) -> str:
        """The name of the innermost call that made this node (``""``: the network itself)."""
        return self._name(self._stack(node))

    def _stack(self, node: fx.Node) -> Stack:
        entries: Any = node.meta.get("nn_module_stack") or {}
        inside = self._root + "." if self._root else ""
        calls = [(key, path[len(inside) :], kind) for key, (path, kind) in entries.items() if path.startswith(inside)]
        calls = [call for call in calls if call[1] and not call[1].startswith("_empty_nn_module")]
        stack = tuple((key, path) for key, path, _ in calls)
        for depth, (_, _, kind) in enumerate(calls, 1):
            self.kinds.setdefault(self._name(stack[:depth]), str(kind).rpartition(".")[2])
        return stack

    def _name(self, stack: Stack) -> str:
        if not stack:
            return ""
        if stack not in self._names:
            parent = self._name(stack[:-1])
            base = self._base(stack, parent)
            self._counts[base] += 1
            count = self._counts[base]
            self._names[stack] = base if count == 1 else f"{base}:{count}"
        return self._names[stack]

    def _base(self, stack: Stack, parent: str) -> str:
        path = stack[-1][1]
        for depth in range(len(stack) - 1, 0, -1):
            outer = stack[depth - 1][1]
            if path.startswith(outer + "."):
                return self._name(stack[:depth]) + path[len(outer) :]
        return path


def numbered(base: str, taken: Any) -> str:
    """``base``, or ``base:2``, ``base:3``... the first that is not in ``taken``."""
    if base not in taken:
        return base
    index = 2
    while f"{base}:{index}" in taken:
        index += 1
    return f"{base}:{index}"


def source_line(node: fx.Node) -> str:
    """``file:line`` of the call, in the innermost frame outside PyTorch itself."""
    found = ""
    for line in (node.meta.get("stack_trace") or "").splitlines():
        text = line.strip()
        if text.startswith('File "') and "/torch/" not in text and "<eval_with_key>" not in text:
            path, _, rest = text[6:].partition('", line ')
            found = f"{path}:{rest.partition(',')[0]}"
    return found
