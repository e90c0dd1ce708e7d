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

from hrlib.frames.camera import Camera
from hrlib.frames.crop import crop_batch
from hrlib.frames.find import crop_frame
from hrlib.frames.frame import Frame
from hrlib.hand.joints import POINT_NAMES
from hrlib.hand.rotations import from_euler
from hrlib.losses import image_mse
from hrlib.method import evaluate_step, true_prediction
from hrlib.synthetic.frames import Synthesiser, SyntheticBatch, SyntheticSettings, opened_at_wrist, rolled, wrist_loop

CLEAN = SyntheticSettings(noise_share=0.0, forearm_mm=2.0)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_one_frame_of_a_batch_is_a_batch():
    batch = clean_batch()
    one = batch[1]
    assert len(one) == 1 and one.rotations.shape == (1, 16, 4)
    assert torch.equal(one.joints_mm, batch.joints_mm[[1]]) and torch.equal(one.crops.image, batch.crops.image[[1]])


# -- the mesh with its forearm ----------------------------------------------------------------------------------------


def test_forearm_closes_the_mesh():
    faces = Synthesiser(template()).faces
    edges = Counter((int(f[i]), int(f[(i + 1) % 3])) for f in faces for i in range(3))
    assert max(edges.values()) == 1 and all((b, a) in edges for a, b in edges), "every edge has its other side"


def test_a_closed_mesh_has_no_wrist():
    with pytest.raises(ValueError, match="has no opening at the wrist"):
        wrist_loop(build_stick_hand().faces)


def test_a_closed_mesh_is_opened_at_its_end_behind_the_wrist():
    """The template, closed by a fan, as other people's hands often are."""
    hand = template()
    assert opened_at_wrist(hand) is hand.faces
    loop = wrist_loop(hand.faces)
    fan = torch.stack([loop[:1].expand(len(loop) - 2), loop[2:], loop[1:-1]], 1)
    closed = replace(hand, faces=torch.cat([hand.faces, fan]))
    faces = Synthesiser(closed).faces
    edges = Counter((int(f[i]), int(f[(i + 1) % 3])) for f in faces for i in range(3))
    assert all((b, a) in edges for a, b in edges), "closed again by a forearm"
    opened = wrist_loop(opened_at_wrist(closed))
    assert 0 < hand.vertices_mm[opened, 1].min() - hand.vertices_mm[:, 1].min() < 25


def test_the_wrist_s_opening_is_told_from_other_holes():
    hand = template()
    loop = wrist_loop(hand.faces)
    nail = hand.vertices_mm[hand.faces, 1].mean(1).argmax()
    holed = torch.cat([hand.faces[:nail], hand.faces[nail + 1 :]])
    assert wrist_loop(holed, hand.vertices_mm).tolist() == loop.tolist()
    with pytest.raises(ValueError, match="no single opening at the wrist, but 2"):
        wrist_loop(holed)
    fan = torch.stack([loop[:1].expand(len(loop) - 2), loop[2:], loop[1:-1]], 1)
    opened = opened_at_wrist(replace(hand, faces=torch.cat([holed, fan])))
    assert len(opened) < len(holed), "closed at the wrist, whatever else is open"
    below = wrist_loop(opened, hand.vertices_mm)
    assert hand.vertices_mm[below, 1].max() < 25 and len(below) > 10


def test_openings_that_meet_in_a_vertex_are_two_and_an_edge_of_three_triangles_is_refused():
    pinched = torch.tensor([[1, 2, 0], [3, 4, 0]])
    vertices_mm = torch.tensor([[0.0, 50, 0], [9, 40, 0], [9, 60, 0], [-9, 0, 0], [-9, 20, 0]])
    assert sorted(wrist_loop(pinched, vertices_mm).tolist()) == [0, 3, 4]
    with pytest.raises(ValueError, match="more than two triangles meet in an edge"):
        wrist_loop(torch.tensor([[0, 1, 2], [0, 1, 3], [1, 0, 4]]), vertices_mm)


# -- frames -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drawn():
    """Six clean frames: depth [B, H, W], cameras, joints [B, 21, 3]."""
    maker = Synthesiser(template(), CLEAN)
    rotations, wrist = maker.sample(6, generator(5))
    drawing = maker.draw(rotations, wrist, generator(6))
    assert np.array_equal(drawing.depth_mm, drawing.clean_mm), "without noise the sensor measures what there is"
    return drawing.depth_mm, [Camera(*map(float, i)) for i in drawing.intrinsics], drawing.joints_mm


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
    step = evaluate_step(batch.true_prediction(hand), hand, batch.crops)
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
    clean = quiet.draw(rotations, wrist, generator(3)).depth_mm
    rough = noisy.draw(rotations, wrist, generator(3)).depth_mm
    both = (clean > 0) & (rough > 0)
    # the sensor adds 1 to 2 mm
    assert 0.5 < np.median(np.abs(clean - rough)[both]) < 5
    with_arm = Synthesiser(template(), replace(CLEAN, forearm_mm=60.0))
    longer = with_arm.draw(rotations, wrist, generator(3)).depth_mm
    more = (longer > 0).sum((1, 2)) / (clean > 0).sum((1, 2))
    assert more.min() > 0.99 and 2 <= (more > 1.02).sum() <= 10, "half of the hands have a stump"


