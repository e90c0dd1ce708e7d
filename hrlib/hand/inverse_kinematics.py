"""Inverse kinematics: poses, bone lengths and the joint map's bias of our hand, from labels of joint positions alone.

`fit_to_joints` descends, over frames of a data set. `rotations_of_joints` is closed, frame by frame, and differentiable.

A data set's joints do not lie at the rig's. Each is a weighted mean of our 21 points (`hrlib.hand.joints.joint_map`) plus a
constant offset in the frame of its bone, the same for all frames and growing with the hand. Poses are free per frame, bone
lengths per subject. Joint limits, a prior of lengths and offsets, and even movement decide what labels do not.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize, pad

from ..support.autograd import full_precision
from ..support.progress import tqdm
from ..support.roma_alone import roma
from .joints import FINGERS, JOINT_NAMES, POINT_ORDER, TIP_PARENTS, joint_map
from .kinematics import forward_kinematics, joint_positions
from .rig import HandRig, neutral_rotations
from .rotations import NEAREST_SINE, from_euler, rotation_matrix, safe_atan2

START_FLEXIONS = (0.0, 0.5, 1.1)  # rad, of all finger joints: an open, a relaxed and a closed hand to start from
PALM = tuple(
    JOINT_NAMES.index(name) for name in ("wrist", *(f"{finger}_base" for finger in FINGERS))
)  # one rigid piece
# the far joint's flexion over the middle joint's, where no tip tells: 2/3 in fingers (Lin, Wu, Huang 2000); the thumb's is free
FAR_FLEXION = (0.0, 2 / 3, 2 / 3, 2 / 3, 2 / 3)
CARRIERS = tuple((tuple(range(16)) + TIP_PARENTS)[i] for i in POINT_ORDER)  # the joint in whose frame each point rests


@dataclass(frozen=True)
class JointFitSettings:
    """Adam's descent, and the deviations from a prior that cost as much as a residual of 1 mm."""

    steps: int = 400
    rate: float = 0.05  # at first: rad a step for angles, 100 times that in mm for the wrist
    limit_rad: float = 0.05  # beyond a joint's limit
    length: float = 0.1  # of the logarithm of a bone's length over the template's
    offset_mm: float = 6.0  # of a joint from its place in the joint map
    uneven_rad: float = 0.3  # second difference of an angle from frame to frame


@dataclass(frozen=True, eq=False)
class FittedPoses:
    """A hand fitted to F frames of S subjects with J labelled joints. `==` compares objects, as for `HandRig`."""

    rotations: Float[Tensor, "F 16 4"]  # unit quaternions xyzw
    wrist_mm: Float[Tensor, "F 3"]  # camera frame
    fitted_mm: Float[Tensor, "F J 3"]  # the data set's joints, bias included, camera frame
    offsets_mm: Float[Tensor, "J 3"]  # in the frames of the joints' bones, of a hand of the template's size
    log_length: Float[Tensor, "S 20"]  # of each bone over the template's: to 15 joints, then to 5 tips
    subject: Int[Tensor, " F"]  # counted from 0

    def size(self) -> Float[Tensor, " S"]:
        """Each subject's hand over the template's: the geometric mean of its bones."""
        return self.log_length.mean(1).exp()


def with_bones(hand: HandRig, log_length: Float[Tensor, "20"]) -> HandRig:
    """`hand` with other bone lengths (as `FittedPoses.log_length`), differentiable. The skin stays: it is for joints alone."""
    factor, far = log_length.exp(), list(TIP_PARENTS)
    joints = hand.joints_along(pad(factor[:15], (1, 0))[:, None] * hand.bones_mm)
    tips = joints[far] + factor[15:, None] * (hand.tips_mm - hand.joints_mm[far])
    return replace(hand, name=f"{hand.name}, bones fitted", joints_mm=joints, tips_mm=tips)


@full_precision
def dataset_joints(
    hand: HandRig,
    rotations: Float[Tensor, "F 16 4"],
    wrist_mm: Float[Tensor, "F 3"],
    dataset: str,
    joints: int,
    offsets_mm: Float[Tensor, "*frames J 3"] | None = None,
) -> Float[Tensor, "F J 3"]:
    """A posed hand's joints as the data set has them (`joint_map`), mm in the camera frame.

    offsets_mm: bias of the joints, in the frames of their bones.
    """
    T = forward_kinematics(hand, rotations, wrist_mm)
    weights = torch.as_tensor(joint_map(dataset, joints)).to(wrist_mm)
    points = torch.einsum("jp,fpc->fjc", weights, joint_positions(hand, T))
    if offsets_mm is None:
        return points
    carrier = [CARRIERS[i] for i in weights.argmax(1).tolist()]
    return points + (T[:, carrier, :3, :3] @ offsets_mm[..., None])[..., 0]


