"""Files for other programs: joints as CSV and JSON, whole or not at all; glTF that comes back as the same hand."""

import builtins
import csv
import errno
import json
import sys

import pytest
import torch
from core_fixtures import template

from hrlib.hand.files import as_glb
from hrlib.hand.gltf import load_gltf
from hrlib.hand.joints import JOINT_NAMES, POINT_NAMES, TIP_NAMES
from hrlib.personal.joint_files import CSV_COLUMNS, joint_files

OLD = "frame,joint,and what else an older version wrote"  # joints, which may be replaced
JOINTS = torch.arange(126.0).reshape(2, 21, 3) / 7


def test_joints_as_csv_and_json_hold_the_same_numbers(tmp_path):
    with joint_files(tmp_path / "new" / "a.csv", tmp_path / "a.json") as files:
        files.add(["one.png", "b/ü.png"], JOINTS, torch.tensor([0.51234, 1e-6]))
        files.add(["three"], -JOINTS[:1], torch.tensor([1.0]))
        files.leave_out({"four": "too far"})
        assert list(tmp_path.glob("*.csv")) == [], "nothing half-written under its name"
    with open(tmp_path / "new" / "a.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == CSV_COLUMNS and [r["joint"] for r in rows] == list(POINT_NAMES) * 3
    record = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert (
        record["joints"] == list(POINT_NAMES) and record["unit"] == "mm" and record["left_out"] == {"four": "too far"}
    )
    assert [f["frame"] for f in record["frames"]] == ["one.png", "b/ü.png", "three"]
    assert [f["confidence"] for f in record["frames"]] == [0.5123, 1e-6, 1.0]
    for i, frame in enumerate(record["frames"]):
        for row, point in zip(rows[21 * i :], frame["joints_mm"], strict=False):
            assert [float(row[k]) for k in ("x_mm", "y_mm", "z_mm")] == point
            assert float(row["confidence"]) == frame["confidence"]
    torch.testing.assert_close(torch.tensor(record["frames"][2]["joints_mm"]), -JOINTS[0], rtol=0, atol=0.006)


def test_after_an_error_the_old_file_is_still_there(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(OLD)
    with pytest.raises(RuntimeError, match="midway"), joint_files(path, tmp_path / "a.json") as files:
        files.add(["one", "two"], JOINTS, torch.ones(2))
        raise RuntimeError("midway")
    assert path.read_text() == OLD and [p.name for p in tmp_path.iterdir()] == ["a.csv"]


def test_no_frames_are_valid_files_too(tmp_path):
    with joint_files(tmp_path / "a.csv", tmp_path / "a.json"):
        pass
    assert json.loads((tmp_path / "a.json").read_text())["frames"] == []
    assert (tmp_path / "a.csv").read_text() == ",".join(CSV_COLUMNS) + "\n"


def test_what_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot write .*file/a.csv"), joint_files(tmp_path / "file" / "a.csv"):
        raise AssertionError("the block must not start")
    with pytest.raises(OSError, match="cannot write .*: that is a folder"), joint_files(tmp_path):
        raise AssertionError("the block must not start")
    with pytest.raises(ValueError, match="cannot both go to"):
        with joint_files(tmp_path / "a", tmp_path / "a"):
            raise AssertionError("the block must not start")
    for name in ("40.png", "seq.NPY", "take.bag"):  # a frame that was typed twice
        with pytest.raises(
            ValueError, match=f"{name} has the ending of images or recordings, .*; end it in .csv, .json"
        ):
            with joint_files(tmp_path / name):
                raise AssertionError("the block must not start")
    with pytest.raises(ValueError, match=r"joints_mm must be \[1, 21, 3\], got \[2, 21, 3\]"):
        with joint_files(tmp_path / "a.csv") as files:
            files.add(["one"], JOINTS, torch.ones(1))
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_joints_replace_nothing_but_joints(tmp_path):
    """The model, the camera's file or anything else that was typed as --out."""
    (tmp_path / "camera.json").write_text('{"fx": 475.0}')
    (tmp_path / "model.safetensors").write_bytes(bytes(range(64)))
    for name in ("camera.json", "model.safetensors"):
        before = (tmp_path / name).read_bytes()
        for places in ((tmp_path / name, None), (None, tmp_path / name)):
            with pytest.raises(ValueError, match=f"{name} holds something else than joints, which would be lost"):
                with joint_files(*places):
                    raise AssertionError("the block must not start")
        assert (tmp_path / name).read_bytes() == before
    (tmp_path / "empty.json").touch()
    for _ in range(2):  # the second time over the first
        with joint_files(tmp_path / "a.csv", tmp_path / "empty.json"):
            pass


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_link_that_leads_to_itself_is_named(tmp_path):
    (tmp_path / "loop.csv").symlink_to(tmp_path / "loop.csv")
    with pytest.raises(OSError, match="cannot write .*loop.csv: .*symbolic links"), joint_files(tmp_path / "loop.csv"):
        raise AssertionError("the block must not start")


@pytest.mark.parametrize("when", ["while frames are added", "at the end"])
def test_a_full_disk_is_named_and_keeps_the_old_files(tmp_path, monkeypatch, when):
    (tmp_path / "a.csv").write_text(OLD)

    def full(file, mode="r", *arguments, **options):
        """The real file, or for the JSON file /dev/full: unbuffered it fails at once, buffered when it is flushed."""
        if not str(file).endswith(".partial") or ".a.json" not in str(file):
            return real(file, mode, *arguments, **options)
        real(file, mode).close()
        return real("/dev/full", "wb", buffering=0 if when == "while frames are added" else 2**20)

    real = builtins.open
    monkeypatch.setattr(builtins, "open", full)
    with pytest.raises(OSError, match=r"cannot write .*a\.json: No space left on device; free some space") as raised:
        with joint_files(tmp_path / "a.csv", tmp_path / "a.json") as files:
            files.add(["one", "two"], JOINTS, torch.ones(2))
    assert raised.value.errno == errno.ENOSPC
    assert (tmp_path / "a.csv").read_text() == OLD and [p.name for p in tmp_path.iterdir()] == ["a.csv"]


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_glb_comes_back_as_the_same_hand(tmp_path, side):
    hand, path = template(), tmp_path / "hand.glb"
    path.write_bytes(as_glb(hand, side))
    names = {name: name for name in JOINT_NAMES}
    back = load_gltf(path, names | {tip: tip for tip in TIP_NAMES}, cloud_points=16, side=side)
    # float32 metres of 0.2 m: 1e-5 mm
    torch.testing.assert_close(back.joints_mm, hand.joints_mm, rtol=0, atol=1e-3)
    torch.testing.assert_close(back.R_wrist_rest, hand.R_wrist_rest, rtol=0, atol=1e-4)
    assert len(back.vertices_mm) == len(hand.vertices_mm) and len(back.faces) == len(hand.faces)
    apart = torch.cdist(back.vertices_mm.double(), hand.vertices_mm.double()).min(1)
    assert apart.values.max() < 1e-3
    # four weights a vertex: what the template's fifth and further ones have is lost
    off = (back.weights - hand.weights[apart.indices]).abs().sum(1)
    assert off.mean() < 0.01 and off.max() < 0.25
    area = lambda h: torch.linalg.cross(*(h.vertices_mm[h.faces[:, k]] - h.vertices_mm[h.faces[:, 0]] for k in (1, 2)))  # noqa: E731
    volume = lambda h: (area(h) * h.vertices_mm[h.faces[:, 0]]).sum()  # noqa: E731
    torch.testing.assert_close(volume(back), volume(hand), rtol=1e-4, atol=0)  # its sign: faces look outwards


def test_the_other_side_would_be_refused(tmp_path):
    (tmp_path / "hand.glb").write_bytes(as_glb(template(), "left"))
    with pytest.raises(ValueError, match="left"):
        load_gltf(tmp_path / "hand.glb", {n: n for n in JOINT_NAMES}, cloud_points=16)
    with pytest.raises(ValueError, match="side must be"):
        as_glb(template(), "both")
