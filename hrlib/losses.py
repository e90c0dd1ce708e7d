"""The terms of the loss, Eq. 6 to 8, and their sum, Eq. 1. Each function returns one value an image, in the unit it states."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from .hand.joints import POINT_PARENTS
from .hand.rotations import euler_angles

BONES = [(child, parent) for child, parent in enumerate(POINT_PARENTS) if parent >= 0]  # both ends of each of the 20
FINGER_RADIUS_MM = 7.0  # of the cylinders of Eq. 7; a finger is 14 to 18 mm thick, so touching fingers do not collide


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms in Eq. 1, found by trial.

    The paper adds the terms unweighted. But its Eq. 6 sums over pixels and its Eq. 7 averages over joints, so that depth
    would drown the rest.
    """

    depth: float = 10.0  # per unit of mean absolute difference of the images
    collision: float = 0.02  # per mm
    physical: float = 0.05  # per rad


def depth_loss(rendered: Float[Tensor, "B H W"], target: Float[Tensor, "B H W"]) -> Float[Tensor, " B"]:
    """Eq. 6, L_depth: mean absolute difference of two splatted images, in units of depth in the crop.

    The paper sums over pixels; the mean is that sum over H W, so that the weight does not depend on the image's size.
    """
    if rendered.shape != target.shape:
        raise ValueError(
            f"rendered and target must have one shape, got {list(rendered.shape)} and {list(target.shape)}"
        )
    difference = (rendered - target).flatten(1)
    return torch.linalg.vector_norm(difference, 1, 1) / difference.shape[1]  # two passes fewer than abs and mean


def collision_loss(joints_mm: Float[Tensor, "B 21 3"], radius_mm: float = FINGER_RADIUS_MM) -> Float[Tensor, " B"]:
    """Eq. 7, L_coll: how deep points lie in the cylinders around other bones, in mm.

    C is the set of bones, a point and its parent; m = 21. The paper has 16 joints; the five tips are added, because
    otherwise the last phalanges, which touch first, would be no bones at all.
    """
    points = joints_mm.permute(2, 0, 1).contiguous()  # long rows of x, y and z: sums over three at a time are slow
    a, b = (points[:, :, list(ends)] for ends in zip(*BONES, strict=True))  # [3, B, 20]
    depth = penetration_mm(a[..., None], b[..., None], points[:, :, None], radius_mm)  # [B, 20 bones, 21 points]
    return (depth * _FOREIGN.to(depth)).sum((1, 2)) / joints_mm.shape[1]


def penetration_mm(
    a: Float[Tensor, "3 ..."], b: Float[Tensor, "3 ..."], p: Float[Tensor, "3 ..."], radius_mm: float
) -> Float[Tensor, "..."]:
    """f_coll of Eq. 7: depth of points p inside the cylinder from a to b, to its nearest surface; 0 outside."""
    axis, away = b - a, p - a
    length = axis.norm(dim=0).clamp_min(1e-6)
    along = (away * axis).sum(0) / length
    across = away - axis * (along / length)
    distance = (across.square().sum(0) + 1e-12).sqrt()  # of which the gradient on the axis is finite, too
    return torch.minimum(torch.minimum(along, length - along), radius_mm - distance).clamp_min(0)


# [20, 21], the indicator of Eq. 7: 1 where the point is neither end of the bone
_FOREIGN = torch.tensor([[point not in bone for point in range(21)] for bone in BONES])


def physical_loss(rotations: Float[Tensor, "B 16 4"], limits_rad: Float[Tensor, "16 3 2"]) -> Float[Tensor, " B"]:
    """Eq. 8, L_phys: by how much the Euler angles leave their range, summed over joints and angles, in rad.

    Args:
        rotations: theta, unit quaternions xyzw. The wrist turns freely.
        limits_rad: least and largest flexion, deviation and twist of each joint.
    """
    angles = euler_angles(rotations[:, 1:])
    low, high = limits_rad[1:].unbind(-1)
    return ((low - angles).clamp_min(0) + (angles - high).clamp_min(0)).sum((1, 2))


def weighted_sum(terms: dict[str, Float[Tensor, " B"]], weights: LossWeights) -> Float[Tensor, " B"]:
    """Eq. 1: the sum of the terms that are present, each times its weight."""
    return sum(getattr(weights, name) * value for name, value in terms.items())


def image_mse(rendered: Float[Tensor, "*batch H W"], target: Float[Tensor, "*batch H W"]) -> Float[Tensor, "*batch"]:
    """Mean squared difference of the synthesized images (the measure of Fig. 7)."""
    difference = (rendered - target).flatten(-2)
    return torch.linalg.vector_norm(difference, dim=-1).square() / difference.shape[-1]


def saturating(size: Float[Tensor, "*any"], most: float) -> Float[Tensor, "*any"]:
    """About `size` where that is small, never more than `most`."""
    return most * (1 - torch.exp(-size / most))
