"""The output stage of a state-space block around a custom operator that comes with a kernel of its own.

``drt compile examples/ops/gated_norm.py --ops examples/ops/gated_rms_norm.drt`` compiles it.
"""

import torch
import torch.nn.functional as F
from torch import nn

TOKENS = 8192
WIDTH = 2048
INNER = 4096


@torch.library.custom_op("example::gated_rms_norm", mutates_args=())
def gated_rms_norm(x: torch.Tensor, gate: torch.Tensor, weight: torch.Tensor, eps: float = 1e-6) -> torch.Tensor:
    return F.rms_norm(x * F.silu(gate), weight.shape, weight, eps)


@gated_rms_norm.register_fake
def _(x: torch.Tensor, gate: torch.Tensor, weight: torch.Tensor, eps: float = 1e-6) -> torch.Tensor:
    return torch.empty_like(x)


class Model(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(inner))
        self.out = nn.Linear(inner, width, bias=False)

    def forward(self, x: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        return self.out(gated_rms_norm(x, gate, self.weight, 1e-5))


def get_inputs() -> list[torch.Tensor]:
    return [torch.randn(TOKENS, INNER), torch.randn(TOKENS, INNER)]


def get_init_inputs() -> list[int]:
    return [WIDTH, INNER]
