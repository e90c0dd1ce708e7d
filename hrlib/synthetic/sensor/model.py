"""Depth sensors in numbers: noise, grain, steps, shadows."""

import math
from dataclasses import dataclass

import numpy as np

OUTLINE_MM = 15.0  # a larger step between neighbouring pixels is an outline
REACH_PX = 2  # further from a surface nothing can be read: 2.5 standard deviations of the Kinect's lateral error
TANGENT_60 = math.sqrt(3)  # of the angle beyond which the Kinect's axial noise grows


@dataclass(frozen=True)
class DepthSensor:
    """A triangulating depth sensor."""

    name: str
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


# Steps: disparity in eighths of a pixel (Khoshelham and Elberink 2012); projector 75 mm beside the camera.
KINECT_V1 = DepthSensor("Kinect v1", 1.2, 1.9, 0.1, 9, 0.8, 0.035, 3, 0.0, 2.85e-6, 75.0, 78.0)

# Intel SR300 (Zabatani et al., "Intel RealSense SR300 coded light depth camera", 2020): steps of 0.125 mm. Noise, grain
# and the shadow's width are fitted to the real SR305 frames that notebook 02 shows beside it.
SR300 = DepthSensor("SR300", 0.2, 0.6, 0.04, 4, 0.4, 0.02, 2, 0.125, 0.0, -50.0, 75.0)
