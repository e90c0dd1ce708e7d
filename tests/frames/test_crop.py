"""Cropping, on frames whose geometry is known in closed form."""

import numpy as np
import pytest
import torch
from finder_fixtures import blocks, by_depth  # noqa: F401
from scipy.spatial import cKDTree

from hrlib.frames import find
from hrlib.frames.camera import Camera
from hrlib.frames.crop import IMAGE_SIZE, POINTS, crop_batch, crop_hand, crop_images
from hrlib.frames.crops import Crops, concatenate
from hrlib.frames.find import crop_frame, crop_frames, expected_places
from hrlib.frames.finder import Found
from hrlib.frames.frame import Frame

OFF_CENTRE = Camera(475.0, 470.0, 250.0, 130.0)


def sphere(camera: Camera, centre_mm, radius_mm: float, size=(400, 520)) -> np.ndarray:
    """Depth image [H, W] of a sphere: the nearer crossing of each pixel's ray."""
    v, u = np.mgrid[: size[0], : size[1]].astype(float)
    ray = np.stack([(u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy, np.ones_like(u)], -1)
    centre = np.asarray(centre_mm, float)
    a, b, c = (ray**2).sum(-1), ray @ centre, centre @ centre - radius_mm**2
    inside = b * b - a * c
    return np.where(inside > 0, (b - np.sqrt(np.maximum(inside, 0))) / a, 0).astype(np.float32)


def plane(camera: Camera, depth_mm: float, size=(300, 500), box=None) -> np.ndarray:
    """A wall at one depth, [H, W]; `box` (v0, v1, u0, u1) keeps a part of it."""
    image = np.zeros(size, np.float32)
    v0, v1, u0, u1 = box or (0, size[0], 0, size[1])
    image[v0:v1, u0:u1] = depth_mm
    return image


@pytest.mark.parametrize("camera", [Camera(475.0, 475.0, 259.5, 199.5), OFF_CENTRE])
def test_points_lie_exactly_on_a_sphere(camera):
    centre, radius = np.array([30.0, 25.0, 700.0]), 60.0
    crops = crop_hand(sphere(camera, centre, radius), camera, cube_mm=250.0)
    n = int(crops.count[0])
    points = (crops.points[0, :n].double().numpy() - 0.5) * 250 + crops.centre_mm[0].double().numpy()
    # float32 of 700 mm: 6e-5 mm a rounding
    np.testing.assert_allclose(np.linalg.norm(points - centre, axis=1), radius, rtol=0, atol=2e-3)
    assert n > 300
    # the centre is the mean of what is seen: on the line to the sphere's centre, on its near half
    seen = crops.centre_mm[0].double().numpy()
    np.testing.assert_allclose(seen[:2] / seen[2], centre[:2] / centre[2], atol=2e-3)
    assert centre[2] - radius < seen[2] < centre[2] - radius / 3


def test_centre_is_the_mean_of_the_masked_points():
    frame = sphere(OFF_CENTRE, [30.0, 25.0, 700.0], 60.0)
    mask = np.zeros(frame.shape, bool)
    mask[:150] = True
    crops = crop_hand(frame, OFF_CENTRE, mask)
    expected = OFF_CENTRE.cloud(frame, mask).astype(np.float64).mean(0)
    np.testing.assert_allclose(crops.centre_mm[0].numpy(), expected, atol=1e-3)
    assert crops.image[0, -1].max() == 0, "nothing outside the mask is seen"


def test_value_is_one_minus_z():
    camera = Camera(475.0, 475.0, 250.0, 150.0)
    crops = crop_hand(plane(camera, 600.0), camera, cube_mm=200.0, centre_mm=[0.0, 0.0, 640.0])
    # 40 mm before the centre of a cube of 200: z = 0.5 - 40/200 = 0.3
    torch.testing.assert_close(crops.image[0], torch.full((120, 120), 0.7), rtol=0, atol=1e-5)
    torch.testing.assert_close(crops.points[0, :, 2], torch.full((POINTS,), 0.3), rtol=0, atol=1e-5)
    assert crops.cube_mm == 200.0


@pytest.mark.parametrize("offset, seen", [(-124.0, True), (124.0, True), (-126.0, False), (126.0, False)])
def test_what_lies_before_or_behind_the_cube_is_cut(offset, seen):
    camera = Camera(475.0, 475.0, 250.0, 150.0)
    crops = crop_hand(plane(camera, 700.0 + offset), camera, centre_mm=[0.0, 0.0, 700.0])
    assert bool(crops.image.any()) == seen
    assert (crops.image >= 0).all() and (crops.image <= 1).all()


def test_image_has_u_right_and_v_down():
    camera = Camera(500.0, 500.0, 100.0, 80.0)
    frame = plane(camera, 600.0, (200, 240), (90, 110, 130, 150))  # right of the optical axis and below it
    crops = crop_hand(frame, camera, centre_mm=[0.0, 0.0, 600.0])
    rows, columns = np.nonzero(crops.image[0].numpy())
    # u = 139.5: x = 39.5 / 500 * 600 = 47.4 mm; column (47.4 / 250 + 0.5) * 120 - 0.5 = 82.3; v = 99.5: 70.7
    assert columns.mean() == pytest.approx(82.3, abs=0.6) and rows.mean() == pytest.approx(70.7, abs=0.6)
    x, y = crops.points[0, :, 0].mean(), crops.points[0, :, 1].mean()
    assert x == pytest.approx(0.5 + 47.4 / 250, abs=0.01) and y == pytest.approx(0.5 + 23.4 / 250, abs=0.01)


def test_focal_lengths_of_non_square_pixels():
    camera = Camera(500.0, 250.0, 160.0, 60.0)
    frame = plane(camera, 500.0, (120, 320), (40, 80, 110, 210))  # 100 mm wide, 80 mm high
    image = crop_hand(frame, camera, centre_mm=[0.0, 0.0, 500.0]).image[0]
    rows, columns = np.nonzero(image.numpy())
    assert columns.max() - columns.min() + 1 == pytest.approx(100 / 250 * 120, abs=1.5)
    assert rows.max() - rows.min() + 1 == pytest.approx(80 / 250 * 120, abs=2.5)


def test_each_pixel_is_the_nearest_source_pixel():
    """The image D pixel by pixel against its definition, and the points against the unprojected source pixels."""
    rng = np.random.default_rng(0)
    camera = OFF_CENTRE
    frame = (650 + 60 * rng.random((300, 420))).astype(np.float32)
    frame[rng.random(frame.shape) < 0.1] = 0
    centre, cube = np.array([-20.0, 30.0, 680.0]), 250.0
    crops = crop_hand(frame, camera, cube_mm=cube, centre_mm=centre)
    half = (np.arange(IMAGE_SIZE) + 0.5) / IMAGE_SIZE - 0.5
    u = np.rint(camera.cx + camera.fx * (centre[0] + half * cube) / centre[2]).astype(int)
    v = np.rint(camera.cy + camera.fy * (centre[1] + half * cube) / centre[2]).astype(int)
    inside = ((v >= 0) & (v < 300))[:, None] & ((u >= 0) & (u < 420))
    source = np.where(inside, frame[v.clip(0, 299)][:, u.clip(0, 419)], 0)
    expected = np.where(source > 0, 0.5 - (source - centre[2]) / cube, 0)
    np.testing.assert_allclose(crops.image[0].numpy(), expected, atol=1e-6)

    all_points = camera.unproject(*np.meshgrid(u.astype(float), v.astype(float)), source.astype(float))[source > 0]
    n = int(crops.count[0])
    ours = (crops.points[0, :n].double().numpy() - 0.5) * cube + centre
    difference, _ = cKDTree(all_points).query(ours)
    # float32 of the crop frame: 6e-8 of 250 mm, with a few roundings
    assert difference.max() < 1e-3


def test_points_are_staggered_every_other_row_and_outlines():
    camera = Camera(475.0, 475.0, 250.0, 150.0)
    crops = crop_hand(plane(camera, 700.0), camera, centre_mm=[0.0, 0.0, 700.0], cube_mm=150.0)
    assert (crops.image > 0).all()
    # a wall without outlines: every second row, every second column, half a step apart: a quarter of 14400, thinned
    assert int(crops.count[0]) == POINTS
    small = crop_hand(plane(camera, 700.0, box=(120, 181, 220, 281)), camera, centre_mm=[0.0, 0.0, 700.0])
    image = small.image[0].numpy() > 0
    i, j = np.nonzero(image)
    grid = (i % 2 == 0) & (j % 2 == (i // 2) % 2)
    edge = (i == i.min()) | (i == i.max()) | (j == j.min()) | (j == j.max())
    assert int(small.count[0]) == int((grid | edge).sum())


def test_a_full_image_is_thinned_evenly():
    camera = Camera(475.0, 475.0, 250.0, 150.0)
    crops = crop_hand(plane(camera, 700.0), camera, centre_mm=[0.0, 0.0, 700.0], cube_mm=150.0)
    assert int(crops.count[0]) == POINTS
    quarters = [((crops.points[0, :, 1] >= k / 4) & (crops.points[0, :, 1] < (k + 1) / 4)).sum() for k in range(4)]
    assert min(quarters) > 0.9 * POINTS / 4, "not just the first rows"


def test_padding_repeats_the_points():
    camera = Camera(475.0, 475.0, 250.0, 150.0)
    crops = crop_hand(plane(camera, 700.0, box=(140, 160, 240, 260)), camera)
    n = int(crops.count[0])
    assert 10 < n < POINTS / 2
    points = crops.points[0]
    assert len(torch.unique(points, dim=0)) == n
    torch.testing.assert_close(points[n : 2 * n], points[:n])
    assert crops.points.shape == (1, POINTS, 3)


def test_cube_partly_outside_the_image():
    camera = Camera(475.0, 475.0, 250.0, 150.0)
    frame = plane(camera, 700.0)
    corner = camera.unproject(np.float32(0), np.float32(0), np.float32(700))  # the image's first pixel in the middle
    image = crop_hand(frame, camera, centre_mm=corner).image[0]
    assert image[:59, :].max() == 0 and image[:, :59].max() == 0 and (image[61:, 61:] > 0).all()
    away = crop_hand(frame, camera, centre_mm=[5000.0, 0.0, 700.0])
    assert not away.image.any() and int(away.count[0]) == 0
    assert torch.isfinite(away.points).all(), "the renderer refuses points that are not finite"


def test_batch_equals_its_images_one_by_one():
    frames = np.stack([sphere(OFF_CENTRE, c, 50.0) for c in ([0, 0, 600], [40, -10, 700], [-60, 60, 650])])
    intrinsics = np.array([[OFF_CENTRE.fx, OFF_CENTRE.fy, OFF_CENTRE.cx, OFF_CENTRE.cy]] * 3, np.float32)
    batch = crop_batch(frames, intrinsics)
    joined = concatenate([crop_hand(frame, OFF_CENTRE) for frame in frames])
    for key in ("image", "points", "centre_mm", "count"):
        assert torch.equal(getattr(batch, key), getattr(joined, key)), key
    assert len(batch) == 3 and len(batch[1:]) == 2
    assert torch.equal(batch[[2, 0]].centre_mm, batch.centre_mm[[2, 0]])
    with pytest.raises(ValueError, match=r"need one cube_mm, got \[200.0, 250.0\]"):
        concatenate([batch, Crops(batch.image, batch.points, batch.centre_mm, batch.count, 200.0)])


@pytest.mark.parametrize("one", [1, -2, np.int64(1), np.array(1), torch.tensor(1)])
def test_an_integer_of_any_kind_is_a_batch_of_one(one):
    frames = np.stack([sphere(OFF_CENTRE, [20 * k, 0, 600], 50.0) for k in range(3)])
    batch = crop_batch(frames, np.tile(np.float32([475, 470, 250, 130]), (3, 1)))
    assert len(batch[one]) == 1 and torch.equal(batch[one].centre_mm, batch.centre_mm[1:2])
    for some in (slice(1, 3), [1, 2], torch.tensor([1, 2]), np.array([False, True, True])):
        assert torch.equal(batch[some].image, batch.image[1:])


def test_torch_form_crops_the_same():
    """What a CUDA device runs, here on the CPU; one frame is empty, one hand partly outside of its image."""
    frames = np.stack([sphere(OFF_CENTRE, c, 50.0) for c in ([0, 0, 600], [40, -10, 700], [360, 60, 650], [0, 0, 600])])
    frames[3] = 0
    intrinsics = np.array([[OFF_CENTRE.fx, OFF_CENTRE.fy, OFF_CENTRE.cx, OFF_CENTRE.cy]] * 4, np.float32)
    expected = crop_batch(frames, intrinsics)
    found = crop_images(torch.from_numpy(frames), torch.from_numpy(intrinsics), 250.0)
    torch.testing.assert_close(found.image, expected.image, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.centre_mm, expected.centre_mm, rtol=0, atol=1e-3, equal_nan=True)
    assert found.points.shape == (4, 0, 3) and not expected.image[3].any() and expected.image[:3].any()


def test_input_is_left_as_it_was():
    frame = sphere(OFF_CENTRE, [0, 0, 600], 50.0)
    copy = frame.copy()
    crop_hand(frame, OFF_CENTRE, frame > 570)
    assert np.array_equal(frame, copy)


def test_errors():
    frame, camera = plane(OFF_CENTRE, 700.0), OFF_CENTRE
    broken = frame.copy()
    broken[3, 4] = np.nan
    for bad in (np.nan, np.inf):
        broken[3, 4] = bad
        with pytest.raises(ValueError, match="NaN or infinite"):
            crop_hand(broken, camera)
    with pytest.raises(ValueError, match="the mask is empty"):
        crop_hand(frame, camera, np.zeros(frame.shape, bool))
    with pytest.raises(ValueError, match="the mask is empty"):
        crop_hand(np.zeros((10, 10)), camera)
    with pytest.raises(ValueError, match=r"depth_mm must be one image \[H, W\], got \[2, 300, 500\]"):
        crop_hand(np.stack([frame, frame]), camera)
    with pytest.raises(ValueError, match=r"mask must have depth_mm's shape \[300, 500\], got \[300, 499\]"):
        crop_hand(frame, camera, np.ones((300, 499), bool))
    for cube in (0, -5.0, float("nan")):
        with pytest.raises(ValueError, match="cube_mm must be positive"):
            crop_hand(frame, camera, cube_mm=cube)


def test_crop_frames_leaves_out_frames_without_a_hand_and_says_why():
    camera = Camera(475.0, 475.0, 250.0, 150.0)
    blob = plane(camera, 700.0, box=(100, 200, 200, 300))
    good = Frame("good", blob, camera, blob > 0, None)
    empty = Frame("empty", np.zeros_like(blob), camera, None, None)
    crops, kept, left_out = crop_frames([good, empty], progress=False)
    assert len(crops) == 1 and [f.name for f in kept] == ["good"] and set(left_out) == {"empty"} and left_out["empty"]
    unmarked = [Frame("none", blob, camera, blob < 0), Frame("unmeasured", blob, camera, blob == 0)]
    crops, _, left_out = crop_frames([good, *unmarked], progress=False)
    assert len(crops) == 1 and set(left_out) == {"none", "unmeasured"} and "mask is empty" in left_out["unmeasured"]
    with pytest.raises(ValueError, match="no hand in any of the 1 frames .empty: "):
        crop_frames([empty], progress=False)


def test_a_hand_does_not_jump_and_neighbours_tell_where_it_is():
    t = np.arange(40.0)
    path = np.stack([5 * t, 100 * np.sin(t / 9), 600 + 2 * t], 1)
    seen = path.copy()
    seen[7] += [0, 120, 0]  # the arm, taken for the hand
    seen[20:24] = np.nan  # nothing found
    expected = expected_places(seen, ["one"] * 40)
    assert np.flatnonzero(np.isfinite(expected[:, 0])).tolist() == [7, 20, 21, 22, 23]
    assert np.abs(expected - path)[[7, 20, 21, 22, 23]].max() < 15
    # another recording tells nothing, and neither does what is a second away
    two = np.concatenate([path, path + [300, 0, 0]])
    assert np.isnan(expected_places(two, ["one"] * 40 + ["two"] * 40)).all()
    seen = path.copy()
    seen[2:] = np.nan
    assert np.isfinite(expected_places(seen, ["one"] * 40)[:, 0]).sum() == 15
    assert np.isnan(expected_places(np.full((3, 3), np.nan), ["one"] * 3)).all()


@pytest.mark.usefixtures("by_depth")
def test_crop_frames_looks_again_where_neighbours_have_the_hand():
    camera = Camera(400.0, 400.0, 159.5, 119.5)
    own, other = (slice(40, 120), slice(40, 120), 450.0), (slice(120, 220), slice(200, 310), 480.0)
    alone, both = blocks(own, size=(240, 320)), blocks(own, other, size=(240, 320))
    frames = [Frame(f"one/{i}", depth, camera) for i, depth in enumerate((alone, both, alone))]
    larger = crop_frames(frames[1:2], progress=False)[0]
    crops, kept, left_out = crop_frames(frames, progress=False)
    assert len(kept) == 3 and not left_out
    off = (crops.centre_mm - crops.centre_mm[0]).norm(dim=1)
    assert off[1] < 1 < 100 < (larger.centre_mm[0] - crops.centre_mm[0]).norm()


def test_where_the_finder_sees_no_hand_the_nearest_is_segmented(by_depth, monkeypatch):  # noqa: F811
    camera = Camera(400.0, 400.0, 159.5, 119.5)
    frame = Frame("one", blocks((slice(60, 140), slice(60, 130), 450.0), size=(240, 320), background=0), camera)
    found, _ = crop_frame(frame)
    nothing = Found(np.zeros((240, 320), bool), np.zeros((240, 320), bool), 0.0, 0.5, 0.0)
    monkeypatch.setattr(find, "find_hand", lambda *view, side: nothing)
    segmented, reason = crop_frame(frame)
    assert not reason and (segmented.centre_mm - found.centre_mm).norm() < 5
