"""What a refinement has made of a user's frames, in one HTML file that needs nothing else: numbers, pictures, advice."""

import io
from html import escape
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure

from .. import __version__
from ..drawing import mesh, plots
from ..drawing.page import embedded_picture, html_page
from ..drawing.style import ACCENT, GOOD, INK, MUTED
from ..frames.crops import Crops
from ..hand.joints import FINGERS
from ..hand.kinematics import forward_kinematics
from ..hand.rig import HandRig
from ..refine.explain import evenly
from ..refine.state import Refined
from ..support.files import write_bytes_atomically
from .check import Check, summary
from .track import Tracked

UNSURE = 0.2  # below this confidence a frame is likelier wrong than right (simulated users)
SHOWN = 6  # frames in a figure


def write_report(
    path: str | Path,
    check: Check,
    refined: Refined,
    before: Tracked,
    after: Tracked,
    template: HandRig,
    training: dict,
    gif: bytes | None = None,
) -> None:
    """Write the report. before, after: the same frames as the base model and the refined one see them; training: as
    `save_refined` keeps it; gif: the tracked sequence. Raises ValueError where before and after are of other frames."""
    if before.names != after.names:
        raise ValueError("before and after must be of the same frames")
    side, hand = training["side"], refined.hand
    sections = [
        ("Frames", _table(summary(check)) + _list("What to do better", check.advice) + _left_out(check)),
        ("", _picture(figure_check(check), "distance, likeness to a hand and motion of the frames")),
        (
            "The tracked hand",
            embedded_picture(gif, "the tracked sequence", "gif", "small")
            + "<p>The whole of it is in <code>tracked.mp4</code>.</p>"
            if gif
            else "",
        ),
        ("Before and after", _picture(figure_hands(before, after, template, hand, side), "hands before and after")),
        (
            "Your hand",
            _picture(figure_hand(template, hand, side), "your hand beside the template") + _sizes(template, hand),
        ),
        ("How it went", _picture(figure_course(refined, before, after), "curve, and confidence before and after")),
        (
            "The frames to distrust",
            _picture(figure_worst(after, hand, side), "frames of least confidence") + _worst(after),
        ),
        ("What next", _list("", _next(check, refined, before, after))),
    ]
    body = "".join(f"{f'<h2>{escape(title)}</h2>' if title else ''}{text}" for title, text in sections if text)
    sure, was = (shots.confidence.median().item() for shots in (after, before))
    warnings = "".join(f'<p class="warn">Warning: {escape(text)}</p>' for text in refined.warnings)
    head = (
        f"<h1>Your hand</h1><p>A {side} hand, refined on {len(after)} unlabelled depth frames with the recipe "
        f"<b>{escape(str(training.get('recipe', '?')))}</b>. Median confidence {was:.2f} before, <b>{sure:.2f}</b> after.</p>"
    )
    foot = (
        f'<p class="small">hrlib {__version__}. No label was used; confidence ranks frames, it is no error '
        "in millimetres.</p>"
    )
    write_bytes_atomically(path, html_page("hrlib: your hand", head + warnings + body + foot))


# -- text -----------------------------------------------------------------------------------------------------------------


def _table(rows, head: tuple[str, ...] = ()) -> str:
    top = "<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr>" if head else ""
    cells = ("".join(f"<td>{escape(str(cell))}</td>" for cell in row) for row in rows)
    return f"<table>{top}{''.join(f'<tr>{row}</tr>' for row in cells)}</table>"


def _list(title: str, lines) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return (f"<p><b>{escape(title)}</b></p>" if title and items else "") + (f"<ul>{items}</ul>" if items else "")


def _left_out(check: Check, most: int = 20) -> str:
    if not check.left_out:
        return ""
    rows = list(check.left_out.items())
    more = f"<p>and {len(rows) - most} more, see check.json</p>" if len(rows) > most else ""
    return f"<details><summary>{len(rows)} frames left out</summary>{_table(rows[:most], ('frame', 'why'))}{more}</details>"


def lengths_mm(hand: HandRig) -> dict[str, float]:
    """What a ruler would measure on a straight hand: wrist to middle fingertip, knuckle width, each finger from its base."""
    joints, tips = hand.joints_mm, hand.tips_mm
    lengths = {}
    for i, finger in enumerate(FINGERS):
        chain = torch.cat([joints[1 + 3 * i : 4 + 3 * i], tips[i : i + 1]])
        lengths[finger] = chain.diff(dim=0).norm(dim=1).sum().item()
    to_base = joints[7].sub(joints[0]).norm().item()
    width = joints[4].sub(joints[13]).norm().item()
    return {"hand, wrist to middle fingertip": to_base + lengths["middle"], "index to little knuckle": width} | lengths


