"""The report, the video and the folder of a refinement, on a network that need not be good."""

import io
import re
import sys
from dataclasses import replace

import imageio.v2 as imageio
import numpy as np
import pytest
import torch
from core_fixtures import clean_batch, template
from PIL import Image

from hrlib.frames.camera import Camera
from hrlib.frames.folder import DepthFolder, write_folder
from hrlib.frames.frame import Frame
from hrlib.hand.shape import lengths_mm
from hrlib.network.checkpoint import load_network
from hrlib.personal.check import Check, Measures
from hrlib.personal.doubt import Doubt
from hrlib.personal.folder import UserFolder
from hrlib.personal.report import write_report
from hrlib.personal.result import PersonalResult
from hrlib.personal.run import refuse, write_all
from hrlib.personal.track import from_mirror, tracked
from hrlib.personal.video import gif_bytes, pictures, write_mp4
from hrlib.refine import Refined
from hrlib.refine.best import in_runs
from hrlib.refine.confidence import confidence
from hrlib.refine.explain import surprise


@pytest.fixture(scope="module")
def shots():
    net, _ = load_network(template())
    return tracked(net, template(), clean_batch().crops, ["a/1.png", "a/2.png", "<b>/1.png", "b/2.png"])


@pytest.fixture(scope="module")
def check(shots):
    one = torch.ones(4)
    doubt = Doubt("the size", "it is odd", "record more")
    m = Measures(600 * one, 0 * one, 0 * one, 0 * one, one, 3 * one, one > 2, torch.tensor([float("nan"), 3, 4, 5]))
    return Check(5, shots.crops, shots.names, m, {"x.png": "<too far>"}, (1.0, 2.0, 3.0), (), (doubt,))


@pytest.fixture(scope="module")
def result(shots, check):
    curve = [{"round": 0, "surprise": 0.4}, {"round": 1, "surprise": 0.2, "fitted_surprise": 0.1, "log_scale": 0.0}]
    hand = template().morphed({}, 1.1)
    refined = Refined(load_network(template())[0], hand, hand.cloud_mm, curve, ("only 4 frames",))
    better = replace(shots, confidence=shots.confidence.sqrt())
    return PersonalResult(check, template(), refined, shots, better, {"side": "left", "recipe": "best"})


def test_the_report_is_one_file_with_everything_in_it(result, tmp_path):
    hand = result.refined.hand
    gif = gif_bytes(list(pictures(result.before, hand)))
    write_report(tmp_path / "r.html", result, gif)
    text = (tmp_path / "r.html").read_text()
    assert len(text) < 2e6 and text.count("data:image/png;base64,") == 5 and text.count("data:image/gif;base64,") == 1
    assert not re.findall(r'(?:src|href)="(?!data:)', text) and "http" not in re.sub(r"base64,[^\"]*", "", text)
    assert "&lt;too far&gt;" in text and "&lt;b&gt;/1.png" in text and "<b>/1" not in text, "names are escaped"
    assert "Warning: only 4 frames" in text and "A left hand" in text and "record more" in text
    assert "+10%" in text and f"{lengths_mm(hand)['middle']:.0f} mm" in text
    with pytest.raises(ValueError, match="same frames"):
        write_report(tmp_path / "r.html", replace(result, before=result.before[torch.tensor([0])]), gif)


@pytest.mark.parametrize("missing", [None, "imageio_ffmpeg"])
def test_without_the_encoder_all_but_the_video_is_written(result, tmp_path, monkeypatch, missing):
    if missing:
        monkeypatch.setitem(sys.modules, missing, None)  # importing it raises ImportError
    written = write_all(tmp_path, result, progress=False)
    names = {"joints.csv", "joints.json", "tracked.gif", "report.html"} | (set() if missing else {"tracked.mp4"})
    assert {path.name for path in tmp_path.iterdir()} == set(written.files) == names
    assert ("tracked.mp4" in written.files["report.html"].read_text()) == (not missing)
    if missing:
        (note,) = written.notes
        assert note.startswith("tracked.mp4 is left out") and "pip install 'hrlib[video]'" in note and "\n" not in note
    else:
        assert written.notes == ()


def test_lengths_are_those_of_a_ruler():
    lengths, bigger = lengths_mm(template()), lengths_mm(template().morphed({}, 1.2))
    assert 60 < lengths["index"] < 110 and lengths["thumb"] < 110 and lengths["pinky"] < lengths["middle"]
    assert 150 < lengths["hand, wrist to middle fingertip"] < 220
    assert all(bigger[key] == pytest.approx(1.2 * value, rel=1e-4) for key, value in lengths.items())


