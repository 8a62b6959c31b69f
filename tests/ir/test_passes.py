"""Dead code, common subexpressions and constants."""

from __future__ import annotations

import math
import struct

import attrs
import pytest
import torch
from drt.backend.oracle import Oracle
from drt.backend.to_torch import to_callable
from drt.ir import (
    Graph,
    GraphBuilder,
    TensorType,
    builtin_ops,
    eliminate_common_subexpressions,
    eliminate_dead_code,
    fold_constants,
    parse_graph,
    print_graph,
    verify_graph,
)
from drt.ir.passes import round_to
from drt.ir.patterns import is_symmetric
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import graphs

PASSES = (eliminate_dead_code, eliminate_common_subexpressions, fold_constants)


@settings(max_examples=40, deadline=None)
@given(graphs(max_nodes=12), st.integers(0, 99))
def test_passes_keep_every_bit(graph: Graph, seed: int) -> None:
    shown = attrs.evolve(graph, outputs=(*graph.outputs, *(u.value for u in graph.updates)), updates=())
    generator = torch.Generator().manual_seed(seed)
    inputs = [torch.randn(i.type.shape, generator=generator) * 2 for i in graph.inputs]  # type: ignore[arg-type]
    expected = to_callable(shown)(*inputs)
    meant = Oracle().run(shown, dict(zip([i.name for i in graph.inputs], inputs)))
    for run in PASSES:
        after = run(shown)
        verify_graph(after)
        found = to_callable(after)(*inputs)
        for a, b in zip(_several(expected), _several(found), strict=True):
            assert torch.equal(a.isnan(), b.isnan()) and torch.equal(a.nan_to_num(), b.nan_to_num()), run.__name__
            assert not a.is_floating_point() or torch.equal(a.signbit() & ~a.isnan(), b.signbit() & ~b.isnan())
        for a, b in zip(meant, Oracle().run(after, dict(zip([i.name for i in graph.inputs], inputs))), strict=True):
            assert torch.allclose(a.double(), b.double(), equal_nan=True)
        assert run(after) == after


@pytest.mark.parametrize("value", [0.7, 3.1])
def test_a_folded_quotient_keeps_every_bit(value: float) -> None:
    graph = graph_of(
        f"%a = full() {{dtype = f32, shape = [2, 3], value = {value}}} : f32[2, 3]\n%b = div(2.5, %a) : f32[2, 3]\n"
        "%y = mul(%x, %b) : f32[2, 3]"
    )
    x, z = torch.ones(2, 3), torch.zeros(2, 3)
    after = eliminate_dead_code(fold_constants(graph))
    assert [n.op for n in after.nodes] == ["mul"]
    assert torch.equal(to_callable(graph)(x, z), to_callable(after)(x, z))


def _several(value: object) -> list[torch.Tensor]:
    return list(value) if isinstance(value, (tuple, list)) else [value]  # type: ignore[list-item]


@settings(max_examples=40, deadline=None)
@given(graphs(max_nodes=12))
def test_after_the_passes_nothing_is_dead_or_double(graph: Graph) -> None:
    after = eliminate_dead_code(eliminate_common_subexpressions(graph))
    read = after.live_out | {u for n in after.nodes for u in n.uses()}
    assert all(read & set(n.results) for n in after.nodes)
    said = [(n.op, n.operands, repr(n.attrs), n.types) for n in after.nodes]
    assert len(said) == len(set(said))
    assert after.inputs == graph.inputs and len(after.outputs) == len(graph.outputs)


def graph_of(body: str, outputs: str = "%y", inputs: str = "%x: f32[2, 3], %z: f32[2, 3]") -> Graph:
    return parse_graph(f"graph f({inputs}) -> ({outputs}) {{\n{body}\n}}")


