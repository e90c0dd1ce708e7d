"""What a pair of infrared cameras with a dot projector (Intel RealSense D400) makes of a clean depth image.

Only test people stand before it (`hrlib.synthetic.test_people`); no training frame does. Depth is z = f b / d of the disparity
d, found by matching windows (Keselman et al., "Intel RealSense stereoscopic depth cameras", CVPR Workshops 2017):

- A window has one disparity: the mean of the surfaces in it that are alike. Outlines before a near background are smeared.
- A nearer surface is taken as soon as it fills a share of the window (foreground fattening: Scharstein and Szeliski, "A
  taxonomy and evaluation of dense two-frame stereo correspondence algorithms", 2002).
- What the right camera does not see cannot be matched: a shadow to the left of near things, partly filled by the window.
- The disparity errs by a normal number that is white before the window averages it, and comes in steps. Thus the depth's
  error and step grow with z^2 (Intel's tuning guide: z^2 subpixel / (f b); Ahn et al., "Analysis and noise modeling of the
  Intel RealSense D435 for mobile robots", 2019).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.ndimage import maximum_filter, minimum_filter, uniform_filter

from ...support.compiled import compiled


@dataclass(frozen=True)
class StereoSensor:
    """A stereo camera whose depth is that of its left camera."""

    name: str
    baseline_mm: float  # the right camera is this far right of the left one
    window_px: int  # side of the window whose surfaces are averaged, odd
    grain_px: int  # side of the window whose errors are averaged
    noise_px: float  # standard deviation of the disparity
    step_px: float  # disparities come in steps
    alike_px: float  # surfaces in a window are averaged if their disparities differ by less
    nearer_share: float  # of the window that a nearer surface must fill to be taken
    unsteady: float  # standard deviation of that share, from place to place
    doubt: float  # within this much of that share neither surface is taken, and the pixel stays empty
    known_share: float  # of the window that both cameras must see, or the pixel stays empty


# Baseline: data sheet. Steps: 1/32 px (Grunnet-Jepsen et al., "Subpixel linearity improvement for Intel RealSense depth camera
# D400 series", 2019). The rest is read off the real D435 frames of `d435_table`, whose pixels are 0.64 of the depth camera's:
# smooth patches of the table err by 0.05 px, alike over 9 to 10 px; steps of less than 4 to 5 px are smeared over 13 px, larger
# ones leave a gap of 2 px.
D435 = StereoSensor("RealSense D435", 50.0, 13, 9, 0.05, 1 / 32, 4.5, 0.4, 0.1, 0.06, 0.5)


def measure_stereo(
    depth_mm: Float[np.ndarray, "B H W"], fx: float, sensor: StereoSensor, seed: int
) -> Float[np.ndarray, "B H W"]:
    """What `sensor` measures of clean depth images, float32; image i draws from (seed, i).

    Args:
        depth_mm: clean images of the left camera, 0 where there is nothing.
        fx: focal length in px.
        sensor: the sensor.
        seed: of the noise.
    """
    scale = np.float32(fx * sensor.baseline_mm)  # disparity in px times depth in mm
    measured = np.zeros_like(depth_mm, np.float32)
    for i, clean in enumerate(depth_mm):
        random = np.random.default_rng([seed, i])
        share = sensor.nearer_share + sensor.unsteady * _windowed(random, clean.shape, sensor.grain_px)
        error = sensor.noise_px * _windowed(random, clean.shape, sensor.grain_px)
        disparity = np.divide(scale, clean, out=np.zeros(clean.shape, np.float32), where=clean > 0)
        matched = _matched(_seen_by_both(disparity), share, sensor)
        steps = np.rint((matched + error) / sensor.step_px) * sensor.step_px
        np.divide(scale, steps, out=measured[i], where=(matched > 0) & (steps > 0))
    return measured


def _windowed(random: np.random.Generator, shape: tuple[int, int], side_px: int) -> Float[np.ndarray, "H W"]:
    """Normal numbers of variance 1 that neighbours share as windows of that side share their pixels."""
    return side_px * uniform_filter(random.standard_normal(shape, np.float32), side_px, mode="wrap")


@compiled()
def _seen_by_both(disparity):
    """The disparities without those of pixels that a nearer surface hides from the right camera.

    Walking from the right, the column u - d of a surface that is seen is a new least one.
    """
    height, width = disparity.shape
    seen = np.zeros_like(disparity)
    for v in range(height):
        least = np.inf
        for u in range(width - 1, -1, -1):
            if disparity[v, u] > 0 and u - disparity[v, u] < least:
                least = u - disparity[v, u]
                seen[v, u] = disparity[v, u]
    return seen


def _matched(
    disparity: Float[np.ndarray, "H W"], nearer_share: Float[np.ndarray, "H W"], sensor: StereoSensor
) -> Float[np.ndarray, "H W"]:
    """Of each pixel the mean disparity of the surface that its window finds, 0 where it finds none."""
    nearest, farthest = (extreme(disparity, sensor.window_px) for extreme in (maximum_filter, minimum_filter))
    one_surface = (farthest > 0) & (nearest - farthest < sensor.alike_px)
    matched = np.where(one_surface, uniform_filter(disparity, sensor.window_px), np.float32(0))
    numbers = (sensor.window_px // 2, sensor.alike_px, sensor.doubt, sensor.known_share)
    _match_at_outlines(disparity, nearest, one_surface, nearer_share, numbers, matched)
    return matched


@compiled()
def _match_at_outlines(disparity, nearest, one_surface, nearer_share, numbers, matched):
    half, alike, doubt, known_share = numbers
    height, width = disparity.shape
    for v in range(half, height - half):
        for u in range(half, width - half):
            if one_surface[v, u] or nearest[v, u] == 0:
                continue
            known = near = own = 0
            near_sum = own_sum = 0.0
            for y in range(v - half, v + half + 1):
                for x in range(u - half, u + half + 1):
                    d = disparity[y, x]
                    if d == 0:
                        continue
                    known += 1
                    if d > nearest[v, u] - alike:
                        near += 1
                        near_sum += d
                    if abs(d - disparity[v, u]) < alike:
                        own += 1
                        own_sum += d
            if known < known_share * (2 * half + 1) ** 2:
                continue
            if near < known and abs(near / known - nearer_share[v, u]) < doubt:
                continue
            if near >= nearer_share[v, u] * known:
                matched[v, u] = near_sum / near
            elif own > 0:  # too little of the nearer surface: the one behind
                matched[v, u] = own_sum / own
