"""The judge on a CUDA device: every gate on candidates of the template generator, which it is told are somebody else's.

    python benchmarks/device_gate.py [--cases REGEX] [--jobs N] [--out FILE.json]

For each candidate: its verdict, whether the device gate replayed it from its tape (and whether the machine code was the same,
byte for byte), the time that the replaying process measured, and beside it ``triton.testing.do_bench`` (median) of the
candidate's own launcher in this process, on the same device, right after.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import attrs
import torch
import triton
from drt.backend.candidate import Candidate
from drt.backend.measure import graph_inputs, precision_flags
from drt.backend.triton_gen import TemplateTranslator
from drt.backend.verify import Verdict, verify_candidate
from drt.ir import Graph, parse_graph
from drt.search import load_entry
from gen_tune import CASES

GATES = ("policy", "trace", "compile", "memory", "meaning", "device")


def candidates(pattern: str) -> list[tuple[str, Graph, Candidate]]:
    """Return the best predicted candidate of each case, under another writer's name."""
    found = []
    for name, (text, _, precision) in CASES.items():
        if not re.search(pattern, name):
            continue
        graph = parse_graph(text)
        for candidate in TemplateTranslator(precision=precision).propose(graph, 1):
            found.append((name, graph, attrs.evolve(candidate, writer="foreign")))
    return found


def bench_us(graph: Graph, candidate: Candidate) -> float:
    """Return the median of ``do_bench`` of the candidate's launcher, microseconds."""
    entry, inputs = load_entry(candidate), list(graph_inputs(graph)(0))
    with precision_flags(candidate.precision), torch.no_grad():
        return float(triton.testing.do_bench(lambda: entry(*inputs), warmup=50, rep=200, return_mode="median")) * 1e3


def row(name: str, candidate: Candidate, verdict: Verdict, seconds: float) -> dict[str, Any]:
    evidence = {g.gate: g.evidence for g in verdict.gates}.get("device", {})
    return {
        "case": name, "variant": candidate.variant, "passed": verdict.passed, "gate": verdict.gate, "label": verdict.label,
        "message": verdict.message, "replayed": evidence.get("replayed"), "same_code": evidence.get("same_code"),
        "why_not_replayed": evidence.get("why_not_replayed", ""), "replay_us": evidence.get("time_us"),
        "gates_ms": {g.gate: round(g.time_ms) for g in verdict.gates}, "verdict_s": round(seconds, 2),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default="", help="regular expression over the names of cases")
    parser.add_argument("--jobs", type=int, default=4, help="candidates whose CPU gates run at a time")
    parser.add_argument("--out", type=Path, help="write every row here")
    options = parser.parse_args()
    torch.cuda.init()
    work = candidates(options.cases)

    def judge(item: tuple[str, Graph, Candidate]) -> dict[str, Any]:
        name, graph, candidate = item
        started = time.perf_counter()
        verdict = verify_candidate(graph, candidate, gates=GATES, timeout_s=120.0)
        found = row(name, candidate, verdict, time.perf_counter() - started)
        print(f"  {name}: {verdict.summary()[:110]}", flush=True)
        return found

    started = time.perf_counter()
    with ThreadPoolExecutor(options.jobs) as pool:
        rows = list(pool.map(judge, work))
    seconds = time.perf_counter() - started
    for found, (_, graph, candidate) in zip(rows, work, strict=True):
        if found["replay_us"]:
            found["do_bench_us"] = bench_us(graph, candidate)
            found["ratio"] = found["replay_us"] / found["do_bench_us"]
            torch.cuda.empty_cache()
        if options.out:
            options.out.write_text(json.dumps(rows, indent=1))
    print(f"\n{torch.cuda.get_device_name()}, torch {torch.__version__}, triton {triton.__version__}")
    print(f"{'case':<20}{'variant':<34}{'verdict':<10}{'replayed':<22}{'replay us':>10}{'do_bench':>10}{'ratio':>7}")
    for r in rows:
        how = "same code" if r["same_code"] else "yes" if r["replayed"] else f"no: {r['why_not_replayed']}"[:21]
        verdict = "passed" if r["passed"] else r["label"]
        times = f"{r['replay_us']:>10.1f}{r['do_bench_us']:>10.1f}{r['ratio']:>7.3f}" if "ratio" in r else ""
        print(f"{r['case']:<20}{r['variant'][:33]:<34}{verdict:<10}{how:<22}{times}")
    ratios = [r["ratio"] for r in rows if "ratio" in r and math.isfinite(r["ratio"])]
    passed, replayed = sum(r["passed"] for r in rows), sum(bool(r["replayed"]) for r in rows)
    print(
        f"{passed} of {len(rows)} passed, {replayed} replayed, {len(rows) / seconds:.2f} verdicts/s with {options.jobs} jobs"
    )
    if ratios:
        print(f"replay / do_bench: median {statistics.median(ratios):.3f}, from {min(ratios):.3f} to {max(ratios):.3f}")


if __name__ == "__main__":
    main()
