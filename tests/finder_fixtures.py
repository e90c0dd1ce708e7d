"""Stand-ins for the finder's networks, with frames that they understand: what follows the networks is tested exactly."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.special import softmax

from hrlib.frames import finder
from hrlib.frames.finder import CHANNELS, FOREARM, HAND


def classes_by_depth(nearest_mm, near_mm, far_mm):
    """Cells less than `near` from the depth to compare with are a hand, up to `far` behind a forearm."""
    nearest, near, far = (mm / 2 / finder.PROBE_MM for mm in (nearest_mm, near_mm, far_mm))

    def shares(x):
        cells = x[0].reshape(2, 2, CHANNELS, *x.shape[2:]).transpose(2, 3, 0, 4, 1)  # [channels, h, 2, w, 2]
        _, measured, apart = cells[:3].reshape(3, 2 * x.shape[2], 2 * x.shape[3])
        classes = np.where(apart < near, HAND, np.where(apart < far, FOREARM, 0))
        classes = np.where((measured > 0) & (apart > nearest), classes, 0)
        return softmax(20 * np.eye(3)[classes].transpose(2, 0, 1)[None], 1).astype(np.float32), None

    return shares


@pytest.fixture
def by_depth(monkeypatch):
    """The finder takes what is nearer than 500 mm for a hand, and what lies up to 200 mm behind a hand for its forearm.

    What it takes for a hand is one to 95 %, and a right one to 5 %.
    """
    nets = SimpleNamespace(
        locate=classes_by_depth(-1000, -100, 100),
        segment=classes_by_depth(-60, 60, 200),
        judge=lambda features, share: [np.array([0.95])],
        side=lambda hand: [np.array([0.05])],
    )
    monkeypatch.setattr(finder, "networks", lambda: nets)


def blocks(*parts, size=(480, 640), background=1500.0):
    """A wall with blocks (rows, columns, depth) before it."""
    depth = np.full(size, background, np.float32)
    for rows, columns, z in parts:
        depth[rows, columns] = z
    return depth
