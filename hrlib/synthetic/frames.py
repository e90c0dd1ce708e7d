"""Synthetic frames of a rigged hand (Sec. 4.1): feasible poses without collisions, a camera, the drawn mesh, a sensor."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from ..frames.camera import Camera
from ..frames.crop import crop_batch
from ..frames.crops import Crops, batch_index, concatenate, rotated, turned
from ..frames.find import crop_frame
from ..frames.frame import Frame
from ..hand.joints import JOINT_NAMES
from ..hand.kinematics import forward_kinematics, joint_positions, turn_hand
from ..hand.named_poses import view_rotation
from ..hand.rig import HandRig
from ..hand.rotations import from_euler, rotation_matrix
from ..hand.skinning import skin, skinning_transforms
from ..method import true_prediction
from ..network.posenet import ANCHOR, Prediction
from ..support.progress import tqdm
from .poses import sample_poses, sample_view_angles
from .rasterise import rasterise
from .sensor import measure
from .sensor.model import KINECT_V1, DepthSensor
from .wristband import band_faces, band_vertices, between_rings

CUBE_PX = (130.0, 200.0)  # pixels across the crop's cube, as Kinect has them at 1.0 to 0.65 m
BEND_RAD = (0.35, 0.15)  # standard deviation of the forearm's flexion and deviation at the wrist
STUB_MM = 2.0  # a forearm of this length just closes the mesh
CUT_MM = 10.0  # of a closed mesh at its end behind the wrist, so that a forearm can be attached
BEHIND = 0.3  # of the palm's length from the wrist: an opening farther up is another hole than the wrist's
HALFWAY = 0.5  # of the arm's length: where the first of its two rings lies
WIDER_ARM = 1.04  # the forearm's rings against the wrist's outline: an arm widens behind the wrist
CHUNK = 50  # frames drawn at once before they are segmented, which bounds the memory


@dataclass(frozen=True)
class SyntheticSettings:
    """How the hand is held, seen and measured. It is a raised hand, fingers up, that shows any of its sides."""

    distance_mm: tuple[float, float] = (350.0, 950.0)  # z of the wrist, least and greatest
    off_axis: float = 0.25  # how far from the optical axis at most, as tangent of the angle
    roll_deg: float = 45.0  # standard deviation of the turn in the image
    pitch_deg: float = 30.0  # standard deviation of the tilt towards the camera
    forearm_share: float = 0.5  # of the frames in which segmentation leaves a piece of forearm
    forearm_mm: float = 60.0  # length of the longest such piece
    sensor: DepthSensor = KINECT_V1
    noise_share: float = 0.5  # of the frames that the sensor measures; the others are exact
    cube_mm: float = 250.0  # side of the crop's cube
    focal_px: float | None = None  # that of one sensor; None draws the resolution of the cube from CUBE_PX
    window_px: int = 224  # side of the window around the hand that is drawn, instead of a whole image


@dataclass(frozen=True)
class SyntheticBatch:
    """B cropped frames with exact truth in the camera frame."""

    crops: Crops
    rotations: Float[Tensor, "B 16 4"]  # unit quaternions xyzw; the wrist's turns it to the camera
    wrist_mm: Float[Tensor, "B 3"]
    joints_mm: Float[Tensor, "B 21 3"]
    # of frames that show hands of many people; None where all show one
    bones_mm: Float[Tensor, "B 21 3"] | None = None  # `HandRig.points_mm` of each
    shape: Float[Tensor, "B 8"] | None = None  # `HandShape.numbers` of each

    def __len__(self):
        return len(self.crops)

    def __getitem__(self, index) -> "SyntheticBatch":
        index = batch_index(index)
        return SyntheticBatch(*(None if part is None else part[index] for part in self.parts()))

    def to(self, device: torch.device | str) -> "SyntheticBatch":
        return SyntheticBatch(*(None if part is None else part.to(device) for part in self.parts()))

    def parts(self) -> list:
        """Crops and truth, in the order of the fields."""
        return [self.crops, self.rotations, self.wrist_mm, self.joints_mm, self.bones_mm, self.shape]

    def true_prediction(self, hand: HandRig) -> Prediction:
        """The true pose as a perfect network would predict it, to be posed with `hand`."""
        return true_prediction(self.rotations, self.wrist_mm, hand, self.crops)


@dataclass(frozen=True)
class Drawing:
    """Whole depth frames before they are cropped: arrays, or tensors of a CUDA device."""

    depth_mm: Float[np.ndarray | Tensor, "B H W"]  # what the sensor measured
    clean_mm: Float[np.ndarray | Tensor, "B H W"]  # what a sensor without errors would measure
    intrinsics: Float[np.ndarray | Tensor, "B 4"]  # fx, fy, cx, cy of each frame's window, px
    joints_mm: Float[Tensor, "B 21 3"]  # the truth in the camera frame
    band: Bool[np.ndarray | Tensor, "B H W"] | None = None  # pixels that show the wristband, where one is worn

    def camera(self, index: int) -> Camera:
        """The camera of one frame."""
        return Camera(*self.intrinsics[index].tolist())


class Synthesiser:
    """Draws batches of synthetic frames of one hand.

    `batch(count, seed)` depends on its arguments alone, so that any number of workers makes the same frames. A hand on a
    CUDA device has its frames made there. They differ from those that the CPU makes of the same seed, and their crops
    have no points. With `wristband`, the forearms wear one.
    """

    def __init__(self, hand: HandRig, settings: SyntheticSettings | None = None, wristband: bool = False):
        self.hand, self.settings, self.wristband = hand, settings or SyntheticSettings(), wristband
        self.device = hand.vertices_mm.device
        faces = opened_at_wrist(hand)
        self.loop = wrist_loop(faces, hand.vertices_mm)
        self.faces = np.concatenate([faces.cpu().numpy(), forearm_faces(self.loop, len(hand.vertices_mm))])
        if self.device.type == "cuda":
            self.faces = torch.from_numpy(self.faces).to(self.device, torch.int32)

    # -- cropped frames -----------------------------------------------------------------------------------------------

    def batch(self, count: int, seed: int) -> SyntheticBatch:
        """`count` cropped frames of random poses and views."""
        generator = Generator(self.device).manual_seed(seed)
        rotations, wrist_mm = self.sample(count, generator)
        return self.frames_of(rotations, wrist_mm, generator)

    def sample(self, count: int, generator: Generator) -> tuple[Float[Tensor, "B 16 4"], Float[Tensor, "B 3"]]:
        """Random poses in random views, and where the wrist is (mm, camera frame)."""
        s = self.settings
        rotations = sample_poses(count, self.hand, generator)
        rotations[:, 0] = view_rotation(*sample_view_angles(count, s.pitch_deg, s.roll_deg, generator).T)
        low, high = s.distance_mm
        z = low + (high - low) * torch.rand(count, generator=generator, device=self.device)
        xy = (torch.rand(count, 2, generator=generator, device=self.device) * 2 - 1) * s.off_axis * z[:, None]
        return rotations, torch.cat([xy, z[:, None]], 1)

    def frames_of(
        self, rotations: Float[Tensor, "B 16 4"], wrist_mm: Float[Tensor, "B 3"], generator: Generator
    ) -> SyntheticBatch:
        """Cropped frames of given poses at given places (camera frame); the generator draws camera, arm and noise."""
        drawing = self.draw(rotations, wrist_mm, generator)
        crops = crop_batch(drawing.depth_mm, drawing.intrinsics, self.settings.cube_mm)
        return SyntheticBatch(crops, rotations, wrist_mm, drawing.joints_mm)

    def segmented(
        self,
        rotations: Float[Tensor, "B 16 4"],
        wrist_mm: Float[Tensor, "B 3"],
        generator: Generator,
        progress: bool = True,
    ) -> SyntheticBatch:
        """`frames_of`, but segmented and cropped as a user's frames are (`frames.find.crop_frame`).

        Thus the crops show what segmentation does to a hand: it leaves a long piece of the arm, or takes some of the palm
        with it. About 20 ms a frame on one core. Frames without a usable hand are left out.

        Raises:
            ValueError: no frame has a usable hand.
        """
        parts = []
        bar = tqdm(total=len(rotations), desc="synthetic arms", disable=not progress or len(rotations) < 100)
        for q, wrist in zip(rotations.split(CHUNK), wrist_mm.split(CHUNK), strict=True):
            drawing = self.draw(q, wrist, generator)
            frames = [Frame(f"synthetic/{i}", d, drawing.camera(i)) for i, d in enumerate(drawing.depth_mm)]
            crops = [crop_frame(frame, self.settings.cube_mm)[0] for frame in frames]
            kept = [i for i, crop in enumerate(crops) if crop is not None]
            if kept:
                crops = concatenate([crops[i] for i in kept])
                parts.append(SyntheticBatch(crops, q[kept], wrist[kept], drawing.joints_mm[kept]))
            bar.update(len(q))
        bar.close()
        if not parts:
            raise ValueError(
                f"segmentation finds no hand in any of {len(rotations)} synthetic frames of {self.hand.name}"
            )
        return joined(*parts)

    # -- whole frames -------------------------------------------------------------------------------------------------

    def draw(
        self,
        rotations: Float[Tensor, "B 16 4"],
        wrist_mm: Float[Tensor, "B 3"],
        generator: Generator,
        arms: Float[Tensor, "B 3"] | None = None,
        camera: Camera | None = None,
        size: tuple[int, int] | None = None,
    ) -> Drawing:
        """Depth frames of given poses: the mesh and a piece of forearm through a pinhole camera, then the sensor.

        Args:
            rotations, wrist_mm: the poses and their places in the camera frame.
            generator: draws cameras, arms and noise.
            arms: length (mm), flexion and deviation (rad) of each forearm at the wrist; None draws them.
            camera, size: whole images of one camera, (H, W) px, instead of a window around each hand.
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
        wrist_ends = vertices[:, self.loop], arm[:, : len(self.loop)], arms[:, 0] * HALFWAY
        vertices = torch.cat([vertices, arm], 1)
        noisy = torch.rand(len(vertices), generator=generator, device=self.device) < s.noise_share
        seed = int(torch.randint(2**31, (1,), generator=generator, device=self.device))
        if self.device.type != "cuda":  # the CPU's rasteriser and sensor take and give arrays
            vertices, intrinsics, noisy = vertices.numpy(), intrinsics.contiguous().numpy(), noisy.numpy()
        size = size or (s.window_px, s.window_px)
        clean_mm, band = rasterise(vertices, self.faces, intrinsics, size, closed=True), None
        if self.wristband:
            over_mm = band_vertices(*wrist_ends)
            over_mm = over_mm if self.device.type == "cuda" else over_mm.numpy()
            over_mm = rasterise(over_mm, band_faces(len(self.loop)), intrinsics, size, closed=True)
            band = (over_mm > 0) & ((over_mm < clean_mm) | (clean_mm == 0))
            clean_mm[band] = over_mm[band]
        depth_mm = clean_mm + 0  # a copy
        if noisy.any():
            depth_mm[noisy] = measure(clean_mm[noisy], intrinsics[noisy, 0], s.sensor, seed)
        return Drawing(depth_mm, clean_mm, intrinsics, joint_positions(hand, T), band)

    def sample_arms(self, count: int, generator: Generator) -> Float[Tensor, "B 3"]:
        """Random forearms as `draw` takes them."""
        s, like = self.settings, {"generator": generator, "device": self.device}
        length = STUB_MM + torch.rand(count, **like) * (s.forearm_mm - STUB_MM)
        length = torch.where(torch.rand(count, **like) < s.forearm_share, length, STUB_MM)
        bend = torch.randn(count, 2, **like).clamp(-2, 2) * torch.tensor(BEND_RAD, device=self.device)
        return torch.cat([length[:, None], bend], 1)

    def forearms(self, arms: Float[Tensor, "B 3"]) -> Float[Tensor, "B V 3"]:
        """Vertices (mm, wrist's frame) of forearms given as in `draw`: two rings and the middle of the cut."""
        ring = self.hand.vertices_mm[self.loop]
        length, bend = arms[:, 0], arms[:, 1:]
        along, wider = ring.new_tensor([0.0, 1.0, 0.0]), ring.new_tensor([WIDER_ARM, 0.0, WIDER_ARM])
        rings = []
        for part in (HALFWAY, 1.0):
            angles = torch.stack([bend[:, 0], bend[:, 1], torch.zeros_like(length)], 1) * part
            # the hand's cut is slanted; the rings lie level at its mean height, then move down the arm
            moved = ring * wider + ring.mean(0) * along - part * length[:, None, None] * along
            rings.append(torch.einsum("brc,bvc->bvr", rotation_matrix(from_euler(angles)), moved))
        return torch.cat([*rings, rings[-1].mean(1, keepdim=True)], 1)


