"""Simulated users A-D, the development people: hands that do not exist, each before a sensor, with exact truth.

Anyone can run this benchmark. The users stay as they are; another user gets another letter. They are as hard as real people
in four ways: another hand than the template's, the sensor's noise and shadows, a forearm that is cut off without labels
(`frames.segment`), and smooth movements instead of independent poses.
"""

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Int
from torch import Generator, Tensor

from ..frames.crops import Crops
from ..frames.find import crop_frames
from ..frames.finder import weights_digest
from ..frames.frame import Frame, Truth
from ..frames.segment import SegmentSettings, check_mask
from ..frames.wristband import mask_at_wristband
from ..hand.named_poses import view_rotation
from ..hand.rig import HandRig
from ..hand.rotations import from_euler
from ..support import paths
from ..support.checks import SPLITS, require_one_of
from ..support.files import write_bytes_atomically
from ..support.ground_truth import Noted, note
from ..support.parallel import in_processes
from ..support.progress import tqdm
from .frames import BEND_RAD, Synthesiser, SyntheticBatch, SyntheticSettings, joined
from .poses import sample_view_angles, smooth_angles, smooth_walk
from .sensor.model import KINECT_V1, SR300
from .wristband import colour_image

# Kinect v1 at arm's length; Intel SR300 nearer, where it measures
KINECT = SyntheticSettings(
    (450.0, 800.0), off_axis=0.15, forearm_share=1.0, forearm_mm=220.0, sensor=KINECT_V1, noise_share=1.0,
    focal_px=525.0, window_px=320,
)  # fmt: skip
SR300_NEAR = SyntheticSettings(
    (350.0, 600.0), off_axis=0.15, forearm_share=1.0, forearm_mm=220.0, sensor=SR300, noise_share=1.0,
    focal_px=476.0, window_px=384,
)  # fmt: skip
SEQUENCE = 200  # frames of one recording, about 13 seconds at 15 a second
POSE_FRAMES = (6, 20)  # from one pose to the next, shortest and longest
VIEW_FRAMES = (12, 35)  # from one view and place to the next
BEND_FRAMES = (25, 70)  # from one bend of the forearm at the wrist to the next
FAR_MM = torch.tensor([0.0, 0.0, 1e6])  # where nobody sees a hand
FORMAT = 6  # of the cached crops; raise it when the same user's frames come out otherwise
BAND_FORMAT = 1  # the same for the frames of users with a wristband, which alone it concerns


