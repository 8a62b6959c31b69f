"""OR-tools CP-SAT on the sizes of a program: the fallback where draws do not fit, and the judge of what cannot."""

from __future__ import annotations

import math
import random
from typing import Any

from ..ir import SizeLike, Unsatisfiable, UsageError
from ..ir.size import Quotient, Symbol
from .dims import Plan

#: Integers beyond this are cut off; CP-SAT's products must stay below 2**63.
_MOST = 2**40


class _Model:
    def __init__(self, plan: Plan, model: Any) -> None:
        self.plan, self.model = plan, model
        self.most = plan.profile.max_numel
        self.values: dict[int, Any] = {0: 1}
        self.assumed: list[tuple[Any, str]] = []

    def variable(self, lo: int, hi: int) -> Any:
        return self.model.new_int_var(lo, hi, "")

    def size(self, e: SizeLike, arguments: list[Any]) -> Any:
        if isinstance(e, int):
            return e
        total: Any = 0
        for monomial, coefficient in e.terms:
            factors = [self.atom(a, arguments) for a in monomial]
            total = total + coefficient * self.product(factors)
        return total

    def product(self, factors: list[Any]) -> Any:
        out: Any = 1
        for f in factors:
            if isinstance(out, int) or isinstance(f, int):
                out = out * f
            else:
                p = self.variable(-_MOST, _MOST)
                self.model.add_multiplication_equality(p, [out, f])
                out = p
        return out

    def atom(self, a: Any, arguments: list[Any]) -> Any:
        if isinstance(a, Symbol):
            return arguments[int(a.name[1:])]
        assert isinstance(a, Quotient)
        x, y = self.size(a.a, arguments), self.size(a.b, arguments)
        if a.op in ("min", "max"):
            out = self.variable(-_MOST, _MOST)
            add = self.model.add_min_equality if a.op == "min" else self.model.add_max_equality
            add(out, [x, y])
            return out
        # CP-SAT divides towards zero; sizes divide downwards, so the remainder is made explicit.
        quotient, remainder = self.variable(-_MOST, _MOST), self.variable(0, _MOST)
        self.model.add(remainder < y)
        self.model.add(x == self.product([quotient, y]) + remainder)
        return quotient if a.op == "//" else remainder

    def require(self, label: str, relation: Any) -> None:
        """Add a condition that a proof of infeasibility may name."""
        if relation is True:
            return
        literal = self.model.new_bool_var(label)
        if relation is False:
            self.model.add(literal == 0)
        else:
            self.model.add(relation).only_enforce_if(literal)
        self.assumed.append((literal, label))


def _relation(op: str, a: Any, b: Any, truth: bool) -> Any:
    if not truth:
        op = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "==": "!=", "!=": "=="}[op]
    return {
        "<": lambda: a < b, "<=": lambda: a <= b, ">": lambda: a > b, ">=": lambda: a >= b, "==": lambda: a == b,
        "!=": lambda: a != b,
    }[op]()  # fmt: skip


def solve(plan: Plan, rng: random.Random, seconds: float = 1.0) -> list[int] | None:
    """Return sizes that fit a plan, near random ones; None where the time was too short or a condition is not linear enough.

    Args:
        plan: the classes and conditions of a program.
        rng: gives the hints that make solutions differ.
        seconds: limit of deterministic time.

    Raises:
        Unsatisfiable: there are none; the message names conditions that contradict each other.
        UsageError: OR-tools is not installed.
    """
    try:
        from ortools.sat.python import cp_model
    except ImportError:
        raise UsageError("needs OR-tools, expected `pip install drt[synth]`") from None
    model = cp_model.CpModel()
    m = _Model(plan, model)
    find, low = plan.sizes.find, plan.sizes.low
    for x, v in plan.constants:
        m.values[x] = v
    for x, least, cap, a, b in plan.law:
        m.values[x] = m.variable(least, max(least, cap))
        model.add_hint(m.values[x], max(least, int(math.exp(a + (b - a) * rng.random()))))
    for x, _ in plan.order:
        m.values[x] = m.variable(max(low[x], -_MOST), m.most)
    for x, made in plan.order:
        if made[0] == "f":
            if made[1].size is None:
                return None
            m.require(
                f"size = {made[1].text}", m.values[x] == m.size(made[1].size, [m.values[find(a)] for a in made[2]])
            )
        elif made[0] == "n":
            for bounds, op in ((made[1], ">="), (made[2], "<=")):
                for f, args in bounds:
                    if f.size is None and not f.text.lstrip("(-").rstrip(")").isdigit():
                        return None
                    value = m.size(f.size, [m.values[find(a)] for a in args]) if f.size is not None else f.function()
                    m.require(f"attribute {op} {f.text}", _relation(op, m.values[x], value, True))
        elif made[3] == len(made[1]) - 1:
            factors = [m.values[find(n)] for n in made[1]]
            m.require("product of factors", m.values[find(made[2])] == m.product(factors))
    for f, args in plan.sizes.checks:
        arguments = [m.values[find(a)] for a in args]
        condition = getattr(f, "condition", None)
        if condition is not None:
            op, a, b, truth = condition
            m.require(f.text, _relation(op, m.size(a, arguments), m.size(b, arguments), truth))
        elif getattr(f, "formula", None) is not None and f.formula.size is not None:
            inner = m.size(f.formula.size, arguments[1:])
            m.require(f.formula.text, _relation(getattr(f, "op", "=="), arguments[0], inner, True))
        else:
            return None
    for f, args in plan.sizes.products:
        m.require(f"{f.text} >= 2", _relation(">=", m.size(f.size, [m.values[find(a)] for a in args]), 2, True))
    for shape in plan.tensors:
        m.require(f"elements <= {m.most}", _relation("<=", m.product([m.values[d] for d in shape]), m.most, True))
    model.add_assumptions([literal for literal, _ in m.assumed])
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.max_deterministic_time = seconds
    solver.parameters.random_seed = rng.randrange(2**31)
    status = solver.solve(model)
    if status == cp_model.INFEASIBLE:
        label = {literal.index: text for literal, text in m.assumed}
        core = [label[i] for i in solver.sufficient_assumptions_for_infeasibility() if i in label]
        raise Unsatisfiable(f"no sizes fit: {'; '.join(dict.fromkeys(core)) or 'the bounds contradict each other'}")
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return None
    value = [1] * len(plan.sizes.parent)
    for x, v in m.values.items():
        value[x] = v if isinstance(v, int) else solver.value(v)
    return value
