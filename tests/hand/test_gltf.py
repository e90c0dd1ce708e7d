"""Rigged hands from glTF files: a small one written here, and the WebXR generic hand."""

import base64
import json
import struct

import numpy as np
import pytest
import torch
from core_fixtures import FIST_DEG, build_stick_hand, nearest_distances, pose, posed, stick_hand, template

from hrlib.hand.from_file import hand_from_file
from hrlib.hand.gltf import WEBXR_BONES, bones_by_name, load_gltf
from hrlib.hand.joints import FINGERS, JOINT_NAMES, TIP_NAMES, TIP_PARENTS
from hrlib.hand.mesh_rig import sample_surface
from hrlib.hand.rig import save_hand
from hrlib.hand.rotations import euler_angles

STICK_JOINTS = {name: f"bone {name}" for name in JOINT_NAMES}
STICK_TIPS = {name: f"bone {name}" for name in TIP_NAMES}


def write_stick_glb(path, mirrored=False, skin=True, weights_as_bytes=False, without=(), cut=0, change=None):
    """The stick hand in metres as .glb: bones under each other, a box's corner repeated, an extra bone under the ring's."""
    parts = stick_hand()
    sign = np.array([-1.0 if mirrored else 1.0, 1, 1])
    faces = parts["faces"][:, ::-1] if mirrored else parts["faces"]
    vertices = np.concatenate([parts["vertices"], parts["vertices"][:1]]) / 1000 * sign  # as along a texture seam
    faces = np.where((faces == 0) & (np.arange(len(faces))[:, None] % 2 == 0), len(vertices) - 1, faces)
    owner = np.append(parts["weights"].argmax(1), 0)

    names = [STICK_JOINTS[n] for n in JOINT_NAMES] + [STICK_TIPS[n] for n in TIP_NAMES] + ["extra"]
    heads = np.concatenate([parts["joints"], parts["tips"], parts["joints"][10:11]]) / 1000 * sign
    parents = {**{j: max(j - 1, 0) if j % 3 != 1 else 0 for j in range(1, 16)}, **{16 + i: 3 + 3 * i for i in range(5)}}
    parents[21] = 10
    kept = [i for i, name in enumerate(names) if name not in without]
    number = {i: k for k, i in enumerate(kept)}
    nodes = [{"name": names[i], "children": [number[c] for c in kept if parents.get(c) == i]} for i in kept]
    nodes = [n if n["children"] else {"name": n["name"]} for n in nodes]
    nodes.append({"mesh": 0, **({"skin": 0} if skin else {})})

    inverse = np.tile(np.eye(4), (len(kept), 1, 1))
    inverse[:, :3, 3] = -heads[kept]
    # the ring's base and the extra bone share their box half and half
    joints = np.zeros((len(vertices), 4), np.uint8)
    joints[:, 0] = [number.get(j, 0) for j in owner]
    joints[:, 1] = np.where(owner == 10, number[21], 0)
    weights = np.zeros((len(vertices), 4))
    weights[:, 0], weights[:, 1] = np.where(owner == 10, 0.6, 1.0), np.where(owner == 10, 0.4, 0.0)
    weights = np.round(weights * 255).astype(np.uint8) if weights_as_bytes else weights.astype(np.float32)
    arrays = [
        (vertices.astype(np.float32), 5126, "VEC3"),
        (joints, 5121, "VEC4"),
        (weights, 5121 if weights_as_bytes else 5126, "VEC4"),
        (faces.astype(np.uint16).reshape(-1, 1), 5123, "SCALAR"),
        (inverse.transpose(0, 2, 1).reshape(-1, 16).astype(np.float32), 5126, "MAT4"),
    ]
    data, views, accessors = b"", [], []
    for array, component, kind in arrays:
        data += b"\0" * (-len(data) % 4)
        views.append({"buffer": 0, "byteOffset": len(data), "byteLength": array.nbytes})
        accessors.append({"bufferView": len(views) - 1, "componentType": component, "count": len(array), "type": kind})
        data += array.tobytes()
    accessors[2]["normalized"] = weights_as_bytes
    data = data[: len(data) - cut]
    data += b"\0" * (-len(data) % 4)
    attributes = {"POSITION": 0, "JOINTS_0": 1, "WEIGHTS_0": 2}
    tree = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0, len(nodes) - 1]}],
        "nodes": nodes,
        "meshes": [{"primitives": [{"attributes": attributes, "indices": 3, "mode": 4}]}],
        "skins": [{"joints": list(range(len(kept))), "inverseBindMatrices": 4}],
        "bufferViews": views,
        "accessors": accessors,
        "buffers": [{"byteLength": len(data)}],
    }
    if change is not None:
        data = change(tree, data)
    text = json.dumps(tree).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(data), b"BIN\0") + data
    path.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks)
    return path


def load_stick(path, **settings):
    return load_gltf(path, STICK_JOINTS | STICK_TIPS, cloud_points=200, dtype=torch.float64, **settings)


