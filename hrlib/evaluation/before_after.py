"""Before and after: what a model makes of a user's test frames, in the measures of Fig. 5, 6 and 7.

A model is a network with the hand that it is posed with and its cloud P. What changes when a user's frames refine it may be
the pose or only P; `apart` tells the two apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..frames.crops import Crops
from ..hand.joints import JOINT_POINTS
from ..hand.kinematics import forward_kinematics, joint_positions
from ..hand.rig import HandRig
from ..losses import image_mse
from ..method import PipelineSettings, Step, evaluate_step
from ..network.posenet import PoseNet, Prediction
from ..network.predict import predict
from ..refine.single_frame import Fit
from .joint_errors import joint_error_mm

WORSE_MM = 3.0  # a hand whose joints got worse by this much, while its image got better, has been led astray


@dataclass(frozen=True)
class Judged:
    """B frames as one model explains them. mse [B]: of the synthesized images, rendered with cloud_mm [N, 3];
    joints_mm [B, 21, 3] in the camera frame; collision_mm, physical_rad [B]: Eq. 7 and 8."""

    prediction: Prediction
    hand: HandRig
    cloud_mm: Tensor
    crops: Crops
    joints_mm: Tensor
    mse: Tensor
    collision_mm: Tensor
    physical_rad: Tensor

    def step(self, index: Sequence[int]) -> Step:
        """All intermediates of some of the frames, to look at."""
        index = list(index)
        with torch.no_grad():
            return evaluate_step(self.prediction[index], self.hand, self.crops[index], cloud_mm=self.cloud_mm)


@torch.no_grad()
def judge(
    net: PoseNet,
    hand: HandRig,
    crops: Crops,
    cloud_mm: Tensor | None = None,
    settings: PipelineSettings = PipelineSettings(),
    batch: int = 100,
) -> Judged:
    """Run `net` on frames, pose `hand` and render its cloud (its own, unless cloud_mm [N, 3] is given).

    Raises ValueError for no frames.
    """
    if not len(crops):
        raise ValueError("crops must hold at least one frame, got none")
    return judge_poses(predict(net, crops), hand, crops, cloud_mm, settings, batch)


@torch.no_grad()
def judge_poses(
    prediction: Prediction,
    hand: HandRig,
    crops: Crops,
    cloud_mm: Tensor | None = None,
    settings: PipelineSettings = PipelineSettings(),
    batch: int = 100,
) -> Judged:
    """`judge` for poses that are there already, wherever they come from."""
    cloud_mm, parts = hand.cloud_mm if cloud_mm is None else cloud_mm, []
    for i in range(0, len(crops), batch):
        piece = slice(i, i + batch)
        step = evaluate_step(prediction[piece], hand, crops[piece], settings, cloud_mm)
        mse = image_mse(step.rendered, step.target)
        parts.append((step.joints_mm, mse, step.terms["collision"], step.terms["physical"]))
    return Judged(prediction, hand, cloud_mm, crops, *(torch.cat(values) for values in zip(*parts, strict=True)))


def errors_mm(joints_mm: Tensor, true_mm: Tensor) -> Tensor:
    """Error of each of the 16 joints, of [B, 21, 3] x 2 -> [B, 16] mm."""
    if joints_mm.shape != true_mm.shape or joints_mm.shape[1:] != (21, 3):
        raise ValueError(f"joints must be two times [B, 21, 3], got {list(joints_mm.shape)} and {list(true_mm.shape)}")
    return (joints_mm - true_mm)[:, list(JOINT_POINTS)].norm(dim=-1)


def success(errors: Tensor, distances_mm: Sequence[float]) -> list[float]:
    """Fraction of frames whose largest joint error is below each distance (Fig. 5, 8); errors [B, J] mm."""
    worst = errors.max(1).values
    return [(worst < d).float().mean().item() for d in distances_mm]


def spread_mm(rotations: Tensor, hand: HandRig) -> float:
    """How much the fingers differ from frame to frame: standard deviation of the joints' places seen from the wrist, mm.

    rotations [B, 16, 4]. Where it falls while the image error falls, hands collapse towards one that fits every frame.
    Raises ValueError for fewer than two frames.
    """
    if len(rotations) < 2:
        raise ValueError(f"a spread needs at least two frames, got {len(rotations)}")
    still = rotations.clone()
    still[:, 0] = rotations.new_tensor([0.0, 0.0, 0.0, 1.0])
    joints = joint_positions(hand, forward_kinematics(hand, still, rotations.new_zeros(len(rotations), 3)))
    return joints.var(0).sum(-1).mean().sqrt().item()


def moved_mm(cloud_mm: Tensor, start_mm: Tensor) -> dict[str, float]:
    """How far the points of P [N, 3] are from where they began: mean and maximum, mm."""
    distance = (cloud_mm - start_mm).norm(dim=-1)
    return {"mean": distance.mean().item(), "max": distance.max().item()}


def summary(judged: Judged, true_mm: Tensor | None = None, distances_mm: Sequence[float] = ()) -> dict:
    """The numbers of one model on one user's frames; those of the joints where the truth [B, 21, 3] is known."""
    numbers = {
        "image_mse_mean": judged.mse.mean().item(),
        "image_mse_variance": judged.mse.var().item(),
        "collision_mm": judged.collision_mm.mean().item(),
        "physical_rad": judged.physical_rad.mean().item(),
        "finger_spread_mm": spread_mm(judged.prediction.rotations, judged.hand),
    }
    if true_mm is not None:
        errors = errors_mm(judged.joints_mm, true_mm)
        numbers |= {
            "joint_error_mm": errors.mean().item(),
            "worst_joint_mm": errors.max(1).values.mean().item(),
            "success": success(errors, distances_mm),
        }
    return numbers


