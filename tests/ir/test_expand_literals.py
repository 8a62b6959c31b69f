"""Composites of literals: what gives a literal its dtype where no tensor does."""

from __future__ import annotations

import pytest
import torch
from drt.backend.oracle import Oracle
from drt.backend.to_torch import to_callable
from drt.ir import builtin_ops, expand_graph, load_ops, parse_graph, verify_graph

GRAPH = "drt 1\ngraph g({inputs}) -> (%y) {{\n  %y = {call} : {type}\n}}"


@pytest.mark.parametrize(
    "inputs, call, type_, value",
    [
        ("%a: f32[2, 3, 4], %b: f32[2, 4, 5]", "baddbmm(0.5, %a, %b) {alpha = 1, beta = 2}", "f32[2, 3, 5]", 5.0),
        ("%a: bf16[3, 4], %b: bf16[4, 5]", "addmm(0.5, %a, %b) {alpha = 1, beta = 1}", "bf16[3, 5]", 4.5),
        ("%a: f32[3, 4], %b: f32[4]", "addmv(2, %a, %b) {alpha = 0.5, beta = 0.5}", "f32[3]", 3.0),
        ("%a: f32[3]", "mse_loss(%a, 3.0) {reduction = mean}", "f32[]", 4.0),
        ("%a: f32[3]", "cosine_similarity(%a, 1.0) {axis = 0, eps = 1e-08}", "f32[]", 1.0),
    ],
)
def test_literal_operands(inputs: str, call: str, type_: str, value: float) -> None:
    graph = parse_graph(GRAPH.format(inputs=inputs, call=call, type=type_))
    flat = expand_graph(graph)
    verify_graph(flat)
    assert flat.types["y"] == graph.types["y"]
    given = {
        i.name: torch.ones(i.type.shape).to(getattr(torch, {"f32": "float32", "bf16": "bfloat16"}[i.type.dtype]))
        for i in graph.inputs
    }
    expected = torch.full(graph.types["y"].shape, value, dtype=torch.float64)
    assert torch.allclose(Oracle().run(graph, given)[0], expected)
    assert torch.allclose(Oracle().run(flat, given)[0], expected)
    assert torch.allclose(to_callable(graph)(*given.values()).double(), expected)


def test_literals_among_themselves_have_the_dtype_of_the_composite(tmp_path) -> None:
    file = tmp_path / "own.drt"
    file.write_text("""
        op half_less(x: T[S..]; k: float = 2.0) -> (y: T[S..], c: T[]) {
          type   T: float
          expand { d = sub(mul(k, 0.5), 1); y = mul(x, d); c = 3.0; }
        }""")
    ops = load_ops(file, base=builtin_ops())
    graph = parse_graph(
        "drt 1\ngraph g(%x: f64[3]) -> (%y, %c) {\n%y, %c = half_less(%x) {k = 8.0} : f64[3], f64[]\n}", ops=ops
    )
    flat = expand_graph(graph, ops)
    assert {t.dtype for t in flat.types.values()} == {"f64"}
    y, c = Oracle(ops).run(flat, {"x": torch.ones(3, dtype=torch.float64)})
    assert y.tolist() == [3.0, 3.0, 3.0] and c.item() == 3.0
