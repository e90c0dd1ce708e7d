"""Speed of pretraining with frames made on the fly, against the same training on one batch made beforehand.

    python benchmarks/bench_pretrain.py          # a few minutes; writes benchmarks/results/pretrain.json

Both train the same network; their turns alternate in one process, and the medians of the turns are compared. Frames are
made in the step or ahead of it in a thread; both ways are timed.
"""

import argparse
import os
import statistics
import time
from itertools import count, repeat
from pathlib import Path

import torch
from tqdm import tqdm

from hrlib.companion import results
from hrlib.hand.rig import load_hand
from hrlib.network.posenet import NetworkSettings, PoseNet
from hrlib.support.paths import BENCHMARKS, HAND_ASSET
from hrlib.synthetic.frames import Synthesiser
from hrlib.training.batches import Batches, PretrainSettings, ahead
from hrlib.training.pretrain import frames_ahead as pretrain_makes_ahead
from hrlib.training.step import has_bfloat16, train_step


def images_per_second(settings: PretrainSettings, turns: int, steps: int, device: torch.device) -> dict:
    """Median over the turns, of `steps` steps each, of each way to come by a batch."""
    hand = load_hand()
    net = PoseNet(NetworkSettings(rotation="6d", batch_norm=True)).to(device, memory_format=torch.channels_last).train()
    optimiser = torch.optim.Adam(net.parameters(), settings.learning_rate, fused=True)
    bfloat16, hand_there = has_bfloat16(device), hand.to(device)
    made = Batches(Synthesiser(hand), settings)
    made(0)  # compiles; and from the second step on, a batch is whole
    cached = made(1)
    sources = {
        "cached": repeat(cached),
        "in the step": map(made, count(2)),
        "ahead": ahead(Batches(Synthesiser(hand), settings), count(0)),
    }
    for source in sources.values():
        next(source), next(source)
    speeds = {name: [] for name in sources}
    for _ in tqdm(range(turns), desc="turns"):
        for name, source in sources.items():
            # what was made ahead while others had their turn would be for free: begin in the rhythm
            for step, batch in zip(range(steps + 1), source, strict=False):
                train_step(net, optimiser, batch.to(device), hand_there, settings.joint_weight, bfloat16).tolist()
                if step == 0:
                    started = time.perf_counter()
            speeds[name].append(steps * len(cached.rotations) / (time.perf_counter() - started))
    return speeds


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=9, help="alternations")
    parser.add_argument("--steps", type=int, default=4, help="timed steps a turn")
    parser.add_argument("--batch", type=int, default=200, help="frames a step")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=BENCHMARKS / "pretrain.json")
    arguments = parser.parse_args()
    settings, device = PretrainSettings(batch=arguments.batch), torch.device(arguments.device)
    speeds = images_per_second(settings, arguments.turns, arguments.steps, device)
    median = {name: statistics.median(values) for name, values in speeds.items()}
    ratio = {name: median[name] / median["cached"] for name in ("in the step", "ahead")}
    used = "ahead" if pretrain_makes_ahead(device) else "in the step"
    metrics = {
        "device": device.type,
        "batch": settings.batch,
        "fresh_share": settings.fresh,
        "images_per_second": median,
        "fastest_turn": {name: max(values) for name, values in speeds.items()},
        "of_cached": ratio,
        "used_by_pretrain": used,
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }
    for name, value in median.items():
        print(f"{name}: {value:.0f} images/s")
    parameters = {"turns": arguments.turns, "steps": arguments.steps, "batch": settings.batch}
    made = results.provenance(parameters, settings.seed, {"hand": HAND_ASSET})
    profile = "quick" if arguments.turns * arguments.steps >= 36 else "smoke"
    results.write_result(arguments.out, "pretrain", metrics, {"pretrain-on-the-fly": ratio[used]}, made, profile)


if __name__ == "__main__":
    main()
