"""Where frames come from: every source yields the same `Frame`."""

from dataclasses import dataclass

import numpy as np

from .camera import Camera


@dataclass(frozen=True)
class Truth:
    """What a simulator knows and a sensor does not; never read by anything that refines.

    joints_mm [21, 3] in the camera frame (wrist, then thumb, index, middle, ring, pinky x (base, middle, far, tip)),
    rotations [16, 4] unit quaternions xyzw, wrist_mm [3] position of the wrist joint in the camera frame, depth_mm [H, W]
    what a sensor without errors would measure.
    """

    joints_mm: np.ndarray
    rotations: np.ndarray
    wrist_mm: np.ndarray
    depth_mm: np.ndarray


@dataclass(frozen=True)
class Frame:
    """One depth frame of one hand.

    depth_mm [H, W] float32, 0 where nothing was measured; mask [H, W] bool marks the hand's pixels where they are known.
    """

    name: str
    depth_mm: np.ndarray
    camera: Camera
    mask: np.ndarray | None = None
    truth: Truth | None = None
