"""Tensors as indices, read and written through, in every form whose shape is known when the program is compiled."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from drt.backend.oracle import Oracle
from drt.backend.to_torch import to_callable
from drt.frontend import import_module
from drt.ir import UsageError

Form = Callable[..., torch.Tensor]


def _set(x: torch.Tensor, place: object, v: torch.Tensor | float) -> torch.Tensor:
    y = x.clone()
    y[place] = v
    return y


def _put(x: torch.Tensor, place: tuple[torch.Tensor | None, ...], v: torch.Tensor) -> torch.Tensor:
    return torch.ops.aten.index_put(x, place, v, True)


#: Each takes x: f32[3, 4, 5], two index vectors (with negative numbers), a matrix of indices and a mask of x's first axes.
FORMS: dict[str, Form] = {
    "one axis": lambda x, i, j, k, m: x[i],
    "a later axis": lambda x, i, j, k, m: x[:, :, i],
    "a matrix": lambda x, i, j, k, m: x[:, k],
    "neighbours": lambda x, i, j, k, m: x[:, i, j],
    "neighbours that broadcast": lambda x, i, j, k, m: x[k, i],
    "apart": lambda x, i, j, k, m: x[i, :, j],
    "apart and a matrix": lambda x, i, j, k, m: x[k, :, i],
    "all": lambda x, i, j, k, m: x[i, j, i],
    "with a number": lambda x, i, j, k, m: x[1, :, i],
    "write": lambda x, i, j, k, m: _set(x, (slice(None), torch.arange(2)), x[:, 2:]),
    "write a number": lambda x, i, j, k, m: _set(x, (i, slice(None), j), 2.0),
    "write a row": lambda x, i, j, k, m: _set(x, i, x[0]),
    "add": lambda x, i, j, k, m: _put(x, (i,), x[:2] * 2),
    "add twice in one place": lambda x, i, j, k, m: _put(x, (None, k), x[:, None, :2, :]),
    "add apart": lambda x, i, j, k, m: _put(x, (i, None, j), x[:2, :, 0]),
    "mask and a number": lambda x, i, j, k, m: _set(x, m, -1.0),
    "mask and a row": lambda x, i, j, k, m: _set(x, m, x[0, 0]),
    "mask and elements": lambda x, i, j, k, m: _set(x, m, x[0, :, :2].reshape(-1)[: 5 * 4].repeat(5)[:35].view(7, 5)),
    "mask of an inner axis": lambda x, i, j, k, m: _set(x, (slice(None), m[0]), 0.5),
}


def operands() -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 4, 5, generator=generator)
    mask = torch.zeros(3, 4, dtype=torch.bool)
    mask.view(-1)[torch.randperm(12, generator=generator)[:7]] = True
    return x, torch.tensor([1, -1]), torch.tensor([0, -3]), torch.tensor([[0, 1], [-1, 0]]), mask


def test_forms() -> None:
    given = operands()
    imported = import_module(lambda *a: [f(*a) for f in FORMS.values()], given)
    assert not imported.unknown, imported.unknown
    inputs = imported.bind(*given)
    lowered = to_callable(imported.graph)(*inputs)
    meant = Oracle().run(imported.graph, dict(zip([i.name for i in imported.graph.inputs], inputs, strict=True)))
    for name, f, a, b in zip(FORMS, FORMS.values(), lowered, meant, strict=True):
        want = f(*given)
        assert torch.equal(a, want), name
        assert torch.allclose(b.to(want.dtype), want), name


@pytest.mark.parametrize("form", [lambda x, m: x[m], lambda x, m: x.nonzero(), lambda x, m: torch.unique(x)])
def test_a_shape_that_depends_on_values_is_refused_in_one_line(form: Form) -> None:
    x, mask = operands()[0], operands()[-1]
    with pytest.raises(UsageError) as caught:
        import_module(form, (x, mask))
    assert re.search(
        r"a size depends on tensor contents, expected sizes that depend on input shapes alone", str(caught.value)
    )
    assert "\n" not in caught.value.line()
