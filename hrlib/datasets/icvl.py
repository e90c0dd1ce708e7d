"""ICVL as its authors ship it (Tang et al., CVPR 2014): Training/ and Testing/, each with Depth/ and lists of labels.

A line of a list is an image's path below Depth/, then u px, v px, depth mm of 16 joints. Images are 320x240, 16 bit, mm. The
side to which the fingers curl says that they show left hands, or right hands in a mirror: they are mirrored by default.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from ..frames.folder import read_depth
from ..support.checks import require_one_of
from ..support.files import read_whole
from .labelled import LabelledFrames, label_of, of_size
from .published import ICVL_CAMERA

LISTS = {"train": ("Training", ("labels.txt",)), "test": ("Testing", ("test_seq_1.txt", "test_seq_2.txt"))}


class ICVL(LabelledFrames):
    """A split in `folder`, with labels of 16 joints. A line that cannot be read goes to `left_out`.

    Raises FileNotFoundError if folder or a list is missing, ValueError if not one line can be used.
    """

    def __init__(self, folder: str | Path, split: str = "test", side: str = "left"):
        require_one_of(LISTS, split=split)
        part, lists = LISTS[split]
        folder, names, rows, left_out = Path(folder) / part, [], [], {}
        for name in lists:
            file = folder / name
            if not file.is_file():
                raise FileNotFoundError(f"{file} not found: name the folder that holds ICVL's Training/ and Testing/")
            lines = read_whole(file).decode("ascii", errors="replace").splitlines()
            for number, words in enumerate(map(str.split, lines), 1):
                joints = label_of(words[1:], 16)
                if joints is not None:
                    names.append(words[0])
                    rows.append(joints)
                elif words:
                    left_out[f"{name} line {number}"] = f"wanted a path and 48 numbers, got {len(words) - 1}"
        if not rows:
            raise ValueError(f"{folder}: no label in {', '.join(lists)} can be read; unpack it again")
        joints_mm = ICVL_CAMERA.unproject(*np.moveaxis(np.array(rows), -1, 0))
        super().__init__("icvl", ICVL_CAMERA, folder / "Depth", names, joints_mm, side)
        self.left_out = left_out

    def read(self, path: Path) -> Float[np.ndarray, "240 320"]:
        return of_size(read_depth(path), (240, 320), path)
