"""companion.side_by_side: calls in processes of their own, their share of the cores, and their end when all stops."""

import os
import signal
import time

import pytest

from hrlib.companion.side_by_side import THREADS, Lost, cores_allowed, side_by_side


def square(x):
    return x * x


def threads_of(_):
    return [os.environ[name] for name in THREADS]


def die(x):
    if x:
        os.kill(os.getpid(), signal.SIGKILL)
    return "lives"


def sleeps(file):
    file.write_text(str(os.getpid()))
    time.sleep(100)


def test_each_call_has_its_result():
    assert sorted(side_by_side(square, [(i,) for i in range(5)], 2)) == [(i, i * i) for i in range(5)]
    assert list(side_by_side(square, [], 2)) == []


def test_processes_share_the_cores_unless_the_environment_says_how_many(monkeypatch):
    for name in THREADS:
        monkeypatch.delenv(name, raising=False)
    share = str(max(1, cores_allowed() // 2))
    assert dict(side_by_side(threads_of, [(0,)], 2)) == {0: [share] * 3}
    monkeypatch.setenv("NUMBA_NUM_THREADS", "7")  # as it is now, though the first processes have begun without
    assert dict(side_by_side(threads_of, [(0,)], 1))[0][2] == "7"


def test_the_environment_limits_the_cores(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3,1")
    assert cores_allowed() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert 1 <= cores_allowed() <= os.cpu_count()


def test_a_killed_process_is_told_and_the_others_go_on():
    results = dict(side_by_side(die, [(1,), (0,)], 2))
    assert results[1] == "lives" and results[0] == Lost(-signal.SIGKILL)
    assert "signal 9, maybe for want of memory" in str(results[0]) and "status 3" in str(Lost(3))


def test_who_leaves_early_stops_what_runs(tmp_path):
    files = [tmp_path / "a", tmp_path / "b"]
    calls = side_by_side(_quick_or_slow, [(None,), *((file,) for file in files)], 3)
    assert next(calls) == (0, "quick")
    until = time.monotonic() + 60
    while not all(file.exists() and file.read_text() for file in files):
        assert time.monotonic() < until
        time.sleep(0.05)
    calls.close()
    for file in files:
        with pytest.raises(ProcessLookupError):
            os.kill(int(file.read_text()), 0)


def _quick_or_slow(file):
    return "quick" if file is None else sleeps(file)
