"""Arguments of public functions, held to their annotations: a wrong one is told by its name before anything is done."""

from __future__ import annotations

import inspect
import os
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from numbers import Integral, Real
from typing import Any, TypeVar, Union

from .errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])

#: Longest text that a message quotes, characters.
_QUOTED = 40
_WORDS: dict[Any, str] = {
    str: "a text", int: "a whole number", float: "a number", bool: "True or False", type(None): "None", tuple: "a tuple",
    os.PathLike: "a path",
}  # fmt: skip


def checked(function: F) -> F:
    """Hold the arguments of every call to the annotations of ``function``.

    A call with a wrong one raises UsageError, ``function: parameter: is what, expected what``.  Lists and tuples are looked
    into; of protocols it is asked whether they are called; names that exist for a type checker alone are not looked at.  A text
    is no sequence of texts.  Missing and unknown arguments are Python's own TypeError.
    """
    signature = inspect.signature(function)
    title = function.__qualname__.removesuffix(".__init__")
    hints: dict[str, Any] = {}

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError:
            return function(*args, **kwargs)
        if not hints:
            hints.update({n: _evaluated(p.annotation, function.__globals__) for n, p in signature.parameters.items()})
        for name, value in given.items():
            several = signature.parameters[name].kind is inspect.Parameter.VAR_POSITIONAL
            for v in value if several else (value,):
                require(v, hints[name], f"{title}: {name}")
        return function(*args, **kwargs)

    return run  # type: ignore[return-value]


def check_fields(value: Any) -> None:
    """Hold the fields of an attrs value to their annotations; raises UsageError, ``class: field: is what, expected what``."""
    owner = type(value)
    names = vars(inspect.getmodule(owner))
    for field in owner.__attrs_attrs__:
        require(getattr(value, field.name), _evaluated(field.type, names), f"{owner.__name__}: {field.name}")


def require(value: Any, hint: Any, subject: str) -> None:
    """Raise UsageError where a value is not what an annotation says.

    Args:
        value: anything.
        hint: a class, a union, or a generic of the standard library.
        subject: what the value is called.
    """
    if not _fits(value, hint):
        raise UsageError(f"is {kind_of(value)}, expected {_wanted(hint)}", subject=subject)
    for item_hint in _item_hints(hint):
        for k, item in enumerate(value if isinstance(value, (list, tuple)) else ()):
            if not _fits(item, item_hint):
                raise UsageError(f"item {k} is {kind_of(item)}, expected {_wanted(item_hint)}", subject=subject)


def kind_of(value: Any) -> str:
    """Return what a value is, for a message: ``None``, ``the text 'abc'``, ``an int``."""
    if value is None:
        return "None"
    if isinstance(value, str):
        return f"the text {value if len(value) <= _QUOTED else value[: _QUOTED - 3] + '...'!r}"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def _evaluated(annotation: Any, names: Mapping[str, Any]) -> Any:
    """Return the value of an annotation; Any where it has none, or names what only a type checker sees."""
    if annotation is inspect.Parameter.empty:
        return Any
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, dict(names))
    except (NameError, AttributeError, TypeError):
        return Any


def _fits(value: Any, hint: Any) -> bool:
    origin = typing.get_origin(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, h) for h in typing.get_args(hint))
    kind = origin or hint
    if kind is None or kind is type(None):
        return value is None
    if not isinstance(kind, type) or kind is Any:
        return True
    if getattr(kind, "_is_protocol", False):
        return callable(value) or "__call__" not in vars(kind)
    if kind is int:
        return isinstance(value, Integral)
    if kind is float:
        return isinstance(value, Real)
    if kind is bool:
        return isinstance(value, (bool, Integral))
    if kind is tuple or (issubclass(kind, Iterable) and origin is not None and not issubclass(kind, Mapping)):
        return isinstance(value, Iterable) and not isinstance(value, (str, bytes, Mapping))
    return isinstance(value, kind)


def _item_hints(hint: Any) -> tuple[Any, ...]:
    """Return what the items of a sequence must be."""
    arguments = typing.get_args(hint)
    origin = typing.get_origin(hint)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return arguments[:1]
    if isinstance(origin, type) and issubclass(origin, Iterable) and not issubclass(origin, (Mapping, tuple)):
        return arguments[:1]
    return ()


def _wanted(hint: Any) -> str:
    if typing.get_origin(hint) in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(_wanted, typing.get_args(hint))))
    kind = typing.get_origin(hint) or hint
    if kind is None:
        return "None"
    if kind in _WORDS:
        return _WORDS[kind]
    name = getattr(kind, "__name__", str(kind))
    if getattr(kind, "__module__", "") == "collections.abc":
        name = name.lower()
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


__all__ = ["check_fields", "checked", "kind_of", "require"]
