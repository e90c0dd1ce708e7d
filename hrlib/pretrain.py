"""Train the base model on synthetic frames alone (Sec. 4.1): Adam, 1e-3, batch 200, supervised by the pose."""

import io
import json
import math
import signal
import threading
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from .checkpoint import load_network, save_network
from .crop import Crops
from .hand import HandRig
from .kinematics import forward_kinematics, joint_positions, rotation_matrix
from .network import NetworkSettings, PoseNet, Prediction, fold_batch_norm, unfold_batch_norm
from .pipeline import true_prediction, wrist_position
from .results import write_bytes_atomically, write_json
from .synthetic import Synthesiser, SyntheticBatch, SyntheticSettings


@dataclass(frozen=True)
class PretrainSettings:
    """steps of `batch` frames; a share `fresh` of each batch is drawn anew, the rest repeats frames of the last
    `memory` batches, since drawing costs as much as learning. The learning rate stays at 1e-3 (the paper's) and falls to
    zero along a cosine over the last `decay` of the steps. joint_weight: of the mean joint error, in units of the cube,
    beside the paper's mean squared error of the rotations. bfloat16: compute in it, None: where the CPU has instructions
    for it (elsewhere it is emulated, twenty times slower than float32)."""

    steps: int = 6000
    batch: int = 200
    fresh: float = 0.5
    memory: int = 300
    learning_rate: float = 1e-3
    decay: float = 0.4
    joint_weight: float = 5.0
    checkpoint_every: int = 250
    seed: int = 1
    bfloat16: bool | None = None


class Memory:
    """The last frames drawn, in a ring: what training repeats."""

    def __init__(self, capacity: int):
        self.capacity, self.parts = capacity, None

    def put(self, batch: SyntheticBatch, step: int):
        """Keep the frames drawn for `step`, in place of the oldest."""
        parts = self._parts(batch)
        if self.parts is None:
            self.parts = [torch.empty(self.capacity, *part.shape[1:], dtype=part.dtype) for part in parts]
        first = step * len(batch.rotations) % self.capacity
        for kept, part in zip(self.parts, parts, strict=True):
            kept[first : first + len(part)] = part

    def mixed(self, new: SyntheticBatch, step: int, count: int, generator: torch.Generator) -> SyntheticBatch:
        """`new` and `count` kept frames (fewer steps than frames asked for: `new` alone)."""
        have = min(step * len(new.rotations), self.capacity)
        if not have or not count:
            return new
        pick = torch.randint(have, (count,), generator=generator)
        old = [kept[pick] for kept in self.parts]
        image, centre, rotations, wrist, joints = (torch.cat(pair) for pair in zip(self._parts(new), old, strict=True))
        crops = Crops(image.float(), torch.empty(len(image), 0, 3), centre, torch.zeros(len(image)), new.crops.cube_mm)
        return SyntheticBatch(crops, rotations, wrist, joints)

    @staticmethod
    def _parts(batch: SyntheticBatch) -> list[Tensor]:
        return [batch.crops.image.half(), batch.crops.centre_mm, batch.rotations, batch.wrist_mm, batch.joints_mm]


def learning_rate(step: int, settings: PretrainSettings) -> float:
    """Rate of a step: constant, then a cosine to zero; a short linear start."""
    start = (1 - settings.decay) * settings.steps
    part = max(0.0, (step - start) / max(settings.steps - start, 1))
    return settings.learning_rate * min(1.0, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * part))


def pose_loss(
    prediction: Prediction, truth: SyntheticBatch, hand: HandRig, joint_weight: float
) -> tuple[Tensor, Tensor]:
    """Supervised loss and mean joint error in mm.

    The mean squared error of the rotations is taken on their matrices, because a rotation is two quaternions. To it come
    the mean distance of the 21 joints, which weighs each rotation by what it moves, and the squared error of the offset.
    """
    wanted = true_prediction(truth.rotations, truth.wrist_mm, hand, truth.crops)
    rotation = (rotation_matrix(prediction.rotations) - rotation_matrix(truth.rotations)).square().mean()
    T = forward_kinematics(hand, prediction.rotations, wrist_position(prediction, hand, truth.crops))
    joint_error_mm = (joint_positions(hand, T) - truth.joints_mm).norm(dim=-1).mean()
    loss = rotation + joint_weight * joint_error_mm / truth.crops.cube_mm
    if prediction.offset is not None:
        loss = loss + (prediction.offset - wanted.offset).square().sum(-1).mean()
    return loss, joint_error_mm.detach()


