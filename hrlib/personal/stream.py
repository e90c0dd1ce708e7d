"""Frames of a folder, a few at a time."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from ..frames.crops import Crops, concatenate, evenly
from ..frames.find import crop_found, crop_frame
from ..frames.frame import Frame
from ..frames.segment import check_mask
from ..support.files import printable
from ..support.parallel import in_processes

CHUNK = 64  # frames in memory at a time; within them, neighbours help to find the hand
MANY = 200  # frames from which on a second process is worth the seconds that its start takes


def over_chunks(
    function: Callable, frames: Sequence[Frame], processes: int = 1, size: int = CHUNK
) -> Iterator[tuple[Any, dict[str, str]]]:
    """function(frames) of each `size` frames in their order, and {name: reason} of those that cannot be read.

    Frames are read when it is their turn, and forgotten.

    Args:
        function: takes a list of frames; with its results, it is pickled for other processes.
        frames: a folder, whose frames are read by the process that they are for.
        processes: that share a folder of `MANY` frames or more; see `support.parallel.in_processes`.
        size: of a chunk.
    """
    shared = processes if len(frames) >= MANY else 1
    yield from in_processes(partial(_of_chunk, function, frames, size), range(0, len(frames), size), shared)


def _of_chunk(function: Callable, frames: Sequence[Frame], size: int, first: int):
    readable, unreadable = _read_frames(frames, range(first, min(first + size, len(frames))))
    return function(readable), unreadable


def _read_frames(frames: Sequence[Frame], indices: Iterable[int]) -> tuple[list[Frame], dict[str, str]]:
    """Some of the frames, and {name: reason} of those whose file is damaged or gone: one never costs the others."""
    readable, unreadable = [], {}
    for i in indices:
        try:
            readable.append(frames[i])
        except (ValueError, OSError) as error:
            unreadable[printable(frames.names[i])] = printable(error)
    return readable, unreadable


def some_frames(frames: Sequence[Frame], count: int) -> list[Frame]:
    """At most `count` frames, evenly taken, less those that cannot be read. Raises ValueError if that are all."""
    readable, unreadable = _read_frames(frames, evenly(len(frames), count).tolist())
    if not readable:
        raise ValueError(next(iter(unreadable.values())))
    return readable


def crops_of(frames: Iterable[Frame]) -> Crops | None:
    """The crops of some frames of a folder; None if none of them has something of a hand's size."""
    usable, _ = _with_usable_masks(list(frames))
    # each alone: frames that are far apart in time say nothing of where the hand is in the others
    crops = [crop for crop, _ in map(crop_frame, usable) if crop is not None]
    return concatenate(crops) if crops else None


def crop_chunk(frames: list[Frame]) -> tuple[Crops | None, list[Frame], dict[str, str]]:
    """Segment and crop frames: the crops, the frames they belong to, and {name: reason} of the others."""
    usable, unusable = _with_usable_masks(frames)
    crops, kept, left_out = crop_found(usable, progress=False)
    return crops, kept, unusable | left_out


def _with_usable_masks(frames: list[Frame]) -> tuple[list[Frame], dict[str, str]]:
    """The frames less those with unusable masks, and {name: reason} of these; cropping trusts masks, which may be anything."""
    masked = {f.name: check_mask(f.depth_mm, f.camera, f.mask).reason for f in frames if f.mask is not None}
    unusable = {name: reason for name, reason in masked.items() if reason}
    return [f for f in frames if f.name not in unusable], unusable
