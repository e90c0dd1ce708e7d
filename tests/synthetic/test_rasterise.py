"""The mesh rasteriser: by hand, and pixel by pixel against open3d's ray casting."""

import numpy as np
import pytest
import torch
from core_fixtures import FIST_DEG, clean_batch, pose, template

from hrlib.hand.kinematics import forward_kinematics
from hrlib.hand.named_poses import view_rotation
from hrlib.hand.skinning import skin, skinning_transforms
from hrlib.synthetic.frames import Synthesiser, SyntheticSettings, window_cameras
from hrlib.synthetic.rasterise import rasterise

UNIT = np.array([[100.0, 100.0, 0.0, 0.0]])  # a point at depth 100 mm is seen at the pixel (x, y)


def triangle(corners_uvz, size=(6, 6), camera=UNIT, **settings) -> np.ndarray:
    """One triangle given by pixel and depth of its corners."""
    uvz = np.asarray(corners_uvz, float)
    fx, fy, cx, cy = camera[0]
    points = np.stack([(uvz[:, 0] - cx) / fx * uvz[:, 2], (uvz[:, 1] - cy) / fy * uvz[:, 2], uvz[:, 2]], 1)
    return rasterise(points[None], np.array([[0, 1, 2]]), camera, size, **settings)[0]


def test_triangle_by_hand():
    expected = np.zeros((6, 6), np.float32)
    for u, v in [(1, 1), (2, 1), (3, 1), (1, 2), (2, 2), (1, 3)]:  # corners and edges belong to it
        expected[v, u] = 100
    eps = 1e-3  # so that no corner lies exactly on a pixel, where rounding decides
    corners = [(1 - eps, 1 - eps, 100), (3 + 3 * eps, 1 - eps, 100), (1 - eps, 3 + 3 * eps, 100)]
    np.testing.assert_allclose(triangle(corners), expected, atol=1e-3)
    np.testing.assert_allclose(triangle(corners[::-1]), expected, atol=1e-3)  # drawn from both sides
    sides = [triangle(order, closed=True).any() for order in (corners, corners[::-1])]
    assert sorted(sides) == [False, True], "a closed mesh shows its outside alone"


def test_pixel_centres_decide():
    # from 1.1 to 2.9 in u and v: only the pixel (2, 2) has its centre inside
    square = [(1.1, 1.1, 100), (2.9, 1.1, 100), (1.1, 2.9, 100), (2.9, 2.9, 100)]
    image = triangle(square[:3], size=(5, 5)) + triangle(square[1:], size=(5, 5))
    assert [tuple(x) for x in np.argwhere(image)] == [(2, 2)]


def test_depth_of_a_slanted_triangle_is_that_of_its_plane():
    """Half way between 200 and 800 mm in the image, the surface is at 320 mm (1/z is linear), not at 500."""
    image = triangle([(0, -50, 200), (0, 50, 200), (10, 0, 800)], size=(3, 11))
    u = np.arange(1, 10)
    np.testing.assert_allclose(image[1, 1:10], 1 / ((1 - u / 10) / 200 + u / 10 / 800), rtol=1e-5)
    assert image[1, 5] == pytest.approx(320, rel=1e-5)


def test_the_nearest_surface_is_seen_in_any_order():
    far = [(0, 0, 300), (9, 0, 300), (0, 9, 300)]
    near = [(0, 0, 200), (5, 0, 200), (0, 5, 200)]
    vertices = np.array([[(u * z / 100, v * z / 100, z) for u, v, z in far + near]])
    for faces in ([[0, 1, 2], [3, 4, 5]], [[3, 4, 5], [0, 1, 2]]):
        image = rasterise(vertices, np.array(faces), UNIT, (10, 10))[0]
        assert image[1, 1] == pytest.approx(200) and image[3, 5] == pytest.approx(300) and image[9, 9] == 0


def test_what_reaches_behind_the_camera_is_left_out():
    points = np.array([[[0, 0, 100.0], [5, 0, 100], [0, 5, -100]]])
    assert not rasterise(points, np.array([[0, 1, 2]]), UNIT, (6, 6)).any()


