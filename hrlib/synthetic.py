"""Synthetic frames of a rigged hand (Sec. 4.1): feasible poses without collisions, a camera, the drawn mesh, a sensor."""

import math
from dataclasses import dataclass

import numpy as np
import roma
import torch
from torch import Generator, Tensor

from .crop import Crops, crop_batch
from .hand import HandRig
from .kinematics import forward_kinematics, from_euler, joint_positions, rotation_matrix
from .losses import collision_loss
from .rasterise import rasterise
from .sensor import kinect_v1
from .skinning import skin, skinning_transforms


@dataclass(frozen=True)
class SyntheticSettings:
    """How the hand is held, seen and measured.

    Any side of the hand faces the camera; the other angles are those of a raised hand, fingers up, with a spread of
    `roll_deg` in the image and `pitch_deg` towards the camera. forearm_mm: longest piece of forearm that segmentation
    leaves; noise_share: how many of the frames go through the sensor model. Only a window of `window_px` around the hand
    is drawn.
    """

    distance_mm: tuple[float, float] = (350.0, 950.0)
    off_axis: float = 0.25  # how far from the optical axis, as tangent of the angle
    roll_deg: float = 45.0
    pitch_deg: float = 30.0
    forearm_mm: float = 60.0
    noise_share: float = 0.5
    cube_mm: float = 250.0
    focal_px: float | None = None  # one sensor's; None draws the resolution of the cube between 130 and 200 px
    window_px: int = 224


@dataclass(frozen=True)
class SyntheticBatch:
    """B frames with exact truth: crops, rotations [B, 16, 4], wrist_mm [B, 3], joints_mm [B, 21, 3] in the camera frame."""

    crops: Crops
    rotations: Tensor
    wrist_mm: Tensor
    joints_mm: Tensor


# -- poses ----------------------------------------------------------------------------------------------------------------


def sample_poses(count: int, hand: HandRig, generator: Generator, max_collision_mm: float = 0.1) -> Tensor:
    """Feasible finger poses without collisions, [count, 16, 4] unit quaternions; the wrist's is the identity.

    Euler angles are drawn inside the limits of Eq. 8, poses whose Eq. 7 exceeds `max_collision_mm` are drawn again.
    Raises ValueError where the limits admit next to nothing.
    """
    kept: list[Tensor] = []
    drawn = have = 0
    while have < count:
        angles = sample_angles(2 * (count - have) + 64, hand.limits_rad, generator)
        rotations = from_euler(angles)
        T = forward_kinematics(hand, rotations, torch.zeros(len(angles), 3))
        good = rotations[collision_loss(joint_positions(hand, T)) <= max_collision_mm]
        kept.append(good)
        have, drawn = have + len(good), drawn + len(angles)
        if drawn > 100 * count + 10000:
            raise ValueError(f"only {have} of {drawn} sampled poses were free of collisions; check the joint limits")
    return torch.cat(kept)[:count]


def sample_angles(count: int, limits_rad: Tensor, generator: Generator) -> Tensor:
    """Flexion, deviation, twist inside the limits, [count, 16, 3] rad; the wrist's are zero.

    The fingers' flexions are mixed from what hands do: straight, rolled up, anything; a third of the hands have all
    fingers alike; a far joint follows its middle joint by 2/3 (Lin, Wu, Huang 2000) loosely; bent fingers spread less.
    """
    low, high = limits_rad[1:].unbind(-1)
    if not (low <= high).all():
        raise ValueError("limits_rad must have lower <= upper bounds; some joint's range is empty")

    def uniform(*shape):
        return torch.rand(*shape, generator=generator)

    share = uniform(count, 15, 3)  # position inside the range
    fingers = share.view(count, 5, 3, 3)[:, 1:]  # a view: index to pinky, base / middle / far
    alike = (uniform(count, 1, 1) < 0.33) & (uniform(count, 4, 1) < 0.85)
    curl = torch.where(alike, uniform(count, 1, 1), uniform(count, 4, 1))
    kind = torch.where(alike, uniform(count, 1, 1), uniform(count, 4, 1))
    wobble = 0.08 * torch.randn(count, 4, 3, generator=generator)
    straight, rolled = (kind < 0.3)[..., 0], ((kind >= 0.3) & (kind < 0.5))[..., 0]
    base = torch.where(
        straight, 0.18 + 0.5 * curl[..., 0] ** 3, torch.where(rolled, 0.75 + 0.2 * curl[..., 0], fingers[..., 0, 0])
    )
    middle = torch.where(straight, 0.06, torch.where(rolled, 0.82 + 0.1 * curl[..., 0], fingers[..., 1, 0]))
    fingers[..., 0, 0] = base + wobble[..., 0]
    fingers[..., 1, 0] = middle + wobble[..., 1]
    fingers[..., 2, 0] = fingers[..., 1, 0] * 0.67 + 1.5 * wobble[..., 2]
    spread = 1 - 0.8 * fingers[..., 0, 0].clamp(0, 1)
    fingers[..., 0, 1] = 0.5 + (fingers[..., 0, 1] - 0.5) * spread
    angles = low + share.clamp(0, 1) * (high - low)
    return torch.cat([torch.zeros(count, 1, 3), angles], 1)


