"""The renderer (paper section 3.3.2, Eq. 3-5) in Triton: float32 on the GPU, memory linear in B (HW + N).

Forward is parallel over the pixels of a window. A program lays its threads over the largest window once, moves them from
point to point of a block and hands each pixel a 64-bit key by an atomic maximum. The key is the value's bits (a positive
float orders like them) above the complement of the point's index: the largest value wins and, among equals, the lowest
index, so image and winners are deterministic. Most candidates lose without an atomic. A second pass reads the keys.

A program per tile of pixels, as in rasterisers of Gaussians, needs points binned by tile first: more launches than all of
this, and launches are what a batch of 32 costs. Each point would also be tried on five times its window's pixels at r = 5.

Backward visits each pixel once and adds its gradient to its winner by atomics, whose order changes the last bits.
0.54 ms for 32 images, forward and backward, on an H200: 132 times as fast as the reference (benchmarks/results/gpu.json).
"""

from functools import partial

import torch
import triton
import triton.language as tl

from ..support.autograd import gradient_alone, gradients_of_reference
from .reference import depth_of_winners

INTERPRETED = triton.knobs.runtime.interpret  # TRITON_INTERPRET=1 when triton was imported: kernels run on the CPU
EXACT = {"enable_fp_fusion": False}  # no a * b + c rounded once: the kernels round exactly as the reference does
# Pixels of a window at once (larger windows in pieces), points of a program, and warps of 32 threads: the fastest of 49
# ways tried on an H200, where threads over (point, column) pairs that walked down the rows took a third longer.
MOST_PLACES, POINTS, WARPS = 128, 16, 2
PIXELS = 512  # per program, where pixels are visited
# In float32 a pixel can count as inside although its true distance is up to a few rounding errors (6e-8) beyond r.
ROUNDING_MARGIN = 1e-6


