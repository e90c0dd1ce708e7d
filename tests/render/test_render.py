"""splat_depth (paper Eq. 3-5): from hand-computed images up to agreement of the back ends and their memory."""

import math
import os
import subprocess
import sys
import warnings

import pytest
import torch
from gpu_fixtures import random_points

from hrlib.render import splat_depth

# Triton's interpreter takes tensors on the CPU: with it, test_render_gpu.py runs these tests once more.
BACKENDS = ("reference", "cpu", "gpu") if os.environ.get("TRITON_INTERPRET") == "1" else ("reference", "cpu")
both = pytest.mark.parametrize("backend", BACKENDS)


def image_of(*points, radius, size, backend):
    return splat_depth(torch.tensor([points], dtype=torch.float32), radius, size, backend)[0]


# Hand-computed images. With r = 2: phi = (1 - d^2/4)^2, so d^2 = 1 -> 0.5625, 2 -> 0.25, 4 -> 0.


@both
def test_one_point_on_a_pixel(backend):
    # z = 0.5 halves phi. The pixels at d = 2 = r are outside: the condition is d < r.
    expected = torch.tensor(
        [
            [0, 0, 0, 0, 0],
            [0, 0.125, 0.28125, 0.125, 0],
            [0, 0.28125, 0.5, 0.28125, 0],
            [0, 0.125, 0.28125, 0.125, 0],
            [0, 0, 0, 0, 0],
        ]
    )
    assert torch.equal(image_of([2, 2, 0.5], radius=2, size=(5, 5), backend=backend), expected)


@both
def test_one_point_between_pixels(backend):
    # (u, v) = (1.5, 2.5): four pixels at d^2 = 0.5 -> (7/8)^2 = 0.765625; eight at d^2 = 2.5 -> (3/8)^2 = 0.140625;
    # the next are at d^2 = 4.5 > 4.
    a, b = 0.765625, 0.140625
    expected = torch.tensor([[0, 0, 0, 0, 0], [0, b, b, 0, 0], [b, a, a, b, 0], [b, a, a, b, 0], [0, b, b, 0, 0]])
    assert torch.equal(image_of([1.5, 2.5, 0], radius=2, size=(5, 5), backend=backend), expected)


@both
def test_two_overlapping_points(backend):
    # Point 0 at (1, 2), z = 0; point 1 at (3, 2), z = 0.5. In column 2 both are 1 px away in u: point 0 is brighter.
    points = torch.tensor([[[1.0, 2, 0], [3, 2, 0.5]]])
    depth, winners = splat_depth(points, 2, (5, 5), backend, return_winners=True)
    side = [0.25, 0.5625, 0.25, 0.28125, 0.125]
    zero = [0, 0, 0, 0, 0]
    assert torch.equal(depth[0], torch.tensor([zero, side, [0.5625, 1, 0.5625, 0.5, 0.28125], side, zero]))
    row, none = [0, 0, 0, 1, 1], [-1] * 5
    assert winners[0].tolist() == [none, row, row, row, none]
    assert winners.dtype == torch.int64


@both
def test_gradient_by_hand(backend):
    # Point (2, 2, 0.5), pixel (row 2, column 3), dx = 1: value = (1 - z)(1 - dx^2/4)^2, bracket 0.75.
    # d/du = (1 - z) 2 bracket (2 dx / r^2) = 0.5 * 2 * 0.75 * 0.5 = 0.375; d/dv = 0 as dy = 0; d/dz = -bracket^2.
    points = torch.tensor([[[2, 2, 0.5]]], requires_grad=True)
    splat_depth(points, 2, (5, 5), backend)[0, 2, 3].backward()
    assert points.grad.tolist() == [[[0.375, 0, -0.5625]]]


@both
def test_u_is_the_column_and_v_the_row(backend):
    image = image_of([4, 1, 0], radius=1, size=(3, 6), backend=backend)
    assert image.shape == (3, 6)
    assert image.nonzero().tolist() == [[1, 4]]


# A loop written from the definition alone, in Python floats.


