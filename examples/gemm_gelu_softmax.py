"""A linear layer, GELU and a softmax over the classes: KernelBench level 2, problem 99."""

import torch
from torch import nn

BATCH = 1024
IN_FEATURES = 8192
OUT_FEATURES = 8192


class Model(nn.Module):
    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, out_features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.linear(x)
        x = nn.functional.gelu(x)
        return nn.functional.softmax(x, dim=1)


def get_inputs() -> list[torch.Tensor]:
    return [torch.rand(BATCH, IN_FEATURES)]


def get_init_inputs() -> list[int]:
    return [IN_FEATURES, OUT_FEATURES]
