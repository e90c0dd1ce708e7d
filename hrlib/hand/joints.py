"""The one table of joints: names, parents, neutral frames, limits, and the maps to other data sets.

The hand has 16 joints (wrist, then thumb, index, middle, ring, pinky x 3) and 5 fingertips. Every joint frame is
anatomical, of the right hand: y runs along the bone to the tip, z points to the palm's side (the way the joint curls),
and x = y cross z is the flexion axis. A rotation of a joint is R_x(flexion) R_z(deviation) R_y(twist): flexion > 0 curls,
deviation > 0 moves the finger to the little finger's side, twist turns about the bone.

All angles zero means the neutral hand: fingers straight and parallel to the line wrist - middle finger, in the palm's
plane; the thumb as a relaxed hand holds it. Every rig has the same neutral hand, so a pose means the same on every rig; a
rig has its own rest pose.
"""

import numpy as np
from jaxtyping import Float
from torch import Tensor

from ..support.checks import require_one_of

FINGERS = ("thumb", "index", "middle", "ring", "pinky")
JOINT_NAMES = ("wrist",) + tuple(f"{finger}_{part}" for finger in FINGERS for part in ("base", "middle", "far"))
TIP_NAMES = tuple(f"{finger}_tip" for finger in FINGERS)
# wrist; then for each finger: its base hangs on the wrist, the others on the joint before
PARENTS = (-1,) + tuple(0 if part == 0 else 1 + 3 * finger + part - 1 for finger in range(5) for part in range(3))
TIP_PARENTS = tuple(3 + 3 * finger for finger in range(5))  # each tip belongs to its finger's far joint

# The 21 points that files and reports use: wrist, then each finger's base, middle, far, tip.
POINT_NAMES = ("wrist",) + tuple(f"{finger}_{part}" for finger in FINGERS for part in ("base", "middle", "far", "tip"))
POINT_ORDER = tuple((JOINT_NAMES + TIP_NAMES).index(name) for name in POINT_NAMES)
JOINT_POINTS = tuple(i for i, name in enumerate(POINT_NAMES) if name in JOINT_NAMES)  # the 16 joints among them
POINT_PARENTS = (-1,) + tuple(0 if part == 0 else 4 * finger + part for finger in range(5) for part in range(4))

# Neutral orientation of each finger's base in the wrist's frame: angles (x, z, y) in degrees of R_x R_z R_y. The fingers'
# twists follow the arch of the knuckles, so that curled fingers converge to the thumb's base. The thumb's frame was read off
# the template, its flexion axis the one about which the template's thumb is bent.
NEUTRAL_DEG = {
    "thumb": (61.0, -39.0, -119.0),
    "index": (0.0, 0.0, -4.0),
    "middle": (0.0, 0.0, 2.0),
    "ring": (0.0, 0.0, 7.0),
    "pinky": (0.0, 0.0, 12.0),
}

# Feasible range of (flexion, deviation, twist) in degrees. Flexion: normal ranges of motion of the American Academy of
# Orthopaedic Surgeons (Norkin & White, "Measurement of Joint Motion", 4th ed. 2009) and Lin, Wu, Huang, "Modeling the
# constraints of human hand motion" (2000); hyperextension of the finger bases is the active range. Deviation: the +-15
# degrees of Lin et al. about each finger's own direction, which the knuckles spread from the neutral hand's. Twist has no
# muscle: 5 degrees for what the model's straight axes get wrong. The thumb's base is counted from the relaxed thumb, the
# deviation of its middle joint is 15 degrees about the template's.
LIMITS_DEG = {
    "thumb_base": ((-25, 35), (-30, 30), (-20, 20)),
    "thumb_middle": ((-10, 60), (-6, 22), (-8, 8)),
    "thumb_far": ((-15, 80), (-5, 5), (-5, 5)),
    "index_base": ((-20, 90), (-23, 12), (-5, 5)),
    "middle_base": ((-20, 90), (-12, 18), (-5, 5)),
    "ring_base": ((-20, 90), (-8, 26), (-5, 5)),
    "pinky_base": ((-20, 90), (-6, 38), (-5, 5)),
} | {
    f"{finger}_{part}": (flexion, (-6, 6), (-6, 6))
    for finger in FINGERS[1:]
    for part, flexion in (("middle", (-5, 110)), ("far", (-5, 90)))
}


def limits_rad() -> Float[np.ndarray, "16 3 2"]:
    """Lower and upper bound of flexion, deviation, twist of each joint; the wrist turns freely (+-inf)."""
    limits = np.full((16, 3, 2), np.inf)
    limits[0, :, 0] = -np.inf
    for name, ranges in LIMITS_DEG.items():
        limits[JOINT_NAMES.index(name)] = np.radians(ranges)
    return limits


