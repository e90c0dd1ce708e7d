"""The paper's figures, one function each: they draw results that are computed elsewhere and hand back a matplotlib figure."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ...drawing import mesh, plots, style
from ...drawing.style import ACCENT, GOOD, INK, MUTED, WIDTH_IN
from ...evaluation.before_after import why_worse
from ...evaluation.joint_errors import joint_error_mm
from ...hand.joints import FINGERS, POINT_PARENTS
from ...hand.kinematics import forward_kinematics, joint_positions
from ...hand.rig import HandRig
from ...losses import image_mse
from ...method import PipelineSettings, Step, evaluate_step
from ...refine.single_frame import Fit, downhill_share
from ..example_frames import Examples
from .panels import bar_groups, described, name_rows, share_of_first

SHOWN = 8  # frames that Fig. 3 and 4 picture, at most
TERMS = "mean |(3) - (5)| = {depth:.4f}\n\ncollision = {collision:.2f} mm\n\nphysical = {physical:.2f} rad"


def figure_method(step: Step, hand: HandRig, examples: Examples, index: int) -> Figure:
    """Fig. 1 and 2: one frame's way through the method, every intermediate with the paper's number.

    The upper row is the model's way to an image, the lower row the frame's, and then the comparison.
    """
    figure, (top, bottom) = plots.grid(2, 4, WIDTH_IN / 4)
    crops, rest = examples.crops, hand.cloud_mm.numpy()
    _show_rest_hand(top[0], hand)
    flipped = (rest - (rest.max(0) + rest.min(0)) / 2) / crops.cube_mm * np.array([1, -1, -1]) + 0.5
    plots.show_cloud(top[1], flipped, title=f"(2) point cloud P, {len(rest)} points", cmap="cividis")
    posed = mesh.shaded_hands(hand, step.T_cam_joint[[index]], crops[index])[0]
    plots.show_picture(top[2], posed, r"predicted pose $\theta$")
    mesh.draw_skeleton(top[2], step.joints_mm[index], crops, index, 240)
    plots.show_depth(top[3], step.rendered[index], r"(3) $f^{depth}(f^{skin}(P, M))$")
    plots.show_depth(bottom[0], crops.image[index], "(4) input depth image D")
    plots.show_depth(bottom[1], step.target[index], r"(5) $f^{depth}(P_D)$")
    plots.show_difference(bottom[2], (step.rendered - step.target)[index].abs(), "(6) |(3) - (5)|")
    terms = TERMS.format(**{name: float(value[index]) for name, value in step.terms.items()})
    bottom[3].text(0.02, 0.85, "the three terms of Eq. 1\n\n" + terms, va="top")
    bottom[3].axis("off")
    return figure


def method_numbers(
    step: Step, pull: Float[Tensor, "B N 3"], hand: HandRig, examples: Examples
) -> tuple[dict[str, Any], dict[str, float]]:
    """The numbers of `figure_method`, and the values of its claims: means of the terms; on simulated frames what truth costs.

    Args:
        pull: gradient of the depth term at the posed cloud.
    """
    numbers = {f"{name}_mean": value.mean().item() for name, value in step.terms.items()}
    numbers["image_mse_mean"] = image_mse(step.rendered, step.target).mean().item()
    numbers["downhill_share"] = downhill_share(step, pull, examples.crops)
    if examples.kind == "real":
        return numbers, {}
    numbers["base_joint_error_mm"] = joint_error_mm(step.joints_mm, examples.joints_mm).mean().item()
    hands = {"the user's hand": examples.user.hand(hand), "the template's hand": hand}
    with torch.no_grad():
        at_truth = {
            shape: evaluate_step(examples.true_prediction(of), of, examples.crops).terms["depth"]
            for shape, of in hands.items()
        }
    wins = {shape: (term < step.terms["depth"]).float().mean().item() for shape, term in at_truth.items()}
    numbers["truth_wins"] = wins
    numbers["depth_at_truth"] = {shape: term.mean().item() for shape, term in at_truth.items()}
    return numbers, {"fig2.simulated.truth": wins["the template's hand"]}


def _show_rest_hand(axes: Axes, hand: HandRig):
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
    plots._bare(axes, "(1) rigged hand, 16 joints")


def figure_gradients(cloud: Float[Tensor, "N 3"], gradient: Float[Tensor, "N 3"], step: Step, index: int) -> Figure:
    """Where the depth loss pulls: minus its gradient at the points of the posed cloud."""
    figure, ((differs, in_plane, in_depth),) = plots.grid(1, 3, 2.8)
    plots.show_difference(differs, (step.rendered - step.target)[index].abs(), "what differs: |(3) - (5)|")
    pull = -gradient.numpy()
    size = np.linalg.norm(pull[:, :2], axis=1)
    strong = np.argsort(-size)[: len(size) // 6]
    plots.show_cloud(in_plane, cloud, np.full(len(cloud), 0.5), "pull in the image plane", cmap="Greys", limits=(0, 2))
    arrows = pull[strong, :2] / np.percentile(size, 98)
    x, y = cloud[strong, 0], cloud[strong, 1]
    in_plane.quiver(
        x, y, *arrows.T, color=ACCENT, angles="xy", scale_units="xy", scale=14, width=0.004, headwidth=4, headlength=4
    )
    limit = float(np.percentile(np.abs(pull[:, 2]), 99)) or 1.0
    points = plots.show_cloud(in_depth, cloud, pull[:, 2], "pull in depth", (-limit, limit), cmap="RdBu")
    bar = figure.colorbar(points, ax=in_depth, fraction=0.046, pad=0.02, ticks=[-limit, 0, limit])
    bar.ax.set_yticklabels(["nearer", "0", "farther"])
    return figure


def pose_numbers(
    fit: Fit, hand: HandRig, examples: Examples, good_drop: float, pipeline: PipelineSettings
) -> tuple[dict[str, Any], dict[str, float]]:
    """The numbers of `figure_pose_fits`, and the values of its claims; arguments as there."""
    drop = 1 - fit.mse[-1] / fit.mse[0]
    numbers = {
        "frames": examples.labels,
        "image_mse_before": fit.mse[0],
        "image_mse_after": fit.mse[-1],
        "mse_drop_median": drop.median().item(),
        "converged": int((drop >= good_drop).sum()),
    }
    claims = {f"fig3.{examples.kind}.mse": numbers["mse_drop_median"]}
    if examples.kind == "real":
        return numbers, claims
    before, after = (joint_error_mm(fit.joints_mm[k], examples.joints_mm) for k in (0, -1))
    at_truth = evaluate_step(examples.true_prediction(hand), hand, examples.crops, pipeline)
    numbers |= {
        "joint_error_mm_before": before,
        "joint_error_mm_after": after,
        "improved_share": (after < before).float().mean().item(),
        "why_worse": why_worse(fit, at_truth, examples.joints_mm),
    }
    return numbers, claims | {"fig3.simulated.joints": numbers["improved_share"]}


def figure_pose_fits(
    fit: Fit, hand: HandRig, examples: Examples, good_drop: float, reasons: Sequence[str] | None = None
) -> Figure:
    """Fig. 3: frames before and after overfitting, and the errors of all frames on the way. Failures are red.

    At most `SHOWN` frames are pictured, from the one whose image error falls most to the one whose falls least.

    Args:
        good_drop: a frame fails if its image error falls by a smaller share.
        reasons: why each frame's joints got worse, which is a failure, too; "" if they did not.
    """
    count, reasons = len(examples), reasons or [""] * len(examples)
    drop = (1 - fit.mse[-1] / fit.mse[0]).numpy()
    colours = [ACCENT if drop[i] < good_drop or reasons[i] else INK for i in range(count)]
    index = np.argsort(-drop)[np.linspace(0, count - 1, min(SHOWN, count)).round().astype(int)]
    figure = plt.figure(figsize=(WIDTH_IN, 9.2))
    sheet, graphs = figure.subfigures(2, 1, height_ratios=(6, 3.2))
    axes = sheet.subplots(5, len(index), squeeze=False)
    sheet.subplots_adjust(wspace=0.03, hspace=0.03, left=0.085, right=0.995, top=0.91, bottom=0.01)
    before, after = (mesh.shaded_hands(hand, at.T_cam_joint, examples.crops, 160) for at in (fit.before, fit.after))
    for i, column in zip(index, axes.T, strict=True):
        plots.show_depth(column[0], examples.crops.image[i])
        plots.show_picture(column[1], before[i])
        plots.show_picture(column[2], after[i])
        _show_differences(column[3:], fit, i)
        title = f"{examples.labels[i]}: MSE {-drop[i]:+.0%}".replace("-", "\N{MINUS SIGN}")
        if examples.joints_mm is not None:
            start, end = (joint_error_mm(fit.joints_mm[k, i], examples.joints_mm[i]).item() for k in (0, -1))
            title += f"\n{start:.0f} \u2192 {end:.0f} mm\n{reasons[i]}"
        column[0].set_title(title, pad=3, color=colours[i])
    name_rows(sheet, axes, ("input", "before", "after", "difference\nbefore", "difference\nafter"))
    left, right = graphs.subplots(1, 2)
    graphs.subplots_adjust(left=0.085, right=0.985, bottom=0.16, top=0.9, wspace=0.25)
    share_of_first(left, fit.mse, "image MSE", [ACCENT if d < good_drop else MUTED for d in drop])
    left.axhline(1 - good_drop, color=INK, lw=0.8, ls=":", label=f"{good_drop:.0%} lower")
    left.legend()
    _before_against_after(right, fit, examples, colours)
    return figure


def _show_differences(axes: Sequence[Axes], fit: Fit, index: int):
    for axis, step in zip(axes, (fit.before, fit.after), strict=True):
        plots.show_difference(axis, (step.rendered - step.target)[index].abs())


def _before_against_after(axes: Axes, fit: Fit, examples: Examples, colours: Sequence[str]):
    """Each frame's joint error before and after; its image error if no joints are known."""
    if examples.joints_mm is not None:
        start, end = (joint_error_mm(fit.joints_mm[k], examples.joints_mm).numpy() for k in (0, -1))
        error, title = "mean joint error before (mm)", "below the diagonal: the hand improved"
    else:
        start, end = fit.mse[0].numpy(), fit.mse[-1].numpy()
        error, title = "image MSE before", "no joints are known for real frames"
    top = 1.05 * max(start.max(), end.max())
    axes.axline((0, 0), slope=1, color=INK, lw=0.8, ls=":")
    axes.scatter(start, end, c=[GOOD if colour == INK else colour for colour in colours], s=22)
    for i, (label, colour) in enumerate(zip(examples.labels, colours, strict=True)):
        if colour == ACCENT:
            axes.annotate(label, (start[i], end[i]), (3, 2), textcoords="offset points", color=ACCENT)
    after = "after (mm)" if "mm" in error else "after"
    axes.set(xlabel=error, ylabel=after, title=title, xlim=(0, top), ylim=(0, top))


