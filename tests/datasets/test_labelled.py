"""Readers of NYU, ICVL and MSRA15 on miniatures in their formats, and on the real NYU frame: joints lie on the hand, a
damaged file is named and the others are used."""

import weakref

import miniatures
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from hrlib.datasets import labelled
from hrlib.datasets.icvl import ICVL
from hrlib.datasets.labelled import within
from hrlib.datasets.msra import CUBE_MM, MSRA
from hrlib.datasets.nyu import NYU
from hrlib.datasets.published import NYU_CAMERA, TEST_SETS, read_labels, read_nyu_36, read_nyu_centres
from hrlib.frames.crop import crop_hand
from hrlib.frames.folder import read_depth


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("miniatures")
    return {name: getattr(miniatures, name)(root / name) for name in ("nyu", "icvl", "msra")}


READERS = {
    "nyu": lambda folder: NYU(folder, "train"),
    "icvl": lambda folder: ICVL(folder, "test"),
    "msra": lambda folder: MSRA(folder, ("P3",)),
}
# among each set's joints: palm, base of index, pinky and middle finger, and the middle finger's tip
_HANDED = {"nyu": (35, 23, 5, 17, 12), "icvl": (0, 4, 13, 7, 9), "msra": (0, 1, 13, 5, 8)}
SHAPES = {"nyu": (6, 36, 3), "icvl": (4, 16, 3), "msra": (3, 21, 3)}


def side_of(joints_mm, dataset):
    """The side to which fingers curl in most frames, "right" or "left"; a right hand in a mirror counts as a left one."""
    palm, index, pinky, middle, tip = (joints_mm[:, k] for k in _HANDED[dataset])
    return "right" if np.median((np.cross(index - palm, pinky - palm) * (tip - middle)).sum(-1)) > 0 else "left"


@pytest.mark.parametrize("name", READERS)
def test_joints_lie_on_the_hand(folders, name):
    frames = READERS[name](folders[name])
    assert frames.joints_mm.shape == SHAPES[name] and len(frames) == SHAPES[name][0] and not frames.left_out
    for i, frame in enumerate(frames):
        assert frame.depth_mm.dtype == np.float32 and frame.truth is None, "labels are not in the frames"
        hand = (frame.depth_mm > 0) & (frame.depth_mm < 1000)
        away = ndimage.distance_transform_edt(~hand)
        uv = np.rint(frame.camera.project(frames.joints_mm[i])).astype(int)
        on = away[uv[:, 1], uv[:, 0]] < 3
        assert on.mean() > 0.85, "a joint projects onto the hand (NYU's wrist may stick out)"
        behind = frames.joints_mm[i][on, 2] - frame.depth_mm[uv[on, 1], uv[on, 0]]
        assert 0 < np.median(behind) < 25
    assert side_of(frames.joints_mm, name) == "right", "what comes out is a right hand"


@pytest.mark.parametrize("name", READERS)
def test_three_ways_to_crop(folders, name):
    frames, cube = READERS[name](folders[name]), 250.0 if name != "msra" else float(CUBE_MM["P3"])
    by_label, at, left_out = frames.crop("label", cube_mm=cube)
    assert at.tolist() == list(range(len(frames))) and not left_out and by_label.cube_mm == cube
    middle = frames.joints_mm.mean(1)
    assert np.linalg.norm(by_label.centre_mm.numpy() - middle, axis=1).max() < 40
    unmirrored = middle * ((-1, 1, 1) if frames.side == "left" else 1)
    given = frames.crop("centre", unmirrored, cube)[0]
    np.testing.assert_allclose(given.centre_mm, middle, rtol=1e-4)
    free, at, _ = frames.crop("free", cube_mm=cube)
    assert len(at) == len(free) >= len(frames) - 1
    assert np.linalg.norm(free.centre_mm.numpy() - middle[at], axis=1).max() < 40
    for crops in (by_label, given, free):
        assert 0.05 < (crops.image > 0).float().mean() < 0.6, "a hand, and no wall"


