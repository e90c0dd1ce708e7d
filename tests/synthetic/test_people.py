"""The simulated users: fixed, different from the template, recorded in smooth sequences, cropped without labels."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from core_fixtures import template

from hrlib.companion.results import content_hash
from hrlib.frames.segment import SegmentSettings
from hrlib.hand.kinematics import forward_kinematics
from hrlib.losses import image_mse
from hrlib.method import evaluate_step, from_crop
from hrlib.support import paths
from hrlib.synthetic import people
from hrlib.synthetic.people import SEQUENCE, USERS, record
from hrlib.synthetic.sensor.model import KINECT_V1, SR300


def mean_size_mm(hand) -> float:
    """Wrist to middle fingertip along the rest pose's bones, mm: one number to compare hands by."""
    points = np.concatenate([hand.joints_mm[[0, 7, 8, 9]].numpy(), hand.tips_mm[2:3].numpy()])
    return float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())


def test_four_people_and_their_hands():
    size = {name: mean_size_mm(user.hand(template())) for name, user in USERS.items()}
    assert list(size) == ["A", "B", "C", "D"]
    assert size["A"] == pytest.approx(mean_size_mm(template()))
    assert size["B"] == pytest.approx(0.85 * size["A"])
    assert size["C"] > 1.05 * size["A"] and size["D"] < 0.95 * size["A"]
    assert [user.camera.sensor for user in USERS.values()] == [KINECT_V1, KINECT_V1, KINECT_V1, SR300]
    assert len({user.seed for user in USERS.values()}) == 4


@pytest.fixture(scope="module")
def frames():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(people, "SEQUENCE", 40)
        return USERS["D"].frames(template(), 8, "test", every=5)


def test_frames_are_what_a_sensor_measures_of_the_truth(frames):
    hand = USERS["D"].hand(template())
    for frame in frames[::2]:
        assert frame.mask is None, "nobody says where the hand ends"
        both = (frame.depth_mm > 0) & (frame.truth.depth_mm > 0)
        assert 0.8 < both.sum() / (frame.truth.depth_mm > 0).sum() <= 1
        assert np.median(np.abs(frame.depth_mm - frame.truth.depth_mm)[both]) < 1
        assert frame.truth.joints_mm.shape == (21, 3)
        length = np.linalg.norm(frame.truth.joints_mm[1:5] - frame.truth.joints_mm[[0, 1, 2, 3]], axis=1).sum()
        assert length == pytest.approx(float(_thumb_mm(hand)), rel=1e-4)


def _thumb_mm(hand):
    chain = torch.cat([hand.joints_mm[[0, 1, 2, 3]], hand.tips_mm[:1]])
    return (chain[1:] - chain[:-1]).norm(dim=1).sum()


def test_the_same_frames_however_many_are_asked_for(frames, monkeypatch):
    monkeypatch.setattr(people, "SEQUENCE", 40)
    again = USERS["D"].frames(template(), 3, "test", every=5)
    for a, b in zip(again, frames, strict=False):
        assert a.name == b.name and np.array_equal(a.depth_mm, b.depth_mm)
    assert frames[0].name == "D/test/000/000" and frames[1].name == "D/test/000/005"
    train = USERS["D"].frames(template(), 1, "train")[0]
    assert not np.array_equal(train.truth.joints_mm, frames[0].truth.joints_mm)


def test_sequences_are_smooth():
    frames = USERS["B"].frames(template(), SEQUENCE, "train")
    joints = np.stack([frame.truth.joints_mm for frame in frames])
    step = np.linalg.norm(np.diff(joints, axis=0), axis=-1)
    acceleration = np.linalg.norm(np.diff(joints, 2, axis=0), axis=-1)
    assert 2 < step.mean() < 20 and acceleration.mean() < 0.3 * step.mean()


def test_an_unknown_split():
    with pytest.raises(ValueError, match="split must be 'train' or 'test', got 'validation'"):
        USERS["A"].frames(template(), 1, "validation")


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """Records a few frames; returns them and the name of the file that keeps them."""
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    monkeypatch.setattr(people, "SEQUENCE", 2)

    def names():
        return {file.name for file in (tmp_path / "users").glob("*")}

    def frames_and_file(user):
        before = names()
        recorded = record(user, template(), 2, progress=False)
        return recorded, names() - before

    return frames_and_file


