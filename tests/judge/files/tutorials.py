"""Files in the style of tutorials: persistent programs, grouped orders, autotuning, online softmax."""

from __future__ import annotations

from .pair import Pair, fault

_MATMUL = """
class Model(nn.Module):
    def forward(self, a, b):
        return a @ b


def get_inputs():
    return [torch.randn(70, 96), torch.randn(96, 50)]


def get_init_inputs():
    return []
"""

TUTORIALS = (
    Pair(
        "softmax_persistent", "softmax",
        """
class Model(nn.Module):
    def forward(self, x):
        return torch.softmax(x, dim=-1)


def get_inputs():
    return [torch.randn(37, 130)]


def get_init_inputs():
    return []
""",
        """
@triton.jit
def softmax_kernel(out_ptr, in_ptr, in_stride, out_stride, n_rows, n_cols, BLOCK: tl.constexpr, STAGES: tl.constexpr):
    start = tl.program_id(0)
    step = tl.num_programs(0)
    for row in tl.range(start, n_rows, step, num_stages=STAGES):
        cols = tl.arange(0, BLOCK)
        mask = cols < n_cols
        v = tl.load(in_ptr + row * in_stride + cols, mask=mask, other=-float("inf"))
        v = v - tl.max(v, axis=0)
        num = tl.exp(v)
        tl.store(out_ptr + row * out_stride + cols, num / tl.sum(num, axis=0), mask=mask)


class ModelNew(nn.Module):
    def forward(self, x):
        n_rows, n_cols = x.shape
        y = torch.empty_like(x)
        programs = min(torch.cuda.get_device_properties(x.device).multi_processor_count // 16, n_rows)
        softmax_kernel[(programs, 1, 1)](
            y, x, x.stride(0), y.stride(0), n_rows, n_cols, BLOCK=triton.next_power_of_2(n_cols), STAGES=4, num_warps=8)
        return y
""",
        (
            fault("one_row_each", "each program takes its first row only", "in tl.range(start, n_rows, step,", "in tl.range(start, step, step,"),
            fault("no_maximum", "no maximum is subtracted", "v = v - tl.max(v, axis=0)", "v = v"),
            fault("masked_as_zero", "masked lanes count as zeros", 'other=-float("inf")', "other=0.0"),
            fault("last_row", "the last row is left out", "(start, n_rows, step", "(start, n_rows - 1, step"),
        ),
    ),
    Pair(
        "matmul_grouped_autotuned", "gemm", _MATMUL,
        """
@triton.autotune(
    configs=[
        triton.Config({"BM": 32, "BN": 32, "BK": 32, "GROUP": 4}, num_stages=3, num_warps=4),
        triton.Config({"BM": 64, "BN": 32, "BK": 16, "GROUP": 2}, num_stages=4, num_warps=2),
        triton.Config({"BM": 16, "BN": 64, "BK": 64, "GROUP": 8}, num_stages=2, num_warps=8),
    ],
    key=["M", "N", "K"],
)
@triton.jit
def matmul_kernel(a_ptr, b_ptr, c_ptr, M, N, K, sam, sak, sbk, sbn, scm, scn,
                  BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr):
    pid = tl.program_id(axis=0)
    num_m = tl.cdiv(M, BM)
    num_n = tl.cdiv(N, BN)
    per_group = GROUP * num_n
    group = pid // per_group
    first_m = group * GROUP
    size_m = min(num_m - first_m, GROUP)
    pid_m = first_m + ((pid % per_group) % size_m)
    pid_n = (pid % per_group) // size_m
    tl.assume(pid_m >= 0)
    offs_am = (pid_m * BM + tl.arange(0, BM)) % M
    offs_bn = (pid_n * BN + tl.arange(0, BN)) % N
    offs_k = tl.arange(0, BK)
    a_ptrs = a_ptr + (offs_am[:, None] * sam + offs_k[None, :] * sak)
    b_ptrs = b_ptr + (offs_k[:, None] * sbk + offs_bn[None, :] * sbn)
    acc = tl.zeros((BM, BN), dtype=tl.float32)
    for k in range(0, tl.cdiv(K, BK)):
        a = tl.load(a_ptrs, mask=offs_k[None, :] < K - k * BK, other=0.0)
        b = tl.load(b_ptrs, mask=offs_k[:, None] < K - k * BK, other=0.0)
        acc = tl.dot(a, b, acc, input_precision="ieee")
        a_ptrs += BK * sak
        b_ptrs += BK * sbk
    offs_cm = pid_m * BM + tl.arange(0, BM)
    offs_cn = pid_n * BN + tl.arange(0, BN)
    c_ptrs = c_ptr + scm * offs_cm[:, None] + scn * offs_cn[None, :]
    tl.store(c_ptrs, acc, mask=(offs_cm[:, None] < M) & (offs_cn[None, :] < N))


class ModelNew(nn.Module):
    def forward(self, a, b):
        assert a.shape[1] == b.shape[0], "incompatible dimensions"
        M, K = a.shape
        K, N = b.shape
        c = torch.empty((M, N), device=a.device, dtype=a.dtype)
        grid = lambda META: (triton.cdiv(M, META["BM"]) * triton.cdiv(N, META["BN"]),)
        matmul_kernel[grid](a, b, c, M, N, K, a.stride(0), a.stride(1), b.stride(0), b.stride(1), c.stride(0), c.stride(1))
        return c
""",
        (
            fault("default_precision", "tl.dot with its default precision, which is TF32", ', input_precision="ieee"', ""),
            fault("group_size", "the last group is taken for a full one", "size_m = min(num_m - first_m, GROUP)", "size_m = GROUP"),
            fault("floor_of_k", "the last part of K is left out", "range(0, tl.cdiv(K, BK))", "range(0, K // BK)"),
            fault("second_config", "one configuration is wrong", '"BM": 16, "BN": 64, "BK": 64', '"BM": 16, "BN": 64, "BK": 64, "num": 0',
                  "BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr):",
                  "BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr, num: tl.constexpr = 1):",
                  "tl.store(c_ptrs, acc,", "tl.store(c_ptrs, acc * (num + 1) / 2 if BM == 16 else acc,"),
            fault("strides_of_b", "the strides of b are exchanged", "b.stride(0), b.stride(1), c", "b.stride(1), b.stride(0), c"),
            fault("half_accumulator", "sums in half precision", "acc = tl.zeros((BM, BN), dtype=tl.float32)", "acc = tl.zeros((BM, BN), dtype=tl.float16)",
                  "acc = tl.dot(a, b, acc, input_precision=\"ieee\")", "acc += tl.dot(a, b, input_precision=\"ieee\").to(tl.float16)"),
        ),
    ),
    Pair(
        "matmul_leaky_relu_f16", "gemm",
        """
class Model(nn.Module):
    def forward(self, a, b):
        return F.leaky_relu(a @ b, 0.01)


def get_inputs():
    return [torch.randn(64, 80).half(), torch.randn(80, 48).half()]


def get_init_inputs():
    return []
""",
        """
@triton.jit
def leaky_relu(x):
    return tl.where(x >= 0, x, 0.01 * x)


@triton.jit
def matmul_kernel(a_ptr, b_ptr, c_ptr, M, N, K, ACTIVATION: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    acc = tl.zeros((BM, BN), dtype=tl.float32)
    for k0 in range(0, K, BK):
        k = k0 + tl.arange(0, BK)
        a = tl.load(a_ptr + m[:, None] * K + k[None, :], mask=(m[:, None] < M) & (k[None, :] < K), other=0.0)
        b = tl.load(b_ptr + k[:, None] * N + n[None, :], mask=(k[:, None] < K) & (n[None, :] < N), other=0.0)
        acc += tl.dot(a, b)
    if ACTIVATION == "leaky_relu":
        acc = leaky_relu(acc)
    c = acc.to(tl.float16)
    tl.store(c_ptr + m[:, None] * N + n[None, :], c, mask=(m[:, None] < M) & (n[None, :] < N))


class ModelNew(nn.Module):
    def forward(self, a, b):
        M, K = a.shape
        N = b.shape[1]
        c = torch.empty((M, N), device=a.device, dtype=a.dtype)
        matmul_kernel[(triton.cdiv(M, 32), triton.cdiv(N, 32))](a, b, c, M, N, K, ACTIVATION="leaky_relu", BM=32, BN=32, BK=32)
        return c
""",
        (
            fault("activation_first", "the activation within the loop", "        acc += tl.dot(a, b)", "        acc += leaky_relu(tl.dot(a, b))",
                  "acc = leaky_relu(acc)", "acc = acc"),
            fault("slope", "another slope", "0.01 * x", "0.1 * x"),
            fault("activation_left_out", "a name that no branch knows", 'ACTIVATION="leaky_relu", BM', 'ACTIVATION="leaky", BM'),
        ),
    ),
    Pair(
        "layer_norm_chunks", "norm",
        """
class Model(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.ln = nn.LayerNorm(n)

    def forward(self, x):
        return self.ln(x)


def get_inputs():
    return [torch.randn(3, 5, 200)]


def get_init_inputs():
    return [200]
""",
        """
@triton.jit
def _layer_norm_fwd(X, Y, W, B, Mean, Rstd, stride, N, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    Y += row * stride
    X += row * stride
    mean = 0
    _mean = tl.zeros([BLOCK], dtype=tl.float32)
    for off in range(0, N, BLOCK):
        cols = off + tl.arange(0, BLOCK)
        a = tl.load(X + cols, mask=cols < N, other=0.0).to(tl.float32)
        _mean += a
    mean = tl.sum(_mean, axis=0) / N
    _var = tl.zeros([BLOCK], dtype=tl.float32)
    for off in range(0, N, BLOCK):
        cols = off + tl.arange(0, BLOCK)
        x = tl.load(X + cols, mask=cols < N, other=0.0).to(tl.float32)
        x = tl.where(cols < N, x - mean, 0.0)
        _var += x * x
    var = tl.sum(_var, axis=0) / N
    rstd = 1 / tl.sqrt(var + eps)
    tl.store(Mean + row, mean)
    tl.store(Rstd + row, rstd)
    for off in range(0, N, BLOCK):
        cols = off + tl.arange(0, BLOCK)
        mask = cols < N
        w = tl.load(W + cols, mask=mask)
        b = tl.load(B + cols, mask=mask)
        x = tl.load(X + cols, mask=mask, other=0.0).to(tl.float32)
        x_hat = (x - mean) * rstd
        y = x_hat * w + b
        tl.store(Y + cols, y, mask=mask)


class ModelNew(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.ln = nn.LayerNorm(n)

    def forward(self, x):
        y = torch.empty_like(x)
        x_arg = x.reshape(-1, x.shape[-1])
        M, N = x_arg.shape
        mean = torch.empty((M,), dtype=torch.float32, device=x.device)
        rstd = torch.empty((M,), dtype=torch.float32, device=x.device)
        _layer_norm_fwd[(M,)](x_arg, y, self.ln.weight, self.ln.bias, mean, rstd, x_arg.stride(0), N, self.ln.eps, BLOCK=128)
        return y
""",
        (
            fault("variance_of_padding", "padding counts in the variance", "x = tl.where(cols < N, x - mean, 0.0)", "x = x - mean"),
            fault("unbiased", "the unbiased variance", "tl.sum(_var, axis=0) / N", "tl.sum(_var, axis=0) / (N - 1)"),
            fault("eps_outside", "eps outside the root", "1 / tl.sqrt(var + eps)", "1 / (tl.sqrt(var) + eps)"),
            fault("no_affine", "weights are one and biases zero in a fresh layer", "y = x_hat * w + b", "y = x_hat"),
            fault("no_bias", "biases are zero in a fresh layer", "y = x_hat * w + b", "y = x_hat * w"),
            fault("eps_constant", "another epsilon", "N, self.ln.eps, BLOCK", "N, 1e-6, BLOCK"),
        ),
    ),
    Pair(
        "flash_attention_stages", "attention",
        """
class Model(nn.Module):
    def forward(self, q, k, v):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def get_inputs():
    return [torch.randn(2, 2, 80, 32) for _ in range(3)]


def get_init_inputs():
    return []
""",
        """
@triton.jit
def _inner(acc, l_i, m_i, q, K, V, start_m, qk_scale, N_CTX, stride, BM: tl.constexpr, BN: tl.constexpr, D: tl.constexpr,
           STAGE: tl.constexpr, offs_m, offs_n):
    if STAGE == 1:
        lo, hi = 0, start_m * BM
    else:
        lo, hi = start_m * BM, (start_m + 1) * BM
    offs_d = tl.arange(0, D)
    for start_n in range(lo, hi, BN):
        n = start_n + offs_n
        k = tl.load(K + n[None, :] * stride + offs_d[:, None], mask=n[None, :] < N_CTX, other=0.0)
        qk = tl.dot(q, k, input_precision="ieee")
        if STAGE == 2:
            keep = (offs_m[:, None] >= n[None, :]) & (n[None, :] < N_CTX)
            qk = qk * qk_scale + tl.where(keep, 0, -1.0e6)
            m_ij = tl.maximum(m_i, tl.max(qk, 1))
            qk -= m_ij[:, None]
        else:
            m_ij = tl.maximum(m_i, tl.max(qk, 1) * qk_scale)
            qk = qk * qk_scale - m_ij[:, None]
        p = tl.math.exp2(qk)
        l_ij = tl.sum(p, 1)
        alpha = tl.math.exp2(m_i - m_ij)
        l_i = l_i * alpha + l_ij
        acc = acc * alpha[:, None]
        v = tl.load(V + n[:, None] * stride + offs_d[None, :], mask=n[:, None] < N_CTX, other=0.0)
        acc = tl.dot(p, v, acc, input_precision="ieee")
        m_i = m_ij
    return acc, l_i, m_i


@triton.jit
def _attn_fwd(Q, K, V, sm_scale, O, stride_h, stride_m, N_CTX, BM: tl.constexpr, BN: tl.constexpr, D: tl.constexpr):
    start_m = tl.program_id(0)
    base = tl.program_id(1).to(tl.int64) * stride_h
    offs_m = start_m * BM + tl.arange(0, BM)
    offs_n = tl.arange(0, BN)
    offs_d = tl.arange(0, D)
    m_i = tl.zeros([BM], dtype=tl.float32) - float("inf")
    l_i = tl.zeros([BM], dtype=tl.float32) + 1.0
    acc = tl.zeros([BM, D], dtype=tl.float32)
    qk_scale = sm_scale * 1.44269504
    q = tl.load(Q + base + offs_m[:, None] * stride_m + offs_d[None, :], mask=offs_m[:, None] < N_CTX, other=0.0)
    acc, l_i, m_i = _inner(acc, l_i, m_i, q, K + base, V + base, start_m, qk_scale, N_CTX, stride_m, BM, BN, D, 1, offs_m, offs_n)
    acc, l_i, m_i = _inner(acc, l_i, m_i, q, K + base, V + base, start_m, qk_scale, N_CTX, stride_m, BM, BN, D, 2, offs_m, offs_n)
    acc = acc / l_i[:, None]
    tl.store(O + base + offs_m[:, None] * stride_m + offs_d[None, :], acc, mask=offs_m[:, None] < N_CTX)


class ModelNew(nn.Module):
    def forward(self, q, k, v):
        B, H, T, D = q.shape
        o = torch.empty_like(q)
        _attn_fwd[(triton.cdiv(T, 32), B * H)](q, k, v, 1.0 / math.sqrt(D), o, q.stride(1), q.stride(2), T, BM=32, BN=16, D=D)
        return o
""",
        (
            fault("log2_of_e", "exp2 without the factor log2(e)", "sm_scale * 1.44269504", "sm_scale"),
            fault("diagonal_left_out", "a query does not see its own key", "offs_m[:, None] >= n[None, :]", "offs_m[:, None] > n[None, :]"),
            fault("no_rescaling", "the accumulator is not rescaled", "acc = acc * alpha[:, None]", "acc = acc"),
            fault("sum_not_rescaled", "the sum is not rescaled", "l_i = l_i * alpha + l_ij", "l_i = l_i + l_ij"),
            fault("scale_of_the_wrong_size", "the scale of the length", "1.0 / math.sqrt(D)", "1.0 / math.sqrt(T)"),
            fault("stage_left_out", "what lies before the diagonal is left out",
                  "    acc, l_i, m_i = _inner(acc, l_i, m_i, q, K + base, V + base, start_m, qk_scale, N_CTX, stride_m, BM, BN, D, 1, offs_m, offs_n)\n", ""),
        ),
    ),
    Pair(
        "dropout_seeded", "pointwise",
        """
class Model(nn.Module):
    def __init__(self, p):
        super().__init__()
        self.p = p

    def forward(self, x):
        return F.dropout(x, self.p, training=True)


def get_inputs():
    return [torch.randn(40, 50)]


def get_init_inputs():
    return [0.3]
""",
        """
@triton.jit
def _dropout(x_ptr, o_ptr, n, p, seed, BLOCK: tl.constexpr):
    off = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = off < n
    x = tl.load(x_ptr + off, mask=mask)
    keep = tl.rand(seed, off) > p
    tl.store(o_ptr + off, tl.where(keep, x / (1 - p), 0.0), mask=mask)


class ModelNew(nn.Module):
    def __init__(self, p):
        super().__init__()
        self.p = p

    def forward(self, x):
        o = torch.empty_like(x)
        n = x.numel()
        seed = int(torch.randint(0, 2**31 - 1, (1,)).item())
        _dropout[lambda meta: (triton.cdiv(n, meta["BLOCK"]),)](x, o, n, self.p, seed, BLOCK=256)
        return o
""",
        (
            fault("fixed_seed", "the same seed at every call", "seed = int(torch.randint(0, 2**31 - 1, (1,)).item())", "seed = 1234"),
            fault("not_scaled", "kept values are not scaled", "x / (1 - p)", "x"),
            fault("keeps_p", "keeps with the probability of dropping", "> p\n", "< p\n"),
            fault("same_in_each_block", "every block draws the same numbers", "tl.rand(seed, off)", "tl.rand(seed, tl.arange(0, BLOCK))"),
        ),
    ),
    Pair(
        "asin_of_libdevice", "pointwise",
        """
class Model(nn.Module):
    def forward(self, x):
        return torch.asin(x)


def get_inputs():
    return [torch.rand(98, 43) * 2 - 1]


def get_init_inputs():
    return []
""",
        """
from triton.language.extra import libdevice


@triton.jit
def asin_kernel(x_ptr, y_ptr, n_elements, BLOCK_SIZE: tl.constexpr):
    offsets = tl.program_id(axis=0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    mask = offsets < n_elements
    x = tl.load(x_ptr + offsets, mask=mask)
    x = libdevice.asin(x)
    tl.store(y_ptr + offsets, x, mask=mask)


class ModelNew(nn.Module):
    def forward(self, x):
        out = torch.empty_like(x)
        n = out.numel()
        grid = lambda meta: (triton.cdiv(n, meta["BLOCK_SIZE"]), )
        asin_kernel[grid](x, out, n, BLOCK_SIZE=1024)
        return out
""",
        (fault("series", "the first terms of the series", "libdevice.asin(x)", "x + x * x * x / 6 + 3 * x * x * x * x * x / 40"),),
    ),
    Pair(
        "matmul_persistent_descriptors", "gemm",
        """
class Model(nn.Module):
    def forward(self, a, b):
        return a @ b.t()


def get_inputs():
    return [torch.randn(96, 64).half(), torch.randn(80, 64).half()]


def get_init_inputs():
    return []
""",
        """
@triton.jit
def _compute_pid(tile_id, num_in_group, num_m, GROUP: tl.constexpr):
    group = tile_id // num_in_group
    first = group * GROUP
    size = min(num_m - first, GROUP)
    return first + tile_id % size, (tile_id % num_in_group) // size


@triton.jit
def matmul_tma(a_ptr, b_ptr, c_ptr, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr, SMS: tl.constexpr):
    a_desc = tl.make_tensor_descriptor(a_ptr, shape=[M, K], strides=[K, 1], block_shape=[BM, BK])
    b_desc = tl.make_tensor_descriptor(b_ptr, shape=[N, K], strides=[K, 1], block_shape=[BN, BK])
    c_desc = tl.make_tensor_descriptor(c_ptr, shape=[M, N], strides=[N, 1], block_shape=[BM, BN])
    start = tl.program_id(0)
    num_m = tl.cdiv(M, BM)
    num_n = tl.cdiv(N, BN)
    k_tiles = tl.cdiv(K, BK)
    for tile_id in tl.range(start, num_m * num_n, SMS, flatten=True):
        pid_m, pid_n = _compute_pid(tile_id, GROUP * num_n, num_m, GROUP)
        acc = tl.zeros((BM, BN), dtype=tl.float32)
        for ki in range(k_tiles):
            a = a_desc.load([pid_m * BM, ki * BK])
            b = b_desc.load([pid_n * BN, ki * BK])
            acc = tl.dot(a, b.T, acc)
        c_desc.store([pid_m * BM, pid_n * BN], acc.to(tl.float16))


def _alloc(size: int, alignment: int, stream):
    return torch.empty(size, device="cuda", dtype=torch.int8)


class ModelNew(nn.Module):
    def forward(self, a, b):
        M, K = a.shape
        N = b.shape[0]
        c = torch.empty((M, N), device=a.device, dtype=a.dtype)
        triton.set_allocator(_alloc)
        SMS = 4
        matmul_tma[(min(SMS, triton.cdiv(M, 32) * triton.cdiv(N, 32)),)](a, b, c, M, N, K, BM=32, BN=32, BK=32, GROUP=2, SMS=SMS)
        return c
""",
        (
            fault("not_transposed", "the second factor is not transposed", "tl.dot(a, b.T, acc)", "tl.dot(a, b, acc)"),
            fault("accumulator_kept", "the accumulator is kept between tiles", "        acc = tl.zeros((BM, BN), dtype=tl.float32)\n        for ki", "        for ki",
                  "    for tile_id", "    acc = tl.zeros((BM, BN), dtype=tl.float32)\n    for tile_id"),
            fault("step_of_programs", "tiles are left out", "num_m * num_n, SMS, flatten", "num_m * num_n, SMS * 2, flatten"),
        ),
    ),
    Pair(
        "grouped_gemm_pointers", "gemm",
        """
class Model(nn.Module):
    def forward(self, a1, b1, a2, b2):
        return a1 @ b1, a2 @ b2


def get_inputs():
    return [torch.randn(40, 32).half(), torch.randn(32, 48).half(), torch.randn(64, 48).half(), torch.randn(48, 30).half()]


def get_init_inputs():
    return []
""",
        """
@triton.jit
def grouped_kernel(a_ptrs, b_ptrs, c_ptrs, sizes, group_size, NUM_SM: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    tile = tl.program_id(0)
    last = 0
    for g in range(group_size):
        gm = tl.load(sizes + g * 3)
        gn = tl.load(sizes + g * 3 + 1)
        gk = tl.load(sizes + g * 3 + 2)
        num_m = tl.cdiv(gm, BM)
        num_n = tl.cdiv(gn, BN)
        tiles = num_m * num_n
        while tile >= last and tile < last + tiles:
            a = tl.load(a_ptrs + g).to(tl.pointer_type(tl.float16))
            b = tl.load(b_ptrs + g).to(tl.pointer_type(tl.float16))
            c = tl.load(c_ptrs + g).to(tl.pointer_type(tl.float16))
            t = tile - last
            m = (t // num_n) * BM + tl.arange(0, BM)
            n = (t % num_n) * BN + tl.arange(0, BN)
            acc = tl.zeros((BM, BN), dtype=tl.float32)
            for k0 in range(0, gk, BK):
                k = k0 + tl.arange(0, BK)
                x = tl.load(a + m[:, None] * gk + k[None, :], mask=(m[:, None] < gm) & (k[None, :] < gk), other=0.0)
                y = tl.load(b + k[:, None] * gn + n[None, :], mask=(k[:, None] < gk) & (n[None, :] < gn), other=0.0)
                acc += tl.dot(x, y)
            tl.store(c + m[:, None] * gn + n[None, :], acc.to(tl.float16), mask=(m[:, None] < gm) & (n[None, :] < gn))
            tile += NUM_SM
        last = last + tiles


class ModelNew(nn.Module):
    def forward(self, a1, b1, a2, b2):
        A, B = [a1, a2], [b1, b2]
        C = [torch.empty((a.shape[0], b.shape[1]), device=a.device, dtype=a.dtype) for a, b in zip(A, B)]
        device = a1.device
        pa = torch.tensor([t.data_ptr() for t in A], device=device)
        pb = torch.tensor([t.data_ptr() for t in B], device=device)
        pc = torch.tensor([t.data_ptr() for t in C], device=device)
        sizes = torch.tensor([[a.shape[0], b.shape[1], a.shape[1]] for a, b in zip(A, B)], dtype=torch.int32, device=device)
        grouped_kernel[(3,)](pa, pb, pc, sizes, len(A), NUM_SM=3, BM=32, BN=32, BK=16)
        return tuple(C)
""",
        (
            fault("second_group_sizes", "the first group's K for all", "tl.load(sizes + g * 3 + 2)", "tl.load(sizes + 2)"),
        ),
    ),
)  # fmt: skip
