"""Explaining frames: poses and one hand shape from depth alone, and the pieces that this takes."""

import math
from dataclasses import replace

import pytest
import roma
import torch
from core_fixtures import pose, template

from hrlib.frames.crop import crop_batch
from hrlib.hand.kinematics import forward_kinematics, joint_positions
from hrlib.hand.skinning import skin, skinning_transforms
from hrlib.method import (
    PipelineSettings,
    evaluate_step,
    from_crop,
    on_the_hand,
    to_crop,
    true_prediction,
    without_forearm,
    wrist_position,
)
from hrlib.network.posenet import Prediction
from hrlib.refine.explain import (
    Comparison,
    Explained,
    ExplainSettings,
    acceleration,
    again_from_neighbours,
    explain,
    fit_hand,
    fit_to_depth,
    from_votes,
    measured_cloud,
    nearest_points,
    spread_out,
    surprise,
)
from hrlib.synthetic.frames import Synthesiser, SyntheticSettings

CLEAN = SyntheticSettings(noise_share=0.0, forearm_mm=2.0, window_px=96, focal_px=180.0)
SHORT = ExplainSettings(iterations=15, smooth=0.0)


def beside(true: Prediction, far_mm: float, turned_deg: float, seed: int = 0) -> Prediction:
    """Predictions whose hands are so far from the truth, and turned by so much, each in a direction of its own."""
    generator = torch.Generator().manual_seed(seed)
    axis, way = (torch.nn.functional.normalize(torch.randn(len(true.offset), 3, generator=generator)) for _ in "ab")
    rotations = true.rotations.clone()
    rotations[:, 0] = roma.quat_product(roma.rotvec_to_unitquat(axis * math.radians(turned_deg)), rotations[:, 0])
    return Prediction(rotations, true.offset + way * far_mm / CLEAN.cube_mm)


def joints_of(prediction: Prediction, hand, crops):
    return joint_positions(
        hand, forward_kinematics(hand, prediction.rotations, wrist_position(prediction, hand, crops))
    )


def apart(a, b):
    return (a - b).norm(dim=-1).mean(1)


@pytest.fixture(scope="module")
def frames():
    """Six frames, where a bad guess puts the hand, and the fit from there."""
    batch = Synthesiser(template(), CLEAN).batch(6, 3)
    start = beside(batch.true_prediction(template()), 15.0, 12.0)
    return batch, start, fit_to_depth(template(), batch.crops, start, SHORT)


def test_fitted_poses_explain_the_frames_and_are_nearer_to_the_truth(frames):
    batch, start, fit = frames
    before = surprise(template(), batch.crops, start, SHORT)
    assert (fit.loss < 0.75 * before).all()
    error_before = apart(joints_of(start, template(), batch.crops), batch.joints_mm)
    error_after = apart(fit.joints_mm, batch.joints_mm)
    assert (error_after < 0.75 * error_before).all()
    assert torch.allclose(fit.prediction.rotations.norm(dim=-1), torch.ones(6, 16))
    assert not fit.prediction.rotations.requires_grad and not fit.loss.requires_grad


def test_what_a_fit_says_of_itself_is_the_surprise_of_its_poses(frames):
    batch, _, fit = frames
    torch.testing.assert_close(surprise(template(), batch.crops, fit.prediction, SHORT), fit.loss)
    torch.testing.assert_close(joints_of(fit.prediction, template(), batch.crops), fit.joints_mm)


def test_a_fit_leaves_its_start_alone_and_takes_frames_in_any_portion(frames, monkeypatch):
    batch, start, fit = frames
    again = beside(batch.true_prediction(template()), 15.0, 12.0)
    assert torch.equal(start.rotations, again.rotations) and torch.equal(start.offset, again.offset)
    monkeypatch.setattr("hrlib.refine.explain.CHUNK", 4)
    parts = fit_to_depth(template(), batch.crops, start, replace(SHORT, iterations=3))
    monkeypatch.undo()
    whole = fit_to_depth(template(), batch.crops, start, replace(SHORT, iterations=3))
    # frames are alone without the smooth term; sums of float32 in another order, and Adam divides small gradients by
    # their own size
    torch.testing.assert_close(parts.joints_mm, whole.joints_mm, rtol=0, atol=0.05)


def test_votes_pull_until_they_are_too_far_off_to_be_believed():
    batch = Synthesiser(template(), CLEAN).batch(3, 3)
    seen = (batch.joints_mm - batch.crops.centre_mm[:, None]) / batch.crops.cube_mm
    joints = (batch.joints_mm + torch.tensor([[3.0, 0, 0], [0, 30, 0], [0, 0, 300]])[:, None]).requires_grad_(True)
    apart = from_votes(seen, joints, batch.crops, 20.0)
    expected = 20 / 250 * (1 - torch.exp(-torch.tensor([3.0, 30, 300]) / 20))
    torch.testing.assert_close(apart, expected, rtol=1e-3, atol=0)
    pull = torch.autograd.grad(apart.sum(), joints)[0].norm(dim=-1).mean(1)
    assert pull[0] > 3 * pull[1] > 1e4 * pull[2] > 0


