"""Files in the style of answers to KernelBench: losses, products of all shapes, several layers in one."""

from __future__ import annotations

from .pair import Pair, fault

PRODUCTS = (
    Pair(
        "hinge_loss", "loss",
        """
class Model(nn.Module):
    def forward(self, p, t):
        return torch.mean(torch.clamp(1 - p * t, min=0))


def get_inputs():
    return [torch.rand(30, 11), torch.randint(0, 2, (11,)).float() * 2 - 1]


def get_init_inputs():
    return []
""",
        """
@triton.jit
def hinge(p, t, part, n, N, BLOCK: tl.constexpr):
    pid = tl.program_id(0)
    i = pid * BLOCK + tl.arange(0, BLOCK)
    v = tl.load(p + i, mask=i < n, other=0.0) * tl.load(t + i % N, mask=i < n, other=0.0)
    h = tl.where(i < n, tl.maximum(1 - v, 0.0), 0.0)
    tl.store(part + pid, tl.sum(h))


@triton.jit
def finish(part, o, k, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(o, tl.sum(tl.load(part + i, mask=i < k, other=0.0)) / n)


class ModelNew(nn.Module):
    def forward(self, p, t):
        n = p.numel()
        k = triton.cdiv(n, 64)
        part = torch.empty(k, device=p.device, dtype=torch.float32)
        o = torch.empty((), device=p.device, dtype=torch.float32)
        hinge[(k,)](p, t, part, n, p.shape[1], BLOCK=64)
        finish[(1,)](part, o, k, n, BLOCK=triton.next_power_of_2(k))
        return o
""",
        (
            fault("targets_by_rows", "targets along the rows", "t + i % N", "t + i // N % N"),
            fault("no_clamp", "probabilities never exceed one", "tl.maximum(1 - v, 0.0)", "1 - v"),
            fault("padding_counts", "lanes past the end count as ones", "tl.where(i < n, tl.maximum(1 - v, 0.0), 0.0)", "tl.maximum(1 - v, 0.0)"),
            fault("shape", "one element in place of none", "o = torch.empty((),", "o = torch.empty((1,),"),
        ),
    ),
    Pair(
        "smooth_l1_beta", "loss",
        """
class Model(nn.Module):
    def forward(self, p, t):
        return F.smooth_l1_loss(p, t, beta=0.5)


def get_inputs():
    return [torch.randn(20, 33), torch.randn(20, 33)]


def get_init_inputs():
    return []
""",
        """
@triton.jit
def kernel(p, t, o, n, beta, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    d = tl.abs(tl.load(p + i, mask=i < n, other=0.0) - tl.load(t + i, mask=i < n, other=0.0))
    l = tl.where(d < beta, 0.5 * d * d / beta, d - 0.5 * beta)
    tl.atomic_add(o, tl.sum(l) / n)


class ModelNew(nn.Module):
    def forward(self, p, t):
        o = torch.zeros((), device=p.device, dtype=torch.float32)
        n = p.numel()
        kernel[(triton.cdiv(n, 128),)](p, t, o, n, 0.5, BLOCK=128)
        return o
""",
        (
            fault("default_beta", "the default beta", "o, n, 0.5, BLOCK", "o, n, 1.0, BLOCK"),
            fault("not_zeroed", "the sum starts from whatever is there", "torch.zeros((),", "torch.empty((),"),
            fault("sum", "the sum in place of the mean", "tl.sum(l) / n", "tl.sum(l)"),
            fault("lost_updates", "a store in place of an atomic update", "tl.atomic_add(o, tl.sum(l) / n)", "tl.store(o, tl.load(o) + tl.sum(l) / n)"),
        ),
    ),
    Pair(
        "triplet_margin", "loss",
        """
class Model(nn.Module):
    def forward(self, a, p, n):
        return F.triplet_margin_loss(a, p, n, margin=1.0)


def get_inputs():
    return [torch.randn(15, 40), torch.randn(15, 40), torch.randn(15, 40)]


def get_init_inputs():
    return []
""",
        """
@triton.jit
def triplet(a, p, n, o, D, margin, BLOCK: tl.constexpr):
    r = tl.program_id(0)
    c = tl.arange(0, BLOCK)
    ok = c < D
    va = tl.load(a + r * D + c, mask=ok, other=0.0)
    vp = tl.load(p + r * D + c, mask=ok, other=0.0)
    vn = tl.load(n + r * D + c, mask=ok, other=0.0)
    dp = tl.where(ok, va - vp + 1e-6, 0.0)
    dn = tl.where(ok, va - vn + 1e-6, 0.0)
    loss = tl.sqrt(tl.sum(dp * dp)) - tl.sqrt(tl.sum(dn * dn)) + margin
    tl.store(o + r, tl.maximum(loss, 0.0))


@triton.jit
def mean(x, o, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(o, tl.sum(tl.load(x + i, mask=i < n, other=0.0)) / n)


class ModelNew(nn.Module):
    def forward(self, a, p, n):
        B, D = a.shape
        rows = torch.empty(B, device=a.device, dtype=a.dtype)
        o = torch.empty([], device=a.device, dtype=a.dtype)
        triplet[(B,)](a, p, n, rows, D, 1.0, BLOCK=triton.next_power_of_2(D))
        mean[(1,)](rows, o, B, BLOCK=triton.next_power_of_2(B))
        return o
""",
        (
            fault("squared_distances", "squared distances", "tl.sqrt(tl.sum(dp * dp)) - tl.sqrt(tl.sum(dn * dn))", "tl.sum(dp * dp) - tl.sum(dn * dn)"),
            fault("no_margin", "no margin", "+ margin\n", "+ 0 * margin\n"),
            fault("swapped", "positive and negative exchanged", "(a, p, n, rows", "(a, n, p, rows"),
        ),
    ),
    Pair(
        "matvec_split", "gemm",
        """
class Model(nn.Module):
    def forward(self, a, x):
        return a @ x


def get_inputs():
    return [torch.randn(33, 200), torch.randn(200, 1)]


def get_init_inputs():
    return []
""",
        """
@triton.jit
def mv(a, x, y, M, K, BM: tl.constexpr, BK: tl.constexpr):
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    acc = tl.zeros((BM, BK), tl.float32)
    for k0 in range(0, K, BK):
        k = k0 + tl.arange(0, BK)
        v = tl.load(x + k, mask=k < K, other=0.0)
        acc += tl.load(a + m[:, None] * K + k[None, :], mask=(m[:, None] < M) & (k[None, :] < K), other=0.0) * v[None, :]
    tl.store(y + m, tl.sum(acc, axis=1), mask=m < M)


class ModelNew(nn.Module):
    def forward(self, a, x):
        M, K = a.shape
        y = torch.empty((M, 1), device=a.device, dtype=a.dtype)
        mv[(triton.cdiv(M, 16),)](a, x, y, M, K, BM=16, BK=64)
        return y
""",
        (
            fault("squeezed", "a vector in place of a column", "torch.empty((M, 1)", "torch.empty((M,)"),
            fault("last_block", "the last block is left out", "range(0, K, BK)", "range(0, K - BK, BK)"),
        ),
    ),
    Pair(
        "diagonal_matmul", "gemm",
        """
class Model(nn.Module):
    def forward(self, d, b):
        return torch.diag(d) @ b


def get_inputs():
    return [torch.randn(45), torch.randn(45, 45)]


def get_init_inputs():
    return []
""",
        """
@triton.jit
def kernel(d, b, o, M, BLOCK: tl.constexpr):
    r = tl.program_id(0)
    s = tl.load(d + r)
    for j in range(0, M, BLOCK):
        c = j + tl.arange(0, BLOCK)
        tl.store(o + r * M + c, s * tl.load(b + r * M + c, mask=c < M), mask=c < M)


class ModelNew(nn.Module):
    def forward(self, d, b):
        o = torch.empty_like(b)
        kernel[(b.shape[0],)](d, b, o, b.shape[1], BLOCK=32)
        return o
""",
        (
            fault("columns", "columns in place of rows, which a square matrix hides", "tl.store(o + r * M + c, s * tl.load(b", "tl.store(o + r * M + c, tl.load(d + c, mask=c < M) * tl.load(b"),
        ),
    ),
    Pair(
        "triangular_matmul", "gemm",
        """
class Model(nn.Module):
    def forward(self, a, b):
        return torch.triu(a @ b)


def get_inputs():
    return [torch.triu(torch.randn(50, 50)), torch.triu(torch.randn(50, 50))]


def get_init_inputs():
    return []
""",
        """
@triton.jit
def kernel(a, b, c, N, B: tl.constexpr):
    pm, pn = tl.program_id(0), tl.program_id(1)
    m = pm * B + tl.arange(0, B)
    n = pn * B + tl.arange(0, B)
    at = c + m[:, None] * N + n[None, :]
    inside = (m[:, None] < N) & (n[None, :] < N)
    if pm > pn:
        tl.store(at, tl.zeros((B, B), tl.float32), mask=inside)
        return
    acc = tl.zeros((B, B), tl.float32)
    for k0 in range(0, N, B):
        k = k0 + tl.arange(0, B)
        x = tl.load(a + m[:, None] * N + k[None, :], mask=(m[:, None] < N) & (k[None, :] < N), other=0.0)
        y = tl.load(b + k[:, None] * N + n[None, :], mask=(k[:, None] < N) & (n[None, :] < N), other=0.0)
        acc = tl.dot(x, y, acc, input_precision="ieee")
    tl.store(at, tl.where(m[:, None] <= n[None, :], acc, 0.0), mask=inside)


class ModelNew(nn.Module):
    def forward(self, a, b):
        N = a.shape[0]
        c = torch.empty_like(a)
        g = triton.cdiv(N, 16)
        kernel[(g, g)](a, b, c, N, B=16)
        return c
""",
        (
            fault("lower", "the lower triangle", "tl.where(m[:, None] <= n[None, :], acc, 0.0)", "tl.where(m[:, None] >= n[None, :], acc, 0.0)"),
            fault("nothing_below", "programs below the diagonal write nothing", "        tl.store(at, tl.zeros((B, B), tl.float32), mask=inside)\n        return", "        return"),
        ),
    ),
    Pair(
        "matmul_3d", "gemm",
        """
class Model(nn.Module):
    def forward(self, a, b):
        return torch.matmul(a, b)


def get_inputs():
    return [torch.randn(3, 14, 20), torch.randn(20, 18)]


def get_init_inputs():
    return []
""",
        """
@triton.jit
def kernel(a, b, c, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    acc = tl.zeros((BM, BN), tl.float32)
    for k0 in range(0, K, BK):
        k = k0 + tl.arange(0, BK)
        x = tl.load(a + m[:, None] * K + k[None, :], mask=(m[:, None] < M) & (k[None, :] < K), other=0.0)
        y = tl.load(b + k[:, None] * N + n[None, :], mask=(k[:, None] < K) & (n[None, :] < N), other=0.0)
        acc += tl.sum(x[:, :, None] * y[None, :, :], axis=1)
    tl.store(c + m[:, None] * N + n[None, :], acc, mask=(m[:, None] < M) & (n[None, :] < N))


class ModelNew(nn.Module):
    def forward(self, a, b):
        lead = a.shape[:-1]
        flat = a.reshape(-1, a.shape[-1])
        M, K = flat.shape
        N = b.shape[1]
        c = torch.empty((M, N), device=a.device, dtype=a.dtype)
        kernel[(triton.cdiv(M, 16), triton.cdiv(N, 16))](flat, b, c, M, N, K, BM=16, BN=16, BK=8)
        return c.view(*lead, N)
""",
        (
            fault("unmasked_k", "the last part of K is not masked", "mask=(m[:, None] < M) & (k[None, :] < K), other=0.0)\n        y", "mask=(m[:, None] < M), other=0.0)\n        y",
                  "mask=(k[:, None] < K) & (n[None, :] < N), other=0.0)\n        acc", "mask=(n[None, :] < N), other=0.0)\n        acc"),
        ),
    ),
    Pair(
        "linear_sum_max_mean_fused", "fused",
        """
class Model(nn.Module):
    def __init__(self, d_in, d_out):
        super().__init__()
        self.linear = nn.Linear(d_in, d_out)

    def forward(self, x):
        x = self.linear(x)
        x = torch.sum(x, dim=1, keepdim=True)
        x = torch.max(x, dim=1, keepdim=True)[0]
        x = torch.mean(x, dim=1, keepdim=True)
        x = torch.logsumexp(x, dim=1, keepdim=True)
        return x


def get_inputs():
    return [torch.randn(12, 30)]


def get_init_inputs():
    return [30, 20]
""",
        """
@triton.jit
def col_sum(w, o, R, C, BLOCK: tl.constexpr):
    c = tl.program_id(0)
    r = tl.arange(0, BLOCK)
    tl.store(o + c, tl.sum(tl.load(w + r * C + c, mask=r < R, other=0.0)))


@triton.jit
def total(b, o, R, BLOCK: tl.constexpr):
    r = tl.arange(0, BLOCK)
    tl.store(o, tl.sum(tl.load(b + r, mask=r < R, other=0.0)))


@triton.jit
def rows(x, s, t, o, C, BLOCK: tl.constexpr):
    r = tl.program_id(0)
    c = tl.arange(0, BLOCK)
    v = tl.load(x + r * C + c, mask=c < C, other=0.0) * tl.load(s + c, mask=c < C, other=0.0)
    tl.store(o + r, tl.sum(v) + tl.load(t))


class ModelNew(nn.Module):
    def __init__(self, d_in, d_out):
        super().__init__()
        self.linear = nn.Linear(d_in, d_out)

    def forward(self, x):
        w, b = self.linear.weight, self.linear.bias
        R, C = w.shape
        s = torch.empty(C, device=x.device, dtype=x.dtype)
        t = torch.empty(1, device=x.device, dtype=x.dtype)
        o = torch.empty((x.shape[0], 1), device=x.device, dtype=x.dtype)
        col_sum[(C,)](w, s, R, C, BLOCK=triton.next_power_of_2(R))
        total[(1,)](b, t, R, BLOCK=triton.next_power_of_2(R))
        rows[(x.shape[0],)](x, s, t, o, C, BLOCK=triton.next_power_of_2(C))
        return o
""",
        (
            fault("bias_once", "the bias is left out", "tl.sum(v) + tl.load(t)", "tl.sum(v) + 0 * tl.load(t)"),
            fault("rows_of_the_weight", "sums of the other axis", "w + r * C + c", "w + c + r * R"),
        ),
    ),
)  # fmt: skip
