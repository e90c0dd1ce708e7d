"""Refinement: both recipes lower what they shall, go on after a stop, and say what is wrong."""

import copy
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from core_fixtures import template
from refine_fixtures import ARMS, BEST, CLEAN, PAPER, SMALL, run
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from hrlib.frames.camera import Camera
from hrlib.frames.crop import crop_hand
from hrlib.frames.crops import concatenate, turned
from hrlib.hand.files import as_ply
from hrlib.hand.shape import HandShape
from hrlib.losses import image_mse
from hrlib.method import predicted_joints, splat_target, true_prediction
from hrlib.network.checkpoint import load_network, save_network
from hrlib.network.posenet import NetworkSettings, PoseNet, Prediction
from hrlib.network.predict import predict
from hrlib.refine import BestSettings, PaperSettings, refine
from hrlib.refine import best as refine_best
from hrlib.refine import paper as refine_paper
from hrlib.refine.best import Explainer, Learner, disagreement, draw_seed, split_frames, unevenness
from hrlib.refine.confidence import confidence
from hrlib.refine.explain import ExplainSettings, surprise
from hrlib.refine.gauss_newton import FitSettings
from hrlib.refine.saved import load_refined, save_refined
from hrlib.refine.state import Processes, Refined, State
from hrlib.support import paths
from hrlib.support.paths import ONE_HAND_MODEL
from hrlib.synthetic.frames import Synthesiser, rolled

TWO_ROUNDS = replace(BEST, rounds=2, prepare=2)
LEARNING = replace(  # nothing but the steps of learning
    BEST, reshape=False, neighbours=False, segmented=0, explain=replace(BEST.explain, iterations=1), runs=8, jump_mm=1e4
)


@pytest.fixture(scope="module")
def frames():
    return Synthesiser(template(), CLEAN).batch(12, 3)


@pytest.fixture(scope="module")
def others():
    """Frames of a smaller hand: of its own the base model is so sure that a few steps need not be better."""
    return Synthesiser(template().morphed({}, SMALL), CLEAN).batch(12, 3)


@pytest.fixture(scope="module")
def net():
    return load_network(template(), ONE_HAND_MODEL)[0]


def seen(prediction, hand, crops):
    return predicted_joints(prediction, hand, crops)[:, None]


def same_weights(a, b):
    theirs = b.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in a.state_dict().items())


def stop_in_call(monkeypatch, module, name, number):
    """Ctrl-C in the middle of the so manieth call of a function of the module."""
    whole, calls = getattr(module, name), []

    def interrupted(*arguments, **options):
        calls.append(1)
        if len(calls) == number:
            signal.raise_signal(signal.SIGINT)
        return whole(*arguments, **options)

    monkeypatch.setattr(module, name, interrupted)


# -- the paper's recipe ---------------------------------------------------------------------------------------------------


def watched(monkeypatch) -> list:
    """The crops and the target of each step of the paper's recipe from now on."""
    shown, whole = [], refine_paper.evaluate_step

    def evaluate_step(prediction, hand, crops, settings, cloud, target):
        shown.append((crops, target))
        return whole(prediction, hand, crops, settings, cloud, target)

    monkeypatch.setattr(refine_paper, "evaluate_step", evaluate_step)
    return shown


@pytest.fixture(scope="module")
def small_hands():
    return Synthesiser(template().morphed({}, SMALL), ARMS).batch(8, 3).crops


@pytest.fixture(scope="module")
def paper(net, small_hands):
    return run(net, small_hands, PAPER)


def test_the_paper_s_recipe_lowers_the_loss_and_moves_the_points(net, small_hands, paper):
    first, second = (np.mean([row["loss"] for row in paper.curve[i : i + 2]]) for i in (0, 2))
    assert len(paper.curve) == 4 and second < 0.98 * first  # the same frames in both epochs
    moved = (paper.cloud_mm - template().cloud_mm).norm(dim=-1)
    assert 0.1 < moved.mean() and moved.max() < PAPER.reach_mm
    assert paper.hand.fingerprint == template().fingerprint
    assert not same_weights(paper.net, net) and not paper.net.training
    assert same_weights(net, load_network(template(), ONE_HAND_MODEL)[0]), "the network it was given stays as it was"
    assert paper.curve[0]["loss"] == pytest.approx(
        sum(
            weight * paper.curve[0][name]
            for name, weight in vars(PAPER.pipeline.weights).items()
            if name in PAPER.pipeline.terms
        )
    )


