"""Sparse grids are filled, usual frames are not touched, and 8 bits are found out."""

import numpy as np
import pytest
from drawn_things import CAMERA, film, limb

from hrlib.frames.camera import Camera
from hrlib.frames.crop import crop_hand
from hrlib.frames.folder import DepthFolder
from hrlib.frames.quality import coarse_step_mm, without_gaps

THING = np.concatenate([limb((0, -10, 0), (0, 20, 0), 42, 38), limb((-30, -90, 0), (-12, 0, 0), 9, 11)])


@pytest.fixture(scope="module")
def depth():
    return film(THING, 1, 450.0, upright=True, noise_mm=0.5)[0].astype(np.float32)


def onto_larger(depth, down, right, turn_deg=0.0):
    """As an aligner does: each measured pixel goes to one of an image `down` and `right` times as large."""
    v, u = np.nonzero(depth)
    out = np.zeros((int(depth.shape[0] * down), int(depth.shape[1] * right)), np.float32)
    turn = np.deg2rad(turn_deg)
    y, x = (v - CAMERA.cy) * down, (u - CAMERA.cx) * right
    at = [
        np.rint(np.cos(turn) * x - np.sin(turn) * y + CAMERA.cx * right).astype(int),
        np.rint(np.sin(turn) * x + np.cos(turn) * y + CAMERA.cy * down).astype(int),
    ]
    inside = (at[0] >= 0) & (at[0] < out.shape[1]) & (at[1] >= 0) & (at[1] < out.shape[0])
    out[at[1][inside], at[0][inside]] = depth[v, u][inside]
    return out, Camera(CAMERA.fx * right, CAMERA.fy * down, CAMERA.cx * right, CAMERA.cy * down)


@pytest.mark.parametrize(
    "down, right, turn_deg",
    [(2, 2, 0), (1.5, 1.5, 0), (2.5, 2.5, 0), (7, 7, 0), (12, 12, 0), (2, 1, 0), (1, 4, 0), (4, 4, 3)],
)
def test_a_sparse_grid_is_filled_and_its_gaps_are_counted(depth, down, right, turn_deg):
    sparse, camera = onto_larger(depth, down, right, turn_deg)
    filled, share = without_gaps(sparse)
    missing = 1 - 1 / (down * right)
    assert share == pytest.approx(missing, abs=0.08)
    kept = sparse > 0
    assert (np.abs(filled - sparse)[kept] < 8).mean() > 0.98, "what was measured stays"
    image, wanted = crop_hand(filled, camera).image[0], crop_hand(depth, CAMERA).image[0]
    if turn_deg == 0:
        both = (image > 0) & (wanted > 0)
        overlap = both.sum() / ((image > 0) | (wanted > 0)).sum()
        assert overlap > 0.9 and (image - wanted)[both].abs().median() * 250 < 1.5, "mm"
        empty = crop_hand(sparse, camera).image[0]
        assert ((empty > 0) & (wanted > 0)).sum() / (wanted > 0).sum() < 0.75, "without filling most is missing"


def test_usual_frames_are_as_they_were(depth):
    holes = depth * (np.random.default_rng(0).random(depth.shape) > 0.2)
    for frame in (depth, holes, np.zeros((50, 60), np.float32), depth * (np.indices(depth.shape).sum(0) % 97 == 0)):
        same, share = without_gaps(frame)
        assert share == 0 and same is frame


def test_a_folder_fills_and_tells(depth, tmp_path):
    np.save(tmp_path / "a.npy", onto_larger(depth, 3, 3)[0])
    np.save(tmp_path / "b.npy", onto_larger(depth, 3, 3)[0] * 0)
    for side in ("right", "left"):
        frame, empty = DepthFolder(tmp_path, (100.0, 100.0), side=side)
        assert frame.filled == pytest.approx(8 / 9, abs=0.03) and (frame.depth_mm > 0).sum() > 8 * (depth > 0).sum()
        assert empty.filled == 0


def test_steps_of_eight_bits(depth):
    scene = np.where(depth > 0, depth, np.linspace(600, 1400, depth.size).reshape(depth.shape))
    for step in (4.0, 1500 / 255):
        levels = np.rint(scene / step).astype(np.uint8)
        coarse = np.rint(levels * step).astype(np.float32)  # exported again, as whole mm
        assert coarse_step_mm(coarse) == pytest.approx(step, rel=0.01)
        assert coarse_step_mm(np.where(depth > 0, coarse, 0)) == pytest.approx(step, rel=0.05), "the hand alone"
    assert coarse_step_mm(np.rint(scene / 1500 * 65535) * np.float32(1500 / 65535)) is None, "all 16 bits"
    assert coarse_step_mm(np.where(depth > 0, np.rint(depth), 0)) is None, (
        "whole mm of a near hand: few values, small steps"
    )
    far = np.linspace(900, 1400, depth.size).reshape(depth.shape)
    kinect = (350_000 / np.rint(350_000 / far)).astype(np.float32)
    assert len(np.unique(kinect)) < 256 and coarse_step_mm(kinect) is None, "steps that grow are a sensor's own"
    assert coarse_step_mm(np.zeros((9, 9), np.float32)) is None
