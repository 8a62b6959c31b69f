"""The results of a run as tables for a reader."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from .published import RULES

Record = dict[str, Any]


def _share(n: int, of: int) -> str:
    return f"{n}/{of} ({100 * n / of:.1f} %)" if of else "-"


def _rows(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(r) + " |" for r in rows)])


def is_equivalent(record: Record) -> bool:
    """Whether a mutant that passed was argued to be the right program."""
    argument = record.get("equivalent", "")
    return bool(argument) and not argument.startswith("?")


def parts(results: Sequence[Record]) -> dict[str, list[Record]]:
    """Return the results by corpus, mutants without the equivalent ones, which are apart."""
    found: dict[str, list[Record]] = defaultdict(list)
    for r in results:
        corpus = r["corpus"]
        if corpus == "mutant" and r["passed"] and is_equivalent(r):
            corpus = "equivalent"
        found[corpus].append(r)
    return found


def is_bad(results: Sequence[Record]) -> int:
    """Return 1 where a cheat passed, a right kernel was refused, or more than 0.5 % of the wrong mutants passed."""
    p = parts(results)
    survived = sum(r["passed"] for r in p["mutant"])
    bad = any(r["passed"] for r in p["cheat"]) or any(not r["passed"] for r in p["right"])
    return int(bad or survived > 0.005 * len(p["mutant"]))


def table(results: Sequence[Record], seconds: float = 0.0) -> str:
    """Return everything worth knowing about a run, as Markdown."""
    p = parts(results)
    wrong, cheats, right = p["mutant"], p["cheat"], p["right"]
    out: list[str] = []

    def accepted(records: Sequence[Record], rule: str) -> int:
        return sum(r["passed"] if rule == "judge" else r["rules"][rule] for r in records)

    ruled = all("rules" in r for r in results)
    names = ("judge", *(RULES if ruled else ()))
    rows = []
    for name in names:
        rows.append((
            name,
            _share(len(wrong) - accepted(wrong, name), len(wrong)),
            _share(len(cheats) - accepted(cheats, name), len(cheats)),
            _share(len(right) - accepted(right, name), len(right)),
        ))  # fmt: skip
    out.append(_rows(("rule", "wrong mutants refused", "cheats refused", "right kernels refused"), rows))
    if wrong:
        by_kind: dict[str, list[Record]] = defaultdict(list)
        for r in wrong:
            by_kind[r["kind"]].append(r)
        rows = [
            (kind, str(len(rs)), *(_share(len(rs) - accepted(rs, n), len(rs)) for n in names))
            for kind, rs in sorted(by_kind.items())
        ]
        out.append(_rows(("kind of mutant", "number", *names), rows))
        by_program: dict[str, list[Record]] = defaultdict(list)
        for r in wrong:
            by_program[r["program_kind"]].append(r)
        rows = [
            (kind, str(len(rs)), *(_share(len(rs) - accepted(rs, n), len(rs)) for n in names))
            for kind, rs in sorted(by_program.items())
        ]
        out.append(_rows(("kind of kernel", "mutants", *names), rows))
    stops = Counter(r["gate"] for r in (*wrong, *cheats) if not r["passed"])
    if stops:
        out.append(_rows(("gate", "stops"), [(g, str(n)) for g, n in stops.most_common()]))
    arguments = Counter(r["equivalent"].split(":")[0] for r in p["equivalent"])
    if arguments:
        out.append(f"{len(p['equivalent'])} mutants are the right program in other words: "
                   + ", ".join(f"{n} {a}" for a, n in arguments.most_common()) + ".")  # fmt: skip
    for title, chosen in (
        ("Wrong mutants that passed", [r for r in wrong if r["passed"]]),
        ("Cheats that passed", [r for r in cheats if r["passed"]]),
        (
            "Cheats stopped at another gate",
            [r for r in cheats if not r["passed"] and r["gate"] not in r["want"].split("|")],
        ),
        ("Right kernels refused", [r for r in right if not r["passed"]]),
    ):
        if chosen:
            out.append(f"{title}:\n" + "\n".join(
                f"* {r['name']}" + (f" [{r['equivalent']}]" if r.get("equivalent") else "")
                + (f": {r['gate']} [{r['label']}]: {r['message']}" if not r["passed"] else "") for r in chosen))  # fmt: skip
    out.append(costs(results, seconds))
    return "\n\n".join(out)


def costs(results: Sequence[Record], seconds: float) -> str:
    """Return what verdicts cost: seconds for each candidate by kind of program, milliseconds for each gate."""
    by_kind: dict[str, list[float]] = defaultdict(list)
    by_gate: dict[str, list[float]] = defaultdict(list)
    for r in results:
        by_kind[r["program_kind"] + (" (right)" if r["corpus"] == "right" else "")].append(r["seconds"])
        for gate, ms in r["gates_ms"].items():
            by_gate[gate].append(ms)
    rows = [
        (kind, str(len(ts)), f"{_median(ts):.2f}", f"{max(ts):.2f}") for kind, ts in sorted(by_kind.items())
    ]  # fmt: skip
    text = _rows(("kind of kernel", "verdicts", "median s", "longest s"), rows)
    gates = [(g, str(len(ts)), f"{_median(ts):.1f}", f"{max(ts):.0f}") for g, ts in by_gate.items()]
    text += "\n\n" + _rows(("gate", "ran", "median ms", "longest ms"), gates)
    if seconds:
        text += f"\n\n{len(results)} verdicts in {seconds:.0f} s."
    return text


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]
