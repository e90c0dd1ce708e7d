"""Fit the pose of each frame anew, without learning: the generative methods of Sec. 2, on the same crops, as a baseline.

Two of them, over the same 26 numbers a frame (3 position, 3 rotation, 4 angles a finger):

- "pso": particle swarm optimisation as Oikonomidis et al., "Efficient model-based 3D tracking of hand articulations using
  Kinect" (2011): hypotheses are drawn and compared with the frame; no gradient. In the place of their objective (clamped
  depth differences, skin and abduction) stand the depth and collision terms of Eq. 6 and 7, as in refinement.
- "icp": articulated ICP by gradient descent, from data to model as Tagliasacchi et al., "Robust articulated-ICP for
  real-time hand tracking" (2015): each measured point pulls the model's nearest point; the limits (Eq. 8) hold the joints.

Both start at a network's prediction, or at an open hand in the middle of the crop, turned to several sides.
"""

import math
from dataclasses import dataclass

import roma
import torch
from torch import Generator, Tensor
from tqdm import tqdm

from hrlib.frames.crops import Crops
from hrlib.hand.kinematics import forward_kinematics
from hrlib.hand.named_poses import view_rotation
from hrlib.hand.rig import HandRig
from hrlib.hand.rotations import euler_angles, from_euler
from hrlib.hand.skinning import skin, skinning_transforms
from hrlib.losses import physical_loss
from hrlib.method import PipelineSettings, evaluate_step, splat_target, to_crop, wrist_position
from hrlib.network.posenet import Prediction
from hrlib.synthetic.poses import sample_angles

METHODS = ("pso", "icp")
# Which angles move, among the 16 x 3 (flexion, deviation, twist): of each finger the flexion and deviation of its base,
# the flexion of its middle and of its far joint. The others stay as they are at the start.
MOVING = tuple(3 * (1 + 3 * f) + k for f in range(5) for k in (0, 1, 3, 6))
PARAMETERS = 6 + len(MOVING)
UNIT_MM = 100.0  # of the position: 0.1 of it moves a fingertip about as far as turning the wrist by 0.1 rad does
# Clerc and Kennedy, "The particle swarm: explosion, stability, and convergence" (2002): for c1 + c2 = 4.1 the factor is
# 0.7298, and it multiplies c1 = c2 = 2.05 as well. Oikonomidis et al. share 4.1 out unevenly.
CONSTRICTION, ATTRACTION = 0.7298, 1.496
REACH = 1.0  # how far from the start a particle may go, along each axis, in UNIT_MM
VIEWS_DEG = tuple((yaw, roll) for yaw in (0, 90, 180, -90) for roll in (-40, 0, 40))  # of an open hand, fingers up