def _sizes(template: HandRig, hand: HandRig) -> str:
    own, usual = lengths_mm(hand), lengths_mm(template)
    rows = [
        (name, f"{own[name]:.0f} mm", f"{usual[name]:.0f} mm", f"{own[name] / usual[name] - 1:+.0%}") for name in own
    ]
    said = (
        "<p>Fingers are measured from the knuckle to the tip, the thumb from its joint at the wrist. The mesh is in "
        "<code>hand.ply</code> (mm), with bones in <code>hand.glb</code>.</p>"
    )
    return _table(rows, ("", "yours", "template", "")) + said


def _worst(after: Tracked) -> str:
    order = after.confidence.argsort()[:10].tolist()
    rows = [(after.names[i], f"{after.confidence[i]:.2f}") for i in order]
    return f"<details><summary>the ten least sure frames</summary>{_table(rows, ('frame', 'confidence'))}</details>"


def _next(check: Check, refined: Refined, before: Tracked, after: Tracked):
    unsure = (after.confidence < UNSURE).float().mean().item()
    same = "the same --camera and --unit-mm, and this folder as --model"
    yield f"hrlib predict NEW_FRAMES with {same} follows the hand in new frames"
    if unsure > 0.1:
        yield f"{unsure:.0%} of the frames are unsure: leave them out of what you measure (joints.csv has the confidence)"
    if after.confidence.median() <= before.confidence.median():
        yield "confidence has not grown: look at the hands above, record more sides of the hand, or keep the base model"
    if len(after) < 200:
        yield "record more frames, and refine again from all of them"
    if not any("log_scale" in row for row in refined.curve):
        yield "this recipe moves points, not the skeleton: --recipe best measures your hand's size"


# -- pictures -------------------------------------------------------------------------------------------------------------


def _picture(figure: Figure, alt: str) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120, bbox_inches="tight")
    plt.close(figure)
    return embedded_picture(buffer.getvalue(), alt)


def figure_check(check: Check) -> Figure:
    """Where the hand is, how much it looks like one, and how it moves, frame by frame."""
    m, figure = check.measures, plt.figure(figsize=(10, 2.5))
    axes = figure.subplots(1, 3)
    figure.subplots_adjust(wspace=0.32)
    frame, good = np.arange(len(m.hand)), (m.hand > 0.5).numpy()
    for which, colour, label in ((good, GOOD, "a hand"), (~good, ACCENT, "not a hand?")):
        if which.any():
            axes[0].plot(frame[which], m.distance_mm.numpy()[which], ".", ms=3, color=colour, label=label)
    axes[0].set(xlabel="frame", ylabel="mm", title="distance")
    axes[0].legend(frameon=False, fontsize=8, markerscale=3, loc="best")
    axes[1].hist(m.hand.numpy(), np.linspace(0, 1, 21), color=GOOD)
    axes[1].axvline(0.5, color=ACCENT, lw=1)
    axes[1].set(xlabel="0 = something else, 1 = a hand", ylabel="frames", title="likeness to a hand")
    moved = m.motion_mm[m.motion_mm.isfinite()].numpy()
    axes[2].hist(moved.clip(0, 60), np.linspace(0, 60, 31), color=GOOD)
    axes[2].set(xlabel="mm from the frame before (60: and more)", ylabel="frames", title="motion")
    return figure


def _posed(shots: Tracked, index: torch.Tensor, hand: HandRig) -> np.ndarray:
    return mesh.predicted_hands(hand, shots.prediction[index], shots.crops[index])


def figure_hands(before: Tracked, after: Tracked, template: HandRig, hand: HandRig, side: str) -> Figure:
    """Frames from the whole folder, as the base model and as the refined one see them."""
    index = evenly(len(after) + 2, SHOWN + 2)[1:-1].clamp(max=len(after) - 1).unique()
    rows = [("depth", None), ("base model", _posed(before, index, template)), ("refined", _posed(after, index, hand))]
    return _rows(after, index, rows, side, (None, before, after))


def figure_worst(after: Tracked, hand: HandRig, side: str) -> Figure:
    """The frames that the refined model is least sure of."""
    index = after.confidence.argsort()[:SHOWN]
    return _rows(after, index, [("depth", None), ("refined", _posed(after, index, hand))], side, (None, after))


