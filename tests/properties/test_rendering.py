"""The renderer (Eq. 3-5): the order of points says nothing, nearer points are brighter, back ends draw the same image."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import SEEDS, clouds, few, numbers

from hrlib.render import splat_depth

SIZE = (24, 24)
RADII = numbers(0.5, 6.0)
BACK_ENDS = ("reference", "cpu")


@few
@given(clouds(), RADII, SEEDS)
def test_the_order_of_points_says_nothing(points, radius, seed):
    order = torch.randperm(points.shape[1], generator=torch.Generator().manual_seed(seed))
    for backend in BACK_ENDS:
        image, winners = splat_depth(points, radius, SIZE, backend, return_winners=True)
        again, others = splat_depth(points[:, order], radius, SIZE, backend, return_winners=True)
        assert torch.equal(image, again)
        assert torch.equal(winners >= 0, others >= 0) and torch.equal(winners >= 0, image > 0)


@few
@given(clouds(), RADII, numbers(0.0, 0.5))
def test_a_nearer_cloud_is_nowhere_darker_and_a_larger_one_too(points, radius, nearer):
    closer = points * points.new_tensor([1.0, 1.0, 1 - nearer])
    for backend in BACK_ENDS:
        image = splat_depth(points, radius, SIZE, backend)
        assert (splat_depth(closer, radius, SIZE, backend) >= image).all()
        more = torch.cat([points, points.flip(2)], 1)  # other points beside them
        assert (splat_depth(more, radius, SIZE, backend) >= image).all()


@few
@given(clouds(), RADII)
def test_back_ends_draw_the_same_image_and_the_same_gradient(points, radius):
    images, gradients = [], []
    for backend in BACK_ENDS:
        own = points.clone().requires_grad_()
        image = splat_depth(own, radius, SIZE, backend)
        image.square().sum().backward()
        images.append(image.detach())
        gradients.append(own.grad)
    torch.testing.assert_close(*images, rtol=0, atol=2e-6)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


@few
@given(clouds(), RADII, st.integers(-4, 4), st.integers(-4, 4))
def test_a_shift_by_whole_pixels_shifts_the_image(points, radius, down, right):
    big = (SIZE[0] + 24, SIZE[1] + 24)  # nothing reaches the border
    middle = points + points.new_tensor([12.0, 12.0, 0.0])
    image = splat_depth(middle, radius, big)
    moved = splat_depth(middle + middle.new_tensor([float(right), float(down), 0.0]), radius, big)
    torch.testing.assert_close(moved, image.roll((down, right), (1, 2)), rtol=0, atol=2e-5)
