"""Explain a user's frames one by one: the pose of each, and one hand shape for all of them (bundle adjustment).

Where Eq. 1 asks the network's weights to explain the frames, here the poses themselves do, beginning with what the network
predicts: no network is in the loop, a frame gets as many steps as it needs, and a pose that explains its frame well is a
label that nobody had to give. `hrlib.refine` teaches the network by those.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor
from tqdm import tqdm

from ..frames.crops import Crops
from ..hand.kinematics import forward_kinematics, joint_positions
from ..hand.rig import HandRig
from ..hand.shape import HandShape, shaped
from ..losses import collision_loss, depth_loss, physical_loss, saturating
from ..method import PipelineSettings, aside, on_the_hand, posed_cloud, to_pixels, without_forearm, wrist_position
from ..network.posenet import Prediction
from ..render import splat_depth

CHUNK = 100  # frames that are worked on together
SHAPE_STAGES = (0.4, 0.5), (0.4, 0.7), (0.8, 1.0)  # iterations, as a share of a fit's; frames that go on


@dataclass(frozen=True)
class ExplainSettings:
    """iterations of Adam for each frame. rotation_rate: step of a quaternion's numbers, offset_rate: of the hand's place in
    units of the cube, shape_rate: of `HandShape`; all fall along a cosine. shape_frames: frames that tell the shape.

    Weights: depth (Eq. 6), physical (Eq. 8, per rad), collision (Eq. 7, per mm), and of terms that the paper has not: data
    (distance from the frame's points to the nearest of the model, in units of the cube, beyond `slack_mm`: a point that no
    splat reaches pulls, too), smooth (acceleration of the joints from frame to frame, saturating at `jump_mm`, since a gap
    in the recording is no movement), seen (distance of the joints from the points that the network votes for, in units of the
    cube, saturating at `seen_mm`: a lost frame has them elsewhere), shape (`HandShape.improbability`, per frame). Where the
    hand's shape is fitted, depth weighs `shape_depth`: a sensor loses the outlines, and what the frame lacks of the model
    shrinks it, while the data term asks of what was measured alone.
    wrist_mm: points that lie nearer to the wrist than this where a fit begins, or behind it, do not count, be they the
    frame's or the model's: the frame has a forearm and the model has none, so that another end of one than of the other
    would stretch or shrink the hand to meet it.
    rim_mm: how far below its skin the model's points are compared, since a sensor does not see the rim of a finger, grazed
    as it is: measured hands are thinner than real ones.
    """

    iterations: int = 60
    rotation_rate: float = 0.015
    offset_rate: float = 0.005
    shape_rate: float = 0.01
    shape_frames: int = 300
    depth: float = 10.0
    shape_depth: float = 3.0
    data: float = 4.0
    physical: float = 0.5
    collision: float = 0.02
    smooth: float = 2.0
    seen: float = 2.0
    shape: float = 2e-4
    slack_mm: float = 3.0
    jump_mm: float = 12.0
    seen_mm: float = 20.0
    wrist_mm: float = 15.0
    rim_mm: float = 1.0
    points: int = 256
    pipeline: PipelineSettings = PipelineSettings()

    def __post_init__(self):
        for name in ("iterations", "shape_frames", "points"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class Explained:
    """prediction: the fitted poses; loss [B]: how badly each explains its frame (depth and data terms, weighted);
    joints_mm [B, 21, 3] with the fitted hand."""

    prediction: Prediction
    loss: Tensor
    joints_mm: Tensor


def fit_hand(
    hand: HandRig, crops: Crops, prediction: Prediction, settings: ExplainSettings = ExplainSettings()
) -> HandShape:
    """The one hand shape that explains `shape_frames` of the frames, evenly taken, while their poses are free.

    In three stages, of which the later ones go on with the frames that the one before explained best: a wrong pose is
    explained by a wrong shape, and a few lost hands bend the shape of all. Raises ValueError for no frames.
    """
    _require(crops, prediction)
    some = evenly(len(crops), settings.shape_frames)
    crops, prediction = crops[some], prediction[some]
    shape = HandShape(*(part.requires_grad_(True) for part in HandShape.template(hand.vertices_mm).parts()))
    for share, keep in SHAPE_STAGES:
        # they are no sequence
        iterations = max(1, round(share * settings.iterations))
        stage = replace(settings, depth=settings.shape_depth, smooth=0.0, iterations=iterations)
        fitted = _descend(hand, crops, prediction, stage, shape)
        best = fitted.loss.argsort()[: max(1, round(keep * len(crops)))]
        crops, prediction = crops[best], fitted.prediction[best]
    return shape.detach()


def evenly(total: int, count: int) -> Tensor:
    """At most `count` of `total` indices, evenly spread."""
    return torch.linspace(0, total - 1, min(count, total)).round().long()


def explain(
    hand: HandRig,
    crops: Crops,
    prediction: Prediction,
    settings: ExplainSettings = ExplainSettings(),
    neighbours: bool = True,
    progress: bool = True,
) -> Explained:
    """The pose of each frame of a recording, its frames in order: what a network predicts, fitted to the frame.

    Then the worst fits begin again from their neighbours' poses (`neighbours`), and all go on together with more weight on
    an even movement. Without labels, and about 100 ms a frame on one core. Raises ValueError for no frames.
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
    """The pose of each frame, from the predicted one on. Frames are taken for one after the other.

    Raises ValueError for no frames.
    """
    _require(crops, prediction)
    parts, starts = [], range(0, len(crops), CHUNK)
    for first in tqdm(starts, desc="explain the frames", disable=not progress or len(starts) < 3):
        piece = slice(first, first + CHUNK)
        parts.append(_descend(hand, crops[piece], prediction[piece], settings))
    joined = [torch.cat([getattr(part.prediction, key) for part in parts]) for key in ("rotations", "offset")]
    return Explained(
        Prediction(*joined, prediction.points),
        torch.cat([part.loss for part in parts]),
        torch.cat([part.joints_mm for part in parts]),
    )


