"""A person's hand in few numbers: its size, the fingers' length and thickness, the wrist's girth.

These are what frames without labels can tell. They are the skeleton's own proportions, not the template's morphs: the
simulated users are made with the morphs, and a model that knows how its test was made proves nothing.
"""

from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float
from torch import Tensor

from .joints import JOINT_NAMES, PARENTS, TIP_PARENTS
from .rig import HandRig

# Spread of adult hands about their mean, as standard deviations of the logarithms. Lengths vary by 5 to 6 % within a sex
# and by 10 % between children, women and men (Greiner 1991, "Hand anthropometry of US Army personnel"); taken generously.
SPREAD = {"log_scale": 0.12, "log_length": 0.10, "log_thickness": 0.12, "log_wrist": 0.12}
WRIST_FADES = 3  # power: a thick wrist does not make broad knuckles; 1 explains the simulated users' frames worse


@dataclass(frozen=True, eq=False)
class HandShape:
    """Natural logarithms of factors; 0 is the template. `==` compares objects, as for `HandRig`."""

    log_scale: Float[Tensor, ""]  # of the whole hand
    log_length: Float[Tensor, "5"]  # of each finger along its bones
    log_thickness: Float[Tensor, ""]  # of the fingers across
    # of the palm across at the wrist, fading to the knuckles, so that a thick wrist is not taken for a large hand
    log_wrist: Float[Tensor, ""]

    @classmethod
    def template(cls, like: Tensor | None = None) -> "HandShape":
        """The template, with device and dtype of `like`; without it float32 on the CPU."""
        like = torch.empty(0) if like is None else like
        return cls(like.new_zeros(()), like.new_zeros(5), like.new_zeros(()), like.new_zeros(()))

    def parts(self) -> list[Tensor]:
        """The four tensors, in the order of the fields."""
        return [getattr(self, f.name) for f in fields(self)]

    def numbers(self) -> Float[Tensor, "8"]:
        """The eight numbers, in the order of the fields; what a network is told."""
        return torch.cat([part.reshape(-1) for part in self.parts()])

    @classmethod
    def of_numbers(cls, numbers: Float[Tensor, "8"]) -> "HandShape":
        """The shape with these eight numbers."""
        return cls(numbers[0], numbers[1:6], numbers[6], numbers[7])

    def detach(self) -> "HandShape":
        """A copy without history."""
        return HandShape(*(part.detach().clone() for part in self.parts()))

    def improbability(self) -> Float[Tensor, ""]:
        """Half the squared distance from the template, in the `SPREAD` of people."""
        spreads = (SPREAD[f.name] for f in fields(self))
        return 0.5 * sum((part / spread).square().sum() for part, spread in zip(self.parts(), spreads, strict=True))


def shaped(hand: HandRig, shape: HandShape, name: str | None = None) -> HandRig:
    """`hand` with another shape; differentiable in the shape.

    Each bone's part of the skin is stretched along and across the bone in the bone's own rest frame, and blended by the
    skin weights (as Eq. 2 blends motions). The knuckles move with the scale alone.
    """
    R, none = hand.R_wrist_rest, shape.log_length.new_zeros(1)
    along = torch.cat([none, shape.log_length.repeat_interleave(3)])
    across = torch.cat([none, shape.log_thickness.expand(15)])
    stretch = torch.stack([across, along, across], -1).exp()  # [16, 3] in the joint's frame: y is along the bone
    joints = hand.joints_along(stretch[list(PARENTS)] * hand.bones_mm)  # the wrist's bone is zero

    def stretched(points: Tensor, carriers: list[int]) -> Tensor:
        """Points [..., j, 3] of the template's rest pose, each with its carrying joint."""
        local = torch.einsum("jrc,...jr->...jc", R[carriers], points - hand.joints_mm[carriers])
        return joints[carriers] + torch.einsum("jrc,...jc->...jr", R[carriers], stretch[carriers] * local)

    with_each_joint = stretched(hand.vertices_mm[:, None].expand(-1, 16, 3), list(range(16)))
    vertices = (hand.weights[..., None] * with_each_joint).sum(1) + hand.weights[:, :1] * _from_the_wrist(hand, shape)
    scale, tips = shape.log_scale.exp(), stretched(hand.tips_mm, list(TIP_PARENTS))
    changed = {"vertices_mm": scale * vertices, "joints_mm": scale * joints, "tips_mm": scale * tips}
    return replace(hand, name=name or f"{hand.name}, reshaped", **changed)


def _from_the_wrist(hand: HandRig, shape: HandShape) -> Tensor:
    """How `log_wrist` moves each vertex of the palm, [V, 3] mm: fully across at the wrist, not at all at the knuckles."""
    R = hand.R_wrist_rest[0]
    local = (hand.vertices_mm - hand.joints_mm[0]) @ R
    palm_mm = (hand.joints_mm[JOINT_NAMES.index("middle_base")] - hand.joints_mm[0]).norm()
    factor = ((1 - local[:, 1:2] / palm_mm).clamp(0, 1) ** WRIST_FADES * shape.log_wrist).exp()
    return (factor - 1) * local * local.new_tensor([1.0, 0.0, 1.0]) @ R.mT
