"""Real frames that tests of finding hands share, below HRLIB_DATA_MIRROR."""

import gzip

import numpy as np

from hrlib.datasets.fetch import dataset_folder
from hrlib.frames.camera import Camera
from hrlib.frames.folder import DepthFolder
from hrlib.frames.frame import Frame


def sr305() -> DepthFolder:
    """19 frames of a hand before an Intel SR305."""
    return DepthFolder(dataset_folder("sr305"), Camera(476.007, 476.007, 313.683, 242.755), unit_mm=0.125)


def nyu_frame() -> Frame:
    """The first test frame of NYU."""
    return DepthFolder(dataset_folder("nyu_frame"), Camera(588.03, 587.07, 320, 240), encoding="nyu")[0]


def nyu_labels() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the 36 labelled joints of that frame: column and row (px), depth (mm)."""
    return tuple(_first_row(f"joint_1_{axis}.csv.gz") for axis in "uvd")


def _first_row(name: str) -> np.ndarray:
    with gzip.open(dataset_folder("published") / "nyu" / name, "rt") as file:
        return np.array(file.readline().split(","), float)
