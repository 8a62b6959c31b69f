"""OR-tools CP-SAT on the sizes of a program: the fallback where draws do not fit, and the judge of what cannot."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

from ..ir import SizeLike, Unsatisfiable, UsageError
from ..ir.size import Quotient, Symbol
from .dims import Plan

#: Integers beyond this are cut off; CP-SAT's products must stay below 2**63.
_MOST = 2**40


class Model:
    """Conditions on sizes as constraints of a CP-SAT model, each under a literal by which a proof may name it.

    Args:
        model: OR-tools' ``CpModel``.

    Attributes:
        assumed: the literals with the names of their conditions.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.assumed: list[tuple[Any, str]] = []

    def variable(self, lo: int, hi: int) -> Any:
        """Return a new integer variable."""
        return self.model.new_int_var(lo, hi, "")

    def size(self, e: SizeLike, value: Callable[[str], Any]) -> Any:
        """Return a size as an expression; ``value`` gives the one of each symbol, by name."""
        if isinstance(e, int):
            return e
        total: Any = 0
        for monomial, coefficient in e.terms:
            factors = [self._atom(a, value) for a in monomial]
            total = total + coefficient * self.product(factors)
        return total

    def product(self, factors: list[Any]) -> Any:
        """Return a product of expressions."""
        out: Any = 1
        for f in factors:
            if isinstance(out, int) or isinstance(f, int):
                out = out * f
            else:
                p = self.variable(-_MOST, _MOST)
                self.model.add_multiplication_equality(p, [out, f])
                out = p
        return out

    def _atom(self, a: Any, value: Callable[[str], Any]) -> Any:
        if isinstance(a, Symbol):
            return value(a.name)
        assert isinstance(a, Quotient)
        x, y = self.size(a.a, value), self.size(a.b, value)
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

    def contradiction(self, seconds: float = 1.0, seed: int = 0) -> tuple[list[str] | None, Any]:
        """Solve: return names of conditions that contradict each other, and a solver with values where there are some.

        Args:
            seconds: limit of deterministic time.
            seed: of the solver.
        """
        from ortools.sat.python import cp_model

        self.model.add_assumptions([literal for literal, _ in self.assumed])
        solver = cp_model.CpSolver()
        solver.parameters.num_workers = 1
        solver.parameters.max_deterministic_time = seconds
        solver.parameters.random_seed = seed
        status = solver.solve(self.model)
        if status == cp_model.INFEASIBLE:
            label = {literal.index: text for literal, text in self.assumed}
            core = [label[i] for i in solver.sufficient_assumptions_for_infeasibility() if i in label]
            return list(dict.fromkeys(core)), None
        return None, solver if status in (cp_model.OPTIMAL, cp_model.FEASIBLE) else None


def new_model() -> Model:
    """Return a model without conditions; raises UsageError where OR-tools is not installed."""
    try:
        from ortools.sat.python import cp_model
    except ImportError:
        raise UsageError("needs OR-tools, expected `pip install drt[synth]`") from None
    return Model(cp_model.CpModel())


def relation(op: str, a: Any, b: Any, truth: bool = True) -> Any:
    """Return a comparison of two expressions, or its negation."""
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
    m = new_model()
    most = plan.profile.max_numel
    values: dict[int, Any] = {0: 1}

    def read(args: Sequence[int]) -> Callable[[str], Any]:
        return lambda name: values[find(args[int(name[1:])])]

    find, low = plan.sizes.find, plan.sizes.low
    for x, v in plan.constants:
        values[x] = v
    for x, least, cap, a, b in plan.law:
        values[x] = m.variable(least, max(least, cap))
        m.model.add_hint(values[x], max(least, int(math.exp(a + (b - a) * rng.random()))))
    for x, _ in plan.order:
        values[x] = m.variable(max(low[x], -_MOST), most)
    for x, made in plan.order:
        if made[0] == "f":
            if made[1].size is None:
                return None
            m.require(f"size = {made[1].text}", values[x] == m.size(made[1].size, read(made[2])))
        elif made[0] == "n":
            for bounds, op in ((made[1], ">="), (made[2], "<=")):
                for f, args in bounds:
                    if f.size is None and not f.text.lstrip("(-").rstrip(")").isdigit():
                        return None
                    value = m.size(f.size, read(args)) if f.size is not None else f.function()
                    m.require(f"attribute {op} {f.text}", relation(op, values[x], value, True))
        elif made[3] == len(made[1]) - 1:
            factors = [values[find(n)] for n in made[1]]
            m.require("product of factors", values[find(made[2])] == m.product(factors))
    for f, args in plan.sizes.checks:
        condition = getattr(f, "condition", None)
        if condition is not None:
            op, a, b, truth = condition
            m.require(f.text, relation(op, m.size(a, read(args)), m.size(b, read(args)), truth))
        elif getattr(f, "formula", None) is not None and f.formula.size is not None:
            inner = m.size(f.formula.size, read(args[1:]))
            m.require(f.formula.text, relation(getattr(f, "op", "=="), values[find(args[0])], inner, True))
        else:
            return None
    for f, args in plan.sizes.products:
        m.require(f"{f.text} >= 2", relation(">=", m.size(f.size, read(args)), 2, True))
    for shape in plan.tensors:
        m.require(f"elements <= {most}", relation("<=", m.product([values[d] for d in shape]), most, True))
    core, solver = m.contradiction(seconds, rng.randrange(2**31))
    if core is not None:
        raise Unsatisfiable(f"no sizes fit: {'; '.join(core) or 'the bounds contradict each other'}")
    if solver is None:
        return None
    value = [1] * len(plan.sizes.parent)
    for x, v in values.items():
        value[x] = v if isinstance(v, int) else solver.value(v)
    return value
