"""The rasteriser's Triton kernel against the numba one: on a CUDA device where there is one, else interpreted on the CPU.

As in test_render_gpu.py, the first test runs this file in a process whose Triton interprets.
"""

import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from gpu_fixtures import DEVICE, compile_for_h100, compiling, on_device, run_interpreted

from hrlib.synthetic.rasterise import rasterise

UNIT = np.array([[100.0, 100.0, 0.0, 0.0]], np.float32)  # a point at depth 100 mm is seen at the pixel (x, y)


def draw(vertices, faces, intrinsics, size, closed=False) -> np.ndarray:
    vertices = torch.tensor(vertices, dtype=torch.float32, device=DEVICE)
    drawn = rasterise(vertices, faces, intrinsics, size, closed, backend="gpu")
    assert drawn.device == vertices.device and drawn.dtype == torch.float32
    return drawn.cpu().numpy()


def sphere(rings=6, segments=8) -> tuple[np.ndarray, np.ndarray]:
    """A closed mesh around the origin, radius 50 mm: vertices [V, 3], faces [F, 3], corners clockwise from outside."""
    polar, around = np.meshgrid(np.linspace(0, np.pi, rings), np.arange(segments) * 2 * np.pi / segments, indexing="ij")
    vertices = 50 * np.stack([np.sin(polar) * np.cos(around), np.sin(polar) * np.sin(around), np.cos(polar)], -1)
    i, j = np.meshgrid(np.arange(rings - 1), np.arange(segments), indexing="ij")
    a, b = i * segments + j, i * segments + (j + 1) % segments
    c, d = a + segments, b + segments
    faces = np.concatenate([np.stack([a, c, b], -1).reshape(-1, 3), np.stack([b, c, d], -1).reshape(-1, 3)])
    return vertices.reshape(-1, 3), faces


@compiling
@pytest.mark.slow
def test_in_tritons_interpreter():
    run_interpreted("synthetic/test_rasterise_gpu.py")


@compiling
def test_compiles():
    from hrlib.synthetic.rasterise import gpu as rasterise_gpu

    types = ["*fp32", "*i32", "*fp32", "*i32", "i32", "i32", "i32", "i32", "i32"]
    for closed in (False, True):
        constants = {"CLOSED": closed, "FACES": rasterise_gpu.FACES, "COLUMNS": rasterise_gpu.COLUMNS}
        ptx = compile_for_h100(rasterise_gpu._draw, types, constants, rasterise_gpu.EXACT)
        assert "atom.global.gpu.relaxed.min.s32" in ptx and not re.search(r"\bfma\.", ptx)


@on_device
@pytest.mark.parametrize("closed", [False, True])
def test_equals_numba(closed):
    """Two spheres, one part behind the other and partly off the image, in images of 40 x 56 with a camera each."""
    vertices, faces = sphere()
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    rotation *= np.linalg.det(rotation)  # a mirrored sphere would be seen from inside
    pair = np.concatenate([vertices @ rotation.T + [-20, 10, 400], vertices @ rotation + [40, -10, 480]])
    meshes = np.stack([pair, pair + [30, 40, -100]]).astype(np.float32)
    faces = np.concatenate([faces, faces + len(vertices)])
    cameras = np.array([[150.0, 140, 27, 20], [180, 190, 20, 15]], np.float32)
    ours, expected = draw(meshes, faces, cameras, (40, 56), closed), rasterise(meshes, faces, cameras, (40, 56), closed)
    assert 400 < (expected > 0).sum() < expected.size and (expected > 440).any()
    # float32 barycentric coordinates against partly float64 ones; no pixel of these images is within rounding of an edge
    np.testing.assert_allclose(ours, expected, rtol=1e-5)


@on_device
def test_the_back_is_left_out_of_a_closed_mesh():
    vertices, faces = sphere()
    meshes = (vertices + [0, 0, 400])[None]
    camera = np.array([[100.0, 100, 15, 15]], np.float32)
    outside = draw(meshes, faces, camera, (31, 31), closed=True)
    inside = draw(meshes, faces[:, ::-1].copy(), camera, (31, 31), closed=True)
    assert outside[0, 15, 15] == pytest.approx(350, abs=10) and inside[0, 15, 15] == pytest.approx(450, abs=10)
    np.testing.assert_allclose(draw(meshes, faces, camera, (31, 31)), outside, rtol=1e-5)


