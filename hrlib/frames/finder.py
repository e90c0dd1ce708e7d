"""Where the hand is in a whole depth frame: small networks that have seen hands before tables, walls, bodies and others.

1. `shrink`: a small image of the frame, 60x80 cells with the whole field of view. The *locator* says of each cell: something
   else, hand or forearm. Connected pieces of hand are places where a hand may be.
2. `close_up`: around such a place, 64x64 cells of 4.5 mm, whatever the camera and the distance. The *segmenter* says the same
   of these cells, and from them: a hand at all. The likeliest place is taken.
3. `upright`: the hand alone, its wrist below. A third network says which hand it is, by comparing it with its mirror image.
4. `_to_pixels`: pixels of the frame take the classes of the cells around them, by distance and by depth. Outlines are as sharp
   as the sensor's.

The first two see the same of a cell (`inputs`): its depth, its size in mm, its relief against its surroundings, and how much
nearer or farther the surface is some millimetres to each side (Shotton et al. 2011, "Real-time human pose recognition in parts
from single depth images"). All were trained on synthetic scenes alone (`data/finder/build.py`).
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from types import SimpleNamespace

import numpy as np
from jaxtyping import Bool, Float, Real
from scipy import ndimage

from ..support.compiled import compiled
from ..support.onnx_files import session
from ..support.paths import FINDER
from .camera import Camera
from .frame import check_frame

SMALL = 64, 80  # rows and columns of the small image, at least
SMALL_CELLS = 60 * 80  # that a frame is shrunk to, about
FOCAL_MOST = 130.0  # px of the small image's focal length: images with a narrow view are not blown up beyond it
MULTIPLE = 8  # the sides are multiples of what the networks shrink images by
CLOSE, CLOSE_MM = 64, 288.0  # cells and mm across a close-up: an open hand of a large man fits in
PLACES = 3  # where a hand may be, at most
# the nearest surface, which often is a hand: so many cells may fly before it; its depth
NEAREST_CELLS, NEAREST_MM = 10, 100.0
PLACE_SHARE = 0.3  # from this share of hand on, a cell of the small image is part of such a place
SURE = 0.9  # a hand of this probability need not be compared with other places
CENTRED_MM, LOOKS = 25.0, 3  # a hand further from the middle of its close-up is looked at again, so often in all
UPRIGHT_RAD = np.pi / 3  # up to this turn in the image, a hand counts as upright: a network has learned such hands
UPRIGHT = 48  # cells across an upright hand, 216 mm
# the forearm's cells up to 160 mm from the hand's middle tell its direction, if there are so many
ARM_CELLS, ARM_LEAST = 35, 10
RELIEF_CELLS = 7  # the relief of an upright hand is measured against squares of 32 mm
OTHER, HAND, FOREARM = range(3)  # classes
RELIEF_MM = 20.0, 80.0  # half the side of the two surroundings that a cell's relief is measured against
PROBES_MM = 30.0, 80.0  # how far to each side the surface is compared
PROBE_MM = 100.0  # differences of depth are told up to here
WAYS = np.float64([[np.sin(t), np.cos(t)] for t in np.arange(8) * np.pi / 4])  # down, right
CHANNELS = 6 + 16  # of a cell; `inputs` puts those of 2x2 cells together
ALIKE_MM = 20.0  # pixels of one cell that differ by less lie on the same surface
APART_MM = 80.0  # neighbouring cells further apart in depth are not connected
TOGETHER_MM = 110.0  # pieces whose middle is this close to that of the hand are its fingers
SHARP_MM = 10.0  # depth difference at which a cell counts half for a pixel
FLYING_MM = 45.0  # pixels further from all cells around them belong to none


@dataclass(frozen=True)
class Found:
    """What the finder says of a frame."""

    mask: Bool[np.ndarray, "H W"]  # the hand's pixels, up to the wrist; empty if there is none
    forearm: Bool[np.ndarray, "H W"]  # those of forearms near it
    hand: float  # in [0, 1]: that the mask shows a hand
    right: float  # in [0, 1]: that it is the right one; 0.5 where that was not asked
    at_border: float  # 1 where the image's border cuts the hand, else 0
    upright: float = 0.0  # rad by which to turn the picture, so that the forearm is below the hand; 0 if none is seen


@dataclass(frozen=True)
class Cells:
    """A part of a frame as a network sees it."""

    z_mm: Float[np.ndarray, "h w"]  # depth of each cell, 0 where nothing was measured
    top: float  # first row of the frame, px
    left: float  # first column
    step: float  # side of a cell, px of the frame
    rows: int  # in the frame; beyond it there is nothing
    columns: int  # the same
    middle_mm: float  # depth that others are compared with

    def inputs(self, camera: Camera) -> Float[np.ndarray, "1 C H W"]:
        """What a network sees of it."""
        return inputs(self.z_mm, focal_of(camera) / self.step, self.rows, self.columns, self.middle_mm)[None]

    def points_mm(self, camera: Camera, rows: np.ndarray, columns: np.ndarray) -> Float[np.ndarray, "N 3"]:
        """Points of some cells in the camera frame."""
        v, u = (first + (at + 0.5) * self.step - 0.5 for first, at in ((self.top, rows), (self.left, columns)))
        return camera.unproject(u, v, self.z_mm[rows, columns])


def find_hand(
    depth_mm: Real[np.ndarray, "H W"],
    camera: Camera,
    near_mm: Float[np.ndarray, "3"] | None = None,
    side: bool = True,
) -> Found:
    """The hand of a frame, if it shows one; of several the clearest.

    >>> found = hrlib.find_hand(depth_mm, camera)
    >>> found.hand > 0.5, found.mask.shape == depth_mm.shape
    (True, True)

    Args:
        depth_mm: 0 = no measurement.
        camera: of the frame.
        near_mm: the hand's expected centre in the camera frame. Then it is searched there alone.
        side: also tell which hand it is, which takes a seventh of the time; else `right` stays 0.5.

    Raises:
        ValueError: wrong shape, NaN or negative depth, or the weights cannot be read.
    """
    check_frame(depth_mm, camera)
    depth_mm = np.ascontiguousarray(depth_mm, np.float32)
    best = None
    for place_mm in places(depth_mm, camera) if near_mm is None else [np.asarray(near_mm, float)]:
        seen = _look(depth_mm, camera, place_mm)
        if seen is not None and (best is None or seen.hand > best.hand):
            best = seen
        if best is not None and best.hand > SURE:
            break
    if best is None:
        nothing = np.zeros(depth_mm.shape, bool)
        return Found(nothing, nothing, 0.0, 0.5, 0.0)
    cells = best.cells
    mask, forearm = _to_pixels(depth_mm, cells.z_mm, best.shares, cells.top, cells.left, cells.step)
    right = _right(best) if side else 0.5
    return Found(mask, forearm, best.hand, right, float(_at_border(best, depth_mm.shape)), _turn_upright(best))


@lru_cache(1)
def networks() -> SimpleNamespace:
    """The networks as they come with the library, each a function of arrays [1, ...]: locate, segment, judge, side."""
    nets = {}
    for name, path in FINDER.items():
        try:
            nets[name] = _function(path.read_bytes())
        except (OSError, ValueError) as error:
            raise ValueError(f"{path} cannot be read ({error}); install hrlib again") from error
    return SimpleNamespace(**nets)


def _function(model: bytes) -> Callable[..., list[np.ndarray]]:
    runs = session(model, 1)
    names = [one.name for one in runs.get_inputs()]
    return lambda *arrays: runs.run(None, dict(zip(names, arrays, strict=True)))


@lru_cache(1)
def weights_digest() -> str:
    """Names the weights: what was found by others was found otherwise."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in FINDER.values())).hexdigest()[:16]


