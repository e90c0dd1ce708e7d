"""Linear blend skinning: rest points to posed points (Eq. 2).

Two back ends give the same points: `reference.py`, plain torch for any device and dtype, and `cpu.py`, a faster kernel for
one shape, float32, on the CPU.
"""

from importlib import import_module

from torch import Tensor

from ..kinematics import for_a_kernel
from ..rig import HandRig
from . import reference


def skinning_transforms(hand: HandRig, T_cam_joint: Tensor) -> Tensor:
    """The matrices M of Eq. 2, [B, 16, 4, 4]: from the model's rest pose to the posed hand."""
    if T_cam_joint.shape[1:] == hand.T_rest_wrist.shape and for_a_kernel((T_cam_joint,), (hand.T_rest_wrist,)):
        return import_module("..kinematics.cpu", __name__).skinning_transforms(T_cam_joint, hand.T_rest_wrist)
    return T_cam_joint @ hand.T_rest_wrist


def skin(points: Tensor, weights: Tensor, M: Tensor) -> Tensor:
    """Eq. 2: p_i' = sum_j w_ij M_j p_i. Differentiable in the points (the hand's shape) and in M (its pose).

    points [N, 3] (one shape for the batch) or [B, N, 3], mm at rest; weights [N, 16]; M [B, 16, 4, 4] -> [B, N, 3] mm.
    Second derivatives exist in float64 (in float32 on the CPU, one shape for the batch is posed by a kernel that has none).
    Raises ValueError for wrong shapes.
    """
    if points.shape[-1] != 3 or points.ndim not in (2, 3) or weights.shape != (points.shape[-2], M.shape[1]):
        raise ValueError(
            f"points must be [N, 3] or [B, N, 3] and weights [N, {M.shape[1]}], "
            f"got {list(points.shape)} and {list(weights.shape)}"
        )
    if points.ndim == 2 and for_a_kernel((points, M), (weights,)):
        return import_module(".cpu", __name__).skin(points, weights, M)
    return reference.skin(points, weights, M)
