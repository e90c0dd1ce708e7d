"""What refinement makes of the four simulated users: the paper's recipe and ours, against base and supervised oracle.

Writes benchmarks/results/refine.json after each user, and goes on where a stopped run of the same numbers was. Reads the
oracles from benchmarks/results/users.json. About 40 minutes on two cores with the default numbers.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import torch

from hrlib import results
from hrlib.adapted import confidence
from hrlib.checkpoint import load_network
from hrlib.datasets.simulated import USERS, record
from hrlib.evaluate import gap_closed, image_mse, joint_error_mm, predict, predicted_joints, spearman
from hrlib.hand import load_hand
from hrlib.joints import JOINT_POINTS
from hrlib.paths import BASE_MODEL, BENCHMARKS, HAND_ASSET, PAPER_MODEL
from hrlib.pipeline import PipelineSettings, evaluate_step
from hrlib.refine import RECIPES, refine

JOINTS = list(JOINT_POINTS)


@torch.no_grad()
def measured(net, hand, test, cloud_mm=None) -> dict:
    """A network on a user's test frames: joint error (mm, 16 joints), image MSE, jitter, and what its own doubt is worth."""
    prediction, crops = predict(net, test.crops), test.crops
    joints = predicted_joints(prediction, hand, crops)
    mse, terms = [], []
    for first in range(0, len(crops), 200):
        piece = slice(first, first + 200)
        step = evaluate_step(prediction[piece], hand, crops[piece], PipelineSettings(), cloud_mm)
        mse.append(image_mse(step.rendered, step.target))
        terms.append(torch.stack([step.terms[key] for key in ("collision", "physical")], 1))
    mse, terms = torch.cat(mse), torch.cat(terms).mean(0)
    error = joint_error_mm(joints[:, JOINTS], test.joints_mm[:, JOINTS])
    return {
        "mean16": error.mean().item(),
        "median16": error.median().item(),
        "mse": mse.mean().item(),
        "mse_variance": mse.var().item(),
        "collision_mm": terms[0].item(),
        "physical_rad": terms[1].item(),
        "jitter": jitter(joints, test.joints_mm)[0],
        "true_jitter": jitter(joints, test.joints_mm)[1],
        "confidence_spearman": float(spearman(-confidence(prediction, hand, crops), error)),
    }


