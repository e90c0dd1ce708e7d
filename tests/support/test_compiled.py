"""Where numba finds no folder for its cache, and where its threads cannot run."""

import os
import subprocess
import sys
import tempfile

import numba
import pytest

from hrlib.support import compiled as module
from hrlib.support.compiled import compiled


def doubled(x):
    return 2 * x


@pytest.mark.skipif(os.name == "nt", reason="no such permissions")
def test_without_a_writable_home_the_code_is_kept_in_a_temporary_folder(monkeypatch, tmp_path):
    usual = module._cached

    def no_place(function, options):
        if not numba.config.CACHE_DIR:
            raise RuntimeError("cannot cache function: no locator available")
        return usual(function, options)

    monkeypatch.setattr(module, "_cached", no_place)
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert compiled()(doubled)(21) == 42
    own = tmp_path / f"hrlib-numba-{os.getuid()}"
    assert list(own.rglob("*.nbc")) and own.stat().st_mode & 0o077 == 0
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    own.chmod(0o777)  # another user could exchange the code: it is compiled for this run alone
    assert compiled()(doubled)(4) == 8 and not numba.config.CACHE_DIR


PROGRAM = """
import os, threading, torch
from hrlib import splat_depth

points = torch.rand(4, 200, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([60.0, 60.0, 1.0])
wanted = splat_depth(points, 5.0, (60, 60))
same = []
def again():
    for _ in range(20):
        same.append(torch.equal(splat_depth(points, 5.0, (60, 60)), wanted))
callers = [threading.Thread(target=again) for _ in range(4)]
[caller.start() for caller in callers], [caller.join() for caller in callers]
assert all(same) and len(same) == 80
child = os.fork()
if child == 0:
    os._exit(0 if torch.equal(splat_depth(points, 5.0, (60, 60)), wanted) else 1)
assert os.waitpid(child, 0)[1] == 0
print("right")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks")
@pytest.mark.parametrize("layer", ["omp", "workqueue"])
def test_kernels_run_in_threads_and_after_a_fork(layer):
    environment = os.environ | {"NUMBA_THREADING_LAYER": layer, "NUMBA_NUM_THREADS": "2"}
    run = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True)
    if "No threading layer could be loaded" in run.stderr:
        pytest.skip(f"no {layer} here")
    assert run.stdout == "right\n", run.stderr
