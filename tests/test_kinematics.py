"""Forward kinematics and Euler angles against scipy, an explicit loop, and finite differences."""

import math

import pytest
import roma
import torch
from core_fixtures import pose, random_rotations, template
from scipy.spatial.transform import Rotation

from hrlib.joints import JOINT_NAMES, NEUTRAL_DEG, PARENTS, POINT_NAMES, TIP_PARENTS
from hrlib.kinematics import euler_angles, forward_kinematics, from_euler, joint_positions, rotation_matrix


def loop_kinematics(hand, rotations, wrist_mm):
    """One joint after the other, with scipy's rotations: the oracle."""
    frames = []
    for j, name in enumerate(JOINT_NAMES):
        finger, _, part = name.partition("_")
        neutral = (
            Rotation.from_euler("XZY", NEUTRAL_DEG[finger], degrees=True) if part == "base" else Rotation.identity()
        )
        local = neutral * Rotation.from_quat(rotations[j])
        if j == 0:
            frames.append((local, wrist_mm))
            continue
        R_parent, t_parent = frames[PARENTS[j]]
        rest = Rotation.from_matrix(hand.R_wrist_rest[PARENTS[j]].numpy())
        bone = rest.inv().apply((hand.joints_mm[j] - hand.joints_mm[PARENTS[j]]).numpy())
        frames.append((R_parent * local, t_parent + R_parent.apply(bone)))
    return frames


def test_forward_kinematics_against_the_loop():
    hand = template(torch.float64)
    rotations = random_rotations(5, seed=1)
    wrist = torch.randn(5, 3, dtype=torch.float64) * 100
    T = forward_kinematics(hand, rotations, wrist)
    assert T.shape == (5, 16, 4, 4)
    for b in range(5):
        for j, (R, t) in enumerate(loop_kinematics(hand, rotations[b].numpy(), wrist[b].numpy())):
            # the frames stored in the asset are orthonormal to 1e-7; lengths are about 200 mm
            torch.testing.assert_close(T[b, j, :3, :3], torch.tensor(R.as_matrix()), rtol=0, atol=1e-9)
            torch.testing.assert_close(T[b, j, :3, 3], torch.tensor(t), rtol=0, atol=1e-4)
    assert (T[..., 3, :] == torch.tensor([0.0, 0, 0, 1])).all()


def test_rest_rotations_give_the_rest_frames():
    hand = template(torch.float64)
    T = forward_kinematics(hand, hand.rest_rotations[None], torch.zeros(1, 3, dtype=torch.float64))[0]
    torch.testing.assert_close(T, hand.T_wrist_rest, rtol=0, atol=1e-4)


def test_turning_the_wrist_turns_everything():
    hand = template(torch.float64)
    rotations, wrist = random_rotations(3, seed=2), torch.randn(3, 3, dtype=torch.float64) * 100
    turn, shift = random_rotations(3, seed=3)[:, 0], torch.tensor([5.0, -20.0, 300.0], dtype=torch.float64)
    R = roma.unitquat_to_rotmat(turn)
    turned = rotations.clone()
    turned[:, 0] = roma.quat_product(turn, rotations[:, 0])
    moved = joint_positions(hand, forward_kinematics(hand, turned, (R @ wrist[..., None])[..., 0] + shift))
    still = joint_positions(hand, forward_kinematics(hand, rotations, wrist))
    torch.testing.assert_close(moved, torch.einsum("brc,bpc->bpr", R, still) + shift, rtol=0, atol=1e-6)


def test_a_joint_moves_only_what_hangs_on_it():
    hand = template(torch.float64)
    zero = torch.zeros(1, 3, dtype=torch.float64)
    still = joint_positions(hand, forward_kinematics(hand, pose({}, torch.float64), zero))[0]
    bent = pose({"ring_middle": (40, 0, 0)}, torch.float64)
    moved = joint_positions(hand, forward_kinematics(hand, bent, zero))[0]
    changed = (moved - still).norm(dim=1) > 1e-6
    assert [name for name, c in zip(POINT_NAMES, changed, strict=True) if c] == ["ring_far", "ring_tip"]


def test_joint_positions_in_the_order_of_point_names():
    hand = template(torch.float64)
    T = forward_kinematics(hand, hand.rest_rotations[None], torch.zeros(1, 3, dtype=torch.float64))
    points = dict(zip(POINT_NAMES, joint_positions(hand, T)[0], strict=True))
    for j, name in enumerate(JOINT_NAMES):
        torch.testing.assert_close(points[name], hand.joints_mm[j], rtol=0, atol=1e-4)
    for i, far in enumerate(TIP_PARENTS):
        torch.testing.assert_close(points[JOINT_NAMES[far][:-3] + "tip"], hand.tips_mm[i], rtol=0, atol=1e-4)


