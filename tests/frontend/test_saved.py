"""Saved programs, and one door for every way in."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from drt.backend.to_torch import to_callable
from drt.frontend import import_module, import_program, load_saved, parse_dynamic, saved_model
from drt.ir import DrtError, UsageError, print_graph
from torch import nn


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.bn = nn.Linear(4, 6), nn.BatchNorm1d(6)
        self.register_buffer("shift", torch.arange(6.0))

    def forward(self, x: torch.Tensor, scale: torch.Tensor) -> dict[str, torch.Tensor]:
        y = self.bn(self.fc(x)) + self.shift
        return {"y": y * scale, "h": y}


ARGUMENTS = (torch.linspace(-1, 1, 12).reshape(3, 4), torch.tensor([2.0]))


def save(folder: Path, training: bool = False, dynamic: bool = False) -> tuple[nn.Module, Path]:
    torch.manual_seed(0)
    module = Block().train(training)
    shapes = {"x": {0: torch.export.Dim("B", min=2, max=64)}, "scale": None} if dynamic else None
    path = folder / "block.pt2"
    torch.export.save(torch.export.export(module, ARGUMENTS, dynamic_shapes=shapes), path)
    return module, path


@pytest.mark.parametrize("training", [False, True])
def test_a_saved_program_is_the_program(tmp_path: Path, training: bool) -> None:
    module, path = save(tmp_path, training)
    imported = import_program(path)
    assert print_graph(imported.graph) == print_graph(
        import_module(module, ARGUMENTS, training=training, name="block").graph
    )
    assert bool(imported.graph.updates) == training
    inputs = imported.bind(*ARGUMENTS)
    got = imported.result(to_callable(imported.graph)(*inputs), inputs)
    want = module(*ARGUMENTS)
    assert list(got) == list(want) and all(torch.equal(got[k], want[k]) for k in want)


def test_a_saved_program_keeps_its_symbols(tmp_path: Path) -> None:
    module, path = save(tmp_path, dynamic=True)
    graph = import_program(path, name="named").graph
    assert graph.name == "named" and [(s.lo, s.hi) for s in graph.symbols] == [(2, 64)]
    args = (torch.ones(7, 4), torch.ones(1))
    imported = import_program(path)
    inputs = imported.bind(*args)
    assert torch.equal(imported.result(to_callable(imported.graph)(*inputs), inputs)["y"], module(*args)["y"])


def test_a_saved_program_is_a_module_with_examples(tmp_path: Path) -> None:
    module, path = save(tmp_path)
    loaded = saved_model(path)
    assert torch.equal(loaded.module(*loaded.example_inputs)["y"], module(*ARGUMENTS)["y"])
    program = load_saved(path)
    program._example_inputs = None
    torch.export.save(program, path)
    drawn = saved_model(path)
    assert [t.shape for t in drawn.example_inputs] == [(3, 4), (1,)]
    assert drawn.module(*drawn.example_inputs)["y"].shape == (3, 6)


def rewritten(path: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    """Return a copy of a zip archive with each entry's bytes changed; None leaves the entry out."""
    out = path.with_name("changed.pt2")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            data = change(name, old.read(name))
            if data is not None:
                new.writestr(name, data)
    return out


def newer(name: str, data: bytes) -> bytes:
    if not name.endswith("models/model.json"):
        return data
    return data.replace(b'"major": ', b'"major": 9').replace(torch.__version__.encode(), b"99.1.0")


DAMAGE: list[tuple[Callable[[str, bytes], bytes | None], str]] = [
    (newer, r"^\S+changed.pt2: was saved by PyTorch 99.1.0, expected \S+ or older$"),
    (lambda name, data: None if "weight_0" in name else data, r"changed.pt2: is damaged or incomplete$"),
    (
        lambda name, data: data[:1000] if name.endswith("model.json") else data,
        r"changed.pt2: torch.export.load fails: ",
    ),
]


