"""How the cost of refinement grows: frames, threads and processes, and the peak memory of a step of 1000 images.

    python benchmarks/bench_growth.py       # two minutes; writes benchmarks/results/growth.json

Each measurement is a fresh process, so that no peak and no thread of another is in it. The renderer's own growth (points,
radius, image size, batch) is in `bench_render.py`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from tqdm import tqdm

from hrlib.companion import results
from hrlib.support.paths import BENCHMARKS, HAND_ASSET, PAPER_MODEL

FRAMES = (25, 50, 100, 200)  # of a pass
LARGE_BATCH = 1000
GB = 1e9


def peak_bytes() -> int | None:
    """This process's peak of resident memory; None where there is no /proc."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) * 1024


def child(frames: int, batch: int, threads: int, repeats: int) -> dict:
    """A pass over `frames` in steps of `batch`, as the paper's recipe makes them; seconds of each pass, and the peak."""
    from bench_step import refinement_step

    from hrlib.hand.rig import load_hand
    from hrlib.network.checkpoint import load_network
    from hrlib.synthetic.frames import Synthesiser, SyntheticSettings

    torch.set_num_threads(threads)
    hand = load_hand()
    net = load_network(hand, PAPER_MODEL)[0]
    crops = Synthesiser(hand, SyntheticSettings()).batch(min(batch, 100), seed=0).crops
    crops = crops[torch.arange(batch) % len(crops)]  # what a frame shows does not change what it costs
    step = refinement_step(net, hand, crops)
    step()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        for _ in range(frames // batch):
            step()
        seconds.append(time.perf_counter() - started)
    return {"seconds": seconds, "peak_bytes": peak_bytes()}


def start(**setting) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": str(setting["threads"]), "NUMBA_NUM_THREADS": "2"}
    command = [sys.executable, __file__, "--child", json.dumps(setting)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def finish(process: subprocess.Popen) -> dict:
    output, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"a measuring process ended with status {process.returncode}; its error stands above")
    return json.loads(output.splitlines()[-1])


def growth(repeats: int) -> dict:
    rows = []
    for frames in tqdm(FRAMES, desc="frames"):
        got = finish(start(frames=frames, batch=25, threads=1, repeats=repeats))
        rows.append({"frames": frames, "seconds": min(got["seconds"])})
    return {"batch": 25, "threads": 1, "passes": rows}


def scaling(repeats: int) -> dict:
    """Images/s of one thread, two threads, and two processes of one thread that run at the same time on half the frames."""
    setting = {"frames": 100, "batch": 50, "repeats": repeats}
    one = finish(start(threads=1, **setting))
    two = finish(start(threads=2, **setting))
    both = [start(threads=1, **setting) for _ in range(2)]
    pair = [finish(process) for process in both]
    rate = lambda got: setting["frames"] / statistics.median(got["seconds"])  # noqa: E731
    return {"1 thread": rate(one), "2 threads": rate(two), "2 processes": sum(rate(got) for got in pair)}


def linear_error(rows: list[dict]) -> float:
    """Largest relative distance of the times from the straight line that fits them best."""
    x = torch.tensor([[row["frames"], 1.0] for row in rows], dtype=torch.float64)
    y = torch.tensor([row["seconds"] for row in rows], dtype=torch.float64)
    line = x @ torch.linalg.lstsq(x / y[:, None], torch.ones(len(y), 1, dtype=torch.float64)).solution[:, 0]
    return float(((line - y) / y).abs().max())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--large", type=int, default=LARGE_BATCH, help="images of the step whose memory is measured")
    parser.add_argument("--out", type=Path, default=BENCHMARKS / "growth.json")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(child(**json.loads(arguments.child))))
        return
    large = finish(start(frames=arguments.large, batch=arguments.large, threads=1, repeats=1))
    metrics = {
        "refinement": growth(arguments.repeats),
        "images_per_s": scaling(arguments.repeats),
        "large_batch": arguments.large,
        "large_step_seconds": large["seconds"][0],
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }
    metrics["off_the_line"] = linear_error(metrics["refinement"]["passes"])
    values = {"growth-linear": metrics["off_the_line"]}
    if large["peak_bytes"] is not None:
        metrics["large_peak_gb"] = values["growth-memory"] = large["peak_bytes"] / GB
    print(metrics["images_per_s"])
    data = {"hand": HAND_ASSET, "paper's network": PAPER_MODEL}
    made = results.provenance({"repeats": arguments.repeats}, 0, data)
    profile = "quick" if arguments.large == LARGE_BATCH else "smoke"
    results.write_result(arguments.out, "growth", metrics, values, made, profile)


if __name__ == "__main__":
    main()
