"""The base model for everybody on the development people A-D: nothing learned, then their shape known, then each frame fitted.

Writes benchmarks/results/people.json. Each person's test frames are seen in three ways: by the base model, told the shape that
it sees in them, as `hrlib predict` without a model does; after `best` on unlabelled training frames; and so with each pose
fitted. Beside them stand what the recipe that learned for a quarter of an hour reached (refine.json), and the supervised
oracle. About two minutes a person on one core.
"""

import argparse
import time
from pathlib import Path

import by_user
import torch
from bench_refine import three_ways
from tqdm import tqdm

from hrlib.companion import results
from hrlib.evaluation.joint_errors import joint_error_mm
from hrlib.hand.joints import JOINT_POINTS
from hrlib.hand.rig import load_hand
from hrlib.hand.shape import nearest_shape
from hrlib.method import voted_joints
from hrlib.network.checkpoint import load_network
from hrlib.network.known import seen_shape, told
from hrlib.network.predict import predict
from hrlib.refine import RECIPES, refine
from hrlib.support.paths import BASE_MODEL, BENCHMARKS, HAND_ASSET
from hrlib.synthetic.people import USERS, record


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", default="".join(USERS), help="some of them, kept for a run with all of them")
    parser.add_argument("--train", type=int, default=1000, help="unlabelled frames of each person")
    parser.add_argument("--test", type=int, default=500, help="test frames of each person")
    parser.add_argument("--out", type=Path, default=BENCHMARKS / "people.json")
    arguments = parser.parse_args()
    template = load_hand()
    net, recipe = load_network(template)[0], RECIPES["best"]
    parameters = {key: getattr(arguments, key) for key in ("train", "test")} | {"recipe": recipe}
    made = results.provenance(parameters, recipe.seed, {"hand": HAND_ASSET, "base model": BASE_MODEL})
    kept = by_user.Partial(arguments.out, arguments.users, made)
    rows = kept.rows(tqdm(arguments.users, "people"), USERS, lambda name: row(net, template, recipe, name, arguments))
    if rows is None:
        return
    earlier = results.read_table(BENCHMARKS / "refine.json")["metrics"]["users"]
    metrics = {"users": rows, "earlier": {name: of(earlier[name]) for name in USERS}}
    kept.finish("people", metrics, values_of(metrics), "full")


def row(net, template, recipe, name: str, arguments) -> dict:
    """All numbers of one person."""
    user = USERS[name]
    test, train = record(user, template, arguments.test, "test"), record(user, template, arguments.train, "train")
    seen = seen_shape(net, test.crops)
    began = time.perf_counter()
    refined = refine(net, template, train.crops, recipe)
    seconds = time.perf_counter() - began
    alone = voted_joints(predict(net, test.crops), test.crops)
    return {
        "frame_alone": joint_error_mm(alone, test.joints_mm, JOINT_POINTS).mean().item(),
        "base": three_ways(*told(net, template, seen), test),
        "best": three_ways(refined.net, refined.hand, test),
        "best_seconds": seconds,
        "shape": {
            "seen": seen.tolist(),
            "best": nearest_shape(template, refined.hand).numbers().tolist(),
            "true": nearest_shape(template, user.hand(template)).numbers().tolist(),
        },
        "warnings": list(refined.warnings),
    }


def of(row: dict) -> dict:
    """What the recipe that learned reached on one person, the mean of its seeds, and the oracle, by the way of seeing."""
    mean = {way: torch.tensor(best["mean16"]).mean().item() for way, best in row["best"].items()}
    return {"best": mean, "oracle": {way: oracle["mean16"] for way, oracle in row["oracle"].items()}}


def values_of(metrics: dict) -> dict[str, float]:
    """The claims' values, each of the worst person."""
    users, earlier = metrics["users"], metrics["earlier"]

    def lower(way: str) -> float:
        return min(1 - users[name]["best"][way]["mean16"] / earlier[name]["best"][way] for name in users)

    return {
        "people-base": max(row["base"]["five"]["mean16"] for row in users.values()),
        "people-best": lower("five"),
        "people-fitted": lower("fitted"),
    }


if __name__ == "__main__":
    main()
