"""A command of every family of methods, made from the table and the methods' signatures."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

from cyclopts import Group, Parameter
from docstring_parser import parse as parse_docstring
from rich.progress import Progress

from inward.atlas import unique_names
from inward.atlas_command import atlas_options, run_atlas
from inward.errors import CallError
from inward.methods.table import TABLE, Method
from inward.network.network import Network
from inward.options import Shared, as_number, as_whole
from inward.pictures import find, read
from inward.results import Result, describe
from inward.runs.folder import free_name
from inward.terminal import answer, note, progress_bar

_METHOD = Group("Method", sort_key=10)
_CONVERTERS: dict[Any, Callable[..., Any]] = {float: as_number, int: as_whole}
_INTERNAL = {"on_pass", "size", "seed"}
# What a method takes as one or several, and a command as one word.
_WORDS = {"target", "start"}
EXAMPLES: dict[str, tuple[str, ...]] = {
    "show": (
        "inward show torchvision/resnet50",
        "inward show torchvision/resnet50 --size 160 256 --json",
    ),
    "predict": (
        "inward predict torchvision/resnet50 cat.jpg",
        "inward predict torchvision/resnet50 photographs/ --json > answers.jsonl",
    ),
    "explain": (
        "inward explain torchvision/resnet50 cat.jpg --out out",
        "inward explain torchvision/resnet50 cat.jpg --target layer3.1.conv2/17",
    ),
    "attack": (
        "inward attack torchvision/resnet50 cat.jpg --target class:9 --eps 2/255",
        "inward attack torchvision/resnet50 photographs/ --target class:ostrich",
    ),
    "visualize": (
        "inward visualize torchvision/resnet50 layer3/17 class:ostrich --out out",
        "inward visualize inward/inception_v1 mixed4a/0:64 --weights v1.safetensors",
        "inward visualize torchvision/vgg16 features.28/10 --diverse 4 --video mp4",
        "inward visualize torchvision/vgg16 class:9 --method class-visualization",
    ),
    "rerun": ("inward rerun out/mixed4a-97/manifest.json",),
    "methods": ("inward methods",),
    "demo": ("inward demo --out demo",),
}
_BATCH = 16


def families() -> list[str]:
    """The commands that the table makes, in its order."""
    return list(dict.fromkeys(row.command for row in TABLE))


def command(family: str) -> Callable[..., int]:
    """The function behind ``inward FAMILY``, with the signature that cyclopts reads."""
    rows = [row for row in TABLE if row.command == family]

    signature = inspect.Signature(_parameters(rows), return_annotation=int)

    def run(*given: Any, **set_options: Any) -> int:
        bound = signature.bind(*given, **set_options)
        bound.apply_defaults()
        options = bound.arguments
        row = next(r for r in rows if r.name == options["method"])
        if not options["things"]:
            raise CallError(f"there is nothing to {family}; name {_WHAT[row.takes]}")
        chosen = _chosen(row, rows, options, set(set_options))
        if row.takes == "addresses":
            return run_atlas(row, options, chosen)
        return _run(row, options["model"], options["things"], options["shared"], options["out"], chosen)

    run.__name__ = family
    run.__doc__ = _help(rows)
    run.__signature__ = signature  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()} | {"return": int}
    return run


_WHAT = {
    "images": "one or more pictures, or a folder of them",
    "addresses": "one or more units, such as mixed4a/97, mixed4a/0:64 or mixed4a/*",
}


def _help(rows: list[Method]) -> str:
    lines = [f"{rows[0].question}", ""]
    for row in rows:
        lines.append(f"{row.name}: {(inspect.getdoc(row.function) or '').splitlines()[0]}\n")
        lines += [f"{row.question}\n"] if row is not rows[0] else []
    return "\n".join(lines).replace("``", "")


def usage(family: str) -> str:
    """How a command is called."""
    rows = [row for row in TABLE if row.command == family]
    needed = [p for p in _options(rows[0]) if p.default is inspect.Parameter.empty]
    options = "".join(f" --{p.name} {p.name.upper()}" for p in needed)
    thing = {"images": "IMAGE...", "addresses": "ADDRESS..."}[rows[0].takes]
    return f"Usage: inward {family} MODEL {thing}{options} [OPTIONS]"


def examples(family: str) -> str:
    """The end of a command's help."""
    return "\n".join(["Examples:", *(f"  {text}" for text in EXAMPLES[family])])


