"""The supervised oracle: a network trained on a user's frames with true poses and bones, which refinement never has.

It is the ceiling of every label-free method, for simulated users only.
"""

import copy
from dataclasses import dataclass, replace

import torch

from ..hand.rig import HandRig
from ..network.posenet import PoseNet
from ..support.progress import tqdm
from ..synthetic.frames import Synthesiser, joined
from ..synthetic.people import Recorded, SimulatedUser
from .step import pose_loss


@dataclass(frozen=True)
class OracleSettings:
    """Adam from the base model on; the rate falls to zero along a cosine."""

    epochs: int = 4  # times that the user's frames are shown
    batch: int = 100  # of the user's frames in a step
    synthetic: int = 50  # more frames a step, of random poses; without them a few thousand frames are learnt by heart
    learning_rate: float = 1e-4  # at the start
    joint_weight: float = 5.0  # as in pretraining
    seed: int = 0


def fit_oracle(
    net: PoseNet,
    user: SimulatedUser,
    template: HandRig,
    frames: Recorded,
    settings: OracleSettings = OracleSettings(),
    progress: bool = True,
) -> PoseNet:
    """A copy of `net` trained on the true poses of a simulated user's `frames`, for the user's true hand."""
    hand = user.hand(template)
    synthesiser = Synthesiser(hand, replace(user.camera, forearm_mm=60.0, forearm_share=0.5))
    generator = torch.Generator().manual_seed(settings.seed)
    torch.manual_seed(settings.seed)  # dropout has no generator of its own
    net = copy.deepcopy(net).train()
    optimiser = torch.optim.Adam(net.parameters(), settings.learning_rate, fused=True)
    per_epoch = -(-len(frames) // settings.batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.epochs * per_epoch)
    bar = tqdm(total=settings.epochs * per_epoch, desc=f"oracle, {hand.name}", disable=not progress)
    for _ in range(settings.epochs):
        for index in torch.randperm(len(frames), generator=generator).split(settings.batch):
            truth = frames[index]
            if settings.synthetic:
                truth = joined(truth, synthesiser.batch(settings.synthetic, settings.seed + 1 + bar.n))
            loss, error = pose_loss(net(truth.crops.image), truth, hand, settings.joint_weight)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
            bar.update()
            bar.set_postfix(joints=f"{error.item():.1f} mm")
    bar.close()
    return net.eval()
