"""Cutting graphs into fragments and choosing a kernel for each."""

from .choose import Chooser as Chooser
from .choose import Chosen as Chosen
from .choose import Times as Times
from .choose import load_entry as load_entry
from .choose import load_file as load_file
from .choose import load_model_new as load_model_new
from .fuse import A_VIEW as A_VIEW
from .fuse import ONCE as ONCE
from .fuse import Part as Part
from .fuse import PlanLike as PlanLike
from .fuse import extract as extract
from .fuse import fragment_key as fragment_key
from .fuse import is_view as is_view
from .fuse import partition as partition
from .fuse import split_anchor as split_anchor
