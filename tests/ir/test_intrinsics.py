"""The table of scalar functions."""

from __future__ import annotations

import ast

import pytest
from drt.ir.intrinsics import INTRINSICS, OPERATOR_FLOPS, Intrinsic

each = pytest.mark.parametrize("row", INTRINSICS.values(), ids=lambda row: row.name)


@each
def test_row_is_complete(row: Intrinsic) -> None:
    assert row.arity in (1, 2, 3) and row.flops >= 1 and row.doc.endswith(".") and row.result in ("same", "bool")
    assert row.torch.startswith("torch.") and row.jax.startswith("jax.")


@each
def test_triton_text_is_an_expression_of_the_arguments(row: Intrinsic) -> None:
    arguments = ("alpha", "beta", "gamma")[: row.arity]
    tree = ast.parse(row.in_triton(*arguments), mode="eval")
    used = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
    assert used - {"tl", "libdevice", "float"} == set(arguments)


@each
def test_triton_has_the_functions(row: Intrinsic) -> None:
    language = pytest.importorskip("triton.language")
    from triton.language.extra import libdevice

    tree = ast.parse(row.in_triton("a", "b", "c"), mode="eval")
    for n in ast.walk(tree):
        if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name) and n.value.id in ("tl", "libdevice"):
            assert hasattr(language if n.value.id == "tl" else libdevice, n.attr), n.attr


def test_operators_have_costs() -> None:
    assert OPERATOR_FLOPS["+"] == OPERATOR_FLOPS["*"] == 1 and OPERATOR_FLOPS["**"] == INTRINSICS["pow"].flops