def test_a_sensors_focal_length():
    maker = Synthesiser(template(), replace(CLEAN, focal_px=475.0))
    intrinsics = maker.draw(*maker.sample(2, generator(1)), generator(1)).intrinsics
    assert (intrinsics[:, :2] == 475).all()


def test_two_sizes_of_hand_look_different():
    small = template().morphed({}, scale=0.8)
    rotations, wrist = Synthesiser(template(), CLEAN).sample(2, generator(4))
    areas = []
    for hand in (template(), small):
        drawing = Synthesiser(hand, replace(CLEAN, focal_px=475.0)).draw(rotations, wrist, generator(1))
        areas.append(crop_batch(drawing.depth_mm, drawing.intrinsics).image.gt(0).sum((1, 2)))
    assert (areas[1] < 0.8 * areas[0]).all()


def test_rolled_frames_are_those_of_rolled_hands():
    maker, angle = Synthesiser(template(), replace(CLEAN, forearm_share=0.0)), torch.tensor([0.4, -0.3, 0.15, 0.0])
    rotations, wrist = maker.sample(4, generator(2))
    batch = maker.frames_of(rotations, wrist, generator(3))
    turn = roma.rotvec_to_unitquat(torch.stack([torch.zeros(4), torch.zeros(4), angle], 1))
    turned = torch.cat([roma.quat_product(turn, rotations[:, 0])[:, None], rotations[:, 1:]], 1)
    drawn = maker.frames_of(turned, roma.quat_action(turn, wrist), generator(3))
    got = rolled(batch, angle)
    assert isinstance(got, SyntheticBatch) and torch.equal(got.crops.count, batch.crops.count)
    assert torch.equal(got.crops.image[3], batch.crops.image[3]), "no turn changes nothing"
    torch.testing.assert_close(got.joints_mm, drawn.joints_mm, atol=1e-3, rtol=0)
    torch.testing.assert_close(got.wrist_mm, drawn.wrist_mm, atol=1e-3, rtol=0)
    assert roma.unitquat_geodesic_distance(got.rotations, drawn.rotations).max() < 1e-3
    assert (got.crops.centre_mm - drawn.crops.centre_mm).norm(dim=1).max() < 1.0, "other pixels have another mean"
    moved, residue = (image_mse(x.image, drawn.crops.image)[:3].mean() for x in (batch.crops, got.crops))
    assert residue < 0.15 * moved, "what is left are pixels at the outline"


def test_segmented_frames_are_those_of_a_user_with_an_arm_and_keep_their_truth():
    settings = SyntheticSettings(noise_share=0.0, forearm_share=1.0, forearm_mm=250.0, window_px=200, focal_px=330.0)
    maker = Synthesiser(template(), settings)
    poses = maker.sample(6, torch.Generator().manual_seed(2))
    batch = maker.segmented(*poses, torch.Generator().manual_seed(3), progress=False)
    drawing = maker.draw(*poses, torch.Generator().manual_seed(3))
    frames = [
        Frame(str(i), d, Camera(*k.tolist()))
        for i, (d, k) in enumerate(zip(drawing.depth_mm, drawing.intrinsics, strict=True))
    ]
    crops = [crop for crop, _ in map(crop_frame, frames) if crop is not None]
    assert len(batch) == len(crops) > 3
    for i, crop in enumerate(crops):
        assert torch.equal(batch.crops.image[i], crop.image[0])
    kept = [i for i, frame in enumerate(frames) if crop_frame(frame)[0] is not None]
    assert torch.equal(batch.joints_mm, drawing.joints_mm[kept]) and torch.equal(batch.rotations, poses[0][kept])
    whole = crop_batch(drawing.depth_mm, drawing.intrinsics)
    assert (batch.crops.count < whole.count[kept]).any(), "an arm is cut off"
    inside = ((batch.joints_mm - batch.crops.centre_mm[:, None]).abs() < 125).all(-1).float().mean()
    assert inside > 0.9, "the hands are in the crops"


def test_frames_of_which_none_can_be_segmented_are_refused():
    far = Synthesiser(template(), replace(CLEAN, distance_mm=(2000.0, 2100.0)))
    with pytest.raises(ValueError, match="no hand in any of 3 synthetic frames of"):
        far.segmented(*far.sample(3, torch.Generator().manual_seed(0)), torch.Generator().manual_seed(0))
