"""MANO from the user's own file, by files of its structure that hold this project's own hand."""

import os

import numpy as np
import pytest
import torch
from core_fixtures import template
from mano_fixtures import mano_like, write_mano
from test_gltf import check_fist, signed_volume

from hrlib.hand.from_file import hand_from_file
from hrlib.synthetic.frames import Synthesiser, wrist_loop


@pytest.fixture(scope="module")
def pickled(tmp_path_factory):
    return write_mano(tmp_path_factory.mktemp("mano") / "MANO_RIGHT.pkl")


def test_the_hand_of_a_pickle_is_the_one_that_was_put_in(pickled):
    hand = hand_from_file(pickled)
    assert hand.name == "MANO_RIGHT" and len(hand.vertices_mm) == 778
    # metres became millimetres, its order of fingers ours
    torch.testing.assert_close(hand.joints_mm, template().joints_mm, rtol=0, atol=1e-3)
    distance = torch.cdist(hand.vertices_mm.double(), template().vertices_mm.double()).min(1).values
    assert distance.max() < 1e-2, "its vertices are some of the template's"
    assert hand.weights.sum(0).min() > 1, "every joint moves something"
    check_fist(hand)


def test_frames_of_it_can_be_drawn(pickled):
    hand = hand_from_file(pickled)
    assert len(wrist_loop(hand.faces)) == 20, "open at the wrist, as MANO is"
    batch = Synthesiser(hand).batch(2, seed=1)
    assert (batch.crops.image > 0).sum((1, 2)).min() > 500


def test_plain_arrays_give_the_same_hand(pickled, tmp_path):
    parts = mano_like()
    arrays = {name: part for name, part in parts.items() if isinstance(part, np.ndarray)}
    np.savez(tmp_path / "mano.npz", **arrays, J_regressor=parts["J_regressor"].toarray())
    torch.testing.assert_close(
        hand_from_file(tmp_path / "mano.npz").cloud_mm, hand_from_file(pickled).cloud_mm, rtol=0, atol=0
    )
    np.savez(tmp_path / "objects.npz", **arrays, J_regressor=parts["J_regressor"])
    with pytest.raises(ValueError, match="objects.npz is no file of plain arrays .*J_regressor dense"):
        hand_from_file(tmp_path / "objects.npz")


def test_the_left_hand_is_mirrored_and_refused_as_a_right_one(pickled, tmp_path):
    parts = mano_like()
    left = write_mano(
        tmp_path / "MANO_LEFT.pkl",
        v_template=parts["v_template"] * [-1, 1, 1],
        f=np.ascontiguousarray(parts["f"][:, ::-1]),
    )
    with pytest.raises(ValueError, match="MANO_LEFT.pkl: hand 'MANO_LEFT': .* mirror a left hand first"):
        hand_from_file(left)
    mirrored = hand_from_file(left, side="left")
    torch.testing.assert_close(mirrored.joints_mm, hand_from_file(pickled).joints_mm, rtol=0, atol=1e-3)
    assert signed_volume(mirrored) > 0


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"weights": None, "f": None}, "lacks f, weights, which MANO's files have"),
        ({"weights": np.zeros((778, 20))}, r"weights must be an array \[778, 16\], got \[778, 20\]"),
        ({"v_template": np.full((778, 3), np.nan)}, "v_template holds NaN"),
        ({"f": np.full((4, 3), 778, np.uint32)}, "f must number 778 vertices, got 778 to 778"),
        ({"kintree_table": np.zeros((2, 16), np.uint32)}, "kintree_table is of another skeleton"),
        ({"v_template": mano_like()["v_template"] * 37}, "no hand's length in metres, centimetres, millimetres"),
        ({"J_regressor": "none"}, r"J_regressor must be an array \[16, 778\], got str"),
    ],
)
def test_other_files_are_refused_in_words(tmp_path, changes, message):
    with pytest.raises(ValueError, match=f"other.pkl.*{message}"):
        hand_from_file(write_mano(tmp_path / "other.pkl", **changes))


class Evil:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def test_a_file_that_does_more_than_hold_arrays_is_not_executed(tmp_path):
    file = write_mano(tmp_path / "MANO_RIGHT.pkl", hands_mean=Evil(tmp_path / "mark"))
    with pytest.raises(ValueError, match="asks for (posix|nt).system, which no file of arrays needs"):
        hand_from_file(file)
    assert not (tmp_path / "mark").exists()
    with pytest.raises(FileNotFoundError, match="no hand at .*MANO's files are at mano.is.tue.mpg.de"):
        hand_from_file(tmp_path / "none.pkl")
