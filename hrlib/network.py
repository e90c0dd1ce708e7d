"""PoseNet: depth image in the crop to joint rotations and an offset (Sec. 3.2, 4.1)."""

import copy
from dataclasses import dataclass, replace

import roma
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad, pixel_unshuffle

IMAGE_SIZE = 120  # Sec. 4.1
ROTATIONS = {"quaternion": 4, "6d": 6}


@dataclass(frozen=True)
class NetworkSettings:
    """What a PoseNet is made of; stored with every checkpoint.

    rotation: what the last layer regresses to for each joint, "quaternion" (the paper's theta) or "6d" (Zhou et al. 2019,
    "On the continuity of rotation representations"). offset: predict where the hand is in the cube as well; the paper's
    theta has no translation. batch_norm: normalise after each convolution while pretraining; `fold_batch_norm` turns
    such a network into an equal one without.
    """

    rotation: str = "quaternion"
    offset: bool = True
    batch_norm: bool = False
    keep_probability: float = 0.75  # Sec. 4.1

    def __post_init__(self):
        if self.rotation not in ROTATIONS:
            raise ValueError(f"rotation must be one of {sorted(ROTATIONS)}, got {self.rotation!r}")


@dataclass(frozen=True)
class Prediction:
    """rotations [B, 16, 4]: theta, unit quaternions xyzw; offset [B, 3]: the base of the middle finger in the crop frame,
    counted from the crop's centre (None for a network without the offset head)."""

    rotations: Tensor
    offset: Tensor | None


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


class PoseNet(nn.Module):
    """The paper's slightly modified AlexNet: five convolutions, one fully connected layer of 4096, dropout, theta.

    AlexNet's kernels, strides and order (Krizhevsky et al. 2012) with about half its channels and without its response
    normalisation: 7 million weights. Input [B, 120, 120] depth in the crop, output a `Prediction`.
    """

    def __init__(self, settings: NetworkSettings | None = None):
        super().__init__()
        self.settings = settings = settings or NetworkSettings()

        def conv(c_in, c_out, kernel, pool=False):
            layers = [nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2) if c_in > 1 else FirstConv(c_out)]
            if settings.batch_norm:
                layers.append(nn.BatchNorm2d(c_out))
            if pool:
                layers.append(nn.MaxPool2d(3, 2, 1))  # before the ReLU, which commutes with it and has less to do then
            return [*layers, nn.ReLU()]

        self.features = nn.Sequential(
            *conv(1, 48, 11, pool=True),  # 120 -> 30 -> 15 pixels
            *conv(48, 128, 5, pool=True),  # 8
            *conv(128, 192, 3),
            *conv(192, 192, 3),
            *conv(192, 80, 3, pool=True),  # 4
            nn.Flatten(),
        )  # fmt: skip
        self.hidden = nn.Linear(80 * 4 * 4, 4096)
        self.dropout = nn.Dropout(1 - settings.keep_probability)
        self.theta = nn.Linear(4096, 16 * ROTATIONS[settings.rotation])
        self.offset = nn.Linear(4096, 3) if settings.offset else None
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.normal_(self.theta.weight, std=1e-3)
        identity = [0.0, 0.0, 0.0, 1.0] if settings.rotation == "quaternion" else [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
        self.theta.bias.data = torch.tensor(identity).repeat(16)
        if self.offset is not None:
            nn.init.zeros_(self.offset.weight)
            nn.init.zeros_(self.offset.bias)

    def forward(self, image: Tensor) -> Prediction:
        if image.ndim != 3 or image.shape[1:] != (IMAGE_SIZE, IMAGE_SIZE):
            raise ValueError(f"image must be [B, {IMAGE_SIZE}, {IMAGE_SIZE}], got {list(image.shape)}; see hrlib.crop")
        h = self.dropout(torch.relu(self.hidden(self.features(image[:, None]))))
        raw = self.theta(h).float().unflatten(1, (16, -1))
        offset = None if self.offset is None else self.offset(h).float()
        return Prediction(to_quaternion(raw), offset)


def to_quaternion(raw: Tensor) -> Tensor:
    """The last layer's numbers [B, 16, 4 or 6] -> unit quaternions xyzw [B, 16, 4]."""
    if raw.shape[-1] == 4:
        return raw / raw.norm(dim=-1, keepdim=True).clamp_min(1e-8)
    return roma.rotmat_to_unitquat(roma.special_gramschmidt(raw.unflatten(-1, (2, 3)).mT))


def fold_batch_norm(net: PoseNet) -> PoseNet:
    """An equal network (in eval mode) whose normalisation is folded into its convolutions, as it is shipped and refined."""
    folded = PoseNet(replace(net.settings, batch_norm=False))
    fused = copy.deepcopy(net).eval()
    layers = iter(m for m in fused.features if not isinstance(m, nn.BatchNorm2d))
    norms = iter(m for m in fused.features if isinstance(m, nn.BatchNorm2d))
    plain = [nn.utils.fuse_conv_bn_eval(m, next(norms)) if isinstance(m, nn.Conv2d) else m for m in layers]
    folded.features = nn.Sequential(*plain)
    folded.hidden, folded.theta, folded.offset = fused.hidden, fused.theta, fused.offset
    return folded.train(net.training)


def unfold_batch_norm(net: PoseNet, image: Tensor) -> PoseNet:
    """An equal network with normalisation again, to train on from a shipped one; inverse of `fold_batch_norm`.

    image [B, 120, 120]: a batch that is typical of the training; its statistics start the running ones.
    """
    unfolded = PoseNet(replace(net.settings, batch_norm=True))
    plain = [copy.deepcopy(m) for m in net.features]
    layers, x = iter(unfolded.features), image[:, None]
    with torch.no_grad():
        for module in plain:
            target = next(layers)
            target.load_state_dict(module.state_dict())
            x = module(x)
            if isinstance(module, nn.Conv2d):
                norm = next(layers)
                variance, mean = torch.var_mean(x, (0, 2, 3))
                norm.running_mean.copy_(mean)
                norm.running_var.copy_(variance)
                norm.weight.copy_((variance + norm.eps).sqrt())
                norm.bias.copy_(mean)
    for part in ("hidden", "theta", "offset"):
        setattr(unfolded, part, copy.deepcopy(getattr(net, part)))
    return unfolded.train(net.training)
