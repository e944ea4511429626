"""A command of every family of methods, made from the table and the methods' signatures."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_args

from cyclopts import Group, Parameter

from inward.asked import WHAT, model_and_things
from inward.atlas_command import atlas_options, run_atlas
from inward.attack_command import attack_options, check_steps, searching
from inward.choices import NUMBERS, SEVERAL, Choice, choices, number_of, of_words
from inward.errors import CallError
from inward.explain_command import explain_options, run_all, run_one
from inward.methods.method import Method
from inward.methods.table import TABLE
from inward.network.address import nearest
from inward.network.load import DEFAULT
from inward.options import Shared, as_number, as_numbers, as_whole
from inward.redraw_command import redraw_options, run_redraw
from inward.results import Attribution, Perturbation, Redrawn

_METHOD = Group("Method", sort_key=10)
_CONVERTERS: dict[Any, Callable[..., Any]] = {float: as_number, int: as_whole}
ALL = "all"
EXAMPLES: dict[str, tuple[str, ...]] = {
    "show": (
        "inward show inward/robust",
        "inward show torchvision/resnet50 --depth 2",
        "inward show inward/robust --time",
        "inward show torchvision/resnet50 --size 160 256 --json",
    ),
    "predict": (
        "inward predict cat.jpg",
        "inward predict torchvision/resnet50 cat.jpg",
        "inward predict torchvision/resnet50 photographs/ --json > answers.jsonl",
    ),
    "explain": (
        "inward explain cat.jpg",
        "inward explain torchvision/resnet50 cat.jpg --out out",
        "inward explain torchvision/resnet50 cat.jpg --target layer3.1.conv2/17",
        "inward explain torchvision/resnet50 cat.jpg --method integrated-gradients",
        "inward explain torchvision/vit_b_16 cat.jpg --method grad-cam --score",
        "inward explain torchvision/resnet50 cat.jpg --method all --out out",
    ),
    "attack": (
        "inward attack cat.jpg --target class:church",
        "inward attack torchvision/resnet50 cat.jpg --target class:9 --eps 2/255",
        "inward attack torchvision/resnet50 photographs/ --target class:ostrich",
        "inward attack net.pt2 cat.jpg --method feature-attack --objective layer3/17",
        "inward attack torchvision/resnet50 cat.jpg --method pgd --smallest",
    ),
    "visualize": (
        "inward visualize inward/robust stage3/0:8 class:church",
        "inward visualize torchvision/resnet50 layer3/17 class:ostrich --out out",
        "inward visualize inward/inception_v1 mixed4a/0:64 --weights v1.safetensors",
        "inward visualize torchvision/vgg16 features.28/10 --diverse 4 --video mp4",
        "inward visualize torchvision/vgg16 class:9 --method class-visualization",
    ),
    "invert": (
        "inward invert cat.jpg --through all",
        "inward invert torchvision/resnet50 cat.jpg --at layer2 --video mp4",
        "inward invert torchvision/vgg16 cat.jpg --at features.15 --tv 0.1",
    ),
    "texture": (
        "inward texture brick.jpg",
        "inward texture torchvision/vgg16 brick.jpg --size 512 --tile",
        "inward texture brick.jpg --through all --loss wasserstein",
    ),
    "style": (
        "inward style cat.jpg --style brick.jpg",
        "inward style torchvision/vgg16 cat.jpg --style brick.jpg --longest 1024",
        "inward style cat.jpg --style brick.jpg wave.jpg --shares 0.7 0.3",
        "inward style cat.jpg --style brick.jpg wave.jpg --regions a.png b.png",
    ),
    "dream": (
        "inward dream cat.jpg",
        "inward dream torchvision/googlenet cat.jpg --at inception4c --video mp4",
        "inward dream cat.jpg --at stage3.1 --guide flowers.jpg",
        "inward dream cat.jpg --at stage3.1 --zoom 120 --video mp4",
    ),
    "serve": (
        "inward serve",
        "inward serve torchvision/resnet50 --images photographs/",
        "inward serve inward/inception_v1 --weights v1.safetensors --no-browser",
        "inward serve torchvision/resnet50 --compare torchvision/vgg16",
    ),
    "atlas": (
        "inward atlas inward/robust --out site",
        "inward atlas torchvision/resnet50 --layers layer3 layer4 --out site",
        "inward atlas torchvision/resnet50 --images photographs/ --out site",
    ),
    "rerun": ("inward rerun out/mixed4a-97/manifest.json",),
    "methods": ("inward methods",),
    "demo": ("inward demo --out demo", "inward demo cat.jpg dog.jpg"),
}
# In the words of a docstring, up to the end of the sentence; a point inside of a number ends none.
_BY_DEFAULT = re.compile(r"[Bb]y default ((?:[^.;]|\.(?=\S))+)")
# How many methods an option's help names.
_NAMED = 4


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
        chosen = _rows(rows, options.get("method", rows[0].name))
        options["model"], options["things"] = model_and_things(
            options["model"], options["things"], rows[0].takes, f"there is nothing to {family}"
        )
        own = [(row, _chosen(row, chosen, rows, options, set(set_options))) for row in chosen]
        if family == "attack":
            check_steps(own[0][1])
        if options.get("smallest"):
            own = [(searching(row), given) for row, given in own]
        if rows[0].returns is Redrawn:
            return run_redraw(*own[0], options)
        if rows[0].takes == "addresses":
            return run_atlas(own[0][0], options, own[0][1])
        return run_all(own, options) if len(own) > 1 else run_one(*own[0], options)

    run.__name__ = family
    run.__doc__ = _help(rows)
    run.__signature__ = signature  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()} | {"return": int}
    return run


def _rows(rows: list[Method], name: str) -> list[Method]:
    """The methods that a name means. Raises CallError naming the nearest where it means none."""
    names = [row.name for row in rows]
    if name == ALL and rows[0].returns is Attribution:
        return rows
    if name not in names:
        raise CallError(f"there is no method '{name}' here; the nearest: {nearest(name, names)}")
    return [rows[names.index(name)]]


def _help(rows: list[Method]) -> str:
    lines = [f"{rows[0].question}", ""]
    for row in rows:
        lines.append(f"{row.name}: {(inspect.getdoc(row.function) or '').splitlines()[0]}\n")
        lines += [f"{row.question}\n"] if row is not rows[0] else []
    return "\n".join(lines).replace("``", "")


def usage(family: str) -> str:
    """How a command is called."""
    rows = [row for row in TABLE if row.command == family]
    having = [{p.name for p in _options(row) if p.default is p.empty} for row in rows]
    needed = [p for p in _options(rows[0]) if p.name in set.intersection(*having)]
    options = "".join(f" --{p.name} {p.name.upper()}" for p in needed)
    thing = {"images": "IMAGE...", "addresses": "ADDRESS..."}[rows[0].takes]
    return f"Usage: inward {family} [MODEL] {thing}{options} [OPTIONS]"


def examples(family: str) -> str:
    """The end of a command's help."""
    return "\n".join(["Examples:", *(f"  {text}" for text in EXAMPLES[family])])


