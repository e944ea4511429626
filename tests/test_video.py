"""Videos: what is decoded is what was given, nothing is kept, and a file is whole or not there."""

from __future__ import annotations

import gc
import struct
import subprocess
import sys
import weakref
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from drawn import eight_bit, pixels
from filmed import MARGIN, decoded, durations, frames_of, inside, smooth
from inward.draw import encoders, lettering
from inward.draw.pictures import to_picture
from inward.draw.video import video

SUFFIXES = (".mp4", ".gif", ".webp")


def written(path: Path, count: int = 5, size: tuple[int, int] = (226, 250), **options: object) -> list[np.ndarray]:
    """Films ``count`` waves; gives them as they should be seen."""
    images = [smooth(*size, phase=0.3 * i) for i in range(count)]
    with video(path, size, **options) as film:  # type: ignore[arg-type]
        for i, image in enumerate(images):
            film.add(image, f"pass {i + 1}/{count}")
    return [pixels(to_picture(image)) for image in images]


# What is decoded


def test_an_mp4_plays_everywhere(tmp_path: Path) -> None:
    written(tmp_path / "a.mp4", 7, (225, 251), fps=12, caption="one")
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.frames, stream.average_rate, stream.duration * stream.time_base) == (7, 12, Fraction(7, 12))
        # BT.709, limited range.
        assert (context.colorspace, context.color_primaries, context.color_trc, context.color_range) == (1, 1, 1, 1)
        # 225 and 251 with margins of 8, a gap of 4 and two lines of 19; the odd width gets one more.
        assert (context.width, context.height) == (268, 284)
        assert 8 + 225 + 14 // 3 + 2 * lettering.line_height(14) + 8 == 283
    boxes = (tmp_path / "a.mp4").read_bytes()
    assert 0 < boxes.index(b"moov") < boxes.index(b"mdat"), "its index is in front"


