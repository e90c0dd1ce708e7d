"""Work shared by processes: results in order, errors as they were raised."""

import math

import pytest

from hrlib.support.parallel import in_processes


@pytest.mark.slow  # each process imports numba and torch
def test_several_processes_keep_the_order():
    assert list(in_processes(math.sqrt, range(5), 2)) == list(in_processes(math.sqrt, range(5), 1))
    with pytest.raises(ValueError, match="math domain error|nonnegative"):
        list(in_processes(math.sqrt, [1, -1], 2))


def test_one_process_starts_no_other():
    assert list(in_processes(math.sqrt, [0, 4, 9], 1)) == [0, 2, 3]
