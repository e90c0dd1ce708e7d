"""The rigged hand: mesh, joint frames, skin weights, the point cloud P, and the shape morphs.

Everything is in millimetres in the wrist's frame (x to the thumb's side, y along the middle finger's metacarpal, z out of
the palm; see `hrlib.hand.joints`). The rest pose is the one in which the mesh was modelled; `rest_rotations` reproduces it.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path

import roma
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..support.paths import HAND_ASSET
from .joints import FINGERS, JOINT_NAMES, NEUTRAL_DEG, PARENTS, TIP_PARENTS, limits_rad


@dataclass(
    frozen=True, eq=False
)  # equal only to itself, as tensors have no single truth; `fingerprint` compares content
class HandRig:
    """A right hand that can be posed. V vertices, F faces, N cloud points, 16 joints, 5 tips.

    vertices_mm [V, 3], faces [F, 3], weights [V, 16] (rows sum to one), joints_mm [16, 3], tips_mm [5, 3];
    R_wrist_rest [16, 3, 3]: each joint's anatomical axes at rest, as columns; cloud_face [N] and cloud_bary [N, 3]: the
    triangle and the barycentric coordinates of each point of P; morphs: displacements per unit of each named morph.
    """

    name: str
    vertices_mm: Tensor
    faces: Tensor
    weights: Tensor
    joints_mm: Tensor
    tips_mm: Tensor
    R_wrist_rest: Tensor
    cloud_face: Tensor
    cloud_bary: Tensor
    morphs: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    def __post_init__(self):
        n = len(self.vertices_mm)
        wanted = {
            "vertices_mm": (n, 3),
            "weights": (n, 16),
            "joints_mm": (16, 3),
            "tips_mm": (5, 3),
            "R_wrist_rest": (16, 3, 3),
        }
        for key, shape in wanted.items():
            if tuple(getattr(self, key).shape) != shape:
                raise ValueError(
                    f"hand '{self.name}': {key} must be {list(shape)}, got {list(getattr(self, key).shape)}"
                )
        if not torch.allclose(self.weights.sum(1), self.weights.new_ones(n), atol=1e-4):
            raise ValueError(f"hand '{self.name}': the skin weights of each vertex must sum to 1; normalise the rows")

    # -- derived ----------------------------------------------------------------------------------------------------

    @cached_property
    def cloud_mm(self) -> Tensor:
        """The point cloud P of the paper at rest, [N, 3] mm (Sec. 3.3.2: sampled once, uniformly, from the hand model)."""
        return self._interpolate(self.vertices_mm)

    @cached_property
    def cloud_weights(self) -> Tensor:
        """The weights W of P, [N, 16], interpolated from the triangle each point lies in."""
        return self._interpolate(self.weights)

    def _interpolate(self, vertex_values: Tensor) -> Tensor:
        return torch.einsum("nk,nkc->nc", self.cloud_bary, vertex_values[self.faces[self.cloud_face]])

    @cached_property
    def T_wrist_rest(self) -> Tensor:
        """[16, 4, 4]: joint frames of the rest pose."""
        return _transforms(self.R_wrist_rest, self.joints_mm)

    @cached_property
    def T_rest_wrist(self) -> Tensor:
        """[16, 4, 4]: the inverse of `T_wrist_rest`."""
        R_inverse = self.R_wrist_rest.mT
        return _transforms(R_inverse, -(R_inverse @ self.joints_mm[..., None])[..., 0])

    @cached_property
    def R_parent_neutral(self) -> Tensor:
        """[16, 3, 3]: orientation of each joint in its parent's frame when all its angles are zero; same for every rig."""
        return neutral_rotations().to(self.joints_mm)

    @cached_property
    def bones_mm(self) -> Tensor:
        """[16, 3]: each joint's position in its parent's frame (the wrist's is zero)."""
        parents = torch.tensor(PARENTS[1:])
        step = self.joints_mm[1:] - self.joints_mm[parents]
        bones = torch.einsum("jrc,jr->jc", self.R_wrist_rest[parents], step)
        return torch.cat([torch.zeros_like(bones[:1]), bones])

    @cached_property
    def tip_bones_mm(self) -> Tensor:
        """[5, 3]: each tip's position in its finger's far joint's frame."""
        far = list(TIP_PARENTS)
        return torch.einsum("jrc,jr->jc", self.R_wrist_rest[far], self.tips_mm - self.joints_mm[far])

    @cached_property
    def T_parent_neutral(self) -> Tensor:
        """[16, 4, 4]: each joint's frame in its parent's when all its angles are zero."""
        return _transforms(self.R_parent_neutral, self.bones_mm)

    @cached_property
    def rest_rotations(self) -> Tensor:
        """[16, 4] unit quaternions xyzw: the pose that gives the mesh as it was modelled."""
        R_parent = torch.cat([torch.eye(3).to(self.R_wrist_rest)[None], self.R_wrist_rest[list(PARENTS[1:])]])
        local = self.R_parent_neutral.mT @ R_parent.mT @ self.R_wrist_rest
        return canonical(roma.rotmat_to_unitquat(local))

    @cached_property
    def limits_rad(self) -> Tensor:
        """[16, 3, 2] feasible range of flexion, deviation, twist (Eq. 8); the source stands in `hrlib.hand.joints`."""
        return torch.tensor(limits_rad()).to(self.joints_mm)

    @cached_property
    def fingerprint(self) -> str:
        """Names mesh, skeleton, skin weights, cloud and morphs, not the name. A checkpoint carries it, so that no network
        poses another hand. Values count as the asset file rounds them: a hand read back has the same."""
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

    def to(self, *args) -> "HandRig":
        """The same hand on another device or in another floating dtype; indices keep their integer type."""

        def move(x):
            if isinstance(x, dict):
                return {k: move(v) for k, v in x.items()}
            if not isinstance(x, Tensor):
                return x
            return x.to(*args) if x.is_floating_point() else x.to(*[a for a in args if not isinstance(a, torch.dtype)])

        return HandRig(**{f.name: move(getattr(self, f.name)) for f in fields(self)})

    def morphed(self, amounts: dict[str, float], scale: float = 1.0, name: str | None = None) -> "HandRig":
        """Another person's hand: morphs added in the given amounts (1 = the morph as modelled), then scaled.

        Names are in `morphs`, e.g. `fingers-length+`. The joint frames keep their axes; positions move.
        Raises ValueError for an unknown morph or a scale that is not positive.
        """
        unknown = sorted(set(amounts) - set(self.morphs))
        if unknown:
            raise ValueError(f"unknown morphs {unknown}; this hand has {sorted(self.morphs)}")
        if not scale > 0:
            raise ValueError(f"scale must be positive (1 = this hand's size), got {scale}")

        def moved(key):
            return scale * (getattr(self, key) + sum(a * self.morphs[m][key] for m, a in amounts.items()))

        changed = {key: moved(key) for key in ("vertices_mm", "joints_mm", "tips_mm")}
        return replace(self, name=name or f"{self.name}, morphed", **changed)


