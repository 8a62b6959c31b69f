"""Every variant of a generated attention computes what the definition says: masks, shared heads, views, any sizes.

The kernels run in Triton's interpreter with the arithmetic of the device, in a process of their own: Triton reads
``TRITON_INTERPRET`` when it is imported.  Run as a script, this file checks the cases of one group and prints the failures.
"""

from __future__ import annotations

import sys

import pytest
from generated_cases import check_cases, program, run_apart

_QKV = "%q: f32[2, 3, 37, 24], %k: f32[2, 3, 45, 24], %v: f32[2, 3, 45, 24]"
_HALF = "%q: bf16[1, 2, 70, 16], %k: bf16[1, 2, 70, 16], %v: bf16[1, 2, 70, 16]"

#: Group -> name -> (inputs, statements, outputs).
CASES: dict[str, dict[str, tuple[str, str, str]]] = {
    "masks": {
        "plain": (_QKV, "%y = scaled_dot_product_attention(%q, %k, %v, None) : f32[2, 3, 37, 24]", "%y"),
        "causal_more_keys": (_QKV, "%y = scaled_dot_product_attention(%q, %k, %v, None) {causal = True, scale = 0.3} "
                             ": f32[2, 3, 37, 24]", "%y"),
        "causal_fewer_keys": ("%q: f32[2, 1, 70, 16], %k: f32[2, 1, 19, 16], %v: f32[2, 1, 19, 16]",
                              "%y = scaled_dot_product_attention(%q, %k, %v, None) {causal = True} : f32[2, 1, 70, 16]", "%y"),
        "causal_bf16": (_HALF, "%y = scaled_dot_product_attention(%q, %k, %v, None) {causal = True} : bf16[1, 2, 70, 16]", "%y"),
        "scale_zero": (_QKV, "%y = scaled_dot_product_attention(%q, %k, %v, None) {causal = True, scale = 0.0} "
                       ": f32[2, 3, 37, 24]", "%y"),
        "boolean": (_QKV + ", %b: f32[2, 1, 37, 45]", "%m = gt(%b, 1.0) : bool[2, 1, 37, 45]; "
                    "%y = scaled_dot_product_attention(%q, %k, %v, %m) : f32[2, 3, 37, 24]", "%y"),
        "hidden_rows": (_QKV + ", %b: f32[2, 1, 37, 1]", "%m = gt(%b, 0.0) : bool[2, 1, 37, 1]; "
                        "%y = scaled_dot_product_attention(%q, %k, %v, %m) : f32[2, 3, 37, 24]", "%y"),
        "additive": (_QKV + ", %b: f32[2, 1, 1, 45]",
                     "%y = scaled_dot_product_attention(%q, %k, %v, %b) : f32[2, 3, 37, 24]", "%y"),
        "additive_bf16": (_HALF + ", %b: bf16[70, 70]",
                          "%y = scaled_dot_product_attention(%q, %k, %v, %b) : bf16[1, 2, 70, 16]", "%y"),
        "infinite": (_QKV + ", %b: f32[37, 45]", "%c = gt(%b, 1.2) : bool[37, 45]; %m = where(%c, %b, -inf) : f32[37, 45]; "
                     "%y = scaled_dot_product_attention(%q, %k, %v, %m) : f32[2, 3, 37, 24]", "%y"),
    },
    "heads": {
        "grouped": ("%q: f32[2, 6, 20, 16], %k: f32[2, 2, 33, 16], %v: f32[2, 2, 33, 16]",
                    "%y = scaled_dot_product_attention(%q, %k, %v, None) {grouped = True} : f32[2, 6, 20, 16]", "%y"),
        "one_for_all": ("%q: f32[2, 6, 20, 16], %k: f32[2, 1, 33, 16], %v: f32[2, 1, 33, 16]",
                        "%y = scaled_dot_product_attention(%q, %k, %v, None) : f32[2, 6, 20, 16]", "%y"),
        "repeated": ("%q: bf16[2, 20, 6, 16], %k: bf16[2, 20, 2, 16], %v: bf16[2, 20, 2, 16]",
                     "%a = transpose(%q) {axis0 = 1, axis1 = 2} : bf16[2, 6, 20, 16]; "
                     "%b = transpose(%k) {axis0 = 1, axis1 = 2} : bf16[2, 2, 20, 16]; "
                     "%c = transpose(%v) {axis0 = 1, axis1 = 2} : bf16[2, 2, 20, 16]; "
                     "%d = unsqueeze(%b) {axis = 2} : bf16[2, 2, 1, 20, 16]; "
                     "%e = expand(%d) {shape = [2, 2, 3, 20, 16]} : bf16[2, 2, 3, 20, 16]; "
                     "%f = reshape(%e) {shape = [2, 6, 20, 16]} : bf16[2, 6, 20, 16]; "
                     "%g = unsqueeze(%c) {axis = 2} : bf16[2, 2, 1, 20, 16]; "
                     "%h = expand(%g) {shape = [2, 2, 3, 20, 16]} : bf16[2, 2, 3, 20, 16]; "
                     "%i = reshape(%h) {shape = [2, 6, 20, 16]} : bf16[2, 6, 20, 16]; "
                     "%y = scaled_dot_product_attention(%a, %f, %i, None) {causal = True} : bf16[2, 6, 20, 16]; "
                     "%t = transpose(%y) {axis0 = 1, axis1 = 2} : bf16[2, 20, 6, 16]; "
                     "%z = reshape(%t) {shape = [2, 20, 96]} : bf16[2, 20, 96]", "%z"),
        "projection": ("%x: f32[2, 21, 3, 2, 24], %r: f32[2, 21, 48]",
                       "%p = permute(%x) {order = [2, 0, 3, 1, 4]} : f32[3, 2, 2, 21, 24]; "
                       "%q = select(%p) {axis = 0, index = 0} : f32[2, 2, 21, 24]; "
                       "%k = select(%p) {axis = 0, index = 1} : f32[2, 2, 21, 24]; "
                       "%v = select(%p) {axis = 0, index = 2} : f32[2, 2, 21, 24]; "
                       "%y = scaled_dot_product_attention(%q, %k, %v, None) : f32[2, 2, 21, 24]; "
                       "%t = transpose(%y) {axis0 = 1, axis1 = 2} : f32[2, 21, 2, 24]; "
                       "%s = reshape(%t) {shape = [2, 21, 48]} : f32[2, 21, 48]; %z = add(%s, %r) : f32[2, 21, 48]", "%z"),
        "flat_projection": ("%x: bf16[2, 21, 144]", "%w = reshape(%x) {shape = [2, 21, 3, 2, 24]} : bf16[2, 21, 3, 2, 24]; "
                            "%p = permute(%w) {order = [2, 0, 3, 1, 4]} : bf16[3, 2, 2, 21, 24]; "
                            "%q = select(%p) {axis = 0, index = 0} : bf16[2, 2, 21, 24]; "
                            "%k = select(%p) {axis = 0, index = 1} : bf16[2, 2, 21, 24]; "
                            "%v = select(%p) {axis = 0, index = 2} : bf16[2, 2, 21, 24]; "
                            "%y = scaled_dot_product_attention(%q, %k, %v, None) {causal = True} : bf16[2, 2, 21, 24]", "%y"),
        "aligned": ("%q: bf16[1, 2, 50, 16], %k: bf16[1, 2, 64, 16], %v: bf16[1, 2, 64, 32]",
                    "%y = scaled_dot_product_attention(%q, %k, %v, None) {causal = True} : bf16[1, 2, 50, 32]", "%y"),
        "aligned_f32": ("%q: f32[2, 2, 20, 16], %k: f32[2, 1, 64, 16], %v: f32[2, 1, 64, 16]",
                        "%y = scaled_dot_product_attention(%q, %k, %v, None) : f32[2, 2, 20, 16]", "%y"),
        "aligned_projection": ("%x: bf16[2, 32, 96]", "%w = reshape(%x) {shape = [2, 32, 3, 2, 16]} : bf16[2, 32, 3, 2, 16]; "
                               "%p = permute(%w) {order = [2, 0, 3, 1, 4]} : bf16[3, 2, 2, 32, 16]; "
                               "%q = select(%p) {axis = 0, index = 0} : bf16[2, 2, 32, 16]; "
                               "%k = select(%p) {axis = 0, index = 1} : bf16[2, 2, 32, 16]; "
                               "%v = select(%p) {axis = 0, index = 2} : bf16[2, 2, 32, 16]; "
                               "%y = scaled_dot_product_attention(%q, %k, %v, None) : bf16[2, 2, 32, 16]", "%y"),
        "no_batch": ("%q: f32[9, 16], %k: f32[17, 16], %v: f32[17, 40]",
                     "%y = scaled_dot_product_attention(%q, %k, %v, None) : f32[9, 40]", "%y"),
        "scaled_queries": ("%q: f32[2, 2, 9, 16], %k: f32[2, 2, 9, 16], %v: f32[2, 2, 9, 16]",
                           "%s = mul(%q, 0.3) : f32[2, 2, 9, 16]; "
                           "%y = scaled_dot_product_attention(%s, %k, %v, None) {scale = 1.0} : f32[2, 2, 9, 16]; "
                           "%z = relu(%y) : f32[2, 2, 9, 16]", "%y, %z"),
        "one_query": ("%q: f32[2, 3, 1, 24], %k: f32[2, 3, 700, 24], %v: f32[2, 3, 700, 24]",
                      "%y = scaled_dot_product_attention(%q, %k, %v, None) : f32[2, 3, 1, 24]; "
                      "%t = transpose(%y) {axis0 = 1, axis1 = 2} : f32[2, 1, 3, 24]", "%t"),
        "one_query_masked": ("%q: bf16[2, 3, 1, 16], %k: bf16[2, 3, 300, 16], %v: bf16[2, 3, 300, 16], %b: f32[2, 1, 1, 300]",
                             "%m = gt(%b, 0.0) : bool[2, 1, 1, 300]; "
                             "%y = scaled_dot_product_attention(%q, %k, %v, %m) : bf16[2, 3, 1, 16]", "%y"),
        "one_key": ("%q: f32[2, 3, 5, 16], %k: f32[2, 3, 1, 16], %v: f32[2, 3, 1, 16]",
                    "%y = scaled_dot_product_attention(%q, %k, %v, None) : f32[2, 3, 5, 16]", "%y"),
    },
}  # fmt: skip


