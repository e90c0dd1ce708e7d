"""Joint errors, success curves and biases of Fig. 8, and the protocol behind each number (Sec. 4.4 and 4.5).

Predictions and labels are [F, J, 3] mm in the camera frame. `evaluate` computes in float64 and returns plain numbers together
with their protocol: a number without its protocol cannot be compared.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from ..hand.joints import POINT_NAMES
from ..support.checks import require_one_of

THRESHOLDS_MM = np.arange(81.0)  # Fig. 8 runs from 0 to 80 mm
BIASES = ("none", "paper", "offset")  # of Fig. 8, for any joints
KINDS = (*BIASES, "hand")  # "hand" needs our 21 points
WRIST = POINT_NAMES.index("wrist")
KNUCKLES = tuple(POINT_NAMES.index(f"{finger}_base") for finger in ("index", "middle", "ring", "pinky"))
ACROSS = (3, 1, -1, -3)  # weights of the knuckles: the slope of a line fitted to them, from pinky to index
FLAT = 1e-3  # a palm that is narrower than this share of its length has no plane

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
    bias: str = "none"  # one of KINDS
    estimated_on: str = "-"  # the frames that the bias comes from

    def __post_init__(self):
        require_one_of(KINDS, bias=self.bias)
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
    length without direction. "offset": the mean of prediction minus label, in the camera's axes. "hand": the same in the axes
    of each true hand (`hand_axes`), which turn with it, so that it is what two definitions of joints differ by. "none": None.
    """
    predicted_mm, true_mm = _array(predicted_mm), _array(true_mm)
    errors = errors_mm(predicted_mm, true_mm)  # refuses what cannot be compared
    if kind == "paper":
        return errors.min(0)
    if kind == "hand":
        return np.einsum("frc,fjr->fjc", hand_axes(true_mm), predicted_mm - true_mm).mean(0)
    return (predicted_mm - true_mm).mean(0) if kind == "offset" else None


def errors_without(kind: str, predicted_mm: Points, true_mm: Points, bias: Bias | None = None) -> Errors:
    """Errors in mm after a bias is removed; a `bias` of None is estimated on these frames.

    The paper's bias is subtracted from the errors, which stay at least 0; an offset from the predictions, so that it removes
    only what is constant, and can make a frame worse.
    """
    require_one_of(KINDS, kind=kind)
    predicted_mm, true_mm = _array(predicted_mm), _array(true_mm)
    errors = errors_mm(predicted_mm, true_mm)
    if kind == "none":
        return errors
    bias = bias_of(kind, predicted_mm, true_mm) if bias is None else bias
    if kind == "paper":
        return np.maximum(errors - bias, 0)
    in_camera_mm = np.einsum("frc,jc->fjr", hand_axes(true_mm), bias) if kind == "hand" else bias
    return errors_mm(predicted_mm - in_camera_mm, true_mm)


def cross_fitted_errors(kind: str, predicted_mm: Points, true_mm: Points) -> Errors:
    """Errors in mm after a bias is removed that the other half of the frames tells: it has not seen the frames it mends.

    The halves are the first and the second in the order given, which is that of time: neighbours in time are alike, and would
    tell each other's errors. Raises ValueError for fewer than two frames.
    """
    if len(predicted_mm) < 2:
        raise ValueError(
            f"two halves need at least two frames, got {len(predicted_mm)}: leave the cross-fitted number out"
        )
    predicted_mm, true_mm = _array(predicted_mm), _array(true_mm)
    middle = len(predicted_mm) // 2
    halves = slice(None, middle), slice(middle, None)
    biases = [bias_of(kind, predicted_mm[half], true_mm[half]) for half in halves]
    own = zip(halves, reversed(biases), strict=True)
    return np.concatenate([errors_without(kind, predicted_mm[half], true_mm[half], bias) for half, bias in own])


def hand_axes(joints_mm: Float[np.ndarray, "F 21 3"]) -> Float[np.ndarray, "F 3 3"]:
    """An orthonormal frame in each hand, of the wrist and the four knuckles alone: its axes x, y, z in the camera, as columns.

    y runs from the wrist to the middle of the fingers' base joints. x runs across the palm to the thumb's side: the direction
    of the straight line fitted to these joints, made perpendicular to y. z = x cross y points to the palm's side of a right
    hand. The axes of the rig's wrist lie within 15 degrees. The offset of a joint needs no origin.

    Args:
        joints_mm: our 21 points, mm.
    Raises:
        ValueError: other joints, or a hand whose wrist and knuckles lie on a line.
    """
    if joints_mm.ndim != 3 or joints_mm.shape[1:] != (len(POINT_NAMES), 3):
        raise ValueError(f"a hand's axes need its 21 points [F, 21, 3], got {list(joints_mm.shape)}")
    knuckles = joints_mm[:, KNUCKLES]
    along, across = knuckles.mean(1) - joints_mm[:, WRIST], np.einsum("k,fkr->fr", ACROSS, knuckles)
    length, width = np.linalg.norm(along, axis=1), np.linalg.norm(np.cross(along, across), axis=1)
    flat = np.flatnonzero(width <= FLAT * length**2)
    if len(flat):
        raise ValueError(f"wrist and knuckles of frame {flat[0]} lie on a line: they give no axes; correct its labels")
    y = along / length[:, None]
    z = np.cross(across, along) / width[:, None]
    return np.stack([np.cross(y, z), y, z], -1)


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
    of_subjects = {str(one): float(errors[ids == one].mean()) for one in np.unique(ids)}
    return numbers(errors) | {"per_subject_mm": of_subjects, "protocol": asdict(protocol)}


def numbers(errors: Errors) -> dict:
    """What `evaluate` tells of errors [F, J] in mm, whatever was removed from them."""
    errors = _array(errors)
    fraction = success_curve(errors)
    return {
        "mean_mm": float(errors.mean()),
        "median_mm": float(np.median(errors.mean(1))),
        "per_joint_mm": errors.mean(0).tolist(),
        "fraction": fraction.tolist(),
        "auc": area_under(fraction),
        "frames": len(errors),
    }


def _array(values: np.ndarray | Tensor) -> np.ndarray:
    return np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values, np.float64)
