"""Python text of ``jax`` clauses."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ..ir import Inferred, OpDef, Size, UsageError, evaluate
from ..ir import expr as ex
from ..ir.evaluate import decide
from .jax_bodies import ATOM, JAX_DTYPES, MINUS, function_text, level_of, number_text
from .opaque import size_text
from .resolve import is_allowed

#: Keyword arguments that are left out where they have JAX's default.
_DEFAULTS: dict[str, Any] = {"keepdims": False, "approximate": True, "stride": 1, "feature_group_count": 1}


class ClauseWriter:
    """Writes the ``jax`` clause of one node.

    Args:
        op: the operator.
        inferred: what its definition says of the call.
        operands: Python text of each operand, a tuple of texts, or None.
        symbols: Python text of each symbol.
    """

    def __init__(self, op: OpDef, inferred: Inferred, operands: Mapping[str, Any], symbols: Mapping[str, str]) -> None:
        self.op, self.env, self.operands, self.symbols = op, inferred.env, operands, symbols
        self.functions: list[str] = []  # those of drt.backend.jax_functions that it calls
        self.params = {p.name: p for p in op.operands}
        self.dtypes = {a.name for a in op.attributes if a.kind == "dtype"} | set(op.dtypes) | {
            n for n, _ in op.dtype_lets
        }  # fmt: skip

    def write(self, e: ex.Expr) -> tuple[str, int]:
        """Return Python text of an expression, and its binding strength.

        Raises:
            UsageError: it calls what the allow-list does not have.
        """
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
            case ex.Bin(op, a, b):
                level = ex.PRECEDENCE[op]
                return f"{self._at(a, level + (level == 4))} {op} {self._at(b, level + 1)}", level
            case ex.Unary("-", a):
                return f"-{self._at(a, MINUS)}", MINUS
            case ex.Load(n, items):
                return f"{self._operand(n)[0]}[{', '.join(self._items(items))}]", ATOM
            case ex.Call(fn, args, kwargs) if "." in fn:
                if not is_allowed(fn):
                    raise UsageError("not among the functions that a lowering clause may call", subject=fn)
                if fn.startswith("drt."):
                    self.functions.append(fn.removeprefix("drt."))
                given = list(args)
                while given and self._is_absent(given[-1]):
                    given.pop()
                texts = self._items(given)
                texts += [
                    f"{k}={self.write(v)[0]}"
                    for k, v in kwargs
                    if not self._is_absent(v) and not self._is_default(fn, k, v)
                ]
                return f"{function_text(fn)}({', '.join(texts)})", ATOM
        raise UsageError(f"'{ex.to_text(e)}' cannot be written in Python", subject=self.op.name)

    def _at(self, e: ex.Expr, level: int) -> str:
        text, own = self.write(e)
        return f"({text})" if own < level else text

    def _items(self, items: Iterable[ex.Expr]) -> list[str]:
        out: list[str] = []
        for item in items:
            if isinstance(item, ex.Pack):
                out += [self._value(v)[0] for v in self.env[item.name]]
            else:
                out.append(self.write(item)[0])
        return out

    def _is_absent(self, e: ex.Expr) -> bool:
        return isinstance(e, ex.Sym) and e.name in self.params and self.operands.get(e.name) is None

    def _is_default(self, fn: str, name: str, e: ex.Expr) -> bool:
        # lax.index_in_dim and its like keep the axis unless told otherwise.
        if name not in _DEFAULTS or not self._is_static(e) or fn.endswith("_in_dim"):
            return False
        value = evaluate(e, self.env)
        return type(value) is type(_DEFAULTS[name]) and value == _DEFAULTS[name]

    def _operand(self, name: str) -> tuple[str, int]:
        if name not in self.params:
            return self._value(self.env[name])
        operand = self.operands.get(name)
        if operand is None:
            return "None", ATOM
        if isinstance(operand, tuple):
            return f"[{', '.join(operand)}]", ATOM
        return operand, level_of(operand)

    def _is_static(self, e: ex.Expr) -> bool:
        if isinstance(e, ex.Call) and "." in e.fn:
            return False
        if isinstance(e, ex.Call) and e.fn == "present":
            return True
        if isinstance(e, (ex.Sym, ex.Pack, ex.Load)) and e.name in self.params:
            return False
        return all(self._is_static(c) for c in ex.children(e))

    def _static(self, e: ex.Expr) -> tuple[str, int]:
        if isinstance(e, ex.Sym) and (e.name in self.dtypes or (e.name not in self.env and e.name in JAX_DTYPES)):
            name = self.env.get(e.name, e.name)
            return ("None" if name is None else JAX_DTYPES[name]), ATOM
        return self._value(evaluate(e, self.env))

    def _value(self, value: Any) -> tuple[str, int]:
        if isinstance(value, (tuple, list)):
            inside = ", ".join(self._value(v)[0] for v in value)
            return f"({inside}{',' if len(value) == 1 else ''})", ATOM
        if isinstance(value, Size):
            return size_text(value, self.symbols), 0 if re.search(r"\W", str(value)) else ATOM
        if isinstance(value, str):
            return json.dumps(value), ATOM
        text = number_text(value)
        return text, MINUS if text.startswith("-") else ATOM
