"""The documentation is true: its snippets and commands run, its links lead somewhere, and it asks no other host.

A fence after ``<!-- needs weights -->`` is run with random weights, few steps and small pictures; one after
``<!-- only parsed -->`` needs what only its reader has.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import inward
from inward import demo, options
from inward.cli import app, main
from inward.nets.inception_v1 import inception_v1
from inward.network.load import import_torchvision

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = {str(path.relative_to(DOCS)): path.read_text(encoding="utf-8") for path in sorted(DOCS.rglob("*.md"))}
_FENCE = re.compile(
    r"^(?:<!-- (?P<mark>needs weights|only parsed) -->\n)?```(?P<kind>\w+)\n(?P<text>.*?)^```", re.M | re.S
)
# What a command with real weights is run with here.
_SMALL = ["--size", "64", "--steps", "2"]


@dataclass(frozen=True)
class Fence:
    """A block of code of a page."""

    kind: str
    text: str
    mark: str | None

    @property
    def commands(self) -> list[list[str]]:
        """The words after ``inward`` of each line."""
        lines = [shlex.split(line, comments=True) for line in self.text.replace("\\\n", " ").splitlines()]
        assert all(words[0] == "inward" for words in lines), self.text
        return [words[1:] for words in lines]


def fences(page: str) -> list[Fence]:
    return [Fence(f["kind"], f["text"], f["mark"]) for f in _FENCE.finditer(PAGES[page])]


# What is there when a page has been followed to its end.
LEFT: dict[str, tuple[str, ...]] = {
    "index.md": ("out/stage3-5/picture.png", "out/stage3-5/manifest.json"),
    "tutorial.md": (
        "demo/index.html",
        "photographs/chelsea-3.png",
        "study/index.html",
        "atlas/index.html",
        "atlas/mixed4d-100/picture.png",
        "atlas/mixed4a-97/photograph-4.png",
        "atlas/mixed4a-97-rerun/manifest.json",
    ),
    "how-to/many-units.md": (
        "atlas/features.6-5/picture.png",
        "atlas/index.html",
        "batched/index.html",
        "out/features.6-2/arrays.safetensors",
    ),
    "how-to/attacks.md": (
        "fooled/one/adversarial.png",
        "fooled/one/comparison.png",
        "down/one/adversarial.png",
        "guided/one/guide.png",
        "nearest/one/manifest.json",
        "evaluation/report.json",
        "evaluation/curve.png",
    ),
    "how-to/objectives.md": ("diverse/features.9-17/variants.png", "least/features.7.squeeze-5/picture.png"),
    "how-to/attribution.md": (
        "why/cat/overlay.png",
        "layer/cat/map.png",
        "through/cat/manifest.json",
        "baselines/cat/arrays.safetensors",
        "tokens/cat/overlay.png",
        "sheet/cat/methods.png",
        "sheet/cat/integrated-gradients/manifest.json",
    ),
    "how-to/pictures.md": (
        "inverted/cat/row.png",
        "inverted-two/cat/picture.png",
        "dreams/cat/picture.png",
        "out/dream/manifest.json",
    ),
    "how-to/page.md": ("site/index.html", "site/api/session.json", "inward-serve/samples/cat.png"),
    "how-to/parameterizations.md": ("maco/features.6-17/picture.png", "clear/features.6-17/picture.png"),
    "how-to/real-images.md": ("real/features.6-2/picture.png", "cat/features.6-17/manifest.json"),
    "how-to/videos.md": ("filmed/features.6-17/video.gif", "film.webp", "way/features.6-17/snapshots.png"),
    "how-to/studies.md": (
        "study/index.html",
        "atlas/features.6-2/photograph-4.png",
        "study-of-one/manifest.json",
        "depth/depth-he.png",
    ),
    "how-to/training.md": ("runs/digits/card.md", "runs/relog/weights.safetensors", "units/layer4-3/picture.png"),
    "how-to/networks.md": ("digits/class-7/picture.png", "out/six-channels/picture.png"),
    "how-to/speed.md": ("full/features.6-17/manifest.json", "settled/index.html"),
    "how-to/rerun.md": ("out/conv2-3/scores.png", "out/conv2-3-rerun/manifest.json"),
    "how-to/safety.md": (),
    "ideas/receptive-fields.md": (),
    "ideas/twins.md": ("why/chelsea/overlay.png",),
}


@pytest.fixture(scope="module")
def made() -> Any:
    """The build's own additions, as MkDocs loads them."""
    spec = importlib.util.spec_from_file_location("made", DOCS / "hooks" / "made.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def networks() -> Callable[..., inward.Network]:
    """Networks by name, each made once: exporting them again for every command would take most of the time."""
    import_torchvision()
    load = inward.load
    known: dict[str, inward.Network] = {}

    def once(spec: str, **given: Any) -> inward.Network:
        chosen = {name: value for name, value in given.items() if value not in (None, "auto")}
        chosen["size"] = (64, 64) if chosen.get("size") == 64 else chosen.get("size")
        key = f"{spec} {sorted(chosen.items(), key=str)}"
        if key not in known:
            torch.manual_seed(0)
            known[key] = load(spec, **given)
        return known[key]

    return once


@pytest.fixture
def at_a_desk(tmp_path, monkeypatch, networks, single_thread) -> None:
    """A temporary folder with a weights file, in which everything is as the reader has it, only smaller."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(inward, "load", networks)
    monkeypatch.setattr(options, "load", networks)
    monkeypatch.setattr(demo, "_STEPS", 1)
    monkeypatch.setattr(demo, "PHOTOGRAPHS", ("chelsea",))


def followed(page: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Runs a page from its top to its end; how many fences."""
    scope: dict[str, Any] = {"__name__": "__main__"}
    # For the dataclasses of a snippet.
    monkeypatch.setitem(sys.modules, "__main__", sys.modules[__name__])
    count = 0
    for fence in fences(page):
        if fence.kind == "python":
            with monkeypatch.context() as context:
                if fence.mark:
                    context.setattr(inward, "load", functools.partial(inward.load, size=(64, 64)))
                    context.setattr(inward, "visualize", functools.partial(inward.visualize, steps=2))
                exec(compile(fence.text, page, "exec"), scope)
        elif fence.kind == "sh":
            for words in fence.commands:
                run(words, fence.mark)
        else:
            continue
        count += 1
    return count


def run(words: list[str], mark: str | None) -> None:
    if mark == "only parsed":
        command, _, _ = app.parse_args(words, exit_on_error=False, print_error=False)
        assert command.__name__.removesuffix("_command").replace("_", "-") in words[:2]
        return
    small = [] if mark is None or words[0] == "rerun" else _SMALL[: 4 if words[0] == "visualize" else 2]
    assert main([*words, *small]) == 0, shlex.join(words)


@pytest.mark.usefixtures("at_a_desk")
@pytest.mark.parametrize("page", LEFT)
def test_page_runs(page, tmp_path, monkeypatch):
    if "inception_v1.safetensors" in PAGES[page]:
        torch.manual_seed(0)
        save_file(inception_v1().state_dict(), tmp_path / "inception_v1.safetensors")
    assert followed(page, monkeypatch) > 0
    missing = [place for place in LEFT[page] if not (tmp_path / place).is_file()]
    assert missing == []


def test_every_page_with_code_is_run():
    coded = {page for page in PAGES if {"python", "sh"} & {f.kind for f in fences(page)}}
    assert coded == set(LEFT)


def test_every_fence_is_of_a_known_kind():
    kinds = {f.kind for page in PAGES for f in fences(page)}
    assert kinds <= {"python", "sh", "console", "text"}
    for page, text in PAGES.items():
        assert text.count("```") == 2 * len(fences(page)), page
        assert text.count("<!-- needs weights") + text.count("<!-- only parsed") == sum(
            f.mark is not None for f in fences(page)
        ), page


def test_what_a_console_types_is_there():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    typed = [line for page in PAGES for f in fences(page) if f.kind == "console" for line in f.text.splitlines()]
    assert len(typed) >= 5
    assert all(line.startswith("$ ") for line in typed)
    made = [words.split()[1] for line in typed for words in line[2:].split("&&") if words.split()[0] == "make"]
    assert made
    assert set(made) <= targets


def test_no_page_is_long_or_names_a_machine():
    assert {page: n for page, text in PAGES.items() if (n := len(text.splitlines())) > 400} == {}
    places = re.compile(r"(?<![\w.])/(?:work|tmp|home|root|usr|Users)/")
    texts = {**PAGES, **{p.name: p.read_text(encoding="utf-8") for p in (DOCS / "hooks").glob("*.py")}}
    assert [page for page, text in texts.items() if places.search(text)] == []


def test_pictures_are_there_and_light():
    named = {
        (DOCS / page).parent / place
        for page, text in PAGES.items()
        for place in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text)
    }
    shown = {place.resolve() for place in named}
    assert len(shown) >= 8
    for path in sorted(shown):
        with Image.open(path) as picture:
            assert picture.format == "JPEG", path
            assert picture.width >= 700, path
    drawn = {path for path in shown if path.name not in ("inside.jpg", "channels.jpg")}
    assert {path.name: size for path in drawn if (size := path.stat().st_size) >= 300_000} == {}
    kept = {path.name for path in (DOCS / "images").iterdir()} - {"channels.jpg"}
    assert kept == {path.name for path in shown}


