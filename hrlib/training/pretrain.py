"""Train the base model on synthetic frames alone (Sec. 4.1): Adam, 1e-3, batch 200, supervised by the pose.

One process, or several that share every batch: `torchrun --nproc-per-node 2 -m hrlib pretrain --out DIR`.
"""

import io
import json
import math
import pickle
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from ..frames.crops import Crops
from ..hand.joints import JOINT_NAMES
from ..hand.rig import HandRig
from ..network.checkpoint import load_network, save_network
from ..network.posenet import NetworkSettings, PoseNet, fold_batch_norm, unfold_batch_norm
from ..support.files import write_bytes_atomically, write_json
from ..support.parallel import finish_the_step, workers
from ..synthetic.frames import Synthesiser, SyntheticBatch, SyntheticSettings, rolled
from .step import Replayed, has_bfloat16, tensors, train_step

MAX_LANES = 32


@dataclass(frozen=True)
class PretrainSettings:
    """steps of `batch` frames; a share `fresh` of each batch is drawn anew, the rest repeats frames of the last `memory`
    batches, since drawing costs time as well, each turned in the image by up to `roll_deg`. The learning rate stays at 1e-3
    (the paper's) and falls to zero along a cosine over the last `decay` of the steps. joint_weight: of the mean joint error,
    in units of the cube, beside the paper's mean squared error of the rotations. curve_every: steps that a point of the
    curve averages. lanes: parts of a batch that are drawn on their own, which is also the largest number of processes that
    can share it. bfloat16: compute in it, None: where the device has instructions for it (elsewhere it is emulated, twenty
    times slower than float32)."""

    steps: int = 6000
    batch: int = 200
    fresh: float = 0.5
    memory: int = 300
    roll_deg: float = 0.0
    learning_rate: float = 1e-3
    decay: float = 0.4
    joint_weight: float = 5.0
    checkpoint_every: int = 250
    curve_every: int = 50
    seed: int = 1
    lanes: int = 4
    bfloat16: bool | None = None

    def __post_init__(self):
        for name in ("batch", "checkpoint_every", "curve_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("steps", "memory", "roll_deg", "learning_rate", "joint_weight"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if not 0 < self.fresh <= 1:
            raise ValueError(f"fresh must be a share in (0, 1], got {self.fresh}")
        if not 0 <= self.decay <= 1:
            raise ValueError(f"decay must be a share in [0, 1], got {self.decay}")
        if not 1 <= self.lanes <= MAX_LANES:
            raise ValueError(f"lanes must be in 1 ... {MAX_LANES}, got {self.lanes}")


class Memory:
    """The last frames drawn, in a ring: what training repeats."""

    def __init__(self, capacity: int, roll_deg: float = 0.0):
        self.capacity, self.roll, self.parts = capacity, math.radians(roll_deg), None

    def put(self, batch: SyntheticBatch, step: int):
        """Keep the frames drawn for `step`, in place of the oldest."""
        if not self.capacity:
            return
        parts = self._parts(batch)
        if self.parts is None:
            self.parts = [part.new_empty(self.capacity, *part.shape[1:]) for part in parts]
        first = step * len(batch.rotations) % self.capacity
        for kept, part in zip(self.parts, parts, strict=True):
            kept[first : first + len(part)] = part

    def mixed(self, new: SyntheticBatch, step: int, count: int, generator: torch.Generator) -> SyntheticBatch:
        """`new` and `count` kept frames, turned (as long as none are kept: `new` alone)."""
        have = min(step * len(new.rotations), self.capacity)
        if not have or not count:
            return new
        pick = torch.randint(have, (count,), generator=generator).to(new.rotations.device)
        old = self._batch([kept[pick] for kept in self.parts], new.crops.cube_mm)
        if self.roll:
            turn = self.roll * (2 * torch.rand(count, generator=generator) - 1)
            old = rolled(old, turn.to(old.rotations.device))
        both = zip(self._parts(new), self._parts(old), strict=True)
        return self._batch([torch.cat(pair) for pair in both], new.crops.cube_mm)

    @staticmethod
    def _batch(parts: list[Tensor], cube_mm: float) -> SyntheticBatch:
        image, centre, *pose = parts
        return SyntheticBatch(_without_points(image.float(), centre, cube_mm), *pose)

    @staticmethod
    def _parts(batch: SyntheticBatch) -> list[Tensor]:
        image, *others = tensors(batch)
        return [image.half(), *others]


class Batches:
    """One worker's share of the batch of each step.

    A batch consists of lanes, each with its own seeds and its own memory of frames. A worker draws every `world`-th lane
    beginning with `rank`, so that all workers together have the same frames, however many they are.
    Raises ValueError for more workers than lanes.
    """

    def __init__(self, frames_of: Synthesiser, settings: PretrainSettings, rank: int = 0, world: int = 1):
        s = self.settings = settings
        self.frames_of = frames_of
        self.fresh_count = max(1, round(s.batch * s.fresh))
        lanes = min(s.lanes, self.fresh_count)
        if world > lanes:
            raise ValueError(f"{world} processes cannot share {lanes} lanes of a batch; start fewer or raise lanes")
        share = lambda total, lane: total * (lane + 1) // lanes - total * lane // lanes  # noqa: E731
        self.lanes = {
            lane: (share(self.fresh_count, lane), share(s.batch, lane) - share(self.fresh_count, lane))
            for lane in range(rank, lanes, world)
        }
        self.memories = {lane: Memory(s.memory * fresh, s.roll_deg) for lane, (fresh, _) in self.lanes.items()}

    def __call__(self, step: int) -> SyntheticBatch:
        """The share of a step, whose fresh frames are remembered: ask for the steps in order."""
        parts = []
        for lane, (fresh, repeated) in self.lanes.items():
            seed = step_seed(self.settings, step, lane)
            new, memory = self.frames_of.batch(fresh, seed), self.memories[lane]
            parts.append(memory.mixed(new, step, repeated, torch.Generator().manual_seed(seed)))
            memory.put(new, step)
        crops = [torch.cat([getattr(part.crops, key) for part in parts]) for key in ("image", "centre_mm")]
        pose = [torch.cat([getattr(part, key) for part in parts]) for key in ("rotations", "wrist_mm", "joints_mm")]
        return SyntheticBatch(_without_points(*crops, parts[0].crops.cube_mm), *pose)

    def redraw(self, step: int):
        """Remember the fresh frames of a step that an earlier run made."""
        for lane, (fresh, _) in self.lanes.items():
            self.memories[lane].put(self.frames_of.batch(fresh, step_seed(self.settings, step, lane)), step)

    def total(self, step: int) -> int:
        """Frames of a step that all workers have together: until there is something to repeat, only the fresh ones."""
        return self.settings.batch if step and self.settings.memory else self.fresh_count


def _without_points(image: Tensor, centre_mm: Tensor, cube_mm: float) -> Crops:
    """Crops to learn poses from, which takes no points."""
    return Crops(image, image.new_empty(len(image), 0, 3), centre_mm, image.new_zeros(len(image)), cube_mm)


def step_seed(settings: PretrainSettings, step: int, lane: int) -> int:
    """Its own seed for each lane of each step, below 2^32, which is all that torch's generator looks at."""
    return (settings.seed * 10**6 + step) * 2 * MAX_LANES + lane


def ahead(make: Callable[[int], SyntheticBatch], steps: Iterable[int]) -> Iterator[SyntheticBatch]:
    """make(step) for each of the steps in order, each made in a thread while its predecessor is worked on."""
    with ThreadPoolExecutor(1, "frames") as thread:
        coming = None
        for step in steps:
            ready, coming = coming, thread.submit(make, step)
            if ready is not None:
                yield ready.result()
        if coming is not None:
            yield coming.result()


def learning_rate(step: int, settings: PretrainSettings) -> float:
    """Rate of a step: constant, then a cosine to zero; a short linear start."""
    start = (1 - settings.decay) * settings.steps
    part = max(0.0, (step - start) / max(settings.steps - start, 1))
    return settings.learning_rate * min(1.0, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * part))


