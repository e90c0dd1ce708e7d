"""The user's folder of depth images, as the command line and notebooks name it. Imports nothing heavy: help is instant."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

if TYPE_CHECKING:
    from ..frames.frame import Frame


def camera_as_one_word(words: Sequence[str]) -> list[str]:
    """The words of a command, with the numbers behind --camera joined by commas: what follows them may be the folder.

    What follows a single number is joined to it, too, and refused with it if it is none.
    """
    joined: list[str] = []
    for word in words:
        behind = joined[-2:-1] == ["--camera"] and _is_number(joined[-1].rpartition(",")[2])
        if behind and (_is_number(word) or ("," not in joined[-1] and not word.startswith("-"))):
            joined[-1] += f",{word}"
        else:
            joined.append(word)
    return joined


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _camera_numbers(words: list[str]) -> tuple[float, ...]:
    from ..frames.intrinsics import FORMS, camera_numbers, read_camera

    (word,) = words
    try:
        given = [float(number) for number in word.replace(",", " ").split()]
    except ValueError:
        try:
            return read_camera(word)
        except OSError as error:
            raise ValueError(f"wanted {FORMS}, or a file with them; {word}: {error.strerror}") from error
    return camera_numbers(given)


CameraNumbers = Annotated[
    tuple[float, ...] | None,  # None in here: a message would name the parts of a union, not what was wanted
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,  # see `camera_as_one_word`
        metavar="FX FY [CX CY]|FILE",
        instance_from_str=_camera_numbers,
        is_instance=lambda value: value is None or isinstance(value, tuple),
        str_from_instance=lambda value: ["None" if value is None else ",".join(map(str, value))],
    ),
]


@dataclass(frozen=True)
class UserFolder:
    """Depth images of one hand, and what is known of their camera."""  # the comments of the fields are help

    # depth images of one hand in the order they were taken: PNG, TIFF or PGM of 16 bits and more, EXR, .npy, .npz, subfolders
    # included; or one file with many of them; or what a recorder left, which tells its camera (docs/recorders.md).
    folder: tyro.conf.Positional[Path]
    # focal lengths and principal point in pixels; without the latter, each image's centre. Or a file that has them: JSON or
    # YAML of other libraries, the matrix as text or .npy. By default as the recorder says.
    camera: CameraNumbers = None
    # millimetres of one count of the files (1 for Kinect, 0.125 for Intel SR305, 1000 for metres). By default as the recorder
    # says.
    unit_mm: float | None = None
    # only images whose name matches this pattern, e.g. "depth_*.png".
    files: str = "*"
    # folder of images of the same names that are bright or not 0 on the hand; then nothing is segmented.
    masks: Path | None = None
    # folder of aligned colour images of the same names, where the hand wears a dark wristband.
    colour: Path | None = None
    # how colour images pack depth, if they do: nyu (B + 256 G), rg (R + 256 G), gr, gb, br, rb, rgb24, bgr24 (from the lowest
    # byte).
    encoding: Literal["depth", "nyu", "rg", "gr", "gb", "br", "rb", "rgb24", "bgr24"] = "depth"

    def check_apart(self, out: Path) -> None:
        """Refuse an output folder among the frames, of which its pictures and arrays would be the next time."""
        frames, results = Path(os.path.realpath(self.folder)), Path(os.path.realpath(out))
        if frames == results or frames in results.parents:
            raise ValueError(f"--out {out} lies in {self.folder}, and would be read as frames; name a folder elsewhere")

    def frames(self, side: str = "right", limit: int | None = None) -> Sequence[Frame]:
        """The frames, each decoded when it is asked for.

        Args:
            side: "left" mirrors each frame, so that a left hand becomes the right hand that the models know.
            limit: only the first so many frames.

        Raises:
            ValueError, FileNotFoundError: there are no such frames; the message names the option to change.
        """
        from ..frames.folder import DepthFolder
        from ..frames.masked import MaskedFolder

        if limit is not None and limit < 1:
            raise ValueError(f"--frames must be at least 1, got {limit}")
        frames = DepthFolder(self.folder, self.camera, self.unit_mm, self.encoding, side)
        if self.unit_mm is None and (frames.recording is None or frames.recording.unit_mm is None):
            raise ValueError(
                f"{self.folder} does not tell its unit: say --unit-mm (1 for Kinect, 1000 for files in metres)"
            )
        companions = [folder.resolve() for folder in (self.masks, self.colour) if folder is not None]

        def wanted(file: Path) -> bool:  # masks may lie below the frames, and are none
            below = any(folder in file.resolve().parents for folder in companions if folder != self.folder.resolve())
            return file.match(self.files) and not below

        frames.names = [name for name in frames.names if wanted(frames.places[name].path)][:limit]
        if not frames.names:
            raise ValueError(f"{self.folder} holds no depth image whose name matches {self.files!r}")
        return frames if self.masks is None and self.colour is None else MaskedFolder(frames, self.masks, self.colour)
