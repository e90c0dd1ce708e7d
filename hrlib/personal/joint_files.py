"""What other programs read: joints as CSV and JSON, written while frames stream through; the hand as glTF."""

import csv
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from .. import __version__
from ..hand.joints import POINT_NAMES, POINT_PARENTS

CSV_COLUMNS = ("frame", "joint", "x_mm", "y_mm", "z_mm", "confidence")


class JointFiles:
    """Joints to a CSV file, a JSON file, or both, a few frames at a time:

        with JointFiles(csv_path, json_path) as files:
            files.add(names, joints_mm, confidence)

    The files appear when the block ends well, each whole; after an error or Ctrl-C what was there before is still there.
    CSV: a row a point, 21 a frame. JSON: {"unit", "camera_frame", "joints", "parents", "frames": [{"frame", "confidence",
    "joints_mm": 21 x [x, y, z]}], "left_out": {frame: reason}}. Raises OSError, which names the file.
    """

    def __init__(self, csv_path: str | Path | None = None, json_path: str | Path | None = None):
        wanted = [Path(path) for path in (csv_path, json_path) if path is not None]
        if len({path.resolve() for path in wanted}) < len(wanted):
            raise ValueError(f"CSV and JSON cannot both go to {wanted[0]}; give them two names")
        self.paths = [path and Path(path) for path in (csv_path, json_path)]
        self.frames, self._open, self._left_out = 0, {}, {}

    def __enter__(self) -> "JointFiles":
        try:
            for path in filter(None, self.paths):
                path.parent.mkdir(parents=True, exist_ok=True)
                if path.is_dir():
                    raise IsADirectoryError(0, "that is a folder; name a file in it")
                self._open[path] = open(_partial(path), "w", encoding="utf-8", newline="")
        except OSError as error:
            self._close(keep=False)
            raise OSError(error.errno, f"cannot write {path}: {error.strerror}") from error
        if self.paths[0]:
            csv.writer(self._open[self.paths[0]], lineterminator="\n").writerow(CSV_COLUMNS)
        if self.paths[1]:
            head = {
                "unit": "mm",
                "camera_frame": "x right, y down, z forward",
                "made_by": f"hrlib {__version__}",
                "joints": POINT_NAMES,
                "parents": POINT_PARENTS,
            }
            self._open[self.paths[1]].write(json.dumps(head)[:-1] + ', "frames": [')
        return self

    def add(self, names: Sequence[str], joints_mm: Tensor, confidence: Tensor) -> None:
        """The next frames: B names, joints_mm [B, 21, 3] in the camera frame, confidence [B]."""
        if tuple(joints_mm.shape) != (len(names), len(POINT_NAMES), 3):
            raise ValueError(f"joints_mm must be [{len(names)}, 21, 3], got {list(joints_mm.shape)}")
        for name, points, sure in zip(names, joints_mm.tolist(), confidence.tolist(), strict=True):
            if self.paths[0]:
                table = csv.writer(self._open[self.paths[0]], lineterminator="\n")
                for joint, point in zip(POINT_NAMES, points, strict=True):
                    table.writerow((name, joint, *(f"{x:.2f}" for x in point), f"{sure:.4g}"))
            if self.paths[1]:
                rounded = [[round(x, 2) for x in point] for point in points]
                entry = {"frame": name, "confidence": float(f"{sure:.4g}"), "joints_mm": rounded}
                text = json.dumps(entry, ensure_ascii=False, allow_nan=False)
                self._open[self.paths[1]].write((",\n" if self.frames else "\n") + text)
            self.frames += 1

    def leave_out(self, reasons: Mapping[str, str]) -> None:
        """Frames that have no joints, and why: for the JSON file."""
        self._left_out |= reasons

    def __exit__(self, kind, error, trace) -> None:
        if kind is None and self.paths[1]:
            self._open[self.paths[1]].write(
                '\n], "left_out": ' + json.dumps(self._left_out, ensure_ascii=False) + "}\n"
            )
        self._close(keep=kind is None)

    def _close(self, keep: bool) -> None:
        try:
            for file in self._open.values():
                if keep:
                    file.flush()
                    os.fsync(file.fileno())
                file.close()
            if keep:
                for path in self._open:
                    os.replace(_partial(path), path)
        except OSError as error:
            raise OSError(
                error.errno, f"cannot write {path if keep else ''}: {error.strerror}; free some space"
            ) from error
        finally:
            for path in self._open:
                _partial(path).unlink(missing_ok=True)


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.partial")


# -- glTF -----------------------------------------------------------------------------------------------------------------
