"""The finder's networks as they are trained, and as ONNX files, which is how the library runs them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from jaxtyping import Float
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, pixel_shuffle

from hrlib.frames.finder import CHANNELS, CLOSE, SMALL, UPRIGHT
from hrlib.network.onnx import to_onnx

HALF = ".half"  # ends the names of weights in half precision


class FinderNet(nn.Module):
    """Images of `inputs`, at half their size -> class logits [B, 3, h, w], and features for `judged`.

    Args:
        widths: channels at a half, a quarter and an eighth of the resolution.
        judges: whether it also says if marked cells are a hand.
        norm: with batch norms, to train it; the weights in the package have them folded in.
    """

    # widths and `judges` of the two; the second went on from (24, 48, 96), its new channels unused at first
    LOCATE, SEGMENT = ((16, 32, 64), False), ((32, 64, 128), True)

    def __init__(self, widths: tuple[int, int, int], judges: bool, norm: bool = False):
        super().__init__()

        def conv(before, width, kernel=3, stride=1, dilation=1):
            padding = dilation * (kernel // 2)
            layer = nn.Conv2d(before, width, kernel, stride, padding, dilation, bias=not norm)
            return nn.Sequential(layer, nn.BatchNorm2d(width)) if norm else nn.Sequential(layer)

        a, b, c = widths
        self.fine = nn.ModuleList([conv(4 * CHANNELS, a), conv(a, a)])
        self.middle = nn.ModuleList([conv(a, b, stride=2), conv(b, b)])
        self.coarse = nn.ModuleList([conv(b, c, stride=2)] + [conv(c, c, dilation=d) for d in (1, 2, 4, 1)])
        self.context = nn.Linear(2 * c, c)  # of the whole image, added to each cell of the coarse ones
        self.from_coarse, self.from_middle = conv(c, b, 1), conv(b, a, 1)
        self.up_middle, self.up_fine = conv(b, b), conv(a, 2 * a)
        self.classes = nn.Conv2d(2 * a, 4 * 3, 1)
        if judges:
            self.judge = nn.Sequential(nn.Linear(2 * b + 2 * c, 64), nn.ReLU(), nn.Linear(64, 1))

    def forward(self, fine: Float[Tensor, "B C H W"]) -> tuple[Float[Tensor, "B 3 h w"], tuple[Tensor, Tensor]]:
        for layer in self.fine:
            fine = layer(fine).relu()
        middle = self.middle[0](fine).relu()
        middle = (middle + self.middle[1](middle)).relu()
        coarse = self.coarse[0](middle).relu()
        for layer in self.coarse[1:3]:
            coarse = (coarse + layer(coarse)).relu()
        context = self.context(torch.cat([coarse.mean((2, 3)), coarse.amax((2, 3))], 1))
        coarse = coarse + context[..., None, None].to(coarse.dtype)
        for layer in self.coarse[3:]:
            coarse = (coarse + layer(coarse)).relu()
        middle = (middle + _doubled(self.from_coarse(coarse))).relu()
        middle = (middle + self.up_middle(middle)).relu()
        fine = (fine + _doubled(self.from_middle(middle))).relu()
        return pixel_shuffle(self.classes(self.up_fine(fine).relu()), 2), (middle, coarse)

    def judged(self, features: tuple[Tensor, Tensor], share: Float[Tensor, "B 1 H W"]) -> Float[Tensor, " B"]:
        """Logits that the cells marked by `share` in [0, 1] are a hand."""
        parts = []
        for feature, size in zip(features, (4, 8), strict=True):
            weight = avg_pool2d(share, size)
            parts += [(feature * weight).sum((2, 3)) / (weight.sum((2, 3)) + 1), (feature * weight).amax((2, 3))]
        return self.judge(torch.cat(parts, 1))[:, 0]


def _doubled(x: Tensor) -> Tensor:
    """Each pixel [B, C, H, W] four times, in the precision that x has."""
    with torch.autocast(x.device.type, enabled=False):
        return interpolate(x, scale_factor=2)


class SideNet(nn.Module):
    """Upright hands [B, 4, 48, 48] of `upright` -> logit [B], above 0 for a right one; of the mirror image the negative."""

    def __init__(self):
        super().__init__()
        layers, before = [], 4
        for width, stride in ((16, 2), (32, 2), (48, 1), (48, 2)):
            layers += [nn.Conv2d(before, width, 3, stride, 1), nn.ReLU()]
            before = width
        layers += [nn.Conv2d(before, 8, 1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * (UPRIGHT // 8) ** 2, 32), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(32, 1))

    def forward(self, x: Float[Tensor, "B 4 48 48"]) -> Float[Tensor, " B"]:
        return (self.layers(x) - self.layers(x.flip(-1)))[:, 0]


# -- files --------------------------------------------------------------------------------------------------------------


class _Graph(nn.Module):
    """What is computed with a network, as a module that torch can export."""

    def __init__(self, net: nn.Module, run: Callable[..., Tensor | tuple[Tensor, ...]]):
        super().__init__()
        self.net, self.run = net, run

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        return self.run(self.net, *inputs)


def _seen(net: FinderNet, cells: Tensor) -> tuple[Tensor, ...]:
    logits, features = net(cells)
    return logits.softmax(1), *features


def files(locate: FinderNet, segment: FinderNet, side: SideNet) -> dict[str, bytes]:
    """The ONNX models of trained networks without batch norms, by their names in `paths.FINDER`."""
    small, close = ((1, 4 * CHANNELS, n // 2, m // 2) for n, m in (SMALL, (CLOSE, CLOSE)))
    middle, coarse = (tuple(feature.shape) for feature in segment(torch.zeros(close))[1])
    judged = {"middle": middle, "coarse": coarse, "share": (1, 1, CLOSE, CLOSE)}
    graphs = {
        "locate": (locate, lambda net, x: net(x)[0].softmax(1), {"cells": small}),
        "segment": (segment, _seen, {"cells": close}),
        "judge": (segment, lambda net, a, b, share: net.judged((a, b), share).sigmoid(), judged),
        "side": (side, lambda net, x: net(x).sigmoid(), {"hand": (1, 4, UPRIGHT, UPRIGHT)}),
    }
    sizes = {"locate": {2: "rows", 3: "columns"}}
    return {
        name: _model(_Graph(net, run).eval(), inputs, sizes.get(name, {}))
        for name, (net, run, inputs) in graphs.items()
    }


def _model(graph: nn.Module, inputs: dict[str, tuple[int, ...]], sizes: dict[int, str]) -> bytes:
    model = onnx.load_model_from_string(to_onnx(graph, inputs, sizes=sizes))
    _halve(model.graph)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def _halve(graph: onnx.GraphProto) -> None:
    """Keep the weights in half precision: files are half as large; ONNX Runtime makes them single ones when it reads them."""
    for weight in [one for one in graph.initializer if one.data_type == TensorProto.FLOAT]:
        half = numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float16), f"{weight.name}{HALF}")
        graph.node.insert(0, helper.make_node("Cast", [half.name], [weight.name], to=TensorProto.FLOAT))
        graph.initializer.remove(weight)
        graph.initializer.append(half)


def weights_in(*paths: Path) -> dict[str, Tensor]:
    """The weights in files of `files`, as the network has them that they were made of."""
    kept = [one for path in paths for one in onnx.load(path).graph.initializer if one.name.endswith(HALF)]
    return {
        one.name.removesuffix(HALF).removeprefix("net."): torch.from_numpy(
            numpy_helper.to_array(one).astype(np.float32)
        )
        for one in kept
    }
