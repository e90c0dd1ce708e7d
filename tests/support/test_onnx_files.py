"""ONNX Runtime runs networks, and does nothing else."""

import os
import subprocess
import sys

from hrlib.support.paths import FINDER

RUNS = """
import sys, hrlib
from pathlib import Path
from hrlib.support.onnx_files import session
session(Path(sys.argv[1]).read_bytes(), 1)
"""


def test_nothing_is_told_to_anyone_and_no_number_is_kept(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    words = [sys.executable, "-W", "error", "-c", RUNS, str(FINDER["side"])]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert list(tmp_path.rglob("*deviceid*")) == list(tmp_path.rglob("*onnxruntime*")) == []
