"""The hand explorer of notebook 00: joint angles in degrees to pictures and numbers, and the sliders that set them.

`look` is the whole computation, a pure function; `Explorer` only connects it with widgets.
"""

import html
import io
import math
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial

import ipywidgets as widgets
import numba
import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from ..drawing import mesh
from ..drawing.style import ACCENT
from ..frames.crop import IMAGE_SIZE
from ..frames.crops import Crops
from ..frames.frame import Frame
from ..hand.joints import FINGERS
from ..hand.named_poses import ANGLES, LETTERS, PRESETS, VIEW_DEG, pose, rest_angles
from ..hand.rig import HandRig
from ..hand.shape import HandShape, shaped
from ..method import PipelineSettings, Step, evaluate_step, splat_target, to_crop
from ..network.posenet import Prediction
from .explorer_target import (
    CUBE_MM,
    EXAMPLES,
    PLACE_MM,
    Curve,
    drawn,
    empty_cube,
    example_target,
    fit_steps,
    frame_target,
    loss_along,
    pose_target,
    predicted,
    prediction_of,
    read_target,
    values_of,
)
from .hand_view import HandView, with_picture

# of `HandShape`, in its order
SHAPE_PARTS = ("size", *(f"{finger} length" for finger in FINGERS), "thickness", "wrist")
BRIGHTEST = 0.9  # depth value drawn white, as in plots.show_depth
BEYOND_DEG = 40  # how far sliders go past the limits, if asked
LEG = 20  # pictures from pose A to pose B
FIRST_ENDS = {"A": PRESETS["open"], "B": PRESETS["fist"]}
SHOWN_FIRST = ["mesh", "skeleton"]
WIDE, FILLED, AS_WIDE_AS_ITS_WORDS = {"width": "100%"}, {"width": "auto"}, {"width": "auto", "flex": "0 0 auto"}


@dataclass(frozen=True)
class Look:
    """A posed hand to look at."""

    terms: dict[str, float]  # Eq. 6 (units of depth), 7 (mm) and 8 (rad)
    step: Step  # everything that the method computed on the way
    hand: HandRig
    size: int  # of the mesh's picture, pixels

    @property
    def depth(self) -> Float[np.ndarray, "H W"]:
        """Splatted."""
        return self.step.rendered[0].numpy()

    @property
    def difference(self) -> Float[np.ndarray, "H W"]:
        """Of `depth` from the target."""
        return (self.step.rendered - self.step.target)[0].abs().numpy()

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
            picture = mesh.shaded_hands(self.hand, self.step.T_cam_joint, empty_cube(), self.size)[0]
        return mesh.with_skeleton(picture, to_crop(self.step.joints_mm, empty_cube())[0].numpy())


@torch.no_grad()
def look(
    hand: HandRig,
    rotations: Float[Tensor, "1 16 4"],
    size: int = 320,
    target: Float[Tensor, "H W"] | None = None,
    place_mm: Sequence[float] = (0, 0, 0),
) -> Look:
    """A pose in a cube of 250 mm around the middle finger's base: its pictures and the terms of its loss.

    Args:
        size: of the mesh's picture, pixels.
        target: the image that Eq. 6 compares with; None: an empty one, of which the depth term says nothing.
        place_mm: of the middle finger's base, from the cube's middle; x right, y down, z away.
    """
    target = torch.zeros(IMAGE_SIZE, IMAGE_SIZE) if target is None else target
    with _single_thread():
        rotations = rotations.to(hand.vertices_mm)
        prediction = Prediction(rotations, rotations.new_tensor([list(place_mm)]) / CUBE_MM)
        step = evaluate_step(prediction, hand, empty_cube(), target=target[None])
    terms = {name: value.item() for name, value in step.terms.items()}
    return Look(terms, step, hand, size)


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


def png(picture: UInt8[np.ndarray, "H W 3"]) -> bytes:
    """An RGB picture as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "png")
    return buffer.getvalue()


def pose_code(
    angles_deg: Mapping[str, float], view_deg: Mapping[str, float], place_mm: Sequence[float] = (0, 0, 0)
) -> str:
    """Python that makes this pose and its depth image. Angles of zero are left out, others have 0.01 degrees."""

    def listed(values: Mapping[str, float]) -> str:
        texts = {name: f"{round(value, 2):g}" for name, value in values.items()}
        return "{" + ", ".join(f'"{name}": {text}' for name, text in texts.items() if text not in ("0", "-0")) + "}"

    place = f", place_mm={tuple(place_mm)}" if any(place_mm) else ""
    beyond = any(not ANGLES[name].low <= value <= ANGLES[name].high for name, value in angles_deg.items())
    return f"""\
