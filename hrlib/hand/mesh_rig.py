"""From a skinned mesh, wherever it was read, to a rig: its unit, tips, cloud and orientation."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from .joints import JOINT_NAMES, TIP_NAMES, TIP_PARENTS
from .rig import HandRig, build_rig, check_hand

OVERSAMPLING = 8  # points drawn for each that is kept: enough for an even cloud
MAINLY = 0.5  # weight above which a vertex counts as a bone's own
HAND_MM = (100.0, 300.0)  # from the wrist to the tip of the middle finger: a child's and a giant's
UNITS_MM = {"metres": 1000.0, "centimetres": 10.0, "millimetres": 1.0}  # no two make the same mesh a hand


@dataclass(frozen=True)
class SkinnedMesh:
    """A right hand in any unit and orientation, in the pose in which it was modelled."""

    name: str
    vertices: Float[np.ndarray, "V 3"]
    faces: Int[np.ndarray, "F 3"]
    weights: Float[np.ndarray, "V 16"]  # of our joints, in any unit
    ends: Mapping[str, Float[np.ndarray, "3"]]  # where the bone of each joint begins, and of each tip that is known

    def mirrored(self) -> "SkinnedMesh":
        """The other hand."""
        mirror = np.array([-1.0, 1.0, 1.0])
        ends = {point: mirror * end for point, end in self.ends.items()}
        # a mirrored triangle is seen from its other side
        return SkinnedMesh(self.name, self.vertices * mirror, self.faces[:, ::-1], self.weights, ends)


def rig_of(mesh: SkinnedMesh, unit_mm: float | None = None, cloud_points: int = 2048) -> HandRig:
    """The rig of a skinned mesh, in float64.

    Tips are where the skin ends, as on the template, because rigs put their tip bones at various depths inside the finger.
    Vertices that repeat along texture seams become one. Triangles are turned to the outside. The cloud P is `sample_surface`'s.

    Args:
        mesh: of a right hand.
        unit_mm: millimetres of its unit; None finds metres, centimetres or millimetres by the hand's length.
        cloud_points: of P.

    Raises:
        ValueError: a hand of no hand's size or of the other side, skin without a bone, or bones without skin.
    """
    weights = mesh.weights / mesh.weights.sum(1, keepdims=True)
    middle_tip = _tips_on_skin(mesh.vertices, weights, mesh.ends)[2]
    unit_mm = _checked_unit(float(np.linalg.norm(middle_tip - mesh.ends["wrist"])), unit_mm)
    vertices, faces, weights = _weld(unit_mm * mesh.vertices, mesh.faces, weights)
    ends = {point: unit_mm * end for point, end in mesh.ends.items()}
    joints, tips = np.array([ends[joint] for joint in JOINT_NAMES]), _tips_on_skin(vertices, weights, ends)
    faces = faces if _volume(vertices, faces) > 0 else faces[:, ::-1]
    cloud = sample_surface(vertices, faces, cloud_points)
    hand = build_rig(mesh.name, (vertices, faces.copy(), weights), joints, tips, cloud)
    check_hand(hand)
    return hand


def sample_surface(
    vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"], count: int, seed: int = 0
) -> tuple[Int[np.ndarray, " N"], Float[np.ndarray, "N 3"]]:
    """Triangle and barycentric coordinates of `count` points evenly over a mesh. Same seed, same points.

    Eight times as many points are drawn with equal chance for equal area. Then each chosen point is the one farthest from
    all chosen before (Eldar et al., "The farthest point strategy for progressive image sampling", 1997): no two are close,
    and no part of the surface is far from all.
    """
    if count < 1:
        raise ValueError(f"count (cloud_points) must be at least 1, got {count}")
    corners = vertices[faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    random = np.random.default_rng(seed)
    face = random.choice(len(faces), size=OVERSAMPLING * count, p=area / area.sum())
    a, b = random.random((2, len(face)))
    root = np.sqrt(a)  # uniform over the triangle (Osada et al., "Shape distributions", 2002)
    bary = np.stack([1 - root, root * (1 - b), root * b], 1)
    points = np.einsum("nk,nkc->cn", bary, corners[face])
    chosen = np.zeros(count, np.int64)
    distance = np.full(len(face), np.inf)
    for i in range(1, count):
        distance = np.minimum(distance, ((points - points[:, chosen[i - 1], None]) ** 2).sum(0))
        chosen[i] = distance.argmax()
    return face[chosen], bary[chosen]


def _checked_unit(length: float, unit_mm: float | None) -> float:
    """Millimetres of a unit in which a hand has this length."""
    for unit in UNITS_MM.values() if unit_mm is None else (unit_mm,):
        if HAND_MM[0] < length * unit < HAND_MM[1]:
            return unit
    wanted = f"; {180 / length:.3g} would make it an adult's" if 0 < length < np.inf else ""
    given = f"in {', '.join(UNITS_MM)}" if unit_mm is None else f"with a unit of {unit_mm:g} mm"
    raise ValueError(
        f"the hand is {length:.4g} units long from the wrist to the tip of the middle finger, no hand's length {given} "
        f"({HAND_MM[0]:g} to {HAND_MM[1]:g} mm); check the map of joints, or say the unit (unit_mm, --hand-unit-mm){wanted}"
    )


def _volume(vertices: np.ndarray, faces: np.ndarray) -> float:
    """Of a mesh whose openings are small; below 0 where its triangles show their backs."""
    a, b, c = (vertices - vertices.mean(0))[faces].transpose(1, 0, 2)
    return float((a * np.cross(b, c)).sum())


def _weld(vertices: np.ndarray, faces: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One vertex instead of several with the same place and weights, in order of appearance; degenerate faces go."""
    _, first, same = np.unique(np.concatenate([vertices, weights], 1), axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    a, b, c = faces = np.argsort(order)[same.reshape(-1)][faces].T  # argsort of an order is its inverse
    first = first[order]
    return vertices[first], faces.T[(a != b) & (b != c) & (c != a)], weights[first]


def _tips_on_skin(vertices: np.ndarray, weights: np.ndarray, ends: Mapping) -> np.ndarray:
    """The five tips [5, 3]: on each last bone's line, where the skin that moves with it ends."""
    tips, joints = [], [ends[joint] for joint in JOINT_NAMES]
    for tip, far in zip(TIP_NAMES, TIP_PARENTS, strict=True):
        direction = ends[tip] - joints[far] if tip in ends else joints[far] - joints[far - 1]
        if not np.linalg.norm(direction) > 0:
            raise ValueError(f"the bones of {tip} and of the joint before are at the same place; check the joint map")
        direction = direction / np.linalg.norm(direction)
        most = weights[:, far].max()
        if most <= 0:
            raise ValueError(f"no vertex moves with the bone of {JOINT_NAMES[far]}; check the joint map")
        own = vertices[weights[:, far] > min(MAINLY, 0.9 * most)]  # some skins nowhere move mainly with a last bone
        tips.append(joints[far] + direction * ((own - joints[far]) @ direction).max())
    return np.array(tips)
