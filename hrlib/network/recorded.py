"""A PoseNet that stays as it is, for one frame after the other."""

import copy
from contextlib import suppress

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..support.onnx_files import session
from .model import PoseModel
from .onnx import IMAGE, to_onnx
from .posenet import PoseNet, Prediction

PARTS = ("rotations", "offset", "points", "shape")


class Recorded(nn.Module):
    """What a PoseNet does with images in eval mode, run by ONNX Runtime: on a single image its numbers, in half the time.

    What is left out is Python's way through the layers, and bringing weights into the order in which kernels read them.
    Recording takes a second. What the network learns or is told afterwards does not change it.
    """

    def __init__(self, net: PoseNet):
        super().__init__()
        parts = _Parts(net)
        self.names = parts.names
        self._session = session(to_onnx(parts.eval(), IMAGE, self.names), torch.get_num_threads())

    @torch.no_grad()
    def forward(self, image: Float[Tensor, "B 120 120"]) -> Prediction:
        """See `PoseNet.forward`."""
        found = self._session.run(None, {"image": image.numpy()})
        return Prediction(**dict.fromkeys(PARTS) | dict(zip(self.names, map(torch.from_numpy, found), strict=True)))


class _Parts(nn.Module):
    """A copy of a network whose prediction is a tuple."""

    def __init__(self, net: PoseNet):
        super().__init__()
        self.net = copy.deepcopy(net)
        has = (True, net.offset is not None, net.voted, net.shape is not None)
        self.names = [name for name, there in zip(PARTS, has, strict=True) if there]

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        prediction = self.net(image)
        return tuple(getattr(prediction, name) for name in self.names)


def recorded(net: PoseModel) -> PoseModel:
    """`Recorded`, where the network is a PoseNet on the CPU in float32 and this PyTorch exports it; else the network itself."""
    if type(net) is PoseNet and net.theta.weight.device.type == "cpu" and net.theta.weight.dtype == torch.float32:
        with suppress(RuntimeError):
            return Recorded(net)
    return net
