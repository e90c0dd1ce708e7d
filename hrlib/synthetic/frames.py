"""Synthetic frames of a rigged hand (Sec. 4.1): feasible poses without collisions, a camera, the drawn mesh, a sensor."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor
from tqdm import tqdm

from ..frames.camera import Camera
from ..frames.crop import crop_batch
from ..frames.crops import Crops, batch_index, concatenate
from ..frames.find import crop_frame
from ..frames.frame import Frame
from ..frames.turn import rotated, turned
from ..hand.kinematics import forward_kinematics, joint_positions, turn_hand
from ..hand.rig import HandRig
from ..hand.rotations import from_euler, rotation_matrix
from ..hand.skinning import skin, skinning_transforms
from ..method import true_prediction
from ..network.posenet import Prediction
from .poses import sample_poses, sample_views
from .rasterise import rasterise
from .sensor import measure
from .sensor.model import KINECT_V1, DepthSensor


@dataclass(frozen=True)
class SyntheticSettings:
    """How the hand is held, seen and measured.

    Any side of the hand faces the camera; the other angles are those of a raised hand, fingers up, with a spread of
    `roll_deg` in the image and `pitch_deg` towards the camera. forearm_share, forearm_mm: in how many of the frames
    segmentation leaves a piece of forearm, and how long the longest is; sensor: what measures, noise_share: in how many
    of the frames (the others are exact). Only a window of `window_px` around the hand is drawn.
    """

    distance_mm: tuple[float, float] = (350.0, 950.0)
    off_axis: float = 0.25  # how far from the optical axis, as tangent of the angle
    roll_deg: float = 45.0
    pitch_deg: float = 30.0
    forearm_share: float = 0.5
    forearm_mm: float = 60.0
    sensor: DepthSensor = KINECT_V1
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

    def __len__(self):
        return len(self.crops)

    def __getitem__(self, index) -> "SyntheticBatch":
        index = batch_index(index)
        return SyntheticBatch(self.crops[index], self.rotations[index], self.wrist_mm[index], self.joints_mm[index])

    def to(self, device: torch.device) -> "SyntheticBatch":
        parts = (self.crops, self.rotations, self.wrist_mm, self.joints_mm)
        return SyntheticBatch(*(part.to(device) for part in parts))

    def true_prediction(self, hand: HandRig) -> Prediction:
        """The true pose as a perfect network would predict it, for the hand that it is to be posed with."""
        return true_prediction(self.rotations, self.wrist_mm, hand, self.crops)


class Synthesiser:
    """Draws batches of synthetic frames of one hand.

    `batch(count, seed)` depends on its arguments alone, so that any number of workers makes the same frames. A hand on a
    CUDA device has its frames made there, other ones than on the CPU from the same seed, without the crops' points.
    """

    def __init__(self, hand: HandRig, settings: SyntheticSettings | None = None):
        self.hand, self.settings = hand, settings or SyntheticSettings()
        self.device = hand.vertices_mm.device
        self.loop = wrist_loop(hand.faces)
        self.faces = np.concatenate([hand.faces.cpu().numpy(), forearm_faces(self.loop, len(hand.vertices_mm))])
        if self.device.type == "cuda":
            self.faces = torch.from_numpy(self.faces).to(self.device, torch.int32)

    def batch(self, count: int, seed: int) -> SyntheticBatch:
        """`count` cropped frames of random poses and views."""
        generator = Generator(self.device).manual_seed(seed)
        rotations, wrist_mm = self.sample(count, generator)
        return self.frames_of(rotations, wrist_mm, generator)

    def frames_of(self, rotations: Tensor, wrist_mm: Tensor, generator: Generator) -> SyntheticBatch:
        """Cropped frames of given poses [B, 16, 4] at given places [B, 3] mm; the generator draws camera, arm and noise."""
        drawing = self.draw(rotations, wrist_mm, generator)
        crops = crop_batch(drawing.depth_mm, drawing.intrinsics, self.settings.cube_mm)
        return SyntheticBatch(crops, rotations, wrist_mm, drawing.joints_mm)

    def segmented(
        self, rotations: Tensor, wrist_mm: Tensor, generator: Generator, progress: bool = True
    ) -> SyntheticBatch:
        """`frames_of`, with the arm segmented off and the hand cropped as in a user's frames (`crop.crop_frame`).

        So they have what segmentation does to a hand: it leaves a long piece of the arm, or takes some of the palm with it.
        About 20 ms a frame on one core. Frames without a usable hand are left out; raises ValueError where that are all.
        """
        parts = []
        bar = tqdm(total=len(rotations), desc="synthetic arms", disable=not progress or len(rotations) < 100)
        for q, at in zip(rotations.split(50), wrist_mm.split(50), strict=True):
            drawing = self.draw(q, at, generator)
            crops, kept = [], []
            for i, (depth_mm, lens) in enumerate(zip(drawing.depth_mm, drawing.intrinsics.tolist(), strict=True)):
                crop, _ = crop_frame(Frame(f"synthetic/{i}", depth_mm, Camera(*lens)), self.settings.cube_mm)
                if crop is not None:
                    crops.append(crop)
                    kept.append(i)
            if kept:
                parts.append(SyntheticBatch(concatenate(crops), q[kept], at[kept], drawing.joints_mm[kept]))
            bar.update(len(q))
        bar.close()
        if not parts:
            raise ValueError(
                f"segmentation finds no hand in any of {len(rotations)} synthetic frames of {self.hand.name}"
            )
        return joined(*parts)

    def sample(self, count: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Random poses [count, 16, 4] in random views, and where the wrist is [count, 3] mm."""
        s = self.settings
        rotations = sample_poses(count, self.hand, generator)
        rotations[:, 0] = sample_views(count, s.pitch_deg, s.roll_deg, generator)
        low, high = s.distance_mm
        z = low + (high - low) * torch.rand(count, generator=generator, device=self.device)
        xy = (torch.rand(count, 2, generator=generator, device=self.device) * 2 - 1) * s.off_axis * z[:, None]
        return rotations, torch.cat([xy, z[:, None]], 1)

    def draw(
        self,
        rotations: Tensor,
        wrist_mm: Tensor,
        generator: Generator,
        arms: Tensor | None = None,
        camera: Camera | None = None,
        size: tuple[int, int] | None = None,
    ) -> "Drawing":
        """Depth frames of given poses: the mesh and a piece of forearm through a pinhole camera, then the sensor.

        arms [B, 3]: length (mm), flexion and deviation (rad) of each forearm at the wrist; None draws them. camera, size
        (H, W): a whole image of one camera, instead of a window around each hand.
        """
        hand, s = self.hand, self.settings
        arms = self.sample_arms(len(rotations), generator) if arms is None else arms
        T = forward_kinematics(hand, rotations, wrist_mm)
        vertices = skin(hand.vertices_mm, hand.weights, skinning_transforms(hand, T))
        arm = torch.einsum("brc,bvc->bvr", T[:, 0, :3, :3], self.forearms(arms)) + wrist_mm[:, None]
        if camera is None:
            intrinsics = window_cameras(vertices, s, generator)
        else:
            intrinsics = vertices.new_tensor([camera.fx, camera.fy, camera.cx, camera.cy]).expand(len(vertices), 4)
        vertices = torch.cat([vertices, arm], 1)
        noisy = torch.rand(len(vertices), generator=generator, device=self.device) < s.noise_share
        seed = int(torch.randint(2**31, (1,), generator=generator, device=self.device))
        if self.device.type != "cuda":  # what follows takes and gives arrays there
            vertices, intrinsics, noisy = vertices.numpy(), intrinsics.contiguous().numpy(), noisy.numpy()
        clean_mm = rasterise(vertices, self.faces, intrinsics, size or (s.window_px, s.window_px), closed=True)
        depth_mm = clean_mm + 0  # a copy
        if noisy.any():
            depth_mm[noisy] = measure(clean_mm[noisy], intrinsics[noisy, 0], s.sensor, seed)
        return Drawing(depth_mm, clean_mm, intrinsics, joint_positions(hand, T))

    def sample_arms(self, count: int, generator: Generator) -> Tensor:
        """Random forearms as `draw` takes them, [count, 3]; one of 2 mm just closes the mesh."""
        s, like = self.settings, {"generator": generator, "device": self.device}
        length = 2 + torch.rand(count, **like) * (s.forearm_mm - 2)
        length = torch.where(torch.rand(count, **like) < s.forearm_share, length, 2.0)
        bend = torch.randn(count, 2, **like).clamp(-2, 2) * torch.tensor([0.35, 0.15], device=self.device)
        return torch.cat([length[:, None], bend], 1)

    def forearms(self, arms: Tensor) -> Tensor:
        """Forearm stumps in the wrist's frame, [B, 2 L + 1, 3]: two rings and the middle of the cut. arms: see `draw`."""
        ring = self.hand.vertices_mm[self.loop]
        length, bend = arms[:, 0], arms[:, 1:]
        rings = []
        for part in (0.5, 1.0):
            angles = torch.stack([bend[:, 0], bend[:, 1], torch.zeros_like(length)], 1) * part
            # round the cut's outline towards an ellipse as it moves down the arm
            along = ring.new_tensor([0.0, 1.0, 0.0])
            moved = ring * ring.new_tensor([1.04, 0.0, 1.04]) + ring.mean(0) * along
            moved = moved - part * length[:, None, None] * along
            rings.append(torch.einsum("brc,bvc->bvr", rotation_matrix(from_euler(angles)), moved))
        return torch.cat([*rings, rings[-1].mean(1, keepdim=True)], 1)


