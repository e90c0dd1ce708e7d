"""The z-buffer rasteriser in Triton, for tensors on a CUDA device, parallel over the triangles.

A program takes a block of one image's triangles, walks their bounding boxes row by row and lowers the pixels' z by an
atomic minimum on its bits, which order like positive floats. Thus the image does not depend on the programs' order. This
suits a hand, whose triangles cover a handful of pixels each.

Barycentric coordinates are float32 here and partly float64 in the numba kernel: a pixel's centre within some 1e-5 px of a
triangle's edge may fall to either side.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

INTERPRETED = triton.knobs.runtime.interpret  # TRITON_INTERPRET=1 when triton was imported: kernels run on the CPU
EXACT = {"enable_fp_fusion": False}  # an edge that two triangles share gives them areas that differ in sign alone
FACES, COLUMNS = 32, 8  # triangles of a program, and how many columns of their boxes it has in hand at once


def draw(vertices: Tensor, faces: Tensor, intrinsics: Tensor, size: tuple[int, int], closed: bool) -> Tensor:
    """Depth images [B, H, W] of checked meshes, see `hrlib.synthetic.rasterise.rasterise`."""
    if not vertices.is_cuda and not INTERPRETED:
        raise ValueError(
            f'backend "gpu" draws on a CUDA device, got vertices_mm on {vertices.device}; leave backend out'
        )
    height, width = (int(side) for side in size)
    depth = torch.full((len(vertices), height, width), torch.inf, device=vertices.device)
    blocks = triton.cdiv(len(faces), FACES)
    if depth.numel() and blocks:
        sizes = (vertices.shape[1], len(faces), blocks, height, width)
        arguments = (vertices, faces, intrinsics, depth.view(torch.int32), *sizes, closed, FACES, COLUMNS)
        with torch.cuda.device_of(vertices):  # does nothing for a tensor on the CPU, which the interpreter takes
            _draw[len(vertices) * blocks,](*arguments, **EXACT)
    return depth.masked_fill_(depth == torch.inf, 0)


@triton.jit
def _corner(vertices, index, exists, fx, fy, cx, cy):
    """Image coordinates u, v of a block of vertices and 1/z, which is 0 where a vertex is not before the camera."""
    vertex = vertices + tl.load(index, mask=exists, other=0) * 3
    z = tl.load(vertex + 2, mask=exists, other=0.0)
    w = tl.where(z > 1, 1 / z, 0.0)  # 1/z is linear in the image, z is not
    u = tl.load(vertex, mask=exists, other=0.0) * w * fx + cx
    v = tl.load(vertex + 1, mask=exists, other=0.0) * w * fy + cy
    return u, v, w


# Sizes are not specialised: a kernel is compiled once, not anew for sizes that divide by 16.
@triton.jit(do_not_specialize=["vertex_count", "face_count", "blocks", "height", "width"])
def _draw(
    vertices, faces, intrinsics, depth_bits, vertex_count, face_count, blocks, height, width,
    CLOSED: tl.constexpr, FACES: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """A block of triangles of one image into depth_bits [B, H, W], the bits of z as int32."""
    program = tl.program_id(0)
    image = (program // blocks).to(tl.int64)
    f = (program % blocks) * FACES + tl.arange(0, FACES)
    exists = f < face_count
    camera = intrinsics + image * 4
    fx, fy, cx, cy = tl.load(camera), tl.load(camera + 1), tl.load(camera + 2), tl.load(camera + 3)
    vertices += image * vertex_count * 3
    depth_bits += image * height * width
    u0, v0, w0 = _corner(vertices, faces + f * 3, exists, fx, fy, cx, cy)
    u1, v1, w1 = _corner(vertices, faces + f * 3 + 1, exists, fx, fy, cx, cy)
    u2, v2, w2 = _corner(vertices, faces + f * 3 + 2, exists, fx, fy, cx, cy)
    area = (u1 - u0) * (v2 - v0) - (v1 - v0) * (u2 - u0)
    drawn = (w0 > 0) & (w1 > 0) & (w2 > 0) & (area != 0)
    if CLOSED:  # seen from outside, corners run clockwise with v down, which makes this area negative
        drawn = drawn & (area < 0)
    # Clip while still in floats, where a corner far away cannot overflow; a box off the image ends before it starts.
    left = tl.ceil(tl.minimum(tl.maximum(tl.minimum(tl.minimum(u0, u1), u2), 0.0), width)).to(tl.int32)
    right = tl.floor(tl.minimum(tl.maximum(tl.maximum(tl.maximum(u0, u1), u2), -1.0), width - 1)).to(tl.int32)
    top = tl.ceil(tl.minimum(tl.maximum(tl.minimum(tl.minimum(v0, v1), v2), 0.0), height)).to(tl.int32)
    bottom = tl.floor(tl.minimum(tl.maximum(tl.maximum(tl.maximum(v0, v1), v2), -1.0), height - 1)).to(tl.int32)
    drawn = drawn & (left <= right) & (top <= bottom)
    rows = tl.max(tl.where(drawn, bottom - top + 1, 0), 0)
    columns = tl.max(tl.where(drawn, right - left + 1, 0), 0)
    inverse = 1 / area
    for step in range(0, columns, COLUMNS):
        column = left[:, None] + step + tl.arange(0, COLUMNS)[None, :]
        inside_columns = drawn[:, None] & (column <= right[:, None])
        x = column.to(tl.float32)
        for below in range(0, rows):
            row = top + below
            y = row.to(tl.float32)
            # barycentric coordinates from the signed areas opposite to each corner
            a0 = ((u1[:, None] - x) * (v2 - y)[:, None] - (v1 - y)[:, None] * (u2[:, None] - x)) * inverse[:, None]
            a1 = ((u2[:, None] - x) * (v0 - y)[:, None] - (v2 - y)[:, None] * (u0[:, None] - x)) * inverse[:, None]
            a2 = 1 - a0 - a1
            inside = inside_columns & (row <= bottom)[:, None] & (a0 >= 0) & (a1 >= 0) & (a2 >= 0)
            z = 1 / (a0 * w0[:, None] + a1 * w1[:, None] + a2 * w2[:, None])
            at = depth_bits + row[:, None] * width + column
            tl.atomic_min(at, z.to(tl.int32, bitcast=True), mask=inside, sem="relaxed")
