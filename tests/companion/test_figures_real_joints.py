"""The figure of real people with joints: which frames it shows, and that its numbers are the results'."""

from dataclasses import replace

import matplotlib.pyplot as plt
import miniatures
import numpy as np
import pytest
import torch
from core_fixtures import template

from hrlib.companion.example_frames import real_joints_if_any
from hrlib.companion.figures.real_joints import columns_of, figure_real_joints
from hrlib.datasets.real_joints import RealJoints
from hrlib.drawing.mesh import empty_cube
from hrlib.evaluation.found import evaluate_real
from hrlib.network.checkpoint import load_network
from hrlib.support import paths


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory):
    """Four frames with a given place, posed by the shipped base model."""
    root = tmp_path_factory.mktemp("mirror")
    miniatures.d435_table(root / "d435_table")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(paths.MIRROR_VARIABLE, str(root))
        frames = RealJoints("d435_table", given=True)
    yield evaluate_real("table, given", frames, load_network(template())[0], template(), progress=False)
    plt.close("all")


def where_it_went_wrong(evaluation):
    """The same frames: one refused, one found elsewhere, two found."""
    found = evaluation.found
    kept = [0, 1, 2]
    elsewhere = found.true_mm[kept].mean(1) + np.array([[0, 0, 0], [300, 0, 0], [0, 0, 0]])
    left_out = {found.names[3]: "302 mm are longer than a hand"}
    names = [found.names[i] for i in kept]
    crops = empty_cube(torch.tensor(elsewhere).float())
    found = replace(found, crops=crops, names=names, true_mm=found.true_mm[kept], left_out=left_out)
    models = {name: prediction[kept] for name, prediction in evaluation.models.items()}
    points = {name: own[kept] for name, own in evaluation.points.items()}
    result = evaluation.result | {"found": 3, "lost": 1, "left_out": 1}
    return replace(evaluation, title="wrong", found=found, models=models, points=points, result=result)


def test_frames_are_chosen_by_a_rule(evaluation):
    far = [40.0, 10.0, 30.0, 20.0]
    base = evaluation.found.true_mm + np.array(far)[:, None, None] * (1, 0, 0)
    columns = columns_of(replace(evaluation, points={"base": base}))
    assert [(column.title, column.index) for column in columns] == [("best", 1), ("median", 2), ("worst", 0)]
    wrong = columns_of(where_it_went_wrong(evaluation))
    assert [(c.title, c.index, c.name) for c in wrong] == [
        ("refused", None, "frames/000003.png"),
        ("not the hand", 1, None),
    ]


def test_the_figure_shows_the_results(evaluation):
    figure = figure_real_joints([evaluation, where_it_went_wrong(evaluation)], size=60)
    pictures, (errors, counts) = figure.subfigs[0].axes, figure.subfigs[1].axes
    written = [text.get_text() for axes in (errors, counts) for text in axes.texts]
    for model in ("base", "fitted"):
        for how in ("as_they_are", "offset_removed", "cross_fitted"):
            assert f"{evaluation.result['models'][model]['found']['21'][how]['mean_mm']:.0f}" in written
    heights = [bar.get_height() for bar in errors.patches]
    assert len(heights) == 12 and max(heights) <= 60
    assert [bar.get_width() for bar in counts.patches] == [4, 2, 1, 1]
    said = [text.get_text() for axes in pictures for text in axes.texts]
    assert "302 mm are\nlonger than a\nhand" in said and sum(text.endswith(" mm") for text in said) == 8
    assert errors.get_xticklabels()[1].get_text() == "wrong\n1 of 3 are something else"


def test_without_the_sets_the_reason_is_printed(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv(paths.MIRROR_VARIABLE, str(tmp_path))
    monkeypatch.setattr(paths, "FETCHED", tmp_path)
    assert real_joints_if_any() is None
    assert "without real joints: data set handpose_x_plus not found" in capsys.readouterr().out


@pytest.mark.mirror
def test_the_sets_of_the_figure():
    sets = real_joints_if_any()
    assert [len(frames) for frames in sets.values()] == [35, 38, 16]
    assert [frames.given for frames in sets.values()] == [False, False, True]
