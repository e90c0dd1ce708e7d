"""What recorders leave. Files in `recordings/` are from recorders' own libraries, the others follow published formats."""

import gzip
import json
import pickle
import re
import struct
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hrlib.frames.camera import Camera
from hrlib.frames.folder import DepthFolder
from hrlib.frames.recordings import recording_at
from hrlib.frames.recordings.ros import _Values, read_bag
from hrlib.personal.folder import UserFolder
from hrlib.personal.inputs import file_doubts

REAL = Path(__file__).parent.parent / "recordings"
CAMERA = Camera(60.0, 61.0, 31.0, 24.0)
EMPTY = "is empty; copy it again, or remove it"
UNIT = r"\.json: the unit of depth must be a number > 0, got .* say --unit-mm"


def image(number=0, height=48, width=64):
    """Counts, from 500 to 1500 mm if one is a mm."""
    return (500 + 10 * number + np.arange(height * width) % 1000).reshape(height, width).astype(np.uint16)


def png(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def text(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def unpacked(name, folder):
    path = folder / name
    path.write_bytes(gzip.decompress((REAL / f"{name}.gz").read_bytes()))
    return path


def numbers(camera):
    return [round(number, 4) for number in (camera.fx, camera.fy, camera.cx, camera.cy)]


# -- files of recorders' own libraries ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["realsense.bag", "realsense.db3"])
def test_what_librealsense_records(tmp_path, name):
    pytest.importorskip("rosbags")
    path = unpacked(name, tmp_path)
    frames = DepthFolder(path)
    said = "3 frames of a RealSense recording, 0.125 mm a count, camera 40.5 40.25 31.25 23.5 from its camera_info"
    assert str(frames.recording) == said and frames.names == [f"realsense:00{k}" for k in range(3)]
    ramp = np.arange(48 * 64).reshape(48, 64) + 4000
    for number in (2, 0, 1):  # in any order
        wanted = (ramp + number) * np.float32(0.125)
        wanted[0, 0] = 0
        np.testing.assert_array_equal(frames[number].depth_mm, wanted)
    assert [frame.depth_mm[1, 0] for frame in DepthFolder(tmp_path)] == [508, 508.125, 508.25], "a folder with it alone"
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(frames))[1].depth_mm, frames[1].depth_mm)
    content, damaged = path.read_bytes(), "cannot be read as a ROS bag .*; record it again"
    for kept in (len(content) // 2, 100, 0):
        path.write_bytes(content[:kept])
        with pytest.raises(ValueError, match=f"{name}: {damaged if kept else EMPTY}"):
            DepthFolder(path)


# what the SDK's k4a_calibration_3d_to_2d says of the same file: point, mm -> pixel of the recorded image
SDK_PIXELS = {
    (0, 0, 500): (165.7821, 162.6903),
    (100, -80, 500): (215.1130, 123.2223),
    (-150, 120, 500): (93.6406, 220.4109),
}


def test_what_azure_kinects_own_recorder_writes(tmp_path):
    path = unpacked("azure_kinect.mkv", tmp_path)
    frames = DepthFolder(path)
    # k4a_playback_get_calibration says the same four numbers
    assert numbers(frames.camera) == [251.9638, 251.9894, 165.7821, 162.6903] and frames.unit_mm == 1.0
    assert str(frames.recording).startswith("2 frames of an Azure Kinect recording, 1 mm a count, camera 251.9638 ")
    for number, frame in enumerate(frames):
        for point, (u, v) in SDK_PIXELS.items():
            at = tuple(np.rint(frames.camera.project(np.array(point, float))[::-1]).astype(int))
            steps = [
                400 + 100 * ((round(v) + dv) // 4) + (round(u) + du) // 4 + number
                for dv in (-1, 0, 1)
                for du in (-1, 0, 1)
            ]
            assert frame.depth_mm[at] in steps, "undistorted as the SDK has it, to the nearest pixel"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 3 // 5])
    assert len(DepthFolder(path)) == 1, "a recording that was cut off keeps its whole images"
    for damaged, message in (
        (content.replace(b"DEPTH\x00", b"DEPTX\x00").replace(b"DEPTH", b"DEPTX"), "it has no track of depth"),
        (content.replace(b"b16g", b"MJPG"), "its depth is compressed"),
        (content.replace(b"calibration.json", b"calibration.jsen"), "it has no calibration.json"),
        (content.replace(b"CameraLocationD0", b"CameraLocationD1"), "cannot be read as an Azure Kinect recording"),
        (b"no film", "it is no Matroska file"),
        (b"", EMPTY),
    ):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=f"azure_kinect.mkv: .*{message}"):
            DepthFolder(path)


# -- folders --------------------------------------------------------------------------------------------------------------


def tum(root):
    for number in (0, 1):
        png(root / f"depth/1305031102.16040{number}.png", image(number) * 5)
    png(root / "rgb/1305031102.175304.png", np.zeros((48, 64, 3), np.uint8))
    png(root / "depth/left_over.png", image())  # no frame: it is not listed
    rows = "".join(f"1305031102.16040{number} depth/1305031102.16040{number}.png\n" for number in (0, 1))
    text(root / "depth.txt", f"# depth maps\n# file: 'rgbd_dataset_freiburg1_xyz.bag'\n# timestamp filename\n{rows}")
    return Camera(525.0, 525.0, 319.5, 239.5), "a TUM RGB-D folder"


def eth3d(root):
    tum(root)
    text(root / "calibration.txt", "60.0 61.0 31.0 24.0")
    return CAMERA, "a TUM RGB-D folder"


def scannet(root):
    for number in (0, 1):
        png(root / f"depth/{number}.png", image(number))
        png(root / f"color/{number}.jpg", np.zeros((96, 128, 3), np.uint8))
    matrix = "60.0 0.0 31.0 0.0\n0.0 61.0 24.0 0.0\n0.0 0.0 1.0 0.0\n0.0 0.0 0.0 1.0\n"
    text(root / "intrinsic/intrinsic_depth.txt", matrix)
    text(root / "intrinsic/intrinsic_color.txt", matrix.replace("6", "9"))
    return CAMERA, "a ScanNet folder"


def scannet_cpp(root):
    for number in (0, 1):
        counts = (image(number) * 2).astype(">u2")
        root.mkdir(exist_ok=True)
        (root / f"frame-00000{number}.depth.pgm").write_bytes(b"P5\n64 48\n65535\n" + counts.tobytes())
        png(root / f"frame-00000{number}.color.jpg", np.zeros((96, 128, 3), np.uint8))
    matrix = "60 0 31 0 0 61 24 0 0 0 1 0 0 0 0 1"
    told = f"m_versionNumber = 4\nm_depthShift = 2000\nm_calibrationColorIntrinsic = {matrix.replace('6', '9')}\n"
    text(root / "_info.txt", f"{told}m_calibrationDepthIntrinsic = {matrix}\n")
    return CAMERA, "a ScanNet folder"


def open3d(root):
    for number in (0, 1):
        png(root / f"depth/0000{number}.png", image(number))
        png(root / f"color/0000{number}.jpg", np.zeros((48, 64, 3), np.uint8))
    matrix = {"width": 64, "height": 48, "intrinsic_matrix": [60.0, 0, 0, 0, 61.0, 0, 31.0, 24.0, 1.0]}
    text(root / "intrinsic.json", matrix)
    return CAMERA, "an Open3D recording"


def oak(root):
    for number in (0, 1):
        root.mkdir(exist_ok=True)
        np.save(root / f"depth_{number}.npy", image(number))
    right = {"width": 1280, "height": 800, "intrinsicMatrix": [[1200.0, 0, 620.0], [0, 1220.0, 400.0], [0, 0, 1]]}
    left = right | {"intrinsicMatrix": [[9.0, 0, 9.0], [0, 9.0, 9.0], [0, 0, 1]]}
    text(root / "calib.json", {"boardName": "OAK-D", "cameraData": [[1, left], [2, right]]})
    # 1280 x 800 to 64 x 40: the image has 8 rows more than that
    return Camera(60.0, 61.0, 31.0, 24.0), "an OAK-D folder"


def hrlib_record(root):
    for number in (0, 1):
        png(root / f"0000{number}.png", image(number) * 8)
    text(root / "camera.json", {"camera": vars(CAMERA), "unit_mm": 0.125, "rate": 30})
    return CAMERA, "a folder of hrlib record"


def record3d_metadata(**more):
    return {"w": 128, "h": 96, "K": [120.0, 0, 0, 0, 122.0, 0, 62.0, 48.0, 1.0], "fps": 60} | more


def record3d_exr(root):
    exr = pytest.importorskip("OpenEXR")
    (root / "EXR_RGBD/depth").mkdir(parents=True)
    for number in (0, 1):
        metres = image(number).astype(np.float32) / 1000
        header = {"compression": exr.ZIP_COMPRESSION, "type": exr.scanlineimage}
        exr.File(header, {"R": metres}).write(str(root / f"EXR_RGBD/depth/{number}.exr"))
    text(root / "EXR_RGBD/metadata.json", record3d_metadata())
    return CAMERA, "a Record3D folder"


def record3d_unzipped(root):
    lzfse = pytest.importorskip("lzfse")
    (root / "rgbd").mkdir(parents=True)
    for number in (0, 1):
        metres = image(number).astype(np.float32) / 1000
        (root / f"rgbd/{number}.depth").write_bytes(lzfse.compress(metres.tobytes()))
        (root / f"rgbd/{number}.conf").write_bytes(b"")
    text(root / "metadata", record3d_metadata(dw=64, dh=48))
    return CAMERA, "an unzipped Record3D file"


def record3d_file(root):
    lzfse = pytest.importorskip("lzfse")
    root.mkdir()
    with zipfile.ZipFile(root / "hand.r3d", "w") as r3d:
        r3d.writestr("metadata", json.dumps(record3d_metadata()))
        for number in (1, 0):
            metres = image(number).astype(np.float32) / 1000
            r3d.writestr(f"rgbd/{number}.depth", lzfse.compress(metres.tobytes()))
            r3d.writestr(f"rgbd/{number}.jpg", b"")
    return CAMERA, "a Record3D file"


def sens_bytes(frames, compression=1, width=64, height=48):
    """A .sens by sensorData.h."""
    matrix = np.eye(4, dtype="<f4")
    matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2] = vars(CAMERA).values()
    name, eye = b"StructureSensor", np.eye(4, dtype="<f4")
    head = struct.pack("<IQ", 4, len(name)) + name + b"".join(m.tobytes() for m in (eye, eye, matrix, eye))
    head += struct.pack("<iiIIIIfQ", 2, compression, 128, 96, width, height, 1000.0, len(frames))
    for counts in frames:
        depth = zlib.compress(counts.tobytes()) if compression == 1 else counts.tobytes()
        head += eye.tobytes() + struct.pack("<QQQQ", 1, 2, 5, len(depth)) + b"jpeg!" + depth
    return head


