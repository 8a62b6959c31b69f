"""Signatures and templates kept on disk: finding them takes minutes, reading them back does not."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

from ..ir import OpDef, OpSet, print_op
from ..ir.effects import parts
from .calls import Signature, Structure, Symbolic
from .flat import Function, function
from .relation import Relations
from .sites import Site

#: ``progress(done, total)``.
Progress: TypeAlias = Callable[[int, int], None]


def cache_folder() -> Path:
    """Return where DRT keeps what can be found again: ``$XDG_CACHE_HOME/drt/synth`` or ``~/.cache/drt/synth``."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "drt" / "synth"


def load_signatures(
    relations: Relations, ops: Iterable[OpDef], folder: Path | None = None, progress: Progress | None = None
) -> None:
    """Find the signatures of operators, or read them back if these definitions have been seen before.

    Args:
        relations: is filled.
        ops: the operators wanted.
        folder: where to keep them; None means :func:`cache_folder`.  A folder that cannot be written is passed over.
        progress: is told how many operators of how many have been read, unless all are known.
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
    try:
        for done, op in enumerate(missing):
            if progress is not None:
                progress(done, len(missing))
            rows = []
            for s in relations.signatures(op):
                for x in s.structures:
                    if id(x) not in number:
                        number[id(x)] = len(stored["structures"])
                        structures.append(x)
                        stored["structures"].append([x.ranks, [[k, _plain(v)] for k, v in x.attributes], x.results])
                rows.append([s.operands, s.results, s.dtypes, [number[id(x)] for x in s.structures]])
            stored["ops"][known[op.name]] = rows
    finally:  # what an interrupted run has found is found
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            temporary = path.with_suffix(f".{os.getpid()}")
            temporary.write_text(json.dumps(stored))
            temporary.replace(path)
    if progress is not None:
        progress(len(missing), len(missing))


class Templates:
    """Templates kept on disk, one file for each operator, named by its definition and those of what it consists of.

    The first line of a file is the hash of the rest, so that a damaged one is made anew.  Files are replaced as a whole and
    joined with what is there; of two writers at once, the last one's findings stay, and the other's are found again.

    Args:
        relations: whose templates.
        folder: where to keep them; None means :func:`cache_folder`.  A folder that cannot be written is passed over.

    Attributes:
        fresh: how many findings are not on disk yet.
        limit: how many there may be before they should be saved.
    """

    def __init__(self, relations: Relations, folder: Path | None = None) -> None:
        folder = cache_folder() if folder is None else folder
        self.relations = relations
        self.folder = folder / f"templates-{_key(relations, ('flat.py', 'cache.py'))}"
        self.fresh, self.limit = 0, 256
        self._kept: dict[str, Any] = {}
        self._changed: dict[int, Site] = {}
        self._seen: set[int] = set()

    def load(self, site: Site) -> None:
        """Give a site the templates that are kept of it, once."""
        if id(site) in self._seen:
            return
        self._seen.add(id(site))
        kept = self._of(site.op)
        known = kept["functions"]
        try:
            for key, data in kept["sites"].get(_signature_key(site), {}).items():
                structure, ones = key.split(",")
                site.data.setdefault((int(structure), int(ones)), [_loaded(d, known) for d in data])
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):
            return

    def narrow(self, site: Site) -> bool | None:
        """Return whether sizes of 1 matter to a site's operator, where that is kept."""
        found = self._of(site.op)["narrow"]
        return found if isinstance(found, bool) else None

    def add(self, site: Site, narrow: bool | None) -> None:
        """Note that a site has found something new."""
        self.fresh += 1
        self._changed[id(site)] = site
        if narrow is not None:
            self._of(site.op)["narrow"] = narrow

    def save(self) -> None:
        """Write what is new."""
        by_op: dict[str, list[Site]] = {}
        for site in self._changed.values():
            by_op.setdefault(site.name, []).append(site)
        self._changed.clear()
        self.fresh, self.limit = 0, min(2 * self.limit, 4096)
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            for sites in by_op.values():
                op = sites[0].op
                kept = self._read(op)
                if kept["narrow"] is None:
                    kept["narrow"] = self._of(op)["narrow"]
                number = {(text, arity): k for k, (text, arity, _) in enumerate(kept["functions"])}
                for site in sites:
                    own = kept["sites"].setdefault(_signature_key(site), {})
                    for (structure, ones), data in site.data.items():
                        own.setdefault(f"{structure},{ones}", [_saved(d, number, kept["functions"]) for d in data])
                body = json.dumps(kept)
                path = self._path(op)
                temporary = path.with_suffix(f".{os.getpid()}")
                temporary.write_text(hashlib.sha256(body.encode()).hexdigest() + "\n" + body)
                temporary.replace(path)

    def _of(self, op: OpDef) -> Any:
        if op.name not in self._kept:
            self._kept[op.name] = self._read(op)
        return self._kept[op.name]

    def _read(self, op: OpDef) -> Any:
        with suppress(OSError, ValueError):
            digest, _, body = self._path(op).read_text().partition("\n")
            if hashlib.sha256(body.encode()).hexdigest() == digest:
                return json.loads(body)
        return {"narrow": None, "functions": [], "sites": {}}

    def _path(self, op: OpDef) -> Path:
        return self.folder / f"{op.name}-{closure_digest(op, self.relations.ops)}.json"


