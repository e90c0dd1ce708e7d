"""The command `hrlib`. A command is a function that returns its exit status, listed in COMMANDS.

Its signature and docstring are its options and help (tyro). Imports stay inside the functions: help is instant.
"""

import os
import sys
from typing import Literal


def reproduce(profile: Literal["smoke", "quick", "full"] = "quick", only: tuple[str, ...] = ()) -> int:
    """Run the notebooks and regenerate the figures.

    Args:
        profile: smoke (does it run?), quick (all within 20 minutes on two cores) or full (the paper's protocol).
        only: notebooks by their first characters, e.g. 03 04.
    """
    from .reproduce import reproduce

    return reproduce(profile, only)


def claims(readme: bool = False) -> int:
    """Print what the figures and benchmarks claim, and whether it holds; exit status 1 where one does not.

    Args:
        readme: also write the table into README.md.
    """
    from . import claims, paths
    from .results import gather_claims

    gathered = gather_claims(paths.FIGURES, paths.BENCHMARKS)
    print(claims.as_text(gathered))
    if readme:
        claims.write_into(paths.ROOT / "README.md", gathered)
    return int(not all(claim["holds"] for claim in gathered))


COMMANDS = {"reproduce": reproduce, "claims": claims}


def main() -> int:
    """Run a command. Errors that the user can mend are one line and status 2; HRLIB_DEBUG=1 shows the traceback."""
    import tyro

    try:
        return tyro.extras.subcommand_cli_from_dict(COMMANDS, prog="hrlib", description="Refine 3D hand poses.") or 0
    except KeyboardInterrupt:
        print("hrlib: stopped by Ctrl-C", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        if os.environ.get("HRLIB_DEBUG") == "1":
            raise
        text = error.strerror if isinstance(error, OSError) and error.filename is None and error.strerror else error
        print(f"hrlib: {text}", file=sys.stderr)
        return 2
