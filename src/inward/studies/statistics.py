"""What is kept of a point while pictures stream by: maxima, a histogram, the places that excite each unit most.

The bins are the same for every unit, network and run: four an octave, on both sides of 0, between fixed
powers of two. Nothing has to be known of the values beforehand; counts of parts of the pictures add up; the
bin of a value is read off its bits, exactly; and the relative width is the same for a unit that
answers with hundredths and for one that answers with thousands.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int
from torch import Tensor

from inward.errors import InwardError

_LOW, _HIGH = -12, 16
# Two bits of the mantissa are four bins an octave.
_SHIFT = 21
_SIDE = 4 * (_HIGH - _LOW)
BINS = 2 * _SIDE + 1
_FLOOR = ((127 + _LOW) << 23) - (1 << _SHIFT)
_TOP = ((127 + _HIGH) << 23) - 1
# Values binned at once: they and their bins stay in a processor's cache.
_CHUNK = 1 << 18


def edges() -> Tensor:
    """The edges of the bins, (BINS + 1,) float64: infinite at both ends, 2^-12 and -2^-12 around 0.

    A bin holds its edge that is nearer to 0.
    """
    octaves = torch.arange(_LOW, _HIGH, dtype=torch.float64)
    above = (2.0 ** octaves[:, None] * torch.tensor([1.0, 1.25, 1.5, 1.75], dtype=torch.float64)).flatten()
    side = torch.cat([above, torch.tensor([torch.inf], dtype=torch.float64)])
    return torch.cat([-side.flip(0), side])


def bins(values: Float[Tensor, ...]) -> Int[Tensor, ...]:
    """The bin of each float32 value, from 0 to BINS - 1."""
    return _binned(values, torch.empty_like(values), torch.empty_like(values, dtype=torch.int32))


def _binned(values: Tensor, room: Tensor, signs: Tensor | None) -> Tensor:
    """The bins, written into ``room``: fresh memory for every step would take longer than the arithmetic.

    ``signs`` is room for the signs, None where no value is negative.
    """
    # Positive floats are in the order of their bits.
    size = torch.abs(values, out=room).view(torch.int32)
    size.clamp_(_FLOOR, _TOP).sub_(_FLOOR).bitwise_right_shift_(_SHIFT)
    if signs is not None:
        torch.bitwise_right_shift(values.view(torch.int32), 31, out=signs)
        size.bitwise_xor_(signs).sub_(signs)
    return size.add_(_SIDE)


@dataclass(frozen=True, eq=False)
class Statistics:
    """What is known of the C units of a point.

    Attributes:
        values: (C, k) float32, the largest activations, one a picture, largest first; -inf where there are fewer.
        images: (C, k) int64, the pictures they are in; -1 where there are fewer.
        places: (C, k) int64, the positions they are at, counted row by row.
        means: (C,) float32, the largest over the pictures of the mean over positions.
        counts: (C, BINS) int64, how many activations (pictures times positions) are in each bin.
    """

    values: Float[Tensor, "c k"]
    images: Int[Tensor, "c k"]
    places: Int[Tensor, "c k"]
    means: Float[Tensor, " c"]
    counts: Int[Tensor, "c b"]

    @classmethod
    def none(cls, units: int, k: int, device: torch.device) -> Statistics:
        """Before the first picture."""
        return cls(
            values=torch.full((units, k), -torch.inf, device=device),
            images=torch.full((units, k), -1, dtype=torch.long, device=device),
            places=torch.zeros((units, k), dtype=torch.long, device=device),
            means=torch.full((units,), -torch.inf, device=device),
            counts=torch.zeros((units, BINS), dtype=torch.long, device=device),
        )

    def tensors(self) -> dict[str, Tensor]:
        """The tensors by their names."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def to(self, device: str | torch.device) -> Statistics:
        """The same on another device."""
        return Statistics(**{name: tensor.to(device) for name, tensor in self.tensors().items()})

    def after(self, activations: Float[Tensor, "n c p"], first: int) -> Statistics:
        """With the activations of further pictures, of which the first is number ``first``. Changes nothing in place.

        Raises InwardError where an activation is not finite.
        """
        activations = activations.float()
        largest, means = activations.amax(2), activations.mean(2)
        if not bool((largest.isfinite() & means.isfinite()).all()):
            raise InwardError("an activation is not finite; check the weights, or use --dtype float32")
        values, images, places = self._ranked(activations, largest, first)
        return Statistics(values, images, places, self.means.maximum(means.amax(0)), self._counted(activations))

    def _ranked(self, activations: Tensor, largest: Tensor, first: int) -> tuple[Tensor, Tensor, Tensor]:
        k = self.values.shape[1]
        together = torch.cat([self.values, largest.T], 1)
        # Stable: of equal values the earlier picture comes first, whatever the batches were.
        ranked, order = together.sort(dim=1, descending=True, stable=True)
        order = order[:, :k]
        new = order >= k
        kept = order.clamp(max=k - 1)
        images = torch.where(new, order - k + first, self.images.gather(1, kept))
        places = self.places.gather(1, kept)
        unit, rank = new.nonzero(as_tuple=True)
        places[unit, rank] = activations[order[unit, rank] - k, unit].argmax(1)
        return ranked[:, :k].contiguous(), images, places

    def _counted(self, activations: Tensor) -> Tensor:
        units = torch.arange(len(self.counts), dtype=torch.int32, device=activations.device)[:, None] * BINS
        # Whole numbers of 32 bits are counted several times faster; a batch holds too few to overflow.
        counts = torch.zeros(self.counts.numel(), dtype=torch.int32, device=activations.device)
        one = torch.ones((), dtype=torch.int32, device=activations.device)
        together = max(1, _CHUNK // activations[0].numel())
        room = torch.empty_like(activations[:together], memory_format=torch.contiguous_format)
        signs = torch.empty_like(room, dtype=torch.int32) if bool(activations.amin() < 0) else None
        for part in activations.split(together):
            held = slice(len(part))
            where = _binned(part, room[held], None if signs is None else signs[held]).add_(units)
            counts.index_add_(0, where.view(-1), one.expand(where.numel()))
        return self.counts + counts.view_as(self.counts)


def shown_histogram(edges: Tensor, counts: Tensor) -> dict[str, list[float]]:
    """From the first bin that holds anything to the last; an open end is told as the edge beside it."""
    held = counts.nonzero()[:, 0].tolist()
    first, last = (held[0], held[-1]) if held else (0, 0)
    finite = edges[torch.isfinite(edges)]
    shown = edges[first : last + 2].clamp(finite.min(), finite.max())
    return {"edges": shown.tolist(), "counts": counts[first : last + 1].tolist()}
