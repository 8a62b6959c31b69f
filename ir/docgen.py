"""The page of operators, ``docs/ops.md``, from the definitions: ``python -m drt.ir.docgen [--check] [--output FILE]``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from .intrinsics import INTRINSICS
from .load import OPS_DIR, builtin_ops, read_text
from .opdef import Expand, Hook, Index, Opaque, OpDef, OpSet, Random, Reduce, Scalar
from .printing import clause_rows, signature

#: The page of the repository; absent from an installed wheel.
DEFAULT_OUTPUT = Path(__file__).parent.parent / "docs" / "ops.md"

#: What a body is called in tables.
MEANINGS = {
    Scalar: "scalar", Reduce: "reduce", Index: "index", Expand: "expand", Hook: "hook", Random: "random", Opaque: "opaque",
}  # fmt: skip

_KINDS = {
    Scalar: "one expression per element",
    Reduce: "a reduction",
    Index: "an element by its coordinates",
    Expand: "other operators",
    Hook: "a function of the oracle",
    Random: "drawn at every call",
    Opaque: "PyTorch's own",
}

_HEAD = """\
# Operators

{count} operators, grouped by the file in `ir/ops/` that defines them.  This page is generated from the definitions by
`make docs`; how to read and write them is in [adding-an-operator.md](adding-an-operator.md).

A signature lists operands, then after `;` attributes, then results.  Upper-case names are sizes and `S..` is any number of
them; one name is one size.  `?` marks what may be absent (`None`), `*` one or more tensors.  Operands of one dtype variable
have one dtype: PyTorch's type promotion becomes explicit `cast`s, and Python numbers adopt the dtype of their partners.
Axes count from the front.  A broken constraint is reported under the label shown (`conv2d_c1`).

`limit` says where PyTorch or JAX is known to give something else than the definition, which holds: the library, what
differs, for which dtypes and inputs, and why.  JAX takes subnormal numbers for zero everywhere.
"""


def families(ops: OpSet) -> dict[str, list[OpDef]]:
    """Return the operators by family, families and operators in the order of definition."""
    found: dict[str, list[OpDef]] = {}
    for op in ops.values():
        found.setdefault(op.family, []).append(op)
    return found


def family_remarks(family: str) -> str:
    """Return the comment at the head of a built-in family's file, as one paragraph; empty where there is none."""
    path = OPS_DIR / f"{family}.drt"
    lines = read_text(path).splitlines() if path.exists() else []
    remarks = []
    for line in lines:
        if not line.startswith("#"):
            break
        remarks.append(line.removeprefix("#").strip())
    return " ".join(remarks)


def _wrapped(text: str, indent: int, width: int = 112) -> Iterator[str]:
    """Yield ``text`` broken after commas, semicolons and bars, continuation lines indented."""
    while len(text) > width:
        cut = max(text.rfind(mark, 0, width) for mark in (", ", "; ", " | ", " + ", " * "))
        if cut < width // 3:
            break
        step = 1 if text[cut] in ",;" else 0
        yield text[: cut + step]
        text = " " * indent + text[cut + step :].lstrip()
    yield text


def operator_section(op: OpDef) -> str:
    """Return one operator's part of the page."""
    rows = [
        (key, f"{op.name}_{text}" if key == "where" else text)
        for key, text in clause_rows(op)
        if key not in ("doc", "source", "aten", "lax")
    ]
    order = "type let where range scalar reduce index expand hook random opaque flops torch jax triton limit".split()
    rows.sort(key=lambda row: order.index(row[0]))
    body = list(_wrapped(signature(op), 4))
    for key, text in rows:
        body += _wrapped(f"  {key:<7}{text}", 11)
    targets = list(dict.fromkeys([p.call.fn for p in op.aten] + [f"lax.{p.call.fn}" for p in op.lax]))
    if targets:
        body += _wrapped("  from   " + ", ".join(targets), 11)
    link = f" [Source]({op.source})." if op.source else ""
    return "\n".join([f"### {op.name}", "", op.doc + link, "", "```text", *body, "```", ""])


def page(ops: OpSet) -> str:
    """Return the whole page as Markdown."""
    groups = families(ops)
    parts = [_HEAD.format(count=len(ops))]
    parts.append("| family | operators |\n|---|---|")
    for family, members in groups.items():
        links = " ".join(f"[{op.name}](#{op.name})" for op in members)
        parts[-1] += f"\n| [{family}](#family-{family}) | {links} |"
    parts.append("")
    counts: dict[str, int] = {}
    for op in ops.values():
        kind = _KINDS[type(op.body)]
        counts[kind] = counts.get(kind, 0) + 1
    parts.append("What they are defined by: " + ", ".join(f"{kind} {n}" for kind, n in counts.items()) + ".\n")
    for family, members in groups.items():
        parts.append(f"## Family: {family}\n")
        remarks = family_remarks(family)
        if remarks:
            parts.append(remarks + "\n")
        parts += [operator_section(op) for op in members]
    parts.append("## Functions of scalar expressions\n")
    parts.append("| function | meaning | work, FLOPs |\n|---|---|---|")
    for f in INTRINSICS.values():
        arguments = ", ".join("xyz"[: f.arity])
        parts[-1] += f"\n| `{f.name}({arguments})` | {f.doc} | {f.flops} |"
    return "\n".join(parts) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page, or with ``--check`` compare it; return the exit status, 1 for a page that is out of date."""
    parser = argparse.ArgumentParser(
        prog="python -m drt.ir.docgen", description="Write docs/ops.md from the definitions."
    )
    parser.add_argument("--check", action="store_true", help="only say whether the page is up to date")
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT, help="the page")
    options = parser.parse_args(arguments)
    text = page(builtin_ops())
    if options.check:
        if options.output.exists() and options.output.read_text(encoding="utf-8") == text:
            return 0
        print(f"{options.output}: is out of date, expected what 'python -m drt.ir.docgen' writes", file=sys.stderr)
        return 1
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
