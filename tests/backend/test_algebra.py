"""Programs on ring elements: the laws hold, every operator reads, right kernels agree and wrong ones do not."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from drt.backend.candidate import Candidate
from drt.backend.oracle import Oracle
from drt.backend.verify import Verdict, verify_candidate
from drt.backend.verify.algebra import functions as fn
from drt.backend.verify.algebra.aten import ShadowMode, Shadows
from drt.backend.verify.algebra.element import Algebra, Elements
from drt.backend.verify.algebra.field import CHAINS, LEVELS, Field
from drt.ir import Unsatisfiable, Unsupported, builtin_ops, parse_graph
from drt.ir.opdef import Opaque
from ops.checks import _light, graph_inputs, one_node_graph, random_operands

OPS = builtin_ops()
Law = Callable[[Elements, Elements], tuple[Elements, Elements]]


def _equal_levels(a: Elements, b: Elements) -> list[int]:
    """Return the lawful levels at which two arrays agree everywhere; there must be a lawful one."""
    lawful = [k for k in range(LEVELS) if (a.lawful & b.lawful) >> k & 1]
    assert lawful
    return [k for k in lawful if (a.r[k] == b.r[k]).all()]


def _is_equal(a: Elements, b: Elements) -> bool:
    return len(_equal_levels(a, b)) == bin(a.lawful & b.lawful).count("1")


LAWS: dict[str, Law] = {
    "quotient": lambda x, y: ((x / y) * y, x),
    "one third of three": lambda x, y: (x / 3.0 + x / 3.0 + x / 3.0, x),
    "mean of parts": lambda x, y: ((x + y) / 2.0, x * 0.5 + y * 0.5),
    "exp of a sum": lambda x, y: (np.exp(x + y), np.exp(x) * np.exp(y)),
    "exp of a difference": lambda x, y: (np.exp(x - y), np.exp(x) / np.exp(y)),
    "exp twice": lambda x, y: (np.exp(np.exp(x) + y), np.exp(np.exp(x)) * np.exp(y)),
    "exp2": lambda x, y: (np.exp2(x * math.log2(math.e)), np.exp(x)),
    "exp2, rounded constant": lambda x, y: (np.exp2(x * 1.44269504), np.exp(x)),
    "log of a product": lambda x, y: (np.log(np.exp(x) * (y * y)), x + np.log(y * y)),
    "log of exp": lambda x, y: (np.log(np.exp(x)), x),
    "log of sums of exp": lambda x, y: (np.log(np.exp(x) + np.exp(y)), y + np.log(np.exp(x - y) + 1.0)),
    "log2": lambda x, y: (np.log2(np.exp(x)) * math.log(2), x),
    "sigmoid and tanh": lambda x, y: (fn.tanh(x), fn.sigmoid(2.0 * x) * 2.0 - 1.0),
    "sigmoid mirrored": lambda x, y: (fn.sigmoid(x) + fn.sigmoid(-x), x * 0.0 + 1.0),
    "log of sigmoid": lambda x, y: (np.log(fn.sigmoid(x)), -np.log(np.exp(-x) + 1.0)),
    "sinh and cosh": lambda x, y: (np.cosh(x) + np.sinh(x), np.exp(x)),
    "root of a product": lambda x, y: (np.sqrt(x * x * y * y), np.sqrt(x * x) * np.sqrt(y * y)),
    "inverse root": lambda x, y: (fn.rsqrt(x * x + 1.0), np.sqrt(1.0 / (x * x + 1.0))),
    "erf is odd": lambda x, y: (fn.erf(-x), -fn.erf(x)),
    "erfc": lambda x, y: (fn.erfc(x) - 1.0, -fn.erf(x)),
    "normal distribution": lambda x, y: (fn.normcdf(x), 0.5 * (1.0 + fn.erf(x * 0.70710678))),
    "cos is even": lambda x, y: (np.cos(-x), np.cos(x)),
    "maximum and minimum": lambda x, y: (np.maximum(x, y) + np.minimum(x, y), x + y),
    "absolute": lambda x, y: (abs(x), np.maximum(x, -x)),
    "powers": lambda x, y: (fn.power(x, x.algebra.lift(3.0)), x * x * x),
    "inverse powers": lambda x, y: (fn.power(x, x.algebra.lift(-2.0)), 1.0 / (x * x)),
    "halves cancel": lambda x, y: (x - (x - y) - y, x * 0.0),
    "remainder": lambda x, y: (fn.remainder(x, y) + np.floor(x / y) * y, x),
}  # fmt: skip

#: What is nearly true, or true in another order only.
NO_LAWS: dict[str, Law] = {
    "another epsilon": lambda x, y: (x / (y + 1e-5), x / (y + 1e-6)),
    "a tiny summand": lambda x, y: (x + 1e-20, x),
    "exp2 for exp": lambda x, y: (np.exp2(x), np.exp(x)),
    "one digit of a constant": lambda x, y: (np.exp2(x * 1.44268504), np.exp(x)),
    "tanh for erf": lambda x, y: (fn.tanh(x), fn.erf(x)),
    "sums under exp": lambda x, y: (np.exp(x) + np.exp(y), np.exp(x + y) + 1.0),
    "product of logs": lambda x, y: (np.log(y * y * 2.0), np.log(y * y) * 2.0),
    "root of a sum": lambda x, y: (np.sqrt(x + y), np.sqrt(x) + np.sqrt(y)),
    "sine and cosine": lambda x, y: (np.sin(x), np.cos(x)),
    "product of differences": lambda x, y: ((x - y) * (x + y), x * x + y * y),
}  # fmt: skip


@pytest.fixture(params=(1, 2, 2**61))
def pair(request: pytest.FixtureRequest) -> tuple[Elements, Elements]:
    algebra, draw = Algebra(request.param), np.random.default_rng(request.param)
    return algebra.numbers(draw.standard_normal((5, 40))), algebra.numbers(draw.standard_normal((5, 40)))


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_law(law: str, pair: tuple[Elements, Elements]) -> None:
    a, b = LAWS[law](*pair)
    assert _is_equal(a, b)


@pytest.mark.parametrize("law", NO_LAWS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_no_law(law: str, pair: tuple[Elements, Elements]) -> None:
    a, b = NO_LAWS[law](*pair)
    assert not _equal_levels(a, b)


def test_chains_are_chains_of_primes() -> None:
    def is_prime(n: int) -> bool:
        return n > 1 and all(n % q for q in range(2, math.isqrt(n) + 1))

    for p in CHAINS:
        assert all(is_prime(q) for q in (p, 2 * p + 1, 4 * p + 3)) and p % 840 == 839


def test_products_and_inverses_are_exact() -> None:
    field, draw = Field(7), np.random.default_rng(7)
    a, b = (field.reduce(draw.integers(0, 2**40, (LEVELS, *s))) for s in ((37, 301), (301, 5)))
    for k, p in enumerate(field.primes):
        expected = (a[k].astype(object) @ b[k].astype(object)) % p
        assert (field.matmul(a, b)[k] == expected.astype(np.int64)).all()
    for n in (3, 301):
        x = a[:, 0, :n]
        ones = field.reduce(x * field.inverse(x))
        assert ((ones == 1) | (x == 0)).all()


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (0.1 * 0.3, lambda c: c(0.1) * c(0.3)),
        (1 / 3, lambda c: c(1.0) / c(3.0)),
        (float(np.float32(1 / 3)), lambda c: c(1.0) / c(3.0)),
        (float(np.float32(0.1)), lambda c: c(0.1)),
        (1 / 4097, lambda c: c(1.0) / c(4097.0)),
        (64**-0.5, lambda c: fn.rsqrt(c(64.0))),
        (24**-0.5, lambda c: fn.rsqrt(c(24.0))),
        (24**-0.5 * 1.44269504, lambda c: fn.rsqrt(c(24.0)) * c(1.4426950408889634)),
        (0.7978845608, lambda c: np.sqrt(c(2.0) / c(math.pi))),
        (0.3989422804, lambda c: fn.rsqrt(c(2 * math.pi))),
        (0.70710678, lambda c: np.sqrt(c(0.5))),
    ],
)
def test_constants_are_what_they_are_roundings_of(written: float, meant: Callable[..., Elements]) -> None:
    algebra = Algebra(3)
    assert _is_equal(algebra.lift(written), meant(lambda x: algebra.lift(x)))


def test_constants_that_differ_stay_apart() -> None:
    algebra = Algebra(3)
    for a, b in ((1e-5, 1e-6), (0.044715, 0.044716), (0.70711, math.sqrt(0.5)), (3.1415, math.pi), (1e-5, 1.0001e-5)):
        assert not _equal_levels(algebra.lift(a), algebra.lift(b))


# -- operators ----------------------------------------------------------------------------------------------------------


def _readings(name: str, turns: range) -> Iterator[str]:
    """Yield what is wrong with the reading of an operator: values other than the oracle's, or residues other than theirs."""
    op, oracle = OPS[name], Oracle(OPS)
    rng = random.Random(f"ring {name}")
    for turn in turns:
        try:
            instance = _light(op, OPS, rng, turn)
        except Unsatisfiable:
            continue
        values = random_operands(instance, rng, positive=turn == 1)
        graph = one_node_graph(instance, OPS)
        inputs = {k: _whole(v) if turn == 0 else v for k, v in graph_inputs(graph, values).items()}
        inputs = {k: v.double() if v.is_floating_point() else v for k, v in inputs.items()}
        algebra = Algebra(turn)
        shadows = Shadows(algebra)
        for v in inputs.values():
            if v.is_floating_point() and v.numel():
                shadows.put(v, algebra.numbers(v.numpy()))
        expected = oracle.run(graph, inputs)
        with ShadowMode(shadows):
            found = oracle.run(graph, inputs)
        for want, out in zip(expected, found, strict=True):
            if not isinstance(want, torch.Tensor) or not want.is_floating_point():
                continue
            x, v = shadows.get(out), want.numpy()
            with np.errstate(all="ignore"):
                close = (
                    (x.v == v)
                    | (np.isnan(x.v) & np.isnan(v))
                    | (np.abs(x.v - v) <= 1e-9 * np.nan_to_num(np.abs(v)).max(initial=0))
                )
            if not close.all():
                yield f"{instance}: value {x.v[~close][0]}, expected {v[~close][0]}"
            if not algebra.used - {"arithmetic", "selection", "rounding"}:
                whole = (v == np.rint(v)) & (np.abs(v) < 2**50) & (x.v == v)
                residues = algebra.field.embed(np.where(whole, v, 0.0))
                if ((x.r != residues).any(0) & whole).any():
                    yield f"{instance}: residues of whole numbers"


