"""Base and refined model on pseudo-NYU and pseudo-ICVL, in those data sets' own joints, with and without bias.

The hand is fitted to the real labels, drawn as another hand with that data set's camera and a sensor model, and each
subject's model refined without labels on every other block of frames, tested on the blocks between. Writes
benchmarks/results/pseudo.json, and goes on after the last data set that a stopped run of the same numbers finished. Needs
the published labels (HRLIB_DATA_MIRROR). About 15 minutes a data set on one core with the default numbers.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import by_user
import numpy as np
import torch

from hrlib.companion import results
from hrlib.datasets.fetch import dataset_folder
from hrlib.datasets.pseudo import NYU_POSES, PSEUDO_SETS, pseudo_frames, real_labels, real_poses, split_frames
from hrlib.datasets.published import TEST_SETS, subset
from hrlib.evaluation.joint_errors import BIASES, THRESHOLDS_MM, Protocol, errors_mm, evaluate
from hrlib.evaluation.published_curves import described
from hrlib.hand.joints import to_dataset_joints
from hrlib.hand.rig import load_hand
from hrlib.method import predict_joints
from hrlib.network.checkpoint import load_network
from hrlib.refine import RECIPES, refine
from hrlib.support.paths import BENCHMARKS, HAND_ASSET, ONE_HAND_MODEL

PERCENTILES = (5, 25, 50, 75, 90, 95, 99)


def residual(dataset: str, poses) -> dict:
    """How far the fitted hand's joints, joint map's bias included, are from the labels, mm, in the joints evaluated."""
    joints, subject = TEST_SETS[dataset].joints, TEST_SETS[dataset].subject
    errors = errors_mm(*(subset(x, dataset, joints) for x in (poses.fitted_mm, real_labels(dataset))))
    return {
        "joints": joints,
        "frames": len(errors),
        "mean_mm": errors.mean(),
        "percentiles": PERCENTILES,
        "joint_percentiles_mm": np.percentile(errors, PERCENTILES),
        "frame_percentiles_mm": np.percentile(errors.mean(1), PERCENTILES),
        "per_joint_mm": errors.mean(0),
        "per_subject_mm": {str(s): errors[subject == s].mean() for s in np.unique(subject)},
        "bias_mm": subset(poses.offsets_mm[None], dataset, joints)[0].norm(dim=1),
        "size": poses.size(),
    }


def measured(dataset: str, net, template, settings, train: int, test: int) -> dict:
    """One data set: the residual, and our curves as `hrlib.evaluation.joint_errors.evaluate` gives them."""
    poses, evaluated, began = real_poses(dataset, template), TEST_SETS[dataset].joints, time.perf_counter()
    points = {"base": [], "refined": []}
    labels, subjects, left_out, warnings, sizes = [], [], 0, [], []
    for subject in (1, 2):
        own = pseudo_frames(dataset, split_frames(dataset, subject, "train", train), template, poses)
        unseen = pseudo_frames(dataset, split_frames(dataset, subject, "test", test), template, poses)
        done = refine(net, template, own.crops, settings)
        points["base"].append(predict_joints(net, template, unseen.crops))
        points["refined"].append(predict_joints(done.net, done.hand, unseen.crops))
        labels.append(unseen.labels_mm)
        subjects.append(unseen.subject)
        left_out += unseen.left_out
        warnings += done.warnings
        sizes.append({k: v for k, v in done.curve[-1].items() if k.startswith("log_")})
    labels, subjects, curves = torch.cat(labels), np.concatenate(subjects), []
    name = f"pseudo-{dataset.upper()}"
    for model, parts in points.items():
        joints = to_dataset_joints(torch.cat(parts), dataset, evaluated)
        for bias in BIASES:
            protocol = Protocol(
                name,
                "every other block of 100 test frames",
                evaluated,
                crop="segmentation without labels",
                scale="the template's" if model == "base" else "learned without labels",
                ground_truth="none" if bias == "none" else "the bias",
                bias=bias,
            )
            curves.append(described(evaluate(joints, labels, protocol, subjects), model, dataset, name))
            print(f"{name}, {model}, bias {bias}: {curves[-1]['mean_mm']:.2f} mm", flush=True)
    return {
        "residual": residual(dataset, poses),
        "curves": curves,
        "left_out": left_out,
        "warnings": warnings,
        "hands": sizes,
        "seconds": time.perf_counter() - began,
    }


def values_of(sets: dict) -> dict[str, float]:
    """The claims' values: by which share `best` lowers the mean error of a data set, the worst of the three biases."""
    values = {}
    for dataset, found in sets.items():
        mean = {(c["name"], c["protocol"]["bias"]): c["mean_mm"] for c in found["curves"]}
        values[f"pseudo-{dataset}"] = min(1 - mean["refined", bias] / mean["base", bias] for bias in BIASES)
    return values


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--datasets", nargs="+", choices=tuple(PSEUDO_SETS), default=list(PSEUDO_SETS))
    parser.add_argument("--train", type=int, default=400, help="unlabelled frames of each subject")
    parser.add_argument("--test", type=int, default=500, help="test frames of each subject")
    parser.add_argument("--steps", type=int, default=100, help="steps of learning in each round of `best`")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--base", type=Path, default=ONE_HAND_MODEL, help="the base model's file")
    parser.add_argument("--out", type=Path, default=BENCHMARKS / "pseudo.json")
    arguments = parser.parse_args()
    template = load_hand()
    net = load_network(template, arguments.base)[0]
    settings = replace(RECIPES["best"], frames=arguments.train, steps=arguments.steps, seed=arguments.seed)
    parameters = {key: value for key, value in vars(arguments).items() if key not in ("out", "base", "datasets")}
    data = {"hand": HAND_ASSET, "base model": arguments.base, "poses of NYU": NYU_POSES}
    data["published labels"] = dataset_folder("published")
    made = results.provenance(parameters | {"recipe": settings}, arguments.seed, data)
    kept = by_user.Partial(arguments.out, "-".join(arguments.datasets), made)
    counts, chosen = (arguments.train, arguments.test), arguments.datasets
    sets = kept.rows(chosen, chosen, lambda dataset: measured(dataset, net, template, settings, *counts))
    curves = [curve for found in sets.values() for curve in found["curves"]]
    rest = {dataset: {k: v for k, v in found.items() if k != "curves"} for dataset, found in sets.items()}
    metrics = {"thresholds_mm": THRESHOLDS_MM, "curves": curves, "sets": rest}
    whole = set(arguments.datasets) == set(PSEUDO_SETS) and arguments.train >= 300 and arguments.steps >= 100
    kept.finish("pseudo", metrics, values_of(sets), "quick" if whole else "smoke")


if __name__ == "__main__":
    main()
