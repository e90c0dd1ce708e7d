"""The renderer's Triton kernels against the reference: on a CUDA device where there is one, else interpreted on the CPU.

Triton decides when it is imported whether it compiles or interprets, so the interpreter has a process of its own: the
first test runs this file in it, and with the gpu back end the tests of test_render.py.
"""

import re
import subprocess
import sys

import pytest
import torch
from gpu_fixtures import DEVICE, ROOT, compile_for_h100, compiling, on_device, random_points, run_interpreted

from hrlib.render import splat_depth

triton = pytest.importorskip("triton")


@compiling
@pytest.mark.slow
def test_in_tritons_interpreter():
    # refitting takes 300 steps, a minute in the interpreter
    run_interpreted("render/test_render.py", "render/test_render_gpu.py", only="gpu and not refit")


@compiling
def test_compiles_without_fused_multiply_adds():
    """What the interpreter cannot see: types that do not compile, and a * b + c rounded once, unlike the reference."""
    from hrlib.render import gpu

    sizes = ["i32"] * 4
    shapes = {"POINTS": gpu.POINTS, "PLACES": gpu.MOST_PLACES}
    forward = compile_for_h100(
        gpu._keep_brightest,
        ["*fp32", "*i64", *sizes, "i32", "i32", "fp32", "fp32"],
        shapes,
        gpu.EXACT | {"num_warps": gpu.WARPS},
    )
    compile_for_h100(gpu._read_keys, ["*i64", "*fp32", "*i32", "i32"], {"BLOCK": 512}, {})
    tensors = ["*fp32", "*i32", "*fp32", "*fp32"]
    backward = compile_for_h100(gpu._add_to_winners, [*tensors, *sizes, "fp32"], {"BLOCK": 512}, gpu.EXACT)
    assert "atom.global.gpu.relaxed.max.s64" in forward and "atom.global.gpu.relaxed.add.f32" in backward
    assert not re.search(r"\bfma\.", forward + backward)


@on_device
@pytest.mark.parametrize(
    ("batch", "count", "radius", "size"),
    [(2, 150, 5.0, (24, 37)), (1, 300, 1.3, (61, 20)), (2, 40, 40.0, (9, 70)), (4, 100, 5.0, (2, 1))],
)
def test_equals_the_reference(batch, count, radius, size):
    points = random_points(batch, count, size).to(DEVICE)
    points[:, 10:20] = points[:, :10]  # ties
    points[:, 20:40] = points[:, 20:40].round()  # pixels exactly at the edge of the support
    weight = torch.randn(batch, *size, generator=torch.Generator().manual_seed(2)).to(DEVICE)
    results = []
    for backend in ("gpu", "reference"):
        leaf = points.clone().requires_grad_()
        depth, winners = splat_depth(leaf, radius, size, backend, return_winners=True)
        (grad,) = torch.autograd.grad((depth * weight).sum(), leaf)
        assert depth.device == winners.device == grad.device == points.device
        results.append((depth, winners, grad))
    (depth, winners, grad), (expected, expected_winners, expected_grad) = results
    # Same operations in the same order, no fused multiply-add: the same bits.
    assert torch.equal(depth, expected)
    assert torch.equal(winners, expected_winners)
    # A point's gradient sums its pixels in another order: up to (pixels it wins) roundings of 6e-8 of the largest sum.
    scale = expected_grad.abs().max().item()
    torch.testing.assert_close(grad, expected_grad, rtol=1e-5, atol=1e-5 * scale)
    assert scale > 0.1


@on_device
def test_ties_go_to_the_lowest_index_within_and_across_programs():
    points = torch.tensor([[9, 9, 0.5]] + [[2, 2, 0.5]] * 200, device=DEVICE)[None].requires_grad_()
    depth, winners = splat_depth(points, 2, (5, 6), "gpu", return_winners=True)
    assert set(winners.unique().tolist()) == {-1, 1}
    depth.sum().backward()
    assert points.grad[0, 1, 2] == -(1 + 4 * 0.5625 + 4 * 0.25)
    points.grad[0, 1] = 0
    assert not points.grad.any()


@on_device
@pytest.mark.parametrize("radius", [1.23, 3.3, 8.84])
def test_edge_of_support_is_the_same_to_the_last_bit(radius):
    # Pixels (0, 60) and (0, 0) are r away, give or take a few roundings of coordinates up to 60.
    near_r = radius + torch.arange(-16, 17) * 6e-8 * torch.tensor([[radius], [60.0]])
    u = torch.stack([near_r[0], 60 - near_r[1]]).flatten()
    points = torch.stack([u, torch.zeros_like(u), torch.zeros_like(u)], -1)[:, None].to(DEVICE)
    expected = splat_depth(points, radius, (1, 61), "reference")
    assert torch.equal(splat_depth(points, radius, (1, 61), "gpu"), expected)
    assert (expected[:, 0, [0, 60]] == 0).any() and (expected[:, 0, [0, 60]] > 0).any()


