"""Graph networks of torch_geometric, called with an ``edge_index``."""

from __future__ import annotations

from typing import Any

import torch
from _building import Made
from torch import nn


class Stack(nn.Module):
    """Two layers with a rectifier between them."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        return self.second(torch.relu(self.first(x, edges)), edges)


def _stack(full: bool, layer: str, inside: int = 0, **arguments: Any) -> Made:
    from torch_geometric import nn as geometric

    kind = getattr(geometric, layer)
    nodes, edges, width = (20000, 100000, 128) if full else (12, 30, 8)
    between = width * arguments.get("heads", 1)
    model = Stack(kind(width, width, **arguments), kind(between, width, **arguments))
    return model, (torch.randn(nodes, width), torch.randint(0, nodes, (2, edges)))


def gcn(full: bool = False) -> Made:
    return _stack(full, "GCNConv", add_self_loops=False)


def gat(full: bool = False) -> Made:
    return _stack(full, "GATConv", heads=2, add_self_loops=False)


def gat_v2(full: bool = False) -> Made:
    return _stack(full, "GATv2Conv", heads=2, add_self_loops=False)


def graph_sage(full: bool = False) -> Made:
    return _stack(full, "SAGEConv")


def graph_transformer(full: bool = False) -> Made:
    return _stack(full, "TransformerConv", heads=2)


def gin(full: bool = False) -> Made:
    from torch_geometric import nn as geometric

    nodes, edges, width = (20000, 100000, 128) if full else (12, 30, 8)

    def layer() -> nn.Module:
        return geometric.GINConv(nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)))

    return Stack(layer(), layer()), (torch.randn(nodes, width), torch.randint(0, nodes, (2, edges)))
