"""Where values of a program lie in memory when PyTorch runs it: what some of its kernels must know before they are called.

A program's values have elements and no strides.  PyTorch's have both, and some calls read or write past the elements: what
``select_scatter`` writes into one window of ``unfold`` stands in its neighbors, and ``as_strided`` of a slice reads what the
slice leaves out.  The ``torch`` clauses of such operators copy their operand first, ``torch.clone(x)`` where no element may
stand twice, and ``torch.Tensor.contiguous(torch.clone(x))`` where the operand must begin its memory as well.  Emitted source
has the copy where it makes a difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import torch

from ..ir import OPAQUE, Graph, Node, OpDef, OpSet, Size, SizeLike, TensorType, find_op
from ..ir import expr as ex
from ..ir.build import infer_node
from ..ir.cost import is_view
from ..ir.opdef import Scalar
from ..ir.size import substitute, symbols_of
from .opaque import TORCH_DTYPES
from .resolve import run_clause

#: Number that stands for a symbolic size, where its bounds have it: views of one window, or of one element, say nothing.
_TYPICAL = 8


class Layouts:
    """The layouts of a program's values, from PyTorch itself, on tensors without data.

    Inputs lie in row-major order, as ``get_inputs()`` makes them, and so does what is no view of another value; whatever order
    a kernel chooses for its result, each element stands once.

    Args:
        graph: the program.
        ops: the operators.
    """

    def __init__(self, graph: Graph, ops: OpSet) -> None:
        self.graph, self.ops = graph, ops
        self._known: dict[str, torch.Tensor | None] = {}
        self._sizes: dict[str, SizeLike] | None = None

    def is_dense(self, value: str, first: bool = False) -> bool:
        """Return whether each element of a value has a place of its own; with ``first``, and they begin their memory."""
        if value not in self.graph.types:
            return False
        found = self._layout(value)
        return found is not None and _is_dense(found) and not (first and found.storage_offset())

    def _layout(self, value: str) -> torch.Tensor | None:
        """Return a tensor that lies as the value does, or None where that is not known."""
        if value not in self._known:
            node = self.graph.producers.get(value)
            if node is None or not self._passes_on(node):
                t = self._type(self.graph.types[value])
                self._known[value] = torch.empty(t.shape, dtype=TORCH_DTYPES[t.dtype], device="meta")  # type: ignore[arg-type]
            else:
                self._known[value] = None if node.op == OPAQUE else self._run(node)
        return self._known[value]

    def _passes_on(self, node: Node) -> bool:
        """Return whether the result may lie in the memory of an operand."""
        if node.op == OPAQUE:
            return True
        op = find_op(node.op, self.ops)
        return is_view(op, self.ops) or _is_cast(op)

    def _run(self, node: Node) -> torch.Tensor | None:
        """Return the result of a view."""
        op, operands = self.ops[node.op], dict.fromkeys(node.uses())
        given = {v: self._layout(v) for v in operands}
        if any(v is None for v in given.values()):
            return None
        types = {v: self._type(self.graph.types[v]) for v in operands}
        fixed = attrs.evolve(node, attrs=tuple((k, self._number(v)) for k, v in node.attrs))
        values: dict[str, Any] = {
            p.name: given[o] if isinstance(o, str) else tuple(given[str(v)] for v in o) if isinstance(o, tuple) else o
            for p, o in zip(op.operands, node.operands)
        }
        env = infer_node(fixed, types, self.ops).env
        values |= {a.name: TORCH_DTYPES[env[a.name]] for a in op.attributes if a.kind == "dtype" and env[a.name]}
        try:
            found = run_clause(op.calls["torch"], values, env)
        except (KeyError, RuntimeError, TypeError, ValueError):
            return None
        return found if isinstance(found, torch.Tensor) else None

    def _type(self, t: TensorType) -> TensorType:
        return t if t.is_static else t.substitute(self._numbers())

    def _number(self, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(self._number, value))
        return substitute(value, self._numbers()) if isinstance(value, Size) else value

    def _numbers(self) -> dict[str, SizeLike]:
        if self._sizes is None:
            symbols = (s for i in self.graph.inputs for d in i.type.shape for s in symbols_of(d))
            self._sizes = {s.name: min(max(s.lo, _TYPICAL), s.hi) for s in symbols}
        return self._sizes


def _is_dense(t: torch.Tensor) -> bool:
    """Return whether no two elements share a place: each stride steps over all that smaller ones reach."""
    reach = 0
    for stride, size in sorted((s, n) for s, n in zip(t.stride(), t.shape) if n != 1):
        if stride <= reach:
            return not t.numel()
        reach += stride * (size - 1)
    return True


def _is_cast(op: OpDef) -> bool:
    """Return whether the result is the operand, in some dtype."""
    if not isinstance(op.body, Scalar):
        return False
    return all(isinstance(e, ex.Sym) or (isinstance(e, ex.Call) and e.fn == "cast") for _, e in op.body.exprs)


def leaner(e: ex.Expr, operands: Mapping[str, Any], layouts: Layouts) -> ex.Expr:
    """Return a clause without the copies that an operand needs for its layout alone, where its layout is good as it is.

    What a call writes to (its name ends with ``_``) stays a copy.

    Args:
        e: the clause.
        operands: of the call, by the names of their parameters: values of the program, literals, ``None``.
        layouts: of the program's values.
    """

    def copied(inner: ex.Expr) -> Any:
        """Return the value that is copied, or None where there is no copy of one."""
        if isinstance(inner, ex.Call) and inner.fn == "torch.clone" and isinstance(inner.args[0], ex.Sym):
            value = operands.get(inner.args[0].name)
            return value if isinstance(value, str) else None
        return None

    def argument(inner: ex.Expr, first: bool) -> ex.Expr:
        value = copied(inner)
        if value is not None and layouts.is_dense(value, first):
            assert isinstance(inner, ex.Call)
            return inner.args[0]
        return visit(inner)

    def visit(inner: ex.Expr) -> ex.Expr:
        match inner:
            case ex.Cond(test, a, b):
                return ex.Cond(test, visit(a), visit(b))
            case ex.Call(fn) if fn.endswith("_"):  # writes its copy
                return inner
            case ex.Call(fn, args, kwargs):
                first = fn == "torch.Tensor.contiguous"
                return ex.Call(fn, tuple(argument(a, first) for a in args), kwargs)
        return inner

    return visit(e)


__all__ = ["Layouts", "leaner"]