# -- the joints of other data sets --------------------------------------------------------------------------------------
#
# Each is a weighted mean of our 21 points. The constant offset that remains between their joint and ours is the bias of
# Sec. 4.5 (`hrlib.evaluation.joint_errors`).

# NYU's 36 are the ends of its phalanges: tip, then A and B of each knuckle towards the palm, little finger first. A bone
# of constant length and the gap behind it tell that 1, 3, 5 of a finger are its far, middle and base joints.
_NYU_PALM = [  # affine coordinates of NYU's six palm joints in its own wrist and bases, read off its labels (2 to 5 mm)
    {"wrist": 0.95, "index_base": -0.3, "middle_base": 0.15, "pinky_base": 0.2},  # wrist, little finger's side
    {"wrist": 0.8, "thumb_base": 0.2, "index_base": 0.3, "middle_base": -0.15, "pinky_base": -0.15},  # thumb's side
    {"wrist": 0.25, "index_base": 0.05, "middle_base": 0.45, "ring_base": 0.25},  # palm
    {"wrist": 0.25, "index_base": -0.1, "middle_base": 0.4, "ring_base": -0.15, "pinky_base": 0.6},
    {"wrist": 0.5, "index_base": 0.05, "middle_base": 0.3, "ring_base": 0.15},
    {"wrist": 1.0},
]


def _nyu_finger(finger: str) -> list[dict[str, float]]:
    base, middle, far, tip = (f"{finger}_{part}" for part in ("base", "middle", "far", "tip"))
    half = 0.54 if finger == "thumb" else 0.52
    return [{tip: 1}, {far: 1}, {far: 0.4, middle: 0.6}, {middle: 1}, {middle: 1 - half, base: half}, {base: 1}]


_NYU = [joint for finger in FINGERS[::-1] for joint in _nyu_finger(finger)] + _NYU_PALM

# Subsets of NYU's 36 by their number of joints. 14: Tompson et al. 2014 and nearly everybody since (tip and middle joint
# of each finger, the thumb's far joint, both sides of the wrist, palm). 12: without the wrist. 11: without the palm as well.
# 16: those at our 16 joints; the paper does not list its own (Sec. 4.1 only says how many).
NYU_SUBSETS = {
    36: tuple(range(36)),
    16: (35, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1),
    14: (0, 3, 6, 9, 12, 15, 18, 21, 24, 25, 27, 30, 31, 32),
    12: (0, 3, 6, 9, 12, 15, 18, 21, 24, 25, 27, 32),
    11: (0, 3, 6, 9, 12, 15, 18, 21, 24, 25, 27),
}

# ICVL's 16 are centres of bones (Melax et al. 2013): palm, then of each finger root, mid and tip.
_ICVL = ({"wrist": 0.3, "index_base": 0.175, "middle_base": 0.175, "ring_base": 0.175, "pinky_base": 0.175},) + tuple(
    {f"{finger}_{a}": 0.5, f"{finger}_{b}": 0.5}
    for finger in FINGERS
    for a, b in (("base", "middle"), ("middle", "far"), ("far", "tip"))
)

# MSRA's 21 are our 21 points, the thumb last.
_MSRA = tuple({name: 1.0} for name in POINT_NAMES[:1] + POINT_NAMES[5:] + POINT_NAMES[1:5])

_MAPS = {"nyu": _NYU, "icvl": _ICVL, "msra": _MSRA}
JOINT_COUNTS = {"nyu": tuple(NYU_SUBSETS), "icvl": (16,), "msra": (21,)}


def joint_map(dataset: str, joints: int) -> Float[np.ndarray, "J 21"]:
    """Weights whose product with our 21 points gives the data set's joints, in its own order.

    dataset: "nyu" (36, 16, 14, 12 or 11 joints), "icvl" (16) or "msra" (21). ValueError for any other.
    """
    require_one_of(_MAPS, dataset=dataset)
    require_one_of(JOINT_COUNTS[dataset], joints=joints)
    rows = [_NYU[i] for i in NYU_SUBSETS[joints]] if dataset == "nyu" else _MAPS[dataset]
    weights = np.zeros((len(rows), len(POINT_NAMES)), np.float32)
    for row, parts in zip(weights, rows, strict=True):
        for name, weight in parts.items():
            row[POINT_NAMES.index(name)] = weight
    return weights


def to_dataset_joints(
    points_mm: Float[np.ndarray | Tensor, "*batch 21 3"], dataset: str, joints: int
) -> Float[np.ndarray | Tensor, "*batch J 3"]:
    """Our 21 points as the data set's joints; see `joint_map`."""
    if points_mm.shape[-2:] != (len(POINT_NAMES), 3):
        raise ValueError(f"points_mm must be [..., 21, 3], got {list(points_mm.shape)}")
    weights = joint_map(dataset, joints)
    weights = weights.astype(points_mm.dtype) if isinstance(points_mm, np.ndarray) else points_mm.new_tensor(weights)
    return weights @ points_mm
