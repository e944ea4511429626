"""Integrated gradients in expectation over many baselines."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from inward.columns.paths import Draws
from inward.errors import CallError
from inward.gradient import Sample, Total, gradients, scores
from inward.methods.baselines import NAMED, Baseline, baselines
from inward.methods.draws import own_draws
from inward.methods.explained import Explained, Of, Target, explained
from inward.methods.smoothing import Moments
from inward.network.network import Network
from inward.pictures import find
from inward.results import Attribution
from inward.types import Images


@own_draws
def expected_gradients(
    net: Network,
    images: Images,
    *,
    target: Target = None,
    of: Of = "score",
    baseline: Baseline | Sequence[Baseline] = ("black", "gray", "white", "blur", "noise"),
    samples: int = 100,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> Attribution:
    """The expected share of every pixel in the difference of the score between a random baseline and the image.

    Erion, Janizek, Sturmfels, Lundberg and Lee, "Improving performance of deep learning models with
    axiomatic attribution priors and expected gradients", 2021: the mean of ``(x - b) * dF(b + t (x - b))/dx``
    over baselines b and t uniform in [0, 1]. The paper draws b from the training pictures: give a
    folder of them; without one, five plain baselines stand for them. The draws are spread evenly
    (every baseline equally often, every part of [0, 1] once), which leaves the mean unbiased and
    nearer to the expectation. Measured: error, by how much the shares miss F(x) less the mean score of
    the baselines drawn; standard_error, of the map over the draws, as a share of the map (means of
    absolute values), on the safe side.

    Args:
        net: the network.
        images: (N, C, H, W) in [0, 1].
        target: the address that is explained, for example class:281 or mixed4a/97; one, or one an
            image (classes only). By default each image's own answer.
        of: what of a class: its logit before softmax (score), its probability, or minus its cross-entropy.
        baseline: what is drawn from: folders of pictures, pictures, or black, gray, white, mean (the
            network's mean color), blur, noise (uniform); all pictures together, each as likely.
        samples: draws of a baseline and a place on the line from it; one gradient each.
        seed: of the draws, which are the same for all images, and of the noise baseline.
        on_progress: called with (gradients computed, all of them).

    Raises:
        CallError: for images that are not in [0, 1], an address that the network does not have, a baseline that
            is no name and no picture or of another shape, or fewer than 1 sample.
        InwardError: for a folder without pictures, or a picture that cannot be read.
    """
    if samples < 1:
        raise CallError(f"an expectation takes 1 sample or more, not {samples}; give a larger samples")
    asked = explained(net, images, target, of)
    drawn = _Drawn(asked, _words(baseline), samples, seed)
    own, beside = asked.scores(), drawn.mean_score()
    values, uncertain = drawn.shares(on_progress)
    difference = own.cpu().double() - beside
    missed = (difference - values.flatten(1).sum(1)).abs()
    return asked.attribution(
        "expected-gradients",
        {"of": of, "baseline": _told(baseline), "samples": samples, "seed": seed},
        values.to(asked.images),
        own,
        kind="contribution",
        measured={**asked.completeness(difference, error=missed), "standard_error": uncertain},
    )


# Pictures that are kept after they were read; those of a large folder are drawn once each anyway.
_KEPT = 32


class _Drawn:
    """What was drawn: for every sample the baseline and the place on the line from it."""

    def __init__(self, asked: Explained, words: Sequence[Baseline], samples: int, seed: int) -> None:
        self._asked = asked
        self._net = asked.loop()
        self._pairs = Draws(len(words), samples, seed)()
        # Of more baselines than draws, no round is ever complete.
        self._round = len(words) if samples >= 2 * len(words) else 1
        self._baseline = lru_cache(_KEPT)(lambda number: baselines(asked.net, asked.images, words[number], seed)[0][1])

    def mean_score(self) -> Tensor:
        """The mean score of the baselines, each as often as it was drawn, (N,)."""
        times = Counter(number for number, _ in self._pairs)
        samples = (
            Sample(i, image, drawn / len(self._pairs))
            for number, drawn in times.items()
            for i, image in enumerate(self._baseline(number))
        )
        total = Total(len(self._asked.images))
        for batch in scores(self._net, samples, self._asked.objective, self._asked.size):
            total.add(batch.owners, batch.weights(), batch.scores, batch.scores)
        return total.scores

    def shares(self, on_progress: Callable[[int, int], None] | None) -> tuple[Tensor, Tensor]:
        """The mean of the difference between image and baseline times the gradient, and its standard error, (N,)."""
        differences: deque[Tensor] = deque()

        def samples() -> Iterator[Sample]:
            for number, place in self._pairs:
                start = self._baseline(number)
                for i, image in enumerate(self._asked.images):
                    differences.append(image - start[i])
                    yield Sample(i, start[i] + place * differences[-1], 1 / len(self._pairs))

        count = len(self._asked.images)
        total, rounds, done = Total(count), _Rounds(count, self._round), 0
        for batch in gradients(self._net, samples(), self._asked.objective, self._asked.size):
            shares = torch.stack([differences.popleft() for _ in batch.samples]) * batch.gradients
            total.add(batch.owners, batch.weights(), batch.scores, shares)
            rounds.add(batch.owners, shares)
            done += len(batch.samples)
            if on_progress is not None:
                on_progress(done, len(self._pairs) * count)
        return total.values, rounds.moments.standard_error()


class _Rounds:
    """The moments of the means of rounds, in each of which every baseline was drawn once.

    So the differences between baselines, which are drawn equally often, are not taken for uncertainty.
    """

    def __init__(self, count: int, length: int) -> None:
        self.moments = Moments(count)
        self._length = length
        self._sums: list[Tensor | float] = [0.0] * count
        self._seen = [0] * count

    def add(self, owners: Sequence[int], values: Tensor) -> None:
        for owner, value in zip(owners, values.detach().cpu().double(), strict=True):
            whole = value + self._sums[owner]
            self._seen[owner] = (self._seen[owner] + 1) % self._length
            if self._seen[owner] == 0:
                self.moments.add([owner], whole[None] / self._length)
            self._sums[owner] = whole if self._seen[owner] else 0.0


def _words(given: Baseline | Sequence[Baseline]) -> list[Baseline]:
    """The single baselines; a folder is the pictures in it."""
    words = [given] if isinstance(given, (str, Tensor)) else list(given)
    if not words:
        raise CallError(f"there is no baseline; name one of {', '.join(NAMED)}, or give pictures or a folder of them")
    folders = [isinstance(word, str) and word not in NAMED and Path(word).is_dir() for word in words]
    found = [[str(file) for file in find([str(w)])] if held else [w] for w, held in zip(words, folders, strict=True)]
    return [word for several in found for word in several]


def _told(given: Baseline | Sequence[Baseline]) -> list[str]:
    """As the record names them: files by their whole paths."""
    words = [given] if isinstance(given, (str, Tensor)) else given
    texts = ["given" if isinstance(word, Tensor) else word for word in words]
    return [text if text in (*NAMED, "given") else str(Path(text).absolute()) for text in texts]
