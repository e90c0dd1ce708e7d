"""The committed table of published curves, and the figures that are drawn from it."""

import json

import matplotlib.pyplot as plt
import numpy as np
import pytest
from bench_published import rounded, write_table

from hrlib.companion.figures.state_of_the_art import (
    figure_protocols,
    figure_success,
    pick_curves,
    protocol_value,
    summaries,
)
from hrlib.datasets.published import METHODS, methods_on
from hrlib.evaluation.joint_errors import BIASES, THRESHOLDS_MM, Protocol, evaluate
from hrlib.evaluation.published_curves import (
    described,
    published_curves,
    read_ours,
    read_table,
)


@pytest.fixture(scope="module")
def table():
    return read_table()


def ours(kind="pseudo-NYU", better=5.0):
    """Base and refined on four frames with errors of 20 mm, and 20 - better."""
    true, curves = np.zeros((4, 14, 3)), []
    for name, error in (("base", 20.0), ("refined", 20.0 - better)):
        predicted = true + np.array([error, 0, 0]) * np.array([1, 0.9, 1, 1.1])[:, None, None]
        for bias in BIASES:
            setting = Protocol("nyu", "test", 14, "rendered", "fitted", "none", bias=bias)
            curves.append(described(evaluate(predicted, true, setting), name, "nyu", kind))
    return curves


def test_every_method_and_bias_has_a_curve(table):
    for dataset, count in (("nyu", 10), ("icvl", 9)):
        for bias in BIASES:
            names = [curve["name"] for curve in pick_curves(table["curves"], dataset, bias)]
            assert names == [method.name for method in methods_on(dataset)] and len(names) == count
    for curve in table["curves"]:
        assert (np.diff(curve["fraction"]) >= 0).all() and 0 <= curve["fraction"][0] <= curve["fraction"][-1] <= 1
    assert {m.name for m in METHODS if m.in_fig8 and "nyu" in m.datasets} == {
        *("DeepPrior", "DeepPrior-Refine", "DeepModel", "Feedback", "REN-4x6x6", "REN-9x6x6")
    }


def test_the_effect_of_the_protocol_is_in_the_table(table):
    rows = table["protocols"]
    assert protocol_value(rows, "nyu", "DeepModel") == pytest.approx(17.04, abs=0.01)
    assert protocol_value(rows, "nyu", "DeepModel", joints=11) == pytest.approx(19.22, abs=0.01)
    assert protocol_value(rows, "icvl", "V2V-PoseNet", bias="offset") == pytest.approx(5.18, abs=0.01)
    assert protocol_value(rows, "icvl", "DeepPrior", subject="2") is None
    names = {dataset: {row["name"] for row in rows if row["dataset"] == dataset} for dataset in ("nyu", "icvl")}
    for name in names["nyu"]:
        subjects = [protocol_value(rows, "nyu", name, subject=subject) for subject in ("1", "2")]
        assert subjects[1] > subjects[0], f"{name}: NYU's second subject is harder for everybody"
    for name in names["icvl"]:
        usual, free = protocol_value(rows, "icvl", name), protocol_value(rows, "icvl", name, bias="offset")
        assert free < 0.95 * usual, f"{name}: a constant offset of ICVL's labels is part of every error"


@pytest.mark.mirror
def test_the_table_is_what_the_files_say(table):
    again = published_curves("icvl")
    by_key = {(c["dataset"], c["name"], c["protocol"]["bias"]): c for c in table["curves"]}
    for curve in again:
        stored = by_key[curve["dataset"], curve["name"], curve["protocol"]["bias"]]
        assert stored == rounded(curve), "run benchmarks/bench_published.py"


def test_ours_is_named_for_what_it_ran_on(table):
    figure = figure_success(table["curves"], ours())
    labels = [text.get_text() for axis in figure.axes for text in axis.get_legend().get_texts()]
    assert sum("ours" in label for label in labels) == 6
    assert all("pseudo-NYU" in label for label in labels if "ours" in label)
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert {line.get_linestyle() for label, line in lines.items() if "min. bias off" in label} == {"--"}
    thick = min(line.get_linewidth() for label, line in lines.items() if "ours" in label)
    assert thick > max(line.get_linewidth() for label, line in lines.items() if "ours" not in label)
    plt.close(figure)


def test_summaries_leave_the_curves_out():
    assert all("fraction" not in summary and "mean_mm" in summary for summary in summaries(ours()))


def test_the_protocol_table_has_a_row_for_each_method(table):
    figure = figure_protocols(table["protocols"])
    nyu, icvl = figure.axes
    assert [t.get_text() for t in nyu.get_yticklabels()] == [method.name for method in methods_on("nyu")]
    row = [method.name for method in methods_on("nyu")].index("DeepModel")
    cells = {text.get_position()[0]: text.get_text() for text in nyu.texts if text.get_position()[1] == row}
    heads = [[t.get_text().replace("\n", " ") for t in axis.get_xticklabels()] for axis in (nyu, icvl)]
    assert cells[0] == "17.04" and cells[heads[0].index("11 joints")] == "+2.18"
    assert "11 joints" not in heads[1]
    plt.close(figure)


def test_tables_are_written_and_read_whole(tmp_path, table):
    write_table(tmp_path / "table.json", table)
    assert read_table(tmp_path / "table.json") == table
    (tmp_path / "table.json").write_text((tmp_path / "table.json").read_text()[:-500])
    with pytest.raises(ValueError, match=r"table.json is no table of curves .*; run benchmarks/bench_published.py"):
        read_table(tmp_path / "table.json")
    assert read_ours(tmp_path / "pseudo.json") == ([], {})
    metrics = {"thresholds_mm": THRESHOLDS_MM.tolist(), "curves": ours()}
    (tmp_path / "pseudo.json").write_text(json.dumps({"metrics": metrics}))
    assert read_ours(tmp_path / "pseudo.json") == (ours(), {})
    del metrics["curves"][0]["fraction"]
    (tmp_path / "pseudo.json").write_text(json.dumps({"metrics": metrics}))
    with pytest.raises(ValueError, match="pseudo.json is no table of curves .*; run benchmarks/bench_pseudo.py"):
        read_ours(tmp_path / "pseudo.json")
