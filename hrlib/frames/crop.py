"""Depth frame and hand mask to what the network sees and what the loss compares with: centre, cube, image D, points P_D.

The cube of `cube_mm` around the hand's centre is the crop frame, [0, 1]^3. The image D is the perspective window that
the cube's middle plane fills, 120x120 pixels, nearest neighbour; its value is 1 - z on the hand (near is bright) and 0
elsewhere (Eq. 4). The points P_D are pixels of D, unprojected: exact metric points in the crop frame. They are those on a
staggered grid about 4 mm apart, as densely as the model's cloud P covers its visible half, and those on outlines, because
a grid alone frays the silhouette (it halves the image error left at the true pose).
"""

from dataclasses import dataclass

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample
from tqdm import tqdm

from ..network.posenet import IMAGE_SIZE
from .camera import Camera
from .segment import NoHandFound, check_mask, possible_hands

POINTS = 1280  # an open hand has about 1000; fewer are padded by repeating points, which no maximum sees
JUMP_MM = 60.0  # a hand does not get this far from one frame to the next
GAP = 15  # frames, about a second, within which others tell where the hand is
EDGE_MM = 15.0  # a pixel this much nearer than a neighbour lies on an outline


@dataclass(frozen=True)
class Crops:
    """B cropped frames. image [B, 120, 120]; points [B, 1280, 3] in the crop frame; centre_mm [B, 3] in the camera frame;
    count [B] how many of the points are distinct (the rest repeat them)."""

    image: Tensor
    points: Tensor
    centre_mm: Tensor
    count: Tensor
    cube_mm: float

    def __len__(self):
        return len(self.image)

    def __getitem__(self, index) -> "Crops":
        """A part of the batch: index with a slice, a list or a tensor (an int gives a batch of one)."""
        if isinstance(index, int):
            index = [index]
        parts = (self.image, self.points, self.centre_mm, self.count)
        return Crops(*(part[index] for part in parts), self.cube_mm)

    def to(self, device) -> "Crops":
        parts = (self.image, self.points, self.centre_mm, self.count)
        return Crops(*(part.to(device) for part in parts), self.cube_mm)


def concatenate(crops: list[Crops]) -> Crops:
    """Batches of crops of one cube size joined into one."""
    cubes = {c.cube_mm for c in crops}
    if len(cubes) != 1:
        raise ValueError(f"crops of one batch need one cube_mm, got {sorted(cubes)}")
    parts = [torch.cat([getattr(c, key) for c in crops]) for key in ("image", "points", "centre_mm", "count")]
    return Crops(*parts, cubes.pop())


def turned(crops: Crops, angle: Tensor) -> tuple[Crops, Tensor]:
    """The same frames as a camera sees them that is turned about its axis by -angle [B] (rad), and the rotations [B, 3, 3] by
    which the hands turn in it.

    Exact but for the pixels' grid, since a picture turns with its camera; the nearest pixel is taken, so that no depth is
    made up between the hand and what is behind it.
    """
    cos, sin = angle.cos(), angle.sin()
    zero, one = torch.zeros_like(cos), torch.ones_like(cos)
    R = torch.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one], -1).unflatten(-1, (3, 3))
    points = rotated(crops.points - 0.5, R) + 0.5
    return Crops(turned_image(crops.image, R), points, rotated(crops.centre_mm, R), crops.count, crops.cube_mm), R


def turned_image(image: Tensor, R: Tensor) -> Tensor:
    """Images [B, H, W] turned about their middle by R [B, 3, 3], rotations about the camera's axis; see `turned`."""
    # grid_sample asks where each pixel comes from, which is the turn back
    back = torch.cat([R[:, :2, :2].mT, R.new_zeros(len(R), 2, 1)], 2)
    grid = affine_grid(back, [len(R), 1, *image.shape[1:]], align_corners=False)
    return grid_sample(image[:, None], grid, mode="nearest", align_corners=False)[:, 0]


def rotated(points: Tensor, R: Tensor) -> Tensor:
    """Points [B, ..., 3], each frame's by its R [B, 3, 3]."""
    return torch.einsum("brc,b...c->b...r", R, points)


