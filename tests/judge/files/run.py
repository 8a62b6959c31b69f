"""Judges the corpus of whole files.

python -m judge.files.run [--only right,wrong,cheats] [--seeds N] [NAME ...]      (from the folder ``tests``)
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

import attrs
import drt
from drt.backend.verify import Verdict

from . import FILE_CHEATS, HEADER, PAIRS

CORPORA = ("right", "wrong", "cheats")


@attrs.frozen
class FileCase:
    """One file to judge.

    Attributes:
        corpus: ``right``, ``wrong`` or ``cheats``.
        about: the mistake or the trick.
    """

    corpus: str
    name: str
    about: str
    reference: str = attrs.field(repr=False)
    source: str = attrs.field(repr=False)
    precision: str = "strict"

    @property
    def wanted(self) -> bool:
        """Whether it is right."""
        return self.corpus == "right"


def cases() -> Iterator[FileCase]:
    """Yield all cases."""
    for p in PAIRS:
        yield FileCase("right", p.name, "", p.reference, p.source, p.precision)
        for f in p.faults:
            yield FileCase("wrong", f"{p.name}/{f.name}", f.about, p.reference, p.wrong(f), p.precision)
    for c in FILE_CHEATS:
        yield FileCase("cheats", c.name, c.about, c.reference, c.source)


def judge(case: FileCase, folder: Path, seed: int = 1) -> Verdict:
    """Write both files to a folder and judge one against the other."""
    reference, candidate = folder / "model.py", folder / "fast.py"
    reference.write_text(HEADER + case.reference)
    candidate.write_text(HEADER + case.source)
    return drt.verify(str(reference), str(candidate), precision=case.precision, device="cpu", seed=seed)


def judge_all(only: Collection[str] = CORPORA, names: Collection[str] = (), seeds: int = 1) -> bool:
    """Judge cases, print those that are judged wrongly and the counts, and return whether there were any.

    Args:
        only: corpora.
        names: parts of names; all cases where empty.
        seeds: how often each is judged, with other inputs.
    """
    total: Counter[str] = Counter()
    bad: Counter[str] = Counter()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        for case in cases():
            if case.corpus not in only or (names and not any(n in case.name for n in names)):
                continue
            total[case.corpus] += 1
            verdicts = [judge(case, Path(folder), seed) for seed in range(1, 1 + seeds)]
            wrong = [v for v in verdicts if v.passed != case.wanted]
            if wrong:
                bad[case.corpus] += 1
                print(f"{case.corpus} {case.name}: {case.about if wrong[0].passed else wrong[0].message}", flush=True)
    for corpus, n in total.items():
        print(f"whole files, {corpus}: {n} judged, {bad[corpus]} of them wrongly")
    print(f"{time.perf_counter() - started:.0f} s")
    return bool(bad)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="judge only cases whose name contains one of these")
    parser.add_argument("--only", default=",".join(CORPORA), help="corpora, joined by commas")
    parser.add_argument("--seeds", type=int, default=1, help="how often each is judged, with other inputs")
    options = parser.parse_args()
    raise SystemExit(int(judge_all(options.only.split(","), options.names, options.seeds)))


if __name__ == "__main__":
    main()
