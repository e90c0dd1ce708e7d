"""What stands around a hand in a synthetic scene: tables, walls, people, objects, and things that look like hands.

Each function returns rows of `solids` (mm, camera frame) with random sizes and proportions. `down` is the direction of
gravity in the camera frame; `random` makes every choice.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
from jaxtyping import Float

from .solids import BOX, CUP, CYLINDER, ELLIPSOID, ROOM, cone, solid

Point = Float[np.ndarray, "3"]
Rows = Float[np.ndarray, "K 16"]
FARTHEST_MM = 6000.0  # half the size of what has no end in the image
SHOULDER_MM, UPPER_ARM_MM = 190.0, 290.0  # of an adult: from the neck's middle, and from the shoulder to the elbow


def unit(vector: Float[np.ndarray, "3"]) -> Point:
    """The direction of a vector."""
    return vector / np.linalg.norm(vector)


def standing(down: Point, turn_rad: float) -> Float[np.ndarray, "3 3"]:
    """Axes as columns of something that stands: y is `down`, turned about it."""
    side = unit(np.cross(down, [0.0, 0.0, 1.0] if abs(down[2]) < 0.9 else [0.0, 1.0, 0.0]))
    front = np.cross(side, down)
    x = np.cos(turn_rad) * side + np.sin(turn_rad) * front
    return np.stack([x, down, np.cross(x, down)], 1)


def any_turn(random: np.random.Generator) -> Float[np.ndarray, "3 3"]:
    """A random rotation."""
    q, r = np.linalg.qr(random.standard_normal((3, 3)))
    q *= np.sign(np.diag(r))
    return q * np.linalg.det(q)  # three axes: -q is the other handedness


# -- planes -----------------------------------------------------------------------------------------------------------


def slab_behind(
    points_mm: Float[np.ndarray, "N 3"], normal: Point, gap_mm: float, half_mm: Float[np.ndarray, "2"], turn_rad: float
) -> Rows:
    """A table or wall: a thick board that lies in the direction `normal` behind the last of the points."""
    thick = 15.0
    R = standing(normal, turn_rad)
    middle = points_mm.mean(0)
    reach = (points_mm @ normal).max() - middle @ normal + gap_mm + thick
    half = np.array([half_mm[0], thick, half_mm[1]])
    return solid(BOX, middle + normal * reach, half, R)[None]


def room(random: np.random.Generator, down: Point, inside_mm: Float[np.ndarray, "N 3"]) -> Rows:
    """Walls, floor and ceiling around the camera and all points: the inside of a box."""
    R = standing(down, random.uniform(-np.pi, np.pi))
    local = np.concatenate([inside_mm, np.zeros((1, 3))]) @ R
    low = local.min(0) - np.exp(random.uniform(np.log(150), np.log(2500), 3))
    high = local.max(0) + np.exp(random.uniform(np.log(150), np.log(2500), 3))
    return solid(ROOM, R @ (low + high) / 2, (high - low) / 2, R)[None]


# -- people -----------------------------------------------------------------------------------------------------------


def person(
    random: np.random.Generator, shoulder_mm: Point, down: Point, facing: Point, side: float = 1.0, scale: float = 1.0
) -> Rows:
    """Torso, neck, head with face and hair, shoulders.

    Args:
        shoulder_mm: where the arm begins that belongs to the hand.
        facing: where the chest looks.
        side: 1 if it is the right shoulder, -1 if it is the left.
        scale: of an adult.
    """
    across = unit(np.cross(facing, down)) * side  # to the other shoulder: a right one lies at the person's right
    forward = unit(np.cross(down, np.cross(facing, down)))
    wide = SHOULDER_MM * scale * random.uniform(0.85, 1.15)
    neck = shoulder_mm + across * wide
    R = np.stack([np.cross(down, forward), down, forward], 1)
    deep = random.uniform(95, 150) * scale
    torso = solid(
        ELLIPSOID, neck + down * 270 * scale, np.array([wide * random.uniform(0.85, 1.1), 330 * scale, deep]), R
    )
    rows = [torso, cone(shoulder_mm, neck + across * wide, 58 * scale, 58 * scale)]
    lean = unit(-down + forward * random.uniform(0.0, 0.4))
    rows.append(cone(neck, neck + lean * 110 * scale, 55 * scale, 52 * scale))
    rows.append(head(random, neck + lean * 215 * scale, down, forward, scale))
    rows += [limb[None] for limb in _hanging_arm(random, neck + across * wide, down, forward, scale)]
    return np.concatenate([np.atleast_2d(row) for row in rows])


def _hanging_arm(random, shoulder, down, forward, scale) -> list[np.ndarray]:
    """The other arm, whose hand cannot be seen: it ends behind the back."""
    elbow = shoulder + unit(down + 0.3 * random.standard_normal(3)) * UPPER_ARM_MM * scale
    behind = elbow + unit(down - 1.2 * forward) * 180 * scale
    return [cone(shoulder, elbow, 55 * scale, 42 * scale), cone(elbow, behind, 42 * scale, 35 * scale)]


def head(random: np.random.Generator, centre_mm: Point, down: Point, forward: Point, scale: float = 1.0) -> Rows:
    """Skull, jaw, nose, brow, ears and hair, which looks `forward` and a little aside."""
    forward = unit(forward + 0.35 * random.standard_normal(3))
    right = unit(np.cross(down, forward))
    forward = np.cross(right, down)
    R = np.stack([right, down, forward], 1)
    s = scale * random.uniform(0.9, 1.08)

    def at(x, y, z):
        return centre_mm + R @ (np.array([x, y, z]) * s)

    rows = [
        solid(ELLIPSOID, centre_mm, np.array([76, 105, 95]) * s, R),
        cone(at(0, 45, 25), at(0, 85, 50), 58 * s, 32 * s),  # jaw
        cone(at(0, -5, 88), at(0, 30, 108), 9 * s, 15 * s),  # nose
        cone(at(-32, -18, 82), at(32, -18, 82), 14 * s, 14 * s),  # brow
        cone(at(-22, 66, 76), at(22, 66, 76), 11 * s, 11 * s),  # mouth
    ]
    rows += [solid(ELLIPSOID, at(x, 5, -5), np.array([10, 30, 18]) * s, R) for x in (-77, 77)]
    if random.random() < 0.6:
        rows.append(solid(ELLIPSOID, at(0, -18, -18), np.array([86, 104, 98]) * s * random.uniform(0.98, 1.15), R))
    return np.stack(rows)


def upper_arm(random: np.random.Generator, elbow_mm: Point, away: Point, radius_mm: float) -> tuple[Rows, Point]:
    """From the elbow in the direction `away`: the row and where the shoulder is."""
    shoulder = elbow_mm + away * UPPER_ARM_MM * random.uniform(0.85, 1.1)
    return cone(elbow_mm, shoulder, radius_mm, radius_mm * random.uniform(1.05, 1.4))[None], shoulder


# -- objects ----------------------------------------------------------------------------------------------------------


def everyday(random: np.random.Generator, place_mm: Point, R_cam_object: Float[np.ndarray, "3 3"]) -> Rows:
    """A box, book, can, cup with a handle, ball, bottle, pen or phone, its middle at `place_mm`; y is down."""

    def at(x, y, z):
        return place_mm + R_cam_object @ np.array([x, y, z])

    one = partial(solid, centre_mm=place_mm, R_cam_solid=R_cam_object)
    kind = random.choice(["box", "book", "can", "cup", "ball", "bottle", "pen", "phone"])
    if kind == "box":
        return one(BOX, half_mm=np.exp(random.uniform(np.log(12), np.log(130), 3)))[None]
    if kind == "book":
        return one(BOX, half_mm=np.array([random.uniform(60, 150), random.uniform(4, 20), random.uniform(80, 200)]))[
            None
        ]
    if kind == "phone":
        return one(BOX, half_mm=np.array([random.uniform(32, 40), random.uniform(65, 80), 4.5]))[None]
    if kind == "ball":
        return one(ELLIPSOID, half_mm=np.full(3, random.uniform(15, 90)) * random.uniform(0.8, 1, 3))[None]
    if kind == "pen":
        return cone(at(0, -70, 0), at(0, 70, 0), random.uniform(3, 9), random.uniform(2, 9))[None]
    radius, tall = random.uniform(22, 48), random.uniform(35, 90)
    if kind == "can":
        return one(CYLINDER, half_mm=np.array([radius, tall, radius]))[None]
    if kind == "bottle":
        neck = cone(at(0, -tall, 0), at(0, -tall - random.uniform(30, 90), 0), 0.6 * radius, 0.35 * radius)
        return np.stack([one(CYLINDER, half_mm=np.array([radius, tall, radius])), neck])
    corners = [at(radius, -0.5 * tall, 0), at(radius + 28, -0.4 * tall, 0), at(radius + 28, 0.4 * tall, 0)]
    corners.append(at(radius, 0.5 * tall, 0))
    handle = [cone(a, b, 5.0, 5.0) for a, b in zip(corners[:-1], corners[1:], strict=True)]
    return np.stack([one(CUP, half_mm=np.array([radius, tall, radius])), *handle])


def furniture(random: np.random.Generator, place_mm: Point, down: Point) -> Rows:
    """A chair's back with slats, a screen, shelves with things on them, or a lamp with an arm."""
    R = standing(down, random.normal(0, 0.6))

    def at(x, y, z):
        return place_mm + R @ np.array([x, y, z])

    def board(centre, half):
        return solid(BOX, at(*centre), np.array(half), R)

    wide, tall = random.uniform(150, 350), random.uniform(120, 350)
    kind = random.choice(["chair", "screen", "shelves", "lamp"])
    if kind == "chair":
        slats = np.linspace(-wide, wide, random.integers(4, 9))
        thick = random.uniform(6, 20)
        rows = [cone(at(x, -tall, 0), at(x, tall, 0), thick, thick) for x in slats]
        return np.stack([*rows, board((0, -tall, 0), (wide + 20, 25, 15)), board((0, tall, 160), (wide + 20, 20, 180))])
    if kind == "screen":
        foot = cone(at(0, 0, 20), at(0, tall + 80, 20), 20.0, 25.0)
        return np.stack([board((0, 0, 0), (wide, 0.6 * wide, random.uniform(4, 20))), foot])
    if kind == "lamp":
        elbow = at(random.normal(0, 120), -tall, random.normal(0, 60))
        top = elbow + unit(random.standard_normal(3)) * tall
        rows = [cone(at(0, tall, 0), elbow, 9.0, 9.0), cone(elbow, top, 8.0, 8.0)]
        return np.stack([*rows, cone(top, top + down * 70, 20.0, random.uniform(40, 75))])
    rows = [board((x, 0, 0), (10, 1.5 * tall, 120)) for x in (-wide, wide)]
    rows += [board((0, 0, 120), (wide, 1.5 * tall, 5))]
    for y in np.arange(-1.5 * tall, 1.5 * tall, random.uniform(150, 350)):
        rows.append(board((0, y, 0), (wide, 8, 120)))
        for x in random.uniform(-wide, wide, random.integers(0, 7)):
            half = np.array([random.uniform(8, 40), random.uniform(30, 110), random.uniform(40, 90)])
            rows.append(board((x, y - 8 - half[1], 0), half))
    return np.stack(rows)