def test_fits_stay_nearer_to_the_votes_the_more_these_count(frames):
    batch, start, _ = frames
    seen = (batch.joints_mm - batch.crops.centre_mm[:, None]) / batch.crops.cube_mm  # as if the network saw all joints
    start = Prediction(start.rotations, start.offset, seen)
    errors = [
        apart(
            fit_to_depth(template(), batch.crops, start, replace(SHORT, seen=weight)).joints_mm, batch.joints_mm
        ).mean()
        for weight in (0.0, 2.0)
    ]
    assert errors[1] < 0.9 * errors[0]


def test_the_voted_points_are_handed_on(frames):
    batch, start, _ = frames
    voted = torch.randn(6, 21, 3, generator=torch.Generator().manual_seed(1))
    fit = fit_to_depth(template(), batch.crops, replace(start, points=voted), replace(SHORT, iterations=1))
    assert torch.equal(fit.prediction.points, voted)


def test_fit_hand_finds_the_size():
    small = template().morphed({}, 0.85)
    batch = Synthesiser(small, CLEAN).batch(12, 4)
    start = beside(batch.true_prediction(small), 3.0, 3.0)
    settings = ExplainSettings(iterations=40, shape_rate=0.02, points=64)
    shape = fit_hand(template(), batch.crops, start, settings)
    assert shape.log_scale.item() == pytest.approx(math.log(0.85), abs=0.05)
    assert not any(part.requires_grad for part in shape.parts())


def test_neighbours_mend_a_frame_and_never_make_one_worse(frames):
    batch, _, fit = frames
    # six times the same frame, of which one fit has gone astray and another is perfect
    crops, true = batch.crops[[0] * 6], batch.true_prediction(template())
    rotations, offset = true.rotations[[0] * 6].clone(), true.offset[[0] * 6].clone()
    rotations[3, 0] = roma.quat_product(roma.rotvec_to_unitquat(torch.tensor([0.0, 2.5, 0.0])), rotations[3, 0])
    guess = Prediction(rotations, offset)
    first = Explained(guess, surprise(template(), crops, guess, SHORT), joints_of(guess, template(), crops))
    second = again_from_neighbours(template(), crops, first, replace(SHORT, iterations=3))
    assert (second.loss <= first.loss).all() and second.loss[3] < 0.5 * first.loss[3]
    torch.testing.assert_close(surprise(template(), crops, second.prediction, SHORT), second.loss)
    torch.testing.assert_close(joints_of(second.prediction, template(), crops), second.joints_mm)
    # frames of different hands: nothing to learn from each other, nothing lost
    other = again_from_neighbours(template(), batch.crops, fit, replace(SHORT, iterations=1), share=1.0)
    assert (other.loss <= fit.loss).all()
    assert again_from_neighbours(template(), batch.crops[0], first, SHORT) is first, "no share of one frame"


def test_no_frames_are_refused(frames):
    batch, start, _ = frames
    nothing, none = batch.crops[[]], Prediction(start.rotations[:0], start.offset[:0])
    for call in (fit_hand, fit_to_depth, surprise):
        with pytest.raises(ValueError, match="crops must hold at least one frame, got none"):
            call(template(), nothing, none)
    with pytest.raises(ValueError, match="take a network with an offset"):
        fit_to_depth(template(), batch.crops, Prediction(start.rotations, None))
    with pytest.raises(ValueError, match="iterations must be at least 1, got 0"):
        ExplainSettings(iterations=0)


def test_nearest_points():
    generator = torch.Generator().manual_seed(0)
    data, model = torch.rand(3, 50, 3, generator=generator), torch.rand(3, 70, 3, generator=generator)
    assert torch.equal(nearest_points(data, model), torch.cdist(data, model).argmin(-1))
    assert nearest_points(model[:, 5:6], model).eq(5).all()


