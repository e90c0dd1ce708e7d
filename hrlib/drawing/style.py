"""Colours and style of all figures."""

import matplotlib.pyplot as plt
from cycler import cycler

INK, ACCENT, GOOD, MUTED = "#22313f", "#c8553d", "#2a7f9e", "#9aa5b1"
FINGER_COLOURS = ("#e07a5f", "#3d85c6", "#6aa84f", "#a64d79", "#f1c232")
STYLE = {
    "figure.dpi": 110,
    "savefig.bbox": "tight",
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.titlecolor": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "text.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "axes.prop_cycle": cycler(color=[GOOD, ACCENT, INK, "#a64d79", MUTED]),
    "axes.spines.top": False,
    "axes.spines.right": False,
}
plt.rcParams.update(STYLE)
