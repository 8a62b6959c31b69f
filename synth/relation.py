"""What a definition allows at the level of ranks and dtypes, and how its sizes hang together: signatures and templates.

A *structure* fixes everything about a call but sizes and numbers: ranks, which operands are given, axes, flags.  It is found
by inference over symbolic sizes, so that nothing is known here that the definition does not say.  A *template* is one way in
which the conditions of a structure hold, solved for sizes and ready to be applied thousands of times a second.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from ..ir import (
    DTYPES,
    DrtError,
    Graph,
    Inferred,
    Input,
    Node,
    OpDef,
    OpSet,
    Size,
    SizeLike,
    TensorType,
    Unsupported,
    UsageError,
    VerifyError,
    assuming,
    evaluate,
    expand_graph,
    infer,
)
from ..ir import expr as ex
from ..ir.cost import call_work
from ..ir.effects import operators_through
from ..ir.infer import infer as infer_call
from ..ir.opdef import Attribute, Expand, Index, Reduce, Scalar
from ..ir.size import symbols_of
from .calls import (
    FAR,
    LIST_CHOICES,
    Number,
    Ranks,
    SelectingError,
    Signature,
    Structure,
    Symbolic,
    Template,
    attribute_symbols,
    attribute_value,
    bounds_of,
    common_rank,
    completed,
    default_of,
    dimension_symbol,
    dimensions_of,
    extents_of,
    is_symbol,
    mentioned_names,
    number_menu,
    operand_types,
    shapes_with_one,
    substitute_ones,
    symbols_in,
)
from .symbolic import Condition, condition_formula, paths, size_formula, solve

#: What every dimension is where one number for all of them is tried first.
_EQUAL_SIZE = 4


class Relations:
    """The structures, signatures and templates of an operator set, found once and kept.

    Args:
        ops: the definitions.
        dtypes: element types that programs may use.
        max_rank: largest rank of any tensor.
        list_lengths: numbers of tensors in a list operand.
    """

    def __init__(
        self, ops: OpSet, dtypes: Sequence[str], max_rank: int = 5, list_lengths: Sequence[int] = (2, 3)
    ) -> None:
        for d in dtypes:
            if d not in DTYPES:
                raise UsageError(f"unknown dtype '{d}', expected one of {', '.join(DTYPES)}")
        self.ops = ops
        self.dtypes = tuple(dtypes)
        self.max_rank = max_rank
        self.list_lengths = tuple(list_lengths)
        self._structures: dict[Any, tuple[Structure, ...]] = {}
        self._templates: dict[Any, tuple[Template, ...]] = {}
        self._flops: dict[Any, Any] = {}
        self._signatures: dict[str, tuple[Signature, ...]] = {}
        self._typed: dict[str, OpDef] = {}
        self._scalar: dict[str, bool] = {}
        self._narrow: dict[Any, bool] = {}
        self._extents: dict[Any, tuple[SizeLike, ...]] = {}
        self._reducing = operators_through(ops, lambda op: isinstance(op.body, (Reduce, Index)))

    # -- signatures -----------------------------------------------------------------------------------------------

    def signatures(self, op: OpDef) -> tuple[Signature, ...]:
        """Return every signature of ``op`` within the dtypes and ranks; none for an operator that has no meaning."""
        variables = sorted({p.dtype for p in op.operands if p.dtype not in DTYPES})
        attributes = [a.name for a in op.attributes if a.kind == "dtype"]
        fixed = [p.dtype for p in (*op.operands, *op.results) if p.dtype in DTYPES]
        if any(d not in self.dtypes for d in fixed):
            return ()
        kept = self._signatures.get(op.name)
        if kept is not None:
            return kept
        spaces = [[d for d in self.dtypes if d in op.dtypes.get(v, DTYPES)] for v in variables]
        spaces += [list(self.dtypes)] * len(attributes)
        found = []
        for choice in itertools.product(*spaces):
            env = dict(zip([*variables, *attributes], choice, strict=True))
            found += self._signatures_at(op, env)
        self._signatures[op.name] = tuple(found)
        return self._signatures[op.name]

    def restore(self, name: str, signatures: tuple[Signature, ...]) -> None:
        """Take the signatures of an operator as known."""
        self._signatures[name] = signatures

    def _signatures_at(self, op: OpDef, env: Mapping[str, str]) -> list[Signature]:
        groups: dict[Any, list[Structure]] = {}
        for s in self.structures(op, env):
            # A reduction of one element, whatever the sizes, has no place in a program.
            if self._always_single(op, env, s):
                continue
            groups.setdefault((s.ranks, s.results), []).append(s)
        result_dtypes: tuple[str, ...] | None = None
        out = []
        for (ranks, results), structures in groups.items():
            if result_dtypes is None:
                types = self._result_types(op, env, structures[0])
                if types is None:
                    continue
                result_dtypes = tuple(t.dtype for t in types)
                if any(d not in self.dtypes for d in result_dtypes):
                    return []
            operands = []
            for p, r in zip(op.operands, ranks, strict=True):
                dtype = env.get(p.dtype, p.dtype)
                operands.append(
                    tuple((dtype, n) for n in r) if isinstance(r, tuple) else None if r is None else (dtype, r)
                )
            out.append(
                Signature(
                    op.name,
                    tuple(operands),
                    tuple(zip(result_dtypes, results, strict=True)),
                    tuple(sorted(env.items())),
                    tuple(structures),
                )  # fmt: skip
            )
        return out

    # -- structures -----------------------------------------------------------------------------------------------

    def structures(self, op: OpDef, env: Mapping[str, str]) -> tuple[Structure, ...]:
        """Return every structure of ``op`` whose conditions can hold, for given dtypes."""
        mentioned = mentioned_names(op)
        # Operators of one type relation share their structures; dtypes matter where a clause speaks of them.
        spoken = tuple((k, v) for k, v in sorted(env.items()) if k in mentioned)
        key = (
            tuple((p.name, p.shape, p.optional, p.variadic) for p in op.operands), op.attributes, op.lets,
            tuple(c.expr for c in op.constraints), tuple(p.shape for p in op.results), spoken,
        )  # fmt: skip
        found = self._structures.get(key)
        if found is None:
            found = self._structures[key] = tuple(self._find_structures(op, env, mentioned))
        return found

    def _find_structures(self, op: OpDef, env: Mapping[str, str], mentioned: set[str]) -> Iterator[Structure]:
        # Axes are fixed even where no shape depends on them: what is reduced does.
        axes = {a.name for a in op.attributes if a.kind in ("axis", "axes")}
        for ranks in self._rank_choices(op):
            dims = dimensions_of(op, ranks)
            names = [a.name for a in op.attributes]
            for attributes in itertools.product(*(self._menu(op, a, dims, env, mentioned) for a in op.attributes)):
                chosen = dict(zip(names, attributes, strict=True))
                for settled in self._settle(op, env, ranks, chosen):
                    kept = tuple((k, v) for k, v in settled.items() if k in mentioned or k in env or k in axes)
                    structure = Structure(ranks, kept, ())
                    types = self._result_types(op, env, structure)
                    if types is None:
                        continue
                    results = tuple(t.rank for t in types)
                    if max(results, default=0) <= self.max_rank:
                        yield attrs.evolve(structure, results=results)

    def _rank_choices(self, op: OpDef) -> Iterator[tuple[Ranks, ...]]:
        packs: list[str] = []
        for p in op.operands:
            packs += [d.name for d in p.shape if isinstance(d, ex.Pack) and d.name not in packs]
        optional = [p.name for p in op.operands if p.optional]
        lists = [p.name for p in op.operands if p.variadic]
        for given in itertools.product((True, False), repeat=len(optional)):
            absent = {n for n, g in zip(optional, given, strict=True) if not g}
            for counts in itertools.product(self.list_lengths, repeat=len(lists)):
                count = dict(zip(lists, counts, strict=True))
                used = {d.name for p in op.operands if p.name not in absent for d in p.shape if isinstance(d, ex.Pack)}
                for sizes in itertools.product(range(self.max_rank + 1), repeat=len(packs)):
                    rank = dict(zip(packs, sizes, strict=True))
                    if any(rank[n] for n in packs if n not in used):
                        continue
                    out: list[Ranks] = []
                    for p in op.operands:
                        if p.name in absent:
                            out.append(None)
                            continue
                        r = sum(rank[d.name] if isinstance(d, ex.Pack) else 1 for d in p.shape)
                        out.append((r,) * count[p.name] if p.variadic else r)
                    if all((max(r) if isinstance(r, tuple) else r or 0) <= self.max_rank for r in out):
                        yield tuple(out)

    def _menu(
        self, op: OpDef, a: Attribute, dims: Mapping[str, Any], env: Mapping[str, str], mentioned: set[str]
    ) -> Sequence[Any]:
        """Return the values of an attribute that make a difference to shapes; one of them where none does."""
        none: list[Any] = [None] if a.optional else []
        match a.kind:
            case "dtype":
                return [env[a.name]]
            case "axis" | "axes":
                n = len(dims.get(a.of, ()))
                if a.kind == "axis":
                    return [*none, *range(n)]
                return [*none, *(c for k in range(n + 1) for c in itertools.combinations(range(n), k))]
        if a.name not in mentioned:
            return [default_of(a)]
        match a.kind:
            case "bool":
                return [*none, False, True]
            case "enum":
                return [*none, *a.choices]
            case "int":
                return [*none, Symbolic()]
            case "ints":
                lengths = [a.length] if a.length is not None else range(self.max_rank + 1)
                return [*none, *(Symbolic(n) for n in lengths)]
        return [*none, *number_menu(a)]

    def _settle(
        self, op: OpDef, env: Mapping[str, str], ranks: tuple[Ranks, ...], chosen: dict[str, Any]
    ) -> Iterator[dict[str, Any]]:
        """Yield the attributes with those made concrete that select axes, which a symbol cannot do."""
        open_names = [k for k, v in chosen.items() if isinstance(v, Symbolic)]
        if not open_names or not self.selects(op, env, ranks, chosen):
            yield chosen
            return
        for k in range(1, len(open_names) + 1):
            for names in itertools.combinations(open_names, k):
                spaces = [self._concrete(op, n, chosen[n], ranks) for n in names]
                if any(not s for s in spaces):
                    return
                first = chosen | {n: s[0] for n, s in zip(names, spaces, strict=True)}
                if self.selects(op, env, ranks, first):
                    continue
                for values in itertools.product(*spaces):
                    yield chosen | dict(zip(names, values, strict=True))
                return

    def selects(self, op: OpDef, env: Mapping[str, str], ranks: tuple[Ranks, ...], chosen: Mapping[str, Any]) -> bool:
        """Return whether a symbol stands where an integer is needed, or is silently taken for no axis."""
        structure = Structure(ranks, tuple(chosen.items()), ())
        open_names = [k for k, v in chosen.items() if isinstance(v, Symbolic)]
        try:
            found = next(paths(lambda: self._call(op, env, structure, 0)[0], runs=1), None)
            spaces = [self._concrete(op, n, chosen[n], ranks) for n in open_names]
            if found is None or any(not s for s in spaces):
                return False
            known = dict(chosen) | {n: s[0] for n, s in zip(open_names, spaces, strict=True)}
            plain = Structure(ranks, tuple(known.items()), ())
            other = next(paths(lambda: self._call(op, env, plain, 0)[0], runs=3), None)
        except SelectingError:
            return True
        return other is not None and [t.rank for t in other[1].types] != [t.rank for t in found[1].types]

    def _concrete(self, op: OpDef, name: str, marker: Symbolic, ranks: tuple[Ranks, ...]) -> list[Any]:
        a = op.attribute(name)
        dims = dimensions_of(op, ranks)
        lo, hi = 0, max((r if isinstance(r, int) else max(r or (0,)) for r in ranks if r is not None), default=1) - 1
        try:
            if a.lo is not None and a.hi is not None:
                low, high = evaluate(a.lo, dims), evaluate(a.hi, dims)
                if isinstance(low, int) and isinstance(high, (int, float)):
                    lo, hi = low, int(min(high, low + self.max_rank))
        except (KeyError, IndexError, TypeError):
            pass
        values = range(lo, hi + 1)
        if marker.length is None:
            return list(values)
        total = len(values) ** marker.length
        if total <= LIST_CHOICES:
            return list(itertools.product(values, repeat=marker.length))
        rng = random.Random(f"{op.name}.{name}")
        if len(values) == marker.length:  # most long lists of axes are orders of all axes
            orders = list(itertools.permutations(values))
            return orders if len(orders) <= LIST_CHOICES else rng.sample(orders, LIST_CHOICES)
        return sorted({tuple(rng.choice(values) for _ in range(marker.length)) for _ in range(LIST_CHOICES)})

    # -- one call over symbols ------------------------------------------------------------------------------------

    def _call(
        self, op: OpDef, env: Mapping[str, str], s: Structure, ones: int, size: int | None = None
    ) -> tuple[Inferred, list[SizeLike], dict[str, Any], list[Any]]:
        """Infer a structure over symbols ``d0, d1, ...``; bit i of ``ones`` makes operand dimension i the constant 1.

        With ``size``, every dimension is that constant.
        """
        dims: list[SizeLike] = []

        def type_of(dtype: str, rank: int) -> TensorType:
            shape = []
            for _ in range(rank):
                i = len(dims)
                dims.append(size or (1 if ones >> i & 1 else dimension_symbol(i)))
                shape.append(dims[-1])
            return TensorType(dtype, tuple(shape))

        operands: list[Any] = []
        for p, r in zip(op.operands, s.ranks, strict=True):
            dtype = env.get(p.dtype, p.dtype)
            if isinstance(r, tuple):
                operands.append(tuple(type_of(dtype, n) for n in r))
            else:
                operands.append(None if r is None else type_of(dtype, r))
        attributes: dict[str, Any] = {}
        for name, v in s.attributes:
            if isinstance(v, Symbolic):
                constant = size if v.length is None else (size,) * v.length
                attributes[name] = attribute_symbols(op.attribute(name), v) if size is None else constant
            else:
                attributes[name] = v
        given = dict(attributes)
        for a in op.attributes:  # those on which no shape depends
            if a.name not in given:
                given[a.name] = default_of(a)
        try:
            return infer_call(self.typing(op), operands, given), dims, attributes, operands
        except VerifyError as error:
            if "has no value" in error.message:
                raise SelectingError(error.message) from None
            raise
        except (TypeError, IndexError) as error:
            raise SelectingError(str(error)) from None
        except ValueError as error:  # lists of different lengths
            raise VerifyError(str(error)) from None

    def typing(self, op: OpDef) -> OpDef:
        """Return ``op`` without the lets that only its meaning needs; some have no value over symbols."""
        found = self._typed.get(op.name)
        if found is None:
            found = self._typed[op.name] = attrs.evolve(
                op, lets=tuple(x for x in op.lets if x.name in mentioned_names(op))
            )
        return found

    def _result_types(self, op: OpDef, env: Mapping[str, str], s: Structure) -> tuple[TensorType, ...] | None:
        """Return the types of a structure's results for some sizes, or None where no sizes fit."""
        # Equal sizes fit most structures, and plain integers are fast.
        try:
            return self._call(op, env, s, 0, size=_EQUAL_SIZE)[0].types
        except (VerifyError, Unsupported, SelectingError):
            pass
        found = next(self._runs(op, env, s, runs=3), None)
        return None if found is None else found[1].types

    def _runs(self, op: OpDef, env: Mapping[str, str], s: Structure, ones: int = 0, runs: int = 24) -> Iterator[Any]:
        return paths(lambda: self._tried(op, env, s, ones)[0], runs)

    def _tried(self, op: OpDef, env: Mapping[str, str], s: Structure, ones: int) -> Any:
        """Return what :meth:`_call` does; a structure that is none is no valid call."""
        try:
            return self._call(op, env, s, ones)
        except SelectingError as error:
            raise VerifyError(str(error)) from None

    # -- templates ------------------------------------------------------------------------------------------------

    def templates(self, signature: Signature, s: Structure, ones: int) -> tuple[Template, ...]:
        """Return the templates of a structure with the operand dimensions of ``ones`` equal to 1; often there is one."""
        # Operators of one type relation share structures; without a reduction inside they share templates too.
        scalar = self._scalar.get(signature.op)
        if scalar is None:
            scalar = self._scalar[signature.op] = isinstance(self.ops[signature.op].body, Scalar)
        if ones and not self.broadcasts(signature, s):
            ones = 0
        key = (s, ones) if scalar else (signature.op, signature.dtypes, s, ones)
        found = self._templates.get(key)
        if found is None:
            found = self._templates[key] = tuple(self.find_templates(signature, s, ones))
        return found

    def broadcasts(self, signature: Signature, s: Structure) -> bool:
        """Return whether it makes a difference to a structure that a size is 1, as it does to broadcasting."""
        found = self._narrow.get(signature.op)
        if found is None:
            # One structure tells for all: the one whose operands have most axes in common.
            signature = max(self._signatures[signature.op], key=common_rank)
            s = signature.structures[-1]
            plain = list(self.find_templates(signature, s, 0))
            n = sum(sum(r) if isinstance(r, tuple) else r or 0 for r in s.ranks)
            narrow = (list(self.find_templates(signature, s, 1 << i)) for i in range(n))
            found = self._narrow[signature.op] = any(
                shapes_with_one(plain, i) != shapes_with_one(t, None) for i, t in enumerate(narrow)
            )
        return found

    def find_templates(self, signature: Signature, s: Structure, ones: int) -> Iterator[Template]:
        """Yield the templates of a structure without keeping them."""
        op, env = self.ops[signature.op], dict(signature.dtypes)

        # The first paths are those whose answers are affirmative; most others only say that an equation does not hold.
        for conditions, (inferred, dims, attributes, operands) in paths(lambda: self._tried(op, env, s, ones), runs=4):
            template = self._solve(op, env, s, conditions, inferred, dims, attributes, operands)
            if template is not None:
                yield template

    def _solve(
        self, op: OpDef, env: Mapping[str, str], s: Structure, conditions: tuple[Condition, ...], inferred: Inferred,
        dims: list[SizeLike], attributes: dict[str, Any], operands: list[Any],
    ) -> Template | None:  # fmt: skip
        bounded = list(conditions)
        for a in op.attributes:
            marker = dict(s.attributes).get(a.name)
            if isinstance(marker, Symbolic) and a.lo is not None and a.hi is not None:
                value = attributes[a.name]
                for v in value if isinstance(value, tuple) else (value,):
                    lo, hi = evaluate(a.lo, inferred.env), evaluate(a.hi, inferred.env)
                    bounded += [(">=", v, e, True) for e in (lo,) if isinstance(e, (int, Size))]
                    bounded += [("<=", v, e, True) for e in (hi,) if isinstance(e, (int, Size))]
        for t in inferred.types:
            bounded += [(">=", size, 1, True) for size in t.shape if isinstance(size, Size)]
        weak = frozenset(
            x.name for v in attributes.values() for e in (v if isinstance(v, tuple) else (v,)) for x in symbols_in(e)
        )
        solution = solve(tuple(bounded), weak)
        if solution is None:
            return None
        apply = solution.apply
        shapes = [tuple(map(apply, t.shape)) for t in inferred.types]
        slots = [apply(d) for d in dims]
        shown = {x.name for shape in [slots, *shapes] for d in shape if is_symbol(d) for x in symbols_in(d)}
        values = {k: tuple(map(apply, v)) if isinstance(v, tuple) else apply(v) for k, v in attributes.items()}
        everything = [*slots, *itertools.chain(*shapes)]
        for v in values.values():
            everything += [e for e in (v if isinstance(v, tuple) else (v,)) if isinstance(e, Size)]
        free = sorted(
            {x.name for e in everything for x in symbols_of(e)}, key=lambda n: (n in weak and n not in shown, n)
        )
        names = {n: i for i, n in enumerate(free)}
        if any(x.name not in names for c in solution.checks for e in c[1:3] for x in symbols_in(e)):
            return None

        def dim(e: Any) -> Any:
            if isinstance(e, int):
                return (None, e)
            if is_symbol(e):
                return names[e.terms[0][0][0].name]
            return size_formula(e, names)

        factored = {n for group, _ in solution.factors for n in group}
        if any(n not in names for n in factored):
            return None
        numbers: list[Number] = []
        used: set[str] = set()
        for n in free:
            if n in weak and n not in shown and n not in factored:
                own = next(x for e in everything for x in symbols_of(e) if x.name == n)
                low, high = bounds_of(n, solution.checks, names, {*used, *(set(free) - weak), *(shown & set(free))})
                low += [size_formula(own.lo, names)] if own.lo > -FAR else []
                high += [size_formula(own.hi, names)] if own.hi < FAR else []
                numbers.append(Number(names[n], tuple(low), tuple(high)))
                used.add(n)
        at_least_two = []
        for extent in self._reduced_extents(op, env, s):
            extent = apply(substitute_ones(extent, dims))
            if isinstance(extent, int):
                if extent < 2:
                    return None
            elif all(x.name in names for x in symbols_of(extent)):
                at_least_two.append(dim(extent))
        return Template(
            locals=len(names),
            slots=tuple(map(dim, slots)),
            results=tuple(tuple(map(dim, shape)) for shape in shapes),
            attributes=tuple((k, attribute_value(v, dim)) for k, v in values.items()),
            numbers=tuple(numbers),
            factors=tuple((tuple(names[n] for n in group), dim(rest)) for group, rest in solution.factors),
            checks=tuple(condition_formula(c, names) for c in solution.checks),
            at_least_two=tuple(dict.fromkeys(at_least_two)),
            names=names,
            solution=solution,
            conditions=conditions,
        )

    def ways(self, signature: Signature, s: Structure, ones: int, runs: int = 64) -> list[Any] | None:
        """Return every way in which a structure's conditions hold, or None where ``runs`` evaluations do not tell all.

        A way is its conditions, the dimensions of the operands and of each result, and the sizes of what reductions combine.
        """
        op, env = self.ops[signature.op], dict(signature.dtypes)
        done = itertools.count(1)
        found = []
        for conditions, (_, (inferred, dims, _, _)) in paths(lambda: (next(done), self._tried(op, env, s, ones)), runs):
            extents = [substitute_ones(e, dims) for e in self._reduced_extents(op, env, s)]
            found.append((conditions, dims, [t.shape for t in inferred.types], extents))
        return found if next(done) <= runs else None

    def flops(self, signature: Signature, s: Structure, ones: int, template: Template) -> Any:
        """Return the work of one call as a dimension of the template, or None where only known sizes can tell."""
        key = (signature.op, signature.dtypes, template)
        if key not in self._flops:
            self._flops[key] = self._find_flops(signature, s, ones, template)
        return self._flops[key]

    def _find_flops(self, signature: Signature, s: Structure, ones: int, t: Template) -> Any:
        op, env = self.ops[signature.op], dict(signature.dtypes)
        answers = {(o, a, b): truth for o, a, b, truth in t.conditions}
        try:
            with assuming(lambda o, a, b: answers.get((o, a, b), True)):
                inferred, _, _, operands = self._call(op, env, s, ones)
                work = t.solution.apply(call_work(op, completed(op, inferred), tuple(operands), self.ops)[0])
            if isinstance(work, (int, Size)) and all(x.name in t.names for x in symbols_in(work)):
                return (None, work) if isinstance(work, int) else size_formula(work, t.names)
        except (DrtError, SelectingError, KeyError, TypeError, ValueError):
            pass
        return None

    def _always_single(self, op: OpDef, env: Mapping[str, str], s: Structure) -> bool:
        """Return whether some reduction in the meaning of a structure combines a single element, whatever the sizes."""
        # Where sizes are known to do, nothing is fixed; plain integers tell so many times faster than symbols.
        if op.name not in self._reducing:
            return False
        try:
            inferred, _, _, operands = self._call(op, env, s, 0, size=_EQUAL_SIZE)
            extents = self._extents_at(op, inferred, operands)
            if all(isinstance(e, int) and e >= 2 for e in extents):
                return False
        except (DrtError, SelectingError, KeyError, TypeError, IndexError, ValueError):
            pass
        return any(isinstance(e, int) and e < 2 for e in self._reduced_extents(op, env, s))

    def _reduced_extents(self, op: OpDef, env: Mapping[str, str], s: Structure) -> tuple[SizeLike, ...]:
        """Return the number of elements that each reduction in the meaning of a structure combines."""
        key = (op.name, tuple(sorted(env.items())), s)
        found = self._extents.get(key)
        if found is None:
            try:
                found = self._find_extents(op, env, s)
            except (DrtError, SelectingError, KeyError, TypeError, IndexError, ValueError):
                found = ()
            self._extents[key] = found
        return found

    def _find_extents(self, op: OpDef, env: Mapping[str, str], s: Structure) -> tuple[SizeLike, ...]:
        if op.name not in self._reducing:
            return ()
        first = next(paths(lambda: self._call(op, env, s, 0)), None)
        return () if first is None else self._extents_at(op, first[1][0], first[1][3])

    def _extents_at(self, op: OpDef, inferred: Inferred, operands: list[Any]) -> tuple[SizeLike, ...]:
        """Return the same for a call that has been inferred."""
        if not isinstance(op.body, Expand):
            return extents_of(op, completed(op, inferred).env)
        inputs: list[Input] = []

        def name(t: Any) -> Any:
            if isinstance(t, tuple):
                return tuple(map(name, t))
            if t is None:
                return None
            inputs.append(Input(f"x{len(inputs)}", t))
            return inputs[-1].name

        names = tuple(map(name, operands))
        results = tuple(f"r{i}" for i in range(len(inferred.types)))
        graph = Graph(
            "f", tuple(inputs), (Node(op.name, names, inferred.attributes, results, inferred.types),), results
        )
        out: list[SizeLike] = []
        expanded = paths(lambda: expand_graph(graph, self.ops, lambda node: node.op not in self._reducing))
        for _, primitive in itertools.islice(expanded, 1):
            for node in primitive.nodes:
                inner = self.ops.get(node.op)
                if inner is not None and isinstance(inner.body, (Reduce, Index)):
                    types = tuple(operand_types(node.operands, primitive.types))
                    out += extents_of(inner, infer(inner, types, node.attributes).env)
        return tuple(out)
