"""Maps of activations over the picture: each is what the network computes, at its place in the sheet."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

import inward
from helpers import ConvNet, network
from inward import draw
from inward.server import places
from same import seeded
from tests.serving import serving

SIZE = (32, 64)


@pytest.fixture(scope="module")
def net() -> inward.Network:
    return network(seeded(ConvNet).eval(), SIZE)


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    return torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(1))


def points(net: inward.Network) -> list[str]:
    return [n for n, p in net.points.items() if p.units and p.shape and p.layout.grid_size(p.shape) and n != "input"]


def test_every_unit_has_its_map_at_its_place(net: inward.Network, image: torch.Tensor) -> None:
    point = max(points(net), key=lambda name: net.points[name].units or 0)
    units = net.points[point].units or 0
    found = places.sheet(image, places.maps_of(net, image, point))
    columns = min(units, places.COLUMNS)
    assert found.size == (columns * 64, -(-units // columns) * 32)
    maps = net.trace(image, [point]).features(point)[0]
    signed = bool((maps < 0).any())
    for unit in range(units):
        row, column = divmod(unit, columns)
        cell = np.asarray(found.crop((column * 64, row * 32, column * 64 + 64, row * 32 + 32)), int)
        plane = maps[unit] / maps[unit].abs().max().clamp_min(1e-12)
        plane = F.interpolate(plane[None, None], size=SIZE, mode="bilinear", align_corners=False)[0, 0]
        alone = draw.overlay(image[0], plane, signed=signed, scale=False, limit=1.0).resize(
            (64, 32), Image.Resampling.NEAREST
        )
        # Eight-bit rounding of one picture, or of all of them.
        assert np.abs(cell - np.asarray(alone, int)).max() <= 1


def test_a_map_that_is_larger_than_its_cell_keeps_its_peaks() -> None:
    maps = torch.zeros(2, 90, 200)
    maps[0, 61, 133], maps[1, 10, 20] = 3.0, -2.0
    found = places._resized(maps, (30, 64))
    assert found.shape == (2, 30, 64)
    assert [found[0].max().item(), found[0].min().item()] == [3.0, 0.0]
    assert [found[1].max().item(), found[1].min().item()] == [0.0, -2.0]
    assert divmod(int(found[0].argmax()), 64) == (61 * 30 // 90, 133 * 64 // 200)


def test_a_unit_alone_has_the_scale_of_its_activations(net: inward.Network, image: torch.Tensor) -> None:
    point = points(net)[0]
    plane = net.trace(image, [point]).features(point)[0, 1]
    signed = bool((plane < 0).any())
    wanted = draw.overlay(image[0], plane, signed=signed, limit=plane.abs().max().item())
    assert np.array_equal(np.asarray(places.over(image, places.map_of(net, image, f"{point}/1"))), np.asarray(wanted))
    with pytest.raises(inward.CallError, match="is no unit"):
        places.map_of(net, image, point)


def test_the_server_gives_both_and_says_where_there_are_no_places(tmp_path: Path) -> None:
    net = inward.load("inward/robust")
    with serving([net], tmp_path) as client:
        given = client.ask("GET", "/api/networks/0/maps.jpg?image=cat&point=stage3.1")
        assert (given.status, given.headers["content-type"]) == (200, "image/jpeg")
        assert Image.open(io.BytesIO(given.body)).size == (16 * 64, 128 // 16 * 64)
        alone = client.ask("GET", "/api/networks/0/map.png?image=cat&address=stage3.1/5")
        image = inward.read(tmp_path / "samples" / "cat.png", net)
        assert alone.body == draw.to_bytes(places.over(image, places.map_of(net, image, "stage3.1/5")))
        for wrong in (
            "maps.jpg?image=cat&point=fc",
            "map.png?image=cat&address=fc/1",
            "maps.jpg?image=cat&point=nowhere",
        ):
            assert client.ask("GET", f"/api/networks/0/{wrong}").status == 422
        assert client.ask("GET", "/api/networks/0/maps.jpg?image=nothing&point=conv").status == 404
