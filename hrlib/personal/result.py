"""What a refinement of a user's frames leaves in memory."""

from dataclasses import dataclass, field
from pathlib import Path

from ..hand.rig import HandRig
from ..refine.state import Refined
from .check import Check
from .track import Tracked


@dataclass(frozen=True)
class PersonalResult:
    """A refinement, and the same frames as seen by the base model and by the refined one."""

    check: Check  # of the frames
    template: HandRig  # the hand that the refinement began with
    refined: Refined  # network, hand, curve and warnings
    before: Tracked  # by the base model and the template
    after: Tracked  # by the refined model and its hand
    training: dict  # how it came about, as `save_refined` keeps it; "side" says which hand it is
    files: dict[str, Path] = field(default_factory=dict)  # name -> what was written
    notes: tuple[str, ...] = ()  # what could not be written, and what to do

    @property
    def side(self) -> str:
        """Which hand the frames show, "right" or "left"."""
        return self.training["side"]
