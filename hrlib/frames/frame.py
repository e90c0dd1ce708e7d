"""One depth frame. Every source of frames yields the same `Frame`."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Real

from .camera import Camera


@dataclass(frozen=True)
class Truth:
    """What a simulator knows and a sensor does not; nothing that refines a model reads it."""

    joints_mm: Float[np.ndarray, "21 3"]  # camera frame: wrist, then thumb, index, middle, ring, pinky x (base to tip)
    rotations: Float[np.ndarray, "16 4"]  # unit quaternions xyzw
    wrist_mm: Float[np.ndarray, "3"]  # position of the wrist joint in the camera frame
    depth_mm: Real[np.ndarray, "H W"]  # what a sensor without errors would measure


@dataclass(frozen=True)
class Frame:
    """One depth frame of one hand."""

    name: str
    depth_mm: Real[np.ndarray, "H W"]  # 0 where nothing was measured
    camera: Camera
    mask: Bool[np.ndarray, "H W"] | None = None  # the hand's pixels, where they are known
    truth: Truth | None = None
