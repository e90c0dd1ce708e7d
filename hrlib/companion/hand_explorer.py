"""The hand explorer of notebook 00: joint angles in degrees to pictures and numbers, and the sliders that set them.

`look` is the whole computation, a pure function; `Explorer` only connects it with widgets.
"""

import html
import io
import math
import time
import traceback
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import ipywidgets as widgets
import numba
import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from ..drawing import mesh
from ..frames.crop import IMAGE_SIZE
from ..frames.crops import Crops
from ..hand.joints import FINGERS
from ..hand.named_poses import ANGLES, LETTERS, PRESETS, VIEW_DEG, pose, rest_angles
from ..hand.rig import HandRig
from ..hand.shape import HandShape, shaped
from ..method import Step, evaluate_step, to_crop
from ..network.posenet import Prediction
from .hand_view import HandView

# of `HandShape`, in its order
SHAPE_PARTS = ("size", *(f"{finger} length" for finger in FINGERS), "thickness", "wrist")
CUBE_MM = 250.0
BRIGHTEST = 0.9  # depth value drawn white, as in plots.show_depth


@dataclass(frozen=True)
class Look:
    """A posed hand to look at."""

    depth: Float[np.ndarray, "H W"]  # splatted
    difference: Float[np.ndarray, "H W"]  # of `depth` from the target
    terms: dict[str, float]  # Eq. 6 (units of depth), 7 (mm) and 8 (rad)
    step: Step  # everything that the method computed on the way
    hand: HandRig
    size: int  # of the mesh's picture, pixels

    @property
    def collision_mm(self) -> float:
        """Eq. 7."""
        return self.terms["collision"]

    @property
    def physical_rad(self) -> float:
        """Eq. 8."""
        return self.terms["physical"]

    @cached_property
    def mesh(self) -> UInt8[np.ndarray, "S S 3"]:
        """The mesh, shaded, with the skeleton over it."""
        with _single_thread():
            picture = mesh.shaded_hands(self.hand, self.step.T_cam_joint, _cube(), self.size)[0]
        return mesh.with_skeleton(picture, to_crop(self.step.joints_mm, _cube())[0].numpy())


@torch.no_grad()
def look(
    hand: HandRig, rotations: Float[Tensor, "1 16 4"], size: int = 320, target: Float[Tensor, "H W"] | None = None
) -> Look:
    """A pose in a cube of 250 mm around the middle finger's base: its pictures and the terms of its loss.

    Args:
        size: of the mesh's picture, pixels.
        target: the image that Eq. 6 compares with; None: an empty one, of which the depth term says nothing.
    """
    target = torch.zeros(IMAGE_SIZE, IMAGE_SIZE) if target is None else target
    with _single_thread():
        step = evaluate_step(Prediction(rotations.to(hand.vertices_mm), None), hand, _cube(), target=target[None])
    terms = {name: value.item() for name, value in step.terms.items()}
    return Look(step.rendered[0].numpy(), (step.rendered[0] - target).abs().numpy(), terms, step, hand, size)


def _cube() -> Crops:
    """A cube around the origin of the camera's frame, in which nothing was measured."""
    return mesh.empty_cube(torch.zeros(1, 3), CUBE_MM)


@contextmanager
def _single_thread():
    """One hand is too little work to share out: waking other threads takes longer, above all beside another program."""
    before = torch.get_num_threads(), numba.get_num_threads()
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        numba.set_num_threads(before[1])


def png(picture: UInt8[np.ndarray, "H W 3"] | Float[np.ndarray, "H W"]) -> bytes:
    """An RGB picture, or a depth image in 32 greys (a quarter of the bytes, hardly seen), as PNG."""
    if picture.ndim == 2:
        picture = (picture / BRIGHTEST * 255).clip(0, 255).astype(np.uint8) & 0xF8
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "png")
    return buffer.getvalue()


