"""DRT compiles PyTorch programs to fast, verified Triton kernels.

The public names are loaded when they are first used, so ``import drt`` costs nothing and ``import drt.ir`` loads no PyTorch.
"""

from __future__ import annotations

from importlib import import_module as _import
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .dynamo import dynamo_backend as dynamo_backend
    from .frontend import import_module as import_module
    from .frontend import import_program as import_program
    from .frontend import load_model as load_model
    from .ir import DrtError as DrtError
    from .ir import load_ops as load_ops
    from .ir import parse_graph as parse_graph
    from .ir import print_graph as print_graph
    from .judging import verify as verify
    from .pipeline import compile as compile
    from .pipeline import compile_model as compile_model
    from .report import CompileOptions as CompileOptions
    from .report import CompileReport as CompileReport

__version__ = "0.1.0"

#: Public name -> the module that defines it, and its name there.
_PUBLIC = {
    "CompileOptions": ("report", "CompileOptions"),
    "CompileReport": ("report", "CompileReport"),
    "DrtError": ("ir", "DrtError"),
    "compile": ("pipeline", "compile"),
    "compile_model": ("pipeline", "compile_model"),
    "dynamo_backend": ("dynamo", "dynamo_backend"),
    "import_module": ("frontend", "import_module"),
    "import_program": ("frontend", "import_program"),
    "load_model": ("frontend", "load_model"),
    "load_ops": ("ir", "load_ops"),
    "parse_graph": ("ir", "parse_graph"),
    "print_graph": ("ir", "print_graph"),
    "verify": ("judging", "verify"),
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'drt' has no attribute {name!r}")
    module, attribute = _PUBLIC[name]
    value = globals()[name] = getattr(_import(f".{module}", __name__), attribute)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
