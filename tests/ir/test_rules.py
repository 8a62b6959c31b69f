"""Every rewrite rule keeps what it says it keeps, on instances of its own pattern."""

from __future__ import annotations

import math
import random
from functools import cache

import attrs
import pytest
import torch
from drt.backend.oracle import Oracle
from drt.backend.to_torch import to_callable
from drt.ir import (
    Graph,
    ParseError,
    Rule,
    Unsatisfiable,
    apply_rules,
    builtin_ops,
    builtin_rules,
    parse_graph,
    parse_rules,
    print_graph,
    simplify,
    verify_graph,
)
from drt.ir.cost import graph_cost
from drt.ir.expr import Call, Expr, children, to_text
from drt.ir.simplify import FLOPS_PER_BYTE
from drt.ir.typesys import TensorType, is_float
from hypothesis import given, settings
from hypothesis import strategies as st
from rule_instances import draw
from strategies import graphs

TORCH_DTYPES = {
    "bool": torch.bool, "u8": torch.uint8, "i8": torch.int8, "i32": torch.int32, "i64": torch.int64,
    "f16": torch.float16, "bf16": torch.bfloat16, "f32": torch.float32, "f64": torch.float64,
}  # fmt: skip
SPECIAL = (0.0, -0.0, math.inf, -math.inf, math.nan, 1e-40, -1.0, 1.0)
RULES = builtin_rules()


def values_of(t: TensorType, generator: torch.Generator, special: bool, positive: bool = False) -> torch.Tensor:
    shape = [int(s) for s in t.shape]  # type: ignore[call-overload]
    if t.dtype == "bool":
        return torch.rand(shape, generator=generator) < 0.5
    if not is_float(t.dtype):
        return torch.randint(1 if t.dtype == "u8" else -5, 7, shape, generator=generator).to(TORCH_DTYPES[t.dtype])
    v = torch.randn(shape, generator=generator, dtype=torch.float64) * 2
    v = v.abs() + 0.1 if positive else v
    if special and v.numel():
        pick = torch.tensor(SPECIAL, dtype=torch.float64)[torch.randint(len(SPECIAL), shape, generator=generator)]
        v = torch.where(torch.rand(shape, generator=generator) < 0.5, pick, v)
    return v.to(TORCH_DTYPES[t.dtype])


def inputs_of(graph: Graph, seed: int, special: bool = False, positive: bool = False) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        i.name: values_of(i.type, generator, special, positive or (i.name == "v" and i.kind == "param"))
        for i in graph.inputs
    }


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Return whether two tensors are equal to the bit; all NaN are one."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if not a.is_floating_point():
        return torch.equal(a, b)
    both = a.isnan() & b.isnan()
    return bool((both | ((a == b) & (a.signbit() == b.signbit()))).all())


def run_torch(graph: Graph, inputs: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    found = to_callable(graph)(*(inputs[i.name] for i in graph.inputs))
    return list(found) if isinstance(found, (tuple, list)) else [found]


def takes(rule: Rule, dtype: str) -> bool:
    """Return whether every operator of the pattern takes tensors of ``dtype``."""
    ops = builtin_ops()
    used = [ops[fn] for fn in calls(rule.lhs) if fn in ops and ops[fn].operands]
    return all(
        dtype in op.dtypes.get(op.operands[0].dtype, {op.operands[0].dtype}) for op in used if op.name != "where"
    )


def calls(e: Expr) -> set[str]:
    return ({e.fn} if isinstance(e, Call) else set()).union(*map(calls, children(e)))


@cache
def instance(rule: Rule, dtype: str, seed: int, tries: int) -> Graph:
    return draw(rule, random.Random(f"{rule.name}{dtype}{seed}"), dtype, tries)


def instances(rule: Rule, dtypes: tuple[str, ...], n: int) -> list[Graph]:
    """Return ``n`` programs per dtype that the rule takes."""
    found: list[Graph] = []
    for dtype in dtypes:
        if not takes(rule, dtype):
            continue
        try:
            found += [instance(rule, dtype, k, 1500 if not found else 150) for k in range(n)]
        except Unsatisfiable:
            continue
    assert found, f"no instance of {rule.name} was found"
    return found


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.name)
def test_a_rule_keeps_the_meaning(rule: Rule) -> None:
    oracle = Oracle()
    for k, graph in enumerate(instances(rule, ("f32", "i64", "bool"), 2)):
        after, applied = apply_rules(graph, [rule], exact_only=False)
        assert applied
        verify_graph(after)
        for seed in range(2):
            inputs = inputs_of(graph, 10 * k + seed, positive=seed == 0)
            for a, b in zip(oracle.run(graph, inputs), oracle.run(after, inputs), strict=True):
                assert a.shape == b.shape and a.dtype == b.dtype
                known = a.isfinite() if a.is_floating_point() else torch.ones_like(a, dtype=torch.bool)
                # Numbers in the patterns of approximate rules may be off by 1e-6, and softplus by 3e-9.
                tolerance = 1e-12 if rule.exact else 1e-6 if "softplus" in rule.name else 1e-9
                assert torch.allclose(a[known], b[known], rtol=tolerance, atol=tolerance), (
                    f"{print_graph(graph)}{print_graph(after)}{inputs}\n{a}\n{b}"
                )


