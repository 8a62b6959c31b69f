"""The commands ``drt verify`` and ``drt doctor``: the judge, and what this machine offers it."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from .cli_common import CODES, GOOD, NO, Device, DeviceOption, Precision, PrecisionOption, examples, require_file


def verify(
    reference: Annotated[
        Path, typer.Argument(metavar="REFERENCE", help="FILE.py with `class Model`, or a program as text (PROGRAM.ir).")
    ],
    candidates: Annotated[
        list[Path],
        typer.Argument(
            metavar="CANDIDATE",
            help="Files with `class ModelNew`, or with a function named like the program; each gets a verdict.",
        ),
    ],
    precision: PrecisionOption = Precision.strict,
    seeds: Annotated[int, typer.Option(metavar="N", min=1, help="Sets of fresh random inputs.")] = 3,
    device: DeviceOption = Device.auto,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", metavar="N", min=0, help="Candidates at a time; 0: one per processor.")
    ] = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the verdict as JSON; a list of them for several candidates.")
    ] = False,
) -> int:
    """Judge whether each CANDIDATE computes what REFERENCE does, by Triton kernels of its own.

    The verdict names the first gate that failed, and the evidence of each.  Candidates run in processes of their own: one
    that hangs, crashes or eats memory costs its own deadline and no other's verdict.  The exit code is 0 where all passed.
    """
    for path in (reference, *candidates):
        require_file(path)

    from . import cli_view, judging
    from .backend.verify import JudgePool, Verdict

    def judged(path: Path) -> Verdict:
        return judging.verify(reference, path, precision=precision.value, seeds=seeds, device=device.value)

    if len(candidates) == 1:
        verdict = judged(candidates[0])
        cli_view.show_verdict(verdict, as_json)
        return GOOD if verdict.passed else NO
    with JudgePool(jobs or None) as pool, cli_view.progress(as_json) as progress:
        futures = [pool.call(partial(judged, path)) for path in candidates]
        verdicts = []
        for k, future in enumerate(futures):
            progress("verify", k, len(futures), candidates[k].name)
            verdicts.append(future.result())
        progress("verify", len(futures), len(futures))
        report = pool.report
    if as_json:
        rows = [{"candidate": str(p), **json.loads(v.to_json())} for p, v in zip(candidates, verdicts, strict=True)]
        print(json.dumps(rows, indent=2))
    else:
        cli_view.show_verdicts([str(p) for p in candidates], verdicts, str(report))
    return GOOD if all(v.passed for v in verdicts) else NO


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> int:
    """Say what this machine offers: versions, the device, the compilers, and what keeps candidates in.

    The exit code is 1 where something that DRT cannot do without is missing.
    """
    from . import cli_view
    from .doctor import examine

    findings = examine()
    if as_json:
        print(json.dumps([f.to_dict() for f in findings], indent=2))
    else:
        cli_view.show_findings(findings)
    return NO if any(f.status == "missing" for f in findings) else GOOD


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command(
        "verify",
        epilog=examples(
            "drt verify model.py fast.py",
            "drt verify model.py fast.py --precision tf32 --json",
            "drt verify model.py out/*.py --jobs 8",
            "drt verify program.ir kernel.py",
            CODES,
        ),
    )(verify)
    app.command("doctor", epilog=examples("drt doctor", CODES))(doctor)