@on_device
def test_points_and_images_that_are_not_there():
    for shape in [(2, 0, 3), (0, 5, 3), (0, 0, 3)]:
        points = torch.zeros(shape, device=DEVICE, requires_grad=True)
        depth, winners = splat_depth(points, 5, (4, 6), "gpu", return_winners=True)
        assert depth.shape == winners.shape == (shape[0], 4, 6)
        assert not depth.any() and (winners == -1).all()
        depth.sum().backward()
        assert points.grad.shape == shape


@on_device
def test_unseen_points_and_empty_pixels_have_no_gradient():
    # Off the image on each side, far away, behind the cube, hidden; and one that is seen.
    unseen = [[-5, 2, 0], [11, 2, 0], [2, -5, 0], [2, 10, 0], [1e9, 2, 0], [-3e38, 3e38, 0], [2, 2, 1], [2, 2, 0.9]]
    points = torch.tensor([[*unseen, [2, 2, 0.5]]], dtype=torch.float32, device=DEVICE).requires_grad_()
    depth, winners = splat_depth(points, 2, (6, 7), "gpu", return_winners=True)
    assert set(winners.unique().tolist()) == {-1, 8}
    (grad,) = torch.autograd.grad(depth[winners < 0].sum(), points, retain_graph=True)
    assert not grad.any()
    depth.sum().backward()
    assert points.grad[0, 8, 2] < 0
    assert not points.grad[0, :8].any()


@on_device
def test_saved_tensors_are_linear():
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (saved.append(t.numel()), t)[1], lambda t: t):
        splat_depth(random_points(2, 50, (20, 30)).to(DEVICE).requires_grad_(), 5, (20, 30), "gpu")
    assert 0 < sum(saved) <= 3 * 2 * (20 * 30 + 50)  # 3 coordinates a point, a winner a pixel


@pytest.mark.skipif(DEVICE == "cpu", reason="needs a CUDA device")
def test_a_cuda_tensor_is_drawn_by_the_gpu_back_end():
    points = random_points(1, 20, (10, 10)).cuda().requires_grad_()
    depth = splat_depth(points, 3, (10, 10))
    assert type(depth.grad_fn).__name__ == "_SplatBackward"
    assert torch.equal(depth.cpu(), splat_depth(points.cpu(), 3, (10, 10)))
    assert splat_depth(points.double(), 3, (10, 10)).dtype == torch.float64


def test_default_back_end_follows_device_and_dtype(monkeypatch):
    from types import SimpleNamespace

    import hrlib.render as render

    monkeypatch.setattr(render, "beyond_kernels", lambda *_: False)  # these are no tensors

    def choice(device, dtype):
        return render._choose_backend(None, SimpleNamespace(device=torch.device(device), dtype=dtype), 5)

    assert choice("cuda", torch.float32) == "gpu" and choice("cuda", torch.float64) == "reference"
    assert choice("cpu", torch.float32) == "cpu" and choice("cpu", torch.float64) == "reference"
    assert choice("mps", torch.float32) == "reference"
    monkeypatch.setattr(render, "has_triton", lambda: False)
    assert choice("cuda", torch.float32) == "reference"
    with pytest.raises(ValueError, match='"gpu" needs the package triton'):
        splat_depth(torch.zeros(1, 2, 3), 5, (8, 8), "gpu")


@compiling
def test_refuses_what_it_cannot_draw():
    with pytest.raises(ValueError, match='"gpu" takes float32 points on a CUDA device, got torch.float32 on cpu'):
        splat_depth(torch.zeros(1, 2, 3), 5, (8, 8), "gpu")
    with pytest.raises(ValueError, match='"gpu" takes float32 points on a CUDA device, got torch.float64'):
        splat_depth(torch.zeros(1, 2, 3, dtype=torch.float64, device=DEVICE), 5, (8, 8), "gpu")


def test_import_leaves_triton_alone():
    code = "import hrlib.render, sys; assert not {'triton', 'hrlib.render.gpu'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.skipif(DEVICE == "cuda", reason="this machine has a CUDA device")
def test_gpu_check_says_in_one_line_that_there_is_none():
    done = subprocess.run([sys.executable, ROOT / "benchmarks/gpu_check.py"], capture_output=True, text=True)
    assert done.returncode == 2 and not done.stdout
    (line,) = done.stderr.splitlines()
    assert "needs a CUDA device" in line
