"""Right kernels: softmax and normalisations, by one algorithm and by another."""

from __future__ import annotations

from ..kernels import Kernel

_SOFTMAX = """graph f(%x: f32[48, 300]) -> (%y) {
  %y = softmax(%x) {axis = 1} : f32[48, 300]
}
"""
_LAYER_NORM = """graph f(%x: f32[48, 384], %w: f32[384], %b: f32[384]) -> (%y) {
  %y = layer_norm(%x, %w, %b) {normalized = [384], eps = 1e-05} : f32[48, 384]
}
"""

NORMS = (
    Kernel(
        "softmax_exp2_rows", "softmax", _SOFTMAX,
        """
@triton.jit
def f_kernel(x, o, M, N, BM: tl.constexpr, BN: tl.constexpr):
    r = tl.program_id(0) * BM + tl.arange(0, BM)[:, None]
    c = tl.arange(0, BN)[None, :]
    m = (r < M) & (c < N)
    v = tl.load(x + r * N + c, mask=m, other=-float("inf")) * 1.4426950408889634
    top = tl.max(v, axis=1)[:, None]
    e = tl.exp2(v - tl.where(top == -float("inf"), 0.0, top))
    tl.store(o + r * N + c, e / tl.sum(e, axis=1)[:, None], mask=m)


def f(x):
    o = torch.empty_like(x)
    M, N = x.shape
    f_kernel[(triton.cdiv(M, 4),)](x, o, M, N, BM=4, BN=triton.next_power_of_2(N), num_warps=8)
    return o
""",
        mutate=True,
    ),
    Kernel(
        "softmax_three_kernels", "softmax", _SOFTMAX,
        """
@triton.jit
def f_max(x, p, N, BLOCK: tl.constexpr):
    r = tl.program_id(0)
    c = tl.arange(0, BLOCK)
    tl.store(p + r, tl.max(tl.load(x + r * N + c, mask=c < N, other=-float("inf")), 0))


@triton.jit
def f_sum(x, p, s, N, BLOCK: tl.constexpr):
    r = tl.program_id(0)
    c = tl.arange(0, BLOCK)
    v = tl.load(x + r * N + c, mask=c < N, other=-float("inf"))
    tl.store(s + r, tl.sum(tl.exp(v - tl.load(p + r)), 0))


@triton.jit
def f_norm(x, p, s, o, n, N, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    m = i < n
    e = tl.exp(tl.load(x + i, mask=m, other=0.0) - tl.load(p + i // N, mask=m, other=0.0))
    tl.store(o + i, e / tl.load(s + i // N, mask=m, other=1.0), mask=m)


def f(x):
    M, N = x.shape
    p = torch.empty(M, device=x.device, dtype=torch.float32)
    s = torch.empty_like(p)
    o = torch.empty_like(x)
    f_max[(M,)](x, p, N, BLOCK=triton.next_power_of_2(N))
    f_sum[(M,)](x, p, s, N, BLOCK=triton.next_power_of_2(N))
    f_norm[(triton.cdiv(x.numel(), 256),)](x, p, s, o, x.numel(), N, BLOCK=256)
    return o
""",
        mutate=True,
    ),
    Kernel(
        "softmax_columns", "softmax",
        """graph f(%x: f32[100, 60]) -> (%y) {
  %y = softmax(%x) {axis = 0} : f32[100, 60]
}
""",
        """
@triton.jit
def f_kernel(x, o, M, N, BM: tl.constexpr, BN: tl.constexpr):
    c = tl.program_id(0) * BN + tl.arange(0, BN)[None, :]
    r = tl.arange(0, BM)[:, None]
    m = (r < M) & (c < N)
    v = tl.load(x + r * N + c, mask=m, other=-1e30)
    e = tl.exp(v - tl.max(v, axis=0)[None, :])
    e = tl.where(r < M, e, 0.0)
    tl.store(o + r * N + c, e / tl.sum(e, axis=0)[None, :], mask=m)


def f(x):
    o = torch.empty_like(x)
    M, N = x.shape
    f_kernel[(triton.cdiv(N, 16),)](x, o, M, N, BM=triton.next_power_of_2(M), BN=16)
    return o
""",
        mutate=True,
    ),
    Kernel(
        "log_softmax", "softmax",
        """graph f(%x: f32[48, 300]) -> (%y) {
  %y = log_softmax(%x) {axis = 1} : f32[48, 300]
}
""",
        """
@triton.jit
def f_kernel(x, o, N, BLOCK: tl.constexpr):
    r = tl.program_id(0)
    c = tl.arange(0, BLOCK)
    v = tl.load(x + r * N + c, mask=c < N, other=-float("inf"))
    v -= tl.max(v, 0)
    tl.store(o + r * N + c, v - tl.log(tl.sum(tl.exp(v), 0)), mask=c < N)


def f(x):
    o = torch.empty_like(x)
    f_kernel[(x.shape[0],)](x, o, x.shape[1], BLOCK=triton.next_power_of_2(x.shape[1]))
    return o
""",
        mutate=True,
    ),
    Kernel(
        "softmax_scaled_fused", "fused",
        """graph f(%x: f32[40, 128], %k: f32[40, 128]) -> (%y) {
  %s = mul(%x, 0.125) : f32[40, 128]
  %a = add(%s, %k) : f32[40, 128]
  %y = softmax(%a) {axis = 1} : f32[40, 128]
}
""",
        """
@triton.jit
def f_kernel(x, k, o, N, BLOCK: tl.constexpr):
    r = tl.program_id(0)
    c = tl.arange(0, BLOCK)
    m = c < N
    v = tl.load(x + r * N + c, mask=m, other=0.0) * 0.125 + tl.load(k + r * N + c, mask=m, other=0.0)
    v = tl.where(m, v, -float("inf"))
    e = tl.exp(v - tl.max(v, 0))
    tl.store(o + r * N + c, e / tl.sum(e, 0), mask=m)


def f(x, k):
    o = torch.empty_like(x)
    f_kernel[(x.shape[0],)](x, k, o, x.shape[1], BLOCK=triton.next_power_of_2(x.shape[1]))
    return o
""",
        mutate=True,
    ),
    Kernel(
        "rms_norm", "norm",
        """graph f(%x: f32[48, 384], %w: f32[384]) -> (%y) {
  %y = rms_norm(%x, %w) {normalized = [384], eps = 1e-06} : f32[48, 384]
}
""",
        """
@triton.jit
def f_kernel(x, w, o, N, BLOCK: tl.constexpr):
    r = tl.program_id(0)
    acc = tl.zeros((BLOCK,), tl.float32)
    for k in range(0, N, BLOCK):
        c = k + tl.arange(0, BLOCK)
        v = tl.load(x + r * N + c, mask=c < N, other=0.0)
        acc += v * v
    scale = 1.0 / tl.sqrt(tl.sum(acc, 0) / N + 1e-6)
    for k in range(0, N, BLOCK):
        c = k + tl.arange(0, BLOCK)
        v = tl.load(x + r * N + c, mask=c < N, other=0.0)
        tl.store(o + r * N + c, v * scale * tl.load(w + c, mask=c < N, other=0.0), mask=c < N)


def f(x, w):
    o = torch.empty_like(x)
    f_kernel[(x.shape[0],)](x, w, o, x.shape[1], BLOCK=128)
    return o
""",
        mutate=True,
    ),
    Kernel(
        "rms_norm_bf16", "norm",
        """graph f(%x: bf16[48, 256], %w: bf16[256]) -> (%y) {
  %y = rms_norm(%x, %w) {normalized = [256], eps = 1e-06} : bf16[48, 256]
}
""",
        """
@triton.jit
def f_kernel(x, w, o, N, BLOCK: tl.constexpr):
    r = tl.program_id(0)
    c = tl.arange(0, BLOCK)
    v = tl.load(x + r * N + c, mask=c < N, other=0.0).to(tl.float32)
    k = tl.rsqrt(tl.sum(v * v, 0) / N + 1e-6)
    g = tl.load(w + c, mask=c < N, other=0.0).to(tl.float32)
    tl.store(o + r * N + c, (v * k * g).to(tl.bfloat16), mask=c < N)


def f(x, w):
    o = torch.empty_like(x)
    f_kernel[(x.shape[0],)](x, w, o, x.shape[1], BLOCK=triton.next_power_of_2(x.shape[1]))
    return o
""",
        mutate=True,
    ),
    Kernel(
        "layer_norm_welford", "norm", _LAYER_NORM,
        """
@triton.jit
def f_merge(mean_a, m2_a, n_a, mean_b, m2_b, n_b):
    n = n_a + n_b
    share = tl.where(n == 0.0, 0.0, n_b / n)
    d = mean_b - mean_a
    return mean_a + d * share, m2_a + m2_b + d * d * n_a * share, n


@triton.jit
def f_kernel(x, w, b, o, N, BLOCK: tl.constexpr):
    r = tl.program_id(0)
    c = tl.arange(0, BLOCK)
    v = tl.load(x + r * N + c, mask=c < N, other=0.0)
    one = tl.where(c < N, 1.0, 0.0)
    mean, m2, n = tl.reduce((v, tl.zeros((BLOCK,), tl.float32), one), 0, f_merge)
    y = (v - mean) * tl.rsqrt(m2 / n + 1e-5)
    y = y * tl.load(w + c, mask=c < N, other=0.0) + tl.load(b + c, mask=c < N, other=0.0)
    tl.store(o + r * N + c, y, mask=c < N)


def f(x, w, b):
    o = torch.empty_like(x)
    f_kernel[(x.shape[0],)](x, w, b, o, x.shape[1], BLOCK=triton.next_power_of_2(x.shape[1]))
    return o
""",
        mutate=True,
    ),
    Kernel(
        "layer_norm_three_passes", "norm", _LAYER_NORM,
        """
@triton.jit
def f_kernel(x, w, b, o, N, BLOCK: tl.constexpr):
    r = tl.program_id(0)
    total = tl.zeros((BLOCK,), tl.float32)
    for k in range(0, N, BLOCK):
        c = k + tl.arange(0, BLOCK)
        total += tl.load(x + r * N + c, mask=c < N, other=0.0)
    mean = tl.sum(total, 0) / N
    spread = tl.zeros((BLOCK,), tl.float32)
    for k in range(0, N, BLOCK):
        c = k + tl.arange(0, BLOCK)
        d = tl.where(c < N, tl.load(x + r * N + c, mask=c < N, other=0.0) - mean, 0.0)
        spread += d * d
    scale = 1.0 / tl.sqrt(tl.sum(spread, 0) / N + 1e-5)
    for k in range(0, N, BLOCK):
        c = k + tl.arange(0, BLOCK)
        v = tl.load(x + r * N + c, mask=c < N, other=0.0)
        g = tl.load(w + c, mask=c < N, other=0.0)
        tl.store(o + r * N + c, (v - mean) * scale * g + tl.load(b + c, mask=c < N, other=0.0), mask=c < N)


def f(x, w, b):
    o = torch.empty_like(x)
    f_kernel[(x.shape[0],)](x, w, b, o, x.shape[1], BLOCK=128)
    return o
""",
        mutate=True,
    ),
    Kernel(
        "group_norm", "norm",
        """graph f(%x: f32[3, 12, 9, 10], %w: f32[12], %b: f32[12]) -> (%y) {
  %y = group_norm(%x, %w, %b) {groups = 4, eps = 1e-05} : f32[3, 12, 9, 10]
}
""",
        """
@triton.jit
def f_kernel(x, w, b, o, C, HW, G: tl.constexpr, BLOCK: tl.constexpr):
    s = tl.program_id(0)
    per = C // G * HW
    i = tl.arange(0, BLOCK)
    m = i < per
    v = tl.load(x + s * per + i, mask=m, other=0.0)
    mean = tl.sum(v, 0) / per
    d = tl.where(m, v - mean, 0.0)
    scale = tl.rsqrt(tl.sum(d * d, 0) / per + 1e-5)
    c = (s % G) * (C // G) + i // HW
    y = d * scale * tl.load(w + c, mask=m, other=0.0) + tl.load(b + c, mask=m, other=0.0)
    tl.store(o + s * per + i, y, mask=m)


def f(x, w, b):
    o = torch.empty_like(x)
    N, C, H, W = x.shape
    f_kernel[(N * 4,)](x, w, b, o, C, H * W, G=4, BLOCK=triton.next_power_of_2(C // 4 * H * W))
    return o
""",
        mutate=True,
    ),
    Kernel(
        "batch_norm_evaluation", "norm",
        """graph f(%x: f32[4, 10, 8, 9], %m: f32[10], %v: f32[10], %w: f32[10], %b: f32[10]) -> (%y) {
  %y = batch_norm(%x, %m, %v, %w, %b) {eps = 1e-05} : f32[4, 10, 8, 9]
}
""",
        """
@triton.jit
def f_kernel(x, mean, var, w, b, o, C, HW, BLOCK: tl.constexpr):
    s = tl.program_id(0)
    c = s % C
    k = tl.load(w + c) / tl.sqrt(tl.load(var + c) + 1e-5)
    mu = tl.load(mean + c)
    i = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    v = tl.load(x + s * HW + i, mask=i < HW, other=0.0)
    tl.store(o + s * HW + i, (v - mu) * k + tl.load(b + c), mask=i < HW)


def f(x, m, v, w, b):
    o = torch.empty_like(x)
    N, C, H, W = x.shape
    f_kernel[(N * C, triton.cdiv(H * W, 64))](x, m, v, w, b, o, C, H * W, BLOCK=64)
    return o
""",
        mutate=True,
    ),
    Kernel(
        "instance_norm", "norm",
        """graph f(%x: f32[3, 6, 12, 13]) -> (%y) {
  %y = instance_norm(%x, None, None) {eps = 1e-05} : f32[3, 6, 12, 13]
}
""",
        """
@triton.jit
def f_kernel(x, o, HW, BLOCK: tl.constexpr):
    s = tl.program_id(0)
    i = tl.arange(0, BLOCK)
    v = tl.load(x + s * HW + i, mask=i < HW, other=0.0)
    d = tl.where(i < HW, v - tl.sum(v, 0) / HW, 0.0)
    tl.store(o + s * HW + i, d / tl.sqrt(tl.sum(d * d, 0) / HW + 1e-5), mask=i < HW)


def f(x):
    o = torch.empty_like(x)
    HW = x.shape[2] * x.shape[3]
    f_kernel[(x.shape[0] * x.shape[1],)](x, o, HW, BLOCK=triton.next_power_of_2(HW))
    return o
""",
    ),
    Kernel(
        "residual_layer_norm", "fused",
        """graph f(%x: f32[48, 256], %r: f32[48, 256], %w: f32[256], %b: f32[256]) -> (%h, %y) {
  %h = add(%x, %r) : f32[48, 256]
  %y = layer_norm(%h, %w, %b) {normalized = [256], eps = 1e-05} : f32[48, 256]
}
""",
        """
@triton.jit
def f_kernel(x, r, w, b, h, o, N, BLOCK: tl.constexpr):
    p = tl.program_id(0)
    c = tl.arange(0, BLOCK)
    m = c < N
    v = tl.load(x + p * N + c, mask=m, other=0.0) + tl.load(r + p * N + c, mask=m, other=0.0)
    tl.store(h + p * N + c, v, mask=m)
    d = tl.where(m, v - tl.sum(v, 0) / N, 0.0)
    k = tl.rsqrt(tl.sum(d * d, 0) / N + 1e-5)
    tl.store(o + p * N + c, d * k * tl.load(w + c, mask=m, other=0.0) + tl.load(b + c, mask=m, other=0.0), mask=m)


def f(x, r, w, b):
    h, o = torch.empty_like(x), torch.empty_like(x)
    f_kernel[(x.shape[0],)](x, r, w, b, h, o, x.shape[1], BLOCK=triton.next_power_of_2(x.shape[1]))
    return h, o
""",
        mutate=True,
    ),
)  # fmt: skip
