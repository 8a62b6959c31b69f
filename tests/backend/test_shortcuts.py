"""The shorter ways through the interpreter give what the language's own rules give."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import drt

_SCRIPT = """
import importlib.util, itertools, sys
spec = importlib.util.spec_from_file_location("drt", {init!r}, submodule_search_locations=[{root!r}])
sys.modules["drt"] = package = importlib.util.module_from_spec(spec)
spec.loader.exec_module(package)
import numpy as np
import triton.language as tl
from triton.runtime import interpreter as stock
from drt.backend.verify import interpreter

interpreter.install()
semantic = stock.interpreter_semantic
rules = type(semantic)
names = ("fp32", "fp64", "fp16", "bf16", "int1", "int8", "int32", "int64", "uint32")
shapes = ((), (4,), (1,), (2, 4), (1, 4), (2, 1))

def make(name, shape):
    dtype = tl.dtype(name)
    data = np.arange(int(np.prod(shape)) or 1).reshape(shape or (1,)).astype(stock._get_np_dtype(dtype))
    return tl.core.tensor(stock.TensorHandle(data, dtype), tl.block_type(dtype, list(shape)) if shape else dtype)

tensors = [make(n, s) for n in names for s in shapes]
values = tensors + [0, 1, -1, 7, 2**31 - 1, -2**31, 2**31, 2**40, -2**63, True, False, 0.5, -0.0, 1e-45, 1e300, float("inf")]

def told(match, *args):
    try:
        out = match(*args)
    except Exception as error:
        return type(error).__name__, str(error)
    return [(str(v.type), str(v.dtype), [int(i) for i in v.shape], str(v.handle.dtype), v.handle.data.dtype.str,
             v.handle.data.shape, v.handle.data.tobytes()) for v in out]

n = 0
for x, y in itertools.product(values, values):
    for more in ((), (False, False, True, True), (True, True, False)):
        want = told(lambda *a: rules.binary_op_type_checking_impl(semantic, *a), x, y, *more)
        got = told(semantic.binary_op_type_checking_impl, x, y, *more)
        assert want == got, (x, y, more, want, got)
        n += 1
for x, y in itertools.product(tensors, tensors):
    want = told(lambda *a: rules.broadcast_impl_value(semantic, *a), x, y)
    assert want == told(semantic.broadcast_impl_value, x, y), (x, y)
    n += 1
print(n)
"""


def test_operands_are_matched_as_the_language_matches_them() -> None:
    root = Path(drt.__file__).resolve().parent
    code = _SCRIPT.format(init=str(root / "__init__.py"), root=str(root))
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "TRITON_INTERPRET": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 15_000