@pytest.mark.parametrize("name", READERS)
def test_the_hand_is_segmented_without_a_look_at_the_labels(folders, name):
    honest, poisoned, others = (READERS[name](folders[name]) for _ in range(3))
    poisoned.joints_mm[:] = np.nan
    others.joints_mm[:] += (60, -30, 20)
    crops, at, left_out = honest.crop("free", progress=False)
    for frames in (poisoned, others):
        again, at_again, left_out_again = frames.crop("free", progress=False)
        assert np.array_equal(at_again, at) and left_out_again == left_out
        assert all(np.array_equal(part, getattr(again, key)) for key, part in vars(crops).items())
    assert not np.array_equal(others.crop("label")[0].image, honest.crop("label")[0].image), "the poison is there"


def test_views_and_sides(folders):
    first, second = NYU(folders["nyu"]), NYU(folders["nyu"], view=2)
    assert first.names[0] == "test/depth_1_0000001.png" and second.names[0] == "test/depth_2_0000001.png"
    assert not np.allclose(first.joints_mm, second.joints_mm)
    _, _, left_out = NYU(folders["nyu"]).crop("label")
    assert not left_out
    with pytest.raises(ValueError, match=r"no usable frame among 4 of nyu \(test/depth_2_0000001.png: .*No such file"):
        second.crop("label")
    as_shown = ICVL(folders["icvl"], side="right")
    assert side_of(as_shown.joints_mm, "icvl") == "left"
    np.testing.assert_allclose(as_shown.joints_mm * (-1, 1, 1), ICVL(folders["icvl"]).joints_mm)
    np.testing.assert_array_equal(as_shown[1].depth_mm[:, ::-1], ICVL(folders["icvl"])[1].depth_mm)


def test_damaged_nyu_files_are_named_and_the_others_used(tmp_path):
    folder = miniatures.nyu(tmp_path)
    image = folder / "train" / "depth_1_0000002.png"
    image.write_bytes(image.read_bytes()[:2000])
    (folder / "train" / "depth_1_0000009.png").write_bytes(b"")
    (folder / "train" / "depth_1_notes.png").write_bytes(b"")
    frames = NYU(folder, "train")
    _, at, left_out = frames.crop("label")
    assert at.tolist() == [0, 2, 3, 4, 5]
    assert "cannot be read as a PNG" in left_out["train/depth_1_0000002.png"]
    assert left_out["train/depth_1_0000009.png"] == "no label: joint_data.mat has 6 frames"
    assert "train/depth_1_notes.png" in left_out
    labels = folder / "test" / "joint_data.mat"
    labels.write_bytes(labels.read_bytes()[:300])
    with pytest.raises(ValueError, match=r"joint_data.mat: cannot be read .*; unpack the data set again"):
        NYU(folder)
    with pytest.raises(FileNotFoundError, match="name the folder that holds NYU's train/ and test/"):
        NYU(tmp_path / "elsewhere")


def test_damaged_icvl_files_are_named_and_the_others_used(tmp_path):
    folder = miniatures.icvl(tmp_path)
    labels = folder / "Testing" / "test_seq_2.txt"
    labels.write_text(labels.read_text()[:-40])
    (folder / "Testing" / "Depth" / "test_seq_1" / "image_0001.png").unlink()
    frames = ICVL(folder)
    assert frames.left_out == {"test_seq_2.txt line 2": frames.left_out["test_seq_2.txt line 2"]}
    assert "wanted a path and 48 numbers, got 4" in frames.left_out["test_seq_2.txt line 2"]
    crops, at, left_out = frames.crop("label")
    assert (
        len(crops) == 2
        and at.tolist() == [0, 2]
        and set(left_out) == {*("test_seq_2.txt line 2", "test_seq_1/image_0001.png")}
    )
    (folder / "Training" / "labels.txt").write_text("nothing here\n")
    with pytest.raises(ValueError, match=r"no label in labels.txt can be read; unpack it again"):
        ICVL(folder, "train")


@pytest.mark.parametrize("name", ["nyu", "icvl"])
def test_an_image_of_another_size_is_named(tmp_path, folders, name):
    frames = READERS[name](folders[name])
    Image.fromarray(np.zeros((24, 32, 3), np.uint8) if name == "nyu" else np.ones((24, 32), np.uint16)).save(
        tmp_path / "a.png"
    )
    with pytest.raises(ValueError, match="a.png: 32x24 px, wanted .*; unpack it again"):
        frames.read(tmp_path / "a.png")


