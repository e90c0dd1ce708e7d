"""PoseNet: depth image in the crop to joint rotations and an offset (Sec. 3.2, 4.1)."""

import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ..frames.crop import IMAGE_SIZE
from ..frames.crops import batch_index
from ..hand.joints import POINT_NAMES
from .backbones import BACKBONES, Votes
from .rotation_heads import ROTATIONS, to_quaternion

ANCHOR_POINT = POINT_NAMES.index("middle_base")  # whose place the offset is


@dataclass(frozen=True)
class NetworkSettings:
    """What a PoseNet is made of; stored with every checkpoint.

    rotation: what the last layer regresses to for each joint: "quaternion" (the paper's theta), "6d" (Zhou et al. 2019,
    "On the continuity of rotation representations") or "euler" (flexion, deviation, twist in radians; singular where the
    deviation is 90 degrees, which no finger reaches but the wrist, turned to any side, does). offset: predict where the
    hand is in the cube as well; the paper's theta has no translation. batch_norm: normalise after each convolution while
    pretraining; `fold_batch_norm` turns such a network into an equal one without. backbone: "alexnet" (the paper's; older
    checkpoints name none and have it), "resnet" (a small one) or "votes" (a small residual network whose places in the
    image vote for the 21 points of the hand, from which the rotations follow: `Votes`).
    """

    rotation: str = "quaternion"
    offset: bool = True
    batch_norm: bool = False
    keep_probability: float = 0.75  # Sec. 4.1
    backbone: str = "alexnet"

    def __post_init__(self):
        if self.rotation not in ROTATIONS:
            raise ValueError(f"rotation must be one of {sorted(ROTATIONS)}, got {self.rotation!r}")
        if self.backbone not in BACKBONES:
            raise ValueError(f"backbone must be one of {sorted(BACKBONES)}, got {self.backbone!r}")
        if not 0 < self.keep_probability <= 1:
            raise ValueError(f"keep_probability must be in (0, 1], got {self.keep_probability}; 1 turns dropout off")


@dataclass(frozen=True)
class Prediction:
    """rotations [B, 16, 4]: theta, unit quaternions xyzw; offset [B, 3]: the base of the middle finger in the crop frame,
    counted from the crop's centre (None for a network without the offset head); points [B, 21, 3]: where the network sees
    the hand's points, bones of any length, counted and scaled like the offset (None for a backbone that does not vote)."""

    rotations: Tensor
    offset: Tensor | None
    points: Tensor | None = None

    def __getitem__(self, index) -> "Prediction":
        """Predictions of some of the images; see `batch_index`."""
        index, parts = batch_index(index), (self.rotations, self.offset, self.points)
        return Prediction(*(None if part is None else part[index] for part in parts))