class Explorer(widgets.VBox):
    """Sliders over all angles, the view and the hand's shape; the hand in 3D, its splat image, and how far that is from a
    target's, with the three losses. `redraw_ms`: how long the last move took.

    What goes wrong while it redraws is shown under the pictures, and raised.
    """

    def __init__(self, hand: HandRig, size: int = 270):
        self._template = self._hand = hand
        self._size, self._quiet, self._look, self.redraw_ms = size, False, None, math.nan
        self.sliders = {name: slider(a.plain, a.low, a.high, 0, f"{name}, degrees") for name, a in ANGLES.items()}
        self.view = {n: slider(plain, -most, most, 0, f"{n}, degrees") for n, (plain, most) in VIEW_DEG.items()}
        self.shape = {name: slider(name, 75, 130, 100, f"{name}, per cent") for name in SHAPE_PARTS}
        frame = {"object_fit": "contain", "margin": "0 8px 0 0", "border": "1px solid #9aa5b1"}
        frame |= dict.fromkeys(("width", "height"), f"{size}px")
        self.hand_view = HandView(hand, size, lambda: png(self._look.mesh), shown=["mesh", "skeleton"])
        self.depth, self.difference = (widgets.Image(format="png", layout=frame) for _ in range(2))
        for image in (self.depth, self.difference):
            image.add_class("hrlib-splat")  # enlarged by the browser, not blurred
        self.numbers, self.error = widgets.HTML(), widgets.HTML()
        presets = {"reset": {}, "as modelled": rest_angles(hand)} | PRESETS | LETTERS
        self.buttons = {name: widgets.Button(description=name, layout={"width": "auto"}) for name in presets}
        for name, button in self.buttons.items():
            button.on_click(lambda _, name=name: self.set(presets[name], {} if name == "reset" else None))
        self.target = widgets.Dropdown(
            options=["nothing", *PRESETS, *LETTERS], description="compare with", style={"description_width": "96px"}
        )
        self._targets = {"nothing": None}
        self.target.observe(self._redraw, "value")
        for control in (*self.sliders.values(), *self.view.values()):
            control.observe(self._redraw, "value")
        for control in self.shape.values():
            control.observe(self._reshape, "value")
        tabs = widgets.Tab(
            [*(self._panel(finger) for finger in FINGERS), row(*self.shape.values())],
            titles=[*(f.capitalize() for f in FINGERS), "Shape"],
        )
        titled = {
            "the hand (drag to turn it)": self.hand_view,
            "splat image, Eq. 3 to 5": self.depth,
            "difference from the chosen target": self.difference,
        }
        pictures = row(*(widgets.VBox([widgets.HTML(f"<b>{t}</b>"), picture]) for t, picture in titled.items()))
        buttons, view = row(*self.buttons.values()), row(*self.view.values(), self.target)
        super().__init__([buttons, pictures, self.numbers, self.error, view, tabs])
        self._redraw()

    def _panel(self, finger: str) -> widgets.Widget:
        """The nine sliders of a finger, a column a joint, from the palm to the tip."""
        columns: dict[str, list[widgets.Widget]] = {}
        for angle in ANGLES.values():
            if angle.finger == finger:
                title = widgets.HTML(f"<b>{angle.place}</b>")
                columns.setdefault(angle.place, [title]).append(self.sliders[angle.name])
        return row(*(widgets.VBox(column) for column in columns.values()))

    def set(self, angles_deg: Mapping[str, float], view_deg: Mapping[str, float] | None = None):
        """Move all sliders, to whole degrees, and redraw once. What is not named goes to zero; the view stays unless given."""
        pose(angles_deg, view_deg)  # refuses what the sliders would silently clip
        self._quiet = True
        try:
            values = {**angles_deg, **(view_deg or {})}
            for name, slider in (self.sliders if view_deg is None else self.sliders | self.view).items():
                slider.value = round(values.get(name, 0))
        finally:
            self._quiet = False
        self._redraw()

    def _redraw(self, change=None):
        if self._quiet:
            return
        started = time.perf_counter()
        values = [{name: slider.value for name, slider in group.items()} for group in (self.sliders, self.view)]
        with reported(self.error, self.numbers):
            seen = self._look = look(self._hand, pose(*values), self._size, self._target_image())
            self.hand_view.pose(seen.step.T_cam_joint)
            nothing = self.target.value == "nothing"
            self.depth.value, self.difference.value = png(seen.depth), png(seen.difference * (not nothing))
        self.redraw_ms = 1000 * (time.perf_counter() - started)
        depth = "-" if nothing else f"{seen.terms['depth']:.4f}"
        self.numbers.value = (
            f"depth (Eq. 6): <b>{depth}</b> &emsp; collision (Eq. 7): <b>{seen.collision_mm:.2f} mm</b> &emsp; "
            f"physical (Eq. 8): <b>{seen.physical_rad:.2f} rad</b> &emsp; drawn in {self.redraw_ms:.0f} ms"
        )

    def _target_image(self) -> Tensor | None:
        """The splat image of the chosen pose of the template's hand, seen from the front."""
        name = self.target.value
        if name not in self._targets:
            self._targets[name] = look(self._template, pose((PRESETS | LETTERS)[name])).step.rendered[0]
        return self._targets[name]

    def _reshape(self, change=None):
        factors = torch.tensor([slider.value / 100 for slider in self.shape.values()]).log()
        self._hand = shaped(self._template, HandShape(factors[0], factors[1:6], *factors[6:]))
        self.hand_view.reshape(self._hand)
        self._redraw()


@contextmanager
def reported(error: widgets.HTML, numbers: widgets.HTML):
    """Shows what goes wrong in a callback, whose error would end in a log that nobody reads, and raises it."""
    try:
        yield
    except Exception:
        error.value = f'<pre role="alert" style="color: #b00020">{html.escape(traceback.format_exc())}</pre>'
        numbers.value = "not drawn: see the error below"
        raise
    error.value = ""


def row(*children: widgets.Widget) -> widgets.Widget:
    """The widgets side by side; a narrow window gets columns."""
    return widgets.HBox(children, layout=widgets.Layout(flex_flow="row wrap"))


def slider(text: str, low: int, high: int, value: int = 0, tip: str = "whole numbers") -> widgets.IntSlider:
    """Whole numbers: a slider that must round what it is set to sends the rounded value back, one redraw for each."""
    style, layout = {"description_width": "96px"}, {"width": "300px"}
    return widgets.IntSlider(
        value, low, high, description=text, tooltip=f"{tip}: {low} to {high}", style=style, layout=layout
    )
