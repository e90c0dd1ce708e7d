"""The dark wristband that the paper's user wears (Sec. 4.2): its mesh on a simulated arm, and the colour image that shows it.

The colour image sees what the depth sensor would see without errors, pixel by pixel. A real one is a little displaced where
colour and depth cameras are not at the same place.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from ..frames.camera import Camera

# The band begins and ends this far behind the hand's opening, whose middle lies 3 mm before the wrist joint
BEHIND_MM = (3.0, 28.0)
THICK_MM = 2.0  # its outside above the skin
INSIDE_MM = 1.0  # its edges below the skin: no gap shows
SKIN, CLOTH = (200.0, 160.0, 140.0), (30.0, 30.0, 45.0)  # RGB of 255, lit from the front
BACKGROUND = 128.0  # grey
AMBIENT = 0.5  # light on a surface that is seen edge on; the rest falls with the cosine of the angle
NOISE = 4.0  # of 255: standard deviation of each channel


def between_rings(upper: Int[np.ndarray, "R V"], lower: Int[np.ndarray, "R V"]) -> Int[np.ndarray, "F 3"]:
    """Triangles between rings of vertices and the next rings down the arm, seen from outside."""
    upper_next, lower_next = np.roll(upper, -1, 1), np.roll(lower, -1, 1)
    return np.stack([upper_next, upper, lower, upper_next, lower, lower_next], -1).reshape(-1, 3)


def band_faces(corners: int) -> Int[np.ndarray, "F 3"]:
    """Triangles of the vertices that `band_vertices` makes of rings with so many corners."""
    rings = np.arange(4 * corners).reshape(4, corners)
    return between_rings(rings[:-1], rings[1:])


def band_vertices(
    opening_mm: Float[Tensor, "B V 3"], behind_mm: Float[Tensor, "B V 3"], length_mm: Float[Tensor, " B"]
) -> Float[Tensor, "B 4*V 3"]:
    """The band's four rings: under the skin, on the outside where it begins, where it ends, and under the skin again.

    Args:
        opening_mm, behind_mm: corners of the hand's opening and of the forearm's first ring.
        length_mm: from the one to the other.
    """
    rings = []
    for along_mm, above_mm in zip(np.repeat(BEHIND_MM, 2), (-INSIDE_MM, THICK_MM, THICK_MM, -INSIDE_MM), strict=True):
        ring = opening_mm + (behind_mm - opening_mm) * (float(along_mm) / length_mm)[:, None, None]
        outward = ring - ring.mean(1, keepdim=True)
        rings.append(ring + above_mm * outward / outward.norm(dim=-1, keepdim=True))
    return torch.cat(rings, 1)


def colour_image(
    depth_mm: Float[np.ndarray, "H W"], camera: Camera, band: Bool[np.ndarray, "H W"], random: np.random.Generator
) -> UInt8[np.ndarray, "H W 3"]:
    """RGB of a hand with a wristband before a grey wall, lit from the camera.

    Args:
        depth_mm: without a sensor's errors; 0 where nothing but the wall is.
        camera: of the depth image.
        band: the pixels that show the wristband.
        random: makes the camera's noise.
    """
    seen, image = depth_mm > 0, np.full((*depth_mm.shape, 3), BACKGROUND, np.float32)
    # slopes of the surface along x and y, mm per mm; at outlines they are steep, as the surface itself is there
    v, u = np.gradient(depth_mm)
    cosine = 1 / np.sqrt(1 + (u * camera.fx / depth_mm.clip(1)) ** 2 + (v * camera.fy / depth_mm.clip(1)) ** 2)
    light = AMBIENT + (1 - AMBIENT) * cosine[seen, None]
    image[seen] = np.where(band[seen, None], np.float32(CLOTH), np.float32(SKIN)) * light
    image += NOISE * random.standard_normal(image.shape, np.float32)
    return image.clip(0, 255).round().astype(np.uint8)
