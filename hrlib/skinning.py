"""Linear blend skinning: rest points to posed points (Eq. 2)."""

import torch
from torch import Tensor

from .hand import HandRig


def skinning_transforms(hand: HandRig, T_cam_joint: Tensor) -> Tensor:
    """The matrices M of Eq. 2, [B, 16, 4, 4]: from the model's rest pose to the posed hand."""
    R, p = hand.R_wrist_rest, hand.joints_mm
    T_rest_inverse = torch.zeros_like(hand.T_wrist_rest)
    T_rest_inverse[:, :3, :3] = R.mT
    T_rest_inverse[:, :3, 3] = -torch.einsum("jrc,jr->jc", R, p)
    T_rest_inverse[:, 3, 3] = 1
    return T_cam_joint @ T_rest_inverse


def skin(points: Tensor, weights: Tensor, M: Tensor) -> Tensor:
    """Eq. 2: p_i' = sum_j w_ij M_j p_i. Differentiable in the points (the hand's shape) and in M (its pose).

    points [N, 3] (one shape for the batch) or [B, N, 3], mm at rest; weights [N, 16]; M [B, 16, 4, 4] -> [B, N, 3] mm.
    Raises ValueError for wrong shapes.
    """
    if points.shape[-1] != 3 or points.ndim not in (2, 3) or weights.shape != (points.shape[-2], M.shape[1]):
        raise ValueError(
            f"points must be [N, 3] or [B, N, 3] and weights [N, {M.shape[1]}], "
            f"got {list(points.shape)} and {list(weights.shape)}"
        )
    if points.ndim == 2:
        # sum_j M_j (w_ij p_i): one matrix product for the whole batch, and no blended matrix for each point
        at = torch.cat([points, torch.ones_like(points[:, :1])], 1)
        columns = M[:, :, :3].permute(1, 3, 0, 2).flatten(2).flatten(0, 1)  # [16 joints x 4, B x 3]
        posed = (weights[:, :, None] * at[:, None]).flatten(1) @ columns
        return posed.unflatten(1, (len(M), 3)).transpose(0, 1).contiguous()
    blended = torch.matmul(weights, M[:, :, :3].flatten(2)).unflatten(-1, (3, 4))  # sum_j w_ij M_j, [B, N, 3, 4]
    return (blended[..., :3] * points[..., None, :]).sum(-1) + blended[..., 3]
