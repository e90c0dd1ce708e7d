"""Real Kinect frames of one user who spells 24 letters: ASL Finger Spelling Dataset A (Pugeault and Bowden, 2011).

The published images are tight crops, and where each lay in the 640x480 Kinect image is not known, so neither is the
principal point. We take the crop's centre, as if the camera had been turned towards the hand. For a hand d px off the
axis, turned by atan(d / f), that is true only in part: unprojected so, the hand is not just moved (which no crop sees)
but sheared, a point s mm further back comes to lie s d / f mm further to the side. A pose can take up the share of it
that is a rotation. What no pose takes up, for points spread over a hand's box of 180 x 90 x 80 mm, is 3.7 mm on average
at d = 100 px (11 degrees off the axis) and 7.3 mm at 200 px. Where the crop's position is known, `offset_px` mends it.

The images show a left hand, or a right one as in a mirror: folded fingers are nearer than the palm, so that the palm is
in view, and the thumb is on its left. They are mirrored on entry into the right hand that this project poses.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from ..frames.camera import Camera
from ..frames.folder import camera_for, mirrored, read_depth
from ..frames.frame import Frame
from .fetch import dataset_folder

LETTERS = "abcdefghiklmnopqrstuvwxy"  # j and z are movements, and not in the data
FOCAL_PX = 525.0  # Kinect v1 depth, the maker's nominal value

# Which of index, middle, ring, pinky are extended (1) or folded into the palm (0), for the letters whose handshape says so
# for all four without doubt (left out: half bent, crossed and hidden fingers, as in c, e, k, m, r, x). From the handshapes
# of the American Manual Alphabet (the ASL alphabet), as its charts show them; nothing was read off this data set.
FINGER_STATES = {
    "a": (0, 0, 0, 0),
    "b": (1, 1, 1, 1),
    "d": (1, 0, 0, 0),
    "f": (0, 1, 1, 1),
    "i": (0, 0, 0, 1),
    "l": (1, 0, 0, 0),
    "s": (0, 0, 0, 0),
    "u": (1, 1, 0, 0),
    "v": (1, 1, 0, 0),
    "w": (1, 1, 1, 0),
    "y": (0, 0, 0, 1),
}


class Fingerspelling(Sequence):
    """The frames of a split, by letter and then in time. Names are like A/a/depth_0_0001.png; depth in mm.

    split: "train" (3,359 frames) or "test" (288: 12 consecutive ones of each letter's last fifth).
    letters: only these. offset_px: how far right of and below the principal point the crops' centres lie, if known.
    """

    def __init__(self, split: str, letters: str = LETTERS, offset_px: tuple[float, float] = (0.0, 0.0)):
        if split not in ("train", "test"):
            raise ValueError(f'split must be "train" or "test", got {split!r}')
        if not letters or not set(letters) <= set(LETTERS):
            raise ValueError(f"letters must be some of {LETTERS}, got {letters!r}")
        folder = dataset_folder("asl_fingerspelling")
        self._images, self._offset_px = folder / "dataset5", offset_px
        self.names = [n for n in json.loads((folder / "split.json").read_text())[split] if letter_of(n) in letters]

    def __len__(self):
        return len(self.names)

    def __getitem__(self, index: int) -> Frame:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        depth_mm = read_depth(self._images / self.names[index])
        centre = camera_for(depth_mm.shape, (FOCAL_PX, FOCAL_PX))
        camera = Camera(FOCAL_PX, FOCAL_PX, centre.cx - self._offset_px[0], centre.cy - self._offset_px[1])
        return mirrored(Frame(self.names[index], depth_mm, camera))


def letter_of(name: str) -> str:
    """The letter that the frame of this name shows."""
    return Path(name).parent.name