# -- a small hand -----------------------------------------------------------------------------------------------------


def test_stick_hand_comes_back_as_it_was_written(tmp_path):
    hand, expected = load_stick(write_stick_glb(tmp_path / "stick.glb")), build_stick_hand()
    # float32 metres in the file: 6e-8 of 0.2 m is 1e-5 mm
    torch.testing.assert_close(hand.vertices_mm, expected.vertices_mm, rtol=0, atol=5e-5)
    torch.testing.assert_close(hand.joints_mm, expected.joints_mm, rtol=0, atol=5e-5)
    assert torch.equal(hand.faces, expected.faces), "the repeated vertex is one again"
    # the extra bone under the ring's base moves with it, although no map names it
    torch.testing.assert_close(hand.weights, expected.weights, rtol=0, atol=1e-6)
    assert hand.name == "stick" and len(hand.cloud_mm) == 200


def test_tips_lie_where_the_skin_ends_on_the_last_bones_line(tmp_path):
    hand = load_stick(write_stick_glb(tmp_path / "stick.glb"))
    for i, far in enumerate(TIP_PARENTS):
        own = hand.vertices_mm[hand.weights[:, far] > 0.5] - hand.joints_mm[far]
        line = hand.tips_mm[i] - hand.joints_mm[far]
        reach = (own @ (line / line.norm())).max()
        torch.testing.assert_close(line.norm(), reach, rtol=0, atol=1e-9)
        torch.testing.assert_close(line / line.norm(), hand.R_wrist_rest[far][:, 1], rtol=0, atol=1e-9)


def test_without_tip_bones_the_last_bone_goes_on_straight(tmp_path):
    path = write_stick_glb(tmp_path / "stick.glb", without=tuple(STICK_TIPS.values()))
    hand = load_gltf(path, STICK_JOINTS, cloud_points=50)
    straight = torch.einsum("fc,fc->f", hand.R_wrist_rest[3::3, :, 1], hand.R_wrist_rest[2::3, :, 1])
    assert (straight > 1 - 1e-6).all()


def test_normalised_bytes_and_floats_give_the_same_weights(tmp_path):
    floats = load_stick(write_stick_glb(tmp_path / "a.glb"))
    by_bytes = load_stick(write_stick_glb(tmp_path / "b.glb", weights_as_bytes=True))
    torch.testing.assert_close(by_bytes.weights, floats.weights, rtol=0, atol=1 / 255)


def test_left_hand_is_mirrored_into_the_right_one(tmp_path):
    right = load_stick(write_stick_glb(tmp_path / "right.glb"))
    left = load_stick(write_stick_glb(tmp_path / "left.glb", mirrored=True), side="left")
    torch.testing.assert_close(left.vertices_mm, right.vertices_mm, rtol=0, atol=1e-9)
    torch.testing.assert_close(left.R_wrist_rest, right.R_wrist_rest, rtol=0, atol=1e-9)
    # inside out would be a negative volume
    assert signed_volume(left) > 0 and signed_volume(right) > 0


def test_left_hand_without_side_is_refused(tmp_path):
    path = write_stick_glb(tmp_path / "left.glb", mirrored=True)
    with pytest.raises(ValueError, match="mirror a left hand"):
        load_stick(path)
    with pytest.raises(ValueError, match="side must be 'right' or 'left', got 'links'"):
        load_stick(path, side="links")


def test_unit_and_several_bones_of_one_joint(tmp_path):
    path = write_stick_glb(tmp_path / "stick.glb")
    metres = load_stick(path)
    smaller = load_stick(path, unit_mm=800.0)
    torch.testing.assert_close(smaller.bones_mm / 0.8, metres.bones_mm, rtol=0, atol=1e-6)
    to_wrist = load_gltf(path, STICK_JOINTS | STICK_TIPS | {"wrist": ("bone wrist", "extra")}, cloud_points=10)
    assert to_wrist.weights[80:88, 0].mean().item() == pytest.approx(0.4, abs=1e-6)


def test_errors_say_what_is_wrong(tmp_path):
    with pytest.raises(FileNotFoundError, match="no glTF file at .*nothing.glb"):
        load_stick(tmp_path / "nothing.glb")
    for name, content in (("text.glb", b"not a glTF"), ("empty.glb", b""), ("list.gltf", b"[1]"), ("bare.gltf", b"{}")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match="is not a readable glTF"):
            load_stick(tmp_path / name)
    with pytest.raises(ValueError, match="has no skin"):
        load_stick(write_stick_glb(tmp_path / "static.glb", skin=False))
    path = write_stick_glb(tmp_path / "stick.glb", without=("bone index_far", "bone pinky_tip"))
    with pytest.raises(ValueError, match=r"lacks the bones \['bone index_far', 'bone pinky_tip'\]"):
        load_stick(path)
    with pytest.raises(ValueError, match="cut short"):
        load_stick(write_stick_glb(tmp_path / "short.glb", cut=100))
    with pytest.raises(ValueError, match=r"missing \['thumb_far'\]"):
        load_gltf(path, {k: v for k, v in STICK_JOINTS.items() if k != "thumb_far"})
    with pytest.raises(ValueError, match=r"unknown \['toe_tip'\]"):
        load_gltf(path, STICK_JOINTS | {"toe_tip": "bone"})
    with pytest.raises(ValueError, match="at least 1, got 0"):
        load_gltf(write_stick_glb(tmp_path / "stick.glb"), STICK_JOINTS, cloud_points=0)


