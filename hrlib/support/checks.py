"""Checks that many settings and functions share."""

from collections.abc import Collection

SIDES = "right", "left"
SPLITS = "train", "test"


def require_at_least(least: float, settings: object, *names: str) -> None:
    """Refuse settings of which a named field is below `least`, or NaN.

    Args:
        least: the smallest value allowed.
        settings: any object, usually a dataclass in its `__post_init__`.
        names: of the fields to look at.

    Raises:
        ValueError: names the field, the bound and the value.
    """
    for name in names:
        value = getattr(settings, name)
        if not value >= least:
            bound = "must not be negative" if least == 0 else f"must be at least {least:g}"
            raise ValueError(f"{name} {bound}, got {value}")


def require_seed(settings: object) -> None:
    """Refuse settings whose `seed` is not from 0 to 2^32 - 1: seeds of steps are made of it by products, in 64 bits."""
    seed = settings.seed
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed must be 0 to {2**32 - 1}, got {seed}")


def require_one_of(allowed: Collection, **given: object) -> None:
    """Refuse a value that is none of those allowed; ValueError names what was given, what is allowed and the value.

    >>> require_one_of(("right", "left"), side="left")
    """
    for name, value in given.items():
        if value not in allowed:
            *others, last = map(repr, allowed)
            wanted = f"{', '.join(others)} or {last}" if others else last
            raise ValueError(f"{name} must be {wanted}, got {value!r}")