def loop_render(points, radius, size):
    depth, winners = torch.zeros(size, dtype=torch.float64), torch.full(size, -1)
    for i in range(size[0]):
        for j in range(size[1]):
            for k, (u, v, z) in enumerate(points.tolist()):
                distance = math.hypot(j - u, i - v)
                value = (1 - z) * (1 - (distance / radius) ** 2) ** 2 if distance < radius else 0
                if value > depth[i, j]:
                    depth[i, j], winners[i, j] = value, k
    return depth, winners


@both
@pytest.mark.parametrize(("radius", "size"), [(2.7, (17, 23)), (0.6, (23, 9)), (40.0, (6, 37))])
def test_equals_a_loop(backend, radius, size):
    points = random_points(2, 30, size)
    depth, winners = splat_depth(points, radius, size, backend, return_winners=True)
    for image in range(2):
        expected, expected_winners = loop_render(points[image], radius, size)
        # float32 against float64: (d/r)^2 carries a few rounding errors of 6e-8; values are of order 1.
        torch.testing.assert_close(depth[image].double(), expected, rtol=0, atol=1e-6)
        assert torch.equal(winners[image], expected_winners)


def test_gradcheck_in_u_v_z():
    # Random points are no ties; and the edge of the support needs no care, phi is C1 there.
    points = random_points(2, 6, (7, 6), dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda p: splat_depth(p, 2.3, (7, 6)), points)


# Properties.


@both
def test_order_of_points_does_not_matter(backend):
    points = random_points(2, 50, (20, 30))
    shuffled = points[:, torch.randperm(50, generator=torch.Generator().manual_seed(1))]
    assert torch.equal(splat_depth(points, 3.5, (20, 30), backend), splat_depth(shuffled, 3.5, (20, 30), backend))


@both
def test_farther_is_never_brighter(backend):
    points = random_points(2, 50, (20, 30))
    farther = points + torch.tensor([0, 0, 0.1])
    near, far = splat_depth(points, 3.5, (20, 30), backend), splat_depth(farther, 3.5, (20, 30), backend)
    assert (far <= near).all()
    assert (far < near)[near > 0].all()


@both
def test_whole_pixel_shift_moves_the_image(backend):
    # Coordinates in 1/64 px, so that adding whole pixels does not round.
    points = random_points(2, 50, (20, 30))
    points = torch.round(points * 64) / 64
    image = splat_depth(points, 3.5, (20, 30), backend)
    moved = splat_depth(points + torch.tensor([4.0, -3, 0]), 3.5, (20, 30), backend)
    assert torch.equal(moved[:, :-3, 4:], image[:, 3:, :-4])


@both
def test_another_point_never_darkens(backend):
    points = random_points(2, 50, (20, 30))
    fewer, more = splat_depth(points[:, :-5], 3.5, (20, 30), backend), splat_depth(points, 3.5, (20, 30), backend)
    assert (more >= fewer).all()
    assert (more > fewer).any()


@both
def test_tie_goes_to_the_lowest_index_with_all_its_gradient(backend):
    points = torch.tensor([[[9, 9, 0.5], [2, 2, 0.5], [2, 2, 0.5], [2, 2, 0.5]]], requires_grad=True)
    depth, winners = splat_depth(points, 2, (5, 5), backend, return_winners=True)
    assert set(winners.unique().tolist()) == {-1, 1}
    depth.sum().backward()
    assert points.grad[0, 1, 2] == -(1 + 4 * 0.5625 + 4 * 0.25)
    assert not points.grad[0, [0, 2, 3]].any()


def test_tie_across_chunks_of_the_reference(monkeypatch):
    monkeypatch.setattr("hrlib.render.reference.PAIRS_PER_CHUNK", 25)  # one point a chunk
    points = torch.tensor([[[9, 9, 0.5], [2, 2, 0.5], [2, 2, 0.5]]])
    _, winners = splat_depth(points, 2, (5, 5), "reference", return_winners=True)
    assert set(winners.unique().tolist()) == {-1, 1}


# What is seen and what is not.


