"""The terms of Eq. 1 against numbers computed by hand."""

import math

import pytest
import torch
from core_fixtures import FIST_DEG, pose, posed, random_rotations, template

from hrlib.hand.joints import JOINT_NAMES, POINT_NAMES, POINT_PARENTS
from hrlib.hand.kinematics import joint_positions
from hrlib.hand.rotations import from_euler
from hrlib.losses import LossWeights, collision_loss, depth_loss, penetration_mm, physical_loss, weighted_sum

# -- depth (Eq. 6) ----------------------------------------------------------------------------------------------------


def test_depth_is_the_mean_absolute_difference_of_each_image():
    rendered, target = torch.zeros(2, 2, 4), torch.zeros(2, 2, 4)
    rendered[0, 0, 1], target[0, 1, 2] = 0.5, 0.25  # only one of both covers the pixel: both count
    rendered[1, 0, 0] = target[1, 0, 0] = 0.7
    torch.testing.assert_close(depth_loss(rendered, target), torch.tensor([0.75 / 8, 0.0]))


def test_depth_refuses_images_of_different_shape():
    with pytest.raises(ValueError, match=r"must have one shape, got \[1, 4, 4\] and \[4, 4\]"):
        depth_loss(torch.zeros(1, 4, 4), torch.zeros(4, 4))


# -- collision (Eq. 7) ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "point, depth",
    [
        ((0, 0, 20), 7.0),  # on the axis, far from the caps: the wall is nearest
        ((5, 0, 20), 2.0),  # 2 mm inside the wall
        ((3, 4, 20), 2.0),  # the same distance in another direction
        ((0, 0, 38.5), 1.5),  # near the far cap
        ((0, 0, 3), 3.0),  # near the near cap
        ((6.5, 0, 39.8), 0.2),  # near both: the nearer one
        ((6.8, 0, 39), 0.2),
        ((8, 0, 20), 0.0),  # outside the wall
        ((0, 0, 41), 0.0),  # beyond a cap
        ((0, 0, -1), 0.0),
        ((8, 0, 50), 0.0),
    ],
)
def test_penetration_of_a_cylinder_by_hand(point, depth):
    """A cylinder along z, 40 mm long, 7 mm thick."""
    a, b = torch.zeros(3, dtype=torch.float64), torch.tensor([0.0, 0, 40], dtype=torch.float64)
    got = penetration_mm(a, b, torch.tensor(point, dtype=torch.float64), 7.0)
    # the distance to the axis is rounded up by 1e-6, to keep its gradient finite on the axis
    assert got.item() == pytest.approx(depth, abs=2e-6)


def scattered_points() -> torch.Tensor:
    """Five straight fingers far apart, so that nothing collides and the line from thumb to pinky is free: [1, 21, 3]."""
    points = torch.zeros(1, 21, 3, dtype=torch.float64)
    for i in range(1, 21):
        finger, part = divmod(i - 1, 4)
        points[0, i] = torch.tensor([200.0 * (finger - 2), 100.0 + 40 * part, (0.0, 300, -300, 300, 0)[finger]])
    return points


def test_collision_by_hand():
    points = scattered_points()
    assert collision_loss(points).item() == 0
    # the thumb's tip into the middle of the pinky's last bone (180 to 220 mm up), 3 mm off its axis: 4 mm deep
    pinky_far, pinky_tip = points[0, 19].clone(), points[0, 20].clone()
    points[0, 4] = (pinky_far + pinky_tip) / 2 + torch.tensor([0.0, 0.0, -3.0])
    assert collision_loss(points).item() == pytest.approx(4 / 21, abs=1e-6)
    assert collision_loss(points, radius_mm=2.0).item() == 0
    # a batch holds one value an image
    torch.testing.assert_close(
        collision_loss(torch.cat([points, scattered_points()])), torch.tensor([4 / 21, 0]).double(), rtol=0, atol=1e-6
    )


def test_a_bones_own_ends_do_not_count():
    """Both ends of a bone lie in its cylinder's caps; a bone shorter than the radius must not push its own ends."""
    points = scattered_points()
    points[0, 4] = points[0, 3] + torch.tensor([0.0, 2.0, 0.0])
    assert collision_loss(points).item() == 0


def test_rest_hand_has_no_collision_but_a_thumb_in_the_fist_has():
    hand = template()
    thumb = {"thumb_base": (27, 4, 0), "thumb_middle": (37, 10, 0), "thumb_far": (59, -2, 0)}
    rotations = torch.cat([hand.rest_rotations[None], pose({}), pose(FIST_DEG), pose(FIST_DEG | thumb)])
    rest, neutral, fist, thumb_inside = collision_loss(joint_positions(hand, posed(hand, rotations)[1]))
    assert rest == 0 and neutral == 0 and fist == 0
    assert thumb_inside > 0.3, "millimetres, averaged over the 21 points"


