"""Other rigged hands: a skinned mesh in a glTF file, folded into the 16 joints of `hrlib.hand.joints`.

Any hand with bones can be used once a map says which bone is which joint. The map of the WebXR generic hand (npm
`@webxr-input-profiles/assets`, 25 joints of the W3C's WebXR Hand Input specification) is ready here.
"""

import base64
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import unquote, unquote_to_bytes

import numpy as np
import torch
from jaxtyping import Float, Int
from pygltflib import GLTF2, TRIANGLES, Attributes, Mesh, Skin

from ..support.checks import SIDES, require_one_of
from .joints import FINGERS, JOINT_NAMES, TIP_NAMES, TIP_PARENTS
from .rig import HandRig, build_rig, check_hand, load_hand

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
PART_WORDS = ("metacarpal|palm|carpal", "proximal", "intermediate|medial", "distal", "tip|end")

# glTF 2.0, section 3.6.2.2: accessor component types and element sizes
COMPONENTS = {5120: np.int8, 5121: np.uint8, 5122: np.int16, 5123: np.uint16, 5125: np.uint32, 5126: np.float32}
COLUMNS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}
OVERSAMPLING = 8  # points drawn for each that is kept: enough for an even cloud
MAINLY = 0.5  # weight above which a vertex counts as a bone's own
# what a file may require: kinds of extensions that change colours alone, and whole numbers as coordinates, which are read
HARMLESS = ("KHR_materials_", "KHR_texture_", "EXT_texture_", "KHR_lights_", "KHR_mesh_quantization")
HAND_MM = (100.0, 300.0)  # from the wrist to the tip of the middle finger: a child's and a giant's


