"""The method on a batch: every intermediate, both translations, and where gradients go."""

import pytest
import torch
from core_fixtures import clean_batch, random_rotations, template
from torch import nn

from hrlib.hand.kinematics import forward_kinematics
from hrlib.hand.skinning import skin, skinning_transforms
from hrlib.losses import LossWeights
from hrlib.method import (
    PipelineSettings,
    evaluate_step,
    from_crop,
    posed_cloud,
    splat_target,
    to_crop,
    to_pixels,
    visible_centre,
    wrist_position,
)
from hrlib.network.posenet import NetworkSettings, PoseNet, Prediction


def truth() -> Prediction:
    batch = clean_batch()
    return batch.true_prediction(template())


def test_intermediates_and_their_shapes():
    batch, hand = clean_batch(), template()
    step = evaluate_step(truth(), hand, batch.crops)
    shapes = {k: tuple(getattr(step, k).shape) for k in step.__dataclass_fields__ if k != "terms"}
    assert shapes == {
        "rotations": (4, 16, 4),
        "T_cam_joint": (4, 16, 4, 4),
        "joints_mm": (4, 21, 3),
        "cloud": (4, 2048, 3),
        "rendered": (4, 120, 120),
        "target": (4, 120, 120),
        "loss": (4,),
    }
    assert {k: tuple(v.shape) for k, v in step.terms.items()} == dict.fromkeys(("depth", "collision", "physical"), (4,))
    assert (step.cloud > 0).all() and (step.cloud < 1).all(), "the whole hand is in the cube"
    assert torch.equal(step.target, splat_target(batch.crops))
    assert (step.terms["physical"] < 1e-3).all() and (step.terms["collision"] <= 0.1).all()


def test_a_known_target_is_used_as_it_is():
    target = torch.rand(4, 120, 120, generator=torch.Generator().manual_seed(1))
    step = evaluate_step(truth(), template(), clean_batch().crops, target=target)
    assert step.target is target
    torch.testing.assert_close(step.terms["depth"], (step.rendered - target).abs().mean((1, 2)))


def test_terms_and_weights_choose_what_counts():
    batch, hand = clean_batch(), template()
    prediction = Prediction(random_rotations(4, seed=1, dtype=torch.float32), truth().offset)
    weights = LossWeights(depth=2.0, collision=3.0, physical=5.0)
    steps = {
        terms: evaluate_step(prediction, hand, batch.crops, PipelineSettings(terms=terms, weights=weights))
        for terms in (("depth",), ("collision", "physical"), ("depth", "collision", "physical"))
    }
    values = steps[("depth",)].terms
    assert all(v.min() > 0 or name == "collision" for name, v in values.items())
    torch.testing.assert_close(steps[("depth",)].loss, 2 * values["depth"])
    torch.testing.assert_close(steps[("collision", "physical")].loss, 3 * values["collision"] + 5 * values["physical"])
    everything = steps[("depth", "collision", "physical")].loss
    torch.testing.assert_close(everything, steps[("depth",)].loss + steps[("collision", "physical")].loss)


def test_wrist_position_and_true_prediction_are_inverse():
    batch, hand = clean_batch(), template()
    torch.testing.assert_close(wrist_position(truth(), hand, batch.crops), batch.wrist_mm, rtol=0, atol=1e-3)
    torch.testing.assert_close(evaluate_step(truth(), hand, batch.crops).joints_mm, batch.joints_mm, rtol=0, atol=1e-3)
    # the offset is that of the middle finger's base (21 points: index 9), whatever the wrist's rotation
    expected = (batch.joints_mm[:, 9] - batch.crops.centre_mm) / 250
    torch.testing.assert_close(truth().offset, expected, rtol=0, atol=1e-5)


def test_without_offset_head_the_anchor_is_in_the_middle():
    batch, hand = clean_batch(), template()
    step = evaluate_step(Prediction(batch.rotations, None), hand, batch.crops)
    torch.testing.assert_close(step.joints_mm[:, 9], batch.crops.centre_mm, rtol=0, atol=1e-3)


def test_com_brings_the_visible_centre_to_the_crops_centre():
    batch, hand = clean_batch(), template()
    settings = PipelineSettings(translation="com")
    away = Prediction(batch.rotations, truth().offset + torch.tensor([0.08, -0.05, 0.1]))
    step = evaluate_step(away, hand, batch.crops, settings)
    # moved by fractions of a pixel, and in depth, pixels change their winners: about a millimetre is left
    centre = visible_centre(step.cloud, settings)
    torch.testing.assert_close(centre, torch.full((4, 3), 0.5), rtol=0, atol=6e-3)
    before = visible_centre(evaluate_step(away, hand, batch.crops).cloud, settings)
    assert ((before - 0.5).abs() > 0.02).any(1).all(), "there was something to do"
    # joints move with the cloud
    plain = evaluate_step(away, hand, batch.crops)
    shift = (step.cloud - plain.cloud)[:, :1] * 250
    torch.testing.assert_close(step.joints_mm, plain.joints_mm + shift, rtol=0, atol=1e-2)
    assert torch.equal(step.T_cam_joint[..., :3], plain.T_cam_joint[..., :3]), "nothing turns"


def test_posed_cloud_is_the_skinned_one_brought_to_the_crop():
    batch, hand = clean_batch(), template()
    T = forward_kinematics(hand, batch.rotations, batch.wrist_mm)
    weight, results = torch.randn(4, 2048, 3, generator=torch.Generator().manual_seed(1)), []
    for points in (
        lambda P, T: posed_cloud(hand, P, T, batch.crops),
        lambda P, T: to_crop(skin(P, hand.cloud_weights, skinning_transforms(hand, T)), batch.crops),
    ):
        inputs = hand.cloud_mm.clone().requires_grad_(), T.clone().requires_grad_()
        cloud = points(*inputs)
        results.append((cloud, *torch.autograd.grad(cloud, inputs, weight)))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=0, atol=2e-6)  # float32 of 600 mm in 250
    for ours, theirs in zip(results[0][1:], results[1][1:], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5 * theirs.abs().max().item())


