"""The example models against eager PyTorch and ``torch.compile``, in one run on one GPU.

Usage, from a checkout or with the package installed:

    python benchmarks/examples.py [--precision strict|tf32] [--json FILE] [EXAMPLE.py ...]

Each model is compiled, its written file is verified against the original at full size, and the three are timed together,
interleaved, at the same precision flags.  One line per model; the table is the one in the README.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = (
    "gemm_gelu_softmax", "mlp_block", "attention_block", "conv_block", "norm_tail", "big_reduction",
    "softmax_classifier", "rmsnorm_swiglu", "decoder_layer",
)  # fmt: skip


def drt() -> ModuleType:
    """Import the package: the installed one, or this checkout under the name ``drt``."""
    try:
        import drt as package
    except ImportError:
        folder = tempfile.mkdtemp(prefix="drt_path_")
        (Path(folder) / "drt").symlink_to(ROOT)
        sys.path.insert(0, folder)
        import drt as package
    return package


def main() -> int:
    """Run the benchmark; returns 0 if every model was verified."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("examples", nargs="*", type=Path, help="model files; default: the nine of examples/")
    parser.add_argument("--precision", default="strict", choices=("strict", "tf32"))
    parser.add_argument("--budget", type=float, default=60.0, help="seconds of search for one model")
    parser.add_argument("--variants", type=int, default=6, help="kernels tried for one fragment")
    parser.add_argument("--json", type=Path, help="write every report there")
    parser.add_argument("--keep", type=Path, help="folder for the written files")
    arguments = parser.parse_args()
    drt()
    from drt.pipeline import compile_model
    from drt.report import CompileOptions

    paths = arguments.examples or [ROOT / "examples" / f"{name}.py" for name in EXAMPLES]
    keep = arguments.keep or Path(tempfile.mkdtemp(prefix="drt_out_"))
    keep.mkdir(parents=True, exist_ok=True)
    options = CompileOptions(
        precision=arguments.precision, budget_s=arguments.budget, variants=arguments.variants, device="auto"
    )
    reports, good = [], True
    heads = f"{'DRT us':>10}{'eager us':>10}{'compile us':>11}{'vs eager':>9}{'vs comp.':>9}"
    print(f"{'model':<22}{'kernels':>8}{'left':>5}{heads}  verified")
    for path in paths:
        start_s = time.monotonic()
        try:
            report = compile_model(str(path), keep / f"{path.stem}_drt.py", options)
        except Exception as error:
            good = False
            print(f"{path.stem:<22}  failed: {type(error).__name__}: {str(error).splitlines()[0][:140]}", flush=True)
            continue
        us = report.whole_us
        kernels = sum(not row.is_leftover for row in report.rows)
        ratios = [us.get(k, float("nan")) / us.get("drt", float("nan")) for k in ("eager", "compiled")]
        good &= report.whole.passed
        verdict = "yes" if report.whole.passed else f"NO: {report.whole.summary()[:80]}"  # type: ignore[attr-defined]
        print(
            f"{path.stem:<22}{kernels:>8}{len(report.leftovers):>5}{us.get('drt', float('nan')):>10.1f}"
            f"{us.get('eager', float('nan')):>10.1f}{us.get('compiled', float('nan')):>11.1f}"
            f"{ratios[0]:>8.2f}x{ratios[1]:>8.2f}x  {verdict}  ({time.monotonic() - start_s:.0f} s)",
            flush=True,
        )
        for row in report.rows:
            times = [f"{t:.1f}" if t is not None else "-" for t in (row.time_us, row.eager_us, row.compiled_us)]
            print(
                f"    {row.operators[:60]:<60} {row.writer:<9} {'/'.join(times):<26} {row.variant or row.reason}"[:190]
            )
        reports.append(json.loads(report.to_json()))
    if arguments.json:
        arguments.json.write_text(json.dumps(reports, indent=1))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
