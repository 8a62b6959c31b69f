"""Programs with in-place calls: which of them need no second trace, and that all of them stay what they are."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from drt.backend.to_torch import to_callable
from drt.frontend import import_module

X = torch.tensor([[-2.0, -1.0, 0.5], [1.0, -0.25, 3.0]])


def rectified(x):
    h = x * 2
    h.relu_()
    return h + 1


def chained(x):
    h = x * 2
    h.add_(1).mul_(3)
    h.clamp_(-1, 4)
    return h


def result_and_operand(x):
    h = x * 2
    y = h.relu_()
    return h + y


def view_before_dead_after(x):
    h = x * 2
    total = h.view(-1).sum()
    h.relu_()
    return h * total


def view_made_after(x):
    h = x * 2
    h.relu_()
    return h.t(), h.view(-1)


def base_is_dead(x):
    h = (x * 2).view(3, 2)
    h.relu_()
    return h


def inert_dropout(x):
    return F.dropout(x * 2, 0.5, training=False) + 1


def copied_dtype(x):
    h = torch.zeros_like(x)
    h.copy_(torch.arange(6).view(2, 3))
    return h + x


def view_seen_later(x):
    h = x * 2
    v = h.view(-1)
    h.relu_()
    return v + 1


def base_seen_later(x):
    h = x * 2
    h[0].zero_()
    return h + 1


def row_written(x):
    h = x * 2
    h[:, 1] = x[:, 0]
    return h


def argument_written(x):
    x.mul_(2)
    return x + 1


def view_of_argument_written(x):
    x.view(-1).mul_(2)
    return x + 1


def operand_behind_dropout(x):
    h = x * 2
    y = F.dropout(h, 0.5, training=False)
    h.relu_()
    return h + 1, y.sum() * 0


def comparison_in_place(x):
    h = x * 2
    h.gt_(0)
    return h + 1


def promoted_operand(x):
    h = x * 2
    h.add_(torch.full((2, 3), 1e-9, dtype=torch.float64))
    return h


def einsum_view(x):
    h = x * 2
    v = torch.einsum("ij->ji", h)
    h.relu_()
    return v + 0


#: Programs that are read from their first trace.
AT_ONCE = (
    rectified, chained, result_and_operand, view_before_dead_after, view_made_after, base_is_dead, inert_dropout,
    copied_dtype,
)  # fmt: skip
#: Programs that PyTorch makes functional.
TRACED_AGAIN = (
    view_seen_later, base_seen_later, row_written, argument_written, view_of_argument_written, comparison_in_place,
    promoted_operand, einsum_view, operand_behind_dropout,
)  # fmt: skip


@pytest.mark.parametrize("function", [*AT_ONCE, *TRACED_AGAIN], ids=lambda f: f.__name__)
def test_graph_computes_what_the_function_computes(
    function: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    traces = []
    original = torch.export.ExportedProgram.run_decompositions

    def counted(self, *args, **kwargs):
        traces.append(self)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(torch.export.ExportedProgram, "run_decompositions", counted)
    imported = import_module(function, (X.clone(),))
    assert len(traces) == (0 if function in AT_ONCE else 1)
    given = X.clone()
    inputs = [t.clone() for t in imported.bind(X.clone())]
    with torch.no_grad():
        got = imported.result(to_callable(imported.graph)(*inputs), inputs)
        want = function(given)
    for g, w in zip(*([r] if isinstance(r, torch.Tensor) else r for r in (got, want)), strict=True):
        torch.testing.assert_close(g, w, rtol=0, atol=0)
    torch.testing.assert_close(inputs[0], given, rtol=0, atol=0)


def test_names_lose_the_mark_of_an_in_place_call() -> None:
    graph = import_module(rectified, (X,)).graph
    assert [(n.op, n.results) for n in graph.nodes] == [("mul", ("mul",)), ("relu", ("relu",)), ("add", ("add",))]


def test_random_and_training_calls_are_traced_again() -> None:
    module = torch.nn.Sequential(torch.nn.BatchNorm1d(3)).train()
    graph = import_module(module, (X,), training=True).graph
    assert {graph.input(u.target).target for u in graph.updates} == {
        "0.running_mean", "0.running_var", "0.num_batches_tracked",
    }  # fmt: skip
