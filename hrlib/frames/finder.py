"""Where the hand is in a whole depth frame: a small network that has seen hands before tables, walls, bodies and other hands.

Everything happens on a small image of the frame, about 120x160 cells with the whole field of view:

1. Each cell gets its depth, its size in mm, and its relief against its surroundings (`inputs`).
2. The network says of each cell: something else, hand or forearm (`FinderNet`).
3. Of the connected pieces of hand, the one with most of a hand is taken, or the one nearest to where it is expected.
4. From the cells of that piece, the network says whether it is a hand at all, and which one.
5. Pixels of the frame take the classes of the cells around them, by distance and by depth (`_to_pixels`): outlines are as
   sharp as the sensor's.

The network was trained on synthetic scenes alone (`data/finder/build.py`); its figures are in `data/finder/finder.json`.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Real
from numba import njit
from safetensors import SafetensorError
from safetensors.torch import load_file
from scipy import ndimage
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, pixel_shuffle

from ..support.paths import FINDER
from .camera import Camera

SMALL = (
    120,
    160,
)  # rows and columns of the small image, at least: a finger at 1 m is 2 to 3 cells wide before usual cameras
FOCAL_MOST = 260.0  # px of the small image's focal length: images with a narrow view are not blown up beyond it
MULTIPLE = 8  # the small image's sides are multiples of what the network shrinks it by
CHANNELS = 6  # of a cell; `inputs` puts those of 2x2 cells together
OTHER, HAND, FOREARM = range(3)  # classes
RELIEF_MM = 20.0, 80.0  # half the side of the two surroundings that a cell's relief is measured against
ALIKE_MM = 20.0  # pixels of one cell that differ by less lie on the same surface
APART_MM = 80.0  # neighbouring cells further apart in depth are not connected
TOGETHER_MM = 110.0  # pieces whose middle is this close to that of the hand are its fingers
SHARP_MM = 10.0  # depth difference at which a cell counts half for a pixel
FLYING_MM = 45.0  # pixels further from all cells around them belong to none


class FinderNet(nn.Module):
    """Images of `inputs`, at half the small image's size -> class logits [B, 3, h, w], and features for `frame`.

    Args:
        norm: with batch norms, to train it; the weights in the package have them folded in.
    """

    WIDTHS = 16, 48, 96  # at a half, a quarter and an eighth of the resolution

    def __init__(self, norm: bool = False):
        super().__init__()

        def conv(before, width, kernel=3, stride=1, dilation=1):
            padding = dilation * (kernel // 2)
            layer = nn.Conv2d(before, width, kernel, stride, padding, dilation, bias=not norm)
            return nn.Sequential(layer, nn.BatchNorm2d(width)) if norm else nn.Sequential(layer)

        a, b, c = self.WIDTHS
        self.fine = nn.ModuleList([conv(4 * CHANNELS, a), conv(a, a)])
        self.middle = nn.ModuleList([conv(a, b, stride=2), conv(b, b)])
        self.coarse = nn.ModuleList([conv(b, c, stride=2)] + [conv(c, c, dilation=d) for d in (1, 2, 4, 1)])
        self.context = nn.Linear(2 * c, c)  # of the whole image, added to each cell of the eighth
        self.from_coarse, self.from_middle = conv(c, b, 1), conv(b, a, 1)
        self.up_middle, self.up_fine = conv(b, b), conv(a, 2 * a)
        self.classes = nn.Conv2d(2 * a, 4 * 3, 1)
        self.judge = nn.Sequential(nn.Linear(2 * b + 2 * c, 64), nn.ReLU(), nn.Linear(64, 2))

    def forward(self, fine: Float[Tensor, "B 24 H W"]) -> tuple[Float[Tensor, "B 3 h w"], tuple[Tensor, Tensor]]:
        for layer in self.fine:
            fine = layer(fine).relu()
        middle = self.middle[0](fine).relu()
        middle = (middle + self.middle[1](middle)).relu()
        coarse = self.coarse[0](middle).relu()
        for layer in self.coarse[1:3]:
            coarse = (coarse + layer(coarse)).relu()
        context = self.context(torch.cat([coarse.mean((2, 3)), coarse.amax((2, 3))], 1))
        coarse = coarse + context[..., None, None].to(coarse.dtype)
        for layer in self.coarse[3:]:
            coarse = (coarse + layer(coarse)).relu()
        middle = (middle + _doubled(self.from_coarse(coarse))).relu()
        middle = (middle + self.up_middle(middle)).relu()
        fine = (fine + _doubled(self.from_middle(middle))).relu()
        return pixel_shuffle(self.classes(self.up_fine(fine).relu()), 2), (middle, coarse)

    def frame(self, features: tuple[Tensor, Tensor], share: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B 2"]:
        """Logits of the cells marked by `share` in [0, 1]: a hand at all, and the right one."""
        parts = []
        for feature, size in zip(features, (4, 8), strict=True):
            weight = avg_pool2d(share, size)
            parts += [(feature * weight).sum((2, 3)) / (weight.sum((2, 3)) + 1), (feature * weight).amax((2, 3))]
        return self.judge(torch.cat(parts, 1))


def _doubled(x: Tensor) -> Tensor:
    """Each pixel [B, C, H, W] four times, in the precision that x has."""
    with torch.autocast(x.device.type, enabled=False):
        return interpolate(x, scale_factor=2)


@dataclass(frozen=True)
class Found:
    """What the finder says of a frame."""

    mask: Bool[np.ndarray, "H W"]  # the hand's pixels, up to the wrist; empty if there is none
    forearm: Bool[np.ndarray, "H W"]  # those of forearms
    hand: float  # in [0, 1]: that the mask shows a hand
    right: float  # in [0, 1]: that it is the right one
    at_border: float  # in [0, 1]: that the image's border cuts the hand


@dataclass(frozen=True)
class Small:
    """A frame at the network's resolution."""

    z_mm: Float[np.ndarray, "h w"]  # depth of each cell, 0 where nothing was measured
    step: float  # side of a cell in pixels of the frame
    focal: float  # of the small image, px
    rows: int  # of the frame, in cells; beyond it the small image is padded
    columns: int  # the same


