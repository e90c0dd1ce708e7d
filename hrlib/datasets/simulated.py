"""Simulated users: people who differ from the template hand, before a sensor, with exact truth. No download."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from torch import Generator

from ..camera import Camera
from ..hand import HandRig
from ..synthetic import Synthesiser, SyntheticSettings
from . import Frame, Truth

# Kinect v1 at arm's length
KINECT = SyntheticSettings(
    distance_mm=(500.0, 900.0), noise_share=1.0, focal_px=525.0, window_px=320, forearm_mm=30.0, off_axis=0.15
)


@dataclass(frozen=True)
class SimulatedUser:
    """A person who does not exist: shape morphs and a scale away from the template, a sensor, a seed of their own."""

    name: str
    morphs: Mapping[str, float] = field(default_factory=dict)
    scale: float = 1.0
    sensor: SyntheticSettings = KINECT
    seed: int = 0

    def hand(self, template: HandRig) -> HandRig:
        """The user's true hand. Only a simulator and an evaluator may look at it."""
        return template.morphed(dict(self.morphs), self.scale, name=self.name)

    def frames(self, template: HandRig, count: int, split: str = "train") -> list[Frame]:
        """`count` frames of random poses with their truth; the same frames for the same split, however many are asked for.

        Raises ValueError for a split that is neither "train" nor "test".
        """
        if split not in ("train", "test"):
            raise ValueError(f"split must be 'train' or 'test', got {split!r}")
        maker = Synthesiser(self.hand(template), self.sensor)
        frames = []
        for i in range(count):
            generator = Generator().manual_seed(((self.seed * 2 + (split == "test")) << 32) + i)
            rotations, wrist_mm = maker.sample(1, generator)
            depth, intrinsics, joints = maker.draw(rotations, wrist_mm, generator)
            truth = Truth(joints[0].numpy(), rotations[0].numpy(), wrist_mm[0].numpy())
            camera = Camera(*(float(x) for x in intrinsics[0]))
            frames.append(Frame(f"{self.name}/{split}/{i:05d}", depth[0], camera, depth[0] > 0, truth))
        return frames


# The first user: a hand 6 % larger than the template's, fingers a little longer and thicker.
FIRST = SimulatedUser("first", {"fingers-length+": 0.15, "fingers-diameter+": 0.5}, scale=1.06, seed=1)


def mean_size_mm(hand: HandRig) -> float:
    """Wrist to middle fingertip along the rest pose's bones, mm: one number to compare hands by."""
    points = np.concatenate([hand.joints_mm[[0, 7, 8, 9]].numpy(), hand.tips_mm[2:3].numpy()])
    return float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())
