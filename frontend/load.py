"""Models from files: KernelBench-style ``FILE.py``, classes and functions in it, and factories ``pkg.mod:factory``."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import linecache
import os
import re
import sys
import traceback
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Union

import attrs
import torch

from ..ir import ParseError, UsageError, checked

#: Names that a KernelBench-style file defines; ``get_init_inputs`` may be left out where the constructor takes nothing.
MODEL, INPUTS, INIT_INPUTS = "Model", "get_inputs", "get_init_inputs"
#: Names of files that hold weights or programs of other kinds end with these.
_OTHER_FORMATS = frozenset({".bin", ".ckpt", ".h5", ".onnx", ".pb", ".pt", ".pth", ".safetensors", ".tflite"})
#: What a file of JAX may define: the parameters, which its function takes first.
PARAMS = "get_params"


@attrs.frozen(eq=False)
class LoadedModel:
    """A model as its author wrote it, with one set of example inputs.

    Attributes:
        module: an ``nn.Module``, or a plain function.
        example_inputs: positional arguments of one call.
        example_kwargs: keyword arguments of one call.
        spec: what :func:`load_model` was given.
        source_path: the file that defines it; None where there is none (built-in, interactive).
        source: the text of that file, or "".
        class_name: the name of the class (or function) in its file.
        class_source: the text of the class (or function), or "".
        init_args: positional arguments of the constructor; empty for a factory.
        init_kwargs: keyword arguments of the constructor.
        new_inputs: makes fresh example inputs ``(args, kwargs)`` from a seed; None for a factory.
        params: whether the first argument holds parameters (of a JAX function).
        program: the ``ExportedProgram`` that the module comes from, where it was saved as one.
    """

    module: Union[torch.nn.Module, Callable[..., Any]]
    example_inputs: tuple[Any, ...]
    example_kwargs: Mapping[str, Any] = attrs.field(factory=dict)
    spec: str = ""
    source_path: Path | None = None
    source: str = ""
    class_name: str = ""
    class_source: str = ""
    init_args: tuple[Any, ...] = ()
    init_kwargs: Mapping[str, Any] = attrs.field(factory=dict)
    new_inputs: Callable[[int], tuple[tuple[Any, ...], dict[str, Any]]] | None = None
    params: bool = False
    program: Any = None


@checked
def load_model(
    spec: str | os.PathLike[str],
    *,
    seed: int = 0,
    class_name: str = MODEL,
    factory_arguments: Mapping[str, Any] | None = None,
) -> LoadedModel:
    """Load a model and example inputs.

    Args:
        spec: ``FILE.py``, which defines a class ``Model``, ``get_inputs()`` and, where the constructor takes arguments,
            ``get_init_inputs()``; or ``pkg.mod:name`` (``FILE.py:name``), where the name is a subclass of ``nn.Module``
            beside such functions, a function (of PyTorch, or of JAX) beside ``get_inputs()``, or a callable that takes
            no arguments and returns ``(module, example_inputs)``.  A function beside ``get_params()`` takes what that
            returns first.
        seed: of PyTorch's generators while parameters and inputs are made; the caller's generators are left as they were.
        class_name: the class to take from ``FILE.py`` (``ModelNew`` for a KernelBench answer).
        factory_arguments: keyword arguments for a callable that returns ``(module, example_inputs)``.

    Raises:
        ParseError: the file is not Python; placed at the offending line.
        UsageError: no such file or name, or its code raises; placed at the line that raises where it is known.
    """
    text = os.fspath(spec)
    before, colon, factory = text.rpartition(":")
    with _seeded(seed):
        if colon and factory.isidentifier():
            namespace = _load_file(before) if before.endswith(".py") else _import(before, text)
            named = getattr(namespace, factory, None)
            if isinstance(named, type) and issubclass(named, torch.nn.Module):
                return _from_file(namespace, text, factory, seed)
            if callable(named) and hasattr(namespace, INPUTS) and _takes_arguments(named):
                return _from_function(namespace, factory, text, seed)
            return _from_factory(namespace, factory, text, factory_arguments or {})
        return _from_file(_load_file(text), text, class_name, seed)


# -- the forms ----------------------------------------------------------------------------------------------------


def _from_file(namespace: types.ModuleType, spec: str, class_name: str, seed: int) -> LoadedModel:
    path = Path(str(namespace.__file__))
    model = _name(namespace, class_name, f"class {class_name}(torch.nn.Module)", path)
    if not (isinstance(model, type) and issubclass(model, torch.nn.Module)):
        raise UsageError(
            f"is {_kind(model)}, expected a subclass of torch.nn.Module", place=_place(model, path), subject=class_name
        )
    get_inputs = _name(namespace, INPUTS, f"function {INPUTS}()", path)
    get_init: Callable[[], Any] = getattr(namespace, INIT_INPUTS, list)
    with _blame(path, INIT_INPUTS):
        given = get_init()
    init_args, init_kwargs = _init_arguments(given, model, path)
    with _blame(path, f"{class_name}({', '.join(map(_brief, init_args))})"):
        module = model(*init_args, **init_kwargs)

    new_inputs = _input_maker(get_inputs, path)
    args, kwargs = new_inputs(seed)
    return LoadedModel(
        module=module,
        example_inputs=args,
        example_kwargs=kwargs,
        spec=spec,
        source_path=path,
        source=_text(path),
        class_name=class_name,
        class_source=_source_of(model),
        init_args=init_args,
        init_kwargs=init_kwargs,
        new_inputs=new_inputs,
    )


def _input_maker(get_inputs: Callable[[], Any], path: Path) -> Callable[[int], tuple[tuple[Any, ...], dict[str, Any]]]:
    def new_inputs(seed: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
        with _seeded(seed), _blame(path, INPUTS):
            value = get_inputs()
        return _call_arguments(value, f"{path}", INPUTS)

    return new_inputs


def _takes_arguments(function: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return True
    return any(p.default is p.empty and p.kind is not p.VAR_KEYWORD for p in parameters)


def _from_function(namespace: types.ModuleType, name: str, spec: str, seed: int) -> LoadedModel:
    path = Path(str(namespace.__file__))
    function = getattr(namespace, name)
    args, kwargs = _input_maker(getattr(namespace, INPUTS), path)(seed)
    has_params = hasattr(namespace, PARAMS)
    if has_params:
        with _blame(path, PARAMS):
            args = (getattr(namespace, PARAMS)(), *args)
    # The file is not given as a source: an assembled program derives from a class, and here is none.
    return LoadedModel(
        module=function, example_inputs=args, example_kwargs=kwargs, spec=spec, source_path=path, class_name=name,
        class_source=_source_of(function), params=has_params,
    )  # fmt: skip


def _from_factory(namespace: types.ModuleType, name: str, spec: str, arguments: Mapping[str, Any]) -> LoadedModel:
    file = getattr(namespace, "__file__", None)
    path = Path(file) if file else None
    factory = _name(namespace, name, f"function {name}()", path)
    if not callable(factory):
        raise UsageError(f"is {_kind(factory)}, expected a callable", place=str(path or spec), subject=name)
    with _blame(path, f"{name}()"):
        made = factory(**arguments)
    if not (isinstance(made, (tuple, list)) and len(made) == 2 and callable(made[0])):
        raise UsageError(
            f"returns {_kind(made)}, expected (module, example_inputs)",
            place=_place(factory, path),
            subject=f"{name}()",
        )
    module, given = made
    args, kwargs = _call_arguments(given, _place(factory, path), f"{name}()")
    owner = type(module) if isinstance(module, torch.nn.Module) else module
    file = inspect.getsourcefile(owner) if inspect.isclass(owner) or inspect.isfunction(owner) else None
    return LoadedModel(
        module=module,
        example_inputs=args,
        example_kwargs=kwargs,
        spec=spec,
        source_path=Path(file) if file else path,
        source=_text(Path(file)) if file and os.path.exists(file) else "",
        class_name=getattr(owner, "__name__", type(owner).__name__),
        class_source=_source_of(owner),
    )


def _init_arguments(given: Any, model: type, path: Path) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Read what ``get_init_inputs`` returns: ``[a, b]``, ``{"name": a}``, or KernelBook's ``[[a], {"name": b}]``."""
    if isinstance(given, Mapping):
        return (), dict(given)
    if not isinstance(given, (list, tuple)):
        raise UsageError(f"returns {_kind(given)}, expected a list of arguments", place=str(path), subject=INIT_INPUTS)
    if len(given) == 2 and isinstance(given[0], (list, tuple)) and isinstance(given[1], dict):
        parameters = inspect.signature(model).parameters
        if all(k in parameters for k in given[1]):
            return tuple(given[0]), dict(given[1])
    return tuple(given), {}


