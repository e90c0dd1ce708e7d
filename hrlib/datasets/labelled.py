"""What the readers of NYU, ICVL and MSRA15 share: frames with labels beside them, and three ways to crop them.

A `Frame` has no labels: refinement gets crops, and only the evaluation asks for `joints_mm`. The paper cuts out a padded block
around the 3D annotations (Sec. 4). This uses labels, and so may published centres; "free" uses none.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from ..frames.camera import Camera
from ..frames.crop import crop_hand
from ..frames.crops import Crops, concatenate
from ..frames.find import crop_found
from ..frames.folder import mirrored
from ..frames.frame import Frame
from ..support.checks import SIDES, require_one_of
from ..support.ground_truth import note
from ..support.progress import tqdm

PAD_MM = 30.0  # around the box of the labels: flesh lies outside the joints
CHUNK = 256  # frames in memory at a time: 315 MB of NYU, whose training set would take 89 GB
Joints = Float[np.ndarray, "F J 3"]
CROPS = {"label": "block around the labels", "centre": "given centres", "free": "segmented without labels"}


class LabelledFrames(Sequence):
    """Frames of a split, with `names`, and labels `joints_mm` [F, J, 3]: mm, camera frame, in the set's own joints.

    A left hand in the images (`side`) is mirrored with its labels. `left_out` is {name: reason} of files that cannot belong to
    the split. A frame whose file is missing or damaged raises FileNotFoundError or ValueError; `crop` leaves it out.
    """

    def __init__(self, dataset: str, camera: Camera, folder: Path, names: list[str], joints_mm: Joints, side: str):
        require_one_of(SIDES, side=side)
        self.dataset, self.camera, self.folder, self.names, self.side = dataset, camera, folder, names, side
        self._mirror = (-1, 1, 1) if side == "left" else (1, 1, 1)
        self._joints_mm = np.asarray(joints_mm, np.float64) * self._mirror
        self.left_out: dict[str, str] = {}

    @property
    def joints_mm(self) -> Joints:
        """The labels; each reading is noted."""
        note(self.dataset, "joints_mm")
        return self._joints_mm

    def __len__(self):
        return len(self.names)

    def __getitem__(self, index: int) -> Frame:
        frame = Frame(self.names[index], self.read(self.folder / self.names[index]), self.camera)
        return mirrored(frame) if self.side == "left" else frame

    def read(self, path: Path) -> Float[np.ndarray, "H W"]:
        """The depth image of a file, mm."""
        raise NotImplementedError(f"{type(self).__name__} must say how its files are read")

    def first(self, frames: int | None) -> "LabelledFrames":
        """Keep only the first frames (None: all), here and in what is returned: itself."""
        self.names, self._joints_mm = self.names[:frames], self._joints_mm[:frames]
        return self

    def crop(
        self, by: str, centres_mm: Float[np.ndarray, "F 3"] | None = None, cube_mm: float = 250.0, progress: bool = True
    ) -> tuple[Crops, Int[np.ndarray, " K"], dict[str, str]]:
        """The crops, the indices of their frames, and {name: reason} of the frames left out; `CHUNK` frames at a time.

        Args:
            by: "label": the block around the labels; "centre": the cube around `centres_mm`; "free": the segmented hand,
                without labels, where other frames of the folder and chunk help to find it (`crop_found`).
            centres_mm: mm, camera frame, as published: not mirrored.
        Raises:
            ValueError: arguments that do not fit, or no usable frame.
        """
        require_one_of(CROPS, by=by)
        if (by == "centre") != (centres_mm is not None) or (by == "centre" and len(centres_mm) != len(self)):
            raise ValueError(f'centres_mm must be one for each of the {len(self)} frames with by="centre", else None')
        low_mm = high_mm = None
        if by == "label":
            note(self.dataset, "joints_mm, for the crops")
            low_mm, high_mm = self._joints_mm.min(1) - PAD_MM, self._joints_mm.max(1) + PAD_MM
        if by == "centre":
            centres_mm = np.asarray(centres_mm, np.float64) * self._mirror
            low_mm, high_mm = centres_mm - cube_mm / 2, centres_mm + cube_mm / 2

        def crop_block(i: int) -> Crops:
            frame, centre = self[i], None if centres_mm is None else centres_mm[i]
            return crop_hand(frame.depth_mm, frame.camera, within(frame, low_mm[i], high_mm[i]), cube_mm, centre)

        crops, left_out = {}, dict(self.left_out)
        chunks = range(0, len(self), CHUNK)
        for first in tqdm(chunks, f"crop {self.dataset}", disable=not progress or len(chunks) < 2):
            part = range(len(self))[first : first + CHUNK]
            free = by == "free"
            crops |= self._free(part, cube_mm, left_out) if free else self._each(part, crop_block, left_out)
        if not crops:
            some = "; ".join(f"{name}: {reason}" for name, reason in list(left_out.items())[:3])
            raise ValueError(f"no usable frame among {len(self)} of {self.dataset} ({some})")
        return concatenate(list(crops.values())), np.array(list(crops)), left_out

    def _free(self, part: range, cube_mm: float, left_out: dict[str, str]) -> dict[int, Crops]:
        frames = self._each(part, self.__getitem__, left_out)
        crops, _, reasons = crop_found(frames.values(), cube_mm, progress=False)
        left_out.update(reasons)
        kept = [i for i, frame in frames.items() if frame.name not in reasons]
        return {i: crops[k] for k, i in enumerate(kept)}

    def _each(self, part: range, get: Callable[[int], Any], left_out: dict[str, str]) -> dict[int, Any]:
        """{i: get(i)} of the frames that can be used; the reasons of the others go to `left_out`."""
        done = {}
        for i in part:
            try:
                done[i] = get(i)
            except (ValueError, OSError) as error:
                left_out[self.names[i]] = str(error)
        return done


def within(frame: Frame, low_mm: Float[np.ndarray, " 3"], high_mm: Float[np.ndarray, " 3"]) -> Bool[np.ndarray, "H W"]:
    """Measured pixels whose points lie in the box from low_mm to high_mm, mm in the camera frame."""
    v, u = np.indices(frame.depth_mm.shape)
    points = frame.camera.unproject(u, v, frame.depth_mm)
    return (frame.depth_mm > 0) & ((points >= low_mm) & (points <= high_mm)).all(-1)


def of_size(depth_mm: Float[np.ndarray, "h w"], size: tuple[int, int], path: Path) -> Float[np.ndarray, "H W"]:
    """A depth image as it is. Raises ValueError that names `path` if it is not of the data set's `size` (H, W)."""
    if depth_mm.shape != size:
        raise ValueError(
            f"{path}: {depth_mm.shape[1]}x{depth_mm.shape[0]} px, wanted {size[1]}x{size[0]}; unpack it again"
        )
    return depth_mm


def label_of(words: list[str], joints: int) -> Float[np.ndarray, "J 3"] | None:
    """The joints that a line of a label file lists; None if it has another number of numbers, or not finite ones."""
    try:
        points = np.array(words, float).reshape(joints, 3)
    except ValueError:
        return None
    return points if np.isfinite(points).all() else None