@dataclass(frozen=True)
class Drawing:
    """depth_mm [B, H, W]: what the sensor measured; clean_mm [B, H, W]: what there was; intrinsics [B, 4] of each window
    (arrays, or tensors of a CUDA device); joints_mm [B, 21, 3]: the truth in the camera frame."""

    depth_mm: np.ndarray | Tensor
    clean_mm: np.ndarray | Tensor
    intrinsics: np.ndarray | Tensor
    joints_mm: Tensor


def joined(*batches: SyntheticBatch) -> SyntheticBatch:
    """Several batches as one."""
    parts = (torch.cat([getattr(b, key) for b in batches]) for key in ("rotations", "wrist_mm", "joints_mm"))
    return SyntheticBatch(concatenate([b.crops for b in batches]), *parts)


def rolled(batch: SyntheticBatch, angle: Tensor) -> SyntheticBatch:
    """The same frames as `turned` shows them, and the truth about them."""
    crops, R = turned(batch.crops, angle)
    return SyntheticBatch(crops, turn_hand(batch.rotations, R), rotated(batch.wrist_mm, R), rotated(batch.joints_mm, R))


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


def window_cameras(vertices: Tensor, settings: SyntheticSettings, generator: Generator) -> Tensor:
    """Pinhole cameras [B, 4] that look at a window of the sensor around the hand.

    Without a focal length, the cube spans between 130 and 200 pixels, as it does for Kinect at 1.0 to 0.65 m.
    """
    centre = (vertices.amin(1) + vertices.amax(1)) / 2
    span = 130 + 70 * torch.rand(len(vertices), generator=generator, device=generator.device)
    f = span * centre[:, 2] / settings.cube_mm
    if settings.focal_px is not None:
        f = torch.full_like(f, settings.focal_px)
    middle = (settings.window_px - 1) / 2
    return torch.stack([f, f, middle - f * centre[:, 0] / centre[:, 2], middle - f * centre[:, 1] / centre[:, 2]], 1)