def _whole(v: torch.Tensor) -> torch.Tensor:
    generator = torch.Generator().manual_seed(v.numel())
    return torch.randint(-3, 4, v.shape, generator=generator).to(v.dtype) if v.is_floating_point() else v


def _problems(name: str, turns: range) -> Iterator[str]:
    """Yield what is wrong with the reading of an operator; ``unread`` where it has none."""
    try:
        yield from _readings(name, turns)
    except Unsupported as error:
        assert "no reading in the ring" in error.message
        yield "unread"


#: Operators that draw random numbers have no reading, nor has what PyTorch alone knows the meaning of.
NAMES = [n for n, op in OPS.items() if op.family != "random" and not isinstance(op.body, Opaque)]

#: Operators of one family that may go without a reading: those that take floats apart, extremes of what is scattered.
MOST_UNREAD = 3


@pytest.mark.parametrize("family", sorted({OPS[n].family for n in NAMES}))
def test_operators_read_as_they_mean(family: str) -> None:
    found = [f"{n}: {p}" for n in NAMES if OPS[n].family == family for p in _problems(n, range(1))]
    wrong = [p for p in found if not p.endswith("unread")]
    assert not wrong, "\n".join(wrong[:5])
    assert len(found) <= MOST_UNREAD, found


@pytest.mark.full
@pytest.mark.parametrize("name", NAMES)
def test_operators_read_as_they_mean_thoroughly(name: str) -> None:
    assert set(_problems(name, range(6))) <= {"unread"}


