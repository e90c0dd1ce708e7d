"""The 3D view: what is sent to the browser poses the hand as the library does."""

import base64
from dataclasses import replace

import numpy as np
import pytest
import torch
import traitlets
from core_fixtures import build_stick_hand, pose, template

from hrlib.companion import hand_explorer
from hrlib.companion.hand_view import STATIC, HandView
from hrlib.hand.kinematics import forward_kinematics, joint_positions
from hrlib.hand.shape import HandShape, shaped
from hrlib.hand.skinning import skin, skinning_transforms


def array(data: bytes, *shape, kind=np.float32):
    return np.frombuffer(data, kind).reshape(shape)


@pytest.fixture
def posed():
    hand = template()
    T = forward_kinematics(
        hand, pose({"index_base": (40, 5, 0), "thumb_far": (30, 0, 0)}), torch.tensor([[1.0, 2.0, 300.0]])
    )
    view = HandView(hand)
    view.pose(T)
    return hand, T, view


def in_the_browser(rest, weights, bones):
    """What viewer.js does: sum_j w_ij M_j p_i."""
    at = np.concatenate([rest, np.ones_like(rest[:, :1])], 1)
    return np.einsum("nj,jrc,nc->nr", weights, bones, at)


def test_the_browser_poses_mesh_cloud_and_skeleton_like_the_library(posed):
    hand, T, view = posed
    bones = array(view.bones, 16, 3, 4)
    for rest, weights, wanted in (
        (view.vertices, view.weights, skin(hand.vertices_mm, hand.weights, skinning_transforms(hand, T))),
        (view.cloud, view.cloud_weights, skin(hand.cloud_mm, hand.cloud_weights, skinning_transforms(hand, T))),
        (view.points, view.point_weights, joint_positions(hand, T)),
    ):
        found = in_the_browser(array(rest, -1, 3), array(weights, -1, 16), bones)
        assert np.abs(found - wanted[0].numpy()).max() < 1e-2
    assert array(view.faces, -1, 3, kind=np.uint32).max() == len(hand.vertices_mm) - 1
    assert array(view.bones_of_points, -1, 2, kind=np.uint32).shape == (20, 2)


def test_a_view_begins_in_the_pose_that_it_is_given(posed, monkeypatch):
    """Else a browser shows the rest pose first, upside down, for as long as it is busy."""
    hand, T, view = posed
    assert HandView(hand, T_cam_joint=T).bones == view.bones != HandView(hand).bones
    first = []

    class Recorded(HandView):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            first.append(self.bones)

    monkeypatch.setattr(hand_explorer, "HandView", Recorded)
    assert [hand_explorer.Explorer(hand).hand_view.bones] == first


def test_a_move_sends_less_than_a_kilobyte(posed):
    hand, T, view = posed
    sent = []
    view.observe(lambda change: sent.append((change.name, len(change.new))))
    view.pose(T + 1)
    assert sent == [("bones", 768)]


def test_another_shape_of_the_same_hand(posed):
    hand, _, view = posed
    before = view.vertices
    view.reshape(shaped(hand, replace(HandShape.template(), log_scale=torch.tensor(0.1))))
    assert view.vertices != before
    with pytest.raises(ValueError, match="is no other shape of"):
        view.reshape(build_stick_hand())


def test_what_is_wrong_is_refused(posed):
    view = posed[2]
    with pytest.raises(ValueError, match=r"T_cam_joint must be \[1, 16, 4, 4\], got \[2, 16, 4, 4\]"):
        view.pose(torch.zeros(2, 16, 4, 4))
    with pytest.raises(traitlets.TraitError):
        view.shown = ["bones"]


def test_a_picture_stands_in_where_no_javascript_runs():
    with_picture, without = HandView(template(), picture=lambda: b"picture"), HandView(template())
    data, _ = with_picture._repr_mimebundle_()
    assert base64.b64decode(data["image/png"]) == b"picture" and "application/vnd.jupyter.widget-view+json" in data
    assert "image/png" not in without._repr_mimebundle_()[0]


def test_the_bundle_has_its_licence_and_asks_nobody_for_anything():
    bundle = (STATIC / "viewer.js").read_text(encoding="utf-8")
    assert "Three.js Authors" in bundle[-1000:] and "SPDX-License-Identifier: MIT" in bundle[-1000:]
    assert "import(" not in bundle and "cdn" not in bundle.lower()
