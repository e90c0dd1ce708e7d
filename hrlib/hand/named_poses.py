"""Poses in words: joint angles by name in degrees, presets, letters of the ASL alphabet, and views of a raised hand."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..support.roma_alone import roma
from .joints import JOINT_NAMES, LIMITS_DEG
from .rig import HandRig
from .rotations import euler_angles, from_euler, rotation_matrix

# names in the code: in plain words
AXES = {"flexion": "bend", "deviation": "sideways", "twist": "twist"}
PLACES = {"base": "knuckle", "middle": "middle joint", "far": "end joint"}
THUMB_PLACES = {"base": "root joint", "middle": "knuckle", "far": "end joint"}  # the thumb's root is at the wrist
VIEW_DEG = {"yaw": ("turn left / right", 180), "pitch": ("nod", 90), "roll": ("tilt", 180)}  # and the range, +-


@dataclass(frozen=True)
class Angle:
    """One angle of one joint."""

    name: str  # joint and axis, e.g. index_base_flexion
    joint: int  # 1 to 15
    axis: int  # 0 to 2, as in AXES
    low: int  # degrees, as `high`: the limits
    high: int
    finger: str
    place: str  # in plain words, as `plain`
    plain: str


def _angle(joint: str, axis: str) -> Angle:
    (finger, part), number = joint.split("_"), list(AXES).index(axis)
    place = (THUMB_PLACES if finger == "thumb" else PLACES)[part]
    low, high = LIMITS_DEG[joint][number]
    return Angle(f"{joint}_{axis}", JOINT_NAMES.index(joint), number, low, high, finger, place, AXES[axis])


ANGLES = {f"{joint}_{axis}": _angle(joint, axis) for joint in JOINT_NAMES[1:] for axis in AXES}

# -- presets: degrees; what is not named is zero, the neutral hand -------------------------------------------------------


def _bent(**joints_deg) -> dict[str, float]:
    """Angles by name, of joints with a flexion or with (flexion, deviation, twist)."""
    triples = {name: value if isinstance(value, tuple) else (value, 0, 0) for name, value in joints_deg.items()}
    return {f"{joint}_{axis}": v for joint, triple in triples.items() for axis, v in zip(AXES, triple, strict=True)}


def _rolled(*fingers: str) -> dict[str, float]:
    """Angles of fingers rolled up into the palm."""
    return _bent(**{f"{finger}_{part}": v for finger in fingers for part, v in zip(PLACES, (80, 95, 55), strict=True)})


# The thumbs' and the pinch's angles were searched for, so that the tip rests on the finger it touches: 17 mm from bone to
# bone on rolled fingers, 10 mm from tip to tip of the pinch.
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


# -- from words to rotations and back -------------------------------------------------------------------------------------


def rest_angles(hand: HandRig) -> dict[str, float]:
    """The angles in degrees of the pose in which the hand's mesh was modelled."""
    return named(hand.rest_rotations[None])[0]


def named(rotations: Float[Tensor, "1 16 4"]) -> tuple[dict[str, float], dict[str, float]]:
    """Angles and view of one pose in degrees by name: the inverse of `pose`."""
    angles = torch.rad2deg(euler_angles(rotations.double()))[0]
    R = rotation_matrix(rotations[0, 0].double()) * torch.tensor([1.0, -1.0, -1.0])  # the half turn undone
    sine = R[2, 1].clamp(-1, 1)
    view = torch.atan2(-R[2, 0], R[2, 2]), torch.asin(sine), torch.atan2(-R[0, 1], R[1, 1])
    view_deg = dict(zip(VIEW_DEG, torch.rad2deg(torch.stack(view)).tolist(), strict=True))
    return {name: angles[angle.joint, angle.axis].item() for name, angle in ANGLES.items()}, view_deg


def pose(
    angles_deg: Mapping[str, float], view_deg: Mapping[str, float] | None = None, within_limits: bool = True
) -> Float[Tensor, "1 16 4"]:
    """Named angles and view in degrees as unit quaternions xyzw in float64.

    What is not named is zero: the neutral hand, its palm to the camera and its fingers up.
    Raises ValueError for an unknown name and (unless `within_limits` is False) for an angle outside of its limits.
    """
    radians, view_deg = torch.zeros(1, 16, 3, dtype=torch.float64), view_deg or {}
    for name, value in angles_deg.items():
        if name not in ANGLES:
            raise ValueError(f"unknown angle {name!r}; names are joint_axis, e.g. {next(iter(ANGLES))}")
        angle = ANGLES[name]
        low, high = (angle.low, angle.high) if within_limits else (-180, 180)
        if not low <= value <= high:
            plain = f"{angle.finger}, {angle.place}: {angle.plain}"
            raise ValueError(f"{name} ({plain}) must be within {low} to {high} degrees, got {value}")
        radians[0, angle.joint, angle.axis] = math.radians(value)
    for name, value in view_deg.items():
        if name not in VIEW_DEG or not math.isfinite(value):
            raise ValueError(f"view_deg must hold finite degrees of {', '.join(VIEW_DEG)}, got {name!r}: {value}")
    rotations = from_euler(radians)
    view = [torch.tensor([math.radians(view_deg.get(name, 0.0))], dtype=torch.float64) for name in VIEW_DEG]
    rotations[:, 0] = view_rotation(*view)
    return rotations


def view_rotation(
    yaw: Float[Tensor, " B"], pitch: Float[Tensor, " B"], roll: Float[Tensor, " B"]
) -> Float[Tensor, "B 4"]:
    """Wrist rotation of a raised hand, from radians: zero angles show the palm, fingers up."""

    def about(axis: int, angle: Tensor) -> Tensor:
        q = angle.new_zeros(*angle.shape, 4)
        q[..., axis], q[..., 3] = torch.sin(angle / 2), torch.cos(angle / 2)
        return q

    up = yaw.new_tensor([1.0, 0.0, 0.0, 0.0])  # half a turn about x: fingers up (camera y is down), palm to the camera
    return roma.quat_composition([about(2, roll), about(0, pitch), about(1, yaw), up.expand(len(yaw), 4)])


def yaw_of(views: Float[Tensor, "B 4"]) -> Float[Tensor, " B"]:
    """The yaw in radians of `view_rotation`: 0 where a raised hand shows its palm, +-pi its back."""
    R = rotation_matrix(views)
    return torch.atan2(-R[:, 2, 0], -R[:, 2, 2])
