"""A network of joint positions, as most published ones are, as a `PoseModel`."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..hand.inverse_kinematics import palm_of, rotations_of_joints
from ..hand.joints import JOINT_NAMES, POINT_NAMES
from ..hand.rig import HandRig
from .model import named
from .posenet import ANCHOR, Prediction


class FromJoints(nn.Module):
    """A network that gives joint positions, which poses `hand` by closed-form inverse kinematics; its weights are refined.

    The palm is laid on the joints (Kabsch), and each bone of a finger points where the joints say, so that gradients pass. The
    hand keeps its own bones: their lengths come from no network. What joints do not tell is fixed: no bone twists about itself,
    and without fingertips the last joint bends two thirds as much as the one before (`rotations_of_joints`).
    Where two joints coincide, they tell no direction, and no gradient passes there.

    Args:
        model: images [B, 120, 120] to joints [B, J, 3] or [B, 3 J], counted from the crop's centre: right, down, away.
        hand: the rig to pose.
        names: of the J joints in the model's order: all of `POINT_NAMES` (21), or of `JOINT_NAMES` (16, without tips).
        unit: one of the model's units in edges of the cube, for all axes or for each: 0.5 where joints run from -1 to 1,
            1 / 250 where they are millimetres, (0.5, 0.5, -0.5) where the third axis points to the camera.

    Raises:
        ValueError: names that are neither set, a unit of no length, no module, or no rig.
    """

    def __init__(
        self,
        model: nn.Module,
        hand: HandRig,
        names: Sequence[str] = POINT_NAMES,
        unit: float | tuple[float, float, float] = 1.0,
    ):
        super().__init__()
        if not isinstance(model, nn.Module) or not isinstance(hand, HandRig):
            raise ValueError(
                f"wanted FromJoints(model, hand), a module and a rig, got {type(model).__name__} and {type(hand).__name__}"
            )
        wanted = POINT_NAMES if len(names) == len(POINT_NAMES) else JOINT_NAMES
        if sorted(names) != sorted(wanted):
            raise ValueError(
                f"names must be the 21 of hrlib.hand.joints.POINT_NAMES or the 16 of JOINT_NAMES in any order, got "
                f"{len(names)}: {', '.join(names)}; joints of other places have to be learnt from these"
            )
        self.model, self.order, self.tips = model, [list(names).index(name) for name in wanted], wanted == POINT_NAMES
        self.anchor = wanted.index(ANCHOR)
        # with the module to another device, but not into its file
        self.register_buffer("palm", palm_of(hand), persistent=False)
        self.register_buffer("unit", _of_axes(unit), persistent=False)

    def forward(self, image: Float[Tensor, "B 120 120"]) -> Prediction:
        """Rotations and offset of the joints that the model sees, and with 21 of them also the joints as `points`.

        Raises ValueError for joints of another number.
        """
        seen, wanted = self.model(image), (len(image), len(self.order), 3)
        if not isinstance(seen, Tensor) or seen.numel() != wanted[0] * wanted[1] * wanted[2]:
            got = list(seen.shape) if isinstance(seen, Tensor) else type(seen).__name__
            raise ValueError(f"{named(self.model)} in FromJoints must give joints {list(wanted)}, got {got}")
        with torch.autocast(image.device.type, enabled=False):  # no matrix is decomposed in bfloat16
            joints = seen.float().reshape(wanted)[:, self.order] * self.unit
            rotations = rotations_of_joints(joints, self.palm)
        return Prediction(rotations, joints[:, self.anchor], joints if self.tips else None)


def _of_axes(unit: float | tuple[float, float, float]) -> Float[Tensor, "3"]:
    try:
        axes = torch.tensor(unit, dtype=torch.float32).expand(3).clone()
    except (TypeError, ValueError, RuntimeError):
        axes = torch.zeros(3)
    if not (axes.isfinite() & (axes != 0)).all():
        raise ValueError(
            f"unit must be a number other than 0, or one for each axis, in edges of the cube, got {unit!r}"
        )
    return axes