def again_from_neighbours(
    hand: HandRig, crops: Crops, first: Explained, settings: ExplainSettings = ExplainSettings(), share: float = 0.4
) -> Explained:
    """Fit the worst `share` of the frames once more, from the best pose within five frames; what explains better stays."""
    bad = first.loss.argsort(descending=True)[: int(share * len(crops))].sort().values
    if not len(bad):
        return first
    around = (bad[:, None] + torch.arange(-5, 6, device=bad.device)).clamp(0, len(crops) - 1)
    best = around.gather(1, first.loss[around].argmin(1, keepdim=True))[:, 0]
    near = first.prediction
    # the neighbour's place in the camera's frame, counted from this frame's crop
    offset = near.offset[best] + (crops.centre_mm[best] - crops.centre_mm[bad]) / crops.cube_mm
    start = Prediction(near.rotations[best], offset, None if near.points is None else near.points[bad])
    second = fit_to_depth(hand, crops[bad], start, replace(settings, smooth=0.0), progress=False)
    better = second.loss < first.loss[bad]
    rotations, offset = near.rotations.clone(), near.offset.clone()
    loss, joints = first.loss.clone(), first.joints_mm.clone()
    where = bad[better]
    rotations[where], offset[where] = second.prediction.rotations[better], second.prediction.offset[better]
    loss[where], joints[where] = second.loss[better], second.joints_mm[better]
    return Explained(Prediction(rotations, offset, near.points), loss, joints)


def _require(crops: Crops, prediction: Prediction):
    if not len(crops):
        raise ValueError("crops must hold at least one frame, got none")
    if prediction.offset is None:
        raise ValueError("prediction must say where the hand is: take a network with offset=True")


def _descend(hand, crops, prediction, s: ExplainSettings, shape: HandShape | None = None) -> Explained:
    """Adam on the poses and, where one is given, on the shape of `hand`."""
    rotations = prediction.rotations.detach().clone().requires_grad_(True)
    offset = prediction.offset.detach().clone().requires_grad_(True)
    groups = [{"params": [rotations], "lr": s.rotation_rate}, {"params": [offset], "lr": s.offset_rate}]
    if shape is not None:
        groups.append({"params": shape.parts(), "lr": s.shape_rate})
    optimiser = torch.optim.Adam(groups, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda i: 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * i / s.iterations))
    )
    own, frames = hand, _Frames(crops, s)
    for i in range(s.iterations):
        own = hand if shape is None else shaped(hand, shape)
        q = rotations / rotations.norm(dim=-1, keepdim=True)
        explains, joints_mm = frames.explained_by(Prediction(q, offset), own, anew=i)
        loss = explains + s.physical * physical_loss(q, own.limits_rad) + s.collision * collision_loss(joints_mm)
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
        return Explained(fitted, *_Frames(crops, s).explained_by(fitted, own))


