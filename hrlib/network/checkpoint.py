"""A PoseNet on disk: safetensors (no pickle) with its settings and the fingerprint of the hand it was trained with."""

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ..hand.rig import HandRig
from ..support.files import write_bytes_atomically
from ..support.paths import BASE_MODEL
from .posenet import NetworkSettings, PoseNet


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
    tensors = {name: (t.to(dtype) if dtype else t).contiguous() for name, t in net.state_dict().items()}
    meta = {
        "format": "hrlib PoseNet 1",
        "network": json.dumps(asdict(net.settings)),
        "hand": hand.fingerprint,
        "hand_name": hand.name,
        "training": json.dumps(training),
    }
    if net.known is not None:
        meta["shape"] = json.dumps(net.known.tolist())
    write_bytes_atomically(path, save(tensors, meta))


def load_network(hand: HandRig, path: str | Path = BASE_MODEL) -> tuple[PoseNet, dict]:
    """A network (by default the shipped base model) in eval mode, float32, and the record of its training.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is no PoseNet, or belongs to another hand, on which its rotations would be silently wrong.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}; the shipped one is part of the package (hrlib/assets)")
    try:
        with safe_open(path, "pt") as file:
            meta, tensors = file.metadata() or {}, {k: file.get_tensor(k) for k in file.keys()}
        net = PoseNet(NetworkSettings(**json.loads(meta["network"])))
        training, trained_with = json.loads(meta["training"]), meta["hand"]
        net.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in tensors.items()})
        net.tell(torch.tensor(json.loads(meta["shape"])) if "shape" in meta else None)
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:  # RuntimeError: other weights
        raise ValueError(f"{path} is not a PoseNet checkpoint ({error!r}); restore it or train one anew") from error
    if not hand.has_fingerprint(trained_with):
        raise ValueError(
            f"checkpoint {path} was trained with the hand '{meta.get('hand_name')}' ({trained_with}), "
            f"not with '{hand.name}' ({hand.fingerprint}); load that hand or train a network for this one"
        )
    return net.eval(), training
