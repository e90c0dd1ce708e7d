"""Joint errors, success curves and biases of Fig. 8, and the protocol behind each number (Sec. 4.4 and 4.5).

Predictions and labels are [F, J, 3] mm in the camera frame. `evaluate` computes in float64 and returns plain numbers together
with their protocol: a number without its protocol cannot be compared.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

THRESHOLDS_MM = np.arange(81.0)  # Fig. 8 runs from 0 to 80 mm
BIASES = ("none", "paper", "offset")

Points = Float[np.ndarray | Tensor, "*F J 3"]
Errors = Float[np.ndarray | Tensor, "*F J"]
Means = Float[np.ndarray | Tensor, "*F"]
Distances = Sequence[float] | Float[np.ndarray, " T"]
Bias = Float[np.ndarray, " J"] | Float[np.ndarray, "J 3"]


@dataclass(frozen=True)
class Protocol:
    """What a number was computed from."""

    dataset: str
    split: str
    joints: int  # how many
    crop: str  # where the crops' centres came from
    scale: str  # where the hand's size came from
    ground_truth: str  # every use of labels, except for the error itself; "none" if there is none
    subject: str = "all"  # "all", "1" or "2"
    bias: str = "none"  # one of BIASES
    estimated_on: str = "-"  # the frames that the bias comes from

    def __post_init__(self):
        if self.bias not in BIASES:
            raise ValueError(f"bias must be one of {', '.join(BIASES)}, got {self.bias!r}")
        if not self.ground_truth.strip():
            raise ValueError('ground_truth must say which labels were used for what ("none")')


def errors_mm(
    predicted_mm: Points, true_mm: Points, joints: Sequence[int] | None = None
) -> Float[np.ndarray | Tensor, "*F K"]:
    """Euclidean distance in mm of each predicted joint from its label, of the given indices only.

    Two tensors give a tensor of their type, anything else a float64 array. Raises ValueError for shapes that differ, no frame,
    or numbers that are not finite.
    """
    for name, points in (("predicted_mm", predicted_mm), ("true_mm", true_mm)):
        if points.ndim < 2 or points.shape[-1] != 3 or not len(points):
            raise ValueError(f"{name} must be [F, J, 3] mm with at least one frame, got {list(points.shape)}")
        if not np.isfinite(_array(points)).all():
            raise ValueError(f"{name} holds NaN or infinite numbers: leave those frames out of both, and say how many")
    if predicted_mm.shape != true_mm.shape:
        raise ValueError(
            f"predicted_mm must have the shape of true_mm {list(true_mm.shape)}, got {list(predicted_mm.shape)}: evaluate "
            "the same frames, in the data set's joints (hrlib.hand.joints.to_dataset_joints)"
        )
    if not (isinstance(predicted_mm, Tensor) and isinstance(true_mm, Tensor)):
        predicted_mm, true_mm = _array(predicted_mm), _array(true_mm)
    apart = predicted_mm - true_mm
    apart = apart if joints is None else apart[..., list(joints), :]
    return apart.norm(dim=-1) if isinstance(apart, Tensor) else np.linalg.norm(apart, axis=-1)


def joint_error_mm(predicted_mm: Points, true_mm: Points, joints: Sequence[int] | None = None) -> Means:
    """Mean of `errors_mm` over the joints, one number for each frame, in mm."""
    return errors_mm(predicted_mm, true_mm, joints).mean(-1)


def success_curve(errors: Errors, thresholds_mm: Distances = THRESHOLDS_MM) -> Float[np.ndarray, " T"]:
    """Fraction of frames whose worst joint is at most `thresholds_mm` off (Fig. 5 and 8)."""
    worst = np.sort(_array(errors).max(1))
    return np.searchsorted(worst, np.asarray(thresholds_mm), side="right") / len(worst)


def area_under(fraction: Float[np.ndarray, " T"], thresholds_mm: Distances = THRESHOLDS_MM) -> float:
    """Mean height of a success curve, in [0, 1], by the trapezium rule over its thresholds."""
    return float(np.trapezoid(fraction, thresholds_mm) / (thresholds_mm[-1] - thresholds_mm[0]))


# -- biases: what a fixed skeleton cannot express -----------------------------------------------------------------------


def bias_of(kind: str, predicted_mm: Points, true_mm: Points) -> Bias | None:
    """The bias of some frames, mm, for `errors_without`.

    "paper": the smallest error of each joint (Sec. 4.5, "the minimum error for each joint, over the whole training set"), a
    length without direction. "offset": the mean of prediction minus label, in the camera's axes. "none": None.
    """
    predicted_mm, true_mm = _array(predicted_mm), _array(true_mm)
    if kind == "paper":
        return errors_mm(predicted_mm, true_mm).min(0)
    return (predicted_mm - true_mm).mean(0) if kind == "offset" else None


def errors_without(kind: str, predicted_mm: Points, true_mm: Points, bias: Bias | None = None) -> Errors:
    """Errors in mm after a bias is removed; a `bias` of None is estimated on these frames.

    The paper's bias is subtracted from the errors, which stay at least 0; an offset from the predictions, so that it removes
    only what is constant, and can make a frame worse.
    """
    predicted_mm, true_mm = _array(predicted_mm), _array(true_mm)
    errors = errors_mm(predicted_mm, true_mm)
    if kind == "none":
        return errors
    bias = bias_of(kind, predicted_mm, true_mm) if bias is None else bias
    return np.maximum(errors - bias, 0) if kind == "paper" else errors_mm(predicted_mm - bias, true_mm)


# -- evaluation ---------------------------------------------------------------------------------------------------------


def evaluate(
    predicted_mm: Points,
    true_mm: Points,
    protocol: Protocol,
    subject: Sequence[int] | Int[np.ndarray, " F"] | None = None,
    bias: Bias | None = None,
) -> dict:
    """All numbers of one set of predictions, with their protocol.

    Args:
        protocol: what the predictions were made with; its bias is removed.
        subject: an id for each frame, for the means per subject.
        bias: `bias_of` other frames. By default it is estimated on these, and the protocol then says so.
    Returns:
        {"mean_mm", "median_mm" (of the frames' mean errors), "per_joint_mm", "per_subject_mm", "fraction" (`success_curve`),
        "auc", "frames", "protocol"}.
    Raises:
        ValueError: shapes that differ, or a number of joints that is not the protocol's.
    """
    if predicted_mm.shape[1] != protocol.joints:
        raise ValueError(f"protocol.joints is {protocol.joints}, but predictions have {predicted_mm.shape[1]} joints")
    if protocol.bias != "none" and bias is None:
        protocol = replace(protocol, estimated_on="the frames evaluated")
    errors = errors_without(protocol.bias, predicted_mm, true_mm, bias)
    ids = np.asarray([] if subject is None else subject)
    if subject is not None and len(ids) != len(errors):
        raise ValueError(f"subject must be one id a frame: got {len(ids)} ids for {len(errors)} frames")
    fraction = success_curve(errors)
    return {
        "mean_mm": float(errors.mean()),
        "median_mm": float(np.median(errors.mean(1))),
        "per_joint_mm": errors.mean(0).tolist(),
        "per_subject_mm": {str(one): float(errors[ids == one].mean()) for one in np.unique(ids)},
        "fraction": fraction.tolist(),
        "auc": area_under(fraction),
        "frames": len(errors),
        "protocol": asdict(protocol),
    }


def _array(values: np.ndarray | Tensor) -> np.ndarray:
    return np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values, np.float64)
