"""From a depth frame and a hand mask to the network's input D and the loss's points P_D.

The cube of `cube_mm` around the hand's centre is the crop frame, [0, 1]^3. The image D is the perspective window that
the cube's middle plane fills: 120x120 pixels, nearest neighbour, 1 - z on the hand (near is bright) and 0 elsewhere
(Eq. 4). The points P_D are unprojected pixels of D: exact metric points in the crop frame. They lie on a staggered grid,
about 4 mm apart, which is the density of the model's cloud P on its visible side, and on outlines, which a grid alone frays:
outlines halve the image error at the true pose.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float, Real
from numba import prange
from torch import Tensor

from ..support.autograd import beyond_kernels
from ..support.compiled import compiled
from .camera import Camera, check_camera
from .crops import Crops
from .segment import NoHandFound

IMAGE_SIZE = 120  # side of D in pixels, Sec. 4.1
POINTS = 1280  # of P_D; an open hand has about 1000, and repeating some changes no maximum over points
EDGE_MM = 15.0  # a pixel this much nearer than a neighbour lies on an outline


def crop_hand(
    depth_mm: Real[np.ndarray, "H W"],
    camera: Camera,
    mask: Bool[np.ndarray, "H W"] | None = None,
    cube_mm: float = 250.0,
    centre_mm: np.ndarray | list | None = None,
) -> Crops:
    """Crop one frame to a batch of one (Sec. 4.1).

    >>> crops = hrlib.crop_hand(depth_mm, camera, mask=hrlib.find_hand(depth_mm, camera).mask)
    >>> len(crops), crops.image.shape, crops.cube_mm
    (1, torch.Size([1, 120, 120]), 250.0)

    Args:
        depth_mm: 0 = no measurement.
        camera: of the frame.
        mask: the hand's pixels; None takes all that are measured.
        cube_mm: side of the cube.
        centre_mm: [3], of the cube in the camera frame; None takes the mean of the hand's points.

    Raises:
        NoHandFound: (a ValueError) the mask holds no measured pixel.
        ValueError: NaN, a wrong shape, a cube that is not positive, or a depth with a gradient.
    """
    if isinstance(depth_mm, Tensor) and _differentiated(depth_mm):
        raise ValueError(
            "depth_mm has a gradient, and the points of a crop have none: take depth_mm.detach(), or crop_batch, whose "
            "images have one"
        )
    check_camera(camera)
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
        raise NoHandFound(
            "the mask is empty: no measured pixel of a hand is left; see hrlib.frames.segment for what it looks for"
        )
    intrinsics = np.array([[camera.fx, camera.fy, camera.cx, camera.cy]], np.float32)
    centre = None if centre_mm is None else np.asarray(centre_mm, np.float32)[None]
    return crop_batch(depth[None], intrinsics, cube_mm, centre)


def crop_batch(
    depth_mm: Float[np.ndarray, "B H W"] | Float[Tensor, "B H W"],
    intrinsics: Float[np.ndarray, "B 4"] | Float[Tensor, "B 4"],
    cube_mm: float = 250.0,
    centre_mm: np.ndarray | None = None,
) -> Crops:
    """Crop frames that show nothing but the hand.

    Tensors on a CUDA device, and tensors of which torch wants a gradient, are cropped by `crop_images`, without points.

    Args:
        depth_mm: 0 = no measurement. A frame without any gives an empty crop with a NaN centre.
        intrinsics: (fx, fy, cx, cy) of each frame, px.
        cube_mm: side of the cube.
        centre_mm: [B, 3], of the cubes in the camera frame; None takes the mean of each hand's points.
    """
    if not cube_mm > 0:
        raise ValueError(f"cube_mm must be positive, got {cube_mm}")
    if isinstance(depth_mm, Tensor) and (depth_mm.is_cuda or _differentiated(depth_mm)):
        return crop_images(depth_mm, torch.as_tensor(intrinsics).to(depth_mm), cube_mm, centre_mm)
    depth_mm, intrinsics = np.asarray(depth_mm), np.asarray(intrinsics)
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


def _differentiated(depth_mm: Tensor) -> bool:
    return depth_mm.requires_grad or beyond_kernels(depth_mm)


def crop_images(
    depth_mm: Float[Tensor, "B H W"],
    intrinsics: Float[Tensor, "B 4"],
    cube_mm: float,
    centre_mm: Float[np.ndarray | Tensor, "B 3"] | None = None,
) -> Crops:
    """`crop_batch` in plain torch on any device, without the points that only a comparison of clouds needs.

    The images are differentiable in the depth of their pixels and, through the cube's centre, in that of all others.
    """
    fx, fy, cx, cy = intrinsics.T[..., None, None]
    height, width = depth_mm.shape[1:]
    u, v = (torch.arange(n, device=depth_mm.device) for n in (width, height))
    known = (depth_mm > 0).sum((1, 2))
    if centre_mm is None:
        x, y = (u - cx) / fx * depth_mm, (v[:, None] - cy) / fy * depth_mm
        centre = torch.stack([n.sum((1, 2)) for n in (x, y, depth_mm)], 1) / known[:, None]
    else:
        centre = torch.as_tensor(centre_mm).to(depth_mm)
    x, y, z = centre.T[..., None]
    part = (torch.arange(IMAGE_SIZE, dtype=depth_mm.dtype, device=depth_mm.device) + 0.5) / IMAGE_SIZE - 0.5
    us = ((x / z + part * cube_mm / z) * fx[..., 0] + cx[..., 0]).round()
    vs = ((y / z + part * cube_mm / z) * fy[..., 0] + cy[..., 0]).round()
    inside = ((us >= 0) & (us < width))[:, None] & ((vs >= 0) & (vs < height))[:, :, None]
    us, vs = us.nan_to_num().clamp(0, width - 1).long(), vs.nan_to_num().clamp(0, height - 1).long()
    d = depth_mm[torch.arange(len(us), device=us.device)[:, None, None], vs[:, :, None], us[:, None]]
    value = 0.5 - (d - z[..., None]) / cube_mm  # 1 - z of the crop frame
    image = torch.where(inside & (d > 0) & (value > 0) & (value <= 1), value, 0)
    return Crops(image, image.new_zeros(len(us), 0, 3), centre, torch.zeros_like(known), float(cube_mm))


@compiled(parallel=True)
def _crop_all(depth, intrinsics, centre, find, cube, image, points, count):
    for b in prange(len(depth)):
        count[b] = _crop_one(depth[b], intrinsics[b], centre[b], find, cube, image[b], points[b])


@compiled()
def _crop_one(depth, intrinsics, centre, find, cube, image, points):
    """Fill image [120, 120], points [1280, 3] and, with `find`, centre [3] mm; returns the number of distinct points."""
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
                spots[picked, 0], spots[picked, 1] = i, j
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
        for axis in range(3):
            points[k, axis] = points[k % n, axis]
    return n


@compiled()
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


@compiled()
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
