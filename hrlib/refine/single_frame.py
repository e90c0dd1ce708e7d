"""Gradient descent on Eq. 1 for single frames: one frame's pose (Fig. 3), one frame's shape (Fig. 4)."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from ..frames.crops import Crops
from ..hand.rig import HandRig
from ..losses import depth_loss, image_mse
from ..method import PipelineSettings, Step, evaluate_step, splat_target, to_pixels
from ..network.posenet import PoseNet, Prediction
from ..render import splat_depth


@dataclass(frozen=True)
class PoseFitSettings:
    """70 steps as in the paper (Sec. 4.3); its learning rate for single images is not given, this one was measured."""

    steps: int = 70
    learning_rate: float = 3e-5
    pipeline: PipelineSettings = PipelineSettings()


@dataclass(frozen=True)
class ShapeFitSettings:
    """learning_rate_mm: Adam's step for each coordinate of P; reach_mm: no point of P gets farther from its place on the
    template than this."""

    steps: int = 300
    learning_rate_mm: float = 0.5
    reach_mm: float = 20.0
    pipeline: PipelineSettings = PipelineSettings(terms=("depth",))


@dataclass(frozen=True)
class Fit:
    """before, after: the method's intermediates for each frame; on the way, at each of the steps and after the last: mse
    [steps + 1, B] of the synthesized images, loss [steps + 1, B], joints_mm [steps + 1, B, 21, 3]; cloud_mm [B, N, 3] or
    [N, 3]: P at the end."""

    before: Step
    after: Step
    mse: Tensor
    loss: Tensor
    joints_mm: Tensor
    cloud_mm: Tensor


def fit_pose(
    net: PoseNet,
    hand: HandRig,
    crops: Crops,
    settings: PoseFitSettings = PoseFitSettings(),
    watch: Callable[[Step], None] | None = None,
) -> Fit:
    """Fig. 3: overfit a copy of the network to each frame alone; `net` itself stays as it is.

    Dropout is off, so that the loss is the same function at every step. watch: is given every step on the way, of each
    frame in turn.
    """
    fits = []
    for i in tqdm(range(len(crops)), desc="overfit frames", disable=len(crops) < 2):
        fits.append(_fit_pose_of_one(net, hand, crops[i], settings, watch))
    if not fits:
        raise ValueError("crops must hold at least one frame, got none")
    on_the_way = [torch.cat([getattr(fit, key) for fit in fits], 1) for key in ("mse", "loss", "joints_mm")]
    return Fit(_join([fit.before for fit in fits]), _join([fit.after for fit in fits]), *on_the_way, hand.cloud_mm)


def _fit_pose_of_one(net: PoseNet, hand: HandRig, crop: Crops, settings: PoseFitSettings, watch) -> Fit:
    net = copy.deepcopy(net).eval()
    optimiser = torch.optim.Adam(net.parameters(), settings.learning_rate, fused=True)
    target = splat_target(crop, settings.pipeline)

    def step():
        return evaluate_step(net(crop.image), hand, crop, settings.pipeline, target=target)

    return Fit(*_descend(step, optimiser, settings.steps, watch=watch), hand.cloud_mm)


def _descend(evaluate, optimiser, steps: int, progress: bool = False, watch=None):
    """`steps` steps of the optimiser on the loss of `evaluate()` -> before, after, mse, loss, joints_mm (see `Fit`)."""
    mse, loss, joints, before = [], [], [], None
    for i in tqdm(range(steps + 1), desc="descend", disable=not progress):
        step = evaluate()
        mse.append(image_mse(step.rendered.detach(), step.target))
        loss.append(step.loss.detach())
        joints.append(step.joints_mm.detach())
        before = before or step.detach()
        if watch:
            watch(step.detach())
        if i < steps:
            optimiser.zero_grad(set_to_none=True)
            step.loss.sum().backward()
            optimiser.step()
    return before, step.detach(), torch.stack(mse), torch.stack(loss), torch.stack(joints)


def fit_shape(
    prediction: Prediction,
    hand: HandRig,
    crops: Crops,
    settings: ShapeFitSettings = ShapeFitSettings(),
    progress=True,
    watch: Callable[[Step], None] | None = None,
) -> Fit:
    """Fig. 4: the pose stays as predicted, only the points P move; each frame of the batch gets a P of its own.

    watch: is given every step on the way.

    P = P_0 + d reach / sqrt(reach^2 + |d|^2) with d free: within `reach_mm` of the template for any d.
    """
    target = splat_target(crops, settings.pipeline)
    prediction = Prediction(
        prediction.rotations.detach(), None if prediction.offset is None else prediction.offset.detach()
    )
    free = torch.zeros(len(crops), *hand.cloud_mm.shape, dtype=hand.cloud_mm.dtype, requires_grad=True)
    optimiser = torch.optim.Adam([free], settings.learning_rate_mm)

    def cloud():
        return hand.cloud_mm + bounded(free, settings.reach_mm)

    def step():
        return evaluate_step(prediction, hand, crops, settings.pipeline, cloud(), target)

    return Fit(*_descend(step, optimiser, settings.steps, progress, watch), cloud().detach())


@torch.no_grad()
def downhill_share(
    step: Step, gradient: Tensor, crops: Crops, settings=PipelineSettings(), move_mm: float = 0.1
) -> float:
    """Share of the frames whose depth term falls when the posed cloud moves a little along minus `gradient` [B, N, 3].

    move_mm: how far the point with the strongest pull moves.
    """
    longest = gradient.norm(dim=-1).amax(1)[:, None, None].clamp_min(1e-12)
    moved = step.cloud - gradient / longest * (move_mm / crops.cube_mm)
    rendered = splat_depth(to_pixels(moved), settings.radius_px, step.target.shape[1:], settings.backend)
    return (depth_loss(rendered, step.target) < step.terms["depth"]).float().mean().item()


def bounded(displacement: Tensor, reach: float) -> Tensor:
    """Displacements [..., 3] shortened smoothly so that none is longer than `reach`."""
    return displacement * (reach / (reach**2 + displacement.square().sum(-1, keepdim=True)).sqrt())


def _join(steps: list[Step]) -> Step:
    """Steps of single frames as one step of a batch."""
    joined = {}
    for name in Step.__dataclass_fields__:
        parts = [getattr(step, name) for step in steps]
        joined[name] = {k: torch.cat([p[k] for p in parts]) for k in parts[0]} if name == "terms" else torch.cat(parts)
    return Step(**joined)
