"""Right kernels: reductions, scans and losses, by one algorithm and by another."""

from __future__ import annotations

from ..kernels import Kernel

_ROW_SUM = """graph f(%x: f32[64, 1000]) -> (%y) {
  %y = sum(%x) {axes = [1], keepdim = False} : f32[64]
}
"""
_SUM = """graph f(%x: f32[120, 130]) -> (%y) {
  %y = sum(%x) {axes = [0, 1], keepdim = False} : f32[]
}
"""
_VAR = """graph f(%x: f32[40, 300]) -> (%y) {
  %y = var(%x) {axes = [1], correction = 1, keepdim = False} : f32[40]
}
"""
_CUMSUM = """graph f(%x: f32[24, 300]) -> (%y) {
  %y = cumsum(%x) {axis = 1} : f32[24, 300]
}
"""

REDUCTIONS = (
    Kernel(
        "row_sum_one_block", "reduction", _ROW_SUM,
        """
@triton.jit
def f_kernel(x, o, N, BLOCK: tl.constexpr):
    r = tl.program_id(0)
    c = tl.arange(0, BLOCK)
    tl.store(o + r, tl.sum(tl.load(x + r * N + c, mask=c < N, other=0.0), 0))


def f(x):
    o = torch.empty(x.shape[0], device=x.device, dtype=x.dtype)
    f_kernel[(x.shape[0],)](x, o, x.shape[1], BLOCK=triton.next_power_of_2(x.shape[1]))
    return o
""",
        mutate=True,
    ),
    Kernel(
        "row_sum_loop", "reduction", _ROW_SUM,
        """
@triton.jit
def f_kernel(x, o, M, N, BM: tl.constexpr, BN: tl.constexpr):
    r = tl.program_id(0) * BM + tl.arange(0, BM)
    acc = tl.zeros((BM, BN), tl.float32)
    for k in range(0, N, BN):
        c = k + tl.arange(0, BN)
        acc += tl.load(x + r[:, None] * N + c[None, :], mask=(r[:, None] < M) & (c[None, :] < N), other=0.0)
    tl.store(o + r, tl.sum(acc, axis=1), mask=r < M)


def f(x):
    o = torch.empty(x.shape[0], device=x.device, dtype=x.dtype)
    f_kernel[(triton.cdiv(x.shape[0], 8),)](x, o, x.shape[0], x.shape[1], BM=8, BN=64)
    return o
""",
        mutate=True,
    ),
    Kernel(
        "row_sum_kahan", "reduction", _ROW_SUM,
        """
@triton.jit
def f_kernel(x, o, N, BLOCK: tl.constexpr):
    r = tl.program_id(0)
    total = tl.zeros((BLOCK,), tl.float32)
    lost = tl.zeros((BLOCK,), tl.float32)
    for k in range(0, N, BLOCK):
        c = k + tl.arange(0, BLOCK)
        v = tl.load(x + r * N + c, mask=c < N, other=0.0) - lost
        t = total + v
        lost = (t - total) - v
        total = t
    tl.store(o + r, tl.sum(total, 0))


def f(x):
    o = torch.empty(x.shape[0], device=x.device, dtype=x.dtype)
    f_kernel[(x.shape[0],)](x, o, x.shape[1], BLOCK=128)
    return o
""",
    ),
    Kernel(
        "column_sum", "reduction",
        """graph f(%x: f32[300, 70]) -> (%y) {
  %y = sum(%x) {axes = [0], keepdim = True} : f32[1, 70]
}
""",
        """
@triton.jit
def f_kernel(x, o, M, N, BM: tl.constexpr, BN: tl.constexpr):
    c = tl.program_id(0) * BN + tl.arange(0, BN)
    acc = tl.zeros((BN,), tl.float32)
    for k in range(0, M, BM):
        r = k + tl.arange(0, BM)
        m = (r[:, None] < M) & (c[None, :] < N)
        acc += tl.sum(tl.load(x + r[:, None] * N + c[None, :], mask=m, other=0.0), axis=0)
    tl.store(o + c, acc, mask=c < N)


def f(x):
    o = torch.empty((1, x.shape[1]), device=x.device, dtype=x.dtype)
    f_kernel[(triton.cdiv(x.shape[1], 32),)](x, o, x.shape[0], x.shape[1], BM=32, BN=32)
    return o
""",
        mutate=True,
    ),
    Kernel(
        "sum_atomic", "reduction", _SUM,
        """
@triton.jit
def f_kernel(x, o, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.atomic_add(o, tl.sum(tl.load(x + i, mask=i < n, other=0.0), 0))


def f(x):
    o = torch.zeros((), device=x.device, dtype=x.dtype)
    f_kernel[(triton.cdiv(x.numel(), 512),)](x, o, x.numel(), BLOCK=512)
    return o
""",
        mutate=True,
    ),
    Kernel(
        "sum_two_kernels", "reduction", _SUM,
        """
@triton.jit
def f_partial(x, p, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(p + tl.program_id(0), tl.sum(tl.load(x + i, mask=i < n, other=0.0), 0))


@triton.jit
def f_final(p, o, k, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(o, tl.sum(tl.load(p + i, mask=i < k, other=0.0), 0))


def f(x):
    k = triton.cdiv(x.numel(), 256)
    p = torch.empty(k, device=x.device, dtype=torch.float32)
    o = torch.empty((), device=x.device, dtype=x.dtype)
    f_partial[(k,)](x, p, x.numel(), BLOCK=256)
    f_final[(1,)](p, o, k, BLOCK=triton.next_power_of_2(k))
    return o
""",
        mutate=True,
    ),
    Kernel(
        "max_and_index", "reduction",
        """graph f(%x: f32[50, 200]) -> (%v, %i) {
  %v, %i = max_dim(%x) {axis = 1, keepdim = False} : f32[50], i64[50]
}
""",
        """
@triton.jit
def f_kernel(x, v, i, N, BLOCK: tl.constexpr):
    r = tl.program_id(0)
    c = tl.arange(0, BLOCK)
    best, at = tl.max(tl.load(x + r * N + c, mask=c < N, other=-float("inf")), 0, return_indices=True)
    tl.store(v + r, best)
    tl.store(i + r, at.to(tl.int64))


def f(x):
    v = torch.empty(x.shape[0], device=x.device, dtype=x.dtype)
    i = torch.empty(x.shape[0], device=x.device, dtype=torch.int64)
    f_kernel[(x.shape[0],)](x, v, i, x.shape[1], BLOCK=triton.next_power_of_2(x.shape[1]))
    return v, i
""",
        mutate=True,
    ),
    Kernel(
        "argmin_loop_first_tie", "reduction",
        """graph f(%x: f32[40, 300]) -> (%y) {
  %y = argmin(%x) {axis = 1, keepdim = False} : i64[40]
}
""",
        """
@triton.jit
def f_kernel(x, o, N, BLOCK: tl.constexpr):
    r = tl.program_id(0)
    best = float("inf")
    at = 0
    for k in range(0, N, BLOCK):
        c = k + tl.arange(0, BLOCK)
        v = tl.load(x + r * N + c, mask=c < N, other=float("inf"))
        low = tl.min(v, 0)
        where = tl.min(tl.where(v == low, c, N), 0)
        at = tl.where(low < best, where, at)
        best = tl.minimum(low, best)
    tl.store(o + r, at.to(tl.int64))


def f(x):
    o = torch.empty(x.shape[0], device=x.device, dtype=torch.int64)
    f_kernel[(x.shape[0],)](x, o, x.shape[1], BLOCK=64)
    return o
""",
        mutate=True,
    ),
    Kernel(
        "logsumexp_online", "reduction",
        """graph f(%x: f32[32, 500]) -> (%y) {
  %y = logsumexp(%x) {axes = [1], keepdim = False} : f32[32]
}
""",
        """
@triton.jit
def f_kernel(x, o, N, BLOCK: tl.constexpr):
    r = tl.program_id(0)
    m = -float("inf")
    s = 0.0
    for k in range(0, N, BLOCK):
        c = k + tl.arange(0, BLOCK)
        v = tl.load(x + r * N + c, mask=c < N, other=-float("inf"))
        m2 = tl.maximum(m, tl.max(v, 0))
        s = s * tl.exp(m - m2) + tl.sum(tl.exp(v - m2), 0)
        m = m2
    tl.store(o + r, m + tl.log(s))


def f(x):
    o = torch.empty(x.shape[0], device=x.device, dtype=x.dtype)
    f_kernel[(x.shape[0],)](x, o, x.shape[1], BLOCK=128)
    return o
""",
        mutate=True,
    ),
    Kernel(
        "vector_norm", "reduction",
        """graph f(%x: f32[32, 260]) -> (%y) {
  %y = vector_norm(%x) {ord = 2.0, axes = [1], keepdim = True} : f32[32, 1]
}
""",
        """
@triton.jit
def f_kernel(x, o, N, BLOCK: tl.constexpr):
    r = tl.program_id(0)
    c = tl.arange(0, BLOCK)
    v = tl.load(x + r * N + c, mask=c < N, other=0.0)
    tl.store(o + r, tl.sqrt(tl.sum(v * v, 0)))


def f(x):
    o = torch.empty((x.shape[0], 1), device=x.device, dtype=x.dtype)
    f_kernel[(x.shape[0],)](x, o, x.shape[1], BLOCK=triton.next_power_of_2(x.shape[1]))
    return o
""",
        mutate=True,
    ),
    Kernel(
        "variance_two_pass", "reduction", _VAR,
        """
@triton.jit
def f_kernel(x, o, N, BLOCK: tl.constexpr):
    r = tl.program_id(0)
    c = tl.arange(0, BLOCK)
    v = tl.load(x + r * N + c, mask=c < N, other=0.0)
    d = tl.where(c < N, v - tl.sum(v, 0) / N, 0.0)
    tl.store(o + r, tl.sum(d * d, 0) / (N - 1))


def f(x):
    o = torch.empty(x.shape[0], device=x.device, dtype=x.dtype)
    f_kernel[(x.shape[0],)](x, o, x.shape[1], BLOCK=triton.next_power_of_2(x.shape[1]))
    return o
""",
        mutate=True,
    ),
    Kernel(
        "variance_welford", "reduction", _VAR,
        """
@triton.jit
def f_merge(mean_a, m2_a, n_a, mean_b, m2_b, n_b):
    n = n_a + n_b
    share = tl.where(n == 0.0, 0.0, n_b / n)
    d = mean_b - mean_a
    return mean_a + d * share, m2_a + m2_b + d * d * n_a * share, n


@triton.jit
def f_kernel(x, o, N, BLOCK: tl.constexpr):
    r = tl.program_id(0)
    mean = tl.zeros((BLOCK,), tl.float32)
    m2 = tl.zeros((BLOCK,), tl.float32)
    n = tl.zeros((BLOCK,), tl.float32)
    for k in range(0, N, BLOCK):
        c = k + tl.arange(0, BLOCK)
        v = tl.load(x + r * N + c, mask=c < N, other=0.0)
        n2 = n + 1.0
        d = v - mean
        mean2 = mean + d / n2
        m2 = tl.where(c < N, m2 + d * (v - mean2), m2)
        mean = tl.where(c < N, mean2, mean)
        n = tl.where(c < N, n2, n)
    mean, m2, n = tl.reduce((mean, m2, n), 0, f_merge)
    tl.store(o + r, m2 / (n - 1.0))


def f(x):
    o = torch.empty(x.shape[0], device=x.device, dtype=x.dtype)
    f_kernel[(x.shape[0],)](x, o, x.shape[1], BLOCK=64)
    return o
""",
        mutate=True,
    ),
    Kernel(
        "any_of_row", "reduction",
        """graph f(%x: bool[30, 200]) -> (%y) {
  %y = any(%x) {axes = [1], keepdim = False} : bool[30]
}
""",
        """
@triton.jit
def f_kernel(x, o, N, BLOCK: tl.constexpr):
    r = tl.program_id(0)
    c = tl.arange(0, BLOCK)
    tl.store(o + r, tl.max(tl.load(x + r * N + c, mask=c < N, other=0).to(tl.int32), 0) != 0)


def f(x):
    o = torch.empty(x.shape[0], device=x.device, dtype=torch.bool)
    f_kernel[(x.shape[0],)](x, o, x.shape[1], BLOCK=triton.next_power_of_2(x.shape[1]))
    return o
""",
    ),
    Kernel(
        "product_custom_combine", "reduction",
        """graph f(%x: f32[30, 40]) -> (%y) {
  %y = prod(%x) {axes = [1], keepdim = False} : f32[30]
}
""",
        """
@triton.jit
def f_times(a, b):
    return a * b


@triton.jit
def f_kernel(x, o, N, BLOCK: tl.constexpr):
    r = tl.program_id(0)
    c = tl.arange(0, BLOCK)
    tl.store(o + r, tl.reduce(tl.load(x + r * N + c, mask=c < N, other=1.0), 0, f_times))


def f(x):
    o = torch.empty(x.shape[0], device=x.device, dtype=x.dtype)
    f_kernel[(x.shape[0],)](x, o, x.shape[1], BLOCK=triton.next_power_of_2(x.shape[1]))
    return o
""",
    ),
    Kernel(
        "mean_bf16_in_f32", "reduction",
        """graph f(%x: bf16[32, 300]) -> (%y) {
  %y = mean(%x) {axes = [1], keepdim = False} : bf16[32]
}
""",
        """
@triton.jit
def f_kernel(x, o, N, BLOCK: tl.constexpr):
    r = tl.program_id(0)
    acc = tl.zeros((BLOCK,), tl.float32)
    for k in range(0, N, BLOCK):
        c = k + tl.arange(0, BLOCK)
        acc += tl.load(x + r * N + c, mask=c < N, other=0.0).to(tl.float32)
    tl.store(o + r, (tl.sum(acc, 0) / N).to(tl.bfloat16))


def f(x):
    o = torch.empty(x.shape[0], device=x.device, dtype=x.dtype)
    f_kernel[(x.shape[0],)](x, o, x.shape[1], BLOCK=64)
    return o
""",
        mutate=True,
    ),
    Kernel(
        "cumsum_whole_rows", "scan", _CUMSUM,
        """
@triton.jit
def f_kernel(x, o, N, BLOCK: tl.constexpr):
    r = tl.program_id(0)
    c = tl.arange(0, BLOCK)
    tl.store(o + r * N + c, tl.cumsum(tl.load(x + r * N + c, mask=c < N, other=0.0), 0), mask=c < N)


def f(x):
    o = torch.empty_like(x)
    f_kernel[(x.shape[0],)](x, o, x.shape[1], BLOCK=triton.next_power_of_2(x.shape[1]))
    return o
""",
        mutate=True,
    ),
    Kernel(
        "cumsum_carried", "scan", _CUMSUM,
        """
@triton.jit
def f_plus(a, b):
    return a + b


@triton.jit
def f_kernel(x, o, N, BLOCK: tl.constexpr):
    r = tl.program_id(0)
    carry = 0.0
    for k in range(0, N, BLOCK):
        c = k + tl.arange(0, BLOCK)
        v = tl.load(x + r * N + c, mask=c < N, other=0.0)
        tl.store(o + r * N + c, carry + tl.associative_scan(v, 0, f_plus), mask=c < N)
        carry += tl.sum(v, 0)


def f(x):
    o = torch.empty_like(x)
    f_kernel[(x.shape[0],)](x, o, x.shape[1], BLOCK=64)
    return o
""",
        mutate=True,
    ),
    Kernel(
        "cumsum_columns", "scan",
        """graph f(%x: f32[100, 40]) -> (%y) {
  %y = cumsum(%x) {axis = 0} : f32[100, 40]
}
""",
        """
@triton.jit
def f_kernel(x, o, M, N, BM: tl.constexpr, BN: tl.constexpr):
    c = tl.program_id(0) * BN + tl.arange(0, BN)[None, :]
    r = tl.arange(0, BM)[:, None]
    m = (r < M) & (c < N)
    v = tl.load(x + r * N + c, mask=m, other=0.0)
    tl.store(o + r * N + c, tl.cumsum(v, axis=0), mask=m)


def f(x):
    o = torch.empty_like(x)
    f_kernel[(triton.cdiv(x.shape[1], 16),)](x, o, x.shape[0], x.shape[1], BM=triton.next_power_of_2(x.shape[0]), BN=16)
    return o
""",
        mutate=True,
    ),
    Kernel(
        "mse_loss_atomic", "loss",
        """graph f(%x: f32[60, 100], %t: f32[60, 100]) -> (%y) {
  %y = mse_loss(%x, %t) {reduction = mean} : f32[]
}
""",
        """
@triton.jit
def f_kernel(x, t, o, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    d = tl.load(x + i, mask=i < n, other=0.0) - tl.load(t + i, mask=i < n, other=0.0)
    tl.atomic_add(o, tl.sum(d * d, 0) / n)


def f(x, t):
    o = torch.zeros((), device=x.device, dtype=x.dtype)
    f_kernel[(triton.cdiv(x.numel(), 512),)](x, t, o, x.numel(), BLOCK=512)
    return o
""",
        mutate=True,
    ),
    Kernel(
        "cross_entropy", "loss",
        """graph f(%x: f32[60, 200], %t: i64[60]) -> (%y) {
  %y = cross_entropy(%x, %t) {ignore_index = -100, reduction = mean} : f32[]
}
""",
        """
@triton.jit
def f_rows(x, t, p, N, BLOCK: tl.constexpr):
    r = tl.program_id(0)
    c = tl.arange(0, BLOCK)
    v = tl.load(x + r * N + c, mask=c < N, other=-float("inf"))
    top = tl.max(v, 0)
    lse = top + tl.log(tl.sum(tl.exp(v - top), 0))
    k = tl.load(t + r)
    tl.store(p + r, tl.where(k == -100, 0.0, lse - tl.load(x + r * N + k, mask=k != -100, other=0.0)))


@triton.jit
def f_mean(p, t, o, M, BLOCK: tl.constexpr):
    r = tl.arange(0, BLOCK)
    kept = tl.load(t + r, mask=r < M, other=-100) != -100
    tl.store(o, tl.sum(tl.load(p + r, mask=r < M, other=0.0), 0) / tl.sum(kept.to(tl.float32), 0))


def f(x, t):
    M, N = x.shape
    p = torch.empty(M, device=x.device, dtype=torch.float32)
    o = torch.empty((), device=x.device, dtype=x.dtype)
    f_rows[(M,)](x, t, p, N, BLOCK=triton.next_power_of_2(N))
    f_mean[(1,)](p, t, o, M, BLOCK=triton.next_power_of_2(M))
    return o
""",
        mutate=True,
    ),
    Kernel(
        "bce_with_logits", "loss",
        """graph f(%x: f32[40, 70], %t: f32[40, 70]) -> (%y) {
  %y = binary_cross_entropy_with_logits(%x, %t) {reduction = none} : f32[40, 70]
}
""",
        """
@triton.jit
def f_kernel(x, t, o, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    v = tl.load(x + i, mask=i < n, other=0.0)
    y = tl.load(t + i, mask=i < n, other=0.0)
    tl.store(o + i, tl.maximum(v, 0.0) - v * y + libdevice.log1p(tl.exp(-tl.abs(v))), mask=i < n)


def f(x, t):
    o = torch.empty_like(x)
    f_kernel[(triton.cdiv(x.numel(), 256),)](x, t, o, x.numel(), BLOCK=256)
    return o
""",
        mutate=True,
    ),
    Kernel(
        "smooth_l1", "loss",
        """graph f(%x: f32[30, 100], %t: f32[30, 100]) -> (%y) {
  %y = smooth_l1_loss(%x, %t) {beta = 1.0, reduction = sum} : f32[]
}
""",
        """
@triton.jit
def f_kernel(x, t, o, n, BLOCK: tl.constexpr):
    acc = 0.0
    for k in range(0, n, BLOCK):
        i = k + tl.arange(0, BLOCK)
        d = tl.abs(tl.load(x + i, mask=i < n, other=0.0) - tl.load(t + i, mask=i < n, other=0.0))
        acc += tl.sum(tl.where(d < 1.0, 0.5 * d * d, d - 0.5), 0)
    tl.store(o, acc)


def f(x, t):
    o = torch.empty((), device=x.device, dtype=x.dtype)
    f_kernel[(1,)](x, t, o, x.numel(), BLOCK=1024)
    return o
""",
        mutate=True,
    ),
)  # fmt: skip
