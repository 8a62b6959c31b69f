"""Ranges of values: which inputs they reach, and that no definition forgets one."""

from __future__ import annotations

import random

import attrs
import pytest
from drt.ir import ParseError, builtin_ops, input_ranges, parse_graph, parse_ops
from drt.ir import expr as ex
from drt.ir.opdef import Index
from ops.checks import one_node_graph
from ops.instances import draw

OPS = builtin_ops()


def test_ranges_reach_inputs_through_views_and_arithmetic_on_integers() -> None:
    graph = parse_graph("""drt 1
        graph g<V in 2..100>(%w: f32[V, 8], %i: i64[3], %j: i64[3], %x: f32[24], %t: f32[3, 8]) -> (%y, %z, %n) {
          %k = remainder(%i, 7) : i64[3]
          %y = embedding(%w, %k) : f32[3, 8]
          %p = reshape(%x) {shape = [3, 8]} : f32[3, 8]
          %s = sigmoid(%t) : f32[3, 8]
          %z = binary_cross_entropy(%p, %s, None) {reduction = mean} : f32[]
          %a = index_select(%t, %j) {axis = 1} : f32[3, 3]
          %b = index_select(%t, %j) {axis = 0} : f32[3, 8]
          %c = sum(%a) {axes = [0, 1], keepdim = False} : f32[]
          %d = sum(%b) {axes = [0, 1], keepdim = False} : f32[]
          %n = add(%c, %d) : f32[]
        }""")
    found = input_ranges(graph)
    assert {n: (str(lo), str(hi)) for n, (lo, hi) in found.items()} == {
        "i": ("0", "V - 1"), "x": ("0", "1"), "j": ("0", "2"),
    }  # fmt: skip


def test_a_graph_without_bounded_operands_has_no_ranges() -> None:
    graph = parse_graph("drt 1\ngraph g(%x: f32[4]) -> (%y) {\n%y = relu(%x) : f32[4]\n}")
    assert input_ranges(graph) == {}


@pytest.mark.parametrize(
    "clause, message",
    [
        ("range z in 0..1", "f: range of z, which is no operand"),
        ("range x in 0..N", "f: range x names N, which is not declared"),
        ("range x in 0..x", "f: range x depends on the elements of an operand"),
    ],
)
def test_complaints(clause: str, message: str) -> None:
    with pytest.raises(ParseError, match=message):
        parse_ops("op f(x: T[S..]) -> (y: T[S..]) { type T: float " + clause + " scalar y = x }")


@pytest.mark.parametrize("name", OPS)
def test_operands_that_reach_a_bounded_one_have_a_range(name: str) -> None:
    op = OPS[name]
    own = {r.operand for r in op.ranges}
    if isinstance(op.body, Index):
        tensors = {p.name for p in op.operands}
        unguarded = _unguarded(op.body.expr)
        selecting = {i for load in unguarded for item in load.index for i in ex.names(item) & tensors}
        assert selecting <= own, f"{name} loads at {selecting - own}, expected a range"
    bare = attrs.evolve(op, ranges=())
    found = input_ranges(one_node_graph(draw(op, random.Random(name)), OPS), {**OPS, name: bare})
    assert set(found) <= own, f"{name}: {set(found) - own} reach a bounded operand, expected a range"


def _unguarded(e: ex.Expr) -> list[ex.Load]:
    if isinstance(e, ex.Call) and e.fn == "pad":
        return [x for i in ex.children(e.args[0]) for x in _unguarded(i)]
    own = [e] if isinstance(e, ex.Load) else []
    return own + [x for c in ex.children(e) for x in _unguarded(c)]
