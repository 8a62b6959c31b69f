"""Recurrent networks: one node for the sequence, or the graph of its steps."""

from __future__ import annotations

import pytest
import torch
from drt.backend.oracle import Oracle
from drt.backend.to_torch import to_callable
from drt.frontend import import_module
from drt.ir import expand_graph, parse_graph, print_graph, unroll
from torch import nn

KINDS = [
    (nn.LSTM(4, 3, num_layers=2, bidirectional=True, batch_first=True), "lstm", "lstm_cell"),
    (nn.LSTM(4, 3, num_layers=2, dropout=0.5, bias=False), "lstm", "lstm_cell"),
    (nn.GRU(4, 3, num_layers=2, batch_first=True), "gru", "gru_cell"),
    (nn.RNN(4, 3, nonlinearity="relu", bidirectional=True), "rnn", "rnn_cell"),
]


@pytest.mark.parametrize("module, whole, cell", KINDS, ids=lambda v: v if isinstance(v, str) else "")
def test_sequences_and_their_steps_compute_what_the_module_does(module: nn.Module, whole: str, cell: str) -> None:
    module = module.double().eval()
    x = torch.randn(5, 5, 4, dtype=torch.float64)
    imported = import_module(module, (x,))
    assert [n.op for n in imported.graph.nodes if n.op in ("lstm", "gru", "rnn", "opaque")] == [whole]
    steps = import_module(module, (x,), unroll_steps=5)
    count = 5 * 2 * (2 if module.bidirectional else 1) if module.num_layers == 2 else 5 * 2
    assert sum(n.op == cell for n in steps.graph.nodes) == count
    assert not any(n.op in (whole, "opaque") for n in steps.graph.nodes)
    assert parse_graph(print_graph(steps.graph)) == steps.graph
    expected = module(x)[0]
    for found in (imported, steps):
        given = found.bind(x)
        named = {i.name: v for i, v in zip(found.graph.inputs, given, strict=True)}
        assert torch.allclose(found.result(to_callable(found.graph)(*given), given)[0], expected)
        assert torch.allclose(Oracle().run(found.graph, named)[0], expected)
    flat = expand_graph(steps.graph)
    assert torch.allclose(Oracle().run(flat, named)[0], expected)


def test_longer_and_projected_sequences_stay_whole() -> None:
    x = torch.randn(6, 2, 4)
    graph = import_module(nn.GRU(4, 3), (x,)).graph
    assert unroll(graph, 5) is graph
    projected = import_module(nn.LSTM(4, 6, proj_size=3), (x,), unroll_steps=100).graph
    assert [n.op for n in projected.nodes if n.op == "lstm"] == ["lstm"]


def test_cells() -> None:
    class Cells(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.LSTMCell(4, 3), nn.GRUCell(3, 3, bias=False), nn.RNNCell(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h, c = self.a(x)
            return self.c(self.b(h, c))

    module, x = Cells().eval(), torch.randn(2, 4)
    imported = import_module(module, (x,))
    assert {"lstm_cell", "gru_cell", "rnn_cell"} <= {n.op for n in imported.graph.nodes}
    assert torch.allclose(to_callable(imported.graph)(*imported.bind(x)), module(x), atol=1e-6)
