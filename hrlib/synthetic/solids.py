"""Depth images of solids by casting rays, exact at pixel centres: the surroundings of the hand in synthetic scenes.

The hand's mesh has thousands of small triangles, which `rasterise` draws. A wall or a head has none: one formula a pixel is
faster, and a plane that reaches behind the camera needs no clipping. Both give z at each pixel's centre, so that the
nearer of two images is one z-buffer.
"""

import numpy as np
from jaxtyping import Float, Real

from ..support.compiled import compiled

ELLIPSOID, BOX, ROOM, CYLINDER, CUP, CONE = range(6)
NUMBERS = 16  # of a solid: its kind, then 15 numbers
NEAREST_MM = 60.0  # surfaces nearer to the camera are not seen
WHOLE = 1e9  # a box in the image that is cut to the image

Row = Float[np.ndarray, "16"]


def solid(
    kind: int,
    centre_mm: Real[np.ndarray, "3"],
    half_mm: Real[np.ndarray, "3"],
    R_cam_solid: Float[np.ndarray, "3 3"] | None = None,
) -> Row:
    """A solid with its own axes as a row of numbers: ELLIPSOID, BOX, ROOM (a box seen from inside), CYLINDER or CUP.

    Args:
        kind: a cylinder stands along its y axis; a cup is one without its top (-y) and hollow.
        centre_mm: in the camera frame.
        half_mm: half the size along each of its axes.
        R_cam_solid: turns its axes into the camera's.
    """
    R = np.eye(3) if R_cam_solid is None else R_cam_solid
    return np.concatenate([[kind], np.ravel(R), centre_mm, half_mm])


def cone(
    start_mm: Real[np.ndarray, "3"], end_mm: Real[np.ndarray, "3"], start_radius_mm: float, end_radius_mm: float
) -> Row:
    """A limb as a row of numbers: two balls and the cone that touches both."""
    return np.concatenate([[CONE], start_mm, end_mm, [start_radius_mm, end_radius_mm], np.zeros(7)])


def cast(solids: Float[np.ndarray, "K 16"], intrinsics: Float[np.ndarray, "4"], size: tuple[int, int]) -> np.ndarray:
    """Depth image [H, W] (mm, float32) of the nearest surface of all solids; 0 where there is none.

    Args:
        solids: rows that `solid` and `cone` make.
        intrinsics: fx, fy, cx, cy in px.
        size: (H, W) in pixels.

    Raises:
        ValueError: rows of another length, or numbers that are not finite.
    """
    if solids.ndim != 2 or solids.shape[1] != NUMBERS or not np.isfinite(solids).all():
        raise ValueError(
            f"solids must be [K, {NUMBERS}] finite numbers, got {list(solids.shape)}; use solid() and cone()"
        )
    depth = np.full(size, np.inf, np.float32)
    _cast(np.ascontiguousarray(solids, np.float64), np.asarray(intrinsics, np.float64), depth)
    return np.where(np.isfinite(depth), depth, np.float32(0))


@compiled()
def _cast(solids, intrinsics, depth):
    height, width = depth.shape
    for k in range(len(solids)):
        row = solids[k]
        left, right, top, bottom = _window(row, intrinsics)
        for v in range(max(0, int(top)), min(height - 1, int(bottom)) + 1):
            for u in range(max(0, int(left)), min(width - 1, int(right)) + 1):
                ray_x, ray_y = (u - intrinsics[2]) / intrinsics[0], (v - intrinsics[3]) / intrinsics[1]
                z = _meet_cone(row, ray_x, ray_y) if row[0] == CONE else _meet_solid(row, ray_x, ray_y)
                if z > NEAREST_MM and z < depth[v, u]:
                    depth[v, u] = z


@compiled()
def _window(row, intrinsics):
    """(left, right, top, bottom) px: outside of it the solid is not seen. Whole if it reaches behind the camera."""
    fx, fy, cx, cy = intrinsics
    left, right, top, bottom = WHOLE, -WHOLE, WHOLE, -WHOLE
    for corner in range(16 if row[0] == CONE else 8):
        sx, sy, sz = (corner & 1) * 2 - 1, (corner >> 1 & 1) * 2 - 1, (corner >> 2 & 1) * 2 - 1
        if row[0] == CONE:
            end = corner >> 3
            r = row[7 + end]
            x, y, z = row[1 + 3 * end] + sx * r, row[2 + 3 * end] + sy * r, row[3 + 3 * end] + sz * r
        else:
            a, b, c = sx * row[13], sy * row[14], sz * row[15]
            x = row[10] + row[1] * a + row[2] * b + row[3] * c
            y = row[11] + row[4] * a + row[5] * b + row[6] * c
            z = row[12] + row[7] * a + row[8] * b + row[9] * c
        if z < NEAREST_MM:
            return 0.0, WHOLE, 0.0, WHOLE
        u, v = fx * x / z + cx, fy * y / z + cy
        left, right, top, bottom = min(left, u), max(right, u), min(top, v), max(bottom, v)
    return max(left, -1.0), min(right, WHOLE), max(top, -1.0), min(bottom, WHOLE)


