"""Posed hands: a rigid motion of the whole hand moves all of it, bones keep their lengths, weights share out a vertex."""

import torch
from core_fixtures import template
from hypothesis import given
from strategies import few, poses, turns

from hrlib.hand.joints import POINT_PARENTS
from hrlib.hand.kinematics import forward_kinematics, joint_positions, turn_hand
from hrlib.hand.skinning import skin, skinning_transforms

MM = 0.02  # float32 at two metres has steps of 0.0001 mm; a chain of five matrices and 1609 sums of them, some more


def moved(points: torch.Tensor, R: torch.Tensor) -> torch.Tensor:
    return torch.einsum("brc,b...c->b...r", R, points)


def vertices(rotations: torch.Tensor, wrist_mm: torch.Tensor) -> torch.Tensor:
    hand = template()
    return skin(
        hand.vertices_mm, hand.weights, skinning_transforms(hand, forward_kinematics(hand, rotations, wrist_mm))
    )


def rest_points() -> torch.Tensor:
    """The 21 points of the hand as it was modelled, without any kinematics: joints in their order, then the tips."""
    joints, tips = template().joints_mm, template().tips_mm
    return torch.cat([joints[:1], torch.cat([joints[1:].unflatten(0, (5, 3)), tips[:, None]], 1).flatten(0, 1)])


@few
@given(poses(), turns(), poses())
def test_a_rigid_motion_of_the_hand_moves_its_joints_and_its_skin(pose, R, other):
    (rotations, wrist_mm), (_, shift_mm) = pose, other
    turned = turn_hand(rotations, R), moved(wrist_mm, R) + shift_mm
    for points in (lambda *q: joint_positions(template(), forward_kinematics(template(), *q)), vertices):
        expected = moved(points(rotations, wrist_mm), R) + shift_mm
        torch.testing.assert_close(points(*turned), expected, rtol=0, atol=MM)


@few
@given(poses())
def test_bones_keep_their_lengths_in_any_pose(pose):
    hand, parents = template(), torch.tensor(POINT_PARENTS[1:])
    points = joint_positions(hand, forward_kinematics(hand, *pose))[0]
    posed, at_rest = ((p[1:] - p[parents]).norm(dim=1) for p in (points, rest_points()))
    torch.testing.assert_close(posed, at_rest, rtol=0, atol=MM)


@few
@given(poses())
def test_weights_share_out_each_vertex_so_that_one_motion_of_all_joints_is_its_own(pose):
    hand = template()
    torch.testing.assert_close(hand.weights.sum(1), torch.ones(len(hand.weights)), rtol=0, atol=1e-5)
    T = forward_kinematics(hand, *pose)[:, :1].expand(1, 16, 4, 4).contiguous()  # all move as the wrist does
    posed = skin(hand.vertices_mm, hand.weights, T)[0]
    expected = hand.vertices_mm @ T[0, 0, :3, :3].T + T[0, 0, :3, 3]
    torch.testing.assert_close(posed, expected, rtol=0, atol=MM)


@few
@given(poses())
def test_every_posed_vertex_lies_between_the_places_where_its_joints_would_put_it(pose):
    hand = template()
    M = skinning_transforms(hand, forward_kinematics(hand, *pose))[0]
    by_joint = torch.einsum("jrc,vc->vjr", M[:, :3, :3], hand.vertices_mm) + M[:, :3, 3]
    ignored = (hand.weights == 0)[..., None]
    low = by_joint.masked_fill(ignored, torch.inf).amin(1)
    high = by_joint.masked_fill(ignored, -torch.inf).amax(1)
    skinned = skin(hand.vertices_mm, hand.weights, M[None])[0]
    assert ((skinned > low - MM) & (skinned < high + MM)).all()
