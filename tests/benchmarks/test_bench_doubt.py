"""The benchmark of doubts counts what it held out apart."""

import bench_doubt as bench
import numpy as np
import pytest

from hrlib.frames.camera import Camera
from hrlib.hand.rig import load_hand
from hrlib.personal.doubt import Evidence
from hrlib.personal.side import Sides
from hrlib.synthetic.people import USERS


def row(error_mm: float, confidence: float = 0.9) -> dict:
    """Of a folder that gives no reason to doubt, except where the confidence is low."""
    camera = Camera(525.0, 525.0, 319.5, 239.5)
    seen = {"sides": Sides(8, confidence, confidence / 2, 0.9), "size": 1.0, "distance_mm": 500.0}
    evidence = Evidence(camera, (480, 640), confidence=confidence, **seen)
    return {"evidence": bench.plain(evidence), "found": 1.0, "error_mm": error_mm}


def test_folders_that_are_wrong_and_good_ones_are_counted_with_what_was_told():
    people = {bench.RIGHT: row(10), "right masks": row(9, 0.1), "focal x 2": row(50), "unit x 2": row(60, 0.1)}
    found = bench.summary({"A": people | {"in a mirror": row(12)}, "drawn": {"0": row(5), "1": row(30, 0.1)}})
    assert (found["wrong"], found["silent"], found["told_share"]) == (2, ["A: focal x 2"], 0.5)
    assert found["good"] == {"A": 2, "drawn": 1} and list(found["warned"]["A"]) == ["right masks"]
    assert found["warned_share"] == pytest.approx(1 / 3)
    assert bench.summary({})["told_share"] is None, "nothing was wrong, and no share is known"


def test_held_out_people_are_adults_like_the_development_people_and_others_than_them():
    hand = load_hand()
    people = [bench.fresh(number, hand) for number in range(6)]
    assert people == [bench.fresh(number, hand) for number in range(6)]
    lengths = [bench.stretched_mm(user._hand(hand)) for user in people]
    assert len(set(np.round(lengths, 3))) == 6 and min(lengths) >= 150 and max(lengths) <= 230
    known = {user.seed for user in USERS.values()}
    assert not known & {user.seed for user in people} and len({user.seed for user in people}) == 6
    assert all(bench.is_held_out(user.name) for user in people) and bench.is_held_out("drawn anew")
    assert not any(map(bench.is_held_out, [*USERS, "drawn", "real", "d435_table"]))
