"""Work and traffic, against counts made by hand."""

from __future__ import annotations

import pytest
from drt.ir import builtin_ops, parse_graph, symbol
from drt.ir.cost import graph_cost, is_view, node_flops
from drt.ir.intrinsics import SPECIAL

OPS = builtin_ops()


def cost(inputs: str, output: str, *nodes: str, symbols: str = ""):  # type: ignore[no-untyped-def]
    body = "\n".join(nodes)
    return graph_cost(parse_graph(f"drt 1\ngraph f{symbols}({inputs}) -> ({output}) {{\n{body}\n}}"))


def test_a_product_costs_two_operations_per_step() -> None:
    c = cost("%a: f32[8, 16], %b: f32[16, 4]", "%y", "%y = matmul(%a, %b) : f32[8, 4]")
    assert c.flops == c.product_flops == 2 * 8 * 16 * 4
    assert c.bytes == c.unfused_bytes == 4 * (8 * 16 + 16 * 4 + 8 * 4)


def test_a_composite_costs_what_its_parts_cost() -> None:
    c = cost("%x: f32[4, 8]", "%y", "%y = softmax(%x) {axis = 1} : f32[4, 8]")
    # amax, sub, exp, sum and div, each once per element.
    assert c.flops == 4 * 8 * (1 + 1 + SPECIAL + 1 + 1) and c.product_flops == 0
    assert c.bytes == 2 * 4 * 4 * 8


def test_what_stays_on_chip_is_no_traffic() -> None:
    c = cost("%x: bf16[4, 8]", "%z", "%y = relu(%x) : bf16[4, 8]", "%z = neg(%y) : bf16[4, 8]")
    assert c.bytes == 2 * 2 * 32 and c.unfused_bytes == 4 * 2 * 32


def test_views_are_free_and_read_only_what_is_used() -> None:
    c = cost(
        "%x: f32[4, 8]", "%z",
        "%y = transpose(%x) {axis0 = 0, axis1 = 1} : f32[8, 4]",
        "%s = slice(%y) {axis = 0, start = 2, stop = 4, step = 1} : f32[2, 4]",
        "%z = neg(%s) : f32[2, 4]",
    )  # fmt: skip
    assert c.flops == 8 and c.bytes == 4 * (8 + 8) and c.unfused_bytes == 4 * (8 + 8)


def test_a_view_of_an_input_moves_nothing() -> None:
    c = cost("%x: f32[4, 8]", "%y", "%y = transpose(%x) {axis0 = 0, axis1 = 1} : f32[8, 4]")
    assert c.unfused_bytes == 0


def test_a_gather_reads_no_more_than_it_makes() -> None:
    c = cost("%w: f32[1000, 16], %i: i64[4]", "%y", "%y = embedding(%w, %i) : f32[4, 16]")
    assert c.bytes == 4 * 4 * 16 + 8 * 4 + 4 * 4 * 16


def test_an_input_that_two_nodes_read_is_read_once() -> None:
    c = cost("%x: f32[4, 8]", "%z", "%y = relu(%x) : f32[4, 8]", "%z = mul(%x, %y) : f32[4, 8]")
    assert c.bytes == 2 * 4 * 32


def test_costs_stay_symbolic() -> None:
    node = "%y = matmul(%a, %b) : f32[B, 4]"
    c = cost("%a: f32[B, 16], %b: f32[16, 4]", "%y", node, symbols="<B in 1..64>")
    b = symbol("B", 1, 64)
    assert c.flops == b * 128 and c.bytes == b * 80 + 256


def test_a_stated_count_replaces_the_derived_one() -> None:
    c = cost("%x: f32[4, 8]", "%y", "%y = cumsum(%x) {axis = 1} : f32[4, 8]")
    assert c.flops <= 4 * 8


def test_opaque_nodes_have_no_work() -> None:
    g = parse_graph(
        'drt 1\ngraph f(%x: f32[4]) -> (%y) {\n  %y = opaque(%x) {arguments = "[[\\"$0\\"], {}]", target = "aten.foo.default"} : f32[4]\n}'
    )
    assert node_flops(g.nodes[0], g.types) == 0 and graph_cost(g).bytes == 32


@pytest.mark.parametrize(
    "name", ["permute", "transpose", "reshape", "expand", "slice", "squeeze", "unsqueeze", "flatten"]
)
def test_views(name: str) -> None:
    assert is_view(OPS[name], OPS)


@pytest.mark.parametrize(
    "name", ["flip", "roll", "embedding", "gather", "cat", "add", "sum", "matmul", "pad", "softmax"]
)
def test_what_is_no_view(name: str) -> None:
    assert not is_view(OPS[name], OPS)
