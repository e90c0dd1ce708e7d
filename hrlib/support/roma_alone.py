"""roma without torch's compiler, which it imports (1.3 s) to keep two of its functions out of compiled graphs."""

import sys
from types import ModuleType

import torch

__all__ = ["roma"]


def _import_alone() -> ModuleType:
    """roma; where the compiler is not imported yet, the two functions import it when they are first called."""
    name = "torch._dynamo"
    if name in sys.modules or "roma" in sys.modules:
        import roma

        return roma
    stand_in = ModuleType(name)
    stand_in.disable = torch._disable_dynamo  # what torch itself uses in place of torch._dynamo.disable
    sys.modules[name] = torch._dynamo = stand_in
    try:
        import roma
    finally:
        del sys.modules[name], torch._dynamo
    return roma


roma = _import_alone()
