"""Things that are no hand, made of spheres and boxes and seen by a depth camera.

The recogniser learns from the kinds in TRAINED and is judged by those in HELD_OUT. Each function of a kind draws one thing
with random parts, proportions and pose: (random, camera, size, z_mm) -> depth image, infinite where there is nothing.
THINGS are a few with fixed shapes, which tests and notebook 09 film (`film`) and hand to the check.
"""

import numpy as np
from numba import njit
from scipy import ndimage
from scipy.spatial.transform import Rotation

from hrlib.frames.camera import Camera

CAMERA, SIZE = Camera(300.0, 300.0, 119.5, 99.5), (200, 240)  # of `film`


def lump(random, camera, size, z_mm):
    """Some balls stuck together."""
    count, spread = random.integers(1, 12), random.uniform(10, 60)
    centres = random.normal(size=(count, 3)) * spread * random.uniform(0.2, 1, 3)
    return drawn(random, np.c_[centres, random.uniform(8, 55, count)], camera, size, z_mm)


def branched(random, camera, size, z_mm):
    """A trunk with a ball and limbs anywhere, now and then none."""
    half, radius = random.uniform(0, 90), random.uniform(12, 55)
    trunk = np.array([1.0, 0, 0]) * half
    parts = [limb(-trunk, trunk, radius, radius * random.uniform(0.6, 1.2))]
    for _ in range(random.choice([0, 0, 1, 2, 3, 4, 5, 6])):
        root = trunk * random.uniform(-1, 1) + random.normal(size=3) * radius * 0.4
        thick, way = random.uniform(5, 24), direction(random)
        knee = root + way * random.uniform(30, 110)
        parts += bent(root, knee, knee + random.normal(size=3) * random.uniform(5, 40), thick, random.uniform(0.4, 1))
    if random.random() < 0.5:
        parts.append(ball(trunk * random.choice([-1.3, 1.3]) + random.normal(size=3) * 20, random.uniform(12, 45)))
    return drawn(random, np.concatenate(parts) * random.uniform(0.5, 1.2), camera, size, z_mm)


def boxes(random, camera, size, z_mm):
    """One to three boxes: books, plates, sticks, dice."""
    image = np.full(size, np.inf)
    for _ in range(random.integers(1, 4)):
        sides = np.exp(random.uniform(np.log(8), np.log(170), 3)) / 2
        R, place = Rotation.random(random_state=random).as_matrix(), random.normal(size=3) * 35 + [0, 0, z_mm]
        image = np.minimum(image, crate(R, sides, place, camera, size))
    return image


def sheet(random, camera, size, z_mm):
    """A bumpy surface with a wavy outline: cloth, a wall's corner, a desk."""
    smooth = lambda grain: ndimage.zoom(random.normal(size=(grain, grain)), size[0] / grain, order=3)  # noqa: E731
    v, u = (np.mgrid[: size[0], : size[1]] - size[0] / 2) * z_mm / camera.fx
    bumps = random.choice([0, 3, 10, 25]) * smooth(random.integers(4, 14))
    depth = z_mm + random.normal(0, 0.5) * u + random.normal(0, 0.5) * v + bumps
    radius = random.uniform(35, 90) * (1 + random.choice([0, 0.15, 0.4]) * smooth(random.integers(3, 9)))
    return np.where(np.hypot(u, v * random.uniform(0.6, 1.6)) < radius, np.maximum(depth, 200), np.inf)


