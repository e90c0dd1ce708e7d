"""Other rigged hands: a skinned mesh in a glTF file, folded into the 16 joints of `hrlib.hand.joints`.

Any hand with bones can be used once a map says which bone is which joint. The map of the WebXR generic hand (npm
`@webxr-input-profiles/assets`, 25 joints of the W3C's WebXR Hand Input specification) is ready here.
"""

import base64
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import unquote, unquote_to_bytes

import numpy as np
import torch
from jaxtyping import Float
from pygltflib import (
    GLTF2,
    TRIANGLES,
    Accessor,
    AccessorSparseIndices,
    AccessorSparseValues,
    Attributes,
    Mesh,
    Node,
    Skin,
)
from scipy.spatial.transform import Rotation

from ..support.checks import SIDES, require_one_of
from ..support.files import read_whole
from .joints import FINGERS, JOINT_NAMES, TIP_NAMES, TIP_PARENTS
from .mesh_rig import MAINLY, SkinnedMesh, rig_of
from .rig import HandRig

# The thumb has no bone before its metacarpal; the other fingers' metacarpals are the palm, which moves with the wrist.
WEBXR_BONES = {
    "wrist": ("wrist", *(f"{finger}-finger-metacarpal" for finger in FINGERS[1:])),
    "thumb_base": "thumb-metacarpal",
    "thumb_middle": "thumb-phalanx-proximal",
    "thumb_far": "thumb-phalanx-distal",
    "thumb_tip": "thumb-tip",
}
for _finger in FINGERS[1:]:
    for _part, _bone in {"base": "proximal", "middle": "intermediate", "far": "distal"}.items():
        WEBXR_BONES[f"{_finger}_{_part}"] = f"{_finger}-finger-phalanx-{_bone}"
    WEBXR_BONES[f"{_finger}_tip"] = f"{_finger}-finger-tip"

FINGER_WORDS = {"thumb": "thumb", "index": "index", "middle": "middle", "ring": "ring", "pinky": "pinky|little"}
PARTS = ("base", "middle", "far", "tip")
# words of anatomy in the order of a finger's bones; bones without any are told by their numbers
PART_WORDS = ("meta|palm|carpal", "proximal", "intermediate|medial", "distal", "tip|end|null|nub")
NUMBERED = 3.5  # rank of bones without such a word: before the tip, which SteamVR's names call "end" behind 0, 1 and 2

# glTF 2.0, section 3.6.2.2: accessor component types and element sizes
COMPONENTS = {5120: np.int8, 5121: np.uint8, 5122: np.int16, 5123: np.uint16, 5125: np.uint32, 5126: np.float32}
COLUMNS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}
Place = Accessor | AccessorSparseIndices | AccessorSparseValues  # what says where numbers lie
MAGIC = b"glTF"  # with which a .glb begins
ARM = 16  # in place of a joint: bones before the wrist
EVEN = 1.02  # factor by which scales may differ and still be rounded
TIP_REACH = 0.5  # of the bone before: skin beyond a fourth bone that reaches less far makes it a finger's tip
MOST_ROWS = 2**24  # of an array that a file does not hold itself
NO_SKIN = "{} has no skin: no mesh in it hangs on bones; export the hand together with its armature"
# what a file may require: kinds of extensions that change colours alone, and whole numbers as coordinates, which are read
HARMLESS = ("KHR_materials_", "KHR_texture_", "EXT_texture_", "KHR_lights_", "KHR_mesh_quantization")


