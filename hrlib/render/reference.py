"""The renderer in plain torch (paper section 3.3.2, Eq. 3-5): slow, readable, and what the other back ends must equal.

Other back ends evaluate Eq. 4 and 5 in the same order of operations, so that in float32 they round alike.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

# Eq. 3 looks at every point in every pixel; points are taken in chunks of about this many (point, pixel) pairs.
PAIRS_PER_CHUNK = 2**22


def splat(
    points: Float[Tensor, "B N 3"], radius: float | Tensor, height: int, width: int
) -> tuple[Float[Tensor, "B H W"], Int[Tensor, "B H W"]]:
    """Depth and winners (int64, -1 where empty), from arguments that are already checked; a radius may have a gradient."""
    fixed = radius.detach() if isinstance(radius, Tensor) else radius
    winners = find_winners(points.detach(), fixed, height, width)
    return depth_of_winners(points, winners, radius), winners


def depth_of_winners(
    points: Float[Tensor, "B N 3"], winners: Int[Tensor, "B H W"], radius: float | Tensor
) -> Float[Tensor, "B H W"]:
    """Depth of each pixel's winner, 0 where there is none. The derivative of a maximum is that of its winner."""
    if points.shape[1] == 0:
        return points.new_zeros(winners.shape) + points.sum()  # the empty sum keeps the autograd graph
    index = winners.long().clamp(min=0).flatten(1)[..., None].expand(-1, -1, 3)
    winning_points = points.gather(1, index).unflatten(1, winners.shape[1:])  # [B, H, W, 3]
    depth = depth_of_points(winning_points, radius, *pixel_grid(points, *winners.shape[1:]))
    return torch.where(winners >= 0, depth, torch.zeros_like(depth))


def find_winners(
    points: Float[Tensor, "B N 3"], radius: float | Tensor, height: int, width: int
) -> Int[Tensor, "B H W"]:
    """The point that attains Eq. 3's maximum in each pixel: int64, lowest index among equals, -1 if none."""
    batch, count = points.shape[:2]
    best = points.new_zeros(batch, height, width)
    winners = torch.full((batch, height, width), -1, device=points.device)
    i, j = pixel_grid(points, height, width)
    chunk = max(1, PAIRS_PER_CHUNK // max(1, batch * height * width))
    for start in range(0, count, chunk):
        depth = depth_of_points(points[:, start : start + chunk, None, None, :], radius, i, j)  # [B, chunk, H, W]
        value = depth.amax(1)  # Eq. 3: f_ij = max_k depth_ij(p_k)
        first = (depth == value[:, None]).int().argmax(1)  # argmax of 0s and 1s: the lowest index among equals
        brighter = value > best  # strictly: an earlier chunk keeps its ties, and 0 is nothing
        best = torch.where(brighter, value, best)
        winners = torch.where(brighter, start + first, winners)
    return winners


def depth_of_points(p: Float[Tensor, "*shape 3"], radius: float | Tensor, i: Tensor, j: Tensor) -> Tensor:
    """Depth of points p in the pixels of row i and column j, broadcast together."""
    p_x, p_y, p_z = p.unbind(-1)
    dist_squared = (j - p_x) ** 2 + (i - p_y) ** 2
    # Eq. 5: phi = (1 - (dist/r)^2)^2 where dist < r, else 0. The clamp is that condition: past r the bracket is < 0.
    phi = (1 - dist_squared * (1 / (radius * radius))).clamp(min=0) ** 2
    return (1 - p_z) * phi  # Eq. 4


def pixel_grid(like: Tensor, height: int, width: int) -> tuple[Float[Tensor, "H 1"], Float[Tensor, " W"]]:
    """Rows i and columns j of the pixel centres; the first pixel's is at 0."""
    rows = torch.arange(height, dtype=like.dtype, device=like.device)[:, None]
    return rows, torch.arange(width, dtype=like.dtype, device=like.device)