def jitter(joints, truth) -> tuple[float, float]:
    """Mean acceleration (mm a frame^2) of predicted and true joints, where three frames follow one another in truth, too:
    frames without a usable hand are left out, and what is next to a gap is no movement."""
    second = lambda x: (x[2:] - 2 * x[1:-1] + x[:-2]).norm(dim=-1).mean(1)  # noqa: E731
    true = second(truth)
    unbroken = true < 15
    return second(joints)[unbroken].mean().item(), true[unbroken].mean().item()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", default="ABCD")
    parser.add_argument("--train", type=int, default=4000, help="unlabelled frames of each user")
    parser.add_argument("--test", type=int, default=1000, help="test frames of each user")
    parser.add_argument("--frames", type=int, default=600, help="of the unlabelled frames, those that `best` explains")
    parser.add_argument("--steps", type=int, default=120, help="steps of learning in each round of `best`")
    parser.add_argument("--seeds", type=int, default=3, help="runs of `best`")
    parser.add_argument("--paper-frames", type=int, default=1000, help="unlabelled frames of the paper's recipe")
    parser.add_argument("--paper-batch", type=int, default=50, help="frames a step, so that there are 200 steps")
    parser.add_argument("--paper-rate", type=float, default=2e-5)
    parser.add_argument("--out", type=Path, default=BENCHMARKS / "refine.json")
    arguments = parser.parse_args()
    template = load_hand()
    base, paper = load_network(template)[0], load_network(template, PAPER_MODEL)[0]
    oracles = json.loads((BENCHMARKS / "users.json").read_text())["metrics"]["users"]
    parameters = {key: value for key, value in vars(arguments).items() if key not in ("out", "users")}
    data = {"hand": HAND_ASSET, "base model": BASE_MODEL, "paper's network": PAPER_MODEL}
    made = results.provenance(parameters, 0, data, "simulated joints, for evaluation only (and to train the oracles)")
    metrics = {"users": {}}
    partial = arguments.out.with_suffix(".partial.json")
    if partial.exists() and (old := json.loads(partial.read_text()))["parameters"] == parameters:
        metrics = old["metrics"]
    for name in arguments.users:
        if name in metrics["users"]:
            continue
        user, began = USERS[name], time.perf_counter()
        train, test = record(user, template, arguments.train), record(user, template, arguments.test, "test")
        row = {"base": measured(base, template, test), "alexnet": measured(paper, template, test)}
        row["oracle"] = {"mean16": oracles[name]["oracle"]["mean16"]}
        for recipe in ("depth", "paper"):
            settings = replace(RECIPES[recipe], learning_rate=arguments.paper_rate, batch=arguments.paper_batch)
            done = refine(paper, template, train.crops[: arguments.paper_frames], settings)
            moved = (done.cloud_mm - template.cloud_mm).norm(dim=-1)
            row[recipe] = measured(done.net, template, test, done.cloud_mm)
            row[recipe] |= {"moved_mean_mm": moved.mean().item(), "moved_max_mm": moved.max().item()}
        runs = []
        for seed in range(arguments.seeds):
            settings = replace(RECIPES["best"], frames=arguments.frames, steps=arguments.steps, seed=seed)
            done = refine(base, template, train.crops, settings)
            found = measured(done.net, done.hand, test) | {"warnings": list(done.warnings)}
            found["hand"] = {k: v for k, v in done.curve[-1].items() if k.startswith("log_")}
            found["gap_closed"] = gap_closed(row["base"]["mean16"], found["mean16"], row["oracle"]["mean16"])
            runs.append(found)
            print(f"{name}, seed {seed}: {row['base']['mean16']:.1f} -> {found['mean16']:.1f} mm", flush=True)
        row["best"] = {key: [run[key] for run in runs] for key in runs[0]}
        row["seconds"] = time.perf_counter() - began
        metrics["users"][name] = row
        results.write_json(partial, {"parameters": parameters, "metrics": metrics})
    mean = lambda values: sum(values) / len(values)  # noqa: E731
    users = metrics["users"].values()
    metrics["gap_closed_mean"] = mean([
        gap_closed(mean([u["base"]["mean16"] for u in users]), mean([u["best"]["mean16"][k] for u in users]),
                   mean([u["oracle"]["mean16"] for u in users]))
        for k in range(arguments.seeds)
    ])  # fmt: skip
    profile = "quick" if arguments.seeds >= 3 and arguments.users == "ABCD" else "smoke"
    record_ = {"name": "refine", "profile": profile, "metrics": metrics, "claims": make_claims(metrics)}
    for claim in record_["claims"]:
        print(f"{claim.id}: {claim.value:.3g} (target {claim.target}) {'holds' if claim.holds else 'FAILS'}")
    results.write_json(arguments.out, record_ | {"provenance": made})
    partial.unlink(missing_ok=True)
    print(f"written to {arguments.out.name} in {arguments.out.parent.name}/")


def make_claims(metrics: dict) -> list[results.Claim]:
    users = metrics["users"]
    lower = lambda u, recipe, key, start: 1 - users[u][recipe][key] / users[u][start][key]  # noqa: E731
    best = {u: [1 - e / row["base"]["mean16"] for e in row["best"]["mean16"]] for u, row in users.items()}
    claim = results.Claim
    gap = metrics["gap_closed_mean"]
    bcd = min(min(best[u]) for u in best if u in "BCD") if set(best) & set("BCD") else float("nan")
    worst = min(min(values) for values in best.values())
    mse = min(lower(u, "paper", "mse", "alexnet") for u in users)
    variance = min(lower(u, "paper", "mse_variance", "alexnet") for u in users)
    steady = min(1 - max(row["best"]["jitter"]) / row["base"]["jitter"] for row in users.values())
    ranks = min(min(row["best"]["confidence_spearman"]) for row in users.values())
    return [
        claim("refine-gap", "share of the way from the base to a supervised oracle that `best` goes without labels, mean "
              "of users and seeds", "-", ">= 0.60", gap, gap >= 0.6),
        claim("refine-bcd", "by how much `best` lowers the joint error of users B, C and D, worst user and seed", "-",
              ">= 0.25", bcd, bcd >= 0.25),
        claim("refine-nobody-worse", "the same for all users, worst user and seed", "-", ">= 0", worst, worst >= 0),
        claim("refine-paper-mse", "by how much the paper's recipe lowers the image MSE on test frames, worst user",
              "Fig. 7", ">= 0.40", mse, mse >= 0.4),
        claim("refine-paper-variance", "and its variance", "0.0035 -> 0.0026", ">= 0.26", variance, variance >= 0.26),
        claim("refine-jitter", "by how much `best` lowers the jitter, worst user and seed", "-", ">= 0.30", steady,
              steady >= 0.3),
        claim("refine-confidence", "rank correlation of the refined model's confidence (negative) with its true error, worst "
              "user and seed", "-", ">= 0.4", ranks, ranks >= 0.4),
    ]  # fmt: skip


if __name__ == "__main__":
    main()