def crop_hand(depth_mm, camera: Camera, mask=None, cube_mm: float = 250.0, centre_mm=None) -> Crops:
    """Crop one frame: depth_mm [H, W] (0 = nothing), mask [H, W] bool of the hand's pixels (all measured ones if None).

    The centre is the mean of the hand's points unless `centre_mm` [3] (camera frame) is given. A batch of one is returned.
    Raises ValueError for NaN, a wrong shape, an empty mask, or a cube that is not positive.
    """
    depth = np.asarray(depth_mm, np.float32)
    if depth.ndim != 2:
        raise ValueError(f"depth_mm must be one image [H, W], got {list(depth.shape)}")
    if not -np.inf < depth.min(initial=0) <= depth.max(initial=0) < np.inf:  # NaN is in no order
        raise ValueError("depth_mm holds NaN or infinite numbers; set pixels without a measurement to 0")
    if mask is not None:
        if np.shape(mask) != depth.shape:
            raise ValueError(f"mask must have depth_mm's shape {list(depth.shape)}, got {list(np.shape(mask))}")
        depth = np.where(mask, depth, np.float32(0))
    if not depth.max(initial=0) > 0:
        raise ValueError(
            "the mask is empty: no measured pixel of a hand is left; see hrlib.frames.segment for what it looks for"
        )
    intrinsics = np.array([[camera.fx, camera.fy, camera.cx, camera.cy]], np.float32)
    centre = None if centre_mm is None else np.asarray(centre_mm, np.float32)[None]
    return crop_batch(depth[None], intrinsics, cube_mm, centre)


def crop_frames(frames, cube_mm: float = 250.0, progress: bool = True) -> tuple[Crops, list, dict[str, str]]:
    """`crop_found` for frames of which some show a hand. Raises ValueError, with reasons, where not a single one is left."""
    crops, kept, left_out = crop_found(frames, cube_mm, progress)
    if crops is None:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in list(left_out.items())[:3])
        raise ValueError(f"no hand in any of the {len(left_out)} frames ({reasons})")
    return crops, kept, left_out


def crop_found(frames, cube_mm: float = 250.0, progress: bool = True) -> tuple[Crops | None, list, dict[str, str]]:
    """Segment and crop frames (anything that yields `Frame`s); those without a usable hand are left out.

    Frames of one folder (by their names) are taken for a recording: where a frame shows no usable hand, or one that is
    suddenly elsewhere, its neighbours tell where to look again (`expected_places`).
    Returns the crops (None where no frame is left), the frames they belong to, and {name: reason} of those left out.
    Frames whose hand pixels are known are not segmented.
    """
    frames = list(frames)
    seen = [crop_frame(f, cube_mm) for f in tqdm(frames, "segment and crop", disable=not progress or len(frames) < 50)]
    centres = np.array([np.full(3, np.nan) if crop is None else crop.centre_mm[0].numpy() for crop, _ in seen])
    centres = centres.reshape(-1, 3)  # of no frames, too
    expected = expected_places(centres, [frame.name.rpartition("/")[0] for frame in frames])
    for i in np.flatnonzero(np.isfinite(expected[:, 0])):
        if frames[i].mask is None:
            again = crop_frame(frames[i], cube_mm, expected[i])
            seen[i] = again if again[0] is not None else seen[i]
    crops = [crop for crop, _ in seen if crop is not None]
    left_out = {frame.name: why for frame, (crop, why) in zip(frames, seen, strict=True) if crop is None}
    kept = [frame for frame, (crop, _) in zip(frames, seen, strict=True) if crop is not None]
    return concatenate(crops) if crops else None, kept, left_out


def crop_frame(frame, cube_mm: float = 250.0, near_mm=None) -> tuple[Crops | None, str]:
    """The crop of one `Frame`, or None and why there is none. near_mm [3]: where to look, and the hand must be there.

    Where either end of an arm may be the hand, that is taken which looks more like one.
    """
    try:
        masks = [frame.mask]
        if frame.mask is None:
            masks = possible_hands(frame.depth_mm, frame.camera, near_mm=near_mm)
            reasons = [check_mask(frame.depth_mm, frame.camera, mask).reason for mask in masks]
            if all(reasons):
                raise NoHandFound(reasons[0])
            masks = [mask for mask, reason in zip(masks, reasons, strict=True) if not reason]
        crop, *others = (crop_hand(frame.depth_mm, frame.camera, mask, cube_mm) for mask in masks)
        if others:
            from .recognise import looks_like_a_hand  # not above: it takes crops

            either = concatenate([crop, *others])
            crop = either[int(looks_like_a_hand(either).argmax())]
    except NoHandFound as error:
        return None, str(error)
    if near_mm is not None and np.linalg.norm(crop.centre_mm[0].numpy() - near_mm) > JUMP_MM:
        return None, "the hand is not where the frames before and after have it"
    return crop, ""