def test_every_drawn_picture_has_its_script():
    text = (ROOT / "examples" / "docs_pictures.py").read_text(encoding="utf-8")
    drawn = {path.stem for path in (DOCS / "images").iterdir()} - {"inside", "channels"}
    assert {name for name in drawn if f"def {name}(" not in text} == set()


def test_formulas_become_mathml(made):
    opened = '<math xmlns="http://www.w3.org/1998/Math/MathML" display="inline"><mrow>'
    square = f"{opened}<msup><mi>x</mi><mrow><mn>2</mn></mrow></msup></mrow></math>"
    page = made.on_page_content(r'<p><span class="arithmatex">\(x^{2}\)</span></p>')
    assert page == f"<p>{square}</p>"
    assert 'display="block"' in made.on_page_content(r'<div class="arithmatex">\[a &lt; b\]</div>')
    assert "&#x0003C;" in made.mathml(r"\(a &lt; b\)")


def test_what_the_program_says_of_itself_is_on_the_pages(made):
    rows = made.methods().splitlines()[2:]
    assert rows == [f"| `{m.name}` | `inward {m.command}` | {m.question} | {m.paper} |" for m in inward.TABLE]
    text = made.on_page_markdown("before\n<!-- made: commands -->\nafter")
    assert text.startswith("before\n## inward show\n")
    assert text.endswith("\nafter")
    names = re.findall(r"^## inward (.+)$", text, re.M)
    assert set(names) == {
        "show",
        "predict",
        "explain",
        "attack",
        "visualize",
        "rerun",
        "methods",
        "demo",
        "serve",
        "atlas",
    } | {
        *("invert", "texture", "style", "dream"),
        *("study activations", "study depth", "study activations-table", "evaluate", "train"),
    }
    assert len(re.findall(r"^Usage: inward ", text, re.M)) == len(names)
    assert "--parameterization" in text
    assert max(map(len, text.splitlines())) <= 96


