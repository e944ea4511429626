"""The demo: a small network trained on real handwritten digits in seconds, and a look inside it.

It needs no download: the 1,797 digits come with scikit-learn. Everything on the page is computed
by the same functions that every user calls.
"""

from __future__ import annotations

import io
import shlex
from pathlib import Path

import torch
from PIL import Image
from rich.console import Console
from rich.progress import Progress
from safetensors.torch import save_file
from torch import Tensor, nn

from inward import architecture, draw
from inward.errors import CallError, InwardError
from inward.figures import named, signed_sum
from inward.methods.attacks import targeted_attack
from inward.methods.predict import predict
from inward.methods.saliency import saliency
from inward.methods.visualize import visualize
from inward.nets.digits import Digits, digits
from inward.network.load import load
from inward.network.modes import one_thread
from inward.network.network import Network
from inward.results import Attribution, Perturbation, Visualization
from inward.terminal import progress_bar
from inward.types import Images

_TRAINED, _EPOCHS, _BATCH = 1437, 30, 32
_SMALL, _LARGE = 128, 224
# Shares of the range by which a pixel may change, tried one after the other.
_BOUNDS = (0.05, 0.1, 0.15, 0.2, 0.3)


def run(out: Path, *, seed: int = 0) -> Path:
    """Trains, looks, and writes the page; gives its path.

    Raises InwardError where ``out`` cannot be written; CallError where it holds a page that is not ours.
    """
    page, weights = out / "index.html", out.absolute() / "digits.safetensors"
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InwardError(f"{out} cannot be written ({error.strerror}); give another --out") from error
    if page.exists() and not weights.exists():
        raise CallError(f"{page} is there and is not of a demo; give another --out")
    with one_thread(), progress_bar() as bar:
        images, labels = _data()
        _save(train(images[:_TRAINED], labels[:_TRAINED], seed, bar), weights)
        net = load("inward/digits", weights=weights)
        tests, answers = images[_TRAINED:], labels[_TRAINED:]
        task = bar.add_task("looking inside", total=5)
        sections = []
        for section in (_architecture, _units, _reasons, _attacks, _next):
            sections.append(section(net, tests, answers, out))
            bar.advance(task)
    draw.save_page(draw.page("inward: a look inside a small network", sections), page)
    return page.resolve()


def _data() -> tuple[Images, Tensor]:
    """The digits in a fixed random order: (1797, 1, 8, 8) on the 8-bit grid, and their classes."""
    from sklearn.datasets import load_digits

    pixels, classes = load_digits(return_X_y=True)
    images = torch.from_numpy(pixels).float().view(-1, 1, 8, 8) / 16
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return ((images * 255).round() / 255)[order], torch.from_numpy(classes).long()[order]