@dataclass(frozen=True)
class SimulatedUser:
    """A person with a hand, a camera and a way to move."""

    name: str
    description: str
    morphs: Mapping[str, float] = field(default_factory=dict)  # away from the template's shape, by name
    scale: float = 1.0  # of the whole hand, after the morphs
    camera: SyntheticSettings = KINECT
    seed: int = 0  # of all movements
    wristband: bool = False  # as the paper's user has one (Sec. 4.2): it ends masks, found in a rendered colour image

    def hand(self, template: HandRig) -> HandRig:
        """The user's true hand, for an evaluator or an oracle; the reading is noted."""
        note(f"simulated user {self.name}", "hand")
        return self._hand(template)

    def _hand(self, template: HandRig) -> HandRig:
        """The same for the simulator, which draws it."""
        return template.morphed(dict(self.morphs), self.scale, name=f"user {self.name}")

    def frames(self, template: HandRig, count: int, split: str = "train", every: int = 1) -> list[Frame]:
        """The first `count` frames of the user's recordings, with their truth; without a mask unless there is a wristband.

        Args:
            template: the hand that the user's hand is a morph of.
            count: how many; a larger number gives the same frames and more.
            split: "train" or "test", which have no frame in common.
            every: keep every `every`-th frame of each recording.

        Raises:
            ValueError: another split.
        """
        frames: list[Frame] = []
        recording = 0
        while len(frames) < count:
            frames += self.recording(template, split, recording, every)
            recording += 1
        return frames[:count]

    def recording(self, template: HandRig, split: str, number: int, every: int = 1) -> list[Frame]:
        """Of the SEQUENCE frames of one recording, numbered from 0, every `every`-th; see `frames`."""
        require_one_of(SPLITS, split=split)
        # torch's generator takes the lowest 32 bits of a seed
        generator = Generator().manual_seed((self.seed * 2 + (split == "test")) * 10**6 + number)
        synthesiser, s = Synthesiser(self._hand(template), self.camera, self.wristband), self.camera
        rotations = from_euler(smooth_angles(SEQUENCE, synthesiser.hand, generator, POSE_FRAMES))
        path = smooth_walk(SEQUENCE, partial(_views_and_places, s=s, generator=generator), VIEW_FRAMES, generator)
        rotations[:, 0] = view_rotation(*path[:, :3].T)
        wrist_mm = torch.cat([path[:, 3:5] * path[:, 5:6], path[:, 5:6]], 1)
        bends = smooth_walk(SEQUENCE, partial(_bends, generator=generator), BEND_FRAMES, generator)
        arms = torch.cat([torch.full((SEQUENCE, 1), s.forearm_mm), bends * torch.tensor(BEND_RAD)], 1)
        shown = torch.arange(SEQUENCE) % every == 0
        # the others keep their random numbers, and cost nothing: they are smaller than a pixel
        wrist_mm = torch.where(shown[:, None], wrist_mm, FAR_MM)
        drawing = synthesiser.draw(rotations, wrist_mm, generator, arms)
        random = np.random.default_rng(generator.initial_seed())  # of the colour camera's noise
        source = source_of(self, split)
        truths = [x.numpy() for x in (drawing.joints_mm, rotations, wrist_mm)] + [drawing.clean_mm]
        frames = []
        for i in range(0, SEQUENCE, every):
            depth_mm, camera, mask = drawing.depth_mm[i], drawing.camera(i), None
            if self.wristband:
                colour = colour_image(drawing.clean_mm[i], camera, drawing.band[i], random)
                mask = mask_at_wristband(depth_mm, camera, colour)
            truth = Truth(*(x[i] for x in truths), source)
            frames.append(Frame(f"{self.name}/{split}/{number:03d}/{i:03d}", depth_mm, camera, mask, truth))
        return frames


def _views_and_places(count: int, s: SyntheticSettings, generator: Generator) -> Tensor:
    """[count, 6]: yaw, pitch, roll (rad), x / z, y / z, z (mm), distributed as `Synthesiser.sample` draws them."""
    views = sample_view_angles(count, s.pitch_deg, s.roll_deg, generator)
    xy = (torch.rand(count, 2, generator=generator) * 2 - 1) * s.off_axis
    low, high = s.distance_mm
    z = low + (high - low) * torch.rand(count, generator=generator)
    return torch.cat([views, xy, z[:, None]], 1)


def _bends(count: int, generator: Generator) -> Tensor:
    """[count, 2]: flexion and deviation of the forearm, in units of BEND_RAD."""
    return torch.randn(count, 2, generator=generator).clamp(-2, 2)


# -- recorded and cropped ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Recorded(Noted, SyntheticBatch):
    """A user's cropped frames with their truth, whose readings are noted."""

    TRUTH: ClassVar = ("rotations", "wrist_mm", "joints_mm")
    left_out: int  # frames in which no usable hand was found
    source: str  # whose truth, in the record of what was read

    def __getitem__(self, index) -> "Recorded":
        return self._with(self._batch()[index])  # to select is not to read

    def to(self, device: torch.device | str) -> "Recorded":
        return self._with(self._batch().to(device))

    def _batch(self) -> SyntheticBatch:
        return SyntheticBatch(*(vars(self)[f.name] for f in fields(SyntheticBatch)))

    def _with(self, batch: SyntheticBatch) -> "Recorded":
        return Recorded(**vars(batch), left_out=self.left_out, source=self.source)


def source_of(user: SimulatedUser, split: str) -> str:
    """What the record of readings calls a user's truth."""
    return f"simulated user {user.name}{', wristband' if user.wristband else ''}, {split}"


