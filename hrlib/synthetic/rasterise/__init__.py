"""Draw posed meshes to depth images, exact at pixel centres: the z-buffer rasteriser that makes synthetic frames.

The differentiable renderer of the paper is `hrlib.render`. Two back ends draw the same images: `cpu.py` in numba, and
`gpu.py` in Triton for CUDA devices.
"""

from importlib import import_module

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ...render import has_triton

Array = np.ndarray | Tensor


def rasterise(
    vertices_mm: Float[Array, "B V 3"],
    faces: Int[Array, "F 3"],
    intrinsics: Float[Array, "B 4"],
    size: tuple[int, int],
    closed: bool = False,
    backend: str | None = None,
) -> Float[Array, "B H W"]:
    """Depth images (mm, float32) of B meshes: z of the nearest surface at each pixel's centre, 0 where there is none.

    Args:
        vertices_mm: in the camera frame. A tensor gives a tensor on its device, without gradients; an array an array.
        faces: three vertices each. Triangles that reach behind 1 mm are left out.
        intrinsics: fx, fy, cx, cy of each image's camera, px. Shift cx, cy to draw a window of a larger image.
        size: (H, W) in pixels.
        closed: the mesh has no opening, so triangles seen from behind are hidden and need not be drawn.
        backend: "cpu" or "gpu"; None takes "gpu" for vertices on a CUDA device where triton is installed.

    Raises:
        ValueError: wrong shapes, vertices that are not finite, or faces that name no vertex.
    """
    vertices = vertices_mm if isinstance(vertices_mm, Tensor) else torch.from_numpy(np.ascontiguousarray(vertices_mm))
    backend = backend or ("gpu" if vertices.is_cuda and has_triton() else "cpu")
    device = torch.device("cpu") if backend == "cpu" else vertices.device
    vertices = vertices.detach().to(device, torch.float32).contiguous()
    intrinsics = torch.as_tensor(intrinsics).detach().to(device, torch.float32).contiguous()
    faces = torch.as_tensor(faces).to(device, torch.int32).contiguous()
    _check(vertices, faces, intrinsics)
    depth = import_module(f".{backend}", __name__).draw(vertices, faces, intrinsics, size, closed)
    return depth.to(vertices_mm.device) if isinstance(vertices_mm, Tensor) else depth.numpy()


def _check(vertices: Tensor, faces: Tensor, intrinsics: Tensor) -> None:
    """The one place that validates what the back ends then rely on; waits once for the device."""
    if vertices.ndim != 3 or vertices.shape[2] != 3:
        raise ValueError(f"vertices_mm must be [B, V, 3], got {list(vertices.shape)}")
    count, points = vertices.shape[:2]
    if intrinsics.shape != (count, 4):
        raise ValueError(f"intrinsics must be [B, 4] with B = {count}, got {list(intrinsics.shape)}")
    extremes = torch.cat([faces.flatten(), faces.new_zeros(1)]).aminmax()  # no faces have no extremes; 0 does no harm
    finite, lowest, highest = torch.stack([torch.isfinite(vertices).all().int(), *extremes]).tolist()
    if not finite:
        raise ValueError("vertices_mm holds NaN or infinite numbers; the pose that made them is broken")
    # the kernels do not check: a wrong index would read foreign memory
    if faces.ndim != 2 or faces.shape[1] != 3 or lowest < 0 or (highest >= points and len(faces)):
        raise ValueError(
            f"faces must be [F, 3] indices below V = {points}, got {list(faces.shape)} from {lowest} to {highest}"
        )
