"""Simulated wristbands: dark in the colour image, and found there without a look at the truth."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from core_fixtures import template

from hrlib.frames.segment import check_mask
from hrlib.hand.rotations import rotation_matrix
from hrlib.synthetic import people
from hrlib.synthetic.people import USERS
from hrlib.synthetic.wristband import band_faces


@pytest.fixture(scope="module")
def recorded():
    """Frames of a user without and with a wristband, the same movement, and the colour images of the latter."""
    colours, cut = [], people.mask_at_wristband

    def and_kept(depth_mm, camera, colour):
        colours.append(colour)
        return cut(depth_mm, camera, colour)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(people, "SEQUENCE", 12)
        patch.setattr(people, "mask_at_wristband", and_kept)
        bare = USERS["A"].recording(template(), "test", 0)
        banded = replace(USERS["A"], wristband=True).recording(template(), "test", 0)
    return bare, banded, np.stack(colours)


def before_wrist(frame):
    """The measured pixels on the fingers' side of the true wrist."""
    mask = frame.depth_mm > 0
    R_cam_wrist = rotation_matrix(torch.from_numpy(frame.truth.rotations[:1]))[0].numpy()
    mask[mask] = (frame.camera.cloud(frame.depth_mm) - frame.truth.wrist_mm) @ R_cam_wrist[:, 1] > 0
    return mask


def test_the_band_is_a_closed_ring_around_the_arm():
    faces, corners = band_faces(5), 5
    assert len(faces) == 3 * 2 * corners and faces.max() == 4 * corners - 1
    edges = {(a, b) for face in faces.tolist() for a, b in zip(face, face[1:] + face[:1], strict=True)}
    open_edges = {edge for edge in edges if edge[::-1] not in edges}
    assert len(edges) == 3 * len(faces), "no edge twice in the same direction"
    assert {v for edge in open_edges for v in edge} == {*range(corners), *range(3 * corners, 4 * corners)}, (
        "under the skin"
    )


def test_the_band_alone_changes(recorded):
    bare, banded, _ = recorded
    for a, b in zip(bare, banded, strict=True):
        thicker = a.truth.depth_mm != b.truth.depth_mm
        assert np.array_equal(a.truth.joints_mm, b.truth.joints_mm) and a.camera == b.camera
        assert 0.004 < thicker.mean() < 0.05
        assert (thicker & before_wrist(b)).sum() < 0.2 * thicker.sum(), (
            "the hand's opening is slanted, and the band with it"
        )
        seen = thicker & (a.truth.depth_mm > 0)
        nearer = (a.truth.depth_mm - b.truth.depth_mm)[seen]
        assert nearer.min() > 0 and np.median(nearer) < 6, "2 mm above the skin, and more along a slanted ray"


def test_the_colour_image_shows_skin_a_dark_band_and_a_grey_wall(recorded):
    bare, banded, colours = recorded
    for a, b, colour in zip(bare, banded, colours, strict=True):
        dark, band = colour.max(-1) < 70, a.truth.depth_mm != b.truth.depth_mm
        assert np.array_equal(dark, band), "the band is where the arm is thicker"
        wall, skin = colour[b.truth.depth_mm == 0], colour[(b.truth.depth_mm > 0) & ~band]
        assert abs(wall.mean() - 128) < 1 and 3 < wall.std() < 5
        assert (skin[:, 0] > skin[:, 2]).mean() > 0.95 and skin[:, 0].std() > 10, "shaded"
    assert not np.array_equal(colours[0][:9, :9], colours[1][:9, :9]), "each image has noise of its own"


def test_the_mask_ends_near_the_true_wrist(recorded):
    for frame in recorded[1]:
        true = before_wrist(frame)
        assert (frame.mask & true).sum() > 0.9 * (frame.mask | true).sum()
        assert not check_mask(frame.depth_mm, frame.camera, frame.mask).reason


def test_a_hand_whose_band_is_not_seen_is_left_out(monkeypatch, tmp_path):
    monkeypatch.setattr(people.paths, "BUILD", tmp_path)
    monkeypatch.setattr(people, "SEQUENCE", 4)
    image, seen = people.colour_image, iter((True, False, True, False))

    def hidden(depth_mm, camera, band, random):
        return image(depth_mm, camera, band & next(seen), random)

    monkeypatch.setattr(people, "colour_image", hidden)
    recorded = people.record(replace(USERS["B"], wristband=True), template(), 4, progress=False)
    assert len(recorded) == 2 and recorded.left_out == 2
