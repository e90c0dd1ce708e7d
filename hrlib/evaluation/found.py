"""Models on frames whose joints are known, whatever the hand finder made of them: real sets and test people alike.

Three things can happen to a frame. It is *left out*: no usable hand is found in it. It is *lost*: something is found, and its
crop holds fewer than `LEAST_INSIDE` of the true joints, so that no model can be right about it. Or it is found. All
are counted, and errors are given with the lost frames and without them.

Two data sets define joints differently, so each error is given three times. "as_they_are". "offset_removed": without a constant
offset of each joint in the true hand's own axes (`bias_of` "hand"), from recordings for training where there are any, else from
the frames evaluated, which flatters. "cross_fitted": then also with the other half's offset, which does not flatter.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float

from ..datasets.labelled import CROPS
from ..datasets.real_joints import REAL_SETS, RealJoints
from ..frames.crops import Crops
from ..hand.joints import JOINT_POINTS, POINT_NAMES
from ..hand.rig import HandRig
from ..method import predicted_joints
from ..network.known import told_what_it_sees
from ..network.model import PoseModel
from ..network.posenet import Prediction
from ..network.predict import predict_turned
from ..refine.gauss_newton import FitSettings, fitted_poses
from ..support.ground_truth import Noted
from .joint_errors import Protocol, cross_fitted_errors, errors_without, numbers, success_curve

LEAST_INSIDE = 0.5  # share; on development people, crops 60 to 100 mm off their joints' mean still hold 0.9 of them
CURVE_MM = np.arange(0.0, 81.0, 5.0)  # of the success curves that are recorded
JOINTS = {"21": tuple(range(len(POINT_NAMES))), "16": JOINT_POINTS}
SINGLE = FitSettings(smooth=0.0)  # frames that are no recording do not move evenly

Points = Float[np.ndarray, "K 21 3"]
Offset = Float[np.ndarray, "21 3"]


@dataclass(frozen=True)
class FoundFrames(Noted):
    """What the hand finder made of a set of frames; readings of the true joints are noted."""

    TRUTH: ClassVar = ("true_mm",)
    source: str  # in words
    crops: Crops  # of the K frames with a usable hand
    names: list[str]  # of these
    true_mm: Points  # of these, camera frame
    left_out: dict[str, str]  # name -> why the frame has no usable hand
    crop: str = CROPS["free"]  # where the crops' centres came from
    recording: bool = True  # the frames follow each other in time

    @property
    def inside(self) -> Float[np.ndarray, " K"]:
        """Share of the true joints in each crop's cube."""
        from_centre = self.true_mm - self.crops.centre_mm.cpu().numpy()[:, None]
        return (np.abs(from_centre) < self.crops.cube_mm / 2).all(-1).mean(1)

    @property
    def lost(self) -> Bool[np.ndarray, " K"]:
        """Frames in which something else was found than the hand."""
        return self.inside < LEAST_INSIDE


def find_real(frames: RealJoints, progress: bool = True) -> FoundFrames:
    """A real set as the hand finder leaves it; or, if the frames come with masks, as those leave it.

    Raises ValueError if no frame has a usable hand.
    """
    crops, at, left_out = frames.crop("free", progress=progress)
    kept = REAL_SETS[frames.dataset]
    crop = "pixels around the true bones" if frames.given else CROPS["free"]
    names = [frames.names[i] for i in at]
    source = f"{frames.dataset}, {kept.shown}"
    return FoundFrames(source, crops, names, frames.joints_mm[at], left_out, crop, kept.recording)


def poses(net: PoseModel, hand: HandRig, found: FoundFrames, fitted: bool = False, progress: bool = True) -> Prediction:
    """What a model says of the frames, by five turned views; `fitted`: from there each frame's pose is fitted to its depth."""
    prediction = predict_turned(net, found.crops)
    if not fitted:
        return prediction
    settings = FitSettings() if found.recording else SINGLE
    return fitted_poses(hand, found.crops, prediction, settings, progress).prediction


def points_of(prediction: Prediction, hand: HandRig, crops: Crops) -> Points:
    """The 21 points of predicted poses, mm, for the functions below."""
    return predicted_joints(prediction, hand, crops).detach().cpu().double().numpy()