def animal(random, camera, size, z_mm):
    """Four legs, neck, head with muzzle and ears, tail; it stands, walks, sits or lies. x is forward, y down."""
    long, fat = random.uniform(70, 230), random.uniform(0.13, 0.3)
    pose = random.choice(["stand", "walk", "sit", "lie"])
    slope = random.uniform(0.4, 1.1) if pose == "sit" else random.normal(0, 0.12)
    t = np.linspace(0, 1, 24)[:, None]
    arch = random.normal(0, 0.1)
    back = np.c_[(t - 0.5) * np.cos(slope), -(t - 0.5) * np.sin(slope) - arch * np.sin(np.pi * t), 0 * t]
    thick = fat * (1 + random.normal(0, 0.15) * np.sin(np.pi * t) + random.normal(0, 0.2) * (t - 0.5))
    parts = [np.c_[back, np.abs(thick)]]
    leg, slim = random.uniform(0.3, 0.9), fat * random.uniform(0.15, 0.5)
    for at, side in ((at, side) for at in (2, 21) for side in (-1, 1)):
        hip = back[at] + [0, 0.3 * fat, side * fat * random.uniform(0.4, 0.8)]
        swing = random.normal(0, 0.35 if pose == "walk" else 0.08)
        folded = pose == "lie" or (pose == "sit" and at == 2)
        down = [random.choice([-1, 1]) * 0.7, 0.4, 0.2 * side] if folded else [np.sin(swing), np.cos(swing), 0]
        knee = hip + np.array(down) * leg * (0.3 if folded else 0.5)
        foot = [random.uniform(0.2, 0.6), 0.1, 0] if folded else [np.sin(-swing), 1, 0]
        parts += bent(hip, knee, knee + np.array(foot) * leg * 0.5, slim, random.uniform(0.5, 1.1))
        if random.random() < 0.4:
            parts.append(ball(parts[-1][-1, :3] + [0.5 * slim, 0, 0], 1.2 * slim))
    rise, neck = random.uniform(-0.3, 1.4), random.uniform(0, 0.55)
    skull = back[-1] + np.array([np.cos(rise), -np.sin(rise), random.normal(0, 0.3)]) * (0.8 * fat + neck)
    head = fat * random.uniform(0.6, 1.2)
    parts += [limb(back[-1], skull, 0.7 * fat, 0.6 * head)] + head_of(random, skull, head)
    if random.random() < 0.8:
        parts.append(
            curve(random, back[0], [-1, random.normal(0, 0.8), 0], random.uniform(0.15, 0.9), 0.4 * slim + 0.015)
        )
    return drawn(random, np.concatenate(parts) * long, camera, size, z_mm, upright=0.6)


def head_of(random, skull, radius, ears=True):
    """Skull, muzzle and two ears (upright, round or hanging), looking along x."""
    turn = Rotation.from_euler("yz", random.normal(0, (0.5, 0.3))).as_matrix()
    muzzle = turn @ [radius * random.uniform(0.5, 1.8), radius * random.uniform(0, 0.5), 0]
    parts = [ball(skull, radius), limb(skull, skull + muzzle, 0.7 * radius, radius * random.uniform(0.2, 0.5))]
    if ears:
        long, wide, way = radius * random.uniform(0.2, 1.8), radius * random.uniform(0.15, 0.45), random.uniform(-2, 1)
        for side in (-1, 1):
            root = skull + turn @ np.array([-0.2, -0.75, 0.6 * side]) * radius
            tip = root + turn @ (np.array([random.normal(0, 0.2), way, 0.6 * side]) / 1.5 * long)
            parts.append(limb(root, tip, wide, wide * random.choice([0.3, 0.7, 1])))
    return parts


def doll(random, camera, size, z_mm):
    """A figure with torso, head, two arms and two legs: a teddy, a robot, a toy soldier. y is down."""
    wide, plump = random.uniform(0.12, 0.3), random.uniform(0.05, 0.14)
    parts = [limb([0, -0.5, side * wide * random.uniform(0.3, 0.8)], [0, 0, side * wide * 0.5], wide * 0.6, wide * 0.7)
             for side in (-1, 1)]  # fmt: skip
    head = random.uniform(0.1, 0.28)
    parts += head_of(random, np.array([0, -0.55 - wide * 0.5 - head * 0.8, 0]), head, random.random() < 0.5)
    for side in (-1, 1):
        for root, long in (([0, -0.5, side * wide], random.uniform(0.3, 0.6)), ([0, 0, side * wide * 0.6], 0.6)):
            way = np.array([random.normal(0, 0.5), 1, side * abs(random.normal(0, 0.6))])
            if long != 0.6 and random.random() < 0.3:
                way[1] = -0.5  # arms up
            knee = np.array(root) + way / np.linalg.norm(way) * long / 2
            way = way + random.normal(0, 0.7, 3)
            parts += bent(root, knee, knee + way / np.linalg.norm(way) * long / 2, plump, random.uniform(0.6, 1.3))
    return drawn(random, np.concatenate(parts) * random.uniform(60, 200), camera, size, z_mm, upright=0.6)


