"""What a page asks that is computed at once: answers, activations, what a point sees, a unit taken out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from inward import draw
from inward.architecture import totals
from inward.errors import CallError, InwardError
from inward.methods.predict import predict
from inward.network.ablation import without
from inward.network.network import Network, node_of
from inward.network.receptive import Field, receptive_fields
from inward.network.timing import seconds
from inward.pictures import read
from inward.types import Images
from inward.wiring import node, timed, wiring

# First-layer filters that are shown, and how many pixels each takes at least.
_FILTERS, _FILTER = 256, 48


@dataclass(frozen=True)
class Look:
    """Looks into one network."""

    number: int
    net: Network

    @cached_property
    def about(self) -> dict[str, Any]:
        """The network in a few facts."""
        net = self.net
        try:
            classes = net.classes(size=net.size)
        except CallError:
            classes = None
        return {
            "id": self.number,
            "name": net.name,
            "size": list(net.size),
            "channels": net.preprocess.channels,
            "classes": classes,
            "parameters": net.parameters,
            "multiply_adds": totals(net)["multiply_adds"],
            "device": str(net.device),
            "logits": self._logits(),
            # By this what a browser keeps is told from what another network gave.
            "weights": net.weights_hash()[:12],
        }

    def _logits(self) -> str | None:
        """The point whose units are the classes; None where it is none that can be pointed at."""
        try:
            node = node_of(self.net.graph(self.net.size), self.net.resolve("class:0"))
        except CallError:
            return None
        return next((p.name for p in reversed(self.net.points.values()) if p.node == node and not p.note), None)

    @cached_property
    def architecture(self) -> dict[str, Any]:
        """See :func:`inward.wiring.wiring`."""
        return wiring(self.net)

    @cached_property
    def times(self) -> dict[str, float]:
        """What every node of the architecture takes of one image, in seconds; measured once."""
        return timed(self.net, self.architecture, seconds(self.net))

    def facts(self, name: str) -> dict[str, Any]:
        """A point in full. Raises CallError where there is none of this name."""
        if name not in self.net.points:
            raise CallError("there is no such point in this network; choose one of its architecture")
        point = self.net.points[name]
        told = node(name, point, container=False)
        keys = ("id", "module", "shape", "units", "grid", "parameters", "multiply_adds", "activation", "note")
        filters = self._filters(name)
        return {
            **{key: told[key] for key in keys},
            "layout": point.layout.kind,
            "source": point.source,
            "receptive_field": self._field(name),
            "filters": None if filters is None else len(filters),
        }

    @cached_property
    def _fields(self) -> Mapping[str, Field]:
        """The receptive fields of all points: the way to the last of them is that to the others."""
        names = [name for name, point in self.net.points.items() if point.node]
        try:
            return receptive_fields(self.net, names)
        except InwardError:
            return {}

    def _field(self, name: str) -> list[int] | None:
        found, point = self._fields.get(name), self.net.points[name]
        if found is None:
            return None
        grid = None if point.shape is None else point.layout.grid_size(point.shape)
        # In the middle, where no edge of the picture cuts it off.
        box = found.unclipped(None if grid is None else (grid[0] // 2, grid[1] // 2))
        return [box.height, box.width]

    def filters(self, name: str) -> Image.Image:
        """The weights of a first layer as pictures. Raises CallError where there are none."""
        found = self._filters(name) if name in self.net.points else None
        if found is None:
            raise CallError("this point has no filters that can be shown as pictures")
        columns = math.ceil(math.sqrt(len(found)))
        tall, wide = found.shape[2:]
        scale = max(1, _FILTER // max(tall, wide))
        cell = (tall * scale + 4, wide * scale + 4)
        # Nothing between them: gray would look like weights of zero.
        sheet = Image.new("RGBA", (columns * cell[1], math.ceil(len(found) / columns) * cell[0]), (0, 0, 0, 0))
        for index, one in enumerate(found):
            # Zero is gray, and the largest weight of a filter is white or black.
            picture = draw.to_picture(0.5 + one / (2 * one.abs().max().clamp_min(1e-12)))
            row, column = divmod(index, columns)
            enlarged = picture.resize((wide * scale, tall * scale), Image.Resampling.NEAREST)
            sheet.paste(enlarged, (column * cell[1] + 2, row * cell[0] + 2))
        return sheet

    def _filters(self, name: str) -> torch.Tensor | None:
        weight = self.net.weights().get(f"{name}.weight")
        channels = self.net.preprocess.channels
        if weight is None or weight.ndim != 4 or weight.shape[1] != channels or channels not in (1, 3):
            return None
        return weight[:_FILTERS].detach().float().cpu() if min(weight.shape[2:]) > 1 else None

    def answers(self, file: Path) -> list[dict[str, Any]]:
        """The five most probable classes."""
        return _top(self.net, self.image(file))

    def activations(self, file: Path, name: str) -> dict[str, list[float]]:
        """Of every unit of a point the largest activation and the mean, on a picture."""
        (flat,) = self._features(self.image(file), name)
        return {"maxima": _finite(flat.amax(1)), "means": _finite(flat.mean(1))}

    def sensitivity(self, pair: Images, name: str) -> dict[str, list[float]]:
        """Of every unit of a point the mean absolute difference over its places between two pictures, (2, C, H, W).

        Zhang, Liu, Liu, Xu, Yu, Ma and Li, "Interpreting and improving adversarial robustness of deep neural networks
        with neuron sensitivity", 2021, arXiv:1909.06978, there as a mean over a data set; here of one picture and its
        adversarial one.
        """
        before, after = self._features(pair.to(self.net.device, self.net.dtype), name)
        return {"changes": _finite((before - after).abs().mean(1))}

    def _features(self, images: Images, name: str) -> torch.Tensor:
        """A point as (N, C, places). Raises CallError where there is none of this name."""
        if name not in self.net.points:
            raise CallError("there is no such point in this network; choose one of its architecture")
        with torch.no_grad():
            found = self.net.trace(images, [name]).features(name).float().cpu()
        return found.reshape(*found.shape[:2], -1)

    def ablation(self, file: Path, address: str) -> dict[str, list[dict[str, Any]]]:
        """The answers with a unit and without it."""
        image = self.image(file)
        return {"before": _top(self.net, image), "after": _top(without(self.net, address), image)}

    def image(self, file: Path) -> Images:
        """A picture as this network sees it."""
        return read([file], self.net).to(self.net.device)


def _top(net: Network, image: Images) -> list[dict[str, Any]]:
    return [{"class": p.index, "label": p.label, "probability": p.probability} for p in predict(net, image)[0]]


def _finite(values: torch.Tensor) -> list[float]:
    """JSON has no infinities and no NaN."""
    return torch.nan_to_num(values).tolist()


def looks(nets: Sequence[Network]) -> list[Look]:
    """One a network."""
    return [Look(number, net) for number, net in enumerate(nets)]
