"""Pictures of hands, clouds and depth images, shared by the notebooks. They draw what they are given."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from torch import Tensor

from .style import WIDTH_IN

Image = Float[Tensor, "H W"] | Float[np.ndarray, "H W"]


def show_depth(axes: Axes, image: Image, title: str = "", vmax: float = 0.9) -> None:
    """A depth image in the crop: grey, near is bright, black where there is nothing."""
    axes.imshow(np.asarray(image), cmap="gray", vmin=0, vmax=vmax, interpolation="nearest")
    _bare(axes, title)


def show_difference(axes: Axes, image: Image, title: str = "") -> None:
    """An absolute difference of depth images: dark is none."""
    axes.imshow(np.asarray(image), cmap="magma", vmin=0, vmax=0.5, interpolation="nearest")
    _bare(axes, title)


def show_picture(axes: Axes, picture: UInt8[np.ndarray, "H W 3"] | Float[np.ndarray, "H W 3"], title: str = "") -> None:
    """An RGB picture."""
    axes.imshow(picture, interpolation="antialiased")
    _bare(axes, title)


def show_cloud(
    axes: Axes,
    cloud: Float[Tensor, "N 3"] | Float[np.ndarray, "N 3"],
    values: Float[Tensor, " N"] | Float[np.ndarray, " N"] | None = None,
    title: str = "",
    limits: tuple[float, float] | None = None,
    **scatter,
) -> PathCollection:
    """Points in the crop frame from the camera's side, coloured by `values` between `limits`; None: by nearness."""
    cloud = np.asarray(cloud)
    order = np.argsort(-cloud[:, 2])
    values = 1 - cloud[:, 2] if values is None else np.asarray(values)
    low, high = limits or (values.min(), values.max())
    points = axes.scatter(*cloud[order, :2].T, c=values[order], s=2.5, vmin=low, vmax=high, lw=0, **scatter)
    axes.set(xlim=(0, 1), ylim=(1, 0), aspect="equal")
    _bare(axes, title)
    return points


def grid(rows: int, columns: int, cell: float = 1.5, **subplots) -> tuple[Figure, np.ndarray]:
    """A figure of rows x columns pictures, `cell` inches each."""
    figure, axes = plt.subplots(rows, columns, figsize=(cell * columns, cell * rows), squeeze=False, **subplots)
    figure.subplots_adjust(left=0.005, right=0.995, wspace=0.04, hspace=0.12)
    return figure, axes


def figure_row(
    pictures: Mapping[str, Tensor | np.ndarray], differences: Mapping[str, Image] = {}, cell: float = 2.6
) -> Figure:
    """Pictures side by side, each with its title, and after them images of absolute differences.

    Args:
        pictures: depth images [H, W], clouds [N, 3] in the crop frame, or RGB pictures [H, W, 3], by title.
        differences: [H, W], by title.
        cell: inches of a picture.
    """
    figure, (axes,) = grid(1, len(pictures) + len(differences), cell)
    for axis, (title, picture) in zip(axes, pictures.items(), strict=False):
        show = show_picture if picture.ndim == 3 else show_cloud if picture.shape[1] == 3 else show_depth
        show(axis, picture.detach() if isinstance(picture, Tensor) else picture, title=title)
    for axis, (title, image) in zip(axes[len(pictures) :], differences.items(), strict=True):
        show_difference(axis, image.detach() if isinstance(image, Tensor) else image, title)
    return figure


def contact_sheet(images: Float[Tensor, "B H W"], titles: Sequence[str] | None = None, columns: int = 12) -> Figure:
    """Depth images side by side."""
    figure, axes = grid(-(-len(images) // columns), columns, min(1.2, (WIDTH_IN - 0.2) / columns))
    figure.subplots_adjust(left=0, right=1, bottom=0, top=1, hspace=0.3)
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, title in zip(axes.flat, images, titles or [""] * len(images), strict=False):
        show_depth(axis, image)
        axis.set_title(title, pad=2)
    return figure


def _bare(axes: Axes, title: str):
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    if title:
        axes.set_title(title)