def shape_numbers(fit: Fit, hand: HandRig, examples: Examples) -> tuple[dict[str, Any], dict[str, float]]:
    """The numbers of `figure_shape_fits`, and the value of its claim."""
    drop, travel = 1 - fit.loss[-1] / fit.loss[0], (fit.cloud_mm - hand.cloud_mm).norm(dim=-1)
    numbers = {
        "frames": examples.labels,
        "depth_loss_before": fit.loss[0],
        "depth_loss_after": fit.loss[-1],
        "loss_drop_median": drop.median().item(),
        "loss_drop_worst": drop.min().item(),
        "travel_mm": {"median": travel.median().item(), "mean": travel.mean().item(), "max": travel.max().item()},
    }
    return numbers, {f"fig4.{examples.kind}.loss": numbers["loss_drop_median"]}


def figure_shape_fits(fit: Fit, hand: HandRig, examples: Examples) -> Figure:
    """Fig. 4: the pose is fixed, P moves. Images before and after, how far the points went, the loss on the way."""
    shown = min(SHOWN, len(examples))
    figure = plt.figure(figsize=(WIDTH_IN, 9.2))
    sheet, graphs = figure.subfigures(2, 1, height_ratios=[6, 3])
    axes = sheet.subplots(6, shown, squeeze=False)
    sheet.subplots_adjust(wspace=0.03, hspace=0.03, left=0.085, right=0.925, top=0.965, bottom=0.01)
    travel = (fit.cloud_mm - hand.cloud_mm).norm(dim=-1)
    for i, column in enumerate(axes.T):
        plots.show_depth(column[0], fit.before.target[i], examples.labels[i])
        plots.show_depth(column[1], fit.before.rendered[i])
        plots.show_depth(column[2], fit.after.rendered[i])
        _show_differences(column[3:5], fit, i)
        points = plots.show_cloud(column[5], fit.after.cloud[i], travel[i], limits=(0, 20))
    names = ("frame", "before", "after", "difference\nbefore", "difference\nafter", "how far P\nmoved")
    name_rows(sheet, axes, names)
    box = axes[5, -1].get_position()
    sheet.colorbar(points, cax=sheet.add_axes([0.935, box.y0, 0.012, box.height]), label="mm")
    left, right = graphs.subplots(1, 2)
    graphs.subplots_adjust(left=0.085, right=0.985, bottom=0.17, top=0.94, wspace=0.25)
    share_of_first(left, fit.loss, "depth loss")
    left.legend()
    right.hist(travel.flatten().numpy(), bins=40, range=(0, 20), color=GOOD)
    right.set(xlabel="distance of a point from its place on the template (mm)", ylabel="points")
    return figure


