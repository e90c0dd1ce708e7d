"""A hand in few numbers: what each of them moves, and what it leaves alone."""

import math
from dataclasses import replace

import pytest
import torch
from core_fixtures import template

from hrlib.hand.joints import PARENTS
from hrlib.hand.shape import SPREAD, HandShape, nearest_shape, shaped


def shape(log_scale=0.0, log_length=(0.0,) * 5, log_thickness=0.0, log_wrist=0.0, dtype=torch.float64) -> HandShape:
    return HandShape(*(torch.tensor(x, dtype=dtype) for x in (log_scale, log_length, log_thickness, log_wrist)))


def bone_lengths(hand) -> torch.Tensor:
    """[20]: to each joint but the wrist from its parent, then each tip's from its far joint."""
    bones = hand.joints_mm[1:] - hand.joints_mm[list(PARENTS[1:])]
    return torch.cat([bones, hand.tips_mm - hand.joints_mm[3::3]]).norm(dim=1)


def test_the_template_is_the_template():
    hand = template()
    same = shaped(hand, HandShape.template())
    for key in ("vertices_mm", "joints_mm", "tips_mm", "cloud_mm"):
        # float32, coordinates up to 200 mm, a few roundings of weights that sum to one
        torch.testing.assert_close(getattr(same, key), getattr(hand, key), rtol=0, atol=2e-4)
    assert HandShape.template().improbability() == 0
    assert HandShape.template() != HandShape.template(), "equal to itself alone, as a hand is"


def test_scale_is_the_rig_s_own_scale():
    hand = template(torch.float64)
    small, expected = shaped(hand, shape(math.log(0.85))), hand.morphed({}, 0.85)
    for key in ("vertices_mm", "joints_mm", "tips_mm"):
        # the stored weights sum to one in float32 only
        torch.testing.assert_close(getattr(small, key), getattr(expected, key), rtol=0, atol=1e-4)


@pytest.mark.parametrize("finger", range(5))
def test_a_finger_s_length_stretches_its_bones_and_no_others(finger):
    hand, factor = template(torch.float64), 1.2
    lengths = [0.0] * 5
    lengths[finger] = math.log(factor)
    other = shaped(hand, shape(log_length=lengths))
    expected = torch.ones(20, dtype=torch.float64)
    expected[[3 * finger + 1, 3 * finger + 2, 15 + finger]] = factor  # the bone to the knuckle belongs to the palm
    torch.testing.assert_close(bone_lengths(other) / bone_lengths(hand), expected, rtol=1e-6, atol=0)
    skin = hand.weights[:, 1 + 3 * finger : 4 + 3 * finger].sum(1) == 0
    moved = (other.vertices_mm - hand.vertices_mm).norm(dim=1)
    assert moved[skin].max() < 1e-4 and moved[~skin].max() > 5


def test_thickness_leaves_the_skeleton_alone_and_widens_the_fingers_by_its_factor():
    hand = template(torch.float64)
    owner = hand.weights.argmax(1)
    rigid = replace(
        hand, weights=torch.nn.functional.one_hot(owner, 16).double()
    )  # one joint alone carries each vertex
    thick = shaped(rigid, shape(log_thickness=math.log(1.3)))
    torch.testing.assert_close(thick.joints_mm, hand.joints_mm)
    torch.testing.assert_close(thick.tips_mm, hand.tips_mm)  # they lie on the axes of the last bones
    for j, stretch in ((0, (1, 1, 1)), (5, (1.3, 1, 1.3)), (15, (1.3, 1, 1.3))):
        before, after = (
            (rig.vertices_mm[owner == j] - rig.joints_mm[j]) @ rig.R_wrist_rest[j] for rig in (hand, thick)
        )
        torch.testing.assert_close(after, before * torch.tensor(stretch, dtype=torch.float64))


def test_the_wrist_widens_by_its_factor_and_the_knuckles_not_at_all():
    hand = template(torch.float64)
    other = shaped(hand, shape(log_wrist=math.log(1.3)))
    torch.testing.assert_close(other.joints_mm, hand.joints_mm)
    torch.testing.assert_close(other.tips_mm, hand.tips_mm)
    palm = hand.weights[:, 0] > 0.999
    before, after = ((rig.vertices_mm[palm] - rig.joints_mm[0]) @ rig.R_wrist_rest[0] for rig in (hand, other))
    torch.testing.assert_close(after[:, 1], before[:, 1])  # across only
    factor = after[:, [0, 2]].norm(dim=1) / before[:, [0, 2]].norm(dim=1)
    at_the_wrist, far = before[:, 1] <= 0, before[:, 1] > 60
    assert at_the_wrist.any() and far.any()
    torch.testing.assert_close(factor[at_the_wrist], torch.full_like(factor[at_the_wrist], 1.3), rtol=1e-3, atol=0)
    assert factor[far].max() < 1.03 and factor.min() > 0.999
    fingers = hand.weights[:, 0] == 0
    torch.testing.assert_close(other.vertices_mm[fingers], hand.vertices_mm[fingers], rtol=0, atol=1e-4)


def test_gradients_are_those_of_finite_differences():
    hand = template(torch.float64)
    some = torch.arange(0, len(hand.vertices_mm), 160)  # the Jacobian of all vertices says no more
    part = replace(hand, vertices_mm=hand.vertices_mm[some], weights=hand.weights[some])

    def points(*parts):
        other = shaped(part, HandShape(*parts))
        return torch.cat([other.vertices_mm, other.joints_mm, other.tips_mm])

    at = [p.requires_grad_() for p in shape(0.1, [0.1, -0.2, 0.05, 0.0, 0.3], -0.1, 0.2).parts()]
    assert torch.autograd.gradcheck(points, at, eps=1e-6, atol=1e-5, rtol=1e-5)


def test_improbability_counts_in_spreads_of_people():
    one = shape(
        SPREAD["log_scale"],
        [0.0, SPREAD["log_length"], 0.0, 0.0, 0.0],
        -SPREAD["log_thickness"],
        2 * SPREAD["log_wrist"],
    )
    assert one.improbability().item() == pytest.approx(3.5)
    assert all(not part.requires_grad for part in one.detach().parts())


@pytest.mark.parametrize("seed", range(4))
def test_nearest_shape_of_a_shaped_hand_is_its_shape(seed):
    random = torch.Generator().manual_seed(seed)
    shape = HandShape(*(0.5 * torch.rand(x.shape, generator=random) - 0.25 for x in HandShape.template().parts()))
    found = nearest_shape(template(), shaped(template(), shape))
    for is_, was in zip(found.parts(), shape.parts(), strict=True):
        assert (is_ - was).abs().max() < 0.01
