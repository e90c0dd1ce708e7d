"""PoseNet: what goes in, what comes out, and that folding its normalisation changes nothing."""

import pytest
import roma
import torch
from torch import nn

from hrlib.network import NetworkSettings, PoseNet, fold_batch_norm, to_quaternion


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


@pytest.mark.parametrize("rotation", ["quaternion", "6d"])
@pytest.mark.parametrize("offset", [True, False])
def test_shapes_and_unit_quaternions(rotation, offset):
    prediction = network(rotation=rotation, offset=offset)(images())
    assert prediction.rotations.shape == (3, 16, 4)
    torch.testing.assert_close(prediction.rotations.norm(dim=-1), torch.ones(3, 16))
    assert (prediction.offset.shape == (3, 3)) if offset else (prediction.offset is None)
    assert not torch.allclose(prediction.rotations[0], prediction.rotations[1], atol=1e-3), "answers to the image"


@pytest.mark.parametrize("rotation", ["quaternion", "6d"])
def test_a_new_network_predicts_about_the_neutral_hand_in_the_middle(rotation):
    torch.manual_seed(0)
    prediction = PoseNet(NetworkSettings(rotation=rotation)).eval()(images())
    angle = roma.unitquat_geodesic_distance(prediction.rotations, torch.tensor([0.0, 0, 0, 1]).expand(3, 16, 4))
    assert angle.max() < 0.5 and (prediction.offset == 0).all()


def test_sixd_head_against_gram_schmidt_by_hand():
    raw = torch.randn(2, 16, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    a, b = raw[..., :3], raw[..., 3:]
    x = a / a.norm(dim=-1, keepdim=True)
    y = b - (x * b).sum(-1, keepdim=True) * x
    y = y / y.norm(dim=-1, keepdim=True)
    expected = torch.stack([x, y, torch.linalg.cross(x, y)], -1)
    torch.testing.assert_close(roma.unitquat_to_rotmat(to_quaternion(raw)), expected)


def test_quaternion_head_is_safe_at_zero():
    raw = torch.zeros(1, 16, 4, requires_grad=True)
    q = to_quaternion(raw)
    (grad,) = torch.autograd.grad(q.sum(), raw)
    assert torch.isfinite(q).all() and torch.isfinite(grad).all()


def test_about_seven_million_weights():
    for settings in (NetworkSettings(), NetworkSettings(rotation="6d"), NetworkSettings(batch_norm=True, offset=False)):
        assert 6e6 < sum(p.numel() for p in PoseNet(settings).parameters()) < 8e6


def test_folding_the_normalisation_changes_nothing():
    net = network(batch_norm=True)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):  # statistics as after a training, so that there is something to fold
            nn.init.normal_(module.running_mean, 0.0, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0.0, 0.2)
    folded = fold_batch_norm(net)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    assert folded.settings.batch_norm is False and not folded.training
    with torch.no_grad():
        ours, expected = folded(images()), net(images())
    torch.testing.assert_close(ours.rotations, expected.rotations, rtol=0, atol=1e-4)
    torch.testing.assert_close(ours.offset, expected.offset, rtol=0, atol=1e-4)
    folded_plain = PoseNet(folded.settings).eval()
    folded_plain.load_state_dict(folded.state_dict())  # names as a network made without normalisation has them
    with torch.no_grad():
        assert torch.equal(folded_plain(images()).rotations, ours.rotations)


def test_folding_leaves_the_network_alone_and_keeps_its_mode():
    net = network(batch_norm=True).train()
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


def test_gradients_reach_every_weight():
    net = network(batch_norm=True).train()
    prediction = net(images())
    (prediction.rotations[..., 0].sum() + prediction.offset.sum()).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() and p.grad.any() for p in net.parameters())


@pytest.mark.parametrize("shape", [(1, 96, 96), (120, 120), (1, 1, 120, 120), (2, 120, 121)])
def test_wrong_image_sizes(shape):
    with pytest.raises(ValueError, match=r"image must be \[B, 120, 120\]"):
        network()(torch.zeros(shape))


def test_unknown_rotation():
    with pytest.raises(ValueError, match=r"rotation must be one of \['6d', 'quaternion'\], got 'euler'"):
        NetworkSettings(rotation="euler")
