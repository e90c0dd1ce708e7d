"""Test people E, F, G: their sensors' numbers, joints inside their hands, disjoint splits, and that nothing sees them."""

import json
import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from core_fixtures import template
from scipy.optimize import lsq_linear

from hrlib.datasets.fetch import dataset_folder
from hrlib.frames.camera import Camera
from hrlib.frames.crop import crop_hand
from hrlib.frames.frame import Frame
from hrlib.hand.rig import load_hand
from hrlib.support import ground_truth, paths
from hrlib.synthetic import test_people
from hrlib.synthetic.people import USERS
from hrlib.synthetic.sensor import local_noise
from hrlib.synthetic.sensor.stereo import D435, measure_stereo
from hrlib.synthetic.sensor.time_of_flight import DS325, measure_time_of_flight
from hrlib.synthetic.test_people import CHILD_HAND, TEST_PEOPLE, forearm, overlap, plane_depth, record_test_person

FX = 385.0
CAMERA = Camera(240.0, 240.0, 79.5, 59.5)


def folders(name):
    return {dataset: dataset_folder(dataset) for dataset in TEST_PEOPLE[name].datasets}


def every(moved, step):
    keys = ("vertices_mm", "joints_mm", "R_cam_wrist")
    return replace(moved, **{key: getattr(moved, key)[::step] for key in keys})


# -- the stereo camera ------------------------------------------------------------------------------------------------


def stereo(clean, seed=0):
    return measure_stereo(clean[None].astype(np.float32), FX, D435, seed)[0]


@pytest.mark.parametrize("z_mm", [500.0, 1000.0])
def test_stereo_noise_on_a_plane_is_that_of_its_disparity(z_mm):
    error = stereo(np.full((300, 400), z_mm))[10:-10, 10:-10] - z_mm
    scale = z_mm**2 / (FX * D435.baseline_mm)  # mm of a px
    expected = scale * np.hypot(D435.noise_px, D435.step_px / np.sqrt(12))
    assert error.std() == pytest.approx(expected, rel=0.1) and abs(error.mean()) < 0.1 * expected
    steps = np.diff(np.unique(error))
    assert steps.min() == pytest.approx(scale * D435.step_px, rel=0.05)


def test_stereo_errors_are_alike_over_the_window():
    error = stereo(np.full((300, 400), 700.0))[10:-10, 10:-10] - 700

    def correlation(shift):
        return np.corrcoef(error[:, shift:].ravel(), error[:, :-shift].ravel())[0, 1]

    assert correlation(3) == pytest.approx(6 / 9 / (1 + (D435.step_px / D435.noise_px) ** 2 / 12), abs=0.06)
    assert abs(correlation(D435.grain_px)) < 0.08


def test_stereo_smears_small_steps_and_leaves_a_gap_at_large_ones():
    clean = np.full((80, 160), 700.0)
    clean[:, 80:] = 780  # 2.8 px: alike
    row = stereo(clean)[40]
    ramp = np.flatnonzero((row > 710) & (row < 770))
    assert 6 <= len(ramp) <= D435.window_px + 3 and abs(ramp.mean() - 80) < 4
    clean[:, 80:] = 1100  # 10 px: another surface
    rows = stereo(clean)[20:60]
    assert not ((rows > 730) & (rows < 1050)).any(), "nothing lies between them"
    empty = (rows[:, 60:100] == 0).sum(1)
    assert 1 <= empty.mean() <= 6


def test_stereo_has_its_shadow_on_the_left():
    clean = np.full((120, 240), 1400.0)
    clean[30:90, 90:150] = 500  # the right camera does not see 25 px of the wall
    rows = stereo(clean)[45:75]
    left, right = (rows[:, 50:95] == 0).sum(1), (rows[:, 145:190] == 0).sum(1)
    assert 15 <= left.mean() <= 28 and right.mean() <= 6


def test_a_sensor_draws_the_same_from_the_same_seed():
    clean = np.full((2, 60, 80), 600.0, np.float32)
    for one in (
        lambda images, seed: measure_stereo(images, FX, D435, seed),
        lambda images, seed: measure_time_of_flight(images, CAMERA, DS325, seed),
    ):
        both = one(clean, 3)
        assert np.array_equal(one(clean[:1], 3)[0], both[0]) and not np.array_equal(both[0], both[1])
        assert not np.array_equal(one(clean[:1], 4)[0], both[0])


# -- the time-of-flight camera ----------------------------------------------------------------------------------------


