"""Synthetic frames: feasible poses, exact truth, the same frames for the same seed."""

from collections import Counter
from dataclasses import replace

import numba
import numpy as np
import pytest
import roma
import torch
from core_fixtures import build_stick_hand, clean_batch, template
from scipy.ndimage import distance_transform_edt

from hrlib.camera import Camera
from hrlib.crop import crop_batch
from hrlib.evaluate import image_mse
from hrlib.joints import POINT_NAMES
from hrlib.kinematics import euler_angles, forward_kinematics, from_euler, joint_positions
from hrlib.losses import collision_loss, physical_loss
from hrlib.pipeline import evaluate_step, true_prediction
from hrlib.synthetic import (
    Synthesiser,
    SyntheticSettings,
    sample_angles,
    sample_poses,
    view_rotation,
    wrist_loop,
)

CLEAN = SyntheticSettings(noise_share=0.0, forearm_mm=2.0)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# -- poses ------------------------------------------------------------------------------------------------------------


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
    monkeypatch.setattr("hrlib.synthetic.joint_positions", lambda hand, T: T)
    monkeypatch.setattr("hrlib.synthetic.forward_kinematics", lambda hand, q, t: t)
    monkeypatch.setattr("hrlib.synthetic.collision_loss", lambda t: t[:, 0] + 1)
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


# -- the mesh with its forearm ----------------------------------------------------------------------------------------


def test_forearm_closes_the_mesh():
    faces = Synthesiser(template()).faces
    edges = Counter((int(f[i]), int(f[(i + 1) % 3])) for f in faces for i in range(3))
    assert max(edges.values()) == 1 and all((b, a) in edges for a, b in edges), "every edge has its other side"


def test_a_closed_mesh_has_no_wrist():
    with pytest.raises(ValueError, match="has no opening at the wrist"):
        wrist_loop(build_stick_hand().faces)


# -- frames -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drawn():
    """Six clean frames: depth [B, H, W], cameras, joints [B, 21, 3]."""
    maker = Synthesiser(template(), CLEAN)
    rotations, wrist = maker.sample(6, generator(5))
    depth, intrinsics, joints = maker.draw(rotations, wrist, generator(6))
    return depth, [Camera(*map(float, i)) for i in intrinsics], joints


def test_joints_lie_in_the_drawn_hand(drawn):
    depth, cameras, joints = drawn
    for image, camera, points in zip(depth, cameras, joints.numpy(), strict=True):
        assert 2000 < (image > 0).sum() < image.size / 2
        distance = distance_transform_edt(image == 0)
        u, v = np.rint(camera.project(points)).astype(int).T
        # joints are inside the flesh (the tips on it), so their pixels are on the hand, to the rounding of a pixel
        assert (distance[v, u] <= 2).all(), distance[v, u]
        # and behind the surface that hides them (tips and wrist lie on the outline, where the pixel may show what is behind)
        flesh = [i for i, name in enumerate(POINT_NAMES) if name != "wrist" and not name.endswith("_tip")]
        behind = (points[:, 2] - image[v, u])[flesh]
        assert (image[v, u][flesh] > 0).all() and (behind > 0).all() and behind.max() < 120


def test_hand_fits_its_window_and_is_where_it_was_put(drawn):
    depth, cameras, joints = drawn
    for image in depth:
        assert not (image[[0, -1]].any() or image[:, [0, -1]].any())
    assert ((joints[:, 0, 2] >= 350) & (joints[:, 0, 2] <= 950)).all()
    tangent = joints[:, 0, :2] / joints[:, 0, 2:]
    assert (tangent.abs() <= 0.25 + 1e-6).all() and tangent.abs().max() > 0.05


