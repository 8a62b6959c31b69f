"""Python text as syntax trees, for many threads at a time."""

from __future__ import annotations

import ast
import threading
from pathlib import Path

from ..ir import UsageError

_ONE_AT_A_TIME = threading.Lock()


def read_python(path: Path) -> str:
    """Return the text of a file; raises UsageError where it cannot be read or is not text."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", place=str(path)) from None
    except UnicodeDecodeError as error:
        raise UsageError(f"is not text ({error.reason}), expected Python in UTF-8", place=str(path)) from None


def parse_python(source: str) -> ast.Module:
    """Return the syntax tree of ``source``, as ``ast.parse`` does.

    CPython before 3.13 counts the depth of the tree under construction for the process, not for the thread: a collection
    of garbage that lets another thread parse in the midst of it ends in ``SystemError: AST constructor recursion depth
    mismatch`` (https://github.com/python/cpython/issues/106905).  So one thread parses at a time.

    Raises:
        SyntaxError, ValueError: the text is not Python.
    """
    with _ONE_AT_A_TIME:
        return ast.parse(source)


def parse_expression(source: str) -> ast.expr:
    """Return the syntax tree of one expression; raises and locks as :func:`parse_python`."""
    with _ONE_AT_A_TIME:
        return ast.parse(source, mode="eval").body
