"""Files in the style of libraries of training kernels: losses, normalisations and gates of language models."""

from __future__ import annotations

from .pair import Pair, fault

LIGER = (
    Pair(
        "rms_norm_casting", "norm",
        """
class Model(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n, dtype=torch.bfloat16))

    def forward(self, x):
        h = x.float()
        h = h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + 1e-6)
        return self.weight * h.to(x.dtype)


def get_inputs():
    return [torch.randn(3, 7, 96, dtype=torch.bfloat16)]


def get_init_inputs():
    return [96]
""",
        """
_CASTING_MODE_LLAMA: tl.constexpr = tl.constexpr(0)


@triton.jit
def _rms_norm(Y, ystride, X, xstride, W, R, n_cols, eps, offset, casting_mode: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    cols = tl.arange(0, BLOCK)
    mask = cols < n_cols
    x = tl.load(X + row * xstride + cols, mask=mask, other=0)
    w = tl.load(W + cols, mask=mask, other=0)
    dtype = x.dtype
    if casting_mode == _CASTING_MODE_LLAMA:
        x = x.to(tl.float32)
    ms = tl.sum(x * x, axis=0) / n_cols
    rstd = tl.rsqrt(ms + eps)
    tl.store(R + row, rstd)
    x = x * rstd
    if casting_mode == _CASTING_MODE_LLAMA:
        x = x.to(dtype)
    y = x * (offset + w)
    tl.store(Y + row * ystride + cols, y.to(dtype), mask=mask)


class ModelNew(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n, dtype=torch.bfloat16))

    def forward(self, X):
        shape = X.shape
        X = X.view(-1, shape[-1])
        n_rows, n_cols = X.shape
        BLOCK = triton.next_power_of_2(n_cols)
        Y = torch.empty((n_rows, n_cols), dtype=X.dtype, device=X.device)
        RSTD = torch.empty(n_rows, dtype=torch.float32, device=X.device)
        _rms_norm[(n_rows,)](Y, Y.stride(0), X, X.stride(0), self.weight, RSTD, n_cols, 1e-6, 0.0, casting_mode=0, BLOCK=BLOCK, num_warps=4)
        return Y.view(*shape)
""",
        (
            fault("offset", "the offset of another model", "1e-6, 0.0, casting_mode", "1e-6, 1.0, casting_mode"),
            fault("padded_mean", "the mean over the padded row", "tl.sum(x * x, axis=0) / n_cols", "tl.sum(x * x, axis=0) / BLOCK"),
            fault("weight_left_out", "the weight is one in a fresh layer", "y = x * (offset + w)", "y = x"),
        ),
    ),
    Pair(
        "cross_entropy_chunked", "loss",
        """
class Model(nn.Module):
    def forward(self, x, target):
        return F.cross_entropy(x, target, ignore_index=-100, label_smoothing=0.1)


def get_inputs():
    t = torch.randint(0, 150, (21,))
    t[3] = -100
    return [torch.randn(21, 150), t]


def get_init_inputs():
    return []
""",
        """
@triton.jit
def ce_kernel(X, stride, Y, loss_ptr, n_cols, n_valid, ignore_index, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    y = tl.load(Y + row)
    X += row * stride
    if y == ignore_index:
        tl.store(loss_ptr + row, 0.0)
        return
    m = float("-inf")
    d = 0.0
    ori = tl.load(X + y).to(tl.float32)
    smooth = 0.0
    for i in range(0, n_cols, BLOCK):
        off = i + tl.arange(0, BLOCK)
        x = tl.load(X + off, mask=off < n_cols, other=float("-inf")).to(tl.float32)
        block_max = tl.max(x)
        smooth += tl.sum(tl.where(off < n_cols, x, 0.0))
        m_new = tl.maximum(m, block_max)
        d = d * tl.exp(m - m_new) + tl.sum(tl.exp(x - m_new))
        m = m_new
    lse = m + tl.log(d)
    loss = lse - ori
    loss = loss * (1 - eps) + eps * (lse - smooth / n_cols)
    nv = tl.load(n_valid)
    tl.store(loss_ptr + row, loss / nv)


@triton.jit
def count_kernel(Y, out, n, ignore_index, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    y = tl.load(Y + i, mask=i < n, other=ignore_index)
    tl.store(out, tl.sum((y != ignore_index).to(tl.float32), axis=0))


@triton.jit
def sum_kernel(x, out, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out, tl.sum(tl.load(x + i, mask=i < n, other=0.0), axis=0))


class ModelNew(nn.Module):
    def forward(self, x, target):
        n, V = x.shape
        loss = torch.empty(n, dtype=torch.float32, device=x.device)
        count = torch.empty(1, dtype=torch.float32, device=x.device)
        out = torch.empty((), dtype=torch.float32, device=x.device)
        B = triton.next_power_of_2(n)
        count_kernel[(1,)](target, count, n, -100, BLOCK=B)
        ce_kernel[(n,)](x, x.stride(-2), target, loss, V, count, -100, 0.1, BLOCK=64)
        sum_kernel[(1,)](loss, out, n, BLOCK=B)
        return out
""",
        (
            fault("mean_over_all", "ignored rows count in the mean", "(y != ignore_index).to(tl.float32)", "(i < n).to(tl.float32)"),
            fault("smoothing_left_out", "no label smoothing", "    loss = loss * (1 - eps) + eps * (lse - smooth / n_cols)\n", ""),
            fault("ignored_rows_count", "ignored rows are not left out", "if y == ignore_index:", "if y == -1:",
                  "ori = tl.load(X + y).to(tl.float32)", "ori = tl.load(X + tl.maximum(y, 0)).to(tl.float32)"),
            fault("denominator_not_rescaled", "the sum is not rescaled", "d * tl.exp(m - m_new)", "d"),
            fault("running_maximum", "the maximum of the last block", "m_new = tl.maximum(m, block_max)", "m_new = block_max",
                  "d = d * tl.exp(m - m_new)", "d = d * tl.exp(tl.minimum(m - m_new, 0.0))"),
        ),
    ),
    Pair(
        "swiglu", "pointwise",
        """
class Model(nn.Module):
    def forward(self, a, b):
        return F.silu(a) * b


def get_inputs():
    return [torch.randn(2, 11, 48).bfloat16(), torch.randn(2, 11, 48).bfloat16()]


def get_init_inputs():
    return []
""",
        """
@triton.jit
def silu(x):
    return x * tl.sigmoid(x)


@triton.jit
def _swiglu(a_ptr, b_ptr, c_ptr, stride, n_cols: tl.constexpr, BLOCK: tl.constexpr):
    pid = tl.program_id(0).to(tl.int64)
    a_ptr += pid * stride
    b_ptr += pid * stride
    c_ptr += pid * stride
    off = tl.arange(0, BLOCK)
    mask = off < n_cols
    a = tl.load(a_ptr + off, mask=mask, other=0).to(tl.float32)
    b = tl.load(b_ptr + off, mask=mask, other=0)
    c = silu(a).cast(b.dtype) * b
    tl.store(c_ptr + off, c, mask=mask)


class ModelNew(nn.Module):
    def forward(self, a, b):
        shape = a.shape
        n = shape[-1]
        a, b = a.view(-1, n), b.view(-1, n)
        c = torch.empty_like(a)
        _swiglu[(a.shape[0],)](a, b, c, c.stride(-2), n_cols=n, BLOCK=triton.next_power_of_2(n))
        return c.view(*shape)
""",
        (
            fault("other_half", "the gate on the other factor", "c = silu(a).cast(b.dtype) * b", "c = silu(b.to(tl.float32)).cast(b.dtype) * a.to(b.dtype)"),
            fault("sigmoid_only", "sigmoid in place of silu", "return x * tl.sigmoid(x)", "return tl.sigmoid(x)"),
        ),
    ),
    Pair(
        "geglu_tanh", "pointwise",
        """
class Model(nn.Module):
    def forward(self, a, b):
        return F.gelu(a, approximate="tanh") * b


def get_inputs():
    return [torch.randn(9, 70), torch.randn(9, 70)]


def get_init_inputs():
    return []
""",
        """
from triton.language.extra.libdevice import tanh


@triton.jit
def _geglu(a, b, c, stride, n_cols: tl.constexpr, BLOCK: tl.constexpr):
    pid = tl.program_id(0).to(tl.int64)
    off = tl.arange(0, BLOCK)
    mask = off < n_cols
    a_row = tl.load(a + pid * stride + off, mask=mask, other=0).to(tl.float32)
    b_row = tl.load(b + pid * stride + off, mask=mask, other=0)
    sqrt_2_over_pi = 0.7978845608028654
    a_cubed = a_row * a_row * a_row
    tanh_arg = sqrt_2_over_pi * (a_row + 0.044715 * a_cubed)
    geglu_a = 0.5 * a_row * (1 + tanh(tanh_arg))
    tl.store(c + pid * stride + off, geglu_a.cast(b_row.dtype) * b_row, mask=mask)


class ModelNew(nn.Module):
    def forward(self, a, b):
        n = a.shape[-1]
        c = torch.empty_like(a)
        _geglu[(a.shape[0],)](a, b, c, c.stride(-2), n_cols=n, BLOCK=triton.next_power_of_2(n), num_warps=4)
        return c
""",
        (
            fault("other_constant", "another constant", "0.044715", "0.04715"),
            fault("exact_gelu", "the exact function for the approximate one", "geglu_a = 0.5 * a_row * (1 + tanh(tanh_arg))",
                  "geglu_a = 0.5 * a_row * (1 + tl.erf(a_row * 0.7071067811865476))"),
        ),
    ),
    Pair(
        "rope_on_a_clone", "pointwise",
        """
def rotate_half(x):
    a, b = x.chunk(2, dim=-1)
    return torch.cat([-b, a], dim=-1)


class Model(nn.Module):
    def forward(self, q, k, cos, sin):
        return q * cos + rotate_half(q) * sin, k * cos + rotate_half(k) * sin


def get_inputs():
    half = torch.rand(13, 8)
    angle = torch.cat([half, half], -1)
    return [torch.randn(2, 3, 13, 16), torch.randn(2, 2, 13, 16), angle.cos(), angle.sin()]


def get_init_inputs():
    return []
""",
        """
@triton.jit
def _rope(t_ptr, cos_ptr, sin_ptr, n_heads, T, D: tl.constexpr):
    pid = tl.program_id(0)
    pos = pid % T
    half = tl.arange(0, D // 2)
    c = tl.load(cos_ptr + pos * D + half)
    s = tl.load(sin_ptr + pos * D + half)
    c2 = tl.load(cos_ptr + pos * D + D // 2 + half)
    s2 = tl.load(sin_ptr + pos * D + D // 2 + half)
    base = t_ptr + pid * D
    a = tl.load(base + half)
    b = tl.load(base + D // 2 + half)
    tl.store(base + half, a * c - b * s)
    tl.store(base + D // 2 + half, b * c2 + a * s2)


class ModelNew(nn.Module):
    def forward(self, q, k, cos, sin):
        q, k = q.clone(), k.clone()
        B, H, T, D = q.shape
        _rope[(B * H * T,)](q, cos, sin, H, T, D=D)
        _rope[(B * k.shape[1] * T,)](k, cos, sin, k.shape[1], T, D=D)
        return q, k
""",
        (
            fault("sign", "the rotation the other way", "a * c - b * s", "a * c + b * s", "b * c2 + a * s2", "b * c2 - a * s2"),
            fault("interleaved", "neighbours in place of halves", "a = tl.load(base + half)\n    b = tl.load(base + D // 2 + half)\n    tl.store(base + half, a * c - b * s)\n    tl.store(base + D // 2 + half,",
                  "a = tl.load(base + 2 * half)\n    b = tl.load(base + 2 * half + 1)\n    tl.store(base + 2 * half, a * c - b * s)\n    tl.store(base + 2 * half + 1,"),
            fault("position", "the position of another layout", "pos = pid % T", "pos = pid // T % T"),
            fault("halves_of_the_table", "the halves of the tables are taken to be alike", "b * c2 + a * s2", "b * c + a * s"),
            fault("in_place", "the arguments themselves are rotated", "q, k = q.clone(), k.clone()", "q, k = q, k"),
            fault("one_head_count", "keys take the number of heads of queries", "_rope[(B * k.shape[1] * T,)](k", "_rope[(B * T,)](k"),
        ),
    ),
    Pair(
        "fused_linear_cross_entropy", "loss",
        """
class Model(nn.Module):
    def __init__(self, d, v):
        super().__init__()
        self.head = nn.Linear(d, v, bias=False)

    def forward(self, x, target):
        return F.cross_entropy(self.head(x), target, reduction="none")


def get_inputs():
    return [torch.randn(19, 32), torch.randint(0, 75, (19,))]


def get_init_inputs():
    return [32, 75]
""",
        """
@triton.jit
def flce(x_ptr, w_ptr, t_ptr, o_ptr, M, V, D: tl.constexpr, BM: tl.constexpr, BV: tl.constexpr):
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    d = tl.arange(0, D)
    x = tl.load(x_ptr + rows[:, None] * D + d[None, :], mask=rows[:, None] < M, other=0.0)
    t = tl.load(t_ptr + rows, mask=rows < M, other=0)
    m = tl.full([BM], float("-inf"), tl.float32)
    s = tl.zeros([BM], tl.float32)
    picked = tl.zeros([BM], tl.float32)
    for v0 in range(0, V, BV):
        v = v0 + tl.arange(0, BV)
        w = tl.load(w_ptr + v[None, :] * D + d[:, None], mask=v[None, :] < V, other=0.0)
        logits = tl.dot(x, w, input_precision="ieee")
        logits = tl.where(v[None, :] < V, logits, float("-inf"))
        new = tl.maximum(m, tl.max(logits, 1))
        s = s * tl.exp(m - new) + tl.sum(tl.exp(logits - new[:, None]), 1)
        m = new
        picked += tl.sum(tl.where(v[None, :] == t[:, None], logits, 0.0), 1)
    tl.store(o_ptr + rows, m + tl.log(s) - picked, mask=rows < M)


class ModelNew(nn.Module):
    def __init__(self, d, v):
        super().__init__()
        self.head = nn.Linear(d, v, bias=False)

    def forward(self, x, target):
        M, D = x.shape
        V = self.head.weight.shape[0]
        out = torch.empty(M, device=x.device, dtype=x.dtype)
        flce[(triton.cdiv(M, 16),)](x, self.head.weight, target, out, M, V, D=D, BM=16, BV=32)
        return out
""",
        (
            fault("padding_counts", "columns past the vocabulary count", "        logits = tl.where(v[None, :] < V, logits, float(\"-inf\"))\n", ""),
            fault("block_local_target", "the target within the block", "v[None, :] == t[:, None]", "tl.arange(0, BV)[None, :] == t[:, None]"),
            fault("tf32", "the default precision of tl.dot", ', input_precision="ieee"', ""),
        ),
    ),
    Pair(
        "kl_div_batchmean", "loss",
        """
class Model(nn.Module):
    def forward(self, logp, q):
        return F.kl_div(logp, q, reduction="batchmean")


def get_inputs():
    return [torch.log_softmax(torch.randn(14, 60), -1), torch.softmax(torch.randn(14, 60), -1)]


def get_init_inputs():
    return []
""",
        """
@triton.jit
def _kl(y_pred, y_true, loss, stride, n_cols, BLOCK: tl.constexpr):
    pid = tl.program_id(0).to(tl.int64)
    total = 0.0
    for i in range(0, n_cols, BLOCK):
        off = i + tl.arange(0, BLOCK)
        mask = off < n_cols
        y = tl.load(y_pred + pid * stride + off, mask=mask, other=0.0)
        t = tl.load(y_true + pid * stride + off, mask=mask, other=0.0)
        part = tl.where(t > 0, t * (tl.log(tl.where(t > 0, t, 1.0)) - y), 0.0)
        total += tl.sum(part, axis=0)
    tl.store(loss + pid, total)


@triton.jit
def _mean(loss, out, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out, tl.sum(tl.load(loss + i, mask=i < n, other=0.0)) / n)


class ModelNew(nn.Module):
    def forward(self, logp, q):
        B, V = logp.shape
        loss = torch.empty((B,), device=logp.device, dtype=torch.float32)
        out = torch.empty((), device=logp.device, dtype=torch.float32)
        _kl[(B,)](logp, q, loss, logp.stride(0), V, BLOCK=32)
        _mean[(1,)](loss, out, B, BLOCK=triton.next_power_of_2(B))
        return out
""",
        (
            fault("mean", "the mean of all elements", "other=0.0)) / n)", "other=0.0)) / n / n)"),
            fault("reversed", "the divergence the other way", "t * (tl.log(tl.where(t > 0, t, 1.0)) - y)", "tl.exp(y) * (y - tl.log(tl.where(t > 0, t, 1.0)))"),
        ),
    ),
    Pair(
        "jsd", "loss",
        """
class Model(nn.Module):
    def __init__(self, beta):
        super().__init__()
        self.beta = beta

    def forward(self, x, y):
        p, q = x.exp(), y.exp()
        m = self.beta * q + (1 - self.beta) * p
        kl_q = F.kl_div(m.log(), q, reduction="none")
        kl_p = F.kl_div(m.log(), p, reduction="none")
        return (self.beta * kl_q + (1 - self.beta) * kl_p).sum(-1)


def get_inputs():
    return [torch.log_softmax(torch.randn(10, 50), -1), torch.log_softmax(torch.randn(10, 50), -1)]


def get_init_inputs():
    return [0.3]
""",
        """
@triton.jit
def _jsd(X, Y, loss, beta, n_cols, BLOCK: tl.constexpr):
    pid = tl.program_id(0)
    off = tl.arange(0, BLOCK)
    mask = off < n_cols
    x = tl.load(X + pid * n_cols + off, mask=mask, other=float("-inf"))
    y = tl.load(Y + pid * n_cols + off, mask=mask, other=float("-inf"))
    P = tl.exp(x)
    Q = tl.exp(y)
    b = beta * Q
    a = (1 - beta) * P
    M = tl.where(mask, a + b, 1.0)
    log_m = tl.log(M)
    terms = b * (tl.where(mask, y, 0.0) - log_m) + a * (tl.where(mask, x, 0.0) - log_m)
    tl.store(loss + pid, tl.sum(terms, axis=0))


class ModelNew(nn.Module):
    def __init__(self, beta):
        super().__init__()
        self.beta = beta

    def forward(self, x, y):
        out = torch.empty(x.shape[0], device=x.device, dtype=x.dtype)
        _jsd[(x.shape[0],)](x, y, out, self.beta, x.shape[1], BLOCK=64)
        return out
""",
        (
            fault("half", "beta is a half", "self.beta, x.shape[1]", "0.5, x.shape[1]"),
            fault("exchanged", "the weights exchanged", "b = beta * Q\n    a = (1 - beta) * P", "b = (1 - beta) * Q\n    a = beta * P"),
        ),
    ),
    Pair(
        "embedding_2d_grid", "gather",
        """
class Model(nn.Module):
    def __init__(self, n, d):
        super().__init__()
        self.emb = nn.Embedding(n, d, padding_idx=0)

    def forward(self, idx):
        return self.emb(idx)


def get_inputs():
    return [torch.randint(0, 40, (5, 9))]


def get_init_inputs():
    return [40, 24]
""",
        """
@triton.jit
def embedding_fwd(emb, idx, out, n, dim: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    d = tl.program_id(1) * BN + tl.arange(0, BN)
    i = tl.load(idx + m, mask=m < n, other=0)
    mask = (m[:, None] < n) & (d[None, :] < dim)
    e = tl.load(emb + i[:, None] * dim + d[None, :], mask=mask, other=0.0)
    tl.store(out + m[:, None] * dim + d[None, :], e, mask=mask)


class ModelNew(nn.Module):
    def __init__(self, n, d):
        super().__init__()
        self.emb = nn.Embedding(n, d, padding_idx=0)

    def forward(self, idx):
        shape = idx.shape
        idx = idx.view(-1)
        w = self.emb.weight
        out = torch.empty(idx.shape[0], w.shape[1], device=idx.device, dtype=w.dtype)
        embedding_fwd[(triton.cdiv(idx.numel(), 16), triton.cdiv(w.shape[1], 16))](w, idx, out, idx.numel(), dim=w.shape[1], BM=16, BN=16)
        return out.view(*shape, -1)
""",
        (
            fault("padding_row_is_zero", "rows of the padding index are taken to be zero", "mask=mask, other=0.0)", "mask=mask & (i[:, None] != 0), other=0.0)"),
            fault("last_columns", "columns past a multiple of the tile are left out", "triton.cdiv(w.shape[1], 16))]", "w.shape[1] // 16)]"),
        ),
    ),
)  # fmt: skip
