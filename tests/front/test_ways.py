"""The commands ``drt import`` and ``drt lower``: every way in gives the same program, every way out is read back."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from drt import cli
from drt.frontend import import_program, load_model
from drt.ir import builtin_ops, parse_graph, print_graph
from drt.ways import load

MODEL = """
import torch
from torch import nn


class Model(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(n, n), nn.GELU(), nn.Linear(n, 2, bias=False))
        self.bn = nn.BatchNorm1d(2)

    def forward(self, x):
        return torch.sort(self.bn(self.layers(x)), dim=-1).values, x.sum(1).neg().neg()


def attention(q, k):
    return torch.softmax(q @ k.transpose(0, 1) * 0.5, dim=-1)


def make():
    return attention, [torch.randn(3, 4), torch.randn(5, 4)]


def get_inputs():
    return [torch.randn(3, 4)]


def get_init_inputs():
    return [4]
"""


def drt(*words: object) -> int:
    return cli.main([str(word) for word in words])


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.py"
    path.write_text(MODEL)
    return path


def test_a_program_is_written_and_told_of(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert drt("import", model) == 0
    graph = parse_graph(Path("model.ir").read_text())
    assert graph == import_program("model.py").graph
    told = capsys.readouterr().out
    assert re.search(r"model\.ir: Model: \d+ nodes: \d+ known, \d+ opaque", told)
    assert "linear 2" in told and "FLOPs" in told and "36 parameters (144 B)" in told


@pytest.mark.parametrize(("option", "operator"), [("--expand", "batch_norm"), ("--simplify", "neg")])
def test_the_program_can_be_rewritten_on_the_way(model: Path, option: str, operator: str) -> None:
    assert drt("import", model, "-q", "-o", "plain.ir") == drt("import", model, "-q", "-o", "out.ir", option) == 0
    plain, rewritten = ({n.op for n in parse_graph(Path(f).read_text()).nodes} for f in ("plain.ir", "out.ir"))
    assert any(op.startswith(operator) for op in plain) and not any(op.startswith(operator) for op in rewritten)


def test_mode_name_and_sizes_are_what_was_asked_for(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--training", "--dynamic", "x:0=B:2..64", "--name", "block", "-o", "b.ir"]
    assert drt("import", model, *words) == 0
    graph = parse_graph(Path("b.ir").read_text())
    assert graph.name == "block" and graph.updates and [str(s) for s in graph.symbols] == ["B"]
    assert "symbols: B in 2..64" in capsys.readouterr().out


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_the_tensors_are_saved_beside_it(model: Path, suffix: str) -> None:
    if suffix == "safetensors":
        safetensors = pytest.importorskip("safetensors.torch")
    assert drt("import", model, "-q", "--state", f"state.{suffix}") == 0
    path = f"state.{suffix}"
    held = torch.load(path) if suffix == "pt" else safetensors.load_file(path)
    state = load_model("model.py").module.state_dict()
    assert "layers.0.weight" in held
    assert all(torch.equal(state[k], v) for k, v in held.items())
    graph = parse_graph(Path("model.ir").read_text())
    assert {i.target for i in graph.inputs if i.kind != "input"} == set(held)


def lowered(*words: object) -> dict[str, Any]:
    assert drt("lower", *words, "-o", "lowered.py") == 0
    namespace: dict[str, Any] = {}
    exec(Path("lowered.py").read_text(), namespace)
    return namespace


@pytest.mark.parametrize("way", ["model.py", "model.ir", "model.pt2"])
def test_every_way_in_is_lowered_to_the_same_module(model: Path, way: str) -> None:
    loaded = load_model("model.py")
    loaded.module.eval()
    assert drt("import", model, "-q") == 0
    torch.export.save(torch.export.export(loaded.module, loaded.example_inputs), "model.pt2")
    namespace = lowered(way)
    again = namespace["Model"](*namespace["get_init_inputs"]()).eval()
    again.load_state_dict({k: v for k, v in loaded.module.state_dict().items() if k in again.state_dict()})
    with torch.no_grad():
        for got, want in zip(again(*loaded.example_inputs), loaded.module(*loaded.example_inputs)):
            assert torch.equal(got, want)
    assert [t.shape for t in namespace["get_inputs"]()] == [(3, 4)]


def test_a_lowered_file_is_read_back_as_the_same_program(model: Path) -> None:
    assert drt("import", f"{model}:make", "-q", "-o", "a.ir", "--name", "Model") == 0
    assert drt("lower", "a.ir", "-o", "again.py") == 0
    assert drt("import", "again.py", "-q", "-o", "b.ir") == 0
    a, b = (parse_graph(Path(f).read_text()) for f in ("a.ir", "b.ir"))
    assert [(n.op, n.attrs, n.types) for n in a.nodes] == [(n.op, n.attrs, n.types) for n in b.nodes]


def test_a_function_goes_to_standard_output(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert drt("lower", f"{model}:make", "--style", "function", "--name", "scores") == 0
    namespace: dict[str, Any] = {}
    exec(capsys.readouterr().out, namespace)
    q, k = torch.randn(3, 4), torch.randn(5, 4)
    assert torch.equal(namespace["scores"](q, k), torch.softmax(q @ k.T * 0.5, dim=-1))


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["import", "none.py"], "drt: none.py: no such file"),
        (["import", "none.ir", "-o", "x.ir"], "drt: none.ir: no such file"),
        (["import", "none.pt2"], "drt: none.pt2: no such file"),
        (["import", "model.py:nothing"], "does not define nothing, expected function nothing()"),
        (["import", "model.py", "--dynamic", "x=B"], "drt: x=B: expected ARGUMENT:AXIS=NAME or ARGUMENT:AXIS=NAME:LO"),
        (["import", "model.py", "--dynamic", "z:0=B"], "drt: z: is not an argument of the example call, expected one of x"),
        (["import", "model.py", "--state", "s.bin"], "drt: s.bin: is no file of tensors, expected one that ends with .saf"),
        (["import", "model.py", "-o", "."], "drt: .: is a folder, expected a file name"),
        (["lower", "model.py", "--to", "cobol"], "drt: lower: invalid value for '--to'"),
        (["lower", "model.py", "--name", "a b"], "drt: a b: is no Python name, expected one"),
        (["import", "p.ir", "-o", "p.ir"], "drt: p.ir: is the program that is read, expected another file"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_and_leaves_nothing(
    model: Path, words: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert drt(*words) == 2
    out, err = capsys.readouterr()
    assert out == "" and line in err and err.count("\n") == 1
    assert [p.name for p in model.parent.iterdir() if p.suffix != ".py" and p.is_file()] == []


def test_texts_are_read_without_pytorch(model: Path) -> None:
    import subprocess
    import sys

    Path("p.ir").write_text("drt 1\ngraph f(%x: f32[2]) -> (%y) { %y = exp(%x) : f32[2] }")
    code = "import sys; from drt import cli; assert cli.main(['ir', 'print', 'p.ir']) == 0; assert 'torch' not in sys.modules"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert result.stdout == print_graph(parse_graph(Path("p.ir").read_text()))


def test_help_teaches_by_examples(capsys: pytest.CaptureFixture[str]) -> None:
    for word in ("import", "lower"):
        assert drt(word, "--help") == 0
        assert f"drt {word}" in capsys.readouterr().out


def test_whatever_is_named_is_loaded_for_a_compile(model: Path) -> None:
    loaded = load_model(f"{model}:Model")
    loaded.module.eval()  # type: ignore[union-attr]
    assert drt("import", model, "-q") == 0
    torch.export.save(torch.export.export(loaded.module, loaded.example_inputs), "model.pt2")

    for way in ("model.ir", "model.pt2"):
        again = load(way, builtin_ops())
        assert again.spec == way and [t.shape for t in again.example_inputs] == [(3, 4)]
        own = again.module.state_dict()  # type: ignore[union-attr]
        again.module.load_state_dict({k: v for k, v in loaded.module.state_dict().items() if k in own}, strict=False)  # type: ignore[union-attr]
        with torch.no_grad():
            for got, want in zip(again.module(*loaded.example_inputs), loaded.module(*loaded.example_inputs)):
                assert torch.equal(got, want)


JAX = """
import jax.numpy as jnp
import numpy as np

