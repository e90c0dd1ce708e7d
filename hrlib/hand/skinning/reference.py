"""Linear blend skinning in plain torch, for any device and dtype (Eq. 2): what the kernel on the CPU must equal."""

import torch
from torch import Tensor


def skin(points: Tensor, weights: Tensor, M: Tensor) -> Tensor:
    """`hrlib.hand.skinning.skin`, arguments already checked."""
    blended = torch.matmul(weights, M[:, :, :3].flatten(2)).unflatten(-1, (3, 4))  # Eq. 2: sum_j w_ij M_j, [B, N, 3, 4]
    return (blended[..., :3] * points[..., None, :]).sum(-1) + blended[..., 3]
