"""The record of ground truth is what was read: by whom, of whom, and nothing else."""

import json

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from hrlib.companion import results
from hrlib.companion.example_frames import simulated_examples
from hrlib.evaluation.ablation import measure
from hrlib.hand.rig import load_hand
from hrlib.network.checkpoint import load_network
from hrlib.network.predict import predict
from hrlib.support import ground_truth, paths
from hrlib.support.paths import ONE_HAND_MODEL
from hrlib.synthetic.people import USERS, record
from hrlib.training.oracle import OracleSettings, fit_oracle

HERE = "test_ground_truth"


@pytest.fixture(autouse=True)
def own_record(monkeypatch):
    monkeypatch.setattr(ground_truth, "_read", {})


@pytest.fixture(scope="module")
def user():
    hand = load_hand()
    return hand, load_network(hand, ONE_HAND_MODEL)[0], record(USERS["A"], hand, 6, "test", progress=False)


def test_frames_alone_read_nothing(user):
    hand, net, test = user
    predict(net, test[1:].crops)
    assert len(test.to("cpu")) == len(test) and ground_truth.record() == {}


def test_the_reader_is_who_asked(user):
    hand, net, test = user
    measure(predict(net, test.crops), hand, test)
    assert ground_truth.record() == {"simulated user A, test: joints_mm": ["hrlib.evaluation.ablation"]}
    assert torch.isfinite(test[:2].wrist_mm).all()
    assert ground_truth.record()["simulated user A, test: wrist_mm"] == [HERE]


def test_what_is_typed_in_reads_as_a_notebook(user):
    exec(compile("test.wrist_mm", "<string>", "exec"), {"__name__": "__main__", "test": user[2]})
    assert ground_truth.record() == {"simulated user A, test: wrist_mm": ["notebook"]}


def test_an_oracle_is_seen_to_read_poses(user):
    hand, net, test = user
    fit_oracle(net, USERS["A"], hand, test, OracleSettings(epochs=1, batch=6, synthetic=2), progress=False)
    read = ground_truth.record()
    assert read["simulated user A, test: rotations"] == ["hrlib.training.oracle"]
    assert read["simulated user A: hand"] == ["hrlib.training.oracle"]


def test_uncropped_frames_and_examples_note_as_well(user):
    (frame,) = USERS["D"].frames(user[0], 1)
    assert frame.depth_mm.any() and ground_truth.record() == {}
    assert np.isfinite(frame.truth.joints_mm).all()
    examples = simulated_examples(user[0], 1)
    assert list(ground_truth.record()) == ["simulated user D, train: joints_mm"]
    examples.true_prediction(user[0])
    assert ground_truth.record()[f"{examples.source}: rotations"] == [HERE]


def test_a_figure_records_what_was_read_until_it_is_saved(user, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "figures", lambda profile: tmp_path)
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(results, "caption", lambda record: {})
    made = results.provenance({}, None, None)
    assert user[2].joints_mm.shape[1:] == (21, 3)
    results.save_figure(Figure(figsize=(1, 1)), "x", {}, {}, made, "smoke")
    written = json.loads((tmp_path / "x.json").read_text())["provenance"]["ground_truth"]
    assert written == {"simulated user A, test: joints_mm": [HERE]}
    ground_truth.forget()
    results.read_table(tmp_path / "x.json")  # who draws a table rests on what it rests on
    assert ground_truth.record() == written
    assert ground_truth.in_words(written) == f"simulated user A, test: joints_mm (by {HERE})"
    assert ground_truth.in_words({}) == "none"
