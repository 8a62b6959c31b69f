"""Which programs to draw, and what is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from hashlib import blake2b

import attrs

from ..ir import Graph, OpDef, OpSet, UsageError, check_fields, require
from ..ir.effects import operators_through, random_operators
from ..ir.opdef import Opaque
from .emit import Written, build_graph, edges_of, ranges_of
from .profiles import PROFILES, Profile


@attrs.frozen
class Spec:
    """Which programs to draw.

    Attributes:
        level: number of operators, all live.
        dtypes: element types that values may have.
        ops: names of operators or families to use; empty means all.
        without: names of operators or families to leave out.
        weights: wished relative frequencies by operator; operators left out of it have weight 1.
        profile: the law of sizes.
        max_rank: largest rank.
        outputs: most graph outputs.
        max_depth: longest path in operators, or None.
        max_fan_out: most uses of one value, or None.
        holes: bound on open slots while a program is built backwards.
        sharing: weight of each further use of a value.
        input_sharing: probability that a graph input is used again where its type fits.
        constants: whether operators without tensor operands may occur.
        solver: whether CP-SAT is asked where draws of sizes do not fit (needs OR-tools).
    """

    level: int = 3
    dtypes: tuple[str, ...] = ("f32", "i64", "bool")
    ops: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    weights: tuple[tuple[str, float], ...] = ()
    profile: Profile = PROFILES["small"]
    max_rank: int = 5
    outputs: int = 1
    max_depth: int | None = None
    max_fan_out: int | None = None
    holes: int = 3
    sharing: float = 0.3
    input_sharing: float = 0.15
    constants: bool = True
    solver: bool = False

    def __attrs_post_init__(self) -> None:
        check_fields(self)


@attrs.frozen(slots=False, eq=False)
class Program:
    """One generated program; equal to another of the same text, number and seed.

    Attributes:
        index: its number.
        seed: of the sampler.
        attempts: how many wirings were tried.
        sequence: the operators from the outputs backwards, as the skeleton drew them.
        written: in canonical order with canonical names.
        ops: the operators.
        ranges: of inputs whose elements are bounded: both ends, which they may take, for booleans 0 and the share that is
            true; None stands for what the operators say.
    """

    index: int
    seed: int
    attempts: int
    sequence: tuple[str, ...]
    written: Written
    ops: OpSet = attrs.field(repr=False)
    _ranges: Mapping[str, tuple[float, float]] | None = None

    @property
    def text(self) -> str:
        """The canonical text."""
        return self.written.text

    @cached_property
    def key(self) -> str:
        """A hash that is equal for programs equal up to names, order, and swapped operands of commutative operators."""
        return blake2b(self.text.encode(), digest_size=16).hexdigest()

    @cached_property
    def graph(self) -> Graph:
        """The program."""
        return build_graph(self.written)

    @cached_property
    def ranges(self) -> Mapping[str, tuple[float, float]]:
        """Of inputs whose elements are bounded: both ends, which they may take."""
        return self._ranges if self._ranges is not None else ranges_of(self.written, self.graph, self.ops)

    @cached_property
    def edges(self) -> tuple[tuple[str, str, int], ...]:
        """``(producer, consumer, slot)`` of every use of a node's value."""
        return edges_of(self.written)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Program):
            return NotImplemented
        return (self.index, self.seed, self.text) == (other.index, other.seed, other.text)

    def __hash__(self) -> int:
        return hash((self.index, self.seed, self.text))


def select(ops: OpSet, spec: Spec) -> dict[str, OpDef]:
    """Return the operators that a specification names, by name or by family.

    Raises:
        UsageError: a name is neither, or nothing is left.
    """
    require(spec, Spec, "Sampler: spec")
    require(ops, OpSet, "Sampler: ops")
    families = {op.family for op in ops.values()}
    for n in (*spec.ops, *spec.without, *(n for n, _ in spec.weights)):
        if n not in ops and n not in families:
            raise UsageError(f"unknown operator or family '{n}', expected a name that `drt ops list` shows")
    random = random_operators(ops)
    meaningless = operators_through(ops, lambda op: isinstance(op.body, Opaque))
    chosen = {
        n: op
        for n, op in ops.items()
        if (not spec.ops or n in spec.ops or op.family in spec.ops)
        and n not in spec.without
        and op.family not in spec.without
        and (spec.constants or op.operands)
        # What PyTorch has no call for only serves in the meaning of others.
        and ("torch" in op.calls or n in spec.ops)
        # Programs that draw random numbers have no one result to learn from.
        and (n not in random or n in spec.ops or op.family in spec.ops)
        # Nothing can judge a program in which an operator has no meaning.
        and (n not in meaningless or n in spec.ops)
    }
    if not chosen:
        raise UsageError("no operator is left, expected at least one")
    return chosen


def check(spec: Spec) -> None:
    """Raise UsageError where the bounds of a specification contradict each other."""
    require(spec, Spec, "Sampler: spec")
    if spec.level < 1:
        raise UsageError(f"level {spec.level}, expected at least 1")
    p = spec.profile
    if p.min_numel > p.max_numel:
        raise UsageError(f"at least {p.min_numel} elements and at most {p.max_numel} contradict each other")
    if p.max_flops is not None and p.min_flops > p.max_flops:
        raise UsageError(f"at least {p.min_flops:g} operations and at most {p.max_flops:g} contradict each other")
    if spec.max_depth is not None and spec.max_depth < 1:
        raise UsageError(f"depth {spec.max_depth}, expected at least 1")
