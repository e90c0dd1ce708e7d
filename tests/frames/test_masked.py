"""Hands that are marked by masks, or end at a dark wristband in a colour image."""

import numpy as np
import pytest
from drawn_things import CAMERA, SIZE, film, limb
from PIL import Image

from hrlib.frames.folder import DepthFolder
from hrlib.frames.masked import MaskedFolder, hand_in
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


def on(pixels, alpha):
    return np.dstack([np.broadcast_to(pixels, (*alpha.shape, 3)), alpha])


@pytest.mark.parametrize(
    "kind",
    [
        "0/1",
        "0/255",
        "labels",
        "soft",
        "jpeg",
        "rgba",
        "cut out",
        "red",
        "palette",
        "bits",
        "float",
        "16",
        "depth",
        "grey",
        "dark grey",
        "labels from 1",
        "logits",
        "pbm",
        "fax",
        "npz",
        "DexYCB",
    ],
)
def test_masks_of_all_kinds_mean_the_same(tmp_path, kind):
    hand = np.zeros((60, 80), bool)
    hand[10:50, 20:60] = True
    white = hand.astype(np.uint8) * 255
    soft = white.copy()
    soft[9, 20:60], soft[10, 20:60], soft[50, 20:60] = 90, 160, 40  # its outline is where it crosses a half
    pixels = {
        "0/1": hand.astype(np.uint8),
        "labels": hand * (1 + np.arange(60)[:, None] // 20).astype(np.uint8),
        "soft": soft,
        "rgba": on(white[..., None], np.full_like(white, 255)),
        "cut out": on(np.uint8([3, 2, 1]), white),
        "red": np.dstack([white, white * 0, white * 0]),
        "bits": hand,
        "float": np.where(hand, np.float32(0.8), np.float32(0.1)),
        "16": hand.astype(np.uint16) * 65535,
        "depth": hand * (4000 + np.arange(80, dtype=np.uint16)),
        "grey": np.where(hand, 255, 130).astype(np.uint8),
        "dark grey": np.where(hand, 100, 30).astype(np.uint8),
        "labels from 1": hand * np.uint8(1) + np.uint8(1),
        "logits": np.where(hand, np.float32(7.5), np.float32(-9.2)),
        "pbm": hand,
        "fax": hand,
        "DexYCB": np.where(hand, 255, np.arange(80) // 60 * 11).astype(np.uint8),  # a hand, and an object beside it
    }.get(kind, white)
    names = {"jpeg": "1.jpg", "float": "1.npy", "logits": "1.npy", "pbm": "1.pbm", "fax": "1.tif"}
    path = tmp_path / names.get(kind, "1.npz" if kind in ("npz", "DexYCB") else "1.png")
    image = Image.fromarray(pixels) if path.suffix not in (".npy", ".npz") else None
    if kind == "npz":
        np.savez(path, bbox=np.zeros((4, 3, 4)), depth=np.full((60, 80), 500), hand_mask=hand)
    if kind == "DexYCB":  # the file of its labels has the pose of each object, and joints
        np.savez(path, pose_y=np.zeros((4, 3, 4)), joint_3d=np.zeros((1, 21, 3)), seg=pixels)
    if kind == "palette":
        image = image.convert("P", palette=Image.Palette.ADAPTIVE, colors=2)
    if path.suffix == ".npy":
        np.save(path, pixels)
    elif image is not None:
        image.save(path, **{"jpeg": {"quality": 60}, "fax": {"compression": "group4"}}.get(kind, {}))
    np.save(tmp_path / "depth.npy", np.full((1, 60, 80), 500.0))
    (tmp_path / "frames").mkdir()
    Image.fromarray(np.full((60, 80), 500, np.uint16)).save(tmp_path / "frames" / "1.png")
    (frame,) = MaskedFolder(DepthFolder(tmp_path / "frames", (100.0, 100.0)), tmp_path)
    assert (frame.mask != hand).sum() == 0


def test_an_empty_jpeg_is_an_empty_mask_and_an_inverted_one_is_named(tmp_path):
    noise = np.random.default_rng(0).integers(0, 9, (60, 80)).astype(np.uint8)
    assert not hand_in(noise, tmp_path / "a.jpg").any()
    hand = np.zeros((60, 80), np.uint8)
    hand[10:60, 20:60] = 255  # the arm leaves the image
    assert hand_in(hand, tmp_path / "a.png").sum() == 2000
    for inverted in (255 - hand, (hand == 0).astype(np.uint8)):
        with pytest.raises(
            ValueError, match="a.png: marks the image's border as hand: it is inverted; save it with the hand"
        ):
            hand_in(inverted, tmp_path / "a.png")
    assert hand_in(hand * 0 + 255, tmp_path / "a.png").all(), "all of it: the frames show nothing but the hand"


@pytest.mark.parametrize("colours", [((0, 0, 255), (255, 255, 255)), ((220, 0, 0), (0, 220, 0))])
def test_colours_that_are_equally_bright_tell_nothing(tmp_path, colours):
    pixels = np.full((60, 80, 3), colours[1], np.uint8)
    pixels[10:50, 20:60] = colours[0]
    with pytest.raises(ValueError, match="a.png: its colours are equally bright; save a mask with the hand white"):
        hand_in(pixels, tmp_path / "a.png")


def test_times_as_names_and_a_stray_mask(seen, tmp_path):
    depth, names = seen[0].astype(np.uint16), ["1305031102.175304", "1305031102.208304", "rec.0"]
    for folder in ("depth", "masks"):
        (tmp_path / folder).mkdir()
    for k, name in enumerate(names):
        Image.fromarray(depth).save(tmp_path / f"depth/{name}.png")
        mask = np.zeros(depth.shape, np.uint8)
        mask[50 : 60 + k, 50:60] = 255
        Image.fromarray(mask).save(tmp_path / f"masks/{name}.{('bmp', 'PNG', 'tif')[k]}")
    Image.fromarray(mask * 0).save(tmp_path / "masks/rec.png")
    Image.fromarray(mask * 0).save(tmp_path / "masks/1305031102.png")
    frames = MaskedFolder(DepthFolder(tmp_path / "depth", CAMERA), tmp_path / "masks")
    assert [frame.mask.sum() for frame in frames] == [100, 110, 120]
    (tmp_path / "masks/rec.0.tif").unlink()
    with pytest.raises(ValueError, match="rec.0.png is missing"):
        MaskedFolder(frames.frames, tmp_path / "masks")[2]
