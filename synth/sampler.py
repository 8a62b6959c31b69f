"""Programs by number: the same number gives the same program on every machine.

A program is a skeleton (drawn exactly), its wiring, sizes and attributes.  Sizes that do not fit are drawn again with the
operators kept, so that the uniform law of the operators is never touched.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from math import inf
from typing import Any

from ..ir import (
    Graph,
    Input,
    Literal,
    Node,
    OpDef,
    OpSet,
    TensorType,
    Unsatisfiable,
    builtin_ops,
)
from ..ir.opdef import Attribute, Scalar
from ..ir.ranges import node_ranges
from ..ir.typesys import DTYPE_CLASSES, is_float
from .cache import load_signatures
from .calls import Signature, Structure, Template
from .canonical import canonical_order
from .degenerate import degenerate_call
from .dims import ConflictError, Plan, Sizes
from .ranges import partial_operands
from .relation import Relations
from .skeleton import Skeletons, Wired, wire
from .spec import Program, Spec, check, select

#: Says why a program is degenerate, or gives it back with what its inputs must be.
Judge = Callable[[Program], Program | str]

_FLOATS = (0.5, 1.5, 2.0, 3.0, 0.75)
_INTEGERS = (2, 3, 5)
#: Wirings that are tried for one sequence of operators before its number is given up.
_ATTEMPTS = 60


class _Operand:
    """What the sampler knows of an operator's operands, once per signature."""

    __slots__ = ("literal", "names", "pack", "spans")

    def __init__(self, op: OpDef, s: Signature) -> None:
        self.names: list[tuple[str, int]] = []  # per flattened slot: operand name, position
        self.pack: list[bool] = []
        self.literal: list[bool] = []
        self.spans: list[tuple[int, int] | None] = []
        scalar = isinstance(op.body, Scalar)
        for position, (p, o) in enumerate(zip(op.operands, s.operands, strict=True)):
            start = len(self.names)
            if o is None:
                self.spans.append(None)
                continue
            items = (o,) if isinstance(o[0], str) else o
            partner = any(
                q is not p and q.dtype == p.dtype and x is not None and isinstance(x[0], str) and x[1] > 0
                for q, x in zip(op.operands, s.operands, strict=True)
            )
            for dtype, rank in items:
                self.names.append((p.name, position))
                self.pack.append(any(type(d).__name__ == "Pack" for d in p.shape))
                self.literal.append(scalar and rank == 0 and partner and not p.variadic and dtype != "bool")
            self.spans.append((start, len(self.names)) if p.variadic else (start, -1))


