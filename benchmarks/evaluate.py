"""All test people and all real people with joints, once: the base model, `best`, and either with each frame fitted.

`make evaluate`. Writes benchmarks/results/evaluate.json, which counts how often this was run: the test people E, F and G are
looked at here alone, so that nothing can be chosen by them. Each is refined on its training recordings without labels and
judged on others. The real sets are small: they are refined, without labels, on the frames that they are judged by, as a user's
own are. About three minutes a set on one core; a stopped run of the same code and numbers goes on where it was.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

import by_user
import numpy as np
import torch
from tqdm import tqdm

from hrlib.companion import results
from hrlib.datasets.fetch import dataset_folder
from hrlib.datasets.real_joints import RealJoints
from hrlib.evaluation.found import FoundFrames, evaluate_found, find_real, points_of, poses
from hrlib.evaluation.joint_errors import Protocol, bias_of
from hrlib.hand.rig import HandRig, load_hand
from hrlib.network.checkpoint import load_network
from hrlib.network.known import told_what_it_sees
from hrlib.network.posenet import PoseNet
from hrlib.refine import RECIPES, refine
from hrlib.support.files import write_json
from hrlib.support.paths import BASE_MODEL, BENCHMARKS, HAND_ASSET
from hrlib.synthetic.test_people import TEST_PEOPLE, RecordedJoints, record_test_person

OUT = BENCHMARKS / "evaluate.json"
MODELS = ("base", "base fitted", "best", "best fitted")
FEWEST_FOR_OFFSET = 20  # training frames; fewer do not tell a constant offset of the joints from the poses


@dataclass(frozen=True)
class Judged:
    """A set of frames to judge models by, and what may be learned from."""

    description: str
    kind: str  # "test person, simulated" or "real people"
    learn: FoundFrames  # frames that `best` learns from, without their labels
    test: FoundFrames
    offset: FoundFrames | None  # frames whose labels say where this hand's joints are defined; None: the test frames
    half_covered: int | None = None  # test frames whose mask overlaps the true hand's pixels by less than half (IoU)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", type=int, default=500, help="unlabelled frames of each test person")
    parser.add_argument("--test", type=int, default=300, help="test frames of each")
    parser.add_argument("--offset", type=int, default=200, help="training frames for the joints' constant offset")
    parser.add_argument("--only", nargs="+", choices=SETS, default=list(SETS), help="keep these for a run with all")
    arguments = parser.parse_args()
    template = load_hand()
    base = load_network(template)[0]
    recipe = RECIPES["best"]
    parameters = {key: value for key, value in vars(arguments).items() if key != "only"} | {"recipe": recipe}
    made = results.provenance(parameters, recipe.seed, {"hand": HAND_ASSET, "base model": BASE_MODEL})
    history = begun(made["commit"], bool(set(arguments.only) & set(TEST_PEOPLE)))
    kept = by_user.Partial(OUT, "+".join(arguments.only), made)

    def measured(name: str) -> dict:
        began = time.perf_counter()
        numbers = row(SETS[name](arguments), base, template, recipe)
        return numbers | {"seconds": time.perf_counter() - began}

    rows = kept.rows(arguments.only, SETS, measured)
    if rows is None:
        return
    metrics = {"sets": rows, "runs": len(history)}
    if history:
        history[-1]["finished"] = True
    metrics["history"] = history
    kept.finish("evaluate", metrics, values_of(metrics["sets"]), "full")


def begun(commit: dict, looks: bool) -> list[dict]:
    """The runs so far, and this one if it looks at test people: it counts from its beginning, before it has a number.

    Only a run of the same clean commit that goes on after a stop is not counted again.
    """
    old = json.loads(OUT.read_text(encoding="utf-8")) if OUT.exists() else {"metrics": {}}
    history = old["metrics"].get("history", [])
    goes_on = history and not history[-1]["finished"] and history[-1]["commit"] == commit and not commit["dirty"]
    if looks and not goes_on:
        history.append({"commit": commit, "date_utc": datetime.now(UTC).strftime("%Y-%m-%d %H:%M"), "finished": False})
        old["metrics"] |= {"history": history, "runs": len(history)}
        write_json(OUT, {"name": "evaluate", "profile": "full", "claims": [], "provenance": {"ground_truth": {}}} | old)
    return history


# -- the sets -------------------------------------------------------------------------------------------------------------


def test_person(name: str) -> Callable[[argparse.Namespace], Judged]:
    """Makes the frames of a test person."""

    def frames(arguments) -> Judged:
        person = TEST_PEOPLE[name]
        folders = {dataset: dataset_folder(dataset) for dataset in person.datasets}
        learn, test = (
            record_test_person(name, count, split, folders)
            for split, count in (("train", arguments.train), ("test", arguments.test))
        )
        half_covered, learn, test = test.lost, as_found(learn, name), as_found(test, name)
        offset = first(learn, arguments.offset)
        return Judged(person.description, "test person, simulated", learn, test, offset, half_covered)

    return frames


def as_found(recorded: RecordedJoints, name: str) -> FoundFrames:
    """The frames of a test person in which a hand was found, with their truth."""
    names = [f"{name}/{i}" for i in range(len(recorded))]
    left_out = {f"{name}/left out {i}": "no usable hand was found" for i in range(recorded.left_out)}
    return FoundFrames(recorded.source, recorded.crops, names, recorded.joints_mm.double().numpy(), left_out)


def first(found: FoundFrames, count: int) -> FoundFrames | None:
    """The first frames in which the hand itself was found; None where too few tell of an offset."""
    index = np.flatnonzero(~found.lost)[:count]
    if len(index) < FEWEST_FOR_OFFSET:
        return None
    crops, names = found.crops[torch.from_numpy(index)], [found.names[i] for i in index]
    return replace(found, crops=crops, names=names, true_mm=found.true_mm[index])


def real_set(name: str, free_hand: bool = False) -> Callable[[argparse.Namespace], Judged]:
    """Finds the hands of a real set, judged by all frames or by those whose hand touches nothing; `best` has all of them."""

    def frames(arguments) -> Judged:
        learn = find_real(RealJoints(name))
        test = find_real(RealJoints(name, free_hand=True)) if free_hand else learn
        return Judged(test.source + ", free" * free_hand, "real people", learn, test, None)

    return frames


SETS = {
    **{name: test_person(name) for name in TEST_PEOPLE},
    "handpose_x_plus": real_set("handpose_x_plus"),
    "d435_table": real_set("d435_table"),
    "d435_table, free": real_set("d435_table", free_hand=True),
}


# -- the models -----------------------------------------------------------------------------------------------------------


def row(judged: Judged, base: PoseNet, template: HandRig, recipe) -> dict:
    """What all models make of a set."""
    refined = refine(base, template, judged.learn.crops, recipe)
    models = {"base": (base, template), "best": (refined.net, refined.hand)}
    points, offsets = {}, {}
    for name in tqdm(MODELS, judged.test.source):
        seen = partial(seen_points, *models[name.split()[0]], name.endswith("fitted"))
        points[name] = seen(judged.test)
        if judged.offset is not None:
            offsets[name] = bias_of("hand", seen(judged.offset), judged.offset.true_mm)
    protocol = Protocol(
        judged.test.source,
        split="test",
        joints=21,
        crop=judged.test.crop,
        scale="the template's (base) or from unlabelled frames (best)",
        ground_truth="none" if judged.offset is None else "the offset, from training recordings",
        estimated_on="-" if judged.offset is None else f"{len(judged.offset.names)} training frames",
    )
    found = evaluate_found(judged.test, points, protocol, offsets or None)
    learned = {"frames": len(judged.learn.names), "lost": int(judged.learn.lost.sum())}
    learned["left_out"] = len(judged.learn.left_out)
    return found | {
        "kind": judged.kind,
        "description": judged.description,
        "learned_from": learned,
        "half_covered": judged.half_covered,
        "offset_mm": {name: np.linalg.norm(offset, axis=1).tolist() for name, offset in offsets.items()},
        "warnings": list(refined.warnings),
    }


def seen_points(net: PoseNet, hand: HandRig, fitted: bool, found: FoundFrames) -> np.ndarray:
    """The 21 points of one model in some frames, mm; a base model is told the shape that it sees in them."""
    net, hand = told_what_it_sees(net, hand, found.crops)
    return points_of(poses(net, hand, found, fitted, progress=False), hand, found.crops)


def mean_mm(row: dict, model: str, how: str = "offset_removed") -> float:
    """The mean error of 16 joints in all frames in which something was found; infinite where there are none, or too few
    training frames for the offset of a test person."""
    errors = row["models"][model]["found"]
    untold = how == "offset_removed" and row["kind"].startswith("test") and not row["offset_mm"]
    if errors is None or errors["16"][how] is None or untold:
        return float("inf")
    return errors["16"][how]["mean_mm"]


def gain(row: dict, model: str, how: str) -> float:
    """By which share `best` lowers the base model's error, both without fitting or both fitted; minus infinity without one."""
    base, best = (mean_mm(row, name, how) for name in (f"base{model}", f"best{model}"))
    return 1 - best / base if base < float("inf") else float("-inf")


def values_of(sets: dict) -> dict[str, float]:
    """The claims' values: of the worst test person, and of the real sets."""
    people, real = [sets[name] for name in TEST_PEOPLE], [sets[name] for name in ("handpose_x_plus", "d435_table")]
    of_real = {"front": sets["handpose_x_plus"], "table": sets["d435_table, free"]}
    shown = [(row["found"] - max(row["half_covered"], row["lost"])) / row["frames"] for row in people]
    return {
        "test-found": min(shown),
        "test-base": max(mean_mm(row, "base") for row in people),
        "test-best": max(mean_mm(row, "best") for row in people),
        "test-fitted": max(mean_mm(row, "best fitted") for row in people),
        "test-gain": min(gain(row, "", "offset_removed") for row in people),
        "real-found": min((row["found"] - row["lost"]) / row["frames"] for row in real),
        "real-gain": gain(real[0], " fitted", "as_they_are"),
    } | {
        f"{name}-{claim}-{short}": mean_mm(row, model, how)
        for name, row in of_real.items()
        for claim, model in (("base", "base"), ("fitted", "best fitted"))
        for short, how in (("raw", "as_they_are"), ("offset", "offset_removed"))
    }


if __name__ == "__main__":
    main()