def figure_data(rows: Mapping[str, Float[Tensor, "_ H W"]], columns: int = 12) -> Figure:
    """Synthetic and real crops under one another: a name and images a row."""
    figure, axes = plots.grid(len(rows), columns, 0.66)
    figure.set_figwidth(WIDTH_IN)
    figure.subplots_adjust(left=0.12, right=0.995, top=0.99, bottom=0.01, hspace=0.06)
    for row, (name, images) in zip(axes, rows.items(), strict=True):
        row[0].text(-0.08, 0.5, name, transform=row[0].transAxes, ha="right", va="center")
        for axis, image in zip(row, images, strict=False):
            plots.show_depth(axis, image)
        for axis in row[len(images) :]:
            axis.axis("off")
    return figure


def figure_sensors(planes: Mapping[str, Sequence[float]], roughness: Mapping[str, Sequence]) -> Figure:
    """Depth noise against distance and angle: the published curve, what the simulation does, and real frames.

    Args:
        planes: "distance_mm", "by_distance_mm" and "published_by_distance_mm", "angle_deg", "by_angle_mm" and
            "published_by_angle_mm".
        roughness: name -> (distances mm, median local roughness mm, is it real).
    """
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(WIDTH_IN, 3.2), layout="constrained")
    for axis, x, y in ((left, "distance_mm", "by_distance_mm"), (middle, "angle_deg", "by_angle_mm")):
        axis.plot(planes[x], planes[f"published_{y}"], color=INK, lw=1.2, label="Nguyen et al. 2012, and steps")
        axis.plot(planes[x], planes[y], "o", color=GOOD, ms=5, label="simulated Kinect v1")
        axis.set(ylabel="standard deviation of depth (mm)", ylim=(0, None))
    left.set(xlabel="distance (mm)", title="on a wall")
    middle.set(xlabel="angle to the surface (degrees)", title="at 700 mm")
    left.legend()
    for name, (distance, sigma, real) in roughness.items():
        colour = ACCENT if "Kinect" in name else GOOD
        face = {"marker": "s", "mfc": colour} if real else {"marker": "o", "mfc": "white"}
        right.plot(distance, sigma, ls="", color=colour, ms=6, label=name, **face)
    right.set(xlabel="distance (mm)", ylabel="residual of 5x5 px planes (mm)", title="on hands")
    right.set_ylim(0, 1.6 * right.get_ylim()[1])
    right.legend(loc="upper left")
    return figure


