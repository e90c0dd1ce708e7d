"""The sensor models against the published formulas, and against what real sensors do to their neighbours and shadows."""

from dataclasses import asdict, replace

import numba
import numpy as np
import pytest
import torch
from core_fixtures import template

from hrlib.frames.folder import read_depth
from hrlib.synthetic.frames import Synthesiser, SyntheticSettings
from hrlib.synthetic.sensor import gpu as sensor_gpu
from hrlib.synthetic.sensor import local_noise, measure, random_sensor
from hrlib.synthetic.sensor.model import KINECT_V1, RANGES, SR300, Stereo, StructuredLight, TimeOfFlight

FX = np.array([525.0])
SENSORS = pytest.mark.parametrize("sensor", [KINECT_V1, SR300], ids=lambda sensor: sensor.name)

STEREO = Stereo(
    "stereo", noise_px=0.06, grain_px=6, step_px=1 / 32, unit_mm=0.1, baseline_mm=50.0, smear_px=2.0, smear_reach_px=6,
    window_px=3, fatten=0.2, gap=0.0, fray=0.0, holes=0.0, hole_px=8, steepest_deg=80.0,
)  # fmt: skip
TIME_OF_FLIGHT = TimeOfFlight(
    "time of flight", noise_mm=0.5, noise_growth=1.5, grazing=1.0, grain_px=1, blur_px=0.7, edge_mm=8.0, dropped=0.0,
    multipath=0.2, multipath_px=8, step_mm=0.1, baseline_mm=0.0, holes=0.0, hole_px=8, steepest_deg=84.0,
)  # fmt: skip
KINDS = pytest.mark.parametrize(
    "sensor",
    [
        KINECT_V1,
        SR300,
        replace(STEREO, fray=0.1, gap=0.1, holes=0.02, unit_mm=1.0),
        replace(TIME_OF_FLIGHT, dropped=0.5, holes=0.02),
    ],
    ids=lambda sensor: sensor.name,
)


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


@KINDS
def test_nothing_stays_nothing(sensor):
    assert not measure(np.zeros((1, 40, 90), np.float32), FX, sensor, seed=1).any()


@KINDS
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


@KINDS
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


# -- stereo -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("z", [400.0, 800.0])
def test_stereo_noise_is_of_the_disparity(z):
    noisy = measure(np.repeat(wall(z), 20, 0), np.repeat(FX, 20), replace(STEREO, step_px=1e-4), seed=1)
    assert (noisy[:, 10:-10, 10:-10] > 0).all(), "a wall has no holes"
    assert (noisy - z).std() == pytest.approx(0.06 * z**2 / (525 * 50), rel=0.05)  # sigma z^2 / (f b)


def test_stereo_disparities_come_in_steps():
    noisy = measure(wall(800.0), FX, replace(STEREO, unit_mm=1e-4), seed=1)
    steps = 525 * 50 / noisy.astype(np.float64) * 32
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-3)
    assert len(np.unique(np.rint(steps))) > 5


def test_stereo_smears_a_small_step_and_fills_its_shadow():
    depth = wall(720.0)
    depth[:, :, 100:] = 700.0  # a step of 1.04 px
    noisy = measure(depth, FX, replace(STEREO, noise_px=0, step_px=1e-4), seed=1)[0, 80]
    between = np.flatnonzero((noisy > 700.5) & (noisy < 719.5))
    assert (noisy > 0).all() and (np.diff(noisy) < 0.2).all()
    # windows of 7 and 13 px: a ramp of 19 px, of whose ends half a millimetre is left out
    assert between.min() == pytest.approx(92, abs=2) and between.max() == pytest.approx(107, abs=2)


