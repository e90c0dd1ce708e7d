"""Which hand a folder shows: both are compared, the user's word and the model's come first, and contradictions are told."""

import re
from dataclasses import replace

import numpy as np
import pytest
from core_fixtures import clean_batch, template
from PIL import Image

from hrlib.frames.camera import Camera
from hrlib.frames.crops import in_mirror
from hrlib.frames.finder import Found
from hrlib.frames.folder import DepthFolder
from hrlib.frames.frame import Frame
from hrlib.frames.masked import MaskedFolder
from hrlib.network.checkpoint import load_network
from hrlib.personal.doubt import finder_says, side_doubts
from hrlib.personal.first_look import first_look
from hrlib.personal.side import Sides, compare_sides, read_as, settle_side

RIGHT, LEFT, OPEN = Sides(20, 0.6, 0.3), Sides(20, 0.3, 0.6), Sides(20, 0.43, 0.44)


def test_hands_are_explained_better_than_their_mirror_images():
    net, crops = load_network(template())[0], clean_batch().crops
    sides, mirrored = (compare_sides(net, template(), seen) for seen in (crops, in_mirror(crops)))
    assert sides.frames == 4 and sides.side == "right" and sides.sure
    assert mirrored.side == "left" and (mirrored.right, mirrored.left) == pytest.approx((sides.left, sides.right))
    left = compare_sides(net, template(), crops, "left")  # frames of a left hand are read in a mirror
    assert left.side == "left" and left.left == pytest.approx(sides.right)


def test_few_frames_need_a_larger_difference():
    assert Sides(20, 0.5, 0.4).sure and not Sides(3, 0.5, 0.4).sure and Sides(3, 0.6, 0.4).sure


def test_the_finder_counts_beside_the_comparison(monkeypatch):
    assert OPEN.side == "left" and not OPEN.sure
    told = replace(OPEN, finder=0.95)
    assert told.side == "right" and told.sure and "finder: right with 95%" in str(told)
    assert replace(RIGHT, finder=0.1).side == "right", "where both disagree, the larger difference counts"
    none, hand = np.zeros((60, 80), bool), np.zeros((60, 80), bool)
    hand[20:30, 20:40] = True
    answers = iter([Found(hand, none, sure, right, 0.0) for sure, right in ((0.9, 0.8), (0.1, 0.0), (0.9, 0.6))])
    monkeypatch.setattr("hrlib.personal.doubt.find_hand", lambda *_: next(answers))
    frames = [Frame(str(i), np.full((60, 80), 500, np.float32), Camera(100.0, 100.0, 39.5, 29.5)) for i in range(3)]
    assert finder_says(frames) == (pytest.approx(0.7), None), "frames without a hand do not count"
    answers = iter([Found(hand, none, 0.9, 0.8, 0.0)] * 3)
    masks = [hand, ~hand, np.arange(80) < 25 + 0 * np.arange(60)[:, None]]
    right, masked = finder_says([replace(frame, mask=mask) for frame, mask in zip(frames, masks, strict=True)])
    assert right is None and masked == pytest.approx(0.25), "of 1, 0 and a quarter"


@pytest.mark.parametrize(
    ("given", "model", "sides", "side", "words"),
    [
        (None, None, None, "right", []),
        (None, None, LEFT, "left", []),
        (None, None, OPEN, "left", ["tell the side badly"]),
        (None, "right", OPEN, "right", []),
        (None, "right", LEFT, "right", ["show a left hand .* taken for a right one"]),
        ("left", None, LEFT, "left", []),
        ("left", None, RIGHT, "left", ["show a right hand"]),
        ("left", "right", LEFT, "left", ["the model is of a right hand, and --side left overrules it"]),
        ("right", None, None, "right", []),
    ],
)
def test_the_user_s_word_comes_first_then_the_model_s_then_the_frames(given, model, sides, side, words):
    warnings = list(side_doubts(side, given, model, sides))
    assert settle_side(given, model, sides) == side and len(warnings) == len(words)
    for warning, pattern in zip(warnings, words, strict=True):
        assert re.search(pattern, warning)


def test_a_folder_says_as_what_it_is_read_and_one_without_a_hand_has_no_side(tmp_path):
    for i in range(3):
        Image.fromarray(np.zeros((60, 80), np.uint16)).save(tmp_path / f"{i}.png")
    frames = DepthFolder(tmp_path, (100.0, 100.0), side="left")
    assert read_as(frames) == "left" and read_as(MaskedFolder(frames, masks=tmp_path)) == "left"
    assert read_as([frames[0]]) == "right"
    look = first_look(DepthFolder(tmp_path, (70.0, 70.0)), load_network(template())[0], template())
    assert look.evidence.sides is None and look.side == "right" and look.doubts == (), (
        "predict says that there is no hand"
    )
