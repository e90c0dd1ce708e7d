"""Unit quaternions xyzw to matrices and to the Euler angles of Sec. 3.5, and back: R = R_x(flexion) R_z(deviation) R_y(twist).

roma's Euler angles ("XZY") agree within float32's rounding, but `roma.unitquat_to_euler` has NaN gradients at a deviation of
+-90 degrees, where ours vanish, and `roma.euler_to_unitquat` takes seven times as long (0.47 instead of 0.064 ms for 32 hands).
"""

from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from ..support.autograd import for_every_use, full_precision

NEAREST_SINE = 1e-6  # the sine of the middle angle stays that far from +-1: within 0.1 degrees of the singular angle
VANISHING = 1e-3  # arguments of atan2 within the same 0.1 degrees


@full_precision
def rotation_matrix(q: Float[Tensor, "*batch 4"], size: int = 3) -> Float[Tensor, "*batch {size} {size}"]:
    """Rotation matrices of unit quaternions xyzw. Polynomial, so that the gradient is finite everywhere.

    size: 4 for transforms that only rotate.
    """
    # of a function that is compiled, the table is a part; torch warns of caches in it
    table_of = _rotation_table.__wrapped__ if torch.compiler.is_compiling() else _rotation_table
    table = table_of(size, q.dtype, q.device)
    products = (q[..., :, None] * q[..., None, :]).flatten(-2)  # xx, xy, ... ww
    return (products @ table[:16] + table[16]).unflatten(-1, (size, size))


@cache
@for_every_use()
def _rotation_table(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """[17, size^2]: the entries of a rotation matrix as sums of its quaternion's products, and the constants in them.

    One small matrix product takes a fifth of the time of the thirty operations that it stands for.
    """
    table = torch.zeros(5, 4, size, size, dtype=torch.float64)  # of x, y, z, w by x, y, z, w, then the constants
    for r in range(3):  # R = 1 - 2 |v|^2 + 2 v v^T + 2 w [v]_x with v = (x, y, z)
        for c in range(3):
            table[c, c, r, r] -= 2
            table[min(r, c), max(r, c), r, c] += 2
        table[3, r, (r + 1) % 3, (r + 2) % 3], table[3, r, (r + 2) % 3, (r + 1) % 3] = -2, 2
    table[4, 0] = torch.eye(size)
    return table.reshape(20, -1)[:17].to(device, dtype)


def euler_angles(rotations: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3"]:
    """phi(theta) of Sec. 3.5: (flexion, deviation, twist) in radians of unit quaternions xyzw.

    The middle angle is singular at +-90 degrees, far outside of any finger's range. It is clamped just short of that, so that
    value and gradient stay finite for every rotation.
    """
    R = rotation_matrix(rotations)
    # first row (cos b cos c, -sin b, cos b sin c), second column (-sin b, cos a cos b, sin a cos b)
    sine = (-R[..., 0, 1]).clamp(-1 + NEAREST_SINE, 1 - NEAREST_SINE)
    flexion = safe_atan2(R[..., 2, 1], R[..., 1, 1])
    twist = safe_atan2(R[..., 0, 2], R[..., 0, 0])
    return torch.stack([flexion, torch.asin(sine), twist], -1)


def safe_atan2(y: Float[Tensor, "*batch"], x: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """atan2 whose gradient is zero where both arguments vanish, instead of NaN or, close by, a million radians a unit."""
    vanishing = (x.abs() < VANISHING) & (y.abs() < VANISHING)
    angle = torch.atan2(torch.where(vanishing, torch.zeros_like(y), y), torch.where(vanishing, torch.ones_like(x), x))
    return torch.where(vanishing, torch.atan2(y.detach(), x.detach()), angle)


def from_euler(angles: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 4"]:
    """Unit quaternions xyzw of (flexion, deviation, twist) in radians; the inverse of `euler_angles`."""
    (sa, sb, sc), (ca, cb, cc) = (torch.sin(angles / 2).unbind(-1), torch.cos(angles / 2).unbind(-1))
    x = sa * cb * cc - ca * sb * sc  # q_x(a) q_z(b) q_y(c)
    y = ca * cb * sc - sa * sb * cc
    z = sa * cb * sc + ca * sb * cc
    w = ca * cb * cc + sa * sb * sc
    return torch.stack([x, y, z, w], -1)
