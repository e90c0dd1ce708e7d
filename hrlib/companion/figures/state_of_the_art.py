"""State of the art (notebook 07, Fig. 8): success curves of published methods and ours, and what the protocol does."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from ...datasets.pseudo import PseudoFrames
from ...drawing.plots import show_depth
from ...drawing.style import ACCENT, GOOD, GREEN, INK, MUTED, ORANGE, PURPLE, SKY, WIDTH_IN
from ...evaluation.joint_errors import THRESHOLDS_MM
from ...method import to_crop

NAMES = {"nyu": "NYU", "icvl": "ICVL"}
COMPARED = (GOOD, GREEN, PURPLE, ORANGE, SKY, "#7f4f24", "#44327a")  # the paper's comparisons
SINCE = ("#b9c2cb", "#98a4b0", "#76838f", "#515d68")  # methods published since
COLUMNS = (  # of the protocol table: head, and which row of `protocols` in benchmarks/bench_published.py
    ("usual", {}),
    ("12 joints", {"joints": 12}),
    ("11 joints", {"joints": 11}),
    ("subject 1", {"subject": "1"}),
    ("subject 2", {"subject": "2"}),
    ("size given", {"scale": "given"}),
    ("min. bias", {"bias": "paper"}),
    ("offset", {"bias": "offset"}),
    ("size, offset", {"scale": "given", "bias": "offset"}),
)
JOINTS = {"nyu": 14, "icvl": 16}


def pick_curves(curves: Sequence[dict], dataset: str, bias: str, kind: str | None = None) -> list[dict]:
    """A table's curves of a data set and bias; kind "published", "ours" (all others), or None for both."""
    return [
        curve
        for curve in curves
        if curve["dataset"] == dataset
        and curve["protocol"]["bias"] == bias
        and (kind is None or (curve["kind"] == "published") == (kind == "published"))
    ]


def figure_success(published: Sequence[dict], ours: Sequence[dict] = ()) -> Figure:
    """Fig. 8: fraction of frames whose worst joint is within D mm. Rows NYU and ICVL; left as predicted, right with each
    method's constant offset removed.

    published, ours: curves as `published_curves` has them. Ours are thick; dashed without the paper's bias, dotted without the
    constant offset. What they ran on, if not the data set's own frames, stands in the legend.
    """
    figure, axes = plt.subplots(2, 2, figsize=(WIDTH_IN, 12.4))
    figure.subplots_adjust(left=0.06, right=0.99, top=0.98, bottom=0.265, wspace=0.08, hspace=1.32)
    for row, dataset in zip(axes, NAMES, strict=True):
        left, right = row
        _published(left, pick_curves(published, dataset, "none", "published"))
        _published(right, pick_curves(published, dataset, "offset", "published"))
        _ours(left, pick_curves(ours, dataset, "none", "ours"), "-")
        _ours(left, pick_curves(ours, dataset, "paper", "ours"), "--", ", min. bias off")
        _ours(right, pick_curves(ours, dataset, "offset", "ours"), ":")
        for axis, what in ((left, "as predicted"), (right, "constant offset of each joint removed from all")):
            axis.set(xlim=(0, 80), ylim=(0, 1), xlabel="D (mm)")
            axis.set_title(f"{NAMES[dataset]}: {what}", loc="left")
            axis.grid(color=MUTED, alpha=0.25, lw=0.6)
            axis.yaxis.set_major_formatter(PercentFormatter(1))
            place = {"loc": "upper left", "bbox_to_anchor": (0.0, -0.17), "alignment": "left", "labelspacing": 0.3}
            axis.legend(handlelength=2.2, title="mean error (mm)", **place)
        left.set_ylabel("frames with all joints within D")
        right.set_yticklabels([])
    return figure


def _published(axes: Axes, curves: list[dict]):
    """Best last, so that the legend reads from the lowest curve to the highest; colours go with the name."""
    names = sorted({curve["name"] for curve in curves if curve["in_fig8"]})
    newer = sorted({curve["name"] for curve in curves if not curve["in_fig8"]})
    for curve in sorted(curves, key=lambda curve: -curve["auc"]):
        compared = curve["in_fig8"]
        colour = COMPARED[names.index(curve["name"])] if compared else SINCE[newer.index(curve["name"])]
        part = "" if curve["protocol"]["split"] == "test" else ", seq. 1"
        since = "" if compared else f" ({curve['paper'][-4:]})"
        label = f"{curve['mean_mm']:5.1f}  {curve['name']}{since}{part}"
        line = {"lw": 1.7} if compared else {"lw": 1.3, "zorder": 1.5}
        axes.plot(THRESHOLDS_MM, curve["fraction"], color=colour, label=label, **line)


def _ours(axes: Axes, curves: list[dict], style: str, note: str = ""):
    for curve in curves:
        colour = INK if "base" in curve["name"] else ACCENT
        where = "" if curve["kind"] == NAMES[curve["dataset"]] else f", {curve['kind']}"
        label = f"{curve['mean_mm']:5.1f}  ours {curve['name']}{where}" + note
        axes.plot(THRESHOLDS_MM, curve["fraction"], color=colour, ls=style, lw=2.6, label=label, zorder=3)


