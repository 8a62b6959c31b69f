"""Ways into the IR."""

from .calling import Baked as Baked
from .calling import ComplexPair as ComplexPair
from .calling import Extent as Extent
from .calling import InSpec as InSpec
from .calling import OutSpec as OutSpec
from .export import Imported as Imported
from .export import import_module as import_module
from .importer import Unknown as Unknown
from .jaxpr import import_jax as import_jax
from .load import LoadedModel as LoadedModel
from .load import load_model as load_model
from .reasons import on_meta as on_meta
from .saved import SUFFIX as SAVED_SUFFIX
from .saved import import_exported as import_exported
from .saved import load_saved as load_saved
from .saved import saved_model as saved_model
from .sources import from_text as from_text
from .sources import import_loaded as import_loaded
from .sources import import_program as import_program
from .sources import is_jax as is_jax
from .sources import parse_dynamic as parse_dynamic
