"""Poses in words: angles by name, in degrees, and views; presets and letters of the ASL alphabet."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import roma
import torch
from torch import Tensor

from .joints import JOINT_NAMES, LIMITS_DEG
from .rig import HandRig
from .rotations import euler_angles, from_euler, rotation_matrix

VIEW_DEG = {"yaw": ("turn left / right", 180), "pitch": ("nod", 90), "roll": ("tilt", 180)}  # plain words, +- range

AXES = {"flexion": "bend", "deviation": "sideways", "twist": "twist"}  # name in the code: in plain words

PLACES = {"base": "knuckle", "middle": "middle joint", "far": "end joint"}

THUMB_PLACES = {"base": "root joint", "middle": "knuckle", "far": "end joint"}  # the thumb's root is at the wrist


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

# Handshapes of the American Manual Alphabet whose four fingers are either straight or rolled up (as in
# `datasets.fingerspelling.FINGER_STATES`); the thumb out, or across the fingers.
_THUMB_OUT = _bent(thumb_base=(-20, 25, 0))

_THUMB_ACROSS = {name: value for name, value in PRESETS["point"].items() if name.startswith("thumb")}

LETTERS: dict[str, dict[str, float]] = {
    "A": _rolled("index", "middle", "ring", "pinky"),
    "B": _bent(thumb_base=(30, -25, 0), thumb_middle=(50, 0, 0), thumb_far=60),
    "D": PRESETS["point"],
    "I": _rolled("index", "middle", "ring") | _THUMB_ACROSS,
    "L": _rolled("middle", "ring", "pinky") | _THUMB_OUT,
    "S": PRESETS["fist"],
    "V": _rolled("ring", "pinky") | _THUMB_ACROSS | _bent(index_base=(0, -14, 0), middle_base=(0, 10, 0)),
    "W": _rolled("pinky") | _THUMB_ACROSS | _bent(index_base=(0, -14, 0), ring_base=(0, 12, 0)),
    "Y": _rolled("index", "middle", "ring") | _THUMB_OUT | _bent(pinky_base=(0, 25, 0)),
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


def view_rotation(yaw: Tensor, pitch: Tensor, roll: Tensor) -> Tensor:
    """Wrist rotation [B, 4] of a raised hand: zero angles show the palm, fingers up; radians [B] each."""

    def about(axis, angle):
        q = angle.new_zeros(*angle.shape, 4)
        q[..., axis], q[..., 3] = torch.sin(angle / 2), torch.cos(angle / 2)
        return q

    up = yaw.new_tensor([1.0, 0.0, 0.0, 0.0])  # half a turn about x: fingers up (camera y is down), palm to the camera
    q = roma.quat_composition([about(2, roll), about(0, pitch), about(1, yaw), up.expand(len(yaw), 4)])
    return q


def yaw_of(views: Tensor) -> Tensor:
    """By how much a raised hand is turned about its own axis, wrist rotations [B, 4] -> [B] rad: 0 shows the palm, +-pi
    the back. Inverse of `view_rotation` in its first angle."""
    R = rotation_matrix(views)
    return torch.atan2(-R[:, 2, 0], -R[:, 2, 2])
