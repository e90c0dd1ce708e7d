"""The paper's figures, one function each: they draw results that are computed elsewhere and hand back a matplotlib figure."""

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from . import plots
from .datasets.examples import Examples
from .evaluate import joint_error_mm
from .hand import HandRig
from .joints import POINT_PARENTS
from .kinematics import forward_kinematics, joint_positions
from .pipeline import Step
from .plots import ACCENT, GOOD, INK, MUTED
from .refine import Fit


def figure_method(step: Step, hand: HandRig, examples: Examples, index: int) -> Figure:
    """Fig. 1 and 2: one frame's way through the method, every intermediate with the paper's number."""
    figure, axes = plots.grid(2, 4, 2.6)
    figure.subplots_adjust(hspace=0.22)
    crops = examples.crops
    _show_rest_hand(axes[0, 0], hand)
    axes[0, 0].set_title("(1) rigged hand, 16 joints")
    rest = hand.cloud_mm.numpy()
    centre = (rest.max(0) + rest.min(0)) / 2
    flipped = (rest - centre) / crops.cube_mm * np.array([1, -1, -1]) + 0.5
    plots.show_cloud(axes[0, 1], flipped, title=f"(2) point cloud P, {len(rest)} points", cmap="cividis")
    plots.show_depth(axes[0, 2], crops.image[index], "(4) input depth image D")
    axes[0, 3].imshow(plots.shaded_hands(hand, step.T_cam_joint[[index]], crops[index])[0])
    plots.draw_skeleton(axes[0, 3], step.joints_mm[index], crops, index, 240)
    plots._bare(axes[0, 3], r"predicted pose $\theta$")
    plots.show_depth(axes[1, 0], step.rendered[index], r"(3) $f^{depth}(f^{skin}(P, M))$")
    plots.show_depth(axes[1, 1], step.target[index], r"(5) $f^{depth}(P_D)$")
    difference = (step.rendered - step.target)[index].abs()
    plots.show_difference(axes[1, 2], difference, "(6) |(3) - (5)|")
    values = {name: float(value[index]) for name, value in step.terms.items()}
    units = {
        "depth": ("mean |(3) - (5)|", "", 4),
        "collision": ("collision", " mm", 2),
        "physical": ("physical", " rad", 2),
    }
    text = "\n\n".join(f"{units[k][0]} = {v:.{units[k][2]}f}{units[k][1]}" for k, v in values.items())
    axes[1, 3].text(0.02, 0.85, "the three terms of Eq. 1\n\n" + text, va="top", color=INK, fontsize=11)
    axes[1, 3].axis("off")
    figure.suptitle(f"The method on one frame ({examples.source})", color=INK, y=0.96)
    return figure


