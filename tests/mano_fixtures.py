"""Files of MANO's structure without MANO: its licence forbids shipping it, so this project's own hand takes its place."""

import pickle
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
from core_fixtures import template
from scipy import sparse

from hrlib.hand.joints import JOINT_NAMES
from hrlib.hand.mano import ORDER, PARENTS

VERTICES = 778  # as many as MANO has
NEIGHBOURS = 12  # vertices that tell where a joint is


@cache
def mano_like() -> dict:
    """The template with as many vertices as MANO, in metres: what MANO_RIGHT.pkl holds, by its names and in its types."""
    hand = template()
    vertices, faces, kept = _collapsed(hand.vertices_mm.double().numpy() / 1000, hand.faces.numpy(), VERTICES)
    joints = hand.joints_mm.double().numpy()[[JOINT_NAMES.index(name) for name in ORDER]] / 1000
    regressor = np.zeros((16, len(vertices)))
    for row, joint in zip(regressor, joints, strict=True):
        near = np.argsort(np.linalg.norm(vertices - joint, axis=1))[:NEIGHBOURS]
        wanted = np.append(joint, 1.0)
        row[near] = np.linalg.lstsq(np.c_[vertices[near], np.ones(NEIGHBOURS)].T, wanted, rcond=None)[0]
    weights = hand.weights.double().numpy()[kept][:, [JOINT_NAMES.index(name) for name in ORDER]]
    parents = np.array(PARENTS, np.int64).astype(np.uint32)  # the root's is 4294967295
    return {
        "v_template": vertices,
        "f": faces.astype(np.uint32),
        "weights": weights,
        "J_regressor": sparse.csc_matrix(regressor),
        "J": joints,
        "kintree_table": np.stack([parents, np.arange(16, dtype=np.uint32)]),
        "shapedirs": np.zeros((len(vertices), 3, 10)),
        "posedirs": np.zeros((len(vertices), 3, 135)),
        "hands_components": np.eye(45),
        "hands_mean": np.zeros(45),
        "hands_coeffs": np.zeros((4, 45)),
        "bs_style": "lbs",
        "bs_type": "lrotmin",
    }


def write_mano(path: Path, **changes) -> Path:
    """MANO_RIGHT.pkl as it is published: of Python 2, with a chumpy array; `changes` replace parts, None takes one out."""
    parts = mano_like() | changes
    with _chumpy() as chumpy:
        parts["shapedirs"] = chumpy(parts["shapedirs"])
        content = pickle.dumps({name: part for name, part in parts.items() if part is not None}, 2)
    # what these modules were called when MANO was saved
    content = content.replace(b"cnumpy._core.", b"cnumpy.core.").replace(
        b"cscipy.sparse._csc\n", b"cscipy.sparse.csc\n"
    )
    path.write_bytes(content)
    return path


class _chumpy:
    """The module chumpy.ch for as long as something is pickled; nobody needs it installed to read what comes of it."""

    def __enter__(self):
        class Ch:
            def __init__(self, x):
                self.x, self._dirty_vars = x, set()

        Ch.__module__, Ch.__qualname__ = "chumpy.ch", "Ch"
        self.before = {name: sys.modules.get(name) for name in ("chumpy", "chumpy.ch")}
        sys.modules["chumpy"], sys.modules["chumpy.ch"] = ModuleType("chumpy"), ModuleType("chumpy.ch")
        sys.modules["chumpy.ch"].Ch = Ch
        return Ch

    def __exit__(self, *error):
        for name, module in self.before.items():
            sys.modules.pop(name) if module is None else sys.modules.update({name: module})


def _collapsed(vertices: np.ndarray, faces: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A mesh with fewer vertices: the shortest edges are collapsed where that keeps it one surface, its edge as it is.

    Returns vertices, faces and the numbers of the vertices that are left.
    """
    around: dict[int, set[int]] = {v: set() for v in range(len(vertices))}
    for corner in range(3):
        for a, b in zip(faces[:, corner], faces[:, (corner + 1) % 3], strict=True):
            around[int(a)].add(int(b)), around[int(b)].add(int(a))
    edges = {(a, b) for a in around for b in around[a] if a < b}
    shares = {edge: len(around[edge[0]] & around[edge[1]]) for edge in edges}
    fixed = {v for edge, share in shares.items() if share < 2 for v in edge}
    into = {v: v for v in around}
    for a, b in sorted(edges, key=lambda edge: np.linalg.norm(vertices[edge[0]] - vertices[edge[1]])):
        if sum(v == to for v, to in into.items()) == count:
            break
        if into[a] != a or into[b] != b or b in fixed or len(around[a] & around[b]) != 2:
            continue
        into[b] = a
        for v in around.pop(b):
            around[v].discard(b)
            if v != a:
                around[v].add(a), around[a].add(v)

    def end(v: int) -> int:
        return v if into[v] == v else end(into[v])

    ends = np.array([end(v) for v in range(len(vertices))])
    a, b, c = ends[faces].T
    left = np.stack([a, b, c], 1)[(a != b) & (b != c) & (c != a)]
    kept, numbered = np.unique(left, return_inverse=True)
    return vertices[kept], numbered.reshape(-1, 3), kept
