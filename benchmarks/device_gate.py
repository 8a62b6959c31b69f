"""The judge on a CUDA device: every gate on candidates of the template generator, which it is told are somebody else's.

    python benchmarks/device_gate.py [--cases REGEX] [--jobs N] [--out FILE.json] [--no-cheats]

For each candidate: its verdict, whether the device gate replayed it from its tape (and whether the machine code was the same,
byte for byte), the time that the replaying process measured, and beside it ``triton.testing.do_bench`` (median) of the
candidate's own launcher in this process, on the same device, right after.

Then the cheats that play with time (pattern E of ``tests/judge/cheats``): what all gates say of them, and what is left of
them where the gate policy looks away: a refusal, or a time that is the honest kernel's.
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

# `judge` is the package among the tests, not the file beside this one.
sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

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
from judge import cheats
from judge.cheats.tasks import SOFTMAX

GATES = ("policy", "trace", "compile", "memory", "meaning", "device")

#: Programs beside those of ``gen_tune``.
MORE = {
    "log_softmax_f16": """drt 1
graph log_softmax_f16(%x: f16[8192, 5000]) -> (%y) { %y = log_softmax(%x) {axis = 1} : f16[8192, 5000] }""",
    "sigmoid_mul_bf16": """drt 1
graph sigmoid_mul_bf16(%x: bf16[8191, 4097], %g: bf16[8191, 4097]) -> (%y) {
  %s = sigmoid(%g) : bf16[8191, 4097]
  %y = mul(%x, %s) : bf16[8191, 4097]
}""",
    "amax_columns": """drt 1
graph amax_columns(%x: f32[16, 4096, 1000]) -> (%y) { %y = amax(%x) {axes = [1]} : f32[16, 1000] }""",
    "var_rows": """drt 1
graph var_rows(%x: f32[10000, 3001]) -> (%y) { %y = var(%x) {axes = [1]} : f32[10000] }""",
    "avg_pool": """drt 1
graph avg_pool(%x: f32[16, 96, 113, 113]) -> (%y) {
  %y = avg_pool2d(%x) {kernel = [2, 2], stride = [2, 2]} : f32[16, 96, 56, 56]
}""",
    "linear_odd_f32": """drt 1
graph linear_odd_f32(%x: f32[1021, 509], %w: f32[777, 509], %b: f32[777]) -> (%y) {
  %h = linear(%x, %w, %b) : f32[1021, 777]
  %y = silu(%h) : f32[1021, 777]
}""",
    "mse_rows": """drt 1
graph mse_rows(%x: f32[32768, 1024], %t: f32[32768, 1024]) -> (%y) {
  %d = sub(%x, %t) : f32[32768, 1024]
  %s = mul(%d, %d) : f32[32768, 1024]
  %y = mean(%s) {axes = [1]} : f32[32768]
}""",
}


def candidates(pattern: str) -> list[tuple[str, Graph, Candidate]]:
    """Return the best predicted candidate of each case, under another writer's name."""
    found = []
    programs = {name: (text, precision) for name, (text, _, precision) in CASES.items()}
    programs |= {name: (text, "strict") for name, text in MORE.items()}
    for name, (text, precision) in programs.items():
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


def timing_cheats(jobs: int) -> list[dict[str, Any]]:
    """Judge the cheats that play with time by all gates, and by all but policy; the first row is the honest kernel."""
    cases = [c for c in cheats.cases() if c.kind == "E"]

    def judge(item: tuple[str, Graph, Candidate]) -> dict[str, Any]:
        name, graph, candidate = item
        found: dict[str, Any] = {"cheat": name}
        for key, gates in (("all", GATES), ("unpoliced", GATES[1:])):
            verdict = verify_candidate(graph, candidate, gates=gates, timeout_s=60.0)
            evidence = {g.gate: g.evidence for g in verdict.gates}.get("device", {})
            found[key] = "passed" if verdict.passed else f"{verdict.gate} [{verdict.label}]"
            found[f"{key}_us"], found[f"{key}_why"] = evidence.get("time_us"), evidence.get("why_not_replayed", "")
        return found

    # All of them compute this softmax; it is made large enough for its time to be the kernel's.
    large = parse_graph(SOFTMAX.program.replace("[64, 256]", "[8192, 4096]"))
    work = [("honest", large, SOFTMAX.candidate(SOFTMAX.source))]
    work += [(c.name, large, c.kernel.candidate(c.source)) for c in cases]
    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(judge, work))


def print_cheats(rows: list[dict[str, Any]]) -> None:
    honest = rows[0]["unpoliced_us"]
    print(f"\n{'timing cheat':<30}{'all gates':<28}{'without policy':<32}{'us':>8}")
    escaped = []
    for r in rows:
        time_us = r["unpoliced_us"]
        print(f"{r['cheat']:<30}{r['all']:<28}{r['unpoliced']:<32}" + (f"{time_us:>8.1f}" if time_us else ""))
        faster = r["unpoliced"] == "passed" and time_us and honest and time_us < 0.9 * honest
        if r["cheat"] != "honest" and (r["all"] == "passed" or faster):
            escaped.append(r["cheat"])
    caught = len(rows) - 1 - len(escaped)
    print(f"{caught} of {len(rows) - 1} timing cheats caught" + (f"; not: {', '.join(escaped)}" if escaped else ""))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default="", help="regular expression over the names of cases")
    parser.add_argument("--jobs", type=int, default=4, help="candidates whose CPU gates run at a time")
    parser.add_argument("--out", type=Path, help="write every row here")
    parser.add_argument("--no-cheats", action="store_true", help="leave the timing cheats out")
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
    if not options.no_cheats:
        cheating = timing_cheats(options.jobs)
        if options.out:
            options.out.write_text(json.dumps({"candidates": rows, "cheats": cheating}, indent=1))
        print_cheats(cheating)
    if ratios:
        print(f"replay / do_bench: median {statistics.median(ratios):.3f}, from {min(ratios):.3f} to {max(ratios):.3f}")


if __name__ == "__main__":
    main()