def bird(random, camera, size, z_mm):
    """Body, neck, head with beak, wings folded or spread, a fan of a tail, two thin legs."""
    fat, t = random.uniform(0.18, 0.32), np.linspace(-0.5, 0.5, 16)[:, None]
    parts = [np.c_[t, 0 * t, 0 * t, fat * np.sqrt(1 - 3 * t**2)]]
    skull = np.array([0.5, 0, 0]) + [random.uniform(0, 0.3), -random.uniform(0, 0.8), 0]
    parts += [limb([0.4, 0, 0], skull, 0.5 * fat, 0.3 * fat)] + head_of(random, skull, random.uniform(0.1, 0.2), False)
    spread, span = random.uniform(-0.2, 1), random.uniform(0.5, 1.1)
    for side in (-1, 1):
        for back in np.linspace(0.2, -0.5, 7):
            tip = [back - 0.4 + 0.4 * spread, 0.3 - spread * 0.5, side * (fat + spread * span)]
            parts.append(limb([0.5 * back, -0.1, side * fat * 0.8], tip, 0.04, 0.03))
        if random.random() < 0.7:
            parts.append(
                limb([0, 0.7 * fat, 0.4 * side * fat], [0.1, fat + random.uniform(0.1, 0.8), 0.12 * side], 0.03, 0.03)
            )
    parts += [limb([-0.4, 0, 0], [-0.9, random.uniform(-0.3, 0.3), z], 0.06, 0.05) for z in np.linspace(-0.2, 0.2, 5)]
    return drawn(random, np.concatenate(parts) * random.uniform(60, 180), camera, size, z_mm, upright=0.6)


def vessel(random, camera, size, z_mm):
    """What a potter turns, hollow: cups, jars, bowls, bottles, tubes; open or closed, with handles, or none. y is down."""
    tall, wide, wall = random.uniform(40, 200), random.uniform(18, 62), random.uniform(2, 4)
    t = np.arange(0, 1, 1.5 * wall / tall)
    neck = random.uniform(0.1, 0.4) + np.array([0, random.uniform(0.02, 0.3)])
    shapes = (
        1 + 0 * t,
        1 - random.uniform(0.1, 0.6) * t,
        np.sqrt(np.maximum(1 - random.uniform(0.7, 1) * t**2, 0)),  # bowls
        np.interp(t, neck, [random.uniform(0.2, 0.6), 1]),  # bottles
        0.8 + 0.25 * np.sin(2 * np.pi * (t * random.uniform(0.5, 1.2) + random.random())),
    )
    radius = shapes[random.integers(len(shapes))] * wide
    parts = [ring(y, r, wall) for y, r in zip((t - 0.5) * tall, radius, strict=True)]
    parts += disc(0.5 * tall, radius[-1], wall)
    if random.random() < 0.3:
        parts += disc(-0.5 * tall, radius[0], wall)
    elif random.random() < 0.4:  # full to somewhere below the rim
        full = random.integers(len(t))
        parts += disc(t[full] * tall - 0.5 * tall, radius[full], wall)
    thick = random.uniform(3, 9)
    for side in {0: (), 1: (1,), 2: (-1, 1)}[random.choice([0, 1, 1, 2])]:
        low, high = np.sort(random.uniform(0.05, 0.95, 2)) * tall - 0.5 * tall
        low, high, a = min(low, high - 25), high, np.linspace(0, np.pi, 20)
        out = np.sin(a) ** random.uniform(0.3, 1) * random.uniform(12, 40)
        near = np.interp(np.array([low, high]), (t - 0.5) * tall, radius)
        bow = np.linspace(*near, 20) + out
        parts.append(np.c_[side * bow, np.linspace(low, high, 20), 0 * a, 0 * a + thick])
    if random.random() < 0.15:  # a pan's
        parts.append(limb([wide, -0.4 * tall, 0], [wide + random.uniform(40, 150), -0.5 * tall, 0], thick, thick * 1.3))
    return drawn(random, np.concatenate(parts), camera, size, z_mm, upright=0.4)


def ring(y, radius, wall):
    a = np.arange(0, 2 * np.pi, min(1.5 * wall / max(radius, wall), 1))
    return np.c_[radius * np.cos(a), y + 0 * a, radius * np.sin(a), wall + 0 * a]


def disc(y, radius, wall):
    return [ring(y, r, wall) for r in np.arange(0, max(radius, 1), 1.5 * wall)]


