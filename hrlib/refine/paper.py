"""Refinement as the paper has it (Sec. 4.4): gradient descent on Eq. 1 through network, skinning and renderer."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..frames.crops import Crops, turned, turned_image
from ..hand.kinematics import forward_kinematics
from ..hand.rig import HandRig
from ..losses import image_mse
from ..method import PipelineSettings, evaluate_step, splat_target, without_forearm, wrist_position
from ..network.model import PoseModel, ask, check_learns
from ..network.predict import predict
from ..support.checks import require_at_least, require_seed
from ..support.parallel import add_gradients, add_numbers, any_of
from ..support.progress import tqdm
from ..support.stops import finish_the_step
from .single_frame import bounded
from .state import Refined, State

FOREARM_MM = -8.0  # points farther behind the wrist than this are forearm, which the model does not have
SWOLLEN_MM = 8.0  # a point of P that has moved farther than this earns a warning
NUMBERS = ("mse", "loss", "depth", "collision", "physical")  # of each step, in the curve
CHUNK = 200  # frames whose targets are drawn together


@dataclass(frozen=True)
class PaperSettings:
    """Adam on Eq. 1, on the network's weights and P together.

    The paper takes 730 steps of 1000 frames, of 72,757. A user here has 4,000 frames. We keep the number of steps about
    the same, with fewer frames in each.
    """

    epochs: int = 10
    batch: int = 100  # frames a step
    micro: int = 100  # frames whose gradients are computed together: they determine the memory
    learning_rate: float = 1e-5  # as in the paper
    cloud_rate_mm: float = 0.1  # Adam's step for each coordinate of P
    reach_mm: float = 25.0  # no point of P gets farther from its place on the template
    turn_deg: float = 0.0  # frames are turned in the image by up to this angle, so that fewer serve (the paper: 0)
    wristband: bool = False  # frames show no forearm (Sec. 4.2); otherwise the base network says where the hand ends
    anneal: bool = False  # both rates fall to 0 along a cosine, as small batches are noisy (the paper: constant)
    pipeline: PipelineSettings = PipelineSettings()
    seed: int = 0

    def __post_init__(self):
        require_at_least(1, self, "epochs", "batch", "micro")
        require_seed(self)
        require_at_least(0, self, "turn_deg")


def refine_paper(net: PoseModel, hand: HandRig, crops: Crops, s: PaperSettings, state: State) -> Refined:
    """Eq. 1 by Adam, on the weights and P together; `hrlib.refine.refine` calls it with a copy of the network."""
    check_learns(net, crops.image)
    with torch.no_grad():  # by the base network: a resumed run has the same targets
        targets = torch.cat([_target(net, hand, crops[i : i + CHUNK], s) for i in range(0, len(crops), CHUNK)])
    free = torch.zeros_like(hand.cloud_mm, requires_grad=True)
    parameters = [*net.parameters(), free]
    groups = [{"params": parameters[:-1]}, {"params": [free], "lr": s.cloud_rate_mm}]
    optimiser = torch.optim.Adam(groups, s.learning_rate, fused=True)
    state.restore(net=net, optimiser=optimiser, free=free)
    rank, world = state.processes.rank, state.processes.world
    batches = -(-len(crops) // s.batch)
    steps = s.epochs * batches
    bar = tqdm(total=steps, initial=state.done, desc="refine", disable=not state.processes.progress)
    with finish_the_step() as interrupted, bar:
        while state.done < steps:
            scale = (1 + math.cos(math.pi * state.done / steps)) / 2 if s.anneal else 1
            for group, rate in zip(optimiser.param_groups, (s.learning_rate, s.cloud_rate_mm), strict=True):
                group["lr"] = rate * scale
            batch, target = _batch(crops, targets, s, *divmod(state.done, batches))
            optimiser.zero_grad(set_to_none=True)
            sums = dict.fromkeys(NUMBERS, 0.0)
            mine = torch.arange(len(batch))[rank::world]
            for part in mine.split(s.micro) if len(mine) else ():  # a last batch may have no frame for each process
                cloud_mm, shown = hand.cloud_mm + bounded(free, s.reach_mm), batch[part]
                step = evaluate_step(ask(net, shown.image), hand, shown, s.pipeline, cloud_mm, target[part])
                (step.loss.sum() / len(batch)).backward()
                numbers = {"mse": image_mse(step.rendered, step.target), "loss": step.loss, **step.terms}
                sums = {key: sums[key] + x.sum().item() / len(batch) for key, x in numbers.items()}
            add_gradients(parameters, world)
            optimiser.step()
            state.done += 1
            sums = add_numbers(sums, world, free)
            state.curve.append({"step": state.done, **sums})
            bar.update()
            bar.set_postfix(mse=f"{sums['mse']:.4f}")
            if any_of(interrupted, world, free):
                state.stop()
            if state.done % batches == 0:
                state.save()
            state.save_at_times()
    moved_mm = bounded(free.detach(), s.reach_mm)
    return Refined(net.eval(), hand, hand.cloud_mm + moved_mm, state.curve, _warnings(moved_mm))


def _target(net: PoseModel, hand: HandRig, crops: Crops, s: PaperSettings) -> Float[Tensor, "B H W"]:
    """f_depth(P_D) without the forearm that segmentation left: the model has none, and would move the hand over it."""
    if s.wristband:
        return splat_target(crops, s.pipeline)
    prediction = predict(net, crops)
    T = forward_kinematics(hand, prediction.rotations, wrist_position(prediction, hand, crops))
    return without_forearm(crops, T, FOREARM_MM, s.pipeline)


def _batch(crops: Crops, targets: Tensor, s: PaperSettings, epoch: int, number: int) -> tuple[Crops, Tensor]:
    """The frames of one step and their targets, in an order and turned by angles that only the seed determines."""
    order = torch.randperm(len(crops), generator=torch.Generator().manual_seed(s.seed * 1000 + epoch))
    index = order.split(s.batch)[number]
    batch, target = crops[index], targets[index]
    if s.turn_deg:
        generator = torch.Generator().manual_seed((s.seed * 1000 + epoch) * 100_000 + number)
        angle = math.radians(s.turn_deg) * (2 * torch.rand(len(index), generator=generator) - 1)
        batch, R = turned(batch, angle.to(batch.image))
        target = turned_image(target, R)
    return batch, target


def _warnings(moved_mm: Float[Tensor, "N 3"]) -> tuple[str, ...]:
    distance = moved_mm.norm(dim=-1)
    mean, most = distance.mean(), distance.max()
    if not most > SWOLLEN_MM:
        return ()
    return (f"P swells: its points moved {mean:.1f} mm on average, {most:.1f} mm at most; look at the hand",)
