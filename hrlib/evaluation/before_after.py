"""Before and after refinement: how models explain a user's test frames, in the measures of Fig. 5, 6 and 7.

A model is a network, the hand that it poses, and the hand's cloud P. Refinement may change the pose or only P; `apart`
separates the two.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..frames.crops import Crops
from ..hand.joints import JOINT_POINTS
from ..hand.kinematics import forward_kinematics, joint_positions
from ..hand.rig import HandRig
from ..losses import image_mse
from ..method import Step, evaluate_step
from ..network.model import PoseModel
from ..network.posenet import Prediction
from ..network.predict import predict
from ..refine.single_frame import Fit
from .joint_errors import errors_mm, joint_error_mm, success_curve

Cloud = Float[Tensor, "N 3"]
Joints = Float[Tensor, "B 21 3"]
PerFrame = Float[Tensor, " B"]
WORSE_MM = 3.0  # refinement led a frame astray if its joints got worse by this much while its image got better


@dataclass(frozen=True)
class Judged:
    """B frames as one model explains them."""

    prediction: Prediction
    hand: HandRig
    cloud_mm: Cloud  # P
    crops: Crops
    joints_mm: Joints  # camera frame
    mse: PerFrame  # of the synthesized images
    collision_mm: PerFrame  # Eq. 7
    physical_rad: PerFrame  # Eq. 8

    @torch.no_grad()
    def step(self, index: Sequence[int]) -> Step:
        """All intermediates of some of the frames."""
        index = list(index)
        return evaluate_step(self.prediction[index], self.hand, self.crops[index], cloud_mm=self.cloud_mm)


def judge(net: PoseModel, hand: HandRig, crops: Crops, cloud_mm: Cloud | None = None, batch: int = 100) -> Judged:
    """Predict the poses of frames and `judge_poses` them. Raises ValueError for no frames."""
    if not len(crops):
        raise ValueError("crops must hold at least one frame, got none")
    return judge_poses(predict(net, crops), hand, crops, cloud_mm, batch)


@torch.no_grad()
def judge_poses(
    prediction: Prediction, hand: HandRig, crops: Crops, cloud_mm: Cloud | None = None, batch: int = 100
) -> Judged:
    """Pose the hand in each frame and render its cloud (None: its own), `batch` frames at a time."""
    cloud_mm, parts = hand.cloud_mm if cloud_mm is None else cloud_mm, []
    for i in range(0, len(crops), batch):
        step = evaluate_step(prediction[i : i + batch], hand, crops[i : i + batch], cloud_mm=cloud_mm)
        mse = image_mse(step.rendered, step.target)
        parts.append((step.joints_mm, mse, step.terms["collision"], step.terms["physical"]))
    return Judged(prediction, hand, cloud_mm, crops, *(torch.cat(values) for values in zip(*parts, strict=True)))


def spread_mm(rotations: Float[Tensor, "B 16 4"], hand: HandRig) -> float:
    """Standard deviation over the frames of the joints' places seen from the wrist, mm.

    If it falls together with the image error, hands collapse towards one that fits every frame. Raises ValueError for fewer
    than two frames.
    """
    if len(rotations) < 2:
        raise ValueError(f"a spread needs at least two frames, got {len(rotations)}")
    still = rotations.clone()
    still[:, 0] = rotations.new_tensor([0.0, 0.0, 0.0, 1.0])
    joints = joint_positions(hand, forward_kinematics(hand, still, rotations.new_zeros(len(rotations), 3)))
    return joints.var(0).sum(-1).mean().sqrt().item()


def moved_mm(cloud_mm: Cloud, start_mm: Cloud) -> dict[str, float]:
    """Distance of the points of P from their start, mm: {"mean", "max"}."""
    distance = (cloud_mm - start_mm).norm(dim=-1)
    return {"mean": distance.mean().item(), "max": distance.max().item()}


def summary(judged: Judged, true_mm: Joints | None = None, distances_mm: Sequence[float] = ()) -> dict:
    """The numbers of one model on one user's frames; those of 16 joints, and success at distances, where truth is known."""
    numbers = {
        "image_mse_mean": judged.mse.mean().item(),
        "image_mse_variance": judged.mse.var().item(),
        "collision_mm": judged.collision_mm.mean().item(),
        "physical_rad": judged.physical_rad.mean().item(),
        "finger_spread_mm": spread_mm(judged.prediction.rotations, judged.hand),
    }
    if true_mm is not None:
        errors = errors_mm(judged.joints_mm, true_mm, JOINT_POINTS)
        numbers |= {
            "joint_error_mm": errors.mean().item(),
            "worst_joint_mm": errors.amax(1).mean().item(),
            "success": success_curve(errors, distances_mm).tolist(),
        }
    return numbers