def figure_pseudo(frames: Sequence[PseudoFrames], residuals: dict[str, dict]) -> Figure:
    """What a pseudo data set's frames look like, a row for each subject, with the joints that are evaluated; and how far the
    hand fitted to the real labels lies from them.

    residuals: by data set, as benchmarks/results/pseudo.json has them; none draws the frames alone.
    """
    columns = max(len(found.crops) for found in frames)
    heights = (1.6 * len(frames), 3.0)
    figure = plt.figure(figsize=(WIDTH_IN, sum(heights)), layout="constrained")
    sheet, below = figure.subfigures(2, 1, height_ratios=heights)
    axes = sheet.subplots(len(frames), columns, squeeze=False)
    for row, found in zip(axes, frames, strict=True):
        points = to_crop(found.labels_mm, found.crops)[..., :2].numpy() * len(found.crops.image[0]) - 0.5
        for axis in row:
            axis.set_axis_off()
        for i, axis in enumerate(row[: len(found.crops)]):
            show_depth(axis, found.crops.image[i], f"frame {found.frame[i] + 1}")
            axis.scatter(*points[i].T, s=9, color=ACCENT, lw=0)
        place = {"ha": "right", "va": "center", "transform": row[0].transAxes}
        row[0].text(-0.08, 0.5, f"subject {found.subject[0]}", rotation=90, **place)
    if residuals:
        axis = below.subplots()
        for (dataset, found), colour in zip(residuals.items(), (GOOD, ACCENT), strict=False):
            label = f"{NAMES[dataset]}, {found['joints']} joints: {found['mean_mm']:.2f} mm in the mean"
            for key, line in (("joint_percentiles_mm", "-"), ("frame_percentiles_mm", ":")):
                axis.plot(found[key], found["percentiles"], line, marker="o", ms=3, color=colour, label=label)
                label = "   the same, mean of a frame's joints"
        axis.set(xlim=(0, None), ylim=(0, 102), xlabel="distance of the fitted hand from the label (mm)")
        axis.set_ylabel("percentile")
        axis.set_title("our hand fitted to the real labels, joint map's bias removed", loc="left")
        axis.grid(color=MUTED, alpha=0.25, lw=0.6)
        axis.legend(loc="lower right")
    return figure


# -- what the protocol does ---------------------------------------------------------------------------------------------


def protocol_value(rows: Sequence[dict], dataset: str, name: str, **wanted) -> float | None:
    """Mean error of a method under one protocol of the table; what is not wanted is as usual. None where there is none."""
    usual = {"joints": JOINTS[dataset], "subject": "all", "scale": "as predicted", "bias": "none"}
    wanted = usual | wanted | {"dataset": dataset, "name": name}
    found = [row["mean_mm"] for row in rows if all(row[key] == value for key, value in wanted.items())]
    return found[0] if found else None


def figure_protocols(rows: Sequence[dict]) -> Figure:
    """The table: mean errors of the same predictions under the usual protocol, and what another one adds, in mm."""
    names = {dataset: list(dict.fromkeys(r["name"] for r in rows if r["dataset"] == dataset)) for dataset in NAMES}
    heights = [len(found) for found in names.values()]
    size = (WIDTH_IN, 0.29 * sum(heights) + 1.7)
    figure, axes = plt.subplots(2, 1, figsize=size, height_ratios=heights, layout="constrained")
    norm = TwoSlopeNorm(0, -5, 5)
    for axis, (dataset, methods) in zip(axes, names.items(), strict=True):
        columns = [c for c in COLUMNS if "joints" not in c[1] or dataset == "nyu"]
        table = [[protocol_value(rows, dataset, m, **wanted) or np.nan for _, wanted in columns] for m in methods]
        values = np.array(table)
        change = values - values[:, :1]
        axis.imshow(change, cmap="RdBu_r", norm=norm, aspect="auto", alpha=0.7)
        for i, j in np.argwhere(np.isfinite(values)):
            text = f"{round(change[i, j], 2) + 0.0:+.2f}" if j else f"{values[i, j]:.2f}"
            ink = "white" if abs(change[i, j]) > 3.4 else INK
            axis.text(j, i, text, ha="center", va="center", color=ink, weight="normal" if j else "bold")
        heads = [
            f"usual:\n{JOINTS[dataset]} joints",
            *(head.replace(", ", ",\n").replace(" ", "\n", 1) for head, _ in columns[1:]),
        ]
        if dataset == "icvl":
            heads = [head.replace("subject", "sequence") for head in heads]
        axis.set_xticks(range(len(heads)), heads, color=INK)
        axis.set_yticks(range(len(methods)), methods, color=INK)
        axis.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
        axis.spines[:].set_visible(False)
        title = f"{NAMES[dataset]}: mean joint error of the same predictions, mm; then what another protocol adds"
        axis.set_title(title, loc="left", pad=10)
    return figure


# -- numbers for result files ------------------------------------------------------------------------------------------


def summaries(curves: Sequence[dict]) -> list[dict]:
    """The curves' numbers without the curves, for a result file."""
    keys = ("name", "dataset", "kind", "mean_mm", "median_mm", "auc", "frames", "per_subject_mm", "protocol")
    return [{key: curve[key] for key in keys if key in curve} for curve in curves]


def success_numbers(table: Mapping[str, Any], ours: Sequence[dict]) -> dict[str, Any]:
    """The numbers of `figure_success`: thresholds, and the summaries of the published curves and ours."""
    return {"thresholds_mm": table["thresholds_mm"], "curves": summaries([*table["curves"], *ours])}
