"""Operators in JAX: each call through :func:`drt.backend.to_jax.to_jax_callable` gives what its definition means."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Any

import numpy
import torch
from drt.backend.oracle import Oracle
from drt.backend.to_jax import to_jax_callable
from drt.ir import Graph, OpDef, OpSet, UsageError
from drt.ir.opdef import Opaque
from drt.ir.typesys import UNIT_ROUNDOFF, is_float
from ops.checks import TORCH_DTYPES, graph_inputs, one_node_graph, random_operands
from ops.instances import Instance, draw

DTYPE_NAMES = {
    "float64": "f64", "float32": "f32", "float16": "f16", "bfloat16": "bf16", "int64": "i64", "int32": "i32",
    "int8": "i8", "uint8": "u8", "bool": "bool",
}  # fmt: skip


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


def run_jax(graph: Graph, inputs: dict[str, torch.Tensor], ops: OpSet) -> list[torch.Tensor]:
    """Return the outputs of a graph, run with JAX in its own dtypes."""
    found = to_jax_callable(graph, ops)(*(to_numpy(inputs[i.name]) for i in graph.inputs))
    return [to_torch(v) for v in (found if isinstance(found, tuple) else (found,))]


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


def lawful(graph: Graph, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the inputs with sequences that are searched in ascending order: of others, PyTorch leaves the answer open."""
    node = graph.nodes[0]
    names = dict(zip(("sequence", "values", "sorter"), node.operands)) if node.op == "searchsorted" else {}
    if node.op == "bucketize":
        names = {"sequence": node.operands[1]}
    out = dict(inputs)
    if isinstance(names.get("sequence"), str):
        out[names["sequence"]] = inputs[names["sequence"]].sort(-1).values
    if isinstance(names.get("sorter"), str):
        shape = inputs[names["sorter"]].shape
        out[names["sorter"]] = torch.arange(shape[-1]).expand(shape).contiguous()
    return out


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


def check_jax(op: OpDef, ops: OpSet, rng: random.Random, n: int = 2, rounding: float = 64.0) -> Iterator[str]:
    """What the operator becomes in JAX computes what it means, in the declared dtypes."""
    for k in range(n):
        instance = small(op, ops, rng, k)
        graph = one_node_graph(instance, ops)
        inputs = lawful(graph, graph_inputs(graph, random_operands(instance, rng, positive=k % 2 == 0)))
        if isinstance(op.body, Opaque) and "jax" not in op.calls:
            try:
                to_jax_callable(graph, ops)
                yield f"{instance}: lowered to JAX without a meaning"
            except UsageError as error:
                if op.name not in str(error):
                    yield f"{instance}: refused as '{error}'"
            continue
        expected = Oracle(ops).run(graph, inputs)
        for o, a, b in zip(graph.outputs, expected, run_jax(graph, inputs, ops), strict=True):
            problem = unequal(a, b, graph.types[str(o)].dtype, rounding)
            if problem:
                yield f"{instance} in JAX: {problem}"
