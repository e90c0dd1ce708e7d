"""Things that are no hand, made of spheres and boxes and filmed by a depth camera: what a folder may hold by mistake."""

import numpy as np
from numba import njit
from scipy.spatial.transform import Rotation

from ..frames.camera import Camera

CAMERA = Camera(300.0, 300.0, 119.5, 99.5)
SIZE = (200, 240)


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


def forearm():
    return limb((0, -60, 0), (30, 300, 40), 28, 42, 40)


def box(*sides):
    """A box of these sides in mm, [3]."""
    return np.asarray(sides or (90.0, 70.0, 50.0), float)


THINGS = {
    "ball of a fist's size": ball(45),
    "large ball": ball(75),
    "egg": egg(),
    "box": box(70, 70, 70),
    "stick": box(180, 25, 25),
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
