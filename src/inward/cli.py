"""The command line. It holds no mathematics: what it does can be called from Python."""

from __future__ import annotations

import json
import logging
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Parameter, UnknownCommandError, UnusedCliTokensError
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from inward import architecture
from inward.asked import model_and_things
from inward.commands import MODEL, command, examples, families, usage
from inward.errors import CallError, InwardError, InwardWarning
from inward.evaluate_command import app as evaluation
from inward.methods.predict import Prediction, predict
from inward.methods.table import TABLE
from inward.network.address import nearest
from inward.network.load import DEFAULT, is_run
from inward.network.timing import seconds
from inward.options import Shared, as_whole
from inward.pictures import find, read
from inward.serve_command import serve
from inward.site_command import atlas
from inward.study import study
from inward.terminal import answer, progress_bar
from inward.train_command import app as training
from inward.version import VERSION

_BATCH = 32
_SHOWN = MODEL.partition(";")[0] + "."
app = App(
    name="inward",
    help="See inside image networks: what a unit looks for, why this answer, where it is fragile.",
    help_epilogue="Start with `inward demo`. `inward COMMAND --help` has examples.",
    version=VERSION,
    help_format="plaintext",
    suppress_keyboard_interrupt=False,
)
for _family in families():
    app.command(command(_family), name=_family, usage=usage(_family), help_epilogue=examples(_family))
app.command(study)
app.command(evaluation)
app.command(training)
app.command(serve, help_epilogue=examples("serve"))
app.command(atlas, help_epilogue=examples("atlas"))


@app.command(help_epilogue=examples("show"))
def show(
    model: Annotated[str, Parameter(help=_SHOWN)] = DEFAULT,
    /,
    *,
    depth: Annotated[int | None, Parameter(converter=as_whole)] = None,
    time: Annotated[bool, Parameter(negative="")] = False,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
    shared: Shared = Shared(),
) -> int:
    """The architecture of a network: a tree of its points with shapes, parameters and multiply-adds.

    No weights are needed, so none are looked for unless --weights names them.

    Args:
        depth: how many levels of modules are shown; all by default.
        time: measure on this machine what each takes of one picture, in milliseconds.
        as_json: print a JSON list of every point instead.
        shared: how the network is made.
    """
    net = shared.network(model, weights=None if _carries_weights(model) else "random")
    architecture.check_depth(depth)
    taken = seconds(net) if time else None
    if time and not taken:
        raise CallError("the operations of a network without a graph cannot be timed; leave out --time")
    if as_json:
        print(json.dumps(architecture.points_table(net, depth, taken), indent=1))
    else:
        architecture.show(Console(), net, depth, taken)
    return 0


def _carries_weights(model: str) -> bool:
    return model.endswith(".pt2") or ":" in model or is_run(model)


@app.command(name="predict", help_epilogue=examples("predict"))
def predict_command(
    model: Annotated[str | None, Parameter(help=MODEL)] = None,
    /,
    *image: str,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
    shared: Shared = Shared(),
) -> int:
    """The five most probable classes of pictures.

    Args:
        image: one or more pictures, or folders of them.
        as_json: print one JSON object a line instead: {"file", "top": [{"class", "label", "probability"}]}.
        shared: how the network is made.
    """
    model, image = model_and_things(model, image, "images", "there is nothing to predict")
    files = find(image)
    net = shared.network(model)
    with progress_bar() as bar:
        task = bar.add_task("predict", total=len(files))
        for start in range(0, len(files), _BATCH):
            batch = files[start : start + _BATCH]
            for file, top in zip(batch, predict(net, read(batch, net).to(net.device)), strict=True):
                answer(bar, _as_json(file, top) if as_json else _as_text(file, top))
            bar.advance(task, len(batch))
    return 0


def _as_json(file: Path, top: list[Prediction]) -> str:
    best = [{"class": p.index, "label": p.label, "probability": p.probability} for p in top]
    return json.dumps({"file": str(file), "top": best}, ensure_ascii=False)


def _as_text(file: Path, top: list[Prediction]) -> str:
    return "\n".join([str(file), *(f"  {p.probability:6.1%}  {p.label} (class:{p.index})" for p in top)])


