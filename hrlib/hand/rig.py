"""The rigged hand: mesh, joint frames, skin weights, the point cloud P, and the shape morphs (Sec. 3.3.1).

Everything is in millimetres in the wrist's frame: x to the thumb's side, y along the middle finger's metacarpal, z out of
the palm (`hrlib.hand.joints`). The rest pose is the one in which the mesh was modelled; `rest_rotations` reproduces it.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..support.autograd import for_every_use, full_precision, kept_property
from ..support.files import write_bytes_atomically
from ..support.paths import HAND_ASSET
from ..support.roma_alone import roma
from ..support.tensor_files import read_tensors, tensor_bytes
from .joints import FINGERS, JOINT_NAMES, NEUTRAL_DEG, PARENTS, TIP_PARENTS, limits_rad

SHORTEST_BONE_MM = 1e-6  # a shorter one has no direction
MORPHED = ("vertices_mm", "joints_mm", "tips_mm")  # what morphs move
PALM_MM = (30.0, 300.0)  # from the wrist to the middle finger's base: a newborn's has 40 mm, a giant's 200 mm
OTHER_HANDS = (".glb", ".gltf", ".pkl", ".npz")  # endings of files that `hand.from_file` reads
MOST_MM = 1000.0  # of any point from the wrist, the morphs' ways included


@dataclass(frozen=True, eq=False)
class HandRig:
    """A right hand that can be posed: V vertices, F faces, N cloud points, 16 joints, 5 tips.

    `==` compares objects, since compared tensors have no single truth value. `fingerprint` compares contents.
    """

    name: str
    vertices_mm: Float[Tensor, "V 3"]  # at rest
    faces: Int[Tensor, "F 3"]
    weights: Float[Tensor, "V 16"]  # share of each joint in a vertex's motion; rows sum to one
    joints_mm: Float[Tensor, "16 3"]  # at rest
    tips_mm: Float[Tensor, "5 3"]  # at rest
    R_wrist_rest: Float[Tensor, "16 3 3"]  # each joint's anatomical axes at rest, as columns
    cloud_face: Int[Tensor, " N"]  # the triangle in which each point of P lies
    cloud_bary: Float[Tensor, "N 3"]  # and its barycentric coordinates there
    # by name: how far the whole morph moves "vertices_mm", "joints_mm" and "tips_mm", in mm
    morphs: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    def __post_init__(self):
        n = len(self.vertices_mm)
        wanted = {"vertices_mm": (n, 3), "weights": (n, 16), "joints_mm": (16, 3), "tips_mm": (5, 3)}
        for key, shape in (wanted | {"R_wrist_rest": (16, 3, 3)}).items():
            if (got := tuple(getattr(self, key).shape)) != shape:
                raise ValueError(f"hand '{self.name}': {key} must be {list(shape)}, got {list(got)}")
        if not torch.allclose(self.weights.sum(1), self.weights.new_ones(n), atol=1e-4):
            raise ValueError(f"hand '{self.name}': the skin weights of each vertex must sum to 1; normalise the rows")

    # -- derived ----------------------------------------------------------------------------------------------------

    @kept_property
    def cloud_mm(self) -> Float[Tensor, "N 3"]:
        """The point cloud P at rest (Sec. 3.3.2: sampled once, uniformly, from the hand model)."""
        return self._interpolate(self.vertices_mm)

    @kept_property
    def cloud_weights(self) -> Float[Tensor, "N 16"]:
        """The weights W of P, interpolated from the triangle of each point."""
        return self._interpolate(self.weights)

    def _interpolate(self, vertex_values: Tensor) -> Tensor:
        return torch.einsum("nk,nkc->nc", self.cloud_bary, vertex_values[self.faces[self.cloud_face]])

    @kept_property
    def T_rest_wrist(self) -> Float[Tensor, "16 4 4"]:
        """The wrist's frame in each joint's frame of the rest pose."""
        return roma.Rigid(self.R_wrist_rest, self.joints_mm).inverse().to_homogeneous()

    @kept_property
    def bones_mm(self) -> Float[Tensor, "16 3"]:
        """Each joint's position in its parent's frame (the wrist's is zero)."""
        parents = torch.tensor(PARENTS[1:])
        step = self.joints_mm[1:] - self.joints_mm[parents]
        bones = torch.einsum("jrc,jr->jc", self.R_wrist_rest[parents], step)
        return torch.cat([torch.zeros_like(bones[:1]), bones])

    @kept_property
    def tip_bones_mm(self) -> Float[Tensor, "5 3"]:
        """Each tip's position in the frame of its finger's far joint."""
        far = list(TIP_PARENTS)
        return torch.einsum("jrc,jr->jc", self.R_wrist_rest[far], self.tips_mm - self.joints_mm[far])

    @kept_property
    def points_mm(self) -> Float[Tensor, "21 3"]:
        """Each joint's position in its parent's frame, then each tip's in its far joint's: all that kinematics need."""
        return torch.cat([self.bones_mm, self.tip_bones_mm])

    @kept_property
    def T_parent_neutral(self) -> Float[Tensor, "16 4 4"]:
        """Each joint's frame in its parent's when all its angles are zero."""
        return roma.Rigid(neutral_rotations().to(self.joints_mm), self.bones_mm).to_homogeneous()

    @kept_property
    def rest_rotations(self) -> Float[Tensor, "16 4"]:
        """The pose in which the mesh was modelled: unit quaternions xyzw with w >= 0."""
        R_parent = torch.cat([torch.eye(3).to(self.R_wrist_rest)[None], self.R_wrist_rest[list(PARENTS[1:])]])
        q = roma.rotmat_to_unitquat(neutral_rotations().to(R_parent).mT @ R_parent.mT @ self.R_wrist_rest)
        return torch.where(q[:, 3:] < 0, -q, q)

    @kept_property
    def limits_rad(self) -> Float[Tensor, "16 3 2"]:
        """Feasible range of flexion, deviation, twist (Eq. 8); `hrlib.hand.joints` names the sources."""
        return torch.tensor(limits_rad()).to(self.joints_mm)

    # -- which hand it is -------------------------------------------------------------------------------------------

    @cached_property
    def fingerprint(self) -> str:
        """Names mesh, skeleton, skin weights, cloud and morphs. Checkpoints carry it, so that no network poses another hand.

        Values count as the asset file rounds them: a hand read back has the same.
        """
        stored = asset_tensors(self.to("cpu"))
        stored["R_wrist_rest"] = stored["R_wrist_rest"].float()  # the only doubles in the file
        return _digest(
            part for key in sorted(stored) for part in (key.encode(), stored[key].detach().numpy().tobytes())
        )

    @cached_property
    def geometry_fingerprint(self) -> str:
        """The fingerprint of older files: mesh and skeleton to 0.01 mm, whatever the weights, the cloud and the morphs."""
        geometry = (self.vertices_mm, self.faces, self.joints_mm, self.R_wrist_rest)
        return _digest(x.detach().cpu().double().round(decimals=2).numpy().tobytes() for x in geometry)

    def has_fingerprint(self, stored: str | None) -> bool:
        """Whether a file that carries this fingerprint, in the new form or the old one, belongs to this hand."""
        return stored in (self.fingerprint, self.geometry_fingerprint)

    # -- other hands ------------------------------------------------------------------------------------------------

    def to(self, *target: torch.device | str | torch.dtype) -> "HandRig":
        """The same hand on another device or in another floating dtype; indices keep their integer type."""
        devices = [part for part in target if not isinstance(part, torch.dtype)]

        def move(x):
            if isinstance(x, dict):
                return {key: move(value) for key, value in x.items()}
            return x.to(*(target if x.is_floating_point() else devices)) if isinstance(x, Tensor) else x

        return HandRig(**{f.name: move(getattr(self, f.name)) for f in fields(self)})

    @full_precision
    def joints_along(self, bones_mm: Float[Tensor, "16 3"]) -> Float[Tensor, "16 3"]:
        """Rest positions in mm of the joints, the axes as they are, if the bones were these (as `bones_mm`)."""
        joints = [self.joints_mm[0]]
        for j, parent in enumerate(PARENTS[1:], 1):
            joints.append(joints[parent] + self.R_wrist_rest[parent] @ bones_mm[j])
        return torch.stack(joints)

    def morphed(self, amounts: Mapping[str, float], scale: float = 1.0, name: str | None = None) -> "HandRig":
        """Another person's hand: morphs are added, then all is scaled. The joint frames keep their axes.

        amounts: by name, e.g. `fingers-length+`; 1 is the morph as it was modelled. Raises ValueError for an unknown morph
        or a scale that is not positive.
        """
        unknown = sorted(set(amounts) - set(self.morphs))
        if unknown:
            raise ValueError(f"unknown morphs {unknown}; this hand has {sorted(self.morphs)}")
        if not scale > 0:
            raise ValueError(f"scale must be positive (1 = this hand's size), got {scale}")
        changed = {
            key: scale * (getattr(self, key) + sum(a * self.morphs[m][key] for m, a in amounts.items()))
            for key in MORPHED
        }
        return replace(self, name=name or f"{self.name}, morphed", **changed)


def _digest(parts: Iterable[bytes]) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


def neutral_rotations() -> Float[Tensor, "16 3 3"]:
    """The neutral orientations of `joints.NEUTRAL_DEG` in float64, identity except for the fingers' bases."""
    R = torch.eye(3, dtype=torch.float64).repeat(16, 1, 1)
    for i, finger in enumerate(FINGERS):
        R[1 + 3 * i] = roma.euler_to_rotmat("XZY", torch.tensor(NEUTRAL_DEG[finger], dtype=torch.float64), degrees=True)
    return R


# -- from a mesh --------------------------------------------------------------------------------------------------------


def build_rig(
    name: str,
    mesh: tuple,
    joints: Float[np.ndarray | Tensor, "16 3"],
    tips: Float[np.ndarray | Tensor, "5 3"],
    cloud: tuple,
    morphs: Mapping[str, Mapping] | None = None,
) -> HandRig:
    """A `HandRig` in float64 from a mesh with joint positions, in mm in any right-handed frame.

    Finds the wrist's frame, moves everything into it, and gives each joint its anatomical axes.

    Args:
        mesh: vertices [V, 3], faces [F, 3], weights [V, 16].
        cloud: triangle [N] and barycentric coordinates [N, 3] of each point of P.
        morphs: displacements, as `HandRig.morphs` has them.

    Raises:
        ValueError: a left hand (mirror it first), or joints that coincide.
    """
    vertices, joints, tips = (torch.as_tensor(x, dtype=torch.float64) for x in (mesh[0], joints, tips))
    index, middle, pinky = (JOINT_NAMES.index(f"{finger}_base") for finger in ("index", "middle", "pinky"))
    R_model_wrist = _axes(joints[middle] - joints[0], joints[index] - joints[pinky], name)
    vertices, joints, tips = ((points - joints[0]) @ R_model_wrist for points in (vertices, joints, tips))
    thumb = torch.cat([joints[1:4], tips[:1]])
    # at rest the fingers lean to the palm's side, and more so the thumb, even of a hand that lies flat
    if thumb[:, 2].mean() + tips[1:, 2].mean() < 0:
        raise ValueError(
            f"hand '{name}': thumb and fingers lean to the back of a right hand: mirror a left hand first (--side "
            "left), and leave that out for a right one"
        )
    return HandRig(
        name,
        vertices,
        torch.as_tensor(mesh[1], dtype=torch.int64),
        torch.as_tensor(mesh[2], dtype=torch.float64),
        joints,
        tips,
        _rest_axes(joints, tips, name),
        torch.as_tensor(cloud[0], dtype=torch.int64),
        torch.as_tensor(cloud[1], dtype=torch.float64),
        {
            morph: {key: torch.as_tensor(part, dtype=torch.float64) @ R_model_wrist for key, part in parts.items()}
            for morph, parts in (morphs or {}).items()
        },
    )


def _rest_axes(joints: Tensor, tips: Tensor, name: str) -> Tensor:
    """Each joint's axes [16, 3, 3] at rest: y to the next joint, x near the neutral flexion axis of its finger."""
    R_neutral, R_rest = neutral_rotations(), torch.eye(3, dtype=torch.float64).repeat(16, 1, 1)
    for finger in range(5):
        base = 1 + 3 * finger
        chain = torch.cat([joints[base : base + 3], tips[finger : finger + 1]])
        for k in range(3):
            R_rest[base + k] = _axes(chain[k + 1] - chain[k], R_neutral[base, :, 0], name)
    return R_rest


def _axes(along: Tensor, side: Tensor, name: str) -> Tensor:
    """Right-handed axes as columns [3, 3]: y along `along`, x as near to `side` as y allows."""
    y = _unit(along, name)
    x = _unit(side - y * (side @ y), name)
    return torch.stack([x, y, torch.linalg.cross(x, y)], 1)


def _unit(v: Tensor, name: str) -> Tensor:
    length = v.norm()
    if length < SHORTEST_BONE_MM:
        raise ValueError(f"hand '{name}': two joints of one bone coincide; check the joint map")
    return v / length


# -- the asset file -----------------------------------------------------------------------------------------------------


def asset_tensors(hand: HandRig) -> dict[str, Tensor]:
    """The tensors of a hand as the asset file stores them: small types, 0.01 mm and finer."""
    small = {"faces": _index_type(len(hand.vertices_mm)), "cloud_face": _index_type(len(hand.faces))}
    small["R_wrist_rest"] = torch.float64
    tensors = {f.name: getattr(hand, f.name) for f in fields(hand) if f.name not in ("name", "morphs")}
    tensors = {key: value.to(small.get(key, torch.float32)).contiguous() for key, value in tensors.items()}
    for morph, parts in hand.morphs.items():
        tensors |= {f"morph/{morph}/{key}": value.to(torch.float16).contiguous() for key, value in parts.items()}
    return tensors


def _index_type(count: int) -> torch.dtype:
    """The smallest type of files that can number so many things."""
    return torch.int16 if count <= torch.iinfo(torch.int16).max else torch.int32


def save_hand(path: str | Path, hand: HandRig, source: str) -> None:
    """Write a hand as `load_hand` reads it; source: where it comes from, in words."""
    meta = {"name": hand.name, "source": source, "unit": "mm"}
    write_bytes_atomically(path, tensor_bytes(asset_tensors(hand), {"hand": json.dumps(meta)}))


def check_rig(hand: HandRig) -> None:
    """Raise ValueError for what is no rig."""
    if not isinstance(hand, HandRig):
        raise ValueError(f"hand must be a rig, as hrlib.load_hand() gives it, got {type(hand).__name__}")


@for_every_use()
def load_hand(path: str | Path = HAND_ASSET, dtype: torch.dtype = torch.float32) -> HandRig:
    """The template hand, or another asset file. Raises FileNotFoundError, or ValueError if the file is no hand asset.

    >>> hand = hrlib.load_hand()
    >>> hand.joints_mm.shape, hand.cloud_mm.shape
    (torch.Size([16, 3]), torch.Size([2048, 3]))
    """
    path = Path(path)
    if not path.is_file():
        lost = "the template is part of the package (hrlib/assets): install hrlib again"
        raise FileNotFoundError(
            f"no hand asset at {path}; {lost if path == HAND_ASSET else 'name a file that is there'}"
        )
    if path.suffix.lower() in OTHER_HANDS:
        raise ValueError(
            f"{path} is no hand asset, but maybe a rigged hand: hrlib.hand.from_file.hand_from_file reads it"
        )
    try:
        meta, stored = read_tensors(path)
        stored = {key: x.to(dtype) if x.is_floating_point() else x.long() for key, x in stored.items()}
        morphs: dict[str, dict[str, Tensor]] = {}
        for key in [key for key in stored if key.startswith("morph/")]:
            _, morph, part = key.split("/")
            morphs.setdefault(morph, {})[part] = stored.pop(key)
        hand = HandRig(name=json.loads(meta["hand"])["name"], morphs=morphs, **stored)
        check_hand(hand)
        return hand
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path} is not a hand asset ({error}); restore it with git or rebuild it") from error


