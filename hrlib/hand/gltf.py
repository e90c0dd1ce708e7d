"""Other rigged hands: a skinned mesh in a glTF file, folded into the 16 joints of `hrlib.hand.joints`.

Any hand with bones can be used once two maps say which bone is which joint; the maps of the WebXR generic hand (npm
`@webxr-input-profiles/assets`, 25 joints of the W3C's WebXR Hand Input specification) are ready here.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from pygltflib import GLTF2, TRIANGLES

from .joints import FINGERS, JOINT_NAMES, TIP_NAMES, TIP_PARENTS
from .rig import HandRig, build_rig

# The thumb has no bone before its metacarpal; the other fingers' metacarpals are the palm, which moves with the wrist.
WEBXR_JOINTS = {
    "wrist": ("wrist", *(f"{finger}-finger-metacarpal" for finger in FINGERS[1:])),
    "thumb_base": "thumb-metacarpal",
    "thumb_middle": "thumb-phalanx-proximal",
    "thumb_far": "thumb-phalanx-distal",
} | {
    f"{finger}_{part}": f"{finger}-finger-phalanx-{bone}"
    for finger in FINGERS[1:]
    for part, bone in (("base", "proximal"), ("middle", "intermediate"), ("far", "distal"))
}
WEBXR_TIPS = {f"{finger}_tip": f"{finger}-finger-tip".replace("thumb-finger", "thumb") for finger in FINGERS}

# glTF 2.0, section 3.6.2.2: accessor component types and element sizes
_COMPONENT = {5120: np.int8, 5121: np.uint8, 5122: np.int16, 5123: np.uint16, 5125: np.uint32, 5126: np.float32}
_COLUMNS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}
_OVERSAMPLING = 8


def load_gltf(
    path: str | Path,
    joint_map: Mapping[str, str | tuple[str, ...]],
    tip_map: Mapping[str, str],
    unit_mm: float = 1000.0,
    cloud_points: int = 2048,
    side: str = "right",
    name: str | None = None,
    dtype: torch.dtype = torch.float32,
) -> HandRig:
    """The hand in a .glb or .gltf file.

    joint_map: for each of the 16 joints, the bone that turns there, or several: the first turns there, the others move
    with it. tip_map: the bones at the fingertips, {} if there are none; they move with their finger's far joint. A bone in
    neither map moves with the nearest ancestor that is in one, or with the wrist. unit_mm: millimetres per unit of the
    file's mesh (glTF's own unit is the metre). side: "left" mirrors the mesh into the right hand that this project poses.

    Joints are where the bones are when the mesh is in its bind pose (the inverses of inverseBindMatrices). Tips are where
    the skin ends, as on the template, because rigs put their tip bones at various depths inside the finger. Vertices that
    a file repeats along texture seams become one. The cloud P is `sample_surface`'s.

    Raises FileNotFoundError where there is no file, ValueError where it is no glTF, has no skinned triangles, lacks bones
    of the maps, is compressed, or shows a hand of the other side.
    """
    path = Path(path)
    if side not in ("right", "left"):
        raise ValueError(f"side must be 'right' or 'left', got {side!r}")
    _check_maps(joint_map, tip_map)
    gltf = _open(path)
    bones_of = {joint: (bones,) if isinstance(bones, str) else tuple(bones) for joint, bones in joint_map.items()}
    wanted = [bone for bones in bones_of.values() for bone in bones] + list(tip_map.values())
    mesh, skin = _skinned_mesh(gltf, path, wanted)

    names = [gltf.nodes[node].name for node in skin.joints]
    vertices, faces, bone_weights = _read_mesh(gltf, path, mesh, len(names))
    heads = _bone_heads(gltf, path, skin)
    if side == "left":
        vertices, heads = vertices * [-1, 1, 1], heads * [-1, 1, 1]
        faces = faces[:, ::-1]  # a mirrored triangle is seen from its other side

    joint_of = {bone: JOINT_NAMES.index(joint) for joint, bones in bones_of.items() for bone in bones}
    joint_of |= {bone: TIP_PARENTS[TIP_NAMES.index(tip)] for tip, bone in tip_map.items()}
    weights = np.zeros((len(vertices), 16))
    for i, joint in enumerate(_fold(gltf, skin, joint_of)):
        weights[:, joint] += bone_weights[:, i]
    weights /= weights.sum(1, keepdims=True)
    vertices, faces, weights = _weld(vertices * unit_mm, faces, weights)
    joints = unit_mm * heads[[names.index(bones_of[joint][0]) for joint in JOINT_NAMES]]
    ends = {tip: unit_mm * heads[names.index(bone)] for tip, bone in tip_map.items()}
    tips = _tips_on_skin(path, vertices, weights, joints, ends)
    face, bary = sample_surface(vertices, faces, cloud_points)
    rig = build_rig(name or path.stem, vertices, faces.copy(), weights, joints, tips, face, bary)
    return rig.to(dtype)


def sample_surface(vertices: np.ndarray, faces: np.ndarray, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """`count` points evenly over a mesh [V, 3], [F, 3] -> triangle of each [count] and barycentric coordinates [count, 3].

    Eight times as many points are drawn with equal chance for equal area, then each chosen point is the one farthest from
    all chosen before (Eldar et al., "The farthest point strategy for progressive image sampling", 1997): no two of them
    are close, no part of the surface is far from all. Same seed, same points.
    """
    if count < 1:
        raise ValueError(f"count (cloud_points) must be at least 1, got {count}")
    corners = vertices[faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    random = np.random.default_rng(seed)
    face = random.choice(len(faces), size=_OVERSAMPLING * count, p=area / area.sum())
    a, b = random.random((2, len(face)))
    root = np.sqrt(a)  # uniform over the triangle (Osada et al., "Shape distributions", 2002)
    bary = np.stack([1 - root, root * (1 - b), root * b], 1)
    points = np.einsum("nk,nkc->cn", bary, corners[face])
    chosen = np.zeros(count, np.int64)
    distance = np.full(len(face), np.inf)
    for i in range(1, count):
        distance = np.minimum(distance, ((points - points[:, chosen[i - 1], None]) ** 2).sum(0))
        chosen[i] = distance.argmax()
    return face[chosen], bary[chosen]


# -- the file ---------------------------------------------------------------------------------------------------------


def _check_maps(joint_map, tip_map):
    if set(joint_map) != set(JOINT_NAMES):
        missing, unknown = sorted(set(JOINT_NAMES) - set(joint_map)), sorted(set(joint_map) - set(JOINT_NAMES))
        raise ValueError(
            f"joint_map must name a bone for each joint of hrlib.hand.joints: missing {missing}, unknown {unknown}"
        )
    if not set(tip_map) <= set(TIP_NAMES):
        raise ValueError(f"tip_map must map tips of {list(TIP_NAMES)}, got {sorted(set(tip_map) - set(TIP_NAMES))}")


def _open(path: Path) -> GLTF2:
    if not path.is_file():
        raise FileNotFoundError(f"no glTF file at {path}")
    try:
        gltf = GLTF2().load(str(path))
        if not (gltf and gltf.asset and gltf.buffers):
            raise ValueError("it holds no asset or no data")
    except Exception as error:  # pygltflib passes on whatever its parsers stumble over
        raise ValueError(f"{path} is not a readable glTF 2.0 file ({error!r}); export it again as .glb") from error
    return gltf


def _skinned_mesh(gltf: GLTF2, path: Path, wanted: list[str]):
    """The mesh and skin whose bones have all the wanted names; a file may hold several."""
    skinned = [node for node in gltf.nodes if node.mesh is not None and node.skin is not None]
    if not skinned:
        raise ValueError(
            f"{path} has no skin: no mesh in it hangs on bones; export the hand together with its armature"
        )
    best = None
    for node in skinned:
        bones = [gltf.nodes[i].name for i in gltf.skins[node.skin].joints]
        missing = [bone for bone in wanted if bone not in bones]
        if not missing:
            return gltf.meshes[node.mesh], gltf.skins[node.skin]
        if best is None or len(missing) < len(best[0]):
            best = missing, bones
    raise ValueError(f"{path} lacks the bones {best[0]} of the maps; it has {sorted(map(str, best[1]))}")


def _read_mesh(gltf: GLTF2, path: Path, mesh, bone_count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All primitives of a mesh: vertices [V, 3] in the file's unit, faces [F, 3], weights [V, bones]."""
    vertices, faces, weights, first = [], [], [], 0
    for primitive in mesh.primitives:
        has = primitive.attributes
        if primitive.mode not in (None, TRIANGLES) or has.JOINTS_0 is None or has.WEIGHTS_0 is None:
            raise ValueError(
                f"{path}: the mesh must be triangles with JOINTS_0 and WEIGHTS_0; export skinned triangles"
            )
        position = _read(gltf, path, has.POSITION).astype(np.float64)
        index = np.arange(len(position)) if primitive.indices is None else _read(gltf, path, primitive.indices)[:, 0]
        joints, values = _read(gltf, path, has.JOINTS_0), _read(gltf, path, has.WEIGHTS_0).astype(np.float64)
        dense = np.zeros((len(position), bone_count))
        np.add.at(dense, (np.arange(len(position))[:, None], joints), values)
        vertices.append(position)
        faces.append(index.astype(np.int64).reshape(-1, 3) + first)
        weights.append(dense)
        first += len(position)
    vertices, faces, weights = np.concatenate(vertices), np.concatenate(faces), np.concatenate(weights)
    if not (weights.sum(1) > 0).all():
        raise ValueError(f"{path}: {(weights.sum(1) <= 0).sum()} vertices hang on no bone; paint their weights")
    return vertices, faces, weights


