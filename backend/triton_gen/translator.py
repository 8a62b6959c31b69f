"""The deterministic translator: plans of fragments, and their variants as candidates."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import attrs

from ...ir import Graph, OpSet, Unsupported, VerifyError, builtin_ops, expand_graph
from ...ir.cost import graph_cost, node_flops
from ...ir.effects import is_random
from ..candidate import H100, Candidate, Target
from . import attention, attention_tilings, scan
from .contraction import Product
from .descriptors import DescriptorWriter, direct
from .gemm import CHEAP_PROLOGUE, GemmWriter, find_product, operand_dtype, prologue_flops
from .kernel import Assembly, Sizes
from .loops import Domain, LoopWriter, Strategy, find_domain
from .pack import PackedWriter
from .pull import Program
from .strategies import loop_strategies, traffic_bytes, transposed_axis
from .symbolic import fixed_sizes, named_sizes, numbered_axes
from .tiling import Tiling, tilings


@attrs.frozen
class Plan:
    """How the generator would write a fragment.

    Attributes:
        family: ``pointwise``, ``reduction``, ``scan``, ``gemm`` or ``attention``.
        recompute: whether an expensive value would be computed more than once.
        bytes: device-memory traffic.
        flops: floating-point operations.
        launches: kernel launches.
    """

    family: str
    recompute: bool
    bytes: int
    flops: int
    launches: int


@attrs.frozen
class Variant:
    """One way to write a fragment: ``write`` adds its kernels to an assembly."""

    label: str
    predicted_us: float
    note: str
    write: Callable[[Assembly], None]
    precision: str = "strict"


def plan(fragment: Graph, ops: OpSet, strides: Mapping[str, tuple[int, ...]] | None = None) -> Plan:
    """Return how the generator would write ``fragment`` as one group of launches.

    Args:
        fragment: a graph whose inputs are tensors.
        ops: the operators.
        strides: unused for now: a launcher makes its inputs contiguous.

    Raises:
        Unsupported: the generator cannot write it; the message says why.
    """
    check(fragment, ops)
    typed, sizes = fixed_sizes(fragment)
    program = Program(expand_graph(typed, ops, keep=attention.is_attention), ops)
    flops = sizes.hint(graph_cost(fragment, ops).flops)
    traffic = traffic_bytes(program, sizes)
    attended = attention.find_attention(program)
    if attended is not None:
        attention.AttentionWriter(
            program, attended, attention.Tiling(32, 32, 4, 2), Assembly(fragment, program.graph, fragment.name, sizes)
        ).write()
        if attended.causal:
            flops -= sizes.hint(node_flops(attended.node, program.types, ops)) // 2
        return Plan("attention", attention.repeats_work(program, attended), traffic, flops, 1)
    scans = scan.find_scans(program)
    if scans is not None:
        variants = _scan_variants(program, scans, sizes, H100)
        variants[0].write(Assembly(fragment, program.graph, fragment.name, sizes))
        return Plan("scan", False, traffic, flops, 2 if variants[0].label.startswith("scan split") else 1)
    product = find_product(program)
    if product is not None:
        GemmWriter(program, product, _TRIAL, Assembly(fragment, program.graph, fragment.name, sizes)).write()
        return Plan("gemm", prologue_flops(program, product) > CHEAP_PROLOGUE, traffic, flops, 1)
    domain = find_domain(program)
    variants = _loop_variants(program, domain, sizes, H100)
    variants[0].write(Assembly(fragment, program.graph, fragment.name, sizes))
    split = variants[0].label.startswith("split")
    launches = len(domain.levels) + 1 if split else 1
    return Plan("reduction" if domain.levels else "pointwise", False, traffic, flops, launches)


#: A tiling to try whether a product can be written at all.
_TRIAL = Tiling(32, 32, 32, 4, 2)


def check(fragment: Graph, ops: OpSet) -> None:
    """Raise Unsupported where ``fragment`` has something that no family writes."""
    if fragment.updates:
        raise Unsupported("buffer updates")
    for node in fragment.nodes:
        if node.op not in ops:
            raise Unsupported(f"no definition of {node.op}")
        if is_random(node, ops):
            raise Unsupported("it draws random numbers")
    names = [o for o in fragment.outputs if isinstance(o, str)]
    if len(names) != len(fragment.outputs) or not names or len(set(names)) != len(names):
        raise Unsupported("an output that is no value of its own")
    inputs = {i.name for i in fragment.inputs}
    if inputs & set(names):
        raise Unsupported("an input that is an output")


def _loop_variants(program: Program, domain: Domain, sizes: Sizes, target: Target) -> list[Variant]:
    strategies = loop_strategies(program, domain, sizes, target)
    out = []
    if not domain.levels:
        axis = transposed_axis(program, domain, sizes)
        if axis is not None:
            real = [k for k, n in enumerate(domain.shape) if n != 1]
            columns = real[real.index(axis) + 1 :]
            if columns:
                rows = [k for k in range(len(domain.shape)) if k not in columns and k != axis] + [axis]
                tiled = attrs.evolve(domain, row_axes=tuple(rows))
                base = strategies[0][1]
                for n, (m, c, warps) in enumerate(((32, 32, 4), (64, 64, 8), (32, 64, 4), (64, 32, 4))):
                    s = Strategy("tile", m, c, warps)
                    out.append(_loop_variant(program, tiled, s, base * (1 + 0.01 * n)))
                strategies = [(s, 2 * t) for s, t in strategies]
    out += [_loop_variant(program, domain, s, t) for s, t in strategies]
    return out


def _loop_variant(program: Program, domain: Domain, s: Strategy, predicted_us: float) -> Variant:
    notes = {
        "flat": "One block of consecutive elements per program.",
        "tile": "A two-dimensional tile per program, so that inputs and outputs are both read and written in rows.",
        "rows": "Whole rows in registers: every input is read once.",
        "loop": "Each program walks its rows in chunks.",
        "split": "The programs of a row leave partial results, which the next launch combines in a fixed order.",
    }

    def write(assembly: Assembly) -> None:
        LoopWriter(program, domain, s, assembly).write()

    return Variant(s.label, predicted_us, notes[s.kind], write)


def _gemm_variants(program: Program, product: Product, sizes: Sizes, target: Target, precision: str) -> list[Variant]:
    def variant(t: Tiling, predicted_us: float) -> Variant:
        note = "Tiles of the result, accumulated over k in registers; what follows the product is its epilogue."
        if t.operands == "packed":
            note = "Operands are first split into three bfloat16 numbers each; six products of these keep float32's accuracy."
        if t.splits > 1:
            note = "Several programs share the k of one tile; a second kernel adds their parts in order."

        def write(assembly: Assembly) -> None:
            writers[t.operands](program, product, t, assembly).write()

        return Variant(t.label, predicted_us, note, write, "tf32" if t.arithmetic == "tf32" else "strict")

    writers = {"loads": GemmWriter, "tma": DescriptorWriter, "packed": PackedWriter}
    dtype = operand_dtype(program, product.main)
    gathered = any(direct(program, c, right) is None for c in product.parts for right in (False, True))
    found = tilings(product, dtype, sizes, target, precision, traffic_bytes(program, sizes), gathered)
    return [variant(t, time) for t, time in found]


def _attention_variants(
    program: Program, attended: attention.Attention, sizes: Sizes, target: Target, precision: str
) -> list[Variant]:
    def variant(t: attention.Tiling, predicted_us: float) -> Variant:
        note = "One pass over the keys for each tile of queries, with running maxima and sums."
        if t.splits > 1:
            note = "Several programs share the keys of one tile of queries; a second kernel joins their parts in order."

        def write(assembly: Assembly) -> None:
            attention.AttentionWriter(program, attended, t, assembly).write()

        return Variant(t.label, predicted_us, note, write, "tf32" if t.arithmetic == "tf32" else "strict")

    return [variant(t, time) for t, time in attention_tilings.tilings(program, attended, sizes, target, precision)]


def _scan_variants(program: Program, scans: scan.Scans, sizes: Sizes, target: Target) -> list[Variant]:
    notes = {
        "rows": "Whole rows in registers, scanned there.",
        "loop": "Each program walks its rows in chunks and carries the running value along.",
        "split": "The first launch leaves the total of every part of a row; the second starts each part from those before it.",
    }

    def variant(s: Strategy, predicted_us: float) -> Variant:
        def write(assembly: Assembly) -> None:
            scan.ScanWriter(program, scans, s, assembly).write()

        return Variant(f"scan {s.label}", predicted_us, notes[s.kind], write)

    return [variant(s, time) for s, time in scan.scan_strategies(program, scans, sizes, target)]


class TemplateTranslator:
    """The deterministic generator as a translator.

    Args:
        target: the device to write for.
        precision: ``strict`` or ``tf32``.
        ops: the operators; None for the built-in ones.
    """

    name = "template"

    def __init__(self, target: Target = H100, precision: str = "strict", ops: OpSet | None = None) -> None:
        self.target = target
        self.precision = precision
        self.ops = builtin_ops() if ops is None else ops

    def propose(self, fragment: Graph, n: int, feedback: tuple[str, ...] = ()) -> list[Candidate]:
        """Return up to ``n`` variants, the best predicted first.

        Raises:
            Unsupported: no family writes the fragment.
        """
        check(fragment, self.ops)
        reason = Unsupported("no variant")
        readings: list[list[Candidate]] = []
        rank = max((i.type.rank for i in fragment.inputs), default=0)
        for last in (*range(rank), None):
            try:
                typed, sizes = fixed_sizes(fragment) if last is None else named_sizes(fragment, self.ops, last)
                if last and readings and readings[-1][0].pinned == numbered_axes(typed):
                    continue
                readings.append(self._candidates(fragment, typed, sizes, n))
            except Unsupported as error:
                reason = error
                continue
            if _divisions(readings[-1][0].source) == 0:
                break
        if not readings:
            raise reason
        # Named sizes serve every shape; numbers are compiled in only where they spare much index arithmetic.
        fewest = min(_divisions(found[0].source) for found in readings)
        best = next(found for found in readings if _divisions(found[0].source) <= 2 * fewest)
        # The most general reading stands last: it can be judged at small sizes where the others cannot.
        return best if best is readings[0] or n < 2 else [*best[: n - 1], readings[0][0]]

    def _candidates(self, fragment: Graph, typed: Graph, sizes: Sizes, n: int) -> list[Candidate]:
        try:
            flat = expand_graph(typed, self.ops, keep=attention.is_attention)
        except VerifyError as error:
            # The fragment holds at its numbers: what a definition computes from sizes has no value where they are named.
            raise Unsupported(error.message, subject=error.subject) from None
        program = Program(flat, self.ops)
        attended = attention.find_attention(program)
        scans = scan.find_scans(program) if attended is None else None
        product = find_product(program) if attended is None and scans is None else None
        if attended is not None:
            variants = _attention_variants(program, attended, sizes, self.target, self.precision)
        elif scans is not None:
            variants = _scan_variants(program, scans, sizes, self.target)
        elif product is not None:
            variants = _gemm_variants(program, product, sizes, self.target, self.precision)
        else:
            variants = _loop_variants(program, find_domain(program), sizes, self.target)
        out: list[Candidate] = []
        reason: Unsupported | None = None
        for v in variants:
            if len(out) >= n:
                break
            assembly = Assembly(fragment, program.graph, fragment.name, sizes, self.target.n_multiprocessors)
            try:
                v.write(assembly)
            except Unsupported as error:
                reason = error
                continue
            source = assembly.source(v.note)
            out.append(
                Candidate(source, fragment.name, v.label, self.name, v.precision, v.predicted_us, numbered_axes(typed))
            )
        if not out:
            raise reason or Unsupported("no variant")
        return out


def _divisions(source: str) -> int:
    kernels = source.rsplit("def ", 1)[0].split("@triton.jit")
    # Kernels for what is not aligned do not count.
    return sum(len(re.findall(r" (?://|%) ", k)) for k in kernels if "_plain(" not in k)