def test_a_forearm_is_cut_and_the_hand_is_not(frames):
    batch, _, _ = frames
    long = replace(CLEAN, forearm_mm=60.0)
    maker = Synthesiser(template(), long)
    arms = torch.tensor([[60.0, 0.0, 0.0]])
    upright = pose({})
    # the palm to the camera, fingers up: the camera's y points down
    upright[0, 0] = roma.rotvec_to_unitquat(torch.tensor([math.pi, 0.0, 0.0]))
    wrist = torch.tensor([[0.0, 60.0, 500.0]])
    drawing = maker.draw(upright, wrist, torch.Generator().manual_seed(0), arms)
    crops = crop_batch(drawing.depth_mm, drawing.intrinsics, long.cube_mm)
    T = forward_kinematics(template(), upright, wrist)
    below_mm = from_crop(crops.points, crops)[..., 1] - 60.0  # behind the wrist
    assert below_mm.max() > 30, "the frame shows a forearm"
    keep = on_the_hand(crops.points, T, crops, wrist_mm=-8.0)
    assert torch.equal(keep, (below_mm < 8.0).float())
    assert 0.5 < keep.mean() < 0.95
    image = without_forearm(crops, T, -8.0)
    # rows of the image whose pixels are farther below than a splat is wide
    row_mm = ((torch.arange(120) + 0.5) / 120 - 0.5) * long.cube_mm + crops.centre_mm[0, 1] - 60.0
    assert image[0, row_mm > 8.0 + 5.0 * 250 / 120 + 1].max() == 0
    assert image[0, (row_mm < 0) & (row_mm > -40)].max() > 0.4
    # of a hand without a forearm nothing is lost
    joints = forward_kinematics(template(), batch.rotations, batch.wrist_mm)
    assert on_the_hand(to_crop(batch.joints_mm, batch.crops), joints, batch.crops, -8.0).all()


def test_an_arm_neither_stretches_the_hand_nor_is_missed(frames):
    batch, start, _ = frames
    hand, maker = template(), Synthesiser(template(), CLEAN)
    found = []
    for length in (2.0, 40.0):
        arms = torch.tensor([[length, 0.0, 0.0]]).repeat(len(batch.rotations), 1)
        drawing = maker.draw(batch.rotations, batch.wrist_mm, torch.Generator().manual_seed(0), arms)
        # where a crop lies says how long the arm is
        crops = crop_batch(drawing.depth_mm, drawing.intrinsics, centre_mm=batch.crops.centre_mm.numpy())
        true = true_prediction(batch.rotations, batch.wrist_mm, hand, crops)
        found.append(surprise(hand, crops, true, SHORT))
    torch.testing.assert_close(*found, rtol=0.15, atol=5e-3)


def test_a_hand_that_leaves_the_frame_s_points_behind_its_wrist_explains_nothing(frames):
    batch, _, _ = frames
    hand, crops = template(), batch.crops
    true = batch.true_prediction(hand)
    fingers = forward_kinematics(hand, batch.rotations, batch.wrist_mm)[:, 0, :3, 1]
    gone = Prediction(true.rotations, true.offset + 0.6 * fingers)  # 150 mm on: all that was measured is behind it
    compared = Comparison(crops, SHORT)
    here, _ = compared.distance(true, hand)
    there, _ = compared.distance(gone, hand, iteration=20)  # in a later iteration of the same fit
    assert (there > 3 * here).all()


def test_the_cloud_that_a_sensor_sees_lies_below_the_skin():
    hand = template()
    inside = measured_cloud(hand, 2.0)
    torch.testing.assert_close((inside - hand.cloud_mm).norm(dim=-1), torch.full((len(inside),), 2.0))
    finger = hand.cloud_weights[:, 5] > 0.99  # a bone of the index finger: its axis is nearer than before
    along = hand.R_wrist_rest[5, :, 1]
    below, above = (
        torch.linalg.cross(p - hand.joints_mm[5], along.expand_as(p)).norm(dim=-1) for p in (inside, hand.cloud_mm)
    )
    assert (below[finger] < above[finger]).all()


def test_acceleration_of_even_movement_is_none_and_a_jump_counts_for_no_more_than_a_jump():
    time = torch.arange(5.0)[:, None, None]
    even = time * torch.tensor([3.0, -2.0, 1.0]) + torch.zeros(5, 21, 3)
    assert acceleration(even, 12.0).abs().max() < 1e-4
    bent = even.clone()
    bent[2, :, 0] += 2.0  # second differences 2, -4, 2
    expected = 12 * (1 - torch.exp(-torch.tensor([2.0, 4.0, 2.0]) / 12))
    torch.testing.assert_close(acceleration(bent, 12.0), expected, rtol=1e-4, atol=0)
    far = even.clone()
    far[3:] += 1000.0
    assert acceleration(far, 12.0).max() <= 12.0


