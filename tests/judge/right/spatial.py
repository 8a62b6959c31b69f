"""Right kernels: convolutions and pools."""

from __future__ import annotations

from ..kernels import Kernel

SPATIAL = (
    Kernel(
        "conv2d_direct", "conv",
        """graph f(%x: f32[2, 6, 12, 14], %w: f32[8, 6, 3, 3], %b: f32[8]) -> (%y) {
  %y = conv2d(%x, %w, %b) {stride = [2, 1], padding = [1, 2]} : f32[2, 8, 6, 16]
}
""",
        """
@triton.jit
def f_kernel(x, w, b, o, C, H, W, F, OH, OW, n, BLOCK: tl.constexpr):
    t = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = t < n
    j = t % OW
    i = t // OW % OH
    f = t // (OW * OH) % F
    z = t // (OW * OH * F)
    acc = tl.load(b + f, mask=live, other=0.0)
    for c in range(C):
        for u in tl.static_range(3):
            for v in tl.static_range(3):
                h = i * 2 + u - 1
                k = j + v - 2
                inside = live & (h >= 0) & (h < H) & (k >= 0) & (k < W)
                p = tl.load(x + ((z * C + c) * H + h) * W + k, mask=inside, other=0.0)
                acc += p * tl.load(w + ((f * C + c) * 3 + u) * 3 + v, mask=live, other=0.0)
    tl.store(o + t, acc, mask=live)


def f(x, w, b):
    N, C, H, W = x.shape
    F = w.shape[0]
    OH, OW = (H - 1) // 2 + 1, W + 2
    o = torch.empty((N, F, OH, OW), device=x.device, dtype=x.dtype)
    f_kernel[(triton.cdiv(o.numel(), 256),)](x, w, b, o, C, H, W, F, OH, OW, o.numel(), BLOCK=256)
    return o
""",
        mutate=True,
    ),
    Kernel(
        "conv2d_implicit_gemm", "conv",
        """graph f(%x: f32[2, 8, 10, 11], %w: f32[12, 8, 3, 3]) -> (%y) {
  %h = conv2d(%x, %w, None) {stride = [1, 1], padding = [1, 1]} : f32[2, 12, 10, 11]
  %y = relu(%h) : f32[2, 12, 10, 11]
}
""",
        """
@triton.jit
def f_kernel(x, w, o, C, H, W, F, M, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    j, i, z = m % W, m // W % H, m // (W * H)
    K = C * 9
    acc = tl.zeros((BM, BN), dtype=tl.float32)
    for k0 in range(0, K, BK):
        k = k0 + tl.arange(0, BK)
        c, u, v = k // 9, k // 3 % 3, k % 3
        h = i[:, None] + u[None, :] - 1
        q = j[:, None] + v[None, :] - 1
        inside = (m[:, None] < M) & (k[None, :] < K) & (h >= 0) & (h < H) & (q >= 0) & (q < W)
        a = tl.load(x + ((z[:, None] * C + c[None, :]) * H + h) * W + q, mask=inside, other=0.0)
        b = tl.load(w + n[None, :] * K + k[:, None], mask=(n[None, :] < F) & (k[:, None] < K), other=0.0)
        acc = tl.dot(a, b, acc, input_precision="ieee")
    at = ((z[:, None] * F + n[None, :]) * H + i[:, None]) * W + j[:, None]
    tl.store(o + at, tl.maximum(acc, 0.0), mask=(m[:, None] < M) & (n[None, :] < F))


def f(x, w):
    N, C, H, W = x.shape
    F = w.shape[0]
    o = torch.empty((N, F, H, W), device=x.device, dtype=x.dtype)
    M = N * H * W
    f_kernel[(triton.cdiv(M, 32), triton.cdiv(F, 16))](x, w, o, C, H, W, F, M, BM=32, BN=16, BK=16)
    return o
""",
        mutate=True,
    ),
    Kernel(
        "conv1d_dilated", "conv",
        """graph f(%x: f32[3, 6, 40], %w: f32[8, 6, 3], %b: f32[8]) -> (%y) {
  %y = conv1d(%x, %w, %b) {stride = [1], padding = [2], dilation = [2]} : f32[3, 8, 40]
}
""",
        """
@triton.jit
def f_kernel(x, w, b, o, C, L, F, BLOCK: tl.constexpr):
    z, f = tl.program_id(0), tl.program_id(1)
    t = tl.program_id(2) * BLOCK + tl.arange(0, BLOCK)
    acc = tl.zeros((BLOCK,), tl.float32) + tl.load(b + f)
    for c in range(C):
        for u in tl.static_range(3):
            s = t + 2 * u - 2
            p = tl.load(x + (z * C + c) * L + s, mask=(s >= 0) & (s < L), other=0.0)
            acc += p * tl.load(w + (f * C + c) * 3 + u)
    tl.store(o + (z * F + f) * L + t, acc, mask=t < L)


def f(x, w, b):
    N, C, L = x.shape
    F = w.shape[0]
    o = torch.empty((N, F, L), device=x.device, dtype=x.dtype)
    f_kernel[(N, F, triton.cdiv(L, 32))](x, w, b, o, C, L, F, BLOCK=32)
    return o
""",
        mutate=True,
    ),
    Kernel(
        "conv2d_depthwise", "conv",
        """graph f(%x: f32[2, 7, 11, 12], %w: f32[7, 1, 3, 3]) -> (%y) {
  %y = conv2d(%x, %w, None) {stride = [1, 1], padding = [1, 1], groups = 7} : f32[2, 7, 11, 12]
}
""",
        """
@triton.jit
def f_kernel(x, w, o, C, H, W, BLOCK: tl.constexpr):
    s = tl.program_id(0)
    t = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    i, j = t // W, t % W
    acc = tl.zeros((BLOCK,), tl.float32)
    for u in tl.static_range(3):
        for v in tl.static_range(3):
            h, k = i + u - 1, j + v - 1
            inside = (h >= 0) & (h < H) & (k >= 0) & (k < W)
            acc += tl.load(x + s * H * W + h * W + k, mask=inside, other=0.0) * tl.load(w + s % C * 9 + u * 3 + v)
    tl.store(o + s * H * W + t, acc, mask=t < H * W)


def f(x, w):
    o = torch.empty_like(x)
    N, C, H, W = x.shape
    f_kernel[(N * C, triton.cdiv(H * W, 64))](x, w, o, C, H, W, BLOCK=64)
    return o
""",
        mutate=True, pinned=(("x", 1), ("w", 0)),
    ),
    Kernel(
        "max_pool2d", "pool",
        """graph f(%x: f32[3, 5, 13, 14]) -> (%y) {
  %y = max_pool2d(%x) {kernel = [3, 2], stride = [2, 2], padding = [1, 1]} : f32[3, 5, 7, 8]
}
""",
        """
@triton.jit
def f_kernel(x, o, H, W, OH, OW, n, BLOCK: tl.constexpr):
    t = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    j, i, s = t % OW, t // OW % OH, t // (OW * OH)
    best = tl.full((BLOCK,), -float("inf"), tl.float32)
    for u in tl.static_range(3):
        for v in tl.static_range(2):
            h, k = i * 2 + u - 1, j * 2 + v - 1
            inside = (t < n) & (h >= 0) & (h < H) & (k >= 0) & (k < W)
            best = tl.maximum(best, tl.load(x + (s * H + h) * W + k, mask=inside, other=-float("inf")))
    tl.store(o + t, best, mask=t < n)


def f(x):
    N, C, H, W = x.shape
    OH, OW = (H - 1) // 2 + 1, W // 2 + 1
    o = torch.empty((N, C, OH, OW), device=x.device, dtype=x.dtype)
    f_kernel[(triton.cdiv(o.numel(), 128),)](x, o, H, W, OH, OW, o.numel(), BLOCK=128)
    return o
""",
        mutate=True,
    ),
    Kernel(
        "avg_pool2d", "pool",
        """graph f(%x: f32[3, 5, 12, 14]) -> (%y) {
  %y = avg_pool2d(%x) {kernel = [2, 2], stride = [2, 2]} : f32[3, 5, 6, 7]
}
""",
        """
@triton.jit
def f_kernel(x, o, W, OH, OW, n, BLOCK: tl.constexpr):
    t = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    j, i, s = t % OW, t // OW % OH, t // (OW * OH)
    at = x + (s * 2 * OH + 2 * i) * W + 2 * j
    m = t < n
    a = tl.load(at, mask=m, other=0.0) + tl.load(at + 1, mask=m, other=0.0)
    b = tl.load(at + W, mask=m, other=0.0) + tl.load(at + W + 1, mask=m, other=0.0)
    tl.store(o + t, 0.25 * (a + b), mask=m)


def f(x):
    N, C, H, W = x.shape
    o = torch.empty((N, C, H // 2, W // 2), device=x.device, dtype=x.dtype)
    f_kernel[(triton.cdiv(o.numel(), 128),)](x, o, W, H // 2, W // 2, o.numel(), BLOCK=128)
    return o
""",
        mutate=True, pinned=(("x", 2), ("x", 3)),
    ),
    Kernel(
        "global_average_pool", "pool",
        """graph f(%x: f32[3, 10, 9, 11]) -> (%y) {
  %y = adaptive_avg_pool2d(%x) {size = [1, 1]} : f32[3, 10, 1, 1]
}
""",
        """
@triton.jit
def f_kernel(x, o, HW, BLOCK: tl.constexpr):
    s = tl.program_id(0)
    i = tl.arange(0, BLOCK)
    tl.store(o + s, tl.sum(tl.load(x + s * HW + i, mask=i < HW, other=0.0), 0) / HW)


def f(x):
    N, C, H, W = x.shape
    o = torch.empty((N, C, 1, 1), device=x.device, dtype=x.dtype)
    f_kernel[(N * C,)](x, o, H * W, BLOCK=triton.next_power_of_2(H * W))
    return o
""",
        mutate=True,
    ),
    Kernel(
        "upsample_nearest", "pool",
        """graph f(%x: f32[2, 5, 7, 8]) -> (%y) {
  %y = upsample_nearest(%x) {size = [14, 16]} : f32[2, 5, 14, 16]
}
""",
        """
@triton.jit
def f_kernel(x, o, H, W, n, BLOCK: tl.constexpr):
    t = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    j, i, s = t % (2 * W), t // (2 * W) % (2 * H), t // (4 * W * H)
    tl.store(o + t, tl.load(x + (s * H + i // 2) * W + j // 2, mask=t < n, other=0.0), mask=t < n)


def f(x):
    N, C, H, W = x.shape
    o = torch.empty((N, C, 2 * H, 2 * W), device=x.device, dtype=x.dtype)
    f_kernel[(triton.cdiv(o.numel(), 128),)](x, o, H, W, o.numel(), BLOCK=128)
    return o
""",
        mutate=True, pinned=(("x", 2), ("x", 3)),
    ),
)  # fmt: skip
