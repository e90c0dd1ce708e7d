"""What is doubtful is told with its remedy, each kind of wrong setting by its own words; right settings are told nothing."""

import json
import re
import sys
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from core_fixtures import template
from PIL import Image
from test_side import LEFT, RIGHT

from hrlib import __main__ as cli
from hrlib.datasets.fetch import dataset_folder
from hrlib.frames.camera import Camera
from hrlib.frames.folder import DepthFolder, mirrored
from hrlib.frames.frame import Frame
from hrlib.network.checkpoint import load_network
from hrlib.personal.check import look_over
from hrlib.personal.doubt import Doubt, Evidence, camera_doubts, doubts
from hrlib.personal.first_look import first_look
from hrlib.synthetic.frames import Synthesiser, SyntheticSettings

CAMERA, SIZE = Camera(140.0, 140.0, 79.5, 59.5), (120, 160)  # 59 degrees wide
GOOD = Evidence(CAMERA, SIZE, sides=RIGHT, size=1.0, confidence=0.5, likeness=0.9, distance_mm=500.0)


def test_a_doubt_is_one_line_of_three_parts():
    doubt = Doubt("the hand is odd", "it has six fingers", "count again")
    assert doubt == "the hand is odd: it has six fingers; count again" and doubt.remedy == "count again"
    assert json.loads(json.dumps([doubt])) == [doubt]


@pytest.mark.parametrize(
    ("numbers", "image", "words"),
    [
        ((476, 470, 313, 242), (480, 640), None),
        ((525, 525, 319.5, 239.5), (480, 640), None),
        ((365, 365, 254.9, 205.1), (424, 512), None),  # Kinect v2
        ((504, 504, 320.7, 337.0), (576, 640), None),  # Azure Kinect: 49 px below the middle
        ((1380, 1380, 963, 541), (1080, 1920), None),  # depth put onto a colour image
        ((476, 313, 476, 242), (480, 640), "476 and 313 px, are far apart; .* FX FY CX CY, and 476 476 313 242 would fit$"),
        ((119, 78.4, 119, 60.7), (120, 160), "far apart; .* 119 119 78.4 60.7 would fit$"),
        ((313, 242, 476, 470), (480, 640), "far apart; .* 476 470 313 242 would fit$|far apart; .* 470 476 313 242 would fit$"),
        ((476, 313, 242, 476), (480, 640), "far apart; .* 476 476 313 242 would fit$"),
        ((525, 525, 240, 320), (480, 640), r"far from its middle, .* 525 525 320 240 would fit \(or the images are turned"),
        ((525, 525, 320, 240), (640, 480), r"far from its middle, .* 525 525 240 320 would fit \(or the images are turned"),
        ((525, 525, 320, 240), (240, 320), "outside of the image; .* resized from 640 x 480 px, .* times 0.5$"),
        ((476, 476, 313.7, 242.8), (240, 320), "outside of the image; .* resized from 640 x 480 px, .* times 0.5$"),
        ((0.74, 0.99, 0.49, 0.5), (480, 640), "look like shares of the image's size: FX and CX times its width"),
        ((119, 119, 78.4, 60.7), (160, 160), "CX and CY go with images that were cropped or padded"),
        ((525, 525, 319.5, 239.5), (960, 1280), "far from its middle.* resized from 640 x 480 px, .* times 2"),
        ((476, 476, 2000, 242), (480, 640), "outside of the image; .* without them the image's middle is taken"),
        ((476, 476, 313, 480), (480, 640), "outside of the image"),
        ((476, 476, 363, 242), (480, 640), r"\(363, 242\), is far from its middle, \(319.5, 239.5\)"),
        ((476, 476, 313, 292), (480, 640), "far from its middle"),
        ((476, 476, 0, 0), (480, 640), "far from its middle"),
        ((320, 320, 320, 240), (480, 640), "CX equals the focal length FX"),
        ((1050, 1050, 319.5, 239.5), (480, 640), "the focal length is unusual: with FX 1050 px, 640 px cover 34 degrees"),
        ((200, 200, 319.5, 239.5), (480, 640), "640 px cover 116 degrees"),
        ((525, 525, 49.5, 59.5), (120, 100), None),  # the part of an image that shows a hand
    ],
)  # fmt: skip
def test_a_camera_that_does_not_fit_the_images_is_noticed(numbers, image, words):
    said = list(camera_doubts(Camera(*numbers), image))
    assert len(said) == (words is not None) and (words is None or re.search(words, said[0])), said


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"size": 0.625}, "0.62 times as large .* --unit-mm times 1.60, or focal lengths times 0.62"),
        ({"size": 1.6}, "1.60 times as large .* --unit-mm times 0.62, or focal lengths times 1.60"),
        ({"distance_mm": 60.0}, "60 mm away: .*--unit-mm"),
        ({"distance_mm": 1400.0}, "1400 mm away"),
        ({"found": 0.3}, "a hand is found in 30% of the frames only"),
        ({"size": 0.75}, "0.75 times as large .*a child's hand"),
        ({"likeness": 0.2}, "does not look like a hand: its median likeness is 0.20"),
        ({"confidence": 0.05}, "probably wrong in most frames: the median confidence is 0.05"),
        ({"hands": 0.8}, "two hands are in view in 80% of the frames: .*keep the other out"),
        ({"masked": 0.1}, "90% of the hand .* outside of them; masks are 0 except on the hand: invert them"),
        ({"sides": LEFT}, "show a left hand and are taken for a right one: .*see --side left"),
        ({"sides": LEFT, "model": "right"}, "show a left hand"),
        ({"given": "right", "model": "left"}, "the model is of a left hand, and --side right overrules it"),
    ],
)
def test_each_kind_of_doubt_has_its_words(changed, words):
    assert doubts(GOOD) == ()
    (said,) = doubts(replace(GOOD, **changed))
    assert re.search(words, said), said
    assert all((said.what, said.because, said.remedy)) and "\n" not in said


