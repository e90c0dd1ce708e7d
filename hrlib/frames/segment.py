"""Depth frame -> the hand's pixels, without background and forearm; no labels, no learning (Sec. 4.2 without a wristband).

Everything is measured in mm on a coarse grid of cells (about 3 mm), and taken to full resolution at the end:

1. The nearest sizeable part of the frame that is continuous in depth, and the small parts that hang on it (a finger
   behind a fist is a depth step away from it).
2. Where the arm leaves it: at the image's border, into the body, or at a free end (a sleeve that the sensor missed).
3. The palm: the centre of the largest circle inside the part, at most 160 mm from the point that is farthest from the arm
   along the surface.
4. The wrist: the narrowest cross-section about 60 mm from the palm's centre towards the arm. The arm is removed from 24 mm
   beyond the wrist on. Fingers beyond the same line stay, because they are not connected to the arm.

Nothing is removed if the part is no longer than a hand. If both ends are free and either may be the hand, as for an arm that
points at the camera and ends in the image, there are two answers, for others to judge.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Real
from scipy import ndimage

from . import surface
from .camera import Camera
from .frame import check_frame

HAND_ELSEWHERE = "the hand is not where the frames before and after have it"

# Lengths as shares of settings.hand_length_mm, so that they fit children, too; comments give them for the default, 200 mm.
FINGER_RADIUS = 0.065  # 13 mm: a larger circle fits into no finger, but into every arm
FINGER_START = 0.085  # 17 mm from the nearest centre of such a circle, fingers begin
PALM_RADIUS = 0.18  # 36 mm at least
ARM_LENGTH = 0.3  # 60 mm of arm beyond the palm's circle tell its direction
BODY_RADIUS = 0.4  # 80 mm: such a circle fits into the body, but into no hand or arm
LIMB_START = 0.45  # 90 mm from the middle of the body, limbs have left it
EXIT_SPREAD = 0.15  # 30 mm: a narrower contact with the image's border is a finger's
END_LENGTH = 0.12  # 24 mm of a free end are its exit
HAND_LONGEST = 0.72  # 144 mm from exit to farthest point: a part that is shorter has no arm
FREE_LONGEST = 1.3  # 260 mm from end to end: a part that is shorter is a hand with a stump of arm
REACH = 0.8  # 160 mm: the farthest point of a hand from its palm's centre
KNOWN_REACH = 0.7  # 140 mm: the same from the mean of a hand's points, which other frames tell
KNOWN_ERROR, KNOWN_PALM = 0.4, 0.3  # 80 mm and 60 mm from there, the part and the palm's centre are searched
TRUNK_HALF = 0.35  # 70 mm: the arm is no wider to either side of its axis
WRIST, WRIST_LAST = 0.31, 0.48  # 62 mm from the palm's centre lies the wrist; it is searched from PALM_RADIUS to 96 mm
SLAB_HALF = 0.03  # 6 mm: half the thickness of a cross-section, and the step from one to the next
FOREARM_KEPT = 0.12  # 24 mm behind the wrist: networks bear a piece of forearm, but not a hand without its heel

# Which end is the arm: a score in mm, the length of the part from there, plus these terms. Set by hand.
OPENING_WEIGHT, OPENING_MOST = 2.0, 0.4  # arms leave through a wide opening, of 80 mm at most
BEHIND_WEIGHT, BEHIND_MOST = 0.7, 0.3  # arms are mostly farther from the camera than the hand; by 60 mm at most
PALM_WEIGHT = 2.0  # the palm is thick
FINGERS_LEAST = 0.04  # of hand_length_mm^2, 1600 mm^2: less area of fingers, as of a single one, proves little
SCORES_ALIKE = 0.3  # 60 mm: free ends that differ by less are both possible

LIMB_MM2 = 2000.0  # a smaller limb of the body has no hand
HOLE_MM2 = 400.0  # smaller holes are shadows of the sensor
SLOPE_MOST = 2.0  # slope of an arm in depth that is believed
WIDTH_MM = 30.0  # a wrist displaced by x mm costs as much as one x^2 / 30 mm wider
BORDER_MOST = 0.25  # share of a cross-section at the image's border, beyond which its width says nothing
PIXELS_LEAST = 400  # of a usable mask
AREA_MOST = 0.6  # of hand_length_mm^2, 24000 mm^2; the open hand of a large man has 21600
EXTENT_MOST = 1.35  # 270 mm: a hand with some forearm
POINTS_MEASURED = 3000  # of a hand, about: its length does not change with more
OUTLINE_MOST = 0.5  # share of the outline that the image's border may cut
NEAREST_PERCENT = 10  # percentile of the depths of a part by which parts are compared: not a few flying pixels


class NoHandFound(ValueError):
    """The frame holds nothing that can be a hand; the message says why."""


@dataclass(frozen=True)
class SegmentSettings:
    """Lengths in mm. The defaults suit adult hands within arm's reach of a sensor; children: hand_length_mm = 150."""

    near_mm: float = 150.0  # nearer depths are ignored
    far_mm: float = 1500.0  # farther ones, too
    hand_length_mm: float = 200.0  # wrist to the tip of the middle finger, at most; the other hand measures follow it
    reach_behind_mm: float = 450.0  # how far behind the nearest surface the hand and its arm are searched
    min_area_mm2: float = 2500.0  # a smaller part is not a hand (a fist seen from the front has about 6000)
    cell_mm: float = 3.2  # size of a grid cell: a finger is 4-5 cells wide
    step_mm: float = 20.0  # neighbouring cells further apart in depth belong to different surfaces
    join_mm: float = 60.0  # ... but a small part no further than this from the hand is a finger of it
    join_area_mm2: float = 8000.0  # "small": no larger than this
    arm_area_mm2: float = 30000.0  # the same if the nearest part is itself small: then the larger one may be the hand

    def __post_init__(self):
        for name, value in vars(self).items():
            if not np.isfinite(value) or value <= 0:
                raise ValueError(f"settings.{name} must be a finite number > 0, got {value!r}")
        if self.near_mm >= self.far_mm:
            raise ValueError(f"settings.near_mm ({self.near_mm}) must be less than settings.far_mm ({self.far_mm})")

    @property
    def searched(self) -> str:
        """The depths where a hand is searched, for messages."""
        return f"between {self.near_mm:.0f} and {self.far_mm:.0f} mm"


