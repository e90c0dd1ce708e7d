"""Simulated users: four people who do not exist, each before a sensor, with exact truth. The benchmark that anyone can run.

They stay as they are: another user gets another letter. What makes them as hard as real people: another hand than the
template's, the sensor's noise and shadows, a forearm that is cut off without labels (`frames.segment`), as real frames are,
and smooth movements instead of independent poses.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from torch import Generator, Tensor
from tqdm import tqdm

from ..frames.camera import Camera
from ..frames.crops import Crops, concatenate
from ..frames.find import crop_frames
from ..frames.frame import Frame, Truth
from ..frames.segment import check_mask
from ..hand.named_poses import view_rotation
from ..hand.rig import HandRig
from ..hand.rotations import from_euler, rotation_matrix
from ..support import paths
from ..support.files import write_bytes_atomically
from ..support.parallel import in_processes
from .frames import Synthesiser, SyntheticBatch, SyntheticSettings
from .poses import smooth_angles, smooth_walk
from .sensor.model import KINECT_V1, SR300

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
POSE_FRAMES, VIEW_FRAMES = (6, 20), (12, 35)  # from one pose, or view, to the next
FORMAT = 5  # of the cached crops; another number where the same user's frames would come out otherwise


@dataclass(frozen=True)
class SimulatedUser:
    """A person: shape morphs and a scale away from the template, a camera and sensor, a seed of their own."""

    name: str
    description: str
    morphs: Mapping[str, float] = field(default_factory=dict)
    scale: float = 1.0
    camera: SyntheticSettings = KINECT
    seed: int = 0

    def hand(self, template: HandRig) -> HandRig:
        """The user's true hand. Only a simulator and an evaluator may look at it."""
        return template.morphed(dict(self.morphs), self.scale, name=f"user {self.name}")

    def frames(self, template: HandRig, count: int, split: str = "train", every: int = 1) -> list[Frame]:
        """The first `count` frames of the user's recordings, or every so manieth, with their truth and without a mask.

        The same frames for the same split, however many are asked for. Raises ValueError for a split that is neither
        "train" nor "test".
        """
        frames, recording = [], 0
        while len(frames) < count:
            drawing, rotations, wrist_mm = self._record(template, split, recording)
            for i in range(0, SEQUENCE, every):
                truth = Truth(
                    drawing.joints_mm[i].numpy(), rotations[i].numpy(), wrist_mm[i].numpy(), drawing.clean_mm[i]
                )
                camera = Camera(*(float(x) for x in drawing.intrinsics[i]))
                name = f"{self.name}/{split}/{recording:03d}/{i:03d}"
                frames.append(Frame(name, drawing.depth_mm[i], camera, None, truth))
            recording += 1
        return frames[:count]

    def _record(self, template: HandRig, split: str, recording: int):
        """One recording of SEQUENCE frames: the drawing, rotations [S, 16, 4], wrist_mm [S, 3]."""
        if split not in ("train", "test"):
            raise ValueError(f"split must be 'train' or 'test', got {split!r}")
        # torch's generator takes the lowest 32 bits of a seed
        generator = Generator().manual_seed((self.seed * 2 + (split == "test")) * 10**6 + recording)
        maker, s = Synthesiser(self.hand(template), self.camera), self.camera
        rotations = from_euler(smooth_angles(SEQUENCE, maker.hand, generator, POSE_FRAMES))
        path = smooth_walk(SEQUENCE, lambda k: _views_and_places(k, s, generator), VIEW_FRAMES, generator)
        rotations[:, 0] = view_rotation(*path[:, :3].T)
        wrist_mm = torch.cat([path[:, 3:5] * path[:, 5:6], path[:, 5:6]], 1)
        bends = smooth_walk(
            SEQUENCE, lambda k: torch.randn(k, 2, generator=generator).clamp(-2, 2), (25, 70), generator
        )
        arms = torch.cat([torch.full((SEQUENCE, 1), s.forearm_mm), bends * torch.tensor([0.35, 0.15])], 1)
        return maker.draw(rotations, wrist_mm, generator, arms), rotations, wrist_mm


def _views_and_places(count: int, s: SyntheticSettings, generator: Generator) -> Tensor:
    """[count, 6]: yaw, pitch, roll (rad), x / z, y / z, z (mm) as `Synthesiser.sample` draws them."""
    yaw = (torch.rand(count, generator=generator) * 2 - 1) * torch.pi
    pitch = (torch.randn(count, generator=generator) * np.radians(s.pitch_deg)).clamp(-1.4, 1.4)
    roll = torch.randn(count, generator=generator) * np.radians(s.roll_deg)
    xy = (torch.rand(count, 2, generator=generator) * 2 - 1) * s.off_axis
    low, high = s.distance_mm
    z = low + (high - low) * torch.rand(count, generator=generator)
    return torch.cat([yaw[:, None], pitch[:, None], roll[:, None], xy, z[:, None]], 1)


