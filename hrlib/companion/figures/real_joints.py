"""The figure of real people with joints: hands over true bones, errors, and how many frames these are of."""

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ...drawing import mesh, plots
from ...drawing.style import ACCENT, FINGER_COLOURS, GOOD, INK, MUTED, WIDTH_IN
from ...evaluation.found import RealEvaluation
from ...evaluation.joint_errors import joint_error_mm
from ...frames.crop import IMAGE_SIZE
from ...frames.crops import Crops
from ...hand.joints import POINT_PARENTS
from .panels import as_rows, number

COLOURS = {"base": MUTED, "fitted": GOOD}
LABELS = {"base": "base", "fitted": "each frame\nfitted"}
ERRORS = (("as_they_are", "as they are"), ("offset_removed", "offset removed"), ("cross_fitted", "other half's offset"))
CELL, BARS = 1.3, 2.75  # inches of a picture at most, and of the bars below
LOOKS = ({}, {"alpha": 0.55}, {"alpha": 0.55, "hatch": "////"})  # of the errors' bars
LEGEND = {"columnspacing": 1.1, "handlelength": 1.4, "handletextpad": 0.5}
COUNTS = (("hand found", INK), ("something else found", ACCENT), ("refused", MUTED))
MOST_MM = 60.0  # where the axis of errors ends: a longer bar is cut, and has its number
SEEN_MM = 260.0  # side of the window around a hand that was not found
NEAR_MM, FAR_MM = 120.0, 260.0  # depths that such a window shows, before and behind the hand


@dataclass(frozen=True)
class Column:
    """One frame to look at: one of the found frames by its index, or a refused one by its name."""

    title: str
    of: RealEvaluation
    index: int | None = None
    name: str | None = None


