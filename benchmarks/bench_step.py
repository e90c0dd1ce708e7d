"""What a step of refinement costs: time against a supervised step of the same network and batch, and memory.

Writes benchmarks/results/step.json: the two steps alternate in one process, and their medians are compared; the memory
of a refinement step at three sizes of the cloud P; and what the parts of the `best` recipe take. A minute or two on two
cores that have nothing else to do.
"""

import argparse
import copy
import json
import os
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from tqdm import tqdm

from hrlib.companion import results
from hrlib.frames.crop import IMAGE_SIZE
from hrlib.hand.rig import load_hand
from hrlib.losses import image_mse
from hrlib.method import evaluate_step, splat_target
from hrlib.network.checkpoint import load_network
from hrlib.network.predict import predict
from hrlib.refine import BestSettings, PaperSettings
from hrlib.refine.explain import CHUNK, ExplainSettings, fit_to_depth
from hrlib.refine.single_frame import bounded
from hrlib.support.paths import BENCHMARKS, HAND_ASSET, ONE_HAND_MODEL, PAPER_MODEL
from hrlib.synthetic.frames import Synthesiser, joined
from hrlib.synthetic.people import USERS, record
from hrlib.training.step import pose_loss

PAPER_IMAGES, PAPER_MINUTES = 10 * 50_000, 30  # Sec. 4.6: ten epochs over 50,000 frames, on a GTX 1060
CLOUDS = (1024, 2048, 4096)  # points of P
MIB = 2**20


def supervised_step(net, hand, truth, joint_weight: float):
    """A function that does one: forward, loss on the true poses, backward, Adam. The network, a copy, drops nothing."""
    net = copy.deepcopy(net).eval()
    optimiser = torch.optim.Adam(net.parameters(), PaperSettings.learning_rate, fused=True)

    def step():
        optimiser.zero_grad(set_to_none=True)
        loss, _ = pose_loss(net(truth.crops.image), truth, hand, joint_weight)
        loss.backward()
        optimiser.step()

    return step


def refinement_step(net, hand, crops):
    """A function that does one of the `paper` recipe, as `hrlib.refine` does, its curve's record included."""
    net, s = copy.deepcopy(net).eval(), PaperSettings()
    free = torch.zeros_like(hand.cloud_mm, requires_grad=True)
    groups = [{"params": list(net.parameters())}, {"params": [free], "lr": s.cloud_rate_mm}]
    optimiser = torch.optim.Adam(groups, s.learning_rate, fused=True)
    target = splat_target(crops, s.pipeline)

    def step():
        optimiser.zero_grad(set_to_none=True)
        cloud = hand.cloud_mm + bounded(free, s.reach_mm)
        done = evaluate_step(net(crops.image), hand, crops, s.pipeline, cloud, target)
        (done.loss.sum() / len(crops)).backward()
        image_mse(done.rendered, done.target).sum().item()
        optimiser.step()

    return step


def learning_step(net, hand, own, seed: int = 0):
    """A function that does one of the `best` recipe: half the batch synthetic, drawn in the step."""
    net, s = copy.deepcopy(net).eval(), BestSettings()
    optimiser = torch.optim.Adam(net.parameters(), s.learning_rate, fused=True)
    maker, seeds = Synthesiser(hand, s.synthesis), iter(range(seed, seed + 10**6))

    def step():
        batch = joined(own, maker.batch(s.synthetic, next(seeds)))
        optimiser.zero_grad(set_to_none=True)
        pose_loss(net(batch.crops.image), batch, hand, s.joint_weight)[0].backward()
        optimiser.step()

    return step


def alternate(steps: dict, repeats: int, warm_up: int = 3) -> dict[str, list[float]]:
    """Seconds of each step, taken by turns."""
    seconds = {name: [] for name in steps}
    for turn in tqdm(range(warm_up + repeats), desc=", ".join(steps)):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            if turn >= warm_up:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def peak_bytes(step) -> int:
    """The most that tensors made in the step held at one time, as torch's profiler saw them come and go."""
    step()  # what stays (Adam's moments, gradients) is there before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(file))
        events = [e for e in json.loads(file.read_text())["traceEvents"] if e.get("name") == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda e: e["ts"]):
        held += event["args"]["Bytes"]
        peak = max(peak, held)
    return peak


def with_cloud(hand, count: int):
    """The same hand with `count` points on its surface."""
    generator = torch.Generator().manual_seed(0)
    face = hand.cloud_face[torch.arange(count) % len(hand.cloud_face)]
    weights = -torch.rand(count, 3, generator=generator).clamp_min(1e-6).log()
    return replace(hand, cloud_face=face, cloud_bary=weights / weights.sum(1, keepdim=True))


