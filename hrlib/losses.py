"""The three terms of Eq. 1, one function each; every function returns one value an image, in the unit it states."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .hand.joints import POINT_PARENTS
from .hand.rotations import euler_angles

CHILDREN = tuple(range(1, 21))
FINGER_RADIUS_MM = 7.0


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms in their sum. The paper adds them unweighted (Eq. 1), but its Eq. 6 sums over pixels and its
    Eq. 7 averages over joints, so that depth would drown the rest; these were found by trial (design, section 10)."""

    depth: float = 10.0  # per unit of mean absolute difference of the images
    collision: float = 0.02  # per mm
    physical: float = 0.05  # per rad


def depth_loss(rendered: Tensor, target: Tensor) -> Tensor:
    """Eq. 6, L_depth: mean absolute difference of two splatted images [B, H, W] -> [B], in units of depth in the crop.

    The paper sums over pixels; the mean is that sum over H W, so that the weight does not depend on the image's size.
    """
    if rendered.shape != target.shape:
        raise ValueError(
            f"rendered and target must have one shape, got {list(rendered.shape)} and {list(target.shape)}"
        )
    difference = (rendered - target).flatten(1)
    return torch.linalg.vector_norm(difference, 1, 1) / difference.shape[1]  # two passes fewer than abs and mean


def collision_loss(joints_mm: Tensor, radius_mm: float = FINGER_RADIUS_MM) -> Tensor:
    """Eq. 7, L_coll: how deep joints lie in the cylinders around other bones, [B, 21, 3] mm -> [B] mm.

    C is the set of bones, a point and its parent; m = 21. The paper has 16 joints; the five tips are added, because
    otherwise the last phalanges, which touch first, would be no bones at all.
    """
    points = joints_mm.permute(2, 0, 1).contiguous()  # long rows of x, y and z: sums over three at a time are slow
    a, b = points[:, :, CHILDREN], points[:, :, POINT_PARENTS[1:]]  # [3, B, 20] bone ends
    depth = penetration_mm(a[..., None], b[..., None], points[:, :, None], radius_mm)  # [B, 20 bones, 21 points]
    return (depth * _FOREIGN.to(depth)).sum((1, 2)) / joints_mm.shape[1]


def penetration_mm(a: Tensor, b: Tensor, p: Tensor, radius_mm: float) -> Tensor:
    """f_coll of Eq. 7: depth of points p [3, ...] inside the cylinder from a to b, to its nearest surface; 0 outside."""
    axis, away = b - a, p - a
    length = axis.norm(dim=0).clamp_min(1e-6)
    along = (away * axis).sum(0) / length
    across = away - axis * (along / length)
    distance = (across.square().sum(0) + 1e-12).sqrt()
    return torch.minimum(torch.minimum(along, length - along), radius_mm - distance).clamp_min(0)


def _foreign_points() -> Tensor:
    """[20, 21]: 1 where the point is neither end of the bone (the indicator of Eq. 7)."""
    foreign = torch.ones(20, 21)
    for row, child in enumerate(CHILDREN):
        foreign[row, child] = foreign[row, POINT_PARENTS[child]] = 0
    return foreign


_FOREIGN = _foreign_points()


def physical_loss(rotations: Tensor, limits_rad: Tensor) -> Tensor:
    """Eq. 8, L_phys: by how much the Euler angles leave their range, summed over joints and angles.

    rotations [B, 16, 4] unit quaternions xyzw, limits_rad [16, 3, 2] -> [B] rad. The wrist turns freely.
    """
    angles = euler_angles(rotations[:, 1:])
    low, high = limits_rad[1:].unbind(-1)
    return ((low - angles).clamp_min(0) + (angles - high).clamp_min(0)).sum((1, 2))


def weighted_sum(terms: dict[str, Tensor], weights: LossWeights) -> Tensor:
    """Eq. 1: the sum of the terms that are present, each times its weight; [B]."""
    return sum(getattr(weights, name) * value for name, value in terms.items())


def saturating(size: Tensor, most: float) -> Tensor:
    """About `size` where that is small, never more than `most`."""
    return most * (1 - torch.exp(-size / most))


def image_mse(rendered: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference of the synthesized images, [B, H, W] x 2 -> [B] (Fig. 7's measure)."""
    difference = (rendered - target).flatten(-2)
    return torch.linalg.vector_norm(difference, dim=-1).square() / difference.shape[-1]
