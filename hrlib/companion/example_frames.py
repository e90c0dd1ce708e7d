"""The frames that the single-frame experiments run on: real ones where they are on this computer, simulated ones always."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..datasets.fetch import dataset_folder
from ..datasets.fingerspelling import LETTERS, Fingerspelling, letter_of
from ..frames.camera import Camera
from ..frames.crops import Crops
from ..frames.find import crop_frames
from ..frames.folder import DepthFolder
from ..frames.frame import Frame
from ..hand.rig import HandRig
from ..method import true_prediction
from ..synthetic.people import USERS, SimulatedUser
from ..synthetic.poses import read_tracked_poses


@dataclass(frozen=True)
class Examples:
    """Cropped frames of one source. kind: "simulated" or "real"; labels: a word for each frame; joints_mm [B, 21, 3],
    rotations [B, 16, 4], wrist_mm [B, 3]: the truth, None for real frames; left_out: {frame: why it has no usable hand};
    data: what was read, for the record; seed: of the simulation."""

    kind: str
    source: str
    crops: Crops
    frames: list[Frame]
    labels: list[str]
    left_out: dict[str, str]
    joints_mm: Tensor | None = None
    rotations: Tensor | None = None
    wrist_mm: Tensor | None = None
    user: SimulatedUser | None = None
    seed: int | None = None
    data: dict[str, Path] = field(default_factory=dict)

    def __len__(self):
        return len(self.frames)

    def index_of(self, label: str | int) -> int:
        """Where the frame with this label is; an int counts frames. The first one where there is no such frame."""
        wanted = str(label + 1) if isinstance(label, int) else label
        return self.labels.index(wanted) if wanted in self.labels else 0

    def true_prediction(self, hand: HandRig):
        """The true pose as a perfect network would predict it (simulated frames only)."""
        if self.rotations is None:
            raise ValueError("these frames are real: nobody knows their true pose")
        return true_prediction(self.rotations, self.wrist_mm, hand, self.crops)


def simulated_examples(template: HandRig, count: int, user: SimulatedUser = USERS["C"]) -> Examples:
    """Test frames of a simulated user, every fiftieth of the recordings, with exact truth.

    The hand is cut out of them at the wrist, for which the user of the paper wore a dark wristband: these
    experiments are about a single frame's pose or shape, not about segmentation.
    """
    user = replace(user, camera=replace(user.camera, forearm_mm=2.0))
    frames = [replace(f, mask=f.depth_mm > 0) for f in user.frames(template, count, "test", every=50)]
    crops, kept, left_out = crop_frames(frames)
    joints, rotations, wrist = (
        torch.from_numpy(np.stack([getattr(frame.truth, key) for frame in kept]))
        for key in ("joints_mm", "rotations", "wrist_mm")
    )
    labels = [f"{i + 1}" for i in range(len(kept))]
    source = f"simulated user {user.name}: {user.description}"
    truth = (joints, rotations, wrist)
    return Examples("simulated", source, crops, kept, labels, left_out, *truth, user=user, seed=user.seed)


def real_examples(count: int = 24) -> Examples:
    """Real Kinect frames of the ASL test split: the middle frame of each letter first, then others evenly.

    Raises FileNotFoundError (with the remedy) where the data set is not on this computer.
    """
    frames = Fingerspelling("test")
    by_letter: dict[str, list[int]] = {letter: [] for letter in LETTERS}
    for i, name in enumerate(frames.names):
        by_letter[letter_of(name)].append(i)
    rounds = -(-count // len(LETTERS))
    # k-th of `rounds` frames of each letter, evenly over its consecutive frames
    picked = [of[(2 * k + 1) * len(of) // (2 * rounds)] for k in range(rounds) for of in by_letter.values()][:count]
    crops, kept, left_out = crop_frames([frames[i] for i in sorted(picked)])
    labels = [letter_of(frame.name).upper() for frame in kept]
    source = "ASL Finger Spelling A, Kinect v1, one user"
    data = {"asl_fingerspelling": dataset_folder("asl_fingerspelling") / "split.json"}
    return Examples("real", source, crops, kept, labels, left_out, data=data)


def available_examples(template: HandRig, count: int, user: str = "C") -> list[Examples]:
    """Simulated examples of a user, and real ones where HRLIB_DATA_MIRROR has them; says so where it has not."""
    real = real_examples_if_any(count)
    return [simulated_examples(template, count, USERS[user]), *([] if real is None else [real])]


def real_examples_if_any(count: int = 24) -> Examples | None:
    """`real_examples`, or None (and a line that says why) where they are not on this computer."""
    try:
        dataset_folder("asl_fingerspelling")
    except FileNotFoundError as error:
        print(f"simulated frames only: {error}")
        return None
    return real_examples(count)


def available_tracked_poses() -> Tensor | None:
    """Real tracked poses [K, 16, 4], or None (and a line that says why) where they are not on this computer."""
    try:
        folder = dataset_folder("poses")
    except FileNotFoundError as error:
        print(f"without tracked poses: {error}")
        return None
    return read_tracked_poses(folder / "animbank.pose.gz", folder / "model_hand.json")


def available_sensors() -> dict[str, DepthFolder]:
    """Folders of real frames of other cameras, read by the general reader; empty where they are not on this computer."""
    readers = {
        "SR305": ("sr305", {"camera": Camera(476.007, 476.007, 313.683, 242.755), "unit_mm": 0.125}),
        "NYU": ("nyu_frame", {"camera": Camera(588.03, 587.07, 320, 240), "encoding": "nyu"}),
    }
    found = {}
    for sensor, (name, options) in readers.items():
        try:
            found[sensor] = DepthFolder(dataset_folder(name), **options)
        except FileNotFoundError as error:
            print(f"without {sensor} frames: {error}")
    return found
