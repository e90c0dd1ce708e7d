"""A recording: the depth images that a recorder left, and what its own files tell of their camera."""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from ...support.decoding import read_pixels
from ...support.files import read_whole
from ..camera import Camera
from ..listing import Place

MOST_TEXT_BYTES = 2**26  # of a recorder's description: lists of frames and their poses


@dataclass(frozen=True)
class Recording:
    """What a recorder left."""

    kind: str  # for the user, as "a TUM RGB-D folder"
    places: Mapping[str, Place]  # of the frames, by their names
    camera: Camera | None = None  # of all frames; None where the files do not tell
    unit_mm: float | None = None  # millimetres a count; None where the files do not tell
    told_by: str = ""  # what tells the camera
    # the counts of a frame, of (path, page); a function of a module, which other processes can be told of
    read: Callable[[Path, int | None], Shaped[np.ndarray, "H W *channels"]] = read_pixels

    def __str__(self) -> str:
        count = "1 frame" if len(self.places) == 1 else f"{len(self.places):,} frames"
        unit = "unit not told" if self.unit_mm is None else f"{self.unit_mm:g} mm a count"
        if self.camera is None:
            return f"{count} of {self.kind}, {unit}; its files do not tell the camera"
        numbers = " ".join(f"{number:.7g}" for number in vars(self.camera).values())
        return f"{count} of {self.kind}, {unit}, camera {numbers} from {self.told_by}"


def read_text(path: Path) -> str:
    """A text file of a recorder. Raises OSError, and ValueError for what is too large or no text."""
    try:
        return read_whole(path, MOST_TEXT_BYTES).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is no text ({error}); copy it again") from error


def as_object(text: str | bytes, path: Path) -> dict:
    """A JSON object. Raises ValueError that names `path`."""
    try:
        described = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: is no JSON ({error}); copy it again, or remove it") from error
    if not isinstance(described, dict):
        raise ValueError(f"{path}: wanted a JSON object, got a {type(described).__name__}; copy it again, or remove it")
    return described


def camera_of(numbers: Sequence[float], path: Path) -> Camera:
    """The camera of fx, fy, cx, cy as they stand in a file. Raises ValueError that names `path`."""
    try:
        return Camera(*map(float, numbers))
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path}: {error}; mend it, or say --camera FX FY CX CY and --unit-mm") from error


def unit_of(number: float, path: Path) -> float:
    """The unit of depth that a file tells. Raises ValueError that names `path`."""
    try:
        if 0 < float(number) < math.inf:
            return float(number)
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError(
        f"{path}: the unit of depth must be a number > 0, got {number!r}; mend it, or take it out and say --unit-mm"
    )


def numbers_in(text: str) -> list[float]:
    """All numbers of a text, in their order."""
    return [float(word) for word in re.findall(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?", text)]


def of_matrix(text: str, path: Path) -> Camera:
    """The camera of an intrinsic matrix 3x3 or 4x4 in a text, row after row. Raises ValueError that names `path`."""
    numbers = numbers_in(text)
    side = {9: 3, 16: 4}.get(len(numbers))
    if side is None:
        raise ValueError(f"{path}: wanted a matrix of 3x3 or 4x4 numbers, got {len(numbers)} numbers; copy it again")
    return camera_of((numbers[0], numbers[side + 1], numbers[2], numbers[side + 2]), path)