def test_what_is_not_read_says_so() -> None:
    assert list(_problems("nextafter", range(1))) == ["unread"]


# -- candidates -----------------------------------------------------------------------------------------------------------


def _judged(graph: str, source: str) -> Verdict:
    return verify_candidate(parse_graph(graph), Candidate(source, "f", "test"), device="cpu")


def _evidence(verdict: Verdict) -> dict[str, object]:
    report = verdict.report("meaning")
    assert report is not None
    return report.evidence["algebra"]  # type: ignore[no-any-return]


VARIANCE = """drt 1
graph f(%x: f32[64, 512]) -> (%v) {
  %v, %m = var_mean(%x) {axes = [1], correction = 0, keepdim = False} : f32[64], f32[64]
}
"""

WELFORD = """
@triton.jit
def f_merge(m1, s1, n1, m2, s2, n2):
    n = n1 + n2
    d = m2 - m1
    w = tl.where(n == 0.0, 0.0, n2 / tl.where(n == 0.0, 1.0, n))
    return m1 + d * w, s1 + s2 + d * d * n1 * w, n


@triton.jit
def f_kernel(x, o, N, BLOCK: tl.constexpr):
    r = tl.program_id(0)
    c = tl.arange(0, BLOCK)
    v = tl.load(x + r * N + c, mask=c < N, other=0.0)
    one = tl.where(c < N, 1.0, 0.0)
    m, s, n = tl.reduce((v, tl.zeros_like(v), one), 0, f_merge)
    tl.store(o + r, s / n)


def f(x):
    o = torch.empty((x.shape[0],), device=x.device, dtype=x.dtype)
    f_kernel[(x.shape[0],)](x, o, x.shape[1], BLOCK=triton.next_power_of_2(x.shape[1]))
    return o
"""

