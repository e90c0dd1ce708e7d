"""Real depth frames of people with 21 joints, for evaluation alone: small sets without a licence, read from the mirror.

"handpose_x_plus": 35 frames of one hand in front of nothing, nearly one sequence. Its joints come from a fitted hand model,
whose surface lies 4 to 8 mm behind the measured one. "d435_table": 38 frames of one hand that reaches over a table, before a
RealSense D435 with smeared outlines; frames lie apart in time. Its joints were set by people in eight views (about 5 mm).

Both show right hands, and define some joints in another place than this project: report errors as they are, and without a
constant offset (`hrlib.evaluation.joint_errors`, "hand"). They are development data. Neither is shipped, nor fetched.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from ..frames.camera import Camera
from ..frames.folder import read_depth
from ..frames.frame import Frame
from ..hand.joints import POINT_PARENTS
from ..support.checks import require_one_of
from ..support.decoding import read_arrays
from ..support.ground_truth import note
from .fetch import dataset_folder
from .labelled import LabelledFrames, within

# of the line of the bone to the farthest pixel of the hand: half a finger (9) or half a palm and its heel (20), and 5 each for
# the labels and for what the sensor smears
FINGER_MM, PALM_MM = 20.0, 30.0


@dataclass(frozen=True)
class RealSet:
    """What is known of a set."""

    shown: str  # in a few words
    recording: bool  # its frames follow each other in time


REAL_SETS = {
    "handpose_x_plus": RealSet("one hand before nothing", recording=True),
    "d435_table": RealSet("one hand over a table", recording=False),
}


class RealJoints(LabelledFrames):
    """The frames of a set, with labels of our 21 points. See `LabelledFrames`.

    Args:
        dataset: one of `REAL_SETS`.
        free_hand: only the frames whose hand touches no object, where the set says which.
        given: the hand's place is told: each frame has the mask `around_bones` of its labels. For sets in which the hand is not
            found, to see what happens after finding.

    Raises:
        ValueError: an unknown set, or damaged labels.
        FileNotFoundError: the set is not on this computer; says what to do.
    """

    def __init__(self, dataset: str, free_hand: bool = False, given: bool = False):
        require_one_of(REAL_SETS, dataset=dataset)
        folder = dataset_folder(dataset)
        names, joints_mm, camera, free = _labels(folder / "joints.npz")
        kept = free if free_hand else np.ones(len(names), bool)
        names = [f"frames/{name}.png" for name in names[kept]]
        super().__init__(dataset, camera, folder, names, joints_mm[kept], "right")
        self.given = given

    def __getitem__(self, index: int) -> Frame:
        frame = super().__getitem__(index)
        if not self.given:
            return frame
        note(self.dataset, "joints_mm, for the hand's pixels")
        return replace(frame, mask=around_bones(frame, self._joints_mm[index]))

    def read(self, path: Path) -> Float[np.ndarray, "H W"]:
        return read_depth(path)


def around_bones(frame: Frame, joints_mm: Float[np.ndarray, "21 3"]) -> Bool[np.ndarray, "H W"]:
    """Measured pixels whose points lie within `FINGER_MM` of a true bone of a finger, or within `PALM_MM` of one of the palm.

    What lies as near to the hand, as a table below it, is taken with it.
    """
    mask = within(frame, joints_mm.min(0) - PALM_MM, joints_mm.max(0) + PALM_MM)
    points_mm = frame.camera.cloud(frame.depth_mm, mask)
    near = np.zeros(len(points_mm), bool)
    for child, parent in enumerate(POINT_PARENTS[1:], 1):
        start, bone = joints_mm[parent], joints_mm[child] - joints_mm[parent]
        along = np.clip((points_mm - start) @ bone / (bone @ bone), 0, 1)  # of the bone's point that is nearest
        away = np.linalg.norm(points_mm - start - along[:, None] * bone, axis=1)
        near |= away < (PALM_MM if parent == 0 else FINGER_MM)
    mask[mask] = near
    return mask


def _labels(path: Path) -> tuple[np.ndarray, np.ndarray, Camera, np.ndarray]:
    """Names, joints [F, 21, 3], camera, and whether each hand is free (everywhere, where the set does not say)."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found: name the folder that holds frames/ and joints.npz")
    try:
        data = read_arrays(path)
        names, joints_mm, camera = data["names"], data["joints_mm"], Camera(*map(float, data["camera"]))
        free = data.get("free_hand", np.ones(len(names), bool))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read ({error}); copy it again") from error
    if joints_mm.shape != (len(names), 21, 3) or free.shape != names.shape or not np.isfinite(joints_mm).all():
        raise ValueError(
            f"{path}: wanted finite joints_mm [{len(names)}, 21, 3], got {list(joints_mm.shape)}; copy it again"
        )
    return names, joints_mm.astype(np.float64), camera, free.astype(bool)
