"""Where a data set lies on this computer: below the folder that HRLIB_DATA_MIRROR names, or where `hrlib fetch` put it."""

import os
from dataclasses import dataclass
from pathlib import Path

from ..support import paths

VARIABLE = "HRLIB_DATA_MIRROR"


@dataclass(frozen=True)
class Origin:
    """Where a data set comes from and what its makers ask for."""

    citation: str
    licence: str


ORIGINS = {
    "asl_fingerspelling": Origin(
        "ASL Finger Spelling Dataset A (Pugeault and Bowden, Spelling It Out, ICCV Workshops 2011)",
        "free download, citation asked, no explicit licence",
    ),
    "sr305": Origin("SR305 sequences of github.com/LadaOndris/hand-recognition at 5f8f9207", "MIT"),
    "nyu_frame": Origin(
        "one frame of the NYU Hand Pose test set (Tompson et al., Real-Time Continuous Pose Recovery, TOG 2014)",
        "CC BY 4.0",
    ),
    "published": Origin(
        "published predictions and labels for NYU, ICVL (github.com/xinghaochen/awesome-hand-pose-estimation, and more)",
        "as published by their authors",
    ),
    "rigs": Origin("WebXR generic hand, npm @webxr-input-profiles/assets 1.0.20", "MIT"),
    "poses": Origin("tracked hand poses of github.com/IntelRealSense/hand_tracking_samples at 75d5579a", "Apache-2.0"),
}


def dataset_folder(name: str) -> Path:
    """The folder of a data set of ORIGINS. FileNotFoundError says what it is, where it comes from and what to do."""
    if name not in ORIGINS:
        raise ValueError(f"dataset must be one of {', '.join(ORIGINS)}, got {name!r}")
    root = os.environ.get(VARIABLE)
    fetched = paths.DATA / "cache" / name
    for folder in ([Path(root) / name] if root else []) + [fetched]:
        if folder.is_dir():
            return folder
    looked = f"{Path(root) / name} is no folder" if root else f"{VARIABLE} is not set"
    raise FileNotFoundError(
        f"data set {name} not found: {looked}, and `hrlib fetch {name}` has not fetched it. Set {VARIABLE} to the folder "
        f"that holds {name}/. It is: {ORIGINS[name].citation}; licence: {ORIGINS[name].licence}."
    )
