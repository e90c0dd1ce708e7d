"""A batch of crops: what the method sees of frames."""

import operator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

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
