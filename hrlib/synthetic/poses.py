"""Where poses come from (Sec. 4.1): random feasible ones, real tracked ones from a file, and smooth sequences of either.

A pose is 16 unit quaternions. The wrist's is the view; the others depend on no rig (see `hrlib.hand.joints`). Random poses
are drawn on their generator's device, where the hand must be as well.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn.functional import normalize

from ..hand.joints import limits_rad
from ..hand.kinematics import forward_kinematics, joint_positions
from ..hand.rig import HandRig, neutral_rotations
from ..hand.rotations import euler_angles, from_euler, rotation_matrix
from ..losses import collision_loss
from ..support.decoding import read_table
from ..support.roma_alone import roma

MAX_COLLISION_MM = 0.1  # of Eq. 7; poses with more are drawn again
MAX_PITCH_RAD = 1.4  # a raised hand is not seen along its fingers

# What hands do. Flexions are positions in their joint's range: 0 straight, 1 rolled up.
ALIKE_HANDS = 0.33  # share of the hands whose fingers do the same
ALIKE_FINGERS = 0.85  # share of such a hand's fingers that join in
STRAIGHT_FINGERS, ROLLED_FINGERS = 0.3, 0.2  # shares; the other fingers do anything
FAR_BY_MIDDLE = 0.67  # a far joint follows its middle joint by 2/3 (Lin, Wu, Huang 2000), loosely
WOBBLE = 0.08  # standard deviation of the flexions about all that
LESS_SPREAD = 0.8  # by how much of its range a fully bent finger spreads less

# Fingers held beside each other, as most are that reach for something; `sample_poses`, whose fingers spread at
# random, has next to none. A network without them takes a flat hand for something else.
FLAT = 0.5  # share of these hands whose fingers are straight
BESIDE_DEG = (5.0, 0.0, 0.0, 0.0)  # deviations of index to pinky at which they lie beside each other, 18 mm apart
SWAY_DEG, APART_DEG, ALIKE_DEG = (
    3.0,
    2.0,
    6.0,
)  # standard deviations: of all deviations at once, of each, of each flexion
FLAT_DEG = ((8.0, 12.0), (0.0, 12.0), (0.0, 8.0))  # mean and standard deviation of a straight finger's flexions

# Poses of another skeleton
SEEN_TWIST = 0.25  # sine of 15 degrees: the twist of a finger that is bent less cannot be seen
MAX_GAP_M = 0.002  # mean distance between two bones' ends that should be one joint


def sample_poses(
    count: int, hand: HandRig, generator: Generator, max_collision_mm: float = MAX_COLLISION_MM
) -> Float[Tensor, "B 16 4"]:
    """Feasible finger poses without collisions; the wrist's quaternion is the identity.

    Euler angles are drawn inside the limits of Eq. 8; poses whose Eq. 7 exceeds `max_collision_mm` are drawn again.

    Raises:
        ValueError: next to all poses inside the limits collide.
    """
    kept: list[Tensor] = []
    drawn = have = 0
    while have < count:
        angles = sample_angles(2 * (count - have) + 64, hand.limits_rad, generator)
        rotations = from_euler(angles)
        T = forward_kinematics(hand, rotations, torch.zeros(len(angles), 3, device=generator.device))
        good = rotations[collision_loss(joint_positions(hand, T)) <= max_collision_mm]
        kept.append(good)
        have, drawn = have + len(good), drawn + len(angles)
        if drawn > 100 * count + 10000:
            raise ValueError(f"only {have} of {drawn} sampled poses were free of collisions; check the joint limits")
    return torch.cat(kept)[:count]


def sample_angles(count: int, limits_rad: Float[Tensor, "16 3 2"], generator: Generator) -> Float[Tensor, "B 16 3"]:
    """Random flexion, deviation and twist (rad) inside the limits of Eq. 8; the wrist's are zero.

    Flexions are mixed from what fingers do: straight, rolled up, anything. In some hands all fingers do alike.
    """
    low, high = limits_rad[1:].unbind(-1)
    if not (low <= high).all():
        raise ValueError("limits_rad must have lower <= upper bounds; some joint's range is empty")
    like = {"generator": generator, "device": generator.device}
    share = torch.rand(count, 15, 3, **like)  # position inside the range
    fingers = share.view(count, 5, 3, 3)[:, 1:]  # a view: index to pinky; base, middle, far
    alike = (torch.rand(count, 1, 1, **like) < ALIKE_HANDS) & (torch.rand(count, 4, 1, **like) < ALIKE_FINGERS)
    curl = torch.where(alike, torch.rand(count, 1, 1, **like), torch.rand(count, 4, 1, **like))[..., 0]
    kind = torch.where(alike, torch.rand(count, 1, 1, **like), torch.rand(count, 4, 1, **like))[..., 0]
    wobble = WOBBLE * torch.randn(count, 4, 3, **like)
    straight, rolled = kind < STRAIGHT_FINGERS, (kind >= STRAIGHT_FINGERS) & (kind < STRAIGHT_FINGERS + ROLLED_FINGERS)
    base = torch.where(rolled, 0.75 + 0.2 * curl, fingers[..., 0, 0])
    base = torch.where(straight, 0.18 + 0.5 * curl**3, base)
    middle = torch.where(straight, 0.06, torch.where(rolled, 0.82 + 0.1 * curl, fingers[..., 1, 0]))
    fingers[..., 0, 0] = base + wobble[..., 0]
    fingers[..., 1, 0] = middle + wobble[..., 1]
    fingers[..., 2, 0] = fingers[..., 1, 0] * FAR_BY_MIDDLE + 1.5 * wobble[..., 2]
    spread = 1 - LESS_SPREAD * fingers[..., 0, 0].clamp(0, 1)
    fingers[..., 0, 1] = 0.5 + (fingers[..., 0, 1] - 0.5) * spread
    angles = low + share.clamp(0, 1) * (high - low)
    return torch.cat([torch.zeros(count, 1, 3, device=generator.device), angles], 1)


def fingers_together(
    rotations: Float[Tensor, "B 16 4"], limits_rad: Float[Tensor, "16 3 2"], generator: Generator
) -> Float[Tensor, "B 16 4"]:
    """Poses whose fingers lie beside each other: all bent as the middle finger is, or straight. Thumb and wrist stay."""
    like = {"generator": generator, "device": generator.device}
    count, degree = len(rotations), math.pi / 180
    angles = euler_angles(rotations)
    fingers = angles[:, 4:].unflatten(1, (4, 3))  # a view: [B, index to pinky, base / middle / far, 3]
    mean, deviation = torch.tensor(FLAT_DEG, device=generator.device).T * degree
    straight = mean + deviation * torch.randn(count, 1, 3, **like)
    flat = torch.rand(count, 1, 1, **like) < FLAT
    flexion = torch.where(flat, straight, fingers[:, 1:2, :, 0])
    fingers[..., 0] = flexion + ALIKE_DEG * degree * torch.randn(count, 4, 3, **like)
    sway, apart = SWAY_DEG * torch.randn(count, 1, **like), APART_DEG * torch.randn(count, 4, **like)
    fingers[..., 0, 1] = (torch.tensor(BESIDE_DEG, device=generator.device) + sway + apart) * degree
    low, high = limits_rad.unbind(-1)
    together = rotations.clone()
    together[:, 4:] = from_euler(angles.clamp(low, high))[:, 4:]
    return together


def sample_view_angles(count: int, pitch_deg: float, roll_deg: float, generator: Generator) -> Float[Tensor, "B 3"]:
    """Yaw, pitch and roll (rad) of a raised hand turned to any side, as `hand.named_poses.view_rotation` takes them.

    pitch_deg, roll_deg: standard deviations of the tilt towards the camera and of the turn in the image.
    """
    like = {"generator": generator, "device": generator.device}
    yaw = (torch.rand(count, **like) * 2 - 1) * math.pi
    pitch = (torch.randn(count, **like) * math.radians(pitch_deg)).clamp(-MAX_PITCH_RAD, MAX_PITCH_RAD)
    roll = torch.randn(count, **like) * math.radians(roll_deg)
    return torch.stack([yaw, pitch, roll], 1)


# -- poses of another skeleton ----------------------------------------------------------------------------------------


def pose_from_joints(joints: Float[Tensor, "B 21 3"]) -> Float[Tensor, "B 16 4"]:
    """The pose of a right hand whose 21 points are known, in closed form.

    Only directions count, so any unit and any person's or skeleton's joints will do. Each bone's direction gives flexion
    and deviation. The base of a bent finger is twisted so that its next joint is a hinge. Angles outside the limits of
    Eq. 8 are put back on them.
    """
    if joints.ndim != 3 or joints.shape[1:] != (21, 3):
        raise ValueError(f"joints must be [B, 21, 3] (wrist, then five fingers x 4), got {list(joints.shape)}")
    chains = joints[:, 1:].unflatten(1, (5, 4))  # [B, finger, base / middle / far / tip, 3]
    y = normalize(chains[:, 2, 0] - joints[:, 0], dim=-1)
    x = chains[:, 1, 0] - chains[:, 4, 0]
    x = normalize(x - y * (x * y).sum(-1, keepdim=True), dim=-1)
    R_cam_wrist = torch.stack([x, y, torch.linalg.cross(x, y)], -1)
    rotations = [roma.rotmat_to_unitquat(R_cam_wrist)]
    low, high = torch.as_tensor(limits_rad(), dtype=joints.dtype).unbind(-1)
    neutral = neutral_rotations().to(joints)
    bones = normalize(chains[:, :, 1:] - chains[:, :, :-1], dim=-1)  # [B, finger, base / middle / far, 3]
    for finger in range(5):
        R = R_cam_wrist @ neutral[1 + 3 * finger]
        for part in range(3):
            joint = 1 + 3 * finger + part
            d = torch.einsum("brc,br->bc", R, bones[:, finger, part])
            # R_x(a) R_z(b) y = (-sin b, cos a cos b, sin a cos b)
            angles = torch.stack([torch.atan2(d[:, 2], d[:, 1]), torch.asin((-d[:, 0]).clamp(-1, 1)), 0 * d[:, 0]], -1)
            if part == 0:
                R_bone = R @ rotation_matrix(from_euler(angles))
                following = torch.einsum("brc,br->bc", R_bone, bones[:, finger, 1])
                bent = following[:, 2] > SEEN_TWIST
                angles[:, 2] = torch.where(bent, torch.atan2(following[:, 0], following[:, 2]), angles[:, 2])
            q = from_euler(angles.clamp(low[joint], high[joint]))
            rotations.append(q)
            R = R @ rotation_matrix(q)
    return torch.stack(rotations, 1)


def read_tracked_poses(pose_file: Path, skeleton_file: Path) -> Float[Tensor, "K 16 4"]:
    """Real poses tracked by hand_tracking_samples (Melax et al. 2013), in their order in time.

    Args:
        pose_file: a line a pose, 17 bones x (position of its centre of mass in m, quaternion xyzw), gzip or plain text.
        skeleton_file: model_hand.json, which says where each bone hangs on its parent.

    Raises:
        ValueError: files of another skeleton, or broken ones.
    """
    try:
        poses = read_table(Path(pose_file))
        skeleton = json.loads(Path(skeleton_file).read_text())
        bones = [(j["rbi0"], j["rbi1"], np.array(j["p0"], float)) for j in skeleton["joints"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{pose_file} and {skeleton_file} are no tracked poses ({error!r}); fetch them again"
        ) from error
    if poses.shape[1] != 17 * 7 or [child for _, child, _ in bones] != list(range(1, 17)):
        raise ValueError(
            f"{pose_file} holds {poses.shape[1]} numbers a pose for {len(bones) + 1} bones in {skeleton_file}, wanted 17 "
            "bones x 7: the poses belong to another skeleton"
        )
    position, quaternion = torch.tensor(poses).view(-1, 17, 7).split([3, 4], -1)
    R = roma.unitquat_to_rotmat(normalize(quaternion, dim=-1))
    centres = _centres_of_mass(position, R, bones, pose_file)
    origin = position - torch.einsum("kjrc,jc->kjr", R, centres)
    # bone 1 is the palm, whose origin is the wrist, then the five fingers x 3; a tip ends the far bone, along its z
    reach = [max(z for _, _, z in skeleton["controlcages"][bone]["verts"]) for bone in range(4, 17, 3)]
    tips = origin[:, 4::3] + R[:, 4::3, :, 2] * torch.tensor(reach, dtype=torch.float64)[:, None]
    chains = torch.cat([origin[:, 2:].unflatten(1, (5, 3)), tips[:, :, None]], 2)
    return pose_from_joints(torch.cat([origin[:, 1:2], chains.flatten(1, 2)], 1)).float()


def _centres_of_mass(position: Tensor, R: Tensor, bones: list[tuple], pose_file: Path) -> Tensor:
    """[17, 3] m: each bone's centre of mass in the bone's own frame.

    The file gives only where the centres of mass are in space. But a joint is at p0 in the frame of its parent and at the
    origin of its child: the least squares solution makes both places one.
    """
    rows, right = [], []
    some = torch.linspace(0, len(position) - 1, min(len(position), 200)).long().unique()
    for parent, child, p0 in bones:
        block = torch.zeros(len(some), 3, 17, 3, dtype=torch.float64)
        block[:, :, parent] = R[some, parent]
        block[:, :, child] = -R[some, child]
        rows.append(block.flatten(2).flatten(0, 1))
        joint = position[some, parent] + R[some, parent] @ torch.tensor(p0)
        right.append((joint - position[some, child]).flatten())
    rows, right = torch.cat(rows), torch.cat(right)
    centres = torch.linalg.lstsq(rows, right[:, None], driver="gelsd").solution
    gap = (rows @ centres - right[:, None]).view(-1, 3).norm(dim=1).mean()
    if gap > MAX_GAP_M:
        raise ValueError(
            f"{pose_file}: the bones' joints are {1000 * gap:.1f} mm apart on average: the poses belong to another skeleton"
        )
    return centres.view(17, 3)


# -- sequences --------------------------------------------------------------------------------------------------------


def smooth_angles(
    count: int, hand: HandRig, generator: Generator, frames_between: tuple[int, int] = (12, 40)
) -> Float[Tensor, "B 16 3"]:
    """Finger angles (rad) of the frames of a moving hand: from one random feasible pose to the next.

    Between two poses the angles follow the minimum-jerk profile of human reaching (Flash and Hogan 1985), which stays
    inside the limits. Of several next poses, the one whose way there collides least is taken.

    frames_between: least and greatest number of frames from one pose to the next.
    """
    key = euler_angles(sample_poses(1, hand, generator))
    parts, have = [], 0
    while have < count:
        goals = euler_angles(sample_poses(24, hand, generator))
        ways = key + (goals - key) * torch.tensor([0.25, 0.5, 0.75])[:, None, None, None]
        T = forward_kinematics(hand, from_euler(ways.flatten(0, 1)), torch.zeros(ways.shape[0] * ways.shape[1], 3))
        worst = collision_loss(joint_positions(hand, T)).unflatten(0, ways.shape[:2]).amax(0)
        goal = goals[worst.argmin()][None]
        low, high = frames_between
        length = int(torch.randint(low, high + 1, (1,), generator=generator))
        parts.append(key + (goal - key) * _minimum_jerk(length)[:, None, None])
        key, have = goal, have + length
    return torch.cat(parts)[:count]


def smooth_walk(
    count: int, draw: Callable[[int], Tensor], frames_between: tuple[int, int], generator: Generator
) -> Float[Tensor, "B D"]:
    """`count` points: from one of the k random points that `draw(k)` gives to the next, along the minimum-jerk profile."""
    low, high = frames_between
    lengths = torch.randint(low, high + 1, (count // low + 2,), generator=generator).tolist()
    keys = draw(len(lengths) + 1)
    parts = [a + (b - a) * _minimum_jerk(n)[:, None] for a, b, n in zip(keys[:-1], keys[1:], lengths, strict=True)]
    return torch.cat(parts)[:count]


def _minimum_jerk(length: int) -> Tensor:
    """[length]: from 0 towards 1 with the acceleration zero at both ends."""
    t = torch.arange(length) / length
    return t**3 * (10 - 15 * t + 6 * t**2)