def test_gradient_of_collision_pushes_apart():
    points = scattered_points()
    middle = (points[0, 19] + points[0, 20]) / 2
    points[0, 4] = middle + torch.tensor([0.0, 0.0, -3.0])
    points.requires_grad_()
    (grad,) = torch.autograd.grad(collision_loss(points).sum(), points)
    # a step against the gradient moves the thumb's tip outwards and the pinky's bone the other way
    assert -grad[0, 4, 2] < 0 and -grad[0, 19, 2] > 0 and -grad[0, 20, 2] > 0
    moved = points.detach() - 5 * grad
    assert collision_loss(moved) < collision_loss(points.detach())
    assert torch.autograd.gradcheck(collision_loss, (points,))


def test_collision_is_finite_on_axes_and_for_bones_without_length():
    for points in (torch.zeros(1, 21, 3), torch.zeros(1, 21, 3) + torch.arange(21.0)[None, :, None]):
        points.requires_grad_()
        loss = collision_loss(points)
        (grad,) = torch.autograd.grad(loss.sum(), points)
        assert torch.isfinite(loss).all() and torch.isfinite(grad).all()


def test_collision_does_not_depend_on_place_and_turn():
    hand = template(torch.float64)
    rotations = random_rotations(4, seed=3)
    rotations[:, 0] = torch.tensor([0.0, 0, 0, 1], dtype=torch.float64)
    turned = rotations.clone()
    turned[:, 0] = random_rotations(4, seed=4)[:, 0]
    one, other = (collision_loss(joint_positions(hand, posed(hand, q)[1])) for q in (rotations, turned))
    assert one.max() > 0.5
    torch.testing.assert_close(one, other)


def test_bones_of_the_collision_term():
    assert len(POINT_NAMES) - 1 == 20 and all(parent < child for child, parent in enumerate(POINT_PARENTS))


# -- physical (Eq. 8) -------------------------------------------------------------------------------------------------


def test_physical_is_zero_inside_the_limits():
    hand = template(torch.float64)
    low, high = hand.limits_rad[1:].unbind(-1)
    for share in (0.001, 0.5, 0.999):
        angles = torch.cat([torch.zeros(1, 3), low + share * (high - low)])[None]
        assert physical_loss(from_euler(angles), hand.limits_rad).item() == 0
    assert physical_loss(hand.rest_rotations[None], hand.limits_rad).item() < 1e-3


@pytest.mark.parametrize(
    "angles_deg, excess_deg",
    [
        ({"index_middle": (120, 0, 0)}, 10),  # bends to 110
        ({"index_middle": (-25, 0, 0)}, 20),  # and stretches to -5
        ({"thumb_far": (0, 9, 0)}, 4),  # deviates to 5
        ({"ring_base": (0, 0, -12)}, 7),  # twists to -5
        ({"ring_base": (100, 0, -12), "pinky_far": (0, 10, 0)}, 10 + 7 + 4),
    ],
)
def test_physical_by_hand(angles_deg, excess_deg):
    hand = template(torch.float64)
    got = physical_loss(pose(angles_deg, torch.float64), hand.limits_rad)
    assert got.shape == (1,)
    assert got.item() == pytest.approx(math.radians(excess_deg), abs=1e-6)


def test_the_wrist_turns_freely():
    hand = template(torch.float64)
    q = pose({}, torch.float64).repeat(50, 1, 1)
    q[:, 0] = random_rotations(50, seed=1)[:, 0]
    assert (physical_loss(q, hand.limits_rad) == 0).all()


def test_gradient_of_physical_leads_back_into_the_limits():
    hand = template(torch.float64)
    angles = torch.zeros(1, 16, 3, dtype=torch.float64)
    joint = JOINT_NAMES.index("middle_middle")
    angles[0, joint] = torch.deg2rad(torch.tensor([130.0, -15.0, 20.0], dtype=torch.float64))
    angles.requires_grad_()
    (grad,) = torch.autograd.grad(physical_loss(from_euler(angles), hand.limits_rad).sum(), angles)
    wanted = torch.zeros(16, 3, dtype=torch.float64)
    wanted[joint] = torch.tensor([1.0, -1.0, 1.0])
    torch.testing.assert_close(grad[0], wanted, rtol=0, atol=1e-6)


def test_physical_is_free_of_nan_at_singular_poses():
    hand = template()
    half = math.pi / 2
    for q in (torch.eye(4)[0], torch.eye(4)[3], from_euler(torch.tensor([0.0, half, 0])), torch.eye(4)[1]):
        theta = q.repeat(1, 16, 1).requires_grad_()
        loss = physical_loss(theta, hand.limits_rad)
        (grad,) = torch.autograd.grad(loss.sum(), theta)
        assert torch.isfinite(loss).all() and torch.isfinite(grad).all()


# -- their sum (Eq. 1) ------------------------------------------------------------------------------------------------


def test_weighted_sum():
    terms = {
        "depth": torch.tensor([0.1, 0.2]),
        "collision": torch.tensor([3.0, 0.0]),
        "physical": torch.tensor([1.0, 2]),
    }
    weights = LossWeights(depth=10, collision=0.5, physical=2)
    torch.testing.assert_close(weighted_sum(terms, weights), torch.tensor([1 + 1.5 + 2, 2 + 4.0]))
    torch.testing.assert_close(weighted_sum({"collision": terms["collision"]}, weights), torch.tensor([1.5, 0.0]))
    with pytest.raises(AttributeError):
        weighted_sum({"gravity": terms["depth"]}, weights)