def _digest(parts: Iterable[bytes]) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


def _transforms(R: Tensor, t: Tensor) -> Tensor:
    """Rotations [16, 3, 3] and positions [16, 3] -> [16, 4, 4]."""
    T = torch.eye(4).to(t).repeat(16, 1, 1)
    T[:, :3, :3], T[:, :3, 3] = R, t
    return T


def canonical(q: Tensor) -> Tensor:
    """Of the two unit quaternions xyzw [..., 4] of a rotation, the one with w >= 0."""
    return torch.where(q[..., 3:] < 0, -q, q)


def neutral_rotations() -> Tensor:
    """[16, 3, 3] float64: the neutral orientations of `joints.NEUTRAL_DEG`, identity except for the fingers' bases."""
    R = torch.eye(3, dtype=torch.float64).repeat(16, 1, 1)
    for i, finger in enumerate(FINGERS):
        R[1 + 3 * i] = roma.euler_to_rotmat("XZY", torch.tensor(NEUTRAL_DEG[finger], dtype=torch.float64), degrees=True)
    return R


def build_rig(name, vertices, faces, weights, joints, tips, cloud_face, cloud_bary, morphs=None) -> HandRig:
    """A `HandRig` from a mesh with 16 joint positions and 5 tips in any right-handed frame, in mm.

    Finds the wrist's frame, moves everything into it, and gives each joint its anatomical axes: y to the next joint,
    x as close to the neutral flexion axis of its finger as y allows.
    Raises ValueError for a left hand (mirror it first) and for joints that coincide.
    """
    joints, tips, vertices = (torch.as_tensor(x, dtype=torch.float64) for x in (joints, tips, vertices))
    index, middle, pinky = (JOINT_NAMES.index(f"{f}_base") for f in ("index", "middle", "pinky"))
    y = _unit(joints[middle] - joints[0], name)
    x = joints[index] - joints[pinky]
    x = _unit(x - y * (x @ y), name)
    R_wrist_model = torch.stack([x, y, torch.linalg.cross(x, y)])
    to_wrist = lambda points: (points - joints[0]) @ R_wrist_model.T  # noqa: E731
    thumb_tip = to_wrist(tips)[0]
    curl = to_wrist(tips)[1:, 2].mean()  # at rest the fingers lean to the palm's side
    if thumb_tip[2] < 0 and curl < 0:
        raise ValueError(f"hand '{name}': thumb and fingers lean to the back of a right hand: mirror a left hand first")
    joints_w, tips_w, vertices_w = to_wrist(joints), to_wrist(tips), to_wrist(vertices)

    R_neutral = neutral_rotations()
    R_rest = torch.eye(3, dtype=torch.float64).repeat(16, 1, 1)
    for finger in range(5):
        chain = torch.cat([joints_w[1 + 3 * finger : 4 + 3 * finger], tips_w[finger : finger + 1]])
        axis = R_neutral[1 + 3 * finger][:, 0]
        for k in range(3):
            y = _unit(chain[k + 1] - chain[k], name)
            x = _unit(axis - y * (axis @ y), name)
            R_rest[1 + 3 * finger + k] = torch.stack([x, y, torch.linalg.cross(x, y)], 1)
    rotate = lambda d: torch.as_tensor(d, dtype=torch.float64) @ R_wrist_model.T  # noqa: E731
    return HandRig(
        name,
        vertices_w,
        torch.as_tensor(faces, dtype=torch.int64),
        torch.as_tensor(weights, dtype=torch.float64),
        joints_w,
        tips_w,
        R_rest,
        torch.as_tensor(cloud_face, dtype=torch.int64),
        torch.as_tensor(cloud_bary, dtype=torch.float64),
        {m: {key: rotate(value) for key, value in parts.items()} for m, parts in (morphs or {}).items()},
    )


