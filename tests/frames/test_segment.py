"""The hand's mask: recovered on depth frames drawn here from a disc, capsules and rectangles; sane on real frames."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from core_fixtures import template
from real_fixtures import nyu_frame, nyu_labels, sr305

from hrlib.datasets.fetch import dataset_folder
from hrlib.datasets.fingerspelling import LETTERS, Fingerspelling, letter_of
from hrlib.frames.camera import Camera
from hrlib.frames.crop import crop_hand
from hrlib.frames.finder import find_hand
from hrlib.frames.folder import read_depth
from hrlib.frames.segment import NoHandFound, SegmentSettings, check_mask, possible_hands, segment_hand
from hrlib.synthetic.people import USERS

CAMERA = Camera(400.0, 400.0, 159.5, 119.5)
Z_MM = 600.0  # 1.5 mm a pixel, so the image shows 480 x 360 mm
FINGERS_MM = [((-30, -30), (-42, -95)), ((-12, -35), (-16, -118)), ((8, -36), (10, -125)), ((26, -32), (36, -110))]
THUMB_MM = ((36, 10), (80, -35))


def drawn(pose="open", arm_mm=400.0, turn_deg=0.0, shift_mm=(0.0, 0.0), noise=True, background_mm=1200.0):
    """Depth [240, 320], the mask of a hand whose forearm ends arm_mm below the palm's centre, and of palm and fingers.

    The wrist is 62 mm below the palm's centre; the mask has the 24 mm of forearm that segmentation leaves.
    """
    v, u = np.mgrid[0:240, 0:320]
    x, y = (u - 159.5) * 1.5 - shift_mm[0], (v - 119.5) * 1.5 - shift_mm[1]
    turn = np.deg2rad(turn_deg)
    x, y = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    hand = np.hypot(x, y) < 42
    hand |= (np.abs(x) < 28) & (y >= 0) & (y < 62)
    if pose == "open":
        for start, end in [*FINGERS_MM, THUMB_MM]:
            hand |= _capsule(x, y, start, end, 8.5)
    arm = (np.abs(x) < 28 + 0.1 * (y - 62)) & (y >= 62) & (y < arm_mm)
    depth = np.full(x.shape, background_mm)
    depth[hand] = Z_MM
    depth[arm] = Z_MM + 0.2 * (y[arm] - 62)
    hand |= arm & (y < 86)
    if noise:
        rng = np.random.default_rng(0)
        depth += (depth > 0) * rng.normal(0, 1.5, x.shape)
        lost, flying = rng.random(x.shape) < 0.01, rng.random(x.shape) < 0.002
        depth[flying] = rng.uniform(200, 1100, flying.sum())
        depth[lost] = 0
        hand = hand & ~lost & ~flying
    return depth.astype(np.float32), hand, hand & (y < 42)


def _capsule(x, y, start, end, radius_mm):
    p, d = np.stack([x - start[0], y - start[1]]), np.subtract(end, start)
    along = np.clip((p[0] * d[0] + p[1] * d[1]) / (d @ d), 0, 1)
    return np.hypot(p[0] - along * d[0], p[1] - along * d[1]) < radius_mm


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


# 0.88: the wrist's place is a convention (10 mm of forearm are 5 % of an open hand's area, and 8 % of a fist's)
@pytest.mark.parametrize("turn_deg", [0, 40, 90, 180, 225, 300])
@pytest.mark.parametrize("pose", ["open", "fist"])
def test_forearm_is_cut_off_whichever_border_it_comes_from(pose, turn_deg):
    depth, hand, fingers = drawn(pose, turn_deg=turn_deg)
    mask = segment_hand(depth, CAMERA)
    assert iou(mask, hand) > 0.88
    assert mask[fingers].mean() > 0.99


@pytest.mark.parametrize("turn_deg", [0, 70, 200])
@pytest.mark.parametrize("pose", ["open", "fist"])
def test_hand_without_forearm_stays_whole(pose, turn_deg):
    depth, hand, _ = drawn(pose, arm_mm=0, turn_deg=turn_deg)
    mask = segment_hand(depth, CAMERA)
    assert iou(mask, hand) > 0.95
    assert mask[hand].mean() > 0.99


def test_forearm_that_ends_at_a_sleeve_is_cut_off():
    depth, hand, fingers = drawn(arm_mm=230, shift_mm=(0, -30))
    mask = segment_hand(depth, CAMERA)
    assert iou(mask, hand) > 0.88
    assert mask[fingers].mean() > 0.99


def test_hand_in_front_of_its_own_body_and_another_arm():
    depth, hand, fingers = drawn(arm_mm=150, shift_mm=(0, -40), noise=False)
    v, u = np.mgrid[0:240, 0:320]
    body = (depth == 1200) & (v > 150)
    depth[body] = Z_MM + 40
    other_arm = (depth == 1200) & (u > 270) & (u < 300) & (v > 20)
    depth[other_arm] = Z_MM + 60 - 0.1 * (v[other_arm] - 20)
    mask = segment_hand(depth, CAMERA)
    assert iou(mask, hand) > 0.88 and mask[fingers].mean() > 0.99


def test_of_two_thick_ends_the_one_where_the_hand_is_expected():
    v, u = np.mgrid[0:240, 0:320]
    fist, elbow = np.hypot(u - 160, v - 60) < 28, np.hypot(u - 160, v - 190) < 32
    depth = np.where(fist, Z_MM, np.where(elbow | ((abs(u - 160) < 17) & (v > 60) & (v < 190)), Z_MM - 15, 0))
    assert iou(segment_hand(depth, CAMERA), fist) < 0.3, "alone, the frame cannot tell"
    mask = segment_hand(depth, CAMERA, near_mm=(0.0, -80.0, Z_MM))
    assert mask[fist].mean() > 0.99 and not mask[v > 130].any()
    with pytest.raises(NoHandFound):
        segment_hand(depth, CAMERA, near_mm=(0.0, -80.0, Z_MM + 400))


def test_two_free_ends_that_are_alike_are_two_answers():
    v, u = np.mgrid[0:240, 0:320]
    fist, elbow = np.hypot(u - 160, v - 60) < 28, np.hypot(u - 160, v - 190) < 32
    depth = np.where(fist, Z_MM, np.where(elbow | ((abs(u - 160) < 17) & (v > 60) & (v < 190)), Z_MM - 15, 0))
    first, second = possible_hands(depth, CAMERA)
    assert np.array_equal(first, segment_hand(depth, CAMERA))
    assert first[elbow].mean() > 0.99 and not first[v < 95].any()
    assert second[fist].mean() > 0.99 and not second[v > 130].any()
    alone, _, _ = drawn()
    assert len(possible_hands(alone, CAMERA)) == 1, "an arm that leaves through the border is no hand"


def test_an_arm_that_points_at_the_camera_is_cut_off_near_the_hand():
    frame = USERS["C"].frames(template(), 100, "test")[99]
    mask = segment_hand(frame.depth_mm, frame.camera)
    assert check_mask(frame.depth_mm, frame.camera, mask).reason is None
    nearest_mm = frame.depth_mm[frame.depth_mm > 0].min(), frame.depth_mm[mask].min()
    of_arm, left = frame.truth.joints_mm[:, 2].min() - nearest_mm
    assert of_arm > 200 and left < 100


def test_finger_behind_the_palm_by_more_than_a_step_is_kept():
    depth, hand, _ = drawn(noise=False)
    v, u = np.mgrid[0:240, 0:320]
    index = hand & (v < 90) & (u < 142)
    assert index.sum() > 200
    depth[index] += 35
    assert segment_hand(depth, CAMERA)[index].mean() > 0.97


def test_same_frame_same_mask_and_the_frame_is_left_alone():
    depth, *_ = drawn()
    before = depth.copy()
    assert np.array_equal(segment_hand(depth, CAMERA), segment_hand(depth, CAMERA))
    assert np.array_equal(depth, before)


def test_flying_pixels_and_background_are_not_in_the_mask():
    depth, *_ = drawn()
    inside = depth[segment_hand(depth, CAMERA)]
    assert inside.min() > Z_MM - 40 and inside.max() < Z_MM + 60


def test_settings_scale_to_a_childs_hand():
    # the same picture nearer by a quarter, with the focal length to match: every length 0.75 times as long
    depth, hand, _ = drawn(noise=False)
    mask = segment_hand(depth * 0.75, CAMERA, SegmentSettings(hand_length_mm=150, min_area_mm2=1400))
    assert iou(mask, hand) > 0.88


# 140 squares of 58 mm^2 each, 15 mm apart: enough in all, but nothing is a hand
SPECKLES = np.zeros((240, 320), np.float32)
for row, column in np.ndindex(10, 14):
    SPECKLES[24 * row : 24 * row + 8, 24 * column : 24 * column + 8] = 500


@pytest.mark.parametrize(
    "depth, message",
    [
        (np.zeros((240, 320), np.float32), r"no depth between 150 and 1500 mm"),
        (np.full((240, 320), 3000, np.float32), r"no depth between 150 and 1500 mm"),
        (SPECKLES, r"no object of a hand's size between 150 and 1500 mm: the largest has \d+ mm\^2, wanted 2500"),
    ],
)
def test_frame_without_a_hand_says_why(depth, message):
    with pytest.raises(NoHandFound, match=message):
        segment_hand(depth, CAMERA)


@pytest.mark.parametrize(
    "depth, message",
    [
        (np.zeros((2, 240, 320), np.float32), r"must be an array \[H, W\], got \(2, 240, 320\)"),
        ([[0.0]], r"must be an array \[H, W\], got list"),
        (np.full((240, 320), np.nan, np.float32), "NaN, infinite or negative values: mark missing"),
        (np.full((240, 320), -1, np.float32), "NaN, infinite or negative"),
        (torch.zeros(240, 320), r"must be an array \[H, W\], got Tensor; give numpy.asarray\(depth_mm\)"),
        (np.zeros((240, 320), "U1"), r"must be an array \[H, W\], got \(240, 320\) of <U1"),
    ],
)
def test_bad_depth_is_refused(depth, message):
    for look in (segment_hand, find_hand):
        with pytest.raises(ValueError, match=message):
            look(depth, CAMERA)


def test_plain_numbers_are_no_camera_here():
    for look in (segment_hand, find_hand, crop_hand):
        with pytest.raises(
            ValueError, match=r"camera must be a Camera, got tuple; give hrlib.Camera\(fx, fy, cx, cy\)"
        ):
            look(np.full((240, 320), 500, np.float32), (290.0, 290.0, 159.5, 119.5))


@pytest.mark.parametrize("change", [{"hand_length_mm": 0}, {"step_mm": np.nan}, {"near_mm": 2000}])
def test_bad_settings_are_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        replace(SegmentSettings(), **change)


def test_check_measures_the_mask():
    depth, hand, _ = drawn(noise=False)
    check = check_mask(depth, CAMERA, hand)
    assert check.reason is None
    assert check.area_mm2 == pytest.approx(hand.sum() * 1.5**2, rel=1e-3)
    assert check.extent_mm == pytest.approx(86 + 125 + 8.5, abs=8)
    assert check.distance_mm == pytest.approx(Z_MM) and check.border_share == 0


def test_check_names_what_is_wrong():
    depth, hand, _ = drawn(noise=False)
    with_arm = (depth < 1000) & (depth > 0)
    for mask, reason in (
        (np.zeros_like(hand), "empty"),
        (hand & (np.arange(320) < 130), "less than a hand|only .* pixels"),
        (with_arm, "longer than a hand"),
        (np.ones_like(hand), "more than a hand"),
        (depth > 1100, "more than a hand"),
    ):
        assert re.search(reason, check_mask(depth, CAMERA, mask).reason)
    with pytest.raises(ValueError, match="mask must have the shape of depth_mm"):
        check_mask(depth, CAMERA, hand[:10])


# -- real frames ---------------------------------------------------------------------------------------------------------


def require_sane(frame):
    """A hand's size, inside the crop's cube, its centre on the hand."""
    mask = segment_hand(frame.depth_mm, frame.camera)
    check = check_mask(frame.depth_mm, frame.camera, mask)
    points_mm = frame.camera.cloud(frame.depth_mm, mask)
    centre_mm = points_mm.mean(0)
    assert check.reason is None, frame.name
    assert 5000 < check.area_mm2 < 22500, frame.name  # NYU's open hand of a large man has 21600
    assert 100 < check.extent_mm < 250, frame.name
    assert np.abs(points_mm - centre_mm).max() < 135, (
        frame.name
    )  # a few wide spans leave the cube of 250 by a fingertip
    v, u = np.nonzero(mask)
    assert np.hypot(*(np.stack([u, v], -1) - frame.camera.project(centre_mm)).T).min() < 8, frame.name
    return mask


@pytest.mark.mirror
def test_fingerspelling_masks_are_hands():
    frames, kept_arm = Fingerspelling("train"), []
    for letter in LETTERS:
        own = [i for i, name in enumerate(frames.names) if letter_of(name) == letter]
        for i in (own[len(own) // 3], own[2 * len(own) // 3]):
            frame = frames[i]
            mask = require_sane(frame)
            # every one of these crops, mirrored on entry, shows some forearm at its lower or left border
            height, width = mask.shape
            v, u = np.nonzero(mask)
            nearest = (frame.depth_mm > 0) & (frame.depth_mm < np.median(frame.depth_mm[mask]) + 120)
            if mask.sum() >= 0.99 * nearest.sum():
                kept_arm.append(frame.name)
            assert v.mean() < 0.62 * height and width - 1 - u.mean() < 0.62 * width, frame.name
    # of 48 frames two keep it: a Q, a hand that hangs before its own arm, and a B, which shows hardly more than is left
    assert len(kept_arm) <= 2, kept_arm


@pytest.mark.mirror
def test_sr305_masks_are_hands():
    frames = sr305()
    assert len(frames) == 19
    for frame in frames:
        mask = require_sane(frame)
        assert not (mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any()), frame.name


@pytest.mark.mirror
def test_labelled_joints_of_the_nyu_frame_lie_in_its_mask():
    frame = nyu_frame()
    mask = require_sane(frame)
    u, v, d = nyu_labels()
    hand = mask[np.rint(v).astype(int), np.rint(u).astype(int)]
    assert hand[:30].all()  # fingers and thumb
    assert hand.sum() >= 35  # palm and wrist; the label at the wrist's edge may lie beside it
    assert abs(np.median(frame.depth_mm[mask]) - np.median(d)) < 20
    below = np.nonzero(mask)[0].max()
    assert below - v.max() < 25  # the wrist's labels are the last thing kept: 25 px are 32 mm


@pytest.mark.mirror
def test_nyu_frame_as_read_without_its_encoding_is_refused():
    with pytest.raises(ValueError, match="colour image.*encoding"):
        read_depth(dataset_folder("nyu_frame") / "depth_1_0000001.png")
