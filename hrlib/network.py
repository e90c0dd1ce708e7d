"""PoseNet: depth image in the crop to joint rotations and an offset (Sec. 3.2, 4.1)."""

import copy
from dataclasses import dataclass, replace

import roma
import torch
from torch import Tensor, nn

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


class PoseNet(nn.Module):
    """The paper's slightly modified AlexNet: five convolutions, one fully connected layer of 4096, dropout, theta.

    AlexNet's kernels, strides and order (Krizhevsky et al. 2012) with about half its channels and without its response
    normalisation: 7 million weights. Input [B, 120, 120] depth in the crop, output a `Prediction`.
    """

    def __init__(self, settings: NetworkSettings | None = None):
        super().__init__()
        self.settings = settings = settings or NetworkSettings()

        def conv(c_in, c_out, kernel, stride=1):
            layers = [nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2)]
            if settings.batch_norm:
                layers.append(nn.BatchNorm2d(c_out))
            return [*layers, nn.ReLU()]

        self.features = nn.Sequential(
            *conv(1, 48, 11, 4), nn.MaxPool2d(3, 2, 1),  # 120 -> 30 -> 15 pixels
            *conv(48, 128, 5), nn.MaxPool2d(3, 2, 1),  # 8
            *conv(128, 192, 3),
            *conv(192, 192, 3),
            *conv(192, 80, 3), nn.MaxPool2d(3, 2, 1),  # 4
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
