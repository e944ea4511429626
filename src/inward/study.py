"""The commands of studies: ``inward study activations``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

from cyclopts import App, Group, Parameter
from rich.progress import Progress, TaskID

from inward.data.sets import kind_of, open_set
from inward.errors import CallError
from inward.nets.activations import ACTIVATIONS
from inward.network.network import Network
from inward.options import Shared, as_number, as_whole
from inward.pictures import find
from inward.studies.activations import Activations, activations
from inward.studies.activations_table import AUGMENTATIONS, TRAINED, table, write_table
from inward.studies.depth import depth as passages
from inward.studies.depth_page import write_depth
from inward.studies.pages import write_pages
from inward.terminal import answer, fetching, progress_bar, stopped
from inward.train_command import EPS, recipe_for
from inward.training.augment import stored_size
from inward.training.recipe import OUTPUTS

_STUDY = Group("Study", sort_key=10)
EXAMPLES = (
    "inward study activations torchvision/resnet50 photographs/",
    "inward study activations torchvision/resnet50 photographs/ --points layer3.5",
)
TABLE_EXAMPLES = (
    "inward study activations-table --out table",
    "inward study activations-table --activation relu relog relog-steep --seeds 1 --pictures 500",
)
DEPTH_EXAMPLES = (
    "inward study depth",
    "inward study depth --activation relu relog maxout --init he orthogonal --width 512 --out depth",
)
_EPILOGUE = "\n".join(["Examples:", *(f"  {text}" for text in EXAMPLES)])
study = App(name="study", help="What many pictures say of a network, in one pass over them.", help_format="plaintext")


@study.command(
    name="activations",
    usage="Usage: inward study activations MODEL IMAGE... [OPTIONS]",
    help_epilogue=_EPILOGUE,
)
def activations_command(
    model: str,
    /,
    *image: str,
    points: Annotated[tuple[str, ...], Parameter(group=_STUDY, consume_multiple=True, negative=())] = (),
    k: Annotated[int, Parameter(group=_STUDY, converter=as_whole)] = 9,
    batch: Annotated[int, Parameter(group=_STUDY, converter=as_whole)] = 32,
    pages: Annotated[bool, Parameter(group=_STUDY)] = True,
    out: Path = Path("inward-study"),
    shared: Shared = Shared(),
) -> int:
    """What excites each unit: its largest activations, its histogram, the patches that it answers to most.

    Stopped, it goes on where it was when it is called again.

    Args:
        model: torchvision/NAME, timm/NAME, inward/NAME, package.module:factory, path/to/file.py:factory, file.pt2, or
            the folder of a run of `inward train`.
        image: pictures, or folders of them.
        points: whole points; by default the blocks of the network. Pictures go before it.
        k: pictures kept of each unit.
        batch: pictures in one run of the network.
        pages: write index.html and the pages behind it too.
        out: the folder of the study.
        shared: how the network is made.
    """
    if not image:
        raise CallError("there is nothing to look at; name one or more pictures, or a folder of them")
    files = find(image)
    net = shared.network(model)
    with progress_bar() as bar:
        try:
            found = _look(net, files, points, k, batch, out, bar)
            page = _pages(found, net, out, bar) if pages else None
        except KeyboardInterrupt:
            return stopped(bar, out)
        for key, statistics in found.points.items():
            unit = int(statistics.values[:, 0].argmax())
            address = f"{key}:{unit}" if key.startswith("class") else f"{key}/{unit}"
            top = found.top(address)[0]
            answer(bar, f"{key}  {len(statistics.values)} units, largest {top.value:.4g} in {address}: {top.file.name}")
        answer(bar, str(page or out))
    return 0


@study.command(
    name="depth",
    usage="Usage: inward study depth [OPTIONS]",
    help_epilogue="\n".join(["Examples:", *(f"  {text}" for text in DEPTH_EXAMPLES)]),
)
def depth_command(
    *,
    activation: Annotated[tuple[str, ...], Parameter(group=_STUDY, consume_multiple=True, negative=())] = (),
    init: Annotated[tuple[str, ...], Parameter(group=_STUDY, consume_multiple=True, negative=())] = ("he", "matched"),
    depth: Annotated[int, Parameter(group=_STUDY, converter=as_whole)] = 200,
    width: Annotated[int, Parameter(group=_STUDY, converter=as_whole)] = 256,
    seeds: Annotated[int, Parameter(group=_STUDY, converter=as_whole)] = 3,
    out: Path = Path("inward-depth"),
) -> int:
    """How many layers a signal passes before it explodes or dies, forward and backward.

    Random networks of fully connected layers without biases, of one activation each. A signal has died where it is a
    thousandth of what it was, and exploded where it is a thousand times that.

    Args:
        activation: relu, relog, relog-steep, log, maxout, leaky, softplus, gelu, sigmoid; by default all.
        init: he (variance 2 / width), xavier (1 / width), orthogonal, matched (the variance at which the mean square
            of Gaussian inputs stays).
        depth: the most layers.
        width: of each layer.
        seeds: random networks of each kind; figures are medians.
        out: the folder of the study: depth.json, depth.md, and a depth-INIT.png for each initialization.
    """
    with progress_bar() as bar:
        task = bar.add_task("networks", total=None)
        found = passages(
            activation or tuple(ACTIVATIONS),
            init,
            deepest=depth,
            width=width,
            seeds=seeds,
            on_passage=lambda done, total: bar.update(task, completed=done, total=total),
        )
    written = write_depth(found, out, width=width, seeds=seeds)
    print(written.read_text(encoding="utf-8").split("![")[0].strip())
    print(out)
    return 0


@study.command(
    name="activations-table",
    usage="Usage: inward study activations-table [OPTIONS]",
    help_epilogue="\n".join(["Examples:", *(f"  {text}" for text in TABLE_EXAMPLES)]),
)
def activations_table_command(
    *,
    data: Annotated[str, Parameter(group=_STUDY)] = "mnist",
    activation: Annotated[tuple[str, ...], Parameter(group=_STUDY, consume_multiple=True, negative=())] = (),
    output: Annotated[tuple[str, ...], Parameter(group=_STUDY, consume_multiple=True, negative=())] = tuple(OUTPUTS),
    augmentation: Annotated[tuple[str, ...], Parameter(group=_STUDY, consume_multiple=True, negative=())] = (),
    seeds: Annotated[int, Parameter(group=_STUDY, converter=as_whole)] = 3,
    epochs: Annotated[int, Parameter(group=_STUDY, converter=as_whole)] = 3,
    eps: Annotated[float | None, Parameter(group=_STUDY, converter=as_number)] = None,
    pictures: Annotated[int, Parameter(group=_STUDY, converter=as_whole)] = 200,
    device: Annotated[str, Parameter(group=_STUDY)] = "auto",
    out: Path = Path("inward-table"),
) -> int:
    """What activation, output and augmentation do for robustness, and what only masks gradients.

    Each network is trained alike and attacked by FGSM, PGD of 40 steps, AutoAttack, Square, and images that were made
    on another network. Stopped, it goes on where it was when it is called again.

    Args:
        data: what is trained on, as for `inward train`.
        activation: names of activations; by default all.
        output: softmax, sigmoid.
        augmentation: none, heavy; by default both.
        seeds: networks of each kind.
        epochs: of each training.
        eps: of the attacks, in linf; by default 0.3 for MNIST and digits, else 8/255.
        pictures: held-out pictures that are attacked.
        device: auto (CUDA or MPS where there is one), cpu, cuda, cuda:1, mps.
        out: the folder of the study: table.json, table.md, and a folder for each network.
    """
    recipe = recipe_for({"data": data, "epochs": epochs} | TRAINED)
    eps = EPS[kind_of(data)] if eps is None else eps
    with progress_bar() as bar:
        split = open_set(data, size=stored_size(recipe.size), on_bytes=fetching(bar))
        networks, training = bar.add_task("networks", total=None), bar.add_task("train", total=None)
        try:
            found = table(
                split,
                recipe,
                out,
                activations=activation or tuple(ACTIVATIONS),
                outputs=output,
                augmentations=augmentation or tuple(AUGMENTATIONS),
                seeds=seeds,
                eps=eps,
                pictures=pictures,
                device=device,
                on_network=lambda doing, done, total: bar.update(
                    networks, completed=done, total=total, description=doing
                ),
                on_step=lambda now: bar.update(training, completed=now.step, total=now.steps),
            )
        except KeyboardInterrupt:
            return stopped(bar, out)
    print(write_table(found, out, recipe, eps).read_text(encoding="utf-8").strip())
    print(out)
    return 0


def _look(
    net: Network, files: list[Path], points: tuple[str, ...], k: int, batch: int, out: Path, bar: Progress
) -> Activations:
    task = bar.add_task("activations", total=len(files))
    started: list[tuple[float, int]] = []

    def tell(done: int, total: int) -> None:
        bar.update(task, completed=done, total=total, description=f"activations{_rate(started, done)}")

    found = activations(net, files, points or None, k=k, batch=batch, folder=out, on_batch=tell)
    bar.remove_task(task)
    return found


def _rate(started: list[tuple[float, int]], done: int) -> str:
    """Pictures a second since the first batch was done, which includes making the graph."""
    now = time.monotonic()
    started[:] = started or [(now, done)]
    seconds, seen = now - started[0][0], done - started[0][1]
    return f", {seen / seconds:.1f} pictures/s" if seconds > 0 and seen else ""


def _pages(found: Activations, net: Network, out: Path, bar: Progress) -> Path:
    task: TaskID = bar.add_task("pages", total=None)
    return write_pages(found, net, out, lambda done, total: bar.update(task, completed=done, total=total))
