"""The options of feature visualization: what is recorded of them, what they refuse, and the objectives they mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from helpers import conv_net, network
from inward.ascent import Row, ascend
from inward.columns import steps
from inward.columns.batches import Diverse, Diversity, Each
from inward.columns.objectives import Channel, ClassScore
from inward.errors import CallError
from inward.gradient import gradient, keys_of, trace_for
from inward.methods import recipe
from inward.methods.method import Method
from inward.methods.recipe import batches_of, is_sum, names_of, picture_seed, planned, summed
from inward.methods.table import TABLE
from inward.methods.visualize import visualize
from inward.network import Network
from inward.runs.folder import manifest_of
from networks import Same

SIZE = (9, 7)
ROWS = [row for row in TABLE if row.takes == "addresses"]

pytestmark = pytest.mark.usefixtures("single_thread")


@pytest.fixture(scope="module")
def net() -> Network:
    return network(conv_net(), SIZE)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
@pytest.mark.parametrize("options", [{}, {"size": (8, 12), "steps": 2, "lr": 1}, {"steps": 0, "lr": 0.5}], ids=str)
def test_what_is_planned_is_what_is_recorded(row: Method, options: dict[str, Any], net: Network) -> None:
    options = {"steps": 1, **options}
    starts = {"start": ["noise"]} if "start" in planned(row.function, net, {}) else {}
    result = row.function(net, "class:1", **options)
    told = manifest_of(result, [])["parameters"]
    assert told == {"addresses": ["class:1"], **planned(row.function, net, {**options, **starts})}
    # So many, and each with a kind that JSON keeps.
    assert told["size"] == list(options.get("size", SIZE))
    assert type(told["steps"]) is int
    assert "on_pass" not in told
    assert "batch" not in told


def test_files_are_named_from_everywhere(net: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    told = planned(visualize, net, {"start": ["noise", "a.png", "gray"], "spectrum": "folder"})
    assert told["start"] == ["noise", str(tmp_path / "a.png"), "gray"]
    assert told["spectrum"] == str(tmp_path / "folder")


def test_what_is_automatic_is_decided(net: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [planned(visualize, net, {"parameterization": kind})["lr"] for kind in recipe.RATES] == [
        *(0.03, 0.02, 0.003, 0.1, 0.03)
    ]
    assert planned(visualize, net, {"lr": 0.5})["lr"] == 0.5
    # Of a whole number where a float belongs, one is written: so that it is the same from a command and from Python.
    assert repr(planned(visualize, net, {"settle": 0, "tv": 2})["tv"]) == "2.0"
    for able, words in ((True, ["mixed", "full", "mixed"]), (False, ["full"] * 3)):
        monkeypatch.setattr("inward.network.lean.has_half", lambda _, able=able: able)
        found = [planned(visualize, net, {"precision": word})["precision"] for word in ("auto", "full", "mixed")]
        assert found == words
        double = net.to(dtype=torch.float64)
        assert planned(visualize, double, {"precision": "mixed"})["precision"] == "full"
    with pytest.raises(CallError, match="there is no precision 'half'; write auto, full or mixed"):
        planned(visualize, net, {"precision": "half"})


def test_seeds_of_pictures() -> None:
    """They are for ever: a saved picture is made again from its address."""
    assert picture_seed(0, "mixed4a/97") == 8114534764493005398
    assert picture_seed(0, "mixed4a/97", 1) == 1028632933411622078
    assert picture_seed(1, "mixed4a/97") == 4540329771735498259
    # The first eight bytes of a SHA-256, halved so that they are no negative number to torch.
    found = {picture_seed(s, a, v) for s in (0, 1, 10) for a in ("conv/1", "conv/10", "class:1") for v in range(3)}
    assert len(found) == 27
    assert all(0 <= seed < 2**63 for seed in found)


@given(st.integers(0, 2**31), st.text(max_size=20), st.integers(0, 50))
def test_seeds_suit_torch(seed: int, address: str, variant: int) -> None:
    torch.Generator().manual_seed(picture_seed(seed, address, variant))
    assert picture_seed(seed, address, variant) != picture_seed(seed, address, variant + 1)


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("conv/1", ["conv/1"]),
        (["conv/1", "conv/0", "conv/1"], ["conv/1", "conv/0"]),
        ("conv/1:3", ["conv/1", "conv/2"]),
        (["class:3:5", "conv/5"], ["class:3", "class:4", "conv/5"]),
        ("conv", ["conv"]),
        ("conv/1+conv/2", None),
        ("conv/1 + conv/2", ["conv/1 + conv/2"]),
        ("  conv/1   +   conv/2 ", ["conv/1 + conv/2"]),
        ("conv/1 - conv/2", ["conv/1 - conv/2"]),
        ("0.5 * conv/1", ["0.5 * conv/1"]),
        ("0.50*conv/1", ["0.5 * conv/1"]),
        ("1 * conv/1", ["conv/1"]),
        ("-1 * conv/1", ["-1 * conv/1"]),
        ("-0.5 * conv/1", ["-0.5 * conv/1"]),
        ("-0.5 * conv/1 - 2 * conv/2", ["-0.5 * conv/1 - 2 * conv/2"]),
        ("conv/1 - -2 * conv/2", ["conv/1 + 2 * conv/2"]),
        ("conv/1 + -1 * conv/2", ["conv/1 - conv/2"]),
        ("0.00001 * conv/1", ["1e-05 * conv/1"]),
        ("1e-05 * conv/1", ["1e-05 * conv/1"]),
        ("2.5e6 * conv/1 + conv/2@0,0", ["2500000 * conv/1 + conv/2@0,0"]),
        ("0.123456789 * conv/1", ["0.123456789 * conv/1"]),
        ("class:1 - class:2 + second/3@1,2", ["class:1 - class:2 + second/3@1,2"]),
    ],
)
def test_names(words: Any, names: list[str] | None, net: Network) -> None:
    if names is None:
        with pytest.raises(CallError, match="has no point"):
            names_of(net, words, SIZE)
        return
    assert names_of(net, words, SIZE) == names
    # A name means itself: so a result can be made again.
    assert names_of(net, names, SIZE) == names


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "no unit is named"),
        ("conv/1 + conv/9", "there is no unit 9 in conv"),
        ("conv/1 + nowhere/1", "has no point 'nowhere'"),
        ("2 * conv/*", "conv/"),
        ("conv/1 + conv/0:2", "conv/0:2"),
        ("conv/1 + conv/2@99,0", "99"),
        ("conv/1 + ", "has no point"),
    ],
)
def test_names_that_are_none(words: Any, reason: str, net: Network) -> None:
    with pytest.raises(CallError, match=reason) as caught:
        names_of(net, words, SIZE)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("conv/1", False),
        ("class:1", False),
        ("conv/1 + conv/2", True),
        ("conv/1 - conv/2", True),
        ("2 * conv/1", True),
        ("-2.5*conv/1", True),
        ("1e-3 * conv/1", True),
        ("class:black-and-white", False),
        ("a-b/1", False),
        ("conv/0:2", False),
    ],
)
def test_what_is_a_sum(address: str, expected: bool) -> None:
    assert is_sum(address) is expected


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(-1e9, 1e9), st.integers(0, 5)), min_size=1, max_size=4))
def test_a_sum_is_worth_its_terms(terms: list[tuple[float, int]]) -> None:
    net = _net()
    text = " + ".join(f"{factor!r} * conv/{unit}" for factor, unit in terms)
    (name,) = names_of(net, text, SIZE)
    trace = net.trace(_images(net, 2), "conv")
    found = summed(net, name, SIZE)(trace)
    parts = [factor * trace["conv"][:, unit].flatten(1).mean(1) for factor, unit in terms]
    size = sum(part.abs() for part in parts)
    # 15 digits of every factor are written.
    assert ((found - sum(parts)).abs() <= 1e-13 * size).all()


_MADE: list[Network] = []


def _net() -> Network:
    if not _MADE:
        _MADE.append(network(conv_net(), SIZE).to(dtype=torch.float64))
    return _MADE[0]


def _images(net: Network, count: int) -> Tensor:
    return torch.rand(count, 3, *SIZE, generator=torch.Generator().manual_seed(1), dtype=net.dtype)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"diverse": 0}, "1 picture of a unit or more, not 0"),
        ({"parameterization": "wavelets"}, "no parameterization 'wavelets'; there are fourier, pixels"),
        ({"lr": 0.0}, "lr must be a number above 0, not 0"),
        ({"lr": float("inf")}, "lr must be a number above 0, not inf"),
        ({"augment": "mirror"}, "no augmentations 'mirror'; there are none, standard, crops, color"),
        ({"settle": -0.1}, "settle is a number from 0 up, not -0.1"),
        ({"diversity": float("nan")}, "diversity is a number from 0 up, not nan"),
        ({"l1": -1}, "l1 is a number from 0 up, not -1"),
        ({"l2": -1}, "l2 is a number"),
        ({"tv": float("inf")}, "tv is a number from 0 up, not inf"),
        ({"blur": -1}, "blur is a number"),
        ({"precision": "double"}, "there is no precision 'double'"),
        ({"steps": -1}, "0 passes or more, not -1"),
        ({"redirect": -1}, "from 0 up"),
        ({"batch": 0}, "a batch is of 1 unit or more, not 0"),
        ({"parameterization": "cppn", "start": "gray"}, "use --start noise"),
        ({"parameterization": "pixels", "transparent": True}, "Pixels cannot be made transparent"),
        ({"size": (3, 0)}, "3 x 0 is empty"),
    ],
    ids=str,
)
def test_options_that_make_no_sense(options: dict[str, Any], reason: str, net: Network) -> None:
    with pytest.raises(CallError, match=reason) as caught:
        visualize(net, ["conv/1", "class:0"], **options)
    assert "\n" not in str(caught.value)


def test_batches_are_of_one_point(net: Network) -> None:
    names = ["conv/1", "class:0", "conv/2", "second/1", "conv/3", "class:1", "conv/4 + class:2"]
    found = batches_of(net, names, lambda name: summed(net, name, SIZE), SIZE, batch=2)
    assert found == [
        *(["conv/1", "conv/2"], ["conv/3"], ["class:0", "class:1"], ["second/1"], ["conv/4 + class:2"]),
    ]
    whole = batches_of(net, names, lambda name: summed(net, name, SIZE), SIZE)
    assert [len(batch) for batch in whole] == [3, 2, 1, 1]
    assert batches_of(net, [], lambda name: summed(net, name, SIZE), SIZE) == []


@pytest.fixture(scope="module")
def plain() -> Network:
    return Network.of(Same(2).double().eval(), size=(5, 7))


def colors(*values: tuple[float, float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, :, None, None].expand(-1, 2, 5, 7).contiguous()


def test_diverse_by_hand(plain: Network) -> None:
    """One color everywhere: Gram matrices v v^T, of cosines (v . w)^2 / (|v| |w|)^2."""
    image = colors((0.6, 0.0), (0.0, 0.8), (0.3, 0.4))
    # cos^2: 0 between the first two, 0.36 and 0.64 with the third.
    alike = torch.tensor([0.18, 0.32, 0.5], dtype=torch.float64)
    score = torch.tensor([0.6, 0.0, 0.3], dtype=torch.float64)
    for strength in (0.0, 1.0, 2.5):
        objective = Diverse(Channel("same/0"), "same", strength)
        found = objective(trace_for(plain, image, ["same"]))
        torch.testing.assert_close(found, score - strength * score * alike, rtol=0, atol=1e-14)
        # A score below 0 is lowered just as much.
        below = Diverse(-Channel("same/0"), "same", strength)(trace_for(plain, image, ["same"]))
        torch.testing.assert_close(below, -score - strength * score * alike, rtol=0, atol=1e-14)


def test_the_size_of_the_score_is_not_climbed(plain: Network) -> None:
    """The gradient is that of ``s + strength c d`` with c = |s| as a number."""
    image = torch.rand(3, 2, 5, 7, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    size = image[:, 0].flatten(1).mean(1)
    _, found = gradient(plain, image, Diverse(Channel("same/0"), "same", 2.0))
    run = image.clone().requires_grad_(True)
    trace = trace_for(plain, run, ["same"])
    total = (Channel("same/0")(trace) + 2.0 * size * Diversity("same")(trace)).sum()
    (expected,) = torch.autograd.grad(total, run)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)
    with_size = (
        Channel("same/0")(trace_for(plain, run, ["same"])).abs() * Diversity("same")(trace_for(plain, run, ["same"]))
    ).sum()
    assert torch.autograd.grad(with_size, run)[0].abs().max() > 1e-3


def test_diverse_is_an_objective_of_a_whole_batch(plain: Network) -> None:
    objective = Diverse(ClassScore((1, 0, 1)), "same", 0.5)
    assert objective.addresses == ("class", "same")
    assert objective.group == 0
    assert (2 * objective + Channel("same/0")).group == 0
    assert Diverse(Channel("same/0"), "same").addresses == ("same/0", "same")
    chosen = objective.select([2, 1])
    assert chosen == Diverse(ClassScore((1, 0)), "same", 0.5)
    image = colors((0.6, 0.1), (0.2, 0.8), (0.3, 0.4))
    picked = chosen(trace_for(plain, image[[2, 1]], keys_of(plain, chosen)))
    by_hand = Diverse(ClassScore((1, 0)), "same", 0.5)(trace_for(plain, image[[2, 1]], ["class", "same"]))
    assert torch.equal(picked, by_hand)
    assert not torch.equal(picked, objective(trace_for(plain, image, ["class", "same"]))[[2, 1]])


def test_diverse_in_groups_climbs(plain: Network) -> None:
    parts = Each((Diverse(Channel("same/0"), "same"), Diverse(ClassScore(1), "same")), 2)
    assert parts.group == 2
    image = torch.rand(4, 2, 5, 7, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    found = ascend(plain, Row(parts, steps.gradient(0.5), 10), image)
    assert (found.final > found.scores[0]).all()
    # What one group becomes has nothing to do with the other.
    alone = ascend(plain, Row(Each(parts.parts[1:], 2), steps.gradient(0.5), 10), image[2:])
    torch.testing.assert_close(alone.images, found.images[2:], rtol=0, atol=1e-14)