def find_hand(
    depth_mm: Real[np.ndarray, "H W"], camera: Camera, near_mm: Float[np.ndarray, "3"] | None = None
) -> Found:
    """The hand of a frame, if it shows one; of several the one that is largest and clearest.

    Args:
        depth_mm: 0 = no measurement.
        camera: of the frame.
        near_mm: the hand's expected centre in the camera frame; of several hands the one nearest to it is taken.

    Raises:
        ValueError: wrong shape, NaN or negative depth, or the weights cannot be read.
    """
    check_depth(depth_mm)
    depth_mm = np.ascontiguousarray(depth_mm, np.float32)
    small = shrink(depth_mm, camera)
    cells, right, hand = _classify(small, camera, near_mm)
    if cells is None:
        nothing = np.zeros(depth_mm.shape, bool)
        return Found(nothing, nothing, 0.0, 0.5, 0.0)
    shares, piece = cells
    mask, forearm = _to_pixels(depth_mm, small.z_mm, shares, small.step)
    inside = piece[: small.rows, : small.columns]
    border = np.concatenate([inside[0], inside[-1], inside[:, 0], inside[:, -1]])
    return Found(mask, forearm, hand, right, float(border.max()))


def check_depth(depth_mm: np.ndarray) -> None:
    """Raise ValueError if this is no depth image."""
    if getattr(depth_mm, "ndim", None) != 2:
        raise ValueError(f"depth_mm must be an array [H, W], got {getattr(depth_mm, 'shape', type(depth_mm).__name__)}")
    if not (depth_mm.min(initial=0) >= 0 and depth_mm.max(initial=0) < np.inf):  # NaN is neither
        raise ValueError("depth_mm holds NaN, infinite or negative values: mark missing measurements with 0")


@lru_cache(1)
def finder() -> FinderNet:
    """The network that comes with the library."""
    try:
        net = FinderNet()
        net.load_state_dict({name: t.float() for name, t in load_file(FINDER).items()})
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ValueError(f"{FINDER} cannot be read ({error}); install hrlib again") from error
    return net.eval().to(memory_format=torch.channels_last)


# -- the small image --------------------------------------------------------------------------------------------------


