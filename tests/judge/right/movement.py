"""Right kernels: transposes, concatenations, slices, gathers: elements that only move."""

from __future__ import annotations

from ..kernels import Kernel

MOVEMENT = (
    Kernel(
        "transpose_in_registers", "move",
        """graph f(%x: f32[70, 90], %y: f32[90, 70]) -> (%z) {
  %t = permute(%x) {order = [1, 0]} : f32[90, 70]
  %z = add(%t, %y) : f32[90, 70]
}
""",
        """
@triton.jit
def f_kernel(x, y, o, M, N, BM: tl.constexpr, BN: tl.constexpr):
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    v = tl.load(x + m[:, None] * N + n[None, :], mask=(m[:, None] < M) & (n[None, :] < N), other=0.0)
    inside = (n[:, None] < N) & (m[None, :] < M)
    at = n[:, None] * M + m[None, :]
    tl.store(o + at, tl.trans(v) + tl.load(y + at, mask=inside, other=0.0), mask=inside)


def f(x, y):
    o = torch.empty_like(y)
    M, N = x.shape
    f_kernel[(triton.cdiv(M, 16), triton.cdiv(N, 32))](x, y, o, M, N, BM=16, BN=32)
    return o
""",
        mutate=True,
    ),
    Kernel(
        "permute_4d", "move",
        """graph f(%x: f32[3, 8, 5, 12]) -> (%y) {
  %y = permute(%x) {order = [0, 2, 1, 3]} : f32[3, 5, 8, 12]
}
""",
        """
@triton.jit
def f_kernel(x, o, A, B, C, n, BLOCK: tl.constexpr):
    t = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    c, a, b, z = t % C, t // C % A, t // (C * A) % B, t // (C * A * B)
    tl.store(o + t, tl.load(x + ((z * A + a) * B + b) * C + c, mask=t < n, other=0.0), mask=t < n)


def f(x):
    Z, A, B, C = x.shape
    o = torch.empty((Z, B, A, C), device=x.device, dtype=x.dtype)
    f_kernel[(triton.cdiv(x.numel(), 128),)](x, o, A, B, C, x.numel(), BLOCK=128)
    return o
""",
        mutate=True,
    ),
    Kernel(
        "concatenate", "move",
        """graph f(%x: f32[20, 30], %y: f32[20, 17]) -> (%z) {
  %z = cat([%x, %y]) {axis = 1} : f32[20, 47]
}
""",
        """
@triton.jit
def f_kernel(x, y, o, A, B, BLOCK: tl.constexpr):
    r = tl.program_id(0)
    c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    left = tl.load(x + r * A + c, mask=c < A, other=0.0)
    right = tl.load(y + r * B + c - A, mask=(c >= A) & (c < A + B), other=0.0)
    tl.store(o + r * (A + B) + c, tl.where(c < A, left, right), mask=c < A + B)


def f(x, y):
    A, B = x.shape[1], y.shape[1]
    o = torch.empty((x.shape[0], A + B), device=x.device, dtype=x.dtype)
    f_kernel[(x.shape[0], triton.cdiv(A + B, 32))](x, y, o, A, B, BLOCK=32)
    return o
""",
        mutate=True,
    ),
    Kernel(
        "concatenate_two_launches", "move",
        """graph f(%x: f32[30, 20], %y: f32[17, 20]) -> (%z) {
  %z = cat([%x, %y]) {axis = 0} : f32[47, 20]
}
""",
        """
@triton.jit
def f_copy(x, o, n, start, BLOCK: tl.constexpr):
    t = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(o + start + t, tl.load(x + t, mask=t < n, other=0.0), mask=t < n)


def f(x, y):
    o = torch.empty((x.shape[0] + y.shape[0], x.shape[1]), device=x.device, dtype=x.dtype)
    f_copy[(triton.cdiv(x.numel(), 64),)](x, o, x.numel(), 0, BLOCK=64)
    f_copy[(triton.cdiv(y.numel(), 64),)](y, o, y.numel(), x.numel(), BLOCK=64)
    return o
""",
        mutate=True,
    ),
    Kernel(
        "pad_constant", "move",
        """graph f(%x: f32[20, 30]) -> (%y) {
  %y = pad(%x) {padding = [2, 3, 1, 0], value = 0.5} : f32[21, 35]
}
""",
        """
@triton.jit
def f_kernel(x, o, H, W, n, BLOCK: tl.constexpr):
    t = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    i = t // (W + 5) - 1
    j = t % (W + 5) - 2
    inside = (t < n) & (i >= 0) & (i < H) & (j >= 0) & (j < W)
    tl.store(o + t, tl.load(x + i * W + j, mask=inside, other=0.5), mask=t < n)


def f(x):
    o = torch.empty((x.shape[0] + 1, x.shape[1] + 5), device=x.device, dtype=x.dtype)
    f_kernel[(triton.cdiv(o.numel(), 128),)](x, o, x.shape[0], x.shape[1], o.numel(), BLOCK=128)
    return o
""",
        mutate=True,
    ),
    Kernel(
        "flip_columns", "move",
        """graph f(%x: f32[20, 37]) -> (%y) {
  %y = flip(%x) {axes = [1]} : f32[20, 37]
}
""",
        """
@triton.jit
def f_kernel(x, o, N, BLOCK: tl.constexpr):
    r = tl.program_id(0)
    c = tl.arange(0, BLOCK)
    tl.store(o + r * N + c, tl.load(x + r * N + N - 1 - c, mask=c < N, other=0.0), mask=c < N)


def f(x):
    o = torch.empty_like(x)
    f_kernel[(x.shape[0],)](x, o, x.shape[1], BLOCK=triton.next_power_of_2(x.shape[1]))
    return o
""",
    ),
    Kernel(
        "lower_triangle", "move",
        """graph f(%x: f32[30, 40]) -> (%y) {
  %y = tril(%x) {diagonal = 1} : f32[30, 40]
}
""",
        """
@triton.jit
def f_kernel(x, o, N, n, BLOCK: tl.constexpr):
    t = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    keep = t % N - t // N <= 1
    tl.store(o + t, tl.load(x + t, mask=(t < n) & keep, other=0.0), mask=t < n)


def f(x):
    o = torch.empty_like(x)
    f_kernel[(triton.cdiv(x.numel(), 128),)](x, o, x.shape[1], x.numel(), BLOCK=128)
    return o
""",
        mutate=True,
    ),
    Kernel(
        "pixel_shuffle", "move",
        """graph f(%x: f32[2, 8, 5, 6]) -> (%y) {
  %y = pixel_shuffle(%x) {factor = 2} : f32[2, 2, 10, 12]
}
""",
        """
@triton.jit
def f_kernel(x, o, C, H, W, n, BLOCK: tl.constexpr):
    t = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    j, i, c, z = t % (2 * W), t // (2 * W) % (2 * H), t // (4 * W * H) % C, t // (4 * W * H * C)
    k = (c * 2 + i % 2) * 2 + j % 2
    tl.store(o + t, tl.load(x + ((z * C * 4 + k) * H + i // 2) * W + j // 2, mask=t < n, other=0.0), mask=t < n)


def f(x):
    N, C, H, W = x.shape
    o = torch.empty((N, C // 4, 2 * H, 2 * W), device=x.device, dtype=x.dtype)
    f_kernel[(triton.cdiv(x.numel(), 128),)](x, o, C // 4, H, W, x.numel(), BLOCK=128)
    return o
""",
    ),
    Kernel(
        "strided_slice", "move",
        """graph f(%x: f32[20, 40]) -> (%y) {
  %s = slice(%x) {axis = 1, start = 4, stop = 36} : f32[20, 32]
  %y = neg(%s) : f32[20, 32]
}
""",
        """
@triton.jit
def f_kernel(x, o, N, BLOCK: tl.constexpr):
    r = tl.program_id(0)
    c = tl.arange(0, BLOCK)
    tl.store(o + r * BLOCK + c, -tl.load(x + r * N + 4 + c))


def f(x):
    o = torch.empty((x.shape[0], 32), device=x.device, dtype=x.dtype)
    f_kernel[(x.shape[0],)](x, o, x.shape[1], BLOCK=32)
    return o
""",
        pinned=(("x", 1),),
    ),
    Kernel(
        "gather_columns", "gather",
        """graph f(%x: f32[20, 50], %i: i64[20, 11]) -> (%y) {
  %y = gather(%x, %i) {axis = 1} : f32[20, 11]
}
""",
        """
@triton.jit
def f_kernel(x, i, o, N, K, n, BLOCK: tl.constexpr):
    t = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    at = tl.load(i + t, mask=t < n, other=0)
    tl.store(o + t, tl.load(x + t // K * N + at, mask=t < n, other=0.0), mask=t < n)


def f(x, i):
    o = torch.empty(i.shape, device=x.device, dtype=x.dtype)
    f_kernel[(triton.cdiv(o.numel(), 64),)](x, i, o, x.shape[1], i.shape[1], o.numel(), BLOCK=64)
    return o
""",
        mutate=True,
    ),
    Kernel(
        "index_select_rows", "gather",
        """graph f(%x: f32[50, 24], %i: i64[13]) -> (%y) {
  %y = index_select(%x, %i) {axis = 0} : f32[13, 24]
}
""",
        """
@triton.jit
def f_kernel(x, i, o, N, BLOCK: tl.constexpr):
    r = tl.program_id(0)
    c = tl.arange(0, BLOCK)
    row = tl.load(i + r)
    tl.store(o + r * N + c, tl.load(x + row * N + c, mask=c < N, other=0.0), mask=c < N)


def f(x, i):
    o = torch.empty((i.shape[0], x.shape[1]), device=x.device, dtype=x.dtype)
    f_kernel[(i.shape[0],)](x, i, o, x.shape[1], BLOCK=triton.next_power_of_2(x.shape[1]))
    return o
""",
        mutate=True,
    ),
    Kernel(
        "one_hot", "gather",
        """graph f(%x: i64[40]) -> (%y) {
  %y = one_hot(%x) {classes = 9} : i64[40, 9]
}
""",
        """
@triton.jit
def f_kernel(x, o, n, K: tl.constexpr, BLOCK: tl.constexpr):
    t = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    hit = tl.load(x + t // K, mask=t < n, other=0) == t % K
    tl.store(o + t, hit.to(tl.int64), mask=t < n)


def f(x):
    o = torch.empty((x.shape[0], 9), device=x.device, dtype=torch.int64)
    f_kernel[(triton.cdiv(o.numel(), 64),)](x, o, o.numel(), K=9, BLOCK=64)
    return o
""",
    ),
    Kernel(
        "embedding_and_position", "fused",
        """graph f(%w: f32[60, 32], %p: f32[10, 32], %i: i64[4, 10]) -> (%y) {
  %e = embedding(%w, %i) : f32[4, 10, 32]
  %s = mul(%e, 5.656854249492381) : f32[4, 10, 32]
  %y = add(%s, %p) : f32[4, 10, 32]
}
""",
        """
@triton.jit
def f_kernel(w, p, i, o, T, D, n, BLOCK: tl.constexpr):
    t = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    m = t < n
    row = tl.load(i + t // D, mask=m, other=0)
    e = tl.load(w + row * D + t % D, mask=m, other=0.0)
    tl.store(o + t, e * 5.656854249492381 + tl.load(p + t % (T * D), mask=m, other=0.0), mask=m)


def f(w, p, i):
    o = torch.empty((*i.shape, w.shape[1]), device=w.device, dtype=w.dtype)
    f_kernel[(triton.cdiv(o.numel(), 256),)](w, p, i, o, p.shape[0], w.shape[1], o.numel(), BLOCK=256)
    return o
""",
        mutate=True,
    ),
)  # fmt: skip
