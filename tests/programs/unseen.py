"""Calls with the odd arguments that real code has: one small program for each corner of PyTorch's functions.

Programs are made and called in float64; ``FLOAT32`` names those that ask for their own dtypes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

r = torch.randn
Make = Callable[[], Any]

#: Name -> (what makes the module or returns the function, what makes its arguments).
UNSEEN: dict[str, tuple[Make, Make]] = {}
#: Imported and called in training mode.
TRAINING: set[str] = set()
#: Programs that convert between dtypes themselves.
FLOAT32: set[str] = set()
#: Programs with an operator that JAX has no meaning for.
NOT_IN_JAX: set[str] = set()


def program(args: Make, training: bool = False, float32: bool = False, jax: bool = True) -> Callable[[Any], Any]:
    """Add a class of modules, or a function, with what makes its arguments."""

    def put(made: Any) -> Any:
        name = made.__name__
        UNSEEN[name] = (made if isinstance(made, type) else lambda: made, args)
        for condition, names in ((training, TRAINING), (float32, FLOAT32), (not jax, NOT_IN_JAX)):
            if condition:
                names.add(name)
        return made

    return put


class Chain(nn.Module):
    """Layers in a row, made by ``layers``."""

    def layers(self) -> list[nn.Module]:
        return []

    def __init__(self) -> None:
        super().__init__()
        self.chain = nn.Sequential(*self.layers())

    def forward(self, x):
        return self.chain(x)


# -- convolutions, pools, images ------------------------------------------------------------------------------------------


@program(lambda: (r(2, 3, 9, 11),))
def pools(x):
    a = F.avg_pool2d(x, (3, 2), stride=2, padding=1, ceil_mode=True, count_include_pad=False)
    b = F.max_pool2d(x, 3, stride=(2, 3), padding=(1, 0), dilation=(1, 2), ceil_mode=True)
    values, places = F.max_pool2d(x, 2, return_indices=True)
    return a, b, F.avg_pool2d(x, 3, divisor_override=5), values, places, F.lp_pool2d(x.abs(), 2.0, 3, stride=2)


@program(lambda: (r(2, 3, 5, 2),))
def windows_of_padding_alone(x):
    values, places = F.max_pool2d(x, 2, stride=(1, 2), padding=(0, 1), dilation=4, ceil_mode=True, return_indices=True)
    return values, places


@program(lambda: (r(2, 4, 7, 7),))
class TransposedConvolutions(Chain):
    def layers(self):
        return [
            nn.ConvTranspose2d(
                4, 6, (3, 5), (2, 3), (1, 2), output_padding=(1, 2), groups=2, dilation=(2, 1), bias=False
            ),
            nn.ConvTranspose2d(6, 3, 2, stride=2),
        ]


@program(lambda: (r(2, 4, 7, 7),))
class TransposedToSize(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1)

    def forward(self, x):
        return self.up(x, output_size=[14, 14])


@program(lambda: (r(2, 4, 10, 9),))
class PaddingModes(Chain):
    def layers(self):
        return [
            nn.Conv2d(4, 4, (4, 3), padding="same", dilation=(1, 2)),
            nn.Conv2d(4, 4, 3, padding="valid", groups=4, bias=False),
            nn.Conv2d(4, 4, 3, padding=2, padding_mode="reflect"),
            nn.Conv2d(4, 4, 3, padding=(1, 2), padding_mode="circular"),
            nn.Conv2d(4, 4, (3, 5), padding="same", padding_mode="replicate"),
        ]


@program(lambda: (r(2, 4, 20),))
class Signals(Chain):
    def layers(self):
        return [
            nn.Conv1d(4, 8, 5, padding=2, padding_mode="circular", stride=2, dilation=2),
            nn.Conv1d(8, 8, 4, padding="same", padding_mode="reflect", groups=8),
            nn.ConvTranspose1d(8, 2, 4, 3, output_padding=1),
        ]


@program(lambda: (r(1, 2, 5, 6, 7),))
class Volumes(Chain):
    def layers(self):
        return [
            nn.Conv3d(2, 4, (3, 2, 1), padding=(1, 0, 2), stride=(1, 2, 1), groups=2),
            nn.MaxPool3d(2, ceil_mode=True),
            nn.ConvTranspose3d(4, 2, 3, stride=2, padding=1, output_padding=1, groups=2),
            nn.AvgPool3d((1, 2, 3), padding=(0, 1, 1), count_include_pad=False),
        ]


@program(lambda: (r(2, 3, 8, 8),))
class Layers(Chain):
    def layers(self):
        return [
            nn.Conv2d(3, 6, 3, bias=False), nn.GroupNorm(3, 6, affine=False), nn.Hardswish(), nn.AdaptiveAvgPool2d((None, 2)),
            nn.Flatten(1, -2), nn.LocalResponseNorm(3), nn.AdaptiveMaxPool1d(3), nn.Softmax(dim=1), nn.PReLU(36),
            nn.Unflatten(1, (6, 6)), nn.ChannelShuffle(3), nn.ZeroPad2d((1, -1, 0, 2)), nn.LogSoftmax(-1), nn.CELU(0.7),
            nn.Hardtanh(-0.5, 2), nn.Softplus(2, 3), nn.GLU(1), nn.Threshold(0.1, -2), nn.RReLU(), nn.Softmin(-1),
        ]  # fmt: skip


@program(lambda: (r(2, 4, 6, 6),), jax=False)
def resampled(x):
    grid = F.affine_grid(torch.eye(2, 3, dtype=x.dtype)[None].repeat(2, 1, 1), [2, 4, 3, 3], align_corners=False)
    return (
        F.interpolate(x, scale_factor=(1.5, 0.7), mode="nearest"),
        F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True),
        F.interpolate(x, size=(3, 9), mode="bicubic"),
        F.interpolate(x, size=7, mode="area"),
        F.interpolate(x, scale_factor=0.5, mode="bilinear", antialias=True),
        F.interpolate(x, size=(8, 9), mode="nearest-exact"),
        F.interpolate(x, scale_factor=1.7, mode="bilinear", recompute_scale_factor=True),
        F.grid_sample(x, grid, align_corners=False),
        F.channel_shuffle(x, 2),
    )


# -- elements, reductions, views ------------------------------------------------------------------------------------------


@program(lambda: (r(3, 4, 5),))
def reductions(x):
    return (
        x.sum((-1, 0), keepdim=True), x.mean(-2), x.amax((0, -1)), x.std(dim=(-1, -3), unbiased=False, keepdim=True),
        x.var(1, correction=2), x.argmax(-1, keepdim=True), x.argmin(), x.prod(-1), x.logsumexp((-1, -2)), x.norm(p=3, dim=-1),
        x.norm(), torch.linalg.norm(x, dim=(-2, -1)), torch.linalg.matrix_norm(x, ord=1), x.min(-1).values, x.median(1)[0],
        x.nansum(0), torch.std_mean(x, -1), x.count_nonzero(1), torch.aminmax(x, dim=-1), x.cumsum(-2),
        x.quantile(0.3, dim=-1), x.any(-1), x.all(),
    )  # fmt: skip


@program(lambda: (r(5, 6),))
def slices(x):
    return (
        x[-100:3, ::2], x[:, -2:100], x[..., None, :, 1:-1:2], x[10:], x[3:1], x[-1], x[..., -1], x[None, 2, :, None]
    )  # fmt: skip


@program(lambda: (torch.arange(12).reshape(3, 4), torch.tensor([True, False, True, True]), r(3, 4)), float32=True)
def promotion(i, b, x):
    return (
        i + 1.5, i / 2, i // 3, i % 3, i**2, b + b, b * i, b + 1.0, ~b, i & 3, i << 2, -b.int(), i.float() * torch.tensor(2),
        x + torch.tensor(1), torch.where(b, x, 0.0), torch.where(x > 0, 1, 0), i.mul(True), x.ge(0).sum(), (x > 0) ^ b,
        2 - x, 1 / (x.abs() + 1), 2**x, i.sum() / 3, b.sum(), 7 // (i + 1), 7 % (i + 1), torch.add(i, i, alpha=2),
        i.bool() | b, x.to(torch.int32), i.clamp(2, 5), i.clamp(min=1.5), x.double() + x, x.half() * 2,
    )  # fmt: skip


@program(lambda: (r(2, 3, 4), r(4, 5), r(2, 3, 4), r(3, 3)))
def einsums(a, b, c, m):
    return (
        torch.einsum("bij,jk->bik", a, b), torch.einsum("...i,...i", a, c), torch.einsum("bij,bij->", a, c),
        torch.einsum("ii->i", m), torch.einsum("ii", m), torch.einsum("i,j->ij", m[0], m[1]), torch.einsum("bij->bji", a),
        torch.einsum("bij,jk,bil->kl", a, b, c), torch.einsum("b...j,jk->...bk", a, b),
        torch.einsum(a, [0, 1, 2], b, [2, 3], [0, 3, 1]),
    )  # fmt: skip


@program(lambda: (r(4, 5, 6), torch.tensor([0, -1, 2]), torch.tensor([[1, -2], [0, 3]])))
def looked_up(x, i, j):
    return (
        x[i], x[:, i], x[i, :, i], x[..., j], x[j, None, 0], x[[0, 2], [1, -1]], x[i[:, None], j[0]], x[-1, i, ::2],
        x.index_select(-1, i.abs()), x.take_along_dim(j[None, :, :1].abs(), 1), x.take(j.abs()),
    )  # fmt: skip


@program(lambda: (r(4, 5), r(3, 5), torch.tensor([0, 2, 0]), r(4, 5) > 0))
def put_in(x, v, i, mask):
    y = x.clone().index_put_((i,), v, accumulate=True)
    z = x.clone()
    z[mask] = 0.5
    z[:, 1] += 2
    z[-1, ::2] = torch.tensor([1.0, 2.0, 3.0], dtype=x.dtype)
    u = x.clone()
    u[..., 0] = -u[..., 0]
    u[1:3, 2:4] *= 3
    u[i, [1, 2, 3]] = 7.0
    return y, z, u, x.masked_fill(mask, float("-inf"))


@program(lambda: (r(4, 5), r(3, 5), torch.randint(0, 4, (3, 5))))
def scattered(x, s, i):
    reduced = [
        x.scatter_reduce(0, i, s, reduce=kind, include_self=own)
        for kind in ("sum", "prod", "mean", "amax", "amin")
        for own in (True, False)
    ]
    return (
        *reduced, x.scatter_add(-2, i, s), x.scatter(0, i[:1], s[:1]), x.scatter(0, i[:1], 2.5), x.scatter(0, i, s, reduce="add"),
        x.scatter(0, i, 2.0, reduce="multiply"), x.index_add(1, i[0], s.new_ones(4, 5), alpha=2), x.index_fill(-1, i[0, :2], 3.0),
        x.index_reduce(0, i[:, 0], s, "amax"), torch.zeros(4, 5, dtype=x.dtype).scatter_(0, i[:1], 1),
    )  # fmt: skip


@program(lambda: (r(4, 6, 8),))
def views(x):
    return (
        x.as_strided((3, 4), (16, 1), 5), x.unfold(-1, 3, 2), F.unfold(x[None], (2, 3), padding=1, stride=2),
        F.fold(F.unfold(x[None], 2, stride=2), (6, 8), 2, stride=2), x.diagonal(1, -1, 0), torch.diag_embed(x[0]), x[0].diag(1),
        x.movedim(0, -1), x.swapaxes(-1, 0), x.rot90(1, (1, 2)), x.roll((1, -2), (0, -1)), x.roll(3), x.tile(2, 1),
        x.unflatten(-1, (2, -1)), x.ravel(), x.mT, torch.kron(x[0], x[1, :2]), x.tril(-1), x.flip(-1, 0),
    )  # fmt: skip


@program(lambda: (r(3, 8), r(3, 8)))
def sorted_and_counted(x, y):
    values, places = x.topk(3, dim=-1, largest=False)
    ordered, order = torch.sort(x, stable=True, dim=-1, descending=True)
    return (
        values, places, ordered, order, y.gather(-1, places), x.argsort(0), torch.searchsorted(torch.sort(x).values, y, right=True),
        x.kthvalue(2, -1), torch.cummax(x, -1), F.one_hot(places, 8), torch.cdist(x, y, p=1.0), torch.diff(x, n=2, prepend=y[:, :1]),
        torch.tensor_split(x, (2, 5), -1), torch.isin(places, torch.tensor([1, 2])), torch.trapezoid(x, dx=0.5),
    )  # fmt: skip


@program(lambda: (r(3, 3), torch.tensor([2, 0])))
def written_in_place(x, i):
    y = x.clone()
    y.add_(1).mul_(2).clamp_(max=3).relu_()
    y.unsqueeze_(0).squeeze_(0)
    F.leaky_relu(y, 0.1, inplace=True)
    y.masked_fill_(y > 2.5, 0)
    y[0].zero_()
    y.exp_().div_(2, rounding_mode="floor")
    y.copy_(y + 1).transpose_(0, 1)
    y.index_fill_(0, i, 1.0).sub_(1).neg_()
    return y.scatter_(0, i[None], 5.0)


@program(lambda: (r(4, 6), 3, 0.5, None, [r(2), r(2)], {"k": r(3)}))
def arguments(x, n, f, nothing, pair, named):
    return x[:n] * f + (0 if nothing is None else 1), sum(pair), named["k"] * n


@program(lambda: (r(4, 6),), jax=False)
def made_and_looped(x):
    h = torch.zeros_like(x[:, 0])
    steps = []
    for t in range(x.size(1)):
        h = torch.tanh(h * 0.5 + x[:, t])
        steps.append(h.clone().detach() if t % 2 else h)
    return (
        torch.stack(steps, 1), torch.full((2,), x.size(0) / 3), x.new_tensor([1, 2]), torch.linspace(0, 1, 5), torch.eye(3, 2),
        torch.arange(5, 0, -2), x.type(torch.float32), torch.finfo(x.dtype).eps + x, x.numel(), torch.empty_like(x).fill_(2),
        torch.tril_indices(3, 3), torch.meshgrid(x[0], x[1], indexing="xy"), torch.hstack([x, x]), torch.dstack([x, x]),
    )  # fmt: skip


# -- layers with state ----------------------------------------------------------------------------------------------------


@program(lambda: (r(5, 8),), jax=False)
class NormedWeights(Chain):
    def layers(self):
        return [
            parametrizations.weight_norm(nn.Linear(8, 6), dim=0),
            parametrizations.spectral_norm(nn.Linear(6, 4)),
            torch.nn.utils.weight_norm(nn.Linear(4, 3), dim=None),
            parametrizations.orthogonal(nn.Linear(3, 3)),
        ]


@program(lambda: (r(5, 8),), training=True)
class SpectralNorms(Chain):
    def layers(self):
        return [parametrizations.spectral_norm(nn.Linear(8, 4)), torch.nn.utils.spectral_norm(nn.Linear(4, 4))]


@program(lambda: (r(4, 3, 5, 5),), training=True)
class TrackedNorms(Chain):
    def layers(self):
        return [
            nn.BatchNorm2d(3, momentum=None), nn.BatchNorm2d(3, affine=False, momentum=0.3),
            nn.BatchNorm2d(3, track_running_stats=False), nn.InstanceNorm2d(3, affine=True, track_running_stats=True),
        ]  # fmt: skip


@program(lambda: (r(4, 6),), training=True)
class OwnBuffers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.register_buffer("average", torch.zeros(6))
        self.register_buffer("queue", torch.zeros(8, 6))

    def forward(self, x):
        self.steps += 1
        self.average.mul_(0.9).add_(x.mean(0), alpha=0.1)
        self.queue = torch.roll(self.queue, 4, 0)
        self.queue[:4] = x
        return x - self.average, self.queue.mean(0) * self.steps


@program(lambda: (torch.tensor([1, 2, 1]),))
class BoundedEmbeddings(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Embedding(6, 4, max_norm=1.0, norm_type=3.0, padding_idx=1)
        self.bag = nn.EmbeddingBag(6, 4, max_norm=0.5, mode="sum", padding_idx=2)
        self.mean = nn.EmbeddingBag(6, 4, mode="mean", padding_idx=-1)

    def forward(self, x):
        twice = self.one(x) + self.one(x + 1) + self.one.weight[:3]
        return twice, self.bag(x[None]), self.mean(x, torch.tensor([0, 2]))


@program(lambda: (torch.tensor([[1, 2, 4], [0, 3, 2]]), torch.tensor([0, 2]), torch.tensor([1, 2, 4, 5])))
class Bags(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.largest = nn.EmbeddingBag(10, 4, mode="max", padding_idx=4)
        self.total = nn.EmbeddingBag(10, 4, mode="sum")

    def forward(self, x, offsets, flat):
        return self.largest(x), self.total(
            flat, offsets, per_sample_weights=torch.full((4,), 2.0, dtype=self.total.weight.dtype)
        )


@program(lambda: (r(3, 7, 5),), jax=False)
class RecurrentLayers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(5, 6, 2, bidirectional=True, proj_size=3, batch_first=True)
        self.gru = nn.GRU(6, 4, bias=False, bidirectional=True)
        self.rnn = nn.RNN(8, 4, nonlinearity="relu", num_layers=2)

    def forward(self, x):
        y, (h, c) = self.lstm(x)
        z, g = self.gru(y)
        w, k = self.rnn(z)
        return w, k, h, c, g


@program(lambda: (r(3, 5, 16), torch.arange(5) > torch.tensor([[2], [4], [1]])))
class Attentions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.MultiheadAttention(16, 4, batch_first=True, add_bias_kv=True, add_zero_attn=True)
        self.second = nn.MultiheadAttention(16, 2, kdim=16, vdim=16, bias=False, dropout=0.1)

    def forward(self, x, padded):
        y, weights = self.first(x, x, x, key_padding_mask=padded, average_attn_weights=False)
        causal = nn.Transformer.generate_square_subsequent_mask(3, dtype=x.dtype)
        return self.second(y, y, y, attn_mask=causal, need_weights=False)[0], weights


@program(lambda: (r(2, 8, 5, 4), r(2, 2, 7, 4), r(2, 2, 7, 4), r(2, 1, 5, 7) > -0.5, r(5, 7)))
def attended(q, k, v, mask, bias):
    attend = F.scaled_dot_product_attention
    return (
        attend(q, k, v, enable_gqa=True), attend(q, k, v, attn_mask=mask, enable_gqa=True, scale=0.3),
        attend(q[:, :2], k, v, attn_mask=bias), attend(q[:, :2], k, v, is_causal=True), attend(q[0, 0], k[0, 0], v[0, 0]),
        attend(q[0, :2], k[0], v[0, ..., :3], dropout_p=0.0),
    )  # fmt: skip


@program(lambda: (r(3, 5, 16), r(3, 4, 16)))
class WholeTransformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Transformer(16, 4, 2, 1, 32, batch_first=True, norm_first=True, activation="gelu")

    def forward(self, source, target):
        mask = self.net.generate_square_subsequent_mask(4, dtype=source.dtype)
        return self.net(source, target, tgt_mask=mask, tgt_is_causal=True)


@program(lambda: (r(3, 5, 16), torch.arange(5) > torch.tensor([[2], [4], [1]])))
class PaddedEncoder(nn.Module):
    """What PyTorch leaves at padded places depends on its fast path, so they are masked."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 2, 24, activation=F.relu, layer_norm_eps=1e-3, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(16))

    def forward(self, x, padded):
        return self.encoder(x, src_key_padding_mask=padded).masked_fill(padded[..., None], 0)


