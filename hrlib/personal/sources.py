"""Where live depth images come from: a RealSense camera, or a folder that is played."""

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from ..frames import realsense
from ..frames.camera import Camera
from ..frames.frame import Frame
from ..support.files import printable
from .folder import UserFolder


@dataclass(frozen=True)
class Source:
    """Depth images of one camera, as they come."""

    images: Iterable[Float[np.ndarray, "H W"]]  # mm
    camera: Camera | tuple[float, float]
    unit_mm: float  # of one count of the camera


@contextmanager
def opened(
    folder: Path | None = None,
    camera: tuple[float, ...] | None = None,
    unit_mm: float | None = None,
    rate: int = 30,
    repeat: bool = False,
) -> Iterator[Source]:
    """A folder's images at `rate` images a second, or, without a folder, those of the RealSense camera that is plugged in.

    Args:
        folder: of depth images.
        camera, unit_mm: of the folder, as `UserFolder` has them.
        rate: images a second.
        repeat: the folder's, again and again.

    Raises:
        ValueError, OSError: there are no such images; the message names the option to change.
    """
    if not rate > 0:
        raise ValueError(f"--rate must be more than 0, got {rate}")
    if folder is None:
        if camera is not None or unit_mm is not None or repeat:
            raise ValueError("--camera, --unit-mm and --repeat are of a folder's images: name it, or leave them out")
        with realsense.opened(rate=rate) as (pipeline, numbers, unit):
            yield Source(_measured(pipeline, unit), Camera(**numbers), unit)
        return
    frames = UserFolder(folder, camera, unit_mm).frames()
    yield Source(_played(frames, rate, repeat), frames.camera, frames.unit_mm)


def _measured(pipeline: object, unit_mm: float) -> Iterator[np.ndarray]:
    while True:
        yield realsense.depth_counts(pipeline).astype(np.float32) * np.float32(unit_mm)


def _played(frames: Sequence[Frame], rate: int, repeat: bool) -> Iterator[np.ndarray]:
    """Each image when it is its turn; where reading and tracking take longer, as soon as they are done.

    One that cannot be read is told and left out, as `hrlib predict` does; the error of the last is raised if none can be.
    """
    due, left_out = time.perf_counter(), set()
    while True:
        for number in range(len(frames)):
            if number in left_out:
                continue
            try:
                image = frames[number].depth_mm
            except (ValueError, OSError) as error:
                left_out.add(number)
                if len(left_out) == len(frames):
                    raise
                print(f"warning: left out: {printable(error)}", file=sys.stderr)
                continue
            time.sleep(max(0.0, due - time.perf_counter()))
            due = max(due + 1 / rate, time.perf_counter())
            yield image
        if not repeat:
            return