def columns_of(evaluation: RealEvaluation) -> list[Column]:
    """Which frames to show, by a rule: best, median and worst by the base model's error.

    Where fewer than three frames have the hand: the middle one of those that were refused, and of those that are lost.
    """
    found, lost = evaluation.found, evaluation.found.lost
    good = np.flatnonzero(~lost)
    if len(good) >= 3:
        order = good[joint_error_mm(evaluation.points["base"], found.true_mm)[good].argsort(kind="stable")]
        chosen = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}
        return [Column(title, evaluation, int(i)) for title, i in chosen.items()]
    refused, gone = list(found.left_out), np.flatnonzero(lost)
    columns = [Column("refused", evaluation, name=refused[len(refused) // 2])] if refused else []
    return columns + ([Column("not the hand", evaluation, int(gone[len(gone) // 2]))] if len(gone) else [])


def figure_real_joints(evaluations: Sequence[RealEvaluation], size: int = 220) -> Figure:
    """Frames of each set with their true bones, and over the posed hands; bars of the errors, and counts of the frames.

    size: of a mesh's picture, pixels.
    """
    columns = [column for one in evaluations for column in columns_of(one)]
    cell = min(CELL, (WIDTH_IN - 1.1) / len(columns))
    wide, high = WIDTH_IN, cell * (1 + len(LABELS)) + 0.8
    figure = plt.figure(figsize=(wide, high + BARS))
    top, bottom = figure.subfigures(2, 1, height_ratios=(high, BARS))
    _show_frames(top, columns, (wide, high), size)
    errors, counts = bottom.subplots(1, 2, width_ratios=(1.7, 1))
    bottom.subplots_adjust(left=0.06, right=0.985, top=0.8, bottom=0.2, wspace=0.5)
    _show_errors(errors, evaluations)
    _show_counts(counts, evaluations)
    return figure


def _show_frames(figure: SubFigure, columns: Sequence[Column], inches: tuple[float, float], size: int):
    """A column a frame: what the camera saw with the true bones, and each model's hand under the same bones."""
    wide, high = inches
    axes = figure.subplots(1 + len(LABELS), len(columns), squeeze=False)
    edges = {"left": 0.95 / wide, "right": 1 - 0.05 / wide, "top": 1 - 0.72 / high, "bottom": 0.05 / high}
    figure.subplots_adjust(**edges, wspace=0.05, hspace=0.05)
    for pictures, column in zip(axes.T, columns, strict=True):
        _show_column(pictures, column, size)
        pictures[0].set_title(column.title, pad=3)
    for row, (name, colour) in enumerate([("frame,\ntrue bones", INK)] + [(LABELS[m], COLOURS[m]) for m in LABELS]):
        box = axes[row, 0].get_position()
        style = {"ha": "right", "va": "center", "weight": "bold" if row else "normal"}
        figure.text(box.x0 - 0.008, (box.y0 + box.y1) / 2, name, color=colour, **style)
        if row:
            at = (box.x0 - 0.008, box.y0 + 0.14 * (box.y1 - box.y0))
            figure.text(*at, "under the\ntrue bones", ha="right", va="center")
    sets = [column.of for column in columns]
    for first in [i for i, one in enumerate(sets) if i == 0 or one is not sets[i - 1]]:
        last = max(i for i, one in enumerate(sets) if one is sets[first])
        left, right = axes[0, first].get_position().x0, axes[0, last].get_position().x1
        style = {"ha": "center", "va": "center", "weight": "bold"}
        figure.text((left + right) / 2, 1 - 0.27 / high, _two_lines(sets[first]), **style)
        if first:
            x = (axes[0, first - 1].get_position().x1 + left) / 2
            figure.add_artist(Line2D([x, x], [0.01, 0.99], color=MUTED, lw=0.8))


def _show_column(pictures: Sequence[Axes], column: Column, size: int):
    of, i = column.of, column.index
    if i is None:
        _show_window(pictures[0], of, column.name)
        for axis in pictures[1:]:
            plots.show_picture(axis, np.full((size, size, 3), 255, np.uint8))
        reason = of.found.left_out[column.name]
        pictures[1].text(
            size / 2, size / 2, fill(reason.replace("^2", "²"), 14), ha="center", va="center", color=ACCENT
        )
        return
    crops, true_mm = of.found.crops[i], of.found.true_mm[i].astype(np.float32)
    if of.found.lost[i]:
        _show_window(pictures[0], of, of.found.names[i])
    else:
        plots.show_depth(pictures[0], crops.image[0])
        _bones(pictures[0], true_mm, crops, IMAGE_SIZE)
    for axis, (name, prediction) in zip(pictures[1:], of.models.items(), strict=True):
        plots.show_picture(axis, mesh.predicted_hands(of.hand, prediction[i], crops, size)[0])
        _bones(axis, true_mm, crops, size)
        error = joint_error_mm(of.points[name][i : i + 1], of.found.true_mm[i : i + 1])[0]
        axis.text(0.03, 0.03, f"{error:.0f} mm", transform=axis.transAxes, va="bottom")


def _bones(axis: Axes, true_mm: Float[np.ndarray, "21 3"], crops: Crops, size: int):
    if (np.abs(true_mm.mean(0) - crops.centre_mm[0].numpy()) < crops.cube_mm / 2).all():
        mesh.draw_skeleton(axis, true_mm, crops, 0, size, lw=1.3)


def _show_window(axis: Axes, of: RealEvaluation, name: str):
    """What the camera saw around the true hand, for frames in which the hand was not found."""
    i = of.frames.names.index(name)
    frame, true_mm = of.frames[i], of.frames.joints_mm[i]
    z, (u, v) = true_mm[:, 2].mean(), frame.camera.project(true_mm.mean(0))
    half = SEEN_MM / 2 * frame.camera.fx / z
    near = np.where(frame.depth_mm > 0, (z + FAR_MM - frame.depth_mm) / (NEAR_MM + FAR_MM), 0).clip(0, 1)
    plots.show_depth(axis, near, vmax=1)
    uv = frame.camera.project(true_mm)
    for child, parent in enumerate(POINT_PARENTS[1:], 1):
        axis.plot(*uv[[parent, child]].T, color=FINGER_COLOURS[(child - 1) // 4], lw=1.3, solid_capstyle="round")
    axis.set(xlim=(u - half, u + half), ylim=(v + half, v - half), facecolor="black")


def _show_errors(axes: Axes, evaluations: Sequence[RealEvaluation]):
    """Three bars a model: errors over 21 joints as they are, without an offset, and without the other half's."""
    width = 0.13
    for x, one in enumerate(evaluations):
        for m, name in enumerate(LABELS):
            errors = one.result["models"][name]["found"]["21"]
            for k, (how, _) in enumerate(ERRORS):
                if errors[how] is None:
                    continue
                mean, at = errors[how]["mean_mm"], x + width * (3.3 * m + k - 2.65)
                height = min(mean, MOST_MM)
                axes.bar(at, height, 0.92 * width, color=COLOURS[name], ec="white", **LOOKS[k])
                if mean > MOST_MM:  # the bar is broken
                    axes.plot(at, 0.88 * MOST_MM, marker=[(-1, -0.3), (1, 0.3)], ms=22, color="white", mew=3)
                number(axes, at, height, f"{mean:.0f}", (0, 5), ha="center")
    axes.set(ylim=(0, MOST_MM), ylabel="mean error, 21 joints (mm)", xlim=(-0.5, len(evaluations) - 0.5))
    axes.set_xticks(range(len(evaluations)), [_with_lost(one) for one in evaluations])
    axes.tick_params(axis="x", length=0)
    handles = [Patch(color=COLOURS[name], label=LABELS[name].replace("\n", " ")) for name in LABELS]
    handles += [Patch(fc=INK, ec="white", label=text, **LOOKS[k]) for k, (_, text) in enumerate(ERRORS)]
    axes.legend(handles=handles, ncols=3, loc="lower left", bbox_to_anchor=(-0.1, 1.03), **LEGEND)


def _show_counts(axes: Axes, evaluations: Sequence[RealEvaluation]):
    """One bar a set, of all its frames: the hand found, something else found, nothing found."""
    for y, one in enumerate(evaluations):
        lost, refused = one.result["lost"], one.result["left_out"]
        start = 0
        for count, (_, colour) in zip((one.result["found"] - lost, lost, refused), COUNTS, strict=True):
            if count:
                axes.barh(y, count, 0.6, start, color=colour)
                ink = INK if colour == COUNTS[-1][1] else "white"
                axes.text(start + count / 2, y, str(count), ha="center", va="center", color=ink)
            start += count
    as_rows(axes, [one.title.replace(", ", "\n") for one in evaluations])
    axes.set(xlabel="frames", ylim=(len(evaluations) - 0.5, -0.5))
    handles = [Patch(color=colour, label=text) for text, colour in COUNTS]
    axes.legend(handles=handles, ncols=2, loc="lower right", bbox_to_anchor=(1.03, 1.03), **LEGEND)


def _with_lost(evaluation: RealEvaluation) -> str:
    lost, found = evaluation.result["lost"], evaluation.result["found"]
    return _two_lines(evaluation) + (f"\n{lost} of {found} are something else" if lost else "")


def _two_lines(evaluation: RealEvaluation) -> str:
    return evaluation.title.replace(", ", "\n", 1)
