"""Matching ATen calls: promotion is PyTorch's, and a call that no pattern fits is told why."""

from __future__ import annotations

import itertools

import pytest
import torch
from drt.frontend.importer import DTYPE_NAMES, TORCH_DTYPES, overload_of
from drt.frontend.matching import AtenCall, Mismatch, Value, match_call, pattern_index, result_dtype
from drt.frontend.normal import KEPT_WHOLE, NORMAL, RANDOM
from drt.ir import DTYPES, Literal, TensorType, builtin_ops, parse_ops

OPERANDS = [*itertools.product(DTYPES, (0, 1)), True, 2, 0.5]


def ours(spec):
    return Value("x", TensorType(spec[0], (3,) * spec[1])) if isinstance(spec, tuple) else Literal(spec)


def theirs(spec):
    return torch.ones((3,) * spec[1], dtype=TORCH_DTYPES[spec[0]]) if isinstance(spec, tuple) else spec


@pytest.mark.parametrize("a", OPERANDS, ids=str)
def test_promotion_is_pytorch_s(a) -> None:
    for b in OPERANDS:
        if not isinstance(a, tuple) and not isinstance(b, tuple):
            continue
        want = torch.result_type(theirs(a), theirs(b))
        if want not in DTYPE_NAMES:
            with pytest.raises(Mismatch, match="not among the dtypes"):
                result_dtype([ours(a), ours(b)])
        else:
            assert result_dtype([ours(a), ours(b)]) == DTYPE_NAMES[want], (a, b)


def _is_loaded(target: str) -> bool:
    """Return whether the operator is PyTorch's own; those of other packages are there once the package is imported."""
    return target.startswith("aten.") or hasattr(getattr(torch.ops, target.split(".")[0]), target.split(".")[1])


def test_every_pattern_names_an_overload_and_fits_its_schema() -> None:
    for target, patterns in pattern_index(builtin_ops()).items():
        if not _is_loaded(target):
            continue
        schema = overload_of(target)._schema
        names = [a.name for a in schema.arguments]
        for op, pattern in patterns:
            assert len(pattern.call.args) <= len(names), (op.name, target)
            assert {k for k, _ in pattern.call.kwargs} <= set(names), (op.name, target)


def test_every_rule_is_for_an_overload() -> None:
    for target in {*NORMAL, *KEPT_WHOLE, *RANDOM}:
        if _is_loaded(target):
            overload_of(target)


def relu_like(text: str) -> AtenCall:
    x = Value("x", TensorType("f32", (2, 3)))
    return AtenCall(
        "aten.elu.default",
        {"self": x, "alpha": 1.0, "scale": 2.0, "input_scale": 1.0},
        {"scale": 1.0, "input_scale": 1.0},
    )


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("aten.elu.default(x, 1.0)", "argument scale is 2.0"),
        ("aten.elu.default(x, 3.0, _, _)", "1.0 is not 3.0"),
        ("aten.elu.default(x, _, s, _) if s < 1", "guard 's < 1' does not hold"),
        ("aten.elu.default(x, rank(S), _, _)", "rank(S) is not 1.0"),
        ("aten.elu.default([x, x], _, _, _)", "is not a list of 2"),
        ("aten.elu.default(x, x, _, _)", "x stands for two different values"),
        ("aten.elu.default(x, _, _, _) -> (y, _)", "has 2 results, ATen has 1"),
        ("aten.elu.default(x, _, _, _, 1)", "has 5 arguments, the schema has 4"),
    ],
)
def test_reasons(pattern: str, reason: str) -> None:
    ops = parse_ops(f"op f(x: T[S..]) -> (y: T[S..]) {{ type T: float scalar y = x aten {pattern} }}", "<test>")
    match, why = match_call(relu_like(pattern), [TensorType("f32", (2, 3))], {0}, ops)
    assert match is None and reason in why


def test_result_types_must_be_pytorch_s() -> None:
    ops = parse_ops(
        "op f(x: T[S..]) -> (y: T[S..]) { type T: float scalar y = x aten aten.elu.default(x, _, _, _) }", "<test>"
    )
    match, why = match_call(relu_like(""), [TensorType("f32", (2, 4))], {0}, ops)
    assert match is None and why == "f: gives f32[2, 3] where PyTorch gives f32[2, 4]"
    match, _ = match_call(relu_like(""), [TensorType("f64", (2, 3))], {0}, ops)
    assert match is not None and match.casts == {"x": "f64"}