def test_damaged_msra_files_are_named_and_the_others_used(tmp_path):
    folder = miniatures.msra(tmp_path, frames=4) / "P3" / "TIP"
    whole = (folder / "000001_depth.bin").read_bytes()
    (folder / "000001_depth.bin").write_bytes(whole[:-5])
    (folder / "000002_depth.bin").write_bytes(whole[:10])
    (folder / "000009_depth.bin").write_bytes(whole)
    (tmp_path / "P3" / "empty").mkdir()
    _, at, left_out = MSRA(tmp_path, ("P3",)).crop("label", cube_mm=180.0)
    assert at.tolist() == [0, 3]
    assert "truncated or too long" in left_out["P3/TIP/000001_depth.bin"]
    assert "its head is" in left_out["P3/TIP/000002_depth.bin"]
    assert left_out["P3/TIP/000009_depth.bin"] == "no label in P3/TIP/joint.txt"
    assert "unpack it again" in left_out["P3/empty/joint.txt"]
    lines = (folder / "joint.txt").read_text().splitlines()
    (folder / "joint.txt").write_text("\n".join([*lines[:2], lines[2][:50]]))
    left_out = MSRA(tmp_path, ("P3",)).left_out
    assert left_out["P3/TIP/joint.txt"] == "truncated: 2 of 4 frames" and "P3/TIP/joint.txt line 3" in left_out


def test_wrong_requests_are_refused(folders):
    frames = NYU(folders["nyu"])
    with pytest.raises(ValueError, match="by must be 'label', 'centre' or 'free', got 'truth'"):
        frames.crop("truth")
    with pytest.raises(ValueError, match="one for each of the 4 frames"):
        frames.crop("centre", np.zeros((3, 3)))
    with pytest.raises(ValueError, match="view must be 1, 2 or 3"):
        NYU(folders["nyu"], view=4)
    assert len(frames.first(2)) == 2 and len(frames.joints_mm) == 2


@pytest.mark.mirror
def test_the_real_nyu_frame(mirror):
    from hrlib.frames.frame import Frame

    depth = read_depth(mirror / "nyu_frame" / "depth_1_0000001.png", encoding="nyu")
    joints, frame = read_nyu_36()[0], Frame("real", depth, NYU_CAMERA)
    uv = np.rint(NYU_CAMERA.project(joints)).astype(int)
    behind = joints[:, 2] - depth[uv[:, 1], uv[:, 0]]
    assert ((behind > 0) & (behind < 40)).mean() > 0.9, "the joints lie below the surface"
    crops = crop_hand(depth, NYU_CAMERA, within(frame, joints.min(0) - 30, joints.max(0) + 30))
    assert np.linalg.norm(crops.centre_mm[0].numpy() - read_nyu_centres()[0]) < 30
    assert 0.1 < (crops.image > 0).float().mean() < 0.5


@pytest.mark.mirror
def test_sides_of_the_real_labels():
    assert side_of(read_nyu_36(), "nyu") == "right"
    assert side_of(read_labels("icvl"), "icvl") == "left"
    assert set(TEST_SETS) == {"nyu", "icvl"}


def test_no_more_than_a_chunk_of_frames_is_in_memory_at_once(folders, monkeypatch):
    """All of NYU's training set would take 89 GB."""
    alive, most = set(), 0

    class Counting(NYU):
        def read(self, path):
            nonlocal most
            depth = super().read(path)
            alive.add(path)
            weakref.finalize(depth, alive.remove, path)
            most = max(most, len(alive))
            return depth

    _, whole, _ = NYU(folders["nyu"], "train").crop("free")
    monkeypatch.setattr(labelled, "CHUNK", 2)
    for by in ("free", "label"):
        _, at, left_out = Counting(folders["nyu"], "train").crop(by)
        assert 0 < most <= 2 and at.tolist() == whole.tolist() and not left_out
