"""Pretraining: it learns, resumes to the same curve, and keeps what was finished."""

import json
import signal

import pytest
import torch

from hrlib.checkpoint import load_network
from hrlib.hand import load_hand
from hrlib.network import NetworkSettings
from hrlib.pipeline import true_prediction
from hrlib.pretrain import Memory, PretrainSettings, learning_rate, pose_loss, pretrain
from hrlib.synthetic import Synthesiser, SyntheticSettings

TINY = PretrainSettings(steps=4, batch=8, memory=2, checkpoint_every=2, bfloat16=False)
FRAMES = SyntheticSettings(window_px=96, focal_px=180.0)


@pytest.fixture(scope="module")
def hand():
    return load_hand()


def weights(folder, hand):
    return load_network(hand, folder / "base.safetensors")[0].state_dict()


def test_a_resumed_run_ends_where_an_unbroken_one_does(hand, tmp_path, monkeypatch):
    run = {"settings": TINY, "frames": FRAMES, "progress": False}
    whole = pretrain(hand, tmp_path / "whole", **run)
    calls = []

    def interrupted(prediction, truth, hand_, weight):
        calls.append(1)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)  # Ctrl-C in the middle of the third step
        return pose_loss(prediction, truth, hand_, weight)

    with monkeypatch.context() as patch:
        patch.setattr("hrlib.pretrain.pose_loss", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pretrain(hand, tmp_path / "broken", **run)
    assert json.loads((tmp_path / "broken" / "training.json").read_text())["steps_done"] == 3
    resumed = pretrain(hand, tmp_path / "broken", **run)
    assert resumed["steps_done"] == whole["steps_done"] == 4
    after_break, unbroken = weights(tmp_path / "broken", hand), weights(tmp_path / "whole", hand)
    for name, value in unbroken.items():
        # float16 on disk: equal runs give equal bytes
        assert torch.equal(after_break[name], value), name


def test_other_settings_are_refused_and_keep_the_run(hand, tmp_path):
    pretrain(hand, tmp_path, PretrainSettings(steps=1, batch=2, memory=1), frames=FRAMES, progress=False)
    before = (tmp_path / "state.pt").read_bytes()
    with pytest.raises(ValueError, match="other settings; choose another folder"):
        pretrain(hand, tmp_path, PretrainSettings(steps=2, batch=2, memory=1), frames=FRAMES, progress=False)
    assert (tmp_path / "state.pt").read_bytes() == before


def test_a_full_disk_keeps_the_last_checkpoint(hand, tmp_path, monkeypatch):
    settings = PretrainSettings(steps=3, batch=2, memory=1, checkpoint_every=2, bfloat16=False)

    def full(path, data):
        raise OSError(28, f"cannot write {path}: no space left")

    def break_the_disk(step, settings_):
        if step == 2:
            monkeypatch.setattr("hrlib.pretrain.write_bytes_atomically", full)
        return learning_rate(step, settings_)

    monkeypatch.setattr("hrlib.pretrain.learning_rate", break_the_disk)
    with pytest.raises(OSError, match="cannot write"):
        pretrain(hand, tmp_path, settings, frames=FRAMES, progress=False)
    assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] == 2
    load_network(hand, tmp_path / "base.safetensors")


def test_the_loss_of_a_perfect_prediction_is_zero_and_an_error_is_in_millimetres(hand):
    batch = Synthesiser(hand, FRAMES).batch(4, 0)
    perfect = true_prediction(batch.rotations, batch.wrist_mm, hand, batch.crops)
    loss, error = pose_loss(perfect, batch, hand, 5.0)
    assert loss < 1e-6 and error < 1e-3
    moved = true_prediction(batch.rotations, batch.wrist_mm + torch.tensor([3.0, 0.0, 4.0]), hand, batch.crops)
    assert pose_loss(moved, batch, hand, 5.0)[1] == pytest.approx(5.0, abs=1e-3)


def test_a_short_training_learns(hand, tmp_path):
    settings = PretrainSettings(steps=25, batch=16, memory=4, learning_rate=1e-3, bfloat16=False)
    network = NetworkSettings(rotation="6d", batch_norm=True)
    pretrain(hand, tmp_path, settings, network, FRAMES, progress=False)
    trained, record = load_network(hand, tmp_path / "base.safetensors")
    batch = Synthesiser(hand, FRAMES).batch(32, 10**9)
    torch.manual_seed(0)
    untrained = type(trained)(trained.settings).eval()
    with torch.no_grad():
        before = pose_loss(untrained(batch.crops.image), batch, hand, 5.0)[1]
        after = pose_loss(trained(batch.crops.image), batch, hand, 5.0)[1]
    assert after < 0.9 * before
    assert record["steps_done"] == 25


def test_the_rate_starts_short_stays_and_falls_to_zero():
    settings = PretrainSettings(steps=1000, decay=0.4)
    assert learning_rate(0, settings) == pytest.approx(settings.learning_rate / 50)
    assert learning_rate(500, settings) == settings.learning_rate
    assert learning_rate(800, settings) == pytest.approx(settings.learning_rate / 2)
    assert learning_rate(999, settings) < settings.learning_rate / 1e4


def test_memory_repeats_old_frames_and_forgets_the_oldest(hand):
    maker = Synthesiser(hand, FRAMES)
    batches = [maker.batch(2, seed) for seed in range(4)]
    memory = Memory(4)
    for step, batch in enumerate(batches[:3]):
        memory.put(batch, step)
    mixed = memory.mixed(batches[3], 3, 50, torch.Generator().manual_seed(0))
    assert torch.equal(mixed.rotations[:2], batches[3].rotations)
    old = {tuple(q) for q in mixed.wrist_mm[2:].tolist()}
    assert old == {tuple(q) for batch in batches[1:3] for q in batch.wrist_mm.tolist()}  # the first batch is gone