def check_hand(hand: HandRig) -> None:
    """Look at the values of a hand that comes from a file; `HandRig` itself looks at shapes.

    Raises:
        ValueError: indices that point nowhere, numbers that are not finite, axes that are no rotations, shares that do not sum
            to one, a size that no hand has, or morphs of another hand.
    """
    tensors = {f.name: getattr(hand, f.name) for f in fields(hand) if f.name not in ("name", "morphs")}
    tensors |= {f"morph {name} {key}": part for name, parts in hand.morphs.items() for key, part in parts.items()}
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ValueError(f"{name} holds NaN or infinite numbers")
        if ("_mm" in name) and tensor.abs().max() > MOST_MM:
            raise ValueError(f"{name} is up to {tensor.abs().max():g} mm from the wrist; lengths are in millimetres")
    if hand.faces.shape[1:] != (3,) or hand.cloud_bary.shape != (len(hand.cloud_face), 3):
        raise ValueError("faces must be [F, 3], cloud_bary must be [N, 3] for cloud_face [N]")
    for name, index, count in (("faces", hand.faces, hand.vertices_mm), ("cloud_face", hand.cloud_face, hand.faces)):
        if not index.numel() or index.min() < 0 or index.max() >= len(count):
            raise ValueError(f"{name} must be indices from 0 to {len(count) - 1}")
    for name, shares in (("weights", hand.weights), ("cloud_bary", hand.cloud_bary)):
        if shares.min() < -1e-3 or (shares.sum(1) - 1).abs().max() > 1e-3:
            raise ValueError(f"{name} must be shares of one")
    R = hand.R_wrist_rest
    if (R.mT @ R - torch.eye(3).to(R)).abs().max() > 1e-3 or torch.linalg.det(R).min() < 0:
        raise ValueError("R_wrist_rest must be rotations")
    palm_mm = hand.bones_mm[JOINT_NAMES.index("middle_base")].norm().item()
    if not PALM_MM[0] < palm_mm < PALM_MM[1]:
        raise ValueError(f"the palm is {palm_mm:g} mm long, between {PALM_MM[0]:g} and {PALM_MM[1]:g} mm is a hand's")
    for name, parts in hand.morphs.items():
        if {key: part.shape for key, part in parts.items()} != {key: getattr(hand, key).shape for key in MORPHED}:
            raise ValueError(f"the morph {name} is of another hand")
