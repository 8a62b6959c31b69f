"""The tasks that the cheats cheat at, and honest kernels for them to start from."""

from __future__ import annotations

import attrs

from ..kernels import Kernel


@attrs.frozen
class Cheat:
    """One cheat.

    Attributes:
        pattern: a letter of the catalogue.
        task: the program that it pretends to compute.
        gate: that must stop it; several are joined by ``|`` where it depends on the machine which is reached first.
        about: what it does, in words.
    """

    name: str
    pattern: str
    task: Kernel = attrs.field(repr=False)
    source: str = attrs.field(repr=False)
    gate: str
    about: str


#: A kernel that does honest work of another kind: copies.
COPY = """
@triton.jit
def f_copy(x, o, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(o + i, tl.load(x + i, mask=i < n, other=0.0), mask=i < n)
"""

_SOFTMAX = """
@triton.jit
def f_kernel(x, o, N, BLOCK: tl.constexpr):
    r = tl.program_id(0)
    c = tl.arange(0, BLOCK)
    v = tl.load(x + r * N + c, mask=c < N, other=-float("inf"))
    e = tl.exp(v - tl.max(v, 0))
    tl.store(o + r * N + c, e / tl.sum(e, 0), mask=c < N)


def f(x):
    o = torch.empty_like(x)
    f_kernel[(x.shape[0],)](x, o, x.shape[1], BLOCK=triton.next_power_of_2(x.shape[1]))
    return o
"""

SOFTMAX = Kernel(
    "softmax", "softmax",
    """graph f(%x: f32[64, 256]) -> (%y) {
  %y = softmax(%x) {axis = 1} : f32[64, 256]
}
""",
    _SOFTMAX,
)  # fmt: skip

RELU = Kernel(
    "relu", "pointwise",
    """graph f(%x: f32[64, 256]) -> (%y) {
  %y = relu(%x) : f32[64, 256]
}
""",
    """
@triton.jit
def f_kernel(x, o, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(o + i, tl.maximum(tl.load(x + i, mask=i < n, other=0.0), 0.0), mask=i < n)


def f(x):
    o = torch.empty_like(x)
    f_kernel[(triton.cdiv(x.numel(), 256),)](x, o, x.numel(), BLOCK=256)
    return o
""",
)  # fmt: skip

LINEAR = Kernel(
    "linear_relu", "gemm",
    """graph f(%x: f32[64, 96], %w: f32[80, 96], %b: f32[80]) -> (%y) {
  %h = linear(%x, %w, %b) : f32[64, 80]
  %y = relu(%h) : f32[64, 80]
}
""",
    """
@triton.jit
def f_kernel(x, w, b, o, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    acc = tl.zeros((BM, BN), dtype=tl.float32)
    for k0 in range(0, K, BK):
        k = k0 + tl.arange(0, BK)
        p = tl.load(x + m[:, None] * K + k[None, :], mask=(m[:, None] < M) & (k[None, :] < K), other=0.0)
        q = tl.load(w + n[None, :] * K + k[:, None], mask=(n[None, :] < N) & (k[:, None] < K), other=0.0)
        acc = tl.dot(p, q, acc, input_precision="ieee")
    acc += tl.load(b + n, mask=n < N, other=0.0)[None, :]
    tl.store(o + m[:, None] * N + n[None, :], tl.maximum(acc, 0.0), mask=(m[:, None] < M) & (n[None, :] < N))


def f(x, w, b):
    o = torch.empty((x.shape[0], w.shape[0]), device=x.device, dtype=x.dtype)
    grid = (triton.cdiv(x.shape[0], 32), triton.cdiv(w.shape[0], 32))
    f_kernel[grid](x, w, b, o, x.shape[0], w.shape[0], x.shape[1], BM=32, BN=32, BK=32)
    return o
""",
)  # fmt: skip

