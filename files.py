"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .ir import UsageError


def require_writable(path: Path) -> None:
    """Raise UsageError unless a file can be made at ``path``; leaves nothing behind."""
    if path.is_dir():
        raise UsageError("is a folder, expected a file name", place=str(path))
    made = [folder for folder in path.parents if not folder.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        os.unlink(name)
        for folder in made:
            folder.rmdir()
    except OSError as error:
        raise UsageError(f"cannot be written: {error.strerror or error}", place=str(path)) from None


@contextmanager
def draft_of(path: Path) -> Iterator[Path]:
    """Yield an empty file beside ``path``, and move it there at the end; on an exception nothing is left of it.

    The folder is made where there is none.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}_", suffix=path.suffix)
    os.close(handle)
    try:
        yield Path(name)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


@contextmanager
def finished_file(path: Path, text: str) -> Iterator[Path]:
    """Yield a draft that holds ``text``, and move it to ``path`` at the end; on an exception nothing is left of it."""
    with draft_of(path) as draft:
        draft.write_text(text, encoding="utf-8")
        yield draft


__all__ = ["draft_of", "finished_file", "require_writable"]
