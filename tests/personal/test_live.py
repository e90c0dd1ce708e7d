"""The live page: pictures, keys, recordings; the command on a folder, and with a stand-in for the camera."""

import io
import json
import sys
import threading
import urllib.error
import urllib.request
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from core_fixtures import CAMERA, drawn_frames, template
from PIL import Image

from hrlib.__main__ import COMMANDS, LiveImages
from hrlib.frames.camera import Camera
from hrlib.frames.folder import DepthFolder, write_folder
from hrlib.personal import live as module
from hrlib.personal.live import Page, Recorder, live, picture
from hrlib.personal.sources import Source, opened
from hrlib.personal.tracker import HandSeen

REST = template().rest_rotations.numpy()


def seen_hand(side="right", why="") -> HandSeen:
    """A hand as a tracker gives it, without any network."""
    from hrlib.hand.posed import pose_hand

    wrist = np.float32([10, -80, 500])
    joints = pose_hand(template(), REST, wrist, side).joints_mm
    return HandSeen(joints * (np.nan if why else 1), 0.0 if why else 0.8, side, (), REST, wrist, template(), why)


def post(address: str, path: str, **headers: str) -> int:
    try:
        return urllib.request.urlopen(urllib.request.Request(address + path, b"", headers)).status
    except urllib.error.HTTPError as error:
        return error.code


def first_pictures(address: str, count: int) -> list[np.ndarray]:
    """As a browser reads the stream."""
    found = []
    with urllib.request.urlopen(address + "stream", timeout=20) as stream:
        assert stream.headers["Content-Type"] == "multipart/x-mixed-replace; boundary=picture"
        while len(found) < count:
            assert stream.readline() == b"--picture\r\n"
            head = [stream.readline() for _ in range(3)]
            jpeg = stream.read(int(head[1].split()[1]))
            assert head[2] == stream.readline() == b"\r\n"
            found.append(np.asarray(Image.open(io.BytesIO(jpeg))))
    return found


def test_pictures_go_to_every_browser_and_keys_come_back():
    with Page() as page:
        html = urllib.request.urlopen(page.address).read().decode()
        assert '<img src="/stream"' in html and "r: record" in html and "q: end" in html
        shown = np.zeros((40, 60, 3), np.uint8)
        shown[:, 30:] = 200
        page.show(shown)
        for got in [*first_pictures(page.address, 2), *first_pictures(page.address, 1)]:  # the last one is shown again
            np.testing.assert_allclose(got.astype(int), shown, atol=6)
        assert post(page.address, "r") == post(page.address, "q") == 200
        assert post(page.address, "r", Origin="https://elsewhere.example") == post(page.address, "x") == 403
        assert page.pressed() == ["r", "q"] and page.pressed() == []
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(page.address + "etc/passwd")
        with pytest.raises(OSError, match="cannot be used .*--port"):
            Page(page.server.server_port)
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(page.address, timeout=2)


@pytest.mark.parametrize("side", ["right", "left"])
def test_the_picture_shows_depth_joints_and_hand(side):
    depth = np.zeros((240, 320), np.float32)
    depth[100:200, 120:200] = 500
    seen = seen_hand(side)
    shown = picture(depth, CAMERA, seen, 12.34)
    assert shown.shape == (360 + 34, 480 + 360, 3)
    assert shown[225, 240].min() > 100 and shown[10, 10].max() < 40, "near is bright, nothing is dark"
    u, v = ((CAMERA.project(seen.joints_mm[12]) + 0.5) * 1.5).round().astype(int)  # a tip, where a bone ends
    around = shown[v - 2 : v + 3, u - 2 : u + 3].reshape(-1, 3).astype(int)
    assert (np.ptp(around, 1) > 40).any(), "in colour"
    hand = (shown[:360, 480:] < 250).any(-1)
    assert 0.1 < hand.mean() < 0.6
    x, y = (1.44 * (seen.joints_mm[3] - seen.joints_mm.mean(0))[:2]).round().astype(int)  # the thumb, 360 px on 250 mm
    assert hand[180 + y, 180 + x] and not hand[180 + y, 180 - x], "on the side where the camera sees it"
    red = (shown[360:].astype(int) @ [1, -1, 0] > 100).sum()
    assert red == 0 < (picture(depth, CAMERA, seen, 12.34, True)[360:].astype(int) @ [1, -1, 0] > 100).sum()


def test_without_a_hand_the_reason_is_shown():
    depth = np.zeros((240, 320), np.float32)
    shown = picture(depth, CAMERA, seen_hand(why="nothing is near " * 20), 5.0)
    assert (shown[:360, 480:] == 255).all() and (shown[360:] < 100).any()