class Sampler:
    """Draws programs of one specification.

    Args:
        spec: which programs.
        ops: the operators; None means the built-in ones.
        relations: shared between samplers of several levels, for they are the slow part of the preparation.
        judge: says why a program is degenerate, and such a program is drawn again with its operators kept; or gives it
            back, with ranges of its inputs where it needs some.

    Raises:
        UsageError: an operator, family or dtype is not known, or bounds contradict each other.
        Unsatisfiable: no such program exists.
    """

    def __init__(
        self, spec: Spec, ops: OpSet | None = None, relations: Relations | None = None, judge: Judge | None = None
    ) -> None:
        ops = builtin_ops() if ops is None else ops
        self.spec = spec
        self.judge = judge
        self.ops = select(ops, spec)
        check(spec)
        if relations is None or relations.dtypes != spec.dtypes or relations.max_rank != spec.max_rank:
            relations = Relations(ops, spec.dtypes, spec.max_rank)
        self.relations = relations
        load_signatures(relations, self.ops.values())
        found = {n: relations.signatures(op) for n, op in self.ops.items()}
        self.left_out = tuple(n for n, s in found.items() if not s)
        # An operator that is asked for by name is drawn even where it computes nothing.
        self.signatures = {
            n: s if n in spec.ops else tuple(x for x in s if not degenerate_call(self.ops[n], x))
            for n, s in found.items()
        }
        self.degenerate = tuple(n for n, s in found.items() if s and not self.signatures[n])
        self.ranged = {n: {r.operand for r in op.ranges} for n, op in self.ops.items()}
        self.partial = {n: partial_operands(op) for n, op in self.ops.items()}
        pinned = set()
        for n, op in self.ops.items():
            for position, p in enumerate(op.operands):
                if p.name in self.ranged[n]:
                    pinned.add((n, position, ""))
                if p.name in self.partial[n]:
                    pinned |= {(n, position, d) for d in DTYPE_CLASSES["int"]}
        weights = dict.fromkeys(self.ops, 1.0) | dict(spec.weights)
        self.pinned = frozenset(pinned)
        self.skeletons = Skeletons(
            self.signatures, spec.level, pinned, holes=spec.holes, outputs=spec.outputs, sharing=spec.sharing,
            weights=weights,
            # A program that ends in a value without operands is constant.
            inner=frozenset(n for n, op in self.ops.items() if not op.operands and n not in spec.ops),
        )  # fmt: skip
        self._operands: dict[int, _Operand] = {}
        self.failures: Counter[str] = Counter()

    # -- one program ----------------------------------------------------------------------------------------------

    def program(self, index: int, seed: int = 0) -> Program | None:
        """Return program number ``index``: a pure function of the specification, ``seed`` and ``index``.

        Returns:
            None where no sizes were found for the operators that the skeleton drew (counted in ``failures``).
        """
        rng = random.Random(seed * 0x9E3779B97F4A7C15 + index)
        start, steps = self.skeletons.draw(rng)
        numbers = [s.choice.number for s in steps]
        refused = ""
        for attempt in range(_ATTEMPTS):
            if attempt and attempt % 3 == 0:
                start, steps = self.skeletons.draw_for(numbers, rng)
            nodes, outputs = wire(start, steps, self.skeletons.types, rng)
            if not self._shaped(nodes, outputs):
                continue
            try:
                built = self._build(nodes, outputs, rng)
            except ConflictError:
                self.failures["conflict"] += 1
                continue
            if built is None:
                self.failures["bounds"] += 1
                continue
            graph, ranges, edges = built
            sequence = tuple(self.skeletons.names[n] for n in numbers)
            program = Program(index, seed, graph, ranges, attempt + 1, sequence, edges)
            if self.judge is not None:
                judged = self.judge(program)
                if isinstance(judged, str):
                    refused = judged
                    self.failures[refused] += 1
                    continue
                program = judged
            return program
        self.failures["given up"] += 1
        if refused:
            self.failures["given up as degenerate"] += 1
        return None

    def _shaped(self, nodes: Sequence[Wired], outputs: Sequence[tuple[int, int]]) -> bool:
        spec = self.spec
        if spec.max_depth is None and spec.max_fan_out is None:
            return True
        depth: list[int] = []
        uses = Counter(p for p, _ in outputs)
        for w in nodes:
            inner = [o[0] for o in w.operands if o is not None]
            uses.update(inner)
            depth.append(1 + max((depth[p] for p in inner), default=0))
        if spec.max_fan_out is not None and max(uses.values()) > spec.max_fan_out:
            return False
        return spec.max_depth is None or max(depth) <= spec.max_depth

    def _operand(self, s: Signature) -> _Operand:
        found = self._operands.get(id(s))
        if found is None:
            found = self._operands[id(s)] = _Operand(self.ops[s.op], s)
        return found

    def _build(self, nodes: Sequence[Wired], outputs: Sequence[tuple[int, int]], rng: random.Random) -> Any:
        spec = self.spec
        sizes = Sizes()
        draw, ones = rng.random, spec.profile.ones
        values: list[tuple[str, list[int]]] = []  # graph inputs: dtype, classes
        guarded: list[str] = []  # "" or what an input's elements must satisfy
        shapes: list[list[list[int]]] = []  # of each node's results
        chosen: list[tuple[Structure, int, Template, list[int]]] = []
        operands: list[list[Any]] = []  # ("n", node, result) | ("i", input) | Literal
        by_type: dict[tuple[str, int], list[int]] = {}
        for w in nodes:
            choice = w.choice
            signature = choice.signature
            facts = self._operand(signature)
            partial, ranged = self.partial[signature.op], self.ranged[signature.op]
            refs: list[Any] = []
            dims: list[list[int]] = []
            tensors = 0
            for slot, (dtype, rank) in enumerate(choice.slots):
                source = w.operands[slot]
                name = facts.names[slot][0]
                if source is not None:
                    refs.append(("n", *source))
                    dims.append(shapes[source[0]][source[1]])
                    tensors += 1
                    continue
                if facts.literal[slot] and draw() < 0.7:
                    refs.append(Literal(_FLOATS[int(draw() * 5)] if is_float(dtype) else _INTEGERS[int(draw() * 3)]))
                    dims.append([])
                    continue
                guard = "range" if name in ranged else partial.get(name, "") if dtype in DTYPE_CLASSES["int"] else ""
                known = by_type.get((dtype, rank))
                if known and not guard and draw() < spec.input_sharing:
                    i = known[int(draw() * len(known))]
                    # A value twice in one call is a degenerate call (x - x).
                    if all(r != ("i", i) for r in refs):
                        refs.append(("i", i))
                        dims.append(values[i][1])
                        continue
                refs.append(
                    self._input(sizes, values, guarded, by_type, dtype, rank, guard, ones, facts.pack[slot], rng)
                )
                dims.append(values[-1][1])
            while True:
                try:
                    structure, mask, template, results, local = self._impose(signature, sizes, dims, rng)
                    break
                except ConflictError:
                    # Another use of a value that is used elsewhere may be given up for a fresh input.
                    given = next(
                        (i for i in range(len(refs) - 1, -1, -1)
                         if (i in w.extra and refs[i][0] == "n") or (refs[i].__class__ is tuple and refs[i][0] == "i"
                                                                     and dims[i] is not None and _shared(refs[i], operands))),
                        None,
                    )  # fmt: skip
                    if given is None:
                        raise
                    dtype, rank = choice.slots[given]
                    refs[given] = self._input(
                        sizes, values, guarded, by_type, dtype, rank, "", ones, facts.pack[given], rng
                    )
                    dims[given] = values[-1][1]
            shapes.append(results)
            chosen.append((structure, mask, template, local))
            operands.append(refs)
        return self._numbers(nodes, outputs, sizes, values, guarded, shapes, chosen, operands, rng)

    def _input(
        self, sizes: Sizes, values: list[Any], guarded: list[str], by_type: dict[Any, list[int]], dtype: str, rank: int,
        guard: str, ones: float, broadcasts: bool, rng: random.Random,
    ) -> tuple[str, int]:  # fmt: skip
        draw = rng.random
        classes = [0 if broadcasts and draw() < ones else sizes.new() for _ in range(rank)]
        values.append((dtype, classes))
        guarded.append(guard)
        number = len(values) - 1
        if not guard:
            by_type.setdefault((dtype, rank), []).append(number)
        return ("i", number)

    def _impose(
        self, signature: Signature, sizes: Sizes, dims: Sequence[Sequence[int]], rng: random.Random
    ) -> tuple[Structure, int, Template, list[list[int]], list[int]]:
        flat = [d for shape in dims for d in shape]
        mask, bit = 0, 1
        for d in flat:
            if d == 0 or sizes.find(d) == 0:
                mask |= bit
            bit <<= 1
        structures = signature.structures
        # Some structures do not fit the sizes at hand (a reduction of axes of size 1); a few others are tried.
        for trial in range(6):
            structure = structures[int(rng.random() * len(structures))]
            if trial and self.relations.broadcasts(signature, structure):
                # Sizes that cannot be equal may still broadcast, where one of them is free to be 1.
                mask = self._narrowed(sizes, flat, mask, rng)
            templates = self.relations.templates(signature, structure, mask)
            if templates:
                template = templates[int(rng.random() * len(templates))] if len(templates) > 1 else templates[0]
                mark = sizes.mark()
                try:
                    results, local = sizes.apply(template, flat)
                    return structure, mask, template, results, local
                except ConflictError:
                    sizes.undo(mark)
        raise ConflictError

    def _narrowed(self, sizes: Sizes, flat: Sequence[int], mask: int, rng: random.Random) -> int:
        for d in flat:
            x = sizes.find(d)
            if sizes.made[x] is None and sizes.low[x] == 1 and rng.random() < 0.4:
                sizes.equate(0, x)
        for i, d in enumerate(flat):
            if sizes.find(d) == 0:
                mask |= 1 << i
        return mask

    # -- values ---------------------------------------------------------------------------------------------------

    def _numbers(
        self, nodes: Sequence[Wired], outputs: Sequence[tuple[int, int]], sizes: Sizes, values: list[Any],
        guarded: list[str], shapes: list[list[list[int]]], chosen: list[Any], operands: list[list[Any]],
        rng: random.Random,
    ) -> Any:  # fmt: skip
        used = sorted({r[1] for refs in operands for r in refs if r.__class__ is tuple and r[0] == "i"})
        wanted = [local[i] for _, _, t, local in chosen for i in _attribute_locals(t)]
        tensors = [values[i][1] for i in used] + [shape for results in shapes for shape in results]
        plan = Plan(sizes, tensors, wanted, self.spec.profile)
        found = plan.sample(rng, 32)
        if found is None:
            found = self._solved(plan, rng)
        if found is None:
            return None
        find = sizes.find

        def numbers(shape: Sequence[int]) -> tuple[int, ...]:
            return tuple([found[find(d)] for d in shape])

        shape_of = [numbers(values[i][1]) if i in set(used) else () for i in range(len(values))]
        results = [[numbers(s) for s in rs] for rs in shapes]
        if not self._within(nodes, chosen, found, find, shape_of, used, results):
            return None
        attributes = [
            self._attributes(w.choice.signature, s, t, [found[find(x)] for x in local], rng)
            for w, (s, _, t, local) in zip(nodes, chosen)
        ]
        return self._emit(nodes, outputs, values, guarded, used, shape_of, results, attributes, operands)

    def _solved(self, plan: Plan, rng: random.Random) -> list[int] | None:
        """Return sizes found by CP-SAT, which are checked like drawn ones; None without OR-tools or a solution."""
        if not self.spec.solver:
            return None
        from .cpsat import solve

        try:
            found = solve(plan, rng)
        except Unsatisfiable:
            self.failures["infeasible"] += 1
            return None
        if found is None or not plan.holds(found):
            return None
        self.failures["solved"] += 1
        return found

    def _within(
        self, nodes: Sequence[Wired], chosen: list[Any], found: list[int], find: Any, shape_of: list[Any],
        used: Sequence[int], results: list[Any],
    ) -> bool:  # fmt: skip
        p = self.spec.profile
        if p.max_elements is not None or p.max_bytes is not None:
            elements = sum(_product(shape_of[i]) for i in used)
            if p.max_elements is not None and elements > p.max_elements:
                return False
            if p.max_bytes is not None and 8 * (elements + sum(_product(s) for s in results[-1])) > p.max_bytes:
                return False
        if p.max_flops is None and not p.min_flops:
            return True
        total = 0
        for w, (s, ones, t, local), shapes in zip(nodes, chosen, results):
            flops = self.relations.flops(w.choice.signature, s, ones, t)
            if flops is None:  # unknown before sizes are; at least each result element is touched
                total += sum(_product(r) for r in shapes)
            elif flops[0] is None:
                total += flops[1]
            else:
                total += flops[0].function(*[found[find(local[i])] for i in flops[1]])
        return p.min_flops <= total and (p.max_flops is None or total <= p.max_flops)

    def _attributes(
        self, signature: Signature, s: Structure, t: Template, local: list[int], rng: random.Random
    ) -> tuple[tuple[str, Any], ...]:
        op = self.ops[signature.op]
        if not op.attributes:
            return ()
        out = template_attributes(t, local)
        integral = not any(d in DTYPE_CLASSES["float"] for _, d in signature.dtypes)
        for a in op.attributes:
            if a.name not in out:
                out[a.name] = _free_attribute(a, integral, rng)
        return tuple(sorted(out.items()))

    def _emit(
        self, nodes: Sequence[Wired], outputs: Sequence[tuple[int, int]], values: list[Any], guarded: list[str],
        used: Sequence[int], shape_of: list[Any], results: list[Any], attributes: list[Any], operands: list[list[Any]],
    ) -> Any:  # fmt: skip
        sources = list(dict.fromkeys(outputs))
        names = [w.choice.signature.op for w in nodes]
        labels = [(n, a, tuple(r)) for n, a, r in zip(names, attributes, results)]
        inputs = {i: (values[i][0], shape_of[i]) for i in used}
        order, input_order, operands = canonical_order(labels, inputs, operands, sources, self.ops)
        node_number = {n: k for k, n in enumerate(order)}
        input_name = {i: f"x{k}" for k, i in enumerate(input_order)}
        value_name: dict[tuple[int, int], str] = {}
        for n in order:
            several = len(results[n]) > 1
            for r in range(len(results[n])):
                value_name[n, r] = f"v{node_number[n]}_{r}" if several else f"v{node_number[n]}"
        edges: list[tuple[str, str, int]] = []
        ranges: dict[str, tuple[Any, Any]] = {}
        built = []
        for n in order:
            signature = nodes[n].choice.signature
            facts = self._operand(signature)
            op = self.ops[signature.op]
            flat: list[Any] = []
            for slot, r in enumerate(operands[n]):
                if r.__class__ is Literal:
                    flat.append(r)
                elif r[0] == "n":
                    flat.append(value_name[r[1], r[2]])
                    edges.append((names[r[1]], names[n], slot))
                else:
                    flat.append(input_name[r[1]])
                    if guarded[r[1]] == "positive":
                        ranges[flat[-1]] = (1, inf)
            grouped: list[Any] = []
            for span in facts.spans:
                if span is None:
                    grouped.append(None)
                elif span[1] < 0:
                    grouped.append(flat[span[0]])
                else:
                    grouped.append(tuple(flat[span[0] : span[1]]))
            types = tuple([TensorType(d, shape) for (d, _), shape in zip(signature.results, results[n])])
            result_names = tuple([value_name[n, r] for r in range(len(types))])
            built.append(Node(signature.op, tuple(grouped), attributes[n], result_names, types))
            if op.ranges:
                known = {input_name[i]: TensorType(values[i][0], shape_of[i]) for i in input_order}
                known |= {v: t for node in built[:-1] for v, t in zip(node.results, node.types)}
                ranges |= node_ranges(built[-1], known, self.ops)
        graph_inputs = tuple([Input(input_name[i], TensorType(values[i][0], shape_of[i])) for i in input_order])
        outs: list[Any] = []
        for n, r in sources:
            # Every result of an output operator is given back, so that none of its work is dead.
            outs += [value_name[n, k] for k in range(len(results[n]))] if len(results[n]) > 1 else [value_name[n, r]]
        graph = Graph("program", graph_inputs, tuple(built), tuple(dict.fromkeys(outs)))
        return graph, ranges, tuple(edges)


