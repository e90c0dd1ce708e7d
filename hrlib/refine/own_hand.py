"""A user's hand before a network that knows many hands: one shape for all frames, which the network is then told.

Three hands are compared: the template, the hand that the network sees, and the one fitted to the frames. The hand whose
predictions explain held-out frames best is kept.
"""

import copy
from dataclasses import dataclass, replace

from ..frames.crops import Crops, evenly
from ..hand.rig import HandRig
from ..hand.shape import HandShape, shaped
from ..network.known import knows_many, seen_shape
from ..network.model import PoseModel
from ..network.predict import predict
from .explain import ExplainSettings, fit_hand, surprise


@dataclass(frozen=True)
class OwnHand:
    """A hand that may be the user's, and how its predictions explain frames."""

    name: str  # "template", "predicted" or "fitted"
    shape: HandShape | None  # None: the template, and a network that is told nothing
    surprise: float  # mean, in the frames to judge by

    def row(self) -> dict:
        """A row of a refinement's curve."""
        parts = {} if self.shape is None else {name: part.tolist() for name, part in vars(self.shape).items()}
        return {"hand": self.name, "surprise": self.surprise} | parts


def tell(net: PoseModel, shape: HandShape | None) -> None:
    """Tell the network the shape, or to forget it, if it can be told any."""
    if knows_many(net):
        net.tell(None if shape is None else shape.numbers())


def with_hand(net: PoseModel, hand: HandRig, shape: HandShape | None) -> tuple[PoseModel, HandRig]:
    """The network, told the shape if it can be, and the hand of that shape; weights are shared. None is the template.

    Args:
        net: any network.
        hand: the template.
        shape: of the user's hand.
    """
    net = copy.copy(net)
    tell(net, shape)
    return net, hand if shape is None else shaped(hand, shape, name=f"{hand.name}, adapted")


def compare_hands(
    net: PoseModel, hand: HandRig, crops: Crops, judged: Crops, settings: ExplainSettings = ExplainSettings()
) -> list[OwnHand]:
    """The hands that may be the user's, each judged.

    Args:
        net: the base network.
        hand: the template.
        crops: frames to see and fit the hand in.
        judged: frames to judge by, which the shape was not fitted to.
        settings: of the fit.

    Raises:
        ValueError: there are no frames.
    """
    some = crops[evenly(len(crops), settings.shape_frames)]
    shapes, seen, start = {"template": None}, seen_shape(net, crops), None
    if seen is None:
        settings = replace(settings, seen=0.0)  # a network that knows one hand sees its bones in anybody's
    else:
        shapes["predicted"] = start = HandShape.of_numbers(seen)
    guess = predict(with_hand(net, hand, start)[0], some)
    shapes["fitted"] = fit_hand(hand, some, guess, settings, start)
    return [
        OwnHand(name, shape, judge(*with_hand(net, hand, shape), judged, settings)) for name, shape in shapes.items()
    ]


def judge(net: PoseModel, hand: HandRig, crops: Crops, settings: ExplainSettings = ExplainSettings()) -> float:
    """How badly the predictions explain the frames, on average."""
    return surprise(hand, crops, predict(net, crops), settings).mean().item()
