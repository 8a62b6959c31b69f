"""What inference says of a call that breaks a rule, and of one that does not."""

from __future__ import annotations

from typing import Any

import pytest
from drt.ir import Literal, TensorType, VerifyError, builtin_ops, infer, parse_ops, symbol
from drt.ir.evaluate import UNKNOWN, conjunction, equal, evaluate, negation, partial
from drt.ir.expr import Num, to_text
from drt.ir.load import parse_definitions


def t(text: str) -> TensorType:
    dtype, _, inside = text.rstrip("]").partition("[")
    return TensorType(dtype, tuple(int(s) for s in inside.split(",") if s))


FORMS = parse_ops("""
op pair(a: T[N, M], b: T[M, S..]?; flag: bool = False, mode: enum({fast, slow}) = fast, k: int in 1..M = 1,
        sizes: int[2] in 0..4 = [0, 0], axes: axes(a) = [], axis: axis(a)? = None, to: dtype = "f32", label: str = "",
        scale: float = 1.0, rate: number = 1, rest: ints = []) -> (y: T[N, M]) {
  type T: float
  where c1: N % k == 0
  scalar y = a
}
op join(xs: T[S..]*; axis: int = 0) -> (y: T[S..]) { type T: any  opaque "a test" }
op mixed(a: f32[N], i: i64[N], c: U[]) -> (y: U[N // 0]) { type U: any  opaque "a test" }
op narrow(a: f32[N]) -> (y: f32[N - 4]) { opaque "a test" }
op shifted(a: f32[N], b: f32[N + 1]) -> (y: f32[N]) { opaque "a test" }
""")


@pytest.mark.parametrize(
    "op, operands, attributes, label, message",
    [
        ("pair", [], {}, "arity", "0 operands given, expected 1 to 2"),
        ("pair", [None], {}, "arity", "operand a is absent, expected a tensor"),
        ("pair", [(t("f32[2]"),)], {}, "arity", "operand a is a list, expected one tensor"),
        ("join", [()], {}, "arity", "operand xs is an empty list, expected at least one tensor"),
        ("join", [(t("f32[2]"), Literal(1))], {}, "arity", "xs[1] is not a tensor"),
        ("join", [(t("f32[2]"), t("f16[2]"))], {}, "dtype", "xs[1] is f16 but xs[0] is f32, expected one dtype; use cast"),
        ("pair", [t("i64[2, 3]")], {}, "dtype", "a is i64, expected one of f16, bf16, f32, f64"),
        ("mixed", [t("f16[2]"), t("i64[2]"), t("f32[]")], {}, "dtype", "a is f16, expected f32"),
        ("mixed", [t("f32[2]"), t("i64[2]"), Literal(2)], {}, "dtype",
         "operand c is the literal 2 and nothing gives its dtype, expected a tensor"),
        ("pair", [t("f32[2]")], {}, "rank", "a has rank 1, expected 2"),
        ("pair", [t("f32[2, 3]"), t("f32[]")], {}, "rank", "b has rank 0, expected 1 or more"),
        ("pair", [t("f32[2, 3]"), t("f32[4, 5]")], {}, "shape", "M is 4 in b[0] but 3 in a[1]"),
        ("shifted", [t("f32[2]"), t("f32[2]")], {}, "shape", "N + 1 is 2 in b[0] but 3 in the definition"),
        ("mixed", [t("f32[2]"), t("i64[2]"), t("f32[]")], {}, "shape", "result y 'N // 0' has no value"),
        ("narrow", [t("f32[3]")], {}, "size", "result y would have shape [-1], expected sizes >= 0"),
        ("pair", [t("f32[2, 3]")], {"colour": 1}, "attribute", "unknown attribute colour, expected axes, axis, flag, k"),
        ("pair", [t("f32[2, 3]")], {"flag": 1}, "attribute", "attribute flag = 1, expected True or False"),
        ("pair", [t("f32[2, 3]")], {"mode": "quick"}, "attribute", "attribute mode = quick, expected one of fast, slow"),
        ("pair", [t("f32[2, 3]")], {"k": 1.5}, "attribute", "attribute k = 1.5, expected an integer"),
        ("pair", [t("f32[2, 3]")], {"k": True}, "attribute", "attribute k = True, expected an integer"),
        ("pair", [t("f32[2, 3]")], {"k": 4}, "attribute", "attribute k = 4, expected 1..3"),
        ("pair", [t("f32[2, 3]")], {"k": None}, "attribute", "attribute k = None, expected int"),
        ("pair", [t("f32[2, 3]")], {"sizes": 3}, "attribute", "attribute sizes = 3, expected a list of integers"),
        ("pair", [t("f32[2, 3]")], {"sizes": (1, 0.5)}, "attribute", "attribute sizes = [1, 0.5], expected a list of integers"),
        ("pair", [t("f32[2, 3]")], {"sizes": (1, 2, 3)}, "attribute", "attribute sizes = [1, 2, 3], expected 2 integers"),
        ("pair", [t("f32[2, 3]")], {"sizes": (1, 5)}, "attribute", "attribute sizes = [1, 5], expected 0..4"),
        ("pair", [t("f32[2, 3]")], {"axes": (1, 0)}, "attribute", "attribute axes = [1, 0], expected ascending axes, each once"),
        ("pair", [t("f32[2, 3]")], {"to": "f31"}, "attribute", "attribute to = f31, expected one of bool, u8"),
        ("pair", [t("f32[2, 3]")], {"label": 1}, "attribute", "attribute label = 1, expected a string"),
        ("pair", [t("f32[2, 3]")], {"scale": "x"}, "attribute", "attribute scale = x, expected a number"),
        ("pair", [t("f32[2, 3]")], {"rate": True}, "attribute", "attribute rate = True, expected a number"),
        ("pair", [t("f32[3, 4]")], {"k": 2}, "c1", "'N % k == 0' does not hold for N = 3, k = 2"),
    ],
)  # fmt: skip
def test_messages(op: str, operands: list[Any], attributes: dict[str, Any], label: str, message: str) -> None:
    with pytest.raises(VerifyError) as caught:
        infer(FORMS[op], operands, attributes)
    assert caught.value.label == f"{op}_{label}"
    assert caught.value.line().startswith(f"{op}: {message}"), caught.value.line()
    assert caught.value.line().endswith(f"[{op}_{label}]")