@dataclass(frozen=True)
class Recorded(SyntheticBatch):
    """A user's cropped frames with their truth; left_out: how many had no hand that segmentation could find."""

    left_out: int


def record(
    user: SimulatedUser,
    template: HandRig,
    count: int,
    split: str = "train",
    progress: bool = True,
    processes: int = 1,
    wristband: bool = False,
) -> Recorded:
    """Segment and crop a user's first `count` frames; kept in build/users, where a second call finds them.

    The same frames whatever the number of `processes` is; more than one take a core each. wristband: the user wears one, as
    the paper's does (Sec. 4.2), and instead of what segmentation leaves of it, all of the forearm is cut off.
    """
    name = f"{user.name}-{split}-{count}-{user.hand(template).fingerprint}-{FORMAT}{'-wristband' * wristband}.pt"
    file = paths.BUILD / "users" / name
    if file.exists():
        return _unpacked(file.read_bytes())
    starts = range(0, count, SEQUENCE)
    make = partial(_packed_recording, user, template, count, split, wristband)
    with tqdm(total=count, desc=f"user {user.name}, {split} frames", disable=not progress) as bar:
        parts = []
        for start, packed in zip(starts, in_processes(make, starts, processes), strict=True):
            parts.append(_unpacked(packed))
            bar.update(min(SEQUENCE, count - start))
    recorded = Recorded(
        concatenate([part.crops for part in parts]),
        *(torch.cat([getattr(p, name) for p in parts]) for name in ("rotations", "wrist_mm", "joints_mm")),
        left_out=sum(part.left_out for part in parts),
    )
    write_bytes_atomically(file, _packed(recorded))
    return recorded


def _packed_recording(
    user: SimulatedUser, template: HandRig, count: int, split: str, wristband: bool, start: int
) -> bytes:
    """What is found of a hand in the recording that begins with frame `start`, as bytes: those may leave a process."""
    recording = start // SEQUENCE
    drawing, rotations, wrist_mm = user._record(template, split, recording)
    R, frames = rotation_matrix(rotations[:, 0]).numpy(), []
    for i in range(min(SEQUENCE, count - start)):
        depth_mm, camera, mask = drawing.depth_mm[i], Camera(*(float(x) for x in drawing.intrinsics[i])), None
        if wristband:
            mask = before_wrist(depth_mm, camera, R[i], wrist_mm[i].numpy())
            if check_mask(depth_mm, camera, mask).reason:
                continue
        frames.append(Frame(f"{recording}/{i}", depth_mm, camera, mask))
    crops, found, _ = crop_frames(frames, progress=False)
    kept = [int(frame.name.partition("/")[2]) for frame in found]
    lost = min(SEQUENCE, count - start) - len(kept)
    return _packed(Recorded(crops, rotations[kept], wrist_mm[kept], drawing.joints_mm[kept], lost))


def before_wrist(depth_mm: np.ndarray, camera: Camera, R: np.ndarray, wrist_mm: np.ndarray) -> np.ndarray:
    """The pixels [H, W] of a hand before its wrist, where a wristband would begin; R [3, 3], wrist_mm [3]: the wrist's true
    turn and place in the camera frame."""
    mask = depth_mm > 0
    mask[mask] = (camera.cloud(depth_mm) - wrist_mm) @ R[:, 1] > 0
    return mask


def _packed(recorded: Recorded) -> bytes:
    buffer, c = io.BytesIO(), recorded.crops
    crops = {"image": c.image, "points": c.points, "centre_mm": c.centre_mm, "count": c.count, "cube_mm": c.cube_mm}
    parts = {"rotations": recorded.rotations, "wrist_mm": recorded.wrist_mm, "joints_mm": recorded.joints_mm}
    torch.save({"crops": crops, **parts, "left_out": recorded.left_out}, buffer)
    return buffer.getvalue()


def _unpacked(packed: bytes) -> Recorded:
    stored = torch.load(io.BytesIO(packed), weights_only=True)
    return Recorded(**{**stored, "crops": Crops(**stored["crops"])})


USERS = {
    user.name: user
    for user in (
        SimulatedUser("A", "the template's hand, Kinect", seed=1),
        SimulatedUser("B", "a hand 15 % smaller, Kinect", scale=0.85, seed=2),
        SimulatedUser(
            "C", "long thin fingers, Kinect", {"fingers-length+": 0.45, "fingers-diameter-": 0.9, "wrist-": 1.0}, seed=3
        ),
        SimulatedUser(
            "D",
            "short thick fingers, SR300",
            {"fingers-length-": 0.9, "fingers-diameter+": 1.0, "wrist+": 1.0},
            camera=SR300_NEAR,
            seed=4,
        ),
    )
}