@compiled()
def _meet_solid(row, ray_x, ray_y):
    """z where the ray (ray_x, ray_y, 1) from the camera meets the solid first; infinite if it does not."""
    # origin and direction in the solid's axes, in units of its half sizes
    ox = -(row[1] * row[10] + row[4] * row[11] + row[7] * row[12]) / row[13]
    oy = -(row[2] * row[10] + row[5] * row[11] + row[8] * row[12]) / row[14]
    oz = -(row[3] * row[10] + row[6] * row[11] + row[9] * row[12]) / row[15]
    dx = (row[1] * ray_x + row[4] * ray_y + row[7]) / row[13]
    dy = (row[2] * ray_x + row[5] * ray_y + row[8]) / row[14]
    dz = (row[3] * ray_x + row[6] * ray_y + row[9]) / row[15]
    kind = row[0]
    if kind == ELLIPSOID:
        return _roots(dx * dx + dy * dy + dz * dz, ox * dx + oy * dy + oz * dz, ox * ox + oy * oy + oz * oz - 1)[0]
    low_y, high_y = _slab(oy, dy)
    if kind == BOX or kind == ROOM:
        low_x, high_x = _slab(ox, dx)
        low_z, high_z = _slab(oz, dz)
        enter, leave = max(low_x, low_y, low_z), min(high_x, high_y, high_z)
        if kind == ROOM:
            return leave if enter < leave else np.inf
        return enter if enter < leave else np.inf
    low, high = _roots(dx * dx + dz * dz, ox * dx + oz * dz, ox * ox + oz * oz - 1)
    if low == np.inf:
        return np.inf
    enter, leave = max(low, low_y), min(high, high_y)
    if enter >= leave:
        return np.inf
    if kind == CUP and low < low_y and dy > 0:  # through the opening: the wall's inside or the bottom
        return leave
    return enter


@compiled()
def _slab(origin, direction):
    """Where a ray is between -1 and 1 along one axis."""
    if direction == 0:
        return (-np.inf, np.inf) if abs(origin) < 1 else (np.inf, -np.inf)
    one, two = (-1 - origin) / direction, (1 - origin) / direction
    return min(one, two), max(one, two)


@compiled()
def _roots(a, b, c):
    """Both solutions of a t^2 + 2 b t + c = 0, the lower first; infinite if there are none."""
    inside = b * b - a * c
    if inside <= 0 or a == 0:
        return np.inf, np.inf
    root = np.sqrt(inside)
    return (-b - root) / a, (-b + root) / a


@compiled()
def _meet_cone(row, ray_x, ray_y):
    """z where the ray meets two balls or the cone between them first; infinite if it does not.

    The cone: points p with y = (p - a).(b - a) and m = |b - a|^2 satisfy m^2 |p - a|^2 - y^2 m = (m r1 + y (r2 - r1))^2,
    lowered by the balls' slope (Quilez, "rounded cone - intersection").
    """
    ax, ay, az, bx, by, bz, r1, r2 = row[1], row[2], row[3], row[4], row[5], row[6], row[7], row[8]
    length = np.sqrt(ray_x * ray_x + ray_y * ray_y + 1)
    dx, dy, dz = ray_x / length, ray_y / length, 1 / length
    t1 = _roots(1.0, -(ax * dx + ay * dy + az * dz), ax * ax + ay * ay + az * az - r1 * r1)[0]
    t2 = _roots(1.0, -(bx * dx + by * dy + bz * dz), bx * bx + by * by + bz * bz - r2 * r2)[0]
    nearest = min(t1, t2)
    lx, ly, lz, rr = bx - ax, by - ay, bz - az, r1 - r2
    m0, m1 = lx * lx + ly * ly + lz * lz, lx * dx + ly * dy + lz * dz
    m2 = -(lx * ax + ly * ay + lz * az)
    m3, m5 = -(dx * ax + dy * ay + dz * az), ax * ax + ay * ay + az * az
    d2 = m0 - rr * rr
    if d2 <= 0:  # one ball holds the other
        return nearest / length
    low, _ = _roots(
        d2 - m1 * m1,
        d2 * m3 - m1 * m2 + m1 * rr * r1,
        d2 * m5 - m2 * m2 + m2 * rr * r1 * 2 - m0 * r1 * r1,
    )
    if low < np.inf:
        y = m2 - r1 * rr + low * m1
        if 0 < y < d2:
            nearest = min(nearest, low)
    return nearest / length
