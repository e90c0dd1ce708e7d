"""Commands on folders as other cameras and tools leave them: the joints are those of the plain frames."""

import csv
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from commands import command
from PIL import Image
from real_fixtures import sr305

from hrlib.frames.camera import Camera
from hrlib.frames.finder import find_hand
from hrlib.personal.folder import UserFolder
from hrlib.personal.inputs import file_doubts

pytestmark = pytest.mark.mirror  # small real frames: every fourth pixel of an SR305
FX, CX, CY = 476.007 / 4, 313.683 / 4, 242.755 / 4
NAMES = ("1.5", "2.25", "10.0")
CAMERA = ("--camera", FX, FX, CX, CY, "--unit-mm", 0.125)


@pytest.fixture(scope="module")
def counts() -> dict[str, np.ndarray]:
    """16-bit counts of 0.125 mm [120, 160] by name."""
    frames = [sr305()[i].depth_mm[::4, ::4] / 0.125 for i in (1, 4, 7)]
    return {name: np.rint(frame).astype(np.uint16) for name, frame in zip(NAMES, frames, strict=True)}


@pytest.fixture(scope="module")
def plain(counts, tmp_path_factory):
    """The frames as PNG, and the joints [3, 21, 3] predicted in them."""
    folder = tmp_path_factory.mktemp("plain")
    for name, image in counts.items():
        save(folder / "frames" / f"{name}.png", image)
    names, joints = predict(folder / "frames", folder, *CAMERA)
    assert names == [f"{name}.png" for name in NAMES], "in the order of their numbers"
    return folder / "frames", joints


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(pixels)).save(path)


