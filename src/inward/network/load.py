"""Networks by name: ``torchvision/NAME``, ``timm/NAME``, ``inward/NAME``, a factory, a ``.pt2`` file."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import re
import socket
import sys
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from inward.errors import CallError, InwardError
from inward.network.address import nearest
from inward.network.answers import Output
from inward.network.archive import load_program
from inward.network.devices import pick_device
from inward.network.files import (
    absolute,
    read_labels,
    read_weights,
    short,
    source_file,
    source_sha256,
    whole_words,
)
from inward.network.modules import unwrap
from inward.network.network import Network
from inward.network.preprocess import Preprocess
from inward.network.program import ProgramSource
from inward.types import Size

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_FORMS = (
    "torchvision/NAME, timm/NAME, inward/NAME, package.module:factory, path/to/file.py:factory, file.pt2 or the folder "
    "of a run"
)
_OWN = {
    "inception_v1": "inward.nets.inception_v1:inception_v1",
    "digits": "inward.nets.digits:digits",
}
TWINS = ("normal", "robust")
"""Two networks of one build that come with their weights."""
DEFAULT = "inward/normal"
"""The network of commands that are given none."""
_FAMILIES = ("torchvision/", "timm/", "inward/")
_NAMED = re.compile(r"(?!class(@\d+)?:)[^:]+:[A-Za-z_]\w*")


class _Found:
    """A module with what its origin says of its preprocessing and its labels."""

    def __init__(
        self,
        module: nn.Module,
        preprocess: dict[str, Any] | None = None,
        labels: Sequence[str] | None = None,
        output: Output = "softmax",
    ):
        self.module, self.preprocess, self.labels = module, preprocess or {}, labels
        self.output: Output = output


def load(
    spec: str,
    *,
    weights: str | Path | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    size: Size | int | None = None,
    labels: str | Path | Sequence[str] | None = None,
    device: str | torch.device = "auto",
    dtype: torch.dtype | None = None,
) -> Network:
    """A network by its name.

    Args:
        spec: ``torchvision/NAME``, ``timm/NAME``, ``inward/normal``, ``inward/robust`` (ten classes of photographs;
            the same build, trained without and with an adversary; they come with the package),
            ``inward/inception_v1``, the folder of a run of ``inward train``,
            ``package.module:factory``, ``path/to/file.py:factory`` (a function without arguments
            that returns an ``nn.Module``) or ``file.pt2`` (an exported program; one that was saved
            after ``run_decompositions`` has lost its ``no_grad`` blocks, and its gradients pass there).
        weights: a ``.safetensors`` file or a ``.pt`` state dict (read with ``weights_only=True``);
            ``random`` for the initialization as it is; by default the published weights of a
            torchvision or timm model, from the disk or the network.
        mean, std: by channel, in [0, 1] units; by default what the model's origin says.
        size: pixels, height and width (one number: square); by default what the origin says.
        labels: a file (a JSON list, or a line a class, the name in the last tab-separated column) or
            a list of names; by default what the origin says.
        device: ``auto`` (CUDA, MPS or CPU, whichever is there) or a torch device.
        dtype: by default that of the weights.

    Raises:
        CallError: for an unknown name, weights that do not fit, or options that make no sense.
        InwardError: where a file cannot be read or pretrained weights are not to be had.
    """
    if spec.endswith(".pt2"):
        return _load_program(spec, weights, mean, std, size, labels, device, dtype)
    # Of torchvision's models there are several weights with names.
    if not (weights is None or _is_file(weights) or weights == "random" or spec.startswith("torchvision/")):
        raise CallError(f"'{weights}' is no file of weights; give one, or random")
    source = source_sha256(spec)
    found = _find_run(Path(spec), weights) if is_run(spec) else _find(spec, weights)
    module = unwrap(found.module.eval())
    if weights is not None and _is_file(weights):
        _fill(module, Path(weights), spec)
    defaults = found.preprocess
    names = read_labels(labels) if labels is not None else found.labels
    net = Network.of(
        module,
        name=spec,
        size=size or defaults.get("size"),
        channels=defaults.get("channels"),
        mean=tuple(mean) if mean is not None else defaults.get("mean", ()),
        std=tuple(std) if std is not None else defaults.get("std", ()),
        labels=names,
        output=found.output,
        device=device,
        dtype=dtype,
    )
    net.spec.update(_spec(spec, weights, net.preprocess, labels, dtype) | {"source_sha256": source})
    return net


def _spec(spec: str, weights: Any, preprocess: Preprocess, labels: Any, dtype: Any) -> dict[str, Any]:
    """What :func:`load` needs to make the same network again; kept in every manifest."""
    path, colon, name = spec.rpartition(":") if source_file(spec) and ":" in spec else (spec, "", "")
    placed = source_file(spec) is not None or is_run(spec)
    return {
        "spec": f"{Path(path).absolute()}{colon}{name}" if placed else spec,
        "weights": None if weights is None else absolute(weights) if _is_file(weights) else str(weights),
        "mean": list(preprocess.mean),
        "std": list(preprocess.std),
        "size": list(preprocess.size),
        "labels": absolute(labels) if isinstance(labels, (str, Path)) else labels,
        "dtype": None if dtype is None else str(dtype).removeprefix("torch."),
    }


def _is_file(weights: str | Path) -> bool:
    return Path(str(weights)).suffix in {".safetensors", ".pt", ".pth", ".bin"} or Path(str(weights)).exists()


def _find(spec: str, weights: str | Path | None) -> _Found:
    family, _, name = spec.partition("/")
    if family == "torchvision" and name:
        return _torchvision(name, weights)
    if family == "timm" and name:
        return _timm(name, weights)
    if family == "inward" and name in TWINS:
        kept = importlib.import_module("inward.nets.trained")
        return _of_trained(kept.shipped(name), random=weights is not None)
    if family == "inward" and name:
        if name not in _OWN:
            raise CallError(f"inward has no network '{name}'; it has {', '.join([*TWINS, *_OWN])}")
        if weights is None:
            raise CallError(f"{spec} comes without weights; give --weights FILE, or --weights random")
        return _factory(_OWN[name])
    if ":" in spec:
        return _factory(spec)
    raise CallError(f"'{spec}' is not a network; write {_FORMS}")


def is_run(spec: str) -> bool:
    """Whether a network is named by the folder that it was trained in."""
    return bool(spec) and Path(spec).is_dir()


def is_network(word: str) -> bool:
    """Whether a word has the form of a network's name, and so is neither a picture nor a unit of the default one."""
    run = is_run(word) and any((Path(word) / name).is_file() for name in ("weights.safetensors", "recipe.json"))
    return run or word.endswith(".pt2") or word.startswith(_FAMILIES) or _NAMED.fullmatch(word) is not None


