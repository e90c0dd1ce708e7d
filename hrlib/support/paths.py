"""Every path of the project, independent of the folder a command or notebook is started in.

What the library needs at run time is package data, in `assets/`. All else (notebooks, figures, benchmarks, more data) comes
with the repository alone; a package that was installed from a wheel has no such folders and keeps its caches where the
system keeps those of programs.
"""

import os
from pathlib import Path

from platformdirs import user_cache_path

PACKAGE = Path(__file__).resolve().parents[1]
ASSETS = PACKAGE / "assets"
HAND_ASSET = ASSETS / "template_right.safetensors"
POPULATION = ASSETS / "population.safetensors"
BASE_MODEL = ASSETS / "base.safetensors"
RECOGNISER = ASSETS / "recogniser.safetensors"
FINDER = {part: ASSETS / f"finder_{part}.onnx" for part in ("locate", "segment", "judge", "side")}
REGISTRY = ASSETS / "registry.json"

ROOT = PACKAGE.parent  # of the repository
IN_REPOSITORY = (ROOT / "pyproject.toml").is_file() and (ROOT / "notebooks").is_dir()
NOTEBOOKS = ROOT / "notebooks"
FIGURES = ROOT / "figures"
BENCHMARKS = ROOT / "benchmarks" / "results"
CLAIMS = ROOT / "claims.toml"  # what is claimed, without values
CAPTIONS = ROOT / "captions.toml"  # of the figures
DATA = ROOT / "data"
# knows the template's hand alone: what one person's frames teach it is measured from here
ONE_HAND_MODEL = DATA / "base" / "one_hand.safetensors"
PAPER_MODEL = DATA / "base" / "alexnet.safetensors"  # the paper's network
BUILD = ROOT / "build" if IN_REPOSITORY else user_cache_path("hrlib")  # what can be made again in minutes
FETCHED = DATA / "cache" if IN_REPOSITORY else user_cache_path("hrlib") / "data"
RUNS = ROOT / "runs" if IN_REPOSITORY else Path("runs").resolve()  # trainings and refinements, which take hours
EXECUTED = BUILD / "notebooks"
MIRROR_VARIABLE = "HRLIB_DATA_MIRROR"


def figures(profile: str) -> Path:
    """Where figures of a profile go. Smoke runs test the notebooks; they must not replace the committed figures."""
    return BUILD / "smoke" if profile == "smoke" else FIGURES


def require_repository(what: str) -> None:
    """Refuse to go on where the package was installed without its repository.

    Args:
        what: needs the repository, e.g. "hrlib reproduce".

    Raises:
        FileNotFoundError: says how to get the repository.
    """
    if not IN_REPOSITORY:
        raise FileNotFoundError(
            f"{what} needs the repository (notebooks, figures, data), which a wheel does not hold: clone it and run make setup"
        )


def mirror() -> Path | None:
    """The folder with the data sets, from the environment variable HRLIB_DATA_MIRROR; None where it is not set.

    Raises:
        FileNotFoundError: the variable is set, but names no folder.
    """
    value = os.environ.get(MIRROR_VARIABLE)
    if not value:
        return None
    if not Path(value).is_dir():
        raise FileNotFoundError(f"{MIRROR_VARIABLE} must name a folder, got {value!r}; correct it or unset it")
    return Path(value)
