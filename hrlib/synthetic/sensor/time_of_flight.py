"""What a time-of-flight camera makes of a clean depth image: mixed pixels, multipath, noise that grows as the light fades.

Only test people stand before it (`hrlib.synthetic.test_people`); no training frame does. The camera measures the phase of
modulated light, as a complex number a exp(4 pi i f r / c) of the range r along the ray and the amplitude a = cos t / r^2 of a
diffuse surface at the angle t (Kolb et al., "Time-of-flight cameras in computer graphics", 2010):

- Light that comes over one other place of the surface has a longer way: concave places seem too far (Fuchs, "Multipath
  interference compensation in time-of-flight camera images", 2010).
- The range errs by a normal number whose standard deviation goes with 1 / sqrt(a), as that of photons does (Lange and Seitz,
  "Solid-state time-of-flight range camera", 2001).
- Optics and pixels add up complex numbers of neighbours: at outlines the range is of nothing that exists (flying pixels).
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter

from ...frames.camera import Camera
from ...support.compiled import compiled

LIGHT_MM_MHZ = 299792.458  # speed of light, mm times MHz
PATCH_PX = 4  # light between places of the surface is counted on every fourth row and column
REACH_MM = 120.0  # light over places that are farther than this in x or y is too little to count
GRAZING = 0.15  # cosine of the steepest angle to a surface that an image's pixels tell


@dataclass(frozen=True)
class TimeOfFlightSensor:
    """A camera that measures ranges by the phase of modulated light."""

    name: str
    modulation_mhz: float  # half a wave length is the longest range
    noise_mm: float  # standard deviation of a single pixel's range at 1 m from a surface that faces it
    blur_px: float  # standard deviation of the light's spread over neighbouring pixels
    albedo: float  # share of the light that skin throws back
    least_amplitude: float  # pixels with less light stay empty; 1 is that of a surface at 1 m that faces the camera
    step_mm: float  # depths come in steps


# SoftKinetic DS325, the camera of ICVL and MSRA15. Data sheet: noise up to 14 mm at 1 m. Modulation 50 MHz. Near infrared
# albedo of skin: Cooksey et al., "Reflectance measurements of human skin", 2015. The blur makes hands about as rough as that of
# the one real frame at hand, `msra_frame`: 0.8 mm at 0.25 m, where the simulation has 1.0 mm.
DS325 = TimeOfFlightSensor("SoftKinetic DS325", 50.0, 14.0, 0.8, 0.6, 0.3, 1.0)


def measure_time_of_flight(
    depth_mm: Float[np.ndarray, "B H W"], camera: Camera, sensor: TimeOfFlightSensor, seed: int
) -> Float[np.ndarray, "B H W"]:
    """What `sensor` measures of clean depth images, float32; image i draws from (seed, i).

    Args:
        depth_mm: clean images, 0 where there is nothing.
        camera: of all images.
        sensor: the sensor.
        seed: of the noise.
    """
    height, width = depth_mm.shape[1:]
    rays = camera.unproject(np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64)[:, None], 1.0)
    length = np.linalg.norm(rays, axis=-1)
    wave = 4 * np.pi * sensor.modulation_mhz / LIGHT_MM_MHZ  # phase of a mm of range
    measured = np.zeros(depth_mm.shape, np.float32)
    for i, clean in enumerate(depth_mm.astype(np.float64)):
        random = np.random.default_rng([seed, i])
        cosine, normals = _faced(rays * clean[..., None], rays / length[..., None])
        r = clean * length
        amplitude = np.where(clean > 0, np.maximum(cosine, GRAZING), 0) / np.maximum(r / 1000, 0.1) ** 2
        r = r + multipath_mm(rays * clean[..., None], normals, cosine, camera.fx, sensor.albedo)
        r += sensor.noise_mm / np.sqrt(np.where(clean > 0, amplitude, 1)) * random.standard_normal(r.shape)
        light = amplitude * np.exp(1j * wave * r)
        light = gaussian_filter(light.real, sensor.blur_px) + 1j * gaussian_filter(light.imag, sensor.blur_px)
        z = np.angle(light) % (2 * np.pi) / wave / length
        measured[i] = np.where(abs(light) > sensor.least_amplitude, np.rint(z / sensor.step_mm) * sensor.step_mm, 0)
    return measured


def _faced(points: Float[np.ndarray, "H W 3"], rays: Float[np.ndarray, "H W 3"]) -> tuple[np.ndarray, np.ndarray]:
    """Cosine of the angle between each pixel's surface and its ray [H, W], and the normals towards the camera [H, W, 3]."""
    normals = np.cross(_slope(points, 0), _slope(points, 1))
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True) + 1e-12
    return -(normals * rays).sum(-1), normals


