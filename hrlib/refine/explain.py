"""Explain a user's frames one by one: the pose of each, and one hand shape for all of them (bundle adjustment).

In Eq. 1 the network's weights explain the frames. Here the poses themselves do, beginning with what the network predicts.
No network is in the loop, and a frame gets as many steps as it needs.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int
from numba import prange
from torch import Tensor

from ..frames.crops import Crops, evenly
from ..hand.kinematics import forward_kinematics, joint_positions
from ..hand.rig import HandRig
from ..hand.shape import HandShape, shaped
from ..losses import collision_loss, depth_loss, physical_loss, saturating
from ..method import (
    PipelineSettings,
    aside,
    depth_image,
    on_the_hand,
    posed_cloud,
    without_forearm,
    wrist_position,
)
from ..network.posenet import Prediction
from ..support.autograd import no_autocast
from ..support.checks import require_at_least
from ..support.compiled import compiled
from ..support.progress import tqdm

CHUNK = 100  # frames that are worked on together
SHAPE_STAGES = (0.4, 0.5), (0.4, 0.7), (0.8, 1.0)  # iterations, as a share of a fit's; frames that go on
NEIGHBOURS = 5  # frames on each side from which a bad fit may begin again
STILL_EXPLAINED = 0.5  # share of the points that were the hand's; a better fit must not call more of them forearm
LAST_RATE = 0.05  # share of the rates that is left in the last iteration
EVERY = 4  # iterations between two searches for nearest points: they change slowly


@dataclass(frozen=True)
class ExplainSettings:
    """Adam on the pose of each frame: rates, weights and what is compared. Distances count in units of the cube."""

    iterations: int = 60
    rotation_rate: float = 0.015  # step of a quaternion's numbers; all rates fall along a cosine
    offset_rate: float = 0.005  # step of the hand's place, in units of the cube
    shape_rate: float = 0.01  # step of `HandShape`
    shape_frames: int = 300  # frames from which the hand's shape is fitted
    depth: float = 10.0  # weight of Eq. 6
    # the same while the shape is fitted: a sensor loses the outlines, and what the frame lacks of the model shrinks it
    shape_depth: float = 3.0
    # weight of the distance from the frame's points to the model: points that no splat reaches pull, too
    data: float = 4.0
    physical: float = 0.5  # weight of Eq. 8, per rad
    collision: float = 0.02  # weight of Eq. 7, per mm
    smooth: float = 2.0  # weight of the joints' acceleration from frame to frame
    seen: float = 2.0  # weight of the distance of the joints from the points that the network votes for
    shape: float = 2e-4  # weight of `HandShape.improbability`, per frame
    slack_mm: float = 3.0  # a point of the frame that is nearer to the model than this does not pull
    jump_mm: float = 12.0  # the acceleration saturates here: a gap in the recording is no movement
    seen_mm: float = 20.0  # the distance from the votes saturates here: a lost frame has them elsewhere
    # points behind the wrist, or before it by less than this, do not count: only the frame has a forearm, and two ends at
    # different places would stretch or shrink the hand
    wrist_mm: float = 15.0
    # depth of the compared points below the skin: a sensor loses the rim of a finger, seen at an angle
    rim_mm: float = 1.0
    points: int = 256  # of each frame's points, as many are compared
    pipeline: PipelineSettings = PipelineSettings()

    def __post_init__(self):
        require_at_least(1, self, "iterations", "shape_frames", "points")


@dataclass(frozen=True)
class Explained:
    """Poses fitted to frames."""

    prediction: Prediction
    loss: Float[Tensor, " B"]  # how badly each pose explains its frame: depth and data terms, weighted
    joints_mm: Float[Tensor, "B 21 3"]  # of the fitted hand, in the camera frame


def fit_hand(
    hand: HandRig,
    crops: Crops,
    prediction: Prediction,
    settings: ExplainSettings = ExplainSettings(),
    start: HandShape | None = None,
) -> HandShape:
    """The one hand shape that explains `shape_frames` of the frames, evenly taken, while their poses are free.

    Each of three stages goes on with the frames that the one before explained best: a wrong pose is explained by a wrong
    shape, and a few lost hands bend the shape of all. The fit begins at `start`, by default the template. Raises ValueError
    for no frames.
    """
    require_places(crops, prediction)
    some = evenly(len(crops), settings.shape_frames)
    crops, prediction = crops[some], prediction[some]
    start = HandShape.template(hand.vertices_mm) if start is None else start.detach()
    shape = HandShape(*(part.requires_grad_(True) for part in start.parts()))
    for share, keep in SHAPE_STAGES:
        iterations = max(1, round(share * settings.iterations))
        # smooth: they are no sequence
        stage = replace(settings, depth=settings.shape_depth, smooth=0.0, iterations=iterations)
        fitted = _fit(hand, crops, prediction, stage, shape)
        best = fitted.loss.argsort()[: max(1, round(keep * len(crops)))]
        crops, prediction = crops[best], fitted.prediction[best]
    return shape.detach()


def explain(
    hand: HandRig,
    crops: Crops,
    prediction: Prediction,
    settings: ExplainSettings = ExplainSettings(),
    neighbours: bool = True,
    progress: bool = True,
) -> Explained:
    """The pose of each frame of a recording, without labels; about 100 ms a frame on one core.

    The predicted poses are fitted to the frames, the worst fits begin again from their `neighbours`' poses, and all go on
    together with more weight on an even movement. Raises ValueError for no frames, or poses without a place.
    """
    fits = fit_to_depth(hand, crops, prediction, settings, progress)
    if neighbours:
        fits = again_from_neighbours(hand, crops, fits, settings)
    settings = replace(settings, smooth=3 * settings.smooth, iterations=-(-settings.iterations // 2))
    return fit_to_depth(hand, crops, fits.prediction, settings, progress)


def fit_to_depth(
    hand: HandRig,
    crops: Crops,
    prediction: Prediction,
    settings: ExplainSettings = ExplainSettings(),
    progress: bool = True,
) -> Explained:
    """The pose of each frame, from the predicted one on; the frames are taken for a sequence. Raises as `explain`."""
    require_places(crops, prediction)
    pieces = [slice(first, first + CHUNK) for first in range(0, len(crops), CHUNK)]
    bar = tqdm(pieces, desc="explain the frames", disable=not progress or len(pieces) < 3)
    fits = [_fit(hand, crops[piece], prediction[piece], settings) for piece in bar]
    rotations, offset = (torch.cat([getattr(fit.prediction, key) for fit in fits]) for key in ("rotations", "offset"))
    loss, joints_mm = (torch.cat([getattr(fit, key) for fit in fits]) for key in ("loss", "joints_mm"))
    return Explained(Prediction(rotations, offset, prediction.points, prediction.shape), loss, joints_mm)


def again_from_neighbours(
    hand: HandRig,
    crops: Crops,
    first: Explained,
    settings: ExplainSettings = ExplainSettings(),
    share: float = 0.4,
    fit: Callable[[HandRig, Crops, Prediction], Explained] | None = None,
) -> Explained:
    """Fit the worst `share` of the frames again from the best pose within five frames, and keep what explains better.

    `fit` explains single frames, beginning with a pose of each; None: by `fit_to_depth`, with the settings.
    """
    bad = first.loss.argsort(descending=True)[: int(share * len(crops))].sort().values
    if not len(bad):
        return first
    around = bad[:, None] + torch.arange(-NEIGHBOURS, NEIGHBOURS + 1, device=bad.device)
    around = around.clamp(0, len(crops) - 1)
    best = around.gather(1, first.loss[around].argmin(1, keepdim=True))[:, 0]
    near = first.prediction
    # the neighbour's place in the camera's frame, counted from this frame's crop
    offset = near.offset[best] + (crops.centre_mm[best] - crops.centre_mm[bad]) / crops.cube_mm
    start = Prediction(near.rotations[best], offset, None if near.points is None else near.points[bad])
    if fit is None:
        fit = partial(fit_to_depth, settings=replace(settings, smooth=0.0), progress=False)
    second = fit(hand, crops[bad], start)
    # a pose that has most of a frame behind its wrist, as forearm, leaves little to explain, and explains it well
    left, before = (points_explained(hand, crops[bad], fits, settings) for fits in (second.prediction, near[bad]))
    better = (second.loss < first.loss[bad]) & (left >= STILL_EXPLAINED * before)

    def mended(old: Tensor, new: Tensor) -> Tensor:
        return old.index_put((bad[better],), new[better])

    rotations, offset = (
        mended(near.rotations, second.prediction.rotations),
        mended(near.offset, second.prediction.offset),
    )
    loss, joints_mm = mended(first.loss, second.loss), mended(first.joints_mm, second.joints_mm)
    return Explained(Prediction(rotations, offset, near.points, near.shape), loss, joints_mm)


def points_explained(
    hand: HandRig, crops: Crops, prediction: Prediction, settings: ExplainSettings
) -> Float[Tensor, " B"]:
    """How many of each frame's `settings.points` count as the hand's: those before the posed wrist."""
    T = forward_kinematics(hand, prediction.rotations, wrist_position(prediction, hand, crops))
    return on_the_hand(spread_out(crops, settings.points), T, crops, settings.wrist_mm).sum(1)


def require_places(crops: Crops, prediction: Prediction):
    if not len(crops):
        raise ValueError("crops must hold at least one frame, got none")
    if prediction.offset is None:
        raise ValueError("prediction must say where the hand is: take a network with an offset (PoseNet: offset=True)")


@torch.enable_grad()
def _fit(
    hand: HandRig, crops: Crops, prediction: Prediction, s: ExplainSettings, shape: HandShape | None = None
) -> Explained:
    """Adam on the poses and, where one is given, on the shape of `hand`, in place."""
    rotations = prediction.rotations.detach().clone().requires_grad_(True)
    offset = prediction.offset.detach().clone().requires_grad_(True)
    groups = [{"params": [rotations], "lr": s.rotation_rate}, {"params": [offset], "lr": s.offset_rate}]
    if shape is not None:
        groups.append({"params": shape.parts(), "lr": s.shape_rate})
    optimiser = torch.optim.Adam(groups, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda i: LAST_RATE + (1 - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * i / s.iterations))
    )
    own, comparison = hand, Comparison(crops, s)
    for i in range(s.iterations):
        own = hand if shape is None else shaped(hand, shape)
        q = rotations / rotations.norm(dim=-1, keepdim=True)
        distance, joints_mm = comparison.distance(Prediction(q, offset), own, i)
        loss = distance + s.physical * physical_loss(q, own.limits_rad) + s.collision * collision_loss(joints_mm)
        total = loss.sum()
        if s.smooth and len(crops) > 2:
            total = total + s.smooth * acceleration(joints_mm, s.jump_mm).sum() / crops.cube_mm
        if s.seen and prediction.points is not None:
            total = total + s.seen * from_votes(prediction.points, joints_mm, crops, s.seen_mm).sum()
        if shape is not None:
            total = total + len(crops) * s.shape * shape.improbability()
        optimiser.zero_grad(set_to_none=True)
        total.backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        fitted = Prediction(rotations / rotations.norm(dim=-1, keepdim=True), offset.detach(), prediction.points)
        return Explained(fitted, *Comparison(crops, s).distance(fitted, own))


@torch.no_grad()
def surprise(
    hand: HandRig, crops: Crops, prediction: Prediction, settings: ExplainSettings = ExplainSettings()
) -> Float[Tensor, " B"]:
    """How badly each prediction explains its frame: the depth and data terms of a fit, weighted. Raises as `explain`."""
    require_places(crops, prediction)
    pieces = [slice(first, first + CHUNK) for first in range(0, len(crops), CHUNK)]
    return torch.cat([Comparison(crops[piece], settings).distance(prediction[piece], hand)[0] for piece in pieces])


class Comparison:
    """Frames to explain, with what depends on the pose but is not worth computing in each iteration."""

    def __init__(self, crops: Crops, settings: ExplainSettings):
        self.crops, self.settings, self.data = crops, settings, spread_out(crops, settings.points)

    def distance(
        self, prediction: Prediction, hand: HandRig, iteration: int = 0
    ) -> tuple[Float[Tensor, " B"], Float[Tensor, "B 21 3"]]:
        """Depth and data terms, weighted, and the joints (mm); an iteration after 0 compares what the first compared."""
        s, crops = self.settings, self.crops
        T = forward_kinematics(hand, prediction.rotations, wrist_position(prediction, hand, crops))
        if iteration == 0:  # later poses are compared with the same points, or a fit would end where nothing is
            self.T = T.detach()
            self.target = without_forearm(crops, self.T, s.wrist_mm, s.pipeline)
            self.counts = on_the_hand(self.data, self.T, crops, s.wrist_mm)
        cloud = posed_cloud(hand, measured_cloud(hand, s.rim_mm), T, crops)
        before_wrist = on_the_hand(cloud.detach(), self.T, crops, s.wrist_mm)[..., None] > 0
        cloud = torch.where(before_wrist, cloud, aside(cloud))
        if iteration % EVERY == 0:
            self.nearest = nearest_points(self.data, cloud.detach())
        rendered = depth_image(cloud, s.pipeline)
        near = torch.gather(cloud, 1, self.nearest[..., None].expand(-1, -1, 3))
        # 1e-8: the gradient of the root is finite at 0
        apart = ((near - self.data).square().sum(-1) + 1e-8).sqrt() - s.slack_mm / crops.cube_mm
        apart = (apart.clamp_min(0) * self.counts).sum(1) / self.counts.sum(1).clamp_min(1)
        return s.depth * depth_loss(rendered, self.target) + s.data * apart, joint_positions(hand, T)


def acceleration(joints_mm: Float[Tensor, "B 21 3"], jump_mm: float) -> Float[Tensor, " B-2"]:
    """Mean second difference of the joints in time, in mm, saturating at `jump_mm`."""
    size = (joints_mm[2:] - 2 * joints_mm[1:-1] + joints_mm[:-2]).norm(dim=-1).mean(1)
    return saturating(size, jump_mm)


def from_votes(
    points: Float[Tensor, "B 21 3"], joints_mm: Float[Tensor, "B 21 3"], crops: Crops, far_mm: float
) -> Float[Tensor, " B"]:
    """Mean distance of the joints from the points that a network votes for (`Prediction.points`), in units of the cube.

    It saturates at `far_mm`.
    """
    apart = ((joints_mm - crops.centre_mm[:, None]) / crops.cube_mm - points).norm(dim=-1)
    return saturating(apart, far_mm / crops.cube_mm).mean(1)


def spread_out(crops: Crops, count: int) -> Float[Tensor, "B {count} 3"]:
    """`count` of each frame's points P_D, evenly taken, in the crop frame."""
    places = torch.arange(count, dtype=torch.float32, device=crops.count.device)  # whatever torch's default is
    index = (places * crops.count.clamp_min(1)[:, None] / count).long()
    return torch.gather(crops.points, 1, index[..., None].expand(-1, -1, 3))


