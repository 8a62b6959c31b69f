"""Right kernels: matrix products and attention, by one schedule and by another."""

from __future__ import annotations

from ..kernels import Kernel


def _matmul(dtype: str, m: int, n: int, k: int) -> str:
    return f"""graph f(%a: {dtype}[{m}, {k}], %b: {dtype}[{k}, {n}]) -> (%y) {{
  %y = matmul(%a, %b) : {dtype}[{m}, {n}]
}}
"""


_TILED = """
@triton.jit
def f_kernel(a, b, o, M, N, K, sam, sak, sbk, sbn, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    acc = tl.zeros((BM, BN), dtype=tl.float32)
    for k0 in range(0, K, BK):
        k = k0 + tl.arange(0, BK)
        p = tl.load(a + m[:, None] * sam + k[None, :] * sak, mask=(m[:, None] < M) & (k[None, :] < K), other=0.0)
        q = tl.load(b + k[:, None] * sbk + n[None, :] * sbn, mask=(k[:, None] < K) & (n[None, :] < N), other=0.0)
        acc = tl.dot(p, q, acc, input_precision="ieee")
    tl.store(o + m[:, None] * N + n[None, :], acc.to(o.dtype.element_ty), mask=(m[:, None] < M) & (n[None, :] < N))


def f(a, b):
    M, K = a.shape
    N = b.shape[1]
    o = torch.empty((M, N), device=a.device, dtype=a.dtype)
    grid = (triton.cdiv(M, 32), triton.cdiv(N, 32))
    f_kernel[grid](a, b, o, M, N, K, a.stride(0), a.stride(1), b.stride(0), b.stride(1), BM=32, BN=32, BK=32)
    return o
"""

_ATTENTION = """graph f(%q: f32[2, 3, 70, 32], %k: f32[2, 3, 90, 32], %v: f32[2, 3, 90, 32]) -> (%y) {
  %y = scaled_dot_product_attention(%q, %k, %v, None) : f32[2, 3, 70, 32]
}
"""

