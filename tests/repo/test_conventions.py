"""What every file of the package keeps to: length, names, docstrings, cheap imports."""

from __future__ import annotations

import ast
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("ir", "frontend", "synth", "backend", "search", "rl")
MAX_LINES = 600

#: Public exceptions that are states rather than errors: a search goes on, a caller falls back.
NOT_ERRORS = {"Mismatch", "Unsatisfiable", "Unsupported"}


def sources() -> list[Path]:
    """Return every Python file of the package, relative to the root."""
    files = [*ROOT.glob("*.py"), *(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))]
    return sorted(path.relative_to(ROOT) for path in files)


each_file = pytest.mark.parametrize("path", sources(), ids=str)


@each_file
def test_a_file_is_read_in_one_sitting(path: Path) -> None:
    assert len((ROOT / path).read_text().splitlines()) < MAX_LINES


@each_file
def test_no_module_hides_another(path: Path) -> None:
    """A script inside a folder sees its neighbours first, so none may be named after something that it imports."""
    dependencies = {
        "torch",
        "triton",
        "jax",
        "numpy",
        "attrs",
        "attr",
        "lark",
        "typer",
        "rich",
        "transformers",
        "verl",
        "ray",
    }
    name = path.parent.name if path.name == "__init__.py" else path.stem
    assert name not in (set(sys.stdlib_module_names) | dependencies) - {"__init__", "__main__"}


def public(tree: ast.Module) -> Iterator[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield public classes and functions at the top level, and public methods of public classes."""
    for node in tree.body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from (
                    inner
                    for inner in node.body
                    if isinstance(inner, (ast.FunctionDef, ast.AsyncFunctionDef)) and not inner.name.startswith("_")
                )


@each_file
def test_public_names_are_documented(path: Path) -> None:
    tree = ast.parse((ROOT / path).read_text())
    assert ast.get_docstring(tree), f"{path} has no module docstring"
    bare = [f"{path}:{n.lineno} {n.name}" for n in public(tree) if not ast.get_docstring(n)]
    assert bare == []


@each_file
def test_exceptions_are_named_as_errors(path: Path) -> None:
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.ClassDef) and any(
            getattr(base, "id", "").endswith(("Error", "Exception")) for base in node.bases
        ):
            private = node.name.startswith("_")  # a signal inside one file
            assert private or node.name.endswith("Error") or node.name in NOT_ERRORS, (
                f"{path}:{node.lineno}: {node.name}"
            )


@each_file
def test_nothing_is_left_for_later(path: Path) -> None:
    text = (ROOT / path).read_text()
    assert [word for word in ("TODO", "FIXME", "XXX", "NotImplementedError") if word in text] == []


def run_python(code: str) -> str:
    """Run ``code`` in a fresh process and return what it prints."""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("module", ["drt", "drt.ir", "drt.cli", "drt.report"])
def test_cheap_modules_load_nothing_heavy(module: str) -> None:
    heavy = {"torch", "numpy", "jax", "triton", "sympy"}
    loaded = run_python(f"import sys, {module}; print(' '.join(sys.modules))").split()
    assert heavy.isdisjoint(loaded)


def least_cpu_s(command: list[str], limit_s: float) -> float:
    """Return the least processor time of some runs in fresh processes, in seconds.

    Processor time, not wall time: neighbours on a busy machine slow a process down, but it is not their cost.  They share
    its caches and its core too, so one run in many tells the truth.
    """
    best = float("inf")
    for _ in range(16):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        best = min(best, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
        if best < limit_s:
            break
    return best


def allowed_cpu_s(usual_s: float, starts: float) -> float:
    """Return a limit of processor time: what a usual machine may take, or ``starts`` starts of a bare interpreter on a slow one."""
    return max(usual_s, starts * least_cpu_s([sys.executable, "-c", "pass"], 0.02))


def test_importing_the_ir_is_fast() -> None:
    limit_s = allowed_cpu_s(0.4, 14)
    assert least_cpu_s([sys.executable, "-c", "import drt.ir"], limit_s) < limit_s


def test_help_is_fast() -> None:
    limit_s = allowed_cpu_s(0.5, 18)
    assert least_cpu_s([sys.executable, "-m", "drt", "--help"], limit_s) < limit_s


def test_public_names_exist_and_are_documented() -> None:
    import drt

    assert set(drt.__all__) == set(drt._PUBLIC) | {"__version__"}
    for name in drt._PUBLIC:
        assert getattr(drt, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = drt.nonsense
