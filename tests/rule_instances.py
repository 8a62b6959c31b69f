"""Random programs that are instances of a rule's pattern: leaves first, attributes guessed to fit, then tried."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from drt.ir import (
    DrtError,
    Graph,
    GraphBuilder,
    Literal,
    OpSet,
    Rule,
    TensorType,
    Unsatisfiable,
    apply_rules,
    builtin_ops,
    evaluate,
    present_key,
)
from drt.ir import expr as ex
from drt.ir.patterns import RULE_FUNCTIONS, _Value

#: Types of the leaves of patterns that chance would hardly meet.  A missing leaf is absent, or drawn.
_CHANNELS = dict.fromkeys(("m", "v", "u", "b", "c"), "f32[6]")
_ATTENTION: dict[str, Any] = {
    "q": "f32[2, 3, 4]",
    "k": "f32[2, 5, 4]",
    "v": "f32[2, 5, 3]",
    "i": 2,
    "p": (0, 2, 1),
    "s": 0.5,
}
_CONV: dict[int, dict[str, Any]] = {
    1: {"x": "f32[2, 4, 9]", "w": "f32[6, 4, 3]"},
    2: {"x": "f32[2, 4, 7, 8]", "w": "f32[6, 4, 3, 2]"},
    3: {"x": "f32[1, 4, 4, 3, 5]", "w": "f32[6, 4, 2, 1, 2]"},
}
_TRANSPOSED = {n: {**c, "w": c["w"].replace("[6, 4", "[4, 6"), "s": (2,) * n, "o": (1,) * n} for n, c in _CONV.items()}
_NORM = {"x": "f32[2, 3, 4]", "n": (3, 4), "a": (1, 2), "w": "f32[1, 3, 4]", "b": "f32[3, 4]", "e": 1e-3}

HINTS: dict[str, list[dict[str, Any]]] = {
    "batch_norm_into_linear": [{"x": "f32[3, 4]", "w": "f32[6, 4]", **_CHANNELS}],
    "linear_bias": [{"x": "f32[3, 4]", "w": "f32[6, 4]", "b": "f32[1, 6]"}],
    "scale_into_linear": [{"x": "f32[2, 3, 4]", "w": "f32[6, 4]", "c": "f32[6]", "k": "f32[1, 6]"}],
    "linear_of_rows": [{"x": "f32[2, 3, 4]", "_": (6, 4), "w": "f32[5, 4]", "b": b, "s": (2, 3, 5)} for b in (None, "f32[5]")],
    "linear_from_matmul": [{"x": "f32[3, 4]", "w": "f32[6, 4]"}],
    "linear_from_matmul_shared": [{"x": "f32[2, 3, 4]", "w": "f32[6, 4]"}],
    "linear_from_addmm": [{"x": "f32[3, 4]", "w": "f32[6, 4]", "b": "f32[6]"}],
    "attention_unscaled": [_ATTENTION],
    "attention_scaled": [_ATTENTION],
    "attention_added_mask": [{**_ATTENTION, "m": t} for t in ("f32[3, 5]", "f32[2, 1, 5]")],
    "attention_kept_mask": [{**_ATTENTION, "m": "bool[3, 5]"}],
    "attention_filled_mask": [{**_ATTENTION, "m": "bool[3, 5]"}],
    "attention_grouped": [
        {"q": "f32[2, 4, 3, 5]", "k": "f32[2, 2, 6, 5]", "v": "f32[2, 2, 6, 5]", "e": (2, 2, 2, 6, 5), "f": (2, 2, 2, 6, 5),
         "_": (2, 4, 6, 5), "m": m, "c": m is None, "s": 0.5}
        for m in (None, "f32[3, 6]")
    ],
    "tril_from_positions": [{"x": "f32[3, 4]", "r": r, "c": c, "m": r + 3, "n": c + 4, "t": "i32", "p": (3, 1)}
                            for r, c in ((0, 0), (2, 0), (0, 1))],
    "triu_from_positions": [{"x": "f32[3, 4]", "r": r, "c": c, "m": r + 3, "n": c + 4, "t": "i32", "p": (3, 1)}
                            for r, c in ((0, 0), (2, 0), (0, 1))],
    "attention_causal_positions": [{**_ATTENTION, "m": 3, "n": 5, "t": "i64", "p": (3, 1)}],
    "logsumexp_shifted_without_axes": [{"x": "f32[3, 4]", "m": "f32[3]", "a": (1,), "s": (3, 1)}],
    "log_softmax_shifted": [{"x": "f32[3, 4]", "m": "f32[3, 1]", "i": 1}],
    "product_of_transposes": [{"a": "f32[2, 3, 4]", "b": "f32[2, 5, 3]", "p": (0, 2, 1), "q": (0, 2, 1)},
                              {"a": "f32[3, 2, 4]", "b": "f32[2, 5, 3]", "p": (1, 2, 0), "q": (0, 2, 1)}],
    "attention_causal": [{**_ATTENTION, "_": (3, 5), "t": "bool"}],
    "layer_norm_from_variance": [_NORM],
    "layer_norm_weight": [_NORM],
    "layer_norm_bias": [_NORM, {**_NORM, "w": None}],
    "rms_norm_from_mean": [_NORM],
    "rms_norm_weight": [_NORM],
    "logsumexp_shifted": [{"x": "f32[3, 4]", "m": "f32[3, 1]", "a": (1,)}],
    "softmax_shifted": [{"x": "f32[3, 4]", "m": "f32[3, 1]", "i": 1}],
    "softmax_from_exp": [{"x": "f32[3, 4]", "i": 1}],
    "log_softmax_from_logsumexp": [{"x": "f32[3, 4]", "i": 0}],
    "clamp_to_relu": [{"x": "f32[3, 4]", "a": a} for a in (0, 0.0)],
    "clamp_to_relu6": [{"x": "f32[3, 4]", "a": 0.0, "b": 6.0}],
    "mean_from_sum": [{"x": "f32[3, 4]", "a": (1,), "c": 0.25}],
    "tril_tril": [{"x": "f32[3, 4]", "a": a, "b": b} for a, b in ((0, 1), (1, -1))],
    "triu_triu": [{"x": "f32[3, 4]", "a": a, "b": b} for a, b in ((0, 1), (1, -1))],
    "pad_nothing": [{"x": "f32[3, 4]", "p": (0, 0), "_": 1}],
    "cat_one": [{"_": 0}],
    "stack_one": [{"x": "f32[3, 4]", "a": 1}],
    "roll_nothing": [{"x": "f32[3, 4]", "s": (0, 0), "_": (0, 1)}],
    "select_of_unit": [{"x": "f32[3, 1, 4]", "a": 1}],
    "flip_units": [{"x": "f32[1, 3, 1]", "a": (0, 2)}],
    "permute_of_units": [{"x": "f32[3, 1, 4, 1]", "p": (1, 0, 3, 2)}],
    "repeat_once": [{"x": "f32[3, 4]", "r": (1, 1, 1)}],
    "and_self": [{"x": "bool[3, 4]"}],
    "or_self": [{"x": "bool[3, 4]"}],
    "not_not": [{"x": "bool[3, 4]"}],
    "slice_slice": [{"x": "f32[7, 4]", "a": 0, "s": s, "_": 6, "k": k, "t": t, "f": 2, "m": m}
                    for s, k, t, m in ((0, 1, 0, 2), (1, 2, 1, 1), (2, 2, 0, 3))],
    "full_like_as_full": [{"x": "f32[3, 4]", "v": 2.5, "t": "f16"}],
}  # fmt: skip
for _n in (1, 2, 3):
    _ones = ", 1" * _n
    HINTS[f"batch_norm_into_conv{_n}d"] = [{**_CONV[_n], **_CHANNELS}, {**_CONV[_n], **_CHANNELS, "c": None, "u": None}]
    HINTS[f"batch_norm_into_conv_transpose{_n}d"] = [{**_TRANSPOSED[_n], **_CHANNELS}]
    HINTS[f"conv{_n}d_bias"] = [{**_CONV[_n], "b": f"f32[6{_ones}]"}]
    HINTS[f"scale_into_conv{_n}d"] = [{**_CONV[_n], "c": "f32[6]", "k": f"f32[1, 6{_ones}]"}]

_NUMBERS = (0, 1, 2, 3, 0.5, 2.0, -1.5, 0.25, -0.5, 6.0, 1e-3, 4.0)
_SHAPES = ((), (3,), (2, 3), (3, 4), (1, 4), (3, 1), (2, 3, 4), (2, 1, 4), (1, 3, 1), (2, 2, 2), (3, 4, 5))


def as_type(text: str) -> TensorType:
    dtype, _, inside = text.rstrip("]").partition("[")
    return TensorType(dtype, tuple(int(s) for s in inside.split(",") if s.strip()))


class _Attempt:
    """One guess at a program."""

    def __init__(self, rule: Rule, rng: random.Random, dtype: str, hints: Mapping[str, Any], ops: OpSet) -> None:
        self.rule, self.rng, self.dtype, self.hints, self.ops = rule, rng, dtype, hints, ops
        self.builder = GraphBuilder(rule.name, ops)
        self.operands: dict[str, Any] = {}
        self.attributes: dict[str, Any] = {}
        self.shape = rng.choice(_SHAPES)
        text = ex.to_text(rule.guard) if rule.guard is not None else ""
        self.literals = {
            n for n in ex.names(rule.lhs) if f"is_literal({n})" in text and f"not is_literal({n})" not in text
        }
        said = " ".join(
            map(ex.to_text, (e for e in (rule.guard, rule.rhs, *(e for _, e in rule.lets)) if e is not None))
        )
        self.optional = {n for n in ex.names(rule.lhs) if f"present({n})" in said}
        self.frozen = {n for n in ex.names(rule.lhs) if f"frozen({n})" in text}

    # What `shape(x)` and the like ask of a program.
    @property
    def types(self) -> Mapping[str, TensorType]:
        return self.builder.types

    def n_uses(self, value: str) -> int:
        return 1

    def is_frozen(self, operand: Any) -> bool:
        return True

    def leaf(self, name: str) -> Any:
        if name in self.operands and name != "_":
            return self.operands[name]
        hint = self.hints.get(name, "draw")
        kind = "param" if name in self.frozen else "input"
        if hint is None or (hint == "draw" and name in self.optional and self.rng.random() < 0.3):
            value: Any = None
        elif isinstance(hint, (int, float)) or (hint == "draw" and name in self.literals):
            value = Literal(self.rng.choice(_NUMBERS) if hint == "draw" else hint)
        elif hint == "draw":
            shape = self.shape if self.rng.random() < 0.75 else self.rng.choice(_SHAPES)
            dtype = "bool" if name in ("c", "m") and self.rng.random() < 0.5 else self.dtype
            value = self.builder.input(name, TensorType(dtype, shape), kind)
        else:
            value = self.builder.input(name, as_type(hint), kind)
        self.operands[name] = value
        return value

    def build(self, pattern: ex.Expr) -> Any:
        match pattern:
            case ex.Sym(name):
                return self.leaf(name)
            case ex.Num(value):
                return None if value is None else Literal(value)
            case ex.Lst(items):
                return tuple(map(self.build, items))
            case ex.Call("either", choices, ()):
                return self.build(self.rng.choice(choices))
            case ex.Call(fn, args, kwargs):
                return self.call(fn, tuple(map(self.build, args)), dict(kwargs))
        raise AssertionError(pattern)

    def call(self, fn: str, operands: tuple[Any, ...], patterns: Mapping[str, ex.Expr]) -> str:
        op = self.ops[fn]
        if len(operands) == 2 and fn in ("mul", "add") and self.rng.random() < 0.5:
            operands = operands[::-1]
        env: dict[str, Any] = {}
        for p, o in zip(op.operands, operands):
            if isinstance(o, str):
                shape = self.builder.types[o].shape
                for d in p.shape:
                    if isinstance(d, ex.Pack):
                        env[d.name] = shape
            elif isinstance(o, tuple) and o:
                env["S"] = self.builder.types[o[0]].shape
        attributes = {name: self.attribute(fn, name, e, env) for name, e in patterns.items()}
        return self.builder.add(fn, *operands, **attributes)  # type: ignore[no-any-return]

    def attribute(self, fn: str, name: str, pattern: ex.Expr, env: Mapping[str, Any]) -> Any:
        if isinstance(pattern, ex.Sym):
            if pattern.name in self.hints:
                return self.hints[pattern.name]
            if pattern.name in self.attributes and pattern.name != "_":
                return self.attributes[pattern.name]
            value = self.guess(fn, name, env)
            self.attributes[pattern.name] = value
            return value
        if isinstance(pattern, ex.Lst):
            return tuple(self.attribute(fn, "axis", i, env) for i in pattern.items)
        values = {n: _Value(o, self) for n, o in self.operands.items()}  # type: ignore[arg-type]
        flags = {present_key(n): o is not None for n, o in self.operands.items()}
        return evaluate(pattern, {**self.attributes, **self.hints, **values, **flags}, RULE_FUNCTIONS)

    def guess(self, fn: str, name: str, env: Mapping[str, Any]) -> Any:
        """Return a value of an attribute that has a chance to fit."""
        rng = self.rng
        shape = next((v for v in env.values() if isinstance(v, tuple)), ())
        rank = len(shape)
        a = self.ops[fn].attribute(name) if name != "axis" else None
        kind = "axis" if a is None else a.kind
        if kind == "axes":
            return tuple(sorted(rng.sample(range(rank), rng.randint(1, rank)))) if rank else ()
        if kind == "axis":
            return rng.randrange(rank) if rank else 0
        if kind == "bool":
            return rng.random() < 0.5
        if kind == "dtype":
            return rng.choice([self.dtype, "f32", "f64", "i64", "f16", "bool"])
        if kind in ("number", "float"):
            return rng.choice([None, *_NUMBERS]) if a is not None and a.optional else rng.choice(_NUMBERS)
        if kind == "ints":
            if name == "shape":
                merged = (shape[0] * shape[1], *shape[2:]) if rank >= 2 else (1, *shape)
                return rng.choice([shape, merged, (1, *shape), (*shape, 1)] + ([(2, *shape)] if fn == "expand" else []))
            if name == "order":
                return tuple(rng.sample(range(rank), rank))
            length = a.length if a is not None and a.length is not None else rank
            return (
                (rng.choice([1, 1, 2]),) * length if name in ("stride", "dilation") else (rng.choice([0, 1]),) * length
            )
        if a is not None and isinstance(a.default, ex.Num) and a.name == "groups":
            return 1
        return rng.randint(0, 4)


def draw(rule: Rule, rng: random.Random, dtype: str, tries: int = 1500, ops: OpSet | None = None) -> Graph:
    """Return a program to which ``rule`` applies.

    Raises:
        Unsatisfiable: none was found.
    """
    ops = builtin_ops() if ops is None else ops
    hinted = HINTS.get(rule.name, [{}])
    for _ in range(tries):
        hints = rng.choice(hinted)
        attempt = _Attempt(
            rule, rng, dtype, {k: v.replace("f32", dtype) if isinstance(v, str) else v for k, v in hints.items()}, ops
        )
        try:
            # The value is used once more, so that it may become one of the inputs.
            graph = attempt.builder.build([attempt.builder.add("identity", attempt.build(rule.lhs))])
            if rule.name == "drop_identity":
                graph = attempt.builder.build([attempt.builder.add("isnan", attempt.build(rule.lhs))])
            _, applied = apply_rules(graph, [rule], ops, exact_only=False)
        except (DrtError, KeyError, IndexError, TypeError, ValueError, ZeroDivisionError):
            continue
        if applied:
            return graph
    raise Unsatisfiable(f"no instance of {rule.name} in {tries} guesses")


__all__ = ["HINTS", "draw"]
