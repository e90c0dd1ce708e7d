"""The live page: pictures, keys, recordings; the command on a folder, and with a stand-in for the camera."""

import io
import itertools
import json
import sys
import threading
import time
import urllib.error
import urllib.request
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from browser import browser_page
from core_fixtures import CAMERA, drawn_frames, template
from PIL import Image

from hrlib.__main__ import COMMANDS, LiveImages
from hrlib.frames.camera import Camera
from hrlib.frames.folder import DepthFolder, write_folder
from hrlib.personal import live as module
from hrlib.personal.live import ALT, HIGH, KEYS, TITLE, Recorder, live, picture, words
from hrlib.personal.live_page import PANEL, WAITING, Page, Words
from hrlib.personal.sources import Source, opened
from hrlib.personal.tracker import HandSeen

REST = template().rest_rotations.numpy()


def seen_hand(side="right", why="") -> HandSeen:
    """A hand as a tracker gives it, without any network."""
    from hrlib.hand.posed import pose_hand

    wrist = np.float32([10, -80, 500])
    joints = pose_hand(template(), REST, wrist, side).joints_mm
    return HandSeen(joints * (np.nan if why else 1), 0.0 if why else 0.8, side, (), REST, wrist, template(), why)


def live_page(port: int = 0) -> Page:
    return Page(port, KEYS, TITLE, ALT)


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
        assert stream.readline() == b"--picture\r\n"
        while len(found) < count:
            head = [stream.readline() for _ in range(3)]
            jpeg = stream.read(int(head[1].split()[1]))
            assert head[2] == stream.readline() == b"\r\n"
            assert stream.readline() == b"--picture\r\n", "the boundary comes with the picture, which is then shown"
            found.append(np.asarray(Image.open(io.BytesIO(jpeg))))
    return found


def test_pictures_go_to_every_browser_and_keys_come_back():
    with live_page() as page:
        html = urllib.request.urlopen(page.address).read().decode()
        assert '<img src="/stream"' in html and f"<title>{TITLE}</title>" in html and WAITING in html
        assert '<button value="r"><kbd>r</kbd>record, and' in html and "<kbd>q</kbd>end" in html
        shown = np.zeros((40, 60, 3), np.uint8)
        shown[:, 30:] = 200
        assert not page.watched.is_set()
        page.show(shown, Words("a hand", 0.5, 12.0))
        for got in [*first_pictures(page.address, 2), *first_pictures(page.address, 1)]:  # the last one is shown again
            np.testing.assert_allclose(got.astype(int), shown, atol=6)
        assert page.watched.is_set()
        with urllib.request.urlopen(page.address + "words", timeout=20) as stream:
            assert json.loads(stream.readline().removeprefix(b"data: ")) == {
                "text": "a hand", "confidence": 0.5, "rate": 12.0, "recording": "", "doubts": "",
            }  # fmt: skip
        assert post(page.address, "r") == post(page.address, "q") == 200
        assert post(page.address, "r", Origin="https://elsewhere.example") == post(page.address, "x") == 403
        assert page.pressed() == ["r", "q"] and page.pressed() == []
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(page.address + "etc/passwd")
        with pytest.raises(OSError, match="cannot be used .*--port"):
            live_page(page.server.server_port)
        for none in (-1, 65536):
            with pytest.raises(OSError, match=f"port {none} cannot be used .*--port"):
                live_page(none)
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(page.address, timeout=2)


def test_in_a_browser_the_page_fits_the_window_and_says_what_is_seen(tmp_path):
    seen, depth = seen_hand(), np.full((240, 320), 500, np.float32)
    recorder = Recorder(tmp_path / "out", 1.0)
    with browser_page(tmp_path / "profile", "http://127.0.0.1", viewport={"width": 1280, "height": 720}) as browser:
        with live_page() as page:
            browser.goto(page.address, wait_until="commit")
            browser.wait_for_selector("button")
            assert browser.inner_text("#text") == WAITING, "nothing else is to be seen while the program starts"
            page.show(picture(depth, CAMERA, seen), words(seen, 12.34, recorder))
            browser.wait_for_function("document.querySelector('img').naturalWidth > 0")
            browser.wait_for_function("document.getElementById('rate').textContent")
            assert browser.inner_text("header").split("\n") == ["right hand", "confidence", "0.80", "12.3 frames/s"]
            assert not browser.is_visible("#recording")
            browser.keyboard.press("r")
            browser.click("button >> nth=0")
            browser.keyboard.press("x")
            keys = []
            while len(keys) < 2:
                keys += page.pressed()
                time.sleep(0.01)
            assert keys == ["r", "r"]
            recorder.toggle(CAMERA, "right")
            page.show(picture(depth, CAMERA, seen_hand(why="x < y")), words(seen_hand(why="x < y"), 0, recorder))
            browser.wait_for_selector("#recording", state="visible")
            assert browser.inner_text("#text") == "no hand: x < y" and not browser.is_visible("#sure")
            assert str(recorder.folders[0]) in browser.inner_text("#recording")
            for width in (1280, 390):
                browser.set_viewport_size({"width": width, "height": 720})
                sizes = browser.evaluate("""() => [document.documentElement.scrollWidth, innerWidth,
                    document.documentElement.scrollHeight, document.querySelector("img").clientWidth]""")
                assert sizes[0] <= sizes[1] == width and sizes[2] == 720 and sizes[3] == width
            recorder.stop()
        browser.wait_for_selector("body.ended")
        assert browser.inner_text("#text") == "The program has ended." and browser.is_disabled("button >> nth=0")