def bones_by_name(
    names: Iterable[str], side: str = "right", tips: Collection[str] | None = None
) -> dict[str, str | tuple[str, ...]]:
    """Which bone is which joint, by the words in the bones' names, as `load_gltf` takes it.

    Our own names and WebXR's are known. Else a bone belongs to the finger it is named after. A finger's bones are in order by
    anatomy (metacarpal, proximal, intermediate, distal, tip) or by number. Three are base, middle and far; a fourth is the
    tip, unless `tips` says that it is none: then the first one is in the palm. Metacarpals move with the wrist, but the
    thumb's is its base. Bones of the other side are left aside.

    Args:
        names: of all bones.
        side: of the hand.
        tips: bones at the ends of fingers, where that is known.

    Raises:
        ValueError: a finger has too few or too many bones, or there is no hand or wrist; names what there is.
    """
    other, everything = "left" if side == "right" else "right", list(names)
    names = [name for name in everything if not _of_side(name, other) and "marker" not in name.lower()]
    if set(JOINT_NAMES) <= set(names):
        return {point: point for point in (*JOINT_NAMES, *TIP_NAMES) if point in names}
    wanted = {bone for named in WEBXR_BONES.values() for bone in ((named,) if isinstance(named, str) else named)}
    if wanted <= set(names):
        return dict(WEBXR_BONES)
    of_finger = {f: [name for name in names if re.search(word, name.lower())] for f, word in FINGER_WORDS.items()}
    rest = [name for name in names if not any(name in group for group in of_finger.values())]
    wrist = [name for name in rest if re.search("wrist", name.lower())] or [
        name for name in rest if re.search("hand", name.lower()) and not re.search("arm", name.lower())
    ]
    found: dict[str, str | tuple[str, ...]] = {}
    palm: list[str] = []
    for finger, group in of_finger.items():
        ordered = sorted(group, key=_place_along_finger)
        if finger != "thumb":
            palm += [name for name in ordered if _place_along_finger(name)[0] == 0]
            ordered = [name for name in ordered if name not in palm]
        numbered = _place_along_finger(ordered[-1])[0] == NUMBERED if ordered else False
        if len(ordered) == 4 and numbered and tips is not None and ordered[3] not in tips:
            palm.append(ordered.pop(0))
        if len(ordered) == 5 and not numbered:  # four and a tip: Oculus's thumb and little finger begin in the palm
            palm.append(ordered.pop(0))
        if len(ordered) not in (3, 4):
            if not ordered and any(re.search(FINGER_WORDS[finger], name.lower()) for name in everything):
                raise ValueError(f"the {finger}'s bones are named after the {other} hand; say so (--side {other})")
            raise ValueError(
                f"the {finger} must have three bones and maybe a tip, got {ordered or 'none'} of {sorted(names)}; "
                "say which bone is which joint in a file (--bones)"
            )
        found |= {f"{finger}_{part}": name for part, name in zip(PARTS, ordered, strict=False)}
    if not wrist:
        raise ValueError(f"no bone of the {side} hand or wrist among {sorted(names)}; name it in a file (--bones)")
    return {"wrist": (min(wrist, key=len), *palm)} | found


def _of_side(name: str, side: str) -> bool:
    """Whether a bone is named after this side: Left, hand.L, l_hand, lHand."""
    initial = side[0]
    marked = re.search(rf"{side}|(?:^|[._ -]){initial}(?:$|[._ -])", name.lower())
    return bool(marked or re.search(rf"(?:^|[._ -])[{initial}{initial.upper()}](?=[A-Z][a-z])", name))


def _place_along_finger(name: str) -> tuple[float, int, str]:
    """Rank of a bone among its finger's: by its word of anatomy, by the last number in its name, then by letters."""
    words = [place for place, word in enumerate(PART_WORDS) if re.search(word, name.lower())]
    numbers = re.findall(r"\d+", name)
    return words[0] if words else NUMBERED, int(numbers[-1]) if numbers else 0, name


