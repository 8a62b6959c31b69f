"""Each definition against PyTorch and JAX at the edges of number types and shapes; where they differ, the definition says so."""

from __future__ import annotations

import math
from collections.abc import Iterable

import pytest
import torch
from drt.backend.oracle import Oracle
from drt.ir import OpDef, builtin_ops, parse_graph
from drt.ir.effects import random_operators
from drt.ir.opdef import Opaque, Scalar
from ops.edges import SPECIAL, Difference, in_torch, meant, pool, through_jax
from ops.limitations import DISTINCT

OPS = builtin_ops()
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
#: What has a meaning that is one number for one call.
NAMES = [
    n for n, op in OPS.items()
    if not isinstance(op.body, Opaque) and n not in random_operators(OPS) and n not in DISTINCT
]  # fmt: skip
OF_ONE_EXPRESSION = [n for n in NAMES if isinstance(OPS[n].body, Scalar)]
OTHERS = [n for n in NAMES if n not in OF_ONE_EXPRESSION and OPS[n].family in SPECIAL]
#: In the default run JAX is asked where the two libraries have disagreed most.
IN_JAX = (
    "amax", "cast", "cumsum", "floor_divide", "pow", "remainder", "round", "sign", "softmax",
)  # fmt: skip
#: Draws until a difference that few calls show must have shown.
MOST_SEEDS = 300
#: The same of JAX, where each is a program to be compiled.
MOST_PROGRAMS = 10


def unexplained(found: Iterable[Difference]) -> list[str]:
    """Return the differences that no limit of the definition covers."""
    return [
        f"limit {d.library} {d.kind} of {d.dtype}  # {d.text}"
        for d in found
        if not any((x.library, x.kind) == (d.library, d.kind) and d.dtype in x.dtypes for x in OPS[d.op].limits)
    ]


def unseen(op: OpDef, library: str, found: Iterable[Difference]) -> list[str]:
    """Return the limits of a definition that no difference shows."""
    shown = {(d.kind, d.dtype) for d in found if d.op == op.name and d.library == library}
    return [
        f"{op.name}: limit {x.library} {x.kind} at {x.inputs}"
        for x in op.limits
        if x.library == library and not any((x.kind, dtype) in shown for dtype in x.dtypes)
    ]


def check(found: list[Difference], left: list[str]) -> None:
    assert not unexplained(found), "\n".join(unexplained(found)[:5])
    assert not left, f"no longer differs, take it out: {left}"


@pytest.mark.parametrize("name", OF_ONE_EXPRESSION)
def test_expressions_in_pytorch(name: str) -> None:
    """All pairs of edge numbers: no difference that is not listed, and none that is listed for nothing."""
    op = OPS[name]
    calls = meant(op, OPS, 0)
    found = list(in_torch(op, calls))
    assert calls
    check(found, [] if op.ranges or len(op.operands) > 3 else unseen(op, "torch", found))


@pytest.mark.parametrize("name", OTHERS[::4])
def test_others_in_pytorch(name: str) -> None:
    check(list(in_torch(OPS[name], meant(OPS[name], OPS, 0))), [])


def test_in_jax() -> None:
    pytest.importorskip("jax", reason="jax: not installed; install drt[jax]")
    calls = [m for name in IN_JAX for m in meant(OPS[name], OPS, 0, n=1, subnormal=False)]
    found = list(through_jax(calls, OPS))
    check(found, [x for n in IN_JAX if n in OF_ONE_EXPRESSION for x in unseen(OPS[n], "jax", found)])


def test_jax_takes_subnormal_numbers_for_zero() -> None:
    """They are left out of what JAX is asked, for this one reason."""
    jax = pytest.importorskip("jax", reason="jax: not installed; install drt[jax]")
    tiny = next(v for v in pool("f32") if 0 < v < 1e-38)
    x = torch.tensor([tiny], dtype=torch.float32)
    assert float((x * 2).item()) > 0
    assert float(jax.jit(lambda v: v * 2)(jax.numpy.asarray(x.numpy()))[0]) == 0.0


@pytest.mark.full
@pytest.mark.parametrize("name", NAMES)
def test_all_in_pytorch(name: str) -> None:
    """Every limit shows, and no other difference."""
    op = OPS[name]
    found: list[Difference] = []
    compared = 0
    for seed in range(MOST_SEEDS):
        calls = meant(op, OPS, seed)
        compared += len(calls)
        found += in_torch(op, calls)
        if seed >= 3 and not unseen(op, "torch", found):
            break
    assert compared
    check(found, unseen(op, "torch", found))


@pytest.mark.full
@pytest.mark.parametrize("family", sorted({OPS[n].family for n in NAMES}))
def test_all_in_jax(family: str) -> None:
    """The same of JAX, all operators of a family in one program."""
    pytest.importorskip("jax", reason="jax: not installed; install drt[jax]")
    names = [n for n in NAMES if OPS[n].family == family]
    found: list[Difference] = []
    for seed in range(MOST_PROGRAMS):
        again = names if seed < 2 else [n for n in names if unseen(OPS[n], "jax", found)]
        calls = [m for n in again for m in meant(OPS[n], OPS, seed, n=2, subnormal=False)]
        if not calls:
            break
        found += through_jax(calls, OPS)
    check(found, [x for n in names for x in unseen(OPS[n], "jax", found)])


@pytest.mark.parametrize(
    "row", [[math.nan, 0.5, -1.0], [0.5, math.nan, -1.0], [0.2, 0.1, math.nan], [math.inf, 0.0, 1.0]]
)
def test_a_margin_that_is_no_number_does_not_count(row: list[float]) -> None:
    graph = parse_graph("""drt 1
        graph g(%x: f64[4, 3], %t: i64[4, 3]) -> (%y) {
          %y = multilabel_margin_loss(%x, %t) {reduction = none} : f64[4]
        }""")
    x = torch.tensor([row] * 4, dtype=torch.float64)
    target = torch.tensor([[0, -1, -1], [0, 1, -1], [2, 0, -1], [-1, 0, 0]])
    (meant_here,) = Oracle(OPS).run(graph, {"x": x, "t": target})
    torch.testing.assert_close(meant_here, torch.nn.functional.multilabel_margin_loss(x, target, reduction="none"))


def test_limits_are_about_operators_that_are_compared() -> None:
    for name, op in OPS.items():
        assert name in NAMES or not op.limits, name
        assert all(x.reason and x.inputs for x in op.limits), name