def clutter(
    random: np.random.Generator, around_mm: Point, down: Point, height_mm: float, count: int, spread_mm: float
) -> Rows:
    """Objects that stand or lie on a plane.

    Args:
        around_mm: the middle.
        height_mm: of the plane, along `down`.
        spread_mm: standard deviation of their places.
    """
    rows = []
    for _ in range(count):
        R = standing(down, random.uniform(-np.pi, np.pi))
        if random.random() < 0.3:
            R = R[:, [1, 0, 2]] * [1, 1, -1]  # lies
        place = around_mm + R[:, [0, 2]] @ (random.standard_normal(2) * spread_mm)
        place = place + down * (height_mm - place @ down)
        rows.append(raised(everyday(random, place, R), down, height_mm))
    return np.concatenate(rows)


def raised(rows: Rows, down: Point, height_mm: float) -> Rows:
    """The same solids moved up until they stand on the plane at that height along `down`."""
    lowest = max(_lowest(row, down) for row in rows)
    moved = rows.copy()
    shift = down * (height_mm - lowest)
    limbs = rows[:, 0] > CUP
    moved[limbs, 1:4] += shift
    moved[limbs, 4:7] += shift
    moved[~limbs, 10:13] += shift
    return moved


def _lowest(row: np.ndarray, down: Point) -> float:
    if row[0] > CUP:
        return max(row[1:4] @ down + row[7], row[4:7] @ down + row[8])
    along = np.abs(down @ row[1:10].reshape(3, 3)) * row[13:16]
    return row[10:13] @ down + (np.linalg.norm(along) if row[0] == ELLIPSOID else along.sum())


