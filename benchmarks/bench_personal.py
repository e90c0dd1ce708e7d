"""How long a person waits: `hrlib refine` and `hrlib predict` on a folder of 640x480 depth images, stage by stage.

    python benchmarks/bench_personal.py       # some minutes; writes results/personal.json

The folder is a recording of simulated user D before an SR300, made once below the runs' folder. The commands run as a person
runs them, in processes of their own, which start, read, find, personalise and write; then the stages are timed one by one.
Seconds on the wall need idle cores. Seconds of all processors together hardly depend on them.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from hrlib.companion import results
from hrlib.frames.camera import Camera
from hrlib.frames.folder import DepthFolder, write_folder
from hrlib.hand.rig import load_hand
from hrlib.network.checkpoint import load_network
from hrlib.personal.check import look_over
from hrlib.personal.first_look import first_look
from hrlib.personal.result import PersonalResult
from hrlib.personal.run import write_all
from hrlib.personal.track import tracked
from hrlib.refine import RECIPES, refine
from hrlib.refine.saved import save_refined
from hrlib.support import paths
from hrlib.synthetic.people import USERS

CAMERA, UNIT_MM, SIZE = Camera(476.0, 476.0, 319.5, 239.5), 0.125, (480, 640)
WORDS = ("--camera", "476", "476", "319.5", "239.5", "--unit-mm", "0.125")


def recorded(count: int, hand) -> Path:
    """A folder with the first `count` frames of user D."""
    folder = paths.RUNS / "bench_personal" / f"D{count}"
    if not (folder / f"{count - 1:05d}.png").exists():
        write_folder(USERS["D"].frames(hand, count, "train"), folder, CAMERA, SIZE, UNIT_MM)
    return folder


def timed(function: Callable) -> tuple[object, dict[str, float]]:
    """The result, and the seconds on the wall and of all processors, with processes that have ended."""
    before, started = os.times(), time.perf_counter()
    result = function()
    wall, after = time.perf_counter() - started, os.times()
    return result, {"wall_s": wall, "cpu_s": sum(after[:4]) - sum(before[:4])}


def command(*words: object) -> dict[str, float]:
    return timed(lambda: subprocess.run([sys.executable, "-m", "hrlib", *map(str, words)], check=True))[1]


def stages(folder: Path, hand, out: Path) -> dict[str, dict[str, float]]:
    """Each stage of `hrlib refine` in this process."""
    (net, _), frames, seconds = load_network(hand), DepthFolder(folder, CAMERA, UNIT_MM), {}
    _, seconds["first look"] = timed(lambda: first_look(frames, net, hand))
    check, seconds["check"] = timed(lambda: look_over(frames, net, hand, False, torch.get_num_threads()))
    settings = RECIPES["best"]
    refined, seconds["find the hand's shape"] = timed(lambda: refine(net, hand, check.crops, settings, progress=False))
    _, seconds["save"] = timed(lambda: save_refined(out, refined, hand, {"side": "right", "recipe": "best"}))
    before, seconds["before"] = timed(lambda: tracked(net, hand, check.crops, check.names, quick=True))
    after, seconds["after, fitted"] = timed(
        lambda: tracked(refined.net, refined.hand, check.crops, check.names, True, quick=True)
    )
    result = PersonalResult(check, hand, refined, before, after, {"side": "right", "recipe": "best"})
    _, seconds["joints, video and report"] = timed(lambda: write_all(out, result, progress=False))
    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--out", type=Path, default=paths.BENCHMARKS / "personal.json")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"), str(arguments.threads))
    hand = load_hand()
    folder = recorded(arguments.frames, hand)
    with TemporaryDirectory() as out:
        parts = stages(folder, hand, Path(out) / "stages")
        metrics = {
            "frames": arguments.frames,
            "threads": arguments.threads,
            "stages": parts,
            "refine": command("refine", folder, *WORDS, "--out", Path(out) / "me"),
            "predict": command("predict", folder, *WORDS, "--out", Path(out) / "joints.csv"),
        }
    total = sum(part["cpu_s"] for part in parts.values())
    metrics["share_of_cpu"] = {name: part["cpu_s"] / total for name, part in parts.items()}
    for name in ("refine", "predict"):
        metrics[name]["frames_per_s"] = arguments.frames / metrics[name]["wall_s"]
    for name, part in (*parts.items(), *((name, metrics[name]) for name in ("refine", "predict"))):
        print(f"{name:26} {part['wall_s']:7.1f} s, {part['cpu_s']:7.1f} s of processors")
    data = {"hand": paths.HAND_ASSET, "base model": paths.BASE_MODEL}
    made = results.provenance({"frames": arguments.frames, "threads": arguments.threads}, 4, data)
    results.write_result(arguments.out, "personal", metrics, {}, made, "quick" if arguments.frames >= 1000 else "smoke")


if __name__ == "__main__":
    main()
