"""The judge: verdicts about candidates, gate by gate."""

from .files import verify_files as verify_files
from .files import verify_module as verify_module
from .judge import FragmentJudge as FragmentJudge
from .judge import verify_candidate as verify_candidate
from .judge import worker_job as worker_job
from .labels import LABELS as LABELS
from .labels import verdict_schema as verdict_schema
from .pool import JudgePool as JudgePool
from .pool import PoolReport as PoolReport
from .shrink import Instance as Instance
from .shrink import instances as instances
from .verdict import GATES as GATES
from .verdict import GateReport as GateReport
from .verdict import Verdict as Verdict