def _slope(points: Float[np.ndarray, "H W 3"], axis: int) -> Float[np.ndarray, "H W 3"]:
    """From each pixel's point to the next, or from the one before if that is the smaller step: not over an outline."""
    step = np.diff(points, axis=axis)
    ends = [step.take([0], axis), step.take([-1], axis)]
    before, after = np.concatenate([ends[0], step], axis), np.concatenate([step, ends[1]], axis)
    return np.where((abs(after) <= abs(before))[..., 2:], after, before)


def multipath_mm(
    points_mm: Float[np.ndarray, "H W 3"],
    normals: Float[np.ndarray, "H W 3"],
    cosine: Float[np.ndarray, "H W"],
    fx: float,
    albedo: float,
) -> Float[np.ndarray, "H W"]:
    """By how much each pixel's range is too long, mm: light over one other patch of the surface, hidden or not.

    Args:
        points_mm: of each pixel, in the camera frame; zeros where there is nothing.
        normals: of their surfaces, towards the camera.
        cosine: of the angles between normals and rays.
        fx: focal length, px.
        albedo: of all surfaces.
    """
    grid = (slice(PATCH_PX // 2, None, PATCH_PX),) * 2
    lit = (points_mm[grid][..., 2] > 0) & (cosine[grid] > GRAZING)
    p, n, facing = points_mm[grid][lit], normals[grid][lit], cosine[grid][lit]
    area = (PATCH_PX * p[:, 2] / fx) ** 2 / facing
    sums = np.zeros((2, *points_mm.shape[:2]))
    sums[0][grid][lit], sums[1][grid][lit] = _one_bounce(p, n, facing, area, albedo), 1
    total, count = gaussian_filter(sums, (0, PATCH_PX / 2, PATCH_PX / 2))
    return np.divide(total, count, out=np.zeros_like(total), where=count > 1e-3)


@compiled()
def _one_bounce(p, n, facing, area, albedo):
    """[N] mm: mean error of the range over all light that reaches a patch directly or over one other."""
    r = np.sqrt((p**2).sum(1))
    light = facing / r**2
    longer = np.zeros(len(p))
    for i in range(len(p)):
        weight, total = 1.0, 0.0  # the direct light has no error
        for j in range(len(p)):
            x, y, z = p[j, 0] - p[i, 0], p[j, 1] - p[i, 1], p[j, 2] - p[i, 2]
            if abs(x) > REACH_MM or abs(y) > REACH_MM:
                continue
            at_i = n[i, 0] * x + n[i, 1] * y + n[i, 2] * z
            at_j = -(n[j, 0] * x + n[j, 1] * y + n[j, 2] * z)
            if at_i > 0 and at_j > 0:  # the patches face each other
                d2 = x * x + y * y + z * z
                # form factor of a disc, which does not grow without end as the patches touch
                share = albedo * light[j] / light[i] * at_i * at_j / d2 * area[j] / (np.pi * d2 + area[j])
                weight += share
                total += share * (r[j] + math.sqrt(d2) - r[i]) / 2
        longer[i] = total / weight
    return longer
