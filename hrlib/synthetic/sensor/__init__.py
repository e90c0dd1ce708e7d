"""What a depth sensor does to a clean depth image: shadows, lateral and axial noise, steps, surfaces lost at steep angles.

Kinect v1 after Nguyen, Izadi, Lovell, "Modeling Kinect sensor noise for improved 3D reconstruction and tracking" (2012),
with z in m and the angle t between surface normal and ray:

    axial sigma   = 0.0012 + 0.0019 (z - 0.4)^2 m, and 0.0001 / sqrt(z) t^2 / (pi/2 - t)^2 m more from 60 degrees on
    lateral sigma = 0.8 + 0.035 t / (pi/2 - t) px

Neighbouring pixels err alike, since each is matched by a window of 9x9 (Konolige and Mihelich, "Technical description of
Kinect calibration", 2012). Without that, a simulated hand is three times as rough as a real one.

Stereo cameras and time of flight, with what they do to outlines, stand beside it; `model.py` names their sources.

The back ends make the same noise from the same seeds: `cpu.py` in numba, `gpu.py` in torch for CUDA devices.
"""

from importlib import import_module

import numpy as np
from jaxtyping import Float
from torch import Tensor

from .model import KINECT_V1, OUTLINE_MM, SR300, DepthSensor, random_sensor

__all__ = ["KINECT_V1", "SR300", "DepthSensor", "local_noise", "measure", "noise_on_planes", "random_sensor"]


Array = np.ndarray | Tensor


def measure(
    depth_mm: Float[Array, "B H W"], fx: Float[Array, " B"], sensor: DepthSensor, seed: int
) -> Float[Array, "B H W"]:
    """What `sensor` measures of clean depth images, float32.

    The lateral noise decides which surface a pixel at an outline sees; the axial noise is added and cut into steps.
    Image i of a batch draws from (seed, i): the same on any number of threads, whatever else is in the batch.

    Args:
        depth_mm: clean images, 0 where there is nothing. Tensors on a CUDA device are measured there.
        fx: each image's focal length in px.
        sensor: the sensor.
        seed: of the noise.
    """
    backend = "gpu" if isinstance(depth_mm, Tensor) and depth_mm.is_cuda else "cpu"
    measured = import_module(f".{backend}", __name__).measure(depth_mm, fx, sensor, seed)
    return measured.clip(min=0)  # close to the lens, noise may be larger than the distance


# -- what a sensor did, measured --------------------------------------------------------------------------------------


def local_noise(
    depth_mm: Float[np.ndarray, "H W"], fx: float
) -> tuple[Float[np.ndarray, " K"], Float[np.ndarray, " K"], Float[np.ndarray, " K"]]:
    """How rough a depth image is, real ones included: planes are fitted to windows of 5x5 measured pixels.

    Returns:
        Of each plane: distance (mm), angle to the image plane (rad), standard deviation of the residual (mm).
    """
    v, u = np.mgrid[-2:3, -2:3]
    design = np.c_[u.ravel(), v.ravel(), np.ones(25)]
    windows = np.lib.stride_tricks.sliding_window_view(depth_mm.astype(np.float64), (5, 5))[::3, ::3].reshape(-1, 25)
    windows = windows[(windows > 0).all(1) & (np.ptp(windows, 1) < 2 * OUTLINE_MM)]
    plane = windows @ np.linalg.pinv(design).T
    residual = windows - plane @ design.T
    angle = np.arctan(np.hypot(plane[:, 0], plane[:, 1]) * fx / plane[:, 2])
    return plane[:, 2], angle, np.sqrt((residual**2).sum(1) / 22)  # 25 pixels, 3 numbers fitted


def noise_on_planes(sensor: DepthSensor, z_mm: float, angle_rad: float, images: int, fx: float, seed: int) -> float:
    """Standard deviation (mm) of `measure`'s error in the middle of a plane at a distance and angle, over `images`."""
    u = np.arange(41) - 20
    clean = np.repeat(np.broadcast_to(z_mm / (1 - np.tan(angle_rad) * u / fx), (1, 61, 41)), images, 0)
    clean = np.ascontiguousarray(clean, np.float32)
    error = (measure(clean, np.full(images, fx), sensor, seed) - clean)[:, 5:-5, 19:22]
    return float(error.std())
