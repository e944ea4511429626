"""Small networks of our own, and their activations."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from inward import load, lrp, visualize
from inward.columns.objectives import Probability
from inward.errors import CallError, InwardError
from inward.methods.predict import predict
from inward.nets.activations import ACTIVATIONS, Maxout, RectifiedLog, activation, normalization, pieces_of
from inward.nets.cnn import CNN
from inward.nets.resnet import Block, ResNet
from inward.nets.trained import build, load_trained, rounded, save_trained
from inward.network import Network
from same import images, seeded

FORMS = {
    "relog": lambda r: (r + 1).log10(),
    "relog-steep": lambda r: (r + 0.01).log10() + 2,
    "log": lambda r: (r + 1).log(),
}


@pytest.mark.parametrize("name", sorted(FORMS))
def test_rectified_logs_are_what_the_notebooks_wrote(name: str) -> None:
    x = torch.linspace(-3, 50, 1001, dtype=torch.float64)
    torch.testing.assert_close(activation(name)(x), FORMS[name](x.relu()), rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("name", sorted(FORMS))
def test_gradients_of_rectified_logs_by_finite_differences(name: str) -> None:
    x = torch.tensor([-2.0, -0.3, 1e-3, 0.02, 0.7, 1.0, 5.0, 300.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(activation(name), x, eps=1e-7)
    (slope,) = torch.autograd.grad(activation(name)(x).sum(), x)
    assert slope[:2].tolist() == [0, 0]
    assert slope[3:].gt(0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", sorted(FORMS))
def test_rectified_logs_are_finite_for_every_number(name: str, dtype: torch.dtype) -> None:
    most = torch.finfo(dtype)
    values = [-most.max, -1.0, -most.tiny, -0.0, 0.0, most.smallest_normal / 4, most.tiny, 1.0, 1e30, most.max]
    x = torch.tensor([*values, math.inf, -math.inf], dtype=dtype, requires_grad=True)
    made = activation(name)(x)
    (slope,) = torch.autograd.grad(made.float().sum(), x)
    assert made.isfinite().all()
    assert slope.isfinite().all()
    assert (made[1:11] >= made[:10]).all()
    # log10 of the largest number, to the precision of the dtype.
    expected = FORMS[name](torch.tensor(most.max, dtype=torch.float64)).item()
    assert made[9].item() == pytest.approx(expected, rel=0.02)


@pytest.mark.usefixtures("single_thread")
@pytest.mark.parametrize("name", [*sorted(FORMS), "maxout"])
def test_pictures_of_units_behind_them_in_bfloat16(name: str) -> None:
    """Loops run graphs that were made in float32 with products in bfloat16, which has no number as large."""
    net = Network.of(seeded(lambda: CNN(3, 4, 12, name, "batch", width=4)), size=12)
    found = visualize(net, ["layer1/1", "layer2/2"], steps=8, precision="auto")
    assert found.images.isfinite().all()
    assert (found.history[-1] > found.history[0]).all()


@pytest.mark.usefixtures("single_thread")
@pytest.mark.parametrize("name", sorted(set(ACTIVATIONS) - {"relog-steep"}))
def test_relevance_goes_through_activations_unchanged(name: str) -> None:
    """Without biases nothing takes relevance away: it adds up to the score, whatever the activation."""
    module = seeded(lambda: CNN(3, 4, 12, name, "none", width=4)).double()
    for key, value in module.named_parameters():
        if key.endswith("bias"):
            torch.nn.init.zeros_(value)
    net = Network.of(module, size=12)
    found = lrp(net, images(2, 3, 12, 12).double(), target="class:1", rule="epsilon", epsilon=1e-14)
    assert found.values.flatten(1).sum(1).tolist() == pytest.approx(found.scores.tolist(), rel=1e-4)


def test_a_rectified_log_keeps_digits_near_zero() -> None:
    tiny = torch.tensor([1e-12], dtype=torch.float32)
    assert RectifiedLog(1.0, 10.0)(tiny).item() == pytest.approx(1e-12 / math.log(10), rel=1e-6)


def test_maxout_by_its_definition() -> None:
    x = images(2, 6, 3, 5)
    made = Maxout(3)(x)
    assert made.shape == (2, 2, 3, 5)
    for channel in range(2):
        assert torch.equal(made[:, channel], torch.stack([x[:, 3 * channel + i] for i in range(3)]).amax(0))
    assert Maxout(2)(x[:, :, 0, 0]).shape == (2, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: activation("swish"), "there is no activation 'swish'; choose relu, relog"),
        (lambda: normalization("layer", 8), "there is no normalization 'layer'; choose batch, group or none"),
        (lambda: Maxout(1), "maxout chooses among 2 pieces or more"),
        (lambda: RectifiedLog(0.0), "a slope above 0"),
        (lambda: CNN(size=4), "pictures of 8 pixels or more, not 4"),
        (lambda: ResNet(widths=(8,)), "there are 1 widths for 4 numbers of blocks"),
        (lambda: build("vgg", channels=1, classes=2, size=8, activation="relu", norm="none"), "no network 'vgg'"),
    ],
)
def test_what_there_is_not(call, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(CallError, match=message):
        call()


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
@pytest.mark.parametrize("kind", sorted(ACTIVATIONS))
def test_every_activation_and_norm_in_both_networks(kind: str, norm: str) -> None:
    x = images(3, 3, 16, 16).requires_grad_(True)
    for make in (
        lambda: CNN(3, 4, 16, kind, norm, width=4),
        lambda: ResNet(3, 4, 16, kind, norm, widths=(16, 32), blocks=(1, 2)),
    ):
        module = seeded(make)
        logits = module(x)
        assert logits.shape == (3, 4)
        (slope,) = torch.autograd.grad(logits.square().sum(), x)
        assert slope.isfinite().all()
        assert slope.abs().amax((1, 2, 3)).min() > 0
        # Images do not mix.
        torch.testing.assert_close(module(x[:1]), logits[:1])


def test_the_network_of_the_twins_is_as_large_as_is_said() -> None:
    net = Network.of(ResNet().eval(), size=128)
    assert net.parameters == 2_797_610
    assert 0.13e9 < sum(p.multiply_adds for p in net.points.values() if "." not in p.name) < 0.15e9
    assert {"stage1", "stage4.1.conv2", "act", "fc"} <= set(net.points)
    assert net.points["stage4"].shape == (1, 256, 4, 4)


def test_maxout_takes_twice_the_channels() -> None:
    assert pieces_of("maxout") == 2
    block = Block(8, 16, 2, "maxout", "group")
    assert block.conv1.out_channels == 32
    assert block(images(2, 8, 6, 4)).shape == (2, 16, 3, 2)


TOLD = {"net": {"name": "cnn", "activation": "relog", "norm": "none"}, "classes": ["a", "b", "c"], "channels": 3}
TOLD |= {"size": 16, "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.2, 0.3]}


def made() -> nn.Module:
    return seeded(lambda: build("cnn", channels=3, classes=3, size=16, activation="relog", norm="none"))


@pytest.mark.parametrize("half", [True, False])
def test_a_file_of_weights_is_a_network(tmp_path: Path, half: bool) -> None:
    module = made()
    save_trained(tmp_path / "weights.safetensors", module, TOLD, half=half)
    again, told = load_trained(tmp_path / "weights.safetensors")
    x = images(2, 3, 16, 16)
    torch.testing.assert_close(again(x), module(x), rtol=0, atol=5e-3 if half else 0.0)
    assert told["classes"] == ["a", "b", "c"]
    net = load(str(tmp_path))
    assert net.preprocess.mean == (0.4, 0.5, 0.6)
    assert net.label(1) == "b"
    low, high = (torch.tensor(TOLD[k]).view(1, 3, 1, 1) for k in ("mean", "std"))
    torch.testing.assert_close(net(x), again((x - low) / high))
    with pytest.raises(CallError, match="has its own weights; leave out --weights"):
        load(str(tmp_path), weights="random")


def test_what_half_precision_has_no_room_for_stays_as_it_is(tmp_path: Path) -> None:
    module = made()
    with torch.no_grad():
        module.fc2.bias[1] = 1e5  # type: ignore[union-attr, operator, index]
    save_trained(tmp_path / "weights.safetensors", module, TOLD, half=True)
    again, _ = load_trained(tmp_path / "weights.safetensors")
    assert again.fc2.bias[1] == 1e5  # type: ignore[union-attr, index]
    rounded(module)
    x = images(2, 3, 16, 16)
    assert torch.equal(again(x), module(x))
    with torch.no_grad():
        module.fc2.bias[1] = torch.inf  # type: ignore[union-attr, operator, index]
    with pytest.raises(InwardError, match=r"the weights fc2\.bias are not finite, and are not written; lower the"):
        save_trained(tmp_path / "other.safetensors", module, TOLD, half=True)
    assert not (tmp_path / "other.safetensors").exists()


def test_classes_that_are_propositions_of_their_own(tmp_path: Path) -> None:
    """Trained with sigmoids, a network gives every class the sigmoid of its own logit, whatever the others have."""
    x = images(2, 3, 16, 16)
    chances = {}
    for output in ("sigmoid", "softmax"):
        save_trained(tmp_path / "weights.safetensors", made(), TOLD | {"recipe": {"output": output}}, half=False)
        net = load(str(tmp_path))
        logits = net(x).double()
        assert (net.output, net.edit().upto("fc2").output) == (output, output)
        expected = logits.sigmoid() if output == "sigmoid" else logits.softmax(1)
        for row, chance in zip(predict(net, x), expected, strict=True):
            assert [p.probability for p in row] == pytest.approx(chance.sort(descending=True).values.tolist())
        chances[output] = Probability(2)(net.trace(x, ["class"]))
        torch.testing.assert_close(chances[output].double(), expected[:, 2], rtol=1e-5, atol=0)
    assert (chances["sigmoid"] - chances["softmax"]).abs().min() > 0.01
    with pytest.raises(CallError, match="there is no output 'tanh'; write softmax or sigmoid"):
        Network.of(made(), size=16, output="tanh")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [{"size": 10**9}, {"classes": ["a"]}, {"mean": [0.1]}, {"net": {"name": "cnn"}}, {"channels": "3"}, {"size": None}],
)
def test_a_file_that_says_nonsense_is_refused(tmp_path: Path, change: dict) -> None:
    save_trained(tmp_path / "weights.safetensors", made(), TOLD | change, half=True)
    with pytest.raises(InwardError, match="of its network is damaged or of another version"):
        load(str(tmp_path))


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    with pytest.raises(InwardError, match="a run that was trained to its end has it"):
        load(str(tmp_path))
    save_file(made().state_dict(), path)
    with pytest.raises(InwardError, match="is no file of trained weights of inward"):
        load(str(tmp_path))
    path.write_bytes(b"x" * 100)
    with pytest.raises(InwardError, match="is no file of trained weights of inward"):
        load(str(tmp_path))
    save_trained(path, made(), TOLD | {"classes": ["a", "b"]}, half=True)
    with pytest.raises(InwardError, match="are not those of the network it names"):
        load(str(tmp_path))