def load_gltf(
    path: str | Path,
    bones: Mapping[str, str | tuple[str, ...]],
    unit_mm: float | None = None,
    cloud_points: int = 2048,
    side: str = "right",
    dtype: torch.dtype = torch.float32,
) -> HandRig:
    """The hand in a .glb or .gltf file, made a rig by `mesh_rig.rig_of`.

    Joints are where the bones are when the mesh is in its bind pose (the inverses of inverseBindMatrices). A scale or mirror
    of the armature's nodes counts. All meshes of the hand's skin are read. An arm or body with bones of its own is cut off.

    Args:
        bones: the bone of each of the 16 joints and, if there are such, of tips. Of several bones the first turns at the
            joint, the others move with it. A tip's bone moves with its finger's far joint; a bone that is not named moves
            with its nearest ancestor that is, or with the wrist. What hangs on bones before the wrist is cut off.
        unit_mm: millimetres of one unit of the file; None: metres, centimetres or millimetres, whichever makes a hand of it.
        cloud_points: of P.
        side: "left" mirrors the mesh into the right hand that this project poses.

    Raises:
        FileNotFoundError: there is no file.
        ValueError: it is no glTF, has no skinned triangles, lacks bones or files, requires an unknown extension, has bones of
            uneven scale, or shows a hand of the other side or of no hand's size.
    """
    path = Path(path)
    require_one_of(SIDES, side=side)
    if not set(JOINT_NAMES) <= set(bones) <= {*JOINT_NAMES, *TIP_NAMES}:
        missing, unknown = set(JOINT_NAMES) - set(bones), set(bones) - {*JOINT_NAMES, *TIP_NAMES}
        raise ValueError(
            "bones must name a bone for each joint of hrlib.hand.joints, and may for its tips: "
            f"missing {sorted(missing)}, unknown {sorted(unknown)}"
        )
    bones = {point: (named,) if isinstance(named, str) else tuple(named) for point, named in bones.items()}
    gltf = _open(path)
    with _told_of(path):
        mesh, mirrored = _hand_of(gltf, path, bones)
        return rig_of(mesh.mirrored() if (side == "left") != mirrored else mesh, unit_mm, cloud_points).to(dtype)


@contextmanager
def _told_of(path: Path) -> Iterator[None]:
    """Around what reads a file's parts, whose indices and numbers lead anywhere: errors become ValueErrors that name it."""
    try:
        yield
    except Exception as error:
        if isinstance(error, ValueError) and str(path) in str(error):
            raise
        raise ValueError(
            f"{path}: no hand can be made of it: {error}"
            if isinstance(error, ValueError)
            else f"{path}: no hand can be made of its parts ({error!r}); export it again"
        ) from error


def _hand_of(gltf: GLTF2, path: Path, bones: Mapping[str, tuple[str, ...]]) -> tuple[SkinnedMesh, bool]:
    """The hand as its bones move it, in the file's unit, and whether the armature mirrors it."""
    named = {bone for several in bones.values() for bone in several}
    parts = _skinned_meshes(gltf, path, [bone for several in bones.values() for bone in several])
    (skin, _), read, first = parts[0], [], 0
    inverse = _inverse_binds(gltf, path, skin)
    scale, mirrored = _scale_of_scene(gltf, path, skin, inverse, named)
    names, heads = [gltf.nodes[node].name for node in skin.joints], np.linalg.inv(inverse)[:, :3, 3]
    wrist = bones["wrist"][0]
    for other, meshes in parts:
        vertices, faces, weights = _read_meshes(gltf, path, meshes, len(other.joints))
        at = [gltf.nodes[node].name for node in other.joints].index(wrist)
        # each skin has a frame of its own, in which its meshes were bound to the same bones
        moved = np.linalg.inv(inverse[names.index(wrist)]) @ _inverse_binds(gltf, path, other)[at]
        if other is not skin:
            vertices = vertices @ moved[:3, :3].T + moved[:3, 3]
        read.append((vertices, faces + first, weights @ np.eye(ARM + 1)[_joint_of_each_bone(gltf, other, bones)]))
        first += len(vertices)
    vertices, faces, weights = _without_arm(path, *map(np.concatenate, zip(*read, strict=True)))
    ends = {point: scale * heads[names.index(several[0])] for point, several in bones.items()}
    return SkinnedMesh(path.stem, scale * vertices, faces, weights, ends), mirrored


