"""Filming an ascent: which passes are shown, in whose video, with which caption; and it is the same ascent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageChops

from drawn import one_sentence
from filmed import durations, frames_of, inside
from inward.ascent import Pass, Row, ascend
from inward.columns.goals import Plateau
from inward.columns.objectives import at
from inward.columns.starts import Noise
from inward.columns.steps import adam
from inward.draw import lettering
from inward.draw.pictures import to_picture
from inward.errors import CallError
from inward.runs.film import Filming, spaced

SUFFIXES = (".mp4", ".gif", ".webp")


@given(total=st.integers(0, 3000), frames=st.integers(2, 400))
def test_passes_are_evenly_spaced(total: int, frames: int) -> None:
    found = sorted(spaced(total, frames))
    assert len(found) == min(total, frames)
    if total:
        assert (found[0], found[-1]) == (1, total)
    gaps = np.diff(found)
    # Rounding moves either end of a gap by at most half a pass.
    assert len(gaps) == 0 or gaps.max() - gaps.min() <= 2


class Told:
    """An ascent that is none: pass k of N pictures is a gray of k / total."""

    def __init__(self, total: int, count: int = 2, size: tuple[int, int] = (226, 250)) -> None:
        self.total, self.count, self.size, self.done = total, count, size, 0
        self.rendered: list[int] = []

    def images(self) -> torch.Tensor:
        self.rendered.append(self.done)
        steps = torch.arange(1, self.count + 1).view(-1, 1, 1, 1) / self.count
        return (steps * self.done / self.total).expand(-1, 3, *self.size)

    def run(self, film: Filming, until: int | None = None) -> None:
        for done in range(1, (until or self.total) + 1):
            self.done = done
            film(Pass(done, self.total, torch.linspace(1, 34.5, self.count) * done, self.images))


def grays(path: Path) -> list[float]:
    return [float(inside(frame, 226, 250).mean()) for frame in frames_of(path)]


def test_a_film_has_the_frames_asked_for(tmp_path: Path) -> None:
    told = Told(200)
    names = ["mixed4a/97", "class:3"]
    with Filming(tmp_path / "{address}.mp4", names, told.size, 200, fps=10, seconds=2, hold=0.5) as film:
        told.run(film)
    assert film.paths == (tmp_path / "mixed4a-97.mp4", tmp_path / "class-3.mp4")
    assert sorted(tmp_path.iterdir()) == sorted(film.paths)
    # Twenty pictures, evenly spaced from the first pass to the last, and nothing computed for the others.
    assert told.rendered == sorted(spaced(200, 20))
    for path, share in zip(film.paths, (0.5, 1.0), strict=True):
        shown = grays(path)
        assert len(shown) == 19 + 5
        # Flat gray comes back to within a level.
        wanted = [255 * share * k / 200 for k in told.rendered[:-1]] + [255 * share] * 5
        assert max(abs(a - b) for a, b in zip(shown, wanted, strict=True)) < 1


def test_the_captions_of_a_film(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    write = lettering.write
    monkeypatch.setattr(lettering, "write", lambda p, at, text, *rest: (lines.append(text), write(p, at, text, *rest)))
    told = Told(3)
    with Filming(tmp_path / "{number}.gif", ["mixed4a/97", "class:3"], told.size, 3) as film:
        told.run(film)
    assert lines[:2] == ["mixed4a/97", "class:3"]
    assert lines[2:4] == ["pass 1/3  score 1", "pass 1/3  score 34.5"]
    assert lines[-2:] == ["pass 3/3  score 3", "pass 3/3  score 104"]
    assert [p.name for p in film.paths] == ["0.gif", "1.gif"]
    assert durations(film.paths[0]) == [40, 40, 1000]


def test_an_ascent_that_ends_early_is_filmed_to_its_end(tmp_path: Path) -> None:
    told = Told(200)
    with Filming(tmp_path / "{number}.gif", ["a", "b"], told.size, 200, fps=10, seconds=2) as film:
        told.run(film, until=50)
    passes = [k for k in sorted(spaced(200, 20)) if k <= 50]
    assert 50 not in passes
    wanted = [255 * k / 200 for k in [*passes, 50]]
    assert max(abs(a - b) for a, b in zip(grays(film.paths[1]), wanted, strict=True)) <= 0.5
    assert durations(film.paths[1])[-1] == 1000


def test_an_ascent_without_a_pass_leaves_no_file(tmp_path: Path) -> None:
    for suffix in SUFFIXES:
        with Filming(tmp_path / f"a{suffix}", ["a"], (8, 11), 0):
            pass
    assert list(tmp_path.iterdir()) == []


def test_a_film_that_is_interrupted_leaves_no_file(tmp_path: Path) -> None:
    told = Told(40)
    names, failing = ["a", "b"], Told(40)

    def images() -> torch.Tensor:
        if told.done == 10:
            raise KeyboardInterrupt
        return failing.images()

    told.images = images  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt), Filming(tmp_path / "{number}.mp4", names, told.size, 40) as film:
        told.run(film)
    assert failing.rendered == [0] * 9
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_film_is_refused_before_the_ascent(tmp_path: Path) -> None:
    with pytest.raises(CallError, match=r"written to .*a\.mp4; put \{number\} into the path") as error:
        Filming(tmp_path / "a.mp4", ["a", "b"], (8, 8), 5)
    assert one_sentence(error)
    with pytest.raises(CallError, match="name the address of at least one picture"):
        Filming(tmp_path / "a.mp4", [], (8, 8), 5)
    with pytest.raises(CallError, match="a video lasts some seconds, not 0"):
        Filming(tmp_path / "a.mp4", ["a"], (8, 8), 5, seconds=0)
    with pytest.raises(CallError, match="change its suffix"), Filming(tmp_path / "a.mov", ["a"], (8, 8), 5):
        pytest.fail("it opened")
    # The second cannot be opened; the first is not left behind.
    (tmp_path / "1.gif").mkdir()
    with pytest.raises(CallError, match="it is a folder"), Filming(tmp_path / "{number}.gif", ["a", "b"], (8, 8), 5):
        pytest.fail("it opened")
    assert [p.name for p in tmp_path.iterdir()] == ["1.gif"]


def test_a_film_of_another_ascent_is_refused(tmp_path: Path) -> None:
    told = Told(3, count=3)
    says = "2 pictures are filmed, and the ascent has 3"
    with pytest.raises(CallError, match=says), Filming(tmp_path / "{number}.gif", ["a", "b"], told.size, 3) as film:
        told.run(film)
    closed = Filming(tmp_path / "{number}.gif", ["a", "b", "c"], told.size, 3)
    with pytest.raises(CallError, match="write 'with Filming"):
        told.run(closed)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("single_thread")
def test_a_real_ascent_is_not_changed_by_its_film(tmp_path: Path) -> None:
    from helpers import conv_net, network

    net = network(conv_net(), (8, 9))
    row = Row(at(net, "conv/1"), adam(0.05), 30, start=Noise(0.1), plateau=Plateau(6, 1.0))
    like = torch.zeros(2, 3, 8, 9)
    state = torch.get_rng_state()
    plain = ascend(net, row, like, seeds=[1, 2])
    with Filming(tmp_path / "{number}.gif", ["conv/1", "conv/1"], (8, 9), 30, fps=10) as film:
        found = ascend(net, row, like, seeds=[1, 2], on_pass=film)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(found.images, plain.images)
    assert len(found.scores) < 30, "it settled before its passes were used up"
    for path, image in zip(film.paths, found.images, strict=True):
        last = Image.fromarray(inside(frames_of(path)[-1], 224, 252).astype(np.uint8))
        assert ImageChops.difference(last, to_picture(image, at_least=224)).getbbox() is None, (
            "72 colors and those of the letters: exact"
        )