def _bone_heads(gltf: GLTF2, path: Path, skin) -> np.ndarray:
    """Where each bone of the skin is in the mesh's bind pose, [bones, 3] in the mesh's unit."""
    if skin.inverseBindMatrices is None:
        raise ValueError(f"{path}: the skin has no inverseBindMatrices, which say where its bones are; export it again")
    # glTF stores matrices by columns
    inverse = _read(gltf, path, skin.inverseBindMatrices).astype(np.float64).reshape(-1, 4, 4).transpose(0, 2, 1)
    return np.linalg.inv(inverse)[:, :3, 3]


def _read(gltf: GLTF2, path: Path, accessor_index: int) -> np.ndarray:
    """The [count, columns] array behind an accessor; normalised integers become fractions."""
    accessor = gltf.accessors[accessor_index]
    if accessor.bufferView is None or accessor.sparse is not None:
        raise ValueError(f"{path} holds compressed or sparse data, which is not read here; export it uncompressed")
    view = gltf.bufferViews[accessor.bufferView]
    data = gltf.get_data_from_buffer_uri(gltf.buffers[view.buffer].uri)
    dtype = np.dtype(_COMPONENT[accessor.componentType]).newbyteorder("<")
    columns = _COLUMNS[accessor.type]
    stride = view.byteStride or columns * dtype.itemsize
    start = (view.byteOffset or 0) + (accessor.byteOffset or 0)
    if start + (accessor.count - 1) * stride + columns * dtype.itemsize > len(data):
        raise ValueError(f"{path} is cut short: an array in it ends after the file's data; copy or export it again")
    array = np.ndarray((accessor.count, columns), dtype, data, start, (stride, dtype.itemsize))
    if accessor.normalized:
        array = array / np.iinfo(dtype).max
    return array


