"""Beyond the paper (notebook 10): figures of recipe `best`, of its parts, and of what it has and has not reached."""

from collections.abc import Mapping
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, PercentFormatter

from ...drawing.style import ACCENT, GOOD, GREEN, INK, MUTED, WIDTH_IN
from ...evaluation.ablation import ALL_PARTS, TELLS_MM, Measured, coverage, gaps_closed, numbers
from ...evaluation.metrics import spearman
from .panels import as_rows, described, number

USER_COLOURS = (GOOD, INK, GREEN, ACCENT)
ABLATION_PANELS = (  # key of `Measured.summary()`, factor, room for the numbers beside the bars, label
    ("mean16_mm", 1, 1.22, "mean error of 16 joints (mm)"),
    ("image_mse", 1e3, 1.15, r"image MSE ($10^{-3}$)"),
)


def figure_ablation(users: Mapping[str, Mapping]) -> Figure:
    """Joint error and image MSE of the recipe without each of its parts, a row of panels a user.

    Args:
        users: name -> {"rows": variant -> `Measured.summary()`, "base": the base model's summary, "oracle_mm": the
            supervised oracle's mean error, None if unknown}.
    """
    bars = max(len(user["rows"]) for user in users.values())
    size = (WIDTH_IN, len(users) * (1.3 + 0.33 * bars))
    figure, axes = plt.subplots(len(users), 2, figsize=size, width_ratios=[1.7, 1], squeeze=False, layout="constrained")
    behind = {"boxstyle": "square,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.85}  # readable over a line
    for row, (name, user) in zip(axes, users.items(), strict=True):
        variants = user["rows"]
        for axis, (key, factor, room, label) in zip(row, ABLATION_PANELS, strict=True):
            values, base = [factor * summary[key] for summary in variants.values()], factor * user["base"][key]
            as_rows(axis, list(variants) if axis is row[0] else [])
            axis.barh(range(len(values)), values, 0.64, color=[GOOD if v == ALL_PARTS else MUTED for v in variants])
            for y, value in enumerate(values):  # + 0.0: no "-0.0"
                change = f"  ({round(value - values[0], 1) + 0.0:+.1f})" if y and axis is row[0] else ""
                number(axis, value, y, f"{value:.1f}{change}", bbox=behind, zorder=4)
            _line(axis, base, "base", ACCENT, "--")
            # the first on top, and room for the lines' names
            axis.set(xlabel=label, xlim=(0, room * max(*values, base)), ylim=(len(values) - 0.4, -1.0))
        if user["oracle_mm"] is not None:
            _line(row[0], user["oracle_mm"], "oracle", INK, ":")
        row[0].set_title(f"User {name}: joints", loc="left")
        row[1].set_title("images: lower is not yet a better hand", loc="left")
    return figure


def _line(axes: Axes, x: float, name: str, colour: str, style: str):
    """A vertical line with its name at its top."""
    axes.axvline(x, color=colour, ls=style, lw=1.3, zorder=3)
    number(axes, x, 1, name, (3, -2), xycoords=axes.get_xaxis_transform(), va="top", color=colour)


def figure_changes(users: Mapping[str, Mapping]) -> Figure:
    """Change of each user's joints and images if a part of the recipe is left out, changed or added.

    Args:
        users: name -> {"rows": variant -> `Measured.summary()`}, the same variants for all.
    """
    names = [variant for variant in next(iter(users.values()))["rows"] if variant != ALL_PARTS]
    figure, (joints, images) = plt.subplots(1, 2, figsize=(WIDTH_IN, 1.2 + 0.33 * len(names)), layout="constrained")
    joints.axvspan(-TELLS_MM, TELLS_MM, color=MUTED, alpha=0.2, lw=0)
    joints.set_title("left: better hands than the recipe's", loc="left")
    joints.set_xlabel("change of the mean joint error (mm)")
    images.set_title("left: better pictures", loc="left")
    images.set_xlabel("change of the image MSE (%)")
    for axis, key in ((joints, "mean16_mm"), (images, "image_mse")):
        axis.axvline(0, color=INK, lw=1)
        for (name, user), colour in zip(users.items(), USER_COLOURS, strict=False):
            values, whole = np.array([user["rows"][v][key] for v in names]), user["rows"][ALL_PARTS][key]
            change = values - whole if axis is joints else 100 * (values / whole - 1)
            axis.plot(change, range(len(names)), "o", ms=7, color=colour, alpha=0.85, label=f"user {name}")
        as_rows(axis, names if axis is joints else [""] * len(names))
        axis.grid(axis="y", color=MUTED, alpha=0.25, lw=0.6)
        axis.invert_yaxis()
    joints.legend(loc="lower right")
    return figure


def figure_frames(users: Mapping[str, Mapping], few: int) -> Figure:
    """Joint error against the number of unlabelled frames.

    Args:
        users: name -> {"frames": [K], "mean16_mm": [K], "base_mm"}.
        few: below so many frames `hrlib.refine` warns.
    """
    figure, axes = plt.subplots(figsize=(WIDTH_IN, 3.6), layout="constrained")
    counts = sorted({count for user in users.values() for count in user["frames"]})
    axes.axvspan(0.8 * counts[0], few, color=MUTED, alpha=0.16, lw=0)
    highest = max(users, key=lambda name: users[name]["mean16_mm"][-1])
    for (name, user), colour in zip(users.items(), USER_COLOURS, strict=False):
        axes.plot(user["frames"], user["mean16_mm"], "o-", color=colour, lw=2, ms=6, label=f"user {name}, refined")
        base_colour = colour if len(users) > 1 else ACCENT
        axes.axhline(user["base_mm"], color=base_colour, ls="--", lw=1.3, label=f"user {name}, base model")
        up = 11 if name == highest and len(users) > 1 else -11  # not between two curves
        for x, value in zip(user["frames"], user["mean16_mm"], strict=True):
            number(axes, x, value, f"{value:.1f}", (0, up), ha="center", color=colour)
    top = max(value for user in users.values() for value in (*user["mean16_mm"], user["base_mm"]))
    axes.set(xscale="log", xlim=(0.8 * counts[0], 1.25 * counts[-1]), ylim=(0, 1.12 * top))
    axes.set(xlabel="unlabelled frames of the user", ylabel="mean error of 16 joints (mm)")
    axes.set_xticks(counts, [f"{count:,}" for count in counts])
    axes.minorticks_off()
    number(axes, few, 0, f"fewer than {few}:\nhrlib refine warns", (-4, 10), ha="right", va="bottom")
    axes.legend(loc="lower right")
    return figure


def figure_gap(users: Mapping[str, Mapping], descriptions: Mapping[str, str]) -> Figure:
    """The way from the base model to the supervised oracle, and how far refinement goes on it; one line a way to see a frame.

    Args:
        users: name -> {"base", "best", "oracle"} -> {"once", "five", "fitted"} -> {"mean16": mm, one number or one a seed};
            and {"alexnet", "paper"} -> {"mean16"}, of the paper's network and recipe, where known.
        descriptions: of the users, by name.
    """
    figure, axes = plt.subplots(figsize=(WIDTH_IN, 1.4 + 1.1 * len(users)), layout="constrained")
    dots = {}
    for y, row in enumerate(users.values()):
        for way, height, label in GAP_LINES:
            lines = {model: numbers(row[model][way]) for model in ("base", "oracle", "best")}
            share = f"{label}: {np.mean(gaps_closed(row, way)):.0%}"
            _gap_line(axes, y + height, lines, share, {"ms": 8}, dots)
        if "paper" in row:
            of_paper = {"alexnet": numbers(row["alexnet"]), "paper": numbers(row["paper"])}
            _gap_line(axes, y + 0.36, of_paper, "the paper's recipe", {"ms": 6, "mfc": "white"}, dots)
    as_rows(axes, described({name: descriptions[name] for name in users}))
    right = max(line.get_xdata().max() for line in axes.lines)
    axes.set(xlim=(0, 1.3 * right), ylim=(len(users) - 0.45, -0.55))
    axes.set_xlabel("mean error of 16 joints on test frames (mm)")
    axes.set_title("share of the way from base to oracle", loc="right")
    axes.grid(axis="x", color=MUTED, alpha=0.25, lw=0.6)
    figure.legend(dots.values(), dots, loc="outside upper center", ncols=3)
    return figure


GAP_LINES = (("once", -0.3, "seen once"), ("five", -0.08, "five turned views"), ("fitted", 0.14, "each frame fitted"))
GAP_MARKS = {  # model -> label, marker, colour
    "base": ("base model", "o", ACCENT),
    "oracle": ("supervised oracle", "D", INK),
    "best": ("refined, best (a dot a seed)", "o", GOOD),
    "alexnet": ("the paper's network", "o", ACCENT),
    "paper": ("refined, paper", "s", GOOD),
}


def _gap_line(axes: Axes, y: float, models: Mapping[str, list[float]], share: str, style: Mapping, dots: dict):
    """The models on one line: from the first to the second, and what lies between."""
    (first, *_), (last, *_) = list(models.values())[:2]
    axes.plot([first, last], [y, y], color=MUTED, lw=2, alpha=0.6, solid_capstyle="round")
    for model, values in models.items():
        label, marker, colour = GAP_MARKS[model]
        (dots[label],) = axes.plot(values, [y] * len(values), marker, color=colour, zorder=3, **style)
    axes.text(0.99, y, share, ha="right", va="center", transform=axes.get_yaxis_transform())


def figure_people(rows: Mapping[str, Mapping]) -> Figure:
    """Joint errors of everybody whose joints are known, a row each, and in how many frames the hand was found.

    Args:
        rows: name -> {"label", "mm": {"base", "base fitted", "best", "best fitted"} -> (as it is, offset removed) or, where
            the joints are defined as ours, (as it is,), "counts": frames (found, lost, left out)}.
    """
    figure, (errors, counts) = plt.subplots(
        1, 2, figsize=(WIDTH_IN, 1.6 + 0.78 * len(rows)), width_ratios=[2, 1], layout="constrained", sharey=True
    )
    limit, dots = PEOPLE_LIMIT_MM, {}
    for y, row in enumerate(rows.values()):
        for k, (model, (label, marker, colour)) in enumerate(PEOPLE_MARKS.items()):
            at = y - 0.27 + 0.18 * k
            as_is, *removed = row["mm"][model]
            clear = removed[0] if removed else as_is
            errors.plot([min(as_is, limit), min(clear, limit)], [at] * 2, color=colour, lw=1.6, alpha=0.5)
            if removed:
                errors.plot(min(as_is, limit), at, marker, color=colour, mfc="white", ms=7, clip_on=False)
            if clear <= limit:
                (dots[label],) = errors.plot(clear, at, marker, color=colour, ms=7)
            beyond = f"{clear:.0f} and {as_is:.0f} mm" if clear > limit else f"{clear:.1f}"
            number(errors, min(max(as_is, clear), limit), at, beyond, (6, 0))
        found, lost, left_out = np.array(row["counts"]) / sum(row["counts"])
        left = 0.0
        for share, colour, name in ((found, GOOD, "found"), (lost, ACCENT, "lost"), (left_out, MUTED, "left out")):
            counts.barh(y, share, 0.5, left=left, color=colour, label=name if not y else None)
            left += share
        number(counts, 1, y, f"of {sum(row['counts']):,}", (4, 0))
    as_rows(errors, ["\n".join(fill(line, 30) for line in row["label"].split("\n")) for row in rows.values()])
    errors.set(xlim=(0, 1.16 * limit), ylim=(len(rows) - 0.5, -0.6))
    errors.set_xlabel("mean error of 16 joints (mm)\nhollow: as it is, filled: without each joint's constant offset")
    errors.grid(axis="x", color=MUTED, alpha=0.25, lw=0.6)
    counts.set(xlim=(0, 1.18), xlabel="share of the frames")
    counts.xaxis.set_major_formatter(PercentFormatter(1))
    counts.set_xticks([0, 0.5, 1])
    counts.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2)
    errors.legend(dots.values(), dots, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2)
    return figure


