"""What a caller's surroundings and habits must not change: inference mode, sizes, sums, weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import inward
from inward.columns.objectives import ClassScore
from inward.errors import CallError, InwardError
from inward.gradient import gradient
from inward.network.modes import repeatable
from inward.runs.folder import free_name

SIZE = (12, 20)


class Small(nn.Module):
    """Takes any size down to 12 pixels, and refuses larger ones than 64."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.relu = nn.ReLU()
        self.fc = nn.Linear(6, 4)

    def forward(self, x):
        assert max(x.shape[2:]) <= 64
        return self.fc(self.relu(self.conv(x)).mean((2, 3)))


@pytest.fixture
def net():
    torch.manual_seed(0)
    return inward.Network.of(Small().eval(), size=SIZE)


def images(count=2, seed=0, size=SIZE):
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_gradients_are_the_same_where_the_caller_turned_them_off(net, mode):
    outside = gradient(net, images(), ClassScore(1))
    pictured = inward.visualize(net, "conv/2", steps=6)
    fooled = inward.targeted_attack(net, images(), target="class:3", eps=0.2, steps=5)
    with mode():
        # The images too were made there.
        inside = gradient(net, images(), ClassScore(1))
        pictured_inside = inward.visualize(net, "conv/2", steps=6)
        fooled_inside = inward.targeted_attack(net, images(), target="class:3", eps=0.2, steps=5)
    assert outside[1].abs().max() > 0
    assert torch.equal(inside[1], outside[1])
    assert torch.equal(pictured_inside.images, pictured.images)
    assert torch.equal(fooled_inside.adversarial, fooled.adversarial)