def test_whatever_decides_the_frames_has_a_file_of_its_own(cached, monkeypatch):
    user = USERS["A"]
    first, file = cached(user)
    assert len(file) == 1
    again, new = cached(replace(user, description="the same frames"))
    assert not new and torch.equal(again.crops.image, first.crops.image)
    near = replace(user.camera, distance_mm=(400.0, 420.0))
    others = [
        replace(user, seed=7),
        replace(user, camera=replace(user.camera, sensor=SR300)),
        replace(user, camera=near),
        replace(user, morphs={"fingers-length+": 0.5}),
        replace(user, scale=0.9),
        replace(user, wristband=True),
    ]
    for other in others:
        recorded, new = cached(other)
        assert len(new) == 1, "kept for itself"
        assert not torch.equal(recorded.crops.image, first.crops.image), other
    assert cached(others[2])[0].wrist_mm[:, 2].max() <= 420
    monkeypatch.setattr(people, "SegmentSettings", partial(SegmentSettings, cell_mm=4.0))
    assert len(cached(user)[1]) == 1, "frames segmented otherwise are other frames"
    monkeypatch.setattr(people, "weights_digest", lambda: "others")
    assert len(cached(user)[1]) == 1, "frames found by another finder, too"


def test_calls_share_the_recordings(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    monkeypatch.setattr(people, "SEQUENCE", 4)

    def files():
        return {file.name[:-20]: file.stat().st_mtime_ns for file in (tmp_path / "users").glob("*")}

    whole = record(USERS["B"], template(), 6, progress=False)
    before = files()
    assert sorted(before) == ["B-train-000-4", "B-train-001-2"]
    fewer, more = (record(USERS["B"], template(), count, progress=False) for count in (3, 8))
    assert files() == before | {"B-train-001-4": files()["B-train-001-4"]}, "what is there is taken"
    assert len(fewer) + fewer.left_out == 3 and len(more) + more.left_out == 8
    for recorded in (fewer, more):
        n = min(len(recorded), len(whole))
        assert n and torch.equal(recorded.crops.image[:n], whole.crops.image[:n])
        assert torch.equal(recorded.joints_mm[:n], whole.joints_mm[:n])


def test_some_frames_of_a_recording_are_as_in_the_whole_one():
    user = replace(USERS["D"], wristband=True)
    whole, some = (user.recording(template(), "test", 1, every) for every in (1, 50))
    assert len(some) == 4
    for frame, other in zip(whole[::50], some, strict=True):
        assert frame.name == other.name and np.array_equal(frame.depth_mm, other.depth_mm) and frame.depth_mm.any()
        assert np.array_equal(frame.mask, other.mask) and frame.camera == other.camera
        assert np.array_equal(vars(frame.truth)["joints_mm"], vars(other.truth)["joints_mm"])


@pytest.mark.slow
def test_recorded_frames_fit_the_true_hand_and_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    user, hand = USERS["C"], USERS["C"].hand(template())
    recorded = record(user, template(), 60, "test", progress=False)
    assert len(recorded) + recorded.left_out == 60 and recorded.left_out < 20
    at_truth = evaluate_step(recorded.true_prediction(hand), hand, recorded.crops)
    other = evaluate_step(recorded.true_prediction(template()), template(), recorded.crops)
    assert (at_truth.terms["depth"] < other.terms["depth"]).float().mean() > 0.9, "the truth is that of this hand"
    torch.testing.assert_close(at_truth.joints_mm, recorded.joints_mm, rtol=0, atol=1e-2)
    (file,) = (tmp_path / "users").iterdir()
    before = content_hash(file)
    again = record(user, template(), 60, "test", progress=False)
    assert content_hash(file) == before and torch.equal(again.crops.image, recorded.crops.image)
    assert torch.equal(again[:3].joints_mm, recorded.joints_mm[:3])
    file.unlink()
    elsewhere = record(user, template(), 60, "test", progress=False, processes=2)
    assert content_hash(file) == before and elsewhere.left_out == recorded.left_out


@pytest.mark.slow
def test_a_wristband_leaves_the_hand_and_nothing_of_the_arm(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    user, hand = USERS["D"], USERS["D"].hand(template())
    with_arm = record(user, template(), 40, "test", progress=False)
    banded = record(replace(user, wristband=True), template(), 40, "test", progress=False)
    assert len(banded) + banded.left_out == 40 and banded.left_out < 10
    assert len(list((tmp_path / "users").iterdir())) == 2, "each is kept for itself"

    def before_wrist_mm(recorded):
        T = forward_kinematics(hand, recorded.rotations, recorded.wrist_mm)
        place = from_crop(recorded.crops.points, recorded.crops) - recorded.wrist_mm[:, None]
        taken = recorded.crops.points.abs().amax(-1) < 2  # the other places of a frame with fewer points lie aside
        return (place * T[:, :1, :3, 1]).sum(-1)[taken]

    # the band's edge is seen in pixels of 1 mm, through noise; a bent arm tilts it
    assert before_wrist_mm(banded).quantile(0.01) > -5
    # the finder cuts there, too, less sharply than a band
    assert before_wrist_mm(with_arm).quantile(0.01) > -10
    own = evaluate_step(banded.true_prediction(hand), hand, banded.crops)
    arm = evaluate_step(with_arm.true_prediction(hand), hand, with_arm.crops)
    assert image_mse(own.rendered, own.target).mean() < 1.1 * image_mse(arm.rendered, arm.target).mean()