ONE_PASS = """
@triton.jit
def f_kernel(x, o, N, BLOCK: tl.constexpr):
    r = tl.program_id(0)
    c = tl.arange(0, BLOCK)
    v = tl.load(x + r * N + c, mask=c < N, other=0.0).to(tl.float64)
    m = tl.sum(v, 0) / N
    tl.store(o + r, (tl.sum(v * v, 0) / N - m * m).to(tl.float32))


def f(x):
    o = torch.empty((x.shape[0],), device=x.device, dtype=x.dtype)
    f_kernel[(x.shape[0],)](x, o, x.shape[1], BLOCK=triton.next_power_of_2(x.shape[1]))
    return o
"""

PRODUCT = """drt 1
graph f(%a: f32[256, 512], %b: f32[512, 256]) -> (%c) {
  %c = matmul(%a, %b) : f32[256, 256]
}
"""

SPLIT_K = """
@triton.jit
def f_kernel(a, b, c, M, N, K, BM: tl.constexpr, BK: tl.constexpr, SPLITS: tl.constexpr):
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BM + tl.arange(0, BM)
    acc = tl.zeros((BM, BM), dtype=tl.float32)
    for start in range(tl.program_id(2) * BK, K, SPLITS * BK):
        k = start + tl.arange(0, BK)
        x = tl.load(a + m[:, None] * K + k[None, :], mask=(m[:, None] < M) & (k[None, :] < K), other=0.0)
        y = tl.load(b + k[:, None] * N + n[None, :], mask=(k[:, None] < K) & (n[None, :] < N), other=0.0)
        high = x.to(tl.bfloat16).to(tl.float32)
        acc = tl.dot(high, y, acc, input_precision="ieee")
        acc = tl.dot(x - high, y, acc, input_precision="ieee")
    tl.atomic_add(c + m[:, None] * N + n[None, :], acc, mask=(m[:, None] < M) & (n[None, :] < N))


def f(a, b):
    c = torch.zeros((a.shape[0], b.shape[1]), device=a.device, dtype=a.dtype)
    grid = (triton.cdiv(a.shape[0], 32), triton.cdiv(b.shape[1], 32), 2)
    f_kernel[grid](a, b, c, a.shape[0], b.shape[1], a.shape[1], BM=32, BK=32, SPLITS=2)
    return c
"""

