"""Inverse kinematics: poses, bone lengths and the joint map's bias of our hand, from labels of joint positions alone.

A data set's joints do not lie at the rig's: each is a weighted mean of our 21 points (`hrlib.hand.joints.joint_map`) plus a
constant offset in the frame of its bone, the same for all frames and growing with the hand. Poses are free per frame, bone
lengths per subject; limits of the joints, a prior of lengths and offsets, and even movement decide what labels do not.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from .joints import PARENTS, POINT_ORDER, TIP_PARENTS, joint_map
from .kinematics import forward_kinematics, joint_positions
from .rig import HandRig
from .rotations import from_euler

START_FLEXIONS = (0.0, 0.5, 1.1)  # rad, of all finger joints: an open, a relaxed and a closed hand to start from
CARRIERS = tuple((tuple(range(16)) + TIP_PARENTS)[i] for i in POINT_ORDER)  # the joint in whose frame each point rests


@dataclass(frozen=True)
class FitSettings:
    """steps of Adam, its first rate in rad (a hundred times that in mm); what a residual of 1 mm is worth: limit_rad
    beyond a joint's limit, length (a logarithm) from the template's bone, offset_mm, uneven_rad of a second difference."""

    steps: int = 400
    rate: float = 0.05
    limit_rad: float = 0.05
    length: float = 0.1
    offset_mm: float = 6.0
    uneven_rad: float = 0.3


@dataclass(frozen=True, eq=False)
class FittedPoses:
    """rotations [F, 16, 4] xyzw, wrist_mm [F, 3], fitted_mm [F, J, 3] in the data set's joints with the bias, offsets_mm
    [J, 3] in the frames of the joints' bones (of a hand of the template's size), log_length [S, 20] of each subject's
    bones (15 joints, 5 tips) over the template's, subject [F] from 0."""

    rotations: Tensor
    wrist_mm: Tensor
    fitted_mm: Tensor
    offsets_mm: Tensor
    log_length: Tensor
    subject: Tensor

    def size(self) -> Tensor:
        """[S]: each subject's hand over the template's, the geometric mean of its bones."""
        return self.log_length.mean(1).exp()


def with_bones(hand: HandRig, log_length: Tensor) -> HandRig:
    """The skeleton of `hand` with each bone (to 15 joints, then to 5 tips) as many times as long, [20]; the skin stays,
    so this hand is for joints alone. Differentiable in log_length."""
    factor, joints, R = log_length.exp(), [hand.joints_mm[0]], hand.R_wrist_rest
    for j, parent in enumerate(PARENTS[1:], 1):
        joints.append(joints[parent] + R[parent] @ (factor[j - 1] * hand.bones_mm[j]))
    joints, far = torch.stack(joints), list(TIP_PARENTS)
    tips = joints[far] + factor[15:, None] * (hand.tips_mm - hand.joints_mm[far])
    return replace(hand, name=f"{hand.name}, bones fitted", joints_mm=joints, tips_mm=tips)


def dataset_joints(
    hand: HandRig, rotations: Tensor, wrist_mm: Tensor, dataset: str, joints: int, offsets_mm: Tensor | None = None
) -> Tensor:
    """A posed hand's joints as the data set has them, [F, J, 3] mm; offsets_mm [J, 3] or [F, J, 3] in the bones' frames."""
    T = forward_kinematics(hand, rotations, wrist_mm)
    weights = torch.as_tensor(joint_map(dataset, joints)).to(wrist_mm)
    points = torch.einsum("jp,fpc->fjc", weights, joint_positions(hand, T))
    if offsets_mm is None:
        return points
    carrier = [CARRIERS[i] for i in weights.argmax(1).tolist()]
    return points + (T[:, carrier, :3, :3] @ offsets_mm[..., None])[..., 0]


