"""Peers as their users call them. What they lack to run at all today is put back here, and nowhere else."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from inward.network.load import import_torchvision


def lucent() -> Any:
    """``lucent.optvis`` of torch-lucent 0.1.8, with the two functions of kornia under the names it calls them by."""
    import_torchvision()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            kornia = importlib.import_module("kornia")
            transform = importlib.import_module("kornia.geometry.transform")
            vars(kornia).update({name: getattr(transform, name) for name in ("get_rotation_matrix2d", "warp_affine")})
            for part in ("objectives", "param", "render", "transform"):
                importlib.import_module(f"lucent.optvis.{part}")
        except ModuleNotFoundError as error:
            raise SystemExit(f"{error.name} is missing; install the peers with make peers") from error
    return importlib.import_module("lucent.optvis")


def render(
    module: nn.Module,
    point: str,
    units: Sequence[int],
    *,
    steps: int,
    size: int,
    mean: Sequence[float],
    std: Sequence[float],
) -> Tensor:
    """Pictures of these channels by ``render_vis`` with its own transforms, (N, C, H, W) in [0, 1].

    Its way of several pictures at once: a batch in which an objective counts for one picture each.
    """
    vis = lucent()
    np.random.seed(0)
    torch.manual_seed(0)
    shift, scale = (torch.tensor(v).view(-1, 1, 1) for v in (mean, std))
    objective = sum(
        (vis.objectives.channel(point, unit, batch=i) for i, unit in enumerate(units[1:], 1)),
        vis.objectives.channel(point, units[0], batch=0),
    )
    images = vis.render.render_vis(
        module,
        objective,
        param_f=lambda: vis.param.image(size, batch=len(units)),
        transforms=[*vis.transform.standard_transforms, lambda x: (x - shift) / scale],
        thresholds=(steps,),
        preprocess=False,
        fixed_image_size=size,
        progress=False,
        show_image=False,
    )
    # What it leaves behind: gradients of every parameter, and hooks that are never removed.
    module.zero_grad()
    for child in module.modules():
        child._forward_hooks.clear()
    return torch.from_numpy(images[-1]).permute(0, 3, 1, 2)