# -- from bones to joints ---------------------------------------------------------------------------------------------


def _fold(gltf: GLTF2, skin, joint_of: dict[str, int]) -> list[int]:
    """The joint each bone of the skin moves with."""
    parent = {child: i for i, node in enumerate(gltf.nodes) for child in node.children or ()}

    def folded(node):
        while node is not None:
            if gltf.nodes[node].name in joint_of:
                return joint_of[gltf.nodes[node].name]
            node = parent.get(node)
        return 0

    return [folded(node) for node in skin.joints]


def _weld(vertices, faces, weights):
    """One vertex instead of several with the same place and weights, in order of appearance; degenerate faces go."""
    _, first, same = np.unique(np.concatenate([vertices, weights], 1), axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    number = np.empty(len(first), np.int64)
    number[order] = np.arange(len(first))
    faces = number[same.reshape(-1)][faces]
    a, b, c = faces.T
    return vertices[first[order]], faces[(a != b) & (b != c) & (c != a)], weights[first[order]]


def _tips_on_skin(path, vertices, weights, joints, ends) -> np.ndarray:
    """The five tips [5, 3]: on each last bone's line, where the skin that moves with it ends."""
    tips = []
    for tip, far in zip(TIP_NAMES, TIP_PARENTS, strict=True):
        direction = ends[tip] - joints[far] if tip in ends else joints[far] - joints[far - 1]
        own = np.flatnonzero(weights[:, far] > 0.5)
        if not len(own):
            raise ValueError(f"{path}: no vertex moves mainly with the bone of {JOINT_NAMES[far]}; check the joint map")
        direction = direction / np.linalg.norm(direction)
        tips.append(joints[far] + direction * ((vertices[own] - joints[far]) @ direction).max())
    return np.array(tips)
