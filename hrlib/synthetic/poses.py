"""Where poses come from (Sec. 4.1): random feasible ones, real tracked ones from a file, and smooth sequences of either.

A pose is [16, 4] unit quaternions; the wrist's is the view, the others depend on no rig (see `hrlib.hand.joints`). Random poses
are drawn on their generator's device, where the hand must be as well.
"""

import gzip
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import roma
import torch
from torch import Generator, Tensor

from ..hand.joints import limits_rad
from ..hand.kinematics import forward_kinematics, joint_positions
from ..hand.named_poses import view_rotation
from ..hand.rig import HandRig, neutral_rotations
from ..hand.rotations import euler_angles, from_euler, rotation_matrix
from ..losses import collision_loss

MAX_COLLISION_MM = 0.1  # of Eq. 7; above it a pose is drawn again


def sample_poses(count: int, hand: HandRig, generator: Generator, max_collision_mm: float = MAX_COLLISION_MM) -> Tensor:
    """Feasible finger poses without collisions, [count, 16, 4] unit quaternions; the wrist's is the identity.

    Euler angles are drawn inside the limits of Eq. 8, poses whose Eq. 7 exceeds `max_collision_mm` are drawn again.
    Raises ValueError where the limits admit next to nothing.
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


def sample_angles(count: int, limits_rad: Tensor, generator: Generator) -> Tensor:
    """Flexion, deviation, twist inside the limits, [count, 16, 3] rad; the wrist's are zero.

    The fingers' flexions are mixed from what hands do: straight, rolled up, anything; a third of the hands have all
    fingers alike; a far joint follows its middle joint by 2/3 (Lin, Wu, Huang 2000) loosely; bent fingers spread less.
    """
    low, high = limits_rad[1:].unbind(-1)
    if not (low <= high).all():
        raise ValueError("limits_rad must have lower <= upper bounds; some joint's range is empty")

    device = generator.device

    def uniform(*shape):
        return torch.rand(*shape, generator=generator, device=device)

    share = uniform(count, 15, 3)  # position inside the range
    fingers = share.view(count, 5, 3, 3)[:, 1:]  # a view: index to pinky, base / middle / far
    alike = (uniform(count, 1, 1) < 0.33) & (uniform(count, 4, 1) < 0.85)
    curl = torch.where(alike, uniform(count, 1, 1), uniform(count, 4, 1))
    kind = torch.where(alike, uniform(count, 1, 1), uniform(count, 4, 1))
    wobble = 0.08 * torch.randn(count, 4, 3, generator=generator, device=device)
    straight, rolled = (kind < 0.3)[..., 0], ((kind >= 0.3) & (kind < 0.5))[..., 0]
    base = torch.where(
        straight, 0.18 + 0.5 * curl[..., 0] ** 3, torch.where(rolled, 0.75 + 0.2 * curl[..., 0], fingers[..., 0, 0])
    )
    middle = torch.where(straight, 0.06, torch.where(rolled, 0.82 + 0.1 * curl[..., 0], fingers[..., 1, 0]))
    fingers[..., 0, 0] = base + wobble[..., 0]
    fingers[..., 1, 0] = middle + wobble[..., 1]
    fingers[..., 2, 0] = fingers[..., 1, 0] * 0.67 + 1.5 * wobble[..., 2]
    spread = 1 - 0.8 * fingers[..., 0, 0].clamp(0, 1)
    fingers[..., 0, 1] = 0.5 + (fingers[..., 0, 1] - 0.5) * spread
    angles = low + share.clamp(0, 1) * (high - low)
    return torch.cat([torch.zeros(count, 1, 3, device=device), angles], 1)


def sample_views(count: int, pitch_deg: float, roll_deg: float, generator: Generator) -> Tensor:
    """Rotations of the wrist in the camera frame, [count, 4]: a raised hand turned to any side."""
    device = generator.device
    yaw = (torch.rand(count, generator=generator, device=device) * 2 - 1) * math.pi
    pitch = (torch.randn(count, generator=generator, device=device) * math.radians(pitch_deg)).clamp(-1.4, 1.4)
    roll = torch.randn(count, generator=generator, device=device) * math.radians(roll_deg)
    return view_rotation(yaw, pitch, roll)


# -- poses of another skeleton --------------------------------------------------------------------------------------------


def pose_from_joints(joints: Tensor) -> Tensor:
    """The pose of a right hand whose 21 points are known, [B, 21, 3] in any unit -> [B, 16, 4], in closed form.

    Only directions count, so that any person's or skeleton's joints will do. Each bone's direction gives flexion and
    deviation; the twist of a bent finger's base is the one that makes its next joint a hinge. What leaves the limits of
    Eq. 8 is put back on them. Raises ValueError for a wrong shape.
    """
    if joints.ndim != 3 or joints.shape[1:] != (21, 3):
        raise ValueError(f"joints must be [B, 21, 3] (wrist, then five fingers x 4), got {list(joints.shape)}")
    chains = joints[:, 1:].unflatten(1, (5, 4))  # [B, finger, base / middle / far / tip, 3]
    y = _unit(chains[:, 2, 0] - joints[:, 0])
    x = chains[:, 1, 0] - chains[:, 4, 0]
    x = _unit(x - y * (x * y).sum(-1, keepdim=True))
    R_cam_wrist = torch.stack([x, y, torch.linalg.cross(x, y)], -1)
    rotations = [roma.rotmat_to_unitquat(R_cam_wrist)]
    low, high = torch.as_tensor(limits_rad(), dtype=joints.dtype).unbind(-1)
    neutral = neutral_rotations().to(joints)
    for finger in range(5):
        R = R_cam_wrist @ neutral[1 + 3 * finger]
        for part in range(3):
            joint = 1 + 3 * finger + part
            along = [_unit(chains[:, finger, k + 1] - chains[:, finger, k]) for k in range(part, 3)]
            d = torch.einsum("brc,br->bc", R, along[0])  # R_x(a) R_z(b) y = (-sin b, cos a cos b, sin a cos b)
            angles = torch.stack([torch.atan2(d[:, 2], d[:, 1]), torch.asin((-d[:, 0]).clamp(-1, 1)), 0 * d[:, 0]], -1)
            if part == 0:
                R_bone = R @ rotation_matrix(from_euler(angles))
                following = torch.einsum("brc,br->bc", R_bone, along[1])
                bent = following[:, 2] > 0.25  # 15 degrees; of a straight finger no twist can be seen
                angles[:, 2] = torch.where(bent, torch.atan2(following[:, 0], following[:, 2]), angles[:, 2])
            q = from_euler(angles.clamp(low[joint], high[joint]))
            rotations.append(q)
            R = R @ rotation_matrix(q)
    return torch.stack(rotations, 1)


def _unit(v: Tensor) -> Tensor:
    return v / v.norm(dim=-1, keepdim=True).clamp_min(1e-9)


def read_tracked_poses(pose_file: Path, skeleton_file: Path) -> Tensor:
    """Real poses tracked by hand_tracking_samples (Melax et al. 2013) as [K, 16, 4], in their order in time.

    pose_file: a line a pose, 17 bones x (position of its centre of mass in m, quaternion xyzw), gzip or plain text;
    skeleton_file: model_hand.json, where each bone hangs on its parent. Raises ValueError for files of another skeleton.
    """
    try:
        opened = gzip.open if Path(pose_file).suffix == ".gz" else open
        with opened(pose_file, "rt") as file:
            poses = np.loadtxt(file, ndmin=2)
        joints = json.loads(Path(skeleton_file).read_text())["joints"]
        bones = [(j["rbi0"], j["rbi1"], np.array(j["p0"], float)) for j in joints]
    except (ValueError, KeyError, TypeError, gzip.BadGzipFile) as error:
        raise ValueError(
            f"{pose_file} and {skeleton_file} are no tracked poses ({error!r}); fetch them again"
        ) from error
    if poses.shape[1] != 17 * 7 or [child for _, child, _ in bones] != list(range(1, 17)):
        raise ValueError(
            f"{pose_file} holds {poses.shape[1]} numbers a pose for {len(bones) + 1} bones in {skeleton_file}, wanted 17 "
            "bones x 7: the poses belong to another skeleton"
        )
    centre = torch.tensor(poses).view(-1, 17, 7)
    R = roma.unitquat_to_rotmat(_unit(centre[..., 3:]))
    origin = centre[..., :3] - torch.einsum("kjrc,jc->kjr", R, _centres_of_mass(centre[..., :3], R, bones, pose_file))
    # palm (its origin is the wrist), then the five fingers; a tip lies as far beyond the far joint as its bone is long
    tip = torch.tensor([_tip_z(skeleton_file, 4 + 3 * finger) for finger in range(5)], dtype=torch.float64)
    tips = origin[:, 4::3] + R[:, 4::3, :, 2] * tip[:, None]
    chains = torch.cat([origin[:, 2:].unflatten(1, (5, 3)), tips[:, :, None]], 2)
    return pose_from_joints(torch.cat([origin[:, 1:2], chains.flatten(1, 2)], 1)).float()


def _centres_of_mass(position: Tensor, R: Tensor, bones, pose_file) -> Tensor:
    """[17, 3] m: where each bone's centre of mass is in its own frame, the least squares solution of its joints' closing.

    The file gives the places of the centres of mass only; a joint is at p0 of its parent and at the origin of its child.
    """
    rows, right = [], []
    some = torch.linspace(0, len(position) - 1, min(len(position), 200)).long().unique()
    for parent, child, p0 in bones:
        block = torch.zeros(len(some), 3, 17, 3, dtype=torch.float64)
        block[:, :, parent] = R[some, parent]
        block[:, :, child] = -R[some, child]
        rows.append(block.flatten(2).flatten(0, 1))
        there = position[some, parent] + R[some, parent] @ torch.tensor(p0)
        right.append((there - position[some, child]).flatten())
    rows, right = torch.cat(rows), torch.cat(right)
    centres = torch.linalg.lstsq(rows, right[:, None], driver="gelsd").solution
    gap = (rows @ centres - right[:, None]).view(-1, 3).norm(dim=1).mean()
    if gap > 0.002:
        raise ValueError(
            f"{pose_file}: the bones' joints are {1000 * gap:.1f} mm apart on average: the poses belong to another skeleton"
        )
    return centres.view(17, 3)


def _tip_z(skeleton_file, bone: int) -> float:
    cage = json.loads(Path(skeleton_file).read_text())["controlcages"][bone]["verts"]
    return max(vertex[2] for vertex in cage)


# -- sequences ------------------------------------------------------------------------------------------------------------


def smooth_angles(
    count: int, hand: HandRig, generator: Generator, frames_between: tuple[int, int] = (12, 40)
) -> Tensor:
    """Finger angles of `count` frames of a moving hand, [count, 16, 3] rad: from one random feasible pose to the next.

    Between two poses the angles follow the minimum-jerk profile of human reaching (Flash and Hogan 1985), which stays
    inside the limits; a next pose is chosen whose way there is free of collisions, too.
    """
    key = _free_angles(1, hand, generator)
    parts, made = [], 0
    while made < count:
        goals = _free_angles(24, hand, generator)
        ways = key + (goals - key) * torch.tensor([0.25, 0.5, 0.75])[:, None, None, None]
        T = forward_kinematics(hand, from_euler(ways.flatten(0, 1)), torch.zeros(ways.shape[0] * ways.shape[1], 3))
        worst = collision_loss(joint_positions(hand, T)).unflatten(0, ways.shape[:2]).amax(0)
        goal = goals[worst.argmin()][None]
        low, high = frames_between
        length = int(torch.randint(low, high + 1, (1,), generator=generator))
        parts.append(key + (goal - key) * _minimum_jerk(length)[:, None, None])
        key, made = goal, made + length
    return torch.cat(parts)[:count]


def _free_angles(count: int, hand: HandRig, generator: Generator) -> Tensor:
    return euler_angles(sample_poses(count, hand, generator))


def _minimum_jerk(length: int) -> Tensor:
    """[length]: from 0 towards 1 with the acceleration zero at both ends."""
    t = torch.arange(length) / length
    return t**3 * (10 - 15 * t + 6 * t**2)


def smooth_walk(
    count: int, draw: Callable[[int], Tensor], frames_between: tuple[int, int], generator: Generator
) -> Tensor:
    """[count, D]: from one of `draw(k)` [k, D] to the next along the minimum-jerk profile."""
    low, high = frames_between
    lengths = torch.randint(low, high + 1, (count // low + 2,), generator=generator).tolist()
    keys = draw(len(lengths) + 1)
    parts = [a + (b - a) * _minimum_jerk(n)[:, None] for a, b, n in zip(keys[:-1], keys[1:], lengths, strict=True)]
    return torch.cat(parts)[:count]
