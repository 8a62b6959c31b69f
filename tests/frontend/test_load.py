"""Loading models from files and factories, and what is said where that fails."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from drt.frontend import load_model
from drt.ir import DrtError, ParseError, UsageError

GOOD = '''
import torch
from torch import nn

SIZE = 4


class Model(nn.Module):
    """A layer."""

    def __init__(self, n, bias=True):
        super().__init__()
        self.fc = nn.Linear(n, n, bias=bias)

    def forward(self, x):
        return self.fc(x)


def get_inputs():
    return [torch.randn(2, SIZE)]


def get_init_inputs():
    return [SIZE]
'''


def write(folder: Path, text: str, name: str = "model.py") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def test_kernelbench_file(tmp_path: Path) -> None:
    loaded = load_model(write(tmp_path, GOOD))
    assert isinstance(loaded.module, torch.nn.Module)
    assert loaded.init_args == (4,) and not loaded.init_kwargs
    assert [t.shape for t in loaded.example_inputs] == [(2, 4)]
    assert loaded.source_path == tmp_path / "model.py" and loaded.source == GOOD
    assert loaded.class_name == "Model" and loaded.class_source.startswith("class Model(nn.Module):")


def test_seed_decides_parameters_and_inputs_and_leaves_the_caller_s_generator(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    a, b, c = load_model(path, seed=1), load_model(path, seed=1), load_model(path, seed=2)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(a.module.fc.weight, b.module.fc.weight)  # type: ignore[union-attr]
    assert torch.equal(a.example_inputs[0], b.example_inputs[0])
    assert not torch.equal(a.example_inputs[0], c.example_inputs[0])
    assert a.new_inputs is not None
    (again,), kwargs = a.new_inputs(1)
    assert torch.equal(again, a.example_inputs[0]) and kwargs == {}


@pytest.mark.parametrize(
    ("returned", "bias"), [("[SIZE]", True), ("[SIZE, False]", False), ("[[SIZE], {'bias': False}]", False),
                           ("{'n': SIZE, 'bias': False}", False)],
)  # fmt: skip
def test_forms_of_get_init_inputs(tmp_path: Path, returned: str, bias: bool) -> None:
    loaded = load_model(write(tmp_path, GOOD.replace("return [SIZE]", f"return {returned}")))
    assert (loaded.module.fc.bias is not None) == bias  # type: ignore[union-attr]


@pytest.mark.parametrize("returned", ["torch.randn(2, 4)", "(torch.randn(2, 4),)", "{'x': torch.randn(2, 4)}"])
def test_forms_of_get_inputs(tmp_path: Path, returned: str) -> None:
    loaded = load_model(write(tmp_path, GOOD.replace("return [torch.randn(2, SIZE)]", f"return {returned}")))
    assert loaded.module(*loaded.example_inputs, **loaded.example_kwargs).shape == (2, 4)


def test_missing_get_init_inputs_means_no_arguments(tmp_path: Path) -> None:
    text = GOOD.replace("self, n, bias=True", "self, n=3, bias=True").split("def get_init_inputs")[0]
    assert load_model(write(tmp_path, text)).init_args == ()


def test_neighbouring_files_can_be_imported(tmp_path: Path) -> None:
    write(tmp_path, "SIZE = 6\n", "drt_test_neighbour.py")
    loaded = load_model(write(tmp_path, GOOD.replace("SIZE = 4", "from drt_test_neighbour import SIZE")))
    assert loaded.init_args == (6,)


def test_another_class_name(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD.replace("class Model", "class ModelNew"))
    assert load_model(path, class_name="ModelNew").class_name == "ModelNew"


def test_factories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        GOOD
        + "\n\ndef make():\n    return Model(3), [torch.zeros(1, 3)]\n\n\ndef plain():\n    return torch.tanh, torch.ones(2)\n"
    )
    path = write(tmp_path, text, "drt_test_factory.py")
    loaded = load_model(f"{path}:make")
    assert loaded.module.fc.in_features == 3 and loaded.class_name == "Model"  # type: ignore[union-attr]
    monkeypatch.chdir(tmp_path)
    plain = load_model("drt_test_factory:plain")
    assert plain.module is torch.tanh and plain.example_inputs[0].shape == (2,)


FAILURES = [
    ("def f(:\n", ParseError, r"model.py:1:7: invalid syntax"),
    ("import no_such_module_at_all\n", UsageError, r"model.py:1: raises ModuleNotFoundError: No module named"),
    ("x = 1\nraise SystemExit(3)\n", UsageError, r"model.py:2: exits with 3"),
    ("x = 1\n", UsageError, r"model.py: does not define Model, expected class Model\(torch.nn.Module\)"),
    ("class Model: pass\n", UsageError, r"model.py:1: Model: is a class Model, expected a subclass of torch.nn.Module"),
    (GOOD.replace("def get_inputs", "def inputs"), UsageError, r"does not define get_inputs, expected function get_inputs\(\)"),
    (GOOD.replace("return [torch", "return 1 / 0, [torch"), UsageError, r"model.py:20: get_inputs: raises ZeroDivisionError: division"),
    (GOOD.replace("return [torch.randn(2, SIZE)]", "return 3"), UsageError, r"get_inputs: gives a int, expected a list of example"),
    (GOOD.replace("[SIZE]", "[]"), UsageError, r"Model\(\): raises TypeError: .*missing 1 required positional argument"),
    (GOOD.replace("[SIZE]", "[-1]"), UsageError, r"model.py:13: Model\(-1\): raises RuntimeError: .*negative dimension"),
    (GOOD.replace("return [SIZE]", "return 7"), UsageError, r"get_init_inputs: returns a int, expected a list of arguments"),
]  # fmt: skip


@pytest.mark.parametrize("start", [b"\xef\xbb\xbf", b"# -*- coding: latin-1 -*-\n# \xe9\n"])
def test_files_in_other_encodings(tmp_path: Path, start: bytes) -> None:
    path = tmp_path / "model.py"
    path.write_bytes(start + GOOD.encode())
    assert load_model(path).class_name == "Model"


@pytest.mark.parametrize(("text", "kind", "pattern"), FAILURES)
def test_bad_files(tmp_path: Path, text: str, kind: type[DrtError], pattern: str) -> None:
    with pytest.raises(kind, match=pattern) as raised:
        load_model(write(tmp_path, text))
    assert "\n" not in raised.value.line()


@pytest.mark.parametrize(
    ("spec", "pattern"),
    [
        ("no/such/file.py", r"^no/such/file.py: no such file$"),
        ("model", r"^model: expected FILE.py, FILE.pt2, FILE.ir or package.module:name$"),
        ("model.onnx", r"^model.onnx: expected FILE.py, FILE.pt2, FILE.ir or package.module:name$"),
        (".", r"^\.: is a directory, expected a Python file$"),
        ("no_such_package.mod:make", r"^no_such_package.mod:make: no module named no_such_package$"),
        ("a-b:make", r"^a-b:make: expected FILE.py or pkg.mod:factory$"),
        ("json:no_such_function", r"does not define no_such_function, expected function no_such_function\(\)$"),
        ("json:__doc__", r"__doc__: is a str, expected a callable$"),
        ("builtins:dict", r"dict\(\): returns a dict, expected \(module, example_inputs\)$"),
    ],
)
def test_bad_names(spec: str, pattern: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=pattern):
        load_model(spec)
