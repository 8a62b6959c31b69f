"""Which operators leave one another something to compute, found by programs of two operators.

A wiring in which a call computes nothing (`any` of sums, the logarithm of what is never positive) is refused after sizes were
drawn and values computed.  Most of these calls compute nothing for the sake of one operator that feeds them: such edges are
looked up here, and wirings without them are drawn instead.
"""

from __future__ import annotations

import random
import sqlite3
import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

from .cache import closure_digest, digest
from .calls import Signature, Type
from .degenerate import Refusal
from .emit import write
from .profiles import PROFILES
from .skeleton import Choice, Wired, wired_pair
from .spec import Program

if TYPE_CHECKING:
    from .sampler import Sampler

#: An operator with the result that is used and the dtypes of its slots; and one slot with the operator that feeds it and its
#: result, or None for graph inputs alone.
Edge: TypeAlias = "tuple[str, int, tuple[str, ...], tuple[int, str, int] | None]"
#: Programs of one edge: so many sound ones, or so many others, settle it.
_SOUND, _OTHERS = 2, 3
#: Times that a call was to blame which weigh as much as an edge that mostly computes nothing.
FAULT = 2
#: Findings after which they are written down.
_BATCH = 64


class Screen:
    """What is known of edges: a pure function of the edge and the operators' definitions.

    Args:
        sampler: whose operators.
        judge: says what a program computes.
        folder: where findings are kept, in ``edges.sqlite``; one that cannot be used is passed over, as is a judge that no
            module has by name.
    """

    def __init__(self, sampler: Sampler, judge: Callable[[Program], Program | Refusal], folder: Path) -> None:
        # What two operators make of each other does not hang on large sizes.
        self._sampler, self.judge = sampler.of_sizes(PROFILES["small"]), judge
        self._known: dict[Edge, bool] = {}
        code = _code_of(judge)
        self._kept = _Kept(None if code is None else folder / "edges.sqlite")
        weakref.finalize(self, self._kept.save)
        # Nothing else speaks of two operators alone.
        spec = attrs.evolve(self._sampler.spec, level=1)
        self._digest = digest(str(spec), folder.name, code or "")
        self._signatures, self._makes = cache(self._find_signatures), cache(self._find_makes)
        self._definition = cache(self._hash_definition)

    def faults(self, nodes: Sequence[Wired], blame: Mapping[Edge, int], most: int) -> int:
        """Return how much speaks against a wiring: edges that mostly compute nothing, and how often each was to blame.

        Counting ends above ``most``.
        """
        n = 0
        for k in range(len(nodes)):
            for edge in edges_of_call(nodes, k):
                n += blame.get(edge, 0)
                if n <= most and not self.holds(edge):
                    n += FAULT
            if n > most:
                break
        return n

    def holds(self, edge: Edge) -> bool:
        """Return whether programs of an edge mostly compute something; True where none has sizes."""
        found = self._known.get(edge)
        if found is None:
            key = self._key(edge)
            found = self._kept.find(key)
            if found is None:
                found = self._tried(edge)
                self._kept.add(key, found)
            self._known[edge] = found
        return found

    def _tried(self, edge: Edge) -> bool:
        rng = random.Random(str(edge))
        sound = others = 0
        for _ in range(4 * (_SOUND + _OTHERS)):
            program = self._program(edge, rng)
            if program is None:
                continue
            if not isinstance(self.judge(program), Refusal):
                sound += 1
            else:
                others += 1
            if sound == _SOUND or others == _OTHERS:
                break
        return others == 0 or sound >= _SOUND

    def _program(self, edge: Edge, rng: random.Random) -> Program | None:
        name, used, dtypes, fed = edge
        takes = self._signatures(name, used, dtypes)
        if fed is None:
            second = rng.choice(takes)
            sequence: tuple[str, ...] = (name,)
            nodes = [Wired(Choice(0, second, used, second.types, (), second.results[used]))]
        else:
            slot, source, result = fed
            makes = self._makes(source, result)
            kinds = sorted({s.types[slot] for s in takes} & makes.keys())
            if not kinds:
                return None
            kind = rng.choice(kinds)
            first = rng.choice(makes[kind])
            second = rng.choice([s for s in takes if s.types[slot] == kind])
            sequence = (name, source)
            nodes = wired_pair(first, result, second, slot, used)
        draft, _ = self._sampler.sized(nodes, [(len(nodes) - 1, used)], rng)
        if draft is None:
            return None
        return Program(rng.getrandbits(32), 0, 1, sequence, write(draft), self._sampler.relations.ops)

    def _find_signatures(self, name: str, used: int, dtypes: tuple[str, ...]) -> list[Signature]:
        return [
            s
            for s in self._sampler.signatures[name]
            if len(s.results) > used and tuple([t[0] for t in s.types]) == dtypes
        ]

    def _find_makes(self, name: str, result: int) -> dict[Type, list[Signature]]:
        found: dict[Type, list[Signature]] = {}
        for s in self._sampler.signatures[name]:
            if len(s.results) > result:
                found.setdefault(s.results[result], []).append(s)
        return found

    def _hash_definition(self, name: str) -> str:
        ops = self._sampler.relations.ops
        return closure_digest(ops[name], ops)

    def _key(self, edge: Edge) -> tuple[str, str]:
        names = (edge[0],) if edge[3] is None else (edge[0], edge[3][1])
        return digest(self._digest, *map(self._definition, names)), repr(edge)


