"""A refinement on disk: the adapted network with its hand, written and read."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ..hand.files import as_glb, as_ply
from ..hand.rig import HandRig, load_hand, save_hand
from ..network.checkpoint import load_network, save_network
from ..network.model import PoseModel
from ..support.files import write_bytes_atomically, write_json
from ..support.tensor_files import read_tensors
from .state import Refined

NETWORK, HAND = "model.safetensors", "hand.safetensors"


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


def load_refined(
    folder: str | Path, template: HandRig, network: str | Callable | None = None
) -> tuple[PoseModel, HandRig]:
    """The adapted network in eval mode and the hand that it poses, as `save_refined` wrote them.

    Args:
        folder: with model and hand.
        template: the hand that the refinement began with.
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