def _parameters(rows: list[Method]) -> list[inspect.Parameter]:
    kind = inspect.Parameter
    thing = "IMAGE" if rows[0].takes == "images" else "ADDRESS"
    explains = rows[0].returns is Attribution
    names = tuple(row.name for row in rows) + ((ALL,) if explains else ())
    told = f"Which method: {', '.join(names)}." + (f" {ALL} draws one sheet of them." if explains else "")
    found = [
        kind("model", kind.POSITIONAL_ONLY, default=None, annotation=Annotated[str | None, Parameter(help=MODEL)]),
        kind(
            "things",
            kind.VAR_POSITIONAL,
            annotation=Annotated[str, Parameter(name=thing, help=WHAT[rows[0].takes].capitalize() + ".")],
        ),
    ]
    if len(names) > 1:
        which = Annotated[str, Parameter(group=_METHOD, help=told)]
        found.append(kind("method", kind.KEYWORD_ONLY, default=names[0], annotation=which))
    found += _joint(rows)
    found.append(
        kind("out", kind.KEYWORD_ONLY, default=Path("inward-out"), annotation=Annotated[Path, Parameter(help=_OUT)])
    )
    if rows[0].takes == "addresses":
        found += atlas_options()
    if explains:
        found += explain_options()
    if rows[0].returns is Perturbation:
        found += attack_options()
    if rows[0].returns is Redrawn:
        found += redraw_options(rows[0].command)
    found.append(kind("shared", kind.KEYWORD_ONLY, default=Shared(), annotation=Shared))
    return found


def _joint(rows: list[Method]) -> list[inspect.Parameter]:
    """The options of all methods of a command; each says which have it, where not all do."""
    having: dict[str, list[tuple[Method, inspect.Parameter]]] = {}
    for row in rows:
        for option in _options(row):
            having.setdefault(option.name, []).append((row, option))
    return [_shared_option(found, len(rows)) for found in having.values()]