class _Kept:
    """Findings on disk; a file that cannot be used is passed over."""

    def __init__(self, path: Path | None) -> None:
        self._new: list[tuple[str, str, bool]] = []
        self._file: sqlite3.Connection | None = None
        if path is not None:
            table = "edges (digest TEXT, edge TEXT, sound INTEGER, PRIMARY KEY (digest, edge)) WITHOUT ROWID"
            with suppress(OSError, sqlite3.Error):
                path.parent.mkdir(parents=True, exist_ok=True)
                self._file = sqlite3.connect(path, timeout=5.0)
                self._file.execute(f"CREATE TABLE IF NOT EXISTS {table}")

    def find(self, key: tuple[str, str]) -> bool | None:
        """Return what is kept of an edge."""
        if self._file is not None:
            with suppress(sqlite3.Error):
                row = self._file.execute("SELECT sound FROM edges WHERE digest = ? AND edge = ?", key).fetchone()
                return None if row is None else bool(row[0])
        return None

    def add(self, key: tuple[str, str], sound: bool) -> None:
        """Keep a finding, after some more."""
        self._new.append((*key, sound))
        if len(self._new) >= _BATCH:
            self.save()

    def save(self) -> None:
        """Write down what is new."""
        new, self._new = self._new, []
        if self._file is not None:
            with suppress(sqlite3.Error), self._file:
                self._file.executemany("INSERT OR REPLACE INTO edges VALUES (?, ?, ?)", new)


def edges_of_call(nodes: Sequence[Wired], k: int) -> list[Edge]:
    """Return the edges of a wiring that lead to call ``k``, or the call of graph inputs alone."""
    w = nodes[k]
    choice = w.choice
    name, dtypes = choice.signature.op, tuple([t[0] for t in choice.slots])
    fed: list[Edge] = [
        (name, choice.result, dtypes, (slot, nodes[o[0]].choice.signature.op, o[1]))
        for slot, o in enumerate(w.operands)
        if o is not None
    ]
    return fed or [(name, choice.result, dtypes, None)]


def _code_of(judge: Any) -> str | None:
    """Return a hash of the modules beside that of a function, its own among them; None for one that has no name of its own."""
    module = sys.modules.get(getattr(judge, "__module__", ""))
    if getattr(module, getattr(judge, "__qualname__", ""), None) is not judge or not getattr(module, "__file__", None):
        return None
    assert module is not None and module.__file__ is not None
    return digest(*(p.read_text() for p in sorted(Path(module.__file__).parent.glob("*.py"))))


__all__ = ["Edge", "Screen", "edges_of_call"]