# -- what could be taken for a hand -----------------------------------------------------------------------------------


def branched(random: np.random.Generator) -> Rows:
    """A lump with some limbs, each with a bend: toys, tools, roots, cables."""
    size = random.uniform(20, 50)
    rows = [
        cone(
            np.zeros(3), unit(random.standard_normal(3)) * random.uniform(1, 80), size, size * random.uniform(0.5, 1.2)
        )
    ]
    for _ in range(random.integers(1, 8)):
        root, thick = random.standard_normal(3) * size * 0.4, random.uniform(4, 20)
        knee = root + unit(random.standard_normal(3)) * random.uniform(20, 100)
        rows.append(cone(root, knee, thick, thick * random.uniform(0.7, 1)))
        end = knee + random.standard_normal(3) * random.uniform(5, 40)
        rows.append(cone(knee, end, rows[-1][8], thick * random.uniform(0.3, 1)))
    return np.stack(rows)


def figure(random: np.random.Generator) -> Rows:
    """A doll, a teddy or an animal: torso, head, four limbs, now and then ears and a tail. y is down."""
    long, fat, slim = random.uniform(35, 110), random.uniform(14, 45), random.uniform(5, 18)
    rows = [cone(np.array([0, -long / 2, 0]), np.array([0, long / 2, 0]), fat, fat * random.uniform(0.7, 1.3))]
    skull = np.array([0, -long / 2 - fat * random.uniform(0.9, 1.5), random.uniform(-0.3, 0.8) * fat])
    rows.append(cone(skull, skull + [0, 0, 0.5 * fat], fat * random.uniform(0.6, 1.1), fat * 0.4))
    for side in (-1, 1):
        for root in (-0.4, 0.45):
            hip = np.array([side * fat * 0.8, root * long, 0])
            way = unit(np.array([side * random.uniform(0.1, 1), random.uniform(-0.5, 1), random.normal(0, 0.6)]))
            knee = hip + way * long * random.uniform(0.3, 0.6)
            foot = knee + unit(way + random.normal(0, 0.5, 3)) * long * random.uniform(0.3, 0.6)
            rows += [cone(hip, knee, slim, slim * 0.9), cone(knee, foot, slim * 0.9, slim * random.uniform(0.6, 1.2))]
        if random.random() < 0.4:
            rows.append(cone(skull, skull + [side * fat, -fat * random.uniform(0.5, 1.5), 0], fat * 0.3, fat * 0.15))
    return np.stack(rows)


