"""What the names of a definition stand for in a call that is known to be valid, without checking it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from . import expr as ex
from .evaluate import evaluate, present_key
from .infer import OperandType
from .opdef import OpDef
from .typesys import DTYPES, TensorType


class _Bindings(dict[str, Any]):
    """The environment of a valid call, in which lets are computed when they are asked for."""

    def __init__(self, op: OpDef) -> None:
        super().__init__()
        self._op = op

    def __missing__(self, name: str) -> Any:
        for let in self._op.lets:
            if let.name == name:
                self[name] = found = evaluate(let.expr, self)
                return found
        raise KeyError(name)


def bindings(op: OpDef, operands: Sequence[OperandType], attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what ``infer(op, operands, attributes).env`` says of a call that is known to be valid: no rule is checked.

    Args:
        op: the definition.
        operands: the operands' types in order; trailing optional ones may be left out.
        attributes: all of them, by name, as ``infer`` gives them.
    """
    env = _Bindings(op)
    for p, value in zip(op.operands, (*operands, *(None,) * (len(op.operands) - len(operands))), strict=True):
        env[present_key(p.name)] = value is not None
        if value is None:
            for d in p.shape:
                if isinstance(d, ex.Pack):
                    env.setdefault(d.name, ())
            continue
        if isinstance(value, tuple) or (p.variadic and isinstance(value, TensorType)):
            items = value if isinstance(value, tuple) else (value,)
            assert isinstance(p.shape[0], ex.Pack)
            env[p.shape[0].name] = tuple(t.shape for t in items if isinstance(t, TensorType))
            dtype = next((t.dtype for t in items if isinstance(t, TensorType)), None)
        else:
            shape: tuple[Any, ...] = ()
            dtype = None
            if isinstance(value, TensorType):
                shape, dtype = value.shape, value.dtype
            at, width = 0, len(shape) - sum(not isinstance(d, ex.Pack) for d in p.shape)
            for d in p.shape:
                if isinstance(d, ex.Pack):
                    env.setdefault(d.name, shape[at : at + width])
                    at += width
                    continue
                if isinstance(d, ex.Sym):
                    env.setdefault(d.name, shape[at])
                at += 1
        if dtype is not None and p.dtype not in DTYPES:
            env.setdefault(p.dtype, dtype)
    env.update(attributes)
    env.update({n: evaluate(e, env) for n, e in op.dtype_lets})
    return env
