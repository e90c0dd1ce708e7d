"""The hand finder: its images, the choice of one hand, sharp masks; what it finds in unseen scenes and in real frames."""

import numpy as np
import pytest
from finder_fixtures import blocks, by_depth  # noqa: F401
from real_fixtures import nyu_frame, nyu_labels, sr305

from hrlib.datasets.real_joints import RealJoints
from hrlib.frames import finder
from hrlib.frames.camera import Camera
from hrlib.frames.finder import (
    CHANNELS,
    HAND,
    close_up,
    connected,
    find_hand,
    inputs,
    sampled,
    shrink,
    upright,
)
from hrlib.frames.segment import check_mask
from hrlib.synthetic.scenes import draw_scenes

CAMERA = Camera(525.0, 525.0, 319.5, 239.5)


def test_a_cell_is_the_mean_of_the_surface_in_its_middle():
    depth = np.float32([[500, 504, 0, 0], [508, 512, 0, 700], [900, 900, 1, 1], [900, 600, 1, 1]])
    z = sampled(depth, 0.0, 0.0, 2.0, (3, 2))
    np.testing.assert_allclose(
        z, [[506, 700], [600, 1], [0, 0]]
    )  # 600 is the pixel right below the middle; row 3 is outside


def test_whole_field_of_view_at_one_size():
    sizes = {(480, 640): (60, 80), (424, 512): (63, 76), (640, 480): (80, 60), (240, 320): (60, 80)}
    for size, cells in sizes.items():
        small = shrink(np.full(size, 800, np.float32), Camera(300.0, 300.0, 1.0, 1.0))
        assert (small.rows, small.columns) == cells
        assert all(n % finder.MULTIPLE == 0 and n >= c for n, c in zip(small.z_mm.shape, cells, strict=True))


def test_a_narrow_view_is_not_blown_up():
    small = shrink(np.full((100, 100), 800, np.float32), CAMERA)
    assert 525 / small.step == pytest.approx(finder.FOCAL_MOST)
    assert small.rows == 25 and small.z_mm.shape == finder.SMALL


@pytest.mark.parametrize(("z_mm", "f"), [(500.0, 525.0), (900.0, 525.0), (500.0, 240.0)])
def test_a_close_up_has_cells_of_one_size(z_mm, f):
    camera = Camera(f, f, 319.5, 239.5)
    v, u = np.mgrid[:480, :640]
    x, y = camera.unproject(u, v, np.full(u.shape, z_mm))[..., :2].transpose(2, 0, 1)
    square = (np.abs(x - 20) < 45) & (np.abs(y + 10) < 45)
    cells = close_up(np.where(square, z_mm, 0).astype(np.float32), camera, np.array([20.0, -10.0, z_mm]))
    on = np.argwhere(cells.z_mm > 0)
    assert np.ptp(on, axis=0) + 1 == pytest.approx([20, 20], abs=1.1) and on.mean(0) == pytest.approx(
        [31.5, 31.5], abs=0.6
    )
    points = cells.points_mm(camera, *on.T)
    np.testing.assert_allclose(points.mean(0), [20, -10, z_mm], atol=2.3)  # half a cell


def cell_by_cell(x):
    """[h, w, channels] of what a network sees of cells, which has those of 2x2 together."""
    _, height, width = x.shape
    return x.reshape(2, 2, CHANNELS, height, width).transpose(3, 0, 4, 1, 2).reshape(2 * height, 2 * width, CHANNELS)


