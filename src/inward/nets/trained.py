"""Weights with what they belong to: one safetensors file from which a network is made again.

Its metadata has an entry ``inward``, JSON: ``net`` (the builder and its options), ``classes``, ``channels``, ``size``,
``mean``, ``std``, and the ``recipe`` it was trained by.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from inward.draw.saving import write_whole
from inward.errors import CallError, InwardError
from inward.nets.cnn import CNN
from inward.nets.resnet import ResNet
from inward.network.answers import Output

NETS: dict[str, Callable[..., nn.Module]] = {"cnn": CNN, "resnet": ResNet}
WEIGHTS = "weights.safetensors"
_KEY = "inward"
_MOST_CLASSES, _MOST_SIZE = 100_000, 4096


def build(net: str, *, channels: int, classes: int, size: int, activation: str, norm: str) -> nn.Module:
    """A network with random weights, drawn from PyTorch's generator. Raises CallError for an unknown name."""
    if net not in NETS:
        raise CallError(f"there is no network '{net}' to train; choose {', '.join(NETS)}")
    return NETS[net](channels=channels, classes=classes, size=size, kind=activation, norm=norm)


def save_trained(path: Path, module: nn.Module, told: Mapping[str, Any], *, half: bool) -> None:
    """Writes weights with what they belong to, in half precision where that is asked; a whole file or none.

    What half precision has no room for stays as it is. Raises InwardError for weights that are not finite.
    """
    wrong = next((k for k, v in module.state_dict().items() if not v.isfinite().all()), None)
    if wrong is not None:
        raise InwardError(f"the weights {wrong} are not finite, and are not written; lower the learning rate (--rate)")
    state = {k: _as_kept(v, half) for k, v in module.state_dict().items()}
    write_whole(save(state, {_KEY: json.dumps(told)}), path)


def rounded(module: nn.Module) -> None:
    """Rounds weights as :func:`save_trained` does in half precision, so that what is measured is what is kept."""
    module.load_state_dict({k: _as_kept(v, True).to(v.dtype) for k, v in module.state_dict().items()})


def load_trained(path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The network of a file that :func:`save_trained` wrote, in eval mode and float32, and what it was told.

    Raises:
        InwardError: where the file is missing, damaged, or says nothing of its network.
    """
    if not path.is_file():
        raise InwardError(f"there is no {path}; a run that was trained to its end has it")
    try:
        with safe_open(path, "pt") as file:
            told = json.loads((file.metadata() or {})[_KEY])
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise InwardError(f"{path} is no file of trained weights of inward ({type(error).__name__})") from error
    _check(path, told)
    # Its weights are replaced: nothing is drawn from the caller's generator.
    with torch.random.fork_rng(devices=[]):
        module = build_as_told(told)
    try:
        module.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
    except RuntimeError as error:
        raise InwardError(f"the weights in {path} are not those of the network it names; it is damaged") from error
    return module.eval(), told


def output_of(told: Mapping[str, Any]) -> Output:
    """What makes probabilities of the logits of a network, by what its file of weights says."""
    recipe = told.get("recipe")
    return "sigmoid" if isinstance(recipe, dict) and recipe.get("output") == "sigmoid" else "softmax"


def build_as_told(told: Mapping[str, Any]) -> nn.Module:
    """The network that a file of weights says it belongs to, with random weights."""
    own = {k: told["net"][k] for k in ("activation", "norm")}
    return build(told["net"]["name"], channels=told["channels"], classes=len(told["classes"]), size=told["size"], **own)


def shipped(name: str) -> Path:
    """The file of weights of a network that comes with the package."""
    return Path(__file__).with_name("weights") / f"{name}.safetensors"


def shipped_card(name: str) -> dict[str, Any]:
    """How a network that comes with the package was trained, and what it does."""
    return json.loads(shipped(name).with_suffix(".json").read_text(encoding="utf-8"))


def _as_kept(value: Tensor, half: bool) -> Tensor:
    if half and value.is_floating_point() and bool((value.abs() <= torch.finfo(torch.float16).max).all()):
        value = value.to(torch.float16)
    return value.detach().cpu().contiguous()


def _check(path: Path, told: Any) -> None:
    """What a file says may come from anywhere."""
    fits = (
        isinstance(told, dict)
        and isinstance(told.get("net"), dict)
        and all(isinstance(told["net"].get(k), str) for k in ("name", "activation", "norm"))
        and type(told.get("channels")) is int
        and 1 <= told["channels"] <= 16
        and type(told.get("size")) is int
        and 8 <= told["size"] <= _MOST_SIZE
        and isinstance(told.get("classes"), list)
        and 2 <= len(told["classes"]) <= _MOST_CLASSES
        and all(isinstance(name, str) for name in told["classes"])
        and all(_numbers(told.get(k), told["channels"]) for k in ("mean", "std"))
    )
    if not fits:
        raise InwardError(f"what {path} says of its network is damaged or of another version")


def _numbers(values: Any, count: int) -> bool:
    return isinstance(values, list) and len(values) == count and all(isinstance(v, (int, float)) for v in values)
