"""The command line: exit codes, one clear line for each mistake, and what is shown."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import attrs
import pytest
from drt import cli
from drt.ir import UsageError
from drt.report import PYTORCH, CompileOptions, CompileReport, FragmentRow

PROGRAM = """drt 1
graph f<B in 1..16>(%x: f32[B, 8], %w: f32[8]) -> (%y) {
  %h = mul(%x, %w) : f32[B, 8]
  %y = exp(%h)     : f32[B, 8]
}
"""


@attrs.frozen
class FakeVerdict:
    passed: bool = True

    def to_json(self) -> str:
        return json.dumps({"passed": self.passed})


KERNEL = FragmentRow("linear, gelu", "template", "cpu, 5 gates", 12.5, "predicted", variant="gemm 64x64")
LEFT = FragmentRow("sort", PYTORCH, reason="[sort] has no kernel")


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """Stand in for the pipeline: ``pipeline.report`` is what the next compile answers, ``pipeline.calls`` what it was asked."""
    state = types.SimpleNamespace(rows=(KERNEL,), passed=True, error=None, calls=[])

    def compile_model(spec, *, output, options, progress):
        state.calls.append((spec, output, options))
        if state.error is not None:
            raise state.error
        progress("verify", 0, 2, "linear, gelu")
        progress("verify", 2, 2)
        flags = {"float32 products": options.precision}
        return CompileReport(spec, output, "CPU", flags, state.rows, FakeVerdict(state.passed), elapsed_s=1.5)

    module = types.ModuleType("drt.pipeline")
    module.compile_model = compile_model
    module.require_writable = lambda path: None
    monkeypatch.setitem(sys.modules, "drt.pipeline", module)
    return state


def drt(*words: object) -> int:
    return cli.main([str(word) for word in words])


@pytest.mark.parametrize(
    "words, line",
    [
        (
            [],
            "drt: no command given, expected one of compile, verify, doctor, import, lower, ir, ops, synth; see drt --help",
        ),
        (["fly"], "drt: no such command 'fly'"),
        (["compile"], "drt: compile: missing argument 'MODEL'"),
        (["compile", "m.py", "--nope"], "drt: compile: no such option: --nope"),
        (["verify", "a.py", "b.py"], "drt: a.py: no such file, expected a readable file"),
        (["ir", "check", "none.drt"], "drt: none.drt: no such file, expected a readable file"),
        (["ops", "list", "--ops", "none.drt"], "drt: none.drt: no such file, expected a readable file"),
        (["ops", "list", "expp"], "drt: expp: no operator has this in its name; near: exp"),
        (["ops", "list", "--family", "norms"], "drt: norms: no such family, expected one of activation, arithmetic,"),
        (["ops", "show", "expp"], "drt: expp: no such operator, expected one that `drt ops list` names; near: exp"),
        (["compile", "m.py", "--ops", "none.drt"], "drt: none.drt: no such file, expected a readable file"),
    ],
)
def test_a_mistake_is_one_line(words: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert drt(*words) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(line) and err.count("\n") == 1


def test_an_invalid_value_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert drt("compile", "m.py", "--precision", "exact") == 2
    err = capsys.readouterr().err
    assert "--precision" in err and "strict" in err and err.count("\n") == 1


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert drt("--version") == 0
    assert capsys.readouterr().out.startswith("drt ")
    for words in (["--help"], ["compile", "--help"], ["verify", "-h"], ["ir", "run", "-h"], ["ops", "show", "-h"]):
        assert drt(*words) == 0
        assert "Examples" in capsys.readouterr().out


def test_compile_asks_for_what_was_said(pipeline: types.SimpleNamespace, tmp_path: Path) -> None:
    ops = tmp_path / "a.drt"
    ops.write_text("")
    out = tmp_path / "new" / "out.py"
    words = ["--ops", ops, "--precision", "tf32", "--budget", 5, "--variants", 7, "--device", "cpu", "--quiet"]
    assert drt("compile", "m.py", "-o", out, *words) == 0
    expected = CompileOptions(ops=(ops,), precision="tf32", budget_s=5.0, variants=7, device="cpu")
    assert pipeline.calls == [("m.py", out, expected)]


def test_compile_shows_the_table(
    pipeline: types.SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline.rows = (KERNEL, LEFT)
    assert drt("compile", "m.py", "-o", tmp_path / "o.py") == 0
    out, err = capsys.readouterr()
    assert "linear, gelu  template: gemm 64x64" in out and "12.5 us *" in out
    assert "left to PyTorch: [sort] has no kernel" in out
    assert "1 of 2 fragments are kernels" in out and "predicted" in out and "float32 products=strict" in out
    assert err.count("verify") == 1


def test_strict_says_no(pipeline: types.SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert drt("compile", "m.py", "-o", tmp_path / "o.py", "--strict") == 0
    pipeline.rows = (KERNEL, LEFT)
    assert drt("compile", "m.py", "-o", tmp_path / "o.py", "--strict", "-q") == 1
    out, err = capsys.readouterr()
    assert "sort left to PyTorch, expected kernels for everything" in err


def test_a_bad_whole_says_no(
    pipeline: types.SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline.passed = False
    assert drt("compile", "m.py", "-o", tmp_path / "o.py") == 1
    assert "NOT verified" in capsys.readouterr().out


def test_the_report_is_json(pipeline: types.SimpleNamespace, tmp_path: Path) -> None:
    pipeline.rows = (KERNEL, LEFT)
    report = tmp_path / "r.json"
    assert drt("compile", "m.py", "-o", tmp_path / "o.py", "--report", report, "-q") == 0
    held = json.loads(report.read_text())
    assert held["whole"] == {"passed": True}
    assert [row["writer"] for row in held["fragments"]] == ["template", "pytorch"]
    assert held["fragments"][0]["time_us"] == 12.5 and held["precision_flags"] == {"float32 products": "strict"}


def of_an_interruption(error: Exception) -> Exception:
    """Return an error as Python gives one that is raised while an interruption is on its way."""
    error.__context__ = KeyboardInterrupt()
    return error


@pytest.mark.parametrize(
    "error, code, text",
    [
        (
            UsageError("is odd, expected even", place="m.py:3", subject="n"),
            2,
            "drt: m.py:3: n: is odd, expected even\n",
        ),
        (KeyboardInterrupt(), 130, "interrupted"),
        (of_an_interruption(RuntimeError("release unlocked lock")), 130, "interrupted"),
        (ZeroDivisionError("oops"), 3, "this is a bug of DRT (ZeroDivisionError)"),
    ],
)
def test_what_stops_a_compile(
    error: BaseException,
    code: int,
    text: str,
    pipeline: types.SimpleNamespace,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pipeline.error = error
    assert drt("compile", "m.py", "-o", tmp_path / "o.py", "-q") == code
    err = capsys.readouterr().err
    assert text in err and ("Traceback" in err) == (code == 3)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    file = tmp_path / "f.drt"
    file.write_text(PROGRAM)
    return file


def test_ir_print_and_check(program: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert drt("ir", "print", program) == 0
    assert capsys.readouterr().out == PROGRAM
    assert drt("ir", "check", program) == 0
    assert capsys.readouterr().out == f"{program}: good: 2 operators, 2 inputs, 1 outputs\n"


def test_ir_check_places_the_mistake(program: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program.write_text(PROGRAM.replace("%h = mul(%x, %w) : f32[B, 8]", "%h = mul(%x, %w) : f32[B, 9]"))
    assert drt("ir", "check", program) == 2
    assert capsys.readouterr().err.startswith(f"drt: {program}:3")


def test_ir_run_summarises(program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    assert drt("ir", "run", program, "--size", "B=5", "--seed", "1") == 0
    assert "f32[5, 8]" in capsys.readouterr().out
    values = tmp_path / "v.pt"
    torch.save({"x": torch.zeros(3, 8), "w": torch.ones(8)}, values)
    assert drt("ir", "run", program, "--inputs", values) == 0
    (row,) = capsys.readouterr().out.splitlines()[1:]
    assert row.split() == ["%y", "f32[3,", "8]", "1", "0", "1", "1", "0"]


@pytest.mark.parametrize(
    "words, text",
    [
        (["--size", "C=5"], "no such symbol, expected one of the program's: B"),
        (["--size", "B=99"], "expected B=N with N in 1..16"),
        (["--size", "B"], "expected B=N with N in 1..16"),
    ],
)
def test_ir_run_refuses_sizes(words: list[str], text: str, program: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert drt("ir", "run", program, *words) == 2
    assert text in capsys.readouterr().err


def test_ir_run_refuses_inputs(program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    file = tmp_path / "v.pt"
    for held, text in [
        ({"x": torch.zeros(3, 8)}, "lacks w"),
        ([torch.zeros(3, 8)], "expected a list of 2 tensors"),
        ([torch.zeros(3), torch.zeros(8)], "x is torch.float32 (3,), expected f32[B, 8]"),
        ([3, 4], "x is int, expected a tensor"),
    ]:
        torch.save(held, file)
        assert drt("ir", "run", program, "--inputs", file) == 2
        assert text in capsys.readouterr().err
    file.write_text("no tensors")
    assert drt("ir", "run", program, "--inputs", file) == 2
    assert "cannot be read by torch.load" in capsys.readouterr().err


def test_ops(capsys: pytest.CaptureFixture[str]) -> None:
    assert drt("ops", "list", "exp") == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert "exp" in names and "add" not in names
    assert drt("ops") == 0
    rows = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines() if line}
    assert len(rows) > 400 and rows["exp"][1:5] == ["elementwise", "scalar", "yes", "yes"]
    assert rows["sign"][3:5] == ["yes", "yes*"] and rows["dropout"][2] in ("random", "expand") and rows["*"]
    assert drt("ops", "list", "--family", "norm", "--family", "sort") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[1:] if not line.startswith("*")]
    assert {line[1] for line in lines} == {"norm", "sort"}
    assert drt("ops", "list", "sign", "--limits") == 0
    out = capsys.readouterr().out
    assert "jax.numpy.sign(NaN) is NaN" in out and "signbit" not in out
    assert drt("ops", "show", "exp") == 0
    assert capsys.readouterr().out.startswith("op exp(")
