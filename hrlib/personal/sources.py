"""Where live depth images come from: a RealSense camera, or a folder that is played."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from itertools import repeat as again
from pathlib import Path

import numpy as np
from jaxtyping import Float

from ..frames import realsense
from ..frames.camera import Camera
from ..frames.frame import Frame
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
    yield Source(_played(chain.from_iterable(again(frames)) if repeat else frames, rate), frames.camera, frames.unit_mm)


def _measured(pipeline: object, unit_mm: float) -> Iterator[np.ndarray]:
    while True:
        yield realsense.depth_counts(pipeline).astype(np.float32) * np.float32(unit_mm)


def _played(frames: Iterable[Frame], rate: int) -> Iterator[np.ndarray]:
    """Each image when it is its turn; where reading and tracking take longer, as soon as they are done."""
    due = time.perf_counter()
    for frame in frames:
        time.sleep(max(0.0, due - time.perf_counter()))
        due = max(due + 1 / rate, time.perf_counter())
        yield frame.depth_mm