@pytest.mark.parametrize(("change", "pattern"), DAMAGE)
def test_damaged_and_newer_files(
    tmp_path: Path, change: Callable[[str, bytes], bytes | None], pattern: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = rewritten(save(tmp_path)[1], change)
    with pytest.raises(UsageError, match=pattern) as raised:
        import_program(path)
    assert "\n" not in raised.value.line()
    assert capfd.readouterr() == ("", "")


def archive(path: Path, name: str) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(name, b"")


def test_files_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "x.pt2"
    wanted = "expected a file that torch.export.save wrote"
    for write, what in (
        (lambda: path.write_bytes(b"hello"), "is no zip archive"),
        (lambda: archive(path, "a.txt"), "is a zip archive without a program"),
        (lambda: archive(path, "m/data/aotinductor/model/x.so"), r"is a package of compiled kernels \(AOTInductor\)"),
        (lambda: torch.save({}, path), "is a file of torch.save"),
        (lambda: torch.jit.save(torch.jit.script(nn.ReLU()), str(path)), "is a file of torch.jit.save"),
    ):
        write()
        with pytest.raises(UsageError, match=f"^{path}: {what}, {wanted}$"):
            import_program(path)
    with pytest.raises(UsageError, match="none.pt2: no such file$"):
        import_program(tmp_path / "none.pt2")
    with pytest.raises(UsageError, match="is a directory, expected a saved ExportedProgram$"):
        load_saved(tmp_path)


# -- the door -------------------------------------------------------------------------------------------------------------

PROGRAM = 'drt 1\ngraph f<B in 1..16>(%x: f32[B, 8], param %w: f32[8] @"w") -> (%h, %y) {\n  %h = mul(%x, %w) : f32[B, 8]\n  %y = exp(%h) : f32[B, 8]\n}\n'


@pytest.mark.parametrize("suffix", [".ir", ".drt"])
def test_a_text_is_a_program(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"p{suffix}"
    path.write_text(PROGRAM)
    imported = import_program(path, name="g")
    assert imported.graph.name == "g" and not imported.unknown and not imported.state
    assert imported.in_spec.flatten(torch.ones(2, 8))[0].shape == (2, 8)
    assert imported.out_spec.unflatten([torch.ones(1), torch.zeros(1)]) == (torch.ones(1), torch.zeros(1))


FUNCTION = """
import torch

def scaled(x, y):
    return torch.tanh(x) * y

class Head(torch.nn.Module):
    def forward(self, x, y):
        return x - y

def make():
    return Head(), [torch.ones(2), torch.ones(2)]

def get_inputs():
    return [torch.ones(2, 3), torch.ones(3)]
"""


@pytest.mark.parametrize(
    ("name", "operators"), [("scaled", ["tanh", "mul"]), ("Head", ["sub"]), ("make", ["sub"])]
)  # fmt: skip
def test_functions_classes_and_factories_of_a_file(tmp_path: Path, name: str, operators: list[str]) -> None:
    path = tmp_path / "f.py"
    path.write_text(FUNCTION)
    assert [n.op for n in import_program(f"{path}:{name}").graph.nodes] == operators


def test_symbolic_sizes_by_text(tmp_path: Path) -> None:
    path = tmp_path / "f.py"
    path.write_text(FUNCTION)
    dynamic = parse_dynamic(["x:0=B:1..64"])
    graph = import_program(f"{path}:scaled", dynamic=dynamic).graph
    assert [(s.name, s.lo, s.hi) for s in graph.symbols] == [("B", 1, 64)]
    assert parse_dynamic(["x:0=B", "x:2=T:2..3"]) == {"x": {0: ("B", 1, 65536), 2: ("T", 2, 3)}}
    assert parse_dynamic([]) is None
    for texts, message in (
        (["x=B"], "expected ARGUMENT:AXIS=NAME"),
        (["x:0=B:5..2"], "5..2 holds no size, expected 2..5"),
        (["x:0=class"], "class is a word of Python, expected a name"),
        (["x:0=B", "x:0=C"], "x:0=C: axis 0 of x has a name already"),
    ):
        with pytest.raises(UsageError, match=message):
            parse_dynamic(texts)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"dynamic": {"x": {0: "B"}}}, "expected no further symbolic sizes"), ({"training": True}, "expected no other")],
)
def test_what_is_fixed_cannot_be_asked_for(tmp_path: Path, options: dict, message: str) -> None:
    (tmp_path / "p.ir").write_text(PROGRAM)
    _, saved = save(tmp_path)
    for path in (tmp_path / "p.ir", saved):
        with pytest.raises(UsageError, match=message):
            import_program(path, **options)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: None, "no such file"),
        (lambda p: p.mkdir(), "is a directory, expected a program's text"),
        (lambda p: p.write_bytes(b"\xff\xfe\x00"), "is not text"),
        (lambda p: p.write_text("drt 1\ngraph f(%x: f32[2]) -> (%y) { %y = nope(%x) : f32[2] }"), "nope"),
        (lambda p: p.write_text(""), "p.ir"),
    ],
)
def test_bad_texts(tmp_path: Path, make: Callable[[Path], object], message: str) -> None:
    path = tmp_path / "p.ir"
    make(path)
    with pytest.raises(DrtError, match=message):
        import_program(path)


JAX = """
import jax
import jax.numpy as jnp
import numpy as np


def mlp(params, x):
    return jnp.tanh(x @ params["w"]) * 2.0


@jax.jit
def scaled(x):
    return jnp.exp(x) * 0.5


def get_params():
    return {"w": np.ones((4, 3), np.float32)}


def get_inputs():
    return [np.ones((2, 4), np.float32)]
"""


def test_functions_of_jax(tmp_path: Path) -> None:
    pytest.importorskip("jax")
    path = tmp_path / "f.py"
    path.write_text(JAX)
    imported = import_program(f"{path}:mlp")
    assert [i.target for i in imported.graph.inputs if i.kind == "param"] == ["w"]
    assert [n.op for n in imported.graph.nodes] == ["matmul", "tanh", "mul"]
    path.write_text(JAX.replace("def get_params", "def other"))
    assert [n.op for n in import_program(f"{path}:scaled").graph.nodes] == ["exp", "mul"]
    with pytest.raises(UsageError, match="is a JAX function, expected neither symbolic sizes nor a mode"):
        import_program(f"{path}:scaled", training=True)


def test_jax_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import builtins
    import sys

    path = tmp_path / "f.py"
    path.write_text(JAX)
    for name in [m for m in sys.modules if m.partition(".")[0] == "jax"]:
        monkeypatch.delitem(sys.modules, name)
    real = builtins.__import__

    def missing(name: str, *args: object) -> object:
        if name.partition(".")[0] == "jax":
            raise ModuleNotFoundError("No module named 'jax'", name="jax")
        return real(name, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UsageError, match=r"f.py:2: JAX is not installed, expected the extra drt\[jax\]$"):
        import_program(f"{path}:mlp")
