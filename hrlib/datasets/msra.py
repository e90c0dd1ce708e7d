"""MSRA15 as its authors ship it (Sun et al., CVPR 2015): P0 ... P8, each with 17 gestures, 500 right hands a gesture.

<subject>/<gesture>/<6 digits>_depth.bin: six 32-bit integers (width, height, left, top, right, bottom), then the depth of
that block, float32 mm, 0 outside the hand. joint.txt: the number of frames, then a line of 21 x (x, y, z) mm for each. There
y is up and z towards the camera, so that we negate both.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from ..frames.camera import Camera
from ..support.files import read_whole
from .labelled import LabelledFrames, label_of

MSRA_CAMERA = Camera(241.42, 241.42, 160.0, 120.0)
SUBJECTS = tuple(f"P{i}" for i in range(9))
CUBE_MM = dict(zip(SUBJECTS, (200, 200, 200, 180, 180, 180, 170, 160, 150), strict=True))  # as others crop them
SIZE = (240, 320)
MOST_BYTES = 24 + 4 * SIZE[0] * SIZE[1] + 1  # of an image's file; one more is too long


class MSRA(LabelledFrames):
    """The frames of some subjects in `folder`, with labels of 21 joints. Lines and images without one go to `left_out`.

    Raises FileNotFoundError if a subject's folder is missing, ValueError if not one label can be used.
    """

    def __init__(self, folder: str | Path, subjects: tuple[str, ...] = SUBJECTS, side: str = "right"):
        folder, labels, left_out = Path(folder), {}, {}
        for subject in subjects:
            if subject not in SUBJECTS:
                raise ValueError(f"subjects must be some of {', '.join(SUBJECTS)}, got {subject!r}")
            if not (folder / subject).is_dir():
                raise FileNotFoundError(f"{folder / subject} is no folder: name the folder that holds MSRA's P0 ... P8")
            for gesture in sorted(path for path in (folder / subject).iterdir() if path.is_dir()):
                at = f"{subject}/{gesture.name}"
                own, reasons = _labels(gesture / "joint.txt", at)
                labels |= own
                stray = {f"{at}/{path.name}" for path in gesture.glob("*_depth.bin")} - set(own)
                left_out |= reasons | {name: f"no label in {at}/joint.txt" for name in sorted(stray)}
        if not labels:
            raise ValueError(f"{folder}: no label of {', '.join(subjects)} can be read ({left_out}); unpack it again")
        joints_mm = np.array(list(labels.values())) * (1, -1, -1)
        super().__init__("msra", MSRA_CAMERA, folder, list(labels), joints_mm, side)
        self.left_out = left_out

    def read(self, path: Path) -> Float[np.ndarray, "240 320"]:
        data = read_whole(path, MOST_BYTES)
        head = np.frombuffer(data[:24].ljust(24, b"\0"), "<i4")
        width, height, left, top, right, bottom = head.tolist()
        if (height, width) != SIZE or not (0 <= left < right <= width and 0 <= top < bottom <= height):
            raise ValueError(f"{path}: no MSRA depth file: its head is {head.tolist()}; unpack it again, or remove it")
        wanted = 24 + 4 * (bottom - top) * (right - left)
        if len(data) != wanted:
            raise ValueError(f"{path}: truncated or too long: {len(data)} bytes, wanted {wanted}; unpack it again")
        depth = np.zeros(SIZE, np.float32)
        depth[top:bottom, left:right] = np.frombuffer(data[24:], "<f4").reshape(bottom - top, -1)
        return depth


def _labels(path: Path, at: str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """{name of the image: [21, 3]}, and the reasons of what cannot be used."""
    try:
        count, *lines = read_whole(path).decode("ascii").splitlines()
        count = int(count)
    except (OSError, ValueError) as error:
        return {}, {f"{at}/joint.txt": f"cannot be read ({error}); unpack it again"}
    labels, left_out = {}, {}
    for i, line in enumerate(lines[:count]):
        joints = label_of(line.split(), 21)
        if joints is None:
            left_out[f"{at}/joint.txt line {i + 2}"] = f"wanted 63 numbers, got {len(line.split())}"
        else:
            labels[f"{at}/{i:06d}_depth.bin"] = joints
    if len(lines) < count:
        left_out[f"{at}/joint.txt"] = f"truncated: {len(lines)} of {count} frames"
    return labels, left_out
