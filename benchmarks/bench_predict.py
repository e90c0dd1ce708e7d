"""Single-frame prediction, depth frame to joints: PyTorch as it is, compiled, and ONNX Runtime (Sec. 4.6).

    python benchmarks/bench_predict.py      # a minute or two; writes results/predict.json

The ways take turns on the same frames; their joints are checked equal before anything is timed. Segmentation, which all of
them share, is timed apart and together with the fastest.
"""

import argparse
import os
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from hrlib.companion import results
from hrlib.frames.camera import Camera
from hrlib.frames.crop import crop_hand
from hrlib.frames.segment import segment_hand
from hrlib.hand.rig import load_hand
from hrlib.method import predicted_joints
from hrlib.network.checkpoint import load_network
from hrlib.network.onnx import OnnxPredictor, export_bytes
from hrlib.support.paths import BASE_MODEL, BENCHMARKS, HAND_ASSET, PAPER_MODEL
from hrlib.synthetic.frames import Synthesiser, SyntheticSettings

RUN = 8  # frames one way sees before the next takes its turn


def frames(count: int, hand, arm: bool):
    """Frames of 640x480 as a camera gives them: a list of depth [480, 640] mm and Camera. arm: with a forearm, or a hand
    cut at the wrist, all of whose pixels are the hand's."""
    settings = SyntheticSettings(noise_share=1.0, forearm_share=float(arm), forearm_mm=120.0 if arm else 2.0)
    maker, generator = Synthesiser(hand, settings), torch.Generator().manual_seed(3)
    drawing = maker.draw(*maker.sample(count, generator), generator)
    made = []
    for depth_mm, (fx, fy, cx, cy) in zip(drawing.depth_mm, drawing.intrinsics.tolist(), strict=True):
        side = len(depth_mm)
        top, left = (480 - side) // 2, (640 - side) // 2
        whole = np.zeros((480, 640), np.float32)
        whole[top : top + side, left : left + side] = depth_mm
        made.append((whole, Camera(fx, fy, cx + left, cy + top)))
    return made


def ways(net, hand, compiled: bool) -> dict:
    """Functions from crops of one frame to joints [1, 21, 3] mm."""

    def eager(crops, forward=net):
        return predicted_joints(forward(crops.image), hand, crops)

    runtime = OnnxPredictor(export_bytes(net, hand))
    made = {"torch": eager, "onnxruntime": lambda crops: runtime.run(crops)[1]}
    if compiled:
        faster = torch.compile(net)
        made["torch.compile"] = lambda crops: eager(crops, faster)
    return made


def check_equal(made: dict, crops: list) -> dict:
    """Largest distance of a joint from PyTorch's, mm."""
    expected = [made["torch"](c) for c in crops]
    return {
        name: max((way(c) - e).norm(dim=-1).max().item() for c, e in zip(crops, expected, strict=True))
        for name, way in made.items()
    }


def measure(made: dict, hand, repeats: int, seed_frames: int = 8) -> dict:
    """Milliseconds a frame, the ways taken by turns: whole (crop, network, joints), and its parts."""
    free, armed = frames(seed_frames, hand, False), frames(seed_frames, hand, True)
    crops = [crop_hand(depth, camera) for depth, camera in free]
    differences = check_equal(made, crops)
    assert max(differences.values()) < 0.01, differences
    ms = {name: [] for name in made} | {"crop": [], "segment": [], "segment to joints": []}

    def timed(name, function, *arguments):
        started = time.perf_counter()
        function(*arguments)
        ms[name].append(1e3 * (time.perf_counter() - started))

    def whole(way, depth, camera):
        return way(crop_hand(depth, camera))

    def segmented(depth, camera):
        return made["onnxruntime"](crop_hand(depth, camera, segment_hand(depth, camera)))

    for turn in tqdm(range(repeats), desc=", ".join(made)):
        # short runs of one way, as a camera's frames come: the weights of the others leave the caches in between
        for name, way in made.items():
            for k in range(RUN):
                timed(name, whole, way, *free[(turn + k) % len(free)])
        timed("crop", crop_hand, *free[turn % len(free)])
        armed_frame = armed[turn % len(armed)]
        timed("segment", segment_hand, *armed_frame)
        timed("segment to joints", segmented, *armed_frame)
    return {
        "difference_mm": differences,
        "median_ms": {name: statistics.median(t) for name, t in ms.items()},
        "min_ms": {name: min(t) for name, t in ms.items()},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True, help="torch.compile, too")
    parser.add_argument("--out", type=Path, default=BENCHMARKS / "predict.json")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    hand, metrics = load_hand(), {"frame": [480, 640], "threads": arguments.threads}
    with torch.inference_mode():
        for name, path in (("base", BASE_MODEL), ("paper", PAPER_MODEL)):
            made = ways(load_network(hand, path)[0], hand, arguments.compile and name == "base")
            metrics[name] = measure(made, hand, arguments.repeats)
    for name in ("base", "paper"):
        print(name, {way: round(t, 2) for way, t in metrics[name]["median_ms"].items()}, "ms")
    ms = metrics["base"]["median_ms"]
    values = {"predict-speed-up": ms["torch"] / ms["onnxruntime"], "predict-rate": 1e3 / ms["onnxruntime"]}
    data = {"hand": HAND_ASSET, "base model": BASE_MODEL, "paper's network": PAPER_MODEL}
    made = results.provenance({"repeats": arguments.repeats, "threads": arguments.threads}, 3, data)
    profile = "quick" if arguments.repeats >= 15 else "smoke"
    results.write_result(arguments.out, "predict", metrics, values, made, profile)


if __name__ == "__main__":
    main()