def sample_views(count: int, settings: SyntheticSettings, generator: Generator) -> Tensor:
    """Rotations of the wrist in the camera frame, [count, 4]: a raised hand turned to any side."""
    yaw = (torch.rand(count, generator=generator) * 2 - 1) * math.pi
    pitch = (torch.randn(count, generator=generator) * math.radians(settings.pitch_deg)).clamp(-1.4, 1.4)
    roll = torch.randn(count, generator=generator) * math.radians(settings.roll_deg)
    return view_rotation(yaw, pitch, roll)


def view_rotation(yaw: Tensor, pitch: Tensor, roll: Tensor) -> Tensor:
    """Wrist rotation [B, 4] of a raised hand: zero angles show the palm, fingers up; radians [B] each."""

    def about(axis, angle):
        q = torch.zeros(*angle.shape, 4)
        q[..., axis], q[..., 3] = torch.sin(angle / 2), torch.cos(angle / 2)
        return q

    up = torch.tensor([1.0, 0.0, 0.0, 0.0])  # half a turn about x: fingers up (camera y is down), palm to the camera
    q = roma.quat_composition([about(2, roll), about(0, pitch), about(1, yaw), up.expand(len(yaw), 4)])
    return q


# -- frames ---------------------------------------------------------------------------------------------------------------


