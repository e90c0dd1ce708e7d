"""The figure of notebook 00, and what it checks: the rest pose, and that every slider moves the pictures."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec

from ...drawing import plots
from ...drawing.style import ACCENT, FINGER_COLOURS, INK, MARK_PT, MUTED, WIDTH_IN
from ...hand.joints import JOINT_NAMES, LIMITS_DEG
from ...hand.kinematics import forward_kinematics
from ...hand.named_poses import ANGLES, PRESETS, VIEW_DEG, pose, rest_angles
from ...hand.rig import HandRig
from ...hand.skinning import skin, skinning_transforms
from ..hand_explorer import CUBE_MM, Look, look

TRIM = 0.08  # of the cube, at each side: a hand without a forearm does not fill it


def rest_error_mm(hand: HandRig) -> float:
    """Largest distance between the mesh, posed by the angles of the rest pose, and the mesh as it was modelled."""
    hand = hand.to(torch.float64)
    rotations = pose(rest_angles(hand))
    rotations[:, 0] = hand.rest_rotations[0]  # the mesh is kept in the wrist's frame
    T = forward_kinematics(hand, rotations, torch.zeros(1, 3, dtype=torch.float64))
    posed = skin(hand.vertices_mm, hand.weights, skinning_transforms(hand, T))[0]
    return (posed - hand.vertices_mm).norm(dim=1).max().item()


def slider_effects(hand: HandRig, size: int = 320) -> dict[str, tuple[int, int]]:
    """What each slider does between its ends, all else zero: how many pixels change, (of the mesh, of the depth image)."""
    effects = {}
    for name in (*ANGLES, *VIEW_DEG):
        if name in ANGLES:
            poses = [pose({name: end}) for end in (ANGLES[name].low, ANGLES[name].high)]
        else:
            poses = [pose({}, {name: part * VIEW_DEG[name][1]}) for part in (0, 0.5)]  # +-180 degrees are the same view
        first, last = (look(hand, rotations, size) for rotations in poses)
        effects[name] = int((first.mesh != last.mesh).any(-1).sum()), int((first.depth != last.depth).sum())
    return effects


def hand_numbers(
    hand: HandRig, presets: Mapping[str, Look], sweep: Sequence[tuple[float, Look]], size: int
) -> dict[str, Any]:
    """The numbers of `figure_hand`: terms of the losses, how far off the rest pose is, and what each slider changes."""
    return {
        "rest_error_mm": rest_error_mm(hand),
        "collision_mm": {name: seen.collision_mm for name, seen in presets.items()},
        "physical_rad": {name: seen.physical_rad for name, seen in presets.items()},
        "presets_deg": PRESETS,
        "sweep_deg_physical_rad": [(float(value), seen.physical_rad) for value, seen in sweep],
        "pixels_changed_by_slider_mesh_depth": slider_effects(hand, size),
    }


def figure_hand(
    hand: HandRig, rest: Look, presets: dict[str, Look], swept: str, sweep: Sequence[tuple[float, Look]]
) -> Figure:
    """The template at rest (joints, cloud, depth image, limits); preset poses; one angle through its range and beyond.

    sweep: pairs of the angle `swept` in degrees and what it looks like.
    """
    figure = plt.figure(figsize=(WIDTH_IN, 7.8))
    figure.subplots_adjust(left=0, right=1, top=1, bottom=0)
    top, middle, bottom = figure.add_gridspec(3, 1, height_ratios=(2.5, 1.1, 2.3), hspace=0.33)
    axes = [figure.add_subplot(part) for part in top.subgridspec(1, 4, wspace=0.04, width_ratios=(1, 1, 1, 2))]
    _show_mesh(axes[0], rest, "(a) template at rest, 16 joints")
    for j, (x, y) in enumerate(rest.step.T_cam_joint[0, :, :2, 3].numpy() / CUBE_MM + 0.5):
        _numbered(axes[0], j, x, y)
    cloud, finger = rest.step.cloud[0].numpy(), (hand.cloud_weights.argmax(1).numpy() + 2) // 3
    axes[1].scatter(*cloud[:, :2].T, c=[(MUTED, *FINGER_COLOURS)[f] for f in finger], s=3.5, lw=0)
    axes[1].set(xlim=(TRIM, 1 - TRIM), ylim=(1 - TRIM, TRIM), aspect="equal")
    plots._bare(axes[1], f"(b) cloud P, {len(cloud)} points")
    _show_depth(axes[2], rest, "(c) depth image of P (Eq. 3-5)")
    _write_limits(axes[3])

    _head(
        figure,
        middle,
        "(e) presets as mesh and depth image: collision term in mm (Eq. 7), physical term in rad (Eq. 8)",
    )
    pairs = middle.subgridspec(1, len(presets), wspace=0.06)
    for cell, (name, seen) in zip(pairs, presets.items(), strict=True):
        pair = [figure.add_subplot(half) for half in cell.subgridspec(1, 2, wspace=0.0)]
        _show_mesh(pair[0], seen, f"{name}: {seen.collision_mm:.1f} mm")
        _show_depth(pair[1], seen, f"{seen.physical_rad:.1f} rad")
    angle, joint = ANGLES[swept], swept.rsplit("_", 1)[0].replace("_", " ")
    limits = f"({angle.low}° to {angle.high}°)".replace("-", "−")
    turn = swept.rsplit("_", 1)[1]
    _head(figure, bottom, f"(f) {turn} of joint “{joint}” through its limits {limits} and beyond (red: physical term)")
    cells = bottom.subgridspec(2, len(sweep), wspace=0.03, hspace=0.03)
    for k, (degrees, seen) in enumerate(sweep):
        pair = [figure.add_subplot(cells[i, k]) for i in (0, 1)]
        inside = angle.low <= degrees <= angle.high
        text = f"{degrees:.0f}°".replace("-", "−")
        _show_mesh(pair[0], seen, text if inside else f"{text}: {seen.physical_rad:.2f} rad")
        pair[0].title.set_color(INK if inside else ACCENT)
        _show_depth(pair[1], seen)
    return figure


def _head(figure: Figure, row: SubplotSpec, text: str):
    """A heading over a whole row, above the titles of its pictures."""
    place = row.get_position(figure)
    figure.text(place.x0 + 0.005, place.y1 + 0.036, text)


def _show_mesh(axes: Axes, seen: Look, title: str = ""):
    """The shaded mesh in the crop frame's coordinates."""
    axes.imshow(seen.mesh, extent=(0, 1, 1, 0), interpolation="antialiased")
    axes.set(xlim=(TRIM, 1 - TRIM), ylim=(1 - TRIM, TRIM))
    plots._bare(axes, title)


