"""Depth frames whose hand is marked by mask images, or cut off at a dark wristband that colour images show."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..support.decoding import FORMATS, read_image
from .folder import DepthFolder
from .frame import Frame
from .wristband import mask_at_wristband

SUFFIXES = tuple(FORMATS)


class MaskedFolder(Sequence):
    """The frames of a `DepthFolder` with masks. A frame without a hand gets an empty mask.

    Images have the names of the depth images, with any of `SUFFIXES`. A frame whose image is missing, damaged or of another
    size raises ValueError when it is asked for; the message names the file.

    Args:
        frames: depth images.
        masks: folder of masks: pixels other than 0 are hand.
        colour: or folder of colour images, aligned with the depth images, for `mask_at_wristband`.
    """

    def __init__(self, frames: DepthFolder, masks: str | Path | None = None, colour: str | Path | None = None):
        if (masks is None) == (colour is None):
            raise ValueError("give masks or colour images, one of the two")
        self.frames, self.folder, self.is_mask = frames, Path(masks or colour), masks is not None
        if not self.folder.is_dir():
            what = "mask" if self.is_mask else "colour"
            raise FileNotFoundError(f"{self.folder} is no folder: name the folder that holds the {what} images")

    def __len__(self):
        return len(self.frames)

    @property
    def names(self) -> list[str]:
        """Of the depth images, below their folder."""
        return self.frames.names

    @property
    def side(self) -> str:
        """Which hand the frames are read as."""
        return self.frames.side

    def __getitem__(self, index: int | slice) -> Frame | list[Frame]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        frame = self.frames[index]
        path = self._beside(self.frames.names[index])
        image = _read(path, "L" if self.is_mask else "RGB")
        if image.shape[:2] != frame.depth_mm.shape:
            wanted, got = (f"{s[1]}x{s[0]}" for s in (frame.depth_mm.shape, image.shape))
            raise ValueError(f"{path}: {got} px, but its depth image has {wanted}: align the two, pixel by pixel")
        if self.side == "left":
            image = image[:, ::-1]  # as the frame is
        if self.is_mask:
            return replace(frame, mask=image > 0)
        return replace(frame, mask=mask_at_wristband(frame.depth_mm, frame.camera, image))

    def _beside(self, name: str) -> Path:
        stem = self.folder / Path(name).with_suffix("")
        for suffix in SUFFIXES:
            if stem.with_suffix(suffix).is_file():
                return stem.with_suffix(suffix)
        raise ValueError(f"{stem}.png is missing: each depth image needs its mask or colour image, of the same name")


def _read(path: Path, mode: str) -> np.ndarray:
    image = read_image(path)
    as_stored = mode == "L" and image.mode.startswith("I")  # conversion to 8 bits would clip a 16-bit mask
    return np.asarray(image if as_stored else image.convert(mode))
