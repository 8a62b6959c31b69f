"""The table of features: what each kernel is given, and how near the interpreter must be to the device.

    TRITON_INTERPRET=1 python -m features.table FILE     the interpreter's outputs
    python -m features.table FILE                        a device's

run from ``tests``.  The file is JSON, compressed: the outputs as bits, with what made them.
"""

from __future__ import annotations

import gzip
import json
import os
import sys
from pathlib import Path
from typing import Any

import attrs
import torch

#: Elements that a kernel takes of each input, and those that there are (products take all).
SIZE, GIVEN = 256, 512

#: What a GPU gave, recorded by ``python -m features.table``.
RECORDED = Path(__file__).with_name("h100.json.gz")

_DTYPES = {
    "f64": torch.float64, "f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16, "e5": torch.float8_e5m2,
    "e4": torch.float8_e4m3fn, "i64": torch.int64, "i32": torch.int32, "u32": torch.uint32, "i16": torch.int16,
    "i8": torch.int8, "u8": torch.uint8,
}  # fmt: skip


@attrs.frozen
class Feature:
    """A kernel on inputs of one type.

    Attributes:
        out: type of the output; ``n_out`` its elements.
        ulps: units in the last place of the output's type that the interpreter may be away; 0: the same bits.
        terms: where the result is a sum, the units are those of the largest magnitude that takes part.
        special: infinities, NaN and subnormal numbers are among the inputs.
        start: what the output holds before.
    """

    kernel: str
    dtype: str
    out: str = ""
    n_out: int = SIZE
    ulps: float = 0.0
    terms: bool = False
    special: bool = True
    start: float = 0.0
    options: dict[str, Any] = attrs.field(factory=dict)

    @property
    def name(self) -> str:
        return "-".join([self.kernel, self.dtype, *([self.out] if self.out else []), *map(str, self.options.values())])


def _each(kernels: str, dtypes: str, **more: Any) -> list[Feature]:
    return [Feature(k, d, **more) for k in kernels.split() for d in dtypes.split()]