def test_times_are_those_of_the_benchmarks(made, tmp_path, monkeypatch):
    (tmp_path / "ratios.json").write_text(
        '[{"name": "a-b", "ours_s": 0.1248, "peer_s": 0.4001, "median": 3.209, "low": 3.1, "high": 3.3, "threads": 2, '
        '"share_of_peak": 0.444}]'
    )
    monkeypatch.setattr(made, "RESULTS", tmp_path)
    assert made.ratios().splitlines()[2] == "| a b | 125 ms | 400 ms | 3.21 (3.10 to 3.30) | cpu, 2 | 44% |"


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The pages, built as strictly as can be."""
    out = tmp_path_factory.mktemp("site")
    told = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    assert "WARNING" not in told.stderr
    return out


def test_site_has_every_page_and_every_link_leads_somewhere(site):
    for page in PAGES:
        assert (site / page).with_suffix(".html").is_file(), page
    broken = []
    pages = list(site.rglob("*.html"))
    assert len(pages) >= len(PAGES)
    for path in pages:
        # The page for what is not there is shown at every depth.
        if path.name == "404.html":
            continue
        text = path.read_text(encoding="utf-8")
        links = re.findall(r'(?:href|src)="([^"#?]+)(?:[#?][^"]*)?"', text)
        inner = [link for link in links if not re.match(r"(?:https?|mailto|data):", link)]
        broken += [(path, link) for link in inner if not (path.parent / link).exists()]
    assert broken == []


def test_site_asks_no_other_host(site):
    for path in site.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        asked = re.findall(r'<(?:script|img|iframe|source|video)\b[^>]*\bsrc="(https?:[^"]*)"', text)
        asked += re.findall(r'<link\b[^>]*\brel="(?!canonical)[^"]*"[^>]*\bhref="(https?:[^"]*)"', text)
        asked += re.findall(r'<link\b[^>]*\bhref="(https?:[^"]*)"[^>]*\brel="(?!canonical)', text)
        assert asked == [], path


def test_site_leaves_nothing_undone(site):
    texts = {path: path.read_text(encoding="utf-8") for path in site.rglob("*.html")}
    assert [path for path, text in texts.items() if "arithmatex" in text or "<!-- made" in text or "$$" in text] == []
    formulas = sum(text.count("<math") for text in texts.values())
    # Read off the sources: every pair of dollars outside of code is a formula.
    sources = [re.sub(r"```.*?^```|`[^`\n]*`", "", text, flags=re.M | re.S) for text in PAGES.values()]
    assert formulas == sum(text.replace("$$", "$").count("$") for text in sources) // 2 > 50
    assert not (site / "hooks").exists()
    reference = texts[site / "reference" / "python.html"]
    assert "The smallest few steps along the normalized gradient" in reference
    assert ":class:" not in reference
