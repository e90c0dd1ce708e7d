"""Live cells of notebooks 01 to 04: one finger before the renderer, the loss along one joint, a descent step by step.

Functions compute; widgets only connect them with sliders. Each carries its picture as a PNG for readers without a kernel.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import ipywidgets as widgets
import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ..drawing import mesh, plots
from ..drawing.style import ACCENT, GOOD, GREEN, INK, MUTED, ORANGE
from ..evaluation.joint_errors import joint_error_mm
from ..frames.crop import IMAGE_SIZE
from ..frames.crops import Crops
from ..hand.named_poses import ANGLES
from ..hand.rig import HandRig
from ..hand.rotations import euler_angles, from_euler
from ..losses import depth_loss, image_mse
from ..method import PipelineSettings, Step, evaluate_step, to_pixels
from ..network.posenet import Prediction
from ..render import splat_depth
from .hand_explorer import reported, row, slider
from .hand_view import with_picture

SHIFTS_PX = torch.arange(-40.0, 41.0)
RADII_PX = (2, 15)
FLAT = 0.05  # a pull below this share of the strongest is called none: what is left comes from the pixels' raster
TERM_COLOURS = {"depth": GOOD, "collision": GREEN, "physical": ORANGE}


# ---- one finger before the renderer


@dataclass(frozen=True)
class Slide:
    """A finger moved sideways over itself."""

    shift_px: Float[Tensor, " S"]
    loss: Float[Tensor, " S"]  # Eq. 6
    slope: Float[Tensor, " S"]  # of the loss, per pixel
    rendered: Float[Tensor, "S H W"]

    @property
    def target(self) -> Float[Tensor, "H W"]:
        """The finger in its place."""
        return self.rendered[self.shift_px.abs().argmin()]

    @property
    def reach_px(self) -> float:
        """The largest shift from which, on both sides, the slope leads back."""
        right = -torch.sign(self.shift_px) * self.slope < -FLAT * self.slope.abs().max()
        lost = self.shift_px[~right & (self.shift_px != 0)].abs()
        return float(lost.min() - 1 if len(lost) else self.shift_px.abs().max())


def finger_of(hand: HandRig, cloud: Float[Tensor, "N 3"], finger: int = 1) -> Float[Tensor, "n 3"]:
    """The points of a posed cloud that one finger's joints carry; finger 0 is the thumb."""
    return cloud[(hand.cloud_weights.argmax(1) + 2) // 3 == finger + 1].detach()


def slide(points: Float[Tensor, "n 3"], radius_px: float, shift_px: Float[Tensor, " S"] = SHIFTS_PX) -> Slide:
    """The depth loss of points (crop frame) that are rendered beside their place.

    The points are moved to the image's middle first, so that they stay in it.
    """
    middle = (points.amin(0) + points.amax(0)) / 2
    points = to_pixels(points - torch.cat([middle[:2] - 0.5, torch.zeros_like(middle[2:])]))
    size = (IMAGE_SIZE, IMAGE_SIZE)
    shift = shift_px.to(points).clone().requires_grad_()
    moved = torch.cat([points[None, :, :1] + shift[:, None, None], points[None, :, 1:].expand(len(shift), -1, 2)], -1)
    rendered = splat_depth(moved.contiguous(), radius_px, size)
    loss = depth_loss(rendered, splat_depth(points[None], radius_px, size).expand_as(rendered))
    (slope,) = torch.autograd.grad(loss.sum(), shift)
    return Slide(shift.detach(), loss.detach(), slope, rendered.detach())


# ---- the loss along one joint


@dataclass(frozen=True)
class Landscape:
    """The weighted terms of Eq. 1 as one angle goes through its range."""

    degrees: Float[Tensor, " S"]
    terms: dict[str, Float[Tensor, " S"]]

    @property
    def loss(self) -> Float[Tensor, " S"]:
        """Their sum, Eq. 1."""
        return sum(self.terms.values())


def turned(prediction: Prediction, angle: str, degrees: Float[Tensor, " S"]) -> Prediction:
    """One frame's prediction with one of its angles (a name in `named_poses.ANGLES`) set to each of the degrees."""
    if angle not in ANGLES:
        raise ValueError(f"unknown angle {angle!r}; names are joint_axis, e.g. {next(iter(ANGLES))}")
    if len(prediction.rotations) != 1:
        raise ValueError(f"prediction must be of one frame, got {len(prediction.rotations)}: index it first")
    place, count = ANGLES[angle], len(degrees)
    rotations = prediction.rotations.detach().expand(count, -1, -1).clone()
    euler = euler_angles(rotations[:, place.joint])
    euler[:, place.axis] = torch.deg2rad(degrees.to(euler))
    rotations[:, place.joint] = from_euler(euler)
    offset = None if prediction.offset is None else prediction.offset.detach().expand(count, -1)
    return Prediction(rotations, offset)


@torch.no_grad()
def landscape(
    hand: HandRig, prediction: Prediction, crops: Crops, angle: str, settings: PipelineSettings = PipelineSettings()
) -> Landscape:
    """The loss of one frame along one angle, a step about every 2 degrees, from 10 below to 10 above the angle's limits."""
    low, high = (ANGLES[angle].low - 10, ANGLES[angle].high + 10) if angle in ANGLES else (0, 0)
    degrees = torch.linspace(low, high, (high - low) // 2 + 1)
    at = turned(prediction, angle, degrees)
    step = evaluate_step(at, hand, crops[[0] * len(degrees)], settings)
    return Landscape(degrees, {name: getattr(settings.weights, name) * step.terms[name] for name in settings.terms})


# ---- widgets


class _Live(widgets.VBox):
    """Controls over one figure, redrawn at every change. What goes wrong is shown under it, and raised."""

    def __init__(self, figure: Figure, *controls: widgets.Widget):
        self._figure = figure
        self.picture = widgets.Image(format="png", layout={"max_width": "100%", "object_fit": "contain"})
        self.numbers, self.error = widgets.HTML(), widgets.HTML()
        super().__init__([row(*controls), self.picture, self.numbers, self.error])
        self._redraw()

    def _redraw(self, change=None):
        with reported(self.error, self.numbers):
            self._figure.clear()
            self.numbers.value = f'<div aria-live="polite" style="font-size: 16px">{self._draw()}</div>'
            buffer = io.BytesIO()
            self._figure.savefig(buffer, dpi=100, pil_kwargs={"compress_level": 1}, bbox_inches=None)
            self.picture.value = buffer.getvalue()

    def _draw(self) -> str:
        raise NotImplementedError

    def _repr_mimebundle_(self, **kwargs):
        return with_picture(super()._repr_mimebundle_(**kwargs), self.picture.value)


class SlideView(_Live):
    """One finger of a posed cloud, sliders for r of Eq. 5 and for how far off it is rendered."""

    def __init__(self, points: Float[Tensor, "n 3"], radius_px: int = 5, shift_px: int = 14):
        self._points = points
        self.radius = slider("radius r (px)", *RADII_PX, radius_px)
        self.shift = slider("off by (px)", int(SHIFTS_PX[0]), int(SHIFTS_PX[-1]), shift_px)
        for control in (self.radius, self.shift):
            control.observe(self._redraw, "value")
        super().__init__(Figure(figsize=(11, 3.4), layout="constrained"), self.radius, self.shift)

    def _draw(self) -> str:
        found, at = slide(self._points, self.radius.value), self.shift.value - int(SHIFTS_PX[0])
        image, loss, slope = self._figure.subplots(1, 3, width_ratios=(1, 1.35, 1.35))
        rendered, target = found.rendered[at].numpy() / 0.9, found.target.numpy() / 0.9
        # the one in its place blue, the one rendered orange, where they overlap nearly white
        colour = target[..., None] * np.array([0.2, 0.55, 1.0]) + rendered[..., None] * np.array([1.0, 0.5, 0.1])
        plots.show_picture(image, colour.clip(0, 1), "target (blue), rendered (orange)")
        flat = found.slope.abs() <= FLAT * found.slope.abs().max()
        x = found.shift_px.numpy()
        titles = ("depth loss (Eq. 6)", "its slope, per pixel")
        for axis, values, title in zip((loss, slope), (found.loss, found.slope), titles, strict=True):
            axis.plot(x, values, color=GOOD, lw=2)
            axis.plot(x[at], values[at], "o", color=ACCENT, ms=9)
            axis.fill_between(x, 0, 1, flat, color=MUTED, alpha=0.3, lw=0, transform=axis.get_xaxis_transform())
            axis.set(title=title, xlabel="rendered this far off, px", xlim=(x[0], x[-1]))
        slope.axhline(0, color=INK, lw=0.8)
        slope.annotate("grey: no pull", (0.98, 0.93), xycoords="axes fraction", ha="right", color=INK)
        state = "<b>none: the gradient has vanished</b>" if flat[at] else f"{found.slope[at].item():+.2g} per px"
        return (
            f"depth loss {found.loss[at].item():.4f}, slope {state}; with r = {self.radius.value} px a finger finds "
            f"its place from up to <b>{found.reach_px:.0f} px</b> away"
        )


class LandscapeView(_Live):
    """One frame's loss along an angle that is chosen, and the images at the angle that is set.

    Args:
        prediction: where the other angles stay.
        crops: the one frame.
        truth: its angle is marked if it is known.
        angle: the first one shown.
    """

    def __init__(
        self,
        hand: HandRig,
        prediction: Prediction,
        crops: Crops,
        truth: Prediction | None = None,
        angle: str = "index_base_flexion",
        settings: PipelineSettings = PipelineSettings(),
    ):
        self._hand, self._prediction, self._crops, self._settings = hand, prediction, crops, settings
        self._truth = truth
        names = [(f"{a.finger}, {a.place}: {a.plain}", name) for name, a in ANGLES.items()]
        self.angle = widgets.Dropdown(options=names, value=angle, description="angle", layout={"width": "360px"})
        self.degrees = slider("degrees", -10, 10)
        self.angle.observe(self._choose, "value")
        self._quiet = True
        self._choose()
        self.degrees.observe(self._redraw, "value")
        super().__init__(Figure(figsize=(11, 3.4), layout="constrained"), self.angle, self.degrees)

    def _choose(self, change=None):
        """Another angle: its landscape, and the slider to where the prediction has it."""
        self._found = landscape(self._hand, self._prediction, self._crops, self.angle.value, self._settings)
        low, high = int(self._found.degrees[0]), int(self._found.degrees[-1])
        self._quiet = True
        try:
            self.degrees.min, self.degrees.max = min(low, self.degrees.min), max(high, self.degrees.max)
            self.degrees.value = round(min(max(self._angle_of(self._prediction), low), high))
            self.degrees.min, self.degrees.max = low, high
        finally:
            self._quiet = False
        if change is not None:
            self._redraw()

    def _angle_of(self, prediction: Prediction) -> float:
        place = ANGLES[self.angle.value]
        return torch.rad2deg(euler_angles(prediction.rotations[0, place.joint].detach()))[place.axis].item()

    def _redraw(self, change=None):
        if not self._quiet:
            super()._redraw(change)

    def _draw(self) -> str:
        degrees = torch.tensor([float(self.degrees.value)])
        at = turned(self._prediction, self.angle.value, degrees)
        with torch.no_grad():
            step = evaluate_step(at, self._hand, self._crops, self._settings)
        *images, curve = self._figure.subplots(1, 4, width_ratios=(1, 1, 1, 1.9))
        show_images(images, step)
        found, place = self._found, ANGLES[self.angle.value]
        x, lower = found.degrees, torch.zeros_like(found.degrees)
        curve.axvspan(place.low, place.high, color=MUTED, alpha=0.18, lw=0)
        for name, values in found.terms.items():
            # one on top of the other: the upper edge is the sum
            curve.fill_between(x, lower, lower + values, color=TERM_COLOURS[name], alpha=0.45, lw=0, label=name)
            lower = lower + values
        curve.plot(x, found.loss, color=INK, lw=2.2, label="sum (Eq. 1)")
        curve.plot(degrees, step.loss, "o", color=ACCENT, ms=9)
        marks = {"predicted": (self._prediction, "--")} | ({"true": (self._truth, "-")} if self._truth else {})
        for name, (of, style) in marks.items():
            curve.axvline(self._angle_of(of), color=ACCENT, ls=style, lw=1, label=name)
        curve.set(title="loss along the angle (grey: its limits)", xlabel="degrees", ylim=_around(found.loss))
        curve.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
        best = found.degrees[found.loss.argmin()].item()
        text = f"at {degrees.item():.0f}&deg;: loss {step.loss.item():.3f}; lowest at <b>{best:.0f}&deg;</b>"
        text += f", predicted {self._angle_of(self._prediction):.0f}&deg;"
        return text + (f", true {self._angle_of(self._truth):.0f}&deg;" if self._truth else "")


class DescentView(_Live):
    """The steps of a descent on one frame, as `fit_pose` and `fit_shape` hand them to `watch`; a play button.

    Args:
        crops: the one frame.
        hand: its mesh is drawn (a pose is fitted); None: the cloud is.
        joints_mm: the truth, whose distance is drawn beside the image error.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        crops: Crops,
        hand: HandRig | None = None,
        joints_mm: Float[Tensor, "1 21 3"] | None = None,
    ):
        if not steps:
            raise ValueError("steps must hold at least one step; pass watch=steps.append to the fit")
        if len(crops) != 1:
            raise ValueError(f"crops must hold the one frame that was fitted, got {len(crops)}")
        self._steps, self._crops, self._hand = steps, crops, hand
        self._mse = torch.cat([image_mse(step.rendered, step.target) for step in steps])
        self._error = None
        if joints_mm is not None:
            self._error = torch.cat([joint_error_mm(step.joints_mm, joints_mm) for step in steps])
        self.step = slider("step", 0, len(steps) - 1)
        self.play = widgets.Play(min=0, max=len(steps) - 1, interval=200, description="play the descent")
        self._link = widgets.link((self.play, "value"), (self.step, "value"))
        self.step.observe(self._redraw, "value")
        super().__init__(Figure(figsize=(11, 3.1), layout="constrained"), self.play, self.step)

    def _draw(self) -> str:
        at = self.step.value
        step = self._steps[at]
        hand, *images, curve = self._figure.subplots(1, 5, width_ratios=(1, 1, 1, 1, 1.5))
        if self._hand is None:
            plots.show_cloud(hand, step.cloud[0], title="cloud P")
        else:
            plots.show_picture(hand, mesh.shaded_hands(self._hand, step.T_cam_joint, self._crops, 200)[0], "mesh")
        show_images(images, step)
        text = f"step {at}: " + self._trace(curve, self._mse, 1e3, "image MSE x 1000", GOOD)
        if self._error is not None:
            text += ", " + self._trace(curve.twinx(), self._error, 1, "joint error, mm", ACCENT)
        curve.set(xlabel="step", title="error on the way")
        return text

    def _trace(self, axes: Axes, values: Tensor, scale: float, label: str, colour: str) -> str:
        values = values * scale
        axes.plot(values, color=colour, lw=2)
        axes.plot(self.step.value, values[self.step.value], "o", color=colour, ms=8)
        axes.set(ylim=(0, 1.05 * values.max().item() or 1))
        axes.set_ylabel(label, color=colour)
        axes.tick_params(axis="y", labelcolor=colour)
        return f"{label} <b>{values[self.step.value].item():.2f}</b> (first {values[0].item():.2f})"


def _around(loss: Tensor) -> tuple[float, float]:
    """Limits of an axis in which the shape of a curve that is far from zero is seen."""
    low, high = loss.min().item(), loss.max().item()
    return max(0.0, low - 0.4 * (high - low)), high + 0.1 * (high - low) + 1e-6


def show_images(axes: Sequence[Axes], step: Step):
    """The first frame of a step: rendered, target, what differs."""
    plots.show_depth(axes[0], step.rendered[0], "rendered")
    plots.show_depth(axes[1], step.target[0], "target")
    plots.show_difference(axes[2], (step.rendered - step.target)[0].abs(), "difference")
