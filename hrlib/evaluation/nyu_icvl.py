"""The paper's protocol on the real NYU and ICVL (Sec. 4.4 and 4.5): read, crop, refine without labels, evaluate.

Refinement sees the training set's depth images alone. Labels are used for the crops (`crop="label"`, as in the paper),
for the biases, which are estimated on the training set, and for the evaluation; each curve's protocol says so.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..datasets.icvl import ICVL
from ..datasets.labelled import CROPS, LabelledFrames
from ..datasets.nyu import NYU
from ..datasets.published import TEST_SETS
from ..hand.joints import to_dataset_joints
from ..hand.rig import HandRig, load_hand
from ..method import predict_joints
from ..network.checkpoint import load_network
from ..refine import BestSettings, PaperSettings, refine
from ..support import paths
from .joint_errors import BIASES, Protocol, errors_mm, evaluate, offset_bias, paper_bias, subset
from .published_curves import described

READERS = {"nyu": NYU, "icvl": ICVL}


@dataclass(frozen=True)
class ProtocolSettings:
    """recipe: of the refinement. frames: at most so many of each split, None for all (72 KB of memory each, 5 GB for
    NYU's training set). crop: "label" (the paper's) or "free" (no labels). model: None for the base model of the recipe.
    """

    recipe: PaperSettings | BestSettings = PaperSettings()
    frames: int | None = None
    crop: str = "label"
    model: Path | None = None
    out: Path | None = None  # folder from which the same run goes on after a stop, None: nothing is kept

    def __post_init__(self):
        if self.crop not in ("label", "free"):
            raise ValueError(f'crop must be "label" or "free", got {self.crop!r}')
        if self.frames is not None and self.frames < 1:
            raise ValueError(f"frames must be at least 1, or None for all, got {self.frames}")


def run_protocol(dataset: str, folder: str | Path, settings: ProtocolSettings = ProtocolSettings()) -> dict:
    """Base and refined model on a data set's own frames.

    Returns {"curves": as `published_curves` has them, for base and refined and each bias, "frames": {split: how many},
    "left_out": {split: {name: reason}}}. Raises what the readers raise.
    """
    if dataset not in READERS:
        raise ValueError(f"dataset must be one of {', '.join(READERS)}, got {dataset!r}")
    hand = load_hand()
    start = paths.PAPER_MODEL if isinstance(settings.recipe, PaperSettings) else paths.BASE_MODEL
    network, _ = load_network(hand, settings.model or start)
    crops, labels, subjects, left_out = {}, {}, {}, {}
    for split in ("train", "test"):
        frames = READERS[dataset](folder, split)
        subject = subjects_of(frames, split)
        if settings.frames is not None:
            frames.first(settings.frames)
        crops[split], at, left_out[split] = frames.crop(settings.crop)
        labels[split], subjects[split] = usual_joints(frames)[at], subject[at]
    out = None if settings.out is None else settings.out / dataset
    refined = refine(network, hand, crops["train"], settings.recipe, out)
    models = {"base": (network, hand), "refined": (refined.net, refined.hand)}
    curves = []
    for name, (net, own) in tqdm(models.items(), f"{dataset}, evaluate"):
        predicted = {split: predicted_in(net, own, crops[split], dataset) for split in crops}
        biases = {
            "none": None,
            "paper": paper_bias(errors_mm(predicted["train"], labels["train"])),
            "offset": offset_bias(predicted["train"], labels["train"]),
        }
        for bias in BIASES:
            protocol = Protocol(
                dataset,
                "test" if settings.frames is None else f"first {settings.frames} test frames",
                TEST_SETS[dataset].joints,
                crop=CROPS[settings.crop],
                scale="template"
                if isinstance(settings.recipe, PaperSettings) or name == "base"
                else "unlabelled frames",
                ground_truth=used_labels(settings.crop, bias),
                bias=bias,
                estimated_on="-" if bias == "none" else "training set",
            )
            found = evaluate(predicted["test"], labels["test"], protocol, subjects["test"], biases[bias])
            curves.append(described(found, name, dataset, dataset.upper()))
    used = {split: len(crops[split]) for split in crops}
    return {"curves": curves, "frames": used, "left_out": left_out}


def used_labels(crop: str, bias: str) -> str:
    """Every use of labels but for the evaluation, in words."""
    uses = (["crops"] if crop == "label" else []) + ([] if bias == "none" else ["bias"])
    return " and ".join(uses) or "none"


def predicted_in(net, hand: HandRig, crops, dataset: str) -> np.ndarray:
    """What the network predicts in the data set's usual joints, [F, J, 3] mm."""
    return to_dataset_joints(predict_joints(net, hand, crops).double().numpy(), dataset, TEST_SETS[dataset].joints)


def usual_joints(frames: LabelledFrames) -> np.ndarray:
    """A reader's labels in the joints that everybody evaluates, [F, J, 3] mm."""
    return subset(frames.joints_mm, frames.dataset, TEST_SETS[frames.dataset].joints)


def subjects_of(frames: LabelledFrames, split: str) -> np.ndarray:
    """[F]: NYU's subject or ICVL's sequence of each test frame (by its number, by its path), 1 of each training frame."""
    if split == "train":
        return np.ones(len(frames), int)
    if frames.dataset == "icvl":
        return np.array([2 if "seq_2" in name else 1 for name in frames.names])
    return np.where(np.arange(len(frames)) < TEST_SETS["nyu"].subject_frames[0], 1, 2)