def tool(random: np.random.Generator) -> Rows:
    """A handle with a head: hammers, brushes, spoons, forks, rakes, rackets."""
    long, thick = random.uniform(60, 220), random.uniform(4, 18)
    rows = [cone(np.zeros(3), np.array([0, long, 0]), thick, thick * random.uniform(0.6, 1.2))]
    kind, wide = random.choice(["bar", "plate", "prongs"]), random.uniform(15, 60)
    if kind == "bar":
        rows.append(cone(np.array([-wide, 0, 0]), np.array([wide, 0, 0]), random.uniform(6, 22), random.uniform(6, 22)))
    elif kind == "plate":
        rows.append(solid(ELLIPSOID, np.array([0, -wide, 0.0]), np.array([wide, 1.3 * wide, random.uniform(4, 15)])))
    else:
        rows.append(cone(np.array([-wide, 0, 0]), np.array([wide, 0, 0]), thick, thick))
        reach = random.uniform(20, 90)
        for x in np.linspace(-wide, wide, random.integers(2, 6)):
            rows.append(
                cone(np.array([x, 0, 0]), np.array([x, -reach, random.normal(0, 10)]), thick * 0.8, thick * 0.5)
            )
    return np.stack(rows)


def foot(random: np.random.Generator) -> Rows:
    """A bare foot with five toes on a lower leg. y is down."""
    s, left = random.uniform(0.75, 1.1), random.choice([-1, 1])
    rows = [cone(np.array([0, 0, 0]), np.array([0, 25, 130]) * s, 38 * s, 26 * s)]
    rows.append(cone(np.array([0, 0, 0]), np.array([0, -350, -40]) * s, 38 * s, 55 * s))
    rows.append(cone(np.array([-22, 32, 120]) * s, np.array([25, 32, 120]) * s, 20 * s, 22 * s))
    for i, (x, thick) in enumerate(zip(np.linspace(32, -32, 5), (13, 9, 9, 8, 8), strict=True)):
        rows.append(cone(np.array([x * 0.8, 38, 130]) * s, np.array([x, 42, 170 - 6 * i]) * s, thick * s, thick * s))
    return np.stack(rows) * np.where(np.isin(np.arange(16), (1, 4)), left, 1)


