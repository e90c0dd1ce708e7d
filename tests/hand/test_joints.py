"""Maps to the joints of other data sets: weights, order and places, on the hand at rest."""

import numpy as np
import pytest
import torch

from hrlib.hand.joints import JOINT_COUNTS, NYU_SUBSETS, POINT_NAMES, POINT_ORDER, joint_map, to_dataset_joints
from hrlib.hand.rig import load_hand

EVERY = [(dataset, count) for dataset, counts in JOINT_COUNTS.items() for count in counts]


def resting_points() -> torch.Tensor:
    hand = load_hand()
    return torch.cat([hand.joints_mm, hand.tips_mm])[list(POINT_ORDER)]


@pytest.mark.parametrize(("dataset", "count"), EVERY)
def test_a_map_moves_with_the_hand(dataset, count):
    weights = joint_map(dataset, count)
    assert weights.shape == (count, 21)
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-6)
    points = resting_points()
    moved = to_dataset_joints(points + torch.tensor([10.0, -20, 700]), dataset, count)
    np.testing.assert_allclose(
        moved, to_dataset_joints(points, dataset, count) + torch.tensor([10.0, -20, 700]), atol=1e-3
    )
    np.testing.assert_allclose(to_dataset_joints(points.numpy()[None], dataset, count)[0], weights @ points.numpy())


def test_joints_are_where_their_names_say():
    points = resting_points()

    def at(name):
        return points[POINT_NAMES.index(name)]

    nyu = to_dataset_joints(points, "nyu", 36)
    for first, finger in zip(range(0, 30, 6), ("pinky", "ring", "middle", "index", "thumb"), strict=True):
        for k, part in ((0, "tip"), (1, "far"), (3, "middle"), (5, "base")):
            torch.testing.assert_close(nyu[first + k], at(f"{finger}_{part}"))
        along = (nyu[first + 4] - at(f"{finger}_base")).norm() + (nyu[first + 4] - at(f"{finger}_middle")).norm()
        torch.testing.assert_close(along, (at(f"{finger}_base") - at(f"{finger}_middle")).norm())
    assert 20 < (nyu[30] - nyu[31]).norm() < 60  # both sides of the wrist
    assert (nyu[31] - at("thumb_base")).norm() < (nyu[30] - at("thumb_base")).norm(), "31 is the thumb's side"
    assert (nyu[32] - at("middle_base")).norm() < 50 < (nyu[32] - at("wrist")).norm(), "the palm"
    icvl = to_dataset_joints(points, "icvl", 16)
    torch.testing.assert_close(icvl[1], (at("thumb_base") + at("thumb_middle")) / 2)
    torch.testing.assert_close(icvl[15], (at("pinky_far") + at("pinky_tip")) / 2)
    msra = to_dataset_joints(points, "msra", 21)
    torch.testing.assert_close(msra[:2], torch.stack([at("wrist"), at("index_base")]))
    torch.testing.assert_close(msra[-1], at("thumb_tip"))


def test_subsets_are_nested_and_named():
    assert set(NYU_SUBSETS[11]) < set(NYU_SUBSETS[12]) < set(NYU_SUBSETS[14])
    assert [len(joints) for joints in NYU_SUBSETS.values()] == list(NYU_SUBSETS)
    with pytest.raises(ValueError, match="joints must be 36, 16, 14, 12 or 11, got 21"):
        joint_map("nyu", 21)
    with pytest.raises(ValueError, match="dataset must be 'nyu', 'icvl' or 'msra', got 'ours'"):
        joint_map("ours", 21)
    with pytest.raises(ValueError, match=r"points_mm must be \[..., 21, 3\], got \[16, 3\]"):
        to_dataset_joints(np.zeros((16, 3)), "nyu", 14)