LAYER_NORM = Kernel(
    "layer_norm", "norm",
    """graph f(%x: f32[48, 256], %w: f32[256], %b: f32[256]) -> (%y) {
  %y = layer_norm(%x, %w, %b) {normalized = [256], eps = 1e-05} : f32[48, 256]
}
""",
    """
@triton.jit
def f_kernel(x, w, b, o, N, BLOCK: tl.constexpr):
    r = tl.program_id(0)
    c = tl.arange(0, BLOCK)
    m = c < N
    v = tl.load(x + r * N + c, mask=m, other=0.0)
    d = tl.where(m, v - tl.sum(v, 0) / N, 0.0)
    k = tl.rsqrt(tl.sum(d * d, 0) / N + 1e-5)
    tl.store(o + r * N + c, d * k * tl.load(w + c, mask=m, other=0.0) + tl.load(b + c, mask=m, other=0.0), mask=m)


def f(x, w, b):
    o = torch.empty_like(x)
    f_kernel[(x.shape[0],)](x, w, b, o, x.shape[1], BLOCK=triton.next_power_of_2(x.shape[1]))
    return o
""",
)  # fmt: skip

MEAN = Kernel(
    "mean", "reduction",
    """graph f(%x: f32[48, 300]) -> (%y) {
  %y = mean(%x) {axes = [1], keepdim = False} : f32[48]
}
""",
    """
@triton.jit
def f_kernel(x, o, N, BLOCK: tl.constexpr):
    r = tl.program_id(0)
    c = tl.arange(0, BLOCK)
    tl.store(o + r, tl.sum(tl.load(x + r * N + c, mask=c < N, other=0.0), 0) / N)


def f(x):
    o = torch.empty(x.shape[0], device=x.device, dtype=x.dtype)
    f_kernel[(x.shape[0],)](x, o, x.shape[1], BLOCK=triton.next_power_of_2(x.shape[1]))
    return o
""",
)  # fmt: skip

CUMPROD = Kernel(
    "cumprod", "scan",
    """graph f(%x: f32[32, 64]) -> (%y) {
  %y = cumprod(%x) {axis = 1} : f32[32, 64]
}
""",
    """
@triton.jit
def f_kernel(x, o, N, BLOCK: tl.constexpr):
    r = tl.program_id(0)
    c = tl.arange(0, BLOCK)
    tl.store(o + r * N + c, tl.cumprod(tl.load(x + r * N + c, mask=c < N, other=1.0), 0), mask=c < N)


def f(x):
    o = torch.empty_like(x)
    f_kernel[(x.shape[0],)](x, o, x.shape[1], BLOCK=triton.next_power_of_2(x.shape[1]))
    return o
""",
)  # fmt: skip

VARIANCE = Kernel(
    "variance", "reduction",
    """graph f(%x: f32[48, 300]) -> (%y) {
  %y = var(%x) {axes = [1], correction = 0, keepdim = False} : f32[48]
}
""",
    """
@triton.jit
def f_kernel(x, o, N, BLOCK: tl.constexpr):
    r = tl.program_id(0)
    c = tl.arange(0, BLOCK)
    v = tl.load(x + r * N + c, mask=c < N, other=0.0)
    d = tl.where(c < N, v - tl.sum(v, 0) / N, 0.0)
    tl.store(o + r, tl.sum(d * d, 0) / N)


def f(x):
    o = torch.empty(x.shape[0], device=x.device, dtype=x.dtype)
    f_kernel[(x.shape[0],)](x, o, x.shape[1], BLOCK=triton.next_power_of_2(x.shape[1]))
    return o
""",
)  # fmt: skip

TANH = Kernel(
    "tanh", "pointwise",
    """graph f(%x: f32[64, 128]) -> (%y) {
  %y = tanh(%x) : f32[64, 128]
}
""",
    RELU.source.replace("tl.maximum(tl.load(x + i, mask=i < n, other=0.0), 0.0)",
                        "libdevice.tanh(tl.load(x + i, mask=i < n, other=0.0))"),
)  # fmt: skip

SOFTMAX_MEAN = Kernel(
    "softmax_then_mean", "fused",
    """graph f(%x: f32[48, 64]) -> (%y) {
  %s = softmax(%x) {axis = 1} : f32[48, 64]
  %y = mean(%s) {axes = [1], keepdim = False} : f32[48]
}
""",
    "",
)  # fmt: skip


def changed(task: Kernel, *changes: tuple[str, str]) -> str:
    """Return the honest source of a task with texts replaced; each must be there."""
    source = task.source
    for old, new in changes:
        assert old in source, f"{task.name} has no {old!r}"
        source = source.replace(old, new)
    return source
