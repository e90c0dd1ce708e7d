"""Real folders through `hrlib refine` as a stranger would run it; report and video end up in figures/.

    python benchmarks/real_folders.py [--only sr305 asl] [--steps 300]

Reads sr305/ and asl_fingerspelling/ below HRLIB_DATA_MIRROR. About half an hour on two cores with all steps. The
folders of the runs, which go on after a stop, are in runs/real_folders.
"""

import argparse
import subprocess
import sys

from hrlib.datasets.fetch import dataset_folder
from hrlib.support import paths
from hrlib.support.files import write_bytes_atomically

# every tenth of ASL's frames: the alphabet takes 3,647, and a tenth of them is enough to know a hand by
FOLDERS = {
    "sr305": ("sr305", ["--camera", "476.007", "476.007", "313.683", "242.755", "--unit-mm", "0.125"]),
    "asl": (
        "asl_fingerspelling",
        ["--camera", "525", "525", "--unit-mm", "1", "--side", "left", "--files", "depth_*0.png"],
    ),
}
LARGEST = 2_000_000  # bytes of a file that is committed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=list(FOLDERS), default=list(FOLDERS))
    parser.add_argument("--steps", default="300", help="of learning in each round")
    arguments = parser.parse_args()
    for name in arguments.only:
        data, options = FOLDERS[name]
        out = paths.RUNS / "real_folders" / name
        command = [sys.executable, "-m", "hrlib", "refine", str(dataset_folder(data)), *options]
        subprocess.run([*command, "--steps", arguments.steps, "--out", str(out)], check=True)
        for made, kept in (("report.html", f"09_{name}.html"), ("tracked.mp4", f"09_{name}.mp4")):
            content = (out / made).read_bytes()
            if len(content) > LARGEST:
                raise SystemExit(f"{out / made} has {len(content)} bytes, more than the {LARGEST} that are committed")
            write_bytes_atomically(paths.FIGURES / kept, content)
        print(f"{name}: figures/09_{name}.html and .mp4")
    return 0


if __name__ == "__main__":
    sys.exit(main())