@both
def test_behind_before_beside_and_far_away(backend):
    points = [[2, 2, 1], [2, 2, 1.5], [1e9, 2, 0], [2, -1e9, 0], [-1e30, 1e30, 0], [3e38, 3e38, 0]]  # the sum overflows
    assert not image_of(*points, radius=2, size=(5, 5), backend=backend).any()
    assert image_of([2, 2, -1], radius=2, size=(5, 5), backend=backend)[2, 2] == 2  # z < 0: brighter than 1
    beside = image_of([-1, 2, 0], radius=2, size=(5, 5), backend=backend)  # 1 px left of the image
    assert beside[2].tolist() == [0.5625, 0, 0, 0, 0]


@pytest.mark.parametrize("radius", [1.23, 2.46, 3.3, 4.15, 8.84])  # all but 3.3 do err above 0 beyond r
def test_edge_of_support_is_the_same_to_the_last_bit(radius):
    # Points r away from pixel (0, 0), give or take a few roundings: 1 - (d/r)^2 may come out on either side of 0.
    near_r = radius + torch.arange(-8, 9) * 6e-8 * radius
    points = torch.stack([near_r, torch.zeros(17), torch.zeros(17)], -1)[:, None]
    reference = splat_depth(points, radius, (1, 1), "reference")
    assert torch.equal(splat_depth(points, radius, (1, 1), "cpu"), reference)
    assert (reference == 0).any()
    assert (reference > 0).any()


@both
def test_empty_pixels_and_unseen_points_have_no_gradient(backend):
    points = torch.tensor([[[2, 2, 0.5], [2, 2, 1.0], [2, 2, 0.9], [50, 50, 0]]], requires_grad=True)
    depth, winners = splat_depth(points, 2, (5, 5), backend, return_winners=True)
    (grad,) = torch.autograd.grad(depth[winners < 0].sum(), points, retain_graph=True)
    assert not grad.any()
    depth.sum().backward()
    assert points.grad[0, 0, 2] < 0
    assert not points.grad[0, 1:].any()


@both
@pytest.mark.parametrize("shape", [(2, 0, 3), (0, 5, 3), (0, 0, 3)])
def test_nothing_to_draw(backend, shape):
    points = torch.zeros(shape, requires_grad=True)
    depth, winners = splat_depth(points, 5, (4, 6), backend, return_winners=True)
    assert depth.shape == winners.shape == (shape[0], 4, 6)
    assert not depth.any()
    assert (winners == -1).all()
    depth.sum().backward()
    assert points.grad.shape == shape


@both
@pytest.mark.parametrize("radius", [1e-15, 1e-3, 1e4, 1e200])
def test_extreme_radii(backend, radius):
    image = image_of([2, 2, 0.5], radius=radius, size=(5, 5), backend=backend)
    assert image[2, 2] == 0.5
    assert (image > 0).sum() == (1 if radius < 1 else 25)


# The back ends agree, forward and backward.


@pytest.mark.parametrize("threads", [1, 2, 3])  # 3 also splits images into bands of rows
@pytest.mark.parametrize(
    ("batch", "count", "radius", "size"),
    [(3, 300, 5.0, (40, 56)), (1, 500, 1.3, (61, 20)), (2, 40, 30.0, (33, 33)), (4, 100, 5.0, (2, 1))],
)
def test_cpu_equals_reference(batch, count, radius, size, threads, restore_threads):
    torch.set_num_threads(threads)
    points = random_points(batch, count, size)
    points[:, 10:20] = points[:, :10]  # ties
    points[:, 20:40] = points[:, 20:40].round()  # pixels exactly at the edge of the support
    weight = torch.randn(batch, *size, generator=torch.Generator().manual_seed(2))
    depth, winners, grad = {}, {}, {}
    for backend in BACKENDS:
        leaf = points.clone().requires_grad_()
        depth[backend], winners[backend] = splat_depth(leaf, radius, size, backend, return_winners=True)
        (grad[backend],) = torch.autograd.grad((depth[backend] * weight).sum(), leaf)
    # Same operations in the same order, no fused multiply-add: the same bits.
    assert torch.equal(depth["cpu"], depth["reference"])
    assert torch.equal(winners["cpu"], winners["reference"])
    # A point's gradient sums its pixels in another order: up to (pixels it wins) roundings of 6e-8 of the largest sum.
    scale = grad["reference"].abs().max().item()
    torch.testing.assert_close(grad["cpu"], grad["reference"], rtol=1e-5, atol=1e-5 * scale)
    assert scale > 0.1


