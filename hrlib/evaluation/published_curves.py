"""The published methods' curves as one small table, data/published_curves.json, and ours in the same layout.

The table is {"thresholds_mm": [81], "curves": [...], "protocols": [...], "sources": {...}}. A curve is {"name", "kind"
("published" or what ours ran on, e.g. "pseudo-NYU"), "dataset", "paper", "in_fig8"} and all that `joint_errors.evaluate`
returns; a protocol row is one of `joint_errors.protocols` with "name" and "dataset". Results of ours hold the same
"thresholds_mm" and "curves" below "metrics" (benchmarks/results/pseudo.json).
"""

import json
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..datasets.fetch import registry
from ..datasets.published import TEST_SETS, Method, methods_on, read_labels, read_predictions
from ..support import paths
from .joint_errors import BIASES, THRESHOLDS_MM, Protocol, evaluate, protocols

PUBLISHED_CURVES = paths.DATA / "published_curves.json"
OURS = paths.BENCHMARKS / "pseudo.json"
DIGITS = 4  # of every number in the table


def published_curves(dataset: str, methods: list[Method] | None = None) -> list[dict]:
    """The curves of the published methods (by default all) on "nyu" or "icvl", from their files, for each of BIASES."""
    test, curves, true = TEST_SETS[dataset], [], read_labels(dataset)
    for method in methods or methods_on(dataset):
        predicted = read_predictions(dataset, method.name)
        for bias in BIASES:
            setting = Protocol(
                dataset,
                "test" if len(predicted) == test.frames else "test, first sequence",
                test.joints,
                crop="its authors'",
                scale="its training",
                ground_truth="training labels" + ("" if bias == "none" else ", and the bias"),
                bias=bias,
            )
            found = evaluate(predicted, true[: len(predicted)], setting, test.subject[: len(predicted)])
            curves.append(described(found, method.name, dataset, "published", method.paper, method.in_fig8))
    return curves


def described(evaluation: dict, name: str, dataset: str, kind: str, paper: str = "-", in_fig8: bool = False) -> dict:
    """What `evaluate` returned as a curve of the table. kind: "published", or what ours ran on, e.g. "pseudo-NYU"."""
    return {"name": name, "dataset": dataset, "kind": kind, "paper": paper, "in_fig8": in_fig8} | evaluation


def published_table() -> dict:
    """The whole table from the published files; about a minute."""
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
    """Every float in nested dicts and lists with DIGITS digits behind the point."""
    if isinstance(value, dict):
        return {key: rounded(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [rounded(entry) for entry in value]
    return round(value, DIGITS) if isinstance(value, float) else value


def write_table(path: Path, table: dict) -> None:
    """As JSON with a line for each curve and row, so that a change of the table can be read."""
    from ..support.files import write_bytes_atomically

    lines = []
    for key, value in table.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            entries = ",\n".join("  " + json.dumps(entry, ensure_ascii=False) for entry in value)
            lines.append(f' "{key}": [\n{entries}\n ]')
        else:
            lines.append(f' "{key}": {json.dumps(value, ensure_ascii=False)}')
    write_bytes_atomically(path, ("{\n" + ",\n".join(lines) + "\n}\n").encode())


def read_table(path: Path = PUBLISHED_CURVES) -> dict:
    """The committed table. ValueError where it is damaged, or made at other thresholds than this code draws."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        _check(table)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path.name} is no table of curves ({error}); run benchmarks/bench_published.py") from error
    return table


def read_ours(path: Path = OURS) -> list[dict]:
    """Our curves from a result file with "metrics": {"thresholds_mm", "curves"}; none where there is no such file."""
    metrics = _metrics(path)
    return metrics["curves"] if metrics else []


def read_residuals(path: Path = OURS) -> dict[str, dict]:
    """How far our hand, fitted to the real labels, is from them, by data set; none where there is no such file."""
    metrics = _metrics(path)
    return {dataset: found["residual"] for dataset, found in metrics["sets"].items()} if metrics else {}


def _metrics(path: Path) -> dict | None:
    if not path.exists():
        return None
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))["metrics"]
        _check(metrics)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path.name} holds no curves of ours ({error!r}); run what writes it again") from error
    return metrics


def _check(table: dict) -> None:
    if not np.array_equal(table["thresholds_mm"], THRESHOLDS_MM):
        raise ValueError("thresholds_mm differ from hrlib.evaluation.joint_errors.THRESHOLDS_MM")
    for curve in table["curves"]:
        missing = {"name", "dataset", "kind", "mean_mm", "fraction", "auc", "frames", "protocol"} - set(curve)
        if missing or len(curve["fraction"]) != len(THRESHOLDS_MM):
            raise ValueError(f"curve {curve.get('name')} lacks {', '.join(sorted(missing)) or 'some fractions'}")


def largest_difference(curves: list[dict], others: list[dict]) -> float:
    """mm: by how much the mean errors of curves differ at most, over those of `others`, by data set, name and bias.

    ValueError where one of others is not among the curves.
    """

    def key(curve):
        return curve["dataset"], curve["name"], curve["protocol"]["bias"]

    means = {key(curve): curve["mean_mm"] for curve in curves}
    missing = [key(curve) for curve in others if key(curve) not in means]
    if missing:
        raise ValueError(f"{missing[0]} is not in the table of curves; run benchmarks/bench_published.py")
    return max(abs(means[key(curve)] - curve["mean_mm"]) for curve in others)
