"""Depth frames whose hand is marked by mask images, or cut off at a dark wristband that colour images show."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Shaped, UInt8

from ..support.decoding import MASK_WORDS, read_pixels
from .folder import DepthFolder
from .frame import Frame
from .listing import Companions
from .wristband import mask_at_wristband

LABELS = 32  # a mask of smaller whole numbers has labels, as 0 and 1: those that are not 0 are hand
FEW = 4  # values of such a mask where they are larger
SAME = 4  # times as much as their brightness, colours differ that are equally bright
BORDER = 0.5  # share of the image's border from which a mask is inverted: no hand touches so much of it


class MaskedFolder(Sequence):
    """The frames of a `DepthFolder` with masks. A frame without a hand gets an empty mask.

    Images have the names of the depth images (`listing.Companions`). A frame whose image is missing, damaged, inverted or of
    another size raises ValueError when it is asked for; the message names the file.

    Args:
        frames: depth images.
        masks: folder of masks, in which the hand is bright, or has labels other than 0 (`hand_in`).
        colour: or folder of colour images, aligned with the depth images, for `mask_at_wristband`.
    """

    def __init__(self, frames: DepthFolder, masks: str | Path | None = None, colour: str | Path | None = None):
        if (masks is None) == (colour is None):
            raise ValueError("give masks or colour images, one of the two")
        self.frames, self.folder, self.is_mask = frames, Path(masks or colour), masks is not None
        # what the depth images, their recorder and their camera tell
        self.names, self.equal, self.recording = frames.names, frames.equal, frames.recording
        self.camera, self.unit_mm, self.side = frames.camera, frames.unit_mm, frames.side
        if not self.folder.exists():
            what = "mask" if self.is_mask else "colour"
            raise FileNotFoundError(f"{self.folder} is no folder: name the folder that holds the {what} images")

    def __len__(self):
        return len(self.frames)

    @cached_property
    def _companions(self) -> Companions:
        return Companions(self.folder)

    def __getitem__(self, index: int | slice) -> Frame | list[Frame]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        frame, name = self.frames[index], self.names[index]
        place = self._companions.of(name, self.frames.places[name].path)
        pixels = read_pixels(place.path, place.page, MASK_WORDS)
        if pixels.shape[:2] != frame.depth_mm.shape:
            wanted, got = (f"{s[1]}x{s[0]}" for s in (frame.depth_mm.shape, pixels.shape))
            raise ValueError(f"{place.path}: {got} px, but its depth image has {wanted}: align the two, pixel by pixel")
        pixels = pixels[:, ::-1] if self.side == "left" else pixels  # as the frame is
        if self.is_mask:
            return replace(frame, mask=hand_in(pixels, place.path))
        return replace(frame, mask=mask_at_wristband(frame.depth_mm, frame.camera, _rgb(pixels, place.path)))


def hand_in(pixels: Shaped[np.ndarray, "H W *channels"], path: Path) -> Bool[np.ndarray, "H W"]:
    """The hand's pixels in a mask: those brighter than half, those whose label is not 0, or those that are not transparent.

    Args:
        pixels: grey, or 3 or 4 channels, of which the brightest counts; a varying fourth one is what counts alone.
        path: of the mask. JPEG has no labels: what is dark in it is noise.

    Raises:
        ValueError: the mask is inverted, or its colours are equally bright.
    """
    if pixels.ndim == 3:
        alpha = pixels[..., 3:]
        pixels = alpha[..., 0] if alpha.size and alpha.min() < alpha.max() else _brightest(pixels[..., :3], path)
    pixels = np.nan_to_num(pixels)
    values = np.unique(pixels).astype(float)
    least, most = values[0], values[-1]
    whole = 1 if pixels.dtype.kind in "bf" and most <= 1 else max(most, 255)
    few = most < LABELS or (len(values) <= FEW and (most <= whole / 2 or 255 < most < 65535))
    labels = few and whole > 1 and path.suffix.lower() not in (".jpg", ".jpeg")
    half = (least + whole) / 2 if most > least > whole / 2 else whole / 2  # the background may be grey
    # labels without 0 have the background as the least one
    hand = pixels > ((least if 0 < least < most else 0) if labels else half)
    border = np.concatenate([hand[0], hand[-1], hand[1:-1, 0], hand[1:-1, -1]])
    if border.mean() > BORDER and not hand.all():
        raise ValueError(
            f"{path}: marks the image's border as hand: it is inverted; save it with the hand bright, or not 0"
        )
    return hand


def _brightest(colours, path: Path):
    """The brightest channel of each pixel, unless it tells far less than the colours do: blue on white is bright everywhere."""
    brightest = colours.max(-1)
    if SAME * float(np.ptp(brightest)) < np.ptp(colours, (0, 1)).max():
        raise ValueError(f"{path}: its colours are equally bright; save a mask with the hand white and the rest black")
    return brightest


def _rgb(pixels, path: Path) -> UInt8[np.ndarray, "H W 3"]:
    if pixels.dtype != np.uint8:
        raise ValueError(f"{path}: wanted colours of 8 bits, got {pixels.dtype}; convert it")
    return pixels[..., :3] if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, -1)
