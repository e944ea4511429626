"""What every result has, and how its measures are told."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Self

from torch import Tensor

from inward.network.network import Network
from inward.runs.record import Record, described


@dataclass(frozen=True, eq=False)
class Result(ABC):
    """What every result has: the network, the record, and how to take one image out of a batch."""

    # Fields that hold one entry an image, in tensors or tuples; and those whose second axis does.
    batched: ClassVar[tuple[str, ...]] = ()
    columns: ClassVar[tuple[str, ...]] = ()

    net: Network
    record: Record

    def __len__(self) -> int:
        return len(getattr(self, self.batched[0]))

    def __getitem__(self, index: int) -> Self:
        index = range(len(self))[index]
        one = {name: getattr(self, name)[index : index + 1] for name in self.batched}
        one |= {name: getattr(self, name)[:, index : index + 1] for name in self.columns}
        inputs = {name: described(one[name]) for name in self.record.inputs if name in one}
        return replace(self, **one, record=replace(self.record, inputs={**self.record.inputs, **inputs}))

    @abstractmethod
    def measures(self) -> dict[str, Any]:
        """What is said of one image: the ``scores`` of its manifest."""

    def notes(self) -> tuple[str, ...]:
        """What is worth saying of one image beside its measures."""
        return ()

    def arrays(self) -> dict[str, Tensor]:
        """The tensors of the result, by name."""
        held = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in held.items() if isinstance(value, Tensor)}

    def save(self, folder: str | Path) -> Path:
        """Writes the arrays, the pictures and ``manifest.json`` of a result of one image; gives the folder.

        Raises InwardError where the folder cannot be written; CallError for a batch (save ``result[i]``).
        """
        from inward.runs.folder import save

        return save(self, Path(folder))

    def _repr_html_(self) -> str:
        from inward.notebook import html

        return html(self)


def describe(measures: Mapping[str, Any]) -> str:
    """Measures in one line, for captions and the terminal."""
    return ", ".join(f"{key} {told(value)}" for key, value in measures.items())


def told(value: Any) -> str:
    """A measure as captions have it."""
    if isinstance(value, list):
        return " ".join(told(each) for each in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
