"""Computing a result again from its manifest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from inward.errors import CallError, InwardError
from inward.methods.method import Method
from inward.methods.table import by_name
from inward.network.load import is_run, load, source_sha256
from inward.network.network import Network
from inward.results import Result
from inward.runs.folder import MANIFEST, arrays_in
from inward.runs.manifest import DTYPES, read
from inward.runs.record import sha256

_KNOWN = ("torchvision/", "timm/", "inward/")


@dataclass(frozen=True)
class Rerun:
    """The new result, and by how much its arrays differ from the old ones (absolute, by name)."""

    result: Result
    differences: Mapping[str, float]


def rerun(manifest: str | Path, *, trust: bool = False, device: str | None = None) -> Rerun:
    """Computes a saved result again: the same network, weights, inputs and parameters.

    Args:
        manifest: a ``manifest.json``, or the folder that holds it.
        trust: whether to run the Python code that the manifest's network comes from, where it is a
            factory; without it such a manifest is refused.
        device: by default the one the manifest names.

    Raises:
        InwardError: where the manifest cannot be read, or weights or inputs are not those it names.
        CallError: where it needs ``trust``, or its network was made in Python.
    """
    path = Path(manifest)
    path = path / MANIFEST if path.is_dir() else path
    told = read(path)
    row = by_name(told["method"])
    net = _network(told["network"], trust, device)
    old = arrays_in(path.parent)
    result = _call(row, net, dict(told["parameters"]), old, told["inputs"])
    _check_files(result, told["inputs"])
    new = {k: v.detach().cpu() for k, v in result.arrays().items()}
    return Rerun(result, {k: _gap(new[k], old[k]) for k in sorted(new.keys() & old.keys())})


def _network(told: Mapping[str, Any], trust: bool, device: str | None) -> Network:
    spec = dict(told.get("spec") or {})
    name = spec.pop("spec", None)
    if not name:
        raise CallError("this result's network was made in Python, not by name; compute it again there")
    if not (name.startswith(_KNOWN) or name.endswith(".pt2") or is_run(name) or trust):
        raise CallError(f"this manifest runs the Python code of {name}; give --trust if you trust it")
    if spec.get("source_sha256") != source_sha256(name):
        raise InwardError(f"{name} is not the file that the manifest was made with; give that file back")
    known = {k: spec.get(k) for k in ("weights", "mean", "std", "labels")}
    size = (spec["size"][0], spec["size"][1]) if spec.get("size") else None
    dtype, where = DTYPES.get(spec.get("dtype") or ""), device or told.get("device") or "auto"
    with torch.random.fork_rng(devices=[]):
        # What was random when the network was made.
        torch.manual_seed(spec.get("seed") or 0)
        net = load(name, size=size, dtype=dtype, device=where, **known)
    if net.weights_hash() != told.get("weights_sha256"):
        raise InwardError(f"the weights of {name} are not those of the manifest; give the same weights file")
    return net


def _call(row: Method, net: Network, parameters: dict[str, Any], old: Mapping[str, Tensor], inputs: Any) -> Result:
    if row.takes == "addresses":
        parameters["size"] = tuple(parameters.get("size") or net.size)
        return row.function(net, parameters.pop("addresses"), **parameters)
    if any("given" in (value if isinstance(value, list) else [value]) for value in parameters.values()):
        raise CallError("a picture beside the images was given in Python, so this cannot be computed again")
    if row.shared:
        raise CallError(f"what {row.name} found was found for all its pictures together; attack them together again")
    images = old.get("images")
    if images is None:
        raise InwardError("the saved arrays hold no images to compute from")
    told = inputs.get("images", {})
    if not isinstance(told, Mapping) or told.get("sha256") != sha256(images):
        raise InwardError("the saved images are not those of the manifest")
    return row.function(net, images.to(net.device), **parameters)


def _check_files(result: Result, told: Mapping[str, Any]) -> None:
    """Raises InwardError where a picture beside the images, which was read again from its file, is another one."""
    for name, given in result.record.inputs.items():
        saved = told.get(name)
        if name != "images" and (not isinstance(saved, Mapping) or saved.get("sha256") != given["sha256"]):
            raise InwardError(f"the {name} is not the picture that the manifest was made with; give that file back")


def _gap(new: Tensor, old: Tensor) -> float:
    if new.shape != old.shape:
        return float("inf")
    return (new.double() - old.double()).abs().max().item() if new.numel() else 0.0
