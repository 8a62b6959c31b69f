"""Operators in JAX: each call through :func:`drt.backend.to_jax.to_jax_callable` gives what its definition means."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy
import torch
from drt.backend.oracle import Oracle
from drt.backend.to_jax import to_jax_callable, wide_numbers
from drt.ir import Graph, GraphBuilder, OpDef, OpSet, UsageError
from drt.ir.effects import random_operators
from drt.ir.opdef import Opaque
from drt.ir.typesys import UNIT_ROUNDOFF, is_float
from ops.checks import TORCH_DTYPES, graph_inputs, one_node_graph, random_operands
from ops.instances import Instance, draw


def to_numpy(t: torch.Tensor) -> Any:
    """Return a tensor as numpy has it; bfloat16 through JAX's own dtype."""
    if t.dtype == torch.bfloat16:
        import jax.numpy as jnp

        return t.float().numpy().astype(jnp.bfloat16)
    return t.detach().numpy()


def to_torch(array: Any) -> torch.Tensor:
    """Return an array of JAX or numpy as a tensor."""
    found = numpy.array(array)
    if str(found.dtype) == "bfloat16":
        return torch.from_numpy(found.astype(numpy.float32)).to(torch.bfloat16)
    return torch.from_numpy(found)


Operands = tuple[Any, ...]


def side_by_side(calls: Sequence[tuple[Instance, Operands]], ops: OpSet) -> tuple[Graph, dict[str, torch.Tensor]]:
    """Return all calls as one program, each on inputs of its own, and the inputs."""
    b = GraphBuilder("calls", ops)
    inputs: dict[str, torch.Tensor] = {}
    outputs: list[Any] = []

    def operand(t: Any, v: Any) -> Any:
        if isinstance(t, tuple):
            return tuple(operand(x, y) for x, y in zip(t, v, strict=True))
        if t is None:
            return None
        name = b.input("x", t)
        inputs[name] = v
        return name

    for instance, values in calls:
        given = [operand(t, v) for t, v in zip(instance.types, values, strict=True)]
        made = b.add(instance.op.name, *given, **instance.attributes)
        outputs += made if isinstance(made, tuple) else [made]
    return b.build(outputs), inputs


def in_jax(calls: Sequence[tuple[Instance, Operands]], ops: OpSet) -> Iterator[list[torch.Tensor]]:
    """Yield the results of each call, run with JAX in its own dtypes; one program is compiled for all of them."""
    import jax

    graph, inputs = side_by_side(calls, ops)
    run = to_jax_callable(graph, ops)
    with wide_numbers():
        results = jax.tree.leaves(jax.jit(run)(*(to_numpy(inputs[i.name]) for i in graph.inputs)))
    given = iter(map(to_torch, results))
    for instance, _ in calls:
        yield [next(given) for _ in instance.infer().types]


def small(op: OpDef, ops: OpSet, rng: random.Random, turn: int, most: int = 4000, **options: Any) -> Instance:
    """Return a call of few elements, the smallest of some."""
    best: tuple[int, Instance] | None = None
    for _ in range(12):
        instance = draw(op, rng, turn=turn, small=turn % 3 != 2, **options)
        elements = sum(math.prod(t.shape) for t in one_node_graph(instance, ops).types.values())
        if best is None or elements < best[0]:
            best = elements, instance
        if elements <= most:
            break
    assert best is not None
    return best[1]


def unequal(expected: torch.Tensor, found: torch.Tensor, dtype: str, rounding: float) -> str:
    """Return how ``found``, of ``dtype``, is not ``expected``, kept in float64; "" where it is.

    Args:
        expected: by the oracle.
        found: by a library that computes in ``dtype``.
        dtype: an IR dtype.
        rounding: how many roundings an element may be off, relative to it and to the scale of the tensor.
    """
    if found.dtype != TORCH_DTYPES[dtype]:
        return f"dtype {found.dtype}, expected {dtype}"
    if found.shape != expected.shape:
        return f"shape {list(found.shape)}, expected {list(expected.shape)}"
    if not is_float(dtype):
        return (
            ""
            if torch.equal(found, expected)
            else f"{found.flatten()[:8].tolist()}, expected {expected.flatten()[:8].tolist()}"
        )
    # What overflows in the dtype is infinite there.
    wanted, own = expected.to(TORCH_DTYPES[dtype]).double(), found.double()
    finite = wanted.isfinite() & own.isfinite()
    scale = wanted[finite].abs().amax() if finite.any() else torch.zeros(())
    limit = rounding * UNIT_ROUNDOFF[dtype] * (wanted.abs() + scale) + torch.finfo(TORCH_DTYPES[dtype]).tiny
    off = (wanted - own).abs()
    wrong = torch.where(finite, off > limit, ~((wanted == own) | (wanted.isnan() & own.isnan())))
    if not bool(wrong.any()):
        return ""
    at = int(wrong.flatten().nonzero()[0])
    return f"{own.flatten()[at].item()} at {at}, expected {wanted.flatten()[at].item()}"


def is_drawn(op: OpDef, ops: OpSet) -> bool:
    """Return whether the operator has a value in JAX that an oracle can compare."""
    return op.name not in random_operators(ops) and ("jax" in op.calls or not isinstance(op.body, Opaque))


def check_jax(operators: Sequence[OpDef], ops: OpSet, seed: int = 0, rounding: float = 64.0) -> Iterator[str]:
    """What the operators become in JAX computes what they mean, in the declared dtypes; the others are refused by name."""
    calls = []
    for op in operators:
        rng = random.Random(f"{op.name} jax {seed}")
        # Factors of a matrix lose digits that its condition costs; the operators are compared where that does not matter.
        exact = (
            {"dtypes": {v: "f64" for v, d in op.dtypes.items() if "f64" in d}} if isinstance(op.body, Opaque) else {}
        )
        instance = small(op, ops, rng, seed, **exact)
        if is_drawn(op, ops):
            calls.append((instance, random_operands(instance, rng, positive=seed % 2 == 0)))
            continue
        try:
            to_jax_callable(one_node_graph(instance, ops), ops)
            yield f"{instance}: lowered to JAX without a meaning"
        except UsageError as error:
            if op.name not in str(error) and "random" not in str(error):
                yield f"{instance}: refused as '{error}'"
    for (instance, operands), found in zip(calls, in_jax(calls, ops) if calls else (), strict=True):
        graph = one_node_graph(instance, ops)
        expected = Oracle(ops).run(graph, graph_inputs(graph, operands))
        loose = 2.0**30 if isinstance(instance.op.body, Opaque) else rounding
        for t, a, b in zip(instance.infer().types, expected, found, strict=True):
            if is_float(t.dtype) and any(
                x.library == "jax" and x.kind == "nan" and t.dtype in x.dtypes for x in instance.op.limits
            ):
                b = torch.where(a.isnan() == b.isnan(), b, a.to(b.dtype))
            problem = unequal(a, b, t.dtype, loose)
            if problem:
                yield f"{instance} in JAX: {problem}"
