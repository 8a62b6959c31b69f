"""Files in the style of libraries of linear attention: chunks, recurrences, short convolutions, scans, norms."""

from __future__ import annotations

from .pair import Pair, fault

_LINEAR_ATTENTION = """
class Model(nn.Module):
    def forward(self, q, k, v):
        s = torch.einsum("bhtd,bhsd->bhts", q, k)
        t = q.shape[2]
        s = s.masked_fill(torch.ones(t, t, dtype=torch.bool).triu(1), 0.0)
        return torch.einsum("bhts,bhse->bhte", s, v)


def get_inputs():
    return [torch.randn(1, 2, 40, 16), torch.randn(1, 2, 40, 16), torch.randn(1, 2, 40, 16)]


def get_init_inputs():
    return []
"""

SCANS = (
    Pair(
        "linear_attention_chunks", "attention", _LINEAR_ATTENTION,
        """
@triton.heuristics({"IS_TAIL": lambda args: args["T"] % args["BT"] != 0})
@triton.jit
def chunk_kernel(q, k, v, o, T, D: tl.constexpr, BT: tl.constexpr, IS_TAIL: tl.constexpr):
    bh = tl.program_id(0)
    d = tl.arange(0, D)
    state = tl.zeros((D, D), tl.float32)
    i = tl.arange(0, BT)
    for t0 in range(0, T, BT):
        t = t0 + i
        at = (bh * T + t[:, None]) * D + d[None, :]
        if IS_TAIL:
            m = t[:, None] < T
        else:
            m = t[:, None] >= 0
        bq = tl.load(q + at, mask=m, other=0.0)
        bk = tl.load(k + at, mask=m, other=0.0)
        bv = tl.load(v + at, mask=m, other=0.0)
        s = tl.dot(bq, tl.trans(bk), input_precision="ieee")
        s = tl.where(i[:, None] >= i[None, :], s, 0.0)
        out = tl.dot(bq, state, input_precision="ieee") + tl.dot(s, bv, input_precision="ieee")
        state += tl.dot(tl.trans(bk), bv, input_precision="ieee")
        tl.store(o + at, out, mask=m)


class ModelNew(nn.Module):
    def forward(self, q, k, v):
        B, H, T, D = q.shape
        o = torch.empty_like(v)
        chunk_kernel[(B * H,)](q, k, v, o, T, D=D, BT=16)
        return o
""",
        (
            fault("state_of_this_chunk", "the state has this chunk already", "        state += tl.dot(tl.trans(bk), bv, input_precision=\"ieee\")\n", "",
                  "        s = tl.dot(bq,", "        state += tl.dot(tl.trans(bk), bv, input_precision=\"ieee\")\n        s = tl.dot(bq,"),
            fault("strict_mask", "a token does not see itself", "i[:, None] >= i[None, :]", "i[:, None] > i[None, :]"),
            fault("state_in_bf16", "the state is kept in bfloat16", "state += tl.dot(tl.trans(bk), bv, input_precision=\"ieee\")", "state = (state + tl.dot(tl.trans(bk), bv, input_precision=\"ieee\")).to(tl.bfloat16).to(tl.float32)"),
            fault("tail_not_masked", "the heuristic is the wrong way", '% args["BT"] != 0', '% args["BT"] == 0'),
        ),
    ),
    Pair(
        "linear_attention_two_kernels", "attention", _LINEAR_ATTENTION,
        """
@triton.jit
def states(k, v, h, T, NT, D: tl.constexpr, BT: tl.constexpr):
    bh = tl.program_id(0)
    d = tl.arange(0, D)
    acc = tl.zeros((D, D), tl.float32)
    for c in range(NT):
        tl.store(h + (bh * NT + c) * D * D + d[:, None] * D + d[None, :], acc)
        t = c * BT + tl.arange(0, BT)
        at = (bh * T + t[:, None]) * D + d[None, :]
        bk = tl.load(k + at, mask=t[:, None] < T, other=0.0)
        bv = tl.load(v + at, mask=t[:, None] < T, other=0.0)
        acc = tl.dot(tl.trans(bk), bv, acc, input_precision="ieee")


@triton.jit
def outputs(q, k, v, h, o, T, NT, D: tl.constexpr, BT: tl.constexpr):
    c, bh = tl.program_id(0), tl.program_id(1)
    d = tl.arange(0, D)
    t = c * BT + tl.arange(0, BT)
    at = (bh * T + t[:, None]) * D + d[None, :]
    m = t[:, None] < T
    bq = tl.load(q + at, mask=m, other=0.0)
    bk = tl.load(k + at, mask=m, other=0.0)
    bv = tl.load(v + at, mask=m, other=0.0)
    state = tl.load(h + (bh * NT + c) * D * D + d[:, None] * D + d[None, :])
    s = tl.dot(bq, bk.T, input_precision="ieee")
    s = tl.where(t[:, None] >= t[None, :], s, 0.0)
    tl.store(o + at, tl.dot(s, bv, input_precision="ieee") + tl.dot(bq, state, input_precision="ieee"), mask=m)


class ModelNew(nn.Module):
    def forward(self, q, k, v):
        B, H, T, D = q.shape
        NT = triton.cdiv(T, 16)
        h = torch.empty((B * H, NT, D, D), device=q.device, dtype=torch.float32)
        o = torch.empty_like(v)
        states[(B * H,)](k, v, h, T, NT, D=D, BT=16)
        outputs[(NT, B * H)](q, k, v, h, o, T, NT, D=D, BT=16)
        return o
""",
        (
            fault("chunks_of_the_launch", "one chunk too few", "NT = triton.cdiv(T, 16)", "NT = T // 16"),
            fault("state_transposed", "the state transposed", "state = tl.load(h + (bh * NT + c) * D * D + d[:, None] * D + d[None, :])", "state = tl.load(h + (bh * NT + c) * D * D + d[None, :] * D + d[:, None])"),
        ),
    ),
    Pair(
        "delta_rule_recurrent", "scan",
        """
class Model(nn.Module):
    def forward(self, q, k, v, beta):
        b, t, d = q.shape
        s = torch.zeros(b, d, v.shape[-1])
        out = []
        for i in range(t):
            ki, vi, bi = k[:, i], v[:, i], beta[:, i, None]
            err = (vi - torch.einsum("bd,bde->be", ki, s)) * bi
            s = s + ki[:, :, None] * err[:, None, :]
            out.append(torch.einsum("bd,bde->be", q[:, i], s))
        return torch.stack(out, 1)


def get_inputs():
    k = torch.randn(2, 11, 8)
    return [torch.randn(2, 11, 8), F.normalize(k, dim=-1), torch.randn(2, 11, 8), torch.rand(2, 11)]


def get_init_inputs():
    return []
""",
        """
@triton.jit
def delta(q, k, v, beta, o, T, D: tl.constexpr):
    b = tl.program_id(0)
    d = tl.arange(0, D)
    s = tl.zeros((D, D), tl.float32)
    for t in range(0, T):
        at = (b * T + t) * D + d
        bk = tl.load(k + at)
        bv = tl.load(v + at)
        bb = tl.load(beta + b * T + t)
        err = (bv - tl.sum(bk[:, None] * s, axis=0)) * bb
        s += bk[:, None] * err[None, :]
        tl.store(o + at, tl.sum(tl.load(q + at)[:, None] * s, axis=0))


class ModelNew(nn.Module):
    def forward(self, q, k, v, beta):
        B, T, D = q.shape
        o = torch.empty_like(v)
        delta[(B,)](q, k, v, beta, o, T, D=D)
        return o
""",
        (
            fault("no_delta", "plain linear attention", "(bv - tl.sum(bk[:, None] * s, axis=0)) * bb", "bv * bb"),
            fault("before_the_update", "the output before the update", "        s += bk[:, None] * err[None, :]\n        tl.store(o + at, tl.sum(tl.load(q + at)[:, None] * s, axis=0))", "        tl.store(o + at, tl.sum(tl.load(q + at)[:, None] * s, axis=0))\n        s += bk[:, None] * err[None, :]"),
        ),
    ),
    Pair(
        "short_convolution_silu", "conv",
        """
class Model(nn.Module):
    def __init__(self, d, w):
        super().__init__()
        self.w = w
        self.conv = nn.Conv1d(d, d, w, groups=d, padding=w - 1, bias=False)

    def forward(self, x):
        y = self.conv(x.transpose(1, 2))[..., : x.shape[1]]
        return F.silu(y.transpose(1, 2))


def get_inputs():
    return [torch.randn(2, 25, 10)]


def get_init_inputs():
    return [10, 4]
""",
        """
@triton.jit
def conv_kernel(x, w, y, T, D, W: tl.constexpr, BT: tl.constexpr, BD: tl.constexpr):
    t = tl.program_id(1) * BT + tl.arange(0, BT)
    d = tl.program_id(0) * BD + tl.arange(0, BD)
    b = tl.program_id(2)
    acc = tl.zeros((BT, BD), tl.float32)
    for i in tl.static_range(-W + 1, 1):
        s = t + i
        m = (s[:, None] >= 0) & (s[:, None] < T) & (d[None, :] < D)
        v = tl.load(x + (b * T + s[:, None]) * D + d[None, :], mask=m, other=0.0)
        acc += v * tl.load(w + d * W + i + W - 1, mask=d < D, other=0.0)[None, :]
    acc = acc * tl.sigmoid(acc)
    tl.store(y + (b * T + t[:, None]) * D + d[None, :], acc, mask=(t[:, None] < T) & (d[None, :] < D))


class ModelNew(nn.Module):
    def __init__(self, d, w):
        super().__init__()
        self.w = w
        self.conv = nn.Conv1d(d, d, w, groups=d, padding=w - 1, bias=False)

    def forward(self, x):
        B, T, D = x.shape
        y = torch.empty(B, T, D, device=x.device, dtype=x.dtype)
        grid = (triton.cdiv(D, 8), triton.cdiv(T, 16), B)
        conv_kernel[grid](x, self.conv.weight, y, T, D, W=self.w, BT=16, BD=8)
        return y.transpose(1, 2).contiguous().transpose(1, 2)
""",
        (
            fault("order_of_taps", "the taps in reverse", "w + d * W + i + W - 1", "w + d * W - i"),
            fault("looks_ahead", "centred in place of causal", "s = t + i\n", "s = t + i + 1\n"),
        ),
    ),
    Pair(
        "selective_scan", "scan",
        """
class Model(nn.Module):
    def forward(self, a, b):
        h = torch.zeros_like(a[:, 0])
        out = []
        for t in range(a.shape[1]):
            h = a[:, t] * h + b[:, t]
            out.append(h)
        return torch.stack(out, 1)


def get_inputs():
    return [torch.rand(3, 30, 6), torch.randn(3, 30, 6)]


def get_init_inputs():
    return []
""",
        """
@triton.jit
def combine(a1, b1, a2, b2):
    return a1 * a2, a2 * b1 + b2


@triton.jit
def ssm(a, b, o, T, D, BT: tl.constexpr):
    n, d = tl.program_id(0), tl.program_id(1)
    h = 0.0
    for t0 in range(0, T, BT):
        t = t0 + tl.arange(0, BT)
        at = (n * T + t) * D + d
        va = tl.load(a + at, mask=t < T, other=1.0)
        vb = tl.load(b + at, mask=t < T, other=0.0)
        pa, pb = tl.associative_scan((va, vb), 0, combine)
        out = pa * h + pb
        tl.store(o + at, out, mask=t < T)
        h = tl.sum(tl.where(tl.arange(0, BT) == BT - 1, out, 0.0))


class ModelNew(nn.Module):
    def forward(self, a, b):
        N, T, D = a.shape
        o = torch.empty_like(b)
        ssm[(N, D)](a, b, o, T, D, BT=16)
        return o
""",
        (
            fault("order", "the combination the other way", "return a1 * a2, a2 * b1 + b2", "return a1 * a2, a1 * b2 + b1"),
            fault("carry_left_out", "blocks do not know of those before", "out = pa * h + pb", "out = pb + 0 * h"),
            fault("carry_without_decay", "what is carried does not decay", "out = pa * h + pb", "out = h + pb"),
        ),
    ),
    Pair(
        "chunk_local_cumsum", "scan",
        """
class Model(nn.Module):
    def forward(self, g):
        b, t, h = g.shape
        return g.float().view(b, t // 16, 16, h).cumsum(2).view(b, t, h)


def get_inputs():
    return [torch.randn(2, 64, 5).half()]


def get_init_inputs():
    return []
""",
        """
@triton.jit
def local_cumsum(s, o, T, H, BT: tl.constexpr):
    c, bh = tl.program_id(0), tl.program_id(1)
    b, h = bh // H, bh % H
    t = c * BT + tl.arange(0, BT)
    x = tl.load(s + (b * T + t) * H + h, mask=t < T, other=0.0).to(tl.float32)
    tl.store(o + (b * T + t) * H + h, tl.cumsum(x, axis=0).to(o.dtype.element_ty), mask=t < T)


class ModelNew(nn.Module):
    def forward(self, g):
        B, T, H = g.shape
        o = torch.empty_like(g, dtype=torch.float)
        local_cumsum[(triton.cdiv(T, 16), B * H)](g, o, T, H, BT=16)
        return o
""",
        (
            fault("sums_in_half", "sums in half precision", ".to(tl.float32)\n    tl.store", "\n    tl.store"),
            fault("dtype", "the input's dtype", "torch.empty_like(g, dtype=torch.float)", "torch.empty_like(g)"),
        ),
    ),
    Pair(
        "rwkv_log_space", "scan",
        """
class Model(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.decay = nn.Parameter(torch.randn(d))
        self.bonus = nn.Parameter(torch.randn(d))

    def forward(self, k, v):
        w = -torch.exp(self.decay)
        b, t, d = k.shape
        num = torch.zeros(b, d)
        den = torch.zeros(b, d)
        top = torch.full((b, d), -1e38)
        out = []
        for i in range(t):
            ki, vi = k[:, i], v[:, i]
            m = torch.maximum(top, self.bonus + ki)
            e1, e2 = torch.exp(top - m), torch.exp(self.bonus + ki - m)
            out.append((e1 * num + e2 * vi) / (e1 * den + e2))
            m = torch.maximum(top + w, ki)
            e1, e2 = torch.exp(top + w - m), torch.exp(ki - m)
            num, den, top = e1 * num + e2 * vi, e1 * den + e2, m
        return torch.stack(out, 1)


def get_inputs():
    return [torch.randn(2, 12, 20), torch.randn(2, 12, 20)]


def get_init_inputs():
    return [20]
""",
        """
@triton.jit
def wkv(w_ptr, u_ptr, k, v, o, T, C, BC: tl.constexpr):
    b = tl.program_id(0)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    m = c < C
    w = -tl.exp(tl.load(w_ptr + c, mask=m, other=0.0))
    u = tl.load(u_ptr + c, mask=m, other=0.0)
    num = tl.zeros([BC], tl.float32)
    den = tl.zeros([BC], tl.float32)
    eps = tl.full([BC], -1e38, tl.float32)
    for t in range(T):
        at = (b * T + t) * C + c
        kt = tl.load(k + at, mask=m, other=0.0)
        vt = tl.load(v + at, mask=m, other=0.0)
        tau = tl.maximum(u + kt, eps)
        e1 = tl.exp(eps - tau)
        e2 = tl.exp(u + kt - tau)
        tl.store(o + at, (e1 * num + e2 * vt) / (e1 * den + e2), mask=m)
        weps = w + eps
        eps = tl.maximum(weps, kt)
        e1 = tl.exp(weps - eps)
        e2 = tl.exp(kt - eps)
        num = e1 * num + e2 * vt
        den = e1 * den + e2


class ModelNew(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.decay = nn.Parameter(torch.randn(d))
        self.bonus = nn.Parameter(torch.randn(d))

    def forward(self, k, v):
        B, T, C = k.shape
        o = torch.empty_like(v)
        wkv[(B, triton.cdiv(C, 16))](self.decay, self.bonus, k, v, o, T, C, BC=16)
        return o
""",
        (
            fault("bonus_forgotten", "the present token without its bonus", "e2 = tl.exp(u + kt - tau)", "e2 = tl.exp(kt - tau)"),
            fault("decay_sign", "growth in place of decay", "w = -tl.exp(", "w = tl.exp("),
            fault("denominator", "the denominator does not decay", "den = e1 * den + e2", "den = den + e2"),
        ),
    ),
    Pair(
        "dynamic_tanh", "norm",
        """
class Model(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1) * 0.5)
        self.gamma = nn.Parameter(torch.ones(n))
        self.beta = nn.Parameter(torch.zeros(n))

    def forward(self, x):
        return self.gamma * torch.tanh(self.alpha * x) + self.beta


def get_inputs():
    return [torch.randn(12, 100)]


def get_init_inputs():
    return [100]
""",
        """
from triton.language.extra.libdevice import tanh


@triton.jit
def _dyt(x, alpha, gamma, beta, y, n_cols, HAVE_BETA: tl.constexpr, BLOCK: tl.constexpr):
    col = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    row = tl.program_id(1)
    mask = col < n_cols
    a = tl.load(alpha)
    g = tl.load(gamma + col, mask=mask, other=0.0)
    v = tl.load(x + row * n_cols + col, mask=mask, other=0.0)
    out = tanh(a * v) * g
    if HAVE_BETA:
        out += tl.load(beta + col, mask=mask, other=0.0)
    tl.store(y + row * n_cols + col, out, mask=mask)


class ModelNew(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1) * 0.5)
        self.gamma = nn.Parameter(torch.ones(n))
        self.beta = nn.Parameter(torch.zeros(n))

    def forward(self, x):
        y = torch.empty_like(x)
        _dyt[(triton.cdiv(x.shape[1], 32), x.shape[0])](x, self.alpha, self.gamma, self.beta, y, x.shape[1], HAVE_BETA=True, BLOCK=32)
        return y
""",
        (
            fault("no_beta", "the shift is zero in a fresh layer", "HAVE_BETA=True", "HAVE_BETA=False"),
            fault("alpha", "alpha is what the constructor made it", "a = tl.load(alpha)", "a = 0.5 + 0 * tl.load(alpha)"),
        ),
    ),
    Pair(
        "group_norm_rows", "norm",
        """
class Model(nn.Module):
    def __init__(self, groups, channels):
        super().__init__()
        self.gn = nn.GroupNorm(groups, channels)

    def forward(self, x):
        return self.gn(x)


def get_inputs():
    return [torch.randn(2, 6, 5, 7)]


def get_init_inputs():
    return [3, 6]
""",
        """
@triton.jit
def _group_norm(x_ptr, w_ptr, b_ptr, y_ptr, hidden, channels_per_group, groups, eps, BLOCK: tl.constexpr):
    batch, group = tl.program_id(0), tl.program_id(1)
    base = (batch * groups + group) * hidden
    s = 0.0
    ss = 0.0
    for i in range(0, hidden, BLOCK):
        off = i + tl.arange(0, BLOCK)
        v = tl.load(x_ptr + base + off, mask=off < hidden, other=0.0)
        s += tl.sum(v)
    mean = s / hidden
    for i in range(0, hidden, BLOCK):
        off = i + tl.arange(0, BLOCK)
        v = tl.load(x_ptr + base + off, mask=off < hidden, other=mean) - mean
        ss += tl.sum(v * v)
    rstd = tl.rsqrt(ss / hidden + eps)
    per = hidden // channels_per_group
    for c in range(0, channels_per_group):
        w = tl.load(w_ptr + group * channels_per_group + c)
        b = tl.load(b_ptr + group * channels_per_group + c)
        for i in range(0, per, BLOCK):
            off = i + tl.arange(0, BLOCK)
            at = base + c * per + off
            v = tl.load(x_ptr + at, mask=off < per, other=0.0)
            tl.store(y_ptr + at, (v - mean) * rstd * w + b, mask=off < per)


class ModelNew(nn.Module):
    def __init__(self, groups, channels):
        super().__init__()
        self.gn = nn.GroupNorm(groups, channels)

    def forward(self, x):
        B, C = x.shape[:2]
        G = self.gn.num_groups
        x = x.contiguous()
        y = torch.empty_like(x)
        hidden = x[0].numel() // G
        _group_norm[(B, G)](x, self.gn.weight, self.gn.bias, y, hidden, C // G, G, self.gn.eps, BLOCK=32)
        return y
""",
        (
            fault("weights_of_the_group", "all groups take the first group's weights", "w_ptr + group * channels_per_group + c", "w_ptr + c"),
            fault("padding_in_variance", "padding counts in the variance", "other=mean) - mean", "other=0.0) - mean"),
            fault("one_pass", "the variance as a difference of two means", "v = tl.load(x_ptr + base + off, mask=off < hidden, other=mean) - mean", "v = tl.load(x_ptr + base + off, mask=off < hidden, other=0.0)",
                  "ss / hidden + eps", "ss / hidden - mean * mean + eps"),
        ),
    ),
)  # fmt: skip
