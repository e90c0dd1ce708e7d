"""What notebooks 05, 06, 07 and 10 measure of refined models: the numbers of their figures, and the values of claims."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..evaluation.ablation import Measured, gaps_closed
from ..evaluation.before_after import Judged, changes, moved_mm, summary, telling_frames
from ..evaluation.found import RealEvaluation
from ..evaluation.joint_errors import joint_error_mm
from ..evaluation.metrics import finger_state_auc, jitter_mm
from ..evaluation.nyu_icvl import ProtocolSettings
from ..hand.joints import JOINT_POINTS
from ..hand.rig import HandRig
from ..refine import RECIPES, BestSettings, PaperSettings
from ..refine.explain import ExplainSettings
from ..refine.gauss_newton import FitSettings
from ..refine.state import Refined
from ..support import paths
from ..synthetic.frames import SyntheticBatch
from ..synthetic.people import USERS
from .example_frames import Examples, picked
from .figures.refinement import Shown
from .profiles import pick
from .results import Only, content_hash, read_table, require_alike

DISTANCES_MM = np.arange(0, 101, 2).tolist()  # of the success curves
WHEN = ("before", "after")
LETTERS_SHOWN = "bdfilvwy"

# -- notebook 05: simulated users, the depth term alone and all terms --------------------------------------------------------


def self_comparison(
    judged: Mapping[str, Mapping[str, Judged]], test: Mapping[str, SyntheticBatch]
) -> dict[str, dict[str, Any]]:
    """The numbers of Fig. 5: name -> {"description", "models": model -> summary and changes}.

    Args:
        judged: name -> "base" and the refined models.
        test: the users' test frames.
    """
    users = {}
    for name, models in judged.items():
        true_mm = test[name].joints_mm
        numbers = {model: summary(one, true_mm, DISTANCES_MM) for model, one in models.items()}
        for model in [model for model in models if model != "base"]:
            numbers[model] |= changes(models["base"], models[model], true_mm)
        users[name] = {"description": USERS[name].description, "models": numbers}
    return users


def self_numbers(users: Mapping[str, Mapping], refined: Mapping[tuple[str, str], Refined]) -> dict[str, Any]:
    """All numbers of Fig. 5: those of `self_comparison`, and the image MSE on the way of each (user, recipe)."""
    curves = {f"{name} {recipe}": [row["mse"] for row in run.curve] for (name, recipe), run in refined.items()}
    return {"users": users, "distances_mm": DISTANCES_MM, "training_image_mse": curves}


def claims_of_fig5(users: Mapping[str, Mapping]) -> dict[str, float]:
    """The values of the claims about `self_comparison`: gains in mm in the mean of the users, shares on the worst of them."""

    def of(key: str, model: str) -> np.ndarray:
        return np.array([user["models"][model][key] for user in users.values()])

    def lower(key: str) -> float:
        return float((1 - of(key, "paper") / of(key, "base")).min())

    error_mm = {model: of("joint_error_mm", model).mean().item() for model in ("base", "depth", "paper")}
    return {
        "fig5.depth": error_mm["base"] - error_mm["depth"],
        "fig5.terms": error_mm["depth"] - error_mm["paper"],
        "fig5.joints": error_mm["base"] - error_mm["paper"],
        "fig5.mse": lower("image_mse_mean"),
        "fig5.variance": lower("image_mse_variance"),
    }


def telling_hands(
    judged: Mapping[str, Mapping[str, Judged]], test: Mapping[str, SyntheticBatch]
) -> tuple[list[Shown], dict[str, Any]]:
    """For each user two frames to show (see `telling_frames`), and their numbers."""
    shown, frames = [], {}
    for name, models in judged.items():
        index = telling_frames(models["base"], models["paper"], test[name].joints_mm)
        true_mm = test[name].joints_mm[index]
        error = {model: joint_error_mm(one.joints_mm[index], true_mm, JOINT_POINTS) for model, one in models.items()}
        captions = {model: [f"{mm:.0f} mm" for mm in values.tolist()] for model, values in error.items()}
        shown.append(Shown(models, index, [f"{name}, better", f"{name}, led astray"], captions, true_mm))
        frames[name] = {"index": index, "joint_error_mm": error}
    return shown, {"frames": frames}


def forearm_pairs() -> tuple[dict[str, dict], dict[str, Path]] | None:
    """The paper's network before and after its recipe, by user, with a forearm and with a wristband; and the files read.

    None, and a line that says why, if they are not of the present network.

    Raises:
        ValueError: the two benchmarks differ in more than the wristband.
    """
    files = {"forearm": paths.BENCHMARKS / "paper.json", "wristband": paths.BENCHMARKS / "paper_wristband.json"}
    tables = {name: read_table(file) for name, file in files.items() if file.exists()}
    networks = {table["provenance"]["data_sha256"]["paper's network"] for table in tables.values()}
    if len(tables) < 2 or networks != {content_hash(paths.PAPER_MODEL)}:
        print("no tables of this network, so no figure: run benchmarks/bench_paper.py, and again with --wristband")
        return None
    require_alike(tables, but=["wristband"])  # the band is all that may differ: no other rate, no more epochs
    parameters = tables["forearm"]["provenance"]["parameters"]
    print({key: parameters[key] for key in ("train", "epochs", "rate", "anneal")})
    rows = {how: table["metrics"]["users"] for how, table in tables.items()}
    pairs = {name: {how: (row[name]["alexnet"], row[name]["paper"]) for how, row in rows.items()} for name in USERS}
    return pairs, files


# -- notebook 07: the data sets' own frames ---


def protocol_for(profile: str) -> ProtocolSettings:
    """The paper's recipe on a data set's own frames; the full profile, on all of them, can go on after a stop."""
    tiny = ProtocolSettings(PaperSettings(epochs=1, batch=3, micro=3), frames=6)
    whole = ProtocolSettings(PaperSettings(batch=1000), out=paths.RUNS / "protocol")
    return pick(profile, smoke=tiny, quick=ProtocolSettings(PaperSettings(epochs=2), frames=500), full=whole)


# -- notebook 10: what each part of `best` is worth ---


def short_recipe(profile: str, seed: int) -> BestSettings:
    """Recipe `best` for the ablation: quick in one round, with half the frames in a batch and half the fits' iterations."""
    short = BestSettings(
        rounds=1,
        frames=200,
        steps=45,
        prepare=15,
        synthetic=50,
        segmented=200,
        runs=5,
        explain=ExplainSettings(iterations=30, shape_frames=80),
        poses=FitSettings(),
    )
    few = ExplainSettings(iterations=5, shape_frames=20)
    tiny = replace(short, frames=60, steps=5, prepare=2, segmented=16, explain=few)
    return replace(pick(profile, smoke=tiny, quick=short, full=BestSettings(rounds=2, frames=400)), seed=seed)


