"""`hrlib refine` and `hrlib predict` on folders of depth frames: what they write, and what they refuse."""

import csv
import inspect
import json
import re
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from commands import command
from core_fixtures import clean_batch, template
from drawn_things import THINGS, film
from mano_fixtures import write_mano
from PIL import Image
from refine_fixtures import BEST, CLEAN, PAPER, SMALL, run

from hrlib import __main__ as cli
from hrlib.frames.camera import Camera
from hrlib.hand.joints import POINT_NAMES
from hrlib.hand.kinematics import forward_kinematics, joint_positions
from hrlib.hand.rig import load_hand
from hrlib.hand.shape import WHOLE, lengths_mm
from hrlib.hand.skinning import skin, skinning_transforms
from hrlib.network.checkpoint import load_network
from hrlib.personal.tracker import Tracker
from hrlib.refine import RECIPES
from hrlib.refine.best import ROUNDS
from hrlib.synthetic.frames import Synthesiser
from hrlib.synthetic.rasterise import rasterise

CAMERA = Camera(240.0, 240.0, 90.0, 75.0)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Six frames of a right hand on 180x150 pixels as 16-bit PNGs in units of 0.5 mm, and the same in a mirror."""
    hand, folder = template().morphed({}, SMALL), tmp_path_factory.mktemp("camera")
    maker = Synthesiser(hand, replace(CLEAN, distance_mm=(430.0, 440.0), off_axis=0.02, pitch_deg=5.0, roll_deg=10.0))
    rotations, wrist_mm = maker.sample(6, torch.Generator().manual_seed(5))
    T = forward_kinematics(hand, rotations, wrist_mm + torch.tensor([0.0, 60.0, 0.0]))
    vertices = skin(hand.vertices_mm, hand.weights, skinning_transforms(hand, T)).numpy()
    intrinsics = np.tile(np.array([[CAMERA.fx, CAMERA.fy, CAMERA.cx, CAMERA.cy]], np.float32), (6, 1))
    depth_mm = rasterise(vertices, hand.faces.numpy(), intrinsics, (150, 180))
    for name, images in (("right", depth_mm), ("left", depth_mm[..., ::-1])):
        (folder / name).mkdir()
        for i, image in enumerate(images):
            Image.fromarray(np.round(image / 0.5).astype(np.uint16)).save(folder / name / f"frame_{i + 7}.png")
    torch.save(joint_positions(hand, T), folder / "joints_mm.pt")
    return folder


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


RIGHT = ("--camera", 240, 240, 90, 75, "--unit-mm", 0.5)
UNSAID = ("--camera", 240, 240, 89, 75, "--unit-mm", 0.5)  # 179 - 90
LEFT = (*UNSAID, "--side", "left")


def test_predict_writes_21_rows_a_frame_and_mirrors_left_hands_back(folders, tmp_path, capsys):
    assert command("predict", folders / "right", *RIGHT, "--out", tmp_path / "right.csv") == 0
    said = capsys.readouterr().out
    length = re.search(
        r"6 frames of a right hand \(its shape: estimated from 6 frames, (\d+) mm from wrist to middle", said
    )[1]
    own = lengths_mm(template().morphed({}, SMALL))[WHOLE]
    assert abs(int(length) / own - 1) < 0.1, "as a ruler says"
    assert ", median confidence 0." in said
    assert command("predict", folders / "left", *LEFT, "--out", tmp_path / "new" / "left.csv") == 0
    right, left = rows(tmp_path / "right.csv"), rows(tmp_path / "new" / "left.csv")
    assert list(right[0]) == ["frame", "joint", "x_mm", "y_mm", "z_mm", "confidence"]
    assert [row["joint"] for row in right] == list(POINT_NAMES) * 6
    assert [row["frame"] for row in right[::21]] == [f"frame_{i}.png" for i in range(7, 13)]  # 9 before 10
    values = lambda table, key: torch.tensor([float(row[key]) for row in table])  # noqa: E731
    for key, sign in (("x_mm", -1), ("y_mm", 1), ("z_mm", 1), ("confidence", 1)):
        # the shape is seen in crops that were mirrored after they were cut, where a pixel may be another
        mirrored, own = values(left, key), sign * values(right, key)
        torch.testing.assert_close(mirrored, own, rtol=0, atol=8.0)
        assert (mirrored - own).abs().median() < 1.0
    got = torch.stack([values(right, key) for key in ("x_mm", "y_mm", "z_mm")], 1).unflatten(0, (6, 21))
    apart = (got - torch.load(folders / "joints_mm.pt")).norm(dim=-1)
    # what the base model makes of clean frames; another order, unit or frame would be farther off than a finger is long
    assert apart.median() < 20 and apart.mean(1).max() < 45
    sure = values(right, "confidence")
    assert sure.min() > 0 and sure.max() <= 1


@pytest.mark.parametrize("recipe", ["best", "paper"])
def test_refine_and_predict_with_what_it_leaves(folders, tmp_path, monkeypatch, capsys, recipe):
    monkeypatch.setattr("hrlib.refine.RECIPES", {"best": BEST, "paper": PAPER})
    out = tmp_path / "mine"
    length = ("--steps", 2) if recipe == "best" else ("--epochs", 1)
    words = ("refine", folders / "left", *LEFT, "--out", out, "--recipe", recipe, "--frames", 5, "--seed", 3, *length)
    assert command(*words) == 0
    said = capsys.readouterr().out
    assert f"refine: 5 frames, recipe {recipe}; look at {out / 'report.html'}" in said
    assert f"next: hrlib predict NEW_FRAMES --camera 240 240 89 75 --unit-mm 0.5 --model {out} --out" in said
    assert ("warning: only 5 frames" in said) == (recipe == "best")
    assert "that look like a hand" in said and json.loads((out / "check.json").read_text())["summary"]["frames"] == "5"
    for name in ("report.html", "tracked.mp4", "tracked.gif", "hand.ply", "hand.glb", "hand.npz"):
        assert (out / name).stat().st_size > 1000, name
    record = json.loads((out / "curve.json").read_text())["settings"]
    assert (record["recipe"], record["side"], record["frames"], record["refine"]["seed"]) == (recipe, "left", 5, 3)
    words = ("predict", folders / "left", *LEFT, "--model", out, "--out", tmp_path / "mine.csv")
    fit = () if recipe == "best" else ("--no-fit",)  # what `best` leaves of its frames is fitted
    assert command(*words, "--json", tmp_path / "mine.json", *fit) == 0
    mine, kept = rows(tmp_path / "mine.csv"), rows(out / "joints.csv")
    assert len(mine) == 6 * 21 and len(json.loads((tmp_path / "mine.json").read_text())["frames"]) == 6
    assert len(kept) == 5 * 21 and [row["frame"] for row in kept] == [row["frame"] for row in mine[: 5 * 21]]
    assert command(*words[:2], *LEFT[:-2], *words[-4:-1], tmp_path / "again.csv", *fit) == 0
    assert (tmp_path / "again.csv").read_text() == (tmp_path / "mine.csv").read_text(), "the model knows its side"
    # the model of the folder has float16 weights, and a sixth frame pulls at the fits of the others and at where hands are
    # expected in frames that are no movement
    apart = [abs(float(a[k]) - float(b[k])) for a, b in zip(mine, kept, strict=False) for k in ("x_mm", "y_mm", "z_mm")]
    assert np.median(apart) < 5.0
    assert load_hand(out / "hand.safetensors").name.endswith("adapted") == (recipe == "best")


@pytest.mark.slow
def test_a_hand_of_ones_own_goes_all_the_way(folders, tmp_path, monkeypatch, capsys):
    """From a file of MANO's kind over pretraining, prediction and refinement to other programs, the hand named but once."""
    monkeypatch.setattr("hrlib.refine.RECIPES", {"best": BEST})
    rig, run, out = write_mano(tmp_path / "MANO_RIGHT.pkl"), tmp_path / "rig", tmp_path / "mine"
    words = ("pretrain", "--out", run, "--hand", rig, "--start", "base", "--steps", 2, "--batch", 4)
    assert command(*words, "--learning-rate", 1e-5) == 0
    hand = load_hand(run / "hand.safetensors")
    assert hand.name == "MANO_RIGHT" and len(hand.vertices_mm) == 778
    (shipped, before), (net, record) = load_network(load_hand()), load_network(hand, run / "base.safetensors")
    assert record["start"] == before and net.settings == shipped.settings
    image = clean_batch().crops.image
    with torch.no_grad():
        torch.testing.assert_close(net(image).rotations, shipped(image).rotations, rtol=0, atol=0.1)  # begun there

    words = ("predict", folders / "right", *RIGHT, "--out", tmp_path / "j.csv")
    assert command(*words, "--model", run) == 0
    assert len(rows(tmp_path / "j.csv")) == 6 * 21
    words = ("refine", folders / "right", *RIGHT, "--side", "right", "--out", out, "--model", run, "--frames", 5)
    assert command(*words, "--anyway") == 0
    assert f"--model {out} --out joints.csv" in capsys.readouterr().out, "without --hand"
    assert (out / "report.html").stat().st_size > 1000
    own = load_hand(out / "hand.safetensors")
    assert torch.equal(own.faces, hand.faces), "its hand is a MANO_RIGHT"
    assert command("predict", *words[1:9], "--out", tmp_path / "mine.csv", "--model", out) == 0
    mine, kept = rows(tmp_path / "mine.csv"), rows(out / "joints.csv")
    apart = [abs(float(a[k]) - float(b[k])) for a, b in zip(mine, kept, strict=False) for k in ("x_mm", "y_mm", "z_mm")]
    assert np.median(apart) < 5.0

    depth_mm = np.asarray(Image.open(folders / "right" / "frame_7.png")) * 0.5
    for model, of in ((run, hand), (out, own)):  # what `hrlib live` does
        seen = Tracker(CAMERA, model=model)(depth_mm)
        assert seen.found and torch.equal(seen.hand.faces, of.faces) and seen.posed.vertices_mm.shape == (778, 3)


