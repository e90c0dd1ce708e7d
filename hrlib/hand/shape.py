"""A person's hand in few numbers: its size, the fingers' length and thickness, the wrist's girth. What frames without labels
can tell.

The skeleton's own proportions, not the template's morphs: the simulated users were made with those, and a model that knows
how its test was made proves nothing.
"""

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from .joints import PARENTS, TIP_PARENTS
from .rig import HandRig

# spread of adult hands about their mean, as standard deviations of the logarithms: lengths vary by 5 to 6 % within a sex and
# by 10 % between children, women and men (Greiner 1991, "Hand anthropometry of US Army personnel"); taken generously
SPREAD = {"log_scale": 0.12, "log_length": 0.10, "log_thickness": 0.12, "log_wrist": 0.12}
WRIST_FADES = 3  # a thick wrist does not make broad knuckles; 1 explains the simulated users' frames worse


@dataclass(frozen=True, eq=False)
class HandShape:
    """log_scale []: the whole hand; log_length [5]: each finger along its bones; log_thickness []: the fingers across;
    log_wrist []: the palm across at the wrist, fading to the knuckles, so that a thick wrist is not taken for a large hand.

    Natural logarithms of factors, so that 0 is the template.
    """

    log_scale: Tensor
    log_length: Tensor
    log_thickness: Tensor
    log_wrist: Tensor

    @classmethod
    def template(cls, like: Tensor | None = None) -> "HandShape":
        """like: a tensor of whose device and dtype they are to be, float32 on the CPU without."""
        like = torch.empty(0) if like is None else like
        return cls(like.new_zeros(()), like.new_zeros(5), like.new_zeros(()), like.new_zeros(()))

    def parts(self) -> list[Tensor]:
        return [getattr(self, f.name) for f in fields(self)]

    def detach(self) -> "HandShape":
        return HandShape(*(part.detach().clone() for part in self.parts()))

    def improbability(self) -> Tensor:
        """Half the squared distance from the template, in the `SPREAD` of people; []."""
        return 0.5 * sum(
            (part / SPREAD[f.name]).square().sum() for f, part in zip(fields(self), self.parts(), strict=True)
        )


def shaped(hand: HandRig, shape: HandShape, name: str | None = None) -> HandRig:
    """`hand` with another shape; differentiable in the shape.

    Each bone's part of the skin is stretched along the bone and across it in the bone's own rest frame, blended by the
    skinning weights (as Eq. 2 blends motions); the knuckles stay where they are but for the scale.
    """
    R, along = hand.R_wrist_rest, torch.cat([shape.log_length.new_zeros(1), shape.log_length.repeat_interleave(3)])
    across = torch.cat([shape.log_length.new_zeros(1), shape.log_thickness.expand(15)])
    stretch = torch.stack([across, along, across], -1).exp()  # [16, 3] in the joint's frame: y is along the bone
    joints = [hand.joints_mm[0]]
    for j, parent in enumerate(PARENTS[1:], 1):
        joints.append(joints[parent] + R[parent] @ (stretch[parent] * hand.bones_mm[j]))
    joints, far = torch.stack(joints), list(TIP_PARENTS)

    def moved(points: Tensor, of: Tensor | list[int]) -> Tensor:
        """points [..., j, 3] of the template's rest pose, each as stretched with joint `of[j]`."""
        local = torch.einsum("jrc,...jr->...jc", R[of], points - hand.joints_mm[of])
        return joints[of] + torch.einsum("jrc,...jc->...jr", R[of], stretch[of] * local)

    every = torch.arange(16)
    vertices = (hand.weights[..., None] * moved(hand.vertices_mm[:, None].expand(-1, 16, 3), every)).sum(1)
    vertices = vertices + hand.weights[:, :1] * _from_the_wrist(hand, shape)
    scale, tips = shape.log_scale.exp(), moved(hand.tips_mm, far)
    return replace(
        hand,
        name=name or f"{hand.name}, reshaped",
        vertices_mm=scale * vertices,
        joints_mm=scale * joints,
        tips_mm=scale * tips,
    )


def _from_the_wrist(hand: HandRig, shape: HandShape) -> Tensor:
    """How `log_wrist` moves each vertex of the palm, [V, 3]: all across at the wrist, nothing at the knuckles."""
    R = hand.R_wrist_rest[0]
    local = (hand.vertices_mm - hand.joints_mm[0]) @ R
    to_knuckle = local[:, 1:2] / (hand.joints_mm[7] - hand.joints_mm[0]).norm()
    factor = ((1 - to_knuckle).clamp(0, 1) ** WRIST_FADES * shape.log_wrist).exp()
    return (factor - 1) * local * local.new_tensor([1.0, 0.0, 1.0]) @ R.mT
