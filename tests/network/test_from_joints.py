"""A network of joints as one of poses: exact on poses of the same bones, in any order and unit, with gradients."""

import warnings

import pytest
import torch
from core_fixtures import clean_batch, random_rotations, template
from refine_fixtures import BEST, PAPER, run
from torch import nn

from hrlib import FromJoints
from hrlib.hand.inverse_kinematics import palm_of, rotations_of_joints, with_bones
from hrlib.hand.joints import JOINT_NAMES, JOINT_POINTS, POINT_NAMES
from hrlib.hand.kinematics import forward_kinematics, joint_positions
from hrlib.hand.rotations import euler_angles, from_euler
from hrlib.losses import physical_loss
from hrlib.method import predicted_joints
from hrlib.network.predict import predict
from hrlib.synthetic.poses import sample_poses


class Gives(nn.Module):
    """A network whose one weight are the joints that it gives."""

    def __init__(self, joints):
        super().__init__()
        self.joints = nn.Parameter(joints)

    def forward(self, image):
        return self.joints + 0 * image.sum()


def poses(count: int = 12, dtype: torch.dtype = torch.float64, twist: bool = False) -> torch.Tensor:
    """Feasible poses in any view, without twist unless it is asked for."""
    q = sample_poses(count, template(torch.float32), torch.Generator().manual_seed(2)).to(dtype)
    if not twist:
        angles = euler_angles(q)
        q = from_euler(torch.cat([angles[..., :2], torch.zeros_like(angles[..., 2:])], -1))
    q[:, 0] = random_rotations(count, 4, dtype)[:, 0]
    return q


def points(hand, q):
    return joint_positions(hand, forward_kinematics(hand, q, torch.zeros(len(q), 3, dtype=q.dtype)))


def test_joints_of_the_same_bones_give_the_pose_they_come_from():
    hand, q = template(torch.float64), poses()
    found = rotations_of_joints(points(hand, q), palm_of(hand))
    assert (found * q).sum(-1).abs().min() > 1 - 1e-9


def test_bones_twist_and_size_change_no_joint_of_the_hand_by_more_than_they_must():
    """Twisted fingers are met exactly, and those of other lengths in their directions."""
    hand, q = template(torch.float64), poses(twist=True)
    seen = points(hand, q)
    torch.testing.assert_close(points(hand, rotations_of_joints(seen, palm_of(hand))), seen, atol=1e-4, rtol=0)
    longer = with_bones(hand, torch.tensor([0.3 if i % 3 else 0.0 for i in range(15)] + [0.3] * 5, dtype=torch.float64))
    again = rotations_of_joints(0.8 * points(longer, q) + 7, palm_of(hand))
    torch.testing.assert_close(points(longer, again), points(longer, q), atol=1e-3, rtol=0)


def test_sixteen_joints_bend_the_far_ones_by_two_thirds():
    hand, q = template(torch.float64), poses()
    found = euler_angles(rotations_of_joints(points(hand, q)[:, JOINT_POINTS], palm_of(hand)))
    middle, far = (found[:, 1 + k :: 3] for k in (1, 2))
    torch.testing.assert_close(far[:, 1:, 0], middle[:, 1:, 0] * 2 / 3)
    assert not far[:, 0].any() and not far[..., 1:].any()
    torch.testing.assert_close(middle, euler_angles(q)[:, 2::3], atol=1e-4, rtol=0)


def test_its_gradient_is_right_and_finite_where_joints_coincide():
    hand, q = template(torch.float64), poses(2)
    palm = palm_of(hand)
    seen = points(hand, q).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: points(hand, rotations_of_joints(x, palm)), (seen,), atol=1e-4)
    nothing = torch.zeros(1, 21, 3, requires_grad=True)
    found = rotations_of_joints(nothing, palm.float())
    (physical_loss(found, template().limits_rad) + found.sum()).sum().backward()
    assert found.isfinite().all() and nothing.grad.isfinite().all()


