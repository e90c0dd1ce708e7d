"""What several tests of the core share: hands, poses, one small synthetic batch. Made once a session."""

from functools import cache

import numpy as np
import torch

from hrlib.frames.camera import Camera
from hrlib.frames.frame import Frame
from hrlib.hand.joints import FINGERS, JOINT_NAMES
from hrlib.hand.kinematics import forward_kinematics
from hrlib.hand.rig import HandRig, build_rig, load_hand
from hrlib.hand.rotations import from_euler
from hrlib.hand.skinning import skin, skinning_transforms
from hrlib.synthetic.frames import Synthesiser, SyntheticBatch, SyntheticSettings

CAMERA = Camera(290.0, 290.0, 159.5, 119.5)  # of whole images of 320 x 240 px

# The pose of a fist without its thumb: every joint of the four fingers bent by 80 degrees.
FIST_DEG = {f"{finger}_{part}": (80, 0, 0) for finger in FINGERS[1:] for part in ("base", "middle", "far")}


@cache
def template(dtype: torch.dtype = torch.float32) -> HandRig:
    return load_hand(dtype=dtype)


@cache
def clean_batch() -> SyntheticBatch:
    """Four synthetic frames without sensor noise or forearm, with exact truth."""
    return Synthesiser(template(), SyntheticSettings(noise_share=0.0, forearm_mm=2.0)).batch(4, seed=11)


@cache
def drawn_frames() -> tuple[list[Frame], torch.Tensor]:
    """Six whole images of the template's right hand with a forearm before nothing, without noise, and its joints, mm."""
    maker, camera = Synthesiser(template(), SyntheticSettings(noise_share=0.0, roll_deg=15.0, pitch_deg=15.0)), CAMERA
    generator = torch.Generator().manual_seed(5)
    rotations, _ = maker.sample(6, generator)
    wrist_mm = torch.tensor([[0.0, 70.0, 500.0]]) + 10 * torch.randn(6, 3, generator=generator)
    arms = torch.tensor([[150.0, 0.0, 0.0]]).expand(6, 3)
    drawing = maker.draw(rotations, wrist_mm, generator, arms, camera, (240, 320))
    frames = [Frame(f"{i}", depth_mm, camera) for i, depth_mm in enumerate(drawing.depth_mm)]
    return frames, drawing.joints_mm


def pose(angles_deg: dict[str, tuple[float, float, float]], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Quaternions [1, 16, 4] of a hand whose named joints have these (flexion, deviation, twist), the others zero."""
    angles = torch.zeros(1, 16, 3, dtype=dtype)
    for name, values in angles_deg.items():
        angles[0, JOINT_NAMES.index(name)] = torch.deg2rad(torch.tensor(values, dtype=dtype))
    return from_euler(angles)


def posed(hand: HandRig, rotations: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Vertices [B, V, 3] and joint frames [B, 16, 4, 4] of a hand whose wrist is at the origin."""
    T = forward_kinematics(hand, rotations, torch.zeros(len(rotations), 3, dtype=rotations.dtype))
    return skin(hand.vertices_mm, hand.weights, skinning_transforms(hand, T)), T


def random_rotations(count: int, seed: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Quaternions [count, 16, 4] evenly over all rotations."""
    q = torch.randn(count, 16, 4, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return q / q.norm(dim=-1, keepdim=True)


def nearest_distances(points: np.ndarray) -> np.ndarray:
    """Distance of each point to its nearest neighbour."""
    from scipy.spatial import cKDTree

    return cKDTree(points).query(points, k=2)[0][:, 1]


def stick_hand() -> dict:
    """A right hand of boxes, one a joint, in its own frame (y to the fingers, x to the thumb, z out of the palm), mm.

    joints [16, 3], tips [5, 3], vertices [16 x 8, 3], faces, weights [V, 16]: what `build_rig` wants.
    """
    joints, tips = np.zeros((16, 3)), np.zeros((5, 3))
    for finger, x in enumerate((None, 24.0, 0.0, -20.0, -38.0)):
        if x is None:
            base, step = np.array([25.0, 25.0, 12.0]), np.array([18.0, 22.0, 14.0])
        else:
            base, step = np.array([x, 85.0 - abs(x) / 5, 0.0]), np.array([x / 20, 28.0, 3.0])
        for k in range(3):
            joints[1 + 3 * finger + k] = base + k * step
        tips[finger] = base + 3 * step
    cube = np.array([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)], float)
    quads = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))  # seen from outside
    box = np.array([t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))])
    vertices, faces, weights = [], [], []
    for j in range(16):
        far = joints[j + 1] if 0 < j and j % 3 else tips[(j - 1) // 3] if j else np.array([0.0, 80.0, 0.0])
        middle, half = (joints[j] + far) / 2, (35.0, 40.0, 10.0) if j == 0 else (6.0, 13.0, 6.0)
        vertices.append(middle + cube * half)
        faces.append(box + 8 * j)
        weights.append(np.repeat(np.eye(16)[j : j + 1], 8, 0))
    return {
        "joints": joints,
        "tips": tips,
        "vertices": np.concatenate(vertices),
        "faces": np.concatenate(faces),
        "weights": np.concatenate(weights),
    }


def build_stick_hand(**changed) -> HandRig:
    """The stick hand as a rig; `changed` replaces parts of it."""
    parts = stick_hand() | changed
    mesh, cloud = (parts["vertices"], parts["faces"], parts["weights"]), (np.arange(10), np.full((10, 3), 1 / 3))
    return build_rig("stick", mesh, parts["joints"], parts["tips"], cloud)
