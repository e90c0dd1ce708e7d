"""What other programs on the same cores cost: commands and notebooks alone, and beside busy processes.

    python benchmarks/bench_load.py       # some minutes; needs idle cores; writes results/load.json

Each runs in a process of its own: alone, beside `--busy` processes that compute all the time, and beside them with threads that
spin while they wait, which is OpenMP's default. Fair shares of two cores among three processes make 1.5 times as long; two
threads that wait for each other, at least 2.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from bench_personal import WORDS, recorded
from tqdm import tqdm

from hrlib.companion import results
from hrlib.hand.rig import load_hand
from hrlib.support import paths

BUSY = "while True: pass"
# of both ways: processor time of threads that spin is burned, and the others wait for it
SLEEP, SPIN = {"OMP_WAIT_POLICY": "PASSIVE"}, {"OMP_WAIT_POLICY": "ACTIVE"}
SMOKE = ("reproduce", "--profile", "smoke", "--only")
COMMANDS = {  # words after `hrlib`
    "predict": ("predict", "{folder}", *WORDS, "--out", "{out}/joints.csv"),
    "predict --no-fit": ("predict", "{folder}", *WORDS, "--no-fit", "--out", "{out}/joints.csv"),
    "refine": ("refine", "{folder}", *WORDS, "--out", "{out}/me"),
    "notebook 01": (*SMOKE, "01"),
    "notebook 03": (*SMOKE, "03"),
    "notebook 04": (*SMOKE, "04"),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--busy", type=int, default=2, help="processes that compute all the time")
    parser.add_argument("--frames", type=int, default=150, help="frames of the folder")
    parser.add_argument("--only", nargs="+", choices=list(COMMANDS), default=list(COMMANDS))
    parser.add_argument("--out", type=Path, default=paths.BENCHMARKS / "load.json")
    arguments = parser.parse_args()
    folder = recorded(arguments.frames, load_hand())
    rows = {}
    for name in tqdm(arguments.only, "load"):
        measured = partial(seconds, name, folder)
        measured(SLEEP)  # kernels compile, files are read into memory
        row = {"alone_s": measured(SLEEP), "alone_spinning_s": measured(SPIN)}
        with busy(arguments.busy):
            row |= {"busy_s": measured(SLEEP), "busy_spinning_s": measured(SPIN)}
        row["slower"] = row["busy_s"] / row["alone_s"]
        row["slower_spinning"] = row["busy_spinning_s"] / row["alone_spinning_s"]
        rows[name] = row
        tqdm.write(f"{name}: {row['slower']:.2f} times as long; spinning {row['slower_spinning']:.2f}")
    parameters = {key: value for key, value in vars(arguments).items() if key not in ("only", "out")}
    parameters |= {"cores": os.cpu_count(), "threads": torch.get_num_threads()}
    made = results.provenance(parameters, 0, {"hand": paths.HAND_ASSET, "base model": paths.BASE_MODEL})
    values = {"load-slower": max(row["slower"] for row in rows.values())}
    results.write_result(arguments.out, "load", {"commands": rows}, values, made, "full")


def seconds(name: str, folder: Path, environment: dict[str, str]) -> float:
    """Of one of the `COMMANDS` on the wall, start included. Each has a fresh folder: a result there would be gone on with."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with TemporaryDirectory() as out:
        words = [word.format(folder=folder, out=out) for word in COMMANDS[name]]
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "hrlib", *words], check=True, env=os.environ | environment, **quiet)
        return time.perf_counter() - began


@contextmanager
def busy(count: int) -> Iterator[None]:
    """While `count` processes compute."""
    processes = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