def test_a_network_of_joints_predicts_the_joints_that_it_sees_whatever_their_order_and_unit():
    batch, hand = clean_batch(), template()
    seen = (batch.joints_mm - batch.crops.centre_mm[:, None]) / batch.crops.cube_mm
    names = [*POINT_NAMES[5:], *POINT_NAMES[:5]]  # the thumb and the wrist last
    order = [POINT_NAMES.index(name) for name in names]
    for unit, made in ((1.0, seen), ((0.5, 0.5, -0.5), seen * torch.tensor([2.0, 2.0, -2.0]))):
        net = FromJoints(Gives(made[:, order].flatten(1)), hand, names, unit)
        said = net(batch.crops.image)
        torch.testing.assert_close(predicted_joints(said, hand, batch.crops), batch.joints_mm, atol=0.05, rtol=0)
        torch.testing.assert_close(said.points, seen)
    few = FromJoints(Gives(seen[:, JOINT_POINTS]), hand, JOINT_NAMES)(batch.crops.image)
    assert few.points is None
    found = predicted_joints(few, hand, batch.crops)[:, JOINT_POINTS]
    torch.testing.assert_close(found, batch.joints_mm[:, JOINT_POINTS], atol=0.05, rtol=0)


def test_wrong_names_and_numbers_of_joints_are_refused():
    batch, hand = clean_batch(), template()
    with pytest.raises(ValueError, match="names must be the 21 of .* got 14: palm"):
        FromJoints(nn.Identity(), hand, ["palm"] * 14)
    with pytest.raises(
        ValueError, match=r"network Gives in FromJoints must give joints \[4, 21, 3\], got \[4, 16, 3\]"
    ):
        FromJoints(Gives(torch.zeros(4, 16, 3)), hand)(batch.crops.image)
    with pytest.raises(ValueError, match=r"points must be \[B, 21, 3\] or \[B, 16, 3\]"):
        rotations_of_joints(torch.zeros(4, 14, 3), palm_of(hand))


@pytest.mark.parametrize("unit", [0.0, "mm", (0.5, 0.5), (0.5, 0.5, 0.0), float("nan")])
def test_a_unit_of_no_length_is_refused(unit):
    with pytest.raises(ValueError, match="unit must be a number other than 0, or one for each axis, .* got"):
        FromJoints(nn.Identity(), template(), unit=unit)


def test_arguments_in_another_order_and_millimetres_without_their_unit_are_told():
    with pytest.raises(ValueError, match=r"wanted FromJoints\(model, hand\), .* got HandRig and Identity"):
        FromJoints(template(), nn.Identity())
    batch, hand = clean_batch(), template()
    millimetres = Gives(batch.joints_mm - batch.crops.centre_mm[:, None])
    with pytest.warns(UserWarning, match="network FromJoints: offset is .* edges .*give FromJoints its unit"):
        predict(FromJoints(millimetres, hand), batch.crops)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predict(FromJoints(millimetres, hand, unit=1 / 250), batch.crops)


class Regresses(nn.Module):
    """Joints by one layer on averages of the image, about a hand."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(36, 63)
        batch = clean_batch()
        seen = (batch.joints_mm - batch.crops.centre_mm[:, None]) / batch.crops.cube_mm
        nn.init.normal_(self.layer.weight, std=1e-3)
        self.layer.bias.data = seen[0].flatten().clone()

    def forward(self, image):
        return self.layer(nn.functional.avg_pool2d(image, 20).flatten(1))


@pytest.mark.parametrize("settings", [PAPER, BEST], ids=["paper", "best"])
def test_both_recipes_refine_the_weights_of_a_network_of_joints(settings):
    torch.manual_seed(5)
    net = FromJoints(Regresses(), template()).eval()
    refined = run(net, clean_batch().crops, settings)
    assert not torch.equal(refined.net.model.layer.weight, net.model.layer.weight)
    assert refined.net.model.layer.weight.isfinite().all()