def _show_depth(axes: Axes, seen: Look, title: str = ""):
    plots.show_depth(axes, seen.depth, title)
    low, high = TRIM * len(seen.depth) - 0.5, (1 - TRIM) * len(seen.depth) - 0.5
    axes.set(xlim=(low, high), ylim=(high, low))


def _numbered(axes: Axes, joint: int, x: float, y: float, **text):
    """A joint's number in a circle of its finger's colour."""
    circle = {"boxstyle": "circle,pad=0.18", "fc": "white", "ec": (MUTED, *FINGER_COLOURS)[(joint + 2) // 3], "lw": 1.6}
    axes.text(x, y, str(joint), fontsize=MARK_PT, ha="center", va="center", bbox=circle, **text)


def _write_limits(axes: Axes):
    """The table of the joints with the limits of their angles."""
    plots._bare(axes, "(d) limits of the angles, degrees")
    places = {"flexion": 0.57, "deviation": 0.79, "twist": 1.0}
    for head, x in places.items():
        axes.text(x, 0.97, head, color=MUTED, ha="right", va="center")
    for j, name in enumerate(JOINT_NAMES):
        y = 0.91 - 0.059 * j
        _numbered(axes, j, 0.06, y)
        axes.text(0.115, y, name.replace("_", " "), va="center")
        limits = [f"{low} to {high}".replace("-", "−") for low, high in LIMITS_DEG.get(name, ())] or ["free"] * 3
        for x, text in zip(places.values(), limits, strict=True):
            axes.text(x, y, text, ha="right", va="center")
