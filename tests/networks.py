"""Small networks, each made for one trap of export."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Small(nn.Module):
    """A convolution and a linear map; what lies between them is the trap."""

    channels = 3

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(self.channels, 4, 3, padding=1)
        self.build()
        self.fc = nn.Linear(4, 5)

    def build(self) -> None:
        """Further modules."""

    def middle(self, h: Tensor) -> Tensor:
        return h

    def forward(self, x: Tensor) -> Any:
        return self.fc(self.middle(self.conv(x)).mean((2, 3)))


class ReusedReLU(Small):
    def build(self) -> None:
        self.second = nn.Conv2d(4, 4, 1)
        self.relu = nn.ReLU(inplace=True)

    def middle(self, h: Tensor) -> Tensor:
        return self.relu(self.second(self.relu(h)) + 0.1)


class ReusedBlock(Small):
    def build(self) -> None:
        self.seq = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Tanh())

    def middle(self, h: Tensor) -> Tensor:
        return self.seq(self.seq(h))


class InPlace(Small):
    def middle(self, h: Tensor) -> Tensor:
        h += 0.25
        h.view(h.shape[0], -1).mul_(0.5)
        h[:, 0] *= 3
        h[:, 1, 0, 0] = 0
        return F.relu_(h)


class Functional(Small):
    def middle(self, h: Tensor) -> Tensor:
        return F.relu(torch.cat([F.relu(h)[:, :2], h.sigmoid()[:, 2:]], 1) - 0.1) + h


class NoGradBlock(Small):
    def middle(self, h: Tensor) -> Tensor:
        with torch.no_grad():
            w = h * 1
        return h * w


class NoGradMethod(Small):
    @torch.no_grad()
    def weight(self, h: Tensor) -> Tensor:
        return h.tanh()

    def middle(self, h: Tensor) -> Tensor:
        return h * self.weight(h)


class NoGradModule(Small):
    def build(self) -> None:
        self.gate = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Sigmoid())

    def middle(self, h: Tensor) -> Tensor:
        with torch.no_grad():
            w = self.gate(h)
        return h * w


class Detach(Small):
    def middle(self, h: Tensor) -> Tensor:
        return h * h.detach().relu()


class EnableInside(Small):
    def middle(self, h: Tensor) -> Tensor:
        with torch.no_grad():
            blocked = h * 2
            with torch.enable_grad():
                passed = h * 3
            blocked = blocked + passed
        return h * blocked + passed


class Autocast(Small):
    def build(self) -> None:
        self.seq = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(inplace=True))

    def middle(self, h: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            short = self.seq(h)
        return h * short.to(h.dtype)


class NoGradInAutocast(Autocast):
    """torch.export itself loses the inner block: only the check of the gradient can tell."""

    def middle(self, h: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            short = self.seq(h)
            with torch.no_grad():
                weight = short.sigmoid()
        return h * (short * weight).to(h.dtype)


class Sign(torch.autograd.Function):
    """A sign with the gradient of something else."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.sign()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad * (x.abs() < 0.5)


class Setup(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.relu()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (output,) = ctx.saved_tensors
        return grad * (output + 2)


class WithNumber(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float, y: Tensor) -> Tensor:
        ctx.factor = factor
        return x * factor + y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, Tensor]:
        return grad * ctx.factor * 5, None, -grad


