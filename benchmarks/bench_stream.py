"""`hrlib predict` from PNG to CSV: frames/s, memory of short and long folders, time of each stage, and of a live frame.

    python benchmarks/bench_stream.py                  # 10 minutes on two idle cores; writes results/stream.json
    python benchmarks/bench_stream.py --long 100000    # an hour

Folders are links to a recording of simulated user D before an SR300, 640x480 pixels. Frames/s need idle cores; milliseconds of
the processors hardly depend on them. The rate is that of the frames by which the long folder is longer: what a command needs to
start is given apart. Memory is each process's peak; those of a folder's processes are added up.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from bench_personal import CAMERA, UNIT_MM, WORDS, recorded, timed

from hrlib.companion import results
from hrlib.datasets.fetch import dataset_folder
from hrlib.frames.camera import Camera
from hrlib.frames.crop import crop_hand
from hrlib.frames.find import crop_found
from hrlib.frames.finder import find_hand
from hrlib.frames.folder import DepthFolder
from hrlib.frames.segment import check_mask
from hrlib.hand.rig import load_hand
from hrlib.method import predicted_joints
from hrlib.network.checkpoint import load_network
from hrlib.network.predict import predict, predict_turned
from hrlib.personal.first_look import first_look
from hrlib.personal.joint_files import joint_files
from hrlib.personal.stream import CHUNK
from hrlib.personal.tracker import QUICK_FIT, Tracker
from hrlib.refine.confidence import confidence
from hrlib.refine.gauss_newton import fitted_poses
from hrlib.support import paths

SHORT = 1000  # frames that are drawn
WAYS = {"fitted": (), "not fitted": ("--no-fit",)}
EVERY_S = 0.25  # between two looks at the processes
LIVE = 60  # frames whose latency is measured, after those in which a tracker makes up its mind
SETTLED = 24


def linked(count: int, source: Path) -> Path:
    """A folder of `count` frames: the files of `source` again and again."""
    folder, files = source.parent / f"linked{count}", sorted(source.glob("*.png"))
    folder.mkdir(exist_ok=True)
    for i in range(count):
        if not (place := folder / f"{i:06d}.png").exists():
            os.link(files[i % len(files)], place)
    return folder


# -- whole folders --------------------------------------------------------------------------------------------------------


def whole(folder: Path, *words: str) -> dict[str, float]:
    """Seconds and peaks of memory (MB, of all processes together and of the first) of `hrlib predict` on a folder."""
    with TemporaryDirectory() as out:
        command = [sys.executable, "-m", "hrlib", "predict", folder, *WORDS, *words, "--out", Path(out) / "joints.csv"]
        peaks: dict[int, float] = {}

        def run() -> int:
            process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            while process.poll() is None:
                for pid in (process.pid, *_children(process.pid)):
                    peaks[pid] = max(peaks.get(pid, 0.0), _peak_mb(pid))
                time.sleep(EVERY_S)
            return process.pid if process.returncode == 0 else 0

        first, seconds = timed(run)
        if not first:
            raise RuntimeError(f"hrlib predict failed on {folder}; run it by hand: {' '.join(map(str, command))}")
        return seconds | {"peak_mb": sum(peaks.values()), "first_peak_mb": peaks[first], "processes": len(peaks)}


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _peak_mb(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def compared(source: Path, short: int, long: int) -> dict:
    """Both ways on folders of `short` and `long` frames."""
    rows, more = {}, long - short
    for name, words in WAYS.items():
        one, other = (whole(linked(count, source), *words) for count in (short, long))
        wall, cpu = (other[key] - one[key] for key in ("wall_s", "cpu_s"))
        rows[name] = {
            "short": one, "long": other, "frames_per_s": more / wall, "cpu_ms": 1e3 * cpu / more,
            "start_s": one["wall_s"] - short * wall / more, "memory_growth": other["peak_mb"] / one["peak_mb"],
        }  # fmt: skip
        print(f"{name}: {rows[name]['frames_per_s']:.0f} frames/s, {rows[name]['cpu_ms']:.1f} ms of processors a frame")
    return rows


# -- stages ---------------------------------------------------------------------------------------------------------------


class Clock:
    """Adds up the processor's milliseconds by name."""

    def __init__(self):
        self.ms = defaultdict(float)

    def __call__(self, name: str, function: Callable, *arguments):
        began = time.process_time()
        result = function(*arguments)
        self.ms[name] += 1e3 * (time.process_time() - began)
        return result


def stages(frames: DepthFolder, net, hand) -> dict[str, float]:
    """Milliseconds a frame of each stage; those whose names are indented are parts of the one before."""
    look = first_look(frames, net, hand, "right")
    net, hand = look.told(net, hand)
    _one_pass(frames, net, hand, min(len(frames), 4))  # compiles
    return _one_pass(frames, net, hand, len(frames))


