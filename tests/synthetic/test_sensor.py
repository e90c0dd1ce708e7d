"""The sensor models against the published formulas, and against what real sensors do to their neighbours and shadows."""

import numba
import numpy as np
import pytest
import torch
from core_fixtures import template

from hrlib.synthetic.frames import Synthesiser, SyntheticSettings
from hrlib.synthetic.sensor import gpu as sensor_gpu
from hrlib.synthetic.sensor import local_noise, measure
from hrlib.synthetic.sensor.model import KINECT_V1, SR300, Stereo, StructuredLight, TimeOfFlight, random_sensor

FX = np.array([525.0])
SENSORS = pytest.mark.parametrize("sensor", [KINECT_V1, SR300], ids=lambda sensor: sensor.name)


def wall(z_mm: float, size=(160, 200)) -> np.ndarray:
    return np.full((1, *size), z_mm, np.float32)


def slanted(z_mm: float, degrees: float, count: int, width: int = 200) -> np.ndarray:
    """A plane whose normal is turned away from the image's by an angle, about the vertical: [count, 100, width]."""
    u = np.arange(width) - width // 2
    depth = z_mm / (1 - np.tan(np.radians(degrees)) * u / FX[0])
    return np.repeat(np.broadcast_to(depth, (1, 100, width)), count, 0).astype(np.float32)


def local_roughness_mm(noisy: np.ndarray) -> float:
    """Median residual of planes fitted to 5x5 pixels, in which the eye sees how rough a surface is."""
    v, u = np.mgrid[-2:3, -2:3]
    design = np.c_[u.ravel(), v.ravel(), np.ones(25)]
    windows = np.lib.stride_tricks.sliding_window_view(noisy, (5, 5))[::3, ::3].reshape(-1, 25).astype(np.float64)
    residual = windows - windows @ np.linalg.pinv(design).T @ design.T
    return float(np.median(np.sqrt((residual**2).sum(1) / 22)))


@pytest.mark.parametrize("z, degrees", [(500.0, 0), (800.0, 30), (1500.0, 0), (3000.0, 0), (700.0, 70), (700.0, 75)])
def test_kinect_axial_noise_is_the_published_one(z, degrees):
    clean = slanted(z, degrees, 150)[:, :, 80:120]
    noisy = measure(clean, np.repeat(FX, 150), KINECT_V1, seed=1)
    error = (noisy - clean)[:, 5:-5, 18:22]
    assert (noisy[:, 5:-5, 18:22] > 0).all(), "a wall has no holes"
    metres, angle = z / 1000, np.radians(degrees)
    sigma = 0.0012 + 0.0019 * (metres - 0.4) ** 2  # Nguyen et al. 2012, in metres
    if degrees > 60:
        sigma += 0.0001 / np.sqrt(metres) * (angle / (np.pi / 2 - angle)) ** 2
    step_mm = 2.85e-6 * z**2  # Khoshelham & Elberink 2012
    assert KINECT_V1.axial_sigma_mm(z, angle) == pytest.approx(1000 * sigma, rel=1e-6)
    # 150 images x 11 lattice nodes or so: the standard deviation scatters by 2 %, and the plane is 3 px of slope wide
    assert error.std() == pytest.approx(np.sqrt((1000 * sigma) ** 2 + step_mm**2 / 12), rel=0.08)
    assert abs(error.mean()) < 0.1 * error.std()


def test_values_come_in_steps():
    noisy = measure(wall(800.0), FX, KINECT_V1, seed=1)
    steps = noisy / (2.85e-6 * 800.0**2)
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-3)
    assert len(np.unique(noisy)) > 3
    eighths = measure(wall(500.0), FX, SR300, seed=1) * 8
    np.testing.assert_array_equal(eighths, np.rint(eighths))


@pytest.mark.parametrize("sensor, z, real_mm", [(KINECT_V1, 750, 0.52), (KINECT_V1, 850, 0.60), (SR300, 750, 0.09)])
def test_as_rough_as_real_frames(sensor, z, real_mm):
    """real_mm: the same measure on surfaces less than 20 degrees oblique in the ASL (Kinect) and SR305 frames."""
    assert local_roughness_mm(measure(slanted(z, 10, 1), FX, sensor, seed=3)[0, 5:-5, 5:-5]) == pytest.approx(
        real_mm, rel=0.25
    )


@SENSORS
def test_an_outline_frays_by_the_lateral_noise(sensor):
    depth = wall(800.0, (2000, 60))
    depth[:, :, 30:] = 0
    filled = (measure(depth, FX, sensor, seed=2)[0, 5:-5] > 0).mean(0)
    fall = filled[10:49] - filled[11:50]  # how many edges lie between one column and the next
    x = np.arange(10.5, 49)
    centre = (fall * x).sum() / fall.sum()
    spread = np.sqrt((fall * (x - centre) ** 2).sum() / fall.sum())
    assert centre == pytest.approx(29.5, abs=0.15)
    # the rounding to whole pixels adds 1/12; shifts of 3 px and more find no surface near
    assert spread == pytest.approx(np.sqrt(sensor.lateral_px**2 + 1 / 12), abs=0.1)
    assert filled[3:26].min() == 1 and filled[33:].max() == 0