def apart(before: Judged, after: Judged, net_before: PoseNet, net_after: PoseNet) -> dict[str, float]:
    """Which part of the fall in image MSE is P's and which the network's: each of them changed alone.

    A share of 1 for "P_alone" says that no joint had to move for it. The two need not add up to 1.
    """
    fall = (before.mse.mean() - after.mse.mean()).item()
    cloud = judge(net_before, before.hand, before.crops, after.cloud_mm).mse.mean()
    pose = judge(net_after, after.hand, before.crops, before.cloud_mm).mse.mean()
    start = before.mse.mean()
    if abs(fall) < 1e-12:
        return {"P_alone": 0.0, "pose_alone": 0.0}
    return {"P_alone": (start - cloud).item() / fall, "pose_alone": (start - pose).item() / fall}


def led_astray(before: Judged, after: Judged, true_mm: Tensor, worse_mm: float = WORSE_MM) -> Tensor:
    """[B]: frames whose image error fell while their joints got worse by more than `worse_mm` in the mean."""
    start, end = (errors_mm(j.joints_mm, true_mm).mean(1) for j in (before, after))
    return (after.mse < before.mse) & (end > start + worse_mm)


def changes(
    before: Judged,
    after: Judged,
    net_before: PoseNet,
    net_after: PoseNet,
    true_mm: Tensor | None = None,
    worse_mm: float = WORSE_MM,
) -> dict:
    """What refinement did, beyond the two summaries: where P went, whose work the fall in image MSE is, who is led astray."""
    numbers = {
        "P_moved_mm": moved_mm(after.cloud_mm, before.cloud_mm),
        "share_of_mse_drop": apart(before, after, net_before, net_after),
    }
    if true_mm is not None:
        numbers["led_astray"] = led_astray(before, after, true_mm, worse_mm).float().mean().item()
    return numbers


def telling_frames(before: Judged, after: Judged, true_mm: Tensor) -> list[int]:
    """Two frames to look at: the one whose joints improve most, and, of the frames whose image error falls, the one whose
    joints get worse by most."""
    gain = (errors_mm(before.joints_mm, true_mm) - errors_mm(after.joints_mm, true_mm)).mean(1)
    better = int(gain.argmax())
    astray = torch.where(after.mse < before.mse, gain, gain.max() + 1)
    astray[better] = gain.max() + 2
    return [better, int(astray.argmin())]


def why_worse(fit: Fit, at_truth: Step, true_joints_mm: Tensor) -> list[str]:
    """For each frame of a pose fit: "" where the joints improved, else why they did not (simulated frames only).

    "stuck": the loss is lower at the true pose (posed with the same hand, `at_truth`) than where the descent ended: it
    started too far off, in another valley. "ambiguous": the loss is no lower at the truth: the image does not tell the
    true pose from this one (hidden fingers, another person's shape).
    """
    before, after = (joint_error_mm(fit.joints_mm[k], true_joints_mm) for k in (0, -1))
    stuck = fit.loss[-1] > at_truth.loss
    return [
        "" if better else "stuck" if lost else "ambiguous" for better, lost in zip(after < before, stuck, strict=True)
    ]
