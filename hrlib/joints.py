"""The one table of joints: names, parents, neutral frames, limits, and the maps to other data sets.

The hand has 16 joints (wrist, then thumb, index, middle, ring, pinky x 3) and 5 fingertips. Every joint frame is
anatomical, of the right hand: y runs along the bone towards the tip, z points to the palm side (the way the joint
curls), and x = y cross z is the flexion axis. A rotation of a joint is R_x(flexion) R_z(deviation) R_y(twist):
flexion > 0 curls, deviation > 0 moves the finger to the little finger's side, twist turns about the bone.

All angles zero means the neutral hand: fingers straight, parallel to the line wrist - middle finger, in the palm's
plane; the thumb as a relaxed hand holds it (its neutral frame was read off the template). Because the neutral hand is
the same for every rig, a pose means the same on every rig; what is a rig's own is its rest pose.
"""

import numpy as np

FINGERS = ("thumb", "index", "middle", "ring", "pinky")
JOINT_NAMES = ("wrist",) + tuple(f"{finger}_{part}" for finger in FINGERS for part in ("base", "middle", "far"))
TIP_NAMES = tuple(f"{finger}_tip" for finger in FINGERS)
# wrist; then for each finger: its base hangs on the wrist, the others on the joint before
PARENTS = (-1,) + tuple(0 if part == 0 else 1 + 3 * finger + part - 1 for finger in range(5) for part in range(3))
TIP_PARENTS = tuple(3 + 3 * finger for finger in range(5))  # each tip belongs to its finger's far joint

# The 21 points that files and reports use: wrist, then each finger's base, middle, far, tip.
POINT_NAMES = ("wrist",) + tuple(f"{finger}_{part}" for finger in FINGERS for part in ("base", "middle", "far", "tip"))
POINT_ORDER = tuple((JOINT_NAMES + TIP_NAMES).index(name) for name in POINT_NAMES)
JOINT_POINTS = tuple(
    i for i, name in enumerate(POINT_NAMES) if name in JOINT_NAMES
)  # the 16 joints among the 21 points
POINT_PARENTS = (-1,) + tuple(0 if part == 0 else 4 * finger + part for finger in range(5) for part in range(4))

# Neutral orientation of each finger's base in the wrist's frame, as angles (x, z, y) in degrees of R_x R_z R_y. The
# twists of the fingers follow the arch of the knuckles, so that curled fingers converge to the thumb's base; the thumb's
# frame is the template's, its flexion axis the one about which the template's thumb is bent.
NEUTRAL_DEG = {
    "thumb": (61.0, -39.0, -119.0),
    "index": (0.0, 0.0, -4.0),
    "middle": (0.0, 0.0, 2.0),
    "ring": (0.0, 0.0, 7.0),
    "pinky": (0.0, 0.0, 12.0),
}

# Feasible range of (flexion, deviation, twist) in degrees. Flexion of the fingers, and the thumb's middle and far joint:
# normal ranges of motion of the American Academy of Orthopaedic Surgeons (as tabulated in Norkin & White, "Measurement of
# Joint Motion", 4th ed. 2009) and Lin, Wu, Huang, "Modeling the constraints of human hand motion" (2000); hyperextension
# of the finger bases is the active range. Deviation is counted from the parallel neutral hand, so that the spread of the
# knuckles is in it: the +-15 degrees of Lin et al. about each finger's own direction. Twist has no muscle: 5 degrees
# for what the model's straight axes get wrong. The thumb's base is counted from the relaxed thumb; the deviation of its
# middle joint is 15 degrees about the template's.
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


def limits_rad() -> np.ndarray:
    """[16, 3, 2]: lower and upper bound of flexion, deviation, twist of each joint; the wrist turns freely (+-inf)."""
    limits = np.full((16, 3, 2), np.inf)
    limits[0, :, 0] = -np.inf
    for name, ranges in LIMITS_DEG.items():
        limits[JOINT_NAMES.index(name)] = np.radians(ranges)
    return limits
