"""Sums have the products that there are: what is not finite reaches the results that it is a factor of, and no others."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from drt.backend.oracle import Oracle
from drt.ir import parse_graph
from drt.ir.expr import Bin, Call, Fold, Num, Sym
from drt.ir.products import factors


@pytest.mark.parametrize("where", ["x", "w"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(
    ("rank", "stride", "dilation", "padding"), [(1, 2, 1, 1), (1, 1, 2, 0), (2, 3, 1, 1), (2, 1, 1, 0), (3, 2, 2, 1)]
)
def test_a_transposed_convolution_multiplies_no_zeros(rank, stride, dilation, padding, value, where):
    torch.manual_seed(0)
    x, w = torch.rand(2, 2, *[4] * rank).double() + 0.5, torch.rand(2, 3, *[3] * rank).double() + 0.5
    (x if where == "x" else w)[(0, 1, *[1] * rank)] = value
    size = (4 - 1) * stride - 2 * padding + dilation * 2 + 1
    attributes = ", ".join(
        f"{k} = {[v] * rank}" for k, v in {"stride": stride, "dilation": dilation, "padding": padding}.items()
    )
    (found,) = Oracle().run(
        parse_graph(f"""graph f(%x: f64{list(x.shape)}, %w: f64{list(w.shape)}) -> (%y) {{
          %y = conv_transpose{rank}d(%x, %w) {{{attributes}}} : f64{[2, 3, *[size] * rank]}
        }}"""), {"x": x, "w": w},
    )  # fmt: skip
    expected = getattr(F, f"conv_transpose{rank}d")(x, w, stride=stride, dilation=dilation, padding=padding)
    torch.testing.assert_close(found, expected, equal_nan=True)
    assert bool(found.isfinite().any()) and not bool(found.isfinite().all())


def test_factors_of_terms_under_a_condition():
    k, a, b, test = Sym("K"), Sym("a"), Sym("b"), Sym("t")
    product = Bin("*", a, b)
    assert factors(Fold("sum", (("k", k),), product)) == (a, b)
    inside = Call("where", (test, product, Num(0)))
    assert factors(Fold("sum", (("k", k),), inside)) == (Call("where", (test, a, Num(0))), b)
    assert factors(Fold("max", (("k", k),), product)) is None
    assert factors(Fold("sum", (("k", k),), Call("where", (test, product, Num(1))))) is None