def test_r_records_what_the_other_commands_read(tmp_path):
    frames = [np.full((240, 320), 500 + i, np.float32) for i in range(6)]
    hands = [seen_hand(), seen_hand(), seen_hand(why="hidden"), seen_hand(), seen_hand(), seen_hand()]

    def images():
        for i, image in enumerate(frames):
            if i in (1, 4, 5):  # taken up after the frame: 2, 3 and 4 are recorded, then nothing
                keys.append("q" if i == 5 else "r")
            yield image

    class Pressed(Page):
        def pressed(self):
            return [keys.pop()] if keys else []

    keys: list[str] = []
    source, tracker = Source(images(), (290.0, 290.0), 0.125), iter(hands)
    with Pressed() as page:
        count, speed, folders = live(source, lambda image: next(tracker), tmp_path, page, browser=False)
    assert count == 6 and speed > 0 and len(folders) == 1
    told = json.loads((folders[0] / "camera.json").read_text())
    again = DepthFolder(folders[0], Camera(**told["camera"]), told["unit_mm"])
    assert [frame.depth_mm[0, 0] for frame in again] == [502, 503, 504]
    joints = json.loads((folders[0] / "joints.json").read_text())
    assert [frame["frame"] for frame in joints["frames"]] == ["00001.png", "00002.png"]
    assert joints["left_out"] == {"00000.png": "hidden"} and joints["side"] == "right"
    np.testing.assert_allclose(joints["frames"][0]["joints_mm"], hands[3].joints_mm, atol=0.01)


def test_a_recording_ends_with_the_last_frame_and_the_next_has_its_own_folder(tmp_path):
    recorder = Recorder(tmp_path, 1.0)
    for _ in range(2):
        recorder.toggle(CAMERA, "left")
        recorder.add(np.full((4, 5), 70000.0, np.float32), seen_hand("left"))
        recorder.stop()
    assert len(set(recorder.folders)) == 2 and not recorder.on
    assert np.asarray(Image.open(recorder.folders[1] / "00000.png")).max() == 65535
    assert len((recorder.folders[1] / "joints.csv").read_text().splitlines()) == 22


def test_the_command_on_a_folder(tmp_path, capsys, monkeypatch):
    frames = drawn_frames()[0][4:]
    write_folder(frames, tmp_path / "frames", CAMERA, (240, 320), 0.25)
    opened_pages = []
    monkeypatch.setattr(module.webbrowser, "open", lambda address: opened_pages.append(address))
    camera = tuple(vars(CAMERA).values())
    assert COMMANDS["live"](LiveImages(tmp_path / "frames", camera, 0.25), out=tmp_path / "out") == 0
    out = capsys.readouterr().out
    assert "live: 2 images, " in out and out.rstrip().endswith("recorded: nothing") and opened_pages[0] in out
    assert not (tmp_path / "out").exists()


def test_a_camera_that_is_plugged_in(monkeypatch):
    asked = []
    inside = SimpleNamespace(fx=290.0, fy=290.0, ppx=159.5, ppy=119.5)
    video = SimpleNamespace(get_intrinsics=lambda: inside)
    profile = SimpleNamespace(
        get_stream=lambda kind: SimpleNamespace(as_video_stream_profile=lambda: video),
        get_device=lambda: SimpleNamespace(
            first_depth_sensor=lambda: SimpleNamespace(get_depth_scale=lambda: 0.00012499999720603228)
        ),
    )
    counts = np.full((240, 320), 4000, np.uint16)
    frame = SimpleNamespace(get_depth_frame=lambda: SimpleNamespace(get_data=lambda: counts))
    pipeline = SimpleNamespace(
        start=lambda config: profile, stop=lambda: asked.append("stopped"), wait_for_frames=lambda patience: frame
    )
    package = SimpleNamespace(
        pipeline=lambda: pipeline,
        config=lambda: SimpleNamespace(enable_stream=lambda *mode: asked.append(mode)),
        stream=SimpleNamespace(depth="depth"),
        format=SimpleNamespace(z16="z16"),
    )
    monkeypatch.setitem(sys.modules, "pyrealsense2", package)
    with opened(rate=15) as source:
        assert source.camera == CAMERA and source.unit_mm == 0.125
        assert next(iter(source.images)).tolist() == np.full((240, 320), 500.0).tolist()
    assert asked == [("depth", 640, 480, "z16", 15), "stopped"]


def test_what_is_no_source(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyrealsense2", None)
    for arguments, message in (
        ({}, "needs the package pyrealsense2"),
        ({"rate": 0}, "--rate must be more than 0, got 0"),
        ({"unit_mm": 1.0}, "--camera and --unit-mm are of a folder's images"),
        ({"folder": tmp_path}, "does not tell its camera: say .*--camera FX FY"),
    ):
        with pytest.raises(ValueError, match=message), opened(**arguments):
            pass


def test_a_browser_that_goes_away_stops_nothing():
    with Page() as page:
        page.show(np.zeros((8, 8, 3), np.uint8))
        first_pictures(page.address, 1)
        for shade in range(20):
            page.show(np.full((400, 400, 3), shade, np.uint8))
        assert len(first_pictures(page.address, 1)) == 1
    assert threading.active_count() < 40 and torch.is_grad_enabled()
