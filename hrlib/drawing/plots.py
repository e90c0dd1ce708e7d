"""Pictures of hands, clouds and depth images, shared by the notebooks. They draw what they are given."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure


def show_depth(axes: Axes, image, title: str = "", vmax: float = 0.9):
    """A depth image in the crop [H, W]: grey, near is bright, black where there is nothing."""
    axes.imshow(np.asarray(image), cmap="gray", vmin=0, vmax=vmax, interpolation="nearest")
    _bare(axes, title)


def show_difference(axes: Axes, image, title: str = "", vmax: float = 0.5):
    """An absolute difference of depth images [H, W]: dark is none."""
    axes.imshow(np.asarray(image), cmap="magma", vmin=0, vmax=vmax, interpolation="nearest")
    _bare(axes, title)


def show_picture(axes: Axes, picture, title: str = ""):
    """An RGB picture [H, W, 3]."""
    axes.imshow(picture, interpolation="antialiased")
    _bare(axes, title)


def show_cloud(axes: Axes, cloud, values=None, title: str = "", limits=None, cmap="viridis", **scatter):
    """Points [N, 3] in the crop frame from the camera's side; coloured by `values` [N], or by nearness."""
    cloud = np.asarray(cloud)
    order = np.argsort(-cloud[:, 2])
    values = 1 - cloud[:, 2] if values is None else np.asarray(values)
    low, high = limits or (values.min(), values.max())
    points = axes.scatter(
        cloud[order, 0], cloud[order, 1], c=values[order], s=2.5, cmap=cmap, vmin=low, vmax=high, lw=0, **scatter
    )
    axes.set(xlim=(0, 1), ylim=(1, 0), aspect="equal")
    _bare(axes, title)
    return points


def grid(rows: int, columns: int, cell: float = 1.5, **kwargs) -> tuple[Figure, np.ndarray]:
    """A figure of rows x columns pictures, `cell` inches each."""
    figure, axes = plt.subplots(rows, columns, figsize=(cell * columns, cell * rows), squeeze=False, **kwargs)
    figure.subplots_adjust(wspace=0.04, hspace=0.12)
    return figure, axes


def contact_sheet(images, titles=None, columns: int = 12, cell: float = 1.15) -> Figure:
    """Depth images [B, H, W] side by side."""
    rows = -(-len(images) // columns)
    figure, axes = grid(rows, columns, cell)
    for axis in axes.flat:
        axis.axis("off")
    for i, (axis, image) in enumerate(zip(axes.flat, images, strict=False)):
        show_depth(axis, image)
        if titles is not None:
            axis.set_title(titles[i], fontsize=7, pad=2)
    return figure


def _bare(axes: Axes, title: str):
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    if title:
        axes.set_title(title)
