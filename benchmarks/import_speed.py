"""What importing adds to ``torch.export``, and how fast the text of a program is read, checked and written.

Usage, from a checkout or with the package installed:

    python benchmarks/import_speed.py [--blocks N] [--repeat N] [--only transformer|resnet|text] [--json FILE]

Each model exports to at least 5,000 calls.  The export alone and the whole import (which contains an export) are timed in
turns on fresh modules, after one small import that pays for what happens once per process.  Times are CPU seconds of this
process and the smallest of the repeats counts, so that other work on the machine does not.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from examples import drt  # isort: skip
from torch import nn


class RmsNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight


class DecoderLayer(nn.Module):
    """Attention with rotary positions and a gated feed-forward layer, as checkpoints of today have them."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = RmsNorm(width), RmsNorm(width)
        self.q, self.k, self.v, self.o = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.gate, self.up, self.down = (
            nn.Linear(width, 2 * width),
            nn.Linear(width, 2 * width),
            nn.Linear(2 * width, width),
        )

    def rotate(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        a, b = x.chunk(2, -1)
        return x * cos + torch.cat([-b, a], -1) * sin

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        n, t, _ = x.shape
        h = self.before(x)
        q, k, v = (f(h).view(n, t, self.heads, -1).transpose(1, 2) for f in (self.q, self.k, self.v))
        q, k = self.rotate(q, cos, sin), self.rotate(k, cos, sin)
        h = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.o(h.transpose(1, 2).reshape(n, t, -1))
        h = self.between(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Transformer(nn.Module):
    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(32, 4) for _ in range(blocks))
        angle = torch.arange(16)[:, None] / 100 ** (torch.arange(4) / 4)
        self.register_buffer("cos", torch.cat([angle, angle], -1).cos())
        self.register_buffer("sin", torch.cat([angle, angle], -1).sin())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x, self.cos, self.sin)
        return x


class ResidualNet(nn.Module):
    """Bottleneck blocks with rectifiers in place."""

    def __init__(self, blocks: int) -> None:
        super().__init__()

        def layer(a: int, b: int, k: int) -> nn.Module:
            return nn.Sequential(nn.Conv2d(a, b, k, padding=k // 2, bias=False), nn.BatchNorm2d(b))

        self.blocks = nn.ModuleList(
            nn.ModuleList([layer(16, 4, 1), layer(4, 4, 3), layer(4, 16, 1)]) for _ in range(blocks)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for a, b, c in self.blocks:
            h = F.relu(a(x), inplace=True)
            h = F.relu(b(h), inplace=True)
            x = F.relu(c(h) + x, inplace=True)
        return x


#: Name -> (class, arguments of one call, blocks that export to 5,000 calls).
MODELS: dict[str, tuple[Callable[[int], nn.Module], tuple[torch.Tensor, ...], int]] = {
    "transformer": (Transformer, (torch.randn(2, 16, 32),), 110),
    "resnet": (ResidualNet, (torch.randn(2, 16, 8, 8),), 500),
}


def best_s(f: Callable[[], Any], repeat: int) -> tuple[float, Any]:
    """Return the least CPU time of ``repeat`` calls (seconds) and the last result."""
    times, result = [], None
    for _ in range(repeat):
        gc.collect()
        start_s = time.process_time()
        result = f()
        times.append(time.process_time() - start_s)
    return min(times), result


def import_row(name: str, blocks: int, repeat: int) -> dict[str, Any]:
    """Time export and import of one model."""
    from drt.frontend import import_module

    make, args, usual = MODELS[name]

    def exported() -> Any:
        with torch.no_grad():
            return torch.export.export(make(blocks or usual).eval(), args, strict=False)

    import_module(make(1), args)
    exports, imports = [], []
    for _ in range(repeat):
        export_s, program = best_s(exported, 1)
        n_calls = sum(n.op == "call_function" for n in program.graph.nodes)
        import_s, imported = best_s(lambda: import_module(make(blocks or usual).eval(), args), 1)
        exports.append(export_s)
        imports.append(import_s)
    export_s, import_s = min(exports), min(imports)
    return {
        "model": name, "calls": n_calls, "nodes": len(imported.graph.nodes), "export_s": round(export_s, 3),
        "import_s": round(import_s, 3), "added_percent": round(100 * (import_s / export_s - 1), 1),
    }  # fmt: skip


def text_row(n_values: int, repeat: int) -> dict[str, Any]:
    """Time parsing (which infers and checks every value) and printing of a program of ``n_values`` values."""
    from drt.frontend import import_module
    from drt.ir import parse_graph, print_graph

    per_block = len(import_module(Transformer(1), MODELS["transformer"][1]).graph.nodes)
    graph = import_module(Transformer(-(-n_values // per_block)), MODELS["transformer"][1]).graph
    text = print_graph(graph)
    parse_s, parsed = best_s(lambda: parse_graph(text), repeat)
    print_s, printed = best_s(lambda: print_graph(parsed), repeat)
    assert parsed == graph and printed == text
    return {
        "model": "text", "nodes": len(graph.nodes), "parse_s": round(parse_s, 3), "print_s": round(print_s, 3),
        "total_s": round(parse_s + print_s, 3),
    }  # fmt: skip


def main() -> int:
    """Run the measurements; returns 0 if both promises hold (25 % of the export, 2 s for the text)."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument(
        "--blocks", type=int, default=0, help="blocks of each model; default: as many as 5,000 calls need"
    )
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", choices=(*MODELS, "text"))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    drt()
    rows = []
    for name in MODELS:
        if arguments.only in (None, name):
            rows.append(import_row(name, arguments.blocks, arguments.repeat))
            print("  ".join(f"{k} {v}" for k, v in rows[-1].items()), flush=True)
    if arguments.only in (None, "text"):
        rows.append(text_row(5000, arguments.repeat))
        print("  ".join(f"{k} {v}" for k, v in rows[-1].items()), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps({"torch": torch.__version__, "rows": rows}, indent=1) + "\n")
    return 0 if all(r.get("added_percent", 0) < 25 and r.get("total_s", 0) < 2 for r in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
