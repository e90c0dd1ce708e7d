"""Pseudo data sets: poses from labels, another hand, that data set's camera; here with made-up poses."""

import numpy as np
import pytest
import torch
from core_fixtures import build_stick_hand, template

from hrlib.datasets import pseudo
from hrlib.datasets.pseudo import (
    NYU_POSES,
    load_poses,
    pseudo_frames,
    real_labels,
    real_poses,
    save_poses,
    split_frames,
    subject_hand,
)
from hrlib.datasets.published import TEST_SETS
from hrlib.evaluation.joint_errors import errors_mm
from hrlib.hand.inverse_kinematics import FittedPoses
from hrlib.hand.named_poses import view_rotation
from hrlib.hand.rotations import from_euler
from hrlib.method import from_crop


def made_up(offset_mm: float = 0.0) -> FittedPoses:
    """An open hand at 400 mm in all frames of ICVL; subject 2 is a tenth smaller."""
    frames = TEST_SETS["icvl"].frames
    rotations = from_euler(torch.zeros(1, 16, 3))
    rotations[:, 0] = view_rotation(torch.zeros(1), torch.zeros(1), torch.zeros(1))
    return FittedPoses(
        rotations.repeat(frames, 1, 1),
        torch.tensor([[0.0, 60.0, 400.0]]).repeat(frames, 1),
        torch.zeros(frames, 16, 3),
        torch.full((16, 3), offset_mm),
        torch.tensor([0.0, np.log(0.9)]).float()[:, None].repeat(1, 20),
        torch.tensor(TEST_SETS["icvl"].subject) - 1,
    )


def test_train_and_test_are_other_blocks_of_the_same_subject():
    train, test = (split_frames("nyu", 2, split, 10**6) for split in ("train", "test"))
    assert not set(train) & set(test) and sorted([*train, *test]) == list(range(2440, 8252))
    few = split_frames("nyu", 2, "train", 50)
    assert len(few) == 50 and set(few) <= set(train) and few[-1] - few[0] > 5000
    with pytest.raises(ValueError, match="'train' or 'test'"):
        split_frames("nyu", 2, "val", 5)


def test_the_hand_is_not_the_template_s_but_has_the_subject_s_size():
    hand, poses = template(), made_up()
    one, two = (subject_hand("icvl", s, hand, poses) for s in (1, 2))
    lengths = lambda h: torch.cat([h.bones_mm[1:], h.tips_mm - h.joints_mm[3::3]]).norm(dim=1)  # noqa: E731
    ratio = [lengths(h) / lengths(hand) for h in (one, two)]
    assert ratio[0].log().mean().exp().item() == pytest.approx(1.0, abs=1e-4)
    assert ratio[1].log().mean().exp().item() == pytest.approx(0.9, abs=1e-4)
    assert ratio[1].max() / ratio[1].min() > 1.02
    assert (one.vertices_mm - hand.vertices_mm).norm(dim=1).max() > 1


@pytest.mark.slow  # compiles segmentation
def test_frames_show_the_hand_at_its_labels_and_labels_carry_the_offsets():
    hand, plain, shifted = template(), made_up(), made_up(5.0)
    frames = pseudo_frames("icvl", np.array([0, 3]), hand, plain, progress=False)
    assert frames.frame.tolist() == [0, 3] and frames.left_out == 0 and frames.subject.tolist() == [1, 1]
    again = pseudo_frames("icvl", np.array([3]), hand, shifted, progress=False)
    assert torch.equal(again.crops.image[0], frames.crops.image[1])  # by frame, not by place in the batch
    assert not torch.equal(frames.crops.image[0], frames.crops.image[1])  # noise and arm are each frame's own
    offset = (again.labels_mm[0] - frames.labels_mm[1]).norm(dim=-1)
    torch.testing.assert_close(offset, torch.full((16,), 5 * 3**0.5), rtol=1e-3, atol=0)
    # measured points lie at most a finger's thickness around the labels, on the camera's side
    crop = frames.crops[0:1]
    points = from_crop(crop.points, crop)[0, : int(crop.count[0])]
    away = torch.cdist(frames.labels_mm[0], points).amin(1)
    assert away.max() < 25


def test_frames_of_two_subjects_and_unknown_sets_are_refused():
    with pytest.raises(ValueError, match="of one subject"):
        pseudo_frames("icvl", np.array([0, 800]), template(), made_up(), progress=False)
    with pytest.raises(ValueError, match="dataset must be 'nyu' or 'icvl'"):
        subject_hand("msra", 1, template(), made_up())


# -- the table of NYU's poses -------------------------------------------------------------------------------------------


def test_the_table_needs_no_labels(monkeypatch, tmp_path):
    monkeypatch.delenv("HRLIB_DATA_MIRROR", raising=False)
    monkeypatch.setattr("hrlib.support.paths.BUILD", tmp_path)
    poses = real_poses("nyu", template())
    assert len(poses.rotations) == TEST_SETS["nyu"].frames and not list(tmp_path.iterdir())
    assert np.array_equal(poses.subject.numpy() + 1, TEST_SETS["nyu"].subject)


@pytest.mark.mirror
def test_the_table_is_what_the_labels_say(mirror):
    errors = errors_mm(load_poses(NYU_POSES, template()).fitted_mm.numpy(), real_labels("nyu"))
    assert errors.mean() < 2.5 and np.median(errors.mean(1)) < 2.5


def test_a_table_comes_back_as_it_was_written(tmp_path):
    made, random = made_up(), torch.Generator().manual_seed(0)
    turn = torch.nn.functional.normalize(torch.randn(50, 16, 4, generator=random), dim=-1)
    offsets, subject = torch.randn(36, 3, generator=random), made.subject[-50:]
    few = FittedPoses(turn, made.wrist_mm[:50], torch.zeros(50, 36, 3), offsets, made.log_length, subject)
    save_poses(tmp_path / "poses", few, template(), {"what": "a test"})
    back = load_poses(tmp_path / "poses", template())
    same = (back.rotations * few.rotations).sum(-1).abs()
    assert same.min() > 1 - 1e-6
    for name in ("wrist_mm", "offsets_mm", "log_length", "subject"):
        assert torch.equal(getattr(back, name), getattr(few, name))
    assert load_poses(tmp_path / "poses", build_stick_hand()) is None, "poses of another hand are none of this one"
    (tmp_path / "poses").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="no table of poses .* delete it"):
        load_poses(tmp_path / "poses", template())


def test_fits_are_kept_and_the_same_in_every_call(monkeypatch, tmp_path):
    fits = []

    def fit(*_, **__):
        fits.append(made_up())
        return fits[-1]

    monkeypatch.setattr("hrlib.support.paths.BUILD", tmp_path)
    monkeypatch.setattr(pseudo, "real_labels", lambda dataset: None)
    monkeypatch.setattr(pseudo, "fit_to_joints", fit)
    first, second = (real_poses("icvl", template()) for _ in range(2))
    assert len(fits) == 1 and torch.equal(first.rotations, second.rotations)
    assert first.fitted_mm.shape == (TEST_SETS["icvl"].frames, 16, 3)
