"""Forward kinematics in plain torch, for any device and dtype (Sec. 3.3.1): what the kernel on the CPU must equal."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..rotations import rotation_matrix

# Joints by depth in the tree after the wrist: the five bases, middles and fars; each hangs on the group before.
LEVELS = (slice(1, 16, 3), slice(2, 16, 3), slice(3, 16, 3))


def forward_kinematics(T_parent_neutral: Tensor, rotations: Tensor, wrist_mm: Tensor) -> Tensor:
    """`hrlib.hand.kinematics.forward_kinematics`, arguments already checked."""
    T_parent_joint = T_parent_neutral @ rotation_matrix(rotations, 4)  # [B, 16, 4, 4]; the wrist has no bone
    T = [T_parent_joint[:, :1] + pad(wrist_mm[:, None, :, None], (3, 0, 0, 1))]  # the last column's first three rows
    for level in LEVELS:
        T.append(T[-1] @ T_parent_joint[:, level])  # [B, 1 or 5, 4, 4]: the wrist's is the parent of five
    # back from (level, finger) to (wrist, thumb x 3, index x 3, ...)
    return torch.cat([T[0], torch.stack(T[1:], 2).flatten(1, 2)], 1)
