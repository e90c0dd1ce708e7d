"""The benchmark of Fig. 8: errors in a data set's own joints, success curves, biases, and what a number was made with.

Everything takes predictions and labels [F, J, 3] mm in the camera frame, numpy or torch, computes in float64, and gives
plain numbers. A number without its protocol is not a number: `evaluate` returns both.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from torch import Tensor

from ..datasets.published import TEST_SETS
from ..hand.joints import JOINT_COUNTS, NYU_SUBSETS

THRESHOLDS_MM = np.arange(81.0)  # Fig. 8 runs from 0 to 80 mm
BIASES = ("none", "paper", "offset")


@dataclass(frozen=True)
class Protocol:
    """What a number was made with.

    dataset, split, joints (how many), subject ("all", "1", "2"); crop: where the crops' centres came from; scale: where
    the hand's size came from; bias: one of BIASES, and estimated_on what frames. ground_truth: every use of labels but
    for computing the error itself, "none" where there is none.
    """

    dataset: str
    split: str
    joints: int
    crop: str
    scale: str
    ground_truth: str
    subject: str = "all"
    bias: str = "none"
    estimated_on: str = "-"

    def __post_init__(self):
        if self.bias not in BIASES:
            raise ValueError(f"bias must be one of {', '.join(BIASES)}, got {self.bias!r}")
        if not self.ground_truth.strip():
            raise ValueError('ground_truth must say which labels were used for what ("none")')


# -- errors -------------------------------------------------------------------------------------------------------------


def errors_mm(predicted_mm, true_mm) -> np.ndarray:
    """Euclidean distances [F, J] mm of predictions and labels [F, J, 3]. ValueError for shapes that differ, or NaN."""
    predicted, true = (_checked(name, x) for name, x in (("predicted_mm", predicted_mm), ("true_mm", true_mm)))
    if predicted.shape != true.shape:
        raise ValueError(
            f"predicted_mm must have the shape of true_mm {list(true.shape)}, got {list(predicted.shape)}: evaluate the "
            "same frames, in the data set's joints (hrlib.hand.joints.to_dataset_joints)"
        )
    return np.linalg.norm(predicted - true, axis=-1)


def _checked(name: str, points) -> np.ndarray:
    points = points.detach().cpu().numpy() if hasattr(points, "detach") else points
    points = np.asarray(points, np.float64)
    if points.ndim != 3 or points.shape[-1] != 3 or not len(points):
        raise ValueError(f"{name} must be [F, J, 3] mm with at least one frame, got {list(points.shape)}")
    if not np.isfinite(points).all():
        raise ValueError(f"{name} holds NaN or infinite numbers: leave those frames out of both, and say how many")
    return points


def success_curve(errors: np.ndarray, thresholds_mm: Sequence[float] = THRESHOLDS_MM) -> np.ndarray:
    """[T]: the fraction of frames whose worst joint is at most that far off; errors [F, J] mm (Fig. 5 and 8)."""
    worst = np.sort(np.asarray(errors).max(1))
    return np.searchsorted(worst, np.asarray(thresholds_mm), side="right") / len(worst)


def area_under(fraction: np.ndarray, thresholds_mm: Sequence[float] = THRESHOLDS_MM) -> float:
    """Mean height of a success curve, in [0, 1], by the trapezium rule over its thresholds."""
    x = np.asarray(thresholds_mm, np.float64)
    return float(np.trapezoid(fraction, x) / (x[-1] - x[0]))


# -- biases: what a fixed skeleton cannot say ---------------------------------------------------------------------------


def paper_bias(errors: np.ndarray) -> np.ndarray:
    """[J] mm: the smallest error of each joint over all frames, errors [F, J] mm (Sec. 4.5: "the minimum error for each
    joint, over the whole training set"). A length, not a vector: it is the same wherever the joint points."""
    return np.asarray(errors).min(0)


def without_paper_bias(errors: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Errors [F, J] mm with `paper_bias` [J] subtracted. Not below 0, which frames outside its estimate could reach."""
    return np.maximum(errors - bias, 0)


def offset_bias(predicted_mm, true_mm) -> np.ndarray:
    """[J, 3] mm: mean of prediction minus label, the constant offset in the camera's axes that best explains each joint.

    Subtracted from predictions, it can only remove what is constant; unlike the paper's, it can also make a frame worse.
    """
    return (_checked("predicted_mm", predicted_mm) - _checked("true_mm", true_mm)).mean(0)


def errors_without(kind: str, predicted_mm, true_mm, bias: np.ndarray | None = None) -> np.ndarray:
    """Errors [F, J] mm without a bias of BIASES: "paper" [J] mm, "offset" [J, 3] mm; None estimates it on these frames."""
    errors = errors_mm(predicted_mm, true_mm)
    if kind == "paper":
        return without_paper_bias(errors, paper_bias(errors) if bias is None else bias)
    if kind == "offset":
        bias = offset_bias(predicted_mm, true_mm) if bias is None else bias
        return errors_mm(_checked("predicted_mm", predicted_mm) - bias, true_mm)
    return errors


def scaled(predicted_mm, true_mm) -> tuple[np.ndarray, float]:
    """Predictions [F, J, 3] mm, each blown up about its own mean joint by one factor for all frames, and that factor.

    The factor is the labels' (least squares), that is: the size of the hand is given. For frames of one subject.
    """
    predicted, true = _checked("predicted_mm", predicted_mm), _checked("true_mm", true_mm)
    middle = predicted.mean(1, keepdims=True)
    own, theirs = predicted - middle, true - true.mean(1, keepdims=True)
    factor = float((own * theirs).sum() / (own * own).sum())
    return middle + factor * own, factor


# -- evaluation ---------------------------------------------------------------------------------------------------------


def evaluate(
    predicted_mm, true_mm, protocol: Protocol, subject: Sequence[int] | None = None, bias: np.ndarray | None = None
) -> dict:
    """All numbers of one set of predictions [F, J, 3] mm against labels, with their protocol.

    subject: F ids for the means per subject. bias: for protocol.bias "paper" [J] mm and for "offset" [J, 3] mm, as
    estimated on other frames; by default on these, and the record then says so.
    Returns {"mean_mm", "median_mm", "per_joint_mm", "per_subject_mm", "fraction", "auc", "frames", "protocol"}:
    fraction as `success_curve` at THRESHOLDS_MM, median that of the frames' mean errors.
    Raises ValueError for shapes that differ and for a number of joints that is not the protocol's.
    """
    if np.shape(predicted_mm)[1] != protocol.joints:
        raise ValueError(
            f"protocol.joints is {protocol.joints}, but predictions have {np.shape(predicted_mm)[1]} joints"
        )
    if protocol.bias != "none" and bias is None:
        protocol = replace(protocol, estimated_on="the frames evaluated")
    errors = errors_without(protocol.bias, predicted_mm, true_mm, bias)
    per_subject = {}
    if subject is not None:
        ids = np.asarray(subject)
        if len(ids) != len(errors):
            raise ValueError(f"subject must be one id a frame: got {len(ids)} ids for {len(errors)} frames")
        per_subject = {str(one): float(errors[ids == one].mean()) for one in np.unique(ids)}
    fraction = success_curve(errors)
    return {
        "mean_mm": float(errors.mean()),
        "median_mm": float(np.median(errors.mean(1))),
        "per_joint_mm": errors.mean(0).tolist(),
        "per_subject_mm": per_subject,
        "fraction": fraction.tolist(),
        "auc": area_under(fraction),
        "frames": len(errors),
        "protocol": asdict(protocol),
    }


def subset(points_mm, dataset: str, joints: int):
    """Of a data set's usual joints [F, J, 3] (NYU 36 or 14, ICVL 16, MSRA 21), those of a smaller subset, in its order.

    ValueError where the subset is not contained, or there is no such subset.
    """
    if dataset not in JOINT_COUNTS or joints not in JOINT_COUNTS[dataset]:
        counts = ", ".join(map(str, JOINT_COUNTS.get(dataset, ())))
        raise ValueError(f"joints of {dataset} must be one of {counts or 'nyu, icvl or msra'}, got {joints!r}")
    have = points_mm.shape[1]
    if have == joints:
        return points_mm
    if dataset != "nyu" or have not in NYU_SUBSETS or not set(NYU_SUBSETS[joints]) <= set(NYU_SUBSETS[have]):
        raise ValueError(f"{joints} joints of {dataset} are not among the {have} given")
    return points_mm[:, [NYU_SUBSETS[have].index(joint) for joint in NYU_SUBSETS[joints]]]


def protocols(predicted_mm, true_mm, dataset: str) -> list[dict]:
    """The same predictions under every protocol of a test set: joint subsets x subjects x scale x bias.

    predicted_mm [F, J, 3] in the set's usual joints (14 or 16), for the first F frames of it. A row is {"joints",
    "subject", "scale", "bias", "frames", "mean_mm", "auc"}; scale "given" means `scaled` for each subject apart; biases
    are estimated on the frames that they are subtracted from.
    """
    test, rows = TEST_SETS[dataset], []
    ids = test.subject[: len(predicted_mm)]
    predicted, true = _checked("predicted_mm", predicted_mm), _checked("true_mm", true_mm)[: len(predicted_mm)]
    given = np.concatenate([scaled(predicted[ids == s], true[ids == s])[0] for s in np.unique(ids)])
    every = np.arange(test.joints)[None, :, None]
    for scale, points in (("as predicted", predicted), ("given", given)):
        for who in ("all", *(str(s) for s in np.unique(ids))):
            at = np.ones(len(ids), bool) if who == "all" else ids == int(who)
            for bias in BIASES:
                errors = errors_without(bias, points[at], true[at])
                for joints in (count for count in JOINT_COUNTS[dataset] if count <= test.joints):
                    part = errors[:, subset(every, dataset, joints)[0, :, 0]]
                    row = {"joints": joints, "subject": who, "scale": scale, "bias": bias, "frames": len(part)}
                    rows.append(row | {"mean_mm": float(part.mean()), "auc": area_under(success_curve(part))})
    return rows


def joint_error_mm(joints_mm: Tensor, true_mm: Tensor) -> Tensor:
    """Mean Euclidean distance over the joints, [B, J, 3] x 2 -> [B] mm. Raises ValueError for shapes that differ."""
    if joints_mm.shape != true_mm.shape or joints_mm.shape[-1] != 3:
        raise ValueError(f"joints must be two times [B, J, 3], got {list(joints_mm.shape)} and {list(true_mm.shape)}")
    return (joints_mm - true_mm).norm(dim=-1).mean(-1)
