"""The wheel in a fresh environment, without any extra and away from the repository: the Python and commands of the docs work.

`make wheel` runs this; it installs from the package index, so it is no part of the test suite. With HRLIB_DATA_MIRROR it
predicts real SR305 frames, else simulated ones.
"""

import csv
import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from snippets import NEED_MORE, ROOT, as_script, pages

UNWANTED = ("jupyterlab", "papermill", "ipywidgets", "imageio-ffmpeg", "pytest")
INSTALLED = "import hrlib; assert 'site-packages' in hrlib.__file__, hrlib.__file__"
SIMULATED = """
import sys
import hrlib
from hrlib.frames.folder import write_folder
from hrlib.synthetic.people import USERS
frames = USERS["A"].frames(hrlib.load_hand(), 6, "test")
write_folder(frames, sys.argv[1], frames[0].camera, frames[0].depth_mm.shape, unit_mm=0.125)
"""


def run(*command, status: int = 0, **options) -> str:
    """What a command prints; another exit status than `status` ends this script."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    if done.returncode != status:
        raise SystemExit(f"{' '.join(map(str, command))}\nended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout if status == 0 else done.stderr


def built(folder: Path) -> Path:
    """The wheel, built from a copy, so that no build folder is left in the repository."""
    source = folder / "source"
    listed = run("git", "ls-files", "-z", "pyproject.toml", "README.md", "LICENSE", "hrlib", cwd=ROOT).split("\0")
    for name in filter(None, listed):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, source)
    return next(folder.glob("hrlib-*.whl"))


def installed(wheel: Path, folder: Path) -> Path:
    """The folder of the programs of a fresh environment that holds the wheel and what it needs."""
    venv.create(folder, with_pip=True)
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    pip = (programs / "python", "-m", "pip", "--quiet", "--disable-pip-version-check", "install")
    lock = ROOT / "requirements.lock"
    torch = next(line for line in lock.read_text().splitlines() if line.startswith("torch=="))
    run(*pip, torch)  # first and alone, as in the Makefile
    run(*pip, "--constraint", lock, wheel)
    packages = run(programs / "python", "-m", "pip", "list", "--format", "freeze").lower()
    present = [name for name in UNWANTED if f"\n{name}==" in f"\n{packages}"]
    if present:
        raise SystemExit(f"the bare wheel brings {', '.join(present)}; they belong to an extra")
    return programs


def frames_of(elsewhere: Path) -> tuple[Path, list[str]]:
    """Depth frames to predict, and the options that describe them."""
    mirror = os.environ.get("HRLIB_DATA_MIRROR")
    if mirror:
        camera = ["476.007", "476.007", "313.683", "242.755"]
        return Path(mirror) / "sr305", ["--camera", *camera, "--unit-mm", "0.125"]
    return elsewhere / "my_frames", ["--camera", "525", "525", "--unit-mm", "0.125"]


def run_pages(programs: Path, elsewhere: Path, environment: dict[str, str]) -> int:
    """Run the blocks of each page in a process of its own, beside README's folder of frames; how many pages that were."""
    run(programs / "python", "-c", SIMULATED, elsewhere / "my_frames", cwd=elsewhere, env=environment)
    alone = [page for page in pages() if page.name not in NEED_MORE]
    for page in alone:
        script = elsewhere / page.name
        script.write_text(as_script(page), encoding="utf-8")
        said = run(programs / "python", script, cwd=elsewhere, env=environment)
        if page.name == "README.md" and len(re.findall(r"^\d+\.png ", said, flags=re.M)) != 6:
            raise SystemExit(f"README's Python does not name six frames:\n{said}")
    return len(alone)


def main():
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        print("wheel: building", flush=True)
        wheel = built(folder)
        print(
            f"wheel: {wheel.name}, {wheel.stat().st_size / 1e6:.1f} MB; installing into a fresh environment", flush=True
        )
        programs = installed(wheel, folder / "environment")
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        elsewhere = folder / "elsewhere"
        elsewhere.mkdir()
        run(programs / "python", "-c", INSTALLED, cwd=elsewhere, env=environment)
        print(f"wheel: the Python of {run_pages(programs, elsewhere, environment)} pages runs", flush=True)
        frames, described = frames_of(elsewhere)
        print(f"wheel: predicting {frames.name} from another folder", flush=True)
        said = run(
            programs / "hrlib", "predict", frames, *described, "--out", "joints.csv", cwd=elsewhere, env=environment
        )
        rows = list(csv.DictReader((elsewhere / "joints.csv").open()))
        if not rows or len(rows) % 21:
            raise SystemExit(f"joints.csv has {len(rows)} rows, wanted 21 a frame")
        refine = ("refine", frames, *described, "--out", "mine", "--steps", "1", "--frames", "6", "--anyway")
        run(programs / "hrlib", *refine, cwd=elsewhere, env=environment)
        missing = [name for name in ("report.html", "joints.csv") if not (elsewhere / "mine" / name).is_file()]
        if missing:
            raise SystemExit(f"hrlib refine left no {', '.join(missing)}")
        for command in ("reproduce", "claims"):
            refused = run(programs / "hrlib", command, status=2, cwd=elsewhere, env=environment)
            if "needs the repository" not in refused or len(refused.strip().splitlines()) != 1:
                raise SystemExit(f"hrlib {command} without the repository says: {refused}")
        print(said.strip().splitlines()[-1])
        print(f"wheel: predict and refine work from another folder ({len(rows) // 21} frames)")


if __name__ == "__main__":
    main()
