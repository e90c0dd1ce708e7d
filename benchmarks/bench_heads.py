"""Which rotation head and which backbone learns most from the same frames (Sec. 3.2, 4.1).

    python benchmarks/bench_heads.py             # 300 steps of 100 frames; writes benchmarks/results/heads.json

The networks are trained side by side, each batch seen by all of them, from one seed, and compared on fresh frames of the
template without noise. A few hundred steps tell what learns faster, not what is best after a full training.
"""

import argparse
import os
import statistics
import time
from pathlib import Path

import torch
from tqdm import tqdm

from hrlib.companion import results
from hrlib.evaluation.joint_errors import joint_error_mm
from hrlib.hand.joints import JOINT_POINTS
from hrlib.hand.rig import load_hand
from hrlib.method import predict_joints
from hrlib.network.posenet import NetworkSettings, PoseNet
from hrlib.support.paths import BENCHMARKS, HAND_ASSET
from hrlib.synthetic.frames import Synthesiser, SyntheticSettings
from hrlib.training.batches import Batches, PretrainSettings, ahead
from hrlib.training.pretrain import learning_rate
from hrlib.training.step import has_bfloat16, train_step

NETWORKS = {
    "alexnet, quaternion": NetworkSettings(rotation="quaternion", batch_norm=True),
    "alexnet, 6d": NetworkSettings(rotation="6d", batch_norm=True),
    "alexnet, euler": NetworkSettings(rotation="euler", batch_norm=True),
    "resnet, 6d": NetworkSettings(rotation="6d", batch_norm=True, backbone="resnet"),
}
TEST_SEED = 10**9


def train(hand, settings: PretrainSettings) -> tuple[dict, dict]:
    """All networks on the same batches; the trained ones, and the seconds of each of their steps."""
    nets, optimisers = {}, {}
    for name, network in NETWORKS.items():
        torch.manual_seed(settings.seed)
        nets[name] = PoseNet(network).to(memory_format=torch.channels_last)
        optimisers[name] = torch.optim.Adam(nets[name].parameters(), settings.learning_rate, fused=True)
    bfloat16 = has_bfloat16(torch.device("cpu"))
    seconds = {name: [] for name in nets}
    batches = ahead(Batches(Synthesiser(hand), settings), range(settings.steps))
    for step, batch in enumerate(tqdm(batches, total=settings.steps, desc="train all")):
        for name, net in nets.items():
            for group in optimisers[name].param_groups:
                group["lr"] = learning_rate(step, settings)
            torch.manual_seed(step)  # the same dropout, where the layers are of one width
            net.train()
            started = time.perf_counter()
            train_step(net, optimisers[name], batch, hand, settings.joint_weight, bfloat16)
            seconds[name].append(time.perf_counter() - started)
    return nets, seconds


def evaluate(nets: dict, hand, count: int) -> dict:
    """Mean and median joint error (mm) of each network on fresh frames without noise or forearm."""
    clean = SyntheticSettings(noise_share=0.0, forearm_share=0.0)
    batch = Synthesiser(hand, clean).batch(count, TEST_SEED)
    errors = {
        name: joint_error_mm(predict_joints(net, hand, batch.crops), batch.joints_mm, JOINT_POINTS)
        for name, net in nets.items()
    }
    return {name: {"mean_mm": e.mean().item(), "median_mm": e.median().item()} for name, e in errors.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300, help="of each network")
    parser.add_argument("--batch", type=int, default=100, help="frames a step")
    parser.add_argument("--test", type=int, default=500, help="frames to compare on")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=BENCHMARKS / "heads.json")
    arguments = parser.parse_args()
    settings = PretrainSettings(steps=arguments.steps, batch=arguments.batch, seed=arguments.seed)
    hand = load_hand()
    nets, seconds = train(hand, settings)
    metrics = {
        "steps": settings.steps,
        "batch": settings.batch,
        "test_frames": arguments.test,
        "joints": len(JOINT_POINTS),
        "joint_error": evaluate(nets, hand, arguments.test),
        "million_weights": {name: sum(p.numel() for p in net.parameters()) / 1e6 for name, net in nets.items()},
        "median_step_ms": {name: 1e3 * statistics.median(times) for name, times in seconds.items()},
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }
    for name, row in metrics["joint_error"].items():
        print(f"{name}: {row['mean_mm']:.1f} mm, {metrics['median_step_ms'][name]:.0f} ms a step")
    parameters = {"steps": settings.steps, "batch": settings.batch, "test": arguments.test}
    made = results.provenance(parameters, settings.seed, {"hand": HAND_ASSET})
    results.write_result(arguments.out, "heads", metrics, {}, made, "quick" if settings.steps >= 300 else "smoke")


if __name__ == "__main__":
    main()
