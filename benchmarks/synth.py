"""Speed, uniformity and coverage of the synthesizer; prints the tables of docs/synth.md.

python -m drt.benchmarks.synth            # or: python benchmarks/synth.py
python benchmarks/synth.py --levels 1,5 --programs 10000 --nnsmith /path/to/other/venv/bin/python
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import time

from drt.synth import Relations, Sampler, Spec
from drt.synth.certify import certify
from drt.synth.cover import cover
from drt.synth.stats import impossible_edges, kolmogorov_p, possible_edges, uniformity

_NNSMITH = """
import sys, time, random
from nnsmith.graph_gen import model_gen
from nnsmith.materialize import Model
from nnsmith.narrow_spec import auto_opset
kind = Model.init("torch", "cpu")
ops = auto_opset(kind)
n, size = int(sys.argv[1]), int(sys.argv[2])
start = time.process_time()
for seed in range(n):
    model_gen(opset=ops, seed=seed, max_nodes=size, method="symbolic-cinit")
print(n / (time.process_time() - start))
"""


def covered() -> None:
    """Print how many of the edges (producer, consumer, slot) have a program, and those that have none."""
    sampler = Sampler(Spec(level=2))
    began, n, missing = time.process_time(), 0, []
    for found in cover(sampler):
        n += 1
        if found.program is None:
            missing.append(found)
        if n % 10000 == 0:
            print(f"{n} edges, {len(missing)} without a program, {time.process_time() - began:.0f} s", flush=True)
    print(
        f"{len(sampler.signatures)} operators; the types allow {n} edges and rule out {len(impossible_edges(sampler))}; "
        f"{n - len(missing)} have a program, {time.process_time() - began:.0f} s"
    )
    for found in missing:
        proof = certify(sampler, found.edge)
        said = " | ".join(proof.reasons) if proof is not None else f"not proved impossible; {found.reason}"
        print(f"    {' -> '.join(map(str, found.edge))}: {said}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--levels", default="1,2,3,5,10,20")
    parser.add_argument("--programs", type=int, default=3000)
    parser.add_argument("--sequences", type=int, default=10000)
    parser.add_argument("--nnsmith", default="", help="Python of an environment with nnsmith 0.1.0")
    parser.add_argument(
        "--cover", action="store_true", help="make a program for every edge that the types allow, and end"
    )
    arguments = parser.parse_args()
    if arguments.cover:
        covered()
        return
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, one core")
    relations: Relations | None = None
    p_values: list[float] = []
    for level in map(int, arguments.levels.split(",")):
        began = time.process_time()
        sampler = Sampler(Spec(level=level), relations=relations)
        relations = sampler.relations
        prepared = time.process_time() - began
        n = max(200, arguments.programs // max(1, level // 3))
        rates, edges, keys, missed = [], set(), set(), 0
        # Templates are made when they are first needed: the first pass pays for them, the second has them.
        for _ in range(2):
            began = time.process_time()
            missed = 0
            for index in range(n):
                program = sampler.program(index)
                if program is None:
                    missed += 1
                    continue
                keys.add(program.key)
                edges.update(program.edges)
            rates.append(n / (time.process_time() - began))
        import random

        rng = random.Random(level)
        names = sampler.skeletons.names
        sequences = [
            [names[s.choice.number] for s in sampler.skeletons.draw(rng)[1]] for _ in range(arguments.sequences)
        ]
        found = uniformity(sampler, sequences)
        p_values += found.p_values
        print(
            f"L={level:2d}  operators {len(names)}  prepared {prepared:.1f} s  cold {rates[0]:.0f}/s  warm {rates[1]:.0f}/s  "
            f"failed {missed}/{n}  distinct {len(keys)}  edges {len(edges)}/{len(possible_edges(sampler))}  "
            f"model error {found.error:.1e}  p {min(found.p_values):.3f}..{max(found.p_values):.3f}  "
            f"max/min {found.ratio:.2f}",
            flush=True,
        )
        if arguments.nnsmith:
            count = max(5, 100 // level)
            out = subprocess.run(
                [arguments.nnsmith, "-W", "ignore", "-c", _NNSMITH, str(count), str(level)],
                capture_output=True,
                text=True,
            )
            print(f"      NNSmith {float(out.stdout.split()[-1]):.0f}/s" if out.returncode == 0 else out.stderr[-300:])
    print(
        f"all positions: {len(p_values)} p-values, uniform with p = {kolmogorov_p(p_values):.2f} (Kolmogorov-Smirnov)"
    )


if __name__ == "__main__":
    main()
