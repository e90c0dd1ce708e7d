"""PoseNet: depth image in the crop to joint rotations and an offset (Sec. 3.2, 4.1)."""

import copy
from dataclasses import dataclass, replace

import roma
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate, one_hot, pad, pixel_unshuffle

from ..hand.joints import POINT_NAMES
from ..hand.kinematics import from_euler

IMAGE_SIZE = 120  # Sec. 4.1
ANCHOR_POINT = POINT_NAMES.index("middle_base")  # whose place the offset is
# numbers a joint, and those of the joint's neutral orientation
ROTATIONS = {"quaternion": (0.0, 0.0, 0.0, 1.0), "6d": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), "euler": (0.0, 0.0, 0.0)}


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
        """Those of some of the images: index with a slice, a list or a tensor."""
        parts = (self.rotations, self.offset, self.points)
        return Prediction(*(None if part is None else part[index] for part in parts))


class FirstConv(nn.Conv2d):
    """AlexNet's first layer, 11x11 with stride 4 on one channel, computed as a 3x3 convolution of the 4x4 blocks.

    The same sums, but kernels for one channel and long strides are slow on a CPU: a training step takes a quarter less.
    """

    def __init__(self, channels: int):
        super().__init__(1, channels, 11, 4, 5)

    def forward(self, x: Tensor) -> Tensor:
        # output i sees the rows 4i - 5 ... 4i + 5; with 5 rows before the image, these are blocks i, i + 1, i + 2
        blocks, weight = pixel_unshuffle(pad(x, (5, 3, 5, 3)), 4), pixel_unshuffle(pad(self.weight, (0, 1, 0, 1)), 4)
        fast = torch.channels_last
        return conv2d(blocks.contiguous(memory_format=fast), weight.contiguous(memory_format=fast), self.bias)


def alexnet(batch_norm: bool) -> tuple[nn.Sequential, int, int]:
    """AlexNet's kernels, strides and order (Krizhevsky et al. 2012) with about half its channels and without its response
    normalisation. The layers [B, 1, 120, 120] -> [B, n], their n, and the width of the fully connected layer after them."""

    def conv(c_in, c_out, kernel, pool=False):
        layers = [nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2) if c_in > 1 else FirstConv(c_out)]
        if batch_norm:
            layers.append(nn.BatchNorm2d(c_out))
        if pool:
            layers.append(nn.MaxPool2d(3, 2, 1))  # before the ReLU, which commutes with it and has less to do then
        return [*layers, nn.ReLU()]

    layers = nn.Sequential(
        *conv(1, 48, 11, pool=True),  # 120 -> 30 -> 15 pixels
        *conv(48, 128, 5, pool=True),  # 8
        *conv(128, 192, 3),
        *conv(192, 192, 3),
        *conv(192, 80, 3, pool=True),  # 4
        nn.Flatten(),
    )  # fmt: skip
    return layers, 80 * 4 * 4, 4096


def resnet(batch_norm: bool) -> tuple[nn.Sequential, int, int]:
    """AlexNet's first layer and five residual blocks (He et al. 2016), as costly as AlexNet. Flattened, not averaged:
    where in the image something is seen tells the pose. Returns what `alexnet` does."""
    layers = nn.Sequential(
        FirstConv(48),
        nn.BatchNorm2d(48) if batch_norm else nn.Identity(),
        nn.MaxPool2d(3, 2, 1),
        nn.ReLU(),  # 15 pixels
        Residual(48, 48, 1, batch_norm),
        Residual(48, 128, 2, batch_norm),  # 8
        Residual(128, 128, 1, batch_norm),
        Residual(128, 256, 2, batch_norm),  # 4
        Residual(256, 256, 1, batch_norm),
        nn.Flatten(),
    )
    return layers, 256 * 4 * 4, 512


def votes(batch_norm: bool) -> tuple[nn.Module, int, int]:
    """`Votes`, as the functions above return their layers. Half of AlexNet's weights, as costly."""
    return Votes(batch_norm), 512 + 63, 512


BACKBONES = {"alexnet": alexnet, "resnet": resnet, "votes": votes}


class Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is a 1x1 convolution where the size changes."""

    def __init__(self, c_in: int, c_out: int, stride: int, batch_norm: bool):
        super().__init__()

        def conv(c_from, kernel, stride):
            norm = nn.BatchNorm2d(c_out) if batch_norm else nn.Identity()
            return nn.Sequential(nn.Conv2d(c_from, c_out, kernel, stride, kernel // 2), norm)

        self.first, self.second = conv(c_in, 3, stride), conv(c_out, 3, 1)
        self.shortcut = conv(c_in, 1, stride) if (c_in, stride) != (c_out, 1) else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.second(torch.relu(self.first(x))) + self.shortcut(x))


class Votes(nn.Module):
    """Residual blocks down to 4x4 and back up to 15x15, where each place votes for each of the 21 points: a weight (softmax
    over the places), a place in the image relative to its own, and a depth (in the manner of Xiong et al. 2019, "A2J").

    A convolution finds a fingertip wherever it is, a fully connected layer has to learn it for each place: from the same
    frames the joints come out better by a quarter. [B, 1, 120, 120] -> [B, 512 + 63]: features, and the points, scaled.
    """

    SCALE = 4.0  # of the points among the features, whose numbers are about one
    REACH = 0.3  # of a vote of one, in units of the cube

    def __init__(self, batch_norm: bool, widths: tuple[int, int, int, int] = (24, 48, 96, 192), top: int = 64):
        super().__init__()
        first, a, b, c = widths
        self.stem = nn.Sequential(
            FirstConv(first), nn.BatchNorm2d(first) if batch_norm else nn.Identity(), nn.ReLU(),
            Residual(first, first, 1, batch_norm),  # 30 pixels: a finger is two of them wide, where pooling leaves one
        )  # fmt: skip
        self.fine = nn.Sequential(Residual(first, a, 2, batch_norm), Residual(a, a, 1, batch_norm))  # 15
        self.middle = nn.Sequential(Residual(a, b, 2, batch_norm), Residual(b, b, 1, batch_norm))  # 8
        self.coarse = nn.Sequential(Residual(b, c, 2, batch_norm), Residual(c, c, 1, batch_norm))  # 4
        self.down_coarse, self.down_middle = Conv(c, b, 1, batch_norm), Conv(b, top, 1, batch_norm)
        self.down_fine, self.mix = Conv(a, top, 1, batch_norm), Conv(top, top, 3, batch_norm)
        self.vote = nn.Linear(top, 21 * 4)  # the same at each place
        self.seen = nn.Linear(c * 4 * 4 + 63, 512)
        place = (torch.arange(15) + 0.5) / 15 - 0.5
        v, u = torch.meshgrid(place, place, indexing="ij")
        self.register_buffer("places", torch.stack([u, v, torch.zeros_like(u)], -1).flatten(0, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        fine = self.fine(self.stem(image))
        middle = self.middle(fine)
        coarse = self.coarse(middle)
        up = torch.relu(middle + interpolate(self.down_coarse(coarse), scale_factor=2.0))
        up = torch.relu(self.down_fine(fine) + interpolate(self.down_middle(up), scale_factor=15 / 8))
        points = self.points(torch.relu(self.mix(up))).flatten(1) * self.SCALE
        return torch.cat([torch.relu(self.seen(torch.cat([coarse.flatten(1), points], 1))), points], 1)

    def points(self, up: Tensor) -> Tensor:
        """The 21 points [B, 21, 3] that the places of the finest map [B, 64, 15, 15] vote for."""
        vote = self.vote(up.flatten(2).transpose(1, 2)).float().unflatten(2, (21, 4))  # [B, 225 places, 21, 4]
        weight = vote[..., :1].softmax(1)
        return (weight * (self.places[:, None] + self.REACH * vote[..., 1:])).sum(1)


class Conv(nn.Sequential):
    """A convolution and, while pretraining, its normalisation."""

    def __init__(self, c_in: int, c_out: int, kernel: int, batch_norm: bool):
        norm = nn.BatchNorm2d(c_out) if batch_norm else nn.Identity()
        super().__init__(nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2), norm)


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


def to_quaternion(raw: Tensor) -> Tensor:
    """The last layer's numbers [..., 4, 6 or 3] -> unit quaternions xyzw [..., 4]: normalised, by Gram-Schmidt, or from
    Euler angles. Where the numbers name no rotation (all zero), it is the neutral one, with a gradient of zero."""
    heads = {4: _from_quaternion, 6: _from_sixd, 3: from_euler}
    numbers = int(raw.shape[-1])  # a tensor while the network is being exported
    if numbers not in heads:
        raise ValueError(f"raw must end in 4 (quaternion), 6 (6d) or 3 (euler) numbers a joint, got {list(raw.shape)}")
    return heads[numbers](raw)


def _from_quaternion(raw: Tensor) -> Tensor:
    return _unit(raw, _axis(raw, 3))


def _from_sixd(raw: Tensor) -> Tensor:
    """Gram-Schmidt on two columns; a second column along the first is replaced by the axis farthest from that."""
    first, second = raw.unflatten(-1, (2, 3)).unbind(-2)
    x = _unit(first, _axis(first, 0))
    away = one_hot(x.detach().abs().argmin(-1), 3).to(raw)
    across = second - (x * second).sum(-1, keepdim=True) * x
    other = away - (x * away).sum(-1, keepdim=True) * x
    y = _unit(across, other / other.norm(dim=-1, keepdim=True))
    return roma.rotmat_to_unitquat(torch.stack([x, y, torch.linalg.cross(x, y)], -1))


def _axis(like: Tensor, index: int) -> Tensor:
    """Unit vectors along an axis, made where `like` is: nothing is copied to a device, which a CUDA graph could not record."""
    axis = torch.zeros_like(like)
    axis[..., index] = 1
    return axis


def _unit(v: Tensor, otherwise: Tensor) -> Tensor:
    """v / |v|, `otherwise` where v all but vanishes (there the quotient's gradient would be 1 / |v|)."""
    vanishing = v.detach().norm(dim=-1, keepdim=True) < 1e-6
    v = torch.where(vanishing, otherwise, v)
    return v / v.norm(dim=-1, keepdim=True)


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