def _shared(ref: tuple[str, int], operands: list[list[Any]]) -> bool:
    return any(ref in refs for refs in operands)


def _attribute_locals(t: Template) -> Iterable[int]:
    for _, v in t.attributes:
        if type(v) is int:
            yield v
        elif v and v[0] != "value":
            for d in (v,) if v[0] is None or not isinstance(v[0], (int, tuple)) else v:
                if type(d) is int:
                    yield d
                else:
                    yield from d[1] if d[0] is not None else ()


def template_attributes(t: Template, local: Sequence[int]) -> dict[str, Any]:
    """Return the attributes that a template fixes, for given values of its local variables."""
    out: dict[str, Any] = {}
    for name, v in t.attributes:
        if type(v) is int:
            out[name] = local[v]
        elif v and v[0] == "value":
            out[name] = v[1]
        elif v and (v[0] is None or not isinstance(v[0], (int, tuple))):
            out[name] = _number(v, local)
        else:
            out[name] = tuple(_number(d, local) for d in v)
    return out


def _number(d: Any, local: Sequence[int]) -> int:
    if type(d) is int:
        return local[d]
    return d[1] if d[0] is None else d[0].function(*[local[i] for i in d[1]])  # type: ignore[no-any-return]


def _free_attribute(a: Attribute, integral: bool, rng: random.Random) -> Any:
    """Return a value of an attribute on which no shape depends."""
    default = getattr(a.default, "value", None)
    if default is not None and rng.random() < 0.6:
        return float(default) if a.kind == "float" else default
    if a.optional and rng.random() < 0.5:
        return None
    lo, hi = getattr(a.lo, "value", None), getattr(a.hi, "value", None)
    match a.kind:
        case "bool":
            return rng.random() < 0.5
        case "enum":
            return rng.choice(a.choices)
        case "str":
            return default or ""
        case "int":
            near = [v for v in (*range(-1, 4), lo, hi) if isinstance(v, int)]
            fits = [v for v in near if (lo is None or v >= lo) and (hi is None or v <= hi)]
            return rng.choice(fits or [0])
        case "ints":
            return tuple(
                rng.randint(lo or 0, min(hi if hi is not None else 3, (lo or 0) + 3)) for _ in range(a.length or 0)
            )
    if isinstance(default, float) and default:
        scaled = default * rng.choice((0.5, 2.0))
        return scaled if (lo is None or scaled >= lo) and (hi is None or scaled <= hi) else default
    menu: Sequence[Any] = _INTEGERS if integral and a.kind == "number" else _FLOATS
    fits = [v for v in menu if (lo is None or v >= lo) and (hi is None or v <= hi)]
    value = rng.choice(fits or [default if default is not None else lo if lo is not None else 1])
    return float(value) if a.kind == "float" else value


def _product(shape: Sequence[int]) -> int:
    n = 1
    for d in shape:
        n *= d
    return n


__all__ = ["Program", "Sampler", "Spec", "select", "template_attributes"]
