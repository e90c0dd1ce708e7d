"""What some frames of a folder tell before all are predicted: which hand it is, its shape, and what to doubt."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor

from ..frames.crops import evenly, in_mirror
from ..frames.frame import Frame
from ..hand.joints import FINGERS
from ..hand.rig import HandRig
from ..hand.shape import WHOLE, HandShape, lengths_mm
from ..network.known import FRAMES, knows_many, told
from ..network.model import PoseModel
from .check import likeness
from .doubt import Evidence, KnownSide, doubts, gather
from .inputs import file_doubts
from .side import LOOKS, read_as
from .stream import crops_of, some_frames


@dataclass(frozen=True)
class FirstLook:
    """What is known of a folder's hand."""

    side: str  # as which the frames are to be read
    doubts: tuple[str, ...]  # what to tell the user
    frames: int  # in which a hand was found
    # `HandShape.numbers` that the network sees; None where it is not to be told
    shape: Float[Tensor, "8"] | None = None
    evidence: Evidence | None = None  # what the doubts rest on
    length_mm: float | None = None  # from wrist to middle fingertip, of the shape

    def told(self, net: PoseModel, hand: HandRig) -> tuple[PoseModel, HandRig]:
        """The model that knows the shape."""
        return told(net, hand, self.shape)

    def record(self) -> dict:
        """Plain JSON."""
        shape = (
            None if self.shape is None else {"frames": self.frames, "length_mm": self.length_mm, **factors(self.shape)}
        )
        return {"side": self.side, "doubts": self.doubts, "estimated_shape": shape}

    def __str__(self) -> str:
        if self.shape is None:
            return f"a {self.side} hand"
        seen = f"its shape: estimated from {self.frames} frames, {self.length_mm:.0f} mm from wrist to middle fingertip"
        return f"a {self.side} hand ({seen}; where a ruler says otherwise, --unit-mm or --camera is wrong)"


def factors(shape: Float[Tensor, "8"]) -> dict[str, float]:
    """The numbers of a `HandShape` as factors of the template, by name."""
    own = HandShape.of_numbers(shape.exp())
    lengths = dict(zip(FINGERS, own.log_length.tolist(), strict=True))
    whole = {"size": own.log_scale, "thickness of fingers": own.log_thickness, "girth of wrist": own.log_wrist}
    named = {name: part.item() for name, part in whole.items()} | {
        f"length of {name}": x for name, x in lengths.items()
    }
    return {name: round(value, 3) for name, value in named.items()}


def first_look(
    frames: Sequence[Frame], net: PoseModel, hand: HandRig, given: str | None = None, model: str | None = None
) -> FirstLook:
    """Look at some frames of a folder.

    Args:
        frames: of one hand.
        net, hand: the model that is to predict.
        given: the side as the user says it, if at all.
        model: the side of which a personal model is; None for the base model.

    Raises:
        ValueError: no file can be used; the message names one.
    """
    looked = some_frames(frames, FRAMES if knows_many(net) and net.known is None else LOOKS)
    crops = crops_of(looked)
    seen, files = (
        gather(net, hand, looked, crops, KnownSide(read_as(frames), given, model)),
        tuple(file_doubts(frames, looked)),
    )
    if crops is None:
        return FirstLook(seen.side, (*doubts(seen), *files), 0, None, seen)
    some = crops[evenly(len(crops), LOOKS)]
    alike = likeness(net, hand, some if seen.side == read_as(frames) else in_mirror(some)).median().item()
    seen = replace(seen, likeness=alike, found=len(crops) / len(looked))
    length_mm = None if seen.shape is None else lengths_mm(told(net, hand, seen.shape)[1])[WHOLE]
    return FirstLook(seen.side, (*doubts(seen), *files), len(crops), seen.shape, seen, length_mm)
