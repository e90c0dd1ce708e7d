"""Draw a posed mesh to a depth image: a small z-buffer rasteriser (numba), exact at pixel centres.

It makes the synthetic frames. The differentiable renderer of the paper is `hrlib.render`.
"""

import numpy as np
import torch
from numba import njit, prange

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
    if isinstance(vertices_mm, torch.Tensor) and vertices_mm.is_cuda:
        if has_triton():
            from .gpu import rasterise as rasterise_on_device

            return rasterise_on_device(vertices_mm, faces, intrinsics, size, closed)
        arrays = (x.detach().cpu() if isinstance(x, torch.Tensor) else x for x in (vertices_mm, faces, intrinsics))
        return torch.from_numpy(rasterise(*arrays, size, closed)).to(vertices_mm.device)
    vertices = np.ascontiguousarray(vertices_mm, np.float32)
    intrinsics = np.ascontiguousarray(intrinsics, np.float32)
    faces = np.ascontiguousarray(faces, np.int64)
    lowest, highest = int(faces.min(initial=0)), int(faces.max(initial=0))
    check(vertices.shape, intrinsics.shape, np.isfinite(vertices).all(), faces.shape, lowest, highest)
    depth = np.zeros((len(vertices), *size), np.float32)
    _rasterise(vertices, faces, intrinsics, depth, closed)
    return depth


def check(vertices: tuple, intrinsics: tuple, finite: bool, faces: tuple, lowest: int, highest: int) -> None:
    """Refuse what the kernels cannot draw, by the arguments' shapes and the faces' extremes (0 among them)."""
    if len(vertices) != 3 or vertices[2] != 3:
        raise ValueError(f"vertices_mm must be [B, V, 3], got {list(vertices)}")
    if tuple(intrinsics) != (vertices[0], 4):
        raise ValueError(f"intrinsics must be [B, 4] with B = {vertices[0]}, got {list(intrinsics)}")
    if not finite:
        raise ValueError("vertices_mm holds NaN or infinite numbers; the pose that made them is broken")
    # the kernels do not check: a wrong index would read foreign memory
    if len(faces) != 2 or faces[1] != 3 or lowest < 0 or (highest >= vertices[1] and faces[0]):
        raise ValueError(
            f"faces must be [F, 3] indices below V = {vertices[1]}, got {list(faces)} from {lowest} to {highest}"
        )


@njit(parallel=True, cache=True, fastmath={"contract", "arcp", "nsz"})
def _rasterise(vertices, faces, intrinsics, depth, closed):
    height, width = depth.shape[1:]
    for b in prange(len(vertices)):
        fx, fy, cx, cy = intrinsics[b]
        count = vertices.shape[1]
        u, v, w = np.empty(count, np.float32), np.empty(count, np.float32), np.empty(count, np.float32)
        for i in range(count):
            z = vertices[b, i, 2]
            w[i] = 1 / z if z > 1 else 0  # 1/z is linear in the image, z is not
            u[i] = vertices[b, i, 0] * w[i] * fx + cx
            v[i] = vertices[b, i, 1] * w[i] * fy + cy
        for f in range(len(faces)):
            i0, i1, i2 = faces[f]
            if w[i0] == 0 or w[i1] == 0 or w[i2] == 0:
                continue
            u0, v0, u1, v1, u2, v2 = u[i0], v[i0], u[i1], v[i1], u[i2], v[i2]
            area = (u1 - u0) * (v2 - v0) - (v1 - v0) * (u2 - u0)
            # seen from outside, corners run clockwise with v down, which makes this area negative
            if area == 0 or (closed and area > 0):
                continue
            first_row = max(0, int(np.ceil(min(v0, v1, v2))))
            last_row = min(height - 1, int(np.floor(max(v0, v1, v2))))
            first_col = max(0, int(np.ceil(min(u0, u1, u2))))
            last_col = min(width - 1, int(np.floor(max(u0, u1, u2))))
            inverse = 1 / area
            for row in range(first_row, last_row + 1):
                for col in range(first_col, last_col + 1):
                    # barycentric coordinates from the signed areas opposite to each corner
                    a0 = ((u1 - col) * (v2 - row) - (v1 - row) * (u2 - col)) * inverse
                    a1 = ((u2 - col) * (v0 - row) - (v2 - row) * (u0 - col)) * inverse
                    a2 = 1 - a0 - a1
                    if a0 >= 0 and a1 >= 0 and a2 >= 0:
                        z = 1 / (a0 * w[i0] + a1 * w[i1] + a2 * w[i2])
                        if depth[b, row, col] == 0 or z < depth[b, row, col]:
                            depth[b, row, col] = z