def test_tips_turn_with_their_far_joint():
    hand = template(torch.float64)
    rotations, wrist = random_rotations(2, seed=8), torch.zeros(2, 3, dtype=torch.float64)
    T = forward_kinematics(hand, rotations, wrist)
    tips = joint_positions(hand, T)[:, [4, 8, 12, 16, 20]]
    for i, far in enumerate(TIP_PARENTS):
        local = torch.linalg.inv(hand.T_wrist_rest[far]) @ torch.cat([hand.tips_mm[i], torch.ones(1)]).double()
        torch.testing.assert_close(tips[:, i], (T[:, far] @ local)[:, :3], rtol=0, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 15, 4), (16, 4), (1, 16, 3)])
def test_wrong_rotation_shapes(shape):
    with pytest.raises(ValueError, match=r"rotations must be quaternions \[B, 16, 4\]"):
        forward_kinematics(template(), torch.zeros(shape), torch.zeros(1, 3))


def test_wrong_wrist_shape():
    with pytest.raises(ValueError, match=r"wrist_mm must be \[B, 3\] with B = 2, got \[1, 3\]"):
        forward_kinematics(template(), torch.zeros(2, 16, 4), torch.zeros(1, 3))


# -- rotations --------------------------------------------------------------------------------------------------------


def test_rotation_matrix_against_scipy():
    q = random_rotations(20, seed=4).flatten(0, 1)
    torch.testing.assert_close(rotation_matrix(q), torch.tensor(Rotation.from_quat(q.numpy()).as_matrix()))


def test_euler_angles_against_scipy_and_roma():
    generator = torch.Generator().manual_seed(5)
    angles = (torch.rand(300, 3, generator=generator, dtype=torch.float64) * 2 - 1) * torch.tensor(
        [math.pi, math.pi / 2 - 0.01, math.pi], dtype=torch.float64
    )
    q = from_euler(angles)
    ours = rotation_matrix(q)
    torch.testing.assert_close(ours, torch.tensor(Rotation.from_euler("XZY", angles.numpy()).as_matrix()))
    torch.testing.assert_close(ours, roma.euler_to_rotmat("XZY", angles))
    torch.testing.assert_close(euler_angles(q), torch.tensor(Rotation.from_quat(q.numpy()).as_euler("XZY")))
    torch.testing.assert_close(euler_angles(q), angles)
    torch.testing.assert_close(euler_angles(-q), angles)


def test_singular_deviation_gives_the_same_rotation_back():
    for deviation in (math.pi / 2, -math.pi / 2):
        q = from_euler(torch.tensor([0.3, deviation, -0.2], dtype=torch.float64))
        angles = euler_angles(q)
        assert torch.isfinite(angles).all()
        # clamped at asin(1 - 1e-6), 1.4e-3 rad short
        assert abs(angles[1].item() - deviation) < 2e-3


def singular_rotations() -> dict[str, torch.Tensor]:
    """Where rotation formulas like to give NaN."""
    half = math.pi / 2
    cases = {"identity": torch.tensor([0.0, 0, 0, 1]), "minus identity": torch.tensor([0.0, 0, 0, -1])}
    cases |= {f"half turn about {axis}": torch.eye(4)[i] for i, axis in enumerate("xyz")}
    for sign in (1, -1):
        cases[f"deviation {90 * sign}"] = from_euler(torch.tensor([0.0, sign * half, 0.0]))
        cases[f"deviation {90 * sign}, bent"] = from_euler(torch.tensor([0.7, sign * half, -0.4]))
    return cases


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", singular_rotations())
def test_gradients_are_finite_at_singular_rotations(case, dtype):
    hand = template(dtype)
    q = singular_rotations()[case].to(dtype).repeat(1, 16, 1).requires_grad_()
    joints = joint_positions(hand, forward_kinematics(hand, q, torch.zeros(1, 3, dtype=dtype)))
    angles = euler_angles(q)
    assert torch.isfinite(joints).all() and torch.isfinite(angles).all()
    (grad_fk,) = torch.autograd.grad(joints.square().sum(), q)
    (grad_euler,) = torch.autograd.grad(angles.sum(), q)
    assert torch.isfinite(grad_fk).all() and torch.isfinite(grad_euler).all()
    assert grad_euler.abs().max() < 1e4, "one rotation near the singular angle must not drown all others"


def test_gradient_of_euler_angles_is_exact():
    q = random_rotations(1, seed=6)[0, :4].requires_grad_()
    assert torch.autograd.gradcheck(euler_angles, (q,))
    angles = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    assert torch.autograd.gradcheck(from_euler, (angles,))
