"""Files in the style of answers to KernelBench: layers with parameters, several kernels, intermediate buffers."""

from __future__ import annotations

from .pair import Pair, fault

SOLUTIONS = (
    Pair(
        "conv2d_implicit_gemm", "conv",
        """
class Model(nn.Module):
    def __init__(self, c_in, c_out, k):
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, k, stride=2, padding=1)

    def forward(self, x):
        return torch.relu(self.conv(x))


def get_inputs():
    return [torch.randn(2, 5, 11, 14)]


def get_init_inputs():
    return [5, 12, 3]
""",
        """
@triton.jit
def conv_kernel(x_ptr, w_ptr, b_ptr, y_ptr, N, C, H, W, O, OH, OW, S: tl.constexpr, P: tl.constexpr, R: tl.constexpr,
                BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    o = tl.program_id(1) * BN + tl.arange(0, BN)
    total = N * OH * OW
    n = m // (OH * OW)
    oh = (m // OW) % OH
    ow = m % OW
    K = C * R * R
    acc = tl.zeros((BM, BN), tl.float32)
    for k0 in range(0, K, BK):
        k = k0 + tl.arange(0, BK)
        c = k // (R * R)
        r = (k // R) % R
        s = k % R
        ih = oh[:, None] * S + r[None, :] - P
        iw = ow[:, None] * S + s[None, :] - P
        inside = (m[:, None] < total) & (k[None, :] < K) & (ih >= 0) & (ih < H) & (iw >= 0) & (iw < W)
        a = tl.load(x_ptr + ((n[:, None] * C + c[None, :]) * H + ih) * W + iw, mask=inside, other=0.0)
        b = tl.load(w_ptr + o[None, :] * K + k[:, None], mask=(o[None, :] < O) & (k[:, None] < K), other=0.0)
        acc += tl.dot(a, b, allow_tf32=False)
    acc += tl.load(b_ptr + o, mask=o < O, other=0.0)[None, :]
    acc = tl.maximum(acc, 0.0)
    at = ((n[:, None] * O + o[None, :]) * OH + oh[:, None]) * OW + ow[:, None]
    tl.store(y_ptr + at, acc, mask=(m[:, None] < total) & (o[None, :] < O))


class ModelNew(nn.Module):
    def __init__(self, c_in, c_out, k):
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, k, stride=2, padding=1)

    def forward(self, x):
        x = x.contiguous()
        N, C, H, W = x.shape
        w = self.conv.weight
        O, R = w.shape[0], w.shape[2]
        OH, OW = (H + 2 - R) // 2 + 1, (W + 2 - R) // 2 + 1
        y = torch.empty((N, O, OH, OW), device=x.device, dtype=x.dtype)
        grid = (triton.cdiv(N * OH * OW, 32), triton.cdiv(O, 16))
        conv_kernel[grid](x, w, self.conv.bias, y, N, C, H, W, O, OH, OW, S=2, P=1, R=R, BM=32, BN=16, BK=16)
        return y
""",
        (
            fault("bias_left_out", "the bias is left out", "    acc += tl.load(b_ptr + o, mask=o < O, other=0.0)[None, :]\n", ""),
            fault("right_border", "the right border is not padded", "(iw < W)", "(iw < W - 1)"),
            fault("rows_and_columns", "rows and columns of the weights exchanged", "r = (k // R) % R\n        s = k % R", "s = (k // R) % R\n        r = k % R"),
            fault("no_relu", "no activation", "    acc = tl.maximum(acc, 0.0)\n", ""),
            fault("tf32", "TF32 products", ", allow_tf32=False", ""),
        ),
    ),
    Pair(
        "conv_transpose1d_gather", "conv",
        """
class Model(nn.Module):
    def __init__(self, c_in, c_out, k):
        super().__init__()
        self.up = nn.ConvTranspose1d(c_in, c_out, k, stride=2, padding=1, output_padding=1)

    def forward(self, x):
        return self.up(x)


def get_inputs():
    return [torch.randn(2, 4, 9)]


def get_init_inputs():
    return [4, 6, 5]
""",
        """
@triton.jit
def up_kernel(x, w, b, y, CI, CO, L, LO, K: tl.constexpr, S: tl.constexpr, P: tl.constexpr, BLOCK: tl.constexpr):
    n = tl.program_id(0)
    co = tl.program_id(1)
    t = tl.program_id(2) * BLOCK + tl.arange(0, BLOCK)
    acc = tl.zeros((BLOCK,), tl.float32) + tl.load(b + co)
    for ci in range(CI):
        for k in tl.static_range(K):
            num = t + P - k
            i = num // S
            ok = (num >= 0) & (num % S == 0) & (i < L) & (t < LO)
            v = tl.load(x + (n * CI + ci) * L + i, mask=ok, other=0.0)
            acc += v * tl.load(w + (ci * CO + co) * K + k)
    tl.store(y + (n * CO + co) * LO + t, acc, mask=t < LO)


class ModelNew(nn.Module):
    def __init__(self, c_in, c_out, k):
        super().__init__()
        self.up = nn.ConvTranspose1d(c_in, c_out, k, stride=2, padding=1, output_padding=1)

    def forward(self, x):
        N, CI, L = x.shape
        CO, K = self.up.weight.shape[1:]
        LO = (L - 1) * 2 - 2 + K + 1
        y = torch.empty((N, CO, LO), device=x.device, dtype=x.dtype)
        up_kernel[(N, CO, triton.cdiv(LO, 16))](x, self.up.weight, self.up.bias, y, CI, CO, L, LO, K=K, S=2, P=1, BLOCK=16)
        return y
""",
        (
            fault("weight_layout", "the layout of a plain convolution", "(ci * CO + co) * K", "(co * CI + ci) * K"),
            fault("padding_sign", "the padding the other way", "t + P - k", "t - P + k"),
            fault("parity", "positions between the inputs take the one before", " & (num % S == 0)", ""),
        ),
    ),
    Pair(
        "max_pool3d", "pool",
        """
class Model(nn.Module):
    def forward(self, x):
        return F.max_pool3d(x, 3, stride=2, padding=1)


def get_inputs():
    return [torch.randn(1, 3, 6, 7, 9)]


def get_init_inputs():
    return []
""",
        """
@triton.jit
def pool(x, y, D, H, W, OD, OH, OW, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    ow = i % OW
    oh = (i // OW) % OH
    od = (i // (OW * OH)) % OD
    c = i // (OW * OH * OD)
    best = tl.full((BLOCK,), float("-inf"), tl.float32)
    for a in tl.static_range(3):
        for b in tl.static_range(3):
            for e in tl.static_range(3):
                d, h, w = od * 2 + a - 1, oh * 2 + b - 1, ow * 2 + e - 1
                ok = (i < n) & (d >= 0) & (d < D) & (h >= 0) & (h < H) & (w >= 0) & (w < W)
                best = tl.maximum(best, tl.load(x + ((c * D + d) * H + h) * W + w, mask=ok, other=float("-inf")))
    tl.store(y + i, best, mask=i < n)


class ModelNew(nn.Module):
    def forward(self, x):
        N, C, D, H, W = x.shape
        OD, OH, OW = [(s + 2 - 3) // 2 + 1 for s in (D, H, W)]
        y = torch.empty((N, C, OD, OH, OW), device=x.device, dtype=x.dtype)
        pool[(triton.cdiv(y.numel(), 128),)](x, y, D, H, W, OD, OH, OW, y.numel(), BLOCK=128)
        return y
""",
        (
            fault("zero_padding", "padding counts as zero", 'other=float("-inf")', "other=0.0"),
            fault("starts_at_zero", "the maximum starts at zero", 'tl.full((BLOCK,), float("-inf"), tl.float32)', "tl.zeros((BLOCK,), tl.float32)"),
            fault("no_padding", "no padding", "od * 2 + a - 1", "od * 2 + a"),
        ),
    ),
    Pair(
        "avg_pool2d_excluding_padding", "pool",
        """
class Model(nn.Module):
    def forward(self, x):
        return F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)


def get_inputs():
    return [torch.randn(2, 3, 9, 10)]


def get_init_inputs():
    return []
""",
        """
@triton.jit
def pool(x, y, H, W, OH, OW, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    ow = i % OW
    oh = (i // OW) % OH
    c = i // (OW * OH)
    s = tl.zeros((BLOCK,), tl.float32)
    count = tl.zeros((BLOCK,), tl.float32)
    for a in range(3):
        for b in range(3):
            h, w = oh * 2 + a - 1, ow * 2 + b - 1
            ok = (i < n) & (h >= 0) & (h < H) & (w >= 0) & (w < W)
            s += tl.load(x + (c * H + h) * W + w, mask=ok, other=0.0)
            count += ok.to(tl.float32)
    tl.store(y + i, s / tl.maximum(count, 1.0), mask=i < n)


class ModelNew(nn.Module):
    def forward(self, x):
        N, C, H, W = x.shape
        OH, OW = (H - 1) // 2 + 1, (W - 1) // 2 + 1
        y = torch.empty((N, C, OH, OW), device=x.device, dtype=x.dtype)
        pool[(triton.cdiv(y.numel(), 64),)](x, y, H, W, OH, OW, y.numel(), BLOCK=64)
        return y
""",
        (
            fault("padding_counts", "padding counts in the mean", "s / tl.maximum(count, 1.0)", "s / 9.0"),
        ),
    ),
    Pair(
        "instance_norm_two_stages", "norm",
        """
class Model(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.norm = nn.InstanceNorm2d(c, affine=True)

    def forward(self, x):
        return self.norm(x)


def get_inputs():
    return [torch.rand(2, 4, 9, 11)]


def get_init_inputs():
    return [4]
""",
        """
@triton.jit
def stats(x, mean, rstd, n, eps, BLOCK: tl.constexpr):
    r = tl.program_id(0)
    m = 0.0
    m2 = 0.0
    count = 0.0
    for i in range(0, n, BLOCK):
        off = i + tl.arange(0, BLOCK)
        ok = off < n
        v = tl.load(x + r * n + off, mask=ok, other=0.0)
        k = tl.sum(ok.to(tl.float32))
        bm = tl.sum(v) / k
        d = tl.where(ok, v - bm, 0.0)
        b2 = tl.sum(d * d)
        delta = bm - m
        new = count + k
        m += delta * k / new
        m2 += b2 + delta * delta * count * k / new
        count = new
    tl.store(mean + r, m)
    tl.store(rstd + r, 1.0 / tl.sqrt(m2 / count + eps))


@triton.jit
def apply(x, mean, rstd, w, b, y, C, HW, BLOCK: tl.constexpr):
    r = tl.program_id(0)
    off = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    ok = off < HW
    v = tl.load(x + r * HW + off, mask=ok)
    v = (v - tl.load(mean + r)) * tl.load(rstd + r)
    tl.store(y + r * HW + off, v * tl.load(w + r % C) + tl.load(b + r % C), mask=ok)


class ModelNew(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.norm = nn.InstanceNorm2d(c, affine=True)

    def forward(self, x):
        N, C, H, W = x.shape
        mean = torch.empty(N * C, device=x.device, dtype=torch.float32)
        rstd = torch.empty_like(mean)
        y = torch.empty_like(x)
        stats[(N * C,)](x, mean, rstd, H * W, self.norm.eps, BLOCK=32)
        apply[(N * C, triton.cdiv(H * W, 64))](x, mean, rstd, self.norm.weight, self.norm.bias, y, C, H * W, BLOCK=64)
        return y
""",
        (
            fault("channel_of_the_row", "the channel by division", "tl.load(w + r % C)", "tl.load(w + r // C)"),
            fault("welford_weight", "the correction without the counts", "delta * delta * count * k / new", "delta * delta"),
            fault("unbiased", "the unbiased variance", "m2 / count + eps", "m2 / (count - 1) + eps"),
        ),
    ),
    Pair(
        "batch_norm_training", "norm",
        """
class Model(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.bn = nn.BatchNorm2d(c)

    def forward(self, x):
        return self.bn(x)


def get_inputs():
    return [torch.randn(4, 3, 5, 6)]


def get_init_inputs():
    return [3]
""",
        """
@triton.jit
def bn_kernel(x, w, b, rm, rv, y, N, C, S, eps, momentum, TRAIN: tl.constexpr, BLOCK: tl.constexpr):
    c = tl.program_id(0)
    i = tl.arange(0, BLOCK)
    ok = i < N * S
    at = (i // S) * C * S + c * S + i % S
    v = tl.load(x + at, mask=ok, other=0.0)
    n = N * S
    if TRAIN:
        mean = tl.sum(v) / n
        d = tl.where(ok, v - mean, 0.0)
        var = tl.sum(d * d) / n
        tl.store(rm + c, (1 - momentum) * tl.load(rm + c) + momentum * mean)
        tl.store(rv + c, (1 - momentum) * tl.load(rv + c) + momentum * var * n / (n - 1))
    else:
        mean = tl.load(rm + c)
        var = tl.load(rv + c)
    out = (v - mean) * tl.rsqrt(var + eps) * tl.load(w + c) + tl.load(b + c)
    tl.store(y + at, out, mask=ok)


class ModelNew(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.bn = nn.BatchNorm2d(c)

    def forward(self, x):
        N, C, H, W = x.shape
        bn = self.bn
        y = torch.empty_like(x)
        if self.training:
            bn.num_batches_tracked += 1
        bn_kernel[(C,)](x, bn.weight, bn.bias, bn.running_mean, bn.running_var, y, N, C, H * W, bn.eps, bn.momentum,
                        TRAIN=self.training, BLOCK=triton.next_power_of_2(N * H * W))
        return y
""",
        (
            fault("biased_running_variance", "the running variance is the biased one", "momentum * var * n / (n - 1)", "momentum * var"),
            fault("running_statistics_forgotten", "running statistics are not updated", "        tl.store(rm + c, (1 - momentum) * tl.load(rm + c) + momentum * mean)\n        tl.store(rv + c, (1 - momentum) * tl.load(rv + c) + momentum * var * n / (n - 1))\n", ""),
            fault("evaluation_in_training", "the running statistics in training", "TRAIN=self.training", "TRAIN=False"),
            fault("count_forgotten", "the count of batches is not updated", "            bn.num_batches_tracked += 1\n", "            pass\n"),
            fault("momentum", "the weights of old and new exchanged", "(1 - momentum) * tl.load(rm + c) + momentum * mean", "momentum * tl.load(rm + c) + (1 - momentum) * mean"),
        ),
    ),
    Pair(
        "argmax_over_the_middle", "reduction",
        """
class Model(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.dim = dim

    def forward(self, x):
        return torch.argmax(x, dim=self.dim)


def get_inputs():
    return [torch.randn(5, 37, 18)]


def get_init_inputs():
    return [1]
""",
        """
@triton.jit
def argmax_kernel(x, o, K, N, BK: tl.constexpr, BN: tl.constexpr):
    b = tl.program_id(0)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    best = tl.full([BN], float("-inf"), tl.float32)
    where = tl.zeros([BN], tl.int64)
    for k in range(0, K):
        v = tl.load(x + b * K * N + k * N + n, mask=n < N, other=float("-inf"))
        better = v > best
        best = tl.where(better, v, best)
        where = tl.where(better, k, where)
    tl.store(o + b * N + n, where, mask=n < N)


class ModelNew(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.dim = dim

    def forward(self, x):
        x = x.movedim(self.dim, 1).contiguous() if self.dim not in (1, -2) else x.contiguous()
        B, K, N = x.shape
        o = torch.empty((B, N), device=x.device, dtype=torch.int64)
        argmax_kernel[(B, triton.cdiv(N, 16))](x, o, K, N, BK=16, BN=16)
        return o
""",
        (
            fault("last_of_equals", "the last of equal values", "better = v > best", "better = v >= best"),
            fault("starts_at_zero", "the maximum starts at zero", 'best = tl.full([BN], float("-inf"), tl.float32)', "best = tl.zeros([BN], tl.float32)"),
            fault("int32", "indices in 32 bits", "dtype=torch.int64", "dtype=torch.int32"),
        ),
    ),
    Pair(
        "reverse_cumsum", "scan",
        """
class Model(nn.Module):
    def forward(self, x):
        return torch.cumsum(x.flip(1), dim=1).flip(1)


def get_inputs():
    return [torch.randn(7, 90)]


def get_init_inputs():
    return []
""",
        """
@triton.jit
def rev(x, o, N, BLOCK: tl.constexpr):
    r = tl.program_id(0)
    carry = 0.0
    blocks = tl.cdiv(N, BLOCK)
    for k in range(blocks - 1, -1, -1):
        c = k * BLOCK + tl.arange(0, BLOCK)
        v = tl.load(x + r * N + c, mask=c < N, other=0.0)
        tl.store(o + r * N + c, tl.cumsum(v, axis=0, reverse=True) + carry, mask=c < N)
        carry += tl.sum(v, axis=0)


class ModelNew(nn.Module):
    def forward(self, x):
        o = torch.empty_like(x)
        rev[(x.shape[0],)](x, o, x.shape[1], BLOCK=32)
        return o
""",
        (
            fault("exclusive", "without the element itself", "reverse=True) + carry", "reverse=True) + carry - v"),
            fault("carry_left_out", "blocks do not know of those after them", "reverse=True) + carry", "reverse=True)"),
            fault("forward", "the other direction within a block", ", reverse=True", ""),
        ),
    ),
    Pair(
        "masked_cumsum", "scan",
        """
class Model(nn.Module):
    def forward(self, x, mask):
        return torch.cumsum(x * mask, dim=-1)


def get_inputs():
    return [torch.randn(6, 70), torch.randint(0, 2, (6, 70)).bool()]


def get_init_inputs():
    return []
""",
        """
@triton.jit
def kernel(x, m, o, N, BLOCK: tl.constexpr):
    r = tl.program_id(0)
    c = tl.arange(0, BLOCK)
    v = tl.load(x + r * N + c, mask=c < N, other=0.0)
    k = tl.load(m + r * N + c, mask=c < N, other=0)
    tl.store(o + r * N + c, tl.cumsum(tl.where(k, v, 0.0), 0), mask=c < N)


class ModelNew(nn.Module):
    def forward(self, x, mask):
        o = torch.empty_like(x)
        kernel[(x.shape[0],)](x, mask, o, x.shape[1], BLOCK=triton.next_power_of_2(x.shape[1]))
        return o
""",
        (
            fault("mask_ignored", "the mask is ignored", "tl.where(k, v, 0.0)", "v"),
            fault("mask_inverted", "the mask the other way", "tl.where(k, v, 0.0)", "tl.where(k, 0.0, v)"),
            fault("mask_of_the_first_row", "the first row's mask for all", "m + r * N + c", "m + c"),
        ),
    ),
)  # fmt: skip
