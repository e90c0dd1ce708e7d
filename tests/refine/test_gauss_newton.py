"""The fit of poses by Gauss-Newton: its derivatives against differences and torch, and that it finds poses again."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from core_fixtures import template
from test_explain import CLEAN, apart, beside

from hrlib.hand.kinematics import forward_kinematics, joint_positions
from hrlib.hand.skinning import skin, skinning_transforms
from hrlib.method import predicted_joints, wrist_position
from hrlib.network.posenet import Prediction
from hrlib.refine import gauss_newton as gn
from hrlib.refine.explain import acceleration, measured_cloud, surprise
from hrlib.refine.gauss_newton import FitSettings, fitted_poses
from hrlib.synthetic.frames import Synthesiser

ALONE = FitSettings(smooth=0.0)


@pytest.fixture(scope="module")
def frames():
    """Six frames, and where a bad guess puts the hand; its votes are 4 mm off."""
    batch = Synthesiser(template(), CLEAN).batch(6, 3)
    start = beside(batch.true_prediction(template()), 15.0, 12.0)
    votes = (batch.joints_mm + 4.0 - batch.crops.centre_mm[:, None]) / batch.crops.cube_mm
    return batch, replace(start, points=votes)


def looked(frames, settings=ALONE, step=None, t=1):
    """Kernels' arrays after a look at one frame, its pose less a step of its numbers: poses, scratch, gradient, Hessian."""
    batch, start = frames
    hand, crops = template(), batch.crops
    poses, arrays = gn.start_poses(start, hand, crops), gn.hand_arrays(hand, settings.rim_mm)
    seen, terms = gn.frames_of(start, poses, crops, settings), gn.terms_of(settings, crops.cube_mm)
    if step is not None:
        gn._move(*(part[t].copy() for part in poses[:3]), step, *(part[t] for part in poses[:3]))
    scratch = gn._scratch(len(arrays.cloud), crops.cube_mm)
    gn._look(t, t, poses, seen, arrays, terms, scratch)
    gradient, hessian = np.zeros(51), np.zeros((51, 51))
    gn._bones_to_numbers(poses.force[t], poses.stiffness[t], scratch.F, scratch.axes, gradient, hessian)
    gradient[3:48] += poses.pull[t, 1:].ravel()
    hessian[np.arange(3, 48), np.arange(3, 48)] += poses.stiff[t, 1:].ravel()
    return poses, scratch, gradient, hessian


def test_a_pose_is_the_one_of_kinematics_and_skinning(frames):
    batch, start = frames
    hand, crops = template(), batch.crops
    T = forward_kinematics(hand, start.rotations, wrist_position(start, hand, crops))
    cloud = skin(measured_cloud(hand, 1.0), hand.cloud_weights, skinning_transforms(hand, T))
    poses, scratch, _, _ = looked(frames)
    centre = crops.centre_mm[1].numpy()
    np.testing.assert_allclose(poses.joints[1], joint_positions(hand, T)[1].numpy() - centre, atol=1e-3)
    kept = scratch.posed[0] < gn.AWAY_MM
    assert 0.5 < kept.mean() < 1, "the palm's end counts as forearm"
    np.testing.assert_allclose(scratch.posed[:, kept].T, (cloud[1].numpy() - centre)[kept], atol=1e-2)


def test_the_jacobian_is_that_of_torch(frames):
    poses, scratch, _, _ = looked(frames)
    J, expected = np.zeros((21, 3, 51)), np.zeros((21, 3, 51))
    gn._jacobian(poses.joints[1], scratch.F, scratch.axes, J)
    arrays = gn.hand_arrays(template(), 1.0)
    for k in range(51):
        ends = []
        for h in (1e-4, -1e-4):
            step, moved, joints = np.zeros(51), [part[1].copy() for part in poses[:3]], np.zeros((21, 3))
            step[k] = -h  # the pose less the step
            gn._move(*(part[1] for part in poses[:3]), step, *moved)
            gn._pose(*moved, arrays, scratch.F, scratch.axes, joints)
            ends.append(joints)
        expected[:, :, k] = (ends[0] - ends[1]) / 2e-4
    np.testing.assert_allclose(J, expected, atol=1e-4)
    # of which torch has the columns that move angles: by autograd through the library's own kinematics
    _, start = frames
    hand = template().to(torch.float64)
    q = start.rotations[1:2].double()
    angles = torch.from_numpy(poses.angles[1:2]).requires_grad_(True)
    place = torch.from_numpy(poses.place[1:2]).requires_grad_(True)

    def joints_of(angles, place):
        rotations = torch.cat([q[:, :1], gn.from_euler(angles[:, 1:])], 1)
        return joint_positions(hand, forward_kinematics(hand, rotations, place))[0]

    by_angles, by_place = torch.autograd.functional.jacobian(joints_of, (angles, place))
    np.testing.assert_allclose(J[:, :, 3:48], by_angles[:, :, 0, 1:].flatten(2).numpy(), atol=1e-3)
    np.testing.assert_allclose(J[:, :, 48:], by_place[:, :, 0].numpy(), atol=1e-6)


