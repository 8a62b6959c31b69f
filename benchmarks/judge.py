"""How good the judge is: seeded mutants of right kernels, and how many it stops, at which gate.

    python benchmarks/judge.py [--limit N] [SUBJECT ...]

A mutant changes one operator, comparison, constant, mask or function of a kernel.  Survivors are printed: some are the same
program in other words (``a <= b`` where a never equals b), the rest are holes.
"""

from __future__ import annotations

import argparse
import ast
import copy
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from drt.backend.candidate import Candidate
from drt.backend.verify import verify_candidate
from drt.ir import parse_graph
from programs.judged import SUBJECTS, Subject

_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.FloorDiv: ast.Mod, ast.Mod: ast.FloorDiv,
    ast.BitAnd: ast.BitOr,
}  # fmt: skip
_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE}
_FUNCTIONS = {
    "max": "min", "maximum": "minimum", "exp": "exp2", "sum": "max", "rsqrt": "sqrt", "erf": "sigmoid",
}  # fmt: skip


def mutants(source: str) -> Iterator[tuple[str, str]]:
    """Yield (what was changed, mutated source) for every place in the kernels of ``source``."""
    tree = ast.parse(source)
    kernels = [f for f in tree.body if isinstance(f, ast.FunctionDef) and f.decorator_list]
    for kernel in kernels:
        inside = {id(n) for part in (*kernel.decorator_list, kernel.args) for n in ast.walk(part)}
        for k, node in enumerate(ast.walk(kernel)):
            if id(node) in inside:
                continue
            for what in _changes(node):
                changed = copy.deepcopy(tree)
                twin = next(f for f in changed.body if isinstance(f, ast.FunctionDef) and f.name == kernel.name)
                target = list(ast.walk(twin))[k]
                before = ast.unparse(target)
                _apply(target, what)
                ast.fix_missing_locations(changed)
                yield f"{before[:60]} -> {ast.unparse(target)[:60]}", ast.unparse(changed)


def _changes(node: ast.AST) -> list[tuple[str, object]]:
    match node:
        case ast.BinOp(op=op) if type(op) in _OPERATORS:
            return [("operator", _OPERATORS[type(op)])]
        case ast.Compare(ops=[op]) if type(op) in _COMPARISONS:
            return [("comparison", _COMPARISONS[type(op)]), ("comparison", ast.GtE)]
        case ast.Constant(value=bool() | None | str()):
            return []
        case ast.Constant(value=int(v)):
            return [("constant", v + 1)]
        case ast.Constant(value=float(v)):
            return [("constant", v * 1.01 if v else 1e-3), ("constant", v * 1.0001 if v else 1e-6)]
        case ast.Call(func=ast.Attribute(attr=name), keywords=keywords):
            found: list[tuple[str, object]] = [("drop", k.arg) for k in keywords if k.arg in ("mask", "other")]
            return found + ([("function", _FUNCTIONS[name])] if name in _FUNCTIONS else [])
    return []


def _apply(node: ast.AST, change: tuple[str, object]) -> None:
    kind, value = change
    match node, kind:
        case ast.BinOp(), "operator":
            node.op = value()  # type: ignore[operator]
        case ast.Compare(), "comparison":
            node.ops = [value()]  # type: ignore[operator]
        case ast.Constant(), "constant":
            node.value = value  # type: ignore[assignment]
        case ast.Call(), "drop":
            node.keywords = [k for k in node.keywords if k.arg != value]
        case ast.Call(func=ast.Attribute() as f), "function":
            f.attr = str(value)


def judge(subject: Subject, source: str) -> tuple[str, str]:
    """Return (gate, label) of the verdict; the gate is empty where it passed."""
    candidate = Candidate(source, "f", "mutant", precision=subject.precision)
    verdict = verify_candidate(parse_graph(subject.graph), candidate, device="cpu", timeout_s=20.0)
    return verdict.gate, verdict.label


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subjects", nargs="*", help=f"of {', '.join(s.name for s in SUBJECTS)}")
    parser.add_argument("--limit", type=int, default=0, help="mutants of each subject, at most, drawn at random")
    options = parser.parse_args()
    total: Counter[str] = Counter()
    for subject in SUBJECTS:
        if options.subjects and subject.name not in options.subjects:
            continue
        gate, label = judge(subject, subject.source)
        print(f"{subject.name}: as it is: {'passed' if not gate else f'FALSE REJECT at {gate} [{label}]'}", flush=True)
        total["right kernels"] += 1
        total["false rejects"] += bool(gate)
        everything = list(mutants(subject.source))
        if options.limit and len(everything) > options.limit:
            everything = random.Random(0).sample(everything, options.limit)
        started = time.perf_counter()
        gates: Counter[str] = Counter()
        for what, source in everything:
            gate, label = judge(subject, source)
            gates[gate or "survived"] += 1
            if not gate:
                print(f"    survived: {what}", flush=True)
        seconds = time.perf_counter() - started
        print(f"    {len(everything)} mutants in {seconds:.0f} s: {dict(gates)}", flush=True)
        total["mutants"] += len(everything)
        total["survived"] += gates["survived"]
    print(dict(total))


if __name__ == "__main__":
    main()