def test_equal_up_to_the_order_of_a_symmetric_operator() -> None:
    both = graph_of("%a = add(%x, %z) : f32[2, 3]\n%b = add(%z, %x) : f32[2, 3]\n%y = mul(%a, %b) : f32[2, 3]")
    assert [n.operands for n in eliminate_common_subexpressions(both).nodes][1] == ("a", "a")
    other = graph_of("%a = sub(%x, %z) : f32[2, 3]\n%b = sub(%z, %x) : f32[2, 3]\n%y = mul(%a, %b) : f32[2, 3]")
    assert eliminate_common_subexpressions(other) == other


def test_which_operators_are_symmetric() -> None:
    found = {name for name, op in builtin_ops().items() if is_symmetric(op)}
    assert found >= {"add", "mul", "eq", "ne", "logical_and", "logical_or", "logical_xor", "bitwise_and", "bitwise_xor"}
    # Of two zeros, the order of the operands decides which is the larger.
    assert not found & {"sub", "div", "pow", "lt", "ge", "maximum", "minimum", "matmul", "outer"}


def test_numbers_of_different_kinds_are_different() -> None:
    graph = graph_of("%a = mul(%x, 0.0) : f32[2, 3]\n%b = mul(%x, -0.0) : f32[2, 3]\n%y = sub(%a, %b) : f32[2, 3]")
    assert eliminate_common_subexpressions(graph) == graph


def test_opaque_calls_may_be_random_and_stay_apart() -> None:
    b = GraphBuilder("f")
    x = b.input("x", TensorType("f32", (4,)))
    calls = [b.opaque("aten.bernoulli.default", [x], [TensorType("f32", (4,))], [["$0"], {}]) for _ in range(2)]
    graph = b.build([b.add("add", *calls)])
    assert eliminate_common_subexpressions(graph) == graph


def test_updates_are_followed_and_keep_values_alive() -> None:
    inputs = "%x: f32[3], buffer %m: f32[3]"
    body = "%a = neg(%x) : f32[3]\n%b = neg(%x) : f32[3]\n%c = exp(%x) : f32[3]"
    after = eliminate_dead_code(eliminate_common_subexpressions(graph_of(body, "%a; %m = %b", inputs)))
    assert print_graph(after).splitlines()[1:3] == [
        "graph f(%x: f32[3], buffer %m: f32[3]) -> (%a; %m = %a) {",
        "  %a = neg(%x) : f32[3]",
    ]


def test_several_results_are_merged_together() -> None:
    body = (
        "%v, %i = max_dim(%x) {axis = 1} : f32[2], i64[2]\n%w, %j = max_dim(%x) {axis = 1} : f32[2], i64[2]\n"
        "%y = add(%v, %w) : f32[2]"
    )
    after = eliminate_common_subexpressions(graph_of(body, "%y, %j"))
    assert after.outputs == ("y", "i") and [n.op for n in after.nodes] == ["max_dim", "add"]


# -- constants ----------------------------------------------------------------------------------------------------------


def folded(body: str, inputs: str = "%x: f32[2, 3]", outputs: str = "%y") -> list[str]:
    """Return the operator calls that are left."""
    after = eliminate_dead_code(fold_constants(graph_of(body, outputs, inputs)))
    verify_graph(after)
    return [line.strip().split(" = ", 1)[1] for line in print_graph(after).splitlines()[2:-1]]


FULL = "%c = full() {{dtype = {0}, shape = [3], value = {1}}} : {0}[3]\n"


