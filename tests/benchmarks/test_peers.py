"""benchmarks/bench_peers.py: how points are aligned, and how depth becomes a grey picture, before peers are judged."""

import numpy as np
import pytest
from bench_peers import GREYS, aligned, errors_of, flat_error, grey, urdf_of
from core_fixtures import template
from scipy.spatial.transform import Rotation

from hrlib.frames.camera import Camera
from hrlib.frames.frame import Frame


def hands(count=3):
    return 50 * np.random.default_rng(0).standard_normal((count, 21, 3)) + [0, 0, 500]


def test_each_way_to_align_forgives_what_it_names_and_no_more():
    truth, turn = hands(), Rotation.from_euler("xyz", (0.3, -0.2, 0.5)).as_matrix()
    moved, sized, turned = truth + [30, -20, 10], 1.3 * truth, 1.3 * truth @ turn.T
    mirrored = truth * [-1, 1, 1]
    errors = {
        name: errors_of(points, truth) for name, points in locals().items() if name in ("moved", "sized", "turned")
    }
    assert errors["moved"] == pytest.approx(dict.fromkeys(("moved", "sized", "turned"), 0), abs=1e-9)
    assert errors["sized"]["moved"] > 5 and errors["sized"]["sized"] < 1e-9
    assert errors["turned"]["sized"] > 5 and errors["turned"]["turned"] < 1e-9
    assert errors_of(mirrored, truth)["turned"] > 5, "a left hand is no right one"
    assert np.allclose(aligned(moved, truth, "moved"), truth)


def test_errors_in_the_image_are_millimetres_at_the_hand():
    truth, camera = np.broadcast_to([10.0, -20.0, 500.0], (1, 21, 3)), Camera(400.0, 400.0, 60.0, 50.0)
    pixels = np.broadcast_to([60 + 8.0 + 4.0, 50 - 16.0], (1, 21, 2))  # 4 px beside the truth
    frame = Frame("a", np.ones((100, 120), np.float32), camera)
    assert flat_error(pixels, truth, [frame]) == pytest.approx(4 * 500 / 400)


def test_depth_as_grey():
    depth = np.zeros((40, 40), np.float32)
    depth[10:30, 10:30] = np.linspace(400, 500, 20)
    frame = Frame("a", depth, Camera(475.0, 475.0, 20.0, 20.0))
    pictures = {how: grey(frame, how) for how in GREYS}
    for picture in pictures.values():
        assert picture.dtype == np.uint8 and not picture[depth == 0].any() and picture[depth > 0].all()
    row = {how: picture[20, 11:29].astype(int) for how, picture in pictures.items()}
    assert (np.diff(row["near is bright"]) < 0).all() and (np.diff(row["near is dark"]) > 0).all()
    assert np.ptp(row["shaded"][5:13]) < 10, "inside, a plane is about as bright everywhere"
    assert row["shaded"][0] < row["shaded"][5:13].min() - 10, "a rim falls off to what is behind, and is darker"


def test_the_robot_has_the_hand_s_joints():
    text = urdf_of(template())
    assert text.count('type="revolute"') == 45 and text.count("<link") == 46
    assert "nan" not in text
