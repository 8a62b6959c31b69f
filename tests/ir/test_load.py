"""Operator definitions: every complaint, and text that reads back."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from drt.ir import ParseError, UsageError, builtin_ops, find_op, load_ops, parse_graph, parse_ops, print_graph, print_op
from drt.ir.load import OPS_DIR

OP = "op f(x: T[S..]{0}) -> (y: T[S..]) {{ type T: float {1} }}"


def test_every_definition_reads_back() -> None:
    for name, op in builtin_ops().items():
        assert parse_ops(print_op(op)) == {name: op}


@pytest.mark.parametrize(
    "text, message",
    [
        ("op f(x: T[S..)", "t.drt:1:14: found ')', expected ',' or ']'"),
        ("op f(x: T[S..]) -> (y: T[S..]) {", "t.drt:1:33: found the end of the file, expected 'aten', 'doc', 'expand'"),
        ("op f(x: T[S..]) -> (y: T[S..]) { scalar y = x }", "t.drt:1:4: f: operand x has undeclared dtype 'T', expected 'type T: ...'"),
        (OP.format("", "scalar y = z"), "t.drt:1:4: f: scalar y names z, which is not declared"),
        (OP.format("; k: int = N", ""), "f: attribute k names N, which is not declared"),
        (OP.format("; k: axis(N)", ""), "f: attribute k names N, which is not declared"),
        (OP.format("; k: int[x]", ""), "found 'x', expected an integer"),
        (OP.format("; k: bool[2]", ""), "t.drt:1:20: kind bool[2] is not known, expected int[2]"),
        (OP.format("", "let A = q"), "f: let A names q"),
        (OP.format("", "type U = g(V)"), "f: type names V"),
        (OP.format("", "type U: floaty"), "unknown dtype or class 'floaty', expected one of float, int"),
        (OP.format("", "where c1: q > 1"), "f: where c1 names q"),
        (OP.format("", "where c1: rank(S) > 1 where c1: rank(S) > 2"), "f: two constraints carry one label"),
        (OP.format("", "reduce y = mean(x) over [0]"), "unknown combiner 'mean', expected one of sum, prod"),
        (OP.format("", "index y[I..] = x[J..]"), "f: index names J"),
        (OP.format("", "expand { z = relu(x); }"), "f: expand does not define y"),
        (OP.format("", "expand { y = relu(q); }"), "f: expand y names q"),
        (OP.format("", "torch g(q)"), "f: torch names q"),
        (OP.format("", "aten aten.f.default(x, q)"), "f: aten names q"),
        (OP.format("", "aten aten.f.default(x) {k = 1}"), "f: aten binds k, which is no attribute"),
        (OP.format("", "flops q"), "f: flops names q"),
        (OP.format("", 'doc "a" doc "b"'), "t.drt:1:4: f: clause 'doc' stands twice, expected once"),
        (OP.format("", "scalar y = x index y[I..] = x[I..]"), "f: two meanings, expected one of scalar, reduce"),
        ("op f(x: T[S..]) -> (y: T[N]) { type T: float }", "f: result y names N"),
        (OP.format("", "") * 2, "defined twice, first at t.drt:1:4"),
        ("rewrite r : relu(x) => x", "t.drt:1:9: r: a rewrite stands among operators"),
        ('op f(x: T[S..]) -> (y: T[S..]) { doc "no end }', "found '\"', expected a string in double quotes"),
    ],
)  # fmt: skip
def test_complaints(text: str, message: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse_ops(text, "t.drt")
    assert message in caught.value.line(), caught.value.line()
    assert caught.value.place.startswith("t.drt:1:")


def test_files(tmp_path: Path) -> None:
    own = tmp_path / "own.drt"
    own.write_text(
        'op mine(x: T[S..]) -> (y: T[S..]) { doc "A \\"test\\"\\\\" type T: float scalar y = x * 2 torch x * 2 }'
    )
    ops = load_ops(own)
    assert ops["mine"].doc == 'A "test"\\' and ops["mine"].family == "own" and "relu" in ops
    text = "drt 1\ngraph g(%x: f32[2]) -> (%y) {\n  %y = mine(%x) : f32[2]\n}\n"
    assert print_graph(parse_graph(text, ops=ops)) == text
    own.write_text("op relu(x: T[S..]) -> (y: T[S..]) { type T: float scalar y = x }")
    with pytest.raises(
        ParseError, match=r"own.drt:1:4: relu: is already defined at .*activation.drt:\d+:\d+, expected a new"
    ):
        load_ops(own)
    with pytest.raises(UsageError, match="none.drt: cannot be read: No such file"):
        load_ops(tmp_path / "none.drt")
    own.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="own.drt: is not UTF-8 text"):
        load_ops(own)


def test_find_op_suggests() -> None:
    assert find_op("relu", builtin_ops()).name == "relu"
    with pytest.raises(UsageError, match="^sofmax: unknown operator; near: softmax"):
        find_op("sofmax", builtin_ops())
    with pytest.raises(UsageError, match="^zzzzzz: unknown operator$"):
        find_op("zzzzzz", builtin_ops())


def cpu_time_s(work: object, *args: object, repeat: int = 3) -> float:
    """Return the least processor time of a call, in seconds."""
    best = float("inf")
    for _ in range(repeat):
        start = time.process_time()
        work(*args)  # type: ignore[operator]
        best = min(best, time.process_time() - start)
    return best


def test_reading_is_fast() -> None:
    """The limits are several times what an idle core takes, for a machine that is shared."""
    assert cpu_time_s(lambda: load_ops(*sorted(OPS_DIR.glob("*.drt")), base={})) < 1.0
    rows = ["graph g(%x0: f32[8, 256]) -> (%x5000) {"]
    for i in range(5000):
        call = f"add(%x{i}, 0.5)" if i % 2 else f"clamp(%x{i}) {{max = None, min = 0.0}}"
        rows.append(f"  %x{i + 1} = {call} : f32[8, 256]")
    text = "\n".join([*rows, "}"])
    graph = parse_graph(text)
    assert cpu_time_s(parse_graph, text, repeat=2) < 4.0
    assert cpu_time_s(print_graph, graph) < 0.5


LIMITED = """
op f(x: T[S..]) -> (y: T[S..]) {
  doc "Exponential." type T: float
  scalar y = exp(x)
  limit  torch value of f16 | bf16 at "large x" because "it rounds"
  limit  jax nan of float at "x = NaN" because "it says \\"no\\""
}
"""


def test_limits_are_read_and_printed() -> None:
    op = parse_ops(LIMITED)["f"]
    assert [(x.library, x.kind, x.inputs) for x in op.limits] == [
        ("torch", "value", "large x"),
        ("jax", "nan", "x = NaN"),
    ]
    assert op.limits[0].dtypes == {"f16", "bf16"} and op.limits[1].reason == 'it says "no"'
    assert parse_ops(print_op(op))["f"] == op


@pytest.mark.parametrize(
    "word, message",
    [
        ("torch value", "unknown library 'numpy', expected one of torch, jax"),
        ("jax nan", "unknown difference 'speed', expected one of nan, infinity, zero, value, refusal"),
    ],
)
def test_limits_name_known_things(word: str, message: str) -> None:
    text = LIMITED.replace(word, "numpy value" if word.startswith("torch") else "jax speed")
    with pytest.raises(ParseError, match=message):
        parse_ops(text)
