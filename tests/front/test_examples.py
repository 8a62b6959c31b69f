"""The example models: each is imported whole at small sizes, and its graph computes what the model computes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").rglob("*.py"))

#: Sizes that keep every relation between the constants of an example, small enough for a laptop.
SMALL = {
    "BATCH": 2, "IN_FEATURES": 24, "OUT_FEATURES": 40, "TOKENS": 8, "WIDTH": 64, "HIDDEN": 48, "INNER": 40, "HEADS": 4, "KV_HEADS": 2,
    "CHANNELS": 32, "HEIGHT": 6, "GROUPS": 8, "ROWS": 3, "LENGTH": 100, "PATCHES": 5, "CLASSES": 10,
}  # fmt: skip


def shrink(path: Path, folder: Path) -> Path:
    """Write a copy of an example with small sizes and return where it is."""
    text = re.sub(r"^([A-Z_]+) = \d+$", lambda m: f"{m[1]} = {SMALL[m[1]]}", path.read_text(), flags=re.MULTILINE)
    copy = folder / path.name
    copy.write_text(text)
    return copy


def operator_files(path: Path) -> list[Path]:
    """Return the operator files that an example is compiled with: all those beside it."""
    return sorted(path.parent.glob("*.drt"))


each_example = pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)


@each_example
def test_an_example_is_imported_whole(path: Path, tmp_path: Path) -> None:
    import torch
    from drt.backend.to_torch import to_callable
    from drt.frontend import import_module, load_model
    from drt.ir import load_ops, parse_graph, print_graph

    ops = load_ops(*operator_files(path))
    model = load_model(str(shrink(path, tmp_path)))
    imported = import_module(model.module, model.example_inputs, ops=ops)
    assert imported.unknown == ()
    graph = imported.graph
    assert print_graph(parse_graph(print_graph(graph), ops=ops)) == print_graph(graph)
    given = iter(model.example_inputs)
    values = [next(given) if i.kind == "input" else imported.state[i.target] for i in graph.inputs]
    with torch.no_grad():
        result = to_callable(graph, ops)(*values)
        torch.testing.assert_close(result, model.module(*model.example_inputs))


def test_an_example_shows_what_ops_files_are_for(tmp_path: Path) -> None:
    from drt.frontend import import_module, load_model

    model = load_model(str(shrink(ROOT / "examples/ops/gated_mlp.py", tmp_path)))
    (unknown,) = import_module(model.module, model.example_inputs).unknown
    assert unknown.target == "example.squared_relu_gate.default"


@pytest.mark.slow
@each_example
def test_an_example_compiles_to_a_verified_file(path: Path, tmp_path: Path) -> None:
    from drt.cli import main

    words = [word for file in operator_files(path) for word in ("--ops", str(file))]
    output = tmp_path / "out" / "fast.py"
    assert main(["compile", str(shrink(path, tmp_path)), "-o", str(output), "--device", "cpu", *words]) == 0
    assert "class ModelNew" in output.read_text()
