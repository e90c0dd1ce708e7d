"""Frames as a camera sees them that is turned about its axis."""

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from .crops import Crops


def turned(crops: Crops, angle: Tensor) -> tuple[Crops, Tensor]:
    """The same frames as a camera sees them that is turned about its axis by -angle [B] (rad), and the rotations [B, 3, 3] by
    which the hands turn in it.

    Exact but for the pixels' grid, since a picture turns with its camera; the nearest pixel is taken, so that no depth is
    made up between the hand and what is behind it.
    """
    cos, sin = angle.cos(), angle.sin()
    zero, one = torch.zeros_like(cos), torch.ones_like(cos)
    R = torch.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one], -1).unflatten(-1, (3, 3))
    points = rotated(crops.points - 0.5, R) + 0.5
    return Crops(turned_image(crops.image, R), points, rotated(crops.centre_mm, R), crops.count, crops.cube_mm), R


def turned_image(image: Tensor, R: Tensor) -> Tensor:
    """Images [B, H, W] turned about their middle by R [B, 3, 3], rotations about the camera's axis; see `turned`."""
    # grid_sample asks where each pixel comes from, which is the turn back
    back = torch.cat([R[:, :2, :2].mT, R.new_zeros(len(R), 2, 1)], 2)
    grid = affine_grid(back, [len(R), 1, *image.shape[1:]], align_corners=False)
    return grid_sample(image[:, None], grid, mode="nearest", align_corners=False)[:, 0]


def rotated(points: Tensor, R: Tensor) -> Tensor:
    """Points [B, ..., 3], each frame's by its R [B, 3, 3]."""
    return torch.einsum("brc,b...c->b...r", R, points)
