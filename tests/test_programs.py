"""Networks from exported programs: what they answer, and which are refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import networks
from inward.errors import CallError, InwardError
from inward.network.load import load
from same import assert_same_answers, images, seeded


def exported(path: Path, name: str = "ReusedBlock", batch: bool = True) -> tuple[nn.Module, str]:
    module = seeded(networks.GRAPHS[name])
    dynamic = {"x": {0: torch.export.Dim.DYNAMIC}} if batch else None
    program = torch.export.export(module, (images(2, 3, 9, 7),), dynamic_shapes=dynamic)
    torch.export.save(program, path)
    return module, str(path)


@pytest.mark.parametrize("name", ["ReusedBlock", "Functional", "NoGradModule", "TupleModule"])
def test_exported_program(tmp_path: Path, name: str) -> None:
    module, path = exported(tmp_path / "net.pt2", name)
    net = load(path, device="cpu", mean=(0.5,), labels=list("abcde"))
    assert (net.size, net.preprocess.channels, net.is_graph, net.classes()) == ((9, 7), 3, True, 5)
    plain = load(path, device="cpu")
    for batch in (1, 3):
        x = images(batch, 3, 9, 7)
        assert_same_answers(plain, module, x)
        assert torch.equal(net(x), copy.deepcopy(module)(x - 0.5))
        assert torch.equal(plain.trace(x, "conv")["conv"], module.conv(x))


def test_points_of_an_exported_program(tmp_path: Path) -> None:
    module, path = exported(tmp_path / "net.pt2")
    net = load(path, device="cpu")
    assert [*net.points] == ["conv", "seq.0", "seq.1", "seq", "seq:2.0", "seq:2.1", "seq:2", "mean", "fc"]
    x = images(3, 3, 9, 7)
    h = module.seq(module.conv(x))
    trace = net.trace(x, ["seq.1", "seq:2.1/3@8,6"])
    assert torch.equal(trace["seq.1"], h)
    assert torch.equal(trace["seq:2.1/3@8,6"], module.seq(h)[:, 3, 8, 6])


def test_refused_programs(tmp_path: Path) -> None:
    _, path = exported(tmp_path / "net.pt2")
    net = load(path, device="cpu")
    with pytest.raises(CallError, match=r"cannot take images of 12 x 10; it takes 9 x 7"):
        net(images(1, 3, 12, 10))
    with pytest.raises(CallError, match=r"cannot take images of 16 x 16; it takes 9 x 7"):
        load(path, size=16)
    with pytest.raises(CallError, match="carries its own weights"):
        load(path, weights="other.safetensors")
    with pytest.raises(CallError, match=r"was exported in torch\.float32; export it again for torch.float64"):
        load(path, dtype=torch.float64)
    _, static = exported(tmp_path / "static.pt2", batch=False)
    with pytest.raises(CallError, match=r"exported for a batch of 2; export it with a dynamic batch \(Dim.DYNAMIC\)"):
        load(static)
    broken = tmp_path / "broken.pt2"
    broken.write_bytes(Path(path).read_bytes()[:1000])
    with pytest.raises(InwardError, match=r"broken.pt2 is not an exported program that can be read"):
        load(str(broken))


class Trained(nn.Module):
    """A norm and dropout, which answer differently in train mode."""

    def __init__(self, norm: nn.Module, dropout: nn.Module) -> None:
        super().__init__()
        self.conv, self.norm, self.dropout = nn.Conv2d(3, 4, 3, padding=1), norm, dropout

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.norm(self.conv(x)).relu()).mean((2, 3))


def stored(path: Path, module: nn.Module, shapes: dict[int, Any], size: tuple[int, int] = (8, 10)) -> str:
    program = torch.export.export(module, (images(2, 3, *size),), dynamic_shapes=(shapes,), strict=False)
    torch.export.save(program, path)
    return str(path)


DYNAMIC = torch.export.Dim.DYNAMIC


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
@pytest.mark.parametrize("decomposed", [False, True])
@pytest.mark.parametrize(
    ("norm", "dropout", "accepted"),
    [
        (nn.BatchNorm2d(4), nn.Identity(), False),
        (nn.Identity(), nn.Dropout(0.5), False),
        (nn.Identity(), nn.AlphaDropout(0.5), False),
        (nn.InstanceNorm2d(4, track_running_stats=True), nn.Identity(), False),
        (nn.InstanceNorm2d(4), nn.Identity(), True),
        (nn.BatchNorm2d(4, track_running_stats=False), nn.Dropout(0.0), None),
    ],
    ids=["batch", "dropout", "alpha", "instance", "own", "stateless"],
)
def test_programs_in_train_mode_are_refused(
    tmp_path: Path, norm: nn.Module, dropout: nn.Module, accepted: bool | None, decomposed: bool
) -> None:
    module = Trained(norm, dropout)
    for training in (True, False):
        program = torch.export.export(
            module.train(training), (images(2, 3, 8, 10),), dynamic_shapes=({0: DYNAMIC},), strict=False
        )
        program = program.run_decompositions({}) if decomposed else program
        torch.export.save(program, tmp_path / "net.pt2")
        if training and accepted is False and not (decomposed and isinstance(dropout, nn.AlphaDropout)):
            with pytest.raises(CallError, match=r"was exported in train mode \(.*\); call .eval\(\) before exporting"):
                load(str(tmp_path / "net.pt2"), device="cpu")
        elif not training:
            x = images(3, 3, 8, 10)
            assert torch.equal(load(str(tmp_path / "net.pt2"), device="cpu")(x), module(x))


class Branches(networks.Small):
    def middle(self, h: Tensor) -> Tensor:
        return h * 2 if h.shape[0] >= 4 else h


def test_a_program_for_some_batches_is_refused(tmp_path: Path) -> None:
    batch = torch.export.Dim("batch", min=1, max=3)
    path = stored(tmp_path / "net.pt2", seeded(Branches), {0: batch})
    with pytest.raises(CallError, match=r"was exported for batches of 1 to 3; export it with a dynamic batch"):
        load(path, device="cpu")
    path = stored(tmp_path / "net.pt2", seeded(Branches), {0: DYNAMIC}, (4, 4))
    with pytest.raises(CallError, match=r"was exported for batches of \d to 3; export it with a dynamic batch"):
        load(path, device="cpu")


@pytest.mark.parametrize("name", ["ReusedBlock", "Functional", "NoGradModule", "InPlace", "MadeInForward"])
def test_a_program_of_dynamic_height_and_width(tmp_path: Path, name: str) -> None:
    module = seeded(networks.GRAPHS[name])
    path = stored(tmp_path / "net.pt2", module, {0: DYNAMIC, 2: DYNAMIC, 3: DYNAMIC})
    net = load(path, device="cpu")
    assert net.size == (8, 10)
    for size in ((8, 10), (12, 5)):
        x = images(3, 3, *size)
        assert_same_answers(net, module, x)
        assert net.graph(size).points["conv"].shape == (1, 4, *size)
        assert net.resolve(f"conv/3@{size[0] - 1},{size[1] - 1}", size).unit == 3
    assert load(path, device="cpu", size=(6, 9)).points["conv"].shape == (1, 4, 6, 9)


def test_a_program_of_some_heights(tmp_path: Path) -> None:
    module = seeded(networks.Functional)
    net = load(
        stored(tmp_path / "net.pt2", module, {0: DYNAMIC, 2: torch.export.Dim("h", min=6, max=40)}), device="cpu"
    )
    x = images(2, 3, 14, 10)
    assert torch.equal(net(x), module(x))
    for size in ((4, 10), (42, 10), (14, 12)):
        with pytest.raises(CallError, match=rf"images of {size[0]} x {size[1]}; it takes \(6 to 40\) x 10$"):
            net(images(2, 3, *size))
    path = stored(tmp_path / "net.pt2", module, {0: DYNAMIC, 2: 2 * torch.export.Dim("half", min=3, max=20)})
    with pytest.raises(CallError, match=r"exported for a height or width of 2\*s\d+; export it with Dim.DYNAMIC"):
        load(path, device="cpu")


def test_a_program_whose_graph_differs_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a later torch loses on the way to the graph is noticed."""
    path = stored(tmp_path / "net.pt2", seeded(networks.NoGradModule), {0: DYNAMIC})
    monkeypatch.setattr("inward.network.opaque.keep_blocks", lambda program: None)
    with pytest.raises(CallError, match=r"net.pt2 has no faithful graph \(the gradient .*load the module"):
        load(path, device="cpu")(images(2, 3, 8, 10))
