"""pseudo-NYU and pseudo-ICVL: the real test sets' poses and places, shown by a hand that is simulated.

The template fitted to the labels (`hrlib.hand.inverse_kinematics`) says how each hand is held and where. Another hand, of the
subject's size, is drawn in those poses with that data set's camera and a sensor model, forearm attached. Its joints are
labelled where the data set's labels lie. The images are simulated; no result on them is a result on NYU or ICVL.
"""

import io
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import roma
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Generator, Tensor
from tqdm import tqdm

from ..frames.crops import Crops, concatenate
from ..frames.find import crop_frame
from ..frames.frame import Frame
from ..hand.inverse_kinematics import FittedPoses, dataset_joints, fit_poses, with_bones
from ..hand.rig import HandRig
from ..support import paths
from ..support.files import write_bytes_atomically
from ..synthetic.frames import Synthesiser, SyntheticSettings
from ..synthetic.sensor.model import KINECT_V1, SR300, DepthSensor
from .published import TEST_SETS, read_labels, read_nyu_36, subset

FORMAT = 3  # of the cached fits; another number where the same labels would be fitted otherwise
NYU_POSES = paths.DATA / "pseudo_nyu" / "poses.safetensors"  # ICVL has no licence: its poses are in build alone
STEP_RAD = 1e-4  # of the rotations there: 0.01 mm at a fingertip
BLOCK = 100  # consecutive frames: every other block is for refinement, the others for the test


@dataclass(frozen=True)
class PseudoSet:
    """What a pseudo data set is drawn with: image size (H, W), sensor, joints that are fitted and those evaluated, and
    each subject's morphs away from the template (their size is fitted)."""

    size: tuple[int, int]
    sensor: DepthSensor
    fitted: int
    joints: int
    morphs: tuple[dict[str, float], dict[str, float]]


PSEUDO_SETS = {
    # PrimeSense Carmine, the sensor of Kinect v1
    "nyu": PseudoSet(
        (480, 640), KINECT_V1, 36, 14, ({"fingers-diameter-": 0.6, "wrist-": 0.5}, {"fingers-length+": 0.3})
    ),
    # Creative's time-of-flight camera, for which there is no model here; SR300 is of the same range and resolution
    "icvl": PseudoSet(
        (240, 320), SR300, 16, 16, ({"fingers-diameter+": 0.5}, {"fingers-length+": 0.35, "wrist+": 0.5})
    ),
}


@dataclass(frozen=True)
class PseudoFrames:
    """Crops of frames of a pseudo set with labels_mm [F, J, 3], their subject [F] (1, 2) and frame [F] in the test set;
    left_out: how many had no hand that segmentation could find."""

    crops: Crops
    labels_mm: Tensor
    subject: np.ndarray
    frame: np.ndarray
    left_out: int


def real_labels(dataset: str) -> np.ndarray:
    """The labels that are fitted, [F, J, 3] mm: all 36 joints of NYU; the 16 of ICVL, whose hands are left ones, as a mirror
    shows them. ValueError for another set."""
    _pseudo_set(dataset)
    return read_nyu_36() if dataset == "nyu" else read_labels(dataset) * np.array([-1.0, 1.0, 1.0])


def real_poses(dataset: str, template: HandRig, progress: bool = True) -> FittedPoses:
    """The template fitted to the test set's labels: from `NYU_POSES` without any download, else fitted to the labels below
    HRLIB_DATA_MIRROR and kept in build/pseudo, where a second call finds it."""
    _pseudo_set(dataset)
    if dataset == "nyu" and (shipped := load_poses(NYU_POSES, template)) is not None:
        return shipped
    file = paths.BUILD / "pseudo" / f"{dataset}-{template.geometry_fingerprint}-{FORMAT}.pt"
    if file.exists():
        return FittedPoses(**torch.load(file, weights_only=True))
    poses = fit_poses(real_labels(dataset), TEST_SETS[dataset].subject, template, dataset, progress=progress)
    buffer = io.BytesIO()
    torch.save(vars(poses), buffer)
    write_bytes_atomically(file, buffer.getvalue())
    return poses


def save_poses(file: Path, poses: FittedPoses, template: HandRig, origin: dict[str, str]):
    """Write fits to NYU as a small table (data/pseudo_nyu/README.md); `origin` goes into its metadata."""
    turns = (roma.unitquat_to_rotvec(poses.rotations) / STEP_RAD).round().to(torch.int16)  # pi is 31,416 steps
    kept = {"rotations": turns, "subject": poses.subject.to(torch.int8)}
    kept |= {name: getattr(poses, name).contiguous() for name in ("wrist_mm", "offsets_mm", "log_length")}
    # poses depend on mesh and skeleton alone
    write_bytes_atomically(file, save(kept, origin | {"hand": template.geometry_fingerprint}))


