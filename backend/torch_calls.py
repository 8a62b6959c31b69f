"""Single nodes as PyTorch calls: every one comes from its operator's ``torch`` clause.

Sizes and attributes become literals, operators stay infix, and parentheses stand only where Python needs them.  What has no
definition calls its ATen overload by name.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from ..ir import (
    OPAQUE,
    Literal,
    Node,
    OpDef,
    Operand,
    OpSet,
    Size,
    TensorType,
    UsageError,
    evaluate,
    find_op,
)
from ..ir import expr as ex
from ..ir.build import infer_node
from ..ir.evaluate import decide
from ..ir.infer import Inferred
from .opaque import TORCH_DTYPES, flat, number_text, opaque_text, size_text
from .resolve import is_allowed, run_clause
from .torch_memory import Layouts, leaner
from .torch_phrases import ATOM, Inlined, Phrase, spoken

#: Keyword arguments that are left out where they have PyTorch's default.
_DEFAULTS: dict[str, Any] = {"keepdim": False, "approximate": "none"}

_FUNCTIONAL = "torch.nn.functional."


def render_node(
    node: Node,
    graph_types: Mapping[str, TensorType],
    ops: OpSet,
    names: Mapping[str, str],
    *,
    device: str = "",
    symbols: Mapping[str, str] | None = None,
    functional: str = _FUNCTIONAL,
    layouts: Layouts | None = None,
) -> list[str]:
    """Return lines of Python that run one node and assign its results.

    The text needs ``import torch`` alone.

    Args:
        node: any node, opaque ones included.
        graph_types: the types of its operands, by value name.
        ops: the operators.
        names: Python text of every value that the node reads and name of every value that it defines.
        device: Python text of the device for tensors that are made from nothing; "" derives it from an operand, or
            leaves PyTorch's default where there is none.
        symbols: Python text of each symbol; a symbol that is not in it stands under its own name.
        functional: how ``torch.nn.functional.`` is spelled.
        layouts: of the program's values; without them each operand is copied that some layouts make a copy of.

    Raises:
        UsageError: the operator has no ``torch`` clause, or its clause calls what the allow-list does not have.
    """
    text, _ = render_call(
        node, graph_types, ops, names, device=device, symbols=symbols, functional=functional, layouts=layouts
    )  # fmt: skip
    return [f"{', '.join(names[r] for r in node.results)} = {text}"]


def render_call(
    node: Node, graph_types: Mapping[str, TensorType], ops: OpSet, names: Mapping[str, str], *, device: str = "",
    symbols: Mapping[str, str] | None = None, functional: str = _FUNCTIONAL, is_spoken: bool = False,
    layouts: Layouts | None = None,
) -> tuple[str, int]:  # fmt: skip
    """Return Python text that runs one node, and its binding strength; arguments as :func:`render_node`.

    With ``is_spoken`` it is spelled as a person would (see :mod:`.torch_phrases`), which means the same.
    """
    if node.op == OPAQUE:
        return opaque_text(node, names, device, symbols or {}), ATOM
    op = find_op(node.op, ops)
    if "torch" not in op.calls:
        raise UsageError("has no torch clause, expected one to run it in PyTorch", subject=op.name)
    inferred = infer_node(node, graph_types, ops)
    writer = _Writer(op, node, inferred, graph_types, names, device, symbols or {}, functional, is_spoken)
    clause = op.calls["torch"]
    return writer.write(clause if layouts is None else leaner(clause, writer.operands, layouts))


class _Writer:
    """Writes one clause; every method returns text and its binding strength."""

    def __init__(
        self, op: OpDef, node: Node, inferred: Inferred, types: Mapping[str, TensorType], names: Mapping[str, str],
        device: str, symbols: Mapping[str, str], functional: str, is_spoken: bool = False,
    ) -> None:  # fmt: skip
        self.is_spoken = is_spoken
        self.op, self.node, self.env = op, node, inferred.env
        self.types, self.names = types, names
        self.device, self.symbols, self.functional = device, symbols, functional
        self.operands: dict[str, Operand] = dict(zip([p.name for p in op.operands], node.operands))
        self.params = {p.name: p for p in op.operands}
        self.dtypes = {a.name for a in op.attributes if a.kind == "dtype"} | set(op.dtypes) | {
            n for n, _ in op.dtype_lets
        }  # fmt: skip
        reads = [v for v in flat(node.operands) if isinstance(v, str)]
        self.first = names[reads[0]] if reads else ""
        self.first_type = types[reads[0]] if reads else None
        literal = tuple(isinstance(o, Literal) for o in node.operands)
        self.numbers = not any(literal) or _takes_numbers(op, node, types, inferred)

    def write(self, e: ex.Expr) -> tuple[str, int]:
        if isinstance(e, ex.Cond):
            return self.write(e.a if decide(e.test, self.env) else e.b)
        if self._is_static(e):
            return self._static(e)
        match e:
            case ex.Sym(n):
                return self._operand(n)
            case ex.Lst(items):
                return f"[{', '.join(self._items(items))}]", ATOM
            case ex.Bin("**", a, b):
                return f"{self._at(a, 9)} ** {self._at(b, 7)}", 8
            case ex.Bin("/", ex.Sym(n), b) if isinstance(self.operands.get(n), Literal):
                # PyTorch multiplies the reciprocal by a number, which rounds twice.
                return f"{self._tensor(n)} / {self._at(b, 7)}", 6
            case ex.Bin(op, a, b):
                level = ex.PRECEDENCE[op]
                return f"{self._at(a, level + (level == 4))} {op} {self._at(b, level + 1)}", level
            case ex.Unary("-", a):
                return f"-{self._at(a, 7)}", 7
            case ex.Load(n, items):
                return f"{self._operand(n)[0]}[{', '.join(self._items(items))}]", ATOM
            case ex.Call(fn, args, kwargs) if "." in fn:
                return self._call(fn, args, kwargs)
        raise UsageError(f"'{ex.to_text(e)}' cannot be written in Python", subject=self.op.name)

    def _at(self, e: ex.Expr, level: int) -> str:
        text, own = self.write(e)
        return f"({text})" if own < level else text

    def _items(self, items: Iterable[ex.Expr]) -> list[str]:
        return [text for text, _ in self._phrases(items)]

    def _phrases(self, items: Iterable[ex.Expr]) -> list[Phrase]:
        out: list[Phrase] = []
        for item in items:
            if isinstance(item, ex.Pack):
                out += [self._value(v) for v in self.env[item.name]]
            else:
                out.append(self.write(item))
        return out

    # -- calls --------------------------------------------------------------------------------------------------------

    def _call(self, fn: str, args: Sequence[ex.Expr], kwargs: Sequence[tuple[str, ex.Expr]]) -> Phrase:
        if not is_allowed(fn):
            raise UsageError("not among the functions that a lowering clause may call", subject=fn)
        given = list(args)
        while given and self._is_absent(given[-1]):
            given.pop()
        positional = self._phrases(given)
        keywords = [
            (k, self.write(v)[0]) for k, v in kwargs if not self._is_absent(v) and not self._is_default(k, v)
        ]  # fmt: skip
        is_method = fn.startswith("torch.Tensor.")
        if not is_method and not any(self._reads(a) for a in (*args, *(v for _, v in kwargs))):
            where = self.device or (f"{self.first}.device" if self.first else "")
            keywords += [("device", where)] if where else []
        if self.is_spoken:
            return spoken(fn, positional, keywords, self.functional, self.first_type)
        texts = [*(t for t, _ in positional), *(f"{k}={v}" for k, v in keywords)]
        if is_method:
            receiver = self._at(given[0], ATOM)
            return f"{receiver}.{fn.removeprefix('torch.Tensor.')}({', '.join(texts[1:])})", ATOM
        if fn.startswith(_FUNCTIONAL):
            fn = self.functional + fn.removeprefix(_FUNCTIONAL)
        return f"{fn}({', '.join(texts)})", ATOM

    def _is_absent(self, e: ex.Expr) -> bool:
        return isinstance(e, ex.Sym) and e.name in self.params and self.operands.get(e.name) is None

    def _is_default(self, name: str, e: ex.Expr) -> bool:
        if name not in _DEFAULTS or not self._is_static(e):
            return False
        value = evaluate(e, self.env)
        return type(value) is type(_DEFAULTS[name]) and value == _DEFAULTS[name]

    def _reads(self, e: ex.Expr) -> bool:
        return any(n in self.params and self.operands.get(n) is not None for n in ex.names(e))

    # -- leaves -------------------------------------------------------------------------------------------------------

    def _operand(self, name: str) -> tuple[str, int]:
        if name not in self.params:
            return self._value(self.env[name])
        operand = self.operands.get(name)
        if isinstance(operand, Literal):
            return self._value(operand.value) if self.numbers else (self._tensor(name), ATOM)
        if isinstance(operand, tuple):
            return f"[{', '.join(self.names[o] for o in operand if isinstance(o, str))}]", ATOM
        if operand is None:
            return "None", ATOM
        text = self.names[operand]
        if isinstance(text, Inlined):
            return text, text.level
        return text, ATOM if re.fullmatch(r"[\w.\[\]'\"]+|getattr\([^()]*\)", text) else 0

    def _tensor(self, name: str) -> str:
        """Return a literal operand as a tensor without axes."""
        operand, dtype = self.operands[name], self.params[name].dtype
        assert isinstance(operand, Literal)
        number, kept = self._value(operand.value)[0], TORCH_DTYPES[self.env.get(dtype, dtype)]
        where = f", device={self.first}.device" if self.first else ""
        return f"torch.full((), {number}, dtype={kept}{where})"

    def _is_static(self, e: ex.Expr) -> bool:
        if isinstance(e, ex.Call) and "." in e.fn:
            return False
        if isinstance(e, ex.Call) and e.fn == "present":
            return True
        if isinstance(e, (ex.Sym, ex.Pack, ex.Load)) and e.name in self.params:
            return False
        return all(self._is_static(c) for c in ex.children(e))

    def _static(self, e: ex.Expr) -> tuple[str, int]:
        if isinstance(e, ex.Sym) and (e.name in self.dtypes or (e.name not in self.env and e.name in TORCH_DTYPES)):
            name = self.env.get(e.name, e.name)
            return ("None" if name is None else str(TORCH_DTYPES[name])), ATOM
        return self._value(evaluate(e, self.env))

    def _value(self, value: Any) -> tuple[str, int]:
        if isinstance(value, (tuple, list)):
            return f"[{', '.join(self._value(v)[0] for v in value)}]", ATOM
        if isinstance(value, Size):
            return size_text(value, self.symbols), 0 if re.search(r"\W", str(value)) else ATOM
        if isinstance(value, str):
            return json.dumps(value), ATOM
        return number_text(value), 7 if _is_negative(value) else ATOM


def _is_negative(value: Any) -> bool:
    return isinstance(value, (int, float)) and (value < 0 or math.copysign(1.0, value) < 0)


_TAKES_NUMBERS: dict[Any, bool] = {}


def _takes_numbers(op: OpDef, node: Node, types: Mapping[str, TensorType], inferred: Inferred) -> bool:
    """Whether PyTorch takes Python numbers where the node has literals: ``x + 1.0`` yes, ``torch.maximum(x, 1.0)`` no.

    Found by trying, on tensors whose axes all have size one: what PyTorch makes of a number depends on ranks and dtypes.
    A call that does not fit such sizes gets tensors, which are never wrong.
    """
    shapes = [_probe_type(o, types) for o in node.operands]
    key = (op.name, op.location, str(shapes))
    if key not in _TAKES_NUMBERS:
        values: dict[str, Any] = {}
        for p, t in zip(op.operands, shapes):
            values[p.name] = _probe(t)
        env = dict(inferred.env)
        for a in op.attributes:
            if a.kind == "dtype" and env[a.name] is not None:
                values[a.name] = TORCH_DTYPES[env[a.name]]
        try:
            result = run_clause(op.calls["torch"], values, env)
            results = result if isinstance(result, (tuple, list)) else [result]
            fits = all(r.dtype == TORCH_DTYPES[t.dtype] for r, t in zip(results, inferred.types))
        except (TypeError, RuntimeError, AttributeError, ValueError):
            fits = False
        _TAKES_NUMBERS[key] = fits
    return _TAKES_NUMBERS[key]


def _probe_type(operand: Operand, types: Mapping[str, TensorType]) -> Any:
    if isinstance(operand, str):
        t = types[operand]
        return TensorType(t.dtype, (1,) * t.rank)
    return tuple(_probe_type(o, types) for o in operand) if isinstance(operand, tuple) else operand


def _probe(operand: Any) -> Any:
    if isinstance(operand, TensorType):
        return torch.ones(operand.shape, dtype=TORCH_DTYPES[operand.dtype])  # type: ignore[arg-type]
    if isinstance(operand, Literal):
        return 2 if isinstance(operand.value, Size) else operand.value
    return tuple(map(_probe, operand)) if isinstance(operand, tuple) else operand


__all__ = ["render_call", "render_node"]