def _find_run(folder: Path, weights: str | Path | None) -> _Found:
    """A folder that `inward train` made."""
    if weights is not None:
        raise CallError(f"{folder} has its own weights; leave out --weights")
    kept = importlib.import_module("inward.nets.trained")
    return _of_trained(folder / kept.WEIGHTS)


def _of_trained(path: Path, *, random: bool = False) -> _Found:
    kept = importlib.import_module("inward.nets.trained")
    module, told = kept.load_trained(path)
    if random:
        module = kept.build_as_told(told)
    size = told["size"]
    preprocess = {"size": (size, size), "mean": told["mean"], "std": told["std"], "channels": told["channels"]}
    return _Found(module, preprocess, told["classes"], kept.output_of(told))


def _torchvision(name: str, weights: str | Path | None) -> _Found:
    models = import_torchvision().models
    if name not in models.list_models(module=models):
        near = nearest(name, models.list_models(module=models))
        raise CallError(f"torchvision has no classification model '{name}'; the nearest: {near}")
    published = models.get_model_weights(name)
    default = published.DEFAULT
    chosen: Any = None
    if weights is None or not (_is_file(weights) or weights == "random"):
        key = "DEFAULT" if weights is None else str(weights).rpartition(".")[2]
        if key not in {*published.__members__, "DEFAULT"}:
            raise CallError(
                f"'{weights}' is neither a file nor weights of {name}; it has {', '.join(published.__members__)}"
            )
        chosen = default = getattr(published, key)
    options = {} if name not in {"googlenet", "inception_v3"} or chosen is not None else {"init_weights": False}
    module = _pretrained(lambda: models.get_model(name, weights=chosen, **options), f"torchvision/{name}")
    transform = default.transforms()
    size = transform.crop_size[0]
    preprocess = {"size": (size, size), "mean": tuple(transform.mean), "std": tuple(transform.std), "channels": 3}
    return _Found(module, preprocess, default.meta.get("categories"))


def _timm(name: str, weights: str | Path | None) -> _Found:
    import_torchvision()
    timm = _optional("timm")
    if name.partition(".")[0] not in timm.list_models():
        raise CallError(f"timm has no model '{name}'; the nearest: {nearest(name, timm.list_models())}")
    with contextlib.nullcontext() if weights is not None else _without_retries():
        module = _pretrained(lambda: timm.create_model(name, pretrained=weights is None), f"timm/{name}")
    config: dict[str, Any] = vars(module)["pretrained_cfg"]
    channels, *size = config.get("input_size", (3, 224, 224))
    mean, std = config.get("mean", IMAGENET_MEAN), config.get("std", IMAGENET_STD)
    preprocess = {"size": tuple(size), "mean": tuple(mean), "std": tuple(std), "channels": channels}
    return _Found(module, preprocess, _imagenet_labels() if config.get("num_classes") == 1000 else None)


