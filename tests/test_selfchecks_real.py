"""Self-checks of networks with real weights."""

from __future__ import annotations

from pathlib import Path

import pytest

import inward
from inward.studies.selfchecks import self_checks


@pytest.mark.slow
@pytest.mark.parametrize("name", ["torchvision/squeezenet1_1", "inward/inception_v1"])
def test_networks_with_real_weights_give_no_alarm(shared_data: Path, name: str) -> None:
    files = sorted((shared_data / "imagenet-sample").glob("*.jpg"))[::22][:32]
    weights = shared_data / "weights" / f"{name.split('/')[1]}.safetensors"
    net = inward.load(name, weights=weights, mean=[m / 255 for m in (123, 117, 104)], std=[1 / 255] * 3)
    labels = [int(file.name.split("_")[0]) for file in files]
    found = self_checks(net, inward.read(files, net), labels, eps=2 / 255)
    assert [one.name for one in found if one.ok is False] == []
