"""Operator definitions (:class:`~drt.ir.opdef.OpDef`) as the text that :mod:`drt.ir.load` reads."""

from __future__ import annotations

from . import expr as ex
from .opdef import (
    AtenPattern,
    Attribute,
    Expand,
    Hook,
    Index,
    KernelTemplate,
    Limitation,
    Opaque,
    OpDef,
    Param,
    Random,
    Reduce,
    Scalar,
)
from .typesys import DTYPE_CLASSES


def _param_text(p: Param) -> str:
    mark = "?" if p.optional else "*" if p.variadic else ""
    return f"{p.name}: {p.dtype}[{', '.join(map(ex.to_text, p.shape))}]{mark}"


def _attribute_text(a: Attribute) -> str:
    kind = a.kind
    if a.kind == "ints" and a.length is not None:
        kind = f"int[{a.length}]"
    elif a.kind in ("axis", "axes"):
        kind = f"{a.kind}({a.of})"
    elif a.kind == "enum":
        kind = "enum({" + ", ".join(a.choices) + "})"
    text = f"{a.name}: {kind}{'?' if a.optional else ''}"
    if a.lo is not None and a.hi is not None:
        text += f" in {ex.to_text(a.lo, 5)}..{ex.to_text(a.hi, 5)}"
    if a.default is not None:
        plain = a.kind == "enum" and isinstance(a.default, ex.Num) and isinstance(a.default.value, str)
        text += f" = {a.default.value if plain else ex.to_text(a.default)}"  # type: ignore[union-attr]
    return text


def signature(op: OpDef) -> str:
    """Return ``name(operands; attributes) -> (results)`` as it stands in a definition."""
    inside = ", ".join(map(_param_text, op.operands))
    if op.attributes:
        inside += "; " + ", ".join(map(_attribute_text, op.attributes))
    return f"{op.name}({inside}) -> ({', '.join(map(_param_text, op.results))})"


def dtype_text(dtypes: frozenset[str]) -> str:
    """Return the shortest text of a set of dtypes: a class name, or alternatives."""
    for name, members in DTYPE_CLASSES.items():
        if members == dtypes:
            return name
    parts: list[str] = []
    rest = set(dtypes)
    for name in ("number", "float", "int"):
        if DTYPE_CLASSES[name] <= rest:
            parts.append(name)
            rest -= DTYPE_CLASSES[name]
    return " | ".join([*parts, *sorted(rest)])


def _kernel_text(k: KernelTemplate) -> str:
    text = ex.quote(k.path)
    if k.parameters:
        text += " {" + ", ".join(f"{n} = {ex.to_text(e)}" for n, e in k.parameters) + "}"
    return text + (f" if {ex.to_text(k.guard, 1)}" if k.guard is not None else "")


def limit_text(x: Limitation) -> str:
    """Return a limitation as it stands in a definition, after the keyword."""
    where, why = ex.quote(x.inputs), ex.quote(x.reason)
    return f"{x.library} {x.kind} of {dtype_text(x.dtypes)} at {where} because {why}"


def _pattern_text(p: AtenPattern) -> str:
    text = ex.to_text(p.call)
    if p.bindings:
        text += " {" + ", ".join(f"{n} = {ex.to_text(e)}" for n, e in p.bindings) + "}"
    if p.results:
        text += f" -> ({', '.join(p.results)})"
    if p.guard is not None:
        text += f" if {ex.to_text(p.guard, 1)}"
    return text


def clause_rows(op: OpDef) -> list[tuple[str, str]]:
    """Return the clauses of ``op`` as (keyword, text) rows in canonical order."""
    rows: list[tuple[str, str]] = []
    if op.doc:
        rows.append(("doc", ex.quote(op.doc)))
    rows += [("type", f"{n}: {dtype_text(d)}") for n, d in op.dtypes.items()]
    rows += [("type", f"{n} = {ex.to_text(e)}") for n, e in op.dtype_lets]
    rows += [("let", f"{x.name} = {ex.to_text(x.expr)}") for x in op.lets]
    rows += [("where", f"{c.label}: {ex.to_text(c.expr)}") for c in op.constraints]
    rows += [
        ("range", f"{r.operand} in {ex.to_text(r.lo, 1)}..{ex.to_text(r.hi, 1)} {r.order}".rstrip()) for r in op.ranges
    ]
    match op.body:
        case Scalar(exprs):
            rows += [("scalar", f"{n} = {ex.to_text(e)}") for n, e in exprs]
        case Reduce(result, combiner, e, axes):
            rows.append(("reduce", f"{result} = {combiner}({ex.to_text(e)}) over {ex.to_text(axes)}"))
        case Index(result, coordinates, e):
            rows.append(("index", f"{result}[{', '.join(map(ex.to_text, coordinates))}] = {ex.to_text(e)}"))
        case Expand(statements):
            rows.append(("expand", "{ " + " ".join(f"{n} = {ex.to_text(e)};" for n, e in statements) + " }"))
        case Hook(name):
            rows.append(("hook", name))
        case Random(result, distribution, parameters):
            rows.append(("random", f"{result} = {distribution}({', '.join(map(ex.to_text, parameters))})"))
        case Opaque(reason):
            rows.append(("opaque", ex.quote(reason)))
    rows += [(k, ex.to_text(v)) for k, v in op.calls.items()]
    if op.aten:
        rows.append(("aten", " | ".join(map(_pattern_text, op.aten))))
    if op.lax:
        rows.append(("lax", " | ".join(map(_pattern_text, op.lax))))
    rows += [("triton", _kernel_text(k)) for k in op.kernels]
    rows += [("limit", limit_text(x)) for x in op.limits]
    if op.flops is not None:
        rows.append(("flops", ex.to_text(op.flops)))
    if op.source:
        rows.append(("source", ex.quote(op.source)))
    return rows


def print_op(op: OpDef) -> str:
    """Return canonical text; ``parse_ops(print_op(op)) == {op.name: op}``."""
    body = "\n".join(f"  {key:<6} {text}" for key, text in clause_rows(op))
    return f"op {signature(op)} {{\n{body}\n}}\n"


__all__ = ["clause_rows", "dtype_text", "limit_text", "print_op", "signature"]
