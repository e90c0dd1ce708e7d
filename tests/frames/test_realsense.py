"""The RealSense recorder, with a stand-in for the camera's package."""

import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from core_fixtures import drawn_frames
from PIL import Image

from hrlib.frames.camera import Camera
from hrlib.frames.folder import DepthFolder
from hrlib.frames.realsense import Mode, record
from hrlib.personal.live_page import Page
from hrlib.personal.sight import Sight, look


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
    count, command = record(tmp_path / "mine", seconds=0.5, mode=Mode(rate=10), delay=0)
    assert count == 5 and camera.stopped == 1 and camera.asked == ("depth", 640, 480, "z16", 10)
    assert command == f"hrlib refine {tmp_path / 'mine'} --out runs/me"
    kept = json.loads((tmp_path / "mine" / "camera.json").read_text())
    assert kept["unit_mm"] == 0.125 and kept["camera"] == {"fx": 476.0, "fy": 475.5, "cx": 313.25, "cy": 242.0}
    frames = DepthFolder(tmp_path / "mine")
    assert frames.camera == Camera(**kept["camera"])
    assert [frame.depth_mm[0, 0] for frame in frames] == [(4001 + i) * 0.125 for i in range(5)]
    with pytest.raises(ValueError, match="mine holds images already"):
        record(tmp_path / "mine")


def test_a_camera_that_stops_leaves_what_it_gave(plug, tmp_path):
    camera = plug(Camera640(fails_at=2))
    with pytest.raises(OSError, match=r"stopped answering \(.*\) after 2 images; .* keeps these"):
        record(tmp_path / "mine", seconds=1, mode=Mode(rate=5), delay=0)
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
    count, _ = record(tmp_path / "mine", seconds=1, mode=Mode(rate=5), delay=0)
    assert count == 2 and [path.name for path in sorted((tmp_path / "mine").glob("*.png"))] == [
        "00000.png",
        "00001.png",
    ]


class Pages(Page):
    """A page without a server that keeps what it is shown, and on which q is pressed at the `q`-th picture."""

    def __init__(self, q=None):
        self.pictures, self.q = [], q

    def show(self, picture, words):
        self.pictures.append((picture, words))

    def pressed(self):
        return ["q"] if len(self.pictures) == self.q else []


def test_it_shows_what_it_sees(plug, tmp_path):
    camera, page = plug(Camera640()), Pages()
    sights = []

    def sight(seen_by):
        sights.append(Sight(page, seen_by))
        return sights[0]

    count, _ = record(tmp_path / "mine", seconds=1, mode=Mode(rate=9), delay=0.05, sight=sight)
    assert count == 9 and sights[0].camera == Camera(476.0, 475.5, 313.25, 242.0)
    waited = camera.count - count
    assert waited >= 1 and len(page.pictures) == waited + 3, "three a second, and all that come before the first"
    assert sights[0].said == "no hand is seen; 100% of the pixels are measured"
    words = [words for _, words in page.pictures]
    assert words[0].text == f"get ready; {sights[0].said}" and words[0].recording == ""
    assert words[-1].text == sights[0].said and words[-1].recording.endswith(" images")
    assert page.pictures[0][0].shape == (480, 720, 3) and len(list((tmp_path / "mine").glob("*.png"))) == 9
    count, _ = record(
        tmp_path / "short", seconds=1, mode=Mode(rate=9), delay=0, sight=lambda seen_by: Sight(Pages(2), seen_by)
    )
    assert count == 4 == len(list((tmp_path / "short").glob("*.png"))), "q ends it, and keeps what there is"


def test_it_says_where_the_hand_is():
    frame, joints_mm = drawn_frames()[0][0], drawn_frames()[1][0]
    camera, distance = frame.camera, joints_mm[:, 2].mean().item()
    said, hand = look(frame.depth_mm, camera)
    assert said.startswith("a hand, ") and abs(int(said.split()[2]) - distance) < 30 and "hold" not in said
    u, v = np.rint(camera.project(joints_mm.numpy())).astype(int).T
    assert hand[v, u].mean() > 0.8
    said, _ = look(frame.depth_mm * 2, Camera(2 * camera.fx, 2 * camera.fy, camera.cx, camera.cy))
    assert said.endswith("mm away: hold it nearer, at 300 to 900 mm")
    middle = int(u.mean())
    said, _ = look(np.ascontiguousarray(frame.depth_mm[:, middle:]), replace(camera, cx=camera.cx - middle))
    assert said.endswith("mm away: the border cuts it, hold it in the middle")
