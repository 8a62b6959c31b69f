"""``python -m drt`` is the command ``drt``."""

import sys

from .cli import main

sys.exit(main())