# -- where a hand may be ----------------------------------------------------------------------------------------------


def focal_of(camera: Camera) -> float:
    """One focal length of the camera, px."""
    return float(np.sqrt(camera.fx * camera.fy))


def shrink(depth_mm: Float[np.ndarray, "H W"], camera: Camera) -> Cells:
    """The whole frame in about `SMALL_CELLS` cells, padded with nothing at its right and bottom."""
    step = float(max(np.sqrt(depth_mm.size / SMALL_CELLS), focal_of(camera) / FOCAL_MOST))
    rows, columns = (max(1, round(n / step)) for n in depth_mm.shape)
    size = tuple(max(least, -(-n // MULTIPLE) * MULTIPLE) for n, least in zip((rows, columns), SMALL, strict=True))
    return Cells(sampled(depth_mm, 0.0, 0.0, step, size), 0.0, 0.0, step, rows, columns, 600.0)


def places(depth_mm: Float[np.ndarray, "H W"], camera: Camera) -> Iterator[Float[np.ndarray, "3"]]:
    """Where a hand may be, mm: the pieces that look most like one, the largest first, and the nearest surface."""
    cells = shrink(depth_mm, camera)
    share = networks().locate(cells.inputs(camera))[0][0, HAND]
    yield from _centres(cells, camera, share * (share > PLACE_SHARE))[:PLACES]
    z = cells.z_mm[cells.z_mm > 0]
    if len(z):
        near = np.partition(z, min(NEAREST_CELLS, len(z) - 1))[min(NEAREST_CELLS, len(z) - 1)]
        surface = (cells.z_mm > 0) & (cells.z_mm < near + NEAREST_MM)
        yield from _centres(cells, camera, surface.astype(np.float32))[:1]


def _centres(cells: Cells, camera: Camera, share) -> list[np.ndarray]:
    """Centres of the connected pieces of cells with a share above 0, the largest first."""
    label, count = connected(cells.z_mm, share > 0)
    v, u = np.nonzero(label)
    of, weight, points = label[v, u] - 1, share[v, u], cells.points_mm(camera, v, u)
    mass = np.bincount(of, weight * points[:, 2] ** 2, count)
    centres = np.stack([np.bincount(of, weight * axis, count) for axis in points.T], 1)
    return list((centres / np.bincount(of, weight, count)[:, None])[np.argsort(-mass)])


@compiled()
def connected(z, among):
    """Pieces of the marked cells, neighbours no further than APART_MM in depth: labels [h, w] from 1 on, and their number."""
    height, width = z.shape
    label, count = np.zeros(z.shape, np.int32), 0
    stack = np.empty((height * width, 2), np.int32)
    for i in range(height):
        for j in range(width):
            if not among[i, j] or label[i, j] or z[i, j] <= 0:
                continue
            count += 1
            label[i, j] = count
            stack[0, 0], stack[0, 1], top = i, j, 1
            while top:
                top -= 1
                v, u = stack[top]
                for a in range(max(0, v - 1), min(height, v + 2)):
                    for b in range(max(0, u - 1), min(width, u + 2)):
                        if among[a, b] and not label[a, b] and z[a, b] > 0 and abs(z[a, b] - z[v, u]) < APART_MM:
                            label[a, b] = count
                            stack[top, 0], stack[top, 1], top = a, b, top + 1
    return label, count


# -- what is there ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Seen:
    """What the segmenter says of one place."""

    cells: Cells
    shares: np.ndarray  # [3, h, w] of the classes; those of other hands are taken off
    centre_mm: np.ndarray  # [3] of the hand
    hand: float


def close_up(depth_mm: Float[np.ndarray, "H W"], camera: Camera, place_mm: Float[np.ndarray, "3"]) -> Cells:
    """64x64 cells of the same size in mm around a place in the camera frame."""
    step = float(focal_of(camera) * CLOSE_MM / CLOSE / place_mm[2])
    u, v = camera.project(np.asarray(place_mm, float))
    top, left = float(v + 0.5 - step * CLOSE / 2), float(u + 0.5 - step * CLOSE / 2)
    z = sampled(depth_mm, top, left, step, (CLOSE, CLOSE))
    return Cells(z, top, left, step, CLOSE, CLOSE, float(place_mm[2]))


def _look(depth_mm, camera: Camera, place_mm: Float[np.ndarray, "3"]) -> _Seen | None:
    """The hand at a place: looked at again while it is not in the middle. None if nothing there is a hand."""
    best = None
    for _ in range(LOOKS):
        seen = _segmented(depth_mm, camera, place_mm)
        if seen is None or best is not None and seen.hand < best.hand / 2:
            break
        off_mm, best, place_mm = np.linalg.norm(seen.centre_mm - place_mm), seen, seen.centre_mm
        if off_mm < CENTRED_MM:
            break
    return best


def _segmented(depth_mm, camera: Camera, place_mm: Float[np.ndarray, "3"]) -> _Seen | None:
    """What the segmenter says of a place, at one look."""
    cells, nets = close_up(depth_mm, camera, place_mm), networks()
    shares, *features = nets.segment(cells.inputs(camera))
    piece = _main_piece(cells, shares[0], camera, place_mm)
    if piece is None:
        return None
    hand, *others = piece
    return _Seen(cells, *others, nets.judge(*features, hand[None, None])[0].item())


def _main_piece(cells: Cells, shares, camera: Camera, place_mm) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Of what may be a hand, the share of each cell in the piece at the place; `_Seen.shares` and `_Seen.centre_mm`."""
    shares[:, cells.z_mm == 0] = 0
    label, count = connected(cells.z_mm, (shares[HAND] >= shares.max(0)) & (cells.z_mm > 0))
    if not count:
        return None
    v, u = np.nonzero(label)
    of, points = label[v, u] - 1, cells.points_mm(camera, v, u)
    size = np.bincount(of, minlength=count)
    centres = np.stack([np.bincount(of, axis, count) for axis in points.T], 1) / size[:, None]
    # the largest piece, which counts the less the farther away it is
    best = np.argmax(size / (1 + np.linalg.norm(centres - place_mm, axis=1) / CENTRED_MM))
    own = np.linalg.norm(centres - centres[best], axis=1) < TOGETHER_MM
    piece = np.concatenate([[False], own])[label]
    if not own.all():
        shares[HAND, ~piece & ndimage.binary_dilation((label > 0) & ~piece)] = 0
    return shares[HAND] * piece, shares, points[own[of]].mean(0)


def _right(seen: _Seen) -> float:
    """Probability of a right hand."""
    x = upright(seen.cells.z_mm, seen.shares[HAND] > 0.5, seen.shares[FOREARM] > 0.5)
    return 0.5 if x is None else networks().side(x[None])[0].item()


def upright(
    z: Float[np.ndarray, "h w"], hand: Bool[np.ndarray, "h w"], forearm: Bool[np.ndarray, "h w"]
) -> Float[np.ndarray, "4 48 48"] | None:
    """A close-up's hand in the middle of a smaller image, turned so that the forearm is below; None without a hand.

    Channels: the hand's cells, the forearm's, depth against the hand's median, relief. If no forearm is seen, the hand's long
    axis is upright.
    """
    cells = np.argwhere(hand)
    if len(cells) < 2:
        return None
    middle, depth = cells.mean(0), np.median(z[hand])
    down = _to_the_arm(middle, forearm)
    if down is None:
        down = np.linalg.eigh(np.cov((cells - middle).T))[1][:, -1]
    down = down / max(np.linalg.norm(down), 1e-6)
    at = np.arange(UPRIGHT) - (UPRIGHT - 1) / 2
    v, u = (middle[k] + at[:, None] * down[k] + at * across for k, across in enumerate((-down[1], down[0])))
    v, u = np.rint(v).astype(int), np.rint(u).astype(int)
    inside = (v >= 0) & (u >= 0) & (v < z.shape[0]) & (u < z.shape[1])
    v, u = v.clip(0, z.shape[0] - 1), u.clip(0, z.shape[1] - 1)
    hand, forearm = (part[v, u] & inside for part in (hand, forearm))
    apart = np.where(hand, z[v, u] - depth, 0).astype(np.float32)
    share = ndimage.uniform_filter(hand.astype(np.float32), RELIEF_CELLS)
    relief = np.where(hand, apart - ndimage.uniform_filter(apart, RELIEF_CELLS) / np.maximum(share, 1e-3), 0)
    return np.stack([hand, forearm, (apart / 40).clip(-2, 2), (relief / 8).clip(-2, 2)]).astype(np.float32)


def _to_the_arm(middle: np.ndarray, forearm: Bool[np.ndarray, "h w"]) -> np.ndarray | None:
    """From the hand's middle (row, column) to its forearm in a close-up; None if too little of one is seen."""
    arm = np.argwhere(forearm) - middle
    arm = arm[np.linalg.norm(arm, axis=1) < ARM_CELLS]
    return arm.mean(0) if len(arm) >= ARM_LEAST else None


def _turn_upright(seen: _Seen) -> float:
    """`Found.upright`; 0 for hands that are nearly upright, so that their pictures stay as sharp as they are."""
    hand = seen.shares[HAND] > 0.5
    down = _to_the_arm(np.argwhere(hand).mean(0), seen.shares[FOREARM] > 0.5) if hand.any() else None
    turn = 0.0 if down is None else float(np.arctan2(down[1], down[0]))
    return turn if abs(turn) > UPRIGHT_RAD else 0.0


def _at_border(seen: _Seen, size) -> bool:
    """Whether cells of the hand lie at the border of the image, of size (H, W)."""
    step, cells = seen.cells.step, np.nonzero(seen.shares[HAND] > 0.5)
    starts = [first + at * step for first, at in zip((seen.cells.top, seen.cells.left), cells, strict=True)]
    return any(((at < step) | (at > n - 2 * step)).any() for at, n in zip(starts, size, strict=True))


# -- what the networks see --------------------------------------------------------------------------------------------


@compiled()
def sampled(depth, top, left, step, size):
    """Depth [h, w] of cells of `step` px from (top, left) on: the mean of the surface in the cell's middle, 0 = nothing."""
    height, width = depth.shape
    z = np.zeros(size, np.float32)
    for i in range(size[0]):
        v0 = int(np.floor(top + i * step))
        v1 = max(v0 + 1, int(np.floor(top + (i + 1) * step)))
        if v0 < 0 or v1 > height:
            continue
        for j in range(size[1]):
            u0 = int(np.floor(left + j * step))
            u1 = max(u0 + 1, int(np.floor(left + (j + 1) * step)))
            if u0 < 0 or u1 > width:
                continue
            middle = depth[(v0 + v1) // 2, (u0 + u1) // 2]
            total, count = np.float32(0), 0
            for v in range(v0, v1):
                for u in range(u0, u1):
                    d = depth[v, u]
                    if d > 0 and middle == 0:
                        middle = d
                    if d > 0 and abs(d - middle) < ALIKE_MM:
                        total, count = total + d, count + 1
            z[i, j] = total / count if count else 0
    return z


@compiled()
def inputs(z, focal, rows, columns, middle):
    """What a network sees of cells, [88, h / 2, w / 2]: `CHANNELS` of 2x2 cells each.

    They are: inside the frame, measured, depth against `middle`, log size of a cell, two reliefs, and the differences to the
    surface at `PROBES_MM` to eight sides. A relief is the depth minus the mean depth of a square around the cell, in units of
    that square's half side.
    """
    height, width = z.shape
    x = np.zeros((4 * CHANNELS, height // 2, width // 2), np.float32)
    total, count = np.zeros((height + 1, width + 1)), np.zeros((height + 1, width + 1), np.int64)
    for i in range(height):
        for j in range(width):
            total[i + 1, j + 1] = total[i, j + 1] + total[i + 1, j] - total[i, j] + z[i, j]
            count[i + 1, j + 1] = count[i, j + 1] + count[i + 1, j] - count[i, j] + (z[i, j] > 0)
    for i in range(rows):
        for j in range(columns):
            cell, d = x[CHANNELS * (2 * (i % 2) + j % 2) :, i // 2, j // 2], z[i, j]
            cell[0] = 1
            if d <= 0:
                continue
            cell[1] = 1
            cell[2] = min(max((d - middle) / PROBE_MM / 2, -2), 2)
            cell[3] = np.log(d / focal / 5)
            for k in range(2):
                r = max(1, int(np.rint(RELIEF_MM[k] * focal / d)))
                a, b, e, f = max(0, i - r), min(height, i + r + 1), max(0, j - r), min(width, j + r + 1)
                mean = (total[b, f] - total[a, f] - total[b, e] + total[a, e]) / (
                    count[b, f] - count[a, f] - count[b, e] + count[a, e]
                )
                cell[4 + k] = min(max((d - mean) / RELIEF_MM[k], -2), 2)
                for way in range(8):
                    v = i + int(np.rint(PROBES_MM[k] * WAYS[way, 0] * focal / d))
                    u = j + int(np.rint(PROBES_MM[k] * WAYS[way, 1] * focal / d))
                    there = v >= 0 and u >= 0 and v < height and u < width and z[v, u] > 0
                    cell[6 + 8 * k + way] = min(max((z[v, u] - d) / PROBE_MM, -1), 1) if there else 1
    return x


# -- full resolution --------------------------------------------------------------------------------------------------


@compiled()
def _to_pixels(depth, z, shares, top, left, step):
    """Masks [H, W] of hand and forearm: a pixel takes the class of the 3x3 cells around it, weighed by depth and distance."""
    height, width = depth.shape
    rows, columns = z.shape
    hand, forearm = np.zeros(depth.shape, np.bool_), np.zeros(depth.shape, np.bool_)
    for i in range(rows):
        for j in range(columns):
            most, most_arm = np.float32(0), np.float32(0)
            for a in range(max(0, i - 1), min(rows, i + 2)):
                for b in range(max(0, j - 1), min(columns, j + 2)):
                    most, most_arm = max(most, shares[1, a, b]), max(most_arm, shares[2, a, b])
            if most + most_arm < 0.5:
                continue  # nothing of a hand or an arm around
            first, last = int(np.floor(top + i * step)), int(np.floor(top + (i + 1) * step))
            start, end = int(np.floor(left + j * step)), int(np.floor(left + (j + 1) * step))
            for v in range(max(0, first), min(height, last)):
                for u in range(max(0, start), min(width, end)):
                    d = depth[v, u]
                    if d <= 0:
                        continue
                    y, x = (v + 0.5 - top) / step - 0.5, (u + 0.5 - left) / step - 0.5
                    other, own, arm, nearest = np.float32(0), np.float32(0), np.float32(0), np.float32(1e6)
                    for a in range(max(0, i - 1), min(rows, i + 2)):
                        for b in range(max(0, j - 1), min(columns, j + 2)):
                            if z[a, b] <= 0:
                                continue
                            gap = abs(d - z[a, b])
                            nearest = min(nearest, gap)
                            away = (y - a) ** 2 + (x - b) ** 2
                            weight = max(0.0, 2.25 - away) / (1 + (gap / SHARP_MM) ** 4)
                            other += weight * shares[0, a, b]
                            own += weight * shares[1, a, b]
                            arm += weight * shares[2, a, b]
                    if nearest < FLYING_MM and own + arm > 0:
                        hand[v, u] = own >= other and own >= arm
                        forearm[v, u] = arm > own and arm > other
    return hand, forearm
