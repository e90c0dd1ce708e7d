"""The layers of PoseNet before its heads: the paper's AlexNet, a small residual network, and one whose places vote."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate, pad, pixel_unshuffle

HIDDEN = 4096  # width of the paper's fully connected layer, Sec. 4.1


class FirstConv(nn.Conv2d):
    """AlexNet's first layer, 11x11 with stride 4 on one channel, computed as a 3x3 convolution of 4x4 blocks.

    The sums are the same. Kernels for one channel and long strides are slow on a CPU: a training step takes a quarter less.
    """

    def __init__(self, channels: int):
        super().__init__(1, channels, 11, 4, 5)

    def forward(self, x: Float[Tensor, "B 1 120 120"]) -> Float[Tensor, "B c 30 30"]:
        if torch.onnx.is_in_onnx_export():  # an ONNX graph wants weights that are constants
            return super().forward(x)
        # output i sees the rows 4i - 5 ... 4i + 5; with 5 rows before the image, these are blocks i, i + 1, i + 2
        blocks, weight = pixel_unshuffle(pad(x, (5, 3, 5, 3)), 4), pixel_unshuffle(pad(self.weight, (0, 1, 0, 1)), 4)
        fast = torch.channels_last
        return conv2d(blocks.contiguous(memory_format=fast), weight.contiguous(memory_format=fast), self.bias)


class Conv(nn.Sequential):
    """A convolution and, while pretraining, its normalisation."""

    def __init__(self, c_in: int, c_out: int, kernel: int, batch_norm: bool, stride: int = 1):
        conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2)
        super().__init__(conv, _normalisation(c_out, batch_norm))


def _normalisation(channels: int, batch_norm: bool) -> nn.Module:
    return nn.BatchNorm2d(channels) if batch_norm else nn.Identity()


class Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is a 1x1 convolution where the size changes."""

    def __init__(self, c_in: int, c_out: int, stride: int, batch_norm: bool):
        super().__init__()
        self.first, self.second = Conv(c_in, c_out, 3, batch_norm, stride), Conv(c_out, c_out, 3, batch_norm)
        same = (c_in, stride) == (c_out, 1)
        self.shortcut = nn.Identity() if same else Conv(c_in, c_out, 1, batch_norm, stride)

    def forward(self, x: Float[Tensor, "B c h w"]) -> Float[Tensor, "B c2 h2 w2"]:
        return torch.relu(self.second(torch.relu(self.first(x))) + self.shortcut(x))


class Told(nn.Module):
    """What is known of the hand's shape, as gains and shifts of feature maps (Perez et al. 2018, "FiLM").

    It begins as no change at all, so that a network which has never been told anything can go on from its weights.
    """

    UNIT = 0.1  # of the logarithms that are told: about the spread of people

    def __init__(self, widths: tuple[int, ...], numbers: int = 8):
        super().__init__()
        self.widths = widths
        self.first, self.last = nn.Linear(numbers + 1, 128), nn.Linear(128, 2 * sum(widths))
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, shape: Float[Tensor, "B 8"]) -> list[tuple[Tensor, Tensor]]:
        """Gain and shift [B, c] of each map; a row of NaN is a shape that nobody knows."""
        known = torch.isfinite(shape[:, :1])
        told = torch.cat([torch.where(known, shape / self.UNIT, 0.0), known.to(shape)], 1)
        both = self.last(torch.relu(self.first(told))).split([width for width in self.widths for _ in "gs"], 1)
        return [(1 + gain, shift) for gain, shift in zip(both[::2], both[1::2], strict=True)]


def changed(x: Tensor, gain_and_shift: tuple[Tensor, Tensor] | None) -> Tensor:
    """Maps [B, c, h, w] or features [B, c] with their gains and shifts."""
    if gain_and_shift is None:
        return x
    gain, shift = (part if x.ndim == 2 else part[..., None, None] for part in gain_and_shift)
    return x * gain + shift


