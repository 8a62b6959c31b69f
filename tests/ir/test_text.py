"""The text form of programs."""

from __future__ import annotations

import pytest
from drt.ir import (
    DrtError,
    Graph,
    GraphBuilder,
    Literal,
    ParseError,
    TensorType,
    Update,
    VerifyError,
    expand_graph,
    parse_graph,
    print_graph,
    symbol,
    verify_graph,
)
from drt.ir.size import Symbol
from drt.ir.text import attr_text
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import graphs, sizes


@settings(max_examples=60, deadline=None)
@given(st.booleans().flatmap(lambda symbolic: graphs(max_nodes=10, symbolic=symbolic)))
def test_a_graph_reads_back(graph: Graph) -> None:
    verify_graph(graph)
    assert parse_graph(print_graph(graph)) == graph
    assert parse_graph(print_graph(graph, locations=True)) == graph


@settings(max_examples=100, deadline=None)
@given(sizes())
def test_a_size_reads_back(size: object) -> None:
    text = f"drt 1\ngraph f<B in 0..5, T in 1..4, L in 2..3>(%x: f32[B]) -> (%x, {size}) {{\n}}\n"
    assert parse_graph(text).outputs[1] == Literal(size)  # type: ignore[arg-type]


def built() -> Graph:
    b = GraphBuilder("all forms", symbols=[Symbol("B", 1, 8)])
    n = symbol("B", 1, 8)
    x = b.input("x", TensorType("f32", (n, 4)))
    w = b.input("w", TensorType("f32", (4,)), "param", 'layers."0".w\n')
    m = b.input("m", TensorType("f32", (4,)), "buffer", "m")
    values, indices = b.add("max_dim", x, axis=0)
    y = b.add("cat", (x, x), axis=0)
    z = b.add("mul", y, float("-inf"))
    p = b.add("add", w, float("nan"), result="p")
    q = b.add("mul", p, -0.0)
    r = b.add("eq", q, 1)
    s = b.add("logical_and", r, True)
    t = b.opaque("aten.topk.default", [x], [TensorType("f32", (n, 2)), TensorType("i64", (n, 2))], [["$0", 2], {}])
    u = b.add("full", shape=(n * 2 + 1, n // 2), value=float("-inf"), dtype="f32")
    v = b.add("linear", x, b.add("reshape", x, shape=(n, 4)), None)
    return b.build([z, s, *t, (values, indices), None, Literal(3), u, v], [Update(m, q)])


def test_every_form_reads_back() -> None:
    graph = built()
    assert parse_graph(print_graph(graph)) == graph


def test_the_text_of_every_form() -> None:
    assert print_graph(built()).splitlines()[1:9] == [
        "graph all_forms<B in 1..8>(",
        "    %x: f32[B, 4],",
        '    param %w: f32[4] @"layers.\\"0\\".w\\n",',
        '    buffer %m: f32[4] @"m",',
        ") -> (%mul, %logical_and, %topk_0, %topk_1, [%max_dim_values, %max_dim_indices], None, 3, %full, %linear; "
        "%m = %mul_1) {",
        "  %max_dim_values, %max_dim_indices = max_dim(%x) {axis = 0, keepdim = False}              : f32[4], i64[4]",
        "  %cat = cat([%x, %x]) {axis = 0}                                                          : f32[2*B, 4]",
        "  %mul = mul(%cat, -inf)                                                                   : f32[2*B, 4]",
    ]


def test_an_expanded_graph_with_symbols_reads_back() -> None:
    b = GraphBuilder("f", symbols=[Symbol("B", 1, 8)])
    n = symbol("B", 1, 8)
    x = b.input("x", TensorType("f32", (n, 4)))
    graph = expand_graph(b.build([b.add("mean", x, axes=(0, 1))]))
    assert Literal(n * 4) in graph.nodes[-1].operands
    assert parse_graph(print_graph(graph)) == graph


def test_equal_programs_have_equal_keys() -> None:
    graph = built()
    assert parse_graph(print_graph(graph), "elsewhere.drt").key == graph.key
    assert parse_graph(print_graph(graph).replace("-inf", "inf")).key != graph.key


def test_a_string_that_reads_as_something_else_is_quoted() -> None:
    assert [attr_text(v) for v in ("none", "None", "inf", "True", "a b", 'q"')] == [
        "none", '"None"', '"inf"', '"True"', '"a b"', '"q\\""',
    ]  # fmt: skip
    assert attr_text(("B", "T"), frozenset({"B"})) == '["B", T]'


def test_what_a_person_writes_is_made_canonical() -> None:
    text = """
    graph f(%x: f32[2 + 2, 2*3],) -> (%y) {  # the header is optional
      %y = clamp(%x) {min = -1, max = None} : f32[4, 6] @"model.py":12
    }"""
    graph = parse_graph(text)
    assert str(graph.nodes[0].location) == "model.py:12"
    assert print_graph(graph) == (
        "drt 1\ngraph f(%x: f32[4, 6]) -> (%y) {\n  %y = clamp(%x) {max = None, min = -1} : f32[4, 6]\n}\n"
    )
    assert '@"model.py":12' in print_graph(graph, locations=True)


HEAD = "drt 1\ngraph f<B in 5..8>(%x: f32[B, 4]) -> (%y) {\n"


@pytest.mark.parametrize(
    "text, message",
    [
        ("graph f(%x: f32[4]) (%x) {}", "t.drt:1:21: found '(', expected '->'"),
        ("graph f(%x: f32[4]) -> (%x) {\n", "t.drt:2:1: found the end of the file, expected '}' or a value such as %x"),
        ("drt 2\ngraph f() -> () {}", "t.drt:1:5: format version 2, expected 1"),
        ("graph f(%x: f31[4]) -> (%x) {}", "t.drt:1:13: unknown dtype 'f31', expected one of bool, u8"),
        (
            "graph f(%x: f32[N]) -> (%x) {}",
            "t.drt:1: unknown size 'N', expected an integer or a symbol (none is declared)",
        ),
        ("graph f(%x: f32[1.5]) -> (%x) {}", "t.drt:1: size 1.5, expected an integer"),
        ("graph f(%x: f32[3 - 4]) -> (%x) {}", "t.drt:1:13: size -1, expected at least 0"),
        ("graph f(%x: f32[4 // 0]) -> (%x) {}", "t.drt:1: a size is divided by zero"),
        ("graph f(%x: f32[gcd(4, 2)]) -> (%x) {}", "t.drt:1: unknown function 'gcd' of sizes, expected min or max"),
        ("graph f<inf in 1..2>() -> () {}", "t.drt:1:9: 'inf' is a literal, expected another name for a symbol"),
        ("graph f<B in 3..2>() -> () {}", "t.drt:1:9: symbol B in 3..2 has no value, expected 2..3"),
        ("graph f<B in 1..2, B in 1..2>() -> () {}", "t.drt: symbol B stands twice, expected once"),
        (
            HEAD + "  %y = relu(x) : f32[B, 4]\n}",
            "t.drt:3: 'x' is no operand, expected a value such as %x, a number or None",
        ),
        (
            HEAD + "  %y = clamp(%x) {min = 0, min = 1} : f32[B, 4]\n}",
            "t.drt:3: attribute min stands twice, expected once",
        ),
        (HEAD + "  %y = relu(%x)\n}", "t.drt:4:1: found '}', expected ':' or '{'"),
        (HEAD + "  %y = relu(%x) : f32[B, 4] ;\n}", "t.drt:3:29: found ';', expected"),
    ],
)
def test_parse_errors(text: str, message: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse_graph(text, "t.drt")
    assert caught.value.line().startswith(message)


def test_the_caret_stands_below_the_fault() -> None:
    with pytest.raises(ParseError) as caught:
        parse_graph(HEAD + "  %y = relu(%x)) : f32[B, 4]\n}", "t.drt")
    assert str(caught.value).splitlines()[1:] == ["      %y = relu(%x)) : f32[B, 4]", "                   ^"]


@pytest.mark.parametrize(
    "text, label, message",
    [
        ("  %y = rellu(%x) : f32[B, 4]", "unknown_operator", "unknown operator 'rellu'; near: relu"),
        ("  %y = frobnicate(%x) : f32[B, 4]", "unknown_operator", "unknown operator 'frobnicate'"),
        ("  %y = relu(%x) : f32[B, 5]", "type", "%y is annotated f32[B, 5] but relu gives f32[B, 4]"),
        ("  %y = relu(%x) : f16[B, 4]", "type", "%y is annotated f16[B, 4] but relu gives f32[B, 4]"),
        ("  %y = relu(%z) : f32[B, 4]", "ssa", "%z is used before it is defined"),
        ("  %x = relu(%x) : f32[B, 4]", "ssa", "%x is defined twice"),
        ("  %y, %z = relu(%x) : f32[B, 4], f32[B, 4]", "results", "relu gives 1 results, 2 named with 2 types"),
        ("  %y = relu(%x) : f32[B, 4], f32[B, 4]", "results", "relu gives 1 results, 1 named with 2 types"),
        (
            "  %y = softmax(%x) {axis = 2} : f32[B, 4]",
            "softmax_attribute",
            "softmax: attribute axis = 2, expected 0..1",
        ),
        ("  %y = matmul(%x, %x) : f32[B, B]", "matmul_shape", "matmul: K is B in b[0] but 4 in a[1]"),
        ("  %z = relu(%x) : f32[B, 4]", "ssa", "%y is used before it is defined"),
    ],
)
def test_verify_errors(text: str, label: str, message: str) -> None:
    try:
        parse_graph(HEAD + text + "\n}", "t.drt")
    except VerifyError as error:
        assert error.label == label
        assert message in error.line() and error.line().startswith("t.drt:") and error.line().endswith(f"[{label}]")
        assert error.context.strip() in (HEAD + text)
    else:
        raise AssertionError("no error")


@pytest.mark.parametrize(
    "update, message",
    [
        ("%y = %y", "update of %y, which is no input"),
        ("%m = %y", "update of %m: f32[4] with %y: f32[B, 4], expected one type"),
        ("%m = %q", "%q is used before it is defined"),
    ],
)
def test_update_errors(update: str, message: str) -> None:
    text = f"graph f<B in 1..8>(%x: f32[B, 4], buffer %m: f32[4]) -> (%y; {update}) {{\n  %y = relu(%x) : f32[B, 4]\n}}"
    with pytest.raises(DrtError, match="t.drt:1: ") as caught:
        parse_graph(text, "t.drt")
    assert message in caught.value.line()