def test_a_small_size_that_the_frames_tell_badly_is_doubted_only_far_outside():
    badly = replace(GOOD, sides=replace(RIGHT, right=0.25, left=0.1))
    assert doubts(replace(badly, size=0.75)) == ()
    assert "0.50 times" in doubts(replace(badly, size=0.5))[0] and "1.30 times" in doubts(replace(badly, size=1.3))[0]


def test_without_a_hand_more_is_said_of_camera_and_unit():
    nothing = Evidence(Camera(476.0, 476.0, 79.5, 59.5), SIZE, found=0.0)
    assert "160 px cover 19 degrees" in doubts(nothing)[0]
    assert list(camera_doubts(nothing.camera, SIZE)) == [], "a part of an image that shows a hand"
    nothing = replace(nothing, camera=Camera(140.0, 140.0, 79.5, 59.5))
    assert doubts(nothing) == ()
    assert (
        "half of all depths are beyond 4611 mm; check --unit-mm (1 for Kinect"
        in doubts(replace(nothing, depth_mm=4611.0))[0]
    )
    assert "below 58 mm" in doubts(replace(nothing, depth_mm=58.0))[0]
    (said,) = doubts(replace(nothing, depth_mm=4611.0, other_unit=0.125))
    assert "--unit-mm times 0.125, or focal lengths times 8" in said


def test_without_a_hand_the_camera_alone_is_doubted():
    nothing = Evidence(Camera(140.0, 60.0, 79.5, 59.5), SIZE, found=0.0)
    assert len(doubts(nothing)) == 1 and doubts(replace(nothing, camera=CAMERA)) == ()
    (said,) = doubts(replace(nothing, camera=Camera(79.5, 59.5, 140.0, 140.0), other_unit=0.7))
    assert "140 140 79.5 59.5 would fit" in said, "and no unit that goes with the wrong numbers"


# -- frames ---------------------------------------------------------------------------------------------------------------


@cache
def base():
    return load_network(template())[0], template()


@cache
def raised() -> tuple[Frame, ...]:
    """Eight frames of the template's right hand, half of its arm, before a camera of 160 x 120 px."""
    settings = SyntheticSettings((400.0, 480.0), 0.1, 12.0, 12.0, forearm_share=1.0, forearm_mm=120.0, noise_share=0.0)
    maker, generator = Synthesiser(template(), settings), torch.Generator().manual_seed(5)
    drawing = maker.draw(*maker.sample(8, generator), generator, camera=CAMERA, size=SIZE)
    return tuple(Frame(f"{i}.png", np.round(depth), CAMERA) for i, depth in enumerate(drawing.depth_mm))


def seen(change=lambda frame: frame, **options):
    return first_look([change(frame) for frame in raised()], *base(), **options)


def with_camera(*factors):
    return lambda f: replace(f, camera=Camera(*(k * n for k, n in zip(factors, vars(f.camera).values(), strict=True))))


def with_unit(factor):
    return lambda f: replace(f, depth_mm=f.depth_mm * np.float32(factor))


