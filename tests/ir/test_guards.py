"""Guards of symbolic sizes: their normal form, what follows from them, how programs state and need them."""

from __future__ import annotations

import itertools

import pytest
from drt.ir import (
    UNKNOWN,
    GraphBuilder,
    ParseError,
    Symbol,
    TensorType,
    UsageError,
    VerifyError,
    builtin_ops,
    expand_graph,
    infer,
    parse_graph,
    print_graph,
    symbol,
    verify_graph,
)
from drt.ir.binding import at_sizes, choose_sizes, read_sizes
from drt.ir.evaluate import conjunction, equal, negation, relate
from drt.ir.guards import RELATIONS, Facts, Guard, Relation, any_of, conditions, relation, tightened
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import SYMBOLS, SizeTree, as_size, size_trees

B, S, T = symbol("B", 1, 4096), symbol("S", 2, 512), symbol("T", 1, 64)
VALUES = [dict(zip([s.name for s in SYMBOLS], v)) for v in itertools.product(*(range(s.lo, s.hi + 1) for s in SYMBOLS))]


def guard(op: str, a: object, b: object) -> Guard:
    made = any_of([relation(op, a, b)])  # type: ignore[arg-type]
    assert isinstance(made, Guard)
    return made


@pytest.mark.parametrize(
    ("op", "a", "b", "text"),
    [
        ("==", B * 4, (B // 8) * 32, "B % 8 == 0"),
        ("<", 2 * B, 7, "B <= 3"),
        (">", T, 3, "T >= 4"),
        ("<=", 3 - B, 0, "B >= 3"),
        ("==", B * T, B * S, "S == T"),
        ("!=", S - 3, T + 1, "S != T + 4"),
        (">=", B * S, 16, "B*S >= 16"),
    ],
)
def test_normal_form(op: str, a: object, b: object, text: str) -> None:
    assert str(relation(op, a, b)) == text  # type: ignore[arg-type]


def truth(op: str, a: int, b: int) -> bool:
    return {"==": a == b, "!=": a != b, "<=": a <= b, ">=": a >= b, "<": a < b, ">": a > b}[op]


def values_of(tree: SizeTree) -> list[int]:
    return [int(tree.value(v)) for v in VALUES]  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(size_trees(), size_trees(), st.sampled_from([*RELATIONS, "<", ">"]))
def test_the_normal_form_says_the_same(a: SizeTree, b: SizeTree, op: str) -> None:
    try:
        made, wanted = (
            relation(op, as_size(a), as_size(b)),
            [truth(op, x, y) for x, y in zip(values_of(a), values_of(b))],
        )
    except ZeroDivisionError:
        assume(False)
    if isinstance(made, bool):
        assert all(w is made for w in wanted)
    else:
        assert made.op in RELATIONS
        assert [made.holds(v) for v in VALUES] == wanted  # type: ignore[arg-type]
        assert [Guard((made,)).substitute(v) for v in VALUES] == wanted  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(size_trees(), st.sampled_from(RELATIONS), size_trees()), min_size=1, max_size=3),
       size_trees(), st.sampled_from([*RELATIONS, "<", ">"]), size_trees())  # fmt: skip
def test_facts_never_say_what_does_not_follow(known: list, a: SizeTree, op: str, b: SizeTree) -> None:
    try:
        made = [any_of([relation(o, as_size(x), as_size(y))]) for x, o, y in known]
        guards = [g for g in made if isinstance(g, Guard)]
        wanted = [truth(op, x, y) for x, y in zip(values_of(a), values_of(b))]
        said = Facts(guards).decide(op, as_size(a), as_size(b))
    except ZeroDivisionError:
        assume(False)
    fitting = [w for v, w in zip(VALUES, wanted) if all(g.holds(v) for g in guards)]  # type: ignore[arg-type]
    assume(fitting)
    assert said is UNKNOWN or all(w is said for w in fitting)


