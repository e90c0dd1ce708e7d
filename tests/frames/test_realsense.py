"""The RealSense recorder, with a stand-in for the camera's package."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from hrlib.frames.camera import Camera
from hrlib.frames.folder import DepthFolder
from hrlib.frames.realsense import record


class Camera640:
    """A pyrealsense2 that delivers images of one value each, counting up; `fails_at`: the frame that does not come."""

    class stream:
        depth = "depth"

    class format:
        z16 = "z16"

    def __init__(self, fails_at=None, plugged_in=True):
        self.fails_at, self.plugged_in, self.stopped, self.asked, self.count = fails_at, plugged_in, 0, None, 0

    def config(self):
        def enable_stream(*asked):
            self.asked = asked

        return SimpleNamespace(enable_stream=enable_stream)

    def pipeline(self):
        return self

    def start(self, config):
        if not self.plugged_in:
            raise RuntimeError("No device connected")
        inside = SimpleNamespace(fx=476.0, fy=475.5, ppx=313.25, ppy=242.0)
        video = SimpleNamespace(get_intrinsics=lambda: inside)
        sensor = SimpleNamespace(get_depth_scale=lambda: 0.00012499999720603228)  # a float32, in metres
        return SimpleNamespace(
            get_stream=lambda kind: SimpleNamespace(as_video_stream_profile=lambda: video),
            get_device=lambda: SimpleNamespace(first_depth_sensor=lambda: sensor),
        )

    def wait_for_frames(self, patience_ms):
        if self.count == self.fails_at:
            raise RuntimeError("Frame didn't arrive within 5000")
        self.count += 1
        image = np.full((4, 6), 4000 + self.count, np.uint16)
        return SimpleNamespace(get_depth_frame=lambda: SimpleNamespace(get_data=lambda: image))

    def stop(self):
        self.stopped += 1


@pytest.fixture
def plug(monkeypatch):
    def plugged(camera):
        monkeypatch.setitem(sys.modules, "pyrealsense2", camera)
        return camera

    return plugged


def test_images_come_back_as_they_were_measured(plug, tmp_path):
    camera = plug(Camera640())
    count, command = record(tmp_path / "mine", seconds=0.5, rate=10, delay=0)
    assert count == 5 and camera.stopped == 1 and camera.asked == ("depth", 640, 480, "z16", 10)
    assert command == f"hrlib refine {tmp_path / 'mine'} --camera 476 475.5 313.25 242 --unit-mm 0.125 --out runs/me"
    kept = json.loads((tmp_path / "mine" / "camera.json").read_text())
    assert kept["unit_mm"] == 0.125 and kept["camera"] == {"fx": 476.0, "fy": 475.5, "cx": 313.25, "cy": 242.0}
    frames = DepthFolder(tmp_path / "mine", Camera(**kept["camera"]), kept["unit_mm"])
    assert [frame.depth_mm[0, 0] for frame in frames] == [(4001 + i) * 0.125 for i in range(5)]
    with pytest.raises(ValueError, match="mine holds images already"):
        record(tmp_path / "mine")


def test_a_camera_that_stops_leaves_what_it_gave(plug, tmp_path):
    camera = plug(Camera640(fails_at=2))
    with pytest.raises(OSError, match=r"stopped answering \(.*\) after 2 images; .* keeps these"):
        record(tmp_path / "mine", seconds=1, rate=5, delay=0)
    assert camera.stopped == 1 and len(list((tmp_path / "mine").glob("*.png"))) == 2


def test_without_package_or_camera_it_says_what_to_do(plug, tmp_path):
    plug(None)  # importing it raises ImportError
    with pytest.raises(ValueError, match=r"needs the package pyrealsense2 .*pip install -e '.\[realsense\]'"):
        record(tmp_path / "mine")
    plug(Camera640(plugged_in=False))
    with pytest.raises(OSError, match="no RealSense camera delivers 640x480 px at 30 a second .No device connected"):
        record(tmp_path / "mine")
    assert not (tmp_path / "mine").exists()
    with pytest.raises(ValueError, match="--seconds must be more than 0, got 0"):
        record(tmp_path / "mine", seconds=0)


def test_ctrl_c_leaves_no_half_written_image(plug, tmp_path, monkeypatch):
    plug(Camera640())
    save = Image.Image.save

    def interrupted(image, path, **options):
        save(image, path, **options)
        if path.name == "00002.png":
            path.write_bytes(path.read_bytes()[:20])
            raise KeyboardInterrupt

    monkeypatch.setattr(Image.Image, "save", interrupted)
    count, _ = record(tmp_path / "mine", seconds=1, rate=5, delay=0)
    assert count == 2 and [path.name for path in sorted((tmp_path / "mine").glob("*.png"))] == [
        "00000.png",
        "00001.png",
    ]
