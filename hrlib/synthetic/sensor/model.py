"""Depth sensors in numbers: noise, grain, steps, shadows, outlines, holes; and sensors drawn at random for training.

Sources of the kinds and of their ranges in `random_sensor`:

- Kinect v1: Nguyen, Izadi, Lovell 2012; Khoshelham and Elberink 2012 (steps). See the package.
- Structured light near (SR300, SR305, phones' face cameras): Zabatani et al. 2020.
- Stereo: Keselman et al., "Intel RealSense stereoscopic depth cameras" (CVPR workshop 2017): baselines of 18 to 95 mm,
  windows of matching, 1/32 px as the finest step. Grunnet-Jepsen, Sweetser, Woodfill, "Best-known methods for tuning
  Intel RealSense D400" (2018): the error's standard deviation is sigma z^2 / (f b), sigma about 0.08 px.
  Scharstein and Szeliski 2002: foreground fattening.
- Time of flight: Toelgyessy et al. 2021 (Azure Kinect and Kinect v2: noise, flying pixels, multipath). Reynolds et al. 2011
  (flying pixels). Fuchs 2010 (multipath makes concave places too far). Lachat et al. 2015 (Kinect v2: noise of range).
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import torch
from torch import Generator

OUTLINE_MM = 15.0  # a larger step between neighbouring pixels is an outline
REACH_PX = 2  # further from a surface nothing can be read: 2.5 standard deviations of the Kinect's lateral error
TANGENT_60 = math.sqrt(3)  # of the angle beyond which the Kinect's axial noise grows
BEHIND_MM = (50.0, 800.0)  # where an image is empty, outlines mix with a wall this far behind its deepest point
FLAT_PX = 0.3  # a smaller step in disparity within a matched window is one surface
LEAST_SHARE = 0.2  # of a surface in a mixed pixel at the edge of the empty part; with less, nothing is read
ROUNDED_PX = 1e-3  # means of equal disparities differ by less
HOLLOW_MM = 25.0  # deeper concave places err like those of this depth: light from farther off is weak
BLUR_PX = 2  # light beyond this is neglected: two standard deviations of the widest blur


@dataclass(frozen=True)
class DepthSensor:
    """What all kinds have. `measure` knows what each kind does."""

    name: str


@dataclass(frozen=True)
class StructuredLight(DepthSensor):
    """A camera that looks at a projected pattern."""

    axial_mm: float  # standard deviation of the depth at 0.4 m
    axial_growth: float  # mm more of it per (m - 0.4 m)^2
    axial_grazing_mm: float  # mm more beyond 60 degrees, times t^2 / (pi/2 - t)^2 / sqrt(m) of the angle t
    axial_grain_px: int  # over this many pixels the depth errors are alike
    lateral_px: float  # standard deviation of the direction that a pixel looks in
    lateral_growth: float  # px more of it, times t / (pi/2 - t) of the angle t
    lateral_grain_px: int  # over this many pixels the lateral errors are alike
    step_mm: float  # depth values come in steps of step_mm + step_growth z^2
    step_growth: float  # 1/mm
    baseline_mm: float  # the projector is this far right of the camera (negative: left); its shadow has no depth
    steepest_deg: float  # surfaces seen at a steeper angle return no depth

    def axial_sigma_mm(self, z_mm: float | np.ndarray, angle_rad: float | np.ndarray) -> float | np.ndarray:
        """Standard deviation of the depth (before it is cut into steps) at a distance and an angle to the surface."""
        z, angle = np.asarray(z_mm) / 1000, np.clip(angle_rad, 0, np.radians(self.steepest_deg))
        grazing = self.axial_grazing_mm / np.sqrt(z) * (angle / (np.pi / 2 - angle)) ** 2
        return self.axial_mm + self.axial_growth * (z - 0.4) ** 2 + np.where(angle > np.pi / 3, grazing, 0)


@dataclass(frozen=True)
class Stereo(DepthSensor):
    """Two cameras whose images are matched window by window. Disparities in px of the image that is measured."""

    noise_px: float  # standard deviation of the disparity
    grain_px: int  # over this many pixels the disparities err alike
    step_px: float  # disparities come in steps of this
    unit_mm: float  # and depth values in steps of this
    baseline_mm: float  # the other camera is this far right of the one whose image it is (negative: left)
    smear_px: float  # up to this step in disparity the camera's filter smooths: a ramp in place of outline and shadow
    smear_reach_px: int  # the filter reaches this far beyond the matched window
    window_px: int  # the matched window reaches this far from its middle
    fatten: float  # over larger steps a near surface wins with a share of 0.5 - fatten of the window
    gap: float  # shares closer than this to that share match nothing: the outline's gap
    fray: float  # standard deviation of the share: ragged outlines
    holes: float  # share of the surface lost in patches
    hole_px: int  # the size of such a patch
    steepest_deg: float  # surfaces seen at a steeper angle return no depth


@dataclass(frozen=True)
class TimeOfFlight(DepthSensor):
    """A camera that measures the time its own light takes."""

    noise_mm: float  # standard deviation of the depth at no distance
    noise_growth: float  # mm more of it per m^2, since less light comes back
    grazing: float  # the noise grows by (1 / cos t)^grazing of the angle t, for the same reason
    grain_px: int  # over this many pixels the errors are alike: the sensor's own smoothing
    blur_px: float  # standard deviation of the optics' blur: pixels at outlines mix near and far, and seem to fly
    edge_mm: float  # a pixel whose depths scatter by more is an outline
    dropped: float  # share of the outlines' pixels that the sensor's filter removes
    multipath: float  # a concave place is too far by this share of its depth below its surroundings
    multipath_px: int  # the surroundings reach this far
    step_mm: float  # depth values come in steps of this
    baseline_mm: float  # the light is this far right of the camera (negative: left)
    holes: float  # share of the surface lost in patches: dark or shiny
    hole_px: int  # the size of such a patch
    steepest_deg: float  # surfaces seen at a steeper angle return no depth


# Steps: disparity in eighths of a pixel (Khoshelham and Elberink 2012); projector 75 mm beside the camera.
KINECT_V1 = StructuredLight("Kinect v1", 1.2, 1.9, 0.1, 9, 0.8, 0.035, 3, 0.0, 2.85e-6, 75.0, 78.0)

# Intel SR300 (Zabatani et al., "Intel RealSense SR300 coded light depth camera", 2020): steps of 0.125 mm. Noise, grain
# and the shadow's width are fitted to the real SR305 frames that notebook 02 shows beside it.
SR300 = StructuredLight("SR300", 0.2, 0.6, 0.04, 4, 0.4, 0.02, 2, 0.125, 0.0, -50.0, 75.0)


def hole_level(share: float) -> float:
    """What a standard normal number exceeds with a probability of `share`."""
    return NormalDist().inv_cdf(1 - share) if share > 0 else math.inf


# -- sensors drawn at random ------------------------------------------------------------------------------------------

# Least and greatest value of each field. Ranges reach beyond the sources, to sensors and settings that they do not name.
RANGES = {
    StructuredLight: {  # Kinect v1, PrimeSense, Xtion
        "axial_mm": (0.8, 1.6), "axial_growth": (1.2, 2.6), "axial_grazing_mm": (0.05, 0.2), "axial_grain_px": (6, 12),
        "lateral_px": (0.4, 1.1), "lateral_growth": (0.02, 0.05), "lateral_grain_px": (2, 4), "step_mm": (0.0, 0.0),
        "step_growth": (2e-6, 3.5e-6), "baseline_mm": (60.0, 85.0), "steepest_deg": (72.0, 82.0),
    },
    "near": {  # structured light near: SR300, SR305, phones' face cameras
        "axial_mm": (0.02, 0.6), "axial_growth": (0.3, 1.2), "axial_grazing_mm": (0.02, 0.1), "axial_grain_px": (2, 9),
        "lateral_px": (0.2, 0.8), "lateral_growth": (0.01, 0.04), "lateral_grain_px": (1, 3), "step_mm": (0.05, 1.25),
        "step_growth": (0.0, 0.0), "baseline_mm": (20.0, 60.0), "steepest_deg": (68.0, 80.0),
    },
    Stereo: {
        "noise_px": (0.02, 0.1), "grain_px": (4, 16), "step_px": (1 / 32, 1 / 8), "unit_mm": (0.1, 1.0),
        "baseline_mm": (18.0, 95.0), "smear_px": (0.3, 10.0), "smear_reach_px": (0, 13), "window_px": (2, 5),
        "fatten": (0.0, 0.3), "gap": (0.0, 0.25), "fray": (0.02, 0.12), "holes": (0.0, 0.04), "hole_px": (5, 20),
        "steepest_deg": (68.0, 84.0),
    },
    TimeOfFlight: {
        "noise_mm": (0.2, 1.5), "noise_growth": (0.2, 2.5), "grazing": (0.5, 1.5), "grain_px": (1, 3),
        "blur_px": (0.3, 1.0), "edge_mm": (4.0, 15.0), "dropped": (0.0, 0.95), "multipath": (0.0, 0.4),
        "multipath_px": (5, 14), "step_mm": (0.1, 1.0), "baseline_mm": (0.0, 25.0), "holes": (0.0, 0.03),
        "hole_px": (4, 16), "steepest_deg": (74.0, 86.0),
    },
}  # fmt: skip


def random_sensor(generator: Generator, stereo: float = 0.0) -> DepthSensor:
    """A sensor of a random kind with strengths uniform in `RANGES`, on either side of its projector or other camera.

    stereo: share of the sensors that are stereo cameras whatever the kind drawn.
    """
    device = generator.device
    kind = list(RANGES)[int(torch.randint(len(RANGES), (1,), generator=generator, device=device))]
    if stereo and float(torch.rand((), generator=generator, device=device)) < stereo:
        kind = Stereo
    left, *shares = torch.rand(1 + len(RANGES[kind]), generator=generator, device=device).tolist()
    values = {}
    for (name, (low, high)), share in zip(RANGES[kind].items(), shares, strict=True):
        whole = isinstance(low, int)
        values[name] = low + int(share * (high - low + 1)) if whole else low + share * (high - low)
    values["baseline_mm"] *= -1 if left < 0.5 else 1
    made = StructuredLight if kind == "near" else kind
    return made("random", **values)