def test_stereo_fattens_a_near_finger_and_shades_one_side():
    depth = wall(900.0, (60, 200))
    depth[:, :, 90:110] = 600.0
    sensor = replace(STEREO, noise_px=0, step_px=1e-4)
    row = measure(depth, FX, sensor, seed=4)[0, 30]
    near = np.flatnonzero(np.abs(row - 600) < 1)
    assert (near.min(), near.max()) == (89, 110), "windows with 3 of 7 columns of it: more than 0.3"
    shadow = 525 * 50 * (1 / 600 - 1 / 900)
    assert (row[60:90] == 0).sum() == pytest.approx(shadow - 1, abs=1) and (row[112:] > 0).all()
    other = measure(depth, FX, replace(sensor, baseline_mm=-50.0), seed=4)[0, 30]
    np.testing.assert_array_equal(other, row[::-1])
    gaps = measure(depth, FX, replace(sensor, gap=0.5), seed=4)[0, 30]
    assert (gaps[110:120] == 0).sum() == 3, "shares of 1/7 to 3/7 of the window match nothing"


@pytest.mark.parametrize("sensor", [STEREO, TIME_OF_FLIGHT], ids=lambda sensor: sensor.name)
def test_holes_are_patches_of_the_given_share(sensor):
    seen = measure(np.repeat(wall(800.0), 20, 0), np.repeat(FX, 20), replace(sensor, holes=0.05), seed=2) > 0
    assert 1 - seen.mean() == pytest.approx(0.05, rel=0.2)
    beside = ~seen[:, :, 1:] & ~seen[:, :, :-1]
    assert beside.sum() > 0.6 * (~seen).sum(), "patches, not single pixels"


# -- time of flight ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("z, degrees", [(500.0, 0), (1500.0, 0), (700.0, 60)])
def test_time_of_flight_noise_grows_with_distance_and_angle(z, degrees):
    clean = slanted(z, degrees, 40)[:, :, 80:120]
    noisy = measure(clean, np.repeat(FX, 40), replace(TIME_OF_FLIGHT, multipath=0.0), seed=1)
    error = (noisy - clean)[:, 5:-5, 18:22]
    assert error.std() == pytest.approx((0.5 + 1.5 * (z / 1000) ** 2) / np.cos(np.radians(degrees)), rel=0.05)


def test_pixels_fly_at_an_outline_until_they_are_dropped():
    depth = wall(900.0, (60, 200))
    depth[:, :, 100:] = 600.0
    sensor = replace(TIME_OF_FLIGHT, noise_mm=0.0, noise_growth=0.0, multipath=0.0)
    row = measure(depth, FX, sensor, seed=1)[0, 30]
    flying = np.flatnonzero((row > 610) & (row < 890))
    assert list(flying) == [99, 100] and (row > 0).all()
    kernel = np.exp(-0.5 * (np.arange(-2, 3) / 0.7) ** 2)
    near, far = kernel[3:].sum() / 600**2, kernel[:3].sum() / 900**2  # less light comes back from afar
    assert row[99] == pytest.approx((near * 600 + far * 900) / (near + far), abs=0.1)
    dropped = measure(depth, FX, replace(sensor, dropped=1.0), seed=1)[0, 30]
    assert not dropped[flying].any() and (dropped[:96] > 0).all() and (dropped[104:] > 0).all()


def test_concave_places_are_too_far():
    u = np.abs(np.arange(200) - 100)
    sensor = replace(TIME_OF_FLIGHT, noise_mm=0.0, noise_growth=0.0)
    for valley in (True, False):
        depth = np.repeat((700 - u if valley else 600 + u)[None, None], 60, 1).astype(np.float32)
        error = (measure(depth, FX, sensor, seed=1) - depth)[0, 20:-20]
        # the mean of |k| over 17 columns is 72 / 17 mm
        assert error[:, 100].mean() == pytest.approx(0.2 * 72 / 17 if valley else 0, abs=0.6)
        assert np.abs(error[:, 130:150]).max() < 0.2, "a plane is neither"


# -- sensors drawn at random ------------------------------------------------------------------------------------------


