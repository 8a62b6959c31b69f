"""An operator whose meaning is ``opaque "reason"``: known by type and name, run as PyTorch has it, in every reading."""

from __future__ import annotations

import pytest
import torch
from drt.backend.oracle import Oracle
from drt.backend.to_torch import to_callable
from drt.backend.triton_gen import plan
from drt.frontend import import_module
from drt.ir import (
    GraphBuilder,
    TensorType,
    Unsupported,
    UsageError,
    VerifyError,
    builtin_ops,
    parse_graph,
    parse_ops,
    print_graph,
    print_op,
)
from drt.ir.cost import graph_cost
from drt.ir.docgen import operator_section
from drt.ir.opdef import Opaque
from drt.ir.passes import eliminate_common_subexpressions

TEXT = """
op whitened(x: T[B.., N, N]) -> (y: T[B.., N, N], info: i32[B..]) {
  doc    "Triangular factors of matrices."
  type   T: f32 | f64
  where  c1: N >= 1
  opaque "each row depends on the rows before it"
  torch  torch.linalg.cholesky_ex(x)
  aten   aten.linalg_cholesky_ex.default(x, upper=False, check_errors=_)
  flops  N * N * N
  source "https://docs.pytorch.org/docs/stable/generated/torch.linalg.cholesky_ex.html"
}
"""
OPS = {**{k: v for k, v in builtin_ops().items() if k != "cholesky_ex"}, **parse_ops(TEXT)}
OP = OPS["whitened"]


def matrices() -> torch.Tensor:
    a = torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(0))
    return a @ a.mT + torch.eye(3)


def test_types_text_cost_and_page() -> None:
    assert OP.body == Opaque("each row depends on the rows before it")
    assert parse_ops(print_op(OP)) == {"whitened": OP}
    b = GraphBuilder("f", OPS)
    x = b.input("x", TensorType("f32", (2, 3, 3)))
    y, info = b.add("whitened", x)
    graph = b.build([y, info])
    assert [str(graph.types[n]) for n in (y, info)] == ["f32[2, 3, 3]", "i32[2]"]
    assert parse_graph(print_graph(graph), ops=OPS) == graph
    assert graph_cost(graph, OPS).flops == 27
    assert "each row depends on the rows before it" in operator_section(OP)
    with pytest.raises(VerifyError, match="whitened_dtype"):
        b.add("whitened", b.input("h", TensorType("f16", (3, 3))))


def test_runs_as_pytorch_has_it_and_in_float64_in_the_oracle() -> None:
    x = matrices()
    imported = import_module(lambda x: torch.linalg.cholesky_ex(x.relu())[0] * 2, (x,), ops=OPS)
    assert [n.op for n in imported.graph.nodes] == ["relu", "whitened", "mul"] and not imported.unknown
    want = torch.linalg.cholesky_ex(x.relu())[0] * 2
    assert torch.equal(to_callable(imported.graph, OPS)(x), want)
    (meant,) = Oracle(OPS).run(imported.graph, {imported.graph.inputs[0].name: x})
    assert meant.dtype == torch.float64
    assert torch.equal(meant, torch.linalg.cholesky_ex(x.double().relu())[0] * 2)


def test_is_left_to_pytorch() -> None:
    b = GraphBuilder("f", OPS)
    y, _ = b.add("whitened", b.input("x", TensorType("f32", (3, 3))))
    with pytest.raises(Unsupported):
        plan(b.build([y]), OPS)


def test_is_not_merged_for_nothing_says_that_it_gives_the_same_twice() -> None:
    b = GraphBuilder("f", OPS)
    x = b.input("x", TensorType("f32", (3, 3)))
    first, second = b.add("whitened", x)[0], b.add("whitened", x)[0]
    graph = b.build([b.add("add", first, second)])
    assert len(eliminate_common_subexpressions(graph, OPS).nodes) == 3


def test_without_a_torch_clause_it_has_no_value() -> None:
    ops = {**builtin_ops(), **parse_ops(TEXT.replace("  torch  torch.linalg.cholesky_ex(x)\n", ""))}
    b = GraphBuilder("f", ops)
    y, _ = b.add("whitened", b.input("x", TensorType("f32", (3, 3))))
    with pytest.raises(UsageError, match="neither a meaning nor a torch clause"):
        Oracle(ops).run(b.build([y]), {"x": torch.eye(3)})
