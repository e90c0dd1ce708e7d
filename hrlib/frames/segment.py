"""From a depth frame to the hand's pixels (design step "segment"): background off, forearm off, no labels, no learning.

Everything is measured in mm on a coarse grid of cells (about 3 mm), and taken back to full resolution at the end:

1. the nearest sizeable part of the frame that is continuous in depth, with the small parts that hang on it (a finger
   behind a fist is a depth step away from it);
2. where the arm leaves it: at the image's border, into the body, or at a free end (a sleeve that the sensor missed);
3. the palm: the centre of the largest circle inside the part, not further than 160 mm from the end that is furthest (along
   the surface) from the arm;
4. the wrist: the narrowest cross-section about 60 mm from the palm's centre towards the arm. What lies more than 24 mm
   beyond and is connected to the arm is removed; fingers that lie beyond the same line are not connected to it and stay.

Where no arm is found (the whole part is not longer than a hand) nothing is removed. Where both ends are free and may be the
hand, as when the arm points at the camera and ends in the image, there are two answers, for others to judge.
"""

from dataclasses import dataclass, replace

import numpy as np
from numba import njit
from scipy import ndimage

from . import surface
from .camera import Camera

HAND_ELSEWHERE = "the hand is not where the frames before and after have it"


class NoHandFound(ValueError):
    """The frame holds nothing that can be a hand; the message says why."""


@dataclass(frozen=True)
class SegmentSettings:
    """Lengths in mm. The defaults suit adult hands within arm's reach of a sensor; children: hand_length_mm = 150."""

    near_mm: float = 150.0  # nothing nearer is looked at
    far_mm: float = 1500.0  # nor anything further away
    hand_length_mm: float = 200.0  # wrist to the tip of the middle finger, at most; the other hand measures follow it
    reach_behind_mm: float = 450.0  # how far behind the nearest surface the hand and its arm are searched
    min_area_mm2: float = 2500.0  # a smaller part is not a hand (a fist seen from the front has about 6000)
    cell_mm: float = 3.2  # size of a grid cell: a finger is 4-5 cells wide
    step_mm: float = 20.0  # neighbouring cells further apart in depth belong to different surfaces
    join_mm: float = 60.0  # ... but a small part no further than this from the hand is a finger of it
    join_area_mm2: float = 8000.0  # "small": no larger than this
    arm_area_mm2: float = (
        30000.0  # if the nearest part itself is small, it hangs on the hand, which has no more than this
    )

    def __post_init__(self):
        for name, value in vars(self).items():
            if not np.isfinite(value) or value <= 0:
                raise ValueError(f"settings.{name} must be a finite number > 0, got {value!r}")
        if self.near_mm >= self.far_mm:
            raise ValueError(f"settings.near_mm ({self.near_mm}) must be less than settings.far_mm ({self.far_mm})")


@dataclass(frozen=True)
class _Part:
    """The nearest part of the frame: N cells of the coarse grid, nodes of a graph of lengths along the surface."""

    cells: np.ndarray  # [h, w] bool: which cells of the grid these are
    points_mm: np.ndarray  # [N, 3]
    cell_mm: np.ndarray  # [N] side of the cell at its depth
    inside_mm: np.ndarray  # [N] distance to the part's outline in the image plane, the image's border included
    thick_mm: np.ndarray  # [N] the same, as if the part went on beyond the image's border
    thin: np.ndarray  # [N] bool: where no circle of a finger's size and more fits in, so in extended fingers
    edges: tuple  # node, node, length_mm [E]
    border: tuple  # four arrays [N] bool: touches the image's top, bottom, left, right

    def distance_along(self, start):
        """Lengths [N] along the surface from the nearest of the start nodes (indices); -1 where no way leads."""
        length = surface.distances(*self.edges, np.asarray(start), len(self.points_mm))
        return np.where(np.isfinite(length), length, -1)

    def pieces(self, among):
        """Connected pieces of the nodes marked in among [N] bool: label [N], -1 elsewhere."""
        return surface.pieces(*self.edges[:2], among)


