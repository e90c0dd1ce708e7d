"""One depth frame. Every source of frames yields the same `Frame`."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float, Real

from ..support.ground_truth import Noted
from .camera import Camera, check_camera


@dataclass(frozen=True)
class Truth(Noted):
    """What a simulator knows and a sensor does not; nothing that refines a model reads it. Each reading is noted."""

    TRUTH: ClassVar = ("joints_mm", "rotations", "wrist_mm", "depth_mm")
    joints_mm: Float[np.ndarray, "21 3"]  # camera frame: wrist, then thumb, index, middle, ring, pinky x (base to tip)
    rotations: Float[np.ndarray, "16 4"]  # unit quaternions xyzw
    wrist_mm: Float[np.ndarray, "3"]  # position of the wrist joint in the camera frame
    depth_mm: Real[np.ndarray, "H W"]  # what a sensor without errors would measure
    source: str = "a simulation"  # whose truth, in the record of what was read


@dataclass(frozen=True)
class Frame:
    """One depth frame of one hand."""

    name: str
    depth_mm: Real[np.ndarray, "H W"]  # 0 where nothing was measured
    camera: Camera
    mask: Bool[np.ndarray, "H W"] | None = None  # the hand's pixels, where they are known
    truth: Truth | None = None
    # share of depth_mm's measured pixels that were not: gaps of a sparse grid, `quality.without_gaps`
    filled: float = 0.0


def check_frame(depth_mm: np.ndarray, camera: Camera) -> None:
    """Raise ValueError if this is no depth image, or no camera."""
    check_camera(camera)
    if not isinstance(depth_mm, np.ndarray):
        raise ValueError(
            f"depth_mm must be an array [H, W], got {type(depth_mm).__name__}; give numpy.asarray(depth_mm)"
        )
    if depth_mm.ndim != 2 or depth_mm.dtype.kind not in "uif":
        raise ValueError(f"depth_mm must be an array [H, W], got {depth_mm.shape} of {depth_mm.dtype}")
    if not (depth_mm.min(initial=0) >= 0 and depth_mm.max(initial=0) < np.inf):  # NaN is neither
        raise ValueError("depth_mm holds NaN, infinite or negative values: mark missing measurements with 0")