def pretrain(
    hand: HandRig,
    out: Path,
    settings: PretrainSettings = PretrainSettings(),
    network: NetworkSettings = NetworkSettings(batch_norm=True),
    frames: SyntheticSettings = SyntheticSettings(),
    start: Path | None = None,
    progress: bool = True,
    device: str | torch.device | None = None,
) -> dict:
    """Train a base model in the folder `out`; goes on where a stopped run of the same settings left off.

    start: a checkpoint whose weights to begin with (its record becomes part of this one's), None for random ones.
    device: None for CUDA where there is one, else the CPU. Frames are made on a CUDA device that trains, else on the CPU.
    Writes state.pt (to resume), base.safetensors (float16, normalisation folded in) and training.json (settings, curve).
    Returns the record in training.json.

    Started by torchrun, the processes share each batch (DistributedDataParallel, nccl on CUDA, gloo on CPUs) and the
    first of them writes. The frames are those of a single process, and so is the training, up to rounding, without
    dropout and normalisation. Dropout is drawn by each process for itself. Batch normalisation is over the whole batch
    on CUDA (SyncBatchNorm), but over each process's share on CPUs, for which torch has no such layer.

    Raises ValueError where `out` holds a run with other settings, `start` a network of other settings, a limit's lower
    end is above its upper one, or more processes run than the batch has lanes; OSError where a checkpoint cannot be
    written (the one before is kept); KeyboardInterrupt after Ctrl-C or SIGTERM, when the step is done and saved.
    """
    _check_limits(hand, frames)
    out = Path(out)
    with workers(device) as (rank, world, device):
        out.mkdir(parents=True, exist_ok=True)
        return _pretrain(hand, out, settings, network, frames, start, progress, device, rank, world)