def tilted(z_mm, angle_rad):
    u = np.arange(160) - CAMERA.cx
    return np.repeat((z_mm / (1 - np.tan(angle_rad) * u / CAMERA.fx))[None], 120, 0)


def time_of_flight(clean):
    return measure_time_of_flight(clean[None].astype(np.float32), CAMERA, DS325, 0)[0]


@pytest.mark.parametrize("z_mm, angle_rad", [(400.0, 0.0), (800.0, 0.0), (400.0, 0.9)])
def test_time_of_flight_noise_grows_as_the_light_fades(z_mm, angle_rad):
    middle = (slice(15, 105), slice(60, 100))
    clean = tilted(z_mm, angle_rad)
    error = (time_of_flight(clean) - clean)[middle]
    alone = DS325.noise_mm * (z_mm / 1000) / np.sqrt(np.cos(angle_rad))
    blurred = alone / (2 * np.sqrt(np.pi) * DS325.blur_px)  # of the mean over neighbours
    assert error.std() == pytest.approx(np.hypot(blurred, DS325.step_mm / np.sqrt(12)), rel=0.15)
    assert abs(error.mean()) < 0.5


def test_flying_pixels_are_at_outlines_only():
    v, u = np.mgrid[:120, :160]
    inside = np.hypot(v - 60, u - 80) < 35
    measured = time_of_flight(np.where(inside, 350.0, 1100.0))
    between = (measured > 400) & (measured < 1000)
    distance = abs(np.hypot(v - 60, u - 80) - 35)
    assert 150 < between.sum() and distance[between].max() < 4
    assert (measured[distance > 4] > 0).all()


def test_light_over_two_walls_makes_a_corner_too_far():
    u = np.arange(160) - CAMERA.cx
    corner = np.repeat(
        (400 / (1 + abs(u) / CAMERA.fx))[None], 120, 0
    )  # two walls at right angles, farthest in the middle
    near = (slice(20, 100), slice(60, 100))
    error = (time_of_flight(corner) - corner)[near]
    assert 3 < error.mean() < 40, "a concave corner is too far"
    ridge = np.repeat((400 / (1 - abs(u) / CAMERA.fx / 2))[None], 120, 0)
    assert abs((time_of_flight(ridge) - ridge)[near].mean()) < 0.8, "a convex edge is not"


# -- the people -------------------------------------------------------------------------------------------------------


def inside(points, vertices, faces):
    """Winding number of a mesh around each point: 1 inside, 0 outside."""
    numbers = []
    for point in points:
        a, b, c = (vertices[faces[:, k]] - point for k in range(3))
        la, lb, lc = (np.linalg.norm(x, axis=1) for x in (a, b, c))
        turned = np.einsum("fi,fi->f", a, np.cross(b, c))
        around = la * lb * lc + (a * b).sum(1) * lc + (b * c).sum(1) * la + (c * a).sum(1) * lb
        numbers.append(2 * np.arctan2(turned, around).sum() / (4 * np.pi))
    return np.array(numbers)