@pytest.mark.parametrize("side", ["right", "left"])
def test_the_picture_shows_depth_joints_and_hand(side):
    depth = np.zeros((240, 320), np.float32)
    depth[100:200, 120:200] = 500
    seen = seen_hand(side)
    shown = picture(depth, CAMERA, seen)
    assert shown.shape == (HIGH, 640 + HIGH, 3)
    assert shown[390, 380].min() > 100 and shown[10, 10].max() < 40, "near is bright, nothing is dark"
    u, v = ((CAMERA.project(seen.joints_mm[12]) + 0.5) * 2).round().astype(int)  # a tip, where a bone ends
    around = shown[v - 2 : v + 3, u - 2 : u + 3].reshape(-1, 3).astype(int)
    assert (np.ptp(around, 1) > 40).any(), "in colour"
    hand = (shown[:, 640:] != PANEL).any(-1)
    assert 0.1 < hand.mean() < 0.6
    px = HIGH / 250 * (seen.joints_mm[3] - seen.joints_mm.mean(0))  # the thumb, in a cube of 250 mm
    x, y = px[:2].round().astype(int)
    middle = HIGH // 2
    assert hand[middle + y, middle + x] and not hand[middle + y, middle - x], "on the side where the camera sees it"


def test_without_a_hand_the_reason_is_shown(tmp_path):
    depth, lost = np.zeros((240, 320), np.float32), seen_hand(why="nothing is near")
    assert (picture(depth, CAMERA, lost)[:, 640:] == PANEL).all()
    assert words(lost, 5.0, Recorder(tmp_path, 1.0)) == Words("no hand: nothing is near", None, 5.0)


def test_joints_outside_the_image_are_not_drawn():
    seen = seen_hand()
    shown = picture(np.zeros((240, 320), np.float32), Camera(290, 290, -2000, 119.5), seen)
    assert (shown[:, :640] == 20).all()


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
    with Pressed(0, KEYS, TITLE, ALT) as page:
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


def test_a_folder_is_played_again_if_asked(tmp_path):
    write_folder(drawn_frames()[0][:2], tmp_path, CAMERA, (240, 320), 0.25)
    camera = tuple(vars(CAMERA).values())
    with opened(tmp_path, camera, 0.25, rate=1000) as once, opened(tmp_path, camera, 0.25, 1000, repeat=True) as again:
        images = list(once.images)
        for image, expected in zip(itertools.islice(again.images, 4), images * 2, strict=True):
            np.testing.assert_array_equal(image, expected)


def test_an_image_that_cannot_be_read_is_told_and_costs_no_other(tmp_path, capsys):
    write_folder(drawn_frames()[0][:3], tmp_path, CAMERA, (240, 320), 0.25)
    (tmp_path / "00001.png").write_bytes(b"")
    camera = tuple(vars(CAMERA).values())
    with opened(tmp_path, camera, 0.25, rate=1000) as once, opened(tmp_path, camera, 0.25, 1000, repeat=True) as again:
        assert len(list(once.images)) == 2 and capsys.readouterr().err.count("warning: left out: ") == 1
        assert len(list(itertools.islice(again.images, 5))) == 5 and capsys.readouterr().err.count("left out") == 1
    for name in ("00000.png", "00002.png"):
        (tmp_path / name).write_bytes(b"")
    with opened(tmp_path, camera, 0.25, 1000, repeat=True) as none, pytest.raises(ValueError, match="00002.png"):
        next(iter(none.images))


def test_what_is_no_source(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyrealsense2", None)
    for arguments, message in (
        ({}, "needs the package pyrealsense2"),
        ({"rate": 0}, "--rate must be more than 0, got 0"),
        ({"unit_mm": 1.0}, "--camera, --unit-mm and --repeat are of a folder's images"),
        ({"repeat": True}, "--camera, --unit-mm and --repeat are of a folder's images"),
        ({"folder": tmp_path}, "does not tell its camera: say .*--camera FX FY"),
    ):
        with pytest.raises(ValueError, match=message), opened(**arguments):
            pass


def test_a_browser_that_goes_away_stops_nothing():
    with live_page() as page:
        page.show(np.zeros((8, 8, 3), np.uint8), Words("black"))
        first_pictures(page.address, 1)
        for shade in range(20):
            page.show(np.full((400, 400, 3), shade, np.uint8), Words("grey"))
        assert len(first_pictures(page.address, 1)) == 1
    assert threading.active_count() < 40 and torch.is_grad_enabled()
