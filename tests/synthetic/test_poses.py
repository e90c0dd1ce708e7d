"""Poses: feasible and free of collisions, read off another skeleton's joints, real tracked ones, smooth sequences."""

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest
import roma
import torch
from core_fixtures import template

from hrlib.hand.kinematics import forward_kinematics, joint_positions
from hrlib.hand.named_poses import view_rotation, yaw_of
from hrlib.hand.rotations import euler_angles, from_euler
from hrlib.losses import collision_loss, physical_loss
from hrlib.synthetic.poses import (
    fingers_together,
    pose_from_joints,
    read_tracked_poses,
    sample_angles,
    sample_poses,
    sample_view_angles,
    smooth_angles,
    smooth_walk,
)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def points_of(rotations, hand=None, wrist_mm=None):
    hand = hand or template()
    wrist_mm = torch.zeros(len(rotations), 3) if wrist_mm is None else wrist_mm
    return joint_positions(hand, forward_kinematics(hand, rotations, wrist_mm))


# -- random ones ----------------------------------------------------------------------------------------------------------


def test_poses_are_feasible_free_of_collisions_and_varied():
    hand = template()
    poses = sample_poses(500, hand, generator(1))
    assert poses.shape == (500, 16, 4)
    torch.testing.assert_close(poses.norm(dim=-1), torch.ones(500, 16))
    assert physical_loss(poses, hand.limits_rad).max() < 1e-4
    T = forward_kinematics(hand, poses, torch.zeros(500, 3))
    assert collision_loss(joint_positions(hand, T)).max() <= 0.1
    assert (poses[:, 0] == torch.tensor([0.0, 0, 0, 1])).all(), "the wrist is turned by the view"
    angles = torch.rad2deg(euler_angles(poses))
    assert (angles[:, 1:, 0].std(0) > 5).all(), "every joint bends"
    curl = angles[:, 4::3, 0].mean(1)
    assert (curl < 15).float().mean() > 0.03 and (curl > 50).float().mean() > 0.1, "open hands and fists"


def test_without_the_check_some_poses_collide():
    hand = template()
    poses = sample_poses(500, hand, generator(1), max_collision_mm=100.0)
    assert collision_loss(joint_positions(hand, forward_kinematics(hand, poses, torch.zeros(500, 3)))).max() > 0.2


def test_same_seed_same_poses():
    hand = template()
    assert torch.equal(sample_poses(20, hand, generator(3)), sample_poses(20, hand, generator(3)))
    assert not torch.equal(sample_poses(20, hand, generator(3)), sample_poses(20, hand, generator(4)))


def test_impossible_limits(monkeypatch):
    limits = template().limits_rad.clone()
    limits[5, 0] = torch.tensor([0.5, 0.2])
    with pytest.raises(ValueError, match="lower <= upper bounds; some joint's range is empty"):
        sample_angles(4, limits, generator(1))
    # poses are not worth computing when all are refused
    monkeypatch.setattr("hrlib.synthetic.poses.joint_positions", lambda hand, T: T)
    monkeypatch.setattr("hrlib.synthetic.poses.forward_kinematics", lambda hand, q, t: t)
    monkeypatch.setattr("hrlib.synthetic.poses.collision_loss", lambda t: t[:, 0] + 1)
    with pytest.raises(ValueError, match="only 0 of .* sampled poses were free of collisions"):
        sample_poses(4, template(), generator(1))


def test_view_of_zero_angles_shows_the_palm_with_the_fingers_up():
    zero = torch.zeros(1)
    R = roma.unitquat_to_rotmat(view_rotation(zero, zero, zero))[0]
    torch.testing.assert_close(R[:, 1], torch.tensor([0.0, -1, 0]))  # fingers to the image's top, v is down
    torch.testing.assert_close(R[:, 2], torch.tensor([0.0, 0, -1]))  # the palm's normal to the camera
    torch.testing.assert_close(R[:, 0], torch.tensor([1.0, 0, 0]))  # a right hand's thumb on the right, then
    back = roma.unitquat_to_rotmat(view_rotation(torch.tensor([torch.pi]), zero, zero))[0]
    torch.testing.assert_close(back[:, 2], torch.tensor([0.0, 0, 1]), rtol=0, atol=1e-6)
    torch.testing.assert_close(back[:, 1], torch.tensor([0.0, -1, 0]), rtol=0, atol=1e-6)


def test_yaw_is_read_off_a_view():
    yaw, other = torch.linspace(-3.1, 3.1, 20), torch.linspace(-1.0, 1.0, 20)
    torch.testing.assert_close(yaw_of(view_rotation(yaw, other, other.flip(0))), yaw, rtol=0, atol=1e-4)


# -- poses of another skeleton --------------------------------------------------------------------------------------------


def feasible(count: int) -> torch.Tensor:
    rotations = sample_poses(count, template(), generator(5))
    rotations[:, 0] = view_rotation(*sample_view_angles(count, 30.0, 45.0, generator(6)).T)
    return rotations


def test_a_pose_is_found_again_from_its_joints_on_any_hand():
    rotations = feasible(200)
    for hand, tolerance in ((template(), 0.3), (template().morphed({"fingers-length+": 0.5}, 0.8), 1.5)):
        found = pose_from_joints(points_of(rotations, hand))
        # only the twist of a finger that is straight cannot be seen, which moves no joint but those beyond by little
        assert (points_of(found, hand) - points_of(rotations, hand)).norm(dim=-1).mean() < tolerance
        assert physical_loss(found, hand.limits_rad).max() < 1e-3
    scaled_and_moved = 0.001 * points_of(rotations) + torch.tensor([1.0, 2.0, 3.0])
    torch.testing.assert_close(
        pose_from_joints(scaled_and_moved), pose_from_joints(points_of(rotations)), rtol=0, atol=1e-4
    )


