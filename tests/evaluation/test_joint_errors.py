"""The benchmark's numbers: by hand on two frames, by properties, and the published effect of the protocol."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from hrlib.evaluation.joint_errors import (
    THRESHOLDS_MM,
    Protocol,
    area_under,
    bias_of,
    cross_fitted_errors,
    errors_mm,
    errors_without,
    evaluate,
    hand_axes,
    joint_error_mm,
    success_curve,
)
from hrlib.hand.joints import POINT_ORDER
from hrlib.hand.rig import load_hand

PROTOCOL = Protocol("nyu", "test", 2, "labels", "template", "crop centres")


def two_frames():
    """Errors: frame 0 has 3 and 4 mm, frame 1 has 5 and 12."""
    true = np.zeros((2, 2, 3))
    predicted = true.copy()
    predicted[0, 0, 0], predicted[0, 1, 1], predicted[1, 0, 2], predicted[1, 1, 0] = 3, 4, -5, 12
    return predicted, true


def test_by_hand():
    predicted, true = two_frames()
    np.testing.assert_allclose(errors_mm(predicted, true), [[3, 4], [5, 12]])
    np.testing.assert_allclose(joint_error_mm(predicted, true, [1]), [4, 12])
    of_tensors = errors_mm(torch.tensor(predicted).float(), torch.tensor(true).float())
    torch.testing.assert_close(of_tensors, torch.tensor([[3.0, 4], [5, 12]]))
    np.testing.assert_allclose(success_curve(of_tensors, [12]), [1])
    np.testing.assert_allclose(success_curve(np.array([[3.0, 4], [5, 12]]), [3, 4, 11.9, 12]), [0, 0.5, 0.5, 1])
    assert area_under(np.array([0, 0.5, 1.0]), [0, 10, 20]) == pytest.approx(0.5)
    assert area_under(np.array([0, 0, 1.0]), [0, 10, 20]) == pytest.approx(0.25)
    done = evaluate(torch.tensor(predicted), torch.tensor(true), PROTOCOL, subject=[1, 2])
    assert done["mean_mm"] == pytest.approx(6) and done["median_mm"] == pytest.approx(6)
    assert done["per_joint_mm"] == pytest.approx([4, 8]) and done["per_subject_mm"] == pytest.approx(
        {"1": 3.5, "2": 8.5}
    )
    assert done["frames"] == 2 and len(done["fraction"]) == len(THRESHOLDS_MM)
    assert done["protocol"]["ground_truth"] == "crop centres" and done["protocol"]["estimated_on"] == "-"


def test_the_papers_bias_is_a_joints_smallest_error():
    bias = bias_of("paper", *two_frames())
    np.testing.assert_allclose(bias, [3, 4])
    np.testing.assert_allclose(errors_without("paper", *two_frames(), bias), [[0, 0], [2, 8]])
    assert (errors_without("paper", *two_frames(), np.array([9.0, 9])) >= 0).all(), "an error is never negative"
    here = evaluate(*two_frames(), Protocol("nyu", "test", 2, "labels", "template", "bias", bias="paper"))
    assert here["mean_mm"] == pytest.approx(2.5) and here["protocol"]["estimated_on"] == "the frames evaluated"
    setting = Protocol("nyu", "test", 2, "labels", "template", "bias", bias="paper", estimated_on="train")
    there = evaluate(*two_frames(), setting, bias=np.array([1.0, 2]))
    assert there["mean_mm"] == pytest.approx(4.5) and there["protocol"]["estimated_on"] == "train"


def test_a_constant_offset_is_all_that_offset_bias_removes():
    generator = np.random.default_rng(0)
    true = generator.normal(size=(50, 4, 3)) * 40
    offset = generator.normal(size=(4, 3)) * 10
    np.testing.assert_allclose(bias_of("offset", true + offset, true), offset, atol=1e-9)
    setting = Protocol("icvl", "test", 4, "labels", "template", "offset", bias="offset")
    assert evaluate(true + offset, true, setting)["mean_mm"] == pytest.approx(0, abs=1e-9)
    noise = generator.normal(size=true.shape) * 5
    removed = evaluate(true + offset + noise, true, setting)["mean_mm"]
    assert removed == pytest.approx(np.linalg.norm(noise, axis=-1).mean(), rel=0.05)


def turned_hands(count=40):
    """One posed hand in `count` places and orientations, and what turned it."""
    generator, hand = np.random.default_rng(1), load_hand()
    R = Rotation.random(count, random_state=2).as_matrix()
    rest = np.concatenate([hand.joints_mm.numpy(), hand.tips_mm.numpy()])[list(POINT_ORDER)].astype(float)
    return np.einsum("frc,jc->fjr", R, rest) + generator.normal(size=(count, 1, 3)) * 200, R


def test_a_constant_offset_in_the_hands_own_axes_is_removed_however_the_hand_turns():
    true, R = turned_hands()
    offset = np.random.default_rng(3).normal(size=(21, 3)) * 10
    with_it = true + np.einsum("frc,jc->fjr", R, offset)
    np.testing.assert_allclose(errors_without("hand", with_it, true), 0, atol=1e-9)
    bias = bias_of("hand", with_it[:20], true[:20])
    np.testing.assert_allclose(errors_without("hand", with_it[20:], true[20:], bias), 0, atol=1e-9)
    assert errors_without("offset", with_it, true).mean() > 0.8 * errors_mm(with_it, true).mean(), (
        "it turns in the camera"
    )
    in_camera = true + offset
    left = errors_without("hand", in_camera, true)
    assert left.mean() > 0.8 * errors_mm(in_camera, true).mean(), "a place that the camera gets wrong is no definition"


def test_the_hands_axes_are_those_of_the_rigs_wrist():
    true, R = turned_hands()
    axes = hand_axes(true)
    np.testing.assert_allclose(axes.swapaxes(1, 2) @ axes, np.tile(np.eye(3), (len(true), 1, 1)), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(axes), 1)
    apart = Rotation.from_matrix(axes.swapaxes(1, 2) @ R).magnitude()  # the rest pose stands in the wrist's axes
    assert apart.max() < np.radians(15), (
        "the wrist's y runs to the middle finger, and the palm is curved: no more than that"
    )
    mirrored = hand_axes(true * (-1, 1, 1)) * np.array([-1, 1, 1])[:, None]
    np.testing.assert_allclose(mirrored, axes * (1, 1, -1), atol=1e-9)


def test_fingers_do_not_turn_the_hands_axes():
    true, _ = turned_hands()
    bent = true.copy()
    bent[:, [i for i in range(1, 21) if i not in (5, 9, 13, 17)]] += 30
    np.testing.assert_array_equal(hand_axes(bent), hand_axes(true))


def test_the_other_half_tells_less_than_the_frames_themselves():
    true, R = turned_hands()
    noise = np.random.default_rng(4).normal(size=true.shape) * 8
    offset = np.random.default_rng(5).normal(size=(21, 3)) * 10
    predicted = true + noise + np.einsum("frc,jc->fjr", R, offset)
    own, other = errors_without("hand", predicted, true).mean(), cross_fitted_errors("hand", predicted, true).mean()
    assert own < other < 1.1 * own and other < errors_mm(predicted, true).mean()
    by_hand = errors_without("hand", predicted[20:], true[20:], bias_of("hand", predicted[:20], true[:20]))
    np.testing.assert_allclose(cross_fitted_errors("hand", predicted, true)[20:], by_hand)
    with pytest.raises(ValueError, match="two halves need at least two frames, got 1"):
        cross_fitted_errors("hand", predicted[:1], true[:1])


def test_what_gives_no_axes_is_refused():
    true, _ = turned_hands(3)
    predicted = true + 1
    predicted[1, 4, 2] = np.nan
    for use in (bias_of, errors_without, cross_fitted_errors):
        with pytest.raises(ValueError, match="holds NaN or infinite numbers"):
            use("hand", predicted, true)
        with pytest.raises(ValueError, match="holds NaN or infinite numbers"):
            use("hand", true, predicted)
    with pytest.raises(ValueError, match=r"need its 21 points \[F, 21, 3\], got \[3, 14, 3\]"):
        bias_of("hand", true[:, :14], true[:, :14])
    on_a_line = true.copy()
    on_a_line[2, [5, 9, 13, 17]] = on_a_line[2, 0] + np.outer([1, 2, 3, 4], (10.0, 0, 0))
    with pytest.raises(ValueError, match="wrist and knuckles of frame 2 lie on a line"):
        hand_axes(on_a_line)


def test_wrong_input_is_named():
    predicted, true = two_frames()
    with pytest.raises(ValueError, match=r"shape of true_mm \[2, 2, 3\], got \[1, 2, 3\]: evaluate the same frames"):
        errors_mm(predicted[:1], true)
    with pytest.raises(ValueError, match="predicted_mm holds NaN"):
        errors_mm(predicted * np.nan, true)
    with pytest.raises(
        ValueError, match=r"predicted_mm must be \[F, J, 3\] mm with at least one frame, got \[0, 2, 3\]"
    ):
        errors_mm(predicted[:0], true[:0])
    with pytest.raises(ValueError, match="protocol.joints is 2, but predictions have 1"):
        evaluate(predicted[:, :1], true[:, :1], PROTOCOL)
    with pytest.raises(ValueError, match="one id a frame: got 3 ids for 2"):
        evaluate(predicted, true, PROTOCOL, subject=[1, 1, 2])
    with pytest.raises(ValueError, match="bias must be 'none', 'paper', 'offset' or 'hand'"):
        Protocol("nyu", "test", 2, "labels", "template", "none", bias="mean")
    with pytest.raises(ValueError, match="ground_truth must say"):
        Protocol("nyu", "test", 2, "labels", "template", " ")
