"""The float64 meaning of graphs."""

from .run import MODES as MODES
from .run import Oracle as Oracle
