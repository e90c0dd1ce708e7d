"""`python -m hrlib`: the command `hrlib`."""

import sys

from .cli import main

sys.exit(main())