def joined(*batches: SyntheticBatch) -> SyntheticBatch:
    """Several batches as one."""
    columns = zip(*(b.parts()[1:] for b in batches), strict=True)
    truth = (None if column[0] is None else torch.cat(column) for column in columns)
    return SyntheticBatch(concatenate([b.crops for b in batches]), *truth)


def rolled(batch: SyntheticBatch, angle: Float[Tensor, " B"]) -> SyntheticBatch:
    """The frames and their truth turned in the image by `angle` (rad), as `frames.crops.turned` turns crops."""
    crops, R = turned(batch.crops, angle)
    wrist_mm, joints_mm = rotated(batch.wrist_mm, R), rotated(batch.joints_mm, R)
    return SyntheticBatch(crops, turn_hand(batch.rotations, R), wrist_mm, joints_mm, batch.bones_mm, batch.shape)


# -- the forearm's mesh and the cameras -------------------------------------------------------------------------------


def opened_at_wrist(hand: HandRig) -> Int[Tensor, "F 3"]:
    """The hand's triangles; of a mesh closed at the wrist, as others' often are, without those of its end behind the wrist."""
    along = hand.vertices_mm[:, 1]  # y runs from the wrist to the fingers
    if any(
        along[loop].mean() < BEHIND * hand.joints_mm[JOINT_NAMES.index(ANCHOR), 1] for loop in _openings(hand.faces)
    ):
        return hand.faces
    return hand.faces[(along[hand.faces] > along.min() + CUT_MM).all(1)]