def record(
    user: SimulatedUser,
    template: HandRig,
    count: int,
    split: str = "train",
    progress: bool = True,
    processes: int = 1,
) -> Recorded:
    """Segment and crop a user's first `count` frames; each recording is kept in build/users, where other calls find it.

    Frames without a usable hand count, but are left out. Each of the `processes` takes a core; the frames do not depend on
    how many there are. Other arguments as in `SimulatedUser.frames`.
    """
    digest, lengths = _digest_of_frames(user, template), [min(SEQUENCE, count - i) for i in range(0, count, SEQUENCE)]
    parts = [_kept(f"{user.name}-{split}-{number:03d}-*-{digest}.pt", n) for number, n in enumerate(lengths)]
    missing = [(number, lengths[number]) for number, part in enumerate(parts) if part is None]
    crop_one = partial(_packed_recording, user, template, split)
    frames = sum(length for _, length in missing)
    with tqdm(total=frames, desc=f"user {user.name}, {split} frames", disable=not (progress and missing)) as bar:
        for (number, length), packed in zip(missing, in_processes(crop_one, missing, processes), strict=True):
            write_bytes_atomically(_place(f"{user.name}-{split}-{number:03d}-{length}-{digest}.pt"), packed)
            parts[number] = _unpacked(packed)
            bar.update(length)
    firsts = [part.first(length) for part, length in zip(parts, lengths, strict=True)]
    left_out = count - sum(len(batch) for batch in firsts)
    return Recorded(**vars(joined(*firsts)), left_out=left_out, source=source_of(user, split))


def _digest_of_frames(user: SimulatedUser, template: HandRig) -> str:
    """Names all that decides a user's cropped frames but their number and split."""
    decides = {
        "format": FORMAT,
        "user": asdict(user) | {"description": None},
        "hand": user._hand(template).fingerprint,
        "movement": (SEQUENCE, POSE_FRAMES, VIEW_FRAMES, BEND_FRAMES, BEND_RAD),
        "segmentation": asdict(SegmentSettings()),
        "finder": weights_digest(),
    }
    if user.wristband:
        decides["wristband"] = BAND_FORMAT
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class _Part:
    """What was cropped of one recording."""

    batch: SyntheticBatch
    number: Int[Tensor, " B"]  # of each crop's frame in the recording, ascending

    def first(self, length: int) -> SyntheticBatch:
        """The crops of the first `length` frames."""
        return self.batch[: int((self.number < length).sum())]


def _packed_recording(user: SimulatedUser, template: HandRig, split: str, part: tuple[int, int]) -> bytes:
    """The crops of one recording (its number, the first so many frames), as bytes: tensors must not leave a process."""
    frames = user.recording(template, split, part[0])[: part[1]]
    usable = [f for f in frames if f.mask is None or not check_mask(f.depth_mm, f.camera, f.mask).reason]
    crops, kept, _ = crop_frames(usable, progress=False)
    truths = [vars(frame.truth) for frame in kept]  # handed over, not read
    truth = {key: torch.from_numpy(np.stack([truth[key] for truth in truths])) for key in Recorded.TRUTH}
    numbers = {frame.name: number for number, frame in enumerate(frames)}
    buffer = io.BytesIO()
    number = torch.tensor([numbers[frame.name] for frame in kept])
    torch.save({"crops": vars(crops), **truth, "number": number}, buffer)
    return buffer.getvalue()


def _unpacked(packed: bytes) -> _Part:
    stored = torch.load(io.BytesIO(packed), weights_only=True)
    number = stored.pop("number")
    return _Part(SyntheticBatch(**stored | {"crops": Crops(**stored["crops"])}), number)


def _place(name: str) -> Path:
    return paths.BUILD / "users" / name


def _kept(pattern: str, length: int) -> _Part | None:
    """The shortest part that was kept of a recording and has its first `length` frames; None if there is none."""
    files = {int(file.name.rsplit("-", 2)[1]): file for file in _place("").glob(pattern)}
    enough = [known for known in files if known >= length]
    return _unpacked(files[min(enough)].read_bytes()) if enough else None


LONG_THIN = {"fingers-length+": 0.45, "fingers-diameter-": 0.9, "wrist-": 1.0}
SHORT_THICK = {"fingers-length-": 0.9, "fingers-diameter+": 1.0, "wrist+": 1.0}
USERS = {
    user.name: user
    for user in (
        SimulatedUser("A", "the template's hand, Kinect", seed=1),
        SimulatedUser("B", "a hand 15 % smaller, Kinect", scale=0.85, seed=2),
        SimulatedUser("C", "long thin fingers, Kinect", LONG_THIN, seed=3),
        SimulatedUser("D", "short thick fingers, SR300", SHORT_THICK, camera=SR300_NEAR, seed=4),
    )
}
