"""The pose of each frame by Gauss-Newton: what `refine.explain` minimises, in few steps that know the curvature.

A step of Levenberg and Marquardt moves all 51 numbers of a pose at once: the wrist's turn and place, and three angles of each
of 15 joints. All terms but the limits pull at points, of the model's cloud or at joints. A pull is a gradient and a 3x3
Hessian at one point. The pulls at a bone add up to torque, force and a 6x6 matrix, and from there along the joints before it:
the composite rigid body algorithm (Featherstone 2008, "Rigid Body Dynamics Algorithms", Sec. 6.2). A point on several bones
pulls at each by its weight there. So the gradient is exact. The Hessian is at least the exact one, because the square of a
mean is at most the mean of squares.

All frames of a recording step together: their accelerations join them, and conjugate gradients solve for all. Absolute values
|r| count as sqrt(r^2 + e^2), whose Hessian is taken as 1 / sqrt(r^2 + e^2) (iteratively reweighted least squares).
"""

import math
from dataclasses import dataclass
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..frames.crop import IMAGE_SIZE
from ..frames.crops import Crops
from ..hand.joints import PARENTS
from ..hand.rig import HandRig
from ..hand.rotations import euler_angles, from_euler, rotation_matrix
from ..hand.skinning.cpu import bonds_of
from ..method import wrist_position
from ..network.posenet import Prediction, wrist_to_anchor_mm
from ..render.cpu import splat_rows
from ..support.checks import require_at_least
from ..support.compiled import compiled
from ..support.progress import tqdm
from ..support.roma_alone import roma
from .explain import CHUNK, Explained, ExplainSettings, measured_cloud, require_places, spread_out

BEFORE = np.array(PARENTS)  # a joint's parent comes before it
FINGERS = range(5)
# the bone on which each of the 21 points hangs: a joint on its own, a tip on its finger's far one
POINT_BONES = np.array([0] + [1 + 3 * finger + bone for finger in FINGERS for bone in (0, 1, 2, 2)])
NUMBERS = 51  # of a pose, in order: the wrist's turn, angles of the joints, the wrist's place
CELL_MM = 8.0  # side of the columns in which the nearest point is sought
AWAY_MM = 1e4  # the place of points that do not count
FIRST_DAMPING, LEAST_DAMPING, MOST_DAMPING = 1e-2, 1e-4, 1e4  # of Levenberg and Marquardt, a share of the diagonal
CALMER, BOLDER = 8.0, 0.25  # its factors after a step that was worse, and after a better one
WORSE = 1.01  # a step may be worse by this factor: the frames beside it may gain
CALM_MM = 40.0  # way of the wrist that a calm step rates as a radian
LONGEST = 0.5  # rad that a step turns a joint at most

_arrays = WeakKeyDictionary()  # of each hand, its rim and `Hand`


@dataclass(frozen=True)
class FitSettings:
    """What a fit weighs and how long it goes on. Distances count in units of the cube, found on development people A-D."""

    steps: int = 12  # from the network's poses, the forearm cut off behind their wrists
    more_steps: int = 6  # from the fitted poses, the forearm cut off behind theirs
    solver_steps: int = 12  # of conjugate gradients in a step: how far frames know of each other
    depth: float = 10.0  # weight of Eq. 6
    data: float = 64.0  # weight of the distance from the frame's points to the model
    votes: float = 5.0  # weight of the distance of the joints from the points that the network votes for
    physical: float = 0.5  # weight of Eq. 8, per rad
    smooth: float = 12.0  # weight of the joints' acceleration from frame to frame; 0: the frames are no recording
    prior: float = 0.01  # weight of the squared way from the network's angles, per rad^2: what nothing else tells stays
    calm: float = 0.05  # weight of the squared length of a step, per rad^2
    slack_mm: float = 2.0  # a point of the frame that is nearer to the model than this does not pull
    # share of a data pull's curvature across its direction; 0: a point slides freely along the surface
    slide: float = 0.2
    votes_mm: float = 20.0  # the distance from the votes saturates here: a lost frame has them elsewhere
    jump_mm: float = 12.0  # the acceleration saturates here: a gap in the recording is no movement
    wrist_mm: float = 15.0  # points behind the wrist, or before it by less than this, do not count
    rim_mm: float = 1.0  # depth of the compared points below the skin: a sensor loses the rim of a finger
    radius_px: float = 5.0  # r of Eq. 5
    points: int = 256  # of each frame's points, as many are compared
    # e of the absolute values of depth (share of the cube), of distances, of angles
    depth_edge: float = 0.01
    edge_mm: float = 3.0
    edge_rad: float = 0.05

    def __post_init__(self):
        require_at_least(1, self, "steps", "solver_steps", "points")
        require_at_least(0, self, "more_steps", "smooth", "votes")


class Hand(NamedTuple):
    """A hand's arrays for the kernels."""

    neutral: np.ndarray  # [16, 3, 4], each joint's frame in its parent's at angles of zero
    tips: np.ndarray  # [5, 3], in the frame of the far joint
    rest: np.ndarray  # [16, 3, 4], the wrist's frame in each joint's at rest
    first: np.ndarray  # [N + 1], see `skinning.cpu.bonds_of`
    bone: np.ndarray
    share: np.ndarray
    cloud: np.ndarray  # [N, 3], at rest
    limits: np.ndarray  # [16, 3, 2] rad
    # the bonds once more, by bone: those of bone j are at begins[j] <= k < begins[j + 1]
    begins: np.ndarray  # [17]
    held: np.ndarray  # the point of each
    hold: np.ndarray  # its share


class Frames(NamedTuple):
    """Frames to explain. Lengths in mm from the crop's centre, in the camera's axes."""

    points: np.ndarray  # [B, P, 3], in the crop frame
    target: np.ndarray  # [B, 120, 120], those of them that are on the hand, splatted
    data: np.ndarray  # [B, M, 3], some of them
    counts: np.ndarray  # [B, M], 1 on the hand
    near: np.ndarray  # [B, M], index of the model's point that was nearest at the last look; -1 before
    cut: np.ndarray  # [B, 4]: points count where their product with the first three is greater than the fourth
    votes: np.ndarray  # [B, 21, 3]
    start: np.ndarray  # [B, 16, 3], angles of the network
    centre: np.ndarray  # [B, 3], of the crop in the camera's frame