def sens(root):
    root.mkdir()
    (root / "scene0000_00.sens").write_bytes(sens_bytes([image(0), image(1)]))
    return CAMERA, "a ScanNet .sens"


def ros1(root):
    return _ros(root, "bag")


def ros2(root):
    return _ros(root, "bag2")


def _ros(root, kind):
    """A bag of another camera's driver, by the package rosbags: depth aligned to colour in it, too."""
    pytest.importorskip("rosbags")
    from rosbags.rosbag1 import Writer as Writer1
    from rosbags.rosbag2 import Writer as Writer2
    from rosbags.typesys import Stores, get_typestore

    one = kind == "bag"
    store = get_typestore(Stores.ROS1_NOETIC if one else Stores.ROS2_HUMBLE)
    kinds = store.types
    if one:
        root.mkdir()
    header = {"frame_id": "depth", "stamp": kinds["builtin_interfaces/msg/Time"](1, 2)} | ({"seq": 0} if one else {})
    header = kinds["std_msgs/msg/Header"](**header)
    matrix = np.array([60.0, 0, 31, 0, 61, 24, 0, 0, 1])
    region = kinds["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
    letters = "DKRP" if one else "dkrp"
    arrays = dict(zip(letters, (np.zeros(5), matrix, np.eye(3).ravel(), np.zeros(12)), strict=True))
    info = {
        "header": header,
        "height": 48,
        "width": 64,
        "distortion_model": "plumb_bob",
        "binning_x": 0,
        "binning_y": 0,
    }
    info = kinds["sensor_msgs/msg/CameraInfo"](**info, roi=region, **arrays)
    written = Writer1(root / "take.bag") if one else Writer2(root, version=9)
    serialize = store.serialize_ros1 if one else store.serialize_cdr
    with written as writer:
        topics = (
            "/camera/aligned_depth_to_color/image_raw",
            "/camera/depth/image_rect_raw",
            "/camera/depth/camera_info",
        )
        names = ("sensor_msgs/msg/Image", "sensor_msgs/msg/Image", "sensor_msgs/msg/CameraInfo")
        aligned, depth, about = (
            writer.add_connection(t, n, typestore=store) for t, n in zip(topics, names, strict=True)
        )
        for number in (0, 1):
            rows = np.pad(image(number), ((0, 0), (0, 2))).view(np.uint8)  # rows of 132 bytes, of which 128 count
            message = kinds["sensor_msgs/msg/Image"](header, 48, 64, "16UC1", 0, 132, rows.ravel())
            writer.write(depth, 1000 + number, serialize(message, message.__msgtype__))
            other = kinds["sensor_msgs/msg/Image"](header, 1, 1, "16UC1", 0, 2, np.zeros(2, np.uint8))
            writer.write(aligned, 1000 + number, serialize(other, other.__msgtype__))
            writer.write(about, 1000 + number, serialize(info, info.__msgtype__))
    return CAMERA, "a ROS bag (/camera/depth/image_rect_raw)"


KINDS = [
    tum,
    eth3d,
    scannet,
    scannet_cpp,
    open3d,
    oak,
    hrlib_record,
    record3d_exr,
    record3d_unzipped,
    record3d_file,
    sens,
]
KINDS += [ros1, ros2]


@pytest.mark.parametrize("write", KINDS)
def test_frames_camera_and_unit_come_from_the_recorders_files(tmp_path, write):
    camera, kind = write(tmp_path / "take")
    frames = UserFolder(tmp_path / "take").frames()
    assert len(frames) == 2 and frames.camera == camera
    assert str(frames.recording).startswith(f"2 frames of {kind}, ") and f"camera {camera.fx:g} " in str(
        frames.recording
    )
    for number, frame in enumerate(frames):
        np.testing.assert_allclose(frame.depth_mm, image(number), atol=1e-3)
        assert frame.camera == camera
    assert not list(file_doubts(frames))
    other = UserFolder(tmp_path / "take", (50.0, 50.0), 3.0).frames()
    assert other.camera == (50.0, 50.0) and other[0].depth_mm[0, 0] == pytest.approx(
        frames[0].depth_mm[0, 0] * 3 / frames.unit_mm
    )
    said = [str(doubt) for doubt in file_doubts(other)]
    assert said[0].startswith("--camera says focal lengths of 50 and 50 px") and "--unit-mm says 3" in said[1]


@pytest.mark.parametrize("write", [tum, scannet, open3d])
def test_the_folder_of_the_images_may_be_named_as_well(tmp_path, write):
    camera, _ = write(tmp_path / "take")
    whole, part = DepthFolder(tmp_path / "take"), DepthFolder(tmp_path / "take/depth")
    assert part.camera == camera and part.names == whole.names and "left_over.png" not in part.names


# -- rs-convert, which tells no camera ------------------------------------------------------------------------------------


def test_what_rs_convert_makes_of_a_bag(tmp_path):
    counts = image(0, 144, 256)
    name = "out_Depth_1526458163123.45678901234567"
    for folder in ("csv", "raw", "bin", "png"):
        (tmp_path / folder).mkdir()
        text(
            tmp_path / folder / "out_Depth_metadata_1526458163123.45678901234567.txt",
            "Stream: Depth\nFrame Counter: 1\n",
        )
        text(tmp_path / folder / "out_104512_imu_pose.csv", "Stream Type,F#\n")
    rows = "\n".join(",".join(f"{metres:.6g}" for metres in row) for row in counts / 1000)
    text(tmp_path / f"csv/{name}.csv", rows + "\n")
    (tmp_path / f"raw/{name}.raw").write_bytes(counts.tobytes())
    (tmp_path / f"bin/{name}.bin").write_bytes((counts / 1000).astype("<f4").tobytes())
    png(tmp_path / f"png/{name}.png", np.zeros((144, 256, 3), np.uint8))
    for folder, unit_mm in (("csv", None), ("bin", None), ("raw", 1.0)):
        (frame,) = UserFolder(tmp_path / folder, (180.0, 180.0), unit_mm).frames()
        np.testing.assert_allclose(frame.depth_mm, counts, atol=1e-3)
    with pytest.raises(ValueError, match=r"csv does not tell its camera: say camera=\(fx, fy\) in px \(--camera FX FY"):
        UserFolder(tmp_path / "csv").frames()
    with pytest.raises(ValueError, match="raw does not tell its unit: say --unit-mm"):
        UserFolder(tmp_path / "raw", (180.0, 180.0)).frames()
    with pytest.raises(
        ValueError, match=f"{name}.png: rs-convert's PNGs of depth are coloured pictures; name the .bag"
    ):
        DepthFolder(tmp_path / "png", CAMERA)
    (tmp_path / f"raw/{name}.raw").write_bytes(counts.tobytes()[:-2])
    with pytest.raises(ValueError, match=f"{name}.raw: .* bytes are no image of a RealSense camera"):
        DepthFolder(tmp_path / "raw", CAMERA)[0]
    text(tmp_path / f"csv/{name}.csv", "1,2\n3\n")
    with pytest.raises(ValueError, match=f"{name}.csv: cannot be read as a table of numbers"):
        DepthFolder(tmp_path / "csv", CAMERA)[0]


# -- what is no recording, or a damaged one -------------------------------------------------------------------------------


def test_descriptions_of_others_change_nothing(tmp_path):
    png(tmp_path / "a.png", image())
    for name in ("camera.json", "metadata.json", "metadata", "calib.json", "intrinsic.json", "_info.txt", "depth.txt"):
        text(tmp_path / name, "{}")
    assert recording_at(tmp_path) is None
    assert DepthFolder(tmp_path, CAMERA).names == ["a.png"]
    with pytest.raises(ValueError, match="does not tell its unit"):
        UserFolder(tmp_path, (60.0, 60.0)).frames()


@pytest.mark.parametrize(
    "write, name, content, message",
    [
        (hrlib_record, "camera.json", "[1", r"camera.json: is no JSON"),
        (hrlib_record, "camera.json", "[1]", r"camera.json: wanted a JSON object, got a list"),
        (
            hrlib_record,
            "camera.json",
            '{"camera": {"fx": -1, "fy": 1, "cx": 0, "cy": 0}}',
            "camera.json: camera fx must be",
        ),
        (
            hrlib_record,
            "camera.json",
            '{"camera": {"fx": "x", "fy": 1, "cx": 0, "cy": 0}}',
            "camera.json: could not convert",
        ),
        (
            tum,
            "depth.txt",
            "1.0 ../../etc/secret.png\n",
            r"depth.txt: lists \.\./\.\./etc/secret.png, which is outside",
        ),
        (tum, "depth.txt", "1.0 /etc/secret.png\n", r"depth.txt: lists /etc/secret.png, which is outside"),
        (tum, "depth.txt", b"\xff\xfe", "depth.txt: is no text"),
        (
            scannet,
            "intrinsic/intrinsic_depth.txt",
            "1 2 3",
            r"intrinsic_depth.txt: wanted a matrix of 3x3 or 4x4 numbers, got 3",
        ),
        (scannet_cpp, "_info.txt", "m_calibrationDepthIntrinsic = 1 2", "_info.txt: wanted a matrix"),
        *(
            (hrlib_record, "camera.json", json.dumps({"camera": vars(CAMERA), "unit_mm": unit}), UNIT)
            for unit in ("x", [], 0, 10**400)
        ),
        (open3d, "intrinsic.json", json.dumps({"intrinsic_matrix": [1] * 9, "depth_scale": 0}), UNIT),
        (open3d, "intrinsic.json", '{"intrinsic_matrix": [0,0,0,0,0,0,0,0,0]}', "intrinsic.json: camera fx must be"),
        (
            oak,
            "calib.json",
            '{"cameraData": [[2, {"width": 1}]]}',
            "calib.json: the right camera has no 'intrinsicMatrix'",
        ),
        (record3d_unzipped, "metadata", '{"K": [1], "w": 64, "h": 48}', "its metadata has no"),
        (record3d_unzipped, "rgbd/0.depth", b"bvx2no", "0.depth: cannot be read as a depth image of Record3D"),
        (record3d_exr, "EXR_RGBD/depth/0.exr", b"v/1\x01no", "0.exr: cannot be read as an OpenEXR image"),
        (record3d_file, "hand.r3d", b"PK no zip", "hand.r3d: cannot be read as an .r3d of Record3D .*; export it"),
        (sens, "scene0000_00.sens", b"\x03\0\0\0", "scene0000_00.sens: cannot be read as a .sens"),
        (sens, "scene0000_00.sens", sens_bytes([], 1), "scene0000_00.sens: .*no frame in it"),
        (sens, "scene0000_00.sens", sens_bytes([image()], 2), "compressed as 2"),
        (sens, "scene0000_00.sens", sens_bytes([image()], 1, 65535, 65535), "65535 x 65535 px"),
    ],
)
def test_damaged_files_are_named_with_a_remedy(tmp_path, write, name, content, message):
    write(tmp_path / "take")
    path = tmp_path / "take" / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message):
        DepthFolder(tmp_path / "take")[0]


