"""The batches of pretraining: fresh synthetic frames of random poses, and frames of earlier steps (Sec. 4.1)."""

import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import torch
from torch import Generator

from ..support.checks import require_at_least, require_seed
from ..synthetic.frames import Synthesiser, SyntheticBatch, joined, rolled
from ..synthetic.many_hands import ManyHands
from .step import tensors, without_points

MAX_LANES = 32
POOL_ROLL_DEG = 30.0  # hands in scenes are turned in the image by up to this


@dataclass(frozen=True)
class PretrainSettings:
    """Adam on synthetic frames: the paper's rate and batch size, and how the frames are drawn."""

    steps: int = 6000
    batch: int = 200  # frames a step (the paper's)
    # share of a batch that is drawn anew; the rest repeats earlier frames, since drawing costs time too
    fresh: float = 0.5
    memory: int = 300  # steps whose fresh frames may be repeated
    # share of the frames drawn anew that are taken from a pool of so many hands which the finder found in whole scenes
    found: float = 0.0
    found_frames: int = 8000
    roll_deg: float = 0.0  # repeated frames are turned in the image by up to this
    learning_rate: float = 1e-3  # of Adam (the paper's)
    decay: float = 0.4  # over this last share of the steps the rate falls to zero along a cosine
    joint_weight: float = 5.0  # of the mean joint error, in cubes, beside the paper's squared error of the rotations
    checkpoint_every: int = 250  # steps
    curve_every: int = 50  # steps that a point of the curve averages
    seed: int = 1
    lanes: int = 4  # parts of a batch drawn on their own; as many processes can share it
    # compute in it; None: if the device has it (emulation takes twenty times float32's time)
    bfloat16: bool | None = None

    def __post_init__(self):
        require_at_least(1, self, "batch", "checkpoint_every", "curve_every", "found_frames")
        require_seed(self)
        require_at_least(0, self, "steps", "memory", "roll_deg", "learning_rate", "joint_weight")
        if not 0 < self.fresh <= 1:
            raise ValueError(f"fresh must be a share in (0, 1], got {self.fresh}")
        if not 0 <= self.found < 1:
            raise ValueError(f"found must be a share in [0, 1), got {self.found}")
        if not 0 <= self.decay <= 1:
            raise ValueError(f"decay must be a share in [0, 1], got {self.decay}")
        if not 1 <= self.lanes <= MAX_LANES:
            raise ValueError(f"lanes must be in 1 ... {MAX_LANES}, got {self.lanes}")


class Memory:
    """The last frames drawn, in a ring, their images in float16: what training repeats."""

    def __init__(self, capacity: int, roll_deg: float = 0.0):
        self.capacity, self.roll_rad, self.ring = capacity, math.radians(roll_deg), []

    def put(self, batch: SyntheticBatch, step: int) -> None:
        """Keep the frames drawn for `step`, in place of the oldest."""
        if not self.capacity:
            return
        image, *others = tensors(batch)
        parts = [image.half(), *others]
        self.ring = self.ring or [part.new_empty(self.capacity, *part.shape[1:]) for part in parts]
        first = step * len(batch) % self.capacity
        for kept, part in zip(self.ring, parts, strict=True):
            kept[first : first + len(part)] = part

    def mixed(self, new: SyntheticBatch, step: int, count: int, generator: Generator) -> SyntheticBatch:
        """`new` and `count` kept frames, turned; `new` alone as long as none are kept."""
        have = min(step * len(new), self.capacity)
        if not have or not count:
            return new
        pick = torch.randint(have, (count,), generator=generator).to(new.rotations.device)
        image, *others = (kept[pick] for kept in self.ring)
        old = without_points([image.float(), *others], new.crops.cube_mm)
        if self.roll_rad:
            turn = self.roll_rad * (2 * torch.rand(count, generator=generator) - 1)
            old = rolled(old, turn.to(old.rotations.device))
        rounded = replace(new.crops, image=new.crops.image.half().float())
        return joined(_without_points(replace(new, crops=rounded)), old)


def _without_points(batch: SyntheticBatch) -> SyntheticBatch:
    """The same frames without the crops' points, from which nothing is learnt here."""
    return replace(batch, crops=replace(batch.crops, points=batch.crops.points[:, :0]))


class Batches:
    """One worker's share of the batch of each step.

    A batch consists of lanes, each with its own seeds and its own memory of frames. A worker draws every `world`-th lane
    beginning with `rank`, so that all workers together have the same frames, however many they are.

    Args:
        synthesiser: draws the frames.
        settings: how many are drawn and repeated.
        rank: of this worker.
        world: how many workers there are.
        pool: hands in whole scenes, if settings.found asks for any.

    Raises:
        ValueError: more workers than lanes.
    """

    def __init__(
        self,
        synthesiser: Synthesiser | ManyHands,
        settings: PretrainSettings,
        rank: int = 0,
        world: int = 1,
        pool: SyntheticBatch | None = None,
    ):
        s = self.settings = settings
        self.synthesiser, self.pool = synthesiser, pool
        self.fresh_count = max(1, round(s.batch * s.fresh))
        lanes = min(s.lanes, self.fresh_count)
        if world > lanes:
            raise ValueError(f"{world} processes cannot share {lanes} lanes of a batch; start fewer or raise lanes")
        self.lanes = {}  # lane: how many of its frames are fresh, how many repeated
        for lane in range(rank, lanes, world):
            both, fresh = (total * (lane + 1) // lanes - total * lane // lanes for total in (s.batch, self.fresh_count))
            self.lanes[lane] = fresh, both - fresh
        self.memories = {lane: Memory(s.memory * fresh, s.roll_deg) for lane, (fresh, _) in self.lanes.items()}

    def __call__(self, step: int) -> SyntheticBatch:
        """The share of a step, without points; its fresh frames are remembered, so ask for the steps in order."""
        parts = []
        for lane, (_, repeated) in self.lanes.items():
            new, memory = self._fresh(step, lane), self.memories[lane]
            generator = Generator().manual_seed(step_seed(self.settings, step, lane))
            parts.append(memory.mixed(new, step, repeated, generator))
            memory.put(new, step)
        return joined(*parts)

    def redraw(self, step: int) -> None:
        """Remember the fresh frames of a step that an earlier run took."""
        for lane in self.lanes:
            self.memories[lane].put(self._fresh(step, lane), step)

    def total(self, step: int) -> int:
        """Frames of a step that all workers have together: until there is something to repeat, only the fresh ones."""
        return self.settings.batch if step and self.settings.memory else self.fresh_count

    def _fresh(self, step: int, lane: int) -> SyntheticBatch:
        count, seed = self.lanes[lane][0], step_seed(self.settings, step, lane)
        found = round(self.settings.found * count) if self.pool is not None else 0
        batch = _without_points(self.synthesiser.batch(count - found, seed))
        return joined(batch, self._from_the_pool(found, seed).to(batch.rotations.device)) if found else batch

    def _from_the_pool(self, count: int, seed: int) -> SyntheticBatch:
        """Some of the pool, each turned in the image, since it is seen several times."""
        generator = Generator().manual_seed(seed)
        some = self.pool[torch.randint(len(self.pool), (count,), generator=generator)]
        some = replace(some, crops=replace(some.crops, image=some.crops.image.float()))
        return rolled(some, math.radians(POOL_ROLL_DEG) * (2 * torch.rand(count, generator=generator) - 1))


def step_seed(settings: PretrainSettings, step: int, lane: int) -> int:
    """A seed for each lane of each step, below 2^32, which is all that torch's generator looks at."""
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
