"""How far to trust a prediction, without any label."""

import torch
from jaxtyping import Float
from torch import Tensor

from ..frames.crops import Crops
from ..hand.rig import HandRig
from ..method import predicted_joints, voted_joints
from ..network.posenet import Prediction
from .explain import surprise
from .gauss_newton import surprise_of

# each alone lowers the confidence in a hand of the usual area to exp(-1/2) = 0.6
UNSURE_SURPRISE = 0.15
UNSURE_MM = 15.0
USUAL_AREA = 0.12  # share of the crop's pixels that a hand covers
LEAST_AREA, LEAST = 0.01, 1e-6  # confidence stays above 0, and finite in an empty crop


@torch.no_grad()
def confidence(
    prediction: Prediction, hand: HandRig, crops: Crops, surprised: Float[Tensor, " B"] | None = None
) -> Float[Tensor, " B"]:
    """How far to trust each prediction, in (0, 1].

    It falls with `explain.surprise` of the posed hand, and with the distance between its joints and the points that the
    network votes for, which know nothing of bones: where the two disagree, one is wrong. A network that does not vote is
    judged by the former alone. Both count more where less of the hand is seen: a fist from the side explains itself with
    few pixels. This form was found on simulated users.

    surprised: `surprise` of the prediction, where it is known already: `Explained.loss` of a fit.
    """
    if surprised is None:
        explained_by = surprise_of if prediction.rotations.device.type == "cpu" else surprise
        surprised = explained_by(hand, crops, prediction)
    doubt = surprised / UNSURE_SURPRISE
    if prediction.points is not None:
        doubt = doubt + apart_mm(prediction, hand, crops) / UNSURE_MM
    area = (crops.image > 0).float().mean((1, 2)).clamp_min(LEAST_AREA)
    return torch.exp(-doubt * USUAL_AREA / area / 2).clamp_min(LEAST)


def apart_mm(prediction: Prediction, hand: HandRig, crops: Crops) -> Float[Tensor, " B"]:
    """Mean distance between the joints of the posed hand and the points that the network votes for."""
    return (predicted_joints(prediction, hand, crops) - voted_joints(prediction, crops)).norm(dim=-1).mean(1)