def test_random_sensors_are_of_all_kinds_and_within_their_ranges():
    sensors = [random_sensor(torch.Generator().manual_seed(seed)) for seed in range(200)]
    assert sensors[3] == random_sensor(torch.Generator().manual_seed(3)) and len(set(sensors)) == 200
    counts = {kind: 0 for kind in RANGES}
    for sensor in sensors:
        kind = "near" if isinstance(sensor, StructuredLight) and sensor.step_mm > 0 else type(sensor)
        counts[kind] += 1
        for name, (low, high) in RANGES[kind].items():
            value = abs(getattr(sensor, name))
            assert low <= value <= high and isinstance(value, type(low)), (sensor, name)
        assert set(asdict(sensor)) == {"name", *RANGES[kind]}
    assert min(counts.values()) > 30, counts
    assert 60 < sum(sensor.baseline_mm > 0 for sensor in sensors) < 140, "either side"
    more = [random_sensor(torch.Generator().manual_seed(seed), stereo=0.2) for seed in range(200)]
    assert 60 < sum(isinstance(sensor, Stereo) for sensor in more) < 100, "a quarter, and a fifth of the others"


def test_random_sensors_see_most_of_a_hand():
    maker, generator = Synthesiser(template(), SyntheticSettings(noise_share=0.0)), torch.Generator().manual_seed(1)
    drawn = maker.draw(*maker.sample(4, generator), generator)
    for _ in range(40):
        sensor = random_sensor(generator)
        noisy = measure(drawn.clean_mm, drawn.intrinsics[:, 0], sensor, seed=1)
        hand = drawn.clean_mm > 0
        right = hand & (np.abs(noisy - drawn.clean_mm) < 30)
        assert right.sum() > 0.5 * hand.sum(), sensor
        assert (~hand & (noisy > 0)).sum() < 0.35 * hand.sum(), sensor


# -- beside real frames -----------------------------------------------------------------------------------------------
# Only noise and outlines of real frames are looked at here, and no joints beyond where the hand is.


def real_hands(mirror, folder: str) -> tuple[list[np.ndarray], float]:
    """A window around each third labelled hand, and the focal length in px."""
    labels, hands = np.load(mirror / folder / "joints.npz"), []
    fx, fy, cx, cy = labels["camera"]
    files = sorted((mirror / folder / "frames").glob("*.png"))
    for file, joints in list(zip(files, labels["joints_mm"], strict=True))[::3]:
        u, v = joints[:, 0] / joints[:, 2] * fx + cx, joints[:, 1] / joints[:, 2] * fy + cy
        middle_u, middle_v = int(np.median(u)), int(np.median(v))
        depth = read_depth(file).astype(np.float32)
        hands.append(depth[max(middle_v - 112, 0) : middle_v + 112, max(middle_u - 112, 0) : middle_u + 112])
    return hands, float(fx)


def roughness(images, fx: float, nearest_mm: float) -> tuple[float, float]:
    """Median `local_noise` (mm) of what lies within `nearest_mm` of the nearest: below 20 degrees, and from 40 to 60."""
    facing, oblique = [], []
    for image in images:
        least = np.percentile(image[image > 0], 1)
        _, angle, sigma = local_noise(np.where(image < least + nearest_mm, image, 0), fx)
        facing.append(sigma[angle < np.radians(20)])
        oblique.append(sigma[(angle > np.radians(40)) & (angle < np.radians(60))])
    return float(np.median(np.concatenate(facing))), float(np.median(np.concatenate(oblique)))


def outline_widths(images) -> np.ndarray:
    """Of the rows in which a hand stands 40 to 200 mm before a surface: pixels from 30 to 80 % of the way between the two."""
    widths = []
    for row in (row for image in images for row in image[::4]):
        start = int(np.argmin(np.where(row > 0, row, np.inf)))
        for side in (row[start:], row[: start + 1][::-1]):
            side = side[:90]
            rise = np.median(side[-15:]) - side[0]
            if len(side) < 60 or not 40 < rise < 200 or (side[-15:] == 0).any():
                continue
            part = (side - side[0]) / rise
            first, last = int(np.argmax(part > 0.3)), int(np.argmax(part > 0.8))
            if (side[first : last + 1] > 0).all():
                widths.append(last - first)
    return np.array(widths)