def splat(points: torch.Tensor, radius: float, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Points [B, N, 3] -> depth [B, H, W] and winners [B, H, W] (int32, -1 where empty). Arguments already checked."""
    return _Splat.apply(points, radius, height, width)


class _Splat(torch.autograd.Function):
    @staticmethod
    def forward(ctx, points, radius, height, width):
        ctx.radius, points, given = radius, points.detach().contiguous(), points
        batch, count = points.shape[:2]
        depth = points.new_empty(batch, height, width)
        winners = torch.empty_like(depth, dtype=torch.int32)
        keys = torch.zeros_like(depth, dtype=torch.int64)  # 0: nothing seen yet
        # The window's bounds are computed in float32 too, from coordinates no larger than the image and a radius.
        reach = radius + ROUNDING_MARGIN * (2 * radius + max(height, width))
        rows, columns = (int(min(2 * reach + 1, side)) for side in (height, width))  # of the largest window
        places = min(triton.next_power_of_2(rows * columns), MOST_PLACES)
        blocks = triton.cdiv(count, POINTS)
        with torch.cuda.device_of(points):  # does nothing for a tensor on the CPU, which the interpreter takes
            if batch and count:
                sizes = (count, blocks, height, width, rows, columns)
                numbers = (min(reach, 3e38), 1 / (radius * radius))  # float32 arguments
                _keep_brightest[batch * blocks,](
                    points, keys, *sizes, *numbers, POINTS, places, num_warps=WARPS, **EXACT
                )
            if batch:
                _read_keys[triton.cdiv(keys.numel(), PIXELS),](keys, depth, winners, keys.numel(), PIXELS)
        ctx.save_for_backward(given, winners)
        ctx.mark_non_differentiable(winners)
        ctx.set_materialize_grads(False)
        return depth, winners

    @staticmethod
    def backward(ctx, grad_depth, _):
        if grad_depth is None:
            return None, None, None, None
        points, winners = ctx.saved_tensors
        if not gradient_alone(grad_depth):
            again = partial(depth_of_winners, winners=winners, radius=ctx.radius)
            return *gradients_of_reference(again, (points,), ctx.needs_input_grad[:1], grad_depth), None, None, None
        points = points.detach().contiguous()
        batch, height, width = winners.shape
        grad = torch.zeros_like(points)
        blocks = triton.cdiv(height * width, PIXELS)
        if points.numel():
            tensors = (points, winners, grad_depth.contiguous(), grad)
            sizes = (points.shape[1], blocks, height * width, width)
            with torch.cuda.device_of(points):
                _add_to_winners[batch * blocks,](*tensors, *sizes, 1 / (ctx.radius * ctx.radius), PIXELS, **EXACT)
        return grad, None, None, None


# Sizes are not specialised: a kernel is compiled once, not anew for sizes that divide by 16.
@triton.jit(do_not_specialize=["count", "blocks", "height", "width", "rows", "columns"])
def _keep_brightest(
    points, keys, count, blocks, height, width, rows, columns, reach, inverse_r_squared,
    POINTS: tl.constexpr, PLACES: tl.constexpr,
):  # fmt: skip
    """A block of points of one image into keys [B, H, W] (Eq. 3)."""
    program = tl.program_id(0)
    image = (program // blocks).to(tl.int64)
    first = (program % blocks) * POINTS
    points += image * count * 3
    keys += image * height * width
    for start in range(0, rows * columns, PLACES):
        place = start + tl.arange(0, PLACES)
        down = place // columns
        across = place - down * columns
        for k in range(first, first + POINTS):
            exists = k < count
            p_x = tl.load(points + k * 3, mask=exists, other=0.0)
            p_y = tl.load(points + k * 3 + 1, mask=exists, other=0.0)
            brightness = 1 - tl.load(points + k * 3 + 2, mask=exists, other=1.0)
            # Clip while still in floats, where a point far away cannot overflow; a window off the image ends before it starts.
            left = tl.ceil(tl.minimum(tl.maximum(p_x - reach, 0.0), width)).to(tl.int32)
            right = tl.floor(tl.minimum(tl.maximum(p_x + reach, -1.0), width - 1)).to(tl.int32)
            top = tl.ceil(tl.minimum(tl.maximum(p_y - reach, 0.0), height)).to(tl.int32)
            bottom = tl.floor(tl.minimum(tl.maximum(p_y + reach, -1.0), height - 1)).to(tl.int32)
            i, j = top + down, left + across
            dx, dy = j.to(tl.float32) - p_x, i.to(tl.float32) - p_y
            bracket = tl.maximum(1 - (dx * dx + dy * dy) * inverse_r_squared, 0.0)  # Eq. 5's condition dist < r
            value = brightness * (bracket * bracket)  # Eq. 4
            key = (value.to(tl.int32, bitcast=True).to(tl.int64) << 32) | (0x7FFFFFFF - k)
            seen = (value > 0) & (j <= right) & (i <= bottom)
            at = keys + i * width + j
            # A key that is out of date is lower than the pixel's own: it costs an atomic, never a winner.
            held = tl.load(at, mask=seen, other=0)
            tl.atomic_max(at, key, mask=seen & (key > held), sem="relaxed")  # Eq. 3


@triton.jit(do_not_specialize=["total"])
def _read_keys(keys, depth, winners, total, BLOCK: tl.constexpr):
    """Keys [total] -> depth [total] and winners [total], all B H W pixels in a row."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < total
    key = tl.load(keys + at, mask=inside, other=0)
    tl.store(depth + at, (key >> 32).to(tl.int32).to(tl.float32, bitcast=True), mask=inside)
    winner = 0x7FFFFFFF - (key & 0x7FFFFFFF)
    tl.store(winners + at, tl.where(key > 0, winner, -1).to(tl.int32), mask=inside)


@triton.jit(do_not_specialize=["count", "blocks", "pixels", "width"])
def _add_to_winners(
    points, winners, grad_depth, grad, count, blocks, pixels, width, inverse_r_squared, BLOCK: tl.constexpr
):
    """Add the gradients of a block of one image's pixels to their winners: the derivatives of Eq. 4 and 5."""
    program = tl.program_id(0)
    image = (program // blocks).to(tl.int64)
    pixel = (program % blocks) * BLOCK + tl.arange(0, BLOCK)
    at = image * pixels + pixel
    k = tl.load(winners + at, mask=pixel < pixels, other=-1)
    won = k >= 0
    weight = tl.load(grad_depth + at, mask=won, other=0.0)
    point = (image * count + k) * 3
    dx = (pixel % width).to(tl.float32) - tl.load(points + point, mask=won, other=0.0)
    dy = (pixel // width).to(tl.float32) - tl.load(points + point + 1, mask=won, other=0.0)
    brightness = 1 - tl.load(points + point + 2, mask=won, other=0.0)
    bracket = tl.maximum(1 - (dx * dx + dy * dy) * inverse_r_squared, 0.0)
    # d phi / d p_x = 2 bracket * 2 dx / r^2
    slope = weight * brightness * bracket * inverse_r_squared * 4
    tl.atomic_add(grad + point, slope * dx, mask=won, sem="relaxed")
    tl.atomic_add(grad + point + 1, slope * dy, mask=won, sem="relaxed")
    tl.atomic_add(grad + point + 2, -weight * (bracket * bracket), mask=won, sem="relaxed")
