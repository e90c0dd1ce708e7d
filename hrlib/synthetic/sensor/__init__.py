"""What a depth sensor does to a clean depth image: shadows, lateral and axial noise, steps, grazed surfaces.

Kinect v1 after Nguyen, Izadi, Lovell, "Modeling Kinect sensor noise for improved 3D reconstruction and tracking" (2012),
with z in m and the angle t between surface normal and ray:

    axial sigma   = 0.0012 + 0.0019 (z - 0.4)^2 m, and 0.0001 / sqrt(z) t^2 / (pi/2 - t)^2 m more from 60 degrees on
    lateral sigma = 0.8 + 0.035 t / (pi/2 - t) px

Their pixels err alike with their neighbours, since each is matched by a window of 9x9 (Konolige and Mihelich, "Technical
description of Kinect calibration", 2012); without that, a simulated hand is three times as rough as a real one.
"""

from importlib import import_module

import numpy as np
import torch

from .model import KINECT_V1, OUTLINE_MM, SR300, DepthSensor

__all__ = ["KINECT_V1", "SR300", "DepthSensor", "local_noise", "measure", "noise_on_planes"]


def measure(depth_mm, fx, sensor: DepthSensor, seed: int) -> np.ndarray | torch.Tensor:
    """What `sensor` makes of clean images: depth_mm [B, H, W] (0 = nothing), fx [B] px -> [B, H, W] float32.

    Image i of a batch draws from (seed, i): the same on any number of threads, whatever else is in the batch. The
    lateral noise decides which surface a pixel at an outline sees; the axial noise is added and cut into steps. Takes
    arrays and gives an array; tensors on a CUDA device are measured there and give a tensor.
    """
    backend = "gpu" if isinstance(depth_mm, torch.Tensor) and depth_mm.is_cuda else "cpu"
    return import_module(f".{backend}", __name__).measure(depth_mm, fx, sensor, seed)


# -- what a sensor did, measured --------------------------------------------------------------------------------------------


def local_noise(depth_mm: np.ndarray, fx: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How rough a depth image [H, W] is: of planes fitted to 5x5 fully measured pixels, distance [K] mm, angle to the
    image plane [K] rad and residual's standard deviation [K] mm. Works on real frames, where nobody knows the truth."""
    v, u = np.mgrid[-2:3, -2:3]
    design = np.c_[u.ravel(), v.ravel(), np.ones(25)]
    windows = np.lib.stride_tricks.sliding_window_view(depth_mm.astype(np.float64), (5, 5))[::3, ::3].reshape(-1, 25)
    windows = windows[(windows > 0).all(1) & (np.ptp(windows, 1) < 2 * OUTLINE_MM)]
    plane = windows @ np.linalg.pinv(design).T
    residual = windows - plane @ design.T
    angle = np.arctan(np.hypot(plane[:, 0], plane[:, 1]) * fx / plane[:, 2])
    return plane[:, 2], angle, np.sqrt((residual**2).sum(1) / 22)


def noise_on_planes(sensor: DepthSensor, z_mm: float, angle_rad: float, images: int, fx: float, seed: int) -> float:
    """Standard deviation (mm) of `measure`'s error in the middle of a plane at a distance and angle, over `images`."""
    u = np.arange(41) - 20
    clean = np.repeat(np.broadcast_to(z_mm / (1 - np.tan(angle_rad) * u / fx), (1, 61, 41)), images, 0)
    clean = np.ascontiguousarray(clean, np.float32)
    error = (measure(clean, np.full(images, fx), sensor, seed) - clean)[:, 5:-5, 19:22]
    return float(error.std())
