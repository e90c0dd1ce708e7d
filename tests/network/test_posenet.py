"""PoseNet: what goes in, what comes out, and that folding its normalisation changes nothing."""

import math

import pytest
import roma
import torch
from core_fixtures import random_rotations
from torch import nn

from hrlib.hand.rotations import euler_angles, from_euler, rotation_matrix
from hrlib.network.backbones import BACKBONES, FirstConv
from hrlib.network.posenet import NetworkSettings, PoseNet, fold_batch_norm, unfold_batch_norm
from hrlib.network.rotation_heads import ROTATIONS, to_quaternion


def images(count: int = 3) -> torch.Tensor:
    return torch.rand(count, 120, 120, generator=torch.Generator().manual_seed(1))


def network(**settings) -> PoseNet:
    """A network whose last layers answer to the image (as made, they are almost constant)."""
    torch.manual_seed(2)
    net = PoseNet(NetworkSettings(**settings)).eval()
    nn.init.normal_(net.theta.weight, std=0.05)
    if net.offset is not None:
        nn.init.normal_(net.offset.weight, std=0.05)
    return net


def test_the_prediction_of_one_image_is_a_batch():
    prediction = network(offset=False)(images())
    one = prediction[1]
    assert torch.equal(one.rotations, prediction.rotations[[1]]) and one.offset is None
    assert torch.equal(prediction[1:].rotations, prediction.rotations[1:])


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("rotation", ROTATIONS)
@pytest.mark.parametrize("offset", [True, False])
def test_shapes_and_unit_quaternions(backbone, rotation, offset):
    prediction = network(backbone=backbone, rotation=rotation, offset=offset)(images())
    assert prediction.rotations.shape == (3, 16, 4)
    torch.testing.assert_close(prediction.rotations.norm(dim=-1), torch.ones(3, 16))
    assert (prediction.offset.shape == (3, 3)) if offset else (prediction.offset is None)
    assert not torch.allclose(prediction.rotations[0], prediction.rotations[1], atol=1e-3), "answers to the image"


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("rotation", ROTATIONS)
def test_a_new_network_predicts_about_the_neutral_hand_in_the_middle(backbone, rotation):
    torch.manual_seed(0)
    prediction = PoseNet(NetworkSettings(rotation=rotation, backbone=backbone)).eval()(images())
    angle = roma.unitquat_geodesic_distance(prediction.rotations, torch.tensor([0.0, 0, 0, 1]).expand(3, 16, 4))
    assert prediction.offset.abs().max() < 0.5, "in the cube"
    if backbone != "votes":  # whose places vote at random at first
        assert angle.max() < 0.5 and (prediction.offset == 0).all()


def test_points_voted_for_answer_to_where_something_is_seen():
    torch.manual_seed(0)
    votes = PoseNet(NetworkSettings(backbone="votes")).eval().features
    votes.vote.weight.data[0::4] *= 100  # weights of the places that differ
    spot = torch.zeros(1, 1, 120, 120)
    spot[..., 50:70, 50:70] = 0.5
    seen = torch.cat([votes(spot), votes(spot.roll(16, -1))])[:, -63:].unflatten(1, (21, 3)) / votes.SCALE
    assert torch.isfinite(seen).all() and (seen[0] - seen[1]).abs().max() > 1e-4
    assert PoseNet(NetworkSettings()).eval()(images()).points is None