def test_a_batch_in_pieces_is_the_same_batch(net, small_hands, paper):
    pieces = run(net, small_hands, replace(PAPER, micro=3))
    ours, expected = ([row["loss"] for row in r.curve] for r in (pieces, paper))
    # float32, summed in another order; Adam's first steps divide small gradients by their own size
    assert ours == pytest.approx(expected, rel=1e-3)
    assert (pieces.cloud_mm - paper.cloud_mm).norm(dim=-1).mean() < 0.02


def test_a_process_without_a_frame_of_the_last_batch_takes_part_all_the_same(net, small_hands, monkeypatch):
    monkeypatch.setattr(refine_paper, "add_gradients", lambda parameters, world: None)
    monkeypatch.setattr(refine_paper, "add_numbers", lambda numbers, world, like: numbers)
    monkeypatch.setattr(refine_paper, "any_of", lambda interrupted, world, like: False)
    crops, settings = small_hands[:5], replace(PAPER, epochs=1)  # batches of four frames and of one
    state = State(net, template(), crops, settings, None, Processes(rank=3, world=4))
    rows = refine_paper.refine_paper(copy.deepcopy(net), template(), crops, settings, state).curve
    assert rows[0]["loss"] > 0 and rows[1]["loss"] == 0 and rows[0].keys() == rows[1].keys()


def test_a_wristband_needs_no_guess_of_where_the_hand_ends(net, small_hands, monkeypatch):
    shown = watched(monkeypatch)
    run(net, small_hands, replace(PAPER, epochs=1, wristband=True))
    run(net, small_hands, replace(PAPER, epochs=1))
    assert [torch.equal(target, splat_target(crops)) for crops, target in shown] == [True, True, False, False]


def test_annealed_steps_shrink(net, small_hands, paper):
    annealed = run(net, small_hands, replace(PAPER, anneal=True))
    assert annealed.curve[0] == paper.curve[0], "nothing has shrunk yet"
    way, whole = ((r.cloud_mm - template().cloud_mm).norm(dim=-1).mean() for r in (annealed, paper))
    assert 0.1 * whole < way < 0.9 * whole


def test_the_paper_s_frames_are_turned_with_their_targets(net, frames, monkeypatch):
    shown = watched(monkeypatch)
    settings = replace(PAPER, turn_deg=90.0)
    assert not same_weights(run(net, frames.crops, settings).net, net)
    for crops, target in shown:  # of a hand without an arm, whose target is all of the frame's points
        apart = image_mse(target, splat_target(crops)) / image_mse(target, torch.zeros_like(target))
        assert apart.max() < 0.05
    before = {frame.numpy().tobytes() for frame in frames.crops.image}
    after = {frame.numpy().tobytes() for crops, _ in shown for frame in crops.image}
    assert len(after) == 2 * len(before) and len(before & after) <= 2, (
        "anew in each epoch; a small angle changes nothing"
    )


@pytest.mark.parametrize("call", [2, 3])  # within an epoch, and where one begins
def test_the_paper_s_recipe_goes_on_after_a_stop(net, small_hands, paper, tmp_path, monkeypatch, call):
    with monkeypatch.context() as patch:
        stop_in_call(patch, refine_paper, "evaluate_step", call)
        with pytest.raises(KeyboardInterrupt):
            run(net, small_hands, PAPER, tmp_path)
    assert torch.load(tmp_path / "state.pt", weights_only=True)["done"] == call
    resumed = run(net, small_hands, PAPER, tmp_path)
    assert resumed.curve == paper.curve and same_weights(resumed.net, paper.net)
    assert torch.equal(resumed.cloud_mm, paper.cloud_mm)
    # and what is finished is finished
    assert run(net, small_hands, PAPER, tmp_path).curve == paper.curve


