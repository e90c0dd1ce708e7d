"""The hand explorer of notebook 00: joint angles in degrees to pictures and numbers, and the sliders that set them.

`look` is the whole computation, a pure function; `Explorer` only connects it with widgets. An angle is named by its joint
and its axis, e.g. `index_base_flexion`; `ANGLES` lists all 45 with their limits and their names in plain words.
"""

import html
import io
import math
import time
import traceback
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import ipywidgets as widgets
import numba
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from . import plots
from .crop import Crops
from .hand import HandRig
from .joints import FINGERS, JOINT_NAMES, LIMITS_DEG
from .kinematics import euler_angles, from_euler
from .network import IMAGE_SIZE, Prediction
from .pipeline import Step, evaluate_step, to_crop
from .poses import view_rotation

AXES = {"flexion": "bend", "deviation": "sideways", "twist": "twist"}  # name in the code: in plain words
PLACES = {"base": "knuckle", "middle": "middle joint", "far": "end joint"}
THUMB_PLACES = {"base": "root joint", "middle": "knuckle", "far": "end joint"}  # the thumb's root is at the wrist
VIEW_DEG = {"yaw": ("turn left / right", 180), "pitch": ("nod", 90), "roll": ("tilt", 180)}  # plain words, +- range
CUBE_MM = 250.0
BRIGHTEST = 0.9  # depth value drawn white, as in plots.show_depth


@dataclass(frozen=True)
class Angle:
    """One angle of one joint: name in the code, joint 1 to 15, axis 0 to 2, limits in degrees, names in plain words."""

    name: str
    joint: int
    axis: int
    low: int
    high: int
    finger: str
    place: str
    plain: str


def _angles() -> dict[str, Angle]:
    angles = {}
    for joint, joint_name in enumerate(JOINT_NAMES[1:], 1):
        finger, part = joint_name.split("_")
        place = (THUMB_PLACES if finger == "thumb" else PLACES)[part]
        for axis, ((name, plain), (low, high)) in enumerate(zip(AXES.items(), LIMITS_DEG[joint_name], strict=True)):
            key = f"{joint_name}_{name}"
            angles[key] = Angle(key, joint, axis, low, high, finger, place, plain)
    return angles


ANGLES = _angles()


def _bent(**joints_deg) -> dict[str, float]:
    """Angles by name; a joint's value is its flexion, or (flexion, deviation, twist)."""
    triples = {name: value if isinstance(value, tuple) else (value, 0, 0) for name, value in joints_deg.items()}
    return {f"{joint}_{axis}": v for joint, triple in triples.items() for axis, v in zip(AXES, triple, strict=True)}


def _rolled(*fingers: str) -> dict[str, float]:
    return _bent(**{f"{finger}_{part}": v for finger in fingers for part, v in zip(PLACES, (80, 95, 55), strict=True)})


# Degrees; what is not named is zero, the neutral hand. The thumbs' and the pinch's angles were searched for, so that the
# tip rests on the finger it touches: 17 mm from bone to bone on rolled fingers, 10 mm from tip to tip of the pinch.
PRESETS: dict[str, dict[str, float]] = {
    "open": _bent(index_base=(0, -16, 0), ring_base=(0, 14, 0), pinky_base=(0, 30, 0)),
    "fist": _rolled("index", "middle", "ring", "pinky")
    | _bent(thumb_base=(21, -6, 20), thumb_middle=(15, 20, 0), thumb_far=80),
    "point": _rolled("middle", "ring", "pinky")
    | _bent(thumb_base=(35, -20, -1), thumb_middle=(4, 21, 0), thumb_far=78),
    "pinch": _bent(thumb_base=(11, 7, 10), thumb_middle=(18, -6, 0), thumb_far=19)
    | _bent(index_base=(56, -17, 0), index_middle=53, index_far=11, middle_base=12, middle_middle=16, middle_far=8)
    | _bent(ring_base=(8, 6, 0), ring_middle=12, ring_far=6, pinky_base=(4, 14, 0), pinky_middle=8, pinky_far=4),
}


def rest_angles(hand: HandRig) -> dict[str, float]:
    """The angles in degrees of the pose in which the hand's mesh was modelled."""
    rest = torch.rad2deg(euler_angles(hand.rest_rotations.double()))
    return {name: rest[angle.joint, angle.axis].item() for name, angle in ANGLES.items()}


def pose(
    angles_deg: Mapping[str, float], view_deg: Mapping[str, float] | None = None, within_limits: bool = True
) -> Tensor:
    """Slider values to a pose, [1, 16, 4] float64 unit quaternions. What is not named is zero: the neutral hand, its palm
    to the camera and its fingers up.

    Raises ValueError for an unknown name and (unless `within_limits` is False) for an angle outside of its limits.
    """
    radians = torch.zeros(1, 16, 3, dtype=torch.float64)
    for name, value in angles_deg.items():
        if name not in ANGLES:
            raise ValueError(f"unknown angle {name!r}; names are joint_axis, e.g. {next(iter(ANGLES))}")
        angle = ANGLES[name]
        low, high = (angle.low, angle.high) if within_limits else (-180, 180)
        if not low <= value <= high:
            plain = f"{angle.finger}, {angle.place}: {angle.plain}"
            raise ValueError(f"{name} ({plain}) must be within {low} to {high} degrees, got {value}")
        radians[0, angle.joint, angle.axis] = math.radians(value)
    view_deg = view_deg or {}
    for name, value in view_deg.items():
        if name not in VIEW_DEG or not math.isfinite(value):
            raise ValueError(f"view_deg must hold finite degrees of {', '.join(VIEW_DEG)}, got {name!r}: {value}")
    rotations = from_euler(radians)
    view = [torch.tensor([math.radians(view_deg.get(name, 0.0))], dtype=torch.float64) for name in VIEW_DEG]
    rotations[:, 0] = view_rotation(*view)
    return rotations


