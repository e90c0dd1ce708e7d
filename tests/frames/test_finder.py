"""The hand finder: its small image, the choice of one hand, sharp masks, and what it finds in scenes it has not seen."""

import numpy as np
import pytest
import torch

from hrlib.frames import finder
from hrlib.frames.camera import Camera
from hrlib.frames.finder import CHANNELS, FOREARM, HAND, FinderNet, connected, find_hand, inputs, sampled, shrink

CAMERA = Camera(525.0, 525.0, 319.5, 239.5)


class ByDepth:
    """In place of the network: cells nearer than 500 mm are a hand, those nearer than 700 mm a forearm."""

    def __call__(self, x):
        log_depth = torch.stack([x[:, 2 + CHANNELS * k] for k in range(4)], 1)
        z = torch.pixel_shuffle(log_depth, 2)[:, 0].exp() * 600
        classes = torch.where(z < 500, HAND, torch.where(z < 700, FOREARM, 0))
        return 20 * torch.nn.functional.one_hot(classes, 3).permute(0, 3, 1, 2).float(), None

    def frame(self, features, share):
        return torch.tensor([[3.0, -3.0]])


@pytest.fixture
def by_depth(monkeypatch):
    monkeypatch.setattr(finder, "finder", lambda: ByDepth())


def blocks(*parts, size=(480, 640), background=1500.0):
    """A wall with blocks (rows, columns, depth) before it."""
    depth = np.full(size, background, np.float32)
    for rows, columns, z in parts:
        depth[rows, columns] = z
    return depth


def test_a_cell_is_the_mean_of_the_surface_in_its_middle():
    depth = np.float32([[500, 504, 0, 0], [508, 512, 0, 700], [900, 900, 1, 1], [900, 600, 1, 1]])
    z = sampled(depth, 0.0, 0.0, 2.0, (3, 2))
    np.testing.assert_allclose(
        z, [[506, 700], [600, 1], [0, 0]]
    )  # 600 is the pixel right below the middle; row 3 is outside


def test_whole_field_of_view_at_one_size():
    for size, cells in (
        ((480, 640), (120, 160)),
        ((424, 512), (126, 152)),
        ((640, 480), (160, 120)),
        ((240, 320), (120, 160)),
    ):
        small = shrink(np.full(size, 800, np.float32), Camera(300.0, 300.0, 1.0, 1.0))
        assert (small.rows, small.columns) == cells
        assert all(n % finder.MULTIPLE == 0 and n >= c for n, c in zip(small.z_mm.shape, cells, strict=True))
        assert small.focal == pytest.approx(300 / small.step)


def test_a_narrow_view_is_not_blown_up():
    small = shrink(np.full((100, 100), 800, np.float32), CAMERA)
    assert small.focal == pytest.approx(finder.FOCAL_MOST) and small.rows == 50 and small.z_mm.shape == (120, 160)


def test_inputs_say_sizes_and_reliefs():
    z = np.full((8, 8), 600, np.float32)
    z[:, 6:] = 610
    z[0, 0] = 0
    x = inputs(z, 150.0, 8, 7)  # 4 mm a cell: the surroundings of 20 mm are 5 cells to each side
    cells = x.reshape(4, 4, 2, 2, CHANNELS).transpose(0, 2, 1, 3, 4).reshape(8, 8, CHANNELS)
    np.testing.assert_array_equal(cells[0, 0], [1, 0, 0, 0, 0, 0])  # not measured
    np.testing.assert_array_equal(cells[:, 7], 0)  # not in the frame
    np.testing.assert_allclose(cells[4, 4, :4], [1, 1, 0, 0], atol=1e-6)  # 600 mm, 4 mm
    np.testing.assert_allclose(cells[4, 4, 4], (600 - z[z > 0].mean()) / 20, rtol=1e-4)
    np.testing.assert_allclose(cells[4, 6, 4], (610 - z[:, 1:].mean()) / 20, rtol=1e-4)


def test_pieces_end_where_depth_jumps():
    z = np.float32([[500, 500, 700, 700], [0, 500, 700, 0], [500, 0, 0, 700]])
    label, count = connected(z, z > 0)
    assert count == 2 and (label[z == 500] == 1).all() and (label[z == 700] == 2).all() and (label[z == 0] == 0).all()


def test_mask_is_as_sharp_as_the_frame(by_depth):
    depth = blocks((slice(101, 223), slice(203, 331), 450.0), (slice(223, 400), slice(241, 299), 600.0))
    depth[150, 250] = 0
    found = find_hand(depth, CAMERA)
    np.testing.assert_array_equal(found.mask, depth == 450)
    np.testing.assert_array_equal(found.forearm, depth == 600)
    assert found.hand == pytest.approx(0.953, abs=1e-3) and found.right == pytest.approx(0.047, abs=1e-3)
    assert found.at_border == 0


def test_of_two_hands_the_larger_one_or_the_expected_one(by_depth):
    large, small = (slice(100, 260), slice(60, 200), 480.0), (slice(120, 240), slice(440, 560), 450.0)
    depth = blocks(large, small)
    np.testing.assert_array_equal(find_hand(depth, CAMERA).mask, depth == 480)
    there = CAMERA.unproject(500.0, 180.0, 450.0)
    np.testing.assert_array_equal(find_hand(depth, CAMERA, there).mask, depth == 450)


def test_a_finger_behind_a_gap_is_of_the_hand(by_depth):
    depth = blocks((slice(100, 200), slice(100, 220), 480.0), (slice(100, 130), slice(228, 260), 480.0))
    np.testing.assert_array_equal(find_hand(depth, CAMERA).mask, depth == 480)


def test_border(by_depth):
    assert find_hand(blocks((slice(0, 150), slice(100, 220), 480.0)), CAMERA).at_border > 0.99


def test_no_hand(by_depth):
    for depth in (blocks(), np.zeros((480, 640), np.uint16)):
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


def test_damaged_weights_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(finder, "FINDER", tmp_path / "finder.safetensors")
    finder.finder.cache_clear()
    with pytest.raises(ValueError, match=r"finder.safetensors cannot be read .*install hrlib again"):
        find_hand(blocks(), CAMERA)
    finder.finder.cache_clear()


def test_frame_judges_only_the_cells_given():
    torch.manual_seed(0)
    net, features = FinderNet(), (torch.rand(1, 48, 30, 40), torch.rand(1, 96, 15, 20))
    share = torch.zeros(1, 1, 120, 160)
    share[..., :40, :40] = 1
    before = net.frame(features, share)
    for feature, size in zip(features, (10, 5), strict=True):
        feature[..., size:, size:] += 1
    torch.testing.assert_close(net.frame(features, share), before)
