"""Everybody whose joints are known, in rows that can be compared: development people, test people, real people.

From the tables of benchmarks/bench_users.py, bench_refine.py and evaluate.py. All errors are of 16 joints and of the frames in
which something was found, seen in five turned views, or with the pose then fitted to each frame.
"""

from collections.abc import Mapping

from .ablation import numbers

MODELS = {"base": ("base", "five"), "base fitted": ("base", "fitted"), "best": ("best", "five")}
MODELS |= {"best fitted": ("best", "fitted")}
HOW = ("as_they_are", "offset_removed")


def development_rows(users: Mapping[str, Mapping], refined: Mapping[str, Mapping]) -> dict[str, dict]:
    """A-D, whose joints are defined as ours: {name: {"label", "mm": model -> (mean over seeds,), "counts"}}.

    Args:
        users: name -> {"description", "test_frames", "test_left_out", "test_lost"}.
        refined: name -> {"base", "best"} -> {"five", "fitted"} -> {"mean16": mm, one number or one a seed}.
    """
    rows = {}
    for name, user in users.items():
        errors = {model: numbers(refined[name][key][way]) for model, (key, way) in MODELS.items()}
        lost = user["test_lost"]
        rows[name] = {
            "label": f"{name}: {user['description']}\n(development person, simulated)",
            "mm": {model: (sum(values) / len(values),) for model, values in errors.items()},
            "counts": (user["test_frames"] - lost, lost, user["test_left_out"]),
        }
    return rows


def evaluated_rows(sets: Mapping[str, Mapping]) -> dict[str, dict]:
    """Test people and real people: as `development_rows`, with (as it is, offset removed) for each model.

    Args:
        sets: name -> a row of evaluate.json, as `found.evaluate_found` has it, with "kind" and "description".
    """
    rows = {}
    for name, row in sets.items():
        errors = {model: found["found"] for model, found in row["models"].items()}
        rows[name] = {
            "label": f"{name}: {row['description']}\n({row['kind']})" if len(name) == 1 else f"{name}\n({row['kind']})",
            "mm": {model: tuple(_mean_mm(found, how) for how in HOW) for model, found in errors.items()},
            "counts": (row["found"] - row["lost"], row["lost"], row["left_out"]),
        }
    return rows


def _mean_mm(found: Mapping | None, how: str) -> float:
    """Infinite where nothing was found, or too little for an offset."""
    return float("inf") if found is None or found["16"][how] is None else found["16"][how]["mean_mm"]
