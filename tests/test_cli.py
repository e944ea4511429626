"""The command line, end to end: what is printed where, what is written, and with which exit status."""

from __future__ import annotations

import inspect
import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers import digits, inward
from inward import cli
from inward.commands import EXAMPLES
from inward.methods.table import TABLE
from inward.version import VERSION

COMMAND = [sys.executable, "-m", "inward"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


pytestmark = pytest.mark.usefixtures("single_thread")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of three digits, with names that are no names of folders as they are."""
    folder = tmp_path / "my pictures"
    folder.mkdir()
    from sklearn.datasets import load_digits

    for name, pixels in zip(("zero.png", "ein@s 1.png", "日本.png"), load_digits().images, strict=False):
        Image.fromarray((pixels / 16 * 255).round().astype(np.uint8)).save(folder / name)
    return folder


@pytest.mark.parametrize("command", ["", *EXAMPLES])
def test_help(command: str) -> None:
    said = inward(*([command] if command else []), "--help")
    assert said.status == 0
    assert said.err == ""
    assert "``" not in said.out
    assert f"Usage: inward {command or 'COMMAND'}" in said.out
    words = " ".join(said.out.replace("│", " ").split())
    for name in EXAMPLES if not command else ():
        assert f" {name} " in words
    for example in EXAMPLES.get(command, ()):
        # On a line of its own, so that it can be copied.
        assert f"  {example}\n" in said.out, example
    for row in TABLE:
        if row.command == command:
            assert row.question in words
    assert max(map(len, said.out.splitlines())) <= 80


@pytest.mark.parametrize("example", [e for some in EXAMPLES.values() for e in some])
def test_examples_parse(example: str) -> None:
    program, *arguments = shlex.split(example.partition(">")[0])
    assert program == "inward"
    _, bound, rest, _ = cli.app.parse_known_args(arguments)
    assert rest == []
    assert bound.arguments or arguments in (["methods"], ["serve"])


def test_version_and_methods() -> None:
    assert inward("--version").out == f"{VERSION}\n"
    # In a pipe a line each, for grep.
    lines = inward("methods").out.splitlines()
    for row, line in zip(TABLE, lines, strict=True):
        assert re.split(r"  +", line) == [row.name, f"inward {row.command}", row.question, f"({row.paper})"]


def test_methods_fit_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    plain = re.sub(r"\x1b\[[0-9;]*m", "", inward("methods").out)
    assert max(map(len, plain.splitlines())) <= 80
    words = " ".join(plain.split())
    for row in TABLE:
        assert f" {row.name} {row.question} {row.paper}" in words
    assert re.findall(r"^inward (\w+) --method", plain, re.M) == list(dict.fromkeys(row.command for row in TABLE))


def test_show_a_tree() -> None:
    said = inward("show", "inward/digits")
    assert said.status == 0
    lines = said.out.splitlines()
    assert lines[0] == "inward/digits  1 x 8 x 8  23.9k parameters  600k multiply-adds"
    assert lines[3] == "├── conv2  Conv2d  32 x 8 x 8  4.64k parameters  295k multiply-adds"
    assert said.err == ""


def test_show_json() -> None:
    points = json.loads(inward("show", "inward/digits", "--json").out)
    for point in points:
        assert {"name", "kind", "shape", "parameters", "multiply_adds", "module", "source"} <= point.keys()
    by_name = {point["name"]: point for point in points}
    conv = by_name["conv2"]
    assert (conv["shape"], conv["parameters"], conv["kind"]) == ([1, 32, 8, 8], 16 * 32 * 9 + 32, "module")
    assert conv["multiply_adds"] == 8 * 8 * 16 * 32 * 9
    assert conv["source"].split(":")[0].endswith("digits.py")
    assert by_name["mean"]["kind"] != "module"
    assert json.loads(inward("show", "inward/digits", "--json", "--size", "12", "10").out)[0]["shape"] == [
        1,
        16,
        12,
        10,
    ]


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        (("--size", "227"), [1, 16, 227, 227]),
        (("--size", "64", "96"), [1, 16, 64, 96]),
        (("--size", "9x7"), [1, 16, 9, 7]),
    ],
)
def test_size(options: tuple[str, ...], shape: list[int]) -> None:
    assert json.loads(inward("show", "inward/digits", "--json", *options).out)[0]["shape"] == shape


def test_predict(pictures: Path) -> None:
    said = inward("predict", *digits(), pictures, pictures / "zero.png")
    assert said.status == 0
    assert said.err == ""
    lines = said.out.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == [
        str(pictures / name) for name in ("ein@s 1.png", "zero.png", "日本.png", "zero.png")
    ]
    assert len(lines) == 4 * 6
    answers = [line.split("  ")[-1] for line in lines[1::6]]
    assert answers == ["1 (class:1)", "0 (class:0)", "2 (class:2)", "0 (class:0)"]
    shares = [float(line.split("%")[0]) for line in lines[1:6]]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 90


def test_predict_json(pictures: Path) -> None:
    said = inward("predict", *digits(), pictures, "--json")
    rows = [json.loads(line) for line in said.out.splitlines()]
    assert [Path(row["file"]).name for row in rows] == ["ein@s 1.png", "zero.png", "日本.png"]
    assert [row["top"][0]["class"] for row in rows] == [1, 0, 2]
    assert [len(row["top"]) for row in rows] == [5, 5, 5]
    assert rows[0]["top"][0]["label"] == "1"
    assert 0.9 < sum(p["probability"] for p in rows[0]["top"]) <= 1


def test_answers_reach_a_file_when_stderr_is_a_terminal(pictures: Path) -> None:
    """The bar is on the terminal, the answers are in the file: as in `inward predict ... > answers.jsonl`."""
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [*COMMAND, "predict", *digits(), str(pictures), "--json"],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env={**ENVIRONMENT, "TERM": "xterm"},
        check=False,
    )
    os.close(theirs)
    assert done.returncode == 0
    assert [json.loads(line)["top"][0]["class"] for line in done.stdout.splitlines()] == [1, 0, 2]
    assert b"predict" in rest_of(ours)


def test_explain(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "er"
    said = inward("explain", *digits(), pictures, pictures / "zero.png", "--out", out)
    assert (said.status, said.err) == (0, "")
    names = ["ein-s-1", "zero", "日本", "zero-2"]
    assert sorted(p.name for p in out.iterdir()) == sorted(names)
    for line, name, digit in zip(said.out.splitlines(), names, (1, 0, 2, 0), strict=True):
        assert line.startswith(f"{out / name}  target class:{digit}, score ")
        told = json.loads((out / name / "manifest.json").read_text())
        assert told["scores"]["target"] == f"class:{digit}"
        assert Path(told["inputs"]["images"]["file"]).parent == pictures
        assert Path(told["network"]["spec"]["weights"]).is_absolute()
        assert {p.name for p in (out / name).iterdir()} == {*told["files"], "manifest.json"}


def test_options_of_the_method(pictures: Path, tmp_path: Path) -> None:
    said = inward(
        *("attack", *digits(), pictures / "zero.png", "--target", "class:8", "--eps", "51/255", "--steps", "3"),
        *("--out", tmp_path / "out", "--mean", "1/255", "--std", "0.9", "--dtype", "float64"),
    )
    assert said.status == 0, said.err
    told = json.loads((tmp_path / "out" / "zero" / "manifest.json").read_text())
    assert told["parameters"]["eps"] == 0.2
    assert told["network"]["spec"]["mean"] == [1 / 255]
    assert told["network"]["dtype"] == "float64"
    assert told["scores"]["linf"] <= 0.2
    wrong = inward("attack", *digits(), pictures / "zero.png", "--target", "class:8", "--score", "class")
    assert (wrong.status, wrong.out) == (2, "")
    assert "--score" in wrong.err


def test_an_option_of_another_method_is_told_with_the_methods_that_have_it(pictures: Path) -> None:
    said = inward("explain", *digits(), pictures / "zero.png", "--window", "2")
    assert (said.status, said.out) == (2, "")
    told = "inward: saliency has no option --window; leave it out, or give a --method that has it: occlusion\n"
    assert said.err == told
    said = inward("attack", *digits(), pictures / "zero.png", "--method", "fgsm", "--steps", "3")
    having = said.err.strip().rpartition(": ")[2].split(", ")
    assert having == [
        row.name for row in TABLE if row.command == "attack" and "steps" in inspect.signature(row.function).parameters
    ]
    assert "pgd" in having


def test_options_that_may_be_left_out_are_numbers_too(pictures: Path, tmp_path: Path) -> None:
    asked = ("explain", *digits(), pictures / "zero.png", "--method", "integrated-gradients", "--out", tmp_path / "out")
    assert inward(*asked, "--tolerance", "1/20").status == 0
    manifest = tmp_path / "out" / "zero" / "manifest.json"
    assert json.loads(manifest.read_text())["parameters"]["tolerance"] == 0.05
    assert "'1.5' is not a whole number" in inward(*asked, "--steps", "1.5").err
    said = inward(*asked, "--steps", "8", "--tolerance", "0.05")
    assert (said.status, said.err.count("\n")) == (2, 1)
    assert "give one of the two" in said.err
    assert inward(*asked, "--steps", "3").status == 0
    again = inward("rerun", manifest, "--out", tmp_path / "again")
    assert again.out.count("identical") == 3


@pytest.mark.parametrize(
    "name",
    [row.name for row in TABLE if row.command == "attack" and "steps" in inspect.signature(row.function).parameters],
)
def test_an_attack_takes_a_step_or_more(pictures: Path, tmp_path: Path, name: str) -> None:
    options = ("--method", name, "--steps", "0", "--out", tmp_path / "out")
    said = inward("attack", *digits(), pictures / "zero.png", *options)
    assert (said.status, said.out, said.err) == (2, "", "inward: steps must be 1 or more, not 0\n")


def test_note_under_a_level(pictures: Path, tmp_path: Path) -> None:
    said = inward(
        "attack", *digits(), pictures / "zero.png", "--target", "class:8", "--eps", "0.5/255", "--out", tmp_path / "o"
    )
    assert said.status == 0
    assert said.err.startswith("note: eps 0.00196 is under one 8-bit level")
    assert "success False" in said.out
    # A name that is the number alone is not said twice.
    assert "target class:8, now class:0, final -" in said.out


def test_visualize_and_rerun(tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = inward("visualize", *digits(), "conv2/3@1,1", "--steps", "5", "--seed", "4", "--out", out)
    assert said.status == 0, said.err
    folder = out / "conv2-3-1-1"
    told = json.loads((folder / "manifest.json").read_text())
    assert (told["parameters"]["steps"], told["parameters"]["seed"]) == (5, 4)
    again = inward("rerun", folder)
    assert again.status == 0, again.err
    first, *rest = again.out.splitlines()
    assert first == str(out / "conv2-3-1-1-rerun")
    told_apart = ("final", "history", "images", "passes", "redirected", "snapshots", "variants", "variants_final")
    assert rest == [f"  {name}: identical" for name in told_apart]
    other = inward("rerun", folder / "manifest.json", "--out", tmp_path / "other")
    assert other.out.splitlines()[0] == str(tmp_path / "other")
    assert Image.open(tmp_path / "other" / "picture.png").tobytes() == Image.open(folder / "picture.png").tobytes()
    refused = inward("rerun", out)
    assert (refused.status, refused.out) == (1, "")
    assert "there is no manifest" in refused.err


def test_random_weights_are_the_same_again(pictures: Path, tmp_path: Path) -> None:
    options = ("--weights", "random", "--seed", "5", "--out", tmp_path / "out")
    assert inward("explain", "inward/digits", pictures / "zero.png", *options).status == 0
    again = inward("rerun", tmp_path / "out" / "zero")
    assert again.status == 0, again.err
    assert "values: identical" in again.out


def test_more_than_a_command_takes() -> None:
    said = inward("methods", "for", "me")
    assert (said.status, said.err) == (2, "inward: 'for me' is more than this command takes (see --help)\n")
    assert inward("atack", "x").err == "inward: there is no command 'atack'; the nearest: attack, atlas (see --help)\n"
    assert (
        "no command 'activation'; the nearest: activations, activations-table (see" in inward("study", "activation").err
    )
    assert inward("frobnicate").status == 2
    assert inward("rerun").err == 'inward: Command "rerun" parameter MANIFEST requires an argument (see --help)\n'


def test_failures_have_their_exit_status(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(error: type[BaseException]) -> None:
        def fail(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(cli, "app", fail)

    failing(KeyboardInterrupt)
    said = inward("methods")
    assert (said.status, said.err) == (130, "inward: stopped; finished results are kept\n")
    failing(MemoryError)
    said = inward("methods")
    assert (said.status, said.err.count("\n")) == (1, 1)


def rest_of(terminal: int) -> bytes:
    """All that a program that has ended wrote to its terminal."""
    shown = b""
    try:
        while True:
            shown += os.read(terminal, 10_000)
    except OSError:  # the other end is closed
        os.close(terminal)
    return shown


def test_ctrl_c_leaves_nothing_half_written(tmp_path: Path) -> None:
    command = [
        *COMMAND,
        "visualize",
        *digits(),
        "class:3",
        "class:4",
        "--steps",
        "1000000",
        "--out",
        str(tmp_path / "out"),
    ]
    theirs, ours = pty.openpty()
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=ours, env={**ENVIRONMENT, "TERM": "xterm"})
    os.close(ours)
    shown = b""
    deadline = time.monotonic() + 60
    # The bar of the passes moves: it is in the middle of it.
    while b"/1000000" not in shown and time.monotonic() < deadline:
        shown += os.read(theirs, 10_000)
    running.send_signal(signal.SIGINT)
    assert running.communicate(timeout=30)[0] == b""
    assert running.returncode == 130
    assert b"inward: stopped; 0 of 2 pictures are there, and the same command goes on" in rest_of(theirs)
    assert list(tmp_path.rglob("*")) == []


def test_demo_prints_its_page(monkeypatch: pytest.MonkeyPatch, pictures: Path) -> None:
    # The demo itself runs for test_demo; here, what its command hands on, and that it says where the page is.
    import inward.demo as module

    def run(out: Path, files: list[Path], *, seed: int, bar: object) -> str:
        return f"{out} {[file.name for file in files]} {seed}"

    monkeypatch.setattr(module, "run", run)
    assert inward("demo", "--out", "x", "--seed", "3").out == "x [] 3\n"
    zero = pictures / "zero.png"
    for words in (("--image", zero, zero), (zero, zero)):
        assert inward("demo", *words).out == "inward-demo ['zero.png', 'zero.png'] 0\n"
    missing = inward("demo", "--image", "nowhere.png")
    assert (missing.status, missing.err) == (1, "inward: there is no file nowhere.png\n")


def test_a_mask_fits_the_picture(pictures: Path, tmp_path: Path) -> None:
    zero, out = pictures / "zero.png", tmp_path / "out"
    shapes = {"fits": (8, 8), "wide": (12, 8), "white": (8, 8), "black": (8, 8)}
    for name, (width, height) in shapes.items():
        mask = Image.new("L", (width, height), 255 if name == "white" else 0)
        mask.paste(0 if name == "black" else 255, (2, 2, 6, 6))
        mask.save(tmp_path / f"{name}.png")
    asked = ("explain", *digits(), zero, "--out", out, "--mask")
    assert "pointing" in inward(*asked, tmp_path / "fits.png").out
    reasons = {"wide": "it has 12 x 8 pixels and zero.png has 8 x 8", "white": "white everywhere"}
    for name, reason in {**reasons, "black": "black.png has no white where the network looks"}.items():
        said = inward(*asked, tmp_path / f"{name}.png")
        assert (said.status, said.err.count("\n")) == (2, 1)
        assert reason in said.err


def test_a_result_that_replaces_another_says_so(pictures: Path, tmp_path: Path) -> None:
    asked = ("explain", *digits(), pictures / "zero.png", "--method", "integrated-gradients", "--out", tmp_path / "out")
    assert "is replaced" not in inward(*asked).err
    assert "is replaced" not in inward(*asked).err
    said = inward(*asked, "--tolerance", "0.5")
    assert "held a result of other options, and is replaced; give another --out to keep both" in said.err
    assert (tmp_path / "out" / "zero" / "arrays.safetensors").stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_an_option_of_one_name_is_a_number_where_the_method_takes_one() -> None:
    from inward.choices import choices
    from inward.methods.table import by_name

    hints = {name: next(c.hint for c in choices(by_name(name)) if c.name == "start") for name in ("ddn", "invert")}
    assert hints == {"ddn": float, "invert": str}
