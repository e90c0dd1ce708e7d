"""Hands that are marked by masks, or end at a dark wristband in a colour image."""

import numpy as np
import pytest
from drawn_things import CAMERA, SIZE, film, limb
from PIL import Image

from hrlib.frames.folder import DepthFolder
from hrlib.frames.masked import MaskedFolder
from hrlib.frames.segment import NoHandFound
from hrlib.frames.wristband import cut_at_wristband

# a fist on a long arm that a dark band divides at y = 75 to 95 mm
THING = np.concatenate([limb((0, -10, 0), (0, 20, 0), 42, 38), limb((0, 30, 0), (0, 260, 10), 27, 32, 40)])


@pytest.fixture(scope="module")
def seen():
    depth = film(THING, 1, 450.0, upright=True, noise_mm=0.0)[0]
    y = (np.mgrid[: SIZE[0], : SIZE[1]][0] - CAMERA.cy) / CAMERA.fy * depth
    colour = np.full((*SIZE, 3), (200, 160, 140), np.uint8)
    band = (depth > 0) & (y > 75) & (y < 95)
    colour[band] = (30, 30, 45)
    colour[:20] = 5  # a dark background is no wristband
    return depth, colour, y, band


def test_the_hand_ends_at_the_wristband(seen):
    depth, colour, y, band = seen
    mask = cut_at_wristband(depth, CAMERA, colour)
    hand = (depth > 0) & (y < 75)
    assert not mask[band].any() and not mask[(depth > 0) & (y > 95)].any()
    assert mask[hand].mean() > 0.93 and not mask[depth == 0].any()


def test_a_finger_that_a_shadow_cuts_off_is_of_the_hand_and_the_arm_is_not(seen):
    depth, colour, y, _ = seen
    shadowed = np.where((y > -38) & (y < -34), 0, depth)
    mask = cut_at_wristband(shadowed, CAMERA, colour)
    tip = (shadowed > 0) & (y < -38)
    assert tip.sum() > 100 and mask[tip].all() and not mask[y > 75].any()
    assert np.array_equal(mask[y > -34], cut_at_wristband(depth, CAMERA, colour)[y > -34])


def test_without_a_wristband_it_says_so(seen):
    depth, colour, _, _ = seen
    with pytest.raises(NoHandFound, match="no dark wristband"):
        cut_at_wristband(depth, CAMERA, np.full_like(colour, 180))
    with pytest.raises(ValueError, match=r"colour must be \[200, 240, 3\].*got \[199, 240, 3\]"):
        cut_at_wristband(depth, CAMERA, colour[1:])


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_folder_with_masks_or_colour_images(seen, tmp_path, side):
    depth, colour, y, _ = seen
    for folder in ("depth/a", "masks/a", "colour/a"):
        (tmp_path / folder).mkdir(parents=True)
    Image.fromarray(depth.astype(np.uint16)).save(tmp_path / "depth/a/1.png")
    marked = (depth > 0) & (y < 60)
    Image.fromarray(marked.astype(np.uint16) * 300).save(tmp_path / "masks/a/1.png")  # 300 % 256 is not 0; 256 would be
    Image.fromarray(colour).save(tmp_path / "colour/a/1.png")
    frames = DepthFolder(tmp_path / "depth", CAMERA, side=side)
    turn = slice(None, None, -1 if side == "left" else 1)
    (frame,) = MaskedFolder(frames, masks=tmp_path / "masks")
    assert np.array_equal(frame.mask, marked[:, turn]) and np.array_equal(frame.depth_mm, frames[0].depth_mm)
    (frame,) = MaskedFolder(frames, colour=tmp_path / "colour")
    assert np.array_equal(frame.mask[:, turn], cut_at_wristband(frame.depth_mm[:, turn], CAMERA, colour))
    Image.fromarray(np.full_like(colour, 180)).save(tmp_path / "colour/a/1.png")
    assert not MaskedFolder(frames, colour=tmp_path / "colour")[0].mask.any()


def test_what_is_missing_or_misfits_is_named(seen, tmp_path):
    depth = seen[0].astype(np.uint16)
    for folder in ("depth", "masks"):
        (tmp_path / folder).mkdir()
    Image.fromarray(depth).save(tmp_path / "depth/1.png")
    frames = DepthFolder(tmp_path / "depth", CAMERA)
    with pytest.raises(ValueError, match="masks/1.png is missing"):
        MaskedFolder(frames, masks=tmp_path / "masks")[0]
    Image.fromarray(depth[:, 1:]).save(tmp_path / "masks/1.png")
    with pytest.raises(ValueError, match="masks/1.png: 239x200 px, but its depth image has 240x200"):
        MaskedFolder(frames, masks=tmp_path / "masks")[0]
    (tmp_path / "masks/1.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="masks/1.png: cannot be read as a PNG"):
        MaskedFolder(frames, masks=tmp_path / "masks")[0]
    with pytest.raises(FileNotFoundError, match="none is no folder: name the folder that holds the colour images"):
        MaskedFolder(frames, colour=tmp_path / "none")
    with pytest.raises(ValueError, match="one of the two"):
        MaskedFolder(frames)
