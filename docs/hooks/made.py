"""What the pages get when they are built: formulas as MathML, and what the program itself says of itself.

A line ``<!-- made: NAME -->`` is replaced by the text that the function of this name in ``MADE`` gives.
"""

from __future__ import annotations

import contextlib
import html
import io
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from latex2mathml.converter import convert

import inward
from inward.cli import app
from inward.commands import EXAMPLES
from inward.nets.trained import shipped_card
from inward.network.load import TWINS
from inward.studies import depth_page

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
_MADE = re.compile(r"^<!-- made: ([\w-]+) -->$", re.MULTILINE)
_FORMULA = re.compile(r'<(span|div) class="arithmatex">(.*?)</\1>', re.DOTALL)
# Docstrings name things as Sphinx does.
_ROLE = re.compile(r":(?:class|func|meth|mod|attr):(?=<code>)")
_TWICE = ("study activations", "study depth", "study activations-table", "evaluate", "train")


def commands() -> str:
    """The help of every command."""
    known = [*(name for name in EXAMPLES), *_TWICE]
    return "\n".join(f"## inward {name}\n\n```text\n{_help(name.split())}\n```\n" for name in known)


def _help(words: list[str]) -> str:
    told = io.StringIO()
    # Boxes of one width, whatever the terminal that builds the pages.
    plain = {"COLUMNS": "96", "NO_COLOR": "1", "TERM": "dumb"}
    with mock.patch.dict(os.environ, plain), contextlib.redirect_stdout(told):
        app([*words, "--help"], exit_on_error=False, result_action="return_value")
    return "\n".join(line.rstrip() for line in told.getvalue().strip().splitlines())


def methods() -> str:
    """The table of methods."""
    rows = [f"| `{m.name}` | `inward {m.command}` | {m.question} | {m.paper} |" for m in inward.TABLE]
    return "\n".join(["| method | command | question | paper |", "| --- | --- | --- | --- |", *rows])


def ratios() -> str:
    """How fast, measured by ``python -m benchmarks``."""
    heads = ("work", "inward", "beside it", "times as fast (quartiles)", "device, threads", "of peak")
    rows = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    for row in json.loads((RESULTS / "ratios.json").read_text(encoding="utf-8")):
        share = row.get("share_of_peak")
        spread = f"{row['median']:.2f} ({row['low']:.2f} to {row['high']:.2f})"
        where = f"{row.get('device', 'cpu')}, {row.get('threads', '')}"
        rows.append(
            f"| {row['name'].replace('-', ' ')} | {row['ours_s'] * 1000:.0f} ms | {row['peer_s'] * 1000:.0f} ms "
            f"| {spread} | {where} | {'' if share is None else f'{share:.0%}'} |"
        )
    return "\n".join(rows)


def trained() -> str:
    """What networks of `inward train` do, kept by ``python -m benchmarks.training``."""
    rows = ["| | adversary | epochs | minutes | what | accuracy |", "| --- | --- | --- | --- | --- | --- |"]
    for run in json.loads((RESULTS / "training.json").read_text(encoding="utf-8")):
        recipe, minutes = run["recipe"], f"{run['seconds'] / 60:.1f}"
        for line in run["figures"]["accuracy"]:
            known = f"{run['name']} | {recipe['adversarial']} | {recipe['epochs']} | {minutes}"
            rows.append(f"| {known} | {line['what']} | {line['accuracy']:.1%} |")
    return "\n".join(rows)


def activations() -> str:
    """What `inward study activations-table` found on MNIST, at one eps after the other."""
    columns = ("clean", "fgsm", "pgd-40", "autoattack", "square", "transfer")
    heads = ("activation", "output", "augmentation", "eps", *columns, "masked")
    rows = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    for table in json.loads((RESULTS / "activations.json").read_text(encoding="utf-8")):
        for kind in table["kinds"]:
            own = (*(kind[name] for name in ("activation", "output", "augmentation")), f"{table['eps']:g}")
            known = (kind["accuracy"][column] for column in columns)
            shares = (f"{one['mean']:.1%} ({one['low']:.0%} to {one['high']:.0%})" for one in known)
            rows.append(f"| {' | '.join((*own, *shares, 'yes' if kind['masked'] else 'no'))} |")
    return "\n".join(rows)