def test_other_settings_frames_or_hands_are_refused(net, frames, tmp_path):
    run(net, frames.crops[:4], replace(PAPER, epochs=1), tmp_path)
    before = (tmp_path / "state.pt").read_bytes()
    with pytest.raises(ValueError, match="holds a refinement with other settings; choose another folder"):
        run(net, frames.crops[:4], PAPER, tmp_path)
    with pytest.raises(ValueError, match="with other frames;"):
        run(net, frames.crops[1:5], replace(PAPER, epochs=1), tmp_path)
    with pytest.raises(ValueError, match="with other frames;"):
        run(net, frames.crops[[1, 0, 2, 3]], replace(PAPER, epochs=1), tmp_path)  # best takes neighbours for a movement
    with pytest.raises(ValueError, match="with other start;"):
        torch.manual_seed(0)
        run(PoseNet(net.settings).eval(), frames.crops[:4], replace(PAPER, epochs=1), tmp_path)
    with pytest.raises(ValueError, match="with other hand;"):
        other = template().morphed({}, 0.9)
        refine(net, other, frames.crops[:4], replace(PAPER, epochs=1), tmp_path, progress=False)
    assert (tmp_path / "state.pt").read_bytes() == before
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    state["config"]["hand"] = template().geometry_fingerprint  # of an older file, which goes on
    torch.save(state, tmp_path / "state.pt")
    assert run(net, frames.crops[:4], replace(PAPER, epochs=1), tmp_path).curve == state["curve"]
    for broken in (b"half", before[: len(before) // 2], b""):
        (tmp_path / "state.pt").write_bytes(broken)
        with pytest.raises(ValueError, match="state.pt is no state of a refinement .* delete it to begin anew"):
            run(net, frames.crops[:4], PAPER, tmp_path)


def test_frames_that_nothing_can_be_learnt_from_are_refused(net, frames):
    with pytest.raises(ValueError, match="crops must hold at least one frame, got none"):
        run(net, frames.crops[[]], PAPER)
    centre = frames.crops.centre_mm.clone()
    centre[7] = torch.nan
    with pytest.raises(ValueError, match=r"frame 7 has no measured depth \(its centre is NaN\)"):
        run(net, replace(frames.crops, centre_mm=centre), BEST)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: PaperSettings(epochs=0), "epochs must be at least 1, got 0"),
        (lambda: PaperSettings(seed=10**23), "seed must be 0 to 4294967295, got 1"),
        (lambda: BestSettings(seed=-1), "seed must be 0 to 4294967295, got -1"),
        (lambda: PaperSettings(micro=0), "micro must be at least 1, got 0"),
        (lambda: PaperSettings(turn_deg=-1.0), "turn_deg must not be negative, got -1"),
        (lambda: BestSettings(steps=-1), "steps must be at least 1, got -1"),
        (lambda: BestSettings(synthetic=0), "synthetic must be at least 1, got 0"),
        (lambda: BestSettings(prepare=-1), "prepare must not be negative, got -1"),
        (lambda: BestSettings(steady=-1.0), "steady must not be negative, got -1.0"),
        (lambda: BestSettings(equivariance=-1.0), "equivariance must not be negative, got -1.0"),
        (lambda: BestSettings(runs=0), "runs must be at least 1, got 0"),
        (lambda: BestSettings(keep=0.0), r"keep must be a share in \(0, 1\], got 0.0"),
    ],
)
def test_settings_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()


TWO = """
import sys, torch
from core_fixtures import template
from hrlib.network.checkpoint import load_network
from hrlib.support.paths import ONE_HAND_MODEL
from hrlib.refine import PaperSettings, refine
from hrlib.hand.skinning import skin, skinning_transforms
from hrlib.synthetic.frames import Synthesiser, SyntheticSettings
from refine_fixtures import ARMS, PAPER, SMALL
crops = Synthesiser(template().morphed({}, SMALL), ARMS).batch(8, 3).crops
refine(load_network(template(), ONE_HAND_MODEL)[0], template(), crops, PAPER, sys.argv[1], progress=False)
"""


