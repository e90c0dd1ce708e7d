"""Pretraining: it learns, resumes to the same curve, and keeps what was finished; one process or several."""

import builtins
import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace

import pytest
import torch
from torch import nn

from hrlib import __main__ as cli
from hrlib.hand.rig import load_hand
from hrlib.method import true_prediction
from hrlib.network.checkpoint import load_network, save_network
from hrlib.network.posenet import NetworkSettings, PoseNet
from hrlib.support import paths
from hrlib.synthetic.frames import Synthesiser, SyntheticSettings
from hrlib.training.batches import Batches, Memory, PretrainSettings, ahead, step_seed
from hrlib.training.pretrain import learning_rate, pretrain
from hrlib.training.step import Replayed, pose_loss, train_step

TINY = PretrainSettings(steps=4, batch=8, memory=2, checkpoint_every=2, curve_every=1, lanes=2, bfloat16=False)
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
        patch.setattr("hrlib.training.step.pose_loss", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pretrain(hand, tmp_path / "broken", **run)
    assert json.loads((tmp_path / "broken" / "training.json").read_text())["steps_done"] == 3
    resumed = pretrain(hand, tmp_path / "broken", **run)
    assert resumed["steps_done"] == whole["steps_done"] == 4 and resumed["curve"] == whole["curve"]
    after_break, unbroken = weights(tmp_path / "broken", hand), weights(tmp_path / "whole", hand)
    for name, value in unbroken.items():
        # float16 on disk: equal runs give equal bytes
        assert torch.equal(after_break[name], value), name


def options(settings: PretrainSettings, network: NetworkSettings) -> list[str]:
    """The command line of a run."""
    words = []
    for name, value in (asdict(settings) | asdict(network)).items():
        name = name.replace("_", "-")
        if isinstance(value, bool) and name != "bfloat16":
            words.append(f"--{name}" if value else f"--no-{name}")
        else:
            words += [f"--{name}", str(value)]
    return [*words, "--frames.window-px", str(FRAMES.window_px), "--frames.focal-px", str(FRAMES.focal_px)]


def environment() -> dict:
    """Of a process of hrlib's: torchrun would allow one thread, so give the others no more; equal runs, equal bytes."""
    return os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "PYTHONPATH": str(paths.ROOT)}


