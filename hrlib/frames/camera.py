"""The pinhole camera: millimetres to pixels and back.

Camera frame: x right, y down, z forward; pixel u right, v down, the centre of the first pixel at 0.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Real
from torch import Tensor

Numbers = np.ndarray | np.generic | Tensor | float


@dataclass(frozen=True)
class Camera:
    """A pinhole camera without distortion; all four numbers in pixels.

    >>> camera = hrlib.Camera(fx=475.0, fy=475.0, cx=319.5, cy=239.5)
    >>> camera.unproject(319.5, 477.0, 600.0).tolist()
    [0.0, 300.0, 600.0]
    """

    fx: float
    fy: float
    cx: float
    cy: float

    def __post_init__(self):
        for name, value in vars(self).items():
            if not np.isfinite(value) or (name[0] == "f" and value <= 0):
                raise ValueError(f"camera {name} must be a finite number of pixels (focal lengths > 0), got {value!r}")

    def project(
        self, points_mm: Real[np.ndarray, "*batch 3"] | Float[Tensor, "*batch 3"]
    ) -> Float[np.ndarray, "*batch 2"] | Float[Tensor, "*batch 2"]:
        """Pixels (u, v) of points in the camera frame."""
        x, y, z = (points_mm[..., k] for k in range(3))
        return _stack(x / z * self.fx + self.cx, y / z * self.fy + self.cy)

    def unproject(
        self, u: Numbers, v: Numbers, depth_mm: Numbers
    ) -> Float[np.ndarray, "*batch 3"] | Float[Tensor, "*batch 3"]:
        """Points in the camera frame (mm) of pixels u, v at a depth along z; arrays are broadcast."""
        return _stack((u - self.cx) / self.fx * depth_mm, (v - self.cy) / self.fy * depth_mm, depth_mm)

    def cloud(
        self, depth_mm: Real[np.ndarray, "H W"], mask: Bool[np.ndarray, "H W"] | None = None
    ) -> Float[np.ndarray, "N 3"]:
        """Points in the camera frame (mm) of all measured pixels (depth > 0), or of those in the mask."""
        measured = depth_mm > 0 if mask is None else (depth_mm > 0) & mask
        v, u = np.nonzero(measured)
        return self.unproject(u.astype(np.float32), v.astype(np.float32), depth_mm[v, u])


def check_camera(camera: Camera) -> None:
    """Raise ValueError for what is no `Camera`, as four plain numbers are not."""
    if not isinstance(camera, Camera):
        raise ValueError(f"camera must be a Camera, got {type(camera).__name__}; give hrlib.Camera(fx, fy, cx, cy)")


def _stack(*columns):
    if isinstance(columns[0], Tensor):
        return torch.stack(columns, -1)
    return np.stack(np.broadcast_arrays(*columns), -1)
