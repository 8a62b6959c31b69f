"""Reading 1 of an expression: its value over sizes, lists, flags and dtypes.

Values are ints, :class:`~drt.ir.size.Size`, bools, strings, None and tuples of these.  Functions on tuples only use Python's
arithmetic on the elements, so the same code evaluates index expressions over coordinates of any kind (symbolic sizes,
tensors of coordinates, pieces of source text with operators).

A comparison of symbolic sizes may be undecided; it is then :data:`UNKNOWN`, and ``and``, ``or``, ``not`` follow Kleene's
three-valued logic.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from . import expr as ex
from .errors import Unsupported
from .size import Size, compare, floordiv, maximum, minimum, modulo
from .typesys import DTYPE_CLASSES, DTYPES, UNIT_ROUNDOFF


class _Unknown(enum.Enum):
    UNKNOWN = "unknown"

    def __repr__(self) -> str:
        return "UNKNOWN"


#: The truth value of a comparison that depends on symbols.
UNKNOWN = _Unknown.UNKNOWN
Truth = bool | _Unknown
Env = Mapping[str, Any]


def present_key(name: str) -> str:
    """Return the environment key that says whether the optional operand ``name`` is given."""
    return f"present({name})"


# -- logic ----------------------------------------------------------------------------------------------------------


def _is_size(v: Any) -> bool:
    return isinstance(v, (int, Size)) and not isinstance(v, bool)


#: Takes ``(relation, a, b)`` of a comparison that depends on symbols and gives the truth value to go on with.
Decider = Callable[[str, Any, Any], Truth]
_decider: Decider | None = None


@contextmanager
def assuming(decider: Decider) -> Iterator[None]:
    """Let ``decider`` answer every comparison that depends on symbols, which is :data:`UNKNOWN` otherwise.

    Evaluating a clause once for each sequence of answers executes it symbolically: the answers that make it true are the
    conditions under which it holds.
    """
    global _decider
    before, _decider = _decider, decider
    try:
        yield
    finally:
        _decider = before


def _undecided(op: str, a: Any, b: Any) -> Truth:
    return UNKNOWN if _decider is None else _decider(op, a, b)


def equal(a: Any, b: Any) -> Truth:
    """Return whether two values are equal, elementwise for tuples of sizes."""
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        if len(a) != len(b):
            return False
        return conjunction(equal(x, y) for x, y in zip(a, b, strict=True))
    if _is_size(a) and _is_size(b):
        order = compare("==", a, b)
        return _undecided("==", a, b) if order is None else order
    return bool(a == b) and isinstance(a, bool) == isinstance(b, bool)


def conjunction(truths: Any) -> Truth:
    """Return Kleene's ``and`` over an iterable."""
    result: Truth = True
    for t in truths:
        if t is UNKNOWN:
            result = UNKNOWN
        elif not t:
            return False
    return result


def negation(t: Truth) -> Truth:
    """Return Kleene's ``not``."""
    return UNKNOWN if t is UNKNOWN else not t


