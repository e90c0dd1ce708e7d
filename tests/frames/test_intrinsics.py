"""A camera's numbers as libraries and SDKs hand them out."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hrlib.frames.intrinsics import camera_numbers, read_camera
from hrlib.personal.folder import _camera_numbers, camera_as_one_word

FOUR = (475.5, 474.25, 313.75, 242.5)
FX, FY, CX, CY = FOUR
K = np.array([[FX, 0, CX], [0, FY, CY], [0, 0, 1]])
K_4X4 = np.block([[K, np.zeros((3, 1))], [np.zeros((1, 3)), np.ones((1, 1))]])
OPENCV = f"""%YAML:1.0
---
image_width: 640
camera_matrix: !!opencv-matrix
   rows: 3
   cols: 3
   dt: d
   data: [ {FX}, 0., {CX}, 0., {FY}, {CY}, 0., 0., 1. ]
distortion_coefficients: !!opencv-matrix
   rows: 1
   cols: 4
   dt: d
   data: [ 1.0e-01, 0., 0., 0. ]
"""
ROS = f"""image_width: 640
camera_matrix:
  rows: 3
  cols: 3
  data: [{FX}, 0, {CX}, 0, {FY}, {CY}, 0, 0, 1]
rectification_matrix:
  rows: 3
  cols: 3
  data: [1, 0, 0, 0, 1, 0, 0, 0, 1]
projection_matrix:
  rows: 3
  cols: 4
  data: [470, 0, 310, 0, 0, 470, 240, 0, 0, 0, 1, 0]