@pytest.mark.parametrize("group", list(CASES))
def test_variants_compute_the_definition(group: str) -> None:
    """Every variant of every case agrees with float64 evaluation of the definition."""
    run_apart(__file__, group)


def _graph(statements: str, inputs: str, outputs: str = "%y"):
    from drt.ir import builtin_ops
    from drt.ir.text import parse_graph

    return parse_graph(program("attention_test", (inputs, statements, outputs)), ops=builtin_ops())


def test_a_causal_plan_counts_half_of_the_products() -> None:
    """Blocks behind the diagonal are not computed."""
    from drt.backend.triton_gen import plan
    from drt.ir import builtin_ops

    plans = [
        plan(_graph(f"%y = scaled_dot_product_attention(%q, %k, %v, None) {{causal = {c}}} : bf16[1, 2, 70, 16]", _HALF),
             builtin_ops())
        for c in (False, True)
    ]  # fmt: skip
    assert [p.family for p in plans] == ["attention", "attention"]
    assert [p.launches for p in plans] == [1, 1]
    assert plans[1].flops * 2 == plans[0].flops == 2 * 2 * 70 * 70 * (16 + 16)
    assert plans[0].bytes == 4 * 2 * 70 * 16 * 2


def test_keys_that_are_computed_on_the_way_would_be_computed_again() -> None:
    """Fusion must know that every tile of queries repeats what happens to the keys."""
    from drt.backend.triton_gen import plan
    from drt.ir import builtin_ops

    statements = (
        "%e = exp(%k) : bf16[1, 2, 70, 16]; %y = scaled_dot_product_attention(%q, %e, %v, None) : bf16[1, 2, 70, 16]"
    )
    assert plan(_graph(statements, _HALF), builtin_ops()).recompute


def test_a_product_behind_an_attention_is_refused() -> None:
    """The projection that follows needs all heads of a row."""
    from drt.backend.triton_gen import plan
    from drt.ir import Unsupported, builtin_ops

    statements = "%y = scaled_dot_product_attention(%q, %k, %v, None) : bf16[1, 2, 70, 16]; %z = linear(%y, %w, None) : bf16[1, 2, 70, 99]"
    with pytest.raises(Unsupported, match="attention"):
        plan(_graph(statements, _HALF + ", %w: bf16[99, 16]", "%z"), builtin_ops())


def _main(group: str, wanted: str = "", limit: str = "2") -> int:
    return check_cases(CASES[group], int(limit), wanted)


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
