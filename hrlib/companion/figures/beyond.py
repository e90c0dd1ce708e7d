"""Beyond the paper (notebook 10): figures of recipe `best`, of its parts, and of what it has and has not reached."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, PercentFormatter

from ...drawing.style import ACCENT, FINGER_COLOURS, GOOD, INK, MUTED
from ...evaluation.ablation import ALL_PARTS, TELLS_MM, Measured, coverage, gaps_closed, numbers
from ...evaluation.metrics import spearman
from .panels import as_rows, described, number

USER_COLOURS = (GOOD, INK, FINGER_COLOURS[3], ACCENT)
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
    size = (11.5, len(users) * (1.5 + 0.36 * bars))
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
    figure, (joints, images) = plt.subplots(1, 2, figsize=(11.5, 1.2 + 0.4 * len(names)), layout="constrained")
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
    figure, axes = plt.subplots(figsize=(7.5, 4.2), layout="constrained")
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
    """The way from the base model to the supervised oracle, and how far the recipes go on it.

    Args:
        users: name -> {"base", "best", "oracle", "paper" and, if known, "best_fitted" (each test frame fitted on top)
            and "alexnet" (where the paper's recipe starts)}, each {"mean16": mm, one number or one a seed}.
        descriptions: of the users, by name.
    """
    figure, axes = plt.subplots(figsize=(9.5, 1.5 + 0.95 * len(users)), layout="constrained")
    closed, dots = gaps_closed(users), {}
    marks = {  # what is drawn of each user: label, height (ours above, the paper's below), marker
        "base": ("base model", -0.14, "o", {"color": ACCENT, "ms": 9}),
        "oracle": ("supervised oracle", -0.14, "D", {"color": INK, "ms": 7}),
        "best": ("refined, `best` (a dot a seed)", -0.14, "o", {"color": GOOD, "ms": 8, "mec": "white", "alpha": 0.85}),
        "best_fitted": ("... and each frame fitted", -0.14, "P", {"color": FINGER_COLOURS[3], "ms": 8, "mec": "white"}),
        "alexnet": ("the paper's network", 0.2, "o", {"color": ACCENT, "ms": 6, "mfc": "white"}),
        "paper": ("refined, `paper`", 0.2, "s", {"color": GOOD, "ms": 6, "mfc": "white"}),
    }
    for y, (name, row) in enumerate(users.items()):
        for one, other, height in (("oracle", "base", -0.14), ("paper", "alexnet", 0.2)):
            if other in row:
                ends = [numbers(row[key])[0] for key in (one, other)]
                axes.plot(ends, [y + height] * 2, color=MUTED, lw=2, alpha=0.6, solid_capstyle="round")
        for key, (label, height, marker, style) in marks.items():
            if key in row:
                values = numbers(row[key])
                (dots[label],) = axes.plot(values, [y + height] * len(values), marker, zorder=3, **style)
        share = f"{np.mean(closed[name]):.0%} of the gap closed"
        axes.text(0.99, y - 0.14, share, ha="right", va="center", fontsize=9, transform=axes.get_yaxis_transform())
    as_rows(axes, described({name: descriptions[name] for name in users}))
    every = [mm for row in users.values() for key in marks if key in row for mm in numbers(row[key])]
    axes.set(xlim=(min(every) - 0.1 * max(every), 1.25 * max(every)), ylim=(len(users) - 0.45, -0.5))
    axes.set_xlabel("mean error of 16 joints on test frames (mm)")
    axes.grid(axis="x", color=MUTED, alpha=0.25, lw=0.6)
    figure.legend(dots.values(), dots, loc="outside upper center", ncols=3)
    return figure


def figure_confidence(users: Mapping[str, Measured]) -> Figure:
    """Confidence against true error, and the error of the frames that are left if the least sure are dropped; a row a user."""
    size = (10.5, 4.1 * len(users))
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