@app.command(help_epilogue=examples("rerun"))
def rerun(manifest: Path, /, *, out: Path | None = None, trust: bool = False, device: str | None = None) -> int:
    """Compute a saved result again from its manifest, and say by how much it differs.

    Args:
        manifest: a manifest.json, or the folder that holds it.
        out: where the new result goes; by default beside the old one, its name ending in -rerun.
        trust: run the Python code that the network of the manifest comes from.
        device: by default the one that the manifest names.
    """
    from inward.runs.rerun import rerun as compute

    again = compute(manifest, trust=trust, device=device)
    old = manifest.parent if manifest.name.endswith(".json") else manifest
    folder = again.result.save(out or old.resolve().with_name(f"{old.resolve().name}-rerun"))
    print(folder)
    for name, gap in again.differences.items():
        print(f"  {name}: {'identical' if gap == 0 else f'differs by at most {gap:.3g}'}")
    return 0


@app.command(help_epilogue=examples("methods"))
def methods() -> int:
    """The table of methods: by command on a terminal, and a line each in a pipe."""
    console = Console(highlight=False)
    if not console.is_terminal:
        wide = max(len(row.name) for row in TABLE), max(len(row.command) for row in TABLE) + len("inward ")
        for row in TABLE:
            print(f"{row.name:{wide[0]}}  {f'inward {row.command}':{wide[1]}}  {row.question}  ({row.paper})")
        return 0
    for family in families():
        console.print(f"inward {family} --method", style="bold", markup=False)
        for row in TABLE:
            if row.command == family:
                console.print(Padding(Text.assemble((row.name, "cyan"), f"  {row.question}"), (0, 0, 0, 2)))
                console.print(Padding(Text(row.paper, style="dim"), (0, 0, 0, 6)))
    return 0


@app.command(help_epilogue=examples("demo"))
def demo(
    image: Annotated[tuple[Path, ...], Parameter(consume_multiple=True, negative=(), show_default=False)] = (),
    *,
    out: Path = Path("inward-demo"),
    seed: int = 0,
) -> int:
    """Look inside a normal and an adversarially robust network, side by side; needs no download.

    Prints the path of one self-contained page. Both networks come with inward: one build, trained on ten classes of
    photographs.

    Args:
        image: pictures to ask them about, or folders of them; by default photographs that come with scikit-image.
        out: the folder that gets index.html and the results behind it.
        seed: of the pictures.
    """
    from inward.demo import run

    with progress_bar() as bar:
        print(run(out, find(image) if image else (), seed=seed, bar=bar))
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Runs a command; the exit status is 0, 2 for a wrong call, 1 for a failure, 130 when stopped."""
    warnings.showwarning = _show_warning
    warnings.filterwarnings("ignore")
    warnings.filterwarnings("always", category=InwardWarning)
    # What torch.export logs about a module that it cannot trace ends in an error or a warning of ours.
    logging.getLogger("torch").setLevel(logging.CRITICAL)
    try:
        status = app(
            sys.argv[1:] if arguments is None else arguments,
            exit_on_error=False,
            print_error=False,
            result_action="return_value",
        )
    except UnusedCliTokensError as error:
        return _fail(f"'{' '.join(error.unused_tokens or ())}' is more than this command takes (see --help)", 2)
    except UnknownCommandError as error:
        known = [name for name in error.app or () if not name.startswith("-")]
        name = (error.unused_tokens or [""])[0]
        return _fail(f"there is no command '{name}'; the nearest: {nearest(name, known)} (see --help)", 2)
    except CycloptsError as error:
        return _fail(" ".join(str(error).split()).rstrip(".") + " (see --help)", 2)
    except CallError as error:
        return _fail(str(error), 2)
    except InwardError as error:
        return _fail(str(error), 1)
    except KeyboardInterrupt as stop:
        return _fail(str(stop) or "stopped; finished results are kept", 130)
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except MemoryError:
        return _fail("there is not enough memory; give fewer pictures at once or a smaller --size", 1)
    return status if isinstance(status, int) else 0


def _fail(sentence: str, status: int) -> int:
    # One line, also where a name that was given has several.
    print(f"inward: {' '.join(sentence.splitlines())}", file=sys.stderr)
    return status


def _show_warning(message: Any, category: type[Warning], *_: Any) -> None:
    if issubclass(category, InwardWarning):
        print(f"inward: {message}", file=sys.stderr)


def entry() -> None:
    """The console script."""
    sys.exit(main())


if __name__ == "__main__":
    entry()
