"""Random calls of an operator, drawn from the clauses of its definition by proposal and rejection."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
from drt.ir import (
    DTYPES,
    DrtError,
    Inferred,
    OpDef,
    TensorType,
    Unsatisfiable,
    VerifyError,
    evaluate,
    infer,
    present_key,
)
from drt.ir.expr import Bin, Call, Cond, Expr, Load, Pack, Sym, children, to_text

SIZES = (1, 2, 2, 3, 3, 4, 5, 6)
FLOATS = (0.5, 1.0, 2.0, 0.1, 1e-3, 0.0, -0.5)


@attrs.frozen
class Instance:
    """One call that the definition accepts (or, where so asked for, does not)."""

    op: OpDef
    types: tuple[Any, ...]
    attributes: dict[str, Any] = attrs.field(hash=False)

    def infer(self) -> Inferred:
        return infer(self.op, self.types, self.attributes)

    def __str__(self) -> str:
        shown = ", ".join(_show(t) for t in self.types)
        named = ", ".join(f"{k}={v}" for k, v in self.attributes.items())
        return f"{self.op.name}({shown}{'; ' + named if named else ''})"


def _show(t: Any) -> str:
    return f"[{', '.join(map(_show, t))}]" if isinstance(t, tuple) else str(t)


def draw(op: OpDef, rng: random.Random, tries: int = 400, **options: Any) -> Instance:
    """Return a call that ``op`` accepts.

    Raises:
        Unsatisfiable: none was found in ``tries`` proposals.
    """
    last = ""
    for _ in range(tries):
        try:
            instance = propose(op, rng, **options)
            instance.infer()
            return instance
        except (DrtError, *EVALUATION) as error:
            last = str(error)
    raise Unsatisfiable(f"no call found in {tries} proposals; the last was refused: {last}", subject=op.name)


def draw_violation(op: OpDef, label: str, rng: random.Random, tries: int = 3000) -> Instance:
    """Return a call that breaks the constraint ``label`` of ``op`` and no other.

    Raises:
        Unsatisfiable: none was found; the constraint may follow from the others.
    """
    others = tuple(c for c in op.constraints if c.label != label)
    (broken,) = (c for c in op.constraints if c.label == label)
    last = attrs.evolve(op, constraints=(*others, broken))
    for _ in range(tries):
        try:
            instance = propose(op, rng, leave=label, repair=0.9, zeros=0.2)
            infer(last, instance.types, instance.attributes)
        except VerifyError as error:
            if error.label == f"{op.name}_{label}":
                return instance
        except (DrtError, *EVALUATION):
            continue
    raise Unsatisfiable(f"no call breaks {label} alone in {tries} proposals", subject=op.name)


#: What evaluating a clause on values that do not fit may raise.
EVALUATION = (KeyError, IndexError, TypeError, ValueError, ZeroDivisionError)


def propose(
    op: OpDef,
    rng: random.Random,
    *,
    leave: str = "",
    repair: float = 0.95,
    dtypes: Mapping[str, str] | None = None,
    small: bool = False,
    zeros: float = 0.0,
    turn: int | None = None,
) -> Instance:
    """Return a call that fits the signature; constraints are met by chance and, mostly, by solving equations for a name.

    Args:
        op: the definition.
        rng: source of randomness.
        leave: a constraint that is left to chance.
        repair: probability that an equation is solved.
        dtypes: fixed dtype variables.
        small: prefer rank at most 2.
        zeros: probability that the shape that others are derived from has a size 0; half of it for each other size.
        turn: number of the draw; enums and flags then mostly take their values in turn, so that few draws see all.
    """
    env: dict[str, Any] = {n: n for n in DTYPES}
    for variable, allowed in op.dtypes.items():
        usual = [d for d in ("f32", "i64", "bool") if d in allowed]
        pick = rng.choice(usual) if usual and rng.random() < 0.7 else rng.choice(sorted(allowed))
        env[variable] = (dtypes or {}).get(variable, pick)
    base = _shape(rng, 2 if small else 4)
    if base and rng.random() < zeros:
        at = rng.randrange(len(base))
        base = (*base[:at], 0, *base[at + 1 :])
    for p in op.operands:
        env[present_key(p.name)] = not p.optional or rng.random() < 0.6
        for d in p.shape:
            if isinstance(d, Sym):
                env.setdefault(d.name, 0 if rng.random() < zeros / 2 else _size(rng, env))
            elif isinstance(d, Pack):
                if p.variadic:
                    env.setdefault(d.name, _shapes(rng, base))
                else:
                    env.setdefault(d.name, _variant(rng, base))
    for place, a in enumerate(op.attributes):
        values = a.choices or ((False, True) if a.kind == "bool" else ())
        if values and turn is not None and rng.random() < 0.8:
            env[a.name] = values[(turn + place * (turn // len(values))) % len(values)]
        else:
            env[a.name] = _attribute(op, a, env, rng)
    constraints = [c for c in op.constraints if c.label != leave]
    rng.shuffle(constraints)
    for c in constraints:
        if rng.random() < repair:
            _repair(op, c.expr, env, rng)
    for let in op.lets:
        env[let.name] = _try(let.expr, env)
    types: list[Any] = []
    for p in op.operands:
        if not env[present_key(p.name)]:
            types.append(None)
        elif p.variadic:
            (pack,) = p.shape
            types.append(tuple(TensorType(env.get(p.dtype, p.dtype), s) for s in env[pack.name]))  # type: ignore[union-attr]
        else:
            shape: list[int] = []
            for d in p.shape:
                v = evaluate(d, env)
                shape += v if isinstance(v, tuple) else [v]
            if any(s < 0 for s in shape):
                raise Unsatisfiable("negative size", subject=op.name)
            types.append(TensorType(env.get(p.dtype, p.dtype), tuple(shape)))
    return Instance(op, tuple(types), {a.name: env[a.name] for a in op.attributes})


# -- proposals --------------------------------------------------------------------------------------------------------


def _shape(rng: random.Random, most: int = 4) -> tuple[int, ...]:
    return tuple(rng.choice(SIZES) for _ in range(rng.choice([0, 1, 2, 2, 3, 3, 4][: most + 3])))


def _size(rng: random.Random, env: Mapping[str, Any]) -> int:
    known = [v for k, v in env.items() if k[:1].isupper() and isinstance(v, int)]
    return rng.choice(known) if known and rng.random() < 0.4 else rng.choice((*SIZES, 8))


def _variant(rng: random.Random, base: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape that is likely to go together with ``base``."""
    match rng.randrange(8):
        case 0:
            return _shape(rng)
        case 1:
            return base[rng.randint(0, len(base)) :]
        case 2:
            return base[: rng.randint(0, len(base))]
        case 3 | 4:
            wide = tuple(1 if rng.random() < 0.4 else s for s in base)
            return wide[rng.randint(0, len(wide)) :] if rng.random() < 0.4 else wide
    return base