class Poses(NamedTuple):
    """Two poses a frame, the best one and one to try, and what was found there."""

    angles: np.ndarray  # [2 B, 16, 3]; the wrist's are zero
    turn: np.ndarray  # [2 B, 3, 3], of the wrist
    place: np.ndarray  # [2 B, 3], of the wrist
    joints: np.ndarray  # [2 B, 21, 3]
    force: np.ndarray  # [2 B, 16, 6], torque and force on each bone about the crop's centre: the gradient
    stiffness: np.ndarray  # [2 B, 16, 6, 6], the Hessian of the same, lower half
    pull: np.ndarray  # [2 B, 16, 3], gradient of the terms of single angles
    stiff: np.ndarray  # [2 B, 16, 3], their Hessian
    energy: np.ndarray  # [2 B], without movement


class Terms(NamedTuple):
    """`FitSettings` in the units of the kernels."""

    depth: float  # per pixel
    data: float  # per mm and point
    votes: float  # per mm and joint
    physical: float
    smooth: float  # per mm
    prior: float
    calm: float
    slack_mm: float
    slide: float
    votes_mm: float
    jump_mm: float
    cube_mm: float
    radius_px: float
    depth_edge: float
    edge_mm: float
    edge_rad: float


class Scratch(NamedTuple):
    """Arrays that a look at one frame needs and forgets."""

    F: np.ndarray  # [16, 3, 4], joint frames
    axes: np.ndarray  # [16, 3, 3], the axis of each angle, one a row
    M: np.ndarray  # [16, 3, 4], Eq. 2
    posed: np.ndarray  # [3, N] mm
    splats: np.ndarray  # [N, 3], see `method.to_pixels`
    pulls: np.ndarray  # [N, 9], gradient and Hessian (xx, xy, xz, yy, yz, zz) at each point of the cloud
    depth: np.ndarray  # [120, 120]
    winners: np.ndarray  # [120, 120]
    order: np.ndarray  # [N], points by column
    columns: np.ndarray  # where each column begins in `order`
    sorted: np.ndarray  # [3, N] mm, the points in this order
    # [12, N]: of the points that pull at one bone, their places at rest and their pulls times their share
    pulled: np.ndarray


def fitted_poses(
    hand: HandRig,
    crops: Crops,
    prediction: Prediction,
    settings: FitSettings = FitSettings(),
    progress: bool = True,
) -> Explained:
    """The pose that explains each frame, from the predicted one on, without labels; about 9 ms a frame on one core.

    Minimises the sum of Eq. 6, Eq. 8, and the other terms that `FitSettings` weighs.

    Args:
        hand: of the user.
        crops: of B frames; with `settings.smooth` they are taken for a recording.
        prediction: where the fit begins. Its votes, if it has any, pull.
        settings: weights and numbers of steps.
        progress: show it, if it takes long.

    Raises:
        ValueError: no frames, poses without a place, or numbers that are not finite.
    """
    require_places(crops, prediction)
    if not all(x is None or x.isfinite().all() for x in vars(prediction).values()):
        raise ValueError("prediction holds NaN or infinite numbers: leave those frames out, or predict them again")
    pieces = [slice(first, first + CHUNK) for first in range(0, len(crops), CHUNK)]
    bar = tqdm(pieces, desc="fit the poses", disable=not progress or len(pieces) < 5)
    hand = hand if hand.vertices_mm.device.type == "cpu" else hand.to("cpu")  # a copy would forget what is derived
    fits = [_fit_piece(hand, crops[piece].to("cpu"), prediction[piece], settings) for piece in bar]
    rotations, offset, loss, joints_mm = (
        torch.cat(parts).to(prediction.rotations) for parts in zip(*fits, strict=True)
    )
    return Explained(Prediction(rotations, offset, prediction.points, prediction.shape), loss, joints_mm)