# -- regions, transforms, complex numbers, losses ---------------------------------------------------------------------------


@program(lambda: (r(4, 6),), float32=True)
class MixedPrecision(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lin, self.norm = nn.Linear(6, 6), nn.LayerNorm(6)

    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = self.lin(x)
            with torch.autocast("cpu", enabled=False):
                z = self.lin(x)
            return y, y.softmax(-1), z, self.norm(y)


@program(lambda: (r(4, 6),))
class Checkpointed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x):
        return checkpoint(lambda v: torch.relu(self.a(v)), x, use_reentrant=False) + checkpoint(
            self.b, x, use_reentrant=True
        )


@program(lambda: (r(4, 6), r(6, 3)))
def mapped(x, w):
    nested = torch.vmap(torch.vmap(torch.mul, in_dims=(0, None)), in_dims=(None, 0))
    return (
        torch.vmap(lambda row: torch.tanh(row @ w).softmax(-1) * row.max())(x), nested(x, x), torch.vmap(torch.dot)(x, x),
        torch.vmap(lambda m, i: m[i], in_dims=(0, None))(x, torch.tensor([1, -1])), torch.vmap(lambda v: F.layer_norm(v, (6,)))(x),
    )  # fmt: skip


@program(lambda: (r(4, 3), r(3)))
def derived(x, w):
    def f(v):
        return torch.sin(v) * w + (v**3).sum()

    return (
        torch.func.jacrev(f)(x[0]), torch.func.jacfwd(f)(x[0]), torch.func.jvp(f, (x[0],), (w,))[1],
        torch.vmap(torch.func.grad(lambda v: (v * w).tanh().sum()))(x), torch.func.hessian(lambda v: (v**4).sum())(w),
    )  # fmt: skip


