"""The functional form of an exported program: nothing is written in place, and gradients are as in the module.

``run_decompositions`` traces the whole program again, which takes two thirds of the time of an export. A program of
operations that it leaves as they are is in this form already, and of others it is known what it makes of them
(:mod:`inward.network.plain`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from inward.network import opaque
from inward.network.modes import quiet
from inward.network.plain import rewrites

# A test compares each of them before and after.
UNCHANGED = frozenset(
    f"aten.{name}"
    for name in (
        *("conv2d.default", "conv_transpose2d.input", "linear.default", "matmul.default", "einsum.default"),
        *("relu.default", "leaky_relu.default", "elu.default", "silu.default", "gelu.default", "sigmoid.default"),
        *("tanh.default", "softplus.default", "hardtanh.default", "relu6.default", "hardswish.default"),
        *("prelu.default",),
        *("clamp.default", "clamp_min.default", "add.Tensor", "sub.Tensor", "rsub.Scalar", "mul.Tensor", "div.Tensor"),
        *("neg.default", "exp.default", "log.default", "log10.default", "log1p.default", "sqrt.default"),
        *("rsqrt.default", "pow.Tensor_Scalar", "square.default", "abs.default", "sign.default", "sin.default"),
        *("round.default", "floor.default", "maximum.default", "mean.dim", "mean.default", "sum.dim_IntList"),
        *("amax.default", "max_pool2d.default", "avg_pool2d.default", "adaptive_avg_pool2d.default"),
        *("softmax.int", "log_softmax.int", "logsumexp.default", "cat.default", "stack.default", "permute.default"),
        *("transpose.int", "unsqueeze.default", "squeeze.dim", "slice.Tensor", "select.int", "pad.default"),
        *("layer_norm.default", "group_norm.default", "scaled_dot_product_attention.default"),
        *("upsample_nearest2d.vec", "upsample_bilinear2d.vec", "clone.default", "expand.default"),
        *("roll.default", "flip.default", "hardsigmoid.default", "avg_pool3d.default", "view.default", "sym_size.int"),
    )
)


def functional(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """The program in functional form; a new one, or the same where all of its operations can be exchanged in place."""
    found = rewrites(program, UNCHANGED)
    if found is None:
        return decomposed(program)
    for rewrite in found:
        rewrite()
    program.graph.eliminate_dead_code()
    return program


def decomposed(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """A new program in functional form, whatever is in this one."""
    with quiet():
        opaque.keep_blocks(program)
        return program.run_decompositions({torch.ops.aten.copy.default: _copy})


def _copy(target: Tensor, source: Tensor, *_: Any) -> Tensor:
    """What writing into a slice becomes; the operation itself has no derivative."""
    return source.to(target.dtype).expand_as(target).clone(memory_format=torch.contiguous_format)
