"""Which tilings of a matrix product are worth a measurement, and how long each should take."""

from __future__ import annotations

import attrs

from ...ir.typesys import DTYPES
from ..candidate import Target
from .contraction import Product
from .kernel import Sizes, ceildiv, next_power_of_2

#: Ways to bring the operands to the tensor cores: ``loads`` through pointers, ``tma`` through tensor descriptors, ``packed``
#: through descriptors of copies in bfloat16 that a kernel before makes.
OPERANDS = ("loads", "tma", "packed")


@attrs.frozen
class Tiling:
    """Block sizes and launch options of one variant.

    Attributes:
        m, n, k: the tile, elements.
        num_warps, num_stages: launch options.
        splits: programs that share the k of one tile.
        group: rows of tiles that run together.
        arithmetic: how float32 products are done: ``tf32``, ``tf32x3``, ``ieee``, ``bf16x6``; empty for other types.
        operands: one of ``OPERANDS``.
        resident: programs on each multiprocessor that walk all tiles; 0 for one program per tile.
    """

    m: int
    n: int
    k: int
    num_warps: int
    num_stages: int
    splits: int = 1
    group: int = 8
    arithmetic: str = ""
    operands: str = "loads"
    resident: int = 0

    @property
    def label(self) -> str:
        """The variant's name."""
        parts = [f"gemm {self.m}x{self.n}x{self.k}", self.arithmetic, f"w{self.num_warps} s{self.num_stages}"]
        parts.append("tma" if self.operands != "loads" else "")
        parts.append("persistent" if self.resident else "")
        parts.append(f"split {self.splits}" if self.splits > 1 else "")
        return " ".join(p for p in parts if p)


#: (m, n, k, warps, stages, share of the datasheet rate that such a loop reached or should reach) by arithmetic and operands.
_TILINGS: dict[tuple[str, str], tuple[tuple[int, int, int, int, int, float], ...]] = {
    ("half", "loads"): (
        (128, 256, 64, 8, 3, 0.81), (256, 128, 64, 8, 3, 0.78), (128, 128, 64, 8, 4, 0.72), (128, 128, 64, 4, 3, 0.66),
        (64, 256, 64, 4, 4, 0.64), (64, 128, 64, 4, 4, 0.56), (128, 64, 64, 4, 4, 0.51), (64, 64, 64, 4, 5, 0.40),
        (64, 64, 128, 4, 4, 0.40), (32, 64, 128, 4, 4, 0.25),
    ),
    ("half", "tma"): (
        (128, 256, 64, 8, 3, 0.86), (128, 256, 64, 8, 4, 0.855), (256, 128, 64, 8, 3, 0.85), (128, 128, 64, 4, 3, 0.82),
        (128, 128, 64, 8, 4, 0.78), (128, 128, 128, 8, 3, 0.77), (64, 256, 64, 4, 3, 0.74), (64, 128, 64, 4, 4, 0.6),
        (64, 64, 128, 4, 4, 0.45),
    ),
    ("tf32", "loads"): (
        (128, 256, 32, 8, 3, 0.87), (256, 128, 32, 8, 3, 0.83), (128, 128, 32, 8, 4, 0.77), (128, 128, 32, 4, 3, 0.73),
        (64, 128, 32, 4, 4, 0.56), (128, 64, 32, 4, 4, 0.49), (64, 64, 32, 4, 5, 0.40), (32, 64, 64, 4, 4, 0.25),
    ),
    ("tf32", "tma"): (
        (128, 256, 32, 8, 3, 0.92), (128, 256, 32, 8, 4, 0.915), (256, 128, 32, 8, 3, 0.90), (128, 128, 32, 4, 3, 0.86),
        (128, 128, 32, 8, 4, 0.82), (64, 256, 32, 4, 3, 0.76), (64, 128, 32, 4, 4, 0.6), (64, 64, 64, 4, 4, 0.45),
    ),
    ("tf32x3", "loads"): (
        (128, 64, 32, 4, 3, 0.63), (128, 128, 32, 8, 3, 0.61), (64, 128, 32, 4, 3, 0.59), (64, 64, 32, 4, 4, 0.56),
        (128, 128, 32, 8, 2, 0.55), (128, 128, 16, 8, 4, 0.5), (32, 64, 32, 4, 4, 0.36), (16, 64, 32, 4, 4, 0.3),
    ),
    ("bf16x6", "packed"): (
        (128, 256, 64, 8, 3, 0.86), (128, 128, 64, 4, 3, 0.82), (128, 128, 64, 8, 4, 0.78),
    ),
    ("ieee", "loads"): (
        (128, 128, 16, 8, 2, 0.36), (128, 64, 16, 8, 3, 0.27), (64, 64, 16, 4, 3, 0.27), (64, 64, 32, 8, 3, 0.15),
        (32, 64, 32, 4, 3, 0.14),
    ),
}  # fmt: skip