def _shapes(rng: random.Random, base: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Return one to three shapes that are equal, or differ along one axis, or (rarely) anyhow."""
    n = rng.randint(1, 3)
    kind = rng.random()
    if kind < 0.4 or not base:
        return (base,) * n
    if kind < 0.9:
        axis = rng.randrange(len(base))
        return tuple((*base[:axis], rng.choice(SIZES), *base[axis + 1 :]) for _ in range(n))
    return tuple(_variant(rng, base) for _ in range(n))


def _attribute(op: OpDef, a: Any, env: Mapping[str, Any], rng: random.Random) -> Any:
    if a.optional and rng.random() < 0.3:
        return None
    if a.default is not None and rng.random() < 0.25:
        return evaluate(a.default, env)
    lo, hi = (_try(a.lo, env), _try(a.hi, env)) if a.lo is not None else (None, None)
    match a.kind:
        case "bool":
            return rng.random() < 0.5
        case "enum":
            return rng.choice(a.choices)
        case "dtype":
            return rng.choice(("f32", "f32", "i64", "bool", "f16", "f64", "i32"))
        case "str":
            return evaluate(a.default, env) if a.default is not None else ""
        case "float":
            return _within(rng, [float(f) for f in FLOATS], lo, hi)
        case "number":
            floating = not op.dtypes or any(env[v] in ("f32", "f64", "f16", "bf16") for v in op.dtypes)
            # A number that must be whole for integers is said to be so by a constraint.
            floating = floating or any("is_whole" in to_text(c.expr) for c in op.constraints)
            return _within(rng, [2, 1, 3, 2, 1, 0, -1, *(FLOATS if floating or rng.random() < 0.1 else ())], lo, hi)
        case "int":
            return _integer(rng, lo, hi, env)
        case "axis":
            rank = len(env.get(a.of, ()))
            return rng.randrange(rank) if rank else 0
        case "axes":
            rank = len(env.get(a.of, ()))
            return tuple(sorted(rng.sample(range(rank), rng.randint(0, rank))))
        case "ints":
            if a.length is not None:
                if rng.random() < 0.4:
                    return (_integer(rng, lo, hi, env),) * a.length
                return tuple(_integer(rng, lo, hi, env) for _ in range(a.length))
            return _integers(rng, lo, hi, env)
    raise TypeError(a.kind)


def _within(rng: random.Random, choices: list[Any], lo: Any, hi: Any) -> Any:
    fitting = [c for c in choices if (lo is None or c >= lo) and (hi is None or c <= hi)]
    if fitting:
        return rng.choice(fitting)
    return lo if isinstance(lo, int) else rng.uniform(lo, hi)


def _integer(rng: random.Random, lo: Any, hi: Any, env: Mapping[str, Any]) -> int:
    if lo is None:
        sizes = _sizes(env)
        return rng.choice(sizes) if sizes and rng.random() < 0.4 else rng.randint(-3, 4)
    # Small steps leave room for the others: a window of two by two, two apart, still fits into a small picture.
    reach = rng.choice((1, 1, 2, 4, 4, 12))
    return rng.randint(lo, max(lo, min(hi, lo + reach)))


def _sizes(env: Mapping[str, Any]) -> list[int]:
    found = []
    for k, v in env.items():
        if k[:1].isupper() and isinstance(v, int):
            found.append(v)
        elif k[:1].isupper() and isinstance(v, tuple):
            found += [s for s in v if isinstance(s, int)]
    return found


def _packs(env: Mapping[str, Any]) -> list[tuple[int, ...]]:
    return [
        v for k, v in env.items() if k[:1].isupper() and isinstance(v, tuple) and all(isinstance(s, int) for s in v)
    ]


def _integers(rng: random.Random, lo: Any, hi: Any, env: Mapping[str, Any]) -> tuple[int, ...]:
    """Return a list: an order of axes, a shape with as many elements, a tail of a shape, or numbers in the domain."""
    packs = _packs(env)
    shape = rng.choice(packs) if packs else ()
    rank = len(shape)
    match rng.randrange(6):
        case 0:
            return tuple(rng.sample(range(rank), rank))
        case 1:
            return _factors(rng, math.prod(shape))
        case 2:
            return shape[rng.randint(0, rank) :]
        case 3:
            return (
                *(rng.choice(SIZES) for _ in range(rng.randint(0, 2))),
                *(s if s > 1 else rng.choice(SIZES) for s in shape),
            )
        case 4:
            return _partition(rng, rng.choice(shape) if shape else 4)
    low = rng.choice((0, 0, -4)) if lo is None else lo
    return tuple(_integer(rng, low, low + 3 if hi is None else hi, env) for _ in range(rank))


def _factors(rng: random.Random, n: int) -> tuple[int, ...]:
    out = []
    while n > 1:
        d = rng.choice([k for k in range(2, n + 1) if n % k == 0])
        out.append(d)
        n //= d
    for _ in range(rng.choice((0, 0, 1))):
        out.insert(rng.randint(0, len(out)), 1)
    return tuple(out)


def _partition(rng: random.Random, n: int) -> tuple[int, ...]:
    out = []
    while n > 0:
        d = rng.randint(1, n)
        out.append(d)
        n -= d
    return tuple(out)


# -- repairs ----------------------------------------------------------------------------------------------------------


def _try(e: Expr | None, env: Mapping[str, Any]) -> Any:
    try:
        return None if e is None else evaluate(e, env)
    except (DrtError, *EVALUATION):
        return None


def _equations(e: Expr, env: Mapping[str, Any]) -> Iterator[Bin]:
    """Yield the equations whose truth makes ``e`` true, as far as it is a conjunction; one side of an ``or``."""
    match e:
        case Bin("and", a, b):
            yield from _equations(a, env)
            yield from _equations(b, env)
        case Bin("or", a, b):
            if _try(a, env) is not True:
                yield from _equations(b, env)
        case Cond(test, a, b):
            yield from _equations(a if _try(test, env) else b, env)
        case Bin("==", _, _):
            yield e


def _repair(op: OpDef, e: Expr, env: dict[str, Any], rng: random.Random) -> None:
    """Solve the equations of a constraint for a dimension, a pack or an attribute that stands alone on one side."""
    lets = {let.name: let.expr for let in op.lets}
    for let in op.lets:
        env[let.name] = _try(let.expr, env)
    free = {d.name for p in op.operands for d in p.shape if isinstance(d, (Sym, Pack))} | {
        a.name for a in op.attributes
    }
    for equation in _equations(e, env):
        sides = [(equation.a, equation.b), (equation.b, equation.a)]
        rng.shuffle(sides)
        for target, source in sides:
            if isinstance(target, Sym) and target.name in lets and target.name not in free:
                target = lets[target.name]
            value = _try(source, env)
            if value is None:
                continue
            if isinstance(target, Bin) and target.op == "%" and value == 0 and isinstance(target.a, Sym):
                # A size that must be a multiple becomes one, rather than its factors ones.
                target, factor = target.a, _try(target.b, env)
                if not isinstance(factor, int) or factor < 1 or target.name not in free:
                    continue
                value = factor * rng.randint(1, max(1, 8 // factor))
            if isinstance(target, Sym) and target.name in free:
                if isinstance(value, (int, tuple)) and type(value) is type(env[target.name]):
                    env[target.name] = value
                    break
            if (
                isinstance(target, Call)
                and target.fn == "len"
                and isinstance(target.args[0], Sym)
                and isinstance(value, int)
            ):
                whole = env.get(target.args[0].name)
                if target.args[0].name in free and isinstance(whole, tuple) and 0 <= value <= 16:
                    filler = whole or (0, 1)
                    env[target.args[0].name] = tuple((*whole, *(rng.choice(filler) for _ in range(value)))[:value])
                    break
            if isinstance(target, Load) and isinstance(env.get(target.name), tuple) and len(target.index) == 1:
                at = _try(target.index[0], env)
                whole = env[target.name]
                if isinstance(at, int) and isinstance(value, int) and -len(whole) <= at < len(whole):
                    env[target.name] = (*whole[:at], value, *whole[at + 1 :]) if at >= 0 else whole
                    break


def loads(e: Expr) -> Iterator[Load]:
    """Yield every load in ``e``."""
    if isinstance(e, Load):
        yield e
    for c in children(e):
        yield from loads(c)


__all__ = ["Instance", "draw", "draw_violation", "loads", "propose"]
