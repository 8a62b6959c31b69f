"""Ranges of values: which inputs they reach, and that no definition forgets one."""

from __future__ import annotations

import math
import pickle
import random
from typing import Any

import attrs
import pytest
import torch
from drt.backend.to_torch import to_source
from drt.backend.verify.families import draw as draw_input
from drt.ir import ParseError, builtin_ops, input_ranges, order_of, parse_graph, parse_ops, print_op
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


def test_orders_reach_inputs_and_are_kept() -> None:
    graph = parse_graph("""drt 1
        graph g(%w: f32[7, 8], %i: i64[9], %o: i64[1, 4], %x: f32[5], %b: f32[6]) -> (%y, %p) {
          %k = flatten(%o) {start = 0, end = 1} : i64[4]
          %y = embedding_bag(%w, %i, %k) : f32[4, 8]
          %p = bucketize(%x, %b) : i64[5]
        }""")
    found = input_ranges(graph)
    orders = {name: (tuple(r), order_of(r)) for name, r in found.items()}
    assert orders == {
        "i": ((0, 6), ""), "o": ((0, 9), "anchored"), "b": ((-math.inf, math.inf), "ascending"),
    }  # fmt: skip
    assert all(order_of(pickle.loads(pickle.dumps(r))) == order_of(r) for r in found.values())
    generator = torch.Generator().manual_seed(0)
    for family in ("normal", "huge", "ties"):
        inputs = {i.name: draw_input(i.type, family, generator, range_=found.get(i.name)) for i in graph.inputs}
        assert inputs["o"].flatten()[0] == 0 and bool((inputs["o"].flatten().diff() >= 0).all())
        assert bool((inputs["b"].diff() >= 0).all())
    namespace: dict[str, Any] = {}
    exec(to_source(graph), namespace)
    given = dict(zip([i.name for i in graph.inputs], namespace["get_inputs"](), strict=True))
    assert given["o"].flatten()[0] == 0 and bool((given["o"].flatten().diff() >= 0).all())
    assert bool((given["b"].diff() >= 0).all())
    namespace["Model"]()(*given.values())


def test_a_graph_without_bounded_operands_has_no_ranges() -> None:
    graph = parse_graph("drt 1\ngraph g(%x: f32[4]) -> (%y) {\n%y = relu(%x) : f32[4]\n}")
    assert input_ranges(graph) == {}


@pytest.mark.parametrize(
    "clause, message",
    [
        ("range z in 0..1", "f: range of z, which is no operand"),
        ("range x in 0..N", "f: range x names N, which is not declared"),
        ("range x in 0..x", "f: range x depends on the elements of an operand"),
        ("range x in -inf..0 anchored", "f: range x is anchored, expected a number for its lower end"),
        ("range s in 0..1 ascending", "f: range s is ascending, expected an operand with an axis"),
    ],
)
def test_complaints(clause: str, message: str) -> None:
    with pytest.raises(ParseError, match=message):
        parse_ops("op f(x: T[S..], s: i64[]) -> (y: T[S..]) { type T: float " + clause + " scalar y = x }")


def test_an_order_is_printed_as_it_is_read() -> None:
    text = print_op(OPS["embedding_bag"])
    assert "range  offsets in 0..N anchored" in text
    assert parse_ops(text)["embedding_bag"].ranges == OPS["embedding_bag"].ranges


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
