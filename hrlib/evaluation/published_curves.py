"""The published methods' curves as one small table, data/published_curves.json, and ours in the same layout.

The table is {"thresholds_mm": [81], "curves": [...], "protocols": [...], "sources": {...}} (benchmarks/bench_published.py).
A curve is what `joint_errors.evaluate` returns and {"name", "dataset", "kind", "paper", "in_fig8"}. Our result files hold the
same "thresholds_mm" and "curves" below "metrics" (benchmarks/results/pseudo.json).
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..datasets.published import TEST_SETS, Method, methods_on, read_labels, read_predictions
from ..support import paths
from .joint_errors import BIASES, THRESHOLDS_MM, Protocol, evaluate

PUBLISHED_CURVES = paths.DATA / "published_curves.json"
OURS = paths.BENCHMARKS / "pseudo.json"


def published_curves(dataset: str, methods: list[Method] | None = None) -> list[dict]:
    """The curves of published methods (None: all) on "nyu" or "icvl" from their files, for each of `BIASES`."""
    test, curves, true = TEST_SETS[dataset], [], read_labels(dataset)
    for method in methods or methods_on(dataset):
        predicted = read_predictions(dataset, method.name)
        frames = len(predicted)
        for bias in BIASES:
            setting = Protocol(
                dataset,
                "test" if frames == test.frames else "test, first sequence",
                test.joints,
                crop="its authors'",
                scale="its training",
                ground_truth="training labels" + ("" if bias == "none" else ", and the bias"),
                bias=bias,
            )
            found = evaluate(predicted, true[:frames], setting, test.subject[:frames])
            curves.append(described(found, method.name, dataset, "published", method.paper, method.in_fig8))
    return curves


def described(evaluation: dict, name: str, dataset: str, kind: str, paper: str = "-", in_fig8: bool = False) -> dict:
    """A curve of the table. kind: "published", or the frames that ours ran on, e.g. "pseudo-NYU"."""
    return {"name": name, "dataset": dataset, "kind": kind, "paper": paper, "in_fig8": in_fig8} | evaluation


def read_table(path: Path = PUBLISHED_CURVES) -> dict:
    """The committed table. Raises ValueError if it is damaged, or was made at other thresholds than this code draws."""
    return _read(path, lambda table: table, "benchmarks/bench_published.py")


def read_ours(path: Path = OURS) -> tuple[list[dict], dict[str, dict]]:
    """Our curves, and the residual of our hand fitted to the real labels by data set; both empty if there is no file."""
    if not path.exists():
        return [], {}
    metrics = _read(path, lambda result: result["metrics"], "benchmarks/bench_pseudo.py")
    return metrics["curves"], {dataset: found["residual"] for dataset, found in metrics.get("sets", {}).items()}


def _read(path: Path, part: Callable[[dict], dict], script: str) -> dict:
    try:
        table = part(json.loads(path.read_text(encoding="utf-8")))
        if not np.array_equal(table["thresholds_mm"], THRESHOLDS_MM):
            raise ValueError("thresholds_mm differ from hrlib.evaluation.joint_errors.THRESHOLDS_MM")
        for curve in table["curves"]:
            missing = {"name", "dataset", "kind", "mean_mm", "fraction", "auc", "frames", "protocol"} - set(curve)
            if missing or len(curve["fraction"]) != len(THRESHOLDS_MM):
                raise ValueError(f"curve {curve.get('name')} lacks {', '.join(sorted(missing)) or 'some fractions'}")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path.name} is no table of curves ({error!r}); run {script}") from error
    return table