#: Tiles of programs that wait for memory: few rows, and many bytes of the other operand on their way at once.
_SKINNY = (
    (64, 128, 4, 4), (64, 256, 4, 4), (32, 256, 4, 4), (128, 64, 4, 4), (64, 64, 4, 5), (128, 128, 8, 4), (256, 64, 8, 3)
)  # fmt: skip

#: Bytes on their way to one multiprocessor that keep the memory busy; fewer take proportionally longer.
_BYTES_IN_FLIGHT = 49152


#: How much slower a loop is whose loads are no plain rows: addresses are computed for every element.
_GATHERED = 1.4


def tilings(
    product: Product, dtype: str, sizes: Sizes, target: Target, precision: str, traffic: int, gathered: bool = False
) -> list[tuple[Tiling, float]]:
    """Return (tiling, predicted microseconds), the best prediction first; the best of another arithmetic is third at worst.

    Args:
        product: the products; their extents count.
        dtype: element type of the operands.
        sizes: typical sizes.
        target: the device.
        precision: ``strict`` or ``tf32``.
        traffic: bytes of inputs and outputs.
        gathered: whether a factor is loaded otherwise than in plain rows.
    """
    found: list[tuple[Tiling, float]] = []
    for arithmetic, rate in _arithmetics(dtype, precision, target):
        kind = arithmetic or "half"
        for operands in OPERANDS:
            for m, n, k, warps, stages, share in _shapes(product, kind, operands, sizes):
                base = Tiling(m, n, k, warps, stages, 1, 8, arithmetic, operands)
                fitted = _fitted(base, product, sizes, target, _element_bytes(dtype, arithmetic))
                effective = rate * share * _reuse(fitted.m, fitted.n) / _reuse(m, n)
                effective /= _GATHERED if gathered and operands != "packed" else 1.0
                for t in _with_splits(fitted, product, sizes, target, dtype, gathered):
                    found.append((t, _time_us(t, product, sizes, target, effective, dtype, traffic)))
    unique: dict[Tiling, float] = {}
    for t, time in sorted(found, key=lambda item: item[1]):
        unique.setdefault(t, time)
    return _diverse(list(unique.items()))


def _diverse(found: list[tuple[Tiling, float]]) -> list[tuple[Tiling, float]]:
    """Put the best tiling of another arithmetic third, where its prediction is near: rates of two loops err apart."""
    for i, (t, time) in enumerate(found):
        if t.arithmetic != found[0][0].arithmetic:
            if i > 2 and time <= 2 * found[0][1]:
                return [*found[:2], found[i], *found[2:i], *found[i + 1 :]]
            break
    return found


def _reuse(m: int, n: int) -> float:
    """Return how much of its rate a tile keeps: operands pass through shared memory ``1/m + 1/n`` times per operation."""
    return 1 / (1 + 64 * (1 / m + 1 / n))


def _arithmetics(dtype: str, precision: str, target: Target) -> list[tuple[str, float]]:
    rates = target.rate_tflops
    if dtype == "f32":
        strict = [("bf16x6", rates["bf16"] / 6), ("tf32x3", rates["tf32"] / 3), ("ieee", rates["f32"])]
        return [("tf32", rates["tf32"]), *strict] if precision == "tf32" else strict
    if dtype == "f64":
        return [("ieee", rates["f64"] / 4)]
    return [("", rates.get(dtype, rates["f16"]))]


def _element_bytes(dtype: str, arithmetic: str) -> int:
    """Return the bytes of one operand element in shared memory."""
    return 2 if arithmetic == "bf16x6" else DTYPES[dtype]


