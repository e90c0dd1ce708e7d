"""Readers and damaged files, 20 seconds of `benchmarks/fuzz.py`; and the benchmark notices what gives no sentence."""

from pathlib import Path

import fuzz


def test_no_damaged_file_stops_a_reader_otherwise_than_by_a_sentence(tmp_path):
    counts, crashes = fuzz.fuzz(list(fuzz.KINDS), 20.0, seed=2024, keep=tmp_path)
    assert crashes == []
    assert all(count for count in counts.values()), "no kind is left out"
    assert sum(count.get("refused", 0) for count in counts.values()) > 10


def test_a_reader_that_crashes_or_hides_the_file_is_noticed(tmp_path):
    def crashes(path: Path):
        raise KeyError("depth")

    def names_nothing(path: Path):
        raise ValueError("a file is damaged")

    for read, said in ((crashes, "KeyError"), (names_nothing, "names no file")):
        result, why = fuzz.verdict(fuzz.Kind(fuzz.png, read), fuzz.png(tmp_path))
        assert result == "crash" and said in why