def ablation_rows(
    ablation: Mapping[str, Mapping[str, Measured]], base: Mapping[str, Measured], oracles: Mapping[str, Any] | None
) -> dict[str, dict[str, Any]]:
    """The numbers of `figure_ablation`: user -> rows of the variants, the base model's, and the supervised oracle's error."""
    return {
        name: {
            "rows": {variant: measured.summary() for variant, measured in variants.items()},
            "base": base[name].summary(),
            "oracle_mm": oracles["users"][name]["oracle"]["once"]["mean16"] if oracles else None,
            "test_frames": len(base[name].error_mm),
        }
        for name, variants in ablation.items()
    }


def frame_curves(
    counts: Mapping[str, Sequence[int]], by_frames: Mapping[str, Sequence[Measured]], base: Mapping[str, Measured]
) -> dict[str, dict[str, Any]]:
    """The numbers of `figure_frames`: user -> the error (mm) over the number of unlabelled frames."""
    return {
        name: {
            "frames": counts[name],
            "mean16_mm": [measured.summary()["mean16_mm"] for measured in by_frames[name]],
            "base_mm": base[name].summary()["mean16_mm"],
        }
        for name in counts
    }


def gap_numbers(refined: Mapping[str, Mapping], paper: Mapping[str, Mapping]) -> dict[str, Any]:
    """The numbers of `figure_gap`: each user's rows of refine.json with those of paper.json, and the gap that is closed."""
    rows = {name: row | {key: paper[name][key] for key in ("alexnet", "paper")} for name, row in refined.items()}
    return {"users": rows, "gap_closed": {name: gaps_closed(row, "five") for name, row in rows.items()}}