def test_the_shipped_model_is_not_posed_with_another_hand(folders, tmp_path, capsys):
    rig = write_mano(tmp_path / "MANO_RIGHT.pkl")
    words = ("predict", folders / "right", *RIGHT, "--out", tmp_path / "j.csv", "--hand", rig)
    assert command(*words) == 2
    assert "train a network for this one (hrlib pretrain --hand)" in capsys.readouterr().err
    words = ("refine", folders / "right", *RIGHT, "--out", tmp_path / "out", "--hand", rig)
    assert command(*words) == 2
    assert "not with 'MANO_RIGHT'" in capsys.readouterr().err


MY_NET = """
from torch import nn
from hrlib.hand.rig import load_hand
from hrlib.hand.shape import WHOLE, lengths_mm
from hrlib.network.checkpoint import load_network
from hrlib.personal.tracker import Tracker

class Mine(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.inner = net

    def forward(self, image):
        return self.inner(image)

build = lambda: Mine(load_network(load_hand())[0])
"""


def test_a_network_of_ones_own_is_refined_and_predicted_with_by_its_name(folders, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("hrlib.refine.RECIPES", {"paper": PAPER})
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine_of_my_own.py").write_text(MY_NET)
    own, out = ("--network", "mine_of_my_own:build"), tmp_path / "mine"
    words = ("refine", folders / "right", *RIGHT, "--side", "right", "--out", out, "--recipe", "paper", "--epochs", 1)
    assert command(*words, *own, "--anyway") == 0
    said = capsys.readouterr().out
    assert f"--model {out} --network mine_of_my_own:build --out" in said
    assert json.loads((out / "curve.json").read_text())["settings"]["start"] == "mine_of_my_own:build"
    words = ("predict", folders / "right", *RIGHT, "--out", tmp_path / "mine.csv", "--model", out)
    assert command(*words) == 2
    assert "class mine_of_my_own.Mine): name the function that makes it" in capsys.readouterr().err
    assert command(*words, *own, "--no-fit") == 0 and len(rows(tmp_path / "mine.csv")) == 6 * 21
    kept = [float(row["x_mm"]) for row in rows(out / "joints.csv")]
    assert np.median(np.abs(kept - np.array([float(row["x_mm"]) for row in rows(tmp_path / "mine.csv")]))) < 5.0
    assert command(*words[:-2], *own) == 0 and len(rows(tmp_path / "mine.csv")) == 6 * 21


def test_the_side_is_found_and_another_one_is_answered_with_a_warning(folders, tmp_path, capsys):
    csv_json = ("--out", tmp_path / "j.csv", "--json", tmp_path / "j.json")
    assert command("predict", folders / "left", *UNSAID, *csv_json) == 0
    found, said = rows(tmp_path / "j.csv"), capsys.readouterr()
    assert "of a left hand" in said.out and "the frames show" not in said.err
    assert command("predict", folders / "left", *LEFT, *csv_json) == 0
    assert rows(tmp_path / "j.csv") == found and "the frames show" not in capsys.readouterr().err
    assert command("predict", folders / "left", *UNSAID, "--side", "right", *csv_json) == 0
    said, facts = capsys.readouterr(), json.loads((tmp_path / "j.json").read_text())
    assert "warning: the frames show a left hand" in said.err and "of a right hand" in said.out
    assert facts["side"] == "right" and facts["doubts"][0] in said.err
    words = ("refine", folders / "left", *UNSAID, "--out", tmp_path, "--check-only")
    command(*words)
    assert json.loads((tmp_path / "check.json").read_text())["side"] == "left"
    capsys.readouterr()
    command(*words, "--side", "right")
    assert "advice: the frames show a left hand" in capsys.readouterr().out


def test_where_masks_end_the_hand_the_paper_s_recipe_does_not(folders, tmp_path, monkeypatch):
    monkeypatch.setattr("hrlib.refine.RECIPES", {"paper": PAPER})
    words = ("refine", folders / "right", *RIGHT, "--recipe", "paper", "--epochs", 1, "--masks", folders / "right")
    assert command(*words, "--out", tmp_path) == 0  # of a hand alone, its depth is its mask
    assert json.loads((tmp_path / "curve.json").read_text())["settings"]["refine"]["wristband"] is True


def test_what_is_no_hand_is_refused_before_anything_is_trained(tmp_path, capsys):
    for i, image in enumerate(film(THINGS["ball of a fist's size"], 3)):
        (tmp_path / "cats").mkdir(exist_ok=True)
        Image.fromarray(image.astype(np.uint16)).save(tmp_path / "cats" / f"{i}.png")
    words = ("refine", tmp_path / "cats", "--camera", 300, 300, "--unit-mm", 1, "--out", tmp_path / "out")
    assert command(*words, "--check-only") == 1
    assert "REFUSED: what is found does not look like a hand in 100% of the frames" in capsys.readouterr().out
    assert command(*words) == 2
    assert "hrlib: refused: what is found does not look like a hand" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["check.json"]


def test_a_run_of_other_settings_is_reported_before_the_frames_are_read(folders, tmp_path, monkeypatch, capsys):
    net, frames = load_network(template())[0], Synthesiser(template(), CLEAN).batch(4, 3)
    monkeypatch.setattr("hrlib.personal.run.checked", lambda *_, **__: pytest.fail("the frames are being checked"))
    monkeypatch.setattr("hrlib.network.checkpoint.load_network", lambda *_: (net, {}))
    run(net, frames.crops, replace(PAPER, epochs=1), tmp_path)
    words = ("refine", folders / "left", *LEFT, "--out", tmp_path, "--recipe", "paper", "--epochs", 2)
    assert command(*words) == 2
    assert f"hrlib: {tmp_path} holds a refinement with other settings; choose another" in capsys.readouterr().err


@pytest.mark.parametrize("numbers", [(300,), (300, 300, 90), (300, "wide")])
def test_a_camera_of_the_wrong_length_is_an_error_that_says_what_was_wanted(tmp_path, capsys, numbers):
    with pytest.raises(SystemExit) as stop:
        command("predict", tmp_path, "--camera", *numbers, "--unit-mm", 1, "--out", tmp_path / "j.csv")
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert stop.value.code == 2 and "--camera FX FY [CX CY]" in said and "FX FY, FX FY CX CY, or the matrix" in said
    assert ("300,wide: No such file" if "wide" in numbers else f"got shape [{len(numbers)}]") in said


def test_help_tells_the_recipes_lengths():
    said = inspect.getsource(cli.RefineOptions)
    best, paper = RECIPES["best"], RECIPES["paper"]
    assert f"by default {best.steps}." in said and f"by default {paper.epochs}." in said and ROUNDS == 2


def test_frames_without_a_hand_are_named(folders, tmp_path, capsys):
    for name in ("frame_7.png", "frame_8.png"):
        (tmp_path / name).write_bytes((folders / "right" / name).read_bytes())
    Image.fromarray(np.zeros((150, 180), np.uint16)).save(tmp_path / "nothing.png")
    assert command("predict", tmp_path, *RIGHT, "--out", tmp_path / "joints.csv") == 0
    assert "1 of 3 frames left out (nothing.png: no depth" in capsys.readouterr().out
    assert {row["frame"] for row in rows(tmp_path / "joints.csv")} == {"frame_7.png", "frame_8.png"}


@pytest.mark.parametrize(
    "words, message",
    [
        (("refine", "none", *RIGHT, "--out", "out"), "none is no folder"),
        (("refine", "right", *RIGHT, "--out", "right"), "--out right lies in right, and would be read as frames"),
        (
            ("refine", "right", *RIGHT, "--out", "right/run"),
            "--out right/run lies in right, and would be read as frames",
        ),
        (
            ("refine", "right", *RIGHT, "--out", "out", "--steps", 2, "--recipe", "paper"),
            "--steps is no option of .*paper",
        ),
        (("refine", "right", *RIGHT, "--out", "out", "--learn", "--recipe", "depth"), "--learn is no option .*depth"),
        (("refine", "right", *RIGHT, "--out", "out", "--epochs", 2), "--epochs is no option of the recipe best"),
        (("refine", "right", *RIGHT, "--out", "out", "--frames", 0), "--frames must be at least 1, got 0"),
        (("refine", "right", *RIGHT, "--out", "out", "--model", "no.safetensors"), "no checkpoint at no.safetensors"),
        (("predict", "right", *RIGHT, "--out", "out.csv", "--model", "none"), "no checkpoint at none; name a folder"),
        (("predict", "right", *RIGHT, "--out", "out.csv", "--model", "left"), "left holds no model.safetensors"),
        (
            ("predict", "right", "--camera", 0, 240, "--unit-mm", 1, "--out", "o.csv"),
            "camera fx must be a finite number",
        ),
    ],
)
def test_the_commands_refuse_in_one_line(folders, monkeypatch, capsys, words, message):
    monkeypatch.chdir(folders)
    assert command(*words) == 2
    said = capsys.readouterr().err
    assert re.search(message, said) and said.startswith("hrlib: ") and said.count("\n") == 1
    assert not (folders / "out").exists() and not (folders / "out.csv").exists()
