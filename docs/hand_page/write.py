"""The hand in the browser: a folder with the page beside this script and the data of the hand, without Python or network.

    python docs/hand_page/write.py [FOLDER [HAND]]        (`make hand`: build/hand_page; `make site` puts it into the site)

HAND is a rigged hand of your own, whose bones are found by their names; by default the template is shown.

The data are a script, for a page that is opened as a file may load nothing else.
"""

import base64
import json
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np

from hrlib.frames.crop import IMAGE_SIZE
from hrlib.hand.from_file import hand_from_file
from hrlib.hand.joints import FINGERS, JOINT_NAMES, PARENTS, POINT_ORDER, POINT_PARENTS, TIP_PARENTS
from hrlib.hand.named_poses import ANGLES, LETTERS, PRESETS, VIEW_DEG, rest_angles
from hrlib.hand.rig import HandRig, load_hand
from hrlib.losses import FINGER_RADIUS_MM
from hrlib.method import PipelineSettings
from hrlib.network.posenet import ANCHOR
from hrlib.support.files import write_bytes_atomically
from hrlib.support.paths import BUILD

HERE = Path(__file__).resolve().parent
SOURCES = ("index.html", "hand.css", "method.js", "hand.js")
CUBE_MM = 250.0


def write_page(folder: Path, hand: HandRig | None = None) -> None:
    """Copy the page to `folder` and write `hand_data.js` of the hand, by default the template, beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in SOURCES:
        shutil.copyfile(HERE / name, folder / name)
    script = f"const HAND_DATA = {json.dumps(page_data(hand or load_hand()))};\n"
    write_bytes_atomically(folder / "hand_data.js", script.encode())


def page_data(hand: HandRig) -> dict:
    """What the page knows of the hand; arrays are little-endian float32 (faces: uint16) in base64, row by row."""
    arrays = {
        "vertices_mm": hand.vertices_mm,  # [V, 3]
        "weights": hand.weights,  # [V, 16]
        "cloud_mm": hand.cloud_mm,  # [N, 3]
        "cloud_weights": hand.cloud_weights,  # [N, 16]
        "T_parent_neutral": hand.T_parent_neutral[:, :3],  # [16, 3, 4]
        "T_rest_wrist": hand.T_rest_wrist[:, :3],  # [16, 3, 4]
        "anchor_mm": hand.joints_mm[JOINT_NAMES.index(ANCHOR)],  # [3], what stays in the middle of the cube
        "tip_bones_mm": hand.tip_bones_mm,  # [5, 3]
    }
    return {
        "arrays": {name: _base64(array, "<f4") for name, array in arrays.items()},
        "faces": _base64(hand.faces, "<u2"),
        "parents": PARENTS,
        "tip_parents": TIP_PARENTS,
        "point_order": POINT_ORDER,
        "point_parents": POINT_PARENTS,
        "fingers": FINGERS,
        "angles": [asdict(angle) for angle in ANGLES.values()],
        "view": [{"name": name, "plain": plain, "most": most} for name, (plain, most) in VIEW_DEG.items()],
        "poses": {"neutral": {}, "as modelled": rest_angles(hand)} | PRESETS | LETTERS,
        "image_size": IMAGE_SIZE,
        "cube_mm": CUBE_MM,
        "radius_px": PipelineSettings().radius_px,
        "finger_radius_mm": FINGER_RADIUS_MM,
    }


def _base64(values, kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values, kind).tobytes()).decode()


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else BUILD / "hand_page"
    write_page(target, hand_from_file(sys.argv[2]) if len(sys.argv) > 2 else None)
    print(f"the hand: {target / 'index.html'}")