def test_inputs_say_sizes_reliefs_and_what_is_beside():
    z = np.full((8, 8), 600, np.float32)
    z[:, 6:] = 610
    z[0, 0] = 0
    # 4 mm a cell: the surroundings of 20 mm are 5 cells to each side
    cells = cell_by_cell(inputs(z, 150.0, 8, 7, 580.0))
    np.testing.assert_array_equal(cells[0, 0], [1] + [0] * 21)  # not measured
    np.testing.assert_array_equal(cells[:, 7], 0)  # not in the frame
    np.testing.assert_allclose(cells[4, 4, :4], [1, 1, 0.1, np.log(0.8)], atol=1e-6)
    np.testing.assert_allclose(cells[4, 4, 4], (600 - z[z > 0].mean()) / 20, rtol=1e-4)
    np.testing.assert_allclose(cells[4, 6, 4], (610 - z[:, 1:].mean()) / 20, rtol=1e-4)
    wide = np.full((64, 64), 600, np.float32)
    wide[:, 39:], wide[40:] = 640, 900
    wide[31, 24] = 0
    cells = cell_by_cell(inputs(wide, 150.0, 64, 64, 600.0))
    # 30 mm are 8 cells to the right and 6 aslant, 80 mm are 20 and 14: right, down right, down, ..., up right
    np.testing.assert_allclose(cells[31, 32, 6:14], [0.4, 0, 0, 0, 1, 0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(cells[31, 32, 14:], [0.4, 1, 1, 1, 0, 0, 0, 0.4], atol=1e-6)


def test_pieces_end_where_depth_jumps():
    z = np.float32([[500, 500, 700, 700], [0, 500, 700, 0], [500, 0, 0, 700]])
    label, count = connected(z, z > 0)
    assert count == 2 and (label[z == 500] == 1).all() and (label[z == 700] == 2).all() and (label[z == 0] == 0).all()


@pytest.mark.usefixtures("by_depth")
def test_mask_is_as_sharp_as_the_frame():
    depth = blocks((slice(101, 223), slice(203, 331), 450.0), (slice(223, 400), slice(241, 299), 600.0))
    depth[150, 250] = 0
    found = find_hand(depth, CAMERA)
    np.testing.assert_array_equal(found.mask, depth == 450)
    np.testing.assert_array_equal(found.forearm[:325], (depth == 600)[:325])  # the close-up ends there
    assert not found.forearm[depth != 600].any()
    assert found.hand == pytest.approx(0.95) and found.right == pytest.approx(0.05)
    assert found.at_border == 0


@pytest.mark.usefixtures("by_depth")
def test_of_two_hands_the_larger_one_or_the_expected_one():
    large, small = (slice(100, 260), slice(60, 200), 480.0), (slice(120, 240), slice(440, 560), 450.0)
    depth = blocks(large, small)
    np.testing.assert_array_equal(find_hand(depth, CAMERA).mask, depth == 480)
    there = CAMERA.unproject(490.0, 190.0, 460.0)
    np.testing.assert_array_equal(find_hand(depth, CAMERA, there).mask, depth == 450)


@pytest.mark.usefixtures("by_depth")
def test_a_finger_behind_a_gap_is_of_the_hand():
    depth = blocks((slice(100, 200), slice(100, 220), 480.0), (slice(100, 130), slice(228, 260), 480.0))
    np.testing.assert_array_equal(find_hand(depth, CAMERA).mask, depth == 480)


@pytest.mark.usefixtures("by_depth")
def test_border():
    for rows, columns in ((slice(0, 150), slice(100, 220)), (slice(330, 480), slice(520, 640))):
        found = find_hand(blocks((rows, columns, 480.0)), CAMERA)
        assert found.at_border == 1 and found.mask[rows, columns].mean() > 0.98


@pytest.mark.usefixtures("by_depth")
@pytest.mark.parametrize(("arm", "turn_deg"), [("below", 0), ("above", 180), ("left", -90), ("right", 90), (None, 0)])
def test_a_forearm_tells_which_way_is_up(arm, turn_deg):
    hand = slice(200, 290), slice(280, 370), 480.0
    sides = {
        "below": (slice(290, 400), hand[1]), "above": (slice(90, 200), hand[1]),
        "left": (hand[0], slice(170, 280)), "right": (hand[0], slice(370, 480)),
    }  # fmt: skip
    found = find_hand(blocks(hand, *([(*sides[arm], 590.0)] if arm else [])), CAMERA)
    assert abs(abs(np.degrees(found.upright)) - abs(turn_deg)) < 5 and np.degrees(found.upright) * turn_deg >= 0


@pytest.mark.usefixtures("by_depth")
def test_no_hand():
    for depth in (np.zeros((480, 640), np.uint16), np.zeros((20, 30), np.float32)):
        found = find_hand(depth, CAMERA)
        assert not found.mask.any() and not found.forearm.any() and found.hand == 0


def test_what_is_no_depth_image_is_refused():
    for wrong, text in (
        (np.zeros(5), r"\[H, W\], got \(5,\)"),
        (np.full((9, 9), np.nan), "NaN"),
        (np.full((9, 9), -1.0), "negative"),
    ):
        with pytest.raises(ValueError, match=text):
            find_hand(wrong, CAMERA)


@pytest.mark.parametrize("content", [None, b"", b"no model", "cut"])
def test_damaged_weights_are_named(tmp_path, monkeypatch, content):
    file = tmp_path / "finder_locate.onnx"
    if content is not None:
        file.write_bytes(finder.FINDER["locate"].read_bytes()[:-5000] if content == "cut" else content)
    monkeypatch.setitem(finder.FINDER, "locate", file)
    finder.networks.cache_clear()
    with pytest.raises(ValueError, match=r"finder_locate.onnx cannot be read .*install hrlib again"):
        find_hand(blocks(), CAMERA)
    finder.networks.cache_clear()


def test_only_the_cells_given_are_judged():
    random = np.random.default_rng(0)
    features = [random.random((1, 64 * n, 16 // n, 16 // n), np.float32) for n in (1, 2)]
    share = np.zeros((1, 1, 64, 64), np.float32)
    share[..., :32, :32] = 1
    judge = finder.networks().judge
    before = judge(*features, share)[0]
    for feature, size in zip(features, (8, 4), strict=True):
        feature[..., size:, size:] += 1
    np.testing.assert_allclose(judge(*features, share)[0], before, atol=1e-6)
    features[0][..., :8, :8] += 1
    assert abs(judge(*features, share)[0] - before) > 1e-6 * before


@pytest.mark.parametrize("turn_deg", [0, 70, 180, -120])
def test_an_upright_hand_has_its_forearm_below_and_keeps_its_side(turn_deg):
    v, u = np.mgrid[:64, :64] - 31.5
    turn = np.radians(turn_deg)
    x, y = np.cos(turn) * u + np.sin(turn) * v, np.cos(turn) * v - np.sin(turn) * u
    palm, thumb, arm = (abs(x) < 8) & (abs(y) < 10), (abs(x - 11) < 4) & (abs(y) < 3), (abs(x) < 6) & (y > 10)
    z = np.where(thumb, 480.0, 500.0).astype(np.float32)
    seen = upright(z, palm | thumb, arm)
    assert seen[1, 40:].sum() > 20 and not seen[1, :30].any(), "the forearm is below"
    near = np.argwhere(seen[2] < -0.4)
    assert near.mean(0)[1] > 30 and abs(near.mean(0)[0] - 23.5) < 3, "the thumb is on the right, nearer than the palm"
    assert upright(z, np.zeros_like(palm), arm) is None


def test_a_mirror_image_is_of_the_other_side():
    hands = np.random.default_rng(0).standard_normal((3, 4, 48, 48), np.float32)
    (right,), (mirrored,) = (finder.networks().side(x) for x in (hands, np.ascontiguousarray(hands[..., ::-1])))
    np.testing.assert_allclose(right + mirrored, 1, atol=1e-5)
    assert abs(right - 0.5).min() > 1e-4


# -- the shipped weights --------------------------------------------------------------------------------------------------


def test_hands_of_unseen_scenes_are_found():
    """Few scenes of seeds that nothing was trained on; the figures of many are in benchmarks/results/finder.json."""
    scenes, ious, sides, hands, nothing = draw_scenes(40, 2_000_001), [], [], [], []
    for i in range(len(scenes)):
        found = find_hand(scenes.depth_mm[i], Camera(*map(float, scenes.intrinsics[i])))
        truth = scenes.label[i] == HAND
        if scenes.hand[i]:
            ious.append((found.mask & truth).sum() / (found.mask | truth).sum())
            hands.append(found.hand)
            assert not found.mask[scenes.depth_mm[i] == 0].any() and not (found.mask & found.forearm).any()
        else:
            nothing.append(found.hand)
        sides += [(found.right > 0.5) == scenes.right[i]] if scenes.shows_side[i] else []
    assert np.median(ious) > 0.8 and np.mean(sides) > 0.7 and np.mean(nothing) < np.mean(hands) - 0.2


def test_weights_are_small_and_in_half_precision():
    assert sum(path.stat().st_size for path in finder.FINDER.values()) < 2.4 * 2**20
    assert len(finder.weights_digest()) == 16


def require_sane(frame):
    """A hand's size, in front of what is behind it."""
    found = find_hand(frame.depth_mm, frame.camera)
    check = check_mask(frame.depth_mm, frame.camera, found.mask)
    assert found.hand > 0.5 and check.reason is None, frame.name
    assert 3000 < check.area_mm2 < 22500 and 80 < check.extent_mm < 250, (frame.name, check)
    return found.mask


@pytest.mark.mirror
def test_sr305_masks_are_hands():
    frames = sr305()
    for frame in frames[:6] + frames[10:16]:
        mask = require_sane(frame)
        assert not (mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any()), frame.name


@pytest.mark.mirror
def test_labelled_joints_of_the_nyu_frame_lie_in_its_mask():
    frame = nyu_frame()
    mask = require_sane(frame)
    u, v, d = nyu_labels()
    hand = mask[np.rint(v).astype(int), np.rint(u).astype(int)]
    assert hand[:30].mean() > 0.9  # fingers and thumb
    assert abs(np.median(frame.depth_mm[mask]) - np.median(d)) < 20


@pytest.mark.mirror
def test_a_hand_over_a_table_is_found_without_the_table():
    frames = RealJoints("d435_table")
    for i in range(4, 20, 4):
        frame, joints_mm = frames[i], frames.joints_mm[i]
        points_mm = frame.camera.cloud(frame.depth_mm, find_hand(frame.depth_mm, frame.camera).mask)
        assert np.linalg.norm(points_mm.mean(0) - joints_mm.mean(0)) < 100, frame.name