def confidence_numbers(refined: Mapping[str, Measured], base: Mapping[str, Measured]) -> dict[str, Any]:
    """The numbers of `figure_confidence`: each frame's confidence and error, and their rank correlations."""
    return {
        "spearman": {name: measured.summary()["confidence_spearman"] for name, measured in refined.items()},
        "spearman_of_base": {name: base[name].summary()["confidence_spearman"] for name in refined},
        "confidence": {name: measured.confidence for name, measured in refined.items()},
        "error16_mm": {name: measured.error_mm for name, measured in refined.items()},
    }


# -- notebook 06: real frames, two recipes ------------------------------------------------------------------------------------

Models = Mapping[str, Judged]  # by recipe
RECIPE_LABELS = {"paper": "paper, AlexNet", "best": "best, one-hand base"}  # and the network that it starts from
# 320 steps, where the full profile takes 340; faster than the paper's, since there are fewer frames
FAST = replace(RECIPES["paper"], batch=25, learning_rate=2e-5, cloud_rate_mm=0.06)


def recipes_for(profile: str) -> dict[str, PaperSettings | BestSettings]:
    """The two recipes in a profile: shortened in all but the full one."""
    once = replace(RECIPES["paper"], epochs=1, batch=12)
    return {
        "paper": pick(profile, smoke=once, quick=FAST, full=RECIPES["paper"]),
        "best": best_for(profile, 100, 24, 12),
    }


def best_for(profile: str, steps: int, frames: int, shape_frames: int) -> BestSettings:
    """Recipe `best` in a profile.

    Args:
        steps: of learning in each round of the quick profile; its batches hold half the recipe's frames.
        frames: that the smoke profile explains.
        shape_frames: of them, those that tell the hand's shape.
    """
    few = ExplainSettings(iterations=3, shape_frames=shape_frames)
    tiny = BestSettings(1, frames, 2, prepare=1, synthetic=8, segmented=8, explain=few)
    short = replace(RECIPES["best"], steps=steps, prepare=30, synthetic=50, segmented=400, runs=5, poses=FitSettings())
    return pick(profile, smoke=tiny, quick=short, full=RECIPES["best"])


def before_and_after(
    before: Models, after: Models, refined: Mapping[str, Refined], hand: HandRig, test: Examples
) -> dict:
    """The numbers of Fig. 7: recipe -> "before" and "after" with their measures, and what changed."""
    numbers: dict[str, dict] = {}
    for when, models in zip(WHEN, (before, after), strict=True):
        for recipe, judged in models.items():
            n = numbers.setdefault(recipe, {})[when] = summary(judged, test.joints_mm)
            n["jitter_mm"] = jitter_mm(judged.joints_mm, test.sequence)
            if test.kind == "real":
                n["finger_state_auc"] = finger_state_auc(judged.prediction.rotations, test.letters)
    own = refined["best"]
    numbers["paper"] |= changes(before["paper"], after["paper"], test.joints_mm)
    numbers["best"]["P_moved_mm"] = {
        "from_the_template": moved_mm(own.cloud_mm, hand.cloud_mm),
        "from_the_adapted_hand": moved_mm(own.cloud_mm, own.hand.cloud_mm),
    }
    numbers["best"]["shape"] = {key: value for key, value in own.curve[-1].items() if key.startswith("log_")}
    return numbers