def finished(command: list[str]) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command], env=environment(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_to_the_same_curve_and_weights(hand, tmp_path):
    network = NetworkSettings(batch_norm=True)  # and dropout
    settings = replace(TINY, steps=12, checkpoint_every=3)
    command = lambda folder: ["hrlib", "pretrain", "--out", str(tmp_path / folder), *options(settings, network)]  # noqa: E731
    said = finished(command("whole"))
    assert "pretrain: 12 steps, mean joint error" in said and str(tmp_path / "whole" / "base.safetensors") in said
    state = tmp_path / "broken" / "state.pt"
    run = subprocess.Popen([sys.executable, "-m", *command("broken")], env=environment(), stderr=subprocess.DEVNULL)
    while not state.exists():
        assert run.poll() is None, "ended before its first checkpoint"
        time.sleep(0.002)
    run.kill()  # SIGKILL
    assert run.wait() == -signal.SIGKILL
    assert torch.load(state, weights_only=True)["step"] < 12
    finished(command("broken"))
    whole, broken = (json.loads((tmp_path / name / "training.json").read_text()) for name in ("whole", "broken"))
    assert broken["curve"] == whole["curve"] and len(whole["curve"]) == 12
    after_kill, unbroken = weights(tmp_path / "broken", hand), weights(tmp_path / "whole", hand)
    assert all(torch.equal(after_kill[name], value) for name, value in unbroken.items())


@pytest.mark.slow
def test_two_processes_of_torchrun_train_as_one(tmp_path):
    # dropout is drawn and batches are normalised by each process for itself, so without them
    network = NetworkSettings(keep_probability=1.0, batch_norm=False)
    settings = replace(TINY, steps=6, fresh=0.4)  # lanes of 1 and 2 fresh frames
    run = lambda folder: ["hrlib", "pretrain", "--out", str(tmp_path / folder), *options(settings, network)]  # noqa: E731
    finished(run("one"))
    said = finished(["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", *run("two")])
    assert said.count("pretrain: 6 steps") == 1, "only the first process reports"
    one, two = (json.loads((tmp_path / name / "training.json").read_text()) for name in ("one", "two"))
    for key in ("loss", "joint_error_mm"):
        ours, expected = (torch.tensor([point[key] for point in run["curve"]]) for run in (two, one))
        # float32, summed in another order; Adam's first steps divide small gradients by their own size
        torch.testing.assert_close(ours, expected, rtol=1e-3, atol=0)
        assert expected.min() < 0.98 * expected.max(), "it moves"
    assert two["frames_drawn"] == one["frames_drawn"]


def test_the_workers_together_have_the_frames_of_one(hand):
    settings = replace(TINY, batch=9, fresh=0.6, lanes=3)
    maker = Synthesiser(hand, FRAMES)
    alone, shared = Batches(maker, settings), [Batches(maker, settings, rank, 2) for rank in range(2)]
    for step in range(4):
        whole, parts = alone(step), [worker(step) for worker in shared]
        key = lambda batch: {tuple(p.tolist()) + (i.sum().item(),) for p, i in zip(batch.wrist_mm, batch.crops.image)}  # noqa: E731, B905
        assert key(whole) == key(parts[0]) | key(parts[1])
        assert sum(len(part.rotations) for part in parts) == len(whole.rotations) == alone.total(step)
    with pytest.raises(ValueError, match="4 processes cannot share 3 lanes .* start fewer or raise lanes"):
        Batches(maker, settings, 0, 4)


def test_every_lane_of_every_step_has_its_own_seed():
    settings = [PretrainSettings(seed=seed) for seed in (0, 1, 2)]
    seeds = [step_seed(s, step, lane) for s in settings for step in (0, 1, 10**6 - 1) for lane in range(64)]
    assert len({seed % 2**32 for seed in seeds}) == len(seeds)


def test_frames_made_ahead_are_the_same_in_the_same_order(hand):
    batches = Batches(Synthesiser(hand, FRAMES), TINY)
    direct = [batch.crops.image for batch in map(Batches(Synthesiser(hand, FRAMES), TINY), range(4))]
    assert all(torch.equal(a.crops.image, b) for a, b in zip(ahead(batches, range(4)), direct, strict=True))

    def broken(step):
        raise ValueError(f"no frame {step}")

    with pytest.raises(ValueError, match="no frame 0"):
        list(ahead(broken, range(3)))


def test_no_frame_is_shown_twice_without_a_memory(hand):
    batches = Batches(Synthesiser(hand, FRAMES), replace(TINY, fresh=1.0, memory=0))
    seen = torch.cat([batches(step).wrist_mm for step in range(3)])
    assert len(seen) == 3 * TINY.batch == len(seen.unique(dim=0)) and batches.total(0) == batches.total(1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_replayed_steps_learn_the_same_on_a_device(hand):
    settings, hand = replace(TINY, batch=64), hand.to("cuda")
    batches = [Synthesiser(hand, FRAMES).batch(64, seed) for seed in range(8)]
    errors = {}
    for step in (train_step, Replayed(train_step)):
        torch.manual_seed(0)
        net = PoseNet(NetworkSettings(rotation="6d", batch_norm=True, keep_probability=1.0, backbone="votes")).cuda()
        rate = torch.tensor(1e-3, device="cuda")
        optimiser = torch.optim.Adam(net.parameters(), rate, fused=True, capturable=True)
        errors[step] = [step(net, optimiser, batch, hand, settings.joint_weight)[1].item() for batch in batches]
    once, again = errors.values()
    assert again == pytest.approx(once, rel=5e-3) and len(set(once)) == 8


def test_a_state_from_before_a_setting_existed_goes_on(hand, tmp_path):
    pretrain(hand, tmp_path, replace(TINY, lanes=4, curve_every=50), frames=FRAMES, progress=False)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    del state["config"]["network"]["backbone"], state["config"]["pretrain"]["lanes"]
    state["config"]["hand"] = hand.geometry_fingerprint  # the older form
    torch.save(state, tmp_path / "state.pt")
    run = pretrain(hand, tmp_path, replace(TINY, lanes=4, curve_every=50), frames=FRAMES, progress=False)
    assert run["steps_done"] == 4
    with pytest.raises(ValueError, match=r"other settings; .*\(pretrain.lanes 4 -> 2\)"):
        pretrain(hand, tmp_path, replace(TINY, lanes=2, curve_every=50), frames=FRAMES, progress=False)
    (tmp_path / "state.pt").write_bytes(b"half")
    with pytest.raises(ValueError, match="state.pt is no state of a training .* delete it"):
        pretrain(hand, tmp_path, TINY, frames=FRAMES, progress=False)


def test_impossible_limits_are_named(hand, tmp_path):
    class Stiff(type(hand)):
        limits_rad = hand.limits_rad.clone()

    Stiff.limits_rad[4, 0] = torch.tensor([0.5, 0.2])
    stiff = Stiff(**{name: getattr(hand, name) for name in hand.__dataclass_fields__})
    with pytest.raises(ValueError, match=r"limits_rad of index_base flexion: lower > upper \(0.500 > 0.200 rad\)"):
        pretrain(stiff, tmp_path / "none", TINY, progress=False)
    with pytest.raises(ValueError, match=r"distance_mm must be 0 < lower <= upper, got \(900.0, 300.0\)"):
        pretrain(hand, tmp_path / "none", TINY, frames=SyntheticSettings(distance_mm=(900.0, 300.0)), progress=False)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"batch": 0}, "batch must be at least 1, got 0"),
        ({"steps": -1}, "steps must not be negative, got -1"),
        ({"fresh": 0.0}, r"fresh must be a share in \(0, 1\], got 0.0"),
        ({"decay": 1.5}, r"decay must be a share in \[0, 1\], got 1.5"),
        ({"lanes": 33}, "lanes must be in 1 ... 32, got 33"),
        ({"learning_rate": float("nan")}, "learning_rate must not be negative, got nan"),
    ],
)
def test_settings_out_of_range(wrong, message):
    with pytest.raises(ValueError, match=message):
        PretrainSettings(**wrong)


