"""The evaluation of test people: every look is counted, and what is missing fails."""

import json

import evaluate


def test_each_look_at_test_people_is_counted_before_it_has_a_number(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "OUT", tmp_path / "evaluate.json")
    clean, dirty = {"id": "1", "dirty": False}, {"id": "1", "dirty": True}
    assert evaluate.begun(clean, looks=False) == [] and not evaluate.OUT.exists()
    assert [len(evaluate.begun(commit, looks=True)) for commit in (clean, clean, dirty, dirty)] == [1, 1, 2, 3]
    written = json.loads(evaluate.OUT.read_text())["metrics"]
    assert written["runs"] == 3 and not any(run["finished"] for run in written["history"])
    assert len(evaluate.begun(dirty, looks=False)) == 3  # a run on real sets alone keeps the history


def test_a_test_person_without_a_frame_fails_the_claims():
    errors = {"16": {how: {"mean_mm": 9.0} for how in ("as_they_are", "offset_removed")}}
    row = {"models": dict.fromkeys(evaluate.MODELS, {"found": errors}), "kind": "test person, simulated"}
    row |= {"found": 450, "lost": 10, "half_covered": 25, "frames": 500, "offset_mm": {"base": [1.0]}}
    none = row | {"models": dict.fromkeys(evaluate.MODELS, {"found": None}), "found": 0, "lost": 0, "half_covered": 0}
    real = row | {"kind": "real people", "offset_mm": {}}
    sets = {"E": row, "F": row, "G": row, "handpose_x_plus": real, "d435_table": real, "d435_table, free": real}
    values = evaluate.values_of(sets)
    assert values["test-found"] == 0.85 and values["test-base"] == 9.0 and values["test-gain"] == 0.0
    for missing in (none, row | {"offset_mm": {}}):  # nothing found; too few training frames for an offset
        values = evaluate.values_of(sets | {"F": missing})
        assert values["test-base"] == float("inf") and values["test-gain"] == float("-inf")
