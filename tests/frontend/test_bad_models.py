"""Models that cannot be imported, or only in part: one clear line with the place, or a graph with opaque nodes in it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from drt.backend.to_torch import to_callable
from drt.frontend import import_module, import_program
from drt.ir import OPAQUE, UsageError
from drt.pipeline import compile, require_weights
from torch import nn

HEAD = """
import torch
from torch import nn


class Odd:
    def __init__(self, held):
        self.held = held


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("big", torch.ones(8))
        self.register_buffer("part", self.big[:4], persistent=False)

    def forward(self, x, y=None):
        {body}


def get_inputs():
    return [{inputs}]
"""

#: What ``forward`` does, what it is called with, and what is said; the line of ``forward``'s body is 18.
REFUSED = [
    ("return torch.from_numpy(x.numpy() * 2)", "torch.ones(3)", ":18: .*a tensor becomes an array of numpy, expected PyTorch's"),
    ("return x + 1 if x.sum() > 0 else x", "torch.ones(3)", ":18: .*control flow depends on tensor contents"),
    ("return x * x.sum().item()", "torch.ones(3)", ":18: .*a number is computed from tensor contents"),
    ("return x[x > 0]", "torch.ones(3)", ":18: .*a size depends on tensor contents"),
    (
        "return torch.cond(x.sum() > 0, lambda a: a + 1, lambda a: a - 1, (x,))", "torch.ones(3)",
        "the program uses cond, expected straight-line tensor code",
    ),
    ("return torch.ops.drt_bad.no_fake(x)", "torch.ones(3)", ":18: .*calls drt_bad.no_fake.default, which has no fake implem"),
    (
        "torch.ops.drt_bad.writes(x)\n        return x * 2", "torch.ones(3)",
        "calls drt_bad.writes.default, which writes to its arguments, expected operators that return new tensors",
    ),
    ("return x @ torch.ones(3, 2)", "torch.ones(2, 3).to_sparse()", r"Model: x is a sparse tensor \(sparse_coo\), expected a dense"),
    ("return x @ torch.ones(3, 2)", "torch.ones(2, 3).to_sparse_csr()", r"Model: x is a sparse tensor \(sparse_csr\)"),
    ("return torch.sparse.mm(x.to_sparse(), x)", "torch.ones(3, 3)", r"a value is sparse \(sparse_coo\), expected dense tensors"),
    (
        "return x.dequantize()", "torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)",
        r"Model: x is a quantised tensor \(qint8\), expected a dense tensor",
    ),
    ("return x + x", "torch.nested.nested_tensor([torch.ones(2)], layout=torch.jagged)", "Model: x is a nested tensor"),
    ("return x + 1", "torch.ones(3, dtype=torch.int16)", "Model: x has dtype int16, expected one of bool, u8, i8, i32"),
    ("return x.to(torch.float8_e4m3fn).float()", "torch.ones(3)", ":18: .*a value has dtype float8_e4m3fn, expected one of"),
    ("return Odd(x)", "torch.ones(3)", "the result holds a Odd, expected tensors, tuples, lists and dicts"),
    ("return x.held + 1", "Odd(torch.ones(3))", "an argument holds a Odd, expected tensors in|expected tensors, tuples"),
    ("self.part.add_(1)\n        return x + self.big[:4]", "torch.ones(4)", "tensors that share memory are written to"),
    ("return x @ x", "torch.ones(2, 3)", r":18: Model: torch.export fails: .*\[2, 3\]"),
    ("raise ValueError('boom')", "torch.ones(2)", ":18: Model: torch.export fails: ValueError: boom"),
    ("return self(x)", "torch.ones(2)", ":18: .*recursion depth"),
    ("return torch.ops.drt_nowhere.f(x)", "torch.ones(2)", ":18: .*calls drt_nowhere.f, which no library has defined so far"),
    ("import copy\n        return copy.deepcopy(x)", "torch.ones(2)", ":19: .*a tensor's memory is read"),
    (
        "return nn.utils.rnn.pack_padded_sequence(x, torch.tensor([2, 1]), batch_first=True).data", "torch.ones(2, 2, 3)",
        ":18: .*a size depends on tensor contents",
    ),
    ("return (x ** 2).sum().backward()", "torch.ones(2)", ":18: .*gradients are computed inside the program"),
    ("return x + torch.randn(2, generator=torch.Generator())", "torch.ones(2)", "Model: the program uses a Generator, expected tens"),
    ("return torch.nn.functional.ctc_loss(x, y, y[0], y[0])", "torch.ones(3, 2, 4), torch.ones(2, 2).long()", ":18: .*depends on tensor"),
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def custom_operators() -> Any:
    library = torch.library.Library("drt_bad", "DEF")
    library.define("no_fake(Tensor x) -> Tensor")
    library.impl("no_fake", lambda x: x * 2, "CPU")
    library.define("with_fake(Tensor x, float a) -> Tensor")
    library.impl("with_fake", lambda x, a: x * a, "CPU")
    torch.library.register_fake("drt_bad::with_fake", lambda x, a: torch.empty_like(x), lib=library)
    library.define("writes(Tensor(a!) x) -> ()")
    library.impl("writes", lambda x: x.add_(1) and None, "CPU")
    torch.library.register_fake("drt_bad::writes", lambda x: None, lib=library)
    yield
    library._destroy()


def write(folder: Path, body: str, inputs: str) -> Path:
    path = folder / "model.py"
    path.write_text(HEAD.replace("{body}", body).replace("{inputs}", inputs))
    return path


@pytest.mark.parametrize(("body", "inputs", "pattern"), REFUSED)
@pytest.mark.filterwarnings("ignore")
def test_what_is_refused_is_told_in_one_line(tmp_path: Path, body: str, inputs: str, pattern: str) -> None:
    with pytest.raises(UsageError, match=pattern) as raised:
        import_program(write(tmp_path, body, inputs))
    line = raised.value.line()
    assert "\n" not in line and "Model" in line


def test_torchscript_is_refused() -> None:
    with pytest.raises(UsageError, match="is TorchScript, expected the nn.Module or function that it was made from"):
        import_module(torch.jit.script(nn.ReLU()), [torch.ones(2)])


#: What ``forward`` does, what it is called with, and the opaque targets of its graph.
IMPORTED = [
    ("return torch.relu(torch.ops.drt_bad.with_fake(x + 1, 2.0))", "torch.ones(3)", ["drt_bad.with_fake.default"]),
    ("return (x * x).abs()", "torch.ones(3, dtype=torch.complex64)", []),
    ("return {'y': x + 1, 's': 'text', 'n': None, 'f': 1.5, 'z': [x, (x,)]}", "torch.ones(3)", []),
    ("return x.add_(1) * 2", "torch.ones(3)", []),
    ("return torch.ones(3)", "", []),
    ("return x * 2", "torch.ones(0, 3)", []),
    ("return torch.cond(x.shape[0] > 2, lambda a: a + 1, lambda a: a - 1, (x,))", "torch.ones(3)", []),
]  # fmt: skip


@pytest.mark.parametrize(("body", "inputs", "opaque"), IMPORTED)
def test_what_is_odd_is_imported(tmp_path: Path, body: str, inputs: str, opaque: list[str]) -> None:
    if not inputs:
        body = f"del x\n        {body}".replace("del x", "pass")
    path = write(tmp_path, body, inputs)
    if not inputs:
        path.write_text(path.read_text().replace("self, x, y=None", "self"))
    imported = import_program(path)
    assert [n.attributes["target"] for n in imported.graph.nodes if n.op == OPAQUE] == opaque
    from drt.frontend import load_model

    loaded = load_model(path)
    given = imported.bind(*(t.clone() for t in loaded.example_inputs))
    got = imported.result(to_callable(imported.graph)(*given), given)
    want = loaded.module(*loaded.example_inputs)
    torch.testing.assert_close(got, want) if isinstance(want, torch.Tensor) else same(got, want)


def same(got: Any, want: Any) -> None:
    assert got.keys() == want.keys()
    assert all(torch.equal(got[k], want[k]) if isinstance(want[k], torch.Tensor) else True for k in want)
    assert (got["s"], got["n"], got["f"]) == (want["s"], want["n"], want["f"])


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
        self.b.weight = self.a.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(torch.relu(self.a(x)))


class Short(nn.Module):
    """Has a buffer of a dtype that the IR does not have."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.ones(4, dtype=torch.int16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.table


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (
            nn.Sequential(torch.jit.script(nn.Linear(4, 4))),
            "Sequential: 0 is TorchScript, expected the module that it was made",
        ),
        (nn.Module(), "Module: has no method forward, expected one"),
        (Short(), "Short: table has dtype int16, expected one of bool"),
    ],
)
def test_modules_that_cannot_be_imported(module: nn.Module, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        import_module(module, [torch.ones(2, 4)])


def test_transforms_want_numbers_for_sizes() -> None:
    with pytest.raises(
        UsageError, match=r"double: transforms of functions \(torch.vmap, torch.func\) have symbolic sizes"
    ):
        import_module(double, [torch.ones(3, 2)], dynamic={"x": {0: "B"}})


def double(x: torch.Tensor) -> torch.Tensor:
    return torch.vmap(lambda v: v * 2)(x)


def test_tied_parameters_are_one() -> None:
    graph = import_module(Tied(), [torch.ones(2, 4)]).graph
    assert len([i for i in graph.inputs if i.kind == "param"]) == 1


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_models_without_content_are_imported_and_not_compiled(device: str) -> None:
    # 32 GB of weights, of which none is allocated.
    with torch.device("meta"):
        module = nn.Sequential(nn.Linear(65536, 65536), nn.ReLU(), nn.Linear(65536, 65536))
    x = torch.empty(2, 65536, device=device)
    imported = import_module(module, [x])
    assert [n.op for n in imported.graph.nodes] == ["linear", "relu", "linear"]
    assert all(t.is_meta for t in imported.state.values())
    with pytest.raises(
        UsageError, match=r"^0.weight \(and 3 more\): is on the meta device and has no content, expected real"
    ):
        compile(module, [x])


def test_weights_that_are_there_are_enough() -> None:
    require_weights(nn.Linear(2, 2))
    require_weights(torch.tanh)


def test_a_program_without_tensors_is_not_compiled() -> None:
    with pytest.raises(UsageError, match="gives no tensors and updates none, expected at least one"):
        compile(lambda n: n + 1, [3])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((nn.ReLU(), torch.ones(2)), "example_inputs: is a Tensor, expected a list of arguments"),
        ((nn.ReLU(), None), "example_inputs: is a NoneType, expected a list of arguments"),
        ((nn.ReLU, [torch.ones(2)]), "module: is the class ReLU, expected an object of it"),
        (
            (torch.export.export(nn.ReLU(), (torch.ones(2),)), [torch.ones(2)]),
            "module: is an ExportedProgram, expected its module",
        ),
    ],
)
def test_what_is_no_call(arguments: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        import_module(*arguments)


@pytest.mark.parametrize(
    "function",
    [torch.relu, functools.partial(torch.clamp, min=0), torch.export.export(nn.ReLU(), (torch.ones(2),)).module()],
)
def test_what_can_be_called_is_imported(function: Any) -> None:
    assert len(import_module(function, [torch.ones(2)]).graph.nodes) == 1


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x, y: x + y, "missing a required argument: 'y'"),
        (lambda: torch.ones(2), "too many positional arguments"),
    ],
)
def test_calls_that_do_not_fit(function: Callable[..., Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        import_module(function, [torch.ones(2)])
