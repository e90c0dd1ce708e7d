"""Where the hand is in a whole depth frame: small networks that have seen hands before tables, walls, bodies and others.

1. `shrink`: a small image of the frame, 60x80 cells with the whole field of view. The *locator* says of each cell: something
   else, hand or forearm. Connected pieces of hand are places where a hand may be.
2. `close_up`: around such a place, 64x64 cells of 4.5 mm, whatever the camera and the distance. The *segmenter* says the same
   of these cells, and from them: a hand at all. The likeliest place is taken.
3. `upright`: the hand alone, its wrist below. A third network says which hand it is, by comparing it with its mirror image.
4. `_to_pixels`: pixels of the frame take the classes of the cells around them, by distance and by depth. Outlines are as sharp
   as the sensor's.

The first two see the same of a cell (`inputs`): its depth, its size in mm, its relief against its surroundings, and how much
nearer or farther the surface is some millimetres to each side (Shotton et al. 2011, "Real-time human pose recognition in parts
from single depth images"). All were trained on synthetic scenes alone (`data/finder/build.py`).
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby

import numpy as np
import torch
from jaxtyping import Bool, Float, Real
from scipy import ndimage
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, pixel_shuffle

from ..support.autograd import for_every_use, full_precision
from ..support.compiled import compiled
from ..support.paths import FINDER
from ..support.tensor_files import read_tensors
from .camera import Camera
from .frame import check_depth

SMALL = 64, 80  # rows and columns of the small image, at least
SMALL_CELLS = 60 * 80  # that a frame is shrunk to, about
FOCAL_MOST = 130.0  # px of the small image's focal length: images with a narrow view are not blown up beyond it
MULTIPLE = 8  # the sides are multiples of what the networks shrink images by
CLOSE, CLOSE_MM = 64, 288.0  # cells and mm across a close-up: an open hand of a large man fits in
PLACES = 3  # where a hand may be, at most
# the nearest surface, which often is a hand: so many cells may fly before it; its depth
NEAREST_CELLS, NEAREST_MM = 10, 100.0
PLACE_SHARE = 0.3  # from this share of hand on, a cell of the small image is part of such a place
SURE = 0.9  # a hand of this probability need not be compared with other places
CENTRED_MM, LOOKS = 25.0, 3  # a hand further from the middle of its close-up is looked at again, so often in all
UPRIGHT_RAD = np.pi / 3  # up to this turn in the image, a hand counts as upright: a network has learned such hands
UPRIGHT = 48  # cells across an upright hand, 216 mm
# the forearm's cells up to 160 mm from the hand's middle tell its direction, if there are so many
ARM_CELLS, ARM_LEAST = 35, 10
RELIEF_CELLS = 7  # the relief of an upright hand is measured against squares of 32 mm
OTHER, HAND, FOREARM = range(3)  # classes
RELIEF_MM = 20.0, 80.0  # half the side of the two surroundings that a cell's relief is measured against
PROBES_MM = 30.0, 80.0  # how far to each side the surface is compared
PROBE_MM = 100.0  # differences of depth are told up to here
WAYS = np.float64([[np.sin(t), np.cos(t)] for t in np.arange(8) * np.pi / 4])  # down, right
CHANNELS = 6 + 16  # of a cell; `inputs` puts those of 2x2 cells together
ALIKE_MM = 20.0  # pixels of one cell that differ by less lie on the same surface
APART_MM = 80.0  # neighbouring cells further apart in depth are not connected
TOGETHER_MM = 110.0  # pieces whose middle is this close to that of the hand are its fingers
SHARP_MM = 10.0  # depth difference at which a cell counts half for a pixel
FLYING_MM = 45.0  # pixels further from all cells around them belong to none


class FinderNet(nn.Module):
    """Images of `inputs`, at half their size -> class logits [B, 3, h, w], and features for `judged`.

    Args:
        widths: channels at a half, a quarter and an eighth of the resolution.
        judges: whether it also says if marked cells are a hand.
        norm: with batch norms, to train it; the weights in the package have them folded in.
    """

    LOCATE, SEGMENT = ((16, 32, 64), False), ((24, 48, 96), True)  # widths and `judges` of the two

    def __init__(self, widths: tuple[int, int, int], judges: bool, norm: bool = False):
        super().__init__()

        def conv(before, width, kernel=3, stride=1, dilation=1):
            padding = dilation * (kernel // 2)
            layer = nn.Conv2d(before, width, kernel, stride, padding, dilation, bias=not norm)
            return nn.Sequential(layer, nn.BatchNorm2d(width)) if norm else nn.Sequential(layer)

        a, b, c = widths
        self.fine = nn.ModuleList([conv(4 * CHANNELS, a), conv(a, a)])
        self.middle = nn.ModuleList([conv(a, b, stride=2), conv(b, b)])
        self.coarse = nn.ModuleList([conv(b, c, stride=2)] + [conv(c, c, dilation=d) for d in (1, 2, 4, 1)])
        self.context = nn.Linear(2 * c, c)  # of the whole image, added to each cell of the coarse ones
        self.from_coarse, self.from_middle = conv(c, b, 1), conv(b, a, 1)
        self.up_middle, self.up_fine = conv(b, b), conv(a, 2 * a)
        self.classes = nn.Conv2d(2 * a, 4 * 3, 1)
        if judges:
            self.judge = nn.Sequential(nn.Linear(2 * b + 2 * c, 64), nn.ReLU(), nn.Linear(64, 1))

    def forward(self, fine: Float[Tensor, "B C H W"]) -> tuple[Float[Tensor, "B 3 h w"], tuple[Tensor, Tensor]]:
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

    def judged(self, features: tuple[Tensor, Tensor], share: Float[Tensor, "B 1 H W"]) -> Float[Tensor, " B"]:
        """Logits that the cells marked by `share` in [0, 1] are a hand."""
        parts = []
        for feature, size in zip(features, (4, 8), strict=True):
            weight = avg_pool2d(share, size)
            parts += [(feature * weight).sum((2, 3)) / (weight.sum((2, 3)) + 1), (feature * weight).amax((2, 3))]
        return self.judge(torch.cat(parts, 1))[:, 0]


def _doubled(x: Tensor) -> Tensor:
    """Each pixel [B, C, H, W] four times, in the precision that x has."""
    with torch.autocast(x.device.type, enabled=False):
        return interpolate(x, scale_factor=2)


class SideNet(nn.Module):
    """Upright hands [B, 4, 48, 48] of `upright` -> logit [B], above 0 for a right one; of the mirror image the negative."""

    def __init__(self):
        super().__init__()
        layers, before = [], 4
        for width, stride in ((16, 2), (32, 2), (48, 1), (48, 2)):
            layers += [nn.Conv2d(before, width, 3, stride, 1), nn.ReLU()]
            before = width
        layers += [nn.Conv2d(before, 8, 1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * (UPRIGHT // 8) ** 2, 32), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(32, 1))

    def forward(self, x: Float[Tensor, "B 4 48 48"]) -> Float[Tensor, " B"]:
        return (self.layers(x) - self.layers(x.flip(-1)))[:, 0]


@dataclass(frozen=True)
class Found:
    """What the finder says of a frame."""

    mask: Bool[np.ndarray, "H W"]  # the hand's pixels, up to the wrist; empty if there is none
    forearm: Bool[np.ndarray, "H W"]  # those of forearms near it
    hand: float  # in [0, 1]: that the mask shows a hand
    right: float  # in [0, 1]: that it is the right one; 0.5 where that was not asked
    at_border: float  # 1 where the image's border cuts the hand, else 0
    upright: float = 0.0  # rad by which to turn the picture, so that the forearm is below the hand; 0 if none is seen


@dataclass(frozen=True)
class Cells:
    """A part of a frame as a network sees it."""

    z_mm: Float[np.ndarray, "h w"]  # depth of each cell, 0 where nothing was measured
    top: float  # first row of the frame, px
    left: float  # first column
    step: float  # side of a cell, px of the frame
    rows: int  # in the frame; beyond it there is nothing
    columns: int  # the same
    middle_mm: float  # depth that others are compared with

    def inputs(self, camera: Camera) -> Float[Tensor, "1 C H W"]:
        """What a network sees of it."""
        x = inputs(self.z_mm, focal_of(camera) / self.step, self.rows, self.columns, self.middle_mm)
        return torch.from_numpy(x)[None].permute(0, 3, 1, 2)

    def points_mm(self, camera: Camera, rows: np.ndarray, columns: np.ndarray) -> Float[np.ndarray, "N 3"]:
        """Points of some cells in the camera frame."""
        v, u = (first + (at + 0.5) * self.step - 0.5 for first, at in ((self.top, rows), (self.left, columns)))
        return camera.unproject(u, v, self.z_mm[rows, columns])


def find_hand(
    depth_mm: Real[np.ndarray, "H W"],
    camera: Camera,
    near_mm: Float[np.ndarray, "3"] | None = None,
    side: bool = True,
) -> Found:
    """The hand of a frame, if it shows one; of several the clearest.

    >>> found = hrlib.find_hand(depth_mm, camera)
    >>> found.hand > 0.5, found.mask.shape == depth_mm.shape
    (True, True)

    Args:
        depth_mm: 0 = no measurement.
        camera: of the frame.
        near_mm: the hand's expected centre in the camera frame. Then it is searched there alone.
        side: also tell which hand it is, which takes a seventh of the time; else `right` stays 0.5.

    Raises:
        ValueError: wrong shape, NaN or negative depth, or the weights cannot be read.
    """
    return find_hands([View(depth_mm, camera, near_mm)], side)[0]


@dataclass(frozen=True)
class View:
    """A frame to search, as `find_hand` takes it. Raises ValueError: wrong shape, NaN or negative depth."""

    depth_mm: Real[np.ndarray, "H W"]
    camera: Camera
    near_mm: Float[np.ndarray, "3"] | None = None

    def __post_init__(self):
        check_depth(self.depth_mm)


@full_precision
def find_hands(views: Sequence[View], side: bool = True) -> list[Found]:
    """`find_hand` of several frames, whose cells the networks see together: two thirds of the time."""
    views = [replace(view, depth_mm=np.ascontiguousarray(view.depth_mm, np.float32)) for view in views]
    asked = _places_of([view for view in views if view.near_mm is None])
    places = [next(asked) if view.near_mm is None else [np.asarray(view.near_mm, float)] for view in views]
    best: list[_Seen | None] = [None] * len(views)
    for rank in range(max(map(len, places), default=0)):
        unsure = [i for i, seen in enumerate(best) if rank < len(places[i]) and (seen is None or seen.hand <= SURE)]
        for i, seen in zip(unsure, _look([(views[i], places[i][rank]) for i in unsure]), strict=True):
            if seen is not None and (best[i] is None or seen.hand > best[i].hand):
                best[i] = seen
    return [_found(view, seen, side) for view, seen in zip(views, best, strict=True)]


def _found(view: View, seen: "_Seen | None", side: bool) -> Found:
    depth_mm = view.depth_mm
    if seen is None:
        nothing = np.zeros(depth_mm.shape, bool)
        return Found(nothing, nothing, 0.0, 0.5, 0.0)
    cells = seen.cells
    mask, forearm = _to_pixels(depth_mm, cells.z_mm, seen.shares, cells.top, cells.left, cells.step)
    right = _right(seen) if side else 0.5
    return Found(mask, forearm, seen.hand, right, float(_at_border(seen, depth_mm.shape)), _turn_upright(seen))


@lru_cache(1)
@for_every_use()
def networks() -> tuple[FinderNet, FinderNet, SideNet]:
    """Locator, segmenter and what tells sides, as they come with the library."""
    nets = {"locate": FinderNet(*FinderNet.LOCATE), "segment": FinderNet(*FinderNet.SEGMENT), "side": SideNet()}
    try:
        _, stored = read_tensors(FINDER)
        for name, net in nets.items():
            own = {key.removeprefix(f"{name}."): t.float() for key, t in stored.items() if key.startswith(f"{name}.")}
            net.load_state_dict(own)
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(f"{FINDER} cannot be read ({error}); install hrlib again") from error
    return tuple(net.eval().to(torch.float32, memory_format=torch.channels_last) for net in nets.values())


@lru_cache(1)
def weights_digest() -> str:
    """Names the weights: what was found by others was found otherwise."""
    return hashlib.sha256(FINDER.read_bytes()).hexdigest()[:16]


# -- where a hand may be ----------------------------------------------------------------------------------------------


def focal_of(camera: Camera) -> float:
    """One focal length of the camera, px."""
    return float(np.sqrt(camera.fx * camera.fy))


def shrink(depth_mm: Float[np.ndarray, "H W"], camera: Camera) -> Cells:
    """The whole frame in about `SMALL_CELLS` cells, padded with nothing at its right and bottom."""
    step = float(max(np.sqrt(depth_mm.size / SMALL_CELLS), focal_of(camera) / FOCAL_MOST))
    rows, columns = (max(1, round(n / step)) for n in depth_mm.shape)
    size = tuple(max(least, -(-n // MULTIPLE) * MULTIPLE) for n, least in zip((rows, columns), SMALL, strict=True))
    return Cells(sampled(depth_mm, 0.0, 0.0, step, size), 0.0, 0.0, step, rows, columns, 600.0)


def places(depth_mm: Float[np.ndarray, "H W"], camera: Camera) -> list[Float[np.ndarray, "3"]]:
    """Where a hand may be, mm: the pieces that look most like one, the largest first, and the nearest surface."""
    return next(_places_of([View(depth_mm, camera)]))


def _places_of(views: Sequence[View]) -> Iterator[list[Float[np.ndarray, "3"]]]:
    """`places` of each frame. Frames in a row whose small images are of one size are seen together."""
    small = [shrink(view.depth_mm, view.camera) for view in views]
    for _, alike in groupby(zip(views, small, strict=True), lambda pair: pair[1].z_mm.shape):
        alike = list(alike)
        logits, _ = _seen_by(networks()[0], [cells.inputs(view.camera) for view, cells in alike])
        for (view, cells), share in zip(alike, logits.softmax(1)[:, HAND].numpy(), strict=True):
            found = _centres(cells, view.camera, share * (share > PLACE_SHARE))[:PLACES]
            z = cells.z_mm[cells.z_mm > 0]
            if len(z):
                near = np.partition(z, min(NEAREST_CELLS, len(z) - 1))[min(NEAREST_CELLS, len(z) - 1)]
                surface = (cells.z_mm > 0) & (cells.z_mm < near + NEAREST_MM)
                found += _centres(cells, view.camera, surface.astype(np.float32))[:1]
            yield found


@torch.no_grad()
def _seen_by(net: FinderNet, inputs: list[Float[Tensor, "1 C H W"]]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """What a network says of several images of one size."""
    return net(torch.cat(inputs))


def _centres(cells: Cells, camera: Camera, share) -> list[np.ndarray]:
    """Centres of the connected pieces of cells with a share above 0, the largest first."""
    label, count = connected(cells.z_mm, share > 0)
    v, u = np.nonzero(label)
    of, weight, points = label[v, u] - 1, share[v, u], cells.points_mm(camera, v, u)
    mass = np.bincount(of, weight * points[:, 2] ** 2, count)
    centres = np.stack([np.bincount(of, weight * axis, count) for axis in points.T], 1)
    return list((centres / np.bincount(of, weight, count)[:, None])[np.argsort(-mass)])


@compiled()
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
            stack[0, 0], stack[0, 1], top = i, j, 1
            while top:
                top -= 1
                v, u = stack[top]
                for a in range(max(0, v - 1), min(height, v + 2)):
                    for b in range(max(0, u - 1), min(width, u + 2)):
                        if among[a, b] and not label[a, b] and z[a, b] > 0 and abs(z[a, b] - z[v, u]) < APART_MM:
                            label[a, b] = count
                            stack[top, 0], stack[top, 1], top = a, b, top + 1
    return label, count


# -- what is there ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Seen:
    """What the segmenter says of one place."""

    cells: Cells
    shares: np.ndarray  # [3, h, w] of the classes; those of other hands are taken off
    centre_mm: np.ndarray  # [3] of the hand
    hand: float


def close_up(depth_mm: Float[np.ndarray, "H W"], camera: Camera, place_mm: Float[np.ndarray, "3"]) -> Cells:
    """64x64 cells of the same size in mm around a place in the camera frame."""
    step = float(focal_of(camera) * CLOSE_MM / CLOSE / place_mm[2])
    u, v = camera.project(np.asarray(place_mm, float))
    top, left = float(v + 0.5 - step * CLOSE / 2), float(u + 0.5 - step * CLOSE / 2)
    z = sampled(depth_mm, top, left, step, (CLOSE, CLOSE))
    return Cells(z, top, left, step, CLOSE, CLOSE, float(place_mm[2]))


def _look(looks: Sequence[tuple[View, Float[np.ndarray, "3"]]]) -> list[_Seen | None]:
    """The hand at a place of each frame: looked at again while it is not in the middle. None if nothing there is a hand."""
    best: list[_Seen | None] = [None] * len(looks)
    places, todo = [place_mm for _, place_mm in looks], list(range(len(looks)))
    for _ in range(LOOKS):
        if not todo:
            break
        again = []
        for i, seen in zip(todo, _segmented([(looks[i][0], places[i]) for i in todo]), strict=True):
            if seen is None or best[i] is not None and seen.hand < best[i].hand / 2:
                continue
            off_mm, best[i], places[i] = np.linalg.norm(seen.centre_mm - places[i]), seen, seen.centre_mm
            if off_mm >= CENTRED_MM:
                again.append(i)
        todo = again
    return best


@torch.no_grad()
def _segmented(looks: Sequence[tuple[View, Float[np.ndarray, "3"]]]) -> list[_Seen | None]:
    """What the segmenter says of a place in each frame, at one look."""
    cells = [close_up(view.depth_mm, view.camera, place_mm) for view, place_mm in looks]
    net = networks()[1]
    logits, features = _seen_by(net, [part.inputs(view.camera) for part, (view, _) in zip(cells, looks, strict=True)])
    seen = [
        _main_piece(part, shares, view.camera, place_mm)
        for part, shares, (view, place_mm) in zip(cells, logits.softmax(1).numpy(), looks, strict=True)
    ]
    share = np.stack([np.zeros((CLOSE, CLOSE), np.float32) if one is None else one[0] for one in seen])
    hand = net.judged(features, torch.from_numpy(share)[:, None]).sigmoid().tolist()
    return [
        None if one is None else _Seen(part, *one[1:], sure) for part, one, sure in zip(cells, seen, hand, strict=True)
    ]


def _main_piece(cells: Cells, shares, camera: Camera, place_mm) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Of what may be a hand, the share of each cell in the piece at the place; `_Seen.shares` and `_Seen.centre_mm`."""
    shares[:, cells.z_mm == 0] = 0
    label, count = connected(cells.z_mm, (shares[HAND] >= shares.max(0)) & (cells.z_mm > 0))
    if not count:
        return None
    v, u = np.nonzero(label)
    of, points = label[v, u] - 1, cells.points_mm(camera, v, u)
    size = np.bincount(of, minlength=count)
    centres = np.stack([np.bincount(of, axis, count) for axis in points.T], 1) / size[:, None]
    # the largest piece, which counts the less the farther away it is
    best = np.argmax(size / (1 + np.linalg.norm(centres - place_mm, axis=1) / CENTRED_MM))
    own = np.linalg.norm(centres - centres[best], axis=1) < TOGETHER_MM
    piece = np.concatenate([[False], own])[label]
    if not own.all():
        shares[HAND, ~piece & ndimage.binary_dilation((label > 0) & ~piece)] = 0
    return shares[HAND] * piece, shares, points[own[of]].mean(0)


