"""A model applied to frames as they come: a few at a time are decoded, segmented, cropped and predicted, then forgotten."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .adapted import confidence
from .crop import Crops, concatenate, usable_crop
from .datasets import Frame
from .evaluate import predict, predicted_joints
from .hand import HandRig
from .network import PoseNet, Prediction
from .segment import NoHandFound

BATCH = 32


@dataclass(frozen=True)
class Tracked:
    """Some frames in a row. names, crops, prediction, joints_mm [B, 21, 3] and confidence [B] are those of the B frames that
    show a hand; left_out has the reasons of the others. Everything as the model sees it: left hands are mirrored."""

    names: list[str]
    crops: Crops | None
    prediction: Prediction | None
    joints_mm: Tensor
    confidence: Tensor
    left_out: dict[str, str]


def track(net: PoseNet, hand: HandRig, frames: Iterable[Frame], batch: int = BATCH) -> Iterator[Tracked]:
    """The hand in each frame; memory is that of one `batch`, however many frames there are.

    Raises ValueError where a frame's file cannot be used; the message names it.
    """
    names, crops, left_out = [], [], {}
    for frame in frames:
        try:
            crops.append(usable_crop(frame))
            names.append(frame.name)
        except NoHandFound as error:
            left_out[frame.name] = str(error)
        if len(names) + len(left_out) == batch:
            yield _tracked(net, hand, names, crops, left_out)
            names, crops, left_out = [], [], {}
    if names or left_out:
        yield _tracked(net, hand, names, crops, left_out)


def _tracked(net, hand, names, crops, left_out) -> Tracked:
    if not crops:
        return Tracked([], None, None, torch.zeros(0, 21, 3), torch.zeros(0), left_out)
    crops = concatenate(crops)
    prediction = predict(net, crops)
    joints_mm, sure = predicted_joints(prediction, hand, crops), confidence(prediction, hand, crops)
    return Tracked(names, crops, prediction, joints_mm, sure, left_out)


def from_mirror(joints_mm: Tensor, side: str) -> Tensor:
    """Points [..., 3] of a hand that was mirrored on entry (side "left") as the camera saw them; "right": as they are."""
    return joints_mm * joints_mm.new_tensor([-1.0, 1.0, 1.0]) if side == "left" else joints_mm
