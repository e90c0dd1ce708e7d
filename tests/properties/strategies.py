"""What the property tests draw: numbers that shrink well, and hands and clouds made of seeds, which are quick."""

import torch
from core_fixtures import random_rotations
from hypothesis import settings
from hypothesis import strategies as st

# few examples, the same in every run: these tests are part of the quick suite; kernels compile in the first example
few = settings(max_examples=15, derandomize=True, deadline=None, database=None)

SEEDS = st.integers(0, 2**31 - 1)


def numbers(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, width=32)


@st.composite
def poses(draw) -> tuple[torch.Tensor, torch.Tensor]:
    """Rotations [1, 16, 4], any, and places [1, 3] in mm."""
    place = [draw(numbers(-400, 400)), draw(numbers(-400, 400)), draw(numbers(100, 1500))]
    return random_rotations(1, draw(SEEDS), torch.float32), torch.tensor([place])


@st.composite
def turns(draw) -> torch.Tensor:
    """Any rotation matrix [1, 3, 3]."""
    import roma

    return roma.unitquat_to_rotmat(random_rotations(1, draw(SEEDS), torch.float32)[:, 0])


@st.composite
def clouds(draw, most: int = 40) -> torch.Tensor:
    """Points [1, N, 3] for the renderer: pixels of an image of 24 x 24 and a little beyond, z in (0, 1)."""
    generator = torch.Generator().manual_seed(draw(SEEDS))
    points = torch.rand(1, draw(st.integers(1, most)), 3, generator=generator)
    return points * torch.tensor([30.0, 30.0, 0.98]) - torch.tensor([3.0, 3.0, -0.01])
