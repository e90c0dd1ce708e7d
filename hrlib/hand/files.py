"""A hand as a file for other programs: glTF with bones, and PLY."""

import numpy as np
import pygltflib as gl
from torch import Tensor

from .. import __version__
from .joints import JOINT_NAMES, PARENTS, TIP_NAMES, TIP_PARENTS
from .rig import HandRig


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


def as_ply(vertices_mm: Tensor, faces: Tensor) -> bytes:
    """A mesh as a binary PLY file; vertices_mm [V, 3], faces [F, 3]."""
    header = (
        "ply\nformat binary_little_endian 1.0\ncomment millimetres\n"
        f"element vertex {len(vertices_mm)}\nproperty float x\nproperty float y\nproperty float z\n"
        f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    triangles = np.empty(len(faces), [("count", "u1"), ("corners", "<i4", 3)])
    triangles["count"], triangles["corners"] = 3, faces.cpu().numpy()
    return header.encode() + vertices_mm.detach().cpu().numpy().astype("<f4").tobytes() + triangles.tobytes()
