"""The picture of notebook 08: what the parts cost, against what people would use instead, and how cost grows (Sec. 4.6)."""

from collections.abc import Callable, Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...drawing.style import ACCENT, GOOD, GREEN, INK, MUTED, WIDTH_IN
from .panels import as_rows

BENCHMARKS = ("render", "skinning", "predict", "step", "growth")  # whose results are drawn
PAPER_FORWARD_MS = 3.5  # Sec. 4.6: a forward pass on a GTX 1060


def numbers_here(
    median_ms: Mapping[str, float], ms_by_points: Mapping[int, float], benchmarks: Mapping[str, Mapping]
) -> tuple[dict[str, Any], dict[str, float]]:
    """The numbers of notebook 08 on this machine, with those of the benchmarks, and the value of its claim.

    Args:
        median_ms: of the back ends "windowed" and "cpu", equal work.
        ms_by_points: number of points -> time of two images; the least and the most are compared.
    """
    numbers = {
        "median_ms": median_ms,
        "ms_by_points": ms_by_points,
        "windowed_over_cpu": median_ms["windowed"] / median_ms["cpu"],
        "threads": torch.get_num_threads(),
        "benchmarks": {name: benchmarks[name] for name in BENCHMARKS},
    }
    return numbers, {"speed.here.points": ms_by_points[max(ms_by_points)] / ms_by_points[min(ms_by_points)]}


def figure_speed(found: Mapping[str, Mapping]) -> Figure:
    """Six panels from the metrics of the benchmarks: found["render"], ["skinning"], ["predict"], ["step"], ["growth"]."""
    figure, ((renderer, growth), (predict, skinning), (step, refinement)) = plt.subplots(
        3, 2, figsize=(WIDTH_IN, 9.3), layout="constrained"
    )
    _renderer(renderer, found["render"]["median_ms"])
    _renderer_growth(growth, found["render"]["growth"])
    _skinning(skinning, found["skinning"]["batches"])
    _prediction(predict, found["predict"])
    _step(step, found["step"])
    _refinement_growth(refinement, found["growth"])
    return figure


def figure_gpu(gpu: Mapping, step: Mapping) -> Figure:
    """On a GPU (benchmarks/gpu_check.py): the paper's refinement, the renderer, and how near its kernels are to the limits."""
    figure = plt.figure(figsize=(WIDTH_IN, 5.2), layout="constrained")
    places = figure.subplot_mosaic([["whole", "renderer"], ["limits", "limits"]])
    whole, renderer, limits = places.values()
    seconds = {
        "hrlib, two CPU cores": 60 * step["paper_protocol_minutes"],
        "the paper, GTX 1060": 60 * step["paper_minutes"],
        f"hrlib, {gpu['device'].removeprefix('NVIDIA ')}": gpu["refinement"]["seconds"],
    }
    _bars(whole, seconds, lambda s: f"{s / 60:.0f} min" if s >= 600 else f"{s:.1f} s", {list(seconds)[2]}, log=True)
    whole.set(xlabel="s", title="Refinement of 500,000 images")
    row = gpu["renderer"][-1]
    times = {"plain torch": row["reference_ms"], "hrlib, gpu": row["gpu_ms"]}
    _bars(renderer, times, lambda ms: f"{ms:,.1f} ms", {"hrlib, gpu"}, log=True)
    renderer.set(xlabel=f"ms, forward + backward (B={row['batch']})", title="Depth renderer on the GPU: equal images")
    kernels = {"_keep_brightest": "points to keys", "_read_keys": "keys to depth", "_add_to_winners": "backward"}
    names = {"issue": "instructions issued", "l2": "second-level cache", "dram": "device memory"}
    for k, (name, label) in enumerate(names.items()):
        values = [gpu["limits"][kernel][name] for kernel in kernels]
        limits.barh(np.arange(3) + 0.26 * (k - 1), values, 0.24, label=label, color=(ACCENT, GOOD, MUTED)[k])
    limits.axvline(80, color=INK, ls=":", lw=1.2)
    times = [float(gpu["limits"][kernel]["time"].replace(",", "")) / 1e6 for kernel in kernels]
    limits.set_yticks(range(3), [f"{n}\n{t:.2f} ms" for n, t in zip(kernels.values(), times, strict=True)])
    limits.invert_yaxis()
    limits.set(xlim=(0, 100), xlabel="per cent of the device's limit")
    limits.set_title("The renderer's kernels", loc="left")
    limits.legend(ncols=3, columnspacing=1, loc="lower right", bbox_to_anchor=(1, 1))
    return figure


def _bars(axes: Axes, values: Mapping[str, float], form: str | Callable, ours: set[str], log: bool = False):
    """Horizontal bars from the top, ours in colour, each with its number."""
    bars = axes.barh(range(len(values)), values.values(), 0.66, color=[GOOD if n in ours else MUTED for n in values])
    axes.bar_label(bars, fmt=form, padding=4)
    as_rows(axes, list(values))
    axes.spines["left"].set_visible(True)
    axes.invert_yaxis()
    most = max(values.values())
    axes.set(xscale="log" if log else "linear", xlim=(1, 12 * most) if log else (0, 1.25 * most))


