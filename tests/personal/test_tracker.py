"""The hand in frames in memory: one at a time, all at once, as a stream; both hands, odd numbers, no hand."""

import re

import numpy as np
import pytest
import torch
from core_fixtures import CAMERA, drawn_frames, template
from real_fixtures import sr305

import hrlib
from hrlib.frames.camera import Camera
from hrlib.frames.find import crop_frame
from hrlib.frames.folder import mirrored
from hrlib.frames.intrinsics import as_camera
from hrlib.frames.segment import NoHandFound
from hrlib.hand.joints import POINT_NAMES
from hrlib.network.checkpoint import load_network
from hrlib.personal import tracker as module
from hrlib.personal.first_look import first_look
from hrlib.personal.track import track
from hrlib.personal.tracker import HandSeen, Tracker, as_depth, predict
from hrlib.refine.gauss_newton import FitSettings
from hrlib.support.paths import ONE_HAND_MODEL

GOOD = (2, 4, 5)  # of the drawn frames: alone, each tells its side


def images() -> list[np.ndarray]:
    return [frame.depth_mm for frame in drawn_frames()[0]]


def assert_same(ours: HandSeen, other: HandSeen, atol=1e-4):
    for name in ("joints_mm", "rotations", "wrist_mm", "confidence"):
        np.testing.assert_allclose(getattr(ours, name), getattr(other, name), rtol=0, atol=atol, err_msg=name)
    assert (ours.side, ours.doubts, ours.why) == (other.side, other.doubts, other.why)


def test_one_frame():
    depth_mm, truth = images()[5], drawn_frames()[1][5].numpy()
    seen = predict(depth_mm, CAMERA)
    assert seen.found and seen.side == "right" and seen.joint_names == tuple(POINT_NAMES)
    assert np.linalg.norm(seen.joints_mm - truth, axis=1).mean() < 8 and 0.5 < seen.confidence <= 1
    np.testing.assert_allclose(seen.wrist_mm, seen.joints_mm[0], rtol=0, atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(seen.rotations, axis=1), 1, rtol=0, atol=1e-5)
    np.testing.assert_allclose(seen.posed.joints_mm, seen.joints_mm, rtol=0, atol=1e-3)
    assert seen.posed.vertices_mm.shape == tuple(template().vertices_mm.shape)


def test_a_left_hand_is_where_its_mirror_image_is_not():
    frame, right = drawn_frames()[0][5], predict(images()[5], CAMERA)
    other = mirrored(frame)
    left = predict(other.depth_mm, other.camera)
    assert left.side == "left"
    np.testing.assert_allclose(left.joints_mm * [-1, 1, 1], right.joints_mm, rtol=0, atol=0.5)
    np.testing.assert_allclose(left.posed.joints_mm, left.joints_mm, rtol=0, atol=1e-3)
    assert_same(Tracker(other.camera)(other.depth_mm), left)
    given = predict(frame.depth_mm, CAMERA, side="left")
    assert given.side == "left" and any("right" in doubt for doubt in given.doubts)


def test_what_counts_as_a_depth_image():
    depth_mm = images()[5]
    wanted, holes = predict(depth_mm, CAMERA), depth_mm.astype(np.float64)
    holes[depth_mm == 0] = np.nan
    holes[0, :9] = np.inf, -1, -np.inf, np.nan, 0, -0.0, -1e9, np.inf, np.nan
    for other in (
        holes,
        depth_mm[..., None],
        torch.from_numpy(depth_mm).requires_grad_(),
        torch.from_numpy(holes),
        np.asfortranarray(depth_mm),
        np.ma.masked_equal(depth_mm, 0).filled(np.nan),
        np.ma.masked_array(np.where(depth_mm > 0, depth_mm, 333), depth_mm == 0),
    ):
        assert_same(predict(other, CAMERA), wanted)
    assert_same(predict(np.round(depth_mm).astype(np.uint16), CAMERA), wanted, atol=3)
    before = depth_mm.copy()
    predict(depth_mm, CAMERA)
    assert (depth_mm == before).all(), "the caller's own"


