"""What published methods predicted on the test sets of NYU and ICVL, and the labels, as files that their authors shared.

A row of a file is a frame: for each joint u px, v px, depth mm. NYU: 14 joints (`hrlib.hand.joints.NYU_SUBSETS`), view 1, 8252
frames, subject 1 the first 2440, subject 2 (whose hand is a sixth smaller) the rest. ICVL: 16 joints, 1596 frames of two
sequences, 702 and 894, one subject each. Where the files come from: `hrlib.datasets.mirror.ORIGINS["published"]`.
"""

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..frames.camera import Camera
from .mirror import dataset_folder

NYU_CAMERA = Camera(588.03, 587.07, 320.0, 240.0)
ICVL_CAMERA = Camera(240.99, 240.96, 160.0, 120.0)


@dataclass(frozen=True)
class TestSet:
    """A test set as everybody evaluates on it: joints, camera, frames of subject (NYU) or sequence (ICVL) 1 and 2."""

    name: str
    joints: int
    camera: Camera
    subject_frames: tuple[int, int]
    labels: str

    __test__ = False  # pytest takes what begins with Test for a test

    @property
    def frames(self) -> int:
        return sum(self.subject_frames)

    @property
    def subject(self) -> np.ndarray:
        """[F]: 1 or 2."""
        return np.repeat([1, 2], self.subject_frames)


TEST_SETS = {
    "nyu": TestSet("nyu", 14, NYU_CAMERA, (2440, 5812), "nyu_test_groundtruth_label"),
    "icvl": TestSet("icvl", 16, ICVL_CAMERA, (702, 894), "icvl_test_groundtruth_label"),
}


@dataclass(frozen=True)
class Method:
    """A published method: name, paper, its file's stem in each data set, and whether the paper's Fig. 8 has it there."""

    name: str
    paper: str
    files: dict[str, str]
    in_fig8: tuple[str, ...] = ()


METHODS = (
    Method("LRF", "Tang et al., CVPR 2014", {"icvl": "CVPR14_LRF_Results"}, ("icvl",)),
    Method(
        "DeepPrior",
        "Oberweger et al., CVWW 2015",
        {"nyu": "CVWW15_NYU_Prior", "icvl": "CVWW15_ICVL_Prior"},
        ("nyu", "icvl"),
    ),
    Method(
        "DeepPrior-Refine",
        "Oberweger et al., CVWW 2015",
        {"nyu": "CVWW15_NYU_Prior-Refinement", "icvl": "CVWW15_ICVL_Prior-Refinement"},
        ("nyu", "icvl"),
    ),
    Method("Feedback", "Oberweger et al., ICCV 2015", {"nyu": "ICCV15_NYU_Feedback"}, ("nyu",)),
    Method(
        "DeepModel",
        "Zhou et al., IJCAI 2016",
        {"nyu": "IJCAI16_NYU_DeepModel", "icvl": "IJCAI16_ICVL_DeepModel"},
        ("nyu", "icvl"),
    ),
    Method(
        "REN-4x6x6",
        "Guo et al., ICIP 2017",
        {"nyu": "ICIP17_NYU_REN_4x6x6", "icvl": "ICIP17_ICVL_REN_4x6x6"},
        ("nyu", "icvl"),
    ),
    Method(
        "REN-9x6x6",
        "Wang et al., JVCI 2018",
        {"nyu": "JVCI18_NYU_REN_9x6x6", "icvl": "JVCI18_ICVL_REN_9x6x6"},
        ("nyu", "icvl"),
    ),
    Method(
        "Pose-REN",
        "Chen et al., Neurocomputing 2018",
        {"nyu": "NEUCOM18_NYU_Pose_REN", "icvl": "NEUCOM18_ICVL_Pose_REN"},
    ),
    Method(
        "V2V-PoseNet",
        "Moon et al., CVPR 2018",
        {"nyu": "CVPR18_NYU_V2V_PoseNet", "icvl": "CVPR18_ICVL_V2V_PoseNet"},
    ),
    Method("A2J", "Xiong et al., ICCV 2019", {"nyu": "A2J", "icvl": "A2J"}),
    Method("AWR", "Huang et al., AAAI 2020", {"nyu": "AWR_hourglass1"}),
)


def methods_on(dataset: str) -> list[Method]:
    """The published methods with a file for "nyu" or "icvl", by year."""
    _test_set(dataset)
    return [method for method in METHODS if dataset in method.files]


def read_labels(dataset: str) -> np.ndarray:
    """The labels of a test set, [F, J, 3] mm in the camera frame, float64. Errors as `read_predictions`."""
    return _read(_test_set(dataset), _test_set(dataset).labels)


def read_predictions(dataset: str, name: str) -> np.ndarray:
    """What a method predicted, [F, J, 3] mm in the camera frame, float64; F may be a first part of the test set.

    Raises ValueError for an unknown name, or a file that is damaged or of another shape, FileNotFoundError where the
    published files are not there.
    """
    known = {method.name: method for method in methods_on(dataset)}
    if name not in known:
        raise ValueError(f"method on {dataset} must be one of {', '.join(known)}, got {name!r}")
    return _read(_test_set(dataset), known[name].files[dataset])


def read_nyu_36() -> np.ndarray:
    """All 36 joints of the NYU test set's view 1, [8252, 36, 3] mm in the camera frame, float64."""
    folder = dataset_folder("published") / "nyu"
    u, v, d = (_table(folder / f"joint_1_{axis}.csv.gz", 36, ",") for axis in "uvd")
    return NYU_CAMERA.unproject(u, v, d)


def read_nyu_centres() -> np.ndarray:
    """Published crop centres of the NYU test set, [8252, 3] mm in the camera frame (y down), as AWR and others crop."""
    centres = _table(dataset_folder("published") / "nyu" / "center_test_refined.txt.gz", 3, None)
    return centres * (1, -1, 1)  # the file has y up


def _test_set(dataset: str) -> TestSet:
    if dataset not in TEST_SETS:
        raise ValueError(f"dataset must be one of {', '.join(TEST_SETS)}, got {dataset!r}")
    return TEST_SETS[dataset]


def _read(test: TestSet, stem: str) -> np.ndarray:
    path = dataset_folder("published") / test.name / f"{stem}.txt.gz"
    rows = _table(path, 3 * test.joints, None).reshape(-1, test.joints, 3)
    if len(rows) not in (test.frames, test.subject_frames[0]):
        wanted = f"{test.frames} frames, or the first {test.subject_frames[0]}"
        raise ValueError(f"{path}: wanted {wanted}, got {len(rows)}: fetch it again")
    return test.camera.unproject(rows[..., 0], rows[..., 1], rows[..., 2])


def _table(path: Path, columns: int, delimiter: str | None) -> np.ndarray:
    try:
        with gzip.open(path, "rt") as file:
            values = np.loadtxt(file, delimiter=delimiter, ndmin=2)
    except FileNotFoundError:
        raise
    except (OSError, EOFError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as a gzipped table of numbers ({error}); fetch it again") from error
    if values.shape[1] != columns or not np.isfinite(values).all():
        raise ValueError(f"{path}: wanted {columns} finite numbers a row, got {values.shape[1]}; fetch it again")
    return values
