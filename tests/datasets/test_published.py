"""Published predictions: every mean error that an independent script computed, and damaged files by name."""

import gzip
import shutil

import numpy as np
import pytest

from hrlib.datasets.published import (
    TEST_SETS,
    methods_on,
    read_labels,
    read_nyu_36,
    read_nyu_centres,
    read_predictions,
    subset,
)
from hrlib.evaluation.joint_errors import errors_mm
from hrlib.hand.joints import NYU_SUBSETS

MEAN_MM = {
    ("nyu", "DeepPrior"): 20.750,
    ("nyu", "DeepPrior-Refine"): 19.726,
    ("nyu", "DeepModel"): 17.036,
    ("nyu", "Feedback"): 15.973,
    ("nyu", "REN-4x6x6"): 13.393,
    ("nyu", "REN-9x6x6"): 12.694,
    ("nyu", "Pose-REN"): 11.811,
    ("nyu", "A2J"): 8.610,
    ("nyu", "V2V-PoseNet"): 8.419,
    ("nyu", "AWR"): 7.700,
    ("icvl", "LRF"): 12.578,
    ("icvl", "DeepModel"): 11.561,
    ("icvl", "REN-4x6x6"): 7.628,
    ("icvl", "REN-9x6x6"): 7.305,
    ("icvl", "Pose-REN"): 6.791,
    ("icvl", "A2J"): 6.461,
    ("icvl", "V2V-PoseNet"): 6.284,
    ("icvl", "DeepPrior"): 10.427,
    ("icvl", "DeepPrior-Refine"): 9.426,
}


@pytest.mark.mirror
@pytest.mark.parametrize("dataset", TEST_SETS)
def test_every_mean_error_is_reproduced(dataset):
    true = read_labels(dataset)
    assert true.shape == (TEST_SETS[dataset].frames, TEST_SETS[dataset].joints, 3)
    names = [method.name for method in methods_on(dataset)]
    assert {(dataset, name) for name in names} == {key for key in MEAN_MM if key[0] == dataset}
    for name in names:
        predicted = read_predictions(dataset, name)
        assert len(predicted) == (702 if dataset == "icvl" and name.startswith("DeepPrior") else len(true))
        mean = errors_mm(predicted, true[: len(predicted)]).mean()
        assert mean == pytest.approx(MEAN_MM[dataset, name], abs=0.01), (dataset, name)


@pytest.mark.mirror
def test_the_14_labels_are_a_subset_of_all_36_joints():
    all_36 = read_nyu_36()
    np.testing.assert_allclose(all_36[:, NYU_SUBSETS[14]], read_labels("nyu"), atol=0.06)  # the files have three digits


@pytest.mark.mirror
def test_the_published_centres_lie_in_the_hand_with_y_down():
    away = np.linalg.norm(read_nyu_centres() - read_nyu_36().mean(1), axis=-1)
    assert away.mean() < 25 and np.percentile(away, 99) < 80


def copy_of(tmp_path, mirror, monkeypatch):
    shutil.copytree(mirror / "published" / "icvl", tmp_path / "published" / "icvl")
    for path in (tmp_path / "published" / "icvl").iterdir():
        path.chmod(0o644)
    monkeypatch.setenv("HRLIB_DATA_MIRROR", str(tmp_path))
    return tmp_path / "published" / "icvl"


@pytest.mark.mirror
def test_damaged_files_are_named(tmp_path, mirror, monkeypatch):
    folder = copy_of(tmp_path, mirror, monkeypatch)
    whole = (folder / "A2J.txt.gz").read_bytes()
    (folder / "A2J.txt.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"A2J.txt.gz: cannot be read .*; fetch it again"):
        read_predictions("icvl", "A2J")
    rows = gzip.decompress(whole).splitlines(keepends=True)
    with gzip.open(folder / "A2J.txt.gz", "wb") as file:
        file.writelines(rows[:1000])
    with pytest.raises(ValueError, match=r"A2J.txt.gz: wanted 1596 frames, or the first 702, got 1000"):
        read_predictions("icvl", "A2J")
    with gzip.open(folder / "A2J.txt.gz", "wb") as file:
        file.writelines(row.rsplit(maxsplit=1)[0] + b"\n" for row in rows)
    with pytest.raises(ValueError, match=r"A2J.txt.gz: wanted 48 finite numbers a row, got 47"):
        read_predictions("icvl", "A2J")


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match=r"method on nyu must be one of DeepPrior, .*got 'LRF'"):
        read_predictions("nyu", "LRF")
    with pytest.raises(ValueError, match=r"dataset must be 'nyu' or 'icvl', got 'msra'"):
        read_labels("msra")


def test_subsets_of_joints():
    points = np.arange(36.0)[None, :, None].repeat(3, 2)
    assert subset(points, "nyu", 14)[0, :, 0].tolist() == [0, 3, 6, 9, 12, 15, 18, 21, 24, 25, 27, 30, 31, 32]
    assert subset(subset(points, "nyu", 14), "nyu", 11)[0, :, 0].tolist() == [0, 3, 6, 9, 12, 15, 18, 21, 24, 25, 27]
    assert subset(subset(points, "nyu", 14), "nyu", 12)[0, -1, 0] == 32
    with pytest.raises(ValueError, match="16 joints of nyu are not among the 14 given"):
        subset(points[:, :14], "nyu", 16)
    with pytest.raises(ValueError, match="14 joints of icvl are not among the 36 given"):
        subset(points, "icvl", 14)
