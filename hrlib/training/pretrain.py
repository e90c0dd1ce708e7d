"""Train the base model on synthetic frames alone (Sec. 4.1): Adam, 1e-3, batch 200, supervised by the pose.

One process, or several that share every batch: `torchrun --nproc-per-node 2 -m hrlib pretrain --out DIR`.
"""

import math
import time
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..hand.joints import JOINT_NAMES
from ..hand.rig import HandRig, load_hand
from ..network.checkpoint import hand_of, load_network
from ..network.posenet import NetworkSettings, PoseNet, fold_batch_norm, unfold_batch_norm
from ..support.parallel import alone_in, workers
from ..support.progress import tqdm
from ..support.stops import finish_the_step
from ..synthetic.frames import Synthesiser, SyntheticBatch, SyntheticSettings
from ..synthetic.many_hands import ManyHands
from .batches import MAX_LANES, Batches, PretrainSettings, ahead, step_seed
from .found_pool import found_pool
from .run_folder import Progress, RunFolder
from .step import Replayed, has_bfloat16, train_step

WARM_UP_STEPS = 50  # the rate rises linearly over the first steps


def pretrain(
    hand: HandRig,
    out: Path,
    settings: PretrainSettings | None = None,
    network: NetworkSettings = NetworkSettings(batch_norm=True),
    frames: SyntheticSettings = SyntheticSettings(),
    start: Path | None = None,
    progress: bool = True,
    device: str | torch.device | None = None,
) -> dict:
    """Train a base model in the folder `out`; goes on where a stopped run of the same settings left off.

    Started by torchrun, the processes share each batch (DistributedDataParallel, nccl on CUDA, gloo on CPUs) and the
    first of them writes. The frames are those of a single process. Without dropout and normalisation so is the training,
    up to rounding. Each process draws dropout for itself. Batch normalisation is over the whole batch on CUDA
    (SyncBatchNorm), but over each process's share on CPUs, for which torch has no such layer.

    Args:
        hand: the hand to train for; of a network that knows a population, the rig of all hands.
        out: folder of state.pt (to go on), base.safetensors (float16, normalisation folded in) and training.json.
        settings: of the training; None for `PretrainSettings()`.
        network: its form; also that of `start`, but for the normalisation.
        frames: how the frames are drawn.
        start: a checkpoint whose weights to begin with; its record becomes part of this one's. It may pose another hand
            (`checkpoint.hand_of`), since rotations mean the same on every rig. None: random weights.
        progress: show bars.
        device: None for CUDA if there is one, else the CPU. A CUDA device makes its frames itself.

    Returns:
        The record in training.json: settings, frames drawn, curve.

    Raises:
        ValueError: `out` holds a run with other settings, `start` a network with others, limits that no pose can meet, or more
            processes than lanes of a batch.
        OSError: a checkpoint cannot be written (the one before is kept), or another run writes into `out`.
        FloatingPointError: the loss is no number; nothing of that step is kept.
        KeyboardInterrupt: after Ctrl-C or SIGTERM, when the step is done and saved.
    """
    settings, out = settings or PretrainSettings(), Path(out)
    _check_limits(hand, frames)
    _check_pool(hand, settings, network)
    with workers(device) as (rank, world, device), alone_in(out):
        maker = ManyHands if network.shape else Synthesiser
        synthesiser = maker(hand.to(device if device.type == "cuda" else "cpu"), frames)
        torch.manual_seed(settings.seed)
        net, begun = PoseNet(network), None
        if start is not None:
            net, begun = _started(start, network, synthesiser)
        folder = RunFolder(out, {"pretrain": settings, "network": network, "frames": frames}, hand, begun, rank == 0)
        stored, shown = folder.read(), progress and rank == 0
        pool = _pool(out, settings, frames.cube_mm, rank / world, shown)  # after all that may be refused: it takes long
        batches = Batches(synthesiser, settings, rank, world, pool)
        learner = Learner(net, hand, batches, rank, world, device)
        if stored is not None:
            learner.restore(stored[0])
        try:
            return _train(learner, batches, folder, stored[1] if stored else Progress(), shown)
        finally:  # before the group ends: a reducer that outlives it waits for threads that wait for Python's lock
            learner.shared = None


