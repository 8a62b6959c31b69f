"""Kernels that users wrote themselves: the Jinja2 templates that a definition's ``triton`` clause names.

A template is rendered for one call of its operator and must give what every candidate is: kernels and a launcher, here named
``{{ entry }}``, that takes the tensors among the operands in order.  Nothing else is trusted about it: its kernels are
verified and timed like the generator's.
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import jinja2
import jinja2.meta
import jinja2.nodes
import jinja2.sandbox

from ..ir import (
    Graph,
    Literal,
    Node,
    OpDef,
    OpSet,
    TensorType,
    Unsupported,
    UsageError,
    VerifyError,
    evaluate,
    infer_node,
)
from ..ir.cost import graph_cost
from ..ir.expr import Lst, Pack, names
from ..ir.opdef import KernelTemplate
from .candidate import H100, Candidate, Target
from .python_text import parse_python
from .triton_gen import Plan
from .triton_gen.writer import TRITON_DTYPES

#: ``Candidate.writer`` of rendered templates.
WRITER = "user"

#: Modules that the file which a candidate is pasted into imports already.
_IMPORTED = {"torch", "triton", "triton.language", "triton.language.extra"}


@attrs.frozen
class _Tensor:
    """What a template knows of an operand or result."""

    dtype: str  # as Triton names it: ``tl.float32``
    shape: tuple[int, ...]


@attrs.frozen
class _Found:
    """The one node of a fragment whose operator has a template that serves it."""

    node: Node
    op: OpDef
    env: Mapping[str, Any]
    templates: tuple[KernelTemplate, ...]


def has_user_kernel(node: Node, types: Mapping[str, TensorType], ops: OpSet) -> bool:
    """Return whether one of the templates of the node's operator serves its call."""
    return _found(node, types, ops) is not None


def plan_user_kernel(fragment: Graph, ops: OpSet) -> Plan | None:
    """Return the plan of a fragment that is one call with a template of its own; None for any other fragment.

    Raises:
        UsageError: a template cannot be read, or is no Jinja2.
    """
    found = _of_fragment(fragment, ops)
    if found is None:
        return None
    for template in found.templates:
        _parsed(found.op, template)
    cost = graph_cost(fragment, ops)
    if not isinstance(cost.flops, int) or not isinstance(cost.bytes, int):
        raise Unsupported(f"a kernel template of {found.op.name} needs fixed sizes")
    return Plan("user", False, cost.bytes, cost.flops, 1)


class UserKernels:
    """The templates of operator definitions as a translator.

    Args:
        ops: the operators.
        target: the device; templates read it as ``target``.
    """

    name = WRITER

    def __init__(self, ops: OpSet, target: Target = H100) -> None:
        self.ops, self.target = ops, target

    def propose(self, fragment: Graph, n: int, feedback: tuple[str, ...] = ()) -> list[Candidate]:
        """Return up to ``n`` renderings, in the order in which the definition lists templates and parameter values.

        Raises:
            UsageError: a template cannot be read, is no Jinja2, names what is not there, or renders to something that
                defines no launcher; placed at the template's line where it is known.
        """
        found = _of_fragment(fragment, self.ops)
        if found is None:
            return []
        drawn = itertools.chain.from_iterable(self._renderings(fragment, found, t) for t in found.templates)
        return list(itertools.islice(drawn, n))

    def _renderings(self, fragment: Graph, found: _Found, template: KernelTemplate) -> Iterator[Candidate]:
        path, tree, text = _parsed(found.op, template)
        known = _context(found, fragment.types, self.target)
        choices = [_values(e, found.env, path, name) for name, e in template.parameters]
        pinned = _pinned(found, fragment, template, tree)
        for values in itertools.product(*choices):
            chosen = dict(zip((name for name, _ in template.parameters), values))
            source = _render(path, text, {**known, **chosen, "entry": fragment.name})
            source = _checked(source, fragment.name, path) + _wrapper(found.node, fragment)
            label = " ".join([path.name, *(f"{k}={v}" for k, v in chosen.items())])
            yield Candidate(source, fragment.name, label, WRITER, pinned=pinned)


def _of_fragment(fragment: Graph, ops: OpSet) -> _Found | None:
    if len(fragment.nodes) != 1 or fragment.updates or fragment.outputs != fragment.nodes[0].results:
        return None
    return _found(fragment.nodes[0], fragment.types, ops)


def _found(node: Node, types: Mapping[str, TensorType], ops: OpSet) -> _Found | None:
    op = ops.get(node.op)
    if op is None or not op.kernels:
        return None
    try:
        env = infer_node(node, types, ops).env
    except (VerifyError, Unsupported):
        return None
    serving = tuple(t for t in op.kernels if t.guard is None or evaluate(t.guard, env) is True)
    return _Found(node, op, env, serving) if serving else None


# -- the template -------------------------------------------------------------------------------------------------------------


def _parsed(op: OpDef, template: KernelTemplate) -> tuple[Path, jinja2.nodes.Template, str]:
    base = Path(op.location.file).parent if op.location else Path()
    path = base / template.path
    subject = f"{op.name}: triton"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        raise UsageError(f"cannot be read: {reason}", place=str(path), subject=subject) from None
    try:
        return path, _environment().parse(text), text
    except jinja2.TemplateSyntaxError as error:
        raise UsageError(
            f"is no Jinja2 template: {error.message}", place=f"{path}:{error.lineno}", subject=subject
        ) from None


def _environment() -> jinja2.sandbox.SandboxedEnvironment:
    return jinja2.sandbox.SandboxedEnvironment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )


def _context(found: _Found, types: Mapping[str, TensorType], target: Target) -> dict[str, Any]:
    """What a template may name: dimensions, packs, lets, attributes; operands and results by name; the target."""
    context: dict[str, Any] = {k: v for k, v in found.env.items() if k.isidentifier()}
    for p, o in zip(found.op.operands, found.node.operands):
        if o is None:
            context[p.name] = None
        elif isinstance(o, Literal):
            context[p.name] = o.value
        elif isinstance(o, tuple):
            context[p.name] = tuple(_tensor(types[v]) for v in o if isinstance(v, str))
        else:
            context[p.name] = _tensor(types[o])
    for p, r in zip(found.op.results, found.node.results):
        context[p.name] = _tensor(types[r])
    return {**context, "target": target}


def _tensor(type: TensorType) -> _Tensor:
    if not all(isinstance(s, int) for s in type.shape):
        raise Unsupported("a kernel template needs fixed sizes")
    return _Tensor(TRITON_DTYPES[type.dtype], tuple(int(str(s)) for s in type.shape))


def _values(e: Any, env: Mapping[str, Any], path: Path, name: str) -> tuple[Any, ...]:
    """The values that a parameter takes in turn."""
    value = evaluate(e, env)
    values = value if isinstance(e, Lst) and isinstance(value, tuple) else (value,)
    if not values:
        raise UsageError("has no value to try, expected at least one", place=str(path), subject=name)
    return values


def _render(path: Path, text: str, context: Mapping[str, Any]) -> str:
    try:
        return _environment().from_string(text).render(context)
    except jinja2.TemplateError as error:
        raise UsageError(f"cannot be rendered: {error.message}", place=str(path)) from None
    except Exception as error:  # whatever an expression of the template raises
        raise UsageError(f"cannot be rendered: {type(error).__name__}: {error}", place=str(path)) from None


def _checked(source: str, entry: str, path: Path) -> str:
    """Return the source without the imports that its surroundings have; raise UsageError where it is no candidate."""
    try:
        tree = parse_python(source)
    except SyntaxError as error:
        raise UsageError(f"renders to Python that does not parse: {error.msg} at line {error.lineno} of the result",
                         place=str(path)) from None  # fmt: skip
    lines = source.splitlines(keepends=True)
    defined: list[str] = []
    for statement in tree.body:
        match statement:
            case ast.Import(names=imported) if all(a.name in _IMPORTED for a in imported):
                lines[statement.lineno - 1 : statement.end_lineno] = ["\n"] * (
                    (statement.end_lineno or statement.lineno) - statement.lineno + 1
                )
            case ast.FunctionDef(name=name):
                defined.append(name)
            case ast.Assign(targets=[ast.Name(id=name)]):
                defined.append(name)
            case ast.Expr(value=ast.Constant()):
                pass
            case _:
                what = ast.unparse(statement).splitlines()[0]
                raise UsageError(f"renders to '{what}', expected functions and constants", place=str(path))
    strange = [name for name in defined if not name.startswith(entry)]
    if strange:
        raise UsageError(f"defines {strange[0]}, expected names that start with {{{{ entry }}}}", place=str(path))
    if entry not in defined:
        raise UsageError("defines no launcher, expected a function named {{ entry }}", place=str(path))
    return "".join(lines).strip("\n") + "\n"


def _wrapper(node: Node, fragment: Graph) -> str:
    """Return the launcher under its final name where the fragment's inputs are not simply the operands in order."""
    tensors = list(node.uses())
    inputs = [i.name for i in fragment.inputs]
    if tensors == inputs:
        return ""
    position = {name: f"x{k}" for k, name in enumerate(inputs)}
    entry = fragment.name
    given, passed = ", ".join(position[i] for i in inputs), ", ".join(position[t] for t in tensors)
    return f"\n\n{entry}_operands = {entry}\n\n\ndef {entry}({given}):\n    return {entry}_operands({passed})\n"


def _pinned(
    found: _Found, fragment: Graph, template: KernelTemplate, tree: jinja2.nodes.Template
) -> tuple[tuple[str, int], ...]:
    """The axes whose sizes the template, its parameters or its guard speak of; it may serve any size of the others."""
    spoken = set(jinja2.meta.find_undeclared_variables(tree))
    shapes = {n.node.name for n in tree.find_all(jinja2.nodes.Getattr)
              if isinstance(n.node, jinja2.nodes.Name) and n.attr == "shape"}  # fmt: skip
    for _, e in template.parameters:
        spoken |= names(e)
    if template.guard is not None:
        spoken |= names(template.guard)
    for let in reversed(found.op.lets):
        if let.name in spoken:
            spoken |= names(let.expr)
    if shapes & {p.name for p in found.op.results}:
        shapes = {p.name for p in found.op.operands}
    inputs = {i.name for i in fragment.inputs}
    out: dict[tuple[str, int], None] = {}
    for p, o in zip(found.op.operands, found.node.operands):
        values = [v for v in (o if isinstance(o, tuple) else (o,)) if isinstance(v, str) and v in inputs]
        for v in values:
            axis = 0
            for d in p.shape:
                length = len(found.env[d.name]) if isinstance(d, Pack) and not p.variadic else 1
                whole = (
                    p.variadic or p.name in shapes or names(d) & spoken or (isinstance(d, Pack) and d.name in spoken)
                )
                if p.variadic:
                    length = fragment.types[v].rank - axis
                for k in range(axis, axis + length):
                    if whole:
                        out[v, k] = None
                axis += length
    return tuple(out)


__all__ = ["WRITER", "UserKernels", "has_user_kernel", "plan_user_kernel"]
