"""figures.beyond: what is left out of the recipe, what is measured, and figures that draw what they are given."""

import matplotlib.pyplot as plt
import pytest
import torch
from core_fixtures import clean_batch, template

from hrlib.companion.figures import beyond as best
from hrlib.evaluation import ablation
from hrlib.refine import BestSettings
from hrlib.refine.explain import ExplainSettings


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def measured(error, confidence):
    error, confidence = torch.tensor(error), torch.tensor(confidence)
    return ablation.Measured(error, torch.full_like(error, 0.01), confidence, torch.zeros(len(error), 21, 3), {})


def test_each_variant_lacks_one_part():
    full = BestSettings(synthetic=50, explain=ExplainSettings(iterations=7))
    variants = ablation.variants(full)
    whole = variants.pop(ablation.ALL_PARTS)
    assert whole == full and len(set(variants.values())) == len(variants) == 8 and full not in variants.values()
    for settings in variants.values():
        assert settings.synthetic == 50 and settings.explain.iterations == 7
    bare = variants["without segmented arms"]
    assert bare.prepare == bare.segmented == 0 == variants["without even movement"].steady
    assert (
        variants["without data-to-model term"].explain.data == 0 == variants["without smoothing in time"].explain.smooth
    )


def test_verdicts_tell_a_part_that_helps_from_one_that_does_not():
    rows = {ablation.ALL_PARTS: 10.0, "without a": 11.0, "without b": 10.1, "without c": 9.0}
    said = ablation.verdicts({name: {"mean16_mm": value} for name, value in rows.items()})
    assert said == [
        "without a: +1.0 mm, it helps",
        "without b: +0.1 mm, it did not help here",
        "without c: -1.0 mm, it hurts here",
    ]


def test_confidence_that_falls_with_the_error_has_a_positive_rank_correlation():
    assert measured([1.0, 2.0, 3.0], [0.9, 0.5, 0.1]).summary()["confidence_spearman"] == pytest.approx(1)


def test_coverage_keeps_the_surest_frames():
    kept = ablation.coverage(torch.tensor([4.0, 1.0, 7.0]), torch.tensor([0.5, 0.9, 0.1]))
    assert kept.tolist() == pytest.approx([1.0, 2.5, 4.0])  # medians


def test_the_true_pose_measures_no_error_and_another_hand_some():
    hand, truth = template(), clean_batch()
    perfect = truth.true_prediction(hand)
    found = ablation.measure(perfect, hand, truth)
    assert found.error_mm.max() < 1e-2 and found.mse.shape == found.confidence.shape == (4,)
    assert found.joints_mm.shape == (4, 21, 3) and set(found.terms) == {"collision", "physical"}
    other = ablation.measure(perfect, hand.morphed({}, 0.9), truth)
    assert other.error_mm.mean() > 3 and other.mse.mean() > found.mse.mean()


def test_figures_show_every_variant_user_and_number():
    rows = {name: measured([10.0 + i, 12.0], [0.5, 0.2]).summary() for i, name in enumerate(("all parts", "without b"))}
    base = measured([17.0, 19.0], [0.5, 0.2]).summary()
    users = {"B": {"rows": rows, "base": base, "oracle_mm": None}, "C": {"rows": rows, "base": base, "oracle_mm": 8.0}}
    figure = best.figure_ablation(users)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["all parts", "without b"]
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert texts.count("oracle") == 1 and texts.count("base") == 4 and "11.5  (+0.5)" in texts
    curve = {"frames": [30, 60], "mean16_mm": [12.0, 11.0], "base_mm": 17.0}
    assert len(best.figure_frames({"B": curve}, 200).axes[0].lines) == 2
    best.figure_confidence({"B": measured([1.0, 2.0, 3.0, 2.5], [0.9, 0.5, 0.1, 0.2])})


def test_gap_takes_one_number_or_one_a_seed():
    def ways(*mm):
        return {way: {"mean16": [x + i for x in mm]} for i, way in enumerate(("once", "five", "fitted"))}

    row = {"base": ways(20.0), "oracle": ways(10.0), "best": ways(14.0, 15.0)}
    users = {"A": row, "B": row | {"paper": {"mean16": [19.0]}, "alexnet": {"mean16": 22.0}}}
    assert ablation.gaps_closed(row, "five") == pytest.approx([0.6, 0.5])
    figure = best.figure_gap(users, {"A": "the template's hand", "B": "another, smaller"})
    assert [text.get_text() for text in figure.axes[0].texts].count("five turned views: 55%") == 2


def test_people_are_drawn_with_their_errors_and_counts():
    mm = dict.fromkeys(("base", "base fitted", "best", "best fitted"), (20.0, 8.5))
    rows = {
        "A": {"label": "A", "mm": {model: (6.0,) for model in mm}, "counts": (90, 0, 10)},
        "E": {"label": "E: another", "mm": mm, "counts": (60, 10, 30)},
        "G": {"label": "G: over a table", "mm": mm | {"best": (390.0, 160.0)}, "counts": (1, 9, 90)},
    }
    errors, counts = best.figure_people(rows).axes[:2]
    texts = [text.get_text() for text in errors.texts]
    assert texts.count("8.5") == 7 and texts.count("6.0") == 4 and "160 and 390 mm" in texts
    assert [bar.get_width() for bar in counts.patches[3:6]] == pytest.approx([0.6, 0.1, 0.3])
