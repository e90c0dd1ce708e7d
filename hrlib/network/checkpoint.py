"""A PoseNet on disk: safetensors (no pickle) with its settings and the fingerprint of the hand it was trained with."""

import json
from dataclasses import asdict
from pathlib import Path

import torch

from ..hand.rig import HandRig
from ..support.files import write_bytes_atomically
from ..support.paths import BASE_MODEL
from ..support.tensor_files import read_tensors, tensor_bytes
from .posenet import NetworkSettings, PoseNet

MOST_WEIGHT = 100.0  # of a layer; those of trained networks are below 6


def save_network(
    path: str | Path, net: PoseNet, hand: HandRig, training: dict, dtype: torch.dtype | None = None
) -> None:
    """Write a network whole or not at all.

    Args:
        path: the file.
        net: any PoseNet; the hand's shape that it was told is kept.
        hand: the rig it was trained with; `load_network` refuses another.
        training: how the network came about, as plain JSON.
        dtype: of the stored weights, by default their own; float16 halves the file.
    """
    tensors = {name: t.to(dtype) if dtype else t for name, t in net.state_dict().items()}
    meta = {
        "format": "hrlib PoseNet 1",
        "network": json.dumps(asdict(net.settings)),
        "hand": hand.fingerprint,
        "hand_name": hand.name,
        "training": json.dumps(training),
    }
    if net.known is not None:
        meta["shape"] = json.dumps(net.known.tolist())
    write_bytes_atomically(path, tensor_bytes(tensors, meta))


def load_network(hand: HandRig, path: str | Path = BASE_MODEL) -> tuple[PoseNet, dict]:
    """A network (by default the shipped base model) in eval mode, float32, and the record of its training.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is no PoseNet, was changed, cannot come from a training, or belongs to another hand, on which its
            rotations would be silently wrong.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}; the shipped one is part of the package (hrlib/assets)")
    try:
        meta, tensors = read_tensors(path)
        net = PoseNet(NetworkSettings(**json.loads(meta["network"])))
        training, trained_with = json.loads(meta["training"]), meta["hand"]
        net.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in tensors.items()})
        net.tell(torch.tensor(json.loads(meta["shape"])) if "shape" in meta else None)
        _check(net.eval(), training)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:  # RuntimeError: other weights
        raise ValueError(f"{path} is not a PoseNet checkpoint ({error!r}); restore it or train one anew") from error
    if not hand.has_fingerprint(trained_with):
        raise ValueError(
            f"checkpoint {path} was trained with the hand '{meta.get('hand_name')}' ({trained_with}), "
            f"not with '{hand.name}' ({hand.fingerprint}); load that hand or train a network for this one"
        )
    return net, training


def _check(net: PoseNet, training: dict) -> None:
    """Raise ValueError for what no training leaves; NaN and infinite numbers `read_tensors` has refused."""
    if not isinstance(training, dict) or training.get("side", "right") not in ("right", "left"):
        raise ValueError("the record of its training is none")
    if net.known is not None and not (net.known.shape == (8,) and (net.known.abs() < 2).all()):
        raise ValueError("the hand's shape that it knows is none: eight logarithms of factors")
    for name, weight in net.named_parameters():
        if weight.abs().max() > MOST_WEIGHT:
            raise ValueError(f"{name} has weights up to {weight.abs().max():g}, a trained network's are below 10")