def test_crop_frame_pixels_and_back():
    batch = clean_batch()
    points_mm = batch.joints_mm
    cropped = to_crop(points_mm, batch.crops)
    torch.testing.assert_close(from_crop(cropped, batch.crops), points_mm, rtol=0, atol=1e-3)
    middle = to_crop(batch.crops.centre_mm[:, None], batch.crops)
    torch.testing.assert_close(middle, torch.full((4, 1, 3), 0.5))
    corners = to_pixels(torch.tensor([[[0.0, 0.0, 0.25], [1.0, 1.0, 1.0]]]))
    # the cube's faces are half a pixel outside of the first and last pixels' centres
    torch.testing.assert_close(corners, torch.tensor([[[-0.5, -0.5, 0.25], [119.5, 119.5, 1.0]]]))


def test_points_of_a_frame_are_drawn_where_its_image_shows_them():
    batch = clean_batch()
    image, target = batch.crops.image, splat_target(batch.crops)
    on = image > 0
    # the image is seen in perspective and the splats are not, so that the outlines of what is near or far are apart by
    # some pixels; splats reach beyond the outline and dip between points; the rest agrees to some millimetres
    assert (target[on] > 0).float().mean() > 0.98
    assert (image - target)[on].abs().median() * 250 < 10


@pytest.mark.parametrize("translation", ["offset", "com"])
def test_gradients_reach_the_weights_and_the_shape(translation):
    batch, hand = clean_batch(), template()
    torch.manual_seed(0)
    net = PoseNet(NetworkSettings()).eval()
    nn.init.normal_(net.offset.weight, std=1e-3)
    with torch.no_grad():
        net.offset.bias.copy_(truth().offset.mean(0))
    P = hand.cloud_mm.clone().requires_grad_()
    step = evaluate_step(net(batch.crops.image), hand, batch.crops, PipelineSettings(translation=translation), P)
    step.loss.sum().backward()
    for name, weight in net.named_parameters():
        assert torch.isfinite(weight.grad).all(), name
        if translation == "offset":
            assert weight.grad.any(), name
    assert net.theta.weight.grad.any() and net.features[0].weight.grad.any()
    assert torch.isfinite(P.grad).all() and P.grad.any(1).float().mean() > 0.1
    assert not hand.cloud_mm.requires_grad


def test_gradient_of_depth_leads_towards_the_truth():
    batch, hand = clean_batch(), template()
    off = torch.tensor([0.03, -0.02, 0.025])
    offset = (truth().offset + off).requires_grad_()
    step = evaluate_step(Prediction(batch.rotations, offset), hand, batch.crops, PipelineSettings(terms=("depth",)))
    (grad,) = torch.autograd.grad(step.loss.sum(), offset)
    assert ((grad * off).sum(1) > 0).all()


def test_one_shape_each_or_one_for_all():
    batch, hand = clean_batch(), template()
    shared = evaluate_step(truth(), hand, batch.crops, cloud_mm=hand.cloud_mm * 1.02)
    each = evaluate_step(truth(), hand, batch.crops, cloud_mm=(hand.cloud_mm * 1.02).expand(4, -1, -1))
    torch.testing.assert_close(shared.rendered, each.rendered)


def test_detached_step_has_the_same_numbers_and_no_graph():
    batch, hand = clean_batch(), template()
    P = hand.cloud_mm.clone().requires_grad_()
    step = evaluate_step(truth(), hand, batch.crops, cloud_mm=P)
    assert step.loss.requires_grad and step.terms["depth"].requires_grad
    detached = step.detach()
    assert not detached.loss.requires_grad and not detached.terms["depth"].requires_grad
    assert torch.equal(detached.rendered, step.rendered.detach())


def test_settings_refuse_what_is_unknown():
    with pytest.raises(ValueError, match="translation must be 'offset' or 'com', got 'root'"):
        PipelineSettings(translation="root")
    for terms in (("depth", "gravity"), ()):
        with pytest.raises(ValueError, match="terms must be some of depth, collision, physical"):
            PipelineSettings(terms=terms)
    with pytest.raises(TypeError):
        PipelineSettings(radius=5)


def test_wrong_shapes_are_named():
    batch, hand = clean_batch(), template()
    with pytest.raises(ValueError, match="rendered and target must have one shape"):
        evaluate_step(truth(), hand, batch.crops, target=torch.zeros(4, 60, 60))
    with pytest.raises(ValueError, match="points must be"):
        evaluate_step(truth(), hand, batch.crops, cloud_mm=hand.cloud_mm[:100])


def test_inputs_that_do_not_belong_together_are_named():
    batch, hand = clean_batch(), template()
    with pytest.raises(ValueError, match=r"evaluate_step\(prediction, hand, crops\), got HandRig, Prediction, Crops"):
        evaluate_step(hand, truth(), batch.crops)
    with pytest.raises(ValueError, match="one number of images, got prediction of 4, crops of 2$"):
        evaluate_step(truth(), hand, batch.crops[:2])
    with pytest.raises(ValueError, match="prediction of 4, crops of 4, target of 1"):
        evaluate_step(truth(), hand, batch.crops, target=torch.zeros(1, 120, 120))
    double = Prediction(truth().rotations.double(), truth().offset.double())
    with pytest.raises(ValueError, match="prediction is of torch.float64, and hand of torch.float32"):
        evaluate_step(double, hand, batch.crops)
