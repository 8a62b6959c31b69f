"""Kernels that are right, and ways to make them wrong, each with the gate and label that must stop it."""

from __future__ import annotations

import attrs


@attrs.frozen
class Subject:
    """A fragment and a right kernel for it."""

    name: str
    graph: str
    source: str
    precision: str = "strict"


@attrs.frozen
class Fault:
    """A change to a right kernel: text to replace, and where it must be caught."""

    name: str
    subject: str
    old: str
    new: str
    gate: str
    label: str
    says: str = ""


BIAS_GELU = Subject(
    "bias_gelu",
    """drt 1
graph f(%x: f32[1024, 1000], %b: f32[1000]) -> (%y) {
  %h = add(%x, %b) : f32[1024, 1000]
  %y = gelu(%h) {approximate = none} : f32[1024, 1000]
}
""",
    """
@triton.jit
def f_kernel(x, b, o, n, N, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    m = i < n
    v = tl.load(x + i, mask=m, other=0.0) + tl.load(b + i % N, mask=m, other=0.0)
    tl.store(o + i, 0.5 * v * (1.0 + tl.erf(v * 0.7071067811865476)), mask=m)


def f(x, b):
    o = torch.empty_like(x)
    f_kernel[(triton.cdiv(x.numel(), 1024),)](x, b, o, x.numel(), x.shape[1], BLOCK=1024)
    return o
""",
)

SOFTMAX = Subject(
    "softmax",
    """drt 1
graph f(%x: f32[1024, 4096]) -> (%y) {
  %y = softmax(%x) {axis = 1} : f32[1024, 4096]
}
""",
    """
@triton.jit
def f_kernel(x, o, N, BLOCK: tl.constexpr):
    r = tl.program_id(0)
    c = tl.arange(0, BLOCK)
    v = tl.load(x + r * N + c, mask=c < N, other=-float("inf")).to(tl.float32)
    e = tl.exp(v - tl.max(v, 0))
    tl.store(o + r * N + c, (e / tl.sum(e, 0)).to(o.dtype.element_ty), mask=c < N)


def f(x):
    o = torch.empty_like(x)
    f_kernel[(x.shape[0],)](x, o, x.shape[1], BLOCK=triton.next_power_of_2(x.shape[1]))
    return o
""",
)

SOFTMAX_BF16 = attrs.evolve(SOFTMAX, name="softmax_bf16", graph=SOFTMAX.graph.replace("f32", "bf16"))

