"""Small programs in the styles that people bring: one row each, with what makes it worth a row."""

from __future__ import annotations

import math
from collections import namedtuple
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import torch
import torch.nn.functional as F
from torch import nn

Pair = namedtuple("Pair", ["first", "second"])


@attrs.frozen
class Program:
    """A program and one call of it.

    Attributes:
        make: builds the module (or returns the function).
        args: makes the positional arguments.
        kwargs: keyword arguments.
        training: the mode to import in.
        dynamic: as for ``import_module``.
        opaque: ATen targets that must be left to PyTorch; everything else must be an operator.
        operators: operators that must be in the graph.
        tolerance: relative and absolute, for what PyTorch sums in another order; 0 means bitwise.
    """

    make: Callable[[], Any]
    args: Callable[[], tuple[Any, ...]]
    kwargs: Mapping[str, Any] = attrs.field(factory=dict)
    training: bool = False
    dynamic: Mapping[str, Any] | None = None
    opaque: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()
    tolerance: float = 0.0


def randn(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape).to(dtype)


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Dropout(0.1), nn.Linear(16, 4, bias=False))

    def forward(self, x):
        return torch.softmax(self.net(x), dim=-1)


class ConvNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, padding="same", groups=4)
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(8, 5)

    def forward(self, x):
        x = self.pool(F.relu(self.bn(self.conv1(x)), inplace=True))
        x = F.silu(self.conv2(x)) + x
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Attention(nn.Module):
    def __init__(self, causal: bool = True) -> None:
        super().__init__()
        self.qkv, self.out, self.causal = nn.Linear(16, 48), nn.Linear(16, 16), causal

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, 4, c // 4).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.out(y.transpose(1, 2).reshape(b, t, c))


class ManualAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", torch.tril(torch.ones(8, 8)).bool(), persistent=False)

    def forward(self, q, k, v):
        t = q.size(-2)
        score = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))
        score = score.masked_fill(~self.mask[:t, :t], float("-inf"))
        return F.softmax(score, dim=-1, dtype=torch.float32).to(v.dtype) @ v


class RmsNorm(nn.Module):
    def __init__(self, n: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(n) + 0.5)

    def forward(self, x):
        h = x.float()
        h = h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + 1e-6)
        return self.weight * h.to(x.dtype)