def _unit(v: Tensor, name: str) -> Tensor:
    length = v.norm()
    if length < 1e-6:
        raise ValueError(f"hand '{name}': two joints of one bone coincide; check the joint map")
    return v / length


def asset_tensors(hand: HandRig) -> dict[str, Tensor]:
    """The tensors of a hand as the asset file stores them: small types, 0.01 mm and finer."""
    tensors = {f.name: getattr(hand, f.name) for f in fields(hand) if f.name not in ("name", "morphs")}
    small = {"faces": torch.int16, "cloud_face": torch.int16, "weights": torch.float32, "R_wrist_rest": torch.float64}
    tensors = {k: v.to(small.get(k, torch.float32)).contiguous() for k, v in tensors.items()}
    for morph, parts in hand.morphs.items():
        tensors |= {f"morph/{morph}/{key}": value.to(torch.float16).contiguous() for key, value in parts.items()}
    return tensors


def load_hand(path: str | Path = HAND_ASSET, dtype: torch.dtype = torch.float32) -> HandRig:
    """The template hand (or another asset written by `data/hand/build.py`).

    Raises FileNotFoundError where there is no such file and ValueError where it is no hand asset.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"no hand asset at {path}; the template is part of the package (hrlib/assets): install hrlib again"
        )
    try:
        with safe_open(path, "pt") as file:
            meta, stored = file.metadata() or {}, {key: file.get_tensor(key) for key in file.keys()}
        name = json.loads(meta["hand"])["name"]
        morphs: dict = {}
        for key in [k for k in stored if k.startswith("morph/")]:
            _, morph, part = key.split("/")
            morphs.setdefault(morph, {})[part] = stored.pop(key).to(dtype)
        tensors = {k: v.to(dtype) if v.is_floating_point() else v.long() for k, v in stored.items()}
        return HandRig(name=name, morphs=morphs, **tensors)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a hand asset ({error}); restore it with git or rebuild it") from error
