"""A user's hand before a network that knows many hands: one shape for all frames, which the network is then told.

Three hands are compared: the template, the hand that the network sees, and the one fitted to the frames. The hand whose
predictions explain held-out frames best is kept.
"""

import copy
from dataclasses import dataclass, replace

from ..frames.crops import Crops
from ..hand.rig import HandRig
from ..hand.shape import HandShape, shaped
from ..network.posenet import PoseNet, Prediction
from ..network.predict import predict
from .explain import ExplainSettings, evenly, fit_hand, surprise

SEEN_FRAMES = 100  # at most, whose median is the hand that the network sees
FEWEST_SEEN = 5  # frames: in fewer, what the network sees of a shape is too much of the pose


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


def knows_hands(net: PoseNet) -> bool:
    """Whether the network can be told a hand's shape."""
    return net.told is not None


def told(net: PoseNet, hand: HandRig, shape: HandShape | None) -> tuple[PoseNet, HandRig]:
    """A copy of the network that knows the shape, if it can, and the hand of that shape; None is the template.

    Args:
        net: any network.
        hand: the template.
        shape: of the user's hand.
    """
    net = copy.deepcopy(net)
    if knows_hands(net):
        net.tell(None if shape is None else shape.numbers())
    return net, hand if shape is None else shaped(hand, shape, name=f"{hand.name}, adapted")


def seen_shape(net: PoseNet, crops: Crops) -> HandShape | None:
    """The hand that the network sees in the frames: the median of what it says of at most `SEEN_FRAMES` of them.

    None for a network that knows one hand, or for fewer than `FEWEST_SEEN` frames.
    """
    if not knows_hands(net) or len(crops) < FEWEST_SEEN:
        return None
    crops = crops[evenly(len(crops), SEEN_FRAMES)]
    return median_shape(predict(copy.deepcopy(net).tell(None), crops))


def median_shape(prediction: Prediction) -> HandShape:
    """The median of each number of the predicted shapes."""
    return HandShape.of_numbers(prediction.shape.median(0).values)


def compare_hands(
    net: PoseNet, hand: HandRig, crops: Crops, judged: Crops, settings: ExplainSettings = ExplainSettings()
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
    shapes = {"template": None, "predicted": seen_shape(net, crops)}
    seen = shapes["predicted"]
    start, _ = told(net, hand, seen)
    if seen is None:
        del shapes["predicted"]
        settings = replace(settings, seen=0.0)  # a network that knows one hand sees its bones in anybody's
    shapes["fitted"] = fit_hand(hand, some, predict(start, some), settings, seen)
    return [OwnHand(name, shape, judge(*told(net, hand, shape), judged, settings)) for name, shape in shapes.items()]


def judge(net: PoseNet, hand: HandRig, crops: Crops, settings: ExplainSettings = ExplainSettings()) -> float:
    """How badly the predictions explain the frames, on average."""
    return surprise(hand, crops, predict(net, crops), settings).mean().item()