class SwiGlu(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = RmsNorm(16)
        self.gate, self.up, self.down = (nn.Linear(a, b, bias=False) for a, b in ((16, 24), (16, 24), (24, 16)))

    def forward(self, x):
        h = self.norm(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


def rotate_half(x):
    a, b = x.chunk(2, dim=-1)
    return torch.cat((-b, a), dim=-1)


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(16)
        self.q, self.k, self.v = nn.Linear(16, 16), nn.Linear(16, 8), nn.Linear(16, 8)
        self.out, self.mlp = nn.Linear(16, 16, bias=False), SwiGlu()
        self.register_buffer("frequency", 1.0 / 10000 ** (torch.arange(0, 4, 2).float() / 4), persistent=False)

    def forward(self, x, positions):
        b, t, _ = x.shape
        h = self.norm(x)
        q = self.q(h).view(b, t, 4, 4).transpose(1, 2)
        k = self.k(h).view(b, t, 2, 4).transpose(1, 2)
        v = self.v(h).view(b, t, 2, 4).transpose(1, 2)
        angle = positions[..., None].float() * self.frequency
        angle = torch.cat((angle, angle), dim=-1)[:, None]
        cos, sin = angle.cos(), angle.sin()
        q, k = q * cos + rotate_half(q) * sin, k * cos + rotate_half(k) * sin
        k, v = (z[:, :, None].expand(b, 2, 2, t, 4).reshape(b, 4, t, 4) for z in (k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.mlp(x + self.out(y.transpose(1, 2).contiguous().view(b, t, 16)))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(6, 5, num_layers=2, batch_first=True), nn.Linear(5, 3)

    def forward(self, x):
        y, (h, _) = self.rnn(x)
        return self.head(y[:, -1]), h


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(11, 6), nn.Linear(6, 11, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens):
        return self.head(torch.tanh(self.embed(tokens)))


class Counter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("running", torch.zeros(4))

    def forward(self, x):
        self.calls += 1
        self.running.mul_(0.9).add_(x.mean(0), alpha=0.1)
        return x - self.running


class Constants(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale, self.table = torch.tensor(2.5), torch.tensor([1.0, -2.0, 3.0])

    def forward(self, x):
        y = x * self.scale + torch.tensor(0.5)
        return y.half() * torch.tensor([2, 3, 4]) + self.table


class Nested(nn.Module):
    def forward(self, batch, scale, *, mask=None, flag=True):
        x = batch["x"] * scale
        if flag:
            x = x.masked_fill(mask, 0.0)
        return {"x": x, "pair": Pair(x + 1, (batch["ys"][0], None)), "n": x.shape[0], "list": [x.sum()]}


class Views(nn.Module):
    def forward(self, x):
        a, b, c = x.split([2, 3, 3], dim=1)
        y = torch.stack((a, b[:, :2], c[:, -2:]), dim=0).flatten(1)
        first, *rest = x.unbind(1)
        z = torch.roll(x.flip(1)[:, ::2], 1, 0).unsqueeze(-1).squeeze().t()
        g = torch.meshgrid(torch.arange(2), torch.arange(3), indexing="ij")
        return y, first + rest[-1], z, F.pad(x, (1, 2)), x.repeat(2, 1), x.unfold(1, 4, 2), g[0] + g[1], x[..., None, 0]


class InPlace(nn.Module):
    def forward(self, x):
        y = x.clone()
        y[:, 0] = 1.0
        y[1:] += x[:-1]
        y.clamp_(min=-1).mul_(2)
        y.view(-1)[0] = 0.25
        return y.contiguous().detach()


class Integers(nn.Module):
    def forward(self, i, b):
        j = (i // 3) % 4 - (i >> 1)
        k = torch.where(b & (i > 2), i, -i) ^ 5
        return (
            j,
            k,
            b.sum(),
            (i * 0.5),
            i / 2,
            i.float().round().to(torch.int32),
            ~b | (i == 3),
            i.abs().max(),
            b.any(-1),
        )


class Promotion(nn.Module):
    def forward(self, h, f, i, s):
        return (
            h + f,
            h * 2.1,
            i + 1.5,
            i * f,
            h + s,
            torch.where(i > 0, f, h),
            i + True,
            torch.cat([h, f], 1),
            1 - h,
            2**f,
        )


class Reductions(nn.Module):
    def forward(self, x):
        top, where = x.max(dim=1)
        return (
            x.sum(), x.mean((0, 2), keepdim=True), x.var(1), x.std(), x.amax(-1), x.argmin(1), top, where, x.norm(),
            x.sum(dtype=torch.float64), x.prod(1), torch.logsumexp(x, 1), x.cumsum(1), (x > 0).all(), x.argmax(),
            F.normalize(x, dim=1), torch.var_mean(x, 1, correction=0), x.min(),
        )  # fmt: skip


class Losses(nn.Module):
    def forward(self, logits, labels, target):
        return (
            F.cross_entropy(logits, labels), F.mse_loss(logits, target), F.smooth_l1_loss(logits, target),
            F.kl_div(F.log_softmax(logits, 1), F.softmax(target, 1), reduction="batchmean"),
            F.binary_cross_entropy_with_logits(logits, (target > 0).float()), F.l1_loss(logits, target),
            F.nll_loss(F.log_softmax(logits, 1), labels, reduction="sum"), F.hinge_embedding_loss(logits, target.sign()),
            F.cosine_similarity(logits, target), F.huber_loss(logits, target, delta=0.7),
        )  # fmt: skip


class Activations(nn.Module):
    def forward(self, x):
        fs = (
            F.relu6, F.elu, F.selu, F.celu, F.silu, F.mish, F.hardtanh, F.hardswish, F.hardsigmoid, F.softplus, F.softsign,
            F.logsigmoid, F.tanhshrink, F.softshrink, F.hardshrink, F.leaky_relu, torch.sigmoid, torch.erf, F.glu,
        )  # fmt: skip
        return [f(x) for f in fs] + [F.gelu(x, approximate="tanh")]


class Norms(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.group = nn.LayerNorm([4, 4]), nn.GroupNorm(2, 4)
        self.instance, self.batch = nn.InstanceNorm2d(4, affine=True), nn.BatchNorm2d(4, affine=False)
        self.batch.running_mean.uniform_()
        self.batch.running_var.uniform_(0.5, 1.5)

    def forward(self, x):
        return self.layer(x), self.group(x), self.instance(x), self.batch(x)


class Pools(nn.Module):
    def forward(self, x):
        return (
            F.max_pool2d(x, 3, stride=2, padding=1), F.avg_pool2d(x, 2), F.adaptive_avg_pool2d(x, (2, 2)),
            F.max_pool2d(x, 2, ceil_mode=True), F.interpolate(x, scale_factor=2, mode="nearest"),
            F.avg_pool2d(x, 3, padding=1, count_include_pad=False), F.pixel_shuffle(x, 2),
        )  # fmt: skip


class Convolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.three = nn.Conv1d(4, 6, 3, dilation=2, padding="same"), nn.Conv3d(2, 4, 2)
        self.transposed = nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2)
        self.even = nn.Conv2d(4, 4, 2, padding="same")

    def forward(self, x1, x2, x3):
        return self.one(x1), self.transposed(x2), self.three(x3), self.even(x2)


class Products(nn.Module):
    def forward(self, a, b, v):
        return (
            a @ b, torch.einsum("bij,bjk->ik", a, b), torch.einsum("bij,j->bi", a, v), torch.bmm(a, b), a @ v,
            torch.addmm(v, a[0], a[1].t()[: a.shape[-1]].matmul(a[1]), beta=0.5, alpha=2.0), torch.outer(v, v), v.dot(v),
            torch.einsum("...j,kj->...k", a, a[0]), torch.baddbmm(a @ b, a, b), torch.tensordot(a, b, dims=([2], [1])),
        )  # fmt: skip


class Lookups(nn.Module):
    def forward(self, x, i):
        return (
            x.gather(1, i), x.index_select(0, i[0]), x[i[0]], F.one_hot(i, 5), x.take_along_dim(i, 1), x[:, i[0]],
            torch.zeros_like(x).scatter_add(1, i, x), torch.topk(x, 2).values, x.sort(1).indices,
        )  # fmt: skip


class Dropping(nn.Module):
    def forward(self, x):
        return F.dropout(x, 0.5, self.training) + torch.rand_like(x)


class Dynamic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x, y):
        b, t, c = x.shape
        h = self.fc(x).view(b, t * 2, c // 2).transpose(1, 2)
        pad = torch.zeros(b, 1, 2 * t, dtype=x.dtype, device=x.device)
        return torch.cat([h, pad], 1).mean(-1), torch.arange(t, device=x.device) + b, x + y, x[:, 1:].reshape(-1, c), t


class ComplexRotary(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        angle = torch.outer(torch.arange(6).float(), 1 / 10000 ** (torch.arange(0, 4, 2).float() / 4))
        self.register_buffer("turns", torch.polar(torch.ones_like(angle), angle), persistent=False)

    def forward(self, x):
        pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
        return torch.view_as_real(pairs * self.turns.view(1, 6, 1, 2)).flatten(3).type_as(x)


class LongConvolution(nn.Module):
    def forward(self, x, kernel):
        n = 2 * x.shape[-1]
        product = torch.fft.rfft(x, n=n) * torch.fft.rfft(kernel, n=n)
        return torch.fft.irfft(product, n=n)[..., : x.shape[-1]]


PROGRAMS: dict[str, Program] = {
    "mlp": Program(Mlp, lambda: (randn(3, 8),), operators=("linear", "gelu", "softmax")),
    "function": Program(lambda: lambda x, w: F.gelu(x @ w).sum(-1), lambda: (randn(4, 8), randn(8, 8))),
    "conv net": Program(ConvNet, lambda: (randn(2, 3, 16, 16),), operators=("conv2d", "batch_norm", "relu"), tolerance=1e-5),
    "conv net, training": Program(
        ConvNet, lambda: (randn(2, 3, 16, 16),), training=True, operators=("batch_norm_training",), tolerance=1e-5
    ),
    "attention": Program(Attention, lambda: (randn(2, 6, 16),), operators=("scaled_dot_product_attention",), tolerance=1e-5),
    "manual attention": Program(ManualAttention, lambda: tuple(randn(2, 5, 4, dtype=torch.bfloat16) for _ in "qkv")),
    "swiglu": Program(lambda: SwiGlu().to(torch.bfloat16), lambda: (randn(2, 3, 16, dtype=torch.bfloat16),)),
    "decoder": Program(Decoder, lambda: (randn(2, 6, 16), torch.arange(6)[None].repeat(2, 1)), tolerance=1e-5),
    "lstm": Program(Recurrent, lambda: (randn(2, 4, 6),), operators=("lstm",)),
    "tied": Program(Tied, lambda: (torch.randint(0, 11, (2, 3)),), operators=("embedding",)),
    "buffers": Program(Counter, lambda: (randn(3, 4),)),
    "constants": Program(Constants, lambda: (randn(2, 3),)),
    "nested": Program(
        Nested, lambda: ({"x": randn(2, 3), "ys": [randn(2)]}, 3), {"mask": torch.eye(2, 3).bool(), "flag": True}
    ),
    "views": Program(Views, lambda: (randn(3, 8),)),
    "in place": Program(InPlace, lambda: (randn(4, 3),)),
    "integers": Program(Integers, lambda: (torch.arange(12).view(3, 4), torch.rand(3, 4) < 0.5)),
    "promotion": Program(
        Promotion,
        lambda: (randn(2, 3, dtype=torch.float16), randn(2, 3), torch.tensor([[0, 1, 2], [3, -4, 5]]), torch.tensor(3.0)),
    ),
    "reductions": Program(Reductions, lambda: (randn(3, 4, 5),), tolerance=1e-5),
    "losses": Program(Losses, lambda: (randn(4, 6), torch.randint(0, 6, (4,)), randn(4, 6)), tolerance=1e-5),
    "activations": Program(Activations, lambda: (randn(3, 8) * 3,)),
    "norms": Program(Norms, lambda: (randn(2, 4, 4, 4),), tolerance=1e-5),
    "pools": Program(Pools, lambda: (randn(2, 4, 8, 8),), tolerance=1e-6),
    "convolutions": Program(
        Convolutions, lambda: (randn(2, 4, 9), randn(2, 4, 5, 5), randn(1, 2, 4, 4, 4)), tolerance=1e-5
    ),
    "products": Program(Products, lambda: (randn(2, 3, 4), randn(2, 4, 5), randn(4)), tolerance=1e-5),
    "lookups": Program(
        Lookups, lambda: (randn(4, 4), torch.randint(0, 4, (4, 4))),
        operators=("scatter_add", "topk", "sort"),
    ),
    "random": Program(
        Dropping, lambda: (randn(4, 5),), training=True, operators=("dropout", "rand_like")
    ),
    "complex rotary": Program(ComplexRotary, lambda: (randn(2, 6, 3, 4),), tolerance=1e-6),
    "long convolution": Program(
        LongConvolution, lambda: (randn(2, 3, 8), randn(3, 8)),
        operators=("fft_r2c", "fft_c2r"), tolerance=1e-6,
    ),
    "dynamic": Program(
        Dynamic, lambda: (randn(3, 5, 8), randn(3, 5, 8)),
        dynamic={"x": {0: ("B", 1, 64), 1: ("T", 3, 32)}, "y": {0: ("B", 1, 64), 1: ("T", 3, 32)}}, tolerance=1e-6,
    ),
}  # fmt: skip
