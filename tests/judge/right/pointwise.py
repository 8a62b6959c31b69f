"""Right kernels: functions of each element, with broadcasts, other dtypes and several outputs."""

from __future__ import annotations

from ..kernels import Kernel

POINTWISE = (
    Kernel(
        "gelu_tanh_sigmoid", "pointwise",
        """graph f(%x: f32[64, 512]) -> (%y) {
  %y = gelu(%x) {approximate = tanh} : f32[64, 512]
}
""",
        """
@triton.jit
def f_kernel(x, o, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    v = tl.load(x + i, mask=i < n, other=0.0)
    u = 0.7978845608028654 * (v + 0.044715 * v * v * v)
    tl.store(o + i, v * tl.sigmoid(2.0 * u), mask=i < n)


def f(x):
    o = torch.empty_like(x)
    f_kernel[(triton.cdiv(x.numel(), 512),)](x, o, x.numel(), BLOCK=512)
    return o
""",
        mutate=True,
    ),
    Kernel(
        "silu_mul_persistent", "fused",
        """graph f(%x: f32[64, 500], %g: f32[64, 500]) -> (%y) {
  %s = silu(%g) : f32[64, 500]
  %y = mul(%s, %x) : f32[64, 500]
}
""",
        """
@triton.jit
def f_kernel(x, g, o, n, P: tl.constexpr, BLOCK: tl.constexpr):
    for start in range(tl.program_id(0) * BLOCK, n, P * BLOCK):
        i = start + tl.arange(0, BLOCK)
        m = i < n
        a = tl.load(g + i, mask=m, other=0.0)
        b = tl.load(x + i, mask=m, other=0.0)
        tl.store(o + i, a / (1.0 + tl.exp(-a)) * b, mask=m)


def f(x, g):
    o = torch.empty_like(x)
    f_kernel[(7,)](x, g, o, x.numel(), P=7, BLOCK=128)
    return o
""",
        mutate=True,
    ),
    Kernel(
        "leaky_relu_strided", "pointwise",
        """graph f(%x: f32[100, 200]) -> (%y) {
  %y = leaky_relu(%x) {negative_slope = 0.2} : f32[100, 200]
}
""",
        """
@triton.jit
def f_kernel(x, o, M, N, sx0, sx1, so0, so1, BM: tl.constexpr, BN: tl.constexpr):
    r = tl.program_id(0) * BM + tl.arange(0, BM)[:, None]
    c = tl.program_id(1) * BN + tl.arange(0, BN)[None, :]
    m = (r < M) & (c < N)
    v = tl.load(x + r * sx0 + c * sx1, mask=m, other=0.0)
    tl.store(o + r * so0 + c * so1, tl.where(v > 0, v, 0.2 * v), mask=m)


def f(x):
    o = torch.empty_like(x)
    M, N = x.shape
    grid = (triton.cdiv(M, 16), triton.cdiv(N, 32))
    f_kernel[grid](x, o, M, N, x.stride(0), x.stride(1), o.stride(0), o.stride(1), BM=16, BN=32)
    return o
""",
        mutate=True,
    ),
    Kernel(
        "add_bf16_through_f32", "pointwise",
        """graph f(%x: bf16[64, 256], %y: bf16[64, 256]) -> (%z) {
  %p = mul(%x, %y) : bf16[64, 256]
  %z = add(%p, %x) : bf16[64, 256]
}
""",
        """
@triton.jit
def f_kernel(x, y, o, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    a = tl.load(x + i, mask=i < n, other=0.0).to(tl.float32)
    b = tl.load(y + i, mask=i < n, other=0.0).to(tl.float32)
    tl.store(o + i, (a * b + a).to(tl.bfloat16), mask=i < n)


def f(x, y):
    o = torch.empty_like(x)
    f_kernel[(triton.cdiv(x.numel(), 256),)](x, y, o, x.numel(), BLOCK=256)
    return o
""",
        mutate=True,
    ),
    Kernel(
        "integers", "pointwise",
        """graph f(%x: i32[40, 100], %y: i32[40, 100]) -> (%z) {
  %d = mul(%x, %y) : i32[40, 100]
  %a = abs(%y) : i32[40, 100]
  %m = maximum(%d, %a) : i32[40, 100]
  %z = sub(%m, %x) : i32[40, 100]
}
""",
        """
@triton.jit
def f_kernel(x, y, o, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    a = tl.load(x + i, mask=i < n, other=0)
    b = tl.load(y + i, mask=i < n, other=0)
    tl.store(o + i, tl.maximum(a * b, tl.abs(b)) - a, mask=i < n)


def f(x, y):
    o = torch.empty_like(x)
    f_kernel[(triton.cdiv(x.numel(), 128),)](x, y, o, x.numel(), BLOCK=128)
    return o
""",
        mutate=True,
    ),
    Kernel(
        "compare_to_bool", "pointwise",
        """graph f(%x: f32[50, 60], %y: f32[50, 60]) -> (%z) {
  %a = gt(%x, %y) : bool[50, 60]
  %b = lt(%x, 1.5) : bool[50, 60]
  %z = logical_and(%a, %b) : bool[50, 60]
}
""",
        """
@triton.jit
def f_kernel(x, y, o, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    a = tl.load(x + i, mask=i < n, other=0.0)
    b = tl.load(y + i, mask=i < n, other=0.0)
    tl.store(o + i, (a > b) & (a < 1.5), mask=i < n)


def f(x, y):
    o = torch.empty(x.shape, dtype=torch.bool, device=x.device)
    f_kernel[(triton.cdiv(x.numel(), 128),)](x, y, o, x.numel(), BLOCK=128)
    return o
""",
        mutate=True,
    ),
    Kernel(
        "two_outputs", "pointwise",
        """graph f(%x: f32[33, 70], %y: f32[33, 70]) -> (%s, %p) {
  %s = add(%x, %y) : f32[33, 70]
  %p = mul(%x, %y) : f32[33, 70]
}
""",
        """
@triton.jit
def f_kernel(x, y, s, p, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    a = tl.load(x + i, mask=i < n, other=0.0)
    b = tl.load(y + i, mask=i < n, other=0.0)
    tl.store(s + i, a + b, mask=i < n)
    tl.store(p + i, a * b, mask=i < n)


def f(x, y):
    s, p = torch.empty_like(x), torch.empty_like(x)
    f_kernel[(triton.cdiv(x.numel(), 256),)](x, y, s, p, x.numel(), BLOCK=256)
    return s, p
""",
        mutate=True,
    ),
    Kernel(
        "relu_heuristics", "pointwise",
        """graph f(%x: f32[37, 129]) -> (%y) {
  %y = relu(%x) : f32[37, 129]
}
""",
        """
@triton.heuristics({"EVEN": lambda a: a["n"] % a["BLOCK"] == 0})
@triton.jit
def f_kernel(x, o, n, BLOCK: tl.constexpr, EVEN: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    if EVEN:
        tl.store(o + i, tl.maximum(tl.load(x + i), 0.0))
    else:
        tl.store(o + i, tl.maximum(tl.load(x + i, mask=i < n, other=0.0), 0.0), mask=i < n)


def f(x):
    o = torch.empty_like(x)
    f_kernel[(triton.cdiv(x.numel(), 64),)](x, o, x.numel(), BLOCK=64)
    return o
""",
    ),
    Kernel(
        "channel_affine", "pointwise",
        """graph f(%x: f32[2, 12, 10, 11], %s: f32[12, 1, 1], %b: f32[12, 1, 1]) -> (%y) {
  %h = mul(%x, %s) : f32[2, 12, 10, 11]
  %y = add(%h, %b) : f32[2, 12, 10, 11]
}
""",
        """
@triton.jit
def f_kernel(x, s, b, o, n, C, HW, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    m = i < n
    c = (i // HW) % C
    v = tl.load(x + i, mask=m, other=0.0)
    v = v * tl.load(s + c, mask=m, other=0.0) + tl.load(b + c, mask=m, other=0.0)
    tl.store(o + i, v, mask=m)


def f(x, s, b):
    o = torch.empty_like(x)
    f_kernel[(triton.cdiv(x.numel(), 128),)](x, s, b, o, x.numel(), x.shape[1], x.shape[2] * x.shape[3], BLOCK=128)
    return o
""",
        mutate=True,
    ),
    Kernel(
        "softplus_stable", "pointwise",
        """graph f(%x: f32[48, 100]) -> (%y) {
  %y = softplus(%x) {beta = 1.0, threshold = 20.0} : f32[48, 100]
}
""",
        """
@triton.jit
def f_kernel(x, o, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    v = tl.load(x + i, mask=i < n, other=0.0)
    tl.store(o + i, tl.maximum(v, 0.0) + libdevice.log1p(tl.exp(-tl.abs(v))), mask=i < n)


def f(x):
    o = torch.empty_like(x)
    f_kernel[(triton.cdiv(x.numel(), 256),)](x, o, x.numel(), BLOCK=256)
    return o
""",
        mutate=True,
    ),
    Kernel(
        "sigmoid_exp2", "pointwise",
        """graph f(%x: f32[48, 100]) -> (%y) {
  %y = sigmoid(%x) : f32[48, 100]
}
""",
        """
@triton.jit
def f_kernel(x, o, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    v = tl.load(x + i, mask=i < n, other=0.0)
    tl.store(o + i, 1.0 / (1.0 + tl.exp2(v * -1.4426950408889634)), mask=i < n)


def f(x):
    o = torch.empty_like(x)
    f_kernel[(triton.cdiv(x.numel(), 256),)](x, o, x.numel(), BLOCK=256)
    return o
""",
        mutate=True,
    ),
    Kernel(
        "one_element", "pointwise",
        """graph f(%x: f32[1], %y: f32[1]) -> (%z) {
  %z = maximum(%x, %y) : f32[1]
}
""",
        """
@triton.jit
def f_kernel(x, y, o):
    tl.store(o, tl.maximum(tl.load(x), tl.load(y)))


def f(x, y):
    o = torch.empty_like(x)
    f_kernel[(1,)](x, y, o)
    return o
""",
    ),
    Kernel(
        "no_element", "pointwise",
        """graph f(%x: f32[0, 5]) -> (%y) {
  %y = exp(%x) : f32[0, 5]
}
""",
        """
@triton.jit
def f_kernel(x, o, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(o + i, tl.exp(tl.load(x + i, mask=i < n)), mask=i < n)


def f(x):
    o = torch.empty_like(x)
    if o.numel():
        f_kernel[(triton.cdiv(x.numel(), 64),)](x, o, x.numel(), BLOCK=64)
    return o
""",
    ),
    Kernel(
        "scalar_tensor", "pointwise",
        """graph f(%x: f32[70, 30], %s: f32[]) -> (%y) {
  %y = div(%x, %s) : f32[70, 30]
}
""",
        """
@triton.jit
def f_kernel(x, s, o, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(o + i, tl.load(x + i, mask=i < n, other=0.0) / tl.load(s), mask=i < n)


def f(x, s):
    o = torch.empty_like(x)
    f_kernel[(triton.cdiv(x.numel(), 64),)](x, s, o, x.numel(), BLOCK=64)
    return o
""",
    ),
    Kernel(
        "f16_polynomial", "pointwise",
        """graph f(%x: f16[64, 64]) -> (%y) {
  %s = square(%x) : f16[64, 64]
  %t = mul(%s, 0.5) : f16[64, 64]
  %y = sub(%x, %t) : f16[64, 64]
}
""",
        """
@triton.jit
def f_kernel(x, o, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    v = tl.load(x + i, mask=i < n, other=0.0).to(tl.float32)
    tl.store(o + i, (v - 0.5 * v * v).to(o.dtype.element_ty), mask=i < n)


def f(x):
    o = torch.empty_like(x)
    f_kernel[(triton.cdiv(x.numel(), 128),)](x, o, x.numel(), BLOCK=128)
    return o
""",
    ),
    Kernel(
        "three_dimensional_grid", "pointwise",
        """graph f(%x: f32[6, 20, 30], %y: f32[20, 30]) -> (%z) {
  %d = sub(%x, %y) : f32[6, 20, 30]
  %z = tanh(%d) : f32[6, 20, 30]
}
""",
        """
@triton.jit
def f_kernel(x, y, o, H, W, BH: tl.constexpr, BW: tl.constexpr):
    b = tl.program_id(2)
    h = tl.program_id(1) * BH + tl.arange(0, BH)[:, None]
    w = tl.program_id(0) * BW + tl.arange(0, BW)[None, :]
    m = (h < H) & (w < W)
    d = tl.load(x + b * H * W + h * W + w, mask=m, other=0.0) - tl.load(y + h * W + w, mask=m, other=0.0)
    tl.store(o + b * H * W + h * W + w, libdevice.tanh(d), mask=m)


def f(x, y):
    o = torch.empty_like(x)
    B, H, W = x.shape
    f_kernel[(triton.cdiv(W, 16), triton.cdiv(H, 8), B)](x, y, o, H, W, BH=8, BW=16)
    return o
""",
        mutate=True,
    ),
    Kernel(
        "device_function_called", "fused",
        """graph f(%x: f32[64, 130], %r: f32[64, 130]) -> (%y) {
  %a = hardswish(%x) : f32[64, 130]
  %y = add(%a, %r) : f32[64, 130]
}
""",
        """
@triton.jit
def f_hardswish(v):
    return v * tl.minimum(tl.maximum(v + 3.0, 0.0), 6.0) / 6.0


@triton.jit
def f_kernel(x, r, o, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    m = i < n
    tl.store(o + i, f_hardswish(tl.load(x + i, mask=m, other=0.0)) + tl.load(r + i, mask=m, other=0.0), mask=m)


def f(x, r):
    o = torch.empty_like(x)
    f_kernel[(triton.cdiv(x.numel(), 256),)](x, r, o, x.numel(), BLOCK=256)
    return o
""",
        mutate=True,
    ),
    Kernel(
        "where_masked_fill", "pointwise",
        """graph f(%x: f32[40, 90], %k: bool[40, 90]) -> (%y) {
  %e = exp(%x) : f32[40, 90]
  %y = masked_fill(%e, %k, -1.0) : f32[40, 90]
}
""",
        """
@triton.jit
def f_kernel(x, k, o, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    m = i < n
    hidden = tl.load(k + i, mask=m, other=0)
    v = tl.exp(tl.load(x + i, mask=m & (hidden == 0), other=0.0))
    tl.store(o + i, tl.where(hidden != 0, -1.0, v), mask=m)


def f(x, k):
    o = torch.empty_like(x)
    f_kernel[(triton.cdiv(x.numel(), 128),)](x, k, o, x.numel(), BLOCK=128)
    return o
""",
        mutate=True,
    ),
    Kernel(
        "float64", "pointwise",
        """graph f(%x: f64[30, 40], %y: f64[30, 40]) -> (%z) {
  %q = square(%x) : f64[30, 40]
  %z = add(%q, %y) : f64[30, 40]
}
""",
        """
@triton.jit
def f_kernel(x, y, o, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    v = tl.load(x + i, mask=i < n, other=0.0)
    tl.store(o + i, v * v + tl.load(y + i, mask=i < n, other=0.0), mask=i < n)


def f(x, y):
    o = torch.empty_like(x)
    f_kernel[(triton.cdiv(x.numel(), 128),)](x, y, o, x.numel(), BLOCK=128)
    return o
""",
    ),
)  # fmt: skip