def test_gradients_are_the_same_under_autocast(net):
    outside = gradient(net, images(), ClassScore(1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = gradient(net, images(), ClassScore(1))
    assert torch.equal(inside[0], outside[0])
    assert torch.equal(inside[1], outside[1])


def test_a_network_made_in_inference_mode_gives_gradients_later():
    torch.manual_seed(0)
    module = Small().eval()
    with torch.inference_mode():
        made = inward.Network.of(module, size=SIZE)
        made(images())
    expected = gradient(inward.Network.of(module, size=SIZE), images(), ClassScore(1))[1]
    assert torch.equal(gradient(made, images(), ClassScore(1))[1], expected)


def test_targets_are_looked_up_at_the_size_of_the_images():
    torch.manual_seed(0)
    # Its own size is 224 x 224, which it cannot take: only that of the images counts.
    net = inward.Network.of(Small().eval())
    assert inward.saliency(net, images(), target="class:1").targets == ("class:1", "class:1")
    assert inward.saliency(net, images(), target="conv/5@11,19").targets[0] == "conv/5@11,19"
    assert len(inward.targeted_attack(net, images(), target="class:1", steps=2).steps) == 2


def test_an_attack_measures_from_the_images_that_it_shows(net):
    result = inward.targeted_attack(net, images(3), target="class:2", eps=4 / 255, steps=4)
    gap = (result.adversarial.double() - result.images.double()).flatten(1).abs().amax(1)
    # The images are whole levels in float32.
    assert torch.allclose(gap, result.linf, atol=1e-7, rtol=0)
    assert (result.linf <= 4 / 255 + 1e-12).all()
    assert torch.equal((result.images * 255).round() / 255, result.images)


def test_objectives_can_be_summed(net):
    trace = net.trace(images(), "class")
    total = sum([ClassScore(0), ClassScore(1), ClassScore(2)])
    assert torch.allclose(total(trace), trace["class"][:, :3].sum(1), atol=1e-6)
    with pytest.raises(TypeError):
        1 + ClassScore(0)


def test_a_trace_knows_what_it_holds(net):
    trace = net.trace(images(), "conv/2")
    assert "conv" in trace
    assert "conv/3" in trace
    assert "relu" not in trace
    assert "nope" not in trace
    assert 3 not in trace


def test_a_network_is_cut_after_points_and_not_units(net):
    assert net.upto("conv")(images()).shape == (2, 6, *SIZE)
    with pytest.raises(CallError, match="'conv/3' is a unit; give conv"):
        net.upto("conv/3")


def test_parameters_count_once_and_without_buffers():
    layer = nn.Conv2d(3, 3, 3, padding=1)
    module = nn.Sequential(layer, nn.BatchNorm2d(3), layer).eval()
    assert inward.Network.of(module, size=SIZE).parameters == 3 * 3 * 9 + 3 + 3 + 3


def test_the_hash_follows_the_weights():
    torch.manual_seed(0)
    module = Small().eval()
    net = inward.Network.of(module, size=SIZE)
    first = net.weights_hash()
    assert net.weights_hash() == first
    with torch.no_grad():
        module.conv.weight[0, 0, 0, 0] += 1
    second = net.weights_hash()
    module.conv.weight.data[0, 0, 0, 0] -= 1
    # Through .data, which leaves no trace in autograd's counter.
    assert second not in (first, net.weights_hash())


def test_a_seed_reaches_the_augmentations(net):
    first, again, other = (inward.visualize(net, "conv/1", steps=3, seed=s).history for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first[1:], other[1:])


def test_saving_replaces_only_an_earlier_result_of_the_same_method(net, tmp_path: Path):
    why = inward.saliency(net, images(1))
    fooled = inward.targeted_attack(net, images(1), target="class:1", steps=2)
    folder = why.save(tmp_path / "cat")
    why.save(folder)
    assert free_name(tmp_path, "cat", "saliency") == "cat"
    assert free_name(tmp_path, "cat", "targeted-attack") == "cat-targeted-attack"
    with pytest.raises(CallError, match="is a result of saliency"):
        fooled.save(folder)
    (folder / "thesis.tex").write_text("mine")
    with pytest.raises(CallError, match="not a result of inward"):
        why.save(folder)
    assert (folder / "thesis.tex").read_text() == "mine"


def test_somebody_elses_manifest_protects_its_folder(net, tmp_path: Path):
    (tmp_path / "app").mkdir()
    (tmp_path / "app/manifest.json").write_text(json.dumps({"name": "a web app", "icons": []}))
    with pytest.raises(CallError, match="not a result of inward"):
        inward.saliency(net, images(1)).save(tmp_path / "app")
    assert json.loads((tmp_path / "app/manifest.json").read_text())["name"] == "a web app"


def test_weights_that_are_no_numbers_are_told_and_not_drawn():
    module = Small().eval()
    with torch.no_grad():
        module.conv.weight[2] = torch.nan
    net = inward.Network.of(module, size=SIZE)
    for compute in (
        lambda: inward.visualize(net, "conv/2", steps=3),
        lambda: inward.targeted_attack(net, images(), target="class:1", steps=3),
        lambda: inward.saliency(net, images(), target="conv/2"),
    ):
        with pytest.raises(InwardError, match="not finite"):
            compute()


def test_graphs_are_checked_without_tf32_and_the_settings_are_as_before_also_after_a_failure():
    def settings():
        cudnn = torch.backends.cudnn
        return (
            cudnn.conv.fp32_precision,
            torch.backends.cuda.matmul.fp32_precision,
            cudnn.deterministic,
            cudnn.benchmark,
            cudnn.allow_tf32,
        )

    before, seen = settings(), []
    assert before[:2] == ("tf32", "none")

    class Telling(nn.Module):
        def forward(self, x):
            if not torch.compiler.is_exporting():
                seen.append((torch.backends.cudnn.conv.fp32_precision, torch.backends.cudnn.deterministic))
            return x.mean((2, 3))

    inward.Network.of(Telling().eval(), size=(8, 9))(torch.rand(2, 3, 8, 9))
    assert ("ieee", True) in seen
    assert settings() == before
    with pytest.raises(StopIteration), repeatable():
        raise StopIteration
    assert settings() == before
