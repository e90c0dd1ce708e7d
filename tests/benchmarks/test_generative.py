"""Pose by optimisation alone: each method lowers its objective, and ICP the joints' error, from a start near by."""

import math
from dataclasses import replace

import pytest
import roma
import torch
from core_fixtures import clean_batch, template
from generative import (
    MOVING,
    PARAMETERS,
    VIEWS_DEG,
    GenerativeSettings,
    bounds,
    fit_frames,
    icp_objective,
    open_hands,
    origin_of,
    pose_of,
    swarm_objective,
)

from hrlib.evaluation.joint_errors import joint_error_mm
from hrlib.hand.joints import JOINT_NAMES
from hrlib.hand.kinematics import forward_kinematics, joint_positions
from hrlib.hand.rotations import euler_angles
from hrlib.losses import physical_loss
from hrlib.method import PipelineSettings, true_prediction, wrist_position
from hrlib.network.posenet import Prediction

pytestmark = pytest.mark.slow  # only a benchmark uses it
FRAMES = slice(0, 2)
PSO = GenerativeSettings(method="pso", particles=12, generations=5)
ICP = GenerativeSettings(method="icp", iterations=40, data_points=200, cloud_points=400)


def true_of():
    batch = clean_batch()
    crops = batch.crops[FRAMES]
    return true_prediction(batch.rotations[FRAMES], batch.wrist_mm[FRAMES], template(), crops), crops


def start_nearby() -> Prediction:
    """15 mm and 15 degrees off, in directions that differ between the frames; fingers as they are."""
    true, crops = true_of()
    axes = torch.nn.functional.normalize(torch.tensor([[1.0, 2.0, -1.0], [-2.0, 1.0, 2.0]]), dim=1)
    rotations = true.rotations.clone()
    rotations[:, 0] = roma.quat_product(roma.rotvec_to_unitquat(axes * math.radians(15)), rotations[:, 0])
    return Prediction(rotations, true.offset + axes.roll(1, 1) * 15 / crops.cube_mm)


def error_of(prediction) -> torch.Tensor:
    _, crops = true_of()
    T = forward_kinematics(template(), prediction.rotations, wrist_position(prediction, template(), crops))
    return joint_error_mm(joint_positions(template(), T), clean_batch().joints_mm[FRAMES])


# -- parameters -----------------------------------------------------------------------------------------------------------


def test_the_parameters_of_the_start_are_the_start():
    start = start_nearby()
    origin = origin_of(start)
    again = pose_of(origin.parameters(), origin, 250.0)
    assert origin.parameters().shape == (2, PARAMETERS) == (2, 26)
    torch.testing.assert_close(again.offset, start.offset)
    same = (again.rotations * start.rotations).sum(-1).abs()  # q and -q are one rotation
    torch.testing.assert_close(same, torch.ones(2, 16), rtol=0, atol=1e-5)
    assert origin_of(Prediction(start.rotations, None)).offset.abs().max() == 0


def test_each_parameter_moves_what_it_names():
    origin = origin_of(_open_hand(0))
    at = origin.parameters()
    moved = at.clone()
    moved[0, 1] += 0.1  # 10 mm down
    torch.testing.assert_close(
        (pose_of(moved, origin, 250.0).offset - origin.offset)[0], torch.tensor([0.0, 10 / 250, 0.0])
    )
    moved = at.clone()
    moved[0, 6 + 4 * 1 + 2] += 0.3  # index: flexion of the middle joint
    before, after = (euler_angles(pose_of(p, origin, 250.0).rotations) for p in (at, moved))
    wanted = torch.zeros(16, 3)
    wanted[JOINT_NAMES.index("index_middle"), 0] = 0.3
    torch.testing.assert_close((after - before)[0], wanted, rtol=0, atol=1e-5)
    moved = at.clone()
    moved[0, 3:6] = torch.tensor([0.0, 0.0, 0.5])
    turn = roma.quat_product(pose_of(moved, origin, 250.0).rotations[:, 0], roma.quat_conjugation(origin.wrist))
    torch.testing.assert_close(roma.unitquat_to_rotvec(turn)[0], torch.tensor([0.0, 0.0, 0.5]), rtol=0, atol=1e-5)


def _open():
    hands = open_hands(template())
    return hands.rotations, hands.offset


