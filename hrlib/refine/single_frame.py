"""Gradient descent on Eq. 1 for single frames: one frame's pose (Fig. 3), one frame's shape (Fig. 4)."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float
from torch import Tensor

from ..frames.crops import Crops
from ..hand.rig import HandRig
from ..losses import depth_loss, image_mse
from ..method import PipelineSettings, Step, depth_image, evaluate_step, splat_target
from ..network.model import PoseModel, ask
from ..network.posenet import Prediction
from ..support.progress import tqdm


@dataclass(frozen=True)
class PoseFitSettings:
    """Adam on the network's weights."""

    steps: int = 70  # Sec. 4.3
    learning_rate: float = 3e-5  # the paper gives none for single images; this one was measured
    pipeline: PipelineSettings = PipelineSettings()


@dataclass(frozen=True)
class ShapeFitSettings:
    """Adam on the points P."""

    steps: int = 300
    learning_rate_mm: float = 0.5  # step of each coordinate of P
    reach_mm: float = 20.0  # no point of P gets farther from its place on the template
    pipeline: PipelineSettings = PipelineSettings(terms=("depth",))


@dataclass(frozen=True)
class Fit:
    """The method's intermediates before and after a fit, and records of T = steps + 1 evaluations."""

    before: Step
    after: Step
    mse: Float[Tensor, "T B"]  # of the synthesized images
    loss: Float[Tensor, "T B"]
    joints_mm: Float[Tensor, "T B 21 3"]
    cloud_mm: Float[Tensor, "*batch N 3"]  # P at the end; one for each frame where P was fitted


def fit_pose(
    net: PoseModel,
    hand: HandRig,
    crops: Crops,
    settings: PoseFitSettings = PoseFitSettings(),
    watch: Callable[[Step], None] | None = None,
) -> Fit:
    """Fig. 3: overfit a copy of the network to each frame alone; `watch` is called with each step of each frame in turn.

    Dropout is off, so that the loss is the same function at every step. Raises ValueError for no frames.
    """
    if not len(crops):
        raise ValueError("crops must hold at least one frame, got none")
    frames = tqdm(range(len(crops)), desc="overfit frames", disable=len(crops) < 2)
    fits = [_fit_pose_of_one(net, hand, crops[i], settings, watch) for i in frames]
    mse, loss, joints_mm = (torch.cat([getattr(fit, key) for fit in fits], 1) for key in ("mse", "loss", "joints_mm"))
    before, after = (_join([getattr(fit, key) for fit in fits]) for key in ("before", "after"))
    return Fit(before, after, mse, loss, joints_mm, hand.cloud_mm)


def _fit_pose_of_one(net: PoseModel, hand: HandRig, crop: Crops, settings: PoseFitSettings, watch) -> Fit:
    net = copy.deepcopy(net).eval()
    optimiser = torch.optim.Adam(net.parameters(), settings.learning_rate, fused=True)
    target = splat_target(crop, settings.pipeline)

    def step():
        return evaluate_step(ask(net, crop.image), hand, crop, settings.pipeline, target=target)

    return Fit(*_recorded_descent(step, optimiser, settings.steps, watch), hand.cloud_mm)


def _join(steps: list[Step]) -> Step:
    """Steps of single frames as one step of a batch."""
    joined = {}
    for name in (f.name for f in fields(Step)):
        parts = [getattr(step, name) for step in steps]
        joined[name] = {k: torch.cat([p[k] for p in parts]) for k in parts[0]} if name == "terms" else torch.cat(parts)
    return Step(**joined)


def _recorded_descent(evaluate, optimiser, steps: int, watch, progress: bool = False):
    """`steps` steps of the optimiser on the loss of `evaluate()` -> before, after, mse, loss, joints_mm (see `Fit`)."""
    records, before = [], None
    for i in tqdm(range(steps + 1), desc="descend", disable=not progress):
        step = evaluate()
        seen = step.detach()
        before = before or seen
        records.append((image_mse(seen.rendered, seen.target), seen.loss, seen.joints_mm))
        if watch:
            watch(seen)
        if i < steps:
            optimiser.zero_grad(set_to_none=True)
            step.loss.sum().backward()
            optimiser.step()
    return before, seen, *(torch.stack(values) for values in zip(*records, strict=True))


def fit_shape(
    prediction: Prediction,
    hand: HandRig,
    crops: Crops,
    settings: ShapeFitSettings = ShapeFitSettings(),
    progress: bool = True,
    watch: Callable[[Step], None] | None = None,
) -> Fit:
    """Fig. 4: the pose stays as predicted, only the points P move; each frame of the batch gets a P of its own.

    P = P_0 + d reach / sqrt(reach^2 + |d|^2) with d free: within `reach_mm` of the template for any d. `watch` is called
    with each step.
    """
    target = splat_target(crops, settings.pipeline)
    offset = None if prediction.offset is None else prediction.offset.detach()
    prediction = Prediction(prediction.rotations.detach(), offset)
    free = torch.zeros(len(crops), *hand.cloud_mm.shape, dtype=hand.cloud_mm.dtype, requires_grad=True)
    optimiser = torch.optim.Adam([free], settings.learning_rate_mm)

    def cloud():
        return hand.cloud_mm + bounded(free, settings.reach_mm)

    def step():
        return evaluate_step(prediction, hand, crops, settings.pipeline, cloud(), target)

    return Fit(*_recorded_descent(step, optimiser, settings.steps, watch, progress), cloud().detach())


@torch.no_grad()
def downhill_share(step: Step, gradient: Float[Tensor, "B N 3"], crops: Crops) -> float:
    """Share of the frames whose depth term falls when the posed cloud moves a little along minus `gradient`.

    The point with the strongest pull moves by 0.1 mm.
    """
    longest = gradient.norm(dim=-1).amax(1)[:, None, None].clamp_min(1e-12)
    moved = step.cloud - gradient / longest * (0.1 / crops.cube_mm)
    return (depth_loss(depth_image(moved, PipelineSettings()), step.target) < step.terms["depth"]).float().mean().item()


def bounded(displacement: Float[Tensor, "*N 3"], reach: float) -> Float[Tensor, "*N 3"]:
    """Displacements shortened smoothly so that none is longer than `reach`."""
    return displacement * (reach / (reach**2 + displacement.square().sum(-1, keepdim=True)).sqrt())
