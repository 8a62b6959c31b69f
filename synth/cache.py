"""Signatures kept on disk: finding them takes seconds, reading them back does not."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..ir import OpDef, print_op
from .calls import Signature, Structure, Symbolic
from .relation import Relations


def cache_folder() -> Path:
    """Return where DRT keeps what can be found again: ``$XDG_CACHE_HOME/drt/synth`` or ``~/.cache/drt/synth``."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "drt" / "synth"


def load_signatures(relations: Relations, ops: Iterable[OpDef], folder: Path | None = None) -> None:
    """Find the signatures of operators, or read them back if these definitions have been seen before.

    Args:
        relations: is filled.
        ops: the operators wanted.
        folder: where to keep them; None means :func:`cache_folder`.  A folder that cannot be written is passed over.
    """
    folder = cache_folder() if folder is None else folder
    todo = list(ops)
    path = folder / f"{_key(relations)}.json"
    stored: dict[str, Any] = {"structures": [], "ops": {}}
    with suppress(OSError, ValueError):
        stored = json.loads(path.read_text())
    structures = [
        Structure(_tuple(r), tuple((k, _value(v)) for k, v in a), tuple(out)) for r, a, out in stored["structures"]
    ]
    known = {}
    for op in todo:
        digest = hashlib.sha256(print_op(op).encode()).hexdigest()
        known[op.name] = digest
        entry = stored["ops"].get(digest)
        if entry is not None:
            relations.restore(
                op.name,
                tuple(
                    Signature(op.name, _tuple(o), _tuple(r), _tuple(d), tuple(structures[i] for i in numbers))
                    for o, r, d, numbers in entry
                ),
            )
    missing = [op for op in todo if known[op.name] not in stored["ops"]]
    if not missing:
        return
    number = {id(s): i for i, s in enumerate(structures)}
    for op in missing:
        rows = []
        for s in relations.signatures(op):
            for x in s.structures:
                if id(x) not in number:
                    number[id(x)] = len(stored["structures"])
                    structures.append(x)
                    stored["structures"].append([x.ranks, [[k, _plain(v)] for k, v in x.attributes], x.results])
            rows.append([s.operands, s.results, s.dtypes, [number[id(x)] for x in s.structures]])
        stored["ops"][known[op.name]] = rows
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(stored))
        temporary.replace(path)
    except OSError:
        return


def _key(relations: Relations) -> str:
    """Return a hash of everything but the definitions that signatures depend on, the code that finds them included."""
    here = Path(__file__).parent
    parts = [str((relations.dtypes, relations.max_rank, relations.list_lengths))]
    for name in ("relation.py", "calls.py", "symbolic.py", "../ir/infer.py", "../ir/evaluate.py", "../ir/size.py"):
        parts.append((here / name).read_text())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _tuple(v: Any) -> Any:
    return tuple(map(_tuple, v)) if isinstance(v, list) else v


def _plain(v: Any) -> Any:
    return {"symbolic": v.length} if isinstance(v, Symbolic) else v


def _value(v: Any) -> Any:
    return Symbolic(v["symbolic"]) if isinstance(v, dict) else _tuple(v)
