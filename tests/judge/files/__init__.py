"""Whole files: right ones in the styles of real code, wrong versions of each, and cheats."""

from __future__ import annotations

from .cheats import FILE_CHEATS as FILE_CHEATS
from .features import FEATURES
from .liger import LIGER
from .pair import HEADER as HEADER
from .pair import Pair
from .products import PRODUCTS
from .scans import SCANS
from .solutions import SOLUTIONS
from .tutorials import TUTORIALS

PAIRS: tuple[Pair, ...] = (*TUTORIALS, *LIGER, *SOLUTIONS, *PRODUCTS, *SCANS, *FEATURES)