FEATURES: tuple[Feature, ...] = (
    *_each("add subtract multiply chosen", "f32 f16 bf16 f64"),
    *_each("add subtract multiply", "i32 i64 i8"),
    *_each("larger larger_or_nan smaller", "f32 bf16 f16"), *_each("clamped magnitude", "f32 bf16"),
    *_each("compared", "f32 bf16", out="i32"), *_each("compared", "i32", out="i32"),
    *_each("compared", "u32", out="i32"), *_each("rounded_down", "f32"),
    *_each("divide", "f32", ulps=2), *_each("divide", "f16 bf16", ulps=1), *_each("divide_rn", "f32"),
    *_each("floor_divide remainder", "i32 i64 u32"), *_each("shift_right shift_left bits", "i32 u32 i64"),
    *_each("remainder", "f32", ulps=1, special=False),
    *(Feature("cast", "f32", out=o) for o in ("f16", "bf16", "e5", "e4", "f64")),
    *(Feature("cast", "f32", out=o, special=False) for o in ("i32", "i64")),
    *(Feature("cast_in_range", "f32", out=o, special=False) for o in ("i8", "u8", "i16")),
    *(Feature("cast", "bf16", out=o) for o in ("f32", "f16", "e5")), *(Feature("cast", d, out="f32") for d in ("e5", "e4")),
    *(Feature("cast", d, out="f32") for d in ("i32", "i64", "u8", "i8", "u32")), Feature("cast", "i64", out="i32"),
    Feature("cast", "i32", out="bf16"), Feature("cast", "f64", out="bf16"), Feature("cast", "i32", out="i8"),
    *(Feature("cast_by_store", "f32", out=o) for o in ("f16", "bf16")), Feature("cast_toward_zero", "f32", out="bf16"),
    Feature("same_bits", "f32", out="i32"),
    *_each("chain", "bf16 f16", ulps=2, terms=True, special=False), *_each("chain", "f32", ulps=4, terms=True, special=False),
    *_each("scalars", "bf16 f16", ulps=2, terms=True, special=False), *_each("loop", "f32", ulps=2, terms=True, special=False),
    *_each("exponential", "f32", ulps=6), *_each("exponential_two logarithm logarithm_two root reciprocal_root error_function logistic", "f32", ulps=4),
    *_each("sine", "f32", ulps=4, terms=True, special=False), *_each("exponential logistic root", "f64", ulps=4), *_each("root_rn", "f32"),
    *_each("multiply_add", "f32", special=False), *_each("high_product", "u32"),
    *_each("lib_tanh", "f32", ulps=4), *_each("lib_rounding", "f32", special=False), *_each("lib_pow", "f32", ulps=8),
    *_each("lib_log1p", "f32", ulps=8, terms=True), *_each("lib_fmod", "f32", special=False),
    *_each("total", "f32 f16 bf16", n_out=1, ulps=16, terms=True, special=False), *_each("total", "i32 i64", n_out=1),
    *_each("total", "i8", out="i32", n_out=1),
    *_each("total_rows", "f32", n_out=SIZE // 16, ulps=4, terms=True, special=False), *_each("largest", "f32 bf16 i32", n_out=2),
    *_each("place_of_largest", "i8", out="i32", n_out=2), *_each("exclusive_or", "i32", n_out=1),
    *_each("welford", "f32", n_out=2, ulps=16, terms=True, special=False),
    *_each("running_sum running_sum_backwards", "f32", ulps=32, terms=True, special=False), *_each("running_sum", "i32"),
    *_each("recurrence", "f32", ulps=8, terms=True, special=False), *_each("sorted_block flipped gathered", "i32"),
    *_each("sorted_block", "f32", special=False), *_each("counted", "i32", n_out=16), *_each("joined", "f32", n_out=2 * SIZE, special=False),
    *_each("transposed masked descriptor", "f32"), *_each("masked", "bf16"),
    *_each("atomic_sum", "i32", n_out=8), *_each("atomic_sum", "f32", n_out=8, ulps=32, terms=True, special=False),
    *_each("atomic_extremes", "i32", n_out=16), *_each("exchanged", "i32", n_out=2 * SIZE),
    Feature("random_bits", "i32"), Feature("random_uniform", "f32"), Feature("random_normal", "f32", ulps=16, terms=True),
    *(Feature("product", "f32", n_out=256, ulps=u, terms=True, special=False, options={"PRECISION": p})
      for p, u in (("ieee", 16), ("tf32", 16), ("tf32x3", 16))),
    *_each("product", "bf16 f16", out="f32", n_out=256, ulps=16, terms=True, special=False, options={"PRECISION": "ieee"}),
    *_each("product", "e5", out="f32", n_out=256, ulps=64, terms=True, special=False, options={"PRECISION": "ieee"}),
    *_each("product_f16", "f16", n_out=256, ulps=4, terms=True, special=False),
    *_each("product_of_bytes", "i8", out="i32", n_out=256),
)  # fmt: skip


def inputs(feature: Feature) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ``x`` and ``y``; the same on every machine."""
    g = torch.Generator().manual_seed(20260321)
    dtype = _DTYPES[feature.dtype]
    if not dtype.is_floating_point:
        info = torch.iinfo(torch.int32 if dtype in (torch.uint32, torch.int64) else dtype)
        x = torch.randint(info.min, info.max, (GIVEN,), generator=g, dtype=torch.int64)
        y = torch.randint(-9, 9, (GIVEN,), generator=g, dtype=torch.int64)
        y[y == 0] = 5
        x[:4] = torch.tensor([info.min, info.max, 0, -1])
        # Large divisors too; no quotient overflows.
        y[8:40] = torch.where(x[40:72] == 0, 3, x[40:72])
        if feature.dtype in ("u8", "u32"):
            x, y = x & 0xFFFFFFFF, y & 0xFFFFFFFF
        return x.to(dtype), y.to(dtype)
    x, y = torch.randn(GIVEN, generator=g), torch.randn(GIVEN, generator=g)
    x[:64] = torch.arange(-32, 32) / 8  # ties of every rounding
    x[64:96] = torch.exp2(torch.arange(32) - 16.0) * (1 + 2.0**-8 + 2.0**-9)
    if feature.special:
        strange = torch.tensor(
            [float("inf"), -float("inf"), float("nan"), 0.0, -0.0, 1e-40, -1e-40, 3e38, 65519.0, 65520.0, 448.0, 470.0]
        )
        x[100 : 100 + len(strange)] = strange
        y[104 : 104 + len(strange)] = strange
    if feature.dtype == "e4":  # versions of PyTorch differ on what overflows
        x, y = x.clamp(-400, 400), y.clamp(-400, 400)
    return x.to(dtype), y.to(dtype)


def outputs(device: str) -> dict[str, Any]:
    """Run every feature; returns its output as bits and type, or the error that it raised."""
    import triton

    from features import kernels

    if hasattr(triton, "set_allocator"):
        triton.set_allocator(lambda size, alignment, stream: torch.empty(size, dtype=torch.int8, device=device))
    found: dict[str, Any] = {}
    for f in FEATURES:
        x, y = (t.to(device) for t in inputs(f))
        dtype = _DTYPES[f.out or f.dtype]
        o = torch.full((f.n_out,), f.start, dtype=torch.float64).to(dtype).to(device)
        try:
            getattr(kernels, f.kernel)[(1,)](x, y, o, N=SIZE, **f.options)
            found[f.name] = o.cpu().contiguous().view(torch.uint8).numpy().tobytes().hex()
        except Exception as error:
            last = str(error).strip().splitlines()[-1:] or [""]
            found[f.name] = {"error": f"{type(error).__name__}: {last[0]}"[:200]}
    return found


def read(path: Path) -> dict[str, Any]:
    """Return what :func:`main` wrote."""
    return dict(json.loads(gzip.decompress(path.read_bytes())))


def _decoded(text: str, f: Feature) -> torch.Tensor:
    return torch.frombuffer(bytearray.fromhex(text), dtype=_DTYPES[f.out or f.dtype])


def distance(f: Feature, a: str, b: str) -> float:
    """Return how far two outputs are from each other: units in the last place, infinity where one is NaN and one is not."""
    p, q = _decoded(a, f), _decoded(b, f)
    if not p.dtype.is_floating_point:
        return 0.0 if torch.equal(p.view(torch.uint8), q.view(torch.uint8)) else float("inf")
    p64, q64 = p.to(torch.float64), q.to(torch.float64)
    if not torch.equal(p64.isnan(), q64.isnan()):
        return float("inf")
    p64, q64 = p64.nan_to_num(0, 1e400, -1e400), q64.nan_to_num(0, 1e400, -1e400)
    differ = p64 != q64
    if f.ulps:  # approximate functions may flush what is subnormal
        differ &= (p64 - q64).abs() >= torch.finfo(p.dtype).tiny
    if not bool(differ.any()):
        return 0.0
    if bool((differ & (p64.isinf() | q64.isinf())).any()):
        return float("inf")
    info = torch.finfo(p.dtype)
    scale = p64.abs().clamp(min=info.tiny)
    if f.terms:
        scale = (
            scale.clamp(min=float(p64[p64.isfinite()].abs().max()), max=None) if f.n_out == 1 else scale.clamp(min=1.0)
        )
    return float(((p64 - q64).abs() / (info.eps * scale))[differ].max())


def main() -> None:
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    if interpreted:
        from drt.backend.verify import interpreter

        torch.set_num_threads(1)
        interpreter.install()
    import triton

    device = "cpu" if interpreted else "cuda"
    made_by = f"Triton {triton.__version__}, torch {torch.__version__}"
    made_by = f"{'interpreter' if interpreted else torch.cuda.get_device_name()}, {made_by}"
    text = json.dumps({"made_by": made_by, "outputs": outputs(device)}, indent=0) + "\n"
    Path(sys.argv[1]).write_bytes(gzip.compress(text.encode(), mtime=0))


if __name__ == "__main__":
    main()
