"""`hrlib` on the command line, in the tests' own process."""

import sys

from hrlib import __main__ as cli


def command(*words) -> int:
    """The exit status of `hrlib` with these words."""
    before, sys.argv = sys.argv, ["hrlib", *map(str, words)]
    try:
        return cli.main()
    finally:
        sys.argv = before