@pytest.mark.parametrize("only", ["depth", "data", "votes", "physical", "prior"])
def test_the_gradient_is_that_of_the_energy(frames, only):
    weights = {name: 0.0 for name in ("depth", "data", "votes", "physical", "prior")}
    settings = replace(ALONE, wrist_mm=-1000.0, **weights | {only: 1.0})  # a point that passes the cut is a jump
    away = np.random.default_rng(0).normal(0, 0.2, 51)  # beyond some limits and off the start
    away[48:] = 0
    _, _, gradient, _ = looked(frames, settings, away)
    h, random = 2e-5, np.random.default_rng(1)  # where few pixels change their winner, and points their nearest
    for _ in range(6):
        way = random.normal(0, 1, 51) * np.r_[np.ones(48), 20 * np.ones(3)]
        # along one way from the same pose; turns about the wrist do not add up, so the way starts there
        here, there = (_energy_near(frames, settings, away, sign * h * way) for sign in (1, -1))
        assert gradient @ way == pytest.approx(
            (here - there) / (2 * h), rel=0.05, abs=0.02 * np.abs(gradient * way).max()
        )


def _energy_near(frames, settings, away, way, t=1):
    batch, start = frames
    hand, crops = template(), batch.crops
    poses, arrays = gn.start_poses(start, hand, crops), gn.hand_arrays(hand, settings.rim_mm)
    seen, terms = gn.frames_of(start, poses, crops, settings), gn.terms_of(settings, crops.cube_mm)
    for step in (away, -way):
        gn._move(*(part[t].copy() for part in poses[:3]), step, *(part[t] for part in poses[:3]))
    gn._look(t, t, poses, seen, arrays, terms, gn._scratch(len(arrays.cloud), crops.cube_mm))
    return poses.energy[t]


def test_the_hessian_of_points_on_single_bones_is_the_jacobian_s_square(frames):
    settings = replace(ALONE, depth=0.0, data=0.0, physical=0.0, prior=0.0)
    poses, scratch, _, hessian = looked(frames, settings)
    J = np.zeros((21, 3, 51))
    gn._jacobian(poses.joints[1], scratch.F, scratch.axes, J)
    distance = np.sqrt(((poses.joints[1] - _votes(frames)) ** 2).sum(1) + 0.25 * settings.edge_mm**2)
    weight = settings.votes / 250 / 21 * np.exp(-distance / settings.votes_mm) / distance
    np.testing.assert_allclose(hessian, np.einsum("i,ick,icl->kl", weight, J, J), rtol=1e-6, atol=1e-9)


def _votes(frames):
    return frames[1].points[1].double().numpy() * 250.0


def test_the_hessian_of_the_cloud_has_no_negative_direction(frames):
    _, _, _, hessian = looked(frames)
    np.testing.assert_allclose(hessian, hessian.T, atol=1e-12)
    assert np.linalg.eigvalsh(hessian).min() > 0


def test_the_nearest_point_is_the_nearest():
    random = np.random.default_rng(0)
    model = random.uniform(-120, 120, (3, 400)).astype(np.float32)
    model[:, 10] = gn.AWAY_MM
    order, columns, ordered = np.zeros(400, np.int32), np.zeros(32 * 32 + 1, np.int32), np.zeros((3, 400), np.float32)
    gn._sort(model, 250.0, order, columns, ordered)
    nobody = -1, np.float32(1e30)
    for point in random.uniform(-125, 125, (200, 3)).astype(np.float32):
        squared = ((model - point[:, None]) ** 2).sum(0)
        before = int(random.integers(10))
        for near in (nobody, (before, squared[before]), (int(squared.argmin()), squared.min())):
            found, d = gn._nearest(ordered, 250.0, order, columns, tuple(point), near)
            assert found == squared.argmin() and d == pytest.approx(squared.min(), rel=1e-4)
    model[:] = gn.AWAY_MM
    gn._sort(model, 250.0, order, columns, ordered)
    nowhere = (np.float32(0),) * 3
    assert gn._nearest(ordered, 250.0, order, columns, nowhere, nobody)[0] == -1


def test_pulls_at_many_points_add_up_as_one_by_one(frames):
    poses, scratch, _, _ = looked(frames, replace(ALONE, votes=0.0))
    hand = gn.hand_arrays(template(), ALONE.rim_mm)
    force, stiffness = np.zeros((16, 6)), np.zeros((16, 6, 6))
    for i in range(len(hand.cloud)):
        for k in range(hand.first[i], hand.first[i + 1]):
            j = hand.bone[k]
            place = scratch.M[j, :, :3] @ hand.cloud[i] + scratch.M[j, :, 3]
            pull = scratch.pulls[i].astype(float)
            gn._pull(force[j], stiffness[j], tuple(place.astype(float)), float(hand.share[k]), pull[:3], pull[3:])
    for sums, expected in ((poses.force[1], force), (poses.stiffness[1], stiffness)):
        np.testing.assert_allclose(sums, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())
    assert np.abs(force).max() > 0.01


