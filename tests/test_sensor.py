"""The Kinect v1 noise model against the published formula."""

import numba
import numpy as np
import pytest

from hrlib.sensor import kinect_v1

FX = np.array([525.0])


def wall(z_mm: float, size=(160, 200)) -> np.ndarray:
    return np.full((1, *size), z_mm, np.float32)


@pytest.mark.parametrize("z", [500.0, 800.0, 1500.0, 3000.0])
def test_axial_noise_and_quantisation_of_a_wall(z):
    noisy = kinect_v1(wall(z), FX, seed=1)[0, 5:-5, 5:-5].astype(np.float64)
    assert (noisy > 0).all(), "a wall has no holes"
    sigma_mm = 1000 * (0.0012 + 0.0019 * (z / 1000 - 0.4) ** 2)  # Nguyen et al. 2012, Eq. 1, in metres
    step = 2.85e-6 * z**2  # Khoshelham & Elberink 2012
    expected = np.sqrt(sigma_mm**2 + step**2 / 12)
    # of 28500 values, standard deviation and mean scatter by 0.4 % and 0.6 % of sigma
    assert noisy.std() == pytest.approx(expected, rel=0.02)
    assert noisy.mean() == pytest.approx(z, abs=0.03 * expected)
    steps = noisy / step
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-3 + 3e-7 * z / step)
    assert len(np.unique(noisy)) > 3
    # each pixel has noise of its own
    flat = noisy - noisy.mean()
    for axis in (0, 1):
        neighbours = (flat * np.roll(flat, 1, axis)).mean() / flat.var()
        assert abs(neighbours) < 0.03, "independent values correlate by 1 / sqrt(28500) = 0.006"


def test_lateral_noise_frays_an_edge_by_four_fifths_of_a_pixel():
    depth = wall(800.0, (2000, 60))
    depth[:, :, 30:] = 0
    filled = (kinect_v1(depth, FX, seed=2)[0, 5:-5] > 0).mean(0)
    fall = filled[10:49] - filled[11:50]  # how many edges lie between one column and the next
    x = np.arange(10.5, 49)
    centre = (fall * x).sum() / fall.sum()
    spread = np.sqrt((fall * (x - centre) ** 2).sum() / fall.sum())
    assert centre == pytest.approx(29.5, abs=0.1)
    # 0.8 px and the rounding to whole pixels; shifts of 3 px and more, 0.2 % of them, find no surface near
    assert spread == pytest.approx(np.sqrt(0.8**2 + 1 / 12), abs=0.06)
    # the image's own border frays as well
    assert filled[3:26].min() == 1 and filled[33:].max() == 0


def test_grazed_surfaces_are_lost():
    u = np.arange(200)
    for degrees, kept in ((70, True), (82, False)):
        depth = wall(0.0)
        depth[:] = np.where(np.abs(u - 100) < 30, 700 + np.tan(np.radians(degrees)) * 700 / 525 * (u - 100), 0)
        seen = kinect_v1(depth, FX, seed=3)[0, 20:-20, 85:115] > 0
        assert seen.mean() == pytest.approx(1.0 if kept else 0.0, abs=0.15)


def test_nothing_stays_nothing():
    assert not kinect_v1(np.zeros((1, 40, 40), np.float32), FX, seed=1).any()


def test_same_seed_same_answer_and_one_stream_an_image():
    depth = np.repeat(wall(800.0, (60, 80)), 3, 0)
    fx = np.repeat(FX, 3)
    noisy = kinect_v1(depth, fx, seed=5)
    assert np.array_equal(noisy, kinect_v1(depth, fx, seed=5))
    assert not np.array_equal(noisy, kinect_v1(depth, fx, seed=6))
    assert not np.array_equal(noisy[0], noisy[1]), "images of a batch have noise of their own"
    assert np.array_equal(noisy[:1], kinect_v1(depth[:1], FX, seed=5)), "whatever else is in the batch"
    assert noisy.dtype == np.float32 and (depth == 800).all(), "the input stays as it was"


def test_the_same_on_any_number_of_threads():
    depth, fx = np.repeat(wall(900.0, (60, 80)), 4, 0), np.repeat(FX, 4)
    before, images = numba.get_num_threads(), []
    try:
        for threads in {1, numba.config.NUMBA_NUM_THREADS}:
            numba.set_num_threads(threads)
            images.append(kinect_v1(depth, fx, seed=7))
    finally:
        numba.set_num_threads(before)
    assert all(np.array_equal(images[0], other) for other in images)
