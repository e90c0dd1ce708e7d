"""Figures whose result file has all that they show, drawn anew from it: for a new style, without computing anything again.

`python -m hrlib.companion.redraw [NAME ...]` replaces their pictures and captions; their numbers stay.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from ..evaluation.ablation import Measured
from ..support import paths
from ..support.files import json_bytes, write_together
from ..synthetic.people import USERS
from .captions import caption
from .figures import beyond, refinement
from .refined import RECIPE_LABELS, WHEN, bars_of
from .results import picture_of


def redraw(name: str, folder: Path = paths.FIGURES) -> None:
    """Write <name>.png and <name>.json of a figure again.

    Args:
        name: one of `DRAWN`.
        folder: which has the result file.

    Raises:
        KeyError: more than its result file is needed to draw the figure.
        FileNotFoundError: there is no such result file.
    """
    draw = DRAWN[name]
    record = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    record["caption"] = caption(record)
    picture = picture_of(draw(record["metrics"]))
    write_together({folder / f"{name}.png": picture, folder / f"{name}.json": json_bytes(record)})


def _self_comparison(metrics: Mapping[str, Any]) -> Figure:
    return refinement.figure_self_comparison(metrics["users"], metrics["distances_mm"])


def _distribution(metrics: Mapping[str, Any]) -> Figure:
    mse = {name: tuple(torch.tensor(pair[when]) for when in WHEN) for name, pair in metrics["image_mse"].items()}
    return refinement.figure_distribution(mse, bars_of(metrics["recipes"], real=True), RECIPE_LABELS)


def _gap(metrics: Mapping[str, Any]) -> Figure:
    return beyond.figure_gap(metrics["users"], {name: USERS[name].description for name in metrics["users"]})


def _confidence(metrics: Mapping[str, Any]) -> Figure:
    measured = {}
    for name, sure in metrics["confidence"].items():
        nothing = torch.zeros(len(sure))  # images and joints are not drawn
        joints_mm = nothing[:, None, None].expand(-1, 21, 3)
        measured[name] = Measured(torch.tensor(metrics["error16_mm"][name]), nothing, torch.tensor(sure), joints_mm, {})
    return beyond.figure_confidence(measured)


DRAWN: dict[str, Callable[[Mapping[str, Any]], Figure]] = {
    "05_self": _self_comparison,
    "06_distribution_real": _distribution,
    "10_ablation": lambda metrics: beyond.figure_ablation(metrics["users"]),
    "10_changes": lambda metrics: beyond.figure_changes(metrics["users"]),
    "10_confidence": _confidence,
    "10_frames": lambda metrics: beyond.figure_frames(metrics["users"], metrics["warned_below"]),
    "10_gap": _gap,
}


def main(names: Sequence[str]) -> int:
    """Redraw the named figures, or all."""
    if unknown := [name for name in names if name not in DRAWN]:
        print(f"redraw: not drawn from a result file alone: {', '.join(unknown)}; these are: {', '.join(DRAWN)}")
        return 2
    for name in names or DRAWN:
        redraw(name)
        print(f"redraw: {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