def distribution_numbers(
    numbers: Mapping[str, Mapping],
    mse: Mapping[str, Sequence],
    refined: Mapping[str, Refined],
    train: Examples,
    test: Examples,
) -> dict[str, Any]:
    """All numbers of Fig. 7: those of `before_and_after`, each frame's image MSE, and what was left out or warned of."""
    return {
        "recipes": numbers,
        "image_mse": {recipe: dict(zip(WHEN, pair, strict=True)) for recipe, pair in mse.items()},
        "left_out": {"train": train.left_out, "test": test.left_out},
        "warnings": {recipe: run.warnings for recipe, run in refined.items()},
    }


def claims_of_fig7(numbers: Mapping[str, Mapping]) -> dict[str, float]:
    """The values of the claims about `before_and_after` on the real person; of a simulated one nothing is claimed."""
    if "finger_state_auc" not in numbers["best"]["after"]:
        return {}

    def lower(recipe: str, key: str) -> float:
        return 1 - numbers[recipe]["after"][key] / numbers[recipe]["before"][key]

    auc, start = (numbers["best"][when]["finger_state_auc"] for when in ("after", "before"))
    return {
        "fig7.real.mse.paper": lower("paper", "image_mse_mean"),
        "fig7.real.variance.paper": lower("paper", "image_mse_variance"),
        "mse.real.best": lower("best", "image_mse_mean"),
        "jitter.real": lower("best", "jitter_mm"),
        "auc.real.gain": auc - start,
    }


def bars_of(numbers: Mapping[str, Mapping], real: bool) -> dict[str, tuple]:
    """The measures that refinement does not see, for `figure_distribution`: title -> unit, form, recipe -> before and after."""
    measures = {"jitter": ("jitter_mm", "mm per frame²", "%.1f")}
    if real:
        measures = {"finger-state AUC": ("finger_state_auc", "1 = perfect, 0.5 = chance", "%.2f")} | measures
    else:
        measures = {"mean error of 16 joints": ("joint_error_mm", "mm", "%.1f")} | measures
    return {
        title: (unit, form, {recipe: tuple(n[when][key] for when in WHEN) for recipe, n in numbers.items()})
        for title, (key, unit, form) in measures.items()
    }


def chosen_hands(models: Models, test: Examples) -> tuple[list[Shown], dict[str, Any]]:
    """The middle frame of each letter as each model sees it, chosen before anything was refined; and their numbers."""
    index = picked(test, LETTERS_SHOWN, len(LETTERS_SHOWN))
    real = test.kind == "real"
    titles = [test.letters[i].upper() if real else test.names[i].split("/", 2)[-1] for i in index]
    captions = {model: [f"MSE {1000 * one.mse[i].item():.1f}" for i in index] for model, one in models.items()}
    facts = {"frames": [test.names[i] for i in index], "image_mse": {m: one.mse[index] for m, one in models.items()}}
    return [Shown(models, index, titles, captions, None if real else test.joints_mm[index])], facts


def moved(clouds: Mapping[str, Sequence]) -> dict[str, dict[str, float]]:
    """How far each cloud is from its start: title -> {"mean", "max"}, mm."""
    return {title: moved_mm(*pair) for title, pair in clouds.items()}


def cloud_numbers(clouds: Mapping[str, Sequence], numbers: Mapping[str, Mapping]) -> dict[str, Any]:
    """How far each cloud moved, and the shape that `best` found (natural logarithms of factors)."""
    return {"P_moved_mm": moved(clouds), "shape_of_best": numbers["best"]["shape"]}


def joints_record(evaluations: Sequence[RealEvaluation]) -> dict[str, Any]:
    """What `Results.save` wants of the shipped model's evaluations on real people with joints: metrics, source, frames."""
    read = {"hand": paths.HAND_ASSET, "base model": paths.BASE_MODEL}
    read |= {one.frames.dataset: one.frames.folder for one in evaluations}
    return {
        "metrics": {one.title: one.result for one in evaluations},
        "of": Only(read),
        "frames": {one.title: len(one.frames) for one in evaluations},
    }
