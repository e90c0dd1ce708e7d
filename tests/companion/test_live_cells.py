"""The live cells: what they compute, and that moving a control redraws the picture."""

import io

import numpy as np
import pytest
import torch
from core_fixtures import clean_batch, template
from PIL import Image

from hrlib.companion import live_cells as live
from hrlib.companion.hand_explorer import look
from hrlib.companion.live_cells import (
    DescentView,
    LandscapeView,
    SlideView,
    finger_of,
    landscape,
    slide,
    turned,
)
from hrlib.hand.named_poses import ANGLES, pose
from hrlib.hand.rotations import euler_angles
from hrlib.losses import LossWeights
from hrlib.method import evaluate_step
from hrlib.refine.single_frame import ShapeFitSettings, fit_shape


def truth():
    batch = clean_batch()
    return batch.true_prediction(template())


def finger() -> torch.Tensor:
    return finger_of(template(), look(template(), pose({}), 60).step.cloud[0])


# ---- one finger before the renderer


def test_fingers_are_parts_of_the_cloud_without_the_palm():
    cloud = torch.arange(3.0 * len(template().cloud_mm)).reshape(-1, 3)
    parts = [finger_of(template(), cloud, k) for k in range(5)]
    carried = (template().cloud_weights.argmax(1) > 0).sum()
    assert min(len(part) for part in parts) > 20
    assert len(torch.cat(parts).unique(dim=0)) == carried < len(cloud)


def test_a_point_beyond_twice_the_radius_is_pulled_nowhere():
    found = slide(torch.tensor([[0.2, 0.7, 0.5]]), 4.0)
    apart, near = found.shift_px.abs() >= 8, (found.shift_px.abs() > 0.5) & (found.shift_px.abs() < 5.5)
    pull = found.slope * found.shift_px.sign() / found.slope.abs().max()
    assert pull[apart].abs().max() < 1e-6 and pull[near].min() > 0.05  # float32: the two sides of a point cancel
    assert found.loss[found.shift_px == 0] == 0
    np.testing.assert_allclose(found.loss[apart], 2 * found.target.mean().item(), rtol=1e-5)  # float32 means
    assert 5 <= found.reach_px < 8


def test_slope_is_that_of_the_loss():
    at, h = torch.tensor([-9.3, 3.4, 11.2]), 0.01
    points = finger().double()
    by_hand = (slide(points, 5.0, at.double() + h).loss - slide(points, 5.0, at.double() - h).loss) / (2 * h)
    assert by_hand.abs().min() > 1e-4
    # pixels change hands between the two ends of the difference, hence not closer
    np.testing.assert_allclose(slide(points, 5.0, at.double()).slope, by_hand, rtol=0.02)


def test_a_larger_radius_reaches_farther():
    reach = [slide(finger(), radius).reach_px for radius in (2, 5, 10)]
    assert 0 < reach[0] < reach[1] < reach[2]


# ---- the loss along one joint


def test_turning_sets_one_angle_and_no_other():
    before, name = truth()[2], "ring_middle_flexion"
    after = turned(before, name, torch.tensor([10.0, 50.0]))
    wanted = euler_angles(before.rotations).rad2deg().repeat(2, 1, 1)
    wanted[:, ANGLES[name].joint, ANGLES[name].axis] = torch.tensor([10.0, 50.0])
    found = euler_angles(after.rotations).rad2deg()
    torch.testing.assert_close(found[:, 1:], wanted[:, 1:], atol=0.02, rtol=0)  # float32 through asin
    torch.testing.assert_close(after.rotations[:, 0], before.rotations[:, 0].expand(2, 4))
    torch.testing.assert_close(after.offset, before.offset.expand(2, 3))


def test_turning_refuses_unknown_angles_and_batches():
    with pytest.raises(ValueError, match="unknown angle 'ring'; names are joint_axis"):
        turned(truth()[0], "ring", torch.zeros(1))
    with pytest.raises(ValueError, match="of one frame, got 4: index it first"):
        turned(truth(), "ring_middle_flexion", torch.zeros(1))


