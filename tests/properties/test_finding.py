"""Crops follow the hand, whatever the camera, and the finder's masks lie on measured pixels of their cells."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import SEEDS, few, numbers

from hrlib.frames.camera import Camera
from hrlib.frames.crop import crop_hand
from hrlib.frames.finder import _to_pixels, sampled

CAMERA = Camera(300.0, 300.0, 99.5, 79.5)


def blob(seed: int, shape=(160, 200)) -> np.ndarray:
    """A bumpy patch of 40 x 50 px about 600 mm away, in the middle of an empty image; whole mm."""
    random = np.random.default_rng(seed)
    depth = np.zeros(shape, np.float32)
    depth[60:100, 75:125] = np.round(600 + random.uniform(-40, 40, (8, 10))).repeat(5, 0).repeat(5, 1)
    return depth


@few
@given(SEEDS, st.integers(-50, 50), st.integers(-60, 60))
def test_a_hand_elsewhere_in_the_image_is_the_same_crop_about_another_centre(seed, down, right):
    """The principal point moves with it: the same hand before the same camera, in another part of a larger image."""
    depth = blob(seed)
    moved = Camera(CAMERA.fx, CAMERA.fy, CAMERA.cx + right, CAMERA.cy + down)
    one, other = crop_hand(depth, CAMERA), crop_hand(np.roll(depth, (down, right), (0, 1)), moved)
    torch.testing.assert_close(other.centre_mm, one.centre_mm, rtol=0, atol=0.01)
    assert (other.image != one.image).float().mean() < 0.02, "a pixel on the edge of two may be its neighbour"


@few
@given(SEEDS, st.integers(-50, 50), st.integers(-60, 60))
def test_a_shift_before_a_still_camera_shifts_the_centre_by_its_millimetres(seed, down, right):
    depth = blob(seed)
    one, other = crop_hand(depth, CAMERA), crop_hand(np.roll(depth, (down, right), (0, 1)), CAMERA)
    measured = depth[depth > 0].astype(np.float64)
    expected = np.array([right * measured.mean() / CAMERA.fx, down * measured.mean() / CAMERA.fy, 0.0])
    np.testing.assert_allclose((other.centre_mm - one.centre_mm)[0], expected, rtol=0, atol=0.05)


@few
@given(SEEDS, numbers(0.5, 2.0))
def test_a_world_of_another_unit_is_the_same_crop(seed, factor):
    depth = blob(seed)
    one, other = crop_hand(depth, CAMERA), crop_hand(depth * np.float32(factor), CAMERA, cube_mm=250.0 * factor)
    torch.testing.assert_close(other.centre_mm, one.centre_mm * factor, rtol=1e-5, atol=0.01)
    same = (other.image - one.image).abs() < 1e-4
    assert same.float().mean() > 0.98 and other.image.min() >= 0 and other.image.max() <= 1


@few
@given(SEEDS, numbers(1.0, 6.0), numbers(-60.0, 170.0), numbers(-60.0, 210.0))
def test_masks_lie_within_the_frame_on_measured_pixels_of_their_cells(seed, step, top, left):
    """Close-ups reach beyond the frame; hand and forearm never share a pixel."""
    depth, random = blob(seed), np.random.default_rng(seed)
    depth[random.random(depth.shape) < 0.1] = 0
    z = sampled(depth, top, left, step, (16, 16))
    shares = random.dirichlet((1.0, 1.0, 1.0), (16, 16)).transpose(2, 0, 1).astype(np.float32)
    shares[:, z == 0] = 0
    hand, forearm = _to_pixels(depth, z, shares, top, left, step)
    assert hand.shape == forearm.shape == depth.shape
    assert not (hand & forearm).any() and (depth[hand | forearm] > 0).all()
    v, u = np.nonzero(hand | forearm)
    inside = (v >= np.floor(top)) & (v < top + 16 * step) & (u >= np.floor(left)) & (u < left + 16 * step)
    assert inside.all()


@few
@given(SEEDS, numbers(1.0, 6.0))
def test_a_hand_that_fills_all_cells_is_all_that_was_measured_there(seed, step):
    depth = blob(seed)
    z = sampled(depth, 60.0, 75.0, step, (6, 6))
    shares = np.zeros((3, 6, 6), np.float32)
    shares[1] = z > 0
    hand, forearm = _to_pixels(depth, z, shares, 60.0, 75.0, step)
    last = int(np.floor(6 * step))
    expected = np.zeros(depth.shape, bool)
    expected[60 : 60 + last, 75 : 75 + last] = depth[60 : 60 + last, 75 : 75 + last] > 0
    assert not forearm.any() and not (hand & ~expected).any()
    # pixels of another depth than all cells around them belong to none
    assert hand.sum() > 0.5 * expected.sum()
