"""Expressions and their text."""

from __future__ import annotations

import pytest
from drt.ir import ParseError
from drt.ir.expr import Bin, Call, Cond, Expr, Fold, Lst, Num, Pack, Sym, Unary, names, to_text
from drt.ir.load import parse_definitions
from hypothesis import given, settings
from strategies import expressions


def parse(text: str) -> Expr:
    """Parse one expression; a rule's pattern is one."""
    (rule,) = parse_definitions(f"rewrite r : ({text}) => x")
    return rule.lhs  # type: ignore[union-attr,no-any-return]


@settings(max_examples=300, deadline=None)
@given(expressions())
def test_text_reads_back(e: Expr) -> None:
    assert parse(to_text(e)) == e


x, y, z = Sym("x"), Sym("y"), Sym("z")


@pytest.mark.parametrize(
    "text, expected",
    [
        ("x + y * z", Bin("+", x, Bin("*", y, z))),
        ("x - y - z", Bin("-", Bin("-", x, y), z)),
        ("x ** y ** z", Bin("**", x, Bin("**", y, z))),
        ("-x ** 2", Unary("-", Bin("**", x, Num(2)))),
        ("2 ** -x", Bin("**", Num(2), Unary("-", x))),
        ("-2", Num(-2)),
        ("- 2.5e-3", Num(-0.0025)),
        ("x - -2", Bin("-", x, Num(-2))),
        ("not x == y", Unary("not", Bin("==", x, y))),
        ("not x and y or z", Bin("or", Bin("and", Unary("not", x), y), z)),
        ("x if y else z if x else y", Cond(y, x, Cond(x, z, y))),
        ("sum{k in 3} x * y + z", Bin("+", Fold("sum", (("k", Num(3)),), Bin("*", x, y)), z)),
        ("f(S.., k=[1, x])", Call("f", (Pack("S"),), (("k", Lst((Num(1), x))),))),
        ("inf", Num(float("inf"))),
        ('"a\\"b\\\\"', Num('a"b\\')),
        ("x%y", Bin("%", x, y)),
        ("x //# a comment\n y", Bin("//", x, y)),
    ],
)
def test_precedence(text: str, expected: Expr) -> None:
    assert parse(text) == expected


def test_equal_numbers_of_different_kinds_are_different_literals() -> None:
    assert len({Num(1), Num(1.0), Num(True), Num("1")}) == 4
    assert Num(0.0) != Num(-0.0)
    assert Num(float("nan")) == Num(float("nan"))


def test_names_leaves_out_index_variables() -> None:
    assert names(parse("sum{k in K} x[I.., k] * w[k] + b")) == {"K", "x", "I", "w", "b"}


@pytest.mark.parametrize(
    "text, message",
    [
        ("x < y < z", "'<' and '<' in a row, expected 'and' between comparisons"),
        ("x + not y", "'not' binds less than the '+' before it, expected parentheses"),
        ("x * sum{k in 3} y", "a reduction binds less than the '*' before it, expected parentheses"),
        ("avg{k in 3} y", "unknown combiner 'avg', expected one of sum, prod, max"),
        ("x +", "found ')', expected"),
        ("f(x,, y)", "found ',', expected"),
        ("x $ y", "found '$', expected"),
        ("[x", "found ')', expected '(', ',', '..', '[', ']'"),
    ],
)
def test_errors_point_at_the_place(text: str, message: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse(text)
    assert message in caught.value.line()
    place, row, caret = caught.value.place, *str(caught.value).splitlines()[1:]
    column = int(place.split(":")[2])
    assert caret.index("^") == column - 1 + 4
    assert row.strip() == f"rewrite r : ({text}) => x"
