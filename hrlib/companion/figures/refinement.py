"""Figures of refinement (Fig. 5 to 7): they draw numbers and models that are computed elsewhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from ...drawing import mesh, plots
from ...drawing.style import ACCENT, GOOD, INK, MUTED
from ...evaluation.before_after import Judged
from ...frames.crop import IMAGE_SIZE
from ...frames.crops import Crops

# one colour for each model, in every figure of refinement
COLOURS = {"base": MUTED, "depth": ACCENT, "paper": GOOD, "best": "#7b4a91"}
LABELS = {"base": "base", "depth": "depth only", "paper": "all losses", "best": "best"}
BARS = (
    ("image_mse_mean", 1000, "image MSE", "x 1/1000", "%.1f"),
    ("joint_error_mm", 1, "mean error of 16 joints", "mm", "%.1f"),
    ("physical_rad", 1, "physical term (Eq. 8)", "rad", "%.3f"),
    ("collision_mm", 1, "collision term (Eq. 7)", "mm", "%.3f"),
)


@dataclass(frozen=True)
class Shown:
    """Frames of one user to look at: `models` by name, each of which has judged the same frames; captions: for each model
    a few words a frame (or none); true_mm [len(index), 21, 3]: the true joints, drawn over the frame, where they are known."""

    models: Mapping[str, Judged]
    index: Sequence[int]
    titles: Sequence[str]
    captions: Mapping[str, Sequence[str]]
    true_mm: Tensor | None = None


# -- Fig. 5 ---------------------------------------------------------------------------------------------------------------


def figure_self_comparison(users: Mapping[str, Mapping], distances_mm: Sequence[float]) -> Figure:
    """Fig. 5: for each user the fraction of frames whose joints are all nearer than D, and what each term says.

    users: name -> {"description", "models": name -> `compare.summary`}.
    """
    names = list(users)
    figure = plt.figure(figsize=(3.1 * len(BARS), 6.3))
    top, bottom = figure.subfigures(2, 1, height_ratios=[1, 1])
    curves = top.subplots(1, len(names), sharey=True, squeeze=False)[0]
    top.subplots_adjust(left=0.06, right=0.985, top=0.76, bottom=0.17, wspace=0.1)
    for axes, name in zip(curves, names, strict=True):
        for model, numbers in users[name]["models"].items():
            axes.plot(distances_mm, numbers["success"], color=COLOURS[model], lw=2, label=LABELS[model])
        axes.set(xlabel="largest joint error D (mm)", ylim=(0, 1), xlim=(0, max(distances_mm)))
        axes.set_title(f"{name}: {users[name]['description']}", fontsize=9.5)
        axes.grid(axis="y", color=MUTED, lw=0.4, alpha=0.5)
    curves[0].set_ylabel("fraction of frames below D")
    handles, labels = curves[0].get_legend_handles_labels()
    top.legend(handles, labels, loc="upper center", ncols=len(labels), frameon=False, bbox_to_anchor=(0.52, 1.0))
    panels = bottom.subplots(1, len(BARS))
    bottom.subplots_adjust(left=0.06, right=0.985, top=0.86, bottom=0.1, wspace=0.26)
    for axes, (key, factor, title, unit, form) in zip(panels, BARS, strict=True):
        values = {name: {m: n[key] * factor for m, n in users[name]["models"].items()} for name in names}
        grouped_bars(axes, values, form)
        axes.set_title(f"{title} ({unit})")
    return figure


def grouped_bars(axes: Axes, values: Mapping[str, Mapping[str, float]], form: str = "%.1f"):
    """A group of bars for each key of `values`, a bar for each model in it, with its number on top."""
    groups = list(values)
    models = list(values[groups[0]])
    width = 0.84 / len(models)
    for k, model in enumerate(models):
        x = np.arange(len(groups)) + width * (k - (len(models) - 1) / 2)
        bars = axes.bar(x, [values[g][model] for g in groups], 0.94 * width, color=COLOURS[model])
        axes.bar_label(bars, fmt=form, fontsize=6.5, color=INK, rotation=90, padding=2)
    axes.set_xticks(range(len(groups)), groups)
    axes.set_ylim(0, 1.28 * (max(max(of.values()) for of in values.values()) or 1))


def figure_forearm(users: Mapping[str, Mapping[str, Mapping]], descriptions: Mapping[str, str]) -> Figure:
    """What refinement by the paper's recipe changes where segmentation leaves a forearm, and where a wristband ends the hand.

    users: name -> {"forearm", "wristband"} -> (before, after), each {"hand_mse", "mean16" (mm)}.
    """
    figure, panels = plt.subplots(1, 2, figsize=(11, 1.2 + 0.85 * len(users)), sharey=True, layout="constrained")
    quantities = (("hand_mse", 1000, "image MSE of the hand (x 1/1000)"), ("mean16", 1, "mean error of 16 joints (mm)"))
    lines = (("forearm", -0.17, ACCENT, "forearm, cut off by depth alone"), ("wristband", 0.17, GOOD, "wristband"))
    for axes, (key, factor, label) in zip(panels, quantities, strict=True):
        for y, row in enumerate(users.values()):
            for name, shift, colour, _ in lines:
                before, after = (factor * numbers[key] for numbers in row[name])
                axes.plot([before, after], [y + shift] * 2, color=colour, lw=2.5, solid_capstyle="round")
                axes.plot(before, y + shift, "o", ms=8, mfc="white", mec=colour, mew=1.8)
                axes.plot(after, y + shift, "o", ms=8, color=colour)
                change = f"{round(100 * after / before) - 100:+d}%".replace("-", "\N{MINUS SIGN}")
                place = {"xytext": (9, 0), "textcoords": "offset points", "va": "center", "fontsize": 9, "color": INK}
                axes.annotate(change, (max(before, after), y + shift), **place)
        axes.set(xlabel=label, ylim=(len(users) - 0.5, -0.5), xlim=(0, 1.12 * axes.get_xlim()[1]))
        axes.grid(axis="x", color=MUTED, alpha=0.25, lw=0.6)
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
    panels[0].set_yticks(range(len(users)), [f"{name}: {descriptions[name]}".replace(", ", ",\n") for name in users])
    handles = [Line2D([], [], color=colour, lw=2.5, label=text) for *_, colour, text in lines]
    style = {"color": INK, "marker": "o", "ls": "", "ms": 8}
    handles += [Line2D([], [], mfc="white", label="before", **style), Line2D([], [], label="after", **style)]
    figure.legend(handles=handles, loc="outside upper center", ncols=4, frameon=False, fontsize=9)
    return figure


# -- hands ----------------------------------------------------------------------------------------------------------------


def figure_hands(shown: Sequence[Shown], labels: Mapping[str, str], size: int = 200) -> Figure:
    """Frames in columns. For each model a row of the posed mesh and one of what Eq. 3-5 render of its P, with the skeleton.

    The mesh is the rig's: it moves with the pose alone. So where P makes up for a wrong pose, the two rows differ.
    Raises ValueError where the users have not been judged by the same models.
    """
    models = list(labels)
    for one in shown:
        if list(one.models) != models:
            raise ValueError(f"each user must be judged by the models {models}, got {list(one.models)}")
    columns = sum(len(one.index) for one in shown)
    figure, axes = plots.grid(1 + 2 * len(models), columns, 1.25)
    # a label column on the left, room for two lines of title on top, whatever the number of columns
    width, height = 1.25 * columns + 1.1, 1.25 * len(axes) + 0.5
    figure.set_size_inches(width, height)
    figure.subplots_adjust(
        left=1.05 / width, right=1 - 0.05 / width, top=1 - 0.45 / height, bottom=0.02, wspace=0.04, hspace=0.04
    )
    column = 0
    for one in shown:
        steps = {name: judged.step(one.index) for name, judged in one.models.items()}
        crops = one.models[models[0]].crops[list(one.index)]
        for row, name in enumerate(models):
            pictures = mesh.shaded_hands(one.models[name].hand, steps[name].T_cam_joint, crops, size)
            for i in range(len(one.index)):
                hand, image = axes[1 + 2 * row, column + i], axes[2 + 2 * row, column + i]
                plots.show_picture(hand, pictures[i])
                plots.show_depth(image, steps[name].rendered[i])
                _skeleton(image, steps[name].joints_mm[i], crops, i)
                if name in one.captions:
                    caption = one.captions[name][i]
                    hand.text(0.03, 0.03, caption, transform=hand.transAxes, fontsize=7.5, color=INK, va="bottom")
        for i, title in enumerate(one.titles):
            plots.show_depth(axes[0, column + i], crops.image[i])
            axes[0, column + i].set_title(title, fontsize=8.5, pad=3, color=INK)
            if one.true_mm is not None:
                _skeleton(axes[0, column + i], one.true_mm[i], crops, i)
        column += len(one.index)
    first = "frame,\ntrue joints" if all(one.true_mm is not None for one in shown) else "frame"
    _name_rows(figure, axes, [first] + [text for name in models for text in (labels[name], "rendered P")], models)
    return figure


def _skeleton(axes: Axes, joints_mm: Tensor, crops: Crops, index: int):
    mesh.draw_skeleton(axes, joints_mm, crops, index, IMAGE_SIZE, lw=1.1)
    axes.set(xlim=(-0.5, IMAGE_SIZE - 0.5), ylim=(IMAGE_SIZE - 0.5, -0.5))  # a bone may leave the crop


def _name_rows(figure: Figure, axes: np.ndarray, names: Sequence[str], models: Sequence[str]):
    for row, name in enumerate(names):
        box = axes[row, 0].get_position()
        colour = INK if row == 0 or row % 2 == 0 else COLOURS.get(models[(row - 1) // 2], MUTED)
        weight = "bold" if row % 2 and row else "normal"
        middle = (box.y0 + box.y1) / 2
        figure.text(box.x0 - 0.008, middle, name, ha="right", va="center", fontsize=9, color=colour, weight=weight)


def figure_clouds(start_mm: Tensor, clouds: Mapping[str, tuple[Tensor, Tensor]], limit_mm: float = 10.0) -> Figure:
    """What became of P: from the palm's side and from the thumb's, coloured by the distance from where each point began.

    start_mm [N, 3]: the template's P, whose extent all pictures share; clouds: title -> (P [N, 3], its start [N, 3]).
    """
    figure, axes = plots.grid(2, len(clouds), 1.5)
    figure.set_size_inches(1.55 * len(clouds) + 0.9, 3.6)
    figure.subplots_adjust(left=0.01, right=1 - 0.75 / figure.get_figwidth(), top=0.84, bottom=0.02, hspace=0.02)
    middle, size = (start_mm.amax(0) + start_mm.amin(0)) / 2, 1.25 * (start_mm.amax(0) - start_mm.amin(0)).max()
    points = None
    for column, (title, (cloud, start)) in zip(axes.T, clouds.items(), strict=True):
        distance = (cloud - start).norm(dim=-1)
        x, y, z = ((cloud - middle) / size).T.numpy()
        for axis, (across, depth) in zip(column, ((x, -z), (z, x)), strict=True):
            seen = np.stack([across + 0.5, 0.5 - y, depth], 1)
            points = plots.show_cloud(axis, seen, distance, limits=(0, limit_mm), cmap="magma_r", rasterized=True)
        column[0].set_title(
            f"{title}\n{distance.mean().item():.1f} mm, at most {distance.max().item():.1f}", fontsize=8.5, color=INK
        )
    top, low = axes[0, -1].get_position(), axes[1, -1].get_position()
    height = top.y1 - low.y0
    bar = figure.colorbar(points, cax=figure.add_axes([top.x1 + 0.008, low.y0 + 0.15 * height, 0.012, 0.7 * height]))
    bar.set_label("way of a point of P (mm)", color=INK, fontsize=8.5)
    return figure


# -- Fig. 7 ---------------------------------------------------------------------------------------------------------------


def figure_distribution(
    recipes: Mapping[str, tuple[Tensor, Tensor]],
    bars: Mapping[str, tuple[str, str, Mapping[str, tuple[float, float]]]],
    labels: Mapping[str, str],
) -> Figure:
    """Fig. 7: distribution of the image MSE over test frames before and after; and what else changed.

    recipes: name -> (before [B], after [B]); bars: title -> (unit, format, recipe -> (before, after)).
    """
    widths = [1.55] * len(recipes) + [1.0] * len(bars)
    figure, axes = plt.subplots(1, len(widths), figsize=(2.3 * sum(widths), 3.5), width_ratios=widths)
    figure.subplots_adjust(left=0.045, right=0.99, top=0.86, bottom=0.16, wspace=0.3)
    every = np.concatenate([np.asarray(x) for pair in recipes.values() for x in pair]) * 1000
    edges = np.linspace(0, np.percentile(every, 99.5) * 1.02, 36)
    for axis, (name, (before, after)) in zip(axes, recipes.items(), strict=False):
        highest = 0
        for values, colour, when in ((before, MUTED, "before"), (after, COLOURS[name], "after")):
            values = np.asarray(values) * 1000
            label = f"{when}: mean {values.mean() / 1000:.4f}, variance {values.var(ddof=1):.1f}·10⁻⁶"
            inside = values.clip(0, edges[-1])  # the last bin has what lies beyond
            counts, _, _ = axis.hist(inside, edges, color=colour, alpha=0.6, label=label)
            highest = max(highest, counts.max())
        for values, colour in ((before, MUTED), (after, COLOURS[name])):
            axis.vlines(np.asarray(values).mean() * 1000, 0, 1.08 * highest, color=colour, lw=2)
        axis.set(xlabel="image MSE of a test frame (x 1/1000)", ylabel="frames", title=labels[name])
        axis.set(xlim=(0, edges[-1]), ylim=(0, 1.42 * highest))
        axis.legend(frameon=False, fontsize=8.5, loc="upper left")
    for axis, (title, (unit, form, values)) in zip(axes[len(recipes) :], bars.items(), strict=True):
        _before_after(axis, values, form, labels)
        axis.set(title=title, ylabel=unit)
    return figure


def _before_after(axes: Axes, values: Mapping[str, tuple[float, float]], form: str, labels: Mapping[str, str]):
    for k, (name, pair) in enumerate(values.items()):
        for i, colour in enumerate((MUTED, COLOURS[name])):
            bars = axes.bar(k + 0.42 * (i - 0.5), pair[i], 0.4, color=colour)
            axes.bar_label(bars, fmt=form, fontsize=8.5, color=INK, padding=2)
    axes.set_xticks(range(len(values)), [labels[name].replace(", ", ",\n") for name in values], fontsize=8.5)
    axes.set_ylim(0, 1.15 * max(max(pair) for pair in values.values()))