def figure_base(
    curve: Mapping[str, Sequence[float]],
    points_mm: Mapping[str, float],
    yaw_deg: Float[Tensor, " B"],
    frame_mm: Float[Tensor, " B"],
    angle_deg: Float[Tensor, "15 3"],
) -> Figure:
    """The base model: its training, and its error by point, by view and by joint angle.

    Args:
        curve: of the training: "images" seen, "joint_error_mm".
        points_mm: mean error of each of the 21 points, by name.
        yaw_deg: of the frames' views.
        frame_mm: mean error of each frame.
        angle_deg: mean absolute error of flexion, deviation, twist.
    """
    figure, ((training, points), (views, angles)) = plt.subplots(
        2, 2, figsize=(WIDTH_IN, 7.2), width_ratios=[1, 1.5], layout="constrained"
    )
    training.plot(np.array(curve["images"]) / 1e6, curve["joint_error_mm"], color=GOOD, lw=1.8)
    training.set(xlabel="million images seen in training", ylabel="mean joint error (mm)", ylim=(0, None))
    training.set_title("training of the shipped model")
    names = [name.replace("_", " ") for name in points_mm]
    points.bar(names, list(points_mm.values()), color=[INK] + [style.FINGER_COLOURS[i // 4] for i in range(20)])
    points.set_xticks(range(21), names, rotation=90)
    points.set(ylabel="mean error (mm)", title="error of each joint, fresh clean frames")
    _error_by_view(views, yaw_deg.numpy(), frame_mm.numpy())
    shown = angles.imshow(angle_deg.T, cmap="magma_r", vmin=0, aspect="auto")
    angles.set_xticks(range(15), [f"{finger} {part}" for finger in FINGERS for part in ("base", "middle", "far")])
    angles.tick_params(axis="x", rotation=90)
    angles.set_yticks(range(3), ["flexion", "deviation", "twist"])
    angles.set_title("mean error of each rotation angle (degrees)")
    dark = 0.55 * angle_deg.max()
    for (i, j), value in np.ndenumerate(angle_deg.numpy()):
        colour = "white" if value > dark else INK
        angles.text(i, j, f"{value:.0f}", ha="center", va="center", color=colour)
    figure.colorbar(shown, ax=angles, fraction=0.03, pad=0.02)
    return figure


def _error_by_view(axes: Axes, yaw_deg: np.ndarray, frame_mm: np.ndarray):
    bins = np.linspace(-180, 180, 13)
    which = np.digitize(yaw_deg, bins) - 1
    groups, middles = [frame_mm[which == k] for k in range(12)], (bins[1:] + bins[:-1]) / 2
    axes.boxplot(groups, positions=middles, widths=20, showfliers=False, medianprops={"color": ACCENT})
    axes.set_xticks([-180, -90, 0, 90, 180], ["back", "side", "palm", "side", "back"])
    axes.set(xlim=(-185, 185), xlabel="side that faces the camera", ylabel="mean joint error (mm)")
    axes.set_title("error by view")


def figure_users(users: Mapping[str, Mapping], clean_mm: float) -> Figure:
    """How far the simulated users are from the template: errors of 16 joints, mm.

    Args:
        users: name -> {"description", "base_mm": the base model's error, "oracle_mm": a supervised oracle's (or None),
            "bones_mm": error of the true pose on the template's bones}.
        clean_mm: the base model's error on clean frames of the template.
    """
    figure, axes = plt.subplots(figsize=(WIDTH_IN, 3.8), layout="constrained")
    bars = {"base_mm": ("base model", ACCENT), "oracle_mm": ("supervised oracle", GOOD)}
    bars |= {"bones_mm": ("wrong bones alone", MUTED)}
    known = [key for key in bars if any(user[key] is not None for user in users.values())]
    texts, colours = zip(*(bars[key] for key in known), strict=True)
    names = described({name: user["description"] for name, user in users.items()})
    groups = {name: [user[key] or 0 for key in known] for name, user in zip(names, users.values(), strict=True)}
    for drawn, text in zip(bar_groups(axes, groups, colours, "%.1f"), texts, strict=True):
        drawn.set_label(text)
    axes.axhline(clean_mm, color=INK, lw=0.9, ls=":", label="base model on clean frames of the template")
    axes.set(ylabel="mean error of 16 joints (mm)", title="Simulated users, test frames")
    axes.set_ylim(0, axes.get_ylim()[1] * 1.25)
    axes.legend(ncols=2)
    return figure


def figure_watch(curve: Sequence[Mapping[str, float]], neutral_mm: float) -> Figure:
    """The short training that one can watch, from its record's curve."""
    figure, axes = plt.subplots(figsize=(WIDTH_IN, 3), layout="constrained")
    axes.plot([c["step"] for c in curve], [c["joint_error_mm"] for c in curve], color=GOOD, lw=2, marker="o", ms=4)
    axes.axhline(neutral_mm, color=MUTED, ls=":", label="always the neutral hand, palm to the camera")
    axes.set(xlabel="step", ylabel="mean joint error (mm)", ylim=(0, None), title="two minutes of training")
    axes.legend()
    return figure
