"""Before and after refinement: what is measured, which frames are shown, and that the figures draw them."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from core_fixtures import clean_batch, pose, template

from hrlib.companion.example_frames import Examples, one_user, picked, pieces
from hrlib.companion.figures.refinement import (
    Shown,
    at_percentiles,
    figure_clouds,
    figure_distribution,
    figure_forearm,
    figure_hands,
    figure_own_network,
    figure_self_comparison,
)
from hrlib.evaluation.before_after import (
    apart,
    changes,
    judge,
    judge_poses,
    led_astray,
    moved_mm,
    spread_mm,
    summary,
    telling_frames,
)
from hrlib.evaluation.joint_errors import errors_mm, joint_error_mm, success_curve
from hrlib.hand.joints import JOINT_POINTS
from hrlib.losses import image_mse
from hrlib.method import evaluate_step
from hrlib.network.posenet import PoseNet


def net(seed: int = 0) -> PoseNet:
    torch.manual_seed(seed)
    return PoseNet().eval()


@pytest.fixture(autouse=True)
def no_open_figures():
    yield
    plt.close("all")


def test_judge_is_one_pass_through_the_method_whatever_the_batch():
    batch, hand = clean_batch(), template()
    judged = judge(net(), hand, batch.crops, hand.cloud_mm * 1.1, batch=3)
    with torch.no_grad():
        step = evaluate_step(net()(batch.crops.image), hand, batch.crops, cloud_mm=hand.cloud_mm * 1.1)
    torch.testing.assert_close(judged.mse, image_mse(step.rendered, step.target))
    torch.testing.assert_close(judged.joints_mm, step.joints_mm)
    torch.testing.assert_close(judged.physical_rad, step.terms["physical"])
    torch.testing.assert_close(judged.collision_mm, step.terms["collision"])
    torch.testing.assert_close(judged.step([2]).rendered[0], step.rendered[2])
    with pytest.raises(ValueError, match="at least one frame"):
        judge(net(), hand, batch.crops[:0])


def test_errors_are_of_the_16_joints_and_success_of_the_worst_of_them():
    true_mm = torch.zeros(2, 21, 3)
    joints = true_mm.clone()
    tips = [i for i in range(21) if i not in JOINT_POINTS]
    joints[:, tips] = 100.0
    joints[0, JOINT_POINTS[3], 0] = 12.0
    errors = errors_mm(joints, true_mm, JOINT_POINTS)
    assert errors.shape == (2, 16) and errors[0].max() == 12 and errors[1].max() == 0
    assert success_curve(errors, [0, 1, 12, 13]).tolist() == [0.5, 0.5, 1.0, 1.0], "at most"


def test_spread_is_of_the_fingers_and_not_of_the_view():
    open_hand, bent = pose({}), pose({"index_base": (60, 0, 0)})
    turned = open_hand.clone()
    turned[:, 0] = torch.tensor([0.0, 0.6, 0.0, 0.8])
    assert spread_mm(torch.cat([open_hand, turned]), template()) < 1e-3
    assert spread_mm(torch.cat([open_hand, bent]), template()) > 1
    with pytest.raises(ValueError, match="two frames"):
        spread_mm(open_hand, template())


def test_a_fall_that_is_only_ps_is_called_ps():
    batch, hand = clean_batch(), template()
    before, after = judge(net(), hand, batch.crops), judge(net(), hand, batch.crops, hand.cloud_mm * 1.3)
    shares = apart(before, after)
    assert shares["P_alone"] == pytest.approx(1, abs=1e-4) and shares["pose_alone"] == pytest.approx(0, abs=1e-4)
    other = judge(net(1), hand, batch.crops)
    shares = apart(before, other)
    assert shares["P_alone"] == pytest.approx(0, abs=1e-4) and shares["pose_alone"] == pytest.approx(1, abs=1e-4)
    numbers = changes(before, after, batch.joints_mm)
    assert numbers["P_moved_mm"] == moved_mm(hand.cloud_mm * 1.3, hand.cloud_mm)
    assert numbers["led_astray"] == 0  # no joint moved


def at(joints_mm, mse, like):
    from dataclasses import replace

    return replace(like, joints_mm=joints_mm, mse=torch.tensor(mse))


def test_frames_led_astray_have_a_better_picture_and_a_worse_hand():
    batch, hand = clean_batch(), template()
    like, true_mm = judge(net(), hand, batch.crops), batch.joints_mm
    before = at(true_mm + 10, [1.0, 1.0, 1.0, 1.0], like)
    # nearer; farther with a better picture; farther with a worse one; a little farther with a better one
    moved = torch.tensor([5.0, 20.0, 30.0, 10.5])[:, None, None]
    after = at(true_mm + moved, [0.5, 0.5, 1.5, 0.5], like)
    assert led_astray(before, after, true_mm).tolist() == [False, True, False, False]
    assert telling_frames(before, after, true_mm) == [0, 1]


def test_pieces_are_what_the_camera_took_without_a_break():
    names = ["A/a/depth_0_0007.png", "A/a/depth_0_0008.png", "A/a/depth_0_0010.png", "A/b/depth_1_0011.png"]
    assert pieces(names) == [0, 0, 1, 2]
    assert pieces(["D/test/000/198", "D/test/000/199", "D/test/001/000"]) == [0, 0, 1]
    with pytest.raises(ValueError, match="named by a number"):
        pieces(["hand.png", "other.png"])


def test_frames_to_look_at_are_the_letters_middles_then_evenly_spread_and_never_twice():
    crops, names = clean_batch().crops, ["a/depth_0.png", "a/depth_1.png", "b/depth_2.png", "b/depth_3.png"]
    letters = Examples("real", "", crops, names, {})
    assert picked(letters, "b", 2) == [3, 1]
    assert sorted(picked(letters, "ab", 4)) == [0, 1, 2, 3]
    assert picked(Examples("simulated", "", crops, names, {}), "ab", 2) == [1, 3]
    assert len(picked(letters, "ab", 9)) == 4


def test_without_the_real_frames_there_is_a_simulated_user(monkeypatch, capsys):
    monkeypatch.delenv("HRLIB_DATA_MIRROR", raising=False)
    train, test = one_user(template(), 4, "a", "ab")
    assert test.kind == "simulated" and "simulated" in test.source and "HRLIB_DATA_MIRROR" in capsys.readouterr().out
    assert 0 < len(train) <= 8 and 0 < len(test) <= 12
    assert test.letters is None and test.joints_mm.shape == (len(test), 21, 3)


@pytest.mark.mirror
def test_real_frames_are_rows_of_each_letter_and_test_pieces_of_twelve(mirror):
    train, test = one_user(template(), 3, "ab", "ab")
    assert test.kind == "real" and test.joints_mm is None
    assert train.letters == ["a"] * 3 + ["b"] * 3
    assert [test.sequence.count(k) for k in set(test.sequence)] == [12, 12]


def test_figures_draw_what_they_are_given():
    batch, hand = clean_batch(), template()
    models = {"base": judge(net(), hand, batch.crops), "paper": judge(net(1), hand, batch.crops)}
    distances = list(range(0, 60, 20))
    numbers = {name: summary(judged, batch.joints_mm, distances) for name, judged in models.items()}
    assert set(numbers["base"]) >= {"image_mse_mean", "image_mse_variance", "joint_error_mm", "success"}
    figure = figure_self_comparison({"A": {"description": "one", "models": numbers}}, distances)
    axes = figure.axes
    np.testing.assert_allclose(axes[0].lines[1].get_ydata(), numbers["paper"]["success"])
    heights = [bar.get_height() for bar in axes[1].patches]
    np.testing.assert_allclose(heights, [numbers[name]["image_mse_mean"] * 1000 for name in models])

    captions = {"paper": ["1 mm", "2 mm"]}
    shown = Shown(models, [3, 1], ["A", "B"], captions, batch.joints_mm[[3, 1]])
    figure = figure_hands([shown], {"base": "base", "paper": "all losses"}, size=40)
    assert len(figure.axes) == 5 * 2
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), batch.crops.image[3])
    with pytest.raises(ValueError, match="judged by the models"):
        figure_hands([shown], {"base": "base"})

    figure = figure_clouds(hand.cloud_mm, {"moved": (hand.cloud_mm + 3, hand.cloud_mm)})
    assert "5.2 mm" in figure.axes[0].get_title()

    pair = (torch.tensor([0.010, 0.012, 0.5]), torch.tensor([0.006, 0.007, 0.008]))
    bars = {"jitter": ("mm", "%.1f", {"paper": (9.0, 4.0)})}
    figure = figure_distribution({"paper": pair}, bars, {"paper": "paper, AlexNet"})
    assert sum(bar.get_height() for bar in figure.axes[0].patches) == 6, "frames beyond the axis are in the last bin"
    assert [bar.get_height() for bar in figure.axes[1].patches] == [9.0, 4.0]


def test_figure_forearm_says_by_how_much_both_errors_change():
    before, after, worse = ({"hand_mse": a, "mean16": b} for a, b in ((0.008, 20.0), (0.004, 15.0), (0.006, 22.0)))
    users = {"A": {"forearm": (before, worse), "wristband": (before, after)}}
    figure = figure_forearm(users, {"A": "a hand"})
    said = [[text.get_text() for text in axes.texts] for axes in figure.axes]
    assert said == [["\N{MINUS SIGN}25%", "\N{MINUS SIGN}50%"], ["+10%", "\N{MINUS SIGN}25%"]]


def test_a_true_pose_is_judged_perfect():
    batch, hand = clean_batch(), template()
    judged = judge_poses(batch.true_prediction(hand), hand, batch.crops)
    errors = errors_mm(judged.joints_mm, batch.joints_mm, JOINT_POINTS)
    assert errors.max() < 0.01


def test_a_network_of_ones_own_has_its_hands_beside_its_errors():
    batch, hand = clean_batch(), template()
    models = {name: judge(net(seed), hand, batch.crops) for seed, name in enumerate(("base", "best"))}
    numbers = {name: summary(judged, batch.joints_mm) for name, judged in models.items()}
    shown = at_percentiles(models, batch.joints_mm, shares=(0, 99))
    error_mm = {name: joint_error_mm(of.joints_mm, batch.joints_mm, JOINT_POINTS) for name, of in models.items()}
    assert shown.index == [int(error_mm["base"].argmin()), int(error_mm["base"].argmax())]
    assert shown.captions["best"] == [f"{error_mm['best'][i]:.0f} mm" for i in shown.index]
    figure = figure_own_network(shown, numbers, {"base": "before", "best": "after"})
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert {
        "before",
        "after",
        *shown.captions["base"],
        *shown.captions["best"],
        f"{numbers['best']['joint_error_mm']:.1f}",
    } <= set(texts)
    heights = [[bar.get_width() for bar in axes.patches] for axes in figure.axes[-2:]]
    errors = [[n[key] for n in numbers.values()] for key in ("joint_error_mm", "image_mse_mean")]
    assert np.allclose(heights[0], errors[0]) and np.allclose(heights[1], 1000 * np.array(errors[1]))