class Synthesiser:
    """Draws batches of synthetic frames of one hand.

    `batch(count, seed)` depends on its arguments alone, so that any number of workers makes the same frames.
    """

    def __init__(self, hand: HandRig, settings: SyntheticSettings | None = None):
        self.hand, self.settings = hand, settings or SyntheticSettings()
        self.loop = wrist_loop(hand.faces)
        self.faces = np.concatenate([hand.faces.numpy(), forearm_faces(self.loop, len(hand.vertices_mm))])

    def batch(self, count: int, seed: int) -> SyntheticBatch:
        """`count` cropped frames of random poses and views."""
        generator = Generator().manual_seed(seed)
        rotations, wrist_mm = self.sample(count, generator)
        depth_mm, intrinsics, joints_mm = self.draw(rotations, wrist_mm, generator)
        crops = crop_batch(depth_mm, intrinsics, self.settings.cube_mm)
        return SyntheticBatch(crops, rotations, wrist_mm, joints_mm)

    def sample(self, count: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Random poses [count, 16, 4] in random views, and where the wrist is [count, 3] mm."""
        s = self.settings
        rotations = sample_poses(count, self.hand, generator)
        rotations[:, 0] = sample_views(count, s, generator)
        low, high = s.distance_mm
        z = low + (high - low) * torch.rand(count, generator=generator)
        xy = (torch.rand(count, 2, generator=generator) * 2 - 1) * s.off_axis * z[:, None]
        return rotations, torch.cat([xy, z[:, None]], 1)

    def draw(self, rotations: Tensor, wrist_mm: Tensor, generator: Generator) -> tuple[np.ndarray, np.ndarray, Tensor]:
        """Depth frames of given poses: the mesh and a piece of forearm through a pinhole camera, then the sensor.

        Returns depth_mm [B, H, W], intrinsics [B, 4] of each window, and the true joints [B, 21, 3] mm.
        """
        hand, s = self.hand, self.settings
        T = forward_kinematics(hand, rotations, wrist_mm)
        vertices = skin(hand.vertices_mm, hand.weights, skinning_transforms(hand, T))
        arm = (
            torch.einsum("brc,bvc->bvr", T[:, 0, :3, :3], self.forearms(len(rotations), generator)) + wrist_mm[:, None]
        )
        vertices = torch.cat([vertices, arm], 1).numpy()
        intrinsics = window_cameras(vertices, s, generator)
        depth_mm = rasterise(vertices, self.faces, intrinsics, (s.window_px, s.window_px), closed=True)
        noisy = torch.rand(len(depth_mm), generator=generator).numpy() < s.noise_share
        seed = int(torch.randint(2**31, (1,), generator=generator))
        if noisy.any():
            depth_mm[noisy] = kinect_v1(depth_mm[noisy], intrinsics[noisy, 0], seed)
        return depth_mm, intrinsics, joint_positions(hand, T)

    def forearms(self, count: int, generator: Generator) -> Tensor:
        """Forearm stumps in the wrist's frame, [count, 2 L + 1, 3]: two rings and the middle of the cut."""
        ring = self.hand.vertices_mm[self.loop]
        length = 2 + torch.rand(count, generator=generator) * (self.settings.forearm_mm - 2)
        length = torch.where(torch.rand(count, generator=generator) < 0.5, length, 2.0)
        bend = torch.randn(count, 2, generator=generator).clamp(-2, 2) * torch.tensor([0.35, 0.15])
        rings = []
        for part in (0.5, 1.0):
            angles = torch.stack([bend[:, 0], bend[:, 1], torch.zeros(count)], 1) * part
            # round the cut's outline towards an ellipse as it moves down the arm
            moved = ring * torch.tensor([1.04, 0.0, 1.04]) + ring.mean(0) * torch.tensor([0.0, 1.0, 0.0])
            moved = moved - part * length[:, None, None] * torch.tensor([0.0, 1.0, 0.0])
            rings.append(torch.einsum("brc,bvc->bvr", rotation_matrix(from_euler(angles)), moved))
        return torch.cat([*rings, rings[-1].mean(1, keepdim=True)], 1)


def wrist_loop(faces: Tensor) -> Tensor:
    """The vertices of the mesh's one opening, in order: edges that belong to a single triangle."""
    edges = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).tolist()
    known = {tuple(edge) for edge in edges}
    following = {a: b for a, b in edges if (b, a) not in known}
    if not following:
        raise ValueError("the hand's mesh is closed: it has no opening at the wrist to attach a forearm to")
    loop = [next(iter(following))]
    while following[loop[-1]] != loop[0]:
        loop.append(following[loop[-1]])
    return torch.tensor(loop)


def forearm_faces(loop: Tensor, first: int) -> np.ndarray:
    """Triangles from the wrist's opening over two rings of new vertices (numbered from `first`) to a closed end."""
    n = len(loop)
    rings = [loop.tolist(), [first + i for i in range(n)], [first + n + i for i in range(n)]]
    faces = []
    for upper, lower in zip(rings, rings[1:], strict=False):
        for i in range(n):
            a, b, c, d = upper[i], upper[(i + 1) % n], lower[i], lower[(i + 1) % n]
            faces += [(b, a, c), (b, c, d)]
    end = first + 2 * n
    faces += [(rings[2][(i + 1) % n], rings[2][i], end) for i in range(n)]
    return np.array(faces)


def window_cameras(vertices: np.ndarray, settings: SyntheticSettings, generator: Generator) -> np.ndarray:
    """Pinhole cameras [B, 4] that look at a window of the sensor around the hand.

    Without a focal length, the cube spans between 130 and 200 pixels, as it does for Kinect at 1.0 to 0.65 m.
    """
    centre = (vertices.min(1) + vertices.max(1)) / 2
    span = 130 + 70 * torch.rand(len(vertices), generator=generator).numpy()
    f = span * centre[:, 2] / settings.cube_mm
    if settings.focal_px is not None:
        f = np.full_like(f, settings.focal_px)
    middle = (settings.window_px - 1) / 2
    return np.stack(
        [f, f, middle - f * centre[:, 0] / centre[:, 2], middle - f * centre[:, 1] / centre[:, 2]], 1
    ).astype(np.float32)
