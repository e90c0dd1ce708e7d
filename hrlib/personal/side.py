"""Which hand a folder's frames show: both are tried, how well the model explains each counts, and what the finder says."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..frames.crops import Crops, evenly, in_mirror, resized
from ..frames.frame import Frame
from ..hand.rig import HandRig
from ..network.model import PoseModel
from ..network.predict import predict
from ..refine.confidence import confidence

LOOKS = 20  # frames, evenly taken, tell the side of a folder
# The two hands' confidences in a frame differ by an amount that scatters by this much from frame to frame (users A-D)
SCATTER = 0.1
FINDER_SCATTER = 0.5  # the same of the finder's probability of a right hand: it is all or nothing where it is sure
SURE = 2.0  # standard errors: a smaller difference of the two hands may be chance
OTHER = {"right": "left", "left": "right"}


@dataclass(frozen=True)
class Sides:
    """How well some frames are explained as right hands and as left hands."""

    frames: int  # that were compared
    right: float  # mean confidence of the predictions
    left: float  # the same, of the frames in a mirror
    finder: float | None = None  # mean probability of a right hand, by the finder; None where it was not asked

    @property
    def _for_right(self) -> float:
        """What speaks for a right hand, in standard errors; below 0 for a left one."""
        finder = 0.0 if self.finder is None else (self.finder - 0.5) / FINDER_SCATTER
        return ((self.right - self.left) / SCATTER + finder) * self.frames**0.5

    @property
    def side(self) -> str:
        """The hand that the frames show, "right" or "left"."""
        return "right" if self._for_right >= 0 else "left"

    @property
    def strength(self) -> float:
        """How far apart the two hands are, in standard errors."""
        return abs(self._for_right)

    @property
    def sure(self) -> bool:
        """Whether the difference is more than chance."""
        return self.strength > SURE

    def __str__(self) -> str:
        text = f"confidence {self.right:.2f} as right hands, {self.left:.2f} as left ones"
        return text if self.finder is None else f"{text}; finder: right with {self.finder:.0%}"


def compare_sides(net: PoseModel, hand: HandRig, crops: Crops, read_as: str = "right", size: float = 1.0) -> Sides:
    """Compare both hands on at most `LOOKS` of the crops.

    Args:
        net, hand: a model, which knows right hands.
        crops: of frames that were read as hands of the side `read_as`.
        read_as: "right" or "left".
        size: `size.apparent_size` of the hand: neither side explains a giant's.
    """
    crops = resized(crops[evenly(len(crops), LOOKS)], 1 / size)
    both = crops, in_mirror(crops)
    as_read, as_other = (confidence(predict(net, seen), hand, seen).mean().item() for seen in both)
    return Sides(len(crops), **{read_as: as_read, OTHER[read_as]: as_other})


def settle_side(given: str | None, model: str | None, sides: Sides | None) -> str:
    """The side as which frames are read: the user's word comes first, then the model's, then the frames'.

    Args:
        given: what the user says, if anything.
        model: of which hand a personal model is; None for the base model, which knows both.
        sides: what the frames say, if they show a hand.
    """
    return given or model or (sides.side if sides else "right")


def read_as(frames: Sequence[Frame]) -> str:
    """The hand as which a folder's frames are read; frames in a list are right hands."""
    return getattr(frames, "side", "right")
