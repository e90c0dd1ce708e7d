"""The paper's protocol from end to end on miniatures: read, crop, refine an epoch, evaluate, draw."""

import json

import matplotlib.pyplot as plt
import miniatures
import numpy as np
import pytest

from hrlib.companion.figures.state_of_the_art import figure_success, pick_curves
from hrlib.evaluation.joint_errors import BIASES
from hrlib.evaluation.nyu_icvl import ProtocolSettings, run_protocol, used_labels
from hrlib.evaluation.published_curves import read_table
from hrlib.refine import PaperSettings

ONE_EPOCH = ProtocolSettings(PaperSettings(epochs=1, batch=3, micro=3))


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    root = tmp_path_factory.mktemp("protocol")
    nyu = miniatures.nyu(root / "nyu", train=3, test=3)
    broken = nyu / "test" / "depth_1_0000002.png"
    broken.write_bytes(broken.read_bytes()[:1000])
    icvl = miniatures.icvl(root / "icvl", train=3, test=1)
    return {"nyu": run_protocol("nyu", nyu, ONE_EPOCH), "icvl": run_protocol("icvl", icvl, ONE_EPOCH)}


def test_both_data_sets_are_evaluated_with_their_protocol(done):
    assert done["nyu"]["frames"] == {"train": 3, "test": 2} and done["icvl"]["frames"] == {"train": 3, "test": 2}
    assert list(done["nyu"]["left_out"]["test"]) == ["test/depth_1_0000002.png"]
    assert done["icvl"]["left_out"] == {"train": {}, "test": {}}
    for dataset, joints in (("nyu", 14), ("icvl", 16)):
        curves = done[dataset]["curves"]
        assert [(c["name"], c["protocol"]["bias"]) for c in curves] == [
            (n, b) for n in ("base", "refined") for b in BIASES
        ]
        for curve in curves:
            assert curve["kind"] == dataset.upper() and len(curve["per_joint_mm"]) == joints
            assert 0 < curve["mean_mm"] < 200 and curve["protocol"]["crop"] == "block around the labels"
        none, paper, _ = (pick_curves(curves, dataset, bias)[0] for bias in BIASES)
        assert paper["mean_mm"] < none["mean_mm"]
        assert none["protocol"]["ground_truth"] == "crops" and paper["protocol"]["ground_truth"] == "crops and bias"
        assert none["protocol"]["estimated_on"] == "-" and paper["protocol"]["estimated_on"] == "training set"
    assert set(done["icvl"]["curves"][0]["per_subject_mm"]) == {"1", "2"}


def test_an_epoch_changes_the_predictions(done):
    base, refined = pick_curves(done["nyu"]["curves"], "nyu", "none")
    assert not np.allclose(base["per_joint_mm"], refined["per_joint_mm"], atol=1e-6)


def test_ours_is_drawn_among_the_published_curves(done):
    json.dumps(done)  # plain numbers, as a result file wants them
    figure = figure_success(read_table()["curves"], [c for run in done.values() for c in run["curves"]])
    labels = [text.get_text() for text in figure.axes[2].get_legend().get_texts()]
    assert sum("ours refined" in label for label in labels) == 2 and not any("pseudo" in label for label in labels)
    plt.close(figure)


def test_every_use_of_labels_is_named():
    assert used_labels("free", "none") == "none" and used_labels("label", "offset") == "crops and bias"
    with pytest.raises(ValueError, match="crop must be 'label' or 'free'"):
        ProtocolSettings(crop="centre")
    with pytest.raises(ValueError, match="dataset must be 'nyu' or 'icvl', got 'msra'"):
        run_protocol("msra", ".")
