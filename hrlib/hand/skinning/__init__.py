"""Linear blend skinning: rest points to posed points (Eq. 2).

Two back ends give the same points:

- `reference.py`: plain torch, any device and dtype.
- `cpu.py`: numba, float32 on the CPU, one shape for the batch. Imported (and compiled, once per machine) at its first use.
"""

from importlib import import_module

from jaxtyping import Float
from torch import Tensor

from ...support.autograd import for_a_kernel, full_precision, require_one_dtype
from ..rig import HandRig
from . import reference


@full_precision
def skinning_transforms(hand: HandRig, T_cam_joint: Float[Tensor, "B 16 4 4"]) -> Float[Tensor, "B 16 4 4"]:
    """The matrices M of Eq. 2: from the model's rest pose to the posed hand."""
    if T_cam_joint.shape[1:] == hand.T_rest_wrist.shape and for_a_kernel((T_cam_joint,), (hand.T_rest_wrist,)):
        return import_module(".cpu", __name__).skinning_transforms(T_cam_joint, hand.T_rest_wrist)
    return T_cam_joint @ hand.T_rest_wrist


@full_precision
def skin(
    points: Float[Tensor, "*batch N 3"], weights: Float[Tensor, "N J"], M: Float[Tensor, "B J 4 4"]
) -> Float[Tensor, "B N 3"]:
    """Posed points in mm (Eq. 2): p_i' = sum_j w_ij M_j p_i. Differentiable in the points (shape) and in M (pose).

    >>> from hrlib.hand.skinning import skinning_transforms
    >>> hand = hrlib.load_hand()
    >>> T_cam_joint = hrlib.forward_kinematics(hand, hand.rest_rotations[None], torch.tensor([[0.0, 0.0, 500.0]]))
    >>> hrlib.skin(hand.cloud_mm, hand.cloud_weights, skinning_transforms(hand, T_cam_joint)).shape
    torch.Size([1, 2048, 3])

    Args:
        points: mm at rest; without a batch, one shape for the batch.
        weights: of each point with each joint; rows sum to one.
        M: `skinning_transforms`.

    Raises:
        ValueError: wrong shapes, or several dtypes.
    """
    if points.shape[-1] != 3 or points.ndim not in (2, 3) or weights.shape != (points.shape[-2], M.shape[1]):
        raise ValueError(
            f"points must be [N, 3] or [B, N, 3] and weights [N, {M.shape[1]}], "
            f"got {list(points.shape)} and {list(weights.shape)}"
        )
    require_one_dtype(points=points, weights=weights, M=M)
    if points.ndim == 2 and for_a_kernel((points, M), (weights,)):
        return import_module(".cpu", __name__).skin(points, weights, M)
    return reference.skin(points, weights, M)
