"""One style for all figures: a palette, a type size and a width.

The colours are Okabe and Ito's, with a dark and a light grey: people who see red, green or blue otherwise tell them apart, too
(tests/drawing/test_style.py measures it). All saved figures are `WIDTH_IN` wide, so that letters have one size on a page.
"""

import matplotlib.pyplot as plt
from cycler import cycler
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

WIDTH_IN = 9.0  # of a saved figure: 1,800 dots
TYPE_PT = 9.0  # of all text
MARK_PT = 7.0  # of numbers that stand within a picture or a mark
SLACK = 0.03  # a figure may be wider by this share: its letters are then smaller by as much
PAD_IN = 0.06  # above and below what is drawn

INK, ACCENT, GOOD, MUTED = "#22313f", "#d55e00", "#0072b2", "#9aa5b1"
GREEN, PURPLE, ORANGE, SKY = "#009e73", "#cc79a7", "#e69f00", "#56b4e9"
FINGER_COLOURS = (ACCENT, SKY, GREEN, PURPLE, ORANGE)  # from the thumb on
STYLE = {
    "figure.dpi": 110,
    "savefig.bbox": "tight",
    "font.size": TYPE_PT,
    **dict.fromkeys(("axes.titlesize", "axes.labelsize", "xtick.labelsize", "ytick.labelsize"), TYPE_PT),
    **dict.fromkeys(("legend.fontsize", "legend.title_fontsize", "figure.titlesize"), TYPE_PT),
    "axes.titlecolor": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.color": INK,
    "legend.frameon": False,
    "axes.prop_cycle": cycler(color=[GOOD, ACCENT, INK, GREEN, MUTED]),
    "axes.spines.top": False,
    "axes.spines.right": False,
}
plt.rcParams.update(STYLE)


def box_of(figure: Figure, dpi: float = 200) -> Bbox:
    """What of a figure is saved, in inches: all that is drawn, `WIDTH_IN` wide, or a little more where a label needs it.

    Args:
        dpi: dots per inch of the picture.

    Raises:
        ValueError: a text is of another size than `TYPE_PT` or `MARK_PT`, or the figure is wider by more than `SLACK`.
    """
    shown_dpi, figure.dpi = figure.dpi, dpi  # letters are not as wide in all
    figure.draw_without_rendering()
    for text in figure.findobj(Text):
        if text.get_visible() and text.get_text().strip() and text.get_fontsize() not in (TYPE_PT, MARK_PT):
            wanted = f"{TYPE_PT:g} or {MARK_PT:g} pt (hrlib.drawing.style)"
            raise ValueError(f"the text {text.get_text()!r} has {text.get_fontsize():g} pt; all text has {wanted}")
    drawn = figure.get_tightbbox()
    figure.dpi = shown_dpi
    if drawn.width > (1 + SLACK) * WIDTH_IN:
        raise ValueError(f"the figure is {drawn.width:.2f} inches wide; make it at most {WIDTH_IN:g}")
    middle, half = (drawn.x0 + drawn.x1) / 2, max(WIDTH_IN, drawn.width) / 2
    return Bbox([[middle - half, drawn.y0 - PAD_IN], [middle + half, drawn.y1 + PAD_IN]])