@torch.no_grad()
def _right(seen: _Seen) -> float:
    """Probability of a right hand."""
    x = upright(seen.cells.z_mm, seen.shares[HAND] > 0.5, seen.shares[FOREARM] > 0.5)
    return 0.5 if x is None else networks()[2](torch.from_numpy(x)[None]).sigmoid().item()


def upright(
    z: Float[np.ndarray, "h w"], hand: Bool[np.ndarray, "h w"], forearm: Bool[np.ndarray, "h w"]
) -> Float[np.ndarray, "4 48 48"] | None:
    """A close-up's hand in the middle of a smaller image, turned so that the forearm is below; None without a hand.

    Channels: the hand's cells, the forearm's, depth against the hand's median, relief. If no forearm is seen, the hand's long
    axis is upright.
    """
    cells = np.argwhere(hand)
    if len(cells) < 2:
        return None
    middle, depth = cells.mean(0), np.median(z[hand])
    down = _to_the_arm(middle, forearm)
    if down is None:
        down = np.linalg.eigh(np.cov((cells - middle).T))[1][:, -1]
    down = down / max(np.linalg.norm(down), 1e-6)
    at = np.arange(UPRIGHT) - (UPRIGHT - 1) / 2
    v, u = (middle[k] + at[:, None] * down[k] + at * across for k, across in enumerate((-down[1], down[0])))
    v, u = np.rint(v).astype(int), np.rint(u).astype(int)
    inside = (v >= 0) & (u >= 0) & (v < z.shape[0]) & (u < z.shape[1])
    v, u = v.clip(0, z.shape[0] - 1), u.clip(0, z.shape[1] - 1)
    hand, forearm = (part[v, u] & inside for part in (hand, forearm))
    apart = np.where(hand, z[v, u] - depth, 0).astype(np.float32)
    share = ndimage.uniform_filter(hand.astype(np.float32), RELIEF_CELLS)
    relief = np.where(hand, apart - ndimage.uniform_filter(apart, RELIEF_CELLS) / np.maximum(share, 1e-3), 0)
    return np.stack([hand, forearm, (apart / 40).clip(-2, 2), (relief / 8).clip(-2, 2)]).astype(np.float32)


