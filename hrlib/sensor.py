"""What a depth sensor does to a clean depth image.

Kinect v1 after Nguyen, Izadi, Lovell, "Modeling Kinect sensor noise for improved 3D reconstruction and tracking" (2012):
axial standard deviation 1.2 + 0.0019 (z/mm - 400)^2 / 1000 mm, lateral 0.8 px, the disparity's quantisation, and no
measurement where the surface is grazed.
"""

import math

import numpy as np
from numba import njit, prange


def kinect_v1(depth_mm: np.ndarray, fx: np.ndarray, seed: int) -> np.ndarray:
    """Noisy copies of clean images: depth_mm [B, H, W] (0 = nothing), fx [B] px -> [B, H, W] float32.

    Image i of a batch draws from (seed, i): the same on any number of threads. The lateral noise moves the pixel that is
    read by 0.8 px, which frays outlines; the axial noise is added and then quantised (2.85e-6 z^2 mm, Khoshelham &
    Elberink 2012); a pixel whose surface is steeper than 78 degrees to the ray is lost.
    """
    noisy = np.zeros_like(depth_mm, np.float32)
    _kinect_v1(np.ascontiguousarray(depth_mm, np.float32), np.ascontiguousarray(fx, np.float64), seed, noisy)
    return noisy


@njit(cache=True)
def _normal_pair(key):
    """Two standard normal numbers from a 64-bit key: splitmix64 (Steele et al. 2014), then Box-Muller."""
    u = np.empty(2)
    for k in range(2):
        z = key + np.uint64(k + 1) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        u[k] = ((z ^ (z >> np.uint64(31))) >> np.uint64(11)) / 9007199254740992.0
    radius = math.sqrt(-2 * math.log(u[0] + 1e-300))
    return radius * math.cos(2 * math.pi * u[1]), radius * math.sin(2 * math.pi * u[1])


@njit(parallel=True, cache=True)
def _kinect_v1(depth, fx, seed, noisy):
    height, width = depth.shape[1:]
    steepest = math.tan(math.radians(78.0))
    for b in prange(len(depth)):
        for v in range(height):
            for u in range(width):
                # two pixels away from any surface nothing can be read: 2.5 standard deviations of the lateral noise
                if depth[b, max(v - 2, 0) : v + 3, max(u - 2, 0) : u + 3].max() == 0:
                    continue
                pixel = np.uint64(((seed * 1000003 + b) * height + v) * width + u) * np.uint64(4)
                du, dv = _normal_pair(pixel)
                su, sv = u + int(np.rint(0.8 * du)), v + int(np.rint(0.8 * dv))
                if su < 0 or sv < 0 or su >= width - 1 or sv >= height - 1:
                    continue
                z = depth[b, sv, su]
                if z <= 0:
                    continue
                right, below = depth[b, sv, su + 1], depth[b, sv + 1, su]
                per_pixel = z / fx[b]
                # slopes towards the background count as outlines, not as surface
                if right > 0 and below > 0 and math.hypot(right - z, below - z) > steepest * per_pixel:
                    continue
                axial, _ = _normal_pair(pixel + np.uint64(2))
                value = z + axial * (1.2 + 0.0019 * (z - 400) ** 2 / 1000)
                step = 2.85e-6 * z * z
                noisy[b, v, u] = np.rint(value / step) * step