def train(images: Images, labels: Tensor, seed: int, bar: Progress) -> Digits:
    """Adam on the cross-entropy; the order of the digits and the first weights follow from the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = digits().train()
        optimizer = torch.optim.Adam(module.parameters(), lr=3e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _EPOCHS)
        for _ in bar.track(range(_EPOCHS), description="training"):
            for batch in torch.randperm(len(images)).split(_BATCH):
                optimizer.zero_grad()
                nn.functional.cross_entropy(module(images[batch]), labels[batch]).backward()
                optimizer.step()
            schedule.step()
    return module.eval()


def _save(module: nn.Module, path: Path) -> None:
    draft = path.with_suffix(".partial")
    save_file(module.state_dict(), draft)
    draft.replace(path)


def _architecture(net: Network, images: Images, labels: Tensor, _: Path) -> draw.Section:
    right = [top[0].index for top in predict(net, images, top=1)]
    accuracy = sum(a == b for a, b in zip(right, labels.tolist(), strict=True)) / len(labels)
    text = io.StringIO()
    Console(file=text, width=100, soft_wrap=True).print(architecture.tree(net))
    shown = draw.grid(
        [draw.to_picture(image, at_least=64) for image in images[:16]],
        columns=8,
        captions=[f"answer {k}" for k in right[:16]],
    )
    return draw.Section(
        "The network",
        f"Trained just now on {_TRAINED:,} handwritten digits of 8 x 8 pixels; it reads {accuracy:.1%} of the other "
        f"{len(labels)} rightly. Every line below is a point that can be named, and so computed, differentiated, "
        "visualized or attacked.",
        figures=(draw.Figure(shown, "Digits it was not trained on, and its answers.", "16 digits with answers"),),
        code=text.getvalue().rstrip(),
    )


def _units(net: Network, _images: Images, _labels: Tensor, out: Path) -> draw.Section:
    units = visualize(net, [f"conv2/{k}" for k in range(8)] + [f"conv3/{k}" for k in range(8)], steps=128)
    classes = visualize(net, [f"class:{k}" for k in range(10)], steps=128)
    classes[0].save(out / "class-0")
    return draw.Section(
        "What its units look for",
        "Each picture began as gray noise and was moved, step by step, in the direction that excites one unit more.",
        figures=(
            _sheet(
                units,
                8,
                "Eight units of the second convolution, and below them eight of the third. A picture of one shade "
                "means that the unit asks for just that: ink everywhere, or none.",
            ),
            _sheet(
                classes,
                5,
                "The ten classes: what the network takes for the most of each digit. Nobody would write them so; it "
                "never saw a picture that is no digit, and so never learned what a digit is not.",
            ),
        ),
    )


def _sheet(result: Visualization, columns: int, caption: str) -> draw.Figure:
    pictures = [draw.to_picture(image, at_least=_SMALL) for image in result.images]
    shown = draw.grid(pictures, columns=columns, captions=list(result.addresses))
    return draw.Figure(shown, caption, f"what {result.addresses[0]} to {result.addresses[-1]} look for")


def _reasons(net: Network, images: Images, labels: Tensor, out: Path) -> draw.Section:
    chosen = [int((labels == k).nonzero()[0]) for k in (0, 3, 4, 7)]
    result = saliency(net, images[chosen])
    result[0].save(out / "saliency")
    return draw.Section(
        "Why this answer",
        "Beside each digit, the gradient of the answer's score with respect to every pixel. Red: more ink here would "
        "speak for the answer. Blue: more ink here would speak against it.",
        figures=tuple(_reason(result[i]) for i in range(len(result))),
    )


def _reason(one: Attribution) -> draw.Figure:
    word, values = named(one, one.targets[0]).partition(" ")[0], signed_sum(one.values[0])
    tile = draw.to_picture(one.images[0], at_least=_LARGE)
    heat = draw.heat_map(values, signed=True, limit=values.abs().max().item() or 1.0)
    # The map has a margin above and below it: so has the digit then, and their rows of pixels meet.
    framed = Image.new("RGB", (tile.width, heat.height), "white")
    framed.paste(tile, (0, (heat.height - tile.height) // 2))
    shown = draw.grid([framed, heat], columns=2, captions=["the digit", f"what speaks for a {word}"])
    return draw.Figure(shown, alt=f"a digit, and the gradient of its answer {word}")


def _attacks(net: Network, images: Images, labels: Tensor, out: Path) -> draw.Section:
    pairs = ((1, 8), (3, 8), (5, 6), (8, 3))
    chosen = [images[int((labels == digit).nonzero()[0])] for digit, _ in pairs]
    found = [_smallest(net, image[None], goal) for image, (_, goal) in zip(chosen, pairs, strict=True)]
    found[0].save(out / "attack")
    rows = [("digit", "asked for", "success", "steps", "bound", "largest change", "Euclidean length")]
    rows += [_row(one, digit) for one, (digit, _) in zip(found, pairs, strict=True)]
    bounds = ", ".join(f"{bound:.0%}" for bound in _BOUNDS)
    return draw.Section(
        "Where it is fragile",
        "Each digit is moved along the gradient until the network reads it as another one. No pixel may change by more "
        f"than a bound, and the bound is raised until that succeeds: {bounds} of the range from black to white. "
        "Success is judged on the 8-bit picture, as a file holds it.",
        figures=tuple(_attack(one, digit) for one, (digit, _) in zip(found, pairs, strict=True)),
        table=tuple(rows),
    )


def _smallest(net: Network, image: Images, goal: int) -> Perturbation:
    """The attack within the smallest bound at which it succeeds, or else within the largest."""
    for bound in _BOUNDS[:-1]:
        found = targeted_attack(net, image, target=f"class:{goal}", eps=bound)
        if found.success[0]:
            return found
    return targeted_attack(net, image, target=f"class:{goal}", eps=_BOUNDS[-1])


def _attack(one: Perturbation, digit: int) -> draw.Figure:
    words = (f"a {digit}", f"read as {_read(one)}")
    return draw.Figure(draw.side_by_side(one.images[0], one.adversarial[0], words), alt=", ".join(words))


def _read(one: Perturbation) -> str:
    return predict(one.net, one.adversarial, top=1)[0][0].label


def _row(one: Perturbation, digit: int) -> tuple[str, ...]:
    told = one.measures()
    asked = one.targets[0].partition(":")[2]
    success = "yes" if told["success"] else "no"
    bound = f"{one.record.parameters['eps']:.0%}"
    return (str(digit), asked, success, str(told["steps"]), bound, f"{told['linf']:.1%}", f"{told['l2']:.2f}")


def _next(_net: Network, _images: Images, _labels: Tensor, out: Path) -> draw.Section:
    folder = shlex.quote(str(out))
    network = f"inward/digits --weights {folder}/digits.safetensors"
    lines = (
        f"inward show {network}",
        f"inward predict {network} {folder}/attack/original.png {folder}/attack/adversarial.png",
        f"inward explain {network} {folder}/attack/original.png --target class:8",
        f"inward visualize {network} conv3/20 class:7",
        f"inward rerun {folder}/class-0",
    )
    return draw.Section(
        "Do it yourself",
        "The network and some of the results lie beside this page. These commands look further; any network from "
        "torchvision or timm, or of your own, can stand in the place of inward/digits.",
        code="\n".join(lines),
    )
