"""Figures drawn anew from their result files: the same numbers, and a picture in the style."""

import json
import shutil

import pytest

from hrlib.companion.redraw import DRAWN, main, redraw
from hrlib.support.paths import FIGURES


@pytest.mark.parametrize("name", ["10_frames", "10_confidence"])
def test_a_redrawn_figure_keeps_its_numbers(tmp_path, name):
    shutil.copy(FIGURES / f"{name}.json", tmp_path)
    redraw(name, tmp_path)
    before, after = (json.loads((folder / f"{name}.json").read_text()) for folder in (FIGURES, tmp_path))
    assert before == after
    assert (tmp_path / f"{name}.png").read_bytes()[:4] == b"\x89PNG"


def test_what_its_numbers_do_not_fill_is_refused(capsys):
    assert main(["06_hands_real"]) == 2
    assert "06_hands_real; these are: 05_self, 06_" in capsys.readouterr().out
    assert {f"{name}.json" for name in DRAWN} <= {path.name for path in FIGURES.glob("*.json")}