@dataclass(frozen=True)
class _Part:
    """The nearest part of the frame: N cells of the coarse grid, nodes of a graph of lengths along the surface."""

    cells: np.ndarray  # [h, w] bool: its cells in the grid
    points_mm: np.ndarray  # [N, 3]
    cell_mm: np.ndarray  # [N] side of the cell at its depth
    inside_mm: np.ndarray  # [N] distance to the part's outline in the image plane, the image's border included
    thick_mm: np.ndarray  # [N] the same, as if the part went on beyond the image's border
    thin: np.ndarray  # [N] bool: in extended fingers
    edges: tuple  # node, node, length_mm [E]
    border: tuple  # four arrays [N] bool: touches the image's top, bottom, left, right

    def distance_along(self, start):
        """Lengths [N] along the surface from the nearest of the start nodes (indices); -1 where no way leads."""
        length = surface.distances(*self.edges, np.asarray(start), len(self.points_mm))
        return np.where(np.isfinite(length), length, -1)

    def pieces(self, among):
        """Connected pieces of the nodes marked in among [N] bool: label [N], -1 elsewhere."""
        return surface.pieces(*self.edges[:2], among)

    def spread_mm(self, nodes):
        """Diagonal of the nodes' bounding box in x and y."""
        return np.linalg.norm(np.ptp(self.points_mm[nodes, :2], axis=0))


ADULT = SegmentSettings()
Point = np.ndarray | Sequence[float]