@pytest.fixture
def restore_threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@both
def test_non_contiguous_input_and_gradient(backend):
    points = random_points(2, 60, (12, 15))
    strided = points.permute(2, 1, 0).contiguous().permute(2, 1, 0).requires_grad_()
    plain = points.clone().requires_grad_()
    assert not strided.is_contiguous()
    image, same = splat_depth(strided, 3, (12, 15), backend), splat_depth(plain, 3, (12, 15), backend)
    assert torch.equal(image, same)
    image.sum().backward()  # sum's gradient is an expanded scalar: strides 0
    (same.transpose(1, 2).contiguous() * 1.0).sum().backward()
    torch.testing.assert_close(strided.grad, plain.grad)


def test_default_backend_follows_dtype():
    points = random_points(1, 20, (10, 10), dtype=torch.float64)
    assert splat_depth(points, 3, (10, 10)).dtype == torch.float64
    assert splat_depth(points.float(), 3, (10, 10)).dtype == torch.float32
    node = splat_depth(points.float().requires_grad_(), 3, (10, 10)).grad_fn
    assert type(node).__name__ == "_SplatBackward"


def test_input_is_left_alone():
    points = random_points(1, 20, (10, 10))
    before = points.clone()
    for backend in BACKENDS:
        splat_depth(points, 3, (10, 10), backend)
    assert torch.equal(points, before)


# Render and refit.


@both
def test_refit_moves_a_displaced_cloud_back(backend, restore_threads):
    torch.set_num_threads(1)  # tiny images: a second thread costs more than it brings
    generator = torch.Generator().manual_seed(3)
    # A bumpy sheet of 6 x 6 points, 4 px apart, so that every point is seen.
    v, u = torch.meshgrid(torch.arange(6.0), torch.arange(6.0), indexing="ij")
    true = torch.stack([8 + 4 * u, 8 + 4 * v, 0.3 + 0.2 * torch.rand(6, 6, generator=generator)], -1).reshape(1, 36, 3)
    target = splat_depth(true, 4, (36, 36), backend)
    noise = torch.randn(true.shape, generator=generator) * torch.tensor([0.3, 0.3, 0.03])
    start = true + torch.tensor([1.2, -0.9, 0.08]) + noise
    step_size = torch.tensor([1, 1, 0.05])  # pixels and depth differ in scale
    step = torch.zeros_like(start, requires_grad=True)
    optimiser = torch.optim.Adam([step], lr=0.05)
    losses = []
    for _ in range(300):
        optimiser.zero_grad()
        loss = (splat_depth(start + step * step_size, 4, (36, 36), backend) - target).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    moved = (start + step * step_size).detach()
    assert losses[-1] < losses[0] / 100
    assert (moved - true)[..., :2].norm(dim=-1).mean() < 0.1 * (start - true)[..., :2].norm(dim=-1).mean()
    assert (moved - true)[..., 2].abs().mean() < 0.2 * (start - true)[..., 2].abs().mean()


# Refusals.

GOOD = torch.zeros(2, 4, 3)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (GOOD[0], r"points must be \[B, N, 3\].*got \[4, 3\]"),
        (GOOD.transpose(1, 2), r"points must be .*got \[2, 3, 4\]; points.transpose\(1, 2\) has the columns last"),
        (GOOD[..., :2], r"points must be \[B, N, 3\].*got \[2, 4, 2\]"),
        (GOOD.int(), "points must be float32 or float64, got torch.int32"),
        (GOOD.half(), "points must be float32 or float64, got torch.float16"),
        (GOOD.numpy(), "points must be a torch.Tensor .* got ndarray"),
    ],
)
def test_refuses_points(points, message):
    with pytest.raises(ValueError, match=message):
        splat_depth(points, 5, (8, 8))


@both
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_refuses_non_finite_points(backend, bad):
    points = torch.zeros(3, 4, 3)
    points[1, 2, 0] = points[1, 2, 1] = points[1, 3, 2] = points[2, 0, 0] = bad
    message = r"points must be finite, got 2 NaN or infinite point\(s\) in image 1 .* 3 in the whole batch"
    with pytest.raises(ValueError, match=message):
        splat_depth(points, 5, (8, 8), backend)