def wrist_loop(faces: Int[Tensor, "F 3"], vertices_mm: Float[Tensor, "V 3"] | None = None) -> Int[Tensor, " L"]:
    """The vertices around the mesh's opening at the wrist, in order.

    Args:
        faces: of the mesh.
        vertices_mm: in the wrist's frame; they tell the wrist from other holes, such as those under nails.

    Raises:
        ValueError: there is no opening, or several and no vertices.
    """
    loops = _openings(faces)
    if not loops:
        raise ValueError("the hand's mesh is closed: it has no opening at the wrist to attach a forearm to")
    if len(loops) == 1:
        return torch.tensor(loops[0])
    if vertices_mm is None:
        raise ValueError(f"the hand's mesh has no single opening at the wrist, but {len(loops)}: close the other holes")

    def behind(loop: list[int]) -> float:
        return float(vertices_mm[loop, 1].mean())

    lowest = min(behind(loop) for loop in loops)
    # a ragged cut leaves small holes beside the large one
    return torch.tensor(max((loop for loop in loops if behind(loop) < lowest + CUT_MM), key=len))


def _openings(faces: Int[Tensor, "F 3"]) -> list[list[int]]:
    """The loops of edges that belong to a single triangle, no vertex twice in one."""
    edges = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).tolist()
    known, following = {tuple(edge) for edge in edges}, {}
    for a, b in edges:
        if (b, a) not in known:
            following.setdefault(a, []).append(b)
    loops = []
    while following:
        path = [next(iter(following))]
        while path:
            ahead = following.get(path[-1])
            if not ahead:
                raise ValueError(
                    "in the hand's mesh more than two triangles meet in an edge, or not all show the same side: make it "
                    "manifold with consistent normals, and export it again"
                )
            vertex = ahead.pop()
            if not ahead:
                del following[path[-1]]
            if vertex not in path:
                path.append(vertex)
                continue
            at = path.index(vertex)
            loops.append(path[at:])
            path = path[: at + 1] if at else []  # back where the walk began
    return loops


