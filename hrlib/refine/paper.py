"""Refinement as the paper has it (Sec. 4.4): gradient descent on Eq. 1 through network, skinning and renderer."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from ..frames.crops import Crops
from ..frames.turn import turned, turned_image
from ..hand.kinematics import forward_kinematics
from ..losses import image_mse
from ..method import PipelineSettings, evaluate_step, splat_target, without_forearm, wrist_position
from ..network.predict import predict
from ..support.parallel import add_gradients, add_numbers, any_of, finish_the_step
from .single_frame import bounded
from .state import Refined, State


@dataclass(frozen=True)
class PaperSettings:
    """Sec. 4.4: Adam on Eq. 1 for `epochs`, the network's weights and P together. `batch` frames a step, gradients
    accumulated over `micro` at a time (the memory is theirs). cloud_rate_mm: step of each coordinate of P; reach_mm: no
    point of P gets farther from the template than this. turn_deg: each frame is turned in the image by up to so much, as a
    turned camera would see it, so that fewer frames serve (the paper: 0). wristband: the frames show no forearm, since it is
    cut off at a wristband (Sec. 4.2) or by masks; without one the base network says where the hand ends, and errs. anneal:
    both steps shrink to nothing on the way, by a cosine, since small batches leave them noisy (the paper: they do not).

    The paper has a rate of 1e-5 and 1000 frames a step, of 72,757: 730 steps. A user here has 4,000 frames, which would
    make 40 steps of it; we keep the number of steps about the same instead, with fewer frames in each.
    """

    epochs: int = 10
    batch: int = 100
    micro: int = 100
    learning_rate: float = 1e-5
    cloud_rate_mm: float = 0.1
    reach_mm: float = 25.0
    turn_deg: float = 0.0
    wristband: bool = False
    anneal: bool = False
    pipeline: PipelineSettings = PipelineSettings()
    seed: int = 0

    def __post_init__(self):
        for name in ("epochs", "batch", "micro"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.turn_deg >= 0:
            raise ValueError(f"turn_deg must not be negative, got {self.turn_deg}")


def refine_paper(net, hand, crops, s: PaperSettings, state: State, progress, rank, world) -> Refined:
    """Eq. 1 by Adam, on the weights and P together; called by `hrlib.refine.refine`, which checks what it is given."""
    with torch.no_grad():  # by the base network: a resumed run has the targets that an unbroken one has
        targets = torch.cat([_target(net, hand, crops[i : i + 200], s) for i in range(0, len(crops), 200)])
    free = torch.zeros_like(hand.cloud_mm, requires_grad=True)
    parameters = [*net.parameters(), free]
    groups = [{"params": parameters[:-1]}, {"params": [free], "lr": s.cloud_rate_mm}]
    optimiser = torch.optim.Adam(groups, s.learning_rate, fused=True)
    state.restore(net=net, optimiser=optimiser, free=free)
    steps = s.epochs * -(-len(crops) // s.batch)
    bar = tqdm(total=steps, initial=state.done, desc="refine", disable=not progress)
    with finish_the_step() as interrupted:
        for epoch in range(s.epochs):
            order = torch.randperm(len(crops), generator=torch.Generator().manual_seed(s.seed * 1000 + epoch))
            for k, index in enumerate(order.split(s.batch)):
                if epoch * -(-len(crops) // s.batch) + k < state.done:
                    continue
                optimiser.zero_grad(set_to_none=True)
                if s.anneal:
                    for group, whole in zip(optimiser.param_groups, (s.learning_rate, s.cloud_rate_mm), strict=True):
                        group["lr"] = whole * (1 + math.cos(math.pi * state.done / steps)) / 2
                sums, turn = {}, torch.Generator().manual_seed((s.seed * 1000 + epoch) * 100_000 + k)
                angle = math.radians(s.turn_deg) * (2 * torch.rand(len(index), generator=turn) - 1)
                mine = slice(rank, None, world)
                for part, by in zip(index[mine].split(s.micro), angle[mine].split(s.micro), strict=True):
                    cloud = hand.cloud_mm + bounded(free, s.reach_mm)
                    shown, target = crops[part], targets[part]
                    if s.turn_deg:
                        shown, R = turned(shown, by.to(shown.image))
                        target = turned_image(target, R)
                    step = evaluate_step(net(shown.image), hand, shown, s.pipeline, cloud, target)
                    (step.loss.sum() / len(index)).backward()
                    mse = image_mse(step.rendered, step.target)
                    for name, value in {"mse": mse, "loss": step.loss, **step.terms}.items():
                        sums[name] = sums.get(name, 0.0) + value.sum().item() / len(index)
                add_gradients(parameters, world)
                optimiser.step()
                state.done += 1
                sums = add_numbers(sums, world, free)
                state.curve.append({"step": state.done, **sums})
                bar.update()
                bar.set_postfix(mse=f"{sums['mse']:.4f}")
                if any_of(interrupted, world, free):
                    state.stop(net=net, optimiser=optimiser, free=free)
            state.save(net=net, optimiser=optimiser, free=free)
    bar.close()
    with torch.no_grad():
        moved = bounded(free, s.reach_mm).detach()
    warnings, way = [], moved.norm(dim=-1)
    far, mean = way.max(), way.mean()
    if far > 8:
        warnings.append(f"P swells: its points moved {mean:.1f} mm on average, {far:.1f} mm at most; look at the hand")
    return Refined(net.eval(), hand, hand.cloud_mm + moved, state.curve, tuple(warnings))


def _target(net, hand, crops: Crops, s: PaperSettings) -> Tensor:
    """f_depth(P_D), without the forearm that segmentation left, as the base network sees the wrist: the model has none, and
    moves the hand over it otherwise."""
    if s.wristband:
        return splat_target(crops, s.pipeline)
    prediction = predict(net, crops)
    T = forward_kinematics(hand, prediction.rotations, wrist_position(prediction, hand, crops))
    return without_forearm(crops, T, -8.0, s.pipeline)