def _rows(shots: Tracked, index: torch.Tensor, rows, side: str, sure) -> Figure:
    figure, axes = plots.grid(len(rows), len(index), 1.55)
    flip = slice(None, None, -1 if side == "left" else 1)
    for r, (name, meshes) in enumerate(rows):
        for k, i in enumerate(index.tolist()):
            if meshes is None:
                image = shots.crops.image[i].numpy()
                plots.show_depth(axes[r, k], image[:, flip], _short(shots.names[i]), vmax=max(float(image.max()), 0.5))
                axes[r, k].title.set_fontsize(7)
            else:
                plots.show_picture(axes[r, k], meshes[k][:, flip])
                value = f"{sure[r].confidence[i]:.2f}"
                axes[r, k].text(0.03, 0.03, value, transform=axes[r, k].transAxes, fontsize=8, color=INK)
        axes[r, 0].set_ylabel(name, color=INK)
    return figure


def _short(name: str, most: int = 17) -> str:
    return name if len(name) <= most else "…" + name[1 - most :]


def figure_hand(template: HandRig, hand: HandRig, side: str) -> Figure:
    """The template's and the user's hand at rest, at one scale, and how their lengths compare."""
    figure, axes = plt.subplots(1, 3, figsize=(10, 3.3), width_ratios=(1, 1, 1.35))
    flip = slice(None, None, -1 if side == "left" else 1)
    for axis, rig, title in zip(axes, (template, hand), ("template", "yours"), strict=False):
        plots.show_picture(axis, _at_rest(rig)[:, flip], title)
    own, usual = (list(lengths_mm(rig).values())[2:] for rig in (hand, template))
    y = np.arange(len(FINGERS))[::-1]
    axes[2].barh(y + 0.2, usual, 0.38, color=MUTED, label="template")
    bars = axes[2].barh(y - 0.2, own, 0.38, color=GOOD, label="yours")
    axes[2].bar_label(bars, fmt="%.0f", fontsize=8, color=INK, padding=2)
    axes[2].set_yticks(y, FINGERS)
    axes[2].set(xlabel="length from the base joint (mm)", xlim=(0, 1.18 * max(*own, *usual)))
    axes[2].legend(frameon=False, fontsize=8, loc="lower right")
    return figure


def _at_rest(hand: HandRig) -> np.ndarray:
    """The hand as modelled, palm to the camera and fingers up, RGB."""
    rotations = hand.rest_rotations[None].clone()
    rotations[:, 0] = rotations.new_tensor([1.0, 0.0, 0.0, 0.0])
    T = forward_kinematics(hand, rotations, hand.joints_mm.new_zeros(1, 3))
    middle = hand.joints_mm[7] * hand.joints_mm.new_tensor([1.0, -1.0, -1.0])
    empty = torch.zeros(1, 1, 1)
    return mesh.shaded_hands(hand, T, Crops(empty, empty, middle[None], torch.zeros(1), 250.0))[0]


def figure_course(refined: Refined, before: Tracked, after: Tracked) -> Figure:
    """The curve of the refinement, and how sure the models are."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 2.7))
    figure.subplots_adjust(wspace=0.25)
    rounds = [row for row in refined.curve if "surprise" in row]
    if rounds:
        values = [row["surprise"] for row in rounds]
        axes[0].plot(
            [row["round"] for row in rounds], values, "o-", color=GOOD, label="the network, on frames kept back"
        )
        fitted = [(row["round"], row["fitted_surprise"]) for row in rounds if "fitted_surprise" in row]
        axes[0].plot(*zip(*fitted, strict=True), "s--", color=MUTED, label="poses fitted to the frames")
        axes[0].set(
            xlabel="round (0: the base model)", ylabel="unexplained", title="how much of the frames is unexplained"
        )
        axes[0].set_xticks([row["round"] for row in rounds])
        axes[0].legend(frameon=False, fontsize=8)
    else:
        axes[0].plot([row["step"] for row in refined.curve], [1000 * row["mse"] for row in refined.curve], color=GOOD)
        axes[0].set(xlabel="step", ylabel="image MSE (x 1/1000)", title="difference of the rendered hands")
    axes[0].set_ylim(bottom=0)
    edges = np.linspace(0, 1, 26)
    for shots, colour, label in ((before, MUTED, "base model"), (after, GOOD, "refined")):
        axes[1].hist(shots.confidence.numpy(), edges, color=colour, alpha=0.65, label=label)
    axes[1].axvline(UNSURE, color=ACCENT, lw=1)
    axes[1].set(xlabel="confidence", ylabel="frames", title="confidence of the frames")
    axes[1].legend(frameon=False, fontsize=8)
    return figure
