"""The sensor in torch, for tensors on a CUDA device: each operation takes whole images.

Values are float32 here and partly float64 in the numba kernel: a pixel whose shift or step is just between two may fall to
either.
"""

import math
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from .model import OUTLINE_MM, REACH_PX, DepthSensor, StructuredLight


@torch.no_grad()
def measure(
    depth_mm: Float[Tensor, "B H W"], fx: Float[Tensor, " B"], sensor: DepthSensor, seed: int
) -> Float[Tensor, "B H W"]:
    """As `hrlib.synthetic.sensor.measure` describes it, from tensors on one device."""
    if not isinstance(sensor, StructuredLight):
        raise NotImplementedError(f"{type(sensor).__name__} is measured on the CPU alone: hand over an array")
    depth, s = depth_mm.float(), sensor
    height, width = depth.shape[1:]
    stream = (seed * 1000003 + torch.arange(len(depth), device=depth.device)) * 3
    along_u = _smooth_noise(stream, height, width, s.lateral_grain_px)
    along_v = _smooth_noise(stream + 1, height, width, s.lateral_grain_px)
    along_z = _smooth_noise(stream + 2, height, width, s.axial_grain_px)
    steepest = math.tan(math.radians(s.steepest_deg))
    lit, tangent = _lit_by_projector(depth, fx, s.baseline_mm), _tangents(depth, fx)
    # where each pixel looks
    angle = tangent.clamp_max(steepest).atan()
    sigma = s.lateral_px + s.lateral_growth * angle / (math.pi / 2 - angle)
    du, dv = (sigma * along_u).round().long(), (sigma * along_v).round().long()
    v, u = (torch.arange(n, device=depth.device) for n in (height, width))
    su, sv = u + du, v[:, None] + dv
    inside = (su >= 0) & (sv >= 0) & (su < width) & (sv < height)
    inside &= torch.maximum(du.abs(), dv.abs()) <= REACH_PX
    own = v[:, None] * width + u
    at = torch.where(inside, sv * width + su, own).flatten(1)
    same = (lit > 0) & ((_look(lit, at) - lit).abs() < OUTLINE_MM)  # the same surface: its error is in the axial noise
    at = torch.where(same, own, at.unflatten(1, (height, width))).flatten(1)
    z, tangent = _look(lit, at), _look(tangent, at)
    # how deep it is
    angle, metres = tangent.atan(), z / 1000
    sigma = s.axial_mm + s.axial_growth * (metres - 0.4).square()
    grazing = s.axial_grazing_mm / metres.clamp_min(1e-3).sqrt() * (angle / (math.pi / 2 - angle)).square()
    value = z + (sigma + grazing * (angle > math.pi / 3)) * along_z
    step = s.step_mm + s.step_growth * z * z
    if s.step_mm or s.step_growth:
        value = (value / step).round() * step
    return torch.where((z > 0) & (tangent <= steepest), value, 0)


def _look(image: Tensor, at: Tensor) -> Tensor:
    """[B, H, W]: what each pixel sees of the images where `at` [B, H * W] says, as flat indices of pixels."""
    return image.flatten(1).gather(1, at).view(image.shape)


def _smooth_noise(stream: Tensor, height: int, width: int, grain: int) -> Tensor:
    """[B, H, W] of variance 1: a lattice of normal numbers `grain` pixels apart, between its nodes linear."""
    rows, columns = height // grain + 2, width // grain + 2
    node = torch.arange(rows * columns, device=stream.device)
    lattice = _normal(stream[:, None] * (1 << 20) + node).float().unflatten(1, (rows, columns))
    return _between(height, grain, stream.device) @ lattice @ _between(width, grain, stream.device).T


@cache
def _between(length: int, grain: int, device: torch.device) -> Tensor:
    """[length, nodes]: each pixel's weights on the two nodes beside it, the sum of their squares one."""
    pixel = torch.arange(length)
    part = (pixel % grain) / grain
    weight = torch.zeros(length, length // grain + 2)
    weight[pixel, pixel // grain], weight[pixel, pixel // grain + 1] = 1 - part, part
    return (weight / weight.norm(dim=1, keepdim=True)).to(device)


def _normal(key: Tensor) -> Tensor:
    """A standard normal number from each 64-bit key, as the numba kernel draws it (int64 wraps like uint64)."""

    def uniform(k):
        z = (key * 2 + k) * _signed(0x9E3779B97F4A7C15)
        z = (z ^ _shifted(z, 30)) * _signed(0xBF58476D1CE4E5B9)
        z = (z ^ _shifted(z, 27)) * _signed(0x94D049BB133111EB)
        return _shifted(z ^ _shifted(z, 31), 11).double() / 2**53

    return (-2 * (uniform(1) + 1e-300).log()).sqrt() * (2 * math.pi * uniform(2)).cos()


def _signed(number: int) -> int:
    return number - (1 << 64)


def _shifted(z: Tensor, by: int) -> Tensor:
    """z >> by of the unsigned number that z's bits are."""
    return (z >> by) & ((1 << (64 - by)) - 1)


def _lit_by_projector(depth: Tensor, fx: Tensor, baseline: float) -> Tensor:
    """The image without the pixels that a nearer surface hides from the projector."""
    u = torch.arange(depth.shape[2], device=depth.device)
    side = 1 if baseline > 0 else -1
    column = torch.where(depth > 0, side * (u - fx[:, None, None] * baseline / depth), math.inf)
    column = column.flip(2) if baseline > 0 else column
    before = torch.cummin(column, 2).values[..., :-1]  # the extreme up to each pixel's predecessor
    lit = torch.cat([torch.full_like(column[..., :1], math.inf), before], 2) > column
    return torch.where(lit.flip(2) if baseline > 0 else lit, depth, 0)


def _tangents(depth: Tensor, fx: Tensor) -> Tensor:
    """Tangent of the angle between each pixel's surface and the image plane; outlines do not count."""
    slope = torch.zeros_like(depth)
    known = depth > 0
    for axis in (1, 2):
        n = depth.shape[axis]
        step = depth.narrow(axis, 1, n - 1) - depth.narrow(axis, 0, n - 1)
        both = known.narrow(axis, 1, n - 1) & known.narrow(axis, 0, n - 1)
        step = torch.where(both, step.abs(), math.inf)
        edge = torch.full_like(depth.narrow(axis, 0, 1), math.inf)
        least = torch.minimum(torch.cat([edge, step], axis), torch.cat([step, edge], axis))
        slope += torch.where(least.isfinite(), least, 0).square()
    return torch.where(known, slope.sqrt() * fx[:, None, None] / depth, 0)