def test_a_start_of_other_settings_is_refused_and_one_of_the_same_begins_there(hand, tmp_path):
    torch.manual_seed(5)
    net = PoseNet(NetworkSettings(rotation="6d")).eval()
    nn.init.normal_(net.theta.bias, 0.0, 0.3)
    save_network(tmp_path / "start.safetensors", net, hand, {"steps_done": 7, "curve": [1]})
    run = {"settings": replace(TINY, steps=0), "frames": FRAMES, "progress": False}
    for other in (NetworkSettings(rotation="euler"), NetworkSettings(rotation="6d", backbone="resnet")):
        with pytest.raises(ValueError, match=r"start.safetensors holds a network with .*6d.* ask for its settings"):
            pretrain(hand, tmp_path / "other", network=other, start=tmp_path / "start.safetensors", **run)
    for batch_norm in (False, True):
        out = tmp_path / f"same {batch_norm}"
        same = NetworkSettings(rotation="6d", batch_norm=batch_norm)
        record = pretrain(hand, out, network=same, start=tmp_path / "start.safetensors", **run)
        assert record["start"] == {"steps_done": 7}
        begun, image = load_network(hand, out / "base.safetensors")[0], torch.rand(2, 120, 120)
        with torch.no_grad():
            torch.testing.assert_close(
                begun(image).rotations, net(image).rotations, rtol=0, atol=5e-3
            )  # float16 on disk
    with pytest.raises(FileNotFoundError, match="no checkpoint at .*none"):
        pretrain(hand, tmp_path / "other", start=tmp_path / "none", **run)


