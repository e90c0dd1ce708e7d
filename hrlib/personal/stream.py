"""Frames of a folder, a few at a time."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from ..frames.crops import Crops, concatenate, evenly
from ..frames.find import crop_found
from ..frames.frame import Frame
from ..frames.segment import check_mask
from ..support.parallel import in_processes

CHUNK = 64  # frames in memory at a time; within them, neighbours help to find the hand
MANY = 200  # frames from which on a second process is worth the seconds that its start takes


def over_chunks(function: Callable, frames: Sequence[Frame], processes: int = 1, size: int = CHUNK) -> Iterator:
    """function(frames) of each `size` frames in their order; they are read when it is their turn, and forgotten.

    Args:
        function: takes a list of frames; with its results, it is pickled for other processes.
        frames: a folder, whose frames are read by the process that they are for.
        processes: that share a folder of `MANY` frames or more; see `support.parallel.in_processes`.
        size: of a chunk.
    """
    shared = processes if len(frames) >= MANY else 1
    yield from in_processes(partial(_of_chunk, function, frames, size), range(0, len(frames), size), shared)


def _of_chunk(function: Callable, frames: Sequence[Frame], size: int, first: int):
    return function([frames[i] for i in range(first, min(first + size, len(frames)))])


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