def predict(folder, out, *words):
    """Names and joints [B, 21, 3] as `hrlib predict` writes them."""
    assert command("predict", folder, *words, "--out", out / "joints.csv", "--json", out / "joints.json") == 0
    with open(out / "joints.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    joints = np.array([[float(row[f"{axis}_mm"]) for axis in "xyz"] for row in rows]).reshape(-1, 21, 3)
    return [row["frame"] for row in rows[::21]], joints


def told(folder, shape, names, camera=(525.0, 525.0)):
    for name in names:
        save(folder / name, np.full(shape, 500, np.uint16))
    return [doubt.what for doubt in file_doubts(UserFolder(folder, camera, 1.0).frames())]


@pytest.mark.parametrize(
    "shape, odd",
    [
        ((480, 640), False),
        ((424, 512), False),
        ((848, 480), False),
        ((100, 100), False),
        ((300, 520), True),
        ((480, 320), False),
    ]
    + [((240, 640), True), ((376, 672), False)],
)
def test_images_of_no_cameras_shape_are_told_where_their_middle_counts(tmp_path, shape, odd):
    words = [f"no depth camera has images of {shape[1]} x {shape[0]} px"] * odd
    assert told(tmp_path, shape, ("1.png", "2.png")) == words
    assert told(tmp_path, shape, ("1.png",), (525.0, 525.0, 300.0, 200.0)) == []


def test_frames_in_two_versions_are_told(tmp_path):
    (what,) = told(tmp_path, (48, 64), ("depth/1.png", "depth/2.png", "depth_aligned/1.png", "depth_aligned/2.png"))
    assert what.startswith("depth/1.png and depth_aligned/1.png look like one frame")


def off_mm(joints, others):
    return np.linalg.norm(joints - others, axis=-1).mean(1).max()


def test_a_stack_is_predicted_as_a_folder_is(plain, counts, tmp_path):
    metres = np.stack(list(counts.values())).astype(np.float32) * np.float32(0.125e-3)
    metres[metres == 0] = np.nan
    metres[1:][np.isnan(metres[1:])] = np.inf
    np.save(tmp_path / "take.npy", metres)
    names, joints = predict(tmp_path / "take.npy", tmp_path, *CAMERA[:-1], 1000)
    assert names == ["take:000", "take:001", "take:002"] and off_mm(joints, plain[1]) < 0.1


def test_packed_frames_with_masks_named_by_times(plain, counts, tmp_path, capsys):
    for name, image in counts.items():
        save(tmp_path / f"frames/16.{name}.png", np.dstack([image & 255, image >> 8, image * 0]).astype(np.uint8))
        save(tmp_path / f"frames/masks/16.{name}.BMP", hand_in(image) * 255)
    save(tmp_path / "frames/masks/16.png", np.zeros_like(image, np.uint8))
    masked = (tmp_path / "frames", tmp_path, *CAMERA, "--masks", tmp_path / "frames/masks")
    assert command("predict", *masked[:1], *CAMERA, "--out", tmp_path / "j.csv") == 2
    assert "--encoding rg " in capsys.readouterr().err
    names, joints = predict(*masked, "--encoding", "rg")
    plain_masked = predict(plain[0], tmp_path, *CAMERA, "--masks", masks_of(counts, tmp_path / "plain"))
    assert len(names) == 3 and off_mm(joints, plain_masked[1]) < 0.1
    assert command("refine", *masked[:1], *masked[2:], "--encoding", "rg", "--out", tmp_path / "o", "--check-only") == 0


def masks_of(counts, folder):
    for name, image in counts.items():
        save(folder / f"{name}.png", hand_in(image))
    return folder


def hand_in(image):
    return find_hand(image * np.float32(0.125), Camera(FX, FX, CX, CY)).mask.astype(np.uint8)


@pytest.mark.parametrize("factor", [2, 5])
def test_depth_put_onto_a_larger_image(plain, counts, tmp_path, factor, capsys):
    for name, image in counts.items():
        sparse = np.zeros((image.shape[0] * factor, image.shape[1] * factor), np.uint16)
        sparse[::factor, ::factor] = image
        save(tmp_path / f"frames/{name}.png", sparse)
    camera = ("--camera", *(factor * x for x in (FX, FX, CX, CY)), "--unit-mm", 0.125)
    _, joints = predict(tmp_path / "frames", tmp_path, *camera)
    assert off_mm(joints, plain[1]) < 4, "mm; half a pixel of the small frames is 2.5 mm"
    assert command("refine", tmp_path / "frames", *camera, "--out", tmp_path / "o", "--check-only") == 0
    holes = [row["holes"] for row in json.loads((tmp_path / "o/check.json").read_text())["frames"]]
    assert np.allclose(holes, 1 - 1 / factor**2, atol=0.06)
    said = capsys.readouterr()
    grid = f"{1 - 1 / factor**2:.0%} of the pixels between measured ones are empty, and were filled: depth was put onto"
    assert "many holes" in said.out and grid in said.out and f"warning: {grid}" in said.err
    assert grid in json.loads((tmp_path / "joints.json").read_text())["doubts"][-1]


def test_missing_pixels_and_far_marks(plain, counts, tmp_path, capsys):
    random = np.random.default_rng(0)
    for name, image in counts.items():
        save(
            tmp_path / f"{name}.png",
            np.where((image > 0) & (random.random(image.shape) > 0.3), image, 65535).astype(np.uint16),
        )
    _, joints = predict(tmp_path, tmp_path, *CAMERA)
    assert off_mm(joints, plain[1]) < 10 and "or the sensor misses many" in capsys.readouterr().err


def test_the_folder_may_come_last_and_the_camera_from_a_file(plain, tmp_path):
    (tmp_path / "camera.json").write_text(json.dumps({"fx": FX, "fy": FX, "ppx": CX, "ppy": CY}))
    for camera in ([FX, FX, CX, CY], [FX, 0, CX, 0, FX, CY, 0, 0, 1], [tmp_path / "camera.json"]):
        out = tmp_path / "joints.csv"
        assert command("predict", "--out", out, "--unit-mm", 0.125, "--camera", *camera, plain[0]) == 0
        with open(out, newline="") as file:
            rows = list(csv.DictReader(file))
        joints = np.array([[float(row[f"{axis}_mm"]) for axis in "xyz"] for row in rows]).reshape(-1, 21, 3)
        assert off_mm(joints, plain[1]) < 0.1


def test_no_hand_in_this_unit_but_in_another(plain, tmp_path, capsys):
    assert command("predict", plain[0], *CAMERA[:-1], 1, "--out", tmp_path / "joints.csv") == 2
    assert "try --unit-mm times 0.12" in capsys.readouterr().err


def test_two_hands_are_told(plain, counts, tmp_path, capsys):
    for name, image in counts.items():
        save(tmp_path / f"{name}.png", np.concatenate([image, image[:, ::-1]], 1))
    predict(tmp_path, tmp_path, "--camera", FX, FX, "--unit-mm", 0.125)
    assert "two hands are in view in 100% of the frames" in capsys.readouterr().err


def test_eight_bits_and_equal_numbers_are_told(plain, counts, tmp_path, capsys):
    for name, image in counts.items():
        save(tmp_path / f"frames/{name}.png", np.rint(image / 8 / 5).astype(np.uint16) * 40)  # 5 mm
    save(tmp_path / "frames/01.5.png", image)
    predict(tmp_path / "frames", tmp_path, *CAMERA)
    steps, order = "the depths are steps of 5.0 mm", "01.5.png and 1.5.png have the same number"
    said = capsys.readouterr().err
    assert f"warning: {steps}" in said and f"warning: {order}" in said
    assert command("refine", tmp_path / "frames", *CAMERA, "--out", tmp_path / "o", "--check-only") in (0, 1)
    said = capsys.readouterr().out
    assert steps in said and order in said
    assert list(file_doubts(UserFolder(plain[0], (FX, FX), 0.125).frames())) == []
    np.save(tmp_path / "damaged.npy", np.zeros(3))
    assert list(file_doubts(UserFolder(tmp_path / "damaged.npy", (FX, FX), 0.125).frames())) == []


def test_masks_that_show_an_arm_are_told(plain, counts, tmp_path, capsys):
    for name, image in counts.items():
        save(tmp_path / "masks" / f"{name}.png", image > 0)
    assert command("predict", plain[0], *CAMERA, "--masks", tmp_path / "masks", "--out", tmp_path / "joints.csv") == 2
    assert "and that each mask shows a hand up to its wrist, and no arm" in capsys.readouterr().err


def test_turned_and_padded_frames(plain, counts, tmp_path):
    size = counts[NAMES[0]].shape
    for name, image in counts.items():
        save(tmp_path / f"turned/{name}.png", np.rot90(image))
        save(tmp_path / f"padded/{name}.png", np.pad(image, ((20, 20), (60, 0))))
    turned = ("--camera", FX, FX, CY, size[1] - 1 - CX, "--unit-mm", 0.125)
    _, joints = predict(tmp_path / "turned", tmp_path, *turned)
    assert off_mm(np.stack([-joints[..., 1], joints[..., 0], joints[..., 2]], -1), plain[1]) < 4
    _, joints = predict(tmp_path / "padded", tmp_path, "--camera", FX, FX, CX + 60, CY + 20, "--unit-mm", 0.125)
    assert off_mm(joints, plain[1]) < 4


PROGRAM = r"""
import os, sys
from hrlib import __main__ as cli
from hrlib.frames.camera import Camera
from hrlib.frames.finder import find_hand
from hrlib.personal.folder import UserFolder
from hrlib.personal.inputs import file_doubts
for words in (["--help"], ["predict", "--help"], ["refine", "--help"], ["predict", "\u20ac", "--n\u00f6", "x"], WORDS, REFINE):
    sys.argv = ["hrlib", *map(os.fsdecode, words)]
    try:
        print("->", cli.main())
    except SystemExit as end:
        print("->", end.code)
"""


@pytest.mark.parametrize("encoding", ["gbk", pytest.param("ascii", marks=pytest.mark.slow)])
def test_names_and_consoles_that_are_no_utf8_cost_nothing(plain, tmp_path, encoding):
    folder = os.fsencode(tmp_path) + b"/h\xe4nde \xce\xb1"
    os.mkdir(folder)
    for name in NAMES:
        with (
            open(plain[0] / f"{name}.png", "rb") as file,
            open(folder + b"/\xe4\n" + name.encode() + b".png", "wb") as to,
        ):
            to.write(file.read())
    out = os.fsencode(tmp_path) + b"/\xfc.csv"
    camera = [str(word).encode() for word in CAMERA]
    words = [b"predict", folder, *camera, b"--out", out, b"--json", out + b".json"]
    refine = [b"refine", folder, *camera, b"--out", out + b"out", b"--check-only"]
    program = PROGRAM.replace("WORDS", repr(words)).replace("REFINE", repr(refine))
    utf8_off = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": encoding, "LC_ALL": "C"}
    run = subprocess.run([sys.executable, "-c", program], env=os.environ | utf8_off, capture_output=True)
    ends = [line.split()[1] for line in run.stdout.decode("latin-1").splitlines() if line.startswith("->")]
    assert ends == ["0", "0", "0", "2", "0", "0"], run.stderr.decode("latin-1")[-2000:]
    with open(out, newline="", encoding="utf-8") as file:
        names = [row["frame"] for row in csv.DictReader(file)][::21]
    assert names == [rf"\xe4\n{name}.png" for name in NAMES]
    with open(out + b".json", encoding="utf-8") as file:
        assert len(json.load(file)["frames"]) == 3
