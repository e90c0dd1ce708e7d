"""Hands in whole scenes as the finder leaves them."""

import dataclasses

import pytest
import torch

from hrlib.hand.kinematics import points_of_hands
from hrlib.hand.rig import load_hand
from hrlib.synthetic.found_hands import OFF_MM, found_hands
from hrlib.synthetic.many_hands import ManyHands
from hrlib.training import found_pool as pools
from hrlib.training.batches import Batches, PretrainSettings
from hrlib.training.pretrain import pretrain


@pytest.fixture(scope="module")
def some():
    return found_hands(12, 3)


def test_their_truth_is_where_the_crops_are(some):
    assert len(some) == 12
    off_mm = (some.joints_mm.mean(1) - some.crops.centre_mm).norm(dim=1)
    assert off_mm.max() < OFF_MM
    # measured points lie on the hand: most are within a finger's thickness of a bone's end or between two
    points_mm = (some.crops.points - 0.5) * 250 + some.crops.centre_mm[:, None]
    nearest_mm = torch.cdist(points_mm, some.joints_mm).amin(2)
    assert nearest_mm.median() < 25


def test_the_seed_alone_decides(some):
    again = found_hands(5, 3)
    torch.testing.assert_close(again.crops.image, some.crops.image[:5])
    torch.testing.assert_close(again.rotations, some.rotations[:5])


def test_the_bones_are_those_of_the_hand_that_is_seen(some):
    posed_mm = points_of_hands(some.bones_mm, some.rotations, some.wrist_mm)
    torch.testing.assert_close(posed_mm, some.joints_mm, atol=1e-2, rtol=1e-4)
    assert some.shape.shape == (12, 8)


def test_a_pool_is_drawn_once_and_mixed_into_batches(tmp_path, monkeypatch):
    monkeypatch.setattr(pools, "SHARD", 6)
    pool = pools.found_pool(tmp_path, 10, 1, progress=False)
    assert len(pool) == 12 and pool.crops.image.dtype == torch.float16
    monkeypatch.setattr(pools, "found_hands", None)  # nothing is drawn again
    again = pools.found_pool(tmp_path, 10, 1, progress=False)
    assert torch.equal(pool.crops.image, again.crops.image)
    settings = PretrainSettings(batch=20, fresh=0.5, found=0.4, lanes=1, seed=4)
    batches = Batches(ManyHands(load_hand()), settings, pool=pool)
    batch = batches(0)
    assert len(batch) == 10
    # a turn in the image keeps the distance from the camera: the last four are the pool's
    known = pool.wrist_mm[:, 2]
    assert all((known - z).abs().min() < 1e-3 for z in batch.wrist_mm[6:, 2])
    assert len(batches(1)) == 20


def test_a_hand_of_ones_own_has_no_scenes(tmp_path):
    other = dataclasses.replace(load_hand(), vertices_mm=load_hand().vertices_mm * 1.1)
    with pytest.raises(ValueError, match="found: hands in scenes"):
        pretrain(other, tmp_path, PretrainSettings(steps=1, found=0.5))
    with pytest.raises(ValueError, match=r"found must be a share in \[0, 1\)"):
        PretrainSettings(found=1.0)
