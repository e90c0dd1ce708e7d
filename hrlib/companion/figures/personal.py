"""Figures of notebook 09: what the check takes for a hand, and a tracked sequence."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from ...drawing import mesh, plots
from ...drawing.style import ACCENT, GOOD, MUTED, WIDTH_IN
from ...frames.crops import evenly
from ...hand.rig import HandRig
from ...personal.check import Check
from ...personal.track import Tracked
from .panels import as_rows

COLUMNS = 8  # frames of a tracked sequence that are pictured


def check_numbers(
    looked: Mapping[str, Check], are_hands: Mapping[str, bool]
) -> tuple[dict[str, dict], dict[str, float]]:
    """Of each folder its frames' likeness to a hand and why it is refused; and the values of the claims."""
    numbers = {
        name: {
            "hand": are_hands[name],
            "likeness": found.measures.hand if found.measures else [],
            "refusals": found.refusals,
        }
        for name, found in looked.items()
    }
    passed, refused = (
        [bool(found.refusals) != hand for name, found in looked.items() if are_hands[name] == hand]
        for hand in (True, False)
    )
    return numbers, {"camera.hands": sum(passed) / len(passed), "camera.things": sum(refused) / len(refused)}


def tracking_numbers(
    follows: Mapping[str, Tracked], error_mm: Mapping[str, Float[Tensor, " B"]], warnings: Sequence[str], left_out: int
) -> tuple[dict[str, Any], dict[str, float]]:
    """The numbers of `figure_tracking`: errors and confidence of the models, and the value of the claim."""
    mean = {name: values.mean().item() for name, values in error_mm.items()}
    numbers = {
        "joint_error_mm": mean,
        "median_confidence": {name: shots.confidence.median() for name, shots in follows.items()},
        "warnings": warnings,
        "left_out": left_out,
    }
    return numbers, {"camera.track": 1 - mean["refined"] / mean["base model"]}


def figure_recognised(
    scores: Mapping[str, Float[Tensor, " B"]],
    are_hands: Mapping[str, bool],
    images: Mapping[str, Float[Tensor, "H W"]],
) -> Figure:
    """For each folder its frames' likeness to a hand, and one of its crops."""
    names, inches = list(scores), 0.4 * len(scores)
    figure = plt.figure(figsize=(WIDTH_IN, inches + 0.9))
    axes = figure.add_axes((0.3, 0.6 / (inches + 0.9), 0.67, inches / (inches + 0.9)))
    for row, name in enumerate(reversed(names)):
        colour = GOOD if are_hands[name] else ACCENT
        values = scores[name].numpy()
        axes.plot(values, np.full(len(values), row), "|", ms=11, color=colour, alpha=0.6)
        axes.plot(np.median(values), row, "o", ms=6, color=colour)
        thumb = axes.inset_axes((-0.075, row / len(names) + 0.005, 0.065, 1 / len(names) - 0.01))
        plots.show_depth(thumb, images[name], vmax=float(images[name].max()))
        axes.text(-0.085, (row + 0.5) / len(names), name, transform=axes.transAxes, ha="right", va="center")
    axes.axvline(0.5, color=MUTED, lw=1)
    as_rows(axes)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.5, len(names) - 0.5))
    axes.set_xlabel("likeness to a hand: each frame, and the median of the folder")
    return figure


def figure_tracking(after: Tracked, hand: HandRig, error_mm: Mapping[str, Float[Tensor, " B"]]) -> Figure:
    """A sequence: depth and the posed hand in some of its frames, and below each model's joint error, frame by frame."""
    index = evenly(len(after), COLUMNS)
    crops = after.crops[index]
    meshes = mesh.predicted_hands(hand, after.prediction[index], crops)
    figure = plt.figure(figsize=(WIDTH_IN, 4.6))
    grid = figure.add_gridspec(
        3, len(index), height_ratios=(1, 1, 1.5), wspace=0.04, hspace=0.12, left=0.06, right=0.99
    )
    for k in range(len(index)):
        depth, posed = figure.add_subplot(grid[0, k]), figure.add_subplot(grid[1, k])
        plots.show_depth(depth, crops.image[k], f"frame {int(index[k])}", vmax=max(0.5, float(crops.image[k].max())))
        plots.show_picture(posed, meshes[k])
        if k == 0:
            depth.set_ylabel("depth")
            posed.set_ylabel("tracked")
    axes = figure.add_subplot(grid[2, :])
    for (name, values), colour in zip(error_mm.items(), (MUTED, GOOD), strict=True):
        axes.plot(values.numpy(), color=colour, lw=1.6, label=f"{name}: mean {values.mean():.1f} mm")
    axes.set(xlabel="frame", ylabel="mean joint error (mm)", xlim=(0, max(1, len(after) - 1)))
    axes.set_ylim(0, 1.25 * max(float(torch.quantile(v, 0.98)) for v in error_mm.values()))
    axes.legend(loc="lower right", bbox_to_anchor=(1, 0.99), ncols=2)  # no curve is there
    return figure