def segment_hand(
    depth_mm: np.ndarray, camera: Camera, settings: SegmentSettings = SegmentSettings(), near_mm=None
) -> np.ndarray:
    """Depth [H, W] in mm (0 = no measurement) -> mask [H, W] bool of the hand, with a short piece of forearm.

    The most plausible of `possible_hands`, which see for near_mm and errors.
    """
    return possible_hands(depth_mm, camera, settings, near_mm)[0]


def possible_hands(
    depth_mm: np.ndarray, camera: Camera, settings: SegmentSettings = SegmentSettings(), near_mm=None
) -> list[np.ndarray]:
    """Depth [H, W] in mm (0 = no measurement) -> masks [H, W] bool of what may be the hand, the most plausible first.

    Two where the part has two free ends that are much alike: their shapes alone do not tell which of them is the hand.

    near_mm [3]: about where the hand's centre is (camera frame), where other frames of the recording tell; then the arm
    leaves through whatever is farther from there than a hand reaches, instead of being guessed.
    Raises NoHandFound (a ValueError) where nothing can be a hand, ValueError for a wrong shape, NaN or negative depth.
    """
    if getattr(depth_mm, "ndim", None) != 2:
        raise ValueError(f"depth_mm must be an array [H, W], got {getattr(depth_mm, 'shape', type(depth_mm).__name__)}")
    if not (depth_mm.min(initial=0) >= 0 and depth_mm.max(initial=0) < np.inf):  # NaN is neither
        raise ValueError("depth_mm holds NaN, infinite or negative values: mark missing measurements with 0")
    depth_mm = depth_mm.astype(np.float32, copy=False)
    stride, part = _nearest_part(depth_mm, camera, settings, near_mm)
    keeps = _without_forearm(part, settings) if near_mm is None else [_hand_at(part, settings, np.asarray(near_mm))]
    masks = []
    for keep in keeps:
        hand_z = np.zeros(part.cells.shape, np.float32)
        hand_z[part.cells] = np.where(keep, part.points_mm[:, 2], 0)
        masks.append(_to_full_resolution(depth_mm, hand_z, stride, np.float32(settings.step_mm)))
    area_mm2 = [_area_mm2(depth_mm[mask], camera) for mask in masks]
    if max(area_mm2) < settings.min_area_mm2:
        raise NoHandFound(f"only {max(area_mm2):.0f} mm^2 are left without the arm, wanted {settings.min_area_mm2:.0f}")
    return [mask for mask, area in zip(masks, area_mm2, strict=True) if area >= settings.min_area_mm2]


def _area_mm2(depth_mm, camera):
    return float((depth_mm.astype(np.float64) ** 2).sum() / (camera.fx * camera.fy))