def segment_hand(
    depth_mm: Real[np.ndarray, "H W"], camera: Camera, settings: SegmentSettings = ADULT, near_mm: Point | None = None
) -> Bool[np.ndarray, "H W"]:
    """Mask of the hand with a short piece of forearm: the most plausible of `possible_hands`, with the same arguments.

    >>> hrlib.segment_hand(depth_mm, camera).shape == depth_mm.shape
    True
    """
    return possible_hands(depth_mm, camera, settings, near_mm)[0]


def possible_hands(
    depth_mm: Real[np.ndarray, "H W"], camera: Camera, settings: SegmentSettings = ADULT, near_mm: Point | None = None
) -> list[Bool[np.ndarray, "H W"]]:
    """Masks of what may be the hand, the most plausible first: two if two free ends are much alike.

    Args:
        depth_mm: 0 = no measurement.
        camera: of the frame.
        settings: measures of the hand, and where it is searched.
        near_mm: [3], the hand's centre in the camera frame, if other frames of the recording tell it. Then the arm is
            whatever is farther away than a hand reaches.

    Raises:
        NoHandFound: (a ValueError) nothing can be a hand.
        ValueError: wrong shape, NaN or negative depth.
    """
    check_frame(depth_mm, camera)
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


def _nearest_part(depth_mm, camera, settings, centre_mm):
    """Step 1 -> stride of the grid in pixels, and the sizeable part nearest to the camera (or there) with its fingers."""
    focal = np.sqrt(camera.fx * camera.fy)
    nearest_mm = _nearest_depth(depth_mm, focal, settings)
    stride = max(1, round(settings.cell_mm * focal / nearest_mm))
    v, u = (np.arange(0, n, stride).astype(np.float32) for n in depth_mm.shape)
    grid_mm = camera.unproject(u, v[:, None], depth_mm[::stride, ::stride])
    z = grid_mm[..., 2]
    usable = (z > settings.near_mm) & (z < min(settings.far_mm, nearest_mm + settings.reach_behind_mm))
    i, j, length_mm = surface.edges(grid_mm, usable, settings.join_mm)
    cell_mm = stride * z[usable] / focal
    member = _members(grid_mm[usable], cell_mm, (i, j), settings, centre_mm)
    cells = np.zeros(usable.shape, bool)
    cells[usable] = member
    number, own = np.cumsum(member) - 1, member[i] & member[j]
    edges = number[i[own]], number[j[own]], length_mm[own]
    return stride, _part_of(cells, grid_mm[cells], cell_mm[member], edges, settings.hand_length_mm)


def _nearest_depth(depth_mm, focal, settings):
    """The depth at which half the area of a hand is nearer: beyond single flying pixels."""
    sample = depth_mm[::2, ::2]
    sample = np.sort(sample[(sample > settings.near_mm) & (sample < settings.far_mm)])
    area_mm2 = 4 * np.cumsum((sample / focal) ** 2)
    if len(sample) == 0 or area_mm2[-1] < settings.min_area_mm2:
        raise NoHandFound(f"no depth {settings.searched}, or less than {settings.min_area_mm2:.0f} mm^2 of it")
    return sample[np.searchsorted(area_mm2, settings.min_area_mm2 / 2)]


