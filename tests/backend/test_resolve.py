"""Names in lowering clauses: what the allow-list lets through, and what a clause computes."""

from __future__ import annotations

import pytest
import torch
from drt.backend.resolve import MODULES, TENSOR_METHODS, TORCH_FUNCTIONS, is_allowed, resolve, run_clause
from drt.ir import UsageError, parse_ops
from drt.ir.expr import Expr


@pytest.mark.parametrize("name", sorted(TORCH_FUNCTIONS))
def test_listed_functions_exist(name: str) -> None:
    assert callable(resolve(f"torch.{name}"))


def test_listed_methods_and_modules_exist() -> None:
    assert all(callable(resolve(f"torch.Tensor.{name}")) for name in TENSOR_METHODS)
    assert resolve("torch.nn.functional.gelu") is torch.nn.functional.gelu
    assert "torch" not in MODULES


@pytest.mark.parametrize(
    "name",
    [
        "os.system", "eval", "torch.load", "torch.save", "torch.compile", "torch.hub.load", "torch.Tensor.numpy", "torch",
        "torch.nn.functional.torch.load", "torch.nn.functional._Reduction", "torch.nn.functional.Tensor", "jax.numpy.load",
        "jax.numpy.vectorize", "torch.nn.functional.boolean_dispatch", "torch.linalg.linalg.norm", "torch. abs", "torch.__dict__",
    ],
)  # fmt: skip
def test_everything_else_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        resolve(name)
    assert not is_allowed(name) or name == "torch.nn.functional.Tensor"


def test_refusals_say_why() -> None:
    with pytest.raises(UsageError, match="torch.load: not among the functions that a lowering clause may call"):
        resolve("torch.load")
    with pytest.raises(UsageError, match="torch.nn.functional has no such function"):
        resolve("torch.nn.functional.no_such_thing")


def clause(text: str, attributes: str = "") -> Expr:
    return parse_ops(f"op f(x: T[S..], w: T[S..]?{attributes}) -> (y: T[S..]) {{ type T: any  torch {text} }}")[
        "f"
    ].calls["torch"]


def test_clauses_mix_calls_operators_and_sizes() -> None:
    x = torch.arange(6.0).reshape(2, 3)
    env = {"S": (2, 3), "n": (1, 2), "present(w)": False, "mode": "tanh"}
    values = {"x": x, "w": None}
    assert torch.equal(run_clause(clause("x * 2 + torch.sum(x, dim=[0, 1])"), values, env), x * 2 + x.sum())
    assert torch.equal(run_clause(clause("torch.reshape(x, [S..]) - S[1]"), values, env), x - 3)
    assert torch.equal(run_clause(clause("x * w if present(w) else -x"), values, env), -x)
    assert torch.equal(run_clause(clause("torch.permute(x, range(0, rank(S)))"), values, env), x)
    assert run_clause(clause("[x, n[0]]", "; n: ints"), values, env)[1] == 1
