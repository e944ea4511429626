"""What an axis of a tensor counts, told exactly through reshapes, permutations and products.

An axis is a row of atoms, the first the slowest. An atom is a digit of an index into the batch
(``n``), the features (``c``), the height (``y``), the width (``x``) or the tokens (``t``): the
windows of Swin split ``y`` into two digits, the heads of an attention split ``c``, and what puts
the digits back side by side has the whole axis again. Whatever is not known is ``?``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

# Batch sizes are symbolic; evaluated at a large prime, a dimension that depends on the batch can
# be told from one that does not, and products of dimensions can be matched.
PRIME = 10007


@dataclass(frozen=True)
class Atom:
    """``size`` values of a digit that counts in steps of ``stride`` in an index below ``total``.

    ``grid`` and ``prefix`` belong to a ``t`` index that is no plain (y, x): a grid behind
    ``prefix`` other tokens, perhaps with others after it.
    """

    kind: str
    size: int
    stride: int = 1
    total: int = 0
    grid: tuple[int, int] | None = None
    prefix: int = 0

    @property
    def root(self) -> tuple[Any, ...]:
        """What the index is an index of; digits of different roots do not belong together."""
        return self.kind, self.total, self.grid, self.prefix

    @property
    def is_whole(self) -> bool:
        """Whether this is the whole index."""
        return self.size == self.total

    @property
    def is_top(self) -> bool:
        """Whether this is the coarsest digit: a grid of patches, of windows."""
        return self.stride * self.size == self.total


Axis: TypeAlias = tuple[Atom, ...]
Axes: TypeAlias = tuple[Axis, ...]


def sizes(value: Any, batch: int) -> tuple[int, ...]:
    """The shape of a fake tensor with its symbolic batch set to ``batch``."""
    return tuple(_size(d, batch) for d in value.shape)


def _size(dim: Any, batch: int) -> int:
    if isinstance(dim, int):
        return dim
    expr = dim.node.expr
    return int(expr.subs(dict.fromkeys(expr.free_symbols, batch)))


def whole(kind: str, size: int, grid: tuple[int, int] | None = None, prefix: int = 0) -> Axis:
    """An axis that counts one index; tokens that are exactly a grid are its ``y`` and ``x``."""
    if kind == "t" and grid is not None and prefix == 0 and math.prod(grid) == size:
        return (*whole("y", grid[0]), *whole("x", grid[1]))
    return (Atom(kind, size, 1, size, grid, prefix),)


def lost(size: int) -> Axis:
    """An axis of which nothing is known."""
    return whole("?", size)


def unknown(size: int) -> Axis:
    """An axis of which nothing is known but its size: only the batch has the size of the batch."""
    return whole("n" if size == PRIME else "?", size)


def blank(shape: Sequence[int]) -> Axes:
    """The axes of a tensor of which nothing is known but its shape."""
    return tuple(unknown(size) for size in shape)


def length(axis: Axis) -> int:
    """The size of an axis."""
    return math.prod(atom.size for atom in axis)


def labels(axes: Axes) -> tuple[str, ...]:
    """One letter an axis; ``?`` wherever an index is not there exactly once."""
    clean = {kind for kind in "ncyxt" if _is_clean(kind, [a for axis in axes for a in axis])}
    return tuple(_label(axis, clean) for axis in axes)


def _is_clean(kind: str, atoms: list[Atom]) -> bool:
    """Whether an index is there once: not query and key tokens, not the features of a Gram matrix."""
    digits = [a for a in atoms if a.kind == kind]
    count = math.prod(a.size for a in digits)
    single = len({a.root for a in digits}) == 1 and len(set(digits)) == len(digits) and count <= digits[0].total
    # Of the features all must be there: those of one head are no units.
    return single and (kind in "yx" or count == digits[0].total)


def _label(axis: Axis, clean: set[str]) -> str:
    core = tuple(a for a in axis if a.size != 1) or axis
    kinds = {a.kind for a in core}
    if "c" in kinds:
        # Features with places, as a flattened map has them, are features.
        total = math.prod(a.size for a in core if a.kind == "c")
        return "c" if "c" in clean and "n" not in kinds and total == _total("c", core) else "?"
    if tokens(axis) is not None and {a.kind for a in axis} <= clean:
        return "t"
    if len(core) != 1 or core[0].kind not in clean:
        return "?"
    (atom,) = core
    return atom.kind if atom.is_whole or (atom.kind in "yx" and atom.is_top) else "?"


def _total(kind: str, axis: Axis) -> int:
    return next(a.total for a in axis if a.kind == kind)


def tokens(axis: Axis) -> tuple[tuple[int, int] | None, int] | None:
    """Grid and prefix of an axis that counts tokens, or None where it does not."""
    if len(axis) == 2 and (axis[0].kind, axis[1].kind) == ("y", "x") and axis[0].is_top and axis[1].is_top:
        return (axis[0].size, axis[1].size), 0
    core = tuple(a for a in axis if a.size != 1) or axis
    if len(core) == 1 and core[0].kind == "t" and core[0].is_whole:
        return core[0].grid, core[0].prefix
    return None


def resized(axis: Axis, label: str, size: int) -> Axis:
    """An axis that counts the same as before, coarser, cut or longer; places are kept by name only."""
    if size == length(axis):
        return axis
    return whole(label, size) if label in "cyxt" else unknown(size)


def anew(label: str, size: int) -> Axis:
    """An axis in another order, or of fewer values; tokens have no grid then, and rows no image."""
    return whole(label, size) if label in "cyxt" else lost(size)


def cut(axis: Axis, label: str, start: int, size: int) -> Axis:
    """The part of an axis from ``start`` on; a grid survives where all of it does."""
    found = tokens(axis) if label == "t" else None
    if size == length(axis):
        return axis
    if found is None or found[0] is None:
        return resized(axis, label, size)
    grid, prefix = found[0], found[1] - start
    return whole("t", size, grid, prefix) if 0 <= prefix <= size - math.prod(grid) else whole("t", size)


def without(axes: Axes, gone: Iterable[int], kinds: str) -> Axes:
    """The axes that are left; of the ``kinds``, the digits that are left count on their own.

    One of q, k and v has features of its own; one pixel of every patch has a grid of its own.
    """
    gone = set(gone)
    left = tuple(axis for i, axis in enumerate(axes) if i not in gone)
    return compact(left, {a.kind for i in gone for a in axes[i]} & set(kinds))


def compact(axes: Axes, kinds: Iterable[str]) -> Axes:
    """Renumbers the digits of ``kinds``, of which some have gone."""
    for kind in kinds:
        digits = {a for axis in axes for a in axis if a.kind == kind}
        if len({a.root for a in digits}) != 1:
            continue
        if kind in "yx" and not any(a.is_top for a in digits):
            # Places inside a patch, of whichever patch.
            axes = tuple(lost(length(axis)) if any(a.kind == kind for a in axis) else axis for axis in axes)
            continue
        new: dict[Atom, Atom] = {}
        stride, total = 1, math.prod(a.size for a in digits)
        for atom in sorted(digits, key=lambda a: a.stride):
            same = total == atom.total
            new[atom] = replace(atom, stride=stride, total=total, **({} if same else {"grid": None, "prefix": 0}))
            stride *= atom.size
        axes = tuple(tuple(new.get(a, a) for a in axis) for axis in axes)
    return axes


def joined(axis: Iterable[Atom]) -> Axis:
    """The axis with neighboring digits of one index as one."""
    out: list[Atom] = []
    for atom in axis:
        last = out[-1] if out else None
        if last and last.root == atom.root and last.kind != "?" and last.stride == atom.stride * atom.size:
            out[-1] = replace(atom, size=last.size * atom.size)
        else:
            out.append(atom)
    return tuple(out)


def reshaped(axes: Axes, new: Sequence[int]) -> Axes:
    """Matches groups of axes with groups of new ones of equal product, and their digits inside."""
    old = [length(axis) for axis in axes]
    found: list[Axis] = []
    i = j = 0
    while j < len(new):
        begin, start = i, j
        a, b, i, j = (old[i] if i < len(old) else 1), new[j], i + 1, j + 1
        while a != b and (i < len(old) or j < len(new)):
            if a < b and i < len(old):
                a, i = a * old[i], i + 1
            elif j < len(new):
                b, j = b * new[j], j + 1
            else:
                break
        while i < len(old) and old[i] == 1:
            i += 1
        while j < len(new) and new[j] == 1:
            j += 1
        parts = new[start:j]
        found += _dealt([atom for axis in axes[begin:i] for atom in axis], parts) or [unknown(p) for p in parts]
    return tuple(found)


def _dealt(atoms: list[Atom], parts: Sequence[int]) -> list[Axis] | None:
    """The digits dealt out to axes of these sizes, split where that is needed; None where it cannot be."""
    atoms, dealt = list(atoms), []
    for index, part in enumerate(parts):
        taken: list[Atom] = []
        need = part
        while need > 1 and atoms:
            atom = atoms.pop(0)
            shared = math.gcd(atom.size, need)
            if shared not in (atom.size, need):
                return None
            if atom.size > need:
                rest = atom.size // need
                atoms.insert(0, replace(atom, size=rest))
                atom = replace(atom, size=need, stride=atom.stride * rest)
            taken.append(atom)
            need //= atom.size
        if need != 1:
            return None
        # A row or a column of a grid may have one place only: it goes where there is an axis for it.
        ones = sum(p == 1 for p in parts[index + 1 :])
        while atoms and atoms[0].size == 1 and ((part == 1 and not taken) or _ones(atoms) > ones):
            taken.append(atoms.pop(0))
        dealt.append(joined(taken))
    return None if any(a.size != 1 for a in atoms) else dealt


def _ones(atoms: list[Atom]) -> int:
    return next((i for i, a in enumerate(atoms) if a.size != 1), len(atoms))


def unified(parts: Sequence[Axes], shape: Sequence[int]) -> Axes:
    """The axes of what tensors that are broadcast together give; where they disagree, unknown."""
    found: list[Axis] = []
    for back in range(len(shape), 0, -1):
        size = shape[-back]
        here = [(axes[-back], labels(axes)[-back]) for axes in parts if len(axes) >= back]
        known = [
            (axis, label)
            for axis, label in here
            if length(axis) == size and any(a.kind != "?" for a in axis) and (size != 1 or len(axis))
        ]
        found.append(_agreed(known, size))
    return tuple(found)


def _agreed(known: list[tuple[Axis, str]], size: int) -> Axis:
    if not known:
        return unknown(size)
    (first, label), *rest = known
    if all(axis == first for axis, _ in rest):
        return first
    named = {label for _, label in known}
    if len(named) == 1 and label != "?":
        return first if label != "t" or len({tokens(axis) for axis, _ in known}) == 1 else whole("t", size)
    # A digit that one tensor has beside its others can be whole in another: the whole is known.
    if len(named - {"?"}) == 1 and len({tuple(a.kind for a in axis) for axis, _ in known}) == 1:
        return next(axis for axis, label in known if label != "?")
    return lost(size) if size != PRIME else unknown(size)