@on_device
def test_triangle_by_hand_and_non_square_images():
    expected = np.zeros((6, 7), np.float32)
    for u, v in [(1, 1), (2, 1), (3, 1), (1, 2), (2, 2), (1, 3)]:
        expected[v, u] = 100
    eps = 1e-3  # so that no corner lies exactly on a pixel, where rounding decides
    corners = np.array([[[1 - eps, 1 - eps, 100], [3 + 3 * eps, 1 - eps, 100], [1 - eps, 3 + 3 * eps, 100]]])
    np.testing.assert_allclose(draw(corners, np.array([[0, 1, 2]]), UNIT, (6, 7)), expected[None], atol=1e-3)


@on_device
def test_a_triangle_larger_than_the_image_and_one_far_off_it():
    corners = np.array(
        [[[-500, -500, 200.0], [900, -500, 200], [-500, 900, 200], [1e9, 5, 100], [1e9, 9, 100], [1, 1e9, 3]]]
    )
    image = draw(corners, np.array([[0, 1, 2], [3, 4, 5]]), UNIT, (3, 21))
    np.testing.assert_allclose(image, 200, rtol=1e-5)


@on_device
def test_the_nearest_surface_is_seen_in_any_order():
    far = [(0, 0, 300), (9, 0, 300), (0, 9, 300)]
    near = [(0, 0, 200), (5, 0, 200), (0, 5, 200)]
    vertices = np.array([[(u * z / 100, v * z / 100, z) for u, v, z in far + near]])
    for faces in ([[0, 1, 2], [3, 4, 5]], [[3, 4, 5], [0, 1, 2]]):
        image = draw(vertices, np.array(faces), UNIT, (10, 10))[0]
        assert image[1, 1] == pytest.approx(200) and image[3, 5] == pytest.approx(300) and image[9, 9] == 0


@on_device
def test_nothing_to_draw():
    one, none = np.ones((2, 3, 3)), np.zeros((0, 3), np.int64)
    assert draw(np.ones((0, 3, 3)), np.array([[0, 1, 2]]), UNIT[:0], (4, 5)).shape == (0, 4, 5)
    assert not draw(one, none, UNIT.repeat(2, 0), (4, 5)).any()
    behind = np.array([[[1, 1, 100.0], [5, 1, 100], [1, 5, -100]]])
    for order in ([0, 1, 2], [1, 2, 0], [2, 0, 1]):
        assert not draw(behind, np.array([order]), UNIT, (6, 6)).any()


@on_device
def test_errors():
    faces = np.array([[0, 1, 2]])
    with pytest.raises(ValueError, match=r"vertices_mm must be \[B, V, 3\], got \[3, 3\]"):
        draw(np.ones((3, 3)), faces, UNIT, (4, 4))
    with pytest.raises(ValueError, match=r"intrinsics must be \[B, 4\] with B = 2, got \[1, 4\]"):
        draw(np.ones((2, 3, 3)), faces, UNIT, (4, 4))
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="NaN or infinite"):
            draw(np.full((1, 3, 3), bad), faces, UNIT, (4, 4))
    for wrong in ([[0, 1, 3]], [[-1, 0, 1]], [[0, 1]]):
        with pytest.raises(ValueError, match=r"faces must be \[F, 3\] indices below V = 3"):
            draw(np.ones((1, 3, 3)), np.array(wrong), UNIT, (4, 4))


@pytest.mark.skipif(DEVICE == "cpu", reason="needs a CUDA device")
def test_a_cuda_tensor_is_drawn_there():
    vertices, faces = sphere()
    meshes = torch.tensor(vertices + [0, 0, 400], dtype=torch.float32)[None]
    camera = np.array([[100.0, 100, 15, 15]], np.float32)
    drawn = rasterise(meshes.cuda(), faces, camera, (31, 31), closed=True)
    assert drawn.is_cuda
    np.testing.assert_allclose(drawn.cpu(), rasterise(meshes.numpy(), faces, camera, (31, 31), closed=True), rtol=1e-5)


@compiling
def test_refuses_the_cpu():
    with pytest.raises(ValueError, match='"gpu" draws on a CUDA device, got vertices_mm on cpu; leave backend out'):
        rasterise(torch.ones(1, 3, 3), torch.tensor([[0, 1, 2]]), torch.ones(1, 4), (4, 4), backend="gpu")


def test_import_leaves_triton_alone():
    code = "import hrlib.synthetic.rasterise, sys; assert not {'triton', 'hrlib.synthetic.rasterise.gpu'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