def test_a_recording_that_was_cut_off_keeps_its_whole_frames(tmp_path):
    content = sens_bytes([image(0), image(1)], compression=0)
    (tmp_path / "a.sens").write_bytes(content[:-10])
    (frame,) = DepthFolder(tmp_path / "a.sens")
    np.testing.assert_array_equal(frame.depth_mm, image(0))


def test_an_unpacked_image_is_no_larger_than_its_header_says(tmp_path):
    packed = zlib.compress(bytes(10**8))
    head = sens_bytes([image(0)], compression=0)[: -2 * 48 * 64 - 13]
    head = head.replace(struct.pack("<ii", 2, 0), struct.pack("<ii", 2, 1))
    (tmp_path / "b.sens").write_bytes(head + struct.pack("<Q", len(packed)) + b"jpeg!" + packed)
    assert DepthFolder(tmp_path / "b.sens")[0].depth_mm.shape == (48, 64)


def test_names_in_a_zip_lead_nowhere(tmp_path):
    lzfse = pytest.importorskip("lzfse")
    with zipfile.ZipFile(tmp_path / "a.r3d", "w") as r3d:
        r3d.writestr("metadata", json.dumps(record3d_metadata()))
        r3d.writestr("../../outside.depth", lzfse.compress((image() / 1000).astype(np.float32).tobytes()))
    frames = DepthFolder(tmp_path / "a.r3d")
    assert frames.names == ["a:000"] and frames[0].depth_mm.shape == (48, 64)
    assert [path.name for path in tmp_path.iterdir()] == ["a.r3d"] and not (
        tmp_path.parent.parent / "outside.depth"
    ).exists()