class PoseNet(nn.Module):
    """The paper's slightly modified AlexNet: five convolutions, one fully connected layer of 4096, dropout, theta.

    7 million weights; or another backbone in place of its layers (`NetworkSettings`). Input [B, 120, 120] depth in the
    crop, output a `Prediction`. ValueError for another size.
    """

    def __init__(self, settings: NetworkSettings | None = None):
        super().__init__()
        self.settings = settings = settings or NetworkSettings()
        self.features, seen, width = BACKBONES[settings.backbone](settings.batch_norm)
        neutral = torch.tensor(ROTATIONS[settings.rotation])
        self.hidden = nn.Linear(seen, width)
        self.dropout = nn.Dropout(1 - settings.keep_probability)
        self.voted = 63 if settings.backbone == "votes" else 0  # how many of the features are the points
        self.theta = nn.Linear(width + self.voted, 16 * len(neutral))
        self.offset = nn.Linear(width, 3) if settings.offset else None
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if isinstance(module, Votes):
                nn.init.normal_(module.vote.weight, std=1e-3)
                nn.init.zeros_(module.vote.bias)
        nn.init.normal_(self.theta.weight, std=1e-3)
        self.theta.bias.data = neutral.repeat(16)
        if self.offset is not None:
            nn.init.zeros_(self.offset.weight)
            nn.init.zeros_(self.offset.bias)

    def forward(self, image: Tensor) -> Prediction:
        numbers, offset, points = self.numbers(image)
        return Prediction(to_quaternion(numbers), offset, points)

    def numbers(self, image: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """What `to_quaternion` makes the rotations of, [B, 16, 4, 6 or 3], and the prediction's offset and points."""
        if image.ndim != 3 or image.shape[1:] != (IMAGE_SIZE, IMAGE_SIZE):
            raise ValueError(
                f"image must be [B, {IMAGE_SIZE}, {IMAGE_SIZE}], got {list(image.shape)}; see hrlib.frames.crop"
            )
        seen = self.features(image[:, None])
        h = self.dropout(torch.relu(self.hidden(seen)))
        offset = None if self.offset is None else self.offset(h).float()
        points = None
        if self.voted:
            voted = seen[:, -self.voted :]
            h, points = torch.cat([h, voted], 1), voted.float().reshape(-1, 21, 3) / Votes.SCALE
            offset = None if offset is None else offset + points[:, ANCHOR_POINT]
        numbers = self.theta(h).float()
        return numbers.reshape(-1, 16, self.theta.out_features // 16), offset, points


# -- rotation heads: finite in value and gradient for every number, zeros included -----------------------------------------


# -- with and without normalisation ---------------------------------------------------------------------------------------


def fold_batch_norm(net: PoseNet) -> PoseNet:
    """An equal network (in eval mode) whose normalisation is folded into its convolutions, as it is shipped and refined."""
    folded, fused = PoseNet(replace(net.settings, batch_norm=False)), copy.deepcopy(net).eval()
    for target, conv, norm in zip(_convs(folded), _convs(fused), _norms(fused), strict=True):
        target.load_state_dict(nn.utils.fuse_conv_bn_eval(conv, norm).state_dict())
    _copy_linear(fused, folded)
    folded.hidden, folded.theta, folded.offset = fused.hidden, fused.theta, fused.offset
    return folded.to(fused.theta.weight).train(net.training)


def unfold_batch_norm(net: PoseNet, image: Tensor) -> PoseNet:
    """An equal network with normalisation again, to train on from a shipped one; inverse of `fold_batch_norm`.

    image [B, 120, 120]: a batch that is typical of the training; its statistics start the running ones.
    """
    unfolded, plain = PoseNet(replace(net.settings, batch_norm=True)), copy.deepcopy(net)
    for conv, target, norm in zip(_convs(plain), _convs(unfolded), _norms(unfolded), strict=True):
        target.load_state_dict(conv.state_dict())

        def measure(conv, inputs, output, norm=norm):
            variance, mean = torch.var_mean(output, (0, 2, 3))
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(variance)
            norm.weight.copy_((variance + norm.eps).sqrt())
            norm.bias.copy_(mean)

        conv.register_forward_hook(measure)
    with torch.no_grad():
        plain.features(image[:, None])
    _copy_linear(plain, unfolded)
    for part in ("hidden", "theta", "offset"):
        setattr(unfolded, part, copy.deepcopy(getattr(net, part)))
    return unfolded.to(net.theta.weight).train(net.training)


def _convs(net: PoseNet) -> list[nn.Module]:
    """The convolutions in the order they were made in, which is also that of their normalisations."""
    return [m for m in net.features.modules() if isinstance(m, nn.Conv2d)]


def _copy_linear(net: PoseNet, to: PoseNet):
    """The fully connected layers of the features, which `Votes` has."""
    layers = ([m for m in n.features.modules() if isinstance(m, nn.Linear)] for n in (net, to))
    for layer, target in zip(*layers, strict=True):
        target.load_state_dict(layer.state_dict())


def _norms(net: PoseNet) -> list[nn.Module]:
    return [m for m in net.features.modules() if isinstance(m, nn.BatchNorm2d)]
