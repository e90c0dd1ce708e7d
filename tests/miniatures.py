"""Miniatures of NYU, ICVL, MSRA15 and a set of real joints, in their authors' formats: frames of the template hand."""

import numpy as np
import scipy.io
import torch
from core_fixtures import template
from PIL import Image

from hrlib.datasets.msra import MSRA_CAMERA
from hrlib.datasets.published import ICVL_CAMERA, NYU_CAMERA
from hrlib.frames.camera import Camera
from hrlib.hand.joints import to_dataset_joints
from hrlib.hand.kinematics import forward_kinematics, joint_positions
from hrlib.hand.rotations import from_euler
from hrlib.hand.skinning import skin, skinning_transforms
from hrlib.synthetic.rasterise import rasterise

WALL_MM = 1500.0  # behind the hand, so that something has to be cut off


def draw(camera, size, frames, distance_mm, mirrored=False, wall=True):
    """Depth [F, H, W] mm and points [F, 21, 3] of a right hand, fingers up, that curls and wanders; or in a mirror."""
    hand, angles = template(), torch.zeros(frames, 16, 3)
    curl = torch.linspace(0.2, 0.9, frames)
    angles[:, 4:, 0] = curl[:, None]  # flexion of all but wrist and thumb
    rotations = from_euler(angles)
    rotations[:, 0] = torch.tensor([1.0, 0, 0, 0])  # y up, palm to the camera
    wrist = torch.stack(
        [8 * torch.arange(frames) - 20, torch.full((frames,), 60), distance_mm + 3 * torch.arange(frames)], 1
    )
    T = forward_kinematics(hand, rotations, wrist.float())
    vertices = skin(hand.vertices_mm, hand.weights, skinning_transforms(hand, T)).numpy()
    points = joint_positions(hand, T).numpy()
    intrinsics = np.tile(np.float32([camera.fx, camera.fy, camera.cx, camera.cy]), (frames, 1))
    faces = hand.faces.numpy()
    if mirrored:
        vertices, points = vertices * (-1, 1, 1), points * (-1, 1, 1)
    depth = rasterise(vertices, faces, intrinsics, size)
    return np.where((depth == 0) & wall, WALL_MM, depth), points


def _uvd(joints_mm, camera):
    return np.concatenate([camera.project(joints_mm), joints_mm[..., 2:]], -1)


def _text(values):
    return " ".join(f"{value:.3f}" for value in np.ravel(values))


def nyu(folder, train=6, test=4):
    """train/ and test/ with joint_data.mat and RGB-packed PNGs of view 1; the labels' other views are there, too."""
    for split, frames in (("train", train), ("test", test)):
        depth, points = draw(NYU_CAMERA, (480, 640), frames, 700)
        (folder / split).mkdir(parents=True)
        for i, image in enumerate(np.rint(depth).astype(np.uint16), 1):
            rgb = np.stack([image // 256 * 0 + 7, image // 256, image % 256], -1).astype(np.uint8)
            Image.fromarray(rgb).save(folder / split / f"depth_1_{i:07d}.png")
        uvd = _uvd(to_dataset_joints(points, "nyu", 36), NYU_CAMERA)
        xyz = NYU_CAMERA.unproject(uvd[..., 0], uvd[..., 1], uvd[..., 2]) * (1, -1, 1)  # y up in the file
        data = {"joint_uvd": np.stack([uvd, uvd + 1, uvd + 2]), "joint_xyz": np.stack([xyz] * 3)}
        scipy.io.savemat(folder / split / "joint_data.mat", data)
    return folder


def icvl(folder, train=6, test=2):
    """Training/ and Testing/ with 16-bit PNGs and lists of labels; `test` frames for each of two sequences."""
    for part, name, sequence, frames in (
        ("Training", "labels.txt", "201403121135", train),
        ("Testing", "test_seq_1.txt", "test_seq_1", test),
        ("Testing", "test_seq_2.txt", "test_seq_2", test),
    ):
        depth, points = draw(ICVL_CAMERA, (240, 320), frames, 380, mirrored=True)
        uvd = _uvd(to_dataset_joints(points, "icvl", 16), ICVL_CAMERA)
        (folder / part / "Depth" / sequence).mkdir(parents=True)
        lines = []
        for i, image in enumerate(np.rint(depth).astype(np.uint16)):
            path = f"{sequence}/image_{i:04d}.png"
            Image.fromarray(image).save(folder / part / "Depth" / path)
            lines.append(f"{path} {_text(uvd[i])}\n")
        (folder / part / name).write_text("".join(lines) + "\n")
    return folder


def msra(folder, frames=3, subject="P3", gesture="TIP"):
    """One gesture of one subject: blocks of depth in .bin, and joint.txt with y up and z negative."""
    depth, points = draw(MSRA_CAMERA, (240, 320), frames, 400, wall=False)
    place = folder / subject / gesture
    place.mkdir(parents=True)
    for i, image in enumerate(depth):
        v, u = np.nonzero(image)
        left, top, right, bottom = u.min(), v.min(), u.max() + 1, v.max() + 1
        head = np.array([320, 240, left, top, right, bottom], "<i4").tobytes()
        (place / f"{i:06d}_depth.bin").write_bytes(head + image[top:bottom, left:right].astype("<f4").tobytes())
    joints = to_dataset_joints(points, "msra", 21) * (1, -1, -1)
    lines = [str(frames), *(_text(joint) for joint in joints)]
    (place / "joint.txt").write_text("\n".join(lines) + "\n")
    return folder


TABLE_CAMERA = Camera(500.0, 500.0, 320.0, 240.0)


def d435_table(folder, frames=4):
    """The set of this name: a table close behind the hand, and the last frame's hand at an object. Its labels as well."""
    depth, points = draw(TABLE_CAMERA, (480, 640), frames, 600, wall=False)
    depth = np.where(depth == 0, 690.0, depth)
    (folder / "frames").mkdir(parents=True)
    for i, image in enumerate(np.rint(depth).astype(np.uint16)):
        Image.fromarray(image).save(folder / "frames" / f"{i:06d}.png")
    camera = [TABLE_CAMERA.fx, TABLE_CAMERA.fy, TABLE_CAMERA.cx, TABLE_CAMERA.cy]
    labels = {"names": [f"{i:06d}" for i in range(frames)], "joints_mm": points.astype(np.float32), "camera": camera}
    labels["free_hand"] = np.arange(frames) < frames - 1
    np.savez(folder / "joints.npz", **labels)
    return labels