def _nearest_part(depth_mm, camera, settings, near_mm):
    """-> stride of the grid in pixels, and the sizeable part nearest to the camera (or at near_mm) with the small ones
    that hang on it."""
    focal = np.sqrt(camera.fx * camera.fy)
    window = f"between {settings.near_mm:.0f} and {settings.far_mm:.0f} mm"
    sample = depth_mm[::2, ::2]
    sample = np.sort(sample[(sample > settings.near_mm) & (sample < settings.far_mm)])
    area_mm2 = 4 * np.cumsum((sample / focal) ** 2)
    if len(sample) == 0 or area_mm2[-1] < settings.min_area_mm2:
        raise NoHandFound(f"no depth {window}, or less than {settings.min_area_mm2:.0f} mm^2 of it")
    nearest_mm = sample[np.searchsorted(area_mm2, settings.min_area_mm2 / 2)]  # not the first speckle
    stride = max(1, round(settings.cell_mm * focal / nearest_mm))

    v, u = np.ogrid[0 : depth_mm.shape[0] : stride, 0 : depth_mm.shape[1] : stride]
    v, u = v.astype(np.float32), u.astype(np.float32)
    grid_mm = camera.unproject(u, v, depth_mm[::stride, ::stride])
    z = grid_mm[..., 2]
    usable = (z > settings.near_mm) & (z < min(settings.far_mm, nearest_mm + settings.reach_behind_mm))
    z, cell_mm = z[usable], stride * z[usable] / focal
    i, j, length_mm = surface.edges(grid_mm, usable, settings.join_mm)
    smooth = np.abs(z[i] - z[j]) < settings.step_mm
    label = surface.pieces(i[smooth], j[smooth], np.ones(len(z), bool))
    area_mm2 = np.bincount(label, cell_mm**2)
    sizeable = np.flatnonzero(area_mm2 >= settings.min_area_mm2)
    if len(sizeable) == 0:
        largest = f"the largest has {area_mm2.max():.0f} mm^2, wanted {settings.min_area_mm2:.0f}"
        raise NoHandFound(f"no object of a hand's size {window}: {largest}")
    if near_mm is None:
        member = label == min(sizeable, key=lambda s: np.percentile(z[label == s], 10))
    else:
        there = np.linalg.norm(grid_mm[usable] - near_mm, axis=1) < 0.4 * settings.hand_length_mm
        member = label == sizeable[np.bincount(label[there], minlength=len(area_mm2))[sizeable].argmax()]
    for _ in range(2):  # small parts that hang on it, then small parts that hang on those
        apart = member[i] != member[j]
        hanging = np.zeros(len(area_mm2), bool)
        hanging[label[i[apart]]] = hanging[label[j[apart]]] = True
        small = area_mm2[label[member]].max() < settings.join_area_mm2
        limit = settings.arm_area_mm2 if small else settings.join_area_mm2
        member |= (hanging & (area_mm2 < limit))[label]

    cells = np.zeros(usable.shape, bool)
    cells[usable] = member
    number = np.cumsum(member) - 1
    own = member[i] & member[j]
    row, column = np.nonzero(cells)
    border = (row <= 1, row >= cells.shape[0] - 2, column <= 1, column >= cells.shape[1] - 2)
    edges = (number[i[own]], number[j[own]], length_mm[own])
    cell_mm = cell_mm[member]
    solid = _without_small_holes(cells, np.median(cell_mm))
    window = _window(solid, 1)  # nothing further away is the nearest to anything inside
    solid, mine = solid[window], cells[window]
    inside_mm = ndimage.distance_transform_edt(np.pad(solid, 1))[1:-1, 1:-1][mine] * cell_mm
    thick_mm = ndimage.distance_transform_edt(solid)[mine] * cell_mm
    core = np.zeros(mine.shape, bool)
    core[mine] = thick_mm > 0.065 * settings.hand_length_mm
    thin = np.ones(len(cell_mm), bool)
    if core.any():  # else scipy's distances mean nothing
        thin = ndimage.distance_transform_edt(~core)[mine] * cell_mm > 0.085 * settings.hand_length_mm
    return stride, _Part(cells, grid_mm[cells], cell_mm, inside_mm, thick_mm, thin, edges, border)


def _window(cells, margin):
    """The rows and columns that hold the marked cells [h, w] bool, with a margin as far as the image goes."""
    rows, columns = (np.flatnonzero(cells.any(axis)) for axis in (1, 0))
    return tuple(slice(max(0, at[0] - margin), at[-1] + 1 + margin) for at in (rows, columns))


def _without_small_holes(cells, cell_mm, small_mm2=400.0):
    """Slits of one cell and small holes filled: they are sensor shadows, not the hand's outline."""
    solid, window = cells.copy(), _window(cells, 0)
    solid[window] |= ndimage.binary_closing(np.pad(cells[window], 2), np.ones((3, 3)))[2:-2, 2:-2]
    hole, _ = ndimage.label(~solid)
    small = np.bincount(hole.ravel()) * cell_mm**2 < small_mm2
    small[0] = False
    return solid | small[hole]


