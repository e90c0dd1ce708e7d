"""Annotated shapes are checked in this suite, and a function's own refusals come first."""

from collections.abc import Sequence

import pytest
import torch
from jaxtyping import Float, TypeCheckError
from shapes import checked
from torch import Tensor


def total(points: Float[Tensor, "B N 3"]) -> Float[Tensor, " B"]:
    if len(points) == 0:
        raise ValueError("points must hold an image")
    return points.sum((1, 2)) if len(points) > 1 else points.sum()


def test_shapes_that_do_not_fit_are_errors():
    assert checked(total)(torch.ones(2, 4, 3)).tolist() == [12, 12]
    with pytest.raises(TypeCheckError, match="points"):
        checked(total)(torch.ones(2, 4, 2))
    with pytest.raises(TypeCheckError, match="return"):
        checked(total)(torch.ones(1, 4, 3))


def test_a_function_may_refuse_in_its_own_words():
    with pytest.raises(ValueError, match="must hold an image"):
        checked(total)(torch.ones(0, 2))


class Damaged(Sequence):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        raise ValueError("cannot be read")


def test_items_that_cannot_be_read_are_no_wrong_types():
    def length(items: Sequence[str]) -> int:
        return len(items)

    assert checked(length)(Damaged()) == 3
    with pytest.raises(TypeCheckError, match="items"):
        checked(length)([1, 2, 3])


def test_the_library_is_checked():
    from hrlib.hand import kinematics

    assert kinematics.forward_kinematics.__wrapped__