def _members(points_mm, cell_mm, edges, settings, centre_mm):
    """Cells [N] bool of the nearest sizeable part (or of that at centre_mm), and of the small parts that hang on it."""
    z, (i, j) = points_mm[:, 2], edges
    smooth = np.abs(z[i] - z[j]) < settings.step_mm
    label = surface.pieces(i[smooth], j[smooth], np.ones(len(z), bool))
    area_mm2 = np.bincount(label, cell_mm**2)
    sizeable = np.flatnonzero(area_mm2 >= settings.min_area_mm2)
    if len(sizeable) == 0:
        largest = f"the largest has {area_mm2.max():.0f} mm^2, wanted {settings.min_area_mm2:.0f}"
        raise NoHandFound(f"no object of a hand's size {settings.searched}: {largest}")
    if centre_mm is None:
        member = label == _nearest_label(z, label, sizeable)
    else:
        there = np.linalg.norm(points_mm - centre_mm, axis=1) < KNOWN_ERROR * settings.hand_length_mm
        member = label == sizeable[np.bincount(label[there], minlength=len(area_mm2))[sizeable].argmax()]
    for _ in range(2):  # small parts that hang on it, then small parts that hang on those
        apart = member[i] != member[j]
        hanging = np.zeros(len(area_mm2), bool)
        hanging[label[i[apart]]] = hanging[label[j[apart]]] = True
        small = area_mm2[label[member]].max() < settings.join_area_mm2
        limit = settings.arm_area_mm2 if small else settings.join_area_mm2
        member |= (hanging & (area_mm2 < limit))[label]
    return member


def _nearest_label(z, label, among):
    return min(among, key=lambda one: np.percentile(z[label == one], NEAREST_PERCENT))


def _part_of(cells, points_mm, cell_mm, edges, hand):
    row, column = np.nonzero(cells)
    border = (row <= 1, row >= cells.shape[0] - 2, column <= 1, column >= cells.shape[1] - 2)
    solid = _without_small_holes(cells, np.median(cell_mm))
    window = _window(solid, 1)  # nothing further away is the nearest to anything inside
    solid, mine = solid[window], cells[window]
    inside_mm = ndimage.distance_transform_edt(np.pad(solid, 1))[1:-1, 1:-1][mine] * cell_mm
    thick_mm = ndimage.distance_transform_edt(solid)[mine] * cell_mm
    core = np.zeros(mine.shape, bool)
    core[mine] = thick_mm > FINGER_RADIUS * hand
    thin = np.ones(len(cell_mm), bool)
    if core.any():  # else scipy's distances mean nothing
        thin = ndimage.distance_transform_edt(~core)[mine] * cell_mm > FINGER_START * hand
    return _Part(cells, points_mm, cell_mm, inside_mm, thick_mm, thin, edges, border)


def _window(cells, margin):
    """The rows and columns that hold the marked cells [h, w] bool, with a margin as far as the image goes."""
    rows, columns = (np.flatnonzero(cells.any(axis)) for axis in (1, 0))
    return tuple(slice(max(0, at[0] - margin), at[-1] + 1 + margin) for at in (rows, columns))


def _without_small_holes(cells, cell_mm):
    """Slits of one cell and small holes filled: they are sensor shadows, not the hand's outline."""
    solid, window = cells.copy(), _window(cells, 0)
    solid[window] |= ndimage.binary_closing(np.pad(cells[window], 2), np.ones((3, 3)))[2:-2, 2:-2]
    hole, _ = ndimage.label(~solid)
    small = np.bincount(hole.ravel()) * cell_mm**2 < HOLE_MM2
    small[0] = False
    return solid | small[hole]


@dataclass(frozen=True)
class _Arm:
    """A guess where the arm leaves the part, with the palm and the arm that follow from it."""

    score: float
    exit_nodes: np.ndarray  # indices
    from_exit: np.ndarray  # [N] mm along the surface
    palm: int  # the node in the palm's centre
    nodes: np.ndarray  # [N] bool: the first ARM_LENGTH of the arm beyond the palm's circle


def _without_forearm(part, settings):
    """Steps 2 to 4 -> keep [N] bool for each end that may be the hand, the most plausible first."""
    hand = settings.hand_length_mm
    exits, free = _possible_exits(part, hand)
    arms = [_arm_through(part, exit_nodes, hand) for exit_nodes in exits]
    arms = sorted((arm for arm in arms if arm is not None), key=lambda arm: -arm.score)
    # No arm; or all of it is no longer than a hand; or the palm itself lies at the image's border.
    if not arms or max(arm.from_exit.max() for arm in arms) < HAND_LONGEST * hand or not arms[0].nodes.any():
        return [np.ones(len(part.points_mm), bool)]
    others = [arm for arm in arms[1:] if free and arm.nodes.any() and arm.score > arms[0].score - SCORES_ALIKE * hand]
    return [_cut_at_wrist(part, arm, hand) for arm in (arms[0], *others)]