def _without_forearm(part, settings):
    """-> keep [N] bool for each end that may be the hand, the most plausible first."""
    hand = settings.hand_length_mm
    exits, free = _possible_exits(part, settings)
    arms = [_arm_through(part, exit_nodes, settings) for exit_nodes in exits]
    arms = sorted((arm for arm in arms if arm is not None), key=lambda arm: -arm.score)
    # No arm; or all of it is no longer than a hand; or the palm itself lies at the image's border.
    if not arms or max(arm.from_exit.max() for arm in arms) < 0.72 * hand or not arms[0].nodes.any():
        return [np.ones(len(part.points_mm), bool)]
    others = [arm for arm in arms[1:] if free and arm.nodes.any() and arm.score > arms[0].score - 0.3 * hand]
    return [_cut_at_wrist(part, arm, settings) for arm in (arms[0], *others)]


def _hand_at(part, settings, near_mm):
    """-> keep [N] bool, where the hand's centre is about near_mm."""
    apart_mm = np.linalg.norm(part.points_mm - near_mm, axis=1)
    beyond = np.flatnonzero(apart_mm > 0.7 * settings.hand_length_mm)
    if not len(beyond):
        return np.ones(len(apart_mm), bool)
    from_exit = part.distance_along(beyond)
    at_hand = (apart_mm < 0.3 * settings.hand_length_mm) & (from_exit > 0)
    if not at_hand.any():
        raise NoHandFound(HAND_ELSEWHERE)
    palm = np.flatnonzero(at_hand)[np.argmax(part.inside_mm[at_hand])]
    arm = _arm_beyond(part, beyond, from_exit, palm, settings)
    return _cut_at_wrist(part, arm, settings) if arm.nodes.any() else apart_mm < 0.7 * settings.hand_length_mm


@dataclass(frozen=True)
class _Arm:
    """A guess where the arm leaves the part, and what would then be palm and arm."""

    score: float
    exit_nodes: np.ndarray  # indices
    from_exit: np.ndarray  # [N] mm along the surface
    palm: int  # the node in the palm's centre
    nodes: np.ndarray  # [N] bool: the arm's first 60 mm beyond the palm's circle


def _possible_exits(part, settings):
    """Sets of nodes (indices) where the arm may leave the part: into the body, at the border, at a free end; is it that?"""
    hand = settings.hand_length_mm
    body = np.flatnonzero(part.inside_mm > 0.4 * hand)  # no circle as large as this fits into a hand or an arm
    if len(body):
        return [body], False
    exits = []
    for side in part.border:
        piece = part.pieces(side)
        for label in np.unique(piece[side]):
            nodes = np.flatnonzero(piece == label)
            if _spread_mm(part, nodes) > 0.15 * hand:
                exits.append(nodes)
    if exits:
        return exits, False
    one_end = part.distance_along([part.points_mm[:, 2].argmin()]).argmax()
    from_one = part.distance_along([one_end])
    if from_one.max() < 1.3 * hand:
        return [], True  # a hand, with a stump of the arm at most
    from_other = part.distance_along([from_one.argmax()])
    return [np.flatnonzero((d >= 0) & (d < 0.12 * hand)) for d in (from_one, from_other)], True


def _spread_mm(part, nodes):
    return np.linalg.norm(np.ptp(part.points_mm[nodes, :2], axis=0))


def _arm_through(part, exit_nodes, settings):
    """What palm and arm would be if the arm left through these nodes; None if only a finger leads there."""
    hand, z = settings.hand_length_mm, part.points_mm[:, 2]
    from_exit = part.distance_along(exit_nodes)
    if part.inside_mm[exit_nodes].max() > 0.4 * hand:  # a body may have more limbs: the hand is on the nearest one
        limb = part.pieces(from_exit > 0.45 * hand)
        limbs = [label for label in np.unique(limb[limb >= 0]) if (part.cell_mm[limb == label] ** 2).sum() > 2000]
        if not limbs:
            return None
        nearest = min(limbs, key=lambda label: np.percentile(z[limb == label], 10))
        from_exit = np.where((limb == nearest) | (limb < 0), from_exit, -1)
    finger_mm2 = part.thin * part.cell_mm**2
    near_exit = (from_exit >= 0) & (from_exit < 0.5 * from_exit.max())
    fingers_here = finger_mm2[near_exit].sum() / max(finger_mm2.sum(), 0.04 * hand**2)  # one finger alone proves little
    if fingers_here > 0.5:
        return None
    # Further away it could lie in the forearm, which is thicker than a hand seen from its edge.
    in_hand = from_exit > from_exit.max() - 0.8 * hand
    palm = np.flatnonzero(in_hand)[np.argmax(part.inside_mm[in_hand])]
    arm = _arm_beyond(part, exit_nodes, from_exit, palm, settings)
    if arm.nodes.any() and part.thick_mm[arm.nodes].max() < 0.065 * hand:
        return None
    # The arm leaves through a wide opening, mostly further from the camera than the hand, and far from the fingertips.
    opening = min(_spread_mm(part, exit_nodes), 0.4 * hand)
    behind = np.clip(np.median(z[exit_nodes]) - np.median(z), -0.3 * hand, 0.3 * hand)
    score = 2 * opening + 0.7 * behind + from_exit.max() + 2 * part.inside_mm[palm] - hand * fingers_here
    return replace(arm, score=score)


