"""The demo: a normal and an adversarially robust network of one build, side by side.

It needs no download: both come with the package, and the photographs with scikit-image. Everything on the page is
computed by the same functions that every user calls.
"""

from __future__ import annotations

import io
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from PIL import Image
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from inward import architecture, draw
from inward.errors import CallError, InwardError
from inward.figures import signed_sum, strongest
from inward.methods.attacked import Loss
from inward.methods.attacks import pgd
from inward.methods.integrated import integrated_gradients
from inward.methods.predict import Prediction, predict
from inward.methods.saliency import saliency
from inward.methods.smallest import smallest_eps
from inward.methods.visualize import visualize
from inward.nets.trained import shipped_card
from inward.network.load import TWINS, load
from inward.network.network import Network
from inward.pictures import read
from inward.results import Attribution, Perturbation, Visualization
from inward.types import Images

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")
_STAGES = ("stage1", "stage2", "stage3", "stage4")
# Units of a stage, at equal distances.
_UNITS = 5
_STEPS = 96
T = TypeVar("T")
_TILE, _MOST = 192, 8
_EPS, _WIDE = 4 / 255, 32 / 255
# Label smoothing flattens the cross-entropy of the normal network, so that climbing it leads nowhere.
_LOSS: Loss = "margin"
_TITLE = "inward: inside a normal and a robust network"


@dataclass(frozen=True)
class _Asked:
    """What the page is made of."""

    nets: dict[str, Network]
    images: Images
    names: tuple[str, ...]
    out: Path
    seed: int
    answers: dict[str, list[list[Prediction]]] = field(default_factory=dict)

    def of_both(self, look: Callable[[Network, Images], T]) -> dict[str, T]:
        """What each network makes of the pictures, by its name."""
        return {name: look(net, self.images.to(net.device)) for name, net in self.nets.items()}

    def pictured(self, addresses: Sequence[str]) -> dict[str, Visualization]:
        """What units of each network look for."""
        return self.of_both(lambda net, _: visualize(net, addresses, steps=_STEPS, seed=self.seed))

    def captioned(self, name: str, number: int) -> str:
        """The answer of a network to a picture."""
        return told(self.answers[name][number][0])


def told(one: Prediction) -> str:
    """A class and its probability."""
    return f"{one.label}, {one.probability:.0%}"