def _shapes(product: Product, kind: str, operands: str, sizes: Sizes) -> list[tuple[int, int, int, int, int, float]]:
    shapes = list(_TILINGS.get((kind, operands), ()))
    _, m, n, _ = (sizes.hint(e) for e in product.main.extents)
    if shapes and min(m, n) <= 32 and operands != "packed" and kind != "ieee":
        wide = 2 if kind.startswith("tf32") else 1
        least = min(share for *_, share in shapes)
        shapes += [(16, bn, max(32, bk // wide), w, s, least) if m <= n else (bn, 16, max(32, bk // wide), w, s, least)
                   for bn, bk, w, s in _SKINNY]  # fmt: skip
    return shapes


def _fitted(t: Tiling, product: Product, sizes: Sizes, target: Target, element_bytes: int) -> Tiling:
    """Return ``t`` no larger than the product, within the registers and the shared memory of the target."""
    _, m, n, k = (sizes.hint(e) for e in product.main.extents)
    bm, bn = min(t.m, max(16, next_power_of_2(m))), min(t.n, max(16, next_power_of_2(n)))
    bk = min(t.k, max(16, next_power_of_2(k)))
    while len(product.parts) > 1 and bm * bn > 64 * 64 * t.num_warps // 4 * 2:
        # Two accumulators share the registers.
        bm, bn = (bm // 2, bn) if bm > bn else (bm, bn // 2)
    stages = t.num_stages
    while stages > 2 and _shared_bytes(bm, bn, bk, stages, element_bytes, len(product.parts)) > target.shared_bytes:
        stages -= 1
    if _shared_bytes(bm, bn, bk, stages, element_bytes, len(product.parts)) > target.shared_bytes:
        bk //= 2
    return attrs.evolve(t, m=bm, n=bn, k=bk, num_stages=stages)


def _shared_bytes(m: int, n: int, k: int, stages: int, element_bytes: int, parts: int) -> int:
    # The parts share the left operand.
    return (m * k + k * n * parts) * element_bytes * stages


def _with_splits(t: Tiling, product: Product, sizes: Sizes, target: Target, dtype: str, gathered: bool) -> list[Tiling]:
    """Return ``t`` and its relatives: split where there are fewer tiles than multiprocessors, persistent where many more."""
    batch, m, n, k = (sizes.hint(e) for e in product.main.extents)
    tiles = batch * ceildiv(m, t.m) * ceildiv(n, t.n)
    out = [t]
    # A persistent program stores one tile while it loads for the next: the tile needs room beside those.
    loads = _shared_bytes(t.m, t.n, t.k, t.num_stages, _element_bytes(dtype, t.arithmetic), len(product.parts))
    fits = loads + DTYPES[dtype] * t.m * t.n <= target.shared_bytes
    rows = t.operands == "packed" or t.operands == "tma" and not gathered
    if rows and fits and tiles > 2 * target.n_multiprocessors:
        resident = 2 if t.m * t.n <= 128 * 128 and t.num_warps == 4 else 1
        out.append(attrs.evolve(t, resident=resident))
    if t.operands == "loads" and tiles <= target.n_multiprocessors // 2 and k >= 8 * t.k:
        wanted = next_power_of_2(max(2, target.n_multiprocessors // tiles))
        splits = [s for s in (wanted, wanted // 2, wanted * 2) if 2 <= s <= 64 and s * t.k * 2 <= k]
        out += [attrs.evolve(t, splits=s) for s in splits]
    return out


def _time_us(
    t: Tiling, product: Product, sizes: Sizes, target: Target, rate_tflops: float, dtype: str, traffic: int
) -> float:
    batch, m, n, k = (sizes.hint(e) for e in product.main.extents)
    parts = len(product.parts)
    bandwidth = target.bandwidth_gbps * 1e3
    tiles = batch * ceildiv(m, t.m) * ceildiv(n, t.n)
    programs = tiles * t.splits
    padded = 2.0 * tiles * t.m * t.n * ceildiv(k, t.k) * t.k * parts
    element = _element_bytes(dtype, t.arithmetic)
    shared = _shared_bytes(t.m, t.n, t.k, t.num_stages, element, parts)
    together = max(1, min(16 // t.num_warps, target.shared_bytes // max(1, shared)))
    slots = target.n_multiprocessors * together
    # The last wave may be partly empty; a program alone on its multiprocessor runs up to twice as fast as one of two.
    full, rest = divmod(programs, slots)
    waves = full + (0 if not rest else 1 if rest > target.n_multiprocessors else min(1.0, 0.5 + 0.5 / together))
    compute_us = padded / (rate_tflops * 1e6) * waves * slots / programs
    flight = (t.num_stages - 1) * (shared / t.num_stages) * min(together, max(1.0, programs / target.n_multiprocessors))
    busy = min(1.0, programs / target.n_multiprocessors) * min(1.0, flight / _BYTES_IN_FLIGHT)
    stream_us = traffic / bandwidth / max(busy, 1e-3)
    extra = target.launch_us
    if t.splits > 1:
        extra += 2 * 4.0 * batch * m * n * t.splits * parts / bandwidth + target.launch_us
    if t.operands == "packed":
        # Every element of a factor is read once and written as three of two bytes; the product reads six.
        elements = batch * (m + n * parts) * k
        extra += (6.0 * elements + min(4.0 * elements, traffic)) / bandwidth + (1 + parts) * target.launch_us
        stream_us = max(stream_us, 12.0 * elements / bandwidth)
    if t.resident:
        compute_us *= 0.98
    return max(compute_us, stream_us) + extra
