"""The z-buffer rasteriser in numba, parallel over the images."""

import numpy as np
import torch
from numba import prange
from torch import Tensor

from ...support.compiled import compiled


def draw(vertices: Tensor, faces: Tensor, intrinsics: Tensor, size: tuple[int, int], closed: bool) -> Tensor:
    """Depth images [B, H, W] of checked meshes, see `hrlib.synthetic.rasterise.rasterise`."""
    depth = np.zeros((len(vertices), *size), np.float32)
    _rasterise(vertices.numpy(), faces.numpy(), intrinsics.numpy(), depth, closed)
    return torch.from_numpy(depth)


@compiled(parallel=True, fastmath={"contract", "arcp", "nsz"})
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
