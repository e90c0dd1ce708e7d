"""A network on disk: safetensors (no pickle), with the fingerprint of the hand it was trained with.

The file of a PoseNet has its settings, and is all that is needed. That of any other `PoseModel` has its weights alone: who
loads it names the factory that makes the network. Nothing is imported or called because a file says so.
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch

from ..hand.rig import HandRig, check_rig, load_hand
from ..support.autograd import for_every_use
from ..support.files import write_bytes_atomically
from ..support.paths import BASE_MODEL
from ..support.tensor_files import TYPES, read_tensors, tensor_bytes
from .model import PoseModel, built, named
from .posenet import NetworkSettings, PoseNet

HAND = "hand.safetensors"  # beside a checkpoint: the rig that its network poses
FORMAT, OTHER = "hrlib PoseNet 1", "hrlib PoseModel 1"  # of a PoseNet, and of any other network
MOST_WEIGHT = 100.0  # of a layer; those of trained networks are below 6


def save_network(
    path: str | Path, net: PoseModel, hand: HandRig, training: dict, dtype: torch.dtype | None = None
) -> None:
    """Write a network whole or not at all.

    Args:
        path: the file.
        net: any network; the hand's shape that a PoseNet was told is kept.
        hand: the rig it was trained with; `load_network` refuses another.
        training: how the network came about, as plain JSON.
        dtype: of a PoseNet's stored weights, by default their own; float16 halves the file. Other networks keep theirs.

    Raises:
        ValueError: a part of another network's state is no tensor of a type that files have.
    """
    own = isinstance(net, PoseNet)
    if own:
        tensors = {name: t.to(dtype) if dtype else t for name, t in net.state_dict().items()}
    else:
        tensors = _state(net)
    meta = {
        "format": FORMAT if own else OTHER,
        "network": json.dumps(asdict(net.settings) if own else {"class": _address(net)}),
        "hand": hand.fingerprint,
        "hand_name": hand.name,
        "training": json.dumps(training),
    }
    if own and net.known is not None:
        meta["shape"] = json.dumps(net.known.tolist())
    write_bytes_atomically(path, tensor_bytes(tensors, meta))


@for_every_use()
def load_network(
    hand: HandRig, path: str | Path = BASE_MODEL, network: str | Callable | None = None
) -> tuple[PoseModel, dict]:
    """A network (by default the shipped base model) in eval mode, and the record of its training. A PoseNet is float32.

    Args:
        hand: the rig to pose.
        path: the file.
        network: what makes a network other than a PoseNet, whose weights the file has: a function without arguments, or its
            address "module:function" (`model.built`). None: a PoseNet.

    >>> network, record = hrlib.load_network(hrlib.load_hand())
    >>> network(torch.zeros(1, 120, 120)).rotations.shape
    torch.Size([1, 16, 4])

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is no PoseNet, was changed, cannot come from a training, or belongs to another hand, on which its
            rotations would be silently wrong. Or the file is of another network, and `network` makes none that fits it.
    """
    check_rig(hand)
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"no checkpoint at {path}; name a folder of `hrlib refine` or `hrlib pretrain`, or a file"
        )
    try:
        meta, tensors = read_tensors(path)
        settings, other = json.loads(meta["network"]), meta.get("format") == OTHER
        training, trained_with = _record(meta["training"]), meta["hand"]
        if not other:
            net = PoseNet(NetworkSettings(**settings)).float()  # whatever torch's default is
            net.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in tensors.items()})
            net.tell(torch.tensor(json.loads(meta["shape"])) if "shape" in meta else None)
            _check(net.eval())
    except (KeyError, TypeError, ValueError, RuntimeError) as error:  # RuntimeError: other weights
        raise ValueError(f"{path} is not a PoseNet checkpoint ({error!r}); restore it or train one anew") from error
    if not hand.has_fingerprint(trained_with):
        raise ValueError(
            f"checkpoint {path} was trained with the hand '{meta.get('hand_name')}' ({trained_with}), "
            f"not with '{hand.name}' ({hand.fingerprint}); load that hand, or train a network for this one "
            "(hrlib pretrain --hand)"
        )
    if other:
        net = _with_state(path, tensors, settings.get("class"), network)
    elif network is not None:
        raise ValueError(f"{path} holds a PoseNet, which needs no factory; leave {network} out (--network)")
    return net, training


def hand_of(path: str | Path = BASE_MODEL) -> HandRig:
    """The hand that a checkpoint's network poses: that of the file hand.safetensors beside it, or else the template.

    Raises:
        ValueError: the file beside it is no hand.
    """
    beside = Path(path).parent / HAND
    return load_hand(beside) if beside.is_file() else load_hand()


def _state(net: PoseModel) -> dict[str, torch.Tensor]:
    """A copy of all tensors of a network; safetensors takes none that share memory."""
    tensors = net.state_dict()
    for name, tensor in tensors.items():
        if not isinstance(tensor, torch.Tensor) or tensor.dtype not in TYPES:
            what = tensor.dtype if isinstance(tensor, torch.Tensor) else type(tensor).__name__
            raise ValueError(
                f"{named(net)} cannot be saved: {name} of its state_dict is {what}; keep tensors of numbers there"
            )
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def _address(net: PoseModel) -> str:
    return f"{type(net).__module__}.{type(net).__qualname__}"


def _with_state(
    path: Path, tensors: dict[str, torch.Tensor], name: str | None, network: str | Callable | None
) -> PoseModel:
    """What the factory makes, with the weights of a file; name: the class as the file has it, for messages alone."""
    if network is None:
        raise ValueError(
            f"{path} has the weights of a network of your own (class {name}): name the function that makes it, "
            "network='module:function' (--network module:function)"
        )
    net = built(network)
    try:
        net.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(
            f"{path} has the weights of a {name}, not of what {network} makes ({_address(net)}): {str(error)[:300]}"
        ) from error
    return net


def _record(text: str) -> dict:
    training = json.loads(text)
    if not isinstance(training, dict) or training.get("side", "right") not in ("right", "left"):
        raise ValueError("the record of its training is none")
    return training


def _check(net: PoseNet) -> None:
    """Raise ValueError for what no training leaves; NaN and infinite numbers `read_tensors` has refused."""
    if net.known is not None and not (net.known.shape == (8,) and (net.known.abs() < 2).all()):
        raise ValueError("the hand's shape that it knows is none: eight logarithms of factors")
    for name, weight in net.named_parameters():
        if weight.abs().max() > MOST_WEIGHT:
            raise ValueError(f"{name} has weights up to {weight.abs().max():g}, a trained network's are below 10")