# Levels of 255. H.264 at crf 18 and WebP at 90 are near on smooth pictures; of a GIF's 256 colors for some 20,000
# a single pixel is several levels off, but dithered, so that means of 6 x 6 pixels are as near as theirs.
@pytest.mark.parametrize(("suffix", "mean", "local"), [(".mp4", 1.5, 1.0), (".gif", 8.0, 1.5), (".webp", 2.0, 1.0)])
def test_frames_are_the_pictures(tmp_path: Path, suffix: str, mean: float, local: float) -> None:
    path = tmp_path / f"a{suffix}"
    wanted = written(path)
    found = frames_of(path)
    assert len(found) == len(wanted) == 5
    for i, (frame, picture) in enumerate(zip(found, wanted, strict=True)):
        error = inside(frame, 226, 250) - picture
        assert abs(error).mean() < mean
        assert abs(error[:222, :246].reshape(37, 6, 41, 6, 3).mean((1, 3))).mean() < local
        assert abs(error.mean((0, 1))).max() < 0.5
        # No other frame's picture is as near.
        others = [abs(inside(frame, 226, 250) - other).mean() for k, other in enumerate(wanted) if k != i]
        assert min(others) > 2 * abs(error).mean()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_margin_and_caption_are_legible(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    with video(path, (230, 240), caption="mixed4a/97") as film:
        film.add(torch.full((3, 230, 240), 0.5), "pass 3/256  score 34.5")
        film.add(torch.full((3, 230, 240), 0.5), "pass 4/256  score 35.1")
    first, second = (frame[MARGIN + 230 :].mean(-1) for frame in frames_of(path))
    # Around the letters, white; 3 levels for what lossy coding leaves beside edges.
    assert first[:3].min() > 252
    assert first[:, :6].min() > 252
    for line, ink in ((slice(4, 23), 100), (slice(23, 42), 130)):
        assert first[line].min() < ink, "dark strokes"
        assert 0.01 < (first[line] < 150).mean() < 0.2, "a line of letters, neither empty nor a bar"
    # The letters are those that lettering writes.
    told = Image.new("RGB", (256, 19), "white")
    lettering.write(told, (8, 0), "mixed4a/97", 14, lettering.INK)
    assert abs(pixels(told).mean(-1) - first[4:23]).mean() < 2
    # The first line stays; of the second only numbers change.
    assert abs(first[:23] - second[:23]).mean() < 0.5
    changed = (abs(first[23:42] - second[23:42]) > 60).any(0).nonzero()[0]
    assert 35 < changed.min() < 60, "after 'pass '"
    assert changed.max() < 8 + lettering.width("pass 3/256  score 34.5", 14) + 4


def test_letters_keep_their_spaces_and_their_room(tmp_path: Path) -> None:
    with video(tmp_path / "a.gif", (224, 224)) as film:
        film.add(torch.zeros(1, 224, 224), "a" * 200)
    band = frames_of(tmp_path / "a.gif")[0][8 + 224 + 4 :]
    assert band[:, -8:].min() == 255, "it ends before the margin"
    assert band[:, -40:-8].min() < 120


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_few_colors_are_kept(tmp_path: Path, suffix: str) -> None:
    """A digit: 8 x 11 gray pixels, enlarged 28 times with hard edges."""
    image = torch.arange(88.0).reshape(1, 8, 11) / 88
    with video(tmp_path / f"a{suffix}", (8, 11)) as film:
        film.add(image)
        film.add(image.flip(2))
    first, second = frames_of(tmp_path / f"a{suffix}")
    wanted = np.floor(image[0].numpy() * 255 + 0.5).repeat(28, 0).repeat(28, 1)[..., None]
    # GIF exactly; WebP's ringing at hard edges is mostly below 2 levels.
    slack = 0 if suffix == ".gif" else 2
    assert abs(inside(first, 224, 308) - wanted).mean() <= slack
    assert abs(inside(second, 224, 308) - wanted[:, ::-1]).mean() <= slack


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        ((8, 8), (224, 224)),
        ((8, 11), (224, 308)),
        ((128, 100), (384, 300)),
        ((224, 230), (224, 230)),
        # Enlarged 9 times, not 23: the long side stays on a screen.
        ((10, 200), (90, 1800)),
    ],
)
def test_small_pictures_are_enlarged(tmp_path: Path, size: tuple[int, int], shown: tuple[int, int]) -> None:
    with video(tmp_path / "a.gif", size) as film:
        film.add(torch.zeros(1, *size))
    (frame,) = frames_of(tmp_path / "a.gif")
    dark = (frame[..., 0] == 0).nonzero()
    top, left, bottom, right = dark[0].min(), dark[1].min(), dark[0].max() + 1, dark[1].max() + 1
    # The caption band is empty, so that what is black is the picture.
    assert (top, left) == (MARGIN, MARGIN)
    assert (bottom - top, right - left) == shown
    assert frame.shape[0] % 2 == frame.shape[1] % 2 == 0


@pytest.mark.parametrize("channels", [1, 3, 4, 5])
def test_every_number_of_channels(tmp_path: Path, channels: int) -> None:
    image = eight_bit(channels)
    with video(tmp_path / "a.webp", (channels, 19, 31)) as film:
        film.add(image, "x")
        film.add(image, "x")
    picture = to_picture(image, at_least=224).convert("RGBA")
    shown = Image.new("RGB", picture.size, "white")
    shown.paste(picture, (0, 0), picture)
    frame = frames_of(tmp_path / "a.webp")[1]
    # White noise at hard edges, where WebP halves the resolution of the colors: a third of the pixels.
    assert abs(inside(frame, *shown.size[::-1]) - pixels(shown)).mean() < 8


def test_pictures_of_pillow_on_a_dark_ground(tmp_path: Path) -> None:
    clear = Image.new("RGBA", (250, 226), (255, 0, 0, 0))
    gray = Image.new("L", (250, 226), 100)
    with video(tmp_path / "a.gif", (226, 250), background="#102030", caption="on dark") as film:
        film.add(clear)
        film.add(gray)
    first, second = frames_of(tmp_path / "a.gif")
    assert (inside(first, 226, 250) == (0x10, 0x20, 0x30)).all()
    assert (inside(second, 226, 250) == 100).all()
    assert (first[0, 0] == (0x10, 0x20, 0x30)).all()
    assert first[MARGIN + 226 :].max() > 200, "light letters"