PRODUCTS = (
    Kernel("matmul_f32", "gemm", _matmul("f32", 96, 80, 64), _TILED, mutate=True),
    Kernel("matmul_bf16", "gemm", _matmul("bf16", 96, 80, 128), _TILED, mutate=True),
    Kernel("matmul_f16", "gemm", _matmul("f16", 64, 64, 96), _TILED),
    Kernel("matmul_tf32_declared", "gemm", _matmul("f32", 64, 64, 96), _TILED.replace('"ieee"', '"tf32"'), "tf32"),
    Kernel("matmul_tf32x3", "gemm", _matmul("f32", 64, 64, 96), _TILED.replace('"ieee"', '"tf32x3"')),
    Kernel("matmul_ieee_where_tf32_is_declared", "gemm", _matmul("f32", 64, 64, 96), _TILED, "tf32"),
    Kernel(
        "matmul_grouped_order", "gemm", _matmul("f32", 96, 96, 64),
        """
@triton.jit
def f_kernel(a, b, o, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr):
    pid = tl.program_id(0)
    n_m, n_n = tl.cdiv(M, BM), tl.cdiv(N, BN)
    width = GROUP * n_n
    first = pid // width * GROUP
    height = min(n_m - first, GROUP)
    m = (first + pid % width % height) * BM + tl.arange(0, BM)
    n = pid % width // height * BN + tl.arange(0, BN)
    pa = a + (m[:, None] % M) * K + tl.arange(0, BK)[None, :]
    pb = b + tl.arange(0, BK)[:, None] * N + (n[None, :] % N)
    acc = tl.zeros((BM, BN), dtype=tl.float32)
    for i in range(0, tl.cdiv(K, BK)):
        left = K - i * BK
        p = tl.load(pa, mask=tl.arange(0, BK)[None, :] < left, other=0.0)
        q = tl.load(pb, mask=tl.arange(0, BK)[:, None] < left, other=0.0)
        acc += tl.dot(p, q, input_precision="ieee")
        pa += BK
        pb += BK * N
    tl.store(o + m[:, None] * N + n[None, :], acc, mask=(m[:, None] < M) & (n[None, :] < N))


def f(a, b):
    M, K = a.shape
    N = b.shape[1]
    o = torch.empty((M, N), device=a.device, dtype=a.dtype)
    f_kernel[(triton.cdiv(M, 16) * triton.cdiv(N, 16),)](a, b, o, M, N, K, BM=16, BN=16, BK=32, GROUP=3)
    return o
""",
        mutate=True,
    ),
    Kernel(
        "matmul_persistent", "gemm", _matmul("f32", 80, 96, 64),
        """
@triton.jit
def f_kernel(a, b, o, M, N, K, P: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    n_n = tl.cdiv(N, BN)
    for t in range(tl.program_id(0), tl.cdiv(M, BM) * n_n, P):
        m = t // n_n * BM + tl.arange(0, BM)
        n = t % n_n * BN + tl.arange(0, BN)
        acc = tl.zeros((BM, BN), dtype=tl.float32)
        for k0 in range(0, K, BK):
            k = k0 + tl.arange(0, BK)
            p = tl.load(a + m[:, None] * K + k[None, :], mask=(m[:, None] < M) & (k[None, :] < K), other=0.0)
            q = tl.load(b + k[:, None] * N + n[None, :], mask=(k[:, None] < K) & (n[None, :] < N), other=0.0)
            acc = tl.dot(p, q, acc, input_precision="ieee")
        tl.store(o + m[:, None] * N + n[None, :], acc, mask=(m[:, None] < M) & (n[None, :] < N))


def f(a, b):
    M, K = a.shape
    N = b.shape[1]
    o = torch.empty((M, N), device=a.device, dtype=a.dtype)
    f_kernel[(4,)](a, b, o, M, N, K, P=4, BM=16, BN=32, BK=16)
    return o
""",
        mutate=True,
    ),
    Kernel(
        "matmul_split_k_atomic", "gemm", _matmul("f32", 48, 48, 256),
        """
@triton.jit
def f_kernel(a, b, o, M, N, K, S: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    acc = tl.zeros((BM, BN), dtype=tl.float32)
    for k0 in range(tl.program_id(2) * BK, K, S * BK):
        k = k0 + tl.arange(0, BK)
        p = tl.load(a + m[:, None] * K + k[None, :], mask=(m[:, None] < M) & (k[None, :] < K), other=0.0)
        q = tl.load(b + k[:, None] * N + n[None, :], mask=(k[:, None] < K) & (n[None, :] < N), other=0.0)
        acc = tl.dot(p, q, acc, input_precision="ieee")
    tl.atomic_add(o + m[:, None] * N + n[None, :], acc, mask=(m[:, None] < M) & (n[None, :] < N))


def f(a, b):
    M, K = a.shape
    N = b.shape[1]
    o = torch.zeros((M, N), device=a.device, dtype=a.dtype)
    f_kernel[(triton.cdiv(M, 16), triton.cdiv(N, 16), 2)](a, b, o, M, N, K, S=2, BM=16, BN=16, BK=16)
    return o
""",
        mutate=True,
    ),
    Kernel(
        "matmul_split_k_two_kernels", "gemm", _matmul("bf16", 48, 48, 256),
        """
@triton.jit
def f_parts(a, b, w, M, N, K, S: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    s = tl.program_id(2)
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    acc = tl.zeros((BM, BN), dtype=tl.float32)
    for k0 in range(s * BK, K, S * BK):
        k = k0 + tl.arange(0, BK)
        p = tl.load(a + m[:, None] * K + k[None, :], mask=(m[:, None] < M) & (k[None, :] < K), other=0.0)
        q = tl.load(b + k[:, None] * N + n[None, :], mask=(k[:, None] < K) & (n[None, :] < N), other=0.0)
        acc = tl.dot(p, q, acc)
    tl.store(w + s * M * N + m[:, None] * N + n[None, :], acc, mask=(m[:, None] < M) & (n[None, :] < N))


@triton.jit
def f_join(w, o, n, S: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    acc = tl.zeros((BLOCK,), tl.float32)
    for s in range(S):
        acc += tl.load(w + s * n + i, mask=i < n, other=0.0)
    tl.store(o + i, acc.to(tl.bfloat16), mask=i < n)


def f(a, b):
    M, K = a.shape
    N = b.shape[1]
    w = torch.empty((2, M, N), device=a.device, dtype=torch.float32)
    o = torch.empty((M, N), device=a.device, dtype=a.dtype)
    f_parts[(triton.cdiv(M, 16), triton.cdiv(N, 16), 2)](a, b, w, M, N, K, S=2, BM=16, BN=16, BK=16)
    f_join[(triton.cdiv(M * N, 256),)](w, o, M * N, S=2, BLOCK=256)
    return o
""",
        mutate=True,
    ),
    Kernel(
        "matmul_descriptors", "gemm", _matmul("f16", 64, 64, 96),
        """
@triton.jit
def f_kernel(a, b, o, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    da = tl.make_tensor_descriptor(a, shape=[M, K], strides=[K, 1], block_shape=[BM, BK])
    db = tl.make_tensor_descriptor(b, shape=[K, N], strides=[N, 1], block_shape=[BK, BN])
    do = tl.make_tensor_descriptor(o, shape=[M, N], strides=[N, 1], block_shape=[BM, BN])
    m, n = tl.program_id(0) * BM, tl.program_id(1) * BN
    acc = tl.zeros((BM, BN), dtype=tl.float32)
    for k in range(0, K, BK):
        acc = tl.dot(da.load([m, k]), db.load([k, n]), acc)
    do.store([m, n], acc.to(tl.float16))


def f(a, b):
    M, K = a.shape
    N = b.shape[1]
    o = torch.empty((M, N), device=a.device, dtype=a.dtype)
    triton.set_allocator(lambda size, align, stream: torch.empty(size, device=a.device, dtype=torch.int8))
    f_kernel[(triton.cdiv(M, 32), triton.cdiv(N, 32))](a, b, o, M, N, K, BM=32, BN=32, BK=32)
    return o
""",
        pinned=(("a", 0), ("a", 1), ("b", 1)),
    ),
    Kernel(
        "batched_matmul", "gemm",
        """graph f(%a: f32[5, 33, 40], %b: f32[5, 40, 34]) -> (%y) {
  %y = matmul(%a, %b) : f32[5, 33, 34]
}
""",
        """
@triton.jit
def f_kernel(a, b, o, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    z = tl.program_id(2)
    m = tl.program_id(0) * BM + tl.arange(0, BM)[:, None]
    n = tl.program_id(1) * BN + tl.arange(0, BN)[None, :]
    acc = tl.zeros((BM, BN), dtype=tl.float32)
    for k0 in range(0, K, BK):
        k = k0 + tl.arange(0, BK)
        p = tl.load(a + z * M * K + m * K + k[None, :], mask=(m < M) & (k[None, :] < K), other=0.0)
        q = tl.load(b + z * K * N + k[:, None] * N + n, mask=(k[:, None] < K) & (n < N), other=0.0)
        acc = tl.dot(p, q, acc, input_precision="ieee")
    tl.store(o + z * M * N + m * N + n, acc, mask=(m < M) & (n < N))


def f(a, b):
    Z, M, K = a.shape
    N = b.shape[2]
    o = torch.empty((Z, M, N), device=a.device, dtype=a.dtype)
    f_kernel[(triton.cdiv(M, 16), triton.cdiv(N, 16), Z)](a, b, o, M, N, K, BM=16, BN=16, BK=16)
    return o
""",
        mutate=True,
    ),
    Kernel(
        "matrix_vector", "gemm",
        """graph f(%a: f32[70, 300], %x: f32[300]) -> (%y) {
  %y = mv(%a, %x) : f32[70]
}
""",
        """
@triton.jit
def f_kernel(a, x, o, M, N, BM: tl.constexpr, BN: tl.constexpr):
    r = tl.program_id(0) * BM + tl.arange(0, BM)
    acc = tl.zeros((BM,), tl.float32)
    for k in range(0, N, BN):
        c = k + tl.arange(0, BN)
        v = tl.load(a + r[:, None] * N + c[None, :], mask=(r[:, None] < M) & (c[None, :] < N), other=0.0)
        acc += tl.sum(v * tl.load(x + c, mask=c < N, other=0.0)[None, :], 1)
    tl.store(o + r, acc, mask=r < M)


def f(a, x):
    o = torch.empty(a.shape[0], device=a.device, dtype=a.dtype)
    f_kernel[(triton.cdiv(a.shape[0], 16),)](a, x, o, a.shape[0], a.shape[1], BM=16, BN=64)
    return o
""",
        mutate=True,
    ),
    Kernel(
        "outer_products_without_dot", "gemm", _matmul("f32", 20, 24, 12),
        """
@triton.jit
def f_kernel(a, b, o, M, N, K, BM: tl.constexpr, BN: tl.constexpr):
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    acc = tl.zeros((BM, BN), dtype=tl.float32)
    for k in range(K):
        p = tl.load(a + m * K + k, mask=m < M, other=0.0)
        q = tl.load(b + k * N + n, mask=n < N, other=0.0)
        acc += p[:, None] * q[None, :]
    tl.store(o + m[:, None] * N + n[None, :], acc, mask=(m[:, None] < M) & (n[None, :] < N))


def f(a, b):
    o = torch.empty((a.shape[0], b.shape[1]), device=a.device, dtype=a.dtype)
    grid = (triton.cdiv(a.shape[0], 16), triton.cdiv(b.shape[1], 8))
    f_kernel[grid](a, b, o, a.shape[0], b.shape[1], a.shape[1], BM=16, BN=8)
    return o
""",
    ),
    Kernel(
        "addmm_scaled", "gemm",
        """graph f(%c: f32[40], %a: f32[50, 60], %b: f32[60, 40]) -> (%y) {
  %y = addmm(%c, %a, %b) {beta = 0.5, alpha = 2.0} : f32[50, 40]
}
""",
        _TILED.replace("a, b, o, M", "c, a, b, o, M").replace("def f(a, b)", "def f(c, a, b)")
        .replace("    tl.store(", "    acc = 2.0 * acc + 0.5 * tl.load(c + n, mask=n < N, other=0.0)[None, :]\n    tl.store("),
        mutate=True,
    ),
    Kernel(
        "mlp_gelu_norm", "fused",
        """graph f(%x: f32[40, 48], %w: f32[64, 48], %b: f32[64], %g: f32[64], %s: f32[64]) -> (%y) {
  %h = linear(%x, %w, %b) : f32[40, 64]
  %a = gelu(%h) {approximate = none} : f32[40, 64]
  %y = layer_norm(%a, %g, %s) {normalized = [64], eps = 1e-05} : f32[40, 64]
}
""",
        """
@triton.jit
def f_linear(x, w, b, h, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    acc = tl.zeros((BM, BN), dtype=tl.float32)
    for k0 in range(0, K, BK):
        k = k0 + tl.arange(0, BK)
        p = tl.load(x + m[:, None] * K + k[None, :], mask=(m[:, None] < M) & (k[None, :] < K), other=0.0)
        q = tl.load(w + n[None, :] * K + k[:, None], mask=(n[None, :] < N) & (k[:, None] < K), other=0.0)
        acc = tl.dot(p, q, acc, input_precision="ieee")
    v = acc + tl.load(b + n, mask=n < N, other=0.0)[None, :]
    v = 0.5 * v * (1.0 + tl.erf(v * 0.7071067811865476))
    tl.store(h + m[:, None] * N + n[None, :], v, mask=(m[:, None] < M) & (n[None, :] < N))


@triton.jit
def f_norm(h, g, s, o, N, BLOCK: tl.constexpr):
    r = tl.program_id(0)
    c = tl.arange(0, BLOCK)
    v = tl.load(h + r * N + c, mask=c < N, other=0.0)
    d = tl.where(c < N, v - tl.sum(v, 0) / N, 0.0)
    k = tl.rsqrt(tl.sum(d * d, 0) / N + 1e-5)
    tl.store(o + r * N + c, d * k * tl.load(g + c, mask=c < N, other=0.0) + tl.load(s + c, mask=c < N, other=0.0),
             mask=c < N)


def f(x, w, b, g, s):
    M, K = x.shape
    N = w.shape[0]
    h = torch.empty((M, N), device=x.device, dtype=x.dtype)
    o = torch.empty_like(h)
    f_linear[(triton.cdiv(M, 16), triton.cdiv(N, 32))](x, w, b, h, M, N, K, BM=16, BN=32, BK=16)
    f_norm[(M,)](h, g, s, o, N, BLOCK=triton.next_power_of_2(N))
    return o
""",
        mutate=True,
    ),
    Kernel(
        "gated_linear", "fused",
        """graph f(%x: bf16[40, 64], %w: bf16[48, 64], %v: bf16[48, 64]) -> (%y) {
  %g = linear(%x, %w, None) : bf16[40, 48]
  %u = linear(%x, %v, None) : bf16[40, 48]
  %s = silu(%g) : bf16[40, 48]
  %y = mul(%s, %u) : bf16[40, 48]
}
""",
        """
@triton.jit
def f_kernel(x, w, v, o, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    g = tl.zeros((BM, BN), dtype=tl.float32)
    u = tl.zeros((BM, BN), dtype=tl.float32)
    for k0 in range(0, K, BK):
        k = k0 + tl.arange(0, BK)
        p = tl.load(x + m[:, None] * K + k[None, :], mask=(m[:, None] < M) & (k[None, :] < K), other=0.0)
        at = n[None, :] * K + k[:, None]
        inside = (n[None, :] < N) & (k[:, None] < K)
        g = tl.dot(p, tl.load(w + at, mask=inside, other=0.0), g)
        u = tl.dot(p, tl.load(v + at, mask=inside, other=0.0), u)
    y = g * tl.sigmoid(g) * u
    tl.store(o + m[:, None] * N + n[None, :], y.to(tl.bfloat16), mask=(m[:, None] < M) & (n[None, :] < N))


def f(x, w, v):
    M, K = x.shape
    N = w.shape[0]
    o = torch.empty((M, N), device=x.device, dtype=x.dtype)
    f_kernel[(triton.cdiv(M, 16), triton.cdiv(N, 16))](x, w, v, o, M, N, K, BM=16, BN=16, BK=32)
    return o
""",
        mutate=True,
    ),
    Kernel(
        "flash_attention", "attention", _ATTENTION,
        """
@triton.jit
def f_kernel(q, k, v, o, L, S, scale, D: tl.constexpr, BL: tl.constexpr, BS: tl.constexpr):
    z = tl.program_id(1)
    l = tl.program_id(0) * BL + tl.arange(0, BL)
    d = tl.arange(0, D)
    x = tl.load(q + z * L * D + l[:, None] * D + d[None, :], mask=l[:, None] < L, other=0.0) * (scale * 1.4426950408889634)
    top = tl.full((BL,), -float("inf"), tl.float32)
    total = tl.zeros((BL,), tl.float32)
    acc = tl.zeros((BL, D), tl.float32)
    for s0 in range(0, S, BS):
        s = s0 + tl.arange(0, BS)
        y = tl.load(k + z * S * D + s[None, :] * D + d[:, None], mask=s[None, :] < S, other=0.0)
        w = tl.where(s[None, :] < S, tl.dot(x, y, input_precision="ieee"), -float("inf"))
        new = tl.maximum(top, tl.max(w, 1))
        p = tl.exp2(w - new[:, None])
        fade = tl.exp2(top - new)
        u = tl.load(v + z * S * D + s[:, None] * D + d[None, :], mask=s[:, None] < S, other=0.0)
        acc = tl.dot(p, u, acc * fade[:, None], input_precision="ieee")
        total = total * fade + tl.sum(p, 1)
        top = new
    tl.store(o + z * L * D + l[:, None] * D + d[None, :], acc / total[:, None], mask=l[:, None] < L)


def f(q, k, v):
    B, H, L, D = q.shape
    o = torch.empty_like(q)
    f_kernel[(triton.cdiv(L, 16), B * H)](q, k, v, o, L, k.shape[2], D**-0.5, D=D, BL=16, BS=32)
    return o
""",
        mutate=True, pinned=(("q", 3), ("k", 3), ("v", 3)),
    ),
    Kernel(
        "flash_attention_causal", "attention",
        """graph f(%q: bf16[1, 4, 80, 32], %k: bf16[1, 4, 80, 32], %v: bf16[1, 4, 80, 32]) -> (%y) {
  %y = scaled_dot_product_attention(%q, %k, %v, None) {causal = True} : bf16[1, 4, 80, 32]
}
""",
        """
@triton.jit
def f_kernel(q, k, v, o, L, S, scale, D: tl.constexpr, BL: tl.constexpr, BS: tl.constexpr):
    z = tl.program_id(1)
    l = tl.program_id(0) * BL + tl.arange(0, BL)
    d = tl.arange(0, D)
    x = tl.load(q + z * L * D + l[:, None] * D + d[None, :], mask=l[:, None] < L, other=0.0)
    top = tl.full((BL,), -float("inf"), tl.float32)
    total = tl.zeros((BL,), tl.float32)
    acc = tl.zeros((BL, D), tl.float32)
    for s0 in range(0, tl.minimum((tl.program_id(0) + 1) * BL, S), BS):
        s = s0 + tl.arange(0, BS)
        y = tl.load(k + z * S * D + s[None, :] * D + d[:, None], mask=s[None, :] < S, other=0.0)
        w = tl.where((s[None, :] <= l[:, None]) & (s[None, :] < S), tl.dot(x, y) * scale, -float("inf"))
        new = tl.maximum(top, tl.max(w, 1))
        p = tl.exp(w - new[:, None])
        fade = tl.exp(top - new)
        u = tl.load(v + z * S * D + s[:, None] * D + d[None, :], mask=s[:, None] < S, other=0.0)
        acc = tl.dot(p.to(tl.bfloat16), u, acc * fade[:, None])
        total = total * fade + tl.sum(p, 1)
        top = new
    y = acc / total[:, None]
    tl.store(o + z * L * D + l[:, None] * D + d[None, :], y.to(tl.bfloat16), mask=l[:, None] < L)


def f(q, k, v):
    B, H, L, D = q.shape
    o = torch.empty_like(q)
    f_kernel[(triton.cdiv(L, 16), B * H)](q, k, v, o, L, k.shape[2], D**-0.5, D=D, BL=16, BS=16)
    return o
""",
        mutate=True, pinned=(("q", 3), ("k", 3), ("v", 3)),
    ),
    Kernel(
        "attention_rows", "attention", _ATTENTION,
        """
@triton.jit
def f_kernel(q, k, v, o, L, S, scale, D: tl.constexpr, BS: tl.constexpr):
    l, z = tl.program_id(0), tl.program_id(1)
    d = tl.arange(0, D)
    s = tl.arange(0, BS)
    x = tl.load(q + z * L * D + l * D + d)
    y = tl.load(k + z * S * D + s[:, None] * D + d[None, :], mask=s[:, None] < S, other=0.0)
    w = tl.where(s < S, tl.sum(x[None, :] * y, 1) * scale, -float("inf"))
    p = tl.exp(w - tl.max(w, 0))
    u = tl.load(v + z * S * D + s[:, None] * D + d[None, :], mask=s[:, None] < S, other=0.0)
    tl.store(o + z * L * D + l * D + d, tl.sum(p[:, None] * u, 0) / tl.sum(p, 0))


def f(q, k, v):
    B, H, L, D = q.shape
    S = k.shape[2]
    o = torch.empty_like(q)
    f_kernel[(L, B * H)](q, k, v, o, L, S, D**-0.5, D=D, BS=triton.next_power_of_2(S))
    return o
""",
        pinned=(("q", 3), ("k", 3), ("v", 3)),
    ),
)  # fmt: skip