"""
ZED = f"""[LEFT_CAM_HD]
fx={FX}
fy={FY}
cx={CX}
cy={CY}
k1=-0.17
[RIGHT_CAM_HD]
fx=1
fy=1
cx=1
cy=1
[STEREO]
Baseline=120.0
"""


@pytest.mark.parametrize(
    "given",
    [
        FOUR,
        list(FOUR),
        np.float32(FOUR),
        K,
        K.tolist(),
        torch.from_numpy(K),
        K[:, [0, 1, 2]].T,
        np.c_[K, np.zeros(3)],
        K_4X4,
        K.ravel(),
        {"fx": FX, "fy": FY, "cx": CX, "cy": CY, "width": 640},
        {"fx": FX, "fy": FY, "ppx": CX, "ppy": CY, "coeffs": [0, 0, 0, 0, 0]},
        {
            "image_width": 640,
            "projection_matrix": {"rows": 3, "cols": 4, "data": np.c_[K, np.zeros(3)].ravel().tolist()},
        },
        {"Camera_Matrix": K.tolist(), "dist": [[0.1, 0, 0, 0, 0]]},
        {"depth": {"fx": FX, "fy": FY, "cx": CX, "cy": CY}, "color": {"fx": 600, "fy": 600, "cx": 1, "cy": 2}},
    ],
)
def test_numbers_matrices_and_dictionaries(given):
    assert np.allclose(camera_numbers(given), FOUR)


@pytest.mark.parametrize(
    "parts",
    [
        {"fx": FX, "fy": FY, "ppx": CX, "ppy": CY, "coeffs": [0.0] * 5},  # pyrealsense2's intrinsics
        {"intrinsic_matrix": K, "width": 640},  # Open3D's PinholeCameraIntrinsic
        {"k": K.ravel(), "d": [], "distortion_model": "plumb_bob"},  # ROS 2's CameraInfo
    ],
)
def test_objects_of_other_libraries(parts):
    assert np.allclose(camera_numbers(SimpleNamespace(**parts)), FOUR)


def test_one_focal_length_of_two():
    assert camera_numbers({"f": FX, "cx": CX, "cy": CY}) == (FX, FX, CX, CY)


def test_focal_lengths_alone():
    assert camera_numbers((FX, FY)) == camera_numbers({"fx": FX, "fy": FY}) == (FX, FY)


@pytest.mark.parametrize(
    "name, text",
    [
        ("opencv.yml", OPENCV),
        ("ros.yaml", ROS),
        ("open3d.json", json.dumps({"width": 640, "height": 480, "intrinsic_matrix": K.T.ravel().tolist()})),
        (
            "record.json",
            json.dumps({"camera": dict(zip(("fx", "fy", "cx", "cy"), FOUR, strict=True)), "unit_mm": 0.125}),
        ),
        ("oak.json", json.dumps({"cameraData": [[2, {"intrinsicMatrix": K.tolist(), "width": 640}]]})),
        ("metadata", json.dumps({"K": K.T.ravel().tolist(), "w": 640, "h": 480})),
        ("intrinsic_depth.txt", "\n".join(" ".join(map(str, row)) for row in K_4X4)),
        ("four.txt", f"{FX}, {FY}, {CX}, {CY}\n"),
        ("tum.txt", f"# fx fy cx cy\n{FX} {FY} {CX} {CY}\n"),
        ("notepad.json", "\ufeff" + json.dumps({"fx": FX, "fy": FY, "cx": CX, "cy": CY})),
        ("cameras.txt", f"# Camera list\n1 PINHOLE 640 480 {FX} {FY} {CX + 0.5} {CY + 0.5}\n"),
        ("cameras.txt", f"1 OPENCV 640 480 {FX} {FY} {CX + 0.5} {CY + 0.5} 0.1 -1e-2 0 0\n"),
        ("SN1.conf", ZED),
        ("transforms.json", json.dumps({"fl_x": FX, "fl_y": FY, "cx": CX, "cy": CY, "w": 640})),
    ],
)
def test_files_of_several_libraries(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert np.allclose(read_camera(tmp_path / name), FOUR)
    assert np.allclose(_camera_numbers([str(tmp_path / name)]), FOUR), "as --camera takes it"


def test_one_focal_length_of_colmap(tmp_path):
    (tmp_path / "cameras.txt").write_text("1 SIMPLE_RADIAL 640 480 500 320 240 0.1\n")
    assert read_camera(tmp_path / "cameras.txt") == (500, 500, 319.5, 239.5)
    (tmp_path / "cameras.txt").write_text("1 PINHOLE 9 9 1 2 3 4\n2 PINHOLE 9 9 5 6 7 8\n")
    with pytest.raises(ValueError, match="several cameras"):
        read_camera(tmp_path / "cameras.txt")


def test_cameras_of_several_sizes_are_told_with_their_numbers(tmp_path):
    (tmp_path / "SN1.conf").write_text(ZED + "[LEFT_CAM_VGA]\nfx=350\nfy=350\ncx=331\ncy=190\n")
    with pytest.raises(
        ValueError, match="LEFT_CAM_HD: 475.50 474.25 313.75 242.50; LEFT_CAM_VGA: 350.00 350.00 331.00 190.00"
    ):
        read_camera(tmp_path / "SN1.conf")
    lens = {"ModelParameters": [0.5, 0.5, 0.492, 0.493, *[0.0] * 10]}
    sensor = {"Location": "CALIBRATION_CameraLocationD0", "Intrinsics": lens, "SensorWidth": 1024, "SensorHeight": 1024}
    calibration = {"CalibrationInformation": {"Cameras": [sensor]}}
    (tmp_path / "calibration.json").write_text(json.dumps(calibration))
    with pytest.raises(ValueError, match="calibration.json: fits .* 640x576: 503.81 504.83 319.50 "):
        read_camera(tmp_path / "calibration.json")
    (tmp_path / "calibration.json").write_text('{"CalibrationInformation": {"Cameras": [3]}}')
    with pytest.raises(ValueError, match="calibration.json: no calibration of an Azure Kinect"):
        read_camera(tmp_path / "calibration.json")


def test_arrays_in_files(tmp_path):
    np.save(tmp_path / "K.npy", K)
    np.savez(tmp_path / "calibration.npz", mtx=K, dist=np.zeros(5))
    for name in ("K.npy", "calibration.npz"):
        assert np.allclose(read_camera(tmp_path / name), FOUR)


def test_words_of_the_command_line():
    assert _camera_numbers(["475.5,474.25,313.75,242.5"]) == FOUR
    assert np.allclose(_camera_numbers([",".join(str(number) for number in K.ravel())]), FOUR)
    with pytest.raises(ValueError, match="FX FY.*got shape \\[3\\]"):
        _camera_numbers(["1,2,3"])
    with pytest.raises(ValueError, match="or a file with them; nowhere.json: No such file"):
        _camera_numbers(["nowhere.json"])


@pytest.mark.parametrize("numbers", [["525", "525"], ["525", "525", "-3.5", "2e2"], ["camera.json"], ["525,525"]])
def test_the_folder_may_follow_the_camera(numbers):
    words = ["predict", "--unit-mm", "1", "--camera", *numbers, "frames", "--out", "joints.csv"]
    assert camera_as_one_word(words) == [*words[:4], ",".join(numbers), *words[-3:]]


@pytest.mark.parametrize(
    "given, message",
    [
        (np.linalg.inv(K), r"must be a matrix \[\[fx, 0, cx\]"),
        (np.eye(5), r"got shape \[5, 5\]"),
        (475.5, "has them, got 475.5"),
        (None, "FX FY"),
        ("475 475", "got '475 475'"),
        ({"width": 640}, "no camera's numbers below width"),
        ({"left": {"fx": 1, "fy": 1}, "right": {"fx": 2, "fy": 2}}, "several cameras \\(1 1 and 2 2\\)"),
    ],
)
def test_what_is_no_camera(given, message):
    with pytest.raises(ValueError, match=message):
        camera_numbers(given)


@pytest.mark.parametrize("text", ["a: &a [1, 2]\nb: *a", "{", "[" * 5000, "just words", "fx: 1\nfy: 1" + 400 * "0"])
def test_files_that_hold_none_are_named(tmp_path, text):
    (tmp_path / "camera.yml").write_text(text)
    with pytest.raises(ValueError, match="camera.yml"):
        read_camera(tmp_path / "camera.yml")