def _hand_at(part, settings, centre_mm):
    """-> keep [N] bool, if the hand's centre is about centre_mm."""
    hand = settings.hand_length_mm
    apart_mm = np.linalg.norm(part.points_mm - centre_mm, axis=1)
    beyond = np.flatnonzero(apart_mm > KNOWN_REACH * hand)
    if not len(beyond):
        return np.ones(len(apart_mm), bool)
    from_exit = part.distance_along(beyond)
    at_hand = (apart_mm < KNOWN_PALM * hand) & (from_exit > 0)
    if not at_hand.any():
        raise NoHandFound(HAND_ELSEWHERE)
    palm = np.flatnonzero(at_hand)[np.argmax(part.inside_mm[at_hand])]
    arm = _arm_beyond(part, beyond, from_exit, palm, hand)
    return _cut_at_wrist(part, arm, hand) if arm.nodes.any() else apart_mm < KNOWN_REACH * hand


def _possible_exits(part, hand):
    """-> sets of nodes (indices) where the arm may leave the part: into the body, at the border, at a free end; and whether
    they are free ends."""
    body = np.flatnonzero(part.inside_mm > BODY_RADIUS * hand)
    if len(body):
        return [body], False
    exits = []
    for side in part.border:
        piece = part.pieces(side)
        contacts = [np.flatnonzero(piece == label) for label in np.unique(piece[side])]
        exits += [nodes for nodes in contacts if part.spread_mm(nodes) > EXIT_SPREAD * hand]
    if exits:
        return exits, False
    one_end = part.distance_along([part.points_mm[:, 2].argmin()]).argmax()
    from_one = part.distance_along([one_end])
    if from_one.max() < FREE_LONGEST * hand:
        return [], True
    from_other = part.distance_along([from_one.argmax()])
    return [np.flatnonzero((d >= 0) & (d < END_LENGTH * hand)) for d in (from_one, from_other)], True


def _arm_through(part, exit_nodes, hand):
    """Palm and arm if the arm leaves through these nodes; None if only a finger leads there."""
    z, from_exit = part.points_mm[:, 2], part.distance_along(exit_nodes)
    if part.inside_mm[exit_nodes].max() > BODY_RADIUS * hand:  # a body has more limbs: the hand is on the nearest one
        limb = part.pieces(from_exit > LIMB_START * hand)
        limbs = [label for label in np.unique(limb[limb >= 0]) if (part.cell_mm[limb == label] ** 2).sum() > LIMB_MM2]
        if not limbs:
            return None
        from_exit = np.where((limb == _nearest_label(z, limb, limbs)) | (limb < 0), from_exit, -1)
    finger_mm2 = part.thin * part.cell_mm**2
    near_exit = (from_exit >= 0) & (from_exit < 0.5 * from_exit.max())
    fingers_here = finger_mm2[near_exit].sum() / max(finger_mm2.sum(), FINGERS_LEAST * hand**2)
    if fingers_here > 0.5:  # most fingers are at this end
        return None
    # Further away it could lie in the forearm, which is thicker than a hand seen from its edge.
    in_hand = from_exit > from_exit.max() - REACH * hand
    palm = np.flatnonzero(in_hand)[np.argmax(part.inside_mm[in_hand])]
    arm = _arm_beyond(part, exit_nodes, from_exit, palm, hand)
    if arm.nodes.any() and part.thick_mm[arm.nodes].max() < FINGER_RADIUS * hand:
        return None
    opening = min(part.spread_mm(exit_nodes), OPENING_MOST * hand)
    behind = np.clip(np.median(z[exit_nodes]) - np.median(z), -BEHIND_MOST * hand, BEHIND_MOST * hand)
    score = OPENING_WEIGHT * opening + BEHIND_WEIGHT * behind + from_exit.max() + PALM_WEIGHT * part.inside_mm[palm]
    return replace(arm, score=score - hand * fingers_here)  # arms are far from the fingertips


