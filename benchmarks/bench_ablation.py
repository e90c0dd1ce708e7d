"""What each part of recipe `best` is worth, and what else could be in it: all four users, a short version of the recipe.

Writes benchmarks/results/ablation.json, which notebook 10 draws. About an hour on one core; two processes with
`--users AB` and `--users CD` take half of that, and a run without --users puts them together.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import by_user
import torch
from bench_refine import jitter
from tqdm import tqdm

from hrlib.companion import results
from hrlib.evaluation.ablation import ALL_PARTS, measure, variants
from hrlib.hand.rig import load_hand
from hrlib.method import predicted_joints
from hrlib.network.checkpoint import load_network
from hrlib.network.predict import predict
from hrlib.refine import BestSettings, refine
from hrlib.refine.explain import ExplainSettings
from hrlib.support.paths import BENCHMARKS, HAND_ASSET, ONE_HAND_MODEL
from hrlib.synthetic.people import USERS, record

# one round, half the batch and half the iterations for each frame
SHORT = BestSettings(
    rounds=1, prepare=30, synthetic=50, segmented=300, runs=8, explain=ExplainSettings(iterations=30, shape_frames=100)
)
EVERY = 3  # test frame: neighbours in a recording say the same


def measured(prediction, hand, test) -> dict[str, float]:
    """`Measured.summary` of every `EVERY`-th frame, and the jitter over all frames."""
    some = torch.arange(0, len(test.crops), EVERY)
    trembles, _ = jitter(predicted_joints(prediction, hand, test.crops), test.joints_mm)
    return measure(prediction[some], hand, test[some]).summary() | {"jitter": trembles}


def row(name: str, net, template, recipe: BestSettings, arguments: argparse.Namespace) -> dict:
    """All numbers of one user."""
    began = time.perf_counter()
    train = record(USERS[name], template, arguments.train)
    test = record(USERS[name], template, arguments.test, "test")
    base, rows = measured(predict(net, test.crops), template, test), {}
    for variant, settings in tqdm(variants(recipe).items(), desc=f"user {name}"):
        done = refine(net, template, train.crops, settings, progress=False)
        rows[variant] = measured(predict(done.net, test.crops), done.hand, test)
    seconds = time.perf_counter() - began
    return {"base": base, "rows": rows, "test_frames": len(test.crops[::EVERY]), "seconds": seconds}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", default="".join(USERS), help="some of them, kept for a run with all of them")
    parser.add_argument("--train", type=int, default=1600, help="unlabelled frames recorded of each user")
    parser.add_argument("--test", type=int, default=1000, help="test frames recorded of each user, a third measured")
    parser.add_argument("--frames", type=int, default=300, help="of the unlabelled frames, those that are explained")
    parser.add_argument("--steps", type=int, default=100, help="steps of learning")
    parser.add_argument("--out", type=Path, default=BENCHMARKS / "ablation.json")
    arguments = parser.parse_args()
    template = load_hand()
    net = load_network(template, ONE_HAND_MODEL)[0]
    recipe = replace(SHORT, frames=arguments.frames, steps=arguments.steps)
    parameters = {key: value for key, value in vars(arguments).items() if key not in ("out", "users")}
    made = results.provenance(parameters | {"recipe": recipe}, 0, {"hand": HAND_ASSET, "base model": ONE_HAND_MODEL})
    kept = by_user.Partial(arguments.out, arguments.users, made)
    users = kept.rows(arguments.users, USERS, lambda name: row(name, net, template, recipe, arguments))
    if users is None:
        return
    metrics = {"users": users}
    for key, number in (("change_mm", "mean16_mm"), ("change_jitter", "jitter")):
        metrics[key] = {
            variant: {
                name: user["rows"][variant][number] - user["rows"][ALL_PARTS][number] for name, user in users.items()
            }
            for variant in users["A"]["rows"]
            if variant != ALL_PARTS
        }
        for variant, changes in metrics[key].items():
            print(f"{key}, {variant}:", ", ".join(f"{name} {change:+.2f}" for name, change in changes.items()))
    profile = "quick" if arguments.frames >= 300 else "smoke"
    kept.finish("ablation", metrics, {}, profile)


if __name__ == "__main__":
    main()
