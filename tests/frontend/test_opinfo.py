"""Every sample call that PyTorch's own tests make, against the importer, the lowering and the definitions.

For each entry of ``op_db`` and each of its samples: the call is a program whose inputs are the sample's tensors; it is
imported, must consist of operators that have definitions, is lowered with ``to_callable`` and compared with PyTorch in its
own dtype; and the meaning of its operators (the oracle, in float64) is compared with PyTorch in float64.

* What stays opaque, is refused or differs is listed with a reason in ``tests/programs/opinfo_expected.py``; anything else
  fails.  An entry there that matches nothing fails the complete run.
* The default run takes one sample of every twelfth operator; ``--full`` takes up to 24 of each
  operator in float32 and some in int64, bool and bfloat16.
* ``python tests/frontend/test_opinfo.py --report [--most N] [NAME ...]`` prints known, opaque, refused and different
  samples for each operator (names may have ``*``), and the reasons with ``--reasons``.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import sys
from collections import Counter
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from programs.opinfo import STATUSES, Outcome, all_samples, examine, op_infos, samples
from programs.opinfo_expected import EXPECTED, Expected

pytestmark = pytest.mark.filterwarnings("ignore")
#: Every how manieth operator the default run looks at.
STRIDE = 12


def expected_for(outcome: Outcome) -> Expected | None:
    """Return the entry that explains an outcome."""
    for e in EXPECTED:
        if fnmatch.fnmatchcase(outcome.sample.op, e.op) and e.status == outcome.status and e.match in outcome.reason:
            return e
    return None


def unexplained(outcomes: list[Outcome]) -> list[str]:
    return [
        f"{o.sample}: {o.status}: {o.reason}"
        for o in outcomes
        if o.status not in ("known", "skipped") and expected_for(o) is None
    ]


def test_samples_of_pytorch() -> None:
    # Calls of different operators side by side: exporting a program takes longer than a call in it.
    chosen = [s for info in op_infos()[::STRIDE] for s in samples(info, torch.float32, 1)]
    outcomes = examine(chosen)
    assert len(outcomes) > 50 and not unexplained(outcomes), "\n".join(unexplained(outcomes)[:10])


@pytest.mark.full
def test_all_samples_of_pytorch() -> None:
    wrong, seen = [], set()
    for info in op_infos():
        for group in all_samples(info, most=24):
            outcomes = examine(group)
            wrong += unexplained(outcomes)
            seen |= {expected_for(o) for o in outcomes}
    unused = [e for e in EXPECTED if e not in seen]
    assert not wrong, f"{len(wrong)} samples: " + "\n".join(wrong[:20])
    assert not unused, "no longer so, take out: " + "; ".join(f"{e.op} {e.status} '{e.match}'" for e in unused)


def report(names: list[str], most: int, reasons: bool) -> None:
    """Print a line per operator and the totals."""
    totals: Counter[str] = Counter()
    print(f"{'operator':45s}" + "".join(f"{s:>9s}" for s in STATUSES))
    for info in op_infos():
        if names and not any(fnmatch.fnmatchcase(info.full_name, n) for n in names):
            continue
        outcomes = [o for group in all_samples(info, most) for o in examine(group)]
        counts = Counter(o.status for o in outcomes)
        totals += counts
        print(f"{info.full_name:45s}" + "".join(f"{counts[s] or '.':>9}" for s in STATUSES), flush=True)
        if reasons:
            shown = Counter(f"{o.status}: {o.reason}" for o in outcomes if o.status not in ("known", "skipped"))
            first = {f"{o.status}: {o.reason}": o for o in reversed(outcomes)}
            for text, n in shown.most_common(5):
                print(
                    f"    {n} x {'(listed) ' if expected_for(first[text]) else ''}{text}\n        {first[text].sample}"[
                        :900
                    ]
                )
    print(f"{'all':45s}" + "".join(f"{totals[s]:>9}" for s in STATUSES))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--report", action="store_true", required=True)
    parser.add_argument("--most", type=int, default=6, help="samples of each operator and dtype")
    parser.add_argument("--reasons", action="store_true")
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    report(options.names, options.most, options.reasons)
