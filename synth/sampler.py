"""Programs by number: the same number gives the same program on every machine.

A program is a skeleton (drawn exactly), its wiring, sizes and attributes.  Sizes that do not fit are drawn again with the
operators kept, so that the uniform law of the operators is never touched.
"""

from __future__ import annotations

import math
import random
import weakref
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from copy import copy
from typing import Any, TypeAlias

import attrs

from ..ir import OpSet, builtin_ops
from .cache import Progress, Templates, load_signatures
from .cells import laws
from .degenerate import Refusal, degenerate_call
from .dims import ConflictError
from .emit import Draft, write
from .flat import read
from .flow import Flow
from .profiles import Profile
from .relation import Relations
from .screen import FAULT, Edge, Screen, edges_of_call
from .sites import LITERAL_SHARE, Flat, Menu, Site
from .skeleton import Skeletons, Wired, wire
from .spec import Program, Spec, check, select
from .thorough import Thorough, template_attributes, within

#: Gives a program back where it is sound, with ranges of its inputs, else why it is not.
Judge: TypeAlias = "Callable[[Program], Program | Refusal]"
#: Wirings that are tried for one sequence of operators before its number is given up.
_ATTEMPTS = 60
#: Wirings that are drawn for each one that is tried, at most, once a program has been refused.
_WIRINGS = 24
#: Orders of the operators in which that is done where all of these are at fault.
_ORDERS = 6
#: How much must speak against all wirings, one more for each operator, for a number to be given up.
_MUCH = 12
#: Times that a call which computes nothing is drawn again, with those after it, before another wiring is.
_REDRAWN = 6
#: Times that one call is drawn before its operands are.
TRIALS = 3
#: Times that earlier calls are drawn again for the sake of one call, before the wiring is given up.
JUMPS = 8
#: The same, where the sizes do not matter but which of them are 1.
HOPELESS = 4
#: Times that all sizes are drawn for the bounds that speak of the whole program.
REDRAWS = 24


@attrs.define(eq=False)
class Built:
    """The calls of a program so far.

    Attributes:
        inputs: type, cells of the dimensions, and guard of each graph input.
        by_type: the inputs of a type that may be used again.
        shapes: cells of each node's results.
        operands: of each node, per slot: ``("n", node, result)``, ``("i", input)`` or a literal.
        calls: site, template and cells of its locals.
    """

    inputs: list[tuple[tuple[str, int], list[int], str]]
    by_type: dict[tuple[str, int], list[int]]
    shapes: list[list[list[int]]]
    operands: list[list[Any]]
    calls: list[tuple[Site, Flat, list[int]]]

    @classmethod
    def empty(cls) -> Built:
        """Return no calls."""
        return cls([], {}, [], [], [])

    def shorten(self, calls: int, inputs: int) -> None:
        """Return to the first calls and inputs."""
        for kind, _, guard in self.inputs[inputs:]:
            if not guard:
                self.by_type[kind].pop()
        del self.inputs[inputs:], self.shapes[calls:], self.operands[calls:], self.calls[calls:]


@attrs.define(eq=False)
class _Placing:
    """A wired skeleton whose calls are being placed.

    Attributes:
        nodes: the calls, in program order.
        outputs: operator's place and result of each.
        flow: the sizes.
        built: the calls that are placed.
        marks: the state before each of these.
        stuck: how often each call has found no place.
        eager: a call whose attributes are drawn away from those with which it computes nothing, -1 for none.
    """

    nodes: Sequence[Wired]
    outputs: Sequence[tuple[int, int]]
    flow: Flow
    built: Built = attrs.field(factory=Built.empty)
    marks: list[tuple[Any, int]] = attrs.field(factory=list)
    stuck: Counter[int] = attrs.field(factory=Counter)
    eager: int = -1

    def back_to(self, n: int) -> None:
        """Take back call ``n`` and those after it."""
        mark, inputs = self.marks[n]
        self.flow.undo(mark)
        del self.marks[n:]
        self.built.shorten(n, inputs)