def _parameters(rows: list[Method]) -> list[inspect.Parameter]:
    kind = inspect.Parameter
    thing = "IMAGE" if rows[0].takes == "images" else "ADDRESS"
    names = tuple(row.name for row in rows)
    found = [
        kind("model", kind.POSITIONAL_ONLY, annotation=Annotated[str, Parameter(help=_MODEL)]),
        kind(
            "things",
            kind.VAR_POSITIONAL,
            annotation=Annotated[str, Parameter(name=thing, help=_WHAT[rows[0].takes].capitalize() + ".")],
        ),
        kind(
            "method",
            kind.KEYWORD_ONLY,
            default=names[0],
            annotation=Annotated[Literal[names], Parameter(group=_METHOD, help="Which method: see inward methods.")],  # type: ignore[valid-type]
        ),
    ]
    options = {o.name: o for row in reversed(rows) for o in _options(row)}
    found += options.values()
    found.append(
        kind("out", kind.KEYWORD_ONLY, default=Path("inward-out"), annotation=Annotated[Path, Parameter(help=_OUT)])
    )
    if rows[0].takes == "addresses":
        found += atlas_options()
    found.append(kind("shared", kind.KEYWORD_ONLY, default=Shared(), annotation=Shared))
    return found


_MODEL = "torchvision/NAME, timm/NAME, inward/NAME, package.module:factory, path/to/file.py:factory or file.pt2."
_OUT = "The folder that gets a folder for every result."


def _options(row: Method) -> list[inspect.Parameter]:
    """The keyword-only parameters of a method as options, with the help of its docstring."""
    hints = get_type_hints(row.function)
    helps = {p.arg_name: p.description for p in parse_docstring(inspect.getdoc(row.function) or "").params}
    found = []
    for parameter in inspect.signature(row.function).parameters.values():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY or parameter.name in _INTERNAL:
            continue
        hint: Any = hints[parameter.name]
        text = " ".join((helps.get(parameter.name) or "").split())
        settings: dict[str, Any] = {"group": _METHOD, "help": text, "show_default": _shown}
        if hint in _CONVERTERS:
            settings["converter"] = _CONVERTERS[hint]
        if parameter.name in _WORDS:
            hint = str | None if parameter.default is None else str
        found.append(parameter.replace(annotation=Annotated[hint, Parameter(**settings)]))
    return found


def _shown(default: Any) -> str:
    """A default as one would write it: 4/255."""
    return f"{default * 255:g}/255" if isinstance(default, float) and len(str(default)) > 8 else str(default)


def _chosen(row: Method, rows: list[Method], options: dict[str, Any], given: set[str]) -> dict[str, Any]:
    """The options of the chosen method; one that was set and belongs to another is refused, not ignored."""
    own = {p.name for p in _options(row)}
    others = {p.name for r in rows for p in _options(r)} - own
    if given & others:
        raise CallError(f"{row.name} has no option --{sorted(given & others)[0].replace('_', '-')}")
    # Those that were not set have the method's own defaults.
    return {name: options[name] for name in own & given}


def _run(row: Method, model: str, things: Sequence[str], shared: Shared, out: Path, options: dict[str, Any]) -> int:
    # A picture is found before any work is done.
    files = find(things)
    net = shared.network(model)
    names = unique_names([f.stem for f in files])
    if "seed" in inspect.signature(row.function).parameters:
        options["seed"] = shared.seed
    with progress_bar() as bar:
        task = bar.add_task(row.name, total=len(names))
        for start in range(0, len(names), _BATCH):
            batch = slice(start, start + _BATCH)
            result = _compute(row, net, read(files[batch], net).to(net.device), options, bar)
            for index, name in enumerate(names[batch]):
                one = _with_input(result[index], files[batch][index])
                folder = one.save(out / free_name(out, name, row.name))
                answer(bar, f"{folder}  {describe(one.measures())}")
                for text in one.notes():
                    note(bar, f"{name}: {text}")
                bar.advance(task)
            for text in result.record.notes:
                note(bar, text)
    return 0


def _compute(row: Method, net: Network, inputs: Any, options: dict[str, Any], bar: Progress) -> Result:
    """One batch, with a bar of its own for the passes of an ascent."""
    if "on_pass" not in inspect.signature(row.function).parameters:
        return row.function(net, inputs, **options)
    task = bar.add_task("passes", total=None)
    try:
        return row.function(
            net, inputs, on_pass=lambda now: bar.update(task, completed=now.done, total=now.total), **options
        )
    finally:
        bar.remove_task(task)


def _with_input(result: Result, file: Path) -> Result:
    """The record of a result made from a file names it."""
    images = {**result.record.inputs.get("images", {}), "file": str(Path(file).resolve())}
    return replace(result, record=replace(result.record, inputs={"images": images}))
