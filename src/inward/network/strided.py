"""Strided convolutions of few channels, with a gradient that runs over blocks of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def strided_convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    blocks: Tensor,
) -> Tensor:
    """``torch.conv2d`` with one stride, no gaps and no groups; ``blocks`` is :func:`over_blocks` of the weight.

    A stride of s over C channels is a stride of 1 over the s x s C channels of blocks of pixels. Forwards it is
    computed as it is; the gradient with respect to the image over blocks, which is up to five times as fast.
    """
    x = x.to(weight.dtype)
    if not (torch.is_grad_enabled() and x.requires_grad):
        return torch.conv2d(x, weight, bias, stride, padding, dilation, groups)
    geometry = (tuple(stride), tuple(padding), tuple(dilation), groups)
    found: Tensor = _OverBlocks.apply(x, weight, bias, geometry, blocks)
    return found


def folded_strided_convolution(*args: Any) -> tuple[Tensor]:
    """The same in the place of a batch normalization, which gives a tuple."""
    return (strided_convolution(*args),)


def over_blocks(weight: Tensor, stride: int) -> Tensor:
    """The kernel (O, C, k, k) for the gradient over blocks, (s s C, O, k', k'), turned: k' = k / s rounded up."""
    out, channels, size, _ = weight.shape
    taps = -(-size // stride)
    padded = F.pad(weight, [0, taps * stride - size] * 2)
    blocks = padded.view(out, channels, taps, stride, taps, stride).permute(0, 3, 5, 1, 2, 4).flatten(1, 3)
    return blocks.transpose(0, 1).flip(2, 3).contiguous(memory_format=torch.channels_last)


class _OverBlocks(torch.autograd.Function):
    """The weights are constants; the gradient can be differentiated again."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: tuple[Any, ...], blocks: Tensor
    ) -> Tensor:
        ctx.save_for_backward(blocks)
        ctx.geometry, ctx.shape = geometry, x.shape
        return torch.conv2d(x, weight, bias, *geometry)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (blocks,), ((stride, _), padding, _, _) = ctx.saved_tensors, ctx.geometry
        # A transposed convolution; as a plain one over the turned kernel it is faster.
        slope = grads[0].contiguous(memory_format=torch.channels_last)
        made = torch.conv2d(slope, blocks, padding=blocks.shape[-1] - 1)
        return _pixels(made, stride, padding, ctx.shape), None, None, None, None


def _pixels(blocks: Tensor, stride: int, padding: tuple[int, int], shape: torch.Size) -> Tensor:
    """Blocks as pixels of an image of this shape; what lies behind them is 0, their margin is cut off."""
    batch, channels, height, width = shape
    grid = blocks.shape[2:]
    apart = blocks.permute(0, 2, 3, 1).reshape(batch, *grid, stride, stride, channels).permute(0, 1, 3, 2, 4, 5)
    image = apart.reshape(batch, grid[0] * stride, grid[1] * stride, channels).permute(0, 3, 1, 2)
    behind = [size + before - n for size, before, n in zip((height, width), padding, image.shape[2:], strict=True)]
    return F.pad(image, [-padding[1], behind[1], -padding[0], behind[0]])