def depth() -> str:
    """What `inward study depth --width 512` found."""
    return depth_page.table(depth_page.read_depth(RESULTS / "depth.json"))


def inversion() -> str:
    """What Inception v1 keeps of ten photographs at each depth, kept by ``python -m benchmarks.inversion``."""
    rows = ["| features of | error | plain loop | largest error | PSNR | SSIM |", f"|{' --- |' * 6}"]
    for row in json.loads((RESULTS / "inversion.json").read_text(encoding="utf-8")):
        plain = f"{row['plain_error']:.2%}" if "plain_error" in row else ""
        likeness = f"{row['psnr']:.1f} dB | {row['ssim']:.2f}"
        rows.append(f"| `{row['point']}` | {row['error']:.2%} | {plain} | {row['worst_error']:.2%} | {likeness} |")
    return "\n".join(rows)


def large() -> str:
    """What pictures that are large cost, kept by ``python -m benchmarks.large``."""
    known = {
        "style-512": ("a style of 512 x 512 pixels", "seconds_a_pass"),
        "style-1024": ("a style of 1024 x 1024 pixels", "seconds_a_pass"),
        "style": ("a style of 2048 x 2048 pixels", "seconds_a_pass"),
        "dream": ("a dream of 4096 x 3072 pixels", "seconds"),
    }
    rows = ["| | device | seconds a pass | peak of memory |", "| --- | --- | --- | --- |"]
    for device, found in json.loads((RESULTS / "large.json").read_text(encoding="utf-8")).items():
        for name, (told, key) in known.items():
            if name in found:
                one = found[name]
                where = f"cpu, {one['threads']} threads" if device == "cpu" else device
                rows.append(f"| {told} | {where} | {one[key]:.2g} | {one['peak_gib']:.1f} GiB |")
    return "\n".join(rows)


def twins() -> str:
    """What the two networks that come with inward do, as their cards have it."""
    cards = {name: shipped_card(name) for name in TWINS}
    rows = [f"| | {' | '.join(f'`inward/{name}`' for name in cards)} |", "| --- | --- | --- |"]
    for lines in zip(*(card["figures"]["accuracy"] for card in cards.values()), strict=True):
        told = (f"{line['accuracy']:.1%} ({line['low']:.1%} to {line['high']:.1%})" for line in lines)
        rows.append(f"| {lines[0]['what']}, {lines[0]['pictures']} pictures | {' | '.join(told)} |")
    recipes = [card["recipe"] for card in cards.values()]
    for name in recipes[0]:
        values = [f"{r[name]:.6g}" if isinstance(r[name], float) else str(r[name]) for r in recipes]
        if values[0] != values[1] and name not in ("warm", "steps", "step_size"):
            rows.append(f"| {name} | {' | '.join(values)} |")
    minutes = (f"{card['seconds'] / 60:.0f} minutes" for card in cards.values())
    return "\n".join([*rows, f"| trained for, on two cores | {' | '.join(minutes)} |"])


def channels() -> str:
    """The large sheet of channels, where it has been made."""
    picture = "images/channels.jpg"
    caption = "Six channels of each of eight layers of Inception v1"
    return figure(picture, caption) if (ROOT / "docs" / picture).is_file() else ""


def figure(picture: str, caption: str) -> str:
    """A picture with its caption, in Markdown."""
    return f"<figure markdown>\n![{caption}]({picture})\n<figcaption>{caption}</figcaption>\n</figure>"


MADE: dict[str, Callable[[], str]] = {
    f.__name__: f for f in (activations, commands, depth, inversion, large, methods, ratios, trained, twins, channels)
}


def mathml(formula: str) -> str:
    """A formula, as arithmatex marks it, in MathML."""
    text = html.unescape(formula).strip()
    return convert(text[2:-2].strip(), display="block" if text.startswith(r"\[") else "inline")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Puts in what is made."""
    return _MADE.sub(lambda found: MADE[found[1]](), markdown)


def on_page_content(content: str, **_: Any) -> str:
    """Turns formulas into MathML."""
    return _ROLE.sub("", _FORMULA.sub(lambda found: mathml(found[2]), content))
