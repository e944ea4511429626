"""Videos that cannot be: each is refused in a sentence, on opening where that is possible, and leaves nothing."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import av
import pytest
import torch
from PIL import Image

from drawn import one_sentence
from filmed import frames_of, smooth
from inward.draw import encoders
from inward.draw.video import video
from inward.errors import CallError, InwardError

SUFFIXES = (".mp4", ".gif", ".webp")


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("a.avi", {}, r"one of \.mp4, \.gif, \.webp, but the path is .*a\.avi"),
        ("a", {}, r"one of \.mp4, \.gif, \.webp"),
        ("no/a.mp4", {}, "there is no folder .*no; make it first"),
        ("folder.mp4", {}, "it is a folder"),
        ("a.mp4", {"fps": 0}, "above 0 and at most 240, not 0"),
        ("a.mp4", {"fps": math.nan}, "above 0 and at most 240, not nan"),
        ("a.gif", {"fps": 60}, "at most 50 pictures a second, not 60"),
        ("a.mp4", {"background": "bluish"}, "'bluish' is no color"),
        ("a.mp4", {"size": (0, 5)}, r"\(H, W\) or \(C, H, W\), from 1 to 16383 pixels, not \(0, 5\)"),
        ("a.mp4", {"size": (5,)}, r"not \(5,\)"),
        ("a.mp4", {"size": (16380, 300)}, r"at most 16383 pixels, not 316 x 164"),
    ],
)
def test_what_is_wrong_is_said_on_opening(tmp_path: Path, name: str, options: dict[str, object], says: str) -> None:
    (tmp_path / "folder.mp4").mkdir()
    size = options.pop("size", (226, 250))
    with pytest.raises(CallError, match=says) as error, video(tmp_path / name, size, **options):  # type: ignore[arg-type]
        pytest.fail("it opened")
    assert one_sentence(error)
    assert [p.name for p in tmp_path.iterdir()] == ["folder.mp4"]


def test_without_pyav_only_mp4_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    says = r"PyAV, which is not installed; pip install 'inward\[video\]', or write a \.gif"
    with pytest.raises(InwardError, match=says) as error, video(tmp_path / "a.mp4", (226, 250)):
        pytest.fail("it opened")
    assert one_sentence(error)
    for suffix in (".gif", ".webp"):
        with video(tmp_path / f"a{suffix}", (226, 250)) as film:
            film.add(smooth(226, 250))
            film.add(smooth(226, 250, 1.0))
        assert len(frames_of(tmp_path / f"a{suffix}")) == 2
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".gif", ".webp"]


def test_a_missing_encoder_is_said_on_opening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(av, "codecs_available", frozenset({"mpeg4"}))
    monkeypatch.setattr(encoders.features, "check", lambda name: False)
    for suffix, says in ((".mp4", "no encoder for H.264"), (".webp", "cannot write WebP")):
        with pytest.raises(InwardError, match=says) as error, video(tmp_path / f"a{suffix}", (226, 250)):
            pytest.fail("it opened")
        assert one_sentence(error)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("size", "image", "says"),
    [
        ((226, 250), torch.zeros(3, 250, 226), r"opened for pictures of 226 x 250 .* one is \(3, 250, 226\)"),
        # Enlarged twice it would have the size.
        ((226, 250), torch.zeros(3, 113, 125), r"one is \(3, 113, 125\)"),
        ((8, 11), Image.new("L", (8, 11)), r"one is \(11, 8\)"),
        ((8, 11), torch.zeros(5, 8, 11), r"give the shape \(C, H, W\)"),
        ((8, 11), torch.zeros(1, 3, 8, 11), "not a batch"),
        ((8, 11), torch.full((3, 8, 11), 1.5), r"values in \[0, 1\]"),
        ((8, 11), [[0.5]], "a float tensor or array"),
    ],
)
def test_a_picture_of_another_size_is_refused(tmp_path: Path, size: tuple[int, int], image: object, says: str) -> None:
    with pytest.raises(CallError, match=says) as error, video(tmp_path / "a.gif", size) as film:
        film.add(image)  # type: ignore[arg-type]
    assert one_sentence(error)
    assert list(tmp_path.iterdir()) == []


def test_a_video_has_a_picture(tmp_path: Path) -> None:
    for suffix in SUFFIXES:
        with pytest.raises(CallError, match="has no picture; add one") as error, video(tmp_path / f"a{suffix}", (8, 8)):
            pass
        assert one_sentence(error)
    with pytest.raises(CallError, match="one frame or more, not 0"), video(tmp_path / "a.gif", (8, 8)) as film:
        film.add(torch.zeros(1, 8, 8), frames=0)
    assert list(tmp_path.iterdir()) == []