def _renderer(axes: Axes, median_ms: Mapping[str, float]):
    names = {"reference": "plain torch", "windowed": "torch, windows", "earlier": "numba, first version"}
    names |= {"cpu": "hrlib, cpu"}
    values = {label: median_ms[key] for key, label in names.items() if key in median_ms}
    _bars(axes, values, lambda ms: f"{ms:,.0f} ms" if ms >= 100 else f"{ms:.1f} ms", {"hrlib, cpu"}, log=True)
    axes.set_xlabel("ms, forward + backward (B=32, N=2048, r=5 px, 120x120)")
    axes.set_title("Depth renderer (Eq. 3-5): equal images")


def _renderer_growth(axes: Axes, growth: Mapping):
    labels = {"count": "points", "radius": "radius²", "batch": "images", "size": "pixels"}
    colours = dict(zip(labels, (GOOD, ACCENT, INK, GREEN), strict=True))
    least = 1.0
    for key, rows in growth.items():
        amounts = np.array([row["value"] for row in rows], float)
        x = {"radius": amounts**2, "size": amounts.prod(-1)}.get(key, amounts)
        y = np.array([row["milliseconds"] for row in rows])
        axes.plot(x / x[-1], y / y[-1], "o-", color=colours[key], lw=2, ms=4.5, label=labels[key])
        least = min(least, (x / x[-1]).min())
    axes.plot([least, 1], [least, 1], "--", color=MUTED, lw=1.2, label="linear")
    axes.set(xscale="log", yscale="log", xlabel="amount, the largest measured = 1", ylabel="time, the longest = 1")
    axes.set_title("The renderer grows at most linearly")
    axes.legend()


def _skinning(axes: Axes, batches: Mapping[str, Mapping]):
    ways, width = {"hrlib": GOOD, "smplx without blend shapes": MUTED, "smplx lbs": INK}, 0.27
    for k, (way, colour) in enumerate(ways.items()):
        x = np.arange(len(batches)) + (k - 1) * width
        forward, backward = ([b["median_ms"][way][part] for b in batches.values()] for part in ("forward", "backward"))
        axes.bar(x, forward, 0.92 * width, color=colour, label=way)
        axes.bar(x, backward, 0.92 * width, bottom=forward, color=colour, alpha=0.45)
    axes.set_xticks(range(len(batches)), [f"{b} hand{'s' * (b != '1')}" for b in batches])
    axes.set_ylabel("ms (pale: backward)")
    axes.set_title("Kinematics and skinning: equal points")
    axes.legend(loc="upper left")


def _prediction(axes: Axes, predict: Mapping):
    ms, names = predict["base"]["median_ms"], {"torch": "PyTorch", "torch.compile": "torch.compile"}
    names |= {"onnxruntime": "ONNX Runtime"}
    _bars(axes, {label: ms[way] for way, label in names.items() if way in ms}, "%.1f ms", {"ONNX Runtime"})
    text = {"transform": axes.get_xaxis_transform()}
    axes.axvline(ms["crop"], color=ACCENT, lw=1.4)
    axes.text(ms["crop"], 0.345, " crop alone", va="center", color=ACCENT, **text)  # between two bars
    axes.axvline(PAPER_FORWARD_MS, color=INK, lw=1, ls=":")
    side = "left" if PAPER_FORWARD_MS < 0.5 * axes.get_xlim()[1] else "center"  # inside the panel
    axes.text(PAPER_FORWARD_MS, 1.01, f" paper's GPU, network alone: {PAPER_FORWARD_MS} ms ", ha=side, **text)
    plural = "s" * (predict["threads"] > 1)
    axes.set_xlabel(f"ms a frame, 640x480 depth to joints, {predict['threads']} thread{plural}")
    axes.set_title("Single-frame prediction, crop included", pad=16)


def _step(axes: Axes, step: Mapping):
    seconds = step["seconds"]
    values = {"supervised step": 1e3 * seconds["supervised"], "refinement step": 1e3 * seconds["refinement"]}
    _bars(axes, values, "%.0f ms", {"refinement step"})
    axes.set_xlabel(f"ms for {step['batch']} images, the paper's network")
    axes.set_title(f"A refinement step is {step['refine_over_supervised']:.2f} times a supervised one")
    text = (
        f"the paper's 500,000 images at this rate: {step['paper_protocol_minutes'] / 60:.1f} h\n"
        f"the paper on a GTX 1060: {step['paper_minutes']} minutes"
    )
    axes.set_ylim(2.1, -0.6)
    axes.text(0.02, 0.03, text, transform=axes.transAxes)


def _refinement_growth(axes: Axes, growth: Mapping):
    rows = growth["refinement"]["passes"]
    frames, seconds = [row["frames"] for row in rows], [row["seconds"] for row in rows]
    axes.plot(frames, seconds, "o", color=GOOD, ms=7)
    axes.plot([0, frames[-1]], [0, seconds[-1]], "--", color=MUTED, lw=1.2)
    axes.set(xlabel="frames, one pass", ylabel="s, one thread", xlim=(0, None), ylim=(0, None))
    lines = [f"{name}: {rate:.0f} images/s" for name, rate in growth["images_per_s"].items()]
    if "large_peak_gb" in growth:
        lines.append(f"{growth['large_batch']} images a step: {growth['large_peak_gb']:.1f} GB")
    if growth.get("load_average"):
        lines.append(f"(other work ran beside: load {growth['load_average']:.0f})")
    axes.text(0.98, 0.04, "\n".join(lines), transform=axes.transAxes, ha="right", color=INK)
    axes.set_title("Refinement grows with the frames")