@torch.no_grad()
def surprise(
    hand: HandRig, crops: Crops, prediction: Prediction, settings: ExplainSettings = ExplainSettings()
) -> Tensor:
    """How badly each prediction explains its frame, [B]: the depth and data terms of a fit, weighted, without fitting."""
    _require(crops, prediction)
    parts = []
    for first in range(0, len(crops), CHUNK):
        piece = slice(first, first + CHUNK)
        parts.append(_Frames(crops[piece], settings).explained_by(prediction[piece], hand)[0])
    return torch.cat(parts)


class _Frames:
    """Frames to explain, and what of them depends on the pose but is not worth computing anew in each iteration."""

    def __init__(self, crops: Crops, settings: ExplainSettings):
        self.crops, self.settings, self.data = crops, settings, spread_out(crops, settings.points)

    def explained_by(self, prediction: Prediction, hand: HandRig, anew: int = 0) -> tuple[Tensor, Tensor]:
        """Depth and data terms [B], weighted, and joints_mm [B, 21, 3]; anew: number of the iteration."""
        s, crops = self.settings, self.crops
        T = forward_kinematics(hand, prediction.rotations, wrist_position(prediction, hand, crops))
        if anew == 0:  # what is compared stays the same while the pose moves, or it would end where nothing is
            self.T = T.detach()
            self.target = without_forearm(crops, self.T, s.wrist_mm, s.pipeline)
            self.counts = on_the_hand(self.data, self.T, crops, s.wrist_mm)
        cloud = posed_cloud(hand, measured_cloud(hand, s.rim_mm), T, crops)
        there = on_the_hand(cloud.detach(), self.T, crops, s.wrist_mm)[..., None] > 0
        cloud = torch.where(there, cloud, aside(cloud))
        if anew % 4 == 0:
            self.nearest = nearest_points(self.data, cloud.detach())
        rendered = splat_depth(to_pixels(cloud), s.pipeline.radius_px, self.target.shape[1:], s.pipeline.backend)
        near = torch.gather(cloud, 1, self.nearest[..., None].expand(-1, -1, 3))
        apart = ((near - self.data).square().sum(-1) + 1e-8).sqrt() - s.slack_mm / crops.cube_mm
        apart = (apart.clamp_min(0) * self.counts).sum(1) / self.counts.sum(1).clamp_min(1)
        return s.depth * depth_loss(rendered, self.target) + s.data * apart, joint_positions(hand, T)


def acceleration(joints_mm: Tensor, jump_mm: float) -> Tensor:
    """Mean second difference of the joints [B, 21, 3] in time, [B - 2] mm, saturating at `jump_mm`."""
    size = (joints_mm[2:] - 2 * joints_mm[1:-1] + joints_mm[:-2]).norm(dim=-1).mean(1)
    return saturating(size, jump_mm)


def from_votes(points: Tensor, joints_mm: Tensor, crops: Crops, far_mm: float) -> Tensor:
    """Mean distance [B] of the joints [B, 21, 3] from the points that a network sees (`Prediction.points`), in units of the
    cube, saturating at `far_mm`."""
    far = far_mm / crops.cube_mm
    apart = ((joints_mm - crops.centre_mm[:, None]) / crops.cube_mm - points).norm(dim=-1)
    return saturating(apart, far).mean(1)


def spread_out(crops: Crops, count: int) -> Tensor:
    """`count` of each frame's points P_D, evenly taken, [B, count, 3] in the crop frame."""
    index = (torch.arange(count, device=crops.count.device) * crops.count.clamp_min(1)[:, None] / count).long()
    return torch.gather(crops.points, 1, index[..., None].expand(-1, -1, 3))


def measured_cloud(hand: HandRig, rim_mm: float) -> Tensor:
    """The model's cloud at rest [N, 3] with every point `rim_mm` below the skin: a sensor loses the rim of what it sees."""
    a, b, c = hand.vertices_mm[hand.faces[hand.cloud_face]].unbind(1)
    normal = torch.linalg.cross(b - a, c - a).detach()
    return hand.cloud_mm - rim_mm * normal / normal.norm(dim=-1, keepdim=True)


def nearest_points(data: Tensor, model: Tensor) -> Tensor:
    """For each of the points data [B, M, 3] the index of the nearest of model [B, N, 3]; [B, M]."""
    if data.device.type != "cpu":
        return torch.cdist(data, model).argmin(-1)
    index = np.empty(data.shape[:2], np.int64)
    _nearest(data.float().contiguous().numpy(), model.float().contiguous().numpy(), index)
    return torch.from_numpy(index)


@njit(parallel=True, cache=True, fastmath=True)
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