def test_sixd_head_against_gram_schmidt_by_hand():
    raw = torch.randn(2, 16, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    a, b = raw[..., :3], raw[..., 3:]
    x = a / a.norm(dim=-1, keepdim=True)
    y = b - (x * b).sum(-1, keepdim=True) * x
    y = y / y.norm(dim=-1, keepdim=True)
    expected = torch.stack([x, y, torch.linalg.cross(x, y)], -1)
    torch.testing.assert_close(roma.unitquat_to_rotmat(to_quaternion(raw)), expected)


def numbers_of(rotation: str, q: torch.Tensor) -> torch.Tensor:
    """What a head's last layer has to say for the rotation q (not normalised where the head does that itself)."""
    if rotation == "quaternion":
        return -2.5 * q  # of either sign and any length
    R = rotation_matrix(q)
    # the second column of the 6d head need not be orthogonal to the first
    return euler_angles(q) if rotation == "euler" else torch.cat([3 * R[..., 0], 0.5 * R[..., 1] + R[..., 0]], -1)


@pytest.mark.parametrize("rotation", ROTATIONS)
def test_every_head_reaches_every_rotation(rotation):
    q = random_rotations(50, seed=5)
    raw = numbers_of(rotation, q)
    assert raw.shape[-1] == len(ROTATIONS[rotation])
    # acos in the distance has an error of sqrt(eps) at zero; Euler angles are clamped 0.1 degrees around the singular one
    R, expected = rotation_matrix(to_quaternion(raw)), rotation_matrix(q)
    torch.testing.assert_close(R, expected, rtol=0, atol=5e-3 if rotation == "euler" else 1e-9)


@pytest.mark.parametrize("rotation", ROTATIONS)
@pytest.mark.parametrize("angle", [0.0, math.pi / 2, math.pi])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_gradients_of_every_head_are_finite_at_the_special_rotations(rotation, angle, axis):
    euler = torch.zeros(1, 16, 3, dtype=torch.float64)
    euler[..., axis] = angle
    q = from_euler(euler)
    raw = (euler if rotation == "euler" else numbers_of(rotation, q)).clone().requires_grad_()
    torch.testing.assert_close(rotation_matrix(to_quaternion(raw)), rotation_matrix(q), rtol=0, atol=1e-9)
    assert torch.autograd.gradcheck(lambda x: rotation_matrix(to_quaternion(x)), raw)


DEGENERATE = [
    ("quaternion", [0.0] * 4),
    ("6d", [0.0] * 6),
    ("6d", [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]),  # no second column
    ("6d", [0.0, 2.0, 0.0, 0.0, -3.0, 0.0]),  # the second along the first
    ("euler", [0.0] * 3),
    ("euler", [math.pi] * 3),
]


@pytest.mark.parametrize("rotation, numbers", DEGENERATE)
@pytest.mark.parametrize("scale", [1.0, 1e-9])
def test_every_head_is_a_rotation_with_a_bounded_gradient_where_its_numbers_name_none(rotation, numbers, scale):
    raw = (scale * torch.tensor(numbers)).expand(1, 16, -1).clone().requires_grad_()
    q = to_quaternion(raw)
    (grad,) = torch.autograd.grad(q.sum(), raw)
    torch.testing.assert_close(q.norm(dim=-1), torch.ones(1, 16))
    assert torch.isfinite(grad).all() and grad.abs().max() < 10


def test_numbers_of_no_head():
    with pytest.raises(ValueError, match=r"raw must end in 4 .*, 6 .* or 3 .* numbers a joint, got \[2, 16, 5\]"):
        to_quaternion(torch.zeros(2, 16, 5))


def test_about_seven_million_weights():
    for settings in (NetworkSettings(), NetworkSettings(rotation="6d"), NetworkSettings(batch_norm=True, offset=False)):
        assert 6e6 < sum(p.numel() for p in PoseNet(settings).parameters()) < 8e6


def test_the_other_backbones_cost_no_more_than_alexnet():
    from torch.utils.flop_counter import FlopCounterMode

    cost = {}
    for backbone in BACKBONES:
        net = PoseNet(NetworkSettings(rotation="6d", backbone=backbone))
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            net(images(1))
        cost[backbone] = counter.get_total_flops() / 2
        assert 1e6 < sum(p.numel() for p in net.parameters()) < 8e6
    assert cost["votes"] < 1.1 * cost["alexnet"] and cost["resnet"] < cost["alexnet"] < 100e6


def test_the_first_layer_is_the_convolution_that_it_replaces():
    torch.manual_seed(0)
    fast, image = FirstConv(8).double(), images()[:, None].double()
    expected = torch.nn.functional.conv2d(image, fast.weight, fast.bias, 4, 5)
    torch.testing.assert_close(fast(image), expected)


def trained_looking(**settings) -> PoseNet:
    """A network whose normalisation has statistics as after a training, so that there is something to fold."""
    net = network(batch_norm=True, **settings)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0.0, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0.0, 0.2)
    return net


def assert_same_answers(net: PoseNet, other: PoseNet):
    with torch.no_grad():
        ours, expected = net(images()), other(images())
    torch.testing.assert_close(ours.rotations, expected.rotations, rtol=0, atol=1e-4)
    torch.testing.assert_close(ours.offset, expected.offset, rtol=0, atol=1e-4)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_folding_the_normalisation_changes_nothing(backbone):
    net = trained_looking(backbone=backbone)
    folded = fold_batch_norm(net)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    assert folded.settings.batch_norm is False and not folded.training
    assert_same_answers(folded, net)
    folded_plain = PoseNet(folded.settings).eval()
    folded_plain.load_state_dict(folded.state_dict())  # names as a network made without normalisation has them
    with torch.no_grad():
        assert torch.equal(folded_plain(images()).rotations, folded(images()).rotations)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_unfolding_changes_nothing_and_starts_with_the_batch_it_is_given(backbone):
    folded = fold_batch_norm(trained_looking(backbone=backbone))
    unfolded = unfold_batch_norm(folded, images())
    assert unfolded.settings.batch_norm and not unfolded.training
    assert_same_answers(unfolded, folded)
    norms = [m for m in unfolded.modules() if isinstance(m, nn.BatchNorm2d)]
    running = [m.running_mean.clone() for m in norms]
    unfolded.train()(images())  # the same batch: its statistics are the running ones already
    for before, norm in zip(running, norms, strict=True):
        # in training the variance is divided by n, the running one by n - 1; n is 48 at the last of the layers
        assert ((norm.running_mean - before).abs() < 1e-2 * norm.running_var.sqrt()).all()


