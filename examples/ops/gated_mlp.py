"""A gated feed-forward layer around a custom operator that PyTorch and DRT know nothing about.

``drt compile examples/ops/gated_mlp.py --ops examples/ops/squared_relu_gate.drt`` compiles it: the operator file alone says
what ``example::squared_relu_gate`` means.
"""

import torch
from torch import nn

BATCH = 4096
WIDTH = 1024
HIDDEN = 4096


@torch.library.custom_op("example::squared_relu_gate", mutates_args=())
def squared_relu_gate(x: torch.Tensor, gate: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
    return torch.relu(x).square() * gate * scale


@squared_relu_gate.register_fake
def _(x: torch.Tensor, gate: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
    return torch.empty_like(x)


class Model(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden, bias=False)
        self.gate = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(squared_relu_gate(self.up(x), self.gate(x), 0.5))


def get_inputs() -> list[torch.Tensor]:
    return [torch.randn(BATCH, WIDTH)]


def get_init_inputs() -> list[int]:
    return [WIDTH, HIDDEN]
