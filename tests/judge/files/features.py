"""Files that use one uncommon part of the language each: sorting, joining, scans of pairs, bits, atomics, strides."""

from __future__ import annotations

from .pair import Fault, Pair, fault


def _pair(
    name: str, kind: str, inputs: str, names: str, result: str, kernels: str, launch: str, *faults: Fault
) -> Pair:
    """Return a pair whose reference is one expression and whose model has no parameters.

    Args:
        inputs: text of the list that ``get_inputs`` returns.
        names: of the arguments.
        result: what the reference returns.
        launch: the body of the right model's ``forward``.
    """
    reference = (
        f"\nclass Model(nn.Module):\n    def forward(self, {names}):\n        return {result}\n\n\n"
        f"def get_inputs():\n    return [{inputs}]\n\n\ndef get_init_inputs():\n    return []\n"
    )
    body = "".join(f"        {line}\n" for line in launch.strip().splitlines())
    source = f"{kernels}\n\nclass ModelNew(nn.Module):\n    def forward(self, {names}):\n{body}"
    return Pair(name, kind, reference, source, faults)


FEATURES = (
    _pair(
        "sort_rows", "scan", "torch.randn(5, 32)", "x", "torch.sort(x, dim=-1, descending=True).values",
        """
@triton.jit
def k(x, o, N: tl.constexpr):
    i = tl.program_id(0) * N + tl.arange(0, N)
    tl.store(o + i, tl.sort(tl.load(x + i), descending=True))
""",
        "o = torch.empty_like(x)\nk[(x.shape[0],)](x, o, N=x.shape[1])\nreturn o",
        fault("ascending", "the other order", ", descending=True", ""),
    ),
    _pair(
        "topk_rows", "scan", "torch.randn(6, 64)", "x", "torch.topk(x, 4, dim=1).values",
        """
@triton.jit
def k(x, o, N: tl.constexpr, K: tl.constexpr):
    r = tl.program_id(0)
    v = tl.load(x + r * N + tl.arange(0, N))
    tl.store(o + r * K + tl.arange(0, K), tl.topk(v, K))
""",
        "o = torch.empty((x.shape[0], 4), device=x.device, dtype=x.dtype)\nk[(x.shape[0],)](x, o, N=64, K=4)\nreturn o",
    ),
    _pair(
        "histogram_counts", "reduction", "torch.randint(0, 16, (200,))", "x", "torch.bincount(x, minlength=16)",
        """
@triton.jit
def k(x, o, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    m = i < n
    v = tl.load(x + i, mask=m, other=0).to(tl.int32)
    h = tl.histogram(v, 16, mask=m)
    tl.atomic_add(o + tl.arange(0, 16), h.to(tl.int64))
""",
        "o = torch.zeros(16, device=x.device, dtype=torch.int64)\nk[(triton.cdiv(x.numel(), 64),)](x, o, x.numel(), BLOCK=64)\nreturn o",
        fault("padding_counts", "lanes past the end count as zeros", "tl.histogram(v, 16, mask=m)", "tl.histogram(v, 16)"),
        fault("store", "the last block's counts", "tl.atomic_add(", "tl.store("),
    ),
    _pair(
        "histogram_of_a_padded_bin", "reduction", "torch.randint(0, 16, (100,))", "x", "torch.bincount(x, minlength=16).float() / x.numel()",
        """
@triton.jit
def k(x, o, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    v = tl.load(x + i, mask=i < n, other=16).to(tl.int32)
    h = tl.histogram(v, 32)
    b = tl.arange(0, 32)
    tl.store(o + b, h.to(tl.float32) / n, mask=b < 16)
""",
        "o = torch.empty(16, device=x.device, dtype=torch.float32)\nk[(1,)](x, o, x.numel(), BLOCK=128)\nreturn o",
        fault("padded_size", "the share of the padded size", "/ n, mask", "/ BLOCK, mask"),
    ),
    _pair(
        "gather_in_registers", "gather", "torch.randn(8, 16), torch.randint(0, 16, (8, 16))", "x, i", "torch.gather(x, 1, i)",
        """
@triton.jit
def k(x, i, o, N: tl.constexpr):
    at = tl.program_id(0) * N + tl.arange(0, N)
    tl.store(o + at, tl.gather(tl.load(x + at), tl.load(i + at).to(tl.int32), 0))
""",
        "o = torch.empty_like(x)\nk[(x.shape[0],)](x, i, o, N=16)\nreturn o",
    ),
    _pair(
        "join_and_split", "move", "torch.randn(12, 40)", "x",
        "torch.stack([x[:, ::2] - x[:, 1::2], x[:, ::2] + x[:, 1::2]], -1).reshape(x.shape)",
        """
@triton.jit
def k(x, o, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    v = tl.load(x + i, mask=i < n, other=0.0)
    a, b = tl.split(tl.reshape(v, (BLOCK // 2, 2)))
    tl.store(o + i, tl.interleave(a - b, a + b), mask=i < n)
""",
        "o = torch.empty_like(x)\nk[(triton.cdiv(x.numel(), 64),)](x, o, x.numel(), BLOCK=64)\nreturn o",
        fault("order", "the order of the pair", "tl.interleave(a - b, a + b)", "tl.interleave(a + b, a - b)"),
        fault("joined_flat", "the halves one after the other", "tl.interleave(a - b, a + b)", "tl.reshape(tl.trans(tl.join(a - b, a + b)), (BLOCK,))"),
    ),
    _pair(
        "flip_and_trans", "move", "torch.randn(16, 32)", "x", "x.t().flip(1).contiguous()",
        """
@triton.jit
def k(x, o, M: tl.constexpr, N: tl.constexpr):
    m, n = tl.arange(0, M), tl.arange(0, N)
    v = tl.load(x + m[:, None] * N + n[None, :])
    tl.store(o + n[:, None] * M + m[None, :], tl.flip(tl.trans(v), 1))
""",
        "o = torch.empty((x.shape[1], x.shape[0]), device=x.device, dtype=x.dtype)\nk[(1,)](x, o, M=16, N=32)\nreturn o",
        fault("other_axis", "the other axis", "tl.flip(tl.trans(v), 1)", "tl.flip(tl.trans(v), 0)"),
    ),
    _pair(
        "while_loop_bisection", "pointwise", "torch.rand(130) * 50 + 0.5", "x", "torch.sqrt(x)",
        """
@triton.jit
def k(x, o, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    v = tl.load(x + i, mask=i < n, other=1.0)
    y = tl.where(v > 1, v, 1.0)
    step = 0
    while step < 40:
        y = tl.where(v > 0, 0.5 * (y + v / y), 0.0 * y + 1.0)
        step += 1
    y = tl.where(v > 0, y, tl.where(v == 0, 0.0, float("nan")))
    tl.store(o + i, y, mask=i < n)
""",
        "o = torch.empty_like(x)\nk[(triton.cdiv(x.numel(), 64),)](x, o, x.numel(), BLOCK=64)\nreturn o",
        fault("too_few_steps", "three steps", "while step < 40", "while step < 3"),
    ),
    _pair(
        "bit_tricks_abs_sign", "pointwise", "torch.randn(7, 50)", "x", "torch.abs(x)",
        """
@triton.jit
def k(x, o, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    bits = tl.load(x + i, mask=i < n, other=0.0).to(tl.int32, bitcast=True)
    tl.store(o + i, (bits & 0x7FFFFFFF).to(tl.float32, bitcast=True), mask=i < n)
""",
        "o = torch.empty_like(x)\nk[(triton.cdiv(x.numel(), 128),)](x, o, x.numel(), BLOCK=128)\nreturn o",
        fault("mask_of_bits", "the highest bit of the exponent too", "0x7FFFFFFF", "0x3FFFFFFF"),
    ),
    _pair(
        "popcount_of_int64", "pointwise", "torch.randint(0, 2**40, (90,))", "x", "sum((x >> b) & 1 for b in range(41))",
        """
@triton.jit
def k(x, o, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    v = tl.load(x + i, mask=i < n, other=0)
    c = tl.zeros((BLOCK,), tl.int64)
    for b in tl.static_range(41):
        c += (v >> b) & 1
    tl.store(o + i, c, mask=i < n)
""",
        "o = torch.empty_like(x)\nk[(triton.cdiv(x.numel(), 32),)](x, o, x.numel(), BLOCK=32)\nreturn o",
        fault("int32", "the lower 32 bits", "tl.load(x + i, mask=i < n, other=0)\n", "tl.load(x + i, mask=i < n, other=0).to(tl.int32).to(tl.int64)\n"),
    ),
    _pair(
        "int8_quantised_linear", "gemm", "torch.randint(-128, 128, (20, 64), dtype=torch.int8), torch.randint(-128, 128, (64, 24), dtype=torch.int8), torch.rand(24)",
        "a, b, s", "(a.int().float() @ b.int().float()) * s",
        """
@triton.jit
def k(a, b, s, o, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    acc = tl.zeros((BM, BN), tl.int32)
    for k0 in range(0, K, BK):
        kk = k0 + tl.arange(0, BK)
        x = tl.load(a + m[:, None] * K + kk[None, :], mask=(m[:, None] < M) & (kk[None, :] < K), other=0)
        y = tl.load(b + kk[:, None] * N + n[None, :], mask=(kk[:, None] < K) & (n[None, :] < N), other=0)
        acc += tl.dot(x, y, out_dtype=tl.int32)
    scale = tl.load(s + n, mask=n < N, other=0.0)
    tl.store(o + m[:, None] * N + n[None, :], acc.to(tl.float32) * scale[None, :], mask=(m[:, None] < M) & (n[None, :] < N))
""",
        "M, K = a.shape\nN = b.shape[1]\no = torch.empty((M, N), device=a.device, dtype=torch.float32)\n"
        "k[(triton.cdiv(M, 16), triton.cdiv(N, 16))](a, b, s, o, M, N, K, BM=16, BN=16, BK=32)\nreturn o",
        fault("scale_by_rows", "the scale along the rows", "scale[None, :]", "scale[:, None]"),
        fault("int8_sums", "sums in eight bits", "acc = tl.zeros((BM, BN), tl.int32)", "acc = tl.zeros((BM, BN), tl.int8)", "acc += tl.dot(x, y, out_dtype=tl.int32)", "acc += tl.dot(x, y, out_dtype=tl.int32).to(tl.int8)"),
    ),
    _pair(
        "logical_any_of_bool", "reduction", "torch.rand(9, 70) > 0.97", "x", "x.any(dim=1)",
        """
@triton.jit
def f_or(a, b):
    return a | b


@triton.jit
def k(x, o, N, BLOCK: tl.constexpr):
    r = tl.program_id(0)
    c = tl.arange(0, BLOCK)
    v = tl.load(x + r * N + c, mask=c < N, other=0).to(tl.int32)
    tl.store(o + r, tl.reduce(v, 0, f_or) != 0)
""",
        "o = torch.empty(x.shape[0], device=x.device, dtype=torch.bool)\nk[(x.shape[0],)](x, o, x.shape[1], BLOCK=128)\nreturn o",
        fault("all", "all in place of any", "return a | b", "return a & b", "mask=c < N, other=0)", "mask=c < N, other=1)"),
        fault("first_half", "the first block only", "BLOCK=128", "BLOCK=64"),
    ),
    _pair(
        "split_k_atomics", "gemm", "torch.randn(20, 150), torch.randn(150, 17)", "a, b", "a @ b",
        """
@triton.jit
def k(a, b, o, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, SPLIT: tl.constexpr):
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    z = tl.program_id(2)
    acc = tl.zeros((BM, BN), tl.float32)
    for k0 in range(z * BK, K, BK * SPLIT):
        kk = k0 + tl.arange(0, BK)
        x = tl.load(a + m[:, None] * K + kk[None, :], mask=(m[:, None] < M) & (kk[None, :] < K), other=0.0)
        y = tl.load(b + kk[:, None] * N + n[None, :], mask=(kk[:, None] < K) & (n[None, :] < N), other=0.0)
        acc = tl.dot(x, y, acc, input_precision="ieee")
    tl.atomic_add(o + m[:, None] * N + n[None, :], acc, mask=(m[:, None] < M) & (n[None, :] < N), sem="relaxed")
""",
        "M, K = a.shape\nN = b.shape[1]\no = torch.zeros((M, N), device=a.device, dtype=a.dtype)\n"
        "k[(triton.cdiv(M, 16), triton.cdiv(N, 16), 3)](a, b, o, M, N, K, BM=16, BN=16, BK=16, SPLIT=3)\nreturn o",
        fault("one_part_missing", "a part of K has no program", "triton.cdiv(N, 16), 3)]", "triton.cdiv(N, 16), 2)]"),
        fault("not_zeroed", "the sums start from whatever is there", "torch.zeros(", "torch.empty("),
        fault("plain_store", "a store in place of an atomic update", "tl.atomic_add(", "tl.store(", ', sem="relaxed"', ""),
    ),
    _pair(
        "kahan_sum", "reduction", "torch.randn(4, 1000)", "x", "x.sum(dim=1)",
        """
@triton.jit
def k(x, o, N, BLOCK: tl.constexpr):
    r = tl.program_id(0)
    s = tl.zeros((BLOCK,), tl.float32)
    c = tl.zeros((BLOCK,), tl.float32)
    for i in range(0, N, BLOCK):
        off = i + tl.arange(0, BLOCK)
        y = tl.load(x + r * N + off, mask=off < N, other=0.0) - c
        t = s + y
        c = (t - s) - y
        s = t
    tl.store(o + r, tl.sum(s))
""",
        "o = torch.empty(x.shape[0], device=x.device, dtype=x.dtype)\nk[(x.shape[0],)](x, o, x.shape[1], BLOCK=64)\nreturn o",
        fault("last_block", "the last block is left out", "range(0, N, BLOCK)", "range(0, N - N % BLOCK, BLOCK)"),
    ),
    _pair(
        "last_block_finishes", "reduction", "torch.randn(700)", "x", "x.square().sum()",
        """
@triton.jit
def k(x, part, count, o, n, G: tl.constexpr, BLOCK: tl.constexpr):
    pid = tl.program_id(0)
    i = pid * BLOCK + tl.arange(0, BLOCK)
    v = tl.load(x + i, mask=i < n, other=0.0)
    tl.atomic_xchg(part + pid, tl.sum(v * v))
    done = tl.atomic_add(count, 1)
    if done == tl.num_programs(0) - 1:
        g = tl.arange(0, G)
        p = tl.atomic_add(part + g, 0.0, mask=g < tl.num_programs(0))
        tl.store(o, tl.sum(tl.where(g < tl.num_programs(0), p, 0.0)))
""",
        "n = x.numel()\ng = triton.cdiv(n, 128)\npart = torch.zeros(g, device=x.device, dtype=torch.float32)\n"
        "count = torch.zeros(1, device=x.device, dtype=torch.int32)\no = torch.empty((), device=x.device, dtype=x.dtype)\n"
        "k[(g,)](x, part, count, o, n, G=triton.next_power_of_2(g), BLOCK=128)\nreturn o",
    ),
    _pair(
        "transposed_input", "gemm", "torch.randn(30, 22).t(), torch.randn(30, 18)", "a, b", "a @ b",
        """
@triton.jit
def k(a, b, o, M, N, K, sam, sak, sbk, sbn, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    acc = tl.zeros((BM, BN), tl.float32)
    for k0 in range(0, K, BK):
        kk = k0 + tl.arange(0, BK)
        x = tl.load(a + m[:, None] * sam + kk[None, :] * sak, mask=(m[:, None] < M) & (kk[None, :] < K), other=0.0)
        y = tl.load(b + kk[:, None] * sbk + n[None, :] * sbn, mask=(kk[:, None] < K) & (n[None, :] < N), other=0.0)
        acc = tl.dot(x, y, acc, input_precision="ieee")
    tl.store(o + m[:, None] * N + n[None, :], acc, mask=(m[:, None] < M) & (n[None, :] < N))
""",
        "M, K = a.shape\nN = b.shape[1]\no = torch.empty((M, N), device=a.device, dtype=a.dtype)\n"
        "k[(triton.cdiv(M, 16), triton.cdiv(N, 16))](a, b, o, M, N, K, *a.stride(), *b.stride(), BM=16, BN=16, BK=16)\nreturn o",
        fault("contiguous_strides", "the strides of a contiguous input", "*a.stride()", "a.shape[1], 1"),
    ),
    _pair(
        "broadcast_of_a_column", "pointwise", "torch.randn(24, 24), torch.randn(24, 1), torch.randn(24)", "x, c, r", "x * c + r",
        """
@triton.jit
def k(x, c, r, o, M, N, BM: tl.constexpr, BN: tl.constexpr):
    m = (tl.program_id(0) * BM + tl.arange(0, BM))[:, None]
    n = (tl.program_id(1) * BN + tl.arange(0, BN))[None, :]
    inside = (m < M) & (n < N)
    v = tl.load(x + m * N + n, mask=inside)
    tl.store(o + m * N + n, v * tl.load(c + m, mask=m < M) + tl.load(r + n, mask=n < N), mask=inside)
""",
        "o = torch.empty_like(x)\nk[(triton.cdiv(x.shape[0], 16), triton.cdiv(x.shape[1], 16))](x, c, r, o, *x.shape, BM=16, BN=16)\nreturn o",
        fault("column_as_row", "the column along the rows, which a square shape hides", "tl.load(c + m, mask=m < M)", "tl.load(c + n, mask=n < N)"),
    ),
    _pair(
        "scalar_output_of_max_minus_min", "reduction", "torch.randn(6, 80)", "x", "x.max() - x.min()",
        """
@triton.jit
def k(x, o, n, BLOCK: tl.constexpr):
    hi = tl.full((BLOCK,), float("-inf"), tl.float32)
    lo = tl.full((BLOCK,), float("inf"), tl.float32)
    for i in range(0, n, BLOCK):
        off = i + tl.arange(0, BLOCK)
        hi = tl.maximum(hi, tl.load(x + off, mask=off < n, other=float("-inf")))
        lo = tl.minimum(lo, tl.load(x + off, mask=off < n, other=float("inf")))
    tl.store(o, tl.max(hi, 0) - tl.min(lo, 0))
""",
        "o = torch.empty((), device=x.device, dtype=x.dtype)\nk[(1,)](x, o, x.numel(), BLOCK=64)\nreturn o",
        fault("zeros", "both start at zero", 'float("-inf"), tl.float32', "0.0, tl.float32"),
    ),
    _pair(
        "empty_input", "pointwise", "torch.randn(0, 8)", "x", "x * 2",
        """
@triton.jit
def k(x, o, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(o + i, tl.load(x + i, mask=i < n) * 2, mask=i < n)
""",
        "o = torch.empty_like(x)\nif x.numel():\n    k[(triton.cdiv(x.numel(), 64),)](x, o, x.numel(), BLOCK=64)\nreturn o",
    ),
    _pair(
        "axes_of_one", "norm", "torch.randn(1, 1, 33)", "x", "x - x.mean(dim=(0, 2), keepdim=True)",
        """
@triton.jit
def k(x, o, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    v = tl.load(x + i, mask=i < n, other=0.0)
    tl.store(o + i, v - tl.sum(v, 0) / n, mask=i < n)
""",
        "o = torch.empty_like(x)\nk[(1,)](x, o, x.numel(), BLOCK=64)\nreturn o",
        fault("mean_of_the_block", "the mean over the padded block", "tl.sum(v, 0) / n", "tl.sum(v, 0) / BLOCK"),
    ),
    _pair(
        "max_with_indices_of_pairs", "reduction", "torch.randn(7, 45)", "x", "torch.max(x, dim=-1, keepdim=True)",
        """
@triton.jit
def k(x, o, p, N, BLOCK: tl.constexpr):
    r = tl.program_id(0)
    c = tl.arange(0, BLOCK)
    v, i = tl.max(tl.load(x + r * N + c, mask=c < N, other=float("-inf")), axis=0, return_indices=True)
    tl.store(o + r, v)
    tl.store(p + r, i.to(tl.int64))
""",
        "o = torch.empty((x.shape[0], 1), device=x.device, dtype=x.dtype)\np = torch.empty((x.shape[0], 1), device=x.device, dtype=torch.int64)\n"
        "k[(x.shape[0],)](x, o, p, x.shape[1], BLOCK=64)\nreturn o, p",
        fault("keepdim", "keepdim is ignored", "torch.empty((x.shape[0], 1), device=x.device, dtype=x.dtype)", "torch.empty((x.shape[0],), device=x.device, dtype=x.dtype)"),
        fault("index_of_the_block", "indices are off by one", "i.to(tl.int64)", "i.to(tl.int64) + 1"),
    ),
    _pair(
        "heuristics_and_constexpr_functions", "pointwise", "torch.randn(11, 13).half()", "x", "F.elu(x.float(), alpha=0.7).half()",
        """
@triton.jit
def _elu(x, ALPHA: tl.constexpr):
    return tl.where(x > 0, x, ALPHA * (tl.exp(x) - 1))


@triton.heuristics({"EVEN": lambda a: a["n"] % a["BLOCK"] == 0, "num_warps": lambda a: 4 if a["BLOCK"] < 512 else 8})
@triton.jit
def k(x, o, n, BLOCK: tl.constexpr, EVEN: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    if EVEN:
        v = tl.load(x + i).to(tl.float32)
        tl.store(o + i, _elu(v, 0.7).to(tl.float16))
    else:
        v = tl.load(x + i, mask=i < n, other=0.0).to(tl.float32)
        tl.store(o + i, _elu(v, 0.7).to(tl.float16), mask=i < n)
""",
        "o = torch.empty_like(x)\nk[lambda m: (triton.cdiv(x.numel(), m['BLOCK']),)](x, o, x.numel(), BLOCK=64)\nreturn o",
        fault("default_alpha", "the default alpha", "_elu(v, 0.7)", "_elu(v, 1.0)"),
        fault("always_even", "no size is taken for uneven", 'a["n"] % a["BLOCK"] == 0', "True"),
    ),
    _pair(
        "masked_softmax_with_empty_rows", "softmax", "torch.randn(6, 20), torch.rand(6, 20) > 0.3", "x, m",
        "torch.nan_to_num(torch.softmax(x.masked_fill(~m, float('-inf')), -1))",
        """
@triton.jit
def k(x, m, o, N, BLOCK: tl.constexpr):
    r = tl.program_id(0)
    c = tl.arange(0, BLOCK)
    keep = tl.load(m + r * N + c, mask=c < N, other=0) != 0
    v = tl.where(keep, tl.load(x + r * N + c, mask=c < N, other=0.0), float("-inf"))
    top = tl.max(v, 0)
    e = tl.where(keep, tl.exp(v - tl.where(top == float("-inf"), 0.0, top)), 0.0)
    s = tl.sum(e, 0)
    tl.store(o + r * N + c, tl.where(s > 0, e / tl.where(s > 0, s, 1.0), 0.0), mask=c < N)
""",
        "o = torch.empty_like(x)\nk[(x.shape[0],)](x, m, o, x.shape[1], BLOCK=32)\nreturn o",
        fault("mask_ignored", "the mask is ignored", "other=0) != 0", "other=0) >= 0"),
        fault("kept_as_zeros", "what is masked counts as exp(0)", "other=0.0), float(\"-inf\"))", "other=0.0), 0.0)", "e = tl.where(keep, tl.exp(v - tl.where(top == float(\"-inf\"), 0.0, top)), 0.0)", "e = tl.exp(v - top)"),
    ),
    _pair(
        "bfloat16_row_scale", "pointwise", "torch.randn(9, 64).bfloat16(), torch.randn(9).bfloat16()", "x, s", "x * s[:, None] + x",
        """
@triton.jit
def k(x, s, o, N: tl.constexpr):
    r = tl.program_id(0)
    c = tl.arange(0, N)
    v = tl.load(x + r * N + c)
    tl.store(o + r * N + c, v * tl.load(s + r) + v)
""",
        "o = torch.empty_like(x)\nk[(x.shape[0],)](x, s, o, N=64)\nreturn o",
    ),
    _pair(
        "persistent_2d_swizzle", "move", "torch.randn(40, 56)", "x", "x.t().contiguous()",
        """
@triton.jit
def k(x, o, M, N, B: tl.constexpr, P: tl.constexpr):
    gm, gn = tl.cdiv(M, B), tl.cdiv(N, B)
    for tile in tl.range(tl.program_id(0), gm * gn, P, num_stages=2):
        pm, pn = tl.swizzle2d(tile // gn, tile % gn, gm, gn, 2)
        m = pm * B + tl.arange(0, B)
        n = pn * B + tl.arange(0, B)
        v = tl.load(x + m[:, None] * N + n[None, :], mask=(m[:, None] < M) & (n[None, :] < N))
        tl.store(o + n[:, None] * M + m[None, :], v.T, mask=(n[:, None] < N) & (m[None, :] < M))
""",
        "M, N = x.shape\no = torch.empty((N, M), device=x.device, dtype=x.dtype)\nk[(5,)](x, o, M, N, B=16, P=5)\nreturn o",
        fault("untransposed", "tiles move, their elements do not", "v.T, mask", "tl.reshape(v, (B, B)), mask"),
    ),
)  # fmt: skip