def _arm_beyond(part, exit_nodes, from_exit, palm, settings):
    """The arm that begins at the palm's circle and leads to the exit."""
    radius = np.hypot(*(part.points_mm[:, :2] - part.points_mm[palm, :2]).T)
    palm_mm = max(part.inside_mm[palm], 0.18 * settings.hand_length_mm)
    nodes = (from_exit < from_exit[palm]) & (radius > palm_mm) & (radius < palm_mm + 0.3 * settings.hand_length_mm)
    if nodes.any():
        piece = part.pieces(nodes)
        nodes = piece == np.bincount(piece[nodes]).argmax()
    return _Arm(0.0, exit_nodes, from_exit, palm, nodes)


def _cut_at_wrist(part, arm, settings):
    """-> keep [N] bool: the part without what lies beyond the wrist and is connected to the arm."""
    hand = settings.hand_length_mm
    from_palm_mm = part.points_mm - part.points_mm[arm.palm]
    direction = from_palm_mm[arm.nodes, :2].mean(0)
    direction /= np.linalg.norm(direction)
    along = from_palm_mm[:, :2] @ direction
    aside = np.abs(from_palm_mm[:, :2] @ np.array([-direction[1], direction[0]]))
    slope = np.polyfit(along[arm.nodes], part.points_mm[arm.nodes, 2], 1)[0]
    stretch = np.sqrt(1 + min(abs(slope), 2.0) ** 2)  # an arm that leads away from the camera looks shorter than it is
    along = along * stretch

    trunk = (arm.from_exit < arm.from_exit[arm.palm] + 10) & (aside < 0.35 * hand)
    at_border = np.any(part.border, axis=0)
    wrist, least = None, np.inf
    for station in np.arange(0.18, 0.48, 0.03) * hand:
        slab = trunk & (np.abs(along - station) < 0.03 * hand)
        if not slab.any() or at_border[slab].mean() > 0.25:
            break  # what the image cuts off looks narrow
        width = (part.cell_mm[slab] ** 2).sum() * stretch / (0.06 * hand)
        cost = (
            width + (station - 0.31 * hand) ** 2 / 30
        )  # 62 mm from the palm's centre, unless it is narrower elsewhere
        if cost < least:
            wrist, least = station, cost
    if wrist is None:
        return np.ones(len(along), bool)

    # A network that has seen forearms does not mind a piece of one; where as much of the hand is lost, it finds another pose.
    beyond = part.pieces(along > wrist + 0.12 * hand)
    leads_out = arm.nodes.copy()
    leads_out[arm.exit_nodes] = True
    removed = np.isin(beyond, beyond[leads_out & (beyond >= 0)])
    within_reach = np.linalg.norm(from_palm_mm, axis=1) < 0.8 * hand
    piece = part.pieces(~removed & within_reach)
    return piece == piece[arm.palm]


