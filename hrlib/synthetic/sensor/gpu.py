"""The sensor in torch, for tensors on a CUDA device: each operation takes whole images.

Values are float32 here and partly float64 in the numba kernel: a pixel whose shift or step is just between two may fall to
either.
"""

import math
from functools import cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from .model import (
    BEHIND_MM,
    BLUR_PX,
    FLAT_PX,
    HOLLOW_MM,
    LEAST_SHARE,
    OUTLINE_MM,
    REACH_PX,
    ROUNDED_PX,
    TANGENT_60,
    DepthSensor,
    Stereo,
    StructuredLight,
    TimeOfFlight,
    hole_level,
)


@torch.no_grad()
def measure(
    depth_mm: Float[Tensor, "B H W"], fx: Float[Tensor, " B"], sensor: DepthSensor, seed: int
) -> Float[Tensor, "B H W"]:
    """As `hrlib.synthetic.sensor.measure` describes it, from tensors on one device."""
    kinds = {Stereo: _stereo, TimeOfFlight: _time_of_flight, StructuredLight: _structured_light}
    return kinds[type(sensor)](depth_mm.float(), fx, sensor, seed)


def _structured_light(depth: Tensor, fx: Tensor, s: StructuredLight, seed: int) -> Tensor:
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
    """A standard normal number from each 64-bit key, as the numba kernel draws it."""
    return (-2 * (_uniform(key * 2 + 1) + 1e-300).log()).sqrt() * (2 * math.pi * _uniform(key * 2 + 2)).cos()


def _uniform(key: Tensor) -> Tensor:
    """A uniform number in [0, 1) from each 64-bit key, as the numba kernel draws it (int64 wraps like uint64)."""
    z = key * _signed(0x9E3779B97F4A7C15)
    z = (z ^ _shifted(z, 30)) * _signed(0xBF58476D1CE4E5B9)
    z = (z ^ _shifted(z, 27)) * _signed(0x94D049BB133111EB)
    return _shifted(z ^ _shifted(z, 31), 11).double() / 2**53


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


# -- stereo and time of flight ----------------------------------------------------------------------------------------


def _stereo(depth: Tensor, fx: Tensor, s: Stereo, seed: int) -> Tensor:
    height, width = depth.shape[1:]
    stream = (seed * 1000003 + torch.arange(len(depth), device=depth.device)) * 4
    along_z, along_share = (_smooth_noise(stream + k, height, width, s.grain_px) for k in (0, 1))
    holes = _smooth_noise(stream + 2, height, width, s.hole_px)
    lit, tangent = _lit_by_projector(depth, fx, s.baseline_mm), _tangents(depth, fx)
    fx = fx[:, None, None].float()
    scale = fx * abs(s.baseline_mm)
    least = scale / _behind(depth, stream + 3)
    own = torch.where(depth > 0, scale / depth, least)
    mean, near, far = _mean(own, s.window_px), _greatest(own, s.window_px), -_greatest(-own, s.window_px)
    beyond = _greatest(near, s.smear_reach_px) + _greatest(-far, s.smear_reach_px)
    smooth = _mean(mean, s.smear_reach_px)
    # what a window matches
    jump, middle = near - far, (near + far) / 2
    slope = 4 * tangent.clamp_max(TANGENT_60) * own / fx
    flat = jump <= FLAT_PX + s.window_px * slope
    share = torch.where(flat, 1, (mean - far) / jump)
    over = share - (0.5 - s.fatten) + s.fray * along_share
    matched = torch.where(over > 0, torch.where(own >= middle, own, near), torch.where(own <= middle, own, far))
    matched = torch.where(flat, own, matched)
    seen = ((lit > 0) | (matched > own)) & (matched > least) & (flat | (over.abs() >= s.gap / 2))
    # what the filter makes of it
    smears = beyond <= s.smear_px
    filled = (lit > 0) | (beyond > FLAT_PX + (s.window_px + s.smear_reach_px) * slope)
    filled = torch.where(own > least, filled, smooth - least > LEAST_SHARE * beyond + ROUNDED_PX)
    seen = torch.where(smears, filled, seen)
    d = torch.where(smears, smooth, matched) + s.noise_px * along_z
    d = (d / s.step_px).round() * s.step_px
    seen &= (d > 0) & (tangent <= math.tan(math.radians(s.steepest_deg))) & (holes <= hole_level(s.holes))
    return torch.where(seen, (scale / d / s.unit_mm).round() * s.unit_mm, 0)


def _time_of_flight(depth: Tensor, fx: Tensor, s: TimeOfFlight, seed: int) -> Tensor:
    height, width = depth.shape[1:]
    stream = (seed * 1000003 + torch.arange(len(depth), device=depth.device)) * 4
    along_z = _smooth_noise(stream, height, width, s.grain_px)
    holes = _smooth_noise(stream + 1, height, width, s.hole_px)
    lit, tangent = _lit_by_projector(depth, fx, s.baseline_mm), _tangents(depth, fx)
    known = depth > 0
    hollow = depth - _mean(depth, s.multipath_px) / _mean(known.float(), s.multipath_px).clamp_min(1e-9)
    inverse = 1 / torch.where(known, depth, _behind(depth, stream + 3)).double()
    # light that comes back from z is as 1 / z^2: the sums of 1, z and z^2 with these weights
    light, first, surface = (_blurred(part, s.blur_px) for part in (inverse**2, inverse, inverse**2 * known))
    z = first / light
    key = (stream + 2)[:, None, None] * (1 << 20) + torch.arange(height * width, device=depth.device).view(
        height, width
    )
    lost = (1 / light - z * z > s.edge_mm**2) & (_uniform(key) < s.dropped)
    lost |= (surface < LEAST_SHARE * light) | (known & (lit <= 0)) | (holes > hole_level(s.holes))
    lost |= tangent > math.tan(math.radians(s.steepest_deg))
    z = z + known * s.multipath * hollow.clamp(0, HOLLOW_MM)
    sigma = (s.noise_mm + s.noise_growth * (z / 1000) ** 2) * (1 + tangent**2) ** (s.grazing / 2)
    value = ((z + sigma * along_z) / s.step_mm).round() * s.step_mm
    return torch.where(lost, 0, value).float()


def _behind(depth: Tensor, stream: Tensor) -> Tensor:
    """[B, 1, 1]: how far (mm) the wall is that outlines mix with where the image is empty."""
    low, high = BEHIND_MM
    return (depth.flatten(1).amax(1) + low + (high - low) * _uniform(stream * (1 << 20))).float()[:, None, None]


def _mean(image: Tensor, reach: int) -> Tensor:
    """Each pixel's mean over the square that reaches `reach` pixels from it, as far as that lies in the image."""
    return F.avg_pool2d(image[:, None], 2 * reach + 1, 1, reach, count_include_pad=False)[:, 0]


def _greatest(image: Tensor, reach: int) -> Tensor:
    """Each pixel's greatest value over the square that reaches `reach` pixels from it."""
    return F.max_pool2d(image[:, None], 2 * reach + 1, 1, reach)[:, 0]


def _blurred(image: Tensor, sigma: float) -> Tensor:
    """The image blurred by a Gauss kernel of `sigma` px, cut off at BLUR_PX; beyond its border lie its outermost pixels."""
    at = torch.arange(-BLUR_PX, BLUR_PX + 1, device=image.device, dtype=image.dtype)
    kernel = (-0.5 * (at / sigma) ** 2).exp()
    kernel = (kernel / kernel.sum()).view(1, 1, 1, -1)
    image = F.pad(image[:, None], (BLUR_PX,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(image, kernel), kernel.transpose(2, 3))[:, 0]