def fit_to_joints(
    labels_mm: Float[np.ndarray | Tensor, "F J 3"],
    subject: np.ndarray | list | tuple,
    hand: HandRig,
    dataset: str,
    settings: JointFitSettings = JointFitSettings(),
    progress: bool = True,
) -> FittedPoses:
    """Fit the hand to labelled joints, all frames at once, by Adam in float32.

    Args:
        labels_mm: the data set's joints in the camera frame; the frames of each subject in the order of time.
        subject: an id of each frame.

    Raises:
        ValueError: shapes that differ, or labels that are not finite.
    """
    labels = torch.as_tensor(np.asarray(labels_mm), dtype=torch.float32)
    number = torch.as_tensor(np.unique(np.asarray(subject), return_inverse=True)[1])
    if labels.ndim != 3 or labels.shape[2] != 3 or len(labels) != len(number):
        raise ValueError(f"labels_mm must be [F, J, 3] with F = {len(number)} subject ids, got {list(labels.shape)}")
    if not labels.isfinite().all():
        raise ValueError("labels_mm holds NaN or infinite numbers: leave those frames out")
    fit = _Fit(labels, number, hand, dataset)
    rates = {"view": 1, "angles": 1, "wrist": 100, "offsets": 10, "log_length": 0.2}
    free = [{"params": [getattr(fit, name).requires_grad_()], "lr": r * settings.rate} for name, r in rates.items()]
    optimiser = torch.optim.Adam(free)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.steps, eta_min=0.01 * settings.rate)
    for _ in tqdm(range(settings.steps), desc=f"inverse kinematics, {dataset}", disable=not progress):
        optimiser.zero_grad(set_to_none=True)
        fit.loss(settings).backward()
        optimiser.step()
        schedule.step()
    return fit.result()


class _Fit:
    """The free variables of a fit: view [F, 4], angles [F, 15, 3], wrist [F, 3], offsets [J, 3], log_length [S, 20]."""

    def __init__(self, labels: Tensor, subject: Tensor, hand: HandRig, dataset: str):
        self.labels, self.subject, self.hand, self.dataset = labels, subject, hand, dataset
        self.limits = hand.limits_rad[1:].to(labels)
        self.frames_of = [torch.nonzero(subject == s)[:, 0] for s in range(int(subject.max()) + 1)]
        self.view, self.angles, self.wrist = _start(labels, hand, dataset)
        self.offsets, self.log_length = torch.zeros(labels.shape[1], 3), torch.zeros(len(self.frames_of), 20)

    def rotations(self, frames: Tensor) -> Tensor:
        return torch.cat([normalize(self.view[frames], dim=-1)[:, None], from_euler(self.angles[frames])], 1)

    def joints(self, subject: int) -> Tensor:
        """The subject's joints in all of its frames, [F, J, 3]."""
        frames, log_length = self.frames_of[subject], self.log_length[subject]
        bones, grown = with_bones(self.hand, log_length), self.offsets * log_length.mean().exp()
        rotations, count = self.rotations(frames), self.labels.shape[1]
        return dataset_joints(bones, rotations, self.wrist[frames], self.dataset, count, grown)

    def loss(self, s: JointFitSettings) -> Tensor:
        # offsets pay in each frame, or many frames push them to where no joint of a hand is
        offsets = len(self.labels) * (self.offsets / s.offset_mm).square().sum()
        loss = (self.log_length / s.length).square().sum() + offsets
        for subject, frames in enumerate(self.frames_of):
            # a length, not its square, as the residual is counted; rounded off where it has no gradient
            loss = loss + ((self.joints(subject) - self.labels[frames]).square().sum(-1) + 1).sqrt().sum()
            a = self.angles[frames]
            beyond = (a - self.limits[..., 1]).clamp_min(0) + (self.limits[..., 0] - a).clamp_min(0)
            loss = loss + (beyond / s.limit_rad).square().sum()
            loss = loss + ((a[:-2] - 2 * a[1:-1] + a[2:]) / s.uneven_rad).square().sum()
        return loss

    @torch.no_grad()
    def result(self) -> FittedPoses:
        fitted = torch.empty_like(self.labels)
        for subject, frames in enumerate(self.frames_of):
            fitted[frames] = self.joints(subject)
        wrist, offsets, log_length = (x.detach() for x in (self.wrist, self.offsets, self.log_length))
        return FittedPoses(self.rotations(slice(None)), wrist, fitted, offsets, log_length, self.subject)


