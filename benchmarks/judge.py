"""How good the judge is: what it stops of what is wrong, and what it lets pass of what is right.

    python benchmarks/judge.py [--only mutants,cheats,right] [--limit N] [--jobs N] [--rules] [--device] [--json FILE] [NAME]

Three corpora of fragments (``tests/judge``): seeded mutants of right kernels, hand-written cheats, and right kernels; and a
corpus of whole files (``tests/judge/files``) that are right, wrong or cheat.  The fragments go through three published rules
too with ``--rules``.  Results are kept in ``build/judge.jsonl``; an interrupted run goes on where
it was, and a changed judge starts anew.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

# `judge` is the package among the tests, not this file.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import torch
import triton
from judge import cheats, equivalence, mutation, repairs, report, runner
from judge.files.run import judge_all
from judge.right import HAND_WRITTEN, generated

ROOT = Path(__file__).resolve().parent.parent


def cases(options: argparse.Namespace) -> list[runner.Case]:
    """Return what is to be judged."""
    only = options.only.split(",")
    chosen = [k for k in HAND_WRITTEN if not options.names or any(n in k.name for n in options.names)]
    made = generated() if {"right", "mutants"} & set(only) else ()
    made = tuple(k for k in made if not options.names or any(n in k.name for n in options.names))
    found: list[runner.Case] = []
    if "right" in only:
        found += [runner.Case("right", k.name, k.kind, k, k.source, gate="") for k in (*chosen, *made)]
    if "cheats" in only:
        found += [c for c in cheats.cases() if not options.names or any(n in c.name for n in options.names)]
    if "mutants" in only:
        for kernel in (*chosen, *made):
            if kernel.mutate:
                drawn = mutation.sample(mutation.mutants(kernel), options.limit, options.seed)
                found += [
                    runner.Case("mutant", m.name, m.kind, kernel, m.source, f"{m.before} -> {m.after}") for m in drawn
                ]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="judge only kernels and cheats whose name contains one of these")
    parser.add_argument("--only", default="mutants,cheats,right,files", help="corpora, joined by commas")
    parser.add_argument("--limit", type=int, default=24, help="mutants of each kernel, drawn evenly over kinds; 0: all")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1, help="of the mutants drawn and of the inputs")
    parser.add_argument("--rules", action="store_true", help="judge by the published rules too")
    parser.add_argument("--device", action="store_true", help="judge what passes on the CUDA device too")
    parser.add_argument("--store", type=Path, default=ROOT / "build" / "judge.jsonl")
    parser.add_argument("--any-judge", action="store_true", help="take stored results of another judge for this one's")
    parser.add_argument("--json", type=Path, help="write all results to this file")
    parser.add_argument("--quiet", action="store_true", help="no line for each candidate that was judged wrongly")
    parser.add_argument(
        "--repairs", action="store_true", help="print ten faults with what the judge says of them, and end"
    )
    options = parser.parse_args()
    if options.repairs:
        print(repairs.page())
        return
    everything = cases(options)
    store = runner.Store(options.store, "" if options.any_judge else runner.fingerprint())
    print(f"{len(everything)} candidates, {len(store.known)} results kept", flush=True)
    started = time.perf_counter()

    def progress(n: int, record: dict[str, Any]) -> None:
        wrong = record["passed"] != (record["corpus"] == "right")
        if wrong and not options.quiet:
            found = record["message"] or record["about"]
            print(f"    {record['corpus']} {record['name']}: {'passed' if record['passed'] else found}", flush=True)
        if n % 100 == 0 or n == len(everything):
            print(f"{n} of {len(everything)} after {time.perf_counter() - started:.0f} s", flush=True)

    results = runner.run(everything, store, seed=options.seed, rules=options.rules, jobs=options.jobs,
                         device=options.device, report=progress)  # fmt: skip
    seconds = time.perf_counter() - started
    sources = {runner.key_of(c, options.seed): c for c in everything}
    for record in results:
        if record["corpus"] == "mutant" and record["passed"] and "equivalent" not in record:
            case = sources[record["key"]]
            record["equivalent"] = equivalence.argue(case.kernel, case.source, case.about, case.kind, options.seed)
            store.add(record)
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, Triton {triton.__version__}"
    print(f"{platform.machine()}, {os.cpu_count()} cores, {options.jobs} at once; {versions}")
    print(report.table(results, seconds))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
        print(f"written: {options.json}")
    files_bad = judge_all(names=options.names) if "files" in options.only.split(",") else False
    raise SystemExit(int(report.is_bad(results) or files_bad))


if __name__ == "__main__":
    main()
