"""Pose by optimisation alone (particle swarm, ICP) on the simulated users' frames, beside the shipped base model.

Writes benchmarks/results/generative.json: for each user, joint error, image MSE and seconds a frame of the base model, of
a particle swarm from scratch and from the base model's prediction, and of ICP from that prediction. All of them pose the
template's hand, as nothing is known of the user's.
"""

import argparse
import time
from pathlib import Path

import torch
from generative import GenerativeSettings, fit_frames

from hrlib.companion import results
from hrlib.evaluation.joint_errors import joint_error_mm
from hrlib.hand.joints import JOINT_POINTS
from hrlib.hand.rig import load_hand
from hrlib.losses import image_mse
from hrlib.method import evaluate_step
from hrlib.network.checkpoint import load_network
from hrlib.network.predict import predict
from hrlib.support.paths import BENCHMARKS, HAND_ASSET, ONE_HAND_MODEL
from hrlib.synthetic.people import USERS, record

RECORDED = 200  # test frames of each user that are cut out and kept; the first of them are fitted
DEFAULT_FRAMES = 40


@torch.no_grad()
def measured(predicted, seconds: float, hand, frames) -> dict:
    """Joint error (mm, 16 joints, mean and median over the frames), mean image MSE, and seconds a frame."""
    step = evaluate_step(predicted, hand, frames.crops)
    error = joint_error_mm(step.joints_mm, frames.joints_mm, JOINT_POINTS)
    return {
        "mean16": error.mean(),
        "median16": error.median(),
        "image_mse": image_mse(step.rendered, step.target).mean(),
        "seconds_per_frame": seconds / len(frames.crops),
    }


def compare(net, template, frames, pso: GenerativeSettings, icp: GenerativeSettings) -> dict:
    """The four methods on the same frames."""
    predict(net, frames.crops[:1])  # the first call is not the one that is timed
    started = time.perf_counter()
    base = predict(net, frames.crops)
    rows = {"base": measured(base, time.perf_counter() - started, template, frames)}
    for name, settings, start in (("pso_scratch", pso, None), ("pso_base", pso, base), ("icp_base", icp, base)):
        started = time.perf_counter()
        fitted = fit_frames(template, frames.crops, settings, start)
        rows[name] = measured(fitted, time.perf_counter() - started, template, frames)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=DEFAULT_FRAMES, help="first test frames of each user")
    parser.add_argument("--particles", type=int, default=GenerativeSettings.particles)
    parser.add_argument("--generations", type=int, default=GenerativeSettings.generations)
    parser.add_argument("--iterations", type=int, default=GenerativeSettings.iterations, help="of ICP")
    parser.add_argument("--seed", type=int, default=GenerativeSettings.seed)
    parser.add_argument("--out", type=Path, default=BENCHMARKS / "generative.json")
    arguments = parser.parse_args()
    if not 0 < arguments.frames <= RECORDED:
        parser.error(f"--frames must be between 1 and {RECORDED}, got {arguments.frames}")
    pso = GenerativeSettings(
        method="pso", particles=arguments.particles, generations=arguments.generations, seed=arguments.seed
    )
    icp = GenerativeSettings(method="icp", iterations=arguments.iterations, seed=arguments.seed)
    template = load_hand()
    net, _ = load_network(template, ONE_HAND_MODEL)
    users, taken = {}, {}
    for name, user in USERS.items():
        frames = record(user, template, RECORDED, "test")[: arguments.frames]
        taken[name] = len(frames.crops)
        users[name] = compare(net, template, frames, pso, icp)
        print(
            name, ", ".join(f"{k} {r['mean16']:.1f} mm {r['seconds_per_frame']:.2f} s" for k, r in users[name].items())
        )
    metrics = {"test_frames": taken, "users": users, "mean": mean_over_users(users)}
    full = arguments.frames >= DEFAULT_FRAMES and (pso, icp) == (
        GenerativeSettings(method="pso", seed=arguments.seed),
        GenerativeSettings(method="icp", seed=arguments.seed),
    )
    parameters = {"frames": arguments.frames, "pso": pso, "icp": icp, "threads": torch.get_num_threads()}
    made = results.provenance(parameters, arguments.seed, {"hand": HAND_ASSET, "base model": ONE_HAND_MODEL})
    results.write_result(arguments.out, "generative", metrics, {}, made, "quick" if full else "smoke")


def mean_over_users(users: dict) -> dict:
    """Each method's numbers, averaged over the users."""
    methods = next(iter(users.values()))
    return {
        method: {key: sum(float(rows[method][key]) for rows in users.values()) / len(users) for key in methods[method]}
        for method in methods
    }


if __name__ == "__main__":
    main()
