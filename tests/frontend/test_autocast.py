"""Autocast regions become casts: inside ``forward``, nested, disabled, as a decorator, and around the import."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
import torch.utils._pytree as pytree
from drt.backend.to_torch import to_callable
from drt.frontend import import_module
from torch import nn

X = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(3))


class Nested(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.norm = nn.Linear(8, 16), nn.Linear(16, 4), nn.LayerNorm(16)
        self.conv = nn.Conv1d(3, 3, 3, padding=1)

    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            h = self.norm(F.gelu(self.a(x * 2)))
            with torch.autocast("cpu", enabled=False):
                g = h.float() @ h.float().transpose(-1, -2)
            y = self.b(h)
            return y, torch.softmax(y, -1), g, (y + 1.0).sum() + self.conv(h).exp().mean(), h


class Decorated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(8, 8)

    @torch.autocast("cpu", dtype=torch.bfloat16)
    def forward(self, x):
        y = self.a(x)
        return (
            F.scaled_dot_product_attention(x, x, x),
            torch.cat([x, y], -1),
            F.mse_loss(y, y * 2),
            x @ y.transpose(-1, -2),
        )


def half(x: torch.Tensor) -> torch.Tensor:
    with torch.autocast("cpu", dtype=torch.float16):
        return x @ x.transpose(-1, -2)


def other_device(x: torch.Tensor) -> torch.Tensor:
    with torch.autocast("cuda", dtype=torch.float16):
        return x @ x.transpose(-1, -2)


PROGRAMS: dict[str, tuple[Callable[..., object], set[str]]] = {
    "nested": (Nested(), {"bf16", "f32"}), "decorated": (Decorated(), {"bf16", "f32"}), "half": (half, {"f16", "f32"}),
    "another device": (other_device, {"f32"}),
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_regions_compute_bit_for_bit_what_pytorch_does(name: str) -> None:
    program, dtypes = PROGRAMS[name]
    imported = import_module(program, (X,))
    inputs = imported.bind(X)
    with torch.no_grad():
        wanted = pytree.tree_leaves(program(X))
        got = pytree.tree_leaves(imported.result(to_callable(imported.graph)(*inputs), inputs))
    assert [(g.dtype, torch.equal(g, w)) for g, w in zip(got, wanted, strict=True)] == [(w.dtype, True) for w in wanted]
    assert {t.dtype for t in imported.graph.types.values()} == dtypes and imported.autocast == ""


def test_a_region_around_the_import_is_in_the_program() -> None:
    program = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        imported = import_module(program, (X,))
        wanted = program(X)
    got = to_callable(imported.graph)(*imported.bind(X))
    assert got.dtype == torch.bfloat16 and torch.equal(got, wanted) and imported.autocast == "cpu"
