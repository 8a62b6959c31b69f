"""Sizes of a whole program as equations first, then draws: slower than :mod:`drt.synth.flow`, and never stuck in an order.

It is asked where draws in program order do not fit, for what CP-SAT is to solve, and for proofs that no sizes exist.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..ir import Unsatisfiable
from ..ir.text import attr_text
from .calls import Signature, Structure, Template
from .dims import ConflictError, Plan, Sizes
from .emit import Draft
from .profiles import Profile
from .relation import Relations
from .sites import LITERAL_SHARE, Site
from .skeleton import Wired
from .spec import Spec


class Thorough:
    """Builds wired skeletons with the equations of all calls solved together.

    Args:
        spec: which programs.
        relations: gives the templates.
        sites: by identity of the signature.
        failures: is counted in.
    """

    def __init__(self, spec: Spec, relations: Relations, sites: dict[int, Site], failures: Counter[str]) -> None:
        self.spec, self.relations, self.sites, self.failures = spec, relations, sites, failures

    def build(self, nodes: Sequence[Wired], outputs: Sequence[tuple[int, int]], rng: random.Random) -> Draft | None:
        """Return a program for a wired skeleton, or None where no sizes within the bounds were found.

        Raises:
            ConflictError: the equations of the calls contradict each other.
        """
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
            site = self.sites[id(signature)]
            refs: list[Any] = []
            dims: list[list[int]] = []
            for slot, (dtype, rank) in enumerate(choice.slots):
                source = w.operands[slot]
                if source is not None:
                    refs.append(("n", *source))
                    dims.append(shapes[source[0]][source[1]])
                    continue
                literals = site.literals[slot]
                if literals and draw() < LITERAL_SHARE:
                    refs.append(literals[int(draw() * len(literals))])
                    dims.append([])
                    continue
                guard = site.guards[slot]
                known = by_type.get((dtype, rank))
                if known and not guard and draw() < spec.input_sharing:
                    i = known[int(draw() * len(known))]
                    # A value twice in one call is a degenerate call (x - x).
                    if all(r != ("i", i) for r in refs):
                        refs.append(("i", i))
                        dims.append(values[i][1])
                        continue
                refs.append(
                    self._input(sizes, values, guarded, by_type, dtype, rank, guard, ones, site.packs[slot], rng)
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
                        sizes, values, guarded, by_type, dtype, rank, "", ones, site.packs[given], rng
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

        inside = set(used)
        shape_of = [numbers(values[i][1]) if i in inside else () for i in range(len(values))]
        results = [[numbers(s) for s in rs] for rs in shapes]
        sites = [self.sites[id(w.choice.signature)] for w in nodes]

        def work() -> float:
            total = 0
            for site, (s, ones, t, local), own in zip(sites, chosen, results):
                flops = self.relations.flops(site.signature, s, ones, t)
                if flops is None:  # unknown before sizes are; at least each result element is touched
                    total += sum(map(math.prod, own))
                elif flops[0] is None:
                    total += flops[1]
                else:
                    total += flops[0].function(*[found[find(local[i])] for i in flops[1]])
            return total

        if not within(self.spec.profile, [shape_of[i] for i in used], results, work):
            return None
        attributes = [
            self._attributes(site, t, [found[find(x)] for x in local], rng)
            for site, (_, _, t, local) in zip(sites, chosen)
        ]
        inputs = [(dtype, shape_of[i], guarded[i]) for i, (dtype, _) in enumerate(values)]
        return Draft(sites, operands, attributes, results, inputs, outputs)

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

    def _attributes(self, site: Site, t: Template, local: list[int], rng: random.Random) -> list[tuple[str, Any, str]]:
        fixed = template_attributes(t, local)
        out = []
        for a in sorted(site.op.attributes, key=lambda a: a.name):
            if a.name in fixed:
                out.append((a.name, fixed[a.name], f"{a.name} = {attr_text(fixed[a.name])}"))
            else:
                out.append(site.menu(a).pick(rng.random()))
        return out


def within(
    p: Profile, inputs: Sequence[Sequence[int]], results: Sequence[Sequence[Sequence[int]]], work: Callable[[], float]
) -> bool:
    """Return whether a program keeps a profile's bounds on all of its tensors together.

    Args:
        p: the profile.
        inputs: shapes of the graph inputs.
        results: shapes of each node's results, the last node's being outputs.
        work: gives the number of operations.
    """
    if p.max_elements is not None or p.max_bytes is not None:
        elements = sum(map(math.prod, inputs))
        if p.max_elements is not None and elements > p.max_elements:
            return False
        if p.max_bytes is not None and 8 * (elements + sum(map(math.prod, results[-1]))) > p.max_bytes:
            return False
    if p.max_flops is None and not p.min_flops:
        return True
    total = work()
    return p.min_flops <= total and (p.max_flops is None or total <= p.max_flops)


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
    number: int = d[1] if d[0] is None else d[0].function(*[local[i] for i in d[1]])
    return number