def test_of_several_recordings_one_must_be_named(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.sens").write_bytes(sens_bytes([image()]))
    with pytest.raises(ValueError, match=r"holds 2 recordings: name one, e.g. .*a.sens"):
        DepthFolder(tmp_path)
    png(tmp_path / "0.png", image())
    assert DepthFolder(tmp_path, CAMERA).names == ["0.png"], "images go first"


@pytest.mark.parametrize(
    "write, module",
    [(record3d_file, "lzfse"), (record3d_unzipped, "lzfse"), (record3d_exr, "OpenEXR"), (ros1, "rosbags.rosbag1")],
)
def test_a_missing_package_is_named_with_its_command(tmp_path, monkeypatch, write, module):
    write(tmp_path / "take")
    monkeypatch.setitem(sys.modules, module, None)
    package = module.partition(".")[0]
    with pytest.raises(
        ValueError, match=rf"needs the package {package} .*: pip install {package}, or pip install -e"
    ) as told:
        DepthFolder(tmp_path / "take")
    assert "\n" not in str(told.value) and "cannot be read" not in str(told.value)


# -- messages of ROS ------------------------------------------------------------------------------------------------------


def test_a_bag_without_depth_names_its_images(tmp_path):
    ros1(tmp_path / "take")
    path = tmp_path / "take/take.bag"
    content = (
        path.read_bytes().replace(b"aligned_depth_to_color", b"aligned_other_to_color").replace(b"/depth/", b"/other/")
    )
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"no topic of depth images; its images: .*/camera/other/image_rect_raw"):
        DepthFolder(path)


