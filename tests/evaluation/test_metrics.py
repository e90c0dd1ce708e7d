"""What the evaluator says, against numbers computed by hand."""

import math
from dataclasses import replace

import pytest
import torch
from core_fixtures import FIST_DEG, pose, random_rotations, template

from hrlib.evaluation.joint_errors import joint_error_mm
from hrlib.evaluation.metrics import finger_flexion, finger_state_auc, gap_closed, jitter_mm, spearman
from hrlib.frames.crops import rotated, turned
from hrlib.losses import image_mse
from hrlib.method import predicted_joints, voted_joints
from hrlib.network.checkpoint import load_network
from hrlib.network.predict import predict, predict_turned
from hrlib.support.paths import ONE_HAND_MODEL
from hrlib.synthetic.frames import Synthesiser, SyntheticSettings

DEGREE = math.pi / 180


def letter_pose(extended, bend_deg=80.0) -> torch.Tensor:
    """[1, 16, 4]: MCP and PIP of each folded finger bent by `bend_deg`, the extended ones straight."""
    fingers = [f for f, stands in zip(("index", "middle", "ring", "pinky"), extended, strict=True) if not stands]
    return pose({f"{finger}_{part}": (bend_deg, 0, 0) for finger in fingers for part in ("base", "middle")})


# -- joints and images ----------------------------------------------------------------------------------------------------


def test_joint_error_by_hand():
    joints, truth = torch.zeros(2, 2, 3), torch.zeros(2, 2, 3)
    joints[0, 0] = torch.tensor([3.0, 4.0, 0.0])
    joints[1, 1] = torch.tensor([0.0, 0.0, -2.0])
    torch.testing.assert_close(joint_error_mm(joints, truth), torch.tensor([2.5, 1.0]))
    with pytest.raises(ValueError, match=r"shape of true_mm \[1, 2, 3\], got \[2, 2, 3\]"):
        joint_error_mm(joints, truth[:1])