def _call_arguments(given: Any, place: str, subject: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(given, torch.Tensor) or (hasattr(given, "shape") and hasattr(given, "dtype")):
        return (given,), {}
    if isinstance(given, Mapping) and all(isinstance(k, str) for k in given):
        return (), dict(given)
    if isinstance(given, (list, tuple)):
        return tuple(given), {}
    raise UsageError(f"gives {_kind(given)}, expected a list of example inputs", place=place, subject=subject)


# -- files and errors ---------------------------------------------------------------------------------------------


def _load_file(name: str) -> types.ModuleType:
    path = Path(name).expanduser()
    if path.suffix in _OTHER_FORMATS or (path.suffix != ".py" and not path.exists()):
        raise UsageError("expected FILE.py, FILE.pt2, FILE.ir or package.module:name", place=name)
    if not path.exists():
        raise UsageError("no such file", place=name)
    if path.is_dir():
        raise UsageError("is a directory, expected a Python file", place=name)
    path = path.resolve()
    try:
        source = _text(path)
    except (OSError, UnicodeDecodeError, SyntaxError) as error:
        raise UsageError(f"cannot be read: {_first_line(error)}", place=str(path)) from None
    try:
        code = compile(source, str(path), "exec")
    except SyntaxError as error:
        place = ":".join(str(p) for p in (path, error.lineno, error.offset) if p)
        line, column = (error.text or "").rstrip("\n"), error.offset or 1
        raise ParseError(error.msg, place=place, context=f"{line}\n{' ' * (column - 1)}^") from None
    except ValueError as error:
        raise ParseError(_first_line(error), place=str(path)) from None
    namespace = types.ModuleType(f"drt_model_{hashlib.sha256(str(path).encode() + source.encode()).hexdigest()[:12]}")
    namespace.__file__ = str(path)
    # Pickling, dataclasses and inspect.getsource look a class's module up by name.
    sys.modules[namespace.__name__] = namespace
    linecache.checkcache(str(path))
    with _on_path(path.parent), _blame(path, ""):
        exec(code, namespace.__dict__)
    return namespace


def _import(module: str, spec: str) -> types.ModuleType:
    if not all(part.isidentifier() for part in module.split(".")):
        raise UsageError("expected FILE.py or pkg.mod:factory", place=spec)
    with _on_path(Path.cwd()):
        try:
            return importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name and (module == error.name or module.startswith(error.name + ".")):
                raise UsageError(f"no module named {error.name}", place=spec) from None
            raise UsageError(
                f"importing {module} raises {_describe(error)}", place=_line_of(error, None) or spec
            ) from error
        except SyntaxError as error:
            raise ParseError(error.msg, place=f"{error.filename}:{error.lineno}") from None
        except Exception as error:
            raise UsageError(
                f"importing {module} raises {_describe(error)}", place=_line_of(error, None) or spec
            ) from error


def _text(path: Path) -> str:
    """Return the text of a Python file, in the encoding that it states."""
    return importlib.util.decode_source(path.read_bytes())


def _name(namespace: types.ModuleType, name: str, expected: str, path: Path | None) -> Any:
    if not hasattr(namespace, name):
        raise UsageError(f"does not define {name}, expected {expected}", place=str(path or namespace.__name__))
    return getattr(namespace, name)


@contextmanager
def _blame(path: Path | None, subject: str) -> Iterator[None]:
    """Turn any exception of the user's code into a UsageError at the innermost line of ``path`` that is on the stack."""
    try:
        yield
    except (UsageError, ParseError):
        raise
    except Exception as error:
        place = _line_of(error, path) or str(path or "")
        if isinstance(error, ModuleNotFoundError) and error.name in ("jax", "jaxlib"):
            raise UsageError("JAX is not installed, expected the extra drt[jax]", place=place) from None
        raise UsageError(f"raises {_describe(error)}", place=place, subject=subject) from error
    except SystemExit as error:
        raise UsageError(
            f"exits with {error.code}", place=_line_of(error, path) or str(path or ""), subject=subject
        ) from None


@contextmanager
def _on_path(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        if str(folder) in sys.path:
            sys.path.remove(str(folder))


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


def _line_of(error: BaseException, path: Path | None) -> str:
    """Return ``file:line`` of the innermost frame in ``path``, or in any file outside this package and PyTorch."""
    own = str(Path(__file__).resolve().parent)
    library = os.path.dirname(torch.__file__)
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        name = frame.filename
        if name == str(path) if path else not name.startswith((own, library, "<")):
            return f"{name}:{frame.lineno}"
    return ""


def _place(value: Any, path: Path | None) -> str:
    try:
        return f"{inspect.getsourcefile(value)}:{inspect.getsourcelines(value)[1]}"
    except (TypeError, OSError):
        return str(path or "")


def _source_of(value: Any) -> str:
    try:
        return inspect.getsource(value)
    except (TypeError, OSError):
        return ""


def _kind(value: Any) -> str:
    return (
        "None"
        if value is None
        else f"a class {value.__name__}"
        if isinstance(value, type)
        else f"a {type(value).__name__}"
    )


def _brief(value: Any) -> str:
    text = f"tensor{list(value.shape)}" if isinstance(value, torch.Tensor) else repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _describe(error: BaseException) -> str:
    text = _first_line(error)
    asked = re.search(r"(?:tried to allocate|memory for) ([\d.]+) bytes", text)
    if asked:
        return (
            f"{type(error).__name__}: {float(asked[1]) / 1e9:,.0f} GB do not fit into memory, expected the meta device"
        )
    return text if text == type(error).__name__ else f"{type(error).__name__}: {text}"