def _to_the_arm(middle: np.ndarray, forearm: Bool[np.ndarray, "h w"]) -> np.ndarray | None:
    """From the hand's middle (row, column) to its forearm in a close-up; None if too little of one is seen."""
    arm = np.argwhere(forearm) - middle
    arm = arm[np.linalg.norm(arm, axis=1) < ARM_CELLS]
    return arm.mean(0) if len(arm) >= ARM_LEAST else None


def _turn_upright(seen: _Seen) -> float:
    """`Found.upright`; 0 for hands that are nearly upright, so that their pictures stay as sharp as they are."""
    hand = seen.shares[HAND] > 0.5
    down = _to_the_arm(np.argwhere(hand).mean(0), seen.shares[FOREARM] > 0.5) if hand.any() else None
    turn = 0.0 if down is None else float(np.arctan2(down[1], down[0]))
    return turn if abs(turn) > UPRIGHT_RAD else 0.0


def _at_border(seen: _Seen, size) -> bool:
    """Whether cells of the hand lie at the border of the image, of size (H, W)."""
    step, cells = seen.cells.step, np.nonzero(seen.shares[HAND] > 0.5)
    starts = [first + at * step for first, at in zip((seen.cells.top, seen.cells.left), cells, strict=True)]
    return any(((at < step) | (at > n - 2 * step)).any() for at, n in zip(starts, size, strict=True))