def _start(labels: Tensor, hand: HandRig, dataset: str) -> tuple[Tensor, Tensor, Tensor]:
    """View [F, 4], angles [F, 15, 3] and wrist [F, 3]: the nearest of the starting hands, laid on the labels rigidly."""
    angles = torch.zeros(len(START_FLEXIONS), 15, 3)
    angles[:, 3:, 0] = torch.tensor(START_FLEXIONS)[:, None]  # the thumb stays relaxed
    rotations = torch.cat([roma.identity_quat(len(angles))[:, None], from_euler(angles)], 1)
    models = dataset_joints(hand, rotations, torch.zeros(len(angles), 3), dataset, labels.shape[1])
    R, t, error = (torch.stack(parts) for parts in zip(*(laid_on(model, labels) for model in models), strict=True))
    nearest, frame = error.argmin(0), torch.arange(len(labels))
    return roma.rotmat_to_unitquat(R[nearest, frame]), angles[nearest], t[nearest, frame]


@full_precision
def laid_on(
    model: Float[Tensor, "J 3"], labels: Float[Tensor, "F J 3"]
) -> tuple[Float[Tensor, "F 3 3"], Float[Tensor, "F 3"], Float[Tensor, " F"]]:
    """R, t in mm and mean distance in mm of the rigid motion that brings the model nearest to the labels (Kabsch)."""
    R, t = roma.rigid_points_registration(model.expand_as(labels), labels)
    return R, t, (model @ R.mT + t[:, None] - labels).norm(dim=-1).mean(1)


# -- one frame at a time, in closed form ------------------------------------------------------------------------------------


def palm_of(hand: HandRig) -> Float[Tensor, "6 3"]:
    """The wrist and the five bases at rest, in the wrist's frame: the palm that `rotations_of_joints` lays on joints."""
    return hand.joints_mm[list(PALM)]


def rotations_of_joints(points: Float[Tensor, "B J 3"], palm: Float[Tensor, "6 3"]) -> Float[Tensor, "B 16 4"]:
    """The pose whose bones have the directions of the joints: unit quaternions xyzw.

    The wrist's rotation brings the palm nearest to the joints (Kabsch; lengths do not count), each finger joint's points its
    bone along R_x(flexion) R_z(deviation), without twist. A hand of the same bones is met exactly. The gradient is finite
    everywhere, and zero where coinciding joints tell no direction.

    Args:
        points: 21 (`joints.POINT_NAMES`) or 16 (`joints.JOINT_NAMES`), of any origin and unit, in the camera's axes.
        palm: `palm_of` the hand that is to be posed.

    Raises:
        ValueError: joints of another number.
    """
    count = points.shape[1]
    if count not in (21, 16):
        raise ValueError(f"points must be [B, 21, 3] or [B, 16, 3], got {list(points.shape)}")
    fingers = points[:, 1:].unflatten(1, (5, -1))  # [B, 5, base, middle, far and, of 21, tip, 3]
    seen, rest = torch.cat([points[:, :1], fingers[:, :, 0]], 1), palm - palm.mean(0)
    products = torch.einsum("bpr,pc->brc", seen - seen.mean(1, keepdim=True), rest)
    # of about length one, for `special_procrustes` damps its gradient where singular values are small against that
    R = roma.special_procrustes(products / (products.flatten(1).norm(dim=1) + 1e-6)[:, None, None])
    parent = R[:, None] @ neutral_rotations().to(R)[list(PALM[1:])]
    found = []
    for along in fingers.diff(dim=2).unbind(2):
        found.append(_pointing(torch.einsum("bfrc,bfr->bfc", parent, along)))
        parent = parent @ rotation_matrix(from_euler(found[-1]))
    if count == 16:
        flexion = found[-1][..., 0] * points.new_tensor(FAR_FLEXION)
        found.append(torch.stack([flexion, torch.zeros_like(flexion), torch.zeros_like(flexion)], -1))
    joints = from_euler(torch.stack(found, 2).flatten(1, 2))  # [B, 15, 4]
    return torch.cat([roma.rotmat_to_unitquat(R)[:, None], joints], 1)


def _pointing(along: Tensor) -> Tensor:
    """Angles (flexion, deviation, 0) of R_x R_z that turn the y axis along directions of any length, [..., 3]."""
    x, y, z = (along / (along.square().sum(-1, keepdim=True) + 1e-12).sqrt()).unbind(-1)
    deviation = torch.asin((-x).clamp(-1 + NEAREST_SINE, 1 - NEAREST_SINE))
    return torch.stack([safe_atan2(z, y), deviation, torch.zeros_like(x)], -1)
