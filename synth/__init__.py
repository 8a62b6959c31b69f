"""CSP-DAG: random programs that are valid by construction, with exactly uniform operators."""

from .command import generate as generate
from .command import make_spec as make_spec
from .command import statistics as statistics
from .dataset import input_specs as input_specs
from .dataset import row as row
from .dataset import rows as rows
from .dataset import stream as stream
from .degenerate import Refusal as Refusal
from .profiles import PROFILES as PROFILES
from .profiles import Profile as Profile
from .relation import Relations as Relations
from .sampler import Program as Program
from .sampler import Sampler as Sampler
from .sampler import Spec as Spec
from .shrink import Instances as Instances
from .shrink import instances as instances
from .shrink import minimise as minimise