@pytest.mark.parametrize(
    "depth, message",
    [
        (np.full((60, 80), 0.6), "looks like metres: nothing is farther away than 0.6; give depth_mm \\* 1000"),
        (np.full((60, 80), 0.6, np.float16), "looks like metres"),
        (-np.arange(4800.0).reshape(60, 80), "depth_mm is negative everywhere, .*give -depth_mm"),
        (torch.full((60, 80), 4.2, dtype=torch.bfloat16), "looks like metres"),
        (np.full((60, 80), 0.6), r"give depth_mm \* 1000; is it a picture of depth, as a crop is"),
        (np.zeros(5), r"must be an image \[H, W\] of numbers, got \[5\]"),
        (np.full((60, 80), 200, np.uint8), "of 8 bits, which hold no hand's depth in mm"),
        ({"depth": 1}, "of numbers, got dict; .* of a folder \\[frame.depth_mm for frame in"),
        (np.zeros((1, 1, 60, 80)), r"got \[1, 1, 60, 80\] of float64; hrlib.predict also takes images \[T, H, W\]"),
        (np.zeros((4, 5), bool), "got \\[4, 5\\] of bool"),
        (np.zeros((0, 5)), "got \\[0, 5\\]"),
        (np.full((4, 5), "far"), "of numbers"),
    ],
)
def test_what_does_not(depth, message):
    with pytest.raises(ValueError, match=message):
        predict(depth, (290, 290))
    with pytest.raises(ValueError, match=message):
        Tracker(CAMERA)(depth)


def test_no_hand_says_why():
    with pytest.raises(NoHandFound, match="no depth between 150 and 1500 mm"):
        predict(np.zeros((240, 320)), CAMERA)
    with pytest.raises(NoHandFound, match="half of all depths are beyond 8000 mm; check depth_mm"):
        predict(np.full((240, 320), 8000, np.uint16), CAMERA)
    with pytest.raises(NoHandFound, match="no hand in any of 2 frames"):
        predict(np.zeros((2, 240, 320)), CAMERA)
    with pytest.raises(ValueError, match="at least one image, got none"):
        predict([], CAMERA)


@pytest.mark.parametrize("camera", [(290.0, 290.0), [290, 290, 159.5, 119.5], np.diag([290.0, 290.0, 1.0])])
def test_what_counts_as_a_camera(camera):
    if np.shape(camera) == (3, 3):
        camera[:2, 2] = 159.5, 119.5
    assert_same(predict(images()[5], camera), predict(images()[5], CAMERA))


