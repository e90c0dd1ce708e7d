"""Is this a hand at all? A small network tells crops of hands from crops of other things of a hand's size.

A good fit of the hand model proves little: it explains a ball of a fist's size as well as a fist. The network was trained
(`data/recognise/build.py`) on synthetic hands and drawn animals, dolls, vessels, tools, boxes and sheets; no real image.
Its scores on hands and kinds of things that it has not seen are in `data/recognise/hand.json`.
"""

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, max_pool2d

from ..support.autograd import for_every_use, full_precision
from ..support.paths import RECOGNISER
from ..support.tensor_files import read_tensors


class HandOrNot(nn.Module):
    """Depth images [B, 3, 60, 60] of `small` -> logit [B], above 0 for a hand."""

    def __init__(self):
        super().__init__()
        layers, before = [], 3
        for width, stride in ((16, 2), (32, 1), (48, 2), (64, 1), (96, 2)):
            layers += [nn.Conv2d(before, width, 3, stride, 1), nn.BatchNorm2d(width), nn.ReLU()]
            before = width
        self.features = nn.Sequential(*layers)
        self.last = nn.Linear(2 * before, 1)

    def forward(self, images: Float[Tensor, "B 3 60 60"]) -> Float[Tensor, " B"]:
        features = self.features(images).flatten(2)
        return self.last(torch.cat([features.mean(2), features.amax(2)], 1))[:, 0]


def small(image: Float[Tensor, "B 120 120"]) -> Float[Tensor, "B 3 60 60"]:
    """Crop images at half their size. Channels: covered share of each 2x2 pixels, their nearness (0 in the middle of the
    cube), and the distance between the nearest and the farthest of them."""
    image = image[:, None]
    covered = avg_pool2d((image > 0).float(), 2)
    near = avg_pool2d(image, 2) / covered.clamp_min(1 / 4) - 0.5
    nearest, farthest = max_pool2d(image, 2), 1 - max_pool2d((1 - image) * (image > 0), 2)
    return torch.cat([covered, 3 * near * (covered > 0), (10 * (nearest - farthest)).clamp(0, 3)], 1)


@lru_cache(1)
@for_every_use()
def recogniser() -> HandOrNot:
    """The network that comes with the library."""
    try:
        _, stored = read_tensors(RECOGNISER)
        net = HandOrNot()
        net.load_state_dict({name: t.float() if t.is_floating_point() else t for name, t in stored.items()})
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(f"{RECOGNISER} cannot be read ({error}); install hrlib again") from error
    return net.eval().float()


@torch.no_grad()
@full_precision
def looks_like_a_hand(image: Float[Tensor, "B 120 120"]) -> Float[Tensor, " B"]:
    """Score in [0, 1] that each crop image shows a hand, left or right; 0.5 is undecided.

    Raises ValueError if the weights cannot be read.
    """
    return torch.cat([recogniser()(small(part)).sigmoid() for part in image.split(200)])
