"""A network's predictions for any number of crops."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from ..frames.crops import Crops, rotated, turned
from ..hand.kinematics import turn_hand
from .model import PoseModel, ask
from .posenet import Prediction

BATCH = 200  # crops at a time
TURNS_DEG = (0.0, 15.0, -15.0, 30.0, -30.0)  # seven add little; three have most of the gain


@torch.no_grad()
def predict(net: PoseModel, crops: Crops, batch: int = BATCH, shape: Float[Tensor, "8"] | None = None) -> Prediction:
    """The network's predictions, `batch` crops at a time. Dropout is off; the network stays as it is.

    It has learned raised hands. So it sees each crop turned upright (`Crops.upright`), and what it says is turned back.

    Args:
        net: the network.
        crops: what it sees.
        batch: how many at a time.
        shape: `HandShape.numbers` of the one hand that all crops show; None: what the network knows (`PoseNet.tell`).

    Raises:
        ValueError: no crops, a shape for a network that cannot be told any, or what `ask` refuses.
    """
    return _as_turned(net, crops, crops.upright, batch, shape)


def _as_turned(net: PoseModel, crops: Crops, angle: Float[Tensor, " B"], batch: int, shape) -> Prediction:
    """What the network says of crops that are turned by `angle` (rad), turned back."""
    if not len(crops):
        raise ValueError("crops must hold at least one frame, got none")
    image, R = crops.image, None
    if angle.any():
        other, R = turned(crops, angle)
        image = other.image
    training = net.training
    net.eval()
    told = None if shape is None else shape.to(image)[None]
    parts = [ask(net, image[i : i + batch], told) for i in range(0, len(image), batch)]
    net.train(training)
    prediction = _combined(parts, torch.cat)
    if R is None:
        return prediction
    places = (None if at is None else rotated(at, R.mT) for at in (prediction.offset, prediction.points))
    return Prediction(turn_hand(prediction.rotations, R.mT), *places, prediction.shape)


@torch.no_grad()
def predict_turned(net: PoseModel, crops: Crops, turns_deg: Sequence[float] = TURNS_DEG) -> Prediction:
    """The mean of the predictions for the frames as turned cameras see them, turned back (test-time augmentation).

    A camera's turn about its axis turns the picture and nothing else, so what changes is the network's error. The mean has
    less of it and trembles less, at several times the cost. Quaternions are averaged (Gramkow 2001, "On averaging rotations").
    turns_deg: angles of the cameras; 0 is the frame as it is. Raises ValueError for no angle.
    """
    if not len(turns_deg):
        raise ValueError("turns_deg must hold at least one angle, got none; 0 is the frame as it is")
    seen = []
    for degrees in turns_deg:
        prediction = _as_turned(net, crops, crops.upright + math.radians(degrees), BATCH, None)
        q = prediction.rotations
        q = q * (q * (seen[0].rotations if seen else q)).sum(-1, keepdim=True).sign()  # q and -q are the same rotation
        seen.append(replace(prediction, rotations=q))
    mean = _combined(seen, lambda parts: torch.stack(parts).mean(0))
    return replace(mean, rotations=normalize(mean.rotations, dim=-1))


def _combined(predictions: list[Prediction], how: Callable[[tuple[Tensor, ...]], Tensor]) -> Prediction:
    """One prediction of several: `how` takes rotations, offsets, points, shapes in turn; what the network lacks stays None."""
    columns = zip(*((p.rotations, p.offset, p.points, p.shape) for p in predictions), strict=True)
    return Prediction(*(None if column[0] is None else how(column) for column in columns))
