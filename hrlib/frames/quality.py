"""What was done to a depth image before it came here: put onto a larger image, or saved with 8 bits."""

import numpy as np
from jaxtyping import Float, Shaped
from scipy import ndimage

# Depth images have neighbours: 95 % and more of the pixels of real sensors do (all frames that we have)
# share of the measured pixels with a measured neighbour; a sparse grid has less, along one axis at least
NEIGHBOURS = 0.8
FARTHEST_MM = 20_000.0  # no camera measures a hand's surroundings farther
FEWEST = 100  # measured pixels; fewer tell nothing
WIDEST = 32  # px between measured pixels that are filled
LEVELS = 5, 256  # distinct depths of an image that was saved with 8 bits
COARSE_MM = 2.5  # smaller steps do little harm
EQUAL = 0.9  # share of the depths that must be multiples of one step


def largest_mark(dtype: np.dtype) -> float:
    """The count that marks a missing measurement: the largest of an integer type, as 65535; infinity for others."""
    return np.iinfo(dtype).max if dtype.kind in "ui" and dtype.itemsize > 1 else np.inf


def measurements(depth_mm: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    """Depth with 0 wherever the number is no measurement: negative, NaN, infinite, or beyond `FARTHEST_MM`.

    Cameras and simulators mark what they miss with a far number, as 65535 or 1000 m. Where nothing is nearer, the unit is
    wrong, and the numbers stay as they are.
    """
    measured = (depth_mm > 0) & np.isfinite(depth_mm)
    near = measured & (depth_mm < FARTHEST_MM)
    return np.where(near if near.any() else measured, depth_mm, np.float32(0))


def only_negative(depth: Shaped[np.ndarray, "H W"]) -> bool:
    """Whether nothing is measured before the camera, but more than a mark behind it: z points to the viewer, as in OpenGL."""
    behind = depth[np.isfinite(depth) & (depth < 0)]
    return bool(behind.size and behind.min() < behind.max() and not (depth > 0).any())


def without_gaps(depth_mm: Float[np.ndarray, "H W"]) -> tuple[Float[np.ndarray, "H W"], float]:
    """Depth with the gaps of a sparse grid filled, and the share of the filled image that was missing; 0.0 for usual ones.

    Depth put onto a larger colour image covers it with single pixels. Each pixel takes the nearest depth in a window as wide
    as the grid's cells: outlines grow by half a cell, and what is behind does not show through.
    """
    measured = depth_mm > 0
    count = np.count_nonzero(measured)
    if count < FEWEST or min(_with_neighbour(measured, axis, count) for axis in (0, 1)) > NEIGHBOURS:
        return depth_mm, 0.0
    cell = _cell(measured)
    if max(cell) == 1 or max(cell) > WIDEST:
        return depth_mm, 0.0
    filled = ndimage.minimum_filter(np.where(measured, depth_mm, np.inf), cell, mode="constant", cval=np.inf)
    filled[np.isinf(filled)] = 0
    return filled.astype(depth_mm.dtype), 1 - count / np.count_nonzero(filled)


def _with_neighbour(measured, axis: int, count: int) -> float:
    ahead = np.moveaxis(measured, axis, 0)
    return np.count_nonzero(ahead[1:] & ahead[:-1]) / count


def _cell(measured) -> tuple[int, int]:
    """Height and width of the grid's cells, px."""
    along = tuple(_spacing(np.moveaxis(measured, axis, -1)) for axis in (0, 1))
    width = 8
    while True:  # the density within windows of a few cells: outlines do not count, most cells are inside
        share = ndimage.uniform_filter(measured.astype(np.float32), width, mode="constant")[measured]
        apart = 1 / np.sqrt(np.percentile(share, 75))
        if 4 * apart <= width or width > 4 * WIDEST:
            break
        width *= 2
    if along[0] * along[1] <= 2 * apart**2:
        return along
    return (int(np.ceil(1.5 * apart)),) * 2  # the pixels lie in no rows: a camera that was turned


def _spacing(lines) -> int:
    """Distance of most measured pixels from the next one in their line."""
    line, at = np.nonzero(lines)
    steps = np.diff(at)[np.diff(line) == 0]
    return int(np.percentile(steps, 75)) if len(steps) else WIDEST + 1


def coarse_step_mm(depth_mm: Float[np.ndarray, "H W"]) -> float | None:
    """The step between the depths of an image that was once saved with 8 bits, mm; None for others."""
    values = np.unique(depth_mm[depth_mm > 0]).astype(float)
    if not LEVELS[0] <= len(values) <= LEVELS[1]:
        return None
    steps = np.diff(values)
    step = float(steps[steps < 1.5 * np.median(steps)].mean())
    # from whole numbers: what rounding to the file's counts leaves
    apart = np.abs(steps / step - np.rint(steps / step))
    return step if step > COARSE_MM and (apart < 0.25).mean() > EQUAL else None
