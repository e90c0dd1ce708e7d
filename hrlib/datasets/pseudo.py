"""pseudo-NYU and pseudo-ICVL: poses and places of the real test sets, shown by a simulated hand.

We fit the template to the labels (`hrlib.hand.inverse_kinematics`), and draw another hand of the subject's size in these poses,
with its forearm, the data set's camera and a sensor model. The labels of the drawn hand lie where those of the data set lie.
The images are simulated: no result on them is a result on NYU or ICVL.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from ..frames.crops import Crops, concatenate
from ..frames.find import crop_frame
from ..frames.frame import Frame
from ..hand.inverse_kinematics import FittedPoses, dataset_joints, fit_to_joints, with_bones
from ..hand.rig import HandRig
from ..support import paths
from ..support.checks import SPLITS, require_one_of
from ..support.files import write_bytes_atomically
from ..support.ground_truth import Noted
from ..support.progress import tqdm
from ..support.roma_alone import roma
from ..support.tensor_files import read_tensors, tensor_bytes
from ..synthetic.frames import Synthesiser, SyntheticSettings
from ..synthetic.sensor.model import KINECT_V1, SR300, DepthSensor
from .published import TEST_SETS, read_labels, read_nyu_36, subset

NYU_POSES = paths.DATA / "pseudo_nyu" / "poses.safetensors"  # ICVL has no licence: its poses stay in build/
FORMAT = 4  # of the tables in build/; raised when the same labels are fitted or stored differently
STEP_RAD = 1e-4  # of the stored rotations: 0.01 mm at a fingertip
BLOCK = 100  # consecutive frames; blocks are for refinement and for the test by turns
FOREARM_MM = 220.0


@dataclass(frozen=True)
class PseudoSet:
    """What a pseudo data set is drawn with."""

    size: tuple[int, int]  # H, W of the images
    sensor: DepthSensor
    fitted: int  # joints that the template is fitted to
    morphs: tuple[dict[str, float], dict[str, float]]  # of each subject's hand, whose size is fitted


PSEUDO_SETS = {
    # PrimeSense Carmine, the sensor of Kinect v1
    "nyu": PseudoSet((480, 640), KINECT_V1, 36, ({"fingers-diameter-": 0.6, "wrist-": 0.5}, {"fingers-length+": 0.3})),
    # Creative's time-of-flight camera, for which there is no model here; SR300 is of the same range and resolution
    "icvl": PseudoSet((240, 320), SR300, 16, ({"fingers-diameter+": 0.5}, {"fingers-length+": 0.35, "wrist+": 0.5})),
}


@dataclass(frozen=True)
class PseudoFrames(Noted):
    """Crops of one subject's frames, with labels, whose readings are noted."""

    TRUTH: ClassVar = ("labels_mm",)
    crops: Crops
    labels_mm: Float[Tensor, "F J 3"]  # camera frame
    subject: Int[np.ndarray, " F"]  # 1 or 2
    frame: Int[np.ndarray, " F"]  # index in the test set
    left_out: int  # frames without a hand that segmentation could find
    source: str  # whose truth, in the record of what was read


def real_labels(dataset: str) -> Float[np.ndarray, "F J 3"]:
    """The labels that the template is fitted to, mm: 36 joints of NYU, 16 of ICVL, mirrored, since its hands are left ones."""
    return read_nyu_36() if dataset == "nyu" else read_labels(dataset) * (-1, 1, 1)


def real_poses(dataset: str, template: HandRig) -> FittedPoses:
    """The template fitted to the test set's labels.

    Read from `NYU_POSES`, which needs no download, or from build/pseudo; else fitted to the labels and kept there.
    """
    cached = paths.BUILD / "pseudo" / f"{dataset}-{template.geometry_fingerprint}-{FORMAT}.safetensors"
    for file in (NYU_POSES, cached) if dataset == "nyu" else (cached,):
        if file.exists() and (poses := load_poses(file, template)) is not None:
            return poses
    poses = fit_to_joints(real_labels(dataset), TEST_SETS[dataset].subject, template, dataset)
    save_poses(cached, poses, template, {})
    return load_poses(cached, template)  # rounded as in every later call


def save_poses(file: Path, poses: FittedPoses, template: HandRig, origin: dict[str, str]) -> None:
    """Write fitted poses as a small table (data/pseudo_nyu/README.md); `origin` goes into its metadata."""
    turns = (roma.unitquat_to_rotvec(poses.rotations) / STEP_RAD).round().to(torch.int16)  # pi is 31,416 steps
    table = {"rotations": turns, "subject": poses.subject.to(torch.int8)}
    table |= {name: getattr(poses, name).contiguous() for name in ("wrist_mm", "offsets_mm", "log_length")}
    write_bytes_atomically(file, tensor_bytes(table, origin | {"hand": template.geometry_fingerprint}))