@program(lambda: (r(4, 6),))
class MappedModule(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(6, 3)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls.add_(1)
        self.calls = self.calls * 2
        gradient = torch.func.grad(lambda v: (self.lin(v) ** 2).sum())(x[0])
        return {"y": torch.vmap(self.lin)(x), "gradient": gradient, "calls": self.calls, "nothing": None, "number": 1.5}


@program(lambda: (r(2, 6, 4, 8),))
class Rotary(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        angle = torch.outer(torch.arange(6.0), 1 / 100 ** (torch.arange(0, 8, 2) / 8))
        self.register_buffer("turns", torch.view_as_real(torch.polar(torch.ones_like(angle), angle)))

    def forward(self, x):
        c = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))
        turn = torch.view_as_complex(self.turns)[None, :, None]
        return torch.view_as_real(c * turn).flatten(3), (c * turn.conj()).real, c.abs(), c.angle()


@program(lambda: (r(2, 6, 8),), jax=False)
def spectra(x):
    f, g = torch.fft.rfft(x, norm="ortho"), torch.fft.fft2(x, dim=(-2, -1))
    return (
        torch.fft.irfft(f * 2, n=8, norm="ortho"), g.real, torch.fft.fftshift(torch.fft.ifft(x, n=10).imag, -1),
        torch.fft.irfft2(torch.fft.rfft2(x), s=(6, 8)), torch.fft.fftfreq(8, 0.5), torch.fft.rfftfreq(7, 0.1),
        torch.stft(x[0].flatten(), 16, 8, window=torch.hann_window(16, dtype=x.dtype), return_complex=True).abs(),
    )  # fmt: skip


