"""Sparse-RS: the paper's schedule, never a pixel too many, and the one pixel that a network reads."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from helpers import conv_net, network
from inward import CallError, Network
from inward.columns.constraints import Ball
from inward.methods.attacked import attacked
from inward.methods.course import Course
from inward.methods.sparse_rs import _Pixels, share_at, sparse_rs
from inward.network.held import Held
from minimal import SHARP, whole_levels

SIZE = (9, 7)
pytestmark = pytest.mark.usefixtures("single_thread")


@pytest.fixture(scope="module")
def net() -> Network:
    return network(conv_net().double(), SIZE, **SHARP)


@pytest.fixture(scope="module")
def x() -> Tensor:
    return whole_levels(10)


class OnePixel(nn.Module):
    """It reads one value: above 0.9 the answer is 1."""

    def forward(self, x: Tensor) -> Tensor:
        value = x[:, 1, 4, 2]
        return torch.stack([torch.full_like(value, 0.9), value], 1)


def test_the_schedule_is_the_paper_s() -> None:
    divided = {0: 1, 1: 2, 50: 2, 51: 4, 201: 5, 501: 6, 1001: 8, 2001: 10, 4001: 12, 6001: 15, 8000: 15, 8001: 20}
    for query, by in divided.items():
        assert share_at(query, 10000, 0.3) == 0.3 / by
        assert share_at(query // 2, 5000, 0.3) == share_at(query // 2 * 2, 10000, 0.3)


def test_one_pixel_is_found_where_the_network_reads_it(x: Tensor) -> None:
    """63 places and 8 colors, half of which will do: 1 - (125/126)^600 is 99 % of the images."""
    net = network(OnePixel().eval().double(), SIZE)
    dark = x * 0.8
    found = sparse_rs(net, dark, pixels=1, queries=1200)
    assert found.success.all()
    assert found.l0.tolist() == [1] * 10
    changed = (found.adversarial != found.images).any(1)
    assert changed[:, 4, 2].all()
    assert (found.adversarial[:, 1, 4, 2] == 1).all()


@pytest.mark.parametrize("pixels", [1, 5, 63])
@pytest.mark.parametrize("stop", [True, False])
def test_never_a_pixel_too_many_and_all_else_is_as_it_was(net: Network, x: Tensor, pixels: int, stop: bool) -> None:
    found = sparse_rs(net, x, pixels=pixels, queries=25, stop=stop)
    assert (found.l0 <= pixels).all()
    changed = (found.adversarial != x).any(1, keepdim=True)
    assert torch.equal(changed.flatten(1).sum(1).double(), found.l0)
    values = found.adversarial[changed.expand_as(x)]
    assert ((values == 0) | (values == 1)).all()
    assert torch.equal(found.success, net(found.adversarial).argmax(1) != net(x).argmax(1))
    if not stop:
        assert (found.history[1:] >= found.history[:-1]).all()


def take(search: _Pixels, which: Tensor, candidates: Tensor) -> None:
    """Makes candidates of these images their best."""
    search._held = Held(search.course.asked.net, "class", search.best.index_copy(0, which, candidates[which]))
    search.accept(which)


def _images(search: _Pixels) -> Tensor:
    """The best candidates with the next change."""
    changes = search.candidates(0.3, 0).changes
    return search.best.index_copy(0, changes.owners, changes.values)


def test_every_query_moves_as_many_pixels_as_it_should(net: Network, x: Tensor) -> None:
    asked = attacked(net, x[:3], None, None, eight_bit_judge=True, eps=None, norm="linf")
    course = Course(asked, Ball(asked.images, 1.0, float("inf")), 10)
    search = _Pixels(course, torch.arange(3), torch.Generator().manual_seed(3), 12)
    take(search, torch.arange(3), search.start())
    seen = torch.zeros(63, dtype=torch.bool)
    for query in range(40):
        before, places = search.best, search.places
        after = _images(search)
        for i in range(3):
            old, new = set(places[i].tolist()), set(search._new[i].tolist())
            assert len(new) == 12
            # int(0.3 * 12) = 3 are given up, and what they had covered is as it was.
            assert len(old - new) == 3
            for place in old - new:
                assert torch.equal(after[i].flatten(1)[:, place], x[i].flatten(1)[:, place])
            same = torch.tensor(sorted(set(range(63)) - (old ^ new)))
            assert torch.equal(after[i].flatten(1)[:, same], before[i].flatten(1)[:, same])
        # Images go their own ways.
        take(search, torch.arange(3)[[query % 3 != 0, True, query % 2 == 0]], after)
        seen[search.places.flatten()] = True
    assert seen.sum() > 55


def test_where_all_places_are_taken_they_are_taken_again(net: Network, x: Tensor) -> None:
    found = sparse_rs(net, x[:3], pixels=63, queries=8, stop=False, eight_bit=False)
    assert (found.adversarial == found.adversarial.round()).all()


def test_an_image_alone_is_what_it_is_in_a_batch(net: Network, x: Tensor) -> None:
    options: dict[str, Any] = {"pixels": 2, "queries": 15, "restarts": 2}
    together = sparse_rs(net, x, **options)
    assert 0 < together.success.sum() < 10
    assert together.steps[~together.success].unique().tolist() == [30]
    for i in range(0, 10, 3):
        alone = sparse_rs(net, x[i : i + 1], **options)
        assert torch.equal(alone.adversarial[0], together.adversarial[i])
        assert alone.steps[0] == together.steps[i]


def test_more_pixels_and_queries_fool_more_and_targets_are_reached(net: Network, x: Tensor) -> None:
    few = sparse_rs(net, x, pixels=3, queries=30)
    more = sparse_rs(net, x, pixels=12, queries=150)
    assert few.success.sum() < more.success.sum()
    goals = net(x).argsort(1)[:, -2].tolist()
    found = sparse_rs(net, x, pixels=20, queries=60, target=goals)
    assert torch.equal(found.success, net(found.adversarial).argmax(1) == torch.tensor(goals))
    assert found.success.any()


@pytest.mark.parametrize("channels", [1, 5])
def test_any_channels_in_half_precision(channels: int) -> None:
    net = network(conv_net(channels).bfloat16(), SIZE, mean=(0.5,) * channels, std=(0.05,) * channels)
    shown = whole_levels(4)[:, :1].expand(-1, channels, -1, -1).bfloat16()
    found = sparse_rs(net, shown, pixels=20, queries=60)
    assert (found.l0 <= 20).all()
    assert found.success.any()


@pytest.mark.slow
def test_it_is_no_worse_than_torchattacks_s_one_pixel() -> None:
    """torchattacks 3.5.1: OnePixel, differential evolution; as many queries for both."""
    torchattacks = pytest.importorskip("torchattacks")
    module = conv_net().eval()
    shown = whole_levels(24).float()
    labels = module(shown).argmax(1)
    state = torch.get_rng_state()
    theirs = torchattacks.OnePixel(module, pixels=5, steps=19, popsize=10, inf_batch=64)(shown, labels)
    torch.set_rng_state(state)
    ours = sparse_rs(network(module, SIZE), shown, pixels=5, queries=200)
    assert ours.success.sum() >= (module(theirs).argmax(1) != labels).sum()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"pixels": 0}, "1 to all 63 of the image, not 0"),
        ({"pixels": 64}, "1 to all 63 of the image, not 64"),
        ({"queries": 0}, "queries must be 1 or more"),
        ({"restarts": 0}, "restarts must be 1 or more"),
        ({"share": 1.5}, "above 0 and at most 1, not 1.5"),
    ],
    ids=str,
)
def test_senseless_calls_are_refused(net: Network, x: Tensor, options: dict, reason: str) -> None:
    with pytest.raises(CallError, match=reason):
        sparse_rs(net, x, **options)