def test_grazed_surfaces_are_lost():
    for degrees, kept in ((70, True), (82, False)):
        seen = measure(slanted(700, degrees, 1, 60), FX, KINECT_V1, seed=3)[0, 20:-20, 15:45] > 0
        assert seen.mean() == pytest.approx(1.0 if kept else 0.0, abs=0.15)


@SENSORS
def test_a_near_finger_throws_a_shadow_on_the_palm_behind(sensor):
    depth = wall(700.0, (60, 200))
    depth[:, :, 90:110] = 600.0
    seen = measure(depth, FX, sensor, seed=4)[0, 10:-10] > 0
    width_px = 525 * abs(sensor.baseline_mm) * (1 / 600 - 1 / 700)  # by similar triangles
    left, right = (~seen[:, 60:90]).sum(1).mean(), (~seen[:, 110:140]).sum(1).mean()
    shadow, other = (left, right) if sensor.baseline_mm > 0 else (right, left)
    assert shadow == pytest.approx(width_px, abs=1.0) and other < 0.5
    assert seen[:, 94:106].all(), "the finger itself is lit"


def test_nothing_stays_nothing():
    generator = torch.Generator().manual_seed(0)
    sensors = {type(sensor): sensor for sensor in (random_sensor(generator) for _ in range(40))}
    assert set(sensors) == {StructuredLight, Stereo, TimeOfFlight}
    for sensor in sensors.values():
        assert not measure(np.zeros((1, 90, 90), np.float32), FX, sensor, seed=1).any()


@SENSORS
def test_same_seed_same_answer_and_one_stream_an_image(sensor):
    depth, fx = np.repeat(wall(800.0, (60, 80)), 3, 0), np.repeat(FX, 3)
    noisy = measure(depth, fx, sensor, seed=5)
    assert np.array_equal(noisy, measure(depth, fx, sensor, seed=5))
    assert not np.array_equal(noisy, measure(depth, fx, sensor, seed=6))
    assert not np.array_equal(noisy[0], noisy[1]), "images of a batch have noise of their own"
    assert np.array_equal(noisy[:1], measure(depth[:1], FX, sensor, seed=5)), "whatever else is in the batch"
    assert noisy.dtype == np.float32 and (depth == 800).all(), "the input stays as it was"


def test_the_same_on_any_number_of_threads():
    depth, fx = np.repeat(wall(900.0, (60, 80)), 4, 0), np.repeat(FX, 4)
    before, images = numba.get_num_threads(), []
    try:
        for threads in {1, numba.config.NUMBA_NUM_THREADS}:
            numba.set_num_threads(threads)
            images.append(measure(depth, fx, KINECT_V1, seed=7))
    finally:
        numba.set_num_threads(before)
    assert all(np.array_equal(images[0], other) for other in images)


def test_local_noise_of_a_known_surface():
    depth = slanted(700, 30, 1)[0].copy()
    depth += np.random.default_rng(1).normal(0, 0.5, depth.shape)
    depth[:, 150:] += 200  # another surface: windows across the step do not count
    z, angle, sigma = local_noise(depth, 525.0)
    assert np.median(sigma) == pytest.approx(0.5, rel=0.05)
    assert np.rad2deg(np.median(angle)) == pytest.approx(30, abs=3)
    assert 600 < z.min() and np.percentile(sigma, 99) < 1


@SENSORS
def test_torch_form_measures_the_same(sensor):
    """What a CUDA device runs, here on the CPU: equal but where a shift or a step is just between two."""
    maker, generator = Synthesiser(template(), SyntheticSettings(noise_share=0.0)), torch.Generator().manual_seed(1)
    drawn = maker.draw(*maker.sample(12, generator), generator)
    fx = drawn.intrinsics[:, 0]
    expected = measure(drawn.clean_mm, fx, sensor, seed=5)
    found = sensor_gpu.measure(torch.from_numpy(drawn.clean_mm), torch.from_numpy(fx), sensor, seed=5).numpy()
    assert found.dtype == np.float32 and (expected > 0).sum() > 30_000
    assert ((found > 0) != (expected > 0)).sum() <= 10, "where nothing is read"
    assert (np.abs(found - expected) > 0.01).sum() < 5e-4 * (expected > 0).sum()
    assert np.abs(drawn.clean_mm - expected)[expected > 0].mean() > 0.1, "it does something"