@program(lambda: (r(4, 5), torch.tensor([1, 0, -100, 4]), torch.rand(4, 5), r(4, 5)))
def losses(x, t, p, y):
    sign = torch.sign(p - 0.5)
    return (
        F.cross_entropy(x, t, label_smoothing=0.1, weight=torch.arange(1.0, 6.0, dtype=x.dtype)),
        F.cross_entropy(x, p, reduction="sum"), F.nll_loss(x.log_softmax(-1), t, reduction="none"),
        F.binary_cross_entropy_with_logits(x, p, pos_weight=torch.full((5,), 2.0, dtype=x.dtype)),
        F.kl_div(x.log_softmax(-1), y.log_softmax(-1), log_target=True, reduction="batchmean"), F.huber_loss(x, y, delta=0.7),
        F.smooth_l1_loss(x, y, beta=0.5), F.cosine_embedding_loss(x, y, torch.tensor([1, -1, 1, -1])), F.poisson_nll_loss(x, p, full=True),
        F.margin_ranking_loss(x, y, sign, margin=0.1), F.hinge_embedding_loss(x, sign), F.soft_margin_loss(x, sign),
        F.multilabel_soft_margin_loss(x, p.round()), F.multi_margin_loss(x, t.clamp(0)), F.pairwise_distance(x, y, p=1, keepdim=True),
        F.triplet_margin_with_distance_loss(x, y, p, swap=True),
    )  # fmt: skip


