"""A hand as a file for other programs: glTF with bones, and PLY."""

from collections.abc import Sequence

import numpy as np
import pygltflib as gl
import torch
from jaxtyping import Float, Int
from torch import Tensor

from .. import __version__
from ..support.checks import SIDES, require_one_of
from ..support.roma_alone import roma
from .gltf import COLUMNS, COMPONENTS
from .joints import JOINT_NAMES, PARENTS, TIP_NAMES, TIP_PARENTS
from .rig import HandRig

NAMES, BONE_PARENTS = (*JOINT_NAMES, *TIP_NAMES), (*PARENTS, *TIP_PARENTS)
SKIN = {"baseColorFactor": [0.8, 0.6, 0.5, 1.0], "metallicFactor": 0.0, "roughnessFactor": 0.7}


def as_glb(hand: HandRig, side: str = "right") -> bytes:
    """The hand at rest as a skinned glTF 2.0 file (.glb): metres, 16 joints and 5 tips as bones, four weights a vertex.

    Programs that pose skins (Blender, three.js, game engines) can move it; `hrlib.hand.gltf.load_gltf` reads it back. Bones
    are named and turned as in `hrlib.hand.joints`: y along the bone, x the axis that it bends about.

    side: "left" mirrors the right hand that this project poses. Raises ValueError for another side.
    """
    require_one_of(SIDES, side=side)
    hand, left = hand.to("cpu", torch.float64), side == "left"
    mirror = np.diag([-1.0 if left else 1.0, 1.0, 1.0, 1.0])
    axes = torch.cat([hand.R_wrist_rest, hand.R_wrist_rest[list(TIP_PARENTS)]])
    places = torch.cat([hand.joints_mm, hand.tips_mm]) / 1000
    T_rest = mirror @ roma.Rigid(axes, places).to_homogeneous().detach().numpy() @ mirror
    faces = hand.faces.numpy()[:, :: -1 if left else 1]  # a mirrored triangle is seen from its other side
    vertices = hand.vertices_mm.detach().numpy() @ mirror[:3, :3] / 1000
    bones = list(zip(NAMES, BONE_PARENTS, T_rest, strict=True))
    return skinned_glb(hand.name, bones, (vertices, faces, hand.weights.detach().numpy()))


def skinned_glb(
    name: str,
    bones: Sequence[tuple[str, int, Float[np.ndarray, "4 4"]]],
    mesh: tuple[Float[np.ndarray, "V 3"], Int[np.ndarray, "F 3"], Float[np.ndarray, "V bones"]],
) -> bytes:
    """Any skin as a glTF 2.0 file (.glb), four weights a vertex.

    Args:
        name: of the mesh.
        bones: name, number of the parent (-1: none) and place at rest of each, in the unit of the mesh.
        mesh: vertices (in metres, as glTF has them), triangles, and weights of as many bones, from the first on.
    """
    vertices, faces, weights = mesh
    T_rest = np.array([T for _, _, T in bones])
    file, data = gl.GLTF2(asset=gl.Asset(version="2.0", generator=f"hrlib {__version__}")), bytearray()

    def store(array: np.ndarray, target: int | None = None, **limits) -> int:
        """Append [count, columns] to the file's data; the number of its accessor."""
        data.extend(bytes(-len(data) % 4))
        file.bufferViews.append(gl.BufferView(buffer=0, byteOffset=len(data), byteLength=array.nbytes, target=target))
        data.extend(array.tobytes())
        component = next(number for number, dtype in COMPONENTS.items() if dtype == array.dtype)
        kind = next(name for name, columns in COLUMNS.items() if columns == array.shape[1])
        view = len(file.bufferViews) - 1
        file.accessors.append(
            gl.Accessor(bufferView=view, componentType=component, count=len(array), type=kind, **limits)
        )
        return view

    vertices, joint = vertices.astype("<f4"), np.argsort(-weights, 1, kind="stable")[:, :4]
    weight = np.take_along_axis(weights, joint, 1)
    attributes = gl.Attributes(
        POSITION=store(vertices, gl.ARRAY_BUFFER, min=vertices.min(0).tolist(), max=vertices.max(0).tolist()),
        NORMAL=store(_normals(vertices, faces).astype("<f4"), gl.ARRAY_BUFFER),
        JOINTS_0=store(np.where(weight > 0, joint, 0).astype("u1"), gl.ARRAY_BUFFER),
        WEIGHTS_0=store((weight / weight.sum(1, keepdims=True)).astype("<f4"), gl.ARRAY_BUFFER),
    )
    corners = store(faces.astype("<u2" if len(vertices) < 2**16 else "<u4").reshape(-1, 1), gl.ELEMENT_ARRAY_BUFFER)
    # glTF stores matrices by columns
    inverse = store(np.linalg.inv(T_rest).transpose(0, 2, 1).reshape(-1, 16).astype("<f4"))
    file.materials.append(gl.Material(name="skin", pbrMetallicRoughness=gl.PbrMetallicRoughness(**SKIN)))
    triangles = gl.Primitive(attributes=attributes, indices=corners, mode=gl.TRIANGLES, material=0)
    file.meshes.append(gl.Mesh(name=name, primitives=[triangles]))
    for i, (bone, parent, T) in enumerate(bones):
        T = T if parent < 0 else np.linalg.inv(T_rest[parent]) @ T
        children = [k for k, (_, p, _) in enumerate(bones) if p == i]
        file.nodes.append(gl.Node(name=bone, matrix=T.T.ravel().tolist(), children=children))
    file.nodes.append(gl.Node(name=name, mesh=0, skin=0))
    file.skins.append(gl.Skin(inverseBindMatrices=inverse, joints=list(range(len(bones))), skeleton=0))
    roots = [i for i, (_, parent, _) in enumerate(bones) if parent < 0]
    file.scenes.append(gl.Scene(nodes=[*roots, len(bones)]))
    file.scene = 0
    file.buffers.append(gl.Buffer(byteLength=len(data)))
    file.set_binary_blob(bytes(data))
    return b"".join(file.save_to_bytes())


def _normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """[V, 3] of length one: the mean of the triangles at each vertex, by area."""
    a, b, c = vertices.astype(np.float64)[faces].transpose(1, 0, 2)
    normals = np.zeros(vertices.shape)
    np.add.at(normals, faces, np.cross(b - a, c - a)[:, None])
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def as_ply(vertices_mm: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"]) -> bytes:
    """A mesh as a binary PLY file."""
    header = (
        "ply\nformat binary_little_endian 1.0\ncomment millimetres\n"
        f"element vertex {len(vertices_mm)}\nproperty float x\nproperty float y\nproperty float z\n"
        f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    triangles = np.empty(len(faces), [("count", "u1"), ("corners", "<i4", 3)])
    triangles["count"], triangles["corners"] = 3, faces.cpu().numpy()
    return header.encode() + vertices_mm.detach().cpu().numpy().astype("<f4").tobytes() + triangles.tobytes()