def _arm_beyond(part, exit_nodes, from_exit, palm, hand):
    """The arm that begins at the palm's circle and leads to the exit."""
    radius = np.hypot(*(part.points_mm[:, :2] - part.points_mm[palm, :2]).T)
    palm_mm = max(part.inside_mm[palm], PALM_RADIUS * hand)
    nodes = (from_exit < from_exit[palm]) & (radius > palm_mm) & (radius < palm_mm + ARM_LENGTH * hand)
    if nodes.any():
        piece = part.pieces(nodes)
        nodes = piece == np.bincount(piece[nodes]).argmax()
    return _Arm(0.0, exit_nodes, from_exit, palm, nodes)


def _cut_at_wrist(part, arm, hand):
    """Step 4 -> keep [N] bool: the part without what lies beyond the wrist and is connected to the arm."""
    from_palm_mm = part.points_mm - part.points_mm[arm.palm]
    direction = from_palm_mm[arm.nodes, :2].mean(0)
    direction /= np.linalg.norm(direction)
    along = from_palm_mm[:, :2] @ direction
    aside = np.abs(from_palm_mm[:, :2] @ np.array([-direction[1], direction[0]]))
    slope = np.polyfit(along[arm.nodes], part.points_mm[arm.nodes, 2], 1)[0]
    stretch = np.sqrt(1 + min(abs(slope), SLOPE_MOST) ** 2)  # an arm that leads away from the camera looks too short
    along = along * stretch
    # a palm's cells are up to 10 mm farther from the exit than its centre
    trunk = (arm.from_exit < arm.from_exit[arm.palm] + 10) & (aside < TRUNK_HALF * hand)
    wrist = _narrowest(part, along, trunk, stretch, hand)
    if wrist is None:
        return np.ones(len(along), bool)
    beyond = part.pieces(along > wrist + FOREARM_KEPT * hand)
    leads_out = arm.nodes.copy()
    leads_out[arm.exit_nodes] = True
    removed = np.isin(beyond, beyond[leads_out & (beyond >= 0)])
    within_reach = np.linalg.norm(from_palm_mm, axis=1) < REACH * hand
    piece = part.pieces(~removed & within_reach)
    return piece == piece[arm.palm]


def _narrowest(part, along, trunk, stretch, hand):
    """Distance of the wrist from the palm's centre along the arm, mm; None if the image cuts the arm off before it."""
    at_border = np.any(part.border, axis=0)
    wrist, least = None, np.inf
    for station in np.arange(PALM_RADIUS, WRIST_LAST, SLAB_HALF) * hand:
        slab = trunk & (np.abs(along - station) < SLAB_HALF * hand)
        if not slab.any() or at_border[slab].mean() > BORDER_MOST:
            break  # what the image cuts off looks narrow
        width = (part.cell_mm[slab] ** 2).sum() * stretch / (2 * SLAB_HALF * hand)
        cost = width + (station - WRIST * hand) ** 2 / WIDTH_MM
        if cost < least:
            wrist, least = station, cost
    return wrist