def in_two_sets(tree, data):
    """The second bone of each vertex goes into JOINTS_1 and WEIGHTS_1."""
    attributes = tree["meshes"][0]["primitives"][0]["attributes"]
    for name, dtype in (("JOINTS", np.uint8), ("WEIGHTS", np.float32)):
        accessor = tree["accessors"][attributes[f"{name}_0"]]
        view = tree["bufferViews"][accessor["bufferView"]]
        both = np.frombuffer(data, dtype, 4 * accessor["count"], view["byteOffset"]).reshape(-1, 4)
        sets = [np.zeros_like(both), np.zeros_like(both)]
        sets[0][:, 0], sets[1][:, 2] = both[:, 0], both[:, 1]
        for i, part in enumerate(sets):
            tree["bufferViews"].append({"buffer": 0, "byteOffset": len(data), "byteLength": part.nbytes})
            tree["accessors"].append(accessor | {"bufferView": len(tree["bufferViews"]) - 1})
            attributes[f"{name}_{i}"] = len(tree["accessors"]) - 1
            data += part.tobytes() + b"\0" * (-part.nbytes % 4)
    tree["buffers"][0]["byteLength"] = len(data)
    return data


def test_bones_beyond_the_fourth_of_a_vertex_are_read(tmp_path):
    bones = STICK_JOINTS | STICK_TIPS | {"wrist": ("bone wrist", "extra")}
    paths = write_stick_glb(tmp_path / "plain.glb"), write_stick_glb(tmp_path / "two.glb", change=in_two_sets)
    plain, two = (load_gltf(path, bones, cloud_points=10) for path in paths)
    assert ((0.3 < plain.weights) & (plain.weights < 0.7)).any(), "some vertices hang on two bones"
    torch.testing.assert_close(two.weights, plain.weights, rtol=0, atol=1e-6)


@pytest.mark.parametrize("base", ["none", "shifted"])
def test_sparse_arrays_are_read(tmp_path, base):
    """All vertices said apart over nothing, or some over others that they replace."""

    def sparse(tree, data):
        accessor = tree["accessors"][0]
        view = tree["bufferViews"][accessor["bufferView"]]
        place = slice(view["byteOffset"], view["byteOffset"] + view["byteLength"])
        vertices = np.frombuffer(data[place], np.float32).reshape(-1, 3)
        rows, changed = np.arange(len(vertices), dtype=np.uint16)[:: 1 if base == "none" else 3], vertices.copy()
        changed[rows] += 1
        if base == "none":
            del accessor["bufferView"]
        data = data[: place.start] + changed.tobytes() + data[place.stop :]
        parts = []
        for part in (rows, vertices[rows]):
            tree["bufferViews"].append({"buffer": 0, "byteOffset": len(data), "byteLength": part.nbytes})
            parts.append({"bufferView": len(tree["bufferViews"]) - 1})
            data += part.tobytes() + b"\0" * (-part.nbytes % 4)
        parts[0]["componentType"] = 5123
        accessor["sparse"] = {"count": len(rows), "indices": parts[0], "values": parts[1]}
        tree["buffers"][0]["byteLength"] = len(data)
        return data

    plain, ours = (load_stick(write_stick_glb(tmp_path / "stick.glb", change=change)) for change in (None, sparse))
    torch.testing.assert_close(ours.vertices_mm, plain.vertices_mm, rtol=0, atol=0)


def test_arrays_without_data_are_refused(tmp_path):
    def emptied(tree, data):
        del tree["accessors"][0]["bufferView"]
        return data

    with pytest.raises(ValueError, match="stick.glb holds compressed data, which is not read here"):
        load_stick(write_stick_glb(tmp_path / "stick.glb", change=emptied))


def test_an_array_of_nothing_may_not_be_endless(tmp_path):
    def endless(tree, data):
        view = tree["accessors"][0].pop("bufferView")
        parts = {"indices": {"bufferView": view, "componentType": 5123}, "values": {"bufferView": view}}
        tree["accessors"][0] |= {"count": 10**9, "sparse": {"count": 1} | parts}
        return data

    with pytest.raises(ValueError, match="stick.glb: an array of 1,000,000,000 rows in it"):
        load_stick(write_stick_glb(tmp_path / "stick.glb", change=endless))


