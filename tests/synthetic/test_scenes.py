import numpy as np
import pytest

from hrlib.synthetic import scenes
from hrlib.synthetic.scenes import ELSE, FOREARM, HAND, Scenes, compose_scenes, draw_scenes, labels_of, smeared_scene


@pytest.fixture(scope="module")
def drawn() -> Scenes:
    return draw_scenes(32, seed=5)


@pytest.fixture(scope="module")
def composed():
    return compose_scenes(32, seed=5)


def test_scenes_depend_on_their_seed_alone(drawn):
    again, other = draw_scenes(10, seed=5), draw_scenes(10, seed=6)
    for name in vars(again):
        np.testing.assert_array_equal(getattr(again, name), getattr(drawn, name)[:10])
    assert not np.array_equal(other.depth_mm, again.depth_mm)
    assert drawn.depth_mm.dtype == np.float32 and drawn.label.dtype == np.uint8


def test_hand_is_labelled_where_it_is_the_nearest_surface(composed):
    hands = hidden = 0
    for scene in composed:
        main = (scene.label == HAND) & ~scene.second
        hands += main.any()
        np.testing.assert_array_equal(scene.depth_mm[main], scene.hand_mm[main])
        other = (scene.hand_mm > 0) & (scene.depth_mm > 0) & ~main
        assert (scene.depth_mm[other] < scene.hand_mm[other]).all()
        hidden += (other & (scene.label == ELSE)).any()
    assert hands > 20 and hidden > 3


def test_nothing_is_labelled_without_a_measurement(drawn):
    assert (drawn.label[drawn.depth_mm == 0] == ELSE).all()
    assert set(np.unique(drawn.label)) == {ELSE, HAND, FOREARM}


def test_flags(drawn):
    pixels = (drawn.label == HAND).sum((1, 2))
    assert (pixels[drawn.hand] >= scenes.LEAST_PX).all() and (pixels[~drawn.hand] == 0).all()
    assert not (drawn.shows_side | drawn.right | drawn.at_border)[~drawn.hand].any()
    for flag in (drawn.hand, drawn.right, drawn.shows_side, drawn.at_border):
        assert 0 < flag.sum() < len(drawn)


def test_hands_at_the_border_are_cut_by_it(composed):
    inner = (slice(1, -1), slice(1, -1))
    touches = [(s.hand_mm > 0).sum() > (s.hand_mm[inner] > 0).sum() for s in composed if s.inside > 0]
    outside = [s.inside < 0.95 for s in composed if s.inside > 0]
    assert any(outside) and all(t for t, o in zip(touches, outside, strict=True) if o)
    assert all(scene.seen >= scenes.LEAST_SHARE for scene in composed)


def test_left_hands_are_mirrored_right_hands(composed):
    scene = next(scene for scene in composed if scene.right)
    mirrored = scenes._mirrored(scene)
    assert not mirrored.right and mirrored.intrinsics[2] == scenes.SIZE[1] - 1 - scene.intrinsics[2]
    np.testing.assert_array_equal(mirrored.depth_mm[:, ::-1], scene.depth_mm)


def test_label_of_a_measurement_is_that_of_the_surface_it_comes_from():
    clean, label = np.full((5, 6), 900.0, np.float32), np.zeros((5, 6), np.uint8)
    clean[:, 3:], label[:, 3:] = 500.0, HAND
    measured = clean.copy()
    measured[1, 2] = 505  # the sensor looked aside: the hand
    measured[2, 3] = 890  # and the wall
    measured[3, 4] = 507  # noise
    measured[4, 4] = 0
    measured[0, 3] = 700  # between both
    seen, expected = labels_of(clean, label, measured), label.copy()
    expected[1, 2], expected[2, 3], expected[4, 4], expected[0, 3] = HAND, ELSE, ELSE, ELSE
    np.testing.assert_array_equal(seen, expected)


def test_smeared_scenes_have_wider_hands_and_ramps_of_nobody():
    depth_mm, label = np.full((60, 80), 900, np.float32), np.zeros((60, 80), np.uint8)
    depth_mm[20:40, 30:50], label[20:40, 30:50] = 600, HAND
    depth_mm[:20, :20] = 0
    wide, seen = smeared_scene(depth_mm, label, 3, 2)
    assert (seen[label == HAND] == HAND).mean() > 0.9
    assert (wide[30, 27:53] < 640).sum() > (depth_mm[30] < 640).sum()  # the nearer surface reaches over its outline
    assert (seen[30] == HAND).sum() > (label[30] == HAND).sum()
    assert (abs(wide[seen == HAND] - 600) <= scenes.RAMP_MM).all()  # what flies between the two surfaces is no hand
    between = (wide > 650) & (wide < 850)
    assert between.any() and (seen[between] == ELSE).all()
    assert (wide[:10, :10] == 0).all()  # far from what was measured nothing is filled
