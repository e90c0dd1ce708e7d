"""What a refinement has made of a user's frames, in one HTML file that needs nothing else: numbers, pictures, advice."""

import io
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Int, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from .. import __version__
from ..drawing import mesh, plots
from ..drawing.page import embedded_picture, html_page
from ..drawing.style import ACCENT, GOOD, INK, MUTED
from ..frames.crops import evenly
from ..hand.joints import FINGERS
from ..hand.kinematics import forward_kinematics
from ..hand.rig import HandRig
from ..hand.shape import lengths_mm
from ..refine.best import FEW_FRAMES, rounds_of
from ..support.files import write_bytes_atomically
from .check import LIKE_A_HAND, Check, summary
from .result import PersonalResult
from .track import Tracked

UNSURE = 0.2  # below this confidence a frame is likelier wrong than right (simulated users)
MANY_UNSURE = 0.1  # of the frames: from here on the report warns of what is measured on them
SHOWN = 6  # frames in a figure
LONGEST_NAME = 17  # letters of a frame's name over its picture
MOST_ROWS = 20  # of a table of frames
FAST_MM = 60.0  # the last bin of movements from frame to frame


def write_report(path: Path, result: PersonalResult, gif: bytes) -> None:
    """Write the report of a refinement as one HTML file.

    Args:
        path: the file.
        result: what the report is about; its files say whether there is a video to name.
        gif: the tracked sequence.

    Raises:
        ValueError: the models have seen different frames.
    """
    check, after, hand = result.check, result.after, result.refined.hand
    if result.before.names != after.names:
        raise ValueError("before and after must be of the same frames")
    video = "<p>As a video: <code>tracked.mp4</code>.</p>" if "tracked.mp4" in result.files else ""
    sections = {
        "Frames": _table(summary(check))
        + _list((*check.doubts, *check.advice))
        + _left_out(check)
        + _picture(figure_check(check), "distance, likeness to a hand and motion of the frames"),
        "The tracked hand": embedded_picture(gif, "the tracked sequence", "gif", "small") + video,
        "Before and after": _picture(figure_hands(result), "hands before and after"),
        "Your hand": _picture(figure_hand(result.template, hand, result.side), "your hand beside the template")
        + _sizes(result.template, hand),
        "How it went": _picture(figure_course(result), "curve, and confidence before and after"),
        "The frames to distrust": _picture(figure_worst(result), "frames of least confidence") + _least_sure(after),
        "What next": _list(_next(result)),
    }
    was, sure = (shots.confidence.median().item() for shots in (result.before, after))
    recipe = escape(str(result.training.get("recipe", "?")))
    body = (
        f"<h1>Your hand</h1><p>A {result.side} hand, refined on {len(after)} unlabelled depth frames with the recipe "
        f"<b>{recipe}</b>. Median confidence {was:.2f} before, <b>{sure:.2f}</b> after.</p>"
        + "".join(f'<p class="warn">Warning: {escape(text)}</p>' for text in result.refined.warnings)
        + "".join(f"<h2>{escape(title)}</h2>{text}" for title, text in sections.items())
        + f'<p class="small">hrlib {__version__}. No label was used; confidence ranks frames, it is no error in '
        "millimetres.</p>"
    )
    write_bytes_atomically(path, html_page("hrlib: your hand", body))


# -- text -----------------------------------------------------------------------------------------------------------------


def _table(rows: Iterable[Sequence[str]], head: tuple[str, ...] = ()) -> str:
    top = "<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr>" if head else ""
    cells = ("".join(f"<td>{escape(str(cell))}</td>" for cell in row) for row in rows)
    return f"<table>{top}{''.join(f'<tr>{row}</tr>' for row in cells)}</table>"


def _list(lines: Iterable[str]) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<ul>{items}</ul>" if items else ""


def _folded(title: str, content: str) -> str:
    return f"<details><summary>{title}</summary>{content}</details>"


def _left_out(check: Check) -> str:
    rows = list(check.left_out.items())
    more = f"<p>and {len(rows) - MOST_ROWS} more, see check.json</p>" if len(rows) > MOST_ROWS else ""
    table = _table(rows[:MOST_ROWS], ("frame", "why"))
    return _folded(f"{len(rows)} frames left out", table + more) if rows else ""


def _least_sure(after: Tracked) -> str:
    order = after.confidence.argsort()[:MOST_ROWS].tolist()
    rows = [(after.names[i], f"{after.confidence[i]:.2f}") for i in order]
    return _folded("the least sure frames", _table(rows, ("frame", "confidence")))


