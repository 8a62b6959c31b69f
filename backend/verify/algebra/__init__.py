"""Programs on elements of a finite ring in place of floats: equal programs agree bit for bit, whatever their rounding."""

from .evidence import RingJudge as RingJudge
from .evidence import RingOutcome as RingOutcome
from .evidence import ring_trials as ring_trials
