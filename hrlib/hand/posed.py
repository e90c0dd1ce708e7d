"""A hand in a pose, for other programs: rotations and a wrist to mesh, points and joints."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation
from torch import Tensor

from ..support.autograd import unwrapped
from ..support.checks import SIDES, require_one_of
from .kinematics import forward_kinematics, joint_positions
from .rig import HandRig, check_rig
from .skinning import skin, skinning_transforms

UNIT = 1e-2  # of a quaternion's length: more is no rounding
METRES = 5.0  # wrists so near the camera, and not in it, are in metres
BENT_RAD = 2.1  # no joint of a finger bends so far


@dataclass(frozen=True, eq=False)
class PosedHand:
    """A hand in the camera frame, mm; the batch is that of the rotations."""

    vertices_mm: Float[Tensor | np.ndarray, "*batch V 3"]  # of the mesh; `HandRig.faces` are its triangles
    cloud_mm: Float[Tensor | np.ndarray, "*batch N 3"]  # the points P of the method
    joints_mm: Float[Tensor | np.ndarray, "*batch 21 3"]  # in the order of `hrlib.hand.joints.POINT_NAMES`


def pose_hand(
    hand: HandRig,
    rotations: Float[Tensor | np.ndarray, "*batch 16 4"] | Sequence | Rotation,
    wrist_mm: Float[Tensor | np.ndarray, "*wrist 3"] | Sequence[float],
    side: str = "right",
) -> PosedHand:
    """Mesh, points and joints of a hand in a pose (Eq. 2). Differentiable in tensors.

    >>> hand = hrlib.load_hand()
    >>> posed = hrlib.pose_hand(hand, hand.rest_rotations, (0, 0, 500))
    >>> posed.joints_mm.shape, posed.vertices_mm.shape == hand.vertices_mm.shape
    (torch.Size([21, 3]), True)

    Args:
        hand: any rig, of which `load_hand` gives the template.
        rotations: unit quaternions xyzw, each joint's in its own neutral frame; of one hand or of a batch; or scipy's Rotation
            of 16.
        wrist_mm: where the wrist is in the camera frame.
        side: "left" poses the rig's mirror image. Rotations are then those of the right hand that a mirror shows.

    Returns:
        Tensors with dtype and device of the rotations if these are a tensor, else arrays.

    Raises:
        ValueError: wrong shapes, or quaternions that are no rotations.

    Warns if most joints of the fingers are turned farther than fingers bend, as quaternions wxyz are, and of a wrist in metres
    or behind the camera.
    """
    require_one_of(SIDES, side=side)
    check_rig(hand)
    given = not isinstance(rotations, Tensor)
    if given:
        rotations = rotations.as_quat() if isinstance(rotations, Rotation) else np.asarray(rotations, float)
    q = torch.as_tensor(rotations, dtype=hand.vertices_mm.dtype, device=hand.vertices_mm.device) if given else rotations
    if q.shape[-2:] != (16, 4) or q.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            "rotations must be quaternions [16, 4] or [B, 16, 4] (xyzw) of float32 or float64, got "
            f"{list(q.shape)} of {q.dtype}"
        )
    wrist = (wrist_mm if isinstance(wrist_mm, Tensor) else torch.as_tensor(wrist_mm, device=q.device)).to(q)
    if wrist.shape[-1:] != (3,) or not _broadcasts(wrist.shape[:-1], q.shape[:-2]):
        raise ValueError(f"wrist_mm must be [3] or [B, 3] beside rotations {list(q.shape)}, got {list(wrist.shape)}")
    _check_numbers(unwrapped(q), unwrapped(wrist))
    if hand.vertices_mm.dtype != q.dtype or hand.vertices_mm.device != q.device:
        hand = hand.to(q.device, q.dtype)
    batch, other = q.shape[:-2], q.new_tensor([-1.0 if side == "left" else 1.0, 1.0, 1.0])
    T = forward_kinematics(hand, q.reshape(-1, 16, 4), (other * wrist).expand(*batch, 3).reshape(-1, 3))
    M = skinning_transforms(hand, T)
    parts = (
        skin(hand.vertices_mm, hand.weights, M),
        skin(hand.cloud_mm, hand.cloud_weights, M),
        joint_positions(hand, T),
    )
    parts = [(other * part).unflatten(0, batch) if batch else (other * part)[0] for part in parts]
    return PosedHand(*(part.detach().numpy() if given else part for part in parts))


def _broadcasts(some: torch.Size, batch: torch.Size) -> bool:
    ends = zip(reversed(some), reversed(batch), strict=False)
    return len(some) <= len(batch) and all(side in (1, whole) for side, whole in ends)


def _check_numbers(q: Tensor, wrist_mm: Tensor) -> None:
    length = q.norm(dim=-1)
    if not ((length - 1).abs() < UNIT).all():  # NaN is not
        raise ValueError(f"rotations must be unit quaternions, got lengths {length.min():g} to {length.max():g}")
    if not wrist_mm.isfinite().all():
        raise ValueError("wrist_mm holds NaN or infinite numbers; has a hand been found?")
    if 0 < (farthest := wrist_mm.abs().amax().item() if wrist_mm.numel() else 0.0) < METRES:
        warnings.warn(
            f"wrist_mm looks like metres: no coordinate is beyond {farthest:.3g}; give wrist_mm * 1000", stacklevel=3
        )
    if wrist_mm.numel() and wrist_mm[..., 2].max() < -METRES:
        warnings.warn(
            "wrist_mm is behind the camera: z points forward here; as in OpenGL? negate y and z", stacklevel=3
        )
    far = 2 * torch.acos(q[..., 1:, 3].abs().clamp(max=1)) > BENT_RAD
    if far.numel() and far.double().mean() > 0.5:
        warnings.warn(
            "rotations turn most finger joints by more than 120 degrees: are they wxyz? xyzw is wanted: q[..., [1, 2, 3, 0]]",
            stacklevel=3,
        )