PEOPLE_LIMIT_MM = 45.0  # larger errors are written, not drawn: another thing than the hand was found
PEOPLE_MARKS = {
    "base": ("base model", "o", ACCENT),
    "base fitted": ("... fitted", "P", ACCENT),
    "best": ("refined, best", "o", GOOD),
    "best fitted": ("... fitted to each frame", "P", GOOD),
}


def figure_confidence(users: Mapping[str, Measured]) -> Figure:
    """Confidence against true error, and the error of the frames that are left if the least sure are dropped; a row a user."""
    size = (WIDTH_IN, 3.6 * len(users))
    figure, axes = plt.subplots(
        len(users), 2, figsize=size, squeeze=False, layout="constrained", width_ratios=[1.15, 1]
    )
    for (left, right), (name, measured) in zip(axes, users.items(), strict=True):
        sure, error_mm = measured.confidence.numpy(), measured.error_mm.numpy()
        left.scatter(sure, error_mm, s=15, color=GOOD, alpha=0.55, lw=0)
        bins = np.array_split(sure.argsort(), min(8, len(sure)))
        medians = [(np.median(sure[b]), np.median(error_mm[b])) for b in bins]
        left.plot(*np.transpose(medians), "o-", color=INK, lw=1.8, ms=4, label="median of each eighth")
        left.set(xlabel="confidence, without labels", ylabel="true error of 16 joints (mm, logarithmic)", yscale="log")
        left.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        left.yaxis.set_major_formatter("{x:g}")
        left.yaxis.set_minor_locator(NullLocator())
        rank = spearman(measured.confidence, -measured.error_mm)
        left.set_title(f"User {name}: rank correlation of confidence and accuracy {rank:.2f}", loc="left")
        left.legend(loc="upper right")
        share = np.arange(1, len(sure) + 1) / len(sure)
        kept = slice(len(sure) // 20, None)  # the median of a handful of frames says nothing
        limit = coverage(measured.error_mm, -measured.error_mm)
        right.plot(
            share[kept], coverage(measured.error_mm, measured.confidence)[kept], color=GOOD, lw=2, label="by confidence"
        )
        right.plot(share[kept], limit[kept], "--", color=MUTED, lw=2, label="by true error (the limit)")
        right.axhline(np.median(error_mm), color=INK, lw=1, ls=":", label="all frames")
        right.set(xlabel="share of frames kept, the surest first", ylabel="their median error (mm)", xlim=(0, 1))
        right.set_ylim(0, None)
        right.xaxis.set_major_formatter(PercentFormatter(1))
        right.legend(loc="lower right")
    return figure


def figure_doubt(folders: Mapping[str, Mapping[str, Mapping]]) -> Figure:
    """Error of the joints against the confidence of folders with right and wrong settings, and whether the user was told.

    folders: of `benchmarks/results/doubt.json`, by person and setting.
    """
    figure, axes = plt.subplots(figsize=(WIDTH_IN, 4.4), layout="constrained")
    rows = [(name, row) for settings in folders.values() for name, row in settings.items() if "error_mm" in row]
    kinds = {
        "wrong settings, told": (False, True, "o", MUTED),
        "wrong settings, not told": (False, False, "o", ACCENT),
        "right settings, not told": (True, False, "D", GOOD),
        "right settings, told": (True, True, "D", INK),
    }
    for label, (right, told, marker, colour) in kinds.items():
        chosen = [r for name, r in rows if is_right(name) == right and bool(r["told"]) == told]
        points = [(row["evidence"]["confidence"], row["error_mm"]) for row in chosen]
        if points:
            axes.scatter(*np.transpose(points), s=26, marker=marker, color=colour, alpha=0.8, lw=0, label=label)
    axes.set(xlabel="median confidence of the folder", ylabel="error of 21 joints (mm, logarithmic)", yscale="log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_title("A confident result can be wrong: what else is told", loc="left")
    axes.legend(loc="upper right")
    return figure


def is_right(setting: str) -> bool:
    """Whether a folder of `doubt.json` was predicted with the right settings; drawn folders are named by their seed."""
    return setting.startswith("right") or setting.isdigit()
