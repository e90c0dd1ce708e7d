"""Write data/published_curves.json: success curves and protocol table of the published methods, from their files.

About a minute: .venv/bin/python benchmarks/bench_published.py
"""

import json
from itertools import product
from pathlib import Path

import numpy as np
from jaxtyping import Float
from tqdm import tqdm

from hrlib.datasets.fetch import registry
from hrlib.datasets.published import TEST_SETS, methods_on, read_labels, read_predictions, subset
from hrlib.evaluation.joint_errors import BIASES, THRESHOLDS_MM, area_under, errors_without, success_curve
from hrlib.evaluation.published_curves import PUBLISHED_CURVES, published_curves
from hrlib.hand.joints import JOINT_COUNTS
from hrlib.support.files import write_bytes_atomically

DIGITS = 4  # behind the point, of every number in the table


def scaled(predicted_mm: np.ndarray, true_mm: np.ndarray) -> tuple[Float[np.ndarray, "F J 3"], float]:
    """Predictions of one subject with the labels' hand size, mm, and the factor.

    Each frame is scaled about its own mean joint, all by one factor: that which fits the labels best (least squares).
    """
    middle = predicted_mm.mean(1, keepdims=True)
    own, theirs = predicted_mm - middle, true_mm - true_mm.mean(1, keepdims=True)
    factor = float((own * theirs).sum() / (own * own).sum())
    return middle + factor * own, factor


def protocols(predicted_mm: np.ndarray, true_mm: np.ndarray, dataset: str) -> list[dict]:
    """The same predictions under every protocol of a test set: joint subsets x subjects x scale x bias.

    Args:
        predicted_mm: mm, for the first frames of the test set, in its usual joints (14 or 16).
        true_mm: labels of the whole test set, mm.
    Returns:
        Rows {"joints", "subject", "scale", "bias", "frames", "mean_mm", "auc"}. Scale "given" means `scaled` for each
        subject. Biases are estimated on the frames that they are removed from.
    """
    test, rows = TEST_SETS[dataset], []
    ids = test.subject[: len(predicted_mm)]
    predicted, true = predicted_mm, true_mm[: len(predicted_mm)]
    given = np.concatenate([scaled(predicted[ids == s], true[ids == s])[0] for s in np.unique(ids)])
    every = np.arange(test.joints)[None, :, None]
    scales = {"as predicted": predicted, "given": given}
    for (scale, points), who, bias in product(scales.items(), ("all", *map(str, np.unique(ids))), BIASES):
        at = slice(None) if who == "all" else ids == int(who)
        errors = errors_without(bias, points[at], true[at])
        for joints in (count for count in JOINT_COUNTS[dataset] if count <= test.joints):
            part = errors[:, subset(every, dataset, joints)[0, :, 0]]
            row = {"joints": joints, "subject": who, "scale": scale, "bias": bias, "frames": len(part)}
            rows.append(row | {"mean_mm": float(part.mean()), "auc": area_under(success_curve(part))})
    return rows


def published_table() -> dict:
    """The whole table from the published files."""
    curves, rows = [], []
    for dataset in TEST_SETS:
        true = read_labels(dataset)
        for method in tqdm(methods_on(dataset), f"{dataset}, published methods"):
            curves += published_curves(dataset, [method])
            found = protocols(read_predictions(dataset, method.name), true, dataset)
            rows += [{"name": method.name, "dataset": dataset} | row for row in found]
    origin = registry()["published"]
    table = {
        "sources": {"predictions and labels": origin.citation, "licence": origin.licence},
        "thresholds_mm": THRESHOLDS_MM.tolist(),
        "curves": curves,
        "protocols": rows,
    }
    return rounded(table)


def rounded(value):
    """Nested dicts and lists with every float rounded to DIGITS."""
    if isinstance(value, dict):
        return {key: rounded(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [rounded(entry) for entry in value]
    return round(value, DIGITS) if isinstance(value, float) else value


def write_table(path: Path, table: dict) -> None:
    """As JSON with a line for each curve and row, so that a change of the table can be read."""
    lines = []
    for key, value in table.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            entries = ",\n".join("  " + json.dumps(entry, ensure_ascii=False) for entry in value)
            lines.append(f' "{key}": [\n{entries}\n ]')
        else:
            lines.append(f' "{key}": {json.dumps(value, ensure_ascii=False)}')
    write_bytes_atomically(path, ("{\n" + ",\n".join(lines) + "\n}\n").encode())


def main():
    table = published_table()
    write_table(PUBLISHED_CURVES, table)
    for curve in table["curves"]:
        if curve["protocol"]["bias"] == "none":
            print(f"{curve['dataset']:5} {curve['name']:17} {curve['mean_mm']:7.3f} mm, area {curve['auc']:.3f}")


if __name__ == "__main__":
    main()