def pretrain(
    hand: HandRig,
    out: Path,
    settings: PretrainSettings = PretrainSettings(),
    network: NetworkSettings = NetworkSettings(batch_norm=True),
    frames: SyntheticSettings = SyntheticSettings(),
    start: Path | None = None,
    progress: bool = True,
) -> dict:
    """Train a base model in the folder `out`; goes on where a stopped run of the same settings left off.

    start: a checkpoint whose weights to begin with (its record becomes part of this one's), None for random ones.
    Writes state.pt (to resume), base.safetensors (float16, normalisation folded in) and training.json (settings, curve).
    Returns the record in training.json. Raises ValueError where `out` holds a run with other settings.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    config = {
        "pretrain": asdict(settings),
        "network": asdict(network),
        "frames": asdict(frames),
        "hand": hand.fingerprint,
    }
    config = json.loads(json.dumps(config))
    torch.manual_seed(settings.seed)
    frames_of = Synthesiser(hand, frames)
    net = PoseNet(network)
    if start is not None:
        net, config["start"] = _started(start, hand, network, frames_of)
    net = net.to(memory_format=torch.channels_last)
    bfloat16 = has_bfloat16() if settings.bfloat16 is None else settings.bfloat16
    optimiser = torch.optim.Adam(net.parameters(), settings.learning_rate)
    curve: list[dict] = []
    recent: list[list[float]] = []
    first, seconds, state_file = 0, 0.0, out / "state.pt"
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        if state["config"] != config:
            raise ValueError(f"{out} holds a run with other settings; choose another folder or delete it")
        net.load_state_dict(state["net"])
        optimiser.load_state_dict(state["optimiser"])
        torch.set_rng_state(state["rng"])
        first, curve, recent, seconds = state["step"], state["curve"], state["recent"], state["seconds"]
    fresh_count = max(1, round(settings.batch * settings.fresh))
    memory = Memory(settings.memory * fresh_count)
    # rebuilt on resume from the same seeds, so that a resumed run sees the frames that an unbroken one would
    again = range(max(0, first - settings.memory), first)
    for past in tqdm(again, desc="redraw the last frames", disable=not (progress and len(again))):
        memory.put(frames_of.batch(fresh_count, settings.seed * 10**6 + past), past)
    began = time.perf_counter()

    def record(done: int) -> dict:
        """Everything that is needed to go on after `done` steps, and the network as it is shipped."""
        state = {"config": config, "net": net.state_dict(), "optimiser": optimiser.state_dict()}
        state |= {"rng": torch.get_rng_state(), "step": done, "curve": curve, "recent": recent}
        state["seconds"] = seconds + time.perf_counter() - began
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_bytes_atomically(state_file, buffer.getvalue())
        training = {**config, "steps_done": done, "frames_drawn": done * fresh_count, "seconds": state["seconds"]}
        shipped = fold_batch_norm(net) if network.batch_norm else net
        save_network(out / "base.safetensors", shipped, hand, training, torch.float16)
        write_json(out / "training.json", training | {"curve": curve})
        return training | {"curve": curve}

    done = first
    bar = tqdm(range(first, settings.steps), initial=first, total=settings.steps, desc="pretrain", disable=not progress)
    with finish_the_step() as interrupted:
        for step in bar:
            new = frames_of.batch(fresh_count, settings.seed * 10**6 + step)
            batch = memory.mixed(new, step, settings.batch - fresh_count, torch.Generator().manual_seed(step))
            memory.put(new, step)
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(step, settings)
            net.train()
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                prediction = net(batch.crops.image)
            loss, error = pose_loss(prediction, batch, hand, settings.joint_weight)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            done = step + 1
            recent.append([loss.item(), error.item()])
            if done % 50 == 0:
                mean = torch.tensor(recent).mean(0).tolist()
                curve.append({"step": done, "loss": mean[0], "joint_error_mm": mean[1]})
                bar.set_postfix(loss=f"{mean[0]:.3f}", joints=f"{mean[1]:.1f} mm")
                recent.clear()
            if done % settings.checkpoint_every == 0 and done < settings.steps:
                record(done)
            if interrupted:
                record(done)
                tqdm.write(f"stopped after {done} of {settings.steps} steps; the same call goes on from {state_file}")
                raise KeyboardInterrupt
    return record(done)


def has_bfloat16() -> bool:
    """Whether the CPU computes bfloat16 itself."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def _started(start: Path, hand: HandRig, network: NetworkSettings, frames_of: Synthesiser) -> tuple[PoseNet, dict]:
    """The network of a checkpoint in the wanted form, and its record without the curve."""
    net, record = load_network(hand, start)
    if replace(net.settings, batch_norm=network.batch_norm) != network:
        raise ValueError(f"{start} holds a network with {net.settings}, not with {network}; train a new one, or that one")
    if network.batch_norm and not net.settings.batch_norm:
        net = unfold_batch_norm(net, frames_of.batch(300, 0).crops.image)
    return net, {key: value for key, value in record.items() if key != "curve"}


@contextmanager
def finish_the_step():
    """Ctrl-C inside only fills the list that this yields, so that a step is never left half done."""
    interrupted: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield interrupted  # only the main thread hears of Ctrl-C
        return
    before = signal.signal(signal.SIGINT, lambda number, _: interrupted.append(number))
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)