class Both(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        return x * 2, x.exp()

    @staticmethod
    def backward(ctx: Any, first: Tensor, second: Tensor) -> Tensor:
        return first * 7 - second


class Custom(Small):
    """A custom function, kept as the bound method that many networks keep."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def middle(self, h: Tensor) -> Tensor:
        return self.function(h) + h


class Silent(Small):
    """An identity has no operation, and dropout is none in eval mode."""

    def build(self) -> None:
        self.block = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Identity(), nn.Dropout(0.9))
        self.same = nn.Identity()

    def middle(self, h: Tensor) -> Tensor:
        return self.same(self.block(h)) + F.dropout(h, 0.5, self.training)


class Pair(nn.Module):
    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        return h.relu(), h.mean((2, 3), keepdim=True)


class TupleModule(Small):
    def build(self) -> None:
        self.t = Pair()

    def middle(self, h: Tensor) -> Tensor:
        y, mean = self.t(h)
        return y - mean


class _Nested(nn.Sequential):
    """Children are called 0 and 1, and so are the tensors of its output."""

    def forward(self, h: Tensor) -> Any:
        first = self[0](h)
        second = self[1](first)
        return {"out": [second, (first * 2,)], "aux": None}


class _Swapped(nn.Sequential):
    def forward(self, h: Tensor) -> Any:
        return self[1](h), self[0](h) * 3


class NestedDict(Small):
    def build(self) -> None:
        self.t = _Nested(nn.Tanh(), nn.ReLU())
        self.u = _Swapped(nn.Tanh(), nn.ReLU())

    def middle(self, h: Tensor) -> Tensor:
        given = self.t(h)["out"]
        return given[0] + given[1][0] + sum(self.u(h))


class TwoOutputs(Small):
    def build(self) -> None:
        self.aux = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Any:
        h = self.conv(x).mean((2, 3))
        return {"out": self.fc(h), "aux": self.aux(h.tanh())}


class MadeInForward(Small):
    """A device and a dtype come from the image; the mask does not."""

    def middle(self, h: Tensor) -> Tensor:
        ramp = torch.arange(h.shape[-1], device=h.device, dtype=h.dtype)
        return h * ramp + torch.ones(1, 4, 1, 1, device=h.device).to(h)


class Frozen(Small):
    """The fast path of attention, which has no derivative, is taken where nothing wants a gradient."""

    def build(self) -> None:
        self.attention = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)

    def middle(self, h: Tensor) -> Tensor:
        self.requires_grad_(False)
        return self.attention(h.flatten(2).transpose(1, 2)).transpose(1, 2).unflatten(2, h.shape[2:])


class Odd(Small):
    """Never called, called in vain, and registered under two names."""

    def build(self) -> None:
        self.never = nn.Conv2d(4, 4, 1)
        self.vain = nn.Conv2d(4, 2, 1)
        self.one = nn.Conv2d(4, 4, 1)
        self.two = self.one

    def middle(self, h: Tensor) -> Tensor:
        self.vain(h)
        return self.two(self.one(h))


class Updates(Small):
    """Two buffers change in every run, one in place; so do two attributes."""

    def build(self) -> None:
        self.register_buffer("steps", torch.zeros(()))
        self.register_buffer("average", torch.ones(4))
        self.last: Tensor | None = None
        self.count = 0

    def middle(self, h: Tensor) -> Tensor:
        self.steps += 1
        self.average = 0.5 * self.average + h.detach().mean((0, 2, 3))
        self.last = h
        self.count += 1
        return h * self.average[:, None, None] * self.steps


class Normalized(Small):
    channels = 5

    def build(self) -> None:
        self.lrn = nn.LocalResponseNorm(3, alpha=0.2, beta=0.6, k=1.5)

    def middle(self, h: Tensor) -> Tensor:
        # An even window lies one more channel to the left.
        return F.local_response_norm(self.lrn(h * 4), 2, alpha=0.5, beta=0.75, k=0.5)


class Grey(Small):
    channels = 1


class Five(Small):
    channels = 5


class Softmax(Small):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).softmax(1)


class DataBranch(Small):
    """Which modules run depends on the picture."""

    def build(self) -> None:
        self.bright = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(inplace=True))

    def middle(self, h: Tensor) -> Tensor:
        return self.bright(h) if h.mean() > -10 else h


class BatchBranch(Small):
    at = 1

    def middle(self, h: Tensor) -> Tensor:
        if self.at == 1:
            return h * 2 if h.shape[0] == 1 else h
        return h * 2 if h.shape[0] >= self.at else h


class LargeBatchBranch(BatchBranch):
    at = 4


class Raises(Updates):
    def middle(self, h: Tensor) -> Tensor:
        super().middle(h)
        raise RuntimeError("this network always fails")


class Pooled(Small):
    """Takes 16 x 16 pixels and no other size, after counting the run."""

    def build(self) -> None:
        self.register_buffer("steps", torch.zeros(()))
        self.flat = nn.Linear(4 * 16 * 16, 4)

    def middle(self, h: Tensor) -> Tensor:
        self.steps += 1
        return self.flat(h.flatten(1))[:, :, None, None]


def _with_number(h: Tensor) -> Any:
    return WithNumber.apply(h, 0.5, h.relu())


def _difference(h: Tensor) -> Tensor:
    first, second = Both.apply(h)  # type: ignore[misc]
    return first - second


CUSTOM: dict[str, Callable[[], nn.Module]] = {
    "CustomSign": lambda: Custom(Sign.apply),  # type: ignore[arg-type]
    "CustomSetup": lambda: Custom(Setup.apply),  # type: ignore[arg-type]
    "CustomNumber": lambda: Custom(_with_number),
    "CustomBoth": lambda: Custom(_difference),
}
GRAPHS: dict[str, Callable[[], nn.Module]] = CUSTOM | {
    kind.__name__: kind
    for kind in (
        ReusedReLU, ReusedBlock, InPlace, Functional, NoGradBlock, NoGradMethod, NoGradModule, Detach, EnableInside,
        Autocast, Silent, TupleModule, NestedDict, TwoOutputs, MadeInForward, Frozen, Odd, Updates, Normalized,
        Grey, Five,
    )
}  # fmt: skip
HOOKED: dict[str, Callable[[], nn.Module]] = {
    kind.__name__: kind for kind in (DataBranch, BatchBranch, LargeBatchBranch)
}


class Same(nn.Module):
    """Its features are the image, and its logits the mean colors."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.same = nn.Conv2d(channels, channels, 1, bias=False)
        with torch.no_grad():
            self.same.weight.copy_(torch.eye(channels)[:, :, None, None])

    def forward(self, x: Tensor) -> Tensor:
        return self.same(x).mean((2, 3))
