"""What the two grammars share: building a parser, and turning its complaints into one clear line with a caret."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from lark import Lark, Transformer
from lark.exceptions import UnexpectedCharacters, UnexpectedEOF, UnexpectedInput, UnexpectedToken, VisitError

from .errors import DrtError, ParseError

GRAMMAR_DIR = Path(__file__).parent / "grammar"

#: What a person types for each terminal that is not spelled as itself.
TERMINAL_NAMES = {
    "NAME": "a name", "INT": "an integer", "FLOAT": "a number", "NUMBER": "a number", "STRING": "a string in double quotes",
    "VALUE": "a value such as %x", "MARK": "'?' or '*'", "OPTIONAL": "'?'", "ADD": "'+' or '-'", "MUL": "'*', '//' or '%'",
    "RELATION": "a comparison", "APPROXIMATE": "'approximate'", "KIND": "a kind", "OFKIND": "'axis' or 'axes'",
    "$END": "the end of the file",
}  # fmt: skip


@cache
def parser(grammar: str) -> Lark:
    """Return the parser of ``grammar/<grammar>.lark``, built once."""
    text = (GRAMMAR_DIR / f"{grammar}.lark").read_text()
    return Lark(text, parser="lalr", propagate_positions=True, maybe_placeholders=True)


def parse(grammar: str, builder: Transformer[Any, Any], text: str, file: str) -> Any:
    """Parse ``text`` and build its value.

    Raises:
        ParseError: with ``file:line:column``, what was found and what was expected, and the line with a caret.
    """
    lark = parser(grammar)
    try:
        return builder.transform(lark.parse(text))
    except UnexpectedInput as error:
        raise _explain(error, lark, text, file) from None
    except VisitError as error:
        if isinstance(error.orig_exc, DrtError):
            line = getattr(getattr(error.obj, "meta", None), "line", None)
            raise error.orig_exc.at(f"{file}:{line}" if line else file) from None
        raise


def _explain(error: UnexpectedInput, lark: Lark, text: str, file: str) -> ParseError:
    if isinstance(error, UnexpectedEOF) or (isinstance(error, UnexpectedToken) and error.token.type == "$END"):
        line, column, found = text.count("\n") + 1, 1, "the end of the file"
        context = ""
    else:
        line, column = error.line, error.column
        found = repr(str(error.token)) if isinstance(error, UnexpectedToken) else repr(text[error.pos_in_stream or 0])
        row = text.splitlines()[line - 1]
        context = f"    {row}\n    {' ' * (column - 1)}^"
    expected = error.allowed if isinstance(error, UnexpectedCharacters) else getattr(error, "accepts", None)
    wanted = expected or getattr(error, "expected", None) or set()
    names = sorted({_spell(lark, name) for name in wanted if not name.startswith("__")})
    message = f"found {found}, expected {_either(names)}" if names else f"found {found}"
    return ParseError(message, place=f"{file}:{line}:{column}", context=context)


def _spell(lark: Lark, name: str) -> str:
    if name in TERMINAL_NAMES:
        return TERMINAL_NAMES[name]
    for terminal in lark.terminals:
        if terminal.name == name and terminal.pattern.type == "str":
            return repr(terminal.pattern.value)
    return name.lower()


def _either(names: list[str]) -> str:
    if len(names) > 8:
        names = [*names[:8], "..."]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def unquote(token: str) -> str:
    """Return the text of a quoted string token."""
    return token[1:-1].replace('\\"', '"').replace("\\\\", "\\")
