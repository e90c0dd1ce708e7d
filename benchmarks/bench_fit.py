"""The pose of each frame by Gauss-Newton (as `hrlib predict` does) beside Adam on nearly the same energy: errors and time.

Writes benchmarks/results/fit.json. Both begin at the base model's five views, told the shape that it sees, of the first test
frames of each development person; ours also at a single view. One thread. Time is that of the processor, which other programs
disturb less; the ratio is what counts. Weights and numbers of steps were chosen on these people. The real set was looked at
once, at the end. Two minutes on one core.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch
from tqdm import tqdm

from hrlib.companion import results
from hrlib.datasets.fetch import dataset_folder
from hrlib.datasets.real_joints import RealJoints
from hrlib.evaluation.found import find_real, points_of
from hrlib.evaluation.joint_errors import errors_without, joint_error_mm
from hrlib.hand.joints import JOINT_POINTS
from hrlib.hand.rig import load_hand
from hrlib.method import predicted_joints
from hrlib.network.checkpoint import load_network
from hrlib.network.known import told_what_it_sees
from hrlib.network.predict import predict, predict_turned
from hrlib.refine import RECIPES, refine
from hrlib.refine.explain import ExplainSettings, explain, surprise
from hrlib.refine.gauss_newton import FitSettings, fitted_poses
from hrlib.support.paths import BASE_MODEL, BENCHMARKS, HAND_ASSET
from hrlib.synthetic.people import USERS, record

REAL = "handpose_x_plus"
FITS = {
    "adam": lambda *frames: explain(*frames, ExplainSettings(), progress=False).prediction,
    "gauss_newton": lambda *frames: fitted_poses(*frames, progress=False).prediction,
}


def timed(function, *arguments):
    """What a function returns, and the processor's milliseconds that it takes."""
    began = time.process_time()
    result = function(*arguments)
    return result, 1e3 * (time.process_time() - began)


def compare(net, hand, crops) -> tuple[dict, dict]:
    """Poses and milliseconds a frame of the network's views, one and five, and of both fits."""
    poses, times = {}, {}
    for name, views in (("once", predict), ("five", predict_turned)):
        poses[name], ms = timed(views, net, crops)
        times[name] = ms / len(crops)
    for name, fit in FITS.items():
        fit(hand, crops[:3], poses["five"][:3])  # compiles
        poses[name], ms = timed(fit, hand, crops, poses["five"])
        times[name] = ms / len(crops)
    poses["gauss_newton_once"], ms = timed(FITS["gauss_newton"], hand, crops, poses["once"])
    times["gauss_newton_once"] = ms / len(crops)
    return poses, times


def development(net, template, count: int) -> dict:
    """Errors and times of A-D."""
    rows = {}
    for name, user in tqdm(USERS.items(), "people"):
        test = record(user, template, count, "test", progress=False)
        own, hand = told_what_it_sees(net, template, test.crops)
        poses, times = compare(own, hand, test.crops)
        points = {way: predicted_joints(pose, hand, test.crops) for way, pose in poses.items()}
        errors = {way: joint_error_mm(p, test.joints_mm, JOINT_POINTS) for way, p in points.items()}
        rows[name] = {
            "frames": len(test.crops),
            "mean16_mm": {way: error.mean().item() for way, error in errors.items()},
            "median16_mm": {way: error.median().item() for way, error in errors.items()},
            "surprise": {way: surprise(hand, test.crops, pose).mean().item() for way, pose in poses.items()},
            "ms": times,
        }
        print(name, {way: round(mm, 2) for way, mm in rows[name]["mean16_mm"].items()}, "mm", flush=True)
    return rows


def real(net, template) -> dict:
    """Errors of the real set, whose frames without labels tell the hand's shape, as `evaluate.py` has it."""
    found = find_real(RealJoints(REAL), progress=False)
    refined = refine(net, template, found.crops, RECIPES["best"], progress=False)
    poses, times = compare(refined.net, refined.hand, found.crops)
    points = {way: points_of(pose, refined.hand, found.crops) for way, pose in poses.items()}
    kinds, chosen = {"as_they_are": "none", "offset_removed": "hand"}, list(JOINT_POINTS)
    errors = {
        how: {way: float(errors_without(kind, p, found.true_mm)[:, chosen].mean()) for way, p in points.items()}
        for how, kind in kinds.items()
    }
    return {"frames": len(found.crops), "mean16_mm": errors, "ms": times}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=100, help="test frames of each person")
    parser.add_argument("--real", action=argparse.BooleanOptionalAction, default=True, help=f"also {REAL}")
    parser.add_argument("--out", type=Path, default=BENCHMARKS / "fit.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    template = load_hand()
    net = load_network(template)[0]
    metrics = {"users": development(net, template, arguments.frames)}
    data = {"hand": HAND_ASSET, "base model": BASE_MODEL}
    if arguments.real:
        metrics["real"], data["real frames"] = {REAL: real(net, template)}, dataset_folder(REAL) / "joints.npz"
    rows = metrics["users"].values()
    metrics["ms"] = {way: statistics.mean(row["ms"][way] for row in rows) for way in ("once", "five", *FITS)}
    metrics["times_as_fast"] = metrics["ms"]["adam"] / metrics["ms"]["gauss_newton"]
    metrics["worst_of_adam"] = max(r["mean16_mm"]["gauss_newton"] / r["mean16_mm"]["adam"] for r in rows)
    print({key: metrics[key] for key in ("ms", "times_as_fast", "worst_of_adam")})
    print(metrics.get("real", ""))
    parameters = {"frames": arguments.frames, "adam": ExplainSettings(), "gauss_newton": FitSettings(), "threads": 1}
    made = results.provenance(parameters, 0, data)
    values = {"fit-time": metrics["ms"]["gauss_newton"], "fit-error": metrics["worst_of_adam"]}
    results.write_result(arguments.out, "fit", metrics, values, made, "quick" if arguments.frames >= 60 else "smoke")


if __name__ == "__main__":
    main()
