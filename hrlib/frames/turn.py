"""Crops as another camera sees them: turned about its axis, in a mirror, or with another unit of length."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from ..support.autograd import full_precision
from .crops import Crops


def turned(crops: Crops, angle: Float[Tensor, " B"]) -> tuple[Crops, Float[Tensor, "B 3 3"]]:
    """The crops as seen by a camera turned about its axis by -angle (rad), and the rotations of the hands in its frame.

    Exact except for the pixel grid. Each pixel takes its nearest source pixel, which invents no depth at outlines.
    """
    cos, sin = angle.cos(), angle.sin()
    zero, one = torch.zeros_like(cos), torch.ones_like(cos)
    R = torch.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one], -1).unflatten(-1, (3, 3))
    points = rotated(crops.points - 0.5, R) + 0.5
    image, centre_mm = turned_image(crops.image, R), rotated(crops.centre_mm, R)
    upright = torch.where(crops.upright == 0, crops.upright, crops.upright - angle)
    return replace(crops, image=image, points=points, centre_mm=centre_mm, upright=upright), R


def in_mirror(crops: Crops) -> Crops:
    """The crops as a mirror shows them: a left hand becomes a right one, x becomes -x. Exact except for the pixel grid."""
    other = crops.points.new_tensor([-1.0, 1.0, 1.0])
    points, centre_mm = (crops.points - 0.5) * other + 0.5, crops.centre_mm * other
    return replace(crops, image=crops.image.flip(2), points=points, centre_mm=centre_mm, upright=-crops.upright)


def resized(crops: Crops, factor: float) -> Crops:
    """The crops of the same scene `factor` times as large, in cubes of the same size; what leaves the cube is lost."""
    size = crops.image.shape[-1]
    # the source pixel of each row and column: both images are windows of one direction
    source = torch.arange(size, dtype=torch.float32, device=crops.image.device)  # whatever torch's default is
    source = (((source + 0.5) / size - 0.5) / factor + 0.5) * size
    inside, source = (source >= 0) & (source < size), source.long().clamp(0, size - 1)
    image = crops.image[:, source][:, :, source]
    value = 0.5 + (image - 0.5) * factor
    seen = (image > 0) & (value > 0) & (value <= 1) & inside & inside[:, None]
    points = 0.5 + (crops.points - 0.5) * factor
    return replace(crops, image=value.where(seen, 0), points=points, centre_mm=crops.centre_mm * factor)


@full_precision
def turned_image(image: Float[Tensor, "B H W"], R: Float[Tensor, "B 3 3"]) -> Float[Tensor, "B H W"]:
    """Images turned about their middle by R, rotations about the camera's axis; see `turned`."""
    # grid_sample asks where each pixel comes from: the inverse turn
    back = torch.cat([R[:, :2, :2].mT, R.new_zeros(len(R), 2, 1)], 2)
    grid = affine_grid(back, [len(R), 1, *image.shape[1:]], align_corners=False)
    return grid_sample(image[:, None], grid, mode="nearest", align_corners=False)[:, 0]


@full_precision
def rotated(points: Float[Tensor, "B *points 3"], R: Float[Tensor, "B 3 3"]) -> Float[Tensor, "B *points 3"]:
    """Points rotated by the R of their frame."""
    return torch.einsum("brc,b...c->b...r", R, points)