def test_points_are_spread_over_the_distinct_ones(frames):
    batch, _, _ = frames
    numbered = torch.arange(1280.0)[None, :, None].expand(6, -1, 3)
    got = spread_out(replace(batch.crops, points=numbered), 64)
    assert torch.equal(spread_out(batch.crops, 64)[2, 9], batch.crops.points[2, int(got[2, 9, 0])])
    for numbers, count in zip(got[..., 0].long(), batch.crops.count.tolist(), strict=True):
        steps = numbers.diff()
        assert numbers[0] == 0 and steps.min() >= count // 64 and steps.max() <= count // 64 + 1
        assert count - 1 - count // 64 <= numbers[-1] < count


def test_a_pose_that_calls_the_whole_frame_forearm_is_no_better_one(frames):
    """Two recordings joined: where the neighbour has its hand, this frame has nothing, all of it behind the wrist."""
    batch, _, fit = frames
    hand, crops, start = template(), batch.crops[[0, 0]], fit.prediction[[0, 0]]
    ahead_mm = 300 * forward_kinematics(hand, start.rotations, wrist_position(start, hand, crops))[0, 0, :3, 1]
    crops = replace(crops, centre_mm=torch.stack([crops.centre_mm[0], crops.centre_mm[1] + ahead_mm]))
    first = Explained(start, fit.loss[[0, 0]] + torch.tensor([0.1, 0.0]), joints_of(start, hand, crops))
    still = replace(SHORT, iterations=1, rotation_rate=0.0, offset_rate=0.0)
    second = again_from_neighbours(hand, crops, first, still, share=0.5)
    torch.testing.assert_close(second.prediction.offset, start.offset)
    torch.testing.assert_close(second.loss, first.loss)


def test_a_neighbour_s_pose_comes_from_where_its_own_crop_lies():
    hand, maker = template(), Synthesiser(template(), CLEAN)
    rotations, wrist_mm = maker.sample(1, torch.Generator().manual_seed(7))
    drawing = maker.draw(rotations, wrist_mm, torch.Generator().manual_seed(7))
    natural = crop_batch(drawing.depth_mm, drawing.intrinsics).centre_mm
    centres = natural.repeat(3, 1) + torch.tensor([[0.0, 0, 0], [25.0, 0, 0], [0, 0, 0]])
    # one hand at one place in three crops, of which the second lies aside
    crops = crop_batch(drawing.depth_mm.repeat(3, 0), drawing.intrinsics.repeat(3, 0), centre_mm=centres.numpy())
    true = true_prediction(rotations.repeat(3, 1, 1), wrist_mm.repeat(3, 1), hand, crops)
    astray = Prediction(true.rotations, true.offset + torch.tensor([[0.0], [0.4], [0.0]]))
    first = Explained(astray, surprise(hand, crops, astray, SHORT), joints_of(astray, hand, crops))
    still = replace(SHORT, iterations=1, rotation_rate=0.0, offset_rate=0.0)
    second = again_from_neighbours(hand, crops, first, still)
    torch.testing.assert_close(second.prediction.offset, true.offset)


def test_surprise_is_the_depth_term_and_the_way_from_the_frame_s_points_to_the_model(frames):
    batch, start, _ = frames
    hand, crops, alone = (
        template(),
        batch.crops,
        replace(SHORT, depth=0.0, data=4.0, slack_mm=3.0, wrist_mm=-1000.0, rim_mm=0.0),
    )
    T = forward_kinematics(hand, start.rotations, wrist_position(start, hand, crops))
    model = to_crop(skin(hand.cloud_mm, hand.cloud_weights, skinning_transforms(hand, T)), crops)
    apart_mm = torch.cdist(spread_out(crops, alone.points).double(), model.double()).amin(-1) * crops.cube_mm
    expected = 4.0 * (apart_mm - 3.0).clamp_min(0).mean(1).float() / crops.cube_mm
    # the root has 1e-8 added to it, so that its gradient is finite
    torch.testing.assert_close(surprise(hand, crops, start, alone), expected, rtol=1e-2, atol=1e-4)
    assert expected.min() > 0.01
    both = surprise(hand, crops, start, replace(alone, depth=10.0))
    step = evaluate_step(start, hand, crops, PipelineSettings(terms=("depth",)))
    torch.testing.assert_close(
        both - surprise(hand, crops, start, alone), 10 * step.terms["depth"], rtol=1e-3, atol=1e-4
    )


def test_a_recording_is_explained_better_than_predicted_and_moves_more_evenly_the_more_that_counts(frames):
    batch, start, _ = frames  # six frames that do not follow one another: uneven without smoothing
    before = surprise(template(), batch.crops, start)
    rough = explain(template(), batch.crops, start, SHORT)
    even = explain(template(), batch.crops, start, replace(SHORT, smooth=100.0, jump_mm=1000.0))
    assert rough.loss.mean() < 0.75 * before.mean()
    bend, less = (acceleration(fits.joints_mm, 1e6).mean() for fits in (rough, even))
    assert less < bend