def test_truth_explains_the_image():
    batch, hand = clean_batch(), template()
    step = evaluate_step(true_prediction(batch.rotations, batch.wrist_mm, hand, batch.crops), hand, batch.crops)
    torch.testing.assert_close(step.joints_mm, batch.joints_mm, rtol=0, atol=1e-3)
    true = image_mse(step.rendered, step.target)
    # another frame's pose, and the own one 20 mm aside or turned by 20 degrees about the wrist's y
    turn = from_euler(torch.deg2rad(torch.tensor([0.0, 0.0, 20.0])))
    turned = torch.cat([roma.quat_product(batch.rotations[:, :1], turn.expand(4, 1, 4)), batch.rotations[:, 1:]], 1)
    wrong = {
        name: evaluate_step(true_prediction(rotations, wrist, hand, batch.crops), hand, batch.crops)
        for name, rotations, wrist in (
            ("another pose", batch.rotations.roll(1, 0), batch.wrist_mm),
            ("aside", batch.rotations, batch.wrist_mm + torch.tensor([20.0, 0, 0])),
            ("turned", turned, batch.wrist_mm),
        )
    }
    assert true.max() < 0.005
    for name, other in wrong.items():
        assert (image_mse(other.rendered, other.target) > 3 * true).all(), name
    assert (step.loss < wrong["another pose"].loss).all()


def test_batch_depends_on_its_arguments_alone():
    maker = Synthesiser(template())
    before, torch_before, batches = numba.get_num_threads(), torch.get_num_threads(), []
    try:
        for threads in sorted({1, numba.config.NUMBA_NUM_THREADS}):
            numba.set_num_threads(threads)
            torch.set_num_threads(threads)
            torch.manual_seed(threads)  # the global generator must not matter
            batches.append(maker.batch(4, seed=9))
    finally:
        numba.set_num_threads(before)
        torch.set_num_threads(torch_before)
    batches.append(Synthesiser(template()).batch(4, seed=9))
    for other in batches[1:]:
        for key in ("rotations", "wrist_mm", "joints_mm"):
            assert torch.equal(getattr(other, key), getattr(batches[0], key)), key
        for key in ("image", "points", "centre_mm", "count"):
            assert torch.equal(getattr(other.crops, key), getattr(batches[0].crops, key)), key
    assert not torch.equal(maker.batch(4, seed=10).crops.image, batches[0].crops.image)


def test_shapes_of_a_batch():
    batch = clean_batch()
    assert batch.crops.image.shape == (4, 120, 120) and batch.rotations.shape == (4, 16, 4)
    assert batch.wrist_mm.shape == (4, 3) and batch.joints_mm.shape == (4, 21, 3)
    torch.testing.assert_close(batch.joints_mm[:, 0], batch.wrist_mm, rtol=0, atol=1e-3)
    assert (batch.crops.count > 200).all() and (batch.crops.image.flatten(1).max(1).values <= 1).all()


def test_noise_share_and_forearm():
    quiet, noisy = (Synthesiser(template(), replace(CLEAN, noise_share=s)) for s in (0.0, 1.0))
    rotations, wrist = quiet.sample(12, generator(2))
    clean, _, _ = quiet.draw(rotations, wrist, generator(3))
    rough, _, _ = noisy.draw(rotations, wrist, generator(3))
    both = (clean > 0) & (rough > 0)
    # the sensor reads a depth some tenths of a pixel aside and adds 1 to 2 mm
    assert 0.5 < np.median(np.abs(clean - rough)[both]) < 5
    with_arm = Synthesiser(template(), replace(CLEAN, forearm_mm=60.0))
    longer, _, _ = with_arm.draw(rotations, wrist, generator(3))
    more = (longer > 0).sum((1, 2)) / (clean > 0).sum((1, 2))
    # half of the hands have a stump; the window follows it, which moves outlines by parts of a pixel
    assert more.min() > 0.99 and 2 <= (more > 1.02).sum() <= 10


def test_a_sensors_focal_length():
    maker = Synthesiser(template(), replace(CLEAN, focal_px=475.0))
    _, intrinsics, _ = maker.draw(*maker.sample(2, generator(1)), generator(1))
    assert (intrinsics[:, :2] == 475).all()


def test_two_sizes_of_hand_look_different():
    small = template().morphed({}, scale=0.8)
    rotations, wrist = Synthesiser(template(), CLEAN).sample(2, generator(4))
    areas = []
    for hand in (template(), small):
        depth, intrinsics, _ = Synthesiser(hand, replace(CLEAN, focal_px=475.0)).draw(rotations, wrist, generator(1))
        areas.append(crop_batch(depth, intrinsics).image.gt(0).sum((1, 2)))
    assert (areas[1] < 0.8 * areas[0]).all()