#: Rules that move work to parameters, where it is done once and not at each call.
FOLDING = {r.name for r in RULES if r.guard is not None and "frozen(" in to_text(r.guard)}


@pytest.mark.parametrize("rule", [r for r in RULES if r.name not in FOLDING], ids=lambda r: r.name)
def test_a_rule_does_not_add_work(rule: Rule) -> None:
    (graph, *_) = instances(rule, ("f32", "i64"), 1)
    costs = [graph_cost(g) for g in (graph, apply_rules(graph, [rule], exact_only=False)[0])]
    before, after = (c.flops + FLOPS_PER_BYTE * c.unfused_bytes for c in costs)
    assert after <= before  # type: ignore[operator]


def check_exact(rule: Rule, n: int = 3) -> None:
    for k, graph in enumerate(instances(rule, ("f32", "i64", "bool"), n)):
        after, applied = apply_rules(graph, [rule], exact_only=False)
        verify_graph(after)
        assert applied[0].rule == rule.name
        for seed in range(3):
            inputs = inputs_of(graph, 10 * k + seed, special=seed > 0)
            for a, b in zip(run_torch(graph, inputs), run_torch(after, inputs), strict=True):
                assert same_bits(a, b), f"{print_graph(graph)}{print_graph(after)}{inputs}\n{a}\n{b}"


@pytest.mark.parametrize("rule", [r for r in RULES if r.exact], ids=lambda r: r.name)
def test_an_exact_rule_keeps_every_bit(rule: Rule) -> None:
    check_exact(rule)


@pytest.mark.parametrize(
    "text",
    [
        "add(x, 0.0) => x",
        "sub(x, -0.0) => x",
        "mul(x, 0.0) => sub(x, x)",
        "sub(neg(x), y) => neg(add(x, y))",
        "logical_not(lt(a, b)) => ge(a, b)",
        "div(x, 3.0) => mul(x, 1 / 3.0)",
        "permute(permute(x, order=p), order=q) => permute(x, order=permuted(q, p))",
        "cast(cast(x, to=t), to=u) => cast(x, to=u)",
        "clamp(clamp(x, min=a, max=b), min=c, max=d) => clamp(x, min=a, max=d) if a != None and b != None and c != None"
        " and d != None",
        "slice(slice(x, axis=a, start=s, stop=_, step=k), axis=a, start=t, stop=f, step=m)"
        " => slice(x, axis=a, start=s + t, stop=s + f, step=m)",
    ],
)
def test_a_rule_that_is_not_exact_is_found(text: str) -> None:
    name = "slice_slice" if text.startswith("slice") else "wrong"
    (rule,) = parse_rules(f"rewrite {name} : {text}")
    with pytest.raises(AssertionError, match="tensor"):
        check_exact(rule, 12)


def test_there_are_rules_of_both_kinds() -> None:
    assert len([r for r in RULES if r.exact]) >= 40 and len([r for r in RULES if not r.exact]) >= 40
    assert len({r.name for r in RULES}) == len(RULES)


# -- whole programs -----------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.booleans().flatmap(lambda symbolic: graphs(max_nodes=10, symbolic=symbolic)), st.integers(0, 99))
def test_exact_simplification_keeps_every_bit(graph: Graph, seed: int) -> None:
    after, _ = simplify(graph)
    verify_graph(after)
    assert after.inputs == graph.inputs
    static = at_batch(graph, 3)
    inputs = inputs_of(static, seed, special=True)
    with_updates = [attrs.evolve(g, outputs=(*g.outputs, *(u.value for u in g.updates))) for g in (graph, after)]
    a, b = (run_torch(attrs.evolve(g, updates=()), inputs) for g in with_updates)
    assert all(same_bits(x, y) for x, y in zip(a, b, strict=True)), f"{print_graph(graph)}{print_graph(after)}{inputs}"


def at_batch(graph: Graph, size: int) -> Graph:
    """Return the graph with its symbol replaced in the types of its inputs."""
    inputs = tuple(attrs.evolve(i, type=i.type.substitute({s.name: size for s in graph.symbols})) for i in graph.inputs)
    return attrs.evolve(graph, inputs=inputs)