def shrink(depth_mm: Float[np.ndarray, "H W"], camera: Camera) -> Small:
    """The frame in about as many cells as `SMALL` has, padded with nothing at its right and bottom."""
    focal = np.sqrt(camera.fx * camera.fy)
    step = max(np.sqrt(depth_mm.size / np.prod(SMALL)), focal / FOCAL_MOST)
    rows, columns = (max(1, round(n / step)) for n in depth_mm.shape)
    size = tuple(max(least, -(-n // MULTIPLE) * MULTIPLE) for n, least in zip((rows, columns), SMALL, strict=True))
    return Small(sampled(depth_mm, 0.0, 0.0, step, size), step, focal / step, rows, columns)


@njit(cache=True)
def sampled(depth, top, left, step, size):
    """Depth [h, w] of cells of `step` px from (top, left) on: the mean of the surface in the cell's middle, 0 = nothing."""
    height, width = depth.shape
    z = np.zeros(size, np.float32)
    for i in range(size[0]):
        v0 = int(np.floor(top + i * step))
        v1 = max(v0 + 1, int(np.floor(top + (i + 1) * step)))
        if v0 < 0 or v1 > height:
            continue
        for j in range(size[1]):
            u0 = int(np.floor(left + j * step))
            u1 = max(u0 + 1, int(np.floor(left + (j + 1) * step)))
            if u0 < 0 or u1 > width:
                continue
            middle = depth[(v0 + v1) // 2, (u0 + u1) // 2]
            total, count = np.float32(0), 0
            for v in range(v0, v1):
                for u in range(u0, u1):
                    d = depth[v, u]
                    if d > 0 and middle == 0:
                        middle = d
                    if d > 0 and abs(d - middle) < ALIKE_MM:
                        total, count = total + d, count + 1
            z[i, j] = total / count if count else 0
    return z


@njit(cache=True)
def inputs(z, focal, rows, columns):
    """What the network sees of a small image, [h / 2, w / 2, 24]: `CHANNELS` of 2x2 cells each.

    They are: inside the frame, measured, log depth, log size of a cell, two reliefs. A relief is the depth minus the mean
    depth of a square around the cell, in units of that square's half side.
    """
    height, width = z.shape
    x = np.zeros((height // 2, width // 2, 4 * CHANNELS), np.float32)
    total, count = np.zeros((height + 1, width + 1)), np.zeros((height + 1, width + 1), np.int64)
    for i in range(height):
        for j in range(width):
            total[i + 1, j + 1] = total[i, j + 1] + total[i + 1, j] - total[i, j] + z[i, j]
            count[i + 1, j + 1] = count[i, j + 1] + count[i + 1, j] - count[i, j] + (z[i, j] > 0)
    for i in range(rows):
        for j in range(columns):
            cell, d = x[i // 2, j // 2, CHANNELS * (2 * (i % 2) + j % 2) :], z[i, j]
            cell[0] = 1
            if d <= 0:
                continue
            cell[1] = 1
            cell[2] = np.log(d / 600)
            cell[3] = np.log(d / focal / 4)
            for k in range(2):
                r = max(1, int(np.rint(RELIEF_MM[k] * focal / d)))
                a, b, e, f = max(0, i - r), min(height, i + r + 1), max(0, j - r), min(width, j + r + 1)
                mean = (total[b, f] - total[a, f] - total[b, e] + total[a, e]) / (
                    count[b, f] - count[a, f] - count[b, e] + count[a, e]
                )
                cell[4 + k] = min(max((d - mean) / RELIEF_MM[k], -2), 2)
    return x


# -- one hand ---------------------------------------------------------------------------------------------------------


@torch.no_grad()
def _classify(small: Small, camera: Camera, near_mm):
    """Class shares [3, h, w] with the other hands' taken off and the hand's own [h, w], the right and the hand's score."""
    net = finder()
    x = torch.from_numpy(inputs(small.z_mm, small.focal, small.rows, small.columns))[None]
    logits, features = net(x.permute(0, 3, 1, 2))
    shares = logits[0].softmax(0).numpy()
    shares[:, small.z_mm == 0] = 0
    piece = _piece(small, shares, camera, near_mm)
    if piece is None:
        return None, 0.5, 0.0
    share = shares[HAND] * piece
    hand, right = net.frame(features, torch.from_numpy(share)[None, None])[0].sigmoid().tolist()
    other_hands = ~piece & (shares[HAND] > 0) & ndimage.binary_dilation(~piece & (shares.argmax(0) == HAND))
    shares[:, other_hands] = np.float32([[1], [0], [0]])
    return (shares, share), right, hand


def _piece(small: Small, shares, camera: Camera, near_mm):
    """Cells [h, w] of the hand that is taken; None without any."""
    label, count = connected(small.z_mm, shares[HAND] >= shares.max(0))
    if not count:
        return None
    v, u = np.nonzero(label)
    of, z, score = label[v, u] - 1, small.z_mm[v, u], shares[HAND, v, u]
    middle = (small.step - 1) / 2
    points = camera.unproject(u * small.step + middle, v * small.step + middle, z)
    area_mm2 = np.bincount(of, score * (z / small.focal) ** 2, count)
    cells = np.bincount(of, minlength=count)
    centres = np.stack([np.bincount(of, axis, count) for axis in points.T], 1) / cells[:, None]
    if near_mm is None:
        best = area_mm2.argmax()
    else:
        best = np.argmin(np.linalg.norm(centres - near_mm, axis=1) + 1e5 * (area_mm2 < area_mm2.max() / 8))
    own = np.linalg.norm(centres - centres[best], axis=1) < TOGETHER_MM
    return np.concatenate([[False], own])[label]


@njit(cache=True)
def connected(z, among):
    """Pieces of the marked cells, neighbours no further than APART_MM in depth: labels [h, w] from 1 on, and their number."""
    height, width = z.shape
    label, count = np.zeros(z.shape, np.int32), 0
    stack = np.empty((height * width, 2), np.int32)
    for i in range(height):
        for j in range(width):
            if not among[i, j] or label[i, j] or z[i, j] <= 0:
                continue
            count += 1
            label[i, j] = count
            stack[0], top = (i, j), 1
            while top:
                top -= 1
                v, u = stack[top]
                for a in range(max(0, v - 1), min(height, v + 2)):
                    for b in range(max(0, u - 1), min(width, u + 2)):
                        if among[a, b] and not label[a, b] and z[a, b] > 0 and abs(z[a, b] - z[v, u]) < APART_MM:
                            label[a, b] = count
                            stack[top], top = (a, b), top + 1
    return label, count


# -- full resolution --------------------------------------------------------------------------------------------------


@njit(cache=True)
def _to_pixels(depth, z, shares, step):
    """Masks [H, W] of hand and forearm: a pixel takes the class of the 3x3 cells around it, weighed by depth and distance."""
    height, width = depth.shape
    rows, columns = z.shape
    hand, forearm = np.zeros(depth.shape, np.bool_), np.zeros(depth.shape, np.bool_)
    for i in range(rows):
        for j in range(columns):
            least, most_arm = np.float32(0), np.float32(0)
            for a in range(max(0, i - 1), min(rows, i + 2)):
                for b in range(max(0, j - 1), min(columns, j + 2)):
                    least, most_arm = max(least, shares[1, a, b]), max(most_arm, shares[2, a, b])
            if least + most_arm < 0.5:
                continue  # nothing of a hand or an arm around
            for v in range(int(np.floor(i * step)), min(height, int(np.floor((i + 1) * step)))):
                for u in range(int(np.floor(j * step)), min(width, int(np.floor((j + 1) * step)))):
                    d = depth[v, u]
                    if d <= 0:
                        continue
                    y, x = (v + 0.5) / step - 0.5, (u + 0.5) / step - 0.5
                    other, own, arm, nearest = np.float32(0), np.float32(0), np.float32(0), np.float32(1e6)
                    for a in range(max(0, i - 1), min(rows, i + 2)):
                        for b in range(max(0, j - 1), min(columns, j + 2)):
                            if z[a, b] <= 0:
                                continue
                            gap = abs(d - z[a, b])
                            nearest = min(nearest, gap)
                            away = (y - a) ** 2 + (x - b) ** 2
                            weight = max(0.0, 2.25 - away) / (1 + (gap / SHARP_MM) ** 4)
                            other += weight * shares[0, a, b]
                            own += weight * shares[1, a, b]
                            arm += weight * shares[2, a, b]
                    if nearest < FLYING_MM and own + arm > 0:
                        hand[v, u] = own >= other and own >= arm
                        forearm[v, u] = arm > own and arm > other
    return hand, forearm
