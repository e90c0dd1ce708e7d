"""Frames of a population: their truth belongs to them, and disturbances do what a hand finder does."""

import pytest
import torch
from torch import Generator

from hrlib.hand.joints import POINT_NAMES
from hrlib.hand.kinematics import points_of_hands
from hrlib.hand.rig import load_hand
from hrlib.method import true_prediction
from hrlib.network.posenet import ANCHOR, Prediction
from hrlib.synthetic import many_hands
from hrlib.synthetic.many_hands import (
    CUT,
    CUT_MM,
    GROUP,
    KEPT_MM,
    RAMP_MM,
    ManyHands,
    cut_off,
    disturbed,
    smeared_outline,
)
from hrlib.training.step import pose_loss


@pytest.fixture(scope="module")
def maker():
    return ManyHands(load_hand())


@pytest.fixture(scope="module")
def batch(maker):
    return maker.batch(2 * GROUP + 3, 7)


def test_a_batch_depends_on_its_seed_alone(maker, batch):
    again, other = maker.batch(2 * GROUP + 3, 7), maker.batch(2 * GROUP + 3, 8)
    assert torch.equal(batch.crops.image, again.crops.image) and torch.equal(batch.bones_mm, again.bones_mm)
    assert not torch.equal(batch.joints_mm, other.joints_mm)


def test_the_bones_and_the_pose_of_each_hand_give_its_joints(batch):
    joints_mm = points_of_hands(batch.bones_mm, batch.rotations, batch.wrist_mm)
    torch.testing.assert_close(joints_mm, batch.joints_mm, atol=1e-2, rtol=0)


def test_each_group_shows_another_hand(batch):
    sizes = batch.bones_mm.norm(dim=-1).sum(1)
    assert sizes[:GROUP].std() < 1e-3 and (sizes[0] - sizes[GROUP]).abs() > 0.1
    assert (batch.shape[:GROUP] == batch.shape[0]).all() and not torch.equal(batch.shape[0], batch.shape[GROUP])


def test_hands_are_in_their_crops(batch):
    inside = (
        ((batch.joints_mm - batch.crops.centre_mm[:, None]).abs() < batch.crops.cube_mm / 2).all(-1).float().mean(1)
    )
    assert inside.median() == 1 and (inside > 0.5).float().mean() > 0.9
    assert ((batch.crops.image > 0).sum((1, 2)) > 50).float().mean() > 0.95


def test_every_frame_has_something_to_learn_from(maker):
    """A sensor may lose a whole hand: its crop is empty, and its centre is no number."""
    many = maker.batch(300, 11)
    assert torch.isfinite(many.crops.centre_mm).all() and torch.isfinite(many.joints_mm).all()
    assert ((many.crops.image > 0).sum((1, 2)) >= 60).all() and len(many) == 300


def test_a_perfect_prediction_of_any_hand_costs_nothing(batch):
    template, anchor = load_hand(), POINT_NAMES.index(ANCHOR)
    offset = (batch.joints_mm[:, anchor] - batch.crops.centre_mm) / batch.crops.cube_mm
    points = (batch.joints_mm - batch.crops.centre_mm[:, None]) / batch.crops.cube_mm
    loss, error_mm = pose_loss(Prediction(batch.rotations, offset, points, batch.shape), batch, template, 5.0)
    assert loss < 1e-3 and error_mm < 0.02
    with_template = true_prediction(batch.rotations, batch.wrist_mm, template, batch.crops)
    wrong = Prediction(with_template.rotations, with_template.offset, points, batch.shape + 0.1)
    loss, error_mm = pose_loss(wrong, batch, template, 5.0)
    assert loss > 0.05 and error_mm > 0.5, "the template's palm puts the hand elsewhere, and the shape is off"


def test_disturbances_hide_and_add_a_little_and_depend_on_the_generator(monkeypatch):
    monkeypatch.setattr(many_hands, "SMEARED", 0)
    clean = torch.zeros(200, 100, 100)
    clean[:, 30:70, 30:70] = 500.0
    fx = torch.full((200,), 250.0)
    spoilt = disturbed(clean.clone(), fx, Generator().manual_seed(1))
    hidden, added = ((clean > 0) & (spoilt == 0)).sum((1, 2)), ((clean == 0) & (spoilt > 0)).sum((1, 2))
    assert 0.15 < (hidden > 0).float().mean() < 0.45 and 0.08 < (added > 0).float().mean() < 0.4
    kept = (clean > 0) & (spoilt > 0)
    assert (spoilt[kept] == clean[kept]).float().mean() > 0.97, "what stays is what was measured, or fills a hole"
    assert ((spoilt[added > 0] > 0).sum((1, 2)) < 10000).all() and (spoilt >= 0).all()
    assert torch.equal(spoilt, disturbed(clean.clone(), fx, Generator().manual_seed(1)))


def ball(radius_px=20, size=120, z_mm=600.0):
    """A depth image of a ball at z, 0 beside it."""
    at = torch.arange(size) - size / 2
    away = (at[:, None] ** 2 + at**2).sqrt()
    return torch.where(
        away < radius_px, z_mm + 60 - (60**2 - (3 * away.clamp_max(radius_px)) ** 2).clamp_min(0).sqrt(), 0
    )


def test_smeared_outlines_widen_and_become_ramps():
    depth_mm = ball()
    fx = 600.0  # about a pixel a millimetre
    wide = smeared_outline(depth_mm, fx, (1.0, 1.0, 1.0, 0.5))
    sides = [((image > 0).any(0).sum() / 2).item() for image in (depth_mm, wide)]
    assert 2 < sides[1] - sides[0] <= KEPT_MM[1] + 2
    row = wide[60][wide[60] > 0]
    assert row.argmin() == pytest.approx(len(row) / 2, abs=2)  # deeper towards both ends
    assert 5 < row.max() - depth_mm[60].max() <= RAMP_MM + 1


def test_the_least_smear_leaves_the_inside_as_it_is():
    depth_mm = ball()
    same = smeared_outline(depth_mm, 600.0, (0.0, 0.0, 0.0, 0.0))
    assert ((same > 0) == (depth_mm > 0)).all()
    inside = torch.nn.functional.avg_pool2d((depth_mm > 0).float()[None], 13, 1, 6)[0] > 0.999
    assert (same - depth_mm)[inside].abs().max() < 4


def test_nothing_is_made_of_an_empty_image():
    assert not smeared_outline(torch.zeros(20, 30), 600.0, (0.5,) * 4).any()


def test_arms_are_cut_off_across_the_wrist():
    """A wall at 500 mm stands for hand and arm; the hand points up in the image, where y falls."""
    count, size, f = 400, 101, 400.0
    wall = torch.full((count, size, size), 500.0)
    up = torch.tensor([1.0, 0, 0, 0]).expand(count, 16, 4)  # half a turn about x: along is -y
    wrist_mm, camera = (
        torch.tensor([[0.0, 0, 500]]).expand(count, 3),
        torch.tensor([[f, f, 50.0, 50.0]]).expand(count, 4),
    )
    left = cut_off(wall, camera, up, wrist_mm, Generator().manual_seed(3))
    kept_rows = (left > 0).all(2).sum(1)
    cut = kept_rows < size
    assert abs(cut.float().mean() - CUT) < 0.08
    end_mm = (kept_rows[cut] - 50.5) * 500 / f  # below the wrist
    assert end_mm.mean().abs() < 2 and abs(end_mm.std() - CUT_MM) < 1.5
    assert ((left == wall) | (left == 0)).all()