from hrlib.companion.hand_explorer import look
from hrlib.hand.named_poses import pose
from hrlib.hand.rig import load_hand

angles_deg = {listed(angles_deg)}
rotations = pose(angles_deg, {listed(view_deg)}{", within_limits=False" if beyond else ""})  # [1, 16, 4], xyzw
depth = look(load_hand(), rotations{place}).depth  # [120, 120]
"""


class Explorer(widgets.HBox):
    """Sliders over all angles, view, place and shape; the hand in 3D, its splat image and a target's, with the three losses.

    Dragging the hand turns it in all pictures. Two poses, A and B, can be kept and played into each other.
    The loss along the slider that moved last is a curve. The target may be a depth frame, to which the pose is fitted.
    `redraw_ms`: how long the last move took.

    What goes wrong while it redraws is shown under the sliders, and raised.

    Args:
        hand: template of all shapes.
        size: of the 3D picture, px.
        target: a frame, or a crop of one hand, to begin with.
    """

    def __init__(self, hand: HandRig, size: int = 316, target: Frame | Crops | None = None):
        self._template = self._hand = hand
        self._size, self._quiet, self._look, self.redraw_ms = size, False, None, math.nan
        self._targets, self._images = {"nothing": None}, {}
        self._moved_last, self._curve, self._curve_of, self._note = None, None, None, ""
        self._poses = {"neutral": {}, "as modelled": rest_angles(hand)} | PRESETS | LETTERS
        self._make_sliders()
        self._make_pictures()
        self._make_buttons()
        super().__init__([self._pictures(), self._controls()], layout=widgets.Layout(flex_flow="row wrap"))
        self.add_class("hrlib-explorer")
        self._redraw()
        if target is not None:
            self.load("yours", frame_target(target))

    # -- the parts

    def _make_sliders(self):
        self.sliders = {
            name: slider(f"{a.place}: {a.plain}", a.low, a.high, 0, f"{name}, degrees", WIDE)
            for name, a in ANGLES.items()
        }
        self.view = {
            name: slider(plain, -most, most, 0, f"{name}, degrees", WIDE) for name, (plain, most) in VIEW_DEG.items()
        }
        self.place = {
            name: slider(plain, -most, most, 0, f"{name}, mm", WIDE) for name, (plain, most) in PLACE_MM.items()
        }
        self._free = self.sliders | self.view | self.place  # all that is fitted
        self.shape = {name: slider(name, 75, 130, 100, f"{name}, per cent", WIDE) for name in SHAPE_PARTS}
        self.blend = slider("", 0, 100, 0, "from pose A to pose B, per cent", WIDE)
        self.beyond = widgets.Checkbox(description="beyond the limits", indent=False, layout={"width": "auto"})
        self.target = widgets.Dropdown(
            options=["nothing", *PRESETS, *LETTERS],
            description="compare with",
            style={"description_width": "92px"},
            layout={"width": "200px"},
        )
        self.target.observe(self._redraw, "value")
        for name, control in self._free.items():
            control.observe(partial(self._moved, name), "value")
        for control in self.shape.values():
            control.observe(self._reshape, "value")
        self.blend.observe(self._blended, "value")
        self.beyond.observe(self._widen, "value")

    def _make_pictures(self):
        first = look(self._hand, pose({}), self._size).step.T_cam_joint
        splat = {"image_size": IMAGE_SIZE, "radius_px": PipelineSettings().radius_px, "cube_mm": CUBE_MM}
        self.hand_view = HandView(
            self._hand,
            self._size,
            T_cam_joint=first,
            shown=SHOWN_FIRST,
            turned_by_kernel=True,
            splat=splat | {"shown_px": self._size // 3 - 6},
            sliders=[*self._free.values()],
        )
        self.hand_view.on_msg(self._turn)
        self.numbers, self.error, self.curve = (
            widgets.HTML(),
            widgets.HTML(),
            widgets.HTML(layout={"height": "76px", "margin": "0"}),
        )
        self.numbers.add_class("hrlib-numbers")

    def _make_buttons(self):
        does = {name: lambda _, name=name: self.set(self._poses[name]) for name in self._poses}
        does |= {"keep as A": lambda _: self._keep("A"), "keep as B": lambda _: self._keep("B")}
        does |= {
            "copy as Python": lambda _: self._copy(),
            "save picture": lambda _: self.hand_view.send({"do": "save"}),
        }
        does |= {"reset": lambda _: self.reset(), "load": lambda _: self._load_typed()}
        does |= {"predict": lambda _: self.predict(), "fit": lambda _: self.fit()}
        does |= {name: lambda _, name=name: self._load_example(name) for name in EXAMPLES}
        self.buttons = {name: widgets.Button(description=name, layout=AS_WIDE_AS_ITS_WORDS) for name in does}
        for name, button in self.buttons.items():
            button.on_click(does[name])
        self.play = widgets.Play(min=0, max=2 * LEG, interval=80, repeat=True, tooltip="from A to B and back")
        self.play.observe(self._played, "value")
        self.typed = {
            "path": widgets.Text(placeholder="a depth image, or a folder of them", description="path", layout=FILLED),
            "focal_px": widgets.Text(
                placeholder="as the recorder says, e.g. 476 476", description="fx fy, px", layout=FILLED
            ),
            "unit_mm": widgets.Text(placeholder="as the recorder says, or 1", description="mm a count", layout=FILLED),
            "number": widgets.BoundedIntText(0, 0, 10**6, description="image", layout={"width": "180px"}),
        }
        self.code = widgets.Textarea(rows=8, layout={"width": "100%", "display": "none"})
        self._ends = dict(FIRST_ENDS)

    def _pictures(self) -> widgets.Widget:
        parts = [widgets.HTML("<b>the hand</b> (drag to turn it)"), self.hand_view, self.curve]
        return widgets.VBox(parts, layout={"width": f"{self._size + 12}px"})

    def _controls(self) -> widgets.Widget:
        panels = [[self.sliders[a.name] for a in ANGLES.values() if a.finger == finger] for finger in FINGERS]
        examples = row(widgets.HTML("a hand from a frame of:"), *(self.buttons[name] for name in EXAMPLES))
        target = [examples, *self.typed.values(), row(self.buttons["load"])]
        panels += [[*self.view.values(), *self.place.values()], [*self.shape.values()], target]
        titles = [*(finger.capitalize() for finger in FINGERS), "View", "Shape", "Target"]
        self.tabs = widgets.Tab([widgets.VBox(panel) for panel in panels], titles=titles)
        poses = row(*(self.buttons[name] for name in self._poses))
        ends = widgets.HBox([self.buttons["keep as A"], self.blend, self.buttons["keep as B"], self.play])
        last = (self.buttons[name] for name in ("copy as Python", "save picture", "reset"))
        options = row(self.target, self.buttons["predict"], self.buttons["fit"], self.beyond, *last)
        parts = [poses, ends, self.tabs, options, self.numbers, self.error, self.code]
        return widgets.VBox(parts, layout={"flex": "1 1 480px", "min_width": "420px"})

    # -- what they do

    @property
    def depth(self) -> Float[np.ndarray, "H W"]:
        """The hand's depth image, as the browser draws it."""
        return self._look.depth

    def angles_deg(self) -> dict[str, int]:
        """The sliders' angles by name, in degrees."""
        return {name: slider.value for name, slider in self.sliders.items()}

    def values(self) -> dict[str, int]:
        """What all sliders but those of the shape say: degrees by the names of angles and view, mm by those of the place."""
        return {name: slider.value for name, slider in self._free.items()}

    def set(self, angles_deg: Mapping[str, float], view_deg: Mapping[str, float] | None = None):
        """Move all sliders, to whole degrees, and redraw once. What is not named goes to zero; the view stays unless given."""
        pose(angles_deg, view_deg, not self.beyond.value)  # refuses what the sliders would silently clip
        with self._at_once():
            values = {**angles_deg, **(view_deg or {})}
            for name, slider in (self.sliders if view_deg is None else self.sliders | self.view).items():
                slider.value = round(values.get(name, 0))

    def reset(self):
        """Everything as it was at first: pose, view, shape, target, limits, A and B, and the 3D camera."""
        self.play.playing = False
        with self._at_once():
            self._ends = dict(FIRST_ENDS)
            self.beyond.value, self.target.value, self.play.value, self.blend.value = False, "nothing", 0, 0
            for slider in self._free.values():
                slider.value = 0
            for slider in self.shape.values():
                slider.value = 100
            self.code.layout.display = "none"
            self.hand_view.shown = SHOWN_FIRST
            self.hand_view.send({"do": "home"})
            self._reshape()

    @contextmanager
    def _at_once(self):
        """Many changes, one redraw."""
        before, self._quiet, self._moved_last = self._quiet, True, None
        try:
            yield
        finally:
            self._quiet = before
        self._redraw()

    def _keep(self, end: str):
        self._ends[end] = self.angles_deg()

    def _blended(self, change):
        if self._quiet:
            return
        share, (a, b) = change["new"] / 100, self._ends.values()
        between = {name: (1 - share) * a.get(name, 0) + share * b.get(name, 0) for name in ANGLES}
        with self._at_once():
            self._slide(between)

    def _slide(self, values: Mapping[str, float]):
        """The sliders as near to the values as whole numbers and the sliders' ends let them."""
        for name, value in values.items():
            slider = self._free[name]
            slider.value = round(min(max(value, slider.min), slider.max))

    def _played(self, change):
        self.blend.value = round(100 * (1 - abs(change["new"] - LEG) / LEG))

    def _widen(self, change):
        """Sliders that go past the limits, or again end there."""
        with self._at_once():
            for name, slider in self.sliders.items():
                more = BEYOND_DEG * change["new"]
                slider.min, slider.max = ANGLES[name].low - more, ANGLES[name].high + more

    def _turn(self, _, message: Mapping, buffers):
        """The hand was dragged: the sliders of the view follow, and with them all pictures."""
        yaw, pitch = self.view["yaw"], self.view["pitch"]
        with self._at_once():
            if message["do"] == "front":
                for slider in self.view.values():
                    slider.value = 0
            elif message["do"] == "turn":  # what is near the camera goes the way of the pointer
                yaw.value = (yaw.value - round(message["right_deg"]) + 180) % 360 - 180
                pitch.value = min(max(pitch.value + round(message["down_deg"]), pitch.min), pitch.max)

    def _copy(self):
        """Show the pose's code, and put it on the clipboard where the browser lets us."""
        values = self.values()
        view, place = {name: values[name] for name in self.view}, [values[name] for name in self.place]
        self.code.value = pose_code(self.angles_deg(), view, place)
        self.code.layout.display = ""
        self.hand_view.send({"do": "copy", "text": self.code.value})

    # -- the target and the fit

    def load(self, name: str, target: Crops):
        """Compare with a hand from a depth frame, as `explorer_target.frame_target` gives it."""
        self._targets[name] = target
        self._images.pop(name, None)
        with self._at_once():
            if name not in self.target.options:
                self.target.options = (*self.target.options, name)
            self.target.value = name

    def _load_example(self, name: str):
        with self._told():
            self.load(name, example_target(name, self._template))

    def _load_typed(self):
        with self._told():
            self.load("yours", read_target(**{name: field.value for name, field in self.typed.items()}))

    @contextmanager
    def _told(self):
        """What a user can mend is a sentence under the sliders, not an error."""
        try:
            yield
        except (ValueError, OSError) as error:
            self.error.value = f'<p role="alert" style="color: #d02020">{html.escape(str(error))}</p>'

    def predict(self):
        """The pose that the base model sees in the target: where a fit may begin."""
        with self._told(), self._at_once():
            self._slide(values_of(predicted(self._template, self._wanted_target())))

    def fit(self):
        """Gauss-Newton from the pose on the sliders towards the target; each step is shown, in whole degrees and mm."""
        with self._told():
            target, start, losses = self._wanted_target(), prediction_of(self.values()), [self._loss()]
            for number, found in fit_steps(self._hand, target, start):
                self._note = f"fit, step {number}"
                with self._at_once():
                    self._slide(values_of(found))
                losses.append(self._loss())
                curve = Curve("step", torch.arange(float(len(losses))), torch.tensor(losses))
                self.curve.value = drawn(curve, number, "the steps of the fit", self._size)
            self._note = ""

    def _wanted_target(self) -> Crops:
        if (target := self._target()) is None:
            raise ValueError("choose what to compare with, or load a frame in the tab Target")
        return target

    def _loss(self) -> float:
        """Eq. 1 of what is shown."""
        return self._look.step.loss.item()

    def _moved(self, name: str, change):
        if not self._quiet:
            self._moved_last = name
            self._redraw()

    def _redraw(self, change=None):
        if self._quiet:
            return
        started, values = time.perf_counter(), self.values()
        with reported(self.error, self.numbers):
            target = self._target_image()
            place = [values[name] for name in self.place]
            seen = self._look = look(self._hand, self._rotations(), self._size, target, place)
            self.hand_view.pose(seen.step.T_cam_joint)
            self.hand_view.compare(target)
        self.redraw_ms = 1000 * (time.perf_counter() - started)
        self._mark()
        self._tell_numbers(seen, target is None)
        self._draw_curve(values)

    def _rotations(self) -> Float[Tensor, "1 16 4"]:
        view_deg = {name: slider.value for name, slider in self.view.items()}
        return pose(self.angles_deg(), view_deg, not self.beyond.value)

    def _tell_numbers(self, seen: Look, nothing: bool):
        terms = {"loss (Eq. 1)": "-" if nothing else f"{self._loss():.3f}"}
        terms |= {"depth (Eq. 6)": "-" if nothing else f"{seen.terms['depth']:.4f}"}
        terms |= {
            "collision (Eq. 7)": f"{seen.collision_mm:.2f} mm",
            "physical (Eq. 8)": f"{seen.physical_rad:.2f} rad",
        }
        terms["drawn in"] = f"{self.redraw_ms:.0f} ms"
        numbers = [*([self._note] if self._note else []), *(f"{name}: <b>{value}</b>" for name, value in terms.items())]
        spans = " &emsp; ".join(f'<span style="white-space: nowrap">{number}</span>' for number in numbers)
        self.numbers.value = f'<div style="line-height: 1.5">{spans}</div>'

    def _draw_curve(self, values: Mapping[str, float]):
        """The loss along the slider that moved last; while it alone moves, only the mark on the curve does."""
        name, target = self._moved_last, self._target()
        if name is None or target is None:
            self.curve.value = "<i>its loss along a slider: choose what to compare<br>with, and move one</i>"
            return
        slider = self._free[name]
        others = tuple(value for other, value in values.items() if other != name)
        of = name, slider.min, slider.max, others, self.target.value, self._hand
        if of != self._curve_of:
            with _single_thread():
                self._curve = loss_along(self._hand, target, values, name, (slider.min, slider.max))
            self._curve_of = of
        self.curve.value = drawn(self._curve, slider.value, slider.description, self._size)

    def _mark(self):
        """Sliders beyond their limits have a red handle."""
        for name, slider in self.sliders.items():
            colour = None if ANGLES[name].low <= slider.value <= ANGLES[name].high else ACCENT
            if slider.style.handle_color != colour:
                slider.style.handle_color = colour

    def _target(self) -> Crops | None:
        """What is compared with: a loaded frame, or a pose of the template's hand, seen from the front."""
        name = self.target.value
        if name not in self._targets:
            self._targets[name] = pose_target(self._template, (PRESETS | LETTERS)[name])
        return self._targets[name]

    def _target_image(self) -> Tensor | None:
        name, target = self.target.value, self._target()
        if target is not None and name not in self._images:
            self._images[name] = splat_target(target)[0]
        return self._images.get(name)

    def _repr_mimebundle_(self, **kwargs):
        """With the hand and its depth image as a picture, for pages without a kernel."""
        bundle = super()._repr_mimebundle_(**kwargs)
        depth = (self._look.depth / BRIGHTEST * 255).clip(0, 255).astype(np.uint8)
        depth = Image.fromarray(depth).convert("RGB").resize((self._size, self._size), Image.Resampling.NEAREST)
        return with_picture(bundle, png(np.hstack([self._look.mesh, np.asarray(depth)])))

    def _reshape(self, change=None):
        factors = torch.tensor([slider.value / 100 for slider in self.shape.values()]).log()
        shape = HandShape(factors[0], factors[1:6], *factors[6:])
        self._hand = shaped(self._template, shape) if factors.any() else self._template  # not but for rounding
        self.hand_view.reshape(self._hand)
        with self._at_once():
            pass


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


def slider(
    text: str, low: int, high: int, value: int = 0, tip: str = "whole numbers", layout: Mapping[str, str] | None = None
) -> widgets.IntSlider:
    """Whole numbers: a slider that must round what it is set to sends the rounded value back, one redraw for each."""
    style = {"description_width": "150px" if layout else "96px"}
    return widgets.IntSlider(
        value,
        low,
        high,
        description=text,
        tooltip=f"{tip}: {low} to {high}",
        style=style,
        layout=layout or {"width": "300px"},
    )