def _pretrain(hand, out, settings, network, frames, start, progress, device, rank, world) -> dict:
    defaults = {"pretrain": PretrainSettings(), "network": NetworkSettings(), "frames": SyntheticSettings()}
    config = {"pretrain": settings, "network": network, "frames": frames}
    defaults, config = (json.loads(json.dumps({k: asdict(v) for k, v in x.items()})) for x in (defaults, config))
    config["hand"] = hand.fingerprint
    frames_of = Synthesiser(hand.to(device if device.type == "cuda" else "cpu"), frames)
    batches = Batches(frames_of, settings, rank, world)
    torch.manual_seed(settings.seed)
    net = PoseNet(network)
    if start is not None:
        net, config["start"] = _started(start, hand, network, frames_of)
    if world > 1 and device.type == "cuda":
        net = nn.SyncBatchNorm.convert_sync_batchnorm(net)
    net = net.to(device, memory_format=torch.channels_last)
    bfloat16 = has_bfloat16(device) if settings.bfloat16 is None else settings.bfloat16
    # a step of one size can be recorded and replayed: a batch that repeats frames begins smaller
    replay = device.type == "cuda" and world == 1 and batches.total(0) == batches.total(1)
    rate = torch.tensor(settings.learning_rate, device=device) if replay else settings.learning_rate
    optimiser = torch.optim.Adam(net.parameters(), rate, fused=True, capturable=replay)
    curve: list[dict] = []
    recent: list[list[float]] = []
    first, seconds, state_file = 0, 0.0, out / "state.pt"
    if state_file.exists():
        state = _read_state(state_file, config, defaults, hand)
        net.load_state_dict(state["net"])
        optimiser.load_state_dict(state["optimiser"])
        optimiser.param_groups[0]["lr"] = rate
        first, curve, recent, seconds = state["step"], state["curve"], state["recent"], state["seconds"]
    model = net
    if world > 1:
        model = DistributedDataParallel(net, [device.index] if device.type == "cuda" else None)
    progress = progress and rank == 0
    # rebuilt on resume from the same seeds, so that a resumed run sees the frames that an unbroken one would
    again = range(max(0, first - settings.memory), first)
    for past in tqdm(again, desc="redraw the last frames", disable=not (progress and len(again))):
        batches.redraw(past)
    began = time.perf_counter()
    saved = first

    def record(done: int) -> dict:
        """Write everything that is needed to go on after `done` steps, and the network as it is shipped."""
        nonlocal saved
        spent = seconds + time.perf_counter() - began
        training = {**config, "steps_done": done, "frames_drawn": done * batches.fresh_count, "seconds": spent}
        if rank:
            return training | {"curve": curve}
        state = {"config": config, "net": net.state_dict(), "optimiser": optimiser.state_dict()}
        state |= {"step": done, "curve": curve, "recent": recent, "seconds": spent}
        buffer = io.BytesIO()
        torch.save(state, buffer)
        plain = PoseNet(network)  # on the CPU, and without what several processes add
        plain.load_state_dict(net.state_dict())
        try:
            write_bytes_atomically(state_file, buffer.getvalue())
            saved = done
            shipped = fold_batch_norm(plain) if network.batch_norm else plain
            save_network(out / "base.safetensors", shipped, hand, training, torch.float16)
            write_json(out / "training.json", training | {"curve": curve})
        except OSError as error:
            raise OSError(
                error.errno,
                f"cannot save the training to {out} after step {done}: {error.strerror}. Free space there and run the "
                f"same again; what {state_file} holds, {saved} steps, is kept and goes on",
            ) from error
        return training | {"curve": curve}

    done = first
    steps = range(first, settings.steps)
    bar = tqdm(steps, initial=first, total=settings.steps, desc="pretrain", disable=not progress)
    hand = hand.to(device)
    made = ahead(batches, steps) if frames_ahead(device) else map(batches, steps)
    learn = Replayed(train_step) if replay else train_step
    with finish_the_step() as interrupted:
        for step, batch in zip(bar, made, strict=True):
            torch.manual_seed(step_seed(settings, step, MAX_LANES + rank))  # dropout: the same after a resume
            if replay:
                rate.fill_(learning_rate(step, settings))
            else:
                optimiser.param_groups[0]["lr"] = learning_rate(step, settings)
            model.train()
            part = len(batch.rotations) / batches.total(step)
            numbers = learn(model, optimiser, batch.to(device), hand, settings.joint_weight, bfloat16, part * world)
            # in one message: the mean over all frames, and whether any process is to stop, so that all of them do
            numbers = torch.cat([numbers * part, numbers.new_tensor([len(interrupted)])])
            if world > 1:
                dist.all_reduce(numbers)
            *both, stop = numbers.tolist()
            done = step + 1
            recent.append(both)
            if done % settings.curve_every == 0:
                mean = torch.tensor(recent).mean(0).tolist()
                curve.append({"step": done, "loss": mean[0], "joint_error_mm": mean[1]})
                bar.set_postfix(loss=f"{mean[0]:.3f}", joints=f"{mean[1]:.1f} mm")
                recent.clear()
            if stop:
                record(done)
                if progress:
                    tqdm.write(
                        f"stopped after {done} of {settings.steps} steps; the same again goes on from {state_file}"
                    )
                raise KeyboardInterrupt
            if done % settings.checkpoint_every == 0 and done < settings.steps:
                record(done)
    return record(done)


