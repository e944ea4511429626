"""How much accuracy is left under attack, over many labeled pictures and for a curve of eps.

One pass in batches; memory does not grow with the pictures. A picture that falls at an eps has fallen at
every larger one, so that only those that withstand are attacked again. A pass can be stopped and goes on.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor

from inward import draw
from inward.draw.saving import write_whole
from inward.errors import CallError, InwardError
from inward.network.modes import drawing
from inward.network.network import Network
from inward.network.room import images_at_once
from inward.pictures import read
from inward.results import Perturbation
from inward.studies.folder import sha256_of
from inward.studies.labeled import Labeled
from inward.types import Images
from inward.version import VERSION

PICTURES, MANIFEST, REPORT = "pictures.json", "manifest.json", "report.json"
# Pictures of successes that are drawn.
SAMPLES = 8
_MOST = 128
# Of the standard normal distribution: 95 % lie within.
_Z = 1.959963984540054


class Attack(Protocol):
    """An attack with all its options but eps."""

    def __call__(self, net: Network, images: Images, *, label: Tensor, eps: float) -> Perturbation: ...


@dataclass(frozen=True)
class Judged:
    """What a pass found of one picture.

    Attributes:
        answer: the class that the network gives the picture as it is.
        fell: the smallest eps of the list at which the saved picture fooled it; None where it withstood all.
            0 where the answer was wrong from the start.
        fell_unrounded: the same before the values were rounded to 8 bits.
    """

    file: str
    label: int
    answer: int
    fell: float | None
    fell_unrounded: float | None


@dataclass(frozen=True)
class Robustness:
    """What a pass found.

    Attributes:
        eps: ascending.
        pictures: those that have been attacked so far.
        total: all there are.
    """

    eps: tuple[float, ...]
    pictures: tuple[Judged, ...]
    total: int

    def accuracy(self, eps: float = 0.0, *, unrounded: bool = False) -> float:
        """The share of the pictures whose answer is right and stays so, up to an eps of the list (0: as they are)."""
        fell = [p.fell_unrounded if unrounded else p.fell for p in self.pictures]
        return sum(f is None or f > eps for f in fell) / max(1, len(fell))

    def interval(self, eps: float = 0.0) -> tuple[float, float]:
        """Where the accuracy on all such pictures lies, with 95 % confidence (Wilson's interval)."""
        return wilson(self.accuracy(eps), len(self.pictures))

    def by_class(self) -> dict[int, tuple[int, list[float]]]:
        """Of each class how many pictures there are, and the accuracies at 0 and at each eps."""
        found = {}
        for label in sorted({p.label for p in self.pictures}):
            own = Robustness(self.eps, tuple(p for p in self.pictures if p.label == label), self.total)
            found[label] = (len(own.pictures), [own.accuracy(e) for e in (0.0, *self.eps)])
        return found

    def report(self) -> dict[str, Any]:
        """The figures, as ``report.json`` has them."""
        rows = []
        for eps in (0.0, *self.eps):
            low, high = self.interval(eps)
            row = {"eps": eps, "accuracy": self.accuracy(eps), "low": low, "high": high}
            rows.append(row | {"accuracy_unrounded": self.accuracy(eps, unrounded=True)})
        classes = {str(k): {"pictures": n, "accuracy": a} for k, (n, a) in self.by_class().items()}
        return {"pictures": len(self.pictures), "of": self.total, "curve": rows, "classes": classes}


def wilson(share: float, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of ``count`` trials; (0, 1) of none."""
    if count == 0:
        return 0.0, 1.0
    middle = share + _Z**2 / (2 * count)
    reach = _Z * math.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2))
    scale = 1 + _Z**2 / count
    return max(0.0, (middle - reach) / scale), min(1.0, (middle + reach) / scale)


def evaluate(
    net: Network,
    pictures: Sequence[Labeled],
    attack: Attack,
    eps: Sequence[float],
    *,
    name: str = "",
    parameters: Mapping[str, Any] | None = None,
    batch: int = 0,
    folder: str | Path | None = None,
    on_batch: Callable[[int, int], None] | None = None,
) -> Robustness:
    """Clean and robust accuracy over labeled pictures.

    Args:
        net: the network.
        pictures: the files and their classes (:func:`inward.studies.labeled.labeled`).
        attack: an untargeted attack with all options but eps, such as ``functools.partial(inward.pgd, steps=100)``.
        eps: one or several; each picture is attacked at the smallest first, and again at the next if it withstands.
        name: of the attack, and
        parameters: its other options, for the manifest: a pass goes on only where they are the same.
        batch: pictures at once; 0: as many as there is memory for, at most 128.
        folder: where the pass is kept after every batch, and goes on from when it was stopped.
        on_batch: called with (pictures done, pictures in all) after every batch.

    Raises:
        CallError: for no picture, no eps, an eps twice, or a folder that holds another evaluation.
        InwardError: for a file that is no picture.
    """
    levels = tuple(sorted(eps))
    if not pictures:
        raise CallError("there is nothing to evaluate; name a folder of labeled pictures")
    if not levels or len(set(levels)) < len(levels):
        raise CallError("eps is one number or several different ones, such as 2/255 4/255 8/255")
    kept = None if folder is None else _Kept(Path(folder), _identity(net, pictures, levels, name, parameters or {}))
    done = [] if kept is None else kept.begin()
    at_once = batch or min(_MOST, images_at_once(net, ["class"], net.size))
    for start in range(len(done), len(pictures), at_once):
        some = pictures[start : start + at_once]
        images = read([one.file for one in some], net).to(net.device, net.dtype)
        done += _Batch(net, images, some, kept).run(attack, levels)
        if kept is not None:
            kept.write(done)
        if on_batch is not None:
            on_batch(len(done), len(pictures))
    found = Robustness(levels, tuple(done), len(pictures))
    if kept is not None:
        kept.finish(found)
    return found


class _Batch:
    """Some pictures, at one eps after the other."""

    def __init__(self, net: Network, images: Images, pictures: Sequence[Labeled], kept: _Kept | None) -> None:
        self._net, self._images, self._pictures, self._kept = net, images, pictures, kept

    def run(self, attack: Attack, levels: Sequence[float]) -> list[Judged]:
        labels = torch.tensor([one.label for one in self._pictures])
        with torch.no_grad(), drawing(0, self._net.device):
            answers = self._net(self._images).argmax(1).cpu()
        wrong = answers != labels
        fell = [0.0 if bad else None for bad in wrong.tolist()]
        unrounded = list(fell)
        left = (~wrong).nonzero()[:, 0]
        for eps in levels:
            if len(left) == 0:
                break
            found = attack(self._net, self._images[left.to(self._images.device)], label=labels[left], eps=eps)
            for k, number in enumerate(left.tolist()):
                fell[number] = eps if found.success[k] else None
                if found.unrounded[k] and unrounded[number] is None:
                    unrounded[number] = eps
            self._draw(found, left)
            left = left[~found.success]
        rows = zip(self._pictures, answers.tolist(), fell, unrounded, strict=True)
        return [Judged(one.file.name, one.label, answer, f, u) for one, answer, f, u in rows]

    def _draw(self, found: Perturbation, numbers: Tensor) -> None:
        if self._kept is None or self._net.preprocess.channels not in (1, 3, 4):
            return
        for k in found.success.nonzero()[:, 0].tolist():
            if self._kept.samples >= SAMPLES:
                return
            self._kept.sample(found[k], self._pictures[int(numbers[k])])


def _identity(
    net: Network, pictures: Sequence[Labeled], eps: Sequence[float], name: str, parameters: Mapping[str, Any]
) -> dict[str, Any]:
    network = {"name": net.name, "spec": net.spec, "weights_sha256": net.weights_hash(), "size": list(net.size)}
    network |= {"dtype": str(net.dtype).removeprefix("torch."), "preprocess": asdict(net.preprocess)}
    told = {
        "study": "robustness",
        "attack": name,
        "parameters": dict(parameters),
        "eps": list(eps),
        "network": network,
        "pictures": [{"sha256": sha256_of(one.file), "label": one.label} for one in pictures],
    }
    return json.loads(json.dumps(told))


class _Kept:
    """The folder of an evaluation."""

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        self._folder, self._identity = folder, identity

    def begin(self) -> list[Judged]:
        """What an earlier pass has found already. Raises CallError where the folder holds anything else."""
        told = self._read(MANIFEST)
        if told is None:
            if self._folder.exists() and (not self._folder.is_dir() or any(self._folder.iterdir())):
                raise CallError(f"{self._folder} exists and is no evaluation; give another folder")
        else:
            same = [key for key, value in self._identity.items() if told.get(key) != value]
            if same:
                raise CallError(
                    f"{self._folder} holds an evaluation of another {same[0]}; give another folder, or remove it"
                )
        try:
            (self._folder / "samples").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InwardError(f"{self._folder} cannot be made ({error.strerror}); give another folder") from error
        versions = {"inward": VERSION, "torch": torch.__version__}
        self._write(MANIFEST, {**self._identity, "versions": versions})
        return [Judged(**row) for row in self._read(PICTURES) or []]

    @property
    def samples(self) -> int:
        return len(list((self._folder / "samples").glob("*.png")))

    def sample(self, one: Perturbation, picture: Labeled) -> None:
        """Original, adversarial and difference of a success."""
        net = one.net
        with torch.no_grad():
            answer = net.label(int(net(one.adversarial.to(net.device)).argmax(1)))
        told = (net.label(picture.label), f"{answer}, eps {one.record.parameters['eps']:.3g}")
        sheet = draw.side_by_side(one.images[0], one.adversarial[0], told)
        draw.save_png(sheet, self._folder / "samples" / f"{picture.label}-{picture.file.stem}.png")

    def write(self, done: Sequence[Judged]) -> None:
        self._write(PICTURES, [asdict(one) for one in done])

    def finish(self, found: Robustness) -> None:
        self._write(REPORT, found.report())
        if len(found.eps) > 1:
            draw.save_png(curve(found), self._folder / "curve.png")

    def _write(self, name: str, value: object) -> None:
        write_whole((json.dumps(value, indent=1) + "\n").encode(), self._folder / name)

    def _read(self, name: str) -> Any:
        try:
            return json.loads((self._folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return None


def curve(found: Robustness) -> Image.Image:
    """Accuracy by eps, with the ends of its 95 % interval."""
    places = (0.0, *found.eps)
    across = torch.tensor(places, dtype=torch.float64) / found.eps[-1]
    intervals = [found.interval(e) for e in places]
    lines = {
        "accuracy": [found.accuracy(e) for e in places],
        "95 %, from": [low for low, _ in intervals],
        "95 %, to": [high for _, high in intervals],
    }
    drawn = [draw.Line(name, across, torch.tensor(up, dtype=torch.float64)) for name, up in lines.items()]
    title = f"Accuracy under attack, {len(found.pictures)} pictures"
    return draw.curves(drawn, title, across=f"eps, as a share of {found.eps[-1]:.3g}", up="accuracy")