class Votes(nn.Module):
    """Residual blocks down to 4x4 and back up to 15x15, where each place votes for each of the 21 points.

    A vote is a weight (softmax over the places), a place in the image relative to the voter's own, and a depth (after Xiong
    et al. 2019, "A2J"). A convolution finds a fingertip anywhere; a fully connected layer has to learn it for each place.
    From the same frames, the joint error is a quarter smaller than with AlexNet. Output: 512 features and the points, scaled.
    """

    SCALE = 4.0  # of the points among the features, whose numbers are about one
    REACH = 0.3  # of a vote of one, in edges of the cube

    def __init__(self, batch_norm: bool, widths: tuple[int, int, int, int] = (24, 48, 96, 192), top: int = 64):
        super().__init__()
        first, a, b, c = widths
        self.stem = nn.Sequential(
            FirstConv(first), _normalisation(first, batch_norm), nn.ReLU(),
            Residual(first, first, 1, batch_norm),  # 30 pixels: a finger is two of them wide, where pooling leaves one
        )  # fmt: skip
        self.fine = nn.Sequential(Residual(first, a, 2, batch_norm), Residual(a, a, 1, batch_norm))  # 15
        self.middle = nn.Sequential(Residual(a, b, 2, batch_norm), Residual(b, b, 1, batch_norm))  # 8
        self.coarse = nn.Sequential(Residual(b, c, 2, batch_norm), Residual(c, c, 1, batch_norm))  # 4
        self.down_coarse, self.down_middle = Conv(c, b, 1, batch_norm), Conv(b, top, 1, batch_norm)
        self.down_fine, self.mix = Conv(a, top, 1, batch_norm), Conv(top, top, 3, batch_norm)
        self.vote = nn.Linear(top, 21 * 4)  # the same at each place
        self.seen = nn.Linear(c * 4 * 4 + 63, 512)
        place = (torch.arange(15, dtype=torch.float32) + 0.5) / 15 - 0.5
        v, u = torch.meshgrid(place, place, indexing="ij")
        self.register_buffer("places", torch.stack([u, v, torch.zeros_like(u)], -1).flatten(0, 1), persistent=False)

    def forward(self, image: Float[Tensor, "B 1 120 120"], told: list | None = None) -> Float[Tensor, "B 575"]:
        """Features and points; told: gains and shifts of the maps of 15, 8 and 4 pixels."""
        told = told or [None] * 3
        fine = changed(self.fine(self.stem(image)), told[0])
        middle = changed(self.middle(fine), told[1])
        coarse = changed(self.coarse(middle), told[2])
        up = torch.relu(middle + interpolate(self.down_coarse(coarse), scale_factor=2.0))
        up = torch.relu(self.down_fine(fine) + interpolate(self.down_middle(up), scale_factor=15 / 8))
        points = self.points(torch.relu(self.mix(up))).flatten(1) * self.SCALE
        return torch.cat([torch.relu(self.seen(torch.cat([coarse.flatten(1), points], 1))), points], 1)

    def points(self, up: Float[Tensor, "B c 15 15"]) -> Float[Tensor, "B 21 3"]:
        """The 21 points that the places of the finest map vote for."""
        if torch.onnx.is_in_onnx_export():
            return self._points_places_last(up)
        vote = self.vote(up.flatten(2).transpose(1, 2)).float().unflatten(2, (21, 4))  # [B, 225 places, 21, 4]
        weight = vote[..., :1].softmax(1)
        return (weight * (self.places[:, None] + self.REACH * vote[..., 1:])).sum(1)

    def _points_places_last(self, up: Tensor) -> Tensor:
        """`points` for ONNX Runtime: softmax and sums run along memory. Without it, a frame takes 15 % longer there."""
        weight, bias = (part.unflatten(0, (21, 4)).transpose(0, 1).flatten(0, 1) for part in self.vote.parameters())
        vote = conv2d(up, weight[..., None, None], bias).reshape(-1, 4, 21, 225)
        share = vote[:, 0].softmax(-1)
        moved = (share[:, None] * vote[:, 1:]).sum(-1)  # [B, 3, 21]
        return share @ self.places + self.REACH * moved.transpose(1, 2)


def alexnet(batch_norm: bool) -> tuple[nn.Sequential, int, int]:
    """AlexNet's kernels, strides and order (Krizhevsky et al. 2012), half its channels, no local response normalisation.

    Returns: the layers [B, 1, 120, 120] -> [B, n], their n, and the width of the fully connected layer after them.
    """

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
    return layers, 80 * 4 * 4, HIDDEN


def resnet(batch_norm: bool) -> tuple[nn.Sequential, int, int]:
    """AlexNet's first layer and five residual blocks (He et al. 2016), at AlexNet's cost; returns what `alexnet` does.

    Flattened, not averaged: where in the image something is seen tells the pose.
    """
    layers = nn.Sequential(
        FirstConv(48),
        _normalisation(48, batch_norm),
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
    """`Votes`: half of AlexNet's weights, at AlexNet's cost; returns what `alexnet` does."""
    return Votes(batch_norm), 512 + 63, 512


BACKBONES = {"alexnet": alexnet, "resnet": resnet, "votes": votes}
