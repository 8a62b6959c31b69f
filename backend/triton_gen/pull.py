"""Pull-style code generation: the value of any name at any coordinates, as Triton text.

Nothing is materialised: a view changes the coordinates at which its operand is asked for, an elementwise operator asks for
its operands at aligned coordinates and writes one statement, and an input becomes a masked load.  What cannot be written in
one expression, a reduction or a contraction, is a :class:`Site`: the family that drives the generation decides how its value
comes about.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import attrs

from ...ir import Literal, Node, Size, SizeLike, Unsupported
from ...ir import expr as ex
from ...ir.evaluate import FUNCTIONS, UNKNOWN, evaluate, present_key
from ...ir.intrinsics import INTRINSICS
from ...ir.opdef import Hook, Index, Reduce, Scalar
from ...ir.typesys import is_float
from . import scalars
from .coords import Space
from .program import Operand
from .program import Program as Program
from .writer import LEVELS, Val, Writer, computing, convert, literal

#: Folds over at most this many static positions are written out (pooling windows); longer ones are sites.
MAX_UNROLLED = 64

Coordinates: TypeAlias = "tuple[SizeLike, ...]"
Guard: TypeAlias = "tuple[Val, ...]"


@attrs.frozen(eq=False)
class Site:
    """A fold that a family has to schedule: ``combiner`` of ``body`` over ``ranges``, wanted at ``coordinates``.

    Attributes:
        key: equal for two demands of one and the same number.
        node: the node whose body has the fold.
        coordinates: those of the node's result.
        ranges: extents of the folded indices.
        body: (pull, indices, guard) -> the folded term, written through ``pull``.
        dtype: element type of the result.
        expr: the body of the fold in an index body; None for ``reduce``.
        env: the environment of ``expr``.
        variables: names of the folded indices in ``expr``.
    """

    key: tuple[Any, ...]
    node: Node
    combiner: str
    coordinates: Coordinates
    ranges: tuple[SizeLike, ...]
    body: Callable[[Pull, Sequence[SizeLike], Guard], Val]
    dtype: str
    expr: ex.Expr | None = None
    env: Mapping[str, Any] = attrs.field(factory=dict)
    variables: tuple[str, ...] = ()


Barrier: TypeAlias = "Callable[[Site], Val]"


class Pull:
    """Writes values of a program into a kernel.

    Args:
        program: the fragment.
        writer: the kernel.
        barrier: gives the value of a fold, or raises Unsupported.
    """

    def __init__(self, program: Program, writer: Writer, barrier: Barrier) -> None:
        self.program = program
        self.w = writer
        self.space: Space = writer.space
        self.barrier = barrier
        #: Values that come from elsewhere than their definition.
        self.bound: dict[str, Callable[[Coordinates, Guard], Val | None]] = {}
        #: Values whose folds are sites however short they are.
        self.sums: set[str] = set()

    # -- values -------------------------------------------------------------------------------------------------------
    def value(self, name: str, coordinates: Sequence[SizeLike], guard: Guard = ()) -> Val:
        """Return the value ``name`` at ``coordinates``, wherever ``guard`` holds."""
        key = (name, tuple(coordinates), guard)
        found = self.w.find(key)
        if found is not None:
            return found
        val = self._value(name, tuple(coordinates), guard)
        return self.w.remember(key, val)

    def _value(self, name: str, coordinates: Coordinates, guard: Guard) -> Val:
        if name in self.bound:
            special = self.bound[name](coordinates, guard)
            if special is not None:
                return special
        t = self.program.types[name]
        node = self.program.producers.get(name)
        if node is None:
            return self.w.load(name, t.dtype, self.space.ravel(coordinates, t.shape), guard)
        op = self.program.ops[node.op]
        body = op.body
        result = op.results[node.results.index(name)].name
        if isinstance(body, Scalar):
            env = self._operands(node, t.shape, coordinates, guard)
            val = self.scalar(dict(body.exprs)[result], env)
        elif isinstance(body, Reduce):
            val = self._reduce(node, body, name, coordinates, guard)
        elif isinstance(body, Index):
            env = self.index_env(node, body, coordinates)
            val = self._as_val(self.indexed(body.expr, env, guard, node))
        elif body == Hook("cat") or body == Hook("stack"):
            val = self._joined(node, coordinates, guard)
        else:
            raise Unsupported(f"operator {node.op} has no meaning that can be generated")
        return self.w.assign(name, self.typed(val, t.dtype))

    def typed(self, val: Val, dtype: str) -> Val:
        """Return ``val`` as the value of a node of type ``dtype``: floats stay as wide as they were computed."""
        if val.literal is not None:
            return val
        if is_float(dtype) and is_float(val.dtype) and (dtype == "f64") == (val.dtype == "f64"):
            return val
        target = "f32" if dtype in ("bf16", "f16") else dtype
        return convert(val, target)

    def _operands(self, node: Node, shape: Sequence[SizeLike], at: Coordinates, guard: Guard) -> dict[str, Any]:
        env = dict(self.program.env(node))
        for name, value in env.items():
            if isinstance(value, Operand):
                env[name] = self._broadcast(value.source, at, guard)
        return env

    def _broadcast(self, source: Any, at: Coordinates, guard: Guard) -> Any:
        if isinstance(source, Literal):
            return _number(self.space, source.value)
        if isinstance(source, tuple):
            return tuple(self._broadcast(s, at, guard) for s in source)
        return self.value(source, FUNCTIONS["align"](at, self.program.types[source].shape), guard)

    # -- scalar bodies ------------------------------------------------------------------------------------------------
    def scalar(self, e: ex.Expr, env: Mapping[str, Any]) -> Val:
        """Return the value of a scalar expression whose operands are :class:`Val` in ``env``."""
        return self._as_val(self._scalar(e, env))

    def _scalar(self, e: ex.Expr, env: Mapping[str, Any]) -> Any:
        match e:
            case ex.Num(v):
                return literal(v) if isinstance(v, (bool, int, float)) else v
            case ex.Sym(n):
                value = env.get(n, n)
                return literal(value) if isinstance(value, (bool, int, float)) else value
            case ex.Cond(test, a, b):
                return self._scalar(a if self._decide(test, env) else b, env)
            case ex.Bin(op, a, b):
                return self._combine(op, self._scalar(a, env), self._scalar(b, env))
            case ex.Unary(op, a):
                return scalars.unary(self.w, op, self._as_val(self._scalar(a, env)))
            case ex.Call("cast", (a, to), ()):
                return self._cast(self._as_val(self._scalar(a, env)), str(self._static(to, env)))
            case ex.Call(fn, args, ()) if fn in INTRINSICS:
                return scalars.call(self.w, fn, *(self._as_val(self._scalar(a, env)) for a in args))
            case ex.Load() | ex.Call():
                value = evaluate(e, env)
                return literal(value) if isinstance(value, (bool, int, float)) else value
        raise Unsupported(f"scalar expression '{ex.to_text(e)}'")

    def _combine(self, op: str, a: Any, b: Any) -> Val:
        return scalars.binary(self.w, op, self._as_val(a), self._as_val(b))

    def _static(self, e: ex.Expr, env: Mapping[str, Any]) -> Any:
        return evaluate(e, env)

    def _decide(self, test: ex.Expr, env: Mapping[str, Any]) -> bool:
        truth = evaluate(test, env)
        if truth is UNKNOWN or isinstance(truth, Val):
            raise Unsupported(f"condition '{ex.to_text(test)}' is not known when the kernel is written")
        return bool(truth)

    def _cast(self, val: Val, dtype: str) -> Val:
        if dtype in ("bf16", "f16"):
            # Rounding waits until the value is stored; a later cast back to f32 then loses nothing.
            return computing(val) if is_float(val.dtype) and val.dtype != "f64" else convert(val, "f32")
        if dtype in ("i8", "u8", "i32", "i64") and val.dtype in ("bf16", "f16"):
            return convert(computing(val), dtype)
        return convert(val, dtype)

    # -- reductions ---------------------------------------------------------------------------------------------------
    def _reduce(self, node: Node, body: Reduce, name: str, at: Coordinates, guard: Guard) -> Val:
        shape, axes, kept = self.program.reduction(node, body)
        outer = tuple(c for i, c in enumerate(at) if i not in axes) if kept else at
        ranges = tuple(shape[a] for a in axes)

        def term(pull: Pull, indices: Sequence[SizeLike], inner: Guard) -> Val:
            rest = iter(outer)
            folded = dict(zip(axes, indices, strict=True))
            full = tuple(folded[i] if i in folded else next(rest) for i in range(len(shape)))
            return pull.scalar(body.expr, pull._operands(node, shape, full, inner))

        dtype = self.program.types[name].dtype
        return self.barrier(Site((name, outer), node, body.combiner, outer, ranges, term, dtype))

    # -- index bodies -------------------------------------------------------------------------------------------------
    def index_env(self, node: Node, body: Index, at: Coordinates) -> dict[str, Any]:
        """Return the environment of an index body at the result's coordinates ``at``."""
        env = dict(self.program.env(node))
        packs = sum(isinstance(c, ex.Pack) for c in body.coordinates)
        width = len(at) - (len(body.coordinates) - packs)
        i = 0
        for c in body.coordinates:
            if isinstance(c, ex.Pack):
                env[c.name] = tuple(at[i : i + width])
                i += width
            else:
                assert isinstance(c, ex.Sym)
                env[c.name] = at[i]
                i += 1
        return env

    def indexed(self, e: ex.Expr, env: Mapping[str, Any], guard: Guard, node: Node) -> Any:
        """Return the meaning of a part of an index body: a coordinate, a static value, a tuple of these, or a Val."""

        def go(part: ex.Expr) -> Any:
            return self.indexed(part, env, guard, node)

        match e:
            case ex.Num(v):
                return v
            case ex.Sym(n) | ex.Pack(n):
                if n not in env:
                    return n
                value = env[n]
                if isinstance(value, Operand):
                    if isinstance(value.source, tuple):
                        return value
                    return self.value(value.source, (), guard) if isinstance(value.source, str) else value.source.value
                return value
            case ex.Lst(items):
                return self._spliced(items, env, guard, node)
            case ex.Cond(test, a, b):
                return go(a if self._decide(test, self._static_env(env)) else b)
            case ex.Unary(op, a):
                inner = go(a)
                if isinstance(inner, Val):
                    return scalars.unary(self.w, op, inner)
                return -inner if op == "-" else not inner
            case ex.Bin(op, a, b):
                return self._index_binary(op, go(a), go(b))
            case ex.Load(n, items):
                return self._load(n, items, env, guard, node, ())
            case ex.Fold():
                return self._fold(e, env, guard, node)
            case ex.Call(fn, args, kwargs):
                return self._call(fn, args, kwargs, env, guard, node)
        raise Unsupported(f"index expression '{ex.to_text(e)}'")

    def _static_env(self, env: Mapping[str, Any]) -> Mapping[str, Any]:
        return env

    def _spliced(self, items: Sequence[ex.Expr], env: Mapping[str, Any], guard: Guard, node: Node) -> tuple[Any, ...]:
        out: list[Any] = []
        for item in items:
            value = self.indexed(item, env, guard, node)
            out.extend(value) if isinstance(item, ex.Pack) or (
                isinstance(value, tuple) and not isinstance(item, ex.Lst)
            ) else out.append(value)
        return tuple(out)

    def _index_binary(self, op: str, a: Any, b: Any) -> Any:
        if isinstance(a, tuple) and isinstance(b, tuple) and op == "+":
            return (*a, *b)
        coordinates = all(isinstance(v, (int, Size)) and not isinstance(v, bool) for v in (a, b))
        if coordinates and op in ("+", "-", "*"):
            return a + b if op == "+" else a - b if op == "-" else a * b
        if coordinates and op in ("//", "%"):
            return self.space.floordiv(a, b) if op == "//" else self.space.modulo(a, b)
        if coordinates and op in scalars.COMPARISONS:
            return self.compare(op, a, b)
        if isinstance(a, str) or isinstance(b, str) or a is None or b is None:
            return (a == b) if op == "==" else (a != b)
        if not isinstance(a, Val) and not isinstance(b, Val) and not isinstance(a, Size) and not isinstance(b, Size):
            return scalars.binary(self.w, op, literal(a), literal(b)).literal
        if op in ("and", "or"):
            for x, y in ((a, b), (b, a)):
                if isinstance(x, bool):
                    return y if x == (op == "and") else x
        return scalars.binary(self.w, op, self._as_val(a), self._as_val(b))

    def compare(self, op: str, a: SizeLike, b: SizeLike) -> bool | Val:
        """Return a comparison of coordinates: decided where the ranges of the axes decide it."""
        s = self.space
        if op in (">", ">="):
            a, b, op = b, a, "<" if op == ">" else "<="
        if op in ("<", "<="):
            limit = b if op == "<" else b + 1
            if s.below(a - limit + 1, 1):
                return True
            if s.nonnegative(a - limit):
                return False
        elif a == b:
            return op == "=="
        return Val(f"{s.text(a, 1)} {op} {s.text(b, 1)}", "bool", s.depends(a) | s.depends(b), LEVELS[op])

    def _as_val(self, value: Any) -> Val:
        if isinstance(value, Val):
            return value
        if isinstance(value, (bool, int, float)):
            return literal(value)
        if isinstance(value, Size):
            axes = self.space.depends(value)
            return Val(self.space.text(value, 1), "i32", axes, LEVELS["+"] if len(value.terms) > 1 else LEVELS["*"])
        raise Unsupported(f"{value!r} is not a number")

    def as_coordinate(self, value: Any) -> SizeLike:
        """Return ``value`` as a coordinate; a computed integer becomes a named one of unknown range."""
        if isinstance(value, bool):
            return int(value)
        if isinstance(value, (int, Size)):
            return value
        if isinstance(value, Val):
            if isinstance(value.literal, int):
                return value.literal
            if is_float(value.dtype):
                raise Unsupported("a float as an index")
            named = self.w.assign("index", value)
            return self.space.load(named.text, named.axes)
        raise Unsupported(f"{value!r} as an index")

    def _load(
        self, n: str, items: Sequence[ex.Expr], env: Mapping[str, Any], guard: Guard, node: Node, conditions: Guard
    ) -> Any:
        value = env[n]
        index = self._spliced(items, env, guard, node)
        if not isinstance(value, Operand):
            for i in index:
                if not isinstance(i, int):
                    raise Unsupported(f"{n} indexed by a coordinate")
                value = value[i]
            return value
        source = value.source
        if isinstance(source, tuple):
            if not isinstance(index[0], int):
                raise Unsupported(f"the list {n} indexed by a coordinate")
            source, index = source[index[0]], index[1:]
        if isinstance(source, Literal):
            return _number(self.space, source.value)
        return self.value(source, tuple(self.as_coordinate(i) for i in index), guard + conditions)

    def _call(
        self, fn: str, args: Sequence[ex.Expr], kwargs: Any, env: Mapping[str, Any], guard: Guard, node: Node
    ) -> Any:
        if fn == "present":
            assert isinstance(args[0], ex.Sym)
            return env[present_key(args[0].name)]
        if fn == "pad":
            return self._pad(args[0], args[1], env, guard, node)
        if fn == "where":
            return self._where(args, env, guard, node)
        if fn == "cast":
            to = self.indexed(args[1], env, guard, node)
            return self._cast(self._as_val(self.indexed(args[0], env, guard, node)), str(to))
        values = tuple(
            v
            for a in args
            for v in (
                self.indexed(a, env, guard, node) if isinstance(a, ex.Pack) else (self.indexed(a, env, guard, node),)
            )
        )
        if fn == "ravel":
            return self.space.ravel(tuple(self.as_coordinate(v) for v in values[0]), values[1])
        if fn == "unravel":
            return self.space.unravel(self.as_coordinate(values[0]), values[1])
        if fn == "ceildiv":
            return -self.space.floordiv(-values[0], values[1])
        if fn in ("min", "max") and len(values) == 2 and all(isinstance(v, (int, Size)) for v in values):
            below = self.compare("<=", values[0], values[1])
            if isinstance(below, bool):
                return values[0] if below == (fn == "min") else values[1]
        numbers = any(isinstance(v, Val) for v in values)
        moving = any(isinstance(v, Size) and self.space.depends(v) for v in values)
        if fn in INTRINSICS and (numbers or fn not in FUNCTIONS or moving):
            return scalars.call(self.w, fn, *(self._as_val(v) for v in values))
        if fn in FUNCTIONS:
            return FUNCTIONS[fn](*values, **{k: self.indexed(v, env, guard, node) for k, v in kwargs})
        raise Unsupported(f"function {fn} in an index body")

    def _pad(self, inner: ex.Expr, outside: ex.Expr, env: Mapping[str, Any], guard: Guard, node: Node) -> Val:
        """Return the load ``inner`` where its index is inside the tensor, else ``outside``."""
        if not isinstance(inner, ex.Load):
            raise Unsupported("pad of something else than a load")
        operand = env[inner.name]
        index = tuple(self.as_coordinate(i) for i in self._spliced(inner.index, env, guard, node))
        shape = self.program.types[operand.source].shape
        conditions: list[Val] = []
        for i, n in zip(index, shape, strict=True):
            for truth in (self.compare(">=", i, 0), self.compare("<", i, n)):
                if truth is False:
                    return self._as_val(self.indexed(outside, env, guard, node))
                if isinstance(truth, Val):
                    conditions.append(truth)
        value = self._as_val(self.indexed(outside, env, guard, node))
        if not conditions:
            return self.value(operand.source, index, guard)
        text = conditions[0]
        for c in conditions[1:]:
            text = scalars.binary(self.w, "and", text, c)
        inside = self._inside(text)
        val = self.value(operand.source, index, (*guard, inside))
        if val.zero_outside and value.literal is not None and value.literal == 0:
            return val
        return scalars.select(self.w, inside, val, value)

    def _inside(self, condition: Val) -> Val:
        key = ("condition", condition.text)
        found = self.w.find(key)
        if found is None:
            found = self.w.remember(key, self.w.assign("inside", condition))
        return found

    def _where(self, args: Sequence[ex.Expr], env: Mapping[str, Any], guard: Guard, node: Node) -> Any:
        test = self.indexed(args[0], env, guard, node)
        if isinstance(test, bool):
            return self.indexed(args[1] if test else args[2], env, guard, node)
        test = self._inside(scalars.truth(self._as_val(test)))
        a = self.indexed(args[1], env, (*guard, test), node)
        opposite = Val(f"{test.inside(LEVELS['=='] + 1)} == 0", "bool", test.axes, LEVELS["=="])
        b = self.indexed(args[2], env, (*guard, opposite), node)
        a, b = self._as_val(a), self._as_val(b)
        if a.zero_outside and b.literal is not None and b.literal == 0 and a.text != b.text:
            return a
        return scalars.select(self.w, test, a, b)

    def _joined(self, node: Node, at: Coordinates, guard: Guard) -> Val:
        """Return an element of a concatenation: of each operand where the index is inside it."""
        axis = int(node.attributes["axis"])  # type: ignore[arg-type]
        parts = node.operands[0]
        assert isinstance(parts, tuple)
        start: SizeLike = 0
        branches: list[tuple[bool | Val, Any, Coordinates, tuple[SizeLike, SizeLike]]] = []
        for name in parts:
            assert isinstance(name, str)
            size = self.program.types[name].shape[axis] if node.op == "cat" else 1
            moved = at[axis] - start
            local = (*at[:axis], moved, *at[axis + 1 :]) if node.op == "cat" else (*at[:axis], *at[axis + 1 :])
            branches.append((self.compare("<", at[axis], start + size), name, local, (start, start + size - 1)))
            start = start + size
        result: Val | None = None
        before: Guard = ()
        chosen: list[tuple[Val | None, Val]] = []
        for n, (test, name, local, known) in enumerate(branches):
            if test is False:
                continue
            last = test is True or n == len(branches) - 1
            inside = None if last else self._inside(test)  # type: ignore[arg-type]
            here = guard + before + ((inside,) if inside is not None else ())
            with self.space.assume(at[axis], *known):
                chosen.append((inside, self.value(name, local, here)))
            if last:
                break
            assert inside is not None
            before = (*before, Val(f"{inside.inside(LEVELS['=='] + 1)} == 0", "bool", inside.axes, LEVELS["=="]))
        for inside, val in reversed(chosen):
            result = val if inside is None or result is None else scalars.select(self.w, inside, val, result)
        assert result is not None
        return result

    # -- folds --------------------------------------------------------------------------------------------------------
    def _fold(self, e: ex.Fold, env: Mapping[str, Any], guard: Guard, node: Node) -> Val:
        ranges = tuple(self.as_coordinate(self.indexed(r, env, guard, node)) for _, r in e.ranges)
        variables = tuple(n for n, _ in e.ranges)
        if (
            e.combiner == "sum"
            and isinstance(e.body, ex.Bin)
            and e.body.op == "/"
            and not (ex.names(e.body.b) & set(variables))
        ):
            # A divisor that the summed indices do not move is applied once.
            whole = self._fold(ex.Fold(e.combiner, e.ranges, e.body.a), env, guard, node)
            return scalars.binary(self.w, "/", whole, self._as_val(self.indexed(e.body.b, env, guard, node)))
        dtype = node.types[0].dtype

        def term(pull: Pull, indices: Sequence[SizeLike], inner: Guard) -> Val:
            local = {**env, **dict(zip(variables, indices, strict=True))}
            return pull._as_val(pull.indexed(e.body, local, inner, node))

        small = all(isinstance(r, int) for r in ranges) and math.prod(ranges) <= MAX_UNROLLED  # type: ignore[arg-type, operator]
        if small and node.results[0] not in self.sums:
            return self._unrolled(e.combiner, ranges, term, guard, dtype)  # type: ignore[arg-type]
        coordinates = tuple(v for c in _coordinate_names(self.program.ops[node.op].body) for v in _flat(env[c]))
        key = (node.results[0], ex.to_text(e), coordinates)
        return self.barrier(Site(key, node, e.combiner, coordinates, ranges, term, dtype, e.body, env, variables))

    def _unrolled(
        self,
        combiner: str,
        ranges: Sequence[int],
        term: Callable[[Pull, Sequence[SizeLike], Guard], Val],
        guard: Guard,
        dtype: str,
    ) -> Val:
        positions: list[tuple[int, ...]] = [()]
        for n in ranges:
            positions = [(*p, i) for p in positions for i in range(n)]
        result: Val | None = None
        for p in positions:
            t = computing(term(self, p, guard))
            if result is None:
                result = self.w.assign(combiner, t)
                continue
            result = self.w.assign(combiner, combine(self.w, combiner, result, t))
        if result is None:
            raise Unsupported("an empty fold")
        return result


def _number(space: Space, value: bool | int | float | Size) -> Val:
    """Return a literal; a size is a number without a type of its own, like one."""
    if isinstance(value, Size):
        return Val(space.text(value), "", level=LEVELS["+"] if len(value.terms) > 1 else LEVELS["*"])
    return literal(value)


def combine(w: Writer, combiner: str, a: Val, b: Val) -> Val:
    """Return one step of a fold."""
    match combiner:
        case "sum":
            return scalars.binary(w, "+", a, b)
        case "prod":
            return scalars.binary(w, "*", a, b)
        case "max" | "min":
            return scalars.call(w, combiner, w.assign("t", a), w.assign("t", b))
        case "any":
            return scalars.binary(w, "or", a, b)
        case "all":
            return scalars.binary(w, "and", a, b)
    raise Unsupported(f"combiner {combiner} here")


def _coordinate_names(body: Any) -> tuple[str, ...]:
    return tuple(c.name for c in body.coordinates)


def _flat(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def axis_tuple(space: Space, wish: str, extents: Sequence[SizeLike]) -> Coordinates:
    """Declare one axis per extent; extents of 1 give the coordinate 0."""
    return tuple(0 if n == 1 else space.axis(f"{wish}{i}", n) for i, n in enumerate(extents))
