"""Beyond the paper (notebook 10): recipe `best` with parts left out, what is measured of each run, and the figures."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from ...drawing.style import ACCENT, FINGER_COLOURS, GOOD, INK, MUTED
from ...evaluation.ablation import ALL_PARTS, TELLS_MM, Measured, coverage, gaps_closed, numbers
from ...evaluation.metrics import spearman

# -- figures ----------------------------------------------------------------------------------------------------------


def figure_ablation(users: Mapping[str, Mapping]) -> Figure:
    """Joint error and image MSE of the recipe without each of its parts, a row of panels a user.

    users: name -> {"rows": variant -> `Measured.summary()`, "base": the base model's summary, "oracle_mm": the
    supervised oracle's mean error, None where it is not known}.
    """
    bars = max(len(user["rows"]) for user in users.values())
    size = (11.5, len(users) * (1.5 + 0.36 * bars))
    figure, axes = plt.subplots(len(users), 2, figsize=size, width_ratios=[1.7, 1], squeeze=False, layout="constrained")
    for (left, right), (name, user) in zip(axes, users.items(), strict=True):
        rows, y = user["rows"], np.arange(len(user["rows"]))
        errors = [row["mean16_mm"] for row in rows.values()]
        mse = [1e3 * row["image_mse"] for row in rows.values()]
        colours = [GOOD if variant == ALL_PARTS else MUTED for variant in rows]
        for axis, values in ((left, errors), (right, mse)):
            axis.barh(y, values, 0.64, color=colours)
            axis.tick_params(axis="y", length=0)
            axis.spines["left"].set_visible(False)
        left.set_yticks(y, list(rows), color=INK)
        right.set_yticks(y, [])
        for at, value in zip(y, errors, strict=True):  # + 0.0: no "-0.0"
            change = "" if at == y[0] else f"  ({round(value - errors[0], 1) + 0.0:+.1f})"
            _number(left, value, at, f"{value:.1f}{change}")
        for at, value in zip(y, mse, strict=True):
            _number(right, value, at, f"{value:.1f}")
        base_mm, oracle_mm = user["base"]["mean16_mm"], user["oracle_mm"]
        _line(left, base_mm, "base", ACCENT, "--")
        if oracle_mm is not None:
            _line(left, oracle_mm, "oracle", INK, ":")
        _line(right, 1e3 * user["base"]["image_mse"], "base", ACCENT, "--")
        left.set(xlabel="mean error of 16 joints (mm)", xlim=(0, 1.22 * max([*errors, base_mm])))
        right.set(xlabel=r"image MSE ($10^{-3}$)", xlim=(0, 1.15 * max([*mse, 1e3 * user["base"]["image_mse"]])))
        for axis in (left, right):
            axis.set_ylim(len(rows) - 0.4, -1.0)  # the first on top, and room for the lines' names
        left.set_title(f"User {name}: joints", loc="left")
        right.set_title("images: lower is not yet a better hand", loc="left")
    return figure


def figure_changes(users: Mapping[str, Mapping]) -> Figure:
    """What leaving out, changing or adding a part does to each user's joints and images, against the recipe as it is.

    users: name -> {"rows": variant -> `Measured.summary()`}, the same variants for all.
    """
    names = [variant for variant in next(iter(users.values()))["rows"] if variant != ALL_PARTS]
    figure, axes = plt.subplots(1, 2, figsize=(11.5, 1.2 + 0.4 * len(names)), sharey=True, layout="constrained")
    panels = (("mean16_mm", "change of the mean joint error (mm)"), ("image_mse", "change of the image MSE (%)"))
    for axis, (key, label) in zip(axes, panels, strict=True):
        if key == "mean16_mm":
            axis.axvspan(-TELLS_MM, TELLS_MM, color=MUTED, alpha=0.2, lw=0)
        axis.axvline(0, color=INK, lw=1)
        for (name, user), colour in zip(users.items(), (GOOD, INK, FINGER_COLOURS[3], ACCENT), strict=False):
            values, whole = np.array([user["rows"][v][key] for v in names]), user["rows"][ALL_PARTS][key]
            change = values - whole if key == "mean16_mm" else 100 * (values / whole - 1)
            axis.plot(change, np.arange(len(names)), "o", ms=7, color=colour, alpha=0.85, label=f"user {name}")
        axis.set_xlabel(label)
        axis.grid(axis="y", color=MUTED, alpha=0.25, lw=0.6)
        axis.spines["left"].set_visible(False)
        axis.tick_params(axis="y", length=0)
    axes[0].set_yticks(range(len(names)), names, color=INK)
    axes[0].invert_yaxis()
    axes[0].set_title("left: better hands than the recipe's", loc="left")
    axes[1].set_title("left: better pictures", loc="left")
    axes[0].legend(frameon=False, fontsize=9, loc="lower right")
    return figure


def _number(axes: Axes, x: float, y: float, text: str):
    """Text behind the end of a bar, readable where a line passes."""
    behind = {"boxstyle": "square,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.85}
    axes.annotate(
        text, (x, y), (4, 0), textcoords="offset points", va="center", fontsize=8.5, color=INK, bbox=behind, zorder=4
    )


def _line(axes: Axes, x: float, name: str, colour: str, style: str):
    """A vertical line with its name at its top."""
    axes.axvline(x, color=colour, ls=style, lw=1.3, zorder=3)
    axes.annotate(
        name,
        (x, 1),
        (3, -2),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        va="top",
        fontsize=8.5,
        color=colour,
    )


def figure_frames(users: Mapping[str, Mapping], few: int) -> Figure:
    """Joint error against the number of unlabelled frames; users: name -> {"frames": [K], "mean16_mm": [K], "base_mm"};
    few: below so many, `hrlib.refine` warns."""
    figure, axes = plt.subplots(figsize=(7.5, 4.2), layout="constrained")
    every = sorted({count for user in users.values() for count in user["frames"]})
    axes.axvspan(0.8 * every[0], few, color=MUTED, alpha=0.16, lw=0)
    highest = max(users, key=lambda name: users[name]["mean16_mm"][-1])
    for (name, user), colour in zip(users.items(), (GOOD, INK, FINGER_COLOURS[3], MUTED), strict=False):
        axes.plot(
            user["frames"], user["mean16_mm"], color=colour, lw=2, marker="o", ms=6, label=f"user {name}, refined"
        )
        base_colour = colour if len(users) > 1 else ACCENT
        axes.axhline(user["base_mm"], color=base_colour, ls="--", lw=1.3, label=f"user {name}, base model")
        up = 7 if name == highest and len(users) > 1 else -14  # not between two curves
        text = {"textcoords": "offset points", "ha": "center", "fontsize": 8.5, "color": colour}
        for x, value in zip(user["frames"], user["mean16_mm"], strict=True):
            axes.annotate(f"{value:.1f}", (x, value), (0, up), **text)
    axes.set_xscale("log")
    axes.set_xticks(every, [f"{count:,}" for count in every])
    axes.minorticks_off()
    top = max(value for user in users.values() for value in (*user["mean16_mm"], user["base_mm"]))
    axes.set(
        xlabel="unlabelled frames of the user",
        ylabel="mean error of 16 joints (mm)",
        xlim=(0.8 * every[0], 1.25 * every[-1]),
        ylim=(0, 1.12 * top),
    )
    axes.text(
        few / 1.04,
        0.04 * top,
        f"fewer than {few}:\nhrlib refine warns",
        ha="right",
        va="bottom",
        fontsize=8.5,
        color=INK,
    )
    axes.legend(frameon=False, loc="lower right", fontsize=9)
    return figure


def figure_gap(users: Mapping[str, Mapping], descriptions: Mapping[str, str]) -> Figure:
    """The way from base to oracle, and how far the recipes go; users: name -> {"base", "best", "oracle", "paper" and, where
    they are known, "best_fitted" (each test frame fitted on top) and "alexnet" (where the paper's recipe starts)}, each
    {"mean16": one number, or one a seed}."""
    figure, axes = plt.subplots(figsize=(9.5, 1.5 + 0.95 * len(users)), layout="constrained")
    closed, drawn = gaps_closed(users), {}
    every = [mm for row in users.values() for part in _parts(row) for mm in numbers(part)]
    left, right = min(every) - 0.1 * max(every), 1.25 * max(every)

    def dots(values, y, label, marker, **style):
        drawn[label] = axes.plot(values, [y] * len(values), marker, label=label, zorder=3, **style)[0]

    for y, (name, row) in enumerate(users.items()):
        base, oracle, best = (numbers(row[key]) for key in ("base", "oracle", "best"))
        own, theirs = y - 0.14, y + 0.2
        axes.plot([oracle[0], base[0]], [own, own], color=MUTED, lw=2.5, alpha=0.6, solid_capstyle="round")
        dots(base, own, "base model", "o", color=ACCENT, ms=9)
        dots(oracle, own, "supervised oracle", "D", color=INK, ms=7)
        dots(best, own, "refined, `best` (a dot a seed)", "o", color=GOOD, ms=8, mec="white", mew=0.8, alpha=0.85)
        if "best_fitted" in row:
            fitted = numbers(row["best_fitted"])
            dots(fitted, own, "... and each frame fitted", "P", color=FINGER_COLOURS[3], ms=8, mec="white", mew=0.8)
        paper = numbers(row["paper"])
        if "alexnet" in row:
            start = numbers(row["alexnet"])
            axes.plot([paper[0], start[0]], [theirs, theirs], color=MUTED, lw=1.2, alpha=0.6)
            dots(start, theirs, "the paper's network", "o", color=ACCENT, ms=6, mfc="white")
        dots(paper, theirs, "refined, `paper`", "s", color=GOOD, ms=6, mfc="white")
        share = f"{np.mean(closed[name]):.0%} of the gap closed"
        axes.text(0.99 * right, own, share, ha="right", va="center", fontsize=9, color=INK)
    axes.set_yticks(range(len(users)), [f"{name}: {descriptions[name]}".replace(", ", ",\n") for name in users])
    axes.tick_params(axis="y", length=0)
    axes.set(xlabel="mean error of 16 joints on test frames (mm)", xlim=(left, right), ylim=(len(users) - 0.45, -0.5))
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", color=MUTED, alpha=0.25, lw=0.6)
    axes.set_axisbelow(True)
    figure.legend(drawn.values(), drawn, loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    return figure


def _parts(row: Mapping) -> list[Mapping]:
    return [row[key] for key in ("base", "best", "best_fitted", "oracle", "paper", "alexnet") if key in row]


def figure_confidence(users: Mapping[str, Measured]) -> Figure:
    """Left: confidence of each frame, which needs no label, against its true error. Right: what is gained by leaving
    out the frames that are least sure. A row a user."""
    figure, axes = plt.subplots(
        len(users), 2, figsize=(10.5, 4.1 * len(users)), squeeze=False, layout="constrained", width_ratios=[1.15, 1]
    )
    for (left, right), (name, measured) in zip(axes, users.items(), strict=True):
        sure, error_mm = measured.confidence.numpy(), measured.error_mm.numpy()
        left.scatter(sure, error_mm, s=15, color=GOOD, alpha=0.55, lw=0)
        bins = np.array_split(sure.argsort(), min(8, len(sure)))
        medians = [(np.median(sure[b]), np.median(error_mm[b])) for b in bins]
        left.plot(*np.transpose(medians), color=INK, lw=1.8, marker="o", ms=4, label="median of each eighth")
        rank = spearman(measured.confidence, -measured.error_mm)
        left.set(xlabel="confidence, without labels", ylabel="true error of 16 joints (mm, logarithmic)", yscale="log")
        left.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        left.yaxis.set_major_formatter(lambda y, _: f"{y:g}")
        left.yaxis.set_minor_locator(NullLocator())
        left.set_title(f"User {name}: rank correlation of confidence and accuracy {rank:.2f}", loc="left")
        left.legend(frameon=False, loc="upper right", fontsize=9)
        share = np.arange(1, len(sure) + 1) / len(sure)
        kept = slice(len(sure) // 20, None)  # the median of a handful of frames says nothing
        for key, label, colour, style in (
            (measured.confidence, "by confidence", GOOD, "-"),
            (-measured.error_mm, "by true error (the limit)", MUTED, "--"),
        ):
            right.plot(share[kept], coverage(measured.error_mm, key)[kept], color=colour, ls=style, lw=2, label=label)
        right.axhline(np.median(error_mm), color=INK, lw=1, ls=":", label="all frames")
        right.set(xlabel="share of frames kept, the surest first", ylabel="their median error (mm)", xlim=(0, 1))
        right.set_ylim(0, None)
        right.xaxis.set_major_formatter(lambda x, _: f"{x:.0%}")
        right.legend(frameon=False, loc="lower right", fontsize=9)
    return figure