def forearm_faces(loop: Int[Tensor, " V"], first: int) -> Int[np.ndarray, "F 3"]:
    """Triangles from the wrist's opening over two rings of new vertices (numbered from `first`) to a closed end."""
    n = len(loop)
    upper = np.stack([loop.numpy(), first + np.arange(n)])  # of the two bands between rings
    lower = first + np.arange(2 * n).reshape(2, n)
    end = np.stack([np.roll(lower[1], -1), lower[1], np.full(n, first + 2 * n)], -1)
    return np.concatenate([between_rings(upper, lower), end])


def window_cameras(
    vertices: Float[Tensor, "B V 3"], settings: SyntheticSettings, generator: Generator
) -> Float[Tensor, "B 4"]:
    """Pinhole cameras (fx, fy, cx, cy in px) that look at a window around each hand (mm, camera frame)."""
    centre = (vertices.amin(1) + vertices.amax(1)) / 2
    low, high = CUBE_PX
    span = low + (high - low) * torch.rand(len(vertices), generator=generator, device=generator.device)
    f = span * centre[:, 2] / settings.cube_mm
    if settings.focal_px is not None:
        f = torch.full_like(f, settings.focal_px)
    middle = (settings.window_px - 1) / 2
    return torch.stack([f, f, middle - f * centre[:, 0] / centre[:, 2], middle - f * centre[:, 1] / centre[:, 2]], 1)
