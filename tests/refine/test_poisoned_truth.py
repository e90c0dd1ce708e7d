"""No truth leaks: with NaN or other numbers for everything that a simulator knows, all that follows is the same, bit for bit.

What a user's recording computes from the pose after the sensor has measured is poisoned, too: nothing but the depth image, the
camera and the colour image may tell where the hand ends.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from core_fixtures import template
from refine_fixtures import BEST, PAPER

from hrlib.frames.find import crop_frames
from hrlib.frames.frame import Frame, Truth
from hrlib.network.checkpoint import load_network
from hrlib.network.predict import predict
from hrlib.personal import run
from hrlib.personal import track as tracking
from hrlib.personal.result import PersonalResult
from hrlib.personal.run import RunOptions, checked, refine_checked
from hrlib.refine import refine
from hrlib.refine.explain import ExplainSettings
from hrlib.refine.gauss_newton import fitted_poses
from hrlib.support import ground_truth, paths
from hrlib.support.paths import ONE_HAND_MODEL
from hrlib.synthetic import people
from hrlib.synthetic.frames import Synthesiser
from hrlib.synthetic.people import USERS, record

FRAMES = 10  # of which `best` holds out two
QUICK = ExplainSettings(iterations=2, points=64)
BEST = replace(BEST, steps=2, segmented=4, synthetic=8, explain=QUICK)
PAPER = replace(PAPER, epochs=1)


def nothing(like: np.ndarray) -> np.ndarray:
    return np.full_like(like, np.nan)


def other_numbers(like: np.ndarray) -> np.ndarray:
    return np.random.default_rng(5).normal(0, 100, like.shape).astype(like.dtype)


POISONS = {"nan": nothing, "other numbers": other_numbers}


def poisoned(frames: list[Frame], poison) -> list[Frame]:
    truths = [vars(frame.truth) for frame in frames]
    truths = [truth | {name: poison(truth[name]) for name in Truth.TRUTH} for truth in truths]
    return [replace(frame, truth=Truth(**truth)) for frame, truth in zip(frames, truths, strict=True)]


def poison_what_draw_was_told(patch: pytest.MonkeyPatch, poison) -> None:
    """Have `Synthesiser.draw` overwrite pose, place, arm and joints when it has drawn."""
    honest = Synthesiser.draw

    def draw(self, rotations, wrist_mm, generator, arms=None, camera=None, size=None):
        drawing = honest(self, rotations, wrist_mm, generator, arms, camera, size)
        for told in (rotations, wrist_mm, arms, drawing.joints_mm):
            told.copy_(torch.from_numpy(poison(told.numpy())))
        return drawing

    patch.setattr(Synthesiser, "draw", draw)


def all_that_follows(frames: list[Frame], folder: Path, wristband: bool) -> dict[str, object]:
    """What check, both recipes, fits and tracking find and write; of each file its bytes."""
    net, hand, crops = load_network(template(), ONE_HAND_MODEL)[0], template(), crop_frames(frames, progress=False)[0]
    check = checked(frames, net, hand, folder, "frames", RunOptions(progress=False))
    best = refine_checked(check, net, hand, BEST, folder, RunOptions(anyway=True, progress=False))
    paper = refine(net, hand, crops, replace(PAPER, wristband=wristband), folder / "paper", progress=False)
    found = predict(paper.net, crops)
    fits = fitted_poses(hand, crops, found, progress=False)
    ((seen, left_out),) = tracking.track(paper.net, hand, frames)
    parts = {
        **{f"check.{name}": part for name, part in vars(check.crops).items()},
        **{f"best.{name}": part for name, part in best.refined.net.state_dict().items()},
        **{f"paper.{name}": part for name, part in paper.net.state_dict().items()},
        **{f"tracked.{name}": part for name, part in vars(seen.prediction).items()},
        **{f"fitted.{name}": part for name, part in vars(fits.prediction).items()},
        **{"best's hand": best.refined.hand.vertices_mm, "best's joints": best.after.joints_mm},
        **{"paper's cloud": paper.cloud_mm, "joints": seen.joints_mm, "sure": seen.confidence, "loss": fits.loss},
    }
    # the header of a safetensors file has its entries in any order
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".safetensors"]
    parts = {name: part.numpy().tobytes() if isinstance(part, torch.Tensor) else part for name, part in parts.items()}
    return parts | {str(p.relative_to(folder)): p.read_bytes() for p in files} | {"left out": left_out}


@pytest.mark.slow
@pytest.mark.parametrize(("wristband", "poisons"), [(False, ["nan"]), (True, list(POISONS))])
def test_refinement_fits_and_predictions_read_no_truth(wristband, poisons, tmp_path, monkeypatch):
    monkeypatch.setattr(people, "SEQUENCE", FRAMES)
    monkeypatch.setattr(run, "write_all", without_pictures)
    honest = replace(USERS["B"], wristband=wristband).recording(template(), "train", 0)
    ground_truth.forget()
    before = all_that_follows(honest, tmp_path / "honest", wristband)
    assert not ground_truth.record(), "and the record of readings says so"
    assert {"check.json", "curve.json", "state.pt", "paper/state.pt", "best's hand"} <= set(before)
    for name in poisons:
        after = all_that_follows(poisoned(honest, POISONS[name]), tmp_path / name, wristband)
        assert set(after) == set(before)
        assert not [part for part in before if before[part] != after[part]], f"{name} for the truth"


def without_pictures(out: Path, result: PersonalResult, progress: bool) -> PersonalResult:
    """In place of `write_all`: the pictures of the result take longer than all the rest."""
    return result


@pytest.mark.parametrize("poison", POISONS)
@pytest.mark.parametrize("wristband", [False, True])
def test_frames_are_found_and_cropped_without_the_truth(wristband, poison, tmp_path, monkeypatch):
    monkeypatch.setattr(people, "SEQUENCE", 6)
    user = replace(USERS["B"], wristband=wristband)
    honest = user.recording(template(), "train", 0)
    monkeypatch.setattr(paths, "BUILD", tmp_path / "honest")
    before = record(user, template(), 6, progress=False)
    poison_what_draw_was_told(monkeypatch, POISONS[poison])
    monkeypatch.setattr(paths, "BUILD", tmp_path / "poisoned")
    after = record(user, template(), 6, progress=False)
    assert len(before) == 6 and after.left_out == before.left_out
    for name, part in vars(before.crops).items():
        assert np.array_equal(part, getattr(after.crops, name)), name
    assert not torch.equal(before.joints_mm, after.joints_mm) and not torch.equal(before.wrist_mm, after.wrist_mm)
    for a, b in zip(honest, user.recording(template(), "train", 0), strict=True):
        assert np.array_equal(a.depth_mm, b.depth_mm) and a.camera == b.camera
        assert np.array_equal(a.mask, b.mask) if wristband else b.mask is None
        assert not np.array_equal(a.truth.rotations, b.truth.rotations), "the poison is there"