def drawn_hands(distance_mm, focal_px: float, table_mm: float | None) -> np.ndarray:
    """Four exact hands of the template, before a table or nothing."""
    settings = SyntheticSettings(
        distance_mm, 0.05, noise_share=0.0, focal_px=focal_px, forearm_share=1.0, forearm_mm=200.0
    )
    maker, generator = Synthesiser(template(), settings), torch.Generator().manual_seed(1)
    clean = maker.draw(*maker.sample(4, generator), generator).clean_mm
    for image in clean if table_mm else ():
        image[image == 0] = np.median(image[image > 0]) + table_mm
    return clean


def sensors_of(kind, count: int):
    """The first `count` random sensors of a kind."""
    generator, found = torch.Generator().manual_seed(1), []
    while len(found) < count:
        sensor = random_sensor(generator)
        near = isinstance(sensor, StructuredLight) and sensor.step_mm > 0
        if ("near" if near else type(sensor)) == kind:
            found.append(sensor)
    return found


@pytest.mark.mirror
def test_random_sensors_are_as_rough_as_real_ones(mirror):
    """Each real sensor lies within what the random ones of its kind do to the template's hand at its distance."""
    sr305 = [read_depth(file, 0.125) for file in sorted((mirror / "sr305").glob("*/*.png"))[::3]]
    msra = np.loadtxt(mirror / "msra_frame" / "msra-hand.txt").reshape(240, 320)
    real = {
        "SR305": (sr305, 476.0, 150.0, "near", (480.0, 650.0)),
        "handpose_x_plus": (*real_hands(mirror, "handpose_x_plus"), 90.0, "near", (430.0, 470.0)),
        "D435": (*real_hands(mirror, "d435_table"), 60.0, Stereo, (680.0, 800.0)),
        "MSRA": ([np.where(msra < 340, msra, 0)], 241.4, 90.0, TimeOfFlight, (250.0, 290.0)),
    }
    for name, (images, fx, nearest_mm, kind, distance_mm) in real.items():
        measured = roughness(images, fx, nearest_mm)
        clean = drawn_hands(distance_mm, fx, 100.0 if kind is Stereo else None)
        made = [measure(clean, np.full(4, fx), sensor, seed=1) for sensor in sensors_of(kind, 16)]
        random = np.array([roughness(noisy, fx, nearest_mm) for noisy in made])
        print(name, np.round(measured, 3), "random: least", random.min(0).round(3), "greatest", random.max(0).round(3))
        # half as much either way: the real hands are other hands in other poses
        assert (random.min(0) / 1.5 < measured).all() and (measured < random.max(0) * 1.5).all(), name


@pytest.mark.mirror
def test_random_stereo_smears_outlines_as_a_real_one_does(mirror):
    images, fx = real_hands(mirror, "d435_table")
    real, clean = outline_widths(images), drawn_hands((680.0, 800.0), fx, 100.0)
    sharp = outline_widths(clean)
    random = [outline_widths(measure(clean, np.full(4, fx), sensor, seed=1)) for sensor in sensors_of(Stereo, 16)]
    medians = np.array([np.median(widths) for widths in random if len(widths) > 10])
    print(
        "D435",
        len(real),
        np.percentile(real, [10, 50, 90]),
        "exact",
        np.percentile(sharp, [10, 50, 90]),
        "random",
        medians,
    )
    assert np.median(sharp) + 3 < np.median(real), "a real outline is a ramp"
    assert medians.min() < np.median(real) < 1.25 * medians.max()


def test_nothing_is_measured_behind_the_lens():
    """Near a lens, a time-of-flight camera's noise is larger than the distance; depth stays a depth."""
    near = np.full((40, 20, 20), 3.0, np.float32)
    for seed in range(20):
        sensor = random_sensor(torch.Generator().manual_seed(seed))
        assert measure(near, np.full(40, 300.0), sensor, seed).min() >= 0
