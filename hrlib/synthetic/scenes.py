"""Whole synthetic depth frames with a label for every pixel: what the hand finder learns from.

A scene is a hand with its forearm, what is around it, a camera and a sensor. The hand may be raised before the camera, over
a table below it, the camera wearer's own, or fill the image as in data sets of cropped hands. Some scenes show no hand.

The hand and the arm are meshes (`rasterise`), everything else solids (`solids`); the nearest surface gives each pixel its
label. Scenes are composed as of a right hand; half of them are mirrored before the sensor measures them.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import cache

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from scipy.ndimage import maximum_filter, uniform_filter
from scipy.spatial.transform import Rotation
from torch import Generator, Tensor

from ..hand.joints import limits_rad
from ..hand.kinematics import forward_kinematics
from ..hand.named_poses import LETTERS, PRESETS, pose
from ..hand.rig import HandRig
from ..hand.rotations import euler_angles, from_euler
from ..hand.shape import HandShape
from ..hand.skinning import skin, skinning_transforms
from ..support.compiled import compiled
from .arms import Arm, forearm
from .frames import wrist_loop
from .population import Population
from .poses import fingers_together, sample_poses
from .rasterise import rasterise
from .sensor import measure
from .sensor.model import OUTLINE_MM, random_sensor
from .solids import BOX, CYLINDER, ELLIPSOID, cast, cone, solid
from .surroundings import any_turn, clutter, everyday, furniture, person, room, slab_behind, thing, unit, upper_arm

ELSE, HAND, FOREARM = 0, 1, 2
SIZE = (240, 320)  # (H, W) px
SAME_HAND = 8  # scenes in a row that show one person's hand
CENTRE_MM = (0.0, 85.0, 8.0)  # the template's middle in the wrist's frame
HAND_MM = 180.0  # from the wrist to the tip of the middle finger, of the template

FIELD_DEG = (45.0, 90.0)  # horizontal field of view: from a Kinect v1 to a wide time-of-flight camera
SPAN_PX = (32.0, 330.0)  # length of a hand in the image, least and greatest
VIEWS = {"raised": 0.28, "above": 0.36, "own": 0.14, "any": 0.06, "close": 0.16}  # shares of the scenes
DISTANCE_MM = {"raised": (250, 1200), "above": (280, 1000), "own": (200, 600), "any": (200, 1000), "close": (250, 900)}
NO_HAND = 0.18  # share of the scenes without a hand
TWO_HANDS = 0.18
NOTHING_AROUND = 0.2
UNDER_HAND = 0.5  # share of the tables that lie under the hand alone: the arm may come from beyond their edge
TOGETHER = 0.2  # share of the hands whose fingers lie beside each other
# share of the scenes before a stereo camera whose filters fill and smooth: outlines widen and become ramps
SMEARED = 0.25
# how far a nearer surface reaches beyond its outline, and half the side of the window that is averaged
FATTER_PX, WINDOW_PX = (0.0, 4.0), (1.0, 4.5)
RAMP_MM = 25.0  # a pixel of a ramp farther from its surface belongs to none
UNEVEN = 0.3  # share of the scenes with uneven surfaces
LOOK_PX = 5  # so far aside a sensor's pixel may see: half the widest window that stereo matches
FLYING_MM = 40.0  # a measurement farther from every surface belongs to none; twice the worst noise on a hand
EXACT = 0.08  # share of the scenes that no sensor spoils
# A hand shows its palm or back, and so its side, if the palm's normal and the line of sight are less than 60 degrees apart:
# seen from the thumb's side or along the fingers, a left hand looks as a right one does. Half of it must be within the image,
# measured and hidden by nothing, in so many pixels; and a hand of the other side must not be there
SHOWS_SIDE = 0.5  # cosine of these 60 degrees
SEEN_SHARE = 0.5
SEEN_PX = 120
LEAST_SHARE = 0.3  # of the hand's outline that is seen; surroundings that hide more are left out
ATTEMPTS = 3  # to draw a scene in which enough of the hand is seen
LEAST_PX = 50  # of a hand: fewer are no hand


@dataclass(frozen=True)
class Scenes:
    """B depth frames with labels; each row is a scene."""

    depth_mm: Float[np.ndarray, "B H W"]  # float32 as the sensor measures it, 0 = nothing
    label: UInt8[np.ndarray, "B H W"]  # 0 nothing measured or anything else, 1 hand, 2 its forearm
    intrinsics: Float[np.ndarray, "B 4"]  # fx, fy, cx, cy, px
    hand: Bool[np.ndarray, " B"]  # a hand at all
    right: Bool[np.ndarray, " B"]  # the nearer hand is a right one
    # enough of its palm or back is seen to tell its side, and no hand of the other side
    shows_side: Bool[np.ndarray, " B"]
    at_border: Bool[np.ndarray, " B"]  # part of that hand lies outside of the image

    def __len__(self):
        return len(self.depth_mm)

    def __getitem__(self, index) -> "Scenes":
        return Scenes(*(getattr(self, f.name)[index] for f in fields(self)))


@dataclass
class _Limb:
    """A hand and its arm in the camera frame."""

    hand_mm: np.ndarray  # [V, 3]
    arm_mm: np.ndarray  # [A, 3]
    faces: np.ndarray
    arm_faces: np.ndarray
    elbow_mm: np.ndarray  # [3]
    along: np.ndarray  # [3] from the wrist to the elbow
    whole: bool  # the arm reaches up to the elbow
    R: np.ndarray  # [3, 3] of the wrist
    fingers: np.ndarray  # [16, 4] rotations, of which the wrist's is none
    wrist_mm: np.ndarray  # [3]

    @property
    def points_mm(self) -> np.ndarray:
        return np.concatenate([self.hand_mm, self.arm_mm])

    def mirrored(self, x_mm: float) -> "_Limb":
        """The other side's hand: mirrored in the plane at x."""
        flip = np.array([-1.0, 1.0, 1.0])
        places = ("hand_mm", "arm_mm", "elbow_mm", "wrist_mm")
        moved = {name: getattr(self, name) * flip + [2 * x_mm, 0, 0] for name in places}
        turned = {name: getattr(self, name)[:, ::-1] for name in ("faces", "arm_faces")}
        return replace(self, **moved, **turned, along=self.along * flip, R=self.R * flip[:, None])