def _sizes(template: HandRig, hand: HandRig) -> str:
    own, usual = lengths_mm(hand), lengths_mm(template)
    rows = [(n, f"{own[n]:.0f} mm", f"{usual[n]:.0f} mm", f"{own[n] / usual[n] - 1:+.0%}") for n in own]
    note = (
        "<p>Fingers are measured from the knuckle to the tip, the thumb from its joint at the wrist. The mesh is in "
        "<code>hand.ply</code> (mm), with bones in <code>hand.glb</code>.</p>"
    )
    return _table(rows, ("", "yours", "template", "")) + note


def _next(result: PersonalResult) -> Iterator[str]:
    sure, was = result.after.confidence, result.before.confidence
    unsure = (sure < UNSURE).float().mean().item()
    same = "the same --camera and --unit-mm, and this folder as --model"
    yield f"hrlib predict NEW_FRAMES with {same} follows the hand in new frames"
    if unsure > MANY_UNSURE:
        yield f"{unsure:.0%} of the frames are unsure: leave them out of what you measure (joints.csv has the confidence)"
    if sure.median() <= was.median():
        yield "confidence has not grown: look at the hands above, record more sides of the hand, or keep the base model"
    if len(sure) < FEW_FRAMES:
        yield "record more frames, and refine again from all of them"
    if not any("log_scale" in row for row in result.refined.curve):
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
    distance, likeness, motion = figure.subplots(1, 3)
    figure.subplots_adjust(wspace=0.32)
    frame, good = np.arange(len(m.hand)), (m.hand > LIKE_A_HAND).numpy()
    for which, colour, label in ((good, GOOD, "a hand"), (~good, ACCENT, "not a hand?")):
        if which.any():
            distance.plot(frame[which], m.distance_mm.numpy()[which], ".", ms=3, color=colour, label=label)
    distance.set(xlabel="frame", ylabel="mm", title="distance")
    distance.legend(frameon=False, fontsize=8, markerscale=3, loc="best")
    likeness.hist(m.hand.numpy(), np.linspace(0, 1, 21), color=GOOD)
    likeness.axvline(LIKE_A_HAND, color=ACCENT, lw=1)
    likeness.set(xlabel="0 = something else, 1 = a hand", ylabel="frames", title="likeness to a hand")
    moved = m.motion_mm[m.motion_mm.isfinite()].numpy()
    motion.hist(moved.clip(0, FAST_MM), np.linspace(0, FAST_MM, 31), color=GOOD)
    motion.set(xlabel=f"mm from the frame before ({FAST_MM:.0f}: and more)", ylabel="frames", title="motion")
    return figure


def figure_hands(result: PersonalResult) -> Figure:
    """Frames from the whole folder, as the base model and as the refined one see them."""
    count = len(result.after)
    index = evenly(count + 2, SHOWN + 2)[1:-1].clamp(max=count - 1).unique()
    models = {"base model": (result.before, result.template), "refined": (result.after, result.refined.hand)}
    return _rows(index, models, result.side)


def figure_worst(result: PersonalResult) -> Figure:
    """The frames that the refined model is least sure of."""
    index = result.after.confidence.argsort()[:SHOWN]
    return _rows(index, {"refined": (result.after, result.refined.hand)}, result.side)


def _rows(index: Int[Tensor, " K"], models: dict[str, tuple[Tracked, HandRig]], side: str) -> Figure:
    """A row of depth images, and below it a row for each model: its hands, with their confidence."""
    figure, axes = plots.grid(1 + len(models), len(index), 1.55)
    flip = slice(None, None, -1 if side == "left" else 1)
    for row, (name, (shots, hand)) in enumerate(models.items(), 1):
        posed = mesh.predicted_hands(hand, shots.prediction[index], shots.crops[index])
        for k, i in enumerate(index.tolist()):
            plots.show_picture(axes[row, k], posed[k][:, flip])
            value = f"{shots.confidence[i]:.2f}"
            axes[row, k].text(0.03, 0.03, value, transform=axes[row, k].transAxes, fontsize=8, color=INK)
        axes[row, 0].set_ylabel(name, color=INK)
    for k, i in enumerate(index.tolist()):
        image = shots.crops.image[i].numpy()[:, flip]
        plots.show_depth(axes[0, k], image, _short(shots.names[i]), vmax=max(float(image.max()), 0.5))
        axes[0, k].title.set_fontsize(7)
    axes[0, 0].set_ylabel("depth", color=INK)
    return figure