def _shared_option(found: list[tuple[Method, inspect.Parameter]], count: int) -> inspect.Parameter:
    first = found[0][1]
    everywhere = len(found) == count
    defaults = {str(option.default) for _, option in found}
    if everywhere and len(defaults) == 1:
        return first
    settings = first.annotation.__metadata__[0]
    helps = _spoken(found) if everywhere else f"{_spoken(found)} ({_named([row for row, _ in found])})"
    if len(defaults) > 1:
        helps += _defaults(found)
    # A default that differs from method to method is the method's own.
    differ = len(defaults) > 1
    hint = first.annotation.__origin__
    told = Parameter(help=helps, show_default=False if differ else settings.show_default)
    default = None if differ or first.default is inspect.Parameter.empty else first.default
    return first.replace(
        default=default, annotation=Annotated[hint | None if default is None else hint, settings, told]
    )


def _named(rows: list[Method]) -> str:
    return ", ".join(row.name for row in rows[:_NAMED]) + (" and others" if len(rows) > _NAMED else "")


def _spoken(found: list[tuple[Method, inspect.Parameter]]) -> str:
    """The words of the first method that has an option; of one with choices, of the first that names them all."""
    texts = [option.annotation.__metadata__[0].help for _, option in found]
    hint = found[0][1].annotation.__origin__
    choices = [each for each in get_args(hint) if isinstance(each, str)]
    return next((text for text in texts if choices and all(each in text for each in choices)), texts[0])


def _defaults(found: list[tuple[Method, inspect.Parameter]]) -> str:
    """The defaults of an option that has several, and whose they are."""
    owners: dict[str, list[Method]] = {}
    for row, option in found:
        owners.setdefault(_default_of(option), []).append(row)
    told = "; ".join(f"{text} in {_named(rows)}" for text, rows in owners.items() if text)
    return f" [defaults: {told}]" if told else ""


def _default_of(option: inspect.Parameter) -> str:
    """A default as help has it; where it is decided later, in the words of the method; empty where it has none."""
    if option.default is option.empty:
        return "needed"
    if isinstance(option.default, tuple):
        return " ".join(map(str, option.default))
    if option.default is not None:
        return _shown(option.default)
    said = _BY_DEFAULT.search(option.annotation.__metadata__[0].help)
    return said[1].partition(", as ")[0] if said else ""


MODEL = (
    "torchvision/NAME, timm/NAME, inward/NAME, package.module:factory, path/to/file.py:factory, file.pt2, or the "
    f"folder of a run of `inward train`; {DEFAULT} where the first word is none of these."
)
_OUT = "The folder that gets a folder for every result."


def _options(row: Method) -> list[inspect.Parameter]:
    """What there is to choose of a method, as options."""
    return [_option(choice) for choice in choices(row)]


def _option(choice: Choice) -> inspect.Parameter:
    settings: dict[str, Any] = {"group": _METHOD, "help": choice.help, "show_default": _shown}
    if number_of(choice.hint) in _CONVERTERS:
        settings["converter"] = _CONVERTERS[number_of(choice.hint)]
    if choice.default is None:
        # What it then is stands in the help.
        settings["show_default"] = False
    if choice.objective and choice.name != "target":
        # A sum may begin with a minus: "-1 * mixed4a/97".
        settings["allow_leading_hyphen"] = True
    if choice.name in SEVERAL | NUMBERS:
        settings |= {"consume_multiple": True, "negative": ()}
    if choice.name in NUMBERS:
        settings |= {"converter": as_numbers, "n_tokens": -1}
    return choice.parameter.replace(annotation=Annotated[choice.hint, Parameter(**settings)])


def _shown(default: Any) -> str:
    """A default as one would write it: 4/255."""
    return f"{default * 255:g}/255" if isinstance(default, float) and len(str(default)) > 8 else str(default)


def _chosen(
    row: Method, chosen: list[Method], rows: list[Method], options: dict[str, Any], given: set[str]
) -> dict[str, Any]:
    """The options of a method; one that was set and belongs to none of the chosen is refused, not ignored."""
    own = {p.name for p in _options(row)}
    others = {p.name for r in rows for p in _options(r)} - {p.name for r in chosen for p in _options(r)}
    if wrong := sorted(given & others):
        having = ", ".join(r.name for r in rows if wrong[0] in {p.name for p in _options(r)})
        raise CallError(
            f"{row.name} has no option --{wrong[0].replace('_', '-')}; leave it out, or give a --method that has it: "
            f"{having}"
        )
    # Those that were not set have the method's own defaults.
    try:
        return {name: of_words(row, name, options[name]) for name in own & given}
    except ValueError as error:
        raise CallError(str(error)) from error
