"""Pictures of units by ascent: in batches that fit into memory, each the same alone or among others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from inward.ascent import Ascent, OnPass, Pass, Row, ascend
from inward.columns.batches import Each
from inward.columns.objectives import Objective
from inward.columns.starts import NAMED
from inward.errors import CallError
from inward.gradient import keys_of, trace_for
from inward.methods.recipe import batches_of
from inward.network.network import Network
from inward.pictures import read
from inward.results import Visualization
from inward.runs.record import Record
from inward.types import Images, Pictures, Size


@dataclass(frozen=True, eq=False)
class Picture:
    """What came of one unit: its D pictures (D, C, H, W), and what was seen of the first on the way."""

    images: Pictures
    snapshots: Tensor
    final: Tensor
    history: Tensor
    redirected: Tensor


@dataclass(frozen=True, eq=False)
class Job:
    """A method that makes pictures of units.

    Attributes:
        size: height and width.
        row: the row of an ascent for these units.
        unit: what is asked of the network for a name, without penalties; its value is reported.
        starts: noise, gray or a picture file, for every name.
        seeds: one for each of the pictures of a unit.
        seed: of the augmentations.
        sign: -1 where the row goes down.
        kept: passes after which a snapshot is kept.
        batch: units at once; None: as many as there is memory for.
    """

    net: Network
    size: Size
    row: Callable[[Sequence[str]], Row]
    unit: Callable[[str], Objective]
    starts: Mapping[str, str]
    seeds: Callable[[str], Sequence[int]]
    seed: int = 0
    sign: int = 1
    kept: tuple[int, ...] = ()
    batch: int | None = None

    def render(self, names: Sequence[str], on_pass: OnPass | None = None) -> list[Picture]:
        """The pictures of all units, in their order."""
        found: dict[str, Picture] = {}
        batches = batches_of(self.net, names, self.unit, self.size, each=len(self.seeds(names[0])), batch=self.batch)
        for index, batch in enumerate(batches):
            found |= zip(batch, self._render(batch, _counted(on_pass, index, len(batches))), strict=True)
        return [found[name] for name in names]

    def _render(self, names: list[str], on_pass: OnPass | None) -> list[Picture]:
        snapshots: list[Tensor] = []

        def watch(now: Pass) -> None:
            if now.done in self.kept:
                snapshots.append(now.images().cpu())
            if on_pass is not None:
                on_pass(now)

        row = self.row(names)
        seeds = [seed for name in names for seed in self.seeds(name)]
        row = replace(row, start=_Starts(self.net, self.size, [self.starts[n] for n in names]))
        blank = torch.zeros(len(seeds), self.net.preprocess.channels, *self.size, dtype=self.net.dtype)
        found = ascend(self.net, row, blank, seeds=seeds, seed=self.seed, on_pass=watch)
        # Where all have settled before a snapshot, it shows them as they were left.
        snapshots += [found.images.cpu()] * (len(self.kept) - len(snapshots))
        final = self._finals(names, row, found)
        images, steps, each = found.images.cpu(), found.steps.tolist(), len(seeds) // len(names)
        taken = torch.stack(snapshots, 1) if snapshots else images.new_zeros((len(seeds), 0, *images.shape[1:]))
        return [
            Picture(
                images=images[first : first + each],
                snapshots=taken[first],
                final=final[first : first + each],
                history=self.sign * found.scores[: steps[first], first],
                redirected=found.redirected[first],
            )
            for first in range(0, len(seeds), each)
        ]

    @torch.no_grad()
    def _finals(self, names: Sequence[str], row: Row, found: Ascent) -> Tensor:
        """What the units themselves say of the pictures, without penalties and augmentation."""
        units = Each(tuple(self.unit(name) for name in names), len(found.images) // len(names))
        if units == row.objective:
            return found.final.cpu()
        images = row.parameterization.opaque(found.images)
        return units(trace_for(self.net, images, keys_of(self.net, units, self.size))).cpu()


@dataclass(frozen=True)
class _Starts:
    """Every unit's own start, for its neighboring pictures."""

    net: Network
    size: Size
    words: Sequence[str]

    def __call__(self, like: Images, seeds: Sequence[int]) -> Images:
        shares = like.split(len(like) // len(self.words))
        images, first = [], 0
        for word, share in zip(self.words, shares, strict=True):
            if word in NAMED:
                images.append(NAMED[word](share, seeds[first : first + len(share)]))
            else:
                images.append(read(word, self.net, self.size).to(share).expand_as(share))
            first += len(share)
        return torch.cat(images)


def passes_kept(snapshots: int, steps: int) -> tuple[int, ...]:
    """After which passes so many evenly spaced snapshots are taken."""
    if not 0 <= snapshots <= max(0, steps - 1):
        raise CallError(f"there are 0 to {max(0, steps - 1)} snapshots on a way of {steps} steps, not {snapshots}")
    return tuple((i + 1) * steps // (snapshots + 1) for i in range(snapshots))


def _counted(on_pass: OnPass | None, index: int, batches: int) -> OnPass | None:
    """Passes counted over all batches."""
    if on_pass is None:
        return None
    return lambda now: on_pass(replace(now, done=index * now.total + now.done, total=batches * now.total))


def visualization(
    net: Network, made: Record, names: Sequence[str], starts: Sequence[str], found: Sequence[Picture]
) -> Visualization:
    """The result of a batch of units."""
    longest = max(len(p.history) for p in found)
    histories = [torch.cat([p.history, p.history[-1:].expand(longest - len(p.history))]) for p in found]
    return Visualization(
        net=net,
        record=made,
        images=torch.stack([p.images[0] for p in found]),
        variants=torch.stack([p.images[1:] for p in found]),
        snapshots=torch.stack([p.snapshots for p in found]),
        addresses=tuple(names),
        starts=tuple(starts),
        final=torch.stack([p.final[0] for p in found]),
        variants_final=torch.stack([p.final[1:] for p in found]),
        history=torch.stack(histories, 1),
        passes=torch.tensor([len(p.history) for p in found]),
        redirected=torch.stack([p.redirected for p in found]),
    )