def test_values_of_ros2_lie_at_multiples_of_their_size():
    raw = (
        b"\0\1\0\0"
        + struct.pack("<iII", 1, 2, 3)
        + b"ab\0"
        + b"\0"
        + struct.pack("<I", 2)
        + bytes(4)
        + struct.pack("<dd", 1, 2)
    )
    values = _Values(raw, cdr=True)
    values.header()
    assert struct.unpack("<2d", values.array("d")) == (1.0, 2.0)
    with pytest.raises(ValueError, match="cut short"):
        _Values(struct.pack("<I", 9) + b"short", cdr=False).text()


def test_depth_of_another_encoding_is_refused(tmp_path):
    ros1(tmp_path / "take")
    path = tmp_path / "take/take.bag"
    path.write_bytes(path.read_bytes().replace(b"16UC1", b"RGB16"))
    with pytest.raises(ValueError, match=r"take.bag: .*images of RGB16; wanted 16UC1, mono16, 32FC1"):
        read_bag(path, 0)


def test_what_is_read_is_said_in_one_line(tmp_path):
    tum(tmp_path / "take")
    said = str(recording_at(tmp_path / "take"))
    assert (
        said
        == "2 frames of a TUM RGB-D folder, 0.2 mm a count, camera 525 525 319.5 239.5 from the page of TUM's data set"
    )
    listing = (tmp_path / "take/depth.txt").read_text()
    text(tmp_path / "take/depth.txt", re.sub("freiburg1", "mine", listing))
    assert str(recording_at(tmp_path / "take")).endswith("0.2 mm a count; its files do not tell the camera")
