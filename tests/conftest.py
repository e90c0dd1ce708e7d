"""Settings of all tests: data sets, and no display."""

import os
import signal
from pathlib import Path

import pytest
import shapes

shapes.install()  # before anything imports hrlib

ROOT = Path(__file__).resolve().parent.parent
BESIDE = ROOT.parent / "shared" / "data"

os.environ.setdefault("MPLBACKEND", "Agg")
if BESIDE.is_dir():
    os.environ.setdefault("HRLIB_DATA_MIRROR", str(BESIDE))
# some tests press Ctrl-C, which a shell has its background jobs ignore
signal.signal(signal.SIGINT, signal.default_int_handler)


def has_mirror() -> bool:
    return bool(os.environ.get("HRLIB_DATA_MIRROR"))


def pytest_runtest_setup(item):
    if item.get_closest_marker("mirror") and not has_mirror():
        pytest.skip("HRLIB_DATA_MIRROR is not set: it names the folder with the data sets")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """A test of real data that skips itself although the data are promised is a failure, not a skip."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and item.get_closest_marker("mirror") and has_mirror():
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid}: HRLIB_DATA_MIRROR is set, so this must run, but: {reason}"
    return report


@pytest.fixture
def mirror() -> Path:
    """The folder with the data sets (for tests marked `mirror`)."""
    from hrlib.support import paths

    return paths.mirror()
