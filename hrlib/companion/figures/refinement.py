"""Figures of refinement (Fig. 5 to 7): they draw numbers and models that are computed elsewhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from ...drawing import mesh, plots
from ...drawing.style import ACCENT, GOOD, GREEN, INK, MARK_PT, MUTED, ORANGE, WIDTH_IN
from ...evaluation.before_after import Judged
from ...evaluation.joint_errors import joint_error_mm
from ...frames.crop import IMAGE_SIZE
from ...hand.joints import JOINT_POINTS
from .panels import as_rows, bar_groups, described, number

# one colour for each model, in every figure of refinement
COLOURS = {"base": MUTED, "depth": ACCENT, "paper": GOOD, "best": ORANGE, "more": INK, "fitted": GREEN}
LABELS = {"base": "base", "depth": "depth only", "paper": "all losses", "best": "best"}
BARS = (
    ("image_mse_mean", 1000, "image MSE", "x 1/1000", "%.1f"),
    ("joint_error_mm", 1, "mean error of 16 joints", "mm", "%.1f"),
    ("physical_rad", 1000, "physical term, Eq. 8", "mrad", "%.0f"),
    ("collision_mm", 1000, "collision term, Eq. 7", "µm", "%.0f"),
)


@dataclass(frozen=True)
class Shown:
    """Frames of one user to look at."""

    models: Mapping[str, Judged]  # by name; each has judged the same frames
    index: Sequence[int]  # which of those frames
    titles: Sequence[str]  # of the frames
    captions: Mapping[str, Sequence[str]]  # by model (or none): a few words a frame
    true_mm: Float[Tensor, "S 21 3"] | None = None  # true joints of the frames, drawn over them if known


# -- Fig. 5 ---------------------------------------------------------------------------------------------------------------


def figure_self_comparison(users: Mapping[str, Mapping], distances_mm: Sequence[float]) -> Figure:
    """Fig. 5: for each user the fraction of frames whose joints are all nearer than D, and what each term says.

    Args:
        users: name -> {"description", "models": name -> `before_after.summary`}.
        distances_mm: the D of the curves.
    """
    figure = plt.figure(figsize=(WIDTH_IN, 7.4))
    top, bottom = figure.subfigures(2, 1, height_ratios=(2.7, 4.7))
    curves = top.subplots(1, len(users), sharey=True, squeeze=False)[0]
    top.subplots_adjust(left=0.06, right=0.985, top=0.72, bottom=0.17, wspace=0.1)
    for axes, (name, user) in zip(curves, users.items(), strict=True):
        for model, numbers in user["models"].items():
            axes.plot(distances_mm, numbers["success"], color=COLOURS[model], lw=2, label=LABELS[model])
        axes.set(xlabel="largest joint error D (mm)", ylim=(0, 1), xlim=(0, max(distances_mm)))
        axes.set_xticks(np.linspace(0, max(distances_mm), 5)[:-1])  # the last would touch the next panel's first
        axes.set_title(*described({name: user["description"]}))
        axes.grid(axis="y", color=MUTED, lw=0.4, alpha=0.5)
    curves[0].set_ylabel("fraction of frames below D")
    legend = curves[0].get_legend_handles_labels()
    top.legend(*legend, loc="upper center", ncols=len(legend[1]), bbox_to_anchor=(0.52, 1.0))
    panels = bottom.subplots(2, 2).flat
    bottom.subplots_adjust(left=0.06, right=0.985, top=0.94, bottom=0.06, wspace=0.14, hspace=0.32)
    colours = [COLOURS[model] for model in next(iter(users.values()))["models"]]
    for axes, (key, factor, title, unit, form) in zip(panels, BARS, strict=True):
        values = {name: [n[key] * factor for n in user["models"].values()] for name, user in users.items()}
        bar_groups(axes, values, colours, form, fontsize=MARK_PT)  # three numbers a group
        axes.set(title=f"{title} ({unit})", ylim=(0, 1.15 * (max(map(max, values.values())) or 1)))
    return figure


def figure_forearm(users: Mapping[str, Mapping[str, Sequence[Mapping]]], descriptions: Mapping[str, str]) -> Figure:
    """What refinement by the paper's recipe changes where segmentation leaves a forearm, and where a wristband ends the hand.

    Args:
        users: name -> {"forearm", "wristband"} -> (before, after), each {"hand_mse", "mean16" (mm)}.
        descriptions: of the users, by name.
    """
    figure, panels = plt.subplots(1, 2, figsize=(WIDTH_IN, 1.2 + 0.75 * len(users)), layout="constrained")
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
                number(axes, max(before, after), y + shift, change, (9, 0))
        as_rows(axes, described({name: descriptions[name] for name in users}) if axes is panels[0] else [])
        axes.set(xlabel=label, ylim=(len(users) - 0.5, -0.5), xlim=(0, 1.12 * axes.get_xlim()[1]))
        axes.grid(axis="x", color=MUTED, alpha=0.25, lw=0.6)
    handles = [Line2D([], [], color=colour, lw=2.5, label=text) for *_, colour, text in lines]
    style = {"color": INK, "marker": "o", "ls": "", "ms": 8}
    handles += [Line2D([], [], mfc="white", label="before", **style), Line2D([], [], label="after", **style)]
    figure.legend(handles=handles, loc="outside upper center", ncols=4)
    return figure


# -- hands ----------------------------------------------------------------------------------------------------------------


def figure_hands(shown: Sequence[Shown], labels: Mapping[str, str], size: int = 200) -> Figure:
    """Frames in columns. For each model a row of the posed mesh and one of what Eq. 3-5 render of its P, with the skeleton.

    The mesh is the rig's: it moves with the pose alone. So where P makes up for a wrong pose, the two rows differ.

    Args:
        labels: model -> its name in the figure.
        size: of a mesh's picture, pixels.

    Raises:
        ValueError: the users have not been judged by the same models.
    """
    models = list(labels)
    for user in shown:
        if list(user.models) != models:
            raise ValueError(f"each user must be judged by the models {models}, got {list(user.models)}")
    columns = sum(len(user.index) for user in shown)
    cell = min(1.25, (WIDTH_IN - 1.2) / columns)
    figure, axes = plots.grid(1 + 2 * len(models), columns, cell)
    # a label column on the left, room for two lines of title on top, whatever the number of columns
    width, height = cell * columns + 1.1, cell * len(axes) + 0.5
    figure.set_size_inches(width, height)
    left, right, top = 1.05 / width, 1 - 0.05 / width, 1 - 0.45 / height
    figure.subplots_adjust(left=left, right=right, top=top, bottom=0.02, wspace=0.04, hspace=0.04)
    column = 0
    for user in shown:
        _show_user(axes[:, column : column + len(user.index)], user, size)
        column += len(user.index)
    first = "frame,\ntrue joints" if all(user.true_mm is not None for user in shown) else "frame"
    style = {"ha": "right", "va": "center"}
    for row, name in enumerate([first] + [text for model in models for text in (labels[model], "rendered P")]):
        box, of_model = axes[row, 0].get_position(), row % 2 == 1
        figure.text(box.x0 - 0.008, (box.y0 + box.y1) / 2, name, weight="bold" if of_model else "normal", **style)
    return figure


def _show_user(axes: np.ndarray, user: Shown, size: int):
    """The user's columns: the frames, and two rows a model."""
    crops = next(iter(user.models.values())).crops[list(user.index)]
    for i, title in enumerate(user.titles):
        plots.show_depth(axes[0, i], crops.image[i])
        axes[0, i].set_title(title, pad=3)
        if user.true_mm is not None:
            mesh.draw_skeleton(axes[0, i], user.true_mm[i], crops, i, IMAGE_SIZE, lw=1.1)
    for (name, judged), hands, images in zip(user.models.items(), axes[1::2], axes[2::2], strict=True):
        step = judged.step(user.index)
        pictures = mesh.shaded_hands(judged.hand, step.T_cam_joint, crops, size)
        for i, (hand, image) in enumerate(zip(hands, images, strict=True)):
            plots.show_picture(hand, pictures[i])
            plots.show_depth(image, step.rendered[i])
            mesh.draw_skeleton(image, step.joints_mm[i], crops, i, IMAGE_SIZE, lw=1.1)
            if name in user.captions:
                hand.text(0.03, 0.03, user.captions[name][i], transform=hand.transAxes, va="bottom")