@dataclass(frozen=True)
class Held:
    """The main hand of a scene and how it is held, before the scene is mirrored: a right one."""

    hand: HandRig
    shape: HandShape
    rotations: Float[Tensor, "16 4"]  # unit quaternions xyzw; the wrist's turns it to the camera
    wrist_mm: Float[Tensor, "3"]  # camera frame


@dataclass
class Composed:
    """A scene before a sensor measures it."""

    depth_mm: Float[np.ndarray, "H W"]
    label: UInt8[np.ndarray, "H W"]
    intrinsics: Float[np.ndarray, "4"]
    hand_mm: Float[np.ndarray, "H W"]  # the main hand as if nothing else were there
    second: Bool[np.ndarray, "H W"]  # pixels of another hand
    inside: float  # share of the main hand within the image
    facing: float  # cosine between its palm's normal and the line of sight
    same_side: bool  # there is no hand of the other side
    right: bool
    main: Held | None = None  # None: a scene without a hand

    @property
    def seen(self) -> float:
        """Share of the main hand's pixels that nothing hides; 1 without a hand."""
        main = (self.label == HAND) & ~self.second
        return float(main.sum() / whole) if (whole := (self.hand_mm > 0).sum()) else 1.0


def draw_scenes(count: int, seed: int) -> Scenes:
    """`count` random scenes, at least one, the same for the same seed; more of them begin with the same ones."""
    scenes = [_measured(composed, random) for composed, random in _composed(count, seed)]
    return Scenes(*(np.stack(column) for column in zip(*scenes, strict=True)))


def compose_scenes(count: int, seed: int) -> list[Composed]:
    """The scenes of `draw_scenes` before their sensors measure them."""
    return [composed for composed, _ in _composed(count, seed)]


def measured_scenes(seed: int) -> Iterator[tuple[Scenes, Held | None]]:
    """The scenes of `draw_scenes` one by one without an end, each with how its main hand is held; None without a hand."""
    for composed, random in _composed(sys.maxsize, seed):
        yield Scenes(*(np.stack([part]) for part in _measured(composed, random))), composed.main


@cache
def _population() -> Population:
    return Population.load()


def _composed(count: int, seed: int) -> Iterator[tuple[Composed, np.random.Generator]]:
    """Each composed scene with the random numbers of its sensor."""
    population = _population()
    loop = wrist_loop(population.template.faces).numpy()
    for first in range(0, count, SAME_HAND):
        random = np.random.default_rng([seed, first])
        drawer = _Drawer(*population.hand(int(random.integers(2**31))), loop, random)
        for one in range(min(SAME_HAND, count - first)):
            yield drawer.compose(one), np.random.default_rng([seed, first, one])


# -- composing --------------------------------------------------------------------------------------------------------


