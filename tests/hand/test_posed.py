"""`pose_hand`: kinematics and skinning in one call, for arrays and tensors, one hand and batches, both sides."""

import warnings

import numpy as np
import pytest
import torch
from core_fixtures import posed, random_rotations, template
from scipy.spatial.transform import Rotation

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
        (torch.zeros(16, 3), WRIST, r"must be quaternions \[16, 4\] or \[B, 16, 4\] \(xyzw\) .*got \[16, 3\]"),
        (torch.zeros(16, 4, dtype=torch.int), WRIST, "of float32 or float64, got .* torch.int32"),
        (torch.zeros(16, 4).half(), WRIST, "of float32 or float64, got .* torch.float16"),
        (torch.tensor([0.0, 0, 0, 1]).expand(16, 4), (0, 0, np.nan), "wrist_mm holds NaN or infinite numbers"),
        (torch.zeros(16, 4), WRIST, "must be unit quaternions, got lengths 0 to 0"),
        (torch.full((16, 4), torch.nan), WRIST, "must be unit quaternions, got lengths nan"),
        (torch.tensor([0.0, 0, 0, 1]).expand(16, 4), torch.zeros(4), r"wrist_mm must be \[3\] or \[B, 3\]"),
        (torch.tensor([0.0, 0, 0, 1]).expand(16, 4), torch.zeros(2, 3), r"wrist_mm must be \[3\] or \[B, 3\]"),
        (
            torch.tensor([0.0, 0, 0, 1]).expand(3, 16, 4),
            torch.zeros(2, 3),
            r"beside rotations \[3, 16, 4\], got \[2, 3\]",
        ),
    ],
)
def test_what_is_no_pose(rotations, wrist, message):
    with pytest.raises(ValueError, match=message):
        pose_hand(template(), rotations, wrist)


def test_another_side():
    with pytest.raises(ValueError, match="side must be 'right' or 'left', got 'links'"):
        pose_hand(template(), template().rest_rotations, WRIST, "links")


def test_lists_are_rotations_and_a_name_is_no_hand():
    rest = template().rest_rotations
    ours = pose_hand(template(), rest.tolist(), [3, -5, 400])
    np.testing.assert_allclose(ours.joints_mm, pose_hand(template(), rest, WRIST).joints_mm, atol=1e-3)
    with pytest.raises(ValueError, match="hand must be a rig, as hrlib.load_hand.. gives it, got str"):
        pose_hand("template", rest, WRIST)


def test_quaternions_with_w_first_are_noticed():
    identity = torch.tensor([0.0, 0, 0, 1]).expand(16, 4)
    with pytest.warns(UserWarning, match=r"are they wxyz\? xyzw is wanted"):
        pose_hand(template(), identity[:, [3, 0, 1, 2]], WRIST)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pose_hand(template(), identity, WRIST)
        pose_hand(template(), template().rest_rotations, WRIST)


def test_rotations_of_scipy():
    q = random_rotations(1, 1)[0].numpy()
    ours = pose_hand(template(), Rotation.from_quat(q), WRIST)
    np.testing.assert_allclose(ours.joints_mm, pose_hand(template(), q, WRIST).joints_mm, rtol=0, atol=1e-3)


def test_a_wrist_in_metres_or_behind_the_camera_is_noticed():
    rest = template().rest_rotations
    with pytest.warns(
        UserWarning, match=r"wrist_mm looks like metres: no coordinate is beyond 0.4; give wrist_mm \* 1000"
    ):
        pose_hand(template(), rest, WRIST / 1000)
    with pytest.warns(UserWarning, match="wrist_mm is behind the camera: z points forward here"):
        pose_hand(template(), rest, (0, 0, -500))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pose_hand(template(), rest, (0, 0, 0))


def test_a_batch_by_vmap():
    q = random_rotations(2, 1, torch.float32)
    joints = torch.vmap(lambda one: pose_hand(template(), one, WRIST).joints_mm)(q)
    torch.testing.assert_close(joints, pose_hand(template(), q, WRIST).joints_mm, rtol=0, atol=1e-3)


def test_dtypes_do_not_mix():
    hand, q = template(), random_rotations(2, 1)
    with pytest.raises(
        ValueError, match="wanted one dtype, got hand float32, rotations float64, wrist_mm float32; convert"
    ):
        forward_kinematics(hand, q, WRIST.expand(2, 3))
    with pytest.raises(ValueError, match="wanted one dtype, got points float32, weights float32, M float64"):
        skin(hand.cloud_mm, hand.cloud_weights, torch.eye(4, dtype=torch.float64).expand(2, 16, 4, 4))
