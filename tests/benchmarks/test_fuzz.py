"""Readers and damaged files, 20 seconds of `benchmarks/fuzz.py`; and the benchmark notices what gives no sentence."""

import time
from datetime import UTC, datetime
from pathlib import Path

import fuzz
import pytest


def test_no_damaged_file_stops_a_reader_otherwise_than_by_a_sentence(tmp_path):
    """Every day other files; a crash is told with its seed and turn, which `fuzz.py --seed --turn` repeats."""
    seed = int(f"{datetime.now(UTC):%Y%m%d}")
    print(f"seed {seed}")
    counts, crashes = fuzz.fuzz(list(fuzz.KINDS), 20.0, seed, keep=tmp_path)
    assert crashes == []
    assert all(count for count in counts.values()), "no kind is left out"
    assert sum(count.get("refused", 0) for count in counts.values()) > 10


def test_a_reader_that_crashes_waits_or_hides_the_file_is_noticed(tmp_path, monkeypatch):
    def crashes(path: Path):
        raise KeyError("depth")

    def names_nothing(path: Path):
        raise ValueError("a file is damaged")

    def waits(path: Path):
        while True:
            time.sleep(0.01)

    monkeypatch.setattr(fuzz, "LONGEST_S", 0.2)
    readers = [(crashes, "KeyError"), (names_nothing, "names no file"), (waits, "took longer")]
    for read, said in readers if hasattr(fuzz.signal, "setitimer") else readers[:2]:
        result, why = fuzz.verdict(fuzz.Kind(fuzz.png, read), fuzz.png(tmp_path))
        assert result == "crash" and said in why


@pytest.mark.parametrize("turn", [0, 9])
def test_seed_and_turn_make_a_damaged_file_again(tmp_path, monkeypatch, turn):
    """Of two kinds in turn, the one that crashes."""

    def crashes(path: Path):
        if path.read_bytes() != good:
            raise KeyError(path.read_bytes())

    good = fuzz.png(tmp_path).read_bytes()
    monkeypatch.setattr(fuzz, "KINDS", {"even": fuzz.Kind(fuzz.png, crashes), "odd": fuzz.Kind(fuzz.png, crashes)})
    _, many = fuzz.fuzz(["even", "odd"], 1.0, 5, tmp_path)
    counts, alone = fuzz.fuzz(["even", "odd"], 0.0, 5, tmp_path, turn)
    assert sum(sum(count.values()) for count in counts.values()) == 1
    assert alone == [crash for crash in many if f"--turn {turn}:" in crash] != []
