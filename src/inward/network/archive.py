"""Reading a ``.pt2`` file without running anything that is in it.

``torch.export.load`` unpickles some entries, evaluates size expressions with sympy (which uses
``eval``) and looks functions up by name. Files come from outside; so while one is read, pickles
are restricted to tensors, expressions to arithmetic, and what the program calls to tensor operators.
"""

from __future__ import annotations

import operator
import pickle
import re
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import sympy
import torch
from torch import fx

from inward.errors import InwardError
from inward.network.modes import exchanged

# What sympy's own notation of a size is made of: names of operations, numbers, quoted symbols.
_SHAPE = re.compile(r"^[\w\s+\-*/(),.<>='\"]{0,4000}$")
_QUOTED = re.compile(r"""'[A-Za-z]\w*'|"[A-Za-z]\w*\"""")
_WORDS = set(
    re.findall(
        r"\w+",
        """
        Symbol Integer Rational Float Add Mul Pow Max Min Mod Abs floor ceiling Piecewise ExprCondPair And Or Not
        Eq Ne Lt Le Gt Ge Equality Unequality StrictLessThan LessThan StrictGreaterThan GreaterThan BooleanTrue
        BooleanFalse FloorDiv CeilDiv CleanDiv ModularIndexing PythonMod Where IntTrueDiv FloatTrueDiv TruncToInt
        RoundToInt CeilToInt FloorToInt ToFloat PowByNatural FloatPow LShift RShift Identity
        True False true false positive integer nonnegative negative real
        """,
    )
)
_ARITHMETIC = ("add", "sub", "mul", "truediv", "floordiv", "mod", "neg", "pow", "eq", "ne", "lt", "le", "gt", "ge")
# torch stores entries as they are, so that a file is as large as what is in it, but for what names them.
_SLACK = 1 << 20
_TEXT_BYTES = 64 << 20
_OPERATORS = {operator.getitem, *(getattr(operator, name) for name in _ARITHMETIC)}


def is_arithmetic(expression: str) -> bool:
    """Whether a size expression is made of nothing but numbers, symbols and known operations."""
    if _SHAPE.match(expression) is None or "__" in expression:
        return False
    bare = _QUOTED.sub(" ", expression)
    if "'" in bare or '"' in bare:
        return False
    words = re.findall(r"[A-Za-z_]\w*", bare)
    return all(word in _WORDS or re.fullmatch(r"[suif]\d+", word) for word in words)


class _Refused(Exception):  # noqa: N818
    """Something in the file would have run code, or filled the memory."""


def load_program(path: Path) -> torch.export.ExportedProgram:
    """The program of a ``.pt2`` file.

    Raises InwardError for what cannot be read, or would run code while it is read or used.
    """
    if not path.is_file():
        raise InwardError(f"there is no file {path}")
    try:
        with path.open("rb") as file:
            _check_sizes(file, path.stat().st_size)
        with torch.inference_mode(False), _restricted():
            program = torch.export.load(path)
    except Exception as error:  # a damaged archive raises anything at all
        # What was refused inside may have been wrapped on its way out.
        if _is_refusal(error):
            raise InwardError(f"{path.name} holds {_told(error)}, and is refused") from error
        raise InwardError(f"{path.name} is not an exported program that can be read: {_told(error)}") from error
    _check_calls(program.graph_module, path)
    return program


def _check_sizes(file: IO[bytes], size: int, depth: int = 0) -> None:
    """Refuses an archive, or one inside it, that unpacks to more than it holds."""
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if sum(entry.file_size for entry in entries) > size + _SLACK:
            raise _Refused("entries that unpack to more than the file")
        if any(e.file_size > _TEXT_BYTES for e in entries if e.filename.endswith(".json")):
            raise _Refused("a description of more than 64 MB")
        for entry in entries:
            with archive.open(entry) as inner:
                packed = inner.read(4) == b"PK\x03\x04"
            if packed and depth < 3:
                with archive.open(entry) as inner:
                    _check_sizes(inner, entry.file_size, depth + 1)


@contextmanager
def _restricted() -> Iterator[None]:
    tensors_only, plain = torch.load, sympy.sympify

    def load(*args: Any, **options: Any) -> Any:
        try:
            return tensors_only(*args, **options | {"weights_only": True})
        except pickle.UnpicklingError as error:
            raise _Refused("pickled objects, which could run code") from error

    def sympify(expression: Any, *args: Any, **options: Any) -> Any:
        if isinstance(expression, str) and not is_arithmetic(expression):
            raise _Refused("a size that is no arithmetic, which could run code")
        return plain(expression, *args, **options)

    def refuse(*_: Any, **__: Any) -> Any:
        raise _Refused("pickled objects, which could run code")

    with ExitStack() as stack:
        for target, name, function in (
            (torch, "load", load),
            (sympy, "sympify", sympify),
            (pickle, "loads", refuse),
            (torch._C, "_pickle_load_obj", refuse),
        ):
            stack.enter_context(exchanged(target, name, function))
        yield


def _check_calls(module: torch.nn.Module, path: Path) -> None:
    """Refuses a program that calls anything but tensor operators: a name can lead to any function of torch."""
    for part in module.modules():
        for node in part.graph.nodes if isinstance(part, fx.GraphModule) else ():
            known = isinstance(node.target, (torch._ops.OpOverload, torch._ops.HigherOrderOperator))
            if node.op in {"call_method", "call_module"} or (
                node.op == "call_function" and not known and node.target not in _OPERATORS
            ):
                raise InwardError(f"{path.name} calls {node.target}, which is no tensor operator, and is refused")


def _is_refusal(error: BaseException | None) -> bool:
    return error is not None and (isinstance(error, _Refused) or _is_refusal(error.__cause__ or error.__context__))


def _told(error: BaseException) -> str:
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, _Refused):
            return str(found)
        found = found.__cause__ or found.__context__
    return " ".join(str(error).split())[:160] or type(error).__name__
