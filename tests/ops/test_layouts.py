"""Values mean the same wherever they lie in memory: a view of another value is an operand like any other."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from drt.backend.to_torch import to_callable
from drt.backend.torch_memory import Layouts
from drt.ir import OpDef, Unsatisfiable, builtin_ops
from drt.ir.effects import random_operators
from ops.checks import REFUSALS, by_name, graph_inputs, one_node_graph, random_operands, torch_call
from ops.instances import draw

OPS = builtin_ops()
CALLED = [op for op in OPS.values() if "torch" in op.calls and op.name not in random_operators(OPS)]
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

#: Operators of which another order of operations makes another number where an operand's rows are equal.
ROUNDED = frozenset({"det", "slogdet", "logdet", "batch_norm_training"})


def layouts(v: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield tensors like one, in the layouts that views have: other strides, another start, elements that stand twice."""
    yield v.permute(*range(v.dim() - 1, -1, -1)).contiguous().permute(*range(v.dim() - 1, -1, -1))
    yield torch.cat([v[:1], v, v[:1]])[1:-1]
    long = [a for a in range(v.dim()) if v.shape[a] > 1]
    for a in long:
        yield v.select(a, 0).unsqueeze(a).expand(v.shape)
    for a in long:
        for b in [b for b in long if b > a]:
            last = v.movedim((a, b), (-2, -1))
            line = torch.cat([last[..., 0], last[..., -1, 1:]], -1)
            yield line.unfold(-1, v.shape[b], 1).movedim((-2, -1), (a, b))


def problems(op: OpDef, turn: int) -> Iterator[str]:
    """Yield a line for each layout of an operand with which PyTorch gives something else."""
    rng = random.Random(turn)
    try:
        instance = draw(op, rng, turn=turn, dtypes={v: "f64" for v, allowed in op.dtypes.items() if "f64" in allowed})
    except Unsatisfiable:
        return
    values, inferred = random_operands(instance, rng, positive=turn % 2 == 0), instance.infer()

    def run(k: int, v: torch.Tensor) -> tuple[Any, ...]:
        return torch_call(op, by_name(op, (*values[:k], v, *values[k + 1 :])), inferred)

    for k, value in enumerate(values):
        if not isinstance(value, torch.Tensor) or not value.dim() or not value.numel():
            continue
        for v in layouts(value):
            try:
                expected = run(k, v.clone(memory_format=torch.contiguous_format))
            except REFUSALS:  # elements that it does not take
                continue
            for got, want in zip(run(k, v), expected, strict=True):
                if not torch.allclose(got.double(), want.double(), rtol=1e-6, atol=1e-9, equal_nan=True):
                    yield f"{instance}: operand {k}, strides {v.stride()}"


@pytest.mark.parametrize("turn", [1, *(pytest.param(t, marks=pytest.mark.full) for t in range(2, 40))])
def test_no_call_depends_on_the_layout_of_its_operands(turn: int) -> None:
    found = [p for op in CALLED if op.name not in ROUNDED for p in problems(op, turn)]
    assert not found, "\n".join(found[:10])


@pytest.mark.parametrize("turn", [0, *(pytest.param(t, marks=pytest.mark.full) for t in range(1, 10))])
def test_what_shares_memory_is_known_and_no_operand_is_written(turn: int) -> None:
    wrong = []
    for op in CALLED:
        rng = random.Random(turn)
        try:
            instance = draw(op, rng, turn=turn)
        except Unsatisfiable:
            continue
        graph = one_node_graph(instance, OPS)
        inputs = graph_inputs(graph, random_operands(instance, rng, positive=True))
        before = [v.clone() for v in inputs.values()]
        try:
            found = to_callable(graph)(*inputs.values())
        except REFUSALS:
            continue
        if not all(map(torch.equal, inputs.values(), before)):
            wrong.append(f"{instance}: an operand is written")
        own = {v.untyped_storage().data_ptr() for v in inputs.values() if v.numel()}
        known = Layouts(graph, OPS)
        for name, v in zip(graph.outputs, found if isinstance(found, tuple) else (found,), strict=True):
            if not v.numel() or v.untyped_storage().data_ptr() not in own:
                continue
            memory = torch.arange(v.untyped_storage().nbytes() // v.element_size())
            places = memory.as_strided(v.shape, v.stride(), v.storage_offset()).unique()
            if places.numel() < v.numel() and known.is_dense(str(name)):
                wrong.append(f"{instance}: elements stand twice")
            if v.storage_offset() and known.is_dense(str(name), first=True):
                wrong.append(f"{instance}: begins inside the memory of its operand")
    assert not wrong, "\n".join(wrong[:10])