@contextlib.contextmanager
def _without_retries() -> Iterator[None]:
    """Where the Hugging Face hub cannot be reached, only its cache is asked: it would try for a minute."""
    try:
        from huggingface_hub import constants
    except ImportError:
        yield
        return
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not _reachable(constants.ENDPOINT)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _reachable(url: str) -> bool:
    if urllib.request.getproxies():
        return True
    parts = urllib.parse.urlsplit(url)
    try:
        socket.create_connection((parts.hostname, parts.port or 443), timeout=5).close()
    except OSError:
        return False
    return True


def _pretrained(make: Callable[[], nn.Module], spec: str) -> nn.Module:
    try:
        return make()
    except Exception as error:
        offline = isinstance(error, OSError) or "urlopen" in str(error) or "connect" in str(error).lower()
        if not offline and "hub" not in type(error).__module__ and "http" not in type(error).__module__:
            raise InwardError(f"{spec} cannot be made: {short(error)}") from error
        raise InwardError(
            f"the pretrained weights of {spec} are not on this disk and cannot be downloaded; "
            "give --weights FILE, or --weights random"
        ) from error


def _factory(spec: str) -> _Found:
    where, _, name = spec.rpartition(":")
    module = _module_from_file(Path(where)) if where.endswith(".py") else _module_by_name(where)
    factory = getattr(module, name, None)
    if not callable(factory):
        public = [k for k, v in vars(module).items() if callable(v) and not k.startswith("_")]
        raise CallError(f"{where} has no function '{name}'; the nearest: {nearest(name, public)}")
    try:
        made = factory()
    except Exception as error:
        raise InwardError(f"{spec} failed: {short(error)}") from error
    if not isinstance(made, nn.Module):
        raise CallError(f"{spec} returned {type(made).__name__}; it must return a torch.nn.Module")
    preprocess = {k: v for k in ("mean", "std", "size", "channels") if (v := getattr(factory, k, None)) is not None}
    labels = getattr(factory, "labels", None)
    if where == "inward.nets.inception_v1":
        labels = _imagenet_labels()
    return _Found(made, preprocess, labels)


def _module_from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise InwardError(f"there is no file {path}; give path/to/file.py:factory")
    name = f"inward_user_{path.stem}"
    found = importlib.util.spec_from_file_location(name, path)
    if found is None or found.loader is None:
        raise InwardError(f"{path} cannot be imported as Python")
    module = importlib.util.module_from_spec(found)
    # torch.export looks classes up by their module's name.
    sys.modules[name] = module
    try:
        found.loader.exec_module(module)
    except Exception as error:
        raise InwardError(f"{path} cannot be imported: {short(error)}") from error
    return module


def _module_by_name(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise CallError(f"the module '{name}' cannot be imported: {short(error)}; is it installed here?") from error


def _optional(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise CallError(f"this needs {name}, which is not installed; pip install 'inward[{name}]'") from error


def import_torchvision() -> Any:
    """torchvision, also where its build is for another torch than the one installed.

    Such a build fails at import, because it registers fake kernels for two operators of a library
    that did not load; declaring the two first makes every model work.
    """
    try:
        return _optional("torchvision")
    except RuntimeError:
        for name in [n for n in sys.modules if n.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _KEPT.append(library)
        return _optional("torchvision")


# A library unregisters its operators when it is collected.
_KEPT: list[torch.library.Library] = []


def _imagenet_labels() -> Sequence[str] | None:
    try:
        models = import_torchvision().models
    except (CallError, RuntimeError):
        return None
    return models.get_model_weights("resnet18").DEFAULT.meta["categories"]


def _fill(module: nn.Module, path: Path, spec: str) -> None:
    state = read_weights(path)
    try:
        module.load_state_dict(state, strict=True)
    except RuntimeError as error:
        wrong = [line.strip() for line in str(error).splitlines()[1:] if line.strip()]
        raise CallError(f"the weights in {path.name} do not fit {spec}: {whole_words(wrong[0], 300)}") from error


def _load_program(
    spec: str, weights: Any, mean: Any, std: Any, size: Any, labels: Any, device: Any, dtype: Any
) -> Network:
    if weights is not None:
        raise CallError(f"{spec} carries its own weights; leave out --weights")
    digest = source_sha256(spec)
    program = load_program(Path(spec))
    source = ProgramSource(program, spec)
    source = source.to(pick_device(device), dtype or source.dtype)
    height, width = (size, size) if isinstance(size, int) else size or source.sizes
    source.check(height, width)
    names = read_labels(labels) if labels is not None else None
    preprocess = Preprocess(source.channels, tuple(mean or ()), tuple(std or ()), (height, width))
    made = _spec(spec, None, preprocess, labels, dtype) | {"source_sha256": digest}
    return Network(source, name=spec, preprocess=preprocess, labels=names, spec=made)
