"""Refinement (Eq. 1, Sec. 4.4): adapt the network, and the hand, to one user's unlabelled depth frames.

Two recipes. `paper` (`hrlib.refine.paper`): gradient descent on Eq. 1 through network, skinning and renderer, on the weights
and the points P. `best` (`hrlib.refine.best`): explain the frames, adapt the hand to the user and the network to the hand.
"""

import copy
from contextlib import nullcontext
from pathlib import Path

import torch

from ..frames.crops import Crops
from ..hand.rig import HandRig
from ..method import PipelineSettings
from ..network.known import told_template
from ..network.model import PoseModel
from ..support.parallel import alone_in, workers
from .best import BestSettings, refine_best
from .paper import PaperSettings, refine_paper
from .state import Processes, Refined, State

RECIPES = {
    "paper": PaperSettings(),
    "depth": PaperSettings(pipeline=PipelineSettings(terms=("depth",))),  # Fig. 5's self-comparison
    "best": BestSettings(),
}


def refine(
    net: PoseModel,
    hand: HandRig,
    crops: Crops,
    settings: PaperSettings | BestSettings,
    out: str | Path | None = None,
    progress: bool = True,
    device: str | torch.device | None = None,
) -> Refined:
    """Adapt a copy of `net` to one user's frames, which are in the order in which they were taken.

    Under torchrun the processes share each batch of the learning; each of them repeats the fits.

    Args:
        net: any `PoseModel`.
        settings: of one of the two recipes.
        out: folder for state.pt, from which the same call goes on after a stop; None keeps nothing.
        device: where to compute; None is the CPU.

    Raises:
        ValueError: there are no frames, a frame has no depth, no gradient reaches the network (`network.model`), or `out` holds
            a run of other settings or frames.
        OSError: the state cannot be written, or another run writes into `out`.
        KeyboardInterrupt: after Ctrl-C or SIGTERM, when the state is saved.
    """
    if not len(crops):
        raise ValueError("crops must hold at least one frame, got none")
    if not torch.isfinite(crops.centre_mm).all():
        bad = int((~torch.isfinite(crops.centre_mm).all(1)).nonzero()[0])
        raise ValueError(f"frame {bad} has no measured depth (its centre is NaN); leave it out, as crop_frames does")
    out = None if out is None else Path(out)
    with workers(device or "cpu") as (rank, world, device), alone_in(out) if out else nullcontext():
        state = State(net, hand, crops, settings, out, Processes(rank, world, device, progress and rank == 0))
        own = copy.deepcopy(net)
        if isinstance(settings, PaperSettings):
            recipe, own = refine_paper, told_template(own)  # which moves the template's points and keeps its bones
        else:
            recipe = refine_best
        return recipe(own.eval().to(device), hand.to(device), crops.to(device), settings, state)


def check_run(net: PoseModel, hand: HandRig, settings: PaperSettings | BestSettings, out: str | Path) -> None:
    """Raise ValueError if `out` holds a run that `refine` would not go on with, whatever the frames are.

    To know this early saves the minutes that finding the hand in all frames takes.
    """
    State(net, hand, None, settings, Path(out)).stored()
