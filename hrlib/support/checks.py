"""Checks that many settings share."""


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