def test_non_square_images_and_each_image_its_camera():
    points = np.array([[[0, 0, 100.0], [8, 0, 100], [0, 3, 100]]] * 2) + [0.01, 0.01, 0]
    cameras = np.array([[100.0, 100, 0, 0], [50.0, 100, 2, 1]])
    images = rasterise(points, np.array([[0, 1, 2]]), cameras, (5, 12))
    assert images.shape == (2, 5, 12) and images.dtype == np.float32
    # the widest row inside is one pixel below the upper edge: two thirds of 8 px; half of that for the second camera
    assert images[0].any(0).nonzero()[0].tolist() == [1, 2, 3, 4, 5] and images[0].any(1).nonzero()[0].tolist() == [
        1,
        2,
    ]
    assert images[1].any(0).nonzero()[0].tolist() == [3, 4] and images[1].any(1).nonzero()[0].tolist() == [2, 3]


def posed_meshes() -> np.ndarray:
    """The template with its forearm stump (a closed mesh) in three poses before the camera, [3, V, 3]."""
    hand = template()
    rotations = torch.cat([hand.rest_rotations[None], pose(FIST_DEG), clean_batch().rotations[:1]])
    views = torch.tensor([[0.3, 0.2, 0.5], [1.5, -0.4, 0.0], [2.8, 0.1, -0.9]])
    rotations[:, 0] = view_rotation(*views.T)
    wrist = torch.tensor([[20.0, 60, 500], [0, 0, 600], [-40, 30, 700]])
    T = forward_kinematics(hand, rotations, wrist)
    vertices = skin(hand.vertices_mm, hand.weights, skinning_transforms(hand, T))
    maker = Synthesiser(hand)
    stump = maker.forearms(maker.sample_arms(3, torch.Generator().manual_seed(0)))
    stump = torch.einsum("brc,bvc->bvr", T[:, 0, :3, :3], stump) + wrist[:, None]
    return torch.cat([vertices, stump], 1).numpy()


def test_posed_hand_against_open3d_ray_casting():
    o3d = pytest.importorskip("open3d")
    faces, size = Synthesiser(template()).faces, (200, 240)
    vertices = posed_meshes()
    cameras = np.array([[525.0, 520.0, 110.0, 105.0]] * 3, np.float32)
    ours = rasterise(vertices, faces, cameras, size)
    v, u = np.mgrid[: size[0], : size[1]].astype(np.float32)
    for i in range(3):
        fx, fy, cx, cy = cameras[i]
        rays = np.stack([np.zeros_like(u)] * 3 + [(u - cx) / fx, (v - cy) / fy, np.ones_like(u)], -1)
        scene = o3d.t.geometry.RaycastingScene()
        scene.add_triangles(o3d.core.Tensor(vertices[i]), o3d.core.Tensor(faces.astype(np.uint32)))
        depth = scene.cast_rays(o3d.core.Tensor(rays))["t_hit"].numpy()  # the rays' z is 1, so t is z
        depth[~np.isfinite(depth)] = 0
        # silhouettes (of the hand or of a finger before the palm) that pass within rounding of a pixel's centre may fall
        # to either side: at most 3 of about 6000 pixels; all others agree to 0.01 mm, float32 of 700 mm through 1/z
        assert (ours[i] > 0).sum() > 3000
        differs = np.abs(ours[i] - depth) > 0.01
        assert differs.sum() <= 3, differs.sum()


def test_closed_mesh_may_leave_out_what_is_seen_from_behind():
    faces, vertices = Synthesiser(template()).faces, posed_meshes()
    cameras = window_cameras(torch.from_numpy(vertices), SyntheticSettings(), torch.Generator().manual_seed(1))
    both, outside = (rasterise(vertices, faces, cameras, (224, 224), closed=c) for c in (False, True))
    assert (both > 0).sum() > 3 * 3000
    # where an inside and an outside share an outline's pixel, either may win by rounding
    assert (np.abs(both - outside) > 0.01).sum() <= 6


def test_errors():
    faces = np.array([[0, 1, 2]])
    with pytest.raises(ValueError, match=r"vertices_mm must be \[B, V, 3\], got \[3, 3\]"):
        rasterise(np.ones((3, 3)), faces, UNIT, (4, 4))
    with pytest.raises(ValueError, match=r"intrinsics must be \[B, 4\] with B = 2, got \[1, 4\]"):
        rasterise(np.ones((2, 3, 3)), faces, UNIT, (4, 4))
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="NaN or infinite"):
            rasterise(np.full((1, 3, 3), bad), faces, UNIT, (4, 4))
    for wrong in ([[0, 1, 3]], [[-1, 0, 1]], [[0, 1]]):
        with pytest.raises(ValueError, match=r"faces must be \[F, 3\] indices below V = 3"):
            rasterise(np.ones((1, 3, 3)), np.array(wrong), UNIT, (4, 4))
