"""Recipe `best` with parts left out, and what is measured of each run (notebook 10)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..frames.crops import Crops
from ..hand.joints import JOINT_POINTS
from ..hand.rig import HandRig
from ..method import predicted_joints
from ..network.posenet import PoseNet, Prediction
from ..network.predict import predict
from ..refine import BestSettings, refine
from ..refine.confidence import confidence
from ..synthetic.frames import SyntheticBatch
from .before_after import judge_poses
from .joint_errors import joint_error_mm
from .metrics import gap_closed, spearman

ALL_PARTS = "all parts"
GAP_MM = 15.0  # true joints that accelerate by more a frame^2 are those of two recordings
TELLS_MM = 0.3  # differences below this are not told from those between seeds (benchmarks/bench_refine.py has three)


@dataclass(frozen=True)
class Measured:
    """Of each test frame, [B]: mean error of 16 joints (mm), MSE of the synthesized image, and confidence; joints_mm
    [B, 21, 3]; terms: Eq. 7 (mm) and Eq. 8 (rad) of each, [B]."""

    error_mm: Tensor
    mse: Tensor
    confidence: Tensor
    joints_mm: Tensor
    terms: dict[str, Tensor]

    def summary(self) -> dict[str, float]:
        """The means, and how well confidence ranks the frames: its rank correlation with minus the error."""
        return {
            "mean16_mm": self.error_mm.mean().item(),
            "median16_mm": self.error_mm.median().item(),
            "image_mse": self.mse.mean().item(),
            "confidence_spearman": spearman(self.confidence, -self.error_mm),
        }


def measure(prediction: Prediction, hand: HandRig, test: SyntheticBatch, cloud_mm: Tensor | None = None) -> Measured:
    """Predicted poses of `hand` (with the cloud P, None: its own) on frames with truth. Their joints are looked at here
    and nowhere else."""
    found = judge_poses(prediction, hand, test.crops, cloud_mm)
    error_mm = joint_error_mm(found.joints_mm, test.joints_mm, JOINT_POINTS)
    terms = {"collision": found.collision_mm, "physical": found.physical_rad}
    return Measured(error_mm, found.mse, confidence(prediction, hand, test.crops), found.joints_mm, terms)


def refine_and_measure(
    net: PoseNet, hand: HandRig, crops: Crops, settings: BestSettings, test: SyntheticBatch
) -> Measured:
    """What refinement on `crops`, which have no labels, is worth on `test`, on which nothing is refined."""
    done = refine(net, hand, crops, settings, progress=False)
    return measure(predict(done.net, test.crops), done.hand, test)


def summary_with_jitter(
    prediction: Prediction, hand: HandRig, test: SyntheticBatch, every: int = 1
) -> dict[str, float]:
    """`Measured.summary` of every `every`-th frame, and the jitter over all frames."""
    some = torch.arange(0, len(test.crops), every)
    trembles, _ = jitter(predicted_joints(prediction, hand, test.crops), test.joints_mm)
    return measure(prediction[some], hand, test[some]).summary() | {"jitter": trembles}


def jitter(joints_mm: Tensor, true_mm: Tensor) -> tuple[float, float]:
    """Mean acceleration (mm a frame^2) of predicted and true joints [B, 21, 3], where three frames follow one another.

    Frames without a usable hand are left out of a recording, so a large true acceleration is a gap, not a movement.
    """
    predicted, true = (
        (joints[2:] - 2 * joints[1:-1] + joints[:-2]).norm(dim=-1).mean(1) for joints in (joints_mm, true_mm)
    )
    unbroken = true < GAP_MM
    return predicted[unbroken].mean().item(), true[unbroken].mean().item()


def variants(full: BestSettings) -> dict[str, BestSettings]:
    """The recipe, and the recipe without one of its parts each."""

    def fit(**parts):
        return replace(full, bundle=replace(full.bundle, **parts))

    return {
        ALL_PARTS: full,
        "without the hand's shape": replace(full, reshape=False),
        "without correcting the shape": replace(full, correct=False),
        "without segmented arms": replace(full, prepare=0, segmented=0),
        "without even movement": replace(full, steady=0.0),
        "without turned cameras": replace(full, equivariance=0.0),
        "without data-to-model term": fit(data=0.0),
        "without smoothing in time": fit(smooth=0.0),
        "without fits from neighbours": replace(full, neighbours=False),
    }


def verdicts(rows: Mapping[str, Mapping[str, float]]) -> list[str]:
    """A sentence on each part that was left out; rows as in `figure_ablation`."""
    whole, said = rows[ALL_PARTS]["mean16_mm"], []
    for name, row in rows.items():
        if name == ALL_PARTS:
            continue
        worse = row["mean16_mm"] - whole
        judged = "it helps" if worse > TELLS_MM else "it hurts here" if worse < -TELLS_MM else "it did not help here"
        said.append(f"{name}: {worse:+.1f} mm, {judged}")
    return said


def gaps_closed(users: Mapping[str, Mapping]) -> dict[str, list[float]]:
    """The share of the way from base to oracle that each seed of `best` goes; users as in `figure_gap`."""
    return {
        name: [
            gap_closed(_numbers(row["base"])[0], mm, _numbers(row["oracle"])[0]) for mm in _numbers(row["best"])
        ]
        for name, row in users.items()
    }  # fmt: skip


def coverage(error_mm: Tensor, order_by: Tensor) -> Tensor:
    """Median error of the k frames with the largest `order_by`, for k = 1 ... B; [B]. The median, since a frame on
    which segmentation took something else for the hand is off by 200 mm, and few of those outweigh the others' mean."""
    ordered = error_mm[order_by.argsort(descending=True, stable=True)]
    return torch.stack([ordered[:k].quantile(0.5) for k in range(1, len(ordered) + 1)])


def _numbers(part: Mapping) -> list[float]:
    """The errors of one part: one a seed, or a single number."""
    value = part["mean16"]
    return [float(x) for x in value] if isinstance(value, Sequence) else [float(value)]