def frames_ahead(device: torch.device) -> bool:
    """Whether frames are made while the device learns; a CPU that learns has no core left for that."""
    return device.type != "cpu"


def _check_limits(hand: HandRig, frames: SyntheticSettings):
    low, high = hand.limits_rad.unbind(-1)
    for joint, angle in (low > high).nonzero().tolist():
        name = f"{JOINT_NAMES[joint]} {('flexion', 'deviation', 'twist')[angle]}"
        limits = f"{low[joint, angle]:.3f} > {high[joint, angle]:.3f} rad"
        raise ValueError(f"limits_rad of {name}: lower > upper ({limits}), no pose is feasible; swap or widen them")
    if not 0 < frames.distance_mm[0] <= frames.distance_mm[1]:
        raise ValueError(f"distance_mm must be 0 < lower <= upper, got {frames.distance_mm}")


def _read_state(path: Path, config: dict, defaults: dict, hand: HandRig) -> dict:
    """What `record` wrote, if it belongs to the same run."""
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
        # a setting that is newer than the file had its default's effect
        stored = state["config"] | {part: new | state["config"][part] for part, new in defaults.items()}
    except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no state of a training ({error!r}); delete it to begin anew") from error
    if hand.has_fingerprint(stored.get("hand")):
        stored["hand"] = config["hand"]  # an older file names the hand in another form
    if stored != config:
        flat = [{f"{k}.{n}": v for k in defaults for n, v in x[k].items()} for x in (stored, config)]
        changed = [f"{k} {flat[0].get(k)} -> {v}" for k, v in flat[1].items() if flat[0].get(k) != v]
        what = ", ".join(changed) or "another hand or start"
        raise ValueError(f"{path.parent} holds a run with other settings; choose another folder or delete it ({what})")
    return state


def _started(start: Path, hand: HandRig, network: NetworkSettings, frames_of: Synthesiser) -> tuple[PoseNet, dict]:
    """The network of a checkpoint in the wanted form, and its record without the curve."""
    net, record = load_network(hand, start)
    if replace(net.settings, batch_norm=network.batch_norm) != network:
        raise ValueError(
            f"start: {start} holds a network with {net.settings}, not with {network}; "
            "ask for its settings or train a new one without start"
        )
    if network.batch_norm and not net.settings.batch_norm:
        net = unfold_batch_norm(net, frames_of.batch(300, 0).crops.image.cpu())
    if net.settings.batch_norm and not network.batch_norm:
        net = fold_batch_norm(net)
    return net, {key: value for key, value in record.items() if key != "curve"}
