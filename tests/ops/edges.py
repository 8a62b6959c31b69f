"""Three readings of one call, compared at the edges of number types: the definition, PyTorch, JAX."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
import torch
from drt.backend.oracle import Oracle
from drt.ir import DrtError, OpDef, OpSet, Unsatisfiable, Unsupported, call_ranges
from drt.ir.expr import Bin, Call, Unary, children
from drt.ir.opdef import Scalar
from drt.ir.typesys import UNIT_ROUNDOFF, is_float
from ops.checks import (
    DISTINCT,
    PARTIAL,
    REFUSALS,
    TORCH_DTYPES,
    by_name,
    graph_inputs,
    one_node_graph,
    random_operands,
    torch_call,
)
from ops.instances import Instance, draw
from ops.jax_checks import in_jax

#: Where PyTorch's kernel ends the process: the lowest integer divided by -1.
TRAPS = frozenset({"trunc_divide"})
#: Families whose operands are numbers at the edges of their type.  The others sum products, in an order that is left open, so
#: that infinities may or may not meet: they get ordinary numbers in tensors that are often empty.
SPECIAL = frozenset({
    "activation", "arithmetic", "compare", "create", "elementwise", "quantize", "reduce", "scatter", "search", "sort",
    "special", "view",
})  # fmt: skip

FLOATS = (0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5, 3.0, math.inf, -math.inf, math.nan)
INTEGERS = (0, 1, -1, 2, -2, 3, -3, 7)


def pool(dtype: str, subnormal: bool = True) -> list[Any]:
    """Return numbers at the edges of ``dtype``: zeros, ones, ties of rounding, what is not finite, subnormals, extremes."""
    if dtype == "bool":
        return [False, True]
    if is_float(dtype):
        info = torch.finfo(TORCH_DTYPES[dtype])
        return [*FLOATS, *((info.tiny, info.tiny / 4, -info.tiny / 4) if subnormal else ())]
    limits = torch.iinfo(TORCH_DTYPES[dtype])
    return [v for v in (*INTEGERS, limits.min, limits.max) if limits.min <= v <= limits.max]


@attrs.frozen
class Difference:
    """One reading that differs from the definition.

    Attributes:
        op: operator.
        library: one of :data:`drt.ir.opdef.LIBRARIES`.
        dtype: of the result.
        kind: one of :data:`drt.ir.opdef.DIFFERENCES`.
        text: the call and the numbers.
    """

    op: str
    library: str
    dtype: str
    kind: str
    text: str


@attrs.frozen(eq=False)
class EdgeCall:
    """One call with operands at the edges."""

    instance: Instance
    operands: tuple[Any, ...]


@attrs.frozen(eq=False)
class Meant:
    """One call and what the definition makes of it, in float64."""

    call: EdgeCall
    expected: list[torch.Tensor]


def edge_calls(op: OpDef, rng: random.Random, n: int, subnormal: bool = True) -> Iterator[EdgeCall]:
    """Yield calls of every dtype with edge operands: all pairs where the operator broadcasts, else random picks."""
    variables = {v: sorted(allowed) for v, allowed in op.dtypes.items()}
    main = next(iter(variables), None)
    if op.name in DISTINCT:
        return  # which of equal elements is meant is left open
    for dtype in variables[main] if main else ("",):
        fixed = {v: dtype if v == main or dtype in allowed and rng.random() < 0.7 else rng.choice(allowed)
                 for v, allowed in variables.items()}  # fmt: skip
        product = _product(op, fixed, rng, subnormal) if isinstance(op.body, Scalar) else None
        if product is not None:
            yield product
        for k in range(n if product is None else 0 if op.name in TRAPS else max(1, n // 2)):
            special = op.family in SPECIAL
            try:
                instance = _light(op, rng, dtypes=fixed, small=True, zeros=0.15 if special else 0.6, turn=k)
            except Unsatisfiable:
                continue
            ranges = call_ranges(op, instance.infer()) if op.ranges else {}
            operands = list(zip(op.operands, instance.types))
            if any(_numel(t) for p, t in operands if p.name in ranges and ranges[p.name][0] > ranges[p.name][1]):
                continue  # an index into an axis without elements
            if not special or any(r.order for r in op.ranges):
                yield EdgeCall(instance, random_operands(instance, rng, positive=k % 2 == 0))
            else:
                yield EdgeCall(instance, tuple(_filled(t, ranges.get(p.name), rng, subnormal) for p, t in operands))


def _numel(t: Any) -> int:
    return sum(map(_numel, t)) if isinstance(t, tuple) else 0 if t is None else math.prod(t.shape)


def _light(op: OpDef, rng: random.Random, enough: int = 3000, **options: Any) -> Instance:
    """Return a call of few elements, the smallest of some."""
    best: tuple[int, Instance] | None = None
    for _ in range(6):
        instance = draw(op, rng, **options)
        size = _numel(instance.types) + _numel(instance.infer().types)
        if best is None or size < best[0]:
            best = size, instance
        if size <= enough:
            break
    assert best is not None
    return best[1]


def _product(op: OpDef, fixed: Mapping[str, str], rng: random.Random, subnormal: bool) -> EdgeCall | None:
    """Return a call of a vector per operand, each along an axis of its own, with all numbers of the pool."""
    if (
        not op.operands
        or op.ranges
        or len(op.operands) > 3
        or any(p.variadic or len(p.shape) != 1 for p in op.operands)
    ):
        return None
    try:
        base = draw(op, rng, dtypes=fixed, small=True)
        operands = []
        rank = len(op.operands)
        for k, p in enumerate(op.operands):
            dtype = fixed.get(p.dtype, p.dtype)
            numbers = pool(dtype, subnormal)
            if op.name in TRAPS and not is_float(dtype):
                numbers = [n for n in numbers if n != torch.iinfo(TORCH_DTYPES[dtype]).min]
            v = torch.tensor(numbers, dtype=torch.float64 if is_float(dtype) else None)
            operands.append(v.to(TORCH_DTYPES[dtype]).reshape([-1 if i == k else 1 for i in range(rank)]))
        types = tuple(attrs.evolve(t, shape=tuple(v.shape)) for t, v in zip(base.types, operands, strict=True))
        instance = attrs.evolve(base, types=types)
        instance.infer()
    except (DrtError, AttributeError):
        return None
    return EdgeCall(instance, tuple(operands))


def _filled(t: Any, within: tuple[Any, Any] | None, rng: random.Random, subnormal: bool) -> Any:
    """Return a tensor of numbers of the pool, of those in a range where there is one."""
    if isinstance(t, tuple):
        return tuple(_filled(x, within, rng, subnormal) for x in t)
    if t is None:
        return None
    numbers = pool(t.dtype, subnormal)
    if within is not None:
        lo, hi = within
        if not is_float(t.dtype) and math.isfinite(lo):
            numbers = list(range(int(lo), int(max(lo, min(hi, lo + 8))) + 1))
        numbers = [v for v in numbers if lo <= v <= hi] or [lo if math.isfinite(lo) else hi]
    values = [rng.choice(numbers) for _ in range(math.prod(t.shape))]
    v = torch.tensor(values, dtype=torch.float64 if is_float(t.dtype) else None)
    return v.to(TORCH_DTYPES[t.dtype]).reshape(t.shape)


def signed_zeros(op: OpDef) -> bool:
    """Return whether the sign of a zero is part of the meaning: of one operation, other than the larger of two zeros."""
    if not isinstance(op.body, Scalar) or len(op.body.exprs) != 1:
        return False
    e = op.body.exprs[0][1]
    return isinstance(e, (Bin, Unary, Call)) and not any(map(list, map(children, children(e)))) and (
        not isinstance(e, Call) or e.fn not in ("max", "min")
    )  # fmt: skip


# -- the three readings ---------------------------------------------------------------------------------------------------


def meant(op: OpDef, ops: OpSet, seed: int, n: int = 4, subnormal: bool = True) -> list[Meant]:
    """Return calls with what they mean; those that PyTorch, which the oracle computes with, has no answer for are left out."""
    rng = random.Random(f"{op.name} edges {seed}")
    oracle = Oracle(ops)
    found = []
    for call in edge_calls(op, rng, n, subnormal):
        graph = one_node_graph(call.instance, ops)
        try:
            found.append(Meant(call, oracle.run(graph, graph_inputs(graph, call.operands))))
        except (Unsupported, RuntimeError, IndexError):
            continue  # a division of integers by zero
    return found


def in_torch(op: OpDef, calls: list[Meant]) -> Iterator[Difference]:
    """Yield where the ``torch`` clause differs."""
    for m in calls if "torch" in op.calls else ():
        inferred = m.call.instance.infer()
        try:
            results = torch_call(op, by_name(op, m.call.operands), inferred)
        except REFUSALS as error:
            text = (str(error).splitlines() or [""])[0]
            if op.name not in PARTIAL:
                yield Difference(op.name, "torch", inferred.types[0].dtype, "refusal", f"{m.call.instance}: {text}")
            continue
        yield from _unlike("torch", m, results, signs=False)


def through_jax(calls: list[Meant], ops: OpSet) -> Iterator[Difference]:
    """Yield where JAX differs; one program is compiled for all calls, or one for each where JAX refuses one of them."""
    try:
        results = list(in_jax([(m.call.instance, m.call.operands) for m in calls], ops))
    except (TypeError, ValueError) as error:
        if len(calls) > 1:
            for m in calls:
                yield from through_jax([m], ops)
            return
        instance = calls[0].call.instance
        text = (str(error).splitlines() or [""])[0]
        yield Difference(instance.op.name, "jax", instance.infer().types[0].dtype, "refusal", f"{instance}: {text}")
        return
    for m, found in zip(calls, results, strict=True):
        yield from _unlike("jax", m, found, signs=signed_zeros(m.call.instance.op))


def _unlike(library: str, m: Meant, results: Sequence[torch.Tensor], signs: bool) -> Iterator[Difference]:
    op = m.call.instance.op
    for t, a, b in zip(m.call.instance.infer().types, m.expected, results):
        # Normalisations and powers enlarge what rounding leaves over of ordinary numbers.
        rounding = 64.0 if op.family in SPECIAL or t.dtype in ("f16", "bf16") else 1024.0
        for kind, text in compare(a, b, t.dtype, signs, rounding):
            yield Difference(op.name, library, t.dtype, kind, f"{m.call.instance}: {text}")


def compare(
    expected: torch.Tensor, found: torch.Tensor, dtype: str, signs: bool = False, rounding: float = 64.0
) -> Iterator[tuple[str, str]]:
    """Yield, for each kind of difference, its kind and one example.

    Args:
        expected: by the oracle, in float64.
        found: by a library, in ``dtype``.
        dtype: an IR dtype.
        signs: whether the signs of zeros are compared.
        rounding: how many roundings a finite element may be off, relative to itself and to 1.
    """
    if found.dtype != TORCH_DTYPES[dtype] or found.shape != expected.shape:
        yield "value", f"{found.dtype}{list(found.shape)}, expected {dtype}{list(expected.shape)}"
        return
    if not is_float(dtype):
        wrong = found != expected
        if bool(wrong.any()):
            yield "value", _example(wrong, found, expected)
        return
    a, b = expected.to(TORCH_DTYPES[dtype]).double(), found.double()
    nan = a.isnan() != b.isnan()
    infinite = ~nan & ~a.isnan() & (a.isinf() | b.isinf()) & (a != b)
    finite = a.isfinite() & b.isfinite()
    zero = finite & signs & (a == 0) & (b == 0) & (a.signbit() != b.signbit())
    limit = rounding * UNIT_ROUNDOFF[dtype] * (1 + a.abs())
    value = finite & ((a - b).abs() > limit)
    for kind, wrong in (("nan", nan), ("infinity", infinite), ("zero", zero), ("value", value)):
        if bool(wrong.any()):
            yield kind, _example(wrong, b, a)


def _example(wrong: torch.Tensor, found: torch.Tensor, expected: torch.Tensor) -> str:
    at = int(wrong.flatten().nonzero()[0])
    return f"{found.flatten()[at].item()} at {at}, expected {expected.flatten()[at].item()}"
