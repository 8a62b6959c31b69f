"""Who may import whom: the table of docs/architecture.md, over the syntax tree of every file."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: Room -> rooms that it may import, besides itself.  The modules at the root may import everything.
MAY_IMPORT = {
    "ir": set(),
    "frontend": {"ir"},
    "synth": {"ir"},
    "backend": {"ir"},
    "search": {"backend", "ir"},
    "rl": {"search", "synth", "backend", "ir"},
}
ROOMS = set(MAY_IMPORT)

#: Package -> where it may be imported: rooms, or folders inside them; "" is the root.
OUTSIDE = {
    "torch": {"", "frontend", "backend", "search", "rl"},
    "triton": {"backend"},
    "jax": {"frontend", "backend"},
    "transformers": {"backend/translate", "rl"},
    "verl": {"rl"},
    "ray": {"rl"},
    "numpy": {"", "frontend", "backend", "search", "synth", "rl"},
    "lark": {"ir"},
    "attrs": ROOMS | {""},
    "jinja2": {"backend"},
    "typer": {""},
    "rich": {""},
    "httpx": {"backend/translate"},
    "pyarrow": {"rl", "synth"},
    "safetensors": {""},
    "ortools": {"synth"},
    "sympy": {"frontend"},
}


def sources() -> list[Path]:
    """Return every Python file of the package, relative to the root."""
    files = list(ROOT.glob("*.py"))
    for room in ROOMS:
        files += (ROOT / room).rglob("*.py")
    return sorted(path.relative_to(ROOT) for path in files)


def imports(tree: ast.AST) -> Iterator[tuple[int, int, str]]:
    """Yield ``(line, level, dotted name)`` for everything that ``tree`` imports, inside functions and strings of
    ``import_module`` included; ``level`` counts the leading dots."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, 0, alias.name
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield node.lineno, node.level, f"{node.module}.{alias.name}" if node.module else alias.name
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            text = node.args[0].value
            if name in ("import_module", "__import__") and isinstance(text, str):
                yield node.lineno, len(text) - len(text.lstrip(".")), text.lstrip(".")


def violations(path: Path, source: str) -> Iterator[str]:
    """Yield one line for every import of the file ``path`` (relative to the root) that the tables do not allow."""
    package = path.parent.parts
    room = package[0] if package else ""
    for line, level, name in imports(ast.parse(source)):
        if level == 0:
            top = name.partition(".")[0]
            if top == "drt":
                yield f"{path}:{line}: imports {name}, expected a relative import"
            elif top not in sys.stdlib_module_names:
                allowed = OUTSIDE.get(top)
                if allowed is None:
                    yield f"{path}:{line}: imports {top}, expected a package that the table names"
                elif not any(place == room or path.as_posix().startswith(f"{place}/") for place in allowed):
                    yield f"{path}:{line}: imports {top}, allowed only in {sorted(allowed)}"
            continue
        if level - 1 > len(package):
            yield f"{path}:{line}: climbs out of the package"
            continue
        target = (*package[: len(package) - (level - 1)], *name.split("."))[0]
        if room and target != room and target not in MAY_IMPORT[room]:
            yield f"{path}:{line}: {room} imports {target}, allowed only {sorted(MAY_IMPORT[room])}"


@pytest.mark.parametrize("path", sources(), ids=str)
def test_imports_follow_the_table(path: Path) -> None:
    assert list(violations(path, (ROOT / path).read_text())) == []


@pytest.mark.parametrize(
    "path, source, complaint",
    [
        ("ir/a.py", "import numpy as np", "imports numpy"),
        ("ir/a.py", "from ..backend import x", "ir imports backend"),
        ("ir/a.py", "from .. import backend", "ir imports backend"),
        ("frontend/a.py", "def f():\n  from ..backend.oracle import Oracle", "frontend imports backend"),
        ("backend/verify/a.py", "from ...search import x", "backend imports search"),
        ("search/a.py", "import triton.language as tl", "imports triton"),
        ("backend/a.py", "import transformers", "imports transformers"),
        ("backend/a.py", "from drt.ir import Graph", "expected a relative import"),
        ("backend/a.py", "importlib.import_module('verl')", "imports verl"),
        ("backend/a.py", "import pandas", "the table names"),
        ("ir/a.py", "from ...x import y", "climbs out"),
    ],
)
def test_the_test_finds(path: str, source: str, complaint: str) -> None:
    (found,) = violations(Path(path), source)
    assert complaint in found


@pytest.mark.parametrize(
    "path, source",
    [
        ("ir/a.py", "from .errors import DrtError\nimport attrs, math"),
        ("backend/verify/a.py", "from ...ir import Graph\nfrom ..candidate import Target\nfrom . import gates"),
        ("backend/translate/a.py", "def f():\n  import transformers"),
        ("pipeline.py", "from .search import x\nimport torch"),
    ],
)
def test_the_test_allows(path: str, source: str) -> None:
    assert list(violations(Path(path), source)) == []


def test_every_room_is_packaged() -> None:
    import tomllib

    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = {"drt"} | {
        ".".join(("drt", *path.parent.parts)) for path in sources() if path.name == "__init__.py" and path.parent.parts
    }
    assert found == listed
