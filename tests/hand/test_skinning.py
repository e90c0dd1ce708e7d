"""Linear blend skinning (Eq. 2) against a loop, and its gradients."""

import numpy as np
import pytest
import torch
from core_fixtures import build_stick_hand, posed, random_rotations, template

from hrlib.hand.kinematics import forward_kinematics
from hrlib.hand.skinning import skin, skinning_transforms
from hrlib.hand.skinning.cpu import bonds_of


def test_skinning_against_a_loop_over_points_and_joints():
    hand = template(torch.float64)
    T = forward_kinematics(hand, random_rotations(2, seed=1), torch.randn(2, 3, dtype=torch.float64) * 50)
    some = slice(None, None, 37)
    ours = skin(hand.vertices_mm[some], hand.weights[some], skinning_transforms(hand, T))
    points, weights = hand.vertices_mm[some].numpy(), hand.weights[some].numpy()
    T_rest = np.tile(np.eye(4), (16, 1, 1))
    T_rest[:, :3, :3], T_rest[:, :3, 3] = hand.R_wrist_rest, hand.joints_mm
    for b in range(2):
        M = [T[b, j].numpy() @ np.linalg.inv(T_rest[j]) for j in range(16)]
        for i, p in enumerate(points):
            moved = sum(weights[i, j] * (M[j] @ [*p, 1])[:3] for j in range(16))
            # the asset's rest frames are orthonormal to 1e-7 of 200 mm
            np.testing.assert_allclose(ours[b, i].numpy(), moved, rtol=0, atol=1e-4)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 2e-4), (torch.float64, 1e-4)])
def test_rest_pose_reproduces_mesh_and_cloud(dtype, tolerance):
    hand = template(dtype)
    T = forward_kinematics(hand, hand.rest_rotations[None], torch.zeros(1, 3, dtype=dtype))
    M = skinning_transforms(hand, T)
    for points, weights in ((hand.vertices_mm, hand.weights), (hand.cloud_mm, hand.cloud_weights)):
        torch.testing.assert_close(skin(points, weights, M)[0], points, rtol=0, atol=tolerance)


def test_one_shape_for_the_batch_or_one_each():
    hand = template()
    _, T = posed(hand, random_rotations(3, seed=2, dtype=torch.float32))
    M = skinning_transforms(hand, T)
    shared = skin(hand.cloud_mm, hand.cloud_weights, M)
    each = skin(hand.cloud_mm.repeat(3, 1, 1) * torch.tensor([1.0, 1.1, 0.9])[:, None, None], hand.cloud_weights, M)
    torch.testing.assert_close(each[0], shared[0], rtol=0, atol=1e-3)  # mm
    assert not torch.allclose(each[1], shared[1])
    assert shared.shape == each.shape == (3, 2048, 3)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("batch, points", [(1, 77), (3, 2048), (40, 33), (2, 1), (0, 5), (2, 0)])
