"""The hand's shape, told to a network that knows a population: it is one for all frames of a person."""

import copy

from jaxtyping import Float
from torch import Tensor

from ..frames.crops import Crops, evenly
from ..hand.rig import HandRig
from ..hand.shape import HandShape, shaped
from .model import PoseModel
from .posenet import PoseNet
from .predict import predict

# evenly spread, from which the shape is told; more change it by less than fingers of two people differ
FRAMES = 100


def knows_many(net: PoseModel) -> bool:
    """Whether it knows a population of hands, and can be told which: a PoseNet with `settings.shape`, no other network."""
    return isinstance(net, PoseNet) and net.told is not None


def seen_shape(net: PoseModel, crops: Crops) -> Float[Tensor, "8"] | None:
    """The shape that a network sees in the crops of one person: the median over at most `FRAMES` of them.

    None for a network that knows one hand. Raises ValueError for no crops.
    """
    if not knows_many(net):
        return None
    return predict(net, crops[evenly(len(crops), FRAMES)]).shape.median(0).values


def told(net: PoseModel, hand: HandRig, shape: Float[Tensor, "8"] | None) -> tuple[PoseModel, HandRig]:
    """A copy of the network that knows the shape, and the template `hand` so shaped; without a shape both as they are."""
    if shape is None:
        return net, hand
    shape = shape.to(hand.vertices_mm)
    return copy.copy(net).tell(shape), shaped(hand, HandShape.of_numbers(shape), name=f"{hand.name}, as seen")


def told_template(net: PoseModel) -> PoseModel:
    """The network told that it sees the template's hand, or as it is if it knows one hand already."""
    return net if not knows_many(net) or net.known is not None else copy.copy(net).tell(net.theta.weight.new_zeros(8))


def told_what_it_sees(net: PoseModel, hand: HandRig, crops: Crops) -> tuple[PoseModel, HandRig]:
    """`told` the `seen_shape` of one person's crops. A network that knows one hand, or was told another, stays as it is."""
    return told(net, hand, seen_shape(net, crops) if knows_many(net) and net.known is None else None)
