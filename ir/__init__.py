"""The typed operator-graph IR: operators as data, programs as immutable graphs."""

from .errors import DrtError as DrtError
from .errors import InternalError as InternalError
from .errors import ParseError as ParseError
from .errors import Unsatisfiable as Unsatisfiable
from .errors import Unsupported as Unsupported
from .errors import UsageError as UsageError
from .errors import VerifyError as VerifyError
from .graph import OPAQUE as OPAQUE
from .graph import AttrValue as AttrValue
from .graph import Graph as Graph
from .graph import Input as Input
from .graph import Literal as Literal
from .graph import Node as Node
from .graph import Operand as Operand
from .graph import Update as Update
from .opdef import OpDef as OpDef
from .opdef import OpSet as OpSet
from .size import Size as Size
from .size import SizeLike as SizeLike
from .size import Symbol as Symbol
from .size import symbol as symbol
from .typesys import DTYPES as DTYPES
from .typesys import TensorType as TensorType