MEAN = """drt 1
graph f(%x: bf16[64, 4096]) -> (%y) {
  %y = mean(%x) {axes = [1], keepdim = False} : bf16[64]
}
"""

MEAN_KERNEL = """
@triton.jit
def f_kernel(x, o, N, BLOCK: tl.constexpr):
    r = tl.program_id(0)
    s = tl.zeros((BLOCK,), tl.float32)
    for k in range(0, N, BLOCK):
        c = k + tl.arange(0, BLOCK)
        s += tl.load(x + r * N + c, mask=c < N, other=0.0).to(tl.float32)
    tl.store(o + r, (tl.sum(s, 0) / N).to(tl.bfloat16))


def f(x):
    o = torch.empty((x.shape[0],), device=x.device, dtype=x.dtype)
    f_kernel[(x.shape[0],)](x, o, x.shape[1], BLOCK=64)
    return o
"""


@pytest.mark.parametrize(
    ("graph", "source"),
    [(VARIANCE, WELFORD), (VARIANCE, ONE_PASS), (PRODUCT, SPLIT_K), (MEAN, MEAN_KERNEL)],
    ids=["welford", "one_pass", "split_k_of_split_factors", "mean_bf16"],
)
def test_another_algorithm_is_equal(graph: str, source: str) -> None:
    verdict = _judged(graph, source)
    assert verdict.passed, verdict.summary()
    evidence = _evidence(verdict)
    assert evidence["outcome"] == "equal", evidence
    assert evidence["deviation"] < 1e-9 and 0 < evidence["collision"] < 2**-40  # type: ignore[operator]


def test_a_wrong_divisor_that_bf16_hides_is_another_function() -> None:
    verdict = _judged(MEAN, MEAN_KERNEL.replace("/ N)", "/ (N + 0.002))"))
    assert (verdict.gate, verdict.label) == ("meaning", "other_function"), verdict.summary()
    assert "every element is" in verdict.message


def test_the_cause_is_named() -> None:
    from programs.judged import LAYER_NORM

    verdict = _judged(LAYER_NORM.graph, LAYER_NORM.source.replace("1e-5", "1e-6"))
    assert "the kernel has the constant 1e-06 where the definition has 1e-05" in verdict.message
    verdict = _judged(LAYER_NORM.graph, LAYER_NORM.source.replace("+ tl.load(b", "- tl.load(b"))
    assert "'b' is subtracted, not added" in verdict.message


def test_a_sloppy_constant_that_bf16_hides_is_another_function() -> None:
    from programs.judged import BIAS_GELU

    source = BIAS_GELU.source.replace("other=0.0)", "other=0.0).to(tl.float32)")
    verdict = _judged(BIAS_GELU.graph.replace("f32", "bf16"), source.replace("0.7071067811865476", "0.707"))
    assert (verdict.gate, verdict.label) == ("meaning", "other_function"), verdict.summary()
    assert "0.707 where the definition has 0.7071067812" in verdict.message
    verdict = _judged(BIAS_GELU.graph.replace("f32", "bf16"), source.replace("0.7071067811865476", "0.70711"))
    assert verdict.passed and any("0.70711" in flag for flag in verdict.flags), verdict.flags


def test_a_value_read_in_the_launcher_is_refused() -> None:
    source = MEAN_KERNEL.replace(
        "    f_kernel[(", "    scale = float(torch.zeros(1, dtype=x.dtype).sum())\n    f_kernel[("
    )
    verdict = _judged(MEAN, source)
    assert (verdict.gate, verdict.label) == ("trace", "sync")


def test_integers_alone_are_not_compared() -> None:
    graph = "drt 1\ngraph f(%x: i32[4000]) -> (%y) {\n  %y = add(%x, %x) : i32[4000]\n}\n"
    source = """
@triton.jit
def f_kernel(x, o, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(o + i, tl.load(x + i, mask=i < n) * 2, mask=i < n)


def f(x):
    o = torch.empty_like(x)
    f_kernel[(triton.cdiv(x.numel(), 256),)](x, o, x.numel(), BLOCK=256)
    return o
"""
    assert _evidence(_judged(graph, source))["outcome"] == "not_applicable"
