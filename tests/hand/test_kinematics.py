"""Forward kinematics and Euler angles against scipy, an explicit loop, and finite differences."""

import math

import pytest
import roma
import torch
from core_fixtures import pose, random_rotations, template
from scipy.spatial.transform import Rotation

from hrlib.hand.joints import JOINT_NAMES, NEUTRAL_DEG, PARENTS, POINT_NAMES, TIP_PARENTS
from hrlib.hand.kinematics import forward_kinematics, joint_positions
from hrlib.hand.rotations import euler_angles, from_euler, rotation_matrix
from hrlib.hand.shape import HandShape, shaped
from hrlib.hand.skinning import skinning_transforms


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
    torch.testing.assert_close(T[:, :3, :3], hand.R_wrist_rest, rtol=0, atol=1e-4)
    torch.testing.assert_close(T[:, :3, 3], hand.joints_mm, rtol=0, atol=1e-4)


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
        local = hand.T_rest_wrist[far] @ torch.cat([hand.tips_mm[i], torch.ones(1)]).double()
        torch.testing.assert_close(tips[:, i], (T[:, far] @ local)[:, :3], rtol=0, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 15, 4), (16, 4), (1, 16, 3)])
def test_wrong_rotation_shapes(shape):
    with pytest.raises(ValueError, match=r"rotations must be quaternions \[B, 16, 4\]"):
        forward_kinematics(template(), torch.zeros(shape), torch.zeros(1, 3))


def test_wrong_wrist_shape():
    with pytest.raises(ValueError, match=r"wrist_mm must be \[B, 3\] with B = 2, got \[1, 3\]"):
        forward_kinematics(template(), torch.zeros(2, 16, 4), torch.zeros(1, 3))


# -- the kernel -----------------------------------------------------------------------------------------------------------


def kernel_and_chain(rotations, wrist_mm, leaves=(True, True)) -> list[list[torch.Tensor]]:
    """T, M and the gradients of both in the leaves: by the kernels of float32, and by torch in float64."""
    generator, results = torch.Generator().manual_seed(9), []
    weight_T, weight_M = torch.randn(2, len(rotations), 16, 4, 4, generator=generator)
    for dtype in (torch.float32, torch.float64):
        hand = template(dtype)
        inputs = [x.detach().to(dtype).requires_grad_(r) for x, r in zip((rotations, wrist_mm), leaves, strict=True)]
        T = forward_kinematics(hand, *inputs)
        M = skinning_transforms(hand, T)
        if any(leaves):
            used = (type(T.grad_fn).__name__, type(M.grad_fn).__name__)
            assert (used == ("_KinematicsBackward", "_ProductBackward")) == (dtype == torch.float32), used
        wanted = [x for x in inputs if x.requires_grad]
        parts = [torch.autograd.grad((x * w.to(dtype)).sum(), wanted, retain_graph=True) for x, w in
                 ((T, weight_T), (M, weight_M))] if wanted else []  # fmt: skip
        results.append([T.detach(), M.detach(), *(x for part in parts for x in part)])
    return results


def assert_equal_in_float32(results):
    for kernel, chain in zip(*results, strict=True):
        assert kernel.shape == chain.shape and kernel.dtype == torch.float32
        # float32 has 6e-8 of lengths of 200 mm, four products of matrices after another
        size = chain.abs().max().item() if chain.numel() else 0.0
        torch.testing.assert_close(kernel.double(), chain, rtol=0, atol=2e-6 * size)


@pytest.mark.parametrize("batch", [0, 1, 7, 32])
def test_kernel_against_the_chain(batch):
    generator = torch.Generator().manual_seed(8)
    # not quite of length one, as during an optimisation: the polynomial has a gradient along the quaternion too
    rotations = random_rotations(batch, 7, torch.float32) * (0.9 + 0.2 * torch.rand(batch, 16, 1, generator=generator))
    wrist = 100 * torch.randn(batch, 3, generator=generator)
    assert_equal_in_float32(kernel_and_chain(rotations, wrist))


@pytest.mark.parametrize("leaves", [(True, False), (False, True), (False, False)])
def test_kernel_with_some_gradients(leaves):
    assert_equal_in_float32(kernel_and_chain(random_rotations(3, 7, torch.float32), torch.ones(3, 3), leaves))


def test_kernel_takes_strided_tensors():
    apart = random_rotations(32, 7, torch.float32)[:, :5].transpose(0, 1).repeat(1, 1, 2)[..., ::2]  # [5, 32, 4]
    rotations, wrist = apart[:, :16], torch.tensor([[3.0, -5.0, 400.0]]).expand(5, 3)
    assert not rotations.is_contiguous() and not wrist.is_contiguous()
    assert_equal_in_float32(kernel_and_chain(rotations, wrist))
    T = forward_kinematics(template(), rotations, wrist)
    apart = T.permute(3, 1, 2, 0).contiguous().permute(3, 1, 2, 0)
    assert not apart.is_contiguous()
    torch.testing.assert_close(
        skinning_transforms(template(), apart), skinning_transforms(template(), T), rtol=0, atol=0
    )
    (expanded,) = torch.autograd.grad(
        forward_kinematics(template(), rotations.requires_grad_(), wrist).sum(), rotations
    )
    ones = torch.ones(5, 16, 4, 4)  # a sum's gradient has strides of 0
    (whole,) = torch.autograd.grad(forward_kinematics(template(), rotations, wrist), rotations, ones)
    torch.testing.assert_close(expanded, whole, rtol=0, atol=0)


def test_a_hand_that_is_learnt_is_posed_by_the_chain():
    rotations, wrist = random_rotations(2, 7, torch.float32), torch.zeros(2, 3)
    gradients = []
    for dtype in (torch.float32, torch.float64):
        shape = HandShape.template(torch.empty(0, dtype=dtype))
        for part in shape.parts():
            part.requires_grad_()
        hand = shaped(template(dtype), shape)
        T = forward_kinematics(hand, rotations.to(dtype), wrist.to(dtype))
        total = T[..., :3, 3].square().mean() + skinning_transforms(hand, T.detach())[..., :3, 3].square().mean()
        gradients.append(torch.autograd.grad(total, [shape.log_scale, shape.log_length]))
    for ours, exact in zip(*gradients, strict=True):
        torch.testing.assert_close(ours.double(), exact, rtol=1e-4, atol=0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_the_kernel_stays_out_of_a_recorded_graph():
    class Posed(torch.nn.Module):
        def forward(self, rotations, wrist_mm):
            return skinning_transforms(template(), forward_kinematics(template(), rotations, wrist_mm))

    arguments = random_rotations(2, 7, torch.float32), torch.ones(2, 3)
    Posed()(*arguments), rotation_matrix(arguments[0], 4)  # what is derived once and kept is no part of the graph
    traced, others = torch.jit.trace(Posed(), arguments), (random_rotations(2, 8, torch.float32), torch.zeros(2, 3))
    assert "^" not in str(traced.graph), "an exporter can do nothing with a function in Python"
    torch.testing.assert_close(traced(*others), Posed()(*others), rtol=0, atol=1e-3)  # mm


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
