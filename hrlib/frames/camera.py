"""The pinhole camera: millimetres to pixels and back.

Camera frame: x right, y down, z forward; pixel u right, v down, the centre of the first pixel at 0.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Camera:
    """A pinhole camera without distortion; all four numbers in pixels."""

    fx: float
    fy: float
    cx: float
    cy: float

    def __post_init__(self):
        for name in ("fx", "fy", "cx", "cy"):
            value = getattr(self, name)
            if not np.isfinite(value) or (name[0] == "f" and value <= 0):
                raise ValueError(f"camera {name} must be a finite number of pixels (focal lengths > 0), got {value!r}")

    def project(self, points_mm):
        """Points [..., 3] in the camera frame (mm) -> pixels [..., 2] (u, v). Takes numpy or torch."""
        u = points_mm[..., 0] / points_mm[..., 2] * self.fx + self.cx
        v = points_mm[..., 1] / points_mm[..., 2] * self.fy + self.cy
        return _stack_like(points_mm, u, v)

    def unproject(self, u, v, depth_mm):
        """Pixels u, v [...] with depth along z [...] (mm) -> points [..., 3] in the camera frame (mm)."""
        x = (u - self.cx) / self.fx * depth_mm
        y = (v - self.cy) / self.fy * depth_mm
        return _stack_like(depth_mm, x, y, depth_mm)

    def cloud(self, depth_mm: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
        """All measured pixels (depth > 0, and in the mask if one is given) of an image [H, W] as points [M, 3], mm."""
        measured = depth_mm > 0 if mask is None else (depth_mm > 0) & mask
        v, u = np.nonzero(measured)
        return self.unproject(u.astype(np.float32), v.astype(np.float32), depth_mm[v, u])


def _stack_like(reference, *columns):
    if isinstance(reference, np.ndarray | np.generic | float | int):
        return np.stack(np.broadcast_arrays(*columns), -1)
    import torch

    return torch.stack(columns, -1)
