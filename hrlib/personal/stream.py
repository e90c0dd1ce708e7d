"""Frames of a folder, a few at a time."""

from collections.abc import Iterator, Sequence

from ..frames.crops import Crops, concatenate
from ..frames.find import crop_found
from ..frames.frame import Frame
from ..frames.segment import check_mask
from ..refine.explain import evenly

CHUNK = 64  # frames in memory at a time; within them, neighbours help to find the hand


def chunks(frames: Sequence[Frame], size: int = CHUNK) -> Iterator[list[Frame]]:
    """The frames in their order, `size` at a time."""
    for first in range(0, len(frames), size):
        yield [frames[i] for i in range(first, min(first + size, len(frames)))]


def some_crops(frames: Sequence[Frame], count: int) -> Crops | None:
    """The crops of at most `count` frames, evenly taken; None if none of them has something of a hand's size."""
    # one by one: frames that are far apart in time say nothing of where the hand is in the others
    found = (crop_chunk([frames[i]])[0] for i in evenly(len(frames), count).tolist())
    crops = [crop for crop in found if crop is not None]
    return concatenate(crops) if crops else None


def crop_chunk(frames: list[Frame]) -> tuple[Crops | None, list[Frame], dict[str, str]]:
    """Segment and crop frames: the crops, the frames they belong to, and {name: reason} of the others."""
    # the masks of a folder may be anything; `crop_found` trusts them
    masked = {f.name: check_mask(f.depth_mm, f.camera, f.mask).reason for f in frames if f.mask is not None}
    unusable = {name: reason for name, reason in masked.items() if reason}
    crops, kept, left_out = crop_found([f for f in frames if f.name not in unusable], progress=False)
    return crops, kept, unusable | left_out