def hand_from_file(path: str | Path, bones: str | Path | None = None, side: str = "right") -> HandRig:
    """The hand in a rigged .glb or .gltf file, or in an asset file of ours (.safetensors).

    Args:
        path: the file.
        bones: a JSON file {"wrist": "Hand_R", "index_base": ["Index1", "Index0"], ...}, see `load_gltf`; None finds bones by
            their names (`bones_by_name`).
        side: of a glTF's hand; "left" is mirrored.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no hand, or its bones are not found.
    """
    path = Path(path)
    if path.suffix.lower() == ".safetensors":
        return load_hand(path)
    if bones is None:
        gltf = _open(path)
        skins = [[str(gltf.nodes[i].name) for i in skin.joints] for skin in gltf.skins or ()]
        if not skins:
            raise ValueError(
                f"{path} has no skin: no mesh in it hangs on bones; export the hand together with its armature"
            )
        return load_gltf(path, bones_by_name(max(skins, key=len), side), side=side)
    try:
        named = json.loads(Path(bones).read_text(encoding="utf-8"))
        named = {str(joint): tuple(bone) if isinstance(bone, list) else str(bone) for joint, bone in named.items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(f'{bones} is no map of bones ({error}); write JSON: {{"wrist": "Hand_R", ...}}') from error
    return load_gltf(path, named, side=side)


def bones_by_name(names: Iterable[str], side: str = "right") -> dict[str, str | tuple[str, ...]]:
    """Which bone is which joint, by the words in the bones' names, as `load_gltf` takes it.

    Our own names and WebXR's are known. Else a bone belongs to the finger it is named after. A finger's bones are in order by
    anatomy (metacarpal, proximal, intermediate, distal, tip) or by number. Three are base, middle and far; a fourth is the
    tip. Metacarpals move with the wrist, but the thumb's is its base. Bones of the other side are left aside.

    Raises:
        ValueError: a finger has too few or too many bones, or there is no hand or wrist; names what there is.
    """
    other = "left" if side == "right" else "right"
    names = [name for name in names if not re.search(rf"{other}|(?:^|[._ -]){other[0]}(?:$|[._ -])", name.lower())]
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
        if len(ordered) not in (3, 4):
            raise ValueError(
                f"the {finger} must have three bones and maybe a tip, got {ordered or 'none'} of {sorted(names)}; "
                "say which bone is which joint in a file (--bones)"
            )
        found |= {f"{finger}_{part}": name for part, name in zip(PARTS, ordered, strict=False)}
    if not wrist:
        raise ValueError(f"no bone of the {side} hand or wrist among {sorted(names)}; name it in a file (--bones)")
    return {"wrist": (min(wrist, key=len), *palm)} | found


def _place_along_finger(name: str) -> tuple[int, int]:
    """Rank of a bone among its finger's: by its word of anatomy, then by the last number in its name."""
    words = [place for place, word in enumerate(PART_WORDS) if re.search(word, name.lower())]
    numbers = re.findall(r"\d+", name)
    return words[0] if words else len(PART_WORDS), int(numbers[-1]) if numbers else 0


def load_gltf(
    path: str | Path,
    bones: Mapping[str, str | tuple[str, ...]],
    unit_mm: float = 1000.0,
    cloud_points: int = 2048,
    side: str = "right",
    dtype: torch.dtype = torch.float32,
) -> HandRig:
    """The hand in a .glb or .gltf file.

    Joints are where the bones are when the mesh is in its bind pose (the inverses of inverseBindMatrices). Tips are where
    the skin ends, as on the template, because rigs put their tip bones at various depths inside the finger. Vertices that
    a file repeats along texture seams become one. The cloud P is `sample_surface`'s. A scale of the armature's nodes counts.

    Args:
        bones: the bone of each of the 16 joints and, if there are such, of tips. Of several bones the first turns at the
            joint, the others move with it. A tip's bone moves with its finger's far joint; a bone that is not named moves
            with its nearest ancestor that is, or with the wrist.
        unit_mm: millimetres per unit of the file's mesh (glTF's own unit is the metre).
        side: "left" mirrors the mesh into the right hand that this project poses.

    Raises:
        FileNotFoundError: there is no file.
        ValueError: it is no glTF, has no skinned triangles, lacks bones or files, requires an unknown extension, or shows a
            hand of the other side or of no hand's size.
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
    try:
        hand = _hand_of(gltf, path, bones, unit_mm, cloud_points, side)
        check_hand(hand)
    except Exception as error:  # a damaged file's indices and numbers lead anywhere
        if isinstance(error, ValueError) and str(path) in str(error):
            raise
        text = str(error) if isinstance(error, ValueError) else repr(error)
        raise ValueError(
            f"{path}: no hand can be made of its parts ({text}); check unit_mm, or export it again"
        ) from error
    return hand.to(dtype)


def _hand_of(
    gltf: GLTF2, path: Path, bones: Mapping[str, tuple[str, ...]], unit_mm: float, cloud_points: int, side: str
) -> HandRig:
    mesh, skin = _skinned_mesh(gltf, path, [bone for named in bones.values() for bone in named])
    vertices, faces, bone_weights = _read_mesh(gltf, path, mesh, len(skin.joints))
    heads, scale_mm = _bone_heads(gltf, path, skin), unit_mm * _scale_of_scene(gltf, path, skin)
    if side == "left":
        vertices, heads = vertices * [-1, 1, 1], heads * [-1, 1, 1]
        faces = faces[:, ::-1]  # a mirrored triangle is seen from its other side
    weights = bone_weights @ np.eye(16)[_joint_of_each_bone(gltf, skin, bones)]
    weights /= weights.sum(1, keepdims=True)
    vertices, faces, weights = _weld(vertices * scale_mm, faces, weights)
    names = [gltf.nodes[node].name for node in skin.joints]
    ends = {point: scale_mm * heads[names.index(named[0])] for point, named in bones.items()}
    joints = np.array([ends[joint] for joint in JOINT_NAMES])
    tips = _tips_on_skin(path, vertices, weights, joints, ends)
    _check_length(path, np.linalg.norm(tips[2] - joints[0]), unit_mm)
    cloud = sample_surface(vertices, faces, cloud_points)
    return build_rig(path.stem, (vertices, faces.copy(), weights), joints, tips, cloud)


def sample_surface(
    vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"], count: int, seed: int = 0
) -> tuple[Int[np.ndarray, " N"], Float[np.ndarray, "N 3"]]:
    """Triangle and barycentric coordinates of `count` points evenly over a mesh. Same seed, same points.

    Eight times as many points are drawn with equal chance for equal area. Then each chosen point is the one farthest from
    all chosen before (Eldar et al., "The farthest point strategy for progressive image sampling", 1997): no two are close,
    and no part of the surface is far from all.
    """
    if count < 1:
        raise ValueError(f"count (cloud_points) must be at least 1, got {count}")
    corners = vertices[faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    random = np.random.default_rng(seed)
    face = random.choice(len(faces), size=OVERSAMPLING * count, p=area / area.sum())
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


def _open(path: Path) -> GLTF2:
    if not path.is_file():
        raise FileNotFoundError(f"no glTF file at {path}")
    try:
        gltf = GLTF2().load(str(path))
        if not (gltf and gltf.asset and gltf.buffers):
            raise ValueError("it holds no asset or no data")
    except Exception as error:  # pygltflib passes on whatever its parsers stumble over
        raise ValueError(f"{path} is not a readable glTF 2.0 file ({error!r}); export it again as .glb") from error
    unknown = [name for name in gltf.extensionsRequired or () if not name.startswith(HARMLESS)]
    if unknown:
        raise ValueError(f"{path} requires {', '.join(unknown)}, which is not read here; export it without")
    return gltf


def _skinned_mesh(gltf: GLTF2, path: Path, wanted: list[str]) -> tuple[Mesh, Skin]:
    """The mesh and skin whose bones have all the wanted names; a file may hold several."""
    skinned = [node for node in gltf.nodes if node.mesh is not None and node.skin is not None]
    if not skinned:
        raise ValueError(
            f"{path} has no skin: no mesh in it hangs on bones; export the hand together with its armature"
        )
    bones = [[gltf.nodes[i].name for i in gltf.skins[node.skin].joints] for node in skinned]
    missing = [[bone for bone in wanted if bone not in names] for names in bones]
    best = min(range(len(skinned)), key=lambda i: len(missing[i]))
    if missing[best]:
        raise ValueError(f"{path} lacks the bones {missing[best]} of the map; it has {sorted(map(str, bones[best]))}")
    return gltf.meshes[skinned[best].mesh], gltf.skins[skinned[best].skin]


def _read_mesh(gltf: GLTF2, path: Path, mesh: Mesh, bone_count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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
        dense = np.zeros((len(position), bone_count))
        for joints, values in _sets_of_four(has):
            joints, values = _read(gltf, path, joints), _read(gltf, path, values).astype(np.float64)
            np.add.at(dense, (np.arange(len(position))[:, None], joints), values)
        vertices.append(position)
        faces.append(index.astype(np.int64).reshape(-1, 3) + first)
        weights.append(dense)
        first += len(position)
    vertices, faces, weights = np.concatenate(vertices), np.concatenate(faces), np.concatenate(weights)
    if not (weights.sum(1) > 0).all():
        raise ValueError(f"{path}: {(weights.sum(1) <= 0).sum()} vertices hang on no bone; paint their weights")
    return vertices, faces, weights


def _sets_of_four(attributes: Attributes) -> list[tuple[int, int]]:
    """Accessors of joints and weights: glTF has four bones a vertex in each set, and as many sets as are needed."""
    has = vars(attributes)
    numbers = [name.removeprefix("JOINTS_") for name in has if name.startswith("JOINTS_")]
    pairs = [(has[f"JOINTS_{n}"], has.get(f"WEIGHTS_{n}")) for n in numbers]
    return [(joints, weights) for joints, weights in pairs if joints is not None and weights is not None]


def _bone_heads(gltf: GLTF2, path: Path, skin: Skin) -> np.ndarray:
    """Where each bone of the skin is in the mesh's bind pose, [bones, 3] in the mesh's unit."""
    if skin.inverseBindMatrices is None:
        raise ValueError(f"{path}: the skin has no inverseBindMatrices, which say where its bones are; export it again")
    # glTF stores matrices by columns
    inverse = _read(gltf, path, skin.inverseBindMatrices).astype(np.float64).reshape(-1, 4, 4).transpose(0, 2, 1)
    return np.linalg.inv(inverse)[:, :3, 3]


def _scale_of_scene(gltf: GLTF2, path: Path, skin: Skin) -> float:
    """By what the bones' nodes scale the skin: a Blender file in centimetres hangs below a node of scale 0.01."""
    parent = {child: i for i, node in enumerate(gltf.nodes) for child in node.children or ()}
    inverse = _read(gltf, path, skin.inverseBindMatrices).astype(np.float64).reshape(-1, 4, 4)
    scales = []
    for joint, matrix in zip(skin.joints, inverse, strict=True):
        volume = np.linalg.det(matrix[:3, :3])
        while joint is not None:
            node = gltf.nodes[joint]
            if node.matrix is not None:
                volume *= np.linalg.det(np.reshape(node.matrix, (4, 4))[:3, :3])
            volume *= np.prod(node.scale or 1.0)
            joint = parent.get(joint)
        scales.append(np.cbrt(abs(volume)))
    scale = float(np.median(scales))
    return 1.0 if abs(scale - 1) < 1e-3 else scale  # bones that only turn, rounded


def _check_length(path: Path, length_mm: float, unit_mm: float) -> None:
    if not HAND_MM[0] < length_mm < HAND_MM[1]:
        wanted = f"{180 * unit_mm / length_mm:.3g}" if 0 < length_mm < np.inf else "another one"
        raise ValueError(
            f"{path}: the hand is {length_mm:.4g} mm long from the wrist to the tip of the middle finger, a hand has "
            f"{HAND_MM[0]:g} to {HAND_MM[1]:g} mm; unit_mm is {unit_mm:g} (1000 for metres, 10 for centimetres), {wanted} "
            "would make it an adult's"
        )


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
    return file.read_bytes()


def _read(gltf: GLTF2, path: Path, accessor_index: int) -> np.ndarray:
    """The [count, columns] array behind an accessor; normalised integers become fractions."""
    accessor = gltf.accessors[accessor_index]
    if accessor.bufferView is None or accessor.sparse is not None:
        raise ValueError(f"{path} holds compressed or sparse data, which is not read here; export it uncompressed")
    view = gltf.bufferViews[accessor.bufferView]
    data = _buffer(gltf, path, view.buffer)
    dtype = np.dtype(COMPONENTS[accessor.componentType]).newbyteorder("<")
    row = np.dtype((dtype, COLUMNS[accessor.type])).itemsize
    stride, start = view.byteStride or row, (view.byteOffset or 0) + (accessor.byteOffset or 0)
    if start + (accessor.count - 1) * stride + row > len(data):
        raise ValueError(f"{path} is cut short: an array in it ends after the file's data; copy or export it again")
    shape = (accessor.count, COLUMNS[accessor.type])
    array = np.ndarray(shape, dtype, data, start, (stride, dtype.itemsize))
    return array / np.iinfo(dtype).max if accessor.normalized else array


# -- from bones to joints ---------------------------------------------------------------------------------------------


def _joint_of_each_bone(gltf: GLTF2, skin: Skin, bones: Mapping[str, tuple[str, ...]]) -> list[int]:
    """The joint that each bone of the skin moves with."""
    joint_of = {}
    for point, joint in zip((*JOINT_NAMES, *TIP_NAMES), (*range(16), *TIP_PARENTS), strict=True):
        joint_of |= dict.fromkeys(bones.get(point, ()), joint)
    parent = {child: i for i, node in enumerate(gltf.nodes) for child in node.children or ()}

    def folded(node: int | None) -> int:
        while node is not None and gltf.nodes[node].name not in joint_of:
            node = parent.get(node)
        return 0 if node is None else joint_of[gltf.nodes[node].name]

    return [folded(node) for node in skin.joints]


def _weld(vertices: np.ndarray, faces: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One vertex instead of several with the same place and weights, in order of appearance; degenerate faces go."""
    _, first, same = np.unique(np.concatenate([vertices, weights], 1), axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    a, b, c = faces = np.argsort(order)[same.reshape(-1)][faces].T  # argsort of an order is its inverse
    first = first[order]
    return vertices[first], faces.T[(a != b) & (b != c) & (c != a)], weights[first]


def _tips_on_skin(
    path: Path, vertices: np.ndarray, weights: np.ndarray, joints: np.ndarray, ends: Mapping
) -> np.ndarray:
    """The five tips [5, 3]: on each last bone's line, where the skin that moves with it ends."""
    tips = []
    for tip, far in zip(TIP_NAMES, TIP_PARENTS, strict=True):
        direction = ends[tip] - joints[far] if tip in ends else joints[far] - joints[far - 1]
        direction = direction / np.linalg.norm(direction)
        most = weights[:, far].max()
        if most <= 0:
            raise ValueError(f"{path}: no vertex moves with the bone of {JOINT_NAMES[far]}; check the joint map")
        own = vertices[weights[:, far] > min(MAINLY, 0.9 * most)]  # some skins nowhere move mainly with a last bone
        tips.append(joints[far] + direction * ((own - joints[far]) @ direction).max())
    return np.array(tips)
