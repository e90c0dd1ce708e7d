"""The graph of a frame's surface against scipy's sparse graphs, and its edges counted by hand."""

import numpy as np
import pytest
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components, dijkstra

from hrlib.frames import surface


def random_graph(seed: int):
    """Points [18, 25, 3] of a bumpy surface with holes, and its edges: usable, i, j, length_mm."""
    rng = np.random.default_rng(seed)
    v, u = np.mgrid[0:18, 0:25].astype(np.float32)
    grid_mm = np.stack([3 * u, 3 * v, 500 + rng.uniform(0, 40, v.shape)], -1).astype(np.float32)
    usable = rng.random(v.shape) < 0.6
    return grid_mm, usable, *surface.edges(grid_mm, usable, np.float32(15))


def test_edges_of_a_small_grid():
    depth = np.array([[500, 500, 0], [500, 600, 500], [500, 0, 0]], np.float32)
    v, u = np.mgrid[0:3, 0:3].astype(np.float32)
    i, j, length_mm = surface.edges(np.stack([3 * u, 3 * v, depth], -1), depth > 0, np.float32(60))
    # nodes: 0 1 .      the 600 (node 3) is too deep for all; from 2 to 4 leads an edge over it
    #        2 3 4
    #        5 . .
    assert sorted(zip(i.tolist(), j.tolist(), length_mm.round(3).tolist(), strict=True)) == [
        (0, 1, 3.0),
        (0, 2, 3.0),
        (0, 5, 6.0),
        (1, 2, pytest.approx(18**0.5, abs=1e-3)),
        (1, 4, pytest.approx(18**0.5, abs=1e-3)),
        (2, 4, 6.0),
        (2, 5, 3.0),
    ]


@pytest.mark.parametrize("seed", range(3))
def test_pieces_are_scipys(seed):
    _, usable, i, j, length_mm = random_graph(seed)
    size = usable.sum()
    among = np.random.default_rng(9).random(size) < 0.7
    both = among[i] & among[j]
    matrix = coo_matrix((length_mm[both], (i[both], j[both])), (size, size))
    expected = np.unique(connected_components(matrix, directed=False)[1][among], return_inverse=True)[1]
    label = surface.pieces(i, j, among)
    assert (label[~among] == -1).all() and len(set(expected)) > 3
    np.testing.assert_array_equal(label[among], expected)


@pytest.mark.parametrize("seed", range(3))
def test_distances_are_dijkstras(seed):
    _, usable, i, j, length_mm = random_graph(seed)
    size, start = usable.sum(), np.array([3, 40])
    expected = dijkstra(coo_matrix((length_mm, (i, j)), (size, size)), directed=False, indices=start, min_only=True)
    mm = surface.distances(i, j, length_mm, start, size)
    assert np.isinf(mm).any() and np.isfinite(mm).sum() > 50
    np.testing.assert_array_equal(mm, expected)  # both are the least of the same sums