def test_folding_leaves_the_network_alone_and_keeps_its_mode():
    net = network(batch_norm=True, backbone="resnet").train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    assert fold_batch_norm(net).training
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items()) and net.training


def test_evaluation_is_deterministic_and_training_drops_out():
    net = network()
    with torch.no_grad():
        assert torch.equal(net(images()).rotations, net(images()).rotations)
        # an image's answer does not depend on the others of its batch (to the rounding of another matrix size)
        torch.testing.assert_close(net(images()[:1]).rotations, net(images()).rotations[:1], rtol=0, atol=1e-5)
        net.train()
        assert not torch.equal(net(images()).rotations, net(images()).rotations)
    assert net.dropout.p == pytest.approx(0.25)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_gradients_reach_every_weight(backbone):
    net = network(batch_norm=True, backbone=backbone).train()
    prediction = net(images())
    (prediction.rotations[..., 0].sum() + prediction.offset.sum()).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() and p.grad.any() for p in net.parameters())


@pytest.mark.parametrize("shape", [(1, 96, 96), (120, 120), (1, 1, 120, 120), (2, 120, 121)])
def test_wrong_image_sizes(shape):
    with pytest.raises(ValueError, match=r"image must be \[B, 120, 120\]"):
        network()(torch.zeros(shape))


def test_unknown_settings():
    with pytest.raises(ValueError, match=r"rotation must be 'quaternion', '6d' or 'euler', got 'matrix'"):
        NetworkSettings(rotation="matrix")
    with pytest.raises(ValueError, match=r"backbone must be 'alexnet', 'resnet' or 'votes', got 'vgg'"):
        NetworkSettings(backbone="vgg")
    with pytest.raises(ValueError, match=r"keep_probability must be in \(0, 1\], got 0"):
        NetworkSettings(keep_probability=0.0)


# -- a network that knows a population ----------------------------------------------------------------------------------


def test_a_network_that_was_never_told_anything_goes_on_unchanged():
    """The new layers begin as no change, so that a base model of one hand is a start."""
    one = network(backbone="votes", keep_probability=1.0)
    many = PoseNet(NetworkSettings(backbone="votes", keep_probability=1.0, shape=True)).eval()
    many.load_state_dict(one.state_dict(), strict=False)
    before, after = one(images()), many(images(), torch.full((3, 8), 0.1))
    assert torch.equal(before.rotations, after.rotations) and torch.equal(before.points, after.points)
    assert before.shape is None and torch.equal(after.shape, torch.zeros(3, 8))


def told_network() -> PoseNet:
    net = network(backbone="votes", keep_probability=1.0, shape=True)
    for layer in (net.told.last, net.shape):
        nn.init.normal_(layer.weight, std=0.05)
    return net


def test_what_is_told_of_a_shape_matters_to_its_own_image_alone():
    net, small = told_network(), torch.full((8,), -0.2)
    unknown, all_small = net(images()), net(images(), small.expand(3, 8))
    assert not torch.allclose(unknown.rotations, all_small.rotations, atol=1e-3)
    mixed = net(images(), torch.stack([small, torch.full((8,), torch.nan), small]))
    torch.testing.assert_close(mixed.rotations[[0, 2]], all_small.rotations[[0, 2]])
    torch.testing.assert_close(mixed.rotations[1], unknown.rotations[1])
    assert torch.isfinite(mixed.shape).all()


def test_a_network_remembers_what_it_was_told_until_it_is_told_something_else():
    net, small = told_network(), torch.full((8,), -0.2)
    unknown, there = net(images()), net(images(), small.expand(3, 8))
    torch.testing.assert_close(net.tell(small)(images()).rotations, there.rotations)
    torch.testing.assert_close(net.tell(None)(images()).rotations, unknown.rotations)


def test_a_network_of_one_hand_refuses_to_be_told():
    net = network(backbone="votes")
    for telling in (lambda: net.tell(torch.zeros(8)), lambda: net(images(), torch.zeros(3, 8))):
        with pytest.raises(ValueError, match="knows one hand"):
            telling()
    with pytest.raises(ValueError, match="votes"):
        NetworkSettings(shape=True)


def test_folding_the_normalisation_keeps_what_is_told():
    net = network(backbone="votes", keep_probability=1.0, shape=True, batch_norm=True)
    nn.init.normal_(net.told.last.weight, std=0.05)
    net.tell(torch.full((8,), 0.1))
    torch.testing.assert_close(fold_batch_norm(net)(images()).rotations, net(images()).rotations, atol=1e-4, rtol=0)