def test_what_is_no_camera(tmp_path):
    for camera in ((290.0,), np.eye(5), None, 290.0):
        with pytest.raises(ValueError, match="camera must be FX FY, FX FY CX CY, or the matrix"):
            as_camera(camera)
    with pytest.raises(FileNotFoundError, match="camera must be FX FY, .*; there is no file '290 290'"):
        as_camera("290 290")
    with pytest.raises(ValueError, match="camera fx must be a finite number"):
        Tracker((-290.0, 290.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="side must be 'right', 'left' or None, got 'links'"):
        Tracker(CAMERA, side="links")
    with pytest.raises(FileNotFoundError, match="no checkpoint at .*nowhere; name a folder"):
        Tracker(CAMERA, model="nowhere")
    with pytest.raises(FileNotFoundError, match="holds no model.safetensors"):
        Tracker(CAMERA, model=tmp_path)


def test_doubts_name_arguments():
    seen = predict(images()[5] * np.float32(1.6), CAMERA)
    assert any("times as large" in doubt for doubt in seen.doubts), seen.doubts
    assert not any("--" in doubt for doubt in seen.doubts)


def test_several_frames_are_those_of_the_folder():
    frames, net = drawn_frames()[0], load_network(template())[0]
    look = first_look(frames, net, template())
    ((shots, _),) = track(*look.told(net, template()), frames, fit=True)
    ours = predict(np.stack(images()), CAMERA)
    np.testing.assert_allclose([seen.joints_mm for seen in ours], shots.joints_mm.numpy(), rtol=0, atol=1e-4)
    assert {seen.side for seen in ours} == {look.side} and look.shape is not None
    with_gap = predict([*images()[:2], np.zeros((240, 320)), *images()[2:]], CAMERA)
    assert [seen.found for seen in with_gap] == [True, True, False, True, True, True, True]
    assert with_gap[2].why and np.isnan(with_gap[2].joints_mm).all() and with_gap[2].confidence == 0


def test_a_tracker_sees_in_its_first_frame_what_predict_sees():
    for i in GOOD:
        assert_same(Tracker(CAMERA)(images()[i]), predict(images()[i], CAMERA))


def test_a_tracker_remembers(monkeypatch):
    looks, loads = [], []
    monkeypatch.setattr(module, "LOOKED", (1, 3))
    monkeypatch.setattr(
        module, "first_look", lambda frames, *rest: looks.append(len(frames)) or first_look(frames, *rest)
    )
    Tracker(CAMERA)
    monkeypatch.setattr(module, "load_model", lambda *args: loads.append(args))
    tracker = Tracker(CAMERA)
    seen = [tracker(image) for image in images()]
    assert looks == [1, 3] and tracker._frames is None, "then all is settled, and no frame is kept"
    assert loads == [], "loaded by another tracker, once"
    truth = drawn_frames()[1].numpy()
    errors = [np.linalg.norm(hand.joints_mm - true, axis=1).mean() for hand, true in zip(seen, truth, strict=True)]
    assert np.median(errors) < 8, errors
    tracker.reset()
    assert_same(tracker(images()[5]), predict(images()[5], CAMERA))


def test_a_lost_hand_costs_no_exception_and_is_found_again():
    tracker, nothing = Tracker(CAMERA), np.zeros((240, 320))
    assert not tracker(nothing).found, "before any hand"
    first = tracker(images()[5])
    assert first.found and tracker._place_mm is not None
    for _ in range(module.GAP + 1):
        lost = tracker(nothing)
        assert not lost.found and lost.why and lost.side == first.side
    assert tracker._place_mm is None
    np.testing.assert_allclose(tracker(images()[5]).joints_mm, first.joints_mm, rtol=0, atol=1e-4)


def test_a_frame_with_the_hand_suddenly_elsewhere_is_searched_where_it_was(monkeypatch):
    tracker = Tracker(CAMERA)
    tracker(images()[5])
    asked, found = [], module.crop_frame

    def crop_frame(frame, near_mm=None):
        asked.append(near_mm)
        crop, why = found(frame) if near_mm is None else found(frame, near_mm=near_mm)
        if near_mm is None:  # a bottle
            crop = module.Crops(crop.image, crop.points, crop.centre_mm + 200, crop.count, crop.cube_mm)
        return crop, why

    monkeypatch.setattr(module, "crop_frame", crop_frame)
    monkeypatch.setattr(module, "crop_where", lambda *_: None)  # it is not surely there
    place = tracker._place_mm
    seen = tracker(images()[5])
    assert asked[0] is None and asked[1] is place and len(asked) == 2
    assert np.linalg.norm(seen.joints_mm.mean(0) - place) < 60


def test_a_hand_that_stays_is_looked_for_where_it_was(monkeypatch):
    tracker, whole = Tracker(CAMERA, "right"), []
    first = tracker(images()[5])
    monkeypatch.setattr(
        module, "crop_frame", lambda *given, **named: whole.append(named) or crop_frame(*given, **named)
    )
    seen = [tracker(images()[5]) for _ in range(module.EVERYWHERE)]
    assert len(whole) == 1, "a search of the whole frame, now and then"
    for hand in seen:  # close-ups about the locator's place or about the last one differ in a few pixels
        assert np.linalg.norm(hand.joints_mm - first.joints_mm, axis=1).mean() < 3


def test_a_quick_tracker_takes_fewer_looks_and_steps():
    truth, usual, quick = drawn_frames()[1][5].numpy(), Tracker(CAMERA, "right"), Tracker(CAMERA, "right", quick=True)
    assert quick.fit.steps < FitSettings().steps and Tracker(CAMERA, fit=False, quick=True).fit is False
    seen, fast = usual(images()[5]), quick(images()[5])
    assert not np.allclose(fast.joints_mm, seen.joints_mm, atol=0.1)
    assert np.linalg.norm(fast.joints_mm - truth, axis=1).mean() < 8


def test_a_stream_goes_through_a_tracker():
    stream = predict(iter(images()), CAMERA, side="right")
    tracker = Tracker(CAMERA, side="right")
    for i in range(2):
        assert_same(next(stream), tracker(images()[i]))


def test_a_fit_needs_gradients_whatever_the_caller_has():
    wanted = predict(images()[5], CAMERA)
    assert not np.allclose(wanted.joints_mm, predict(images()[5], CAMERA, fit=False).joints_mm, atol=0.1)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert_same(predict(images()[5], CAMERA), wanted)


def test_as_depth_of_saturated_counts():
    """The largest number, and what is too far, are marks; but a picture of nothing else has another unit."""
    assert as_depth(np.array([[500, 65535, 65534]], np.uint16)).tolist() == [[500, 0, 0]]
    assert as_depth(np.array([[500, 2**31 - 1, -1]], np.int32)).tolist() == [[500, 0, 0]]
    assert as_depth(np.array([[500, 1e6]])).tolist() == [[500, 0]]
    assert as_depth(np.array([[0, 50000]], np.uint16)).tolist() == [[0, 50000]]


def test_rows_of_numbers_are_an_image_and_colours_are_none():
    rows = [[500.0, 510.0], [0.0, -1.0], [520.0, 530.0]]
    assert as_depth(rows).tolist() == [[500, 510], [0, 0], [520, 530]] and module._images(rows) is None
    assert len(module._images([np.array(rows), np.array(rows)])) == 2
    with pytest.raises(ValueError, match=r"must be \[H, W\] or \[T, H, W\], got \[4, 5, 3\]: is it in colour"):
        predict(np.full((4, 5, 3), 500.0), CAMERA)
    with pytest.raises(ValueError, match=r"got \[240, 320, 7\], which looks like \[H, W, T\]: give numpy.moveaxis"):
        predict(np.full((240, 320, 7), 500.0), CAMERA)


def test_frames_of_another_size_need_another_camera():
    depth_mm = images()[5]
    with pytest.raises(
        ValueError, match="is 160x120 px, but the first frame was 320x240, and one principal point cannot"
    ):
        predict([depth_mm, depth_mm[::2, ::2]], CAMERA)
    tracker = Tracker(CAMERA)
    tracker(depth_mm)
    with pytest.raises(ValueError, match="first frame was 320x240"):
        tracker(depth_mm[::2, ::2])
    tracker.reset()
    tracker(depth_mm[::2, ::2])


def test_no_hand_but_one_in_another_unit_is_told():
    with pytest.raises(NoHandFound, match=r"no hand is found, but .* try depth_mm times (\S+), or") as told:
        predict(images()[5] * np.float32(8), CAMERA)
    factor = float(re.search(r"times ([\d.]+)", str(told.value))[1])
    assert factor == pytest.approx(1 / 8, rel=0.1)


def test_a_model_of_ones_own():
    seen = predict(images()[5], CAMERA, model=ONE_HAND_MODEL)
    assert seen.hand is module._loaded(str(ONE_HAND_MODEL.resolve()), ONE_HAND_MODEL.stat().st_mtime_ns)[1]
    assert not np.allclose(seen.joints_mm, predict(images()[5], CAMERA).joints_mm, atol=0.1)


def test_a_module_is_no_model():
    with pytest.raises(ValueError, match="model must be a folder or file of a model, got Identity; .*save_network"):
        predict(images()[5], CAMERA, model=torch.nn.Identity())


def test_names_of_the_library():
    assert hrlib.predict is predict and hrlib.Tracker is Tracker


@pytest.mark.mirror
def test_real_frames():
    frames = sr305()[:3]
    seen = predict([frame.depth_mm for frame in frames], frames[0].camera)
    assert all(hand.found and hand.side == "right" and hand.confidence > 0.3 for hand in seen)
    tracker = Tracker(Camera(*vars(frames[0].camera).values()))
    apart = [
        np.linalg.norm(tracker(f.depth_mm).joints_mm - hand.joints_mm, axis=1).mean()
        for f, hand in zip(frames, seen, strict=True)
    ]
    assert max(apart) < 5, apart