@njit(cache=True)
def _to_full_resolution(depth_mm, hand_z, stride, step_mm):
    """Pixels of the kept cells, and half a cell around them, that are as deep as the kept ones of 3x3 cells, or in between.

    hand_z [h, w]: depth of the kept cells, 0 elsewhere; step_mm: deeper or nearer by less than this. -> mask [H, W] bool.
    """
    (height, width), (rows, columns) = depth_mm.shape, hand_z.shape
    around = max(1, stride // 2)
    mask = np.zeros((height, width), np.bool_)
    for row in range(rows):
        for column in range(columns):
            low, high = np.float32(np.inf), np.float32(0)
            for r in range(max(0, row - 1), min(rows, row + 2)):
                for c in range(max(0, column - 1), min(columns, column + 2)):
                    if hand_z[r, c] > 0:
                        low, high = min(low, hand_z[r, c]), max(high, hand_z[r, c])
            if high == 0:
                continue
            for v in range(row * stride, min(height, (row + 1) * stride)):
                for u in range(column * stride, min(width, (column + 1) * stride)):
                    if not low - step_mm < depth_mm[v, u] < high + step_mm or depth_mm[v, u] == 0:
                        continue
                    if hand_z[row, column] > 0:
                        mask[v, u] = True
                        continue
                    # steps along rows and columns to the nearest pixel of a kept cell
                    for r in range(max(0, row - 1), min(rows, row + 2)):
                        for c in range(max(0, column - 1), min(columns, column + 2)):
                            away = max(0, r * stride - v, v - (r + 1) * stride + 1)
                            away += max(0, c * stride - u, u - (c + 1) * stride + 1)
                            mask[v, u] |= hand_z[r, c] > 0 and away <= around
    return mask


@dataclass(frozen=True)
class MaskCheck:
    """What a mask measures, and why the frame should be left out (`reason`, None for a good one)."""

    pixels: int
    area_mm2: float  # as seen from the camera
    extent_mm: float  # along the longest direction, the outermost 0.5 % of the points at both ends left out
    distance_mm: float  # median depth
    border_share: float  # part of the outline that the image's border cuts
    reason: str | None


def check_mask(depth_mm, camera: Camera, mask, settings: SegmentSettings = SegmentSettings()) -> MaskCheck:
    """Measure a hand mask [H, W] bool on its depth [H, W] in mm, to leave out frames a model should not learn from."""
    if np.shape(mask) != np.shape(depth_mm):
        raise ValueError(f"mask must have the shape of depth_mm {np.shape(depth_mm)}, got {np.shape(mask)}")
    mask = mask & (depth_mm > 0)
    if not mask.any():
        return MaskCheck(0, 0.0, 0.0, 0.0, 0.0, "the mask is empty")
    points_mm = camera.cloud(depth_mm, mask)
    centred = points_mm - points_mm.mean(0)
    main_direction = np.linalg.eigh(centred.T @ centred)[1][:, -1]
    extent_mm = float(np.subtract(*np.percentile(centred @ main_direction, [99.5, 0.5])))
    distance_mm = float(np.median(points_mm[:, 2]))
    area_mm2 = _area_mm2(depth_mm[mask], camera)
    outline, window = mask.copy(), _window(mask, 0)
    outline[window] &= ~ndimage.binary_erosion(mask[window])
    border_share = float((outline.sum() - outline[1:-1, 1:-1].sum()) / outline.sum())
    hand = settings.hand_length_mm
    problems = (
        (mask.sum() < 400, f"only {mask.sum()} pixels: bring the hand nearer, or use a sensor with more pixels"),
        (not settings.near_mm < distance_mm < settings.far_mm, f"the hand is {distance_mm:.0f} mm away"),
        (area_mm2 < settings.min_area_mm2, f"{area_mm2:.0f} mm^2 are less than a hand"),
        (area_mm2 > 0.6 * hand**2, f"{area_mm2:.0f} mm^2 are more than a hand"),
        (extent_mm > 1.35 * hand, f"{extent_mm:.0f} mm are longer than a hand"),
        (border_share > 0.5, f"the image's border cuts {border_share:.0%} of the hand's outline"),
    )
    reason = next((text for failed, text in problems if failed), None)
    return MaskCheck(int(mask.sum()), area_mm2, extent_mm, distance_mm, border_share, reason)