def test_conjugate_gradients_solve_for_all_frames():
    random, B = np.random.default_rng(0), 5
    root = random.normal(0, 1, (B, 51, 51))
    A, J = root @ root.transpose(0, 2, 1) + np.eye(51), random.normal(0, 1, (B, 21, 3, 51))
    springs = random.uniform(0, 0.5, (B, 21))
    springs[[0, -1]] = 0  # no acceleration at the ends
    D = np.zeros((B, B))
    for t in range(1, B - 1):
        D[t, t - 1 : t + 2] = 1, -2, 1
    chain = np.einsum("ts,tj,tu->jsu", D, springs, D)
    whole = np.einsum("jsu,sjck,ujcl->skul", chain, J, J)
    for t in range(B):
        whole[t, :, t] += A[t]
    gradient, x = random.normal(0, 1, (B, 51)), np.zeros((B, 51))
    L = A.copy()
    for part in L:
        gn._factor(part)
    np.testing.assert_allclose(np.tril(L[0]), np.linalg.cholesky(A[0]), atol=1e-9)
    gn._conjugate_gradients(A, L, J, springs, gradient, x, 600)
    np.testing.assert_allclose(np.einsum("skul,ul->sk", whole, x), gradient, atol=1e-4)


def test_poses_are_found_again(frames):
    batch, start = frames
    fit = fitted_poses(template(), batch.crops, replace(start, points=None), ALONE)
    before = apart(predicted_joints(start, template(), batch.crops), batch.joints_mm)
    after = apart(fit.joints_mm, batch.joints_mm)
    assert before.min() > 15 and after.mean() < 9 and (after < 0.65 * before).all()
    assert torch.allclose(fit.prediction.rotations.norm(dim=-1), torch.ones(6, 16))
    # sums in another order, and distances not kept away from zero
    torch.testing.assert_close(fit.loss, surprise(template(), batch.crops, fit.prediction), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(fit.joints_mm, predicted_joints(fit.prediction, template(), batch.crops))
    assert (fit.loss < 0.6 * surprise(template(), batch.crops, start)).all()


def test_votes_and_shape_are_handed_on_and_the_start_is_left_alone(frames):
    batch, start = frames
    start = replace(start, shape=torch.ones(6, 8))
    copy = [part.clone() for part in vars(start).values()]
    fit = fitted_poses(template(), batch.crops, start, replace(ALONE, steps=1, more_steps=0))
    assert fit.prediction.points is start.points and fit.prediction.shape is start.shape
    assert all(torch.equal(part, old) for part, old in zip(vars(start).values(), copy, strict=True))


def test_threads_and_company_change_nothing(frames):
    batch, start = frames
    one = fitted_poses(template(), batch.crops, start)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        two = fitted_poses(template(), batch.crops, start)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(one.prediction.rotations, two.prediction.rotations)
    assert torch.equal(one.prediction.offset, two.prediction.offset)
    # frames that are no recording do not know of each other; float32 of another alignment
    short = replace(ALONE, steps=3, more_steps=0)
    whole, part = (fitted_poses(template(), batch.crops[some], start[some], short) for some in (range(6), [4]))
    torch.testing.assert_close(part.joints_mm[0], whole.joints_mm[4], rtol=0, atol=0.05)


def test_a_recording_moves_more_evenly_the_more_that_counts(frames):
    batch, start = frames  # six frames that do not follow one another
    rough, even = (
        fitted_poses(template(), batch.crops, start, replace(ALONE, smooth=weight, jump_mm=1000.0))
        for weight in (1.0, 100.0)
    )
    assert acceleration(even.joints_mm, 1e6).mean() < 0.8 * acceleration(rough.joints_mm, 1e6).mean()


def test_frames_without_points_come_back_as_they_were(frames):
    batch, start = frames
    empty = replace(
        batch.crops, image=torch.zeros_like(batch.crops.image), points=torch.full_like(batch.crops.points, -1.0),
        count=torch.zeros_like(batch.crops.count),
    )  # fmt: skip
    fit = fitted_poses(template(), empty, start)
    assert fit.prediction.rotations.isfinite().all() and fit.joints_mm.isfinite().all()


def test_what_cannot_be_fitted_is_refused(frames):
    batch, start = frames
    with pytest.raises(ValueError, match="crops must hold at least one frame, got none"):
        fitted_poses(template(), batch.crops[[]], start[[]])
    with pytest.raises(ValueError, match="prediction must say where the hand is: take a network with an offset"):
        fitted_poses(template(), batch.crops, Prediction(start.rotations, None))
    broken = replace(start, offset=start.offset * float("nan"))
    with pytest.raises(ValueError, match="prediction holds NaN or infinite numbers"):
        fitted_poses(template(), batch.crops, broken)
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        FitSettings(steps=0)
