"""ICVL as its authors ship it (Tang et al., CVPR 2014): Training/ and Testing/, each with Depth/ and lists of labels.

Training/labels.txt, Testing/test_seq_1.txt and test_seq_2.txt: a line is an image's path below Depth/ and, for each of 16
joints, u px, v px, depth mm. Images are 320x240, 16 bit, mm. The hands are left ones, or right ones as in a mirror (the
fingers curl to the side that says so), so that by default frames and labels are mirrored.
"""

from pathlib import Path

import numpy as np

from ..frames.folder import read_depth
from .labelled import LabelledFrames
from .published import ICVL_CAMERA

LISTS = {"train": ("Training", ("labels.txt",)), "test": ("Testing", ("test_seq_1.txt", "test_seq_2.txt"))}
NUMBERS = 48


class ICVL(LabelledFrames):
    """A split; joints_mm [F, 16, 3]. folder holds Training/ and Testing/. A line that cannot be read goes to left_out.

    Raises FileNotFoundError where folder or a list is missing, ValueError where not one line can be used.
    """

    def __init__(self, folder: str | Path, split: str = "test", side: str = "left"):
        if split not in LISTS:
            raise ValueError(f'split must be "train" or "test", got {split!r}')
        part, lists = LISTS[split]
        names, rows, left_out = [], [], {}
        for name in lists:
            for number, line in enumerate(_lines(Path(folder) / part / name), 1):
                words = line.split()
                if not words:
                    continue
                values = _numbers(words[1:])
                if values is None:
                    left_out[f"{name} line {number}"] = f"wanted a path and {NUMBERS} numbers, got {len(words) - 1}"
                else:
                    names.append(words[0])
                    rows.append(values)
        if not rows:
            raise ValueError(f"{Path(folder) / part}: no label in {', '.join(lists)} can be read; unpack it again")
        uvd = np.reshape(rows, (-1, 16, 3))
        paths = [Path(folder) / part / "Depth" / name for name in names]
        joints_mm = ICVL_CAMERA.unproject(uvd[..., 0], uvd[..., 1], uvd[..., 2])
        super().__init__("icvl", ICVL_CAMERA, names, paths, joints_mm, side)
        self.left_out = left_out

    def read(self, path: Path) -> np.ndarray:
        return read_depth(path)


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found: name the folder that holds ICVL's Training/ and Testing/")
    return path.read_text(encoding="ascii", errors="replace").splitlines()


def _numbers(words: list[str]) -> list[float] | None:
    try:
        values = [float(word) for word in words]
    except ValueError:
        return None
    return values if len(values) == NUMBERS and np.isfinite(values).all() else None