def expected_places(centre_mm: np.ndarray, recordings) -> np.ndarray:
    """Where the hand must be in frames whose own segmentation failed or is not to be believed, [B, 3] mm; NaN elsewhere.

    centre_mm [B, 3]: the hand's centre in each frame, NaN where none was found; recordings: B ids, frames of one recording
    next to each other. Not believed is a centre farther than `JUMP_MM` from the median of the ten frames before and after:
    hands do not jump, but segmentation that takes the arm for the hand does. The place is interpolated from believed
    frames at most `GAP` frames away.
    """
    expected = np.full(centre_mm.shape, np.nan)
    ids = list(recordings)
    starts = [0, *(i for i in range(1, len(ids)) if ids[i] != ids[i - 1]), len(ids)]
    for first, end in zip(starts, starts[1:], strict=False) if ids else ():
        c, index = centre_mm[first:end], np.arange(end - first)
        found = np.isfinite(c[:, 0])
        near = [c[max(0, i - 10) : i + 11] for i in index]
        middle = np.array([np.median(w[np.isfinite(w[:, 0])], 0) if np.isfinite(w).any() else w[0] for w in near])
        believed = found & (np.linalg.norm(np.nan_to_num(c - middle), axis=1) < JUMP_MM)
        if not believed.any():
            continue
        good = index[believed]
        gap = np.abs(index[:, None] - good).min(1)
        between = np.stack([np.interp(index, good, c[believed, k]) for k in range(3)], 1)
        expected[first:end][~believed & (gap <= GAP)] = between[~believed & (gap <= GAP)]
    return expected


def crop_batch(depth_mm: np.ndarray, intrinsics: np.ndarray, cube_mm: float = 250.0, centre_mm=None) -> Crops:
    """Crop B frames that show nothing but the hand: depth_mm [B, H, W], intrinsics [B, 4] = (fx, fy, cx, cy).

    An image without any measurement gives an empty crop with a NaN centre; `crop_hand` refuses it. Tensors on a CUDA device
    are cropped there, without points.
    """
    if not cube_mm > 0:
        raise ValueError(f"cube_mm must be positive, got {cube_mm}")
    if isinstance(depth_mm, Tensor) and depth_mm.is_cuda:
        return crop_images(depth_mm, intrinsics, cube_mm)
    b = len(depth_mm)
    find, cube = centre_mm is None, np.float32(cube_mm)
    centre = np.full((b, 3), np.nan, np.float32) if find else np.array(centre_mm, np.float32)
    image = np.zeros((b, IMAGE_SIZE, IMAGE_SIZE), np.float32)
    points, count = np.full((b, POINTS, 3), 2, np.float32), np.zeros(b, np.int64)
    if b == 1:  # threads take longer to wake than one image takes, some 10 ms where other programs keep the cores busy
        count[0] = _crop_one(depth_mm[0], intrinsics[0], centre[0], find, cube, image[0], points[0])
    else:
        _crop_all(depth_mm, intrinsics, centre, find, cube, image, points, count)
    return Crops(*(torch.from_numpy(x) for x in (image, points, centre, count)), float(cube_mm))


def crop_images(depth_mm: Tensor, intrinsics: Tensor, cube_mm: float) -> Crops:
    """`crop_batch` of tensors on any device, without the points that only a comparison of clouds needs."""
    fx, fy, cx, cy = intrinsics.T[..., None, None]
    height, width = depth_mm.shape[1:]
    u, v = (torch.arange(n, device=depth_mm.device) for n in (width, height))
    known = (depth_mm > 0).sum((1, 2))
    x, y = (u - cx) / fx * depth_mm, (v[:, None] - cy) / fy * depth_mm
    centre = torch.stack([n.sum((1, 2)) for n in (x, y, depth_mm)], 1) / known[:, None]
    x, y, z = centre.T[..., None]
    part = (torch.arange(IMAGE_SIZE, device=depth_mm.device) + 0.5) / IMAGE_SIZE - 0.5
    us = ((x / z + part * cube_mm / z) * fx[..., 0] + cx[..., 0]).round()
    vs = ((y / z + part * cube_mm / z) * fy[..., 0] + cy[..., 0]).round()
    inside = ((us >= 0) & (us < width))[:, None] & ((vs >= 0) & (vs < height))[:, :, None]
    us, vs = us.nan_to_num().clamp(0, width - 1).long(), vs.nan_to_num().clamp(0, height - 1).long()
    d = depth_mm[torch.arange(len(us), device=us.device)[:, None, None], vs[:, :, None], us[:, None]]
    value = 0.5 - (d - z[..., None]) / cube_mm  # 1 - z of the crop frame
    image = torch.where(inside & (d > 0) & (value > 0) & (value <= 1), value, 0)
    return Crops(image, image.new_zeros(len(us), 0, 3), centre, torch.zeros_like(known), float(cube_mm))