def evaluate_found(
    found: FoundFrames, models: Mapping[str, Points], protocol: Protocol, offsets: Mapping[str, Offset] | None = None
) -> dict:
    """Counts of the frames, and `evaluate_points` of each model.

    Args:
        found: the frames.
        models: name -> its 21 points in these frames, mm, camera frame.
        protocol: of all numbers; its joints, crop and bias are filled in. Its `estimated_on` names the frames of `offsets`.
        offsets: name -> `bias_of("hand", ...)` of the model on other frames. None: from the frames evaluated.
    """
    protocol, lost = replace(protocol, crop=found.crop), found.lost
    return {
        "source": found.source,
        "frames": len(found.names) + len(found.left_out),
        "found": len(found.names),
        "left_out": len(found.left_out),
        "lost": int(lost.sum()),
        "lost_frames": [name for name, gone in zip(found.names, lost, strict=True) if gone],
        "reasons": dict(Counter(re.sub(r"\d+", "...", reason) for reason in found.left_out.values()).most_common()),
        "inside": found.inside.tolist(),
        "models": {
            name: evaluate_points(points, found.true_mm, protocol, lost, None if offsets is None else offsets[name])
            for name, points in models.items()
        },
    }


@dataclass(frozen=True)
class RealEvaluation:
    """A real set as the base model sees it, with numbers and with what a picture needs."""

    title: str
    frames: RealJoints  # all of them, also those in which no hand is found
    found: FoundFrames
    hand: HandRig
    models: dict[str, Prediction]  # "base", and "fitted": each frame's pose, from there
    points: dict[str, Points]  # of the same
    result: dict  # of `evaluate_found`


def evaluate_real(
    title: str, frames: RealJoints, net: PoseModel, hand: HandRig, progress: bool = True
) -> RealEvaluation:
    """Find the hands of a real set, pose them by the network alone and fitted to each frame, and compare with the labels.

    Args:
        title: of the set, in a figure.
        frames: the set.
        net: the model, and the hand that it poses; one that knows a population is told what it sees in these frames.
        hand: see net.
        progress: show it.
    Raises:
        ValueError: no frame has a usable hand.
    """
    found = find_real(frames, progress)
    net, hand = told_what_it_sees(net, hand, found.crops)
    models = {name: poses(net, hand, found, name == "fitted", progress) for name in ("base", "fitted")}
    points = {name: points_of(prediction, hand, found.crops) for name, prediction in models.items()}
    truth = "the hand's pixels" if frames.given else "none"
    protocol = Protocol(frames.dataset, f"{len(frames)} frames", 21, found.crop, "template", truth)
    return RealEvaluation(title, frames, found, hand, models, points, evaluate_found(found, points, protocol))


def evaluate_points(
    predicted_mm: Points,
    true_mm: Points,
    protocol: Protocol,
    lost: Bool[np.ndarray, " K"],
    offset_mm: Offset | None = None,
) -> dict:
    """All errors of one model: {"found", "not_lost"} -> {"21", "16"} -> {"as_they_are", "offset_removed", "cross_fitted"}.

    Each as `joint_errors.evaluate` has it, with a success curve at `CURVE_MM`. None where no frame is left, and for the offset
    that one frame would tell of itself. "cross_fitted" is None, too, where `offset_mm` is given: nothing flatters then.
    """
    result = {}
    for name, kept in (("found", np.ones(len(lost), bool)), ("not_lost", ~lost)):
        if not kept.any():
            result[name] = None
            continue
        errors = _three_errors(predicted_mm[kept], true_mm[kept], offset_mm)
        result[name] = {
            count: {how: _described(of, joints, how, protocol, offset_mm) for how, of in errors.items()}
            for count, joints in JOINTS.items()
        }
    return result


def _three_errors(predicted_mm: Points, true_mm: Points, offset_mm: Offset | None) -> dict[str, np.ndarray | None]:
    several = len(predicted_mm) > 1  # the offset of a single frame is all of its error
    own = offset_mm is not None or several
    return {
        "as_they_are": errors_without("none", predicted_mm, true_mm),
        "offset_removed": errors_without("hand", predicted_mm, true_mm, offset_mm) if own else None,
        "cross_fitted": cross_fitted_errors("hand", predicted_mm, true_mm) if several and offset_mm is None else None,
    }


def _described(errors, joints, how: str, protocol: Protocol, offset_mm: Offset | None) -> dict | None:
    """The numbers of some of the joints, and the protocol that says what was done to them."""
    if errors is None:
        return None
    on = {
        "as_they_are": "-",
        "offset_removed": "the frames evaluated" if offset_mm is None else protocol.estimated_on,
        "cross_fitted": "the other half of the frames evaluated",
    }[how]
    bias = "none" if how == "as_they_are" else "hand"
    made = replace(protocol, joints=len(joints), bias=bias, estimated_on=on)
    errors = errors[:, list(joints)]
    return numbers(errors) | {"fraction": success_curve(errors, CURVE_MM).tolist(), "protocol": asdict(made)}