def digest(*parts: str) -> str:
    """Return a short hash of texts."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def closure_digest(op: OpDef, ops: OpSet) -> str:
    """Return a hash of a definition and of all that it consists of."""
    names, todo = {op.name}, [op]
    while todo:
        inner = {n for n in parts(todo.pop(), ops) if n not in names}
        names |= inner
        todo += [ops[n] for n in inner]
    return digest(*(print_op(ops[n]) for n in sorted(names)))


def _signature_key(site: Site) -> str:
    s = site.signature
    return repr((s.operands, s.results, s.dtypes))


def _saved(value: Any, number: dict[Any, int], functions: list[Any]) -> Any:
    """Return the data of a template as JSON values; formulas become numbers of a list."""
    if isinstance(value, dict):
        return {k: _saved(v, number, functions) for k, v in value.items()}
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], Function):
        f, args = value
        k = number.get((f.text, f.arity))
        if k is None:
            k = number[f.text, f.arity] = len(functions)
            functions.append([f.text, f.arity, f.inverse_texts()])
        return {"f": k, "a": args}
    if isinstance(value, tuple) and len(value) == 2 and value[0] == "value":
        return {"v": value[1]}
    return [_saved(v, number, functions) for v in value] if isinstance(value, (tuple, list)) else value


def _loaded(data: Any, functions: Sequence[Any]) -> dict[str, Any]:
    out = {k: _restored(v, functions) for k, v in data.items()}
    # A list of codes is a list, so that it is told from a formula.
    out["attributes"] = tuple(
        (k, v if type(v) is not tuple or (v and (v[0] == "value" or isinstance(v[0], Function))) else list(v))
        for k, v in out["attributes"]
    )
    return out


def _restored(value: Any, functions: Sequence[Any]) -> Any:
    if isinstance(value, dict):
        if "v" in value:
            return ("value", _tuple(value["v"]))
        text, arity, inverses = functions[value["f"]]
        return function(text, arity, None, inverses), tuple(value["a"])
    return tuple(_restored(v, functions) for v in value) if isinstance(value, list) else value


def _key(relations: Relations, more: Sequence[str] = ()) -> str:
    """Return a hash of everything but the definitions that signatures depend on, the code that finds them included."""
    here = Path(__file__).parent
    parts = [str((relations.dtypes, relations.max_rank, relations.list_lengths))]
    code = ("relation.py", "calls.py", "symbolic.py", "../ir/infer.py", "../ir/evaluate.py", "../ir/size.py", *more)
    for name in code:
        parts.append((here / name).read_text())
    return digest(*parts)


def _tuple(v: Any) -> Any:
    return tuple(map(_tuple, v)) if isinstance(v, list) else v


def _plain(v: Any) -> Any:
    return {"symbolic": v.length} if isinstance(v, Symbolic) else v


def _value(v: Any) -> Any:
    return Symbolic(v["symbolic"]) if isinstance(v, dict) else _tuple(v)