def relate(op: str, a: Any, b: Any) -> Truth:
    """Return the truth of ``a op b``; equality also of lists, strings and flags."""
    if op == "==":
        return equal(a, b)
    if op == "!=":
        return negation(equal(a, b))
    if isinstance(a, Size) or isinstance(b, Size):
        order = compare(op, a, b)
        return _undecided(op, a, b) if order is None else order
    return {"<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}[op]


# -- functions ------------------------------------------------------------------------------------------------------


def broadcast(*shapes: Sequence[Any]) -> tuple[Any, ...]:
    """Return the NumPy broadcast of shapes, which must be broadcastable; a symbolic size counts as different from 1."""
    rank = max(map(len, shapes), default=0)
    out = []
    for i in range(rank):
        sizes = [s[len(s) - rank + i] for s in shapes if len(s) - rank + i >= 0]
        wide = [s for s in sizes if not (isinstance(s, int) and s == 1)]
        out.append(wide[0] if wide else 1)
    return tuple(out)


def broadcastable(*shapes: Sequence[Any]) -> Truth:
    """Return whether shapes broadcast together (NumPy's rule)."""
    rank = max(map(len, shapes), default=0)
    truths: list[Truth] = []
    for i in range(rank):
        sizes = [s[len(s) - rank + i] for s in shapes if len(s) - rank + i >= 0]
        wide = [s for s in sizes if not (isinstance(s, int) and s == 1)]
        truths += [equal(s, wide[0]) for s in wide[1:]]
    return conjunction(truths)


def align(index: Sequence[Any], shape: Sequence[Any]) -> tuple[Any, ...]:
    """Return the coordinates in ``shape`` of the element that broadcasting shows at ``index``."""
    tail = tuple(index)[len(index) - len(shape) :]
    return tuple(0 if isinstance(s, int) and s == 1 else i for i, s in zip(tail, shape, strict=True))


def ravel(index: Sequence[Any], shape: Sequence[Any]) -> Any:
    """Return the row-major position of ``index`` in ``shape``."""
    position: Any = 0
    for i, s in zip(index, shape, strict=True):
        position = position * s + i
    return position


def unravel(position: Any, shape: Sequence[Any]) -> tuple[Any, ...]:
    """Return the coordinates in ``shape`` of row-major ``position``."""
    out: list[Any] = []
    for k, s in enumerate(reversed(tuple(shape))):
        outermost = k == len(shape) - 1
        out.append(position if outermost else position % s)
        position = position if outermost else position // s
    return tuple(reversed(out))


def _axes(axes: Any) -> tuple[int, ...]:
    return tuple(axes) if isinstance(axes, (tuple, list)) else (axes,)


def reduced(shape: Sequence[Any], axes: Any, keepdim: bool) -> tuple[Any, ...]:
    """Return the shape left by a reduction over ``axes`` (one axis or a list)."""
    dropped = _axes(axes)
    if keepdim:
        return tuple(1 if i in dropped else s for i, s in enumerate(shape))
    return tuple(s for i, s in enumerate(shape) if i not in dropped)


def replace(values: Sequence[Any], position: int, value: Any) -> tuple[Any, ...]:
    """Return ``values`` with one element replaced."""
    return (*values[:position], value, *values[position + 1 :])


def insert(values: Sequence[Any], position: int, value: Any) -> tuple[Any, ...]:
    """Return ``values`` with ``value`` inserted before ``position``."""
    return (*values[:position], value, *values[position:])


def remove(values: Sequence[Any], axes: Any) -> tuple[Any, ...]:
    """Return ``values`` without the positions ``axes``."""
    return reduced(values, axes, False)


def permuted(values: Sequence[Any], order: Sequence[int]) -> tuple[Any, ...]:
    """Return ``values[order[0]], values[order[1]], ...``."""
    return tuple(values[p] for p in order)


def inverse(order: Sequence[int]) -> tuple[int, ...]:
    """Return the inverse permutation."""
    out = [0] * len(order)
    for i, p in enumerate(order):
        out[p] = i
    return tuple(out)


def _minus(a: Sequence[Any], b: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(x - y for x, y in zip(a, b, strict=True))


def _plus(a: Sequence[Any], b: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(x + y for x, y in zip(a, b, strict=True))


def _product(values: Sequence[Any]) -> Any:
    return math.prod(values)


def _total(values: Sequence[Any]) -> Any:
    out: Any = 0
    for v in values:
        out = out + v
    return out


def _extremum(pick: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    def f(*values: Any) -> Any:
        items = values[0] if len(values) == 1 and isinstance(values[0], (tuple, list)) else values
        best = items[0]
        for v in items[1:]:
            best = pick(best, v) if isinstance(best, Size) or isinstance(v, Size) else (
                min(best, v) if pick is minimum else max(best, v)
            )  # fmt: skip
        return best

    return f


def _times(a: Sequence[Any], b: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(_scaled(x, y) for x, y in zip(a, b, strict=True))


def _scaled(x: Any, y: Any) -> Any:
    # A symbolic size times a whole factor is a size; numbers stay what Python makes of them.
    if isinstance(x, Size) and isinstance(y, float) and y.is_integer():
        return x * int(y)
    return x * y


def _remainders(a: Sequence[Any], b: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(x if isinstance(y, int) and y == 0 else x % y for x, y in zip(a, b, strict=True))


def within(a: Sequence[Any], b: Sequence[Any]) -> Truth:
    """Return whether two lists have one length and no element of ``a`` exceeds its partner in ``b``."""
    return len(a) == len(b) and conjunction(relate("<=", x, y) for x, y in zip(a, b, strict=True))


def agree(shapes: Sequence[Sequence[Any]], axis: int) -> Truth:
    """Return whether shapes are equal but for one axis."""
    first = shapes[0]
    if any(len(s) != len(first) for s in shapes):
        return False
    return conjunction(equal(remove(s, axis), remove(first, axis)) for s in shapes[1:])


def resolved(shape: Sequence[Any], old: Sequence[Any]) -> tuple[Any, ...]:
    """Return the sizes of a reshape; one of them may be -1, for what the others leave of ``old``."""
    known = math.prod(s for s in shape if not (isinstance(s, int) and s == -1))
    return tuple(floordiv(math.prod(old), known) if isinstance(s, int) and s == -1 else s for s in shape)


def widened(shape: Sequence[Any], old: Sequence[Any]) -> tuple[Any, ...]:
    """Return the sizes of an expansion of ``old``, in which -1 stands for a size that stays."""
    start = len(shape) - len(old)
    return tuple(old[i - start] if isinstance(s, int) and s == -1 else s for i, s in enumerate(shape))


def swapped(values: Sequence[Any], i: int, j: int) -> tuple[Any, ...]:
    """Return ``values`` with two elements exchanged."""
    out = list(values)
    out[i], out[j] = out[j], out[i]
    return tuple(out)


def moved(n: int, sources: Any, targets: Any) -> tuple[int, ...]:
    """Return the permutation of ``n`` axes that puts ``sources`` at ``targets`` and keeps the order of the others."""
    places = {t % n: s % n for s, t in zip(_axes(sources), _axes(targets), strict=True)}
    rest = iter(i for i in range(n) if i not in places.values())
    return tuple(places[i] if i in places else next(rest) for i in range(n))


def flattened(shape: Sequence[Any], start: int, end: int) -> tuple[Any, ...]:
    """Return ``shape`` with the axes ``start..end`` (both included) merged."""
    if not shape:
        return (1,)
    start, end = start % len(shape), end % len(shape)
    return (*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :])


def clipped(position: Any, size: Any, missing: Any) -> Any:
    """Return an end of a Python slice as a position in ``0..size``; None stands for ``missing``."""
    if position is None:
        return missing
    if isinstance(position, int) and position < 0:
        position = maximum(position + size, 0)
    return minimum(position, size)


def units(shape: Sequence[Any], axes: Any) -> tuple[int, ...]:
    """Return those of ``axes`` (which may count from the end) along which the size is 1, ascending."""
    wanted = {a % len(shape) for a in _axes(axes)} if shape else set()
    return tuple(i for i in sorted(wanted) if isinstance(shape[i], int) and shape[i] == 1)


def pad_before(padding: Sequence[Any], n: int) -> tuple[Any, ...]:
    """Return what PyTorch's padding list ``[last before, last after, ...]`` puts before each of ``n`` axes."""
    given = tuple(padding[0::2])
    return (0,) * (n - len(given)) + given[::-1]


def pad_after(padding: Sequence[Any], n: int) -> tuple[Any, ...]:
    """Return what PyTorch's padding list puts after each of ``n`` axes."""
    given = tuple(padding[1::2])
    return (0,) * (n - len(given)) + given[::-1]


def flipped(index: Sequence[Any], shape: Sequence[Any], axes: Any) -> tuple[Any, ...]:
    """Return ``index`` counted from the other end along ``axes``."""
    turned = _axes(axes)
    return tuple(s - 1 - i if k in turned else i for k, (i, s) in enumerate(zip(index, shape, strict=True)))


def rolled(index: Sequence[Any], shape: Sequence[Any], shifts: Sequence[Any], axes: Sequence[int]) -> tuple[Any, ...]:
    """Return where the element comes from that a cyclic shift along ``axes`` brings to ``index``."""
    out = list(index)
    for shift, axis in zip(shifts, axes, strict=True):
        out[axis] = (out[axis] - shift) % shape[axis]
    return tuple(out)


def resampled(index: Sequence[Any], new: Sequence[Any], old: Sequence[Any]) -> tuple[Any, ...]:
    """Return the nearest coordinates, rounded down, in a grid of ``old`` sizes of ``index`` in one of ``new`` sizes."""
    return tuple((i * o) // n for i, n, o in zip(index, new, old, strict=True))


def pooled(n: Any, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> Any:
    """Return the number of pooling windows along an axis of ``n`` elements.

    Rounded up, the last window must still start inside the axis or its padding before it.
    """
    room = n + 2 * padding - dilation * (kernel - 1) - 1
    if not ceil_mode:
        return floordiv(room, stride) + 1
    count = -floordiv(-room, stride) + 1
    late = relate(">=", (count - 1) * stride, n + padding)
    if late is UNKNOWN:
        raise Unsupported(f"number of pooling windows over {n} elements depends on a symbolic size")
    return count - 1 if late else count


def recurrent_shapes(
    gates: int, layers: int, ways: int, n: Any, hidden: Any, output: Any, biases: bool
) -> tuple[Any, ...]:
    """Return the shapes of a recurrent network's weights in PyTorch's order.

    Args:
        gates: affine maps in a step (4 in a long short-term memory).
        layers: one upon the other.
        ways: directions, 1 or 2.
        n: size of the operand.
        hidden: size of the state.
        output: size of the output; a projection has weights of its own where it is not ``hidden``.
        biases: whether each affine map has one.
    """
    shapes: list[Any] = []
    for layer in range(layers):
        for _ in range(ways):
            shapes += [(gates * hidden, n if layer == 0 else output * ways), (gates * hidden, output)]
            shapes += [(gates * hidden,)] * 2 if biases else []
            shapes += [] if equal(output, hidden) is True else [(output, hidden)]
    return tuple(shapes)


def machine_epsilon(dtype: str) -> float:
    """Return the distance from 1 to the next number of a float dtype."""
    return 2 * UNIT_ROUNDOFF[dtype]


def _is_permutation(order: Sequence[int], n: int) -> bool:
    return sorted(order) == list(range(n))


def _class_of(name: str) -> Callable[[str], bool]:
    return lambda dtype: dtype in DTYPE_CLASSES[name]


#: Functions of size, attribute and index expressions.
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "rank": len,
    "len": len,
    "prod": _product,
    "total": _total,
    "max": _extremum(maximum),
    "min": _extremum(minimum),
    "abs": abs,
    "ceildiv": lambda a, b: -(-a // b),
    "range": lambda a, b: tuple(range(a, b)),
    "repeat": lambda v, n: (v,) * n,
    "concat": lambda *parts: tuple(x for p in parts for x in p),
    "head": lambda values, n: tuple(values[:n]),
    "tail": lambda values, n: tuple(values[n:]),
    "contains": lambda values, v: v in values,
    "unique": lambda values: len(set(values)) == len(values),
    "is_permutation": _is_permutation,
    "broadcast": broadcast,
    "broadcastable": broadcastable,
    "reduced": reduced,
    "set": replace,
    "insert": insert,
    "remove": remove,
    "permuted": permuted,
    "inverse": inverse,
    "align": align,
    "ravel": ravel,
    "unravel": unravel,
    "minus": _minus,
    "plus": _plus,
    "is_float": _class_of("float"),
    "is_int": _class_of("int"),
    "is_bool": lambda dtype: dtype == "bool",
    "is_whole": _is_size,
    # PyTorch sums and multiplies integers and booleans in 64 bits.
    "sum_dtype": lambda dtype: dtype if dtype in DTYPE_CLASSES["float"] else "i64",
    "column": lambda shapes, axis: tuple(s[axis] for s in shapes),
    "agree": agree,
    "times": _times,
    "remainders": _remainders,
    "within": within,
    "resolved": resolved,
    "widened": widened,
    "swapped": swapped,
    "moved": moved,
    "flattened": flattened,
    "clipped": clipped,
    "units": units,
    "cuts": lambda values: tuple(minimum(v, 0) for v in values),
    "pad_before": pad_before,
    "pad_after": pad_after,
    "flipped": flipped,
    "rolled": rolled,
    "resampled": resampled,
    "pooled": pooled,
    "recurrent_shapes": recurrent_shapes,
    "epsilon": machine_epsilon,
    "reversed": lambda values: tuple(reversed(values)),
    "ceiling": lambda v: v if isinstance(v, Size) else math.ceil(v),
    "whole": lambda values: tuple(v if isinstance(v, Size) else int(v) for v in values),
}


def _exact_division(a: Any, b: Any) -> Any:
    """Return ``a / b`` for sizes; only whole quotients are sizes."""
    if modulo(a, b) != 0:
        raise Unsupported(f"({a}) / ({b}) is not a size")
    return floordiv(a, b)


def _arithmetic(op: str, a: Any, b: Any) -> Any:
    match op:
        case "+":
            return (*a, *b) if isinstance(a, tuple) and isinstance(b, tuple) else a + b
        case "-":
            return a - b
        case "*":
            return a * b
        case "//":
            return floordiv(a, b) if _is_size(a) and _is_size(b) else a // b
        case "%":
            return modulo(a, b) if _is_size(a) and _is_size(b) else a % b
        case "/":
            return _exact_division(a, b) if isinstance(a, Size) or isinstance(b, Size) else a / b
        case "**":
            return a**b
    raise TypeError(op)


def evaluate(e: ex.Expr, env: Env, functions: Mapping[str, Callable[..., Any]] = FUNCTIONS) -> Any:
    """Return the value of ``e``.

    Args:
        e: an expression without folds.
        env: values of its names; ``present(x)`` flags under :func:`present_key`.
        functions: meanings of the function names.

    Raises:
        KeyError: a name or function is not known.
        Unsupported: a condition depends on a symbolic size.
    """
    match e:
        case ex.Num(v):
            return v
        case ex.Sym(n) | ex.Pack(n):
            if n not in env and n in DTYPES:
                return n
            return env[n]
        case ex.Bin("and", a, b):
            return conjunction(evaluate(x, env, functions) for x in (a, b))
        case ex.Bin("or", a, b):
            return negation(conjunction(negation(evaluate(x, env, functions)) for x in (a, b)))
        case ex.Bin("==" | "!=" | "<" | "<=" | ">" | ">=" as op, a, b):
            return relate(op, evaluate(a, env, functions), evaluate(b, env, functions))
        case ex.Bin(op, a, b):
            return _arithmetic(op, evaluate(a, env, functions), evaluate(b, env, functions))
        case ex.Unary("not", a):
            return negation(evaluate(a, env, functions))
        case ex.Unary(_, a):
            return -evaluate(a, env, functions)
        case ex.Lst(items):
            return _splice(items, env, functions)
        case ex.Load(n, items):
            value = env[n]
            for i in _splice(items, env, functions):
                value = value[i]
            return value
        case ex.Cond(test, a, b):
            return evaluate(a if decide(test, env, functions) else b, env, functions)
        case ex.Call("present", (ex.Sym(n),), ()):
            return env[present_key(n)]
        case ex.Call(fn, args, kwargs):
            f = functions[fn]
            return f(*_splice(args, env, functions), **{k: evaluate(v, env, functions) for k, v in kwargs})
    raise Unsupported(f"'{ex.to_text(e)}' has no value here")


def _splice(items: tuple[ex.Expr, ...], env: Env, functions: Mapping[str, Callable[..., Any]]) -> tuple[Any, ...]:
    out: list[Any] = []
    for item in items:
        value = evaluate(item, env, functions)
        out.extend(value) if isinstance(item, ex.Pack) else out.append(value)
    return tuple(out)


def decide(test: ex.Expr, env: Env, functions: Mapping[str, Callable[..., Any]] = FUNCTIONS) -> bool:
    """Return the truth of a compile-time condition; raises Unsupported where it depends on a symbolic size."""
    truth = evaluate(test, env, functions)
    if truth is UNKNOWN:
        raise Unsupported(f"condition '{ex.to_text(test)}' depends on a symbolic size")
    return bool(truth)


def partial(e: ex.Expr, env: Env) -> ex.Expr:
    """Return ``e`` with everything folded that ``env`` decides.

    Conditionals lose their dead branch; attributes and static sizes become literals; ``where(test, a, b)`` with a decided
    test becomes its branch.  Names that ``env`` lacks (tensor operands, index variables) stay, and a size that is symbolic
    stays as its name.
    """
    if isinstance(e, ex.Cond):
        return partial(e.a if decide(e.test, env) else e.b, env)
    if isinstance(e, ex.Num):
        return e
    if not isinstance(e, (ex.Fold, ex.Pack)) and _decided(e, env):
        try:
            literal = _as_literal(evaluate(e, env))
        except (KeyError, TypeError, Unsupported):  # an intrinsic or a fold, which only the readings of bodies know
            literal = None
        if literal is not None:
            return literal
    folded = ex.map_children(e, lambda c: partial(c, env))
    match folded:
        case ex.Call("where", (ex.Num(test), a, b), ()) if isinstance(test, bool):
            return a if test else b
        case ex.Bin("and", ex.Num(bool(t)), b):
            return b if t else folded.a
        case ex.Bin("or", ex.Num(bool(t)), b):
            return folded.a if t else b
    return folded


def _decided(e: ex.Expr, env: Env) -> bool:
    if isinstance(e, ex.Call) and e.fn == "present":
        return True
    found = ex.names_once(e)
    return all(n in env for n in found) and not any(isinstance(c, (ex.Fold,)) for c in ex.children(e))


def _as_literal(value: Any) -> ex.Expr | None:
    if value is None or isinstance(value, (bool, int, float, str)):
        return ex.Num(value)
    if isinstance(value, (tuple, list)):
        items = [_as_literal(v) for v in value]
        return None if any(i is None for i in items) else ex.Lst(tuple(items))  # type: ignore[arg-type]
    return None
