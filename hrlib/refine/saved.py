"""What a refinement leaves behind, on disk and for use: the adapted network with its hand, and how far to trust a frame."""

import io
import json
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save

from ..hand.files import as_glb, as_ply
from ..hand.rig import HandRig, asset_tensors, load_hand
from ..network.checkpoint import load_network, save_network
from ..network.posenet import PoseNet
from ..support.files import write_bytes_atomically, write_json
from .state import Refined


def save_refined(out: str | Path, refined: Refined, template: HandRig, training: dict) -> None:
    """Write a refinement into the folder `out`, each file whole or not at all.

    model.safetensors (network, float16, bound to its hand), hand.safetensors (the hand as `load_hand` reads it), hand.npz
    (arrays at rest in the wrist's frame, with the adapted cloud P), hand.ply (the mesh at rest, mm), hand.glb (the same with
    bones) and curve.json (curve, warnings, `training`: plain JSON that says how it came about). Where training["side"] is
    "left", ply and glb are a left hand; all else is the right hand that this project poses. Raises OSError where that
    cannot be written.
    """
    out = Path(out)
    hand = refined.hand.to("cpu")
    # `paper` moves the points P alone: the hand that its network goes with is still the template
    hand = template.to("cpu") if hand.fingerprint == template.fingerprint else hand
    meta = {"name": hand.name, "source": f"adapted from '{template.name}'", "unit": "mm"}
    write_bytes_atomically(out / "hand.safetensors", save(asset_tensors(hand), {"hand": json.dumps(meta)}))
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
    record = {"curve": refined.curve, "warnings": refined.warnings, "settings": training}
    write_json(out / "curve.json", record)
    said = {**training, "warnings": list(refined.warnings)}
    save_network(out / "model.safetensors", refined.net, hand, said, torch.float16)


def load_refined(folder: str | Path, template: HandRig) -> tuple[PoseNet, HandRig]:
    """The adapted network in eval mode and the hand that it poses, as `save_refined` wrote them.

    Raises FileNotFoundError where the folder lacks one of the two, ValueError where they do not belong together or come
    from another template than this.
    """
    folder = Path(folder)
    for name in ("model.safetensors", "hand.safetensors"):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder} holds no {name}: name a folder that `hrlib refine --out` has written to its end"
            )
    hand = load_hand(folder / "hand.safetensors", template.vertices_mm.dtype)
    if not torch.equal(hand.faces, template.faces) or not torch.allclose(
        hand.R_wrist_rest, template.R_wrist_rest, atol=1e-5
    ):
        raise ValueError(
            f"{folder / 'hand.safetensors'} was not adapted from '{template.name}' (other faces or joint axes); load it "
            "with the template that it was refined with"
        )
    hand = template if hand.fingerprint == template.fingerprint else hand
    return load_network(hand, folder / "model.safetensors")[0], hand


def refined_side(folder: str | Path) -> str:
    """Which hand a folder that `load_refined` reads is of, "right" or "left"."""
    with safe_open(Path(folder) / "model.safetensors", "pt") as file:
        return json.loads(file.metadata()["training"]).get("side", "right")
