"""How far to trust a prediction, without any label."""

import torch
from torch import Tensor

from ..frames.crops import Crops
from ..hand.rig import HandRig
from ..method import predicted_joints, voted_joints
from ..network.posenet import Prediction
from .explain import surprise

# where confidence has fallen to exp(-1/2) = 0.6, the other measure being perfect
UNSURE_SURPRISE, UNSURE_MM = 0.15, 15.0
USUAL_AREA = 0.12  # share of the crop that a hand covers


@torch.no_grad()
def confidence(net_prediction: Prediction, hand: HandRig, crops: Crops) -> Tensor:
    """How far to trust each prediction, [B] in (0, 1], without any label.

    It falls with how badly the posed hand explains the frame (`explain.surprise`), and with the mean distance between the
    joints of the posed hand and the points that the network votes for, which know nothing of bones: where the two
    disagree, one is wrong. A network that does not vote is judged by the former alone. Both count more where less of the
    hand is seen: a fist from the side explains itself with few pixels. (That form was found on simulated users.)
    """
    doubt = surprise(hand, crops, net_prediction) / UNSURE_SURPRISE
    if net_prediction.points is not None:
        doubt = doubt + apart_mm(net_prediction, hand, crops) / UNSURE_MM
    area = (crops.image > 0).float().mean((1, 2)).clamp_min(0.01)
    return torch.exp(-doubt * USUAL_AREA / area / 2).clamp_min(1e-6)


def apart_mm(prediction: Prediction, hand: HandRig, crops: Crops) -> Tensor:
    """Mean distance [B] between the joints of the posed hand and the points that the network votes for."""
    return (predicted_joints(prediction, hand, crops) - voted_joints(prediction, crops)).norm(dim=-1).mean(1)
