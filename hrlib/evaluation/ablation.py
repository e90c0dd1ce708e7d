"""Recipe `best` with parts left out, and what is measured of each run (notebook 10)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from ..frames.crops import Crops
from ..hand.joints import JOINT_POINTS
from ..hand.rig import HandRig
from ..network.model import PoseModel
from ..network.posenet import Prediction
from ..network.predict import predict
from ..refine import BestSettings, refine
from ..refine.confidence import confidence
from ..synthetic.frames import SyntheticBatch
from .before_after import judge_poses
from .joint_errors import joint_error_mm
from .metrics import gap_closed, spearman

ALL_PARTS = "all parts"
TELLS_MM = 0.3  # smaller differences are found between seeds, too (benchmarks/bench_refine.py has three)


@dataclass(frozen=True)
class Measured:
    """Predicted poses on test frames with truth."""

    error_mm: Float[Tensor, " B"]  # mean of 16 joints
    mse: Float[Tensor, " B"]  # of the synthesized image
    confidence: Float[Tensor, " B"]
    joints_mm: Float[Tensor, "B 21 3"]  # camera frame
    terms: dict[str, Float[Tensor, " B"]]  # "collision" in mm (Eq. 7), "physical" in rad (Eq. 8)

    def summary(self) -> dict[str, float]:
        """Means, a median, and the rank correlation of confidence with accuracy."""
        return {
            "mean16_mm": self.error_mm.mean().item(),
            "median16_mm": self.error_mm.median().item(),
            "image_mse": self.mse.mean().item(),
            "confidence_spearman": spearman(self.confidence, -self.error_mm),
        }


def measure(
    prediction: Prediction, hand: HandRig, test: SyntheticBatch, cloud_mm: Float[Tensor, "N 3"] | None = None
) -> Measured:
    """Compare predicted poses of a hand, with cloud P (None: its own), with the truth: the only use of the frames' joints."""
    found = judge_poses(prediction, hand, test.crops, cloud_mm)
    error_mm = joint_error_mm(found.joints_mm, test.joints_mm, JOINT_POINTS)
    terms = {"collision": found.collision_mm, "physical": found.physical_rad}
    return Measured(error_mm, found.mse, confidence(prediction, hand, test.crops), found.joints_mm, terms)


def refine_and_measure(
    net: PoseModel, hand: HandRig, crops: Crops, settings: BestSettings, test: SyntheticBatch
) -> Measured:
    """Refine on `crops`, which have no labels, and measure on `test`, which refinement does not see."""
    done = refine(net, hand, crops, settings, progress=False)
    return measure(predict(done.net, test.crops), done.hand, test)


def variants(full: BestSettings) -> dict[str, BestSettings]:
    """The recipe, and the recipe without one of its parts each."""

    def fit(**parts):
        return replace(full, explain=replace(full.explain, **parts))

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
    lines = []
    for name, row in rows.items():
        worse = row["mean16_mm"] - rows[ALL_PARTS]["mean16_mm"]
        verdict = "it helps" if worse > TELLS_MM else "it hurts here" if worse < -TELLS_MM else "it did not help here"
        if name != ALL_PARTS:
            lines.append(f"{name}: {worse:+.1f} mm, {verdict}")
    return lines


def gaps_closed(row: Mapping, way: str) -> list[float]:
    """`gap_closed` of each seed of `best`, all models seeing the frames in one way; a user's row as in `figure_gap`."""
    (base, *_), (oracle, *_) = numbers(row["base"][way]), numbers(row["oracle"][way])
    return [gap_closed(base, mm, oracle) for mm in numbers(row["best"][way])]


def numbers(part: Mapping) -> list[float]:
    """The errors of one part of a user's row: one for each seed, or a single one."""
    value = part["mean16"]
    return [float(x) for x in value] if isinstance(value, Sequence) else [float(value)]


def coverage(error_mm: Float[Tensor, " B"], order_by: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
    """Median error of the k frames with the largest `order_by`, for k = 1 ... B.

    A mean would tell of few frames alone: those in which something else was taken for the hand are off by 200 mm.
    """
    ordered = error_mm[order_by.argsort(descending=True, stable=True)]
    return torch.stack([ordered[:k].quantile(0.5) for k in range(1, len(ordered) + 1)])
