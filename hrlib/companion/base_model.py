"""What notebook 02 measures of the base model and of the frames that it learns from: noise, training, errors, users."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..evaluation.joint_errors import joint_error_mm
from ..frames.frame import Frame
from ..hand.joints import JOINT_POINTS, POINT_NAMES
from ..hand.kinematics import forward_kinematics, joint_positions
from ..hand.rig import HandRig
from ..hand.rotations import euler_angles
from ..method import predicted_joints
from ..network.posenet import PoseNet
from ..network.predict import predict
from ..support import paths
from ..synthetic.frames import SyntheticBatch
from ..synthetic.people import USERS, Recorded
from ..synthetic.sensor import local_noise, noise_on_planes
from ..synthetic.sensor.model import KINECT_V1
from .results import content_hash, read_results

DISTANCES_MM, ANGLES_DEG = np.arange(500, 1501, 125.0), np.arange(0, 76, 7.5)
STEP_MM = 2.85e-6  # of a Kinect's depth values, times the squared distance in mm
FACING_RAD = np.radians(20)  # a surface that is turned away less faces the camera


def plane_noise(images: int, seed: int) -> dict[str, Any]:
    """Standard deviations (mm) of a simulated Kinect's depth on planes, and the published ones; the steps' rounding is in both.

    Args:
        images: of each plane.
    """
    return {
        "distance_mm": DISTANCES_MM,
        "by_distance_mm": [noise_on_planes(KINECT_V1, z, 0.0, images, 525.0, seed) for z in DISTANCES_MM],
        "published_by_distance_mm": _with_steps(KINECT_V1.axial_sigma_mm(DISTANCES_MM, 0.0), DISTANCES_MM),
        "angle_deg": ANGLES_DEG,
        "by_angle_mm": [
            noise_on_planes(KINECT_V1, 700.0, np.radians(angle), images, 525.0, seed) for angle in ANGLES_DEG
        ],
        "published_by_angle_mm": _with_steps(KINECT_V1.axial_sigma_mm(700.0, np.radians(ANGLES_DEG)), 700.0),
    }


def _with_steps(sigma_mm: np.ndarray, z_mm: float | np.ndarray) -> np.ndarray:
    return np.sqrt(sigma_mm**2 + (STEP_MM * np.asarray(z_mm) ** 2) ** 2 / 12)


def largest_deviation(planes: Mapping[str, Any]) -> float:
    """Of the simulated noise from the published one, as a share."""
    keys = ("by_distance_mm", "by_angle_mm")
    return max(np.abs(np.divide(planes[key], planes["published_" + key]) - 1).max() for key in keys)


def roughness(frames: Iterable[Frame]) -> tuple[list[float], list[float]]:
    """Distances (mm), and there the median residual (mm) of small planes on hands that face the camera, in bins of 100 mm."""
    measured = [local_noise(frame.depth_mm, frame.camera.fx) for frame in frames]
    z, angle, sigma = (np.concatenate(values) for values in zip(*measured, strict=True))
    facing = (angle < FACING_RAD) & (z < 1000)
    bins = [(facing & (z >= low) & (z < low + 100), low + 50) for low in range(300, 1000, 100)]
    return [m for b, m in bins if b.sum() > 100], [float(np.median(sigma[b])) for b, _ in bins if b.sum() > 100]


def training_curve(record: Path) -> dict[str, list[float]]:
    """The joint error (mm) over the images seen, of a training and of those that it went on from."""
    runs = [json.loads(record.read_text())]
    while "start" in runs[0]:
        runs.insert(0, runs[0]["start"])
    seen, before = {"images": [], "joint_error_mm": []}, 0
    for run in runs:
        batch = run["pretrain"]["batch"]
        seen["images"] += [before + point["step"] * batch for point in run["curve"]]
        seen["joint_error_mm"] += [point["joint_error_mm"] for point in run["curve"]]
        before += run["steps_done"] * batch
    return seen


@dataclass(frozen=True)
class Errors:
    """The base model's errors on clean frames: the numbers of the figure, and those of each frame."""

    numbers: dict[str, Any]
    frame_mm: Float[Tensor, " B"]  # mean of 16 joints
    angle_deg: Float[Tensor, "15 3"]  # mean absolute error


def errors_on(net: PoseNet, hand: HandRig, test: SyntheticBatch) -> Errors:
    """How far the network is off, and how far the rest pose would be in the true view and place."""
    prediction = predict(net, test.crops)
    distance_mm = (predicted_joints(prediction, hand, test.crops) - test.joints_mm).norm(dim=-1)
    frame_mm = distance_mm[:, list(JOINT_POINTS)].mean(1)
    angle_deg = (euler_angles(prediction.rotations) - euler_angles(test.rotations)).rad2deg().abs().mean(0)[1:]
    neutral = hand.rest_rotations.expand(len(test.rotations), 16, 4).clone()
    neutral[:, 0] = test.rotations[:, 0]
    guess = joint_positions(hand, forward_kinematics(hand, neutral, test.wrist_mm))
    numbers = {
        "mean16_mm": float(frame_mm.mean()),
        "median16_mm": float(frame_mm.median()),
        "rest_pose_in_true_view_mm": float(joint_error_mm(guess, test.joints_mm, JOINT_POINTS).mean()),
        "points_mm": dict(zip(POINT_NAMES, distance_mm.mean(0).tolist(), strict=True)),
        "angles_deg": angle_deg,
    }
    return Errors(numbers, frame_mm, angle_deg)


def blind_guess_mm(hand: HandRig, test: SyntheticBatch) -> float:
    """The error (mm) of always saying the neutral hand, its fingers up and its palm to the camera."""
    palm = torch.zeros_like(test.rotations)
    palm[..., 3] = 1
    palm[:, 0] = torch.tensor([1.0, 0, 0, 0])
    wrist_mm = test.crops.centre_mm + torch.tensor([0.0, 90, 0])
    return float(joint_error_mm(joint_positions(hand, forward_kinematics(hand, palm, wrist_mm)), test.joints_mm).mean())


def user_errors(net: PoseNet, hand: HandRig, users: Mapping[str, Recorded]) -> dict[str, dict[str, Any]]:
    """For each simulated user the base model's error, that of wrong bones alone, and a supervised oracle's; mm.

    Errors are means over 16 joints. The oracle's comes from benchmarks/results/users.json, as does the base model's, from more
    frames than here, if that file is of the same base model; else it is None.
    """
    found = [result for result in read_results(paths.BENCHMARKS) if result["name"] == "users"]
    same = found and found[0]["provenance"]["data_sha256"]["base model"] == content_hash(paths.ONE_HAND_MODEL)
    errors = {}
    for name, frames in users.items():
        poses = {"bones": frames.true_prediction(hand), "here": predict(net, frames.crops)}
        points = {key: predicted_joints(pose, hand, frames.crops) for key, pose in poses.items()}
        error = {key: float(joint_error_mm(p, frames.joints_mm, JOINT_POINTS).mean()) for key, p in points.items()}
        measured = found[0]["metrics"]["users"][name] if same else None
        errors[name] = {
            "description": USERS[name].description,
            "base_mm": measured["base"]["once"]["mean16"] if measured else error["here"],
            "base_here_mm": error["here"],
            "bones_mm": error["bones"],
            "oracle_mm": measured["oracle"]["once"]["mean16"] if measured else None,
            "frames": len(frames),
            "left_out": frames.left_out,
        }
    return errors


def spread_out(images: Sequence, count: int) -> Sequence:
    """`count` of them, evenly over all."""
    return images[:: max(1, len(images) // count)][:count]