@settings(max_examples=25, deadline=None)
@given(graphs(max_nodes=10), st.integers(0, 99))
def test_simplification_keeps_the_meaning(graph: Graph, seed: int) -> None:
    after, _ = simplify(graph, exact_only=False)
    verify_graph(after)
    inputs = inputs_of(graph, seed)
    for a, b in zip(Oracle().run(graph, inputs), Oracle().run(after, inputs), strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        known = a.isfinite() if a.is_floating_point() else torch.ones_like(a, dtype=torch.bool)
        # A comparison, a floor or an infinity on the way may turn a rounding difference into any difference.
        assert (
            torch.isclose(a[known].double(), b[known].double(), rtol=1e-9, atol=1e-9).float().mean() > 0.9
            or not known.any()
        )


@settings(max_examples=25, deadline=None)
@given(graphs(max_nodes=12))
def test_simplification_is_done_when_it_is_done(graph: Graph) -> None:
    once, _ = simplify(graph)
    again, applied = simplify(once)
    assert again == once and applied == []


# -- the machinery ------------------------------------------------------------------------------------------------------


def graph_of(body: str, outputs: str, inputs: str = "%x: f32[4, 6], %z: f32[4, 6], param %w: f32[6]") -> Graph:
    return parse_graph(f"graph f({inputs}) -> ({outputs}) {{\n{body}\n}}")


def test_a_shared_part_is_not_computed_twice() -> None:
    """A matrix product that is read elsewhere stays as it is; one that is read once takes the bias in."""
    rules = parse_rules("rewrite bias : add(linear(x, w), b) => linear(x, w, b) approximate")
    inputs = "%x: f32[64, 512], %w: f32[512, 512], %b: f32[512]"
    body = "%h = linear(%x, %w) : f32[64, 512]\n%y = add(%h, %b) : f32[64, 512]"
    assert len(apply_rules(graph_of(body, "%y", inputs), rules, exact_only=False)[1]) == 1
    assert apply_rules(graph_of(body, "%y, %h", inputs), rules, exact_only=False)[1] == []


def test_exact_only_leaves_out_the_others() -> None:
    graph = graph_of("%y = div(%x, 3.0) : f32[4, 6]", "%y")
    assert apply_rules(graph, RULES)[0] == graph
    assert [a.rule for a in apply_rules(graph, RULES, exact_only=False)[1]] == ["div_by_number"]


def test_a_type_that_would_change_stops_a_rule() -> None:
    rules = parse_rules("rewrite forget : sum(x, axes=_, keepdim=_) => x approximate")
    graph = graph_of("%y = sum(%x) {axes = [0]} : f32[6]", "%y")
    assert apply_rules(graph, rules, exact_only=False) == (graph, [])


def test_rules_that_undo_each_other_end() -> None:
    rules = parse_rules("rewrite there : add(x, y) => sub(x, neg(y)) rewrite back : sub(x, neg(y)) => add(x, y)")
    graph = graph_of("%y = add(%x, %z) : f32[4, 6]", "%y")
    verify_graph(apply_rules(graph, rules)[0])
    swap = parse_rules("rewrite swap : maximum(x, y) => maximum(y, x) approximate")
    graph = graph_of("%y = maximum(%x, %z) : f32[4, 6]", "%y")
    after, applied = apply_rules(graph, swap, exact_only=False)
    assert len(applied) < 100
    verify_graph(after)


def test_names_of_results_stay() -> None:
    graph = graph_of("%a = neg(%x) : f32[4, 6]\n%b = neg(%a) : f32[4, 6]\n%y = pow(%b, 2) : f32[4, 6]", "%y")
    after, applied = simplify(graph)
    assert [(n.results, n.operands) for n in after.nodes] == [(("y",), ("x", "x"))]
    assert [(a.rule, a.value) for a in applied] == [("neg_neg", "b"), ("square_as_product", "y")]


def test_an_output_does_not_become_an_input() -> None:
    """The caller would hold one tensor where it expects two."""
    graph = graph_of("%a = identity(%x) : f32[4, 6]\n%y = relu(%a) : f32[4, 6]", "%a, %y")
    assert simplify(graph)[0] == graph
    graph = graph_of("%a = neg(%x) : f32[4, 6]\n%y = identity(%a) : f32[4, 6]", "%y")
    assert simplify(graph)[0].outputs == ("a",)


def test_frozen_is_parameters_that_no_update_changes() -> None:
    rules = parse_rules(
        "rewrite r : mul(add(x, w), v) => add(mul(x, v), mul(w, v)) if frozen(w) and frozen(v) approximate"
    )
    inputs = "%x: f32[6], param %w: f32[6], buffer %m: f32[6]"
    body = "%v = exp(%m) : f32[6]\n%a = add(%x, %w) : f32[6]\n%y = mul(%a, %v) : f32[6]"
    assert len(apply_rules(graph_of(body, "%y", inputs), rules, exact_only=False)[1]) == 1
    assert apply_rules(graph_of(body, "%y; %m = %a", inputs), rules, exact_only=False)[1] == []
    moving = inputs.replace("buffer ", "")
    assert apply_rules(graph_of(body, "%y", moving), rules, exact_only=False)[1] == []


def test_an_undecided_guard_stops_a_rule() -> None:
    text = "graph f<B in 1..8>(%x: f32[B, 4]) -> (%y) {\n%y = reshape(%x) {shape = [4, B]} : f32[4, B]\n}"
    graph = parse_graph(text)
    assert simplify(graph) == (graph, [])


def test_either_order_of_a_symmetric_operator_matches() -> None:
    rules = parse_rules("rewrite r : mul(x, sigmoid(x)) => silu(x) approximate")
    for operands in ("%x, %s", "%s, %x"):
        graph = graph_of(f"%s = sigmoid(%x) : f32[4, 6]\n%y = mul({operands}) : f32[4, 6]", "%y")
        assert [n.op for n in apply_rules(graph, rules, exact_only=False)[0].nodes] == ["silu"]
    rules = parse_rules("rewrite r : sub(x, sigmoid(x)) => silu(x) approximate")
    graph = graph_of("%s = sigmoid(%x) : f32[4, 6]\n%y = sub(%s, %x) : f32[4, 6]", "%y")
    assert apply_rules(graph, rules, exact_only=False)[1] == []


def test_numbers_match_by_value_and_sign() -> None:
    def applies(call: str, rule: str) -> bool:
        graph = graph_of(f"%a = neg(%x) : f32[4, 6]\n%y = {call} : f32[4, 6]", "%y")
        return bool(apply_rules(graph, parse_rules(f"rewrite r : {rule}"), exact_only=False)[1])

    for number, matches in (("1", True), ("1.0", True), ("1.0000001", False), ("-1.0", False)):
        assert applies(f"mul(%a, {number})", "mul(x, 1) => x") is matches
    assert applies("mul(%a, 1.0000001)", "mul(x, 1) => x approximate")
    assert applies("add(%a, -0.0)", "add(x, -0.0) => x")
    assert not applies("add(%a, 0.0)", "add(x, -0.0) => x")


@pytest.mark.parametrize(
    "text, message",
    [
        ("rewrite r : frob(x) => x", "r.drt:1:9: r: the pattern names the operator frob, which is not defined"),
        ("rewrite r : x => x", "r: the pattern is no call of an operator"),
        ("rewrite r : relu(x + 1) => x", "r: 'x + 1' is no pattern"),
        ("rewrite r : relu(x, y) => x", "r: relu takes 1 operands, the pattern gives 2"),
        ("rewrite r : relu(x, axis=a) => x", "r: relu has no attribute axis, expected one of none"),
        ("rewrite r : softmax(x) => x", "r: the pattern of softmax does not say attribute axis, which has no default"),
        ("rewrite r : relu(x) => y", "r: y is not bound by the pattern"),
        ("rewrite r : relu(x) => x if rank(y) == 1", "r: y is not bound by the pattern"),
        ("rewrite r : relu(either(neg(x), abs(y))) => x", "r: x is not bound by the pattern"),
        ("rewrite r : relu(x) => frob(x)", "r: frob is neither an operator nor a function"),
        ("rewrite r : relu(x) => z let y = neg(z) let z = x", "r: z is not bound by the pattern"),
        ("rewrite r : relu(x) => x rewrite r : neg(x) => x", "r.drt:1:34: r: defined twice, first at r.drt:1:9"),
        ("op f(x: f32[S..]) -> (y: f32[S..]) { scalar y = x }", "f: an operator stands among rewrites"),
        ("rewrite r relu(x) => x", "r.drt:1:11: found 'relu', expected ':' or a string in double quotes"),
    ],
)
def test_errors_of_rules(text: str, message: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse_rules(text, "r.drt")
    assert message in caught.value.line()


def test_rules_of_absent_operators_are_passed_over() -> None:
    few = {name: builtin_ops()[name] for name in ("relu", "neg")}
    body = "%a = neg(%x) : f32[4]\n%b = neg(%a) : f32[4]\n%y = relu(%b) : f32[4]"
    graph = parse_graph(f"graph f(%x: f32[4]) -> (%y) {{\n{body}\n}}", ops=few)
    assert [n.operands for n in simplify(graph, few)[0].nodes] == [("x",)]
