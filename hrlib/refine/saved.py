"""A refinement on disk: the adapted network with its hand, written and read."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ..hand.files import as_glb, as_ply
from ..hand.rig import HandRig, load_hand, save_hand
from ..network.checkpoint import HAND, hand_of, load_network, save_network
from ..network.model import PoseModel, built
from ..support.files import write_bytes_atomically, write_json
from ..support.paths import BASE_MODEL
from ..support.tensor_files import read_tensors
from .state import Refined

NETWORK, TRAINED = "model.safetensors", "base.safetensors"  # of a refinement, and of a pretraining


def save_refined(out: str | Path, refined: Refined, template: HandRig, training: dict) -> None:
    """Write a refinement into a folder, each file whole or not at all.

    model.safetensors: network, bound to its hand; a PoseNet in float16. hand.safetensors: the hand as `load_hand` reads it.
    hand.npz: arrays at rest in the wrist's frame, with the adapted cloud P. hand.ply: the mesh at rest, mm. hand.glb: the same
    with bones. curve.json: curve, warnings and `training`.

    Args:
        out: the folder.
        refined: what `refine` returned.
        template: the hand that the refinement began with.
        training: plain JSON that says how it came about; with "side": "left", ply and glb show a left hand.

    Raises:
        OSError: a file cannot be written.
    """
    out, hand = Path(out), refined.hand.to("cpu")
    # recipe `paper` moves the points P alone: its network goes with the template
    hand = template.to("cpu") if hand.fingerprint == template.fingerprint else hand
    save_hand(out / HAND, hand, f"adapted from '{template.name}'")
    arrays = {name: getattr(hand, name) for name in ("vertices_mm", "faces", "joints_mm", "tips_mm", "weights")}
    arrays["cloud_mm"] = refined.cloud_mm
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{name: tensor.detach().cpu().numpy() for name, tensor in arrays.items()})
    write_bytes_atomically(out / "hand.npz", buffer.getvalue())
    side, vertices, faces = training.get("side", "right"), hand.vertices_mm, hand.faces
    if side == "left":
        vertices, faces = vertices * vertices.new_tensor([-1.0, 1.0, 1.0]), faces.flip(1)
    write_bytes_atomically(out / "hand.ply", as_ply(vertices, faces))
    write_bytes_atomically(out / "hand.glb", as_glb(hand, side))
    write_json(out / "curve.json", {"curve": refined.curve, "warnings": refined.warnings, "settings": training})
    record = training | {"warnings": list(refined.warnings)}
    save_network(out / NETWORK, refined.net, hand, record, torch.float16)


def load_model(
    path: str | Path | None = None, hand: HandRig | None = None, network: str | Callable | None = None
) -> tuple[PoseModel, HandRig, str | None]:
    """A network in eval mode, the hand that it poses, and the side that it is of; None is either.

    Args:
        path: folder that `hrlib refine` or `hrlib pretrain` has written, or a checkpoint; None: the shipped base model, or the
            network that `network` makes.
        hand: the rig that the model was trained with; None: the one beside the checkpoint, or else the template.
        network: what makes a network other than a PoseNet; see `load_network`.

    Raises:
        FileNotFoundError, ValueError: see `load_network` and `load_refined`.
    """
    if path is None and network is not None:
        return built(network), hand or load_hand(), None
    file = BASE_MODEL if path is None else Path(path)
    if file.is_dir():
        if (file / NETWORK).is_file() or not (file / TRAINED).is_file():
            return *load_refined(file, hand, network), refined_side(file)
        file = file / TRAINED
    hand = hand or hand_of(file)
    net, training = load_network(hand, file, network)
    return net, hand, training.get("side")


def load_refined(
    folder: str | Path, template: HandRig | None = None, network: str | Callable | None = None
) -> tuple[PoseModel, HandRig]:
    """The adapted network in eval mode and the hand that it poses, as `save_refined` wrote them.

    Args:
        folder: with model and hand.
        template: the hand that the refinement began with, if it is to be made sure; of the recipe `paper` it is the hand.
        network: what makes a network other than a PoseNet; see `load_network`.

    Raises:
        FileNotFoundError: the folder lacks one of the two.
        ValueError: they do not belong together, or come from another template.
    """
    folder = Path(folder)
    for name in (NETWORK, HAND):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder} holds no {name}: name a folder that `hrlib refine --out` has written to its end"
            )
    if template is None:
        hand = load_hand(folder / HAND)
        return load_network(hand, folder / NETWORK, network)[0], hand
    hand = load_hand(folder / HAND, template.vertices_mm.dtype)
    same_axes = torch.allclose(hand.R_wrist_rest, template.R_wrist_rest, atol=1e-5)
    if not torch.equal(hand.faces, template.faces) or not same_axes:
        raise ValueError(
            f"{folder / HAND} was not adapted from '{template.name}' (other faces or joint axes); load it "
            "with the template that it was refined with"
        )
    hand = template if hand.fingerprint == template.fingerprint else hand
    return load_network(hand, folder / NETWORK, network)[0], hand


def refined_side(folder: str | Path) -> str:
    """Which hand a refinement in a folder is of, "right" or "left"."""
    meta, _ = read_tensors(Path(folder) / NETWORK)
    return json.loads(meta["training"]).get("side", "right")
