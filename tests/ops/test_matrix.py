"""Every operator against every check, with the known limits as data."""

from __future__ import annotations

import random
from importlib.util import find_spec

import pytest
from drt.ir import builtin_ops
from ops.checks import CHECKS, check_jax, import_instance, import_problems, problems
from ops.limitations import LIMITATIONS

OPS = builtin_ops()
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def split(check: str, op: str, found: list[str]) -> tuple[list[str], list[str]]:
    """Return the problems that no limitation explains, and the limitations that explain none."""
    known = [x for x in LIMITATIONS if (x.op, x.check) == (op, check)]
    unexplained = [p for p in found if not any(x.match in p for x in known)]
    unseen = [x.match for x in known if not x.rare and not any(x.match in p for p in found)]
    return unexplained, unseen


FAMILIES = sorted({op.family for op in OPS.values()})


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("check", [c for c in CHECKS if c != "import"])
def test_definition(check: str, op: str) -> None:
    unexplained, unseen = split(check, op, problems(check, OPS[op], OPS))
    assert not unexplained, "\n".join(unexplained[:5])
    assert not unseen, f"no longer differs in {', '.join(unseen)}: take the limitation out"


@pytest.mark.parametrize("family", FAMILIES)
def test_import_inverts_lowering(family: str) -> None:
    # One program per family: exporting a program takes much longer than a call in it.
    rng = random.Random(f"import {family}")
    instances = [
        import_instance(op, rng, k)
        for op in OPS.values()
        if op.family == family
        for k in range(2)
        if "torch" in op.calls
    ]
    wrong = []
    for op, found in import_problems(instances, OPS, rng).items():
        unexplained, unseen = split("import", op, found)
        wrong += unexplained + [f"{op}: no longer {x}: take the limitation out" for x in unseen]
    assert not wrong, "\n".join(wrong)


@pytest.mark.full
@pytest.mark.parametrize("op", OPS)
def test_definition_thoroughly(op: str) -> None:
    for check in CHECKS:
        for seed in range(1, 6):
            unexplained, _ = split(check, op, problems(check, OPS[op], OPS, seed, n=40))
            assert not unexplained, f"{check}, seed {seed}: " + "\n".join(unexplained[:5])


WITH_JAX = [name for name, op in OPS.items() if "jax" in op.calls]


@pytest.mark.parametrize("op", WITH_JAX if find_spec("jax") else ["all"])
def test_jax_clause(op: str) -> None:
    pytest.importorskip("jax", reason=f"jax: not installed, {len(WITH_JAX)} clauses unchecked")
    found = list(check_jax(OPS[op], OPS, random.Random(op), n=1))
    assert not found, "\n".join(found[:5])


@pytest.mark.full
@pytest.mark.parametrize("op", WITH_JAX if find_spec("jax") else ["all"])
def test_jax_clause_thoroughly(op: str) -> None:
    pytest.importorskip("jax", reason=f"jax: not installed, {len(WITH_JAX)} clauses unchecked")
    found = list(check_jax(OPS[op], OPS, random.Random(f"{op} full"), n=12))
    assert not found, "\n".join(found[:5])


def test_limitations_name_operators_and_checks() -> None:
    for x in LIMITATIONS:
        assert x.op in OPS and x.check in CHECKS and x.reason, x
