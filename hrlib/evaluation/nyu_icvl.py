"""The paper's protocol on the real NYU and ICVL (Sec. 4.4 and 4.5): read, crop, refine without labels, evaluate.

Refinement sees only the depth images of the training set. Labels serve for the crops (`crop="label"`, as in the paper), for the
biases, which are estimated on the training set, and for the evaluation. The protocol of each curve names every use.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from ..datasets.icvl import ICVL
from ..datasets.labelled import CROPS
from ..datasets.nyu import NYU
from ..datasets.published import TEST_SETS, subset
from ..frames.crops import Crops
from ..hand.joints import to_dataset_joints
from ..hand.rig import load_hand
from ..method import predict_joints
from ..network.checkpoint import load_network
from ..refine import BestSettings, PaperSettings, refine
from ..support import paths
from ..support.checks import require_one_of
from ..support.progress import tqdm
from .joint_errors import BIASES, Protocol, bias_of, evaluate
from .published_curves import described

READERS = {"nyu": NYU, "icvl": ICVL}


@dataclass(frozen=True)
class ProtocolSettings:
    """What is refined on which frames."""

    recipe: PaperSettings | BestSettings = PaperSettings()
    frames: int | None = None  # at most, of each split; None: all, at 72 KB each (5 GB for NYU's training set)
    crop: str = "label"  # as in the paper; "free": without labels
    model: Path | None = None  # None: the recipe's base model
    out: Path | None = None  # folder from which the same run goes on after a stop; None: nothing is kept

    def __post_init__(self):
        require_one_of(("label", "free"), crop=self.crop)
        if self.frames is not None and self.frames < 1:
            raise ValueError(f"frames must be at least 1, or None for all, got {self.frames}")


@dataclass(frozen=True)
class Split:
    """The crops of a split with their labels."""

    crops: Crops
    labels_mm: Float[np.ndarray, "F J 3"]  # the joints that are usually evaluated
    subject: Int[np.ndarray, " F"]  # NYU's subject or ICVL's sequence of a test frame, 1 for training frames
    left_out: dict[str, str]


def run_protocol(dataset: str, folder: str | Path, settings: ProtocolSettings = ProtocolSettings()) -> dict:
    """Evaluate base and refined model on a data set's own frames. Raises what the readers raise.

    Returns:
        {"curves": for both models and each bias, as `published_curves` has them, "frames": {split: how many}, "left_out":
        {split: {name: reason}}}.
    """
    require_one_of(READERS, dataset=dataset)
    hand, of_paper = load_hand(), isinstance(settings.recipe, PaperSettings)
    network, _ = load_network(hand, settings.model or (paths.PAPER_MODEL if of_paper else paths.BASE_MODEL))
    train, test = (read_split(dataset, folder, split, settings) for split in ("train", "test"))
    out = None if settings.out is None else settings.out / dataset
    refined = refine(network, hand, train.crops, settings.recipe, out)
    curves = []
    for name, net, own in (("base", network, hand), ("refined", refined.net, refined.hand)):
        learned, seen = (usual_joints(predict_joints(net, own, split.crops), dataset) for split in (train, test))
        for bias in tqdm(BIASES, f"{dataset}, {name}: evaluate"):
            protocol = Protocol(
                dataset,
                "test" if settings.frames is None else f"first {settings.frames} test frames",
                TEST_SETS[dataset].joints,
                crop=CROPS[settings.crop],
                scale="template" if of_paper or name == "base" else "unlabelled frames",
                ground_truth=used_labels(settings.crop, bias),
                bias=bias,
                estimated_on="-" if bias == "none" else "training set",
            )
            found = evaluate(seen, test.labels_mm, protocol, test.subject, bias_of(bias, learned, train.labels_mm))
            curves.append(described(found, name, dataset, dataset.upper()))
    return {
        "curves": curves,
        "frames": {"train": len(train.crops), "test": len(test.crops)},
        "left_out": {"train": train.left_out, "test": test.left_out},
    }


def read_split(dataset: str, folder: str | Path, split: str, settings: ProtocolSettings) -> Split:
    """Read and crop "train" or "test" of a data set."""
    frames = READERS[dataset](folder, split)
    subject = np.ones(len(frames), int)
    if split == "test" and dataset == "icvl":
        subject = np.array([2 if "seq_2" in name else 1 for name in frames.names])
    elif split == "test":
        subject = TEST_SETS["nyu"].subject[: len(frames)]
    if settings.frames is not None:
        frames.first(settings.frames)
    crops, at, left_out = frames.crop(settings.crop)
    return Split(crops, subset(frames.joints_mm, dataset, TEST_SETS[dataset].joints)[at], subject[at], left_out)


def used_labels(crop: str, bias: str) -> str:
    """Every use of labels, except for the evaluation."""
    uses = (["crops"] if crop == "label" else []) + ([] if bias == "none" else ["bias"])
    return " and ".join(uses) or "none"


def usual_joints(points_mm: Float[Tensor, "F 21 3"], dataset: str) -> Float[np.ndarray, "F J 3"]:
    """Our points in the joints of a data set that are usually evaluated, mm."""
    return to_dataset_joints(points_mm.double().numpy(), dataset, TEST_SETS[dataset].joints)