@pytest.mark.parametrize(
    "dtype, value, body, result",
    [
        ("f32", "2.0", "add(%c, 0.5)", "2.5"),
        ("f32", "1", "div(%c, 3)", repr(struct.unpack("f", struct.pack("f", 1 / 3))[0])),
        ("bf16", "1", "div(%c, 3)", "0.333984375"),
        ("f16", "2049", "mul(%c, 1)", "2048.0"),
        ("f32", "4.0", "sqrt(%c)", "2.0"),
        ("f32", "-1.5", "relu(%c)", "0.0"),
        ("f32", "-inf", "maximum(%c, 2.0)", "2.0"),
        ("f32", "nan", "minimum(%c, 2.0)", "nan"),
        ("i64", "7", "floor_divide(%c, 2)", None),
        ("i64", "7", "sub(%c, 9)", "-2"),
        ("i32", "2147483647", "add(%c, 1)", None),
        ("f32", "3e38", "mul(%c, 10.0)", "inf"),
        ("f32", "0.0", "div(1, %c)", None),
        ("f32", "2.0", "exp(%c)", None),
        ("f32", "0.0", "maximum(%c, -0.0)", None),
        ("f32", "-2.5", "clamp(%c) {max = None, min = -1.0}", "-1.0"),
    ],
)
def test_arithmetic_on_constants(dtype: str, value: str, body: str, result: str | None) -> None:
    (*_, last) = folded(FULL.format(dtype, value) + f"%y = {body} : {dtype}[3]")
    assert last.startswith("full(") is (result is not None)
    if result is not None:
        assert last == f"full() {{dtype = {dtype}, shape = [3], value = {result}}} : {dtype}[3]"


@pytest.mark.parametrize(
    "body, left",
    [
        ("%y = reshape(%c) {shape = [3, 1]} : f32[3, 1]", "full() {dtype = f32, shape = [3, 1], value = 2.0} : f32[3, 1]"),
        ("%y = unsqueeze(%c) {axis = 0} : f32[1, 3]", "full() {dtype = f32, shape = [1, 3], value = 2.0} : f32[1, 3]"),
        ("%y = expand(%c) {shape = [2, 3]} : f32[2, 3]", "full() {dtype = f32, shape = [2, 3], value = 2.0} : f32[2, 3]"),
        ("%y = cast(%c) {to = i64} : i64[3]", "full() {dtype = i64, shape = [3], value = 2} : i64[3]"),
        ("%y = cast(%c) {to = bool} : bool[3]", "full() {dtype = bool, shape = [3], value = 1} : bool[3]"),
        ("%y = gt(%c, 1.0) : bool[3]", "full() {dtype = bool, shape = [3], value = 1} : bool[3]"),
        ("%y = slice(%c) {axis = 0, start = 1, step = 1, stop = 2} : f32[1]",
         "full() {dtype = f32, shape = [1], value = 2.0} : f32[1]"),
    ],
)  # fmt: skip
def test_rearranged_constants(body: str, left: str) -> None:
    assert folded(FULL.format("f32", "2.0") + body) == [left]


def test_padding_brings_in_another_number() -> None:
    body = "%y = pad(%c) {padding = [1, 1], value = 0} : f32[5]"
    assert len(folded(FULL.format("f32", "2.0") + body)) == 2


def test_a_constant_operand_becomes_a_number() -> None:
    assert folded(FULL.format("f32", "2.0") + "%y = mul(%x, %c) : f32[2, 3]") == ["mul(%x, 2.0) : f32[2, 3]"]
    # The result's shape comes from the constant, so it stays.
    body = "%c = full() {dtype = f32, shape = [2, 3], value = 2.0} : f32[2, 3]\n%y = mul(%x, %c) : f32[2, 3]"
    assert len(folded(body, "%x: f32[3]")) == 2
    # A power with a number as exponent is computed in another way.
    assert len(folded(FULL.format("f32", "2.0") + "%y = pow(%x, %c) : f32[2, 3]")) == 2
    where = "%c = full() {dtype = bool, shape = [], value = 1} : bool[]\n%y = logical_and(%x, %c) : bool[3]"
    assert folded(where, "%x: bool[3]") == ["logical_and(%x, True) : bool[3]"]


@settings(max_examples=300, deadline=None)
@given(st.floats(allow_nan=False))
def test_rounding_is_that_of_pytorch(value: float) -> None:
    for name, dtype in (("f64", torch.float64), ("f32", torch.float32)):
        assert round_to(value, name) == torch.tensor(value, dtype=torch.float64).to(dtype).item()
    single = round_to(value, "f32")
    for name, dtype in (("f16", torch.float16), ("bf16", torch.bfloat16)):
        assert round_to(single, name) == torch.tensor(single, dtype=torch.float32).to(dtype).item()
    assert math.copysign(1, round_to(-0.0, "f16")) == -1
