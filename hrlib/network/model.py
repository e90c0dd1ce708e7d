"""A network of your own in place of PoseNet: what it must keep to, how it is named, and the one check of what it says.

The paper calls its method an extension to existing ones (Sec. 1). A network is anything that makes theta of a depth image:
whoever keeps to `PoseModel` is refined, saved, loaded and predicted with as PoseNet is (docs/extend.md).
"""

import inspect
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize

from .posenet import PoseNet, Prediction

FAR = 4.0  # edges of the cube: what a network puts so far from its middle, on the whole, is in another unit
UNIT = 0.01  # a quaternion's length may differ from 1 by this: bfloat16 rounds to 0.004
SHAPES = {"rotations": (16, 4), "offset": (3,), "points": (21, 3), "shape": (8,)}  # of the parts, after the batch


@runtime_checkable
class PoseModel(Protocol):
    """A network that both recipes refine: an `nn.Module` whose call takes depth images and returns a `Prediction`.

    - `image` [B, 120, 120], float32, is 1 - z of the crop frame, 0 where there is nothing. B is any number from 1 on.
    - `Prediction.rotations` [B, 16, 4] are unit quaternions xyzw in the joints' neutral frames (`hrlib.hand.joints`).
      `rotation_heads.to_quaternion` makes them of 3, 4 or 6 numbers a joint, with a gradient at every number.
    - `Prediction.offset` [B, 3] is where the middle finger's base is, from the crop's centre, in edges of the cube. Without it
      (None) the hand is put at the centre, and recipe `best` refuses.
    - `Prediction.points` [B, 21, 3], in the offset's frame, are optional: joints that the network sees without any bones.
    - In eval mode, each image has its prediction, whatever else is in the batch.

    Under autocast any float type may come out: `ask` makes it float32. A network of joints alone is wrapped by `FromJoints`.
    `isinstance` tells whether the methods are there; `ask` tells whether they do what is said here.
    """

    def __call__(self, image: Float[Tensor, "B 120 120"]) -> Prediction:
        """The prediction for B images."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """What a refinement changes; of those that want no gradient, nothing."""
        ...

    def state_dict(self) -> Mapping[str, Any]:
        """Tensors by name: all that a saved model keeps."""
        ...

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:
        """Take the tensors of `state_dict`."""
        ...

    def train(self, mode: bool = True) -> Any:
        """Switch dropout and batch statistics on."""
        ...

    def eval(self) -> Any:
        """Switch them off: refinement and prediction do."""
        ...


def ask(net: PoseModel, image: Float[Tensor, "B 120 120"], shape: Float[Tensor, "#B 8"] | None = None) -> Prediction:
    """The network's prediction for images, checked, in float32: all rooms ask a network here.

    Args:
        net: any network.
        image: as `PoseModel` has it.
        shape: `HandShape.numbers` to tell a PoseNet that knows a population; None tells nothing.

    Raises:
        ValueError: what came is no `Prediction`, has other shapes, or numbers that are no pose; names the network.
    """
    if shape is not None and not isinstance(net, PoseNet):
        raise ValueError(f"{named(net)} cannot be told a hand's shape: only a PoseNet with settings.shape can")
    return checked(net, net(image) if shape is None else net(image, shape), len(image))


def checked(net: object, prediction: Any, count: int, values: bool = True) -> Prediction:
    """What a network said of `count` images, as `ask` returns it; raises as `ask`.

    values: also check the numbers, for which a GPU has to be waited for.
    """
    if not isinstance(prediction, Prediction):
        raise ValueError(
            f"{named(net)} must return an hrlib Prediction, got {type(prediction).__name__}: wrap a network of joints by "
            "hrlib.FromJoints, and make rotations of plain numbers by hrlib.network.rotation_heads.to_quaternion"
        )
    parts = {name: _part(net, name, getattr(prediction, name), count) for name in SHAPES}
    if prediction.rotations.dtype != torch.float32:  # rounded, they are no unit quaternions any more
        parts["rotations"] = normalize(parts["rotations"], dim=-1)
    if values:
        _check_values(net, parts)
    return Prediction(**parts)


def _part(net: object, name: str, part: Any, count: int) -> Tensor | None:
    """A part of a prediction as float32."""
    wanted = (count, *SHAPES[name])
    if part is None and name != "rotations":
        return None
    if not isinstance(part, Tensor) or not part.is_floating_point() or part.shape != wanted:
        got = f"{part.dtype} {list(part.shape)}" if isinstance(part, Tensor) else type(part).__name__
        raise ValueError(
            f"{named(net)}: {name} must be a tensor of floats {list(wanted)} for {count} images, got {got}; "
            "see hrlib.network.model.PoseModel"
        )
    return part.float()


def _check_values(net: object, parts: Mapping[str, Tensor | None]) -> None:
    for name, part in parts.items():
        if part is not None and not part.isfinite().all():
            image = int((~part.isfinite()).flatten(1).any(1).nonzero()[0])
            raise ValueError(
                f"{named(net)}: {name} of image {image} are NaN or infinite; look at its weights, lower the learning rate, "
                "or make rotations by hrlib.network.rotation_heads.to_quaternion, which is finite at every number"
            )
    length = parts["rotations"].detach().norm(dim=-1)
    if ((length - 1).abs() > UNIT).any():
        raise ValueError(
            f"{named(net)}: rotations must be unit quaternions, got lengths from {length.min():.3g} to {length.max():.3g}; "
            "pass them through hrlib.network.rotation_heads.to_quaternion"
        )
    offset = parts["offset"]
    if offset is not None and len(offset) and (far := offset.detach().abs().median().item()) > FAR:
        warnings.warn(
            f"{named(net)}: offset is {far:.3g} edges of the cube from its middle, far outside of it: divide millimetres by "
            "crops.cube_mm, or give FromJoints its unit",
            stacklevel=2,
        )


def check_learns(net: PoseModel, image: Float[Tensor, "B 120 120"]) -> None:
    """Raise ValueError for a network that no gradient reaches, on one image: it would be refined for hours to itself."""
    weights = [weight for weight in net.parameters() if weight.requires_grad]
    if not weights:
        raise ValueError(f"{named(net)} has no weight that wants a gradient: nothing can be refined")
    with torch.enable_grad():
        said = ask(net, image[:1]).rotations
    if not said.requires_grad:
        raise ValueError(
            f"{named(net)}: its rotations do not depend on its weights, so that nothing can be refined; take torch.no_grad "
            "and detach out of its forward"
        )


def named(net: object) -> str:
    """How messages call a network: its class."""
    return f"network {type(net).__name__}"


def built(factory: str | Callable[[], Any]) -> PoseModel:
    """The network that a factory makes, in eval mode.

    Args:
        factory: a function without arguments, or where it is, "package.module:function". A module may also lie in the
            working folder. Nothing else is executed than this module and this function.

    Raises:
        ValueError: there is no such function, it wants arguments, or it returns no `nn.Module`.
    """
    function = _found(factory) if isinstance(factory, str) else factory
    _check_takes_nothing(function, factory)
    net = function()
    if not isinstance(net, nn.Module):
        raise ValueError(f"network {factory} must return an nn.Module, got {type(net).__name__}")
    return net.eval()


def _check_takes_nothing(function: Callable, factory: object) -> None:
    try:
        takes = inspect.signature(function)
    except (ValueError, TypeError):  # some built-in functions do not tell
        return
    try:
        takes.bind()
    except TypeError as error:
        raise ValueError(
            f"network {factory} takes {takes}: {error}; name one that is called without arguments"
        ) from None


def _found(address: str) -> Callable[[], Any]:
    module, colon, function = address.partition(":")
    if not (module and colon and function):
        raise ValueError(f"network must be module:function, such as my_package.my_net:build, got {address!r}")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # last: nothing that lies there takes an installed module's place
    try:
        found = getattr(import_module(module), function)
    except (ImportError, AttributeError, TypeError) as error:  # the last one: a name that begins with a dot
        raise ValueError(
            f"network {address}: {error}; name a function of an installed module or of this folder"
        ) from error
    if not callable(found):
        raise ValueError(f"network {address} must be a function that makes a network, got {type(found).__name__}")
    return found