def plant(random: np.random.Generator) -> Rows:
    """Stems with leaves."""
    rows = []
    for _ in range(random.integers(1, 5)):
        top = np.array([random.normal(0, 40), -random.uniform(60, 200), random.normal(0, 40)])
        rows.append(cone(np.zeros(3), top, random.uniform(3, 9), random.uniform(2, 5)))
        for part in random.uniform(0.3, 1, random.integers(1, 6)):
            leaf = np.array([random.uniform(8, 25), random.uniform(25, 60), random.uniform(1.5, 4)])
            R = any_turn(random)
            rows.append(solid(ELLIPSOID, top * part + R[:, 1] * leaf[1] * 0.9, leaf, R))
    return np.stack(rows)


def lumps(random: np.random.Generator) -> Rows:
    """Some balls and boxes stuck together: fruit, bags, crumpled things."""
    return np.stack([
        solid(BOX if random.random() < 0.3 else ELLIPSOID, random.normal(0, 35, 3), random.uniform(10, 60, 3), any_turn(random))
        for _ in range(random.integers(1, 7))
    ])  # fmt: skip


def lone_head(random: np.random.Generator) -> Rows:
    """A head of any size."""
    up = np.array([0.0, 1.0, 0.0])
    return head(random, np.zeros(3), up, np.array([0.0, 0.0, 1.0]), random.uniform(0.4, 1.1))


THINGS: tuple[Callable[[np.random.Generator], Rows], ...] = (
    branched, branched, figure, figure, tool, tool, foot, plant, lumps, lone_head,
)  # fmt: skip


def thing(random: np.random.Generator, place_mm: Point, R_cam_thing: Float[np.ndarray, "3 3"]) -> Rows:
    """Something that is no hand, at a place and turned."""
    rows = THINGS[random.integers(len(THINGS))](random)
    placed = rows.copy()
    limbs = rows[:, 0] > CUP
    for first in (1, 4):
        placed[limbs, first : first + 3] = rows[limbs, first : first + 3] @ R_cam_thing.T + place_mm
    placed[~limbs, 10:13] = rows[~limbs, 10:13] @ R_cam_thing.T + place_mm
    turned = np.einsum("ij,kjl->kil", R_cam_thing, rows[~limbs, 1:10].reshape(-1, 3, 3))
    placed[~limbs, 1:10] = turned.reshape(-1, 9)
    return placed
