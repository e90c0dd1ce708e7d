import numpy as np
import pytest

from hrlib.synthetic.rasterise import rasterise
from hrlib.synthetic.solids import BOX, CONE, CUP, CYLINDER, ELLIPSOID, ROOM, cast, cone, solid
from hrlib.synthetic.surroundings import any_turn

CAMERA, SIZE = np.array([200.0, 200.0, 79.5, 59.5]), (120, 160)
CENTRE = np.array([15.0, -20.0, 500.0])


def points(depth):
    v, u = np.nonzero(depth)
    rays = np.stack([(u - CAMERA[2]) / CAMERA[0], (v - CAMERA[3]) / CAMERA[1], np.ones(len(u))], 1)
    return rays * depth[v, u][:, None]


def test_box_is_the_rasterised_mesh():
    R, half = any_turn(np.random.default_rng(0)), np.array([60.0, 35.0, 90.0])
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * half @ R.T + CENTRE
    quads = [(0, 1, 3, 2), (4, 5, 7, 6), (0, 1, 5, 4), (2, 3, 7, 6), (0, 2, 6, 4), (1, 3, 7, 5)]
    faces = np.array([triangle for a, b, c, d in quads for triangle in ((a, b, c), (a, c, d))])
    mesh = rasterise(corners[None].astype(np.float32), faces, CAMERA[None].astype(np.float32), SIZE)[0]
    ray = cast(solid(BOX, CENTRE, half, R)[None], CAMERA, SIZE)
    assert ((mesh > 0) != (ray > 0)).mean() < 1e-3  # pixels whose centre lies on an edge
    both = (mesh > 0) & (ray > 0)
    assert both.sum() > 500 and np.abs(mesh - ray)[both].max() < 0.05


@pytest.mark.parametrize("kind", [ELLIPSOID, CYLINDER])
def test_points_lie_on_the_surface_that_faces_the_camera(kind):
    R, half = any_turn(np.random.default_rng(1)), np.array([50.0, 80.0, 30.0])
    seen = points(cast(solid(kind, CENTRE, half, R)[None], CAMERA, SIZE))
    local = (seen - CENTRE) @ R / half
    assert len(seen) > 500
    if kind == ELLIPSOID:
        assert np.abs(np.linalg.norm(local, axis=1) - 1).max() < 1e-4
        assert ((local / half) @ R.T * seen).sum(1).max() < 1e-3  # normals point to the camera
    else:
        side, top = np.hypot(local[:, 0], local[:, 2]), np.abs(local[:, 1])
        assert np.minimum(np.abs(side - 1), np.abs(top - 1)).max() < 1e-4
        assert side.max() < 1 + 1e-4 and top.max() < 1 + 1e-4


@pytest.mark.parametrize("radii", [(40.0, 15.0), (15.0, 40.0), (25.0, 25.0), (60.0, 5.0)])
def test_cone_has_the_distance_of_its_balls(radii):
    start, end = CENTRE + [-50, 10, 30], CENTRE + [40, 25, -45]
    row = cone(start, end, *radii)
    assert row[0] == CONE
    seen = points(cast(row[None], CAMERA, SIZE))[::37]
    t = np.linspace(0, 1, 3001)[:, None]
    balls, r = start + (end - start) * t, radii[0] + (radii[1] - radii[0]) * t[:, 0]
    for point in seen:
        assert abs((np.linalg.norm(point - balls, axis=1) - r).min()) < 1e-2


def test_cup_is_hollow_and_the_room_is_around():
    upright = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]).T  # its open end to the camera
    half = np.array([40.0, 60.0, 40.0])
    into = cast(solid(CUP, CENTRE * [0, 0, 1], half, upright)[None], CAMERA, SIZE)
    onto = cast(solid(CYLINDER, CENTRE * [0, 0, 1], half, upright)[None], CAMERA, SIZE)
    assert onto[60, 80] == pytest.approx(440) and into[60, 80] == pytest.approx(560)
    walls = cast(solid(ROOM, CENTRE, np.array([400.0, 300.0, 900.0]))[None], CAMERA, SIZE)
    assert (walls > 0).all() and walls.max() == pytest.approx(1400)


def test_wrong_rows_are_refused():
    with pytest.raises(ValueError, match="must be .K, 16. finite"):
        cast(np.zeros((2, 5)), CAMERA, SIZE)