def _short(name: str) -> str:
    short = name if len(name) <= LONGEST_NAME else "…" + name[1 - LONGEST_NAME :]
    return short.replace("$", "\\$")  # between two of them matplotlib expects a formula


def figure_hand(template: HandRig, hand: HandRig, side: str) -> Figure:
    """The template's and the user's hand at rest, at one scale, and their fingers' lengths side by side."""
    figure, (*hands, lengths) = plt.subplots(1, 3, figsize=(10, 3.3), width_ratios=(1, 1, 1.35))
    flip = slice(None, None, -1 if side == "left" else 1)
    for axis, rig, title in zip(hands, (template, hand), ("template", "yours"), strict=True):
        plots.show_picture(axis, _at_rest(rig)[:, flip], title)
    y = np.arange(len(FINGERS))[::-1]
    for rig, up, colour, label in ((template, 0.2, MUTED, "template"), (hand, -0.2, GOOD, "yours")):
        of_fingers = [lengths_mm(rig)[finger] for finger in FINGERS]
        bars = lengths.barh(y + up, of_fingers, 0.38, color=colour, label=label)
    lengths.bar_label(bars, fmt="%.0f", fontsize=8, padding=2)
    lengths.set_yticks(y, FINGERS)
    lengths.set_xlabel("length from the base joint (mm)")
    lengths.margins(x=0.3)
    lengths.legend(loc="lower right")
    return figure


def _at_rest(hand: HandRig) -> UInt8[np.ndarray, "240 240 3"]:
    """The hand as modelled, palm to the camera and fingers up, RGB."""
    rotations = hand.rest_rotations[None].clone()
    rotations[:, 0] = rotations.new_tensor([1.0, 0.0, 0.0, 0.0])
    T = forward_kinematics(hand, rotations, hand.joints_mm.new_zeros(1, 3))
    middle = hand.joints_mm[7] * hand.joints_mm.new_tensor([1.0, -1.0, -1.0])
    return mesh.shaded_hands(hand, T, mesh.empty_cube(middle[None]))[0]


def figure_course(result: PersonalResult) -> Figure:
    """The curve of the refinement, and how sure the models are."""
    figure, (curve, sure) = plt.subplots(1, 2, figsize=(10, 2.7))
    figure.subplots_adjust(wspace=0.25)
    _draw_curve(curve, result.refined.curve)
    edges = np.linspace(0, 1, 26)
    for shots, colour, label in ((result.before, MUTED, "base model"), (result.after, GOOD, "refined")):
        sure.hist(shots.confidence.numpy(), edges, color=colour, alpha=0.65, label=label)
    sure.axvline(UNSURE, color=ACCENT, lw=1)
    sure.set(xlabel="confidence", ylabel="frames", title="confidence of the frames")
    sure.legend(frameon=False, fontsize=8)
    return figure


def _draw_curve(axes: Axes, curve: list[dict]):
    """Of `best` what hands or rounds leave unexplained; of the other recipes the difference of the images, step by step."""
    rounds, hands = rounds_of(curve), [row for row in curve if "hand" in row and "round" not in row]
    if len(rounds) == 1 and hands:
        bars = axes.bar([row["hand"] for row in hands], [row["surprise"] for row in hands], 0.5, color=GOOD)
        axes.bar_label(bars, fmt="%.3f", fontsize=8, padding=2)
        axes.margins(y=0.15)
        axes.set(ylabel="unexplained", title="how much of the frames each hand leaves unexplained")
    elif rounds:
        number = [row["round"] for row in rounds]
        axes.plot(
            number, [row["surprise"] for row in rounds], "o-", color=GOOD, label="the network, on frames kept back"
        )
        fitted = [(row["round"], row["fitted_surprise"]) for row in rounds if "fitted_surprise" in row]
        axes.plot(*zip(*fitted, strict=True), "s--", color=MUTED, label="poses fitted to the frames")
        axes.set(xlabel="round (0: the base model)", ylabel="unexplained", xticks=number)
        axes.set_title("how much of the frames is unexplained")
        axes.legend(frameon=False, fontsize=8)
    else:
        axes.plot([row["step"] for row in curve], [1000 * row["mse"] for row in curve], color=GOOD)
        axes.set(xlabel="step", ylabel="image MSE (x 1/1000)", title="difference of the rendered hands")
    axes.set_ylim(bottom=0)
