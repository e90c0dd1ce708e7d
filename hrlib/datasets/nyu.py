"""NYU Hand Pose as its authors ship it (Tompson et al., TOG 2014): train/ and test/, each with joint_data.mat and images.

Images are depth_<view>_<7 digits>.png, numbered from 1, 640x480, depth mm = G * 256 + B. joint_data.mat holds joint_uvd
[3 views, F, 36, 3]: u px, v px, depth mm. 72,757 training frames show one person. Of 8,252 test frames, the last 5,812 show
a second person with a smaller hand. All are right hands. The three views are of the same moment.
"""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
from jaxtyping import Float

from ..frames.folder import read_depth
from ..support.checks import SPLITS, require_one_of
from ..support.files import printable
from .labelled import LabelledFrames, of_size
from .published import NYU_CAMERA

# in a process of its own: a damaged file makes scipy end the process that reads it
READ = """
import io, sys
import numpy as np
from scipy.io import loadmat
file = io.BytesIO()
np.save(file, np.asarray(loadmat(sys.argv[1], variable_names=["joint_uvd"])["joint_uvd"], np.float64))
sys.stdout.buffer.write(file.getbuffer())
"""


class NYU(LabelledFrames):
    """A split in `folder`, seen from view 1 (the usual one), 2 or 3, with labels of 36 joints.

    Raises FileNotFoundError if folder or labels are missing, ValueError if joint_data.mat is damaged.
    """

    def __init__(self, folder: str | Path, split: str = "test", view: int = 1, side: str = "right"):
        require_one_of(SPLITS, split=split)
        require_one_of((1, 2, 3), view=view)
        folder = Path(folder)
        uvd = _joint_uvd(folder / split / "joint_data.mat")[view - 1]
        names = [f"{split}/depth_{view}_{i + 1:07d}.png" for i in range(len(uvd))]
        super().__init__("nyu", NYU_CAMERA, folder, names, NYU_CAMERA.unproject(*np.moveaxis(uvd, -1, 0)), side)
        files = {f"{split}/{path.name}" for path in (folder / split).glob(f"depth_{view}_*.png")}
        reason = f"no label: joint_data.mat has {len(uvd)} frames"
        self.left_out = dict.fromkeys(sorted(files - set(names)), reason)

    def read(self, path: Path) -> Float[np.ndarray, "480 640"]:
        return of_size(read_depth(path, encoding="nyu"), (480, 640), path)


def _joint_uvd(path: Path) -> np.ndarray:
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found: name the folder that holds NYU's train/ and test/")
    read = subprocess.run([sys.executable, "-c", READ, str(path)], capture_output=True)
    if read.returncode:
        said = read.stderr.decode(errors="replace").strip().splitlines()[-1:] or [f"status {read.returncode}"]
        raise ValueError(f"{path}: cannot be read ({printable(said[0])}); unpack the data set again")
    uvd = np.load(io.BytesIO(read.stdout), allow_pickle=False)
    if uvd.ndim != 4 or uvd.shape[0] != 3 or uvd.shape[2:] != (36, 3) or not np.isfinite(uvd).all():
        raise ValueError(f"{path}: wanted finite joint_uvd [3, F, 36, 3], got {list(uvd.shape)}; unpack it again")
    return uvd