def fit_poses(
    labels_mm, subject, hand: HandRig, dataset: str, settings: FitSettings = FitSettings(), progress: bool = True
) -> FittedPoses:
    """Fit the hand to labels [F, J, 3] mm in the camera frame, frames of each subject in the order of time.

    subject: F ids. Everything is fitted at once by Adam, in the labels' float32. Raises ValueError for shapes that differ
    and labels that are not finite.
    """
    labels = torch.as_tensor(np.asarray(labels_mm), dtype=torch.float32)
    _, subject = np.unique(np.asarray(subject), return_inverse=True)
    if labels.ndim != 3 or labels.shape[2] != 3 or len(labels) != len(subject):
        raise ValueError(f"labels_mm must be [F, J, 3] with F = {len(subject)} subject ids, got {list(labels.shape)}")
    if not labels.isfinite().all():
        raise ValueError("labels_mm holds NaN or infinite numbers: leave those frames out")
    subject, J = torch.as_tensor(subject), labels.shape[1]
    groups = [torch.nonzero(subject == s)[:, 0] for s in range(int(subject.max()) + 1)]
    limits = hand.limits_rad[1:].to(labels)
    view, angles, wrist = _start(labels, hand, dataset)
    offsets, log_length = torch.zeros(J, 3), torch.zeros(len(groups), 20)
    free = [x.requires_grad_() for x in (view, angles, wrist, offsets, log_length)]
    s = settings
    rates = (s.rate, s.rate, 100 * s.rate, 10 * s.rate, 0.2 * s.rate)
    optimiser = torch.optim.Adam([{"params": [x], "lr": r} for x, r in zip(free, rates, strict=True)])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, s.steps, eta_min=0.01 * s.rate)

    def pose(frames):
        turn = torch.nn.functional.normalize(view[frames], dim=-1)
        return torch.cat([turn[:, None], from_euler(angles[frames])], 1)

    def place(number, frames):
        bones = with_bones(hand, log_length[number])
        grown = offsets * log_length[number].mean().exp()
        return dataset_joints(bones, pose(frames), wrist[frames], dataset, J, grown)

    for _ in tqdm(range(s.steps), desc=f"inverse kinematics, {dataset}", disable=not progress):
        # offsets pay in each frame, or many frames push them to where no joint of a hand is
        loss = (log_length / s.length).square().sum() + len(labels) * (offsets / s.offset_mm).square().sum()
        for number, frames in enumerate(groups):
            # a length, not its square, as the residual is counted; rounded off where it has no gradient
            loss = loss + ((place(number, frames) - labels[frames]).square().sum(-1) + 1).sqrt().sum()
            a = angles[frames]
            beyond = (a - limits[..., 1]).clamp_min(0) + (limits[..., 0] - a).clamp_min(0)
            loss = loss + (beyond / s.limit_rad).square().sum()
            loss = loss + ((a[:-2] - 2 * a[1:-1] + a[2:]) / s.uneven_rad).square().sum()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        fitted = torch.empty_like(labels)
        for number, frames in enumerate(groups):
            fitted[frames] = place(number, frames)
        rotations = pose(torch.arange(len(labels)))
    return FittedPoses(rotations, wrist.detach(), fitted, offsets.detach(), log_length.detach(), subject)


def _start(labels: Tensor, hand: HandRig, dataset: str):
    """View [F, 4], angles [F, 15, 3] and wrist [F, 3]: the nearest of the starting hands, laid on the labels rigidly."""
    best = None
    for flexion in START_FLEXIONS:
        angles = torch.zeros(15, 3)
        angles[3:, 0] = flexion
        still = torch.cat([torch.tensor([[0.0, 0.0, 0.0, 1.0]]), from_euler(angles)])[None]
        model = dataset_joints(hand, still, torch.zeros(1, 3), dataset, labels.shape[1])[0]
        R, t, error = laid_on(model, labels)
        if best is None:
            best = [R, t, error, angles.expand(len(labels), 15, 3).clone()]
            continue
        nearer = error < best[2]
        for kept, new in zip(best, (R, t, error, angles.expand(len(labels), 15, 3)), strict=True):
            kept[nearer] = new[nearer]
    import roma

    return roma.rotmat_to_unitquat(best[0]), best[3], best[1]


def laid_on(model: Tensor, labels: Tensor):
    """R [F, 3, 3], t [F, 3], mean distance [F]: the motion that brings model [J, 3] nearest to labels [F, J, 3] (Kabsch)."""
    m, c = model - model.mean(0), labels.mean(1)
    U, _, Vh = torch.linalg.svd(torch.einsum("fjr,jc->frc", labels - c[:, None], m))
    flip = torch.ones(len(labels), 3)
    flip[:, 2] = torch.linalg.det(U @ Vh).sign()
    R = (U * flip[:, None]) @ Vh
    t = c - R @ model.mean(0)
    return R, t, (torch.einsum("frc,jc->fjr", R, model) + t[:, None] - labels).norm(dim=-1).mean(1)
