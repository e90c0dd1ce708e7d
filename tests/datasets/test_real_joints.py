"""The real sets with joints: read from the mirror, labels on the hand and noted when they are read, damage named."""

import miniatures
import numpy as np
import pytest

from hrlib.datasets.real_joints import REAL_SETS, RealJoints, around_bones
from hrlib.support import ground_truth, paths

FRAMES = 4


@pytest.fixture
def table(tmp_path, monkeypatch):
    labels = miniatures.d435_table(tmp_path / "d435_table", FRAMES)
    monkeypatch.setenv(paths.MIRROR_VARIABLE, str(tmp_path))
    ground_truth.forget()
    return tmp_path / "d435_table", labels


def test_frames_and_labels_are_read(table):
    frames = RealJoints("d435_table")
    assert len(frames) == FRAMES and frames.names[1] == "frames/000001.png" and frames.camera == miniatures.TABLE_CAMERA
    np.testing.assert_array_equal(frames.joints_mm, table[1]["joints_mm"])
    assert frames[0].mask is None and frames[0].truth is None and frames[0].depth_mm.max() == 690
    assert len(RealJoints("d435_table", free_hand=True)) == FRAMES - 1


def test_who_reads_labels_is_noted_and_who_does_not_is_not(table):
    frames = RealJoints("d435_table")
    frames[0]
    frames.crop("free")
    assert ground_truth.record() == {}, "finding the hand needs no label"
    assert frames.joints_mm.shape == (FRAMES, 21, 3)
    assert ground_truth.record() == {"d435_table: joints_mm": ["test_real_joints"]}
    RealJoints("d435_table", given=True)[0]
    assert "d435_table: joints_mm, for the hand's pixels" in ground_truth.record()
    frames.crop("label")
    assert "d435_table: joints_mm, for the crops" in ground_truth.record()


def test_a_given_hand_is_cut_out_of_what_lies_behind_it(table):
    frames = RealJoints("d435_table", given=True)
    for i, frame in enumerate(frames):
        hand = frame.depth_mm < 690
        assert frame.mask[hand].mean() > 0.9 and not frame.mask[~hand].any(), "the hand (and no heel of it), no wall"
        elsewhere = around_bones(frame, frames.joints_mm[i] + (0, 0, 200.0))
        assert not (elsewhere & hand).any(), "another place has other pixels"
    crops, at, left_out = frames.crop("free")
    assert at.tolist() == list(range(FRAMES)) and not left_out
    assert np.linalg.norm(crops.centre_mm.numpy() - frames.joints_mm.mean(1), axis=1).max() < 40


def test_what_is_missing_or_damaged_is_named(table, tmp_path, monkeypatch):
    folder, labels = table
    with pytest.raises(ValueError, match="dataset must be 'handpose_x_plus' or 'd435_table', got 'nyu'"):
        RealJoints("nyu")
    np.savez(folder / "joints.npz", **labels | {"joints_mm": labels["joints_mm"][:2]})
    with pytest.raises(
        ValueError, match=r"joints.npz: wanted finite joints_mm \[4, 21, 3\], got \[2, 21, 3\]; copy it again"
    ):
        RealJoints("d435_table")
    np.savez(folder / "joints.npz", **labels | {"joints_mm": labels["joints_mm"] * np.nan})
    with pytest.raises(ValueError, match="wanted finite joints_mm"):
        RealJoints("d435_table")
    (folder / "joints.npz").write_bytes(b"PK nothing")
    with pytest.raises(ValueError, match="joints.npz: cannot be read .*; copy it again"):
        RealJoints("d435_table")
    monkeypatch.delenv(paths.MIRROR_VARIABLE)
    with pytest.raises(FileNotFoundError, match="data set handpose_x_plus not found: .*never shipped"):
        RealJoints("handpose_x_plus")


@pytest.mark.mirror
@pytest.mark.parametrize(("name", "count", "free"), [("handpose_x_plus", 35, 35), ("d435_table", 38, 16)])
def test_real_labels_lie_on_right_hands(name, count, free):
    assert name in REAL_SETS
    frames = RealJoints(name)
    assert len(frames) == count and len(RealJoints(name, free_hand=True)) == free
    joints, behind = frames.joints_mm, []
    for frame, points in zip(frames, joints, strict=True):
        u, v = np.rint(frame.camera.project(points)).astype(int).T
        inside = (u >= 0) & (v >= 0) & (u < 640) & (v < 480)
        behind.append(
            (points[inside, 2] - frame.depth_mm[v[inside], u[inside]])[frame.depth_mm[v[inside], u[inside]] > 0]
        )
    assert 0 < np.median(np.concatenate(behind)) < 25, "joints lie below the skin"
    curl = np.cross(joints[:, 5] - joints[:, 0], joints[:, 17] - joints[:, 0]) * (joints[:, 12] - joints[:, 9])
    assert np.median(curl.sum(-1)) > 0, "the fingers of a right hand curl to this side"
