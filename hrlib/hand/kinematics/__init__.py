"""Forward kinematics: joint rotations to joint frames (Sec. 3.3.1), and rotations to Euler angles (Sec. 3.5).

The chain of frames is written in torch, for any device and dtype; `cpu.py` is the same, faster, on the CPU.
"""

from functools import cache
from importlib import import_module

import roma
import torch
from torch import Tensor
from torch.nn.functional import pad

from ..rig import HandRig

# Joints by depth in the tree: wrist, the five bases, the five middles, the five fars; each hangs on the group before.
LEVELS = (slice(1, 16, 3), slice(2, 16, 3), slice(3, 16, 3))
FAR = LEVELS[-1]


def rotation_matrix(q: Tensor, size: int = 3) -> Tensor:
    """Unit quaternions xyzw [..., 4] -> rotation matrices [..., 3, 3]. Polynomial, so its gradient is finite everywhere.

    size: 4 for [..., 4, 4], transforms that only rotate.
    """
    table = _rotation_table(size, q.dtype, q.device)
    products = (q[..., :, None] * q[..., None, :]).flatten(-2)  # xx, xy, ... ww
    return (products @ table[:16] + table[16]).unflatten(-1, (size, size))


@cache
def _rotation_table(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """[17, size^2]: the entries of a rotation matrix as sums of its quaternion's products, and the constants in them.

    One small matrix product takes a fifth of the time of the thirty operations that it stands for.
    """
    table = torch.zeros(5, 4, size, size, dtype=torch.float64)  # of x, y, z, w by x, y, z, w, then the constants
    x, y, z, w, one = range(5)
    for entry, terms in enumerate(
        [
            [(-2, y, y), (-2, z, z)], [(2, x, y), (-2, w, z)], [(2, x, z), (2, w, y)],
            [(2, x, y), (2, w, z)], [(-2, x, x), (-2, z, z)], [(2, y, z), (-2, w, x)],
            [(2, x, z), (-2, w, y)], [(2, y, z), (2, w, x)], [(-2, x, x), (-2, y, y)],
        ]
    ):  # fmt: skip
        for factor, i, j in terms:
            table[i, j, entry // 3, entry % 3] += factor
    table[one, 0] = torch.eye(size)
    return table.reshape(20, -1)[:17].to(device, dtype)


def forward_kinematics(hand: HandRig, rotations: Tensor, wrist_mm: Tensor) -> Tensor:
    """Joint frames of a posed hand, `T_cam_joint` [B, 16, 4, 4].

    rotations [B, 16, 4]: unit quaternions xyzw, each joint's in its own neutral frame (the wrist's in the camera's);
    wrist_mm [B, 3]: where the wrist joint is. Along a chain, T_joint = T_parent [R_neutral | bone] [R(q) | 0].
    Second derivatives exist in float64 (in float32 on the CPU, a hand whose bones need no gradient is posed by a kernel that
    has none).
    Raises ValueError for wrong shapes.
    """
    if rotations.ndim != 3 or rotations.shape[1:] != (16, 4):
        raise ValueError(f"rotations must be quaternions [B, 16, 4] (xyzw), got {list(rotations.shape)}")
    if wrist_mm.shape != (len(rotations), 3):
        raise ValueError(f"wrist_mm must be [B, 3] with B = {len(rotations)}, got {list(wrist_mm.shape)}")
    if for_a_kernel((rotations, wrist_mm), (hand.T_parent_neutral,)):
        kernel = import_module(".cpu", __name__)
        return kernel.forward_kinematics(hand.T_parent_neutral, rotations, wrist_mm)
    T_parent_joint = hand.T_parent_neutral @ rotation_matrix(rotations, 4)  # [B, 16, 4, 4]; the wrist has no bone
    T = [T_parent_joint[:, :1] + pad(wrist_mm[:, None, :, None], (3, 0, 0, 1))]  # the last column's first three rows
    for level in LEVELS:
        T.append(T[-1] @ T_parent_joint[:, level])  # [B, 1 or 5, 4, 4]: the wrist's is the parent of five
    # back from (level, finger) to (wrist, thumb x 3, index x 3, ...)
    return torch.cat([T[0], torch.stack(T[1:], 2).flatten(1, 2)], 1)


def for_a_kernel(variable: tuple[Tensor, ...], constant: tuple[Tensor, ...]) -> bool:
    """Whether a kernel in numba may take these: float32 on the CPU, no gradient asked in the constant ones, and torch is
    not recording a graph of its operations."""
    plain = all(x.dtype == torch.float32 and x.device.type == "cpu" for x in (*variable, *constant))
    recorded = torch.compiler.is_compiling() or torch.jit.is_tracing()
    return plain and not recorded and not any(x.requires_grad for x in constant)


def joint_positions(hand: HandRig, T_cam_joint: Tensor) -> Tensor:
    """The 21 points of a posed hand, [B, 21, 3] mm, in the order of `joints.POINT_NAMES` (16 joints and 5 tips)."""
    R, at = T_cam_joint[..., :3, :3], T_cam_joint[..., :3, 3]
    tips = at[:, FAR] + (R[:, FAR] @ hand.tip_bones_mm[..., None])[..., 0]
    # each finger's three joints, then its tip
    return torch.cat([at[:, :1], torch.cat([at[:, 1:].unflatten(1, (5, 3)), tips[:, :, None]], 2).flatten(1, 2)], 1)


def turn_hand(rotations: Tensor, R: Tensor) -> Tensor:
    """Rotations [B, 16, 4] of hands that are turned as a whole by R [B, 3, 3], in the camera frame."""
    wrist = roma.quat_product(roma.rotmat_to_unitquat(R), rotations[:, 0])
    return torch.cat([wrist[:, None], rotations[:, 1:]], 1)


def euler_angles(rotations: Tensor) -> Tensor:
    """phi(theta) of Sec. 3.5: unit quaternions xyzw [..., 4] -> (flexion, deviation, twist) [..., 3] in radians.

    R = R_x(flexion) R_z(deviation) R_y(twist). The middle angle is singular at +-90 degrees, far outside of any finger's
    range; it is clamped just short of that, so that value and gradient stay finite for every rotation.
    """
    R = rotation_matrix(rotations)
    # R_x(a) R_z(b) R_y(c) has first row (cos b cos c, -sin b, cos b sin c) and second column (-sin b, cos a cos b, sin a cos b)
    sine = (-R[..., 0, 1]).clamp(-1 + 1e-6, 1 - 1e-6)
    flexion = _safe_atan2(R[..., 2, 1], R[..., 1, 1])
    twist = _safe_atan2(R[..., 0, 2], R[..., 0, 0])
    return torch.stack([flexion, torch.asin(sine), twist], -1)


def _safe_atan2(y: Tensor, x: Tensor) -> Tensor:
    """atan2 whose gradient is zero where both arguments vanish, instead of NaN or, close by, a million radians a unit."""
    vanishing = (x.abs() < 1e-3) & (
        y.abs() < 1e-3
    )  # 0.1 degrees from the singular angle, where the sine is clamped too
    angle = torch.atan2(torch.where(vanishing, torch.zeros_like(y), y), torch.where(vanishing, torch.ones_like(x), x))
    return torch.where(vanishing, torch.atan2(y.detach(), x.detach()), angle)


def from_euler(angles: Tensor) -> Tensor:
    """(flexion, deviation, twist) [..., 3] rad -> unit quaternions xyzw [..., 4]; inverse of `euler_angles`."""
    (sa, sb, sc), (ca, cb, cc) = (torch.sin(angles / 2).unbind(-1), torch.cos(angles / 2).unbind(-1))
    # q = q_x(a) q_z(b) q_y(c)
    x = sa * cb * cc - ca * sb * sc
    y = ca * cb * sc - sa * sb * cc
    z = sa * cb * sc + ca * sb * cc
    w = ca * cb * cc + sa * sb * sc
    return torch.stack([x, y, z, w], -1)
