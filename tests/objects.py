"""Depth sequences of things that are no hand, made of spheres and boxes: what a folder may hold by mistake."""

import numpy as np

from hrlib.camera import Camera
from hrlib.rasterise import rasterise

CAMERA = Camera(300.0, 300.0, 119.5, 99.5)
SIZE = (200, 240)
QUADS = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
BOX_FACES = np.array([t for a, b, c, d in QUADS for t in ((a, b, c), (a, c, d))])
CORNERS = np.array([[i, j, k] for i in (-0.5, 0.5) for j in (-0.5, 0.5) for k in (-0.5, 0.5)])


def limb(start, end, radius_start, radius_end, count=24):
    """Spheres [count, 4] (x, y, z, radius) along a line: a limb, or a ball where both ends are one."""
    t = np.linspace(0, 1, count)[:, None]
    centre = (1 - t) * np.asarray(start, float) + t * np.asarray(end, float)
    return np.concatenate([centre, (1 - t) * radius_start + t * radius_end], 1)


def ball(radius=45.0):
    return limb((0, 0, 0), (0, 0, 0), radius, radius, 1)


def egg():
    return limb((0, -40, 0), (0, 40, 0), 30, 48)


def bottle():
    return np.concatenate([limb((0, -20, 0), (0, 90, 0), 34, 34), limb((0, -90, 0), (0, -40, 0), 13, 14)])


def face():
    """A head with nose, brow, chin and neck."""
    return np.concatenate(
        [limb((0, -30, 0), (0, 40, -8), 78, 60), limb((0, 0, -82), (0, 25, -86), 9, 14), limb((0, 70, 10), (0, 150, 30), 52, 55)]
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


def forearm():
    return limb((0, -60, 0), (30, 300, 40), 28, 42, 40)


def box(*sides):
    return CORNERS * np.asarray(sides or (90.0, 70.0, 50.0))


def turned(seed, count):
    """Rotations [count, 3, 3] that drift, as something that is held and turned."""
    from scipy.spatial.transform import Rotation

    random = np.random.default_rng(seed)
    start, axis = Rotation.random(random_state=seed), random.normal(size=3)
    return (Rotation.from_rotvec(np.outer(np.linspace(0, 1.6, count), axis / np.linalg.norm(axis))) * start).as_matrix()


def film(thing, count=8, distance_mm=450.0, seed=0, upright=False, noise_mm=0.7):
    """Depth frames [count, 200, 240] mm of a thing (spheres [K, 4] or a box's corners [8, 3]) that moves and turns."""
    random = np.random.default_rng(seed)
    R = turned(seed, count)
    if upright:
        R = np.tile(np.eye(3), (count, 1, 1))
    place = np.array([0, 0, distance_mm]) + np.cumsum(random.normal(0, 4, (count, 3)), 0)
    if thing.shape[1] == 4:
        centres = np.einsum("bij,kj->bki", R, thing[:, :3]) + place[:, None]
        frames = np.stack([spheres(c, thing[:, 3]) for c in centres])
    else:
        corners = np.einsum("bij,kj->bki", R, thing) + place[:, None]
        intrinsics = np.tile(np.float32([CAMERA.fx, CAMERA.fy, CAMERA.cx, CAMERA.cy]), (count, 1))
        frames = rasterise(corners.astype(np.float32), BOX_FACES, intrinsics, SIZE)
    noisy = frames + random.normal(0, noise_mm, frames.shape)
    return np.where(frames > 0, np.round(noisy), 0).astype(np.float32)


def spheres(centres_mm, radii_mm):
    """Depth image of spheres: the nearest crossing of each pixel's ray."""
    v, u = np.mgrid[: SIZE[0], : SIZE[1]].astype(float)
    ray = np.stack([(u - CAMERA.cx) / CAMERA.fx, (v - CAMERA.cy) / CAMERA.fy, np.ones_like(u)], -1)
    square, depth = (ray**2).sum(-1), np.full(SIZE, np.inf)
    for centre, radius in zip(centres_mm, radii_mm, strict=True):
        along = ray @ centre
        inside = along**2 - square * (centre @ centre - radius**2)
        near = (along - np.sqrt(np.maximum(inside, 0))) / square
        depth = np.where((inside > 0) & (near < depth), near, depth)
    return np.where(np.isfinite(depth), depth, 0)


def wall(count=8, distance_mm=600.0, tilt=0.15, noise_mm=1.0, seed=0):
    """A wall that fills the image, a little tilted."""
    random, u = np.random.default_rng(seed), np.linspace(-1, 1, SIZE[1])
    depth = distance_mm * (1 + tilt * u) * np.ones((count, *SIZE))
    return (depth + random.normal(0, noise_mm, depth.shape)).astype(np.float32)
