"""The last layer's numbers to unit quaternions: finite in value and gradient for every number, zeros included."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import one_hot

from ..hand.rotations import from_euler
from ..support.autograd import full_precision
from ..support.roma_alone import roma

# the numbers of a joint's neutral orientation, as each head wants them
ROTATIONS = {"quaternion": (0.0, 0.0, 0.0, 1.0), "6d": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), "euler": (0.0, 0.0, 0.0)}


@full_precision
def to_quaternion(raw: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch 4"]:
    """Unit quaternions xyzw of 4 numbers (normalised), 6 (by Gram-Schmidt) or 3 (Euler angles, rad).

    Where the numbers name no rotation (all zero), it is the neutral one, with a gradient of zero.
    """
    heads = {4: _from_quaternion, 6: _from_sixd, 3: from_euler}
    numbers = int(raw.shape[-1])  # a tensor while the network is being exported
    if numbers not in heads:
        raise ValueError(f"raw must end in 4 (quaternion), 6 (6d) or 3 (euler) numbers a joint, got {list(raw.shape)}")
    return heads[numbers](raw)


def _from_quaternion(raw: Tensor) -> Tensor:
    return _unit(raw, _axis(raw, 3))


def _from_sixd(raw: Tensor) -> Tensor:
    """Gram-Schmidt on two columns; a second column along the first is replaced by the axis farthest from that."""
    first, second = raw.unflatten(-1, (2, 3)).unbind(-2)
    x = _unit(first, _axis(first, 0))
    away = one_hot(x.detach().abs().argmin(-1), 3).to(raw)
    across = second - (x * second).sum(-1, keepdim=True) * x
    other = away - (x * away).sum(-1, keepdim=True) * x
    y = _unit(across, other / other.norm(dim=-1, keepdim=True))
    return roma.rotmat_to_unitquat(torch.stack([x, y, torch.linalg.cross(x, y)], -1))


def _axis(like: Tensor, index: int) -> Tensor:
    """A unit vector along an axis, made where `like` is: nothing is copied to a device, which a CUDA graph could not record."""
    return (torch.arange(like.shape[-1], device=like.device) == index).to(like)


def _unit(v: Tensor, otherwise: Tensor) -> Tensor:
    """v / |v|, `otherwise` where v all but vanishes (there the quotient's gradient would be 1 / |v|)."""
    vanishing = v.detach().norm(dim=-1, keepdim=True) < 1e-6
    v = torch.where(vanishing, otherwise, v)
    return v / v.norm(dim=-1, keepdim=True)