def test_damaged_bones_name_the_file(tmp_path):
    def missing_skin(tree, data):
        tree["skins"][0]["joints"][0] = 999
        return data

    with pytest.raises(ValueError, match="stick.glb: no hand can be made of its parts .*IndexError"):
        hand_from_file(write_stick_glb(tmp_path / "stick.glb", change=missing_skin))


def test_a_scale_of_the_armature_counts(tmp_path):
    def centimetres(tree, data):
        """As Blender writes them: the mesh and the bones below a node of scale 0.01."""
        array = np.frombuffer(data, np.float32).copy()
        for view in (tree["bufferViews"][0], tree["bufferViews"][4]):
            part = array[view["byteOffset"] // 4 : (view["byteOffset"] + view["byteLength"]) // 4]
            if view is tree["bufferViews"][0]:
                part *= 100
            else:
                part.reshape(-1, 16)[:, 12:15] *= 100  # the last column
        tree["nodes"].append({"name": "Armature", "scale": [0.01] * 3, "children": [0]})
        return array.tobytes()

    scaled = load_stick(write_stick_glb(tmp_path / "scaled.glb", change=centimetres))
    torch.testing.assert_close(scaled.joints_mm, build_stick_hand().joints_mm, rtol=0, atol=1e-3)


def test_morphs_are_applied_by_their_weights(tmp_path):
    def morphed(tree, data):
        """Two targets that move each vertex by as much as it is away from the middle; of one, half is wanted."""
        tree["meshes"][0]["primitives"][0]["targets"] = [{"POSITION": 0}, {"POSITION": 0}]
        tree["meshes"][0]["weights"] = [0.5, 0]
        return data

    plain = load_stick(write_stick_glb(tmp_path / "plain.glb"))
    rig = load_stick(write_stick_glb(tmp_path / "morphed.glb", change=morphed))
    spans = [(rig.vertices_mm.amax(0) - rig.vertices_mm.amin(0)) for rig in (rig, plain)]
    torch.testing.assert_close(spans[0], 1.5 * spans[1])

    def morphed_node(tree, data):
        next(node for node in tree["nodes"] if "mesh" in node)["weights"] = [0, 0.5]
        return morphed(tree, data)

    with pytest.raises(ValueError, match=r"node\.glb: node \w+ has morph weights of its own"):
        load_stick(write_stick_glb(tmp_path / "node.glb", change=morphed_node))


def test_a_hand_of_no_hands_size_is_refused(tmp_path):
    path = write_stick_glb(tmp_path / "stick.glb")
    for unit_mm in (10.0, 400.0, 25400.0):
        with pytest.raises(
            ValueError, match=r"stick.glb: .* the hand is .* no hand's length .* would make it an adult's"
        ):
            load_stick(path, unit_mm=unit_mm)


def test_a_required_extension_that_is_not_known_is_refused(tmp_path):
    def require(*names):
        return lambda tree, data: (tree.update(extensionsRequired=names), data)[1]

    for name in ("EXT_meshopt_compression", "KHR_draco_mesh_compression", "VENDOR_from_tomorrow"):
        with pytest.raises(ValueError, match=f"requires {name}, which is not read here"):
            load_stick(write_stick_glb(tmp_path / "other.glb", change=require("KHR_materials_unlit", name)))
    load_stick(write_stick_glb(tmp_path / "unlit.glb", change=require("KHR_materials_unlit")))


def test_nodes_in_a_circle_are_refused(tmp_path):
    """Or else the way up to the root never ends."""

    def circle(tree, data):
        tree["nodes"][2]["children"] = [1]
        return data

    with pytest.raises(ValueError, match="is below itself; export it again"):
        load_stick(write_stick_glb(tmp_path / "circle.glb", change=circle))


@pytest.mark.parametrize("away_mm", [0.0, 40.0])
def test_a_skin_for_each_mesh_is_one_hand(tmp_path, away_mm):
    """As FBX2glTF writes them; the second mesh was bound elsewhere."""

    def two_skins(tree, data):
        whole, faces = tree["meshes"][0]["primitives"][0], tree["accessors"][3]
        half = faces["count"] // 6 * 3
        tree["accessors"].append(faces | {"count": faces["count"] - half, "byteOffset": 2 * half})
        faces["count"] = half
        tree["meshes"].append({"primitives": [whole | {"indices": len(tree["accessors"]) - 1}]})
        tree["nodes"].append({"mesh": 1, "skin": 1})
        at, count = tree["bufferViews"][4]["byteOffset"], tree["accessors"][4]["count"]
        inverse = np.frombuffer(data, np.float32, 16 * count, at).reshape(count, 4, 4).copy()
        inverse[:, 3, 0] -= away_mm / 1000  # by columns
        vertices = np.frombuffer(data, np.float32, 3 * tree["accessors"][0]["count"]).reshape(-1, 3).copy()
        vertices[:, 0] += away_mm / 1000
        for number, array in ((0, vertices), (4, inverse.reshape(-1, 16))):
            tree["bufferViews"].append({"buffer": 0, "byteOffset": len(data), "byteLength": array.nbytes})
            tree["accessors"].append(tree["accessors"][number] | {"bufferView": len(tree["bufferViews"]) - 1})
            data += array.tobytes()
        attributes = whole["attributes"] | {"POSITION": len(tree["accessors"]) - 2}
        tree["meshes"][1]["primitives"][0]["attributes"] = attributes
        tree["skins"].append(tree["skins"][0] | {"inverseBindMatrices": len(tree["accessors"]) - 1})
        tree["buffers"][0]["byteLength"] = len(data)
        return data

    one, two = (load_stick(write_stick_glb(tmp_path / "stick.glb", change=change)) for change in (None, two_skins))
    assert len(one.faces) == len(two.faces)
    torch.testing.assert_close(two.joints_mm, one.joints_mm, rtol=0, atol=1e-4)
    corners = [hand.vertices_mm[hand.faces].flatten(1).sort(0).values for hand in (one, two)]
    torch.testing.assert_close(corners[1], corners[0], rtol=0, atol=1e-3)


def test_the_content_tells_text_from_binary(tmp_path):
    path = write_stick_glb(tmp_path / "stick.glb")
    hand = load_stick(path.rename(tmp_path / "stick.gltf"))
    assert hand.joints_mm.shape == (16, 3)


@pytest.mark.parametrize("uri", ["data:application/gltf-buffer;base64,", "a%20hand%27s.bin"])
def test_data_beside_the_file_or_within_its_text(tmp_path, uri):
    path = write_stick_glb(tmp_path / "stick.glb")
    expected, content = load_stick(path), path.read_bytes()
    length = struct.unpack_from("<I", content, 12)[0]
    tree, data = json.loads(content[20 : 20 + length]), content[28 + length :]
    within = uri.startswith("data:")
    tree["buffers"][0]["uri"] = uri + base64.b64encode(data).decode() if within else uri
    apart = tmp_path / "apart.gltf"
    apart.write_text(json.dumps(tree))
    if not within:
        with pytest.raises(ValueError, match="apart.gltf lacks the file a hand's.bin, which belongs beside it"):
            load_stick(apart)
        (tmp_path / "a hand's.bin").write_bytes(data)
    torch.testing.assert_close(load_stick(apart).cloud_mm, expected.cloud_mm, rtol=0, atol=0)


def signed_volume(hand) -> float:
    a, b, c = hand.vertices_mm[hand.faces].unbind(1)
    return float((a * torch.linalg.cross(b, c)).sum() / 6)


# -- the cloud --------------------------------------------------------------------------------------------------------


def test_surface_samples_are_even_and_repeatable():
    parts = stick_hand()
    face, bary = sample_surface(parts["vertices"], parts["faces"], 600)
    again = sample_surface(parts["vertices"], parts["faces"], 600)
    assert np.array_equal(face, again[0]) and np.array_equal(bary, again[1])
    assert not np.array_equal(face, sample_surface(parts["vertices"], parts["faces"], 600, seed=1)[0])
    assert (bary >= 0).all() and np.allclose(bary.sum(1), 1)
    points = np.einsum("nk,nkc->nc", bary, parts["vertices"][parts["faces"][face]])
    distance = nearest_distances(points)
    # independent random points have a spread of 0.52 of the mean, and nearest neighbours at next to nothing
    assert distance.std() / distance.mean() < 0.25 and distance.min() > 0.5 * distance.mean()


# -- the WebXR hand ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def webxr():
    """Right and left WebXR hand, float64."""
    from hrlib.datasets.fetch import dataset_folder

    folder = dataset_folder("rigs") / "webxr_generic_hand"
    return {
        side: load_gltf(folder / f"{side}.glb", WEBXR_BONES, side=side, dtype=torch.float64)
        for side in ("right", "left")
    }


@pytest.mark.mirror
@pytest.mark.parametrize("side", ["right", "left"])
def test_webxr_rest_pose_is_the_mesh_of_the_file(webxr, side):
    from pygltflib import GLTF2

    from hrlib.datasets.fetch import dataset_folder

    hand = webxr[side]
    vertices, _ = posed(hand, hand.rest_rotations[None])
    torch.testing.assert_close(vertices[0], hand.vertices_mm, rtol=0, atol=1e-4)
    # and these vertices are the file's, moved as a whole: read without the module's own reader
    file = GLTF2().load(str(dataset_folder("rigs") / "webxr_generic_hand" / f"{side}.glb"))
    blob = file.binary_blob()
    raw = np.frombuffer(blob, "<f4", 1360 * 3, file.bufferViews[0].byteOffset).reshape(-1, 3).astype(float) * 1000
    index = np.frombuffer(blob, "<u2", 6942, file.bufferViews[5].byteOffset).reshape(-1, 3)
    if side == "left":
        raw, index = raw * [-1, 1, 1], index[:, ::-1]
    ours, theirs = hand.vertices_mm[hand.faces].numpy().reshape(-1, 3), raw[index].reshape(-1, 3)
    R = np.linalg.lstsq(theirs - theirs.mean(0), ours - ours.mean(0), rcond=None)[0]
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-6)
    assert np.linalg.det(R) > 0
    np.testing.assert_allclose((theirs - theirs.mean(0)) @ R, ours - ours.mean(0), atol=1e-4)
    assert signed_volume(hand) > 0


