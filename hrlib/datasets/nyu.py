"""NYU Hand Pose as its authors ship it (Tompson et al., TOG 2014): train/ and test/, each with joint_data.mat and images.

Images are depth_<view>_<7 digits>.png, 640x480, depth mm = G * 256 + B, numbered from 1. joint_data.mat holds joint_uvd
[3 views, F, 36, 3]: u px, v px, depth mm. 72,757 training frames of one person, 8,252 test frames, of which the last 5,812
are of a second person with a smaller hand. Right hands, three views of one moment each.
"""

import re
from pathlib import Path

import numpy as np
from scipy.io import loadmat

from ..frames.folder import read_depth
from .labelled import LabelledFrames
from .published import NYU_CAMERA

IMAGE = re.compile(r"depth_([123])_(\d{7})\.png")


class NYU(LabelledFrames):
    """One view of a split; joints_mm [F, 36, 3]. folder holds train/ and test/; view: 1 (the usual one), 2 or 3.

    Raises FileNotFoundError where folder or labels are missing, ValueError where joint_data.mat is damaged.
    """

    def __init__(self, folder: str | Path, split: str = "test", view: int = 1, side: str = "right"):
        if split not in ("train", "test"):
            raise ValueError(f'split must be "train" or "test", got {split!r}')
        if view not in (1, 2, 3):
            raise ValueError(f"view must be 1, 2 or 3, got {view!r}")
        folder = Path(folder) / split
        uvd = _joint_uvd(folder / "joint_data.mat")[view - 1]
        names = [f"{split}/depth_{view}_{i + 1:07d}.png" for i in range(len(uvd))]
        joints_mm = NYU_CAMERA.unproject(uvd[..., 0], uvd[..., 1], uvd[..., 2])
        super().__init__("nyu", NYU_CAMERA, names, [folder.parent / name for name in names], joints_mm, side)
        for path in sorted(folder.glob(f"depth_{view}_*.png")):
            found = IMAGE.fullmatch(path.name)
            if not found or not 1 <= int(found[2]) <= len(uvd):
                self.left_out[f"{split}/{path.name}"] = f"no label: joint_data.mat has {len(uvd)} frames"

    def read(self, path: Path) -> np.ndarray:
        return read_depth(path, encoding="nyu")


def _joint_uvd(path: Path) -> np.ndarray:
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found: name the folder that holds NYU's train/ and test/")
    try:
        uvd = np.asarray(loadmat(path, variable_names=["joint_uvd"])["joint_uvd"], np.float64)
    except Exception as error:  # scipy has no error of its own for a damaged file
        raise ValueError(f"{path}: cannot be read ({error!r}); unpack the data set again") from error
    if uvd.ndim != 4 or uvd.shape[0] != 3 or uvd.shape[2:] != (36, 3) or not np.isfinite(uvd).all():
        raise ValueError(f"{path}: wanted finite joint_uvd [3, F, 36, 3], got {list(uvd.shape)}; unpack it again")
    return uvd