# -- what the networks see --------------------------------------------------------------------------------------------


@compiled()
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


@compiled()
def inputs(z, focal, rows, columns, middle):
    """What a network sees of cells, [h / 2, w / 2, 88]: `CHANNELS` of 2x2 cells each.

    They are: inside the frame, measured, depth against `middle`, log size of a cell, two reliefs, and the differences to the
    surface at `PROBES_MM` to eight sides. A relief is the depth minus the mean depth of a square around the cell, in units of
    that square's half side.
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
            cell[2] = min(max((d - middle) / PROBE_MM / 2, -2), 2)
            cell[3] = np.log(d / focal / 5)
            for k in range(2):
                r = max(1, int(np.rint(RELIEF_MM[k] * focal / d)))
                a, b, e, f = max(0, i - r), min(height, i + r + 1), max(0, j - r), min(width, j + r + 1)
                mean = (total[b, f] - total[a, f] - total[b, e] + total[a, e]) / (
                    count[b, f] - count[a, f] - count[b, e] + count[a, e]
                )
                cell[4 + k] = min(max((d - mean) / RELIEF_MM[k], -2), 2)
                for way in range(8):
                    v = i + int(np.rint(PROBES_MM[k] * WAYS[way, 0] * focal / d))
                    u = j + int(np.rint(PROBES_MM[k] * WAYS[way, 1] * focal / d))
                    there = v >= 0 and u >= 0 and v < height and u < width and z[v, u] > 0
                    cell[6 + 8 * k + way] = min(max((z[v, u] - d) / PROBE_MM, -1), 1) if there else 1
    return x


# -- full resolution --------------------------------------------------------------------------------------------------


@compiled()
def _to_pixels(depth, z, shares, top, left, step):
    """Masks [H, W] of hand and forearm: a pixel takes the class of the 3x3 cells around it, weighed by depth and distance."""
    height, width = depth.shape
    rows, columns = z.shape
    hand, forearm = np.zeros(depth.shape, np.bool_), np.zeros(depth.shape, np.bool_)
    for i in range(rows):
        for j in range(columns):
            most, most_arm = np.float32(0), np.float32(0)
            for a in range(max(0, i - 1), min(rows, i + 2)):
                for b in range(max(0, j - 1), min(columns, j + 2)):
                    most, most_arm = max(most, shares[1, a, b]), max(most_arm, shares[2, a, b])
            if most + most_arm < 0.5:
                continue  # nothing of a hand or an arm around
            first, last = int(np.floor(top + i * step)), int(np.floor(top + (i + 1) * step))
            start, end = int(np.floor(left + j * step)), int(np.floor(left + (j + 1) * step))
            for v in range(max(0, first), min(height, last)):
                for u in range(max(0, start), min(width, end)):
                    d = depth[v, u]
                    if d <= 0:
                        continue
                    y, x = (v + 0.5 - top) / step - 0.5, (u + 0.5 - left) / step - 0.5
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
