"""The paper's figures, one function each: they draw results that are computed elsewhere and hand back a matplotlib figure."""

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ...drawing import mesh, plots, style
from ...drawing.style import ACCENT, GOOD, INK, MUTED
from ...evaluation.joint_errors import joint_error_mm
from ...hand.joints import FINGERS, POINT_PARENTS
from ...hand.kinematics import forward_kinematics, joint_positions
from ...hand.rig import HandRig
from ...method import Step
from ...refine.single_frame import Fit
from ..example_frames import Examples


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
    axes[0, 3].imshow(mesh.shaded_hands(hand, step.T_cam_joint[[index]], crops[index])[0])
    mesh.draw_skeleton(axes[0, 3], step.joints_mm[index], crops, index, 240)
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
            colour = style.FINGER_COLOURS[(child - 1) // 4]
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
    before = mesh.shaded_hands(hand, fit.before.T_cam_joint, examples.crops, 160)
    after = mesh.shaded_hands(hand, fit.after.T_cam_joint, examples.crops, 160)
    for band, sheet in enumerate(sheets):
        axes = sheet.subplots(5, columns, squeeze=False)
        sheet.subplots_adjust(wspace=0.03, hspace=0.03, left=0.085, right=0.995, top=0.91, bottom=0.01)
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


def figure_data(rows: dict[str, Tensor], columns: int = 12) -> Figure:
    """Synthetic and real crops under one another: a name and images [K, 120, 120] a row."""
    figure, axes = plots.grid(len(rows), columns, 1.15)
    figure.subplots_adjust(left=0.12, right=0.998, hspace=0.06)
    for row, (name, images) in zip(axes, rows.items(), strict=True):
        row[0].text(-0.08, 0.5, name, transform=row[0].transAxes, ha="right", va="center", color=INK, fontsize=9)
        for axis, image in zip(row, images, strict=False):
            plots.show_depth(axis, image)
        for axis in row[len(images) :]:
            axis.axis("off")
    return figure


def figure_sensors(planes: dict, roughness: dict[str, tuple]) -> Figure:
    """Depth noise against distance and angle: the published curve, what the simulation does, and real frames.

    planes: "distance_mm", "by_distance_mm" and "published_by_distance_mm", "angle_deg", "by_angle_mm" and
    "published_by_angle_mm"; roughness: a name and (distances mm, median local roughness mm, is it real) each.
    """
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12.5, 3.7))
    figure.subplots_adjust(wspace=0.28, bottom=0.16)
    for axis, x, y in ((left, "distance_mm", "by_distance_mm"), (middle, "angle_deg", "by_angle_mm")):
        axis.plot(planes[x], planes[f"published_{y}"], color=INK, lw=1.2, label="Nguyen et al. 2012, and steps")
        axis.plot(planes[x], planes[y], "o", color=GOOD, ms=5, label="simulated Kinect v1")
        axis.set(ylabel="standard deviation of depth (mm)", ylim=(0, None))
    left.set(xlabel="distance (mm)", title="on a wall")
    middle.set(xlabel="angle to the surface (degrees)", title="at 700 mm")
    left.legend(frameon=False, fontsize=9)
    for name, (distance, sigma, real) in roughness.items():
        colour = ACCENT if "Kinect" in name else GOOD
        right.plot(
            distance, sigma, "s" if real else "o", color=colour, mfc=colour if real else "white", ms=6, label=name
        )
    right.set(xlabel="distance (mm)", ylabel="residual of 5x5 px planes (mm)", ylim=(0, None), title="on hands")
    right.legend(frameon=False, fontsize=8, loc="upper left")
    right.set_ylim(0, 1.35 * right.get_ylim()[1])
    return figure