def _one_pass(frames: DepthFolder, net, hand, count: int) -> dict[str, float]:
    clock = Clock()
    for first in range(0, count, CHUNK):
        chunk = [clock("decode", frames.__getitem__, i) for i in range(first, min(first + CHUNK, count))]
        crops, kept, _ = clock("find and crop", crop_found, chunk, 250.0, False)
        for frame in chunk:
            found = clock(" the finder", find_hand, frame.depth_mm, frame.camera, None, False)
            if found.mask.any():
                clock(" check the mask", check_mask, frame.depth_mm, frame.camera, found.mask)
                clock(" crop", crop_hand, frame.depth_mm, frame.camera, found.mask)
        if crops is None:
            continue
        five = clock("network, five views", predict_turned, net, crops)
        fits = clock("fit", fitted_poses, hand, crops, five)
        joints_mm = clock("joints", predicted_joints, fits.prediction, hand, crops)
        sure = clock("confidence", confidence, five, hand, crops)  # of a fit it takes nothing: its end knows the same
        with TemporaryDirectory() as out, joint_files(Path(out) / "joints.csv") as file:
            clock("write", file.add, [frame.name for frame in kept], joints_mm, sure)
    return {name: ms / count for name, ms in clock.ms.items()}


# -- live -----------------------------------------------------------------------------------------------------------------


def latency(frames: DepthFolder, net, hand) -> dict:
    """Milliseconds from a depth image in memory to fitted joints, one image after the other, as `hrlib live` does; parts."""
    images = [frames[i % len(frames)].depth_mm for i in range(SETTLED + LIVE)]
    tracker, camera = Tracker(CAMERA, "right", quick=True), CAMERA
    for image in images[:SETTLED]:
        tracker(image)
    took = []
    for image in images[SETTLED:]:
        began = time.process_time()
        tracker(image)
        took.append(1e3 * (time.process_time() - began))
    clock = Clock()
    for image in images[SETTLED:]:
        found = clock("find", find_hand, image, camera, None, False)
        if not found.mask.any():
            continue
        clock("check the mask", check_mask, image, camera, found.mask)
        crop = clock("crop", crop_hand, image, camera, found.mask)
        seen = clock("network, one view", predict, net, crop)
        clock("fit", fitted_poses, hand, crop, seen, QUICK_FIT)
    parts = {name: ms / LIVE for name, ms in clock.ms.items()}
    return {"median_ms": statistics.median(took), "p95_ms": sorted(took)[int(0.95 * len(took))], "parts_ms": parts}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--long", type=int, default=20000, help="frames of the long folder")
    parser.add_argument("--short", type=int, default=SHORT, help="frames that are drawn, and of the short folder")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--folders", action=argparse.BooleanOptionalAction, default=True, help="whole folders, too")
    parser.add_argument("--out", type=Path, default=paths.BENCHMARKS / "stream.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    hand = load_hand()
    net, source = load_network(hand)[0], recorded(arguments.short, hand)
    real = Camera(476.007, 476.007, 313.683, 242.755)
    sets = {
        "simulated user D": DepthFolder(source, CAMERA, UNIT_MM),
        "SR305": DepthFolder(dataset_folder("sr305"), real, UNIT_MM),
        "ASL finger spelling": DepthFolder(
            dataset_folder("asl_fingerspelling") / "dataset5" / "A" / "b", (525.0, 525.0)
        ),
    }
    metrics = {"frames": [arguments.short, arguments.long], "threads": arguments.threads, "stages_ms": {}}
    for name, frames in sets.items():
        frames.names = frames.names[:128]
        metrics["stages_ms"][name] = stages(frames, net, hand)
        print(name, {stage: round(ms, 2) for stage, ms in metrics["stages_ms"][name].items()})
    metrics["live"] = latency(sets["simulated user D"], net, hand)
    print("live", metrics["live"])
    values = {"live-latency": metrics["live"]["median_ms"]}
    if arguments.folders:
        os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"), str(arguments.threads))
        metrics["predict"] = rows = compared(source, arguments.short, arguments.long)
        values |= {
            "stream-fitted": rows["fitted"]["frames_per_s"],
            "stream-rate": rows["not fitted"]["frames_per_s"],
            "stream-memory": max(row["memory_growth"] for row in rows.values()),
        }
    parameters = {key: value for key, value in vars(arguments).items() if key != "out"}
    made = results.provenance(parameters, 4, {"hand": paths.HAND_ASSET, "base model": paths.BASE_MODEL})
    profile = "quick" if arguments.folders and arguments.long >= 10 * SHORT else "smoke"
    results.write_result(arguments.out, "stream", metrics, values, made, profile)


if __name__ == "__main__":
    main()