ONLINE_SOFTMAX = Subject(
    "online_softmax",
    SOFTMAX.graph,
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
    for k in range(0, N, BLOCK):
        c = k + tl.arange(0, BLOCK)
        v = tl.load(x + r * N + c, mask=c < N, other=0.0)
        tl.store(o + r * N + c, tl.exp(v - m) / s, mask=c < N)


def f(x):
    o = torch.empty_like(x)
    f_kernel[(x.shape[0],)](x, o, x.shape[1], BLOCK=128)
    return o
""",
)

LAYER_NORM = Subject(
    "layer_norm",
    """drt 1
graph f(%x: f32[64, 512], %w: f32[512], %b: f32[512]) -> (%y) {
  %y = layer_norm(%x, %w, %b) {eps = 1e-05, normalized = [512]} : f32[64, 512]
}
""",
    """
@triton.jit
def f_kernel(x, w, b, o, N, BLOCK: tl.constexpr):
    r = tl.program_id(0)
    c = tl.arange(0, BLOCK)
    m = c < N
    v = tl.load(x + r * N + c, mask=m, other=0.0)
    mean = tl.sum(v, 0) / N
    d = tl.where(m, v - mean, 0.0)
    k = tl.rsqrt(tl.sum(d * d, 0) / N + 1e-5)
    tl.store(o + r * N + c, d * k * tl.load(w + c, mask=m, other=0.0) + tl.load(b + c, mask=m, other=0.0), mask=m)


def f(x, w, b):
    o = torch.empty_like(x)
    f_kernel[(x.shape[0],)](x, w, b, o, x.shape[1], BLOCK=triton.next_power_of_2(x.shape[1]))
    return o
""",
)

MATMUL = Subject(
    "linear_relu",
    """drt 1
graph f(%x: f32[1024, 1024], %w: f32[1024, 1024], %b: f32[1024]) -> (%y) {
  %h = linear(%x, %w, %b) : f32[1024, 1024]
  %y = relu(%h) : f32[1024, 1024]
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
    grid = (triton.cdiv(x.shape[0], 64), triton.cdiv(w.shape[0], 64))
    f_kernel[grid](x, w, b, o, x.shape[0], w.shape[0], x.shape[1], BM=64, BN=64, BK=32)
    return o
""",
)

MATMUL_TF32X3 = attrs.evolve(MATMUL, name="linear_relu_tf32x3", source=MATMUL.source.replace("ieee", "tf32x3"))
MATMUL_TF32 = attrs.evolve(
    MATMUL, name="linear_relu_tf32", source=MATMUL.source.replace("ieee", "tf32"), precision="tf32"
)

GATHER = Subject(
    "embedding",
    """drt 1
graph f(%w: f32[5000, 256], %i: i64[32, 100]) -> (%y) {
  %y = embedding(%w, %i) : f32[32, 100, 256]
}
""",
    """
@triton.jit
def f_kernel(w, i, o, n, D, BLOCK: tl.constexpr):
    t = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    m = t < n
    row = tl.load(i + t // D, mask=m, other=0)
    tl.store(o + t, tl.load(w + row * D + t % D, mask=m, other=0.0), mask=m)


def f(w, i):
    o = torch.empty((*i.shape, w.shape[1]), device=w.device, dtype=w.dtype)
    f_kernel[(triton.cdiv(o.numel(), 256),)](w, i, o, o.numel(), w.shape[1], BLOCK=256)
    return o
""",
)

AUTOTUNED = attrs.evolve(
    BIAS_GELU,
    name="autotuned",
    source=BIAS_GELU.source.replace(
        "@triton.jit\ndef f_kernel(",
        "@triton.autotune(configs=[triton.Config({'BLOCK': 64}), triton.Config({'BLOCK': 256})], key=['n'])\n"
        "@triton.jit\ndef f_kernel(",
    )
    .replace("(triton.cdiv(x.numel(), 1024),)", "lambda meta: (triton.cdiv(x.numel(), meta['BLOCK']),)")
    .replace(", BLOCK=1024", ""),
)

SUBJECTS = (
    BIAS_GELU, SOFTMAX, SOFTMAX_BF16, ONLINE_SOFTMAX, LAYER_NORM, MATMUL, MATMUL_TF32X3, MATMUL_TF32, GATHER, AUTOTUNED,
)  # fmt: skip

_BODY = "    o = torch.empty_like(x)\n"

FAULTS = (
    # memory
    Fault("mask one too far", "bias_gelu", "m = i < n", "m = i <= n", "memory", "oob_read", "tensor 'x'"),
    Fault("mask one too short", "bias_gelu", "m = i < n", "m = i < n - 1", "memory", "unwritten_output", "1 of"),
    Fault("no mask on k", "linear_relu", " & (k[None, :] < K)", "", "memory", "oob_read", "tensor 'x'"),
    Fault("load without other", "softmax", ', other=-float("inf"))', ")", "memory", "undefined_lanes", "mask"),
    Fault("half the grid", "bias_gelu", "(triton.cdiv(x.numel(), 1024),)", "(triton.cdiv(x.numel(), 2048),)",
          "memory", "unwritten_output"),
    Fault("programs race", "softmax", "tl.store(o + r * N + c, (e", "tl.store(o + c, (e", "memory", "race"),
    Fault("reads what nobody wrote", "bias_gelu", "tl.load(b + i % N", "tl.load(o + i", "memory", "uninitialized_read"),
    Fault("endless kernel loop", "online_softmax", "m = m2\n    for", "m = m2\n    while m == m:\n        s += 0\n    for",
          "memory", "timeout", "running the kernels"),
    # meaning
    Fault("coefficient", "bias_gelu", "0.7071067811865476", "0.707", "meaning", ""),
    Fault("other function", "bias_gelu", "(1.0 + tl.erf(v * 0.7071067811865476))",
          "(1.0 + tl.erf(v * 0.7071067811865476) * 0.999)", "meaning", "wrong_value", "expected"),
    Fault("a column left out", "online_softmax", "tl.sum(tl.exp(v - m2), 0)",
          "tl.sum(tl.where(c == N - 1, 0.0, tl.exp(v - m2)), 0)", "meaning", "wrong_value", "output 0 at index"),
    Fault("no maximum", "softmax", "tl.exp(v - tl.max(v, 0))", "tl.exp(v)", "meaning", "nonfinite"),
    Fault("epsilon", "layer_norm", "1e-5", "1e-6", "meaning", ""),
    Fault("bias subtracted", "layer_norm", "other=0.0) + tl.load(b", "other=0.0) - tl.load(b", "meaning", "wrong_value"),
    Fault("one k left out", "linear_relu", "range(0, K, BK)", "range(0, K - 1, BK)", "meaning", "wrong_value"),
    Fault("undeclared tf32", "linear_relu", '"ieee"', '"tf32"', "meaning", "wrong_value"),
    Fault("constant output", "softmax", "e / tl.sum(e, 0)", "tl.zeros_like(e) + 1.0 / N", "meaning", "wrong_value"),
    Fault("one wrong configuration", "autotuned", "v * 0.7071067811865476",
          "v * (0.7071067811865476 if BLOCK < 256 else 0.8)", "meaning", "", "configuration 1"),
    Fault("cached answer", "softmax", "def f(x):\n    o =", "f_seen = {}\n\n\ndef f(x):\n    if x.shape in f_seen:\n"
          "        return f_seen[x.shape].clone()\n    o = f_seen[x.shape] =", "trace", "no_kernel"),
    # trace
    Fault("input returned", "bias_gelu", "    return o", "    return x", "trace", "alias", "input"),
    Fault("input written", "bias_gelu", "tl.store(o + i,", "tl.store(x + i,", "trace", "input_write", "'x'"),
    Fault("input changed by PyTorch", "bias_gelu", _BODY, _BODY + "    x.add_(0.0)\n", "trace", "input_write", "add_"),
    Fault("wrong shape", "bias_gelu", "return o", "return o[:, :-1]", "trace", "shape", "expected [1024, 1000]"),
    Fault("wrong dtype", "bias_gelu", "return o", "return o.double()", "trace", "dtype", "float64"),
    Fault("wrong strides", "bias_gelu", "torch.empty_like(x)", "torch.empty((x.shape[1], x.shape[0]), device=x.device, dtype=x.dtype).t()", "trace", "stride"),
    Fault("two outputs", "bias_gelu", "return o", "return o, o", "trace", "n_outputs"),
    Fault("unused kernel", "bias_gelu", "return o", "return torch.nn.functional.gelu(x + b)", "trace", ""),
    Fault("no launch", "bias_gelu", "    f_kernel[", "    if False: f_kernel[", "trace", "no_kernel"),
    Fault("launcher raises", "bias_gelu", _BODY, _BODY + "    assert x.shape[0] < 100\n", "trace", "raises", "real sizes"),
    Fault("unknown option", "bias_gelu", "BLOCK=1024)", "BLOCK=1024, FAST=True)", "trace", "raises", "FAST"),
    Fault("grid too large", "bias_gelu", "(triton.cdiv(x.numel(), 1024),)", "(1, x.numel())", "trace", "raises", "grid"),
    Fault("endless launcher", "bias_gelu", _BODY, _BODY + "    while True:\n        pass\n", "trace", "timeout"),
    # policy
    Fault("fallback", "bias_gelu", "    return o", "    try:\n        return o\n    except Exception:\n        return x",
          "policy", "fallback", "line"),
    Fault("another compiler", "bias_gelu", "return o", "return torch.compile(torch.relu)(o)", "policy", "attribute"),
    Fault("leaves at once", "bias_gelu", "def f(x, b):", "import os\nos._exit(0)\n\n\ndef f(x, b):", "policy", "import"),
    Fault("reads frames", "bias_gelu", "return o", "return eval('o')", "policy", "name"),
    Fault("address", "bias_gelu", _BODY, _BODY + "    p = x.data_ptr()\n", "policy", "attribute"),
    Fault("patches torch", "bias_gelu", _BODY, _BODY + "    torch.allclose = max\n", "policy", "patch"),
    Fault("flags", "bias_gelu", _BODY, _BODY + "    torch.backends.cuda.matmul.allow_tf32 = True\n", "policy", ""),
    Fault("not Python", "bias_gelu", "return o", "return o)", "policy", "syntax"),
    Fault("other name", "bias_gelu", "def f(x, b):", "def g(x, b):", "policy", "entry"),
)  # fmt: skip