def test_the_mean_over_a_full_turn_turns_with_the_camera():
    net, hand = load_network(template(), ONE_HAND_MODEL)[0], template()
    crops = Synthesiser(hand, SyntheticSettings(window_px=96, focal_px=180.0)).batch(4, 1).crops
    # the pixels' grid turns into itself: the same four pictures, in another order
    quarter = torch.full((4,), math.pi / 2)
    other, R = turned(crops, quarter)
    every = [0.0, 90.0, 180.0, 270.0]
    for points, far in ((lambda p, c: predicted_joints(p, hand, c), 0.02), (voted_joints, 0.02)):
        here, there = (points(predict_turned(net, c, every), c) for c in (crops, other))
        torch.testing.assert_close(rotated(here, R), there, rtol=0, atol=far)
        once = rotated(points(predict(net, crops), crops), R) - points(predict(net, other), other)
        assert once.norm(dim=-1).mean() > 0.5, "one look depends on how the camera is held"
    one = predict(net, crops)
    for a, b in zip(vars(predict_turned(net, crops, [0.0])).values(), vars(one).values(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="turns_deg must hold at least one angle"):
        predict_turned(net, crops, [])


def test_a_hand_whose_forearm_is_not_below_is_seen_upright():
    net, hand = load_network(template(), ONE_HAND_MODEL)[0], template()
    crops = Synthesiser(hand, SyntheticSettings(window_px=96, focal_px=180.0)).batch(4, 1).crops
    half = torch.full((4,), math.pi)
    upside_down, R = turned(crops, half)
    upside_down = replace(upside_down, upright=-half)
    for see in (predict, predict_turned):
        here, there = (voted_joints(see(net, c), c) for c in (crops, upside_down))
        torch.testing.assert_close(rotated(here, R), there, rtol=0, atol=0.05)
        blind = see(net, replace(upside_down, upright=0 * half))
        assert (voted_joints(blind, upside_down) - there).norm(dim=-1).mean() > 10, "it has learned raised hands"


def test_image_mse_by_hand():
    rendered, target = torch.zeros(2, 2, 2), torch.zeros(2, 2, 2)
    rendered[0, 0, 0], target[0, 1, 1] = 0.5, -1.0
    torch.testing.assert_close(image_mse(rendered, target), torch.tensor([1.25 / 4, 0.0]))


# -- fingers of known letters ---------------------------------------------------------------------------------------------


def test_flexion_is_that_of_base_and_middle_joint():
    angles = {
        "index_base": (30, 10, 3), "index_middle": (50, 0, 0), "index_far": (70, 0, 0),
        "ring_base": (-10, -5, 0), "pinky_middle": (100, 0, 0), "thumb_base": (20, 0, 0),
    }  # fmt: skip
    wanted = torch.tensor([[80.0, 0.0, -10.0, 100.0]]) * DEGREE  # neither far joints nor the thumb count
    torch.testing.assert_close(finger_flexion(pose(angles)), wanted, rtol=0, atol=1e-5)
    assert (finger_flexion(pose(FIST_DEG)) > 2.7).all()
    turned = pose(angles)
    turned[:, 0] = random_rotations(1, seed=2, dtype=torch.float32)[:, 0]
    torch.testing.assert_close(finger_flexion(turned), wanted, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match=r"quaternions \[B, 16, 4\].*got \[16, 4\]"):
        finger_flexion(turned[0])


def test_auc_of_perfect_reversed_and_indifferent_fingers():
    right = torch.cat([letter_pose((1, 1, 0, 0)), letter_pose((0, 0, 0, 1)), letter_pose((1, 1, 1, 1))])
    letters = ["u", "y", "b"]
    assert finger_state_auc(right, letters) == 1.0
    wrong = torch.cat([letter_pose((0, 0, 1, 1)), letter_pose((1, 1, 1, 0)), letter_pose((0, 0, 0, 0))])
    assert finger_state_auc(wrong, letters) == 0.0, "the sign counts: folded means more flexion"
    assert finger_state_auc(pose({}).repeat(3, 1, 1), letters) == 0.5, "ties are half"


def test_auc_by_hand():
    """W: index, middle, ring extended with 10, 50, 50 degrees; pinky folded with 50: one win and two ties of three."""
    angles = {"index_base": (10, 0, 0)} | {f"{f}_base": (50, 0, 0) for f in ("middle", "ring", "pinky")}
    assert finger_state_auc(pose(angles), "w") == pytest.approx((1 + 0.5 + 0.5) / 3)
    # letters that do not say what the fingers do are left out, and capital letters are the same letters
    assert finger_state_auc(torch.cat([letter_pose((0, 0, 0, 1)), pose(angles)]), "EW") == pytest.approx(2 / 3)
    # with a frame of S beside it, whose fingers are folded by 20, 40, 60, 80 degrees: 1, 1, 3 and 3 wins more
    s = {f"{f}_base": (20 + 20 * i, 0, 0) for i, f in enumerate(("index", "middle", "ring", "pinky"))}
    both = torch.cat([pose(angles), pose(s)])
    assert finger_state_auc(both, ["w", "s"]) == pytest.approx((2 + 1 + 1 + 3 + 3) / (5 * 3))


def test_auc_does_not_depend_on_the_order_of_frames():
    rotations = random_rotations(6, seed=5)
    letters = ["a", "v", "l", "w", "f", "q"]
    order = [3, 5, 0, 4, 1, 2]
    assert finger_state_auc(rotations[order], [letters[i] for i in order]) == finger_state_auc(rotations, letters)


def test_auc_refuses_what_it_cannot_compare():
    two = pose({}).repeat(2, 1, 1)
    with pytest.raises(ValueError, match="got 1 letters for 2 frames"):
        finger_state_auc(two, ["a"])
    with pytest.raises(ValueError, match="got 8 folded and 0 extended"):
        finger_state_auc(two, ["a", "s"])
    with pytest.raises(ValueError, match="got 0 folded and 4 extended"):
        finger_state_auc(two, ["b", "x"])
    with pytest.raises(ValueError, match="got 0 folded and 0 extended"):
        finger_state_auc(two, ["x", "x"])


# -- sequences ------------------------------------------------------------------------------------------------------------


def test_even_movement_does_not_jitter():
    time = torch.arange(6.0)[:, None, None]
    joints = torch.randn(1, 21, 3, generator=torch.Generator().manual_seed(0)) + time * torch.tensor([5.0, -2.0, 1.0])
    assert jitter_mm(joints, [0] * 6) == pytest.approx(0, abs=1e-5)
    # x = 3 t^2 has the second difference 6 everywhere
    joints = joints + torch.tensor([3.0, 0.0, 0.0]) * time**2
    assert jitter_mm(joints, [0] * 6) == pytest.approx(6, rel=1e-5)


def test_jitter_by_hand_and_within_sequences_only():
    joints = torch.zeros(7, 21, 3)
    joints[1, 0, 1] = 2.0  # one point of 21 jumps in the middle of three frames: |0 - 4 + 0|
    assert jitter_mm(joints[:3], torch.zeros(3)) == pytest.approx(4 / 21)
    joints[3:] += 500.0  # another recording, somewhere else, where nothing moves
    ids = ["a"] * 3 + ["b"] * 4
    assert jitter_mm(joints, ids) == pytest.approx(4 / 21 / 3)
    assert jitter_mm(joints, torch.tensor([0, 0, 0, 1, 1, 1, 1])) == pytest.approx(4 / 21 / 3)
    assert jitter_mm(joints, [0] * 7) > 100, "one recording would jump"


def test_jitter_refuses_sequences_without_three_frames():
    with pytest.raises(ValueError, match="no sequence has three consecutive frames"):
        jitter_mm(torch.zeros(4, 21, 3), [0, 0, 1, 1])
    with pytest.raises(ValueError, match="no sequence has three"):
        jitter_mm(torch.zeros(0, 21, 3), [])
    with pytest.raises(ValueError, match="got 2 ids for 4 frames"):
        jitter_mm(torch.zeros(4, 21, 3), [0, 0])
    with pytest.raises(ValueError, match=r"\[B, J, 3\], got \[4, 21\]"):
        jitter_mm(torch.zeros(4, 21), [0] * 4)


# -- comparing numbers ----------------------------------------------------------------------------------------------------


def test_spearman_by_hand():
    assert spearman([1.0, 2.0, 3.0], [10.0, 100.0, 1000.0]) == pytest.approx(1)
    assert spearman([1.0, 2.0, 3.0], [3.0, 2.0, -1.0]) == pytest.approx(-1)
    # ranks 1 2 3 4 5 and 2 1 4 3 5: 1 - 6 sum d^2 / (n (n^2 - 1)) = 1 - 6 x 4 / 120
    assert spearman(torch.tensor([1.0, 2, 3, 4, 5]), torch.tensor([7.0, 2, 9, 8, 50])) == pytest.approx(0.8)
    # with a tie: ranks 1 2.5 2.5 4 and 1 2 3 4, covariance 4.5, variances 4.5 and 5
    assert spearman([0, 5, 5, 9], [1, 2, 3, 4]) == pytest.approx(4.5 / math.sqrt(4.5 * 5))


def test_spearman_refuses_what_has_no_ranks():
    for wrong, message in (
        (([1.0, 2.0], [1.0]), r"as many numbers, got \[2\] and \[1\]"),
        (([1.0], [1.0]), r"got \[1\] and \[1\]"),
        (([1.0, 1.0], [1.0, 2.0]), "a must hold different numbers"),
        (([1.0, 2.0], [1.0, math.nan]), "b must hold different numbers and no NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            spearman(*wrong)


def test_gap_closed_by_hand():
    assert gap_closed(20.0, 14.0, 8.0) == pytest.approx(0.5)
    assert gap_closed(20.0, 20.0, 8.0) == 0 and gap_closed(20.0, 8.0, 8.0) == 1
    assert gap_closed(20.0, 23.0, 8.0) == pytest.approx(-0.25), "worse than the base is negative"
    assert gap_closed(20.0, 5.0, 8.0) == pytest.approx(1.25), "better than the oracle is above one"
    for base in (8.0, 7.0):
        with pytest.raises(ValueError, match="oracle must be below base"):
            gap_closed(base, 7.5, 8.0)
