"""Work shared by processes and threads: results in order, errors as they were raised, waiting that costs others nothing."""

import math
import os
import subprocess
import sys

import pytest

from hrlib.support.parallel import AHEAD, in_processes


@pytest.mark.slow  # each process imports numba and torch
def test_several_processes_keep_the_order():
    assert list(in_processes(math.sqrt, range(5), 2)) == list(in_processes(math.sqrt, range(5), 1))
    with pytest.raises(ValueError, match="math domain error|nonnegative"):
        list(in_processes(math.sqrt, [1, -1], 2))


@pytest.mark.slow
def test_work_is_asked_for_as_it_is_needed():
    """Memory stays flat: a long folder is not in work all at once, however slowly its results are taken."""
    asked = []
    roots = in_processes(math.sqrt, (asked.append(i) or i * i for i in range(1000)), 2)
    for i in range(3):
        assert next(roots) == i and len(asked) <= i + 2 * AHEAD
    roots.close()
    assert len(asked) <= 2 + 2 * AHEAD


def test_one_process_starts_no_other():
    assert list(in_processes(math.sqrt, [0, 4, 9], 1)) == [0, 2, 3]


def test_threads_that_wait_sleep_unless_the_user_says_otherwise():
    """Spinning takes the cores that other programs and our own other threads need."""
    code = "import hrlib, os, sys; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    for own, expected in (({}, "PASSIVE False"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE False")):
        environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"} | own
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == expected