def tool(random, camera, size, z_mm):
    """A handle with something at its end: hammers, spoons, brushes, forks, rackets, scissors, keys."""
    long, thick, t = random.uniform(60, 200), random.uniform(4, 16), np.linspace(0, 1, 24)[:, None]
    parts = [np.c_[t * long, random.normal(0, 12) * np.sin(np.pi * t), 0 * t, thick * (1 + 0.3 * np.sin(3 * t))]]
    end, wide = np.array([long, 0, 0]), random.uniform(12, 55)
    match random.choice(["bar", "plate", "prongs", "ring", "shears", "ball"]):
        case "bar":
            parts.append(limb(end + [0, wide, 0], end - [0, wide, 0], random.uniform(6, 22), random.uniform(6, 22)))
        case "plate":
            a, r = np.meshgrid(np.arange(0, 6.2, 0.2), np.linspace(0, 1, 9))
            flat = np.c_[(r * np.cos(a)).ravel() * random.uniform(0.6, 1.8), (r * np.sin(a)).ravel(), 0 * a.ravel()]
            parts.append(np.c_[end + flat * wide + [wide, 0, 0], 0 * a.ravel() + random.uniform(3, 6)])
        case "prongs":
            reach = random.uniform(20, 70)
            for y in np.linspace(-1, 1, random.integers(2, 4)) * wide * 0.6:
                parts += [limb(end, end + [10, y, 0], 4, 4), limb(end + [10, y, 0], end + [10 + reach, y, 6], 4, 3)]
        case "ring":
            parts.append(ring(0, wide * 0.6, random.uniform(3, 9))[:, [0, 2, 1, 3]] + [*end, 0])
        case "shears":
            for side in (-1, 1):
                tip = [long + random.uniform(40, 90), side * random.uniform(2, 40), 0]
                parts += [limb(end * 0.5, tip, 7, 3), ring(0, 22, 5)[:, [0, 2, 1, 3]] + [-18, side * 24, 0, 0]]
        case _:
            parts.append(ball(end, wide * 0.8))
    return drawn(random, np.concatenate(parts), camera, size, z_mm)


def fruit(random, camera, size, z_mm):
    """One to five bent, tapered bodies: bananas, pears, carrots, croissants, shells."""
    parts = []
    for _ in range(random.choice([1, 1, 2, 3, 5])):
        t, fat = np.linspace(0, 1, 30), random.uniform(10, 48)
        belly = np.clip(np.sin(np.pi * t ** random.uniform(0.5, 1.6)), random.uniform(0, 0.5), 1)
        turn, long = random.uniform(0, 2.5) * (t - 0.5), random.uniform(20, 180)
        along = np.cumsum(np.c_[np.cos(turn), np.sin(turn), 0 * t], 0) * long / 30
        R = Rotation.random(random_state=random).as_matrix()
        parts.append(np.c_[along @ R.T + random.normal(0, 25, 3) * (len(parts) > 0), fat * belly + 2])
    return drawn(random, np.concatenate(parts), camera, size, z_mm)


def two(random, camera, size, z_mm):
    """A thing before or beside another."""
    kinds = random.choice([lump, branched, boxes, vessel, tool, fruit, animal], 2)
    return np.minimum(*(kind(random, camera, size, z_mm + random.normal(0, 30)) for kind in kinds))


# -- held out -------------------------------------------------------------------------------------------------------------


def crab(random, camera, size, z_mm):
    """A flat body with six to eight bent legs and two claws: fingers all around."""
    wide, long = random.uniform(25, 45), random.uniform(30, 70)
    parts = [ball([x, 0, z], random.uniform(10, 16)) for x in (-0.5 * wide, 0, 0.5 * wide) for z in (-8, 8)]
    for side in (-1, 1):
        for x in np.linspace(-1, 1, random.integers(3, 5)):
            way = np.array([x, -0.5, 1.2 * side]) + random.normal(0, 0.15, 3)
            knee = np.array([x * 0.6 * wide, 0, side * 15]) + way * long * 0.5
            parts += bent([x * 0.6 * wide, 0, side * 15], knee, knee + [x * 10, 0.6 * long, side * 0.4 * long], 5, 0.5)
        claw = np.array([wide + 0.6 * long, 0, side * 0.5 * long])
        parts += [limb([0.6 * wide, 0, side * 15], claw, 6, 8), ball(claw + [8, 0, 0], random.uniform(9, 15))]
    return drawn(random, np.concatenate(parts) * random.uniform(0.9, 1.5), camera, size, z_mm, upright=0.4)