def check_person(name, wrist_to_tip_mm):
    person, known = TEST_PEOPLE[name], folders(name)
    moved = person.move(known, "train", 2)
    assert (np.linalg.det(moved.R_cam_wrist) > 0.99).all()
    hand = moved.joints_mm
    lengths = np.linalg.norm(np.diff(hand[:, [0, 9, 10, 11, 12]], axis=1), axis=-1).sum(1)
    assert lengths.min() > wrist_to_tip_mm - 4 and lengths.max() < wrist_to_tip_mm + 4
    knuckles = [i for i in range(21) if i not in (0, 4, 8, 12, 16, 20)]  # tips lie on the skin, the wrist at its end
    for i in (0, len(hand) // 2, len(hand) - 1):
        # pulled a little into the finger, tips are inside as well
        tips = hand[i, [4, 8, 12, 16, 20]] + 0.2 * (hand[i, [3, 7, 11, 15, 19]] - hand[i, [4, 8, 12, 16, 20]])
        within = inside(np.concatenate([hand[i, knuckles], tips]), moved.vertices_mm[i].astype(float), moved.faces)
        assert (within > 0.5).all(), f"frame {i}: {within.round(2)}"
    step = np.linalg.norm(np.diff(hand, axis=0), axis=-1)
    assert 0.3 < step.mean() < 20 and step.max() < 90, "a recording is smooth"
    # the arm is closed, its faces look outwards, and it hides the end of the hand
    arm, faces = forearm(moved, np.random.default_rng(0))
    assert set(Counter(frozenset(e) for f in faces for e in zip(f, np.roll(f, 1), strict=True)).values()) == {2}
    corners = arm[0][faces] - arm[0].mean(0)
    assert np.einsum("fi,fi->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) > 0
    assert np.linalg.norm(arm[0] - hand[0, 0], axis=1).min() < 50


def test_f_has_joints_inside_a_childs_hand():
    check_person("F", 129)


@pytest.mark.mirror
@pytest.mark.parametrize("name, wrist_to_tip_mm", [("E", 183), ("G", 190)])
def test_e_and_g_have_joints_inside_their_hands(name, wrist_to_tip_mm):
    check_person(name, wrist_to_tip_mm)


def test_f_is_smaller_than_a_to_d_and_no_mixture_of_their_morphs():
    child, adult = load_hand(CHILD_HAND), template()
    assert torch.equal(child.faces, adult.faces) and child.morphs == {}
    reach = [hand.tips_mm[2].norm() for hand in (child, *(user.hand(adult) for user in USERS.values()))]
    assert reach[0] < 0.85 * min(reach[1:])
    shapes = [adult.vertices_mm, *(part["vertices_mm"] for part in adult.morphs.values())]
    A = torch.stack([x.flatten() for x in shapes], 1).double().numpy()
    b = child.vertices_mm.flatten().double().numpy()
    mixture = lsq_linear(A, b, bounds=([0.0] * len(shapes), [np.inf] + [1.0] * (len(shapes) - 1)))
    rest = np.linalg.norm((A @ mixture.x - b).reshape(-1, 3), axis=1)
    assert rest.mean() > 0.3 and rest.max() > 1.5, "of a hand two thirds as large as the template"


def check_splits(name):
    person, known = TEST_PEOPLE[name], folders(name)
    poses = {}
    for split in ("train", "test"):
        count = len(person.recordings(known, split, 300))
        moved = [person.move(known, split, number) for number in range(count)]
        shapes = np.concatenate(
            [np.einsum("bij,bki->bkj", m.R_cam_wrist, m.joints_mm - m.joints_mm[:, :1]) for m in moved]
        )
        poses[split] = shapes.round(3).reshape(len(shapes), -1)
    both = set(map(bytes, poses["train"])) & set(map(bytes, poses["test"]))
    assert not both, "no pose of the fingers is in both"


def test_splits_of_f_share_no_frame():
    check_splits("F")


@pytest.mark.mirror
@pytest.mark.parametrize("name", ["E", "G"])
def test_splits_share_no_frame(name):
    person = TEST_PEOPLE[name]
    assert sum(person.recordings(folders(name), "train", 1000)) == 1000
    check_splits(name)
    with pytest.raises(ValueError, match=f"test person {name} has [0-9]+ test frames, wanted 100000"):
        person.recordings(folders(name), "test", 100000)


@pytest.mark.mirror
def test_g_moves_over_a_table():
    person, known = TEST_PEOPLE["G"], folders("G")
    moved = every(person.move(known, "test", 1), 12)
    recording = replace(person, move=lambda *_: moved).recording(known, "test", 1)
    gaps = recording.plane[3] - (moved.vertices_mm @ recording.plane[:3]).max(1)
    assert gaps.min() > 29 and gaps.max() < 330
    table_mm, frame = plane_depth(recording.plane, person.camera, person.size), recording.frames[3]
    beside = (frame.depth_mm > 0) & (abs(frame.depth_mm - table_mm) < 10)
    assert beside.mean() > 0.5, "the table fills the image around the hand"
    seen = frame.depth_mm[recording.hands[3]]
    assert (abs(seen - table_mm[recording.hands[3]]) > 15).mean() > 0.8, "the hand is before it"


@pytest.mark.mirror
def test_e_is_as_rough_before_its_camera_as_real_hands_before_theirs():
    person, known = TEST_PEOPLE["E"], folders("E")
    real = _real_roughness(dataset_folder("d435_table"))
    few = every(person.move(known, "train", 1), 20)
    shift = np.array([0, 0, 735 - few.joints_mm[..., 2].mean()])  # to where the real hands are
    few = replace(few, vertices_mm=few.vertices_mm + shift, joints_mm=few.joints_mm + shift)
    recording = replace(person, move=lambda *_: few).recording(known, "train", 1)
    rough = []
    for frame, hand in zip(recording.frames, recording.hands, strict=True):
        rows, columns = (np.arange(int(n * 605 / FX)) * FX / 605 for n in frame.depth_mm.shape)  # as aligned to colour
        grid = np.ix_(rows.astype(int), columns.astype(int))
        _, angle, residual = local_noise(np.rint(np.where(hand, frame.depth_mm, 0))[grid], 605.0)
        rough.append(residual[angle < 0.8])
    assert np.median(np.concatenate(rough)) == pytest.approx(real, rel=0.35)


def _real_roughness(folder):
    from PIL import Image

    labels = np.load(folder / "joints.npz")
    fx, fy, cx, cy = labels["camera"]
    rough = []
    for name, joints in zip(labels["names"][::4], labels["joints_mm"][::4], strict=True):
        depth = np.array(Image.open(folder / "frames" / f"{name}.png"), float)
        u, v = (joints[:, k] / joints[:, 2] * f + c for k, f, c in ((0, fx, cx), (1, fy, cy)))
        hand = depth[int(v.min()) : int(v.max()), int(u.min()) : int(u.max())]
        _, angle, residual = local_noise(np.where(abs(hand - np.median(joints[:, 2])) < 70, hand, 0), fx)
        rough.append(residual[angle < 0.8])
    return np.median(np.concatenate(rough))


# -- recorded ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def short(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    monkeypatch.setattr(test_people, "SEQUENCE", 8)
    return tmp_path / "users"


def test_recorded_crops_are_kept_and_their_truth_is_noted(short, monkeypatch):
    recorded = record_test_person("F", 8, "test", {}, progress=False)
    assert len(recorded) + recorded.left_out == 8 and recorded.lost <= len(recorded)
    ground_truth.forget()
    assert vars(recorded)["joints_mm"].shape == (len(recorded), 21, 3) and not ground_truth.record()
    place = recorded.crops.centre_mm - recorded.joints_mm.mean(1)
    assert ground_truth.record() == {"test person F, test: joints_mm": ["test_test_people"]}
    assert place.norm(dim=1).median() < 60
    (file,) = short.iterdir()
    monkeypatch.setattr(test_people, "crop_found", None)  # a second call crops nothing
    again = record_test_person("F", 8, "test", {}, progress=False)
    assert torch.equal(again.crops.image, recorded.crops.image) and again.lost == recorded.lost
    monkeypatch.undo()


def test_a_crop_of_something_else_is_lost(short, monkeypatch):
    recording = TEST_PEOPLE["F"].recording({}, "test", 0)
    frame, hand = recording.frames[0], recording.hands[0]
    crop = crop_hand(frame.depth_mm, frame.camera, hand)
    assert overlap(crop, frame, hand) == 1.0
    elsewhere = np.zeros_like(hand)
    elsewhere[:40, :40] = True
    assert overlap(crop, frame, elsewhere) == 0.0
    assert overlap(crop, Frame("", np.zeros_like(frame.depth_mm), frame.camera), hand) == 0.0
    monkeypatch.setattr(test_people, "overlap", lambda *_: 0.49)
    recorded = record_test_person("F", 8, "test", {}, progress=False)
    assert recorded.lost == len(recorded)


def test_what_there_is_not_is_said():
    with pytest.raises(ValueError, match="test person must be one of E, F, G, got 'A'"):
        record_test_person("A", 1, "test", {})
    with pytest.raises(ValueError, match="split must be 'train' or 'test', got 'all'"):
        record_test_person("F", 1, "all", {})
    with pytest.raises(ValueError, match="needs folders of the data sets rigs, poses"):
        record_test_person("G", 1, "test", {})


# -- nothing is tuned on them -----------------------------------------------------------------------------------------

READERS = {"hrlib/synthetic/test_people.py", "benchmarks/evaluate.py", "data/hand/build.py"}


def test_only_the_evaluation_reads_the_test_people():
    names = re.compile(r"test_people import|import test_people|record_test_person|TEST_PEOPLE|child_right")
    readers = set()
    for folder in ("hrlib", "benchmarks", "notebooks", "data", "docs"):
        for file in (paths.ROOT / folder).rglob("*"):
            if file.suffix == ".py" and names.search(file.read_text(encoding="utf-8")):
                readers.add(file.relative_to(paths.ROOT).as_posix())
            if file.suffix == ".ipynb":
                cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
                code = "".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
                assert not names.search(code), f"{file.name} must not look at the test people"
    assert {file for file in readers if not file.startswith("hrlib/evaluation/")} <= READERS
