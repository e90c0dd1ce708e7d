"""`pose_hand`: kinematics and skinning in one call, for arrays and tensors, one hand and batches, both sides."""

import numpy as np
import pytest
import torch
from core_fixtures import posed, random_rotations, template

from hrlib.hand.kinematics import forward_kinematics, joint_positions
from hrlib.hand.posed import pose_hand
from hrlib.hand.skinning import skin, skinning_transforms

WRIST = torch.tensor([3.0, -5.0, 400.0])


def test_a_batch_is_skinned_and_has_its_joints():
    hand, q = template(), random_rotations(3, 1, torch.float32)
    ours = pose_hand(hand, q, WRIST)
    vertices, T = posed(hand, q)
    torch.testing.assert_close(ours.vertices_mm, vertices + WRIST, rtol=0, atol=1e-3)
    torch.testing.assert_close(ours.joints_mm, joint_positions(hand, T) + WRIST, rtol=0, atol=1e-3)
    M = skinning_transforms(hand, forward_kinematics(hand, q, WRIST.expand(3, 3)))
    torch.testing.assert_close(ours.cloud_mm, skin(hand.cloud_mm, hand.cloud_weights, M), rtol=0, atol=1e-3)
    several = pose_hand(hand, q, torch.stack([WRIST, 2 * WRIST, WRIST]))
    torch.testing.assert_close(several.joints_mm[1], ours.joints_mm[1] + WRIST, rtol=0, atol=1e-3)


def test_one_hand_and_arrays():
    hand, q = template(), random_rotations(2, 1)
    batch = pose_hand(hand, q.float(), WRIST)
    one = pose_hand(hand, q[1].numpy(), WRIST.tolist())
    assert isinstance(one.joints_mm, np.ndarray) and one.joints_mm.dtype == np.float32
    np.testing.assert_allclose(one.vertices_mm, batch.vertices_mm[1].numpy(), rtol=0, atol=1e-3)
    nested = pose_hand(hand, q.float().view(1, 2, 16, 4), WRIST)
    torch.testing.assert_close(nested.joints_mm[0], batch.joints_mm)


def test_dtype_and_gradient_follow_the_rotations():
    hand, q = template(), random_rotations(1, 1).requires_grad_()
    joints = pose_hand(hand, q, WRIST).joints_mm
    assert joints.dtype == torch.float64
    assert torch.autograd.grad(joints.square().sum(), q)[0].abs().max() > 0


def test_a_left_hand_is_the_mirror_image_at_its_own_wrist():
    hand, q = template(), random_rotations(1, 1, torch.float32)[0]
    mirror = torch.tensor([-1.0, 1.0, 1.0])
    left, right = pose_hand(hand, q, WRIST, "left"), pose_hand(hand, q, WRIST * mirror)
    torch.testing.assert_close(left.vertices_mm, right.vertices_mm * mirror)
    torch.testing.assert_close(left.joints_mm[0], WRIST)


@pytest.mark.parametrize(
    "rotations, wrist, message",
    [
        (torch.zeros(16, 3), WRIST, r"rotations must be quaternions \[16, 4\] or \[B, 16, 4\] \(xyzw\), got"),
        ([[0, 0, 0, 1]] * 16, WRIST, "rotations must be quaternions"),
        (torch.zeros(16, 4), WRIST, "must be unit quaternions, got lengths 0 to 0"),
        (torch.full((16, 4), torch.nan), WRIST, "must be unit quaternions, got lengths nan"),
        (torch.tensor([0.0, 0, 0, 1]).expand(16, 4), torch.zeros(4), r"wrist_mm must be \[3\] or \[B, 3\]"),
        (torch.tensor([0.0, 0, 0, 1]).expand(16, 4), torch.zeros(2, 3), r"wrist_mm must be \[3\] or \[B, 3\]"),
    ],
)
def test_what_is_no_pose(rotations, wrist, message):
    with pytest.raises(ValueError, match=message):
        pose_hand(template(), rotations, wrist)


def test_another_side():
    with pytest.raises(ValueError, match="side must be 'right' or 'left', got 'links'"):
        pose_hand(template(), template().rest_rotations, WRIST, "links")