@pytest.mark.mirror
def test_webxr_bones_are_those_of_an_adult(webxr):
    hand = webxr["right"]
    length = dict(zip(JOINT_NAMES, hand.bones_mm.norm(dim=1).tolist(), strict=True))
    for finger in FINGERS[1:]:
        assert 75 < length[f"{finger}_base"] < 100, "wrist to knuckle"
        assert 30 < length[f"{finger}_middle"] < 55, "first phalanx"
        assert 15 < length[f"{finger}_far"] < 35, "second phalanx"
    tips = (hand.tips_mm - hand.joints_mm[list(TIP_PARENTS)]).norm(dim=1)
    assert ((tips > 18) & (tips < 30)).all(), tips
    assert (hand.weights.sum(0) > 1).all(), "every joint moves something"


@pytest.mark.mirror
def test_webxr_left_is_the_mirrored_right(webxr):
    right, left = webxr["right"], webxr["left"]
    assert torch.equal(torch.tensor(left.vertices_mm.shape), torch.tensor(right.vertices_mm.shape))
    # the files' index fingers differ (their knuckles lie 3.4 mm apart); the other joints agree to tenths of a millimetre
    index = [JOINT_NAMES.index(n) for n in ("index_base", "index_middle", "index_far")]
    others = [j for j in range(16) if j not in index]
    assert (left.joints_mm - right.joints_mm)[others].norm(dim=1).max() < 0.5
    assert (left.joints_mm - right.joints_mm)[index].norm(dim=1).max() < 4
    distance = torch.cdist(left.vertices_mm, right.vertices_mm).min(1).values
    assert distance.max() < 1.0