def _to_full_resolution(depth_mm, hand_z, stride, step_mm):
    """Mask [H, W] of the pixels of the kept cells, and half a cell around, that are as deep as the kept ones of 3x3 cells.

    hand_z [h, w]: depth of the kept cells, 0 elsewhere; step_mm: margin at both ends of these depths.
    """
    mask, window = np.zeros(depth_mm.shape, bool), _window(hand_z, 1)
    z = hand_z[window]
    low, high = ndimage.minimum_filter(np.where(z > 0, z, np.inf), 3), ndimage.maximum_filter(z, 3)
    window = tuple(slice(at.start * stride, at.stop * stride) for at in window)
    depth_mm = depth_mm[window]
    height, width = depth_mm.shape
    low, high, kept = (x.repeat(stride, 0).repeat(stride, 1)[:height, :width] for x in (low, high, z > 0))
    near = ndimage.binary_dilation(kept, iterations=max(1, stride // 2))
    mask[window] = near & (depth_mm > 0) & (low - step_mm < depth_mm) & (depth_mm < high + step_mm)
    return mask


@dataclass(frozen=True)
class MaskCheck:
    """Measures of a mask, and the reason to leave the frame out (None for a good one)."""

    area_mm2: float  # as seen from the camera
    extent_mm: float  # along the longest direction, without the outermost 0.5 % of the points at either end
    distance_mm: float  # median depth
    border_share: float  # share of the outline that the image's border cuts
    reason: str | None


def check_mask(
    depth_mm: Real[np.ndarray, "H W"], camera: Camera, mask: Bool[np.ndarray, "H W"], settings: SegmentSettings = ADULT
) -> MaskCheck:
    """Measure a hand mask on its depth image, to leave out frames that a model should not learn from."""
    if np.shape(mask) != np.shape(depth_mm):
        raise ValueError(f"mask must have the shape of depth_mm {np.shape(depth_mm)}, got {np.shape(mask)}")
    size, (rows, columns) = mask.shape, _window(mask, 0) if mask.any() else (slice(0), slice(0))
    depth_mm = depth_mm[rows, columns]  # the rest of a frame only costs time
    mask = mask[rows, columns] & (depth_mm > 0)
    if not mask.any():
        return MaskCheck(0.0, 0.0, 0.0, 0.0, "the mask is empty")
    z = depth_mm[mask]
    v, u = np.unravel_index(np.flatnonzero(mask)[:: max(1, len(z) // POINTS_MEASURED)], mask.shape)
    at = depth_mm[v, u]
    points_mm = camera.unproject((u + columns.start).astype(np.float32), (v + rows.start).astype(np.float32), at)
    centred = points_mm - points_mm.mean(0)
    main_direction = np.linalg.eigh(centred.T @ centred)[1][:, -1]
    extent_mm = float(np.subtract(*np.percentile(centred @ main_direction, [99.5, 0.5])))
    distance_mm, area_mm2 = float(np.median(at)), _area_mm2(z, camera)
    around = np.pad(mask, 1)
    outline = mask & ~(around[:-2, 1:-1] & around[2:, 1:-1] & around[1:-1, :-2] & around[1:-1, 2:])
    inside = tuple(slice(max(1 - at.start, 0), n - 1 - at.start) for at, n in zip((rows, columns), size, strict=True))
    length = np.count_nonzero(outline)
    border_share = (length - np.count_nonzero(outline[inside])) / length
    hand, pixels = settings.hand_length_mm, len(z)
    problems = (
        (pixels < PIXELS_LEAST, f"only {pixels} pixels: bring the hand nearer, or use a sensor with more pixels"),
        (not settings.near_mm < distance_mm < settings.far_mm, f"the hand is {distance_mm:.0f} mm away"),
        (area_mm2 < settings.min_area_mm2, f"{area_mm2:.0f} mm^2 are less than a hand"),
        (area_mm2 > AREA_MOST * hand**2, f"{area_mm2:.0f} mm^2 are more than a hand"),
        (extent_mm > EXTENT_MOST * hand, f"{extent_mm:.0f} mm are longer than a hand"),
        (border_share > OUTLINE_MOST, f"the image's border cuts {border_share:.0%} of the hand's outline"),
    )
    reason = next((text for failed, text in problems if failed), None)
    return MaskCheck(area_mm2, extent_mm, distance_mm, border_share, reason)
