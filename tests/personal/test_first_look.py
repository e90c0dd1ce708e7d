"""What some frames tell before all are read: the hand's size, its shape, and what to doubt."""

import math
from dataclasses import replace

import pytest
import torch
from core_fixtures import clean_batch, template

from hrlib.frames.camera import Camera
from hrlib.frames.crops import resized
from hrlib.frames.frame import Frame
from hrlib.hand.shape import WHOLE, lengths_mm
from hrlib.network.checkpoint import load_network
from hrlib.network.posenet import PoseNet
from hrlib.personal import doubt
from hrlib.personal import first_look as looking
from hrlib.personal.doubt import FEWEST_TOLD, size_doubt
from hrlib.personal.first_look import FirstLook, factors, first_look
from hrlib.personal.size import _summit, apparent_size
from hrlib.support.paths import ONE_HAND_MODEL

SHAPE = torch.tensor([-0.1, 0.0, 0.01, 0.02, 0.03, 0.04, 0.05, -0.05])


@pytest.mark.parametrize("factor", [0.7, 1.5])
def test_resized_crops_are_those_of_the_resized_scene(factor):
    hand, net = template(), load_network(template(), ONE_HAND_MODEL)[0]
    crops = clean_batch().crops
    assert apparent_size(net, hand, crops) == pytest.approx(1, abs=0.07)
    other = resized(crops, factor)
    assert apparent_size(net, hand, other) == pytest.approx(factor, rel=0.12)
    torch.testing.assert_close(other.centre_mm, factor * crops.centre_mm)
    torch.testing.assert_close(resized(crops, 1.0).image, crops.image, rtol=0, atol=1e-6)
    if (
        factor < 1
    ):  # nothing leaves the cube: as many pixels as the area says, each as far from the middle as its factor
        covered = [(c.image > 0).sum().item() for c in (crops, other)]
        assert covered[1] / covered[0] == pytest.approx(factor**2, rel=0.05)
        spread = [c.image[c.image > 0].sub(0.5).std().item() for c in (crops, other)]
        assert spread[1] / spread[0] == pytest.approx(factor, rel=0.05)


@pytest.mark.parametrize("top", [-3.2, -1.0, 0.3, 2.4])
def test_the_summit_is_found_from_few_heights(top):
    asked = []

    def height(k):
        asked.append(k)
        return -((k - top) ** 2)

    assert _summit(height) == pytest.approx(top) and len(asked) == len(set(asked)) <= 6
    assert _summit(lambda k: k) == 4, "no farther than that"


def test_a_doubt_names_the_factor():
    assert "0.62 times as large" in size_doubt(0.625) and "--unit-mm times 1.60" in size_doubt(0.625)
    assert "child" in size_doubt(0.7) and "child" not in size_doubt(1.4)


def test_the_shape_is_what_the_network_sees_in_frames_as_they_are_to_be_read(monkeypatch):
    net = PoseNet(replace(load_network(template(), ONE_HAND_MODEL)[0].settings, shape=True))
    net.load_state_dict(load_network(template(), ONE_HAND_MODEL)[0].state_dict(), strict=False)
    crops, seen = clean_batch().crops[[0, 1, 2, 3, 0]], []
    monkeypatch.setattr(looking, "crops_of", lambda frames: crops)
    monkeypatch.setattr(doubt, "seen_shape", lambda net, crops: seen.append(crops) or SHAPE)
    shots = [Frame("a", torch.zeros(4, 4).numpy(), Camera(3.0, 3.0, 1.5, 1.5))]
    look = first_look(shots, net.eval(), template())
    assert look.side == "right" and look.frames == FEWEST_TOLD == 5 and torch.equal(look.shape, SHAPE)
    assert torch.equal(seen[0].image, crops.image) and look.doubts == ()
    first_look(shots, net, template(), given="left")
    assert torch.equal(seen[1].image, crops.image.flip(2)), "as the frames will be read"
    known, hand = look.told(net, template())
    assert look.length_mm == pytest.approx(lengths_mm(hand)[WHOLE])
    assert look.length_mm < 0.95 * lengths_mm(template())[WHOLE]
    assert torch.equal(known.known, SHAPE) and hand.joints_mm.norm() < template().joints_mm.norm()
    assert first_look(shots, known, template()).shape is None, "a personal model knows its hand"
    assert first_look(shots, load_network(template(), ONE_HAND_MODEL)[0], template()).shape is None
    monkeypatch.setattr(looking, "crops_of", lambda frames: crops[:4])
    assert first_look(shots, net, template()).shape is None, "too few frames"
    monkeypatch.setattr(looking, "crops_of", lambda frames: None)
    nothing = first_look(shots, net, template())
    assert (nothing.side, nothing.doubts, nothing.frames, nothing.shape) == ("right", (), 0, None)


def test_what_is_said_of_the_shape():
    look = FirstLook("left", ("a doubt",), 87, SHAPE, length_mm=168.4)
    assert str(look).startswith(
        "a left hand (its shape: estimated from 87 frames, 168 mm from wrist to middle fingertip; "
    )
    assert "--unit-mm" in str(look)
    record = look.record()
    assert record["side"] == "left" and record["doubts"] == ("a doubt",)
    assert record["estimated_shape"]["length_mm"] == 168.4 and record["estimated_shape"]["frames"] == 87
    assert record["estimated_shape"]["size"] == pytest.approx(0.905)
    assert factors(SHAPE)["length of pinky"] == pytest.approx(math.exp(0.04), abs=1e-3)
    assert factors(SHAPE)["girth of wrist"] == pytest.approx(math.exp(-0.05), abs=1e-3)
    unknown = FirstLook("right", (), 3)
    assert str(unknown) == "a right hand" and unknown.record()["estimated_shape"] is None


def test_doubts_about_camera_and_size_are_told(monkeypatch):
    crops = resized(clean_batch().crops, 0.6)
    monkeypatch.setattr(looking, "crops_of", lambda frames: crops)
    shots = [Frame("a", torch.zeros(4, 4).numpy(), Camera(100.0, 60.0, 1.5, 1.5))]
    look = first_look(shots, load_network(template(), ONE_HAND_MODEL)[0], template())
    assert look.side == "right", "a hand of another size is compared in its own"
    assert len(look.doubts) == 2 and "FX FY CX CY" in look.doubts[0] and "times as large" in look.doubts[1]
