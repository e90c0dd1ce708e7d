"""Graph of a depth frame's surface, for `segment`: grid cells, joined where depth is continuous, and paths on it.

An edge is two node numbers and a length, in three arrays; edges follow the image row by row. The loops are numba's: with
scipy's sparse graphs a segmentation takes half as long again (9 ms instead of 6), since the matrices must be built.
"""

import numpy as np

from ..support.compiled import compiled

# rows down, columns right; the last two with one cell missing between
NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (2, 0))


@compiled()
def edges(grid_mm, usable, join_mm):
    """Neighbours less than join_mm apart in depth: node, node and length along the surface in mm, [E] each.

    grid_mm [h, w, 3]: points in the camera frame; usable [h, w] bool: cells that are nodes, numbered row by row.
    """
    height, width = usable.shape
    number = np.full((height, width), -1)
    count = 0
    for v in range(height):
        for u in range(width):
            if usable[v, u]:
                number[v, u] = count
                count += 1
    i, j = np.empty(len(NEIGHBOURS) * count, np.int64), np.empty(len(NEIGHBOURS) * count, np.int64)
    length_mm = np.empty(len(i), grid_mm.dtype)
    found = 0
    for v in range(height):
        for u in range(width):
            if not usable[v, u]:
                continue
            for down, right in NEIGHBOURS:
                row, column = v + down, u + right
                if row >= height or column < 0 or column >= width or not usable[row, column]:
                    continue
                here, there = grid_mm[v, u], grid_mm[row, column]
                if abs(here[2] - there[2]) < join_mm:
                    i[found], j[found] = number[v, u], number[row, column]
                    length_mm[found] = np.sqrt(
                        (here[0] - there[0]) ** 2 + (here[1] - there[1]) ** 2 + (here[2] - there[2]) ** 2
                    )
                    found += 1
    return i[:found], j[:found], length_mm[:found]


@compiled()
def pieces(i, j, among):
    """Connected pieces of the nodes marked in among [N] bool by the edges i, j [E]: label [N] from 0 on, -1 elsewhere.

    Labels are in the order of each piece's first node.
    """
    first = np.arange(len(among))  # an earlier node of the same piece; the piece's first node points to itself
    for e in range(len(i)):
        a, b = i[e], j[e]
        if among[a] and among[b]:
            while first[a] != a:
                first[a] = first[first[a]]  # path halving
                a = first[a]
            while first[b] != b:
                first[b] = first[first[b]]
                b = first[b]
            first[max(a, b)] = min(a, b)
    label, count = np.full(len(among), -1), 0
    for n in range(len(among)):
        if among[n]:
            if first[n] == n:
                label[n] = count
                count += 1
            else:
                label[n] = label[first[n]]
    return label


@compiled()
def distances(i, j, length_mm, start, count):
    """Length in mm of the shortest path from any of the nodes `start` [S] to each of `count` nodes; inf without one.

    Bellman-Ford relaxation along the image and back until nothing changes: a few rounds on a grid, without a queue.
    """
    mm = np.full(count, np.inf)
    mm[start] = 0
    changed = True
    while changed:
        changed = False
        for step in (1, -1):
            for k in range(len(i)):
                e = k if step == 1 else len(i) - 1 - k
                a, b, length = i[e], j[e], length_mm[e]
                if mm[a] + length < mm[b]:
                    mm[b] = mm[a] + length
                    changed = True
                elif mm[b] + length < mm[a]:
                    mm[a] = mm[b] + length
                    changed = True
    return mm