def apart(before: Judged, after: Judged) -> dict[str, float]:
    """The shares of P and of the pose in the fall of the image MSE: each of them is changed alone.

    A share of 1 for "P_alone" says that no joint had to move. The two need not add up to 1.
    """
    start, end = before.mse.mean(), after.mse.mean()
    cloud = judge_poses(before.prediction, before.hand, before.crops, after.cloud_mm).mse.mean()
    pose = judge_poses(after.prediction, after.hand, before.crops, before.cloud_mm).mse.mean()
    fall = (start - end).item()
    if abs(fall) < 1e-12:  # nothing to share
        return {"P_alone": 0.0, "pose_alone": 0.0}
    return {"P_alone": (start - cloud).item() / fall, "pose_alone": (start - pose).item() / fall}


def gain_mm(before: Judged, after: Judged, true_mm: Joints) -> PerFrame:
    """By how much the mean error of 16 joints falls in each frame, mm."""
    start, end = (joint_error_mm(judged.joints_mm, true_mm, JOINT_POINTS) for judged in (before, after))
    return start - end


def led_astray(before: Judged, after: Judged, true_mm: Joints) -> Bool[Tensor, " B"]:
    """Frames whose image error falls while their joints get worse by more than `WORSE_MM` in the mean."""
    return (after.mse < before.mse) & (gain_mm(before, after, true_mm) < -WORSE_MM)


def changes(before: Judged, after: Judged, true_mm: Joints | None = None) -> dict:
    """Further effects of refinement: `moved_mm` of P, `apart`, and the share of frames led astray where truth is known."""
    numbers = {"P_moved_mm": moved_mm(after.cloud_mm, before.cloud_mm), "share_of_mse_drop": apart(before, after)}
    if true_mm is not None:
        numbers["led_astray"] = led_astray(before, after, true_mm).float().mean().item()
    return numbers


def telling_frames(before: Judged, after: Judged, true_mm: Joints) -> list[int]:
    """Two frames to show: the largest gain, and the largest loss among the other frames whose image error falls."""
    gain = gain_mm(before, after, true_mm)
    better = int(gain.argmax())
    astray = torch.where(after.mse < before.mse, gain, gain.max() + 1)
    astray[better] = gain.max() + 2
    return [better, int(astray.argmin())]


def why_worse(fit: Fit, at_truth: Step, true_joints_mm: Joints) -> list[str]:
    """Why the joints of a pose fit did not improve, for each simulated frame; "" where they did.

    "stuck": the loss is lower at the true pose (of the same hand, `at_truth`) than at the end of the descent, which started
    in another valley. "ambiguous": it is not, so that the image cannot tell the true pose from this one (hidden fingers,
    another person's shape).
    """
    before, after = (joint_error_mm(fit.joints_mm[k], true_joints_mm) for k in (0, -1))
    reasons = ["stuck" if lower else "ambiguous" for lower in fit.loss[-1] > at_truth.loss]
    return ["" if better else reason for better, reason in zip(after < before, reasons, strict=True)]
