"""The command ``inward evaluate``: accuracy under attack over labeled images."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Group, Parameter
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from inward.errors import CallError
from inward.methods.attacked import EPS
from inward.methods.levels import LEVELS
from inward.methods.method import Method
from inward.methods.table import TABLE
from inward.network.address import nearest
from inward.network.network import Network
from inward.options import Shared, as_number, as_numbers, as_whole
from inward.studies.accuracy import Crossing, Robustness, told_eps
from inward.studies.examined import Finding
from inward.studies.robustness import OnBatch, eps_at, evaluate
from inward.studies.selfchecks import checked, lines
from inward.terminal import answer, progress_bar, stopped

_ATTACK = Group("Attack", sort_key=10)
EXAMPLES = (
    "inward evaluate torchvision/resnet50 imagenette/val --attack pgd --eps 8/255",
    "inward evaluate torchvision/resnet50 photographs/ --attack pgd --eps 1/255 2/255 4/255 --steps 100",
    "inward evaluate torchvision/resnet50 imagenette/val --attack apgd --accuracy 0.5",
    "inward evaluate torchvision/resnet50 pictures.npz --attack autoattack --eps 4/255",
)
app = App(
    name="evaluate",
    usage="Usage: inward evaluate MODEL DATA [OPTIONS]",
    help_epilogue="\n".join(["Examples:", *(f"  {text}" for text in EXAMPLES)]),
    help_format="plaintext",
)
# The most classes that are listed; the others are in the report.
_LISTED = 12
# Columns of eps in the table of classes.
_COLUMNS = 5


@app.default
def evaluate_command(
    model: str,
    data: Path,
    /,
    *,
    attack: Annotated[str, Parameter(group=_ATTACK)] = "pgd",
    eps: Annotated[
        tuple[float, ...] | None,
        Parameter(group=_ATTACK, converter=as_numbers, consume_multiple=True, n_tokens=-1, negative=()),
    ] = None,
    accuracy: Annotated[float | None, Parameter(group=_ATTACK, converter=as_number)] = None,
    norm: Annotated[Literal["linf", "l2", "l1"], Parameter(group=_ATTACK)] = "linf",
    loss: Annotated[Literal["cross-entropy", "margin", "dlr"] | None, Parameter(group=_ATTACK)] = None,
    steps: Annotated[int | None, Parameter(group=_ATTACK, converter=as_whole)] = None,
    restarts: Annotated[int | None, Parameter(group=_ATTACK, converter=as_whole)] = None,
    eot: Annotated[int | None, Parameter(group=_ATTACK, converter=as_whole)] = None,
    eight_bit: Annotated[bool, Parameter(group=_ATTACK)] = True,
    checks: bool = True,
    batch: Annotated[int, Parameter(converter=as_whole)] = 0,
    out: Path = Path("inward-evaluation"),
    shared: Shared = Shared(),
) -> int:
    """How much accuracy is left when every picture may be changed a little.

    Each picture counts as right as long as no attack within eps makes the network answer another class.
    Stopped, it goes on where it was when it is called again.

    Data is a folder of folders named after their classes (by name, number or WordNet id), a folder of pictures whose
    names begin with the class's number, an .npz file with images and labels, or an idx file
    (t10k-images-idx3-ubyte.gz, its labels beside it).

    Args:
        model: torchvision/NAME, timm/NAME, inward/NAME, package.module:factory, path/to/file.py:factory, file.pt2, or
            the folder of a run of `inward train`.
        data: labeled pictures: a folder, an .npz file, or an idx file.
        attack: which attack, see `inward methods`.
        eps: the largest change of any value (linf) or the norm of the whole change; several for a curve. By default
            8/255 (linf), 0.5 (l2), 12 (l1). With --accuracy the largest that is tried.
        accuracy: find the eps at which the accuracy is down to this one: 0.5.
        norm: linf, l2 or l1.
        loss: what is climbed; by default the attack's own.
        steps: steps at most; by default the attack's own.
        restarts: how often to begin anew with the pictures that withstood; by default the attack's own.
        eot: runs over which each gradient is averaged, for networks that draw random numbers; by default 1.
        eight_bit: judge the 8-bit picture, rounded towards the original, as a file holds it.
        checks: look for what makes the figure doubtful, such as masked gradients, on 64 of the pictures.
        batch: pictures at once; 0: as many as there is memory for.
        out: the folder of the evaluation.
        shared: how the network is made.
    """
    row = _attack(attack)
    given = {"norm": norm, "loss": loss, "steps": steps, "restarts": restarts}
    given |= {"eot": eot, "eight_bit": eight_bit, "seed": shared.seed or None}
    options = _options(row, {name: value for name, value in given.items() if value is not None})
    if accuracy is not None and eps is not None and len(eps) != 1:
        raise CallError(f"with --accuracy, --eps is the largest that is tried, and {len(eps)} were given; give one")
    net = shared.network(model)
    with progress_bar() as bar:
        watched: Any = partial(row.function, **options, **_inner(row, bar))
        told: dict[str, Any] = {"batch": batch, "folder": out, "on_batch": _outer(row.name, norm, bar)}
        try:
            if accuracy is None:
                found = evaluate(net, data, watched, eps or (EPS[norm],), **told)
            else:
                found = eps_at(net, data, watched, accuracy, most=eps[0] if eps else None, **told)
            findings = _checked(net, data, found, bar, out, shared.seed) if checks else ()
        except KeyboardInterrupt:
            return stopped(bar, out)
        for task in bar.task_ids:
            bar.remove_task(task)
        answer(bar, str(out))
    if isinstance(found, Crossing):
        _print(found.robustness, net, unrounded=False)
        print(_sentence(found))
    else:
        _print(found, net, unrounded=eight_bit)
    for line in lines(findings):
        print(line)
    return 0


def _checked(
    net: Network, data: Path, found: Robustness | Crossing, bar: Progress, out: Path, seed: int
) -> tuple[Finding, ...]:
    """Self-checks at the largest eps; of a search at the one that was found, where there is one."""
    crossing = isinstance(found, Crossing)
    robustness = found.robustness if crossing else found
    eps = found.eps if crossing and math.isfinite(found.eps) else robustness.eps[-1]
    task = bar.add_task("self-checks", total=None)

    def tell(done: int, total: int) -> None:
        bar.update(task, completed=done, total=total)

    return checked(net, data, robustness, eps=eps, folder=out, seed=seed, on_progress=tell)


def _outer(name: str, norm: str, bar: Progress) -> OnBatch:
    """A bar of the images of a pass."""
    task = bar.add_task(name, total=None)

    def tell(done: int, total: int, eps: float) -> None:
        doing = f"{name}, eps {told_eps(eps, norm)}" if eps else "without attack"
        bar.update(task, completed=done, total=total, description=doing)

    return tell


def _inner(row: Method, bar: Progress) -> dict[str, Any]:
    """A bar of the passes of an attack over a batch: what tells it to the attack."""
    known = inspect.signature(row.function).parameters
    if not {"on_pass", "on_progress"} & set(known):
        return {}
    task = bar.add_task("  this batch", total=None)
    if "on_pass" in known:
        return {"on_pass": lambda now: bar.update(task, completed=now.done, total=now.total)}
    return {"on_progress": lambda done, total: bar.update(task, completed=done, total=total)}


def _attack(name: str) -> Method:
    rows = {row.name: row for row in TABLE if row.command == "attack"}
    able = [key for key, row in rows.items() if {"label", "eps"} <= set(inspect.signature(row.function).parameters)]
    if name in able and rows[name].shared:
        raise CallError(f"{name} changes all pictures together, and accuracy is judged by each; use pgd or apgd")
    if name not in able:
        raise CallError(f"there is no attack '{name}' to evaluate with; the nearest: {nearest(name, able)}")
    return rows[name]


def _options(row: Method, given: Mapping[str, Any]) -> dict[str, Any]:
    known = inspect.signature(row.function).parameters
    unknown = [name for name in given if name not in known and name != "seed"]
    if unknown:
        raise CallError(f"{row.name} has no {unknown[0]}; leave out --{unknown[0]}")
    return {name: value for name, value in given.items() if name in known}


def _print(found: Robustness, net: Network, *, unrounded: bool) -> None:
    """The accuracies; those before rounding where they are another matter."""
    console = Console()
    table = Table("eps", "accuracy", "95 % interval", *(["before rounding"] if unrounded else []))
    for row in found.report()["curve"]:
        interval = f"{row['low']:.1%} to {row['high']:.1%}"
        before = [f"{row['accuracy_unrounded']:.1%}"] if unrounded else []
        table.add_row(told_eps(row["eps"], found.norm), f"{row['accuracy']:.1%}", interval, *before)
    console.print(table)
    if found.norm == "linf" and any(eps * LEVELS < 1 - 1e-9 for eps in found.eps):
        print("below one 8-bit level (1/255) it was judged in float: no 8-bit picture holds so small a change")
    if found.eps and (by := found.by(found.eps[-1])):
        print(f"fooled by: {', '.join(f'{name} {count}' for name, count in by.items())}")
    classes = found.by_class()
    if len(classes) <= _LISTED:
        # As many columns as there is room for; report.json has all.
        apart = max(1, -(-len(found.eps) // _COLUMNS))
        shown = [k for k in range(len(found.eps)) if (len(found.eps) - 1 - k) % apart == 0]
        told = [f"at {told_eps(found.eps[k], found.norm)}" for k in shown]
        by_class = Table("class", "pictures", "accuracy", *told)
        for label, (count, accuracies) in classes.items():
            own = [accuracies[0], *(accuracies[k + 1] for k in shown)]
            by_class.add_row(net.label(label), str(count), *(f"{a:.1%}" for a in own))
        console.print(by_class)


def _sentence(found: Crossing) -> str:
    norm = found.robustness.norm
    low, high = (
        told_eps(eps, norm) if math.isfinite(eps) else "beyond what was tried" for eps in (found.low, found.high)
    )
    if math.isinf(found.eps):
        return f"the accuracy is above {found.share:.1%} at every eps that was tried; give a larger --eps"
    return f"the accuracy is down to {found.share:.1%} at eps {told_eps(found.eps, norm)} (95 %: {low} to {high})"
