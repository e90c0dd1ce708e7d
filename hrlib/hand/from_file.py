"""A rigged hand from any file that holds one: glTF, MANO's, or an asset of ours."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from ..support.checks import SIDES, require_one_of
from .gltf import load_gltf, named_bones
from .mano import read_mano
from .mesh_rig import rig_of
from .rig import HandRig, load_hand

MANO = (".pkl", ".npz")


@dataclass(frozen=True)
class HandFile:
    """A rigged hand in place of the template."""  # the comments of the fields are help

    # .glb, .gltf, .safetensors, or MANO's own .pkl (read, never executed); by default the template.
    hand: Path | None = None
    # JSON file that names the bone of each joint in a glTF; by default they are found by their names.
    bones: Path | None = None
    # which hand the file holds; a left one is mirrored.
    side: Literal["right", "left"] = "right"
    # millimetres of one unit of the file; by default metres, centimetres or millimetres, whichever makes a hand of it.
    hand_unit_mm: float | None = None

    def load(self) -> HandRig:
        """The rig; see `hand_from_file`."""
        return load_hand() if self.hand is None else hand_from_file(self.hand, self.bones, self.side, self.hand_unit_mm)


def hand_from_file(
    path: str | Path, bones: str | Path | None = None, side: str = "right", unit_mm: float | None = None
) -> HandRig:
    """The hand in a rigged .glb or .gltf file, in MANO's (.pkl, .npz), or in an asset file of ours (.safetensors).

    Args:
        path: the file.
        bones: a JSON file {"wrist": "Hand_R", "index_base": ["Index1", "Index0"], ...}, see `load_gltf`; None finds bones by
            their names (`gltf.named_bones`).
        side: of the file's hand; "left" is mirrored.
        unit_mm: millimetres of one unit of the file; None finds it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no hand, or its bones are not found.
    """
    path = Path(path)
    require_one_of(SIDES, side=side)
    if path.suffix.lower() == ".safetensors":
        return load_hand(path)
    if path.suffix.lower() in MANO:
        mesh = read_mano(path)
        try:
            return rig_of(mesh.mirrored() if side == "left" else mesh, unit_mm).to(torch.float32)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    if bones is None:
        return load_gltf(path, named_bones(path, side), unit_mm, side=side)
    try:
        return load_gltf(path, _map_of(bones), unit_mm, side=side)
    except ValueError as error:
        named = any(str(file) in str(error) for file in (path, bones))
        raise error if named else ValueError(f"{bones}: {error}") from error


def _map_of(bones: str | Path) -> dict[str, str | tuple[str, ...]]:
    try:
        named = json.loads(Path(bones).read_text(encoding="utf-8"))
        return {str(joint): tuple(bone) if isinstance(bone, list) else str(bone) for joint, bone in named.items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(f'{bones} is no map of bones ({error}); write JSON: {{"wrist": "Hand_R", ...}}') from error