class Sampler:
    """Draws programs of one specification.

    Args:
        spec: which programs.
        ops: the operators; None means the built-in ones.
        relations: shared between samplers of several levels, for they are the slow part of the preparation.
        judge: says why a program is degenerate, and such a program is drawn again with its operators kept; or gives it
            back, with ranges of its inputs where it needs some.
        progress: is told how many definitions of how many have been read, where they have not been seen before.

    Raises:
        UsageError: an operator, family or dtype is not known, or bounds contradict each other.
        Unsatisfiable: no such program exists.
    """

    def __init__(
        self, spec: Spec, ops: OpSet | None = None, relations: Relations | None = None, judge: Judge | None = None,
        progress: Progress | None = None,
    ) -> None:  # fmt: skip
        ops = builtin_ops() if ops is None else ops
        self.spec = spec
        self.ops = select(ops, spec)
        check(spec)
        if relations is None or relations.dtypes != spec.dtypes or relations.max_rank != spec.max_rank:
            relations = Relations(ops, spec.dtypes, spec.max_rank)
        self.relations = relations
        load_signatures(relations, self.ops.values(), progress=progress)
        found = {n: relations.signatures(op) for n, op in self.ops.items()}
        self.left_out = tuple(n for n, s in found.items() if not s)
        # An operator that is asked for by name is drawn even where it computes nothing.
        self.signatures = {
            n: s if n in spec.ops else tuple(x for x in s if not degenerate_call(self.ops[n], x))
            for n, s in found.items()
        }
        self.degenerate = tuple(n for n, s in found.items() if s and not self.signatures[n])
        self.store = Templates(relations)
        weakref.finalize(self, self.store.save)
        self._sites = {
            id(s): Site(self.ops[n], s, relations, self.store)
            for n, signatures in self.signatures.items()
            for s in signatures
        }
        # Operands with bounded elements are graph inputs, for nothing bounds what an operator gives.
        pinned = {
            (site.name, position, "" if guard == "range" else dtype)
            for site in self._sites.values()
            for position, dtype, guard in site.guarded()
        }
        weights = dict.fromkeys(self.ops, 1.0) | dict(spec.weights)
        self.pinned = frozenset(pinned)
        self.skeletons = Skeletons(
            self.signatures, spec.level, pinned, holes=spec.holes, outputs=spec.outputs, sharing=spec.sharing,
            weights=weights,
            # A program that ends in a value without operands is constant.
            inner=frozenset(n for n, op in self.ops.items() if not op.operands and n not in spec.ops),
        )  # fmt: skip
        self.failures: Counter[str] = Counter()
        self.stuck: Counter[str] = Counter()
        self.retries = 0
        p = spec.profile
        self._bounded = (
            p.min_numel > 1 or p.min_flops > 0 or any(b is not None for b in (p.max_flops, p.max_bytes, p.max_elements))
        )
        self._laws = laws(spec.profile, spec.max_rank)
        self.thorough = Thorough(spec, relations, self._sites, self.failures)
        self.screen = None if judge is None else Screen(self, judge, self.store.folder)

    def of_sizes(self, profile: Profile) -> Sampler:
        """Return the same sampler with sizes of another profile; it gives :meth:`sized` programs alone."""
        other = copy(self)
        other.spec = attrs.evolve(self.spec, profile=profile)
        other._laws, other._bounded = laws(profile, self.spec.max_rank), False
        return other

    # -- one program ----------------------------------------------------------------------------------------------

    def program(self, index: int, seed: int = 0) -> Program | None:
        """Return program number ``index``: a pure function of the specification, ``seed`` and ``index``.

        Returns:
            None where no sizes were found for the operators that the skeleton drew (counted in ``failures``).
        """
        if self.store.fresh >= self.store.limit:
            self.store.save()
        rng = random.Random(seed * 0x9E3779B97F4A7C15 + index)
        start, steps = self.skeletons.draw(rng)
        numbers: Sequence[int] = [s.choice.number for s in steps]
        nodes, outputs = wire(start, steps, self.skeletons.types, rng)
        blame: Counter[Edge] = Counter()
        for attempt in range(_ATTEMPTS):
            if attempt or (self.screen is not None and self.screen.faults(nodes, blame, 0)):
                wired = self._wired(numbers, blame, rng)
                if wired is None:
                    break
                numbers, nodes, outputs = wired
            if not self._shaped(nodes, outputs):
                continue
            period = 2 if self.spec.solver else 8
            placing: _Placing | None = None
            if attempt % period == period - 1:
                draft, _ = self.sized(nodes, outputs, rng, whole=True)
            else:
                placing = self._placing(nodes, outputs, rng)
                draft = self._placed(placing)
            if draft is None:
                self.failures["wirings"] += 1
                continue
            sequence = tuple([self.skeletons.names[n] for n in numbers])
            first = Program(index, seed, attempt + 1, sequence, write(draft), self.relations.ops)
            program = first if self.screen is None else self._sound(first, nodes, placing, self.screen, blame)
            if program is not None:
                return program
        if blame:
            self.failures["given up as degenerate"] += 1
        self.failures["given up"] += 1
        return None

    def _sound(
        self, program: Program, nodes: Sequence[Wired], placing: _Placing | None, screen: Screen, blame: Counter[Edge]
    ) -> Program | None:
        """Return a program that computes something: this one, or one in which the calls to blame are drawn again.

        Args:
            program: the first.
            nodes: its wiring.
            placing: its calls; None where they cannot be drawn again.
            screen: with the judge.
            blame: of edges; is added to where there is none.
        """
        redrawn: Counter[int] = Counter()
        while isinstance(found := screen.judge(program), Refusal):
            self.failures[found.reason] += 1
            if found.node is None:
                return None
            n = program.written.order[found.node]
            redrawn[n] += 1
            edges = edges_of_call(nodes, n)
            # What mostly computes nothing, or was to blame in other wirings, is not tried for long.
            patience = (_REDRAWN if all(map(screen.holds, edges)) else 1) - max(blame[e] for e in edges)
            if placing is None or redrawn[n] > patience or redrawn.total() > _REDRAWN + len(nodes):
                blame.update(edges)
                return None
            placing.back_to(n)
            placing.stuck.clear()
            placing.eager = n if found.reason == "changes nothing" else -1
            draft = self._placed(placing)
            if draft is None:
                self.failures["wirings"] += 1
                return None
            program = attrs.evolve(program, written=write(draft))
        return found

    def _wired(
        self, numbers: Sequence[int], blame: Mapping[Edge, int], rng: random.Random
    ) -> tuple[Sequence[int], list[Wired], list[tuple[int, int]]] | None:
        """Return operators and a wiring of them: of some that are drawn, the first against which least speaks.

        None where much speaks against all of them.

        Args:
            numbers: of the operators, in the order in which they are drawn; another one where each wiring is at fault.
            blame: how often an edge was to blame.
            rng: of the program.
        """
        if self.screen is None:
            start, steps = self.skeletons.draw_for(numbers, rng)
            return numbers, *wire(start, steps, self.skeletons.types, rng)
        best: tuple[Sequence[int], list[Wired], list[tuple[int, int]]] | None = None
        least = 1 << 30
        for order in range(_ORDERS):
            if order:
                numbers = rng.sample(numbers, len(numbers))
                if not self.skeletons.allows(numbers):
                    continue
            for _ in range(_WIRINGS):
                start, steps = self.skeletons.draw_for(numbers, rng)
                nodes, outputs = wire(start, steps, self.skeletons.types, rng)
                faults = self.screen.faults(nodes, blame, least - 1)
                if faults < least:
                    best, least = (numbers, nodes, outputs), faults
                if not least:
                    break
            if least < FAULT:
                break
        return best if least < _MUCH + len(numbers) else None

    def sized(
        self, nodes: Sequence[Wired], outputs: Sequence[tuple[int, int]], rng: random.Random, whole: bool = False
    ) -> tuple[Draft | None, str]:
        """Return a wired skeleton with sizes and attributes, or None and why where that is known.

        Args:
            nodes: in program order.
            outputs: operator's place and result.
            whole: solve the equations of the program as a whole.
        """
        if not whole:
            return self._placed(self._placing(nodes, outputs, rng)), ""
        try:
            return self.thorough.build(nodes, outputs, rng), ""
        except ConflictError as error:
            return None, str(error)

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

    def _placing(self, nodes: Sequence[Wired], outputs: Sequence[tuple[int, int]], rng: random.Random) -> _Placing:
        return _Placing(nodes, outputs, Flow(self.spec.profile, rng, self._laws))

    def _placed(self, placing: _Placing) -> Draft | None:
        """Return a wired skeleton with sizes and attributes, drawn in program order; None where they do not fit."""
        nodes, flow, built, marks, stuck = placing.nodes, placing.flow, placing.built, placing.marks, placing.stuck
        draw = flow.random
        n = len(marks)
        while n < len(nodes):
            marks.append((flow.mark(), len(built.inputs)))
            flow.eager = n == placing.eager
            if self._call(flow, nodes[n], built, draw, marks[-1][0]):
                n += 1
                continue
            stuck[n] += 1
            patience = HOPELESS if flow.hopeless else JUMPS
            back = -1 if stuck[n] > patience else self._back(flow, nodes, n, built, stuck[n])
            if back < 0:
                self.stuck[self._sites[id(nodes[n].choice.signature)].name] += 1
                return None
            n = back
            placing.back_to(n)
        return self._finished(flow, placing.outputs, built, draw)

    def _back(self, flow: Flow, nodes: Sequence[Wired], n: int, built: Built, stuck: int) -> int:
        """Return the call that is drawn again for call ``n``, the last one: ``n`` hung on its result; -1 for none.

        Args:
            flow: the sizes of the calls before ``n``.
            nodes: all calls.
            n: which call does not fit.
            built: the calls before it.
            stuck: how often it has not.
        """
        known, draw = len(flow.value), flow.random

        def sources(k: int) -> list[int]:
            return sorted({o[0] for o in nodes[k].operands if o is not None})

        near = sources(n)
        if not near:
            return -1
        if stuck == 1 or flow.hopeless or draw() < 0.5:
            at = self._origin(
                flow, nodes, n, built, {0} if flow.hopeless else {flow.find(x) for x in flow.blame if 0 <= x < known}
            )
            if at != n:
                return at
        if stuck == 1:
            return near[-1]
        # Any of what gave the operands, or of what gave theirs.
        while near:
            n = near[int(draw() * len(near))]
            near = sources(n) if draw() < 0.5 else []
        return n

    def _origin(self, flow: Flow, nodes: Sequence[Wired], n: int, built: Built, roots: Set[int]) -> int:
        """Return the call from which the sizes ``roots`` of operands of call ``n`` come; ``n`` itself where it has none.

        Of several calls it is the last, which undoes least.
        """
        find, shapes = flow.find, built.shapes
        while True:
            at = [
                o[0] for o in nodes[n].operands if o is not None and not roots.isdisjoint(map(find, shapes[o[0]][o[1]]))
            ]
            if not at:
                return n
            n = max(at)

    def _call(self, flow: Flow, w: Wired, built: Built, draw: Callable[[], float], mark: Any) -> bool:
        """Add one call to a program; False where no sizes fit its operands."""
        spec = self.spec
        ones, again = spec.profile.ones, spec.input_sharing
        site = self._sites[id(w.choice.signature)]
        inputs, by_type, shapes = built.inputs, built.by_type, built.shapes
        refs: list[Any] = []
        dims: list[int] = []
        fresh: list[int] = []
        given: list[int] = []  # slots that may be given up for a fresh input
        known = False
        for slot, (literals, shared, kind, rank, packs) in enumerate(site.plan):
            source = w.operands[slot]
            if source is not None:
                place, result = source
                refs.append(("n", place, result))
                dims += shapes[place][result]
                known = True
                if slot in w.extra:
                    given.append(slot)
            elif literals and draw() < LITERAL_SHARE:
                refs.append(literals[int(draw() * len(literals))])
            else:
                alike = by_type.get(kind) if shared and draw() < again else None
                if alike:
                    ref = ("i", alike[int(draw() * len(alike))])
                    # A value twice in one call is a degenerate call (x - x).
                    if ref in refs:
                        alike = None
                    else:
                        refs.append(ref)
                        dims += inputs[ref[1]][1]
                        known = True
                        given.append(slot)
                if not alike:
                    refs.append(None)
                    fresh.append(slot)
                    if packs and ones and site.narrow:
                        own = [0 if draw() < ones else -1 for _ in range(rank)]
                        known = known or 0 in own
                        dims += own
                    else:
                        dims += [-1] * rank
        trial = 0
        while True:
            try:
                found = flow.place(site, dims, known, fresh, trial)
            except ZeroDivisionError:
                found = None
            if found is not None:
                break
            self.retries += 1
            trial += 1
            flow.undo(mark)
            if trial == TRIALS or flow.hopeless:
                if not given:
                    return False
                slot, trial = given.pop(), 1
                refs[slot] = None
                fresh.append(slot)
                start = site.starts[slot]
                dims[start : start + site.ranks[slot]] = [-1] * site.ranks[slot]
                known = any(d >= 0 for d in dims)
        flat, cells, results, made = found
        for slot, shape in zip(fresh, made):
            kind = site.types[slot]
            refs[slot] = ("i", len(inputs))
            if not site.guards[slot]:
                by_type.setdefault(kind, []).append(len(inputs))
            inputs.append((kind, shape, site.guards[slot]))
        built.shapes.append(results)
        built.operands.append(refs)
        built.calls.append((site, flat, cells))
        return True

    def _finished(
        self, flow: Flow, outputs: Sequence[tuple[int, int]], built: Built, draw: Callable[[], float]
    ) -> Draft | None:
        value = flow.value
        for trial in range(REDRAWS):
            if trial and not flow.redraw(1.0):
                continue
            at = value.__getitem__
            known = [(kind[0], tuple(map(at, shape)), guard) for kind, shape, guard in built.inputs]
            results = [[tuple(map(at, shape)) for shape in own] for own in built.shapes]
            if not self._bounded or self._inside(flow, known, results, built.calls):
                break
        else:
            return None
        attributes = []
        for _, flat, cells in built.calls:
            row = []
            for part in flat.row:
                kind = part.__class__
                if kind is tuple:
                    row.append(part)
                elif kind is Menu:
                    row.append(part.pick(draw()))
                else:
                    name, code = part
                    if code.__class__ is list:
                        v: Any = tuple([read(c, value, cells) for c in code])
                        row.append((name, v, f"{name} = {list(v)}"))
                    else:
                        v = read(code, value, cells)
                        row.append((name, v, f"{name} = {v}"))
            attributes.append(row)
        return Draft([c[0] for c in built.calls], built.operands, attributes, results, known, outputs)

    def _inside(self, flow: Flow, inputs: Any, results: Any, placed: Any) -> bool:
        p = self.spec.profile
        if p.min_numel > 1:
            largest = max(
                max((math.prod(s) for _, s, _ in inputs), default=1),
                max(math.prod(s) for own in results for s in own),
            )
            if largest < p.min_numel:
                return False

        def work() -> float:
            total = 0
            for (site, flat, cells), own in zip(placed, results):
                flops = site.work(flat, flow.value, cells)
                # Unknown before sizes are: at least each result element is touched.
                total += sum(map(math.prod, own)) if flops is None else flops
            return total

        return within(p, [s for _, s, _ in inputs], results, work)


__all__ = ["Program", "Sampler", "Spec", "select", "template_attributes"]
