"""Every operator against every check, with the known limits as data."""

from __future__ import annotations

import random

import pytest
from drt.ir import OpDef, builtin_ops
from ops.checks import CHECKS, import_instance, import_problems, problems
from ops.jax_checks import check_jax
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


def in_family(family: str) -> list[OpDef]:
    return [op for op in OPS.values() if op.family == family]


@pytest.mark.parametrize("family", FAMILIES)
def test_in_jax(family: str) -> None:
    # One program per family: compiling it takes much longer than a call in it.
    pytest.importorskip("jax", reason="jax: not installed; install drt[jax]")
    found = list(check_jax(in_family(family)[::2], OPS))
    assert not found, "\n".join(found[:5])


@pytest.mark.full
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("family", FAMILIES)
def test_in_jax_thoroughly(family: str, seed: int) -> None:
    pytest.importorskip("jax", reason="jax: not installed; install drt[jax]")
    found = list(check_jax(in_family(family), OPS, seed))
    assert not found, "\n".join(found[:5])


def test_limitations_name_operators_and_checks() -> None:
    for x in LIMITATIONS:
        assert x.op in OPS and x.check in CHECKS and x.reason, x