# Time


def test_the_time_a_picture_is_shown(tmp_path: Path) -> None:
    for suffix in SUFFIXES:
        with video(tmp_path / f"a{suffix}", (226, 250), fps=24) as film:
            for i in range(23):
                film.add(smooth(226, 250, 0.1 * i))
            film.add(smooth(226, 250, 9.0), frames=24)
    assert len(decoded(tmp_path / "a.mp4")) == 23 + 24
    # 1/24 s is 4.1667 hundredths and 41.667 thousandths; their sums are right to the last unit.
    gif, webp = durations(tmp_path / "a.gif"), durations(tmp_path / "a.webp")
    assert gif[:6] == [40, 40, 40, 50, 40, 40]
    assert webp[:3] == [42, 41, 42]
    assert len(gif) == len(webp) == 24
    assert gif[-1] == webp[-1] == 1000
    assert sum(gif) == 1960
    assert sum(webp) == 1958
    for suffix in (".gif", ".webp"):
        with Image.open(tmp_path / f"a{suffix}") as found:
            assert found.info["loop"] == 0


@given(fps=st.floats(0.5, 240), counts=st.lists(st.integers(1, 50), min_size=1, max_size=40))
def test_rounded_times_never_drift(fps: float, counts: list[int]) -> None:
    clock = encoders._Clock(fps, 100)
    told = [clock(count) for count in counts]
    assert abs(sum(told) - 100 * sum(counts) / fps) <= 0.5 + 1e-6
    assert all(abs(t - 100 * c / fps) <= 1 + 1e-6 for t, c in zip(told, counts, strict=True))


def test_the_files_are_well_formed(tmp_path: Path) -> None:
    """By hand, from the formats' own definitions: Pillow forgives much."""
    for suffix in (".gif", ".webp"):
        written(tmp_path / f"a{suffix}", 3)
    gif, webp = ((tmp_path / f"a{suffix}").read_bytes() for suffix in (".gif", ".webp"))
    assert gif[:6] == b"GIF89a"
    assert struct.unpack("<HH", gif[6:10]) == (266, 266)
    assert gif[-1:] == b";"
    assert struct.unpack("<I", webp[4:8])[0] == len(webp) - 8
    names, at = [], 12
    while at < len(webp):
        length = struct.unpack("<I", webp[at + 4 : at + 8])[0]
        names.append(webp[at : at + 4])
        at += 8 + length + length % 2
    assert (names, at) == ([b"VP8X", b"ANIM", b"ANMF", b"ANMF", b"ANMF"], len(webp))
    # FFmpeg's own reader, a second opinion; its GIF is in the order of the frames.
    with av.open(str(tmp_path / "a.gif")) as container:
        assert len(list(container.decode(video=0))) == 3


def test_the_same_pictures_are_the_same_file(tmp_path: Path) -> None:
    for suffix in SUFFIXES:
        for name in "ab":
            written(tmp_path / f"{name}{suffix}", 3)
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


# Nothing is kept