def test_every_finger_has_four_angles_within_its_limits():
    low, high = bounds(template())
    assert low.shape == high.shape == (26,) and (low < high).all()
    assert sorted({(m // 3 - 1) // 3 for m in MOVING}) == [0, 1, 2, 3, 4] and len(set(MOVING)) == 20
    index = 6 + 4
    wanted = torch.deg2rad(torch.tensor([[-20.0, 90], [-23, 12], [-5, 110], [-5, 90]]))
    torch.testing.assert_close(torch.stack([low, high], 1)[index : index + 4], wanted)


# -- methods --------------------------------------------------------------------------------------------------------------


def test_swarm_lowers_its_objective_within_the_limits():
    _, crops = true_of()
    start = start_nearby()
    fit = fit_frames(template(), crops, PSO, start, progress=False)
    assert fit.rotations.shape == (2, 16, 4) and fit.offset.shape == (2, 3)
    before, after = (swarm_objective(p, template(), crops, PSO) for p in (start, fit))
    assert (after < 0.9 * before).all()
    assert physical_loss(fit.rotations, template().limits_rad).max() < 1e-3
    # the same seed gives the same pose, another one another, and a frame does not see its neighbours
    again = fit_frames(template(), crops, PSO, start, progress=False)
    assert torch.equal(again.rotations, fit.rotations) and torch.equal(again.offset, fit.offset)
    second = Prediction(start.rotations[1:], start.offset[1:])
    alone = fit_frames(template(), crops[1], PSO, second, progress=False)
    torch.testing.assert_close(alone.rotations, fit.rotations[1:])
    other = fit_frames(template(), crops[1], replace(PSO, seed=1), second, progress=False)
    assert not torch.equal(other.rotations, alone.rotations)


def test_more_generations_are_no_worse():
    _, crops = true_of()
    values = []
    for generations in (1, 4):
        fit = fit_frames(template(), crops[0], replace(PSO, generations=generations), progress=False)
        values.append(swarm_objective(fit, template(), crops[0], PSO).item())
    assert values[1] <= values[0]
    assert values[0] <= min(swarm_objective(_open_hand(k), template(), crops[0], PSO).item() for k in range(12)) + 1e-6


def _open_hand(k: int) -> Prediction:
    rotations, offset = _open()
    return Prediction(rotations[k : k + 1], offset[k : k + 1])


def test_icp_lowers_its_objective_and_the_joints_error():
    _, crops = true_of()
    start = start_nearby()
    fit = fit_frames(template(), crops, ICP, start, progress=False)
    before, after = (icp_objective(p, template(), crops, ICP) for p in (start, fit))
    assert (after < before).all()
    assert (error_of(fit) < 0.8 * error_of(start)).all(), "towards the true joints"
    assert torch.equal(fit_frames(template(), crops, ICP, start, progress=False).rotations, fit.rotations)
    # one at a time or together: the same
    single = fit_frames(template(), crops, replace(ICP, chunk=1), start, progress=False)
    torch.testing.assert_close(single.offset, fit.offset, rtol=0, atol=1e-3)


def test_icp_finds_the_side_of_the_hand_by_itself():
    """From open hands in several views: better than from the worst of them, and as good as from the best."""
    _, crops = true_of()
    short = replace(ICP, iterations=6)
    fit = fit_frames(template(), crops[0], short, progress=False)
    value = icp_objective(fit, template(), crops[0], short)
    each = [
        icp_objective(fit_frames(template(), crops[0], short, _open_hand(k), False), template(), crops[0], short)
        for k in range(len(VIEWS_DEG))
    ]
    assert value.item() == pytest.approx(min(each).item(), rel=1e-3) and value < 0.9 * max(each)


def test_icp_pulls_the_model_to_the_data():
    """The gradient of the distance, by finite differences along the position, whose nearest points hardly change."""
    start, (_, crops) = start_nearby(), true_of()
    offset = start.offset.clone().requires_grad_()
    value = icp_objective(Prediction(start.rotations, offset), template(), crops, ICP)
    (grad,) = torch.autograd.grad(value.sum(), offset)
    step = 0.004 * torch.nn.functional.normalize(grad, dim=1)  # 1 mm
    there, back = (
        icp_objective(Prediction(start.rotations, start.offset + s * step), template(), crops, ICP) for s in (1, -1)
    )
    torch.testing.assert_close((there - back) / 2, (grad * step).sum(1), rtol=0.15, atol=0)
    true, _ = true_of()
    assert (icp_objective(true, template(), crops, ICP) < 0.7 * value).all()


# -- refusals -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"method": "simplex"}, "method must be one of .*, got 'simplex'"),
        ({"particles": 0}, "particles must be at least 1, got 0"),
        ({"iterations": -3}, "iterations must be at least 1, got -3"),
        ({"chunk": 0}, "chunk must be at least 1"),
        ({"learning_rate": 0.0}, "learning_rate must be positive, got 0.0"),
        ({"spread_deg": math.nan}, "spread_deg must be positive, got nan"),
        ({"physical_mm": -1.0}, "physical_mm must not be negative"),
        ({"pipeline": PipelineSettings(translation="com")}, "pipeline.translation must be 'offset'.*got 'com'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        GenerativeSettings(**wrong)


def test_frames_and_starts_must_match():
    _, crops = true_of()
    with pytest.raises(ValueError, match="got 2 for 1 frames"):
        fit_frames(template(), crops[0], PSO, start_nearby())
    with pytest.raises(ValueError, match="at least one frame"):
        fit_frames(template(), crops[[]], ICP)