def test_right_settings_are_told_nothing_and_a_mirror_image_is_taken_for_the_other_hand():
    assert seen().doubts == () and seen().side == "right"
    look = seen(mirrored)
    assert look.side == "left" and look.doubts == ()


@pytest.mark.parametrize(
    ("change", "least", "most"),
    [
        (with_unit(0.5), 0.42, 0.6),
        (with_unit(0.625), 0.53, 0.74),
        (with_unit(1.8), 1.5, 2.1),
        (with_unit(2.0), 1.6, 2.5),
        (with_camera(0.65, 0.65, 1, 1), 1.25, 1.7),
        (with_camera(1.4, 1.4, 1, 1), 0.6, 0.775),
    ],
)
def test_a_wrong_unit_or_focal_length_is_told_with_the_factor_that_would_fit(change, least, most):
    said = next(text for text in seen(change).doubts if "times as large as an adult's" in text)
    size = float(re.search(r"looks ([\d.]+) times", said)[1])
    assert least < size < most
    unit, focal = map(float, re.search(r"--unit-mm times ([\d.]+), or focal lengths times ([\d.]+)", said).groups())
    assert unit == pytest.approx(1 / size, abs=0.03) and focal == pytest.approx(size, abs=0.01)


def test_the_check_tells_the_same_as_the_first_look():
    frames = [with_unit(0.625)(frame) for frame in raised()]
    assert look_over(frames, *base(), False).doubts == first_look(frames, *base(), given="right").doubts != ()


def test_a_side_that_the_frames_contradict_is_told():
    assert any("show a right hand and are taken for a left one" in text for text in seen(given="left").doubts)
    assert any(
        "show a left hand and are taken for a right one" in text for text in seen(mirrored, model="right").doubts
    )


def test_inverted_masks_are_told_and_right_ones_are_not():
    """Before a wall, which is what an inverted mask shows: with nothing behind the hand, nothing would be left."""

    def masked(invert):
        def change(frame):
            hand = frame.depth_mm > 0
            depth = np.where(hand, frame.depth_mm, np.float32(900))
            beside = np.roll(hand, 45, 1) & ~hand  # a piece of wall of a hand's shape
            return replace(frame, depth_mm=depth, mask=beside if invert else hand)

        return change

    assert any("the masks do not fit the frames" in text for text in seen(masked(True)).doubts)
    assert not any("masks" in text for text in seen(masked(False)).doubts)


def test_predict_and_refine_tell_on_stderr_and_in_the_json(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "frames"
    folder.mkdir()
    for frame in raised():
        Image.fromarray((frame.depth_mm / 0.5).astype(np.uint16)).save(folder / frame.name)
    swapped = ("--camera", 140, 79.5, 140, 59.5, "--unit-mm", 0.5)  # fx cx fy cy
    words = ("predict", folder, *swapped, "--out", tmp_path / "j.csv", "--json", tmp_path / "j.json")
    monkeypatch.setattr(sys, "argv", ["hrlib", *map(str, words)])
    assert cli.main() == 0
    said, told = capsys.readouterr().err, json.loads((tmp_path / "j.json").read_text())["doubts"]
    assert "140 140 79.5 59.5 would fit" in told[0] and all(f"warning: {text}\n" in said for text in told)
    words = ("refine", folder, *swapped, "--out", tmp_path / "out", "--check-only")
    monkeypatch.setattr(sys, "argv", ["hrlib", *map(str, words)])
    cli.main()
    checked = json.loads((tmp_path / "out" / "check.json").read_text())["doubts"]
    assert checked[0] == told[0] and f"warning: {told[0]}\n" in capsys.readouterr().err


@pytest.mark.mirror
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f, None),
        (with_unit(0.625), "--unit-mm times 1.[4-8]"),
        (with_camera(1.37, 1.37, 1, 1), "focal lengths times 0.[67]"),
        (lambda f: replace(f, camera=Camera(f.camera.fx, f.camera.cx, f.camera.fy, f.camera.cy)), "119.002 119.002"),
    ],
)
def test_a_real_hand_by_every_fourth_pixel(change, words):
    camera = Camera(476.007, 476.007, 313.683, 242.755)
    folder = DepthFolder(dataset_folder("sr305"), camera, 0.125)
    quarter = Camera(*(n / 4 for n in vars(camera).values()))
    shots = [replace(folder[i], depth_mm=folder[i].depth_mm[::4, ::4].copy(), camera=quarter) for i in range(4)]
    said = first_look([change(frame) for frame in shots], *base()).doubts
    assert said == () if words is None else any(re.search(words, text) for text in said), said