@pytest.mark.parametrize("suffix", [SUFFIXES[0], *(pytest.param(s, marks=pytest.mark.slow) for s in SUFFIXES[1:])])
def test_no_frame_is_kept(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    living: list[weakref.ref[Image.Image]] = []
    convert = Image.Image.copy

    def watched(self: Image.Image) -> Image.Image:
        found = convert(self)
        living.append(weakref.ref(found))
        return found

    monkeypatch.setattr(Image.Image, "copy", watched)
    most = 0
    # What was there before is not searched again at every frame.
    gc.freeze()
    try:
        with video(tmp_path / f"a{suffix}", (32, 40)) as film:
            for i in range(12):
                film.add(smooth(32, 40, 0.1 * i))
                gc.collect()
                most = max(most, sum(reference() is not None for reference in living))
    finally:
        gc.unfreeze()
    assert len(living) >= 12
    assert most <= 1


@pytest.mark.parametrize("suffix", [SUFFIXES[0], *(pytest.param(s, marks=pytest.mark.slow) for s in SUFFIXES[1:])])
def test_memory_does_not_grow_with_the_frames(tmp_path: Path, suffix: str) -> None:
    """200 more frames of 400 kB (80 MB in all) cost less than 20 MB: what the encoder looks ahead is already there."""
    program = f"""
import resource, numpy as np
from PIL import Image
from inward.draw.video import video
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
noise = np.random.default_rng(0).integers(100, 140, (360, 380, 3), dtype=np.uint8)
with video({str(tmp_path / f"a{suffix}")!r}, (360, 380)) as film:
    for i in range(260):
        film.add(Image.fromarray(np.roll(noise, i, 1)), str(i))
        if i == 60:
            before = peak()
print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=240)
    assert float(done.stdout) < 20
    assert done.stderr == ""


# Whole or not at all


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, FileNotFoundError])
def test_what_is_interrupted_leaves_nothing(tmp_path: Path, suffix: str, error: type[BaseException]) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"what stood here")
    failure = error("mine")

    def fails() -> None:
        with video(path, (226, 250)) as film:
            film.add(smooth(226, 250))
            raise failure

    with pytest.raises(error) as found:
        fails()
    assert found.value is failure, "the caller's own errors are not taken for the video's"
    assert path.read_bytes() == b"what stood here"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_place_is_taken_only_at_the_end(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "a: b" / f"a{suffix}"
    path.parent.mkdir()
    with video(path, (226, 250)) as film:
        film.add(smooth(226, 250))
        assert not path.exists()
        (draft,) = path.parent.iterdir()
        assert draft.name.startswith(".inward-")
        same = draft.stat().st_ino
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_ino == same, "renamed, not copied: nobody meets half a file"
    assert len(frames_of(path)) == 1


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_is_one_sentence(tmp_path: Path, suffix: str) -> None:
    """The largest file is limited in a process of its own, at many lengths up to that of the whole video."""
    whole = tmp_path / f"whole{suffix}"
    written(whole, 8)
    program = f"""
import resource, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from inward.errors import InwardError
from pathlib import Path
import torch
from inward.draw.video import video
y, x = torch.meshgrid(torch.linspace(0, 3, 226), torch.linspace(0, 4, 250), indexing="ij")
path, whole = Path({str(tmp_path / f"a{suffix}")!r}), {whole.stat().st_size}
for limit in (0, 10, 40, whole // 3, whole // 2, whole - 2000, whole - 100, whole - 1, whole):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        with video(path, (226, 250)) as film:
            for i in range(8):
                image = torch.stack([0.5 + 0.4 * torch.sin(x + k * y + 0.3 * i + k) for k in range(3)])
                film.add(image, f"pass {{i + 1}}/8")
        print("whole", len(path.read_bytes()))
        path.unlink()
    except InwardError as error:
        print(error)
    print(*path.parent.glob("*a{suffix}*"), *path.parent.glob(".*"), sep=", ")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    said, left = done.stdout.splitlines()[::2], done.stdout.splitlines()[1::2]
    refused = f"cannot write {tmp_path / f'a{suffix}'}: File too large; free the place or choose another path"
    assert said == [refused] * 8 + [f"whole {whole.stat().st_size}"]
    assert left == [""] * 9
    assert done.stderr == ""


def test_what_ffmpeg_refuses_is_refused_by_the_system(tmp_path: Path) -> None:
    """H.264 at 4:2:0 has even sides; FFmpeg's error for it is of no kind that Python knows."""
    (tmp_path / "draft").touch()
    with pytest.raises(OSError, match="external library"):
        encoders.Mp4(tmp_path / "draft", (225, 250), 24)


def test_videos_need_no_pyav_to_be_imported() -> None:
    program = "import sys, inward.runs.film, inward.draw.video; print('av' in sys.modules, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == ["False", "True"]