def test_pictures_show_left_hands_as_the_camera_did(shots):
    right, left = (list(pictures(shots, template(), side)) for side in ("right", "left"))
    assert len(right) == 4 and right[0].shape == (284, 736, 3) and right[0].dtype == np.uint8
    a, b = right[0][60:240, :240], left[0][60:240, :240]  # below the title
    assert (a != b).mean() > 0.02
    assert np.array_equal(a, b[:, ::-1])
    mirrored = from_mirror(shots.joints_mm, "left")
    assert torch.equal(mirrored[..., 0], -shots.joints_mm[..., 0]) and torch.equal(
        mirrored[..., 1:], shots.joints_mm[..., 1:]
    )
    assert from_mirror(shots.joints_mm, "right") is shots.joints_mm


def test_mp4_and_gif_hold_the_frames(tmp_path):
    frames = [np.full((60, 100, 3), value, np.uint8) for value in (20, 120, 220)]
    write_mp4(tmp_path / "a.mp4", iter(frames), 3)
    back = imageio.mimread(tmp_path / "a.mp4", memtest=False)
    assert len(back) == 3 and back[0].shape == (60, 100, 3)
    assert [abs(int(f.mean()) - v) < 12 for f, v in zip(back, (20, 120, 220), strict=True)] == [True] * 3
    with Image.open(io.BytesIO(gif_bytes(frames, width=50))) as gif:
        assert gif.n_frames == 3 and gif.size == (50, 30)
    for empty in (lambda: write_mp4(tmp_path / "b.mp4", iter([]), 0), lambda: gif_bytes([])):
        with pytest.raises(ValueError, match="at least one frame"):
            empty()


def test_runs_are_in_a_row_and_evenly_spread():
    assert in_runs(5, 10, 4).tolist() == [0, 1, 2, 3, 4]
    assert in_runs(100, 12, 4).tolist() == [0, 1, 2, 3, 48, 49, 50, 51, 96, 97, 98, 99]


def test_refusals_stop_unless_told_otherwise(check):
    refuse(check)
    bad = replace(check, refusals=("no hands here",))
    with pytest.raises(ValueError, match="^refused: no hands here; --anyway"):
        refuse(bad)
    refuse(bad, anyway=True)
    with pytest.raises(ValueError, match="refused: no hands here"):
        refuse(replace(bad, crops=None), anyway=True)


def test_a_written_folder_is_what_a_camera_would_have_recorded(tmp_path):
    window = Camera(400.0, 400.0, 9.8, 5.1)  # 20 px right of and 10 px below the full image's first pixel
    depth = np.zeros((12, 20), np.float32)
    depth[3, 7] = 512.3
    write_folder([Frame("x", depth, window)], tmp_path, Camera(400.0, 400.0, 30.0, 15.0), (30, 60), 0.5)
    (frame,) = DepthFolder(tmp_path, Camera(400.0, 400.0, 30.0, 15.0), 0.5)
    assert frame.depth_mm[13, 27] == 512.5 and (frame.depth_mm > 0).sum() == 1 and frame.depth_mm.shape == (30, 60)
    with pytest.raises(ValueError, match="focal length of 400.0 px, not 500"):
        write_folder([Frame("x", depth, window)], tmp_path, Camera(500.0, 500.0, 30.0, 15.0), (30, 60))
    with pytest.raises(ValueError, match="take a larger unit_mm than 0.001"):
        write_folder([Frame("x", depth, window)], tmp_path, Camera(400.0, 400.0, 30.0, 15.0), (30, 60), 0.001)


def test_only_files_of_a_pattern(tmp_path):
    for name in ("depth_1.png", "depth_2.png", "colour_1.png"):
        Image.fromarray(np.full((4, 5), 700, np.uint16)).save(tmp_path / name)
    frames = UserFolder(tmp_path, (300.0, 300.0), 1.0, "depth_*.png").frames()
    assert [f.name for f in frames] == ["depth_1.png", "depth_2.png"]
    with pytest.raises(ValueError, match="no depth image whose name matches 'ir_"):
        UserFolder(tmp_path, (300.0, 300.0), 1.0, "ir_*").frames()
    with pytest.raises(ValueError, match="--frames must be at least 1, got 0"):
        UserFolder(tmp_path, (300.0, 300.0), 1.0).frames(limit=0)


def test_fitted_frames_are_explained_better_than_predicted_ones():
    hand, crops = template(), clean_batch().crops
    net, _ = load_network(hand)
    plain, fitted = (tracked(net, hand, crops, list("abcd"), fit) for fit in (False, True))
    explained = [surprise(hand, crops, shots.prediction) for shots in (plain, fitted)]
    assert (explained[1] < explained[0]).all() and fitted.joints_mm.shape == (4, 21, 3)
    error = [(shots.joints_mm - clean_batch().joints_mm).norm(dim=-1).mean() for shots in (plain, fitted)]
    assert error[1] < error[0]
    for shots in (plain, fitted):  # of a fit it is known already how well it explains its frame
        torch.testing.assert_close(shots.confidence, confidence(shots.prediction, hand, crops), rtol=1e-3, atol=1e-4)
