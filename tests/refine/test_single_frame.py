"""Fitting one frame's pose and one frame's shape by gradient descent."""

import pytest
import roma
import torch
from core_fixtures import clean_batch, template

from hrlib.evaluation.joint_errors import joint_error_mm
from hrlib.hand.rotations import from_euler
from hrlib.losses import image_mse
from hrlib.method import PipelineSettings, evaluate_step, true_prediction
from hrlib.network.posenet import PoseNet
from hrlib.refine.single_frame import PoseFitSettings, ShapeFitSettings, bounded, downhill_share, fit_pose, fit_shape


def true_of(crops_index=slice(0, 1), hand=None):
    batch = clean_batch()
    crops = batch.crops[crops_index]
    rotations, wrist = batch.rotations[crops_index], batch.wrist_mm[crops_index]
    return true_prediction(rotations, wrist, hand or template(), crops), crops


def network_that_predicts(prediction) -> PoseNet:
    """A network that answers with one prediction to any image, until it is trained."""
    torch.manual_seed(0)
    net = PoseNet().eval()
    with torch.no_grad():
        net.theta.weight.zero_()
        net.theta.bias.copy_(prediction.rotations[0].flatten())
        net.offset.bias.copy_(prediction.offset[0])
    return net


def test_fit_pose_lowers_the_error_and_leaves_the_network_alone():
    true, crops = true_of()
    turn = from_euler(torch.deg2rad(torch.tensor([8.0, -6.0, 10.0])))
    start = true.rotations.clone()
    start[:, 0] = roma.quat_product(start[:, 0], turn[None])
    net = network_that_predicts(type(true)(start, true.offset + torch.tensor([0.03, -0.02, 0.02])))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    fit = fit_pose(net, template(), crops, PoseFitSettings(steps=8, learning_rate=2e-4))
    assert fit.mse.shape == (9, 1) and fit.joints_mm.shape == (9, 1, 21, 3)
    assert fit.mse[-1] < 0.6 * fit.mse[0]
    error = joint_error_mm(fit.joints_mm.flatten(0, 1), clean_batch().joints_mm[:1].expand(9, -1, -1))
    assert error[-1] < 0.75 * error[0], "towards the true joints, not just towards the image"
    # what is reported is what happened
    torch.testing.assert_close(fit.mse[0], image_mse(fit.before.rendered, fit.before.target))
    torch.testing.assert_close(fit.mse[-1], image_mse(fit.after.rendered, fit.after.target))
    torch.testing.assert_close(fit.joints_mm[-1], fit.after.joints_mm)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())


def test_each_frame_is_fitted_from_the_same_start():
    true, _ = true_of()
    net = network_that_predicts(true)
    crops = clean_batch().crops
    settings = PoseFitSettings(steps=1, learning_rate=1e-4)
    both, second = fit_pose(net, template(), crops[:2], settings), fit_pose(net, template(), crops[1], settings)
    assert both.mse.shape == (2, 2) and both.after.rendered.shape == (2, 120, 120)
    torch.testing.assert_close(both.mse[:, 1:], second.mse)
    with pytest.raises(ValueError, match="at least one frame"):
        fit_pose(net, template(), crops[[]], settings)


@pytest.fixture(scope="module")
def shape_fit():
    """The shape of a 10 % smaller hand fitted to frames of the template, in the true pose."""
    hand = template().morphed({}, scale=0.9)
    true, crops = true_of(slice(0, 2), hand)
    start = evaluate_step(true, hand, crops, PipelineSettings(terms=("depth",)))
    settings = ShapeFitSettings(steps=25, learning_rate_mm=0.5, reach_mm=6.0)
    return hand, start, fit_shape(true, hand, crops, settings, progress=False)


def test_fit_shape_lowers_the_loss(shape_fit):
    hand, start, fit = shape_fit
    torch.testing.assert_close(fit.before.loss, start.loss)
    assert (fit.after.loss < 0.7 * fit.before.loss).all()
    assert (fit.mse[-1] < 0.7 * fit.mse[0]).all() and fit.mse.shape == (26, 2)
    # the pose stays
    torch.testing.assert_close(fit.joints_mm, fit.joints_mm[:1].expand_as(fit.joints_mm))


def test_fit_shape_respects_its_reach(shape_fit):
    hand, _, fit = shape_fit
    moved = (fit.cloud_mm - hand.cloud_mm).norm(dim=-1)
    assert fit.cloud_mm.shape == (2, 2048, 3), "each frame has a shape of its own"
    assert moved.max() <= 6.0 + 1e-4 and moved.max() > 3.0
    assert not torch.equal(fit.cloud_mm[0], fit.cloud_mm[1])
    # hidden points are pulled by nothing
    assert (moved == 0).any(1).all()


def test_bounded():
    free = torch.tensor([[0.0, 0, 0], [3.0, 0, 4.0], [0, 1e6, 0], [1e-3, 0, 0]], dtype=torch.float64)
    got = bounded(free, 12.0)
    # |d| = 5 with a reach of 12: 5 * 12 / 13
    expected = torch.tensor([[0.0, 0, 0], [36 / 13, 0, 48 / 13], [0, 12, 0], [1e-3, 0, 0]], dtype=torch.float64)
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-9)
    assert (got.norm(dim=-1) <= 12).all()
    free.requires_grad_()
    (grad,) = torch.autograd.grad(bounded(free, 12.0).sum(), free)
    assert torch.isfinite(grad).all() and torch.allclose(grad[0], torch.ones(3, dtype=torch.float64))


def test_a_small_step_against_the_gradient_lowers_the_depth_term():
    """Of frames whose predicted pose is a little off; along the gradient the term grows."""
    true, crops = true_of(slice(0, 4))
    turn = from_euler(torch.deg2rad(torch.tensor([5.0, -4.0, 6.0])))
    start = roma.quat_product(true.rotations, turn.expand(4, 16, 4))
    step = evaluate_step(type(true)(start.requires_grad_(), true.offset), template(), crops)
    (pull,) = torch.autograd.grad(step.terms["depth"].sum(), step.cloud)
    assert downhill_share(step.detach(), pull, crops) == 1
    assert downhill_share(step.detach(), -pull, crops) == 0
