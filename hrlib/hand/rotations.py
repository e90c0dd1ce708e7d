"""Unit quaternions xyzw to matrices and to the Euler angles of Sec. 3.5, and back."""

from functools import cache

import torch
from torch import Tensor


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