def figure_base(curve: dict, names: list[str], joint_mm: Tensor, yaw_deg: Tensor, frame_mm: Tensor, angle_deg: Tensor):
    """The base model: its training, and its error by point [21], by view (yaw_deg, frame_mm [B]) and by joint angle
    [15, 3] (mean absolute error in degrees of flexion, deviation, twist)."""
    figure, axes = plt.subplots(2, 2, figsize=(12, 7.6), width_ratios=[1, 1.25])
    figure.subplots_adjust(hspace=0.42, wspace=0.22)
    training, points, views, angles = axes.flat
    training.plot(np.array(curve["images"]) / 1e6, curve["joint_error_mm"], color=GOOD, lw=1.8)
    training.set(
        xlabel="million images seen in training", ylabel="mean joint error (mm)", title="training of the shipped model"
    )
    training.set_ylim(0, None)
    colours = [INK] + [style.FINGER_COLOURS[i // 4] for i in range(20)]
    points.bar(range(21), joint_mm, color=colours)
    points.set_xticks(range(21), [name.replace("_", " ") for name in names], rotation=65, ha="right", fontsize=7.5)
    points.set(ylabel="mean error (mm)", title="error of each joint, fresh clean frames")
    bins = np.linspace(-180, 180, 13)
    which = np.digitize(yaw_deg.numpy(), bins) - 1
    groups = [frame_mm.numpy()[which == k] for k in range(12)]
    views.boxplot(
        groups, positions=(bins[1:] + bins[:-1]) / 2, widths=20, showfliers=False, medianprops={"color": ACCENT}
    )
    views.set_xticks([-180, -90, 0, 90, 180], ["back", "side", "palm", "side", "back"])
    views.set(
        xlim=(-185, 185), xlabel="side that faces the camera", ylabel="mean joint error (mm)", title="error by view"
    )
    shown = angles.imshow(angle_deg.T, cmap="magma_r", vmin=0, aspect="auto")
    angles.set_xticks(range(15), [f"{finger} {part}" for finger in FINGERS for part in ("base", "middle", "far")])
    angles.tick_params(axis="x", rotation=65, labelsize=7.5)
    angles.set_yticks(range(3), ["flexion", "deviation", "twist"])
    angles.set_title("mean error of each rotation angle (degrees)")
    for i in range(15):
        for j in range(3):
            value = float(angle_deg[i, j])
            dark = value > 0.55 * float(angle_deg.max())
            angles.text(i, j, f"{value:.0f}", ha="center", va="center", fontsize=7.5, color="white" if dark else INK)
    figure.colorbar(shown, ax=angles, fraction=0.03, pad=0.02)
    return figure


def figure_users(users: dict[str, dict], clean_mm: float) -> Figure:
    """How far the simulated users are: the base model's error and a supervised oracle's, 16 joints, mm.

    users: name -> {"description", "base_mm", "oracle_mm" (or None), "bones_mm": error of the true pose on the
    template's bones}.
    """
    figure, axes = plt.subplots(figsize=(9, 4))
    x = np.arange(len(users))
    bars = (
        ("base_mm", "base model", ACCENT),
        ("oracle_mm", "supervised oracle", GOOD),
        ("bones_mm", "wrong bones alone", MUTED),
    )
    for k, (key, label, colour) in enumerate(bars):
        values = [user[key] for user in users.values()]
        if all(value is None for value in values):
            continue
        drawn = axes.bar(x + 0.27 * (k - 1), [value or 0 for value in values], 0.25, color=colour, label=label)
        axes.bar_label(drawn, fmt="%.1f", fontsize=8, color=INK)
    axes.axhline(clean_mm, color=INK, lw=0.9, ls=":", label="base model on clean frames of the template")
    axes.set_xticks(
        x, [f"{name}: {user['description']}".replace(", ", ",\n") for name, user in users.items()], fontsize=9
    )
    axes.set(ylabel="mean error of 16 joints (mm)", title="Simulated users, test frames")
    axes.legend(frameon=False, fontsize=9, ncols=2)
    axes.set_ylim(0, axes.get_ylim()[1] * 1.25)
    return figure


def figure_watch(curve: list[dict], neutral_mm: float) -> Figure:
    """The short training that one can watch, from its record's curve."""
    figure, axes = plt.subplots(figsize=(6.5, 3.4))
    axes.plot([c["step"] for c in curve], [c["joint_error_mm"] for c in curve], color=GOOD, lw=2, marker="o", ms=4)
    axes.axhline(neutral_mm, color=MUTED, ls=":", label="always the neutral hand, palm to the camera")
    axes.set(xlabel="step", ylabel="mean joint error (mm)", ylim=(0, None), title="two minutes of training")
    axes.legend(frameon=False)
    return figure
