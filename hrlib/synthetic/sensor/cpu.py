"""The sensor in numba, parallel over the images."""

import math

import numpy as np
from jaxtyping import Float
from numba import prange

from ...support.compiled import compiled
from .model import (
    BEHIND_MM,
    BLUR_PX,
    FLAT_PX,
    HOLLOW_MM,
    LEAST_SHARE,
    OUTLINE_MM,
    REACH_PX,
    ROUNDED_PX,
    TANGENT_60,
    DepthSensor,
    Stereo,
    TimeOfFlight,
    hole_level,
)


def measure(
    depth_mm: Float[np.ndarray, "B H W"], fx: Float[np.ndarray, " B"], sensor: DepthSensor, seed: int
) -> Float[np.ndarray, "B H W"]:
    """As `hrlib.synthetic.sensor.measure` describes it, from arrays."""
    noisy, s = np.zeros(depth_mm.shape, np.float32), sensor
    clean, focal = np.ascontiguousarray(depth_mm, np.float32), np.ascontiguousarray(fx, np.float64)
    limits = (s.baseline_mm, math.tan(math.radians(s.steepest_deg)))
    if isinstance(s, Stereo):
        numbers = (s.noise_px, s.step_px, s.unit_mm, s.smear_px, 0.5 - s.fatten, s.gap, s.fray, hole_level(s.holes))
        sizes = (s.window_px, s.smear_reach_px, s.grain_px, s.hole_px)
        _measure_stereo(clean, focal, numbers, limits, sizes, seed, noisy)
    elif isinstance(s, TimeOfFlight):
        numbers = (s.noise_mm, s.noise_growth, s.grazing, s.step_mm, s.multipath)
        edges = (s.blur_px, s.edge_mm, s.dropped, hole_level(s.holes))
        sizes = (s.multipath_px, s.grain_px, s.hole_px)
        _measure_time_of_flight(clean, focal, numbers, edges, limits, sizes, seed, noisy)
    else:
        numbers = (s.axial_mm, s.axial_growth, s.axial_grazing_mm)
        numbers += (s.lateral_px, s.lateral_growth, s.step_mm, s.step_growth)
        _measure(clean, focal, numbers, limits, s.axial_grain_px, s.lateral_grain_px, seed, noisy)
    return noisy


@compiled()
def _uniform(number):
    """A uniform number in [0, 1) from a 64-bit key: splitmix64 (Steele et al. 2014)."""
    z = number * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(11)) / 9007199254740992.0


@compiled()
def _normal(key):
    """A standard normal number from a 64-bit key, by Box-Muller."""
    first, second = _uniform(key * np.uint64(2) + np.uint64(1)), _uniform(key * np.uint64(2) + np.uint64(2))
    return math.sqrt(-2 * math.log(first + 1e-300)) * math.cos(2 * math.pi * second)