def test_facts_say_what_follows() -> None:
    facts = Facts([guard("==", S % 8, 0), guard(">=", T, 3), guard("==", B, T + 1), guard("<=", S, 2 * T)])
    assert facts.decide("==", 8 * B * (S // 8), B * S) is True
    assert facts.decide("==", S // 4 * 4, S) is True and facts.decide("==", S % 2, 1) is False
    assert facts.decide(">=", B, 4) is True and facts.decide("!=", B, T) is True
    assert facts.decide("<=", S, 2 * T + 1) is True and facts.decide("<=", S, T) is UNKNOWN
    assert Facts([guard("!=", T, 3)]).decide("==", 2 * T, 6) is False


def test_conditions_of_a_clause() -> None:
    def both() -> object:
        return conjunction([equal((B, 4), (T, 4)), relate("<=", 2, S - 1)])

    def either() -> object:
        return negation(conjunction([negation(equal(S, 8)), negation(equal(S, T))]))

    assert [str(g) for g in conditions(both)] == ["S >= 3", "B == T"]  # type: ignore[arg-type]
    assert [str(g) for g in conditions(either)] == ["S == 8 or S == T"]  # type: ignore[arg-type]
    assert conditions(both, Facts([guard("==", B, T), guard(">=", S, 5)])) == ()  # type: ignore[arg-type]


def test_fewer_guards_that_say_the_same() -> None:
    guards = [
        guard("!=", B // 8, 0),
        guard("==", B % 8, 0),
        guard("!=", B // 8, 1),
        guard("<=", B, 100),
        guard("!=", B, 48),
    ]
    kept, left = tightened([*guards, guard("<=", B, T)], [Symbol("B", 1, 4096)])
    assert [str(g) for g in kept] == ["B != 48", "B % 8 == 0", "B <= T"] and left == {"B": range(16, 97)}


# -- programs ---------------------------------------------------------------------------------------------------------

TEXT = """drt 1
graph f<B in 1..4096, S in 2..512 where S % 8 == 0, B*S >= 16, B != 3 or S == 8>(%x: f32[B, S]) -> (%y) {
  %y = reshape(%x) {shape = [B, S // 8, 8]} : f32[B, S // 8, 8]
}
"""


def test_guards_stand_in_the_text() -> None:
    graph = parse_graph(TEXT)
    assert [str(g) for g in graph.guards] == ["S % 8 == 0", "B*S >= 16", "B != 3 or S == 8"]
    assert print_graph(graph) == TEXT and parse_graph(print_graph(graph)) == graph
    verify_graph(graph)
    assert expand_graph(graph).guards == graph.guards
    assert parse_graph(TEXT.replace(">= 16", ">= 17")).key != graph.key


def test_guards_are_read_into_normal_form() -> None:
    graph = parse_graph(TEXT.replace("S % 8 == 0", "8*(S // 8) == S, B >= 1, S % 8 == 0"))
    assert print_graph(graph) == TEXT


@pytest.mark.parametrize(
    ("old", "new", "kind", "message"),
    [
        ("S % 8 == 0, ", "", VerifyError, "reshape needs S % 8 == 0, expected it among the guards: where S % 8 == 0"),
        ("B*S >= 16", "B <= 0", ParseError, "t.drt:2: guard B <= 0 holds for no sizes, expected one that can hold"),
        ("B*S >= 16", "B*S >= N", ParseError, "t.drt:2: unknown size 'N', expected an integer or a symbol (B, S)"),
        ("B*S >= 16", "B*S", ParseError, "t.drt:2:56: found ',', expected '==', '!=', '<=' or '>='"),
    ],
)
def test_what_is_wrong_with_guards_is_said(old: str, new: str, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as caught:
        parse_graph(TEXT.replace(old, new), "t.drt")
    assert message in str(caught.value)


def test_a_builder_collects_what_its_operators_need() -> None:
    b = GraphBuilder("f", symbols=[Symbol("B", 1, 4096), Symbol("S", 2, 512), Symbol("T", 1, 64)])
    x, y = b.input("x", TensorType("f32", (B, S))), b.input("y", TensorType("f32", (T, S)))
    z = b.add("add", x, y)
    w = b.add("slice", b.add("sub", x, y), axis=1, start=5, stop=S)
    graph = b.build([z, w])
    assert [str(g) for g in graph.guards] == ["B == T", "S >= 5"]
    assert parse_graph(print_graph(graph)) == graph


def test_inference_states_conditions() -> None:
    found = infer(builtin_ops()["matmul"], [TensorType("f32", (4, B)), TensorType("f32", (T, 2))])
    assert [str(g) for g in found.conditions()] == ["B == T"]
    assert found.conditions(Facts([guard("==", T, B)])) == ()


def test_sizes_are_read_off_shapes() -> None:
    graph = parse_graph(
        "graph f<B in 1..8, T in 2..64 where T % 2 == 0, B <= T>(%x: f32[2*B + 1, 4], %y: f32[B*T]) -> (%x) {}"
    )
    assert read_sizes(graph, {"x": (7, 4), "y": (12,)}) == {"B": 3, "T": 4}
    for shapes, message in (
        ({"x": (7, 4)}, "f: input y is missing, expected f32[B*T]"),
        ({"x": (7, 5), "y": (12,)}, "f: input x has shape [7, 5], expected f32[2*B + 1, 4]"),
        ({"x": (6, 4), "y": (12,)}, "f: no input's size is the symbol B, T"),
        ({"x": (19, 4), "y": (90,)}, "f: size B is 9, expected 1..8"),
        ({"x": (7, 4), "y": (15,)}, "f: sizes T = 5 given, expected T % 2 == 0"),
        ({"x": (11, 4), "y": (20,)}, "f: sizes B = 5, T = 4 given, expected B <= T"),
    ):
        with pytest.raises(UsageError) as caught:
            read_sizes(graph, shapes)
        assert caught.value.line() == message


def test_sizes_that_satisfy_the_guards_are_found() -> None:
    graph = parse_graph(TEXT)
    assert choose_sizes(graph, {"B": 13, "S": 7}) == {"B": 13, "S": 8}
    small = at_sizes(graph, {"B": 2, "S": 24})
    assert print_graph(small).splitlines()[1] == "graph f(%x: f32[2, 24]) -> (%y) {" and small.is_static
    with pytest.raises(UsageError, match="sizes S = 12 given, expected S % 8 == 0"):
        at_sizes(graph, {"B": 2, "S": 12})
    tied = parse_graph("graph f<B in 1..99, T in 1..99 where B == 2*T + 1, T % 7 == 0>(%x: f32[B, T]) -> (%x) {}")
    assert choose_sizes(tied, {"T": 9}) == {"B": 15, "T": 7}


def test_relations_are_values() -> None:
    assert relation("==", B, T) == relation("==", T, B) == Relation("==", B, T)