def bust(random, camera, size, z_mm):
    """A head on a neck, now and then with shoulders: brow, nose, chin, ears, hair."""
    r = random.uniform(50, 85)
    parts = [ball([0, -0.3 * r, 0], r), limb([0, 0.2 * r, -0.25 * r], [0, 0.7 * r, -0.35 * r], 0.75 * r, 0.4 * r)]
    parts += [limb([0, -0.2 * r, -1.0 * r], [0, 0.2 * r, -1.12 * r], 0.1 * r, random.uniform(0.13, 0.2) * r)]
    parts += [limb([-0.4 * r, -0.35 * r, -0.85 * r], [0.4 * r, -0.35 * r, -0.85 * r], 0.15 * r, 0.15 * r)]
    parts += [ball([0.95 * side * r, 0, 0], 0.22 * r) for side in (-1, 1)]
    parts += [limb([0, 0.5 * r, 0.1 * r], [0, random.uniform(1.2, 1.9) * r, 0.3 * r], 0.55 * r, 0.6 * r)]
    if random.random() < 0.4:
        parts.append(limb([-1.4 * r, 1.9 * r, 0.4 * r], [1.4 * r, 1.9 * r, 0.4 * r], 0.5 * r, 0.5 * r))
    return drawn(random, np.concatenate(parts), camera, size, z_mm, upright=0.8)


def cart(random, camera, size, z_mm):
    """A toy car: a box or two on four wheels."""
    long, tall, wide = random.uniform(60, 150), random.uniform(15, 40), random.uniform(30, 60)
    R = orientation(random, 0.5)
    wheel = random.uniform(0.3, 0.6) * tall
    parts = [ring(0, r, 4)[:, [0, 2, 1, 3]] + [x, tall / 2, side * wide / 2, 0]
             for side in (-1, 1) for x in (-0.3 * long, 0.3 * long) for r in np.arange(1, wheel, 5)]  # fmt: skip
    parts = np.concatenate(parts)
    image = spheres(parts[:, :3] @ R.T + [0, 0, z_mm], parts[:, 3], camera, size)
    cabin = np.array([random.uniform(-0.2, 0.2) * long, -0.8 * tall, 0])
    image = np.minimum(image, crate(R, np.array([long, tall, wide]) / 2, np.array([0, 0, z_mm]), camera, size))
    return np.minimum(
        image, crate(R, np.array([0.5 * long, tall, 0.8 * wide]) / 2, R @ cabin + [0, 0, z_mm], camera, size)
    )


def kettle(random, camera, size, z_mm):
    """A round belly with a lid's knob, a spout and a bow above it or behind."""
    r, flat = random.uniform(35, 65), random.uniform(0.3, 0.8)
    layers = np.linspace(-flat, flat, 14)
    parts = [d for y in layers[[0, -1]] for d in disc(y * r, r * np.sqrt(1 - y**2), 3)]
    parts += [ring(y * r, r * np.sqrt(1 - y**2), 3.5) for y in np.linspace(-flat, flat, 30)]
    parts += [ball([0, -flat * r - 6, 0], random.uniform(5, 10))]
    parts += [limb([0.9 * r, 0.2 * r, 0], [r * random.uniform(1.4, 1.9), -0.6 * r, 0], random.uniform(7, 13), 5)]
    a, behind = np.linspace(0, np.pi, 24), random.random() < 0.5
    x, y = (-0.9 - 0.6 * np.sin(a), 0.6 * np.cos(a)) if behind else (0.8 * np.cos(a), -flat - np.sin(a))
    parts.append(np.c_[r * x, r * y, 0 * a, 0 * a + random.uniform(4, 8)])
    return drawn(random, np.concatenate(parts), camera, size, z_mm, upright=0.4)


def plant(random, camera, size, z_mm):
    """A stem or several with flat leaves, or a cactus's arms."""
    parts, stems = [], random.integers(1, 6)
    for _ in range(stems):
        top = np.array([random.normal(0, 30), -random.uniform(60, 150), random.normal(0, 30)])
        stem = limb([0, 0, 0], top, random.uniform(3, 10), random.uniform(2, 6))
        parts.append(stem)
        for place in stem[random.integers(6, 24, random.integers(1, 5)), :3]:
            out, across = direction(random), direction(random)
            for t in np.linspace(0.05, 1, 10):
                broad = random.uniform(0.9, 1) * np.sin(np.pi * t**0.7) * 13
                parts.append(
                    limb(place + out * 45 * t - across * broad, place + out * 45 * t + across * broad, 2.5, 2.5, 8)
                )
    return drawn(random, np.concatenate(parts), camera, size, z_mm, upright=0.5)


