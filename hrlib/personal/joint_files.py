"""What other programs read: joints as CSV and JSON, written while frames stream through; the hand as glTF."""

import csv
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pygltflib as gl
from torch import Tensor

from .. import __version__
from ..hand.joints import JOINT_NAMES, PARENTS, POINT_NAMES, POINT_PARENTS, TIP_NAMES, TIP_PARENTS
from ..hand.rig import HandRig

CSV_COLUMNS = ("frame", "joint", "x_mm", "y_mm", "z_mm", "confidence")


class JointFiles:
    """Joints to a CSV file, a JSON file, or both, a few frames at a time:

        with JointFiles(csv_path, json_path) as files:
            files.add(names, joints_mm, confidence)

    The files appear when the block ends well, each whole; after an error or Ctrl-C what was there before is still there.
    CSV: a row a point, 21 a frame. JSON: {"unit", "camera_frame", "joints", "parents", "frames": [{"frame", "confidence",
    "joints_mm": 21 x [x, y, z]}], "left_out": {frame: reason}}. Raises OSError, which names the file.
    """

    def __init__(self, csv_path: str | Path | None = None, json_path: str | Path | None = None):
        wanted = [Path(path) for path in (csv_path, json_path) if path is not None]
        if len({path.resolve() for path in wanted}) < len(wanted):
            raise ValueError(f"CSV and JSON cannot both go to {wanted[0]}; give them two names")
        self.paths = [path and Path(path) for path in (csv_path, json_path)]
        self.frames, self._open, self._left_out = 0, {}, {}

    def __enter__(self) -> "JointFiles":
        try:
            for path in filter(None, self.paths):
                path.parent.mkdir(parents=True, exist_ok=True)
                if path.is_dir():
                    raise IsADirectoryError(0, "that is a folder; name a file in it")
                self._open[path] = open(_partial(path), "w", encoding="utf-8", newline="")
        except OSError as error:
            self._close(keep=False)
            raise OSError(error.errno, f"cannot write {path}: {error.strerror}") from error
        if self.paths[0]:
            csv.writer(self._open[self.paths[0]], lineterminator="\n").writerow(CSV_COLUMNS)
        if self.paths[1]:
            head = {
                "unit": "mm",
                "camera_frame": "x right, y down, z forward",
                "made_by": f"hrlib {__version__}",
                "joints": POINT_NAMES,
                "parents": POINT_PARENTS,
            }
            self._open[self.paths[1]].write(json.dumps(head)[:-1] + ', "frames": [')
        return self

    def add(self, names: Sequence[str], joints_mm: Tensor, confidence: Tensor) -> None:
        """The next frames: B names, joints_mm [B, 21, 3] in the camera frame, confidence [B]."""
        if tuple(joints_mm.shape) != (len(names), len(POINT_NAMES), 3):
            raise ValueError(f"joints_mm must be [{len(names)}, 21, 3], got {list(joints_mm.shape)}")
        for name, points, sure in zip(names, joints_mm.tolist(), confidence.tolist(), strict=True):
            if self.paths[0]:
                table = csv.writer(self._open[self.paths[0]], lineterminator="\n")
                for joint, point in zip(POINT_NAMES, points, strict=True):
                    table.writerow((name, joint, *(f"{x:.2f}" for x in point), f"{sure:.4g}"))
            if self.paths[1]:
                rounded = [[round(x, 2) for x in point] for point in points]
                entry = {"frame": name, "confidence": float(f"{sure:.4g}"), "joints_mm": rounded}
                text = json.dumps(entry, ensure_ascii=False, allow_nan=False)
                self._open[self.paths[1]].write((",\n" if self.frames else "\n") + text)
            self.frames += 1

    def leave_out(self, reasons: Mapping[str, str]) -> None:
        """Frames that have no joints, and why: for the JSON file."""
        self._left_out |= reasons

    def __exit__(self, kind, error, trace) -> None:
        if kind is None and self.paths[1]:
            self._open[self.paths[1]].write(
                '\n], "left_out": ' + json.dumps(self._left_out, ensure_ascii=False) + "}\n"
            )
        self._close(keep=kind is None)

    def _close(self, keep: bool) -> None:
        try:
            for file in self._open.values():
                if keep:
                    file.flush()
                    os.fsync(file.fileno())
                file.close()
            if keep:
                for path in self._open:
                    os.replace(_partial(path), path)
        except OSError as error:
            raise OSError(
                error.errno, f"cannot write {path if keep else ''}: {error.strerror}; free some space"
            ) from error
        finally:
            for path in self._open:
                _partial(path).unlink(missing_ok=True)


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.partial")


# -- glTF -----------------------------------------------------------------------------------------------------------------


