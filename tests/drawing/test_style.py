"""The style of all figures: colours that people tell apart however they see them, one type size, one width."""

from itertools import combinations

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from hrlib.companion.figures import beyond, refinement, state_of_the_art
from hrlib.drawing import style

# what people without one kind of cones see, in linear RGB (Machado, Oliveira and Fernandes 2009, severity 1)
VISION = {
    "all cones": np.eye(3),
    "no red cones": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "no green cones": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "no blue cones": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}
XYZ_OF_RGB = np.array([[0.412, 0.358, 0.180], [0.213, 0.715, 0.072], [0.019, 0.119, 0.950]])
WHITE = XYZ_OF_RGB.sum(1)
APART = 14  # in CIE Lab; 2 is just seen between two patches side by side, lines and dots need more
PALETTES = {
    "fingers": style.FINGER_COLOURS,
    "marks": (style.INK, style.ACCENT, style.GOOD, style.MUTED),
    "models": tuple(refinement.COLOURS.values()),
    "people": beyond.USER_COLOURS,
    "methods": state_of_the_art.COMPARED,
}


def lab(colour: str, vision: str) -> np.ndarray:
    """A colour in CIE Lab as people see it."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    x, y, z = np.cbrt(XYZ_OF_RGB @ np.clip(np.array(VISION[vision]) @ linear, 0.002, 1) / WHITE)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def distance(one: str, other: str, vision: str) -> float:
    return float(np.linalg.norm(lab(one, vision) - lab(other, vision)))


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("palette", PALETTES)
def test_colours_are_told_apart(palette: str, vision: str):
    pairs = {pair: distance(*pair, vision) for pair in combinations(PALETTES[palette], 2)}
    worst = min(pairs, key=pairs.get)
    assert pairs[worst] > APART, (worst, pairs[worst])


def test_colours_that_look_alike_would_be_found():
    assert distance("#e07a5f", "#6aa84f", "no green cones") < 6 < 40 < distance("#e07a5f", "#6aa84f", "all cones")


def test_a_saved_figure_is_as_wide_as_all_others_and_has_their_type():
    figure = Figure(figsize=(3, 2))
    axes = figure.subplots()
    axes.set_title("a title")
    box = style.box_of(figure)
    assert np.isclose(box.width, style.WIDTH_IN) and box.height < 2.5
    drawn = figure.get_tightbbox()
    assert np.isclose(drawn.x0 - box.x0, box.x1 - drawn.x1), "it stands in the middle"
    axes.text(0, 0, "tiny", fontsize=5)
    with pytest.raises(ValueError, match="'tiny' has 5 pt"):
        style.box_of(figure)
    with pytest.raises(ValueError, match="make it at most 9"):
        style.box_of(Figure(figsize=(12, 2)).subplots().figure)
