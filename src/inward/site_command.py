"""What ``inward atlas`` does: the page of a network as a folder that any web host can serve."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from inward.errors import CallError
from inward.network.load import DEFAULT
from inward.options import Shared, as_whole
from inward.pictures import find
from inward.row import Pass
from inward.terminal import answer, progress_bar


def atlas(
    model: str = DEFAULT,
    /,
    *,
    out: Path,
    layers: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative=(), show_default=False)] = (),
    images: Path | None = None,
    steps: Annotated[int, Parameter(converter=as_whole)] = 256,
    shared: Shared = Shared(),
) -> int:
    """A picture of every channel, as a folder of files that any web host can serve: the page of serve, for reading.

    What is there is not made again, so that a run which was stopped goes on. Look at it with `python -m http.server`
    in the folder. A thousand channels take some 8 MB, and patches of pictures beside them 6 MB more.

    Args:
        model: as for every command.
        out: the folder of the site.
        layers: points whose channels are shown; by default the blocks of the network.
        images: a folder of pictures: what excites each channel most stands beside it.
        steps: of each picture.
        shared: how the network is made.
    """
    from inward.server.app import STATIC
    from inward.site import Site, points_of

    files = [] if images is None else [f for f in find([images]) if f.suffix.lower() != ".npy"]
    if images is not None and not images.is_dir():
        raise CallError(f"{images} is no folder; name one that holds pictures")
    net = shared.network(model)
    site = Site(net, points_of(net, layers), out, STATIC, {"steps": steps, "seed": shared.seed}, files)
    there = 0
    with progress_bar(rate="channels") as bar:
        task = bar.add_task("atlas", total=sum(net.points[point].units or 0 for point in site.points))

        def made(point: str, done: int, total: int) -> None:
            nonlocal there
            there = done
            bar.update(task, completed=done, total=total, description=point)

        def passed(now: Pass) -> None:
            bar.update(task, description=f"pass {now.done}/{now.total}")

        try:
            answer(bar, str(site.make(made, passed)))
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"stopped; {there} channels are there, and the same command goes on") from None
    return 0