@dataclass(frozen=True)
class GenerativeSettings:
    """method: "pso" or "icp". Both: seed; pipeline: radius and weights of the terms, as refinement has them.

    pso: particles, generations; spread_mm, spread_deg: standard deviation of the first particles about the start.
    icp: iterations; learning_rate: Adam's step in rad, and in 100 mm, falling to zero along a cosine; data_points,
    cloud_points: how many of the frame's and of the model's points are compared; physical_mm: weight of Eq. 8, mm per rad;
    chunk: hands that are fitted at once, each of which needs 4 bytes x data_points x cloud_points and a little.
    Raises ValueError for another method and for numbers that make no sense.
    """

    method: str = "pso"
    particles: int = 64
    generations: int = 40
    spread_mm: float = 10.0
    spread_deg: float = 12.0
    iterations: int = 100
    learning_rate: float = 0.03
    data_points: int = 400
    cloud_points: int = 700
    physical_mm: float = 5.0
    chunk: int = 48
    seed: int = 0
    pipeline: PipelineSettings = PipelineSettings(terms=("depth", "collision"))

    def __post_init__(self):
        if self.method not in METHODS:
            raise ValueError(f"method must be one of {METHODS}, got {self.method!r}")
        for name in ("particles", "generations", "iterations", "data_points", "cloud_points", "chunk"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("spread_mm", "spread_deg", "learning_rate"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if not self.physical_mm >= 0:
            raise ValueError(f"physical_mm must not be negative, got {self.physical_mm}")
        if self.pipeline.translation != "offset":
            raise ValueError(
                f"pipeline.translation must be 'offset', for the position is fitted; got {self.pipeline.translation!r}"
            )


def fit_frames(
    hand: HandRig,
    crops: Crops,
    settings: GenerativeSettings,
    start: Prediction | None = None,
    progress: bool = True,
) -> Prediction:
    """The pose of every frame by optimisation alone: rotations [B, 16, 4] unit quaternions xyzw and offset [B, 3] in the
    crop frame, as a network predicts them.

    start: where to begin, B predictions; None begins at an open hand in the crop's centre, turned to several sides. A
    frame's result depends on the frame, its start and the settings alone: the same seed gives the same result.
    Source: see the module. Raises ValueError where there is no frame, or not as many starts as frames.
    """
    if not len(crops):
        raise ValueError("crops must hold at least one frame, got none")
    if start is not None and len(start.rotations) != len(crops):
        raise ValueError(f"start must have a prediction a frame: got {len(start.rotations)} for {len(crops)} frames")
    fit = {"pso": _fit_pso, "icp": _fit_icp}[settings.method]
    return fit(hand, crops, settings, start, progress)


# -- the 26 parameters ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Origin:
    """What the parameters of B hands are counted from: wrist [B, 4], offset [B, 3], angles [B, 16, 3] of the fingers."""

    wrist: Tensor
    offset: Tensor
    angles: Tensor

    def __getitem__(self, index) -> "Origin":
        return Origin(self.wrist[index], self.offset[index], self.angles[index])

    def parameters(self) -> Tensor:
        """[B, 26]: those of the origin itself. Position and rotation are zero there, finger angles are absolute (rad)."""
        return torch.cat([torch.zeros_like(self.offset).repeat(1, 2), self.angles.flatten(1)[:, list(MOVING)]], 1)


def origin_of(prediction: Prediction) -> Origin:
    """The origin at B predictions; one without an offset has the middle finger's base at the crop's centre."""
    angles = euler_angles(prediction.rotations).detach()
    wrist, offset = prediction.rotations[:, 0].detach(), prediction.offset
    return Origin(wrist, torch.zeros_like(wrist[:, :3]) if offset is None else offset.detach(), angles)


def open_hands(hand: HandRig) -> Prediction:
    """The rest pose at the crop's centre, fingers up, turned to the 12 sides of `VIEWS_DEG`."""
    yaw, roll = torch.deg2rad(torch.tensor(VIEWS_DEG, dtype=torch.float32)).unbind(1)
    rotations = hand.rest_rotations.repeat(len(yaw), 1, 1)
    rotations[:, 0] = view_rotation(yaw, torch.zeros_like(yaw), roll).to(rotations)
    return Prediction(rotations, torch.zeros_like(rotations[:, 0, :3]))


def pose_of(parameters: Tensor, origin: Origin, cube_mm: float) -> Prediction:
    """Parameters [B, 26] to the pose they stand for: position (in `UNIT_MM`) and rotation (a vector about the camera's
    axes, rad) from the origin's, then each finger's four angles (rad). Differentiable."""
    offset = origin.offset + parameters[:, :3] * (UNIT_MM / cube_mm)
    wrist = roma.quat_product(roma.rotvec_to_unitquat(parameters[:, 3:6]), origin.wrist)
    angles = origin.angles.flatten(1).clone()
    angles[:, list(MOVING)] = parameters[:, 6:]
    fingers = from_euler(angles.unflatten(1, (16, 3))[:, 1:])
    return Prediction(torch.cat([wrist[:, None], fingers], 1), offset)


def bounds(hand: HandRig) -> tuple[Tensor, Tensor]:
    """Lowest and highest value of each parameter, [26] each: `REACH`, any rotation, and the limits of Eq. 8."""
    low, high = hand.limits_rad.flatten(0, 1)[list(MOVING)].unbind(-1)
    reach = low.new_tensor([REACH] * 3 + [math.inf] * 3)
    return torch.cat([-reach, low]), torch.cat([reach, high])


def _repeated(crops: Crops, times: int) -> Crops:
    """Each frame so many times in a row."""
    return crops[torch.arange(len(crops), device=crops.image.device).repeat_interleave(times)]


# -- particle swarm -------------------------------------------------------------------------------------------------------


def swarm_objective(
    prediction: Prediction, hand: HandRig, crops: Crops, settings: GenerativeSettings, target: Tensor | None = None
) -> Tensor:
    """What "pso" lowers, [B] without unit: the weighted sum of the depth and collision terms (Eq. 6 and 7)."""
    return evaluate_step(prediction, hand, crops, settings.pipeline, target=target).loss


@torch.no_grad()
def _fit_pso(hand, crops, settings, start, progress) -> Prediction:
    fits = []
    with tqdm(total=len(crops) * settings.generations, desc="particle swarm", delay=2, disable=not progress) as bar:
        for i in range(len(crops)):
            one = None if start is None else start[i : i + 1]
            fits.append(_swarm(hand, crops[i], settings, one, bar))
    return Prediction(torch.cat([fit.rotations for fit in fits]), torch.cat([fit.offset for fit in fits]))


def _swarm(hand: HandRig, crop: Crops, settings: GenerativeSettings, start: Prediction | None, bar: tqdm) -> Prediction:
    """One frame: all particles of a generation are rendered as one batch, and learn of the best of all of them."""
    generator = Generator().manual_seed(settings.seed)  # each frame draws the same numbers, whatever its neighbours are
    origin, at = _first_particles(hand, settings, start, generator)
    low, high = bounds(hand)
    at = at.clamp(low, high)
    crops = _repeated(crop, settings.particles)
    target = splat_target(crop, settings.pipeline).expand(settings.particles, -1, -1)
    origins = origin[[0] * settings.particles]

    def objective(parameters):
        return swarm_objective(pose_of(parameters, origins, crop.cube_mm), hand, crops, settings, target)

    speed, own_best, own_value = torch.zeros_like(at), at, objective(at)
    for _ in range(settings.generations):
        towards_own, towards_best = torch.rand(2, *at.shape, generator=generator).to(at)
        best = own_best[own_value.argmin()]
        speed = CONSTRICTION * speed + ATTRACTION * (towards_own * (own_best - at) + towards_best * (best - at))
        inside = (at + speed).clamp(low, high)
        speed = torch.where(inside == at + speed, speed, torch.zeros_like(speed))  # what meets a limit stops there
        at, value = inside, objective(inside)
        better = value < own_value
        own_best, own_value = torch.where(better[:, None], at, own_best), torch.where(better, value, own_value)
        bar.update()
    return pose_of(own_best[own_value.argmin()][None], origin, crop.cube_mm)


def _first_particles(hand, settings, start, generator) -> tuple[Origin, Tensor]:
    """The swarm's origin and where its particles [P, 26] are at first: about the start, or on the way from open hands in
    several views to random poses. The first particles are the start, or the open hands, themselves."""
    scale = torch.tensor([settings.spread_mm / UNIT_MM] * 3 + [math.radians(settings.spread_deg)] * 23)
    noise = (torch.randn(settings.particles, PARAMETERS, generator=generator) * scale).to(hand.joints_mm)
    starts = origin_of(open_hands(hand) if start is None else start)
    origin, several = starts[:1], len(starts.wrist)
    at = starts.parameters()[torch.arange(settings.particles) % several]
    if start is None:
        # the views as rotations from the first one
        turns = roma.quat_product(starts.wrist, roma.quat_conjugation(origin.wrist).expand(several, -1))
        at[:, 3:6] = roma.unitquat_to_rotvec(turns)[torch.arange(settings.particles) % several]
        random = sample_angles(settings.particles, hand.limits_rad.cpu(), generator).to(at).flatten(1)[:, list(MOVING)]
        share = torch.rand(settings.particles, 1, generator=generator).to(at)
        noise[:, 6:] = share * (random - at[:, 6:])
    noise[:several] = 0
    return origin, at + noise


# -- articulated ICP ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Compared:
    """The points that ICP compares: of each frame, data_mm [B, D, 3] about the crop's centre; of the model, cloud_mm
    [N, 3] at rest and their skin weights [N, 16]."""

    data_mm: Tensor
    cloud_mm: Tensor
    weights: Tensor


def compared_points(hand: HandRig, crops: Crops, settings: GenerativeSettings) -> Compared:
    """A part of the frames' distinct points and of the model's cloud, drawn with the settings' seed."""
    generator = Generator().manual_seed(settings.seed)
    chosen = torch.randperm(len(hand.cloud_mm), generator=generator)[: settings.cloud_points].to(crops.image.device)
    # the points after the first `count` repeat them, and they come row by row: evenly over `count` is evenly over the hand
    share = (torch.arange(settings.data_points, device=crops.image.device) + 0.5) / settings.data_points
    index = (share * crops.count[:, None]).long()
    data = torch.gather(crops.points, 1, index[..., None].expand(-1, -1, 3))
    return Compared((data - 0.5) * crops.cube_mm, hand.cloud_mm[chosen], hand.cloud_weights[chosen])


def icp_objective(
    prediction: Prediction, hand: HandRig, crops: Crops, settings: GenerativeSettings, compared: Compared | None = None
) -> Tensor:
    """What "icp" lowers, [B] mm: mean distance of the data's points to the model's nearest ones, plus the weighted excess
    over the joint limits (Eq. 8). Its gradient is that for fixed correspondences, which are found anew at each call."""
    points = compared_points(hand, crops, settings) if compared is None else compared
    T_cam_joint = forward_kinematics(hand, prediction.rotations, wrist_position(prediction, hand, crops))
    model = skin(points.cloud_mm, points.weights, skinning_transforms(hand, T_cam_joint))
    model_mm = (to_crop(model, crops) - 0.5) * crops.cube_mm  # about the crop's centre, where float32 is exact enough
    nearest = torch.cdist(points.data_mm, model_mm.detach()).argmin(2)
    there = torch.gather(model_mm, 1, nearest[..., None].expand(-1, -1, 3))
    distance = ((there - points.data_mm).square().sum(-1) + 1e-6).sqrt()  # not squared: stray points pull no harder
    return distance.mean(1) + settings.physical_mm * physical_loss(prediction.rotations, hand.limits_rad)


def _fit_icp(hand, crops, settings, start, progress) -> Prediction:
    several = len(VIEWS_DEG) if start is None else 1
    frames = max(1, settings.chunk // several)
    rounds, fits = -(-len(crops) // frames), []
    with tqdm(total=rounds * settings.iterations, desc="articulated ICP", delay=2, disable=not progress) as bar:
        for first in range(0, len(crops), frames):
            part = slice(first, first + frames)
            if start is None:
                hands = _repeated(crops[part], several)
                origin = origin_of(open_hands(hand))[torch.arange(len(hands)) % several]
            else:
                hands = crops[part]
                origin = origin_of(start)[part]
            fits.append(_best_of(*_descend(hand, hands, settings, origin, bar), several))
    return Prediction(torch.cat([fit.rotations for fit in fits]), torch.cat([fit.offset for fit in fits]))


def _descend(hand: HandRig, crops: Crops, settings: GenerativeSettings, origin: Origin, bar: tqdm):
    """Adam from the origin; of each hand the best pose on the way, and its objective [B]."""
    compared = compared_points(hand, crops, settings)
    parameters = origin.parameters().requires_grad_()
    optimiser = torch.optim.Adam([parameters], settings.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.iterations)
    best = parameters.detach().clone()
    lowest = torch.full_like(best[:, 0], math.inf)
    for k in range(settings.iterations + 1):
        value = icp_objective(pose_of(parameters, origin, crops.cube_mm), hand, crops, settings, compared)
        with torch.no_grad():
            better = value < lowest
            best, lowest = torch.where(better[:, None], parameters, best), torch.where(better, value, lowest)
        if k < settings.iterations:
            optimiser.zero_grad(set_to_none=True)
            value.sum().backward()
            optimiser.step()
            schedule.step()
            bar.update()
    return pose_of(best, origin, crops.cube_mm), lowest


def _best_of(prediction: Prediction, value: Tensor, several: int) -> Prediction:
    """Of each frame's `several` hands in a row the one with the lowest value."""
    value = value.unflatten(0, (-1, several))
    row = torch.arange(len(value), device=value.device) * several + value.argmin(1)
    return prediction[row]
