"""What several figures share: rows with a name each, a number beside a point, curves with their median."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import FigureBase
from torch import Tensor

from ...drawing.style import GOOD, INK, MUTED


def as_rows(axes: Axes, names: Sequence[str] = ()) -> None:
    """Leave out the vertical axis: each row has a name, or none."""
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_yticks(range(len(names)), names, color=INK)


def described(descriptions: Mapping[str, str]) -> list[str]:
    """A label for each user: the name, and its description on a line for each of its parts."""
    return [f"{name}: {text}".replace(", ", ",\n") for name, text in descriptions.items()]


def number(axes: Axes, x: float, y: float, text: str, offset: tuple[float, float] = (4, 0), **style) -> None:
    """Write text `offset` points away from a point; by default to its right."""
    style = {"va": "center"} | style
    axes.annotate(text, (x, y), offset, textcoords="offset points", **style)


def name_rows(figure: FigureBase, axes: np.ndarray, names: Iterable[str], **style) -> None:
    """Write a name at the figure's left edge for each row of pictures."""
    for (first, *_), name in zip(axes, names, strict=True):
        box = first.get_position()
        figure.text(0.005, (box.y0 + box.y1) / 2, name, va="center", **style)


def share_of_first(axes: Axes, values: Tensor, label: str, colours: Sequence[str] | None = None) -> None:
    """Curves [S, B] relative to their first step, and their median."""
    relative = (values / values[0]).numpy()
    for i, line in enumerate(relative.T):
        axes.plot(line, color=MUTED if colours is None else colours[i], lw=0.8, alpha=0.8)
    axes.plot(np.median(relative, 1), color=GOOD, lw=2.5, label="median")
    axes.set(xlabel="step", ylabel=f"{label}, first step = 1", ylim=(0, max(1.05, relative.max() * 1.02)))


def bar_groups(
    axes: Axes, groups: Mapping[str, Sequence[float]], colours: Sequence[str], form: str, **text
) -> list[BarContainer]:
    """A group of bars for each name, each bar in its colour and with its number on top."""
    width, drawn = 0.84 / len(colours), []
    for k, colour in enumerate(colours):
        x = np.arange(len(groups)) + width * (k - (len(colours) - 1) / 2)
        drawn.append(axes.bar(x, [group[k] for group in groups.values()], 0.94 * width, color=colour))
        axes.bar_label(drawn[-1], fmt=form, padding=2, **text)
    axes.set_xticks(range(len(groups)), list(groups))
    axes.set_xlim(-0.5, len(groups) - 0.5)  # no margin: the numbers need the width
    return drawn
