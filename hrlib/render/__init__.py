"""Differentiable depth image of a point cloud (paper section 3.3.2, Eq. 3-5).

One function, `splat_depth`, over several back ends that give the same image, winners and gradients:

- `reference.py`: plain torch, any device, float32 or float64. The oracle: slow, but every equation is in sight.
- `cpu.py`: numba, float32. Imported (and compiled, once per machine) at its first use.
- `gpu.py`: Triton, float32 on CUDA devices; through Triton's interpreter also, slowly, on the CPU. Imported likewise.
"""

import math
import operator
import warnings
from functools import cache
from importlib import import_module
from importlib.util import find_spec

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..support.autograd import beyond_kernels, full_precision, unwrapped, without_numbers
from . import reference

# A back end is a module of this package with `splat(points, radius, height, width) -> depth, winners`.
BACKENDS = ("reference", "cpu", "gpu")
SMALL = 16  # points or px: fewer tell nothing of the unit


@full_precision
def splat_depth(
    points: Float[Tensor, "B N 3"],
    radius: float | Float[Tensor, ""],
    size: tuple[int, int],
    backend: str | None = None,
    return_winners: bool = False,
) -> Float[Tensor, "B H W"] | tuple[Float[Tensor, "B H W"], Int[Tensor, "B H W"]]:
    """Render point clouds to depth images that are differentiable in u, v and z (paper Eq. 3-5).

    >>> points = torch.tensor([[[60.0, 60.0, 0.25]]], requires_grad=True)  # in pixels, in pixels, from 0 near to 1 far
    >>> depth = hrlib.splat_depth(points, radius=5.0, size=(120, 120))
    >>> depth[0, 60, 60].item(), (depth > 0).sum().item()
    (0.75, 69)

    A pixel at distance d (px) from a point sees it with the value (1 - z) (1 - (d/r)^2)^2 where d < r, and takes the
    largest such value over all points. Only positive values count: a point with z >= 1 is never seen, one with z < 0
    is brighter than 1 (nothing is clamped). A point outside the image still reaches the pixels within r of it.

    The point with the largest value is the pixel's winner (among equals, the one with the lowest index) and takes the
    pixel's whole gradient. A pixel that no point reaches is 0 and passes no gradient on. Where torch asks for more than
    gradients (second derivatives, `torch.func`, forward mode), the reference computes.

    Args:
        points: columns (u px, v px, z in [0, 1]), float32 or float64. B and N may be 0.
        radius: r in pixels, > 0; a tensor may have a gradient, which the reference computes.
        size: (H, W) in pixels.
        backend: "reference", "cpu" or "gpu"; None takes "cpu" for float32 tensors on the CPU, "gpu" for those on a CUDA
            device where triton is installed, and "reference" otherwise. Gradients of "gpu" vary in their last bits from
            run to run.
        return_winners: also return the index of each pixel's winner.

    Returns:
        depth, with dtype and device of `points`; with `return_winners` also winners, int64, -1 where the pixel is empty.

    Raises:
        ValueError: wrong shape or dtype, NaN or infinite points, impossible radius or size, unsuitable back end.

    Warns if no point can be seen, as with millimetres instead of pixels: the image is black.
    """
    radius, height, width = _check(points, radius, size)
    name = _choose_backend(backend, points, radius)
    module = reference if name == "reference" else import_module(f".{name}", __name__)
    depth, winners = module.splat(points, radius, height, width)
    return (depth, winners.long()) if return_winners else depth


def _check(points: Tensor, radius: float | Tensor, size: tuple[int, int]) -> tuple[float | Tensor, int, int]:
    """Radius (a tensor only if it is learnt), H, W, once all that the back ends rely on is checked."""
    if not isinstance(points, torch.Tensor):
        raise ValueError(f"points must be a torch.Tensor [B, N, 3], got {type(points).__name__}; use torch.as_tensor")
    if points.ndim != 3 or points.shape[-1] != 3:
        mend = "points.transpose(1, 2) has the columns last" if points.ndim == 3 and points.shape[1] == 3 else None
        raise ValueError(
            f"points must be [B, N, 3] = (u px, v px, z), got {list(points.shape)}; "
            f"{mend or 'add a batch axis with points[None], or keep just the columns u, v, z'}"
        )
    if points.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"points must be float32 or float64, got {points.dtype}; convert with points.float()")
    # Below 1e-15 px, 1/r^2 leaves the range of float32.
    if not 1e-15 <= (radius_px := _in_pixels(radius)) < math.inf:
        raise ValueError(f"radius must be a finite number of pixels > 0, got {radius!r}; 5 px suits a 120 x 120 image")
    try:
        height, width = (operator.index(side) for side in size)
    except (TypeError, ValueError):
        height, width = 0, 0
    if height < 1 or width < 1:
        raise ValueError(f"size must be two positive integers (H, W) in pixels, got {size!r}; e.g. size=(120, 120)")
    if without_numbers(points):
        return radius.to(points) if _is_learnt(radius) else radius_px, height, width
    # One cheap pass for the usual case: NaN or infinity anywhere reaches the sum (which may overflow by itself).
    numbers = unwrapped(points)
    if not math.isfinite(numbers.sum()):
        bad = (~torch.isfinite(numbers).all(-1)).flatten(0, -2).sum(-1)  # [B]
        if bad.any():
            first = int(bad.nonzero()[0])
            raise ValueError(
                f"points must be finite, got {int(bad[first])} NaN or infinite point(s) in image {first} of the batch "
                f"(the first such image), {int(bad.sum())} in the whole batch; drop them or mend what produced them"
            )
    _warn_of_a_black_image(numbers.reshape(-1, 3), radius_px, height, width)
    _warn_of_shares(numbers.reshape(-1, 3), height, width)
    return radius.to(points) if _is_learnt(radius) else radius_px, height, width


