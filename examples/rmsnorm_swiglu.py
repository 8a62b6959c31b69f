"""The feed-forward half of a Llama-style layer in bfloat16: RMS norm, SwiGLU, residual."""

import torch
from torch import nn

BATCH = 4
TOKENS = 1024
WIDTH = 2048
HIDDEN = 5632


class Model(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)
        self.to(torch.bfloat16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # The mean square is taken in float32, as Llama does it.
        h = x.float()
        h = h * torch.rsqrt(h.pow(2).mean(dim=-1, keepdim=True) + 1e-6)
        h = self.scale * h.to(x.dtype)
        return x + self.down(nn.functional.silu(self.gate(h)) * self.up(h))


def get_inputs() -> list[torch.Tensor]:
    return [torch.randn(BATCH, TOKENS, WIDTH, dtype=torch.bfloat16)]


def get_init_inputs() -> list[int]:
    return [WIDTH, HIDDEN]
