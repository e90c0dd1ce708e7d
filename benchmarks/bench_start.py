"""How long five commands take until they do something, on a fresh machine and again.

    python benchmarks/bench_start.py       # some minutes; writes results/start.json

Cold: numba's cache is empty, so kernels compile. The files of the commands have been read before, and Python's own code is
compiled. Warm: the same command again, the smallest of `--repeats`. Seconds on the wall need idle cores; those of all
processors together hardly depend on them.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from bench_personal import WORDS, recorded, timed
from tqdm import tqdm

from hrlib.companion import results
from hrlib.hand.rig import load_hand
from hrlib.support import paths

HRLIB = ("-m", "hrlib")
COMMANDS = {  # words after `python`, and whether kernels run
    "hrlib --help": ((*HRLIB, "--help"), False),
    "import hrlib": (("-c", "import hrlib"), False),
    "hrlib predict": ((*HRLIB, "predict", "{folder}", *WORDS, "--out", "{out}/joints.csv"), True),
    "hrlib refine --check-only": ((*HRLIB, "refine", "{folder}", *WORDS, "--out", "{out}/me", "--check-only"), True),
    "hrlib pretrain, first step": ((*HRLIB, "pretrain", "--out", "{out}/base", "--steps", "1"), True),
}


def run(words: tuple[str, ...], folder: Path, cache: Path, out: Path) -> dict[str, float]:
    """Seconds of one command, which leaves its compiled kernels in `cache` and writes into `out`."""
    command = [sys.executable, *(word.format(folder=folder, out=out) for word in words)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache)}
    # the check of few frames ends with 1, as it should
    return timed(lambda: subprocess.run(command, env=environment, **quiet))[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=12, help="of the folder")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=list(COMMANDS), default=list(COMMANDS))
    parser.add_argument("--out", type=Path, default=paths.BENCHMARKS / "start.json")
    arguments = parser.parse_args()
    folder, rows = recorded(arguments.frames, load_hand()), {}
    for name in tqdm(arguments.only, "start"):
        words, kernels = COMMANDS[name]
        with TemporaryDirectory() as place:

            def once(number: int, place=Path(place), words=words) -> dict[str, float]:
                return run(words, folder, place / "cache", place / f"{number}")

            if not kernels:
                once(0)  # files are read, and Python compiles
            cold = once(1)
            warm = [once(2 + number) for number in range(arguments.repeats)]
        least = {key: min(row[key] for row in warm) for key in cold}
        rows[name] = {"cold": cold, "warm": least, "compiling": {key: cold[key] - least[key] for key in cold}}
        tqdm.write(
            f"{name}: cold {cold['wall_s']:.2f} s ({cold['cpu_s']:.2f} of processors), warm {least['wall_s']:.2f} s"
        )
    parameters = {key: value for key, value in vars(arguments).items() if key not in ("only", "out")}
    parameters |= {"cores": os.cpu_count(), "threads": torch.get_num_threads()}
    made = results.provenance(parameters, 0, {"hand": paths.HAND_ASSET, "base model": paths.BASE_MODEL})
    values = {}
    if len(rows) == len(COMMANDS):
        values = {
            "start-help": rows["hrlib --help"]["warm"]["wall_s"],
            "start-import": rows["import hrlib"]["warm"]["wall_s"],
            "start-first": max(row["cold"]["wall_s"] for row in rows.values()),
        }
    results.write_result(arguments.out, "start", {"commands": rows}, values, made, "full")


if __name__ == "__main__":
    main()