class _Drawer:
    """Composes scenes of one person's hand."""

    def __init__(self, hand: HandRig, shape: HandShape, loop: np.ndarray, random: np.random.Generator):
        self.hand, self.shape = hand, shape
        self.seeds = random.integers(2**31, size=(SAME_HAND, ATTEMPTS))
        self.faces = hand.faces.numpy()
        self.opening = (hand.vertices_mm[loop] - hand.joints_mm[0]).numpy()
        generator = Generator().manual_seed(int(random.integers(2**31)))
        self.fingers = finger_poses(2 * SAME_HAND, hand, random, generator)
        self.scale = float(hand.vertices_mm[:, 1].max()) / HAND_MM

    def compose(self, number: int) -> Composed:
        """One of the SAME_HAND scenes; drawn again if its own arm hides the hand."""
        for seed in self.seeds[number]:
            scene = self._attempt(number, np.random.default_rng(seed))
            if scene.seen >= LEAST_SHARE:
                break
        return scene

    def _attempt(self, number: int, random: np.random.Generator) -> Composed:
        """The same, whatever is seen of the hand."""
        view = random.choice(list(VIEWS), p=list(VIEWS.values()))
        R, down = view_of(view, random)
        intrinsics, wrist = self._place(view, R, random)
        fingers, held = self.fingers[number], np.zeros((0, 16))
        if random.random() < 0.2:
            fingers, held = self._grasp(random, R, wrist)
        main = self._limb(fingers, R, wrist, view == "own", random)
        limbs, same_side = [main], True
        if random.random() < TWO_HANDS:
            second, same_side = self._second(view, number, wrist, random)
            limbs.append(second)
        if random.random() < NO_HAND:
            limbs, held = [], self._no_hand(main, random)
        solids = np.concatenate([held, self._around(view, main, down, bool(limbs), random)])
        if view == "close":
            intrinsics = zoomed(intrinsics, main, random)
        behind = self._behind(solids, intrinsics, random)
        scene = self._z_buffer(limbs, behind, intrinsics)
        if scene.seen < LEAST_SHARE:
            scene = self._z_buffer(limbs, np.zeros_like(behind), intrinsics)
        towards = main.hand_mm.mean(0)
        scene.facing = float(R[:, 2] @ towards / np.linalg.norm(towards))
        scene.same_side = same_side
        scene.main = self._held(main) if limbs else None
        _cut(scene, view, main, random)
        return scene if random.random() < 0.5 else _mirrored(scene)

    def _place(self, view: str, R: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """fx, fy, cx, cy (px), and where the wrist is (mm, camera frame)."""
        height, width = SIZE
        f = width / 2 / np.tan(np.radians(random.uniform(*FIELD_DEG)) / 2)
        centre = np.array([(width - 1) / 2, (height - 1) / 2]) + random.normal(0, 0.015, 2) * width
        low, high = DISTANCE_MM[view]
        low, high = max(low, f * HAND_MM / SPAN_PX[1]), min(high, f * HAND_MM / SPAN_PX[0])
        z = np.exp(random.uniform(np.log(low), np.log(max(high, low))))
        margin = 0.02 if random.random() < 0.2 else 0.16
        at = random.uniform(margin, 1 - margin, 2) * [width - 1, height - 1]
        ray = np.array([*((at - centre) / f), 1.0])
        wrist = ray * z - R @ (np.array(CENTRE_MM) * self.scale)
        return np.array([f, f, *centre]), wrist

    def _limb(
        self, fingers: np.ndarray, R: np.ndarray, wrist: np.ndarray, whole: bool, random: np.random.Generator
    ) -> _Limb:
        """The posed hand with a random arm, up to the elbow if `whole`."""
        q = torch.from_numpy(fingers)[None].float()
        T = forward_kinematics(self.hand, q, torch.zeros(1, 3))
        local = skin(self.hand.vertices_mm, self.hand.weights, skinning_transforms(self.hand, T))[0].numpy()
        arm = random_arm(self.scale, whole, random)
        arm_mm, arm_faces, (elbow, along) = forearm(self.opening, arm)
        whole = arm.length_mm >= arm.whole_mm
        return _Limb(
            local @ R.T + wrist, arm_mm @ R.T + wrist, self.faces, arm_faces, R @ elbow + wrist, R @ along, whole, R,
            fingers, wrist,
        )  # fmt: skip

    def _held(self, limb: _Limb) -> Held:
        rotations = torch.from_numpy(limb.fingers).float()
        rotations[0] = torch.from_numpy(Rotation.from_matrix(limb.R).as_quat())
        return Held(self.hand, self.shape, rotations, torch.from_numpy(limb.wrist_mm).float())

    def _grasp(self, random, R, wrist) -> tuple[np.ndarray, np.ndarray]:
        """A pose that holds something, and the thing."""
        radius = random.uniform(4, 42)
        kind = random.choice(["bar", "ball", "box", "cup"])
        palm = np.array([0.0, 92.0 - 0.2 * radius, 14.0 + radius]) * self.scale
        long = random.uniform(45, 130)
        # a bar lies across the palm, a little slanted
        slant = random.normal(0.25, 0.2)
        across = np.array([np.cos(slant), np.sin(slant), 0.0])
        axes = np.stack([np.cross(across, [0, 0, 1.0]), across, [0, 0, 1.0]], 1)
        centre, turn = R @ palm + wrist, R @ axes
        if kind == "ball":
            rows = solid(ELLIPSOID, centre, np.full(3, radius), turn)[None]
        elif kind == "bar":
            rows = cone(
                centre - turn[:, 1] * long, centre + turn[:, 1] * long, radius, radius * random.uniform(0.6, 1)
            )[None]
        elif kind == "box":
            rows = solid(BOX, centre, np.array([random.uniform(0.8, 2) * radius, long, radius * 0.8]), turn)[None]
        else:
            rows = solid(CYLINDER, centre, np.array([radius, min(long, 80), radius]), turn)[None]
        return grasp(radius / self.scale, random), rows

    def _second(self, view: str, number: int, wrist: np.ndarray, random: np.random.Generator) -> tuple[_Limb, bool]:
        """Another hand beside or behind the first, and whether it is of the same side."""
        R, _ = view_of(view, random)
        way = random.standard_normal(3) * [1.0, 0.6, 0.5]
        place = wrist + unit(way) * random.uniform(110, 330) + [0, 0, random.choice([0, 0, random.uniform(0, 500)])]
        place[2] = max(place[2], wrist[2] - 60, 200)
        other = self._limb(self.fingers[SAME_HAND + number], R, place, view == "own", random)
        if random.random() < 0.65:
            return other.mirrored(place[0]), False
        return other, True

    def _no_hand(self, main: _Limb, random) -> np.ndarray:
        """Instead of a hand: things at its place, or nothing."""
        middle = main.hand_mm.mean(0)
        rows = [np.zeros((0, 16))]
        for _ in range(random.choice([0, 1, 1, 1, 2, 3])):
            place = middle + random.standard_normal(3) * 40
            rows.append(thing(random, place, any_turn(random)))
        return np.concatenate(rows)

    def _around(self, view: str, main: _Limb, down: np.ndarray, has_hand: bool, random) -> np.ndarray:
        """Everything that is neither hand nor forearm nor held."""
        rows = [np.zeros((0, 16))]
        if has_hand and main.whole and (view == "own" or random.random() < 0.8):
            away = _to_shoulder(view, main, down, random)
            arm, shoulder = upper_arm(random, main.elbow_mm, away, 42 * self.scale)
            rows.append(arm)
            if view in ("raised", "any", "close") and random.random() < 0.6:
                facing = unit(np.array([random.normal(0, 0.4), 0, -1.0]))
                rows.append(person(random, shoulder, down, facing, 1.0, max(self.scale, 0.75)))
        if random.random() < NOTHING_AROUND:
            return np.concatenate(rows)
        rows += _planes(view, main, down, random)
        middle = main.hand_mm.mean(0)
        if random.random() < 0.2:  # somebody behind the hand
            far = random.choice([random.uniform(60, 300), random.uniform(200, 1500)])
            place = middle + [random.normal(0, 250), random.normal(-50, 150), far + 100]
            rows.append(person(random, place, down, unit(np.array([random.normal(0, 0.6), 0, -1.0]))))
        for _ in range(random.choice([0, 0, 1, 2])):  # near the hand
            place = middle + unit(random.standard_normal(3)) * random.uniform(110, 400)
            place[2] = max(place[2], middle[2] - 80)
            rows.append((everyday if random.random() < 0.6 else thing)(random, place, any_turn(random)))
        if random.random() < 0.08:  # before it
            place = middle * random.uniform(0.6, 0.9) + random.standard_normal(3) * [60, 60, 0]
            rows.append(everyday(random, place, any_turn(random)))
        return np.concatenate(rows)

    def _behind(self, solids: np.ndarray, intrinsics: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Depth image of the solids; in some scenes their surfaces are uneven, as cloth and walls are."""
        depth = cast(solids, intrinsics.astype(np.float32), SIZE)
        if random.random() < UNEVEN:
            nodes = int(random.integers(5, 25)), int(random.integers(5, 33))
            rows, columns = (_spline(length, count) for length, count in zip(SIZE, nodes, strict=True))
            bumps = rows @ random.uniform(0, random.uniform(2, 16), nodes) @ columns.T
            depth += np.where(depth > 0, bumps, 0).astype(np.float32)  # backward only: the hand may touch the surface
        return depth

    def _z_buffer(self, limbs: list[_Limb], behind: np.ndarray, intrinsics: np.ndarray) -> Composed:
        """The nearest surface of each pixel and its label."""
        intrinsics, depth = intrinsics.astype(np.float32), behind.copy()
        label = np.zeros(SIZE, np.uint8)
        alone, second, inside = np.zeros(SIZE, np.float32), np.zeros(SIZE, bool), 0.0
        for number, limb in enumerate(limbs):
            hand = _drawn(limb.hand_mm, limb.faces, intrinsics)
            arm = _drawn(limb.arm_mm, limb.arm_faces, intrinsics)
            for layer, name in ((arm, FOREARM), (hand, HAND)):
                nearer = (layer > 0) & ((layer < depth) | (depth == 0))
                depth[nearer], label[nearer], second[nearer] = layer[nearer], name, number > 0
            if number == 0:
                alone, inside = hand, _inside(limb.hand_mm, intrinsics)
        return Composed(depth, label, intrinsics, alone, second & (label == HAND), inside, 0.0, True, True)


def _spline(length: int, nodes: int) -> np.ndarray:
    """[length, nodes]: weights of a quadratic B-spline, which turn random numbers into a smooth curve."""
    away = np.abs(np.linspace(1, nodes - 2, length)[:, None] - np.arange(nodes))
    return np.where(away < 0.5, 0.75 - away**2, 0.5 * np.maximum(1.5 - away, 0) ** 2)


def _drawn(vertices: np.ndarray, faces: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    vertices = np.ascontiguousarray(vertices[None], np.float32)
    return rasterise(vertices, np.ascontiguousarray(faces), intrinsics[None], SIZE, closed=True)[0]


def _inside(points_mm: np.ndarray, intrinsics: np.ndarray) -> float:
    """Share of the points within the image."""
    px = points_mm[:, :2] / points_mm[:, 2:] * intrinsics[:2] + intrinsics[2:]
    return float(((px >= -0.5) & (px <= np.array(SIZE[::-1]) - 0.5)).all(1).mean())


def _mirrored(scene: Composed) -> Composed:
    """The same scene in a mirror: a left hand."""
    fx, fy, cx, cy = scene.intrinsics
    intrinsics = np.array([fx, fy, scene.label.shape[1] - 1 - cx, cy], np.float32)
    images = {key: getattr(scene, key)[:, ::-1].copy() for key in ("depth_mm", "label", "hand_mm", "second")}
    return replace(scene, **images, intrinsics=intrinsics, right=False)


def _to_shoulder(view: str, main: _Limb, down: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """From the elbow to the shoulder: away from the camera, or back to it if the arm is the camera wearer's."""
    ahead = -1.0 if view == "own" else 1.0
    way = 0.5 * main.along + 0.5 * ahead * np.array([0, 0, 1.0]) - 0.4 * down + 0.35 * random.standard_normal(3)
    return unit(way)


def _planes(view: str, main: _Limb, down: np.ndarray, random: np.random.Generator) -> list[np.ndarray]:
    """A table with things on it, a wall at any tilt, a room."""
    rows, points = [], main.points_mm
    seen = points[points[:, 2] > 100]
    if random.random() < (0.75 if view in ("above", "own") else 0.35):
        gap = random.choice([random.uniform(0, 8), random.exponential(60), random.uniform(0, 600)])
        normal = unit(down + 0.05 * random.standard_normal(3))
        half = np.exp(random.uniform(np.log(200), np.log(1500), 2))
        if random.random() < UNDER_HAND:
            seen = main.hand_mm[main.hand_mm[:, 2] > 100]
        table = slab_behind(seen, normal, gap, half, random.uniform(-np.pi, np.pi))
        height = (seen @ normal).max() + gap
        rows.append(table)
        if random.random() < 0.6:
            around = main.hand_mm.mean(0)
            rows.append(clutter(random, around, normal, height, int(random.integers(1, 9)), random.uniform(120, 400)))
    elif random.random() < 0.5:
        tilt = random.normal(0, 0.35, 3)
        gap = random.choice([random.uniform(0, 8), random.exponential(100), random.uniform(0, 800)])
        rows.append(slab_behind(seen, unit(np.array([0, 0, 1.0]) + tilt), gap, np.full(2, 4000.0), 0.0))
    if random.random() < 0.15:
        rows.append(furniture(random, seen.mean(0) + [0, 0, random.uniform(120, 700)], down))
    if random.random() < 0.5:
        rows.append(room(random, down, seen))
    return rows


# -- what the hand does -----------------------------------------------------------------------------------------------


def view_of(view: str, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The wrist's axes in the camera frame [3, 3], and the direction of gravity [3].

    view: "raised" before the camera, "above" (the camera is above), "own" of the camera's wearer, "any", "close".
    """
    side, front = random.normal(0, 0.15), random.normal(0, 0.25)
    down = unit(np.array([side, 1.0, front]))
    if view == "close":
        view = random.choice(["raised", "raised", "any"])
    if view == "any":
        return any_turn(random), down
    if view == "raised":
        pitch, roll = random.normal(0, 0.5), random.normal(0, 0.8)
        fingers = np.array([np.sin(roll) * np.cos(pitch), -np.cos(roll) * np.cos(pitch), np.sin(pitch)])
        return _wrist_axes(fingers, random.standard_normal(3) * [1, 0.3, 1]), down
    if view == "above":
        # often from the front, but also across the table or from its sides, with the image turned to the hand
        lean, way = (
            abs(random.normal(0, 0.6)),
            random.normal(0, 0.1) + random.choice([0, random.uniform(-np.pi, np.pi)]),
        )
        down = np.array([np.sin(lean) * np.sin(way), np.sin(lean) * np.cos(way), np.cos(lean)])
        turn = random.normal(0, 0.7) if random.random() < 0.6 else random.uniform(-np.pi, np.pi)
        away = np.array([np.sin(turn), -np.cos(turn), 0.0])
        fingers = away - down * (away @ down) + down * random.normal(0, 0.3)
        palm = random.choice([1.0, 1.0, 1.0, -1.0]) * down + random.standard_normal(3) * random.choice([0.2, 1.5])
        return _wrist_axes(fingers, palm), down
    lean = random.uniform(0.2, 1.1)
    down = unit(np.array([random.normal(0, 0.08), np.cos(lean), np.sin(lean)]))
    ahead = np.array([0.0, -np.sin(lean), np.cos(lean)])
    fingers = (
        ahead * random.uniform(0.3, 1) - down * random.uniform(-0.3, 1) + np.array([random.normal(-0.2, 0.4), 0, 0])
    )
    return _wrist_axes(fingers, random.standard_normal(3)), down


def _wrist_axes(fingers: np.ndarray, palm: np.ndarray) -> np.ndarray:
    """The wrist's axes as columns: y along the fingers, z out of the palm, as near to `palm` as y allows."""
    y = unit(fingers)
    z = unit(palm - y * (palm @ y))
    return np.stack([np.cross(y, z), y, z], 1)


def finger_poses(
    count: int, hand: HandRig, random: np.random.Generator, generator: Generator
) -> Float[np.ndarray, "B 16 4"]:
    """Random finger poses, flat hands, fists, pointing fingers and letters with small changes, fingers beside each other."""
    angles = euler_angles(sample_poses(count, hand, generator)).numpy()
    named = (
        list(PRESETS.values()) + list(LETTERS.values()) + [PRESETS["open"], PRESETS["open"], PRESETS["fist"], {}, {}]
    )
    limits = limits_rad()
    for i in np.nonzero(random.random(count) < 0.4)[0]:
        example = euler_angles(pose(named[random.integers(len(named))]))[0].numpy()
        angles[i, 1:] = example[1:] + random.normal(0, 0.09, (15, 3)) * [1, 0.7, 0.3]
    angles[:, 1:] = angles[:, 1:].clip(limits[1:, :, 0], limits[1:, :, 1])
    angles[:, 0] = 0
    fingers = from_euler(torch.from_numpy(angles))
    beside = torch.rand(count, generator=generator) < TOGETHER
    fingers[beside] = fingers_together(fingers[beside], hand.limits_rad, generator)
    return fingers.numpy()


def grasp(radius_mm: float, random: np.random.Generator) -> Float[np.ndarray, "16 4"]:
    """Fingers around something round in the palm: each bone is a chord of the circle that the bones' axes lie on.

    radius_mm: of the thing, for the template's bones.
    """
    turns = [2 * np.arcsin(min(length / 2 / (radius_mm + 9), 1)) for length in (45.0, 26.0, 22.0)]
    angles, limits = np.zeros((16, 3)), limits_rad()
    looser = random.uniform(0.75, 1.0)
    for finger in range(1, 5):
        base = 1 + 3 * finger
        bend = [0.5 * turns[0] + 0.1, 0.5 * (turns[0] + turns[1]), 0.5 * (turns[1] + turns[2])]
        angles[base : base + 3, 0] = np.array(bend) * looser * random.normal(1, 0.07)
    angles[1:4, 0] = [random.uniform(0, 0.5), random.uniform(0.1, 0.6), random.uniform(0, 0.7)]
    angles[1, 1] = random.uniform(-0.3, 0.2)
    angles[1:] = angles[1:].clip(limits[1:, :, 0], limits[1:, :, 1])
    return from_euler(torch.from_numpy(angles)).numpy()


def random_arm(scale: float, whole: bool, random: np.random.Generator) -> Arm:
    """A forearm up to the elbow or (unless `whole`) cut anywhere, bare or in a sleeve."""
    up_to_elbow = 1.4 * HAND_MM * scale * random.uniform(0.9, 1.1)
    length = up_to_elbow if random.random() < 0.7 or whole else random.uniform(2.0, up_to_elbow)
    bend = random.normal(0, (0.4, 0.18)).clip((-1.0, -0.4), (1.0, 0.4))
    sleeve, end, loose = np.inf, np.inf, 1.03 + min(random.exponential(0.22), 1.0)
    clothes = random.random()
    if clothes < 0.5:
        sleeve = random.uniform(-12, 15) if random.random() < 0.5 else random.uniform(0, 180)
    elif clothes < 0.6:  # a watch, a bracelet
        sleeve, loose = random.uniform(3, 50), random.uniform(1.05, 1.15)
        end = sleeve + random.uniform(8, 40)
    girth, seed = random.uniform(1.3, 1.7), int(random.integers(2**31))
    return Arm(length, up_to_elbow, (float(bend[0]), float(bend[1])), girth, sleeve, end, loose, seed)


# -- from a composed scene to a measured one --------------------------------------------------------------------------


def zoomed(intrinsics: np.ndarray, limb: _Limb, random: np.random.Generator) -> np.ndarray:
    """The camera of a window around the hand, as cropped data sets have it: the hand and some of the arm fill it."""
    height, width = SIZE
    points = (
        limb.hand_mm if random.random() < 0.5 else np.concatenate([limb.hand_mm, limb.arm_mm[: len(limb.arm_mm) // 2]])
    )
    points = points[points[:, 2] > 100]
    px = points[:, :2] / points[:, 2:] * intrinsics[:2] + intrinsics[2:]
    low, high = px.min(0), px.max(0)
    factor = (np.array([width, height]) / (high - low)).min() / random.uniform(0.95, 1.7)
    middle = (low + high) / 2 + random.normal(0, 0.06, 2) * (high - low)
    centre = (intrinsics[2:] - middle) * factor + np.array([width - 1, height - 1]) / 2
    return np.array([*(intrinsics[:2] * factor), *centre])


def _cut(scene: Composed, view: str, main: _Limb, random: np.random.Generator) -> None:
    """What is left of the scene where somebody cut it: nothing but the arm, nothing beyond a depth, nothing beside a box."""
    shown = scene.label > 0
    if random.random() < (0.35 if view == "close" else 0.04) and shown.any():
        scene.depth_mm[~shown] = 0
    elif random.random() < 0.12:
        limit = main.hand_mm[:, 2].max() + random.uniform(5, 250)
        scene.depth_mm[scene.depth_mm > limit] = 0
    if view == "close" and shown.any() and random.random() < 0.5:
        rows, columns = np.nonzero(shown.any(1))[0], np.nonzero(shown.any(0))[0]
        margin = int(random.integers(0, 12))
        box = np.zeros_like(shown)
        box[max(rows[0] - margin, 0) : rows[-1] + margin, max(columns[0] - margin, 0) : columns[-1] + margin] = True
        scene.depth_mm[~box] = 0
    scene.depth_mm[scene.depth_mm > random.uniform(1500, 6000)] = 0  # the sensor's range
    scene.label[scene.depth_mm == 0] = ELSE


def _measured(scene: Composed, random: np.random.Generator) -> tuple:
    """The scene as a sensor measures it: the fields of `Scenes` in their order."""
    depth, label = scene.depth_mm, scene.label
    if random.random() > EXACT:
        sensor = random_sensor(Generator().manual_seed(int(random.integers(2**31))))
        focal, seed = scene.intrinsics[None, 0].astype(np.float64), int(random.integers(2**31))
        noisy = measure(depth[None], focal, sensor, seed)[0]
        label, depth = labels_of(depth, label, noisy), noisy
    depth, label, second = _holes(depth, label, scene.second, random)
    if random.random() < SMEARED:
        reach, window = (round(random.uniform(*px)) for px in (FATTER_PX, WINDOW_PX))
        depth, label = smeared_scene(depth, label, reach, window)
    seen = (label == HAND) & ~second
    hand = bool(seen.sum() >= LEAST_PX)
    if not hand:
        label = np.where(label == HAND, np.uint8(ELSE), label)
    whole = (scene.hand_mm > 0).sum() / max(scene.inside, 1e-3)
    clear = seen.sum() >= SEEN_SHARE * whole and seen.sum() >= SEEN_PX
    rival = not scene.same_side and (second & (label == HAND)).sum() >= LEAST_PX
    shows_side = hand and clear and abs(scene.facing) > SHOWS_SIDE and not rival
    at_border = hand and scene.inside < 0.99
    return depth, label, scene.intrinsics, hand, hand and scene.right, shows_side, at_border


def _holes(
    depth: np.ndarray, label: np.ndarray, second: np.ndarray, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fewer pixels than the image has, and pixels without a measurement."""
    if random.random() < 0.3:  # a camera of lower resolution, its pixels repeated
        step = random.choice([2, 2, 3, 4])
        rows, columns = ((np.arange(n) // step * step + step // 2).clip(0, n - 1) for n in depth.shape)
        depth, label, second = (image[rows][:, columns] for image in (depth, label, second))
    lost = np.zeros(depth.shape, bool)
    if random.random() < 0.15:
        lost |= random.random(depth.shape, np.float32) < random.uniform(0, 0.06)
    if random.random() < 0.1:
        coarse = random.standard_normal((13, 17)).repeat(depth.shape[0] // 12, 0).repeat(depth.shape[1] // 16, 1)
        lost |= coarse[: depth.shape[0], : depth.shape[1]] > random.uniform(1.6, 2.6)
    depth, label = np.where(lost, np.float32(0), depth), np.where(lost, np.uint8(ELSE), label)
    return depth, label, second & ~lost


def smeared_scene(
    depth_mm: Float[np.ndarray, "H W"], label: UInt8[np.ndarray, "H W"], reach_px: int, window_px: int
) -> tuple[Float[np.ndarray, "H W"], UInt8[np.ndarray, "H W"]]:
    """A frame as a stereo camera and its filters leave it, and the label of each pixel.

    The nearest surface within reach wins where it is an outline (foreground fattening, Scharstein and Szeliski 2002). Then
    windows are averaged, in disparity. `many_hands.smeared_outline` is this for a hand without a scene.
    """
    nearness = np.divide(1, depth_mm, out=np.zeros_like(depth_mm), where=depth_mm > 0)
    nearest = maximum_filter(nearness, 2 * reach_px + 1)
    wider = (nearest > 0) & (1 / np.maximum(nearest, 1e-9) < 1 / np.maximum(nearness, 1e-9) - OUTLINE_MM)
    before = np.where(wider, nearest, nearness)
    labelled = label.copy()
    for kind in (ELSE, HAND, FOREARM):
        own = maximum_filter(np.where((label == kind) & (depth_mm > 0), nearness, 0), 2 * reach_px + 1)
        labelled[wider & (own == nearest)] = kind
    side = 2 * window_px + 1
    share = uniform_filter((before > 0).astype(np.float32), side)
    mixed = uniform_filter(before, side) / np.maximum(share, 1e-3)
    measured = before > 0
    depth = np.divide(1, mixed, out=np.zeros_like(depth_mm), where=measured)
    off = np.abs(depth - np.divide(1, before, out=np.zeros_like(depth_mm), where=measured)) > RAMP_MM
    labelled[off | ~measured] = ELSE
    return depth, labelled


@compiled()
def labels_of(clean, label, measured):
    """The label of each measured pixel: of the surface that the sensor saw there, which may be a neighbour's.

    At an outline a sensor's pixel looks aside or mixes what is around it. The surface within LOOK_PX whose depth is nearest
    is what it saw. A pixel that flies between two surfaces is none of them.
    """
    height, width = clean.shape
    seen = np.zeros_like(label)
    for v in range(height):
        for u in range(width):
            z = measured[v, u]
            if z <= 0:
                continue
            best = abs(z - clean[v, u]) if clean[v, u] > 0 else np.inf
            seen[v, u] = label[v, u]
            if best < OUTLINE_MM:
                continue
            for y in range(max(0, v - LOOK_PX), min(height, v + LOOK_PX + 1)):
                for x in range(max(0, u - LOOK_PX), min(width, u + LOOK_PX + 1)):
                    if clean[y, x] > 0 and abs(z - clean[y, x]) < best:
                        best = abs(z - clean[y, x])
                        seen[v, u] = label[y, x]
            if best > FLYING_MM:
                seen[v, u] = ELSE
    return seen
