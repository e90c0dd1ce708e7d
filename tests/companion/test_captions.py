"""Captions: every committed figure has one, filled in from its own numbers, and the page of figures shows it."""

import json
import re

import pytest

from hrlib.companion import captions
from hrlib.support import paths

CAPTIONED = [figure for section in captions.sections() for figure in section["figure"]]
ELSEWHERE = captions.drawn_elsewhere()  # `make figures` may have drawn them here
FIGURES = sorted({path.stem for path in paths.FIGURES.glob("*.png")} - ELSEWHERE)
TOML = """
[[section]]
paper = "Fig. 3"
title = "a pose"
[[section.figure]]
name = "fig3"
title = "A pose"
shows = "Errors."
on = "{metrics/frames:,} frames of {provenance/parameters/source}."
look = "%s"
"""
RECORD = {"name": "fig3", "metrics": {"frames": 1200}, "provenance": {"parameters": {"source": "a camera"}}}


@pytest.fixture
def written(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CAPTIONS", tmp_path / "captions.toml")
    paths.CAPTIONS.write_text(TOML % "The curve.")
    return paths.CAPTIONS


@pytest.mark.parametrize("name", FIGURES)
def test_each_figures_json_has_its_caption(name: str):
    record = json.loads((paths.FIGURES / f"{name}.json").read_text(encoding="utf-8"))
    assert record["caption"] == captions.caption(record), "run hrlib claims --write"
    assert all(record["caption"][part] for part in ("title", *captions.PARTS))


def test_captions_are_of_figures_and_the_page_shows_them():
    assert sorted({figure["name"] for figure in CAPTIONED} - ELSEWHERE) == FIGURES
    assert len(CAPTIONED) == len(FIGURES) + len(ELSEWHERE), "each once"
    page = (paths.ROOT / "docs" / "figures.md").read_text(encoding="utf-8")
    assert captions.figures_part(paths.FIGURES) in page, "run hrlib claims --write"
    assert page.index("verdict_list()") < page.index("![")


def test_what_notebooks_draw_has_a_caption_on_computers_with_and_without_real_frames():
    code = "".join(path.read_text(encoding="utf-8") for path in paths.NOTEBOOKS.glob("*.ipynb"))
    names = re.findall(r'\.save\(\w+, f?\\"([^"]+)\\"', code)
    drawn = {name.replace("{kind}", kind) for name in names for kind in ("real", "simulated")}
    assert len(drawn) > 30 and drawn <= {figure["name"] for figure in CAPTIONED}


def test_a_caption_is_filled_in_from_the_figures_numbers(written):
    assert captions.caption(RECORD) == {
        "paper": "Fig. 3", "title": "A pose", "shows": "Errors.", "on": "1,200 frames of a camera.", "look": "The curve.",
    }  # fmt: skip


def test_a_caption_that_is_not_there_or_asks_for_what_is_not_there_is_refused(written):
    with pytest.raises(ValueError, match="must have the figure 'fig4' once, it has it 0 times"):
        captions.caption(RECORD | {"name": "fig4"})
    written.write_text(TOML % "{metrics/error_mm:.1f} mm")
    with pytest.raises(ValueError, match="the caption of fig3 asks for {metrics/error_mm:.1f}"):
        captions.caption(RECORD)
