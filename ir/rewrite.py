"""Rewrites as data."""

from __future__ import annotations

import attrs

from .expr import Expr
from .opdef import Location


@attrs.frozen
class Rule:
    """``rewrite name: lhs => rhs if guard``; ``exact`` rules keep every bit, others keep the real-number meaning."""

    name: str
    doc: str
    lhs: Expr
    rhs: Expr
    guard: Expr | None = None
    exact: bool = True
    location: Location | None = attrs.field(default=None, eq=False)
