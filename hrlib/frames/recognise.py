"""Is that a hand at all? A small network that tells the crops of hands from those of other things of a hand's size.

That a hand can be fitted to a frame proves little: a ball of a fist's size is explained as well as a fist. This network has
seen synthetic hands and drawn animals, dolls, vessels, tools, boxes and sheets (`data/recognise/build.py`), and no real image.
What it makes of hands and kinds of things that it has not seen is in `data/recognise/hand.json`.
"""

from functools import lru_cache

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, max_pool2d

from ..support.paths import RECOGNISER
from .crops import Crops


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

    def forward(self, images: Tensor) -> Tensor:
        found = self.features(images).flatten(2)
        return self.last(torch.cat([found.mean(2), found.amax(2)], 1))[:, 0]


def small(image: Tensor) -> Tensor:
    """Crop images [B, 120, 120] at half of their size, [B, 3, 60, 60]: how much of each 2x2 pixels is covered, how near
    that is (0 in the middle of the cube), and how far apart its nearest and farthest point are."""
    image = image[:, None]
    covered = avg_pool2d((image > 0).float(), 2)
    near = avg_pool2d(image, 2) / covered.clamp_min(1 / 4) - 0.5
    nearest, farthest = max_pool2d(image, 2), 1 - max_pool2d((1 - image) * (image > 0), 2)
    return torch.cat([covered, 3 * near * (covered > 0), (10 * (nearest - farthest)).clamp(0, 3)], 1)


@lru_cache(1)
def recogniser() -> HandOrNot:
    """The network that comes with the repository."""
    try:
        stored = load_file(RECOGNISER)
        net = HandOrNot()
        net.load_state_dict({name: t.float() if t.is_floating_point() else t for name, t in stored.items()})
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ValueError(f"{RECOGNISER} cannot be read ({error}); install hrlib again") from error
    return net.eval()


@torch.no_grad()
def looks_like_a_hand(crops: Crops) -> Tensor:
    """How sure it is that each crop shows a hand, of either side, [B] in [0, 1]; 0.5 is undecided.

    Raises ValueError where the weights that come with the repository are missing.
    """
    return torch.cat([recogniser()(small(part)).sigmoid() for part in crops.image.split(200)])
