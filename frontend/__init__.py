"""Ways into the IR."""

from .calling import Baked as Baked
from .calling import ComplexPair as ComplexPair
from .calling import Extent as Extent
from .calling import InSpec as InSpec
from .calling import OutSpec as OutSpec
from .export import Imported as Imported
from .export import import_module as import_module
from .importer import Unknown as Unknown
from .load import LoadedModel as LoadedModel
from .load import load_model as load_model