def _fit_piece(
    hand: HandRig, crops: Crops, prediction: Prediction, s: FitSettings
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rotations, offset, `surprise` and joints of some frames."""
    pose = Prediction(*(None if x is None else x.detach().cpu().float() for x in vars(prediction).values()))
    arrays, poses = hand_arrays(hand, s.rim_mm), start_poses(pose, hand, crops)
    frames, terms = frames_of(pose, poses, crops, s), terms_of(s, crops.cube_mm, pose.points is not None)
    best = _fit(poses, frames, arrays, terms, s.steps, s.solver_steps)
    if s.more_steps:
        _begin_again(poses, frames, best, s.wrist_mm, terms)
        best = _fit(poses, frames, arrays, terms, s.more_steps, s.solver_steps)
    rotations, offset = _numbers(poses, best, hand, crops)
    joints = poses.joints[best] + frames.centre[:, None]
    _begin_again(poses, frames, best, s.wrist_mm, terms)
    return rotations, offset, _surprise(poses, frames, arrays, crops.cube_mm), torch.from_numpy(joints)


def _surprise(poses: Poses, frames: Frames, arrays: Hand, cube_mm: float) -> Float[Tensor, " B"]:
    """Of the first B poses: a fit of no steps only looks."""
    _fit(poses, frames, arrays, terms_of_surprise(cube_mm), 0, 0)
    return torch.from_numpy(poses.energy[: len(frames.data)].copy())


@torch.no_grad()
def surprise_of(hand: HandRig, crops: Crops, prediction: Prediction) -> Float[Tensor, " B"]:
    """`explain.surprise` to a thousandth, by the kernels of a fit: on the CPU alone, in half the time."""
    require_places(crops, prediction)
    s, arrays = FitSettings(), hand_arrays(hand, FitSettings().rim_mm)
    losses = []
    for first in range(0, len(crops), CHUNK):
        some = crops[first : first + CHUNK]
        pose = prediction[first : first + CHUNK]
        pose = Prediction(pose.rotations.float(), pose.offset.float())
        poses = start_poses(pose, hand, some)
        losses.append(_surprise(poses, frames_of(pose, poses, some, s), arrays, some.cube_mm))
    return torch.cat(losses).to(prediction.rotations)


def _begin_again(poses: Poses, frames: Frames, best: np.ndarray, wrist_mm: float, terms: Terms) -> None:
    """The best poses are where the next fit begins, the forearms cut off behind their wrists."""
    for part in (poses.angles, poses.turn, poses.place):
        part[:] = np.concatenate([part[best]] * 2)
    frames.start[:] = poses.angles[: len(best)]
    _cut_off(frames, poses.turn, poses.place, wrist_mm, terms)


def hand_arrays(hand: HandRig, rim_mm: float) -> Hand:
    """The hand for the kernels, its cloud `rim_mm` below the skin; kept as long as the hand."""
    kept_mm, arrays = _arrays.get(hand, (None, None))
    if kept_mm == rim_mm:
        return arrays
    first, bone, share = bonds_of(hand.cloud_weights)
    doubles = (_doubles(x) for x in (hand.T_parent_neutral[:, :3], hand.tip_bones_mm, hand.T_rest_wrist[:, :3]))
    cloud = measured_cloud(hand, rim_mm).detach().float().contiguous().numpy()
    bonds = first.astype(np.int64), bone.astype(np.int64), share.astype(np.float32)
    order = np.argsort(bonds[1], kind="stable")
    begins = np.searchsorted(bonds[1][order], np.arange(17))
    held = np.repeat(np.arange(len(cloud)), np.diff(first))[order]
    arrays = Hand(*doubles, *bonds, cloud, _doubles(hand.limits_rad), begins, held, bonds[2][order])
    _arrays[hand] = rim_mm, arrays
    return arrays


def start_poses(prediction: Prediction, hand: HandRig, crops: Crops) -> Poses:
    """The predicted poses, of which nothing is known yet."""
    angles = euler_angles(prediction.rotations)
    angles[:, 0] = 0
    turn, place_mm = rotation_matrix(prediction.rotations[:, 0]), wrist_position(prediction, hand, crops)
    shapes = (21, 3), (16, 6), (16, 6, 6), (16, 3), (16, 3), ()
    found = (np.zeros((2 * len(crops), *shape)) for shape in shapes)
    return Poses(*(np.concatenate([_doubles(x)] * 2) for x in (angles, turn, place_mm - crops.centre_mm)), *found)


def frames_of(prediction: Prediction, poses: Poses, crops: Crops, s: FitSettings) -> Frames:
    """The frames, their forearms cut off behind the wrists of `poses`, which begin as predicted."""
    B, cube_mm, votes = len(crops), crops.cube_mm, prediction.points
    data = ((spread_out(crops, s.points) - 0.5) * cube_mm).contiguous().numpy()
    frames = Frames(
        crops.points.contiguous().numpy(), np.zeros((B, IMAGE_SIZE, IMAGE_SIZE), np.float32), data,
        np.zeros((B, s.points)), np.full((B, s.points), -1), np.zeros((B, 4)),
        np.zeros((B, 21, 3)) if votes is None else _doubles(votes * cube_mm), poses.angles[:B].copy(),
        _doubles(crops.centre_mm),
    )  # fmt: skip
    _cut_off(frames, poses.turn, poses.place, s.wrist_mm, terms_of(s, cube_mm))
    return frames


def terms_of(s: FitSettings, cube_mm: float, votes: bool = True) -> Terms:
    """The settings for the kernels, for crops of that size. votes: whether the network votes."""
    return Terms(
        s.depth / IMAGE_SIZE**2, s.data / cube_mm, s.votes / cube_mm / 21 if votes else 0.0, s.physical,
        s.smooth / cube_mm, s.prior, s.calm, s.slack_mm, s.slide, s.votes_mm, s.jump_mm, cube_mm, s.radius_px,
        s.depth_edge, s.edge_mm, s.edge_rad,
    )  # fmt: skip


def terms_of_surprise(cube_mm: float) -> Terms:
    """The terms of `explain.surprise`: plain absolute values of depth and distance, and nothing else."""
    s = ExplainSettings()
    same, nothing = ("depth", "data", "slack_mm"), ("depth_edge", "edge_mm", "physical", "prior", "smooth")
    alone = FitSettings(**{name: getattr(s, name) for name in same}, **dict.fromkeys(nothing, 0.0))
    return terms_of(alone, cube_mm, votes=False)


def _numbers(poses: Poses, best: np.ndarray, hand: HandRig, crops: Crops) -> tuple[Tensor, Tensor]:
    """Rotations and offset of a `Prediction` of the best poses."""
    rotations = from_euler(torch.from_numpy(poses.angles[best]))
    rotations[:, 0] = roma.rotmat_to_unitquat(torch.from_numpy(poses.turn[best]))
    rotations = rotations.float()
    anchor_mm = torch.from_numpy(poses.place[best]).float() + wrist_to_anchor_mm(rotations, hand)
    return rotations, anchor_mm / crops.cube_mm


def _doubles(x: Tensor) -> np.ndarray:
    return x.detach().cpu().double().contiguous().numpy()


# -- the hand -----------------------------------------------------------------------------------------------------------


@compiled()
def _pose(angles, turn, place, hand, F, axes, joints):
    """Joint frames F, axes of the angles in the camera's frame, and the 21 points of one pose."""
    for r in range(3):
        for c in range(3):
            F[0, r, c], axes[0, r, c] = turn[r, c], 1.0 if r == c else 0.0
        F[0, r, 3] = place[r]
    for j in range(1, 16):
        p, A, N = BEFORE[j], F[j], hand.neutral[j]
        sx, cx = math.sin(angles[j, 0]), math.cos(angles[j, 0])
        sz, cz = math.sin(angles[j, 1]), math.cos(angles[j, 1])
        sy, cy = math.sin(angles[j, 2]), math.cos(angles[j, 2])
        for r in range(3):
            a, b, c = F[p, r, 0], F[p, r, 1], F[p, r, 2]
            x = a * N[0, 0] + b * N[1, 0] + c * N[2, 0]
            y = a * N[0, 1] + b * N[1, 1] + c * N[2, 1]
            z = a * N[0, 2] + b * N[1, 2] + c * N[2, 2]
            A[r, 3] = a * N[0, 3] + b * N[1, 3] + c * N[2, 3] + F[p, r, 3]
            axes[j, 0, r] = x
            y, z = cx * y + sx * z, cx * z - sx * y  # times R_x(flexion)
            axes[j, 1, r] = z
            x, y = cz * x + sz * y, cz * y - sz * x  # times R_z(deviation)
            axes[j, 2, r] = y
            A[r, 0], A[r, 1], A[r, 2] = cy * x - sy * z, y, sy * x + cy * z  # times R_y(twist)
    for i in range(21):
        b = POINT_BONES[i]
        for r in range(3):
            joints[i, r] = F[b, r, 3]
            if i > 0 and i % 4 == 0:
                t = hand.tips[i // 4 - 1]
                joints[i, r] += F[b, r, 0] * t[0] + F[b, r, 1] * t[1] + F[b, r, 2] * t[2]


@compiled(fastmath={"contract"})
def _skin(F, hand, M, posed):
    """Eq. 2: the matrices M and the posed cloud."""
    for j in range(16):
        for r in range(3):
            for c in range(4):
                moved = F[j, r, 3] if c == 3 else 0.0
                for k in range(3):
                    moved += F[j, r, k] * hand.rest[j, k, c]
                M[j, r, c] = moved
    for i in range(len(hand.cloud)):
        x = y = z = np.float32(0)
        a, b, c = hand.cloud[i, 0], hand.cloud[i, 1], hand.cloud[i, 2]
        for k in range(hand.first[i], hand.first[i + 1]):
            m, w = M[hand.bone[k]], hand.share[k]
            x += w * (m[0, 0] * a + m[0, 1] * b + m[0, 2] * c + m[0, 3])
            y += w * (m[1, 0] * a + m[1, 1] * b + m[1, 2] * c + m[1, 3])
            z += w * (m[2, 0] * a + m[2, 1] * b + m[2, 2] * c + m[2, 3])
        posed[0, i], posed[1, i], posed[2, i] = x, y, z


@compiled()
def _jacobian(joints, F, axes, J):
    """Derivatives J [21, 3, 51] of the 21 points by the numbers of the pose."""
    for i in range(21):
        for c in range(3):
            for k in range(NUMBERS):
                J[i, c, k] = 1.0 if k == 48 + c else 0.0
        b = POINT_BONES[i]
        while b >= 0:
            x, y, z = joints[i, 0] - F[b, 0, 3], joints[i, 1] - F[b, 1, 3], joints[i, 2] - F[b, 2, 3]
            for c in range(3):
                a = axes[b, c]
                J[i, 0, 3 * b + c] = a[1] * z - a[2] * y
                J[i, 1, 3 * b + c] = a[2] * x - a[0] * z
                J[i, 2, 3 * b + c] = a[0] * y - a[1] * x
            b = BEFORE[b]


@compiled()
def _move(angles, turn, place, step, new_angles, new_turn, new_place):
    """The pose less a step of its numbers, none of whose turns is longer than `LONGEST`."""
    for j in range(1, 16):
        for c in range(3):
            new_angles[j, c] = angles[j, c] - min(max(step[3 * j + c], -LONGEST), LONGEST)
    x, y, z = -step[0], -step[1], -step[2]
    angle = math.sqrt(x * x + y * y + z * z)
    shrink = min(1.0, LONGEST / max(angle, 1e-12))
    x, y, z, angle = x * shrink, y * shrink, z * shrink, angle * shrink
    s = math.sin(angle) / angle if angle > 1e-9 else 1.0
    c = (1 - math.cos(angle)) / (angle * angle) if angle > 1e-9 else 0.5
    for k in range(3):  # Rodrigues: R + s w x R + c w x (w x R)
        p, q, r = turn[0, k], turn[1, k], turn[2, k]
        a, b, d = y * r - z * q, z * p - x * r, x * q - y * p
        new_turn[0, k] = p + s * a + c * (y * d - z * b)
        new_turn[1, k] = q + s * b + c * (z * a - x * d)
        new_turn[2, k] = r + s * d + c * (x * b - y * a)
        new_place[k] = place[k] - step[48 + k]


# -- nearest points -----------------------------------------------------------------------------------------------------


@compiled()
def _column(x, cube_mm, side):
    return min(max(int((x + cube_mm / 2) / CELL_MM), 0), side - 1)


@compiled()
def _sort(posed, cube_mm, order, columns, sorted):
    """Points by columns along z: those of column k are order[columns[k]: columns[k + 1]]. Points `AWAY_MM` are left out."""
    side, n = int(cube_mm / CELL_MM) + 1, posed.shape[1]
    own, filled = np.empty(n, np.int32), np.zeros(len(columns), np.int32)
    for k in range(len(columns)):
        columns[k] = 0
    for i in range(n):
        own[i] = _column(posed[0, i], cube_mm, side) * side + _column(posed[1, i], cube_mm, side)
        if posed[0, i] < AWAY_MM:
            columns[own[i] + 1] += 1
    for k in range(side * side):
        columns[k + 1] += columns[k]
        filled[k + 1] = columns[k + 1]
    for i in range(n):
        if posed[0, i] < AWAY_MM:
            at = filled[own[i]]
            filled[own[i]] += 1
            order[at] = i
            for c in range(3):
                sorted[c, at] = posed[c, i]


@compiled(fastmath={"contract"})
def _nearest(sorted, cube_mm, order, columns, point, near):
    """Index of the nearest sorted point and its squared distance; (-1, 1e30) if there is none.

    near: a sorted point and its squared distance, or (-1, 1e30). Only what may be nearer is looked at.
    """
    side, (which, best), (x, y, z) = int(cube_mm / CELL_MM) + 1, near, point
    margin = np.float32(1.001)  # the square of a root may be less than the number
    reach = np.float32(CELL_MM) if which < 0 else margin * np.sqrt(best)
    while True:
        low, high = _column(y - reach, cube_mm, side), _column(y + reach, cube_mm, side)
        for i in range(_column(x - reach, cube_mm, side), _column(x + reach, cube_mm, side) + 1):
            for k in range(columns[i * side + low], columns[i * side + high + 1]):
                dx, dy, dz = sorted[0, k] - x, sorted[1, k] - y, sorted[2, k] - z
                d = dx * dx + dy * dy + dz * dz
                if d < best:
                    best, which = d, order[k]
        if best <= reach * reach or reach > 2 * cube_mm:  # none of the columns left out is nearer
            return which, best
        reach = 2 * reach if which < 0 else margin * np.sqrt(best)


# -- one frame ----------------------------------------------------------------------------------------------------------


@compiled()
def _pull(G, H, p, w, g, h):
    """Add to a bone's G and H the pull at its point p: gradient g and Hessian h (xx, xy, xz, yy, yz, zz), each times w."""
    x, y, z = p
    gx, gy, gz = w * g[0], w * g[1], w * g[2]
    G[0] += y * gz - z * gy
    G[1] += z * gx - x * gz
    G[2] += x * gy - y * gx
    G[3] += gx
    G[4] += gy
    G[5] += gz
    xx, xy, xz, yy, yz, zz = w * h[0], w * h[1], w * h[2], w * h[3], w * h[4], w * h[5]
    # h times what a turn about each axis does to p: (0, -z, y), (z, 0, -x), (-y, x, 0)
    a0, a1, a2 = y * xz - z * xy, y * yz - z * yy, y * zz - z * yz
    b0, b1, b2 = z * xx - x * xz, z * xy - x * yz, z * xz - x * zz
    c0, c1, c2 = x * xy - y * xx, x * yy - y * xy, x * yz - y * xz
    H[0, 0] += y * a2 - z * a1
    H[1, 0] += z * a0 - x * a2
    H[2, 0] += x * a1 - y * a0
    H[1, 1] += z * b0 - x * b2
    H[2, 1] += x * b1 - y * b0
    H[2, 2] += x * c1 - y * c0
    H[3, 0] += a0
    H[4, 0] += a1
    H[5, 0] += a2
    H[3, 1] += b0
    H[4, 1] += b1
    H[5, 1] += b2
    H[3, 2] += c0
    H[4, 2] += c1
    H[5, 2] += c2
    H[3, 3] += xx
    H[4, 3] += xy
    H[5, 3] += xz
    H[4, 4] += yy
    H[5, 4] += yz
    H[5, 5] += zz


@compiled()
def _bones_to_numbers(force, stiffness, F, axes, gradient, hessian):
    """Gradient [51] and Hessian [51, 51] by the numbers of the pose, from those of the bones."""
    G, H, screws = force.copy(), stiffness.copy(), np.zeros((NUMBERS, 6))
    for j in range(15, -1, -1):
        for a in range(6):
            for b in range(a):
                H[j, b, a] = H[j, a, b]
        if j > 0:
            for a in range(6):
                G[BEFORE[j], a] += G[j, a]
                for b in range(a + 1):
                    H[BEFORE[j], a, b] += H[j, a, b]
    for j in range(16):
        for c in range(3):
            s, a, o = screws[3 * j + c], axes[j, c], F[j]
            s[0], s[1], s[2] = a[0], a[1], a[2]
            s[3] = o[1, 3] * a[2] - o[2, 3] * a[1]
            s[4] = o[2, 3] * a[0] - o[0, 3] * a[2]
            s[5] = o[0, 3] * a[1] - o[1, 3] * a[0]
            screws[48 + c, 3 + c] = 1.0
    for i in range(NUMBERS):
        for k in range(NUMBERS):
            hessian[i, k] = 0.0
    y = np.zeros(6)
    for i in range(NUMBERS):
        j = i // 3 if i < 48 else 0
        gradient[i] = 0.0
        for a in range(6):
            gradient[i] += screws[i, a] * G[j, a]
            y[a] = 0.0
            for b in range(6):
                y[a] += H[j, a, b] * screws[i, b]
        k = j
        while k >= 0:  # the joints before it move the same bones
            for m in range(3 * k, 3 * k + 3):
                t = 0.0
                for a in range(6):
                    t += screws[m, a] * y[a]
                hessian[i, m] = hessian[m, i] = t
            k = BEFORE[k]
        for c in range(3):
            hessian[i, 48 + c] = hessian[48 + c, i] = y[3 + c]


@compiled()
def _look(p, t, poses, frames, hand, terms, scratch):
    """Pose p explains frame t: fills in all of `poses` that the pose itself does not say."""
    F, axes, joints = scratch.F, scratch.axes, poses.joints[p]
    _pose(poses.angles[p], poses.turn[p], poses.place[p], hand, F, axes, joints)
    _skin(F, hand, scratch.M, scratch.posed)
    pulls, force, stiffness = scratch.pulls, poses.force[p], poses.stiffness[p]
    for i in range(len(pulls)):
        for k in range(9):
            pulls[i, k] = 0
    energy = _depth_term(frames.target[t], frames.cut[t], terms, scratch)
    energy += _data_term(frames.data[t], frames.counts[t], frames.near[t], terms, scratch)
    _pulls_to_bones(hand, scratch, force, stiffness)
    if terms.votes > 0:
        energy += _votes_term(joints, frames.votes[t], terms, force, stiffness)
    poses.energy[p] = energy + _angle_terms(
        poses.angles[p], frames.start[t], hand.limits, terms, poses.pull[p], poses.stiff[p]
    )


@compiled(fastmath={"contract", "reassoc"})
def _pulls_to_bones(hand, scratch, force, stiffness):
    """The pulls at points of the cloud, added up at each bone: what `_pull` does with one, with many at a time."""
    pulls, pulled, M = scratch.pulls, scratch.pulled, scratch.M
    for j in range(16):
        n = 0
        for k in range(hand.begins[j], hand.begins[j + 1]):
            i, w = hand.held[k], hand.hold[k]
            if pulls[i, 3] + pulls[i, 6] + pulls[i, 8] == 0:
                continue
            for c in range(3):
                pulled[c, n] = hand.cloud[i, c]
            for c in range(9):
                pulled[3 + c, n] = w * pulls[i, c]
            n += 1
        m, G, H = M[j], force[j], stiffness[j]
        m00, m01, m02, m03 = m[0, 0], m[0, 1], m[0, 2], m[0, 3]
        m10, m11, m12, m13 = m[1, 0], m[1, 1], m[1, 2], m[1, 3]
        m20, m21, m22, m23 = m[2, 0], m[2, 1], m[2, 2], m[2, 3]
        g0 = g1 = g2 = t0 = t1 = t2 = h0 = h1 = h2 = h3 = h4 = h5 = np.float32(0)
        for k in range(n):
            a, b, c = pulled[0, k], pulled[1, k], pulled[2, k]
            x = m00 * a + m01 * b + m02 * c + m03
            y = m10 * a + m11 * b + m12 * c + m13
            z = m20 * a + m21 * b + m22 * c + m23
            pulled[0, k], pulled[1, k], pulled[2, k] = x, y, z
            gx, gy, gz = pulled[3, k], pulled[4, k], pulled[5, k]
            t0 += y * gz - z * gy
            t1 += z * gx - x * gz
            t2 += x * gy - y * gx
            g0 += gx
            g1 += gy
            g2 += gz
            h0 += pulled[6, k]
            h1 += pulled[7, k]
            h2 += pulled[8, k]
            h3 += pulled[9, k]
            h4 += pulled[10, k]
            h5 += pulled[11, k]
        G[0], G[1], G[2], G[3], G[4], G[5] = t0, t1, t2, g0, g1, g2
        H[3, 3], H[4, 3], H[5, 3], H[4, 4], H[5, 4], H[5, 5] = h0, h1, h2, h3, h4, h5
        a0 = a1 = a2 = b0 = b1 = b2 = c0 = c1 = c2 = r0 = r1 = r2 = r3 = r4 = r5 = np.float32(0)
        for k in range(n):
            x, y, z = pulled[0, k], pulled[1, k], pulled[2, k]
            xx, xy, xz, yy, yz, zz = (
                pulled[6, k], pulled[7, k], pulled[8, k], pulled[9, k], pulled[10, k], pulled[11, k]
            )  # fmt: skip
            p0, p1, p2 = y * xz - z * xy, y * yz - z * yy, y * zz - z * yz
            q0, q1, q2 = z * xx - x * xz, z * xy - x * yz, z * xz - x * zz
            s0, s1, s2 = x * xy - y * xx, x * yy - y * xy, x * yz - y * xz
            a0 += p0
            a1 += p1
            a2 += p2
            b0 += q0
            b1 += q1
            b2 += q2
            c0 += s0
            c1 += s1
            c2 += s2
            r0 += y * p2 - z * p1
            r1 += z * p0 - x * p2
            r2 += x * p1 - y * p0
            r3 += z * q0 - x * q2
            r4 += x * q1 - y * q0
            r5 += x * s1 - y * s0
        H[3, 0], H[4, 0], H[5, 0] = a0, a1, a2
        H[3, 1], H[4, 1], H[5, 1] = b0, b1, b2
        H[3, 2], H[4, 2], H[5, 2] = c0, c1, c2
        H[0, 0], H[1, 0], H[2, 0], H[1, 1], H[2, 1], H[2, 2] = r0, r1, r2, r3, r4, r5


@compiled()
def _depth_term(target, cut, terms, scratch):
    """Eq. 6 of what is before the cut; points behind it go `AWAY_MM`."""
    posed, splats, pulls, winners = scratch.posed, scratch.splats, scratch.pulls, scratch.winners
    cube_mm, size = terms.cube_mm, len(target)
    for i in range(len(splats)):
        x, y, z = posed[0, i], posed[1, i], posed[2, i]
        if x * cut[0] + y * cut[1] + z * cut[2] > cut[3]:
            splats[i, 0] = (x / cube_mm + 0.5) * size - 0.5
            splats[i, 1] = (y / cube_mm + 0.5) * size - 0.5
            splats[i, 2] = z / cube_mm + 0.5
        else:
            splats[i, 0], splats[i, 1], splats[i, 2] = -2.0 * size, -2.0 * size, 0.5
            posed[0, i] = AWAY_MM
    splat_rows(splats, np.float32(terms.radius_px), scratch.depth, winners, 0, size)
    energy, inverse, to_px = 0.0, 1 / terms.radius_px**2, size / cube_mm
    for i in range(size):
        for j in range(size):
            apart = float(scratch.depth[i, j]) - target[i, j]
            if apart == 0:
                continue
            length = math.sqrt(apart * apart + terms.depth_edge**2)
            energy += terms.depth * (length - terms.depth_edge)
            k = winners[i, j]
            if k < 0:
                continue
            dx, dy = j - splats[k, 0], i - splats[k, 1]
            bracket = max(1 - (dx * dx + dy * dy) * inverse, 0.0)
            slope = (1 - splats[k, 2]) * bracket * inverse * 4 * to_px  # the derivatives of Eq. 4 and 5
            _along(pulls[k], slope * dx, slope * dy, -bracket * bracket / cube_mm, terms.depth / length, apart, 0.0)
    return energy


@compiled()
def _along(pull, x, y, z, w, r, across):
    """Add to a pull a term whose derivative by the residual r is w r: r has the gradient (x, y, z).

    across: Hessian in all directions, besides.
    """
    f = w * r
    pull[0] += f * x
    pull[1] += f * y
    pull[2] += f * z
    pull[3] += w * x * x + across
    pull[4] += w * x * y
    pull[5] += w * x * z
    pull[6] += w * y * y + across
    pull[7] += w * y * z
    pull[8] += w * z * z + across


@compiled()
def _data_term(data, counts, near, terms, scratch):
    """The distance of the frame's points from the model, as far as it is more than the slack."""
    posed, slack, nobody = scratch.posed, np.float32(terms.slack_mm), np.float32(1e30)
    _sort(posed, terms.cube_mm, scratch.order, scratch.columns, scratch.sorted)
    energy, count = 0.0, 0.0
    for i in range(len(data)):
        count += counts[i]
    weight = terms.data / max(count, 1.0)
    for i in range(len(data)):
        if counts[i] == 0:
            continue
        x, y, z = data[i, 0], data[i, 1], data[i, 2]
        k, squared = near[i], nobody
        if k >= 0 and posed[0, k] < AWAY_MM:  # what was nearest before still is near
            squared = (posed[0, k] - x) ** 2 + (posed[1, k] - y) ** 2 + (posed[2, k] - z) ** 2
        if squared > slack * slack:
            start = (k if squared < nobody else -1, squared)
            k, squared = _nearest(scratch.sorted, terms.cube_mm, scratch.order, scratch.columns, (x, y, z), start)
            near[i] = k
        distance = math.sqrt(squared)
        r = distance - terms.slack_mm
        if k < 0 or r <= 0:
            continue
        length = math.sqrt(r * r + terms.edge_mm**2)
        energy += weight * (length - terms.edge_mm)
        x, y, z = (posed[0, k] - x) / distance, (posed[1, k] - y) / distance, (posed[2, k] - z) / distance
        across = terms.slide * weight * r / (length * distance)
        _along(scratch.pulls[k], x, y, z, weight / length, r, across)
    return energy


@compiled()
def _votes_term(joints, votes, terms, force, stiffness):
    """The saturating distance of the joints from the votes."""
    energy, g, h = 0.0, np.zeros(3), np.zeros(6)
    for i in range(21):
        squared = 0.25 * terms.edge_mm**2
        for c in range(3):
            g[c] = joints[i, c] - votes[i, c]
            squared += g[c] * g[c]
        distance = math.sqrt(squared)
        share = math.exp(-distance / terms.votes_mm)
        energy += terms.votes * terms.votes_mm * (1 - share)
        h[0] = h[3] = h[5] = 1.0
        b = POINT_BONES[i]
        _pull(force[b], stiffness[b], (joints[i, 0], joints[i, 1], joints[i, 2]), terms.votes * share / distance, g, h)
    return energy


@compiled()
def _angle_terms(angles, start, limits, terms, pull, stiff):
    """Eq. 8, and the squared way from the network's angles."""
    energy = 0.0
    for j in range(1, 16):
        for c in range(3):
            angle, way = angles[j, c], angles[j, c] - start[j, c]
            beyond = max(angle - limits[j, c, 1], 0.0) - max(limits[j, c, 0] - angle, 0.0)
            length = math.sqrt(beyond * beyond + terms.edge_rad**2)
            energy += terms.physical * (length - terms.edge_rad) + 0.5 * terms.prior * way * way
            pull[j, c] = terms.physical * beyond / length + terms.prior * way
            stiff[j, c] = (terms.physical / length if beyond != 0 else 0.0) + terms.prior
    return energy


# -- all frames ---------------------------------------------------------------------------------------------------------


@compiled()
def _accelerations(joints, terms, springs, uneven):
    """Energy `uneven` [B] of the acceleration at each frame, none at the ends; `springs` [B, 21]: its Hessian at each joint."""
    for t in range(len(joints)):
        total, uneven[t] = 0.0, 0.0
        for j in range(21):
            springs[t, j] = 0.0
        if t == 0 or t == len(joints) - 1:
            continue
        for j in range(21):
            squared = 0.25 * terms.edge_mm**2
            for c in range(3):
                squared += (joints[t - 1, j, c] - 2 * joints[t, j, c] + joints[t + 1, j, c]) ** 2
            springs[t, j] = math.sqrt(squared)
            total += springs[t, j] / 21
        share = math.exp(-total / terms.jump_mm)
        uneven[t] = terms.smooth * terms.jump_mm * (1 - share)
        for j in range(21):
            springs[t, j] = terms.smooth * share / 21 / springs[t, j]


@compiled(fastmath={"contract"})
def _sprung(moved, springs, out):
    """out = D^T W D moved [B, 21, 3]: D the second differences in time, W the springs."""
    for t in range(len(moved)):
        for j in range(21):
            for c in range(3):
                out[t, j, c] = 0.0
    for t in range(1, len(moved) - 1):
        for j in range(21):
            for c in range(3):
                a = springs[t, j] * (moved[t - 1, j, c] - 2 * moved[t, j, c] + moved[t + 1, j, c])
                out[t - 1, j, c] += a
                out[t, j, c] -= 2 * a
                out[t + 1, j, c] += a


@compiled(fastmath={"contract", "reassoc"})
def _times(A, J, springs, x, moved, sprung, y):
    """y = (A + J^T D^T W D J) x of all frames."""
    for t in range(len(A)):
        for i in range(21):
            for c in range(3):
                s = 0.0
                for k in range(NUMBERS):
                    s += J[t, i, c, k] * x[t, k]
                moved[t, i, c] = s
    _sprung(moved, springs, sprung)
    for t in range(len(A)):
        for i in range(NUMBERS):
            s = 0.0
            for k in range(NUMBERS):
                s += A[t, i, k] * x[t, k]
            y[t, i] = s
        for i in range(21):
            for c in range(3):
                for k in range(NUMBERS):
                    y[t, k] += J[t, i, c, k] * sprung[t, i, c]


@compiled(fastmath={"contract", "reassoc"})
def _factor(A):
    """Cholesky's factor in the lower half, in place."""
    for i in range(NUMBERS):
        for j in range(i + 1):
            s = A[i, j]
            for k in range(j):
                s -= A[i, k] * A[j, k]
            A[i, j] = math.sqrt(max(s, 1e-12)) if i == j else s / A[j, j]


@compiled(fastmath={"contract", "reassoc"})
def _frame_by_frame(L, r, z):
    """z = (L L^T)^-1 r of each frame."""
    for t in range(len(r)):
        for i in range(NUMBERS):
            s = r[t, i]
            for k in range(i):
                s -= L[t, i, k] * z[t, k]
            z[t, i] = s / L[t, i, i]
        for i in range(NUMBERS - 1, -1, -1):
            z[t, i] /= L[t, i, i]
            for k in range(i):
                z[t, k] -= L[t, i, k] * z[t, i]


@compiled()
def _conjugate_gradients(A, L, J, springs, gradient, x, iterations):
    """x [B, 51], of which the normal equations of all frames make the gradient; each frame's own ones are preconditioner."""
    moved, sprung = np.zeros((len(A), 21, 3)), np.zeros((len(A), 21, 3))
    r, z, y, p = np.zeros(x.shape), np.zeros(x.shape), np.zeros(x.shape), np.zeros(x.shape)
    _mix(r, 0.0, gradient, 1.0)
    _mix(x, 0.0, gradient, 0.0)
    last = 1.0
    for iteration in range(iterations):
        _frame_by_frame(L, r, z)
        now = _inner(r, z)
        if now <= 1e-14:
            break
        _mix(p, 0.0 if iteration == 0 else now / last, z, 1.0)
        last = now
        _times(A, J, springs, p, moved, sprung, y)
        step = now / _inner(p, y)
        _mix(x, 1.0, p, step)
        _mix(r, 1.0, y, -step)


@compiled()
def _inner(a, b):
    s = 0.0
    for t in range(a.shape[0]):
        for k in range(a.shape[1]):
            s += a[t, k] * b[t, k]
    return s


@compiled()
def _mix(a, p, b, q):
    """a = p a + q b."""
    for t in range(a.shape[0]):
        for k in range(a.shape[1]):
            a[t, k] = p * a[t, k] + q * b[t, k]


@compiled()
def _equations(p, t, poses, springs, sprung, damping, terms, hand, scratch, gradient, A, L, J):
    """Normal equations of frame t alone, J of its joints, and in L the factor of A with its own springs."""
    F, axes, joints = scratch.F, scratch.axes, poses.joints[p]
    _pose(poses.angles[p], poses.turn[p], poses.place[p], hand, F, axes, joints)
    _jacobian(joints, F, axes, J)
    _bones_to_numbers(poses.force[p], poses.stiffness[p], F, axes, gradient, A)
    force, stiffness, pulled, h = np.zeros((16, 6)), np.zeros((16, 6, 6)), np.zeros(NUMBERS), np.zeros(6)
    for i in range(21):
        h[0] = 4 * springs[t, i]
        h[0] += springs[t - 1, i] if t > 0 else 0.0
        h[0] += springs[t + 1, i] if t + 1 < len(springs) else 0.0
        h[3] = h[5] = h[0]
        b = POINT_BONES[i]
        _pull(force[b], stiffness[b], (joints[i, 0], joints[i, 1], joints[i, 2]), 1.0, sprung[t, i], h)
    _bones_to_numbers(force, stiffness, F, axes, pulled, L)
    for i in range(NUMBERS):
        gradient[i] += pulled[i]
        if 3 <= i < 48:
            gradient[i] += poses.pull[p, i // 3, i % 3]
            A[i, i] += poses.stiff[p, i // 3, i % 3]
        A[i, i] += damping * (A[i, i] + L[i, i]) + (terms.calm if i < 48 else terms.calm / CALM_MM**2) + 1e-9
        for k in range(NUMBERS):
            L[i, k] += A[i, k]
    _factor(L)


@compiled()
def _scratch(points, cube_mm):
    """Empty arrays for a cloud and frames of that size."""
    side = int(cube_mm / CELL_MM) + 1
    return Scratch(
        np.zeros((16, 3, 4)), np.zeros((16, 3, 3)), np.zeros((16, 3, 4), np.float32), np.zeros((3, points), np.float32),
        np.zeros((points, 3), np.float32), np.zeros((points, 9), np.float32),
        np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.float32), np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.int32),
        np.zeros(points, np.int32), np.zeros(side * side + 1, np.int32), np.zeros((3, points), np.float32),
        np.zeros((12, points), np.float32),
    )  # fmt: skip


@compiled()
def _cut_off(frames, turn, place, wrist_mm, terms):
    """Cut the forearms off behind the wrists: `target`, `counts` and `cut` of the frames."""
    points, cube_mm, size = frames.points, terms.cube_mm, IMAGE_SIZE
    splats, winners = np.empty((points.shape[1], 3), np.float32), np.empty((size, size), np.int32)
    for t in range(len(points)):
        a, b, c = turn[t, 0, 1], turn[t, 1, 1], turn[t, 2, 1]  # the hand's y runs along it
        least = a * place[t, 0] + b * place[t, 1] + c * place[t, 2] + wrist_mm
        cut = frames.cut[t]
        cut[0], cut[1], cut[2], cut[3] = a, b, c, least
        for i in range(len(splats)):
            x, y, z = points[t, i, 0], points[t, i, 1], points[t, i, 2]
            if cube_mm * (a * (x - 0.5) + b * (y - 0.5) + c * (z - 0.5)) > least:
                splats[i, 0], splats[i, 1], splats[i, 2] = x * size - 0.5, y * size - 0.5, z
            else:
                splats[i, 0], splats[i, 1], splats[i, 2] = -2.0 * size, -2.0 * size, 0.5
        splat_rows(splats, np.float32(terms.radius_px), frames.target[t], winners, 0, size)
        for i in range(frames.data.shape[1]):
            x, y, z = frames.data[t, i, 0], frames.data[t, i, 1], frames.data[t, i, 2]
            frames.counts[t, i] = 1.0 if a * x + b * y + c * z > least else 0.0


@compiled()
def _fit(poses, frames, hand, terms, steps, solver_steps):
    """Fit the first B of 2 B poses to B frames; the others hold what a step tries. Poses that explain better are kept."""
    B = len(frames.target)
    scratch = _scratch(len(hand.cloud), terms.cube_mm)
    gradient, x, J = np.zeros((B, NUMBERS)), np.zeros((B, NUMBERS)), np.zeros((B, 21, 3, NUMBERS))
    A, L = np.zeros((B, NUMBERS, NUMBERS)), np.zeros((B, NUMBERS, NUMBERS))
    joints, tried = np.zeros((B, 21, 3)), np.zeros((B, 21, 3))  # in the camera's frame
    springs, uneven, sprung = np.zeros((B, 21)), np.zeros(B), np.zeros((B, 21, 3))
    other_springs, other_uneven, damping = np.zeros((B, 21)), np.zeros(B), np.zeros(B)
    now = np.zeros(B, np.int64)  # where each frame's pose is
    for t in range(B):
        now[t], damping[t] = t, FIRST_DAMPING
        _look(t, t, poses, frames, hand, terms, scratch)
        _to_camera(poses.joints[t], frames.centre[t], joints[t])
    for _ in range(steps):
        _accelerations(joints, terms, springs, uneven)
        _sprung(joints, springs, sprung)
        for t in range(B):
            _equations(
                now[t], t, poses, springs, sprung, damping[t], terms, hand, scratch, gradient[t], A[t], L[t], J[t]
            )
        _conjugate_gradients(A, L, J, springs, gradient, x, solver_steps)
        for t in range(B):
            p, q = now[t], 2 * t + B - now[t]
            _move(poses.angles[p], poses.turn[p], poses.place[p], x[t], poses.angles[q], poses.turn[q], poses.place[q])
            _look(q, t, poses, frames, hand, terms, scratch)
            _to_camera(poses.joints[q], frames.centre[t], tried[t])
        _accelerations(tried, terms, other_springs, other_uneven)
        for t in range(B):
            p, q, first, last = now[t], 2 * t + B - now[t], max(t - 1, 0), min(t + 2, B)
            was, tries = poses.energy[p], poses.energy[q]
            for near in range(first, last):
                was += uneven[near] / (last - first)
                tries += other_uneven[near] / (last - first)
            if tries < WORSE * was:
                now[t] = q
                for i in range(21):
                    for c in range(3):
                        joints[t, i, c] = tried[t, i, c]
            if tries < was:
                damping[t] = max(BOLDER * damping[t], LEAST_DAMPING)
            else:
                damping[t] = min(CALMER * damping[t], MOST_DAMPING)
    return now


@compiled()
def _to_camera(joints, centre, out):
    for i in range(21):
        for c in range(3):
            out[i, c] = joints[i, c] + centre[c]
