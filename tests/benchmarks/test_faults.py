"""Faults of `benchmarks/faults.py` that take a second each, twenty kills, and a benchmark that notices what is lost."""

import faults
import kill
import pytest

QUICK = [
    (group, name)
    for group in (faults.OUTPUTS, faults.FRAMES, faults.MODELS)
    for name in faults.FAULTS[group]
    if not name.startswith(("two refinements", "names that act"))
]


@pytest.mark.slow
@pytest.mark.parametrize(("group", "name"), QUICK, ids=[name for _, name in QUICK])
def test_nothing_is_lost(group, name):
    faults.good_joints()
    row = faults.outcome(faults.FAULTS[group][name])
    assert row["lost"] == [] and row["tried"] == 1


def test_what_is_lost_is_noticed():
    def loses(place):
        place.joints.write_text("other joints")
        assert place.joints.read_text() == "joints"

    def ends_badly(place):
        faults.Ended(1, "Traceback (most recent call last):").refused()

    def cannot(place):
        raise faults.CannotTry("needs root")

    for attempt in (loses, ends_badly):
        row = faults.outcome(attempt)
        assert (row["tried"], row["survived"]) == (1, 0) and len(row["lost"]) == 1
    assert faults.outcome(cannot) == {"tried": 0, "survived": 0, "lost": [], "why": "needs root"}


@pytest.mark.slow
def test_twenty_kills_lose_nothing(tmp_path, monkeypatch):
    words = ("kill.py", "--kills", "20", "--only", "two files", "state", "checkpoint", "--out", tmp_path / "kill.json")
    monkeypatch.setattr("sys.argv", list(map(str, words)))
    assert kill.main() == 0