def as_glb(hand: HandRig, side: str = "right") -> bytes:
    """The hand at rest as a skinned glTF 2.0 file (.glb): metres, 16 joints and 5 tips as bones, four weights a vertex.

    Programs that pose skins (Blender, three.js, game engines) can move it; `hrlib.hand.gltf.load_gltf` reads it back. Bones
    are named as in `hrlib.hand.joints`, and turned as they are there: y along the bone, x the axis that it bends about.
    side: "left" mirrors the right hand that this project poses. Raises ValueError for another side.
    """
    if side not in ("right", "left"):
        raise ValueError(f"side must be 'right' or 'left', got {side!r}")
    hand = hand.to("cpu")
    names, parents = [*JOINT_NAMES, *TIP_NAMES], [*PARENTS, *TIP_PARENTS]
    mirror = np.diag([-1.0 if side == "left" else 1.0, 1.0, 1.0])
    vertices = hand.vertices_mm.detach().double().numpy() @ mirror / 1000
    faces = hand.faces.numpy()[:, :: -1 if side == "left" else 1]  # a mirrored triangle is seen from its other side
    T_rest = np.tile(np.eye(4), (21, 1, 1))
    T_rest[:16, :3, 3] = hand.joints_mm.detach().double().numpy() @ mirror / 1000
    T_rest[16:, :3, 3] = hand.tips_mm.detach().double().numpy() @ mirror / 1000
    axes = hand.R_wrist_rest.double().numpy()
    T_rest[:16, :3, :3] = mirror @ axes @ mirror
    T_rest[16:, :3, :3] = T_rest[list(TIP_PARENTS), :3, :3]
    joint, weight = _four_weights(hand.weights.detach().double().numpy())
    return _glb(hand.name, names, parents, T_rest, vertices, faces, joint, weight)


def _four_weights(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The four largest of each row [V, 16], summing to one: joint [V, 4], weight [V, 4]."""
    joint = np.argsort(-weights, 1, kind="stable")[:, :4]
    kept = np.take_along_axis(weights, joint, 1)
    return np.where(kept > 0, joint, 0), kept / kept.sum(1, keepdims=True)


def _glb(name, names, parents, T_rest, vertices, faces, joint, weight) -> bytes:
    normals = np.zeros_like(vertices)
    corners = vertices[faces]
    turn = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    for k in range(3):
        np.add.at(normals, faces[:, k], turn)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    file, data = gl.GLTF2(asset=gl.Asset(version="2.0", generator=f"hrlib {__version__}")), bytearray()

    def store(array, kind, component, target=None, bounds=False) -> int:
        data.extend(bytes(-len(data) % 4))
        raw = array.tobytes()
        view = gl.BufferView(buffer=0, byteOffset=len(data), byteLength=len(raw), target=target)
        file.bufferViews.append(view)
        data.extend(raw)
        limits = {"min": array.min(0).tolist(), "max": array.max(0).tolist()} if bounds else {}
        count = array.size if kind == gl.SCALAR else len(array)
        accessor = gl.Accessor(
            bufferView=len(file.bufferViews) - 1, componentType=component, count=count, type=kind, **limits
        )
        file.accessors.append(accessor)
        return len(file.accessors) - 1

    attributes = gl.Attributes(
        POSITION=store(vertices.astype("<f4"), gl.VEC3, gl.FLOAT, gl.ARRAY_BUFFER, bounds=True),
        NORMAL=store(normals.astype("<f4"), gl.VEC3, gl.FLOAT, gl.ARRAY_BUFFER),
        JOINTS_0=store(joint.astype("u1"), gl.VEC4, gl.UNSIGNED_BYTE, gl.ARRAY_BUFFER),
        WEIGHTS_0=store(weight.astype("<f4"), gl.VEC4, gl.FLOAT, gl.ARRAY_BUFFER),
    )
    corner = store(faces.astype("<u2").ravel(), gl.SCALAR, gl.UNSIGNED_SHORT, gl.ELEMENT_ARRAY_BUFFER)
    # glTF stores matrices by columns
    inverse = store(np.linalg.inv(T_rest).transpose(0, 2, 1).astype("<f4").reshape(-1, 16), gl.MAT4, gl.FLOAT)
    skin_colour = gl.PbrMetallicRoughness(baseColorFactor=[0.8, 0.6, 0.5, 1.0], metallicFactor=0.0, roughnessFactor=0.7)
    file.materials.append(gl.Material(name="skin", pbrMetallicRoughness=skin_colour))
    triangles = gl.Primitive(attributes=attributes, indices=corner, mode=gl.TRIANGLES, material=0)
    file.meshes.append(gl.Mesh(name=name, primitives=[triangles]))
    for i, parent in enumerate(parents):
        T = T_rest[i] if parent < 0 else np.linalg.inv(T_rest[parent]) @ T_rest[i]
        children = [k for k, p in enumerate(parents) if p == i]
        file.nodes.append(gl.Node(name=names[i], matrix=T.T.ravel().tolist(), children=children))
    file.nodes.append(gl.Node(name=name, mesh=0, skin=0))
    file.skins.append(gl.Skin(inverseBindMatrices=inverse, joints=list(range(len(names))), skeleton=0))
    file.scenes.append(gl.Scene(nodes=[0, len(names)]))
    file.scene = 0
    file.buffers.append(gl.Buffer(byteLength=len(data)))
    file.set_binary_blob(bytes(data))
    return b"".join(file.save_to_bytes())