def at_percentiles(
    models: Mapping[str, Judged],
    true_mm: Float[Tensor, "B 21 3"],
    shares: Sequence[int] = (10, 30, 50, 70, 90),
) -> Shown:
    """The frames at percentiles of the base model's joint error, so that nobody chose them; captions are errors.

    Args:
        models: by name, with "base"; all have judged the frames of which `true_mm` are the true joints.
        shares: per cent.
    """
    errors = {name: joint_error_mm(judged.joints_mm, true_mm, JOINT_POINTS) for name, judged in models.items()}
    order = errors["base"].argsort()
    index = [int(order[share * len(order) // 100]) for share in shares]
    captions = {name: [f"{mm:.0f} mm" for mm in error[index].tolist()] for name, error in errors.items()}
    return Shown(models, index, [f"{share}th percentile" for share in shares], captions, true_mm[index])


def figure_own_network(shown: Shown, numbers: Mapping[str, Mapping[str, float]], labels: Mapping[str, str]) -> Figure:
    """Frames in columns and models in rows, the true joints over each posed hand; beside each row, its errors in all frames.

    Args:
        shown: frames of one user whose true joints are known.
        numbers: model -> `before_after.summary`.
        labels: model -> its name in the figure; these are the rows.
    """
    size = 220  # px of a hand's picture
    rows, columns, crops = list(labels), len(shown.index), next(iter(shown.models.values())).crops[list(shown.index)]
    figure = plt.figure(figsize=(WIDTH_IN, 0.98 * (len(rows) + 1) + 0.3))
    grid = figure.add_gridspec(
        len(rows) + 1, columns + 3, width_ratios=[1] * columns + [0.12, 1.25, 1.25], wspace=0.06, hspace=0.06,
        left=1.15 / figure.get_figwidth(), right=0.985, top=0.94, bottom=0.02,
    )  # fmt: skip
    frames = [figure.add_subplot(grid[0, i]) for i in range(columns)]
    for i, axes in enumerate(frames):
        plots.show_depth(axes, crops.image[i], shown.titles[i])
        mesh.draw_skeleton(axes, shown.true_mm[i], crops, i, IMAGE_SIZE, lw=1.1)
        _enlarge(axes, IMAGE_SIZE)
    _name(frames[0], "frame,\ntrue joints")
    for row, model in enumerate(rows, 1):
        judged = shown.models[model]
        pictures = mesh.shaded_hands(judged.hand, judged.step(shown.index).T_cam_joint, crops, size)
        hands = [figure.add_subplot(grid[row, i]) for i in range(columns)]
        for i, axes in enumerate(hands):
            plots.show_picture(axes, pictures[i])
            mesh.draw_skeleton(axes, shown.true_mm[i], crops, i, size, lw=1.0)
            _enlarge(axes, size)
            axes.text(0.03, 0.03, shown.captions[model][i], transform=axes.transAxes, va="bottom")
        _name(hands[0], labels[model])
    for column, (key, factor, title, unit, form) in enumerate(BARS[1::-1], columns + 1):
        axes = figure.add_subplot(grid[1:, column])
        values = [numbers[model][key] * factor for model in rows]
        bars = axes.barh(range(len(rows)), values, 0.6, color=[COLOURS.get(model, MUTED) for model in rows])
        axes.bar_label(bars, fmt=form, padding=3)
        axes.set(
            ylim=(len(rows) - 0.5, -0.5), xlim=(0, 1.5 * max(values)), title=f"{fill(title, 15)}\n({unit})", xticks=[]
        )
        axes.spines["bottom"].set_visible(False)
        as_rows(axes)
    return figure


def _enlarge(axes: Axes, size: int):
    """The middle of a picture of the cube, `size` pixels wide: there the hand is."""
    axes.set(xlim=(0.14 * size - 0.5, 0.86 * size - 0.5), ylim=(0.86 * size - 0.5, 0.14 * size - 0.5))


def _name(axes: Axes, text: str):
    """A row's name left of its first picture."""
    style = {"ha": "right", "va": "center", "weight": "bold"}
    axes.text(-0.08, 0.5, text, transform=axes.transAxes, **style)


def figure_clouds(
    start_mm: Float[Tensor, "N 3"],
    clouds: Mapping[str, tuple[Float[Tensor, "N 3"], Float[Tensor, "N 3"]]],
) -> Figure:
    """What became of P: from the palm's side and from the thumb's, coloured by the distance from where each point began.

    Args:
        start_mm: the template's P, whose extent all pictures share.
        clouds: title -> (P, its start).
    """
    figure, axes = plots.grid(2, len(clouds), 1.5)
    figure.set_size_inches(min(2 * len(clouds) + 0.9, WIDTH_IN - 0.2), 3.6)
    figure.subplots_adjust(left=0.01, right=1 - 0.75 / figure.get_figwidth(), top=0.8, bottom=0.02, hspace=0.02)
    middle, size = (start_mm.amax(0) + start_mm.amin(0)) / 2, 1.25 * (start_mm.amax(0) - start_mm.amin(0)).max()
    points = None
    for column, (title, (cloud, start)) in zip(axes.T, clouds.items(), strict=True):
        distance = (cloud - start).norm(dim=-1)
        x, y, z = ((cloud - middle) / size).T.numpy()
        for axis, (across, depth) in zip(column, ((x, -z), (z, x)), strict=True):
            seen = np.stack([across + 0.5, 0.5 - y, depth], 1)
            points = plots.show_cloud(axis, seen, distance, limits=(0, 10.0), cmap="magma_r", rasterized=True)
        moved = f"{distance.mean().item():.1f} mm,\nat most {distance.max().item():.1f}"
        column[0].set_title(f"{title}\n{moved}")
    top, low = axes[0, -1].get_position(), axes[1, -1].get_position()
    height = top.y1 - low.y0
    bar = figure.colorbar(points, cax=figure.add_axes([top.x1 + 0.008, low.y0 + 0.15 * height, 0.012, 0.7 * height]))
    bar.set_label("way of a point of P (mm)")
    return figure


# -- Fig. 7 ---------------------------------------------------------------------------------------------------------------


def figure_distribution(
    recipes: Mapping[str, tuple[Float[Tensor, " B"], Float[Tensor, " B"]]],
    bars: Mapping[str, tuple[str, str, Mapping[str, tuple[float, float]]]],
    labels: Mapping[str, str],
) -> Figure:
    """Fig. 7: distribution of the image MSE over test frames before and after; and what else changed.

    Args:
        recipes: name -> (before, after).
        bars: title -> (unit, format, recipe -> (before, after)).
        labels: recipe -> its name in the figure.
    """
    widths = [1.4] * len(recipes) + [1.15] * len(bars)
    figure, axes = plt.subplots(1, len(widths), figsize=(WIDTH_IN, 3.3), width_ratios=widths)
    figure.subplots_adjust(left=0.055, right=0.99, top=0.9, bottom=0.18, wspace=0.42)
    scaled = {name: [1000 * np.asarray(mse) for mse in pair] for name, pair in recipes.items()}
    edges = np.linspace(
        0, np.percentile(np.concatenate([v for pair in scaled.values() for v in pair]), 99.5) * 1.02, 36
    )
    for axis, (name, pair) in zip(axes, scaled.items(), strict=False):
        highest = 0
        for values, colour, when in zip(pair, (MUTED, COLOURS[name]), ("before", "after"), strict=True):
            label = f"{when}: mean {values.mean() / 1000:.4f},\nvariance {values.var(ddof=1):.1f}·10⁻⁶"
            inside = values.clip(0, edges[-1])  # the last bin has what lies beyond
            highest = max(highest, *axis.hist(inside, edges, color=colour, alpha=0.6, label=label)[0])
        axis.vlines([values.mean() for values in pair], 0, 1.08 * highest, color=[MUTED, COLOURS[name]], lw=2)
        axis.set(xlabel="image MSE (x 1/1000)", ylabel="test frames", title=labels[name])
        axis.set(xlim=(0, edges[-1]), ylim=(0, 1.9 * highest))
        axis.legend(loc="upper left")
    for axis, (title, (unit, form, values)) in zip(axes[len(recipes) :], bars.items(), strict=True):
        groups = {fill(labels[name], 9): pair for name, pair in values.items()}
        drawn = bar_groups(axis, groups, [MUTED, MUTED], form)
        for bar, name in zip(drawn[1], values, strict=True):
            bar.set_color(COLOURS[name])
        axis.set(title=title, ylabel=unit, ylim=(0, 1.15 * max(map(max, values.values()))))
    return figure
