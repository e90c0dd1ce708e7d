"""Annotated shapes are checked in this suite, and a function's own refusals come first."""

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


def test_the_library_is_checked():
    from hrlib.hand import kinematics

    assert kinematics.forward_kinematics.__wrapped__