def _warn_of_a_black_image(points: Tensor, radius_px: float, height: int, width: int) -> None:
    """Warn if every point is farther than the cube or beside the image. One look suffices if the first is not."""
    for some in (points[:1], points):
        u, v, z = some.unbind(-1)
        aside = (u <= -radius_px) | (u >= width - 1 + radius_px) | (v <= -radius_px) | (v >= height - 1 + radius_px)
        if not len(some) or not ((z >= 1) | aside).all():
            return
    ranges = ", ".join(f"{name} {x.min():.4g} to {x.max():.4g}" for name, x in (("u", u), ("v", v), ("z", z)))
    warnings.warn(
        f"no point is within the image of {height} x {width} px and nearer than z = 1 ({ranges}): the depth is 0 everywhere. "
        "u and v are pixels, z is 0 to 1; hrlib.method.to_crop and to_pixels bring millimetres there",
        stacklevel=5,  # past `_check`, `splat_depth` and its decorator: the line that called it
    )


def _warn_of_shares(points: Tensor, height: int, width: int) -> None:
    """Warn if all points are within one pixel, as u and v in [0, 1] are. One look suffices if the first is not."""
    if min(height, width) < SMALL or len(points) < SMALL or not _within_one(points[:1]) or not _within_one(points):
        return
    warnings.warn(
        f"u and v of all points are between 0 and 1: they are pixels, of an image of {height} x {width} px; "
        "hrlib.method.to_pixels brings crop units there",
        stacklevel=5,
    )


def _within_one(points: Tensor) -> bool:
    return bool(((points[:, :2] >= 0) & (points[:, :2] <= 1)).all())


def _in_pixels(radius: object) -> float:
    """The radius as a number, the worst one of a batch under `vmap`; NaN if it is none."""
    try:
        if isinstance(radius, Tensor) and radius.ndim == 0:
            numbers = unwrapped(radius)
            return float(numbers.min()) if numbers.isfinite().all() else math.nan
        return float(radius)
    except (TypeError, ValueError, RuntimeError):  # RuntimeError: a tensor of several numbers
        return math.nan


def _is_learnt(radius: object) -> bool:
    return isinstance(radius, Tensor) and (radius.requires_grad or beyond_kernels(radius))


def _choose_backend(backend: str | None, points: Tensor, radius: float | Tensor) -> str:
    more = isinstance(radius, Tensor) or beyond_kernels(points)
    if backend is None:
        if more or points.dtype != torch.float32:
            return "reference"
        if points.device.type == "cpu":
            return "cpu"
        return "gpu" if points.device.type == "cuda" and has_triton() else "reference"
    if backend not in BACKENDS:
        valid = ", ".join(f'"{name}"' for name in BACKENDS)
        raise ValueError(f"backend must be None or one of {valid}, got {backend!r}; None picks one by device and dtype")
    if backend != "reference" and more:
        raise ValueError(
            f'backend "{backend}" gives first gradients of points alone, here the radius has one, or torch transforms or '
            'records the function; leave backend out, or use "reference"'
        )
    if backend == "cpu" and (points.device.type != "cpu" or points.dtype != torch.float32):
        raise ValueError(
            f'backend "cpu" takes float32 points on the CPU, got {points.dtype} on {points.device}; '
            'convert them, or use backend="reference"'
        )
    if backend == "gpu":
        if not has_triton():
            raise ValueError(
                'backend "gpu" needs the package triton, which is not installed: pip install triton (CUDA builds of '
                'torch for Linux bring it), or use backend="reference"'
            )
        on_device = points.device.type == "cuda" or import_module(".gpu", __name__).INTERPRETED
        if not on_device or points.dtype != torch.float32:
            raise ValueError(
                f'backend "gpu" takes float32 points on a CUDA device, got {points.dtype} on {points.device}; convert '
                "them, leave backend out, or set TRITON_INTERPRET=1 before Python starts to try the kernels on the CPU"
            )
    return backend


@cache
def has_triton() -> bool:
    """Whether the package triton is installed (it has no builds for macOS and Windows)."""
    return find_spec("triton") is not None
