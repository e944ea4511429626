"""The README and the other pages say what is true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import inward
from inward.network.load import import_torchvision

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_table_of_methods_is_that_of_the_readme():
    told = README.partition("a test compares -->\n")[2].partition("<!-- end")[0].strip().splitlines()[2:]
    made = [f"| `{m.name}` | `inward {m.command}` | {m.question} | {m.paper} |" for m in inward.TABLE]
    assert told == made


def test_snippets_of_the_readme_run(tmp_path, monkeypatch, capsys):
    import_torchvision()
    snippets = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(snippets) == 2
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {}
    # The second network is random, and of some the integral does not come as near as is asked, told by a warning.
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for snippet in snippets:
            exec(compile(snippet, "README.md", "exec"), scope)
            assert len([line for line in snippet.splitlines() if line.strip()]) <= 16
    assert scope["trace"]["layer3/17"].shape == (2, 8, 8)
    assert {path.parent.name for path in tmp_path.glob("out/*/manifest.json")} == {"stage3-5", "layer3-17"}
    assert "torch.Size([2, 8, 8])" in capsys.readouterr().out


def test_commands_of_the_readme_are_known(capsys):
    from inward.cli import app

    commands = re.findall(r"^    (inward [^#\n]+)", README, re.MULTILINE)
    assert len(commands) >= 6
    for text in commands:
        words = text.split()[1:]
        command, _, _ = app.parse_args(words, exit_on_error=False, print_error=False)
        assert command.__name__.removesuffix("_command") in words[:2]


@pytest.mark.parametrize("page", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_files_that_pages_name_are_there(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    places = re.findall(r"`((?:network|columns|methods|tests|benchmarks|draw|runs|nets)/[\w./]*)`", text)
    missing = [p for p in links if not (ROOT / p).exists()]
    missing += [p for p in places if not ((ROOT / p).exists() or (ROOT / "src/inward" / p).exists())]
    assert missing == []


def test_no_file_is_longer_than_four_hundred_lines():
    files = [*ROOT.glob("src/**/*.py"), *ROOT.glob("benchmarks/**/*.py"), *ROOT.glob("tests/**/*.py")]
    long = {str(f.relative_to(ROOT)): n for f in files if (n := len(f.read_text(encoding="utf-8").splitlines())) > 400}
    assert long == {}
