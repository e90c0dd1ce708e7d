"""A network's predictions for any number of crops."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..frames.crops import Crops
from ..frames.turn import rotated, turned
from ..hand.kinematics import turn_hand
from .posenet import PoseNet, Prediction

TURNS_DEG = (0.0, 15.0, -15.0, 30.0, -30.0)  # seven add little; three have most of the gain


@torch.no_grad()
def predict(net: PoseNet, crops: Crops, batch: int = 200) -> Prediction:
    """The network's predictions for any number of crops, `batch` at a time; dropout is off, the network stays as it is."""
    training = net.training
    net.eval()
    parts = [net(crops.image[i : i + batch]) for i in range(0, len(crops), batch)]
    net.train(training)

    def joined(name):
        values = [getattr(part, name) for part in parts]
        return None if values[0] is None else torch.cat(values)

    return Prediction(joined("rotations"), joined("offset"), joined("points"))


def predict_turned(net: PoseNet, crops: Crops, turns_deg: Sequence[float] = TURNS_DEG) -> Prediction:
    """The mean of what the network predicts for the frames and for the same frames as turned cameras see them, turned back.

    A camera's turn about its axis by `turns_deg` turns the picture and nothing else, so what changes is the network's error:
    the mean has less of it, and trembles less, at as many times the cost (test-time augmentation; Krizhevsky et al. 2012).
    Rotations are averaged as quaternions (Gramkow 2001, "On averaging rotations"). Raises ValueError for no angle.
    """
    if not len(turns_deg):
        raise ValueError("turns_deg must hold at least one angle, got none; 0 is the frame as it is")
    seen = []
    for degrees in turns_deg:
        angle = torch.full_like(crops.centre_mm[:, 0], math.radians(degrees))
        other, R = turned(crops, angle)
        seen.append(_turned_by(predict(net, other), R.mT))
    middle = seen[0].rotations
    nearest = [
        p.rotations * (p.rotations * middle).sum(-1, keepdim=True).sign() for p in seen
    ]  # q and -q are one rotation
    mean = lambda values: None if values[0] is None else torch.stack(values).mean(0)  # noqa: E731
    rotations = torch.nn.functional.normalize(mean(nearest), dim=-1)
    return Prediction(rotations, mean([p.offset for p in seen]), mean([p.points for p in seen]))


def _turned_by(prediction: Prediction, R: Tensor) -> Prediction:
    """The same hands, turned with their cameras by R [B, 3, 3]."""
    move = lambda points: None if points is None else rotated(points, R)  # noqa: E731
    return Prediction(turn_hand(prediction.rotations, R), move(prediction.offset), move(prediction.points))
