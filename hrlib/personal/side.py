"""Which hand a folder's frames show: both are tried, how well the model explains each counts, and what the finder says."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ..frames.crops import Crops, evenly
from ..frames.find import LEAST_HAND
from ..frames.finder import find_hand
from ..frames.frame import Frame
from ..frames.turn import in_mirror, resized
from ..hand.rig import HandRig
from ..network.model import PoseModel
from ..network.predict import predict
from ..refine.confidence import confidence
from .size import apparent_size
from .stream import crops_of, some_frames

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
    def sure(self) -> bool:
        """Whether the difference is more than chance."""
        return abs(self._for_right) > SURE

    def __str__(self) -> str:
        text = f"confidence {self.right:.2f} as right hands, {self.left:.2f} as left ones"
        return text if self.finder is None else f"{text}; finder: right with {self.finder:.0%}"

    def doubt(self, taken_for: str) -> str | None:
        """A warning that names what the frames say, if that is another hand than they are taken for."""
        if self.side == taken_for or not self.sure:
            return None
        return f"the frames show a {self.side} hand ({self}), and are taken for a {taken_for} one: see --side"


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


def find_side(frames: Sequence[Frame], net: PoseModel, hand: HandRig) -> Sides | None:
    """What some of the frames say of the side; None if no hand is found in them.

    Args:
        frames: of one hand.
        net, hand: a model.

    Raises:
        ValueError: no file can be used; the message names one.
    """
    crops = crops_of(some_frames(frames, LOOKS))
    if crops is None:
        return None
    sides = compare_sides(net, hand, crops, read_as(frames), apparent_size(net, hand, crops))
    return replace(sides, finder=finder_right(frames))


def finder_right(frames: Sequence[Frame]) -> float | None:
    """The mean probability that some of the frames show a right hand, by the finder, which knows both; None without a hand."""
    found = []
    for frame in some_frames(frames, LOOKS):
        seen = find_hand(frame.depth_mm, frame.camera) if frame.mask is None else None
        if seen is not None and seen.hand >= LEAST_HAND:
            found.append(seen.right)
    right = sum(found) / len(found) if found else None
    return right if right is None or read_as(frames) == "right" else 1 - right


def settle_side(given: str | None, model: str | None, sides: Sides | None) -> tuple[str, tuple[str, ...]]:
    """The side as which frames are read, and warnings: the user's word comes first, then the model's, then the frames'.

    Args:
        given: what the user says, if anything.
        model: of which hand a personal model is; None for the base model, which knows both.
        sides: what the frames say, if they show a hand.
    """
    side = given or model or (sides.side if sides else "right")
    return side, tuple(_warnings(side, given, model, sides))


def _warnings(side: str, given: str | None, model: str | None, sides: Sides | None) -> Iterator[str]:
    if given and model and given != model:
        yield f"the model is of a {model} hand, and --side {given} overrules it"
    if sides and (doubt := sides.doubt(side)):
        yield doubt
    if sides and not (given or model or sides.sure):
        yield f"the frames tell the side badly ({sides}); they are taken for a {side} hand, and --side can say it"


def read_as(frames: Sequence[Frame]) -> str:
    """The hand as which a folder's frames are read; frames in a list are right hands."""
    return getattr(frames, "side", "right")