@pytest.mark.mirror
def test_webxr_rest_pose_lies_about_within_the_limits(webxr):
    hand = webxr["right"]
    angles = torch.rad2deg(euler_angles(hand.rest_rotations))[1:]
    low, high = torch.rad2deg(hand.limits_rad[1:]).unbind(-1)
    excess = (low - angles).clamp_min(0) + (angles - high).clamp_min(0)
    assert excess.max() < 10, "its far joints are stretched by up to 11 degrees, ours by 5"
    assert excess.sum() < 30 and (excess > 0).sum() <= 8


@pytest.mark.mirror
def test_webxr_cloud_is_even(webxr):
    distance = nearest_distances(webxr["right"].cloud_mm.numpy())
    assert len(distance) == 2048 and distance.std() / distance.mean() < 0.25


def check_fist(hand):
    """80 degrees of flexion at every finger joint bring the fingertips to the palm, whatever the rig."""
    from hrlib.hand.kinematics import joint_positions

    rotations = torch.cat([pose({}, hand.vertices_mm.dtype), pose(FIST_DEG, hand.vertices_mm.dtype)])
    vertices, T = posed(hand, rotations)
    straight, fist = joint_positions(hand, T)[:, [8, 12, 16, 20]]
    joints = T[1, :, :3, 3]
    assert (fist.norm(dim=1) < 0.75 * straight.norm(dim=1)).all(), "tips come nearer to the wrist"
    assert (fist[:, 2] > 5).all() and (fist[:, 2] < 45).all(), "on the palm's side, near it"
    knuckles = joints[[4, 7, 10, 13]]
    assert (fist[:, 1] < knuckles[:, 1]).all(), "below the knuckles"
    middles = joints[[5, 8, 11, 14]]
    assert (middles[:, 2] > knuckles[:, 2] + 15).all(), "the first phalanx points out of the palm"
    # half way the tips are farther from the palm's plane than at the end: they curl in and not out
    half, T_half = posed(hand, pose({k: (45, 0, 0) for k in FIST_DEG}, hand.vertices_mm.dtype))
    assert (joint_positions(hand, T_half)[0, [8, 12, 16, 20], 2] > fist[:, 2]).all()


@pytest.mark.mirror
def test_flexion_makes_a_fist_on_the_webxr_hand(webxr):
    check_fist(webxr["right"])


def test_flexion_makes_a_fist_on_the_template():
    check_fist(template(torch.float64))