@compiled()
def _lattice(height, width, grain, stream, box):
    """Normal numbers on a grid `grain` pixels apart that covers the image; only those around `box` are filled in."""
    top, bottom, left, right = box
    values = np.empty((height // grain + 2, width // grain + 2))
    for i in range(top // grain, (bottom - 1) // grain + 2):
        for j in range(left // grain, (right - 1) // grain + 2):
            values[i, j] = _normal(stream * np.uint64(1 << 20) + np.uint64(i * values.shape[1] + j))
    return values


@compiled()
def _weights(grain):
    """[grain, grain, 4]: weights of the four nodes around a pixel by its place between them. Their squares sum to 1."""
    weights = np.empty((grain, grain, 4))
    for y in range(grain):
        for x in range(grain):
            a, b = y / grain, x / grain
            four = np.array([(1 - a) * (1 - b), (1 - a) * b, a * (1 - b), a * b])
            weights[y, x] = four / math.sqrt((four**2).sum())
    return weights


@compiled()
def _smooth(lattice, weights, i, y, j, x):
    """The lattice between its nodes, of variance 1 everywhere. (i, y), (j, x): as `_nodes` has them of a row, a column."""
    above = weights[y, x, 0] * lattice[i, j] + weights[y, x, 1] * lattice[i, j + 1]
    return above + weights[y, x, 2] * lattice[i + 1, j] + weights[y, x, 3] * lattice[i + 1, j + 1]


@compiled()
def _nodes(length, grain):
    """[length, 2]: the node before each row or column, and how many pixels it is away."""
    nodes = np.empty((length, 2), np.int64)
    for k in range(length):
        nodes[k, 0], nodes[k, 1] = k // grain, k % grain
    return nodes


@compiled()
def _lit_by_projector(depth, fx, baseline):
    """The image without the pixels that a nearer surface hides from the projector.

    Walking from the projector's side, the column u - fx baseline / z of a lit surface is a new extreme.
    """
    height, width = depth.shape
    lit = np.zeros_like(depth)
    for v in range(height):
        extreme = np.inf
        for k in range(width):
            u = width - 1 - k if baseline > 0 else k
            if depth[v, u] > 0:
                column = (u - fx * baseline / depth[v, u]) * (1 if baseline > 0 else -1)
                if column < extreme:
                    extreme = column
                    lit[v, u] = depth[v, u]
    return lit


@compiled(parallel=True)
def _measure(depth, fx, numbers, limits, axial_grain, lateral_grain, seed, noisy):
    for b in prange(len(depth)):
        _structured_light_image(
            depth[b],
            fx[b],
            (numbers, limits, axial_grain, lateral_grain),
            np.uint64((seed * 1000003 + b) * 3),
            noisy[b],
        )


@compiled()
def _structured_light_image(depth, fx, settings, stream, noisy):
    """One image. Apart from the parallel loop, whose kind of compilation takes numba far longer."""
    numbers, limits, axial_grain, lateral_grain = settings
    axial, growth, grazing, lateral, lateral_growth, step_mm, step_growth = numbers
    baseline, steepest = limits
    height, width = depth.shape
    lateral_weights, axial_weights = _weights(lateral_grain), _weights(axial_grain)
    lateral_rows, axial_rows = _nodes(height, lateral_grain), _nodes(height, axial_grain)
    lateral_columns, axial_columns = _nodes(width, lateral_grain), _nodes(width, axial_grain)
    box = top, bottom, left, right = _box(depth, REACH_PX)
    along_u = _lattice(height, width, lateral_grain, stream, box)
    along_v = _lattice(height, width, lateral_grain, stream + np.uint64(1), box)
    along_z = _lattice(height, width, axial_grain, stream + np.uint64(2), box)
    lit = _lit_by_projector(depth, fx, baseline)
    tangent = _tangents(depth, fx)
    for v in range(top, bottom):
        for u in range(left, right):
            angle = math.atan(min(tangent[v, u], steepest))
            sigma = lateral + lateral_growth * angle / (math.pi / 2 - angle)
            (i, y), (j, x) = lateral_rows[v], lateral_columns[u]
            su = u + int(np.rint(sigma * _smooth(along_u, lateral_weights, i, y, j, x)))
            sv = v + int(np.rint(sigma * _smooth(along_v, lateral_weights, i, y, j, x)))
            outside = su < 0 or sv < 0 or su >= width or sv >= height
            if outside or max(abs(su - u), abs(sv - v)) > REACH_PX:
                sv, su = v, u
            if lit[v, u] > 0 and abs(lit[sv, su] - lit[v, u]) < OUTLINE_MM:
                sv, su = v, u  # the same surface, whose error is in the axial noise
            z = lit[sv, su]
            if z <= 0 or tangent[sv, su] > steepest:
                continue
            metres = z / 1000
            sigma = axial + growth * (metres - 0.4) ** 2
            if tangent[sv, su] > TANGENT_60:
                angle = math.atan(tangent[sv, su])
                sigma += grazing / math.sqrt(metres) * (angle / (math.pi / 2 - angle)) ** 2
            (i, y), (j, x) = axial_rows[v], axial_columns[u]
            value = z + sigma * _smooth(along_z, axial_weights, i, y, j, x)
            step = step_mm + step_growth * z * z
            noisy[v, u] = np.rint(value / step) * step if step > 0 else value


@compiled()
def _box(image, reach):
    """(top, bottom, left, right): rows and columns outside of which no measurement is within `reach` pixels."""
    height, width = image.shape
    top, bottom, left, right = height, 0, width, 0
    for v in range(height):
        for u in range(width):
            if image[v, u] > 0:
                top, bottom, left, right = min(top, v), max(bottom, v + 1), min(left, u), max(right, u + 1)
    return max(top - reach, 0), min(bottom + reach, height), max(left - reach, 0), min(right + reach, width)


@compiled()
def _tangents(depth, fx):
    """Tangent of the angle between each pixel's surface and the image plane; outlines do not count."""
    height, width = depth.shape
    tangent = np.zeros_like(depth)
    for v in range(height):
        for u in range(width):
            z = depth[v, u]
            if z <= 0:
                continue
            slope = 0.0
            for along_v in (False, True):
                least = np.inf  # of the two sides, the one that does not lead over an outline
                for side in (-1, 1):
                    y, x = (v + side, u) if along_v else (v, u + side)
                    if 0 <= y < height and 0 <= x < width and depth[y, x] > 0:
                        least = min(least, abs(depth[y, x] - z))
                if least < np.inf:
                    slope += least * least
            tangent[v, u] = math.sqrt(slope) * fx / z
    return tangent


# -- stereo -----------------------------------------------------------------------------------------------------------


@compiled(parallel=True)
def _measure_stereo(depth, fx, numbers, limits, sizes, seed, noisy):
    for b in prange(len(depth)):
        _stereo_image(depth[b], fx[b], (numbers, limits, sizes), np.uint64((seed * 1000003 + b) * 4), noisy[b])


@compiled()
def _stereo_image(depth, fx, settings, stream, noisy):
    """One image."""
    numbers, limits, sizes = settings
    noise, step, unit, smear, threshold, gap, fray, lost = numbers
    baseline, steepest = limits
    window, filtered, grain, hole = sizes
    height, width = depth.shape
    grain_weights, hole_weights = _weights(grain), _weights(hole)
    grain_rows, hole_rows = _nodes(height, grain), _nodes(height, hole)
    grain_columns, hole_columns = _nodes(width, grain), _nodes(width, hole)
    box = top, bottom, left, right = _box(depth, 2 * (window + filtered))
    if bottom <= top:
        return
    along_z = _lattice(height, width, grain, stream, box)
    along_share = _lattice(height, width, grain, stream + np.uint64(1), box)
    holes = _lattice(height, width, hole, stream + np.uint64(2), box)
    lit, tangent = _lit_by_projector(depth, fx, baseline), _tangents(depth, fx)
    scale = fx * abs(baseline)
    least = scale / _behind(depth, stream + np.uint64(3))
    disparity = np.full((bottom - top, right - left), least)
    for v in range(top, bottom):
        for u in range(left, right):
            if depth[v, u] > 0:
                disparity[v - top, u - left] = scale / depth[v, u]
    mean, near, far = _mean(disparity, window), _greatest(disparity, window), -_greatest(-disparity, window)
    smooth = _mean(mean, filtered)
    beyond = _greatest(near, filtered) + _greatest(-far, filtered)  # the step in disparity that the filter sees
    for v in range(top, bottom):
        for u in range(left, right):
            y, x = v - top, u - left
            (i, k), (j, m) = hole_rows[v], hole_columns[u]
            if tangent[v, u] > steepest or _smooth(holes, hole_weights, i, k, j, m) > lost:
                continue
            (i, k), (j, m) = grain_rows[v], grain_columns[u]
            own, jump = disparity[y, x], near[y, x] - far[y, x]
            # the step that one slanted surface makes over a pixel, both ways along both axes
            slope = 4 * min(tangent[v, u], TANGENT_60) * own / fx
            flat = FLAT_PX + window * slope
            if beyond[y, x] <= smear:
                d = smooth[y, x]
                if own > least:  # a shadow is filled if the filter reaches the surface that throws it
                    seen = lit[v, u] > 0 or beyond[y, x] > flat + filtered * slope
                else:
                    seen = d - least > LEAST_SHARE * beyond[y, x] + ROUNDED_PX
            else:
                share = (mean[y, x] - far[y, x]) / jump if jump > flat else 1.0
                over = share - threshold + fray * _smooth(along_share, grain_weights, i, k, j, m)
                d = _matched(own, near[y, x], far[y, x], over) if jump > flat else own
                seen = (lit[v, u] > 0 or d > own) and d > least and (jump <= flat or abs(over) >= gap / 2)
            if not seen:
                continue
            d = np.rint((d + noise * _smooth(along_z, grain_weights, i, k, j, m)) / step) * step
            if d > 0:
                noisy[v, u] = np.rint(scale / d / unit) * unit


@compiled()
def _matched(own, near, far, over):
    """The disparity that a window finds: that of the pixel, of a near surface that outweighs it, or of a far one."""
    if over > 0:
        return own if 2 * own >= near + far else near
    return own if 2 * own <= near + far else far


@compiled()
def _behind(image, stream):
    """How far (mm) the wall is that outlines mix with where the image is empty."""
    low, high = BEHIND_MM
    return image.max() + low + (high - low) * _uniform(stream << np.uint64(20))


@compiled()
def _mean(image, reach):
    """Each pixel's mean over the square that reaches `reach` pixels from it, as far as that lies in the image."""
    height, width = image.shape
    rows, mean = np.empty_like(image), np.empty_like(image)
    for v in range(height):
        total = image[v, : min(reach, width)].sum()
        for u in range(width):
            if u + reach < width:
                total += image[v, u + reach]
            if u > reach:
                total -= image[v, u - reach - 1]
            rows[v, u] = total / (min(u + reach + 1, width) - max(u - reach, 0))
    total = np.zeros(width)
    for v in range(min(reach, height)):
        total += rows[v]
    for v in range(height):
        if v + reach < height:
            total += rows[v + reach]
        if v > reach:
            total -= rows[v - reach - 1]
        mean[v] = total / (min(v + reach + 1, height) - max(v - reach, 0))
    return mean


@compiled()
def _greatest(image, reach):
    """Each pixel's greatest value over the square that reaches `reach` pixels from it."""
    height, width = image.shape
    greatest = np.full((height + 2 * reach, width + 2 * reach), -np.inf)
    for v in range(height):
        for u in range(width):
            greatest[reach + v, reach + u] = image[v, u]
    length = 1  # each value is the greatest of so many to its right and below
    while length < 2 * reach + 1:
        further = min(length, 2 * reach + 1 - length)
        for v in range(len(greatest)):
            row = greatest[v]
            for u in range(len(row) - further):
                row[u] = max(row[u], row[u + further])
        for v in range(len(greatest) - further):
            row, other = greatest[v], greatest[v + further]
            for u in range(len(row)):
                row[u] = max(row[u], other[u])
        length += further
    return greatest[:height, :width]


# -- time of flight ---------------------------------------------------------------------------------------------------


@compiled(parallel=True)
def _measure_time_of_flight(depth, fx, numbers, edges, limits, sizes, seed, noisy):
    for b in prange(len(depth)):
        _time_of_flight_image(
            depth[b], fx[b], (numbers, edges, limits, sizes), np.uint64((seed * 1000003 + b) * 4), noisy[b]
        )


@compiled()
def _time_of_flight_image(depth, fx, settings, stream, noisy):
    """One image."""
    numbers, edges, limits, sizes = settings
    noise, growth, grazing, step, multipath = numbers
    blur, edge, dropped, lost = edges
    baseline, steepest = limits
    around, grain, hole = sizes
    height, width = depth.shape
    grain_weights, hole_weights = _weights(grain), _weights(hole)
    grain_rows, hole_rows = _nodes(height, grain), _nodes(height, hole)
    grain_columns, hole_columns = _nodes(width, grain), _nodes(width, hole)
    box = top, bottom, left, right = _box(depth, 2 * BLUR_PX)
    if bottom <= top:
        return
    along_z = _lattice(height, width, grain, stream, box)
    holes = _lattice(height, width, hole, stream + np.uint64(1), box)
    lit, tangent = _lit_by_projector(depth, fx, baseline), _tangents(depth, fx)
    image = depth[top:bottom, left:right].astype(np.float64)
    known = (image > 0).astype(np.float64)
    hollow = image - _mean(image, around) / np.maximum(_mean(known, around), 1e-9)
    behind = _behind(depth, stream + np.uint64(3))
    inverse = np.empty_like(image)
    for y in range(bottom - top):
        for x in range(right - left):
            inverse[y, x] = 1 / (image[y, x] if image[y, x] > 0 else behind)
    # light that comes back from z is as 1 / z^2: the sums of 1, z and z^2 with these weights
    light, first = _blurred(inverse * inverse, blur), _blurred(inverse, blur)
    surface = _blurred(inverse * inverse * known, blur)
    for v in range(top, bottom):
        for u in range(left, right):
            y, x = v - top, u - left
            own = depth[v, u] > 0
            (i, k), (j, m) = hole_rows[v], hole_columns[u]
            if surface[y, x] < LEAST_SHARE * light[y, x] or (own and lit[v, u] <= 0) or tangent[v, u] > steepest:
                continue
            if _smooth(holes, hole_weights, i, k, j, m) > lost:
                continue
            z = first[y, x] / light[y, x]
            if 1 / light[y, x] - z * z > edge * edge:
                if _uniform(((stream + np.uint64(2)) << np.uint64(20)) + np.uint64(v * width + u)) < dropped:
                    continue
            if own:
                z += multipath * min(max(hollow[y, x], 0.0), HOLLOW_MM)
            (i, k), (j, m) = grain_rows[v], grain_columns[u]
            sigma = (noise + growth * (z / 1000) ** 2) * (1 + tangent[v, u] ** 2) ** (grazing / 2)
            z += sigma * _smooth(along_z, grain_weights, i, k, j, m)
            noisy[v, u] = np.rint(z / step) * step


@compiled()
def _blurred(image, sigma):
    """The image blurred by a Gauss kernel of `sigma` px, cut off at BLUR_PX; beyond its border lie its outermost pixels."""
    height, width = image.shape
    kernel = np.exp(-0.5 * (np.arange(-BLUR_PX, BLUR_PX + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    rows, blurred = np.zeros_like(image), np.zeros_like(image)
    for v in range(height):
        for u in range(width):
            for k in range(2 * BLUR_PX + 1):
                rows[v, u] += kernel[k] * image[v, min(max(u + k - BLUR_PX, 0), width - 1)]
    for v in range(height):
        for k in range(2 * BLUR_PX + 1):
            blurred[v] += kernel[k] * rows[min(max(v + k - BLUR_PX, 0), height - 1)]
    return blurred
