"""Forward kinematics: joint rotations to joint frames (Sec. 3.3.1).

Two back ends give the same frames:

- `reference.py`: plain torch, any device and dtype.
- `cpu.py`: numba, float32 on the CPU. Imported (and compiled, once per machine) at its first use.
"""

from importlib import import_module

import torch
from jaxtyping import Float
from torch import Tensor

from ...support.autograd import for_a_kernel, full_precision, require_one_dtype
from ...support.roma_alone import roma
from ..rig import HandRig, neutral_rotations
from . import reference

FAR = reference.LEVELS[-1]


@full_precision
def forward_kinematics(
    hand: HandRig, rotations: Float[Tensor, "B 16 4"], wrist_mm: Float[Tensor, "B 3"]
) -> Float[Tensor, "B 16 4 4"]:
    """Joint frames `T_cam_joint` of a posed hand (Sec. 3.3.1): along a chain, T_joint = T_parent [R_neutral | bone] [R(q) | 0].

    >>> hand = hrlib.load_hand()
    >>> T_cam_joint = hrlib.forward_kinematics(hand, hand.rest_rotations[None], torch.tensor([[0.0, 0.0, 500.0]]))
    >>> T_cam_joint[0, 0, :3, 3]
    tensor([  0.,   0., 500.])

    Args:
        rotations: unit quaternions xyzw, each joint's in its own neutral frame (the wrist's in the camera's). Other lengths
            shear the frames, and are not looked for: that takes half as long as the frames of 32 hands. `pose_hand` looks.
        wrist_mm: where the wrist joint is, in the camera frame.

    Raises:
        ValueError: wrong shapes, or several dtypes.
    """
    if rotations.ndim != 3 or rotations.shape[1:] != (16, 4):
        raise ValueError(f"rotations must be quaternions [B, 16, 4] (xyzw), got {list(rotations.shape)}")
    if wrist_mm.shape != (len(rotations), 3):
        raise ValueError(f"wrist_mm must be [B, 3] with B = {len(rotations)}, got {list(wrist_mm.shape)}")
    require_one_dtype(hand=hand.T_parent_neutral, rotations=rotations, wrist_mm=wrist_mm)
    if for_a_kernel((rotations, wrist_mm), (hand.T_parent_neutral,)):
        return import_module(".cpu", __name__).forward_kinematics(hand.T_parent_neutral, rotations, wrist_mm)
    return reference.forward_kinematics(hand.T_parent_neutral, rotations, wrist_mm)


@full_precision
def joint_positions(hand: HandRig, T_cam_joint: Float[Tensor, "B 16 4 4"]) -> Float[Tensor, "B 21 3"]:
    """The 21 points of a posed hand in mm, in the order of `joints.POINT_NAMES`."""
    return _with_tips(T_cam_joint, hand.tip_bones_mm)


def _with_tips(T_cam_joint: Tensor, tip_bones_mm: Tensor) -> Tensor:
    R, at = T_cam_joint[..., :3, :3], T_cam_joint[..., :3, 3]
    tips = at[:, FAR] + (R[:, FAR] @ tip_bones_mm[..., None])[..., 0]
    # each finger's three joints, then its tip
    return torch.cat([at[:, :1], torch.cat([at[:, 1:].unflatten(1, (5, 3)), tips[:, :, None]], 2).flatten(1, 2)], 1)


@full_precision
def points_of_hands(
    bones_mm: Float[Tensor, "B 21 3"], rotations: Float[Tensor, "B 16 4"], wrist_mm: Float[Tensor, "B 3"]
) -> Float[Tensor, "B 21 3"]:
    """`joint_positions` of B posed hands of different bones (`HandRig.points_mm` of each), in plain torch."""
    neutral = neutral_rotations().to(bones_mm).expand(len(bones_mm), 16, 3, 3)
    T_parent_neutral = roma.Rigid(neutral, bones_mm[:, :16]).to_homogeneous()
    T = reference.forward_kinematics(T_parent_neutral, rotations, wrist_mm)
    return _with_tips(T, bones_mm[:, 16:])


@full_precision
def turn_hand(rotations: Float[Tensor, "B 16 4"], R: Float[Tensor, "B 3 3"]) -> Float[Tensor, "B 16 4"]:
    """Rotations of hands that are turned as a whole by R, in the camera frame."""
    wrist = roma.quat_product(roma.rotmat_to_unitquat(R), rotations[:, 0])
    return torch.cat([wrist[:, None], rotations[:, 1:]], 1)
