"""The frames that the single-frame experiments run on: real ones where they are on this computer, simulated ones always."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..crop import Crops, crop_frames
from ..hand import HandRig
from ..pipeline import true_prediction
from . import Frame
from .fingerspelling import LETTERS, Fingerspelling, letter_of
from .mirror import dataset_folder
from .simulated import FIRST, SimulatedUser


@dataclass(frozen=True)
class Examples:
    """Cropped frames of one source. kind: "simulated" or "real"; labels: a word for each frame; joints_mm [B, 21, 3],
    rotations [B, 16, 4], wrist_mm [B, 3]: the truth, None for real frames; left_out: {frame: why it has no usable hand}."""

    kind: str
    source: str
    crops: Crops
    frames: list[Frame]
    labels: list[str]
    left_out: dict[str, str]
    joints_mm: Tensor | None = None
    rotations: Tensor | None = None
    wrist_mm: Tensor | None = None

    def __len__(self):
        return len(self.frames)

    def true_prediction(self, hand: HandRig):
        """The true pose as a perfect network would predict it (simulated frames only)."""
        if self.rotations is None:
            raise ValueError("these frames are real: nobody knows their true pose")
        return true_prediction(self.rotations, self.wrist_mm, hand, self.crops)


def simulated_examples(template: HandRig, count: int, user: SimulatedUser = FIRST) -> Examples:
    """Test frames of a simulated user, with exact truth."""
    frames = user.frames(template, count, "test")
    crops, kept, left_out = crop_frames(frames)
    joints, rotations, wrist = (
        torch.from_numpy(np.stack([getattr(frame.truth, key) for frame in kept]))
        for key in ("joints_mm", "rotations", "wrist_mm")
    )
    labels = [f"{i + 1}" for i in range(len(kept))]
    return Examples("simulated", f"simulated user '{user.name}', Kinect noise", crops, kept, labels, left_out, joints, rotations, wrist)


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
    return Examples("real", "ASL Finger Spelling A, Kinect v1, one user", crops, kept, labels, left_out)


def available_examples(template: HandRig, count: int) -> list[Examples]:
    """Simulated examples, and real ones where HRLIB_DATA_MIRROR has them; says so where it has not."""
    examples = [simulated_examples(template, count)]
    try:
        dataset_folder("asl_fingerspelling")
    except FileNotFoundError as error:
        print(f"simulated frames only: {error}")
        return examples
    return [*examples, real_examples(count)]
