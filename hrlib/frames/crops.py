"""A batch of crops: what the method sees of frames, and what another camera would see: turned, in a mirror, resized."""

import operator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from ..support.autograd import full_precision

TENSORS = ("image", "points", "centre_mm", "count", "upright")  # what a batch of crops has of each frame


def batch_index(index: object) -> object:
    """An index that always gives a batch: any kind of integer means a batch of one; slices, lists and arrays select."""
    is_integer = hasattr(index, "__index__") and getattr(index, "ndim", 0) == 0
    return [operator.index(index)] if is_integer else index


@dataclass(frozen=True)
class Crops:
    """B cropped frames."""

    image: Float[Tensor, "B 120 120"]  # D: 1 - z on the hand, 0 elsewhere
    points: Float[Tensor, "B N 3"]  # P_D in the crop frame
    centre_mm: Float[Tensor, "B 3"]  # of the cube, in the camera frame
    count: Int[Tensor, " B"]  # number of distinct points; the rest repeat them
    cube_mm: float  # side of the cube
    # rad by which a camera's picture is to be turned, so that the forearm is below the hand; 0: it is, or nothing tells. The
    # fields above show the frame as it is
    upright: Float[Tensor, " B"] | None = None

    def __post_init__(self):
        if self.upright is None:
            object.__setattr__(self, "upright", self.image.new_zeros(len(self.image)))

    def __len__(self):
        return len(self.image)

    def __getitem__(self, index: object) -> "Crops":
        """A part of the batch; see `batch_index`."""
        index = batch_index(index)
        return replace(self, **{key: getattr(self, key)[index] for key in TENSORS})

    def to(self, device: torch.device | str) -> "Crops":
        return replace(self, **{key: getattr(self, key).to(device) for key in TENSORS})


def evenly(total: int, count: int) -> Int[Tensor, " N"]:
    """At most `count` of `total` indices, evenly spread."""
    return torch.linspace(0, total - 1, min(count, total), dtype=torch.float32).round().long()


def concatenate(crops: list[Crops]) -> Crops:
    """Batches of crops of one cube size joined into one."""
    cubes = {c.cube_mm for c in crops}
    if len(cubes) != 1:
        raise ValueError(f"crops of one batch need one cube_mm, got {sorted(cubes)}")
    return replace(crops[0], **{key: torch.cat([getattr(c, key) for c in crops]) for key in TENSORS})


# -- as another camera sees them ------------------------------------------------------------------------------------------


def turned(crops: Crops, angle: Float[Tensor, " B"]) -> tuple[Crops, Float[Tensor, "B 3 3"]]:
    """The crops as seen by a camera turned about its axis by -angle (rad), and the rotations of the hands in its frame.

    Exact except for the pixel grid. Each pixel takes its nearest source pixel, which invents no depth at outlines.
    """
    cos, sin = angle.cos(), angle.sin()
    zero, one = torch.zeros_like(cos), torch.ones_like(cos)
    R = torch.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one], -1).unflatten(-1, (3, 3))
    points = rotated(crops.points - 0.5, R) + 0.5
    image, centre_mm = turned_image(crops.image, R), rotated(crops.centre_mm, R)
    upright = torch.where(crops.upright == 0, crops.upright, crops.upright - angle)
    return replace(crops, image=image, points=points, centre_mm=centre_mm, upright=upright), R


def in_mirror(crops: Crops) -> Crops:
    """The crops as a mirror shows them: a left hand becomes a right one, x becomes -x. Exact except for the pixel grid."""
    other = crops.points.new_tensor([-1.0, 1.0, 1.0])
    points, centre_mm = (crops.points - 0.5) * other + 0.5, crops.centre_mm * other
    return replace(crops, image=crops.image.flip(2), points=points, centre_mm=centre_mm, upright=-crops.upright)


def resized(crops: Crops, factor: float) -> Crops:
    """The crops of the same scene `factor` times as large, in cubes of the same size; what leaves the cube is lost."""
    size = crops.image.shape[-1]
    # the source pixel of each row and column: both images are windows of one direction
    source = torch.arange(size, dtype=torch.float32, device=crops.image.device)  # whatever torch's default is
    source = (((source + 0.5) / size - 0.5) / factor + 0.5) * size
    inside, source = (source >= 0) & (source < size), source.long().clamp(0, size - 1)
    image = crops.image[:, source][:, :, source]
    value = 0.5 + (image - 0.5) * factor
    seen = (image > 0) & (value > 0) & (value <= 1) & inside & inside[:, None]
    points = 0.5 + (crops.points - 0.5) * factor
    return replace(crops, image=value.where(seen, 0), points=points, centre_mm=crops.centre_mm * factor)


@full_precision
def turned_image(image: Float[Tensor, "B H W"], R: Float[Tensor, "B 3 3"]) -> Float[Tensor, "B H W"]:
    """Images turned about their middle by R, rotations about the camera's axis; see `turned`."""
    # grid_sample asks where each pixel comes from: the inverse turn
    back = torch.cat([R[:, :2, :2].mT, R.new_zeros(len(R), 2, 1)], 2)
    grid = affine_grid(back, [len(R), 1, *image.shape[1:]], align_corners=False)
    return grid_sample(image[:, None], grid, mode="nearest", align_corners=False)[:, 0]


@full_precision
def rotated(points: Float[Tensor, "B *points 3"], R: Float[Tensor, "B 3 3"]) -> Float[Tensor, "B *points 3"]:
    """Points rotated by the R of their frame."""
    return torch.einsum("brc,b...c->b...r", R, points)
