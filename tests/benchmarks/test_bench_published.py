"""The builder of the published methods' table: the scale that is given, and what the protocol does."""

import numpy as np
import pytest
from bench_published import protocols, scaled

from hrlib.datasets.published import read_labels, read_predictions


def test_scale_is_found_and_keeps_the_place():
    generator = np.random.default_rng(1)
    true = generator.normal(size=(20, 5, 3)) * 40 + (0, 0, 700)
    middle = true.mean(1, keepdims=True)
    predicted = middle + (true - middle) / 0.8 + (5, 0, 0)
    again, factor = scaled(predicted, true)
    assert factor == pytest.approx(0.8)
    np.testing.assert_allclose(again, true + (5, 0, 0), atol=1e-9)


@pytest.mark.mirror
def test_the_protocol_changes_the_number():
    rows = protocols(read_predictions("nyu", "DeepModel"), read_labels("nyu"), "nyu")

    def mean(**wanted):
        (row,) = [row for row in rows if all(row[key] == value for key, value in wanted.items())]
        return row["mean_mm"]

    plain = {"subject": "all", "scale": "as predicted", "bias": "none"}
    assert mean(joints=14, **plain) == pytest.approx(17.04, abs=0.01)
    assert mean(joints=11, **plain) == pytest.approx(19.22, abs=0.01)
    by_subject = [mean(joints=14, **(plain | {"subject": who})) for who in "12"]
    assert np.average(by_subject, weights=[2440, 5812]) == pytest.approx(mean(joints=14, **plain))
    assert mean(joints=14, **(plain | {"bias": "paper"})) < mean(joints=14, **plain)
    rows = protocols(read_predictions("icvl", "V2V-PoseNet"), read_labels("icvl"), "icvl")
    assert mean(joints=16, **(plain | {"bias": "offset"})) == pytest.approx(5.18, abs=0.01)