@pytest.mark.parametrize("radius", [0, -1.0, math.nan, math.inf, "five", None, 1e-30])
def test_refuses_radius(radius):
    with pytest.raises(ValueError, match="radius must be a finite number of pixels > 0, got"):
        splat_depth(GOOD, radius, (8, 8))


@pytest.mark.parametrize("size", [(0, 8), (8, -1), (8.0, 8), (8,), (8, 8, 1), 8, None])
def test_refuses_size(size):
    with pytest.raises(ValueError, match=r"size must be two positive integers \(H, W\) in pixels, got"):
        splat_depth(GOOD, 5, size)


def test_refuses_backend():
    with pytest.raises(ValueError, match='backend must be None or one of "reference", "cpu", "gpu", got \'cuda\''):
        splat_depth(GOOD, 5, (8, 8), "cuda")
    with pytest.raises(ValueError, match='"cpu" takes float32 points on the CPU, got torch.float64 on cpu'):
        splat_depth(GOOD.double(), 5, (8, 8), "cpu")


@pytest.mark.parametrize(
    ("millimetres", "unseen"),
    [
        ([[-30.0, 20.0, 550.0], [60.0, 60.0, 610.0]], "z 550 to 610"),
        ([[-300.0, 20.0, 0.5], [60.0, 900.0, 0.1]], "u -300 to 60"),
    ],
)
def test_points_that_nobody_can_see_are_told(millimetres, unseen):
    points = torch.tensor([millimetres])
    with pytest.warns(UserWarning, match="u and v of all points are between 0 and 1: they are pixels"):
        splat_depth(torch.rand(2, 40, 3), 5.0, (120, 120))
    with pytest.warns(
        UserWarning, match=f"no point is within the image of 120 x 120 px and nearer than z = 1 .*{unseen}"
    ):
        assert not splat_depth(points, 5, (120, 120)).any()
    points[0, 1] = torch.tensor([60.0, 60.0, 0.999])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert splat_depth(points, 5, (120, 120)).any()
        splat_depth(points[:, :0], 5, (120, 120))


# Cost.


@pytest.mark.parametrize(("batch", "count", "size"), [(2, 100, (40, 30)), (2, 5000, (40, 30)), (3, 100, (200, 150))])
def test_saved_tensors_are_linear(batch, count, size):
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (saved.append(t.numel()), t)[1], lambda t: t):
        splat_depth(random_points(batch, count, size).requires_grad_(), 5, size, "cpu")
    assert 0 < sum(saved) <= 3 * batch * (size[0] * size[1] + count)  # 3 coordinates a point, a winner a pixel


PEAK = """
import torch
from hrlib.render import splat_depth
def once(batch, count):
    points = (torch.rand(batch, count, 3) * 120).requires_grad_()
    splat_depth(points, 5, (120, 120), "cpu").sum().backward()
    # This process's peak; getrusage's would start from the parent's.
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 1024
small = once(1, 10)
print(once(4, 200_000) - small)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_peak_memory_is_linear():
    splat_depth(GOOD, 5, (8, 8), "cpu")  # compiled kernels into the cache: compiling would hide the peak
    rise = int(subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True).stdout)
    # 64 bytes per point and pixel. A windowed renderer needs at least 121 floats a point: 7 times as much, per step.
    assert 4 * 200_000 * 12 < rise < 64 * 4 * (120 * 120 + 200_000)


def test_import_leaves_numba_alone():
    code = "import hrlib.render, sys; assert not {'numba', 'hrlib.render.cpu'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_one_compiled_version():
    from hrlib.render import cpu

    for radius, shape, size in [(5, (1, 1, 3), (1, 1)), (2.5, (2, 3, 3), (4, 5)), (1, (0, 0, 3), (3, 3))]:
        splat_depth(torch.zeros(shape), radius, size, "cpu").requires_grad_().sum().backward()
        splat_depth(torch.zeros(shape, requires_grad=True), radius, size, "cpu").sum().backward()
    assert len(cpu._forward.signatures) == len(cpu._backward.signatures) == 1