def check_deviation_and_thumb(hand):
    """Deviation > 0 moves fingers to the little finger's side; a bent thumb crosses the palm on its inner side."""
    from hrlib.hand.kinematics import joint_positions

    dtype = hand.vertices_mm.dtype
    neutral, aside, thumb = (
        joint_positions(hand, posed(hand, pose(angles, dtype))[1])[0]
        for angles in (
            {},
            {f"{f}_base": (0, 15, 0) for f in FINGERS[1:]},
            {"thumb_base": (20, 0, 0), "thumb_middle": (50, 0, 0), "thumb_far": (60, 0, 0)},
        )
    )
    tips = [8, 12, 16, 20]
    assert (aside[tips, 0] < neutral[tips, 0] - 5).all(), "x points to the thumb"
    assert thumb[4, 0] < neutral[4, 0] - 40, "the thumb's tip goes to the little finger's side"
    assert thumb[4, 2] > 10, "and stays on the palm's side"


@pytest.mark.mirror
def test_deviation_and_thumb_of_the_webxr_hand(webxr):
    check_deviation_and_thumb(webxr["right"])


def test_deviation_and_thumb_of_the_template():
    check_deviation_and_thumb(template(torch.float64))


FINGER_NAMES = ("Thumb", "Index", "Middle", "Ring", "Pinky")


def mixamo(side: str) -> list[str]:
    return [f"mixamorig:{side}Hand", *(f"mixamorig:{side}Hand{f}{i}" for f in FINGER_NAMES for i in (1, 2, 3, 4))]


def test_bones_are_found_by_the_names_of_several_programs():
    found = bones_by_name(["mixamorig:RightForeArm", *mixamo("Left"), *mixamo("Right")])
    assert found["wrist"] == ("mixamorig:RightHand",) and found["index_base"] == "mixamorig:RightHandIndex1"
    assert found["thumb_tip"] == "mixamorig:RightHandThumb4" and len(found) == 21
    assert bones_by_name(mixamo("Left"), "left")["ring_far"] == "mixamorig:LeftHandRing3"
    blender = [f"{f}.0{i}.R" for f in ("thumb", "f_index", "f_middle", "f_ring", "f_pinky") for i in (1, 2, 3)]
    found = bones_by_name(["forearm.R", "hand.R", "hand.L", *reversed(blender)])
    assert found["wrist"] == ("hand.R",) and found["pinky_middle"] == "f_pinky.02.R" and len(found) == 16
    unity = [f"Right{f}{part}" for f in ("Index", "Middle", "Ring", "Little") for part in ("Distal", "Proximal")]
    unity += [f"Right{f}Intermediate" for f in ("Index", "Middle", "Ring", "Little")]
    thumb = ["RightThumbDistal", "RightThumbProximal", "RightThumbMetacarpal"]
    found = bones_by_name(["RightHand", *unity, *thumb, "RightIndexMetacarpal"])
    assert found["thumb_base"] == "RightThumbMetacarpal" and found["thumb_far"] == "RightThumbDistal"
    assert found["pinky_far"] == "RightLittleDistal" and found["wrist"] == ("RightHand", "RightIndexMetacarpal")


def test_numbers_and_letters_come_before_the_end():
    """SteamVR's names, and Ultraleap's."""
    fingers = [finger.lower() for finger in FINGER_NAMES]
    valve = [f"finger_{finger}_{part}_r" for finger in fingers for part in (0, 1, 2)]
    valve += [f"finger_{finger}_r_end" for finger in fingers] + [f"finger_{finger}_meta_r" for finger in fingers[1:]]
    found = bones_by_name(["wrist_r", *valve])
    assert [found[f"index_{part}"] for part in ("base", "far", "tip")] == [
        f"finger_index_{part}" for part in ("0_r", "2_r", "r_end")
    ]
    assert found["wrist"][1] == "finger_index_meta_r" and len(found) == 21
    leap = [f"R_{finger}_{part}" for finger in fingers for part in ("end", "b", "a", "meta")]
    found = bones_by_name(["R_Wrist", *leap, *(f"R_{finger}_c" for finger in fingers[1:])])
    assert (
        found["thumb_base"] == "R_thumb_meta" and found["ring_base"] == "R_ring_a" and found["ring_tip"] == "R_ring_end"
    )


def test_markers_are_no_bones_and_a_null_is_a_tip():
    """The names of Oculus's hands, whose thumb and little finger have a bone in the palm."""
    counts = {"thumb": 4, "index": 3, "middle": 3, "ring": 3, "pinky": 4}
    names = [f"b_r_{f}{number}" for f, count in counts.items() for number in range(4 - count, 4)]
    names += [f"b_r_{f}_null" for f in counts] + [f"r_{f}_finger_tip_marker" for f in counts]
    found = bones_by_name(["b_r_wrist", "r_thumb_fingernail_marker", *sorted(names, reverse=True)])
    assert found["wrist"] == ("b_r_wrist", "b_r_thumb0", "b_r_pinky0") and len(found) == 21
    assert [found[f"{f}_base"] for f in counts] == [f"b_r_{f}1" for f in counts]
    assert found["index_tip"] == "b_r_index_null" and found["thumb_far"] == "b_r_thumb3"


