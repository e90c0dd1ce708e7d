"""PoseNet: depth image in the crop to joint rotations and an offset (Sec. 3.2, 4.1)."""

import copy
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..frames.crop import IMAGE_SIZE
from ..frames.crops import batch_index
from ..hand.joints import JOINT_NAMES, POINT_NAMES
from ..hand.rig import HandRig
from ..hand.rotations import rotation_matrix
from ..support.autograd import full_precision
from ..support.checks import require_one_of
from .backbones import BACKBONES, Told, Votes, changed
from .rotation_heads import ROTATIONS, to_quaternion

# pairs of points whose distances tell the hand's shape: the bones, and neighbouring knuckles
SPANS = [(child, 0 if child % 4 == 1 else child - 1) for child in range(1, 21)] + [(5, 9), (9, 13), (13, 17), (5, 17)]
ANCHOR = "middle_base"  # the joint whose place the offset head predicts: near the middle of the hand


@dataclass(frozen=True)
class NetworkSettings:
    """What a PoseNet is made of; stored with every checkpoint."""

    # what the last layer regresses for each joint: "quaternion" (the paper's theta), "6d" (Zhou et al. 2019, "On the
    # continuity of rotation representations") or "euler" (flexion, deviation, twist; singular at a deviation of 90
    # degrees, which no finger reaches, but the wrist does)
    rotation: str = "quaternion"
    offset: bool = True  # also predict where the hand is in the cube; the paper's theta has no translation
    batch_norm: bool = False  # normalise after each convolution, while pretraining (`fold_batch_norm` removes it)
    keep_probability: float = 0.75  # of the dropout, Sec. 4.1
    backbone: str = "alexnet"  # "alexnet" (the paper's), "resnet" (a small one) or "votes" (`backbones.Votes`)
    # knows a population: can be told a hand's shape, and says which one it sees; "votes" alone
    shape: bool = False

    def __post_init__(self):
        require_one_of(ROTATIONS, rotation=self.rotation)
        require_one_of(BACKBONES, backbone=self.backbone)
        if self.shape and self.backbone != "votes":
            raise ValueError(f"shape needs the backbone 'votes', got {self.backbone!r}")
        if not 0 < self.keep_probability <= 1:
            raise ValueError(f"keep_probability must be in (0, 1], got {self.keep_probability}; 1 turns dropout off")


@dataclass(frozen=True)
class Prediction:
    """What a network predicts for B crops."""

    rotations: Float[Tensor, "B 16 4"]  # theta: unit quaternions xyzw
    # the anchor in the crop frame, counted from the crop's centre; None for a network without the offset head
    offset: Float[Tensor, "B 3"] | None
    # the hand's points as the network sees them, with bones of any length, in the offset's frame; None unless it votes
    points: Float[Tensor, "B 21 3"] | None = None
    # the eight numbers of the hand's shape (`HandShape.numbers`) as the network sees it; None unless it knows a population
    shape: Float[Tensor, "B 8"] | None = None

    def __getitem__(self, index) -> "Prediction":
        """Predictions of some of the images; see `batch_index`."""
        index, parts = batch_index(index), (self.rotations, self.offset, self.points, self.shape)
        return Prediction(*(None if part is None else part[index] for part in parts))


def spans(points: Float[Tensor, "B 21 3"]) -> Float[Tensor, "B 24"]:
    """Lengths of the `SPANS` in tenths of a cube: about one."""
    ends = points[:, [one for one, _ in SPANS]] - points[:, [other for _, other in SPANS]]
    return 10 * (ends.square().sum(-1) + 1e-6).sqrt()  # a gradient also where two points are one


@full_precision
def wrist_to_anchor_mm(rotations: Float[Tensor, "B 16 4"], hand: HandRig) -> Float[Tensor, "B 3"]:
    """The way from the wrist to the anchor of the posed hand in the camera's axes, mm."""
    return rotation_matrix(rotations[:, 0]) @ hand.joints_mm[JOINT_NAMES.index(ANCHOR)]


