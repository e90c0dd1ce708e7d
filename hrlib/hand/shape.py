"""A person's hand in few numbers: its size, the fingers' length and thickness, the wrist's girth.

These are what frames without labels can tell. They are the skeleton's own proportions, not the template's morphs: the
simulated users are made with the morphs, and a model that knows how its test was made proves nothing.
"""

from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float
from torch import Tensor

from ..support.autograd import full_precision
from .joints import FINGERS, JOINT_NAMES, PARENTS, TIP_PARENTS
from .rig import HandRig

# Spread of adult hands about their mean, as standard deviations of the logarithms. Lengths vary by 5 to 6 % within a sex
# and by 10 % between children, women and men (Greiner 1991, "Hand anthropometry of US Army personnel"); taken generously.
SPREAD = {"log_scale": 0.12, "log_length": 0.10, "log_thickness": 0.12, "log_wrist": 0.12}
BASES = [1, 4, 7, 10, 13]  # joints at which the fingers begin
KNUCKLES = BASES[1:]  # without the thumb's
FOLLOWED = [j for j in range(1, 16) if j % 3]  # joints with another one at the end of their bone
FOLLOWERS = [j + 1 for j in FOLLOWED]
OWN_SHARE = 0.95  # skin that moves with one joint by more than this shows the girth of that joint's bone
WHOLE = "hand, wrist to middle fingertip"  # a length that anyone can measure
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
        like = torch.empty(0, dtype=torch.float32) if like is None else like
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


@full_precision
def shaped(hand: HandRig, shape: HandShape, name: str | None = None) -> HandRig:
    """`hand` with another shape; differentiable in the shape.

    Each bone's part of the skin is stretched along and across the bone in the bone's own rest frame, and blended by the
    skin weights (as Eq. 2 blends motions). The knuckles move with the scale alone.
    """
    none = shape.log_length.new_zeros(1)
    along = torch.cat([none, shape.log_length.repeat_interleave(3)])
    across = torch.cat([none, shape.log_thickness.expand(15)])
    vertices, joints, tips = stretched(hand, torch.stack([across, along, across], -1).exp())
    vertices = vertices + hand.weights[:, :1] * from_the_wrist(hand, shape.log_wrist)
    scale = shape.log_scale.exp()
    changed = {"vertices_mm": scale * vertices, "joints_mm": scale * joints, "tips_mm": scale * tips}
    return replace(hand, name=name or f"{hand.name}, reshaped", **changed)


@full_precision
def stretched(
    hand: HandRig, stretch: Float[Tensor, "16 3"]
) -> tuple[Float[Tensor, "V 3"], Float[Tensor, "16 3"], Float[Tensor, "5 3"]]:
    """Vertices, joints and tips in mm of the hand whose bones are stretched, each in its own joint's frame at rest.

    stretch: factors along x, y and z of each joint's frame; y is along the bone. The wrist's moves the knuckles too.
    """
    R = hand.R_wrist_rest
    joints = hand.joints_along(stretch[list(PARENTS)] * hand.bones_mm)  # the wrist's bone is zero

    linear = torch.einsum("jrc,jc,jsc->jrs", R, stretch, R)  # of the skin that moves with the joint alone
    offset = joints - torch.einsum("jrs,js->jr", linear, hand.joints_mm)
    far = list(TIP_PARENTS)
    tips = torch.einsum("frs,fs->fr", linear[far], hand.tips_mm) + offset[far]
    blended = (hand.weights @ torch.cat([linear, offset[..., None]], -1).flatten(1)).reshape(-1, 3, 4)
    vertices = torch.einsum("vrs,vs->vr", blended[..., :3], hand.vertices_mm) + blended[..., 3]
    return vertices, joints, tips


@full_precision
def from_the_wrist(hand: HandRig, log_wrist: Float[Tensor, ""]) -> Float[Tensor, "V 3"]:
    """How `log_wrist` moves each vertex of the palm in mm: fully across at the wrist, not at all at the knuckles."""
    local = (hand.vertices_mm - hand.joints_mm[0]) @ hand.R_wrist_rest[0]
    factor = (_near_wrist(hand, local) * log_wrist).exp()
    return (factor - 1) * local * local.new_tensor([1.0, 0.0, 1.0]) @ hand.R_wrist_rest[0].mT


