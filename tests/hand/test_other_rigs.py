"""What rigs of other people do silently: scales, units, arms, sides, bones and triangles that are not as ours are."""

from dataclasses import replace

import numpy as np
import pytest
import roma
import torch
from core_fixtures import build_stick_hand, template
from test_gltf import load_stick, signed_volume, write_stick_glb

from hrlib.hand.files import BONE_PARENTS, NAMES, skinned_glb
from hrlib.hand.from_file import hand_from_file
from hrlib.hand.gltf import bones_by_name, load_gltf
from hrlib.hand.joints import JOINT_NAMES
from hrlib.hand.rig import load_hand, save_hand
from hrlib.synthetic.frames import Synthesiser


def scaled_data(factor: float, numbers: tuple[int, ...] = (0, 4)):
    """The mesh, its binds, or its weights times a factor: accessors 0, 4 and 2."""

    def change(tree, data):
        array = np.frombuffer(data, np.float32).copy()
        for number in numbers:
            view = tree["bufferViews"][number]
            part = array[view["byteOffset"] // 4 : (view["byteOffset"] + view["byteLength"]) // 4]
            if number == 4:
                part.reshape(-1, 16)[:, 12:15] *= factor  # the last column
            else:
                part *= factor
        return array.tobytes()

    return change


def armature(**transform):
    return lambda tree, data: (tree["nodes"].append({"name": "Armature", "children": [0], **transform}), data)[1]


@pytest.mark.parametrize("unit", [1.0, 100.0, 1000.0])
def test_metres_centimetres_and_millimetres_are_told_by_the_hand_s_length(tmp_path, unit):
    hand = load_stick(write_stick_glb(tmp_path / "a.glb", change=scaled_data(unit)))
    torch.testing.assert_close(hand.joints_mm, build_stick_hand().joints_mm, rtol=0, atol=1e-3)


def test_a_hand_in_inches_wants_its_unit(tmp_path):
    path = write_stick_glb(tmp_path / "a.glb", change=scaled_data(1000 / 25.4))
    with pytest.raises(
        ValueError, match=r"no hand's length in metres, .*--hand-unit-mm\); 2\d.* would make it an adult's"
    ):
        load_stick(path)
    hand = load_stick(path, unit_mm=25.4)
    torch.testing.assert_close(hand.joints_mm, build_stick_hand().joints_mm, rtol=0, atol=1e-3)


def test_an_armature_that_lies_or_stands_changes_nothing(tmp_path):
    turned = armature(rotation=[-(0.5**0.5), 0.0, 0.0, 0.5**0.5], scale=[1.0, 1.0, 1.0])
    hand = load_stick(write_stick_glb(tmp_path / "a.glb", change=turned))
    torch.testing.assert_close(hand.vertices_mm, build_stick_hand().vertices_mm, rtol=0, atol=1e-3)


def test_uneven_scales_are_refused_by_the_bone_s_name(tmp_path):
    path = write_stick_glb(tmp_path / "a.glb", change=armature(scale=[1.0, 1.0, 2.0]))
    with pytest.raises(
        ValueError, match=r"bone 'bone wrist' is scaled unevenly \(1 to 2\); apply the scale .*All Transf"
    ):
        load_stick(path)

    def one_bone(tree, data):
        next(node for node in tree["nodes"] if node.get("name") == "bone index_base")["scale"] = [1.3] * 3
        return data

    with pytest.raises(ValueError, match="bones 'bone wrist' and 'bone index_base' are scaled by 1 and 1.3"):
        load_stick(write_stick_glb(tmp_path / "b.glb", change=one_bone))


def test_an_armature_that_mirrors_shows_the_other_hand(tmp_path):
    mirror = armature(scale=[-1.0, 1.0, 1.0])
    hand = load_stick(write_stick_glb(tmp_path / "right.glb", mirrored=True, change=mirror))
    torch.testing.assert_close(hand.vertices_mm, build_stick_hand().vertices_mm, rtol=0, atol=1e-3)
    left = write_stick_glb(tmp_path / "left.glb", change=mirror)
    with pytest.raises(ValueError, match="mirror a left hand"):
        load_stick(left)
    assert signed_volume(load_stick(left, side="left")) > 0


def test_weights_that_do_not_sum_to_one_are_shares_all_the_same(tmp_path):
    plain = load_stick(write_stick_glb(tmp_path / "a.glb"))
    heavy = load_stick(write_stick_glb(tmp_path / "b.glb", change=scaled_data(2.5, (2,))))
    torch.testing.assert_close(heavy.weights, plain.weights, rtol=0, atol=1e-6)


def test_all_meshes_of_the_skin_are_the_hand(tmp_path):
    def halves(tree, data):
        whole = tree["accessors"][3]
        half = whole["count"] // 6 * 3
        tree["accessors"].append(whole | {"byteOffset": 2 * half, "count": whole["count"] - half})
        tree["accessors"][3] = whole | {"count": half}
        (primitive,) = tree["meshes"][0]["primitives"]
        tree["meshes"].append({"primitives": [primitive | {"indices": len(tree["accessors"]) - 1}]})
        tree["nodes"].append({"mesh": 1, "skin": 0})
        return data

    plain, two = (
        load_stick(write_stick_glb(tmp_path / "a.glb")),
        load_stick(write_stick_glb(tmp_path / "b.glb", change=halves)),
    )
    assert len(two.faces) == len(plain.faces) and len(two.vertices_mm) == len(plain.vertices_mm)
    assert signed_volume(two) == pytest.approx(signed_volume(plain))


# -- the template with other bones ------------------------------------------------------------------------------------


def write_rig(path, extra=(), renamed=None, mesh=None, tips=True):
    """The template as .glb. extra: bones (name, number of the parent, place in mm), which come after ours."""
    hand = template(torch.float64)
    axes = torch.cat([hand.R_wrist_rest, hand.R_wrist_rest[[3, 6, 9, 12, 15]]])
    T = roma.Rigid(axes, torch.cat([hand.joints_mm, hand.tips_mm]) / 1000).to_homogeneous().numpy()
    count = 21 if tips else 16
    bones = [(renamed or {}).get(name, name) for name in NAMES[:count]]
    bones = [[name, parent, place] for name, parent, place in zip(bones, BONE_PARENTS, T, strict=False)]
    for name, parent, place_mm in extra:
        place = np.eye(4)
        place[:3, 3] = np.array(place_mm) / 1000
        bones.append([name, parent, place])
    vertices, faces, weights = mesh or (hand.vertices_mm.numpy(), hand.faces.numpy(), hand.weights.numpy())
    padded = np.zeros((len(vertices), len(bones)))
    padded[:, : weights.shape[1]] = weights
    return path, bones, (vertices / 1000, faces, padded)


def written(path, bones, mesh):
    path.write_bytes(skinned_glb("hand", [tuple(bone) for bone in bones], mesh))
    return path


def test_a_forearm_with_a_bone_of_its_own_is_cut_off(tmp_path):
    hand, maker = template(), Synthesiser(template())
    arm = maker.forearms(torch.tensor([[200.0, 0.0, 0.0]]))[0]
    vertices = torch.cat([hand.vertices_mm, arm]).numpy()
    path, bones, (vertices, faces, weights) = write_rig(
        tmp_path / "arm.glb",
        [("forearm", -1, (0, -200, 0)), ("twist", 21, (0, -100, 0))],
        mesh=(vertices, maker.faces, np.eye(16)[np.zeros(len(vertices), int)]),
    )
    bones[0][1] = 21  # the wrist hangs on the forearm
    count = len(hand.vertices_mm)
    weights[:count, :16] = hand.weights
    weights[count:] = np.eye(len(bones))[22]  # its skin moves with a bone beside the wrist
    cut = load_gltf(written(path, bones, (vertices, faces, weights)), {name: name for name in JOINT_NAMES})
    assert cut.vertices_mm[:, 1].min() > -20, "200 mm of arm would be part of the palm"
    torch.testing.assert_close(cut.joints_mm, hand.joints_mm, rtol=0, atol=1e-3)
    assert len(Synthesiser(cut).loop) == len(maker.loop), "an arm can be attached where the other one was"


OCULUS = {
    f"{f}_{p}": f"b_r_{f}{k + 1}"
    for f in ("thumb", "index", "middle", "ring", "pinky")
    for k, p in enumerate(("base", "middle", "far"))
}


def test_a_fourth_bone_is_a_tip_or_a_palm_s_as_the_skin_says(tmp_path):
    names = OCULUS | {"wrist": "b_r_hand"}
    palm = [("b_r_thumb0", 0, (12.0, 10.0, 2.0)), ("b_r_pinky0", 0, (-12.0, 20.0, 2.0))]
    hand = hand_from_file(written(*write_rig(tmp_path / "from_zero.glb", palm, names, tips=False)))
    torch.testing.assert_close(hand.joints_mm, template().joints_mm, rtol=0, atol=1e-3)
    tips = {f"{finger}_tip": f"b_r_{finger}4" for finger in ("thumb", "index", "middle", "ring", "pinky")}
    hand = hand_from_file(written(*write_rig(tmp_path / "with_tips.glb", (), names | tips)))
    torch.testing.assert_close(hand.joints_mm, template().joints_mm, rtol=0, atol=1e-3)


@pytest.mark.parametrize("pattern", ["Left{}", "{}.L", "l{}", "b_l_{}"])
def test_bones_of_the_left_hand_ask_for_its_side(pattern):
    bones = [
        pattern.format("Hand"),
        *(pattern.format(f"{f}{i}") for f in ("Thumb", "Index", "Middle", "Ring", "Little") for i in (1, 2, 3)),
    ]
    with pytest.raises(ValueError, match="the thumb's bones are named after the left hand; say so .--side left."):
        bones_by_name(bones)
    assert bones_by_name(bones, "left")["pinky_base"] == pattern.format("Little1")


def test_triangles_that_show_their_backs_are_turned(tmp_path):
    path, bones, (vertices, faces, weights) = write_rig(tmp_path / "inside_out.glb")
    hand = hand_from_file(written(path, bones, (vertices, faces[:, ::-1], weights)))
    assert signed_volume(hand) > 0
    torch.testing.assert_close(hand.joints_mm, template().joints_mm, rtol=0, atol=1e-3)


def test_a_mesh_of_many_triangles_is_kept_as_it_is(tmp_path):
    hand = template()
    many = replace(hand, faces=hand.faces.repeat(12, 1), cloud_face=hand.cloud_face + 11 * len(hand.faces))
    assert len(many.faces) > 32767
    save_hand(tmp_path / "many.safetensors", many, "a test")
    read = load_hand(tmp_path / "many.safetensors")
    assert torch.equal(read.faces, many.faces) and torch.equal(read.cloud_face, many.cloud_face)
    torch.testing.assert_close(read.cloud_mm, hand.cloud_mm)
