"""Rewrites as data: a rule says that one expression over operators may stand for another.

Note [Rules]
A rule reads ``rewrite name "doc": pattern => replacement if guard let part = expression``, with ``approximate`` at the end
where bits may change.  Parts are values that the replacement and later parts use, possibly several times.

Pattern.  A call names an operator; its arguments are patterns of the operands, its keyword arguments patterns of the
attributes.  A name stands for any value or literal; the same name stands for the same one everywhere.  A number matches that
literal (in an approximate rule, one within 1e-6 of it).  ``either(p, q)`` matches what ``p`` or ``q`` does, ``[p, q]`` a
variadic operand, ``_`` anything.  Operands left out are absent; attributes left out have their defaults.  A name may stand
for an absent operand only if the rule says ``present(name)``.  Operators whose meaning is symmetric match in both orders.

In attribute patterns a new name is bound and any other expression is compared: ``mean(x, axes=a, keepdim=True)``.

Guard and replacement are expressions over the attribute names and over functions of values: ``shape(x)``, ``rank(x)``,
``size(x, axis)``, ``dtype(x)``, ``value(x)`` (the number that a literal is), ``is_literal(x)``, ``single_use(x)``,
``frozen(x)`` (made from parameters, buffers and constants alone, so that it need be computed only once), ``near(a, b)``,
``is_finite(a)``, ``is_power_of_two(a)``, ``widens(dtype, dtype)``, ``keeps_order(shape, order)``, and those of
:data:`drt.ir.evaluate.FUNCTIONS`.

A rule applies only if the replacement has the type of what it replaces, holds for every value of the symbols, and costs no
more than what becomes unused; what is frozen costs nothing.
"""

from __future__ import annotations

import attrs

from .expr import Expr
from .opdef import Location


@attrs.frozen
class Rule:
    """``rewrite name: lhs => rhs if guard let ...``; ``exact`` rules keep every bit, others keep the real-number meaning."""

    name: str
    doc: str
    lhs: Expr
    rhs: Expr
    guard: Expr | None = None
    lets: tuple[tuple[str, Expr], ...] = ()
    exact: bool = True
    location: Location | None = attrs.field(default=None, eq=False)
