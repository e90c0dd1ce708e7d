"""Speed and memory of splat_depth (paper Eq. 3-5), forward + backward, against a windowed renderer in plain torch.

    python benchmarks/bench_render.py            # a minute or two; writes benchmarks/results/render.json

Everything is timed in one process, repetitions of the competitors interleaved, medians reported, and the outputs are
checked equal before anything is timed. Memory is the rise of a fresh process's peak (Linux only).
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numba
import numpy as np
import torch
from tqdm import tqdm

from hrlib.companion import results
from hrlib.render import splat_depth
from hrlib.support.paths import BENCHMARKS, ROOT

BASE = {"batch": 32, "count": 2048, "radius": 5.0, "size": (120, 120)}  # the setting of the paper's training step
GROWTH = {
    "count": [512, 1024, 2048, 4096, 8192],
    "radius": [2.0, 3.5, 5.0, 7.5, 10.0],
    "batch": [1, 2, 8, 32, 64],
    "size": [(60, 60), (120, 120), (240, 240), (480, 480)],
}
MEMORY = [
    {"batch": 32, "count": 2048, "size": (120, 120)},
    {"batch": 64, "count": 2048, "size": (120, 120)},
    {"batch": 32, "count": 16384, "size": (120, 120)},
    {"batch": 32, "count": 2048, "size": (480, 480)},
]
EARLIER = "a6da838"  # the commit of the first numba back end, which speed-ups of the renderer are counted from
OPERATIONS = 14  # vector operations of the forward pass on each pixel of a window: 7 of Eq. 4 and 5, 7 to select


def windowed_splat(points: torch.Tensor, radius: float, size: tuple[int, int]) -> torch.Tensor:
    """What one writes in plain torch: every point's window of values, reduced into the flat image; autograd does the
    rest. One pixel beyond the image takes what falls outside it."""
    height, width = size
    reach = int(radius + 0.5)
    offsets = torch.arange(-reach, reach + 1)
    u, v, z = points[..., None, None].unbind(2)  # [B, N, 1, 1]
    columns = u.detach().round().long() + offsets  # [B, N, 1, R]
    rows = v.detach().round().long() + offsets[:, None]  # [B, N, R, 1]
    dist_squared = (columns - u) ** 2 + (rows - v) ** 2
    values = (1 - z) * (1 - dist_squared * (1 / radius**2)).clamp(min=0) ** 2
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    pixels = torch.where(inside, rows * width + columns, height * width)
    image = values.new_zeros(len(points), height * width + 1)
    image = image.scatter_reduce(1, pixels.flatten(1), values.flatten(1), "amax")
    return image[:, :-1].unflatten(1, size)


def earlier_splat():
    """The first version of the cpu back end, from the repository's history; None where there is no history."""
    shown = subprocess.run(
        ["git", "-C", ROOT, "show", f"{EARLIER}:hrlib/render/cpu.py"], capture_output=True, text=True, check=False
    )
    if shown.returncode:
        return None
    file = Path(tempfile.mkdtemp()) / "earlier_cpu.py"  # numba's cache wants a file
    file.write_text(shown.stdout, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("earlier_cpu", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda points, radius, size: module.splat(points, radius, *size)[0]


@numba.njit(parallel=True)
def _vector_work(values, rounds, threads):
    for part in numba.prange(threads):
        x = values[part]
        for _ in range(rounds):
            for i in range(x.shape[0]):
                y = x[i]
                for _ in range(8):
                    y = y * np.float32(0.9) + np.float32(0.1)  # two operations: no fastmath, so they are not fused
                x[i] = y


def vector_rate(threads: int, repeats: int = 7) -> float:
    """float32 operations per second of vectorised code that never leaves the L1 cache: what the cores can do."""
    values, rounds = np.ones((threads, 1024), np.float32), 2000
    _vector_work(values, 1, threads)
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        _vector_work(values, rounds, threads)
        seconds.append(time.perf_counter() - started)
    return values.size * rounds * 16 / min(seconds)


def use_of_the_cores(threads: int, repeats: int) -> dict:
    """The forward pass against `vector_rate`: (point, pixel) pairs and the operations on them, per second.

    Windows are 16 pixels wide and, at r = 5 px, 10 rows high; the pairs that count are those within r.
    """
    points, _ = make_case(BASE["batch"], BASE["count"], BASE["size"])
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        RENDERERS["cpu"](points.detach(), BASE["radius"], BASE["size"])
        seconds.append(time.perf_counter() - started)
    splats = BASE["batch"] * BASE["count"]
    pairs, lanes = splats * np.pi * BASE["radius"] ** 2, splats * 16 * 2 * BASE["radius"]
    rate = vector_rate(threads)
    return {
        "forward_ms": 1e3 * min(seconds),
        "candidates_per_s": pairs / min(seconds),
        "operations_per_s": lanes * OPERATIONS / min(seconds),
        "cores_operations_per_s": rate,
        "share_of_the_cores": lanes * OPERATIONS / min(seconds) / rate,
    }


RENDERERS = {
    "windowed": windowed_splat,
    "reference": partial(splat_depth, backend="reference"),
    "cpu": partial(splat_depth, backend="cpu"),
}


def make_case(batch, count, size, seed=0):
    """Points over the middle two thirds of the image, as a cropped hand is, and a random gradient of the image."""
    generator = torch.Generator().manual_seed(seed)
    height, width = size
    points = torch.rand(batch, count, 3, generator=generator)
    points = points * torch.tensor([width / 1.5, height / 1.5, 1]) + torch.tensor([width / 6, height / 6, 0])
    return points.requires_grad_(), torch.randn(batch, *size, generator=generator)


def forward_backward(name, points, weight, radius, size):
    points.grad = None
    depth = RENDERERS[name](points, radius, size)
    depth.backward(weight)
    return depth.detach(), points.grad


def milliseconds(name, *case):
    start = time.perf_counter()
    forward_backward(name, *case)
    return 1e3 * (time.perf_counter() - start)


def check_equal(*case) -> dict:
    """Largest differences from the reference; asserted before anything is timed."""
    depth, grad = forward_backward("reference", *case)
    differences = {}
    for name in ("windowed", "cpu"):
        other_depth, other_grad = forward_backward(name, *case)
        differences[name] = {
            "image": (other_depth - depth).abs().max().item(),
            "gradient_relative": ((other_grad - grad).abs().max() / grad.abs().max()).item(),
        }
        # float32: the image to a few roundings of 1; gradients sum up to 80 pixels in different orders.
        assert differences[name]["image"] < 1e-6, differences
        assert differences[name]["gradient_relative"] < 1e-5, differences
    return differences


def compare(repeats: int) -> dict:
    """Medians over interleaved repetitions at the base setting; the slow reference joins the first round."""
    points, weight = make_case(BASE["batch"], BASE["count"], BASE["size"])
    case = points, weight, BASE["radius"], BASE["size"]
    differences = check_equal(*case)
    earlier = earlier_splat()
    if earlier is not None:
        RENDERERS["earlier"] = earlier
        same = torch.equal(forward_backward("earlier", *case)[0], forward_backward("cpu", *case)[0])
        assert same, "the first version drew another image"
    times = {name: [] for name in RENDERERS}
    for round_ in tqdm(range(repeats), desc="windowed, reference, cpu"):
        for name in RENDERERS:
            if name != "reference" or round_ == 0:
                times[name].append(milliseconds(name, *case))
    return {"milliseconds": times, "differences": differences}


def growth(repeats: int) -> dict:
    """The cpu back end's time as one of N, r, B, image size changes and the rest stays at the base setting."""
    table = {}
    settings = [(name, value) for name, values in GROWTH.items() for value in values]
    for name, value in tqdm(settings, desc="growth"):
        setting = BASE | {name: value}
        points, weight = make_case(setting["batch"], setting["count"], setting["size"])
        case = points, weight, setting["radius"], setting["size"]
        forward_backward("cpu", *case)
        times = [milliseconds("cpu", *case) for _ in range(repeats)]
        table.setdefault(name, []).append({"value": value, "milliseconds": statistics.median(times)})
    return table


def memory() -> list[dict]:
    """Peak memory that one forward + backward adds, inputs included, in fresh processes."""
    if not Path("/proc/self/status").exists():
        return []
    rows = []
    for setting in tqdm(MEMORY, desc="memory"):
        units = setting["batch"] * (setting["count"] + setting["size"][0] * setting["size"][1])
        row = {**setting}
        for name in ("cpu", "windowed"):
            command = [sys.executable, __file__, "--peak", json.dumps({"name": name, **setting})]
            row[name] = {"bytes": int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)}
            row[name]["bytes_per_point_and_pixel"] = row[name]["bytes"] / units
        rows.append(row)
    return rows


def peak_rise(name, batch, count, size):
    def peak():
        status = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024

    forward_backward(name, *make_case(1, 10, (8, 8)), BASE["radius"], (8, 8))  # imports and compiled code
    before = peak()
    forward_backward(name, *make_case(batch, count, size), BASE["radius"], size)
    return peak() - before


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=21, help="interleaved repetitions")
    parser.add_argument("--out", type=Path, default=BENCHMARKS / "render.json")
    parser.add_argument("--peak", help=argparse.SUPPRESS)  # a child that measures its own memory
    arguments = parser.parse_args()
    if arguments.peak:
        setting = json.loads(arguments.peak)
        print(peak_rise(**setting | {"size": tuple(setting["size"])}))
        return

    started = time.perf_counter()
    forward_backward("cpu", *make_case(1, 10, (8, 8)), 5.0, (8, 8))
    first_call_s = time.perf_counter() - started
    compared = compare(arguments.repeats)
    median = {name: statistics.median(times) for name, times in compared["milliseconds"].items()}
    metrics = {
        "setting": BASE,
        "threads": torch.get_num_threads(),
        "cpu_cores": os.cpu_count(),
        "load_average_before": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "first_call_s": first_call_s,
        "median_ms": median,
        "min_ms": {name: min(times) for name, times in compared["milliseconds"].items()},
        "speed_up_over_windowed": median["windowed"] / median["cpu"],
        "speed_up_over_plain_torch": median["reference"] / median["cpu"],
        "cores": use_of_the_cores(torch.get_num_threads(), arguments.repeats),
        "largest_difference_from_reference": compared["differences"],
        **({"speed_up_over_earlier": median["earlier"] / median["cpu"]} if "earlier" in median else {}),
        "growth": growth(max(3, arguments.repeats // 2)),
        "memory": memory(),
    }
    values = {"render-speed": metrics["speed_up_over_windowed"], "render-limit": metrics["cores"]["share_of_the_cores"]}
    if metrics["memory"]:
        values["render-memory"] = max(row["cpu"]["bytes_per_point_and_pixel"] for row in metrics["memory"])
    made = results.provenance({"repeats": arguments.repeats}, seed=0, data=None)
    results.write_result(arguments.out, "render", metrics, values, made, "quick")


if __name__ == "__main__":
    main()
