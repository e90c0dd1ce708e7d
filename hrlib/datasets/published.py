"""Published predictions on the test sets of NYU and ICVL, and the labels, in the files that their authors shared.

A row of a file is a frame: u px, v px, depth mm of each joint. NYU: 14 joints (`hrlib.hand.joints.NYU_SUBSETS`), view 1, two
subjects; the second has a hand one sixth smaller. ICVL: 16 joints, two sequences of one subject each. Where the files come
from: `published` in the registry (`hrlib.datasets.fetch`).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from ..frames.camera import Camera
from ..hand.joints import JOINT_COUNTS, NYU_SUBSETS
from ..support.checks import require_one_of
from ..support.decoding import read_table
from ..support.ground_truth import note
from .fetch import dataset_folder

NYU_CAMERA = Camera(588.03, 587.07, 320.0, 240.0)
ICVL_CAMERA = Camera(240.99, 240.96, 160.0, 120.0)


@dataclass(frozen=True)
class TestSet:
    """A test set as it is usually evaluated."""

    name: str
    joints: int
    camera: Camera
    subject_frames: tuple[int, int]  # of NYU's two subjects, of ICVL's two sequences

    __test__ = False  # pytest takes what begins with Test for a test

    @property
    def frames(self) -> int:
        return sum(self.subject_frames)

    @property
    def subject(self) -> Int[np.ndarray, " F"]:
        """1 or 2 for each frame."""
        return np.repeat([1, 2], self.subject_frames)


TEST_SETS = {
    "nyu": TestSet("nyu", 14, NYU_CAMERA, (2440, 5812)),
    "icvl": TestSet("icvl", 16, ICVL_CAMERA, (702, 894)),
}


@dataclass(frozen=True)
class Method:
    """A published method and its files of predictions."""

    name: str
    paper: str
    file: str  # its stem; {} is the data set in capitals
    datasets: tuple[str, ...] = ("nyu", "icvl")
    in_fig8: bool = True  # the paper's Fig. 8 has it on these data sets


METHODS = (
    Method("LRF", "Tang et al., CVPR 2014", "CVPR14_LRF_Results", ("icvl",)),
    Method("DeepPrior", "Oberweger et al., CVWW 2015", "CVWW15_{}_Prior"),
    Method("DeepPrior-Refine", "Oberweger et al., CVWW 2015", "CVWW15_{}_Prior-Refinement"),
    Method("Feedback", "Oberweger et al., ICCV 2015", "ICCV15_{}_Feedback", ("nyu",)),
    Method("DeepModel", "Zhou et al., IJCAI 2016", "IJCAI16_{}_DeepModel"),
    Method("REN-4x6x6", "Guo et al., ICIP 2017", "ICIP17_{}_REN_4x6x6"),
    Method("REN-9x6x6", "Wang et al., JVCI 2018", "JVCI18_{}_REN_9x6x6"),
    Method("Pose-REN", "Chen et al., Neurocomputing 2018", "NEUCOM18_{}_Pose_REN", in_fig8=False),
    Method("V2V-PoseNet", "Moon et al., CVPR 2018", "CVPR18_{}_V2V_PoseNet", in_fig8=False),
    Method("A2J", "Xiong et al., ICCV 2019", "A2J", in_fig8=False),
    Method("AWR", "Huang et al., AAAI 2020", "AWR_hourglass1", ("nyu",), in_fig8=False),
)


def methods_on(dataset: str) -> list[Method]:
    """The published methods with predictions on "nyu" or "icvl", by year."""
    _test_set(dataset)
    return [method for method in METHODS if dataset in method.datasets]


def read_labels(dataset: str) -> Float[np.ndarray, "F J 3"]:
    """The labels of a test set, mm in the camera frame. Errors as `read_predictions`."""
    note(f"{dataset} test set", "labels")
    return _read(_test_set(dataset), f"{dataset}_test_groundtruth_label")


def read_predictions(dataset: str, name: str) -> Float[np.ndarray, "F J 3"]:
    """The predictions of a method, mm in the camera frame, of all frames or of the first subject.

    Raises ValueError for an unknown name or a damaged file, FileNotFoundError if the published files are not there.
    """
    files = {method.name: method.file.format(dataset.upper()) for method in methods_on(dataset)}
    if name not in files:
        raise ValueError(f"method on {dataset} must be one of {', '.join(files)}, got {name!r}")
    return _read(_test_set(dataset), files[name])


def read_nyu_36() -> Float[np.ndarray, "8252 36 3"]:
    """All 36 joints of the NYU test set's view 1, mm in the camera frame."""
    note("nyu test set", "36 labels")
    folder = dataset_folder("published") / "nyu"
    return NYU_CAMERA.unproject(*(_table(folder / f"joint_1_{axis}.csv.gz", 36, ",") for axis in "uvd"))


def read_nyu_centres() -> Float[np.ndarray, "8252 3"]:
    """Published crop centres of the NYU test set, mm in the camera frame, as AWR and others crop."""
    note("nyu test set", "centres from labels")
    centres = _table(dataset_folder("published") / "nyu" / "center_test_refined.txt.gz", 3)
    return centres * (1, -1, 1)  # the file has y up


def subset(
    points_mm: Shaped[np.ndarray | Tensor, "F J C"], dataset: str, joints: int
) -> Shaped[np.ndarray | Tensor, "F K C"]:
    """The points of a smaller number of a data set's joints, e.g. NYU's 14 of 36, in their usual order.

    Raises ValueError if there is no such subset, or it is not contained.
    """
    have, counts = points_mm.shape[1], JOINT_COUNTS.get(dataset, ())
    if have == joints and joints in counts:
        return points_mm
    given, wanted = (NYU_SUBSETS.get(count, ()) if dataset == "nyu" else () for count in (have, joints))
    if not wanted or not set(wanted) <= set(given):
        raise ValueError(f"{joints} joints of {dataset} are not among the {have} given; it has {counts}")
    return points_mm[:, [given.index(joint) for joint in wanted]]


def _test_set(dataset: str) -> TestSet:
    require_one_of(TEST_SETS, dataset=dataset)
    return TEST_SETS[dataset]


def _read(test: TestSet, stem: str) -> np.ndarray:
    path = dataset_folder("published") / test.name / f"{stem}.txt.gz"
    rows = _table(path, 3 * test.joints).reshape(-1, test.joints, 3)
    if len(rows) not in (test.frames, test.subject_frames[0]):
        wanted = f"{test.frames} frames, or the first {test.subject_frames[0]}"
        raise ValueError(f"{path}: wanted {wanted}, got {len(rows)}: fetch it again")
    return test.camera.unproject(*np.moveaxis(rows, -1, 0))


def _table(path: Path, columns: int, delimiter: str | None = None) -> np.ndarray:
    values = read_table(path, delimiter)
    if values.shape[1] != columns or not np.isfinite(values).all():
        raise ValueError(f"{path}: wanted {columns} finite numbers a row, got {values.shape[1]}; fetch it again")
    return values