TABLE = np.linspace(-1, 1, 3, dtype=np.float32)


def mlp(params, x):
    return jnp.tanh(x @ params["w"]) * jnp.asarray(TABLE)


def get_params():
    return {"w": np.arange(12, dtype=np.float32).reshape(4, 3) / 10}


def get_inputs():
    return [np.ones((2, 4), np.float32)]
"""


def test_programs_go_to_jax_and_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jax = pytest.importorskip("jax")

    monkeypatch.chdir(tmp_path)
    Path("f.py").write_text(JAX)
    namespace: dict[str, Any] = {}
    exec(JAX, namespace)
    (x,) = namespace["get_inputs"]()
    want = torch.tensor(jax.numpy.asarray(namespace["mlp"](namespace["get_params"](), x)).tolist())
    loaded = load("f.py:mlp", builtin_ops())
    torch.testing.assert_close(loaded.module(torch.from_numpy(x)), want)
    assert drt("import", "f.py:mlp", "-q", "-o", "a.ir") == 0
    assert drt("lower", "f.py:mlp", "--to", "jax", "-o", "g.py") == 0
    assert drt("import", "g.py:mlp", "-q", "-o", "b.ir") == 0
    a, b = (parse_graph(Path(f).read_text()) for f in ("a.ir", "b.ir"))
    assert [(n.op, n.attrs, n.types) for n in a.nodes] == [(n.op, n.attrs, n.types) for n in b.nodes]
