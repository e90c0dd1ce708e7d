"""Draw a posed mesh to a depth image: a small z-buffer rasteriser (numba), exact at pixel centres.

It makes the synthetic frames. The differentiable renderer of the paper is `hrlib.render`.
"""

from importlib import import_module

import numpy as np
import torch

from ...render import has_triton


def rasterise(vertices_mm, faces, intrinsics, size: tuple[int, int], closed: bool = False) -> np.ndarray | torch.Tensor:
    """Depth images of B meshes.

    vertices_mm [B, V, 3] in the camera frame; faces [F, 3]; intrinsics [B, 4] = (fx, fy, cx, cy) px, one camera an image
    (shift cx, cy to draw a window of a larger image); size (H, W) -> depth_mm [B, H, W] float32: z of the nearest
    surface at each pixel's centre, 0 where there is none. Triangles that reach behind 1 mm are left out.
    closed: the mesh has no opening, so that triangles seen from behind are hidden and need not be drawn.
    Takes arrays and gives an array; vertices that are a tensor on a CUDA device are drawn there (in Triton; without that
    package on the CPU) and give a tensor on that device, without gradients.
    Raises ValueError for wrong shapes, vertices that are not finite, or faces that name no vertex.
    """
    on_device = isinstance(vertices_mm, torch.Tensor) and vertices_mm.is_cuda
    if on_device and not has_triton():
        arrays = (x.detach().cpu() if isinstance(x, torch.Tensor) else x for x in (vertices_mm, faces, intrinsics))
        return torch.from_numpy(rasterise(*arrays, size, closed)).to(vertices_mm.device)
    backend = import_module(".gpu" if on_device else ".cpu", __name__)
    return backend.rasterise(vertices_mm, faces, intrinsics, size, closed)