@pytest.mark.slow
def test_two_processes_of_torchrun_refine_as_one(paper, tmp_path):
    (tmp_path / "two.py").write_text(TWO)
    environment = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(paths.ROOT), str(paths.ROOT / "tests")])
    command = [
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        str(tmp_path / "two.py"),
        str(tmp_path),
    ]
    done = subprocess.run(
        [sys.executable, "-m", *command], env=os.environ | environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    two = torch.load(tmp_path / "state.pt", weights_only=True)["curve"]
    for key in ("loss", "mse", "depth"):
        # float32, summed in another order; Adam's first steps divide small gradients by their own size
        assert [row[key] for row in two] == pytest.approx([row[key] for row in paper.curve], rel=1e-3)


# -- the best recipe ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def best(net, others):
    return run(net, others.crops, BEST)


def test_the_best_recipe_adapts_hand_and_network(net, others, best):
    assert best.hand.fingerprint != template().fingerprint and best.hand.name == f"{template().name}, adapted"
    assert best.curve[0]["round"] == 0 and best.curve[-1]["round"] == 1
    assert best.curve[-1]["surprise"] < best.curve[0]["surprise"], "of these frames, even in so few steps"
    assert not same_weights(best.net, net) and not best.net.training
    assert any("only 12 frames: fewer than 200" in warning for warning in best.warnings)
    assert torch.equal(best.cloud_mm, best.hand.cloud_mm)
    assert same_weights(net, load_network(template(), ONE_HAND_MODEL)[0]), "the network it was given stays as it was"
    # what the curve says is what the results do
    held_out = others.crops[[4, 9]]
    again = surprise(best.hand, held_out, predict(best.net, held_out), BEST.explain).mean().item()
    assert again == pytest.approx(best.curve[-1]["surprise"], rel=1e-4)


@pytest.mark.parametrize("count, every", [(10, 5), (12, 5), (49, 5), (50, 10), (60, 10)])
def test_the_round_is_chosen_by_frames_that_are_not_learnt_from(count, every):
    learn, held_out = split_frames(count)
    assert held_out.tolist() == list(range(4, count, every))
    assert sorted([*learn.tolist(), *held_out.tolist()]) == list(range(count))


def test_a_round_chosen_by_frames_that_were_learnt_from_says_so(net, others):
    few, more = (run(net, others.crops[:count], replace(LEARNING, steps=1)).warnings for count in (9, 10))
    assert any("the best round was chosen on frames learned from: of fewer than 10" in warning for warning in few)
    assert not any("learned from" in warning for warning in more)


@pytest.fixture(scope="module")
def two_rounds(net, frames):
    return run(net, frames.crops, TWO_ROUNDS)


def test_the_best_recipe_goes_on_after_a_stop(net, frames, two_rounds, tmp_path, monkeypatch):
    done = 0
    for call in (
        1,
        1,
        1,
        2,
        1,
    ):  # at once, in the preparation's last step, in a round's first and last one, in the next
        done += call
        with monkeypatch.context() as patch:
            stop_in_call(patch, refine_best, "pose_loss", call)
            with pytest.raises(KeyboardInterrupt):
                run(net, frames.crops, TWO_ROUNDS, tmp_path)
        assert torch.load(tmp_path / "state.pt", weights_only=True)["done"] == done
    for _ in range(2):  # to the end; and what is finished is finished
        resumed = run(net, frames.crops, TWO_ROUNDS, tmp_path)
        assert resumed.curve == two_rounds.curve and resumed.warnings == two_rounds.warnings
        assert same_weights(resumed.net, two_rounds.net)
        assert resumed.hand.fingerprint == two_rounds.hand.fingerprint


def test_no_two_draws_of_any_runs_share_their_random_numbers():
    draws = [("correction",), *(("segmented", turn) for turn in range(-1, 2))]
    draws += [("step", turn, step) for turn in range(-1, 2) for step in (*range(20), *range(8190, 8210))]
    seeds = [draw_seed(seed, *draw) for seed in (0, 1, -1, 64, 512, 2**33) for draw in draws]
    assert len({seed & 0xFFFFFFFF for seed in seeds}) == len(seeds), "torch's generator takes 32 bits of a seed"
    assert draw_seed(3, "step", 1, 2) == 0x4C21642322FE5FB9  # the same on any machine


def learnt(net, crops, settings):
    """The network after the steps of one round, all frames being neighbours."""
    net, hand = copy.deepcopy(net), template()
    optimiser, state = torch.optim.Adam(net.parameters()), State(net, hand, crops, settings, None)
    Learner(net, optimiser, crops, torch.arange(1, len(crops) - 1), settings, state).learn(hand, None, 0)
    return net


def test_the_network_learns_that_a_hand_moves_evenly(net, others):
    three, shaken = others.crops[[i + k for k in range(3) for i in range(10)]], []
    for weight in (0.0, 100.0):  # on frames that do not follow one another, which shake
        after = learnt(net, others.crops, replace(LEARNING, steady=weight, equivariance=0.0))
        shaken.append(unevenness(seen(predict(after, three), template(), three), 1e4))
    assert shaken[1] < 0.995 * shaken[0], "in three steps"


def test_unevenness_is_the_second_difference_of_what_is_seen(frames):
    def uneven(posed, voted):  # by how much a hand and its votes have moved along (4, 0, 3) mm in three frames
        far = torch.tensor([posed, voted]).T[:, :, None, None] * torch.tensor([4.0, 0.0, 3.0])
        return unevenness(frames.joints_mm[[0, 0, 0], None] + far, 50.0).item()

    still, jump = (0.0, 0.0, 0.0), pytest.approx(50 * (1 - np.exp(-10 / 50)), rel=1e-3)
    assert uneven((0.0, 1.0, 2.0), still) == pytest.approx(0, abs=1e-3)
    assert uneven((0.0, 1.0, 0.0), still) == jump == uneven(still, (0.0, -1.0, 0.0))
    assert uneven((0.0, 1e3, 0.0), still) == pytest.approx(50)


def test_disagreement_is_how_far_the_hand_of_a_turned_frame_is_from_the_turned_hand(frames):
    angle = torch.tensor([0.5, -0.3, 0.0])
    _, R = turned(frames.crops[:3], angle)
    here, there = frames.joints_mm[:3, None], rolled(frames[:3], angle).joints_mm[:, None]
    assert disagreement(here, there, R, 50.0).item() == pytest.approx(0, abs=1e-2)
    far = torch.tensor([[0.0, 3.0, 4.0], [5.0, 0.0, 0.0], [0.0, 0.0, 5.0]])[:, None, None]
    expected = pytest.approx(50 * (1 - np.exp(-5 / 50)), rel=1e-3)
    assert disagreement(here, there + far, R, 50.0).item() == expected
    assert disagreement(here, there + 1e3 * far, R, 50.0).item() == pytest.approx(50)


def test_the_network_learns_that_a_turned_camera_sees_the_same_hand(net, others):
    apart = []
    for weight in (0.0, 100.0):
        after = learnt(net, others.crops, replace(LEARNING, steady=0.0, equivariance=weight))
        other, R = turned(others.crops, torch.full((len(others.crops),), 0.4))
        both = (seen(predict(after, crops), template(), crops) for crops in (others.crops, other))
        apart.append(disagreement(*both, R, 1e4))
    assert apart[1] < 0.98 * apart[0], "in three steps"


def test_the_error_of_a_shape_s_fit_on_synthetic_frames_is_taken_off(net, frames, monkeypatch):
    def add(a, b):
        return HandShape(*(x + y for x, y in zip(a.parts(), b.parts(), strict=True)))

    values = (-0.1, [0.0, 0.1, 0.2, 0.0, 0.0], 0.05, 0.0), (0.02, [-0.03] * 5, 0.04, -0.01)
    true, bias = (HandShape(*(torch.tensor(part) for part in parts)) for parts in values)
    known, shown = add(true, bias), []

    def fit(hand, crops, *rest):  # as biased on the synthetic frames as on the user's
        shown.append(crops)
        return add(known, bias)

    monkeypatch.setattr("hrlib.refine.best.fit_hand", fit)
    crops, guess = frames.crops[:6], predict(net, frames.crops[:6])
    explainer = Explainer(net, template(), crops, BEST)
    corrected = explainer.corrected(add(true, bias), known, guess, BEST.explain)
    for found, expected in zip(corrected.parts(), true.parts(), strict=True):
        torch.testing.assert_close(found, expected)
    assert len(shown) == 1 and 1 <= len(shown[0]) <= 4, "of the frames that are explained best"
    nowhere = replace(guess, offset=guess.offset + 100.0)
    found = explainer.corrected(known, known, nowhere, BEST.explain)
    assert found is known and len(shown) == 1, "no hand can be drawn there"


def test_a_stop_while_frames_are_explained_acts_at_once(net, frames, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_in_call(patch, refine_best, "fit_hand", 1)
        with pytest.raises(KeyboardInterrupt):
            run(net, frames.crops, BEST, tmp_path)
    assert not (tmp_path / "state.pt").exists()


@pytest.mark.parametrize(
    "off",
    [{key: 0} for key in ("segmented", "steady", "equivariance")]
    + [{key: False} for key in ("reshape", "correct", "neighbours")],
)
def test_each_part_of_the_best_recipe_can_be_left_out(net, frames, off):
    short = replace(BEST, steps=1, explain=replace(BEST.explain, iterations=1), **off)
    refined = run(net, frames.crops[:6], short)
    assert (refined.curve[-1]["log_scale"] == 0) == ("reshape" in off)
    if "reshape" in off:
        assert (refined.cloud_mm - template().cloud_mm).abs().max() < 1e-3


def test_the_poses_are_fitted_by_gauss_newton_where_asked_for(net, frames, monkeypatch):
    whole, asked = refine_best.fitted_poses, []

    def fitted_poses(hand, crops, prediction, settings, progress):
        asked.append((len(crops), settings.votes, settings.smooth))
        return whole(hand, crops, prediction, settings, progress)

    monkeypatch.setattr(refine_best, "fitted_poses", fitted_poses)
    short = replace(BEST, rounds=2, steps=1, prepare=0, segmented=0, explain=replace(BEST.explain, iterations=2))
    by_adam = run(net, frames.crops, short)
    assert not asked
    monkeypatch.setattr(refine_best, "explain", None)
    monkeypatch.setattr(refine_best, "fit_to_depth", None)
    quick = run(net, frames.crops, replace(short, poses=FitSettings(steps=4, more_steps=2)))
    (of_all, all_votes, _), *_ = [call for call in asked if call[2]]
    assert of_all == 10 and all_votes == 0, "a network that knows one hand votes for that hand's bones"
    assert any(count < of_all and not smooth for count, _, smooth in asked), (
        "frames from their neighbours are no sequence"
    )
    assert [votes > 0 for _, votes, smooth in asked if smooth] == [False, True]
    assert quick.curve[-1]["fitted_surprise"] < by_adam.curve[-1]["fitted_surprise"], "two steps of Adam are few"


def ball(radius_mm: float, z_mm: float, camera: Camera, size: int = 240) -> np.ndarray:
    """The depth image of a ball on the optical axis."""
    v, u = np.mgrid[:size, :size]
    ray = np.stack([(u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy, np.ones((size, size))], -1)
    a, b = (ray**2).sum(-1), ray[..., 2] * z_mm
    inside = b**2 - a * (z_mm**2 - radius_mm**2)
    return np.where(inside > 0, (b - np.sqrt(inside.clip(0))) / a, 0).astype(np.float32)


def test_frames_of_no_hand_raise_an_alarm_and_frames_of_a_hand_do_not(net, frames):
    camera = Camera(300.0, 300.0, 119.5, 119.5)
    balls = concatenate([crop_hand(ball(90.0, 500.0 + 5 * i, camera), camera) for i in range(6)])
    settings = replace(LEARNING, steps=1, explain=ExplainSettings(iterations=30, points=64))
    said, hands = (run(net, crops, settings).warnings for crops in (balls, frames.crops[:6]))
    assert any("the frames do not look like a hand" in warning for warning in said)
    assert not any("look like a hand" in warning for warning in hands)


# -- on disk --------------------------------------------------------------------------------------------------------------


def test_what_is_saved_comes_back(best, paper, frames, tmp_path):
    save_refined(tmp_path, best, template(), {"recipe": "best"})
    names = {"model.safetensors", "hand.safetensors", "hand.npz", "hand.ply", "hand.glb", "curve.json"}
    assert {path.name for path in tmp_path.iterdir()} == names
    net, hand = load_refined(tmp_path, template())
    assert hand.fingerprint == best.hand.fingerprint and hand.name == best.hand.name
    for key in ("vertices_mm", "joints_mm", "tips_mm", "R_wrist_rest", "cloud_mm", "cloud_weights"):
        assert torch.equal(getattr(hand, key), getattr(best.hand, key)), key
    ours, expected = (predicted_joints(predict(n, frames.crops), hand, frames.crops) for n in (net, best.net))
    apart = (ours - expected).norm(dim=-1)
    assert apart.mean() < 0.5 and apart.max() < 3.0  # float16 on disk
    with pytest.raises(ValueError, match="was trained with the hand"):
        load_network(template(), tmp_path / "model.safetensors")
    stored = np.load(tmp_path / "hand.npz")
    assert set(stored) == {"vertices_mm", "faces", "joints_mm", "tips_mm", "weights", "cloud_mm"}
    np.testing.assert_array_equal(stored["cloud_mm"], best.cloud_mm)
    record = json.loads((tmp_path / "curve.json").read_text())
    assert record["warnings"] == list(best.warnings) and record["settings"] == {"recipe": "best"}
    assert record["curve"][-1]["surprise"] == best.curve[-1]["surprise"]

    save_refined(tmp_path, paper, template(), {"recipe": "paper"})
    net, hand = load_refined(tmp_path, template())
    assert hand is template() and load_network(template(), tmp_path / "model.safetensors")[1]["recipe"] == "paper"
    np.testing.assert_array_equal(np.load(tmp_path / "hand.npz")["cloud_mm"], paper.cloud_mm)


def test_a_folder_whose_network_has_the_older_fingerprint_loads(tmp_path):
    hand, file = template().morphed({}, 0.9), tmp_path / "model.safetensors"
    save_refined(tmp_path, Refined(PoseNet(NetworkSettings()).eval(), hand, hand.cloud_mm, [], ()), template(), {})
    with safe_open(file, "pt") as stored:
        meta = {key: value for key, value in stored.metadata().items() if key != "sha256"}  # as older files are
    save_file(load_file(file), file, meta | {"hand": hand.geometry_fingerprint})
    assert load_refined(tmp_path, template())[1].fingerprint == hand.fingerprint != template().fingerprint


def test_a_folder_of_something_else_is_refused(best, tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no model.safetensors: name a folder that `hrlib refine"):
        load_refined(tmp_path, template())
    save_refined(tmp_path, best, template(), {})
    other = replace(template(), faces=template().faces.flip(0))
    with pytest.raises(ValueError, match="hand.safetensors was not adapted from"):
        load_refined(tmp_path, other)
    save_network(tmp_path / "model.safetensors", best.net, template(), {})
    with pytest.raises(ValueError, match="model.safetensors was trained with the hand"):
        load_refined(tmp_path, template())
    (tmp_path / "hand.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="holds no hand.safetensors"):
        load_refined(tmp_path, template())


def test_a_ply_file_holds_the_mesh(tmp_path):
    vertices, faces = (
        torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 2.5, 0], [0, 0, -3]]),
        torch.tensor([[0, 1, 2], [0, 3, 1]]),
    )
    header, data = as_ply(vertices, faces).split(b"end_header\n")
    lines = header.decode().splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    assert (
        "element vertex 4" in lines and "element face 2" in lines and "property list uchar int vertex_indices" in lines
    )
    assert data[:48] == vertices.numpy().astype("<f4").tobytes()
    assert data[48:] == b"".join(b"\x03" + np.array(face, "<i4").tobytes() for face in faces.tolist())


def test_confidence_is_high_for_the_truth_and_falls_with_either_doubt(frames):
    crops, hand = frames.crops, template()
    true = true_prediction(frames.rotations, frames.wrist_mm, hand, crops)
    voted = (frames.joints_mm - crops.centre_mm[:, None]) / crops.cube_mm
    alone, agreed = confidence(true, hand, crops), confidence(replace(true, points=voted), hand, crops)
    assert (alone > 0.6).all() and (alone <= 1).all()
    torch.testing.assert_close(agreed, alone, rtol=1e-3, atol=0)
    seen = crops.image.gt(0).flatten(1).sum(1) / 120**2 / 0.12  # doubt counts by the pixels of the hand
    expected = torch.exp(-surprise(hand, crops, true) / seen / 0.15 / 2)
    torch.testing.assert_close(alone, expected, rtol=1e-3, atol=0)
    # 30 mm to the side, of a hand of the usual area: exp(-1) less
    aside = confidence(replace(true, points=voted + torch.tensor([30 / crops.cube_mm, 0, 0])), hand, crops)
    torch.testing.assert_close(aside, alone * torch.exp(-1 / seen), rtol=1e-3, atol=0)
    moved = Prediction(true.rotations, true.offset + torch.tensor([0.2, 0.0, 0.0]))
    assert (confidence(moved, hand, crops) < 0.7 * alone).all()
    lost = confidence(Prediction(true.rotations, true.offset + 50, voted), hand, crops)
    assert (lost > 0).all()
