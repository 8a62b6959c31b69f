"""Every variant of a generated scan computes what the definition says, along any axis, with what stands around it.

The kernels run in Triton's interpreter with the arithmetic of the device, in a process of their own: Triton reads
``TRITON_INTERPRET`` when it is imported.  Run as a script, this file checks the cases and prints the failures.
"""

from __future__ import annotations

import sys

import pytest
from generated_cases import check_cases, program, run_apart

#: Group -> name -> (inputs, statements, outputs).
CASES: dict[str, dict[str, tuple[str, str, str]]] = {
    "sums": {
        "last": ("%x: f32[5, 33]", "%y = cumsum(%x) {axis = 1} : f32[5, 33]", "%y"),
        "first": ("%x: f32[70, 9]", "%y = cumsum(%x) {axis = 0} : f32[70, 9]", "%y"),
        "middle": ("%x: f32[3, 50, 7]", "%y = cumsum(%x) {axis = 1} : f32[3, 50, 7]", "%y"),
        "long": ("%x: f32[3, 5000]", "%y = cumsum(%x) {axis = 1} : f32[3, 5000]", "%y"),
        "one_row": ("%x: f32[40000]", "%y = cumsum(%x) {axis = 0} : f32[40000]", "%y"),
        "short": ("%x: f32[40, 3]", "%y = cumsum(%x) {axis = 1} : f32[40, 3]", "%y"),
        "half": ("%x: bf16[5, 90]", "%y = cumsum(%x) {axis = 1} : bf16[5, 90]", "%y"),
        "integers": ("%x: i64[5, 90]", "%y = cumsum(%x) {axis = 1} : i64[5, 90]", "%y"),
        "booleans": ("%x: bool[5, 90]", "%y = cumsum(%x) {axis = 1} : i64[5, 90]", "%y"),
    },
    "around": {
        "masked": ("%x: f32[5, 90], %m: bool[5, 90]", "%c = cast(%m) {to = f32} : f32[5, 90]; %p = mul(%x, %c) : f32[5, 90]; "
                   "%y = cumsum(%p) {axis = 1} : f32[5, 90]", "%y"),
        "filled": ("%x: f32[5, 2100]", "%e = exp(%x) : f32[5, 2100]; %y = cumsum(%e) {axis = 1} : f32[5, 2100]; "
                   "%z = mul(%y, 0.5) : f32[5, 2100]", "%y, %z"),
        "reversed": ("%x: f32[5, 2100]", "%f = flip(%x) {axes = [1]} : f32[5, 2100]; "
                     "%s = cumsum(%f) {axis = 1} : f32[5, 2100]; %y = flip(%s) {axes = [1]} : f32[5, 2100]", "%y"),
        "exclusive": ("%x: f32[5, 90]", "%s = cumsum(%x) {axis = 1} : f32[5, 90]; %y = sub(%s, %x) : f32[5, 90]", "%y"),
        "twice": ("%x: f32[5, 1500]", "%s = cumsum(%x) {axis = 1} : f32[5, 1500]; %t = mul(%s, 0.01) : f32[5, 1500]; "
                  "%y = cumsum(%t) {axis = 1} : f32[5, 1500]", "%y"),
        "products": ("%x: f32[5, 90]", "%s = mul(%x, 0.01) : f32[5, 90]; %u = add(%s, 1.0) : f32[5, 90]; "
                     "%y = cumprod(%u) {axis = 1} : f32[5, 90]", "%y"),
        "long_products": ("%x: f32[3, 4500]", "%s = mul(%x, 0.001) : f32[3, 4500]; %u = add(%s, 1.0) : f32[3, 4500]; "
                          "%y = cumprod(%u) {axis = 1} : f32[3, 4500]", "%y"),
        "transposed": ("%x: f32[20, 30]", "%t = permute(%x) {order = [1, 0]} : f32[30, 20]; "
                       "%y = cumsum(%t) {axis = 0} : f32[30, 20]; %z = permute(%y) {order = [1, 0]} : f32[20, 30]", "%z"),
    },
}  # fmt: skip


@pytest.mark.parametrize("group", list(CASES))
def test_variants_compute_the_definition(group: str) -> None:
    """Every variant of every case agrees with float64 evaluation of the definition."""
    run_apart(__file__, group)


@pytest.mark.full
@pytest.mark.parametrize("group", list(CASES))
def test_all_variants_compute_the_definition(group: str) -> None:
    """Every variant of every case agrees with float64 evaluation of the definitions."""
    run_apart(__file__, group, "", "24")


def test_the_plan_of_a_scan_reads_and_writes_once() -> None:
    """Its traffic is the input and the output."""
    from drt.backend.triton_gen import plan
    from drt.ir import builtin_ops
    from drt.ir.text import parse_graph

    found = plan(parse_graph(program("s", CASES["sums"]["last"]), ops=builtin_ops()), builtin_ops())
    assert (found.family, found.bytes, found.launches) == ("scan", 2 * 5 * 33 * 4, 1)


def test_scans_along_different_axes_are_refused() -> None:
    """One walk cannot carry both."""
    from drt.backend.triton_gen import plan
    from drt.ir import Unsupported, builtin_ops
    from drt.ir.text import parse_graph

    statements = "%s = cumsum(%x) {axis = 1} : f32[5, 33]; %y = cumsum(%s) {axis = 0} : f32[5, 33]"
    with pytest.raises(Unsupported, match="different axes"):
        plan(parse_graph(program("s", ("%x: f32[5, 33]", statements, "%y")), ops=builtin_ops()), builtin_ops())


def _main(group: str, wanted: str = "", limit: str = "5") -> int:
    return check_cases(CASES[group], int(limit), wanted)


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
