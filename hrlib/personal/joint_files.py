"""Joints for other programs, as CSV and JSON, written while the frames stream through."""

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from jaxtyping import Float
from torch import Tensor

from .. import __version__
from ..frames import recordings
from ..hand.joints import POINT_NAMES, POINT_PARENTS
from ..support.decoding import PIXELS
from ..support.files import naming, require_own, whole_files

FRAMES = (*PIXELS, *recordings.FILES)  # endings of what results must not replace
CSV_COLUMNS = ("frame", "joint", "x_mm", "y_mm", "z_mm", "confidence")
JSON_HEAD = {
    "unit": "mm",
    "camera_frame": "x right, y down, z forward",
    "made_by": f"hrlib {__version__}",
    "joints": POINT_NAMES,
    "parents": POINT_PARENTS,
}


@contextmanager
def joint_files(
    csv_path: str | Path | None = None, json_path: str | Path | None = None, facts: Mapping[str, object] | None = None
) -> Iterator["JointWriter"]:
    """A writer of joints to a CSV file, a JSON file, or both:

        with joint_files(csv_path, json_path) as files:
            files.add(names, joints_mm, confidence)

    CSV: a row a point, 21 a frame. JSON: {"unit", "camera_frame", "joints", "parents", "frames": [{"frame", "confidence",
    "joints_mm": 21 x [x, y, z]}], "left_out": {frame: reason}} and `facts`. The files appear when the block ends well, each
    whole; after an error or Ctrl-C the old files are still there.

    Args:
        csv_path, json_path: the files; None writes none.
        facts: plain JSON of all frames, such as their side.

    Raises:
        ValueError, OSError: see `check_joint_files`; or a file cannot be written, and the message names it.
    """
    check_joint_files(csv_path, json_path)
    paths = [path if path is None else Path(path) for path in (csv_path, json_path)]
    wanted = [path for path in paths if path is not None]
    with whole_files(*wanted) as opened:
        writer = JointWriter(*paths, dict(zip(wanted, opened, strict=True)), facts or {})
        yield writer
        writer.finish()


def check_joint_files(csv_path: str | Path | None = None, json_path: str | Path | None = None) -> None:
    """Refuse names where joints would replace something else, before anything takes time; `joint_files` has the arguments.

    Raises:
        ValueError: both are one file, or one may be a frame, or holds something else than joints.
        OSError: one is a folder or device.
    """
    begins = [(csv_path, ",".join(CSV_COLUMNS[:2])), (json_path, json.dumps(JSON_HEAD)[:13])]
    wanted = [(Path(path), begin) for path, begin in begins if path is not None]
    if len({os.path.realpath(path) for path, _ in wanted}) < len(wanted):
        raise ValueError(f"CSV and JSON cannot both go to {wanted[0][0]}; give them two names")
    for path, begin in wanted:
        if path.suffix.lower() in FRAMES:
            raise ValueError(
                f"{path} has the ending of images or recordings, and joints would replace it; end it in .csv, .json"
            )
        require_own(path, begin.encode(), "joints")


class JointWriter:
    """Writes frames to the files that `joint_files` has opened."""

    def __init__(
        self,
        csv_path: Path | None,
        json_path: Path | None,
        files: Mapping[Path, BinaryIO],
        facts: Mapping[str, object],
    ):
        self._csv_path, self._json_path, self._files = csv_path, json_path, files
        self._first, self._left_out = True, {}
        self._write_rows([CSV_COLUMNS])
        self._write(json_path, json.dumps(JSON_HEAD | facts, ensure_ascii=False)[:-1] + ', "frames": [')

    def add(self, names: Sequence[str], joints_mm: Float[Tensor, "B 21 3"], confidence: Float[Tensor, " B"]) -> None:
        """Write the next frames.

        Args:
            names: of the frames.
            joints_mm: mm, camera frame.
            confidence: in [0, 1].
        """
        if tuple(joints_mm.shape) != (len(names), len(POINT_NAMES), 3):
            raise ValueError(f"joints_mm must be [{len(names)}, 21, 3], got {list(joints_mm.shape)}")
        for name, points, sure in zip(names, joints_mm.tolist(), confidence.tolist(), strict=True):
            numbers = zip(POINT_NAMES, points, strict=True)
            self._write_rows((name, joint, *(f"{x:.2f}" for x in point), f"{sure:.4g}") for joint, point in numbers)
            rounded = [[round(x, 2) for x in point] for point in points]
            entry = {"frame": name, "confidence": float(f"{sure:.4g}"), "joints_mm": rounded}
            text = json.dumps(entry, ensure_ascii=False, allow_nan=False)
            self._write(self._json_path, ("\n" if self._first else ",\n") + text)
            self._first = False

    def leave_out(self, reasons: Mapping[str, str]) -> None:
        """Remember frames that have no joints, and why, for the JSON file."""
        self._left_out |= reasons

    def finish(self) -> None:
        """Write the end of the JSON file."""
        self._write(self._json_path, f'\n], "left_out": {json.dumps(self._left_out, ensure_ascii=False)}}}\n')

    def _write_rows(self, rows: Iterable[Sequence[str]]):
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        self._write(self._csv_path, text.getvalue())

    def _write(self, path: Path | None, text: str):
        if path is not None:
            with naming(path):
                self._files[path].write(text.encode())
