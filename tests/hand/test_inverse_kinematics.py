"""Inverse kinematics: made-up labels give their poses, bones and offsets back."""

import numpy as np
import pytest
import torch
from core_fixtures import template

from hrlib.hand.inverse_kinematics import JointFitSettings, dataset_joints, fit_to_joints, laid_on, with_bones
from hrlib.hand.joints import PARENTS, joint_map, limits_rad
from hrlib.hand.kinematics import forward_kinematics, joint_positions
from hrlib.hand.named_poses import view_rotation
from hrlib.hand.rotations import euler_angles, from_euler
from hrlib.synthetic.poses import smooth_angles


def movement(frames: int, seed: int = 0):
    """Rotations [F, 16, 4] and wrist_mm [F, 3] of a hand that moves evenly."""
    generator = torch.Generator().manual_seed(seed)
    rotations = from_euler(smooth_angles(frames, template(), generator, (6, 20)))
    turn = torch.linspace(0, 1.5, frames)
    rotations[:, 0] = view_rotation(turn, 0.3 * turn, 0.5 * turn)
    return rotations, torch.tensor([10.0, -20.0, 700.0]) + turn[:, None] * torch.tensor([40.0, 10.0, -50.0])


def test_bones_have_the_wanted_lengths():
    hand, log_length = template(), torch.linspace(-0.2, 0.3, 20)
    other = with_bones(hand, log_length)

    def bones(h):
        return torch.cat([h.joints_mm[1:] - h.joints_mm[list(PARENTS[1:])], h.tips_mm - h.joints_mm[3::3]]).norm(dim=1)

    torch.testing.assert_close(bones(other) / bones(hand), log_length.exp(), rtol=1e-4, atol=0)


def test_joints_are_the_map_s_and_an_offset_turns_with_its_bone():
    hand, (rotations, wrist) = template(), movement(5)
    plain = dataset_joints(hand, rotations, wrist, "icvl", 16)
    T = forward_kinematics(hand, rotations, wrist)
    expected = torch.as_tensor(joint_map("icvl", 16)) @ joint_positions(hand, T)
    torch.testing.assert_close(plain, expected, rtol=0, atol=1e-3)
    offsets = torch.zeros(16, 3)
    offsets[4] = torch.tensor([0.0, 7.0, 0.0])  # index root, between base and middle: along the bone is y
    moved = dataset_joints(hand, rotations, wrist, "icvl", 16, offsets) - plain
    bone = T[:, 5, :3, 3] - T[:, 4, :3, 3]
    torch.testing.assert_close(moved[:, 4], 7 * bone / bone.norm(dim=1, keepdim=True), rtol=0, atol=1e-2)
    assert moved[:, :4].abs().max() == 0 and moved[:, 5:].abs().max() == 0


def test_a_rigid_motion_is_found_and_a_mirror_image_is_not_one():
    rotations, _ = movement(1)
    model = dataset_joints(template(), rotations, torch.zeros(1, 3), "icvl", 16)[0]
    R = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1)))[0]
    R = R * torch.linalg.det(R)
    labels = (model @ R.T + torch.tensor([1.0, 2.0, 600.0]))[None]
    found, t, error = laid_on(model, labels)
    torch.testing.assert_close(found[0], R, rtol=0, atol=1e-4)
    torch.testing.assert_close(t[0], torch.tensor([1.0, 2.0, 600.0]), rtol=0, atol=0.05)
    assert error < 0.01
    mirrored = labels * torch.tensor([-1.0, 1.0, 1.0])
    assert torch.linalg.det(laid_on(model, mirrored)[0]) > 0 and laid_on(model, mirrored)[2] > 3


def test_made_up_labels_are_explained_with_their_sizes_and_within_the_limits():
    hand, frames = template(), 8
    rotations, wrist = movement(2 * frames)
    sizes, subject = (1.15, 0.9), np.repeat([1, 2], frames)
    labels = torch.cat(
        [
            dataset_joints(
                with_bones(hand, torch.full((20,), float(np.log(size)))),
                rotations[subject == s],
                wrist[subject == s],
                "nyu",
                36,
            )
            for s, size in ((1, sizes[0]), (2, sizes[1]))
        ]
    )
    found = fit_to_joints(labels, subject, hand, "nyu", JointFitSettings(steps=150), progress=False)
    residual = (found.fitted_mm - labels).norm(dim=-1)
    assert residual.mean() < 3  # what the priors' pull and 150 steps leave
    # the pair is told by its bones, up to what the offsets take over
    assert found.size()[0] / found.size()[1] == pytest.approx(sizes[0] / sizes[1], abs=0.05)
    angles, limits = euler_angles(found.rotations[:, 1:]), torch.tensor(limits_rad()[1:], dtype=torch.float32)
    beyond = (angles - limits[..., 1]).clamp_min(0) + (limits[..., 0] - angles).clamp_min(0)
    assert beyond.mean() < np.radians(1)
    again = fit_to_joints(labels[:3], subject[:3], hand, "nyu", JointFitSettings(steps=3), progress=False)
    same = fit_to_joints(labels[:3], subject[:3], hand, "nyu", JointFitSettings(steps=3), progress=False)
    assert torch.equal(again.rotations, same.rotations) and again != same, "`==` compares objects, not tensors"


def test_wrong_labels_are_refused():
    with pytest.raises(ValueError, match=r"labels_mm must be \[F, J, 3\]"):
        fit_to_joints(np.zeros((4, 16, 2)), [1] * 4, template(), "icvl")
    with pytest.raises(ValueError, match="leave those frames out"):
        fit_to_joints(np.full((4, 16, 3), np.nan), [1] * 4, template(), "icvl")
