"""MANO (Romero, Tzionas, Black, "Embodied Hands", 2017), from the user's own file, which its licence lets nobody ship.

MANO_RIGHT.pkl is a pickle, which is read without executing it (`support.inert_pickle`); an .npz with the same names will do.
The rig has MANO's average mesh, joints and skin weights. What poses add to its skin (posedirs) is left out, since Eq. 2 has no
such term; people's shapes are our own (`hand.shape`), in place of MANO's betas.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import sparse

from ..support import decoding
from ..support.inert_pickle import read_arrays
from .joints import JOINT_NAMES
from .mesh_rig import SkinnedMesh

ORDER = (
    "wrist",
    *(f"{f}_{p}" for f in ("index", "middle", "pinky", "ring", "thumb") for p in ("base", "middle", "far")),
)
PARENTS = [-1, *(0 if part == 0 else 3 * finger + part for finger in range(5) for part in range(3))]
NEEDED = ("v_template", "f", "weights", "J_regressor", "kintree_table")


def read_mano(path: str | Path) -> SkinnedMesh:
    """The hand of average shape in a file of MANO's, as the file has it: right or left.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is no hand of MANO's; says what it lacks. Nothing of it was executed.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"no hand at {path}; MANO's files are at mano.is.tue.mpg.de, for those who accept its licence"
        )
    parts = _arrays_of_npz(path) if path.suffix.lower() == ".npz" else read_arrays(path)
    missing = [name for name in NEEDED if name not in parts]
    if missing:
        raise ValueError(
            f"{path} lacks {', '.join(missing)}, which MANO's files have; name MANO_RIGHT.pkl or MANO_LEFT.pkl"
        )
    regressor = parts["J_regressor"]
    parts["J_regressor"] = regressor.toarray() if sparse.issparse(regressor) else regressor
    vertices = _numbers(path, parts, "v_template", (None, 3))
    count = len(vertices)
    weights = _numbers(path, parts, "weights", (count, 16))
    joints = _numbers(path, parts, "J_regressor", (16, count)) @ vertices
    faces = _numbers(path, parts, "f", (None, 3)).astype(np.int64)
    parents = _numbers(path, parts, "kintree_table", (2, 16))[0].astype(np.int64)
    if parents[1:].tolist() != PARENTS[1:]:
        raise ValueError(
            f"{path}: kintree_table is of another skeleton than MANO's; its parents are {parents.tolist()}"
        )
    if faces.min() < 0 or faces.max() >= count:
        raise ValueError(f"{path}: f must number {count} vertices, got {faces.min()} to {faces.max()}")
    ends = dict(zip(ORDER, joints, strict=True))
    ours = weights[:, [ORDER.index(name) for name in JOINT_NAMES]]
    return SkinnedMesh(path.stem, vertices, faces, ours, ends)


def _arrays_of_npz(path: Path) -> dict[str, Any]:
    try:
        return decoding.read_arrays(path)
    except ValueError as error:
        raise ValueError(
            f"{path} is no file of plain arrays ({error}); save it anew by numpy.savez, J_regressor dense"
        ) from error


def _numbers(path: Path, parts: Mapping[str, Any], name: str, shape: tuple) -> Float[np.ndarray, "..."]:
    """An array of finite numbers of a shape, in which None is any length."""
    array = parts[name]
    fits = isinstance(array, np.ndarray) and array.ndim == len(shape)
    if not (fits and all(want in (None, got) for want, got in zip(shape, array.shape, strict=True))):
        got = list(array.shape) if isinstance(array, np.ndarray) else type(array).__name__
        raise ValueError(f"{path}: {name} must be an array {list(shape)}, got {got}")
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"{path}: {name} holds NaN or infinite numbers")
    return array
