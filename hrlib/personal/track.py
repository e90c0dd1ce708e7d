"""A model applied to frames as they come: a few at a time are decoded, segmented, cropped and predicted, then forgotten."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from ..frames.crops import Crops
from ..frames.frame import Frame
from ..hand.rig import HandRig
from ..method import predicted_joints
from ..network.posenet import PoseNet, Prediction
from ..network.predict import predict_turned
from ..refine.confidence import confidence
from ..refine.explain import explain
from .stream import CHUNK, in_chunks


@dataclass(frozen=True)
class Tracked:
    """B frames in a row: names, crops, prediction, joints_mm [B, 21, 3] in the camera frame, confidence [B].

    Everything is as the model sees it: left hands are mirrored (`from_mirror` brings points back)."""

    names: list[str]
    crops: Crops
    prediction: Prediction
    joints_mm: Tensor
    confidence: Tensor

    def __len__(self):
        return len(self.names)


def tracked(net: PoseNet, hand: HandRig, crops: Crops, names: Sequence[str], fit: bool = False) -> Tracked:
    """The hand in each of the crops, which are called `names`; fit: predicted, then fitted to them (`explain.explain`)."""
    prediction = predict_turned(net, crops)
    if fit:
        prediction = explain(hand, crops, prediction, progress=len(crops) > 200).prediction
    joints_mm, sure = predicted_joints(prediction, hand, crops), confidence(prediction, hand, crops)
    return Tracked(list(names), crops, prediction, joints_mm, sure)


def track(
    net: PoseNet, hand: HandRig, frames: Sequence[Frame], chunk: int = CHUNK, fit: bool = False
) -> Iterator[tuple[Tracked | None, dict[str, str]]]:
    """The hand in each frame, `chunk` frames at a time, with the reasons why some are left out.

    Memory is that of one chunk, however many frames there are. Raises ValueError where a file cannot be used.
    """
    for crops, kept, left_out in in_chunks(frames, chunk):
        yield None if crops is None else tracked(net, hand, crops, [frame.name for frame in kept], fit), left_out


def from_mirror(joints_mm: Tensor, side: str) -> Tensor:
    """Points [..., 3] of a hand that was mirrored on entry (side "left") as the camera saw them; "right": as they are."""
    return joints_mm * joints_mm.new_tensor([-1.0, 1.0, 1.0]) if side == "left" else joints_mm
