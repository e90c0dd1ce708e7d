"""Every path of the project, independent of the folder a command or notebook is started in.

hrlib is installed editable from a checkout (`make setup`), so the repository lies around the package.
"""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "notebooks"
FIGURES = ROOT / "figures"
BENCHMARKS = ROOT / "benchmarks" / "results"
DATA = ROOT / "data"
HAND_ASSET = DATA / "hand" / "template_right.safetensors"
BASE_MODEL = DATA / "base" / "base.safetensors"
PAPER_MODEL = DATA / "base" / "alexnet.safetensors"  # the paper's network
BUILD = ROOT / "build"
EXECUTED = BUILD / "notebooks"
MIRROR_VARIABLE = "HRLIB_DATA_MIRROR"


def figures(profile: str) -> Path:
    """Where figures of a profile go. Smoke runs test the notebooks; they must not replace the committed figures."""
    return BUILD / "smoke" if profile == "smoke" else FIGURES


def mirror() -> Path | None:
    """The folder with the data sets, from the environment variable HRLIB_DATA_MIRROR; None where it is not set.

    Raises FileNotFoundError where it is set, but no folder.
    """
    value = os.environ.get(MIRROR_VARIABLE)
    if not value:
        return None
    if not Path(value).is_dir():
        raise FileNotFoundError(f"{MIRROR_VARIABLE} must name a folder, got {value!r}; correct it or unset it")
    return Path(value)