class PoseNet(nn.Module):
    """The paper's slightly modified AlexNet: five convolutions, one fully connected layer of 4096, dropout, theta.

    About 7 million weights. Another backbone may take the place of its layers (`NetworkSettings`).
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
        self.told = Told((48, 96, 192, width)) if settings.shape else None
        self.shape = nn.Linear(width + self.voted + len(SPANS), 8) if settings.shape else None
        self.known: Tensor | None = None  # [8], see `tell`
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
        if self.shape is not None:
            nn.init.zeros_(self.shape.weight)
            nn.init.zeros_(self.shape.bias)

    def tell(self, shape: Float[Tensor, "8"] | None) -> "PoseNet":
        """This network, which from now on takes the hand's shape for known where `forward` is told none; None forgets it.

        Raises ValueError for a network that knows one hand.
        """
        if self.told is None and shape is not None:
            raise ValueError(
                "this network knows one hand and cannot be told another's shape; use one of settings.shape"
            )
        self.known = None if shape is None else shape.detach().to(self.theta.weight)
        return self

    def forward(self, image: Float[Tensor, "B 120 120"], shape: Float[Tensor, "#B 8"] | None = None) -> Prediction:
        """Depth images in the crop to theta.

        Args:
            image: 1 - z of the crop frame, 0 where there is nothing.
            shape: the hands' `HandShape.numbers`, one for all or one each, NaN where unknown. None: what `tell` said.

        Raises:
            ValueError: images of another size.
        """
        numbers, offset, points, seen = self.numbers(image, shape)
        return Prediction(to_quaternion(numbers), offset, points, seen)

    def numbers(
        self, image: Float[Tensor, "B 120 120"], shape: Float[Tensor, "#B 8"] | None = None
    ) -> tuple[
        Float[Tensor, "B 16 n"],
        Float[Tensor, "B 3"] | None,
        Float[Tensor, "B 21 3"] | None,
        Float[Tensor, "B 8"] | None,
    ]:
        """The last layer's numbers, from which `to_quaternion` makes rotations, and the prediction's other parts."""
        if image.ndim != 3 or image.shape[1:] != (IMAGE_SIZE, IMAGE_SIZE):
            raise ValueError(
                f"image must be [B, {IMAGE_SIZE}, {IMAGE_SIZE}], got {list(image.shape)}; see hrlib.frames.crop"
            )
        told = self._told(image, shape)
        seen = self.features(image[:, None]) if told is None else self.features(image[:, None], told[:3])
        h = self.dropout(changed(torch.relu(self.hidden(seen)), told and told[3]))
        offset = None if self.offset is None else self.offset(h).float()
        points = None
        if self.voted:
            voted = seen[:, -self.voted :]
            h, points = torch.cat([h, voted], 1), voted.float().reshape(-1, 21, 3) / Votes.SCALE
            offset = None if offset is None else offset + points[:, POINT_NAMES.index(ANCHOR)]
        numbers = self.theta(h).float()
        shape = None if self.shape is None else Told.UNIT * self.shape(torch.cat([h, spans(points)], 1)).float()
        return numbers.reshape(-1, 16, self.theta.out_features // 16), offset, points, shape

    def _told(self, image: Tensor, shape: Tensor | None) -> list[tuple[Tensor, Tensor]] | None:
        """Gains and shifts of three maps and the hidden features; None for a network that knows one hand."""
        if self.told is None:
            if shape is not None:
                raise ValueError("this network knows one hand and cannot be told another's shape")
            return None
        if shape is None:
            shape = image.new_full((1, 8), torch.nan) if self.known is None else self.known[None]
        return self.told(shape)


def fold_batch_norm(net: PoseNet) -> PoseNet:
    """An equal network (in eval mode) whose normalisation is folded into its convolutions, as it is shipped and refined."""
    folded = PoseNet(replace(net.settings, batch_norm=False)).to(net.theta.weight).tell(net.known)
    normalised = copy.deepcopy(net).eval()
    layers = _layers(folded, nn.Conv2d), _layers(normalised, nn.Conv2d), _layers(normalised, nn.BatchNorm2d)
    for target, conv, norm in zip(*layers, strict=True):
        target.load_state_dict(nn.utils.fuse_conv_bn_eval(conv, norm).state_dict())
    _copy_linear(net, folded)
    return folded.train(net.training)


def unfold_batch_norm(net: PoseNet, image: Float[Tensor, "B 120 120"]) -> PoseNet:
    """An equal network with normalisation again, to train on from a shipped one; inverse of `fold_batch_norm`.

    Args:
        net: a network without normalisation.
        image: a batch that is typical of the training; its statistics start the running ones.
    """
    unfolded, plain = PoseNet(replace(net.settings, batch_norm=True)).to(net.theta.weight), copy.deepcopy(net)
    layers = _layers(plain, nn.Conv2d), _layers(unfolded, nn.Conv2d), _layers(unfolded, nn.BatchNorm2d)
    for conv, target, norm in zip(*layers, strict=True):
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
    _copy_linear(net, unfolded)
    return unfolded.train(net.training)


def _layers(net: PoseNet, kind: type[nn.Module]) -> list[nn.Module]:
    """The layers of one kind in the order of their making, in which each convolution meets its own normalisation."""
    return [module for module in net.modules() if isinstance(module, kind)]


def _copy_linear(net: PoseNet, to: PoseNet):
    for layer, target in zip(_layers(net, nn.Linear), _layers(to, nn.Linear), strict=True):
        target.load_state_dict(layer.state_dict())
