"""How much work a notebook does: the profiles, and the setting that belongs to each."""

import os
from typing import Any

from ..support.checks import require_one_of

PROFILES = ("smoke", "quick", "full")  # CI, under a minute a notebook; the default; the paper's protocol
PROFILE_VARIABLE = "HRLIB_PROFILE"


def profile(wanted: str = "quick") -> str:
    """The profile to run: HRLIB_PROFILE from the environment (tests run notebooks so), else the parameter `wanted`.

    Raises:
        ValueError: it is none of PROFILES.
    """
    for source, value in ((PROFILE_VARIABLE, os.environ.get(PROFILE_VARIABLE)), ("profile", wanted)):
        if value:
            require_one_of(PROFILES, **{source: value})
    return os.environ.get(PROFILE_VARIABLE) or wanted


def pick(profile: str, *, smoke: Any, quick: Any, full: Any) -> Any:
    """The setting (a number, or a dataclass of settings) that belongs to the profile."""
    require_one_of(PROFILES, profile=profile)
    return {"smoke": smoke, "quick": quick, "full": full}[profile]