def _show_rest_hand(axes, hand: HandRig):
    vertices = hand.vertices_mm.numpy()
    axes.triplot(vertices[:, 0], vertices[:, 1], hand.faces.numpy(), lw=0.15, color=MUTED)
    points = joint_positions(hand, forward_kinematics(hand, hand.rest_rotations[None], torch.zeros(1, 3)))[0].numpy()
    for child, parent in enumerate(POINT_PARENTS):
        if parent >= 0:
            colour = plots.FINGER_COLOURS[(child - 1) // 4]
            axes.plot(*points[[parent, child], :2].T, color=colour, lw=1.6)
    joints = [0] + [4 * finger + part for finger in range(5) for part in (1, 2, 3)]
    axes.plot(*points[joints, :2].T, "o", color=INK, ms=3.5)
    axes.set_aspect("equal")
    plots._bare(axes, "")


def figure_gradients(cloud: Tensor, gradient: Tensor, step: Step, index: int) -> Figure:
    """Where the depth loss pulls: minus its gradient at the points of the posed cloud, cloud and gradient [N, 3]."""
    figure, axes = plots.grid(1, 3, 3.6)
    plots.show_difference(axes[0, 0], (step.rendered - step.target)[index].abs(), "what differs: |(3) - (5)|")
    pull = -gradient.numpy()
    size = np.linalg.norm(pull[:, :2], axis=1)
    strong = np.argsort(-size)[: len(size) // 6]
    plots.show_cloud(
        axes[0, 1], cloud, np.full(len(cloud), 0.5), "pull in the image plane", cmap="Greys", limits=(0, 2)
    )
    arrows = pull[strong, :2] / np.percentile(size, 98)
    x, y = cloud[strong, 0], cloud[strong, 1]
    axes[0, 1].quiver(
        x, y, *arrows.T, color=ACCENT, angles="xy", scale_units="xy", scale=14, width=0.004, headwidth=4, headlength=4
    )
    limit = float(np.percentile(np.abs(pull[:, 2]), 99)) or 1.0
    points = plots.show_cloud(axes[0, 2], cloud, pull[:, 2], "pull in depth", (-limit, limit), cmap="RdBu")
    bar = figure.colorbar(points, ax=axes[0, 2], fraction=0.046, pad=0.02, ticks=[-limit, 0, limit])
    bar.ax.set_yticklabels(["nearer", "0", "farther"])
    return figure


def figure_crops(examples: Examples) -> Figure:
    """What the network sees of many frames."""
    return plots.contact_sheet(examples.crops.image, examples.labels)


def figure_pose_fits(
    fit: Fit, hand: HandRig, examples: Examples, good_drop: float, reasons: list[str] | None = None
) -> Figure:
    """Fig. 3: every frame before and after overfitting, the errors on the way. Failures are red: frames whose image error
    falls by less than `good_drop` and, where the truth is known, those whose joints got worse, with the reason."""
    count, columns = len(examples), min(12, len(examples))
    bands = -(-count // columns)
    reasons = reasons or [""] * count
    drop = (1 - fit.mse[-1] / fit.mse[0]).numpy()
    figure = plt.figure(figsize=(1.12 * columns + 1.2, 6.2 * bands + 3.6))
    *sheets, graphs = figure.subfigures(bands + 1, 1, height_ratios=[6.2] * bands + [3.6])
    before = plots.shaded_hands(hand, fit.before.T_cam_joint, examples.crops, 160)
    after = plots.shaded_hands(hand, fit.after.T_cam_joint, examples.crops, 160)
    for band, sheet in enumerate(sheets):
        axes = sheet.subplots(5, columns, squeeze=False)
        sheet.subplots_adjust(wspace=0.03, hspace=0.03, left=0.085, right=0.995, top=0.93, bottom=0.02)
        for axis in axes.flat:
            axis.axis("off")
        for i, column in zip(range(band * columns, count), axes.T, strict=False):
            plots.show_depth(column[0], examples.crops.image[i])
            plots.show_picture(column[1], before[i])
            plots.show_picture(column[2], after[i])
            plots.show_difference(column[3], (fit.before.rendered - fit.before.target)[i].abs())
            plots.show_difference(column[4], (fit.after.rendered - fit.after.target)[i].abs())
            title = f"{examples.labels[i]}: MSE {-drop[i]:+.0%}"
            if examples.joints_mm is not None:
                start, end = (joint_error_mm(fit.joints_mm[k, i], examples.joints_mm[i]).item() for k in (0, -1))
                title += f"\n{start:.0f} \u2192 {end:.0f} mm" + (f", {reasons[i]}" if reasons[i] else "")
            failed = drop[i] < good_drop or reasons[i]
            column[0].set_title(title, fontsize=8, pad=3, color=ACCENT if failed else INK)
        for row, name in enumerate(("input", "before", "after", "difference\nbefore", "difference\nafter")):
            box = axes[row, 0].get_position()
            sheet.text(0.005, (box.y0 + box.y1) / 2, name, fontsize=9, va="center", color=INK)
    _pose_fit_graphs(graphs, fit, examples, drop, good_drop, reasons)
    return figure


def _pose_fit_graphs(figure, fit: Fit, examples: Examples, drop: np.ndarray, good_drop: float, reasons: list[str]):
    has_truth = examples.joints_mm is not None
    left, right = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.085, right=0.985, bottom=0.16, top=0.88, wspace=0.2)
    relative = (fit.mse / fit.mse[0]).numpy()
    for i, line in enumerate(relative.T):
        left.plot(line, color=ACCENT if drop[i] < good_drop else MUTED, lw=0.8, alpha=0.8)
    left.plot(np.median(relative, 1), color=GOOD, lw=2.5, label="median")
    left.axhline(1 - good_drop, color=INK, lw=0.8, ls=":", label=f"{good_drop:.0%} lower")
    left.set(xlabel="step", ylabel="image MSE, first step = 1", ylim=(0, max(1.05, relative.max() * 1.02)))
    left.legend(frameon=False)
    failed = (drop < good_drop) | np.array([bool(reason) for reason in reasons])
    colours = np.where(failed, ACCENT, GOOD)
    if has_truth:
        start, end = (joint_error_mm(fit.joints_mm[k], examples.joints_mm).numpy() for k in (0, -1))
        right.set(
            xlabel="mean joint error before (mm)", ylabel="after (mm)", title="below the diagonal: the hand improved"
        )
    else:
        start, end = fit.mse[0].numpy(), fit.mse[-1].numpy()
        right.set(xlabel="image MSE before", ylabel="after", title="no joints are known for real frames")
    top = 1.05 * max(start.max(), end.max())
    right.plot([0, top], [0, top], color=INK, lw=0.8, ls=":")
    right.scatter(start, end, c=colours, s=22)
    for i, label in enumerate(examples.labels):
        right.annotate(label, (start[i], end[i]), fontsize=7, xytext=(3, 2), textcoords="offset points", color=MUTED)
    right.set(xlim=(0, top), ylim=(0, top))


def figure_shape_fits(fit: Fit, hand: HandRig, examples: Examples, shown: int = 8) -> Figure:
    """Fig. 4: the pose is fixed, P moves. Images before and after, how far the points went, the loss on the way."""
    shown = min(shown, len(examples))
    figure = plt.figure(figsize=(1.5 * shown + 1.2, 1.5 * 6 + 3.4))
    sheet, graphs = figure.subfigures(2, 1, height_ratios=[1.5 * 6, 3.2])
    axes = sheet.subplots(6, shown, squeeze=False)
    sheet.subplots_adjust(wspace=0.03, hspace=0.06, left=0.1, right=0.93, top=0.965, bottom=0.01)
    travel = (fit.cloud_mm - hand.cloud_mm).norm(dim=-1)
    for i in range(shown):
        plots.show_depth(axes[0, i], fit.before.target[i], examples.labels[i])
        plots.show_depth(axes[1, i], fit.before.rendered[i])
        plots.show_depth(axes[2, i], fit.after.rendered[i])
        plots.show_difference(axes[3, i], (fit.before.rendered - fit.before.target)[i].abs())
        plots.show_difference(axes[4, i], (fit.after.rendered - fit.after.target)[i].abs())
        points = plots.show_cloud(axes[5, i], fit.after.cloud[i], travel[i], limits=(0, 20))
    names = ("frame", "before", "after", "difference\nbefore", "difference\nafter", "how far P\nmoved")
    for row, name in enumerate(names):
        box = axes[row, 0].get_position()
        sheet.text(0.005, (box.y0 + box.y1) / 2, name, fontsize=9.5, va="center", color=INK)
    box = axes[5, -1].get_position()
    bar = sheet.colorbar(points, cax=sheet.add_axes([0.94, box.y0, 0.012, box.height]))
    bar.set_label("mm", color=INK)
    left, right = graphs.subplots(1, 2)
    graphs.subplots_adjust(left=0.1, right=0.93, bottom=0.17, top=0.92, wspace=0.25)
    relative = (fit.loss / fit.loss[0]).numpy()
    left.plot(relative, color=MUTED, lw=0.8)
    left.plot(np.median(relative, 1), color=GOOD, lw=2.5, label="median")
    left.set(xlabel="step", ylabel="depth loss, first step = 1", ylim=(0, 1.05))
    left.legend(frameon=False)
    right.hist(travel.flatten().numpy(), bins=40, range=(0, 20), color=GOOD)
    right.set(xlabel="distance of a point from its place on the template (mm)", ylabel="points")
    return figure
