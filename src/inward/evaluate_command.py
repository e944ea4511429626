"""The command ``inward evaluate``: accuracy under attack over a folder of labeled pictures."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from cyclopts import App, Group, Parameter
from rich.console import Console
from rich.table import Table

from inward.errors import CallError
from inward.methods.attacked import EPS
from inward.methods.table import TABLE, Method
from inward.network.address import nearest
from inward.network.network import Network
from inward.options import Shared, as_numbers, as_whole
from inward.studies.labeled import labeled
from inward.studies.robustness import Attack, Robustness, evaluate
from inward.terminal import answer, progress_bar

_ATTACK = Group("Attack", sort_key=10)
EXAMPLES = (
    "inward evaluate torchvision/resnet50 imagenette/val --attack pgd --eps 8/255",
    "inward evaluate torchvision/resnet50 photographs/ --attack pgd --eps 1/255 2/255 4/255 --steps 100",
)
app = App(
    name="evaluate",
    usage="Usage: inward evaluate MODEL FOLDER [OPTIONS]",
    help_epilogue="\n".join(["Examples:", *(f"  {text}" for text in EXAMPLES)]),
    help_format="plaintext",
)
# The most classes that are listed; the others are in the report.
_LISTED = 12


@app.default
def evaluate_command(
    model: str,
    folder: Path,
    /,
    *,
    attack: Annotated[str, Parameter(group=_ATTACK)] = "pgd",
    eps: Annotated[
        tuple[float, ...] | None,
        Parameter(group=_ATTACK, converter=as_numbers, consume_multiple=True, n_tokens=-1, negative=()),
    ] = None,
    norm: Annotated[Literal["linf", "l2", "l1"], Parameter(group=_ATTACK)] = "linf",
    loss: Annotated[Literal["cross-entropy", "margin", "dlr"] | None, Parameter(group=_ATTACK)] = None,
    steps: Annotated[int | None, Parameter(group=_ATTACK, converter=as_whole)] = None,
    restarts: Annotated[int | None, Parameter(group=_ATTACK, converter=as_whole)] = None,
    eot: Annotated[int | None, Parameter(group=_ATTACK, converter=as_whole)] = None,
    eight_bit: Annotated[bool, Parameter(group=_ATTACK)] = True,
    batch: Annotated[int, Parameter(converter=as_whole)] = 0,
    out: Path = Path("inward-evaluation"),
    shared: Shared = Shared(),
) -> int:
    """How much accuracy is left when every picture may be changed a little.

    Each picture counts as right as long as no attack within eps makes the network answer another class.
    Stopped, it goes on where it was when it is called again.

    Args:
        model: torchvision/NAME, timm/NAME, inward/NAME, package.module:factory, path/to/file.py:factory or file.pt2.
        folder: pictures in folders named after their classes, or pictures whose names begin with the class's number.
        attack: which attack, see `inward methods`.
        eps: the largest change of any value (linf) or the norm of the whole change; several for a curve. By default
            8/255 (linf), 0.5 (l2), 12 (l1).
        norm: linf, l2 or l1.
        loss: what is climbed; by default the attack's own.
        steps: steps at most; by default the attack's own.
        restarts: how often to begin anew with the pictures that withstood; by default the attack's own.
        eot: runs over which each gradient is averaged, for networks that draw random numbers; by default 1.
        eight_bit: judge the 8-bit picture, rounded towards the original, as a file holds it.
        batch: pictures at once; 0: as many as there is memory for, at most 128.
        out: the folder of the evaluation.
        shared: how the network is made.
    """
    row = _attack(attack)
    given = {"norm": norm, "loss": loss, "steps": steps, "restarts": restarts}
    given |= {"eot": eot, "eight_bit": eight_bit, "seed": shared.seed or None}
    options = _options(row, {name: value for name, value in given.items() if value is not None})
    net = shared.network(model)
    pictures = labeled(folder, net)
    levels = eps or (EPS[norm],)
    with progress_bar() as bar:
        task = bar.add_task(attack, total=len(pictures))
        try:
            found = evaluate(
                net,
                pictures,
                cast("Attack", partial(row.function, **options)),
                levels,
                name=row.name,
                parameters=options,
                batch=batch,
                folder=out,
                on_batch=lambda done, _: bar.update(task, completed=done),
            )
        except KeyboardInterrupt:
            bar.stop()
            print(f"inward: stopped; the same command goes on from what {out} holds", file=sys.stderr)
            return 130
        bar.remove_task(task)
        answer(bar, str(out))
    _print(found, net)
    return 0


def _attack(name: str) -> Method:
    rows = {row.name: row for row in TABLE if row.command == "attack"}
    able = [key for key, row in rows.items() if {"label", "eps"} <= set(inspect.signature(row.function).parameters)]
    if name not in able:
        raise CallError(f"there is no attack '{name}' to evaluate with; the nearest: {nearest(name, able)}")
    return rows[name]


def _options(row: Method, given: Mapping[str, Any]) -> dict[str, Any]:
    known = inspect.signature(row.function).parameters
    unknown = [name for name in given if name not in known and name != "seed"]
    if unknown:
        raise CallError(f"{row.name} has no {unknown[0]}; leave out --{unknown[0]}")
    return {name: value for name, value in given.items() if name in known}


def _print(found: Robustness, net: Network) -> None:
    console = Console()
    table = Table("eps", "accuracy", "95 % interval", "before rounding")
    for row in found.report()["curve"]:
        interval = f"{row['low']:.1%} to {row['high']:.1%}"
        table.add_row(f"{row['eps']:.4g}", f"{row['accuracy']:.1%}", interval, f"{row['accuracy_unrounded']:.1%}")
    console.print(table)
    classes = found.by_class()
    if len(classes) <= _LISTED:
        by_class = Table("class", "pictures", "accuracy", *(f"at {eps:.4g}" for eps in found.eps))
        for label, (count, accuracies) in classes.items():
            by_class.add_row(net.label(label), str(count), *(f"{a:.1%}" for a in accuracies))
        console.print(by_class)