# -- parts ----------------------------------------------------------------------------------------------------------------


def limb(start, end, radius_start, radius_end, count=24):
    """Spheres [count, 4] (x, y, z, radius) along a line: a limb, or a ball where both ends are one."""
    t = np.linspace(0, 1, count)[:, None]
    centre = (1 - t) * np.asarray(start, float) + t * np.asarray(end, float)
    return np.concatenate([centre, (1 - t) * radius_start + t * radius_end], 1)


def ball(place, radius):
    return limb(place, place, radius, radius, 1)


def bent(root, knee, foot, thick, taper):
    """Two pieces of a limb; taper: the foot's thickness, of the root's."""
    return [limb(root, knee, thick, thick * 0.9), limb(knee, foot, thick * 0.9, thick * taper)]


def curve(random, start, way, long, thick):
    """A limb that goes on in a way that changes at random."""
    way = np.asarray(way, float)
    steps = way / np.linalg.norm(way) + np.cumsum(random.normal(0, 0.12, (24, 3)), 0)
    along = start + np.cumsum(steps, 0) * long / 24
    return np.c_[along, np.linspace(thick, thick * random.uniform(0.3, 1.2), 24)]


def direction(random):
    way = random.normal(size=3)
    return way / np.linalg.norm(way)


def orientation(random, upright):
    """A rotation: with the probability `upright` about the vertical, leaning a little, else any."""
    if random.random() > upright:
        return Rotation.random(random_state=random).as_matrix()
    about = Rotation.from_euler("y", random.uniform(0, 2 * np.pi))
    return (Rotation.from_euler("zx", random.normal(0, (0.2, 0.3))) * about).as_matrix()


def drawn(random, parts, camera, size, z_mm, upright=0.0):
    """Spheres [K, 4] (x, y, z, radius; mm) around the distance z_mm."""
    centres = parts[:, :3] @ orientation(random, upright).T
    middle = (centres.min(0) + centres.max(0)) / 2
    return spheres(centres - middle + [0, 0, z_mm], parts[:, 3], camera, size)


TRAINED = (animal, animal, doll, bird, vessel, vessel, branched, lump, boxes, sheet, tool, fruit, two)
HELD_OUT = (crab, bust, cart, kettle, plant)


# -- fixed shapes -------------------------------------------------------------------------------------------------------


def egg():
    return limb((0, -40, 0), (0, 40, 0), 30, 48)


def bottle():
    return np.concatenate([limb((0, -20, 0), (0, 90, 0), 34, 34), limb((0, -90, 0), (0, -40, 0), 13, 14)])


def face():
    """A head with nose, brow, chin and neck."""
    return np.concatenate(
        [limb((0, -30, 0), (0, 40, -8), 78, 60), limb((0, 0, -82), (0, 25, -86), 9, 14)]
        + [limb((0, 70, 10), (0, 150, 30), 52, 55)]
        + [limb((x, -8, -68), (x, -8, -68), 14, 14, 1) for x in (-30, 30)]
    )  # fmt: skip


def cat(size=1.0):
    """Body, head with two ears, four legs and a tail."""
    parts = [limb((-90, 0, 0), (70, 0, 0), 48, 42), limb((115, -45, 0), (115, -45, 0), 40, 40, 1)]
    parts += [limb((110, -75, z), (114, -98, 1.2 * z), 13, 4) for z in (-22, 22)]
    parts += [limb((x, 20, z), (x + 4, 120, z), 17, 12) for x in (-85, 60) for z in (-25, 25)]
    parts += [limb((-130, -15, 0), (-190, -80, 0), 11, 8), limb((148, -38, 0), (160, -34, 0), 15, 12)]
    return np.concatenate(parts) * size


def mug():
    t = np.linspace(-1.2, 1.2, 16)
    handle = np.stack([42 + 30 * np.cos(t), 30 * np.sin(t), 0 * t, 0 * t + 7], 1)
    return np.concatenate([limb((0, -40, 0), (0, 40, 0), 42, 42), handle])


