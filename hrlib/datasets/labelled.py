"""What the readers of NYU, ICVL and MSRA15 share: frames with labels beside them, and three ways to crop them.

Labels are not in the `Frame`s: what refines gets crops, and only the evaluation asks for `joints_mm`. The paper cuts out a
padded block around the 3D annotations (Sec. 4), which uses labels; a published centre uses whatever it was made with, and
"free" uses none.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..frames.camera import Camera
from ..frames.crop import crop_hand
from ..frames.crops import Crops, concatenate
from ..frames.find import crop_frames
from ..frames.folder import mirrored
from ..frames.frame import Frame

PAD_MM = 30.0  # around the labels' box: flesh lies outside the joints
CROPS = {"label": "block around the labels", "centre": "given centres", "free": "segmented without labels"}

# where the palm is, index, little and middle finger begin, and the middle finger ends, among each set's joints
_HANDED = {"nyu": (35, 23, 5, 17, 12), "icvl": (0, 4, 13, 7, 9), "msra": (0, 1, 13, 5, 8)}


class LabelledFrames(Sequence):
    """Frames of a split with labels. `names` [F], `joints_mm` [F, J, 3] mm in the camera frame, in the set's own joints.

    side: of the hand in the images; "left" mirrors frames and labels, so that all that follows sees a right hand.
    left_out: {name: reason} of files that cannot belong to the split (no label, or a label that cannot be read).
    A frame whose file is missing or damaged raises ValueError or FileNotFoundError when it is asked for; `crop` leaves it
    out and says why.
    """

    def __init__(self, dataset: str, camera: Camera, names: list[str], paths: list[Path], joints_mm, side: str):
        if side not in ("left", "right"):
            raise ValueError(f'side must be "left" or "right", got {side!r}')
        self.dataset, self.camera, self.side = dataset, camera, side
        self.names, self.paths = names, paths
        self.joints_mm = np.asarray(joints_mm, np.float64) * ((-1, 1, 1) if side == "left" else 1)
        self.left_out: dict[str, str] = {}

    def __len__(self):
        return len(self.names)

    def __getitem__(self, index: int) -> Frame:
        frame = Frame(self.names[index], self.read(self.paths[index]), self.camera)
        return mirrored(frame) if self.side == "left" else frame

    def read(self, path: Path) -> np.ndarray:
        """One file as depth [H, W] float32 mm."""
        raise NotImplementedError(f"{type(self).__name__} must say how its files are read")

    def first(self, frames: int) -> "LabelledFrames":
        """Only the first frames from now on."""
        self.names, self.paths, self.joints_mm = self.names[:frames], self.paths[:frames], self.joints_mm[:frames]
        return self

    def crop(self, by: str, centres_mm=None, cube_mm: float = 250.0, progress: bool = True):
        """(crops, indices [K] of the frames that they are of, {name: reason} of those left out).

        by: "label", "centre" (centres_mm [F, 3] mm in the camera frame, unmirrored), or "free". Pixels outside the block
        or the cube are not the hand's. Raises ValueError where no frame is left.
        """
        if by not in CROPS:
            raise ValueError(f"by must be one of {', '.join(CROPS)}, got {by!r}")
        if (by == "centre") != (centres_mm is not None) or (by == "centre" and len(centres_mm) != len(self)):
            raise ValueError(f'centres_mm must be one for each of the {len(self)} frames with by="centre", else None')
        frames, at, left_out = [], [], dict(self.left_out)
        crops: list[Crops] = []
        for i in tqdm(range(len(self)), f"crop {self.dataset}", disable=not progress or len(self) < 50):
            try:
                frame = self[i]
                if by == "free":
                    frames.append(frame)
                else:
                    crops.append(self._crop(i, frame, None if centres_mm is None else centres_mm[i], cube_mm))
            except (ValueError, OSError) as error:
                left_out[self.names[i]] = str(error)
                continue
            at.append(i)
        if by == "free" and frames:
            cropped, kept, reasons = crop_frames(frames, cube_mm, progress)
            index = {frame.name: i for frame, i in zip(frames, at, strict=True)}
            return cropped, np.array([index[frame.name] for frame in kept]), left_out | reasons
        if not crops:
            some = "; ".join(f"{name}: {reason}" for name, reason in list(left_out.items())[:3])
            raise ValueError(f"no usable frame among {len(self)} of {self.dataset} ({some})")
        return concatenate(crops), np.array(at), left_out

    def _crop(self, i: int, frame: Frame, centre_mm, cube_mm: float) -> Crops:
        if centre_mm is None:
            low, high = self.joints_mm[i].min(0) - PAD_MM, self.joints_mm[i].max(0) + PAD_MM
            return crop_hand(frame.depth_mm, frame.camera, within(frame, low, high), cube_mm)
        centre = np.asarray(centre_mm, np.float64) * ((-1, 1, 1) if self.side == "left" else 1)
        mask = within(frame, centre - cube_mm / 2, centre + cube_mm / 2)
        return crop_hand(frame.depth_mm, frame.camera, mask, cube_mm, centre)


def within(frame: Frame, low_mm, high_mm) -> np.ndarray:
    """[H, W] bool: measured pixels whose points lie in the box from low_mm to high_mm [3], camera frame."""
    v, u = np.indices(frame.depth_mm.shape)
    points = frame.camera.unproject(u, v, frame.depth_mm)
    return (frame.depth_mm > 0) & ((points >= low_mm) & (points <= high_mm)).all(-1)


def side_of(joints_mm, dataset: str) -> str:
    """ "right" or "left": on which side fingers curl, in most frames; joints_mm [F, J, 3] mm as the data set has them, NYU's
    36. NYU shows right hands, ICVL left ones (or right ones as in a mirror)."""
    palm, index, pinky, middle, tip = (np.asarray(joints_mm)[:, k] for k in _HANDED[dataset])
    return "right" if np.median((np.cross(index - palm, pinky - palm) * (tip - middle)).sum(-1)) > 0 else "left"
