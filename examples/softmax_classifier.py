"""The head of a vision transformer: layer norm, mean over the patches, linear layer, class probabilities."""

import torch
from torch import nn

BATCH = 256
PATCHES = 196
WIDTH = 768
CLASSES = 1000


class Model(nn.Module):
    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.head(self.norm(x).mean(dim=1)), dim=-1)


def get_inputs() -> list[torch.Tensor]:
    return [torch.randn(BATCH, PATCHES, WIDTH)]


def get_init_inputs() -> list[int]:
    return [WIDTH, CLASSES]