THINGS = {
    "ball of a fist's size": ball((0, 0, 0), 45),
    "large ball": ball((0, 0, 0), 75),
    "egg": egg(),
    "box": np.array([70.0, 70.0, 70.0]),
    "stick": np.array([180.0, 25.0, 25.0]),
    "bottle": bottle(),
    "mug": mug(),
    "face": face(),
    "cat": cat(),
}


def film(thing, count=8, distance_mm=450.0, seed=0, upright=False, noise_mm=0.7):
    """Depth frames [count, 200, 240] mm of a thing (spheres [K, 4] or a box's sides [3]) that moves and turns."""
    random = np.random.default_rng(seed)
    R = np.tile(np.eye(3), (count, 1, 1)) if upright else _turned(seed, count)
    place = np.array([0, 0, distance_mm]) + np.cumsum(random.normal(0, 4, (count, 3)), 0)
    if thing.ndim == 2:
        drawn = [spheres(thing[:, :3] @ r.T + p, thing[:, 3], CAMERA, SIZE) for r, p in zip(R, place, strict=True)]
    else:
        drawn = [crate(r, thing / 2, p, CAMERA, SIZE) for r, p in zip(R, place, strict=True)]
    frames = np.stack(drawn)
    noisy = frames + random.normal(0, noise_mm, frames.shape)
    return np.where(np.isfinite(frames), np.round(noisy), 0).astype(np.float32)


def wall(count=8, distance_mm=600.0, tilt=0.15, noise_mm=1.0, seed=0):
    """Depth frames of a wall that fills the image, a little tilted."""
    random, u = np.random.default_rng(seed), np.linspace(-1, 1, SIZE[1])
    depth = distance_mm * (1 + tilt * u) * np.ones((count, *SIZE))
    return (depth + random.normal(0, noise_mm, depth.shape)).astype(np.float32)


def _turned(seed, count):
    """Rotations [count, 3, 3] that drift, as of something that is held and turned."""
    axis, start = np.random.default_rng(seed).normal(size=3), Rotation.random(random_state=seed)
    turns = np.outer(np.linspace(0, 1.6, count), axis / np.linalg.norm(axis))
    return (Rotation.from_rotvec(turns) * start).as_matrix()


# -- depth images of spheres and boxes -----------------------------------------------------------------------------------


def spheres(centres_mm, radii_mm, camera: Camera, size) -> np.ndarray:
    """Depth image (H, W) of spheres, infinite where there is nothing: the nearest crossing of each pixel's ray."""
    image = np.full(size, np.inf)
    _spheres(image, np.asarray(centres_mm, float), np.asarray(radii_mm, float), camera.fx, camera.cx, camera.cy)
    return image


@njit(cache=True)
def _spheres(image, centres, radii, f, cx, cy):
    for k in range(len(radii)):
        x, y, z = centres[k]
        r = radii[k]
        if z < r + 100:
            continue
        reach = f * r / (z - r) * 1.3 + 2  # off the axis a sphere looks larger
        u0, v0 = cx + f * x / z, cy + f * y / z
        for v in range(max(0, int(v0 - reach)), min(image.shape[0], int(v0 + reach) + 1)):
            for u in range(max(0, int(u0 - reach)), min(image.shape[1], int(u0 + reach) + 1)):
                a, b = (u - cx) / f, (v - cy) / f
                square = a * a + b * b + 1
                along = a * x + b * y + z
                inside = along * along - square * (x * x + y * y + z * z - r * r)
                if inside > 0:
                    image[v, u] = min(image[v, u], (along - np.sqrt(inside)) / square)


def crate(R, half_mm, place_mm, camera: Camera, size) -> np.ndarray:
    """Depth image (H, W) of a box, infinite where there is nothing: where each pixel's ray enters it."""
    v, u = np.mgrid[: size[0], : size[1]].astype(float)
    ray = np.stack([(u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy, np.ones_like(u)], -1) @ R
    origin = -np.asarray(place_mm) @ R
    with np.errstate(divide="ignore", invalid="ignore"):
        one, two = (-half_mm - origin) / ray, (half_mm - origin) / ray
    enter, leave = np.minimum(one, two).max(-1), np.maximum(one, two).min(-1)
    return np.where((enter < leave) & (enter > 100), enter, np.inf)
