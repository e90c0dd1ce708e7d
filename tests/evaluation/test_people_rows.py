"""Rows of everybody whose joints are known: from which numbers of which table they come."""

import pytest

from hrlib.evaluation.people import MODELS, development_rows, evaluated_rows


def test_development_people_have_the_mean_over_seeds_of_the_right_view():
    user = {"description": "a hand", "test_frames": 90, "test_left_out": 10, "test_lost": 2}
    once = {"mean16": [99.0]}
    row = {"base": {"once": once, "five": {"mean16": 8.0}, "fitted": {"mean16": 7.0}}}
    row["best"] = {"once": once, "five": {"mean16": [5.0, 6.0]}, "fitted": {"mean16": [4.0, 4.5]}}
    (found,) = development_rows({"A": user}, {"A": row}).values()
    assert found["mm"] == {"base": (8.0,), "base fitted": (7.0,), "best": (5.5,), "best fitted": (4.25,)}
    assert found["counts"] == (88, 2, 10) and found["label"].startswith("A: a hand\n")


def test_others_have_both_errors_of_all_frames_that_were_found():
    errors = {"as_they_are": {"mean_mm": 30.0}, "offset_removed": {"mean_mm": 9.0}}
    wrong = {how: {"mean_mm": -1.0} for how in errors}
    model = {"found": {"16": errors, "21": wrong}, "not_lost": {"16": wrong, "21": wrong}}
    row = {"models": dict.fromkeys(MODELS, model), "found": 60, "lost": 10, "left_out": 40}
    row |= {"kind": "real people", "description": "somebody"}
    found = evaluated_rows({"d435_table": row, "E": row})
    assert found["d435_table"]["mm"] == dict.fromkeys(MODELS, (30.0, 9.0))
    assert found["E"]["counts"] == pytest.approx((50, 10, 40)) and found["E"]["label"] == "E: somebody\n(real people)"