@njit(parallel=True, cache=True)
def _crop_all(depth, intrinsics, centre, find, cube, image, points, count):
    for b in prange(len(depth)):
        count[b] = _crop_one(depth[b], intrinsics[b], centre[b], find, cube, image[b], points[b])


@njit(cache=True)
def _crop_one(depth, intrinsics, centre, find, cube, image, points):
    """Fill image [120, 120] and points [1280, 3], and, to `find` it, centre [3] mm; returns how many points are distinct."""
    if find:
        _mean_point(depth, intrinsics, centre)
    (fx, fy, cx, cy), (x, y, z) = intrinsics, centre
    size, height, width = len(image), depth.shape[0], depth.shape[1]
    if not z > 0:
        return 0
    us, vs = np.empty(size, np.int64), np.empty(size, np.int64)  # the source pixel of each column and row
    for i in range(size):
        part = (i + 0.5) / size - 0.5
        us[i] = int(np.rint(x / z * fx + cx + part * cube * fx / z))
        vs[i] = int(np.rint(y / z * fy + cy + part * cube * fy / z))
    for i in range(size):
        v = vs[i]
        if v < 0 or v >= height:
            continue
        for j in range(size):
            u = us[j]
            if u < 0 or u >= width:
                continue
            d = depth[v, u]
            value = np.float32(0.5) - (d - z) / cube  # 1 - z of the crop frame
            if d <= 0 or value <= 0 or value > 1:
                continue
            image[i, j] = value
    spots, picked = np.empty((size * size, 2), np.int64), 0
    for i in range(size):
        for j in range(size):
            if _on_grid_or_edge(image, i, j, EDGE_MM / cube):
                spots[picked] = i, j
                picked += 1
    # thinned evenly where a hand needs more than POINTS
    n, keep = 0, min(1.0, len(points) / max(picked, 1))
    for seen in range(picked):
        if keep < 1 and int((seen + 1) * keep) == int(seen * keep):
            continue
        i, j = spots[seen]
        d = depth[vs[i], us[j]]
        points[n, 0] = ((us[j] - cx) / fx * d - x) / cube + np.float32(0.5)
        points[n, 1] = ((vs[i] - cy) / fy * d - y) / cube + np.float32(0.5)
        points[n, 2] = 1 - image[i, j]
        n += 1
    for k in range(n, len(points) if n else 0):
        points[k] = points[k % n]
    return n


@njit(cache=True)
def _mean_point(depth, intrinsics, centre):
    """Mean of the measured points [3] mm, NaN without any."""
    fx, fy, cx, cy = intrinsics
    n, x, y, z = 0, 0.0, 0.0, 0.0
    for v in range(depth.shape[0]):
        for u in range(depth.shape[1]):
            d = depth[v, u]
            if d > 0:
                n, x, y, z = n + 1, x + (u - cx) * d, y + (v - cy) * d, z + d
    centre[0] = x / fx / n if n else np.nan
    centre[1] = y / fy / n if n else np.nan
    centre[2] = z / n if n else np.nan


@njit(cache=True)
def _on_grid_or_edge(image, i, j, step):
    value = image[i, j]
    if value == 0:
        return False
    if i % 2 == 0 and j % 2 == (i // 2) % 2:
        return True
    last = len(image) - 1
    lowest = min(
        image[max(i - 1, 0), j], image[min(i + 1, last), j], image[i, max(j - 1, 0)], image[i, min(j + 1, last)]
    )
    return value - lowest > step