def load_poses(file: Path, template: HandRig) -> FittedPoses | None:
    """What `save_poses` wrote; None where it is of another hand than the template. ValueError for a damaged file."""
    try:
        with safe_open(file, "pt") as table:
            if table.metadata()["hand"] != template.geometry_fingerprint:
                return None
            kept = {name: table.get_tensor(name) for name in table.keys()}
        rotations, subject = roma.rotvec_to_unitquat(kept["rotations"] * STEP_RAD), kept["subject"].long()
        wrist, offsets, log_length = (kept[name] for name in ("wrist_mm", "offsets_mm", "log_length"))
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        raise ValueError(
            f"{file} is no table of poses ({error!r}); restore it (git checkout -- data/pseudo_nyu)"
        ) from error
    fitted = torch.empty(len(rotations), len(offsets), 3)
    for number, length in enumerate(log_length):
        own = subject == number
        bones, grown = with_bones(template, length), offsets * length.mean().exp()
        fitted[own] = dataset_joints(bones, rotations[own], wrist[own], "nyu", len(offsets), grown)
    return FittedPoses(rotations, wrist, fitted, offsets, log_length, subject)


def subject_hand(dataset: str, subject: int, template: HandRig, poses: FittedPoses) -> HandRig:
    """The hand that plays subject 1 or 2: another shape than the template's, as large as the subject's bones say."""
    morphs = dict(_pseudo_set(dataset).morphs[subject - 1])
    morphed = template.morphed(morphs)
    bones = lambda hand: torch.cat([hand.bones_mm[1:], hand.tips_mm - hand.joints_mm[3::3]]).norm(dim=1)  # noqa: E731
    own = (bones(morphed) / bones(template)).log().mean().exp()
    scale = float(poses.size()[subject - 1] / own)
    return template.morphed(morphs, scale, name=f"pseudo-{dataset} subject {subject}")


def split_frames(dataset: str, subject: int, split: str, count: int) -> np.ndarray:
    """[<= count] frames of a subject, evenly over the blocks of a split: "train" has blocks 0, 2, ..., "test" the others.

    Raises ValueError for another split.
    """
    if split not in ("train", "test"):
        raise ValueError(f"split must be 'train' or 'test', got {split!r}")
    frames = np.flatnonzero(TEST_SETS[dataset].subject == subject)
    frames = frames[(np.arange(len(frames)) // BLOCK) % 2 == (split == "test")]
    return frames[np.unique(np.linspace(0, len(frames) - 1, min(count, len(frames))).astype(int))]


def pseudo_frames(
    dataset: str, frames: np.ndarray, template: HandRig, poses: FittedPoses, seed: int = 0, progress: bool = True
) -> PseudoFrames:
    """Draw, measure, segment without labels, and crop these frames of one subject; the same frame is always the same.

    Raises ValueError for frames of two subjects, or where no frame has a hand that segmentation finds.
    """
    pseudo, test = _pseudo_set(dataset), TEST_SETS[dataset]
    subjects = np.unique(test.subject[frames])
    if len(subjects) != 1:
        raise ValueError(f"frames must be of one subject, got frames of {subjects.tolist()}")
    hand = subject_hand(dataset, int(subjects[0]), template, poses)
    s = SyntheticSettings(forearm_share=1.0, forearm_mm=220.0, sensor=pseudo.sensor, noise_share=1.0)
    maker, crops, kept, camera = Synthesiser(hand, s), [], [], test.camera
    if dataset == "icvl":  # mirrored like its labels
        camera = replace(camera, cx=pseudo.size[1] - 1 - camera.cx)
    bar = tqdm(total=len(frames), desc=f"pseudo-{dataset}, subject {subjects[0]}", disable=not progress)
    for i in map(int, frames):
        # a frame draws its own numbers, whatever else is asked for
        generator = Generator().manual_seed(seed * 10**6 + i)
        bend = torch.randn(1, 2, generator=generator).clamp(-2, 2) * torch.tensor([0.35, 0.15])
        arm = torch.cat([torch.full((1, 1), s.forearm_mm), bend], 1)
        pose, wrist = poses.rotations[i][None], poses.wrist_mm[i][None]
        depth_mm = maker.draw(pose, wrist, generator, arm, camera, pseudo.size).depth_mm[0]
        crop, _ = crop_frame(Frame(f"pseudo-{dataset}/{i}", depth_mm, camera))
        if crop is not None:
            crops.append(crop)
            kept.append(i)
        bar.update()
    bar.close()
    if not kept:
        raise ValueError(f"pseudo-{dataset}: segmentation found no hand in any of {len(frames)} frames")
    labels = pseudo_labels(dataset, kept, hand, poses)
    return PseudoFrames(concatenate(crops), labels, test.subject[kept], np.array(kept), len(frames) - len(kept))


def pseudo_labels(dataset: str, frames, hand: HandRig, poses: FittedPoses) -> Tensor:
    """[F, J, 3] mm: the drawn hand's joints where the data set's labels lie, that is with the fitted offsets."""
    pseudo, frames = _pseudo_set(dataset), torch.as_tensor(frames)
    grown = poses.offsets_mm * poses.size()[poses.subject[frames]][:, None, None]
    joints = dataset_joints(hand, poses.rotations[frames], poses.wrist_mm[frames], dataset, pseudo.fitted, grown)
    return subset(joints, dataset, pseudo.joints) if pseudo.fitted != pseudo.joints else joints


def _pseudo_set(dataset: str) -> PseudoSet:
    if dataset not in PSEUDO_SETS:
        raise ValueError(f"dataset must be one of {', '.join(PSEUDO_SETS)}, got {dataset!r}")
    return PSEUDO_SETS[dataset]