def test_bones_that_names_do_not_tell_are_asked_for():
    with pytest.raises(
        ValueError, match=r"the ring must have three bones and maybe a tip, got \['.*Ring1'\] .*--bones"
    ):
        bones_by_name([name for name in mixamo("Right") if not name.endswith(("Ring2", "Ring3", "Ring4"))])
    with pytest.raises(ValueError, match="no bone of the right hand or wrist among"):
        bones_by_name([name.replace("Hand", "") for name in mixamo("Right")[1:]])


def test_bones_without_names_are_told(tmp_path):
    def unnamed(tree, data):
        for node in tree["nodes"]:
            node.pop("name", None)
        return data

    with pytest.raises(
        ValueError, match="stick.glb: its bones have no names, which tell one from the other; name them"
    ):
        hand_from_file(write_stick_glb(tmp_path / "stick.glb", change=unnamed))


def test_interleaved_arrays_are_read(tmp_path):
    """Vertices and weights in turn, as game engines have them."""

    def interleaved(tree, data):
        parts, count = [], tree["accessors"][0]["count"]
        for number, columns in ((0, 3), (2, 4)):
            at = tree["bufferViews"][number]["byteOffset"]
            parts.append(np.frombuffer(data, np.float32, columns * count, at).reshape(count, columns))
            tree["accessors"][number] |= {"bufferView": len(tree["bufferViews"]), "byteOffset": 12 * (number > 0)}
        both = np.concatenate(parts, 1).tobytes()
        tree["bufferViews"].append(
            {"buffer": 0, "byteOffset": len(data), "byteLength": len(both), "byteStride": 4 * (3 + 4)}
        )
        tree["buffers"][0]["byteLength"] = len(data) + len(both)
        return data + both

    plain, ours = (load_stick(write_stick_glb(tmp_path / "a.glb", change=change)) for change in (None, interleaved))
    torch.testing.assert_close(ours.vertices_mm, plain.vertices_mm, rtol=0, atol=0)
    torch.testing.assert_close(ours.weights, plain.weights, rtol=0, atol=0)


def numbers_of(tree, data, name, dtype):
    """A view of the numbers of an attribute, which changes them."""
    accessor = tree["accessors"][tree["meshes"][0]["primitives"][0]["attributes"][name]]
    return np.frombuffer(data, dtype, 4, tree["bufferViews"][accessor["bufferView"]]["byteOffset"])


def lost_vertex(tree, data):
    data = bytearray(data)
    numbers_of(tree, data, "POSITION", np.float32)[1] = np.nan
    return bytes(data)


def lost_bone(tree, data):
    data = bytearray(data)
    numbers_of(tree, data, "JOINTS_0", np.uint8)[0] = 250
    return bytes(data)


def lost_array(tree, data):
    tree["meshes"][0]["primitives"][0]["attributes"]["POSITION"] = 99
    return data


def lost_corners(tree, data):
    tree["accessors"][3]["count"] -= 1
    return data


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lost_vertex, "POSITION holds NaN or infinite numbers; mend the mesh"),
        (lost_bone, "JOINTS name bone 250 of 22; export it again"),
        (lost_array, "it names array 99 of 5; export it again"),
        (lost_corners, r"\d+ corners up to \d+ of \d+ vertices make no triangles"),
    ],
)
def test_numbers_that_lead_nowhere_are_named(tmp_path, change, message):
    with pytest.raises(ValueError, match=f"odd.glb: no hand can be made of it: {message}"):
        load_stick(write_stick_glb(tmp_path / "odd.glb", change=change))


def test_a_hand_comes_from_any_file_of_one(tmp_path):
    path, map_file = write_stick_glb(tmp_path / "stick.glb"), tmp_path / "bones.json"
    map_file.write_text(json.dumps(STICK_JOINTS | {name: [bone] for name, bone in STICK_TIPS.items()}))
    hand = hand_from_file(path, map_file)
    assert hand.fingerprint == load_gltf(path, STICK_JOINTS | STICK_TIPS).fingerprint
    save_hand(tmp_path / "hand.safetensors", hand, "a test")
    assert hand_from_file(tmp_path / "hand.safetensors").fingerprint == hand.fingerprint
    map_file.write_text(json.dumps({"wrist": "bone wrist"}))
    with pytest.raises(ValueError, match="bones.json: bones must name a bone for each joint"):
        hand_from_file(path, map_file)
    map_file.write_text("wrist: Hand_R")
    with pytest.raises(ValueError, match="bones.json is no map of bones"):
        hand_from_file(path, map_file)
    with pytest.raises(ValueError, match="has no skin: no mesh in it hangs on bones"):
        hand_from_file(write_without_skins(tmp_path / "bare.glb"))


def write_without_skins(path):
    """A glTF with data and without any skin."""
    text = json.dumps({"asset": {"version": "2.0"}, "buffers": [{"byteLength": 4}]}).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", 4, b"BIN\0") + bytes(4)
    path.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks)
    return path