def _without_arm(
    path: Path, vertices: np.ndarray, faces: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The hand's part of a mesh whose last column of weights is that of the arm; the other columns remain."""
    total = weights.sum(1)
    kept = faces[(weights[:, ARM] <= MAINLY * total)[faces].all(1)]
    index, corners = np.unique(kept, return_inverse=True)
    if not len(index):
        raise ValueError(f"{path}: no skin hangs on the hand's bones; check the joint map")
    if not (total[index] > 0).all():
        raise ValueError(f"{path}: {(total[index] <= 0).sum()} vertices hang on no bone; paint their weights")
    return vertices[index], corners.reshape(-1, 3), weights[index, :ARM]


# -- the file ---------------------------------------------------------------------------------------------------------


def _open(path: Path) -> GLTF2:
    if not path.is_file():
        raise FileNotFoundError(f"no glTF file at {path}")
    try:
        with path.open("rb") as file:  # programs give one kind the other's ending
            binary = file.read(len(MAGIC)) == MAGIC
        gltf = (GLTF2.load_binary if binary else GLTF2.load_json)(str(path))
        if not (gltf and gltf.asset and gltf.buffers):
            raise ValueError("it holds no asset or no data")
    except Exception as error:  # pygltflib passes on whatever its parsers stumble over
        raise ValueError(
            f"{path} is not a readable glTF 2.0 file ({type(error).__name__}: {error}); export it again as .glb"
        ) from error
    unknown = [name for name in gltf.extensionsRequired or () if not name.startswith(HARMLESS)]
    if unknown:
        raise ValueError(f"{path} requires {', '.join(unknown)}, which is not read here; export it without")
    with _told_of(path):
        _refuse_morphed_nodes(path, binary)
    return gltf


def _refuse_morphed_nodes(path: Path, binary: bool) -> None:
    """Raise ValueError for a node's own morph weights, which pygltflib leaves out."""
    content = read_whole(path)
    text = content[20 : 20 + int.from_bytes(content[12:16], "little")] if binary else content
    for node in json.loads(text).get("nodes", ()):
        if "mesh" in node and any(node.get("weights") or ()):
            raise ValueError(
                f"{path}: node {node.get('name', node['mesh'])} has morph weights of its own, which are not read; apply its "
                "shape keys, and export it again"
            )


def _skinned_meshes(gltf: GLTF2, path: Path, wanted: list[str]) -> list[tuple[Skin, list[Mesh]]]:
    """The skins of the bones that have all the wanted names, each with the meshes that hang on it.

    A file may hold several skeletons, of which one is taken. Some programs write a skin for each mesh of a skeleton.
    """
    skinned = [node for node in gltf.nodes if node.mesh is not None and node.skin is not None]
    if not skinned:
        raise ValueError(NO_SKIN.format(path))
    skins = sorted({node.skin for node in skinned})
    bones = [[gltf.nodes[i].name for i in gltf.skins[skin].joints] for skin in skins]
    missing = [[bone for bone in wanted if bone not in names] for names in bones]
    best = min(range(len(skins)), key=lambda i: len(missing[i]))
    if missing[best]:
        raise ValueError(f"{path} lacks the bones {missing[best]} of the map; it has {sorted(map(str, bones[best]))}")
    skeleton = _bones_of(gltf, gltf.skins[skins[best]], wanted)
    same = [skin for skin in skins if _bones_of(gltf, gltf.skins[skin], wanted) == skeleton]
    skin_of = {node.mesh: node.skin for node in reversed(skinned) if node.skin in same}  # the first of a mesh's nodes
    meshes = {skin: sorted(mesh for mesh, own in skin_of.items() if own == skin) for skin in same}
    return [(gltf.skins[skin], [gltf.meshes[mesh] for mesh in own]) for skin, own in meshes.items() if own]


def _bones_of(gltf: GLTF2, skin: Skin, wanted: list[str]) -> list[int | None]:
    """The nodes of the bones that have the wanted names; None where the skin lacks one."""
    nodes = {gltf.nodes[node].name: node for node in reversed(skin.joints)}
    return [nodes.get(name) for name in wanted]


def _parents(gltf: GLTF2) -> dict[int, int]:
    """The parent of each node that has one. Raises ValueError where nodes hang in a circle."""
    parent = {child: i for i, node in enumerate(gltf.nodes) for child in node.children or ()}
    for node in parent:
        above = node
        for _ in parent:
            above = parent.get(above)
            if above is None:
                break
        else:
            raise ValueError(f"node {node} ({gltf.nodes[node].name}) is below itself; export it again")
    return parent


def _read_meshes(
    gltf: GLTF2, path: Path, meshes: list[Mesh], bone_count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All primitives of meshes: vertices [V, 3] in the file's unit, faces [F, 3], weights [V, bones]."""
    vertices, faces, weights, first = [], [], [], 0
    for primitive, morphs in ((primitive, mesh.weights or ()) for mesh in meshes for primitive in mesh.primitives):
        has = primitive.attributes
        if primitive.mode not in (None, TRIANGLES) or has.JOINTS_0 is None or has.WEIGHTS_0 is None:
            raise ValueError(
                f"{path}: the mesh must be triangles with JOINTS_0 and WEIGHTS_0; export skinned triangles"
            )
        position = _finite(_read(gltf, path, has.POSITION), "POSITION")
        for weight, target in zip(morphs, primitive.targets or (), strict=False):
            if (
                weight
                and (moved := dict(target if isinstance(target, dict) else vars(target)).get("POSITION")) is not None
            ):
                position += weight * _read(gltf, path, moved)
        index = np.arange(len(position)) if primitive.indices is None else _read(gltf, path, primitive.indices)[:, 0]
        dense = np.zeros((len(position), bone_count))
        for joints, values in _sets_of_four(has):
            joints, values = _read(gltf, path, joints), _finite(_read(gltf, path, values), "WEIGHTS")
            if joints.max(initial=0) >= bone_count:
                raise ValueError(f"JOINTS name bone {joints.max()} of {bone_count}; export it again")
            np.add.at(dense, (np.arange(len(position))[:, None], joints), values)
        if len(index) % 3 or index.max(initial=0) >= len(position):
            raise ValueError(
                f"{len(index)} corners up to {index.max(initial=0)} of {len(position)} vertices make no triangles"
            )
        vertices.append(position)
        faces.append(index.astype(np.int64).reshape(-1, 3) + first)
        weights.append(dense)
        first += len(position)
    return np.concatenate(vertices), np.concatenate(faces), np.concatenate(weights)


def _finite(array: np.ndarray, name: str) -> Float[np.ndarray, "count columns"]:
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinite numbers; mend the mesh, and export it again")
    return array.astype(np.float64)


def _sets_of_four(attributes: Attributes) -> list[tuple[int, int]]:
    """Accessors of joints and weights: glTF has four bones a vertex in each set, and as many sets as are needed."""
    has = vars(attributes)
    numbers = [name.removeprefix("JOINTS_") for name in has if name.startswith("JOINTS_")]
    pairs = [(has[f"JOINTS_{n}"], has.get(f"WEIGHTS_{n}")) for n in numbers]
    return [(joints, weights) for joints, weights in pairs if joints is not None and weights is not None]


def _inverse_binds(gltf: GLTF2, path: Path, skin: Skin) -> Float[np.ndarray, "bones 4 4"]:
    """From the mesh's frame to each bone's, where the mesh was bound to them."""
    if skin.inverseBindMatrices is None:
        raise ValueError(f"{path}: the skin has no inverseBindMatrices, which say where its bones are; export it again")
    # glTF stores matrices by columns
    return _read(gltf, path, skin.inverseBindMatrices).astype(np.float64).reshape(-1, 4, 4).transpose(0, 2, 1)


def _scale_of_scene(
    gltf: GLTF2, path: Path, skin: Skin, inverse: Float[np.ndarray, "bones 4 4"], named: Collection[str]
) -> tuple[float, bool]:
    """By what the named bones' nodes scale the skin, and whether they mirror it.

    A Blender file in centimetres hangs below a node of scale 0.01. Raises ValueError for bones of uneven scale.
    """
    parent = _parents(gltf)
    scales, signs = {}, []
    for joint, matrix in zip(skin.joints, inverse, strict=True):
        name, linear = gltf.nodes[joint].name, matrix[:3, :3]
        while joint is not None:
            linear, joint = _linear(gltf.nodes[joint]) @ linear, parent.get(joint)
        if name not in named:
            continue
        least, most = np.linalg.svd(linear, compute_uv=False)[[2, 0]]
        if not 0 < most <= EVEN * least:
            raise ValueError(
                f"{path}: bone '{name}' is scaled unevenly ({least:.3g} to {most:.3g}); apply the scale of armature and bones "
                "(in Blender: Object, Apply, All Transforms), and export again"
            )
        scales[name] = np.cbrt(abs(np.linalg.det(linear)))
        signs.append(np.linalg.det(linear) < 0)
    small, large = min(scales, key=scales.get), max(scales, key=scales.get)
    if scales[large] > EVEN * scales[small] or len(set(signs)) > 1:
        raise ValueError(
            f"{path}: bones '{small}' and '{large}' are scaled by {scales[small]:.3g} and {scales[large]:.3g}, or one of them "
            "is mirrored; reset the pose of the armature, apply its scale, and export again"
        )
    scale = float(np.median(list(scales.values())))
    return (1.0 if abs(scale - 1) < 1e-3 else scale), signs[0]  # bones that only turn, rounded


def _linear(node: Node) -> Float[np.ndarray, "3 3"]:
    """Rotation and scale of a node."""
    if node.matrix is not None:
        return np.reshape(node.matrix, (4, 4)).T[:3, :3]
    R = np.eye(3) if node.rotation is None else Rotation.from_quat(node.rotation).as_matrix()
    return R * (node.scale or [1.0, 1.0, 1.0])


def _buffer(gltf: GLTF2, path: Path, index: int) -> bytes:
    """The bytes of a buffer: the file's own, a data URI's, or a neighbouring file's (glTF 2.0, section 3.6.1)."""
    uri = gltf.buffers[index].uri
    if uri is None:
        if not (data := gltf.binary_blob()):
            raise ValueError(f"{path} is cut short: its data are missing; copy or export it again")
        return data
    if uri.startswith("data:"):
        head, _, data = uri.partition(",")
        return base64.b64decode(data) if head.endswith(";base64") else unquote_to_bytes(data)
    if not (file := path.parent / unquote(uri)).is_file():
        raise ValueError(f"{path} lacks the file {unquote(uri)}, which belongs beside it; copy both, or export a .glb")
    return read_whole(file)


def _read(gltf: GLTF2, path: Path, accessor_index: int) -> np.ndarray:
    """The [count, columns] array behind an accessor; normalised integers become fractions.

    A sparse accessor says some rows apart from the others, which are 0 where they are not said (glTF 2.0, section 3.6.2.3).
    """
    if accessor_index is None or not 0 <= accessor_index < len(gltf.accessors):
        raise ValueError(f"it names array {accessor_index} of {len(gltf.accessors)}; export it again")
    accessor = gltf.accessors[accessor_index]
    dtype, columns, sparse = COMPONENTS[accessor.componentType], COLUMNS[accessor.type], accessor.sparse
    if accessor.bufferView is None and sparse is None:
        raise ValueError(f"{path} holds compressed data, which is not read here; export it uncompressed")
    if accessor.bufferView is None:
        if accessor.count > MOST_ROWS:
            raise ValueError(
                f"{path}: an array of {accessor.count:,} rows in it, more than any hand has; export it again"
            )
        array = np.zeros((accessor.count, columns), dtype)
    else:
        array = _rows(gltf, path, accessor, (accessor.count, columns), dtype)
    if sparse is not None:
        rows = _rows(gltf, path, sparse.indices, (sparse.count, 1), COMPONENTS[sparse.indices.componentType])[:, 0]
        array = array.copy()
        array[rows] = _rows(gltf, path, sparse.values, (sparse.count, columns), dtype)
    return array / np.iinfo(dtype).max if accessor.normalized else array


def _rows(gltf: GLTF2, path: Path, place: Place, shape: tuple[int, int], kind: type) -> np.ndarray:
    """The numbers [count, columns] that a buffer has at a place."""
    view, (count, columns) = gltf.bufferViews[place.bufferView], shape
    data, dtype = _buffer(gltf, path, view.buffer), np.dtype(kind).newbyteorder("<")
    row = columns * dtype.itemsize
    stride, start = view.byteStride or row, (view.byteOffset or 0) + (place.byteOffset or 0)
    if start + (count - 1) * stride + row > len(data):
        raise ValueError(f"{path} is cut short: an array in it ends after the file's data; copy or export it again")
    return np.ndarray(shape, dtype, data, start, (stride, dtype.itemsize))


# -- from bones to joints ---------------------------------------------------------------------------------------------


def _joint_of_each_bone(gltf: GLTF2, skin: Skin, bones: Mapping[str, tuple[str, ...]]) -> list[int]:
    """The joint that each bone of the skin moves with, or `ARM`."""
    joint_of = {}
    for point, joint in zip((*JOINT_NAMES, *TIP_NAMES), (*range(16), *TIP_PARENTS), strict=True):
        joint_of |= dict.fromkeys(bones.get(point, ()), joint)
    parent = _parents(gltf)

    def ancestors(node: int | None) -> Iterator[int]:
        while node is not None:
            yield node
            node = parent.get(node)

    wrist = next(node for node in skin.joints if gltf.nodes[node].name == bones["wrist"][0])
    before = {node for node in ancestors(parent.get(wrist)) if node in skin.joints}  # of a flat file: none

    def folded(bone: int) -> int:
        for node in ancestors(bone):
            if gltf.nodes[node].name in joint_of:
                return joint_of[gltf.nodes[node].name]
            if node in before:
                return ARM
        return 0

    return [folded(node) for node in skin.joints]


# -- names ------------------------------------------------------------------------------------------------------------


def named_bones(path: str | Path, side: str = "right") -> dict[str, str | tuple[str, ...]]:
    """Which bone of a file is which joint, by names (`bones_by_name`), and by the skin where names do not tell tips.

    Raises:
        FileNotFoundError, ValueError: as `load_gltf` and `bones_by_name`.
    """
    path = Path(path)
    gltf = _open(path)
    if not gltf.skins:
        raise ValueError(NO_SKIN.format(path))
    with _told_of(path):
        number = max(range(len(gltf.skins)), key=lambda i: len(gltf.skins[i].joints))
        skin = gltf.skins[number]
        names = [str(gltf.nodes[i].name) for i in skin.joints]
        if not any(gltf.nodes[i].name for i in skin.joints):
            raise ValueError(
                f"{path}: its bones have no names, which tell one from the other; name them and export it again"
            )
        tips = None
        with suppress(Exception):  # `load_gltf` will say what is wrong
            meshes = [gltf.meshes[n.mesh] for n in gltf.nodes if n.mesh is not None and n.skin == number]
            mesh, inverse = _read_meshes(gltf, path, meshes, len(names)), _inverse_binds(gltf, path, skin)
            tips = _tip_bones(gltf, skin, mesh, inverse)
        return bones_by_name(names, side, tips)


def _tip_bones(gltf: GLTF2, skin: Skin, mesh: tuple, inverse: np.ndarray) -> set[str] | None:
    """Names of bones beyond whose head there is no skin, or little beside the length of the bone before.

    None for a flat file, which does not say what the bone before is.
    """
    vertices, _, weights = mesh
    heads, owner = np.linalg.inv(inverse)[:, :3, 3], weights.argmax(1)
    parent = _parents(gltf)
    if not any(node in parent and parent[node] in skin.joints for node in skin.joints):
        return None
    tips = set()
    for i, node in enumerate(skin.joints):
        if parent.get(node) not in skin.joints:
            continue
        before = heads[i] - heads[skin.joints.index(parent[node])]
        own = (vertices[owner == i] - heads[i]) @ before
        if own.max(initial=0.0) < TIP_REACH * (before @ before):
            tips.add(str(gltf.nodes[node].name))
    return tips