@program(lambda: (r(4, 5),), jax=False)
def distances(x):
    return F.pdist(x), F.pdist(x, 1.5), torch.cdist(x, x[:2], p=3.0)


@program(lambda: (r(3, 3), r(2, 3, 3)), jax=False)
def matrices(a, b):
    s = a @ a.T + torch.eye(3, dtype=a.dtype)
    return (
        torch.linalg.cholesky(s), torch.linalg.solve(s, b), torch.linalg.det(b), torch.linalg.eigvalsh(s), torch.matrix_power(a, 3),
        torch.linalg.multi_dot([a, a, s]), torch.trace(a), torch.linalg.vecdot(b, b), torch.cross(a, b[0], dim=1),
        torch.block_diag(a, b[0]), torch.vander(a[0]), torch.linalg.slogdet(s), torch.addr(a, a[0], a[1]),
        torch.tensordot(b, a, dims=([2], [0])), torch.linalg.matrix_rank(s),
    )  # fmt: skip


@program(lambda: (r(3, 4),))
class Structured(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale, self.lin = 2.0, nn.Linear(4, 4, bias=False)

    def forward(self, x, *, flag=True, mode: str = "x"):
        y = self.lin(x) * self.scale
        return {"a": (y, [None, x.shape[0]]), "pair": torch.sort(y, -1), "ordered": OrderedDict(z=y), mode: flag}