class Learner:
    """The network and its optimiser, which take a step together with those of the other processes."""

    def __init__(self, net: PoseNet, hand: HandRig, batches: Batches, rank: int, world: int, device: torch.device):
        s = self.settings = batches.settings
        self.batches, self.rank, self.world, self.device = batches, rank, world, device
        self.hand = hand.to(device)
        if world > 1 and device.type == "cuda":
            net = nn.SyncBatchNorm.convert_sync_batchnorm(net)
        self.net = net.to(device, memory_format=torch.channels_last)
        self.bfloat16 = has_bfloat16(device) if s.bfloat16 is None else s.bfloat16
        # a step of one size can be recorded and replayed: a batch that repeats frames begins smaller
        self.replay = device.type == "cuda" and world == 1 and batches.total(0) == batches.total(1)
        self.rate = torch.tensor(s.learning_rate, device=device) if self.replay else s.learning_rate
        self.optimiser = torch.optim.Adam(self.net.parameters(), self.rate, fused=True, capturable=self.replay)
        self.take_step = Replayed(train_step) if self.replay else train_step
        self.shared = self.net
        if world > 1:
            self.shared = DistributedDataParallel(self.net, [device.index] if device.type == "cuda" else None)

    def restore(self, state: dict) -> None:
        """Go on from "net" and "optimiser" of a state."""
        self.net.load_state_dict(state["net"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.optimiser.param_groups[0]["lr"] = self.rate

    def step(self, step: int, batch: SyntheticBatch, interrupted: list) -> tuple[float, float, bool]:
        """Learn from this process's share of a step's batch.

        Returns:
            Loss and joint error (mm), means over the frames of all processes, and whether any of them was `interrupted`.
        """
        torch.manual_seed(step_seed(self.settings, step, MAX_LANES + self.rank))  # dropout: the same after a resume
        rate = learning_rate(step, self.settings)
        if self.replay:
            self.rate.fill_(rate)
        else:
            self.optimiser.param_groups[0]["lr"] = rate
        self.shared.train()
        share = len(batch) / self.batches.total(step)
        weight, batch = self.settings.joint_weight, batch.to(self.device)
        numbers = self.take_step(
            self.shared, self.optimiser, batch, self.hand, weight, self.bfloat16, share * self.world
        )
        # in one message: the mean over all frames, and whether any process is to stop, so that all of them do
        numbers = torch.cat([numbers * share, numbers.new_tensor([len(interrupted)])])
        if self.world > 1:
            dist.all_reduce(numbers)
        loss, joint_error_mm, stop = numbers.tolist()
        return loss, joint_error_mm, stop > 0


def _train(learner: Learner, batches: Batches, folder: RunFolder, done: Progress, show: bool) -> dict:
    """All steps that are not yet `done`; returns the record."""
    s = batches.settings
    # rebuilt from the same seeds, so that a resumed run sees the frames that an unbroken one would
    again = range(max(0, done.step - s.memory), done.step)
    for past in tqdm(again, desc="redraw the last frames", disable=not (show and len(again))):
        batches.redraw(past)
    began = time.perf_counter() - done.seconds

    def save() -> dict:
        done.seconds = time.perf_counter() - began
        return folder.save(done, learner.net, learner.optimiser, done.step * batches.fresh_count)

    steps = range(done.step, s.steps)
    bar = tqdm(steps, initial=done.step, total=s.steps, desc="pretrain", disable=not show)
    coming = ahead(batches, steps) if frames_ahead(learner.device) else map(batches, steps)
    with finish_the_step() as interrupted:
        for step, batch in zip(bar, coming, strict=True):
            *numbers, stop = learner.step(step, batch, interrupted)
            if not math.isfinite(numbers[0]):
                raise FloatingPointError(
                    f"the loss of step {step + 1} is {numbers[0]}: {folder.state_file} holds the last {folder.saved} steps; "
                    "lower --learning-rate, or look for NaN in the frames"
                )
            done.step = step + 1
            done.recent.append(numbers)
            if done.step % s.curve_every == 0:
                loss, joint_error_mm = torch.tensor(done.recent).mean(0).tolist()
                done.curve.append({"step": done.step, "loss": loss, "joint_error_mm": joint_error_mm})
                bar.set_postfix(loss=f"{loss:.3f}", joints=f"{joint_error_mm:.1f} mm")
                done.recent.clear()
            if stop:
                save()
                if show:
                    where = folder.state_file
                    tqdm.write(f"stopped after {done.step} of {s.steps} steps; the same again goes on from {where}")
                raise KeyboardInterrupt
            if done.step % s.checkpoint_every == 0 and done.step < s.steps:
                save()
    return save()


def _pool(out: Path, settings: PretrainSettings, cube_mm: float, begin: float, progress: bool) -> SyntheticBatch | None:
    """Hands in whole scenes, if any are wanted."""
    if not settings.found:
        return None
    return found_pool(out / "found", settings.found_frames, settings.seed, cube_mm, begin, progress)


def learning_rate(step: int, settings: PretrainSettings) -> float:
    """Rate of a step: a short linear start, constant, then a cosine to zero."""
    start = (1 - settings.decay) * settings.steps
    part = max(0.0, (step - start) / max(settings.steps - start, 1))
    return settings.learning_rate * min(1.0, (step + 1) / WARM_UP_STEPS) * 0.5 * (1 + math.cos(math.pi * part))


def frames_ahead(device: torch.device) -> bool:
    """Whether frames are made while the device learns; a CPU that learns has no core left for that."""
    return device.type != "cpu"


def _check_pool(hand: HandRig, settings: PretrainSettings, network: NetworkSettings) -> None:
    if settings.found and not (network.shape and hand.has_fingerprint(load_hand().fingerprint)):
        raise ValueError(
            "found: hands in scenes are the population's with the template's rig; leave it out for other hands"
        )


def _check_limits(hand: HandRig, frames: SyntheticSettings) -> None:
    low, high = hand.limits_rad.unbind(-1)
    for joint, angle in (low > high).nonzero().tolist():
        name = f"{JOINT_NAMES[joint]} {('flexion', 'deviation', 'twist')[angle]}"
        limits = f"{low[joint, angle]:.3f} > {high[joint, angle]:.3f} rad"
        raise ValueError(f"limits_rad of {name}: lower > upper ({limits}), no pose is feasible; swap or widen them")
    if not 0 < frames.distance_mm[0] <= frames.distance_mm[1]:
        raise ValueError(f"distance_mm must be 0 < lower <= upper, got {frames.distance_mm}")


def _started(start: Path, network: NetworkSettings, synthesiser: Synthesiser | ManyHands) -> tuple[PoseNet, dict]:
    """The network of a checkpoint in the wanted form, and its record without the curve."""
    net, record = load_network(hand_of(start), start)
    if network.shape and not net.settings.shape:  # it begins as if nobody's shape were known
        told = PoseNet(replace(net.settings, shape=True))
        told.load_state_dict(net.state_dict(), strict=False)
        net = told
    if replace(net.settings, batch_norm=network.batch_norm) != network:
        raise ValueError(
            f"start: {start} holds a network with {net.settings}, not with {network}; "
            "ask for its settings or train a new one without start"
        )
    if network.batch_norm and not net.settings.batch_norm:
        net = unfold_batch_norm(net, synthesiser.batch(300, 0).crops.image.cpu())
    if net.settings.batch_norm and not network.batch_norm:
        net = fold_batch_norm(net)
    return net, {key: value for key, value in record.items() if key != "curve"}
