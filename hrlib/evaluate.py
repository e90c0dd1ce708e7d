"""How far off: joints in millimetres, synthesized images in squared depth."""

import torch
from torch import Tensor

from .crop import Crops
from .hand import HandRig
from .kinematics import forward_kinematics, joint_positions
from .network import PoseNet, Prediction
from .pipeline import wrist_position


def joint_error_mm(joints_mm: Tensor, true_mm: Tensor) -> Tensor:
    """Mean Euclidean distance over the joints, [B, J, 3] x 2 -> [B] mm. Raises ValueError for shapes that differ."""
    if joints_mm.shape != true_mm.shape or joints_mm.shape[-1] != 3:
        raise ValueError(f"joints must be two times [B, J, 3], got {list(joints_mm.shape)} and {list(true_mm.shape)}")
    return (joints_mm - true_mm).norm(dim=-1).mean(-1)


def image_mse(rendered: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference of the synthesized images, [B, H, W] x 2 -> [B] (Fig. 7's measure)."""
    return (rendered - target).square().mean((-2, -1))


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


def predict_joints(net: PoseNet, hand: HandRig, crops: Crops) -> Tensor:
    """The 21 points [B, 21, 3] mm in the camera frame that the network predicts, posed with `hand`."""
    prediction = predict(net, crops)
    wrist_mm = wrist_position(prediction, hand, crops)
    return joint_positions(hand, forward_kinematics(hand, prediction.rotations, wrist_mm))
