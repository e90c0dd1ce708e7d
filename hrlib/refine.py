"""Adapt to unlabelled frames by gradient descent on Eq. 1: one frame's pose (Fig. 3), one frame's shape (Fig. 4)."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from .crop import Crops
from .evaluate import image_mse
from .hand import HandRig
from .network import PoseNet, Prediction
from .pipeline import PipelineSettings, Step, evaluate_step, splat_target


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
    """before, after: the method's intermediates for each frame; mse [steps + 1, B] of the synthesized images; cloud_mm
    [B, N, 3] or [N, 3]: P at the end; joints_mm [steps + 1, B, 21, 3] on the way."""

    before: Step
    after: Step
    mse: Tensor
    joints_mm: Tensor
    cloud_mm: Tensor


def fit_pose(net: PoseNet, hand: HandRig, crops: Crops, settings: PoseFitSettings = PoseFitSettings()) -> Fit:
    """Fig. 3: overfit a copy of the network to each frame alone; `net` itself stays as it is.

    Dropout is off, so that the loss is the same function at every step.
    """
    fits = []
    for i in tqdm(range(len(crops)), desc="overfit frames", disable=len(crops) < 2):
        fits.append(_fit_pose_of_one(net, hand, crops[i], settings))
    if not fits:
        raise ValueError("crops must hold at least one frame, got none")
    join = lambda parts, dim=0: torch.cat(list(parts), dim)  # noqa: E731
    return Fit(
        _join_steps([f.before for f in fits]),
        _join_steps([f.after for f in fits]),
        join((f.mse for f in fits), 1),
        join((f.joints_mm for f in fits), 1),
        hand.cloud_mm,
    )


def _fit_pose_of_one(net: PoseNet, hand: HandRig, crop: Crops, settings: PoseFitSettings) -> Fit:
    net = copy.deepcopy(net).eval()
    optimiser = torch.optim.Adam(net.parameters(), settings.learning_rate, fused=True)
    target = splat_target(crop, settings.pipeline)
    mse, joints = [], []
    for i in range(settings.steps + 1):
        step = evaluate_step(net(crop.image), hand, crop, settings.pipeline, target=target)
        mse.append(image_mse(step.rendered.detach(), target))
        joints.append(step.joints_mm.detach())
        if i == 0:
            before = _detach(step)
        if i < settings.steps:
            optimiser.zero_grad(set_to_none=True)
            step.loss.sum().backward()
            optimiser.step()
    return Fit(before, _detach(step), torch.stack(mse), torch.stack(joints), hand.cloud_mm)


def fit_shape(
    prediction: Prediction, hand: HandRig, crops: Crops, settings: ShapeFitSettings = ShapeFitSettings(), progress=True
) -> Fit:
    """Fig. 4: the pose stays as predicted, only the points P move; each frame of the batch gets a P of its own.

    P = P_0 + d reach / sqrt(reach^2 + |d|^2) with d free: within `reach_mm` of the template for any d.
    """
    target = splat_target(crops, settings.pipeline)
    prediction = Prediction(prediction.rotations.detach(), None if prediction.offset is None else prediction.offset.detach())
    free = torch.zeros(len(crops), *hand.cloud_mm.shape, dtype=hand.cloud_mm.dtype, requires_grad=True)
    optimiser = torch.optim.Adam([free], settings.learning_rate_mm)
    mse, joints = [], []
    for i in tqdm(range(settings.steps + 1), desc="move P", disable=not progress):
        P = hand.cloud_mm + bounded(free, settings.reach_mm)
        step = evaluate_step(prediction, hand, crops, settings.pipeline, P, target)
        mse.append(image_mse(step.rendered.detach(), target))
        joints.append(step.joints_mm.detach())
        if i == 0:
            before = _detach(step)
        if i < settings.steps:
            optimiser.zero_grad(set_to_none=True)
            step.loss.sum().backward()
            optimiser.step()
    return Fit(before, _detach(step), torch.stack(mse), torch.stack(joints), P.detach())


def bounded(displacement: Tensor, reach: float) -> Tensor:
    """Displacements [..., 3] shortened smoothly so that none is longer than `reach`."""
    return displacement * (reach / (reach**2 + displacement.square().sum(-1, keepdim=True)).sqrt())


def _detach(step: Step) -> Step:
    return _map_tensors(step, lambda t: t.detach().clone())


def _join_steps(steps: list[Step]) -> Step:
    fields = {}
    for name in Step.__dataclass_fields__:
        parts = [getattr(s, name) for s in steps]
        if isinstance(parts[0], dict):
            fields[name] = {key: torch.cat([p[key] for p in parts]) for key in parts[0]}
        else:
            fields[name] = torch.cat(parts)
    return Step(**fields)


def _map_tensors(step: Step, f) -> Step:
    values = {}
    for name in Step.__dataclass_fields__:
        value = getattr(step, name)
        values[name] = {k: f(v) for k, v in value.items()} if isinstance(value, dict) else f(value)
    return Step(**values)