def run(out: Path, files: Sequence[Path] = (), *, seed: int = 0, bar: Progress) -> Path:
    """Looks into both networks, and writes the page; gives its path.

    Args:
        out: the folder of the page and of some of the results.
        files: pictures, 8 at most; by default photographs of scikit-image.
        seed: of all that is random.
        bar: shows how far it is.

    Raises:
        InwardError: where ``out`` cannot be written.
        CallError: where it holds a page that is not ours, or for too many pictures.
    """
    page = out / "index.html"
    if len(files) > _MOST:
        raise CallError(f"the page has room for {_MOST} pictures, not {len(files)}; give fewer")
    if page.exists() and _TITLE not in page.read_text(encoding="utf-8", errors="replace"):
        raise CallError(f"{page} is there and is not of a demo; give another --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InwardError(f"{out} cannot be written ({error.strerror}); give another --out") from error
    task = bar.add_task("two networks", total=len(_SECTIONS))
    nets = {name: load(f"inward/{name}") for name in TWINS}
    images, names = _photographs(nets["normal"], files, out)
    asked = _Asked(nets, images, names, out, seed)
    asked.answers.update(asked.of_both(predict))
    sections = []
    for doing, section in _SECTIONS.items():
        bar.update(task, description=doing)
        sections.append(section(asked))
        bar.advance(task)
    draw.save_page(draw.page(_TITLE, sections), page)
    return page.resolve()


def _photographs(net: Network, files: Sequence[Path], out: Path) -> tuple[Images, tuple[str, ...]]:
    """The pictures as the networks see them, and their names; those of scikit-image are kept beside the page."""
    if not files:
        import skimage.data

        files = [out / "photographs" / f"{_SHOWN_AS.get(name, name)}.png" for name in PHOTOGRAPHS]
        files[0].parent.mkdir(exist_ok=True)
        for name, file in zip(PHOTOGRAPHS, files, strict=True):
            draw.save_png(Image.fromarray(getattr(skimage.data, name)()), file)
    return read(list(files), net), tuple(file.stem for file in files)


_SHOWN_AS = {"chelsea": "cat"}


def _networks(asked: _Asked) -> draw.Section:
    cards = {name: shipped_card(name) for name in TWINS}
    kinds = [row["what"] for row in cards["normal"]["figures"]["accuracy"]]
    rows = [("of pictures not trained on, right", *(f"inward/{name}" for name in TWINS))]
    for i, what in enumerate(kinds):
        rows.append((what, *(f"{cards[name]['figures']['accuracy'][i]['accuracy']:.1%}" for name in TWINS)))
    net = asked.nets["normal"]
    text = io.StringIO()
    architecture.show(Console(file=text), net, depth=2)
    classes = list(net.labels or ())
    return draw.Section(
        "Two networks of one build",
        f"Both are the same small residual network, {net.parameters:,} parameters, trained by inward train on the same "
        f"photographs of ten kinds: {', '.join(classes[:-1])} and {classes[-1]}. One was trained as usual. "
        "The other was shown, at every step of its training, pictures that had just been changed to fool it, no value "
        "by more than 4 levels of 255. This page asks what is different inside.\n\n"
        "Every line below is a point that can be named, and so computed, differentiated, visualized or attacked; the "
        "points of both networks have the same names.",
        table=tuple(rows),
        code=text.getvalue().rstrip(),
    )


def _answers(asked: _Asked) -> draw.Section:
    classes = set(asked.nets["normal"].labels or ())
    captions = [
        f"{name}\nnormal: {asked.captioned('normal', i)}\nrobust: {asked.captioned('robust', i)}"
        for i, name in enumerate(asked.names)
    ]
    shown = draw.grid([_tile(image) for image in asked.images], columns=4, captions=captions)
    return draw.Section(
        "What they answer",
        "Whatever a picture shows, a network answers one of the classes it knows. That makes it a good question what "
        f"in the picture it went by. Both know {len(classes)} classes and nothing else.",
        figures=(draw.Figure(shown, alt="the pictures with the answers of both networks"),),
    )


def _units(asked: _Asked) -> draw.Section:
    figures = []
    for stage in _STAGES:
        count = asked.nets["normal"].points[stage].units or 1
        addresses = [f"{stage}/{k}" for k in range(0, count, max(1, count // _UNITS))][:_UNITS]
        found = asked.pictured(addresses)
        pictures = [draw.to_picture(image) for one in found.values() for image in one.images]
        captions = [f"{name} {unit}" for name in found for unit in addresses]
        shown = draw.grid(pictures, columns=len(addresses), captions=captions)
        told = f"{stage}: above units of the normal network, below those of the robust one."
        figures.append(draw.Figure(shown, told, f"what units of {stage} look for in both networks"))
        if stage == _STAGES[-1]:
            found["robust"][0].save(asked.out / f"robust-{stage}-0")
    return draw.Section(
        "What their units look for",
        "Each picture began as noise and was moved, step by step, in the direction that excites one unit more. The "
        "units are not chosen: they stand at equal distances in each stage. Units with the same number in the two "
        "networks have nothing to do with one another.",
        figures=tuple(figures),
    )


def _classes(asked: _Asked) -> draw.Section:
    labels = asked.nets["normal"].labels or ()
    addresses = [f"class:{k}" for k in range(len(labels))]
    found = asked.pictured(addresses)
    figures = []
    for half in (range(len(labels))[:5], range(len(labels))[5:]):
        pictures = [_tile(found[name].images[k]) for name in asked.nets for k in half]
        captions = [f"{name}: {labels[k]}" for name in asked.nets for k in half]
        shown = draw.grid(pictures, columns=len(half), captions=captions)
        figures.append(draw.Figure(shown, alt="what each network takes for the most of each class"))
    found["robust"][0].save(asked.out / "robust-class-0")
    return draw.Section(
        "What a class is to them",
        "The same for the ten classes: pictures that the network takes for the most of each. A network that small "
        "changes can fool has learned patterns that mean nothing to people; one that they cannot has to go by shapes "
        "that people see too.",
        figures=tuple(figures),
    )


def _reasons(asked: _Asked) -> draw.Section:
    slopes = asked.of_both(saliency)
    shares = asked.of_both(partial(integrated_gradients, tolerance=0.05))
    for kind, found in (("saliency", slopes), ("integrated-gradients", shares)):
        for name, one in found.items():
            one[0].save(asked.out / f"{name}-{kind}")
    figures = [_reason(asked, i, slopes, shares) for i in range(len(asked.names))]
    return draw.Section(
        "Why this answer",
        "Beside each picture, for the answer of each network: how strongly its score hangs on each pixel (saliency, "
        "the absolute gradient; bright: strongly), and which share of the score each pixel has, compared with black "
        "(integrated gradients; red: for the answer, blue: against it). Every map has a scale of its own.",
        figures=tuple(figures),
    )


def _reason(asked: _Asked, number: int, slopes: dict[str, Attribution], shares: dict[str, Attribution]) -> draw.Figure:
    pictures, captions = [_tile(asked.images[number])], [asked.names[number]]
    for name in asked.nets:
        answer = f"{name}: {asked.answers[name][number][0].label}"
        slope, share = slopes[name].values[number], shares[name].values[number]
        pictures += [_map(strongest(slope), signed=False), _map(signed_sum(share), signed=True)]
        captions += [f"{answer}\nsaliency", f"{answer}\nintegrated gradients"]
    shown = draw.grid(pictures, columns=5, captions=captions)
    return draw.Figure(shown, alt=f"{asked.names[number]}, and why each network answers as it does")


def _map(plane: Tensor, *, signed: bool) -> Image.Image:
    picture = draw.heat_map(plane, signed=signed, scale=False)
    # It is enlarged by whole factors without smoothing: back to a pixel a value first.
    return _enlarged(picture.resize((plane.shape[1], plane.shape[0]), Image.Resampling.NEAREST))


def _tile(image: Tensor) -> Image.Image:
    """A picture at the size of the page's tiles."""
    return _enlarged(draw.to_picture(image.cpu()))


def _enlarged(picture: Image.Image) -> Image.Image:
    return picture.resize((round(_TILE * picture.width / picture.height), _TILE), Image.Resampling.BICUBIC)


def _attacks(asked: _Asked) -> draw.Section:
    attack = partial(pgd, loss=_LOSS, seed=asked.seed)
    found = asked.of_both(partial(attack, eps=_EPS, stop=False))
    near = asked.of_both(partial(smallest_eps, attack=attack, most=_WIDE))
    for name, one in found.items():
        one[0].save(asked.out / f"{name}-attack")
    rows = [("picture", *(f"{name}: smallest change that fools it" for name in TWINS))]
    for i, picture in enumerate(asked.names):
        rows.append((picture, *(_levels(near[name].eps[i].item()) for name in TWINS)))
    return draw.Section(
        "Where they are fragile",
        "The same attack on both: projected gradient descent on the lead of any other class, all of 40 steps, no value "
        "changed by more than 4 levels of 255. Differences are enlarged as is said below each. The table has the "
        f"smallest change at which the same attack succeeds, looked for up to {_levels(_WIDE)}; below one level, which "
        "no 8-bit picture can hold, it is judged unrounded.\n\nOf a picture that shows none of the ten kinds both "
        "networks are unsure, and what is unsure is easily moved. On pictures of the ten kinds the robust one "
        "withstands as often as the table at the top says.",
        figures=tuple(_attack(asked, i, found) for i in range(len(asked.names))),
        table=tuple(rows),
    )


def _levels(eps: float) -> str:
    """An eps in 8-bit levels."""
    return f"{eps * 255:.2g} of 255" if eps * 255 < 1e3 else "none found"


def _attack(asked: _Asked, number: int, found: dict[str, Perturbation]) -> draw.Figure:
    pictures, captions = [_tile(asked.images[number])], [asked.names[number]]
    for name, one in found.items():
        now = predict(one.net, one.adversarial[number : number + 1], top=1)[0][0]
        before = asked.answers[name][number][0]
        word = f"{before.label} becomes {told(now)}" if one.success[number] else f"still {told(now)}"
        changed, caption = draw.difference(one.images[number].cpu(), one.adversarial[number].cpu())
        pictures += [_tile(one.adversarial[number]), _enlarged(changed)]
        captions += [f"{name}: {word}", caption]
    shown = draw.grid(pictures, columns=5, captions=captions)
    return draw.Figure(shown, alt=f"{asked.names[number]}, attacked in both networks")


def _turned(asked: _Asked) -> draw.Section:
    labels = asked.nets["normal"].labels or ()
    image = asked.images[:1]
    known = {asked.answers[name][0][0].index for name in asked.nets}
    goals = [k for k in range(len(labels)) if k not in known][:4]
    many = image.expand(len(goals), -1, -1, -1)
    figures = []
    for name, net in asked.nets.items():
        targets = [f"class:{k}" for k in goals]
        found = pgd(
            net, many.to(net.device), target=targets, eps=_WIDE, steps=60, stop=False, seed=asked.seed, step_size=0.05
        )
        now = predict(net, found.adversarial, top=1)
        captions = [asked.names[0]]
        captions += [
            told(one[0]) if found.success[i] else f"{labels[k]} was asked for; {told(one[0])}"
            for i, (k, one) in enumerate(zip(goals, now, strict=True))
        ]
        shown = draw.grid([_tile(image[0]), *map(_tile, found.adversarial)], columns=5, captions=captions)
        figures.append(draw.Figure(shown, f"inward/{name}", f"{asked.names[0]} turned into other classes, for {name}"))
    return draw.Section(
        "With more room",
        f"The first picture, changed by up to {_levels(_WIDE)} towards other classes, for all of 60 steps. "
        "What convinces the normal network looks like noise. What convinces the robust one is coarser, patches and "
        "edges, for noise does not impress it.",
        figures=tuple(figures),
    )


def _next(asked: _Asked) -> draw.Section:
    folder = shlex.quote(str(asked.out))
    original = f"{folder}/robust-attack/original.png"
    lines = (
        "inward show inward/robust",
        f"inward explain inward/robust {original} --method grad-cam",
        f"inward attack inward/robust {original} --target class:church --eps 16/255",
        "inward visualize inward/robust stage3/0:16",
        f"inward rerun {folder}/robust-class-0",
        "inward train --data digits --adversarial pgd --out runs/own",
    )
    return draw.Section(
        "Do it yourself",
        "Some of the results lie beside this page. These commands look further; any network from torchvision or timm, "
        "or of your own, can stand in the place of inward/robust.",
        code="\n".join(lines),
    )


_SECTIONS: dict[str, Callable[[_Asked], draw.Section]] = {
    "networks": _networks,
    "answers": _answers,
    "units": _units,
    "classes": _classes,
    "reasons": _reasons,
    "attacks": _attacks,
    "further": _turned,
    "commands": _next,
}