def test_a_pose_outside_the_limits_comes_back_on_them():
    angles = torch.zeros(1, 16, 3)
    angles[0, 5, 0] = -1.0  # the index finger's middle joint bent backwards by 57 degrees
    found = euler_angles(pose_from_joints(points_of(from_euler(angles))))
    low = template().limits_rad[5, 0, 0]
    torch.testing.assert_close(found[0, 5, 0], low, rtol=0, atol=1e-4)


def test_joints_of_a_wrong_shape():
    with pytest.raises(ValueError, match=r"joints must be \[B, 21, 3\].*got \[4, 16, 3\]"):
        pose_from_joints(torch.zeros(4, 16, 3))


@pytest.fixture(scope="module")
def tracked():
    folder = os.environ.get("HRLIB_DATA_MIRROR")
    if not folder:
        pytest.skip("needs HRLIB_DATA_MIRROR")
    return Path(folder) / "poses" / "animbank.pose.gz", Path(folder) / "poses" / "model_hand.json"


@pytest.mark.mirror
def test_tracked_poses_are_poses_of_our_hand(tracked):
    rotations = read_tracked_poses(*tracked)
    assert rotations.shape == (2336, 16, 4)
    torch.testing.assert_close(rotations.norm(dim=-1), torch.ones(2336, 16))
    assert physical_loss(rotations, template().limits_rad).max() < 1e-3
    assert collision_loss(points_of(rotations)).quantile(0.95) < 0.6
    # people move: poses differ over the recording and hardly from one frame to the next
    flexion = euler_angles(rotations)[:, [4, 7, 10, 13], 0]
    assert flexion.std(0).min() > 0.2 and (flexion[1:] - flexion[:-1]).abs().median() < 0.05


@pytest.mark.mirror
def test_poses_of_another_skeleton_are_refused(tracked, tmp_path):
    poses, skeleton = tracked
    lines = gzip.open(poses, "rt").readlines()[:20]
    short = tmp_path / "short.pose"
    short.write_text("\n".join(" ".join(line.split()[:70]) for line in lines))
    with pytest.raises(ValueError, match="holds 70 numbers a pose .* wanted 17 bones x 7.*another skeleton"):
        read_tracked_poses(short, skeleton)
    model = json.loads(skeleton.read_text())
    for joint in model["joints"]:
        joint["p0"] = [5 * x for x in joint["p0"]]
    longer = tmp_path / "longer.json"
    longer.write_text(json.dumps(model))
    with pytest.raises(ValueError, match="joints are .* mm apart .*another skeleton"):
        read_tracked_poses(poses, longer)
    broken = tmp_path / "broken.pose"
    broken.write_text("no numbers\n")
    with pytest.raises(ValueError, match="are no tracked poses .*fetch them again"):
        read_tracked_poses(broken, skeleton)


# -- sequences ------------------------------------------------------------------------------------------------------------


def test_smooth_sequences_are_smooth_feasible_and_free_of_collisions():
    angles = smooth_angles(300, template(), generator(7))
    assert angles.shape == (300, 16, 3)
    points = points_of(from_euler(angles))
    low, high = template().limits_rad[1:].unbind(-1)
    assert (angles[:, 1:] >= low - 1e-3).all() and (angles[:, 1:] <= high + 1e-3).all()
    assert collision_loss(points).max() < 0.5
    step = (points[1:] - points[:-1]).norm(dim=-1)
    assert step.mean() > 0.3, "it moves"
    assert step.max() < 30, "a fingertip covers at most 30 mm between two frames: 0.9 m/s"
    acceleration = (points[2:] - 2 * points[1:-1] + points[:-2]).norm(dim=-1)
    assert acceleration.mean() < 0.3 * step.mean()
    assert torch.equal(angles, smooth_angles(300, template(), generator(7)))
    assert torch.equal(angles[:100], smooth_angles(100, template(), generator(7)))


def test_a_smooth_walk_visits_its_goals():
    goals = torch.arange(40.0)[:, None]
    walk = smooth_walk(100, lambda k: goals[:k], (10, 10), generator(1))
    assert walk.shape == (100, 1)
    np.testing.assert_allclose(walk[::10, 0], np.arange(10), atol=1e-6)
    assert (walk[1:] >= walk[:-1]).all()


def test_fingers_are_held_beside_each_other():
    hand = template()
    rotations = sample_poses(200, hand, generator(3))
    together = fingers_together(rotations, hand.limits_rad, generator(4))
    assert torch.equal(together[:, :4], rotations[:, :4])  # wrist and thumb
    assert physical_loss(together, hand.limits_rad).max() < 1e-4

    def apart_mm(rotations):  # of the middle joints of neighbouring fingers
        middle = joint_positions(hand, forward_kinematics(hand, rotations, torch.zeros(200, 3)))[:, [6, 10, 14, 18]]
        return (middle[:, 1:] - middle[:, :-1]).norm(dim=-1).mean(1)

    assert (apart_mm(together) < 26).float().mean() > 0.9
    assert (apart_mm(rotations) < 26).float().mean() < 0.5