def pose_to_loss(net, hand, crops):
    """A function that does what a refinement step does behind the network, forward and backward: poses to Eq. 1."""
    poses, target = predict(net, crops), splat_target(crops)
    cloud = hand.cloud_mm.clone().requires_grad_(True)
    inputs = [poses.rotations.requires_grad_(True), poses.offset.requires_grad_(True), cloud]

    def step():
        torch.autograd.grad(evaluate_step(poses, hand, crops, cloud_mm=cloud, target=target).loss.sum(), inputs)

    return step


def memory(net, hand, crops) -> dict:
    """Peaks of a refinement step, and of its part behind the network (in the whole step it is partly given back when
    the network has its peak), by the number of points; what each further point of each image adds to the latter."""
    hands = {count: with_cloud(hand, count) for count in CLOUDS}
    whole = {count: peak_bytes(refinement_step(net, other, crops)) for count, other in hands.items()}
    by_points = {count: peak_bytes(pose_to_loss(net, other, crops)) for count, other in hands.items()}
    first, last = min(by_points), max(by_points)
    per_point = (by_points[last] - by_points[first]) / (last - first) / len(crops)
    dense = IMAGE_SIZE**2 * 4  # one float for each pair of point and pixel
    return {
        "step_mib_by_points": {str(count): value / MIB for count, value in whole.items()},
        "behind_network_mib_by_points": {str(count): value / MIB for count, value in by_points.items()},
        "bytes_per_point_and_image": per_point,
        "bytes_per_point_and_image_of_n_x_hw": dense,
        "n_x_hw_mib_by_points": {str(count): len(crops) * count * dense / MIB for count in CLOUDS},
        "of_n_x_hw": per_point / dense,
    }


def fit_seconds(net, hand, crops, repeats: int, iterations: int = 10) -> list[float]:
    """Seconds of one iteration of the fit on 100 frames, the start of the fit included."""
    guess, settings = predict(net, crops), ExplainSettings(iterations=iterations)
    run = lambda: fit_to_depth(hand, crops, guess, settings, progress=False)  # noqa: E731
    return [t / iterations for t in alternate({"fit": run}, repeats, warm_up=1)["fit"]]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=25, help="timed steps of each kind")
    parser.add_argument("--batch", type=int, default=PaperSettings.batch)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--out", type=Path, default=BENCHMARKS / "step.json")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    hand = load_hand()
    paper, base = load_network(hand, PAPER_MODEL)[0], load_network(hand, ONE_HAND_MODEL)[0]
    frames = record(USERS["A"], hand, max(200, 2 * arguments.batch), "test")
    batch = frames[: arguments.batch]
    repeats = arguments.repeats
    seconds = alternate(
        {
            "supervised": supervised_step(paper, hand, batch, BestSettings.joint_weight),
            "refinement": refinement_step(paper, hand, batch.crops),
        },
        repeats,
    )
    seconds |= alternate({"best_learning": learning_step(base, hand, frames[: BestSettings.synthetic])}, repeats)
    seconds["best_fit_iteration"] = fit_seconds(base, hand, frames.crops[:CHUNK], max(1, repeats // 5))
    median = {name: statistics.median(values) for name, values in seconds.items()}
    metrics = {
        "batch": len(batch.crops),
        "points": len(hand.cloud_mm),
        "seconds": median,
        "fastest": {name: min(values) for name, values in seconds.items()},
        "refine_over_supervised": median["refinement"] / median["supervised"],
        "images_per_s": len(batch.crops) / median["refinement"],
        "paper_protocol_minutes": PAPER_IMAGES / len(batch.crops) * median["refinement"] / 60,  # extrapolated
        "paper_minutes": PAPER_MINUTES,
        "fit_frames": CHUNK,
        "memory": memory(paper, hand, batch.crops),
        "supervised_peak_mib": peak_bytes(supervised_step(paper, hand, batch, BestSettings.joint_weight)) / MIB,
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }
    print(f"the paper's 500,000 images would take {metrics['paper_protocol_minutes']:.0f} minutes")
    for name, value in median.items():
        print(f"{name}: {value * 1000:.0f} ms")
    for count, value in metrics["memory"]["step_mib_by_points"].items():
        behind = metrics["memory"]["behind_network_mib_by_points"][count]
        print(f"refinement step with {count} points: {value:.0f} MiB at most, {behind:.0f} MiB behind the network")
    made = results.provenance(
        {"repeats": repeats, "batch": arguments.batch, "threads": arguments.threads},
        0,
        {"hand": HAND_ASSET, "base model": ONE_HAND_MODEL, "paper's network": PAPER_MODEL},
    )
    values = {"refine-step-cost": metrics["refine_over_supervised"]}
    results.write_result(arguments.out, "step", metrics, values, made, "quick" if repeats >= 15 else "smoke")


if __name__ == "__main__":
    main()
