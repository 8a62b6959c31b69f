"""Small programs for the template generator, and the check of every variant against float64 in Triton's interpreter.

Triton reads ``TRITON_INTERPRET`` when it is imported, so the checks run in a process of their own (:func:`run_apart`).
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

HEADER = "import torch\nimport triton\nimport triton.language as tl\nfrom triton.language.extra import libdevice\n\n\n"

#: Name -> (inputs, statements, outputs).
Cases = Mapping[str, tuple[str, str, str]]


def program(name: str, case: tuple[str, str, str]) -> str:
    """Return the text of a case."""
    inputs, statements, outputs = case
    lines = "\n".join(f"  {s.strip()}" for s in statements.split(";"))
    return f"drt 1\ngraph {name}({inputs}) -> ({outputs}) {{\n{lines}\n}}\n"


def run_apart(file: str, *arguments: str) -> None:
    """Run the test file as a script under the interpreter; fail with what it prints."""
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    command = [sys.executable, file, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def check_cases(cases: Cases, n_variants: int, wanted: str = "", precision: str = "strict") -> int:
    """Check the variants of every case, print what is wrong, and return an exit status."""
    import drt.backend.verify.interpreter as interpreter
    import torch
    from drt.backend.oracle import Oracle
    from drt.backend.triton_gen import TemplateTranslator, plan
    from drt.ir import DrtError, builtin_ops
    from drt.ir.text import parse_graph

    interpreter.install()
    torch.manual_seed(0)
    ops = builtin_ops()
    oracle = Oracle(ops)
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, case in cases.items():
            if wanted and wanted != name:
                continue
            graph = parse_graph(program(name, case), ops=ops)
            inputs = {i.name: _input(i.type) for i in graph.inputs}
            expected = oracle.run(graph, inputs)
            try:
                plan(graph, ops)
                candidates = TemplateTranslator(precision=precision, ops=ops).propose(graph, n_variants)
            except DrtError as error:
                print(f"{name}: {error}")
                failures += 1
                continue
            for k, c in enumerate(candidates):
                path = Path(folder) / f"{name}_{k}.py"
                path.write_text(HEADER + c.source)
                problem = _problem(path, c.entry, list(inputs.values()), graph.outputs, expected)
                if problem:
                    failures += 1
                    print(f"{name}: {c.variant}: {problem}\n{c.source}")
                    break
    return 1 if failures else 0


def _input(t):
    import torch

    dtypes = {
        "f32": torch.float32,
        "f64": torch.float64,
        "f16": torch.float16,
        "bf16": torch.bfloat16,
        "i64": torch.int64,
    }
    shape = tuple(int(n) for n in t.shape)
    if t.dtype == "i64":
        return torch.randint(0, 3, shape)
    return torch.rand(shape) > 0.5 if t.dtype == "bool" else torch.randn(shape).to(dtypes[t.dtype])


def _problem(path: Path, entry: str, inputs, outputs, expected) -> str:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        got = getattr(module, entry)(*inputs)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    results = got if isinstance(got, tuple) else (got,)
    found = [difference(r, e, str(o)) for o, r, e in zip(outputs, results, expected, strict=True)]
    return next((f for f in found if f), "")


def difference(got, want, name: str) -> str:
    """Return how a result differs from the expected one, or nothing."""
    import torch

    if got.shape != want.shape:
        return f"{name} has shape {tuple(got.shape)}, expected {tuple(want.shape)}"
    if not got.is_floating_point():
        return "" if torch.equal(got.double(), want.double()) else f"{name} differs"
    unit = {torch.float64: 1e-13, torch.float32: 2e-6, torch.bfloat16: 6e-3, torch.float16: 8e-4}[got.dtype]
    a, b = got.double(), want.double()
    if not torch.equal(a.isnan(), b.isnan()):
        return f"{name} has NaN in other places"
    finite = b.isfinite()
    if not torch.equal(a[~finite & ~b.isnan()], b[~finite & ~b.isnan()]):
        return f"{name} has infinities in other places"
    a, b = a[finite], b[finite]
    if not b.numel():
        return ""
    worst = ((a - b).abs().max() / b.abs().max().clamp(min=1e-30)).item()
    return f"{name} is off by {worst:.1e} of the largest element" if worst > 4 * unit else ""