def test_landscape_is_the_loss_of_the_turned_pose():
    at, crops, name = truth()[1], clean_batch().crops[1], "index_base_flexion"
    found = landscape(template(), at, crops, name)
    low, high = ANGLES[name].low, ANGLES[name].high
    assert found.degrees[0] == low - 10 and found.degrees[-1] == high + 10
    k = 17
    alone = evaluate_step(turned(at, name, found.degrees[[k]]), template(), crops)
    torch.testing.assert_close(found.loss[[k]], alone.loss, rtol=1e-5, atol=0)
    beyond = (low - found.degrees).clamp_min(0) + (found.degrees - high).clamp_min(0)
    wanted = torch.deg2rad(beyond) * LossWeights().physical
    torch.testing.assert_close(found.terms["physical"], wanted, atol=1e-5, rtol=0)  # of 9e-3 at the ends


def test_the_truth_is_near_the_lowest_point():
    at, name = truth()[0], "index_base_flexion"
    true = euler_angles(at.rotations[0, ANGLES[name].joint]).rad2deg()[ANGLES[name].axis]
    found = landscape(template(), at, clean_batch().crops[0], name)
    assert (found.degrees[found.loss.argmin()] - true).abs() <= 6


# ---- widgets


def picture(view) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(view.picture.value)).convert("L"))


def test_moving_the_radius_or_the_finger_redraws():
    view = SlideView(finger(), shift_px=0)
    at_rest = picture(view)
    assert "depth loss 0.0000" in view.numbers.value and at_rest.std() > 20
    view.shift.value = 39
    far = picture(view)
    assert (at_rest != far).sum() > 500 and "the gradient has vanished" in view.numbers.value
    view.radius.value = 15
    assert (far != picture(view)).sum() > 500 and "r = 15 px" in view.numbers.value


def test_a_live_cell_has_a_picture_for_readers_without_a_kernel():
    bundle = SlideView(finger())._repr_mimebundle_()
    assert bundle["image/png"].startswith("iVBOR") and "application/vnd.jupyter.widget-view+json" in bundle


def test_choosing_an_angle_moves_the_slider_to_the_prediction():
    view = LandscapeView(template(), truth()[0], clean_batch().crops[0], truth()[0])
    before = picture(view)
    view.angle.value = "thumb_far_flexion"
    place = ANGLES["thumb_far_flexion"]
    assert (view.degrees.min, view.degrees.max) == (place.low - 10, place.high + 10)
    true = euler_angles(truth()[0].rotations[0, place.joint]).rad2deg()[place.axis].item()
    assert view.degrees.value == round(true) and f"true {true:.0f}&deg;" in view.numbers.value
    chosen = picture(view)
    assert (before != chosen).sum() > 500
    view.degrees.value = place.low
    assert (chosen != picture(view)).sum() > 100 and f"at {place.low}&deg;" in view.numbers.value


def test_playing_a_descent_goes_through_its_steps():
    batch, steps = clean_batch(), []
    fit = fit_shape(truth()[0], template(), batch.crops[0], ShapeFitSettings(steps=3), False, steps.append)
    assert len(steps) == 4 and torch.equal(steps[0].rendered, fit.before.rendered)
    assert torch.equal(steps[-1].rendered, fit.after.rendered)
    view = DescentView(steps, batch.crops[0], template(), batch.joints_mm[[0]])
    first = picture(view)
    view.play.value = 3
    assert view.step.value == 3 and (first != picture(view)).any()
    assert f"<b>{1e3 * fit.mse[-1, 0].item():.2f}</b>" in view.numbers.value and "joint error" in view.numbers.value
    assert "joint error" not in DescentView(steps, batch.crops[0]).numbers.value


def test_descents_that_cannot_be_shown_are_refused():
    with pytest.raises(ValueError, match="at least one step; pass watch=steps.append to the fit"):
        DescentView([], clean_batch().crops[0])
    with pytest.raises(ValueError, match="the one frame that was fitted, got 4"):
        DescentView([object()], clean_batch().crops)


def test_an_error_is_shown_and_goes_away(monkeypatch):
    view = SlideView(finger())

    def broken(*_):
        raise RuntimeError("no <image>")

    monkeypatch.setattr(live, "slide", broken)
    with pytest.raises(RuntimeError, match="no <image>"):
        view.radius.value = 7
    assert "no &lt;image&gt;" in view.error.value
    monkeypatch.undo()
    view.radius.value = 8
    assert view.error.value == ""
