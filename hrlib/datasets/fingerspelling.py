"""Real Kinect frames of one user who spells 24 letters: ASL Finger Spelling Dataset A (Pugeault and Bowden, 2011).

The published images are tight crops from unknown places of the 640x480 Kinect image, so that the principal point is unknown,
too. We take the crop's centre, as if the camera had been turned towards the hand. This shears a hand that was d px off the
axis: a point s mm further back moves s d / f mm to the side, which no pose takes up. Over a hand's box of 180 x 90 x 80 mm
the error is 3.7 mm on average at d = 100 px (11 degrees off the axis), and 7.3 mm at 200 px.

The images show a left hand, or a right hand in a mirror: folded fingers are nearer than the palm, so the palm is in view, and
the thumb is on its left. They are mirrored on entry into the right hand that this project poses.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from ..frames.folder import camera_for, mirrored, read_depth
from ..frames.frame import Frame
from ..support.checks import SPLITS, require_one_of
from .fetch import dataset_folder

LETTERS = "abcdefghiklmnopqrstuvwxy"  # j and z are movements, and not in the data
FOCAL_PX = 525.0  # Kinect v1 depth, the maker's nominal value

# Index, middle, ring and pinky: extended (1) or folded into the palm (0). Only letters of which the charts of the American
# Manual Alphabet show all four without doubt: none with half bent, crossed or hidden fingers, as c, e, k, m, r and x have.
# Nothing was read off this data set.
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
    """The frames of a split, by letter and then in time, depth in mm, with names like A/a/depth_0_0001.png.

    Args:
        split: "train" (3,359 frames) or "test" (288: 12 consecutive ones of each letter's last fifth).
        letters: only these.
    """

    def __init__(self, split: str, letters: str = LETTERS):
        require_one_of(SPLITS, split=split)
        if not letters or not set(letters) <= set(LETTERS):
            raise ValueError(f"letters must be some of {LETTERS}, got {letters!r}")
        folder = dataset_folder("asl_fingerspelling")
        self._images = folder / "dataset5"
        self.names = [n for n in json.loads((folder / "split.json").read_text())[split] if letter_of(n) in letters]

    def __len__(self):
        return len(self.names)

    def __getitem__(self, index: int) -> Frame:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        depth_mm = read_depth(self._images / self.names[index])
        return mirrored(Frame(self.names[index], depth_mm, camera_for(depth_mm.shape, (FOCAL_PX, FOCAL_PX))))


def letter_of(name: str) -> str:
    """The letter that the frame of this name shows."""
    return Path(name).parent.name
