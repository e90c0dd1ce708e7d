import pytest

from hrlib.support.checks import SIDES, require_one_of


def test_a_value_that_is_none_of_those_allowed_is_named():
    require_one_of(SIDES, side="left")
    with pytest.raises(ValueError, match="side must be 'right', 'left' or None, got 'up'"):
        require_one_of((*SIDES, None), side="up")