def test_the_command_refuses_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["hrlib", "pretrain", "--out", str(tmp_path), "--rotation", "matrix"])
    with pytest.raises(SystemExit):
        sys.exit(cli.main())
    said = capsys.readouterr()
    assert "rotation must be '" in said.out + said.err and "Traceback" not in said.err


def test_other_settings_are_refused_and_keep_the_run(hand, tmp_path):
    pretrain(hand, tmp_path, PretrainSettings(steps=1, batch=2, memory=1), frames=FRAMES, progress=False)
    before = (tmp_path / "state.pt").read_bytes()
    with pytest.raises(ValueError, match="other settings; choose another folder"):
        pretrain(hand, tmp_path, PretrainSettings(steps=2, batch=2, memory=1), frames=FRAMES, progress=False)
    assert (tmp_path / "state.pt").read_bytes() == before


@pytest.mark.parametrize("broken", ["open", "replace", "replace of the model"])
def test_a_full_disk_keeps_the_last_checkpoint_and_says_what_to_do(hand, tmp_path, monkeypatch, broken):
    settings = replace(TINY, steps=3, batch=2)
    openers = {"open": builtins.open, "replace": os.replace}

    def full(name):
        def refuse(*arguments, **options):
            if broken.endswith("model") and not str(arguments[-1]).endswith("base.safetensors"):
                return openers[name](*arguments, **options)
            if name == "open" and "xb" not in str(arguments[1:]):
                return openers[name](*arguments, **options)
            raise OSError(errno.ENOSPC, "No space left on device")

        return refuse

    def break_the_disk(step, settings_):
        if step == 2:
            name = broken.split()[0]
            monkeypatch.setattr(builtins if name == "open" else os, name, full(name))
        return learning_rate(step, settings_)

    monkeypatch.setattr("hrlib.training.pretrain.learning_rate", break_the_disk)
    kept = 3 if broken.endswith("model") else 2
    with pytest.raises(OSError, match=rf"cannot save the training to .*{tmp_path.name} after step 3: .*No space left"):
        with pytest.raises(OSError, match=rf"Free space .* what .*state.pt holds, {kept} steps, is kept") as raised:
            pretrain(hand, tmp_path, settings, frames=FRAMES, progress=False)
        raise raised.value
    monkeypatch.undo()
    assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] == kept
    assert load_network(hand, tmp_path / "base.safetensors")[1]["steps_done"] == 2
    assert not list(tmp_path.glob(".*")), "nothing half written is left"
    assert pretrain(hand, tmp_path, settings, frames=FRAMES, progress=False)["steps_done"] == 3
    assert load_network(hand, tmp_path / "base.safetensors")[1]["steps_done"] == 3


def test_the_loss_of_a_perfect_prediction_is_zero_and_an_error_is_in_millimetres(hand):
    batch = Synthesiser(hand, FRAMES).batch(4, 0)
    perfect = batch.true_prediction(hand)
    loss, error = pose_loss(perfect, batch, hand, 5.0)
    assert loss < 1e-6 and error < 1e-3
    moved = true_prediction(batch.rotations, batch.wrist_mm + torch.tensor([3.0, 0.0, 4.0]), hand, batch.crops)
    assert pose_loss(moved, batch, hand, 5.0)[1] == pytest.approx(5.0, abs=1e-3)


def test_a_short_training_learns(hand, tmp_path):
    settings = PretrainSettings(steps=25, batch=16, memory=4, learning_rate=1e-3, lanes=1, bfloat16=False)
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