def _near_wrist(hand: HandRig, local: Tensor) -> Tensor:
    """1 at the wrist, fading to 0 at the knuckles: [V, 1] of points [V, 3] in the wrist's frame."""
    palm_mm = (hand.joints_mm[JOINT_NAMES.index("middle_base")] - hand.joints_mm[0]).norm()
    return (1 - local[:, 1:2] / palm_mm).clamp(0, 1) ** WRIST_FADES


@full_precision
def nearest_shape(template: HandRig, hand: HandRig) -> HandShape:
    """The shape that makes the template most like `hand`, which has its faces, weights and axes.

    Each number is a least-squares fit of what it alone moves: the knuckles, a finger's bones, the skin across the fingers'
    bones, the skin across the wrist.
    """
    scale = (hand.joints_mm[BASES] * template.joints_mm[BASES]).sum() / template.joints_mm[BASES].square().sum()
    lengths = [torch.cat([h.bones_mm[FOLLOWERS], h.tip_bones_mm]).norm(dim=1) for h in (hand, template)]
    ratios = [length[:10].reshape(5, 2).sum(1) + length[10:] for length in lengths]
    own = template.weights > OWN_SHARE
    vertex, carrier = own.nonzero().T
    across, across_0 = (_across_bones(h, vertex, carrier) for h in (hand, template))
    finger, palm = carrier > 0, carrier == 0
    thickness = (across * across_0)[finger].sum() / across_0[finger].square().sum()
    r_0 = across_0[palm].square().sum(1)
    wider = ((across * across_0)[palm].sum(1) / (r_0 * scale)).clamp(min=1e-3).log()
    skin = template.vertices_mm[vertex[palm]] - template.joints_mm[0]
    near = _near_wrist(template, skin @ template.R_wrist_rest[0])[:, 0]
    wrist = (r_0 * near * wider).sum() / (r_0 * near.square()).sum()
    return HandShape(scale.log(), (ratios[0] / ratios[1] / scale).log(), (thickness / scale).log(), wrist)


def _across_bones(hand: HandRig, vertex: Tensor, carrier: Tensor) -> Tensor:
    """Where vertices are across the bones of their joints, from the bone's line: [V, 2] mm along x and z of its frame."""
    ends = hand.joints_mm.clone()  # of the wrist's bone: straight ahead
    ends[0] = hand.joints_mm[0] + hand.R_wrist_rest[0, :, 1]
    ends[FOLLOWED], ends[list(TIP_PARENTS)] = hand.joints_mm[FOLLOWERS], hand.tips_mm
    from_joint = hand.vertices_mm[vertex] - hand.joints_mm[carrier]
    local = torch.einsum("vrc,vr->vc", hand.R_wrist_rest[carrier], from_joint)
    bone = torch.einsum("jrc,jr->jc", hand.R_wrist_rest, ends - hand.joints_mm)
    slope = bone / bone[:, 1:2]
    return (local - local[:, 1:2] * slope[carrier])[:, [0, 2]]


def lengths_mm(hand: HandRig) -> dict[str, float]:
    """What a ruler would measure on a straight hand: wrist to middle fingertip, knuckle width, each finger from its base."""
    joints, fingers = hand.joints_mm, {}
    for i, finger in enumerate(FINGERS):
        chain = torch.cat([joints[1 + 3 * i : 4 + 3 * i], hand.tips_mm[i : i + 1]])
        fingers[finger] = chain.diff(dim=0).norm(dim=1).sum().item()
    wrist, index, middle, pinky = joints[[0, 4, 7, 13]]
    whole = (middle - wrist).norm().item() + fingers["middle"]
    width = (index - pinky).norm().item()
    return {WHOLE: whole, "index to little knuckle": width} | fingers