def test_kernel_against_the_formula(batch, points, threads, monkeypatch):
    monkeypatch.setattr("hrlib.hand.skinning.cpu.ALONE", 0)
    hand, generator = template(), torch.Generator().manual_seed(6)
    _, T = posed(hand, random_rotations(batch, seed=7, dtype=torch.float32))
    arrays = hand.cloud_mm[:points], hand.cloud_weights[:points], skinning_transforms(hand, T)
    weight = torch.randn(batch, points, 3, generator=generator)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        results = []
        for dtype in (torch.float32, torch.float64):  # the kernel's, and the one of Eq. 2 in torch
            p, w, M = (x.detach().to(dtype).clone() for x in arrays)
            out = skin(p.requires_grad_(), w, M.requires_grad_())
            assert (type(out.grad_fn).__name__ == "_SkinBackward") == (dtype == torch.float32)
            results.append((out, *torch.autograd.grad(out, (p, M), weight.to(dtype))))
    finally:
        torch.set_num_threads(before)
    for name, kernel, formula in zip(("points", "grad of points", "grad of M"), *results, strict=True):
        # float32 has 6e-8 of lengths of 200 mm, and sums of up to 2048 points
        size = formula.abs().max().item() if formula.numel() else 0.0
        torch.testing.assert_close(
            kernel.double(), formula, rtol=0, atol=2e-6 * size, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_many_images_are_divided_among_threads(monkeypatch):
    hand = template()
    M = skinning_transforms(hand, posed(hand, random_rotations(3, seed=7, dtype=torch.float32))[1])
    weight, before, results = (
        torch.randn(3, 2048, 3, generator=torch.Generator().manual_seed(6)),
        torch.get_num_threads(),
        [],
    )
    torch.set_num_threads(3)
    try:
        for alone in (0, 3 * 2048):
            monkeypatch.setattr("hrlib.hand.skinning.cpu.ALONE", alone)
            p, m = hand.cloud_mm.clone().requires_grad_(), M.clone().requires_grad_()
            out = skin(p, hand.cloud_weights, m)
            results.append((out, *torch.autograd.grad(out, (p, m), weight)))
    finally:
        torch.set_num_threads(before)
    for divided, whole in zip(*results, strict=True):
        torch.testing.assert_close(divided, whole, rtol=0, atol=2e-6 * whole.abs().max().item())


def test_weights_changed_in_place_are_counted_again():
    hand = template()
    M = skinning_transforms(hand, posed(hand, random_rotations(2, seed=7, dtype=torch.float32))[1])
    weights, others = hand.cloud_weights.clone(), hand.cloud_weights.roll(100, 0)
    first = skin(hand.cloud_mm, weights, M)
    assert bonds_of(weights)[2] is bonds_of(weights)[2], "counted once"
    weights.copy_(others)
    changed = skin(hand.cloud_mm, weights, M)
    assert not torch.allclose(changed, first)
    torch.testing.assert_close(changed, skin(hand.cloud_mm, others, M), rtol=0, atol=0)
    with torch.inference_mode():
        weights = hand.cloud_weights.clone()
        skin(hand.cloud_mm, weights, M)
        weights.copy_(others)
        torch.testing.assert_close(skin(hand.cloud_mm, weights, M), changed, rtol=0, atol=0)


def test_gradient_of_the_weights_in_float32():
    hand = template()
    M = skinning_transforms(hand, posed(hand, random_rotations(2, seed=2, dtype=torch.float32))[1])
    weights = hand.cloud_weights.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(skin(hand.cloud_mm, weights, M).sum(), weights)
    moved = torch.einsum("bjrc,nc->bnjr", M[:, :, :3, :3], hand.cloud_mm) + M[:, None, :, :3, 3]
    torch.testing.assert_close(gradient, moved.sum((0, 3)), rtol=0, atol=1e-2)  # mm, of sums of 600 mm


def test_turning_the_wrist_turns_the_skin():
    import roma

    hand = template(torch.float64)
    rotations = random_rotations(2, seed=3)
    turn = random_rotations(2, seed=4)[:, 0]
    turned = rotations.clone()
    turned[:, 0] = roma.quat_product(turn, rotations[:, 0])
    still, moved = posed(hand, rotations)[0], posed(hand, turned)[0]
    expected = torch.einsum("brc,bvc->bvr", roma.unitquat_to_rotmat(turn), still)
    torch.testing.assert_close(moved, expected, rtol=0, atol=1e-4)


def test_gradcheck_of_kinematics_and_skinning():
    hand = build_stick_hand()
    some = torch.arange(0, 128, 16)
    rotations = random_rotations(1, seed=5).requires_grad_()
    wrist = torch.tensor([[3.0, -5.0, 400.0]], dtype=torch.float64, requires_grad=True)
    points = hand.vertices_mm[some].clone().requires_grad_()
    weights = torch.softmax(torch.randn(8, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1)), 1)

    def posed_points(q, t, p):
        return skin(p, weights, skinning_transforms(hand, forward_kinematics(hand, q, t)))

    assert torch.autograd.gradcheck(posed_points, (rotations, wrist, points), eps=1e-6, atol=1e-5)


@pytest.mark.parametrize(
    "points, weights",
    [((5, 2), (5, 16)), ((5, 3), (4, 16)), ((5, 3), (5, 15)), ((1, 2, 5, 3), (5, 16)), ((3,), (3, 16))],
)
def test_wrong_shapes(points, weights):
    M = torch.eye(4).expand(1, 16, 4, 4)
    with pytest.raises(ValueError, match=r"points must be \[N, 3\] or \[B, N, 3\] and weights \[N, 16\]"):
        skin(torch.zeros(points), torch.zeros(weights), M)
