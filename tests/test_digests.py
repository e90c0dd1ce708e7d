"""The numbers are those of before, bit for bit: predictions, refinements, gradients.

`digests.json` holds a SHA-256 of each result and, for other processors, whose kernels round otherwise, mean magnitudes that
must agree to a thousandth, those of refinements to a fiftieth, since each of their steps magnifies rounding. A change that is
meant to change numbers says so in its commit, and makes the file anew:
HRLIB_NEW_DIGESTS=1 pytest tests/test_digests.py
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from digests import RESULTS

FILE = Path(__file__).parent / "digests.json"


@pytest.fixture(scope="module")
def found():
    """Digests of all results, computed by one process with one thread."""
    one = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    roots = [str(FILE.parents[1]), str(FILE.parent)]
    environment = os.environ | one | {"PYTHONPATH": os.pathsep.join(roots)}
    done = subprocess.run([sys.executable, FILE.with_suffix(".py")], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    if os.environ.get("HRLIB_NEW_DIGESTS") == "1":
        FILE.write_text(json.dumps(result, indent=1) + "\n")
    return result


@pytest.mark.slow
@pytest.mark.parametrize("name", RESULTS)
def test_the_same_as_before(found, name):
    stored = json.loads(FILE.read_text())
    if stored["machine"] == found["machine"]:
        assert found[name]["sha256"] == stored[name]["sha256"]
    near = 2e-2 if name.startswith("refined") else 1e-3
    assert found[name]["magnitudes"] == pytest.approx(stored[name]["magnitudes"], rel=near)