def measured_cloud(hand: HandRig, rim_mm: float) -> Float[Tensor, "N 3"]:
    """The model's cloud at rest with every point `rim_mm` below the skin."""
    a, b, c = hand.vertices_mm[hand.faces[hand.cloud_face]].unbind(1)
    normal = torch.linalg.cross(b - a, c - a).detach()
    return hand.cloud_mm - rim_mm * normal / normal.norm(dim=-1, keepdim=True)


def nearest_points(data: Float[Tensor, "B M 3"], model: Float[Tensor, "B N 3"]) -> Int[Tensor, "B M"]:
    """For each point of the frames the index of the nearest point of the model."""
    if data.device.type != "cpu":
        with no_autocast():
            return torch.cdist(data, model).argmin(-1)
    index = np.empty(data.shape[:2], np.int64)
    _nearest(data.float().contiguous().numpy(), model.float().contiguous().numpy(), index)
    return torch.from_numpy(index)


@compiled(parallel=True, fastmath=True)
def _nearest(data, model, index):
    for b in prange(len(data)):
        x, y, z = model[b, :, 0].copy(), model[b, :, 1].copy(), model[b, :, 2].copy()
        for i in range(data.shape[1]):
            best, which = np.float32(1e30), 0
            for k in range(len(x)):
                d = (x[k] - data[b, i, 0]) ** 2 + (y[k] - data[b, i, 1]) ** 2 + (z[k] - data[b, i, 2]) ** 2
                if d < best:
                    best, which = d, k
            index[b, i] = which