@pytest.mark.parametrize(
    "dtype, number, fits",
    [
        ("f32", 1, True),
        ("f32", 0.5, True),
        ("f32", True, False),
        ("i64", 2, True),
        ("i64", 0.5, False),
        ("i64", True, False),
    ],
)
def test_which_numbers_fit_which_dtype(dtype: str, number: Any, fits: bool) -> None:
    operands = [TensorType(dtype, (2,)), Literal(number)]
    if fits:
        assert infer(builtin_ops()["add"], operands).types == (TensorType(dtype, (2,)),)
    else:
        with pytest.raises(VerifyError, match=f"operand b is the literal {number}, expected one that fits {dtype}"):
            infer(builtin_ops()["add"], operands)


def test_missing_attribute() -> None:
    with pytest.raises(VerifyError, match="softmax: attribute axis is missing"):
        infer(builtin_ops()["softmax"], [t("f32[2]")])


def test_attributes_are_completed_and_sorted() -> None:
    found = infer(FORMS["pair"], [t("f32[2, 3]")], {"scale": 2, "k": 2})
    assert dict(found.attributes)["scale"] == 2.0 and type(dict(found.attributes)["scale"]) is float
    assert [k for k, _ in found.attributes] == sorted(k for k, _ in found.attributes)
    assert found.env["present(b)"] is False and found.env["N"] == 2 and found.env["S"] == ()


def test_what_symbols_leave_open_becomes_a_guard() -> None:
    b, n = symbol("B", 1, 8), symbol("N", 1, 8)
    found = infer(builtin_ops()["matmul"], [TensorType("f32", (4, b)), TensorType("f32", (n, 2))])
    assert found.guards == ("B == N",)
    found = infer(FORMS["pair"], [TensorType("f32", (b, 4))], {"k": 2})
    assert found.guards and "N % k == 0" in found.guards[0]
    with pytest.raises(VerifyError, match=r"K is 9 in b\[0\] but B in a\[1\]"):
        infer(builtin_ops()["matmul"], [TensorType("f32", (4, b)), TensorType("f32", (9, 2))])


# -- expressions over values -------------------------------------------------------------------------------------------


def value(text: str, **env: Any) -> Any:
    (rule,) = parse_definitions(f"rewrite r : ({text}) => x")
    return evaluate(rule.lhs, env)  # type: ignore[union-attr]


B = symbol("B", 1, 8)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("(7 + 2*3) // 4 % 3 - 2 ** 3", -8),
        ("S + [1]", (2, 3, 1)),
        ("[S.., 5]", (2, 3, 5)),
        ("S[1]", 3),
        ("prod(S) / 4", 1.5),
        ("broadcast(S, [3], [4, 1, 1])", (4, 2, 3)),
        ("broadcastable(S, [2])", False),
        ("broadcastable([B], [2])", UNKNOWN),
        ("align([i, j], [1, 3])", (0, "j")),
        ("reduced(S, 0, True)", (1, 3)),
        ("remove(S, [0, 1])", ()),
        ("insert(S, 2, 9)", (2, 3, 9)),
        ("set(S, 0, 9)", (9, 3)),
        ("inverse([2, 0, 1])", (1, 2, 0)),
        ("permuted([5, 6, 7], [2, 0, 1])", (7, 5, 6)),
        ("unravel(ravel([1, 2], [4, 3]), [2, 6])", (0, 5)),
        ("max(S)", 3),
        ("min(B, 9)", B),
        ("ceildiv(7, 2)", 4),
        ("moved(3, 0, 2)", (1, 2, 0)),
        ("flattened([2, 3, 4], 1, 2)", (2, 12)),
        ("resolved([-1, 2], S)", (3, 2)),
        ("units([1, 2, 1], [0, 1])", (0,)),
        ("B == 9", False),
        ("B == 3 or B >= 1", True),
        ("B == 3 and B > 8", False),
        ("not B == 3", UNKNOWN),
        ("1 == True", False),
        ("True == 1", False),
        ("None == 0", False),
        ("i if 2 > 1 else j", "i"),
    ],
)
def test_values(text: str, expected: Any) -> None:
    assert value(text, S=(2, 3), B=B, i="i", j="j") == expected


def test_three_valued_logic() -> None:
    assert conjunction([True, UNKNOWN, False]) is False
    assert conjunction([True, UNKNOWN]) is UNKNOWN
    assert conjunction([]) is True
    assert conjunction([1, 0]) is False
    assert negation(UNKNOWN) is UNKNOWN
    assert equal((2, B), (2, 3)) is UNKNOWN and equal((2, B), (3, 3)) is False and equal((2,), (2, 3)) is False


def test_partial_folds_what_is_known_and_keeps_the_rest() -> None:
    (rule,) = parse_definitions("rewrite r : (where(k > 1, x * (k + 1), y) + sum{i in K} 1 if flag else z) => x")
    kept = partial(rule.lhs, {"k": 2, "flag": True, "K": 3})  # type: ignore[union-attr]
    assert to_text(kept) == "x * 3 + (sum{i in 3} 1)"
    assert partial(rule.lhs, {"flag": False, "z": 4}) == Num(4)  # type: ignore[union-attr]