@dataclass(frozen=True)
class Look:
    """A posed hand to look at. mesh: shaded, with the skeleton over it, RGB uint8 [S, S, 3]; depth: splatted, [120, 120];
    collision_mm (Eq. 7), physical_rad (Eq. 8); step: everything that the method computed on the way."""

    mesh: np.ndarray
    depth: np.ndarray
    collision_mm: float
    physical_rad: float
    step: Step


@torch.no_grad()
def look(hand: HandRig, rotations: Tensor, size: int = 320) -> Look:
    """A pose [1, 16, 4] in a cube of 250 mm around the middle finger's base: its pictures and the terms of its loss."""
    empty = torch.zeros(1, IMAGE_SIZE, IMAGE_SIZE)
    cube = Crops(empty, torch.zeros(1, 0, 3), centre_mm=torch.zeros(1, 3), count=torch.zeros(1), cube_mm=CUBE_MM)
    with _single_thread():
        # there is no frame to compare with: the target is an empty image, and the depth term says nothing
        step = evaluate_step(Prediction(rotations.to(hand.vertices_mm), None), hand, cube, target=empty)
        mesh = plots.shaded_hands(hand, step.T_cam_joint, cube, size)[0]
    mesh = plots.with_skeleton(mesh, to_crop(step.joints_mm, cube)[0].numpy())
    return Look(mesh, step.rendered[0].numpy(), step.terms["collision"].item(), step.terms["physical"].item(), step)


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


def png(picture: np.ndarray, size: int | None = None) -> bytes:
    """RGB uint8 [H, W, 3], or a depth image [H, W], as PNG; pixels are enlarged, not blurred."""
    if picture.ndim == 2:
        picture = (picture / BRIGHTEST * 255).clip(0, 255).astype(np.uint8)
    image = Image.fromarray(picture)
    image = image.resize((size, size), Image.Resampling.NEAREST) if size else image
    buffer = io.BytesIO()
    image.save(buffer, "png", compress_level=1)  # fast; the picture lives until the next move
    return buffer.getvalue()


class Explorer(widgets.VBox):
    """Sliders over all angles and the view, the shaded mesh and its depth image. `redraw_ms`: how long the last one took.

    What goes wrong while it redraws is shown under the pictures, and raised.
    """

    def __init__(self, hand: HandRig, size: int = 320):
        self._hand, self._size, self._quiet, self.redraw_ms = hand, size, False, math.nan
        self.sliders = {name: _slider(a.plain, a.low, a.high, name) for name, a in ANGLES.items()}
        self.view = {name: _slider(plain, -limit, limit, name) for name, (plain, limit) in VIEW_DEG.items()}
        frame = {"width": f"{size}px", "object_fit": "contain", "margin": "0 8px 0 0", "border": "1px solid #9aa5b1"}
        self.mesh, self.depth = (widgets.Image(format="png", layout=frame) for _ in range(2))
        self.numbers, self.error = widgets.HTML(), widgets.HTML()
        presets = {"reset": {}, "as modelled": rest_angles(hand)} | PRESETS
        self.buttons = {name: widgets.Button(description=name) for name in presets}
        for name, button in self.buttons.items():
            button.on_click(lambda _, name=name: self.set(presets[name], {} if name == "reset" else None))
        for slider in (*self.sliders.values(), *self.view.values()):
            slider.observe(self._redraw, "value")
        tabs = widgets.Tab([self._panel(finger) for finger in FINGERS], titles=[f.capitalize() for f in FINGERS])
        buttons, pictures, view = _row(*self.buttons.values()), _row(self.mesh, self.depth), _row(*self.view.values())
        super().__init__([buttons, pictures, self.numbers, self.error, view, tabs])
        self._redraw()

    def _panel(self, finger: str) -> widgets.Widget:
        """The nine sliders of a finger, a column a joint, from the palm to the tip."""
        columns: dict[str, list[widgets.Widget]] = {}
        for angle in ANGLES.values():
            if angle.finger == finger:
                title = widgets.HTML(f"<b>{angle.place}</b>")
                columns.setdefault(angle.place, [title]).append(self.sliders[angle.name])
        return _row(*(widgets.VBox(column) for column in columns.values()))

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
        try:
            seen = look(self._hand, pose(*values), self._size)
            self.depth.value = png(seen.depth, self._size)
            self.mesh.value = png(seen.mesh)
        except Exception:  # a callback's error would end in a log that nobody reads
            self.error.value = f'<pre role="alert" style="color: #b00020">{html.escape(traceback.format_exc())}</pre>'
            self.numbers.value = "not drawn: see the error below"
            raise
        self.error.value = ""
        self.redraw_ms = 1000 * (time.perf_counter() - started)
        self.numbers.value = (
            f"collision (Eq. 7): <b>{seen.collision_mm:.2f} mm</b> &emsp; physical (Eq. 8): "
            f"<b>{seen.physical_rad:.2f} rad</b> &emsp; drawn in {self.redraw_ms:.0f} ms"
        )


def _row(*children: widgets.Widget) -> widgets.Widget:
    return widgets.HBox(children, layout=widgets.Layout(flex_flow="row wrap"))  # a narrow window gets columns


def _slider(plain: str, low: int, high: int, name: str) -> widgets.IntSlider:
    """Whole degrees: a slider that must round what it is set to sends the rounded value back, one redraw for each."""
    look = {"style": {"description_width": "96px"}, "layout": {"width": "300px"}}
    return widgets.IntSlider(0, low, high, description=plain, tooltip=f"{name}, {low} to {high} degrees", **look)
