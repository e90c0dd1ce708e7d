"""Stand-ins for the finder's networks, with frames that they understand: what follows the networks is tested exactly."""

import numpy as np
import pytest
import torch

from hrlib.frames import finder
from hrlib.frames.finder import CHANNELS, FOREARM, HAND


class ByDepth:
    """In place of a network: cells less than `near` from the depth to compare with are a hand, up to `far` behind a forearm."""

    def __init__(self, nearest_mm, near_mm, far_mm):
        self.nearest, self.near, self.far = (mm / 2 / finder.PROBE_MM for mm in (nearest_mm, near_mm, far_mm))

    def __call__(self, x):
        apart = torch.pixel_shuffle(torch.stack([x[:, 2 + CHANNELS * k] for k in range(4)], 1), 2)[:, 0]
        measured = torch.pixel_shuffle(torch.stack([x[:, 1 + CHANNELS * k] for k in range(4)], 1), 2)[:, 0] > 0
        classes = torch.where(apart < self.near, HAND, torch.where(apart < self.far, FOREARM, 0))
        classes = torch.where(measured & (apart > self.nearest), classes, 0)
        return 20 * torch.nn.functional.one_hot(classes, 3).permute(0, 3, 1, 2).float(), None

    def judged(self, features, share):
        return torch.full((len(share),), 3.0)  # a hand, to 95 %


def a_left_one(x):
    """In place of what tells sides: a right hand to 5 %."""
    return torch.tensor([-3.0])


@pytest.fixture
def by_depth(monkeypatch):
    """The finder takes what is nearer than 500 mm for a hand, and what lies up to 200 mm behind a hand for its forearm."""
    nets = ByDepth(-1000, -100, 100), ByDepth(-60, 60, 200), a_left_one
    monkeypatch.setattr(finder, "networks", lambda: nets)


def blocks(*parts, size=(480, 640), background=1500.0):
    """A wall with blocks (rows, columns, depth) before it."""
    depth = np.full(size, background, np.float32)
    for rows, columns, z in parts:
        depth[rows, columns] = z
    return depth