def load_poses(file: Path, template: HandRig) -> FittedPoses | None:
    """Read what `save_poses` wrote; None if it is of another hand. Raises ValueError for a damaged file."""
    try:
        meta, table = read_tensors(file)
        if meta["hand"] != template.geometry_fingerprint:
            return None
        names = ("rotations", "subject", "wrist_mm", "offsets_mm", "log_length")
        turns, subject, wrist, offsets, log_length = (table[name] for name in names)
    except (OSError, ValueError, KeyError) as error:
        remedy = "restore it (git checkout -- data/pseudo_nyu)" if file == NYU_POSES else "delete it"
        raise ValueError(f"{file} is no table of poses ({error!r}); {remedy}") from error
    rotations, subject, joints = roma.rotvec_to_unitquat(turns * STEP_RAD), subject.long(), len(offsets)
    (dataset,) = (name for name, pseudo in PSEUDO_SETS.items() if pseudo.fitted == joints)
    fitted = torch.empty(len(rotations), joints, 3)
    for number, length in enumerate(log_length):
        own = subject == number
        bones, grown = with_bones(template, length), offsets * length.mean().exp()
        fitted[own] = dataset_joints(bones, rotations[own], wrist[own], dataset, joints, grown)
    return FittedPoses(rotations, wrist, fitted, offsets, log_length, subject)


def subject_hand(dataset: str, subject: int, template: HandRig, poses: FittedPoses) -> HandRig:
    """The hand of subject 1 or 2: another shape than the template's, with bones of the fitted mean length."""
    morphs = _pseudo_set(dataset).morphs[subject - 1]
    own, ours = (
        torch.cat([hand.bones_mm[1:], hand.tips_mm - hand.joints_mm[3::3]]).norm(dim=1)
        for hand in (template.morphed(morphs), template)
    )
    scale = float(poses.size()[subject - 1] / (own / ours).log().mean().exp())
    return template.morphed(morphs, scale, name=f"pseudo-{dataset} subject {subject}")


def split_frames(dataset: str, subject: int, split: str, count: int) -> Int[np.ndarray, " F"]:
    """At most `count` frames of a subject, evenly over the blocks of a split. "train" has blocks 0, 2, ..., "test" the others.

    Raises ValueError for another split.
    """
    require_one_of(SPLITS, split=split)
    frames = np.flatnonzero(TEST_SETS[dataset].subject == subject)
    frames = frames[(np.arange(len(frames)) // BLOCK) % 2 == (split == "test")]
    return frames[np.unique(np.linspace(0, len(frames) - 1, min(count, len(frames))).astype(int))]


def pseudo_frames(
    dataset: str,
    frames: Int[np.ndarray, " F"],
    template: HandRig,
    poses: FittedPoses,
    progress: bool = True,
) -> PseudoFrames:
    """Draw, measure, segment without labels, and crop some frames of one subject.

    A frame draws its own random numbers, and is the same whatever else is asked for. Raises ValueError for frames of two
    subjects, or if segmentation finds a hand in none.
    """
    pseudo, test = _pseudo_set(dataset), TEST_SETS[dataset]
    subjects = np.unique(test.subject[frames])
    if len(subjects) != 1:
        raise ValueError(f"frames must be of one subject, got frames of {subjects.tolist()}")
    hand = subject_hand(dataset, int(subjects[0]), template, poses)
    settings = SyntheticSettings(forearm_share=1.0, forearm_mm=FOREARM_MM, sensor=pseudo.sensor, noise_share=1.0)
    synthesiser, camera, crops = Synthesiser(hand, settings), test.camera, {}
    if dataset == "icvl":  # mirrored like its labels
        camera = replace(camera, cx=pseudo.size[1] - 1 - camera.cx)
    for i in tqdm(frames.tolist(), f"pseudo-{dataset}, subject {subjects[0]}", disable=not progress):
        generator = Generator().manual_seed(i)
        bend = torch.randn(1, 2, generator=generator).clamp(-2, 2) * torch.tensor([0.35, 0.15])  # rad, at the wrist
        arm, pose = torch.cat([torch.full((1, 1), FOREARM_MM), bend], 1), (poses.rotations[[i]], poses.wrist_mm[[i]])
        depth_mm = synthesiser.draw(*pose, generator, arm, camera, pseudo.size).depth_mm[0]
        crop, _ = crop_frame(Frame(f"pseudo-{dataset}/{i}", depth_mm, camera))
        crops |= {} if crop is None else {i: crop}
    if not crops:
        raise ValueError(f"pseudo-{dataset}: segmentation found no hand in any of {len(frames)} frames")
    kept, left_out = np.array(list(crops)), len(frames) - len(crops)
    labels = pseudo_labels(dataset, kept, hand, poses)
    source = f"pseudo-{dataset}, subject {subjects[0]}"
    return PseudoFrames(concatenate(list(crops.values())), labels, test.subject[kept], kept, left_out, source)


def pseudo_labels(
    dataset: str, frames: Int[np.ndarray, " F"], hand: HandRig, poses: FittedPoses
) -> Float[Tensor, "F J 3"]:
    """The drawn hand's joints, mm, with the fitted offsets: where the data set's labels lie."""
    pseudo, at = _pseudo_set(dataset), torch.as_tensor(frames)
    grown = poses.offsets_mm * poses.size()[poses.subject[at]][:, None, None]
    joints = dataset_joints(hand, poses.rotations[at], poses.wrist_mm[at], dataset, pseudo.fitted, grown)
    return subset(joints, dataset, TEST_SETS[dataset].joints)


def _pseudo_set(dataset: str) -> PseudoSet:
    require_one_of(PSEUDO_SETS, dataset=dataset)
    return PSEUDO_SETS[dataset]
